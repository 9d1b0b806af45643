//! Giving followers up, no faster than `--agent_removal_rate_limit` allows.
//!
//! Follows `SlaveObserver::markUnreachable`, `Master::agentReregisterTimeout` and
//! `recoveredSlavesTimeout` in `src/master/master.cpp` and libprocess' `RateLimiter`: one permit per
//! interval, first come first served; the first after a quiet time need not wait. A follower that is
//! heard of in time leaves the queue and takes no permit with it (in the reference some do).

use crate::{Leader, timers::Timer};
use std::{collections::BTreeMap, time::Duration};
use tepui_model::{
    FollowerId, Time,
    units::{UnitError, parse_duration},
};

/// So many followers per time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RemovalRate {
    /// Between two of them.
    pub interval: Duration,
}

/// Why a rate is none.
#[derive(Debug, thiserror::Error)]
pub enum RemovalRateError {
    /// Not two parts.
    #[error("Invalid agent_removal_rate_limit: {0}. Format is <Number of agents>/<Duration>")]
    Form(String),
    /// The first part is not a number of followers.
    #[error("Invalid agent_removal_rate_limit: '{0}' is not a positive number of agents")]
    Number(String),
    /// The second is not a time.
    #[error("Invalid agent_removal_rate_limit: {0}")]
    Duration(#[from] UnitError),
    /// It is none at all.
    #[error("Invalid agent_removal_rate_limit: the duration must be positive")]
    Instant,
}

impl RemovalRate {
    /// Reads `N/DURATION`, such as `1/10mins`.
    pub fn parse(text: &str) -> Result<Self, RemovalRateError> {
        let mut parts = text.split('/').filter(|part| !part.is_empty());
        let (Some(number), Some(duration), None) = (parts.next(), parts.next(), parts.next())
        else {
            return Err(RemovalRateError::Form(text.to_owned()));
        };
        let followers: u32 = number
            .trim()
            .parse()
            .ok()
            .filter(|number| *number > 0)
            .ok_or_else(|| RemovalRateError::Number(number.to_owned()))?;
        let interval = parse_duration(duration.trim())? / followers;
        if interval.is_zero() {
            return Err(RemovalRateError::Instant);
        }
        Ok(Self { interval })
    }
}

/// Why a follower is to be given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Fault {
    /// It does not answer pings.
    Silent,
    /// Its link broke and it did not come back.
    Away,
    /// It did not come back after an election.
    Missing,
}

/// Who waits for a permit.
#[derive(Debug, Default)]
pub(crate) struct Removals {
    /// When there is a permit again.
    next: Time,
    last: u64,
    order: BTreeMap<u64, (FollowerId, Fault)>,
    places: BTreeMap<(FollowerId, Fault), u64>,
}

impl Removals {
    pub(crate) fn is_waiting(&self, id: &FollowerId, fault: Fault) -> bool {
        self.places.contains_key(&(id.clone(), fault))
    }
    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.order.len()
    }
    fn add(&mut self, id: &FollowerId, fault: Fault) {
        self.last += 1;
        self.order.insert(self.last, (id.clone(), fault));
        self.places.insert((id.clone(), fault), self.last);
    }
    fn remove(&mut self, id: &FollowerId, fault: Fault) -> bool {
        let Some(place) = self.places.remove(&(id.clone(), fault)) else {
            return false;
        };
        self.order.remove(&place);
        true
    }
    fn pop(&mut self) -> Option<(FollowerId, Fault)> {
        let (_, waiting) = self.order.pop_first()?;
        self.places.remove(&waiting);
        Some(waiting)
    }
    pub(crate) fn check(&self) {
        assert_eq!(self.order.len(), self.places.len(), "both indexes agree");
        for (place, waiting) in &self.order {
            assert_eq!(self.places.get(waiting), Some(place));
        }
    }
}

impl Leader {
    /// Gives a follower up, at once if there is a permit. Nothing changes if it waits for one.
    pub(crate) fn schedule_removal(&mut self, id: &FollowerId, fault: Fault) {
        if self.removals.is_waiting(id, fault) {
            return;
        }
        self.count("master/slave_unreachable_scheduled");
        let Some(rate) = self.config.removal_rate else {
            return self.give_up(id, fault);
        };
        if self.removals.len() == 0 && self.removals.next <= self.now {
            self.removals.next = self.now + rate.interval;
            return self.give_up(id, fault);
        }
        self.removals.add(id, fault);
        if !self.timers.is_set(&Timer::Removal) {
            self.timers.set(Timer::Removal, self.removals.next);
        }
    }

    /// It was heard of in time.
    pub(crate) fn cancel_removal(&mut self, id: &FollowerId, fault: Fault) {
        if self.removals.remove(id, fault) {
            self.count("master/slave_unreachable_canceled");
            if self.removals.len() == 0 {
                self.timers.cancel(&Timer::Removal);
            }
        }
    }

    /// It went another way.
    pub(crate) fn cancel_removals(&mut self, id: &FollowerId) {
        for fault in [Fault::Silent, Fault::Away, Fault::Missing] {
            self.cancel_removal(id, fault);
        }
    }

    /// There is a permit.
    pub(crate) fn removal_permit(&mut self) {
        let Some((id, fault)) = self.removals.pop() else {
            return;
        };
        let interval = self.config.removal_rate.map(|rate| rate.interval);
        self.removals.next = self.now + interval.unwrap_or_default();
        if self.removals.len() > 0 {
            self.timers.set(Timer::Removal, self.removals.next);
        }
        self.give_up(&id, fault);
    }

    fn give_up(&mut self, id: &FollowerId, fault: Fault) {
        self.count("master/slave_unreachable_completed");
        match fault {
            Fault::Silent => self.mark_unreachable(id, "health check timed out"),
            Fault::Away => self.give_up_away(id),
            Fault::Missing => self.give_up_missing(id),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_a_number_over_a_time() {
        let interval = |text: &str| RemovalRate::parse(text).map(|rate| rate.interval);
        assert_eq!(interval("1/10mins").ok(), Some(Duration::from_secs(600)));
        assert_eq!(interval("20/1secs").ok(), Some(Duration::from_millis(50)));
        for (text, expected) in [
            ("1", "Format is <Number of agents>/<Duration>"),
            ("1/2/3secs", "Format is <Number of agents>/<Duration>"),
            ("0/1secs", "not a positive number"),
            ("x/1secs", "not a positive number"),
            ("1/1sec", "Unknown duration unit"),
            ("1/0secs", "must be positive"),
        ] {
            let error = interval(text).expect_err(text).to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
