//! What a client may be offered on a follower, or why nothing.
//!
//! Reservations of its role and those above, revocable resources and what is not a scalar, as far as the framework can
//! take them; and unreserved scalars within the bounds of quota.

use crate::{
    Allocator,
    alternatives::{ANY, Alternatives},
    amounts::is_charged,
    options::FrameworkCapabilities,
    state::{Client, Follower, is_refined},
    walk::FEW,
};
use smallvec::SmallVec;
use tepui_model::{Resource, Resources, Time};

/// The two passes over what is free (`__generateOffers` in `hierarchical.cpp`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Only those that come nearer to a guarantee.
    Guarantees,
    /// Everybody.
    FairShares,
}

/// What there is for the clients of a role with the same abilities; kept from one client to the next,
/// since most get the same answer.
#[derive(Debug, Default)]
struct Portion {
    /// None: of any role and abilities.
    whose: Option<(u32, FrameworkCapabilities)>,
    resources: Resources,
    /// It holds as much as the global minimum.
    enough: bool,
    /// It comes nearer to a guarantee.
    progress: bool,
}

/// One follower's turn.
#[derive(Debug)]
pub(crate) struct Turn {
    pub(crate) slot: u32,
    pub(crate) now: Time,
    pub(crate) stage: Stage,
    /// A shared object goes to one framework at a time, though it could go to all.
    pub(crate) offered_shared: Resources,
    /// What is free.
    free: Resources,
    /// There is nothing but unreserved, irrevocable, unshared resources: whoever is closed gets nothing.
    pub(crate) plain: bool,
    /// There is nothing unreserved.
    pub(crate) all_reserved: bool,
    /// The minimums that it meets.
    pub(crate) alternatives: Alternatives,
    portion: Option<Portion>,
    /// Roles that were offered less than there is: by limits, by headroom.
    pub(crate) held_back: SmallVec<[(u32, bool, bool); 4]>,
    /// Whom the walk passed in orders at random: level, whether among clients, member.
    pub(crate) passed: Vec<(u32, bool, u32)>,
}

impl Turn {
    pub(crate) fn new(slot: u32, stage: Stage, now: Time) -> Self {
        Self {
            slot,
            now,
            stage,
            offered_shared: Resources::new(),
            free: Resources::new(),
            plain: false,
            all_reserved: false,
            alternatives: ANY,
            portion: None,
            held_back: SmallVec::new(),
            passed: Vec::new(),
        }
    }
    /// Takes stock, at first and after each offer.
    pub(crate) fn take_stock(&mut self, follower: &Follower) {
        self.free = if follower.shared.is_empty() {
            follower.available.clone()
        } else {
            (&follower.available + &follower.shared).saturating_sub(&self.offered_shared)
        };
        let plain = |r: &Resource| r.is_unreserved() && !r.is_revocable() && !r.is_shared();
        self.plain = self.free.iter().all(plain);
        self.all_reserved = self.free.iter().all(|r| !r.is_unreserved());
        self.alternatives = follower.alternatives;
        self.portion = None;
    }
    /// The roles that what is free is reserved for, unless they are many.
    pub(crate) fn few_owners(&self) -> Option<SmallVec<[&str; 4]>> {
        let mut owners: SmallVec<[&str; 4]> = SmallVec::new();
        for owner in self.free.iter().filter_map(|r| r.reservation_role()) {
            if !owners.contains(&owner) {
                if owners.len() == FEW {
                    return None;
                }
                owners.push(owner);
            }
        }
        Some(owners)
    }
    pub(crate) fn is_anything_free(&self) -> bool {
        !self.free.is_empty()
    }
}

/// Why a client gets nothing on a follower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// Its framework holds as much in offers as it may.
    Exhausted,
    /// Its framework cannot use the follower, or the follower not its role.
    Incapable,
    /// Its constraints exclude the follower.
    Constraints,
    /// Nothing is left for its role, or nothing that its framework can take.
    Nothing,
    /// Less than its minimum.
    TooLittle,
    /// It brings the role no nearer to its guarantee; in the first stage only.
    NoProgress,
    /// It has refused that.
    Refused,
}

impl Allocator {
    /// All that a client may have on the follower at present.
    pub(crate) fn judge(&self, turn: &mut Turn, client: u32) -> Result<Resources, Why> {
        let c = &self.clients[client];
        let follower = &self.followers[turn.slot];
        if self.options.held_offers_share.is_some() && self.frameworks[c.framework].exhausted {
            return Err(Why::Exhausted);
        }
        if self.is_incapable(c, follower) {
            return Err(Why::Incapable);
        }
        // Where more counts than unreserved scalars, limits that are reached exclude nobody.
        let told_apart = turn.alternatives != ANY;
        if told_apart && self.alternatives_of_role(c.role) & turn.alternatives == 0 {
            return Err(Why::TooLittle);
        }
        let excluded =
            |constraints: &std::sync::Arc<crate::Constraints>| !constraints.admit(&follower.traits);
        if c.constraints.as_ref().is_some_and(excluded) {
            return Err(Why::Constraints);
        }
        let (stage, now) = (turn.stage, turn.now);
        let portion = self.portion(turn, c);
        if portion.resources.is_empty() {
            return Err(Why::Nothing);
        }
        let enough = match &c.minimum {
            None => portion.enough,
            Some(minimum) => {
                minimum.is_empty()
                    || minimum
                        .iter()
                        .any(|least| portion.resources.contains_quantities(least))
            }
        };
        if !enough {
            return Err(Why::TooLittle);
        }
        if stage == Stage::Guarantees && !portion.progress {
            return Err(Why::NoProgress);
        }
        if follower.is_filtered(client, &portion.resources, now) {
            return Err(Why::Refused);
        }
        Ok(portion.resources.clone())
    }

    /// Whatever is free there.
    pub(crate) fn is_incapable(&self, client: &Client, follower: &Follower) -> bool {
        let capabilities = client.capabilities;
        (self.options.filter_gpu_resources && follower.has_gpus && !capabilities.gpu_resources)
            || (follower.remote && !capabilities.region_aware)
            || (capabilities.multi_role && !follower.capabilities.multi_role)
            || (!follower.capabilities.hierarchical_role
                && self.roles[client.role].name.contains('/'))
    }

    fn portion<'t>(&self, turn: &'t mut Turn, client: &Client) -> &'t Portion {
        let asked = (client.role, client.capabilities);
        let known = turn
            .portion
            .as_ref()
            .is_some_and(|portion| match portion.whose {
                Some(whose) => whose == asked,
                None => self.is_unbounded(client.role),
            });
        if !known {
            turn.portion = Some(self.new_portion(turn, client));
        }
        turn.portion.get_or_insert_with(Portion::default)
    }

    fn new_portion(&self, turn: &mut Turn, client: &Client) -> Portion {
        let unbounded = self.is_unbounded(client.role);
        if unbounded && turn.plain {
            return Portion {
                whose: None,
                enough: self.is_enough(&turn.free),
                resources: turn.free.clone(),
                progress: false,
            };
        }
        let (role, capabilities) = (client.role, client.capabilities);
        let name = &self.roles[role].name;
        let mut resources = turn
            .free
            .filter(|r| can_take(capabilities, r) && r.is_allocatable_to(name));
        let mut progress = false;
        if !unbounded {
            let (bounds, limits) = self.bounds(role);
            if turn.stage == Stage::Guarantees {
                let credit = self.credit(role);
                progress = resources.iter().any(|r| {
                    is_charged(r)
                        && r.at_most(credit.amount(r.name().as_str())).is_some()
                        && bounds.get(r.name()).is_none_or(|b| r.at_most(b).is_some())
                });
            }
            if !bounds.is_empty() {
                let charged = resources.filter(is_charged);
                let within_limits = limits.shrink(&charged);
                let within = bounds.shrink(&charged);
                let by_limits = within_limits != charged;
                let by_headroom = within != within_limits;
                if by_limits || by_headroom {
                    turn.held_back.push((role, by_limits, by_headroom));
                    resources = resources.filter(|r| !is_charged(r)) + &within;
                }
            }
        }
        Portion {
            whose: Some((role, capabilities)),
            enough: self.is_enough(&resources),
            resources,
            progress,
        }
    }

    fn is_enough(&self, resources: &Resources) -> bool {
        let least = &self.options.min_allocatable_resources;
        least.is_empty()
            || least
                .iter()
                .any(|least| resources.contains_quantities(least))
    }

    /// What is free on the follower is too little for any framework without its own minimum, and
    /// there is no other: the common case of leftover crumbs.
    pub(crate) fn nothing_allocatable(&self, follower: &Follower) -> bool {
        follower.shared.is_empty()
            && self.roles[crate::ROOT].own_minimums == 0
            && !self.is_enough(&follower.available)
    }
}

pub(crate) fn can_take(capabilities: FrameworkCapabilities, resource: &Resource) -> bool {
    (capabilities.shared_resources || !resource.is_shared())
        && (capabilities.revocable_resources || !resource.is_revocable())
        && (capabilities.reservation_refinement || !is_refined(resource))
}
