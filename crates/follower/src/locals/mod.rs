//! The executors that run within a follower: which containers are theirs, what they take back after a
//! restart, which of their probes are on the way, when their timers are due, and when they are over.
//!
//! To the follower's core such an executor is a container like any other: it ends when its core has
//! ended and nothing that it started runs any more. What comes out for that core are [`Input`]s of
//! its, as [`Effect::Input`]; the rest is for whoever owns the containers.
//!
//! | what | file |
//! |---|---|
//! | executors and their containers, timers, the end | this one |
//! | containers that an earlier follower left | `found.rs` |
//! | probes | `probes.rs` |

mod found;
mod probes;

pub use found::Found;

use crate::io::{Input, LocalExecutor};
use probes::Probing;
use rustc_hash::FxHashMap;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use tepui_executor::{
    Executor, Settings,
    io::{
        Effect as ExecutorEffect, Effects as ExecutorEffects, Input as ExecutorInput, Probe,
        ProbeId,
    },
};
use tepui_model::{
    ExecutorId, FrameworkId, Rng, Time,
    container::{ContainerEvent, ContainerId, ExitStatus, LaunchSpec},
};
use tepui_protocol::v1::executor_info::Type;

const SIGKILL: i32 = 9;

/// One thing to do, in order.
#[derive(Debug)]
pub enum Effect {
    /// For the follower's core.
    Input(Input),
    /// Start a container.
    Launch(Box<LaunchSpec>),
    /// Signal everything in a container.
    Signal {
        /// Which.
        container: ContainerId,
        /// Signal number.
        signal: i32,
    },
    /// Kill a container and those nested in it.
    Destroy {
        /// Which.
        container: ContainerId,
    },
    /// The end of a container was taken over: nothing needs to be kept of it.
    Forget {
        /// Which.
        container: ContainerId,
    },
    /// Nobody wants one of the [`Found`] back: kill it if it runs, keep nothing of it, and say nothing.
    Discard(Found),
    /// Make a request; answered with [`Locals::probed`]. Commands are not among them.
    Probe {
        /// Whose.
        executor: ContainerId,
        /// Which.
        probe: ProbeId,
        /// What.
        what: Probe,
        /// How long it may take.
        timeout: Duration,
    },
    /// Give up on a request.
    CancelProbe {
        /// Whose.
        executor: ContainerId,
        /// Which.
        probe: ProbeId,
    },
}

/// Where effects go.
pub type Effects = tepui_model::effects::Effects<Effect>;

/// All of them.
///
/// After a restart [`found`](Self::found) comes first, and [`discard_rest`](Self::discard_rest) once
/// the follower's core has recovered. In between and afterwards: [`start`](Self::start) for each
/// executor, [`handle`](Self::handle) for what the follower says to it, [`container`](Self::container)
/// for all news of containers, [`probed`](Self::probed) for what came of requests, and
/// [`tick`](Self::tick) when [`next_deadline`](Self::next_deadline) is reached.
#[derive(Debug)]
pub struct Locals {
    executors: BTreeMap<ContainerId, Local>,
    owners: FxHashMap<ContainerId, Owner>,
    timers: BTreeSet<(Time, ContainerId)>,
    /// Containers of an earlier follower that no executor has taken back yet.
    found: Vec<Found>,
    rng: Rng,
    /// Kept for its allocation.
    effects: ExecutorEffects,
}

#[derive(Debug)]
struct Local {
    core: Executor,
    deadline: Option<Time>,
    /// What it started and that has not ended.
    containers: BTreeSet<ContainerId>,
    probes: BTreeMap<ProbeId, Probing>,
    /// It has ended like this; its containers may not have.
    exit: Option<ExitStatus>,
}

/// Who started a container.
#[derive(Debug)]
enum Owner {
    Executor(ContainerId),
    Probe {
        executor: ContainerId,
        probe: ProbeId,
    },
}

impl Local {
    fn next_deadline(&self) -> Option<Time> {
        if self.exit.is_some() {
            return None;
        }
        let probes = self.probes.values().filter_map(Probing::deadline);
        probes.chain(self.core.next_deadline()).min()
    }
}

impl Locals {
    /// None yet.
    pub fn new(rng: Rng) -> Self {
        Self {
            executors: BTreeMap::new(),
            owners: FxHashMap::default(),
            timers: BTreeSet::new(),
            found: Vec::new(),
            rng,
            effects: ExecutorEffects::default(),
        }
    }

    /// Adds an executor; [`Self::handle`] it with `Connected` when its sandbox exists.
    pub fn start(&mut self, local: &LocalExecutor, fx: &mut Effects) {
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
        let started = Local {
            core,
            deadline: None,
            containers: BTreeSet::new(),
            probes: BTreeMap::new(),
            exit: None,
        };
        self.executors.insert(local.container.clone(), started);
        if !local.recovered.is_empty() {
            self.take_back(local, fx);
        }
    }

    /// Whether a container is an executor of this process.
    pub fn contains(&self, container: &ContainerId) -> bool {
        self.executors.contains_key(container)
    }

    /// When to call [`Self::tick`].
    pub fn next_deadline(&self) -> Option<Time> {
        self.timers.first().map(|(time, _)| *time)
    }

    /// Time passed.
    pub fn tick(&mut self, now: Time, fx: &mut Effects) {
        let due = self.timers.iter().take_while(|(at, _)| *at <= now);
        let due: Vec<ContainerId> = due.map(|(_, executor)| executor.clone()).collect();
        for executor in due {
            self.time_out_probes(now, &executor, fx);
            self.handle(now, &executor, ExecutorInput::Tick, fx);
        }
    }

    /// One input through an executor's core, and what comes out of it.
    pub fn handle(
        &mut self,
        now: Time,
        executor: &ContainerId,
        input: ExecutorInput,
        fx: &mut Effects,
    ) {
        let local = self.executors.get_mut(executor);
        let Some(local) = local.filter(|local| local.exit.is_none()) else {
            return;
        };
        let mut effects = std::mem::take(&mut self.effects);
        local.core.handle(now, input, &mut effects);
        for effect in effects.drain() {
            self.carry(now, executor, effect, fx);
        }
        self.effects = effects;
        self.set_timer(executor);
        self.finish_if_gone(executor, fx);
    }

    /// News of a container; `false` if it is not of an executor in this process.
    pub fn container(
        &mut self,
        now: Time,
        container: &ContainerId,
        event: &ContainerEvent,
        fx: &mut Effects,
    ) -> bool {
        let ended = !matches!(event, ContainerEvent::Launched { .. });
        let (executor, probe) = match self.owners.get(container) {
            None => return self.not_taken_back_yet(container, event),
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
            Some(probe) if ended => self.command_ended(now, &executor, probe, event, fx),
            Some(_) => {}
            None => self.task_container(now, &executor, container, event, fx),
        }
        self.finish_if_gone(&executor, fx);
        true
    }

    fn task_container(
        &mut self,
        now: Time,
        executor: &ContainerId,
        container: &ContainerId,
        event: &ContainerEvent,
        fx: &mut Effects,
    ) {
        // The follower wants to know which processes run, before it hears that tasks do. The end of the
        // executor's own container is not the executor's.
        let tell = match event {
            ContainerEvent::Launched { .. } => true,
            ContainerEvent::Exited { .. } => container != executor,
            ContainerEvent::LaunchFailed { .. } => false,
        };
        let (container, event) = (container.clone(), event.clone());
        if tell {
            let (container, event) = (container.clone(), event.clone());
            fx.push(Effect::Input(Input::Container { container, event }));
        }
        let input = ExecutorInput::Container { container, event };
        self.handle(now, executor, input, fx);
    }

    /// Kills an executor and all that it started, as its follower wants.
    pub fn destroy(&mut self, executor: &ContainerId, fx: &mut Effects) {
        self.end(executor, ExitStatus::Signal(SIGKILL), fx);
        self.finish_if_gone(executor, fx);
    }

    /// Forgets an executor. What it started is killed, and nobody hears of it.
    pub fn stop(&mut self, executor: &ContainerId, fx: &mut Effects) {
        self.end(executor, ExitStatus::Signal(SIGKILL), fx);
        self.forget(executor);
    }

    fn carry(
        &mut self,
        now: Time,
        executor: &ContainerId,
        effect: ExecutorEffect,
        fx: &mut Effects,
    ) {
        match effect {
            ExecutorEffect::Call(call) => {
                let container = executor.clone();
                fx.push(Effect::Input(Input::LocalExecutorCall { container, call }));
            }
            ExecutorEffect::Launch(spec) => {
                self.own(executor, &spec.container, Owner::Executor(executor.clone()));
                fx.push(Effect::Launch(spec));
            }
            ExecutorEffect::Signal { container, signal } => {
                fx.push(Effect::Signal { container, signal });
            }
            ExecutorEffect::Destroy { container } => fx.push(Effect::Destroy { container }),
            ExecutorEffect::Forget { container } => fx.push(Effect::Forget { container }),
            ExecutorEffect::Probe { id, probe, timeout } => {
                self.probe(now, executor, id, probe, timeout, fx);
            }
            ExecutorEffect::CancelProbe { id } => {
                let local = self.executors.get_mut(executor);
                if let Some(probing) = local.and_then(|local| local.probes.remove(&id)) {
                    probing.cancel(executor, id, fx);
                }
            }
            ExecutorEffect::Exit(status) => self.end(executor, status, fx),
        }
    }

    fn own(&mut self, executor: &ContainerId, container: &ContainerId, owner: Owner) {
        self.owners.insert(container.clone(), owner);
        if let Some(local) = self.executors.get_mut(executor) {
            local.containers.insert(container.clone());
        }
    }

    /// An executor has ended: what it left behind ends too.
    fn end(&mut self, executor: &ContainerId, status: ExitStatus, fx: &mut Effects) {
        let Some(local) = self.executors.get_mut(executor) else {
            return;
        };
        local.exit.get_or_insert(status);
        for (probe, probing) in std::mem::take(&mut local.probes) {
            probing.cancel(executor, probe, fx);
        }
        if !local.containers.is_empty() {
            // With all that is nested in it.
            let container = executor.clone();
            fx.push(Effect::Destroy { container });
        }
        self.set_timer(executor);
    }

    /// Tells the follower of the end of an executor once nothing of it is left.
    fn finish_if_gone(&mut self, executor: &ContainerId, fx: &mut Effects) {
        let local = self.executors.get(executor);
        let gone = local.filter(|local| local.containers.is_empty());
        let Some(status) = gone.and_then(|local| local.exit) else {
            return;
        };
        self.forget(executor);
        fx.push(Effect::Input(Input::Container {
            container: executor.clone(),
            event: ContainerEvent::Exited {
                status: Some(status),
            },
        }));
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
        let next = local.next_deadline();
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

    /// Panics if an invariant is broken; for tests and the simulator.
    pub fn check(&self) {
        for (id, local) in &self.executors {
            local.core.check();
            let next = local.next_deadline();
            assert_eq!(local.deadline, next, "when {id} is due");
            if let Some(next) = next {
                assert!(
                    self.timers.contains(&(next, id.clone())),
                    "{id} has no timer"
                );
            }
            self.check_containers(id, local);
        }
        let due = self.executors.values().filter(|l| l.deadline.is_some());
        assert_eq!(self.timers.len(), due.count(), "timers of nobody");
    }

    fn check_containers(&self, id: &ContainerId, local: &Local) {
        for container in &local.containers {
            let of = match self.owners.get(container) {
                Some(Owner::Executor(executor) | Owner::Probe { executor, .. }) => Some(executor),
                None => None,
            };
            assert_eq!(of, Some(id), "whose {container} is");
        }
        if local.exit.is_some() {
            assert!(!local.containers.is_empty(), "{id} is not told to be over");
            assert!(local.probes.is_empty(), "{id} is over and probes");
            return;
        }
        for container in local.core.containers() {
            let ours = local.containers.contains(&container);
            assert!(ours, "nobody hears of the end of {container} of {id}");
        }
    }
}
