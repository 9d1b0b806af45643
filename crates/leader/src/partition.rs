//! Followers go: unanswered pings, broken links, removal, and operators who give one up.
//!
//! Follows `SlaveObserver`, `Master::exited`, `markUnreachable`, `removeSlave` and `markGone` in
//! `src/master/master.cpp`; what frameworks are told is in `docs/high-availability-framework-guide.md`.

use crate::{
    Effect, Leader, Level, ProcessName, RegistryChange,
    config::REMOVED_FOLLOWERS_KEPT,
    removal::Fault,
    roster::{Marks, time_info},
    status::{Cause, Update},
    timers::Timer,
};
use std::sync::Arc;
use tepui_model::{
    ExecutorId, FollowerId, FrameworkId, OfferId, TaskId, tasks::TaskState, units::format_duration,
};
use tepui_protocol::{
    internal::{self, registry},
    peer::Pid,
    v1::{
        self, OperationState,
        scheduler::{self, event},
        task_status::Reason,
    },
};

impl Leader {
    // Pings.

    pub(crate) fn first_ping(&mut self, id: &FollowerId) {
        self.ping(id);
    }

    fn ping(&mut self, id: &FollowerId) {
        let Some(follower) = self.state.follower_unseen(id) else {
            return;
        };
        follower.pinged = true;
        let (to, from) = (
            follower.pid.clone(),
            ProcessName::Observer(follower.observer),
        );
        let message = internal::PingSlaveMessage {
            connected: follower.connected,
        }
        .into();
        self.out.push(Effect::Send { to, from, message });
        self.timers
            .set(Timer::Ping(id.clone()), self.now + self.config.ping_timeout);
    }

    /// `PongSlaveMessage`.
    pub(crate) fn pong(&mut self, from: &Pid) {
        let Some(id) = self
            .state
            .follower_at(from)
            .map(|follower| follower.id.clone())
        else {
            return;
        };
        if let Some(follower) = self.state.follower_unseen(&id) {
            follower.pinged = false;
            follower.ping_timeouts = 0;
            follower.unheard = false;
        }
        self.cancel_removal(&id, Fault::Silent);
    }

    pub(crate) fn ping_due(&mut self, id: &FollowerId) {
        let Some(follower) = self.state.follower_unseen(id) else {
            return;
        };
        if follower.pinged {
            follower.ping_timeouts += 1;
            if follower.ping_timeouts >= self.config.max_ping_timeouts {
                self.schedule_removal(id, Fault::Silent);
            }
        }
        // Also while it waits to be given up: an answer takes it out of the queue.
        self.ping(id);
    }

    // Links.

    pub(crate) fn link_broken(&mut self, pid: &Pid) {
        self.driver_link_broken(pid);
        self.authentication_link_broken(pid);
        let Some(follower) = self.state.follower_at(pid) else {
            return;
        };
        if !follower.connected {
            return;
        }
        let (id, unheard) = (follower.id.clone(), follower.unheard);
        let offers: Vec<OfferId> = follower.offers.keys().cloned().collect();
        let frameworks: Vec<FrameworkId> = follower
            .tasks
            .keys()
            .chain(follower.executors.keys())
            .cloned()
            .collect();
        self.notice(
            Level::Warning,
            format!("Follower {id} at {pid} disconnected"),
        );
        if let Some(follower) = self.state.follower_mut(&id) {
            follower.connected = false;
            follower.active = false;
        }
        self.allocator.deactivate_follower(&id);
        for offer in offers {
            self.rescind_offer(&offer);
        }
        self.rescind_inverse_offers_on(&id);
        for framework in frameworks {
            // Without checkpoints nothing of it survives the follower's restart.
            if self
                .state
                .framework(&framework)
                .is_some_and(|f| !f.info.checkpoint())
            {
                self.remove_framework_from(&framework, &id);
            }
        }
        self.timers.set(
            Timer::Reregister(id.clone()),
            self.now + self.config.reregister_timeout,
        );
        if unheard {
            self.nudge(&id);
        }
    }

    /// The link that broke may be an old one, and the answer to a re-registration may have been
    /// lost on it. A ping says so at once, on a link that works: the follower registers again.
    pub(crate) fn nudge(&mut self, id: &FollowerId) {
        let Some(follower) = self.state.follower_unseen(id) else {
            return;
        };
        follower.unheard = false;
        let (to, from) = (
            follower.pid.clone(),
            ProcessName::Observer(follower.observer),
        );
        let message = internal::PingSlaveMessage { connected: false }.into();
        self.out.push(Effect::Send { to, from, message });
    }

    fn remove_framework_from(&mut self, framework: &FrameworkId, id: &FollowerId) {
        let Some(follower) = self.state.follower(id) else {
            return;
        };
        let cause = Cause::new(
            Reason::AgentDisconnected,
            format!("Agent {} disconnected", follower.info.hostname),
        );
        let tasks: Vec<TaskId> = follower
            .tasks
            .get(framework)
            .into_iter()
            .flatten()
            .cloned()
            .collect();
        for task in tasks {
            self.end_task(framework, &task, TaskState::TaskLost, &cause, None, false);
        }
        self.remove_executors(framework, id);
    }

    pub(crate) fn reregister_timeout(&mut self, id: &FollowerId) {
        if self
            .state
            .follower(id)
            .is_none_or(|follower| follower.connected)
        {
            return;
        }
        self.schedule_removal(id, Fault::Away);
    }

    pub(crate) fn give_up_away(&mut self, id: &FollowerId) {
        let timeout = format_duration(self.config.reregister_timeout);
        self.mark_unreachable(
            id,
            &format!("agent did not reregister within {timeout} after disconnecting"),
        );
    }

    // Ends.

    pub(crate) fn persist_unreachable(&mut self, id: &FollowerId) {
        let change = self.unreachable_record(id, self.now);
        self.persist(change);
        self.state.roster.unreachable.insert(id.clone(), self.now);
        self.schedule_registry_gc();
        self.count("master/slave_removals");
        self.count("master/slave_removals/reason_unhealthy");
    }

    /// It does not answer, but may come back with its tasks.
    pub(crate) fn mark_unreachable(&mut self, id: &FollowerId, why: &str) {
        if self.state.follower(id).is_none() {
            return;
        }
        self.notice(
            Level::Warning,
            format!("Marking follower {id} unreachable: {why}"),
        );
        self.persist_unreachable(id);
        let since = time_info(self.now);
        self.end_all(id, why, End::Unreachable(since));
    }

    /// It left, or another took its place.
    pub(crate) fn remove_follower(
        &mut self,
        id: &FollowerId,
        why: &str,
        reason: impl Into<Option<&'static str>>,
    ) {
        let Some(follower) = self.state.follower(id) else {
            return;
        };
        let message = format!("Agent {} removed: {why}", follower.info.hostname);
        self.notice(Level::Info, format!("Removing follower {id}: {why}"));
        self.persist(RegistryChange::RemoveFollower(id.clone()));
        self.count("master/slave_removals");
        if let Some(reason) = reason.into() {
            self.count(reason);
        }
        self.state.roster.mark(id, Marks::default());
        self.end_all(id, &message, End::Removed);
    }

    /// `UnregisterSlaveMessage`.
    pub(crate) fn unregister_follower(
        &mut self,
        from: &Pid,
        message: &internal::UnregisterSlaveMessage,
    ) {
        self.count("master/messages_unregister_slave");
        let id = FollowerId::from(&message.slave_id);
        match self.state.follower(&id) {
            Some(follower) if follower.pid == *from => {
                self.remove_follower(
                    &id,
                    "the agent unregistered",
                    "master/slave_removals/reason_unregistered",
                );
            }
            _ => self.notice(
                Level::Warning,
                format!("Ignored {from}, which is not the follower {id} it unregistered"),
            ),
        }
    }

    /// An operator declared it gone for good. `false` if nobody knows it.
    pub(crate) fn mark_gone(&mut self, id: &FollowerId) -> bool {
        const WHY: &str = "Agent has been marked gone";
        if self.state.roster.gone.contains(id) {
            return true;
        }
        let registered = self.state.follower(id).map(|follower| follower.pid.clone());
        let recovered = self.state.roster.recovered.contains_key(id);
        if registered.is_none() && !recovered && !self.state.roster.unreachable.contains(id) {
            return false;
        }
        self.persist(RegistryChange::FollowerGone(registry::GoneSlave {
            id: id.to_proto(),
            timestamp: time_info(self.now),
        }));
        self.state.roster.gone.insert(id.clone(), self.now);
        self.schedule_registry_gc();
        self.state.roster.recovered.remove_mut(id);
        self.state.roster.mark(id, Marks::default());
        self.cancel_removals(id);
        if let Some(pid) = registered {
            self.shut_down(pid, WHY);
            self.end_all(id, WHY, End::Gone);
        } else if !recovered {
            self.state.roster.unreachable.remove(id);
            self.end_missed_tasks(id, WHY);
        }
        true
    }

    /// Everything on a follower ends, and it leaves the tables.
    fn end_all(&mut self, id: &FollowerId, why: &str, end: End) {
        let Some(follower) = self.state.follower(id) else {
            return;
        };
        let tasks: Vec<(FrameworkId, TaskId)> = follower
            .tasks
            .iter()
            .flat_map(|(framework, tasks)| {
                tasks.iter().map(|task| (framework.clone(), task.clone()))
            })
            .collect();
        let frameworks: Vec<FrameworkId> = follower.executors.keys().cloned().collect();
        let offers: Vec<OfferId> = follower.offers.keys().cloned().collect();
        self.allocator.deactivate_follower(id);
        self.leave_operations(id, end.of_operations());
        for (framework, task) in tasks {
            let aware = self
                .state
                .framework(&framework)
                .is_some_and(|f| f.capabilities.partition_aware);
            let (state, reason, missed) = end.of_task(aware);
            let cause = Cause::new(reason, why.to_owned());
            self.end_task(&framework, &task, state, &cause, end.since(), missed);
            if missed {
                let by_framework = self.state.unreachable_tasks.entry(id.clone()).or_default();
                by_framework.entry(framework).or_default().push(task);
            }
        }
        for framework in frameworks {
            self.remove_executors(&framework, id);
        }
        for offer in offers {
            self.rescind_offer(&offer);
        }
        self.rescind_inverse_offers_on(id);
        self.allocator.remove_follower(id);
        self.timers.cancel(&Timer::Ping(id.clone()));
        self.timers.cancel(&Timer::Reregister(id.clone()));
        self.cancel_removals(id);
        if let Some(follower) = self.state.remove_follower(id) {
            self.forget_authenticated(&follower.pid);
        }
        self.state
            .roster
            .removed
            .insert(id.clone(), REMOVED_FOLLOWERS_KEPT);
        self.send_lost(id);
        self.operator_event(|_| Some(crate::operator::follower_removed(id)));
    }

    /// A task ends by the leader's word: update it, take it out, tell its framework.
    fn end_task(
        &mut self,
        framework: &FrameworkId,
        task: &TaskId,
        state: TaskState,
        cause: &Cause,
        since: Option<v1::TimeInfo>,
        missed: bool,
    ) {
        let Some(mut update) = self.update_of(framework, task, state, cause) else {
            return;
        };
        update.status.unreachable_time = since;
        self.update_task(framework, task, &update);
        self.remove_task(framework, task, missed);
        self.tell_framework(framework, &update);
    }

    fn remove_executors(&mut self, framework: &FrameworkId, id: &FollowerId) {
        let Some(follower) = self.state.follower(id) else {
            return;
        };
        let executors: Vec<ExecutorId> = follower
            .executors
            .get(framework)
            .map(|all| all.keys().cloned().collect())
            .unwrap_or_default();
        for executor in executors {
            self.remove_executor(framework, id, &executor);
        }
    }

    /// The resources of an executor are free again.
    pub(crate) fn remove_executor(
        &mut self,
        framework: &FrameworkId,
        id: &FollowerId,
        executor: &ExecutorId,
    ) {
        if let Some(resources) = self.state.remove_executor(framework, id, executor) {
            self.free(framework, id, resources);
        }
    }

    /// Every connected framework hears that a follower is lost.
    pub(crate) fn send_lost(&mut self, id: &FollowerId) {
        let failure = event::Failure {
            agent_id: Some(id.to_proto()),
            ..Default::default()
        };
        let mut event = scheduler::Event {
            failure: Some(failure),
            ..Default::default()
        };
        event.set_type(event::Type::Failure);
        let event = Arc::new(event);
        let connected: Vec<FrameworkId> = self
            .state
            .frameworks()
            .filter(|f| f.is_connected())
            .map(|f| f.id.clone())
            .collect();
        for framework in connected {
            self.shared_event(&framework, event.clone());
        }
    }

    /// It came back: its tasks are no longer missed.
    pub(crate) fn forget_missed_tasks(&mut self, id: &FollowerId) {
        for (framework, tasks) in self.state.unreachable_tasks.remove(id).unwrap_or_default() {
            let Some(framework) = self.state.framework_mut(&framework) else {
                continue;
            };
            for task in tasks {
                framework.unreachable_tasks.remove_mut(&task);
            }
        }
    }

    /// It will not come back: neither will its tasks.
    fn end_missed_tasks(&mut self, id: &FollowerId, why: &str) {
        let limit = self.config.max_completed_tasks_per_framework;
        for (framework_id, tasks) in self.state.unreachable_tasks.remove(id).unwrap_or_default() {
            for task_id in tasks {
                let Some(framework) = self.state.framework_mut(&framework_id) else {
                    continue;
                };
                let Some(task) = framework.unreachable_tasks.get(&task_id).cloned() else {
                    continue;
                };
                let (state, reason, _) = End::Gone.of_task(framework.capabilities.partition_aware);
                let update =
                    Update::of_task(&task, state, &Cause::new(reason, why.to_owned()), self.now);
                let mut ended = v1::Task::clone(&task);
                crate::status::apply(&mut ended, &update.status, None);
                framework.unreachable_tasks.remove_mut(&task_id);
                framework.complete_task(Arc::new(ended), limit);
                self.tell_framework(&framework_id, &update);
            }
        }
    }
}

/// How a follower ends.
enum End {
    /// It may come back; since when it does not answer.
    Unreachable(v1::TimeInfo),
    /// It left, and its tasks with it.
    Removed,
    /// It will not come back.
    Gone,
}

impl End {
    /// What its tasks become, and whether they are kept as missed.
    fn of_task(&self, partition_aware: bool) -> (TaskState, Reason, bool) {
        match self {
            Self::Unreachable(_) if partition_aware => {
                (TaskState::TaskUnreachable, Reason::AgentRemoved, true)
            }
            Self::Unreachable(_) => (TaskState::TaskLost, Reason::AgentRemoved, true),
            Self::Gone if partition_aware => (
                TaskState::TaskGoneByOperator,
                Reason::AgentRemovedByOperator,
                false,
            ),
            Self::Gone | Self::Removed => (TaskState::TaskLost, Reason::AgentRemoved, false),
        }
    }
    /// What its frameworks hear of its operations.
    fn of_operations(&self) -> Option<(OperationState, &'static str)> {
        use OperationState as S;
        match self {
            Self::Unreachable(_) => Some((S::OperationUnreachable, "Agent was marked unreachable")),
            Self::Gone => Some((S::OperationGoneByOperator, "Agent has been marked gone")),
            Self::Removed => None,
        }
    }
    fn since(&self) -> Option<v1::TimeInfo> {
        match self {
            Self::Unreachable(since) => Some(*since),
            Self::Removed | Self::Gone => None,
        }
    }
}
