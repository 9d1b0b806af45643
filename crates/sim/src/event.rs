//! Who is there, what travels between them, and what happens when.

use std::{
    fmt,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};
use tepui_model::{
    StreamId, Time,
    container::{ContainerEvent, ContainerId},
};
use tepui_protocol::{
    peer::{PeerMessage, Pid},
    v1::scheduler,
};

use crate::zookeeper::{Request, Response};

/// A process, and the machine that it runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Host {
    /// One that leads or stands by.
    Leader(u8),
    /// A follower.
    Follower(u8),
    /// A scheduler.
    Framework(u8),
    /// The ensemble, which counts as one.
    ZooKeeper,
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Leader(n) => write!(f, "leader{n}"),
            Self::Follower(n) => write!(f, "follower{n}"),
            Self::Framework(n) => write!(f, "framework{n}"),
            Self::ZooKeeper => f.write_str("zookeeper"),
        }
    }
}

impl Host {
    /// Where it listens.
    pub fn address(self) -> SocketAddr {
        let (net, number, port) = match self {
            Self::Leader(n) => (0, n, 5050),
            Self::Follower(n) => (1, n, 5051),
            Self::Framework(n) => (2, n, 8080),
            Self::ZooKeeper => (3, 0, 2181),
        };
        SocketAddr::new(Ipv4Addr::new(10, 0, net, number + 1).into(), port)
    }

    /// Who listens there.
    pub(crate) fn at(address: SocketAddr) -> Option<Self> {
        let SocketAddr::V4(address) = address else {
            return None;
        };
        let [10, 0, net, number] = address.ip().octets() else {
            return None;
        };
        let number = number.checked_sub(1)?;
        match net {
            0 => Some(Self::Leader(number)),
            1 => Some(Self::Follower(number)),
            2 => Some(Self::Framework(number)),
            _ => None,
        }
    }

    /// Reads what `Display` writes.
    pub fn parse(text: &str) -> Option<Self> {
        let number = |prefix: &str| text.strip_prefix(prefix).and_then(|n| n.parse().ok());
        if text == "zookeeper" {
            return Some(Self::ZooKeeper);
        }
        number("leader")
            .map(Self::Leader)
            .or_else(|| number("follower").map(Self::Follower))
            .or_else(|| number("framework").map(Self::Framework))
    }
}

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Channel {
    /// Messages between libprocess peers, one way.
    Messages,
    /// Requests of a scheduler.
    Calls,
    /// Answers and events for a scheduler.
    Events,
    /// Between ZooKeeper and a client, one way each.
    Session,
}

/// A connection: in one direction, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LinkKey {
    pub(crate) from: Host,
    pub(crate) to: Host,
    pub(crate) channel: Channel,
}

/// What travels on a connection.
#[derive(Debug, Clone)]
pub(crate) enum Parcel {
    Peer {
        from: Pid,
        to: String,
        message: PeerMessage,
    },
    Subscribe(Box<scheduler::Call>),
    Call {
        stream: StreamId,
        call: Box<scheduler::Call>,
    },
    Answer {
        status: u16,
        text: String,
    },
    Opened(StreamId),
    Event {
        stream: StreamId,
        event: Arc<scheduler::Event>,
    },
    Closed,
    Request(Request),
    Response(Response),
}

impl Parcel {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Peer { message, .. } => message.name().rsplit('.').next().unwrap_or_default(),
            Self::Subscribe(_) => "SUBSCRIBE",
            Self::Call { call, .. } => call.r#type().as_str_name(),
            Self::Answer { .. } => "answer",
            Self::Opened(_) => "stream",
            Self::Event { event, .. } => event.r#type().as_str_name(),
            Self::Closed => "end of stream",
            Self::Request(request) => request.name(),
            Self::Response(response) => response.name(),
        }
    }
}

/// What happens at some moment.
#[derive(Debug)]
pub(crate) enum Event {
    /// A node's deadline.
    Wake { host: Host, at: Time },
    /// A process is started again.
    Start { host: Host },
    /// Something comes to the end of a connection.
    Arrive {
        link: LinkKey,
        generation: u32,
        boot: u32,
        parcel: Parcel,
    },
    /// A connection that got nowhere is given up.
    GiveUp { link: LinkKey, doom: u32 },
    /// A process hears that one of its connections is gone.
    Broken {
        link: LinkKey,
        boot: u32,
        generation: u32,
        names: Vec<String>,
    },
    /// A follower's records are on its disk, or cannot be.
    Written { host: Host, boot: u32, ok: bool },
    /// A container's command is to be started.
    Launch { machine: u8, container: ContainerId },
    /// A command ends by itself.
    End { machine: u8, pid: u32 },
    /// A signal takes effect.
    Killed { machine: u8, pid: u32, signal: i32 },
    /// A follower hears of a container.
    News {
        machine: u8,
        boot: u32,
        container: ContainerId,
        event: ContainerEvent,
    },
    /// A directory was removed.
    Removed {
        machine: u8,
        boot: u32,
        path: std::path::PathBuf,
    },
    /// A sandbox was made.
    SandboxReady {
        machine: u8,
        boot: u32,
        container: ContainerId,
    },
    /// ZooKeeper looks whether a session has expired.
    SessionDue(i64),
    /// A fault of the plan begins.
    Fault(usize),
    /// It ends.
    Heal(usize),
    /// An operator looks what is to be done.
    Operate,
    /// Nothing goes wrong from now on.
    Calm,
}
