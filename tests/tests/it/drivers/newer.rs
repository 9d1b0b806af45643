//! Drivers of libmesos 1.x and of before 0.24, from registration to failover.

use serde_json::{Value, json};
use tepui_tests::cluster::Cluster;
use tepui_tests::libprocess::Peer;
use tepui_tests::wait::eventually;

use super::libmesos::{Driver, SOON, command, description};

fn frameworks(cluster: &Cluster) -> Vec<Value> {
    let frameworks = cluster.json("/frameworks");
    frameworks["frameworks"]
        .as_array()
        .cloned()
        .unwrap_or_default()
}

#[test]
fn a_driver_of_libmesos_1_x_runs_and_kills_tasks_and_finishes() {
    let cluster = Cluster::builder().apart().start();
    let peer = Peer::new();
    let mut driver = Driver::new(&peer, cluster.leader);
    let registered = driver.subscribe(&description("libmesos"));
    assert_eq!(
        registered["master_info"]["pid"],
        format!("master@{}", cluster.leader)
    );
    let shown = frameworks(&cluster);
    assert_eq!(shown[0]["pid"], driver.pid(), "{shown:?}");
    let (offer, pid) = driver.offer();
    assert_eq!(pid, format!("slave(1)@{}", cluster.follower));
    let tasks = vec![
        command("ends", &offer, "exit 0"),
        command("fails", &offer, "exit 3"),
        command("stays", &offer, "sleep 600"),
    ];
    driver.launch(&offer, tasks);
    assert_eq!(
        driver.until("ends", "TASK_FINISHED"),
        ["TASK_STARTING", "TASK_RUNNING", "TASK_FINISHED"]
    );
    driver.until("fails", "TASK_FAILED");
    driver.until("stays", "TASK_RUNNING");

    driver.call(
        json!({"type": "RECONCILE", "reconcile": {"tasks": [{"task_id": {"value": "stays"}}]}}),
    );
    let update = driver.expect("StatusUpdateMessage");
    assert_eq!(
        update["update"]["status"]["reason"],
        "REASON_RECONCILIATION"
    );
    assert_eq!(update["update"]["uuid"], Value::Null, "{update}");

    driver.call(json!({"type": "KILL", "kill": {"task_id": {"value": "stays"}}}));
    driver.until("stays", "TASK_KILLED");
    driver.call(json!({"type": "TEARDOWN"}));
    assert!(eventually(SOON, || frameworks(&cluster).is_empty()));
    assert_eq!(peer.problems(), Vec::<String>::new());
}

#[test]
fn a_driver_from_before_calls_runs_a_task_with_a_message_each() {
    let cluster = Cluster::mixed();
    let peer = Peer::new();
    let mut driver = Driver::new(&peer, cluster.leader);
    let info = json!({"user": "root", "name": "old", "role": "*"});
    driver.say("RegisterFrameworkMessage", &json!({"framework": info}));
    driver.id = driver.expect("FrameworkRegisteredMessage")["framework_id"].clone();
    let (offer, _) = driver.offer();
    driver.say(
        "LaunchTasksMessage",
        &json!({
            "framework_id": driver.id, "offer_ids": [offer["id"]], "filters": {"refuse_seconds": 0},
            "tasks": [command("old", &offer, "exit 0")],
        }),
    );
    for state in ["TASK_STARTING", "TASK_RUNNING", "TASK_FINISHED"] {
        let update = driver.expect("StatusUpdateMessage");
        let status = &update["update"]["status"];
        assert_eq!(status["state"], state, "{update}");
        driver.say(
            "StatusUpdateAcknowledgementMessage",
            &json!({
                "framework_id": driver.id, "slave_id": update["update"]["slave_id"],
                "task_id": status["task_id"], "uuid": update["update"]["uuid"],
            }),
        );
    }
    driver.say(
        "UnregisterFrameworkMessage",
        &json!({"framework_id": driver.id}),
    );
    assert!(eventually(SOON, || frameworks(&cluster).is_empty()));
}

#[test]
fn a_driver_takes_over_by_force_and_the_older_one_is_told() {
    let cluster = Cluster::mixed();
    let (peer, other) = (Peer::new(), Peer::new());
    let mut first = Driver::new(&peer, cluster.leader);
    first.subscribe(&description("first"));
    let (offer, _) = first.offer();
    first.launch(&offer, vec![command("kept", &offer, "sleep 600")]);
    first.until("kept", "TASK_RUNNING");

    let mut info = description("first");
    info["id"] = first.id.clone();
    let mut second = Driver::new(&other, cluster.leader);
    second.id = first.id.clone();
    second.call(json!({"type": "SUBSCRIBE", "subscribe": {"framework_info": info}}));
    let refused = second.expect("FrameworkErrorMessage");
    assert_eq!(refused["message"], "Framework failed over");
    second.call(json!({"type": "SUBSCRIBE", "subscribe": {"framework_info": info, "force": true}}));
    let registered = second.expect("FrameworkRegisteredMessage");
    assert_eq!(registered["framework_id"], first.id);
    let error = first.expect("FrameworkErrorMessage");
    assert_eq!(error["message"], "Framework failed over");

    // What the older one still says does not count.
    first.call(json!({"type": "KILL", "kill": {"task_id": {"value": "kept"}}}));
    first.call(json!({"type": "TEARDOWN"}));
    first.say(
        "UnregisterFrameworkMessage",
        &json!({"framework_id": first.id}),
    );
    first.settle();
    second.call(json!({"type": "RECONCILE", "reconcile": {"tasks": []}}));
    let update = second.expect("StatusUpdateMessage");
    assert_eq!(update["update"]["status"]["state"], "TASK_RUNNING");
    second.call(json!({"type": "KILL", "kill": {"task_id": {"value": "kept"}}}));
    second.until("kept", "TASK_KILLED");
}

#[test]
fn a_driver_whose_connections_broke_registers_again_and_finds_its_task() {
    let cluster = Cluster::mixed();
    let peer = Peer::new();
    let mut driver = Driver::new(&peer, cluster.leader);
    driver.subscribe(&description("broken"));
    let (offer, _) = driver.offer();
    driver.launch(&offer, vec![command("kept", &offer, "sleep 600")]);
    driver.until("kept", "TASK_RUNNING");
    peer.break_links();
    let connected = || frameworks(&cluster)[0]["connected"] == true;
    assert!(eventually(SOON, || !connected()));

    let mut info = description("broken");
    info["id"] = driver.id.clone();
    driver.call(json!({"type": "SUBSCRIBE", "subscribe": {"framework_info": info}}));
    let registered = driver.expect("FrameworkReregisteredMessage");
    assert_eq!(registered["framework_id"], driver.id);
    assert!(connected());
    driver.call(json!({"type": "KILL", "kill": {"task_id": {"value": "kept"}}}));
    driver.until("kept", "TASK_KILLED");
}

#[test]
fn what_comes_in_a_framework_s_name_from_elsewhere_does_not_count() {
    let cluster = Cluster::mixed();
    let peer = Peer::new();
    let mut driver = Driver::new(&peer, cluster.leader);
    driver.subscribe(&description("mine"));
    let mut stranger = Driver::new(&peer, cluster.leader);
    stranger.id = driver.id.clone();
    stranger.call(json!({"type": "TEARDOWN"}));
    stranger.say(
        "UnregisterFrameworkMessage",
        &json!({"framework_id": driver.id}),
    );
    stranger.say(
        "DeactivateFrameworkMessage",
        &json!({"framework_id": driver.id}),
    );
    stranger.settle();
    assert_eq!(stranger.untaken(), Vec::<String>::new());
    let shown = frameworks(&cluster);
    assert_eq!(shown[0]["active"], true, "{shown:?}");
}
