//! Coming back after a restart. Executors of this process are started with what they ran; processes
//! of their own are asked to reconnect, those that do not in time are killed, and only then the leader
//! hears of us again. Follows `recover`, `_recover`, `reregisterExecutorTimeout` of
//! `src/slave/slave.cpp` and `docs/agent-recovery.md`.
//!
//! While this goes on ([`Phase::Recovering`]) only executors are listened to: the leader that was
//! detected meanwhile is kept aside, so whatever a leader says is that of a stranger.
//!
//! What differs: it is over as soon as nobody is waited for; the reference always waits for
//! `--executor_reregistration_timeout` to pass (MESOS-7539). A task whose checkpoint cannot be read is
//! reported as gone, with the reason; the reference forgets it.

use crate::{
    Follower, Phase,
    config::Recover,
    gc::Sandbox,
    info,
    io::{Effect, Effects, LocalTask, ProcessName},
    launch::{attachments, new_executor},
    paths,
    recovered::{
        Fate, Recovered, RecoveredExecutor, RecoveredFramework, RecoveredLink, RecoveredTask,
    },
    state::{Connection, ExecutorKey, Framework, Termination, id_proto, new_task},
    status::AgentStatus,
    timers::Timer,
    view::{ExecutorKind, ExecutorState},
    warn,
};
use std::{sync::Arc, time::Duration};
use tepui_model::{
    ExecutorId, FollowerId, FrameworkId, TaskId, Time,
    container::{ContainerId, ExitStatus},
    planted::{Planted, planted},
    tasks::is_terminal,
    units::format_duration,
};
use tepui_protocol::{
    internal as i,
    peer::Pid,
    v1::{TaskState, executor_info, task_status::Reason},
};

/// What the reference says of an executor whose container nobody knows.
const UNKNOWN_CONTAINER: &str = "Abnormal executor termination: unknown container";

/// What is needed while recovery goes on, and how long it took.
#[derive(Debug, Default)]
pub(crate) struct Recovery {
    /// Who leads, for afterwards.
    pub(crate) leader: Option<Pid>,
    /// While checkpoints are taken back: what of them is to be removed, and how long it has not been
    /// used; and how long what is looked at right now has not been.
    pub(crate) removals: Option<(Duration, Vec<(Duration, Sandbox)>)>,
    /// From the start of the process.
    pub(crate) took: Duration,
}

/// What is done once all is known again.
#[derive(Debug, Default)]
struct Afterwards {
    /// Executors of which nothing runs.
    ended: Vec<(ExecutorKey, Option<Termination>, Option<ExitStatus>)>,
    /// Executors of this process.
    locals: Vec<(ExecutorKey, Vec<LocalTask>)>,
    /// Tasks that nobody can say anything of, and why.
    lost: Vec<(ExecutorKey, TaskId, String)>,
}

impl Follower {
    /// Takes back what was checkpointed before a restart, and begins to look for the executors that
    /// are left.
    ///
    /// Call it once, before any input, on a follower that was made with `recovered.id` (and after
    /// [`restore_resources`](Self::restore_resources) and [`crate::compatibility::check`]). The shell
    /// knows the containers that run again, and sends news of them from now on.
    pub fn recover(&mut self, now: Time, recovered: Recovered, fx: &mut Effects) {
        self.now = self.now.max(now);
        for problem in &recovered.problems {
            warn(fx, format!("Recovery: {}", problem.text));
        }
        self.counters.recovery_errors += recovered.problems.len() as u64;
        info(fx, format!("Recovering follower {}", recovered.id));
        Arc::make_mut(&mut self.info).id = Some(recovered.id.to_proto());
        self.id = Some(recovered.id);
        if *self.info != recovered.info {
            let info = Box::new((*self.info).clone());
            fx.push(Effect::Persist(crate::io::Checkpoint::Follower(info)));
        }
        self.phase = Phase::Recovering;
        self.pause_updates();
        let mut after = Afterwards::default();
        self.recovery.removals = Some(Default::default());
        for framework in recovered.frameworks {
            self.recover_framework(framework, recovered.rebooted, &mut after, fx);
        }
        if let Some((_, removals)) = self.recovery.removals.take() {
            self.schedule_aged(removals);
        }
        if let Some(config) = recovered.drain {
            let since = self.now;
            self.drain = Some(crate::drain::Drain { config, since });
            self.drained_if_idle(fx);
        }
        self.go_on(after, fx);
        match self.config.recover {
            Recover::Reconnect => self.reconnect_executors(fx),
            Recover::Cleanup => self.clean_up(fx),
        }
        self.end_recovery_if_done(fx);
        self.publish();
    }

    /// In place of [`recover`](Self::recover) where nothing was left. With `--recover=cleanup` there is
    /// nothing to do then.
    pub fn start_afresh(&mut self, fx: &mut Effects) {
        if self.config.recover == Recover::Cleanup {
            info(fx, "There is nothing to clean up".to_owned());
            self.phase = Phase::Terminating;
            self.leave(fx);
        }
        self.publish();
    }

    /// Schedules the removal of what other followers left in this work directory, with how long it
    /// has not been used. Call it before [`recover`](Self::recover).
    pub fn collect_others(&mut self, others: Vec<(FollowerId, Duration)>) {
        let others = others.into_iter();
        self.schedule_aged(
            others
                .map(|(id, age)| (age, Sandbox::Follower(id)))
                .collect(),
        );
        self.publish();
    }

    fn go_on(&mut self, after: Afterwards, fx: &mut Effects) {
        for (key, task, why) in after.lost {
            let status = AgentStatus {
                task,
                state: self.gone(&key.0),
                reason: Reason::AgentRestarted,
                message: why,
                executor: Some(key.1.clone()),
            };
            self.report(&key.0, status, fx);
        }
        for (key, termination, status) in after.ended {
            if let Some(executor) = self.executor_mut(&key) {
                executor.pending_termination = termination;
            }
            self.executor_terminated(&key, status, fx);
        }
        self.relink_volumes(fx);
        for (key, tasks) in after.locals {
            self.start_local_executor(&key, tasks, fx);
        }
    }

    /// How long what is taken back has not been used.
    fn set_age(&mut self, age: Duration) {
        if let Some((now, _)) = &mut self.recovery.removals {
            *now = age;
        }
    }

    fn recover_framework(
        &mut self,
        recovered: RecoveredFramework,
        rebooted: bool,
        after: &mut Afterwards,
        fx: &mut Effects,
    ) {
        let Some(id) = recovered.info.id.as_ref().map(FrameworkId::from) else {
            return warn(fx, "Not recovering a framework without id".to_owned());
        };
        if self.frameworks.contains_key(&id) {
            return warn(fx, format!("Not recovering framework {id} twice"));
        }
        let youngest = recovered
            .executors
            .iter()
            .map(|executor| executor.age)
            .chain(recovered.ended.iter().map(|run| run.age))
            .min();
        for ended in recovered.ended {
            self.set_age(ended.age);
            self.schedule_removal(match (ended.run, ended.last) {
                (Some(run), false) => Sandbox::Run(id.clone(), ended.executor, run),
                (run, _) => Sandbox::Executor(id.clone(), ended.executor, run),
            });
        }
        let age = youngest.unwrap_or(recovered.age);
        self.set_age(age);
        if recovered.executors.is_empty() {
            return self.schedule_removal(Sandbox::Framework(id));
        }
        info(fx, format!("Recovering framework {id}"));
        let mut framework = Framework::new(id.clone(), recovered.info, recovered.pid);
        framework.damaged = recovered.damaged.is_some();
        self.frameworks.insert(id.clone(), framework);
        self.touch(&id);
        for mut executor in recovered.executors {
            executor.damaged = executor.damaged.or_else(|| recovered.damaged.clone());
            self.recover_executor(&id, executor, rebooted, after, fx);
        }
        self.set_age(age);
        self.remove_framework_if_idle(&id, fx);
    }

    fn recover_executor(
        &mut self,
        framework_id: &FrameworkId,
        recovered: RecoveredExecutor,
        rebooted: bool,
        after: &mut Afterwards,
        fx: &mut Effects,
    ) {
        let key = (
            framework_id.clone(),
            ExecutorId::from(&recovered.info.executor_id),
        );
        let container = ContainerId::top(recovered.container.as_str());
        if self.executor(&key).is_some() || self.containers.contains_key(&container) {
            return warn(fx, format!("Not recovering executor {} twice", key.1));
        }
        if !recovered.completed {
            info(
                fx,
                format!("Recovering executor {} of framework {}", key.1, key.0),
            );
        }
        self.insert_recovered(&key, &container, &recovered, fx);
        let local = recovered.is_local() && !rebooted && recovered.damaged.is_none();
        for (run, age) in recovered.earlier_runs {
            self.set_age(age);
            self.schedule_removal(Sandbox::Run(
                key.0.clone(),
                key.1.clone(),
                run.as_str().into(),
            ));
        }
        self.set_age(recovered.age);
        let mut tasks = Vec::new();
        for task in recovered.tasks {
            tasks.extend(self.recover_task(&key, task, recovered.completed, local, after, fx));
        }
        let local = local && tasks.iter().any(|task| task.live && task.local.is_some());
        if local {
            for task in tasks
                .iter_mut()
                .filter(|task| task.live && task.local.is_none())
            {
                let why = "The agent does not know how the task was launched".to_owned();
                after.lost.push((key.clone(), task.id.clone(), why));
                (task.live, task.failed) = (false, true);
            }
        }
        self.end_broken_groups(&key, &tasks);
        // Draws it, too.
        let Some(executor) = self.executor_mut(&key) else {
            return;
        };
        if recovered.completed {
            executor.state = ExecutorState::Terminated;
            self.containers.remove(&container);
            // Written once more, it would be as if it had ended just now.
            return self.executor_is_history(&key, fx);
        }
        let unknown = |state, message: &str| Termination {
            state,
            reason: Reason::ExecutorTerminated,
            message: message.to_owned(),
        };
        let runs = recovered.fate == Fate::Running && !rebooted;
        if let Some(why) = recovered.damaged {
            let termination = unknown(self.gone(&key.0), &why);
            fx.push(Effect::Destroy { container });
            match self.executor_mut(&key) {
                Some(executor) if runs => {
                    executor.state = ExecutorState::Terminating;
                    executor.pending_termination = Some(termination);
                }
                _ => after.ended.push((key, Some(termination), None)),
            }
        } else if local {
            executor.outside = false;
            let live = tasks.into_iter().filter(|task| task.live);
            after
                .locals
                .push((key, live.filter_map(|task| task.local).collect()));
        } else if let Fate::Exited(status) = recovered.fate {
            after.ended.push((key, None, status));
        } else if !runs {
            let termination = unknown(TaskState::TaskFailed, UNKNOWN_CONTAINER);
            fx.push(Effect::Destroy { container });
            after.ended.push((key, Some(termination), None));
        } else if let RecoveredLink::Driver(pid) = recovered.link {
            executor.connection = Some(Connection::lost_driver(pid.clone()));
            self.add_driver(pid, container);
        }
    }

    fn insert_recovered(
        &mut self,
        key: &ExecutorKey,
        container: &ContainerId,
        recovered: &RecoveredExecutor,
        fx: &mut Effects,
    ) {
        let Some(follower) = self.id.clone() else {
            return;
        };
        let work_dir = &self.config.work_dir;
        let sandbox = paths::run(work_dir, &follower, &key.0, &key.1, &container.value);
        let latest = paths::latest_run(work_dir, &follower, &key.0, &key.1);
        for name in attachments(&sandbox, &latest, key) {
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
        let mut info = recovered.info.clone();
        if let Some(framework) = self.frameworks.get(&key.0) {
            crate::tasks::allocate(&mut info.resources, &framework.info);
        }
        let mut executor = new_executor(
            key.1.clone(),
            Arc::new(info),
            kind,
            container.clone(),
            sandbox,
        );
        // Until it is known to be one of this process.
        executor.outside = true;
        executor.pid = recovered.process;
        executor.ever_sent_task = !recovered.tasks.is_empty();
        self.containers.insert(container.clone(), key.clone());
        if let Some(framework) = self.frameworks.get_mut(&key.0) {
            framework.executors.insert(key.1.clone(), executor);
        }
    }

    /// Tasks that stand and fall together: where one has ended otherwise than well, the others do not
    /// go on.
    fn end_broken_groups(&mut self, key: &ExecutorKey, tasks: &[Taken]) {
        let broken = |group: &Arc<str>| {
            let of = |task: &&Taken| task.group.as_ref() == Some(group);
            tasks.iter().filter(of).any(|task| task.failed)
        };
        let doomed: Vec<TaskId> = tasks
            .iter()
            .filter(|task| task.live && task.group.as_ref().is_some_and(broken))
            .map(|task| task.id.clone())
            .collect();
        if let Some(executor) = self.executor_mut(key) {
            executor.kill_when_back.extend(doomed);
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
        recovered: RecoveredTask,
        completed: bool,
        local: bool,
        after: &mut Afterwards,
        fx: &mut Effects,
    ) -> Option<Taken> {
        let RecoveredTask {
            mut task,
            damaged,
            mut launched,
            group,
            updates,
            acknowledged,
        } = recovered;
        let id = TaskId::from(&task.task_id);
        let framework = self.frameworks.get_mut(&key.0)?;
        if let Some(launched) = &mut launched {
            crate::tasks::allocate(&mut launched.resources, &framework.info);
        }
        // What it was launched as says the same.
        let mut damaged = damaged;
        if let (Some(_), Some(launched)) = (&damaged, &launched) {
            task = new_task(launched, &key.0, TaskState::TaskStaging);
            damaged = None;
        }
        crate::tasks::allocate(&mut task.resources, &framework.info);
        task.framework_id = key.0.to_proto();
        if framework.tasks.contains_key(&id) {
            warn(fx, format!("Not recovering task {id} twice"));
            return None;
        }
        let executor = framework.executors.get_mut(&key.1)?;
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
            let told = acknowledged.contains(&uuid) && !planted(Planted::EndsTwice);
            if is_terminal(update.status.state()) && told {
                executor.complete(&id);
            }
            kept.push(update);
        }
        if completed {
            executor.give_up(&id);
        }
        let last = kept.last().map(|update| update.status.state());
        let live = executor.launched.contains_key(&id);
        if executor.task(&id).is_some() {
            framework.tasks.insert(id.clone(), key.1.clone());
        }
        // What the leader is told of next is what it has to call the task's state: the latest would be
        // followed by an earlier one.
        let next = kept.iter().find(|update| {
            let uuid = update.uuid.as_ref();
            uuid.is_none_or(|uuid| !acknowledged.contains(uuid))
        });
        if let Some(next) = next.filter(|_| !completed) {
            executor.edit_task(&id, |task| {
                task.status_update_state = Some(next.status.state);
                task.status_update_uuid.clone_from(&next.uuid);
            });
        }
        if !completed {
            self.updates
                .restore((key.0.clone(), id.clone()), kept, &acknowledged);
        }
        let local = launched.filter(|_| local).map(|info| LocalTask {
            info,
            group: group.clone(),
            state: last,
        });
        let mut taken = Taken {
            live,
            failed: !live && last.is_some_and(|state| state != TaskState::TaskFinished),
            id,
            group,
            local,
        };
        if let Some(why) = damaged.filter(|_| live) {
            // Should it run all the same, it must not go on: its end is told.
            if let Some(executor) = self.executor_mut(key) {
                executor.kill_when_back.push(taken.id.clone());
            }
            after.lost.push((key.clone(), taken.id.clone(), why));
            (taken.live, taken.failed) = (false, true);
        }
        Some(taken)
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

    /// Who has not come back by now is killed. Executors of this process are on their way, however long
    /// a busy machine takes.
    pub(crate) fn executor_reregistration_timeout(&mut self, fx: &mut Effects) {
        let timeout = format_duration(self.config.executor_reregistration_timeout);
        let keys: Vec<_> = self.awaited().collect();
        for key in keys {
            let state = self.gone(&key.0);
            let Some(executor) = self.executor_mut(&key).filter(|executor| executor.outside) else {
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
        self.recovery.took = self.now.since(self.view.started);
        if self.config.recover == Recover::Cleanup {
            self.phase = Phase::Terminating;
            if self.frameworks.is_empty() {
                self.leave(fx);
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
        let local = |key| {
            self.executor(&key)
                .is_some_and(|executor| !executor.outside)
        };
        assert!(
            !recovering
                || self.timers.is_set(&Timer::ExecutorReregistration)
                || self.awaited().all(local),
            "recovery does not end"
        );
    }
}

/// A task that was taken back.
#[derive(Debug)]
struct Taken {
    id: TaskId,
    group: Option<Arc<str>>,
    /// Its end is not known.
    live: bool,
    /// It ended otherwise than well.
    failed: bool,
    /// What an executor of this process needs to go on with it.
    local: Option<LocalTask>,
}
