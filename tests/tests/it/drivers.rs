//! Frameworks on v0 drivers, in processes of their own: pymesos 0.1.7 as it is, which speaks libprocess in pure Python, and a
//! driver that says what libmesos 1.x was recorded saying.
//!
//! The first needs Python 2.7; where there is none its tests say so and pass.

mod executor;
pub(crate) mod libmesos;
mod newer;

use std::time::Duration;

use serde_json::{Value, json};
use tepui_tests::cluster::Cluster;
use tepui_tests::programs::{Runtime, python2, run, start};
use tepui_tests::wait::eventually;

const SCHEDULER: &str = "pymesos_v0_scheduler.py";

/// The driver asks to be registered every two seconds, and a thread of its takes up to one to end.
const PATIENCE: Duration = Duration::from_secs(60);

fn texts(value: &Value) -> Vec<&str> {
    value
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect()
}

/// A framework's entry on the leader, and whether it is a completed one.
fn framework(cluster: &Cluster, id: &Value) -> Option<(Value, bool)> {
    let state = cluster.json("/state");
    let find = |list: &str| {
        let list = state[list].as_array().cloned().unwrap_or_default();
        list.into_iter().find(|framework| framework["id"] == *id)
    };
    let running = find("frameworks").map(|framework| (framework, false));
    running.or_else(|| find("completed_frameworks").map(|framework| (framework, true)))
}

fn assert_completed(cluster: &Cluster, summary: &Value, states: &[(&str, usize)]) {
    let completed = || {
        let found = framework(cluster, &summary["framework_id"]);
        let Some((framework, true)) = found else {
            return false;
        };
        let tasks = framework["completed_tasks"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let count = |state: &str| tasks.iter().filter(|task| task["state"] == state).count();
        states.iter().all(|(state, number)| count(state) == *number)
    };
    assert!(
        eventually(Duration::from_secs(20), completed),
        "{:?}",
        framework(cluster, &summary["framework_id"])
    );
}

/// Leader and follower as two processes, and as one.
fn both(test: impl Fn(Cluster)) {
    if python2().is_none() {
        return;
    }
    test(Cluster::builder().apart().start());
    test(Cluster::mixed());
}

#[test]
fn pymesos_v0_runs_tasks_on_its_own_executor() {
    both(|cluster| {
        let summary = run(
            Runtime::Python2,
            SCHEDULER,
            cluster.leader,
            &["executor", "5"],
            PATIENCE,
        );
        assert_own_executor(&cluster, &summary);
    });
}

fn assert_own_executor(cluster: &Cluster, summary: &Value) {
    for number in 0..5 {
        let end = if number == 4 {
            "TASK_KILLED"
        } else {
            "TASK_FINISHED"
        };
        let states = &summary["states"][format!("python-{number}")];
        assert_eq!(texts(states), ["TASK_RUNNING", end], "{summary}");
        for message in [
            format!("echo payload-{number} \0\u{ff}"),
            format!("reply hello python-{number} \0\u{ff}"),
        ] {
            let said = texts(&summary["messages"]);
            assert!(said.contains(&message.as_str()), "{message:?}: {summary}");
        }
    }
    assert_eq!(summary["registered"], 1, "{summary}");
    assert_eq!(summary["errors"], json!([]), "{summary}");
    assert_eq!(summary["mistakes"], json!([]), "{summary}");
    let follower = format!("slave(1)@{}", cluster.follower);
    assert_eq!(summary["pids"], json!([follower]), "{summary}");
    let leader = format!("master@{}", cluster.leader);
    assert_eq!(summary["master"]["pid"], json!(leader), "{summary}");
    let seen = texts(&summary["messages"]);
    let seen = seen
        .iter()
        .find_map(|message| message.strip_prefix("environment "));
    let seen: Value =
        serde_json::from_str(seen.expect("the executor told its environment")).expect("it is JSON");
    for (name, value) in [
        ("MESOS_SLAVE_PID", json!(follower)),
        ("MESOS_FRAMEWORK_ID", summary["framework_id"].clone()),
        ("MESOS_EXECUTOR_ID", json!("python")),
        ("MESOS_DIRECTORY", seen["cwd"].clone()),
        ("MESOS_SLAVE_ID", seen["slave_id"].clone()),
        ("MESOS_CHECKPOINT", json!("0")),
        ("LIBPROCESS_PORT", json!("0")),
        ("framework", json!("pymesos v0 executor")),
        ("executor", json!("python")),
    ] {
        assert_eq!(seen[name], value, "{name}: {seen}");
    }
    assert_completed(
        cluster,
        summary,
        &[("TASK_FINISHED", 4), ("TASK_KILLED", 1)],
    );
}

#[test]
fn pymesos_v0_runs_command_tasks() {
    both(|cluster| {
        let summary = run(
            Runtime::Python2,
            SCHEDULER,
            cluster.leader,
            &["commands", "10"],
            PATIENCE,
        );
        for number in 0..10 {
            let states = &summary["states"][format!("command-{number}")];
            let expected = ["TASK_STARTING", "TASK_RUNNING", "TASK_FINISHED"];
            assert_eq!(texts(states), expected, "{summary}");
        }
        assert_eq!(summary["errors"], json!([]), "{summary}");
        assert_eq!(summary["mistakes"], json!([]), "{summary}");
        assert_completed(&cluster, &summary, &[("TASK_FINISHED", 10)]);
    });
}

/// What the second scheduler saw of the one task that the first had left running.
fn assert_took_over(cluster: &Cluster, summary: &Value, id: &Value) {
    assert_eq!(summary["framework_id"], *id, "{summary}");
    assert_eq!(
        texts(&summary["states"]["held"]),
        ["TASK_RUNNING", "TASK_KILLED"],
        "{summary}"
    );
    // One that was killed before it could acknowledge leaves its last update to be heard again first.
    let reasons = texts(&summary["reasons"]);
    assert!(reasons.contains(&"REASON_RECONCILIATION"), "{summary}");
    assert_eq!(summary["errors"], json!([]), "{summary}");
    assert_eq!(summary["mistakes"], json!([]), "{summary}");
    assert_completed(cluster, summary, &[("TASK_KILLED", 1)]);
}

#[test]
fn a_second_pymesos_v0_scheduler_takes_over_from_one_that_lives() {
    both(|cluster| {
        let mut first = start(Runtime::Python2, SCHEDULER, cluster.leader, &["hold"]);
        let running = first.wait_for(PATIENCE, |said| said["running"] == "held");
        let id = running["framework_id"].as_str().expect("an id");
        let second = run(
            Runtime::Python2,
            SCHEDULER,
            cluster.leader,
            &["take-over", id],
            PATIENCE,
        );
        assert_took_over(&cluster, &second, &running["framework_id"]);
        let first = first.finish(PATIENCE);
        assert_eq!(first["errors"], json!(["Framework failed over"]), "{first}");
    });
}

#[test]
fn a_second_pymesos_v0_scheduler_takes_over_from_one_that_was_killed() {
    if python2().is_none() {
        return;
    }
    let cluster = Cluster::builder().apart().start();
    let mut first = start(Runtime::Python2, SCHEDULER, cluster.leader, &["hold"]);
    let running = first.wait_for(PATIENCE, |said| said["running"] == "held");
    first.kill();
    let id = running["framework_id"].as_str().expect("an id");
    let disconnected = || {
        framework(&cluster, &running["framework_id"])
            .is_some_and(|(framework, _)| framework["connected"] == false)
    };
    assert!(eventually(Duration::from_secs(20), disconnected));
    let second = run(
        Runtime::Python2,
        SCHEDULER,
        cluster.leader,
        &["take-over", id],
        PATIENCE,
    );
    assert_took_over(&cluster, &second, &running["framework_id"]);
}
