//! Many short tasks: each ends once, and what is remembered of them stays within its limits.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value, json};
use tepui_tests::cluster::Cluster;
use tepui_tests::http::{Request, send};
use tepui_tests::scheduler::{Framework, command_task, launch};
use tepui_tests::wait::eventually;

const TASKS: usize = 300;
const COMPLETED_TASKS: usize = 50;
const COMPLETED_EXECUTORS: usize = 20;
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn each_of_many_short_tasks_ends_once_and_memories_of_them_are_bounded() {
    let cluster = Cluster::builder()
        .flag(
            "max_completed_tasks_per_framework",
            &COMPLETED_TASKS.to_string(),
        )
        .flag(
            "max_completed_executors_per_framework",
            &COMPLETED_EXECUTORS.to_string(),
        )
        .start();
    let mut framework = Framework::subscribe(cluster.leader, "many");

    let mut launched = 0;
    let mut ends: BTreeMap<String, usize> = BTreeMap::new();
    while ends.len() < TASKS {
        let offer = framework.offer();
        let batch: Vec<Value> = (launched..TASKS.min(launched + room(&offer)))
            .map(|number| command_task(&format!("task-{number}"), &offer, "true"))
            .collect();
        launched += batch.len();
        let until = launched;
        framework.must(launch(&offer, batch));
        while ends.len() < until {
            let task = count_update(&mut framework);
            if let Some(task) = task {
                *ends.entry(task).or_default() += 1;
            }
        }
    }
    // What was sent twice comes before what is sent after it.
    let offer = framework.offer();
    framework.must(launch(&offer, vec![command_task("last", &offer, "true")]));
    while !ends.contains_key("last") {
        if let Some(task) = count_update(&mut framework) {
            *ends.entry(task).or_default() += 1;
        }
    }
    assert_eq!(ends.len(), TASKS + 1);
    assert!(ends.values().all(|count| *count == 1), "{ends:?}");

    let remembered = |path: &str| {
        let response = send(cluster.follower, &Request::get(path)).expect("the follower answers");
        response.json()
    };
    let settled = eventually(PATIENCE, || {
        let known = &cluster.json("/state")["frameworks"][0];
        count(&known["tasks"]) == 0
            && count(&known["completed_tasks"]) == COMPLETED_TASKS
            && executors(&remembered("/state"), "executors") == 0
    });
    assert!(settled, "{}", cluster.json("/state"));
    assert_eq!(
        executors(&remembered("/state"), "completed_executors"),
        COMPLETED_EXECUTORS
    );
    let files = remembered("/files/debug");
    let served: BTreeSet<&str> = files
        .as_object()
        .expect("names of what is served")
        .keys()
        .filter_map(|name| name.split("/executors/").nth(1)?.split('/').next())
        .collect();
    assert!(
        (1..=COMPLETED_EXECUTORS).contains(&served.len()),
        "{served:?}"
    );
}

/// Reads and acknowledges an update; the task, if it has ended.
fn count_update(framework: &mut Framework) -> Option<String> {
    let status = framework.wait_for("UPDATE", |_| true)["status"].clone();
    framework.must(json!({"type": "ACKNOWLEDGE", "acknowledge": {
        "agent_id": status["agent_id"], "task_id": status["task_id"], "uuid": status["uuid"],
    }}));
    match status["state"].as_str() {
        Some("TASK_STARTING" | "TASK_RUNNING") => None,
        Some("TASK_FINISHED") => Some(status["task_id"]["value"].as_str()?.to_owned()),
        _ => panic!("a task did not finish: {status}"),
    }
}

/// How many of the tasks fit on an offer: their processors and memory are in the same proportion as
/// the cluster's, or scarcer.
fn room(offer: &Value) -> usize {
    let resources = offer["resources"].as_array();
    let cpus = resources.and_then(|all| all.iter().find(|one| one["name"] == "cpus"));
    let cpus = cpus.and_then(|one| one["scalar"]["value"].as_f64());
    (cpus.unwrap_or(0.0) * 10.0 + 0.001) as usize
}

fn count(array: &Value) -> usize {
    array.as_array().map_or(0, Vec::len)
}

/// Executors of all frameworks of a follower's state, of those that are idle too.
fn executors(state: &Value, kind: &str) -> usize {
    ["frameworks", "completed_frameworks"]
        .iter()
        .filter_map(|frameworks| state[frameworks].as_array())
        .flatten()
        .map(|framework| count(&framework[kind]))
        .sum()
}
