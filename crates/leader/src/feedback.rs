//! What becomes of operations: followers say it, frameworks hear and acknowledge it, or ask.
//!
//! Follows `Master::updateOperationStatus`, `acknowledgeOperationStatus`, `reconcileOperations` and
//! `sendBulkOperationFeedback` in `src/master/master.cpp`; what schedulers see is in
//! `docs/scheduler-http-api.md`. A framework hears of an operation if it gave it an id. Statuses that
//! nobody else will acknowledge, the leader does.
//!
//! What was to be known before it was done may fail all the same. The reference's followers end
//! themselves then; ours say so, and the leader asks them what they have.

use crate::{
    Leader, Level,
    operations::{LetGo, OperationKey, is_pending, is_terminal},
    state::Channel,
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tepui_model::{
    FollowerId, FrameworkId,
    resources::{
        Resources,
        operations::{self, Conversion},
    },
};
use tepui_protocol::{
    internal,
    peer::Pid,
    v1::{
        self, OperationState,
        scheduler::{self, call, event},
    },
};

/// How long a follower keeps operations of frameworks that have not come back since it has
/// (`MIN_WAIT_BEFORE_ORPHAN_OPERATION_ADOPTION` in `src/master/constants.hpp`).
const ORPHANS_WAIT: Duration = Duration::from_secs(10 * 60);

impl Leader {
    /// `UpdateOperationStatusMessage`
    pub(crate) fn operation_status_update(
        &mut self,
        from: &Pid,
        message: internal::UpdateOperationStatusMessage,
    ) {
        self.count("master/messages_operation_status_update");
        let at = message.slave_id.as_ref();
        let known = at.is_some_and(|at| self.follower_saying(from, at).is_some());
        let Some(at) = at.filter(|_| known).map(FollowerId::from) else {
            let text = format!("Ignored an operation's update from {from}: not a follower");
            return self.invalid_operation_update(text);
        };
        let framework = message.framework_id.as_ref().map(FrameworkId::from);
        let Some(uuid) = message.operation_uuid.as_ref() else {
            // The answer to a question that its framework asked.
            if let Some(framework) = framework {
                self.event(&framework, operation_update(message.status));
            }
            return;
        };
        let key = (at, uuid.value.clone());
        if self.state.operation(&key).is_none() {
            // Repeats what is settled, or answers a question of its framework meanwhile.
            if let Some(framework) = framework {
                self.event(&framework, operation_update(message.status));
                let text = format!("Got an update of an operation on {} that is unknown", key.0);
                self.invalid_operation_update(text);
            }
            return;
        }
        let latest = message.latest_status.as_ref().unwrap_or(&message.status);
        if let Err(error) = validate_status(latest) {
            let text = format!("Ignored an operation's update from {}: {error}", key.0);
            return self.invalid_operation_update(text);
        }
        self.count("master/valid_operation_status_updates");
        self.take_status(&key, message);
    }

    fn invalid_operation_update(&mut self, text: String) {
        self.count("master/invalid_operation_status_updates");
        self.notice(Level::Warning, text);
    }

    /// A status of a known operation.
    fn take_status(&mut self, key: &OperationKey, message: internal::UpdateOperationStatusMessage) {
        let Some(operation) = self.state.operation(key).cloned() else {
            return;
        };
        let mut status = message.status;
        let mut latest = message.latest_status.unwrap_or_else(|| status.clone());
        // Answers to questions of the leader lack it.
        status.operation_id = operation.info.id.clone();
        latest.operation_id = operation.info.id.clone();
        self.apply_status(key, &latest, true);
        let framework = operation.framework_id.as_ref().map(FrameworkId::from);
        let listener = framework
            .as_ref()
            .filter(|id| operation.info.id.is_some() && !self.state.is_completed(id));
        let orphan = self.holds_orphan(key, &operation);
        let ended = is_terminal(latest.state());
        if let Some(framework) = listener.filter(|_| !orphan) {
            self.event(framework, operation_update(status));
            // Nobody waits for an acknowledgement of this one.
            if ended && latest.uuid.is_none() {
                self.drop_operation(key);
            }
            return;
        }
        if let Some(uuid) = latest.uuid {
            if listener.is_some() && self.still_waits(&key.0) {
                return;
            }
            self.acknowledge_status(key, uuid, operations::provider_of(&operation.info).cloned());
        }
        if ended {
            self.drop_operation(key);
        }
    }

    /// Whether an operation keeps something, or did, and its framework is not here. Of others it is
    /// expected that it comes.
    fn holds_orphan(&self, key: &OperationKey, operation: &v1::Operation) -> bool {
        !operations::is_speculative(&operation.info) && self.state.is_orphan(key)
    }

    /// Whether frameworks may not have had the time to come back since this follower did.
    fn still_waits(&self, at: &FollowerId) -> bool {
        let follower = self.state.follower(at);
        follower
            .and_then(|follower| follower.reregistered)
            .is_some_and(|since| self.now < since + ORPHANS_WAIT)
    }

    fn acknowledge_status(
        &mut self,
        key: &OperationKey,
        status_uuid: v1::Uuid,
        provider: Option<v1::ResourceProviderId>,
    ) {
        let Some(pid) = self.state.follower(&key.0).map(|f| f.pid.clone()) else {
            return;
        };
        let message = internal::AcknowledgeOperationStatusMessage {
            status_uuid,
            operation_uuid: v1::Uuid {
                value: key.1.clone(),
            },
            resource_provider_id: provider,
        };
        self.send(pid, message);
    }

    /// Into the table; what the operation kept becomes what it made, or is free. `convert`: the
    /// follower's total does not say so yet.
    pub(crate) fn apply_status(
        &mut self,
        key: &OperationKey,
        status: &v1::OperationStatus,
        convert: bool,
    ) {
        let Some(before) = self.state.operation(key).cloned() else {
            return;
        };
        let let_go = self.state.update_operation(key, status);
        let (kind, old) = (before.info.r#type(), before.latest_status.state());
        if is_pending(&before) && old != status.state() {
            let metrics = Arc::make_mut(&mut self.metrics);
            metrics.count_operation(kind, old, -1);
            metrics.count_operation(kind, status.state(), 1);
        }
        if let Some(let_go) = let_go {
            let finished = status.state() == OperationState::OperationFinished;
            match finished && convert {
                true => self.convert_kept(&key.0, let_go, &status.converted_resources),
                false => self.free_kept(&key.0, let_go),
            }
        }
        let failed = is_terminal(status.state())
            && status.state() != OperationState::OperationFinished
            && operations::is_speculative(&before.info)
            && is_pending(&before);
        if let Some(follower) = self.state.follower_unseen(&key.0) {
            // Without a UUID it answers a question that followed a registration.
            follower.in_doubt |= failed && status.uuid.is_some();
        }
        self.resolve_doubt(&key.0);
    }

    /// A provider says what it made of what an operation kept.
    fn convert_kept(&mut self, at: &FollowerId, let_go: LetGo, made: &[v1::Resource]) {
        let mut made = made.to_vec();
        made.iter_mut().for_each(tepui_model::resources::upgrade);
        let made = Resources::from_proto(&made).unallocated();
        let conversion = Conversion::new(let_go.resources.clone().unallocated(), made.clone());
        let Some(follower) = self.state.follower_mut(at) else {
            return;
        };
        if let Err(error) = follower.convert(std::slice::from_ref(&conversion)) {
            self.notice(
                Level::Warning,
                format!("An operation on {at} made something of what was not there: {error}"),
            );
            return self.free_kept(at, let_go);
        }
        let role = let_go.resources.allocations().into_keys().next();
        let (Some(framework), Some(role)) = (let_go.holder, role) else {
            return self.tell_total(at);
        };
        let conversion = conversion.allocated(&role);
        let held = crate::operation::change::held(std::slice::from_ref(&conversion));
        let known = self
            .allocator
            .update_allocation(&framework, at, &role, &held);
        match known {
            Ok(()) => self.free(&framework, at, conversion.converted),
            Err(_) => {
                self.free(&framework, at, let_go.resources);
                self.tell_total(at);
            }
        }
    }

    /// `ACKNOWLEDGE_OPERATION_STATUS`
    pub(crate) fn acknowledge_operation(
        &mut self,
        framework: &FrameworkId,
        call: call::AcknowledgeOperationStatus,
    ) {
        self.count("master/messages_operation_status_update_acknowledgement");
        let id = call.operation_id.value.clone();
        match self.acknowledged(framework, &call) {
            Ok((key, ended)) => {
                self.count("master/valid_operation_status_update_acknowledgements");
                let uuid = v1::Uuid { value: call.uuid };
                self.acknowledge_status(&key, uuid, call.resource_provider_id);
                if ended {
                    self.drop_operation(&key);
                }
            }
            Err(why) => {
                self.count("master/invalid_operation_status_update_acknowledgements");
                self.notice(
                    Level::Warning,
                    format!("Ignored the acknowledgement of operation {id} by {framework}: {why}"),
                );
            }
        }
    }

    /// The operation, and whether it has ended with this.
    fn acknowledged(
        &self,
        framework: &FrameworkId,
        call: &call::AcknowledgeOperationStatus,
    ) -> Result<(OperationKey, bool), &'static str> {
        let at = call.agent_id.as_ref().map(FollowerId::from);
        let follower = at.as_ref().and_then(|at| self.state.follower(at));
        let follower = follower.ok_or("its follower is not registered")?;
        if !follower.connected {
            return Err("its follower is disconnected");
        }
        let can = match call.resource_provider_id {
            Some(_) => follower.can.resource_provider,
            None => follower.can.operation_feedback,
        };
        if !can {
            return Err("its follower does not tell what becomes of operations");
        }
        let framework = self.state.framework(framework);
        let key = framework
            .and_then(|framework| framework.operation_ids.get(&call.operation_id.value))
            .filter(|key| Some(&key.0) == at.as_ref())
            .ok_or("it is unknown")?;
        let operation = self.state.operation(key).ok_or("it is unknown")?;
        let is_named = |status: &&v1::OperationStatus| {
            let uuid = status.uuid.as_ref();
            uuid.is_some_and(|uuid| uuid.value == call.uuid)
        };
        let status = operation.statuses.iter().find(is_named);
        let status = status.ok_or("that status of it is unknown")?;
        Ok((key.clone(), is_terminal(status.state())))
    }

    /// `RECONCILE_OPERATIONS`. None named: all of them.
    pub(crate) fn reconcile_operations(
        &mut self,
        framework_id: &FrameworkId,
        call: call::ReconcileOperations,
    ) {
        self.count("master/messages_reconcile_operations");
        let Some(framework) = self.state.framework(framework_id) else {
            return;
        };
        let mut statuses: Vec<v1::OperationStatus> = Vec::new();
        if call.operations.is_empty() {
            let keys = framework.operations.iter();
            statuses.extend(keys.filter_map(|key| self.last_status(key)));
        }
        let mut forwarded: BTreeMap<Pid, internal::ReconcileOperationsMessage> = BTreeMap::new();
        for asked in call.operations {
            let key = framework.operation_ids.get(&asked.operation_id.value);
            if let Some(status) = key.and_then(|key| self.last_status(key)) {
                statuses.push(status);
                continue;
            }
            if let Some(pid) = self.knows_provider(&asked) {
                let message = forwarded.entry(pid).or_default();
                message.framework_id = Some(framework_id.to_proto());
                message
                    .operations
                    .push(internal::reconcile_operations_message::Operation {
                        operation_uuid: None,
                        operation_id: Some(asked.operation_id),
                        resource_provider_id: asked.resource_provider_id,
                    });
                continue;
            }
            let (state, message) = self.operation_answer(asked.agent_id.as_ref());
            let mut status = v1::OperationStatus {
                operation_id: Some(asked.operation_id),
                message: Some(format!("Reconciliation: {message}")),
                agent_id: asked.agent_id,
                resource_provider_id: asked.resource_provider_id,
                ..Default::default()
            };
            status.set_state(state);
            statuses.push(status);
        }
        for status in statuses {
            self.event(framework_id, operation_update(status));
        }
        for (pid, message) in forwarded {
            self.send(pid, message);
        }
    }

    /// The last its framework was to hear of an operation. Nobody waits for an acknowledgement.
    fn last_status(&self, key: &OperationKey) -> Option<v1::OperationStatus> {
        let operation = self.state.operation(key)?;
        let last = operation.statuses.last();
        Some(v1::OperationStatus {
            uuid: None,
            ..last.unwrap_or(&operation.latest_status).clone()
        })
    }

    /// The follower to ask about an operation of a resource provider that is not there: whether it
    /// ever was only it knows.
    fn knows_provider(&self, asked: &call::reconcile_operations::Operation) -> Option<Pid> {
        let provider = asked.resource_provider_id.as_ref()?;
        let at = FollowerId::from(asked.agent_id.as_ref()?);
        let follower = self.state.follower(&at)?;
        let asks =
            follower.can.operation_feedback && !follower.providers.contains_key(&provider.value);
        asks.then(|| follower.pid.clone())
    }

    fn operation_answer(&self, at: Option<&v1::AgentId>) -> (OperationState, &'static str) {
        use OperationState as S;
        let Some(at) = at.map(FollowerId::from) else {
            return (
                S::OperationUnknown,
                "Operation is unknown and no 'agent_id' was provided",
            );
        };
        if self.state.roster.recovered.contains_key(&at) {
            (
                S::OperationRecovering,
                "Agent is recovered but has not re-registered",
            )
        } else if self.state.follower(&at).is_some() {
            (S::OperationUnknown, "Operation is unknown")
        } else if self.state.roster.unreachable.contains(&at) {
            (S::OperationUnreachable, "Agent is unreachable")
        } else if self.state.roster.gone.contains(&at) {
            (S::OperationGoneByOperator, "Agent marked gone by operator")
        } else {
            (S::OperationUnknown, "Both operation and agent are unknown")
        }
    }

    /// A follower leaves the tables: nobody can say what becomes of its operations. Frameworks hear
    /// what is known of it, once.
    pub(crate) fn leave_operations(
        &mut self,
        at: &FollowerId,
        end: Option<(OperationState, &str)>,
    ) {
        let Some(follower) = self.state.follower(at) else {
            return;
        };
        let all: Vec<Arc<v1::Operation>> = follower.operations.values().cloned().collect();
        for operation in all {
            if let Some((state, message)) = end {
                let kind = operation.info.r#type();
                Arc::make_mut(&mut self.metrics).count_operation(kind, state, 1);
                self.tell_end(at, &operation, state, message);
            }
            self.drop_operation(&(at.clone(), operation.uuid.value.clone()));
        }
    }

    fn tell_end(
        &mut self,
        at: &FollowerId,
        operation: &v1::Operation,
        state: OperationState,
        message: &str,
    ) {
        let (Some(id), Some(framework)) = (&operation.info.id, &operation.framework_id) else {
            return;
        };
        let framework = FrameworkId::from(framework);
        let channel = self.state.framework(&framework).and_then(|f| f.channel());
        if !matches!(channel, Some(Channel::Stream(_))) {
            return;
        }
        let mut status = v1::OperationStatus {
            operation_id: Some(id.clone()),
            message: Some(message.to_owned()),
            agent_id: Some(at.to_proto()),
            resource_provider_id: operations::provider_of(&operation.info).cloned(),
            ..Default::default()
        };
        status.set_state(state);
        self.event(&framework, operation_update(status));
    }
}

/// Followers say that an operation is under way, or how it ended.
fn validate_status(status: &v1::OperationStatus) -> Result<(), String> {
    use OperationState as S;
    match status.state() {
        S::OperationPending
        | S::OperationFinished
        | S::OperationFailed
        | S::OperationError
        | S::OperationDropped
        | S::OperationGoneByOperator => {}
        state => {
            return Err(format!(
                "{} is not for followers to say",
                state.as_str_name()
            ));
        }
    }
    crate::validate::message::resources(&status.converted_resources)
}

/// An `UPDATE_OPERATION_STATUS` event.
pub(crate) fn operation_update(status: v1::OperationStatus) -> scheduler::Event {
    let update = event::UpdateOperationStatus { status };
    let mut event = scheduler::Event {
        update_operation_status: Some(update),
        ..Default::default()
    };
    event.set_type(event::Type::UpdateOperationStatus);
    event
}
