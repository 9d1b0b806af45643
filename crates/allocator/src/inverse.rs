//! Inverse offers: who is to be asked to leave a follower that will be down for maintenance.
//!
//! Semantics follow `generateInverseOffers`, `updateUnavailability` and `updateInverseOffer` of the
//! reference's hierarchical allocator: whoever holds something on a follower with a planned
//! unavailability is asked once; an answer (or the end of the question without one) lets it be asked
//! again after the refusal that came with it. What is asked for is the follower as a whole, hence
//! nothing here counts resources.
//!
//! Unlike there, nobody goes through all followers in every round: each event notes the pairs of
//! follower and framework that may have to be asked now, or at the end of a refusal.

use crate::Allocator;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use tepui_model::{FollowerId, FrameworkId, Time};

/// At once: events do not know what time it is.
const NOW: Time = Time::from_nanos(0);

/// A follower's planned unavailability, as far as questions go.
#[derive(Clone, Debug, Default)]
pub(crate) struct Maintenance {
    /// Frameworks that were asked and have not answered.
    outstanding: BTreeSet<u32>,
    /// Frameworks that do not want to be asked again before.
    refused: BTreeMap<u32, Time>,
}

/// What is to be asked, and where anything is at all.
#[derive(Clone, Debug, Default)]
pub(crate) struct Questions {
    /// Pairs of follower and framework to look at, by when.
    looks: BTreeSet<(Time, u32, u32)>,
    /// Followers with a planned unavailability.
    maintained: BTreeSet<u32>,
}

impl Questions {
    pub(crate) fn next(&self) -> Option<Time> {
        self.looks.first().map(|(at, ..)| *at)
    }
    fn add(&mut self, at: Time, follower: u32, framework: u32) {
        self.looks.insert((at, follower, framework));
    }
    fn forget_follower(&mut self, slot: u32) {
        self.maintained.remove(&slot);
        self.looks.retain(|(_, follower, _)| *follower != slot);
    }
}

/// A framework is to be asked for a follower.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct InverseOffer {
    /// Who.
    pub framework: FrameworkId,
    /// For what.
    pub follower: FollowerId,
}

impl Allocator {
    /// A follower will be unavailable, or at another time than it was said, or not after all. Either
    /// way nobody is being asked for it any more, and refusals count no more: they were of another
    /// plan.
    pub fn set_unavailable(&mut self, id: &FollowerId, unavailable: bool) {
        let Some(slot) = self.follower_index.get(id).copied() else {
            return;
        };
        self.forget_inverse_on(slot);
        if unavailable {
            self.followers[slot].maintenance = Some(Maintenance::default());
            self.inverse.maintained.insert(slot);
            self.ask_everybody_on(slot);
        }
    }

    /// Whom to ask now. Each pair is asked once, until [`Self::recover_inverse`].
    pub fn inverse_offers(&mut self, now: Time, out: &mut Vec<InverseOffer>) {
        while let Some((at, slot, framework)) = self.inverse.looks.first().copied() {
            if at > now {
                break;
            }
            self.inverse.looks.pop_first();
            if !self.is_to_be_asked(slot, framework, now) {
                continue;
            }
            let Some(maintenance) = &mut self.followers[slot].maintenance else {
                continue;
            };
            maintenance.outstanding.insert(framework);
            out.push(InverseOffer {
                framework: self.frameworks[framework].id.clone(),
                follower: self.followers[slot].id.clone(),
            });
        }
    }

    /// The question is over: answered, taken back or too old. `refuse`: the framework wants no other
    /// for so long.
    pub fn recover_inverse(
        &mut self,
        framework: &FrameworkId,
        follower: &FollowerId,
        refuse: Option<Duration>,
        now: Time,
    ) {
        let (Some(framework), Some(slot)) = (
            self.framework_index.get(framework).copied(),
            self.follower_index.get(follower).copied(),
        ) else {
            return;
        };
        // None and zero both mean "not right now", see `end_of_refusal`.
        let until = self.end_of_refusal(refuse.unwrap_or_default(), now);
        let Some(maintenance) = &mut self.followers[slot].maintenance else {
            return;
        };
        maintenance.outstanding.remove(&framework);
        if refuse.is_some_and(|refuse| !refuse.is_zero()) {
            let refused = maintenance.refused.entry(framework).or_insert(until);
            *refused = until.max(*refused);
        }
        self.inverse.add(until, slot, framework);
    }

    fn is_to_be_asked(&self, slot: u32, framework: u32, now: Time) -> bool {
        let (Some(follower), Some(asked)) =
            (self.followers.get(slot), self.frameworks.get(framework))
        else {
            return false;
        };
        let Some(maintenance) = &follower.maintenance else {
            return false;
        };
        let holds_something = || {
            let mut clients = asked.clients.values();
            clients.any(|client| follower.held.contains(*client))
        };
        follower.active
            && asked.known
            && asked.active
            && !maintenance.outstanding.contains(&framework)
            && maintenance
                .refused
                .get(&framework)
                .is_none_or(|until| *until <= now)
            && holds_something()
    }

    /// A client holds something where it held nothing.
    pub(crate) fn ask_holder(&mut self, slot: u32, client: u32) {
        if self.followers[slot].maintenance.is_some() {
            let framework = self.clients[client].framework;
            self.inverse.add(NOW, slot, framework);
        }
    }

    /// All that hold something on a follower may have to be asked.
    pub(crate) fn ask_everybody_on(&mut self, slot: u32) {
        if self.followers[slot].maintenance.is_none() {
            return;
        }
        let holders = self.followers[slot].held.clients();
        let frameworks: BTreeSet<u32> = holders.map(|c| self.clients[c].framework).collect();
        for framework in frameworks {
            self.inverse.add(NOW, slot, framework);
        }
    }

    /// A framework may have to be asked, wherever it holds something.
    pub(crate) fn ask_everywhere(&mut self, framework: u32) {
        for slot in self.maintained_followers_of(framework) {
            self.inverse.add(NOW, slot, framework);
        }
    }

    /// What a framework refused to be asked counts no more.
    pub(crate) fn clear_inverse_refusals(&mut self, framework: u32) {
        for slot in self.maintained_followers_of(framework) {
            if let Some(maintenance) = &mut self.followers[slot].maintenance {
                maintenance.refused.remove(&framework);
            }
        }
    }

    fn maintained_followers_of(&self, framework: u32) -> BTreeSet<u32> {
        if self.inverse.maintained.is_empty() {
            return BTreeSet::new();
        }
        let clients = self.frameworks[framework].clients.values();
        let held_on = clients.flat_map(|client| &self.clients[*client].held_on);
        held_on
            .copied()
            .filter(|slot| self.inverse.maintained.contains(slot))
            .collect()
    }

    /// Before a framework's slot is used for another.
    pub(crate) fn forget_inverse_of(&mut self, framework: u32) {
        if self.inverse.maintained.is_empty() {
            return;
        }
        for slot in &self.inverse.maintained {
            if let Some(maintenance) = &mut self.followers[*slot].maintenance {
                maintenance.outstanding.remove(&framework);
                maintenance.refused.remove(&framework);
            }
        }
        let looks = &mut self.inverse.looks;
        looks.retain(|(_, _, other)| *other != framework);
    }

    /// Before a follower's slot is used for another. Costs nothing where nothing is planned.
    pub(crate) fn forget_inverse_on(&mut self, slot: u32) {
        if self.followers[slot].maintenance.take().is_some() {
            self.inverse.forget_follower(slot);
        }
    }

    pub(crate) fn check_inverse(&self) {
        for (slot, follower) in self.followers.iter() {
            assert_eq!(
                follower.maintenance.is_some(),
                self.inverse.maintained.contains(&slot),
                "{:?}: known to be maintained if it is",
                follower.id
            );
            let Some(maintenance) = &follower.maintenance else {
                continue;
            };
            for framework in maintenance
                .outstanding
                .iter()
                .chain(maintenance.refused.keys())
            {
                assert!(
                    self.frameworks.get(*framework).is_some(),
                    "only frameworks that are there are asked"
                );
            }
            // Liveness: whoever could be asked has been, or is noted.
            for client in follower.held.clients() {
                let framework = self.clients[client].framework;
                let asked = maintenance.outstanding.contains(&framework);
                let noted = self
                    .inverse
                    .looks
                    .iter()
                    .any(|(_, f, other)| (*f, *other) == (slot, framework));
                let f = &self.frameworks[framework];
                assert!(
                    asked || noted || !follower.active || !f.active || !f.known,
                    "whoever holds something on {:?} is asked, or will be",
                    follower.id
                );
            }
        }
        for (_, slot, framework) in &self.inverse.looks {
            assert!(
                self.followers.get(*slot).is_some() && self.frameworks.get(*framework).is_some(),
                "looks are at what is there"
            );
        }
    }
}
