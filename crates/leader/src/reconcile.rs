//! `RECONCILE` and `RECONCILE_OPERATIONS`: what a framework asks, it is told.
//!
//! The cases are those of `docs/reconciliation.md`, the texts those of `Master::reconcile` in
//! `src/master/master.cpp`.

use crate::{
    Leader, Level,
    roster::time_info,
    status::{Cause, Update, reported_state},
};
use std::{collections::BTreeMap, sync::Arc};
use tepui_model::{
    FollowerId, FrameworkId, TaskId,
    tasks::{TaskState, for_unaware_framework},
};
use tepui_protocol::{
    internal,
    peer::Pid,
    v1::{
        self,
        scheduler::{self, call, event},
        task_status::Reason,
    },
};

impl Leader {
    /// No tasks: all of them. Otherwise those named, known or not.
    pub(crate) fn reconcile(
        &mut self,
        framework_id: &FrameworkId,
        asked: &[call::reconcile::Task],
    ) {
        self.count("master/messages_reconcile_tasks");
        let Some(framework) = self.state.framework(framework_id) else {
            return;
        };
        let updates: Vec<Update> = if asked.is_empty() {
            framework
                .tasks
                .values()
                .map(|task| self.latest(task))
                .collect()
        } else {
            let aware = framework.capabilities.partition_aware;
            asked
                .iter()
                .filter_map(|task| self.answer(framework_id, aware, task))
                .collect()
        };
        if updates.len() < asked.len() {
            let silent = asked.len() - updates.len();
            self.notice(
                Level::Info,
                format!("Did not answer the reconciliation of {silent} tasks of {framework_id}: followers are awaited"),
            );
        }
        for update in updates {
            self.tell_framework(framework_id, &update);
        }
    }

    fn latest(&self, task: &Arc<v1::Task>) -> Update {
        let cause = Cause::new(
            Reason::Reconciliation,
            "Reconciliation: Latest task state".to_owned(),
        );
        Update::of_known_task(task, reported_state(task), &cause, self.now)
    }

    fn answer(
        &self,
        framework: &FrameworkId,
        aware: bool,
        asked: &call::reconcile::Task,
    ) -> Option<Update> {
        if let Some(task) = self.state.task(framework, &TaskId::from(&asked.task_id)) {
            return Some(self.latest(task));
        }
        let at = asked.agent_id.as_ref().map(FollowerId::from);
        let mut since = None;
        let (state, text) = match &at {
            // It may run on a follower that has not come back yet: silence, until it is known.
            None if !self.state.roster.recovered.is_empty() => return None,
            Some(at) if self.state.roster.recovered.contains_key(at) => return None,
            Some(at) if self.state.follower(at).is_some() => {
                (TaskState::TaskGone, "Task is unknown to the agent")
            }
            Some(at) if self.state.roster.unreachable.contains(at) => {
                since = self.state.roster.unreachable.get(at);
                (TaskState::TaskUnreachable, "Task is unreachable")
            }
            Some(at) if self.state.roster.gone.contains(at) => {
                (TaskState::TaskGoneByOperator, "Task is gone")
            }
            _ => (TaskState::TaskUnknown, "Task is unknown"),
        };
        let state = if aware {
            state
        } else {
            for_unaware_framework(state)
        };
        let cause = Cause::new(Reason::Reconciliation, format!("Reconciliation: {text}"));
        let mut update = Update::new(
            &asked.task_id,
            asked.agent_id.as_ref(),
            state,
            &cause,
            self.now,
        );
        update.status.unreachable_time = since.map(time_info);
        Some(update)
    }

    /// There are no operations yet: none is known, for one reason or another.
    pub(crate) fn reconcile_operations(
        &mut self,
        framework: &FrameworkId,
        call: call::ReconcileOperations,
    ) {
        self.count("master/messages_reconcile_operations");
        let mut forwarded: BTreeMap<Pid, internal::ReconcileOperationsMessage> = BTreeMap::new();
        for asked in call.operations {
            if let Some(pid) = self.knows_providers(&asked) {
                let message = forwarded.entry(pid).or_default();
                message.framework_id = Some(framework.to_proto());
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
            self.event(framework, operation_update(status));
        }
        for (pid, message) in forwarded {
            self.send(pid, message);
        }
    }

    /// The follower to ask about an operation of a resource provider: which of those it has seen
    /// only it knows.
    fn knows_providers(&self, asked: &call::reconcile_operations::Operation) -> Option<Pid> {
        asked.resource_provider_id.as_ref()?;
        let at = FollowerId::from(asked.agent_id.as_ref()?);
        let follower = self.state.follower(&at)?;
        follower
            .can
            .operation_feedback
            .then(|| follower.pid.clone())
    }

    /// `UpdateOperationStatusMessage`. This leader applies no operations yet, so every one is
    /// unknown: as with the reference's unknown ones, its framework hears of it, and nobody
    /// acknowledges for it.
    pub(crate) fn operation_status_update(
        &mut self,
        from: &Pid,
        message: internal::UpdateOperationStatusMessage,
    ) {
        self.count("master/messages_operation_status_update");
        let at = message.slave_id.as_ref();
        let known = at.is_some_and(|at| self.follower_saying(from, at).is_some());
        let framework = message.framework_id.as_ref().map(FrameworkId::from);
        if !known {
            self.count("master/invalid_operation_status_updates");
            let text = format!("Ignored an operation's update from {from}: not a follower");
            return self.notice(Level::Warning, text);
        }
        let Some(framework) = framework else {
            // Repeats what a re-registration settled.
            return;
        };
        if message.operation_uuid.is_some() {
            self.count("master/invalid_operation_status_updates");
        }
        self.event(&framework, operation_update(message.status));
    }

    fn operation_answer(&self, at: Option<&v1::AgentId>) -> (v1::OperationState, &'static str) {
        use v1::OperationState as S;
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
