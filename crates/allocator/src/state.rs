//! What the allocator knows. Everything refers to everything else by slot index.

use crate::{
    alternatives::{ANY, Alternatives},
    amounts::charged,
    constraints::{Constraints, Traits},
    inverse::Maintenance,
    options::{FollowerCapabilities, FrameworkCapabilities, FrameworkOptions, SorterKind},
    sorter::Sorter,
};
use rustc_hash::FxHashMap;
use smallvec::SmallVec;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use tepui_model::{FollowerId, FrameworkId, Quantities, Quota, Resource, Resources, Time};

/// A framework.
#[derive(Clone, Debug)]
pub(crate) struct Framework {
    pub(crate) id: FrameworkId,
    pub(crate) options: FrameworkOptions,
    pub(crate) active: bool,
    /// False while only its resources on followers are known: the framework itself is yet to come
    /// back after a change of leaders.
    pub(crate) known: bool,
    /// Its clients by role: those it subscribes to and those it still holds something in.
    pub(crate) clients: BTreeMap<Arc<str>, u32>,
    /// What it holds in offers; counted only if there is a budget for that.
    pub(crate) offered: Quantities,
    /// That is all it may hold.
    pub(crate) exhausted: bool,
}

/// A framework in one of its roles: the unit that is offered resources.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(crate) framework: u32,
    pub(crate) role: u32,
    /// Of the framework.
    pub(crate) capabilities: FrameworkCapabilities,
    /// Instead of the global one.
    pub(crate) minimum: Option<Arc<[Quantities]>>,
    /// Where it wants offers.
    pub(crate) constraints: Option<Arc<Constraints>>,
    /// Followers on which it holds something.
    pub(crate) held_on: BTreeSet<u32>,
    /// Followers it has refused something of.
    pub(crate) refused_on: BTreeSet<u32>,
}

/// A role that has clients, roles below it, reservations or a quota; or the root above all roles.
#[derive(Clone, Debug)]
pub(crate) struct Role {
    pub(crate) name: Arc<str>,
    /// None for the root.
    pub(crate) parent: Option<u32>,
    /// How many roles are directly below it.
    pub(crate) children: usize,
    /// The roles directly below it, and itself: the place of its own clients among them.
    pub(crate) order: Sorter,
    /// Its own clients, by slot.
    pub(crate) clients: Sorter,
    pub(crate) quota: Quota,
    /// Reserved to it or a role below it, held or not.
    pub(crate) reserved: Quantities,
    /// What clients here and below hold of unreserved scalars that are not revocable.
    pub(crate) charged: Quantities,
    /// What has to stay free for the guarantees here and below.
    pub(crate) required: Quantities,
    /// The sum of that over the roles directly below.
    pub(crate) required_below: Quantities,
    /// What its own guarantee asks for beyond `required_below`: whoever gets that, here or below, takes it from what is kept
    /// free for them.
    pub(crate) credit: Quantities,
    /// Roles here and below with a credit.
    pub(crate) credits: u32,
    /// Its limits leave too little for any offer of unreserved scalars.
    pub(crate) closed: bool,
    /// The minimums that its limits leave room for.
    pub(crate) fits: Alternatives,
    /// Clients here and below with a minimum of their own.
    pub(crate) own_minimums: u32,
    /// Not to be woken before: the last time was in vain.
    pub(crate) next_look: Time,
}

impl Role {
    pub(crate) fn new(
        name: Arc<str>,
        parent: Option<u32>,
        roles: SorterKind,
        frameworks: SorterKind,
    ) -> Self {
        Self {
            name,
            parent,
            children: 0,
            order: Sorter::new(roles),
            clients: Sorter::new(frameworks),
            quota: Quota::default(),
            reserved: Quantities::new(),
            charged: Quantities::new(),
            required: Quantities::new(),
            required_below: Quantities::new(),
            credit: Quantities::new(),
            credits: 0,
            closed: false,
            fits: ANY,
            own_minimums: 0,
            next_look: Time::from_nanos(0),
        }
    }
    /// What counts against its quota.
    pub(crate) fn consumed(&self) -> Quantities {
        let mut consumed = self.reserved.clone();
        consumed.add_all(&self.charged);
        consumed
    }
}

/// A refusal: nothing within `resources` is offered until `until`.
#[derive(Clone, Debug)]
pub(crate) struct Filter {
    pub(crate) resources: Resources,
    pub(crate) until: Time,
}

/// What clients hold on a follower, by client. Few do, so a sorted list is enough.
#[derive(Clone, Debug, Default)]
pub(crate) struct Held(Vec<(u32, Resources)>);

impl Held {
    pub(crate) fn get(&self, client: u32) -> Option<&Resources> {
        let index = self.find(client).ok()?;
        Some(&self.0[index].1)
    }
    /// Nothing is not kept.
    pub(crate) fn set(&mut self, client: u32, resources: Resources) {
        match (self.find(client), resources.is_empty()) {
            (Ok(index), true) => drop(self.0.remove(index)),
            (Ok(index), false) => self.0[index].1 = resources,
            (Err(_), true) => {}
            (Err(index), false) => self.0.insert(index, (client, resources)),
        }
    }
    pub(crate) fn contains(&self, client: u32) -> bool {
        self.find(client).is_ok()
    }
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &Resources)> {
        self.0.iter().map(|(client, held)| (*client, held))
    }
    pub(crate) fn clients(&self) -> impl Iterator<Item = u32> {
        self.0.iter().map(|(client, _)| *client)
    }

    fn find(&self, client: u32) -> Result<usize, usize> {
        self.0.binary_search_by_key(&client, |(own, _)| *own)
    }
}

/// A follower.
#[derive(Clone, Debug)]
pub(crate) struct Follower {
    pub(crate) id: FollowerId,
    pub(crate) total: Resources,
    /// Quantities of `total`.
    pub(crate) quantities: Quantities,
    pub(crate) capabilities: FollowerCapabilities,
    pub(crate) traits: Arc<Traits>,
    pub(crate) active: bool,
    /// On the allow-list, if there is one.
    pub(crate) allowed: bool,
    pub(crate) remote: bool,
    pub(crate) has_gpus: bool,
    /// What is not shared and nobody holds.
    pub(crate) available: Resources,
    /// More is held than there is: the follower shrank, or came back with tasks on resources it no
    /// longer has.
    pub(crate) overcommitted: bool,
    /// Shared objects of `total`: held or not, they can be offered.
    pub(crate) shared: Resources,
    /// What of `total` is reserved, by role.
    pub(crate) reserved: SmallVec<[(u32, Quantities); 1]>,
    /// The minimums that what is free meets.
    pub(crate) alternatives: Alternatives,
    /// What it adds to the cluster's headroom.
    pub(crate) headroom: Quantities,
    /// What clients hold, without marks of allocation.
    pub(crate) held: Held,
    pub(crate) filters: FxHashMap<u32, SmallVec<[Filter; 1]>>,
    /// Set while it is planned to be unavailable.
    pub(crate) maintenance: Option<Maintenance>,
}

impl Follower {
    /// Recomputes what follows from `total` and `held`.
    pub(crate) fn settle(&mut self) {
        self.quantities = self.total.quantities();
        self.has_gpus = !self.total.gpus().is_zero();
        self.shared = self.total.shared();
        self.available = self.total.non_shared();
        self.overcommitted = false;
        for (_, held) in self.held.iter() {
            let held = held.non_shared();
            self.overcommitted |= !self.available.contains(&held);
            self.available = self.available.saturating_sub(&held);
        }
    }
    /// Whether anything of it may be offered at all.
    pub(crate) fn is_offered(&self) -> bool {
        self.active && self.allowed
    }
    pub(crate) fn has_something(&self) -> bool {
        !self.available.is_empty() || !self.shared.is_empty()
    }
    /// What could serve guarantees.
    pub(crate) fn to_headroom(&self) -> Quantities {
        if self.is_offered() {
            charged(&self.available)
        } else {
            Quantities::new()
        }
    }
    pub(crate) fn is_filtered(&self, client: u32, resources: &Resources, now: Time) -> bool {
        // The map is empty on most followers.
        !self.filters.is_empty()
            && self.filters.get(&client).is_some_and(|filters| {
                filters
                    .iter()
                    .any(|filter| filter.until > now && filter.resources.contains(resources))
            })
    }
}

/// Whom to consider for what is free on a follower.
#[derive(Clone, Debug)]
pub(crate) enum Whom {
    /// Everybody: something was freed.
    All,
    /// These only: they can take what they could not before.
    Only(SmallVec<[u32; 2]>),
}

impl Whom {
    pub(crate) fn add(&mut self, client: u32) {
        if let Self::Only(clients) = self
            && !clients.contains(&client)
        {
            clients.push(client);
        }
    }
}

/// Whether a framework without RESERVATION_REFINEMENT cannot be told of it.
pub(crate) fn is_refined(resource: &Resource) -> bool {
    resource.reservations().len() > 1
}
