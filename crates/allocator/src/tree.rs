//! The tree of roles: `a/b` is below `a`, and `a` below the root.
//!
//! Each level is in fair order by itself (`sorter`); walked from the top, the levels give the order of all clients. A
//! role stands in the tree as long as it has clients, roles below it, reservations or a quota.

use crate::{
    Allocator, ROOT,
    state::{Client, Role},
};
use std::{collections::BTreeMap, ops::Bound, sync::Arc};
use tepui_model::{Quantities, Rng, roles};

impl Allocator {
    /// The role and all above it, the root last.
    pub(crate) fn path(&self, role: u32) -> impl Iterator<Item = (u32, &Role)> {
        std::iter::successors(Some((role, &self.roles[role])), |(_, role)| {
            role.parent.map(|parent| (parent, &self.roles[parent]))
        })
    }

    /// The slots of the role and all above it, the root last.
    pub(crate) fn path_slots(&self, role: u32) -> smallvec::SmallVec<[u32; 4]> {
        self.path(role).map(|(slot, _)| slot).collect()
    }

    /// The slot of a role, made with all above it if need be.
    pub(crate) fn role_slot(&mut self, name: &Arc<str>) -> u32 {
        if let Some(slot) = self.role_index.get(name) {
            return *slot;
        }
        // Not by recursion: names are others', and as long as they like.
        let missing: Vec<Arc<str>> = roles::ancestors(name)
            .take_while(|above| !self.role_index.contains_key(*above))
            .map(Arc::from)
            .collect();
        let top = missing.last().unwrap_or(name);
        let mut parent = roles::parent(top)
            .and_then(|above| self.role_index.get(above).copied())
            .unwrap_or(ROOT);
        for above in missing.iter().rev().chain([name]) {
            parent = self.insert_role(above, parent);
        }
        parent
    }

    fn insert_role(&mut self, name: &Arc<str>, parent: u32) -> u32 {
        let slot = self.roles.insert(Role::new(
            name.clone(),
            Some(parent),
            self.options.role_sorter,
            self.options.framework_sorter,
        ));
        // The name under which the reference sorts a role's own clients among the roles below it.
        let own: Arc<str> = format!("{name}/.").into();
        self.roles[slot].order.insert(slot, own, 1.0);
        let weight = self.weights.get(name).copied().unwrap_or(1.0);
        let above = &mut self.roles[parent];
        above.order.insert(slot, name.clone(), weight);
        above.children += 1;
        self.role_index.insert(name.clone(), slot);
        slot
    }

    /// Takes a role out of the tree if nothing needs it any more, and those above it alike.
    pub(crate) fn prune(&mut self, role: u32) {
        let mut slot = role;
        while let Some(role) = self.roles.get(slot)
            && let Some(parent) = role.parent
            && role.children == 0
            && role.clients.is_empty()
            && role.quota.is_default()
            && role.reserved.is_empty()
        {
            let name = role.name.clone();
            self.forget_role(slot, &name);
            self.roles.remove(slot);
            self.role_index.remove(&name);
            let above = &mut self.roles[parent];
            above.order.remove(slot);
            above.children -= 1;
            slot = parent;
        }
    }

    /// Weight of a role in fair sharing; 1 by default, must be positive.
    pub fn update_weight(&mut self, role: &Arc<str>, weight: f64) {
        if !(weight.is_finite() && weight > 0.0) {
            return;
        }
        self.weights.insert(role.clone(), weight);
        if let Some(slot) = self.role_index.get(role).copied()
            && let Some(parent) = self.roles[slot].parent
        {
            self.roles[parent].order.set_weight(slot, weight);
            self.stale.insert(parent);
        }
    }

    /// In the order are clients that want offers.
    pub(crate) fn update_activity(&mut self, client: u32) {
        let Client {
            framework, role, ..
        } = self.clients[client];
        let f = &self.frameworks[framework];
        let name = &self.roles[role].name;
        let active = f.active
            && !f.exhausted
            && f.options.roles.contains(name)
            && !f.options.suppressed_roles.contains(name);
        if self.roles[role].clients.is_active(client) != active {
            self.roles[role].clients.set_active(client, active);
            self.stale.insert(role);
        }
        if !active {
            self.hungry.remove(&client);
        }
        self.update_role_activity(role);
    }

    /// A level is in the order above it if anybody in it is active.
    pub(crate) fn update_role_activity(&mut self, role: u32) {
        let mut active = self.roles[role].clients.has_active();
        let (mut slot, mut member) = (role, role);
        loop {
            if self.roles[slot].order.is_active(member) == active {
                return;
            }
            self.roles[slot].order.set_active(member, active);
            self.stale.insert(slot);
            let Some(parent) = self.roles[slot].parent else {
                return;
            };
            active = self.roles[slot].order.has_active();
            (member, slot) = (slot, parent);
        }
    }

    /// A part of what a client holds is replaced: its place changes, and those of all levels above it.
    pub(crate) fn account(&mut self, client: u32, old: &Quantities, new: &Quantities) {
        if old == new {
            return;
        }
        let role = self.clients[client].role;
        self.roles[role].clients.change_allocation(client, old, new);
        let mut member = role;
        for slot in self.path_slots(role) {
            self.roles[slot].order.change_allocation(member, old, new);
            self.stale.insert(slot);
            member = slot;
        }
    }

    /// A client has been chosen, and with it all levels above it.
    pub(crate) fn choose(&mut self, client: u32, rng: &mut Rng) {
        let role = self.clients[client].role;
        self.roles[role].clients.choose(client);
        let mut member = role;
        for slot in self.path_slots(role) {
            self.roles[slot].order.choose(member);
            member = slot;
        }
        self.refresh_orders(rng);
    }

    /// Brings the orders up to date that have changed.
    pub(crate) fn refresh_orders(&mut self, rng: &mut Rng) {
        for role in std::mem::take(&mut self.stale) {
            if let Some(role) = self.roles.get_mut(role) {
                role.order.refresh(&self.totals, rng);
                role.clients.refresh(&self.totals, rng);
            }
        }
    }

    /// All orders, after the totals have drifted.
    pub(crate) fn refresh_all_orders(&mut self, rng: &mut Rng) {
        self.stale = self.roles.indexes().into_iter().collect();
        self.refresh_orders(rng);
    }
}

/// The entries for a role and those below it, of a map by the names of roles.
pub(crate) fn subtree<'a, T>(
    map: &'a BTreeMap<Arc<str>, T>,
    role: &str,
) -> impl Iterator<Item = (&'a Arc<str>, &'a T)> {
    let own = map.get_key_value(role);
    let below: String = format!("{role}/");
    // '0' follows '/'.
    let after: String = format!("{role}0");
    let below = map.range::<str, _>((
        Bound::Included(below.as_str()),
        Bound::Excluded(after.as_str()),
    ));
    own.into_iter().chain(below)
}
