//! What passes through: kills, executor shutdowns, and messages between frameworks and executors.
//!
//! Follows `Master::kill`, `shutdown`, `message`, `executorMessage` and `exitedExecutor` in
//! `src/master/master.cpp`.

use crate::{Leader, Level};
use tepui_model::{ExecutorId, FollowerId, FrameworkId, TaskId};
use tepui_protocol::{
    internal,
    peer::Pid,
    v1::scheduler::{self, call, event},
};

impl Leader {
    /// `KILL`. A task nobody knows is reconciled instead, so that the framework learns its state.
    pub(crate) fn kill(&mut self, framework: &FrameworkId, call: call::Kill) {
        self.count("master/messages_kill_task");
        let id = TaskId::from(&call.task_id);
        let Some(task) = self.state.task(framework, &id) else {
            let asked = call::reconcile::Task {
                task_id: call.task_id,
                agent_id: call.agent_id,
            };
            return self.reconcile(framework, &[asked]);
        };
        let at = FollowerId::from(&task.agent_id);
        if call
            .agent_id
            .as_ref()
            .is_some_and(|asked| *asked != task.agent_id)
        {
            return self.notice(
                Level::Warning,
                format!("Did not kill task {id}: it runs on {at}, not where asked"),
            );
        }
        let Some(follower) = self.state.follower_unseen(&at) else {
            return;
        };
        // Kept even if it is told now: it may be away without our knowing.
        follower.killed.insert((framework.clone(), id));
        if !follower.connected {
            return;
        }
        let to = follower.pid.clone();
        let message = internal::KillTaskMessage {
            framework_id: framework.to_proto(),
            task_id: call.task_id,
            kill_policy: call.kill_policy,
        };
        self.send(to, message);
    }

    /// `SHUTDOWN` of an executor.
    pub(crate) fn shutdown_executor(&mut self, framework: &FrameworkId, call: call::Shutdown) {
        let at = FollowerId::from(&call.agent_id);
        let Some(pid) = self
            .state
            .follower(&at)
            .map(|follower| follower.pid.clone())
        else {
            return self.notice(
                Level::Warning,
                format!("Did not shut down an executor on the unknown follower {at}"),
            );
        };
        let message = internal::ShutdownExecutorMessage {
            executor_id: Some(call.executor_id),
            framework_id: Some(framework.to_proto()),
        };
        self.send(pid, message);
    }

    /// `MESSAGE` to an executor.
    pub(crate) fn framework_message(&mut self, framework: &FrameworkId, call: call::Message) {
        self.count("master/messages_framework_to_executor");
        let at = FollowerId::from(&call.agent_id);
        let Some(pid) = self
            .state
            .follower(&at)
            .filter(|f| f.connected)
            .map(|f| f.pid.clone())
        else {
            self.count("master/invalid_framework_to_executor_messages");
            return self.notice(
                Level::Warning,
                format!("Dropped a message to {at}: not registered or disconnected"),
            );
        };
        let message = internal::FrameworkToExecutorMessage {
            slave_id: call.agent_id,
            framework_id: framework.to_proto(),
            executor_id: call.executor_id,
            data: call.data,
        };
        self.send(pid, message);
        self.count("master/valid_framework_to_executor_messages");
    }

    /// `ExecutorToFrameworkMessage`: a `MESSAGE` event.
    pub(crate) fn executor_message(
        &mut self,
        from: &Pid,
        message: internal::ExecutorToFrameworkMessage,
    ) {
        self.count("master/messages_executor_to_framework");
        let framework = FrameworkId::from(&message.framework_id);
        let known = self.follower_saying(from, &message.slave_id).is_some();
        if !known
            || !self
                .state
                .framework(&framework)
                .is_some_and(|f| f.is_connected())
        {
            self.count("master/invalid_executor_to_framework_messages");
            return self.notice(
                Level::Warning,
                format!("Dropped an executor's message to {framework}"),
            );
        }
        let body = event::Message {
            agent_id: message.slave_id,
            executor_id: message.executor_id,
            data: message.data,
        };
        let mut event = scheduler::Event {
            message: Some(body),
            ..Default::default()
        };
        event.set_type(event::Type::Message);
        self.event(&framework, event);
        self.count("master/valid_executor_to_framework_messages");
    }

    /// `ExitedExecutorMessage`: its resources are free, and its framework hears of the `FAILURE`.
    pub(crate) fn exited_executor(
        &mut self,
        from: &Pid,
        message: &internal::ExitedExecutorMessage,
    ) {
        self.count("master/messages_exited_executor");
        let at = FollowerId::from(&message.slave_id);
        let framework = FrameworkId::from(&message.framework_id);
        let executor = ExecutorId::from(&message.executor_id);
        if !self
            .follower_saying(from, &message.slave_id)
            .is_some_and(|f| f.has_executor(&framework, executor.as_str()))
        {
            // Command tasks have executors of which only their follower knows.
            return self.notice(
                Level::Debug,
                format!("Executor {executor} of {framework} on {at} exited unknown"),
            );
        }
        self.remove_executor(&framework, &at, &executor);
        let failure = event::Failure {
            agent_id: Some(message.slave_id.clone()),
            executor_id: Some(message.executor_id.clone()),
            status: Some(message.status),
        };
        let mut event = scheduler::Event {
            failure: Some(failure),
            ..Default::default()
        };
        event.set_type(event::Type::Failure);
        self.event(&framework, event);
    }
}
