//! Who is next: the members of a level in order.
//!
//! **By fair share.** A member's share is the largest fraction it holds of any scalar in the cluster, divided by its
//! weight; ties go to who was chosen less often, then to the lesser name (DRF, as
//! `src/master/allocator/mesos/sorter/drf/sorter.cpp`). A change of the cluster's totals changes every share. But if all
//! totals grow by the same factor the order stays, so shares are taken against a *base* and recomputed only when the
//! proportions between the totals have moved by more than [`DRIFT`] since.
//!
//! **At random, by weight** (`sorter/random/sorter.cpp`). The reference shuffles all members for each follower. Here each has
//! a place drawn from an exponential distribution, and whoever was passed draws anew: since such draws know no past,
//! every walk meets the members as a fresh weighted shuffle would.
//!
//! The order is kept, not computed: changes are noted, and cost one re-insertion each at the next look.

use crate::{
    alternatives::{ANY, Alternatives},
    options::SorterKind,
};
use smallvec::{SmallVec, smallvec};
use std::{
    collections::{BTreeMap, BTreeSet, btree_set},
    iter::Peekable,
    ops::Bound,
    sync::Arc,
};
use tepui_model::{Quantities, Rng, resources::Name};

/// How far proportions may move before the order is recomputed.
const DRIFT: f64 = 1.0 / 1024.0;

/// Scalar totals of the cluster.
#[derive(Clone, Debug, Default)]
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

    /// Takes the present totals as base if their proportions have drifted; whether they had.
    pub(crate) fn settle(&mut self) -> bool {
        let drifted = self.has_drifted();
        if drifted {
            self.base = self.quantities.clone();
            self.generation += 1;
        }
        drifted
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

    /// Dominant share, without weights.
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
    place: u64,
    chosen: u64,
    name: Arc<str>,
    pub(crate) member: u32,
}

#[derive(Clone, Debug)]
struct Member {
    key: Key,
    allocation: Quantities,
    weight: f64,
    active: bool,
    group: Alternatives,
    stale: bool,
}

/// Members in order. Inactive ones keep their allocation but are not in the order. Those with room for other minimums are in
/// orders of their own, since most walks have nothing for some of them.
#[derive(Clone, Debug)]
pub(crate) struct Sorter {
    kind: SorterKind,
    members: BTreeMap<u32, Member>,
    /// By the minimums that the members have room for; at least that of [`ANY`].
    groups: SmallVec<[(Alternatives, BTreeSet<Key>); 1]>,
    /// Members whose keys are not what they should be.
    stale: Vec<u32>,
    generation: u64,
    /// Where draws start.
    clock: f64,
}

impl Sorter {
    pub(crate) fn new(kind: SorterKind) -> Self {
        Self {
            kind,
            members: BTreeMap::new(),
            groups: smallvec![(ANY, BTreeSet::new())],
            stale: Vec::new(),
            generation: 0,
            clock: 0.0,
        }
    }
    /// Adds an inactive member that holds nothing.
    pub(crate) fn insert(&mut self, member: u32, name: Arc<str>, weight: f64) {
        let key = Key {
            place: 0,
            chosen: 0,
            name,
            member,
        };
        let entry = Member {
            key,
            allocation: Quantities::new(),
            weight,
            active: false,
            group: ANY,
            stale: false,
        };
        self.members.insert(member, entry);
    }
    pub(crate) fn remove(&mut self, member: u32) {
        if let Some(gone) = self.members.remove(&member) {
            self.group(gone.group).remove(&gone.key);
        }
    }
    pub(crate) fn is_random(&self) -> bool {
        self.kind == SorterKind::Random
    }
    pub(crate) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }
    pub(crate) fn members(&self) -> impl Iterator<Item = u32> {
        self.members.keys().copied()
    }
    pub(crate) fn has_active(&self) -> bool {
        self.groups.iter().any(|(_, keys)| !keys.is_empty())
    }
    pub(crate) fn active_members(&self) -> impl Iterator<Item = u32> {
        self.after(None, ANY).map(|key| key.member)
    }
    pub(crate) fn is_active(&self, member: u32) -> bool {
        self.members.get(&member).is_some_and(|m| m.active)
    }
    pub(crate) fn set_active(&mut self, member: u32, active: bool) {
        if self.is_active(member) != active {
            self.relocate(member, |m| m.active = active);
            if self.is_random() {
                self.mark_stale(member);
            }
        }
    }
    /// The minimums that the member has room for.
    pub(crate) fn set_group(&mut self, member: u32, group: Alternatives) {
        let is_in = |m: &Member| m.group == group;
        if !self.members.get(&member).is_some_and(is_in) {
            self.relocate(member, |m| m.group = group);
        }
    }
    pub(crate) fn set_weight(&mut self, member: u32, weight: f64) {
        if let Some(m) = self.members.get_mut(&member) {
            m.weight = weight;
            self.mark_stale(member);
        }
    }
    pub(crate) fn weight(&self, member: u32) -> f64 {
        self.members.get(&member).map_or(1.0, |m| m.weight)
    }
    pub(crate) fn allocation(&self, member: u32) -> Option<&Quantities> {
        self.members.get(&member).map(|m| &m.allocation)
    }
    /// Replaces a part of what a member holds.
    pub(crate) fn change_allocation(&mut self, member: u32, old: &Quantities, new: &Quantities) {
        if let Some(m) = self.members.get_mut(&member) {
            m.allocation.subtract_all(old);
            m.allocation.add_all(new);
            if !self.is_random() {
                self.mark_stale(member);
            }
        }
    }
    /// Notes that the member was chosen.
    pub(crate) fn choose(&mut self, member: u32) {
        if self.is_random() {
            return self.mark_stale(member);
        }
        self.relocate(member, |m| m.key.chosen += 1);
    }
    /// Whoever was passed in a walk draws anew.
    pub(crate) fn redraw(&mut self, passed: impl Iterator<Item = u32>) {
        for member in passed {
            if let Some(m) = self.members.get(&member) {
                self.clock = self.clock.max(f64::from_bits(m.key.place));
                self.mark_stale(member);
            }
        }
    }
    /// Place of an active member.
    pub(crate) fn key(&self, member: u32) -> Option<&Key> {
        let active = self.members.get(&member).filter(|m| m.active);
        active.map(|m| &m.key)
    }
    /// The active members after a place, or all, that have room for one of the minimums.
    pub(crate) fn after(&self, place: Option<&Key>, wanted: Alternatives) -> Members<'_> {
        let from = place.map_or(Bound::Unbounded, Bound::Excluded);
        let groups = self.groups.iter();
        let with_room = groups
            .filter(|(group, keys)| (wanted == ANY || group & wanted != 0) && !keys.is_empty());
        Members(
            with_room
                .map(|(_, keys)| keys.range::<Key, _>((from, Bound::Unbounded)).peekable())
                .collect(),
        )
    }
    /// Brings the order up to date.
    pub(crate) fn refresh(&mut self, totals: &Totals, rng: &mut Rng) {
        if self.generation != totals.generation && !self.is_random() {
            self.generation = totals.generation;
            // Who holds nothing has the same share of any totals.
            let holders = self
                .members
                .iter()
                .filter(|(_, m)| !m.allocation.is_empty());
            self.stale = holders.map(|(member, _)| *member).collect();
            let rest = self
                .members
                .iter()
                .filter(|(_, m)| m.stale && m.allocation.is_empty());
            self.stale.extend(rest.map(|(member, _)| *member));
        }
        for member in std::mem::take(&mut self.stale) {
            let (clock, random) = (self.clock, self.is_random());
            let mut draw = || -(1.0 - rng.unit()).ln();
            self.relocate(member, |m| {
                m.stale = false;
                let place = if random {
                    clock + draw() / m.weight
                } else {
                    totals.share_of_base(&m.allocation) / m.weight
                };
                m.key.place = if place > 0.0 { place.to_bits() } else { 0 };
            });
        }
    }
    /// Panics if the order does not say what the members say.
    pub(crate) fn check(&self) {
        for (group, keys) in &self.groups {
            let members = self.members.values();
            let chosen = members.filter(|m| m.active && m.group == *group);
            let expected: BTreeSet<Key> = chosen.map(|m| m.key.clone()).collect();
            assert_eq!(&expected, keys, "the order holds the active members");
        }
        let active = self.members.values().filter(|m| m.active).count();
        let ordered: usize = self.groups.iter().map(|(_, keys)| keys.len()).sum();
        assert_eq!(active, ordered, "each is in one group");
        let stale = |(member, m): (&u32, &Member)| !m.stale || self.stale.contains(member);
        assert!(self.members.iter().all(stale), "what is stale is noted");
    }

    fn mark_stale(&mut self, member: u32) {
        if let Some(m) = self.members.get_mut(&member)
            && !m.stale
        {
            m.stale = true;
            self.stale.push(member);
        }
    }

    fn relocate(&mut self, member: u32, change: impl FnOnce(&mut Member)) {
        let Some(m) = self.members.get_mut(&member) else {
            return;
        };
        let old = m.active.then(|| (m.group, m.key.clone()));
        change(m);
        let new = m.active.then(|| (m.group, m.key.clone()));
        if let Some((group, key)) = old {
            self.group(group).remove(&key);
        }
        if let Some((group, key)) = new {
            self.group(group).insert(key);
        }
    }

    fn group(&mut self, group: Alternatives) -> &mut BTreeSet<Key> {
        let found = self.groups.iter().position(|(own, _)| *own == group);
        let index = found.unwrap_or_else(|| {
            self.groups.push((group, BTreeSet::new()));
            self.groups.len() - 1
        });
        &mut self.groups[index].1
    }
}

/// Members in order.
#[derive(Clone, Debug)]
pub(crate) struct Members<'a>(SmallVec<[Peekable<btree_set::Range<'a, Key>>; 1]>);

impl<'a> Iterator for Members<'a> {
    type Item = &'a Key;
    fn next(&mut self) -> Option<&'a Key> {
        if let [only] = self.0.as_mut_slice() {
            return only.next();
        }
        let heads = self.0.iter_mut().enumerate();
        let (_, first) = heads
            .filter_map(|(index, keys)| Some((*keys.peek()?, index)))
            .min()?;
        self.0[first].next()
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

    fn order(sorter: &mut Sorter, totals: &Totals) -> Vec<u32> {
        sorter.refresh(totals, &mut Rng::seed(1));
        sorter.check();
        sorter.active_members().collect()
    }

    fn three(kind: SorterKind) -> Sorter {
        let mut sorter = Sorter::new(kind);
        for (member, name) in ["a", "b", "c"].into_iter().enumerate() {
            sorter.insert(member as u32, name.into(), 1.0);
            sorter.set_active(member as u32, true);
        }
        sorter
    }

    #[test]
    fn the_dominant_share_counts_then_choices_then_the_name() {
        let mut totals = Totals::default();
        totals.change(&Quantities::new(), &quantities(100, 1000));
        totals.settle();
        let mut sorter = three(SorterKind::Drf);
        assert_eq!(order(&mut sorter, &totals), [0, 1, 2]);
        sorter.choose(0);
        assert_eq!(order(&mut sorter, &totals), [1, 2, 0]);
        sorter.change_allocation(1, &Quantities::new(), &quantities(1, 500));
        sorter.change_allocation(2, &Quantities::new(), &quantities(10, 10));
        assert_eq!(order(&mut sorter, &totals), [0, 2, 1]);
        sorter.set_weight(1, 10.0);
        assert_eq!(order(&mut sorter, &totals), [0, 1, 2]);
        sorter.set_active(0, false);
        assert_eq!(order(&mut sorter, &totals), [1, 2]);
        sorter.set_group(1, 0b10);
        assert_eq!(order(&mut sorter, &totals), [1, 2]);
        let with_room = |wanted| -> Vec<u32> {
            let members = sorter.after(None, wanted);
            members.map(|key| key.member).collect()
        };
        assert_eq!(with_room(0b01), [2]);
        assert_eq!(with_room(0b11), [1, 2]);
    }

    #[test]
    fn totals_in_other_proportions_reorder_and_equal_growth_does_not() {
        let mut totals = Totals::default();
        totals.change(&Quantities::new(), &quantities(100, 1000));
        totals.settle();
        let mut sorter = three(SorterKind::Drf);
        sorter.change_allocation(0, &Quantities::new(), &quantities(20, 100));
        sorter.change_allocation(1, &Quantities::new(), &quantities(1, 300));
        assert_eq!(order(&mut sorter, &totals), [2, 0, 1]);
        let generation = totals.generation;
        totals.change(&Quantities::new(), &quantities(100, 1000));
        totals.settle();
        assert_eq!(totals.generation, generation);
        totals.change(&Quantities::new(), &quantities(0, 2000));
        totals.settle();
        assert_eq!(order(&mut sorter, &totals), [2, 1, 0]);
        assert_eq!(totals.share(&quantities(20, 100)), 0.1);
    }

    #[test]
    fn at_random_whoever_weighs_twice_as_much_comes_first_twice_as_often() {
        let (totals, mut rng) = (Totals::default(), Rng::seed(5));
        let mut sorter = three(SorterKind::Random);
        sorter.set_weight(1, 2.0);
        let mut first = [0u32; 3];
        for round in 0..8000 {
            sorter.refresh(&totals, &mut rng);
            // Every other walk passes two.
            let passed: Vec<u32> = sorter.active_members().take(1 + round % 2).collect();
            first[passed[0] as usize] += 1;
            sorter.redraw(passed.into_iter());
        }
        assert!(
            first[0].abs_diff(2000) < 150 && first[1].abs_diff(4000) < 150,
            "{first:?}"
        );
    }
}
