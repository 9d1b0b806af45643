//! Followers that are known and not registered: awaited after an election, unreachable, gone.
//!
//! It mirrors what the registry keeps of them, with the marks that an operator set on a follower
//! (draining, deactivated). Marks stay with a follower on every way it goes and comes back, as in
//! `src/master/registry_operations.cpp`, until it is removed or gone; those of registered ones are here
//! too.

use crate::{Leader, RegistryChange};
use rpds::RedBlackTreeMapSync;
use rustc_hash::FxHashMap;
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};
use tepui_model::{FollowerId, Time};
use tepui_protocol::{internal::registry, v1};

/// What an operator said of a follower, until it is taken back or the follower is gone.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Marks {
    /// It is to be emptied, or has been.
    pub(crate) drain: Option<v1::DrainInfo>,
    /// Nothing of it is offered.
    pub(crate) deactivated: bool,
}

/// Followers with a time, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Aged {
    since: RedBlackTreeMapSync<FollowerId, Time>,
    order: BTreeSet<(Time, FollowerId)>,
}

impl Aged {
    pub(crate) fn get(&self, id: &FollowerId) -> Option<Time> {
        self.since.get(id).copied()
    }
    pub(crate) fn contains(&self, id: &FollowerId) -> bool {
        self.since.contains_key(id)
    }
    pub(crate) fn len(&self) -> usize {
        self.since.size()
    }
    pub(crate) fn insert(&mut self, id: FollowerId, since: Time) {
        self.remove(&id);
        self.order.insert((since, id.clone()));
        self.since.insert_mut(id, since);
    }
    pub(crate) fn remove(&mut self, id: &FollowerId) -> Option<Time> {
        let since = self.get(id)?;
        self.since.remove_mut(id);
        self.order.remove(&(since, id.clone()));
        Some(since)
    }
    /// Oldest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &(Time, FollowerId)> {
        self.order.iter()
    }
    /// For readers.
    pub(crate) fn snapshot(&self) -> RedBlackTreeMapSync<FollowerId, Time> {
        self.since.clone()
    }
    pub(crate) fn check(&self) {
        assert_eq!(self.since.size(), self.order.len(), "both indexes agree");
        for (since, id) in &self.order {
            assert_eq!(self.since.get(id), Some(since), "{id} is in both indexes");
        }
    }
}

/// Ids of followers that were removed, the oldest forgotten first.
#[derive(Debug, Default)]
pub(crate) struct RemovedFollowers {
    ids: FxHashMap<FollowerId, u64>,
    /// May name ids that came back, or were removed again later: those have another number.
    order: VecDeque<(u64, FollowerId)>,
    next: u64,
}

impl RemovedFollowers {
    pub(crate) fn insert(&mut self, id: FollowerId, limit: usize) {
        self.next += 1;
        self.ids.insert(id.clone(), self.next);
        self.order.push_back((self.next, id));
        while self.ids.len() > limit {
            self.forget_oldest();
        }
        // What came back leaves its place in the order behind; it goes before that piles up.
        if self.order.len() > 2 * limit.max(self.ids.len()) {
            let ids = &self.ids;
            self.order
                .retain(|(number, id)| ids.get(id) == Some(number));
        }
    }
    fn forget_oldest(&mut self) {
        let Some((number, id)) = self.order.pop_front() else {
            return self.ids.clear();
        };
        if self.ids.get(&id) == Some(&number) {
            self.ids.remove(&id);
        }
    }
    pub(crate) fn forget(&mut self, id: &FollowerId) {
        self.ids.remove(id);
    }
    pub(crate) fn contains(&self, id: &FollowerId) -> bool {
        self.ids.contains_key(id)
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Roster {
    /// Admitted before an election, not seen again yet.
    pub(crate) recovered: RedBlackTreeMapSync<FollowerId, Arc<v1::AgentInfo>>,
    /// Did not answer in time.
    pub(crate) unreachable: Aged,
    /// Declared gone.
    pub(crate) gone: Aged,
    /// Known to have been here.
    pub(crate) removed: RemovedFollowers,
    marks: BTreeMap<FollowerId, Marks>,
}

impl Roster {
    /// What an operator said of a follower; mostly nothing.
    pub(crate) fn marks(&self, id: &FollowerId) -> Marks {
        self.marks.get(id).cloned().unwrap_or_default()
    }
    /// Those an operator said something of.
    pub(crate) fn marked(&self) -> impl Iterator<Item = (&FollowerId, &Marks)> {
        self.marks.iter()
    }
    /// The registry is to hear of it too: see [`Leader::record_follower`].
    pub(crate) fn mark(&mut self, id: &FollowerId, marks: Marks) {
        if marks == Marks::default() {
            self.marks.remove(id);
        } else {
            self.marks.insert(id.clone(), marks);
        }
    }
    pub(crate) fn is_deactivated(&self, id: &FollowerId) -> bool {
        self.marks.get(id).is_some_and(|marks| marks.deactivated)
    }
}

impl Leader {
    /// A registered or awaited follower as the registry is to keep it.
    pub(crate) fn admission(&self, info: v1::AgentInfo) -> RegistryChange {
        let id = info.id.as_ref().map(FollowerId::from);
        let marks = id
            .map(|id| self.state.roster.marks(&id))
            .unwrap_or_default();
        RegistryChange::AdmitFollower(Box::new(registry::Slave {
            info,
            drain_info: marks.drain,
            deactivated: marks.deactivated.then_some(true),
        }))
    }

    /// An unreachable follower as the registry is to keep it.
    pub(crate) fn unreachable_record(&self, id: &FollowerId, since: Time) -> RegistryChange {
        let marks = self.state.roster.marks(id);
        RegistryChange::FollowerUnreachable(registry::UnreachableSlave {
            id: id.to_proto(),
            timestamp: time_info(since),
            drain_info: marks.drain,
            deactivated: marks.deactivated.then_some(true),
        })
    }

    /// Makes durable what is kept of a follower after its marks have changed. `false`: nobody knows
    /// such a one, or it is gone.
    pub(crate) fn record_follower(&mut self, id: &FollowerId) -> bool {
        let known = self.state.follower(id).map(|follower| &follower.info);
        let awaited = || self.state.roster.recovered.get(id);
        let change = match known.or_else(awaited) {
            Some(info) => self.admission(v1::AgentInfo::clone(info)),
            None => match self.state.roster.unreachable.get(id) {
                Some(since) => self.unreachable_record(id, since),
                None => return false,
            },
        };
        self.persist(change);
        true
    }
}

/// A time as the registry has it.
pub(crate) fn time_info(at: Time) -> v1::TimeInfo {
    v1::TimeInfo {
        nanoseconds: i64::try_from(at.nanos()).unwrap_or(i64::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u32) -> FollowerId {
        FollowerId::new(format!("S{number}"))
    }

    #[test]
    fn the_oldest_removed_are_forgotten_first_and_those_that_came_back_leave_no_trace() {
        let mut removed = RemovedFollowers::default();
        for number in 0..4 {
            removed.insert(id(number), 3);
        }
        assert!(!removed.contains(&id(0)) && removed.contains(&id(1)));
        removed.forget(&id(1));
        assert!(!removed.contains(&id(1)));
        removed.insert(id(1), 3);
        removed.insert(id(5), 3);
        assert!(!removed.contains(&id(2)), "the oldest that is still there");
        assert!(removed.contains(&id(1)) && removed.contains(&id(3)) && removed.contains(&id(5)));
        for _ in 0..100 {
            removed.insert(id(1), 3);
            removed.forget(&id(1));
        }
        assert!(removed.order.len() <= 7, "{}", removed.order.len());
    }

    #[test]
    fn the_aged_are_in_the_order_of_their_age() {
        let at = Time::from_nanos;
        let mut aged = Aged::default();
        aged.insert(id(1), at(5));
        aged.insert(id(2), at(3));
        aged.insert(id(1), at(1));
        aged.check();
        let order: Vec<_> = aged.iter().map(|(_, id)| id.clone()).collect();
        assert_eq!(order, [id(1), id(2)]);
        assert_eq!(
            (aged.remove(&id(2)), aged.remove(&id(2))),
            (Some(at(3)), None)
        );
        aged.check();
        assert_eq!(aged.len(), 1);
    }
}
