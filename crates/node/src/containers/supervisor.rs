//! The task that owns the launcher's socket and knows every container's stage.

use super::{
    Inits, News, Order, is_within, lock,
    prepare::{Failed, prepare},
};
use crate::fetcher::Fetcher;
use rustc_hash::{FxHashMap, FxHashSet};
use std::{io, os::unix::net::UnixStream as StdUnixStream, path::Path, sync::Arc, time::Duration};
use tepui_containers::{
    linux::{self, Found, Launcher},
    message::{Frames, Report, Request, SignalScope},
    plan::{OnSupervisorDeath, ProcessPlan},
};
use tepui_model::container::{ContainerEvent, ContainerId, LaunchSpec, LaunchStep};
use tokio::{
    io::Interest,
    net::UnixStream,
    sync::{mpsc, oneshot, watch},
};

/// Bytes read from the launcher at a time.
const READ_BYTES: usize = 64 << 10;
/// How long the launcher may take to read what it is told last.
const END_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) struct Supervisor {
    socket: UnixStream,
    /// Requests that the socket has not taken yet.
    outgoing: Vec<u8>,
    incoming: Frames,
    fetcher: Fetcher,
    inits: Inits,
    news: Arc<dyn Fn(News) + Send + Sync>,
    stages: FxHashMap<ContainerId, Stage>,
    /// Where records are.
    state: Option<Arc<Path>>,
    /// Nobody is to hear of these; their records go when they are gone.
    discarded: FxHashSet<ContainerId>,
    /// Their records go when they are gone: until then a launcher may be taking them back by these.
    forgotten: FxHashSet<ContainerId>,
    /// What outlives others ends with this process as well.
    end_all: bool,
    prepared: (
        mpsc::UnboundedSender<Prepared>,
        mpsc::UnboundedReceiver<Prepared>,
    ),
    /// The launcher works.
    alive: bool,
    launcher_pid: u32,
}

enum Stage {
    Preparing {
        cancel: watch::Sender<bool>,
    },
    /// The launcher has it, whether or not it has said so.
    Launched {
        /// It outlives the launcher.
        kept: bool,
    },
}

struct Prepared {
    container: ContainerId,
    result: Result<Box<ProcessPlan>, Failed>,
}

impl Supervisor {
    pub(super) fn new(
        launcher: Launcher,
        fetcher: Fetcher,
        inits: Inits,
        state: Option<Arc<Path>>,
        news: Box<dyn Fn(News) + Send + Sync>,
    ) -> io::Result<Self> {
        let socket = StdUnixStream::from(launcher.socket);
        socket.set_nonblocking(true)?;
        Ok(Self {
            socket: UnixStream::from_std(socket)?,
            outgoing: Vec::new(),
            incoming: Frames::default(),
            fetcher,
            inits,
            news: news.into(),
            stages: FxHashMap::default(),
            state,
            discarded: FxHashSet::default(),
            forgotten: FxHashSet::default(),
            end_all: false,
            prepared: mpsc::unbounded_channel(),
            alive: true,
            launcher_pid: launcher.pid,
        })
    }

    /// Runs until nobody holds the containers any more; then ends all that do not outlive it, and
    /// their launcher.
    pub(super) async fn run(
        mut self,
        orders: mpsc::UnboundedReceiver<Order>,
        ended: oneshot::Sender<()>,
    ) {
        self.serve(orders).await;
        for stage in self.stages.values() {
            if let Stage::Preparing { cancel } = stage {
                cancel.send_replace(true);
            }
        }
        if self.end_all && self.alive {
            Request::End.encode(&mut self.outgoing);
            let said = tokio::time::timeout(END_TIMEOUT, self.say()).await;
            if !matches!(said, Ok(Ok(()))) {
                tracing::warn!("some containers may outlive this process");
            }
        }
        let pid = self.launcher_pid;
        match self.socket.into_std() {
            Ok(socket) => {
                let launcher = Launcher {
                    socket: socket.into(),
                    pid,
                };
                // An error means that it was waited for by somebody else.
                let _ = tokio::task::spawn_blocking(move || launcher.stop()).await;
            }
            Err(error) => tracing::warn!(%error, "cannot wait for the launcher of containers"),
        }
        // Nobody may wait.
        let _ = ended.send(());
    }

    async fn serve(&mut self, mut orders: mpsc::UnboundedReceiver<Order>) {
        loop {
            let interest = if self.outgoing.is_empty() {
                Interest::READABLE
            } else {
                Interest::READABLE | Interest::WRITABLE
            };
            tokio::select! {
                order = orders.recv() => match order {
                    Some(order) => self.order(order),
                    None => return,
                },
                Some(prepared) = self.prepared.1.recv() => self.prepared(prepared),
                ready = self.socket.ready(interest), if self.alive => {
                    if let Err(error) = self.exchange(ready.map(|ready| ready.is_readable())) {
                        self.launcher_gone(&error);
                    }
                }
            }
        }
    }

    fn order(&mut self, order: Order) {
        match order {
            Order::Launch(spec) => self.launch(spec),
            Order::Signal { container, signal } => {
                if matches!(self.stages.get(&container), Some(Stage::Launched { .. })) {
                    self.request(&Request::Signal {
                        container,
                        signal,
                        scope: SignalScope::Tree,
                    });
                }
            }
            Order::Destroy { container } => self.destroy(&container),
            Order::Adopt(found) => self.adopt(&found),
            Order::Forget { container } => self.forget_once_gone(container),
            Order::Discard { container } => self.discard(container),
            Order::EndAll => self.end_all = true,
        }
    }

    fn adopt(&mut self, found: &Found) {
        let container = found.container.clone();
        self.stages
            .insert(container, Stage::Launched { kept: true });
        self.request(&found.adoption());
    }

    fn forget(&self, container: ContainerId) {
        if let Some(state) = self.state.clone() {
            tokio::task::spawn_blocking(move || {
                if let Err(error) = linux::forget(&state, &container) {
                    tracing::warn!(%error, %container, "cannot remove the record of a container");
                }
            });
        }
    }

    fn running(&self, container: &ContainerId) -> impl Iterator<Item = &ContainerId> {
        self.stages
            .keys()
            .filter(move |id| is_within(id, container))
    }

    fn forget_once_gone(&mut self, container: ContainerId) {
        if self.running(&container).next().is_none() {
            return self.forget(container);
        }
        self.forgotten.insert(container);
    }

    /// A container has ended.
    fn forget_ended(&mut self, ended: &ContainerId) {
        let of_it = self.forgotten.iter().filter(|id| is_within(ended, id));
        let over: Vec<ContainerId> = of_it
            .filter(|id| self.running(id).next().is_none())
            .cloned()
            .collect();
        for container in over {
            self.forgotten.remove(&container);
            self.forget(container);
        }
    }

    fn discard(&mut self, container: ContainerId) {
        let running: Vec<ContainerId> = self.running(&container).cloned().collect();
        if running.is_empty() {
            return self.forget(container);
        }
        self.discarded.extend(running);
        self.destroy(&container);
    }

    /// Waits until the launcher has taken every request.
    async fn say(&mut self) -> io::Result<()> {
        while !self.outgoing.is_empty() {
            self.socket.writable().await?;
            self.write()?;
        }
        Ok(())
    }

    fn launch(&mut self, spec: Box<LaunchSpec>) {
        let container = spec.container.clone();
        if self.stages.contains_key(&container) {
            // Ids are random; answering would end the other one in the eyes of its owner.
            tracing::error!(%container, "a container of this id exists already");
            return;
        }
        let (cancel, cancelled) = watch::channel(false);
        self.stages
            .insert(container.clone(), Stage::Preparing { cancel });
        let (fetcher, news, done, state) = (
            self.fetcher.clone(),
            self.news.clone(),
            self.prepared.0.clone(),
            self.state.clone(),
        );
        tokio::spawn(async move {
            let made = move |sandbox| news(News::SandboxMade(sandbox));
            let result = prepare(spec, fetcher, state, cancelled, made).await;
            // An error means that the supervisor stopped.
            let _ = done.send(Prepared { container, result });
        });
    }

    fn prepared(&mut self, Prepared { container, result }: Prepared) {
        let Some(Stage::Preparing { cancel }) = self.stages.get(&container) else {
            return;
        };
        let cancelled = *cancel.borrow();
        match result {
            Ok(_) if cancelled => {
                self.failed(
                    container,
                    (
                        LaunchStep::Start,
                        "Destroyed before its command was started".to_owned(),
                    ),
                );
            }
            Ok(_) if !self.alive => {
                self.failed(
                    container,
                    (
                        LaunchStep::Start,
                        "The launcher of containers is gone".to_owned(),
                    ),
                );
            }
            Ok(plan) => {
                let kept = matches!(plan.on_supervisor_death, OnSupervisorDeath::KeepRunning(_));
                self.stages.insert(container, Stage::Launched { kept });
                self.request(&Request::Launch(plan));
            }
            Err(failed) => self.failed(container, failed),
        }
    }

    fn destroy(&mut self, container: &ContainerId) {
        let mut launched = false;
        for (id, stage) in self
            .stages
            .iter()
            .filter(|(id, _)| is_within(id, container))
        {
            match stage {
                Stage::Preparing { cancel } => {
                    tracing::debug!(container = %id, "cancelling a launch");
                    cancel.send_replace(true);
                }
                Stage::Launched { .. } => launched = true,
            }
        }
        // The launcher ends those nested in it as well.
        if launched {
            self.request(&Request::Destroy {
                container: container.clone(),
            });
        }
    }

    fn failed(&mut self, container: ContainerId, (step, message): Failed) {
        self.stages.remove(&container);
        self.tell(container, ContainerEvent::LaunchFailed { step, message });
    }

    fn tell(&self, container: ContainerId, event: ContainerEvent) {
        (self.news)(News::Container { container, event });
    }

    fn request(&mut self, request: &Request) {
        if !self.alive {
            return;
        }
        request.encode(&mut self.outgoing);
        if let Err(error) = self.write() {
            self.launcher_gone(&error);
        }
    }

    /// The socket may be ready: writes and reads what goes without waiting.
    fn exchange(&mut self, readable: io::Result<bool>) -> io::Result<()> {
        let readable = readable?;
        self.write()?;
        if readable { self.read() } else { Ok(()) }
    }

    fn write(&mut self) -> io::Result<()> {
        while !self.outgoing.is_empty() {
            match self.socket.try_write(&self.outgoing) {
                Ok(written) => drop(self.outgoing.drain(..written)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn read(&mut self) -> io::Result<()> {
        let mut buffer = vec![0; READ_BYTES];
        loop {
            match self.socket.try_read(&mut buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => self.incoming.push(&buffer[..read]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
            self.reports()?;
        }
    }

    fn reports(&mut self) -> io::Result<()> {
        let malformed = |_| io::Error::from(io::ErrorKind::InvalidData);
        while let Some(frame) = self.incoming.next().map_err(malformed)? {
            let report = Report::decode(frame).map_err(malformed)?;
            if let Report::Launched {
                container, init, ..
            } = &report
            {
                lock(&self.inits).insert(container.clone(), *init);
            }
            let (container, event) = report.into_event();
            let ended = !matches!(event, ContainerEvent::Launched { .. });
            if ended {
                lock(&self.inits).remove(&container);
                self.stages.remove(&container);
                self.forget_ended(&container);
            }
            match self.discarded.contains(&container) {
                true if ended => {
                    self.discarded.remove(&container);
                    self.forget(container);
                }
                true => {}
                false => (self.news)(News::Container { container, event }),
            }
        }
        Ok(())
    }

    /// Without the launcher nothing can be started, and nothing runs but what outlives it: of that
    /// nothing is said, since nothing is known. The next follower will.
    fn launcher_gone(&mut self, error: &io::Error) {
        tracing::error!(%error, "the launcher of containers is gone");
        self.alive = false;
        self.outgoing.clear();
        lock(&self.inits).clear();
        let launched = |stage: &Stage| matches!(stage, Stage::Launched { kept: false });
        let gone: Vec<_> = self
            .stages
            .iter()
            .filter(|(_, s)| launched(s))
            .map(|(id, _)| id.clone())
            .collect();
        for container in gone {
            self.stages.remove(&container);
            self.tell(container, ContainerEvent::Exited { status: None });
        }
        (self.news)(News::LauncherGone);
    }
}
