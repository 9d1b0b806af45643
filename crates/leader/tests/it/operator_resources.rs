//! What operators do with the resources of followers, as `docs/reservation.md` and
//! `docs/persistent-volume.md` have it.

use crate::{harness::*, tables::*};
use tepui_leader::{Effect, Reply, Via};
use tepui_protocol::{
    peer::PeerMessage,
    v1::{self, master, offer::operation::Type},
};

/// Reserves for a role, of resources as people write them.
pub(crate) fn reserve(agent: &v1::AgentId, text: &str, role: &str) -> master::Call {
    let mut call = master::Call::default();
    call.set_type(master::call::Type::ReserveResources);
    call.reserve_resources = Some(master::call::ReserveResources {
        agent_id: agent.clone(),
        source: Vec::new(),
        resources: reserved(text, role),
    });
    call
}

/// Takes such a reservation back.
pub(crate) fn unreserve(agent: &v1::AgentId, text: &str, role: &str) -> master::Call {
    let mut call = master::Call::default();
    call.set_type(master::call::Type::UnreserveResources);
    call.unreserve_resources = Some(master::call::UnreserveResources {
        agent_id: agent.clone(),
        resources: reserved(text, role),
    });
    call
}

pub(crate) fn reserved(text: &str, role: &str) -> Vec<v1::Resource> {
    let mut resources = resources(text);
    for resource in &mut resources {
        let mut reservation = v1::resource::ReservationInfo {
            role: Some(role.to_owned()),
            ..Default::default()
        };
        reservation.set_type(v1::resource::reservation_info::Type::Dynamic);
        resource.reservations = vec![reservation];
    }
    resources
}

/// Whatever an operator may want for roles: shares, or resources of a follower.
pub(crate) fn any_call(kind: u8, role: u8, amount: u8, agent: &v1::AgentId) -> master::Call {
    let role = ["*", "eng", "eng/dev", "ops"][usize::from(role % 4)];
    let text = |call: &str| call_of(call);
    match kind {
        0 => text(&format!(
            r#"{{"type": "UPDATE_WEIGHTS", "update_weights": {{"weight_infos": [{{"role": "{role}", "weight": {amount}}}]}}}}"#
        )),
        1 | 2 => text(&format!(
            r#"{{"type": "UPDATE_QUOTA", "update_quota": {{"force": {}, "quota_configs": [{{"role": "{role}",
                "guarantees": {{"cpus": {{"value": {}}}}}, "limits": {{"cpus": {{"value": {amount}}}}}}}]}}}}"#,
            kind == 1,
            amount / 2
        )),
        3 => text(&format!(
            r#"{{"type": "SET_QUOTA", "set_quota": {{"quota_request": {{"force": true, "role": "{role}",
                "guarantee": [{{"name": "cpus", "type": "SCALAR", "scalar": {{"value": {amount}}}}}]}}}}}}"#
        )),
        4 => text(&format!(
            r#"{{"type": "REMOVE_QUOTA", "remove_quota": {{"role": "{role}"}}}}"#
        )),
        5 => unreserve(agent, &format!("cpus:{amount}"), role),
        _ => reserve(agent, &format!("cpus:{amount};mem:64"), role),
    }
}

/// Kinds of the operations that a follower was told of, of what is pending.
fn told(cluster: &Cluster) -> Vec<Type> {
    let sent = cluster.pending.iter().filter_map(|effect| match effect {
        Effect::Send {
            message: PeerMessage::ApplyOperation(message),
            ..
        } => Some(message.operation_info.r#type()),
        _ => None,
    });
    sent.collect()
}

#[test]
fn reservations_and_volumes_are_made_or_refused_as_documented() {
    let mut cluster = Cluster::new();
    let agent = cluster.register(1, "cpus:4;mem:4096;disk:1000");
    run(
        &mut cluster,
        include_str!("fixtures/operator_resources.jsonl"),
        &agent.id.value,
    );
    let shown = document(&mut cluster, "slaves");
    let follower = &shown["slaves"][0];
    let reserved = &follower["reserved_resources"];
    assert_eq!(reserved["prod"]["cpus"], 0.5);
    assert_eq!(reserved["prod/web"]["cpus"], 0.5);
    assert_eq!(reserved["test"]["cpus"], 1.0);
    assert_eq!(follower["unreserved_resources"]["cpus"], 2.0);
    assert_eq!(follower["unreserved_resources"]["disk"], 1000.0);
    let roles = document(&mut cluster, "roles");
    let prod = &roles["roles"][0];
    assert_eq!(
        (&prod["name"], &prod["reserved"]["cpus"]),
        (&"prod".into(), &1.0.into()),
        "what is reserved for roles below counts"
    );
}

#[test]
fn followers_are_told_what_was_accepted_and_nothing_else() {
    let mut cluster = Cluster::new();
    let agent = cluster.register(1, "cpus:4;mem:4096");
    let reply = cluster.operator(reserve(&agent.id, "cpus:1", "prod"));
    assert_eq!(reply, Reply::Accepted);
    assert_eq!(told(&cluster), [Type::Reserve]);
    cluster.pending.clear();
    let reply = cluster.operator(reserve(&agent.id, "cpus:4", "prod"));
    assert!(
        matches!(reply, Reply::Error { status: 409, .. }),
        "{reply:?}"
    );
    cluster.nothing_left();
}

#[test]
fn offers_are_taken_back_for_what_is_missing_and_the_rest_is_offered_again() {
    let (mut cluster, scheduler, agent, offer) = Cluster::offered(framework());
    let reply = cluster.operator(reserve(&agent.id, "cpus:1;mem:1024", "prod"));
    assert_eq!(reply, Reply::Accepted);
    assert_eq!(rescinded(&mut cluster), [offer.id.value]);
    assert_eq!(told(&cluster), [Type::Reserve]);
    let offers = cluster.pending.iter().filter_map(|effect| match effect {
        Effect::Event { stream, event } if *stream == scheduler.stream => event.offers.as_ref(),
        _ => None,
    });
    let offered: Vec<v1::Offer> = offers.flat_map(|offers| offers.offers.clone()).collect();
    assert_eq!(offered.len(), 1);
    assert_eq!(cpus(&offered[0]), Some(3.0));
    cluster.pending.clear();

    // What is for others is no use: it stays where it is.
    let mut other = Cluster::new();
    let agent = other.register(1, "cpus:4;mem:4096");
    assert_eq!(
        other.operator(reserve(&agent.id, "cpus:4", "prod")),
        Reply::Accepted
    );
    other.pending.clear();
    other.subscribe(framework());
    other.pending.clear();
    assert_eq!(
        other.operator(unreserve(&agent.id, "cpus:2", "prod")),
        Reply::Accepted
    );
    assert_eq!(rescinded(&mut other), Vec::<String>::new());
}

#[test]
fn nothing_is_taken_back_for_what_cannot_be_had() {
    let (mut cluster, _, agent) = Cluster::running(framework());
    // A task has one of the four.
    let refused = cluster.operator(reserve(&agent.id, "cpus:3.5", "prod"));
    assert!(matches!(refused, Reply::Error { status: 409, .. }));
    assert_eq!(rescinded(&mut cluster), Vec::<String>::new());
    let reply = cluster.operator(reserve(&agent.id, "cpus:3", "prod"));
    assert_eq!(reply, Reply::Accepted);
}

#[test]
fn what_is_reserved_goes_to_its_role_only() {
    let mut cluster = Cluster::new();
    let agent = cluster.register(1, "cpus:4;mem:4096");
    let all = reserve(&agent.id, "cpus:4;mem:4096", "prod");
    assert_eq!(ask(&mut cluster, all, Via::Endpoint, None), Reply::Accepted);
    cluster.pending.clear();
    cluster.subscribe(in_role("test"));
    cluster.nothing_left();
    let prod = cluster.subscribe(in_role("prod"));
    assert_eq!(cpus(&cluster.offer(prod.stream)), Some(4.0));
}
