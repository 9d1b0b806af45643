//! Everything this core waits for, as a closed set of timers.

use bytes::Bytes;
use rustc_hash::FxHashMap;
use std::collections::BTreeSet;
use tepui_model::{FrameworkId, TaskId, Time, container::ContainerId};

/// What can be waited for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// Next try to register.
    Register,
    /// Next try to authenticate.
    Authenticate,
    /// The leader has not answered an attempt to authenticate in time.
    AuthenticationTimeout,
    /// The leader has not pinged for too long.
    PingMissing,
    /// Executors from before a restart have not come back in time.
    ExecutorReregistration,
    /// They are asked once more to come back.
    ExecutorReconnect,
    /// An executor has not subscribed in time.
    ExecutorRegistration(ContainerId),
    /// An executor that was asked to shut down has not ended in time.
    ExecutorShutdown(ContainerId),
    /// Next HEARTBEAT on an executor's stream.
    ExecutorHeartbeat(ContainerId),
    /// An update was not acknowledged in time.
    UpdateRetry(FrameworkId, TaskId),
    /// The outcome of an operation was not acknowledged in time.
    OperationRetry(Bytes),
    /// Next estimate of what can be oversubscribed.
    Estimate,
    /// The next sandbox is old enough to go.
    Gc,
}

/// At most one deadline per [`Timer`].
#[derive(Debug, Default)]
pub(crate) struct Timers {
    by_time: BTreeSet<(Time, Timer)>,
    by_timer: FxHashMap<Timer, Time>,
}

impl Timers {
    /// Sets or moves a timer.
    pub(crate) fn set(&mut self, timer: Timer, at: Time) {
        self.cancel(&timer);
        self.by_time.insert((at, timer.clone()));
        self.by_timer.insert(timer, at);
    }
    /// Forgets a timer.
    pub(crate) fn cancel(&mut self, timer: &Timer) {
        if let Some(at) = self.by_timer.remove(timer) {
            self.by_time.remove(&(at, timer.clone()));
        }
    }
    /// Takes the earliest timer that is due.
    pub(crate) fn pop_due(&mut self, now: Time) -> Option<Timer> {
        if self.by_time.first()?.0 > now {
            return None;
        }
        let (_, timer) = self.by_time.pop_first()?;
        self.by_timer.remove(&timer);
        Some(timer)
    }
    /// When the earliest timer is due.
    pub(crate) fn next(&self) -> Option<Time> {
        self.by_time.first().map(|(at, _)| *at)
    }
    /// Whether a timer runs.
    pub(crate) fn is_set(&self, timer: &Timer) -> bool {
        self.by_timer.contains_key(timer)
    }
    /// Number of timers that run.
    pub(crate) fn len(&self) -> usize {
        debug_assert_eq!(self.by_time.len(), self.by_timer.len());
        self.by_time.len()
    }
}
