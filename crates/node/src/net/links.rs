//! Outbound links: one TCP connection per remote address, messages in order, one way.
//!
//! A link is opened by the first message to an address and kept. What the peer answers is read and
//! discarded: its end is how a dead peer is noticed. When a link breaks, or cannot be made, every
//! process that was written to through it is reported broken, once, and what was on its way is
//! lost, as messages between libprocess peers may always be. What was not yet on its way goes over
//! a fresh link: a peer that was restarted misses nothing that was sent after it had died.
//!
//! A peer that does not read costs itself: its queue is bounded in bytes, a full one breaks its
//! link, and nobody else's messages wait. There are at most so many links: beyond that the ones that
//! were not written to for the longest go, and so are reported.
//!
//! A link that idles is a task of a few hundred bytes: no buffers (`link_task`).

use super::{
    OpenFiles, Transport, Valve,
    link_task::{LinkTask, Queue},
};
use crate::log_budget::LogBudget;
use rustc_hash::FxHashMap;
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tepui_protocol::{
    libprocess,
    peer::{PeerMessage, Pid},
};
use tokio::{runtime::Handle, sync::mpsc};

/// Lines about broken links in a second.
const LOG_LINES: u32 = 10;
/// When there are too many links, this share of them goes at once: looking for them takes a while.
const EVICTED_SHARE: usize = 64;

/// Limits of a link.
#[derive(Clone, Debug)]
pub struct LinkOptions {
    /// How long a connection may take to be made.
    pub connect_timeout: Duration,
    /// How long a peer may go without taking any byte of what waits for it.
    pub write_timeout: Duration,
    /// Bytes that may wait for one address.
    pub queue_bytes_max: usize,
    /// Processes at one address. At more its link is made anew, which reports all of them.
    pub names_max: usize,
    /// Links at once. At more the ones that were not written to for the longest are closed.
    pub links_max: usize,
    /// What links take their file descriptors from. When there are none, links are closed as if
    /// there were too many.
    pub open_files: OpenFiles,
    /// What is queued waits behind it.
    pub valve: Valve,
}

impl Default for LinkOptions {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            write_timeout: Duration::from_secs(60),
            queue_bytes_max: 64 << 20,
            names_max: 16_384,
            links_max: 16_384,
            open_files: OpenFiles::default(),
            valve: Valve::default(),
        }
    }
}

/// All outbound links of a node. Clones share them.
#[derive(Clone)]
pub struct Links {
    shared: Arc<Shared>,
}

pub(super) struct Shared {
    /// Our announced address: the address part of every sender.
    address: SocketAddr,
    pub(super) options: LinkOptions,
    pub(super) transport: Transport,
    runtime: Handle,
    links: Mutex<LinkMap>,
    broken: Box<dyn Fn(Pid) + Send + Sync>,
    /// Held by every link's task; closed once the last one is gone.
    alive: Mutex<Option<mpsc::Sender<()>>>,
    pub(super) log: LogBudget,
}

#[derive(Default)]
struct LinkMap {
    by_address: FxHashMap<SocketAddr, Link>,
    next_generation: u64,
}

struct Link {
    /// Tells this link from a later one to the same address.
    generation: u64,
    queue: Arc<Queue>,
    /// Processes that were written to, in order.
    names: Vec<Name>,
    used: Instant,
}

struct Name {
    name: Box<str>,
    /// The batch of the queue that has the last message to it.
    batch: u32,
}

impl Links {
    /// No links yet. `address` is what peers are told; `broken` hears of each process whose link
    /// broke and must not block. Tasks run on `runtime`.
    pub fn new(
        address: SocketAddr,
        options: LinkOptions,
        transport: Transport,
        runtime: Handle,
        broken: impl Fn(Pid) + Send + Sync + 'static,
    ) -> (Self, LinksEnd) {
        let (alive, end) = mpsc::channel(1);
        let shared = Shared {
            address,
            options,
            transport,
            runtime,
            links: Mutex::default(),
            broken: Box::new(broken),
            alive: Mutex::new(Some(alive)),
            log: LogBudget::new(LOG_LINES),
        };
        (
            Self {
                shared: Arc::new(shared),
            },
            LinksEnd(end),
        )
    }

    /// Our announced address.
    pub fn address(&self) -> SocketAddr {
        self.shared.address
    }

    /// How many links there are.
    pub fn len(&self) -> usize {
        lock(&self.shared.links).by_address.len()
    }

    /// Whether there are no links.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Queues one message from our process `from` (`master`, `slave(1)`, …). Never blocks; a
    /// failure is heard as a broken link.
    pub fn send(&self, from: &str, to: &Pid, message: &PeerMessage) {
        let from = Pid {
            name: from.to_owned(),
            address: self.shared.address,
        };
        let body = message.encode();
        let mut gone = Gone::default();
        let mut links = lock(&self.shared.links);
        self.shared.room_for(to, &mut links, &mut gone);
        if let Some(link) = self.shared.link(to.address, &mut links, &mut gone) {
            let pushed = link
                .queue
                .push(body.len(), self.shared.options.queue_bytes_max, |out| {
                    libprocess::write_request(out, &from, to, message.name(), &body);
                });
            match pushed {
                Ok(batch) => link.written_to(&to.name, batch),
                Err(waiting) => {
                    link.written_to(&to.name, 0);
                    if let Some(link) = links.by_address.remove(&to.address) {
                        link.queue.abandon();
                        gone.add(to.address, link);
                    }
                    if let Some(more) = self.shared.log.take() {
                        tracing::warn!(peer = %to, waiting, more, "a peer does not read its messages");
                    }
                }
            }
        }
        drop(links);
        self.shared.report(gone);
    }

    /// Sends nothing more after what is queued; [`LinksEnd::wait`] tells when that is written.
    pub fn close(&self) {
        lock(&self.shared.alive).take();
        let links = std::mem::take(&mut lock(&self.shared.links).by_address);
        links.values().for_each(|link| link.queue.close());
    }

    /// Sends nothing more at all: what is queued is dropped.
    pub fn abandon(&self) {
        lock(&self.shared.alive).take();
        let links = std::mem::take(&mut lock(&self.shared.links).by_address);
        links.values().for_each(|link| link.queue.abandon());
    }
}

/// Tells when the links are gone.
pub struct LinksEnd(mpsc::Receiver<()>);

impl LinksEnd {
    /// Waits until everything queued before [`Links::close`] is written, or given up on.
    pub async fn wait(mut self) {
        while self.0.recv().await.is_some() {}
    }
}

/// Processes that are to be reported once no lock is held.
#[derive(Default)]
struct Gone(Vec<(SocketAddr, Vec<Name>)>);

impl Gone {
    fn add(&mut self, address: SocketAddr, link: Link) {
        self.0.push((address, link.names));
    }
}

impl LinkMap {
    /// Takes links off. What they have queued is still written.
    fn close(&mut self, addresses: Vec<SocketAddr>, gone: &mut Gone) {
        for address in addresses {
            if let Some(link) = self.by_address.remove(&address) {
                link.queue.close();
                gone.add(address, link);
            }
        }
    }
}

impl Link {
    fn written_to(&mut self, name: &str, batch: u32) {
        self.used = Instant::now();
        match self.find(name) {
            Ok(at) => self.names[at].batch = batch,
            Err(at) => {
                let name = name.into();
                // Mostly there is one process at an address.
                self.names.reserve_exact(usize::from(self.names.len() < 4));
                self.names.insert(at, Name { name, batch });
            }
        }
    }

    fn find(&self, name: &str) -> Result<usize, usize> {
        self.names.binary_search_by(|known| (*known.name).cmp(name))
    }
}

impl Shared {
    /// Takes links off that are one too many once there is one to `to`.
    fn room_for(&self, to: &Pid, links: &mut LinkMap, gone: &mut Gone) {
        let mut leaving = Vec::new();
        match links.by_address.get(&to.address) {
            Some(link) if link.names.len() < self.options.names_max => {}
            Some(link) if link.find(&to.name).is_ok() => {}
            Some(_) => leaving.push(to.address),
            None if links.by_address.len() < self.options.links_max.max(1) => {}
            None => leaving = longest_unused(links),
        }
        links.close(leaving, gone);
    }

    /// The link to an address; none if no more are opened.
    fn link<'a>(
        self: &Arc<Self>,
        address: SocketAddr,
        links: &'a mut LinkMap,
        gone: &mut Gone,
    ) -> Option<&'a mut Link> {
        if !links.by_address.contains_key(&address) {
            self.open(address, Arc::default(), Vec::new(), links, gone)?;
        }
        links.by_address.get_mut(&address)
    }

    fn open(
        self: &Arc<Self>,
        address: SocketAddr,
        queue: Arc<Queue>,
        names: Vec<Name>,
        links: &mut LinkMap,
        gone: &mut Gone,
    ) -> Option<()> {
        let alive = lock(&self.alive).clone()?;
        let file = self.options.open_files.try_take();
        if file.is_none() {
            // This one opens nevertheless, out of the reserve: the others take a moment to close.
            links.close(longest_unused(links), gone);
        }
        let generation = links.next_generation;
        links.next_generation += 1;
        let task = LinkTask::new(
            address,
            generation,
            self.clone(),
            queue.clone(),
            (alive, file),
        );
        self.runtime.spawn(task.run());
        let link = Link {
            generation,
            queue,
            names,
            used: Instant::now(),
        };
        links.by_address.insert(address, link);
        Some(())
    }

    /// A link's task ended: its processes are reported, unless they were already. If its connection
    /// was up and its peer closed it, what was not begun to be written goes over a new one.
    pub(super) fn ended(self: &Arc<Self>, address: SocketAddr, generation: u64, carry: bool) {
        let mut gone = Gone::default();
        let mut links = lock(&self.links);
        let ours = links.by_address.get(&address);
        if ours.is_none_or(|link| link.generation != generation) {
            return;
        }
        if let Some(link) = links.by_address.remove(&address) {
            let (waiting, batch) = link.queue.take_left();
            if carry && !waiting.is_empty() {
                let again = link.names.iter().filter(|name| name.batch == batch);
                let names = again
                    .map(|name| Name {
                        name: name.name.clone(),
                        batch: 0,
                    })
                    .collect();
                // None: no more links are opened.
                let queue = Arc::new(Queue::of(waiting));
                let _ = self.open(address, queue, names, &mut links, &mut gone);
            }
            gone.add(address, link);
        }
        drop(links);
        self.report(gone);
    }

    fn report(&self, gone: Gone) {
        for (address, names) in gone.0 {
            for Name { name, .. } in names {
                let name = name.into();
                (self.broken)(Pid { name, address });
            }
        }
    }
}

/// Some of the links that were not written to for the longest.
fn longest_unused(links: &LinkMap) -> Vec<SocketAddr> {
    let mut all: Vec<_> = links
        .by_address
        .iter()
        .map(|(address, link)| (link.used, *address))
        .collect();
    let count = all.len().div_ceil(EVICTED_SHARE);
    if count == 0 {
        return Vec::new();
    }
    all.select_nth_unstable(count - 1);
    all.truncate(count);
    all.into_iter().map(|(_, address)| address).collect()
}

/// A panic elsewhere while a lock was held leaves these maps whole: every change is one step.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
