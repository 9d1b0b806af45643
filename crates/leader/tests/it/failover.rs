//! A new leader: whom it waits for, how fast and how far it gives up, what it forgets.

use crate::{followers::reregister, harness::*};
use std::time::Duration;
use tepui_leader::{Config, Effect, Input, RegistryChange, RemovalRate, Reply};
use tepui_protocol::{
    internal::{self, registry},
    peer::PeerMessage,
    v1::{self, TaskState, master, scheduler},
};

const ALL: &str = "cpus:4;mem:4096";
const MINUTE: Duration = Duration::from_secs(60);

/// A follower that an earlier leader admitted.
pub(crate) fn old(number: u16) -> Agent {
    Agent {
        id: v1::AgentId {
            value: format!("old-S{number}"),
        },
        pid: pid(number),
    }
}

fn admitted(number: u16) -> registry::Slave {
    let mut info = agent_info(number, ALL);
    info.id = Some(old(number).id);
    registry::Slave {
        info,
        ..Default::default()
    }
}

/// The registry after a leader that admitted so many followers.
pub(crate) fn registry_of(followers: u16) -> internal::Registry {
    internal::Registry {
        slaves: Some(registry::Slaves {
            slaves: (1..=followers).map(admitted).collect(),
        }),
        ..Default::default()
    }
}

/// A framework that subscribed to an earlier leader.
fn old_framework(failover_timeout: f64) -> v1::FrameworkInfo {
    v1::FrameworkInfo {
        id: Some(v1::FrameworkId {
            value: "old-0000".to_owned(),
        }),
        failover_timeout: Some(failover_timeout),
        ..framework()
    }
}

fn task_of(id: &str, agent: &Agent, state: TaskState) -> v1::Task {
    let mut task = v1::Task {
        name: id.to_owned(),
        task_id: v1::TaskId {
            value: id.to_owned(),
        },
        framework_id: v1::FrameworkId {
            value: "old-0000".to_owned(),
        },
        agent_id: agent.id.clone(),
        resources: resources("cpus:1;mem:100"),
        ..Default::default()
    };
    task.set_state(state);
    task
}

/// It comes back with one running task of the old framework.
fn back_with_task(number: u16, info: &v1::FrameworkInfo) -> internal::ReregisterSlaveMessage {
    let mut message = reregister(number, &old(number), vec![info.clone()]);
    message.tasks = vec![task_of(
        &format!("t{number}"),
        &old(number),
        TaskState::TaskRunning,
    )];
    message
}

fn unreachable_in(pending: &[Effect]) -> Vec<String> {
    let lost = pending.iter().filter_map(|effect| match effect {
        Effect::Persist(RegistryChange::FollowerUnreachable(lost)) => Some(lost.id.value.clone()),
        _ => None,
    });
    lost.collect()
}

fn forgotten_in(pending: &[Effect]) -> Vec<String> {
    let forgotten = pending.iter().filter_map(|effect| match effect {
        Effect::Persist(RegistryChange::RemoveFollower(id)) => Some(id.to_string()),
        _ => None,
    });
    forgotten.collect()
}

fn count(cluster: &mut Cluster, name: &str) -> u64 {
    cluster.view().metrics.count(name)
}

fn scheduled_completed_canceled(cluster: &mut Cluster) -> (u64, u64, u64) {
    let metrics = cluster.view().metrics.clone();
    let of = |what: &str| metrics.count(&format!("master/slave_unreachable_{what}"));
    (of("scheduled"), of("completed"), of("canceled"))
}

// Giving up.

#[test]
fn missing_followers_are_given_up_at_the_rate_that_is_allowed() {
    let config = Config {
        removal_rate: RemovalRate::parse("2/1mins").ok(),
        ..Config::default()
    };
    let mut cluster = Cluster::with(config, &registry_of(4));
    cluster.pass(10 * MINUTE);
    assert_eq!(unreachable_in(&cluster.pending), ["old-S1"]);
    assert_eq!(scheduled_completed_canceled(&mut cluster), (4, 1, 0));
    cluster.pass(MINUTE / 2);
    assert_eq!(unreachable_in(&cluster.pending), ["old-S1", "old-S2"]);

    // One comes back while it waits: it takes no permit with it.
    cluster.pending.clear();
    cluster.peer(&pid(3), reregister(3, &old(3), vec![]));
    let PeerMessage::SlaveReregistered(_) = cluster.sent(&pid(3)) else {
        panic!("expected the answer")
    };
    assert_eq!(scheduled_completed_canceled(&mut cluster), (4, 2, 1));
    cluster.pass(MINUTE / 2);
    assert_eq!(unreachable_in(&cluster.pending), ["old-S4"]);
    assert_eq!(scheduled_completed_canceled(&mut cluster), (4, 3, 1));
    assert_eq!(count(&mut cluster, "master/recovery_slave_removals"), 3);
    let view = cluster.view();
    assert_eq!(
        (
            view.recovered_followers.size(),
            view.unreachable_followers.size()
        ),
        (0, 3)
    );
}

#[test]
fn a_silent_follower_that_answers_while_it_waits_for_a_permit_stays() {
    let config = Config {
        removal_rate: RemovalRate::parse("1/10mins").ok(),
        ..Config::default()
    };
    let mut cluster = Cluster::with(config, &internal::Registry::default());
    let first = cluster.register(1, ALL);
    let second = cluster.register(2, ALL);
    cluster.pass(Duration::from_secs(75));
    assert_eq!(
        unreachable_in(&cluster.pending),
        std::slice::from_ref(&first.id.value)
    );
    assert_eq!(scheduled_completed_canceled(&mut cluster), (2, 1, 0));
    // It goes on being pinged, which changes nothing.
    cluster.pass(MINUTE);
    assert_eq!(scheduled_completed_canceled(&mut cluster), (2, 1, 0));
    cluster.peer(&second.pid, internal::PongSlaveMessage {});
    assert_eq!(scheduled_completed_canceled(&mut cluster), (2, 1, 1));
    for _ in 0..60 {
        cluster.pass(Duration::from_secs(15));
        cluster.peer(&second.pid, internal::PongSlaveMessage {});
    }
    assert_eq!(cluster.view().followers.size(), 1);
}

#[test]
fn a_disconnected_follower_that_waits_for_a_permit_may_come_back() {
    let config = Config {
        removal_rate: RemovalRate::parse("1/1hrs").ok(),
        max_ping_timeouts: 1_000_000,
        ..Config::default()
    };
    let mut cluster = Cluster::with(config, &internal::Registry::default());
    let agents = [cluster.register_quietly(1), cluster.register_quietly(2)];
    for agent in &agents {
        cluster.handle(Input::LinkBroken {
            pid: agent.pid.clone(),
        });
    }
    cluster.pass(10 * MINUTE);
    assert_eq!(unreachable_in(&cluster.pending).len(), 1);
    assert_eq!(scheduled_completed_canceled(&mut cluster), (2, 1, 0));
    cluster.pending.clear();
    cluster.peer(&agents[1].pid, reregister(2, &agents[1], vec![]));
    assert_eq!(scheduled_completed_canceled(&mut cluster), (2, 1, 1));
    cluster.pass(60 * MINUTE);
    assert!(unreachable_in(&cluster.pending).is_empty());
    assert_eq!(cluster.view().followers.size(), 1);
}

#[test]
fn when_too_many_are_missing_nobody_is_given_up_until_more_are_back() {
    let config = Config {
        recovery_removal_limit_percent: 50.0,
        ..Config::default()
    };
    let mut cluster = Cluster::with(config, &registry_of(4));
    cluster.peer(&pid(1), reregister(1, &old(1), vec![]));
    cluster.sent(&pid(1));
    let scheduler = cluster.subscribe(framework());
    cluster.offer(scheduler.stream);
    let answers_pings = |cluster: &mut Cluster, for_seconds: u64| {
        for _ in 0..for_seconds / 15 {
            cluster.pass(Duration::from_secs(15));
            cluster.peer(&pid(1), internal::PongSlaveMessage {});
        }
    };
    answers_pings(&mut cluster, 600);
    cluster.nothing_left();
    assert_eq!(
        count(&mut cluster, "master/recovery_slave_removals_refused"),
        1
    );
    assert_eq!(cluster.view().recovered_followers.size(), 3);
    // Their tasks may be anywhere: no answer.
    cluster.accepted(&scheduler, reconcile(&[("t", Some("old-S2"))]));
    cluster.nothing_left();

    // One more comes, late: the rest is few enough now.
    cluster.peer(&pid(2), reregister(2, &old(2), vec![]));
    cluster.sent(&pid(2));
    cluster.offer(scheduler.stream);
    answers_pings(&mut cluster, 15);
    assert!(unreachable_in(&cluster.pending).is_empty());
    answers_pings(&mut cluster, 585);
    let lost = unreachable_in(&cluster.pending);
    assert!(lost.contains(&"old-S3".to_owned()) && lost.contains(&"old-S4".to_owned()));
    assert_eq!(cluster.view().recovered_followers.size(), 0);
}

#[test]
fn what_an_operator_says_of_a_missing_follower_counts_towards_the_limit() {
    let config = Config {
        recovery_removal_limit_percent: 0.0,
        ..Config::default()
    };
    let mut cluster = Cluster::with(config, &registry_of(1));
    cluster.pass(10 * MINUTE);
    cluster.nothing_left();
    assert_eq!(cluster.operator(gone("old-S1")), Reply::Ok);
    cluster.pending.clear();
    cluster.pass(60 * MINUTE);
    cluster.nothing_left();
    assert_eq!(
        count(&mut cluster, "master/recovery_slave_removals_refused"),
        1
    );
    cluster.peer(&pid(1), reregister(1, &old(1), vec![]));
    assert!(matches!(cluster.sent(&pid(1)), PeerMessage::Shutdown(_)));
}

pub(crate) fn gone(id: &str) -> master::Call {
    let mut call = master::Call::default();
    call.set_type(master::call::Type::MarkAgentGone);
    call.mark_agent_gone = Some(master::call::MarkAgentGone {
        agent_id: v1::AgentId {
            value: id.to_owned(),
        },
    });
    call
}

/// Asks about these tasks, with or without the follower they should be on.
pub(crate) fn reconcile(tasks: &[(&str, Option<&str>)]) -> scheduler::Call {
    let tasks = tasks
        .iter()
        .map(|(task, at)| scheduler::call::reconcile::Task {
            task_id: v1::TaskId {
                value: (*task).to_owned(),
            },
            agent_id: at.map(|at| v1::AgentId {
                value: at.to_owned(),
            }),
        });
    let mut ask = call(scheduler::call::Type::Reconcile);
    ask.reconcile = Some(scheduler::call::Reconcile {
        tasks: tasks.collect(),
    });
    ask
}

// Marks.

#[test]
fn draining_and_deactivation_survive_every_way_of_going_and_coming_back() {
    let drain = v1::DrainInfo {
        state: v1::DrainState::Draining.into(),
        config: v1::DrainConfig::default(),
    };
    let mut known = registry_of(1);
    known.minimum_capabilities = vec![registry::MinimumCapability {
        capability: "AGENT_DRAINING".to_owned(),
    }];
    for slave in known.slaves.iter_mut().flat_map(|all| &mut all.slaves) {
        slave.drain_info = Some(drain);
        slave.deactivated = Some(true);
    }
    let mut cluster = Cluster::with(Config::default(), &known);
    let kept = |cluster: &mut Cluster| {
        cluster.pending.drain(..).find_map(|effect| match effect {
            Effect::Persist(RegistryChange::AdmitFollower(slave)) => {
                Some((slave.drain_info, slave.deactivated))
            }
            Effect::Persist(RegistryChange::FollowerUnreachable(lost)) => {
                Some((lost.drain_info, lost.deactivated))
            }
            _ => None,
        })
    };
    let marked = Some((Some(drain), Some(true)));
    // Missing after an election, hence unreachable.
    cluster.pass(10 * MINUTE);
    assert_eq!(kept(&mut cluster), marked);
    // Back, with a running task, so that it is not drained yet.
    cluster.peer(&pid(1), back_with_task(1, &old_framework(3600.0)));
    assert_eq!(kept(&mut cluster), marked);
    let active = |cluster: &mut Cluster| cluster.view().followers.values().any(|seen| seen.active);
    assert!(!active(&mut cluster));
    // Silent, and back.
    cluster.pass(Duration::from_secs(75));
    assert_eq!(kept(&mut cluster), marked);
    cluster.peer(&pid(1), back_with_task(1, &old_framework(3600.0)));
    assert_eq!(kept(&mut cluster), marked);
    // Disconnected, and back as another one than it was.
    cluster.handle(Input::LinkBroken { pid: pid(1) });
    let mut message = back_with_task(1, &old_framework(3600.0));
    message.slave.resources = resources("cpus:8;mem:4096");
    cluster.peer(&pid(1), message);
    assert_eq!(kept(&mut cluster), marked);
    assert!(!active(&mut cluster));
}

// Forgetting.

fn unreachable_registry(since: &[(&str, i64)]) -> internal::Registry {
    let time = |minutes: i64| v1::TimeInfo {
        nanoseconds: (1_700_000_000 - 60 * minutes) * 1_000_000_000,
    };
    let id = |id: &str| v1::AgentId {
        value: id.to_owned(),
    };
    internal::Registry {
        unreachable: Some(registry::UnreachableSlaves {
            slaves: since
                .iter()
                .map(|(name, minutes)| registry::UnreachableSlave {
                    id: id(name),
                    timestamp: time(*minutes),
                    ..Default::default()
                })
                .collect(),
        }),
        gone: Some(registry::GoneSlaves {
            slaves: since
                .iter()
                .map(|(name, minutes)| registry::GoneSlave {
                    id: id(&format!("gone-{name}")),
                    timestamp: time(*minutes),
                })
                .collect(),
        }),
        ..Default::default()
    }
}

#[test]
fn the_oldest_of_too_many_and_the_too_old_are_forgotten() {
    let since = [("a", 30), ("b", 300), ("c", 20), ("d", 10)];
    for (config, forgotten) in [
        (
            Config {
                registry_max_followers: 2,
                ..Config::default()
            },
            vec!["b", "a"],
        ),
        (
            Config {
                registry_max_follower_age: 60 * MINUTE,
                ..Config::default()
            },
            vec!["b"],
        ),
        (Config::default(), vec![]),
    ] {
        let mut cluster = Cluster::with(config, &unreachable_registry(&since));
        let scheduler = cluster.subscribe(framework());
        let ask = |cluster: &mut Cluster, at: &str| {
            cluster.accepted(&scheduler, reconcile(&[("t", Some(at))]));
            cluster.update(scheduler.stream).state()
        };
        assert_eq!(ask(&mut cluster, "b"), TaskState::TaskUnreachable);
        assert_eq!(ask(&mut cluster, "gone-b"), TaskState::TaskGoneByOperator);
        cluster.pass(15 * MINUTE);
        let names = || forgotten.iter().map(|name| (*name).to_owned());
        let expected: Vec<String> = names()
            .chain(names().map(|name| format!("gone-{name}")))
            .collect();
        assert_eq!(forgotten_in(&cluster.pending), expected);
        cluster.pending.clear();
        let known = forgotten.is_empty();
        let (unreachable, gone) = if known {
            (TaskState::TaskUnreachable, TaskState::TaskGoneByOperator)
        } else {
            (TaskState::TaskUnknown, TaskState::TaskUnknown)
        };
        assert_eq!(ask(&mut cluster, "b"), unreachable);
        assert_eq!(ask(&mut cluster, "gone-b"), gone);
        assert_eq!(
            ask(&mut cluster, "d"),
            TaskState::TaskUnreachable,
            "the youngest is kept"
        );
    }
}

#[test]
fn tasks_of_a_forgotten_follower_are_forgotten_and_it_may_still_come_back() {
    let config = Config {
        registry_max_follower_age: MINUTE,
        ..Config::default()
    };
    let (mut cluster, scheduler, agent) = Cluster::running_with(config, framework());
    cluster.accepted(&scheduler, call(scheduler::call::Type::Suppress));
    cluster.pass(Duration::from_secs(75));
    assert_eq!(
        unreachable_in(&cluster.pending),
        std::slice::from_ref(&agent.id.value)
    );
    cluster.pass(30 * MINUTE);
    assert_eq!(
        forgotten_in(&cluster.pending),
        std::slice::from_ref(&agent.id.value)
    );
    cluster.pending.clear();
    let tasks = |cluster: &mut Cluster| {
        let view = cluster.view();
        let seen = view.frameworks.get("lead-0000").expect("in the view");
        (seen.tasks.size(), seen.unreachable_tasks.size())
    };
    assert_eq!(tasks(&mut cluster), (0, 0));
    cluster.accepted(
        &scheduler,
        reconcile(&[("t1", Some(agent.id.value.as_str()))]),
    );
    assert_eq!(
        cluster.update(scheduler.stream).state(),
        TaskState::TaskUnknown
    );
    let mut info = framework();
    info.id = Some(scheduler.id.clone());
    let mut message = reregister(1, &agent, vec![info]);
    let mut task = task_of("t1", &agent, TaskState::TaskRunning);
    task.framework_id = scheduler.id.clone();
    message.tasks = vec![task];
    cluster.peer(&agent.pid, message);
    assert!(matches!(
        cluster.next(),
        Effect::Persist(RegistryChange::AdmitFollower(_))
    ));
    let update = cluster.update(scheduler.stream);
    assert_eq!(
        (update.state(), update.message()),
        (TaskState::TaskRunning, "Unknown agent reregistered")
    );
    assert_eq!(tasks(&mut cluster), (1, 0));
}

// Offers.

fn with_quota(followers: u16) -> internal::Registry {
    internal::Registry {
        quota_configs: vec![v1::quota::QuotaConfig {
            role: "eng".to_owned(),
            ..Default::default()
        }],
        ..registry_of(followers)
    }
}

#[test]
fn with_quotas_offers_wait_until_most_followers_are_back() {
    let mut cluster = Cluster::with(Config::default(), &with_quota(5));
    let scheduler = cluster.subscribe(framework());
    for number in 1..=3 {
        cluster.peer(&pid(number), reregister(number, &old(number), vec![]));
        cluster.sent(&pid(number));
        cluster.nothing_left();
    }
    cluster.peer(&pid(4), reregister(4, &old(4), vec![]));
    cluster.sent(&pid(4));
    assert_eq!(cluster.offers(scheduler.stream).len(), 4);
    cluster.nothing_left();
}

#[test]
fn with_quotas_offers_wait_no_longer_than_allowed() {
    let mut cluster = Cluster::with(
        Config {
            allocator_recovery_timeout: MINUTE,
            ..Config::default()
        },
        &with_quota(5),
    );
    let scheduler = cluster.subscribe(framework());
    cluster.peer(&pid(1), reregister(1, &old(1), vec![]));
    cluster.sent(&pid(1));
    cluster.pass(Duration::from_secs(59));
    cluster.nothing_left();
    cluster.pass(Duration::from_secs(1));
    assert_eq!(cluster.offers(scheduler.stream).len(), 1);
}

#[test]
fn without_quotas_offers_wait_for_nobody() {
    let mut cluster = Cluster::with(Config::default(), &registry_of(5));
    let scheduler = cluster.subscribe(framework());
    cluster.peer(&pid(1), reregister(1, &old(1), vec![]));
    cluster.sent(&pid(1));
    assert_eq!(cluster.offers(scheduler.stream).len(), 1);
}

// Frameworks.

/// How long after the election a framework is gone that followers brought along and that never came.
fn ends_after(failover_timeout: f64, reported_after: Duration) -> Duration {
    let mut cluster = Cluster::with(Config::default(), &registry_of(1));
    let start = cluster.now;
    cluster.pass(reported_after);
    cluster.peer(&pid(1), back_with_task(1, &old_framework(failover_timeout)));
    while cluster.view().frameworks.contains_key("old-0000") {
        cluster.pass(MINUTE);
        cluster.peer(&pid(1), internal::PongSlaveMessage {});
        assert!(cluster.now.nanos() - start.nanos() < 8 * 3_600_000_000_000);
    }
    let shut_down = cluster.pending.iter().any(|effect| {
        matches!(effect, Effect::Send { message: PeerMessage::ShutdownFramework(m), .. }
            if m.framework_id.value == "old-0000")
    });
    assert!(shut_down, "the follower ends what it runs of it");
    Duration::from_nanos(cluster.now.nanos() - start.nanos())
}

#[test]
fn a_framework_that_never_comes_back_ends_its_failover_timeout_after_the_election() {
    let hours = 3.0 * 3600.0;
    assert_eq!(ends_after(hours, Duration::ZERO), 180 * MINUTE);
    assert_eq!(ends_after(hours, 5 * MINUTE), 180 * MINUTE);
    // It has to find the leader first: as long as followers may take, at least.
    assert_eq!(ends_after(0.0, Duration::ZERO), 10 * MINUTE);
    // And as long from when it became known.
    assert_eq!(ends_after(0.0, 5 * MINUTE), 15 * MINUTE);
}

#[test]
fn a_framework_that_comes_back_in_time_keeps_its_tasks() {
    let mut cluster = Cluster::with(Config::default(), &registry_of(1));
    let info = old_framework(60.0);
    cluster.peer(&pid(1), back_with_task(1, &info));
    cluster.pass(MINUTE);
    cluster.peer(&pid(1), internal::PongSlaveMessage {});
    cluster.pending.clear();
    let scheduler = cluster.subscribe(info);
    for _ in 0..80 {
        cluster.pass(Duration::from_secs(15));
        cluster.peer(&pid(1), internal::PongSlaveMessage {});
    }
    let view = cluster.view();
    let seen = view.frameworks.get("old-0000").expect("still here");
    assert!(seen.connected && !seen.recovered && seen.tasks.size() == 1);
    cluster.pending.clear();
    cluster.accepted(&scheduler, reconcile(&[]));
    assert_eq!(
        cluster.update(scheduler.stream).state(),
        TaskState::TaskRunning
    );
}

#[test]
fn what_ended_before_the_election_is_history_again() {
    let mut cluster = Cluster::with(Config::default(), &registry_of(1));
    let info = old_framework(3600.0);
    let mut message = back_with_task(1, &info);
    let ended = |id: &str| task_of(id, &old(1), TaskState::TaskFinished);
    message.completed_frameworks = vec![internal::archive::Framework {
        framework_info: info.clone(),
        tasks: vec![ended("e1"), ended("e2")],
        ..Default::default()
    }];
    cluster.peer(&pid(1), message.clone());
    let history = |cluster: &mut Cluster| -> Vec<String> {
        let view = cluster.view();
        let seen = view.frameworks.get("old-0000").expect("recovered");
        let tasks = seen.completed_tasks.iter();
        tasks.map(|task| task.task_id.value.clone()).collect()
    };
    assert_eq!(history(&mut cluster), ["e1", "e2"]);
    // Unreachable and back: nothing is history twice.
    cluster.pass(Duration::from_secs(75));
    cluster.peer(&pid(1), message);
    assert_eq!(history(&mut cluster), ["e1", "e2"]);
}

#[test]
fn executors_of_recovered_frameworks_hold_their_resources() {
    let mut cluster = Cluster::with(Config::default(), &registry_of(1));
    let info = old_framework(3600.0);
    let mut message = reregister(1, &old(1), vec![info.clone()]);
    message.executor_infos = vec![v1::ExecutorInfo {
        executor_id: v1::ExecutorId {
            value: "e".to_owned(),
        },
        framework_id: info.id.clone(),
        resources: resources("cpus:1;mem:64"),
        command: Some(v1::CommandInfo::default()),
        ..Default::default()
    }];
    cluster.peer(&pid(1), message);
    cluster.pending.clear();
    let scheduler = cluster.subscribe(info);
    cluster.sent(&pid(1));
    assert_eq!(cpus(&cluster.offer(scheduler.stream)), Some(3.0));
}

#[test]
fn reservations_and_volumes_that_a_follower_checkpointed_are_part_of_what_it_has() {
    let mut cluster = Cluster::with(Config::default(), &registry_of(1));
    let mut message = reregister(1, &old(1), vec![]);
    let mut reserved = resources("cpus:1");
    for resource in &mut reserved {
        let mut reservation = v1::resource::ReservationInfo {
            role: Some("eng".to_owned()),
            ..Default::default()
        };
        reservation.set_type(v1::resource::reservation_info::Type::Dynamic);
        resource.reservations = vec![reservation];
    }
    message.checkpointed_resources = reserved.clone();
    cluster.peer(&pid(1), message.clone());
    cluster.pending.clear();
    // Nobody else is offered what is reserved.
    let other = cluster.subscribe(framework());
    assert_eq!(cpus(&cluster.offer(other.stream)), Some(3.0));
    let total = |cluster: &mut Cluster| {
        let view = cluster.view();
        let seen = view.followers.values().next().expect("registered");
        seen.total
            .iter()
            .filter(|r| !r.reservations.is_empty())
            .count()
    };
    assert_eq!(total(&mut cluster), 1);
    // Also when it comes back to a leader that knows it.
    cluster.handle(Input::LinkBroken { pid: pid(1) });
    cluster.peer(&pid(1), message);
    assert_eq!(total(&mut cluster), 1);
    // What does not fit what it has is a mistake of the follower: it is not let in.
    let mut cluster = Cluster::with(Config::default(), &registry_of(1));
    let mut message = reregister(1, &old(1), vec![]);
    message.slave.resources = resources("mem:4096");
    message.checkpointed_resources = reserved;
    cluster.peer(&pid(1), message);
    cluster.nothing_left();
    assert!(cluster.view().followers.is_empty());
}
