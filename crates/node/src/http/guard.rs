//! Connections that cannot be held for nothing: [`Guarded`] ends a read or write that makes no
//! progress, with a patience that depends on what the connection is doing.
//!
//! hyper's own header timer cannot do this: it would also close idle connections, which libprocess
//! peers take for our death.

use super::Limits;
use futures_util::task::AtomicWaker;
use hyper::body::Frame;
use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep, sleep_until},
};

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Phase {
    /// Nothing was ever received.
    Fresh = 0,
    /// Between requests.
    Idle = 1,
    /// A head has begun.
    Head = 2,
    /// A request is being read, handled or answered: its own timers apply.
    Busy = 3,
}

/// Shared by a connection and the requests on it.
#[derive(Clone, Debug, Default)]
pub(super) struct Activity(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    phase: AtomicU8,
    /// The connection's task, when it waits for bytes while busy: it must look again once it is
    /// idle, to start the timer of that.
    reader: AtomicWaker,
}

impl Activity {
    fn phase(&self) -> Phase {
        match self.0.phase.load(Ordering::Acquire) {
            0 => Phase::Fresh,
            1 => Phase::Idle,
            2 => Phase::Head,
            _ => Phase::Busy,
        }
    }

    fn set(&self, phase: Phase) {
        self.0.phase.store(phase as u8, Ordering::Release);
    }

    /// A head has been read; the connection is busy until the result is dropped.
    pub(super) fn busy(&self) -> Busy {
        self.set(Phase::Busy);
        Busy(self.clone())
    }
}

/// Marks its connection as busy while it lives.
#[derive(Debug)]
pub(super) struct Busy(Activity);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.set(Phase::Idle);
        self.0.0.reader.wake();
    }
}

/// A response body that keeps its connection busy.
pub(super) struct BusyBody<B> {
    pub(super) body: B,
    pub(super) _busy: Busy,
}

impl<B: hyper::body::Body + Unpin> hyper::body::Body for BusyBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        self.body.size_hint()
    }
}

/// A connection with timers.
pub(super) struct Guarded<S> {
    stream: S,
    activity: Activity,
    limits: Arc<Limits>,
    read: Option<(Phase, Pin<Box<Sleep>>)>,
    write: Option<Pin<Box<Sleep>>>,
}

impl<S> Guarded<S> {
    pub(super) fn new(stream: S, limits: Arc<Limits>) -> (Self, Activity) {
        let activity = Activity::default();
        let guarded = Self {
            stream,
            activity: activity.clone(),
            limits,
            read: None,
            write: None,
        };
        (guarded, activity)
    }

    fn patience(&self, phase: Phase) -> Option<Duration> {
        match phase {
            Phase::Fresh => Some(self.limits.first_byte_timeout),
            Phase::Idle => Some(self.limits.idle_timeout),
            Phase::Head => Some(self.limits.head_timeout),
            Phase::Busy => None,
        }
    }

    /// Nothing could be read: starts or polls the timer of the current phase.
    fn poll_read_timer(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Registered before the phase is read: one that changes in between is not missed.
        self.activity.0.reader.register(cx.waker());
        let phase = self.activity.phase();
        let Some(patience) = self.patience(phase) else {
            self.read = None;
            return Poll::Pending;
        };
        if self.read.as_ref().is_none_or(|(since, _)| *since != phase) {
            let deadline = Instant::now().checked_add(patience);
            let deadline =
                deadline.unwrap_or_else(|| Instant::now() + Duration::from_secs(1 << 30));
            self.read = Some((phase, Box::pin(sleep_until(deadline))));
        }
        if let Some((_, timer)) = &mut self.read {
            ready!(timer.as_mut().poll(cx));
        }
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    /// Turns a write that cannot go on into an error once the client's time is up.
    fn watch_write<T>(
        &mut self,
        cx: &mut Context<'_>,
        result: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if result.is_ready() {
            self.write = None;
            return result;
        }
        let patience = self.limits.write_timeout;
        let timer = self.write.get_or_insert_with(|| Box::pin(sleep(patience)));
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buf.filled().len();
        match Pin::new(&mut this.stream).poll_read(cx, buf) {
            Poll::Ready(Ok(())) => {
                let idle = matches!(this.activity.phase(), Phase::Fresh | Phase::Idle);
                if idle && buf.filled().len() > before {
                    this.activity.set(Phase::Head);
                    // The head's time runs from its first byte, whether or not more follow.
                    let deadline = Instant::now() + this.limits.head_timeout;
                    this.read = Some((Phase::Head, Box::pin(sleep_until(deadline))));
                }
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => this.poll_read_timer(cx),
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.watch_write(cx, result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.watch_write(cx, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_flush(cx);
        self.watch_write(cx, result)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.watch_write(cx, result)
    }
}
