//! What goes into and comes out of a [`super::Group`].

use crate::{Lease, Standing};
use std::{sync::Arc, time::Duration};
use tepui_protocol::v1;

/// Something happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// A session began, or was taken up again.
    Connected {
        /// Which.
        session: i64,
        /// What the server granted.
        timeout: Duration,
    },
    /// No server is connected; the session may live on.
    Suspended,
    /// The session is over, and all its ephemeral znodes with it.
    Expired,
    /// No session can be had, and why.
    Refused(String),
    /// The children may have changed since they were last listed.
    Changed,
    /// What became of a request. Each is answered exactly once.
    Answered {
        /// Which.
        ask: AskId,
        /// How.
        result: Result<Answer, Failure>,
    },
    /// Take part from now on, with this about ourselves.
    Contend(Arc<v1::MasterInfo>),
    /// Take part no longer.
    Withdraw,
    /// A deadline was reached.
    Tick,
}

/// Names a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AskId(pub u64);

/// Something is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Ask ZooKeeper, in the session that is connected.
    Ask(AskId, Request),
    /// Give the session up, if there is one, and begin another.
    RenewSession,
    /// Our standing changed.
    Standing(Standing),
    /// The lease of the tenure that is on, or that is about to be announced.
    Lease(Lease),
    /// Somebody should know.
    Notice(String),
}

/// A request. Paths of members are full.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Make the znode of the election, and those above it.
    MakePath,
    /// List its children and tell once when they change ([`Input::Changed`]).
    List,
    /// Read a member and who owns it.
    Read(String),
    /// Create an ephemeral sequential znode whose name begins with [`crate::MEMBER_PREFIX`].
    Create(Arc<[u8]>),
    /// Delete a member.
    Delete(String),
    /// Ask the server that counts (`sync`), then look whether this member exists.
    Check(String),
}

/// What ZooKeeper said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// To [`Request::MakePath`]: it is there, whoever made it.
    PathMade,
    /// To [`Request::List`].
    Listed {
        /// The names, in any order.
        names: Vec<String>,
        /// Which znode it is whose children these are (its `czxid`). Once it has been deleted and made
        /// anew its children's numbers begin anew, too.
        birth: i64,
    },
    /// To [`Request::Read`].
    Read {
        /// What it holds.
        data: Vec<u8>,
        /// The session that owns it; 0 if it is not ephemeral.
        owner: i64,
    },
    /// To [`Request::Create`]: the name, without the path.
    Created(String),
    /// To [`Request::Delete`].
    Deleted,
    /// To [`Request::Check`].
    Exists(bool),
}

/// Why a request failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Nobody knows whether it was carried out.
    Lost,
    /// There is no such znode.
    NoNode,
    /// We may not.
    Denied,
    /// Anything else; it was not carried out.
    Other(String),
}
