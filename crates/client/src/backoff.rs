//! How long to wait before the next attempt: doubled each time, with jitter, bounded.

use std::{
    hash::{BuildHasher, RandomState},
    time::Duration,
};

pub(crate) struct Backoff {
    first: Duration,
    max: Duration,
    next: Duration,
}

impl Backoff {
    pub(crate) fn new(first: Duration, max: Duration) -> Self {
        Self {
            first,
            max,
            next: first,
        }
    }

    pub(crate) fn reset(&mut self) {
        self.next = self.first;
    }

    /// Between half and all of the current step, so that a thousand clients do not come back at once.
    pub(crate) fn delay(&mut self) -> Duration {
        let step = self.next;
        self.next = (step * 2).min(self.max);
        // The standard library's per-process random keys are jitter enough and need no generator.
        let noise = RandomState::new().hash_one(step) as u32;
        step / 2 + (step / 2).mul_f64(f64::from(noise) / f64::from(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_maximum_and_start_over_after_a_reset() {
        let (first, max) = (Duration::from_millis(100), Duration::from_secs(1));
        let mut backoff = Backoff::new(first, max);
        for step in [100, 200, 400, 800, 1000, 1000] {
            let delay = backoff.delay();
            let step = Duration::from_millis(step);
            assert!(delay >= step / 2 && delay <= step, "{delay:?} for {step:?}");
        }
        backoff.reset();
        assert!(backoff.delay() <= first);
    }
}
