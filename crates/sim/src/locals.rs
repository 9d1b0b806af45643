//! The executors that run within a follower, as `node/src/follower/locals.rs` keeps them: which
//! containers are theirs, when their timers are due, and when they are over.

use crate::{env::Env, processes::Found};
use std::collections::{BTreeMap, BTreeSet};
use tepui_executor::{
    Executor, RecoveredContainer, RecoveredTask, Settings,
    io::{Effect, Effects, Input, ProbeOutcome},
};
use tepui_follower::io::{Input as FollowerInput, LocalExecutor, LocalTask};
use tepui_model::{
    ExecutorId, FrameworkId, Rng, Time,
    container::{ContainerEvent, ContainerId, ExitStatus},
};
use tepui_protocol::v1::executor_info::Type;

const SIGKILL: i32 = 9;

/// All of them.
pub(crate) struct Locals {
    machine: u8,
    executors: BTreeMap<ContainerId, Local>,
    owners: BTreeMap<ContainerId, ContainerId>,
    timers: BTreeSet<(Time, ContainerId)>,
    found: Vec<Found>,
    rng: Rng,
}

struct Local {
    core: Executor,
    deadline: Option<Time>,
    containers: BTreeSet<ContainerId>,
    exit: Option<ExitStatus>,
}

pub(crate) type Inputs = Vec<FollowerInput>;

impl Locals {
    pub(crate) fn new(machine: u8, rng: Rng) -> Self {
        Self {
            machine,
            executors: BTreeMap::new(),
            owners: BTreeMap::new(),
            timers: BTreeSet::new(),
            found: Vec::new(),
            rng,
        }
    }

    pub(crate) fn found(&mut self, containers: Vec<Found>) {
        self.found = containers;
    }

    pub(crate) fn discard_rest(&mut self, env: &mut Env) {
        for container in std::mem::take(&mut self.found) {
            env.discard(self.machine, &container.id);
        }
    }

    pub(crate) fn start(&mut self, env: &mut Env, local: &LocalExecutor) {
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
            containers: BTreeSet::new(),
            exit: None,
        };
        self.executors.insert(local.container.clone(), local_);
        if !local.recovered.is_empty() {
            self.take_back(env, local);
        }
    }

    fn take_back(&mut self, env: &mut Env, local: &LocalExecutor) {
        let executor = &local.container;
        let of_executor =
            |id: &ContainerId| id == executor || id.parent.as_deref() == Some(executor);
        let (mut own, others) = std::mem::take(&mut self.found)
            .into_iter()
            .partition(|found: &Found| of_executor(&found.id));
        self.found = others;
        let mut tasks = Vec::new();
        for task in &local.recovered {
            let container = claim(&mut own, task);
            if let Some(container) = &container
                && matches!(container.event, ContainerEvent::Launched { .. })
            {
                self.own(executor, &container.id);
            }
            tasks.push(RecoveredTask {
                info: task.info.clone(),
                group: task.group.clone(),
                state: task.state,
                container,
            });
        }
        for container in own {
            env.discard(self.machine, &container.id);
        }
        if let Some(local) = self.executors.get_mut(executor) {
            local.core.recovered(tasks);
        }
    }

    fn own(&mut self, executor: &ContainerId, container: &ContainerId) {
        self.owners.insert(container.clone(), executor.clone());
        if let Some(local) = self.executors.get_mut(executor) {
            local.containers.insert(container.clone());
        }
    }

    pub(crate) fn contains(&self, container: &ContainerId) -> bool {
        self.executors.contains_key(container)
    }

    pub(crate) fn next_deadline(&self) -> Option<Time> {
        self.timers.first().map(|(time, _)| *time)
    }

    pub(crate) fn due(&self, now: Time) -> Vec<ContainerId> {
        let due = self.timers.iter().take_while(|(at, _)| *at <= now);
        due.map(|(_, container)| container.clone()).collect()
    }

    pub(crate) fn handle(
        &mut self,
        env: &mut Env,
        now: Time,
        executor: &ContainerId,
        input: Input,
        out: &mut Inputs,
    ) {
        let local = self.executors.get_mut(executor);
        let Some(local) = local.filter(|local| local.exit.is_none()) else {
            return;
        };
        let mut effects = Effects::default();
        local.core.handle(now, input, &mut effects);
        local.core.check();
        for effect in effects.drain() {
            self.carry(env, now, executor, effect, out);
        }
        self.set_timer(executor);
        self.finish_if_gone(executor, out);
    }

    /// News of a container; `false` if it is not of an executor in this process.
    pub(crate) fn container(
        &mut self,
        env: &mut Env,
        now: Time,
        container: &ContainerId,
        event: ContainerEvent,
        out: &mut Inputs,
    ) -> bool {
        let ended = !matches!(event, ContainerEvent::Launched { .. });
        let Some(executor) = self.owners.get(container).cloned() else {
            return false;
        };
        if ended {
            self.owners.remove(container);
            if let Some(local) = self.executors.get_mut(&executor) {
                local.containers.remove(container);
            }
        }
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
        self.handle(env, now, &executor, input, out);
        self.finish_if_gone(&executor, out);
        true
    }

    pub(crate) fn destroy(&mut self, env: &mut Env, executor: &ContainerId, out: &mut Inputs) {
        self.end(env, executor, ExitStatus::Signal(SIGKILL));
        self.finish_if_gone(executor, out);
    }

    pub(crate) fn stop(&mut self, env: &mut Env, executor: &ContainerId) {
        self.end(env, executor, ExitStatus::Signal(SIGKILL));
        self.forget(executor);
    }

    fn carry(
        &mut self,
        env: &mut Env,
        now: Time,
        executor: &ContainerId,
        effect: Effect,
        out: &mut Inputs,
    ) {
        match effect {
            Effect::Call(call) => out.push(FollowerInput::LocalExecutorCall {
                container: executor.clone(),
                call,
            }),
            Effect::Launch(spec) => {
                self.own(executor, &spec.container);
                env.launch(self.machine, spec);
            }
            Effect::Signal { container, signal } => env.signal(self.machine, &container, signal),
            Effect::Destroy { container } => env.destroy(self.machine, &container),
            Effect::Forget { container } => env.forget(self.machine, &container),
            Effect::Probe { id, .. } => {
                let outcome = ProbeOutcome::Failed("nothing is probed here".to_owned());
                let input = Input::Probed { probe: id, outcome };
                self.handle(env, now, executor, input, out);
            }
            Effect::CancelProbe { .. } => {}
            Effect::Exit(status) => self.end(env, executor, status),
        }
    }

    fn end(&mut self, env: &mut Env, executor: &ContainerId, status: ExitStatus) {
        let Some(local) = self.executors.get_mut(executor) else {
            return;
        };
        local.exit.get_or_insert(status);
        if !local.containers.is_empty() {
            env.destroy(self.machine, executor);
        }
        self.set_timer(executor);
    }

    fn finish_if_gone(&mut self, executor: &ContainerId, out: &mut Inputs) {
        let local = self.executors.get(executor);
        let gone = local.filter(|local| local.containers.is_empty());
        let Some(status) = gone.and_then(|local| local.exit) else {
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
        let next = match local.exit {
            Some(_) => None,
            None => local.core.next_deadline(),
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

/// Takes out the container of a task.
fn claim(found: &mut Vec<Found>, task: &LocalTask) -> Option<RecoveredContainer> {
    let named = |c: &Found| *c.name == *task.info.task_id.value;
    let runs = |c: &Found| matches!(c.event, ContainerEvent::Launched { .. });
    let index = found
        .iter()
        .position(|c| named(c) && runs(c))
        .or_else(|| found.iter().position(named))?;
    let container = found.swap_remove(index);
    Some(RecoveredContainer {
        id: container.id,
        event: container.event,
        told: container.told,
        running_for: container.running_for,
    })
}
