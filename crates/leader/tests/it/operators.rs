//! Operator calls and event streams.

use crate::harness::*;
use std::time::Duration;
use tepui_leader::{Config, Effect, Input, Reply};
use tepui_protocol::{
    internal,
    v1::{self, TaskState, master, scheduler},
};

fn operator_call(kind: master::call::Type) -> master::Call {
    let mut call = master::Call::default();
    call.set_type(kind);
    call
}

fn error(status: u16, message: &str) -> Reply {
    Reply::Error {
        status,
        message: message.to_owned(),
    }
}

fn watch(cluster: &mut Cluster) -> tepui_model::StreamId {
    let (request, stream) = (cluster.request(), cluster.stream());
    cluster.handle(Input::OperatorSubscribe {
        request,
        stream,
        principal: None,
    });
    assert!(
        matches!(cluster.next(), Effect::OpenStream { stream: opened, .. } if opened == stream)
    );
    assert!(
        matches!(cluster.next(), Effect::OperatorSnapshot { stream: opened } if opened == stream)
    );
    stream
}

fn kinds(cluster: &mut Cluster) -> Vec<master::event::Type> {
    let events = cluster.pending.drain(..).filter_map(|effect| match effect {
        Effect::OperatorEvent(event) => Some(event.r#type()),
        _ => None,
    });
    events.collect()
}

#[test]
fn operators_hear_of_every_change() {
    use master::event::Type;
    let mut cluster = Cluster::new();
    watch(&mut cluster);
    cluster.nothing_left();
    let pid = pid(1);
    cluster.peer(&pid, register_message(1, "cpus:1;mem:100"));
    assert_eq!(kinds(&mut cluster), [Type::AgentAdded]);
    let (_, stream) = cluster.send_subscribe(framework());
    let offer = cluster
        .pending
        .iter()
        .find_map(|effect| match effect {
            Effect::Event { event, .. } => {
                event.offers.as_ref().map(|offers| offers.offers[0].clone())
            }
            _ => None,
        })
        .expect("an offer");
    assert_eq!(kinds(&mut cluster), [Type::FrameworkAdded]);
    let scheduler = Scheduler {
        id: offer.framework_id.clone(),
        stream,
    };
    let agent = Agent {
        id: offer.agent_id.clone(),
        pid: pid.clone(),
    };
    cluster.call(
        &scheduler,
        launch(&offer, vec![task("t", &offer, "cpus:1;mem:10")]),
    );
    assert_eq!(kinds(&mut cluster), [Type::TaskAdded]);
    cluster.peer(
        &pid,
        status(&scheduler, &agent, "t", TaskState::TaskRunning, 1),
    );
    assert_eq!(kinds(&mut cluster), [Type::TaskUpdated]);
    cluster.peer(
        &pid,
        status(&scheduler, &agent, "t", TaskState::TaskRunning, 1),
    );
    assert_eq!(kinds(&mut cluster), [], "the same again is no news");
    cluster.call(&scheduler, call(scheduler::call::Type::Teardown));
    assert_eq!(
        kinds(&mut cluster),
        [Type::TaskUpdated, Type::FrameworkRemoved]
    );
    cluster.peer(
        &pid,
        internal::UnregisterSlaveMessage { slave_id: agent.id },
    );
    assert_eq!(kinds(&mut cluster), [Type::AgentRemoved]);
}

#[test]
fn operators_have_heartbeats_while_they_listen() {
    let mut cluster = Cluster::new();
    let stream = watch(&mut cluster);
    assert_eq!(
        cluster.leader.next_deadline(),
        Some(cluster.now + Duration::from_secs(15))
    );
    cluster.handle(Input::StreamClosed { stream });
    assert_eq!(cluster.leader.next_deadline(), None);
    cluster.nothing_left();
}

#[test]
fn the_oldest_stream_makes_room() {
    let config = Config {
        max_operator_streams: 2,
        ..Config::default()
    };
    let mut cluster = Cluster::with(config, &internal::Registry::default());
    let first = watch(&mut cluster);
    watch(&mut cluster);
    watch(&mut cluster);
    assert!(matches!(cluster.next(), Effect::CloseStream { stream } if stream == first));
    cluster.nothing_left();
}

#[test]
fn operators_tear_frameworks_down() {
    let (mut cluster, scheduler, _) = Cluster::running(framework());
    let teardown = |id: &v1::FrameworkId| {
        let mut call = operator_call(master::call::Type::Teardown);
        call.teardown = Some(master::call::Teardown {
            framework_id: id.clone(),
        });
        call
    };
    let unknown = v1::FrameworkId {
        value: "nobody".to_owned(),
    };
    assert_eq!(
        cluster.operator(teardown(&unknown)),
        Reply::Error {
            status: 400,
            message: "No framework found with specified ID".to_owned()
        }
    );
    assert_eq!(cluster.operator(teardown(&scheduler.id)), Reply::Ok);
    assert!(cluster.view().frameworks.is_empty());
}

#[test]
fn agents_nobody_knows_are_not_drained_or_deactivated() {
    use master::call::{DeactivateAgent, DrainAgent, ReactivateAgent, Type};
    let mut cluster = Cluster::new();
    let agent_id = v1::AgentId {
        value: "nobody".to_owned(),
    };
    let calls = [
        master::Call {
            drain_agent: Some(DrainAgent {
                agent_id: agent_id.clone(),
                ..Default::default()
            }),
            ..operator_call(Type::DrainAgent)
        },
        master::Call {
            deactivate_agent: Some(DeactivateAgent {
                agent_id: agent_id.clone(),
            }),
            ..operator_call(Type::DeactivateAgent)
        },
        master::Call {
            reactivate_agent: Some(ReactivateAgent { agent_id }),
            ..operator_call(Type::ReactivateAgent)
        },
    ];
    // The reference asks of one that is to be reactivated only whether it is deactivated.
    let answers = ["Unknown agent", "Unknown agent", "Agent is not deactivated"];
    for (call, answer) in calls.into_iter().zip(answers) {
        assert_eq!(cluster.operator(call), error(400, answer));
    }
}

#[test]
fn resources_to_be_reserved_must_be_resources() {
    use master::call::{ReserveResources, Type};
    let mut cluster = Cluster::new();
    let negative = v1::Resource {
        name: "cpus".to_owned(),
        r#type: v1::value::Type::Scalar.into(),
        scalar: Some(v1::value::Scalar { value: -1.0 }),
        ..Default::default()
    };
    let call = master::Call {
        reserve_resources: Some(ReserveResources {
            resources: vec![negative],
            ..Default::default()
        }),
        ..operator_call(Type::ReserveResources)
    };
    let text = "Failed to validate master::Call: Resource 'cpus:-1' is invalid: Invalid scalar resource: value <= 0";
    assert_eq!(cluster.operator(call), error(400, text));
}

#[test]
fn what_a_call_lacks_is_named() {
    let mut cluster = Cluster::new();
    assert_eq!(
        cluster.operator(operator_call(master::call::Type::UpdateQuota)),
        error(
            400,
            "Failed to validate master::Call: Expecting 'update_quota' to be present"
        )
    );
    assert_eq!(
        cluster.operator(master::Call::default()),
        error(
            400,
            "Failed to validate master::Call: Expecting 'type' to be present"
        )
    );
    cluster.nothing_left();
}
