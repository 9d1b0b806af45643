//! Core of the built-in executors: the command executor, which runs the one task it stands for, and
//! the default executor, which runs task groups in nested containers.
//!
//! The reference runs each of them as a process of its own per task. Here they are state machines
//! inside the follower, so a task costs no more than its own command. They still speak the v1
//! executor API to the follower, as values: everything that the follower decides about executors
//! (registration, queued tasks, acknowledgement, termination) works the same way for them.
//!
//! Call order: [`Executor::handle`] with [`Input::Connected`] once the follower listens, then with
//! whatever happens; [`Executor::next_deadline`] after each call says when to send [`Input::Tick`].
//! After [`io::Effect::Exit`] nothing more comes out.
//!
//! The containers of tasks may outlive the follower, and the executors in it. A new one is then told
//! what there was ([`Executor::recovered`]) and goes on.

mod checks;
mod command;
mod group;
pub mod io;
mod session;
mod task;

use io::{Effects, Input};
use std::{path::PathBuf, sync::Arc, time::Duration};
use tepui_model::{
    ExecutorId, FrameworkId, Rng, Time,
    container::{ContainerEvent, ContainerId},
};
use tepui_protocol::v1::{self, TaskState, executor::event};

/// What an executor is told about itself when it starts.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its framework.
    pub framework: FrameworkId,
    /// Its id.
    pub executor: ExecutorId,
    /// Its container; the tasks of a default executor are nested in it.
    pub container: ContainerId,
    /// Its sandbox.
    pub sandbox: PathBuf,
    /// Symlink to point at the sandbox of a command task once that exists (`…/runs/latest`).
    pub latest: Option<PathBuf>,
    /// User that tasks run as when they name none.
    pub user: Option<String>,
    /// Environment that every task gets before its own variables.
    pub environment: Vec<(String, String)>,
    /// How long the follower waits after SHUTDOWN before it kills (`--executor_shutdown_grace_period`).
    pub shutdown_grace_period: Duration,
    /// Its tasks go on when the follower ends; see [`Executor::recovered`].
    pub outlives: bool,
}

/// A task of an executor that ran in an earlier follower.
#[derive(Clone, Debug)]
pub struct RecoveredTask {
    /// As it was launched.
    pub info: v1::TaskInfo,
    /// Tasks of a group have the same.
    pub group: Option<Arc<str>>,
    /// The last state that its follower has made durable. `None`: it had heard nothing yet.
    pub state: Option<TaskState>,
    /// What is known of its container. `None`: there never was one.
    pub container: Option<RecoveredContainer>,
}

/// The container of a [`RecoveredTask`].
#[derive(Clone, Debug)]
pub struct RecoveredContainer {
    /// Which.
    pub id: ContainerId,
    /// `Launched`: it runs. Otherwise how it ended.
    pub event: ContainerEvent,
    /// Its end had begun: it was signalled or destroyed.
    pub told: bool,
    /// Time since its command was started.
    pub running_for: Duration,
}

/// One built-in executor.
#[derive(Debug)]
pub struct Executor {
    session: session::Session,
    kind: Kind,
    /// What it is to take back once it is subscribed.
    recovered: Vec<RecoveredTask>,
}

#[derive(Debug)]
enum Kind {
    Command(command::Command),
    Group(group::Group),
}

impl Executor {
    /// The executor of one command task.
    pub fn command(settings: Settings, rng: Rng) -> Self {
        Self {
            session: session::Session::new(settings, rng),
            kind: Kind::Command(command::Command::default()),
            recovered: Vec::new(),
        }
    }

    /// The default executor (`ExecutorInfo.type = DEFAULT`).
    pub fn default_executor(settings: Settings, rng: Rng) -> Self {
        Self {
            session: session::Session::new(settings, rng),
            kind: Kind::Group(group::Group::default()),
            recovered: Vec::new(),
        }
    }

    /// Has it take back, once it is subscribed, what an executor of the same kind ran in an earlier
    /// follower: tasks that run go on, tasks that have ended are reported, tasks that never started
    /// are launched. The last state of none of them may be terminal.
    ///
    /// Comes before the first [`Self::handle`].
    pub fn recovered(&mut self, tasks: Vec<RecoveredTask>) {
        self.recovered = tasks;
    }

    /// Applies one input. Never blocks, never reads a clock.
    pub fn handle(&mut self, now: Time, input: Input, effects: &mut Effects) {
        let Self {
            session,
            kind,
            recovered,
        } = self;
        if session.exited() {
            return;
        }
        session.begin(now);
        match input {
            Input::Connected => session.connected(kind.unacknowledged_tasks(), effects),
            Input::Tick => {}
            Input::Event(event) => {
                let subscribed = event.r#type() == event::Type::Subscribed;
                kind.event(session, *event, effects);
                if subscribed && !recovered.is_empty() {
                    kind.take_back(session, std::mem::take(recovered), effects);
                }
            }
            Input::Container { container, event } => {
                let waiting = recovered.iter_mut().filter_map(|t| t.container.as_mut());
                match waiting.into_iter().find(|c| c.id == container) {
                    Some(waiting) => waiting.event = event,
                    None => kind.container(session, &container, event, effects),
                }
            }
            Input::Probed { probe, outcome } => kind.probed(session, probe, outcome, effects),
        }
        // Whatever happened, what is due is due: a shell that is late with a tick loses nothing.
        if !session.exited() {
            session.retry_subscribe(|| kind.unacknowledged_tasks(), effects);
            kind.tick(session, effects);
        }
    }

    /// When to call again with [`Input::Tick`] if nothing else arrives.
    pub fn next_deadline(&self) -> Option<Time> {
        if self.session.exited() {
            return None;
        }
        let tasks = match &self.kind {
            Kind::Command(command) => command.next_deadline(),
            Kind::Group(group) => group.next_deadline(),
        };
        [tasks, self.session.next_deadline()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Containers that this executor started and that have not ended.
    pub fn containers(&self) -> Vec<ContainerId> {
        let mut containers = match &self.kind {
            Kind::Command(command) => command.containers(),
            Kind::Group(group) => group.containers(),
        };
        let waiting = self.recovered.iter().filter_map(|t| t.container.as_ref());
        let run = waiting.filter(|c| matches!(c.event, ContainerEvent::Launched { .. }));
        containers.extend(run.map(|c| c.id.clone()));
        containers
    }

    /// Panics if an invariant is broken; tests and simulations call it after every step.
    pub fn check(&self) {
        self.session.check();
        if let Kind::Group(group) = &self.kind {
            group.check();
        }
    }
}

impl Kind {
    fn event(
        &mut self,
        session: &mut session::Session,
        event: v1::executor::Event,
        effects: &mut Effects,
    ) {
        match self {
            Kind::Command(command) => command.event(session, event, effects),
            Kind::Group(group) => group.event(session, event, effects),
        }
    }

    fn take_back(
        &mut self,
        session: &mut session::Session,
        tasks: Vec<RecoveredTask>,
        effects: &mut Effects,
    ) {
        match self {
            Kind::Command(command) => command.take_back(session, tasks, effects),
            Kind::Group(group) => group.take_back(session, tasks, effects),
        }
    }

    fn container(
        &mut self,
        session: &mut session::Session,
        container: &ContainerId,
        event: ContainerEvent,
        effects: &mut Effects,
    ) {
        match self {
            Kind::Command(command) => command.container(session, container, event, effects),
            Kind::Group(group) => group.container(session, container, event, effects),
        }
    }

    fn probed(
        &mut self,
        session: &mut session::Session,
        probe: io::ProbeId,
        outcome: io::ProbeOutcome,
        effects: &mut Effects,
    ) {
        match self {
            Kind::Command(command) => command.probed(session, probe, &outcome, effects),
            Kind::Group(group) => group.probed(session, probe, &outcome, effects),
        }
    }

    fn tick(&mut self, session: &mut session::Session, effects: &mut Effects) {
        match self {
            Kind::Command(command) => command.tick(session, effects),
            Kind::Group(group) => group.tick(session, effects),
        }
    }

    /// Tasks that the follower may not have heard of yet, for SUBSCRIBE.
    fn unacknowledged_tasks(&self) -> Vec<v1::TaskInfo> {
        match self {
            Kind::Command(command) => command.unacknowledged_tasks(),
            Kind::Group(group) => group.unacknowledged_tasks(),
        }
    }
}
