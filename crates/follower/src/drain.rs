//! Draining: every task is killed, nothing new is started, until nothing is left.
//!
//! Follows `drain` and `updateDrainStatus` of `src/slave/slave.cpp` and
//! `docs/maintenance.md` ("automatic agent draining"). Unlike there, only the leader can ask for it, and
//! executors without tasks do not count.

use crate::{
    Follower, info,
    io::{Checkpoint, Effect, Effects},
    state::ExecutorKey,
};
use tepui_model::{FrameworkId, TaskId, Time};
use tepui_protocol::{
    internal as i,
    peer::Pid,
    v1::{self, TaskState, task_status::Reason},
};

/// Draining that is under way.
#[derive(Debug, Clone, PartialEq)]
pub struct Drain {
    /// As the leader asked for it.
    pub config: v1::DrainConfig,
    /// Since when.
    pub since: Time,
}

impl Follower {
    pub(crate) fn drain(&mut self, from: &Pid, message: i::DrainSlaveMessage, fx: &mut Effects) {
        if !self.is_leader(from, "DrainSlaveMessage", fx) {
            return;
        }
        if self.has_nothing_to_drain() {
            return info(
                fx,
                "Asked to drain: there is nothing to be drained".to_owned(),
            );
        }
        let max_grace = message.config.max_grace_period;
        info(fx, "Draining: killing all tasks".to_owned());
        self.drain = Some(Drain {
            config: message.config,
            since: self.now,
        });
        self.persist_drain(fx);
        let frameworks: Vec<_> = self.frameworks.keys().cloned().collect();
        for framework in frameworks {
            self.drain_framework(&framework, max_grace, fx);
        }
    }

    fn drain_framework(
        &mut self,
        id: &FrameworkId,
        max_grace: Option<v1::DurationInfo>,
        fx: &mut Effects,
    ) {
        let Some(framework) = self.frameworks.get(id).filter(|f| !f.terminating) else {
            return;
        };
        let pending = framework.pending.iter().flat_map(|launch| &launch.tasks);
        let pending: Vec<_> = pending.map(|task| TaskId::from(&task.task_id)).collect();
        let mut tasks: Vec<(ExecutorKey, TaskId, Option<v1::KillPolicy>)> = Vec::new();
        for executor in framework.executors.values() {
            let key = || (id.clone(), executor.id.clone());
            let launched = executor.launched.iter();
            tasks.extend(launched.map(|(task, info)| (key(), task.clone(), info.kill_policy)));
            let queued = executor.queued.iter();
            tasks.extend(queued.map(|(task, info)| (key(), task.clone(), info.kill_policy)));
        }
        for task in pending {
            self.kill_pending(id, &task, fx);
        }
        for (key, task, own) in tasks {
            self.kill_known(&key, &task, shorter_policy(own, max_grace), fx);
        }
    }

    /// Kills what came back from before a restart, if we were being drained then.
    pub(crate) fn go_on_draining(&mut self, fx: &mut Effects) {
        let Some(drain) = &self.drain else { return };
        let max_grace = drain.config.max_grace_period;
        info(fx, "Going on to drain".to_owned());
        let frameworks: Vec<_> = self.frameworks.keys().cloned().collect();
        for framework in frameworks {
            self.drain_framework(&framework, max_grace, fx);
        }
    }

    /// What ends while draining says so.
    pub(crate) fn mark_drained(&self, framework: &FrameworkId, status: &mut v1::TaskStatus) {
        let Some(drain) = &self.drain else { return };
        if !matches!(
            status.state(),
            TaskState::TaskKilling | TaskState::TaskKilled
        ) {
            return;
        }
        status.reason = Some(Reason::AgentDraining.into());
        let aware = self
            .frameworks
            .get(framework)
            .is_some_and(|f| f.partition_aware());
        if drain.config.mark_gone() && aware {
            status.state = TaskState::TaskGoneByOperator.into();
        }
    }

    /// Ends the draining once nothing is left.
    pub(crate) fn drained_if_idle(&mut self, fx: &mut Effects) {
        if self.drain.is_some() && self.has_nothing_to_drain() {
            info(fx, "Drained".to_owned());
            self.drain = None;
            self.persist_drain(fx);
        }
    }

    /// No task that waits, runs or has an end to be acknowledged, and no operation. The leader counts
    /// the same; the reference's agent also waits for executors that idle, and refuses tasks until
    /// they are gone even if it is reactivated meanwhile.
    fn has_nothing_to_drain(&self) -> bool {
        let mut frameworks = self.frameworks.values();
        self.operations.is_empty()
            && frameworks
                .all(|framework| framework.tasks.is_empty() && framework.pending.is_empty())
    }

    fn persist_drain(&self, fx: &mut Effects) {
        if let Some(follower) = &self.id {
            fx.push(Effect::Persist(Checkpoint::Drain {
                follower: follower.clone(),
                config: self.drain.as_ref().map(|drain| drain.config),
            }));
        }
    }

    pub(crate) fn check_drain(&self) {
        assert!(
            self.drain.is_none() || !self.has_nothing_to_drain(),
            "draining nothing"
        );
    }
}

/// Draining may shorten a task's grace period, never lengthen it.
fn shorter_policy(
    own: Option<v1::KillPolicy>,
    max_grace: Option<v1::DurationInfo>,
) -> Option<v1::KillPolicy> {
    let max = max_grace?;
    let own = own.and_then(|policy| policy.grace_period);
    let shorter = own.is_none_or(|own| max.nanoseconds < own.nanoseconds);
    shorter.then_some(v1::KillPolicy {
        grace_period: Some(max),
    })
}
