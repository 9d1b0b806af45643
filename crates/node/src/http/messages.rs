//! Connections of libprocess peers, as long as they send nothing but messages.
//!
//! There is one for every peer, and mostly it is silent, so it keeps nothing but its task: bytes
//! are read into a buffer that all connections of a thread share, and what is left of an unfinished
//! message is kept only until it is whole. The first request that is no message takes the
//! connection, with what was read of it, to [`requests`].

use super::{Limits, Service, delivery::Mailbag, requests, seats::Seat, server::Shared};
use crate::net::Stream;
use http::StatusCode;
use std::{
    cell::RefCell,
    future::{Future, poll_fn},
    io::{self, Write},
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::{Duration, SystemTime},
};
use tepui_protocol::libprocess::frame::{FrameError, FrameLimits, FrameParser, Parsed, Stage};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Instant, Sleep, sleep_until, timeout_at},
};

/// Bytes that are read at once.
const READ_BYTES: usize = 64 << 10;
/// Messages after which other connections have their turn.
const TURN_MESSAGES: usize = 64;

thread_local! {
    /// What is read is copied from here at once: nobody waits while it is in use.
    static READ: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_BYTES]);
    /// The second that the text is of.
    static DATE: RefCell<(u64, String)> = const { RefCell::new((0, String::new())) };
}

/// What the timer of a connection runs for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Nothing was ever received.
    Fresh,
    /// Between messages.
    Idle,
    Head,
    Body,
}

impl Phase {
    fn patience(self, limits: &Limits) -> Duration {
        match self {
            Self::Fresh => limits.first_byte_timeout,
            Self::Idle => limits.idle_timeout,
            Self::Head => limits.head_timeout,
            Self::Body => limits.body_timeout,
        }
    }
}

/// One connection: idle, or doing something. What it does is boxed, and gone when it is done, so
/// that an idle connection is no larger than what it has to remember.
pub(super) struct Connection<S> {
    idle: Option<Idle<S>>,
    timer: Pin<Box<Sleep>>,
    busy: Option<Busy<S>>,
}

/// Ends with the connection if it goes on.
type Busy<S> = Pin<Box<dyn Future<Output = Option<Idle<S>>> + Send>>;

struct Idle<S> {
    stream: Stream,
    shared: Arc<Shared<S>>,
    seat: Seat,
    mailbag: Mailbag,
    parser: FrameParser,
    /// Received and not consumed.
    received: Vec<u8>,
    /// The peer does not take answers any more; what it sent still counts.
    mute: bool,
    phase: Phase,
    deadline: Instant,
}

/// What follows a read.
enum Read {
    More,
    /// The peer will not say more.
    End,
    TimedOut,
}

/// What follows the messages that were received.
enum Next {
    Read,
    Request,
    Close,
}

impl<S: Service> Connection<S> {
    pub(super) fn new(
        tcp: TcpStream,
        remote: SocketAddr,
        shared: Arc<Shared<S>>,
        seat: Seat,
    ) -> Self {
        let deadline = later(shared.limits.first_byte_timeout);
        Self {
            idle: None,
            timer: Box::pin(sleep_until(deadline)),
            busy: Some(Box::pin(begin(tcp, remote, shared, seat, deadline))),
        }
    }
}

impl<S: Service> Future for Connection<S> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        loop {
            if let Some(busy) = &mut this.busy {
                this.idle = ready!(busy.as_mut().poll(cx));
                this.busy = None;
            }
            let Some(idle) = &mut this.idle else {
                return Poll::Ready(());
            };
            let read = ready!(idle.poll_read(cx, this.timer.as_mut()));
            if let Some(idle) = this.idle.take() {
                this.busy = Some(Box::pin(idle.go_on(read)));
            }
        }
    }
}

/// Takes a connection over.
async fn begin<S: Service>(
    tcp: TcpStream,
    remote: SocketAddr,
    shared: Arc<Shared<S>>,
    seat: Seat,
    deadline: Instant,
) -> Option<Idle<S>> {
    let accepted = shared.transport.accept(tcp, shared.limits.head_timeout);
    let accepted = timeout_at(deadline, accepted).await;
    let stream = match accepted.unwrap_or(Err(io::ErrorKind::TimedOut.into())) {
        Ok(stream) => stream,
        Err(error) => {
            tracing::debug!(%remote, %error, "connection lost");
            return None;
        }
    };
    let limits = FrameLimits {
        head_bytes_max: shared.limits.head_bytes_max,
        body_bytes_max: shared.limits.body_bytes_max,
    };
    Some(Idle {
        stream,
        mailbag: Mailbag::new(remote, shared.limits.inputs_max),
        shared,
        seat,
        parser: FrameParser::new(limits),
        received: Vec::new(),
        mute: false,
        phase: Phase::Fresh,
        deadline,
    })
}

impl<S: Service> Idle<S> {
    /// Does what a read leads to, and idles again if the connection goes on.
    async fn go_on(mut self, read: Read) -> Option<Self> {
        let mut answers = Vec::new();
        let next = match read {
            Read::More => self.deliver(&mut answers).await,
            // What is unfinished deserves the same answer as any unfinished request.
            Read::End if !self.received.is_empty() => Next::Request,
            Read::End => return None,
            Read::TimedOut => {
                if self.phase == Phase::Body {
                    refuse(&mut answers, StatusCode::REQUEST_TIMEOUT);
                }
                Next::Close
            }
        };
        self.answer(&answers).await.ok()?;
        match next {
            Next::Read => Some(self),
            Next::Close => None,
            Next::Request => {
                self.seat.requests();
                requests::serve(
                    self.stream,
                    self.received,
                    self.shared,
                    self.seat,
                    self.mailbag,
                )
                .await;
                None
            }
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, timer: Pin<&mut Sleep>) -> Poll<Read> {
        let read = READ.with_borrow_mut(|buffer| {
            let mut buffer = ReadBuf::new(buffer);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer))?;
            self.received.extend_from_slice(buffer.filled());
            Poll::Ready(io::Result::Ok(buffer.filled().len()))
        });
        match read {
            Poll::Ready(Ok(0) | Err(_)) => Poll::Ready(Read::End),
            Poll::Ready(Ok(_)) => Poll::Ready(Read::More),
            Poll::Pending => {
                self.enter_phase();
                self.poll_timer(cx, timer).map(|()| Read::TimedOut)
            }
        }
    }

    /// Nothing more is there to be read: for what does the connection wait, and how long?
    fn enter_phase(&mut self) {
        let phase = match self.parser.stage() {
            Stage::Start if self.phase == Phase::Fresh => return,
            Stage::Start => Phase::Idle,
            Stage::Head => Phase::Head,
            Stage::Body => Phase::Body,
        };
        if self.phase != phase {
            self.phase = phase;
            self.deadline = later(phase.patience(&self.shared.limits));
        }
    }

    /// The timer is only moved when that cannot wait until it fires: most messages come whole, and
    /// cost no timer.
    fn poll_timer(&self, cx: &mut Context<'_>, mut timer: Pin<&mut Sleep>) -> Poll<()> {
        if self.deadline < timer.deadline() {
            timer.as_mut().reset(self.deadline);
        }
        loop {
            ready!(timer.as_mut().poll(cx));
            if timer.deadline() >= self.deadline {
                return Poll::Ready(());
            }
            timer.as_mut().reset(self.deadline);
        }
    }

    /// Delivers the whole messages that were received, in order.
    async fn deliver(&mut self, answers: &mut Vec<u8>) -> Next {
        let (mut consumed, mut count) = (0, 0);
        let next = loop {
            if consumed == self.received.len() {
                break Next::Read;
            }
            let frame = match self.parser.advance(&self.received[consumed..]) {
                Ok(Parsed::Partial) => break Next::Read,
                Ok(Parsed::Other) => break Next::Request,
                Ok(Parsed::Message(frame)) => frame,
                Err(error) => {
                    let remote = self.mailbag.remote();
                    self.shared.dropped(|more| {
                        tracing::info!(%remote, %error, more, "dropped a message and its connection");
                    });
                    let status = match error {
                        FrameError::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
                        _ => StatusCode::BAD_REQUEST,
                    };
                    refuse(answers, status);
                    break Next::Close;
                }
            };
            consumed += frame.length;
            self.seat.known();
            // The timers of the next message begin anew.
            self.phase = Phase::Idle;
            self.deadline = later(self.shared.limits.idle_timeout);
            let verdict = self
                .mailbag
                .deliver(&self.shared, frame.envelope, frame.body);
            let verdict = verdict.await;
            respond(answers, verdict.status(), &verdict.text(), false);
            count += 1;
            if count % TURN_MESSAGES == 0 {
                tokio::task::yield_now().await;
            }
        };
        if consumed == self.received.len() {
            self.received = Vec::new();
        } else {
            self.received.drain(..consumed);
        }
        next
    }

    /// Sends what is owed. An error: the peer does not take it in time.
    async fn answer(&mut self, answers: &[u8]) -> Result<(), ()> {
        if answers.is_empty() {
            return Ok(());
        }
        let mut rest = answers;
        while !rest.is_empty() && !self.mute {
            let write = poll_fn(|cx| Pin::new(&mut self.stream).poll_write(cx, rest));
            let patience = self.shared.limits.write_timeout;
            // Not waiting for anything needs no timer.
            let written = match poll_now(write).await {
                Ok(written) => written,
                Err(write) => tokio::time::timeout(patience, write)
                    .await
                    .map_err(|_| ())?,
            };
            match written {
                Ok(0) | Err(_) => self.mute = true,
                Ok(written) => rest = rest.get(written..).unwrap_or_default(),
            }
        }
        if !self.mute {
            let flush = poll_fn(|cx| Pin::new(&mut self.stream).poll_flush(cx));
            let flushed = tokio::time::timeout(self.shared.limits.write_timeout, flush).await;
            self.mute = flushed.map_err(|_| ())?.is_err();
        }
        Ok(())
    }
}

/// The result of a future that is ready, or the future.
async fn poll_now<F: Future + Unpin>(mut future: F) -> Result<F::Output, F> {
    let polled = poll_fn(|cx| Poll::Ready(Pin::new(&mut future).poll(cx))).await;
    match polled {
        Poll::Ready(output) => Ok(output),
        Poll::Pending => Err(future),
    }
}

/// Now and some time.
fn later(patience: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(patience)
        .unwrap_or_else(|| now + Duration::from_secs(1 << 30))
}

/// Appends an answer after which nothing can follow: the rest of the message is still to come.
fn refuse(out: &mut Vec<u8>, status: StatusCode) {
    respond(out, status, &format!("{status}."), true);
}

/// Appends a response. The order of headers is the reference's.
fn respond(out: &mut Vec<u8>, status: StatusCode, text: &str, close: bool) {
    let content_type = match text {
        "" => "",
        _ => "Content-Type: text/plain; charset=utf-8\r\n",
    };
    let connection = if close { "Connection: close\r\n" } else { "" };
    with_date(|date| {
        // Writing to memory does not fail.
        let _ = write!(
            out,
            "HTTP/1.1 {status}\r\nDate: {date}\r\n{content_type}Content-Length: {}\r\n{connection}\r\n{text}",
            text.len()
        );
    });
}

fn with_date(write: impl FnOnce(&str)) {
    let now = SystemTime::now();
    let seconds = now
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    DATE.with_borrow_mut(|(of, text)| {
        if *of != seconds || text.is_empty() {
            *text = httpdate::fmt_http_date(now);
            *of = seconds;
        }
        write(text);
    });
}
