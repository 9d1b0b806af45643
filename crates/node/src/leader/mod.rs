//! The leader's shell: one thread owns the core; everybody else talks to it through its inbox and
//! reads the view it publishes.
//!
//! | file | does |
//! |---|---|
//! | `core_loop` | the thread: inputs in batches, `handle`, publish the view, effects through the outbox |
//! | `journal` | the thread that writes the registry |
//! | `service` | routes and requests |
//! | `operator` | the v1 operator API: what the shell answers, what the view answers, what the core decides |
//! | `reads` | the one place where answers are computed from a view |
//! | `forms` | older endpoints that take a posted form |
//! | `facts` | who this leader is: id, address, capabilities |

mod core_loop;
mod facts;
mod forms;
mod journal;
mod operator;
mod reads;
mod service;

use crate::{
    clock::Clock,
    common::{LogLevel, Logging},
    disk::registry::{Registry, RegistryError, RegistryFile},
    files::Files,
    http::{Limits, Realms, Server, stream::Streams},
    net::{AdvertiseError, Advertised, LinkOptions, Links, LinksEnd, Listen, Transport},
    pending::{INBOX_INPUTS, Inbox},
    random,
};
use arc_swap::ArcSwap;
use std::{
    collections::BTreeMap, io, net::SocketAddr, path::PathBuf, sync::Arc, thread, time::Duration,
};
use tepui_leader::Leader;
use tepui_model::Rng;
use tepui_protocol::v1;
use tokio::sync::{mpsc, oneshot};

/// How long peers may take to read what was queued for them when the leader stops.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// What a leader needs to run.
pub struct LeaderOptions {
    /// Where to listen, what to announce.
    pub listen: Listen,
    /// `--hostname`; the announced IP address when there is none.
    pub hostname: Option<String>,
    /// `--work_dir`: the registry lives here.
    pub work_dir: PathBuf,
    /// `--cluster`
    pub cluster: Option<String>,
    /// `--domain`
    pub domain: Option<v1::DomainInfo>,
    /// Settings of the core.
    pub config: tepui_leader::Config,
    /// Flags in force, secrets masked, for `/flags` and the state.
    pub flags: BTreeMap<String, String>,
    /// The log, served as `/master/log`.
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

impl LeaderOptions {
    /// Defaults everywhere but where they cannot be guessed.
    pub fn new(listen: Listen, work_dir: impl Into<PathBuf>) -> Self {
        Self {
            listen,
            hostname: None,
            work_dir: work_dir.into(),
            cluster: None,
            domain: None,
            config: tepui_leader::Config::default(),
            flags: BTreeMap::new(),
            log_file: None,
            log_level: Box::new(()),
            limits: Limits::default(),
            links: LinkOptions::default(),
            transport: Transport::plain(),
            realms: Realms::default(),
        }
    }
}

/// Why a leader cannot start, or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum LeaderError {
    /// No address.
    #[error(transparent)]
    Listen(#[from] AdvertiseError),
    /// The registry cannot be read or written. A leader that cannot remember must not go on.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The system has no randomness for the leader's id and challenges.
    #[error("cannot draw random numbers")]
    Randomness(#[source] io::Error),
    /// No thread for the core.
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
    /// The core's thread ended by a panic: a bug.
    #[error("the leader's core failed; this is a bug")]
    Core,
}

/// Starts leaders.
pub struct LeaderNode;

impl LeaderNode {
    /// Reads the registry, starts to lead, and serves. Must be called within a tokio runtime.
    pub async fn start(options: LeaderOptions) -> Result<LeaderHandle, LeaderError> {
        let work_dir = options.work_dir.clone();
        let opened = tokio::task::spawn_blocking(move || -> Result<_, RegistryError> {
            let mut registry = RegistryFile::open(&work_dir)?;
            let loaded = registry.load()?;
            tracing::info!(cluster = %loaded.cluster_id, "registry read");
            let snapshot = loaded.registry;
            Ok((registry, snapshot))
        });
        let (registry, snapshot) = opened.await.map_err(|_| LeaderError::Core)??;
        let Advertised { listener, address } = options.listen.bind()?;

        let clock = Clock::start();
        let seed = random::seed().map_err(LeaderError::Randomness)?;
        let id = random::uuid().map_err(LeaderError::Randomness)?;
        let facts = facts::facts(&options, address, id, clock.now());
        tracing::info!(id = %facts.info.id, %address, "leading");

        let mut config = options.config;
        let authenticator = &mut config.authenticator;
        random::fill(&mut authenticator.nonce_key).map_err(LeaderError::Randomness)?;
        authenticator.hostname = facts.info.hostname.clone().unwrap_or_default();
        let mut core = Leader::new(config, facts, &snapshot, Rng::seed(seed), clock.now());
        let view = Arc::new(ArcSwap::new(core.view()));
        let (inbox, jobs) = Inbox::new(INBOX_INPUTS);
        let (streams, closed) = Streams::new(options.limits.stream_bytes_max);
        let (broken_tx, broken) = mpsc::unbounded_channel();
        let runtime = tokio::runtime::Handle::current();
        let (links, links_end) = Links::new(
            address,
            options.links,
            options.transport.clone(),
            runtime,
            move |pid| {
                // Nobody listens once the leader stops.
                let _ = broken_tx.send(pid);
            },
        );
        let (records, written, registry) = journal::start(registry).map_err(LeaderError::Thread)?;
        let (stop, stopped) = oneshot::channel();
        let core_loop = core_loop::CoreLoop::new(
            clock,
            core,
            jobs,
            closed,
            broken,
            records,
            written,
            streams,
            links.clone(),
            view.clone(),
            stopped,
        );
        let (ended_tx, ended) = oneshot::channel();
        thread::Builder::new()
            .name("leader".to_owned())
            .spawn(move || {
                let ended = core_loop.run();
                // Whoever hears the end may open the registry again.
                let ended = registry.join().map_err(|_| LeaderError::Core).and(ended);
                // Nobody waits if the handle was dropped.
                let _ = ended_tx.send(ended);
            })
            .map_err(LeaderError::Thread)?;

        let files = Arc::new(Files::default());
        if let Some(log) = &options.log_file
            && let Err(error) = files.attach(log, operator::LOG_NAME)
        {
            tracing::warn!(%error, log = %log.display(), "cannot serve the log");
        }
        let service = Arc::new(service::LeaderService::new(
            inbox,
            view,
            files,
            Logging::new(options.log_level),
            clock,
            options.realms,
        ));
        let server = Server::start(listener, options.transport, options.limits, service);
        Ok(LeaderHandle {
            address,
            server,
            links,
            links_end,
            stop,
            ended,
        })
    }
}

/// A running leader.
pub struct LeaderHandle {
    /// The announced address.
    pub address: SocketAddr,
    server: Server,
    links: Links,
    links_end: LinksEnd,
    stop: oneshot::Sender<()>,
    ended: oneshot::Receiver<Result<(), LeaderError>>,
}

impl LeaderHandle {
    /// Waits until the leader ends by itself, which is a failure.
    pub async fn failed(&mut self) -> LeaderError {
        match (&mut self.ended).await {
            Ok(Err(error)) => error,
            Ok(Ok(())) | Err(_) => LeaderError::Core,
        }
    }

    /// Stops: no more requests, the core's thread ends, what was queued for peers is sent.
    pub async fn shutdown(self) -> Result<(), LeaderError> {
        // Fails if the thread ended by itself; it says why below.
        let _ = self.stop.send(());
        // What [`Self::failed`] has taken already cannot be awaited again.
        let ended = if self.ended.is_terminated() {
            Ok(())
        } else {
            self.ended.await.unwrap_or(Err(LeaderError::Core))
        };
        self.server.stop().await;
        self.links.close();
        if tokio::time::timeout(FLUSH_TIMEOUT, self.links_end.wait())
            .await
            .is_err()
        {
            tracing::info!("some peers did not take their last messages");
        }
        ended
    }
}
