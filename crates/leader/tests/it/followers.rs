//! Registration and re-registration of followers.

use crate::harness::*;
use std::time::Duration;
use tepui_leader::{Config, Effect, Input, Level, ProcessName, RegistryChange};
use tepui_protocol::{
    internal::{self, registry},
    peer::{PeerMessage, Pid},
    v1::{self, TaskState, scheduler, task_status::Reason},
};

const ALL: &str = "cpus:4;mem:4096";

pub(crate) fn reregister(
    number: u16,
    agent: &Agent,
    infos: Vec<v1::FrameworkInfo>,
) -> internal::ReregisterSlaveMessage {
    let mut slave = agent_info(number, ALL);
    slave.id = Some(agent.id.clone());
    internal::ReregisterSlaveMessage {
        slave,
        version: Some("1.11.0".to_owned()),
        agent_capabilities: capabilities(),
        frameworks: infos,
        ..Default::default()
    }
}

pub(crate) fn running_task(
    id: &str,
    framework: &v1::FrameworkId,
    agent: &Agent,
    state: TaskState,
) -> v1::Task {
    let mut task = v1::Task {
        name: id.to_owned(),
        task_id: v1::TaskId {
            value: id.to_owned(),
        },
        framework_id: framework.clone(),
        agent_id: agent.id.clone(),
        resources: resources("cpus:1;mem:100"),
        ..Default::default()
    };
    for resource in &mut task.resources {
        resource.allocation_info = Some(v1::resource::AllocationInfo {
            role: Some("*".to_owned()),
        });
    }
    task.set_state(state);
    task
}

fn registry_with(agent: &Agent, number: u16) -> internal::Registry {
    let mut info = agent_info(number, ALL);
    info.id = Some(agent.id.clone());
    let slave = registry::Slave {
        info,
        ..Default::default()
    };
    internal::Registry {
        slaves: Some(registry::Slaves {
            slaves: vec![slave],
        }),
        ..Default::default()
    }
}

fn old_agent() -> Agent {
    Agent {
        id: v1::AgentId {
            value: "old-S0".to_owned(),
        },
        pid: pid(1),
    }
}

#[test]
fn a_follower_is_in_the_registry_before_it_hears_that_it_is_registered() {
    let mut cluster = Cluster::new();
    let agent = cluster.register(1, ALL);
    cluster.nothing_left();
    let view = cluster.view();
    let seen = view
        .followers
        .get(agent.id.value.as_str())
        .expect("in the view");
    assert!(seen.connected && seen.active);
    assert_eq!(seen.info.id, Some(agent.id));
    assert_eq!(seen.total.len(), 2);
}

#[test]
fn a_follower_that_did_not_hear_the_answer_gets_it_again() {
    let mut cluster = Cluster::new();
    let agent = cluster.register(1, ALL);
    cluster.peer(&agent.pid, register_message(1, ALL));
    let PeerMessage::SlaveRegistered(again) = cluster.sent(&agent.pid) else {
        panic!("expected the answer")
    };
    assert_eq!(again.slave_id, agent.id);
    cluster.nothing_left();
}

#[test]
fn followers_are_pinged_from_a_process_of_their_own() {
    let mut cluster = Cluster::new();
    let mut effects = tepui_leader::Effects::default();
    let message = PeerMessage::from(register_message(1, ALL));
    cluster.leader.handle(
        cluster.now,
        Input::Peer {
            to: tepui_leader::ProcessName::Leader,
            from: pid(1),
            message,
        },
        &mut effects,
    );
    let pings: Vec<_> = effects
        .drain()
        .filter_map(|effect| match effect {
            Effect::Send {
                to,
                from,
                message: PeerMessage::PingSlave(ping),
            } => Some((to, from, ping.connected)),
            _ => None,
        })
        .collect();
    assert_eq!(pings, [(pid(1), ProcessName::Observer(1), true)]);
}

/// What the log says, and what is changed about a good registration.
type Case = (&'static str, fn(&mut internal::RegisterSlaveMessage));

#[test]
fn bad_registrations_are_dropped_with_a_line_in_the_log() {
    let cases: [Case; 5] = [
        ("is not a version", |m| m.version = None),
        ("is older than 1.0.0", |m| {
            m.version = Some("0.28.2".to_owned())
        }),
        ("value <= 0", |m| {
            m.slave.resources[0].scalar = Some(v1::value::Scalar { value: -1.0 })
        }),
        ("contains invalid characters", |m| {
            m.slave.id = Some(v1::AgentId {
                value: "a/b".to_owned(),
            })
        }),
        ("it has a domain", |m| {
            m.slave.domain = Some(v1::DomainInfo::default())
        }),
    ];
    for (expected, change) in cases {
        let mut cluster = Cluster::new();
        let mut message = register_message(1, ALL);
        change(&mut message);
        let mut effects = tepui_leader::Effects::default();
        cluster.leader.handle(
            cluster.now,
            Input::Peer {
                to: tepui_leader::ProcessName::Leader,
                from: pid(1),
                message: message.into(),
            },
            &mut effects,
        );
        let effects: Vec<Effect> = effects.drain().collect();
        match effects.as_slice() {
            [Effect::Log(notice)] => {
                assert_eq!(notice.level, Level::Warning);
                assert!(notice.text.contains(expected), "{}", notice.text);
            }
            other => panic!("expected one line, got {other:?}"),
        }
    }
}

#[test]
fn a_new_follower_at_the_address_of_a_lost_one_replaces_it() {
    let (mut cluster, scheduler, agent) = Cluster::running(framework());
    cluster.handle(Input::LinkBroken {
        pid: agent.pid.clone(),
    });
    cluster.nothing_left();
    cluster.peer(&agent.pid, register_message(1, ALL));
    assert!(
        matches!(cluster.next(), Effect::Persist(RegistryChange::RemoveFollower(id)) if id.as_str() == "lead-S0")
    );
    let update = cluster.update(scheduler.stream);
    assert_eq!(
        (update.state(), update.reason()),
        (TaskState::TaskLost, Reason::AgentRemoved)
    );
    assert_eq!(
        update.message(),
        "Agent host1 removed: a new agent registered at the same address"
    );
    let lost = cluster
        .event(scheduler.stream)
        .failure
        .clone()
        .expect("a FAILURE event");
    assert_eq!((lost.agent_id, lost.executor_id), (Some(agent.id), None));
    assert!(matches!(
        cluster.next(),
        Effect::Persist(RegistryChange::AdmitFollower(_))
    ));
    let PeerMessage::SlaveRegistered(message) = cluster.sent(&agent.pid) else {
        panic!("expected the answer")
    };
    assert_eq!(message.slave_id.value, "lead-S1");
    assert_eq!(cpus(&cluster.offer(scheduler.stream)), Some(4.0));
    cluster.nothing_left();
}

#[test]
fn after_an_election_followers_bring_their_frameworks_and_tasks_along() {
    let agent = old_agent();
    let mut cluster = Cluster::with(Config::default(), &registry_with(&agent, 1));
    assert_eq!(cluster.view().recovered_followers.size(), 1);
    let mut info = framework();
    info.id = Some(v1::FrameworkId {
        value: "old-0000".to_owned(),
    });
    let framework_id = info.id.clone().expect("just set");
    let mut message = reregister(1, &agent, vec![info.clone()]);
    message.tasks = vec![running_task(
        "t1",
        &framework_id,
        &agent,
        TaskState::TaskRunning,
    )];
    cluster.peer(&agent.pid, message);
    let PeerMessage::SlaveReregistered(answer) = cluster.sent(&agent.pid) else {
        panic!("expected the answer")
    };
    assert!(answer.reconciliations.is_empty());
    let PeerMessage::UpdateFramework(_) = cluster.sent(&agent.pid) else {
        panic!("expected UpdateFramework")
    };
    cluster.nothing_left();
    let view = cluster.view();
    let seen = view.frameworks.get("old-0000").expect("recovered");
    assert!(seen.recovered && !seen.connected && seen.tasks.size() == 1);
    assert_eq!(view.recovered_followers.size(), 0);

    let scheduler = cluster.subscribe(info);
    let PeerMessage::UpdateFramework(_) = cluster.sent(&agent.pid) else {
        panic!("expected UpdateFramework")
    };
    assert_eq!(
        cpus(&cluster.offer(scheduler.stream)),
        Some(3.0),
        "the task's resources are not offered"
    );
    cluster.nothing_left();
}

#[test]
fn followers_that_do_not_come_back_after_an_election_are_unreachable() {
    let agent = old_agent();
    let mut cluster = Cluster::with(Config::default(), &registry_with(&agent, 1));
    let scheduler = cluster.subscribe(framework());
    let mut ask = call(scheduler::call::Type::Reconcile);
    let task = scheduler::call::reconcile::Task {
        task_id: v1::TaskId {
            value: "t".to_owned(),
        },
        agent_id: Some(agent.id.clone()),
    };
    ask.reconcile = Some(scheduler::call::Reconcile { tasks: vec![task] });
    cluster.accepted(&scheduler, ask.clone());
    cluster.nothing_left();
    cluster.pass(Duration::from_secs(600));
    assert!(matches!(
        cluster.next(),
        Effect::Persist(RegistryChange::FollowerUnreachable(_))
    ));
    assert!(cluster.event(scheduler.stream).failure.is_some());
    cluster.nothing_left();
    cluster.accepted(&scheduler, ask);
    let update = cluster.update(scheduler.stream);
    assert_eq!(
        (update.state(), update.reason()),
        (TaskState::TaskUnreachable, Reason::Reconciliation)
    );
    assert!(update.unreachable_time.is_some());
    cluster.nothing_left();
}

#[test]
fn a_follower_that_comes_back_with_less_is_asked_about_the_rest() {
    let (mut cluster, scheduler, agent) = Cluster::running(framework());
    cluster.handle(Input::LinkBroken {
        pid: agent.pid.clone(),
    });
    cluster.nothing_left();
    let mut info = framework();
    info.id = Some(scheduler.id.clone());
    let mut message = reregister(1, &agent, vec![info]);
    message.slave = agent_info(1, "cpus:4;mem:4096;disk:1000;ports:[31000-32000]");
    message.slave.id = Some(agent.id.clone());
    cluster.peer(&agent.pid, message);
    let PeerMessage::SlaveReregistered(answer) = cluster.sent(&agent.pid) else {
        panic!("expected the answer")
    };
    let statuses = &answer.reconciliations[0].statuses;
    assert_eq!(
        (statuses.len(), statuses[0].task_id.value.as_str()),
        (1, "t1")
    );
    assert_eq!(statuses[0].state(), TaskState::TaskRunning);
    let PeerMessage::UpdateFramework(_) = cluster.sent(&agent.pid) else {
        panic!("expected UpdateFramework")
    };
    // Offers resume as soon as its old refusal allows.
    cluster.pass(Duration::from_secs(6));
    assert_eq!(cpus(&cluster.offer(scheduler.stream)), Some(3.0));
    cluster.nothing_left();
}

#[test]
fn kills_that_a_follower_missed_are_told_again() {
    let (mut cluster, scheduler, agent) = Cluster::running(framework());
    cluster.handle(Input::LinkBroken {
        pid: agent.pid.clone(),
    });
    let mut kill = call(scheduler::call::Type::Kill);
    kill.kill = Some(scheduler::call::Kill {
        task_id: v1::TaskId {
            value: "t1".to_owned(),
        },
        ..Default::default()
    });
    cluster.accepted(&scheduler, kill);
    cluster.nothing_left();
    let mut info = framework();
    info.id = Some(scheduler.id.clone());
    let mut message = reregister(1, &agent, vec![info]);
    message.tasks = vec![running_task(
        "t1",
        &scheduler.id,
        &agent,
        TaskState::TaskRunning,
    )];
    cluster.peer(&agent.pid, message);
    let sent: Vec<PeerMessage> = (0..cluster.pending.len())
        .filter_map(|_| match cluster.next() {
            Effect::Send { message, .. } => Some(message),
            _ => None,
        })
        .collect();
    assert!(sent.iter().any(
        |message| matches!(message, PeerMessage::KillTask(kill) if kill.task_id.value == "t1")
    ));
}

#[test]
fn a_follower_under_another_name_is_not_that_follower() {
    let mut cluster = Cluster::new();
    let agent = cluster.register(1, ALL);
    let elsewhere: Pid = pid(2);
    cluster.peer(&elsewhere, reregister(1, &agent, vec![]));
    let PeerMessage::Shutdown(message) = cluster.sent(&elsewhere) else {
        panic!("expected a shutdown")
    };
    assert_eq!(
        message.message(),
        "Agent attempted to reregister with different IP / hostname"
    );
    cluster.nothing_left();
}

#[test]
fn bad_reregistrations_are_dropped() {
    let framework_id = v1::FrameworkId {
        value: "f".to_owned(),
    };
    let mut info = framework();
    info.id = Some(framework_id.clone());
    let agent = old_agent();
    let good = || {
        let mut message = reregister(1, &agent, vec![info.clone()]);
        message.tasks = vec![running_task(
            "t",
            &framework_id,
            &agent,
            TaskState::TaskRunning,
        )];
        message
    };
    let cases: [fn(&mut internal::ReregisterSlaveMessage); 7] = [
        |m| m.tasks[0].framework_id.value = "unknown".to_owned(),
        |m| m.tasks[0].agent_id.value = "other".to_owned(),
        |m| m.tasks[0].task_id.value = String::new(),
        |m| m.tasks.push(m.tasks[0].clone()),
        |m| m.frameworks.push(m.frameworks[0].clone()),
        |m| {
            m.tasks[0].executor_id = Some(v1::ExecutorId {
                value: "none".to_owned(),
            })
        },
        |m| m.slave.id = None,
    ];
    for change in cases {
        let mut cluster = Cluster::new();
        let mut message = good();
        change(&mut message);
        cluster.peer(&agent.pid, message);
        cluster.nothing_left();
        assert!(cluster.view().followers.is_empty());
    }
    let mut cluster = Cluster::new();
    cluster.peer(&agent.pid, good());
    assert_eq!(cluster.view().followers.size(), 1);
}

#[test]
fn revocable_resources_come_and_go() {
    let mut cluster = Cluster::new();
    let agent = cluster.register(1, ALL);
    let mut info = framework();
    info.capabilities.push(v1::framework_info::Capability {
        r#type: Some(v1::framework_info::capability::Type::RevocableResources as i32),
    });
    let scheduler = cluster.subscribe(info);
    assert_eq!(cpus(&cluster.offer(scheduler.stream)), Some(4.0));
    let report = |text: &str| {
        let mut spare = resources(text);
        spare
            .iter_mut()
            .for_each(|r| r.revocable = Some(v1::resource::RevocableInfo {}));
        internal::UpdateSlaveMessage {
            slave_id: agent.id.clone(),
            update_oversubscribed_resources: Some(true),
            oversubscribed_resources: spare,
            ..Default::default()
        }
    };
    cluster.peer(&agent.pid, report("cpus:2"));
    let offer = cluster.offer(scheduler.stream);
    assert!(offer.resources.iter().all(|r| r.revocable.is_some()));
    cluster.peer(&agent.pid, report(""));
    let event = cluster.event(scheduler.stream);
    assert_eq!(event.rescind.as_ref().map(|r| &r.offer_id), Some(&offer.id));
    cluster.nothing_left();
}
