//! Subscription, failover and the end of frameworks.

use crate::harness::*;
use std::time::Duration;
use tepui_leader::{Config, Effect, Input, Reply};
use tepui_protocol::{
    internal,
    peer::PeerMessage,
    v1::{self, TaskState, scheduler},
};

/// The error that answers a subscription; the stream is closed behind it.
fn refusal(cluster: &mut Cluster, info: v1::FrameworkInfo) -> String {
    let (request, stream) = cluster.send_subscribe(info);
    assert!(
        matches!(cluster.next(), Effect::OpenStream { request: r, stream: s } if (r, s) == (request, stream))
    );
    let event = cluster.event(stream);
    assert!(matches!(cluster.next(), Effect::CloseStream { stream: s } if s == stream));
    cluster.nothing_left();
    event.error.clone().expect("an ERROR event").message
}

#[test]
fn descriptions_that_make_no_sense_are_refused_in_known_words() {
    let multi = framework;
    let with = |change: fn(&mut v1::FrameworkInfo)| {
        let mut info = multi();
        change(&mut info);
        info
    };
    let simple = |change: fn(&mut v1::FrameworkInfo)| {
        let mut info = simple_framework();
        change(&mut info);
        info
    };
    let cases = [
        (
            with(|info| info.role = Some("x".to_owned())),
            "'FrameworkInfo.role' must not be set when the framework is MULTI_ROLE capable",
        ),
        (
            simple(|info| info.roles = vec!["a".to_owned(), "b".to_owned()]),
            "'FrameworkInfo.roles' must not be set when the framework is not MULTI_ROLE capable",
        ),
        (
            with(|info| info.roles = vec!["/a".to_owned()]),
            "'FrameworkInfo.roles' contains invalid role: Role '/a' cannot start with a slash",
        ),
        (
            with(|info| info.roles = vec!["a".to_owned(), "a".to_owned()]),
            "'FrameworkInfo.roles' contains duplicate items: { a }",
        ),
        (
            simple(|info| info.role = Some(String::new())),
            "'FrameworkInfo.role' is not a valid role: Role names cannot be the empty string",
        ),
        (
            with(|info| info.failover_timeout = Some(1e300)),
            "The framework failover_timeout (1e+300) is invalid",
        ),
        (
            with(|info| {
                info.id = Some(v1::FrameworkId {
                    value: "a/b".to_owned(),
                })
            }),
            "'a/b' contains invalid characters",
        ),
    ];
    for (info, expected) in cases {
        assert_eq!(refusal(&mut Cluster::new(), info), expected);
    }
}

#[test]
fn settings_bar_roles_and_root() {
    let config = Config {
        roles: Some(["ops".to_owned()].into()),
        root_submissions: false,
        ..Config::default()
    };
    let mut cluster = Cluster::with(config, &internal::Registry::default());
    let mut info = framework();
    info.roles = vec!["dev".to_owned()];
    assert_eq!(
        refusal(&mut cluster, info.clone()),
        "Roles { dev } are not present in the master's --roles"
    );
    info.roles = vec!["ops".to_owned()];
    info.user = "root".to_owned();
    assert_eq!(
        refusal(&mut cluster, info),
        "User 'root' is not allowed to run frameworks without --root_submissions set"
    );
}

#[test]
fn a_framework_that_an_election_brought_along_is_taken_at_its_word() {
    let mut cluster = Cluster::new();
    let mut info = framework();
    info.id = Some(v1::FrameworkId {
        value: "from-before".to_owned(),
    });
    let scheduler = cluster.subscribe(info);
    assert_eq!(scheduler.id.value, "from-before");
    cluster.nothing_left();
    let view = cluster.view();
    let seen = view.frameworks.get("from-before").expect("in the view");
    assert!(seen.connected && seen.active && !seen.recovered && seen.reregistered.is_some());
}

#[test]
fn a_framework_on_a_new_stream_takes_over_from_the_old_one() {
    let (mut cluster, old, agent) = Cluster::running(framework());
    let mut info = framework();
    info.id = Some(old.id.clone());
    info.name = "renamed".to_owned();
    let (_, stream) = cluster.send_subscribe(info);
    assert!(matches!(cluster.next(), Effect::OpenStream { .. }));
    let error = cluster
        .event(old.stream)
        .error
        .clone()
        .expect("an ERROR event");
    assert_eq!(error.message, "Framework failed over");
    assert!(matches!(cluster.next(), Effect::CloseStream { stream } if stream == old.stream));
    let subscribed = cluster
        .event(stream)
        .subscribed
        .clone()
        .expect("SUBSCRIBED");
    assert_eq!(subscribed.framework_id, old.id);
    let PeerMessage::UpdateFramework(update) = cluster.sent(&agent.pid) else {
        panic!("expected UpdateFramework")
    };
    assert_eq!(
        update.framework_info.map(|info| info.name),
        Some("renamed".to_owned())
    );
    // It had refused the rest when it launched; filters outlive the stream.
    cluster.nothing_left();
    assert_eq!(
        cluster
            .view()
            .frameworks
            .get("lead-0000")
            .map(|f| f.tasks.size()),
        Some(1)
    );

    // The old stream is nobody's: its end means nothing, and calls on it are refused.
    cluster.handle(Input::StreamClosed { stream: old.stream });
    cluster.nothing_left();
    cluster.call(&old, call(scheduler::call::Type::Revive));
    assert!(matches!(
        cluster.next(),
        Effect::Reply {
            reply: Reply::Error { status: 400, .. },
            ..
        }
    ));
    cluster.nothing_left();
}

#[test]
fn tasks_outlive_a_disconnection_but_not_the_failover_timeout() {
    let (mut cluster, scheduler, agent) = Cluster::running(framework());
    cluster.handle(Input::StreamClosed {
        stream: scheduler.stream,
    });
    cluster.nothing_left();
    let request = cluster.call(&scheduler, call(scheduler::call::Type::Revive));
    match cluster.next() {
        Effect::Reply {
            request: answered,
            reply: Reply::Error { status, message },
        } => {
            assert_eq!(
                (answered, status, message.as_str()),
                (request, 403, "Framework is not subscribed")
            );
        }
        other => panic!("expected 403, got {other:?}"),
    }
    // Updates wait with the follower until somebody acknowledges them.
    cluster.peer(
        &agent.pid,
        status(&scheduler, &agent, "t1", TaskState::TaskRunning, 2),
    );
    cluster.pass(Duration::from_secs(59));
    cluster.nothing_left();
    cluster.pass(Duration::from_secs(2));
    let PeerMessage::ShutdownFramework(message) = cluster.sent(&agent.pid) else {
        panic!("expected a shutdown")
    };
    assert_eq!(message.framework_id, scheduler.id);
    cluster.nothing_left();
    let view = cluster.view();
    assert!(view.frameworks.is_empty());
    let completed = view.completed_frameworks.peek().expect("remembered");
    let task = completed.completed_tasks.peek().expect("remembered");
    assert_eq!(
        (task.state(), completed.unregistered.is_some()),
        (TaskState::TaskKilled, true)
    );

    let mut info = framework();
    info.id = Some(scheduler.id);
    assert_eq!(refusal(&mut cluster, info), "Framework has been removed");
}

#[test]
fn a_torn_down_framework_frees_everything() {
    let (mut cluster, scheduler, agent) = Cluster::running(framework());
    let other = cluster.subscribe(framework());
    assert_eq!(cpus(&cluster.offer(other.stream)), Some(3.0));
    cluster.accepted(&scheduler, call(scheduler::call::Type::Teardown));
    assert!(matches!(
        cluster.sent(&agent.pid),
        PeerMessage::ShutdownFramework(_)
    ));
    assert!(matches!(cluster.next(), Effect::CloseStream { stream } if stream == scheduler.stream));
    assert_eq!(cpus(&cluster.offer(other.stream)), Some(1.0));
    cluster.nothing_left();
    // A late update is for nobody.
    cluster.peer(
        &agent.pid,
        status(&scheduler, &agent, "t1", TaskState::TaskKilled, 3),
    );
    cluster.nothing_left();
    assert_eq!(
        cluster
            .view()
            .metrics
            .count("master/invalid_status_updates"),
        1
    );
}

#[test]
fn what_may_not_change_stays_and_what_may_not_be_asked_is_refused() {
    let (mut cluster, scheduler, agent) = Cluster::running(framework());
    let mut update = |change: fn(&mut v1::FrameworkInfo)| {
        let mut info = framework();
        info.id = Some(scheduler.id.clone());
        change(&mut info);
        let mut update = call(scheduler::call::Type::UpdateFramework);
        update.update_framework = Some(scheduler::call::UpdateFramework {
            framework_info: info,
            ..Default::default()
        });
        cluster.call(&scheduler, update);
        match cluster.pending.remove(cluster.pending.len() - 1) {
            Effect::Reply { reply, .. } => reply,
            other => panic!("expected a reply, got {other:?}"),
        }
    };
    let bad = |message: &str| Reply::Error {
        status: 400,
        message: message.to_owned(),
    };
    assert_eq!(
        update(|info| info.user = "other".to_owned()),
        bad(
            "FrameworkInfo update is not valid: Updating 'FrameworkInfo.user' is unsupported; attempted to update \
             from 'nobody' to 'other'"
        )
    );
    assert_eq!(
        update(|info| info.principal = Some("p".to_owned())),
        bad("FrameworkInfo update is not valid: Changing framework's principal is not allowed.")
    );
    assert_eq!(
        update(|info| info.roles = vec!["..".to_owned()]),
        bad(
            "Supplied FrameworkInfo is not valid: 'FrameworkInfo.roles' contains invalid role: Role '..' cannot \
             include '..' as a component"
        )
    );
    assert_eq!(update(|_| {}), Reply::Ok);
    cluster.nothing_left();
    let mut info = framework();
    info.id = Some(scheduler.id.clone());
    info.name = "new".to_owned();
    let mut update = call(scheduler::call::Type::UpdateFramework);
    update.update_framework = Some(scheduler::call::UpdateFramework {
        framework_info: info,
        ..Default::default()
    });
    cluster.call(&scheduler, update);
    let PeerMessage::UpdateFramework(_) = cluster.sent(&agent.pid) else {
        panic!("followers hear of it")
    };
    assert!(matches!(
        cluster.next(),
        Effect::Reply {
            reply: Reply::Ok,
            ..
        }
    ));
    cluster.nothing_left();
}

#[test]
fn every_stream_has_heartbeats() {
    let mut cluster = Cluster::new();
    let scheduler = cluster.subscribe(framework());
    let mut beats = 0;
    for _ in 0..4 {
        cluster.now = cluster.now + Duration::from_secs(15);
        let mut effects = tepui_leader::Effects::default();
        cluster
            .leader
            .handle(cluster.now, Input::Tick, &mut effects);
        beats += effects
            .drain()
            .filter(|effect| matches!(effect, Effect::Event { stream, .. } if *stream == scheduler.stream))
            .count();
    }
    assert_eq!(beats, 4);
}

#[test]
fn only_so_many_completed_tasks_and_frameworks_are_kept() {
    let config = Config {
        max_completed_frameworks: 2,
        max_completed_tasks_per_framework: 3,
        ..Config::default()
    };
    let mut cluster = Cluster::with(config, &internal::Registry::default());
    let agent = cluster.register(1, "cpus:4;mem:4096");
    for _ in 0..4 {
        let scheduler = cluster.subscribe(framework());
        let mut offer = cluster.offer(scheduler.stream);
        for number in 0..5u8 {
            let id = format!("t{number}");
            cluster.accepted(
                &scheduler,
                launch(&offer, vec![task(&id, &offer, "cpus:1;mem:128")]),
            );
            cluster.sent(&agent.pid);
            cluster.peer(
                &agent.pid,
                status(&scheduler, &agent, &id, TaskState::TaskFinished, number),
            );
            cluster.update(scheduler.stream);
            offer = cluster.offer(scheduler.stream);
            cluster.accepted(&scheduler, acknowledge(&agent, &id, number));
            cluster.sent(&agent.pid);
        }
        assert_eq!(
            cluster
                .view()
                .frameworks
                .get(scheduler.id.value.as_str())
                .map(|f| f.completed_tasks.len()),
            Some(3)
        );
        cluster.accepted(&scheduler, call(scheduler::call::Type::Teardown));
        cluster.pending.clear();
    }
    assert_eq!(cluster.view().completed_frameworks.len(), 2);
}
