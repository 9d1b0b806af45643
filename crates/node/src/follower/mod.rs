//! The follower's shell: one thread owns the core and the executor cores; everybody else talks to
//! it through its inbox and reads the view it publishes.
//!
//! | file | does |
//! |---|---|
//! | `core_loop` | the thread: inputs, `handle`, publish the view, effects through the outbox |
//! | `locals` | what the executors that run in this process want: containers, requests |
//! | `probes` | HTTP and TCP probes |
//! | `checkpoints` | the thread that writes what must survive; `durable`: how a file is changed |
//! | `recover` | reads back what survived a restart; `recover_ended`: what of it need not be read |
//! | `removal` | removes what nobody needs any more |
//! | `restart` | brings together what was read with the containers that are left |
//! | `foreign` | executors that an agent of Mesos had started |
//! | `runs` | writes what `recover` reads |
//! | `service` | routes and requests |
//! | `operator` | the v1 operator API |
//! | `facts` | what readers want to know and a view does not hold: statistics, metrics |
//! | `machine` | what the machine offers, how full its disk is, how much it has to do |
//! | `volumes` | persistent volumes in sandboxes, and the disks they lie on |

mod checkpoints;
mod core_loop;
mod durable;
mod facts;
mod foreign;
mod locals;
mod machine;
mod operator;
mod probes;
mod recover;
mod recover_ended;
mod removal;
mod restart;
mod runs;
mod service;
mod volumes;

pub use checkpoints::CheckpointError;
pub use machine::detect;
pub use recover::recover;
pub use volumes::DiskError;

use crate::{
    clock::Clock,
    common::{LogLevel, Logging},
    containers::{Containers, ContainersEnd},
    fetcher::{FetchOptions, Fetcher, http::HttpClient, http::Trust},
    files::Files,
    http::{Limits, Realms, Server, stream::Streams},
    net::{AdvertiseError, Advertised, LinkOptions, Links, LinksEnd, Listen, Transport},
    pending::{INBOX_INPUTS, Inbox},
    random,
};
use arc_swap::ArcSwap;
use core_loop::{Channels, CoreLoop, Inner};
use restart::Restart;
use std::{io, net::SocketAddr, path::PathBuf, sync::Arc, thread, time::Duration};
use tepui_containers::linux::Launcher;
use tepui_follower::{
    Config,
    compatibility::Policy,
    io::Effects,
    resources::{self, DiskRoot},
};
use tepui_model::{Rng, resources::operations::OperationError};
use tepui_protocol::peer::Pid;
use tokio::sync::{mpsc, oneshot, watch};

/// How long peers may take to read what was queued for them when the follower stops.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);
/// How long containers may take to be gone when the follower stops.
const CONTAINERS_TIMEOUT: Duration = Duration::from_secs(10);

/// What a follower needs to run.
pub struct FollowerOptions {
    /// Where to listen, what to announce.
    pub listen: Listen,
    /// Settings of the core. Its `address` is replaced by the announced one.
    pub config: Config,
    /// Started before the runtime and its threads; see `tepui-containers`.
    pub launcher: Launcher,
    /// Where the leader is; see [`crate::detect`].
    pub leader: watch::Receiver<Option<Pid>>,
    /// `--strict`: not to start where a checkpoint is damaged.
    pub strict: bool,
    /// `--reconfiguration_policy`
    pub reconfiguration_policy: Policy,
    /// Settings of the fetcher.
    pub fetch: FetchOptions,
    /// `--disk_watch_interval`
    pub disk_watch_interval: Duration,
    /// `--qos_correction_interval_min`, where there is a `--qos_controller`.
    pub qos_correction_interval_min: Duration,
    /// `--log_dir`, for the state.
    pub log_dir: Option<String>,
    /// `--external_log_file`, for the state.
    pub external_log_file: Option<String>,
    /// The log, served as `/slave/log`.
    pub log_file: Option<PathBuf>,
    /// Changes what is logged while running.
    pub log_level: Box<dyn LogLevel>,
    /// Limits of the HTTP server.
    pub limits: Limits,
    /// Limits of links to peers.
    pub links: LinkOptions,
    /// What carries connections, in and out.
    pub transport: Transport,
    /// Who may use which endpoint.
    pub realms: Realms,
}

impl FollowerOptions {
    /// Defaults everywhere but where they cannot be guessed.
    pub fn new(
        listen: Listen,
        config: Config,
        launcher: Launcher,
        leader: watch::Receiver<Option<Pid>>,
    ) -> Self {
        Self {
            listen,
            config,
            launcher,
            leader,
            strict: true,
            reconfiguration_policy: Policy::Equal,
            fetch: FetchOptions::default(),
            disk_watch_interval: Duration::from_secs(60),
            qos_correction_interval_min: Duration::ZERO,
            log_dir: None,
            external_log_file: None,
            log_file: None,
            log_level: Box::new(()),
            limits: Limits::default(),
            links: LinkOptions::default(),
            transport: Transport::plain(),
            realms: Realms::default(),
        }
    }
}

/// Why a follower cannot start, or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum FollowerError {
    /// No address.
    #[error(transparent)]
    Listen(#[from] AdvertiseError),
    /// The work directory cannot be made.
    #[error("cannot use {} as the work directory", path.display())]
    WorkDir {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A disk of the resources says nothing of where it is.
    #[error("{0}")]
    Disks(String),
    /// A disk of the resources cannot be used.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// What must survive cannot be written.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// Checkpoints are damaged, and `--strict` is on.
    #[error(
        "{} of what was checkpointed is damaged; with --strict=false the follower starts and reports \
         what it lost:\n{}", .0.len(), .0.join("\n")
    )]
    Damaged(Vec<String>),
    /// The settings do not allow to go on as the follower that was here.
    #[error(
        "{reason}\n\
         To keep the current agent id, change the settings back or take a more permissive \
         --reconfiguration_policy.\n\
         To start as a new agent, which ends what runs, remove {}", latest.display()
    )]
    Incompatible {
        /// What changed.
        reason: String,
        /// What to remove to begin anew.
        latest: PathBuf,
    },
    /// What containers are left cannot be found out.
    #[error("cannot take over the containers of before")]
    Containers(#[source] io::Error),
    /// What operations made of the resources does not fit the resources of today.
    #[error("the resources differ from those that reservations and volumes were made of")]
    Resources(#[source] OperationError),
    /// The launcher's socket cannot be used.
    #[error("cannot talk to the launcher of containers")]
    Launcher(#[source] io::Error),
    /// The launcher ended, and all containers with it.
    #[error("the launcher of containers ended")]
    LauncherGone,
    /// The system has no randomness.
    #[error("cannot draw random numbers")]
    Randomness(#[source] io::Error),
    /// No thread for the core.
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
    /// The core asked to stop as a failure: its last notice in the log says why.
    #[error("the follower had to stop")]
    Stopped,
    /// The core's thread ended by a panic: a bug.
    #[error("the follower's core failed; this is a bug")]
    Core,
}

/// Starts followers.
pub struct FollowerNode;

impl FollowerNode {
    /// Binds, looks for its leader, and serves. Must be called within a tokio runtime.
    pub async fn start(options: FollowerOptions) -> Result<FollowerHandle, FollowerError> {
        let mut config = options.config;
        config.work_dir = usable_work_dir(config.work_dir).await?;
        let Advertised { listener, address } = options.listen.bind()?;
        config.address = address;
        let work_dir = config.work_dir.clone();
        let disks = resources::disk_roots(&config.resources).map_err(FollowerError::Disks)?;
        check_disks(work_dir.clone(), disks).await?;
        let controlled = config.qos_controller.is_some();
        let seed = random::seed().map_err(FollowerError::Randomness)?;
        let mut rng = Rng::seed(seed);
        let clock = Clock::start();

        let policy = (options.strict, options.reconfiguration_policy);
        let Restart {
            mut core,
            recovered,
        } = restart::begin(config, policy, clock.now(), rng.child()).await?;
        let view = Arc::new(ArcSwap::new(core.view()));
        let (inbox, jobs) = Inbox::new(INBOX_INPUTS);
        let (streams, closed) = Streams::new(options.limits.stream_bytes_max);
        let (inner, inner_queue) = mpsc::unbounded_channel();
        let runtime = tokio::runtime::Handle::current();
        let broken = tell(&inner, Inner::Broken);
        let (links, links_end) = Links::new(
            address,
            options.links,
            options.transport.clone(),
            runtime.clone(),
            broken,
        );
        let fetcher = Fetcher::new(options.fetch, HttpClient::new(Trust::System));
        let state = core.view().config.checkpoint_runs;
        let state = state.then(|| work_dir.join("meta").join("containers"));
        let news = tell(&inner, Inner::News);
        let (containers, containers_end) =
            Containers::start(options.launcher, fetcher, state, news)
                .map_err(FollowerError::Launcher)?;
        let found = containers
            .recover()
            .await
            .map_err(FollowerError::Containers)?;
        let mut begun = Effects::default();
        let found = restart::go_on(&mut core, clock.now(), recovered, found, &mut begun);
        let begun = volumes::link_begun(begun, &inner).await;
        checkpoints::write_boot_id(&work_dir, &machine::boot_id())?;
        let (records, written) =
            checkpoints::start(work_dir.clone()).map_err(FollowerError::Thread)?;
        machine::watch_disk(
            work_dir,
            options.disk_watch_interval,
            tell(&inner, Inner::DiskUsage),
        );
        if controlled {
            let interval = options.qos_correction_interval_min;
            machine::watch_load(interval, tell(&inner, Inner::Load));
        }
        follow_leader(options.leader, tell(&inner, Inner::Leader));

        let files = Arc::new(Files::default());
        if let Some(log) = &options.log_file
            && let Err(error) = files.attach(log, operator::LOG_NAME)
        {
            tracing::warn!(%error, log = %log.display(), "cannot serve the log");
        }
        let (stop, stopped) = oneshot::channel();
        let channels = Channels {
            jobs,
            closed,
            inner: inner_queue,
            tell: inner.clone(),
            written,
            stopped,
            records,
        };
        let core_loop = CoreLoop::new(
            clock,
            core,
            (begun, found),
            channels,
            streams,
            links.clone(),
            containers.clone(),
            files.clone(),
            view.clone(),
            rng,
            runtime,
        );
        let (ended_tx, ended) = oneshot::channel();
        thread::Builder::new()
            .name("follower".to_owned())
            .spawn(move || {
                // Nobody waits if the handle was dropped.
                let _ = ended_tx.send(core_loop.run());
            })
            .map_err(FollowerError::Thread)?;
        let facts = facts::FactSource {
            containers,
            log_dir: options.log_dir,
            external_log_file: options.external_log_file,
            clock,
        };
        let logging = Logging::new(options.log_level);
        let service =
            service::FollowerService::new(inbox, view, files, logging, facts, options.realms);
        let server = Server::start(
            listener,
            options.transport,
            options.limits,
            Arc::new(service),
        );
        tracing::info!(%address, "following");
        Ok(FollowerHandle {
            address,
            server,
            links,
            links_end,
            containers_end,
            inner,
            stop,
            ended,
        })
    }
}

async fn check_disks(work_dir: PathBuf, disks: Vec<DiskRoot>) -> Result<(), FollowerError> {
    let check = move || volumes::check_disks(&work_dir, &disks);
    let checked = tokio::task::spawn_blocking(check).await;
    // It only fails by a panic, or when the runtime ends.
    Ok(checked.map_err(|_| FollowerError::Core)??)
}

/// Makes the work directory; its real path, since sandboxes are named by it.
async fn usable_work_dir(path: PathBuf) -> Result<PathBuf, FollowerError> {
    let made = async {
        tokio::fs::create_dir_all(&path).await?;
        tokio::fs::canonicalize(&path).await
    };
    made.await.map_err(|source| FollowerError::WorkDir {
        path: path.clone(),
        source,
    })
}

/// A callback that queues something for the core's thread; nobody listens once that has stopped.
fn tell<T: 'static>(
    inner: &mpsc::UnboundedSender<Inner>,
    wrap: fn(T) -> Inner,
) -> impl Fn(T) + Send + Sync + 'static {
    let inner = inner.clone();
    move |value| drop(inner.send(wrap(value)))
}

fn follow_leader(
    mut leader: watch::Receiver<Option<Pid>>,
    tell: impl Fn(Option<Pid>) + Send + 'static,
) {
    tokio::spawn(async move {
        loop {
            let now = leader.borrow_and_update().clone();
            tell(now);
            // The end of detection is not the end of the leader: a fixed address has no news.
            if leader.changed().await.is_err() {
                return;
            }
        }
    });
}

/// A running follower.
pub struct FollowerHandle {
    /// The announced address.
    pub address: SocketAddr,
    server: Server,
    links: Links,
    links_end: LinksEnd,
    containers_end: ContainersEnd,
    inner: mpsc::UnboundedSender<Inner>,
    stop: oneshot::Sender<()>,
    ended: oneshot::Receiver<Result<(), FollowerError>>,
}

impl FollowerHandle {
    /// Asks it to shut its executors down, to unregister and to stop (SIGUSR1 of the reference);
    /// [`Self::ended`] tells when that is done.
    pub fn unregister(&self, reason: &str) {
        // It may have stopped already.
        let _ = self.inner.send(Inner::Shutdown(reason.to_owned()));
    }

    /// Waits until the follower ends by itself: unregistered, or failed.
    pub async fn ended(&mut self) -> Result<(), FollowerError> {
        (&mut self.ended).await.unwrap_or(Err(FollowerError::Core))
    }

    /// Stops at once: no more requests, the core's thread ends, what was queued for peers is sent,
    /// every container is killed that does not outlive the follower. Call it after [`Self::ended`] too.
    pub async fn shutdown(self) {
        // Fails if the thread ended by itself.
        let _ = self.stop.send(());
        // What [`Self::ended`] has taken already cannot be awaited again.
        if !self.ended.is_terminated() {
            drop(self.ended.await);
        }
        self.server.stop().await;
        self.links.close();
        if tokio::time::timeout(FLUSH_TIMEOUT, self.links_end.wait())
            .await
            .is_err()
        {
            tracing::info!("some peers did not take their last messages");
        }
        if tokio::time::timeout(CONTAINERS_TIMEOUT, self.containers_end.wait())
            .await
            .is_err()
        {
            tracing::warn!("some containers are not gone yet");
        }
    }
}
