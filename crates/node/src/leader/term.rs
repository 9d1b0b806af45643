//! One term: what exists only while this leader leads. Core, registry, streams and links begin and
//! end together; the server stands in front of them and stays.

use super::{
    LeaderError, LeaderOptions, allow_list, core_loop::CoreLoop, facts, gate::Gate, journal,
    service::LeaderService,
};
use crate::{
    clock::Clock,
    common::Logging,
    disk::registry::RegistryError,
    files::Files,
    http::stream::Streams,
    net::{LinkOptions, Links, LinksEnd, Valve},
    pending::{INBOX_INPUTS, Inbox},
    random,
};
use arc_swap::ArcSwap;
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};
use tepui_leader::{Leader, LeaderFacts};
use tepui_model::{Rng, Time};
use tokio::sync::{mpsc, oneshot};

/// How long peers may take to read what was queued for them when the leader stops.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);
/// How long the threads of a term that was lost may take to end. One of them may be writing to a
/// registry that does not answer.
const END_TIMEOUT: Duration = Duration::from_secs(5);

/// What all terms of a leader stand on.
pub(super) struct Ground {
    pub(super) options: LeaderOptions,
    pub(super) clock: Clock,
    pub(super) address: SocketAddr,
    /// When the process started.
    pub(super) started: Time,
    pub(super) files: Arc<Files>,
    pub(super) logging: Arc<Logging>,
}

impl Ground {
    /// Who this leader is from now on, under a new id.
    pub(super) fn facts(&self) -> Result<LeaderFacts, LeaderError> {
        let id = random::uuid().map_err(LeaderError::Randomness)?;
        Ok(facts::facts(&self.options, self.address, id, self.started))
    }
}

/// A term under way.
pub(super) struct Term {
    /// Answers requests while it lasts.
    pub(super) service: Arc<LeaderService>,
    gate: Arc<Gate>,
    links: Links,
    links_end: LinksEnd,
    streams: Arc<AtomicBool>,
    stop: oneshot::Sender<()>,
    ended: oneshot::Receiver<Result<(), LeaderError>>,
}

impl Term {
    /// Reads the registry and starts to lead.
    pub(super) async fn begin(
        ground: &Arc<Ground>,
        mut facts: LeaderFacts,
        member: Option<Arc<str>>,
        gate: Arc<Gate>,
    ) -> Result<Self, LeaderError> {
        let (clock, options) = (ground.clock, &ground.options);
        facts.elected = clock.now();
        let store = options.registry.clone();
        let opened = tokio::task::spawn_blocking(move || -> Result<_, RegistryError> {
            let begun = Instant::now();
            let mut registry = store.open(member.as_deref())?;
            let loaded = registry.load()?;
            let took = begun.elapsed();
            tracing::info!(cluster = %loaded.cluster_id, ?took, "registry read");
            Ok((registry, loaded.registry, took))
        });
        let (registry, snapshot, fetch) = opened.await.map_err(|_| LeaderError::Core)??;
        let seed = random::seed().map_err(LeaderError::Randomness)?;
        let mut config = options.config.clone();
        let authenticator = &mut config.authenticator;
        random::fill(&mut authenticator.nonce_key).map_err(LeaderError::Randomness)?;
        authenticator.hostname = facts.info.hostname.clone().unwrap_or_default();
        tracing::info!(id = %facts.info.id, address = %ground.address, "leading");
        let mut core = Leader::new(config, facts, &snapshot, Rng::seed(seed), clock.now());
        let view = Arc::new(ArcSwap::new(core.view()));
        let (inbox, jobs) = Inbox::new(INBOX_INPUTS);
        let valve = Valve::new({
            let gate = gate.clone();
            move || gate.is_open()
        });
        let (streams, closed) = Streams::behind(valve.clone(), options.limits.stream_bytes_max);
        let abandoned = streams.abandoned();
        let (broken_tx, broken) = mpsc::unbounded_channel();
        let (links, links_end) = Links::new(
            ground.address,
            LinkOptions {
                valve,
                ..options.links.clone()
            },
            options.transport.clone(),
            tokio::runtime::Handle::current(),
            move |pid| {
                // Nobody listens once the leader stops.
                let _ = broken_tx.send(pid);
            },
        );
        let journal = journal::start(registry, &snapshot, fetch).map_err(LeaderError::Thread)?;
        let registry = journal.thread;
        let (stop, stopped) = oneshot::channel();
        let core_loop = CoreLoop::new(
            clock,
            core,
            jobs,
            closed,
            broken,
            allow_list::watch(options.allow_list.clone()),
            journal.records,
            journal.written,
            streams,
            links.clone(),
            view.clone(),
            stopped,
            gate.clone(),
        );
        let (ended_tx, ended) = oneshot::channel();
        thread::Builder::new()
            .name("leader".to_owned())
            .spawn(move || {
                let ended = core_loop.run();
                // Whoever hears the end may open the registry again.
                let ended = registry.join().map_err(|_| LeaderError::Core).and(ended);
                // Nobody waits if the term was dropped.
                let _ = ended_tx.send(ended);
            })
            .map_err(LeaderError::Thread)?;
        Ok(Self {
            service: Arc::new(LeaderService::new(
                inbox,
                view,
                ground.files.clone(),
                ground.logging.clone(),
                clock,
                options.realms.clone(),
                Some(journal.shelf),
            )),
            gate,
            links,
            links_end,
            streams: abandoned,
            stop,
            ended,
        })
    }

    /// Waits until the term ends by itself, which is a failure.
    pub(super) async fn failed(&mut self) -> LeaderError {
        match (&mut self.ended).await {
            Ok(Err(error)) => error,
            Ok(Ok(())) | Err(_) => LeaderError::Core,
        }
    }

    /// Ends it in order: nothing more is decided, and what was said is still sent, for a moment
    /// after this completes.
    pub(super) async fn conclude(self) -> (Result<(), LeaderError>, Farewell) {
        // Fails if the thread ended by itself; it says why below.
        let _ = self.stop.send(());
        // What [`Self::failed`] has taken already cannot be awaited again.
        let ended = if self.ended.is_terminated() {
            Ok(())
        } else {
            self.ended.await.unwrap_or(Err(LeaderError::Core))
        };
        self.links.close();
        (ended, Farewell(self.links_end))
    }

    /// Ends it because it is lost: nothing more is sent, not even what was decided before.
    pub(super) async fn abandon(self) {
        self.gate.shut();
        self.streams.store(true, Ordering::Release);
        self.links.abandon();
        let _ = self.stop.send(());
        if self.ended.is_terminated() {
            return;
        }
        match tokio::time::timeout(END_TIMEOUT, self.ended).await {
            Ok(Ok(Err(error))) => tracing::debug!(%error, "how the term ended"),
            Ok(_) => {}
            Err(_) => tracing::warn!("a write to the registry does not end"),
        }
    }
}

/// What was queued for peers, on its way.
pub(super) struct Farewell(LinksEnd);

impl Farewell {
    /// Waits until it is sent, within reason.
    pub(super) async fn sent(self) {
        if tokio::time::timeout(FLUSH_TIMEOUT, self.0.wait())
            .await
            .is_err()
        {
            tracing::info!("some peers did not take their last messages");
        }
    }
}
