//! Coming back after a restart: executors that still run are asked to reconnect, those that do not
//! in time are killed, and only then the leader hears of us again. Follows `recover`, `_recover`,
//! `reregisterExecutorTimeout` of `src/slave/slave.cpp` and `docs/agent-recovery.md`.
//!
//! While this goes on ([`Phase::Recovering`]) only executors are listened to: the leader that was
//! detected meanwhile is kept aside, so whatever a leader says is that of a stranger.
//!
//! What differs: it is over as soon as nobody is waited for; the reference always waits for
//! `--executor_reregistration_timeout` to pass (MESOS-7539). Tasks whose executor ran within the
//! follower, or cannot have survived, have their end reported at once.

use crate::{
    Follower, Phase,
    config::Recover,
    gc::Sandbox,
    info,
    io::{Effect, Effects, ProcessName},
    launch::{attachments, new_executor},
    paths,
    recovered::{Recovered, RecoveredExecutor, RecoveredFramework, RecoveredLink, RecoveredTask},
    state::{Connection, ExecutorKey, Framework, Termination, id_proto},
    timers::Timer,
    view::{ExecutorKind, ExecutorState},
    warn,
};
use std::sync::Arc;
use tepui_model::{
    ExecutorId, FrameworkId, TaskId, Time, container::ContainerId, tasks::is_terminal,
    units::format_duration,
};
use tepui_protocol::{
    internal as i,
    peer::Pid,
    v1::{TaskState, executor_info, task_status::Reason},
};

/// What the reference says of an executor whose container nobody knows.
const UNKNOWN_CONTAINER: &str = "Abnormal executor termination: unknown container";

/// What is said of tasks that ran within this follower.
const ENDED_WITH_US: &str = "The executor ran within the agent and ended with it";

/// What is only needed until recovery is over.
#[derive(Debug, Default)]
pub(crate) struct Recovery {
    /// Who leads, for afterwards.
    pub(crate) leader: Option<Pid>,
}

impl Follower {
    /// Takes back what was checkpointed before a restart, and begins to look for the executors that
    /// are left.
    ///
    /// Call it once, before any input, on a follower that was made with `recovered.id` (and after
    /// [`restore_resources`](Self::restore_resources)). The shell must know the containers of the
    /// executors again: it says so with `ContainerEvent::Exited` for each that is gone.
    pub fn recover(&mut self, now: Time, recovered: Recovered, fx: &mut Effects) {
        self.now = self.now.max(now);
        for problem in &recovered.problems {
            warn(fx, format!("Recovery: {problem}"));
        }
        self.counters.recovery_errors += recovered.problems.len() as u64;
        info(fx, format!("Recovering follower {}", recovered.id));
        Arc::make_mut(&mut self.info).id = Some(recovered.id.to_proto());
        self.id = Some(recovered.id);
        self.phase = Phase::Recovering;
        self.pause_updates();
        let mut gone = Vec::new();
        for framework in recovered.frameworks {
            self.recover_framework(framework, recovered.rebooted, &mut gone, fx);
        }
        if let Some(config) = recovered.drain {
            let since = self.now;
            self.drain = Some(crate::drain::Drain { config, since });
            self.drained_if_idle(fx);
        }
        for (key, termination) in gone {
            if let Some(executor) = self.executor_mut(&key) {
                executor.pending_termination = Some(termination);
            }
            self.executor_terminated(&key, None, fx);
        }
        match self.config.recover {
            Recover::Reconnect => self.reconnect_executors(fx),
            Recover::Cleanup => self.clean_up(fx),
        }
        self.end_recovery_if_done(fx);
        self.publish();
    }

    fn recover_framework(
        &mut self,
        recovered: RecoveredFramework,
        rebooted: bool,
        gone: &mut Vec<(ExecutorKey, Termination)>,
        fx: &mut Effects,
    ) {
        let Some(id) = recovered.info.id.as_ref().map(FrameworkId::from) else {
            return warn(fx, "Not recovering a framework without id".to_owned());
        };
        if self.frameworks.contains_key(&id) {
            return warn(fx, format!("Not recovering framework {id} twice"));
        }
        if recovered.executors.is_empty() {
            return self.schedule_removal(Sandbox::Framework(id));
        }
        info(fx, format!("Recovering framework {id}"));
        let framework = Framework::new(id.clone(), recovered.info, recovered.pid);
        self.frameworks.insert(id.clone(), framework);
        self.touch(&id);
        for executor in recovered.executors {
            self.recover_executor(&id, executor, rebooted, gone, fx);
        }
        self.remove_framework_if_idle(&id, fx);
    }

    fn recover_executor(
        &mut self,
        framework_id: &FrameworkId,
        recovered: RecoveredExecutor,
        rebooted: bool,
        gone: &mut Vec<(ExecutorKey, Termination)>,
        fx: &mut Effects,
    ) {
        let Some(follower) = self.id.clone() else {
            return;
        };
        let key = (
            framework_id.clone(),
            ExecutorId::from(&recovered.info.executor_id),
        );
        let container = ContainerId::top(recovered.container);
        if self.executor(&key).is_some() || self.containers.contains_key(&container) {
            return warn(fx, format!("Not recovering executor {} twice", key.1));
        }
        info(
            fx,
            format!("Recovering executor {} of framework {}", key.1, key.0),
        );
        let work_dir = &self.config.work_dir;
        let sandbox = paths::run(work_dir, &follower, &key.0, &key.1, &container.value);
        let latest = paths::latest_run(work_dir, &follower, &key.0, &key.1);
        for name in attachments(&sandbox, &latest, &key) {
            fx.push(Effect::Attach {
                path: sandbox.clone(),
                name,
            });
        }
        let kind = match recovered.info.r#type() {
            _ if recovered.generated => ExecutorKind::Command,
            executor_info::Type::Default => ExecutorKind::Default,
            _ => ExecutorKind::Custom,
        };
        let info = Arc::new(recovered.info);
        let mut executor = new_executor(key.1.clone(), info, kind, container.clone(), sandbox);
        // Whatever it was, it does not run in this process.
        executor.outside = true;
        executor.pid = recovered.process;
        executor.ever_sent_task = !recovered.tasks.is_empty();
        self.containers.insert(container.clone(), key.clone());
        if let Some(framework) = self.frameworks.get_mut(framework_id) {
            framework.executors.insert(key.1.clone(), executor);
        }
        for run in recovered.earlier_runs {
            let run = Sandbox::Run(key.0.clone(), key.1.clone(), run.into());
            self.schedule_removal(run);
        }
        for task in recovered.tasks {
            self.recover_task(&key, task, recovered.completed, fx);
        }
        // Draws it, too.
        let Some(executor) = self.executor_mut(&key) else {
            return;
        };
        let process = executor.pid.filter(|_| !rebooted);
        if recovered.completed {
            executor.state = ExecutorState::Terminated;
            self.containers.remove(&container);
            self.remove_executor(&key, fx);
        } else if process.is_none() {
            let termination = self.lost_with_us(&key, rebooted, kind);
            gone.push((key, termination));
        } else if let RecoveredLink::Driver(pid) = recovered.link {
            executor.connection = Some(Connection::lost_driver(pid.clone()));
            self.add_driver(pid, container);
        }
    }

    /// Why the tasks of an executor that cannot have survived have ended. The reference knows only
    /// the first case.
    fn lost_with_us(&self, key: &ExecutorKey, rebooted: bool, kind: ExecutorKind) -> Termination {
        let (state, message) = if rebooted || kind == ExecutorKind::Custom {
            (TaskState::TaskFailed, UNKNOWN_CONTAINER)
        } else {
            (self.gone(&key.0), ENDED_WITH_US)
        };
        Termination {
            state,
            reason: Reason::ExecutorTerminated,
            message: message.to_owned(),
        }
    }

    /// What became of a task that had started and that nobody can find.
    fn gone(&self, framework: &FrameworkId) -> TaskState {
        match self.frameworks.get(framework) {
            Some(framework) if framework.partition_aware() => TaskState::TaskGone,
            _ => TaskState::TaskLost,
        }
    }

    fn recover_task(
        &mut self,
        key: &ExecutorKey,
        mut recovered: RecoveredTask,
        completed: bool,
        fx: &mut Effects,
    ) {
        let id = TaskId::from(&recovered.task.task_id);
        recovered.task.framework_id = key.0.to_proto();
        let Some(framework) = self.frameworks.get_mut(&key.0) else {
            return;
        };
        if framework.tasks.contains_key(&id) {
            return warn(fx, format!("Not recovering task {id} twice"));
        }
        let Some(executor) = framework.executors.get_mut(&key.1) else {
            return;
        };
        let RecoveredTask {
            task,
            updates,
            acknowledged,
        } = recovered;
        executor.launched.insert_mut(id.clone(), Arc::new(task));
        let usable = |update: &i::StatusUpdate| {
            let uuid = update.uuid.as_ref().is_some_and(|uuid| uuid.len() == 16);
            let names = &update.status.task_id.value;
            uuid && names == id.as_str() && update.framework_id.value == key.0.as_str()
        };
        let mut kept: Vec<i::StatusUpdate> = Vec::new();
        for update in updates {
            if kept.iter().any(|known| known.uuid == update.uuid) {
                continue;
            }
            if !usable(&update) {
                warn(
                    fx,
                    format!("Leaving out an update of task {id} that fits nothing"),
                );
                continue;
            }
            // One that comes after the end changes nothing; its stream ended with the end, too.
            if executor.apply(&update.status, &key.0).is_err() {
                continue;
            }
            let uuid = update.uuid.clone().unwrap_or_default();
            if is_terminal(update.status.state()) && acknowledged.contains(&uuid) {
                executor.complete(&id);
            }
            kept.push(update);
        }
        if completed {
            executor.give_up(&id);
        }
        if executor.task(&id).is_some() {
            framework.tasks.insert(id.clone(), key.1.clone());
        }
        if !completed {
            self.updates
                .restore((key.0.clone(), id), kept, &acknowledged);
        }
    }

    /// Executors from before that have not come back.
    fn awaited(&self) -> impl Iterator<Item = ExecutorKey> {
        self.frameworks.values().flat_map(|framework| {
            let waits = framework
                .executors
                .values()
                .filter(|executor| executor.state == ExecutorState::Registering);
            waits.map(|executor| (framework.id.clone(), executor.id.clone()))
        })
    }

    fn reconnect_executors(&mut self, fx: &mut Effects) {
        if self.awaited().next().is_none() {
            return;
        }
        let timeout = self.config.executor_reregistration_timeout;
        self.timers
            .set(Timer::ExecutorReregistration, self.now + timeout);
        self.ask_to_reconnect(fx);
    }

    /// Asks drivers to come back. What speaks the v1 API does so by itself.
    pub(crate) fn ask_to_reconnect(&mut self, fx: &mut Effects) {
        for key in self.awaited() {
            let connection = self.executor(&key).and_then(|e| e.connection.as_ref());
            let Some(Connection::Driver(driver)) = connection else {
                info(fx, format!("Waiting for executor {} to come back", key.1));
                continue;
            };
            info(fx, format!("Asking executor {} to reconnect", key.1));
            fx.push(Effect::Send {
                to: driver.pid.clone(),
                from: ProcessName::Follower,
                message: i::ReconnectExecutorMessage {
                    slave_id: id_proto(self.id.as_ref()),
                }
                .into(),
            });
        }
        if let Some(interval) = self.config.executor_reregistration_retry_interval {
            self.timers
                .set(Timer::ExecutorReconnect, self.now + interval);
        }
    }

    /// Who has not come back by now is killed.
    pub(crate) fn executor_reregistration_timeout(&mut self, fx: &mut Effects) {
        let timeout = format_duration(self.config.executor_reregistration_timeout);
        let keys: Vec<_> = self.awaited().collect();
        for key in keys {
            let state = self.gone(&key.0);
            let Some(executor) = self.executor_mut(&key) else {
                continue;
            };
            executor.state = ExecutorState::Terminating;
            executor.pending_termination = Some(Termination {
                state,
                reason: Reason::ExecutorReregistrationTimeout,
                message: format!("Executor did not reregister within {timeout}"),
            });
            let container = executor.container.clone();
            warn(
                fx,
                format!("Killing executor {}: it did not come back", key.1),
            );
            fx.push(Effect::Destroy { container });
        }
    }

    /// `--recover=cleanup`: whatever is left of before ends, and so does this follower.
    fn clean_up(&mut self, fx: &mut Effects) {
        let keys: Vec<_> = self.awaited().collect();
        for key in keys {
            self.shutdown_executor(&key, fx);
        }
    }

    /// Goes on once nobody is waited for.
    pub(crate) fn end_recovery_if_done(&mut self, fx: &mut Effects) {
        if self.phase != Phase::Recovering || self.awaited().next().is_some() {
            return;
        }
        self.stop_recovering();
        info(fx, "Recovery is over".to_owned());
        if self.config.recover == Recover::Cleanup {
            self.phase = Phase::Terminating;
            if self.frameworks.is_empty() {
                fx.push(Effect::Stop { failed: false });
            }
            return;
        }
        self.phase = Phase::Disconnected;
        self.go_on_draining(fx);
        if let Some(leader) = self.recovery.leader.take() {
            self.leader_detected(Some(leader), fx);
        }
    }

    /// Nobody is waited for any more.
    pub(crate) fn stop_recovering(&mut self) {
        self.timers.cancel(&Timer::ExecutorReregistration);
        self.timers.cancel(&Timer::ExecutorReconnect);
    }

    pub(crate) fn check_recovery(&self) {
        let recovering = self.phase == Phase::Recovering;
        for timer in [Timer::ExecutorReregistration, Timer::ExecutorReconnect] {
            assert!(
                recovering || !self.timers.is_set(&timer),
                "waiting for executors after recovery"
            );
        }
        assert!(
            !recovering || self.leader.is_none(),
            "a leader is listened to while recovering"
        );
        assert!(
            !recovering || self.timers.is_set(&Timer::ExecutorReregistration),
            "recovery does not end"
        );
    }
}
