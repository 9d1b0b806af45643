//! A framework's process is killed: its tasks wait for the next one until `failover_timeout`, then they end.

use serde_json::json;
use tepui_tests::cluster::Cluster;
use tepui_tests::http::{Request, send};
use tepui_tests::processes::{marked, new_mark};
use tepui_tests::scheduler::{Framework, SCHEDULER, launch};
use tepui_tests::wait::eventually;

use super::{
    PATIENCE, assert_listed, assert_nothing_left, assert_nothing_used, custom_task, framework,
    listed, marked_task, resubscription, subscription, wait_for_processes,
};

#[test]
fn a_killed_framework_fails_over_to_a_new_process_and_ends_when_none_comes() {
    let cluster = Cluster::mixed();
    let mark = new_mark();
    let mut first =
        Framework::subscribe_in_process(cluster.leader, &subscription("first", json!({})));
    let offer = first.offer();
    let mut task = marked_task("survivor", &offer, "sleep 3600 & wait", &mark);
    task["resources"][0]["scalar"]["value"] = json!(1);
    first.must(launch(&offer, vec![task]));
    first.until("survivor", "TASK_RUNNING");
    wait_for_processes(&mark, 2);
    // What is left is offered again, so that there is an offer to take back.
    first.offer();

    first.kill();
    let id = first.id.clone();
    let inactive = || {
        framework(&cluster, "frameworks", &id)
            .is_some_and(|it| it["active"] == false && it["connected"] == false)
    };
    assert!(
        eventually(PATIENCE, inactive),
        "{}",
        cluster.json("/frameworks")
    );
    let shown = framework(&cluster, "frameworks", &id).expect("it is kept");
    assert_eq!(
        shown["offers"],
        json!([]),
        "its offers are rescinded: {shown}"
    );
    assert_eq!(shown["offered_resources"]["cpus"].as_f64(), Some(0.0));
    assert_eq!(shown["used_resources"]["cpus"].as_f64(), Some(1.0));
    let task = listed(&cluster, "tasks", "survivor").expect("its task runs on");
    assert_eq!(task["state"], "TASK_RUNNING");
    assert_eq!(marked(&mark).len(), 2, "its processes live on");
    // The stream died with the process: calls on it are refused.
    let stale = first.call(json!({"type": "REVIVE"}));
    assert!([400, 403].contains(&stale.status), "{}", stale.text());

    let again = resubscription(&id, "second", json!({"failover_timeout": 1}));
    let mut second = Framework::subscribe_in_process(cluster.leader, &again);
    assert_eq!(second.id, id);
    assert_ne!(second.stream_id, first.stream_id);
    let shown = framework(&cluster, "frameworks", &id).expect("it is back");
    assert_eq!(shown["active"], true);
    assert_eq!(shown["name"], "second");
    second.must(
        json!({"type": "RECONCILE", "reconcile": {"tasks": [{"task_id": {"value": "survivor"}}]}}),
    );
    let status = second.update("survivor");
    assert_eq!(
        (&status["state"], &status["source"], &status["reason"]),
        (
            &json!("TASK_RUNNING"),
            &json!("SOURCE_MASTER"),
            &json!("REASON_RECONCILIATION")
        )
    );
    let offer = second.offer();
    second.must(launch(
        &offer,
        vec![marked_task("other", &offer, "sleep 3600", &mark)],
    ));
    second.until("other", "TASK_RUNNING");

    second.kill();
    let completed = || framework(&cluster, "completed_frameworks", &id).is_some();
    assert!(
        eventually(PATIENCE, completed),
        "{}",
        cluster.json("/frameworks")
    );
    assert!(framework(&cluster, "frameworks", &id).is_none());
    for task in ["survivor", "other"] {
        assert_listed(
            &cluster,
            "completed_tasks",
            task,
            "TASK_KILLED",
            "REASON_FRAMEWORK_REMOVED",
        );
        let task = listed(&cluster, "completed_tasks", task).expect("it is listed");
        let last = task["statuses"]
            .as_array()
            .and_then(|statuses| statuses.last().cloned());
        let last = last.expect("it has statuses");
        assert_eq!(last["source"], "SOURCE_MASTER");
        assert_eq!(last["message"], format!("Framework {id} removed"));
    }
    assert_nothing_left(&mark);
    assert_nothing_used(&cluster);

    // The id is never used again: the answer is an ERROR event on a stream that ends.
    let request = Request::post_json(SCHEDULER, &resubscription(&id, "third", json!({})))
        .header("Accept", "application/json");
    let refused = send(cluster.leader, &request).expect("the leader answers");
    assert!(
        refused.text().contains("Framework has been removed"),
        "{} {}",
        refused.status,
        refused.text()
    );
}

#[test]
fn without_a_failover_timeout_everything_ends_at_once() {
    let cluster = Cluster::mixed();
    let mark = new_mark();
    let call = subscription("brief", json!({"failover_timeout": 0, "checkpoint": false}));
    let mut brief = Framework::subscribe_in_process(cluster.leader, &call);
    let offer = brief.offer();
    brief.must(launch(
        &offer,
        vec![
            marked_task("command", &offer, "sleep 3600", &mark),
            custom_task("custom", &offer, "own", &mark),
        ],
    ));
    brief.until("command", "TASK_RUNNING");
    brief.until("custom", "TASK_RUNNING");
    // The command's, the executor, and what the executor started.
    wait_for_processes(&mark, 3);

    brief.kill();
    let id = brief.id.clone();
    let completed = || framework(&cluster, "completed_frameworks", &id).is_some();
    assert!(
        eventually(PATIENCE, completed),
        "{}",
        cluster.json("/frameworks")
    );
    for task in ["command", "custom"] {
        assert_listed(
            &cluster,
            "completed_tasks",
            task,
            "TASK_KILLED",
            "REASON_FRAMEWORK_REMOVED",
        );
    }
    assert_nothing_left(&mark);
    assert_nothing_used(&cluster);
    let on_follower = || {
        let state = send(cluster.follower, &Request::get("/state"));
        let state = state.expect("the follower answers").json();
        state["frameworks"] == json!([])
            && state["completed_frameworks"]
                .as_array()
                .is_some_and(|all| all.iter().any(|framework| framework["id"] == id))
    };
    assert!(
        eventually(PATIENCE, on_follower),
        "the follower forgets it too"
    );
}
