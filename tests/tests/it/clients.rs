//! Unmodified frameworks from PyPI and npm run their tasks to the end on a mixed cluster.
//!
//! Each program is in `tests/clients`; what it prints is checked here, together with what the leader says of it afterwards.

use std::time::Duration;

use serde_json::{Value, json};
use tepui_tests::cluster::Cluster;
use tepui_tests::programs::{Runtime, run};
use tepui_tests::wait::eventually;

/// Clients that see events only when the next one comes wait for heartbeats, which are 15 s apart.
const PATIENCE: Duration = Duration::from_secs(170);

/// Every task's states must be these, in this order; a state may be missing where the client cannot have seen it.
fn assert_states(summary: &Value, allowed: &[&str]) {
    let states = summary["states"]
        .as_object()
        .expect("the summary has the states of each task");
    assert_eq!(
        states.len() as u64,
        summary["wanted"].as_u64().unwrap_or(0),
        "{summary}"
    );
    for (task, seen) in states {
        let seen: Vec<&str> = seen
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        assert_eq!(seen, allowed, "{task}: {summary}");
    }
}

/// After its TEARDOWN a framework is completed and its tasks are in its history.
fn assert_completed(cluster: &Cluster, summary: &Value, tasks: usize) {
    let id = summary["framework_id"]
        .as_str()
        .expect("the summary names the framework")
        .to_owned();
    let completed = || {
        let state = cluster.json("/state");
        let frameworks = state["completed_frameworks"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let found = frameworks
            .into_iter()
            .find(|framework| framework["id"] == json!(id));
        found.is_some_and(|framework| {
            let ended = framework["completed_tasks"]
                .as_array()
                .cloned()
                .unwrap_or_default();
            ended.len() == tasks && ended.iter().all(|task| task["state"] == "TASK_FINISHED")
        })
    };
    assert!(
        eventually(Duration::from_secs(20), completed),
        "{id} is completed: {}",
        cluster.json("/frameworks")
    );
}

#[test]
fn pymesos_runs_tasks_on_its_own_python_executor() {
    let cluster = Cluster::mixed();
    let summary = run(
        Runtime::Python,
        "pymesos_scheduler.py",
        cluster.leader,
        &["5"],
        PATIENCE,
    );
    assert_eq!(summary["finished"], 5, "{summary}");
    assert_states(&summary, &["TASK_RUNNING", "TASK_FINISHED"]);
    let messages: Vec<&str> = summary["messages"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    for number in 0..5 {
        let echo = format!("echo payload-{number}");
        assert!(
            messages.contains(&echo.as_str()),
            "the executor's message {echo:?} arrived: {summary}"
        );
    }
    assert!(
        summary["version"]
            .as_str()
            .is_some_and(|version| version.starts_with("1.11")),
        "{summary}"
    );
    assert_completed(&cluster, &summary, 5);
}

#[test]
fn pymesos_runs_command_tasks_and_acknowledges_explicitly() {
    let cluster = Cluster::mixed();
    let summary = run(
        Runtime::Python,
        "pymesos_commands.py",
        cluster.leader,
        &["10"],
        PATIENCE,
    );
    assert_eq!(summary["finished"], 10, "{summary}");
    assert_states(
        &summary,
        &["TASK_STARTING", "TASK_RUNNING", "TASK_FINISHED"],
    );
    assert_eq!(
        (&summary["healthy"], &summary["agents"]),
        (&json!(true), &json!(1)),
        "{summary}"
    );
    assert_completed(&cluster, &summary, 10);
}

#[test]
fn mesoshttp_runs_command_tasks() {
    http_client("mesoshttp");
}

#[test]
fn avmesos_runs_command_tasks() {
    http_client("avmesos");
}

fn http_client(module: &str) {
    let cluster = Cluster::mixed();
    let summary = run(
        Runtime::Python,
        "http_client.py",
        cluster.leader,
        &["3", module],
        PATIENCE,
    );
    assert_eq!(summary["finished"], 3, "{summary}");
    assert_states(
        &summary,
        &["TASK_STARTING", "TASK_RUNNING", "TASK_FINISHED"],
    );
    assert_completed(&cluster, &summary, 3);
}

#[test]
fn npm_mesos_framework_runs_command_tasks() {
    let cluster = Cluster::mixed();
    let summary = run(
        Runtime::Node,
        "npm_framework.js",
        cluster.leader,
        &["3"],
        PATIENCE,
    );
    assert_eq!(summary["finished"], 3, "{summary}");
    assert_states(
        &summary,
        &["TASK_STARTING", "TASK_RUNNING", "TASK_FINISHED"],
    );
    assert_eq!(summary["errors"], json!([]), "{summary}");
    assert_completed(&cluster, &summary, 3);
}
