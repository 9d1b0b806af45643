//! Followers and their operations: they come back with them, or go. Resource providers are part of what
//! followers say (`Master::updateSlave` in `src/master/master.cpp`, `docs/resource-provider.md`).

use super::{
    feedback::{known, metric, reserved},
    *,
};
use serde_json::json;
use tepui_leader::{Config, Effect};
use tepui_protocol::{
    internal::update_slave_message as reported,
    v1::{master, scheduler},
};

#[test]
fn frameworks_hear_of_operations_on_followers_that_go() {
    for (gone, state, text) in [
        (
            false,
            OperationState::OperationUnreachable,
            "Agent was marked unreachable",
        ),
        (
            true,
            OperationState::OperationGoneByOperator,
            "Agent has been marked gone",
        ),
    ] {
        let (mut cluster, scheduler, agent, _) = reserved(Some("op"));
        if gone {
            let mut call = master::Call::default();
            call.set_type(master::call::Type::MarkAgentGone);
            call.mark_agent_gone = Some(master::call::MarkAgentGone {
                agent_id: agent.id.clone(),
            });
            cluster.operator(call);
        } else {
            cluster.pass(std::time::Duration::from_secs(80));
        }
        let told = cluster.pending.drain(..).find_map(|effect| match effect {
            Effect::Event { stream, event } if stream == scheduler.stream => {
                event.update_operation_status.clone()
            }
            _ => None,
        });
        let status = told.expect("it is told").status;
        assert_eq!((status.state(), status.message()), (state, text));
        assert!(known(&mut cluster).is_empty());
        let name = state.as_str_name().trim_start_matches("OPERATION_");
        let name = format!("operations/reserve/{}", name.to_lowercase());
        assert_eq!(metric(&mut cluster, &name), 1.0);
        assert_eq!(metric(&mut cluster, "operations/pending"), 0.0);
    }
}

#[test]
fn a_follower_is_drained_once_its_operations_are_settled() {
    let (mut cluster, scheduler, agent, message) = reserved(Some("op"));
    cluster.operator(crate::draining::drain(&agent.id, false));
    let state = |cluster: &mut Cluster| {
        let view = cluster.view();
        let follower = view.followers.values().next().expect("a follower");
        follower.drain.expect("it drains").state()
    };
    assert_eq!(state(&mut cluster), v1::DrainState::Draining);
    let done = outcome(&agent, &message, OperationState::OperationFinished, Some(1));
    cluster.peer(&agent.pid, done);
    assert_eq!(state(&mut cluster), v1::DrainState::Draining);
    cluster.call(&scheduler, acknowledge_operation(&agent, "op", 1));
    assert_eq!(state(&mut cluster), v1::DrainState::Drained);
}

#[test]
fn the_next_leader_learns_of_operations_from_followers() {
    let (_, scheduler, agent, message) = reserved(Some("op"));
    let mut cluster = Cluster::new();
    let mut again = coming_back(&agent);
    again.checkpointed_resources = vec![resource(&json!({"cpus": 1, "reserved": [["dev", "p"]]}))];
    cluster.peer(&agent.pid, again);
    let done = outcome(&agent, &message, OperationState::OperationFinished, Some(1));
    let operation = v1::Operation {
        framework_id: message.framework_id.clone(),
        agent_id: Some(agent.id.clone()),
        info: message.operation_info.clone(),
        latest_status: done.status.clone(),
        statuses: vec![done.status.clone()],
        uuid: message.operation_uuid.clone(),
    };
    let update_follower = internal::UpdateSlaveMessage {
        slave_id: agent.id.clone(),
        update_oversubscribed_resources: Some(false),
        operations: Some(reported::Operations {
            operations: vec![operation],
        }),
        ..Default::default()
    };
    cluster.peer(&agent.pid, update_follower);
    assert_eq!(known(&mut cluster).len(), 1);
    // Its framework is not back: nobody acknowledges for it.
    cluster.pending.clear();
    cluster.peer(&agent.pid, done.clone());
    cluster.nothing_left();
    let mut info = reserver("dev");
    info.id = Some(scheduler.id.clone());
    let scheduler = cluster.subscribe(info);
    cluster.pending.clear();
    cluster.peer(&agent.pid, done);
    assert_eq!(
        update(&mut cluster, &scheduler).state(),
        OperationState::OperationFinished
    );
    cluster.call(&scheduler, acknowledge_operation(&agent, "op", 1));
    assert!(known(&mut cluster).is_empty());
}

#[test]
fn an_old_follower_hears_what_it_has_as_one_list() {
    let mut cluster = Cluster::new();
    let agent = register(
        &mut cluster,
        &json!({"without": ["RESOURCE_PROVIDER", "AGENT_OPERATION_FEEDBACK", "RESERVATION_REFINEMENT"]}),
    );
    let scheduler = cluster.subscribe(reserver("dev"));
    let offer = cluster.offer(scheduler.stream);
    let reserve = super::feedback::reserving(None);
    cluster.accepted(&scheduler, accept(&[&offer], vec![reserve]));
    let PeerMessage::CheckpointResources(message) = cluster.sent(&agent.pid) else {
        panic!("it knows no operations")
    };
    let [reserved] = message.resources.as_slice() else {
        panic!("one reservation")
    };
    assert_eq!(reserved.role.as_deref(), Some("dev"));
    assert!(reserved.reservation.is_some() && reserved.reservations.is_empty());
    assert!(known(&mut cluster).is_empty());
}

/// A disk of a provider, as the follower says it.
fn provided(
    agent: &Agent,
    disk: serde_json::Value,
    operations: Vec<v1::Operation>,
) -> internal::UpdateSlaveMessage {
    let id = v1::ResourceProviderId {
        value: "r".to_owned(),
    };
    let provider = reported::ResourceProvider {
        info: Some(v1::ResourceProviderInfo {
            id: Some(id),
            r#type: "org.test".to_owned(),
            name: "disks".to_owned(),
            ..Default::default()
        }),
        total_resources: vec![resource(&disk)],
        operations: reported::Operations { operations },
        resource_version_uuid: v1::Uuid { value: uuid(8) },
    };
    internal::UpdateSlaveMessage {
        slave_id: agent.id.clone(),
        update_oversubscribed_resources: Some(false),
        operations: Some(Default::default()),
        resource_providers: Some(reported::ResourceProviders {
            providers: vec![provider],
        }),
        ..Default::default()
    }
}

/// A framework makes a volume of a provider's disk: nobody knows yet what comes of it.
fn making_disk() -> (Cluster, Scheduler, Agent, internal::ApplyOperationMessage) {
    let mut cluster = Cluster::new();
    let agent = register(&mut cluster, &json!({}));
    let raw = json!({"disk": 500, "source": ["RAW", "fast"], "provider": "r"});
    cluster.peer(&agent.pid, provided(&agent, raw.clone(), Vec::new()));
    let scheduler = cluster.subscribe(reserver("dev"));
    let offer = cluster.offer(scheduler.stream);
    let mut create = operation(&json!({"type": "CREATE_DISK", "source": raw}));
    create.id = Some(v1::OperationId {
        value: "op".to_owned(),
    });
    cluster.accepted(&scheduler, accept(&[&offer], vec![create]));
    let message = applied(&mut cluster, &agent);
    let version = &message.resource_version_uuid;
    assert_eq!(version.uuid.value, uuid(8));
    assert_eq!(
        version
            .resource_provider_id
            .as_ref()
            .map(|id| id.value.as_str()),
        Some("r")
    );
    cluster.nothing_left();
    (cluster, scheduler, agent, message)
}

fn made(
    agent: &Agent,
    message: &internal::ApplyOperationMessage,
) -> internal::UpdateOperationStatusMessage {
    let mut done = outcome(agent, message, OperationState::OperationFinished, Some(1));
    let mounted = resource(&json!({"disk": 500, "source": ["MOUNT", "/csi"], "provider": "r"}));
    done.status.converted_resources = vec![mounted];
    done.latest_status = Some(done.status.clone());
    done
}

#[test]
fn what_a_provider_makes_is_offered_once_it_is_made() {
    let (mut cluster, scheduler, agent, message) = making_disk();
    let view = cluster.view();
    let follower = view
        .followers
        .get(agent.id.value.as_str())
        .expect("it is here");
    assert_eq!(follower.used.len(), 1, "until then it is in use");
    cluster.peer(&agent.pid, made(&agent, &message));
    update(&mut cluster, &scheduler);
    let offer = cluster.offer(scheduler.stream);
    assert!(super::shown(&offer.resources).contains(&"disk[MOUNT:/csi]:500".to_owned()));
    let view = cluster.view();
    let follower = view
        .followers
        .get(agent.id.value.as_str())
        .expect("it is here");
    assert!(follower.used.is_empty());
    assert_eq!(
        follower.providers["r"].total,
        Resources::from_proto(&[resource(
            &json!({"disk": 500, "source": ["MOUNT", "/csi"], "provider": "r"})
        )])
    );
    let mut call = master::Call::default();
    call.set_type(master::call::Type::GetAgents);
    let answer = tepui_leader::read::operator(&view, &call).and_then(|answer| answer.get_agents);
    assert_eq!(
        answer.expect("the followers").agents[0]
            .resource_providers
            .len(),
        1
    );
}

#[test]
fn what_a_provider_does_not_make_is_as_it_was() {
    let (mut cluster, scheduler, agent, message) = making_disk();
    let failed = outcome(&agent, &message, OperationState::OperationFailed, Some(1));
    cluster.peer(&agent.pid, failed);
    update(&mut cluster, &scheduler);
    let offer = cluster.offer(scheduler.stream);
    let shown = super::shown(&offer.resources);
    assert!(
        shown.iter().any(|text| text.starts_with("disk[RAW")),
        "{shown:?}"
    );
}

#[test]
fn what_a_provider_says_with_its_resources_is_not_made_twice() {
    let (mut cluster, scheduler, agent, message) = making_disk();
    let done = made(&agent, &message);
    let operation = v1::Operation {
        framework_id: message.framework_id.clone(),
        agent_id: Some(agent.id.clone()),
        info: message.operation_info.clone(),
        latest_status: done.status.clone(),
        statuses: Vec::new(),
        uuid: message.operation_uuid.clone(),
    };
    let mounted = json!({"disk": 500, "source": ["MOUNT", "/csi"], "provider": "r"});
    cluster.peer(&agent.pid, provided(&agent, mounted, vec![operation]));
    let offer = cluster.offer(scheduler.stream);
    assert!(super::shown(&offer.resources).contains(&"disk[MOUNT:/csi]:500".to_owned()));
    cluster.peer(&agent.pid, done);
    assert_eq!(
        update(&mut cluster, &scheduler).state(),
        OperationState::OperationFinished
    );
    cluster.nothing_left();
    cluster.call(&scheduler, acknowledge_operation(&agent, "op", 1));
    assert!(known(&mut cluster).is_empty());
}

#[test]
fn what_an_operation_of_an_ended_framework_keeps_nobody_has() {
    let (mut cluster, scheduler, agent, message) = making_disk();
    cluster.call(&scheduler, call(scheduler::call::Type::Teardown));
    let disks = |cluster: &mut Cluster| {
        let view = cluster.view();
        let follower = view.followers.values().next().expect("a follower");
        super::shown(&follower.total).len()
    };
    assert_eq!(disks(&mut cluster), 3, "the disk is missing");
    cluster.pending.clear();
    cluster.peer(&agent.pid, made(&agent, &message));
    assert_eq!(disks(&mut cluster), 4, "a disk is there, if another one");
    let PeerMessage::AcknowledgeOperationStatus(_) = cluster.sent(&agent.pid) else {
        panic!("nobody else would acknowledge it")
    };
    assert!(known(&mut cluster).is_empty());
}

#[test]
fn operations_of_a_framework_that_comes_back_are_its_own_again() {
    let (mut cluster, scheduler, agent, message) = making_disk();
    // Another leader hears of the operation before its framework is back.
    let pending = known(&mut cluster).remove(0);
    let mut cluster = Cluster::with(Config::default(), &internal::Registry::default());
    let again = coming_back(&agent);
    cluster.peer(&agent.pid, again);
    let raw = json!({"disk": 500, "source": ["RAW", "fast"], "provider": "r"});
    cluster.peer(&agent.pid, provided(&agent, raw, vec![pending]));
    cluster.pending.clear();
    let total = |cluster: &mut Cluster| {
        let view = cluster.view();
        let follower = view.followers.values().next().expect("a follower");
        (super::shown(&follower.total).len(), follower.used.len())
    };
    assert_eq!(total(&mut cluster), (3, 0));
    let mut info = reserver("dev");
    info.id = Some(scheduler.id.clone());
    let scheduler = cluster.subscribe(info);
    assert_eq!(total(&mut cluster), (4, 1));
    cluster.pending.clear();
    cluster.peer(&agent.pid, made(&agent, &message));
    assert_eq!(
        update(&mut cluster, &scheduler).state(),
        OperationState::OperationFinished
    );
    assert_eq!(total(&mut cluster), (4, 0));
    // The provider goes, and what it had with it.
    cluster.peer(
        &agent.pid,
        internal::UpdateSlaveMessage {
            slave_id: agent.id.clone(),
            resource_providers: Some(Default::default()),
            ..Default::default()
        },
    );
    assert_eq!(total(&mut cluster), (3, 0));
    assert!(known(&mut cluster).is_empty());
}
