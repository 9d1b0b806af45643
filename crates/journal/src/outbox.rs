//! Persist before send: effects wait until every record that was to be made durable before them
//! is.
//!
//! Records are written in batches. At most one batch is on its way at a time; what comes meanwhile
//! makes up the next one, so a slow disk costs latency and not a write per record.
//!
//! ```text
//! for each effect:   outbox.push(effect)
//! then:              outbox.release() → effects to carry out now
//!                    outbox.begin()   → records to write, if none are on their way
//! once written:      outbox.written() and again from `then`
//! ```

use std::collections::VecDeque;
use tepui_model::planted::{Planted, planted};

/// An effect that may ask for a record to be made durable.
pub trait PersistEffect: Sized {
    /// What is made durable.
    type Record;
    /// The record, or the effect itself if it is another one.
    fn into_record(self) -> Result<Self::Record, Self>;
}

/// Holds effects in order. See the module.
#[derive(Debug)]
pub struct Outbox<E: PersistEffect> {
    /// Effects and the number of records they wait for, which never falls from one to the next.
    held: VecDeque<(u64, E)>,
    /// Records that are not on their way yet.
    waiting: Vec<E::Record>,
    /// Records pushed ever.
    pushed: u64,
    /// Of these: given to [`Self::begin`]'s caller.
    begun: u64,
    /// Of these: durable.
    durable: u64,
}

impl<E: PersistEffect> Default for Outbox<E> {
    fn default() -> Self {
        Self {
            held: VecDeque::new(),
            waiting: Vec::new(),
            pushed: 0,
            begun: 0,
            durable: 0,
        }
    }
}

impl<E: PersistEffect> Outbox<E> {
    /// Nothing held.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an effect.
    pub fn push(&mut self, effect: E) {
        match effect.into_record() {
            Ok(record) => {
                self.pushed += 1;
                self.waiting.push(record);
            }
            Err(effect) => self.held.push_back((self.pushed, effect)),
        }
    }

    /// The next effect that nothing holds back.
    pub fn release(&mut self) -> Option<E> {
        let early = planted(Planted::AnswersBeforeDurable);
        if self.held.front()?.0 > self.durable && !early {
            return None;
        }
        self.held.pop_front().map(|(_, effect)| effect)
    }

    /// Records to write now, in order and as one: either all survive or none. `None` while others
    /// are on their way, and when there are none.
    pub fn begin(&mut self) -> Option<Vec<E::Record>> {
        if self.begun > self.durable || self.waiting.is_empty() {
            return None;
        }
        self.begun = self.pushed;
        Some(std::mem::take(&mut self.waiting))
    }

    /// The records last given out are durable.
    pub fn written(&mut self) {
        self.durable = self.begun;
    }

    /// Whether nothing is held and nothing is to be written.
    pub fn is_idle(&self) -> bool {
        self.held.is_empty() && self.durable == self.pushed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Odd numbers are records.
    #[derive(Debug, PartialEq, Clone)]
    struct Effect(u32);

    impl PersistEffect for Effect {
        type Record = u32;
        fn into_record(self) -> Result<u32, Self> {
            if self.0 % 2 == 1 {
                Ok(self.0)
            } else {
                Err(self)
            }
        }
    }

    fn released(outbox: &mut Outbox<Effect>) -> Vec<u32> {
        std::iter::from_fn(|| outbox.release())
            .map(|effect| effect.0)
            .collect()
    }

    #[test]
    fn effects_wait_for_the_records_before_them() {
        let mut outbox = Outbox::new();
        for effect in [2, 1, 4, 3, 6] {
            outbox.push(Effect(effect));
        }
        assert_eq!(released(&mut outbox), [2]);
        assert_eq!(outbox.begin(), Some(vec![1, 3]));
        assert!(released(&mut outbox).is_empty());
        outbox.written();
        assert_eq!(released(&mut outbox), [4, 6]);
        assert!(outbox.is_idle());
    }

    #[test]
    fn records_pushed_while_others_are_written_make_up_the_next_batch() {
        let mut outbox = Outbox::new();
        outbox.push(Effect(1));
        outbox.push(Effect(2));
        assert_eq!(outbox.begin(), Some(vec![1]));
        for effect in [3, 4, 5, 6] {
            outbox.push(Effect(effect));
        }
        assert_eq!(outbox.begin(), None);
        outbox.written();
        assert_eq!(released(&mut outbox), [2]);
        assert_eq!(outbox.begin(), Some(vec![3, 5]));
        assert!(!outbox.is_idle());
        outbox.written();
        assert_eq!(released(&mut outbox), [4, 6]);
        assert_eq!(outbox.begin(), None);
        assert!(outbox.is_idle());
    }

    proptest! {
        /// Safety: nothing leaves before the records ahead of it, and nothing out of order.
        /// Liveness: once all is written, all has left.
        #[test]
        fn whatever_the_order_of_events_nothing_leaves_early_or_is_lost(
            steps in prop::collection::vec(0_u8..4, 0..200),
        ) {
            let mut outbox = Outbox::new();
            let (mut next, mut durable, mut in_flight) = (0, Vec::new(), None);
            let mut left = Vec::new();
            for step in steps.into_iter().chain([2, 3, 2, 3]) {
                match step {
                    0 | 1 => {
                        outbox.push(Effect(2 * next + u32::from(step)));
                        next += 1;
                    }
                    2 => in_flight = outbox.begin().or(in_flight),
                    _ => if let Some(records) = in_flight.take() {
                        outbox.written();
                        durable.extend(records);
                    }
                }
                for effect in released(&mut outbox) {
                    let ahead = (1..effect).filter(|n| n % 2 == 1);
                    let pushed_ahead = ahead.filter(|n| durable.contains(n)).count();
                    left.push((effect, pushed_ahead, durable.len()));
                }
            }
            prop_assert!(outbox.is_idle());
            prop_assert!(left.windows(2).all(|pair| pair[0].0 < pair[1].0));
            let records: Vec<_> = durable.clone();
            prop_assert!(records.windows(2).all(|pair| pair[0] < pair[1]));
            for (effect, durable_ahead, _) in &left {
                let ahead = records.iter().filter(|record| *record < effect).count();
                prop_assert_eq!(*durable_ahead, ahead);
            }
            prop_assert_eq!(left.len() + durable.len(), next as usize);
        }
    }
}
