//! Operator calls that kill a running task's container, as `tepui kill` sends them.

use serde_json::{Value, json};
use tepui_tests::cluster::Cluster;
use tepui_tests::http::{Request, Response, send};
use tepui_tests::scheduler::{Framework, command_task, launch};

fn kill(cluster: &Cluster, container: &Value, signal: Option<i32>) -> Response {
    let mut call = json!({"type": "KILL_CONTAINER", "kill_container": {"container_id": container}});
    if let Some(signal) = signal {
        call["kill_container"]["signal"] = signal.into();
    }
    send(cluster.follower, &Request::post_json("/api/v1", &call)).expect("the follower answers")
}

/// A running task and the id of its container.
fn running(cluster: &Cluster, framework: &mut Framework, task: &str) -> Value {
    let offer = framework.offer();
    framework.must(launch(
        &offer,
        vec![command_task(task, &offer, "sleep 3600")],
    ));
    let status = framework.until(task, "TASK_RUNNING");
    let container = status["container_status"]["container_id"].clone();
    assert!(container.is_object(), "{status}\n{}", cluster.logs());
    container
}

#[test]
fn a_signal_reaches_the_command_of_a_task() {
    const SIGUSR1: i32 = 10;
    let cluster = Cluster::mixed();
    let mut framework = Framework::subscribe(cluster.leader, "signals");
    let container = running(&cluster, &mut framework, "signalled");
    assert_eq!(kill(&cluster, &container, Some(0)).status, 200);
    let response = kill(&cluster, &container, Some(SIGUSR1));
    assert_eq!((response.status, response.text().as_str()), (200, ""));
    let status = framework.until("signalled", "TASK_FAILED");
    assert_eq!(status["source"], "SOURCE_EXECUTOR");
    let message = status["message"].as_str().unwrap_or_default();
    assert!(message.contains("User defined signal 1"), "{status}");
}

#[test]
fn a_killed_container_takes_its_executor_along() {
    let cluster = Cluster::mixed();
    let mut framework = Framework::subscribe(cluster.leader, "kills");
    let container = running(&cluster, &mut framework, "killed");
    assert_eq!(kill(&cluster, &container, None).status, 200);
    let status = framework.until("killed", "TASK_FAILED");
    assert_eq!(status["reason"], "REASON_EXECUTOR_TERMINATED");
    let again = kill(&cluster, &container, None);
    let id = container["value"].as_str().unwrap_or_default();
    let text = format!("Container '{id}' cannot be found (or is already killed)");
    assert_eq!((again.status, again.text()), (404, text));
}
