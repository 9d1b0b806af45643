//! Operators empty followers and take machines down, and a real framework sees it: draining, windows, inverse offers,
//! machines down and up, all through HTTP.

use std::time::Duration;

use serde_json::{Value, json};
use tepui_tests::cluster::{Cluster, Part};
use tepui_tests::http::{Request, Response, send};
use tepui_tests::scheduler::{Framework, command_task, launch};
use tepui_tests::wait::{eventually, eventually_some, stays};

const PATIENCE: Duration = Duration::from_secs(60);

fn post(cluster: &Cluster, path: &str, body: &Value) -> Response {
    let request = Request::post_json(path, body).header("Accept", "application/json");
    send(cluster.leader, &request).expect("the leader answers")
}

fn operator(cluster: &Cluster, call: &Value) -> Value {
    let response = post(cluster, "/api/v1", call);
    assert_eq!(response.status, 200, "{call}: {}", response.text());
    match response.text().is_empty() {
        true => Value::Null,
        false => response.json(),
    }
}

/// The only follower, as GET_AGENTS has it.
fn agent(cluster: &Cluster) -> Value {
    let answer = operator(cluster, &json!({"type": "GET_AGENTS"}));
    answer["get_agents"]["agents"][0].clone()
}

/// The machine of the only follower, in another case than it says itself.
fn machine(cluster: &Cluster) -> Value {
    let agent = agent(cluster);
    let hostname = agent["agent_info"]["hostname"].as_str().unwrap_or_default();
    json!({"hostname": hostname.to_uppercase(), "ip": cluster.follower.ip().to_string()})
}

/// A framework with a task `long` that runs until it is killed.
fn running(cluster: &Cluster) -> (Framework, Value) {
    let mut framework = Framework::subscribe(cluster.leader, "moves");
    let offer = framework.offer();
    framework.must(launch(
        &offer,
        vec![command_task("long", &offer, "sleep 1000")],
    ));
    framework.until("long", "TASK_RUNNING");
    (framework, offer["agent_id"].clone())
}

#[test]
fn a_drained_follower_kills_its_tasks_and_is_offered_again_once_reactivated() {
    let cluster = Cluster::builder().apart().start();
    let (mut framework, agent_id) = running(&cluster);
    operator(
        &cluster,
        &json!({"type": "DRAIN_AGENT", "drain_agent": {
            "agent_id": agent_id, "max_grace_period": {"seconds": 1},
        }}),
    );
    let ended = framework.until("long", "TASK_KILLED");
    assert_eq!(ended["reason"], "REASON_AGENT_DRAINING", "{ended}");
    let drained = eventually(PATIENCE, || {
        agent(&cluster)["drain_info"]["state"] == "DRAINED"
    });
    assert!(drained, "{}", agent(&cluster));
    let shown = agent(&cluster);
    assert_eq!(shown["deactivated"], true);
    assert_eq!(shown["active"], false);
    let state = cluster.json("/slaves");
    assert_eq!(state["slaves"][0]["drain_info"]["state"], "DRAINED");
    assert!(state["slaves"][0]["estimated_drain_start_time_seconds"].is_f64());
    framework.forget_offers();
    let offered = framework.wait_within(Duration::from_secs(1), "OFFERS", |_| true);
    assert_eq!(offered, None, "a drained follower is not offered");

    let reactivate =
        json!({"type": "REACTIVATE_AGENT", "reactivate_agent": {"agent_id": agent_id}});
    operator(&cluster, &reactivate);
    let offer = framework.offer();
    framework.must(launch(
        &offer,
        vec![command_task("again", &offer, "exit 0")],
    ));
    framework.until("again", "TASK_FINISHED");
    let refused = post(&cluster, "/api/v1", &reactivate);
    assert_eq!(
        (refused.status, refused.text().as_str()),
        (400, "Agent is not deactivated")
    );
}

#[test]
fn draining_goes_on_when_the_leader_was_killed_meanwhile() {
    let mut cluster = Cluster::builder().apart().start();
    let (mut framework, agent_id) = running(&cluster);
    let offer = framework.offer();
    // It ends when it is killed for good, some seconds after it was asked to.
    let stubborn = "trap '' TERM; while :; do sleep 0.1; done";
    let mut task = command_task("stubborn", &offer, stubborn);
    task["kill_policy"] = json!({"grace_period": {"nanoseconds": 3_000_000_000_u64}});
    framework.must(launch(&offer, vec![task]));
    framework.until("stubborn", "TASK_RUNNING");
    operator(
        &cluster,
        &json!({"type": "DRAIN_AGENT", "drain_agent": {"agent_id": agent_id}}),
    );
    cluster.kill(Part::Leader);
    cluster.restart(Part::Leader);
    let serves = eventually(PATIENCE, || {
        send(cluster.leader, &Request::get("/health")).is_ok_and(|answer| answer.status == 200)
    });
    assert!(serves, "{}", cluster.logs());
    let info = json!({
        "user": "root", "name": "moves", "roles": ["*"], "id": {"value": framework.id},
        "capabilities": [{"type": "MULTI_ROLE"}, {"type": "PARTITION_AWARE"}, {"type": "RESERVATION_REFINEMENT"}],
    });
    let call = json!({"type": "SUBSCRIBE", "framework_id": {"value": framework.id},
        "subscribe": {"framework_info": info}});
    let mut framework = Framework::subscribe_with(cluster.leader, &call);
    // Unacknowledged ends are told again, to whoever leads.
    for task in ["long", "stubborn"] {
        let ended = framework.until(task, "TASK_KILLED");
        assert_eq!(ended["reason"], "REASON_AGENT_DRAINING", "{ended}");
    }
    let drained = eventually(PATIENCE, || {
        agent(&cluster)["drain_info"]["state"] == "DRAINED"
    });
    assert!(drained, "{}\n{}", agent(&cluster), cluster.logs());
}

#[test]
fn frameworks_are_asked_to_leave_before_a_machine_goes_down_and_it_stays_away_until_it_is_up() {
    let mut cluster = Cluster::builder().apart().start();
    let (mut framework, agent_id) = running(&cluster);
    let machine = machine(&cluster);
    let window = json!({
        "machine_ids": [machine],
        "unavailability": {
            "start": {"nanoseconds": 1_900_000_000_000_000_000_u64},
            "duration": {"nanoseconds": 3_600_000_000_000_u64},
        },
    });
    let answer = post(
        &cluster,
        "/maintenance/schedule",
        &json!({"windows": [window]}),
    );
    assert_eq!((answer.status, answer.text().as_str()), (200, ""));
    assert_eq!(
        cluster.json("/maintenance/schedule")["windows"],
        json!([window])
    );
    let asked = framework.wait_for("INVERSE_OFFERS", |_| true);
    let inverse = &asked["inverse_offers"][0];
    assert_eq!(inverse["agent_id"], agent_id);
    assert_eq!(inverse["unavailability"], window["unavailability"]);
    let offers = framework.wait_for("OFFERS", |offers| {
        offers["offers"][0]["unavailability"].is_object()
    });
    assert_eq!(
        offers["offers"][0]["unavailability"],
        window["unavailability"]
    );

    framework.must(
        json!({"type": "ACCEPT_INVERSE_OFFERS", "accept_inverse_offers": {
            "inverse_offer_ids": [inverse["id"]], "filters": {"refuse_seconds": 1000},
        }}),
    );
    let said = eventually_some(PATIENCE, || {
        let status = cluster.json("/maintenance/status");
        let draining = &status["draining_machines"][0];
        draining["statuses"].is_array().then(|| draining.clone())
    });
    let said = said.expect("the answer is shown");
    assert_eq!(said["id"], machine);
    assert_eq!(said["statuses"][0]["status"], "ACCEPT");
    assert_eq!(
        said["statuses"][0]["framework_id"]["value"],
        framework.id.as_str()
    );
    let drain = json!({"type": "DRAIN_AGENT", "drain_agent": {"agent_id": agent_id}});
    assert_eq!(
        post(&cluster, "/api/v1", &drain).status,
        400,
        "the schedule has it already"
    );

    let answer = post(&cluster, "/machine/down", &json!([machine]));
    assert_eq!((answer.status, answer.text().as_str()), (200, ""));
    let lost = framework.update("long");
    assert_eq!(lost["state"], "TASK_LOST", "{lost}");
    let ended = cluster.wait_for_end(Part::Follower, PATIENCE);
    assert!(ended.is_some(), "the follower ends: {}", cluster.logs());
    assert_eq!(
        cluster.json("/maintenance/status")["down_machines"],
        json!([machine])
    );
    cluster.restart(Part::Follower);
    let ended = cluster.wait_for_end(Part::Follower, PATIENCE);
    assert!(ended.is_some(), "it is sent away: {}", cluster.logs());
    assert!(stays(Duration::from_millis(200), || agent(&cluster).is_null()));

    let answer = post(&cluster, "/machine/up", &json!([machine]));
    assert_eq!((answer.status, answer.text().as_str()), (200, ""));
    assert_eq!(cluster.json("/maintenance/schedule"), json!({}));
    framework.forget_offers();
    cluster.restart(Part::Follower);
    let offer = framework.offer();
    assert!(offer["unavailability"].is_null(), "{offer}");
}
