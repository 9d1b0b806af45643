//! The thread that owns the cores. It waits for inputs and timers and never for a peer or a disk.

use super::{
    FollowerError,
    checkpoints::{Records, Written},
    foreign::Foreign,
    locals::{Inputs, Locals},
    removal,
    restart::Running,
    volumes,
};
use crate::{
    clock::Clock,
    containers::{self, Containers, News},
    files::Files,
    http::stream::{ClosedStreams, Record, Streams},
    net::Links,
    notices::Notices,
    pending::{Job, Tray},
};
use arc_swap::ArcSwap;
use rustc_hash::FxHashMap;
use std::{path::PathBuf, sync::Arc};
use tepui_executor::io::{Input as ExecutorInput, ProbeId, ProbeOutcome};
use tepui_follower::{
    Follower, Phase,
    io::{Checkpoint, Effect, Effects, ExecutorPeer, Input, LocalExecutor, ProcessName, Reply},
    locals,
    qos::Load,
    view::View,
};
use tepui_journal::{Outbox, PersistEffect};
use tepui_model::{
    Rng, StreamId,
    container::{ContainerEvent, ContainerId, LaunchStep},
};
use tepui_protocol::{peer::Pid, v1::executor_info::Type};
use tokio::{
    runtime::Handle,
    sync::{mpsc, oneshot},
};

/// Inputs handled before the view is published and effects are carried out.
const BATCH_INPUTS: usize = 256;

/// What comes from within this process.
pub(super) enum Inner {
    News(News),
    Probed {
        executor: ContainerId,
        probe: ProbeId,
        outcome: ProbeOutcome,
    },
    /// The sandbox of a default executor exists, or cannot be made.
    SandboxReady {
        executor: ContainerId,
        sandbox: PathBuf,
        error: Option<String>,
    },
    /// The links of a sandbox are changed, or cannot be.
    VolumesLinked {
        container: ContainerId,
        sandbox: PathBuf,
        error: Option<String>,
    },
    Load(Load),
    Removed {
        path: PathBuf,
        error: Option<String>,
    },
    ForeignEnded(ContainerId),
    DiskUsage(f64),
    Leader(Option<Pid>),
    Broken(Pid),
    Shutdown(String),
}

/// Where things come from and go to.
pub(super) struct Channels {
    pub(super) jobs: mpsc::Receiver<Job<Input, Reply>>,
    pub(super) closed: ClosedStreams,
    pub(super) inner: mpsc::UnboundedReceiver<Inner>,
    pub(super) tell: mpsc::UnboundedSender<Inner>,
    pub(super) written: Written,
    pub(super) stopped: oneshot::Receiver<()>,
    pub(super) records: Records,
}

/// An effect on its way through the outbox.
#[derive(Debug)]
struct Step(Effect);

impl PersistEffect for Step {
    type Record = Checkpoint;

    fn into_record(self) -> Result<Checkpoint, Self> {
        match self.0 {
            Effect::Persist(checkpoint) => Ok(checkpoint),
            other => Err(Self(other)),
        }
    }
}

pub(super) struct CoreLoop {
    clock: Clock,
    core: Follower,
    effects: Effects,
    outbox: Outbox<Step>,
    locals: Locals,
    foreign: Foreign,
    /// Inputs that came of effects and are to be handled next.
    inputs: Inputs,
    channels: Channels,
    tray: Tray<Reply>,
    streams: Streams,
    links: Links,
    containers: Containers,
    files: Arc<Files>,
    /// Names for directories that do not exist yet.
    unattached: FxHashMap<PathBuf, Vec<String>>,
    view: Arc<ArcSwap<View>>,
    runtime: Handle,
    notices: Notices,
    /// What ran before is still being taken back.
    recovering: bool,
    /// The core's or the launcher's last word.
    over: Option<Result<(), FollowerError>>,
}

/// What woke the loop.
enum Wake {
    Jobs,
    Inner,
    Closed(StreamId),
    Written(Result<(), super::CheckpointError>),
    Deadline,
    Stop,
}

impl CoreLoop {
    /// `begun`: what came of taking back what ran before; `running`: what of it runs.
    pub(super) fn new(
        clock: Clock,
        core: Follower,
        (mut begun, running): (Effects, Running),
        channels: Channels,
        streams: Streams,
        links: Links,
        containers: Containers,
        files: Arc<Files>,
        view: Arc<ArcSwap<View>>,
        rng: Rng,
        runtime: Handle,
    ) -> Self {
        let mut locals = Locals::new(
            rng,
            containers.clone(),
            runtime.clone(),
            channels.tell.clone(),
        );
        locals.found(running.containers);
        let mut foreign = Foreign::default();
        for (container, process) in running.foreign {
            let tell = channels.tell.clone();
            foreign.watch(container, process, move |container| {
                // Nobody listens once the node stops.
                let _ = tell.send(Inner::ForeignEnded(container));
            });
        }
        let mut outbox = Outbox::new();
        for effect in begun.drain() {
            outbox.push(Step(effect));
        }
        Self {
            clock,
            core,
            effects: Effects::default(),
            notices: Notices::default(),
            outbox,
            locals,
            foreign,
            inputs: Vec::new(),
            channels,
            tray: Tray::default(),
            streams,
            links,
            containers,
            files,
            unattached: FxHashMap::default(),
            view,
            runtime,
            recovering: true,
            over: None,
        }
    }

    /// Runs until stopped, or until the core, the launcher or the disk gives up.
    pub(super) fn run(self) -> Result<(), FollowerError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build();
        runtime
            .map_err(FollowerError::Thread)?
            .block_on(self.serve())
    }

    async fn serve(mut self) -> Result<(), FollowerError> {
        let mut jobs = Vec::with_capacity(BATCH_INPUTS);
        let mut inner = Vec::with_capacity(BATCH_INPUTS);
        loop {
            self.carry_out()?;
            if let Some(result) = self.over.take() {
                return result;
            }
            match self.wake(&mut jobs, &mut inner).await {
                Wake::Stop => return Ok(()),
                Wake::Jobs => jobs.drain(..).for_each(|job| self.take(job)),
                Wake::Inner => inner.drain(..).for_each(|inner| self.inner(inner)),
                Wake::Closed(stream) => {
                    if self.streams.closed(stream) {
                        self.handle(Input::StreamClosed { stream });
                    }
                }
                Wake::Written(result) => {
                    result?;
                    self.outbox.written();
                }
                Wake::Deadline => {}
            }
            self.tick();
        }
    }

    async fn wake(&mut self, jobs: &mut Vec<Job<Input, Reply>>, inner: &mut Vec<Inner>) -> Wake {
        let deadlines = [self.core.next_deadline(), self.locals.next_deadline()];
        let deadline = deadlines.into_iter().flatten().min();
        let channels = &mut self.channels;
        tokio::select! {
            count = channels.jobs.recv_many(jobs, BATCH_INPUTS) => match count {
                0 => Wake::Stop,
                _ => Wake::Jobs,
            },
            // This end holds a sender too: there is always another one to come.
            _ = channels.inner.recv_many(inner, BATCH_INPUTS) => Wake::Inner,
            Some(stream) = channels.closed.recv() => Wake::Closed(stream),
            Some(result) = channels.written.recv() => Wake::Written(result),
            () = self.clock.sleep_until(deadline) => Wake::Deadline,
            _ = &mut channels.stopped => Wake::Stop,
        }
    }

    fn tick(&mut self) {
        let now = self.clock.now();
        if self.core.next_deadline().is_some_and(|at| at <= now) {
            self.handle(Input::Tick);
        }
        self.locals
            .step(&mut self.inputs, |core, fx| core.tick(now, fx));
    }

    fn take(&mut self, job: Job<Input, Reply>) {
        if let Some(ticket) = job.ticket {
            self.tray.file(ticket);
        }
        self.handle(job.input);
    }

    fn inner(&mut self, inner: Inner) {
        let now = self.clock.now();
        match inner {
            Inner::News(News::Container { container, event }) => {
                let ours = self.locals.step(&mut self.inputs, |core, fx| {
                    core.container(now, &container, &event, fx)
                });
                if !ours {
                    self.inputs.push(Input::Container { container, event });
                }
            }
            Inner::News(News::SandboxMade(sandbox)) => self.attach_waiting(&sandbox),
            Inner::News(News::LauncherGone) => self.over = Some(Err(FollowerError::LauncherGone)),
            Inner::Probed {
                executor,
                probe,
                outcome,
            } => {
                self.locals
                    .probed(now, executor, probe, outcome, &mut self.inputs);
            }
            Inner::SandboxReady {
                executor,
                sandbox,
                error,
            } => self.sandbox_ready(executor, &sandbox, error),
            Inner::VolumesLinked {
                container,
                sandbox,
                error,
            } => {
                self.attach_waiting(&sandbox);
                self.handle(Input::VolumesLinked { container, error });
            }
            Inner::Load(load) => self.handle(Input::Load(load)),
            Inner::Removed { path, error } => self.handle(Input::Removed { path, error }),
            Inner::ForeignEnded(container) => {
                self.foreign.forget(&container);
                let event = ContainerEvent::Exited { status: None };
                self.inputs.push(Input::Container { container, event });
            }
            Inner::DiskUsage(usage) => self.handle(Input::DiskUsage(usage)),
            Inner::Leader(leader) => self.handle(Input::LeaderDetected(leader)),
            Inner::Broken(pid) => self.handle(Input::LinkBroken { pid }),
            Inner::Shutdown(reason) => self.handle(Input::Shutdown { reason }),
        }
        self.handle_inputs();
    }

    /// One input through the core; its effects into the outbox.
    fn handle(&mut self, input: Input) {
        self.core.handle(self.clock.now(), input, &mut self.effects);
        for effect in self.effects.drain() {
            self.outbox.push(Step(effect));
        }
    }

    fn handle_inputs(&mut self) {
        while !self.inputs.is_empty() {
            for input in std::mem::take(&mut self.inputs) {
                self.handle(input);
            }
        }
    }

    /// Publishes the view, then does what may be done now. Effects may be inputs of executors in
    /// this process, and these inputs of the core again.
    fn carry_out(&mut self) -> Result<(), FollowerError> {
        loop {
            self.handle_inputs();
            self.view.store(self.core.view());
            while let Some(Step(effect)) = self.outbox.release() {
                self.carry(effect);
            }
            if self.inputs.is_empty() {
                break;
            }
        }
        // Every executor that has to do with what is left has been started by then.
        if self.recovering && self.core.view().phase != Phase::Recovering {
            self.recovering = false;
            self.locals
                .step(&mut self.inputs, locals::Locals::discard_rest);
        }
        if let Some(records) = self.outbox.begin() {
            // The thread only ends early by a panic.
            self.channels
                .records
                .send(records)
                .map_err(|_| FollowerError::Core)?;
        }
        Ok(())
    }

    fn carry(&mut self, effect: Effect) {
        match effect {
            // Executors know no stream ids (`docs/executor-http-api.md`).
            Effect::OpenStream { request, stream } => {
                self.tray.open(request, stream, false, &mut self.streams)
            }
            Effect::Event {
                to: ExecutorPeer::Stream(stream),
                event,
            } => {
                self.streams.send(stream, &Record::new(Arc::new(*event)));
            }
            Effect::Event {
                to: ExecutorPeer::Local(executor),
                event,
            } => self.tell_local(&executor, ExecutorInput::Event(event)),
            Effect::CloseStream { stream } => self.streams.close(stream),
            Effect::Reply { request, reply } => self.tray.reply(request, reply),
            Effect::Send { to, from, message } => match from {
                ProcessName::Follower => self.links.send("slave(1)", &to, &message),
                other => self.links.send(&other.to_string(), &to, &message),
            },
            Effect::StartLocalExecutor(local) => self.start_local(*local),
            Effect::StopLocalExecutor { container } => self.stop_local(&container),
            Effect::Launch(spec) => self.containers.launch(spec),
            Effect::LinkVolumes(links) => {
                let tell = self.channels.tell.clone();
                self.runtime
                    .spawn_blocking(move || volumes::link_and_tell(&links, &tell));
            }
            Effect::Destroy { container } if self.locals.contains(&container) => {
                self.locals
                    .step(&mut self.inputs, |core, fx| core.destroy(&container, fx));
            }
            Effect::Destroy { container } if self.foreign.contains(&container) => {
                self.foreign.destroy(&container);
            }
            Effect::Destroy { container } => self.containers.destroy(container),
            Effect::Signal { container, signal } if self.foreign.contains(&container) => {
                self.foreign.signal(&container, signal);
            }
            Effect::Forget { container } => self.containers.forget(container),
            Effect::Signal { container, signal } => self.containers.signal(container, signal),
            Effect::Remove { path } => self.remove(path),
            Effect::Attach { path, name } => self.attach(path, name),
            Effect::Detach { name } => {
                self.files.detach(&name);
                self.unattached.retain(|_, names| {
                    names.retain(|other| *other != name);
                    !names.is_empty()
                });
            }
            Effect::Stop { failed } => {
                let result = if failed {
                    Err(FollowerError::Stopped)
                } else {
                    // Nobody will come to take anything back.
                    self.containers.end_all_at_the_end();
                    Ok(())
                };
                self.over.get_or_insert(result);
            }
            Effect::Log(notice) => self.notices.write(&notice),
            // The outbox takes it out.
            Effect::Persist(_) => {}
        }
    }

    /// The sandbox of a command task is made with its container. A default executor has no
    /// container of its own: its sandbox is made now.
    fn start_local(&mut self, local: LocalExecutor) {
        self.locals
            .step(&mut self.inputs, |core, fx| core.start(&local, fx));
        if local.info.r#type() != Type::Default {
            return self.tell_local(&local.container, ExecutorInput::Connected);
        }
        let tell = self.channels.tell.clone();
        self.runtime.spawn_blocking(move || {
            let LocalExecutor {
                container: executor,
                sandbox,
                latest,
                user,
                ..
            } = local;
            let made = containers::make_sandbox(&sandbox, user.as_deref(), latest.as_deref());
            let error = made.err().map(|error| error.to_string());
            // Nobody listens once the node stops.
            let _ = tell.send(Inner::SandboxReady {
                executor,
                sandbox,
                error,
            });
        });
    }

    fn tell_local(&mut self, executor: &ContainerId, input: ExecutorInput) {
        let now = self.clock.now();
        self.locals.step(&mut self.inputs, |core, fx| {
            core.handle(now, executor, input, fx);
        });
    }

    fn stop_local(&mut self, executor: &ContainerId) {
        self.locals
            .step(&mut self.inputs, |core, fx| core.stop(executor, fx));
    }

    fn sandbox_ready(
        &mut self,
        executor: ContainerId,
        sandbox: &std::path::Path,
        error: Option<String>,
    ) {
        self.attach_waiting(sandbox);
        match error {
            None => self.tell_local(&executor, ExecutorInput::Connected),
            Some(error) => {
                self.stop_local(&executor);
                let message = format!("Failed to create sandbox '{}': {error}", sandbox.display());
                let event = ContainerEvent::LaunchFailed {
                    step: LaunchStep::Sandbox,
                    message,
                };
                self.inputs.push(Input::Container {
                    container: executor,
                    event,
                });
            }
        }
    }

    fn remove(&mut self, path: PathBuf) {
        let tell = self.channels.tell.clone();
        let meta = self.core.view().config.work_dir.join("meta");
        self.runtime.spawn_blocking(move || {
            let error = removal::remove(&path, &meta).err();
            let error = error.map(|error| error.to_string());
            // Nobody listens once the node stops.
            let _ = tell.send(Inner::Removed { path, error });
        });
    }

    fn attach(&mut self, path: PathBuf, name: String) {
        if self.files.attach(&path, &name).is_err() {
            self.unattached.entry(path).or_default().push(name);
        }
    }

    fn attach_waiting(&mut self, path: &std::path::Path) {
        for name in self.unattached.remove(path).unwrap_or_default() {
            if let Err(error) = self.files.attach(path, &name) {
                tracing::warn!(%error, %name, "cannot serve a directory");
            }
        }
    }
}
