//! The leader's shell: one thread owns the core; everybody else talks to it through its inbox and
//! reads the view it publishes.
//!
//! A leader leads in terms. One that is alone has a single one, from start to end; one that was
//! given a [`Contender`] stands by until it is elected, and again when it was deposed. The server is
//! up all the time, and answers what it can.
//!
//! | file | does |
//! |---|---|
//! | `election` | what an election tells a leader: how it stands, and whether it may act |
//! | `zookeeper` | an election in ZooKeeper |
//! | `tenure` | stands by, begins and ends terms as the election has it |
//! | `term` | one term: what exists only while this leader leads |
//! | `gate` | whether anything may go out at this moment |
//! | `front` | the service at the port: hands over to the term, or answers as one who does not lead |
//! | `core_loop` | the thread: inputs in batches, `handle`, publish the view, effects through the outbox |
//! | `journal` | the thread that writes the registry |
//! | `service` | routes and requests |
//! | `operator` | the v1 operator API: what the shell answers, what the view answers, what the core decides |
//! | `reads` | the one place where answers are computed from a view |
//! | `forms` | older endpoints that take a posted form |
//! | `facts` | who this leader is: id, address, capabilities |

mod allow_list;
mod core_loop;
mod election;
mod facts;
mod forms;
mod front;
mod gate;
mod journal;
mod maintenance;
mod operator;
mod questions;
mod reads;
mod service;
mod shares;
mod tenure;
mod term;
mod zookeeper;

pub use election::{Candidacy, Contender, Lease, LeaseOf, Standing, Tenure, Withdraw};
pub use zookeeper::{InvalidElection, ZooKeeperElection};

use crate::{
    clock::Clock,
    common::{LogLevel, Logging},
    disk::registry::{OpenRegistry, RegistryError, RegistryInDirectory},
    files::Files,
    http::{Limits, Realms, Server},
    net::{AdvertiseError, Advertised, LinkOptions, Listen, Transport},
};
use front::Front;
use std::{collections::BTreeMap, io, net::SocketAddr, path::PathBuf, sync::Arc};
use tepui_protocol::v1;
use term::Ground;
use tokio::{sync::oneshot, task::JoinHandle};

/// What a leader needs to run.
pub struct LeaderOptions {
    /// Where to listen, what to announce.
    pub listen: Listen,
    /// `--hostname`; the announced IP address when there is none.
    pub hostname: Option<String>,
    /// Where the registry is.
    pub registry: Arc<dyn OpenRegistry>,
    /// Enters elections; a leader without one is alone, and leads at once.
    pub contender: Option<Box<dyn Contender>>,
    /// `--cluster`
    pub cluster: Option<String>,
    /// `--domain`
    pub domain: Option<v1::DomainInfo>,
    /// `--whitelist`: names the hosts whose followers are offered; all when there is none.
    pub allow_list: Option<PathBuf>,
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
    /// Defaults everywhere but where they cannot be guessed: alone, with a registry in `work_dir`.
    pub fn new(listen: Listen, work_dir: impl Into<PathBuf>) -> Self {
        Self {
            listen,
            hostname: None,
            registry: Arc::new(RegistryInDirectory(work_dir.into())),
            contender: None,
            cluster: None,
            domain: None,
            allow_list: None,
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
    /// What takes part in the election ended by a panic: a bug.
    #[error("the election ended by itself; this is a bug")]
    Election,
    /// The core's thread ended by a panic: a bug.
    #[error("the leader's core failed; this is a bug")]
    Core,
}

/// Starts leaders.
pub struct LeaderNode;

impl LeaderNode {
    /// Serves; leads at once if it is alone, else when it is elected. Must be called within a tokio
    /// runtime.
    pub async fn start(mut options: LeaderOptions) -> Result<LeaderHandle, LeaderError> {
        let Advertised { listener, address } = options.listen.bind()?;
        let clock = Clock::start();
        let files = Arc::new(Files::default());
        if let Some(log) = &options.log_file
            && let Err(error) = files.attach(log, operator::LOG_NAME)
        {
            tracing::warn!(%error, log = %log.display(), "cannot serve the log");
        }
        let logging = Logging::new(std::mem::replace(&mut options.log_level, Box::new(())));
        let contender = options.contender.take();
        let (transport, limits) = (options.transport.clone(), options.limits.clone());
        let ground = Arc::new(Ground {
            options,
            clock,
            address,
            started: clock.now(),
            files,
            logging,
        });
        let front = Arc::new(Front::new(&ground, ground.facts()?));
        let (stop, stopped) = oneshot::channel();
        let running = match contender {
            Some(contender) => {
                tokio::spawn(tenure::contend(ground, front.clone(), contender, stopped))
            }
            None => {
                let term = tenure::begin_alone(&ground, &front).await?;
                tokio::spawn(tenure::alone(front.clone(), term, stopped))
            }
        };
        let server = Server::start(listener, transport, limits, front);
        Ok(LeaderHandle {
            address,
            server,
            stop,
            running,
        })
    }
}

/// A running leader, whether it leads or stands by.
pub struct LeaderHandle {
    /// The announced address.
    pub address: SocketAddr,
    server: Server,
    stop: oneshot::Sender<()>,
    running: JoinHandle<Result<(), LeaderError>>,
}

impl LeaderHandle {
    /// Waits until the leader ends by itself, which is a failure.
    pub async fn failed(&mut self) -> LeaderError {
        match (&mut self.running).await {
            Ok(Err(error)) => error,
            Ok(Ok(())) | Err(_) => LeaderError::Core,
        }
    }

    /// Stops: no more requests, the core's thread ends, what was queued for peers is sent. One that
    /// was elected leaves the election, so that the next need not wait for the end of its session.
    pub async fn shutdown(self) -> Result<(), LeaderError> {
        // Fails if it ended by itself; it says why below.
        let _ = self.stop.send(());
        // What [`Self::failed`] has taken already cannot be awaited again.
        let ended = if self.running.is_finished() {
            Ok(())
        } else {
            self.running.await.unwrap_or(Err(LeaderError::Core))
        };
        self.server.stop().await;
        ended
    }
}
