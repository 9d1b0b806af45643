//! Followers go away, in every way.

use crate::{
    followers::{reregister, running_task},
    harness::*,
};
use std::time::Duration;
use tepui_leader::{Effect, Input, RegistryChange, Reply};
use tepui_protocol::{
    internal,
    peer::PeerMessage,
    v1::{self, TaskState, master, scheduler, task_status::Reason},
};

#[test]
fn a_follower_that_answers_no_pings_is_unreachable_and_may_come_back() {
    for (info, state) in [
        (framework(), TaskState::TaskUnreachable),
        (simple_checkpointed(), TaskState::TaskLost),
    ] {
        let (mut cluster, scheduler, agent) = Cluster::running(info.clone());
        // Offers that came back meanwhile are of no interest here.
        cluster.accepted(&scheduler, call(scheduler::call::Type::Suppress));
        cluster.pass(Duration::from_secs(74));
        cluster.nothing_left();
        cluster.pass(Duration::from_secs(1));
        match cluster.next() {
            Effect::Persist(RegistryChange::FollowerUnreachable(lost)) => {
                assert_eq!(lost.id, agent.id)
            }
            other => panic!("expected the registry first, got {other:?}"),
        }
        let update = cluster.update(scheduler.stream);
        assert_eq!(
            (update.state(), update.reason()),
            (state, Reason::AgentRemoved)
        );
        assert_eq!(update.message(), "health check timed out");
        assert!(update.unreachable_time.is_some());
        assert!(cluster.event(scheduler.stream).failure.is_some());
        cluster.nothing_left();
        let view = cluster.view();
        assert_eq!(
            (view.followers.size(), view.unreachable_followers.size()),
            (0, 1)
        );
        assert_eq!(
            view.frameworks
                .get("lead-0000")
                .map(|f| (f.tasks.size(), f.unreachable_tasks.size())),
            Some((0, 1))
        );

        let mut back = info;
        back.id = Some(scheduler.id.clone());
        let mut message = reregister(1, &agent, vec![back]);
        let mut task = v1::Task {
            name: "t1".to_owned(),
            task_id: v1::TaskId {
                value: "t1".to_owned(),
            },
            framework_id: scheduler.id.clone(),
            agent_id: agent.id.clone(),
            resources: resources("cpus:1;mem:128"),
            ..Default::default()
        };
        task.set_state(TaskState::TaskRunning);
        message.tasks = vec![task];
        cluster.peer(&agent.pid, message);
        assert!(matches!(
            cluster.next(),
            Effect::Persist(RegistryChange::AdmitFollower(_))
        ));
        let update = cluster.update(scheduler.stream);
        assert_eq!(
            (update.state(), update.reason()),
            (TaskState::TaskRunning, Reason::AgentReregistered)
        );
        let PeerMessage::SlaveReregistered(_) = cluster.sent(&agent.pid) else {
            panic!("expected the answer")
        };
        let PeerMessage::UpdateFramework(_) = cluster.sent(&agent.pid) else {
            panic!("expected UpdateFramework")
        };
        cluster.nothing_left();
        let view = cluster.view();
        assert_eq!(
            view.frameworks
                .get("lead-0000")
                .map(|f| (f.tasks.size(), f.unreachable_tasks.size())),
            Some((1, 0))
        );
    }
}

fn simple_checkpointed() -> v1::FrameworkInfo {
    v1::FrameworkInfo {
        checkpoint: Some(true),
        ..simple_framework()
    }
}

#[test]
fn pongs_keep_a_follower() {
    let (mut cluster, scheduler, agent) = Cluster::running(framework());
    cluster.accepted(&scheduler, call(scheduler::call::Type::Suppress));
    for _ in 0..20 {
        cluster.pass(Duration::from_secs(15));
        cluster.peer(&agent.pid, internal::PongSlaveMessage {});
    }
    cluster.nothing_left();
    assert_eq!(cluster.view().followers.size(), 1);
}

#[test]
fn a_broken_link_rescinds_offers_and_ends_what_has_no_checkpoint() {
    let mut cluster = Cluster::new();
    let agent = cluster.register(1, "cpus:4;mem:4096");
    let scheduler = cluster.subscribe(simple_framework());
    let offer = cluster.offer(scheduler.stream);
    cluster.accepted(
        &scheduler,
        launch(&offer, vec![task("t1", &offer, "cpus:1;mem:128")]),
    );
    cluster.sent(&agent.pid);
    cluster.pass(Duration::from_secs(6));
    let offer = cluster.offer(scheduler.stream);

    cluster.handle(Input::LinkBroken {
        pid: agent.pid.clone(),
    });
    let event = cluster.event(scheduler.stream);
    assert_eq!(
        event.rescind.as_ref().map(|rescind| &rescind.offer_id),
        Some(&offer.id)
    );
    let update = cluster.update(scheduler.stream);
    assert_eq!(
        (update.state(), update.reason()),
        (TaskState::TaskLost, Reason::AgentDisconnected)
    );
    assert_eq!(update.message(), "Agent host1 disconnected");
    cluster.nothing_left();
    assert!(
        cluster
            .view()
            .followers
            .values()
            .all(|seen| !seen.connected && !seen.active)
    );

    cluster.handle(Input::LinkBroken { pid: agent.pid });
    cluster.nothing_left();
}

#[test]
fn what_was_given_up_with_a_link_is_killed_where_it_still_runs() {
    let (mut cluster, scheduler, agent) = Cluster::running(simple_framework());
    let pid = agent.pid.clone();
    cluster.handle(Input::LinkBroken { pid });
    assert_eq!(
        cluster.update(scheduler.stream).state(),
        TaskState::TaskLost
    );
    let mut info = simple_framework();
    info.id = Some(scheduler.id.clone());
    let mut message = reregister(1, &agent, vec![info]);
    let runs = running_task("t1", &scheduler.id, &agent, TaskState::TaskRunning);
    message.tasks.push(runs);
    cluster.peer(&agent.pid, message);
    let killed = cluster.pending.iter().any(|effect| {
        matches!(effect, Effect::Send { message: PeerMessage::KillTask(kill), .. }
            if kill.task_id.value == "t1")
    });
    assert!(killed, "{:#?}", cluster.pending);
}

#[test]
fn a_disconnected_follower_has_ten_minutes() {
    let (mut cluster, scheduler, agent) = Cluster::running(framework());
    cluster.handle(Input::LinkBroken {
        pid: agent.pid.clone(),
    });
    for _ in 0..39 {
        cluster.pass(Duration::from_secs(15));
        cluster.peer(&agent.pid, internal::PongSlaveMessage {});
    }
    cluster.nothing_left();
    cluster.pass(Duration::from_secs(15));
    assert!(matches!(
        cluster.next(),
        Effect::Persist(RegistryChange::FollowerUnreachable(_))
    ));
    assert_eq!(
        cluster.update(scheduler.stream).message(),
        "agent did not reregister within 10mins after disconnecting"
    );
}

#[test]
fn a_follower_may_leave() {
    let (mut cluster, scheduler, agent) = Cluster::running(framework());
    cluster.peer(
        &pid(9),
        internal::UnregisterSlaveMessage {
            slave_id: agent.id.clone(),
        },
    );
    cluster.nothing_left();
    cluster.peer(
        &agent.pid,
        internal::UnregisterSlaveMessage {
            slave_id: agent.id.clone(),
        },
    );
    assert!(matches!(
        cluster.next(),
        Effect::Persist(RegistryChange::RemoveFollower(_))
    ));
    assert_eq!(
        cluster.update(scheduler.stream).message(),
        "Agent host1 removed: the agent unregistered"
    );
    assert!(cluster.event(scheduler.stream).failure.is_some());
    cluster.nothing_left();
    let view = cluster.view();
    assert_eq!(
        view.metrics
            .count("master/slave_removals/reason_unregistered"),
        1
    );
    assert_eq!(
        view.frameworks
            .get("lead-0000")
            .map(|f| f.completed_tasks.len()),
        Some(1)
    );
}

#[test]
fn a_follower_that_is_gone_stays_gone() {
    let (mut cluster, scheduler, agent) = Cluster::running(framework());
    let gone = |id: &str| {
        let mut call = master::Call::default();
        call.set_type(master::call::Type::MarkAgentGone);
        call.mark_agent_gone = Some(master::call::MarkAgentGone {
            agent_id: v1::AgentId {
                value: id.to_owned(),
            },
        });
        call
    };
    assert_eq!(
        cluster.operator(gone("nobody")),
        Reply::Error {
            status: 404,
            message: "Agent 'nobody' not found".to_owned()
        }
    );
    assert_eq!(cluster.operator(gone(&agent.id.value)), Reply::Ok);
    assert!(matches!(
        cluster.next(),
        Effect::Persist(RegistryChange::FollowerGone(_))
    ));
    let PeerMessage::Shutdown(message) = cluster.sent(&agent.pid) else {
        panic!("expected a shutdown")
    };
    assert_eq!(message.message(), "Agent has been marked gone");
    let update = cluster.update(scheduler.stream);
    assert_eq!(
        (update.state(), update.reason()),
        (
            TaskState::TaskGoneByOperator,
            Reason::AgentRemovedByOperator
        )
    );
    assert!(cluster.event(scheduler.stream).failure.is_some());
    cluster.nothing_left();

    assert_eq!(cluster.operator(gone(&agent.id.value)), Reply::Ok);
    cluster.peer(&agent.pid, reregister(1, &agent, vec![]));
    let PeerMessage::Shutdown(_) = cluster.sent(&agent.pid) else {
        panic!("expected a shutdown")
    };
    cluster.nothing_left();
}

#[test]
fn an_unreachable_follower_can_be_declared_gone() {
    let (mut cluster, scheduler, agent) = Cluster::running(framework());
    cluster.accepted(&scheduler, call(scheduler::call::Type::Suppress));
    cluster.pass(Duration::from_secs(75));
    cluster.pending.clear();
    let mut call = master::Call::default();
    call.set_type(master::call::Type::MarkAgentGone);
    call.mark_agent_gone = Some(master::call::MarkAgentGone { agent_id: agent.id });
    assert_eq!(cluster.operator(call), Reply::Ok);
    assert!(matches!(
        cluster.next(),
        Effect::Persist(RegistryChange::FollowerGone(_))
    ));
    assert_eq!(
        cluster.update(scheduler.stream).state(),
        TaskState::TaskGoneByOperator
    );
    cluster.nothing_left();
    let view = cluster.view();
    assert_eq!(view.unreachable_followers.size(), 0);
    let seen = view.frameworks.get("lead-0000").expect("in the view");
    assert_eq!(
        (seen.unreachable_tasks.size(), seen.completed_tasks.len()),
        (0, 1)
    );
}

#[test]
fn what_a_follower_says_of_a_task_that_ended_brings_nothing_back() {
    let (mut cluster, scheduler, agent) = Cluster::running(framework());
    cluster.peer(
        &agent.pid,
        status(&scheduler, &agent, "t1", TaskState::TaskUnreachable, 2),
    );
    cluster.pending.clear();
    cluster.peer(
        &agent.pid,
        status(&scheduler, &agent, "t1", TaskState::TaskRunning, 3),
    );
    cluster.update(scheduler.stream);
    cluster.nothing_left();
    assert_eq!(
        cluster
            .view()
            .frameworks
            .get("lead-0000")
            .map(|f| f.used.len()),
        Some(0)
    );
}
