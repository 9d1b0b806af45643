//! The task of a link: connects, writes what is queued, and notices when the peer is gone.

use super::{
    OpenFile, Stream,
    links::{Shared, lock},
    transport::is_closed_by_peer,
};
use std::{
    future::{Future, poll_fn},
    io,
    mem::MaybeUninit,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::mpsc,
    time::{Sleep, sleep, timeout},
};

/// How long a peer may take to close its end once we closed ours.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// Bytes of answers that are thrown away at once.
const DISCARDED_BYTES: usize = 4096;
/// Everything but the body of a message, about: what is queued is counted before it is written out.
const HEAD_BYTES: usize = 320;

/// What waits to be written. Messages that wait together are written together.
#[derive(Debug, Default)]
pub(super) struct Queue(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    bytes: Vec<u8>,
    /// Bytes that were taken and are being written.
    taken: usize,
    /// Counts what was taken.
    batch: u32,
    state: State,
    waker: Option<Waker>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Open,
    /// Ends after what is queued.
    Closing,
    /// Ends at once.
    Abandoned,
}

impl Queue {
    /// With something in it.
    pub(super) fn of(bytes: Vec<u8>) -> Self {
        Self(Mutex::new(Waiting {
            bytes,
            ..Waiting::default()
        }))
    }

    /// Appends one message, and says with which batch it will be written. One message of any size
    /// may wait alone; an error says how many bytes wait already.
    pub(super) fn push(
        &self,
        body: usize,
        max: usize,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Result<u32, usize> {
        let mut waiting = lock(&self.0);
        let before = waiting.bytes.len() + waiting.taken;
        if before > 0 && before + body + HEAD_BYTES > max {
            return Err(before);
        }
        waiting.bytes.reserve(body + HEAD_BYTES);
        write(&mut waiting.bytes);
        // Whoever is writing looks again by itself.
        let waker = (waiting.taken == 0).then(|| waiting.waker.take());
        let (batch, waker) = (waiting.batch, waker.flatten());
        drop(waiting);
        waker.inspect(Waker::wake_by_ref);
        Ok(batch)
    }

    /// Nothing more will be pushed.
    pub(super) fn close(&self) {
        self.end(State::Closing);
    }

    /// What is queued is of no use any more.
    pub(super) fn abandon(&self) {
        lock(&self.0).bytes = Vec::new();
        self.end(State::Abandoned);
    }

    fn end(&self, state: State) {
        let mut waiting = lock(&self.0);
        waiting.state = state;
        let waker = waiting.waker.take();
        drop(waiting);
        waker.inspect(Waker::wake_by_ref);
    }

    /// What was never taken, and its batch.
    pub(super) fn take_left(&self) -> (Vec<u8>, u32) {
        let mut waiting = lock(&self.0);
        (std::mem::take(&mut waiting.bytes), waiting.batch)
    }

    fn is_empty(&self) -> bool {
        lock(&self.0).bytes.is_empty()
    }

    fn is_abandoned(&self) -> bool {
        lock(&self.0).state == State::Abandoned
    }

    /// The task is woken when the queue ends.
    fn watch(&self, cx: &Context<'_>) {
        lock(&self.0).waker = Some(cx.waker().clone());
    }

    /// What is to be written next; pending when there is nothing, `None` when that is all.
    fn poll_take(&self, cx: &mut Context<'_>) -> Poll<Option<Vec<u8>>> {
        let mut waiting = lock(&self.0);
        waiting.taken = waiting.bytes.len();
        if waiting.taken > 0 {
            waiting.batch = waiting.batch.wrapping_add(1);
            return Poll::Ready(Some(std::mem::take(&mut waiting.bytes)));
        }
        if waiting.state != State::Open {
            return Poll::Ready(None);
        }
        waiting.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

/// One link.
pub(super) struct LinkTask {
    address: SocketAddr,
    generation: u64,
    shared: Arc<Shared>,
    queue: Arc<Queue>,
    _held: Held,
}

/// What a link holds as long as it lasts: whoever waits for all links, and its file descriptor.
pub(super) type Held = (mpsc::Sender<()>, Option<OpenFile>);

impl LinkTask {
    pub(super) fn new(
        address: SocketAddr,
        generation: u64,
        shared: Arc<Shared>,
        queue: Arc<Queue>,
        held: Held,
    ) -> Self {
        Self {
            address,
            generation,
            shared,
            queue,
            _held: held,
        }
    }

    /// To its end.
    pub(super) async fn run(self) {
        let patience = self.shared.options.connect_timeout;
        // What is large and does not last is kept out of the task.
        let connect = Box::pin(self.shared.transport.connect(self.address, patience));
        let stream = match connect.await {
            Ok(stream) => stream,
            Err(error) => return self.end(&error, false),
        };
        let mut writer = Writer {
            stream,
            batch: Vec::new(),
            written: 0,
            timer: None,
            held: None,
        };
        match poll_fn(|cx| writer.poll(cx, &self)).await {
            Ok(()) if self.queue.is_abandoned() => {}
            Ok(()) => {
                // Closing while answers arrive would reset the connection and could take our last
                // messages with it.
                let _ = timeout(CLOSE_TIMEOUT, writer.close()).await;
            }
            // What was begun cannot be told from what arrived.
            Err(error) => {
                let carry = writer.batch.is_empty();
                drop(writer);
                self.end(&error, carry);
            }
        }
    }

    fn end(self, error: &io::Error, carry: bool) {
        if let Some(more) = self.shared.log.take() {
            tracing::info!(peer = %self.address, %error, more, "link to a peer broke");
        }
        self.shared.ended(self.address, self.generation, carry);
    }
}

/// A connection with what is being written to it.
struct Writer {
    stream: Stream,
    batch: Vec<u8>,
    written: usize,
    timer: Option<Pin<Box<Sleep>>>,
    /// While the valve is closed.
    held: Option<Pin<Box<Sleep>>>,
}

impl Writer {
    /// Writes until the queue ends.
    fn poll(&mut self, cx: &mut Context<'_>, link: &LinkTask) -> Poll<io::Result<()>> {
        loop {
            if link.queue.is_abandoned() {
                return Poll::Ready(Ok(()));
            }
            // Before the very write: it may have been long since the last one.
            let valve = &link.shared.options.valve;
            if (!self.batch.is_empty() || !link.queue.is_empty())
                && valve.poll_open(cx, &mut self.held).is_pending()
            {
                link.queue.watch(cx);
                return Poll::Pending;
            }
            self.held = None;
            if let Poll::Ready(end) = self.poll_discard(cx) {
                end?;
                return Poll::Ready(Err(closed_by_peer()));
            }
            if self.poll_write(cx)?.is_pending() {
                link.queue.watch(cx);
                return self.poll_timer(cx, link.shared.options.write_timeout);
            }
            self.timer = None;
            // The system may know of an end that we were not woken for yet.
            if !link.queue.is_empty() && is_closed_by_peer(&self.stream) {
                return Poll::Ready(Err(closed_by_peer()));
            }
            match ready!(link.queue.poll_take(cx)) {
                Some(batch) => self.batch = batch,
                None => return Poll::Ready(Ok(())),
            }
        }
    }

    /// Reads and forgets what the peer answers. Ready at the end.
    fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut space = [MaybeUninit::uninit(); DISCARDED_BYTES];
        loop {
            let mut buffer = ReadBuf::uninit(&mut space);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer))?;
            if buffer.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Writes what was taken.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.batch.is_empty() {
            return Poll::Ready(Ok(()));
        }
        while let Some(rest) = self.batch.get(self.written..).filter(|r| !r.is_empty()) {
            let written = ready!(Pin::new(&mut self.stream).poll_write(cx, rest))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += written;
            // Progress: the peer's time begins anew.
            self.timer = None;
        }
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        self.batch = Vec::new();
        self.written = 0;
        Poll::Ready(Ok(()))
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>, patience: Duration) -> Poll<io::Result<()>> {
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(patience)));
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    /// Closes our end and waits for the peer to close its own.
    async fn close(&mut self) -> io::Result<()> {
        poll_fn(|cx| Pin::new(&mut self.stream).poll_shutdown(cx)).await?;
        poll_fn(|cx| self.poll_discard(cx)).await
    }
}

fn closed_by_peer() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "closed by the peer")
}
