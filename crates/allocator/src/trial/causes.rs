//! Why a follower does not serve a demand: each cause that would have to go, not only the first.

use super::{Trial, plain};
use crate::{
    Constraints, OfferedResources,
    amounts::{Cap, is_charged, less},
    options::FrameworkCapabilities,
    portion::can_take,
    state::Follower,
};
use std::{collections::BTreeMap, sync::Arc};
use tepui_model::{FrameworkId, Quantities, Resource, Resources, Scalar, Time, resources::Name};

/// What keeps a demand from being offered: on a follower, or (the first four) everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The framework is not connected, or its failover is awaited.
    Disconnected,
    /// It is not subscribed to the role.
    NotSubscribed,
    /// It suppressed offers in the role.
    Suppressed,
    /// It holds as much in offers as it may.
    OverBudget,
    /// A quota's limit leaves too little.
    LimitReached,
    /// What is free is kept for others' guarantees.
    KeptForGuarantees,
    /// It does not have so much.
    TooSmall,
    /// Its offer constraints exclude it.
    Constraints,
    /// It has GPUs, or GPUs are wanted, and the framework does not know GPUs.
    NoGpuCapability,
    /// It is in another region, and the framework knows no regions.
    OtherRegion,
    /// The framework has several roles, or a role below another, which it is too old for.
    OldFollower,
    /// Some of it is revocable, shared or reserved in several steps, and the framework does not know that.
    MissingCapability,
    /// It is disconnected, deactivated or drained.
    Inactive,
    /// Its host is not on the allow-list.
    NotAllowed,
    /// Some of it is reserved for other roles.
    ReservedForOthers,
    /// Others hold it in offers.
    HeldInOffers,
    /// Tasks use it.
    InUse,
    /// What could be offered is less than the least that is offered at all.
    BelowMinimum,
    /// The framework has refused it.
    Refused,
}

impl Kind {
    /// All of them, in the order of reports.
    pub const ALL: [Self; 19] = [
        Self::Disconnected,
        Self::NotSubscribed,
        Self::Suppressed,
        Self::OverBudget,
        Self::LimitReached,
        Self::KeptForGuarantees,
        Self::TooSmall,
        Self::Constraints,
        Self::NoGpuCapability,
        Self::OtherRegion,
        Self::OldFollower,
        Self::MissingCapability,
        Self::Inactive,
        Self::NotAllowed,
        Self::ReservedForOthers,
        Self::HeldInOffers,
        Self::InUse,
        Self::BelowMinimum,
        Self::Refused,
    ];

    /// Its name in documents and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Disconnected => "disconnected",
            Self::NotSubscribed => "not_subscribed",
            Self::Suppressed => "suppressed",
            Self::OverBudget => "offers_budget",
            Self::LimitReached => "quota_limit",
            Self::KeptForGuarantees => "quota_headroom",
            Self::TooSmall => "too_small",
            Self::Constraints => "constraints",
            Self::NoGpuCapability => "no_gpu_capability",
            Self::OtherRegion => "other_region",
            Self::OldFollower => "old_follower",
            Self::MissingCapability => "missing_capability",
            Self::Inactive => "inactive",
            Self::NotAllowed => "not_allowed",
            Self::ReservedForOthers => "reserved_for_others",
            Self::HeldInOffers => "held_in_offers",
            Self::InUse => "in_use",
            Self::BelowMinimum => "below_minimum",
            Self::Refused => "refused",
        }
    }

    /// How much it takes to be rid of it: what is suggested first costs least.
    pub(super) fn cost(self) -> u32 {
        match self {
            Self::Suppressed | Self::Refused => 1,
            Self::HeldInOffers | Self::OverBudget => 2,
            Self::NotSubscribed | Self::Disconnected => 3,
            Self::Constraints => 4,
            Self::NoGpuCapability | Self::OtherRegion | Self::MissingCapability => 5,
            Self::Inactive | Self::NotAllowed => 6,
            Self::LimitReached => 7,
            Self::KeptForGuarantees => 8,
            Self::ReservedForOthers => 9,
            Self::InUse => 12,
            // Nothing that is done to this follower helps.
            Self::BelowMinimum | Self::OldFollower | Self::TooSmall => 1000,
        }
    }

    fn bit(self) -> u32 {
        1 << self as u32
    }
}

/// Several kinds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Kinds(u32);

impl Kinds {
    pub(super) fn add(&mut self, kind: Kind) {
        self.0 |= kind.bit();
    }
    pub(super) fn has(self, kind: Kind) -> bool {
        self.0 & kind.bit() != 0
    }
    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }
    pub(super) fn iter(self) -> impl Iterator<Item = Kind> {
        Kind::ALL.into_iter().filter(move |kind| self.has(*kind))
    }
    pub(super) fn cost(self) -> u32 {
        self.iter().map(Kind::cost).sum()
    }
    /// Whether there are none but these.
    pub(super) fn only(self, kinds: &[Kind]) -> bool {
        self.iter().all(|kind| kinds.contains(&kind))
    }
}

/// Who holds something.
#[derive(Clone, Debug, PartialEq)]
pub struct Holding {
    /// Who.
    pub framework: FrameworkId,
    /// In which role.
    pub role: Arc<str>,
    /// What, allocated to nobody.
    pub resources: Resources,
}

/// One cause, with what it takes to understand it.
#[derive(Clone, Debug, PartialEq)]
pub enum Cause {
    /// Of a kind that says all.
    Plain(Kind),
    /// [`Kind::LimitReached`].
    LimitReached {
        /// Whose limit: the role's, or one's above it.
        role: Arc<str>,
        /// Of which resource.
        name: Name,
        /// The limit.
        limit: Scalar,
        /// What counts against it.
        consumed: Scalar,
        /// How much more is wanted.
        wanted: Scalar,
    },
    /// [`Kind::KeptForGuarantees`].
    KeptForGuarantees {
        /// Of which resource.
        name: Name,
        /// What is free of it in the cluster.
        available: Scalar,
        /// What guarantees lack.
        required: Scalar,
        /// How much is wanted.
        wanted: Scalar,
    },
    /// [`Kind::ReservedForOthers`]: what, by role.
    ReservedForOthers(BTreeMap<Arc<str>, Quantities>),
    /// [`Kind::HeldInOffers`].
    HeldInOffers(Vec<Holding>),
    /// [`Kind::InUse`].
    InUse(Vec<Holding>),
    /// [`Kind::Refused`]: until when.
    Refused(Time),
    /// [`Kind::TooSmall`]: what it has.
    TooSmall(Quantities),
}

impl Cause {
    /// Of which kind it is.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Plain(kind) => *kind,
            Self::LimitReached { .. } => Kind::LimitReached,
            Self::KeptForGuarantees { .. } => Kind::KeptForGuarantees,
            Self::ReservedForOthers(_) => Kind::ReservedForOthers,
            Self::HeldInOffers(_) => Kind::HeldInOffers,
            Self::InUse(_) => Kind::InUse,
            Self::Refused(_) => Kind::Refused,
            Self::TooSmall(_) => Kind::TooSmall,
        }
    }
}

/// Who asks: a framework in a role, or whoever might.
#[derive(Debug)]
pub(super) struct Profile<'a> {
    pub(super) framework: Option<&'a FrameworkId>,
    pub(super) client: Option<u32>,
    pub(super) role: Arc<str>,
    /// The role, or the nearest above it that is in the tree.
    pub(super) slot: u32,
    pub(super) capabilities: FrameworkCapabilities,
    pub(super) minimum: &'a [Quantities],
    pub(super) constraints: Option<&'a Constraints>,
    /// What quota leaves: by limits and headroom, by limits alone.
    pub(super) bounds: (Cap, Cap),
}

/// What one follower has for a demand.
#[derive(Debug, Default)]
pub(super) struct Look {
    pub(super) causes: Kinds,
    /// Who asks holds an offer of it that is enough.
    pub(super) holds: bool,
    /// Free, and nobody else's.
    pub(super) free: Resources,
    /// Until when all of it is refused.
    pub(super) refused_until: Option<Time>,
    /// How much would count against quota.
    pub(super) to_charge: Quantities,
}

impl Trial {
    /// What keeps a follower from serving a demand. `offers` are those of the follower.
    pub(super) fn look(
        &self,
        profile: &Profile<'_>,
        demand: &Quantities,
        follower: &Follower,
        offers: &[&OfferedResources],
    ) -> Look {
        let mut look = Look::default();
        let causes = &mut look.causes;
        if !follower.total.contains_quantities(demand) {
            causes.add(Kind::TooSmall);
            return look;
        }
        self.look_at_abilities(profile, demand, follower, causes);
        let can_use = can_use(profile, demand, follower, causes);
        let everything = &follower.available + &follower.shared;
        let free = everything.filter(&can_use);
        let (own, others): (Vec<&OfferedResources>, Vec<_>) = offers
            .iter()
            .partition(|offer| profile.is_own(&offer.framework, &offer.role));
        let mut reach = free.clone();
        let add = |reach: &mut Resources, offers: &[&OfferedResources]| {
            for offer in offers {
                *reach += plain(&offer.resources).filter(&can_use);
            }
        };
        if !own.is_empty() {
            add(&mut reach, &own);
            let mut held = Resources::new();
            own.iter().for_each(|offer| held += plain(&offer.resources));
            look.holds = held.contains_quantities(demand);
        }
        if !reach.contains_quantities(demand) {
            let without = reach.quantities();
            add(&mut reach, &others);
            if reach.quantities() != without {
                causes.add(Kind::HeldInOffers);
            }
            if !reach.contains_quantities(demand) {
                causes.add(Kind::InUse);
                reach = follower.total.filter(&can_use);
            }
        }
        // What is reserved for the role anyway counts already.
        let reserved = reach.filter(|r| !is_charged(r)).quantities();
        look.to_charge = less(demand, &reserved);
        if !profile.bounds.1.admits(&look.to_charge) {
            causes.add(Kind::LimitReached);
        } else if !profile.bounds.0.admits(&look.to_charge) {
            causes.add(Kind::KeptForGuarantees);
        }
        let bounded = causes.has(Kind::LimitReached) || causes.has(Kind::KeptForGuarantees);
        let portion = if bounded {
            reach
        } else {
            profile.bounds.0.clone().shrink(&reach.filter(is_charged))
                + &reach.filter(|r| !is_charged(r))
        };
        let minimum = profile.minimum;
        let enough = minimum.is_empty()
            || minimum
                .iter()
                .any(|least| portion.contains_quantities(least));
        if !enough {
            causes.add(Kind::BelowMinimum);
        }
        look.refused_until = self.refused(profile, follower, &portion);
        if look.refused_until.is_some() {
            causes.add(Kind::Refused);
        }
        look.free = free;
        look
    }

    fn look_at_abilities(
        &self,
        profile: &Profile<'_>,
        demand: &Quantities,
        follower: &Follower,
        causes: &mut Kinds,
    ) {
        let has = profile.capabilities;
        let options = &self.allocator.options;
        if !follower.active {
            causes.add(Kind::Inactive);
        }
        if !follower.allowed {
            causes.add(Kind::NotAllowed);
        }
        let gpus = follower.has_gpus || !demand.amount("gpus").is_zero();
        if options.filter_gpu_resources && gpus && !has.gpu_resources {
            causes.add(Kind::NoGpuCapability);
        }
        if follower.remote && !has.region_aware {
            causes.add(Kind::OtherRegion);
        }
        if (has.multi_role && !follower.capabilities.multi_role)
            || (!follower.capabilities.hierarchical_role && profile.role.contains('/'))
        {
            causes.add(Kind::OldFollower);
        }
        let excluded = |constraints: &Constraints| !constraints.admit(&follower.traits);
        if profile.constraints.is_some_and(excluded) {
            causes.add(Kind::Constraints);
        }
    }

    /// Until when all of a portion is refused.
    fn refused(
        &self,
        profile: &Profile<'_>,
        follower: &Follower,
        portion: &Resources,
    ) -> Option<Time> {
        let filters = follower.filters.get(&profile.client?)?;
        filters
            .iter()
            .filter(|filter| filter.until > self.now && filter.resources.contains(portion))
            .map(|filter| filter.until)
            .max()
    }

    /// The causes on a follower with all that is to be said of them.
    pub(super) fn describe(
        &self,
        profile: &Profile<'_>,
        demand: &Quantities,
        follower: &Follower,
        offers: &[&OfferedResources],
        look: &Look,
    ) -> Vec<Cause> {
        let describe = |kind: Kind| match kind {
            Kind::LimitReached => self
                .limit_reached(profile.slot, &look.to_charge)
                .unwrap_or(Cause::Plain(kind)),
            Kind::KeptForGuarantees => self
                .kept(profile, &look.to_charge)
                .unwrap_or(Cause::Plain(kind)),
            Kind::ReservedForOthers => Cause::ReservedForOthers(reserved_for_others(
                &follower.total,
                &profile.role,
                demand,
            )),
            Kind::HeldInOffers => Cause::HeldInOffers(
                offers
                    .iter()
                    .filter(|offer| !profile.is_own(&offer.framework, &offer.role))
                    .map(|offer| Holding {
                        framework: offer.framework.clone(),
                        role: offer.role.clone(),
                        resources: plain(&offer.resources),
                    })
                    .collect(),
            ),
            Kind::InUse => Cause::InUse(self.used(follower, offers)),
            Kind::Refused => look
                .refused_until
                .map_or(Cause::Plain(kind), Cause::Refused),
            Kind::TooSmall => Cause::TooSmall(follower.quantities.clone()),
            other => Cause::Plain(other),
        };
        look.causes.iter().map(describe).collect()
    }

    /// What tasks and executors use: what is held, without what is in offers.
    pub(super) fn used(&self, follower: &Follower, offers: &[&OfferedResources]) -> Vec<Holding> {
        let used = |(client, held): (u32, &Resources)| {
            let client = self.allocator.clients.get(client)?;
            let framework = &self.allocator.frameworks.get(client.framework)?.id;
            let role = &self.allocator.roles.get(client.role)?.name;
            let mut used = held.clone();
            for offer in offers {
                if offer.framework == *framework && offer.role == *role {
                    used = used.saturating_sub(&plain(&offer.resources));
                }
            }
            let holding = Holding {
                framework: framework.clone(),
                role: role.clone(),
                resources: used,
            };
            (!holding.resources.is_empty()).then_some(holding)
        };
        follower.held.iter().filter_map(used).collect()
    }

    /// The tightest limit on the way up that leaves less than is wanted.
    pub(super) fn limit_reached(&self, slot: u32, wanted: &Quantities) -> Option<Cause> {
        self.allocator.path(slot).find_map(|(_, role)| {
            let consumed = role.consumed();
            wanted.iter().find_map(|(name, wanted)| {
                let consumed = consumed.amount(name.as_str());
                let limit = role.quota.limits.limit(name.as_str())?;
                (consumed + wanted > limit).then(|| Cause::LimitReached {
                    role: role.name.clone(),
                    name: name.clone(),
                    limit,
                    consumed,
                    wanted,
                })
            })
        })
    }

    fn kept(&self, profile: &Profile<'_>, wanted: &Quantities) -> Option<Cause> {
        let headroom = self.allocator.headroom();
        let (name, wanted) = wanted.iter().find(|(name, wanted)| {
            profile
                .bounds
                .0
                .get(name)
                .is_some_and(|bound| bound < *wanted)
        })?;
        Some(Cause::KeptForGuarantees {
            name: name.clone(),
            available: headroom.available.amount(name.as_str()),
            required: headroom.required.amount(name.as_str()),
            wanted,
        })
    }
}

impl Profile<'_> {
    fn is_own(&self, framework: &FrameworkId, role: &str) -> bool {
        self.framework == Some(framework) && *self.role == *role
    }
}

/// Which resources would serve: those its role and its framework may have, or, if that is not enough, those they could have
/// once the causes noted are gone.
fn can_use<'a>(
    profile: &'a Profile<'_>,
    demand: &Quantities,
    follower: &Follower,
    causes: &mut Kinds,
) -> impl Fn(&Resource) -> bool + 'a {
    let capabilities = profile.capabilities;
    let role = profile.role.clone();
    let known = |r: &Resource| can_take(capabilities, r);
    let ours = |r: &Resource| r.is_allocatable_to(&role);
    let has = |keep: &dyn Fn(&Resource) -> bool| {
        follower
            .total
            .filter(|r| keep(r))
            .contains_quantities(demand)
    };
    let (mut any_ability, mut any_role) = (false, false);
    if !has(&|r| known(r) && ours(r)) {
        (any_ability, any_role) = match (has(&|r| ours(r)), has(&|r| known(r))) {
            (true, _) => (true, false),
            (_, true) => (false, true),
            _ => (true, true),
        };
    }
    if any_ability {
        causes.add(Kind::MissingCapability);
    }
    if any_role {
        causes.add(Kind::ReservedForOthers);
    }
    move |r| (any_ability || can_take(capabilities, r)) && (any_role || r.is_allocatable_to(&role))
}

/// What others have reserved of what is wanted.
pub(super) fn reserved_for_others(
    total: &Resources,
    role: &str,
    demand: &Quantities,
) -> BTreeMap<Arc<str>, Quantities> {
    let mut reserved: BTreeMap<Arc<str>, Quantities> = BTreeMap::new();
    for resource in total.iter().filter(|r| !r.is_allocatable_to(role)) {
        if let (Some(owner), Some(amount)) = (resource.reservation_role(), resource.as_scalar())
            && !demand.amount(resource.name().as_str()).is_zero()
        {
            let sum = reserved.entry(Arc::from(owner)).or_default();
            sum.add(resource.name(), amount);
        }
    }
    reserved
}
