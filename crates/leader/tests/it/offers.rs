//! From offer to acknowledged end of a task.

use crate::harness::*;
use std::time::Duration;
use tepui_leader::{Config, Effect, Reply};
use tepui_protocol::{
    internal,
    peer::PeerMessage,
    v1::{self, TaskState, scheduler, task_status::Reason},
};

#[test]
fn a_command_task_runs_from_offer_to_acknowledged_end() {
    let (mut cluster, scheduler, agent, offer) = Cluster::offered(framework());
    assert_eq!(scheduler.id.value, "lead-0000");
    assert_eq!(agent.id.value, "lead-S0");
    assert_eq!(offer.id.value, "lead-O0");
    assert_eq!(offer.agent_id, agent.id);
    assert_eq!(
        offer.url.as_ref().and_then(|url| url.path.as_deref()),
        Some("/slave(1)")
    );

    cluster.accepted(
        &scheduler,
        launch(&offer, vec![task("t1", &offer, "cpus:1;mem:128")]),
    );
    let PeerMessage::RunTask(run) = cluster.sent(&agent.pid) else {
        panic!("expected RunTask")
    };
    assert_eq!(run.pid.as_deref(), Some("@0.0.0.0:0"));
    assert_eq!(run.framework.id, Some(scheduler.id.clone()));
    assert_eq!(run.launch_executor, Some(true));
    assert_eq!(
        run.task.executor, None,
        "the follower makes the executor of a command task"
    );
    assert_eq!(run.resource_version_uuids.len(), 1);
    assert!(run.task.resources.iter().all(|r| {
        r.allocation_info
            .as_ref()
            .is_some_and(|info| info.role() == "*")
    }));
    cluster.nothing_left();

    cluster.peer(
        &agent.pid,
        status(&scheduler, &agent, "t1", TaskState::TaskRunning, 1),
    );
    let update = cluster.update(scheduler.stream);
    assert_eq!(update.state(), TaskState::TaskRunning);
    assert_eq!(
        (update.agent_id, update.uuid, update.timestamp),
        (Some(agent.id.clone()), Some(uuid(1)), Some(5.0))
    );
    assert_eq!(update.data.as_deref(), Some(&[1u8, 2, 3][..]));
    cluster.accepted(&scheduler, acknowledge(&agent, "t1", 1));
    let PeerMessage::StatusUpdateAcknowledgement(_) = cluster.sent(&agent.pid) else {
        panic!("expected an ack")
    };
    cluster.nothing_left();

    cluster.peer(
        &agent.pid,
        status(&scheduler, &agent, "t1", TaskState::TaskFinished, 2),
    );
    assert_eq!(
        cluster.update(scheduler.stream).state(),
        TaskState::TaskFinished
    );
    let freed = cluster.offer(scheduler.stream);
    assert_eq!(
        cpus(&freed),
        Some(4.0),
        "more than was refused when the task was launched"
    );
    let view = cluster.view();
    let seen = view.frameworks.get("lead-0000").expect("in the view");
    assert_eq!(
        (
            seen.tasks.size(),
            seen.completed_tasks.len(),
            seen.used.len()
        ),
        (1, 0, 0)
    );
    assert!(
        seen.tasks
            .values()
            .all(|task| task.statuses.iter().all(|status| status.data.is_none()))
    );

    cluster.accepted(&scheduler, acknowledge(&agent, "t1", 2));
    let PeerMessage::StatusUpdateAcknowledgement(_) = cluster.sent(&agent.pid) else {
        panic!("expected an ack")
    };
    cluster.nothing_left();
    let view = cluster.view();
    let seen = view.frameworks.get("lead-0000").expect("in the view");
    assert_eq!((seen.tasks.size(), seen.completed_tasks.len()), (0, 1));
    assert_eq!(view.metrics.count("master/tasks_finished"), 1);
    assert_eq!(
        view.metrics
            .count("master/valid_status_update_acknowledgements"),
        2
    );
}

#[test]
fn what_is_not_used_comes_back_when_the_refusal_ends() {
    let (mut cluster, scheduler, agent, offer) = Cluster::offered(framework());
    cluster.accepted(
        &scheduler,
        launch(&offer, vec![task("t1", &offer, "cpus:1;mem:128")]),
    );
    cluster.sent(&agent.pid);
    cluster.pass(Duration::from_millis(4900));
    cluster.nothing_left();
    cluster.pass(Duration::from_millis(200));
    let offer = cluster.offer(scheduler.stream);
    assert_eq!(cpus(&offer), Some(3.0));
    cluster.nothing_left();
}

#[test]
fn a_framework_of_few_capabilities_sees_neither_allocations_nor_reservations() {
    let (mut cluster, scheduler, agent, offer) = Cluster::offered(simple_framework());
    assert_eq!(offer.allocation_info, None);
    let plain = offer
        .resources
        .iter()
        .all(|r| r.allocation_info.is_none() && r.role.as_deref() == Some("*"));
    assert!(plain);
    cluster.accepted(
        &scheduler,
        launch(&offer, vec![task("t1", &offer, "cpus:1;mem:128")]),
    );
    let PeerMessage::RunTask(run) = cluster.sent(&agent.pid) else {
        panic!("expected RunTask")
    };
    assert!(
        run.task
            .resources
            .iter()
            .all(|r| r.allocation_info.is_some()),
        "the leader fills it in"
    );
    cluster.nothing_left();
}

#[test]
fn offers_that_are_gone_lose_their_tasks() {
    for (info, state) in [
        (framework(), TaskState::TaskDropped),
        (simple_framework(), TaskState::TaskLost),
    ] {
        let (mut cluster, scheduler, _, mut offer) = Cluster::offered(info);
        offer.id.value = "lead-O77".to_owned();
        cluster.accepted(
            &scheduler,
            launch(&offer, vec![task("t1", &offer, "cpus:1;mem:128")]),
        );
        let update = cluster.update(scheduler.stream);
        assert_eq!(
            (update.state(), update.reason()),
            (state, Reason::InvalidOffers)
        );
        assert_eq!(
            update.message(),
            "Task launched with invalid offers: Offer lead-O77 is no longer valid"
        );
        assert_eq!(
            update.uuid, None,
            "nobody acknowledges the leader's own updates"
        );
        cluster.nothing_left();
    }
}

#[test]
fn offers_of_others_and_offers_named_twice_are_refused() {
    let (mut cluster, first, _, offer) = Cluster::offered(framework());
    let second = cluster.subscribe(framework());
    let tasks = || vec![task("t1", &offer, "cpus:1;mem:128")];
    cluster.accepted(&second, launch(&offer, tasks()));
    assert_eq!(
        cluster.update(second.stream).message(),
        "Task launched with invalid offers: Offer lead-O0 has invalid framework lead-0000 while framework lead-0001 \
         is expected"
    );
    cluster.nothing_left();

    cluster.accepted(
        &first,
        accept(&[&offer, &offer], vec![launch_operation(tasks())]),
    );
    let message = "Task launched with invalid offers: Duplicate offer lead-O0 in offer list";
    assert_eq!(cluster.update(first.stream).message(), message);
    let again = cluster
        .pending
        .iter()
        .filter(|effect| matches!(effect, Effect::Event { .. }))
        .count();
    assert_eq!(
        again, 1,
        "the discarded offer is offered anew, to one of them"
    );
}

#[test]
fn offers_of_two_followers_do_not_mix() {
    let mut cluster = Cluster::new();
    cluster.register(1, "cpus:1;mem:100");
    cluster.register(2, "cpus:1;mem:100");
    let scheduler = cluster.subscribe(framework());
    let offers = cluster.offers(scheduler.stream);
    let all: Vec<&v1::Offer> = offers.iter().collect();
    cluster.accepted(
        &scheduler,
        accept(
            &all,
            vec![launch_operation(vec![task("t", all[0], "cpus:1;mem:10")])],
        ),
    );
    let message = cluster.update(scheduler.stream).message().to_owned();
    assert!(
        message.contains("Aggregated offers must belong to one single agent. Offer"),
        "{message}"
    );
}

#[test]
fn a_task_that_is_not_valid_fails_alone() {
    let (mut cluster, scheduler, agent, offer) = Cluster::offered(framework());
    let tasks = vec![
        task("greedy", &offer, "cpus:40;mem:128"),
        task("ok", &offer, "cpus:1;mem:128"),
        task("a/b", &offer, "cpus:1;mem:128"),
        task("ok", &offer, "cpus:1;mem:128"),
    ];
    cluster.accepted(&scheduler, launch(&offer, tasks));
    let update = cluster.update(scheduler.stream);
    assert_eq!(
        (update.state(), update.reason()),
        (TaskState::TaskError, Reason::TaskInvalid)
    );
    assert!(
        update.message().starts_with(
            "Total resources cpus(allocated: *):40; mem(allocated: *):128 required by"
        )
    );
    let PeerMessage::RunTask(_) = cluster.sent(&agent.pid) else {
        panic!("expected RunTask")
    };
    assert_eq!(
        cluster.update(scheduler.stream).message(),
        "'a/b' contains invalid characters"
    );
    assert_eq!(
        cluster.update(scheduler.stream).message(),
        "Task has duplicate ID: ok"
    );
    cluster.nothing_left();
}

#[test]
fn a_declined_offer_comes_back_when_the_framework_said() {
    let (mut cluster, scheduler, _, offer) = Cluster::offered(framework());
    let mut decline = call(scheduler::call::Type::Decline);
    decline.decline = Some(scheduler::call::Decline {
        offer_ids: vec![offer.id],
        filters: Some(v1::Filters {
            refuse_seconds: Some(20.0),
        }),
    });
    cluster.accepted(&scheduler, decline);
    cluster.pass(Duration::from_secs(19));
    cluster.nothing_left();
    cluster.pass(Duration::from_secs(2));
    cluster.offer(scheduler.stream);
    cluster.nothing_left();
}

#[test]
fn suppressed_frameworks_get_offers_when_they_revive() {
    let (mut cluster, scheduler, _, offer) = Cluster::offered(framework());
    cluster.accepted(&scheduler, call(scheduler::call::Type::Suppress));
    let mut decline = call(scheduler::call::Type::Decline);
    decline.decline = Some(scheduler::call::Decline {
        offer_ids: vec![offer.id],
        filters: None,
    });
    cluster.accepted(&scheduler, decline);
    cluster.pass(Duration::from_secs(60));
    cluster.nothing_left();
    let suppressed = |cluster: &mut Cluster| {
        cluster
            .view()
            .frameworks
            .get("lead-0000")
            .map(|f| f.suppressed_roles.len())
            .unwrap_or_default()
    };
    assert_eq!(suppressed(&mut cluster), 1);
    cluster.accepted(&scheduler, call(scheduler::call::Type::Revive));
    cluster.offer(scheduler.stream);
    assert_eq!(suppressed(&mut cluster), 0);
    cluster.nothing_left();
}

#[test]
fn offers_are_rescinded_when_their_time_is_up() {
    let config = Config {
        offer_timeout: Some(Duration::from_secs(30)),
        ..Config::default()
    };
    let mut cluster = Cluster::with(config, &internal::Registry::default());
    cluster.register(1, "cpus:1;mem:100");
    let scheduler = cluster.subscribe(framework());
    let offer = cluster.offer(scheduler.stream);
    cluster.pass(Duration::from_secs(30));
    let event = cluster.event(scheduler.stream);
    assert_eq!(
        event.rescind.as_ref().map(|rescind| &rescind.offer_id),
        Some(&offer.id)
    );
    assert_ne!(cluster.offer(scheduler.stream).id, offer.id);
    cluster.nothing_left();
}

#[test]
fn operations_that_cannot_be_carried_out_fail_aloud() {
    let (mut cluster, scheduler, _, offer) = Cluster::offered(framework());
    let mut named = v1::offer::Operation::default();
    named.set_type(v1::offer::operation::Type::Reserve);
    named.id = Some(v1::OperationId {
        value: "op".to_owned(),
    });
    let mut anonymous = v1::offer::Operation::default();
    anonymous.set_type(v1::offer::operation::Type::Create);
    cluster.accepted(&scheduler, accept(&[&offer], vec![named, anonymous]));
    let event = cluster.event(scheduler.stream);
    let status = &event
        .update_operation_status
        .as_ref()
        .expect("an operation status")
        .status;
    assert_eq!(status.state(), v1::OperationState::OperationError);
    assert_eq!(
        status.message(),
        "Operation attempted with invalid resources: A RESERVE offer operation must have the Offer.Operation.reserve \
         field set."
    );
    cluster.nothing_left();
    let metrics = tepui_leader::read::metrics(&cluster.view(), 0.0);
    assert_eq!(metrics["master/operations/error"], 2.0);
}

#[test]
fn a_task_group_runs_whole_or_not_at_all() {
    let (mut cluster, scheduler, agent, offer) = Cluster::offered(framework());
    let group = |executor: &str, tasks: Vec<v1::TaskInfo>| {
        let mut info = v1::ExecutorInfo {
            executor_id: v1::ExecutorId {
                value: executor.to_owned(),
            },
            framework_id: Some(scheduler.id.clone()),
            resources: resources("cpus:0.1;mem:32;disk:32"),
            ..Default::default()
        };
        info.set_type(v1::executor_info::Type::Default);
        let mut operation = v1::offer::Operation::default();
        operation.set_type(v1::offer::operation::Type::LaunchGroup);
        operation.launch_group = Some(v1::offer::operation::LaunchGroup {
            executor: info,
            task_group: v1::TaskGroupInfo { tasks },
        });
        operation
    };
    let good = vec![
        task("a", &offer, "cpus:1;mem:128"),
        task("b", &offer, "cpus:1;mem:128"),
    ];
    let bad = vec![
        task("c", &offer, "cpus:1;mem:128"),
        task("d", &offer, "cpus:9;mem:128"),
    ];
    cluster.accepted(
        &scheduler,
        accept(&[&offer], vec![group("g", good), group("h", bad)]),
    );
    let PeerMessage::RunTaskGroup(run) = cluster.sent(&agent.pid) else {
        panic!("expected RunTaskGroup")
    };
    assert_eq!(
        (run.task_group.tasks.len(), run.launch_executor),
        (2, Some(true))
    );
    for id in ["c", "d"] {
        let update = cluster.update(scheduler.stream);
        assert_eq!(
            (update.task_id.value.as_str(), update.reason()),
            (id, Reason::TaskGroupInvalid)
        );
    }
    cluster.nothing_left();

    // The executor is there until it exits, and so are its resources.
    let exited = internal::ExitedExecutorMessage {
        slave_id: agent.id.clone(),
        framework_id: scheduler.id.clone(),
        executor_id: v1::ExecutorId {
            value: "g".to_owned(),
        },
        status: 9,
    };
    cluster.peer(&agent.pid, exited);
    let failure = cluster
        .event(scheduler.stream)
        .failure
        .clone()
        .expect("a FAILURE event");
    assert_eq!(
        (failure.status, failure.executor_id.map(|id| id.value)),
        (Some(9), Some("g".to_owned()))
    );
    let offer = cluster.offer(scheduler.stream);
    assert_eq!(cpus(&offer), Some(2.0), "the group runs on");
    cluster.nothing_left();
}

#[test]
fn a_call_needs_the_stream_it_belongs_to() {
    let (mut cluster, scheduler, _, _) = Cluster::offered(framework());
    let mut error = |stream_id: Option<String>, id: &str| {
        let request = cluster.request();
        let mut revive = call(scheduler::call::Type::Revive);
        revive.framework_id = Some(v1::FrameworkId {
            value: id.to_owned(),
        });
        cluster.handle(tepui_leader::Input::Call {
            request,
            stream_id,
            call: Box::new(revive),
            principal: None,
        });
        let Effect::Reply {
            reply: Reply::Error { status, message },
            ..
        } = cluster.next()
        else {
            panic!("no error")
        };
        (status, message)
    };
    assert_eq!(
        error(None, "x"),
        (400, "Framework cannot be found".to_owned())
    );
    assert_eq!(
        error(None, "lead-0000"),
        (
            400,
            "All non-subscribe calls should include the 'Mesos-Stream-Id' header".to_owned()
        )
    );
    assert_eq!(
        error(Some("nonsense".to_owned()), "lead-0000").1,
        "The stream ID 'nonsense' included in this request didn't match the stream ID currently associated with \
         framework ID lead-0000"
    );
    cluster.handle(tepui_leader::Input::StreamClosed {
        stream: scheduler.stream,
    });
    cluster.nothing_left();
}
