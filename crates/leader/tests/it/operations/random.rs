//! What careless schedulers and followers say of operations, for the random histories.

use super::*;
use crate::{harness::*, random::Memory};
use proptest::prelude::*;
use tepui_protocol::{
    internal::update_slave_message as reported,
    v1::{Resource, offer::operation},
};

#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// On the last offers of a framework, one kind after the other.
    Operate {
        framework: u8,
        offers: u8,
        kinds: Vec<u8>,
        amount: u8,
        id: Option<u8>,
    },
    /// What becomes of an operation that a follower was sent.
    End {
        which: u8,
        state: i32,
        uuid: Option<u8>,
    },
    Acknowledge {
        framework: u8,
        id: u8,
        uuid: u8,
        at: u8,
    },
    Reconcile {
        framework: u8,
        id: u8,
        at: u8,
        provider: bool,
    },
    /// A follower says what it has: operations that it was sent, and a provider's disks.
    Say {
        at: u8,
        operations: u8,
        state: i32,
        disks: Option<u8>,
    },
}

pub(crate) fn steps() -> impl Strategy<Value = Step> {
    let framework = || 0..4u8;
    prop_oneof![
        8 => (framework(), 1..3u8, proptest::collection::vec(0..10u8, 1..5), 1..4u8, proptest::option::of(0..4u8))
            .prop_map(|(framework, offers, kinds, amount, id)| Step::Operate { framework, offers, kinds, amount, id }),
        8 => (0..6u8, prop_oneof![3 => Just(2), 2 => 0..10i32], proptest::option::of(0..3u8))
            .prop_map(|(which, state, uuid)| Step::End { which, state, uuid }),
        4 => (framework(), 0..4u8, 0..3u8, 0..4u8)
            .prop_map(|(framework, id, uuid, at)| Step::Acknowledge { framework, id, uuid, at }),
        1 => (framework(), 0..4u8, 0..4u8, any::<bool>())
            .prop_map(|(framework, id, at, provider)| Step::Reconcile { framework, id, at, provider }),
        3 => (0..4u8, 0..4u8, 0..10i32, proptest::option::of(0..3u8))
            .prop_map(|(at, operations, state, disks)| Step::Say { at, operations, state, disks }),
    ]
}

pub(crate) fn apply(cluster: &mut Cluster, memory: &Memory, step: Step) {
    match step {
        Step::Operate {
            framework,
            offers,
            kinds,
            amount,
            id,
        } => operate(cluster, memory, (framework, offers), &kinds, amount, id),
        Step::End { which, state, uuid } => {
            let Some((agent, message)) = sent(memory, which) else {
                return;
            };
            cluster.peer(&agent.pid, said(agent, message, state, uuid));
        }
        Step::Acknowledge {
            framework,
            id,
            uuid,
            at,
        } => {
            let Some(scheduler) = memory.scheduler(framework) else {
                return;
            };
            let agent = memory.agent(at);
            cluster.call(
                &scheduler,
                acknowledge_operation(&agent, &format!("o{id}"), uuid),
            );
        }
        Step::Reconcile {
            framework,
            id,
            at,
            provider,
        } => {
            let Some(scheduler) = memory.scheduler(framework) else {
                return;
            };
            let mut ask = call(v1::scheduler::call::Type::ReconcileOperations);
            let asked = v1::scheduler::call::reconcile_operations::Operation {
                operation_id: v1::OperationId {
                    value: format!("o{id}"),
                },
                agent_id: Some(memory.agent(at).id),
                resource_provider_id: provider.then(provider_id),
            };
            ask.reconcile_operations = Some(v1::scheduler::call::ReconcileOperations {
                operations: if id == 3 { Vec::new() } else { vec![asked] },
            });
            cluster.call(&scheduler, ask);
        }
        Step::Say {
            at,
            operations,
            state,
            disks,
        } => {
            let agent = memory.agent(at);
            cluster.peer(&agent.pid, says(memory, &agent, operations, state, disks));
        }
    }
}

fn provider_id() -> v1::ResourceProviderId {
    v1::ResourceProviderId {
        value: "r".to_owned(),
    }
}

fn sent(memory: &Memory, which: u8) -> Option<&(Agent, internal::ApplyOperationMessage)> {
    let back = usize::from(which) % memory.applied.len().clamp(1, 6);
    memory.applied.iter().rev().nth(back)
}

fn said(
    agent: &Agent,
    message: &internal::ApplyOperationMessage,
    state: i32,
    uuid: Option<u8>,
) -> internal::UpdateOperationStatusMessage {
    let known = OperationState::try_from(state).unwrap_or(OperationState::OperationPending);
    let mut said = outcome(agent, message, known, uuid);
    if let Some(create) = &message.operation_info.create_disk {
        let mut made = create.source.clone();
        let source = made.disk.as_mut().and_then(|disk| disk.source.as_mut());
        if let Some(source) = source {
            source.set_type(create.target_type());
            source.id = Some("made".to_owned());
        }
        said.status.converted_resources = vec![made];
        said.latest_status = Some(said.status.clone());
    }
    said
}

fn says(
    memory: &Memory,
    agent: &Agent,
    operations: u8,
    state: i32,
    disks: Option<u8>,
) -> internal::UpdateSlaveMessage {
    let (mut own, mut provided) = (Vec::new(), Vec::new());
    let last = memory.applied.iter().rev().take(operations.into());
    for (at, message) in last.filter(|(at, _)| at.id == agent.id) {
        let status = said(at, message, state, Some(1)).status;
        let operation = v1::Operation {
            framework_id: message.framework_id.clone(),
            agent_id: Some(agent.id.clone()),
            info: message.operation_info.clone(),
            latest_status: status,
            statuses: Vec::new(),
            uuid: message.operation_uuid.clone(),
        };
        match message.operation_info.create_disk {
            Some(_) => provided.push(operation),
            None => own.push(operation),
        }
    }
    let providers = disks.map(|disks| {
        let raw = |number: u8| {
            resource(&serde_json::json!({
                "disk": 100 + u32::from(number), "source": ["RAW", "fast"], "provider": "r"
            }))
        };
        let provider = reported::ResourceProvider {
            info: Some(v1::ResourceProviderInfo {
                id: Some(provider_id()),
                r#type: "org.test".to_owned(),
                name: "disks".to_owned(),
                ..Default::default()
            }),
            total_resources: (0..disks).map(raw).collect(),
            operations: reported::Operations {
                operations: provided,
            },
            resource_version_uuid: v1::Uuid { value: uuid(disks) },
        };
        // None of them: it is gone.
        let providers = if disks == 0 {
            Vec::new()
        } else {
            vec![provider]
        };
        reported::ResourceProviders { providers }
    });
    internal::UpdateSlaveMessage {
        slave_id: agent.id.clone(),
        update_oversubscribed_resources: Some(false),
        operations: (operations > 0).then_some(reported::Operations { operations: own }),
        resource_version_uuid: Some(v1::Uuid { value: uuid(9) }),
        resource_providers: providers,
        ..Default::default()
    }
}

fn operate(
    cluster: &mut Cluster,
    memory: &Memory,
    (framework, offers): (u8, u8),
    kinds: &[u8],
    amount: u8,
    id: Option<u8>,
) {
    let Some(scheduler) = memory.scheduler(framework) else {
        return;
    };
    let own = memory
        .offers
        .iter()
        .rev()
        .filter(|(stream, _)| *stream == scheduler.stream);
    let own: Vec<&v1::Offer> = own.map(|(_, offer)| offer).take(offers.into()).collect();
    let Some(first) = own.first() else { return };
    let mut pool: Vec<Resource> = own.iter().flat_map(|o| o.resources.clone()).collect();
    let role = first
        .allocation_info
        .as_ref()
        .map_or("*", |info| info.role());
    let mut operations = Vec::new();
    for kind in kinds {
        let Some(mut operation) = wanted(&mut pool, role, *kind, amount) else {
            continue;
        };
        operation.id = id.map(|id| v1::OperationId {
            value: format!("o{id}"),
        });
        operations.push(operation);
    }
    // Now and then on what the operations made.
    if kinds.len().is_multiple_of(2) {
        let mut on_all = task(&format!("t{amount}"), first, "cpus:0.5;mem:32");
        let volume = pool
            .iter()
            .find(|r| r.disk.is_some() && r.provider_id.is_none());
        on_all.resources.extend(volume.cloned());
        operations.push(launch_operation(vec![on_all.clone()]));
        on_all.task_id.value.push('b');
        operations.push(launch_operation(vec![on_all]));
    }
    cluster.call(&scheduler, accept(&own, operations));
}

/// Something to do with what there is; the pool is then what one would expect.
fn wanted(pool: &mut Vec<Resource>, role: &str, kind: u8, amount: u8) -> Option<Operation> {
    let part = |resource: &Resource| {
        let mut part = resource.clone();
        let size = f64::from(amount);
        if let Some(scalar) = &mut part.scalar {
            scalar.value = scalar.value.min(size);
        }
        part
    };
    let is_reserved = |r: &Resource| !r.reservations.is_empty() && r.disk.is_none();
    let is_volume = |r: &Resource| r.disk.as_ref().is_some_and(|d| d.persistence.is_some());
    let mut operation = Operation::default();
    match kind {
        0..=2 => {
            let free = |r: &&Resource| r.reservations.is_empty() && r.provider_id.is_none();
            let at = pool.iter().filter(free).nth(kind.into())?;
            let mut reserved = part(at);
            let mut info = v1::resource::ReservationInfo {
                role: Some(role.to_owned()),
                principal: Some("p".to_owned()),
                ..Default::default()
            };
            info.set_type(v1::resource::reservation_info::Type::Dynamic);
            reserved.reservations.push(info);
            pool.push(reserved.clone());
            operation.set_type(operation::Type::Reserve);
            operation.reserve = Some(operation::Reserve {
                resources: vec![reserved],
                source: Vec::new(),
            });
        }
        3 => {
            let reserved = part(pool.iter().rev().find(|r| is_reserved(r))?);
            operation.set_type(operation::Type::Unreserve);
            operation.unreserve = Some(operation::Unreserve {
                resources: vec![reserved],
            });
        }
        4 | 5 => {
            let is_disk = |r: &&Resource| is_reserved(r) && r.name == "disk";
            let mut volume = part(pool.iter().rev().find(is_disk)?);
            let short = serde_json::json!({"disk": 1, "volume": format!("v{amount}")});
            volume.disk = resource(&short).disk;
            volume.shared = (kind == 5).then_some(v1::resource::SharedInfo {});
            pool.push(volume.clone());
            operation.set_type(operation::Type::Create);
            operation.create = Some(operation::Create {
                volumes: vec![volume],
            });
        }
        6 => {
            let volume = pool.iter().rev().find(|r| is_volume(r))?.clone();
            operation.set_type(operation::Type::Destroy);
            operation.destroy = Some(operation::Destroy {
                volumes: vec![volume],
            });
        }
        7 => {
            let volume = pool.iter().rev().find(|r| is_volume(r))?.clone();
            let mut addition = volume.clone();
            addition.disk = None;
            operation.set_type(operation::Type::GrowVolume);
            operation.grow_volume = Some(operation::GrowVolume { volume, addition });
        }
        8 => {
            let volume = pool.iter().rev().find(|r| is_volume(r))?.clone();
            operation.set_type(operation::Type::ShrinkVolume);
            operation.shrink_volume = Some(operation::ShrinkVolume {
                volume,
                subtract: v1::value::Scalar { value: 0.5 },
            });
        }
        _ => {
            let raw = pool.iter().find(|r| r.provider_id.is_some())?.clone();
            let mut create = operation::CreateDisk {
                source: raw,
                ..Default::default()
            };
            create.set_target_type(v1::resource::disk_info::source::Type::Mount);
            operation.set_type(operation::Type::CreateDisk);
            operation.create_disk = Some(create);
        }
    }
    Some(operation)
}

fn histories() -> impl Strategy<Value = Vec<crate::random::Step>> {
    use crate::random::Step as S;
    let step = prop_oneof![
        30 => steps().prop_map(S::Resources),
        6 => prop_oneof![8 => 1..8u16, 1 => 0..700u16].prop_map(S::Pass),
        2 => (1..3u16).prop_map(S::Pong),
        1 => proptest::option::of(0..2u8).prop_map(|framework| S::Subscribe {
            framework,
            simple: false,
            checkpoint: true,
        }),
        1 => (0..2u8).prop_map(S::Close),
        1 => (1..3u16).prop_map(S::Register),
        1 => (1..3u16).prop_map(S::Break),
        2 => (1..3u16, any::<bool>(), 0..2usize).prop_map(|(number, with_frameworks, tasks)| S::Reregister {
            number,
            from: number,
            tasks: vec![(0, 7, 2); tasks],
            with_frameworks,
        }),
        2 => (0..4u8, 0..14i32, 0..2u8).prop_map(|(launch, state, uuid)| S::RealUpdate { launch, state, uuid }),
        1 => (0..2u8, 0..2i32).prop_map(|(framework, kind)| S::Plain { framework, kind }),
    ];
    proptest::collection::vec(step, 1..80)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, rng_seed: proptest::test_runner::RngSeed::Fixed(20_261_123), ..ProptestConfig::default() })]

    /// Nothing is lost and nothing is made: [`tepui_leader::Leader::check`] compares what followers have with
    /// what they registered with, whatever operations made of it, and what is used and offered with that.
    #[test]
    fn operations_neither_lose_nor_make_resources(history in histories()) {
        use crate::random::Step as S;
        let mut cluster = Cluster::new();
        let mut memory = Memory::default();
        let subscribe = || S::Subscribe { framework: None, simple: false, checkpoint: true };
        let start = [S::Register(1), S::Register(2), subscribe(), subscribe()];
        for step in start.into_iter().chain(history) {
            // What is no longer out is forgotten, so that most is asked for in earnest.
            let view = cluster.view();
            memory.offers.retain(|(_, offer)| {
                view.frameworks.values().any(|f| f.offers.contains_key(offer.id.value.as_str()))
            });
            crate::random::apply(&mut cluster, &memory, step);
            memory.learn(&mut cluster);
            cluster.leader.check_allocation();
        }
    }
}
