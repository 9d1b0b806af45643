//! Requests that await a core's answer.
//!
//! The HTTP side has an [`Inbox`]: it posts inputs, with a [`Ticket`] for each one that is to be
//! answered, and waits. The core's thread files the tickets in its [`Tray`] and answers them by
//! [`RequestId`], now or much later. A client that gives up meanwhile costs nothing: its answer
//! goes nowhere.

use crate::http::{ContentType, Permit, Response, stream::Streams};
use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use tepui_model::{RequestId, StreamId};
use tokio::sync::{mpsc, oneshot};

/// Inputs that may wait for a core before those who bring more must wait themselves.
pub const INBOX_INPUTS: usize = 4096;

/// What a core says to a request.
pub enum Answer<R> {
    /// One reply, to be worded by the HTTP side.
    Reply(R),
    /// The head of an event stream, ready to go.
    Stream(Response),
}

/// The right to answer one request.
pub struct Ticket<R> {
    request: RequestId,
    /// How a stream that answers it is to be written.
    content_type: ContentType,
    answer: oneshot::Sender<Answer<R>>,
}

/// One input on its way to a core.
pub struct Job<I, R> {
    /// What happened.
    pub input: I,
    /// Who waits for the answer to it.
    pub ticket: Option<Ticket<R>>,
    /// Given back when the job is dropped, which is after it was handled.
    pub permit: Permit,
}

/// Where inputs for a core are posted. Clones post to the same core.
pub struct Inbox<I, R> {
    jobs: mpsc::Sender<Job<I, R>>,
    next_request: Arc<AtomicU64>,
}

impl<I, R> Clone for Inbox<I, R> {
    fn clone(&self) -> Self {
        Self {
            jobs: self.jobs.clone(),
            next_request: self.next_request.clone(),
        }
    }
}

/// The core does not take inputs any more: the node is stopping.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the node is stopping")]
pub struct Stopped;

impl<I, R> Inbox<I, R> {
    /// An inbox and its core's end.
    pub fn new(capacity: usize) -> (Self, mpsc::Receiver<Job<I, R>>) {
        let (jobs, queue) = mpsc::channel(capacity);
        (
            Self {
                jobs,
                next_request: Arc::default(),
            },
            queue,
        )
    }

    /// Posts an input that nobody waits for, once there is room. The permit is held until the core
    /// has handled it.
    pub async fn post(&self, input: I, permit: Permit) -> Result<(), Stopped> {
        self.jobs
            .send(Job {
                input,
                ticket: None,
                permit,
            })
            .await
            .map_err(|_| Stopped)
    }

    /// Posts an input and waits for the answer to it.
    pub async fn call(
        &self,
        content_type: ContentType,
        input: impl FnOnce(RequestId) -> I,
    ) -> Result<Answer<R>, Stopped> {
        let request = RequestId(self.next_request.fetch_add(1, Ordering::Relaxed));
        let (answer, answered) = oneshot::channel();
        let ticket = Some(Ticket {
            request,
            content_type,
            answer,
        });
        let job = Job {
            input: input(request),
            ticket,
            permit: Permit::none(),
        };
        self.jobs.send(job).await.map_err(|_| Stopped)?;
        answered.await.map_err(|_| Stopped)
    }
}

/// The tickets a core has not answered yet. Owned by its thread.
pub struct Tray<R> {
    tickets: HashMap<RequestId, Ticket<R>>,
}

impl<R> Default for Tray<R> {
    fn default() -> Self {
        Self {
            tickets: HashMap::new(),
        }
    }
}

impl<R> Tray<R> {
    /// Keeps a ticket until it is answered.
    pub fn file(&mut self, ticket: Ticket<R>) {
        self.tickets.insert(ticket.request, ticket);
    }

    /// Answers a request. Whoever gave up, or was answered before, is passed over.
    pub fn reply(&mut self, request: RequestId, reply: R) {
        if let Some(ticket) = self.tickets.remove(&request) {
            let _ = ticket.answer.send(Answer::Reply(reply));
        }
    }

    /// Answers a request with a stream, opened in `streams`. If the client gave up meanwhile, the
    /// stream is closed at once and told as such.
    pub fn open(
        &mut self,
        request: RequestId,
        stream: StreamId,
        named: bool,
        streams: &mut Streams,
    ) {
        if let Some(ticket) = self.tickets.remove(&request) {
            let head = streams.open(stream, ticket.content_type, named);
            let _ = ticket.answer.send(Answer::Stream(head));
        }
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.tickets.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.tickets.is_empty()
    }
}
