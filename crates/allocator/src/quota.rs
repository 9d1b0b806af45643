//! Quota: limits that are never exceeded, and guarantees for which enough is kept free.
//!
//! A role *consumes* what is reserved to it and to roles below it, held or not, and what those hold of unreserved scalars
//! that are not revocable (`docs/quota.md`; `__generateOffers` in `hierarchical.cpp`). Limits of a role hold for all below it
//! together. Of guarantees that are not consumed yet the cluster keeps as much free (the *required headroom*):
//!
//! - a role requires what its guarantee lacks, or the sum of what the roles below it require, whichever is more;
//! - its *credit* is the part of the former that exceeds the latter: whoever gets it, in this role or below, lessens what is
//!   required by just as much. So clients may always have the credits on their path; beyond that they share the
//!   *surplus*, what is available without what is required.
//!
//! All of it is kept up to date along the path of a role by each event. Who gets less than there is for one of these
//! reasons is noted as held back, and woken when the reason weakens (`wake`).

use crate::{
    Allocator, ROOT,
    alternatives::{ANY, Alternatives},
    amounts::{Cap, bound_by_limits, less, most, swap},
    state::Follower,
};
use smallvec::SmallVec;
use std::sync::Arc;
use tepui_model::{Quantities, Quota, Scalar, resources::Name};

/// By how much what is available exceeds what is required (or falls short of it), for what is required.
pub(crate) type Surplus = SmallVec<[(Name, Scalar); 4]>;

impl Allocator {
    /// What a role is promised and may have; the default takes its quota away.
    pub fn update_quota(&mut self, role: &Arc<str>, quota: Quota) {
        let slot = match self.role_index.get(role) {
            Some(slot) => *slot,
            None if quota.is_default() => return,
            None => self.role_slot(role),
        };
        let limited = |quota: &Quota| usize::from(!quota.limits.is_empty());
        self.limited += limited(&quota);
        let old = std::mem::replace(&mut self.roles[slot].quota, quota);
        self.limited -= limited(&old);
        self.requota(slot);
        self.wake_subtree(role);
        self.prune(slot);
    }

    /// A client's charge is replaced.
    pub(crate) fn charge(&mut self, role: u32, old: &Quantities, new: &Quantities) {
        if old == new {
            return;
        }
        let less_now = !new.contains(old);
        for slot in self.path_slots(role) {
            swap(&mut self.roles[slot].charged, old, new);
            self.consumption_changed(slot, less_now);
        }
    }

    /// What is reserved to a role on a follower is replaced.
    pub(crate) fn reserve(&mut self, role: u32, old: &Quantities, new: &Quantities) {
        let less_now = !new.contains(old);
        for slot in self.path_slots(role) {
            swap(&mut self.roles[slot].reserved, old, new);
            self.consumption_changed(slot, less_now);
        }
    }

    /// Sets which reservations there are on a follower to those of its total.
    pub(crate) fn update_reservations(&mut self, follower: u32) {
        let total = &self.followers[follower].total;
        let plain = total.iter().all(|resource| resource.is_unreserved());
        if plain && self.followers[follower].reserved.is_empty() {
            return;
        }
        let reservations: Vec<(Arc<str>, Quantities)> = total
            .reservations()
            .into_iter()
            .map(|(role, resources)| (Arc::from(role), resources.quantities()))
            // Reserved ports are no quantity, and no reason to know a role.
            .filter(|(_, quantities): &(Arc<str>, Quantities)| !quantities.is_empty())
            .collect();
        let mut new: SmallVec<[(u32, Quantities); 1]> = SmallVec::new();
        for (role, quantities) in reservations {
            let role = self.role_slot(&role);
            self.reserve(role, &Quantities::new(), &quantities);
            new.push((role, quantities));
        }
        let old = std::mem::replace(&mut self.followers[follower].reserved, new);
        self.drop_reservations(&old);
    }

    /// They are no more.
    pub(crate) fn drop_reservations(&mut self, old: &[(u32, Quantities)]) {
        for (role, quantities) in old {
            self.reserve(*role, quantities, &Quantities::new());
            self.prune(*role);
        }
    }

    fn consumption_changed(&mut self, slot: u32, less_now: bool) {
        let role = &self.roles[slot];
        let concerns = !role.quota.is_default() || !role.required_below.is_empty();
        if !concerns && role.required.is_empty() {
            return;
        }
        if less_now && !role.quota.limits.is_empty() {
            self.loosened.insert(slot);
        }
        self.requota_one(slot);
    }

    /// Recomputes a role's part in quota, and those of all above it as far as they change.
    fn requota(&mut self, slot: u32) {
        for slot in self.path_slots(slot) {
            self.requota_one(slot);
        }
    }

    /// Recomputes a role's part in quota and tells the role above.
    fn requota_one(&mut self, slot: u32) {
        let role = &self.roles[slot];
        let lacks = if role.quota.guarantees.is_empty() {
            Quantities::new()
        } else {
            less(&role.quota.guarantees, &role.consumed())
        };
        let credit = less(&lacks, &role.required_below);
        let required = most(&lacks, &role.required_below);
        let parent = role.parent;
        let has_more_credit = !role.credit.contains(&credit);
        let has_credit = !credit.is_empty();
        let had_credit = !role.credit.is_empty();
        let role = &mut self.roles[slot];
        role.credit = credit;
        let old = std::mem::replace(&mut role.required, required.clone());
        if has_more_credit {
            self.loosened.insert(slot);
        }
        if has_credit != had_credit {
            for above in self.path_slots(slot) {
                let credits = &mut self.roles[above].credits;
                *credits = if has_credit {
                    *credits + 1
                } else {
                    *credits - 1
                };
            }
            if has_credit {
                self.creditors.insert(slot);
            } else {
                self.creditors.remove(&slot);
            }
        }
        if let Some(parent) = parent
            && old != required
        {
            swap(&mut self.roles[parent].required_below, &old, &required);
        }
        self.update_closed(slot);
    }

    /// Whether the limits of a role leave nothing worth an offer.
    pub(crate) fn update_closed(&mut self, slot: u32) {
        let role = &self.roles[slot];
        let (mut closed, mut fits) = (false, ANY);
        if !role.quota.limits.is_empty() && role.own_minimums == 0 {
            let mut cap = Cap::default();
            bound_by_limits(&mut cap, &role.quota.limits, &role.consumed());
            closed = self.is_too_tight(&cap);
            fits = self.alternatives_within(&cap);
        }
        let (was_closed, fitted) = (role.closed, role.fits);
        if was_closed == closed && fitted == fits {
            return;
        }
        let (name, parent) = (role.name.clone(), role.parent);
        let role = &mut self.roles[slot];
        (role.closed, role.fits) = (closed, fits);
        if let Some(parent) = parent {
            self.roles[parent].order.set_group(slot, fits);
        }
        if fits & !fitted != 0 {
            // While there was no room nobody looked, so nobody noted that they were held back.
            self.wake_subtree(&name);
        }
    }

    /// Whether no offer of unreserved scalars within these bounds reaches the minimum.
    pub(crate) fn is_too_tight(&self, cap: &Cap) -> bool {
        let minimums = &self.options.min_allocatable_resources;
        !minimums.is_empty() && !minimums.iter().any(|least| cap.admits(least))
    }

    /// Whether nothing bounds what a role may be offered.
    pub(crate) fn is_unbounded(&self, role: u32) -> bool {
        self.roles[ROOT].required.is_empty()
            && (self.limited == 0
                || self
                    .path(role)
                    .all(|(_, role)| role.quota.limits.is_empty()))
    }

    /// What a role's clients may be offered of unreserved scalars: within all limits above them, and from the surplus
    /// once they have used their credits. The second bound is by limits alone.
    pub(crate) fn bounds(&self, role: u32) -> (Cap, Cap) {
        let mut limits = Cap::default();
        if self.limited > 0 {
            for (_, above) in self.path(role) {
                if !above.quota.limits.is_empty() {
                    bound_by_limits(&mut limits, &above.quota.limits, &above.consumed());
                }
            }
        }
        let mut all = limits.clone();
        let root = &self.roles[ROOT];
        if !root.required.is_empty() {
            let credit = self.credit(role);
            for (name, required) in root.required.iter() {
                let surplus = self.headroom.amount(name.as_str()) - required;
                all.bound(
                    name,
                    credit.amount(name.as_str()) + surplus.max(Scalar::ZERO),
                );
            }
        }
        (all, limits)
    }

    /// What a role's clients may have of what is kept free.
    pub(crate) fn credit(&self, role: u32) -> Quantities {
        let mut credit = Quantities::new();
        for (_, above) in self.path(role) {
            credit.add_all(&above.credit);
        }
        credit
    }

    /// See [`Surplus`].
    pub(crate) fn surplus(&self) -> Surplus {
        let required = self.roles[ROOT].required.iter();
        required
            .map(|(name, amount)| (name.clone(), self.headroom.amount(name.as_str()) - amount))
            .collect()
    }

    /// The minimums that the surplus leaves room for.
    pub(crate) fn alternatives_of_surplus(&self) -> Alternatives {
        let root = &self.roles[ROOT];
        if root.required.is_empty() || root.own_minimums > 0 {
            return ANY;
        }
        let mut cap = Cap::default();
        for (name, surplus) in &self.surplus() {
            cap.bound(name, *surplus);
        }
        self.alternatives_within(&cap)
    }

    /// Whether nobody in a role can be offered unreserved scalars at present.
    pub(crate) fn is_shut(&self, role: u32) -> bool {
        self.is_at_limits(role)
            || (self.roles[role].own_minimums == 0 && self.is_too_tight(&self.bounds(role).0))
    }

    /// Whether that is because of limits.
    pub(crate) fn is_at_limits(&self, role: u32) -> bool {
        self.roles[role].own_minimums == 0 && self.path(role).any(|(_, above)| above.closed)
    }

    /// What a follower adds to the cluster's headroom has changed.
    pub(crate) fn update_headroom(&mut self, slot: u32) {
        let follower: &Follower = &self.followers[slot];
        let new = follower.to_headroom();
        if new != follower.headroom {
            let old = std::mem::replace(&mut self.followers[slot].headroom, new.clone());
            swap(&mut self.headroom, &old, &new);
        }
    }
}
