//! Finding a leader and staying registered.

use crate::harness::*;
use std::time::Duration;
use tepui_follower::{Phase, io::Input};
use tepui_model::container::ExitStatus;
use tepui_protocol::{internal as i, peer::PeerMessage, v1};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn registers_within_the_backoff_factor_and_reports_its_resources() {
    let mut w = World::new();
    w.step(Input::LeaderDetected(Some(leader())));
    assert!(w.seen().is_empty(), "the first try waits a random time");
    let first = w.follower.next_deadline().unwrap();
    assert!(first <= w.now + SECOND);
    w.now = first;
    w.step(Input::Tick);
    let [PeerMessage::RegisterSlave(message)] = &w.take_sent()[..] else {
        panic!("no registration")
    };
    assert_eq!(message.slave.hostname, "follower.test");
    assert_eq!(message.slave.checkpoint, Some(true));
    assert_eq!(message.slave.port, Some(5051));
    assert_eq!(message.version.as_deref(), Some("1.11.0"));
    assert_eq!(message.agent_capabilities.len(), 8);
    assert!(message.slave.resources.iter().all(|r| r.role() == "*"));
    assert_eq!(
        message.resource_version_uuid.as_ref().unwrap().value.len(),
        16
    );

    w.register();
    assert_eq!(w.seen(), ["persist", "UpdateSlaveMessage to master"]);
    assert_eq!(w.follower.view().phase, Phase::Running);
    w.pass(74 * SECOND);
    assert!(
        w.seen().is_empty(),
        "a registered follower does not register again"
    );
}

#[test]
fn tries_again_with_growing_waits_until_answered() {
    let mut w = World::new();
    w.step(Input::LeaderDetected(Some(leader())));
    let mut longest = Duration::ZERO;
    for _ in 0..40 {
        let deadline = w.follower.next_deadline().unwrap();
        longest = longest.max(deadline.since(w.now));
        w.now = deadline;
        w.step(Input::Tick);
        assert_eq!(w.seen(), ["RegisterSlaveMessage to master"]);
    }
    assert!(
        longest > 30 * SECOND && longest <= 60 * SECOND,
        "{longest:?}"
    );
}

#[test]
fn a_registration_of_somebody_else_is_ignored() {
    let mut w = World::new();
    w.step(Input::LeaderDetected(Some(leader())));
    let message = i::SlaveRegisteredMessage {
        slave_id: v1::AgentId { value: ID.into() },
        connection: None,
    };
    w.step(Input::Peer {
        to: tepui_follower::io::ProcessName::Follower,
        from: "master@127.0.0.1:6666".parse().unwrap(),
        message: message.into(),
    });
    assert_eq!(w.follower.view().phase, Phase::Disconnected);
    assert!(w.seen().is_empty());
}

#[test]
fn a_ping_is_answered_to_its_sender() {
    let mut w = World::registered();
    let observer = "slave-observer(1)@127.0.0.1:5050".parse().unwrap();
    w.step(Input::Peer {
        to: tepui_follower::io::ProcessName::Follower,
        from: observer,
        message: i::PingSlaveMessage { connected: true }.into(),
    });
    assert_eq!(w.seen(), ["PongSlaveMessage to slave-observer(1)"]);
}

#[test]
fn pings_of_strangers_are_answered_and_change_nothing() {
    let mut w = World::registered();
    for _ in 0..10 {
        w.pass(10 * SECOND);
        w.step(Input::Peer {
            to: tepui_follower::io::ProcessName::Follower,
            from: "slave-observer(1)@10.0.0.1:5050".parse().unwrap(),
            message: i::PingSlaveMessage { connected: false }.into(),
        });
    }
    let seen = w.seen();
    assert_eq!(seen[0], "PongSlaveMessage to slave-observer(1)");
    let again = seen.iter().position(|s| s.contains("ReregisterSlave"));
    assert_eq!(
        again,
        Some(7),
        "after 75 seconds without a ping of the leader: {seen:?}"
    );
}

#[test]
fn what_no_follower_gets_is_counted() {
    let mut w = World::registered();
    w.leader_says(i::RegisterSlaveMessage::default());
    w.leader_says(i::AuthenticationCompletedMessage {});
    w.step(Input::Peer {
        to: tepui_follower::io::ProcessName::Follower,
        from: "x@10.0.0.1:1".parse().unwrap(),
        message: i::UpdateFrameworkMessage::default().into(),
    });
    assert_eq!(w.seen(), [""; 0]);
    assert_eq!(w.follower.view().counters.messages_ignored, 3);
}

#[test]
fn a_leader_that_lost_us_gets_a_reregistration() {
    let mut w = World::registered();
    let observer: tepui_protocol::peer::Pid = "slave-observer(1)@127.0.0.1:5050".parse().unwrap();
    w.step(Input::Peer {
        to: tepui_follower::io::ProcessName::Follower,
        from: observer,
        message: i::PingSlaveMessage { connected: false }.into(),
    });
    w.pass(SECOND);
    assert_eq!(
        w.seen()[..2],
        [
            "PongSlaveMessage to slave-observer(1)",
            "ReregisterSlaveMessage to master"
        ]
    );
}

#[test]
fn missing_pings_and_broken_links_lead_to_reregistration() {
    let mut w = World::registered();
    w.pass(76 * SECOND);
    assert_eq!(w.seen()[0], "ReregisterSlaveMessage to master");

    let mut w = World::registered();
    w.step(Input::LinkBroken { pid: leader() });
    w.pass(SECOND);
    assert_eq!(w.seen()[0], "ReregisterSlaveMessage to master");
}

#[test]
fn reregistration_tells_a_new_leader_what_runs() {
    let mut w = World::registered();
    w.running_command("long");
    let new: tepui_protocol::peer::Pid = "master@127.0.0.1:5060".parse().unwrap();
    w.step(Input::LeaderDetected(Some(new.clone())));
    w.pass(SECOND);
    let sent = w.take().into_iter().find_map(|e| match e {
        tepui_follower::io::Effect::Send {
            to,
            message: PeerMessage::ReregisterSlave(m),
            ..
        } if to == new => Some(m),
        _ => None,
    });
    let message = sent.expect("no re-registration");
    assert_eq!(message.slave.id.as_ref().unwrap().value, ID);
    assert_eq!(message.frameworks.len(), 1);
    assert_eq!(message.tasks.len(), 1);
    assert!(
        message.executor_infos.is_empty(),
        "executors of command tasks are not told"
    );
    assert!(
        message.tasks[0]
            .resources
            .iter()
            .all(|r| r.role() == "*" && r.allocation_info.is_some())
    );

    let answer = i::SlaveReregisteredMessage {
        slave_id: v1::AgentId { value: ID.into() },
        reconciliations: vec![i::ReconcileTasksMessage {
            framework_id: v1::FrameworkId {
                value: FRAMEWORK.into(),
            },
            statuses: ["long", "unknown"]
                .map(|id| v1::TaskStatus {
                    task_id: v1::TaskId { value: id.into() },
                    ..Default::default()
                })
                .into(),
            framework: Some(framework()),
        }],
        connection: None,
    };
    w.step(Input::Peer {
        to: tepui_follower::io::ProcessName::Follower,
        from: new,
        message: answer.into(),
    });
    assert_eq!(
        w.seen(),
        [
            "UpdateSlaveMessage to master",
            "TASK_DROPPED of unknown (Reconciliation: task unknown to the agent) to master"
        ]
    );
}

#[test]
fn a_wrong_id_stops_the_process() {
    let mut w = World::registered();
    let message = i::SlaveReregisteredMessage {
        slave_id: v1::AgentId {
            value: "other".into(),
        },
        ..Default::default()
    };
    w.leader_says(message);
    assert_eq!(w.seen(), ["stop true"]);
}

#[test]
fn shutdown_ends_executors_first() {
    let mut w = World::registered();
    let container = w.running_command("long");
    w.leader_says(i::ShutdownMessage {
        message: Some("go".into()),
    });
    assert_eq!(w.seen(), ["SHUTDOWN to local"]);
    w.exited(&container, ExitStatus::Code(0));
    assert_eq!(w.seen(), ["stop local", "persist", "stop false"]);
}

#[test]
fn an_operator_shutdown_unregisters() {
    let mut w = World::registered();
    w.step(Input::Shutdown {
        reason: "SIGUSR1".into(),
    });
    assert_eq!(
        w.seen(),
        ["UnregisterSlaveMessage to master", "persist", "stop false"]
    );
}

#[test]
fn a_restarted_follower_registers_again_under_its_old_id() {
    let mut w = World::recovered();
    w.step(Input::LeaderDetected(Some(leader())));
    w.pass(SECOND);
    let Some(PeerMessage::ReregisterSlave(message)) = w.take_sent().pop() else {
        panic!("no re-registration")
    };
    assert_eq!(message.slave.id.unwrap().value, ID);
    assert!(message.tasks.is_empty());
}
