//! Operations on resources that the leader asks for, and draining.

use crate::{harness::*, read::facts, wire::recorded};
use std::{path::PathBuf, time::Duration};
use tepui_follower::{
    Config,
    io::{Checkpoint, Effect, Input, ProcessName, ResourcesCheckpoint},
};
use tepui_model::container::ExitStatus;
use tepui_protocol::{
    internal as i,
    peer::PeerMessage,
    v1::{
        self, OperationState, TaskState,
        offer::{Operation, operation},
        resource::{ReservationInfo, reservation_info},
        task_status::Reason,
    },
};

const SECOND: Duration = Duration::from_secs(1);

fn reserved(name: &str, value: f64) -> v1::Resource {
    v1::Resource {
        allocation_info: None,
        reservations: vec![ReservationInfo {
            role: Some("prod/web".into()),
            principal: Some("ops".into()),
            r#type: Some(reservation_info::Type::Dynamic.into()),
            ..Default::default()
        }],
        ..scalar(name, value)
    }
}

fn volume(id: &str, value: f64) -> v1::Resource {
    use v1::resource::{DiskInfo, disk_info::Persistence};
    v1::Resource {
        disk: Some(Box::new(DiskInfo {
            persistence: Some(Persistence {
                id: id.into(),
                principal: None,
            }),
            volume: Some(v1::Volume {
                container_path: "data".into(),
                mode: v1::volume::Mode::Rw.into(),
                ..Default::default()
            }),
            source: None,
        })),
        ..reserved("disk", value)
    }
}

fn reserve(resources: Vec<v1::Resource>) -> Operation {
    Operation {
        r#type: Some(operation::Type::Reserve.into()),
        reserve: Some(operation::Reserve {
            resources,
            ..Default::default()
        }),
        id: Some(v1::OperationId { value: "o".into() }),
        ..Default::default()
    }
}

fn create(volume: v1::Resource) -> Operation {
    Operation {
        r#type: Some(operation::Type::Create.into()),
        create: Some(operation::Create {
            volumes: vec![volume],
        }),
        ..Default::default()
    }
}

fn destroy(volume: v1::Resource) -> Operation {
    Operation {
        r#type: Some(operation::Type::Destroy.into()),
        destroy: Some(operation::Destroy {
            volumes: vec![volume],
        }),
        ..Default::default()
    }
}

/// Registered; knows the version of the follower's resources.
struct Leading {
    w: World,
    version: v1::Uuid,
    number: u8,
}

impl Leading {
    fn new() -> Self {
        Self::of(config())
    }
    fn of(config: Config) -> Self {
        let mut w = World::registered_with(config);
        w.register();
        let PeerMessage::UpdateSlave(update) = w.take_sent().pop().unwrap() else {
            panic!();
        };
        Self {
            w,
            version: update.resource_version_uuid.unwrap(),
            number: 0,
        }
    }
    fn message(&mut self, operation_info: Operation) -> i::ApplyOperationMessage {
        self.number += 1;
        i::ApplyOperationMessage {
            framework_id: framework().id,
            operation_info,
            operation_uuid: v1::Uuid {
                value: vec![self.number; 16].into(),
            },
            resource_version_uuid: i::ResourceVersionUuid {
                resource_provider_id: None,
                uuid: self.version.clone(),
            },
        }
    }
    /// The answer, and what was made durable before it.
    fn apply(
        &mut self,
        operation: Operation,
    ) -> (i::UpdateOperationStatusMessage, ResourcesCheckpoint) {
        let message = self.message(operation);
        self.w.leader_says(message);
        let effects = self.w.take();
        let [
            Effect::Persist(Checkpoint::Resources(checkpoint)),
            Effect::Send {
                message: PeerMessage::UpdateOperationStatus(update),
                ..
            },
        ] = &effects[..]
        else {
            panic!("{effects:?}");
        };
        ((**update).clone(), (**checkpoint).clone())
    }
    fn acknowledge(&mut self, update: &i::UpdateOperationStatusMessage) {
        self.w.leader_says(i::AcknowledgeOperationStatusMessage {
            status_uuid: update.status.uuid.clone().unwrap(),
            operation_uuid: update.operation_uuid.clone().unwrap(),
            resource_provider_id: None,
        });
    }
    fn total(&self) -> String {
        self.w.follower.view().total.to_string()
    }
}

#[test]
fn a_reservation_is_made_durable_and_told_until_it_is_acknowledged() {
    let mut l = Leading::new();
    let (update, checkpoint) = l.apply(reserve(vec![reserved("cpus", 1.0)]));
    assert_eq!(update.status.state(), OperationState::OperationFinished);
    assert_eq!(update.latest_status.as_ref(), Some(&update.status));
    assert_eq!(update.status.operation_id.as_ref().unwrap().value, "o");
    assert_eq!(update.framework_id, framework().id);
    assert_eq!(checkpoint.state.resources, vec![reserved("cpus", 1.0)]);
    assert_eq!(checkpoint.state.operations.len(), 1);
    assert!(
        l.total()
            .contains("cpus(reservations: [(DYNAMIC,prod/web,ops)]):1"),
        "{}",
        l.total()
    );

    let told_again = |l: &mut Leading, after: Duration| {
        l.w.pass(after);
        l.w.take_sent()
    };
    assert_eq!(told_again(&mut l, 9 * SECOND), []);
    assert_eq!(
        told_again(&mut l, SECOND),
        [PeerMessage::from(update.clone())]
    );
    assert_eq!(told_again(&mut l, 19 * SECOND), []);
    assert_eq!(told_again(&mut l, SECOND).len(), 1);

    l.acknowledge(&update);
    let effects = l.w.take();
    let [Effect::Persist(Checkpoint::Resources(checkpoint))] = &effects[..] else {
        panic!("{effects:?}");
    };
    assert_eq!(checkpoint.state.operations, []);
    assert_eq!(checkpoint.state.resources.len(), 1);
    l.w.pass(42 * SECOND);
    assert!(l.w.take_sent().is_empty());
    // Once is enough.
    l.acknowledge(&update);
    assert_eq!(l.w.seen(), [""; 0]);
}

#[test]
fn volumes_get_directories_and_lose_them() {
    let mut l = Leading::new();
    l.apply(reserve(vec![reserved("disk", 64.0)]));
    let (update, checkpoint) = l.apply(create(volume("v-1", 40.0)));
    assert_eq!(update.status.state(), OperationState::OperationFinished);
    // A role is one component of the path.
    let path = PathBuf::from("/w/volumes/roles/prod web/v-1");
    assert_eq!(checkpoint.made, std::slice::from_ref(&path));
    assert_eq!(checkpoint.gone, []);
    let grow = Operation {
        r#type: Some(operation::Type::GrowVolume.into()),
        grow_volume: Some(operation::GrowVolume {
            volume: volume("v-1", 40.0),
            addition: reserved("disk", 8.0),
        }),
        ..Default::default()
    };
    let (_, checkpoint) = l.apply(grow);
    assert_eq!((checkpoint.made.len(), checkpoint.gone.len()), (0, 0));
    let (_, checkpoint) = l.apply(destroy(volume("v-1", 48.0)));
    assert!(checkpoint.made.is_empty());
    assert_eq!(checkpoint.gone, [(path, false)]);
}

#[test]
fn what_cannot_be_done_is_answered_and_changes_nothing() {
    use OperationState as S;
    let mut l = Leading::new();
    l.apply(reserve(vec![reserved("disk", 64.0)]));
    l.apply(create(volume("v", 8.0)));
    let before = l.total();
    let provided = v1::Resource {
        provider_id: Some(v1::ResourceProviderId { value: "p".into() }),
        ..reserved("disk", 1.0)
    };
    let launch = Operation {
        r#type: Some(operation::Type::Launch.into()),
        ..Default::default()
    };
    for (operation, state, text) in [
        (
            reserve(vec![reserved("cpus", 5.0)]),
            S::OperationFailed,
            "does not contain cpus:5",
        ),
        (
            destroy(volume("other", 1.0)),
            S::OperationFailed,
            "does not contain",
        ),
        (
            reserve(vec![]),
            S::OperationError,
            "Operation contains no resources",
        ),
        (launch, S::OperationError, "Operation not supported"),
        (Operation::default(), S::OperationError, "Unknown operation"),
        (create(volume("../../etc", 1.0)), S::OperationError, ""),
        (
            create(volume("v", 1.0)),
            S::OperationError,
            "exists already",
        ),
        (
            reserve(vec![provided]),
            S::OperationDropped,
            "Resource provider p is not subscribed",
        ),
    ] {
        let (update, checkpoint) = l.apply(operation);
        assert_eq!(update.status.state(), state, "{:?}", update.status.message);
        assert!(
            update.status.message.as_ref().unwrap().contains(text),
            "{:?}",
            update.status.message
        );
        assert!(
            update.status.uuid.is_some(),
            "it is told until acknowledged"
        );
        assert!(checkpoint.made.is_empty() && checkpoint.gone.is_empty());
        assert_eq!(l.total(), before);
    }
    let mut outdated = l.message(reserve(vec![reserved("cpus", 1.0)]));
    outdated.resource_version_uuid.uuid.value = vec![9; 16].into();
    l.w.leader_says(outdated);
    let Some(PeerMessage::UpdateOperationStatus(update)) = l.w.take_sent().pop() else {
        panic!();
    };
    assert_eq!(update.status.state(), S::OperationDropped);
    assert_eq!(
        update.status.message.unwrap(),
        "Operation assumes outdated resource state"
    );
}

#[test]
fn an_operation_that_is_repeated_is_carried_out_once() {
    let mut l = Leading::new();
    let message = l.message(reserve(vec![reserved("cpus", 1.0)]));
    l.w.leader_says(message.clone());
    let first = l.w.take_sent();
    l.w.leader_says(message);
    assert_eq!(l.w.take_sent(), first);
    assert_eq!(
        l.w.follower.view().total.reserved(None).cpus().to_f64(),
        1.0
    );
}

#[test]
fn only_the_leader_changes_resources() {
    let mut l = Leading::new();
    let message = l.message(reserve(vec![reserved("cpus", 1.0)]));
    let checkpoint = i::CheckpointResourcesMessage {
        resources: vec![reserved("cpus", 1.0)],
    };
    let drain = i::DrainSlaveMessage::default();
    for message in [PeerMessage::from(message), checkpoint.into(), drain.into()] {
        l.w.step(Input::Peer {
            from: "master@10.0.0.1:5050".parse().unwrap(),
            to: ProcessName::Follower,
            message,
        });
    }
    assert_eq!(l.w.seen(), [""; 0]);
}

#[test]
fn an_older_master_tells_what_the_resources_have_become() {
    let mut l = Leading::new();
    let told = |resources| i::CheckpointResourcesMessage { resources };
    l.w.leader_says(told(vec![reserved("disk", 60.0), volume("v", 40.0)]));
    let effects = l.w.take();
    let [Effect::Persist(Checkpoint::Resources(checkpoint))] = &effects[..] else {
        panic!("{effects:?}");
    };
    assert_eq!(
        checkpoint.made,
        [PathBuf::from("/w/volumes/roles/prod web/v")]
    );
    // The same again, and something that we do not have.
    l.w.leader_says(told(vec![volume("v", 40.0), reserved("disk", 60.0)]));
    l.w.leader_says(told(vec![reserved("cpus", 100.0)]));
    assert_eq!(l.w.seen(), [""; 0]);
    l.w.leader_says(told(vec![]));
    let effects = l.w.take();
    let [Effect::Persist(Checkpoint::Resources(checkpoint))] = &effects[..] else {
        panic!("{effects:?}");
    };
    assert_eq!(checkpoint.gone.len(), 1);
    assert_eq!(checkpoint.state.resources, []);
}

#[test]
fn a_new_leader_hears_of_reservations_and_of_what_is_not_acknowledged() {
    let mut l = Leading::new();
    let (update, _) = l.apply(reserve(vec![reserved("cpus", 1.0)]));
    l.w.step(Input::LeaderDetected(None));
    l.w.pass(60 * SECOND);
    assert!(l.w.take_sent().is_empty());
    l.w.step(Input::LeaderDetected(Some(leader())));
    l.w.pass(SECOND);
    let Some(PeerMessage::ReregisterSlave(message)) = l.w.take_sent().pop() else {
        panic!();
    };
    // In the form that the oldest leaders read.
    assert_eq!(message.checkpointed_resources.len(), 1);
    assert_eq!(
        message.checkpointed_resources[0].role.as_deref(),
        Some("prod/web")
    );
    l.w.leader_says(i::SlaveReregisteredMessage {
        slave_id: v1::AgentId { value: ID.into() },
        ..Default::default()
    });
    let sent = l.w.take_sent();
    let [
        PeerMessage::UpdateSlave(slave),
        PeerMessage::UpdateOperationStatus(again),
    ] = &sent[..]
    else {
        panic!("{sent:?}");
    };
    assert_eq!(**again, update);
    let operations = &slave.operations.as_ref().unwrap().operations;
    assert_eq!(operations.len(), 1);
    assert_eq!(operations[0].latest_status, update.status);
}

#[test]
fn resources_survive_a_restart() {
    let mut l = Leading::new();
    l.apply(reserve(vec![reserved("disk", 64.0)]));
    let (update, checkpoint) = l.apply(create(volume("v", 40.0)));
    let mut again = World::with(config());
    again.follower.restore_resources(&checkpoint.state).unwrap();
    again.follower.check();
    assert_eq!(*again.follower.view().total, *l.w.follower.view().total);
    again.step(Input::LeaderDetected(Some(leader())));
    again.pass(SECOND);
    let Some(PeerMessage::RegisterSlave(message)) = again.take_sent().pop() else {
        panic!();
    };
    assert_eq!(message.checkpointed_resources.len(), 2);
    again.register();
    let sent = again.take_sent();
    let told: Vec<_> = sent
        .iter()
        .filter(|m| matches!(m, PeerMessage::UpdateOperationStatus(u) if **u == update))
        .collect();
    assert_eq!(told.len(), 1);

    let smaller = Config {
        resources: tepui_follower::resources::startup(
            "cpus:1;mem:1;disk:1",
            "*",
            Default::default(),
        )
        .unwrap(),
        ..config()
    };
    let mut refused = World::with(smaller);
    assert!(
        refused
            .follower
            .restore_resources(&checkpoint.state)
            .is_err()
    );
}

#[test]
fn reconciliation_tells_of_the_unknown_and_frameworks_of_the_known() {
    let mut l = Leading::new();
    let (update, _) = l.apply(reserve(vec![reserved("cpus", 1.0)]));
    let ask = |l: &mut Leading, uuid: Option<v1::Uuid>, id: Option<&str>, framework_id| {
        l.w.leader_says(i::ReconcileOperationsMessage {
            operations: vec![i::reconcile_operations_message::Operation {
                operation_uuid: uuid,
                operation_id: id.map(|id| v1::OperationId { value: id.into() }),
                resource_provider_id: None,
            }],
            framework_id,
        });
        let sent = l.w.take_sent();
        sent.into_iter()
            .map(|m| match m {
                PeerMessage::UpdateOperationStatus(u) => (u.status.state(), u.status.uuid),
                other => panic!("{other:?}"),
            })
            .collect::<Vec<_>>()
    };
    let own = update.operation_uuid.clone();
    let other = Some(v1::Uuid {
        value: vec![99; 16].into(),
    });
    use OperationState as S;
    assert_eq!(ask(&mut l, own.clone(), None, None), []);
    assert_eq!(
        ask(&mut l, other.clone(), None, None),
        [(S::OperationDropped, None)]
    );
    let id = || framework().id;
    assert_eq!(ask(&mut l, own, None, id()), [(S::OperationFinished, None)]);
    assert_eq!(
        ask(&mut l, None, Some("o"), id()),
        [(S::OperationFinished, None)]
    );
    assert_eq!(
        ask(&mut l, None, Some("p"), id()),
        [(S::OperationUnknown, None)]
    );
    assert_eq!(
        ask(&mut l, other, None, id()),
        [(S::OperationUnknown, None)]
    );
}

#[test]
fn recorded_operations_have_the_recorded_outcomes() {
    let mut config = config();
    config.resources = tepui_follower::resources::startup(
        "cpus:4;mem:4096;disk:10240;ports:[31000-32000]",
        "*",
        Default::default(),
    )
    .unwrap();
    let mut l = Leading::of(config);
    for at in 0..4 {
        let PeerMessage::ApplyOperation(mut message) = recorded("ApplyOperationMessage", at) else {
            panic!();
        };
        // Ours is drawn from the seed.
        message.resource_version_uuid.uuid = l.version.clone();
        l.w.leader_says(*message);
        let sent = l.w.take_sent();
        let [PeerMessage::UpdateOperationStatus(ours)] = &sent[..] else {
            panic!("{sent:?}");
        };
        let PeerMessage::UpdateOperationStatus(mut theirs) =
            recorded("UpdateOperationStatusMessage", at)
        else {
            panic!();
        };
        for status in [Some(&mut theirs.status), theirs.latest_status.as_mut()] {
            let status = status.unwrap();
            status.uuid = ours.status.uuid.clone();
            status.agent_id = Some(v1::AgentId { value: ID.into() });
        }
        theirs.slave_id = Some(v1::AgentId { value: ID.into() });
        assert_eq!(ours, &theirs);
        l.acknowledge(ours);
        l.w.take();
    }
    // RESERVE of cpus, mem and disk, CREATE, GROW_VOLUME, UNRESERVE of the cpus.
    let view = l.w.follower.view();
    assert_eq!(view.total.reserved(Some("prod")).cpus().to_f64(), 0.0);
    assert_eq!(view.total.persistent_volumes().disk().to_f64(), 80.0);
    assert_eq!(view.total.reserved(Some("prod")).disk().to_f64(), 128.0);
}

#[test]
fn readers_see_what_operations_made_of_the_resources() {
    use tepui_follower::read;
    use v1::agent::call::Type;
    let mut l = Leading::new();
    l.apply(reserve(vec![reserved("cpus", 1.0)]));
    l.w.leader_says(drain(Some(3), false));
    let view = l.w.follower.view();
    let state = read::state(&view, &facts(&l.w));
    assert_eq!(state["reserved_resources"]["prod/web"]["cpus"], 1.0);
    assert_eq!(state["unreserved_resources"]["cpus"], 3.0);
    assert_eq!(
        state["drain_config"]["max_grace_period"]["nanoseconds"],
        3_000_000_000_i64
    );
    assert_eq!(
        state["estimated_drain_start_time_seconds"],
        l.w.now.seconds() as i64
    );
    let answer = |call| read::answer(&view, call, &facts(&l.w), l.w.now).unwrap();
    let operations = answer(Type::GetOperations)
        .get_operations
        .unwrap()
        .operations;
    assert_eq!(operations.len(), 1);
    let agent = answer(Type::GetAgent).get_agent.unwrap();
    assert!(agent.drain_config.is_some());
    assert!(agent.estimated_drain_start_time.is_some());
}

fn drain(seconds: Option<i64>, mark_gone: bool) -> i::DrainSlaveMessage {
    i::DrainSlaveMessage {
        config: v1::DrainConfig {
            max_grace_period: seconds.map(|seconds| v1::DurationInfo {
                nanoseconds: seconds * 1_000_000_000,
            }),
            mark_gone: Some(mark_gone),
        },
    }
}

#[test]
fn draining_kills_all_tasks_lets_none_start_and_ends_when_nothing_is_left() {
    let mut w = World::registered();
    let container = w.running_command("t");
    w.leader_says(drain(Some(3), false));
    let effects = w.take();
    let [
        Effect::Persist(Checkpoint::Drain {
            config: Some(_), ..
        }),
        Effect::Event { event, .. },
    ] = &effects[..]
    else {
        panic!("{effects:?}");
    };
    let kill = event.kill.as_ref().unwrap();
    let grace = kill.kill_policy.unwrap().grace_period.unwrap();
    assert_eq!(
        (kill.task_id.value.as_str(), grace.nanoseconds),
        ("t", 3_000_000_000)
    );
    assert!(w.follower.view().drain.is_some());

    w.run(command("late"));
    let updates = w.updates();
    let [update] = &updates[..] else {
        panic!("{updates:?}");
    };
    assert_eq!(update.status.reason(), Reason::AgentDraining);
    assert_eq!(update.status.state(), TaskState::TaskDropped);
    assert_eq!(
        update.status.message(),
        "Task was received while agent was already draining"
    );
    w.acknowledge(update);

    w.local(
        &container,
        crate::harness::update("t", "t", TaskState::TaskKilled, 1),
    );
    let updates = w.updates();
    assert_eq!(updates[0].status.reason(), Reason::AgentDraining);
    assert_eq!(updates[0].status.state(), TaskState::TaskKilled);
    w.exited(&container, ExitStatus::Code(0));
    w.take();
    w.acknowledge(&updates[0]);
    let over = |e: &Effect| matches!(e, Effect::Persist(Checkpoint::Drain { config: None, .. }));
    assert!(w.take().iter().any(over));
    assert_eq!(w.follower.view().drain, None);
    w.run(command("after"));
    assert_eq!(w.local_executor().info.executor_id.value, "after");
}

#[test]
fn a_follower_that_is_emptied_for_good_calls_its_tasks_gone() {
    let mut w = World::registered();
    w.run(command("queued"));
    w.take();
    w.leader_says(drain(None, true));
    let updates = w.updates();
    assert_eq!(updates[0].status.state(), TaskState::TaskGoneByOperator);
    assert_eq!(updates[0].status.reason(), Reason::AgentDraining);
}

#[test]
fn draining_never_lengthens_a_grace_period() {
    let mut w = World::registered();
    let mut task = command("t");
    task.kill_policy = Some(v1::KillPolicy {
        grace_period: Some(v1::DurationInfo { nanoseconds: 1 }),
    });
    w.run(task);
    let local = w.local_executor();
    w.local(&local.container, subscribe("t"));
    w.take();
    w.leader_says(drain(Some(3), false));
    let kill = w.take().into_iter().find_map(|effect| match effect {
        Effect::Event { event, .. } => event.kill,
        _ => None,
    });
    assert_eq!(kill.unwrap().kill_policy, None, "the task's own stays");
}

#[test]
fn an_executor_without_tasks_does_not_hold_draining_up() {
    let mut w = World::registered();
    let custom = |id: &str| v1::TaskInfo {
        executor: Some(crate::harness::custom_executor("e")),
        ..crate::harness::task(id)
    };
    w.run(custom("t"));
    w.http_subscribe(crate::harness::subscribe("e"));
    w.take();
    w.leader_says(drain(Some(3), false));
    w.take();
    w.http(crate::harness::update("e", "t", TaskState::TaskKilled, 1));
    let updates = w.updates();
    assert!(
        w.follower.view().drain.is_some(),
        "its end is not acknowledged"
    );
    w.acknowledge(&updates[0]);
    let over = |e: &Effect| matches!(e, Effect::Persist(Checkpoint::Drain { config: None, .. }));
    assert!(w.take().iter().any(over));
    assert_eq!(w.follower.view().drain, None);
    // The executor idles on, and is used again once the leader reactivates the follower.
    assert_eq!(w.follower.view().frameworks.size(), 1);
    w.leader_says(drain(Some(3), false));
    assert_eq!(w.follower.view().drain, None);
    w.take();
    w.leader_says(i::RunTaskMessage {
        framework: framework(),
        task: custom("again"),
        launch_executor: Some(false),
        ..Default::default()
    });
    assert!(w.updates().is_empty(), "it is not refused");
}

#[test]
fn there_is_nothing_to_drain_in_an_empty_follower() {
    let mut w = World::registered();
    w.leader_says(drain(None, false));
    assert_eq!(w.seen(), [""; 0]);
    assert_eq!(w.follower.view().drain, None);
}
