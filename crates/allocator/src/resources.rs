//! What happens to resources: they are returned, turn into others, come free.

use crate::{Allocator, amounts::charged, options::Conversion, state::Whom};
use smallvec::smallvec;
use std::time::Duration;
use tepui_model::{FollowerId, FrameworkId, Resources, Time};
use thiserror::Error;

/// The resources of an event are not where it says they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the framework, follower or resources are not known to the allocator as stated")]
pub struct UnknownResources;

/// Resources.
impl Allocator {
    /// A framework returns resources (declined, unused, rescinded) or a task has ended. `refuse`: it
    /// does not want them for so long; `None`: it said nothing of the kind. `resources` are marked as
    /// allocated to their role. If the framework or follower is gone, so is the matter.
    pub fn recover(
        &mut self,
        framework: &FrameworkId,
        follower: &FollowerId,
        resources: &Resources,
        refuse: Option<Duration>,
        now: Time,
    ) {
        let (Some(framework), Some(slot)) = (
            self.framework_index.get(framework).copied(),
            self.follower_index.get(follower).copied(),
        ) else {
            return;
        };
        for (role, resources) in resources.allocations() {
            let Some(client) = self.frameworks[framework].clients.get(&role).copied() else {
                continue;
            };
            let resources = resources.unallocated();
            let Some(held) = self.followers[slot].held.get(client).cloned() else {
                continue;
            };
            self.replace_held(slot, client, held.saturating_sub(&resources));
            // Who has left the role in the meantime starts afresh on coming back.
            let subscribed = self.frameworks[framework].options.roles.contains(&role);
            if let Some(refuse) = refuse.filter(|_| subscribed) {
                self.add_filter(slot, client, resources, refuse, now);
            }
            self.freed(slot);
            self.remove_client_if_idle(client);
        }
    }

    /// What a framework holds turns into something else (an accepted RESERVE, CREATE, …); the
    /// follower's total changes alike. All of it or, on an error, nothing.
    pub fn update_allocation(
        &mut self,
        framework: &FrameworkId,
        follower: &FollowerId,
        role: &str,
        conversions: &[Conversion],
    ) -> Result<(), UnknownResources> {
        let framework = self
            .framework_index
            .get(framework)
            .ok_or(UnknownResources)?;
        let slot = *self.follower_index.get(follower).ok_or(UnknownResources)?;
        let client = *self.frameworks[*framework]
            .clients
            .get(role)
            .ok_or(UnknownResources)?;
        let mut held = self.followers[slot]
            .held
            .get(client)
            .cloned()
            .ok_or(UnknownResources)?;
        let mut total = self.followers[slot].total.clone();
        for conversion in conversions {
            let consumed = conversion.consumed.clone().unallocated();
            let converted = conversion.converted.clone().unallocated();
            held.subtract(&consumed).map_err(|_| UnknownResources)?;
            held += &converted;
            // Another copy of something shared is no more of it.
            if !consumed.is_empty() {
                total.subtract(&consumed).map_err(|_| UnknownResources)?;
                total += converted;
            }
        }
        self.replace_held(slot, client, held);
        self.set_total(slot, total);
        Ok(())
    }

    /// Resources nobody holds turn into something else (an operator's reservation).
    pub fn update_available(
        &mut self,
        follower: &FollowerId,
        conversions: &[Conversion],
    ) -> Result<(), UnknownResources> {
        let slot = *self.follower_index.get(follower).ok_or(UnknownResources)?;
        let mut available = &self.followers[slot].available + &self.followers[slot].shared;
        let mut total = self.followers[slot].total.clone();
        for Conversion {
            consumed,
            converted,
        } in conversions
        {
            for bag in [&mut available, &mut total] {
                bag.subtract(consumed).map_err(|_| UnknownResources)?;
                *bag += converted;
            }
        }
        self.set_total(slot, total);
        self.freed(slot);
        Ok(())
    }
}

/// Bookkeeping shared by the events.
impl Allocator {
    /// Sets what a client holds on a follower and all that follows from it.
    pub(crate) fn replace_held(&mut self, slot: u32, client: u32, new: Resources) {
        let follower = &mut self.followers[slot];
        let old = follower.held.get(client).cloned().unwrap_or_default();
        let is_new = old.is_empty() && !new.is_empty();
        let (old_quantities, new_quantities) = (old.quantities(), new.quantities());
        let (old_charge, new_charge) = (charged(&old), charged(&new));
        let rest = (follower.available.clone() + &old.non_shared()).checked_sub(&new.non_shared());
        let holds_nothing = new.is_empty();
        follower.held.set(client, new);
        match rest {
            Some(rest) if !follower.overcommitted => follower.available = rest,
            _ => follower.settle(),
        }
        let c = &mut self.clients[client];
        let role = c.role;
        if holds_nothing {
            c.held_on.remove(&slot);
        } else {
            c.held_on.insert(slot);
        }
        if is_new {
            self.ask_holder(slot, client);
        }
        self.account(client, &old_quantities, &new_quantities);
        self.charge(role, &old_charge, &new_charge);
        self.update_free(slot);
    }

    /// Something came free on a follower.
    pub(crate) fn freed(&mut self, slot: u32) {
        self.update_free(slot);
        if self.free.contains(slot) {
            self.dirty.insert(slot, Whom::All);
        }
    }

    /// A client may now take what it could not on a follower.
    pub(crate) fn look_again(&mut self, slot: u32, client: u32) {
        if self.free.contains(slot) {
            self.dirty
                .entry(slot)
                .or_insert_with(|| Whom::Only(smallvec![]))
                .add(client);
        }
    }

    /// Whether something there may be offered, and what that adds to the headroom.
    pub(crate) fn update_free(&mut self, slot: u32) {
        let follower = &self.followers[slot];
        let new = self.alternatives_of(follower);
        let old = follower.alternatives;
        if new != old {
            self.followers[slot].alternatives = new;
            self.free.set(slot, old, new);
        }
        self.update_headroom(slot);
    }
}
