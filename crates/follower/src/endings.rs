//! The end of executors and frameworks: exits, failed launches, timeouts, orders to shut down, and
//! what is kept of them. Follows `executorTerminated`, `_shutdownExecutor`, `removeExecutor` and
//! `removeFramework` of `src/slave/slave.cpp`.

use crate::{
    Follower, Phase,
    config::MAX_COMPLETED_FRAMEWORKS,
    environment,
    executors::plain,
    gc::Sandbox,
    info,
    io::{Checkpoint, Effect, Effects, RunFact},
    launch::attachments,
    paths,
    state::{ExecutorKey, Termination, id_proto},
    status::AgentStatus,
    timers::Timer,
    view::{ExecutorKind, ExecutorState, ExecutorView, FrameworkView},
    warn,
};
use std::sync::Arc;
use tepui_model::{
    ExecutorId, FrameworkId, TaskId,
    container::{ContainerId, ExitStatus, LaunchStep},
    units::format_duration,
};
use tepui_protocol::{
    internal as i,
    peer::Pid,
    v1::{TaskState, executor::event, task_status::Reason},
};

impl Follower {
    pub(crate) fn container_launched(
        &mut self,
        container: &ContainerId,
        pid: u32,
        fx: &mut Effects,
    ) {
        if let Some(key) = self.containers.get(container).cloned() {
            let Some(executor) = self.executor_mut(&key) else {
                return;
            };
            executor.pid = Some(pid);
            let (state, outside) = (executor.state, executor.outside);
            if outside {
                self.keep(&key, RunFact::Process(pid), fx);
            }
            // It was given up while it started. Executors in this process hear SHUTDOWN instead.
            if state == ExecutorState::Terminating && outside {
                fx.push(Effect::Destroy {
                    container: container.clone(),
                });
            }
            return;
        }
        if let Some(executor) = self
            .owner_of_nested(container)
            .and_then(|key| self.executor_mut(&key))
        {
            executor.nested_pids.insert(container.clone(), pid);
        }
    }

    pub(crate) fn container_failed(
        &mut self,
        container: &ContainerId,
        step: LaunchStep,
        message: &str,
        fx: &mut Effects,
    ) {
        // A nested container's failure is told by its executor.
        let Some(key) = self.containers.get(container).cloned() else {
            return;
        };
        warn(
            fx,
            format!(
                "Container {container} of executor {} failed to start ({step:?}): {message}",
                key.1
            ),
        );
        self.counters.container_launch_errors += 1;
        if let Some(executor) = self.executor_mut(&key) {
            executor.pending_termination.get_or_insert(Termination {
                state: TaskState::TaskFailed,
                reason: Reason::ContainerLaunchFailed,
                message: format!("Failed to launch container: {message}"),
            });
        }
        self.executor_terminated(&key, None, fx);
    }

    pub(crate) fn container_exited(
        &mut self,
        container: &ContainerId,
        status: Option<ExitStatus>,
        fx: &mut Effects,
    ) {
        if let Some(key) = self.containers.get(container).cloned() {
            return self.executor_terminated(&key, status, fx);
        }
        if let Some(executor) = self
            .owner_of_nested(container)
            .and_then(|key| self.executor_mut(&key))
        {
            executor.nested_pids.remove(container);
        }
    }

    fn owner_of_nested(&self, container: &ContainerId) -> Option<ExecutorKey> {
        container.parent.as_ref()?;
        self.containers
            .get(&ContainerId::top(container.root()))
            .cloned()
    }

    /// Nothing of an executor runs any more: its tasks have ended with it.
    pub(crate) fn executor_terminated(
        &mut self,
        key: &ExecutorKey,
        status: Option<ExitStatus>,
        fx: &mut Effects,
    ) {
        let Some(executor) = self.executor_mut(key) else {
            return;
        };
        executor.state = ExecutorState::Terminated;
        executor.nested_pids.clear();
        let (container, kind) = (executor.container.clone(), executor.kind);
        let outside = executor.outside;
        let connection = executor.connection.take();
        let ended = container.clone();
        let outlives = self
            .frameworks
            .get(&key.0)
            .is_some_and(|framework| self.outlives(&framework.info));
        let how = status.map_or_else(
            || "ended with unknown status".to_owned(),
            |status| status.to_string(),
        );
        info(
            fx,
            format!("Executor {} of framework {} {how}", key.1, key.0),
        );
        self.counters.executors_terminated += 1;
        self.containers.remove(&container);
        self.disconnected(connection, fx);
        self.hide_volumes(key, fx);
        if !outside {
            fx.push(Effect::StopLocalExecutor {
                container: container.clone(),
            });
        }
        for timer in [
            Timer::ExecutorRegistration(container.clone()),
            Timer::ExecutorShutdown(container.clone()),
            Timer::ExecutorHeartbeat(container),
        ] {
            self.timers.cancel(&timer);
        }
        let terminating = self.frameworks.get(&key.0).is_some_and(|f| f.terminating);
        if !terminating {
            self.report_lost_tasks(key, fx);
        }
        if kind != ExecutorKind::Command {
            self.send_exited_executor(key, status.map_or(-1, wait_status), fx);
        }
        if terminating || self.phase == Phase::Terminating {
            self.remove_executor(key, fx);
            self.remove_framework_if_idle(&key.0, fx);
        } else {
            self.remove_executor_if_done(key, fx);
        }
        if outlives {
            fx.push(Effect::Forget { container: ended });
        }
    }

    fn report_lost_tasks(&mut self, key: &ExecutorKey, fx: &mut Effects) {
        let Some(executor) = self.executor(key) else {
            return;
        };
        let termination = executor
            .pending_termination
            .clone()
            .unwrap_or_else(|| Termination {
                state: TaskState::TaskFailed,
                reason: Reason::ExecutorTerminated,
                message: "Executor terminated".to_owned(),
            });
        let tasks: Vec<TaskId> = executor
            .launched
            .keys()
            .chain(executor.queued.keys())
            .cloned()
            .collect();
        for task in tasks {
            let status = AgentStatus {
                task,
                state: termination.state,
                reason: termination.reason,
                message: termination.message.clone(),
                executor: Some(key.1.clone()),
            };
            self.report(&key.0, status, fx);
        }
    }

    /// The leader frees the executor's resources when it hears this.
    pub(crate) fn send_exited_executor(&self, key: &ExecutorKey, status: i32, fx: &mut Effects) {
        let message = i::ExitedExecutorMessage {
            slave_id: id_proto(self.id.as_ref()),
            framework_id: key.0.to_proto(),
            executor_id: key.1.to_proto(),
            status,
        };
        self.send_leader(message, fx);
    }

    pub(crate) fn shutdown_executor_by_leader(
        &mut self,
        from: &Pid,
        message: i::ShutdownExecutorMessage,
        fx: &mut Effects,
    ) {
        if !self.is_leader(from, "ShutdownExecutorMessage", fx) {
            return;
        }
        let (Some(framework), Some(executor)) = (&message.framework_id, &message.executor_id)
        else {
            return warn(
                fx,
                "Ignoring a ShutdownExecutorMessage that names no executor".to_owned(),
            );
        };
        let key = (FrameworkId::from(framework), ExecutorId::from(executor));
        let terminating = self.frameworks.get(&key.0).is_none_or(|f| f.terminating);
        let live = |state| matches!(state, ExecutorState::Registering | ExecutorState::Running);
        let known = self.executor(&key).is_some_and(|e| live(e.state));
        if self.phase == Phase::Disconnected || terminating || !known {
            return warn(
                fx,
                format!(
                    "Ignoring the shutdown of executor {}: it does not run",
                    key.1
                ),
            );
        }
        self.shutdown_executor(&key, fx);
    }

    /// Asks a live executor to end, and sees to it that it does.
    pub(crate) fn shutdown_executor(&mut self, key: &ExecutorKey, fx: &mut Effects) {
        let Some(executor) = self.executor_mut(key) else {
            return;
        };
        if !matches!(
            executor.state,
            ExecutorState::Registering | ExecutorState::Running
        ) {
            return;
        }
        executor.state = ExecutorState::Terminating;
        let container = executor.container.clone();
        let grace = environment::grace_period(
            &self.config,
            &self
                .executor(key)
                .map(|e| e.info.clone())
                .unwrap_or_default(),
        );
        info(
            fx,
            format!("Shutting down executor {} of framework {}", key.1, key.0),
        );
        self.timers
            .cancel(&Timer::ExecutorRegistration(container.clone()));
        self.timers
            .set(Timer::ExecutorShutdown(container), self.now + grace);
        self.send_executor(key, plain(event::Type::Shutdown), fx);
    }

    /// Ends a live executor by force, for a reason that its tasks' ends will give.
    pub(crate) fn kill_executor(
        &mut self,
        key: &ExecutorKey,
        termination: Termination,
        fx: &mut Effects,
    ) {
        let Some(executor) = self.executor_mut(key) else {
            return;
        };
        if !matches!(
            executor.state,
            ExecutorState::Registering | ExecutorState::Running
        ) {
            return;
        }
        executor.state = ExecutorState::Terminating;
        executor.pending_termination = Some(termination);
        let container = executor.container.clone();
        self.timers
            .cancel(&Timer::ExecutorRegistration(container.clone()));
        fx.push(Effect::Destroy { container });
    }

    pub(crate) fn executor_shutdown_timeout(&mut self, container: &ContainerId, fx: &mut Effects) {
        if self.containers.contains_key(container) {
            info(
                fx,
                format!("Killing container {container}: it did not end in time"),
            );
            fx.push(Effect::Destroy {
                container: container.clone(),
            });
        }
    }

    pub(crate) fn executor_registration_timeout(
        &mut self,
        container: &ContainerId,
        fx: &mut Effects,
    ) {
        let Some(key) = self.containers.get(container).cloned() else {
            return;
        };
        let timeout = format_duration(self.config.executor_registration_timeout);
        let Some(executor) = self.executor_mut(&key) else {
            return;
        };
        if executor.state != ExecutorState::Registering {
            return;
        }
        executor.state = ExecutorState::Terminating;
        executor.pending_termination = Some(Termination {
            state: TaskState::TaskFailed,
            reason: Reason::ExecutorRegistrationTimeout,
            message: format!("Executor did not register within {timeout}"),
        });
        warn(
            fx,
            format!(
                "Executor {} of framework {} did not register within {timeout}",
                key.1, key.0
            ),
        );
        fx.push(Effect::Destroy {
            container: container.clone(),
        });
    }

    pub(crate) fn shutdown_framework_by_leader(
        &mut self,
        from: &Pid,
        message: i::ShutdownFrameworkMessage,
        fx: &mut Effects,
    ) {
        if !self.is_leader(from, "ShutdownFrameworkMessage", fx) {
            return;
        }
        if self.phase == Phase::Disconnected {
            return warn(
                fx,
                "Ignoring the shutdown of a framework: not registered".to_owned(),
            );
        }
        self.shutdown_framework(&FrameworkId::from(&message.framework_id), fx);
    }

    pub(crate) fn shutdown_framework(&mut self, id: &FrameworkId, fx: &mut Effects) {
        self.drop_updates(id);
        let Some(framework) = self.frameworks.get_mut(id) else {
            return;
        };
        if framework.terminating {
            return;
        }
        info(fx, format!("Shutting down framework {id}"));
        framework.terminating = true;
        let pending = std::mem::take(&mut framework.pending);
        let executors: Vec<_> = framework
            .executors
            .keys()
            .map(|e| (id.clone(), e.clone()))
            .collect();
        self.touch(id);
        for launch in pending
            .iter()
            .filter(|launch| launch.launch_executor == Some(true))
        {
            let executor = ExecutorId::from(&launch.executor.executor_id);
            self.send_exited_executor(&(id.clone(), executor), -1, fx);
        }
        for key in executors {
            match self.executor(&key).map(|e| e.state) {
                Some(ExecutorState::Terminated) => self.remove_executor(&key, fx),
                _ => self.shutdown_executor(&key, fx),
            }
        }
        self.remove_framework_if_idle(id, fx);
    }

    /// Lets go of an executor that has ended and whose tasks are all acknowledged.
    pub(crate) fn remove_executor_if_done(&mut self, key: &ExecutorKey, fx: &mut Effects) {
        let done = |e: &crate::state::Executor| {
            e.state == ExecutorState::Terminated && !e.has_incomplete_tasks()
        };
        if self.executor(key).is_some_and(done) {
            self.remove_executor(key, fx);
            self.remove_framework_if_idle(&key.0, fx);
        }
    }

    pub(crate) fn remove_executor(&mut self, key: &ExecutorKey, fx: &mut Effects) {
        self.keep(key, RunFact::Completed, fx);
        self.executor_is_history(key, fx);
    }

    /// As [`Self::remove_executor`], where it is written down already that it has nothing left to do.
    pub(crate) fn executor_is_history(&mut self, key: &ExecutorKey, fx: &mut Effects) {
        let Some(framework) = self.frameworks.get_mut(&key.0) else {
            return;
        };
        let Some(executor) = framework.executors.remove(&key.1) else {
            return;
        };
        for task in executor
            .queued
            .keys()
            .chain(executor.launched.keys())
            .chain(executor.terminated.keys())
        {
            framework.tasks.remove(task);
        }
        framework
            .completed_executors
            .enqueue_mut(Arc::new(executor.view()));
        let mut evicted = Vec::new();
        while framework.completed_executors.len()
            > self.config.max_completed_executors_per_framework
        {
            evicted.extend(framework.completed_executors.peek().cloned());
            framework.completed_executors.dequeue_mut();
        }
        // These ids are shared with what is remembered anyway; the key's came with a message.
        let framework_id = framework.id.clone();
        let awaited = framework
            .pending
            .iter()
            .any(|p| p.executor.executor_id.value == key.1.as_str());
        self.changed
            .entry(key.0.clone())
            .or_default()
            .insert(key.1.clone());
        let (run, id) = (
            executor.container.value.as_ref().into(),
            executor.id.clone(),
        );
        self.schedule_removal(if awaited {
            Sandbox::Run(framework_id, id, run)
        } else {
            Sandbox::Executor(framework_id, id, Some(run))
        });
        for executor in evicted {
            self.detach(&key.0, &executor, fx);
        }
    }

    pub(crate) fn remove_framework_if_idle(&mut self, id: &FrameworkId, fx: &mut Effects) {
        if !self.frameworks.get(id).is_some_and(|f| f.idle()) {
            return;
        }
        let Some(mut framework) = self.frameworks.remove(id) else {
            return;
        };
        // Executors that left in this very step are still drawn.
        framework.views = Default::default();
        self.touch(id);
        // Updates of a framework that merely has nothing more to run are still waited for; those of
        // one that was shut down went with it (`shutdown_framework`).
        self.completed_frameworks
            .enqueue_mut(Arc::new(framework.view()));
        if self.completed_frameworks.len() > MAX_COMPLETED_FRAMEWORKS {
            let evicted = self.completed_frameworks.peek().cloned();
            self.completed_frameworks.dequeue_mut();
            for (framework, executor) in evicted
                .iter()
                .flat_map(|f| f.completed_executors.iter().map(move |e| (f, e)))
            {
                self.detach(&framework.id, executor, fx);
            }
        }
        self.schedule_removal(Sandbox::Framework(id.clone()));
        self.drained_if_idle(fx);
        if self.phase == Phase::Terminating && self.frameworks.is_empty() {
            self.leave(fx);
        }
    }

    /// Stops for good: who starts here next is another follower.
    pub(crate) fn leave(&self, fx: &mut Effects) {
        if self.id.is_some() {
            fx.push(Effect::Persist(Checkpoint::Left));
        }
        fx.push(Effect::Stop { failed: false });
    }

    /// Takes a forgotten executor's sandbox off `/files`. The names of its newest run may belong to a
    /// younger run by now. The reference keeps them until the sandbox is removed; that costs memory
    /// for every task of a week.
    fn detach(&self, framework: &FrameworkId, executor: &Arc<ExecutorView>, fx: &mut Effects) {
        let Some(follower) = &self.id else { return };
        let key = (framework.clone(), executor.id.clone());
        let latest = paths::latest_run(&self.config.work_dir, follower, &key.0, &key.1);
        let younger = |views: &FrameworkView| {
            views
                .completed_executors
                .iter()
                .any(|e| e.id == executor.id)
        };
        let reused = self.executor(&key).is_some()
            || self
                .frameworks
                .get(framework)
                .is_some_and(|f| f.completed_executors.iter().any(|e| e.id == executor.id))
            || self
                .completed_frameworks
                .iter()
                .any(|f| &f.id == framework && younger(f));
        let names = attachments(&executor.sandbox, &latest, &key);
        let skip = if reused { 2 } else { 0 };
        for name in names.into_iter().skip(skip) {
            fx.push(Effect::Detach { name });
        }
    }
}

/// As `waitpid(2)` reports it: ExitedExecutorMessage carries that number.
fn wait_status(status: ExitStatus) -> i32 {
    match status {
        ExitStatus::Code(code) => (code & 0xff) << 8,
        ExitStatus::Signal(signal) => signal & 0x7f,
    }
}
