//! The joint between a leader and whatever elects it.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};
use tepui_protocol::v1::MasterInfo;
use tokio::sync::watch;

/// Enters elections for a leader.
pub trait Contender: Send + Sync + 'static {
    /// Enters the election. Others are told `info`. Must be called within a tokio runtime.
    fn contend(&self, info: MasterInfo) -> Candidacy;
}

/// Taking part in an election. It goes on, through lost connections and sessions, until it is
/// withdrawn.
pub struct Candidacy {
    /// How the election stands.
    pub standing: watch::Receiver<Standing>,
    /// Whether we may act, if we lead.
    pub lease: Arc<dyn Lease>,
    /// How long a leader whose lease has run out waits for it to come back before it steps down.
    pub patience: Duration,
    /// Leaves the election.
    pub withdraw: Withdraw,
}

/// Leaves the election; completes once nobody takes us for a candidate any more.
pub type Withdraw = Box<dyn FnOnce() -> Pin<Box<dyn Future<Output = ()> + Send>> + Send>;

/// What a leader may act on, read before everything that it says. Must cost next to nothing.
pub trait Lease: Send + Sync + 'static {
    /// Whether nobody else can have been elected.
    fn may_act(&self) -> bool;
}

/// How an election stands.
#[derive(Debug, Clone, PartialEq)]
pub enum Standing {
    /// There is no session, or nothing is known yet.
    Unknown,
    /// Somebody else leads, or nobody.
    Following(Option<MasterInfo>),
    /// We lead.
    Leading(Tenure),
}

/// One victory in an election.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tenure {
    /// Full path of our membership znode: whatever is written is written only while it exists.
    pub member: String,
}
