//! Executors over HTTP, task groups, messages, launches that share an executor.

use crate::harness::*;
use std::time::Duration;
use tepui_follower::{
    io::{Effect, Input, Reply},
    view::ExecutorState,
};
use tepui_model::{
    RequestId,
    container::{ContainerEvent, ExitStatus},
};
use tepui_protocol::{
    internal as i,
    v1::{
        self, TaskState, agent,
        executor::{Call, call},
    },
};

const SECOND: Duration = Duration::from_secs(1);

fn custom(id: &str) -> v1::TaskInfo {
    v1::TaskInfo {
        executor: Some(custom_executor("e")),
        ..task(id)
    }
}

fn run_again(w: &mut World, id: &str, launch_executor: bool) {
    w.leader_says(i::RunTaskMessage {
        framework: framework(),
        task: custom(id),
        launch_executor: Some(launch_executor),
        ..Default::default()
    });
}

/// A custom executor with task `t` that has subscribed.
fn subscribed() -> (
    World,
    tepui_model::container::ContainerId,
    tepui_model::StreamId,
) {
    let mut w = World::registered();
    w.run(custom("t"));
    let container = w.launched().container;
    let (stream, refusal) = w.http_subscribe(subscribe("e"));
    assert_eq!(refusal, None);
    assert_eq!(w.seen(), ["SUBSCRIBED to stream", "LAUNCH t to stream"]);
    (w, container, stream)
}

#[test]
fn a_custom_executor_is_a_container_with_the_whole_environment() {
    let mut w = World::registered();
    w.run(custom("t"));
    let spec = w.launched();
    assert_eq!(spec.command.value.as_deref(), Some("./run"));
    assert_eq!(spec.user.as_deref(), Some("root"));
    assert!(spec.latest.unwrap().ends_with("runs/latest"));
    let names: Vec<_> = spec
        .environment
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    for name in [
        "MESOS_FRAMEWORK_ID",
        "MESOS_EXECUTOR_ID",
        "MESOS_SLAVE_PID",
        "MESOS_AGENT_ENDPOINT",
        "PATH",
    ] {
        assert!(names.contains(&name), "{name}");
    }
    let cpus = tepui_model::Resources::from_proto(spec.resources.iter())
        .cpus()
        .to_f64();
    assert_eq!(cpus, 1.5, "executor and task");
}

#[test]
fn refusals_are_in_the_words_of_the_reference() {
    let mut w = World::registered();
    let refuse = |w: &mut World, call: Call| match w.http(call) {
        Reply::Error { status, message } => (status, message),
        other => panic!("{other:?}"),
    };
    let text = |(status, message): (u16, String)| format!("{status} {message}");
    assert_eq!(
        text(refuse(&mut w, update("e", "t", TaskState::TaskRunning, 1))),
        "400 Framework cannot be found"
    );
    w.run(custom("t"));
    assert_eq!(
        text(refuse(&mut w, update("x", "t", TaskState::TaskRunning, 1))),
        "400 Executor cannot be found"
    );
    assert_eq!(
        text(refuse(&mut w, update("e", "t", TaskState::TaskRunning, 1))),
        "403 Executor is not subscribed"
    );
    let invalid = |text: &str| format!("400 Failed to validate Executor::Call: {text}");
    let bare = |kind| executor_call("e", kind);
    let typeless = Call {
        r#type: None,
        ..bare(call::Type::Update)
    };
    assert_eq!(
        text(refuse(&mut w, typeless)),
        invalid("Expecting 'type' to be present")
    );
    assert_eq!(
        text(refuse(&mut w, bare(call::Type::Update))),
        invalid("Expecting 'update' to be present")
    );
    assert_eq!(
        text(refuse(&mut w, bare(call::Type::Message))),
        invalid("Expecting 'message' to be present")
    );
    let (_, refusal) = w.http_subscribe(bare(call::Type::Subscribe));
    assert!(matches!(refusal, Some(Reply::Error { status: 400, .. })));

    let edit = |edit: fn(&mut v1::TaskStatus)| {
        let mut call = update("e", "t", TaskState::TaskRunning, 1);
        edit(&mut call.update.as_mut().unwrap().status);
        call
    };
    let cases: [(Call, &str); 5] = [
        (edit(|s| s.uuid = None), "Expecting 'uuid' to be present"),
        (
            edit(|s| s.uuid = Some(vec![1, 2].into())),
            "Not a valid UUID",
        ),
        (
            edit(|s| s.executor_id = Some(v1::ExecutorId { value: "x".into() })),
            "ExecutorID in Call: e does not match ExecutorID in TaskStatus: x",
        ),
        (
            edit(|s| s.source = None),
            "Received Call from executor e of framework L-0000 with invalid source, expecting 'SOURCE_EXECUTOR'",
        ),
        (
            edit(|s| s.state = TaskState::TaskStaging.into()),
            "Received TASK_STAGING from executor e of framework L-0000 which is not allowed",
        ),
    ];
    for (call, expected) in cases {
        assert_eq!(text(refuse(&mut w, call)), invalid(expected));
    }
    assert_eq!(w.http(bare(call::Type::Heartbeat)), Reply::Accepted);
    assert_eq!(refuse(&mut w, bare(call::Type::Unknown)).0, 403);
}

#[test]
fn updates_over_http_are_accepted_acknowledged_and_forwarded() {
    let (mut w, _, _) = subscribed();
    assert_eq!(
        w.http(update("e", "t", TaskState::TaskRunning, 1)),
        Reply::Accepted
    );
    let seen = w.take();
    assert_eq!(
        seen.iter().map(describe).collect::<Vec<_>>(),
        ["TASK_RUNNING of t () to master", "ACKNOWLEDGED t to stream"]
    );
    w.effects = seen;
    let update = w.updates().remove(0);
    assert_eq!(
        update.executor_id, None,
        "what the executor leaves out stays out"
    );
    assert_eq!(update.status.agent_id.unwrap().value, ID);
}

#[test]
fn later_tasks_go_straight_to_the_running_executor() {
    let (mut w, _, _) = subscribed();
    run_again(&mut w, "t2", false);
    assert_eq!(w.seen(), ["LAUNCH t2 to stream"]);
}

#[test]
fn the_leaders_idea_of_the_executor_must_be_right() {
    let mut w = World::registered();
    run_again(&mut w, "t", false);
    assert_eq!(
        w.seen(),
        [
            "TASK_DROPPED of t (No executor is expected to launch and there is none running) to master"
        ]
    );
    let (mut w, _, _) = subscribed();
    run_again(&mut w, "t2", true);
    assert_eq!(
        w.seen(),
        [
            "TASK_DROPPED of t2 (Master wants to launch executor, but one already exists) to master",
            "SHUTDOWN to stream"
        ]
    );
    run_again(&mut w, "t3", false);
    assert_eq!(
        w.seen(),
        ["TASK_DROPPED of t3 (Executor terminating) to master"]
    );
}

#[test]
fn an_executor_that_comes_back_replaces_its_stream_and_tells_what_was_unacknowledged() {
    let (mut w, _, stream) = subscribed();
    run_again(&mut w, "lost", false);
    w.take();
    w.step(Input::StreamClosed { stream });
    run_again(&mut w, "unsent", false);
    assert!(w.seen().is_empty(), "nobody listens");
    let call = Call {
        subscribe: Some(call::Subscribe {
            unacknowledged_tasks: vec![custom("t")],
            unacknowledged_updates: vec![
                update("e", "t", TaskState::TaskRunning, 1).update.unwrap(),
            ],
        }),
        ..executor_call("e", call::Type::Subscribe)
    };
    w.http_subscribe(call.clone());
    assert_eq!(
        w.seen(),
        [
            "SUBSCRIBED to stream",
            "TASK_RUNNING of t () to master",
            "ACKNOWLEDGED t to stream",
            "TASK_DROPPED of lost (Task launched during agent restart) to master",
            "TASK_DROPPED of unsent (Task launched during agent restart) to master",
        ]
    );
    w.http_subscribe(call);
    assert_eq!(
        w.seen(),
        [
            "close stream",
            "SUBSCRIBED to stream",
            "ACKNOWLEDGED t to stream"
        ]
    );
}

#[test]
fn the_end_of_an_executor_fails_what_it_ran_and_what_waited() {
    let mut w = World::registered();
    w.run(custom("t"));
    let container = w.launched().container;
    run_again(&mut w, "t2", false);
    w.exited(&container, ExitStatus::Code(3));
    assert_eq!(
        w.seen(),
        [
            "TASK_FAILED of t (Executor terminated) to master",
            "TASK_FAILED of t2 (Executor terminated) to master",
            "ExitedExecutor e 768 to master",
        ]
    );
    let (mut w, container, _) = subscribed();
    w.exited(&container, ExitStatus::Signal(9));
    assert_eq!(
        w.seen(),
        [
            "close stream",
            "TASK_FAILED of t (Executor terminated) to master",
            "ExitedExecutor e 9 to master",
        ]
    );
    run_again(&mut w, "t2", false);
    assert_eq!(
        w.seen(),
        ["TASK_DROPPED of t2 (Executor terminated) to master"]
    );
}

#[test]
fn an_executor_has_its_grace_period_to_shut_down() {
    let (mut w, container, _) = subscribed();
    w.leader_says(i::ShutdownExecutorMessage {
        executor_id: Some(v1::ExecutorId { value: "e".into() }),
        framework_id: framework().id,
    });
    assert_eq!(w.seen(), ["SHUTDOWN to stream"]);
    w.pass(4 * SECOND);
    assert!(w.seen().is_empty());
    w.pass(2 * SECOND);
    assert_eq!(w.seen(), ["destroy"]);
    w.exited(&container, ExitStatus::Signal(9));
    assert_eq!(
        w.seen()[1..],
        [
            "TASK_FAILED of t (Executor terminated) to master",
            "ExitedExecutor e 9 to master"
        ]
    );
}

#[test]
fn a_group_is_launched_and_killed_as_one() {
    let mut w = World::registered();
    let executor = v1::ExecutorInfo {
        r#type: Some(v1::executor_info::Type::Default.into()),
        command: None,
        ..custom_executor("d")
    };
    let group = |ids: [&str; 2]| v1::TaskGroupInfo {
        tasks: ids.map(command).into(),
    };
    let run = |w: &mut World, ids, launch| {
        w.leader_says(i::RunTaskGroupMessage {
            framework: framework(),
            executor: executor.clone(),
            task_group: group(ids),
            launch_executor: Some(launch),
            ..Default::default()
        })
    };
    run(&mut w, ["a", "b"], true);
    let local = w.local_executor();
    assert_eq!(local.info.executor_id.value, "d");
    run(&mut w, ["c", "d"], false);
    w.kill("b");
    let text = "A task within the task group was killed before delivery to the executor";
    assert_eq!(
        w.seen(),
        [
            format!("TASK_KILLED of a ({text}) to master"),
            format!("TASK_KILLED of b ({text}) to master")
        ]
    );
    w.local(&local.container, subscribe("d"));
    assert_eq!(
        w.seen(),
        ["SUBSCRIBED to local", "LAUNCH_GROUP c d to local"]
    );

    let nested = local.container.nested("n");
    w.step(Input::Container {
        container: nested.clone(),
        event: ContainerEvent::Launched { pid: 7 },
    });
    let mut call = update("d", "c", TaskState::TaskRunning, 1);
    call.update.as_mut().unwrap().status.container_status = Some(v1::ContainerStatus {
        container_id: Some(nested.to_proto()),
        ..Default::default()
    });
    w.local(&local.container, call);
    let status = w.updates().remove(0).status.container_status.unwrap();
    assert_eq!(
        (status.executor_pid, status.network_infos.len()),
        (Some(7), 1)
    );
    assert!(status.container_id.unwrap().parent.is_some());

    w.exited(&local.container, ExitStatus::Code(0));
    assert_eq!(w.seen().last().unwrap(), "ExitedExecutor d 0 to master");
}

#[test]
fn messages_pass_in_both_directions() {
    let (mut w, _, _) = subscribed();
    w.leader_says(i::FrameworkToExecutorMessage {
        slave_id: v1::AgentId { value: ID.into() },
        framework_id: framework().id.unwrap(),
        executor_id: v1::ExecutorId { value: "e".into() },
        data: vec![1].into(),
    });
    assert_eq!(w.seen(), ["MESSAGE to stream"]);
    let call = Call {
        message: Some(call::Message {
            data: vec![2].into(),
        }),
        ..executor_call("e", call::Type::Message)
    };
    assert_eq!(w.http(call.clone()), Reply::Accepted);
    assert_eq!(w.seen(), ["ExecutorToFrameworkMessage to master"]);
    w.leader_says(i::UpdateFrameworkMessage {
        framework_id: framework().id.unwrap(),
        pid: Some("scheduler(1)@127.0.0.1:999".into()),
        framework_info: Some(framework()),
    });
    w.http(call);
    assert_eq!(
        w.seen(),
        ["ExecutorToFrameworkMessage to scheduler(1)"],
        "a driver is told directly"
    );
    assert_eq!(w.follower.view().counters.valid_framework_messages, 3);
}

#[test]
fn executors_hear_a_heartbeat_every_half_hour() {
    let (mut w, _, _) = subscribed();
    let mut beats = 0;
    for _ in 0..61 {
        w.pass(60 * SECOND);
        w.leader_says(i::PingSlaveMessage { connected: true });
        beats += w
            .seen()
            .iter()
            .filter(|e| *e == "HEARTBEAT to stream")
            .count();
    }
    assert_eq!(beats, 2);
}

#[test]
fn a_container_that_starts_too_late_is_destroyed() {
    let mut w = World::registered();
    w.run(custom("t"));
    let container = w.launched().container;
    w.leader_says(i::ShutdownFrameworkMessage {
        framework_id: framework().id.unwrap(),
    });
    assert!(w.seen().is_empty(), "nobody listens yet");
    w.step(Input::Container {
        container: container.clone(),
        event: ContainerEvent::Launched { pid: 1 },
    });
    assert_eq!(w.seen(), ["destroy"]);
    w.exited(&container, ExitStatus::Signal(9));
    assert_eq!(w.seen(), ["ExitedExecutor e 9 to master"]);
    assert_eq!(w.follower.view().frameworks.size(), 0);
}

#[test]
fn a_terminated_executor_may_still_subscribe_and_is_sent_away() {
    let (mut w, container, _) = subscribed();
    w.exited(&container, ExitStatus::Code(0));
    w.take();
    let state = |w: &World| {
        w.follower
            .view()
            .frameworks
            .values()
            .next()
            .unwrap()
            .executors
            .values()
            .next()
            .unwrap()
            .state
    };
    assert_eq!(state(&w), ExecutorState::Terminated);
    w.http_subscribe(subscribe("e"));
    assert_eq!(w.seen(), ["SHUTDOWN to stream", "close stream"]);
}

#[test]
fn operator_calls_that_change_something_are_refused_by_name() {
    let mut w = World::registered();
    let call = agent::Call {
        r#type: Some(agent::call::Type::RemoveContainer.into()),
        remove_container: Some(agent::call::RemoveContainer {
            container_id: v1::ContainerId {
                value: "c".into(),
                ..Default::default()
            },
        }),
        ..Default::default()
    };
    w.step(Input::Operator {
        request: RequestId(1),
        call: Box::new(call),
        principal: None,
    });
    let effects = w.take();
    let [
        Effect::Reply {
            reply:
                Reply::Error {
                    status: 501,
                    message,
                },
            ..
        },
    ] = &effects[..]
    else {
        panic!("{effects:?}")
    };
    assert!(message.contains("REMOVE_CONTAINER"), "{message}");
}

#[test]
fn nobody_takes_the_place_of_an_executor_of_this_process() {
    let mut w = World::registered();
    w.running_command("t");
    let refused = Reply::Error {
        status: 400,
        message: "Executor cannot be found".into(),
    };
    let (_, refusal) = w.http_subscribe(subscribe("t"));
    assert_eq!(refusal.as_ref(), Some(&refused));
    let finished = w.http(update("t", "t", TaskState::TaskFinished, 1));
    assert_eq!(finished, refused);
    assert_eq!(w.seen(), [""; 0]);
}
