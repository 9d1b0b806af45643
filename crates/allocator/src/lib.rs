//! Who is offered what.
//!
//! A pure core: events in, offers out. It never blocks, reads no clock and draws no random number it
//! was not handed. Semantics follow the hierarchical allocator of the reference
//! (`src/master/allocator/mesos/hierarchical.cpp`, `docs/allocation-module.md`): fair sharing over the tree of roles, then
//! over the frameworks of a role; whoever is next gets all that is free and allowed to it on a follower.
//!
//! Unlike the reference it does not go through all followers once a second. Each event notes what
//! it changed, and [`Allocator::allocate`] looks at that only:
//!
//! - resources came free on a follower: that follower, for everybody in fair order;
//! - a client (a framework in a role) can take more than before (added, revived, …): followers that
//!   have something free, for that client;
//! - a refusal expired: that follower, for that client;
//! - quota held a role back and does so less now: followers that have something free, for that role, until it is held back
//!   again (`wake`).
//!
//! Nothing else needs a look, since after every allocation nobody can take anything of what is free. The one exception: a
//! role that was woken from being held back, and for which more than 64 followers were gone through in vain, is not looked
//! at again within an allocation interval ([`Allocator::next_deadline`] says when).
//!
//! What may be offered to a client on a follower (`portion`):
//!
//! 1. reservations for its role and those above it, revocable resources and what is not a scalar, as far as its framework
//!    knows such; and unreserved scalars, for each name at most
//!    - what the limits of its role and of all above leave (limit − consumed), and
//!    - if guarantees require headroom of that name: its credit + the surplus (`quota`);
//! 2. at least its minimum, and not within what it has refused there.
//!
//! Each follower has two turns, as in the reference: first for roles that something is owed of their guarantees and that
//! can get some of it there, then for everybody.
//!
//! How it is kept cheap: the tree of roles with each level in order (`tree`, `sorter`), changed along one path per event;
//! walks from the top that stop when a follower has nothing left (`walk`); roles whose limits are reached stand apart and
//! are not met; followers with leftovers too small for anybody are not looked at; sums for quota are kept, not computed.
//!
//! Call order: feed events, then `allocate(now, …)`, then sleep until `next_deadline`. Who is asked to leave a follower
//! that will be down is in `inverse`. [`Allocator::snapshot`] is a copy that shares all that neither side has changed.

mod allocate;
mod alternatives;
mod amounts;
mod budget;
mod check;
pub mod constraints;
mod filters;
mod followers;
mod frameworks;
mod inverse;
mod options;
mod portion;
mod quota;
mod resources;
mod slots;
mod sorter;
mod state;
mod tree;
pub mod trial;
mod view;
mod wake;
mod walk;

pub use constraints::{ConstraintError, ConstraintLimits, Constraints, Traits};
pub use inverse::InverseOffer;
pub use options::{
    Conversion, FollowerCapabilities, FollowerInfo, FrameworkCapabilities, FrameworkOptions,
    OfferedResources, Options, SorterKind, UnknownSorter,
};
pub use resources::UnknownResources;
pub use view::{Headroom, RoleView};

use alternatives::Free;
use rustc_hash::FxHashMap;
use slots::Slots;
use sorter::Totals;
use state::{Client, Follower, Framework, Role, Whom};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use tepui_model::{FollowerId, FrameworkId, Quantities, Time};

/// The slot of the root of the roles.
const ROOT: u32 = 0;

/// The allocator. See the crate's documentation for the order of calls.
#[derive(Clone, Debug)]
pub struct Allocator {
    options: Options,
    frameworks: Slots<Framework>,
    framework_index: Arc<FxHashMap<FrameworkId, u32>>,
    followers: Slots<Follower>,
    follower_index: Arc<FxHashMap<FollowerId, u32>>,
    clients: Slots<Client>,
    roles: Slots<Role>,
    role_index: BTreeMap<Arc<str>, u32>,
    weights: BTreeMap<Arc<str>, f64>,
    totals: Totals,
    /// Hosts whose followers are offered; `None`: all.
    allow_list: Option<BTreeSet<String>>,
    /// Followers that have something to give.
    free: Free,
    /// Followers to look at.
    dirty: BTreeMap<u32, Whom>,
    /// Clients for which to look at all free followers.
    hungry: BTreeSet<u32>,
    /// Roles whose orders are not up to date.
    stale: BTreeSet<u32>,
    /// When refusals end: time, follower, client.
    expiries: BTreeSet<(Time, u32, u32)>,
    /// How many roles have limits.
    limited: usize,
    /// Roles with a credit.
    creditors: BTreeSet<u32>,
    /// What could serve guarantees: free, unreserved scalars that are not revocable.
    headroom: Quantities,
    /// Roles whose limits or credits leave more than before.
    loosened: BTreeSet<u32>,
    held_back: wake::HeldBack,
    /// Who is to be asked to leave followers.
    inverse: inverse::Questions,
    budgets: budget::Budgets,
}

impl Allocator {
    /// An empty cluster.
    pub fn new(options: Options) -> Self {
        let mut roles = Slots::default();
        roles.insert(Role::new(
            "".into(),
            None,
            options.role_sorter,
            options.framework_sorter,
        ));
        Self {
            totals: Totals::new(options.fair_sharing_excluded_names.clone()),
            options,
            frameworks: Slots::default(),
            framework_index: Default::default(),
            followers: Slots::default(),
            follower_index: Default::default(),
            clients: Slots::default(),
            roles,
            role_index: BTreeMap::new(),
            weights: BTreeMap::new(),
            allow_list: None,
            free: Free::default(),
            dirty: BTreeMap::new(),
            hungry: BTreeSet::new(),
            stale: BTreeSet::new(),
            expiries: BTreeSet::new(),
            limited: 0,
            creditors: BTreeSet::new(),
            headroom: Quantities::new(),
            loosened: BTreeSet::new(),
            held_back: Default::default(),
            inverse: Default::default(),
            budgets: Default::default(),
        }
    }

    /// When to call [`Self::allocate`] and [`Self::inverse_offers`] next if no event comes: at once when something has changed,
    /// else when the first refusal ends. Of the two the offers come first: who gets one is asked as well.
    pub fn next_deadline(&self, now: Time) -> Option<Time> {
        if !self.hungry.is_empty() || !self.dirty.is_empty() || self.has_loosened() {
            return Some(now);
        }
        let refusal = self.expiries.first().map(|(until, ..)| *until);
        let question = self.inverse.next().map(|at| at.max(now));
        let waiting = self.held_back.next();
        refusal.into_iter().chain(question).chain(waiting).min()
    }

    /// A copy to try things on. It costs a pointer for each follower, framework and role. Refusals hold in it until
    /// their time has come, but no more: nobody is looked at again because one ended.
    pub fn snapshot(&self) -> Self {
        Self {
            options: self.options.clone(),
            frameworks: self.frameworks.clone(),
            framework_index: self.framework_index.clone(),
            followers: self.followers.clone(),
            follower_index: self.follower_index.clone(),
            clients: self.clients.clone(),
            roles: self.roles.clone(),
            role_index: self.role_index.clone(),
            weights: self.weights.clone(),
            totals: self.totals.clone(),
            allow_list: self.allow_list.clone(),
            free: self.free.clone(),
            dirty: self.dirty.clone(),
            hungry: self.hungry.clone(),
            stale: self.stale.clone(),
            expiries: BTreeSet::new(),
            limited: self.limited,
            creditors: self.creditors.clone(),
            headroom: self.headroom.clone(),
            loosened: self.loosened.clone(),
            held_back: self.held_back.clone(),
            inverse: Default::default(),
            budgets: self.budgets.clone(),
        }
    }
}
