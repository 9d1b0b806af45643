//! What happens to followers. Every event notes what it changed for the next allocation and does no more.

use crate::{
    Allocator,
    amounts::charged,
    constraints::Traits,
    options::FollowerInfo,
    state::{Follower, Held},
};
use std::{collections::BTreeSet, sync::Arc};
use tepui_model::{FollowerId, FrameworkId, Quantities, Resources};

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
        let allowed = self.is_allowed(&info.traits);
        let mut held = Held::default();
        for (framework, resources) in used {
            let framework = self.framework_slot(framework);
            for (role, resources) in resources.allocations() {
                let client = self.client_slot(framework, &role);
                let more = resources.unallocated();
                let all = held
                    .get(client)
                    .map_or_else(|| more.clone(), |held| held + &more);
                held.set(client, all);
            }
        }
        let mut follower = Follower {
            id: id.clone(),
            total: info.total,
            quantities: Quantities::new(),
            capabilities: info.capabilities,
            traits: info.traits,
            active: true,
            allowed,
            remote,
            has_gpus: false,
            available: Resources::new(),
            overcommitted: false,
            shared: Resources::new(),
            reserved: Default::default(),
            alternatives: 0,
            headroom: Quantities::new(),
            held,
            filters: Default::default(),
            maintenance: None,
        };
        follower.settle();
        self.totals.change(&Quantities::new(), &follower.quantities);
        let holders: Vec<(u32, Quantities, Quantities)> = follower
            .held
            .iter()
            .map(|(client, held)| (client, held.quantities(), charged(held)))
            .collect();
        let slot = self.followers.insert(follower);
        Arc::make_mut(&mut self.follower_index).insert(id.clone(), slot);
        self.update_reservations(slot);
        for (client, quantities, charged) in holders {
            self.clients[client].held_on.insert(slot);
            self.account(client, &Quantities::new(), &quantities);
            let role = self.clients[client].role;
            self.charge(role, &Quantities::new(), &charged);
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
        let allowed = self.is_allowed(&info.traits);
        let follower = &mut self.followers[slot];
        follower.capabilities = info.capabilities;
        follower.traits = info.traits;
        follower.remote = remote;
        follower.allowed = allowed;
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
        let Some(slot) = self.follower_index.get(id).copied() else {
            return;
        };
        Arc::make_mut(&mut self.follower_index).remove(id);
        self.clear_filters_of_follower(slot);
        let clients: Vec<u32> = self.followers[slot].held.clients().collect();
        for client in clients {
            self.replace_held(slot, client, Resources::new());
            self.remove_client_if_idle(client);
        }
        self.forget_inverse_on(slot);
        let reserved = std::mem::take(&mut self.followers[slot].reserved);
        self.drop_reservations(&reserved);
        self.followers[slot].active = false;
        self.update_free(slot);
        self.dirty.remove(&slot);
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

    fn is_allowed(&self, traits: &Traits) -> bool {
        let list = self.allow_list.as_ref();
        list.is_none_or(|hosts| hosts.contains(&*traits.hostname))
    }

    /// `--whitelist`: only what these hosts have is offered; `None`: what all have.
    pub fn set_allow_list(&mut self, hosts: Option<BTreeSet<String>>) {
        if self.allow_list == hosts {
            return;
        }
        self.allow_list = hosts;
        for slot in self.followers.indexes() {
            let allowed = self.is_allowed(&self.followers[slot].traits);
            if allowed != self.followers[slot].allowed {
                self.followers[slot].allowed = allowed;
                self.freed(slot);
                if !allowed {
                    self.dirty.remove(&slot);
                }
            }
        }
    }

    pub(crate) fn set_total(&mut self, slot: u32, total: Resources) {
        let follower = &mut self.followers[slot];
        let old = std::mem::take(&mut follower.quantities);
        follower.total = total;
        follower.settle();
        self.totals.change(&old, &follower.quantities);
        self.update_reservations(slot);
        self.update_free(slot);
    }
}
