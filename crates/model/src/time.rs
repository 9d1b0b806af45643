//! The `now` that shells hand to cores.

use std::{fmt, ops, time::Duration};

/// A moment: nanoseconds since the Unix epoch. Shells read the wall clock once at start and go on
/// with the monotonic one, so it never goes back within a process.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Time(u64);

impl Time {
    /// From nanoseconds since the epoch.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }
    /// Nanoseconds since the epoch.
    pub const fn nanos(self) -> u64 {
        self.0
    }
    /// Seconds since the epoch, as status updates and JSON documents carry them.
    pub fn seconds(self) -> f64 {
        self.0 as f64 / 1e9
    }
    /// How long after `earlier`; zero when it is not.
    pub fn since(self, earlier: Time) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl ops::Add<Duration> for Time {
    type Output = Time;
    /// Saturates: a deadline of centuries is "never".
    fn add(self, rhs: Duration) -> Time {
        Time(
            self.0
                .saturating_add(u64::try_from(rhs.as_nanos()).unwrap_or(u64::MAX)),
        )
    }
}

impl fmt::Debug for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.9}s", self.seconds())
    }
}
