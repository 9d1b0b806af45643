//! Which of the minimums of an offer can be met: by what is free on a follower, within the limits of a role.
//!
//! `--min_allocatable_resources` names alternatives: an offer holds one of them at least. A follower that has only
//! memory left and a role that may have only processors more have nothing in common, and a set of bits says so. Thousands of
//! roles at their limits, or followers with leftovers, are passed that way without computing what they would be offered.

use crate::{Allocator, amounts::Cap, state::Follower};
use std::collections::BTreeSet;

/// Bits of alternatives.
pub(crate) type Alternatives = u32;

/// Whatever the minimum is.
pub(crate) const ANY: Alternatives = u32::MAX;

/// Followers that have something free, and by which alternatives it meets.
#[derive(Clone, Debug, Default)]
pub(crate) struct Free {
    all: BTreeSet<u32>,
    /// By alternative.
    by: Vec<BTreeSet<u32>>,
    /// Those that are not told apart.
    any: BTreeSet<u32>,
}

impl Free {
    pub(crate) fn contains(&self, slot: u32) -> bool {
        self.all.contains(&slot)
    }
    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }
    /// Sets what a follower has; nothing of anything: it is not free.
    pub(crate) fn set(&mut self, slot: u32, old: Alternatives, new: Alternatives) {
        if old == new {
            return;
        }
        for (alternatives, insert) in [(old, false), (new, true)] {
            let put = |set: &mut BTreeSet<u32>| {
                if insert {
                    set.insert(slot);
                } else {
                    set.remove(&slot);
                }
            };
            if alternatives == 0 {
                continue;
            }
            put(&mut self.all);
            if alternatives == ANY {
                put(&mut self.any);
                continue;
            }
            for bit in bits(alternatives) {
                if self.by.len() <= bit {
                    self.by.resize_with(bit + 1, BTreeSet::new);
                }
                put(&mut self.by[bit]);
            }
        }
    }
    /// The first at or after a slot that meets one of the alternatives.
    pub(crate) fn next(&self, from: u32, wanted: Alternatives) -> Option<u32> {
        let first = |set: &BTreeSet<u32>| set.range(from..).next().copied();
        if wanted == ANY {
            return first(&self.all);
        }
        let by = bits(wanted).filter_map(|bit| self.by.get(bit));
        by.chain([&self.any]).filter_map(first).min()
    }
    pub(crate) fn last(&self) -> Option<u32> {
        self.all.last().copied()
    }
}

fn bits(alternatives: Alternatives) -> impl Iterator<Item = usize> {
    (0..u32::BITS as usize).filter(move |bit| alternatives & (1 << bit) != 0)
}

impl Allocator {
    /// What of the minimums what is free on a follower meets; nothing if it is not to be offered at all. Where more counts
    /// than unreserved scalars, they are not told apart.
    pub(crate) fn alternatives_of(&self, follower: &Follower) -> Alternatives {
        if !follower.is_offered() || !follower.has_something() || self.nothing_allocatable(follower)
        {
            return 0;
        }
        let least = &self.options.min_allocatable_resources;
        let plain = follower.shared.is_empty()
            && follower
                .available
                .iter()
                .all(|r| r.is_unreserved() && !r.is_revocable());
        if !plain
            || least.is_empty()
            || least.len() > 31
            || self.roles[crate::ROOT].own_minimums > 0
        {
            return ANY;
        }
        let met = |(bit, least)| {
            let met = follower.available.contains_quantities(least);
            Alternatives::from(met) << bit
        };
        least.iter().enumerate().map(met).fold(0, |a, b| a | b)
    }

    /// What of the minimums can be met within bounds.
    pub(crate) fn alternatives_within(&self, cap: &Cap) -> Alternatives {
        let least = &self.options.min_allocatable_resources;
        if least.is_empty() || least.len() > 31 {
            return ANY;
        }
        let fits = |(bit, least)| Alternatives::from(cap.admits(least)) << bit;
        least.iter().enumerate().map(fits).fold(0, |a, b| a | b)
    }

    /// What of the minimums a role's clients can be offered within the limits on its path.
    pub(crate) fn alternatives_of_role(&self, role: u32) -> Alternatives {
        if self.limited == 0 {
            return ANY;
        }
        self.path(role).fold(ANY, |all, (_, role)| all & role.fits)
    }
}
