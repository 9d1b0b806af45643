//! Waiting for a condition with a deadline: the only place in the tests that sleeps, and only between two looks.

use std::time::{Duration, Instant};

const FIRST_PAUSE: Duration = Duration::from_millis(2);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// Asks `condition` until it gives a value; none when `deadline` passes first. The condition is asked at least once.
pub fn eventually_some<T>(
    deadline: Duration,
    mut condition: impl FnMut() -> Option<T>,
) -> Option<T> {
    let started = Instant::now();
    let mut pause = FIRST_PAUSE;
    loop {
        if let Some(value) = condition() {
            return Some(value);
        }
        if started.elapsed() >= deadline {
            return None;
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Whether `condition` becomes true before `deadline`.
pub fn eventually(deadline: Duration, mut condition: impl FnMut() -> bool) -> bool {
    eventually_some(deadline, || condition().then_some(())).is_some()
}

/// Whether `condition` stays true for `period`: for what must not happen.
pub fn stays(period: Duration, mut condition: impl FnMut() -> bool) -> bool {
    !eventually(period, || !condition())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_that_comes_true_is_seen() {
        let mut looks = 0;
        let seen = eventually_some(Duration::from_secs(10), || {
            looks += 1;
            (looks == 3).then_some(looks)
        });
        assert_eq!(seen, Some(3));
    }

    #[test]
    fn a_condition_that_stays_false_ends_at_the_deadline() {
        assert!(!eventually(Duration::from_millis(10), || false));
        assert!(stays(Duration::from_millis(10), || true));
        assert!(!stays(Duration::from_secs(10), || false));
    }
}
