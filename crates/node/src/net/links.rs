//! Outbound links: one TCP connection per remote address, messages in order, one way.
//!
//! A link is opened by the first message to an address and kept. What the peer answers is read and
//! discarded: its end is how a dead peer is noticed. When a link breaks, or cannot be made, every
//! process that was written to through it is reported broken and what was queued is lost, as
//! messages between libprocess peers may always be; the next message tries anew.
//!
//! A peer that does not read costs itself: its queue is bounded in bytes, a full one breaks its
//! link, and nobody else's messages wait.

use super::{Stream, Transport};
use rustc_hash::FxHashMap;
use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tepui_protocol::{
    libprocess,
    peer::{PeerMessage, Pid},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf},
    runtime::Handle,
    sync::mpsc,
    task::AbortHandle,
    time::timeout,
};

/// How long a peer may take to close its end once we closed ours.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Limits of a link.
#[derive(Clone, Debug)]
pub struct LinkOptions {
    /// How long a connection may take to be made.
    pub connect_timeout: Duration,
    /// How long a peer may go without taking any byte of what waits for it.
    pub write_timeout: Duration,
    /// Bytes that may wait for one address.
    pub queue_bytes_max: usize,
}

impl Default for LinkOptions {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            write_timeout: Duration::from_secs(60),
            queue_bytes_max: 64 << 20,
        }
    }
}

/// All outbound links of a node. Clones share them.
#[derive(Clone)]
pub struct Links {
    shared: Arc<Shared>,
}

struct Shared {
    /// Our announced address: the address part of every sender.
    address: SocketAddr,
    options: LinkOptions,
    transport: Transport,
    runtime: Handle,
    links: Mutex<LinkMap>,
    broken: Box<dyn Fn(Pid) + Send + Sync>,
    /// Held by every link's task; closed once the last one is gone.
    alive: Mutex<Option<mpsc::Sender<()>>>,
}

#[derive(Default)]
struct LinkMap {
    by_address: FxHashMap<SocketAddr, Link>,
    next_generation: u64,
}

struct Link {
    /// Tells this link from a later one to the same address.
    generation: u64,
    frames: mpsc::UnboundedSender<Vec<u8>>,
    queued_bytes: Arc<AtomicUsize>,
    /// Processes that were written to.
    names: BTreeSet<String>,
    task: AbortHandle,
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

    /// Queues one message from our process `from` (`master`, `slave(1)`, …). Never blocks; a
    /// failure is heard as a broken link.
    pub fn send(&self, from: &str, to: &Pid, message: &PeerMessage) {
        let from = Pid {
            name: from.to_owned(),
            address: self.shared.address,
        };
        self.send_frame(
            to,
            libprocess::request(&from, to, message.name(), &message.encode()),
        );
    }

    fn send_frame(&self, to: &Pid, frame: Vec<u8>) {
        let mut links = lock(&self.shared.links);
        if !links.by_address.contains_key(&to.address) {
            let Some(link) = self.open(to.address, &mut links) else {
                return;
            };
            links.by_address.insert(to.address, link);
        }
        let Some(link) = links.by_address.get_mut(&to.address) else {
            return;
        };
        if !link.names.contains(&to.name) {
            link.names.insert(to.name.clone());
        }
        let waiting = link.queued_bytes.fetch_add(frame.len(), Ordering::Relaxed);
        // One frame of any size may wait alone.
        let full = waiting > 0 && waiting + frame.len() > self.shared.options.queue_bytes_max;
        if full || link.frames.send(frame).is_err() {
            let generation = link.generation;
            drop(links);
            tracing::warn!(peer = %to, waiting, "a peer does not read its messages");
            self.shared.forget(to.address, generation);
        }
    }

    fn open(&self, address: SocketAddr, links: &mut LinkMap) -> Option<Link> {
        let alive = lock(&self.shared.alive).clone()?;
        let (frames, queue) = mpsc::unbounded_channel();
        links.next_generation += 1;
        let queued_bytes = Arc::new(AtomicUsize::new(0));
        let task = LinkTask {
            address,
            generation: links.next_generation,
            shared: self.shared.clone(),
            queue,
            queued_bytes: queued_bytes.clone(),
            _alive: alive,
        };
        let generation = links.next_generation;
        let task = self.shared.runtime.spawn(task.run()).abort_handle();
        Some(Link {
            generation,
            frames,
            queued_bytes,
            names: BTreeSet::new(),
            task,
        })
    }

    /// Sends nothing more after what is queued; [`LinksEnd::wait`] tells when that is written.
    pub fn close(&self) {
        lock(&self.shared.alive).take();
        // Dropping the senders ends each task after its queue.
        lock(&self.shared.links).by_address.clear();
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

impl Shared {
    /// Takes a link off the map and reports its processes, once.
    fn forget(&self, address: SocketAddr, generation: u64) {
        let mut links = lock(&self.links);
        if links
            .by_address
            .get(&address)
            .is_none_or(|link| link.generation != generation)
        {
            return;
        }
        let Some(link) = links.by_address.remove(&address) else {
            return;
        };
        drop(links);
        // Frees what is queued at once when it is a full queue that broke the link.
        link.task.abort();
        for name in link.names {
            (self.broken)(Pid { name, address });
        }
    }
}

struct LinkTask {
    address: SocketAddr,
    generation: u64,
    shared: Arc<Shared>,
    queue: mpsc::UnboundedReceiver<Vec<u8>>,
    queued_bytes: Arc<AtomicUsize>,
    _alive: mpsc::Sender<()>,
}

impl LinkTask {
    async fn run(mut self) {
        let result = match self.connect().await {
            Ok(stream) => {
                let (mut reader, writer) = tokio::io::split(stream);
                tokio::select! {
                    result = self.write(writer) => match result {
                        // Closing while answers arrive would reset the connection and could take
                        // our last messages with it.
                        Ok(()) => timeout(CLOSE_TIMEOUT, discard(&mut reader)).await.unwrap_or(Ok(())),
                        broken => broken,
                    },
                    result = discard(&mut reader) => result,
                }
            }
            Err(error) => Err(error),
        };
        if let Err(error) = result {
            tracing::info!(peer = %self.address, %error, "link to a peer broke");
        }
        self.shared.forget(self.address, self.generation);
    }

    async fn connect(&self) -> std::io::Result<Stream> {
        let patience = self.shared.options.connect_timeout;
        self.shared.transport.connect(self.address, patience).await
    }

    async fn write(&mut self, mut writer: WriteHalf<Stream>) -> std::io::Result<()> {
        while let Some(frame) = self.queue.recv().await {
            let mut rest = &frame[..];
            while !rest.is_empty() {
                let written =
                    timeout(self.shared.options.write_timeout, writer.write(rest)).await??;
                if written == 0 {
                    return Err(std::io::ErrorKind::WriteZero.into());
                }
                rest = &rest[written..];
            }
            // What TLS has taken may still be with it.
            timeout(self.shared.options.write_timeout, writer.flush()).await??;
            self.queued_bytes.fetch_sub(frame.len(), Ordering::Relaxed);
        }
        writer.shutdown().await
    }
}

/// Reads until the peer closes.
async fn discard(reader: &mut ReadHalf<Stream>) -> std::io::Result<()> {
    let mut buffer = [0; 512];
    while reader.read(&mut buffer).await? > 0 {}
    Ok(())
}

/// A panic elsewhere while a lock was held leaves these maps whole: every change is one step.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
