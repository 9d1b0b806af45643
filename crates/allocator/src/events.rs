//! What happens to frameworks and followers. Every event notes what it changed for the next
//! allocation and does no more.

use crate::{
    Allocator,
    options::{Conversion, FollowerInfo, FrameworkOptions},
    state::{Client, Follower, Framework, Role, Whom},
};
use smallvec::smallvec;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};
use tepui_model::{FollowerId, FrameworkId, Quota, Resources, Time};
use thiserror::Error;

/// The resources of an event are not where it says they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the framework, follower or resources are not known to the allocator as stated")]
pub struct UnknownResources;

/// Frameworks.
impl Allocator {
    /// A framework subscribes for the first time, or again after a change of leaders: then what
    /// followers have reported of it is its own already. A framework already there is updated and
    /// activated.
    pub fn add_framework(&mut self, id: &FrameworkId, options: FrameworkOptions, active: bool) {
        let framework = self.framework_slot(id);
        self.frameworks[framework].known = true;
        self.set_framework_options(framework, options);
        self.set_framework_active(framework, active);
    }

    /// Its roles, suppressed roles, capabilities or minimums change. Newly unsuppressed roles lose
    /// their filters, as if revived.
    pub fn update_framework(&mut self, id: &FrameworkId, options: FrameworkOptions) {
        if let Some(framework) = self.framework_index.get(id).copied()
            && self.frameworks[framework].known
        {
            self.set_framework_options(framework, options);
        }
    }

    /// It is gone; all it held is free.
    pub fn remove_framework(&mut self, id: &FrameworkId) {
        let Some(framework) = self.framework_index.get(id).copied() else {
            return;
        };
        self.frameworks[framework].known = true;
        self.set_framework_options(framework, FrameworkOptions::default());
        let clients: Vec<u32> = self.frameworks[framework]
            .clients
            .values()
            .copied()
            .collect();
        for client in clients {
            for follower in std::mem::take(&mut self.clients[client].held_on) {
                self.replace_held(follower, client, Resources::new());
                self.freed(follower);
            }
            self.remove_client(client);
        }
        self.forget_inverse_of(framework);
        self.framework_index.remove(id);
        self.frameworks.remove(framework);
    }

    /// It is connected (again) and wants offers.
    pub fn activate_framework(&mut self, id: &FrameworkId) {
        if let Some(framework) = self.framework_index.get(id).copied() {
            self.set_framework_active(framework, true);
        }
    }

    /// It is disconnected: no offers, its filters are forgotten, what it holds stays its own.
    pub fn deactivate_framework(&mut self, id: &FrameworkId) {
        if let Some(framework) = self.framework_index.get(id).copied() {
            self.set_framework_active(framework, false);
        }
    }

    /// No offers in these roles until revived; empty: in all its roles.
    pub fn suppress(&mut self, id: &FrameworkId, roles: &BTreeSet<Arc<str>>) {
        let Some(framework) = self.framework_index.get(id).copied() else {
            return;
        };
        for role in self.roles_meant(framework, roles) {
            self.frameworks[framework]
                .options
                .suppressed_roles
                .insert(role.clone());
            if let Some(client) = self.frameworks[framework].clients.get(&role).copied() {
                self.update_activity(client);
            }
        }
    }

    /// Offers again in these roles, and forget what was refused there; empty: in all its roles.
    pub fn revive(&mut self, id: &FrameworkId, roles: &BTreeSet<Arc<str>>) {
        let Some(framework) = self.framework_index.get(id).copied() else {
            return;
        };
        for role in self.roles_meant(framework, roles) {
            self.frameworks[framework]
                .options
                .suppressed_roles
                .remove(&role);
            if let Some(client) = self.frameworks[framework].clients.get(&role).copied() {
                self.clear_filters_of_client(client);
                self.update_activity(client);
                self.make_hungry(client);
            }
        }
        self.clear_inverse_refusals(framework);
        self.ask_everywhere(framework);
    }

    /// REQUEST has no effect in the reference either (`docs/scheduler-http-api.md`).
    pub fn request(&mut self, _id: &FrameworkId) {}

    /// Weight of a role in fair sharing; 1 by default, must be positive.
    pub fn update_weight(&mut self, role: &Arc<str>, weight: f64) {
        if !(weight.is_finite() && weight > 0.0) {
            return;
        }
        self.weights.insert(role.clone(), weight);
        if let Some(slot) = self.role_index.get(role) {
            self.role_order.set_weight(*slot, weight, &self.totals);
        }
    }

    /// What a role is promised and may have; the default takes its quota away.
    pub fn update_quota(&mut self, role: &Arc<str>, quota: Quota) {
        if quota.is_default() {
            self.quotas.remove(role);
        } else {
            self.quotas.insert(role.clone(), quota);
        }
    }

    fn roles_meant(&self, framework: u32, roles: &BTreeSet<Arc<str>>) -> BTreeSet<Arc<str>> {
        let own = &self.frameworks[framework].options.roles;
        if roles.is_empty() {
            own.clone()
        } else {
            own.intersection(roles).cloned().collect()
        }
    }

    fn set_framework_options(&mut self, framework: u32, options: FrameworkOptions) {
        let old = std::mem::replace(&mut self.frameworks[framework].options, options);
        let own_minimum =
            |options: &FrameworkOptions| usize::from(!options.min_allocatable_resources.is_empty());
        self.own_minimums -= own_minimum(&old);
        self.own_minimums += own_minimum(&self.frameworks[framework].options);
        let roles = self.frameworks[framework].options.roles.clone();
        for role in &roles {
            self.client_slot(framework, role);
        }
        for role in old.roles.difference(&roles) {
            if let Some(client) = self.frameworks[framework].clients.get(role).copied() {
                self.clear_filters_of_client(client);
                self.update_activity(client);
                self.remove_client_if_idle(client);
            }
        }
        let new = &self.frameworks[framework].options;
        let eats_more = new.capabilities != old.capabilities
            || new.min_allocatable_resources != old.min_allocatable_resources;
        for role in &roles {
            let suppressed = self.frameworks[framework]
                .options
                .suppressed_roles
                .contains(role);
            let client = self.client_slot(framework, role);
            let revived = old.suppressed_roles.contains(role) && !suppressed;
            if revived {
                self.clear_filters_of_client(client);
            }
            self.update_activity(client);
            if revived || eats_more || !old.roles.contains(role) {
                self.make_hungry(client);
            }
        }
    }

    fn set_framework_active(&mut self, framework: u32, active: bool) {
        let changed = self.frameworks[framework].active != active;
        self.frameworks[framework].active = active;
        let clients: Vec<u32> = self.frameworks[framework]
            .clients
            .values()
            .copied()
            .collect();
        for client in clients {
            if !active {
                self.clear_filters_of_client(client);
            }
            self.update_activity(client);
            if active && changed {
                self.make_hungry(client);
            }
        }
        if active {
            self.ask_everywhere(framework);
        } else {
            self.clear_inverse_refusals(framework);
        }
    }
}

/// Followers.
impl Allocator {
    /// A follower registers, with what frameworks hold there (marked as allocated to roles). One
    /// already there is replaced.
    pub fn add_follower(
        &mut self,
        id: &FollowerId,
        info: FollowerInfo,
        used: &[(FrameworkId, Resources)],
    ) {
        self.remove_follower(id);
        let remote = self.is_remote(&info);
        let slot = self.followers.insert(Follower {
            id: id.clone(),
            total: info.total,
            quantities: Default::default(),
            capabilities: info.capabilities,
            active: true,
            remote,
            has_gpus: false,
            available: Resources::new(),
            overcommitted: false,
            shared: Resources::new(),
            held: BTreeMap::new(),
            filters: Default::default(),
            maintenance: None,
        });
        self.follower_index.insert(id.clone(), slot);
        self.followers[slot].settle();
        self.totals
            .change(&Default::default(), &self.followers[slot].quantities);
        for (framework, resources) in used {
            let framework = self.framework_slot(framework);
            for (role, resources) in resources.allocations() {
                let client = self.client_slot(framework, &role);
                let held = self.followers[slot]
                    .held
                    .get(&client)
                    .cloned()
                    .unwrap_or_default();
                self.replace_held(slot, client, held + &resources.unallocated());
            }
        }
        self.freed(slot);
    }

    /// What it has or can do changes. `attributes_changed`: refusals may have rested on the old
    /// ones, so they are forgotten.
    pub fn update_follower(
        &mut self,
        id: &FollowerId,
        info: FollowerInfo,
        attributes_changed: bool,
    ) {
        let Some(slot) = self.follower_index.get(id).copied() else {
            return;
        };
        if attributes_changed {
            self.clear_filters_of_follower(slot);
        }
        let remote = self.is_remote(&info);
        let follower = &mut self.followers[slot];
        follower.capabilities = info.capabilities;
        follower.remote = remote;
        self.set_total(slot, info.total);
        self.freed(slot);
    }

    /// Only what it has changes.
    pub fn update_follower_total(&mut self, id: &FollowerId, total: Resources) {
        let Some(slot) = self.follower_index.get(id).copied() else {
            return;
        };
        if self.followers[slot].total != total {
            self.set_total(slot, total);
            self.freed(slot);
        }
    }

    /// It is gone, with all that was held on it.
    pub fn remove_follower(&mut self, id: &FollowerId) {
        let Some(slot) = self.follower_index.remove(id) else {
            return;
        };
        self.clear_filters_of_follower(slot);
        let clients: Vec<u32> = self.followers[slot].held.keys().copied().collect();
        for client in clients {
            self.replace_held(slot, client, Resources::new());
            self.remove_client_if_idle(client);
        }
        self.forget_inverse_on(slot);
        self.dirty.remove(&slot);
        self.free.remove(&slot);
        if let Some(follower) = self.followers.remove(slot) {
            self.totals
                .change(&follower.quantities, &Default::default());
        }
    }

    /// It is connected (again): what is free there may be offered.
    pub fn activate_follower(&mut self, id: &FollowerId) {
        if let Some(slot) = self.follower_index.get(id).copied() {
            self.followers[slot].active = true;
            self.freed(slot);
            self.ask_everybody_on(slot);
        }
    }

    /// It is disconnected: nothing there is offered.
    pub fn deactivate_follower(&mut self, id: &FollowerId) {
        if let Some(slot) = self.follower_index.get(id).copied() {
            self.followers[slot].active = false;
            self.dirty.remove(&slot);
            self.update_free(slot);
        }
    }

    fn is_remote(&self, info: &FollowerInfo) -> bool {
        matches!((&info.traits.region, &self.options.region), (Some(theirs), Some(ours)) if theirs != ours)
    }

    fn set_total(&mut self, slot: u32, total: Resources) {
        let follower = &mut self.followers[slot];
        let old = std::mem::take(&mut follower.quantities);
        follower.total = total;
        follower.settle();
        self.totals.change(&old, &follower.quantities);
        self.update_free(slot);
    }
}

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
            let Some(held) = self.followers[slot].held.get(&client).cloned() else {
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
            .get(&client)
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
    /// The framework's slot, made if need be for one that only followers know of.
    fn framework_slot(&mut self, id: &FrameworkId) -> u32 {
        if let Some(slot) = self.framework_index.get(id) {
            return *slot;
        }
        let slot = self.frameworks.insert(Framework {
            id: id.clone(),
            options: FrameworkOptions::default(),
            active: false,
            known: false,
            clients: BTreeMap::new(),
        });
        self.framework_index.insert(id.clone(), slot);
        slot
    }

    fn client_slot(&mut self, framework: u32, role: &Arc<str>) -> u32 {
        if let Some(client) = self.frameworks[framework].clients.get(role) {
            return *client;
        }
        let role_slot = self.role_slot(role);
        let client = self.clients.insert(Client {
            framework,
            role: role_slot,
            held_on: BTreeSet::new(),
            refused_on: BTreeSet::new(),
        });
        let name: Arc<str> = self.frameworks[framework].id.as_str().into();
        self.roles[role_slot].clients.insert(client, name, 1.0);
        self.frameworks[framework]
            .clients
            .insert(role.clone(), client);
        client
    }

    fn role_slot(&mut self, role: &Arc<str>) -> u32 {
        if let Some(slot) = self.role_index.get(role) {
            return *slot;
        }
        let slot = self.roles.insert(Role {
            name: role.clone(),
            clients: Default::default(),
        });
        self.role_order.insert(
            slot,
            role.clone(),
            self.weights.get(role).copied().unwrap_or(1.0),
        );
        self.role_index.insert(role.clone(), slot);
        slot
    }

    fn remove_client_if_idle(&mut self, client: u32) {
        let Some(c) = self.clients.get(client) else {
            return;
        };
        let subscribed = self.frameworks[c.framework]
            .options
            .roles
            .contains(&self.roles[c.role].name);
        if c.held_on.is_empty() && !subscribed {
            let framework = c.framework;
            self.remove_client(client);
            let f = &self.frameworks[framework];
            if !f.known && f.clients.is_empty() {
                self.framework_index.remove(&f.id.clone());
                self.forget_inverse_of(framework);
                self.frameworks.remove(framework);
            }
        }
    }

    /// Callers have freed what it held.
    fn remove_client(&mut self, client: u32) {
        self.clear_filters_of_client(client);
        self.hungry.remove(&client);
        for whom in self.dirty.values_mut() {
            if let Whom::Only(clients) = whom {
                clients.retain(|c| *c != client);
            }
        }
        let Some(gone) = self.clients.remove(client) else {
            return;
        };
        let name = self.roles[gone.role].name.clone();
        self.frameworks[gone.framework].clients.remove(&name);
        self.roles[gone.role].clients.remove(client);
        if self.roles[gone.role].clients.is_empty() {
            self.role_order.remove(gone.role);
            self.roles.remove(gone.role);
            self.role_index.remove(&name);
        } else {
            self.update_role_activity(gone.role);
        }
    }

    /// In the order are clients that want offers.
    fn update_activity(&mut self, client: u32) {
        let Client {
            framework, role, ..
        } = self.clients[client];
        let f = &self.frameworks[framework];
        let name = &self.roles[role].name;
        let active = f.active
            && f.options.roles.contains(name)
            && !f.options.suppressed_roles.contains(name);
        self.roles[role].clients.set_active(client, active);
        if !active {
            self.hungry.remove(&client);
        }
        self.update_role_activity(role);
    }

    fn update_role_activity(&mut self, role: u32) {
        let active = self.roles[role].clients.has_active();
        self.role_order.set_active(role, active);
    }

    fn make_hungry(&mut self, client: u32) {
        if self.roles[self.clients[client].role]
            .clients
            .is_active(client)
        {
            self.hungry.insert(client);
        }
    }

    /// Sets what a client holds on a follower and all that follows from it.
    pub(crate) fn replace_held(&mut self, slot: u32, client: u32, new: Resources) {
        let follower = &mut self.followers[slot];
        let old = follower.held.remove(&client).unwrap_or_default();
        let (old_quantities, new_quantities) = (old.quantities(), new.quantities());
        let rest = (follower.available.clone() + &old.non_shared()).checked_sub(&new.non_shared());
        if !new.is_empty() {
            follower.held.insert(client, new.clone());
            if old.is_empty() {
                self.ask_holder(slot, client);
            }
        }
        let follower = &mut self.followers[slot];
        match rest {
            Some(rest) if !follower.overcommitted => follower.available = rest,
            _ => follower.settle(),
        }
        let c = &mut self.clients[client];
        if new.is_empty() {
            c.held_on.remove(&slot);
        } else {
            c.held_on.insert(slot);
        }
        let role = c.role;
        self.roles[role].clients.change_allocation(
            client,
            &old_quantities,
            &new_quantities,
            &self.totals,
        );
        self.role_order
            .change_allocation(role, &old_quantities, &new_quantities, &self.totals);
        self.update_free(slot);
    }

    /// Something came free on a follower.
    pub(crate) fn freed(&mut self, slot: u32) {
        self.update_free(slot);
        if self.free.contains(&slot) {
            self.dirty.insert(slot, Whom::All);
        }
    }

    /// A client may now take what it could not on a follower.
    pub(crate) fn look_again(&mut self, slot: u32, client: u32) {
        if self.free.contains(&slot) {
            self.dirty
                .entry(slot)
                .or_insert_with(|| Whom::Only(smallvec![]))
                .add(client);
        }
    }

    fn update_free(&mut self, slot: u32) {
        let follower = &self.followers[slot];
        if follower.active && follower.has_something() {
            self.free.insert(slot);
        } else {
            self.free.remove(&slot);
        }
    }
}
