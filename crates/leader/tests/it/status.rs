//! Updates, acknowledgements, reconciliation, kills and messages.

use crate::{
    followers::{reregister, running_task},
    harness::*,
};
use tepui_leader::{Effect, Input};
use tepui_protocol::{
    internal,
    peer::PeerMessage,
    v1::{self, TaskState, scheduler, task_status::Reason},
};

fn reconcile(tasks: Vec<(&str, Option<&str>)>) -> scheduler::Call {
    let mut call = call(scheduler::call::Type::Reconcile);
    let tasks = tasks
        .into_iter()
        .map(|(task, at)| scheduler::call::reconcile::Task {
            task_id: v1::TaskId {
                value: task.to_owned(),
            },
            agent_id: at.map(|at| v1::AgentId {
                value: at.to_owned(),
            }),
        })
        .collect();
    call.reconcile = Some(scheduler::call::Reconcile { tasks });
    call
}

#[test]
fn a_framework_that_asks_for_everything_hears_of_every_task() {
    let (mut cluster, scheduler, _) = Cluster::running(framework());
    cluster.accepted(&scheduler, reconcile(vec![]));
    let update = cluster.update(scheduler.stream);
    assert_eq!(
        (update.state(), update.reason()),
        (TaskState::TaskRunning, Reason::Reconciliation)
    );
    assert_eq!(
        (update.message(), update.uuid.clone()),
        ("Reconciliation: Latest task state", None)
    );
    cluster.nothing_left();
}

#[test]
fn a_framework_that_asks_for_a_task_is_told_what_is_known() {
    for (info, unknown_there, unknown) in [
        (framework(), TaskState::TaskGone, TaskState::TaskUnknown),
        (simple_framework(), TaskState::TaskLost, TaskState::TaskLost),
    ] {
        let (mut cluster, scheduler, agent) = Cluster::running(info);
        let there = Some(agent.id.value.as_str());
        cluster.accepted(
            &scheduler,
            reconcile(vec![
                ("t1", there),
                ("x", there),
                ("x", Some("y")),
                ("x", None),
            ]),
        );
        let states: Vec<(TaskState, String)> = (0..4)
            .map(|_| {
                let update = cluster.update(scheduler.stream);
                (update.state(), update.message().to_owned())
            })
            .collect();
        let said = |state: TaskState, text: &str| (state, format!("Reconciliation: {text}"));
        assert_eq!(
            states,
            [
                said(TaskState::TaskRunning, "Latest task state"),
                said(unknown_there, "Task is unknown to the agent"),
                said(unknown, "Task is unknown"),
                said(unknown, "Task is unknown"),
            ]
        );
        cluster.nothing_left();
    }
}

#[test]
fn operations_are_unknown_for_now() {
    let (mut cluster, scheduler, agent) = Cluster::running(framework());
    let mut ask = call(scheduler::call::Type::ReconcileOperations);
    let operation = |at: Option<v1::AgentId>| scheduler::call::reconcile_operations::Operation {
        operation_id: v1::OperationId {
            value: "op".to_owned(),
        },
        agent_id: at,
        resource_provider_id: None,
    };
    ask.reconcile_operations = Some(scheduler::call::ReconcileOperations {
        operations: vec![operation(Some(agent.id)), operation(None)],
    });
    cluster.accepted(&scheduler, ask);
    for _ in 0..2 {
        let event = cluster.event(scheduler.stream);
        let status = &event
            .update_operation_status
            .as_ref()
            .expect("an operation status")
            .status;
        assert_eq!(status.state(), v1::OperationState::OperationUnknown);
    }
    cluster.nothing_left();
}

#[test]
fn kills_go_to_the_follower_and_kills_of_nothing_are_answered() {
    let (mut cluster, scheduler, agent) = Cluster::running(framework());
    let kill = |task: &str, at: Option<&str>| {
        let mut kill = call(scheduler::call::Type::Kill);
        kill.kill = Some(scheduler::call::Kill {
            task_id: v1::TaskId {
                value: task.to_owned(),
            },
            agent_id: at.map(|at| v1::AgentId {
                value: at.to_owned(),
            }),
            kill_policy: Some(v1::KillPolicy {
                grace_period: Some(v1::DurationInfo { nanoseconds: 5 }),
            }),
        });
        kill
    };
    cluster.accepted(&scheduler, kill("t1", None));
    let PeerMessage::KillTask(message) = cluster.sent(&agent.pid) else {
        panic!("expected KillTask")
    };
    assert_eq!(
        (
            message.task_id.value.as_str(),
            message.kill_policy.is_some()
        ),
        ("t1", true)
    );
    cluster.accepted(&scheduler, kill("t1", Some("elsewhere")));
    cluster.nothing_left();
    cluster.accepted(&scheduler, kill("nothing", None));
    assert_eq!(
        cluster.update(scheduler.stream).state(),
        TaskState::TaskUnknown
    );
    cluster.nothing_left();
}

#[test]
fn acknowledgements_of_what_was_not_said_go_nowhere() {
    let (mut cluster, scheduler, agent) = Cluster::running(framework());
    let nowhere = Agent {
        id: v1::AgentId {
            value: "nowhere".to_owned(),
        },
        pid: agent.pid.clone(),
    };
    cluster.accepted(&scheduler, acknowledge(&nowhere, "t1", 1));
    cluster.nothing_left();
    assert_eq!(
        cluster
            .view()
            .metrics
            .count("master/invalid_status_update_acknowledgements"),
        1
    );

    // The end is acknowledged with the UUID of the end: an older one leaves the task.
    cluster.peer(
        &agent.pid,
        status(&scheduler, &agent, "t1", TaskState::TaskFailed, 2),
    );
    cluster.update(scheduler.stream);
    cluster.pending.clear();
    cluster.accepted(&scheduler, acknowledge(&agent, "t1", 1));
    cluster.sent(&agent.pid);
    assert_eq!(
        cluster
            .view()
            .frameworks
            .get("lead-0000")
            .map(|f| f.tasks.size()),
        Some(1)
    );
    cluster.accepted(&scheduler, acknowledge(&agent, "t1", 2));
    cluster.sent(&agent.pid);
    assert_eq!(
        cluster
            .view()
            .frameworks
            .get("lead-0000")
            .map(|f| f.tasks.size()),
        Some(0)
    );
    cluster.nothing_left();
}

#[test]
fn resources_are_free_when_the_follower_knows_the_end_even_if_the_framework_does_not() {
    let (mut cluster, scheduler, agent) = Cluster::running(framework());
    let mut message = status(&scheduler, &agent, "t1", TaskState::TaskRunning, 2);
    message.update.set_latest_state(TaskState::TaskFinished);
    cluster.peer(&agent.pid, message);
    assert_eq!(
        cluster.update(scheduler.stream).state(),
        TaskState::TaskRunning
    );
    assert_eq!(cpus(&cluster.offer(scheduler.stream)), Some(4.0));
    cluster.accepted(&scheduler, acknowledge(&agent, "t1", 2));
    cluster.sent(&agent.pid);
    let view = cluster.view();
    let tasks = &view.frameworks.get("lead-0000").expect("in the view").tasks;
    assert_eq!(tasks.size(), 1, "its end is not acknowledged yet");
    cluster.nothing_left();
}

#[test]
fn updates_of_nobody_knows_what_are_counted_and_dropped() {
    let (mut cluster, scheduler, agent) = Cluster::running(framework());
    let nowhere = Agent {
        id: v1::AgentId {
            value: "nowhere".to_owned(),
        },
        pid: agent.pid.clone(),
    };
    cluster.peer(
        &agent.pid,
        status(&scheduler, &nowhere, "t1", TaskState::TaskRunning, 2),
    );
    let mut bad = status(&scheduler, &agent, "t1", TaskState::TaskRunning, 2);
    bad.update.uuid = Some(vec![1, 2].into());
    cluster.peer(&agent.pid, bad);
    cluster.nothing_left();
    // A task the leader does not know may be known to the framework: it is told.
    cluster.peer(
        &agent.pid,
        status(&scheduler, &agent, "other", TaskState::TaskRunning, 3),
    );
    assert_eq!(cluster.update(scheduler.stream).task_id.value, "other");
    // It holds resources that others may get: it must not go on.
    let PeerMessage::KillTask(kill) = cluster.sent(&agent.pid) else {
        panic!("the unknown task is not killed")
    };
    assert_eq!(kill.task_id.value, "other");
    cluster.nothing_left();
    assert_eq!(
        cluster
            .view()
            .metrics
            .count("master/invalid_status_updates"),
        3
    );
}

#[test]
fn messages_pass_both_ways() {
    let (mut cluster, scheduler, agent) = Cluster::running(framework());
    let executor_id = v1::ExecutorId {
        value: "e".to_owned(),
    };
    let mut message = call(scheduler::call::Type::Message);
    message.message = Some(scheduler::call::Message {
        agent_id: agent.id.clone(),
        executor_id: executor_id.clone(),
        data: vec![7].into(),
    });
    cluster.accepted(&scheduler, message);
    let PeerMessage::FrameworkToExecutor(there) = cluster.sent(&agent.pid) else {
        panic!("expected a message")
    };
    assert_eq!(
        (there.data.as_ref(), there.framework_id),
        (&[7u8][..], scheduler.id.clone())
    );
    let back = internal::ExecutorToFrameworkMessage {
        slave_id: agent.id.clone(),
        framework_id: scheduler.id.clone(),
        executor_id: executor_id.clone(),
        data: vec![8].into(),
    };
    cluster.peer(&agent.pid, back);
    let event = cluster.event(scheduler.stream);
    assert_eq!(
        event.message.as_ref().map(|message| message.data.as_ref()),
        Some(&[8u8][..])
    );

    let mut shutdown = call(scheduler::call::Type::Shutdown);
    shutdown.shutdown = Some(scheduler::call::Shutdown {
        executor_id,
        agent_id: agent.id,
    });
    cluster.accepted(&scheduler, shutdown);
    let PeerMessage::ShutdownExecutor(message) = cluster.sent(&agent.pid) else {
        panic!("expected a shutdown")
    };
    assert_eq!(message.framework_id, Some(scheduler.id));
    cluster.nothing_left();
}

#[test]
fn requests_and_inverse_offers_change_nothing() {
    let (mut cluster, scheduler, _) = Cluster::running(framework());
    let mut request = call(scheduler::call::Type::Request);
    request.request = Some(scheduler::call::Request::default());
    let mut inverse = call(scheduler::call::Type::AcceptInverseOffers);
    inverse.accept_inverse_offers = Some(scheduler::call::AcceptInverseOffers {
        inverse_offer_ids: vec![v1::OfferId {
            value: "x".to_owned(),
        }],
        filters: None,
    });
    cluster.accepted(&scheduler, request);
    cluster.accepted(&scheduler, inverse);
    cluster.nothing_left();
}

#[test]
fn an_executor_is_shared_and_must_be_the_same() {
    let (mut cluster, scheduler, agent, offer) = Cluster::offered(framework());
    let executor = |cpus: &str| v1::ExecutorInfo {
        executor_id: v1::ExecutorId {
            value: "e".to_owned(),
        },
        command: Some(v1::CommandInfo {
            value: Some("run".to_owned()),
            ..Default::default()
        }),
        resources: resources(cpus),
        ..Default::default()
    };
    let with = |id: &str, own: &str| v1::TaskInfo {
        executor: Some(executor(own)),
        command: None,
        ..task(id, &offer, "cpus:1;mem:64")
    };
    let tasks = vec![
        with("a", "cpus:0.5;mem:32"),
        with("b", "cpus:0.5;mem:32"),
        with("c", "cpus:0.6;mem:32"),
    ];
    cluster.accepted(&scheduler, launch(&offer, tasks));
    for (id, first) in [("a", true), ("b", false)] {
        let PeerMessage::RunTask(run) = cluster.sent(&agent.pid) else {
            panic!("expected RunTask")
        };
        assert_eq!(
            (run.task.task_id.value.as_str(), run.launch_executor),
            (id, Some(first))
        );
        let filled = run.task.executor.expect("its executor").framework_id;
        assert_eq!(filled, Some(scheduler.id.clone()));
    }
    let update = cluster.update(scheduler.stream);
    assert!(
        update
            .message()
            .starts_with("ExecutorInfo is not compatible with existing ExecutorInfo")
    );
    cluster.nothing_left();
    let view = cluster.view();
    let used = view
        .frameworks
        .get("lead-0000")
        .map(|f| tepui_model::Resources::from_proto(f.used.iter()).to_string());
    assert_eq!(
        used.as_deref(),
        Some("cpus(allocated: *):2.5; mem(allocated: *):160")
    );
    assert!(
        !cluster
            .pending
            .iter()
            .any(|effect| matches!(effect, Effect::Persist(_)))
    );
}

#[test]
fn an_old_update_that_comes_again_is_acknowledged_and_changes_nothing() {
    let (mut cluster, scheduler, agent, offer) = Cluster::offered(framework());
    cluster.accepted(
        &scheduler,
        launch(&offer, vec![task("t1", &offer, "cpus:1;mem:128")]),
    );
    cluster.sent(&agent.pid);
    let starting = || status(&scheduler, &agent, "t1", TaskState::TaskStarting, 1);
    cluster.peer(&agent.pid, starting());
    cluster.update(scheduler.stream);
    let running = status(&scheduler, &agent, "t1", TaskState::TaskRunning, 2);
    cluster.peer(&agent.pid, running);
    cluster.update(scheduler.stream);
    // Late, or its follower has forgotten that it was acknowledged: nobody is to hear that the task
    // goes back.
    cluster.peer(&agent.pid, starting());
    assert_acknowledged(&mut cluster, &agent, 1);
    cluster.accepted(&scheduler, reconcile(vec![("t1", None)]));
    let told = cluster.update(scheduler.stream);
    assert_eq!(told.state(), TaskState::TaskRunning);
}

#[test]
fn an_old_update_of_a_task_whose_end_was_acknowledged_is_acknowledged_and_not_passed_on() {
    let (mut cluster, scheduler, agent, offer) = Cluster::offered(framework());
    cluster.accepted(
        &scheduler,
        launch(&offer, vec![task("t1", &offer, "cpus:1;mem:128")]),
    );
    cluster.sent(&agent.pid);
    let running = || status(&scheduler, &agent, "t1", TaskState::TaskRunning, 1);
    cluster.peer(&agent.pid, running());
    cluster.update(scheduler.stream);
    let finished = status(&scheduler, &agent, "t1", TaskState::TaskFinished, 2);
    cluster.peer(&agent.pid, finished);
    cluster.update(scheduler.stream);
    cluster.pending.clear();
    cluster.accepted(&scheduler, acknowledge(&agent, "t1", 2));
    cluster.sent(&agent.pid);
    cluster.pending.clear();
    // Its follower has forgotten, or it comes late: nobody is to hear that the task runs.
    cluster.peer(&agent.pid, running());
    assert_acknowledged(&mut cluster, &agent, 1);
    // Nor of what the answer to a kill says that crossed its end.
    let dropped = status(&scheduler, &agent, "t1", TaskState::TaskDropped, 3);
    cluster.peer(&agent.pid, dropped);
    assert_acknowledged(&mut cluster, &agent, 3);
}

/// By the leader, and nothing else happens.
fn assert_acknowledged(cluster: &mut Cluster, agent: &Agent, update: u8) {
    let PeerMessage::StatusUpdateAcknowledgement(message) = cluster.sent(&agent.pid) else {
        panic!("the update is not acknowledged")
    };
    assert_eq!(message.uuid, uuid(update));
    cluster.nothing_left();
}

#[test]
fn of_several_updates_of_one_state_none_comes_after_the_end() {
    let (mut cluster, scheduler, agent, offer) = Cluster::offered(framework());
    cluster.accepted(
        &scheduler,
        launch(&offer, vec![task("t1", &offer, "cpus:1;mem:128")]),
    );
    cluster.sent(&agent.pid);
    for (state, number) in [
        (TaskState::TaskRunning, 1),
        (TaskState::TaskRunning, 2),
        (TaskState::TaskFinished, 3),
    ] {
        cluster.peer(&agent.pid, status(&scheduler, &agent, "t1", state, number));
        cluster.update(scheduler.stream);
    }
    cluster.pending.clear();
    // Only the second one is kept.
    let first = status(&scheduler, &agent, "t1", TaskState::TaskRunning, 1);
    cluster.peer(&agent.pid, first);
    assert_acknowledged(&mut cluster, &agent, 1);
    // The end is still what waits for its acknowledgement.
    cluster.accepted(&scheduler, acknowledge(&agent, "t1", 3));
    assert!(
        cluster
            .view()
            .frameworks
            .values()
            .all(|f| f.tasks.is_empty())
    );
}

#[test]
fn a_new_leader_passes_on_updates_that_are_older_than_what_it_knows() {
    let mut cluster = Cluster::new();
    let scheduler = cluster.subscribe(framework());
    let agent = Agent {
        id: v1::AgentId {
            value: "old-S0".to_owned(),
        },
        pid: pid(1),
    };
    let mut runs = running_task("t1", &scheduler.id, &agent, TaskState::TaskRunning);
    for (state, number) in [(TaskState::TaskStarting, 1), (TaskState::TaskRunning, 2)] {
        let update = status(&scheduler, &agent, "t1", state, number).update;
        runs.statuses.push(update.status);
    }
    let mut info = framework();
    info.id = Some(scheduler.id.clone());
    let mut message = reregister(1, &agent, vec![info]);
    message.tasks.push(runs);
    cluster.peer(&agent.pid, message);
    cluster.pending.clear();
    let starting = status(&scheduler, &agent, "t1", TaskState::TaskStarting, 1);
    cluster.peer(&agent.pid, starting);
    let update = cluster.update(scheduler.stream);
    assert_eq!(update.state(), TaskState::TaskStarting);
    let mut acknowledge = call(scheduler::call::Type::Acknowledge);
    acknowledge.acknowledge = Some(scheduler::call::Acknowledge {
        agent_id: agent.id.clone(),
        task_id: update.task_id,
        uuid: update.uuid.expect("it wants to be acknowledged"),
    });
    cluster.accepted(&scheduler, acknowledge);
    assert!(matches!(
        cluster.sent(&agent.pid),
        PeerMessage::StatusUpdateAcknowledgement(_)
    ));
}

#[test]
fn a_framework_that_was_away_is_told_the_state_it_hears_of_next_and_not_a_later_one() {
    let (mut cluster, mut scheduler, agent, offer) = Cluster::offered(framework());
    cluster.accepted(
        &scheduler,
        launch(&offer, vec![task("t1", &offer, "cpus:1;mem:128")]),
    );
    cluster.sent(&agent.pid);
    let stream = scheduler.stream;
    cluster.handle(Input::StreamClosed { stream });
    let mut starting = status(&scheduler, &agent, "t1", TaskState::TaskStarting, 1);
    starting.update.set_latest_state(TaskState::TaskKilled);
    cluster.peer(&agent.pid, starting.clone());
    let mut info = framework();
    info.id = Some(scheduler.id.clone());
    scheduler = cluster.subscribe(info);
    cluster.pending.clear();
    cluster.accepted(&scheduler, reconcile(vec![("t1", None)]));
    let told = cluster.update(scheduler.stream);
    assert_eq!(told.state(), TaskState::TaskStarting);
    // Its follower says it again.
    cluster.peer(&agent.pid, starting);
    let told = cluster.update(scheduler.stream);
    assert_eq!(told.state(), TaskState::TaskStarting);
    cluster.nothing_left();
}
