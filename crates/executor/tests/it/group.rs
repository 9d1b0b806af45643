//! The default executor.

use crate::harness::{Harness, policy, seconds, task};
use tepui_executor::io::ProbeOutcome;
use tepui_model::container::ExitStatus;
use tepui_protocol::v1::{self, TaskState::*, health_check, task_status::Reason};

fn running() -> Harness {
    let mut h = Harness::group().subscribed();
    h.launch_group(vec![task("a"), task("b")]);
    h.launched(0);
    h.launched(1);
    h
}

#[test]
fn each_task_gets_a_nested_container_with_a_sandbox_and_a_link_to_it() {
    let mut h = Harness::group().subscribed();
    h.launch_group(vec![task("a")]);
    let spec = &h.launches[0];
    let id = spec.container.value.to_string();
    assert_eq!(spec.container.to_string(), format!("container.{id}"));
    assert_eq!(
        spec.sandbox.to_str().unwrap(),
        format!("/sandbox/containers/{id}")
    );
    assert_eq!(
        spec.latest.as_ref().unwrap().to_str(),
        Some("/sandbox/tasks/a")
    );
    let value = |name: &str| {
        spec.environment
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, v)| v.clone())
    };
    assert_eq!(
        value("MESOS_SANDBOX"),
        Some(format!("/sandbox/containers/{id}"))
    );
    assert_eq!(value("LIBPROCESS_IP").as_deref(), Some("127.0.0.1"));
    assert_eq!(value("MESOS_ALLOCATION_ROLE").as_deref(), Some("role"));
    let status = h.last();
    let container_id = status
        .container_status
        .as_ref()
        .unwrap()
        .container_id
        .as_ref()
        .unwrap();
    assert_eq!(container_id.value, id);
    assert_eq!(container_id.parent.as_ref().unwrap().value, "container");
}

#[test]
fn running_is_sent_once_the_whole_group_is_up() {
    let mut h = Harness::group().subscribed();
    h.launch_group(vec![task("a"), task("b")]);
    assert_eq!(h.states(), [TaskStarting, TaskStarting]);
    h.launched(1);
    assert_eq!(h.states(), [TaskStarting, TaskStarting]);
    h.launched(0);
    assert_eq!(h.states_of("a"), [TaskStarting, TaskRunning]);
    assert_eq!(h.states_of("b"), [TaskStarting, TaskRunning]);
}

#[test]
fn a_task_that_finishes_leaves_the_others_alone_and_the_last_one_ends_the_executor() {
    let mut h = running();
    h.exited(0, ExitStatus::Code(0));
    assert_eq!(h.states_of("a"), [TaskStarting, TaskRunning, TaskFinished]);
    assert!(h.signals.is_empty());
    h.acknowledge_all();
    assert_eq!(h.exit, None);
    h.exited(1, ExitStatus::Code(0));
    assert_eq!(h.exit, None);
    h.acknowledge(5);
    assert_eq!(h.exit, Some(ExitStatus::Code(0)));
}

#[test]
fn a_task_that_fails_takes_its_group_with_it_but_not_other_groups() {
    let mut h = running();
    h.launch_group(vec![task("c")]);
    h.launched(2);
    h.exited(0, ExitStatus::Code(7));
    assert_eq!(h.last().state(), TaskKilling);
    assert_eq!(h.signals, [(h.launches[1].container.clone(), 15)]);
    h.exited(1, ExitStatus::Signal(15));
    assert_eq!(h.states_of("a").last(), Some(&TaskFailed));
    assert_eq!(h.states_of("b").last(), Some(&TaskKilled));
    assert_eq!(h.states_of("c"), [TaskStarting, TaskRunning]);
}

#[test]
fn killing_one_task_kills_its_group_once_it_is_gone() {
    let mut h = running();
    h.kill("b", Some(seconds(9)));
    h.kill("b", Some(seconds(1)));
    assert_eq!(h.signals.len(), 1);
    assert_eq!(h.next(), seconds(9));
    assert_eq!(h.destroys, [h.launches[1].container.clone()]);
    h.exited(1, ExitStatus::Signal(9));
    assert_eq!(h.states_of("b").last(), Some(&TaskKilled));
    assert_eq!(h.signals.len(), 2);
    h.exited(0, ExitStatus::Signal(15));
    assert_eq!(h.states_of("a").last(), Some(&TaskKilled));
}

#[test]
fn the_rest_of_a_group_gets_the_default_grace_period() {
    let mut h = Harness::group().subscribed();
    let mut patient = task("a");
    patient.kill_policy = Some(policy(seconds(100)));
    h.launch_group(vec![patient, task("b")]);
    h.launched(0);
    h.launched(1);
    h.exited(1, ExitStatus::Code(1));
    assert_eq!(h.next(), seconds(3));
}

#[test]
fn a_task_that_cannot_be_launched_fails_and_the_rest_is_killed() {
    let mut h = Harness::group().subscribed();
    h.launch_group(vec![task("a"), task("b"), task("c")]);
    h.launch_failed(0, "no such URI");
    h.launch_failed(2, "no such URI either");
    assert_eq!(h.states(), [TaskStarting; 3]);
    h.launched(1);
    assert_eq!(h.states_of("a"), [TaskStarting, TaskFailed]);
    assert_eq!(h.states_of("c"), [TaskStarting, TaskFailed]);
    assert_eq!(h.states_of("b"), [TaskStarting, TaskRunning, TaskKilling]);
    let failed = h.statuses.iter().find(|s| s.state() == TaskFailed).unwrap();
    assert_eq!(failed.reason(), Reason::ContainerLaunchFailed);
    assert_eq!(failed.message(), "Failed to launch container: no such URI");
    h.exited(1, ExitStatus::Signal(15));
    h.acknowledge_all();
    assert_eq!(h.exit, Some(ExitStatus::Code(0)));
}

#[test]
fn a_task_that_ends_before_its_group_is_up_still_ran() {
    let mut h = Harness::group().subscribed();
    h.launch_group(vec![task("a"), task("b")]);
    h.launched(0);
    h.exited(0, ExitStatus::Code(0));
    h.launched(1);
    assert_eq!(h.states_of("a"), [TaskStarting, TaskRunning, TaskFinished]);
    assert_eq!(h.states_of("b"), [TaskStarting, TaskRunning]);
}

#[test]
fn shutdown_kills_everything_even_what_is_being_launched() {
    let mut h = running();
    h.launch_group(vec![task("c")]);
    h.shutdown();
    assert_eq!(h.signals.len(), 2);
    assert_eq!(h.destroys, [h.launches[2].container.clone()]);
    h.launch_group(vec![task("late")]);
    assert_eq!(h.launches.len(), 3);
    h.exited(0, ExitStatus::Signal(15));
    h.exited(1, ExitStatus::Signal(15));
    h.launch_failed(2, "destroyed");
    for id in ["a", "b", "c"] {
        assert_eq!(h.states_of(id).last(), Some(&TaskKilled));
    }
    h.acknowledge_all();
    assert_eq!(h.exit, Some(ExitStatus::Code(0)));
}

#[test]
fn shutdown_of_an_idle_executor_just_ends() {
    let mut h = Harness::group().subscribed();
    h.shutdown();
    assert_eq!(h.exit, Some(ExitStatus::Code(0)));
}

#[test]
fn a_single_task_is_not_for_a_default_executor() {
    let mut h = Harness::group().subscribed();
    h.launch(task("t"));
    assert_eq!(h.exit, Some(ExitStatus::Code(0)));
}

#[test]
fn an_unhealthy_task_takes_its_group_with_it() {
    let mut h = Harness::group().subscribed();
    let mut sick = task("a");
    sick.health_check = Some(v1::HealthCheck {
        r#type: Some(health_check::Type::Tcp as i32),
        tcp: Some(health_check::TcpCheckInfo {
            port: 80,
            ..Default::default()
        }),
        grace_period_seconds: Some(0.0),
        consecutive_failures: Some(1),
        ..Default::default()
    });
    h.launch_group(vec![sick, task("b")]);
    h.launched(0);
    h.launched(1);
    h.next();
    h.answer(ProbeOutcome::TimedOut);
    assert_eq!(
        h.states_of("a"),
        [TaskStarting, TaskRunning, TaskRunning, TaskKilling]
    );
    h.exited(0, ExitStatus::Signal(15));
    h.exited(1, ExitStatus::Signal(15));
    for id in ["a", "b"] {
        let last = h.statuses.iter().rfind(|s| s.task_id.value == id).unwrap();
        assert_eq!((last.state(), last.healthy), (TaskKilled, Some(false)));
    }
}

#[test]
fn a_disk_of_a_task_is_reached_through_the_executors_sandbox() {
    let mut h = Harness::group().subscribed();
    let mut info = task("a");
    let volume = v1::Volume {
        container_path: "data".to_owned(),
        ..Default::default()
    };
    info.resources.push(v1::Resource {
        name: "disk".to_owned(),
        disk: Some(Box::new(v1::resource::DiskInfo {
            volume: Some(volume),
            ..Default::default()
        })),
        ..Default::default()
    });
    h.launch_group(vec![info]);
    let container = h.launches[0].container_info.as_ref().unwrap();
    let source = container.volumes[0].source.as_ref().unwrap();
    assert_eq!(source.sandbox_path.as_ref().unwrap().path, "data");
}
