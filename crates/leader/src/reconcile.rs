//! `RECONCILE`: what a framework asks, it is told.
//!
//! The cases are those of `docs/reconciliation.md`, the texts those of `Master::reconcile` in
//! `src/master/master.cpp`.

use crate::{
    Leader, Level,
    roster::time_info,
    status::{Cause, Update, reported_state},
};
use std::sync::Arc;
use tepui_model::{
    FollowerId, FrameworkId, TaskId,
    tasks::{TaskState, for_unaware_framework},
};
use tepui_protocol::v1::{self, scheduler::call, task_status::Reason};

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
}
