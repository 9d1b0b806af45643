//! The joint between a leader and whatever elects it.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};
pub use tepui_coordination::{Standing, Tenure};
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
    /// Whether we may act in a tenure of ours.
    pub lease: LeaseOf,
    /// How long a leader whose lease has run out waits for it to come back before it steps down.
    pub patience: Duration,
    /// Leaves the election.
    pub withdraw: Withdraw,
}

/// The lease of a tenure; of one that is over it has run out for good.
pub type LeaseOf = Box<dyn Fn(&Tenure) -> Arc<dyn Lease> + Send + Sync>;

/// Leaves the election; completes once nobody takes us for a candidate any more.
pub type Withdraw = Box<dyn FnOnce() -> Pin<Box<dyn Future<Output = ()> + Send>> + Send>;

/// What a leader may act on, read before everything that it says. Must cost next to nothing.
pub trait Lease: Send + Sync + 'static {
    /// Whether nobody else can have been elected.
    fn may_act(&self) -> bool;
}
