//! What the allocator knows. Everything refers to everything else by slot index.

use crate::{
    inverse::Maintenance,
    options::{FollowerCapabilities, FrameworkOptions},
    sorter::Sorter,
};
use rustc_hash::FxHashMap;
use smallvec::SmallVec;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use tepui_model::{FollowerId, FrameworkId, Quantities, Resource, Resources, Time};

/// A framework.
#[derive(Debug)]
pub(crate) struct Framework {
    pub(crate) id: FrameworkId,
    pub(crate) options: FrameworkOptions,
    pub(crate) active: bool,
    /// False while only its resources on followers are known: the framework itself is yet to come
    /// back after a change of leaders.
    pub(crate) known: bool,
    /// Its clients by role: those it subscribes to and those it still holds something in.
    pub(crate) clients: BTreeMap<Arc<str>, u32>,
}

/// A framework in one of its roles: the unit that is offered resources.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) framework: u32,
    pub(crate) role: u32,
    /// Followers on which it holds something.
    pub(crate) held_on: BTreeSet<u32>,
    /// Followers it has refused something of.
    pub(crate) refused_on: BTreeSet<u32>,
}

/// A role that has clients.
#[derive(Debug)]
pub(crate) struct Role {
    pub(crate) name: Arc<str>,
    /// Its clients, by slot.
    pub(crate) clients: Sorter,
}

/// A refusal: nothing within `resources` is offered until `until`.
#[derive(Clone, Debug)]
pub(crate) struct Filter {
    pub(crate) resources: Resources,
    pub(crate) until: Time,
}

/// A follower.
#[derive(Debug)]
pub(crate) struct Follower {
    pub(crate) id: FollowerId,
    pub(crate) total: Resources,
    /// Quantities of `total`.
    pub(crate) quantities: Quantities,
    pub(crate) capabilities: FollowerCapabilities,
    pub(crate) active: bool,
    pub(crate) remote: bool,
    pub(crate) has_gpus: bool,
    /// What is not shared and nobody holds.
    pub(crate) available: Resources,
    /// More is held than there is: the follower shrank, or came back with tasks on resources it no
    /// longer has.
    pub(crate) overcommitted: bool,
    /// Shared objects of `total`: held or not, they can be offered.
    pub(crate) shared: Resources,
    /// What clients hold, without marks of allocation.
    pub(crate) held: BTreeMap<u32, Resources>,
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
        for held in self.held.values().map(Resources::non_shared) {
            self.overcommitted |= !self.available.contains(&held);
            self.available = self.available.saturating_sub(&held);
        }
    }
    pub(crate) fn has_something(&self) -> bool {
        !self.available.is_empty() || !self.shared.is_empty()
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
