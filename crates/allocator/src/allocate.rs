//! Making offers.

use crate::{
    Allocator,
    options::{FrameworkCapabilities, OfferedResources},
    sorter::Key,
    state::{Whom, is_refined},
};
use std::collections::{BTreeMap, BTreeSet};
use tepui_model::{Resource, Resources, Rng, Time};

/// With more candidates than this it is cheaper to go through everybody in order, since that ends
/// when the follower has nothing left.
const FEW: usize = 16;

/// What is free on a follower for the clients of a role with the same abilities; kept from one
/// client to the next, since most get the same answer.
struct Portion {
    role: u32,
    capabilities: FrameworkCapabilities,
    resources: Resources,
}

/// One follower's turn.
struct Turn {
    slot: u32,
    now: Time,
    /// A shared object goes to one framework at a time, though it could go to all.
    offered_shared: Resources,
    portion: Option<Portion>,
}

impl Allocator {
    /// Offers what can be offered, as far as something has changed since the last call. The random
    /// order of followers spreads load (as in the reference); everything else is deterministic.
    pub fn allocate(&mut self, now: Time, rng: &mut Rng, out: &mut Vec<OfferedResources>) {
        self.expire_filters(now);
        if self.hungry.is_empty() && self.dirty.is_empty() {
            return;
        }
        self.totals.settle();
        self.role_order.refresh(&self.totals);
        let hungry = std::mem::take(&mut self.hungry);
        let mut work = self.take_work(&hungry);
        shuffle(&mut work, rng);
        for (slot, whom) in work {
            let mut turn = Turn {
                slot,
                now,
                offered_shared: Resources::new(),
                portion: None,
            };
            match whom {
                Whom::Only(clients) if clients.len() + hungry.len() <= FEW => {
                    let candidates = hungry.iter().chain(&clients).copied().collect();
                    self.offer_among(&mut turn, candidates, out);
                }
                _ => self.offer_to_all(&mut turn, out),
            }
        }
    }

    fn take_work(&mut self, hungry: &BTreeSet<u32>) -> Vec<(u32, Whom)> {
        let mut dirty: BTreeMap<u32, Whom> = std::mem::take(&mut self.dirty);
        if hungry.is_empty() {
            dirty.retain(|slot, _| self.free.contains(slot));
            return dirty.into_iter().collect();
        }
        let nobody_else = || Whom::Only(Default::default());
        self.free
            .iter()
            .map(|slot| (*slot, dirty.remove(slot).unwrap_or_else(nobody_else)))
            .collect()
    }

    /// Everybody, in fair order. An offer moves its receiver back, so the walk goes by place: it
    /// meets everyone, and someone twice only after getting something.
    fn offer_to_all(&mut self, turn: &mut Turn, out: &mut Vec<OfferedResources>) {
        if self.nothing_allocatable(turn.slot) {
            return;
        }
        let mut role_place: Option<Key> = None;
        while let Some(role_key) = self.role_order.next_after(role_place.as_ref()).cloned() {
            let role = role_key.member;
            role_place = Some(role_key);
            self.roles[role].clients.refresh(&self.totals);
            let mut place: Option<Key> = None;
            while let Some(key) = self.roles[role].clients.next_after(place.as_ref()).cloned() {
                let client = key.member;
                place = Some(key);
                if !self.offer_to(turn, client, out) {
                    break;
                }
            }
            if !self.followers[turn.slot].has_something() {
                return;
            }
        }
    }

    /// A few, in fair order.
    fn offer_among(
        &mut self,
        turn: &mut Turn,
        candidates: BTreeSet<u32>,
        out: &mut Vec<OfferedResources>,
    ) {
        if self.nothing_allocatable(turn.slot) {
            return;
        }
        let mut ordered: Vec<(Key, Key)> = Vec::with_capacity(candidates.len());
        for client in candidates {
            let Some(role) = self.clients.get(client).map(|c| c.role) else {
                continue;
            };
            self.roles[role].clients.refresh(&self.totals);
            if let (Some(role_key), Some(key)) = (
                self.role_order.key(role),
                self.roles[role].clients.key(client),
            ) {
                ordered.push((role_key.clone(), key.clone()));
            }
        }
        ordered.sort_unstable();
        for (_, key) in ordered {
            self.offer_to(turn, key.member, out);
        }
    }

    /// Offers a client all it may have on the follower. `false` when there is nothing left for its
    /// role.
    fn offer_to(&mut self, turn: &mut Turn, client: u32, out: &mut Vec<OfferedResources>) -> bool {
        let c = &self.clients[client];
        let (framework, role) = (&self.frameworks[c.framework], &self.roles[c.role]);
        let follower = &self.followers[turn.slot];
        let capabilities = framework.options.capabilities;
        let portion = match &turn.portion {
            Some(portion) if portion.role == c.role && portion.capabilities == capabilities => {
                portion
            }
            _ => {
                let for_role = (&follower.available + &follower.shared)
                    .saturating_sub(&turn.offered_shared)
                    .filter(|resource| resource.is_allocatable_to(&role.name));
                if for_role.is_empty() {
                    return false;
                }
                let resources = for_role.filter(|resource| can_take(capabilities, resource));
                turn.portion.insert(Portion {
                    role: c.role,
                    capabilities,
                    resources,
                })
            }
        };
        let excluded =
            (self.options.filter_gpu_resources && follower.has_gpus && !capabilities.gpu_resources)
                || (follower.remote && !capabilities.region_aware)
                || (capabilities.multi_role && !follower.capabilities.multi_role)
                || (!follower.capabilities.hierarchical_role && role.name.contains('/'));
        let minimum = framework
            .options
            .min_allocatable_resources
            .get(&role.name)
            .unwrap_or(&self.options.min_allocatable_resources);
        let enough = minimum.is_empty()
            || minimum
                .iter()
                .any(|least| portion.resources.contains_quantities(least));
        if excluded
            || portion.resources.is_empty()
            || !enough
            || follower.is_filtered(client, &portion.resources, turn.now)
        {
            return true;
        }
        let resources = portion.resources.clone();
        out.push(OfferedResources {
            framework: framework.id.clone(),
            role: role.name.clone(),
            follower: follower.id.clone(),
            resources: resources.clone().allocated(&role.name),
        });
        let (role, held) = (
            c.role,
            follower.held.get(&client).cloned().unwrap_or_default(),
        );
        turn.offered_shared += &resources.shared();
        turn.portion = None;
        self.replace_held(turn.slot, client, held + &resources);
        self.roles[role].clients.choose(client);
        self.role_order.choose(role);
        true
    }

    /// What is free on the follower is too little for any framework without its own minimum, and
    /// there is no other: the common case of leftover crumbs.
    fn nothing_allocatable(&self, slot: u32) -> bool {
        let follower = &self.followers[slot];
        let least = &self.options.min_allocatable_resources;
        follower.shared.is_empty()
            && !least.is_empty()
            && self.own_minimums == 0
            && !least
                .iter()
                .any(|least| follower.available.contains_quantities(least))
    }
}

fn can_take(capabilities: FrameworkCapabilities, resource: &Resource) -> bool {
    (capabilities.shared_resources || !resource.is_shared())
        && (capabilities.revocable_resources || !resource.is_revocable())
        && (capabilities.reservation_refinement || !is_refined(resource))
}

fn shuffle<T>(items: &mut [T], rng: &mut Rng) {
    for i in (1..items.len()).rev() {
        items.swap(i, rng.below(i as u64 + 1) as usize);
    }
}
