//! A follower is killed: what checkpoints goes on without it, the leader notices, and it comes back as itself.

use serde_json::json;
use tepui_tests::cluster::{Builder, Cluster, Part};
use tepui_tests::processes::{marked, new_mark};
use tepui_tests::scheduler::{Framework, launch};
use tepui_tests::wait::eventually;

use super::{
    PATIENCE, ask, assert_listed, assert_nothing_left, assert_status, listed, marked_task,
    subscription, wait_for_processes,
};

fn quick_pings() -> Builder {
    Cluster::builder()
        .apart()
        .leader_flag("agent_ping_timeout", "1secs")
        .leader_flag("max_agent_ping_timeouts", "2")
}

/// Subscribes and runs one task, marked; what else is offered stays with the framework.
fn running(
    cluster: &Cluster,
    name: &str,
    changes: serde_json::Value,
    mark: &str,
) -> (Framework, String) {
    let mut framework = Framework::subscribe_with(cluster.leader, &subscription(name, changes));
    let offer = framework.offer();
    framework.must(launch(
        &offer,
        vec![marked_task(name, &offer, "sleep 3600 & wait", mark)],
    ));
    framework.until(name, "TASK_RUNNING");
    let follower = offer["agent_id"]["value"].as_str().unwrap_or_default();
    // Others want something too.
    framework.must(json!({"type": "SUPPRESS"}));
    (framework, follower.to_owned())
}

#[test]
fn a_killed_follower_is_unreachable_until_it_is_back_with_what_ran() {
    let mut cluster = quick_pings().start();
    let mark = new_mark();
    let unaware = json!([{"type": "MULTI_ROLE"}]);
    let (mut aware, old) = running(&cluster, "aware", json!({}), &mark);
    release(&mut aware);
    let (mut unaware, _) = running(&cluster, "unaware", json!({"capabilities": unaware}), &mark);
    release(&mut unaware);
    let (mut careless, _) = running(&cluster, "careless", json!({"checkpoint": false}), &mark);
    release(&mut careless);
    let mut idle = Framework::subscribe_with(cluster.leader, &subscription("idle", json!({})));
    let offer = idle.offer();
    wait_for_processes(&mark, 6);

    cluster.kill(Part::Follower);
    let rescinded = idle.wait_for("RESCIND", |_| true);
    assert_eq!(rescinded["offer_id"], offer["id"]);

    // Without checkpoints nothing can come back: no need to wait for pings.
    let status = careless.until("careless", "TASK_LOST");
    assert_eq!(status["source"], "SOURCE_MASTER");
    assert_eq!(status["reason"], "REASON_AGENT_DISCONNECTED");
    let message = status["message"].as_str().unwrap_or_default();
    assert!(
        message.starts_with("Agent ") && message.ends_with(" disconnected"),
        "{status}"
    );

    let status = aware.until("aware", "TASK_UNREACHABLE");
    assert_status(
        &status,
        "TASK_UNREACHABLE",
        "SOURCE_MASTER",
        "REASON_AGENT_REMOVED",
        "health check timed out",
    );
    assert!(
        status["unreachable_time"]["nanoseconds"].is_i64(),
        "{status}"
    );
    let status = unaware.until("unaware", "TASK_LOST");
    assert_status(
        &status,
        "TASK_LOST",
        "SOURCE_MASTER",
        "REASON_AGENT_REMOVED",
        "health check timed out",
    );
    for framework in [&mut aware, &mut unaware, &mut careless, &mut idle] {
        let failure = framework.wait_for("FAILURE", |_| true);
        assert_eq!(failure, json!({"agent_id": {"value": old}}));
    }
    assert_listed(
        &cluster,
        "unreachable_tasks",
        "aware",
        "TASK_UNREACHABLE",
        "REASON_AGENT_REMOVED",
    );
    assert_listed(
        &cluster,
        "completed_tasks",
        "careless",
        "TASK_LOST",
        "REASON_AGENT_DISCONNECTED",
    );
    let agents = ask(&cluster, "GET_AGENTS");
    assert!(
        agents["agents"].as_array().is_none_or(Vec::is_empty),
        "{agents}"
    );

    // What checkpoints runs on; what does not ended with its follower.
    assert!(eventually(PATIENCE, || marked(&mark).len() == 4));

    cluster.restart(Part::Follower);
    let offer = idle.offer();
    assert_eq!(offer["agent_id"]["value"], old, "it is the one it was");
    assert_eq!(ask(&cluster, "GET_AGENTS")["agents"][0]["active"], true);
    let status = aware.until("aware", "TASK_RUNNING");
    assert_eq!(status["agent_id"]["value"], old);
    assert!(listed(&cluster, "tasks", "aware").is_some());
    idle.must(launch(
        &offer,
        vec![marked_task("next", &offer, "true", &mark)],
    ));
    idle.until("next", "TASK_FINISHED");
}

/// Gives back what the framework is offered, and wants no more.
fn release(framework: &mut Framework) {
    while let Some(offers) = framework.wait_within(std::time::Duration::ZERO, "OFFERS", |_| true) {
        let ids: Vec<_> = offers["offers"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|offer| offer["id"].clone())
            .collect();
        framework.must(json!({"type": "DECLINE", "decline": {"offer_ids": ids, "filters": {"refuse_seconds": 0}}}));
    }
}

#[test]
fn a_follower_that_is_back_at_once_has_lost_nothing() {
    // Pings would time out only much later.
    let mut cluster = Cluster::builder().apart().start();
    let mark = new_mark();
    let (mut aware, old) = running(&cluster, "aware", json!({}), &mark);
    let before = wait_for_processes(&mark, 2);

    cluster.kill(Part::Follower);
    cluster.restart(Part::Follower);
    aware.forget_offers();
    aware.must(json!({"type": "REVIVE"}));
    let offer = aware.offer();
    assert_eq!(offer["agent_id"]["value"], old);
    assert_eq!(marked(&mark), before, "the very same processes");
    aware.must(json!({"type": "KILL", "kill": {"task_id": {"value": "aware"}}}));
    aware.until("aware", "TASK_KILLED");
    assert_nothing_left(&mark);
    assert!(eventually(
        PATIENCE,
        || ask(&cluster, "GET_AGENTS")["agents"]
            .as_array()
            .map(Vec::len)
            == Some(1)
    ));
}
