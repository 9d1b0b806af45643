//! Custom executors that speak libprocess: the messages of a v0 driver, in and out.

use crate::harness::*;
use std::time::Duration;
use tepui_follower::{
    io::{Effect, Input, ProcessName},
    view::ExecutorState,
};
use tepui_model::container::{ContainerEvent, ContainerId, ExitStatus};
use tepui_protocol::{
    internal as i,
    peer::{PeerMessage, Pid},
    v1::{self, TaskState},
};

const SECOND: Duration = Duration::from_secs(1);

fn pid() -> Pid {
    "executor(1)@127.0.0.1:44081".parse().unwrap()
}

fn elsewhere() -> Pid {
    "executor(1)@127.0.0.1:44082".parse().unwrap()
}

fn custom(id: &str) -> v1::TaskInfo {
    v1::TaskInfo {
        executor: Some(custom_executor("e")),
        ..task(id)
    }
}

fn checkpointing() -> v1::FrameworkInfo {
    v1::FrameworkInfo {
        checkpoint: Some(true),
        ..framework()
    }
}

fn says(w: &mut World, from: &Pid, message: impl Into<PeerMessage>) {
    w.step(Input::Peer {
        from: from.clone(),
        to: ProcessName::Follower,
        message: message.into(),
    });
}

fn register(executor: &str) -> i::RegisterExecutorMessage {
    i::RegisterExecutorMessage {
        framework_id: framework().id.unwrap(),
        executor_id: v1::ExecutorId {
            value: executor.into(),
        },
    }
}

fn reregister(executor: &str) -> i::ReregisterExecutorMessage {
    let i::RegisterExecutorMessage {
        framework_id,
        executor_id,
    } = register(executor);
    i::ReregisterExecutorMessage {
        framework_id,
        executor_id,
        ..Default::default()
    }
}

/// As `sendStatusUpdate` of a driver makes it.
fn status_update(task: &str, state: TaskState, number: u8) -> i::StatusUpdateMessage {
    let uuid = bytes_of(number);
    let agent_id = Some(v1::AgentId { value: ID.into() });
    i::StatusUpdateMessage {
        update: i::StatusUpdate {
            framework_id: framework().id.unwrap(),
            executor_id: Some(register("e").executor_id),
            slave_id: agent_id.clone(),
            status: v1::TaskStatus {
                task_id: v1::TaskId { value: task.into() },
                state: state.into(),
                agent_id,
                uuid: Some(uuid.clone()),
                ..Default::default()
            },
            timestamp: 5.0,
            uuid: Some(uuid),
            latest_state: None,
        },
        pid: Some(pid().to_string()),
    }
}

fn bytes_of(number: u8) -> bytes::Bytes {
    let mut uuid = [number; 16];
    uuid[6] = 0x40;
    uuid.to_vec().into()
}

/// What was sent to a process among the effects; the others are thrown away.
fn sent_to(w: &mut World, to: &Pid) -> Vec<PeerMessage> {
    let sent = |effect| match effect {
        Effect::Send { to: t, message, .. } if &t == to => Some(message),
        _ => None,
    };
    w.take().into_iter().filter_map(sent).collect()
}

fn state(w: &World) -> ExecutorState {
    let view = w.follower.view();
    view.frameworks
        .get(FRAMEWORK)
        .unwrap()
        .executors
        .get("e")
        .unwrap()
        .state
}

fn registered_in(info: v1::FrameworkInfo) -> (World, ContainerId) {
    let mut w = World::registered();
    w.run_in(info, custom("t"));
    let container = w.launched().container;
    w.step(Input::Container {
        container: container.clone(),
        event: ContainerEvent::Launched { pid: 42 },
    });
    says(&mut w, &pid(), register("e"));
    // What is checkpointed is another test's matter.
    let mut seen = w.seen();
    seen.retain(|seen| seen != "persist");
    assert_eq!(
        seen,
        [
            "ExecutorRegisteredMessage to executor(1)",
            "RunTaskMessage to executor(1)"
        ]
    );
    (w, container)
}

/// A custom executor with task `t` that has registered.
fn registered() -> (World, ContainerId) {
    registered_in(framework())
}

#[test]
fn a_driver_that_registers_hears_who_it_is_and_gets_its_tasks() {
    let mut w = World::registered();
    w.run(custom("t"));
    w.launched();
    says(&mut w, &pid(), register("e"));
    let sent = w.take();
    let [
        Effect::Send {
            to,
            from,
            message: PeerMessage::ExecutorRegistered(hello),
        },
        Effect::Send {
            message: PeerMessage::RunTask(run),
            ..
        },
    ] = &sent[..]
    else {
        panic!("{sent:?}");
    };
    assert_eq!((to, *from), (&pid(), ProcessName::Follower));
    assert_eq!(hello.executor_info.executor_id.value, "e");
    assert_eq!(hello.framework_info, framework());
    assert_eq!(hello.slave_id.value, ID);
    assert_eq!(hello.slave_info.hostname, "follower.test");
    assert_eq!(run.task.task_id.value, "t");
    assert_eq!(run.framework, framework());
    assert_eq!(run.pid.as_deref(), Some("@0.0.0.0:0"));
    assert_eq!(state(&w), ExecutorState::Running);
    assert!(
        w.follower
            .next_deadline()
            .is_none_or(|at| at >= w.now + 60 * SECOND),
        "it is waited for"
    );
}

#[test]
fn updates_of_a_driver_are_forwarded_and_acknowledged_to_it() {
    let (mut w, container) = registered();
    says(
        &mut w,
        &pid(),
        status_update("t", TaskState::TaskRunning, 1),
    );
    let sent = w.take();
    let [
        Effect::Send {
            message: PeerMessage::StatusUpdate(forwarded),
            ..
        },
        Effect::Send {
            to,
            message: PeerMessage::StatusUpdateAcknowledgement(ack),
            ..
        },
    ] = &sent[..]
    else {
        panic!("{sent:?}");
    };
    assert_eq!(to, &pid());
    assert_eq!((ack.task_id.value.as_str(), &ack.uuid), ("t", &bytes_of(1)));
    assert_eq!(ack.slave_id.value, ID);
    let update = &forwarded.update;
    assert_eq!(forwarded.pid.as_deref(), Some("slave(1)@127.0.0.1:5051"));
    assert_eq!(update.status.source(), v1::task_status::Source::Executor);
    let status = update.status.container_status.as_ref().unwrap();
    assert_eq!(status.container_id, Some(container.to_proto()));
    assert_eq!(status.executor_pid, Some(42));
    // A driver sends it until it hears of it; the framework hears it once.
    says(
        &mut w,
        &pid(),
        status_update("t", TaskState::TaskRunning, 1),
    );
    assert_eq!(
        w.seen(),
        ["StatusUpdateAcknowledgementMessage to executor(1)"]
    );
}

#[test]
fn updates_of_checkpointing_frameworks_are_safe_before_they_are_acknowledged() {
    let (mut w, _) = registered_in(checkpointing());
    says(
        &mut w,
        &pid(),
        status_update("t", TaskState::TaskFinished, 1),
    );
    assert_eq!(
        w.seen(),
        [
            "persist",
            "TASK_FINISHED of t () to master",
            "StatusUpdateAcknowledgementMessage to executor(1)"
        ]
    );
}

#[test]
fn an_update_of_a_task_that_nobody_has_is_acknowledged_all_the_same() {
    let (mut w, _) = registered();
    says(
        &mut w,
        &pid(),
        status_update("other", TaskState::TaskLost, 1),
    );
    let mut seen = w.seen();
    seen.sort();
    assert_eq!(
        seen,
        [
            "StatusUpdateAcknowledgementMessage to executor(1)",
            "TASK_LOST of other () to master"
        ]
    );
}

#[test]
fn a_driver_that_says_staging_is_shut_down() {
    let (mut w, _) = registered();
    says(
        &mut w,
        &pid(),
        status_update("t", TaskState::TaskStaging, 1),
    );
    assert_eq!(w.seen(), ["ShutdownExecutorMessage to executor(1)"]);
}

#[test]
fn kills_messages_and_shutdown_reach_the_driver() {
    let (mut w, container) = registered();
    w.leader_says(i::KillTaskMessage {
        framework_id: framework().id.unwrap(),
        task_id: v1::TaskId { value: "t".into() },
        kill_policy: Some(v1::KillPolicy {
            grace_period: Some(v1::DurationInfo { nanoseconds: 7 }),
        }),
    });
    let [PeerMessage::KillTask(kill)] = &sent_to(&mut w, &pid())[..] else {
        panic!();
    };
    assert_eq!(
        kill.kill_policy.unwrap().grace_period.unwrap().nanoseconds,
        7
    );
    w.leader_says(i::FrameworkToExecutorMessage {
        slave_id: v1::AgentId { value: ID.into() },
        framework_id: framework().id.unwrap(),
        executor_id: register("e").executor_id,
        data: "hello".into(),
    });
    let [PeerMessage::FrameworkToExecutor(message)] = &sent_to(&mut w, &pid())[..] else {
        panic!();
    };
    assert_eq!(&message.data[..], b"hello");
    w.leader_says(i::ShutdownExecutorMessage {
        executor_id: Some(register("e").executor_id),
        framework_id: framework().id,
    });
    let shutdown = sent_to(&mut w, &pid());
    assert_eq!(
        shutdown,
        [PeerMessage::from(i::ShutdownExecutorMessage::default())]
    );
    w.pass(6 * SECOND);
    assert_eq!(w.seen(), ["destroy"]);
    w.exited(&container, ExitStatus::Signal(9));
    assert_eq!(
        w.seen(),
        [
            "TASK_FAILED of t (Executor terminated) to master",
            "ExitedExecutor e 9 to master"
        ]
    );
}

#[test]
fn a_message_of_a_driver_goes_to_its_framework() {
    let (mut w, _) = registered();
    let message = i::ExecutorToFrameworkMessage {
        slave_id: v1::AgentId { value: ID.into() },
        framework_id: framework().id.unwrap(),
        executor_id: register("e").executor_id,
        data: "up".into(),
    };
    says(&mut w, &pid(), message.clone());
    assert_eq!(w.take_sent(), [PeerMessage::from(message)]);
}

#[test]
fn tasks_launched_later_follow_and_groups_come_task_by_task() {
    let (mut w, _) = registered();
    w.leader_says(i::RunTaskGroupMessage {
        framework: framework(),
        executor: custom_executor("e"),
        task_group: v1::TaskGroupInfo {
            tasks: vec![task("a"), task("b")],
        },
        launch_executor: Some(false),
        ..Default::default()
    });
    let ids: Vec<_> = sent_to(&mut w, &pid())
        .into_iter()
        .map(|message| match message {
            PeerMessage::RunTask(m) => m.task.task_id.value,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(ids, ["a", "b"]);
}

#[test]
fn executors_that_are_not_expected_are_told_to_go() {
    let (mut w, container) = registered();
    let stranger = elsewhere();
    let go = [PeerMessage::from(i::ShutdownExecutorMessage::default())];
    // Again, from elsewhere; unknown; of an unknown framework.
    says(&mut w, &stranger, register("e"));
    assert_eq!(sent_to(&mut w, &stranger), go);
    says(&mut w, &stranger, register("other"));
    assert_eq!(sent_to(&mut w, &stranger), go);
    let mut unknown = register("e");
    unknown.framework_id.value = "other".into();
    says(&mut w, &stranger, unknown);
    assert_eq!(sent_to(&mut w, &stranger), go);
    says(&mut w, &stranger, reregister("e"));
    assert_eq!(sent_to(&mut w, &stranger), go);
    // The registered one is none the worse for it.
    w.kill("t");
    assert_eq!(w.seen(), ["KillTaskMessage to executor(1)"]);
    // One that is ending.
    w.leader_says(i::ShutdownExecutorMessage {
        executor_id: Some(register("e").executor_id),
        framework_id: framework().id,
    });
    w.take();
    says(&mut w, &stranger, register("e"));
    assert_eq!(sent_to(&mut w, &stranger), go);
    w.exited(&container, ExitStatus::Code(0));
    w.take();
    says(&mut w, &pid(), register("e"));
    assert_eq!(sent_to(&mut w, &pid()), go);
}

#[test]
fn nobody_passes_for_an_executor_of_this_process() {
    let mut w = World::registered();
    w.run(command("t"));
    w.local_executor();
    says(&mut w, &pid(), register("t"));
    assert_eq!(w.seen(), ["ShutdownExecutorMessage to executor(1)"]);
}

#[test]
fn only_the_process_that_registered_speaks_for_an_executor() {
    let (mut w, _) = registered();
    let stranger = elsewhere();
    says(
        &mut w,
        &stranger,
        status_update("t", TaskState::TaskFinished, 1),
    );
    let mut other = status_update("t", TaskState::TaskFinished, 2);
    other.update.executor_id = Some(register("f").executor_id);
    says(&mut w, &pid(), other);
    says(
        &mut w,
        &stranger,
        i::ExecutorToFrameworkMessage {
            framework_id: framework().id.unwrap(),
            executor_id: register("e").executor_id,
            ..Default::default()
        },
    );
    assert_eq!(w.seen(), [""; 0]);
    let counters = w.follower.view().counters;
    assert_eq!(
        (
            counters.invalid_status_updates,
            counters.invalid_framework_messages
        ),
        (2, 1)
    );
}

#[test]
fn an_update_with_a_uuid_that_is_none_is_ignored() {
    let (mut w, _) = registered();
    let mut update = status_update("t", TaskState::TaskRunning, 1);
    update.update.uuid = Some("short".into());
    says(&mut w, &pid(), update);
    assert_eq!(w.seen(), [""; 0]);
}

#[test]
fn an_executor_whose_tasks_were_killed_before_it_registered_is_shut_down() {
    let mut w = World::registered();
    w.run(custom("t"));
    w.kill("t");
    w.take();
    says(&mut w, &pid(), register("e"));
    assert_eq!(w.seen(), ["ShutdownExecutorMessage to executor(1)"]);
    assert_eq!(state(&w), ExecutorState::Terminating);
}

#[test]
fn a_broken_link_changes_nothing_and_the_driver_is_written_to_again() {
    let (mut w, _) = registered();
    w.step(Input::LinkBroken { pid: pid() });
    assert_eq!(w.seen(), [""; 0]);
    assert_eq!(state(&w), ExecutorState::Running);
    w.kill("t");
    assert_eq!(w.seen(), ["KillTaskMessage to executor(1)"]);
}

#[test]
fn an_executor_that_lost_its_link_comes_back_with_what_was_not_acknowledged() {
    let (mut w, _) = registered();
    // It never got this one.
    w.leader_says(i::RunTaskMessage {
        framework: framework(),
        task: custom("lost"),
        launch_executor: Some(false),
        ..Default::default()
    });
    w.step(Input::LinkBroken { pid: pid() });
    w.take();
    let back = elsewhere();
    let mut message = reregister("e");
    message.updates = vec![status_update("t", TaskState::TaskRunning, 1).update];
    message.tasks = vec![custom("t")];
    says(&mut w, &back, message);
    assert_eq!(
        w.seen(),
        [
            "ExecutorReregisteredMessage to executor(1)",
            "TASK_RUNNING of t () to master",
            "StatusUpdateAcknowledgementMessage to executor(1)",
            "TASK_DROPPED of lost (Task launched during agent restart) to master",
        ]
    );
    // From now on it speaks, and is spoken to, there.
    w.kill("t");
    assert_eq!(sent_to(&mut w, &back).len(), 1);
    says(&mut w, &pid(), status_update("t", TaskState::TaskKilled, 2));
    assert_eq!(w.seen(), [""; 0]);
}

#[test]
fn an_address_that_is_used_again_belongs_to_its_new_owner() {
    let (mut w, _) = registered();
    w.leader_says(i::RunTaskMessage {
        framework: framework(),
        task: v1::TaskInfo {
            executor: Some(custom_executor("f")),
            ..task("u")
        },
        launch_executor: Some(true),
        ..Default::default()
    });
    w.take();
    says(&mut w, &pid(), register("f"));
    w.take();
    w.kill("t");
    assert_eq!(w.seen(), [""; 0], "the former owner is not there any more");
    w.kill("u");
    assert_eq!(w.seen(), ["KillTaskMessage to executor(1)"]);
}

#[test]
fn an_executor_may_change_to_the_v1_api() {
    let (mut w, _) = registered();
    let (_, refusal) = w.http_subscribe(subscribe("e"));
    assert_eq!(refusal, None);
    w.take();
    w.kill("t");
    assert_eq!(w.seen(), ["KILL t to stream"]);
    says(&mut w, &pid(), status_update("t", TaskState::TaskKilled, 1));
    assert_eq!(w.seen(), [""; 0]);
}
