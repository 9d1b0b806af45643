//! Containers as the shell of a follower sees them: [`Containers`] takes launches, signals and
//! destructions and never blocks; what becomes of them comes back as [`News`].
//!
//! One task owns the socket of the launcher process (`tepui-containers`). A launch is prepared
//! beside it (user looked up, plan made, sandbox made, URIs fetched) and only then handed to the
//! launcher. Everything that was asked to launch ends in exactly one `LaunchFailed` or `Exited`.
//!
//! Some outlive the follower ([`LaunchSpec::outlives`]): their records lie in the state directory,
//! and [`Containers::recover`] of the next follower says what became of them.

mod prepare;
mod supervisor;

pub use prepare::{SANDBOX_MODE, make_sandbox};

use crate::fetcher::Fetcher;
use rustc_hash::FxHashMap;
use std::time::Duration;
use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tepui_containers::linux::{self, Found, Launcher, Usage};
use tepui_model::container::{ContainerEvent, ContainerId, ExitStatus, LaunchSpec, LaunchStep};
use tokio::sync::{mpsc, oneshot};

/// What comes back.
#[derive(Debug, PartialEq)]
pub enum News {
    /// Something happened to a container.
    Container {
        /// Which.
        container: ContainerId,
        /// What.
        event: ContainerEvent,
    },
    /// A sandbox exists from now on.
    SandboxMade(PathBuf),
    /// The launcher is gone, and all containers with it: each has been reported as exited, but for
    /// those that outlive it, of which nothing is said.
    LauncherGone,
}

/// A container of an earlier follower.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecoveredContainer {
    /// Which.
    pub id: ContainerId,
    /// What it was launched with as [`LaunchSpec::outlives`]. Empty if its record is damaged; then it
    /// was ended.
    pub name: String,
    /// What became of it.
    pub fate: Fate,
    /// Its follower had begun to end it: sent a signal, or told it to be destroyed.
    pub told: bool,
    /// Time since its command was started; nothing unless it runs.
    pub running_for: Duration,
}

/// What became of a container whose follower ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It runs, and is ours again: there will be news of its end.
    Running {
        /// Process id of its command.
        pid: u32,
    },
    /// It is over, and there will be no news of it. `None`: nobody knows how it ended.
    Exited(Option<ExitStatus>),
    /// Its command could not be started; there will be no news of it.
    Failed(LaunchStep, String),
}

impl Fate {
    /// The news there would have been.
    pub fn event(&self) -> ContainerEvent {
        match self {
            Self::Running { pid } => ContainerEvent::Launched { pid: *pid },
            Self::Exited(status) => ContainerEvent::Exited { status: *status },
            Self::Failed(step, message) => ContainerEvent::LaunchFailed {
                step: *step,
                message: message.clone(),
            },
        }
    }
}

/// The containers of a node. Clones share them. Dropping all of them ends the launcher and with it
/// every container that does not outlive it.
#[derive(Clone)]
pub struct Containers {
    orders: mpsc::UnboundedSender<Order>,
    inits: Inits,
    state: Option<Arc<Path>>,
}

/// Tells when no container and no launcher is left.
#[derive(Debug)]
pub struct ContainersEnd(oneshot::Receiver<()>);

impl ContainersEnd {
    /// Waits for it.
    pub async fn wait(self) {
        // An error means that the runtime has dropped the supervisor.
        let _ = self.0.await;
    }
}

/// Process that leads each running container.
type Inits = Arc<Mutex<FxHashMap<ContainerId, u32>>>;

enum Order {
    Launch(Box<LaunchSpec>),
    Signal { container: ContainerId, signal: i32 },
    Destroy { container: ContainerId },
    Adopt(Box<Found>),
    Forget { container: ContainerId },
    Discard { container: ContainerId },
    EndAll,
}

impl Containers {
    /// Takes over a launcher. `news` must not block. The other result tells when all is over: after
    /// the last clone of the first was dropped.
    ///
    /// Records of containers that outlive this process are kept below `state`; without it none does.
    pub fn start(
        launcher: Launcher,
        fetcher: Fetcher,
        state: Option<PathBuf>,
        news: impl Fn(News) + Send + Sync + 'static,
    ) -> io::Result<(Self, ContainersEnd)> {
        let (orders, queue) = mpsc::unbounded_channel();
        let inits = Inits::default();
        let state: Option<Arc<Path>> = state.map(Into::into);
        let supervisor = supervisor::Supervisor::new(
            launcher,
            fetcher,
            inits.clone(),
            state.clone(),
            Box::new(news),
        )?;
        let (ended, end) = oneshot::channel();
        tokio::spawn(supervisor.run(queue, ended));
        let containers = Self {
            orders,
            inits,
            state,
        };
        Ok((containers, ContainersEnd(end)))
    }

    /// What an earlier follower left in the state directory. Those that run are taken over. Call it
    /// before launching anything, and once.
    ///
    /// Waits until the earlier launcher is gone; fails if that takes too long, since then another
    /// follower may be using the directory.
    pub async fn recover(&self) -> io::Result<Vec<RecoveredContainer>> {
        let Some(state) = self.state.clone() else {
            return Ok(Vec::new());
        };
        let found = tokio::task::spawn_blocking(move || linux::recover(&state)).await??;
        let recovered = found.into_iter().map(|found| self.take_back(found));
        Ok(recovered.collect())
    }

    fn take_back(&self, found: Found) -> RecoveredContainer {
        let fate = match found.fate.clone() {
            linux::Fate::Running { pid, .. } => Fate::Running { pid },
            linux::Fate::Exited(status) => Fate::Exited(status),
            linux::Fate::Failed(step, message) => Fate::Failed(step, message),
        };
        let recovered = RecoveredContainer {
            id: found.container.clone(),
            name: found.name.clone(),
            fate,
            told: found.told,
            running_for: found.running_for,
        };
        if let linux::Fate::Running { init, .. } = found.fate {
            lock(&self.inits).insert(found.container.clone(), init);
            self.order(Order::Adopt(Box::new(found)));
        }
        recovered
    }

    /// The end of a container has been taken over durably: removes its record, and those of the ones
    /// nested in it. Nothing to do for containers that have none.
    pub fn forget(&self, container: ContainerId) {
        self.order(Order::Forget { container });
    }

    /// For one from [`Self::recover`] that nobody wants: kills it, if it runs, and those nested in
    /// it, and removes their records when they are gone. There is no news of it.
    pub fn discard(&self, container: ContainerId) {
        self.order(Order::Discard { container });
    }

    /// From now on nothing outlives this process: its end ends every container.
    pub fn end_all_at_the_end(&self) {
        self.order(Order::EndAll);
    }

    /// Starts a container.
    pub fn launch(&self, spec: Box<LaunchSpec>) {
        self.order(Order::Launch(spec));
    }

    /// Signals every process of a container; one that is not running gets nothing.
    pub fn signal(&self, container: ContainerId, signal: i32) {
        self.order(Order::Signal { container, signal });
    }

    /// Kills a container and those nested in it, or stops their launch.
    pub fn destroy(&self, container: ContainerId) {
        self.order(Order::Destroy { container });
    }

    /// What a container and those nested in it use. Reads files: call it where that may block.
    /// `None`: nothing of it runs.
    pub fn usage(&self, container: &ContainerId) -> Option<Usage> {
        let inits: Vec<u32> = {
            let inits = lock(&self.inits);
            inits
                .iter()
                .filter(|(id, _)| is_within(id, container))
                .map(|(_, init)| *init)
                .collect()
        };
        let mut usages = inits.into_iter().filter_map(|init| linux::usage(init).ok());
        let first = usages.next()?;
        Some(usages.fold(first, |sum, usage| Usage {
            cpus_user_time_secs: sum.cpus_user_time_secs + usage.cpus_user_time_secs,
            cpus_system_time_secs: sum.cpus_system_time_secs + usage.cpus_system_time_secs,
            mem_rss_bytes: sum.mem_rss_bytes + usage.mem_rss_bytes,
            processes: sum.processes + usage.processes,
            threads: sum.threads + usage.threads,
        }))
    }

    fn order(&self, order: Order) {
        // An error means that the supervisor stopped, with the runtime.
        let _ = self.orders.send(order);
    }
}

/// Whether a container is another or nested in it.
fn is_within(container: &ContainerId, other: &ContainerId) -> bool {
    container == other
        || container
            .parent
            .as_ref()
            .is_some_and(|parent| is_within(parent, other))
}

fn lock(inits: &Inits) -> MutexGuard<'_, FxHashMap<ContainerId, u32>> {
    inits.lock().unwrap_or_else(PoisonError::into_inner)
}
