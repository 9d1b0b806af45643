//! `kill -9` of each kind of process, and what is left of it: the states, sources, reasons and messages that frameworks hear,
//! what operators see, and that nothing the dead had started lives on.
//!
//! What must happen is in the reference's `docs/high-availability-framework-guide.md` and `docs/task-state-reasons.md`; the
//! exact texts are those of its `src/master/master.cpp` and `src/slave/slave.cpp`.

mod executors;
mod followers;
mod frameworks;
mod leaders;
mod mesos;
mod restarts;

use std::time::Duration;

use serde_json::{Value, json};
use tepui_tests::cluster::Cluster;
use tepui_tests::http::{Request, send};
use tepui_tests::processes::{MARK, marked};
use tepui_tests::programs::python;
use tepui_tests::scheduler::command_task;
use tepui_tests::wait::eventually;

/// How long an end may take to show. Generous: what is waited for is never expected to take seconds.
const PATIENCE: Duration = Duration::from_secs(40);

/// A SUBSCRIBE call; the framework is partition aware unless told otherwise.
fn subscription(name: &str, changes: Value) -> Value {
    let mut info = json!({
        "user": "root", "name": name, "roles": ["*"], "checkpoint": true, "failover_timeout": 3600,
        "capabilities": [{"type": "MULTI_ROLE"}, {"type": "PARTITION_AWARE"}],
    });
    for (field, value) in changes.as_object().into_iter().flatten() {
        info[field] = value.clone();
    }
    json!({"type": "SUBSCRIBE", "subscribe": {"framework_info": info}})
}

/// The same for a framework that has an id.
fn resubscription(id: &str, name: &str, changes: Value) -> Value {
    let mut call = subscription(name, changes);
    call["framework_id"] = json!({"value": id});
    call["subscribe"]["framework_info"]["id"] = json!({"value": id});
    call
}

/// A command task whose processes carry a mark.
fn marked_task(id: &str, offer: &Value, command: &str, mark: &str) -> Value {
    let mut task = command_task(id, offer, command);
    task["command"]["environment"] = environment(mark);
    task
}

/// A task of the Python executor `name`, whose processes carry a mark.
fn custom_task(id: &str, offer: &Value, name: &str, mark: &str) -> Value {
    let script = tepui_tests::crate_folder().join("clients/plain_executor.py");
    let mut task = command_task(id, offer, "");
    task.as_object_mut()
        .expect("a task is an object")
        .remove("command");
    task["executor"] = json!({
        "executor_id": {"value": name},
        "resources": [
            {"name": "cpus", "type": "SCALAR", "scalar": {"value": 0.1}},
            {"name": "mem", "type": "SCALAR", "scalar": {"value": 32}},
        ],
        "command": {
            "value": format!("exec {} -B -u {}", python().display(), script.display()),
            "environment": environment(mark),
        },
    });
    task
}

fn environment(mark: &str) -> Value {
    json!({"variables": [{"name": MARK, "type": "VALUE", "value": mark}]})
}

/// Waits until no process carries the mark.
fn assert_nothing_left(mark: &str) {
    assert!(
        eventually(PATIENCE, || marked(mark).is_empty()),
        "these outlived their executor: {:?}",
        marked(mark)
    );
}

/// Waits until at least `count` processes carry the mark.
fn wait_for_processes(mark: &str, count: usize) -> Vec<i32> {
    assert!(
        eventually(PATIENCE, || marked(mark).len() >= count),
        "{count} processes of {mark}, not {:?}",
        marked(mark)
    );
    marked(mark)
}

/// What one status must say; a reason of nothing must not be there.
fn assert_status(
    status: &Value,
    state: &str,
    source: &str,
    reason: impl Into<Value>,
    message: &str,
) {
    let said = json!([
        status["state"],
        status["source"],
        status["reason"],
        status["message"]
    ]);
    let wanted = json!([state, source, reason.into(), message]);
    assert_eq!(said, wanted, "{status}");
}

/// The answer to a v1 operator call without arguments.
fn ask(cluster: &Cluster, kind: &str) -> Value {
    let request =
        Request::post_json("/api/v1", &json!({"type": kind})).header("Accept", "application/json");
    let response = send(cluster.leader, &request)
        .unwrap_or_else(|error| panic!("{kind}: {error}\n{}", cluster.logs()));
    assert_eq!(response.status, 200, "{kind}: {}", response.text());
    response.json()[kind.to_ascii_lowercase()].clone()
}

/// A task as GET_TASKS shows it in one of its lists.
fn listed(cluster: &Cluster, list: &str, id: &str) -> Option<Value> {
    let tasks = ask(cluster, "GET_TASKS");
    let mut tasks = tasks[list].as_array().into_iter().flatten();
    tasks.find(|task| task["task_id"]["value"] == id).cloned()
}

/// Waits until the leader lists a task there, with this last status.
fn assert_listed(cluster: &Cluster, list: &str, id: &str, state: &str, reason: impl Into<Value>) {
    let reason = reason.into();
    let shown = || {
        let task = listed(cluster, list, id)?;
        let last = task["statuses"].as_array()?.last()?.clone();
        (task["state"] == state && last["state"] == state && last["reason"] == reason).then_some(())
    };
    assert!(
        eventually(PATIENCE, || shown().is_some()),
        "{id} in {list} with {state} for {reason:?}: {}",
        ask(cluster, "GET_TASKS")
    );
}

/// A framework as `/frameworks` shows it among `list`.
fn framework(cluster: &Cluster, list: &str, id: &str) -> Option<Value> {
    let frameworks = cluster.json("/frameworks");
    let mut frameworks = frameworks[list].as_array().into_iter().flatten();
    frameworks.find(|framework| framework["id"] == id).cloned()
}

/// Waits until nothing of any follower is used.
fn assert_nothing_used(cluster: &Cluster) {
    let unused = || {
        let slaves = cluster.json("/slaves");
        let mut slaves = slaves["slaves"].as_array().into_iter().flatten();
        slaves.all(|slave| slave["used_resources"]["cpus"].as_f64() == Some(0.0))
    };
    assert!(eventually(PATIENCE, unused), "{}", cluster.json("/slaves"));
}
