//! A framework's channel closes, its time to come back runs out, it is torn down.
//!
//! Follows `Master::exited`, `deactivate`, `frameworkFailoverTimeout` and `removeFramework` in
//! `src/master/master.cpp`; what clients see is in `docs/high-availability-framework-guide.md`.

use crate::{
    Effect, Leader, Level,
    offers::allocator_options,
    publish,
    state::{Channel, Connection, Framework},
    status::{Cause, Update},
    timers::Timer,
};
use std::{sync::Arc, time::Duration};
use tepui_model::{
    ExecutorId, FollowerId, FrameworkId, OfferId, StreamId, TaskId, tasks::TaskState,
};
use tepui_protocol::{
    internal,
    v1::{self, task_status::Reason},
};

impl Leader {
    /// Puts a framework into every table. It must not be there yet.
    pub(crate) fn add_framework(&mut self, framework: Framework) {
        let options = allocator_options(
            &framework.info,
            &framework.suppressed,
            &framework.constraints,
        );
        let id = framework.id.clone();
        self.allocator.add_framework(&id, options, framework.active);
        if let Some(principal) = &framework.info.principal {
            Arc::make_mut(&mut self.metrics).enter(principal);
        }
        self.state.insert_framework(framework);
        for at in self.state.adopt_orphans(&id) {
            // What its operations keep is its own again.
            self.rescind_offers_where(&at, |_| true);
            self.allocate_to_known(&at);
        }
    }

    /// A framework is known from others than its own subscription here.
    pub(crate) fn recover_framework(&mut self, info: v1::FrameworkInfo) {
        let Some(id) = info.id.as_ref().map(FrameworkId::from) else {
            return;
        };
        if self.state.framework(&id).is_some() {
            return;
        }
        self.notice(Level::Info, format!("Recovered framework {id}"));
        self.await_framework(&id, failover_timeout(&info));
        self.add_framework(Framework::new(
            id.clone(),
            info,
            Connection::Recovered,
            self.now,
        ));
        self.operator_event(|leader| leader.framework_added(&id));
    }

    pub(crate) fn stream_closed(&mut self, stream: StreamId) {
        if let Some(id) = self.state.streams.get(&stream).cloned() {
            return self.disconnect_framework(&id);
        }
        self.operator_stream_closed(stream);
    }

    /// It has `failover_timeout` to come back; until then its tasks run on.
    pub(crate) fn disconnect_framework(&mut self, id: &FrameworkId) {
        let pid = self.state.framework(id).and_then(|f| f.pid().cloned());
        if let Some(pid) = &pid {
            // It always authenticates before it subscribes again.
            self.forget_authenticated(pid);
        }
        // The channel is gone first: nobody reads the rescinds.
        self.state.connect(id, Connection::Disconnected(pid));
        self.timers.cancel(&Timer::Heartbeat(id.clone()));
        self.deactivate_framework(id);
        let Some(framework) = self.state.framework(id) else {
            return;
        };
        let timeout = failover_timeout(&framework.info);
        self.timers
            .set(Timer::Failover(id.clone()), self.now + timeout);
        self.notice(
            Level::Info,
            format!("Framework {id} disconnected; it has {timeout:?} to come back"),
        );
    }

    /// No offers until it subscribes again; those that are out are void.
    pub(crate) fn deactivate_framework(&mut self, id: &FrameworkId) {
        let Some(framework) = self.state.framework_mut(id) else {
            return;
        };
        if std::mem::replace(&mut framework.active, false) {
            self.allocator.deactivate_framework(id);
        }
        self.rescind_offers_of(id);
    }

    /// Takes back its offers; it hears of it while it is connected.
    pub(crate) fn rescind_offers_of(&mut self, id: &FrameworkId) {
        for offer in self.offers_of(id) {
            self.rescind_offer(&offer);
        }
        self.rescind_inverse_offers_of(id);
    }

    fn offers_of(&self, id: &FrameworkId) -> Vec<OfferId> {
        let framework = self.state.framework(id);
        framework
            .map(|framework| framework.offers.keys().cloned().collect())
            .unwrap_or_default()
    }

    /// Takes back its offers without a word to it.
    pub(crate) fn discard_offers_of(&mut self, id: &FrameworkId) {
        for offer in self.offers_of(id) {
            self.discard_offer(&offer, None);
        }
        self.discard_inverse_offers_of(id);
    }

    pub(crate) fn failover_timeout(&mut self, id: &FrameworkId) {
        if self
            .state
            .framework(id)
            .is_some_and(|framework| !framework.is_connected())
        {
            self.notice(
                Level::Info,
                format!("Framework {id} did not come back in time"),
            );
            self.teardown(id);
        }
    }

    /// Ends a framework: its tasks are killed, its executors shut down, its id is never used again.
    pub(crate) fn teardown(&mut self, id: &FrameworkId) {
        if self.state.framework(id).is_none() {
            return;
        }
        self.notice(Level::Info, format!("Removing framework {id}"));
        // Without a word: it is going.
        self.discard_offers_of(id);
        self.deactivate_framework(id);
        self.timers.cancel(&Timer::Heartbeat(id.clone()));
        self.timers.cancel(&Timer::Failover(id.clone()));
        self.timers.cancel(&Timer::HeldOffers(id.clone()));

        // Every follower: one may run executors of it without a task the leader knows of.
        let followers: Vec<_> = self
            .state
            .followers()
            .map(|follower| follower.pid.clone())
            .collect();
        for pid in followers {
            self.send(
                pid,
                internal::ShutdownFrameworkMessage {
                    framework_id: id.to_proto(),
                },
            );
        }
        self.kill_all_tasks(id);
        let executors: Vec<(FollowerId, ExecutorId)> = self
            .state
            .framework(id)
            .map(|f| f.executors.keys().cloned().collect())
            .unwrap_or_default();
        for (at, executor) in executors {
            self.remove_executor(id, &at, &executor);
        }

        let pid = self.state.framework(id).and_then(|f| f.pid().cloned());
        if let Some(pid) = &pid {
            self.forget_authenticated(pid);
        }
        let old = self.state.connect(id, Connection::Disconnected(pid));
        if let Some(Channel::Stream(stream)) = old {
            self.out.push(Effect::CloseStream { stream });
        }
        self.allocator.remove_framework(id);
        self.forget_inverse_statuses_of(id);
        if let Some(framework) = self.state.remove_framework(id) {
            for at in self.state.orphan_operations(&framework.operations) {
                self.tell_total(&at);
            }
            if let Some(principal) = &framework.info.principal {
                Arc::make_mut(&mut self.metrics).leave(principal);
            }
            let mut view = publish::framework_view(&framework);
            view.unregistered = Some(self.now);
            let info = v1::FrameworkInfo::clone(&framework.info);
            self.state
                .complete_framework(Arc::new(view), self.config.max_completed_frameworks);
            self.operator_event(|_| Some(crate::operator::framework_removed(info)));
        }
    }

    fn kill_all_tasks(&mut self, id: &FrameworkId) {
        let Some(framework) = self.state.framework(id) else {
            return;
        };
        let tasks: Vec<TaskId> = framework.tasks.keys().cloned().collect();
        let unreachable: Vec<(TaskId, Arc<v1::Task>)> = framework
            .unreachable_tasks
            .iter()
            .map(|(id, task)| (id.clone(), task.clone()))
            .collect();
        let cause = Cause::new(Reason::FrameworkRemoved, format!("Framework {id} removed"));
        for task in tasks {
            let Some(update) = self.update_of(id, &task, TaskState::TaskKilled, &cause) else {
                continue;
            };
            self.update_task(id, &task, &update);
            self.remove_task(id, &task, false);
        }
        for (task_id, task) in unreachable {
            let update = Update::of_task(&task, TaskState::TaskKilled, &cause, self.now);
            let mut ended = v1::Task::clone(&task);
            crate::status::apply(&mut ended, &update.status, None);
            let limit = self.config.max_completed_tasks_per_framework;
            if let Some(framework) = self.state.framework_mut(id) {
                framework.unreachable_tasks.remove_mut(&task_id);
                framework.complete_task(Arc::new(ended), limit);
            }
        }
    }
}

/// `failover_timeout`, which validation has bounded.
fn failover_timeout(info: &v1::FrameworkInfo) -> Duration {
    Duration::try_from_secs_f64(info.failover_timeout().max(0.0)).unwrap_or(Duration::ZERO)
}
