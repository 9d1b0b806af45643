//! The executors that run in this process: which containers are theirs, which of their probes are
//! on the way, when their timers are due, and when they are over.
//!
//! To the follower's core such an executor is a container like any other: it ends when its core has
//! ended and nothing that it started runs any more.

use super::{core_loop::Inner, probes::Prober};
use crate::containers::{Containers, Fate, RecoveredContainer};
use rustc_hash::{FxHashMap, FxHashSet};
use std::{collections::BTreeSet, time::Duration};
use tepui_executor::{
    Executor, RecoveredContainer as TasksContainer, RecoveredTask, Settings,
    io::{Effect, Effects, Input, Probe, ProbeId, ProbeOutcome},
};
use tepui_follower::io::{Input as FollowerInput, LocalExecutor, LocalTask};
use tepui_model::{
    ExecutorId, FrameworkId, Rng, Time,
    container::{ContainerEvent, ContainerId, ExitStatus},
};
use tepui_protocol::v1::{TaskState, executor_info::Type};
use tokio::{runtime::Handle, sync::mpsc, task::AbortHandle};

const SIGKILL: i32 = 9;

/// All of them.
pub(super) struct Locals {
    executors: FxHashMap<ContainerId, Local>,
    owners: FxHashMap<ContainerId, Owner>,
    timers: BTreeSet<(Time, ContainerId)>,
    /// Containers of an earlier follower that no executor has taken back yet.
    found: Vec<RecoveredContainer>,
    rng: Rng,
    containers: Containers,
    prober: Prober,
    runtime: Handle,
    tell: mpsc::UnboundedSender<Inner>,
    /// Kept for its allocation.
    effects: Effects,
}

struct Local {
    core: Executor,
    deadline: Option<Time>,
    /// What it started and that has not ended.
    containers: FxHashSet<ContainerId>,
    probes: FxHashMap<ProbeId, Running>,
    /// It has ended like this; its containers may not have.
    exit: Option<ExitStatus>,
}

/// A probe on its way.
enum Running {
    Request(AbortHandle),
    Command {
        container: ContainerId,
        timer: AbortHandle,
        timed_out: bool,
    },
}

/// Who started a container.
enum Owner {
    Executor(ContainerId),
    Probe {
        executor: ContainerId,
        probe: ProbeId,
    },
}

/// Inputs for the follower's core that come of something.
pub(super) type Inputs = Vec<FollowerInput>;

impl Locals {
    pub(super) fn new(
        rng: Rng,
        containers: Containers,
        runtime: Handle,
        tell: mpsc::UnboundedSender<Inner>,
    ) -> Self {
        Self {
            executors: FxHashMap::default(),
            owners: FxHashMap::default(),
            timers: BTreeSet::new(),
            found: Vec::new(),
            rng,
            containers,
            prober: Prober::new(),
            runtime,
            tell,
            effects: Effects::default(),
        }
    }

    /// What tasks of executors in this process may run in since before a restart; comes before any
    /// [`Self::start`].
    pub(super) fn found(&mut self, containers: Vec<RecoveredContainer>) {
        self.found = containers;
    }

    /// Every executor that was to be taken back has been started: ends what none of them wanted.
    pub(super) fn discard_rest(&mut self) {
        for container in std::mem::take(&mut self.found) {
            tracing::info!(container = %container.id, task = %container.name, "nobody wants a container back");
            self.containers.discard(container.id);
        }
    }

    /// Adds an executor; [`Self::handle`] it with [`Input::Connected`] when its sandbox exists.
    pub(super) fn start(&mut self, local: &LocalExecutor) {
        let framework = local.framework.id.as_ref().map(FrameworkId::from);
        let settings = Settings {
            framework: framework.unwrap_or_else(|| FrameworkId::from("")),
            executor: ExecutorId::from(&local.info.executor_id),
            container: local.container.clone(),
            sandbox: local.sandbox.clone(),
            latest: local.latest.clone(),
            user: local.user.clone(),
            environment: local.environment.clone(),
            shutdown_grace_period: local.shutdown_grace_period,
            outlives: local.outlives,
        };
        let rng = self.rng.child();
        let core = match local.info.r#type() {
            Type::Default => Executor::default_executor(settings, rng),
            Type::Custom | Type::Unknown => Executor::command(settings, rng),
        };
        let local_ = Local {
            core,
            deadline: None,
            containers: FxHashSet::default(),
            probes: FxHashMap::default(),
            exit: None,
        };
        self.executors.insert(local.container.clone(), local_);
        if !local.recovered.is_empty() {
            self.take_back(local);
        }
    }

    /// Gives an executor the containers of its tasks again.
    fn take_back(&mut self, local: &LocalExecutor) {
        let executor = &local.container;
        let of_executor =
            |id: &ContainerId| id == executor || id.parent.as_deref() == Some(executor);
        let (mut own, others) = std::mem::take(&mut self.found)
            .into_iter()
            .partition(|found: &RecoveredContainer| of_executor(&found.id));
        self.found = others;
        let mut tasks = Vec::new();
        for task in &local.recovered {
            let container = claim(&mut own, task);
            if let Some(container) = &container
                && matches!(container.event, ContainerEvent::Launched { .. })
            {
                self.own(executor, &container.id, Owner::Executor(executor.clone()));
            }
            tasks.push(RecoveredTask {
                info: task.info.clone(),
                group: task.group.clone(),
                state: task.state,
                container,
            });
        }
        // The record of one without a name may just have been claimed; it goes with its executor's.
        for container in own.into_iter().filter(|found| !found.name.is_empty()) {
            self.containers.discard(container.id);
        }
        if let Some(local) = self.executors.get_mut(executor) {
            local.core.recovered(tasks);
        }
    }

    pub(super) fn contains(&self, container: &ContainerId) -> bool {
        self.executors.contains_key(container)
    }

    pub(super) fn next_deadline(&self) -> Option<Time> {
        self.timers.first().map(|(time, _)| *time)
    }

    /// Executors whose timers are due.
    pub(super) fn due(&self, now: Time) -> Vec<ContainerId> {
        self.timers
            .iter()
            .take_while(|(at, _)| *at <= now)
            .map(|(_, container)| container.clone())
            .collect()
    }

    /// One input through an executor's core, and what comes out of it.
    pub(super) fn handle(
        &mut self,
        now: Time,
        executor: &ContainerId,
        input: Input,
        out: &mut Inputs,
    ) {
        let Some(local) = self
            .executors
            .get_mut(executor)
            .filter(|local| local.exit.is_none())
        else {
            return;
        };
        let mut effects = std::mem::take(&mut self.effects);
        local.core.handle(now, input, &mut effects);
        for effect in effects.drain() {
            self.carry(executor, effect, out);
        }
        self.effects = effects;
        self.set_timer(executor);
        self.finish_if_gone(executor, out);
    }

    /// A container may end after it was found and before its executor is started, which waits for what
    /// must be durable first. Its executor then finds it ended: to the follower's core it would be the
    /// executor itself that ended, with nothing said of its task.
    fn not_taken_back_yet(&mut self, container: &ContainerId, event: &ContainerEvent) -> bool {
        let Some(found) = self.found.iter_mut().find(|found| found.id == *container) else {
            return false;
        };
        if let ContainerEvent::Exited { status } = event {
            found.fate = Fate::Exited(*status);
        }
        true
    }

    /// News of a container; `false` if it is not of an executor in this process.
    pub(super) fn container(
        &mut self,
        now: Time,
        container: &ContainerId,
        event: ContainerEvent,
        out: &mut Inputs,
    ) -> bool {
        let ended = !matches!(event, ContainerEvent::Launched { .. });
        let (executor, probe) = match self.owners.get(container) {
            None => return self.not_taken_back_yet(container, &event),
            Some(Owner::Executor(executor)) => (executor.clone(), None),
            Some(Owner::Probe { executor, probe }) => (executor.clone(), Some(*probe)),
        };
        if ended {
            self.owners.remove(container);
            if let Some(local) = self.executors.get_mut(&executor) {
                local.containers.remove(container);
            }
        }
        match probe {
            Some(probe) if ended => self.command_ended(now, &executor, probe, event, out),
            Some(_) => {}
            None => {
                // The follower wants to know which processes run, before it hears that tasks do. The
                // end of the executor's own container is not the executor's.
                let tell = match event {
                    ContainerEvent::Launched { .. } => true,
                    ContainerEvent::Exited { .. } => *container != executor,
                    ContainerEvent::LaunchFailed { .. } => false,
                };
                if tell {
                    out.push(FollowerInput::Container {
                        container: container.clone(),
                        event: event.clone(),
                    });
                }
                let input = Input::Container {
                    container: container.clone(),
                    event,
                };
                self.handle(now, &executor, input, out);
            }
        }
        self.finish_if_gone(&executor, out);
        true
    }

    /// A probe ended, or its time did.
    pub(super) fn probed(
        &mut self,
        now: Time,
        executor: &ContainerId,
        probe: ProbeId,
        outcome: ProbeOutcome,
        out: &mut Inputs,
    ) {
        let Some(local) = self.executors.get_mut(executor) else {
            return;
        };
        match local.probes.get_mut(&probe) {
            None => {}
            Some(Running::Request(_)) => {
                local.probes.remove(&probe);
                self.handle(now, executor, Input::Probed { probe, outcome }, out);
            }
            // Answered once its container is gone, so that the next one finds nothing in its way.
            Some(Running::Command {
                container,
                timed_out,
                ..
            }) => {
                *timed_out = true;
                self.containers.destroy(container.clone());
            }
        }
    }

    /// Kills an executor and all that it started, as its follower wants.
    pub(super) fn destroy(&mut self, executor: &ContainerId, out: &mut Inputs) {
        self.end(executor, ExitStatus::Signal(SIGKILL));
        self.finish_if_gone(executor, out);
    }

    /// Forgets an executor. What it started is killed, and nobody hears of it.
    pub(super) fn stop(&mut self, executor: &ContainerId) {
        self.end(executor, ExitStatus::Signal(SIGKILL));
        self.forget(executor);
    }

    fn carry(&mut self, executor: &ContainerId, effect: Effect, out: &mut Inputs) {
        match effect {
            Effect::Call(call) => {
                out.push(FollowerInput::LocalExecutorCall {
                    container: executor.clone(),
                    call,
                });
            }
            Effect::Launch(spec) => {
                self.own(executor, &spec.container, Owner::Executor(executor.clone()));
                self.containers.launch(spec);
            }
            Effect::Signal { container, signal } => self.containers.signal(container, signal),
            Effect::Destroy { container } => self.containers.destroy(container),
            Effect::Forget { container } => self.containers.forget(container),
            Effect::Probe { id, probe, timeout } => self.probe(executor, id, probe, timeout),
            Effect::CancelProbe { id } => self.cancel_probe(executor, id),
            Effect::Exit(status) => self.end(executor, status),
        }
    }

    fn own(&mut self, executor: &ContainerId, container: &ContainerId, owner: Owner) {
        self.owners.insert(container.clone(), owner);
        if let Some(local) = self.executors.get_mut(executor) {
            local.containers.insert(container.clone());
        }
    }

    fn probe(&mut self, executor: &ContainerId, probe: ProbeId, what: Probe, timeout: Duration) {
        let tell = self.tell.clone();
        let of = executor.clone();
        // Nobody listens once the node stops.
        let answer = move |outcome| {
            drop(tell.send(Inner::Probed {
                executor: of,
                probe,
                outcome,
            }))
        };
        let running = match what {
            Probe::Http {
                scheme,
                host,
                port,
                path,
            } => {
                let prober = self.prober.clone();
                let url = format!("{scheme}://{host}:{port}{path}");
                let task = self
                    .runtime
                    .spawn(async move { answer(prober.http(url, timeout).await) });
                Running::Request(task.abort_handle())
            }
            Probe::Tcp { host, port } => {
                let task = self
                    .runtime
                    .spawn(async move { answer(Prober::tcp(host, port, timeout).await) });
                Running::Request(task.abort_handle())
            }
            Probe::Command(spec) => {
                let container = spec.container.clone();
                self.own(
                    executor,
                    &container,
                    Owner::Probe {
                        executor: executor.clone(),
                        probe,
                    },
                );
                self.containers.launch(spec);
                let timer = self.runtime.spawn(async move {
                    tokio::time::sleep(timeout).await;
                    answer(ProbeOutcome::TimedOut);
                });
                Running::Command {
                    container,
                    timer: timer.abort_handle(),
                    timed_out: false,
                }
            }
        };
        if let Some(local) = self.executors.get_mut(executor) {
            local.probes.insert(probe, running);
        }
    }

    fn cancel_probe(&mut self, executor: &ContainerId, probe: ProbeId) {
        let running = self
            .executors
            .get_mut(executor)
            .and_then(|local| local.probes.remove(&probe));
        self.cancel(running);
    }

    fn cancel(&self, running: Option<Running>) {
        match running {
            Some(Running::Request(task)) => task.abort(),
            Some(Running::Command {
                container, timer, ..
            }) => {
                timer.abort();
                self.containers.destroy(container);
            }
            None => {}
        }
    }

    fn command_ended(
        &mut self,
        now: Time,
        executor: &ContainerId,
        probe: ProbeId,
        event: ContainerEvent,
        out: &mut Inputs,
    ) {
        let Some(local) = self.executors.get_mut(executor) else {
            return;
        };
        let Some(Running::Command {
            timer, timed_out, ..
        }) = local.probes.remove(&probe)
        else {
            return;
        };
        timer.abort();
        let outcome = match event {
            _ if timed_out => ProbeOutcome::TimedOut,
            ContainerEvent::Exited {
                status: Some(status),
            } => ProbeOutcome::Exited(status),
            ContainerEvent::LaunchFailed { message, .. } => ProbeOutcome::Failed(message),
            ContainerEvent::Exited { status: None } | ContainerEvent::Launched { .. } => {
                ProbeOutcome::Failed("its exit status is unknown".to_owned())
            }
        };
        self.handle(now, executor, Input::Probed { probe, outcome }, out);
    }

    /// An executor has ended: what it left behind ends too.
    fn end(&mut self, executor: &ContainerId, status: ExitStatus) {
        let Some(local) = self.executors.get_mut(executor) else {
            return;
        };
        local.exit.get_or_insert(status);
        let probes: Vec<Running> = local.probes.drain().map(|(_, running)| running).collect();
        let leftovers = !local.containers.is_empty();
        for running in probes {
            self.cancel(Some(running));
        }
        if leftovers {
            // With all that is nested in it.
            self.containers.destroy(executor.clone());
        }
        self.set_timer(executor);
    }

    /// Tells the follower of the end of an executor once nothing of it is left.
    fn finish_if_gone(&mut self, executor: &ContainerId, out: &mut Inputs) {
        let gone = |local: &&Local| local.containers.is_empty();
        let Some(status) = self
            .executors
            .get(executor)
            .filter(gone)
            .and_then(|local| local.exit)
        else {
            return;
        };
        self.forget(executor);
        let event = ContainerEvent::Exited {
            status: Some(status),
        };
        out.push(FollowerInput::Container {
            container: executor.clone(),
            event,
        });
    }

    fn forget(&mut self, executor: &ContainerId) {
        if let Some(local) = self.executors.remove(executor)
            && let Some(deadline) = local.deadline
        {
            self.timers.remove(&(deadline, executor.clone()));
        }
    }

    fn set_timer(&mut self, executor: &ContainerId) {
        let Some(local) = self.executors.get_mut(executor) else {
            return;
        };
        let next = if local.exit.is_some() {
            None
        } else {
            local.core.next_deadline()
        };
        if next == local.deadline {
            return;
        }
        if let Some(old) = std::mem::replace(&mut local.deadline, next) {
            self.timers.remove(&(old, executor.clone()));
        }
        if let Some(next) = next {
            self.timers.insert((next, executor.clone()));
        }
    }
}

/// Takes out the container of a task. One whose name is lost may be that of any task that is not
/// known to have run: such a task must not be started a second time.
fn claim(found: &mut Vec<RecoveredContainer>, task: &LocalTask) -> Option<TasksContainer> {
    let named = |c: &RecoveredContainer| c.name == task.info.task_id.value;
    let nameless = |c: &RecoveredContainer| c.name.is_empty();
    let early = matches!(
        task.state,
        None | Some(TaskState::TaskStaging | TaskState::TaskStarting)
    );
    let runs = |c: &RecoveredContainer| matches!(c.fate, Fate::Running { .. });
    let index = found
        .iter()
        .position(|c| named(c) && runs(c))
        .or_else(|| found.iter().position(named))
        .or_else(|| found.iter().position(nameless).filter(|_| early))?;
    let container = if nameless(&found[index]) {
        found[index].clone()
    } else {
        found.swap_remove(index)
    };
    Some(TasksContainer {
        event: container.fate.event(),
        id: container.id,
        told: container.told,
        running_for: container.running_for,
    })
}
