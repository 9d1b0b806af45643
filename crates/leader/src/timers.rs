//! Everything that is to happen later, in the order it is due.
//!
//! One entry per [`Timer`]; setting it again moves it. Costs the logarithm of what is waiting.

use rustc_hash::FxHashMap;
use std::collections::BTreeSet;
use tepui_model::{FollowerId, FrameworkId, OfferId, Time};

/// What is to happen.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// Ping a follower, and count the last ping if it is unanswered.
    Ping(FollowerId),
    /// A disconnected follower did not come back.
    Reregister(FollowerId),
    /// Followers known from the registry did not come back after an election.
    Recovered,
    /// There is a permit to give a follower up.
    Removal,
    /// What is old in the registry is to be forgotten.
    RegistryGc,
    /// Offers have waited for followers for long enough.
    AllocatorRecovery,
    /// A disconnected framework did not come back.
    Failover(FrameworkId),
    /// An offer was held for too long.
    Offer(OfferId),
    /// A framework has held offers for a while.
    HeldOffers(FrameworkId),
    /// An inverse offer was left unanswered for too long.
    InverseOffer(OfferId),
    /// A framework's stream needs a heartbeat.
    Heartbeat(FrameworkId),
    /// The operators' streams need one.
    OperatorHeartbeat,
    /// The first message in a queue may be handled.
    Permit(crate::limits::QueueName),
}

/// The waiting timers.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    order: BTreeSet<(Time, Timer)>,
    due: FxHashMap<Timer, Time>,
}

impl Timers {
    /// Sets or moves one.
    pub(crate) fn set(&mut self, timer: Timer, at: Time) {
        self.cancel(&timer);
        self.order.insert((at, timer.clone()));
        self.due.insert(timer, at);
    }

    /// Forgets one, if it is set.
    pub(crate) fn cancel(&mut self, timer: &Timer) {
        if let Some((timer, at)) = self.due.remove_entry(timer) {
            self.order.remove(&(at, timer));
        }
    }

    /// When the first is due.
    pub(crate) fn next(&self) -> Option<Time> {
        self.order.first().map(|(at, _)| *at)
    }

    /// Takes the first that is due.
    pub(crate) fn pop(&mut self, now: Time) -> Option<Timer> {
        if self.next()? > now {
            return None;
        }
        let (_, timer) = self.order.pop_first()?;
        self.due.remove(&timer);
        Some(timer)
    }

    /// Whether one is set.
    pub(crate) fn is_set(&self, timer: &Timer) -> bool {
        self.due.contains_key(timer)
    }

    /// How many wait, both ways of counting.
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.order.len(), self.due.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timers_come_out_in_order_and_moving_one_leaves_no_trace() {
        let at = Time::from_nanos;
        let mut timers = Timers::default();
        timers.set(Timer::Recovered, at(5));
        timers.set(Timer::OperatorHeartbeat, at(3));
        timers.set(Timer::Recovered, at(1));
        assert_eq!(timers.pop(at(4)), Some(Timer::Recovered));
        assert_eq!(timers.next(), Some(at(3)));
        assert_eq!(timers.pop(at(2)), None);
        timers.cancel(&Timer::OperatorHeartbeat);
        assert_eq!(timers.next(), None);
        assert_eq!(timers.counts(), (0, 0));
    }
}
