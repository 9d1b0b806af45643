//! Containers as the shell of a follower sees them: [`Containers`] takes launches, signals and
//! destructions and never blocks; what becomes of them comes back as [`News`].
//!
//! One task owns the socket of the launcher process (`tepui-containers`). A launch is prepared
//! beside it (user looked up, plan made, sandbox made, URIs fetched) and only then handed to the
//! launcher. Everything that was asked to launch ends in exactly one `LaunchFailed` or `Exited`.

mod prepare;
mod supervisor;

pub use prepare::{SANDBOX_MODE, make_sandbox};

use crate::fetcher::Fetcher;
use rustc_hash::FxHashMap;
use std::{
    io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tepui_containers::linux::{self, Launcher, Usage};
use tepui_model::container::{ContainerEvent, ContainerId, LaunchSpec};
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
    /// The launcher is gone, and all containers with it: each has been reported as exited.
    LauncherGone,
}

/// The containers of a node. Clones share them. Dropping all of them ends the launcher and with it
/// every container.
#[derive(Clone)]
pub struct Containers {
    orders: mpsc::UnboundedSender<Order>,
    inits: Inits,
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
}

impl Containers {
    /// Takes over a launcher. `news` must not block. The other result tells when all is over: after
    /// the last clone of the first was dropped.
    pub fn start(
        launcher: Launcher,
        fetcher: Fetcher,
        news: impl Fn(News) + Send + Sync + 'static,
    ) -> io::Result<(Self, ContainersEnd)> {
        let (orders, queue) = mpsc::unbounded_channel();
        let inits = Inits::default();
        let supervisor =
            supervisor::Supervisor::new(launcher, fetcher, inits.clone(), Box::new(news))?;
        let (ended, end) = oneshot::channel();
        tokio::spawn(supervisor.run(queue, ended));
        Ok((Self { orders, inits }, ContainersEnd(end)))
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
