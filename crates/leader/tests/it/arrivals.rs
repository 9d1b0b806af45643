//! Whatever arrives in another order than it was sent, twice, too late, or from somewhere else.

use crate::{
    failover::{gone, old, reconcile, registry_of},
    followers::reregister,
    harness::*,
};
use std::time::Duration;
use tepui_leader::{Config, Effect, Input, ProcessName, RegistryChange, Reply};
use tepui_protocol::{
    internal::{self, registry},
    peer::{PeerMessage, Pid},
    v1::{self, TaskState},
};

fn old_framework() -> v1::FrameworkInfo {
    v1::FrameworkInfo {
        id: Some(v1::FrameworkId {
            value: "old-0000".to_owned(),
        }),
        ..framework()
    }
}

fn running(id: &str, framework: &v1::FrameworkId, agent: &Agent) -> v1::Task {
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
    task.set_state(TaskState::TaskRunning);
    task
}

fn back(number: u16, info: &v1::FrameworkInfo) -> internal::ReregisterSlaveMessage {
    let mut message = reregister(number, &old(number), vec![info.clone()]);
    let id = info.id.clone().unwrap_or_default();
    message.tasks = vec![running("t1", &id, &old(number))];
    message
}

fn shutdown(message: PeerMessage) -> String {
    match message {
        PeerMessage::Shutdown(message) => message.message().to_owned(),
        other => panic!("expected a shutdown, got {other:?}"),
    }
}

fn is_answer(message: &PeerMessage) -> bool {
    matches!(message, PeerMessage::SlaveReregistered(_))
}

/// What the leader would send while nothing that it wants to be durable is.
fn sent_before_durable(effects: &[Effect]) -> usize {
    let before = effects
        .iter()
        .take_while(|effect| !matches!(effect, Effect::Persist(_)));
    before
        .filter(|effect| matches!(effect, Effect::Send { .. } | Effect::Event { .. }))
        .count()
}

#[test]
fn a_framework_that_comes_before_its_followers_hears_of_its_tasks_when_it_asks() {
    let mut cluster = Cluster::with(Config::default(), &registry_of(1));
    let scheduler = cluster.subscribe(old_framework());
    // Silence, while its task may be on a follower that is still to come.
    cluster.accepted(
        &scheduler,
        reconcile(&[("t1", Some("old-S1")), ("t1", None)]),
    );
    cluster.accepted(&scheduler, reconcile(&[]));
    cluster.nothing_left();
    cluster.peer(&pid(1), back(1, &old_framework()));
    assert!(is_answer(&cluster.sent(&pid(1))));
    let PeerMessage::UpdateFramework(_) = cluster.sent(&pid(1)) else {
        panic!("the follower hears where its framework is now")
    };
    assert_eq!(cpus(&cluster.offer(scheduler.stream)), Some(3.0));
    cluster.nothing_left();
    cluster.accepted(&scheduler, reconcile(&[("t1", None), ("t2", None)]));
    assert_eq!(
        cluster.update(scheduler.stream).state(),
        TaskState::TaskRunning
    );
    assert_eq!(
        cluster.update(scheduler.stream).state(),
        TaskState::TaskUnknown
    );
}

#[test]
fn updates_that_come_before_their_framework_are_sent_again_by_the_follower() {
    let mut cluster = Cluster::with(Config::default(), &registry_of(1));
    cluster.peer(&pid(1), back(1, &old_framework()));
    cluster.pending.clear();
    let scheduler = Scheduler {
        id: old_framework().id.unwrap_or_default(),
        stream: cluster.stream(),
    };
    let finished = || status(&scheduler, &old(1), "t1", TaskState::TaskFinished, 3);
    cluster.peer(&pid(1), finished());
    cluster.nothing_left();
    // Nobody acknowledged it: it is kept, and its resources are free.
    let view = cluster.view();
    let seen = view.frameworks.get("old-0000").expect("recovered");
    assert_eq!((seen.tasks.size(), seen.completed_tasks.len()), (1, 0));
    let subscribed = cluster.subscribe(old_framework());
    cluster.sent(&pid(1));
    assert_eq!(cpus(&cluster.offer(subscribed.stream)), Some(4.0));
    cluster.peer(&pid(1), finished());
    let update = cluster.update(subscribed.stream);
    assert_eq!(
        (update.state(), update.uuid),
        (TaskState::TaskFinished, Some(uuid(3)))
    );
    cluster.accepted(&subscribed, acknowledge(&old(1), "t1", 3));
    let PeerMessage::StatusUpdateAcknowledgement(_) = cluster.sent(&pid(1)) else {
        panic!("expected the acknowledgement")
    };
    assert_eq!(
        cluster
            .view()
            .frameworks
            .get("old-0000")
            .map(|seen| (seen.tasks.size(), seen.completed_tasks.len())),
        Some((0, 1))
    );
}

#[test]
fn messages_of_a_follower_that_is_not_back_yet_change_nothing() {
    let mut cluster = Cluster::with(Config::default(), &registry_of(1));
    let scheduler = cluster.subscribe(old_framework());
    cluster.peer(
        &pid(1),
        status(&scheduler, &old(1), "t1", TaskState::TaskFinished, 1),
    );
    cluster.peer(&pid(1), internal::PongSlaveMessage {});
    cluster.peer(
        &pid(1),
        internal::UnregisterSlaveMessage {
            slave_id: old(1).id,
        },
    );
    cluster.nothing_left();
    assert_eq!(cluster.view().recovered_followers.size(), 1);
}

#[test]
fn a_follower_that_registers_again_is_answered_only_when_it_is_durable() {
    let mut cluster = Cluster::new();
    let unknown = || back(1, &old_framework());
    let mut together = Vec::new();
    for _ in 0..2 {
        cluster.peer(&pid(1), unknown());
        together.append(&mut cluster.pending);
    }
    assert_eq!(sent_before_durable(&together), 0);
    let admissions = together
        .iter()
        .filter(|effect| matches!(effect, Effect::Persist(RegistryChange::AdmitFollower(_))));
    assert_eq!(admissions.count(), 1, "the second changes nothing");
    let answers = together
        .iter()
        .filter(|effect| matches!(effect, Effect::Send { message, .. } if is_answer(message)));
    assert_eq!(answers.count(), 2);
    let view = cluster.view();
    assert_eq!(view.followers.size(), 1);
    let tasks: usize = view.frameworks.values().map(|f| f.tasks.size()).sum();
    assert_eq!(tasks, 1);
}

#[test]
fn an_answer_that_may_be_lost_on_an_old_link_is_followed_by_a_ping_on_a_new_one() {
    let (mut cluster, scheduler, agent) = Cluster::running(framework());
    cluster.peer(&agent.pid, internal::PongSlaveMessage {});
    let mut info = framework();
    info.id = Some(scheduler.id.clone());
    let message = || {
        let mut message = reregister(1, &agent, vec![info.clone()]);
        message.slave = agent_info(1, "cpus:4;mem:4096;disk:1000;ports:[31000-32000]");
        message.slave.id = Some(agent.id.clone());
        message.tasks = vec![running("t1", &scheduler.id, &agent)];
        message
    };
    let breaks = |cluster: &mut Cluster| {
        let mut effects = tepui_leader::Effects::default();
        let broken = Input::LinkBroken {
            pid: agent.pid.clone(),
        };
        cluster.leader.handle(cluster.now, broken, &mut effects);
        cluster.leader.check();
        let pings: Vec<bool> = effects
            .drain()
            .filter_map(|effect| match effect {
                Effect::Send {
                    from: ProcessName::Observer(_),
                    message: PeerMessage::PingSlave(ping),
                    ..
                } => Some(ping.connected),
                _ => None,
            })
            .collect();
        pings
    };
    // It came back before the break of its old link was seen.
    cluster.peer(&agent.pid, message());
    assert!(is_answer(&cluster.sent(&agent.pid)));
    assert_eq!(breaks(&mut cluster), [false]);
    cluster.pending.clear();
    cluster.peer(&agent.pid, message());
    assert!(is_answer(&cluster.sent(&agent.pid)));
    assert!(cluster.view().followers.values().all(|seen| seen.connected));
    // It was heard of since: the break is a new one.
    cluster.peer(&agent.pid, internal::PongSlaveMessage {});
    assert!(breaks(&mut cluster).is_empty());
}

#[test]
fn a_follower_at_two_addresses_is_the_one_that_is_here() {
    let (mut cluster, scheduler, agent) = Cluster::running(framework());
    // Elsewhere: somebody copied its work directory.
    cluster.peer(&pid(2), reregister(1, &agent, vec![]));
    assert_eq!(
        shutdown(cluster.sent(&pid(2))),
        "Agent attempted to reregister with different IP / hostname"
    );
    cluster.nothing_left();
    cluster.peer(
        &pid(2),
        status(&scheduler, &agent, "t1", TaskState::TaskFailed, 9),
    );
    cluster.nothing_left();
    // On the same machine it has moved, and the old address is nobody's.
    let moved: Pid = "slave(1)@127.0.0.1:6000".parse().expect("an address");
    let mut info = framework();
    info.id = Some(scheduler.id.clone());
    let mut message = reregister(1, &agent, vec![info]);
    message.slave = agent_info(1, "cpus:4;mem:4096;disk:1000;ports:[31000-32000]");
    message.slave.id = Some(agent.id.clone());
    message.tasks = vec![running("t1", &scheduler.id, &agent)];
    cluster.peer(&moved, message);
    assert!(is_answer(&cluster.sent(&moved)));
    cluster.pending.clear();
    cluster.peer(
        &agent.pid,
        status(&scheduler, &agent, "t1", TaskState::TaskFailed, 9),
    );
    cluster.handle(Input::LinkBroken {
        pid: agent.pid.clone(),
    });
    cluster.nothing_left();
    let here = Agent {
        pid: moved,
        ..agent
    };
    cluster.peer(
        &here.pid,
        status(&scheduler, &here, "t1", TaskState::TaskFinished, 9),
    );
    assert_eq!(
        cluster.update(scheduler.stream).state(),
        TaskState::TaskFinished
    );
}

#[test]
fn a_follower_that_lost_its_work_directory_is_a_new_one_and_the_old_one_is_awaited() {
    let mut cluster = Cluster::with(Config::default(), &registry_of(1));
    let scheduler = cluster.subscribe(old_framework());
    let new = cluster.register(1, "cpus:4;mem:4096");
    cluster.offer(scheduler.stream);
    cluster.accepted(&scheduler, reconcile(&[("t1", Some("old-S1"))]));
    cluster.nothing_left();
    // Nobody will come: its tasks are unreachable, as long as it is remembered.
    for _ in 0..40 {
        cluster.pass(Duration::from_secs(15));
        cluster.peer(&new.pid, internal::PongSlaveMessage {});
    }
    cluster.pending.clear();
    cluster.accepted(&scheduler, reconcile(&[("t1", Some("old-S1"))]));
    assert_eq!(
        cluster.update(scheduler.stream).state(),
        TaskState::TaskUnreachable
    );
    let view = cluster.view();
    assert_eq!(
        (view.followers.size(), view.unreachable_followers.size()),
        (1, 1)
    );
}

#[test]
fn a_follower_that_comes_to_the_address_of_another_takes_its_place() {
    let mut cluster = Cluster::with(Config::default(), &registry_of(2));
    cluster.peer(&pid(1), back(1, &old_framework()));
    cluster.pending.clear();
    let mut message = reregister(1, &old(2), vec![]);
    message.slave.hostname = "host2".to_owned();
    cluster.peer(&pid(1), message);
    let removed = cluster.pending.iter().any(|effect| {
        matches!(effect, Effect::Persist(RegistryChange::RemoveFollower(id)) if id.as_str() == "old-S1")
    });
    assert!(removed);
    let view = cluster.view();
    let ids: Vec<&str> = view.followers.keys().map(|id| id.as_str()).collect();
    assert_eq!(ids, ["old-S2"]);
    assert_eq!(
        view.frameworks.get("old-0000").map(|f| f.tasks.size()),
        Some(0)
    );
}

#[test]
fn gone_wins_over_coming_back_in_either_order() {
    // The operator first: whatever comes is sent away, before and after it is durable.
    let mut cluster = Cluster::with(Config::default(), &registry_of(1));
    assert_eq!(cluster.operator(gone("old-S1")), Reply::Ok);
    cluster.peer(&pid(1), back(1, &old_framework()));
    let together = std::mem::take(&mut cluster.pending);
    assert!(matches!(
        together.first(),
        Some(Effect::Persist(RegistryChange::FollowerGone(_)))
    ));
    assert!(matches!(
        together.get(1),
        Some(Effect::Send {
            message: PeerMessage::Shutdown(_),
            ..
        })
    ));
    assert_eq!(together.len(), 2);
    // The follower first: it is answered, then shut down.
    let mut cluster = Cluster::with(Config::default(), &registry_of(1));
    cluster.peer(&pid(1), back(1, &old_framework()));
    assert_eq!(cluster.operator(gone("old-S1")), Reply::Ok);
    let messages: Vec<PeerMessage> = cluster
        .pending
        .drain(..)
        .filter_map(|effect| match effect {
            Effect::Send { message, .. } => Some(message),
            _ => None,
        })
        .collect();
    assert!(messages.first().is_some_and(is_answer));
    let last = messages.last().cloned().map(shutdown);
    assert_eq!(last.as_deref(), Some("Agent has been marked gone"));
    cluster.peer(&pid(1), back(1, &old_framework()));
    assert_eq!(
        shutdown(cluster.sent(&pid(1))),
        "Agent has been marked gone"
    );
    cluster.nothing_left();
    // A leader later nothing of that is forgotten.
    let mut known = registry_of(0);
    known.gone = Some(registry::GoneSlaves {
        slaves: vec![registry::GoneSlave {
            id: old(1).id,
            timestamp: v1::TimeInfo { nanoseconds: 1 },
        }],
    });
    let mut cluster = Cluster::with(Config::default(), &known);
    cluster.peer(&pid(1), back(1, &old_framework()));
    assert_eq!(
        shutdown(cluster.sent(&pid(1))),
        "Agent has been marked gone"
    );
}

#[test]
fn every_state_of_a_follower_has_its_answer() {
    let mut known = registry_of(1);
    let id = |value: &str| v1::AgentId {
        value: value.to_owned(),
    };
    let timestamp = v1::TimeInfo {
        nanoseconds: 1_699_999_999_000_000_000,
    };
    known.unreachable = Some(registry::UnreachableSlaves {
        slaves: vec![registry::UnreachableSlave {
            id: id("lost"),
            timestamp,
            ..Default::default()
        }],
    });
    known.gone = Some(registry::GoneSlaves {
        slaves: vec![registry::GoneSlave {
            id: id("gone"),
            timestamp,
        }],
    });
    let knowing = old_framework();
    let unknowing = v1::FrameworkInfo {
        id: knowing.id.clone(),
        ..simple_framework()
    };
    for (info, aware) in [(knowing, true), (unknowing, false)] {
        let mut cluster = Cluster::with(Config::default(), &known);
        let here = cluster.register_quietly(7);
        let scheduler = cluster.subscribe(info);
        cluster.pending.clear();
        let mut ask = |at: Option<&str>| {
            cluster.accepted(&scheduler, reconcile(&[("never-known", at)]));
            let answered = !cluster.pending.is_empty();
            answered.then(|| cluster.update(scheduler.stream))
        };
        // Known from the registry, or possibly there: no answer until it is decided.
        assert_eq!(ask(Some("old-S1")), None);
        assert_eq!(ask(None), None);
        for (at, state, text, since) in [
            (
                here.id.value.as_str(),
                TaskState::TaskGone,
                "Task is unknown to the agent",
                None,
            ),
            (
                "lost",
                TaskState::TaskUnreachable,
                "Task is unreachable",
                Some(timestamp),
            ),
            ("gone", TaskState::TaskGoneByOperator, "Task is gone", None),
            ("nobody", TaskState::TaskUnknown, "Task is unknown", None),
        ] {
            let update = ask(Some(at)).expect("an answer");
            let state = if aware { state } else { TaskState::TaskLost };
            assert_eq!(update.state(), state, "{at}");
            assert_eq!(update.message(), format!("Reconciliation: {text}"));
            assert_eq!(update.unreachable_time, since, "{at}");
            assert_eq!(
                (update.source(), update.reason()),
                (
                    v1::task_status::Source::Master,
                    v1::task_status::Reason::Reconciliation
                )
            );
            assert_eq!(update.uuid, None, "nothing to acknowledge");
        }
        for _ in 0..40 {
            cluster.pass(Duration::from_secs(15));
            cluster.peer(&here.pid, internal::PongSlaveMessage {});
        }
        cluster.pending.clear();
        cluster.accepted(&scheduler, reconcile(&[("never-known", None)]));
        let state = if aware {
            TaskState::TaskUnknown
        } else {
            TaskState::TaskLost
        };
        assert_eq!(cluster.update(scheduler.stream).state(), state);
    }
}
