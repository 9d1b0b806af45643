//! How long a leader may act without hearing from ZooKeeper.
//!
//! A leader leads as long as its session lives, and only the servers know when that ends. What the
//! leader does know: a server that answered a question sent at `s` held the session for alive at `s`
//! or later. From there the servers wait a whole session timeout before they let another lead, less
//! what the answer may have been old: servers tell the one that counts twice per tick (a tick is at
//! most half a timeout) whom they heard from. So the lease ends [`MARGIN_EIGHTHS`] before the timeout
//! does, and it is counted from when the question was *sent*.
//!
//! The question must reach the server that counts, or one that was cut off from the others would go
//! on answering: it is a `sync`, then a look at our own znode (see [`crate::Request::Check`]).

use std::time::Duration;
use tepui_model::{
    Time,
    planted::{Planted, planted},
};

/// How much earlier than the session a lease ends, in eighths of the session timeout: two for the
/// half tick, one for the time between two heartbeats.
const MARGIN_EIGHTHS: u32 = 3;

/// Until when a leader may act.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Lease {
    until: Time,
}

impl Lease {
    /// Of somebody who may not act.
    pub const ENDED: Lease = Lease {
        until: Time::from_nanos(0),
    };

    /// A heartbeat that was sent then has been answered.
    pub fn granted(sent_at: Time, session_timeout: Duration) -> Self {
        Self {
            until: sent_at + session_timeout * (8 - MARGIN_EIGHTHS) / 8,
        }
    }

    /// How often a leader should send a heartbeat.
    pub fn heartbeat_interval(session_timeout: Duration) -> Duration {
        session_timeout / 8
    }

    /// From then on it may not act.
    pub fn until(self) -> Time {
        self.until
    }

    /// Whether it may act now.
    pub fn may_act(self, now: Time) -> bool {
        now < self.until || planted(Planted::ActsAfterItsLease)
    }

    /// The one that lasts longer.
    #[must_use]
    pub fn longer(self, other: Lease) -> Lease {
        Lease {
            until: self.until.max(other.until),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_ends_well_before_the_session_and_outlives_missed_heartbeats() {
        let timeout = Duration::from_secs(8);
        let sent = Time::from_nanos(1_000_000_000_000);
        let lease = Lease::granted(sent, timeout);
        assert!(lease.may_act(sent));
        assert!(lease.may_act(sent + Lease::heartbeat_interval(timeout) * 4));
        assert!(!lease.may_act(sent + timeout * 5 / 8));
        assert!(!Lease::ENDED.may_act(Time::default()));
        assert_eq!(lease.longer(Lease::ENDED), lease);
    }
}
