//! The clock of a process: wall time once, monotonic time from then on.
//!
//! Cores are handed `now` as a [`Time`]; it must never go back within a process, whatever happens
//! to the system's clock.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tepui_model::Time;

/// Where shells read the time. Cheap to copy; copies agree.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    anchor: Instant,
    anchored_at: Time,
}

impl Clock {
    /// Reads the wall clock once; everything after that is monotonic.
    pub fn start() -> Self {
        let since_epoch = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or(Duration::ZERO);
        Self {
            anchor: Instant::now(),
            anchored_at: Time::default() + since_epoch,
        }
    }

    /// The time now.
    pub fn now(&self) -> Time {
        self.anchored_at + self.anchor.elapsed()
    }

    /// When the monotonic clock will show `time`, for timers. `None` when that is out of reach
    /// (centuries), which means never.
    pub fn instant(&self, time: Time) -> Option<tokio::time::Instant> {
        self.anchor
            .checked_add(time.since(self.anchored_at))
            .map(Into::into)
    }

    /// Completes at `deadline`; never, when there is none.
    pub async fn sleep_until(&self, deadline: Option<Time>) {
        match deadline.and_then(|time| self.instant(time)) {
            Some(instant) => tokio::time::sleep_until(instant).await,
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_on_from_the_wall_clock_and_never_back() {
        let clock = Clock::start();
        let first = clock.now();
        assert!(first.seconds() > 1.6e9);
        assert!(clock.now() >= first);
        assert_eq!(clock.instant(Time::default()), Some(clock.anchor.into()));
    }

    #[test]
    fn centuries_away_is_never_or_far() {
        let clock = Clock::start();
        let far = clock.now() + Duration::from_secs(u64::MAX);
        assert!(
            clock
                .instant(far)
                .is_none_or(|at| at > tokio::time::Instant::now())
        );
    }
}
