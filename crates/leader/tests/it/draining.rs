//! Operators drain, deactivate and reactivate followers.

use crate::harness::*;
use std::time::Duration;
use tepui_leader::{Config, Effect, RegistryChange, Reply};
use tepui_protocol::{
    internal::{self, registry},
    peer::PeerMessage,
    v1::{self, DrainState, TaskState, master, scheduler::event},
};

pub(crate) fn drain(agent: &v1::AgentId, mark_gone: bool) -> master::Call {
    let mut call = master::Call::default();
    call.set_type(master::call::Type::DrainAgent);
    call.drain_agent = Some(master::call::DrainAgent {
        agent_id: agent.clone(),
        mark_gone: mark_gone.then_some(true),
        ..Default::default()
    });
    call
}

pub(crate) fn deactivate(agent: &v1::AgentId) -> master::Call {
    let mut call = master::Call::default();
    call.set_type(master::call::Type::DeactivateAgent);
    call.deactivate_agent = Some(master::call::DeactivateAgent {
        agent_id: agent.clone(),
    });
    call
}

pub(crate) fn reactivate(agent: &v1::AgentId) -> master::Call {
    let mut call = master::Call::default();
    call.set_type(master::call::Type::ReactivateAgent);
    call.reactivate_agent = Some(master::call::ReactivateAgent {
        agent_id: agent.clone(),
    });
    call
}

fn bad(message: &str) -> Reply {
    Reply::Error {
        status: 400,
        message: message.to_owned(),
    }
}

impl Cluster {
    /// The next effect is that the registry hears of a follower's marks.
    fn recorded(&mut self) -> registry::Slave {
        match self.next() {
            Effect::Persist(RegistryChange::AdmitFollower(slave)) => *slave,
            other => panic!("expected a record, got {other:?}"),
        }
    }
    /// The next effect is that the registry says which leaders may take over.
    fn requires_draining(&mut self) {
        match self.next() {
            Effect::Persist(RegistryChange::RequireCapability(name)) => {
                assert_eq!(name, "AGENT_DRAINING");
            }
            other => panic!("expected a requirement, got {other:?}"),
        }
    }
    fn releases_draining(&mut self) {
        match self.next() {
            Effect::Persist(RegistryChange::ReleaseCapability(name)) => {
                assert_eq!(name, "AGENT_DRAINING");
            }
            other => panic!("expected that a requirement ends, got {other:?}"),
        }
    }
    fn rescinded(&mut self, scheduler: &Scheduler) {
        let event = self.event(scheduler.stream);
        assert_eq!(event.r#type(), event::Type::Rescind);
    }
    fn told_to_drain(&mut self, agent: &Agent) -> v1::DrainConfig {
        match self.sent(&agent.pid) {
            PeerMessage::DrainSlave(message) => message.config,
            other => panic!("expected DrainSlave, got {other:?}"),
        }
    }
    fn drain_state(&mut self, agent: &Agent) -> Option<DrainState> {
        let view = self.view();
        let follower = view
            .followers
            .values()
            .find(|f| f.id.as_str() == agent.id.value)?;
        assert!(follower.deactivated || follower.drain.is_none());
        follower.drain.map(|drain| drain.state())
    }
    /// What the follower says when it finds a leader, with one task if asked for.
    fn reregister(&mut self, agent: &Agent, scheduler: Option<&Scheduler>) {
        let mut slave = agent_info(1, "cpus:4;mem:4096;disk:1000;ports:[31000-32000]");
        slave.id = Some(agent.id.clone());
        let mut message = internal::ReregisterSlaveMessage {
            slave,
            version: Some("1.11.0".to_owned()),
            agent_capabilities: capabilities(),
            ..Default::default()
        };
        if let Some(scheduler) = scheduler {
            let mut info = framework();
            info.id = Some(scheduler.id.clone());
            message.frameworks.push(info);
            let mut own = resources("cpus:1;mem:128");
            for resource in &mut own {
                let role = Some("*".to_owned());
                resource.allocation_info = Some(v1::resource::AllocationInfo { role });
            }
            let mut task = v1::Task {
                name: "t1".to_owned(),
                task_id: v1::TaskId {
                    value: "t1".to_owned(),
                },
                framework_id: scheduler.id.clone(),
                agent_id: agent.id.clone(),
                resources: own,
                ..Default::default()
            };
            task.set_state(TaskState::TaskRunning);
            message.tasks.push(task);
        }
        self.peer(&agent.pid, message);
    }
    /// The follower's first word after it registered.
    fn first_update(&mut self, agent: &Agent) {
        let message = internal::UpdateSlaveMessage {
            slave_id: agent.id.clone(),
            update_oversubscribed_resources: Some(false),
            ..Default::default()
        };
        self.peer(&agent.pid, message);
    }
}

/// A registry with one follower, marked as given.
fn registry_with(slave: registry::Slave) -> internal::Registry {
    internal::Registry {
        slaves: Some(registry::Slaves {
            slaves: vec![slave],
        }),
        minimum_capabilities: vec![registry::MinimumCapability {
            capability: "AGENT_DRAINING".to_owned(),
        }],
        ..Default::default()
    }
}

#[test]
fn a_draining_follower_is_told_so_and_its_offers_are_taken_back_once_that_is_durable() {
    let (mut cluster, scheduler, agent) = Cluster::running(framework());
    cluster.pass(Duration::from_secs(10));
    cluster.offers(scheduler.stream);
    let mut call = drain(&agent.id, false);
    if let Some(drain) = &mut call.drain_agent {
        drain.max_grace_period = Some(prost_types::Duration {
            seconds: 7,
            nanos: 5,
        });
    }
    assert_eq!(cluster.operator(call), Reply::Ok);
    cluster.requires_draining();
    let slave = cluster.recorded();
    assert_eq!(slave.deactivated, Some(true));
    let info = slave.drain_info.expect("the draining is recorded");
    assert_eq!(info.state(), DrainState::Draining);
    let grace = info.config.max_grace_period.map(|grace| grace.nanoseconds);
    assert_eq!(grace, Some(7_000_000_005));
    cluster.rescinded(&scheduler);
    assert_eq!(cluster.told_to_drain(&agent), info.config);
    cluster.nothing_left();
    assert_eq!(cluster.drain_state(&agent), Some(DrainState::Draining));

    cluster.pass(Duration::from_secs(60));
    cluster.nothing_left();
    assert_eq!(
        cluster.operator(reactivate(&agent.id)),
        bad("Agent is still in the DRAINING state")
    );
}

#[test]
fn a_follower_is_drained_when_the_end_of_its_last_task_is_acknowledged() {
    let (mut cluster, scheduler, agent) = Cluster::running(framework());
    cluster.operator(drain(&agent.id, false));
    cluster.pending.clear();
    cluster.peer(
        &agent.pid,
        status(&scheduler, &agent, "t1", TaskState::TaskKilled, 2),
    );
    cluster.update(scheduler.stream);
    cluster.nothing_left();
    assert_eq!(cluster.drain_state(&agent), Some(DrainState::Draining));
    cluster.accepted(&scheduler, acknowledge(&agent, "t1", 2));
    let PeerMessage::StatusUpdateAcknowledgement(_) = cluster.sent(&agent.pid) else {
        panic!("expected the acknowledgement")
    };
    let info = cluster.recorded().drain_info.expect("still recorded");
    assert_eq!(info.state(), DrainState::Drained);
    cluster.nothing_left();
    assert_eq!(cluster.drain_state(&agent), Some(DrainState::Drained));
    let metrics = tepui_leader::read::metrics(&cluster.view(), 0.0);
    let gauges = ["slaves_deactivated", "slaves_draining", "slaves_drained"];
    let counted = gauges.map(|name| metrics.get(&format!("master/{name}")).copied());
    assert_eq!(counted, [Some(1.0), Some(0.0), Some(1.0)]);

    // Back to work.
    assert_eq!(cluster.operator(reactivate(&agent.id)), Reply::Ok);
    let slave = cluster.recorded();
    assert_eq!((slave.drain_info, slave.deactivated), (None, None));
    cluster.releases_draining();
    assert_eq!(cpus(&cluster.offer(scheduler.stream)), Some(4.0));
    cluster.nothing_left();
}

#[test]
fn a_follower_with_nothing_on_it_is_drained_at_once() {
    let mut cluster = Cluster::new();
    let agent = cluster.register(1, "cpus:4;mem:4096");
    assert_eq!(cluster.operator(drain(&agent.id, false)), Reply::Ok);
    cluster.requires_draining();
    cluster.recorded();
    cluster.told_to_drain(&agent);
    let info = cluster.recorded().drain_info.expect("recorded");
    assert_eq!(info.state(), DrainState::Drained);
    cluster.nothing_left();
}

#[test]
fn a_follower_to_be_marked_gone_is_gone_once_it_is_drained() {
    let (mut cluster, scheduler, agent) = Cluster::running(framework());
    cluster.operator(drain(&agent.id, true));
    cluster.pending.clear();
    cluster.peer(
        &agent.pid,
        status(&scheduler, &agent, "t1", TaskState::TaskGoneByOperator, 2),
    );
    cluster.pending.clear();
    cluster.accepted(&scheduler, acknowledge(&agent, "t1", 2));
    let PeerMessage::StatusUpdateAcknowledgement(_) = cluster.sent(&agent.pid) else {
        panic!("expected the acknowledgement")
    };
    match cluster.next() {
        Effect::Persist(RegistryChange::FollowerGone(gone)) => assert_eq!(gone.id, agent.id),
        other => panic!("expected that it is gone, got {other:?}"),
    }
    let PeerMessage::Shutdown(_) = cluster.sent(&agent.pid) else {
        panic!("expected Shutdown")
    };
    let event = cluster.event(scheduler.stream);
    assert_eq!(event.r#type(), event::Type::Failure);
    cluster.releases_draining();
    cluster.nothing_left();
    assert_eq!(
        cluster.operator(drain(&agent.id, true)),
        bad("Unknown agent")
    );
}

#[test]
fn a_deactivated_follower_keeps_its_tasks_and_is_not_offered() {
    let (mut cluster, scheduler, agent) = Cluster::running(framework());
    assert_eq!(cluster.operator(deactivate(&agent.id)), Reply::Ok);
    cluster.requires_draining();
    let slave = cluster.recorded();
    assert_eq!((slave.drain_info, slave.deactivated), (None, Some(true)));
    cluster.pass(Duration::from_secs(60));
    cluster.nothing_left();
    cluster.peer(
        &agent.pid,
        status(&scheduler, &agent, "t1", TaskState::TaskFinished, 2),
    );
    cluster.update(scheduler.stream);
    cluster.accepted(&scheduler, acknowledge(&agent, "t1", 2));
    let PeerMessage::StatusUpdateAcknowledgement(_) = cluster.sent(&agent.pid) else {
        panic!("expected the acknowledgement")
    };
    cluster.nothing_left();
}

#[test]
fn draining_goes_on_after_a_change_of_leaders() {
    let mut slave = agent_info(1, "cpus:4;mem:4096;disk:1000;ports:[31000-32000]");
    let id = v1::AgentId {
        value: "old-S0".to_owned(),
    };
    slave.id = Some(id.clone());
    let config = v1::DrainConfig {
        mark_gone: Some(false),
        ..Default::default()
    };
    let registry = registry_with(registry::Slave {
        info: slave,
        drain_info: Some(v1::DrainInfo {
            state: DrainState::Draining.into(),
            config,
        }),
        deactivated: Some(true),
    });
    let mut cluster = Cluster::with(Config::default(), &registry);
    let agent = Agent { id, pid: pid(1) };
    let mut info = framework();
    info.id = Some(v1::FrameworkId {
        value: "old-0000".to_owned(),
    });
    let scheduler = cluster.subscribe(info);
    cluster.reregister(&agent, Some(&scheduler));
    let mut told = 0;
    for effect in std::mem::take(&mut cluster.pending) {
        match effect {
            Effect::Send {
                message: PeerMessage::DrainSlave(message),
                ..
            } => {
                assert_eq!(message.config, config);
                told += 1;
            }
            Effect::Event { event, .. } => {
                assert_ne!(event.r#type(), event::Type::Offers, "it is not offered");
            }
            _ => {}
        }
    }
    assert_eq!(told, 1, "it is told again to drain");
    // It has said what it runs; whether operations are pending it says now.
    cluster.first_update(&agent);
    cluster.nothing_left();
    assert_eq!(cluster.drain_state(&agent), Some(DrainState::Draining));
    cluster.peer(
        &agent.pid,
        status(&scheduler, &agent, "t1", TaskState::TaskKilled, 3),
    );
    cluster.update(scheduler.stream);
    cluster.accepted(&scheduler, acknowledge(&agent, "t1", 3));
    cluster.pending.clear();
    assert_eq!(cluster.drain_state(&agent), Some(DrainState::Drained));
}

#[test]
fn a_follower_awaited_after_an_election_can_be_drained() {
    let mut slave = agent_info(1, "cpus:4;mem:4096;disk:1000;ports:[31000-32000]");
    let id = v1::AgentId {
        value: "old-S0".to_owned(),
    };
    slave.id = Some(id.clone());
    let registry = internal::Registry {
        slaves: Some(registry::Slaves {
            slaves: vec![registry::Slave {
                info: slave,
                ..Default::default()
            }],
        }),
        ..Default::default()
    };
    let mut cluster = Cluster::with(Config::default(), &registry);
    assert_eq!(cluster.operator(drain(&id, false)), Reply::Ok);
    cluster.requires_draining();
    assert!(cluster.recorded().drain_info.is_some());
    cluster.nothing_left();
    let agent = Agent { id, pid: pid(1) };
    cluster.reregister(&agent, None);
    let PeerMessage::SlaveReregistered(_) = cluster.sent(&agent.pid) else {
        panic!("expected SlaveReregistered")
    };
    cluster.told_to_drain(&agent);
    cluster.nothing_left();
    cluster.first_update(&agent);
    let info = cluster.recorded().drain_info.expect("recorded");
    assert_eq!(info.state(), DrainState::Drained);
    cluster.nothing_left();
}

#[test]
fn an_unreachable_follower_can_be_drained_and_stays_deactivated_when_it_comes_back() {
    let (mut cluster, scheduler, agent) = Cluster::running(framework());
    cluster.pass(Duration::from_secs(100));
    cluster.pending.clear();
    assert!(
        cluster.view().followers.is_empty(),
        "it did not answer pings"
    );
    assert_eq!(cluster.operator(drain(&agent.id, false)), Reply::Ok);
    cluster.requires_draining();
    match cluster.next() {
        Effect::Persist(RegistryChange::FollowerUnreachable(slave)) => {
            assert_eq!(slave.deactivated, Some(true));
            assert!(slave.drain_info.is_some());
        }
        other => panic!("expected a record, got {other:?}"),
    }
    cluster.nothing_left();

    cluster.reregister(&agent, Some(&scheduler));
    let slave = cluster.recorded();
    assert_eq!(slave.deactivated, Some(true));
    assert!(slave.drain_info.is_some());
    let told = cluster.pending.iter().any(|effect| {
        matches!(
            effect,
            Effect::Send {
                message: PeerMessage::DrainSlave(_),
                ..
            }
        )
    });
    assert!(told, "it is told to drain");
    cluster.pending.clear();
    cluster.pass(Duration::from_secs(20));
    cluster.nothing_left();
    assert_eq!(cluster.drain_state(&agent), Some(DrainState::Draining));
}

#[test]
fn a_draining_follower_that_becomes_unreachable_is_not_drained() {
    let (mut cluster, _, agent) = Cluster::running(framework());
    cluster.operator(drain(&agent.id, true));
    cluster.pending.clear();
    cluster.pass(Duration::from_secs(100));
    let gone = cluster
        .pending
        .iter()
        .any(|effect| matches!(effect, Effect::Persist(RegistryChange::FollowerGone(_))));
    assert!(!gone, "its tasks may still run");
    let unreachable = cluster.pending.iter().find_map(|effect| match effect {
        Effect::Persist(RegistryChange::FollowerUnreachable(slave)) => Some(slave),
        _ => None,
    });
    let info = unreachable.and_then(|slave| slave.drain_info);
    let info = info.expect("the draining is remembered");
    assert_eq!(info.state(), DrainState::Draining);
}

#[test]
fn followers_that_cannot_drain_are_not_asked_to() {
    let mut cluster = Cluster::new();
    let from = pid(1);
    let mut message = register_message(1, "cpus:4;mem:4096");
    message.agent_capabilities.truncate(3);
    cluster.peer(&from, message);
    cluster.pending.clear();
    let id = v1::AgentId {
        value: format!("{LEADER_ID}-S0"),
    };
    assert_eq!(
        cluster.operator(drain(&id, false)),
        bad("Agent lead-S0 is not capable of draining")
    );
    cluster.nothing_left();
}
