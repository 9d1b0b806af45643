//! Checks and health checks of a running task.

use crate::harness::{Harness, command, seconds, task, variable};
use std::time::Duration;
use tepui_executor::io::{Probe, ProbeOutcome};
use tepui_model::container::ExitStatus;
use tepui_protocol::v1::{
    self, CheckInfo, HealthCheck, TaskState::*, check_info, health_check, task_status::Reason,
};

fn with_check(check: CheckInfo) -> Harness {
    let mut h = Harness::command().subscribed();
    let mut info = task("t");
    info.check = Some(check);
    h.launch(info);
    h.launched(0);
    h
}

fn http_health(failures: u32) -> HealthCheck {
    HealthCheck {
        r#type: Some(health_check::Type::Http as i32),
        http: Some(health_check::HttpCheckInfo {
            port: 8080,
            path: Some("/health".to_owned()),
            scheme: Some("https".to_owned()),
            ..Default::default()
        }),
        delay_seconds: Some(1.0),
        interval_seconds: Some(2.0),
        timeout_seconds: Some(3.0),
        grace_period_seconds: Some(0.0),
        consecutive_failures: Some(failures),
        ..Default::default()
    }
}

fn with_health(health_check: HealthCheck) -> Harness {
    let mut h = Harness::command().subscribed();
    let mut info = task("t");
    info.health_check = Some(health_check);
    h.launch(info);
    h.launched(0);
    h
}

#[test]
fn a_check_waits_its_delay_and_then_its_interval_after_each_outcome() {
    let check = CheckInfo {
        r#type: Some(check_info::Type::Tcp as i32),
        tcp: Some(check_info::Tcp { port: 80 }),
        ..Default::default()
    };
    let mut h = with_check(check);
    assert_eq!(h.next(), seconds(15));
    assert_eq!(
        h.probes[0].1,
        Probe::Tcp {
            host: "127.0.0.1".to_owned(),
            port: 80
        }
    );
    assert_eq!(h.probes[0].2, seconds(20));
    assert_eq!(h.executor.next_deadline(), None);
    h.answer(ProbeOutcome::Connected);
    assert_eq!(h.next(), seconds(10));
    assert_eq!(h.probes.len(), 2);
}

#[test]
fn a_finding_is_sent_with_the_running_state_and_its_reason() {
    let check = CheckInfo {
        r#type: Some(check_info::Type::Http as i32),
        http: Some(check_info::Http {
            port: 80,
            path: None,
        }),
        ..Default::default()
    };
    let mut h = with_check(check);
    // Before the first outcome the status is there, and empty.
    assert_eq!(
        h.last()
            .check_status
            .as_ref()
            .unwrap()
            .http
            .as_ref()
            .unwrap()
            .status_code,
        None
    );
    h.next();
    h.answer(ProbeOutcome::Http(404));
    assert_eq!(h.states(), [TaskStarting, TaskRunning, TaskRunning]);
    assert_eq!(h.last().reason(), Reason::TaskCheckStatusUpdated);
    assert_eq!(
        h.last()
            .check_status
            .as_ref()
            .unwrap()
            .http
            .as_ref()
            .unwrap()
            .status_code,
        Some(404)
    );
    assert_ne!(h.statuses[1].uuid, h.statuses[2].uuid);
    h.next();
    h.answer(ProbeOutcome::Http(404));
    assert_eq!(h.statuses.len(), 3);
}

#[test]
fn a_command_check_runs_beside_the_task() {
    let mut command = command("exit 3");
    command.environment = Some(v1::Environment {
        variables: vec![variable("CHECK", "1")],
    });
    let check = CheckInfo {
        r#type: Some(check_info::Type::Command as i32),
        command: Some(check_info::Command { command }),
        timeout_seconds: Some(0.0),
        ..Default::default()
    };
    let mut h = with_check(check);
    h.next();
    let (_, Probe::Command(spec), timeout) = &h.probes[0] else {
        panic!("not a command")
    };
    assert!(spec.container.to_string().starts_with("container.check-"));
    assert_eq!(spec.sandbox.to_str(), Some("/sandbox"));
    assert_eq!(spec.user.as_deref(), Some("nobody"));
    for expected in [("CHECK", "1"), ("MESOS_SANDBOX", "/sandbox")] {
        assert!(
            spec.environment
                .iter()
                .any(|(n, v)| (n.as_str(), v.as_str()) == expected)
        );
    }
    assert_eq!(*timeout, Duration::MAX);
    h.answer(ProbeOutcome::Exited(ExitStatus::Code(3)));
    assert_eq!(
        h.last()
            .check_status
            .as_ref()
            .unwrap()
            .command
            .as_ref()
            .unwrap()
            .exit_code,
        Some(3)
    );
}

#[test]
fn a_healthy_task_says_so_once() {
    let mut h = with_health(http_health(3));
    assert_eq!(h.next(), seconds(1));
    let expected = Probe::Http {
        scheme: "https".to_owned(),
        host: "127.0.0.1".to_owned(),
        port: 8080,
        path: "/health".to_owned(),
    };
    assert_eq!(h.probes[0].1, expected);
    assert_eq!(h.probes[0].2, seconds(3));
    h.answer(ProbeOutcome::Http(200));
    assert_eq!(h.last().healthy, Some(true));
    assert_eq!(h.last().reason(), Reason::TaskHealthCheckStatusUpdated);
    assert_eq!(h.next(), seconds(2));
    h.answer(ProbeOutcome::Http(200));
    assert_eq!(h.states(), [TaskStarting, TaskRunning, TaskRunning]);
}

#[test]
fn a_task_that_stays_unhealthy_is_killed_and_says_why() {
    let mut h = with_health(http_health(2));
    for _ in 0..2 {
        h.next();
        h.answer(ProbeOutcome::Failed("connection refused".to_owned()));
    }
    assert_eq!(
        h.states(),
        [
            TaskStarting,
            TaskRunning,
            TaskRunning,
            TaskRunning,
            TaskKilling
        ]
    );
    assert_eq!(h.signals.len(), 1);
    h.exited(0, ExitStatus::Signal(15));
    assert_eq!(h.last().state(), TaskKilled);
    assert_eq!(h.last().healthy, Some(false));
}

#[test]
fn probes_stop_when_the_task_is_killed() {
    let mut h = with_health(http_health(1));
    h.next();
    h.kill("t", None);
    assert_eq!(h.cancelled, [h.probes[0].0]);
    h.answer(ProbeOutcome::TimedOut);
    assert_eq!(h.states(), [TaskStarting, TaskRunning, TaskKilling]);
    assert_eq!(h.executor.next_deadline(), Some(h.now + seconds(3)));
}

#[test]
fn probes_stop_when_the_task_ends() {
    let mut h = with_health(http_health(1));
    h.next();
    h.exited(0, ExitStatus::Code(0));
    assert_eq!(h.cancelled.len(), 1);
    h.answer(ProbeOutcome::TimedOut);
    assert_eq!(h.states(), [TaskStarting, TaskRunning, TaskFinished]);
    assert_eq!(h.last().healthy, None);
}

#[test]
fn a_check_result_and_a_health_result_travel_together() {
    let mut h = Harness::command().subscribed();
    let mut info = task("t");
    info.health_check = Some(http_health(3));
    info.check = Some(CheckInfo {
        r#type: Some(check_info::Type::Tcp as i32),
        tcp: Some(check_info::Tcp { port: 80 }),
        delay_seconds: Some(0.0),
        ..Default::default()
    });
    h.launch(info);
    h.launched(0);
    h.answer(ProbeOutcome::Connected);
    h.next();
    h.answer(ProbeOutcome::Http(200));
    let status = h.last();
    assert_eq!(status.healthy, Some(true));
    assert_eq!(
        status
            .check_status
            .as_ref()
            .unwrap()
            .tcp
            .as_ref()
            .unwrap()
            .succeeded,
        Some(true)
    );
}
