//! Tasks from RunTask to the acknowledgement of their end.

use crate::harness::*;
use std::time::Duration;
use tepui_follower::{
    io::{Checkpoint, Effect, Input},
    view::{ExecutorKind, ExecutorState},
};
use tepui_model::container::{ContainerEvent, ExitStatus, LaunchStep};
use tepui_protocol::{
    internal as i,
    v1::{self, TaskState, task_status::Reason},
};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_command_task_runs_in_a_local_executor_to_its_acknowledged_end() {
    let mut w = World::registered();
    w.run(command("t"));
    assert_eq!(
        w.effects
            .iter()
            .map(describe)
            .filter(|e| !e.starts_with("log"))
            .collect::<Vec<_>>(),
        ["attach", "attach", "attach", "start local t"]
    );
    let local = w.local_executor();
    assert_eq!(
        local.info.name.as_deref(),
        Some("Command Executor (Task: t) (Command: sh -c 'exit 3')")
    );
    assert_eq!(local.user.as_deref(), Some("root"));
    let container = local.container;
    assert_eq!(
        local.sandbox.to_str().unwrap(),
        format!("/w/slaves/{ID}/frameworks/{FRAMEWORK}/executors/t/runs/{container}")
    );

    w.local(&container, subscribe("t"));
    assert_eq!(w.seen(), ["SUBSCRIBED to local", "LAUNCH t to local"]);
    w.step(Input::Container {
        container: container.clone(),
        event: ContainerEvent::Launched { pid: 42 },
    });

    w.local(&container, update("t", "t", TaskState::TaskStarting, 1));
    assert_eq!(
        w.effects.iter().map(describe).collect::<Vec<_>>()[0],
        "TASK_STARTING of t () to master"
    );
    let [starting] = &w.updates()[..] else {
        panic!("not one update")
    };
    let container_status = starting.status.container_status.as_ref().unwrap();
    assert_eq!(container_status.executor_pid, Some(42));
    assert_eq!(
        container_status.container_id.as_ref().unwrap().value,
        container.to_string()
    );
    assert_eq!(
        container_status.network_infos[0].ip_addresses[0].ip_address(),
        "127.0.0.1"
    );
    assert_eq!(starting.latest_state, Some(TaskState::TaskStarting.into()));
    assert_eq!(starting.timestamp, 5.0);

    w.local(&container, update("t", "t", TaskState::TaskRunning, 2));
    assert_eq!(
        w.seen(),
        ["ACKNOWLEDGED t to local"],
        "the second waits for the first"
    );
    w.local(&container, update("t", "t", TaskState::TaskFailed, 3));
    w.take();
    w.acknowledge(starting);
    let [running] = &w.updates()[..] else {
        panic!("not one update")
    };
    assert_eq!(running.status.state(), TaskState::TaskRunning);
    assert_eq!(running.latest_state, Some(TaskState::TaskFailed.into()));
    w.acknowledge(running);
    let [failed] = &w.updates()[..] else {
        panic!("not one update")
    };
    assert_eq!(failed.status.state(), TaskState::TaskFailed);

    w.exited(&container, ExitStatus::Code(0));
    assert_eq!(
        w.seen(),
        ["stop local"],
        "no ExitedExecutor for command tasks"
    );
    assert_eq!(
        w.follower.view().frameworks.size(),
        1,
        "kept until acknowledged"
    );
    w.acknowledge(failed);
    assert!(w.seen().is_empty());
    let view = w.follower.view();
    assert_eq!(view.frameworks.size(), 0);
    let completed = view.completed_frameworks.peek().unwrap();
    let executor = completed.completed_executors.peek().unwrap();
    assert_eq!(
        (executor.kind, executor.state),
        (ExecutorKind::Command, ExecutorState::Terminated)
    );
    assert_eq!(executor.completed.peek().unwrap().statuses.len(), 3);
    assert_eq!(view.counters.tasks_failed, 1);
}

#[test]
fn updates_are_sent_again_after_ten_seconds_doubled_up_to_ten_minutes() {
    let mut w = World::registered();
    let container = w.running_command("t");
    w.local(&container, update("t", "t", TaskState::TaskRunning, 1));
    w.take();
    let mut waits = Vec::new();
    let mut last = w.now;
    while waits.len() < 8 {
        w.now = w.follower.next_deadline().unwrap();
        w.step(Input::Tick);
        // Pings keep the registration alive.
        w.leader_says(i::PingSlaveMessage { connected: true });
        if w.updates().len() == 1 {
            waits.push(w.now.since(last).as_secs());
            last = w.now;
        }
        let view = w.follower.view();
        if view.phase != tepui_follower::Phase::Running {
            break;
        }
    }
    assert_eq!(waits[..3], [10, 20, 40]);
}

#[test]
fn nothing_is_forwarded_while_disconnected_and_all_of_it_after() {
    let mut w = World::registered();
    let container = w.running_command("t");
    w.step(Input::LeaderDetected(None));
    w.local(&container, update("t", "t", TaskState::TaskRunning, 1));
    assert_eq!(w.seen(), ["ACKNOWLEDGED t to local"]);
    w.pass(100 * SECOND);
    assert!(w.seen().is_empty());
    w.step(Input::LeaderDetected(Some(leader())));
    w.pass(SECOND);
    w.take();
    w.leader_says(i::SlaveReregisteredMessage {
        slave_id: v1::AgentId { value: ID.into() },
        ..Default::default()
    });
    assert_eq!(
        w.seen(),
        [
            "TASK_RUNNING of t () to master",
            "UpdateSlaveMessage to master"
        ]
    );
}

#[test]
fn duplicate_updates_are_acknowledged_and_not_forwarded() {
    let mut w = World::registered();
    let container = w.running_command("t");
    w.local(&container, update("t", "t", TaskState::TaskRunning, 1));
    let updates = w.updates();
    w.local(&container, update("t", "t", TaskState::TaskRunning, 1));
    assert_eq!(w.seen(), ["ACKNOWLEDGED t to local"]);
    w.acknowledge(&updates[0]);
    w.local(&container, update("t", "t", TaskState::TaskRunning, 1));
    assert_eq!(w.seen(), ["ACKNOWLEDGED t to local"]);
    w.local(&container, update("t", "t", TaskState::TaskFinished, 2));
    w.local(&container, update("t", "t", TaskState::TaskFailed, 3));
    let states: Vec<_> = w.updates().iter().map(|u| u.status.state()).collect();
    assert_eq!(
        states,
        [TaskState::TaskFinished],
        "only the first end counts"
    );
}

#[test]
fn an_acknowledgement_of_another_update_changes_nothing() {
    let mut w = World::registered();
    let container = w.running_command("t");
    w.local(&container, update("t", "t", TaskState::TaskRunning, 1));
    let mut other = w.updates().remove(0);
    other.uuid = Some(vec![9; 16].into());
    w.acknowledge(&other);
    w.pass(10 * SECOND);
    assert_eq!(w.updates().len(), 1, "still sent again");
}

#[test]
fn an_executor_that_dies_fails_its_task() {
    let mut w = World::registered();
    let container = w.running_command("t");
    w.exited(&container, ExitStatus::Signal(9));
    let seen = w.take();
    assert_eq!(
        seen.iter().map(describe).collect::<Vec<_>>(),
        [
            "stop local",
            "TASK_FAILED of t (Executor terminated) to master"
        ]
    );
    w.effects = seen;
    let update = w.updates().remove(0);
    assert_eq!(update.status.reason(), Reason::ExecutorTerminated);
    assert_eq!(update.status.source(), v1::task_status::Source::Agent);
    assert_eq!(update.executor_id.as_ref().unwrap().value, "t");
    w.acknowledge(&update);
    assert_eq!(w.follower.view().frameworks.size(), 0);
}

#[test]
fn a_failed_launch_fails_the_task_with_the_reason() {
    let mut w = World::registered();
    w.run(command("t"));
    let container = w.local_executor().container;
    let event = ContainerEvent::LaunchFailed {
        step: LaunchStep::Fetch,
        message: "no such host".into(),
    };
    w.step(Input::Container {
        container: container.clone(),
        event,
    });
    let update = w.updates().remove(0);
    assert_eq!(
        update.status.message(),
        "Failed to launch container: no such host"
    );
    assert_eq!(update.status.reason(), Reason::ContainerLaunchFailed);
    w.exited(&container, ExitStatus::Code(1));
    assert!(w.seen().is_empty(), "it has ended already");
}

#[test]
fn an_executor_that_never_subscribes_is_destroyed() {
    let mut w = World::registered();
    w.run(v1::TaskInfo {
        executor: Some(custom_executor("e")),
        ..task("t")
    });
    let container = w.launched().container;
    w.pass(60 * SECOND);
    assert_eq!(w.seen(), ["destroy"]);
    w.exited(&container, ExitStatus::Signal(9));
    assert_eq!(
        w.seen(),
        [
            "TASK_FAILED of t (Executor did not register within 1mins) to master",
            "ExitedExecutor e 9 to master"
        ]
    );
}

#[test]
fn killing_a_queued_task_never_starts_it() {
    let mut w = World::registered();
    w.run(command("t"));
    let container = w.local_executor().container;
    w.kill("t");
    let update = w.updates().remove(0);
    assert_eq!(
        update.status.message(),
        "Killed before delivery to the executor"
    );
    assert_eq!(update.status.reason(), Reason::TaskKilledDuringLaunch);
    w.acknowledge(&update);
    w.local(&container, subscribe("t"));
    assert_eq!(w.seen(), ["SHUTDOWN to local"]);
    w.exited(&container, ExitStatus::Code(0));
    assert_eq!(w.seen(), ["stop local"]);
    assert_eq!(w.follower.view().frameworks.size(), 0);
}

#[test]
fn killing_a_running_task_is_up_to_its_executor() {
    let mut w = World::registered();
    w.running_command("t");
    w.kill("t");
    assert_eq!(w.seen(), ["KILL t to local"]);
}

#[test]
fn killing_an_unknown_task_of_a_known_framework_says_so() {
    let mut w = World::registered();
    w.running_command("t");
    w.kill("other");
    assert_eq!(
        w.seen(),
        ["TASK_DROPPED of other (Cannot find executor) to master"]
    );
    w.leader_says(i::KillTaskMessage {
        framework_id: v1::FrameworkId {
            value: "nobody".into(),
        },
        task_id: v1::TaskId { value: "t".into() },
        kill_policy: None,
    });
    assert!(w.seen().is_empty());
}

#[test]
fn frameworks_without_partition_awareness_hear_lost() {
    let mut w = World::registered();
    let old = v1::FrameworkInfo {
        capabilities: vec![],
        ..framework()
    };
    w.run_in(old, command("t"));
    w.take();
    w.kill("other");
    assert_eq!(
        w.seen(),
        ["TASK_LOST of other (Cannot find executor) to master"]
    );
}

#[test]
fn a_launch_for_outdated_resources_is_dropped() {
    let mut w = World::registered();
    w.leader_says(i::RunTaskMessage {
        framework: framework(),
        task: command("t"),
        resource_version_uuids: vec![i::ResourceVersionUuid {
            resource_provider_id: None,
            uuid: v1::Uuid {
                value: vec![1; 16].into(),
            },
        }],
        launch_executor: Some(true),
        ..Default::default()
    });
    assert_eq!(
        w.seen(),
        [
            "TASK_DROPPED of t (Task assumes outdated resource state) to master",
            "ExitedExecutor t -1 to master"
        ]
    );
    w.pass(10 * SECOND);
    assert_eq!(
        w.updates().len(),
        1,
        "sent again although nothing of the framework is left"
    );
}

#[test]
fn a_launch_that_arrives_twice_runs_once_and_is_not_reported_dropped() {
    let mut w = World::registered();
    w.run(command("t"));
    let container = w.local_executor().container;
    let silent = |w: &World| {
        let effects = w.effects.iter().map(describe);
        assert_eq!(effects.filter(|e| !e.starts_with("log")).count(), 0);
    };
    w.run(command("t"));
    silent(&w);
    w.local(&container, subscribe("t"));
    assert_eq!(w.seen(), ["SUBSCRIBED to local", "LAUNCH t to local"]);
    w.run(command("t"));
    silent(&w);
}

#[test]
fn a_launch_for_an_old_id_is_ignored() {
    let mut w = World::registered();
    w.run(v1::TaskInfo {
        agent_id: v1::AgentId {
            value: "L-S9".into(),
        },
        ..command("t")
    });
    assert!(w.seen().is_empty());
    assert_eq!(w.follower.view().frameworks.size(), 0);
}

#[test]
fn a_framework_that_is_shut_down_loses_its_executors_and_updates() {
    let mut w = World::registered();
    let container = w.running_command("t");
    w.leader_says(i::ShutdownFrameworkMessage {
        framework_id: v1::FrameworkId {
            value: FRAMEWORK.into(),
        },
    });
    assert_eq!(w.seen(), ["SHUTDOWN to local"]);
    w.local(&container, update("t", "t", TaskState::TaskKilled, 1));
    assert!(w.seen().is_empty(), "nobody wants to know any more");
    w.pass(5 * SECOND);
    assert_eq!(w.seen(), ["destroy"], "its grace period is over");
    w.exited(&container, ExitStatus::Signal(9));
    assert_eq!(w.seen(), ["stop local"]);
    assert_eq!(w.follower.view().frameworks.size(), 0);
    assert_eq!(w.follower.view().completed_frameworks.len(), 1);
}

#[test]
fn updates_of_checkpointing_frameworks_are_durable_before_anybody_hears_of_them() {
    let mut w = World::registered();
    let keeps = v1::FrameworkInfo {
        checkpoint: Some(true),
        ..framework()
    };
    w.run_in(keeps, command("t"));
    let local = w.local_executor();
    assert!(
        local
            .environment
            .contains(&("MESOS_CHECKPOINT".into(), "1".into()))
    );
    w.local(&local.container, subscribe("t"));
    w.effects.clear();
    w.local(
        &local.container,
        update("t", "t", TaskState::TaskRunning, 1),
    );
    assert_eq!(
        w.seen(),
        [
            "persist",
            "TASK_RUNNING of t () to master",
            "ACKNOWLEDGED t to local"
        ]
    );
}

#[test]
fn a_durable_update_says_where_it_belongs() {
    let mut w = World::registered();
    w.run_in(
        v1::FrameworkInfo {
            checkpoint: Some(true),
            ..framework()
        },
        command("t"),
    );
    let container = w.local_executor().container;
    w.exited(&container, ExitStatus::Signal(9));
    let durable = w.take().into_iter().find_map(|effect| match effect {
        Effect::Persist(Checkpoint::StatusUpdate(update)) => Some(*update),
        _ => None,
    });
    let update = durable.expect("nothing durable");
    assert_eq!(update.executor_id.unwrap().value, "t");
    let status = update.status.container_status.unwrap();
    assert_eq!(status.container_id.unwrap().value, container.to_string());
}

#[test]
fn tasks_run_as_the_user_of_their_command_their_framework_or_ours() {
    let user = |switch_user: bool, own: Option<&str>| {
        let mut config = config();
        config.switch_user = switch_user;
        let mut w = World::registered_with(config);
        let mut task = command("t");
        task.command.as_mut().unwrap().user = own.map(str::to_owned);
        w.run(task);
        w.local_executor().user
    };
    assert_eq!(user(true, None).as_deref(), Some("root"));
    assert_eq!(user(true, Some("nobody")).as_deref(), Some("nobody"));
    assert_eq!(user(false, Some("nobody")), None);
}

#[test]
fn an_update_that_is_sent_again_does_not_turn_its_task_back() {
    let mut w = World::registered();
    let container = w.running_command("t");
    w.local(&container, update("t", "t", TaskState::TaskStarting, 1));
    w.local(&container, update("t", "t", TaskState::TaskRunning, 2));
    w.local(&container, update("t", "t", TaskState::TaskStarting, 1));
    let view = w.follower.view();
    let executor = view
        .frameworks
        .values()
        .next()
        .unwrap()
        .executors
        .values()
        .next()
        .unwrap();
    assert_eq!(
        executor.launched.values().next().unwrap().state(),
        TaskState::TaskRunning
    );
}
