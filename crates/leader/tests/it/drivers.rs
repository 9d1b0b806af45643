//! Conversations with v0 scheduler drivers.

use crate::{harness::*, told::*};
use std::time::Duration;
use tepui_leader::{Effect, Input, read};
use tepui_protocol::{
    internal,
    peer::PeerMessage,
    v1::{self, TaskState, scheduler, scheduler::call::Type},
};

const FIRST: &str = "lead-0000";

fn register(info: v1::FrameworkInfo) -> internal::RegisterFrameworkMessage {
    internal::RegisterFrameworkMessage { framework: info }
}

fn known(mut info: v1::FrameworkInfo, id: &str) -> v1::FrameworkInfo {
    info.id = Some(framework_id(id));
    info
}

/// A driver that registered and was offered all that one follower has.
fn offered(info: v1::FrameworkInfo) -> (Cluster, Agent, v1::Offer) {
    let mut cluster = Cluster::new();
    let agent = cluster.register(1, "cpus:4;mem:4096;disk:1000;ports:[31000-32000]");
    cluster.peer(&driver("a"), register(info));
    let PeerMessage::FrameworkRegistered(registered) = cluster.sent(&driver("a")) else {
        panic!("expected the registration")
    };
    assert_eq!(registered.framework_id.value, FIRST);
    assert_eq!(registered.master_info.hostname(), "leader.test");
    let PeerMessage::ResourceOffers(offers) = cluster.sent(&driver("a")) else {
        panic!("expected offers")
    };
    assert_eq!(offers.pids, [agent.pid.to_string()]);
    cluster.nothing_left();
    (cluster, agent, offers.offers[0].clone())
}

fn as_scheduler() -> Scheduler {
    Scheduler {
        id: framework_id(FIRST),
        stream: tepui_model::StreamId(uuid::Uuid::nil()),
    }
}

fn old_launch(offer: &v1::Offer, tasks: Vec<v1::TaskInfo>) -> internal::LaunchTasksMessage {
    internal::LaunchTasksMessage {
        framework_id: framework_id(FIRST),
        tasks,
        filters: v1::Filters::default(),
        offer_ids: vec![offer.id.clone()],
    }
}

/// The same, with a task running.
fn running(info: v1::FrameworkInfo) -> (Cluster, Agent) {
    let (mut cluster, agent, offer) = offered(info);
    let tasks = vec![task("t1", &offer, "cpus:1;mem:128")];
    cluster.peer(&driver("a"), by(FIRST, launch(&offer, tasks)));
    cluster.peer(
        &agent.pid,
        status(&as_scheduler(), &agent, "t1", TaskState::TaskRunning, 1),
    );
    assert_eq!(
        told(&mut cluster),
        [
            "RunTask(t1 a@127.0.1.1:9000) -> slave(1)",
            "StatusUpdate(t1 TASK_RUNNING wants acknowledgement from slave(1)@127.0.0.1:5051) -> a",
        ]
    );
    (cluster, agent)
}

#[test]
fn a_driver_launches_is_told_and_acknowledges_in_calls() {
    let (mut cluster, agent) = running(framework());
    let mut ended = status(&as_scheduler(), &agent, "t1", TaskState::TaskFinished, 2);
    ended.update.latest_state = Some(TaskState::TaskFinished.into());
    cluster.peer(&driver("a"), by(FIRST, acknowledge(&agent, "t1", 1)));
    cluster.peer(&agent.pid, ended);
    let PeerMessage::StatusUpdateAcknowledgement(forwarded) = cluster.sent(&agent.pid) else {
        panic!("expected the acknowledgement")
    };
    assert_eq!(forwarded.uuid, uuid(1));
    let PeerMessage::StatusUpdate(update) = cluster.sent(&driver("a")) else {
        panic!("expected the update")
    };
    assert_eq!(update.update.latest_state(), TaskState::TaskFinished);
    assert_eq!(update.update.uuid, Some(uuid(2)));
    assert_eq!(update.update.slave_id, Some(agent.id.clone()));
    assert_eq!(
        update.update.status.data.as_deref(),
        Some([1, 2, 3].as_slice())
    );
    cluster.peer(&driver("a"), by(FIRST, acknowledge(&agent, "t1", 2)));
    cluster.peer(&driver("a"), by(FIRST, call(Type::Teardown)));
    assert!(cluster.view().frameworks.is_empty());
    let metrics = &cluster.view().metrics;
    assert_eq!(
        metrics.count("master/valid_status_update_acknowledgements"),
        2
    );
    assert_eq!(metrics.count("master/messages_unregister_framework"), 1);
}

#[test]
fn an_older_driver_says_the_same_in_a_message_per_call() {
    let (mut cluster, agent, offer) = offered(simple_framework());
    let (a, id) = (driver("a"), framework_id(FIRST));
    let tasks = vec![task("t1", &offer, "cpus:1;mem:128")];
    cluster.peer(&a, old_launch(&offer, tasks));
    let running = status(&as_scheduler(), &agent, "t1", TaskState::TaskRunning, 1);
    cluster.peer(&agent.pid, running);
    let acknowledged = internal::StatusUpdateAcknowledgementMessage {
        slave_id: agent.id.clone(),
        framework_id: id.clone(),
        task_id: v1::TaskId { value: "t1".into() },
        uuid: uuid(1),
    };
    cluster.peer(&a, acknowledged);
    cluster.peer(
        &a,
        internal::ReconcileTasksMessage {
            framework_id: id.clone(),
            ..Default::default()
        },
    );
    cluster.peer(
        &a,
        internal::FrameworkToExecutorMessage {
            slave_id: agent.id.clone(),
            framework_id: id.clone(),
            executor_id: v1::ExecutorId { value: "e".into() },
            data: vec![1].into(),
        },
    );
    cluster.peer(
        &a,
        internal::KillTaskMessage {
            framework_id: id.clone(),
            task_id: v1::TaskId { value: "t1".into() },
            kill_policy: None,
        },
    );
    cluster.peer(
        &a,
        internal::ResourceRequestMessage {
            framework_id: id.clone(),
            requests: Vec::new(),
        },
    );
    cluster.peer(
        &a,
        internal::ReviveOffersMessage {
            framework_id: id.clone(),
            roles: Vec::new(),
        },
    );
    cluster.peer(
        &a,
        internal::UnregisterFrameworkMessage { framework_id: id },
    );
    assert_eq!(
        told(&mut cluster),
        [
            "RunTask(t1 a@127.0.1.1:9000) -> slave(1)",
            "StatusUpdate(t1 TASK_RUNNING wants acknowledgement from slave(1)@127.0.0.1:5051) -> a",
            "StatusUpdateAcknowledgement -> slave(1)",
            "StatusUpdate(t1 TASK_RUNNING final from @0.0.0.0:0) -> a",
            "FrameworkToExecutor -> slave(1)",
            "KillTask(t1) -> slave(1)",
            "ResourceOffers(lead-O1 at slave(1)@127.0.0.1:5051) -> a",
            "ShutdownFramework -> slave(1)",
        ]
    );
}

#[test]
fn launching_nothing_is_declining() {
    let (mut cluster, _, offer) = offered(simple_framework());
    cluster.peer(&driver("a"), old_launch(&offer, Vec::new()));
    assert!(told(&mut cluster).is_empty());
    assert_eq!(
        cluster
            .view()
            .metrics
            .count("master/messages_decline_offers"),
        1
    );
    cluster.pass(Duration::from_secs(5));
    assert_eq!(
        told(&mut cluster),
        ["ResourceOffers(lead-O1 at slave(1)@127.0.0.1:5051) -> a"],
        "the offer comes again when the filter is over"
    );
}

#[test]
fn what_the_leader_itself_says_of_a_task_wants_no_acknowledgement() {
    let (mut cluster, _, offer) = offered(simple_framework());
    let tasks = vec![task("t1", &offer, "cpus:100")];
    cluster.peer(&driver("a"), old_launch(&offer, tasks));
    let PeerMessage::StatusUpdate(update) = cluster.sent(&driver("a")) else {
        panic!("expected the update")
    };
    assert_eq!(update.update.status.state(), TaskState::TaskError);
    assert_eq!(
        (update.update.uuid, update.pid.as_deref()),
        (None, Some("@0.0.0.0:0"))
    );
}

#[test]
fn a_driver_that_did_not_hear_the_answer_gets_it_again() {
    let (mut cluster, ..) = offered(framework());
    cluster.peer(&driver("a"), register(framework()));
    assert_eq!(
        told(&mut cluster),
        ["FrameworkRegistered(lead-0000) -> a"],
        "with the same id, and its offers stay"
    );
    cluster.handle(Input::LinkBroken { pid: driver("a") });
    told(&mut cluster);
    cluster.peer(&driver("a"), register(framework()));
    assert_eq!(
        told(&mut cluster),
        [
            "FrameworkRegistered(lead-0000) -> a",
            "ResourceOffers(lead-O1 at slave(1)@127.0.0.1:5051) -> a",
        ]
    );
    assert_eq!(cluster.view().frameworks.size(), 1);
}

/// How the framework was connected before, and the address or stream of that.
const BEFORE: [&str; 5] = ["v0 here", "v0 broken", "v1", "v1 closed", "recovered"];

/// How it comes.
const AFTER: [&str; 5] = [
    "v1",
    "v0 same",
    "v0 same force",
    "v0 other",
    "v0 other force",
];

/// A cluster whose follower runs a task of the framework `lead-0000`, connected as `before` says.
fn before(before: &str) -> Cluster {
    let mut cluster = match before {
        "v0 here" | "v0 broken" => running(framework()).0,
        "v1" | "v1 closed" => Cluster::running(framework()).0,
        _ => {
            let mut cluster = Cluster::new();
            let mut message = internal::ReregisterSlaveMessage {
                slave: agent_info(1, "cpus:4;mem:4096"),
                version: Some("1.11.0".to_owned()),
                agent_capabilities: capabilities(),
                frameworks: vec![known(framework(), FIRST)],
                ..Default::default()
            };
            message.slave.id = Some(v1::AgentId {
                value: "old-S0".to_owned(),
            });
            cluster.peer(&pid(1), message);
            cluster
        }
    };
    match before {
        "v0 broken" => cluster.handle(Input::LinkBroken { pid: driver("a") }),
        "v1 closed" => {
            let stream = tepui_model::StreamId(uuid::Uuid::from_u128(1));
            cluster.handle(Input::StreamClosed { stream });
        }
        _ => {}
    }
    cluster.pending.clear();
    cluster
}

fn after(cluster: &mut Cluster, after: &str) -> Vec<String> {
    let info = known(framework(), FIRST);
    match after {
        "v1" => drop(cluster.send_subscribe(info)),
        v0 => {
            let from = driver(if v0.contains("same") { "a" } else { "b" });
            cluster.peer(&from, subscribe(info, v0.ends_with("force")));
        }
    }
    let told = told(cluster);
    let about_connections =
        |line: &String| !line.starts_with("ResourceOffers") && !line.starts_with("OFFERS");
    told.into_iter().filter(about_connections).collect()
}

#[test]
fn a_framework_moves_between_drivers_and_streams() {
    let mut table = String::new();
    for b in BEFORE {
        for a in AFTER {
            let mut cluster = before(b);
            let lines = after(&mut cluster, a);
            table.push_str(&format!("{b}, then {a}: {}\n", lines.join(", ")));
            let view = cluster.view();
            let framework = view.frameworks.get(FIRST).expect("it stays");
            let newcomer = if a.contains("other") { "b" } else { "a" };
            let refusal = format!("FrameworkError(Framework failed over) -> {newcomer}");
            let refused = a.starts_with("v0") && lines.contains(&refusal);
            let now_v0 = a.starts_with("v0");
            if !refused {
                assert!(framework.connected && framework.active, "{b}, then {a}");
                assert_eq!(framework.pid.is_some(), now_v0, "{b}, then {a}");
            }
        }
    }
    let expected = include_str!("fixtures/failover.txt");
    assert_eq!(table, expected, "\n{table}");
}

#[test]
fn only_its_own_address_speaks_for_a_framework() {
    let (mut cluster, agent, offer) = offered(framework());
    let (thief, id) = (driver("thief"), framework_id(FIRST));
    cluster.peer(
        &thief,
        by(
            FIRST,
            launch(&offer, vec![task("t1", &offer, "cpus:1;mem:128")]),
        ),
    );
    cluster.peer(&thief, by(FIRST, acknowledge(&agent, "t1", 1)));
    cluster.peer(&thief, by(FIRST, call(Type::Teardown)));
    cluster.peer(&thief, old_launch(&offer, Vec::new()));
    cluster.peer(
        &thief,
        internal::UnregisterFrameworkMessage {
            framework_id: id.clone(),
        },
    );
    cluster.peer(
        &thief,
        internal::DeactivateFrameworkMessage { framework_id: id },
    );
    assert!(told(&mut cluster).is_empty());
    assert_eq!(cluster.view().frameworks.size(), 1);
    assert_eq!(
        cluster
            .view()
            .metrics
            .count("master/invalid_status_update_acknowledgements"),
        1
    );
}

#[test]
fn an_address_belongs_to_one_framework() {
    let mut cluster = Cluster::new();
    cluster.peer(&driver("a"), register(framework()));
    cluster.peer(&driver("b"), register(framework()));
    assert_eq!(told(&mut cluster).len(), 2);
    cluster.peer(
        &driver("a"),
        subscribe(known(framework(), "lead-0001"), true),
    );
    assert!(
        told(&mut cluster).is_empty(),
        "an answer would reach the wrong framework"
    );
    assert_eq!(cluster.view().frameworks.size(), 2);
}

#[test]
fn a_driver_whose_link_broke_has_its_failover_timeout_to_come_back() {
    let (mut cluster, _) = running(framework());
    cluster.handle(Input::LinkBroken { pid: driver("a") });
    assert_eq!(
        told(&mut cluster),
        ["FrameworkError(Framework disconnected) -> a"]
    );
    cluster.handle(Input::LinkBroken { pid: driver("a") });
    assert!(told(&mut cluster).is_empty(), "it is told once");
    cluster.peer(&driver("a"), by(FIRST, call(Type::Revive)));
    assert_eq!(
        told(&mut cluster),
        ["FrameworkError(Framework disconnected) -> a"],
        "nothing else tells a driver that it was given up"
    );
    cluster.pass(Duration::from_secs(59));
    assert!(told(&mut cluster).is_empty());
    cluster.pass(Duration::from_secs(1));
    assert_eq!(told(&mut cluster), ["ShutdownFramework -> slave(1)"]);
    cluster.peer(&driver("a"), subscribe(known(framework(), FIRST), true));
    assert_eq!(
        told(&mut cluster),
        ["FrameworkError(Framework has been removed) -> a"]
    );
}

#[test]
fn a_driver_that_aborts_gets_no_offers_until_it_registers_again() {
    let (mut cluster, ..) = offered(framework());
    let deactivate = internal::DeactivateFrameworkMessage {
        framework_id: framework_id(FIRST),
    };
    cluster.peer(&driver("a"), deactivate.clone());
    cluster.peer(&driver("a"), deactivate);
    cluster.pass(Duration::from_secs(70));
    assert_eq!(
        told(&mut cluster),
        ["RescindResourceOffer(lead-O0) -> a"],
        "no heartbeats, and no end of the framework either"
    );
    let view = cluster.view();
    let framework_view = view.frameworks.get(FIRST).expect("it stays");
    assert_eq!(
        (framework_view.connected, framework_view.active),
        (true, false)
    );
    cluster.peer(&driver("a"), subscribe(known(framework(), FIRST), false));
    assert_eq!(
        told(&mut cluster),
        [
            "FrameworkReregistered(lead-0000) -> a",
            "UpdateFramework(a@127.0.1.1:9000) -> slave(1)",
            "ResourceOffers(lead-O1 at slave(1)@127.0.0.1:5051) -> a"
        ]
    );
}

#[test]
fn what_happens_to_executors_and_followers_reaches_a_driver() {
    let (mut cluster, agent, offer) = offered(framework());
    let executor_id = v1::ExecutorId { value: "e".into() };
    let mut first = task("t1", &offer, "cpus:1;mem:128");
    first.command = None;
    first.executor = Some(v1::ExecutorInfo {
        executor_id: executor_id.clone(),
        command: Some(v1::CommandInfo::default()),
        resources: resources("cpus:0.1;mem:32"),
        ..Default::default()
    });
    cluster.peer(&driver("a"), by(FIRST, launch(&offer, vec![first])));
    cluster.pending.clear();
    let id = framework_id(FIRST);
    cluster.peer(
        &agent.pid,
        internal::ExecutorToFrameworkMessage {
            slave_id: agent.id.clone(),
            framework_id: id.clone(),
            executor_id: executor_id.clone(),
            data: vec![7].into(),
        },
    );
    let PeerMessage::ExecutorToFramework(message) = cluster.sent(&driver("a")) else {
        panic!("expected the message")
    };
    assert_eq!(message.data.as_ref(), [7]);
    cluster.peer(
        &agent.pid,
        internal::ExitedExecutorMessage {
            slave_id: agent.id.clone(),
            framework_id: id,
            executor_id,
            status: 256,
        },
    );
    cluster.peer(
        &agent.pid,
        internal::UnregisterSlaveMessage {
            slave_id: agent.id.clone(),
        },
    );
    assert_eq!(
        told(&mut cluster),
        [
            "ExitedExecutor(e 256) -> a",
            "ResourceOffers(lead-O1 at slave(1)@127.0.0.1:5051) -> a",
            "persist RemoveFollower",
            "StatusUpdate(t1 TASK_LOST final from @0.0.0.0:0) -> a",
            "RescindResourceOffer(lead-O1) -> a",
            "LostSlave(lead-S0) -> a",
        ]
    );
}

#[test]
fn followers_hear_where_the_driver_is() {
    let (mut cluster, _) = running(framework());
    cluster.peer(&driver("b"), subscribe(known(framework(), FIRST), true));
    assert!(
        told(&mut cluster).contains(&"UpdateFramework(b@127.0.1.1:9000) -> slave(1)".to_owned())
    );
}

#[test]
fn what_makes_no_sense_is_refused_in_known_words() {
    let with = |change: fn(&mut v1::FrameworkInfo)| {
        let mut info = framework();
        change(&mut info);
        info
    };
    let cases: [(PeerMessage, &str); 5] = [
        (
            register(known(framework(), "x")).into(),
            "Registering with 'id' already set",
        ),
        (
            internal::ReregisterFrameworkMessage {
                framework: framework(),
                failover: true,
            }
            .into(),
            "Re-registering without an 'id'",
        ),
        (
            register(with(|info| info.role = Some("x".into()))).into(),
            "'FrameworkInfo.role' must not be set when the framework is MULTI_ROLE capable",
        ),
        (
            subscribe(with(|info| info.roles = vec!["/a".into()]), false).into(),
            "'FrameworkInfo.roles' contains invalid role: Role '/a' cannot start with a slash",
        ),
        (
            subscribe(with(|info| info.failover_timeout = Some(1e300)), false).into(),
            "The framework failover_timeout (1e+300) is invalid",
        ),
    ];
    for (message, expected) in cases {
        let mut cluster = Cluster::new();
        cluster.peer(&driver("a"), message);
        assert_eq!(
            told(&mut cluster),
            [format!("FrameworkError({expected}) -> a")]
        );
        assert!(cluster.view().frameworks.is_empty());
    }
}

#[test]
fn a_change_that_is_not_allowed_is_an_error() {
    let mut cluster = Cluster::new();
    cluster.peer(&driver("a"), register(framework()));
    told(&mut cluster);
    let mut info = known(framework(), FIRST);
    info.user = "other".to_owned();
    let mut update = call(Type::UpdateFramework);
    update.update_framework = Some(scheduler::call::UpdateFramework {
        framework_info: info,
        ..Default::default()
    });
    cluster.peer(&driver("a"), by(FIRST, update));
    assert_eq!(
        told(&mut cluster),
        [
            "FrameworkError(FrameworkInfo update is not valid: Updating 'FrameworkInfo.user' is \
             unsupported; attempted to update from 'nobody' to 'other') -> a"
        ]
    );
}

#[test]
fn calls_that_came_with_v1_are_dropped() {
    let mut cluster = Cluster::new();
    cluster.peer(&driver("a"), register(framework()));
    told(&mut cluster);
    let mut reconcile = call(Type::ReconcileOperations);
    reconcile.reconcile_operations = Some(Default::default());
    cluster.peer(&driver("a"), by(FIRST, reconcile));
    cluster.peer(&driver("a"), by(FIRST, scheduler::Call::default()));
    assert!(told(&mut cluster).is_empty());
}

#[test]
fn a_v1_call_for_a_driver_is_refused() {
    let (mut cluster, _) = running(framework());
    let request = cluster.call(&as_scheduler(), call(Type::Revive));
    let Effect::Reply {
        request: answered,
        reply,
    } = cluster.next()
    else {
        panic!("expected an answer")
    };
    assert_eq!(answered, request);
    assert_eq!(
        reply,
        tepui_leader::Reply::Error {
            status: 403,
            message: "Framework is not connected via HTTP".to_owned()
        }
    );
}

#[test]
fn readers_see_the_address_of_a_driver() {
    let (mut cluster, _) = running(framework());
    let document = read::endpoint(&cluster.view(), "frameworks", &Default::default());
    let document: serde_json::Value =
        serde_json::from_str(&document.expect("a document")).expect("JSON");
    let shown = &document["frameworks"][0];
    assert_eq!(shown["pid"], "a@127.0.1.1:9000");
    assert_eq!(
        (&shown["active"], &shown["connected"]),
        (&true.into(), &true.into())
    );
}
