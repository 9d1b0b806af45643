//! Who is next: members ordered by dominant share.
//!
//! A member's share is the largest fraction it holds of any scalar in the cluster, divided by its
//! weight; ties go to who was chosen less often, then to the lesser name (DRF, as
//! `src/master/allocator/mesos/sorter/drf/sorter.cpp`). The order is kept, not computed: a change of
//! one member's allocation costs one re-insertion.
//!
//! A change of the cluster's totals changes every share. But if all totals grow by the same factor
//! the order stays, so shares are taken against a *base* and recomputed only when the proportions
//! between the totals have moved by more than [`DRIFT`] since.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    sync::Arc,
};
use tepui_model::{Quantities, resources::Name};

/// How far proportions may move before the order is recomputed.
const DRIFT: f64 = 1.0 / 1024.0;

/// Scalar totals of the cluster.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    pub(crate) quantities: Quantities,
    base: Quantities,
    generation: u64,
    excluded: BTreeSet<String>,
}

impl Totals {
    pub(crate) fn new(excluded: BTreeSet<String>) -> Self {
        Self {
            excluded,
            ..Self::default()
        }
    }

    pub(crate) fn change(&mut self, old: &Quantities, new: &Quantities) {
        self.quantities.subtract_all(old);
        self.quantities.add_all(new);
    }

    /// Takes the present totals as base if their proportions have drifted.
    pub(crate) fn settle(&mut self) {
        if self.has_drifted() {
            self.base = self.quantities.clone();
            self.generation += 1;
        }
    }

    fn has_drifted(&self) -> bool {
        if self.base.iter().count() != self.quantities.iter().count() {
            return true;
        }
        let (mut least, mut most) = (f64::INFINITY, 0.0f64);
        for (name, amount) in self.quantities.iter() {
            let base = self.base.amount(name.as_str());
            if base.is_zero() {
                return true;
            }
            let factor = amount.to_f64() / base.to_f64();
            (least, most) = (least.min(factor), most.max(factor));
        }
        most > least * (1.0 + DRIFT)
    }

    fn share_of_base(&self, allocation: &Quantities) -> f64 {
        dominant_share(allocation, &self.base, |name| {
            self.excluded.contains(name.as_str())
        })
    }

    /// The true share, against the present totals.
    pub(crate) fn share(&self, allocation: &Quantities) -> f64 {
        dominant_share(allocation, &self.quantities, |name| {
            self.excluded.contains(name.as_str())
        })
    }
}

fn dominant_share(
    allocation: &Quantities,
    totals: &Quantities,
    excluded: impl Fn(&Name) -> bool,
) -> f64 {
    let fraction = |(name, amount): (&Name, tepui_model::Scalar)| {
        let total = totals.amount(name.as_str());
        if total.is_zero() || excluded(name) {
            0.0
        } else {
            amount.to_f64() / total.to_f64()
        }
    };
    allocation.iter().map(fraction).fold(0.0, f64::max)
}

/// Place in the order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    /// Bits of a non-negative float: they compare as the float does.
    share: u64,
    chosen: u64,
    name: Arc<str>,
    pub(crate) member: u32,
}

#[derive(Debug)]
struct Member {
    key: Key,
    allocation: Quantities,
    weight: f64,
    active: bool,
}

impl Member {
    fn rekey(&mut self, totals: &Totals) {
        let share = totals.share_of_base(&self.allocation) / self.weight;
        self.key.share = if share > 0.0 { share.to_bits() } else { 0 };
    }
}

/// Members in order. Inactive ones keep their allocation but are not in the order.
#[derive(Debug, Default)]
pub(crate) struct Sorter {
    members: BTreeMap<u32, Member>,
    order: BTreeSet<Key>,
    generation: u64,
}

impl Sorter {
    /// Adds an inactive member that holds nothing.
    pub(crate) fn insert(&mut self, member: u32, name: Arc<str>, weight: f64) {
        let key = Key {
            share: 0,
            chosen: 0,
            name,
            member,
        };
        self.members.insert(
            member,
            Member {
                key,
                allocation: Quantities::new(),
                weight,
                active: false,
            },
        );
    }
    pub(crate) fn remove(&mut self, member: u32) {
        if let Some(gone) = self.members.remove(&member) {
            self.order.remove(&gone.key);
        }
    }
    pub(crate) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }
    pub(crate) fn members(&self) -> impl Iterator<Item = u32> {
        self.members.keys().copied()
    }
    pub(crate) fn has_active(&self) -> bool {
        !self.order.is_empty()
    }
    pub(crate) fn is_active(&self, member: u32) -> bool {
        self.members.get(&member).is_some_and(|m| m.active)
    }
    pub(crate) fn set_active(&mut self, member: u32, active: bool) {
        self.change(member, |m| m.active = active);
    }
    pub(crate) fn set_weight(&mut self, member: u32, weight: f64, totals: &Totals) {
        self.change(member, |m| {
            m.weight = weight;
            m.rekey(totals);
        });
    }
    pub(crate) fn allocation(&self, member: u32) -> Option<&Quantities> {
        self.members.get(&member).map(|m| &m.allocation)
    }
    /// Replaces a part of what a member holds.
    pub(crate) fn change_allocation(
        &mut self,
        member: u32,
        old: &Quantities,
        new: &Quantities,
        totals: &Totals,
    ) {
        self.change(member, |m| {
            m.allocation.subtract_all(old);
            m.allocation.add_all(new);
            m.rekey(totals);
        });
    }
    /// Notes that the member was chosen.
    pub(crate) fn choose(&mut self, member: u32) {
        self.change(member, |m| m.key.chosen += 1);
    }
    /// Place of an active member.
    pub(crate) fn key(&self, member: u32) -> Option<&Key> {
        self.members
            .get(&member)
            .filter(|m| m.active)
            .map(|m| &m.key)
    }
    /// The active member after this place, or the first.
    pub(crate) fn next_after(&self, place: Option<&Key>) -> Option<&Key> {
        match place {
            None => self.order.first(),
            Some(place) => self
                .order
                .range((Bound::Excluded(place), Bound::Unbounded))
                .next(),
        }
    }
    /// Recomputes the order if the base of the totals has changed since.
    pub(crate) fn refresh(&mut self, totals: &Totals) {
        if self.generation == totals.generation {
            return;
        }
        self.generation = totals.generation;
        self.order.clear();
        for member in self.members.values_mut() {
            member.rekey(totals);
            if member.active {
                self.order.insert(member.key.clone());
            }
        }
    }
    /// Panics if the order does not say what the members say.
    pub(crate) fn check(&self) {
        let active: BTreeSet<Key> = self
            .members
            .values()
            .filter(|m| m.active)
            .map(|m| m.key.clone())
            .collect();
        assert_eq!(
            active, self.order,
            "the order holds the active members under their keys"
        );
    }

    fn change(&mut self, member: u32, change: impl FnOnce(&mut Member)) {
        let Some(m) = self.members.get_mut(&member) else {
            return;
        };
        if m.active {
            self.order.remove(&m.key);
        }
        change(m);
        if m.active {
            self.order.insert(m.key.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tepui_model::Scalar;

    fn quantities(cpus: i64, mem: i64) -> Quantities {
        [("cpus", Scalar::units(cpus)), ("mem", Scalar::units(mem))]
            .into_iter()
            .collect()
    }

    fn order(sorter: &Sorter) -> Vec<u32> {
        sorter.order.iter().map(|key| key.member).collect()
    }

    fn three(totals: &Totals) -> Sorter {
        let mut sorter = Sorter::default();
        for (member, name) in ["a", "b", "c"].into_iter().enumerate() {
            sorter.insert(member as u32, name.into(), 1.0);
            sorter.set_active(member as u32, true);
        }
        sorter.refresh(totals);
        sorter
    }

    #[test]
    fn the_dominant_share_counts_then_choices_then_the_name() {
        let mut totals = Totals::default();
        totals.change(&Quantities::new(), &quantities(100, 1000));
        totals.settle();
        let mut sorter = three(&totals);
        assert_eq!(order(&sorter), [0, 1, 2]);
        sorter.choose(0);
        assert_eq!(order(&sorter), [1, 2, 0]);
        sorter.change_allocation(1, &Quantities::new(), &quantities(1, 500), &totals);
        sorter.change_allocation(2, &Quantities::new(), &quantities(10, 10), &totals);
        assert_eq!(order(&sorter), [0, 2, 1]);
        sorter.set_weight(1, 10.0, &totals);
        assert_eq!(order(&sorter), [0, 1, 2]);
        sorter.set_active(0, false);
        assert_eq!(order(&sorter), [1, 2]);
        sorter.check();
    }

    #[test]
    fn totals_in_other_proportions_reorder_and_equal_growth_does_not() {
        let mut totals = Totals::default();
        totals.change(&Quantities::new(), &quantities(100, 1000));
        totals.settle();
        let mut sorter = three(&totals);
        sorter.change_allocation(0, &Quantities::new(), &quantities(20, 100), &totals);
        sorter.change_allocation(1, &Quantities::new(), &quantities(1, 300), &totals);
        assert_eq!(order(&sorter), [2, 0, 1]);
        let generation = totals.generation;
        totals.change(&Quantities::new(), &quantities(100, 1000));
        totals.settle();
        assert_eq!(totals.generation, generation);
        totals.change(&Quantities::new(), &quantities(0, 2000));
        totals.settle();
        sorter.refresh(&totals);
        assert_eq!(order(&sorter), [2, 1, 0]);
        assert_eq!(totals.share(&quantities(20, 100)), 0.1);
    }
}
