//! Who is offered what.
//!
//! A pure core: events in, offers out. It never blocks, reads no clock and draws no random number it
//! was not handed. Semantics follow the hierarchical allocator of the reference
//! (`src/master/allocator/mesos/hierarchical.cpp`, `docs/allocation-module.md`): dominant resource
//! fairness over roles, then over the frameworks of a role; whoever is next gets all that is free
//! and allowed to it on a follower.
//!
//! Unlike the reference it does not go through all followers once a second. Each event notes what
//! it changed, and [`Allocator::allocate`] looks at that only:
//!
//! - resources came free on a follower: that follower, for everybody in fair order;
//! - a client (a framework in a role) can take more than before (added, revived, …): followers that
//!   have something free, for that client;
//! - a refusal expired: that follower, for that client.
//!
//! Nothing else needs a look, since after every allocation nobody can take anything of what is free.
//!
//! Call order: feed events, then `allocate(now, …)`, then sleep until `next_deadline`. Quota,
//! hierarchical shares and offer constraints are not here yet. Who is asked to leave a follower that will
//! be down is in `inverse`.

mod allocate;
mod check;
pub mod constraints;
mod events;
mod filters;
mod inverse;
mod options;
mod slots;
mod sorter;
mod state;
mod view;

pub use constraints::{ConstraintError, ConstraintLimits, Constraints, Traits};
pub use events::UnknownResources;
pub use inverse::InverseOffer;
pub use options::{
    Conversion, FollowerCapabilities, FollowerInfo, FrameworkCapabilities, FrameworkOptions,
    OfferedResources, Options, SorterKind, UnknownSorter,
};
pub use view::RoleView;

use rustc_hash::FxHashMap;
use slots::Slots;
use sorter::{Sorter, Totals};
use state::{Client, Follower, Framework, Role, Whom};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use tepui_model::{FollowerId, FrameworkId, Quota, Time};

/// The allocator. See the crate's documentation for the order of calls.
#[derive(Debug)]
pub struct Allocator {
    options: Options,
    frameworks: Slots<Framework>,
    framework_index: FxHashMap<FrameworkId, u32>,
    followers: Slots<Follower>,
    follower_index: FxHashMap<FollowerId, u32>,
    clients: Slots<Client>,
    roles: Slots<Role>,
    role_index: BTreeMap<Arc<str>, u32>,
    /// Roles in fair order; active are those with an active client.
    role_order: Sorter,
    weights: BTreeMap<Arc<str>, f64>,
    quotas: BTreeMap<Arc<str>, Quota>,
    totals: Totals,
    /// Active followers that have something to give.
    free: BTreeSet<u32>,
    /// Followers to look at.
    dirty: BTreeMap<u32, Whom>,
    /// Clients for which to look at all free followers.
    hungry: BTreeSet<u32>,
    /// When refusals end: time, follower, client.
    expiries: BTreeSet<(Time, u32, u32)>,
    /// How many frameworks set a minimum of their own.
    own_minimums: usize,
    /// Who is to be asked to leave followers.
    inverse: inverse::Questions,
}

impl Allocator {
    /// An empty cluster.
    pub fn new(options: Options) -> Self {
        Self {
            totals: Totals::new(options.fair_sharing_excluded_names.clone()),
            options,
            frameworks: Slots::default(),
            framework_index: FxHashMap::default(),
            followers: Slots::default(),
            follower_index: FxHashMap::default(),
            clients: Slots::default(),
            roles: Slots::default(),
            role_index: BTreeMap::new(),
            role_order: Sorter::default(),
            weights: BTreeMap::new(),
            quotas: BTreeMap::new(),
            free: BTreeSet::new(),
            dirty: BTreeMap::new(),
            hungry: BTreeSet::new(),
            expiries: BTreeSet::new(),
            own_minimums: 0,
            inverse: Default::default(),
        }
    }

    /// When to call [`Self::allocate`] and [`Self::inverse_offers`] next if no event comes: at once when something has changed,
    /// else when the first refusal ends. Of the two the offers come first: who gets one is asked as well.
    pub fn next_deadline(&self, now: Time) -> Option<Time> {
        if !self.hungry.is_empty() || !self.dirty.is_empty() {
            return Some(now);
        }
        let refusal = self.expiries.first().map(|(until, ..)| *until);
        let question = self.inverse.next().map(|at| at.max(now));
        refusal.into_iter().chain(question).min()
    }
}
