//! Contract of the core: what goes in ([`Input`]) and what comes out ([`Effect`]).

use crate::ask::{Ask, Examination};
use std::{collections::BTreeSet, fmt, sync::Arc};
use tepui_auth::authenticator::SESSION_PROCESS;
use tepui_model::{RequestId, StreamId};
use tepui_protocol::{
    peer::{PeerMessage, Pid},
    v1::{master, scheduler},
};

pub use tepui_journal::registry::Change as RegistryChange;
pub use tepui_model::effects::{Level, Notice, Principal};

/// One thing that happened.
#[derive(Debug, Clone)]
pub enum Input {
    /// Time passed; see `Leader::next_deadline`.
    Tick,
    /// `SUBSCRIBE` on the v1 scheduler API. `stream` is fresh; on success the answer is
    /// [`Effect::OpenStream`], otherwise [`Effect::Reply`].
    Subscribe {
        /// Handle for the reply.
        request: RequestId,
        /// Stream that will carry the events if accepted.
        stream: StreamId,
        /// The whole call (its `type` is `SUBSCRIBE`).
        call: Box<scheduler::Call>,
        /// Authenticated principal.
        principal: Option<Principal>,
    },
    /// Any other call on the v1 scheduler API.
    Call {
        /// Handle for the reply.
        request: RequestId,
        /// `Mesos-Stream-Id` header as sent.
        stream_id: Option<String>,
        /// The call.
        call: Box<scheduler::Call>,
        /// Authenticated principal.
        principal: Option<Principal>,
    },
    /// The peer closed a stream, or it could not keep up.
    StreamClosed {
        /// Which.
        stream: StreamId,
    },
    /// A libprocess message, of a follower or a v0 scheduler driver.
    Peer {
        /// Sender, as it says.
        from: Pid,
        /// Which of our processes it is for.
        to: ProcessName,
        /// What it says.
        message: PeerMessage,
    },
    /// The last link to a process broke or could not be made.
    LinkBroken {
        /// The peer.
        pid: Pid,
    },
    /// Which hosts' followers are offered (`--whitelist`); `None`: all.
    AllowList {
        /// Their names.
        hosts: Option<BTreeSet<String>>,
    },
    /// A call of the v1 operator API that changes something, or an endpoint that maps to one.
    /// Reads are answered from the view without coming here.
    Operator {
        /// Handle for the reply.
        request: RequestId,
        /// The call.
        call: Box<master::Call>,
        /// Which edge it came through; error texts differ.
        via: Via,
        /// Authenticated principal.
        principal: Option<Principal>,
    },
    /// `SUBSCRIBE` on the v1 operator API. Answered with [`Effect::OpenStream`] and
    /// [`Effect::OperatorSnapshot`].
    OperatorSubscribe {
        /// Handle for the reply.
        request: RequestId,
        /// Stream for the events.
        stream: StreamId,
        /// Authenticated principal.
        principal: Option<Principal>,
    },
    /// `explain` or `simulate`. Answered with [`Reply::Examination`].
    Ask {
        /// Handle for the reply.
        request: RequestId,
        /// The question.
        ask: Box<Ask>,
    },
}

/// Which edge an operator request came through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// `POST /api/v1`.
    V1,
    /// An older endpoint of its own (`/teardown`, `/reserve`, `/machine/down`, …).
    Endpoint,
}

/// One thing to do. Effects are carried out in order; those after a [`Effect::Persist`] wait until
/// it is durable (the outbox in `tepui-journal`).
#[derive(Debug, Clone)]
pub enum Effect {
    /// Make durable.
    Persist(RegistryChange),
    /// Answer 200 with a chunked RecordIO stream and the header `Mesos-Stream-Id: stream`.
    OpenStream {
        /// The request to answer.
        request: RequestId,
        /// The stream.
        stream: StreamId,
    },
    /// One event on a scheduler's stream.
    Event {
        /// Where.
        stream: StreamId,
        /// What. Shared: the same event may go to many.
        event: Arc<scheduler::Event>,
    },
    /// First record of an operator's stream: `SUBSCRIBED` with the state of the view that is
    /// published right after this batch of effects. Later operator events follow it.
    OperatorSnapshot {
        /// Where.
        stream: StreamId,
    },
    /// One event for every operator stream that has had its snapshot.
    OperatorEvent(Arc<master::Event>),
    /// End a stream after what was sent on it.
    CloseStream {
        /// Which.
        stream: StreamId,
    },
    /// Answer a request.
    Reply {
        /// Which.
        request: RequestId,
        /// With what.
        reply: Reply,
    },
    /// One libprocess message.
    Send {
        /// To whom.
        to: Pid,
        /// The sending process at our address.
        from: ProcessName,
        /// What.
        message: PeerMessage,
    },
    /// Worth a line in the log.
    Log(Notice),
}

/// A process of the leader: the name it sends under, and is written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProcessName {
    /// `master`
    Leader,
    /// `slave-observer(N)`: the reference pings each follower from a process of its own.
    Observer(u64),
    /// `crammd5-authenticator-session(N)`: and authenticates each peer in one.
    Authenticator(u64),
}

impl fmt::Display for ProcessName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Leader => f.write_str("master"),
            Self::Observer(n) => write!(f, "slave-observer({n})"),
            Self::Authenticator(n) => write!(f, "{SESSION_PROCESS}({n})"),
        }
    }
}

impl ProcessName {
    /// The process that a message's path names, if leaders have such ones.
    pub fn parse(name: &str) -> Option<Self> {
        let numbered = |prefix: &str| -> Option<u64> {
            let number = name
                .strip_prefix(prefix)?
                .strip_prefix('(')?
                .strip_suffix(')')?;
            number.parse().ok()
        };
        if name == "master" {
            return Some(Self::Leader);
        }
        numbered("slave-observer")
            .map(Self::Observer)
            .or_else(|| numbered(SESSION_PROCESS).map(Self::Authenticator))
    }
}

/// Answer to a request.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    /// 202, no body.
    Accepted,
    /// 200, no body.
    Ok,
    /// 200 with a typed body.
    Response(Box<master::Response>),
    /// 200 with a typed body, scheduler API.
    SchedulerResponse(Box<scheduler::Response>),
    /// What it takes to answer a question: whoever asked runs it ([`Examination::run`]), on a thread that nobody waits
    /// for.
    Examination(Box<Examination>),
    /// 200 with a document in JSON.
    Document(String),
    /// An error with a text body.
    Error {
        /// 400, 403, 404, 409, 501, 503.
        status: u16,
        /// For the one who asked.
        message: String,
    },
}

/// Where the core puts its effects.
pub type Effects = tepui_model::effects::Effects<Effect>;
