//! Operations on our resources that the leader asks for: reservations and persistent volumes.
//!
//! Each is carried out at once or not at all, made durable together with its outcome, and its outcome
//! told to the leader again and again until that is acknowledged. Follows `applyOperation`,
//! `checkpointResourceState`, `reconcileOperations` and `operationStatusAcknowledgement` of
//! `src/slave/slave.cpp`.
//!
//! Where the reference ends itself because an operation does not fit its resources, this follower
//! answers OPERATION_FAILED, OPERATION_ERROR or OPERATION_DROPPED and changes nothing. One record holds
//! resources and operations; the reference writes two (before and after), since it makes volumes in
//! between.

use crate::{
    Follower, Phase,
    config::{UPDATE_RETRY_MAX, UPDATE_RETRY_MIN},
    info,
    io::{Checkpoint, Effect, Effects, ResourcesCheckpoint},
    paths,
    state::id_proto,
    timers::Timer,
    uuid_bytes, warn,
};
use bytes::Bytes;
use rpds::RedBlackTreeMapSync;
use std::{
    collections::{BTreeMap, btree_map::Entry},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};
use tepui_model::{
    FollowerId, Resources,
    resources::{
        self, Format,
        operations::{self, OperationError},
    },
};
use tepui_protocol::{
    internal as i,
    peer::Pid,
    v1::{self, OperationState},
};

/// Operations whose outcome the leader has not acknowledged, by their identity.
#[derive(Debug, Default)]
pub(crate) struct Operations {
    known: BTreeMap<Bytes, Known>,
    /// The same for readers.
    pub(crate) view: RedBlackTreeMapSync<Bytes, Arc<v1::Operation>>,
}

#[derive(Debug)]
struct Known {
    operation: Arc<v1::Operation>,
    /// How long the running retry timer was set for.
    wait: Duration,
}

impl Operations {
    pub(crate) fn len(&self) -> usize {
        self.known.len()
    }
    pub(crate) fn is_empty(&self) -> bool {
        self.known.is_empty()
    }
    fn add(&mut self, operation: v1::Operation) {
        let uuid = operation.uuid.value.clone();
        let operation = Arc::new(operation);
        self.view.insert_mut(uuid.clone(), operation.clone());
        let wait = UPDATE_RETRY_MIN;
        self.known.insert(uuid, Known { operation, wait });
    }
    fn remove(&mut self, uuid: &Bytes) {
        self.known.remove(uuid);
        self.view.remove_mut(uuid);
    }
    fn to_proto(&self) -> Vec<v1::Operation> {
        let operations = self.known.values();
        operations.map(|known| (*known.operation).clone()).collect()
    }
    pub(crate) fn check(&self) {
        assert_eq!(self.known.len(), self.view.size());
        for (uuid, known) in &self.known {
            assert_eq!(uuid, &known.operation.uuid.value);
            assert!(
                known.operation.latest_status.uuid.is_some(),
                "an outcome that nobody can acknowledge"
            );
        }
    }
}

/// Where persistent volumes lie, and whether the directory outlives its volume (a mount point).
type Volumes = BTreeMap<PathBuf, bool>;

/// Why an operation was not carried out.
type Refusal = (OperationState, String);

impl Follower {
    /// Takes back what operations made of the resources before a restart.
    ///
    /// Call it before anything else. Fails when the resources are not what they were made of any
    /// more; the follower then must not start.
    pub fn restore_resources(&mut self, state: &i::ResourceState) -> Result<(), OperationError> {
        let remembered = remembered(&state.resources)?;
        let total = self.flag_resources().with_remembered(&remembered)?;
        self.volumes(&total).map_err(OperationError::NotAVolume)?;
        self.total = Arc::new(total);
        for operation in &state.operations {
            let known = operation.latest_status.uuid.is_some() && operation.uuid.value.len() == 16;
            if known {
                self.operations.add(operation.clone());
            }
        }
        self.publish();
        Ok(())
    }

    fn flag_resources(&self) -> Resources {
        Resources::from_proto(&self.config.resources)
    }

    pub(crate) fn apply_operation(
        &mut self,
        from: &Pid,
        message: i::ApplyOperationMessage,
        fx: &mut Effects,
    ) {
        if !self.is_leader(from, "operation", fx) {
            return;
        }
        let uuid = message.operation_uuid.value.clone();
        let Some(own) = self.id.clone().filter(|_| uuid.len() == 16) else {
            return warn(
                fx,
                "Ignoring an operation that nobody could hear of".to_owned(),
            );
        };
        if self.operations.known.contains_key(&uuid) {
            info(
                fx,
                "The leader repeats an operation: telling its outcome again".to_owned(),
            );
            return self.forward_operation(&uuid, UPDATE_RETRY_MIN, fx);
        }
        let kind = message.operation_info.r#type().as_str_name();
        let (state, text, next) = match self.outcome(&message) {
            Ok((total, volumes)) => {
                info(fx, format!("Carrying out operation {kind}"));
                (
                    OperationState::OperationFinished,
                    None,
                    Some((total, volumes)),
                )
            }
            Err((state, text)) => {
                let state_name = state.as_str_name();
                warn(fx, format!("Operation {kind} is {state_name}: {text}"));
                (state, Some(text), None)
            }
        };
        let status = v1::OperationStatus {
            operation_id: message.operation_info.id.clone(),
            state: state.into(),
            message: text,
            uuid: Some(v1::Uuid {
                value: uuid_bytes(&mut self.rng),
            }),
            agent_id: Some(own.to_proto()),
            ..Default::default()
        };
        self.operations.add(v1::Operation {
            framework_id: message.framework_id,
            agent_id: Some(own.to_proto()),
            info: message.operation_info,
            latest_status: status.clone(),
            statuses: vec![status],
            uuid: message.operation_uuid,
        });
        self.change_resources(next, fx);
        self.forward_operation(&uuid, UPDATE_RETRY_MIN, fx);
    }

    /// What the resources become.
    fn outcome(&self, message: &i::ApplyOperationMessage) -> Result<(Resources, Volumes), Refusal> {
        let operation = &message.operation_info;
        let version = &message.resource_version_uuid;
        // None ever registers here.
        let provider = operations::provider_of(operation);
        if let Some(id) = provider.or(version.resource_provider_id.as_ref()) {
            let text = format!("Resource provider {} is not subscribed", id.value);
            return Err((OperationState::OperationDropped, text));
        }
        if version.uuid != self.resource_version {
            let text = "Operation assumes outdated resource state".to_owned();
            return Err((OperationState::OperationDropped, text));
        }
        let refused = |error: OperationError| {
            let state = match error {
                OperationError::NotContained { .. } | OperationError::StillShared(_) => {
                    OperationState::OperationFailed
                }
                _ => OperationState::OperationError,
            };
            (state, error.to_string())
        };
        let conversions = operations::conversions(operation).map_err(refused)?;
        let total = self.total.apply(&conversions).map_err(refused)?;
        match self.volumes(&total) {
            Ok(volumes) => Ok((total, volumes)),
            Err(text) => Err((OperationState::OperationError, text)),
        }
    }

    /// Directories of all volumes: one each, and none that leads elsewhere.
    fn volumes(&self, total: &Resources) -> Result<Volumes, String> {
        let mut volumes = Volumes::new();
        for volume in total.persistent_volumes().iter() {
            if volume.provider_id().is_some() {
                continue;
            }
            let place = paths::volume(&self.config.work_dir, volume)
                .ok_or_else(|| format!("{volume} cannot have a directory"))?;
            match volumes.entry(place.path) {
                Entry::Occupied(_) => return Err(format!("{volume} exists already")),
                Entry::Vacant(entry) => entry.insert(place.keeps_root),
            };
        }
        Ok(volumes)
    }

    /// Takes new resources into use, if there are some, and makes durable what is known.
    fn change_resources(&mut self, next: Option<(Resources, Volumes)>, fx: &mut Effects) {
        let (mut made, mut gone) = (Vec::new(), Vec::new());
        if let Some((total, volumes)) = next {
            // What there is was checked before it was.
            let before = self.volumes(&self.total).unwrap_or_default();
            let fresh = volumes.keys().filter(|path| !before.contains_key(*path));
            made.extend(fresh.cloned());
            let old = before
                .into_iter()
                .filter(|(path, _)| !volumes.contains_key(path));
            gone.extend(old);
            self.total = Arc::new(total);
        }
        let state = i::ResourceState {
            operations: self.operations.to_proto(),
            resources: self.total.to_remember().to_proto(),
        };
        fx.push(Effect::Persist(Checkpoint::Resources(Box::new(
            ResourcesCheckpoint { state, made, gone },
        ))));
    }

    /// How masters of before 1.8 tell what operations made of the resources.
    pub(crate) fn checkpoint_resources(
        &mut self,
        from: &Pid,
        message: i::CheckpointResourcesMessage,
        fx: &mut Effects,
    ) {
        if !self.is_leader(from, "CheckpointResourcesMessage", fx) {
            return;
        }
        let total = remembered(&message.resources)
            .and_then(|remembered| self.flag_resources().with_remembered(&remembered))
            .map_err(|error| error.to_string());
        match total.and_then(|total| Ok((self.volumes(&total)?, total))) {
            Ok((_, total)) if total == *self.total => {}
            Ok((volumes, total)) => self.change_resources(Some((total, volumes)), fx),
            Err(why) => warn(fx, format!("Ignoring checkpointed resources: {why}")),
        }
    }

    /// Tells the outcome of an operation and sees to it that it is told again.
    fn forward_operation(&mut self, uuid: &Bytes, wait: Duration, fx: &mut Effects) {
        if self.phase != Phase::Running {
            return;
        }
        let Some(known) = self.operations.known.get_mut(uuid) else {
            return;
        };
        known.wait = wait;
        let operation = known.operation.clone();
        self.timers
            .set(Timer::OperationRetry(uuid.clone()), self.now + wait);
        let status = operation.latest_status.clone();
        let message = i::UpdateOperationStatusMessage {
            framework_id: operation.framework_id.clone(),
            slave_id: Some(id_proto(self.id.as_ref())),
            latest_status: Some(status.clone()),
            status,
            operation_uuid: Some(operation.uuid.clone()),
        };
        self.send_leader(message, fx);
    }

    pub(crate) fn retry_operation(&mut self, uuid: &Bytes, fx: &mut Effects) {
        if let Some(known) = self.operations.known.get(uuid) {
            let wait = (known.wait * 2).min(UPDATE_RETRY_MAX);
            self.forward_operation(uuid, wait, fx);
        }
    }

    /// Nobody can hear us.
    pub(crate) fn pause_operations(&mut self) {
        for uuid in self.operations.known.keys() {
            self.timers.cancel(&Timer::OperationRetry(uuid.clone()));
        }
    }

    pub(crate) fn resume_operations(&mut self, fx: &mut Effects) {
        let all: Vec<_> = self.operations.known.keys().cloned().collect();
        for uuid in all {
            self.forward_operation(&uuid, UPDATE_RETRY_MIN, fx);
        }
    }

    pub(crate) fn operation_acknowledgement(
        &mut self,
        from: &Pid,
        message: i::AcknowledgeOperationStatusMessage,
        fx: &mut Effects,
    ) {
        if !self.is_leader(from, "acknowledgement of an operation", fx) {
            return;
        }
        let uuid = message.operation_uuid.value;
        let waiting = self.operations.known.get(&uuid);
        let expected = waiting.and_then(|known| known.operation.latest_status.uuid.as_ref());
        if expected != Some(&message.status_uuid) {
            return warn(fx, "Unexpected acknowledgement of an operation".to_owned());
        }
        self.timers.cancel(&Timer::OperationRetry(uuid.clone()));
        self.operations.remove(&uuid);
        self.change_resources(None, fx);
        self.drained_if_idle(fx);
    }

    /// Says of each operation what became of it. One that the leader (not a framework) asks for and
    /// that is known here needs no answer: its outcome is on the way.
    pub(crate) fn reconcile_operations(
        &mut self,
        from: &Pid,
        message: i::ReconcileOperationsMessage,
        fx: &mut Effects,
    ) {
        if !self.is_leader(from, "reconciliation of operations", fx) {
            return;
        }
        let framework = message.framework_id;
        for asked in message.operations {
            let known = self.find_operation(&asked, framework.as_ref());
            let answer = match (known, &framework) {
                (Some(_), None) => None,
                (Some(operation), Some(_)) => Some((
                    Some(operation.uuid.clone()),
                    v1::OperationStatus {
                        // Not sent until acknowledged.
                        uuid: None,
                        ..operation.latest_status.clone()
                    },
                )),
                (None, _) => {
                    let state = match framework {
                        Some(_) => OperationState::OperationUnknown,
                        None => OperationState::OperationDropped,
                    };
                    let status = v1::OperationStatus {
                        operation_id: asked.operation_id,
                        state: state.into(),
                        agent_id: self.id.as_ref().map(FollowerId::to_proto),
                        resource_provider_id: asked.resource_provider_id,
                        ..Default::default()
                    };
                    Some((asked.operation_uuid, status))
                }
            };
            if let Some((operation_uuid, status)) = answer {
                let message = i::UpdateOperationStatusMessage {
                    framework_id: framework.clone(),
                    slave_id: Some(id_proto(self.id.as_ref())),
                    status,
                    latest_status: None,
                    operation_uuid,
                };
                self.send_leader(message, fx);
            }
        }
    }

    fn find_operation(
        &self,
        asked: &i::reconcile_operations_message::Operation,
        framework: Option<&v1::FrameworkId>,
    ) -> Option<&v1::Operation> {
        if let Some(uuid) = &asked.operation_uuid {
            return self
                .operations
                .known
                .get(&uuid.value)
                .map(|known| &*known.operation);
        }
        let id = asked.operation_id.as_ref()?;
        let mut all = self
            .operations
            .known
            .values()
            .map(|known| &*known.operation);
        all.find(|o| o.framework_id.as_ref() == framework && o.info.id.as_ref() == Some(id))
    }

    /// What this follower knows of operations, for the leader.
    pub(crate) fn known_operations(&self) -> i::update_slave_message::Operations {
        i::update_slave_message::Operations {
            operations: self.operations.to_proto(),
        }
    }

    /// What operations made of the resources, in the form in which it is registered.
    pub(crate) fn checkpointed_resources(&self) -> Vec<v1::Resource> {
        let mut all = self.total.to_remember().to_proto();
        for resource in &mut all {
            resources::downgrade(resource, Format::PreRefinement);
        }
        all
    }

    pub(crate) fn check_operations(&self) {
        self.operations.check();
        assert_eq!(
            self.total.quantities(),
            self.flag_resources().quantities(),
            "operations neither make nor lose resources"
        );
        self.volumes(&self.total).expect("volumes without a place");
    }
}

fn remembered(protos: &[v1::Resource]) -> Result<Resources, OperationError> {
    let mut protos = protos.to_vec();
    protos.iter_mut().for_each(resources::upgrade);
    Ok(Resources::try_from_proto(&protos)?)
}
