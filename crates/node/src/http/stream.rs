//! Event streams: chunked RecordIO, one record per chunk.
//!
//! The core's thread only queues a [`Record`]; whoever writes the first copy of it encodes it, on
//! the thread of that connection, and all streams of the same content type share the bytes. What
//! waits for one stream is bounded: a client that does not keep up loses its stream, not us our
//! memory.

use super::{Body, ContentType, Response, media, response};
use crate::net::Valve;
use bytes::Bytes;
use http::HeaderValue;
use prost::{Message, Name};
use std::{
    collections::HashMap,
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
};
use tepui_model::StreamId;
use tepui_protocol::recordio;
use tokio::{sync::mpsc, time::Sleep};

/// One event, encoded at most once per content type, for any number of streams.
pub struct Record {
    cost: usize,
    write: Box<dyn Fn(ContentType) -> Bytes + Send + Sync>,
    json: OnceLock<Bytes>,
    protobuf: OnceLock<Bytes>,
}

impl Record {
    /// A record that holds a message.
    pub fn new<T: Message + Name + 'static>(message: Arc<T>) -> Arc<Self> {
        let cost = message.encoded_len();
        Self::lazy(cost, move |content_type| {
            media::encode(content_type, &*message)
        })
    }

    /// A record whose content is computed when it is first written; `cost` estimates its bytes.
    pub fn lazy(
        cost: usize,
        write: impl Fn(ContentType) -> Bytes + Send + Sync + 'static,
    ) -> Arc<Self> {
        let (json, protobuf) = Default::default();
        Arc::new(Self {
            cost,
            write: Box::new(write),
            json,
            protobuf,
        })
    }

    fn framed(&self, content_type: ContentType) -> Bytes {
        let cell = match content_type {
            ContentType::Json => &self.json,
            ContentType::Protobuf => &self.protobuf,
        };
        let framed = || recordio::encode(&(self.write)(content_type)).into();
        cell.get_or_init(framed).clone()
    }
}

/// The reading end: a response body. Dropping it (the client went away) is heard by the
/// [`Streams`] it belongs to.
pub struct EventBody {
    content_type: ContentType,
    queue: mpsc::UnboundedReceiver<Arc<Record>>,
    queued_bytes: Arc<AtomicUsize>,
    abandoned: Arc<AtomicBool>,
    valve: Valve,
    held: Option<Pin<Box<Sleep>>>,
    _closed: Closed,
}

impl EventBody {
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if self.abandoned.load(Ordering::Acquire) {
            return Poll::Ready(None);
        }
        ready!(self.valve.poll_open(cx, &mut self.held));
        self.queue.poll_recv(cx).map(|record| {
            let record = record?;
            self.queued_bytes.fetch_sub(record.cost, Ordering::Relaxed);
            Some(record.framed(self.content_type))
        })
    }
}

struct Closed {
    stream: StreamId,
    tell: mpsc::UnboundedSender<StreamId>,
}

impl Drop for Closed {
    fn drop(&mut self) {
        // Nobody listens once the node stops.
        let _ = self.tell.send(self.stream);
    }
}

/// The writing ends of a node's open streams. Owned by the thread of its core.
pub struct Streams {
    open: HashMap<StreamId, Stream>,
    tell: mpsc::UnboundedSender<StreamId>,
    bytes_max: usize,
    abandoned: Arc<AtomicBool>,
    valve: Valve,
}

struct Stream {
    queue: mpsc::UnboundedSender<Arc<Record>>,
    queued_bytes: Arc<AtomicUsize>,
}

/// Streams whose client went away or that were closed here. May name a stream more than once, and
/// ones that are not open any more: [`Streams::closed`] tells whether it is news.
pub type ClosedStreams = mpsc::UnboundedReceiver<StreamId>;

impl Streams {
    /// No streams yet; up to `bytes_max` bytes of events may wait for each.
    pub fn new(bytes_max: usize) -> (Self, ClosedStreams) {
        Self::behind(Valve::default(), bytes_max)
    }

    /// The same, with everything that is queued waiting behind a valve.
    pub fn behind(valve: Valve, bytes_max: usize) -> (Self, ClosedStreams) {
        let (tell, closed) = mpsc::unbounded_channel();
        (
            Self {
                open: HashMap::new(),
                tell,
                bytes_max,
                abandoned: Arc::default(),
                valve,
            },
            closed,
        )
    }

    /// Opens a stream. The response carries the header `Mesos-Stream-Id` if `named`.
    pub fn open(&mut self, stream: StreamId, content_type: ContentType, named: bool) -> Response {
        let (queue, records) = mpsc::unbounded_channel();
        let queued_bytes = Arc::new(AtomicUsize::new(0));
        self.open.insert(
            stream,
            Stream {
                queue,
                queued_bytes: queued_bytes.clone(),
            },
        );
        let closed = Closed {
            stream,
            tell: self.tell.clone(),
        };
        let body = EventBody {
            content_type,
            queue: records,
            queued_bytes,
            abandoned: self.abandoned.clone(),
            valve: self.valve.clone(),
            held: None,
            _closed: closed,
        };
        let mut response = response::content(content_type.name(), Bytes::new());
        *response.body_mut() = Body::Events(body);
        if named && let Ok(id) = HeaderValue::from_str(&stream.to_string()) {
            response.headers_mut().insert("mesos-stream-id", id);
        }
        response
    }

    /// Once this is set, all streams end without what waits on them. They notice when the
    /// `Streams` are dropped, if not before.
    pub fn abandoned(&self) -> Arc<AtomicBool> {
        self.abandoned.clone()
    }

    /// Queues an event. A stream that is too far behind is closed and will be told as such;
    /// one that is not open is none of our business.
    pub fn send(&mut self, stream: StreamId, record: &Arc<Record>) {
        let Some(open) = self.open.get(&stream) else {
            return;
        };
        let waiting = open.queued_bytes.fetch_add(record.cost, Ordering::Relaxed);
        // One event of any size may wait alone.
        let full = waiting > 0 && waiting + record.cost > self.bytes_max;
        if full {
            tracing::warn!(%stream, waiting, "a client does not read its events");
        }
        if full || open.queue.send(record.clone()).is_err() {
            let _ = self.tell.send(stream);
        }
    }

    /// Ends a stream after what was sent on it.
    pub fn close(&mut self, stream: StreamId) {
        self.open.remove(&stream);
    }

    /// Whether news from [`ClosedStreams`] is news: the stream was open until now.
    pub fn closed(&mut self, stream: StreamId) -> bool {
        self.open.remove(&stream).is_some()
    }

    /// How many are open.
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// Whether none is open.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }
}
