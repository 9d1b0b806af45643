//! The leader is killed and started again on the same work directory and port: everybody comes back, and tasks never notice.

use serde_json::json;
use tepui_tests::cluster::{Cluster, Part};
use tepui_tests::http::{Request, send};
use tepui_tests::processes::{marked, new_mark};
use tepui_tests::scheduler::{Framework, launch};
use tepui_tests::wait::eventually;

use super::{
    PATIENCE, ask, assert_nothing_left, framework, listed, marked_task, resubscription,
    subscription, wait_for_processes,
};

#[test]
fn followers_frameworks_and_tasks_outlive_a_killed_leader() {
    let mut cluster = Cluster::builder().apart().start();
    let mark = new_mark();
    let done = cluster.folder().join("done");
    let mut first = Framework::subscribe_with(cluster.leader, &subscription("app", json!({})));
    let offer = first.offer();
    let waiting = format!("until [ -e {} ]; do sleep 0.05; done", done.display());
    first.must(launch(
        &offer,
        vec![
            marked_task("long", &offer, "sleep 3600 & wait", &mark),
            marked_task("ending", &offer, &waiting, &new_mark()),
        ],
    ));
    first.until("long", "TASK_RUNNING");
    first.until("ending", "TASK_RUNNING");
    let before = wait_for_processes(&mark, 2);
    let follower = offer["agent_id"]["value"].clone();
    let id = first.id.clone();

    cluster.kill(Part::Leader);
    // This task's end is news that has to wait.
    std::fs::write(&done, "").expect("the cluster's folder can be written");
    cluster.restart(Part::Leader);
    let serves = || {
        send(cluster.leader, &Request::get("/health")).is_ok_and(|response| response.status == 200)
    };
    assert!(eventually(PATIENCE, serves), "{}", cluster.logs());
    let back = || {
        let agents = ask(&cluster, "GET_AGENTS");
        agents["agents"][0]["agent_info"]["id"]["value"] == follower
            && agents["agents"][0]["active"] == true
    };
    assert!(
        eventually(PATIENCE, back),
        "the follower keeps its id: {}\n{}",
        ask(&cluster, "GET_AGENTS"),
        cluster.logs()
    );
    // Its framework is known from the follower, though it has not come back yet.
    assert!(listed(&cluster, "tasks", "long").is_some());
    let shown = framework(&cluster, "frameworks", &id).expect("it is recovered");
    assert_eq!(shown["active"], false, "{shown}");

    let mut second =
        Framework::subscribe_with(cluster.leader, &resubscription(&id, "app", json!({})));
    assert_eq!(second.id, id);
    let status = second.until("ending", "TASK_FINISHED");
    assert_eq!(status["message"], "Command exited with status 0");
    assert_eq!(marked(&mark), before, "nothing was restarted");
    second.must(json!({"type": "RECONCILE", "reconcile": {"tasks": []}}));
    let status = second.until("long", "TASK_RUNNING");
    assert_eq!(status["reason"], "REASON_RECONCILIATION");
    second.offer();
    second.must(json!({"type": "KILL", "kill": {"task_id": {"value": "long"}}}));
    second.until("long", "TASK_KILLED");
    assert_nothing_left(&mark);
}

#[test]
fn what_the_registry_knows_outlives_a_killed_leader() {
    let mut cluster = Cluster::builder()
        .apart()
        .leader_flag("agent_ping_timeout", "1secs")
        .leader_flag("max_agent_ping_timeouts", "2")
        .start();
    let mut app = Framework::subscribe_with(cluster.leader, &subscription("app", json!({})));
    let old = app.offer()["agent_id"]["value"].clone();
    cluster.kill(Part::Follower);
    let failure = app.wait_for("FAILURE", |_| true);
    assert_eq!(failure["agent_id"]["value"], old);

    cluster.kill(Part::Leader);
    cluster.restart(Part::Leader);
    let serves = || {
        send(cluster.leader, &Request::get("/health")).is_ok_and(|response| response.status == 200)
    };
    assert!(eventually(PATIENCE, serves), "{}", cluster.logs());
    // That the follower is unreachable was written down before anybody was told.
    let mut app =
        Framework::subscribe_with(cluster.leader, &resubscription(&app.id, "app", json!({})));
    app.must(json!({"type": "RECONCILE", "reconcile": {"tasks": [
        {"task_id": {"value": "unheard-of"}, "agent_id": {"value": old}},
    ]}}));
    let status = app.update("unheard-of");
    assert_eq!(status["state"], "TASK_UNREACHABLE", "{status}");
    assert_eq!(status["reason"], "REASON_RECONCILIATION");
    // As itself, if it had written down who it is before it was killed, which was soon after.
    cluster.restart(Part::Follower);
    app.offer();
}
