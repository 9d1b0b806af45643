//! Followers of other versions, and messages about what this leader does not do.

use crate::{harness::*, told::*};
use tepui_leader::ProcessName;
use tepui_protocol::{
    internal,
    peer::PeerMessage,
    v1::{self, TaskState, scheduler, scheduler::call::Type},
};

/// A follower as it was in 1.0: no capabilities, no version of its resources.
fn old_message() -> internal::RegisterSlaveMessage {
    let mut message = register_message(1, "cpus:4;mem:4096");
    message.version = Some("1.0.0".to_owned());
    message.agent_capabilities.clear();
    message.resource_version_uuid = None;
    message.slave.port = None;
    for resource in &mut message.slave.resources {
        resource.reservations.clear();
        resource.role = Some("*".to_owned());
    }
    message
}

#[test]
fn an_old_follower_gets_resources_as_it_knows_them() {
    let mut cluster = Cluster::new();
    cluster.peer(&pid(1), old_message());
    cluster.pending.clear();
    let scheduler = cluster.subscribe(simple_framework());
    let offer = cluster.offer(scheduler.stream);
    let mut with_executor = task("t1", &offer, "cpus:1;mem:128");
    with_executor.command = None;
    with_executor.executor = Some(v1::ExecutorInfo {
        executor_id: v1::ExecutorId { value: "e".into() },
        command: Some(v1::CommandInfo::default()),
        resources: resources("cpus:0.1;mem:32"),
        ..Default::default()
    });
    cluster.accepted(&scheduler, launch(&offer, vec![with_executor]));
    let PeerMessage::RunTask(run) = cluster.sent(&pid(1)) else {
        panic!("expected RunTask")
    };
    let executor = run.task.executor.clone().expect("its executor");
    for resource in run.task.resources.iter().chain(&executor.resources) {
        assert_eq!(resource.role.as_deref(), Some("*"), "{resource:?}");
        assert!(resource.reservations.is_empty());
    }
    assert!(run.resource_version_uuids.is_empty());
}

#[test]
fn followers_too_old_or_without_a_version_are_left_alone() {
    for version in [None, Some("0.28.2"), Some("one")] {
        let mut cluster = Cluster::new();
        let mut message = old_message();
        message.version = version.map(str::to_owned);
        cluster.peer(&pid(1), message);
        assert!(told(&mut cluster).is_empty(), "{version:?}");
    }
}

#[test]
fn only_a_follower_speaks_for_what_runs_on_it() {
    let (mut cluster, scheduler, agent) = Cluster::running(framework());
    let other = cluster.register(2, "cpus:1");
    told(&mut cluster);
    let ended = status(&scheduler, &agent, "t1", TaskState::TaskFailed, 2);
    cluster.peer(&other.pid, ended);
    cluster.peer(
        &other.pid,
        internal::UnregisterSlaveMessage {
            slave_id: agent.id.clone(),
        },
    );
    assert!(told(&mut cluster).is_empty());
    assert_eq!(
        cluster
            .view()
            .metrics
            .count("master/invalid_status_updates"),
        1
    );
    assert_eq!(cluster.view().followers.size(), 2);
}

#[test]
fn operations_of_providers_are_asked_of_the_follower_and_its_answer_passed_on() {
    let (mut cluster, scheduler, agent) = Cluster::running(framework());
    let mut message = register_message(2, "cpus:1");
    message.agent_capabilities.clear();
    cluster.peer(&pid(2), message);
    told(&mut cluster);
    let asked =
        |agent: &v1::AgentId, provider: bool| scheduler::call::reconcile_operations::Operation {
            operation_id: v1::OperationId { value: "o".into() },
            agent_id: Some(agent.clone()),
            resource_provider_id: provider.then(|| v1::ResourceProviderId { value: "p".into() }),
        };
    let second = v1::AgentId {
        value: "lead-S1".into(),
    };
    let mut call = call(Type::ReconcileOperations);
    call.reconcile_operations = Some(scheduler::call::ReconcileOperations {
        operations: vec![
            asked(&agent.id, true),
            asked(&agent.id, false),
            asked(&second, true),
        ],
    });
    // Numbers 1 to 8 are not all there are: feedback on operations came after them.
    let mut again = internal::ReregisterSlaveMessage {
        slave: agent_info(1, "cpus:4;mem:4096;disk:1000;ports:[31000-32000]"),
        version: Some("1.11.0".to_owned()),
        ..Default::default()
    };
    again.slave.id = Some(agent.id.clone());
    let feedback = v1::agent_info::capability::Type::AgentOperationFeedback;
    again.agent_capabilities = vec![v1::agent_info::Capability {
        r#type: Some(feedback.into()),
    }];
    cluster.peer(&agent.pid, again);
    cluster.pending.clear();

    cluster.accepted(&scheduler, call);
    assert_eq!(
        told(&mut cluster),
        [
            "UPDATE_OPERATION_STATUS -> #1",
            "UPDATE_OPERATION_STATUS -> #1",
            "ReconcileOperations -> slave(1)",
        ]
    );
    let update = internal::UpdateOperationStatusMessage {
        framework_id: Some(scheduler.id.clone()),
        slave_id: Some(agent.id.clone()),
        ..Default::default()
    };
    cluster.peer(&agent.pid, update.clone());
    assert_eq!(told(&mut cluster), ["UPDATE_OPERATION_STATUS -> #1"]);
    cluster.peer(&pid(3), update);
    assert!(told(&mut cluster).is_empty());
    let metrics = cluster.view().metrics.clone();
    assert_eq!(metrics.count("master/messages_operation_status_update"), 2);
    assert_eq!(metrics.count("master/invalid_operation_status_updates"), 1);
}

#[test]
fn messages_that_leaders_do_not_take_are_counted_and_dropped() {
    let mut cluster = Cluster::new();
    for name in PeerMessage::NAMES {
        if let Ok(message) = PeerMessage::decode(name, bytes::Bytes::new()) {
            cluster.peer(&driver("a"), message);
        }
    }
    let view = cluster.view();
    assert!(view.metrics.count("master/dropped_messages") > 5);
    assert!(view.frameworks.is_empty() && view.followers.is_empty());
    cluster.pending.clear();
    cluster.handle(tepui_leader::Input::Peer {
        from: pid(1),
        to: ProcessName::Observer(1),
        message: register_message(1, "cpus:1").into(),
    });
    assert!(
        told(&mut cluster).is_empty(),
        "an observer takes pongs only"
    );
}

#[test]
fn followers_do_not_report_more_than_there_can_be() {
    let mut cluster = Cluster::new();
    let mut message = register_message(1, "cpus:4");
    message.slave.resources[0].scalar = Some(v1::value::Scalar { value: 1e300 });
    cluster.peer(&pid(1), message);
    assert!(told(&mut cluster).is_empty());
    let agent = cluster.register(1, "cpus:4");
    let spare = |resources: Vec<v1::Resource>| internal::UpdateSlaveMessage {
        slave_id: agent.id.clone(),
        update_oversubscribed_resources: Some(true),
        oversubscribed_resources: resources,
        ..Default::default()
    };
    // Not revocable, hence not spare; and said twice, it would be twice as much.
    cluster.peer(&agent.pid, spare(resources("cpus:2")));
    cluster.peer(&agent.pid, spare(resources("cpus:2")));
    let mut endless = resources("cpus:1");
    endless[0].revocable = Some(v1::resource::RevocableInfo {});
    endless[0].scalar = Some(v1::value::Scalar { value: f64::NAN });
    cluster.peer(&agent.pid, spare(endless));
    let scheduler = cluster.subscribe(framework());
    let offer = cluster.offer(scheduler.stream);
    assert_eq!(cpus(&offer), Some(4.0));
}
