//! Executors that go on with what an earlier follower's executor ran.

use crate::harness::{Harness, seconds, task};
use std::time::Duration;
use tepui_executor::{RecoveredContainer, RecoveredTask, io::Input};
use tepui_model::container::{ContainerEvent, ContainerId, ExitStatus, LaunchStep};
use tepui_protocol::v1::{
    self, DurationInfo, HealthCheck,
    TaskState::{self, *},
    health_check,
    task_status::Reason,
};

const RUNS: ContainerEvent = ContainerEvent::Launched { pid: 42 };

fn exited(code: i32) -> ContainerEvent {
    ContainerEvent::Exited {
        status: Some(ExitStatus::Code(code)),
    }
}

fn container(id: ContainerId, event: ContainerEvent) -> RecoveredContainer {
    RecoveredContainer {
        id,
        event,
        told: false,
        running_for: seconds(10),
    }
}

/// The task of a command executor.
fn command(state: Option<TaskState>, event: Option<ContainerEvent>) -> RecoveredTask {
    RecoveredTask {
        info: task("t"),
        group: None,
        state,
        container: event.map(|event| container(ContainerId::top("container"), event)),
    }
}

/// A task of a group of a default executor.
fn member(id: &str, state: Option<TaskState>, event: Option<ContainerEvent>) -> RecoveredTask {
    RecoveredTask {
        info: task(id),
        group: Some("g".into()),
        state,
        container: event.map(|event| {
            container(
                ContainerId::top("container").nested(format!("c-{id}")),
                event,
            )
        }),
    }
}

fn told(mut task: RecoveredTask) -> RecoveredTask {
    task.container.iter_mut().for_each(|c| c.told = true);
    task
}

/// What a command executor says, for every state that is durable and every fate of the container.
#[test]
fn a_command_task_goes_on_from_where_it_was() {
    let failed = ContainerEvent::LaunchFailed {
        step: LaunchStep::Start,
        message: "no".into(),
    };
    let lost = ContainerEvent::Exited { status: None };
    type Case = (
        Option<TaskState>,
        Option<ContainerEvent>,
        bool,
        &'static [TaskState],
        usize,
    );
    let cases: &[Case] = &[
        // It never came to a container: launched as if new.
        (None, None, false, &[TaskStarting], 1),
        (Some(TaskStaging), None, false, &[TaskStarting], 1),
        (Some(TaskStarting), None, false, &[], 1),
        // It ran, but nothing is known of how: it must not run again.
        (Some(TaskRunning), None, false, &[TaskFailed], 0),
        // It runs.
        (None, Some(RUNS), false, &[TaskRunning], 0),
        (Some(TaskStarting), Some(RUNS), false, &[TaskRunning], 0),
        (Some(TaskRunning), Some(RUNS), false, &[], 0),
        // It is being killed.
        (Some(TaskKilling), Some(RUNS), false, &[], 0),
        (Some(TaskRunning), Some(RUNS), true, &[TaskKilling], 0),
        // It ended meanwhile.
        (
            Some(TaskRunning),
            Some(exited(0)),
            false,
            &[TaskFinished],
            0,
        ),
        (Some(TaskRunning), Some(exited(1)), false, &[TaskFailed], 0),
        (
            Some(TaskStarting),
            Some(exited(0)),
            false,
            &[TaskRunning, TaskFinished],
            0,
        ),
        (Some(TaskRunning), Some(exited(0)), true, &[TaskKilled], 0),
        (Some(TaskKilling), Some(exited(0)), false, &[TaskKilled], 0),
        (Some(TaskRunning), Some(lost), false, &[TaskFailed], 0),
        (Some(TaskStarting), Some(failed), false, &[TaskFailed], 0),
    ];
    for (state, event, was_told, states, launches) in cases {
        let mut task = command(*state, event.clone());
        if *was_told {
            task = told(task);
        }
        let mut h = Harness::recovered(false, vec![task]);
        let case = format!("{state:?} {event:?} told: {was_told}");
        assert_eq!(h.states(), *states, "{case}");
        assert_eq!(h.launches.len(), *launches, "{case}");
        if event.is_none() && *launches == 0 {
            continue;
        }
        // To the end: once each, whatever happened before.
        if event == &Some(RUNS) {
            let container = ContainerId::top("container");
            h.input(Input::Container {
                container,
                event: exited(0),
            });
        } else if *launches == 1 {
            h.launched(0);
            h.exited(0, ExitStatus::Code(0));
        }
        h.acknowledge_all();
        assert_eq!(h.exit, Some(ExitStatus::Code(0)), "{case}");
        assert_eq!(h.forgotten, [ContainerId::top("container")], "{case}");
    }
}

#[test]
fn what_ends_before_it_is_subscribed_is_told_then() {
    let mut h = Harness::command();
    h.crash(false, vec![command(Some(TaskRunning), Some(RUNS))]);
    assert_eq!(h.executor.containers(), [ContainerId::top("container")]);
    h.input(Input::Container {
        container: ContainerId::top("container"),
        event: exited(3),
    });
    assert_eq!(h.states(), []);
    assert!(h.executor.containers().is_empty());
    h.subscribe(Default::default());
    assert_eq!(h.states(), [TaskFailed]);
    assert_eq!(h.last().message(), "Command exited with status 3");
}

#[test]
fn a_kill_under_way_goes_on_with_its_whole_grace_period() {
    let mut h = Harness::recovered(false, vec![told(command(Some(TaskKilling), Some(RUNS)))]);
    assert_eq!(h.signals, [(ContainerId::top("container"), 15)]);
    assert_eq!(h.next(), seconds(3));
    assert_eq!(h.destroys, [ContainerId::top("container")]);
}

#[test]
fn the_time_a_task_may_take_counts_from_its_start() {
    let mut recovered = command(Some(TaskRunning), Some(RUNS));
    recovered.info.max_completion_time = Some(DurationInfo {
        nanoseconds: 15_000_000_000,
    });
    let mut h = Harness::recovered(false, vec![recovered.clone()]);
    // It has run for ten seconds.
    assert_eq!(h.next(), seconds(5));
    assert_eq!(h.signals, [(ContainerId::top("container"), 15)]);
    h.input(Input::Container {
        container: ContainerId::top("container"),
        event: exited(0),
    });
    assert_eq!(h.last().reason(), Reason::MaxCompletionTimeReached);

    // It should have ended while nobody was there.
    recovered
        .container
        .iter_mut()
        .for_each(|c| c.running_for = seconds(20));
    let mut h = Harness::recovered(false, vec![recovered]);
    assert_eq!(h.executor.next_deadline(), Some(h.now));
    h.next();
    assert_eq!(h.signals.len(), 1);
}

#[test]
fn health_checks_start_anew() {
    let mut recovered = command(Some(TaskRunning), Some(RUNS));
    recovered.info.health_check = Some(HealthCheck {
        r#type: Some(health_check::Type::Tcp as i32),
        tcp: Some(health_check::TcpCheckInfo {
            port: 1,
            ..Default::default()
        }),
        delay_seconds: Some(0.0),
        ..Default::default()
    });
    let h = Harness::recovered(false, vec![recovered]);
    assert_eq!(h.probes.len(), 1);
    assert_eq!(h.states(), []);
}

#[test]
fn a_kill_after_a_restart_reaches_the_old_container() {
    let mut h = Harness::recovered(false, vec![command(Some(TaskRunning), Some(RUNS))]);
    h.kill("t", None);
    assert_eq!(h.signals, [(ContainerId::top("container"), 15)]);
    assert_eq!(h.states(), [TaskKilling]);
}

#[test]
fn a_second_launch_of_what_was_taken_back_is_ignored() {
    let mut h = Harness::recovered(false, vec![command(Some(TaskRunning), Some(RUNS))]);
    h.launch(task("t"));
    assert!(h.launches.is_empty());
    assert_eq!(h.states(), []);
}

#[test]
fn a_group_that_runs_goes_on() {
    let both = ["a", "b"].map(|id| member(id, Some(TaskRunning), Some(RUNS)));
    let mut h = Harness::recovered(true, both.to_vec());
    assert_eq!(h.states(), []);
    assert_eq!(h.executor.containers().len(), 2);
    // And is still a group.
    let a = ContainerId::top("container").nested("c-a");
    h.input(Input::Container {
        container: a.clone(),
        event: exited(1),
    });
    assert_eq!(h.states_of("a"), [TaskFailed]);
    let b = ContainerId::top("container").nested("c-b");
    assert_eq!(h.signals, [(b.clone(), 15)]);
    h.input(Input::Container {
        container: b.clone(),
        event: exited(0),
    });
    assert_eq!(h.states_of("b"), [TaskKilling, TaskKilled]);
    h.acknowledge_all();
    assert_eq!(h.forgotten, [a, b]);
    assert_eq!(h.exit, Some(ExitStatus::Code(0)));
}

#[test]
fn a_task_that_failed_meanwhile_ends_its_group() {
    let tasks = vec![
        member("a", Some(TaskRunning), Some(exited(1))),
        member("b", Some(TaskRunning), Some(RUNS)),
    ];
    let h = Harness::recovered(true, tasks);
    assert_eq!(h.states_of("a"), [TaskFailed]);
    assert_eq!(h.states_of("b"), [TaskKilling]);
    assert_eq!(h.signals.len(), 1);
}

#[test]
fn a_group_that_was_launched_in_part_is_launched_whole() {
    let tasks = vec![
        member("a", Some(TaskStarting), Some(RUNS)),
        member("b", None, None),
        member("c", Some(TaskStarting), Some(exited(0))),
    ];
    let mut h = Harness::recovered(true, tasks);
    assert_eq!(
        h.states(),
        [TaskStarting],
        "of the one that is launched now"
    );
    assert_eq!(h.launches.len(), 1);
    assert_eq!(h.launches[0].outlives.as_deref(), Some("b"));
    h.launched(0);
    assert_eq!(h.states_of("a"), [TaskRunning]);
    assert_eq!(h.states_of("b"), [TaskStarting, TaskRunning]);
    assert_eq!(h.states_of("c"), [TaskRunning, TaskFinished]);
    assert!(h.signals.is_empty(), "one that has succeeded ends nobody");
}

#[test]
fn groups_stay_apart() {
    let mut other = member("b", Some(TaskRunning), Some(RUNS));
    other.group = Some("h".into());
    let tasks = vec![member("a", Some(TaskRunning), Some(exited(1))), other];
    let h = Harness::recovered(true, tasks);
    assert_eq!(h.states(), [TaskFailed]);
    assert!(h.signals.is_empty());
}

#[test]
fn containers_outlive_the_follower_only_if_they_are_to_and_checks_never_do() {
    let mut h = Harness::command().subscribed();
    let mut info = task("t");
    info.health_check = Some(HealthCheck {
        r#type: Some(health_check::Type::Command as i32),
        command: Some(v1::CommandInfo {
            value: Some("true".into()),
            ..Default::default()
        }),
        delay_seconds: Some(0.0),
        ..Default::default()
    });
    h.launch(info);
    h.launched(0);
    h.pass(Duration::ZERO);
    assert_eq!(h.launches[0].outlives.as_deref(), Some("t"));
    match &h.probes[0].1 {
        tepui_executor::io::Probe::Command(spec) => assert_eq!(spec.outlives, None),
        other => panic!("not a command: {other:?}"),
    }
}
