//! The clock that leases are counted by, and leases as other threads ask them.

use rustix::time::{ClockId, clock_gettime};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tepui_coordination::Lease;
use tepui_model::Time;

/// Since the machine's boot, and on while it sleeps: the servers' clocks go on then, too.
pub(crate) fn now() -> Time {
    let time = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(time.tv_nsec).unwrap_or(0);
    Time::from_nanos(seconds.saturating_mul(1_000_000_000).saturating_add(nanos))
}

/// Until when one tenure may act, for any thread and without locks. Once the tenure is over it never
/// may again.
#[derive(Clone, Debug)]
pub struct LeaseClock {
    until: Arc<AtomicU64>,
}

impl LeaseClock {
    /// Of a leader that nobody can depose.
    pub fn always() -> Self {
        Self::until(u64::MAX)
    }

    /// Of a tenure that is over.
    pub fn ended() -> Self {
        Self::until(0)
    }

    fn until(nanos: u64) -> Self {
        Self {
            until: Arc::new(AtomicU64::new(nanos)),
        }
    }

    pub(crate) fn set(&self, lease: Lease) {
        self.until.store(lease.until().nanos(), Ordering::Release);
    }

    /// Whether the leader may act now. Ask before anything leaves.
    pub fn may_act(&self) -> bool {
        let until = self.until.load(Ordering::Acquire);
        until == u64::MAX || now().nanos() < until
    }

    /// How long it may act from now on if no further heartbeat is answered.
    pub fn remaining(&self) -> Duration {
        let until = self.until.load(Ordering::Acquire);
        Duration::from_nanos(until.saturating_sub(now().nanos()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_is_counted_by_a_clock_that_goes_on() {
        assert!(LeaseClock::always().may_act());
        let lease = LeaseClock::ended();
        assert!(!lease.may_act());
        let other = lease.clone();
        other.set(Lease::granted(now(), Duration::from_secs(3600)));
        assert!(lease.may_act());
        assert!(lease.remaining() > Duration::from_secs(1800));
        other.set(Lease::ENDED);
        assert!(!lease.may_act());
        assert_eq!(lease.remaining(), Duration::ZERO);
    }
}
