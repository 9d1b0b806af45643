//! What frameworks hear of their operations: `docs/scheduler-http-api.md` (`UPDATE_OPERATION_STATUS`,
//! `ACKNOWLEDGE_OPERATION_STATUS`, `RECONCILE_OPERATIONS`), `docs/operation-feedback` of the same API in
//! `src/master/master.cpp` (`updateOperationStatus`).

use super::*;
use serde_json::json;
use tepui_protocol::v1::{master, scheduler};

/// One CPU reserved, with an id or without.
pub(super) fn reserving(id: Option<&str>) -> Operation {
    let mut reserve = operation(&json!({
        "type": "RESERVE", "resources": [{"cpus": 1, "reserved": [["dev", "p"]]}]
    }));
    reserve.id = id.map(|id| v1::OperationId {
        value: id.to_owned(),
    });
    reserve
}

/// A framework that has reserved a CPU on a follower, which has not said yet that it has done that.
pub(super) fn reserved(
    id: Option<&str>,
) -> (Cluster, Scheduler, Agent, internal::ApplyOperationMessage) {
    let mut cluster = Cluster::new();
    let agent = super::register(&mut cluster, &json!({}));
    let scheduler = cluster.subscribe(reserver("dev"));
    let offer = cluster.offer(scheduler.stream);
    cluster.accepted(&scheduler, accept(&[&offer], vec![reserving(id)]));
    let message = applied(&mut cluster, &agent);
    cluster.pending.clear();
    (cluster, scheduler, agent, message)
}

pub(super) fn known(cluster: &mut Cluster) -> Vec<v1::Operation> {
    let mut call = master::Call::default();
    call.set_type(master::call::Type::GetOperations);
    let view = cluster.view();
    let answer = tepui_leader::read::operator(&view, &call).expect("it is a reading call");
    answer.get_operations.expect("the operations").operations
}

pub(super) fn metric(cluster: &mut Cluster, name: &str) -> f64 {
    let view = cluster.view();
    tepui_leader::read::metrics(&view, 0.0)[&format!("master/{name}")]
}

fn acknowledged(
    cluster: &mut Cluster,
    agent: &Agent,
) -> internal::AcknowledgeOperationStatusMessage {
    match cluster.sent(&agent.pid) {
        PeerMessage::AcknowledgeOperationStatus(message) => *message,
        other => panic!("expected an acknowledgement, got {other:?}"),
    }
}

#[test]
fn a_framework_hears_of_its_operation_until_it_acknowledges_that() {
    let (mut cluster, scheduler, agent, message) = reserved(Some("op"));
    let operation = known(&mut cluster).remove(0);
    assert_eq!(
        operation.latest_status.state(),
        OperationState::OperationPending
    );
    assert_eq!(operation.framework_id.as_ref(), Some(&scheduler.id));
    assert_eq!(operation.agent_id.as_ref(), Some(&agent.id));
    assert_eq!(operation.uuid, message.operation_uuid);
    assert_eq!(metric(&mut cluster, "operations/pending"), 1.0);
    assert_eq!(metric(&mut cluster, "operations/reserve/total"), 1.0);

    let done = outcome(&agent, &message, OperationState::OperationFinished, Some(1));
    for _ in 0..2 {
        // The follower says it again and again.
        cluster.peer(&agent.pid, done.clone());
        let status = update(&mut cluster, &scheduler);
        assert_eq!(status.state(), OperationState::OperationFinished);
        assert_eq!(status.uuid.map(|uuid| uuid.value), Some(uuid(1)));
        assert_eq!(status.agent_id.as_ref(), Some(&agent.id));
        cluster.nothing_left();
    }
    assert_eq!(known(&mut cluster)[0].statuses.len(), 1);
    assert_eq!(metric(&mut cluster, "operations/pending"), 0.0);
    assert_eq!(metric(&mut cluster, "operations/reserve/finished"), 1.0);

    cluster.accepted(&scheduler, acknowledge_operation(&agent, "op", 2));
    cluster.nothing_left();
    assert_eq!(known(&mut cluster).len(), 1, "that was another status");
    let request = cluster.call(&scheduler, acknowledge_operation(&agent, "op", 1));
    let sent = acknowledged_after_reply(&mut cluster, request, &agent);
    assert_eq!(sent.operation_uuid, message.operation_uuid);
    assert_eq!(sent.status_uuid.value, uuid(1));
    assert!(known(&mut cluster).is_empty());
    let acknowledgements = "operation_status_update_acknowledgements";
    let counted = |kind: &str| format!("{kind}_{acknowledgements}");
    assert_eq!(metric(&mut cluster, &counted("valid")), 1.0);
    assert_eq!(metric(&mut cluster, &counted("invalid")), 1.0);
    cluster.accepted(&scheduler, acknowledge_operation(&agent, "op", 1));
    cluster.nothing_left();
}

fn acknowledged_after_reply(
    cluster: &mut Cluster,
    request: tepui_model::RequestId,
    agent: &Agent,
) -> internal::AcknowledgeOperationStatusMessage {
    let at = cluster.pending.iter().position(|effect| {
        matches!(effect, tepui_leader::Effect::Reply { request: own, .. } if *own == request)
    });
    cluster.pending.remove(at.expect("a call is answered"));
    acknowledged(cluster, agent)
}

#[test]
fn what_nobody_else_acknowledges_the_leader_does() {
    let (mut cluster, _, agent, message) = reserved(None);
    let done = outcome(&agent, &message, OperationState::OperationFinished, Some(1));
    cluster.peer(&agent.pid, done.clone());
    let sent = acknowledged(&mut cluster, &agent);
    assert_eq!(sent.status_uuid.value, uuid(1));
    assert!(known(&mut cluster).is_empty());
    cluster.nothing_left();
    // The acknowledgement was lost: the follower says it again, and is believed to be heard.
    cluster.peer(&agent.pid, done);
    cluster.pending.clear();
}

#[test]
fn a_framework_that_ended_acknowledges_nothing() {
    let (mut cluster, scheduler, agent, message) = reserved(Some("op"));
    cluster.call(&scheduler, call(scheduler::call::Type::Teardown));
    cluster.pending.clear();
    assert_eq!(
        known(&mut cluster).len(),
        1,
        "the follower will say what came of it"
    );
    let done = outcome(&agent, &message, OperationState::OperationFinished, Some(1));
    cluster.peer(&agent.pid, done);
    acknowledged(&mut cluster, &agent);
    assert!(known(&mut cluster).is_empty());
    cluster.nothing_left();
}

#[test]
fn reconciliation_tells_the_last_status_of_what_is_known() {
    let (mut cluster, scheduler, agent, message) = reserved(Some("op"));
    let mut ask = call(scheduler::call::Type::ReconcileOperations);
    ask.reconcile_operations = Some(Default::default());
    let mut named = ask.clone();
    named.reconcile_operations = Some(scheduler::call::ReconcileOperations {
        operations: vec![scheduler::call::reconcile_operations::Operation {
            operation_id: v1::OperationId {
                value: "op".to_owned(),
            },
            agent_id: Some(agent.id.clone()),
            resource_provider_id: None,
        }],
    });
    let expect = |cluster: &mut Cluster, state: OperationState| {
        for call in [&ask, &named] {
            cluster.call(&scheduler, call.clone());
            let at = cluster
                .pending
                .iter()
                .position(|effect| matches!(effect, tepui_leader::Effect::Reply { .. }));
            cluster.pending.remove(at.expect("it is answered"));
            let status = update(cluster, &scheduler);
            assert_eq!(status.state(), state);
            assert_eq!(status.uuid, None, "nobody waits for an acknowledgement");
            cluster.nothing_left();
        }
    };
    expect(&mut cluster, OperationState::OperationPending);
    let done = outcome(&agent, &message, OperationState::OperationFinished, Some(1));
    cluster.peer(&agent.pid, done);
    cluster.pending.clear();
    expect(&mut cluster, OperationState::OperationFinished);
}

#[test]
fn what_fails_on_its_follower_is_asked_for_again() {
    let (mut cluster, scheduler, agent, message) = reserved(Some("op"));
    let shown = |cluster: &mut Cluster| {
        let view = cluster.view();
        super::shown(&view.followers.values().next().expect("a follower").total)
    };
    assert!(shown(&mut cluster)[0].contains("DYNAMIC"));
    let failed = outcome(&agent, &message, OperationState::OperationFailed, Some(1));
    let mut effects = tepui_leader::Effects::default();
    let input = tepui_leader::Input::Peer {
        to: tepui_leader::ProcessName::Leader,
        from: agent.pid.clone(),
        message: failed.into(),
    };
    cluster.leader.handle(cluster.now, input, &mut effects);
    let asked = effects.0.iter().any(|effect| {
        matches!(effect, tepui_leader::Effect::Send { message: PeerMessage::PingSlave(ping), .. }
            if !ping.connected)
    });
    assert!(asked, "it is to register again, which says what it has");
    let again = coming_back(&agent);
    cluster.peer(&agent.pid, again);
    assert_eq!(shown(&mut cluster), ["cpus:4", "disk:1000", "mem:4096"]);
    cluster.pending.clear();
    assert_eq!(metric(&mut cluster, "operations/reserve/failed"), 1.0);
    cluster.call(&scheduler, acknowledge_operation(&agent, "op", 1));
    assert!(known(&mut cluster).is_empty());
}

#[test]
fn a_follower_is_asked_for_operations_that_it_does_not_name() {
    let (mut cluster, scheduler, agent, message) = reserved(Some("op"));
    assert_eq!(known(&mut cluster).len(), 1);
    cluster.peer(
        &agent.pid,
        internal::UpdateSlaveMessage {
            slave_id: agent.id.clone(),
            operations: Some(Default::default()),
            update_oversubscribed_resources: Some(false),
            ..Default::default()
        },
    );
    let PeerMessage::ReconcileOperations(asked) = cluster.sent(&agent.pid) else {
        panic!("the leader asks for what the follower did not name")
    };
    assert_eq!(asked.operations.len(), 1);
    assert_eq!(asked.framework_id, None);
    // It has never heard of it.
    let mut dropped = outcome(&agent, &message, OperationState::OperationDropped, None);
    dropped.framework_id = None;
    dropped.status.operation_id = None;
    dropped.latest_status = None;
    cluster.peer(&agent.pid, dropped);
    let status = update(&mut cluster, &scheduler);
    assert_eq!(status.state(), OperationState::OperationDropped);
    let id = status.operation_id.map(|id| id.value);
    assert_eq!(id.as_deref(), Some("op"));
    assert!(known(&mut cluster).is_empty());
}

#[test]
fn a_driver_operates_but_does_not_hear_what_comes_of_it() {
    use crate::told::{by, driver};
    let mut cluster = Cluster::new();
    let agent = super::register(&mut cluster, &json!({}));
    let info = internal::RegisterFrameworkMessage {
        framework: reserver("dev"),
    };
    cluster.peer(&driver("a"), info);
    cluster.next();
    let PeerMessage::ResourceOffers(offers) = cluster.sent(&driver("a")) else {
        panic!("expected offers")
    };
    let operations = vec![reserving(Some("op")), reserving(None)];
    let accept = accept(&[&offers.offers[0]], operations);
    cluster.peer(&driver("a"), by("lead-0000", accept));
    let PeerMessage::FrameworkError(error) = cluster.sent(&driver("a")) else {
        panic!("it cannot hear what becomes of the first")
    };
    assert!(
        error
            .message
            .contains("not supported for the SchedulerDriver API")
    );
    let message = applied(&mut cluster, &agent);
    assert_eq!(message.operation_info.id, None);
    cluster.pending.clear();
    let done = outcome(&agent, &message, OperationState::OperationFinished, Some(1));
    cluster.peer(&agent.pid, done);
    acknowledged(&mut cluster, &agent);
    cluster.nothing_left();
}
