//! The command executor.

use crate::harness::{Harness, command, policy, seconds, task, variable};
use tepui_executor::io::Input;
use tepui_model::container::{ContainerEvent, ExitStatus};
use tepui_protocol::v1::{
    self, DurationInfo, TaskState::*, command_info::Uri, executor::call, task_status::Reason,
    task_status::Source,
};

fn running() -> Harness {
    let mut h = Harness::command().subscribed();
    h.launch(task("t"));
    h.launched(0);
    h
}

#[test]
fn a_task_that_succeeds_is_finished_and_the_executor_exits_once_that_is_acknowledged() {
    let mut h = running();
    assert_eq!(h.states(), [TaskStarting, TaskRunning]);
    h.exited(0, ExitStatus::Code(0));
    assert_eq!(h.states(), [TaskStarting, TaskRunning, TaskFinished]);
    assert_eq!(h.last().message(), "Command exited with status 0");
    h.acknowledge(0);
    h.acknowledge(1);
    assert_eq!(h.exit, None);
    h.acknowledge(2);
    assert_eq!(h.exit, Some(ExitStatus::Code(0)));
    assert_eq!(h.executor.next_deadline(), None);
}

#[test]
fn every_status_says_who_sent_it_and_when() {
    let h = running();
    let status = h.last();
    assert_eq!(status.source(), Source::Executor);
    assert_eq!(status.reason, None);
    assert_eq!(status.executor_id.as_ref().unwrap().value, "executor");
    assert_eq!(status.agent_id.as_ref().unwrap().value, "agent");
    assert_eq!(status.timestamp, Some(h.now.seconds()));
    assert_eq!(status.uuid.as_ref().unwrap().len(), 16);
    assert_ne!(h.statuses[0].uuid, h.statuses[1].uuid);
    assert_eq!(status.container_status, None);
}

#[test]
fn failures_name_the_exit_status_or_the_signal() {
    for (status, message) in [
        (ExitStatus::Code(3), "Command exited with status 3"),
        (
            ExitStatus::Signal(9),
            "Command terminated with signal Killed",
        ),
        (
            ExitStatus::Signal(11),
            "Command terminated with signal Segmentation fault",
        ),
    ] {
        let mut h = running();
        h.exited(0, status);
        assert_eq!(h.last().state(), TaskFailed);
        assert_eq!(h.last().message(), message);
        assert_eq!(h.last().reason, None);
    }
}

#[test]
fn a_lost_exit_status_is_a_failure() {
    let mut h = running();
    h.container(0, ContainerEvent::Exited { status: None });
    assert_eq!(h.last().state(), TaskFailed);
    assert_eq!(h.last().message(), "Failed to get exit status for Command");
}

#[test]
fn the_task_runs_in_the_executors_container_with_its_own_variables_last() {
    let mut h = Harness::command().subscribed();
    let mut info = task("t");
    let variables = vec![variable("MINE", "1"), variable("LIBPROCESS_IP", "10.0.0.1")];
    info.command.as_mut().unwrap().environment = Some(v1::Environment { variables });
    info.command.as_mut().unwrap().user = Some("daemon".to_owned());
    h.launch(info);
    let spec = &h.launches[0];
    assert_eq!(spec.container.to_string(), "container");
    assert_eq!(spec.sandbox.to_str(), Some("/sandbox"));
    assert_eq!(spec.user.as_deref(), Some("daemon"));
    assert_eq!(spec.command.value(), "sleep 1000");
    let value = |name: &str| {
        spec.environment
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, v)| v.as_str())
    };
    assert_eq!(value("MINE"), Some("1"));
    assert_eq!(value("LIBPROCESS_IP"), Some("10.0.0.1"));
    assert_eq!(value("MESOS_SANDBOX"), Some("/sandbox"));
    assert_eq!(value("MESOS_ALLOCATION_ROLE"), Some("role"));
    assert_eq!(
        value("PATH"),
        Some("/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
    );
}

#[test]
fn starting_waits_for_what_must_be_fetched() {
    let mut h = Harness::command().subscribed();
    let mut info = task("t");
    info.command.as_mut().unwrap().uris = vec![Uri {
        value: "http://h/f".to_owned(),
        ..Default::default()
    }];
    h.launch(info);
    assert_eq!(h.launches[0].uris.len(), 1);
    assert_eq!(h.states(), []);
    h.launched(0);
    assert_eq!(h.states(), [TaskStarting, TaskRunning]);
}

#[test]
fn a_task_that_cannot_be_fetched_fails() {
    let mut h = Harness::command().subscribed();
    let mut info = task("t");
    info.command.as_mut().unwrap().uris = vec![Uri {
        value: "http://h/f".to_owned(),
        ..Default::default()
    }];
    h.launch(info);
    h.launch_failed(0, "Failed to fetch all URIs for container 'container'");
    assert_eq!(h.states(), [TaskFailed]);
    assert_eq!(h.last().reason(), Reason::ContainerLaunchFailed);
    assert_eq!(
        h.last().message(),
        "Failed to launch container: Failed to fetch all URIs for container 'container'"
    );
}

#[test]
fn kill_asks_politely_and_then_uses_force() {
    let mut h = running();
    h.kill("t", None);
    assert_eq!(h.states()[2..], [TaskKilling]);
    assert_eq!(h.signals.len(), 1);
    assert_eq!(h.signals[0].1, 15);
    assert_eq!(h.next(), seconds(3));
    assert_eq!(h.destroys.len(), 1);
    h.exited(0, ExitStatus::Signal(9));
    assert_eq!(h.last().state(), TaskKilled);
    assert_eq!(h.last().message(), "Command terminated with signal Killed");
}

#[test]
fn a_killed_task_that_exits_successfully_is_killed() {
    let mut h = running();
    h.kill("t", None);
    h.exited(0, ExitStatus::Code(0));
    assert_eq!(h.last().state(), TaskKilled);
    assert_eq!(h.last().message(), "Command exited with status 0");
}

#[test]
fn killing_is_not_sent_to_frameworks_that_do_not_know_it() {
    let mut h = Harness::command();
    h.subscribe(v1::FrameworkInfo::default());
    h.launch(task("t"));
    h.launched(0);
    h.kill("t", None);
    assert_eq!(h.states(), [TaskStarting, TaskRunning]);
}

#[test]
fn the_kill_policy_of_the_event_goes_before_that_of_the_task() {
    let mut info = task("t");
    info.kill_policy = Some(policy(seconds(20)));
    let mut h = Harness::command().subscribed();
    h.launch(info.clone());
    h.launched(0);
    h.kill("t", None);
    assert_eq!(h.next(), seconds(20));

    let mut h = Harness::command().subscribed();
    h.launch(info);
    h.launched(0);
    h.kill("t", Some(seconds(7)));
    assert_eq!(h.next(), seconds(7));
}

#[test]
fn a_second_kill_shortens_the_grace_period_and_never_lengthens_it() {
    let mut h = running();
    h.kill("t", Some(seconds(20)));
    h.kill("t", Some(seconds(30)));
    assert_eq!(h.executor.next_deadline(), Some(h.now + seconds(20)));
    h.pass(seconds(2));
    h.kill("t", Some(seconds(5)));
    assert_eq!(h.next(), seconds(3));
    assert_eq!(h.destroys.len(), 1);
    assert_eq!(h.signals.len(), 1);
    assert_eq!(h.states(), [TaskStarting, TaskRunning, TaskKilling]);
}

#[test]
fn a_task_killed_before_its_command_runs_is_destroyed_at_once() {
    let mut h = Harness::command().subscribed();
    h.launch(task("t"));
    h.kill("t", None);
    assert_eq!((h.destroys.len(), h.signals.len()), (1, 0));
    h.launch_failed(0, "destroyed");
    assert_eq!(h.states(), [TaskStarting, TaskKilled]);
    assert_eq!(h.last().reason(), Reason::TaskKilledDuringLaunch);
}

#[test]
fn a_kill_that_crosses_the_launch_still_kills() {
    let mut h = Harness::command().subscribed();
    h.launch(task("t"));
    h.kill("t", None);
    h.launched(0);
    assert_eq!(h.states(), [TaskStarting]);
    h.exited(0, ExitStatus::Signal(9));
    assert_eq!(h.states(), [TaskStarting, TaskKilled]);
}

#[test]
fn shutdown_leaves_time_to_report() {
    let mut h = running();
    h.shutdown();
    // 5 s, less the margin.
    assert_eq!(h.next(), seconds(3));
    h.exited(0, ExitStatus::Signal(9));
    assert_eq!(h.last().state(), TaskKilled);
    h.acknowledge_all();
    assert_eq!(h.exit, Some(ExitStatus::Code(0)));
}

#[test]
fn shutdown_before_the_task_came_just_ends() {
    let mut h = Harness::command().subscribed();
    h.shutdown();
    assert_eq!(h.exit, Some(ExitStatus::Code(0)));
}

#[test]
fn a_kill_before_the_task_came_ends_the_executor() {
    let mut h = Harness::command().subscribed();
    h.kill("t", None);
    assert_eq!(h.exit, Some(ExitStatus::Code(1)));
}

#[test]
fn a_task_that_takes_too_long_fails() {
    let mut h = Harness::command().subscribed();
    let mut info = task("t");
    info.max_completion_time = Some(DurationInfo {
        nanoseconds: 10_000_000_000,
    });
    h.launch(info);
    h.launched(0);
    assert_eq!(h.next(), seconds(10));
    assert_eq!(h.signals.len(), 1);
    assert_eq!(h.next(), seconds(0));
    assert_eq!(h.destroys.len(), 1);
    h.exited(0, ExitStatus::Signal(15));
    assert_eq!(h.states(), [TaskStarting, TaskRunning, TaskFailed]);
    assert_eq!(h.last().reason(), Reason::MaxCompletionTimeReached);
    assert_eq!(
        h.last().message(),
        "Command terminated with signal Terminated"
    );
}

#[test]
fn a_kill_stops_the_clock_of_the_maximum_completion_time() {
    let mut h = Harness::command().subscribed();
    let mut info = task("t");
    info.max_completion_time = Some(DurationInfo {
        nanoseconds: 1_000_000_000,
    });
    h.launch(info);
    h.launched(0);
    h.kill("t", Some(seconds(5)));
    h.pass(seconds(2));
    h.exited(0, ExitStatus::Signal(15));
    assert_eq!(h.last().state(), TaskKilled);
}

#[test]
fn a_second_task_is_refused_and_the_first_goes_on() {
    let mut h = running();
    h.launch(task("other"));
    assert_eq!(h.last().task_id.value, "other");
    assert_eq!(h.last().state(), TaskFailed);
    assert_eq!(
        h.last().message(),
        "Attempted to run multiple tasks using a \"command\" executor"
    );
    h.acknowledge(2);
    assert_eq!(h.exit, None);
    assert_eq!(h.launches.len(), 1);
}

#[test]
fn a_task_without_a_command_fails() {
    let mut h = Harness::command().subscribed();
    let mut info = task("t");
    info.command = None;
    h.launch(info);
    assert_eq!(h.states(), [TaskFailed]);
    assert!(h.launches.is_empty());
    let mut h = Harness::command().subscribed();
    let mut info = task("t");
    info.command = Some(v1::CommandInfo {
        value: None,
        ..command("")
    });
    h.launch(info);
    assert_eq!(h.states(), [TaskFailed]);
}

#[test]
fn subscribe_is_repeated_every_second_until_it_is_answered() {
    let mut h = Harness::command();
    assert_eq!(h.calls.len(), 1);
    assert_eq!(h.calls[0].r#type(), call::Type::Subscribe);
    assert_eq!(h.next(), seconds(1));
    assert_eq!(h.calls.len(), 2);
    h.subscribe(v1::FrameworkInfo::default());
    assert_eq!(h.executor.next_deadline(), None);
}

#[test]
fn what_was_not_acknowledged_is_sent_again_with_the_next_subscribe() {
    let mut h = running();
    h.input(Input::Connected);
    assert_eq!(h.subscribe_call().unacknowledged_tasks.len(), 1);
    h.acknowledge(0);
    // The follower is away: the status waits.
    h.exited(0, ExitStatus::Code(0));
    assert_eq!(h.states(), [TaskStarting, TaskRunning]);
    h.input(Input::Connected);
    let subscribe = h.subscribe_call();
    assert!(subscribe.unacknowledged_tasks.is_empty());
    let states: Vec<_> = subscribe
        .unacknowledged_updates
        .iter()
        .map(|u| u.status.state())
        .collect();
    assert_eq!(states, [TaskRunning, TaskFinished]);
}

#[test]
fn without_an_acknowledgement_the_executor_gives_up_after_a_minute() {
    let mut h = running();
    h.exited(0, ExitStatus::Code(0));
    assert_eq!(h.next(), seconds(60));
    assert_eq!(h.exit, Some(ExitStatus::Code(1)));
}

#[test]
fn an_unknown_acknowledgement_is_ignored() {
    let mut h = running();
    h.acknowledge(1);
    h.acknowledge(1);
    assert_eq!(h.exit, None);
}
