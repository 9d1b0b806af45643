//! What happens to frameworks. Every event notes what it changed for the next allocation and does no more.

use crate::{
    Allocator, ROOT,
    options::FrameworkOptions,
    state::{Client, Framework, Whom},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use tepui_model::{FrameworkId, Quantities, Resources};

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
        self.forget_budget(framework);
        Arc::make_mut(&mut self.framework_index).remove(id);
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
        for role in &roles {
            let client = self.client_slot(framework, role);
            let eats_more = self.tell_client(client);
            let suppressed = &self.frameworks[framework].options.suppressed_roles;
            let revived = old.suppressed_roles.contains(role) && !suppressed.contains(role);
            if revived {
                self.clear_filters_of_client(client);
            }
            self.update_activity(client);
            if revived || eats_more || !old.roles.contains(role) {
                self.make_hungry(client);
            }
        }
    }

    /// Copies to a client what its framework's options say of it; whether that may let it take more than before.
    fn tell_client(&mut self, client: u32) -> bool {
        let c = &self.clients[client];
        let (role, framework) = (c.role, &self.frameworks[c.framework]);
        let name = &self.roles[role].name;
        let minimum = framework.options.min_allocatable_resources.get(name);
        let minimum: Option<Arc<[_]>> = minimum.map(|least| least.as_slice().into());
        let constraints = framework.options.offer_constraints.get(name).cloned();
        let capabilities = framework.options.capabilities;
        let same =
            c.capabilities == capabilities && c.minimum == minimum && c.constraints == constraints;
        if same {
            return false;
        }
        self.set_minimum(client, minimum);
        let c = &mut self.clients[client];
        c.capabilities = capabilities;
        c.constraints = constraints;
        true
    }

    fn set_minimum(&mut self, client: u32, minimum: Option<Arc<[Quantities]>>) {
        let role = self.clients[client].role;
        let old = std::mem::replace(&mut self.clients[client].minimum, minimum);
        let (had, has) = (old.is_some(), self.clients[client].minimum.is_some());
        if had == has {
            return;
        }
        for slot in self.path_slots(role) {
            let count = &mut self.roles[slot].own_minimums;
            *count = if has { *count + 1 } else { *count - 1 };
            let first_or_last = *count == u32::from(has);
            if first_or_last && !self.roles[slot].quota.limits.is_empty() {
                self.update_closed(slot);
            }
            if first_or_last && slot == ROOT {
                // What is too little for anybody is another amount now.
                for follower in self.followers.indexes() {
                    self.update_free(follower);
                }
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

/// Clients: frameworks in their roles.
impl Allocator {
    /// The framework's slot, made if need be for one that only followers know of.
    pub(crate) fn framework_slot(&mut self, id: &FrameworkId) -> u32 {
        if let Some(slot) = self.framework_index.get(id) {
            return *slot;
        }
        let slot = self.frameworks.insert(Framework {
            id: id.clone(),
            options: FrameworkOptions::default(),
            active: false,
            known: false,
            clients: BTreeMap::new(),
            offered: Quantities::new(),
            exhausted: false,
        });
        Arc::make_mut(&mut self.framework_index).insert(id.clone(), slot);
        slot
    }

    pub(crate) fn client_slot(&mut self, framework: u32, role: &Arc<str>) -> u32 {
        if let Some(client) = self.frameworks[framework].clients.get(role) {
            return *client;
        }
        let role_slot = self.role_slot(role);
        let client = self.clients.insert(Client {
            framework,
            role: role_slot,
            capabilities: Default::default(),
            minimum: None,
            constraints: None,
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

    pub(crate) fn remove_client_if_idle(&mut self, client: u32) {
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
            let id = f.id.clone();
            if !f.known && f.clients.is_empty() {
                Arc::make_mut(&mut self.framework_index).remove(&id);
                self.forget_inverse_of(framework);
                self.forget_budget(framework);
                self.frameworks.remove(framework);
            }
        }
    }

    /// Callers have freed what it held.
    pub(crate) fn remove_client(&mut self, client: u32) {
        self.clear_filters_of_client(client);
        self.hungry.remove(&client);
        for whom in self.dirty.values_mut() {
            if let Whom::Only(clients) = whom {
                clients.retain(|c| *c != client);
            }
        }
        self.set_minimum(client, None);
        let Some(gone) = self.clients.remove(client) else {
            return;
        };
        let name = self.roles[gone.role].name.clone();
        self.frameworks[gone.framework].clients.remove(&name);
        self.roles[gone.role].clients.remove(client);
        self.update_role_activity(gone.role);
        self.prune(gone.role);
    }

    pub(crate) fn make_hungry(&mut self, client: u32) {
        if self.roles[self.clients[client].role]
            .clients
            .is_active(client)
        {
            self.hungry.insert(client);
        }
    }
}
