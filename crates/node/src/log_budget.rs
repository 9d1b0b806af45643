//! A few lines a second: a peer that sends garbage must not fill the log.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

const WINDOW: Duration = Duration::from_secs(1);

/// Lines of one kind that may still be written.
#[derive(Debug)]
pub(crate) struct LogBudget {
    per_second: u32,
    window: Mutex<Window>,
}

#[derive(Debug)]
struct Window {
    began: Instant,
    used: u32,
    suppressed: u64,
}

impl LogBudget {
    /// So many lines in any second.
    pub(crate) fn new(per_second: u32) -> Self {
        let window = Window {
            began: Instant::now(),
            used: 0,
            suppressed: 0,
        };
        Self {
            per_second,
            window: Mutex::new(window),
        }
    }

    /// Whether a line may be written; if so, how many were not since the last one.
    pub(crate) fn take(&self) -> Option<u64> {
        self.take_at(Instant::now())
    }

    fn take_at(&self, now: Instant) -> Option<u64> {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        if now.saturating_duration_since(window.began) >= WINDOW {
            window.began = now;
            window.used = 0;
        }
        if window.used >= self.per_second {
            window.suppressed += 1;
            return None;
        }
        window.used += 1;
        Some(std::mem::take(&mut window.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_above_the_budget_are_counted_instead() {
        let budget = LogBudget::new(2);
        let start = Instant::now();
        let at = |tenths: u64| start + Duration::from_millis(100 * tenths);
        let taken = [0, 1, 2, 3, 10, 11, 12, 25].map(|tenths| budget.take_at(at(tenths)));
        let expected = [
            Some(0),
            Some(0),
            None,
            None,
            None,
            Some(3),
            Some(0),
            Some(0),
        ];
        // The first window begins when the budget is made, a moment before or at 0.
        assert_eq!(
            taken.iter().flatten().sum::<u64>(),
            expected.iter().flatten().sum::<u64>()
        );
        assert_eq!(taken[..4], expected[..4]);
    }
}
