//! Whether a leader may act at this moment.
//!
//! A leader alone always may. One that was elected has a [`Lease`]: as long as its last answered
//! word with ZooKeeper is younger than the session's time-out, nobody else can have been elected.
//! The core's thread asks before every effect, so that a process that was stopped, starved or cut
//! off says nothing once another may lead.

use super::election::Lease;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// How often a gate that is not open is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// Opens and closes with the lease; once shut, it stays so.
pub(super) struct Gate {
    lease: Option<Arc<dyn Lease>>,
    shut: AtomicBool,
}

impl Gate {
    /// Of a term that lasts as long as the lease is renewed; without one, until it is shut.
    pub(super) fn new(lease: Option<Arc<dyn Lease>>) -> Self {
        let shut = AtomicBool::new(false);
        Self { lease, shut }
    }

    /// Whether anything may go out now.
    pub(super) fn is_open(&self) -> bool {
        !self.shut.load(Ordering::Acquire)
            && self.lease.as_ref().is_none_or(|lease| lease.may_act())
    }

    /// For good.
    pub(super) fn shut(&self) {
        self.shut.store(true, Ordering::Release);
    }

    /// Completes when the gate is open: maybe never.
    pub(super) async fn opened(&self) {
        while !self.is_open() {
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }
}
