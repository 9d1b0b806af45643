//! What would make an offer come: each suggestion has been tried.

use super::{
    Trial,
    causes::{Kind, Kinds, Profile},
    changes::{Capability, Change, raised},
    plain,
};
use crate::{
    amounts::is_charged,
    options::{FrameworkOptions, OfferedResources},
    portion::can_take,
    state::{Follower, is_refined},
};
use std::{collections::BTreeSet, sync::Arc};
use tepui_model::{FrameworkId, Quantities, Resource, Resources, Scalar};

/// Most that are tried, and most that are given.
const TRIES: usize = 12;
const SUGGESTIONS: usize = 3;
/// What a new follower costs, beside the kinds of causes.
const NEW_FOLLOWER: u32 = 11;

/// What to do for an offer to come.
#[derive(Clone, Debug, PartialEq)]
pub struct Suggestion {
    /// All of it is needed.
    pub changes: Vec<Change>,
    /// It was tried on a copy of the cluster, and the offer came at once. Otherwise somebody else comes first in fair
    /// order.
    pub verified: bool,
}

/// Followers with the same causes, by one of them.
pub(super) struct Candidate {
    pub(super) causes: Kinds,
    pub(super) slot: u32,
    pub(super) demand: Quantities,
}

/// What to try, and what it costs.
struct Plan {
    cost: u32,
    changes: Vec<Change>,
    demand: Quantities,
}

impl Trial {
    /// The easiest changes after which the offer comes.
    pub(super) fn suggest(
        &self,
        profile: &Profile<'_>,
        own: &[Kind],
        candidates: Vec<Candidate>,
        demand: &Quantities,
        may_add: bool,
    ) -> Vec<Suggestion> {
        let own_changes = own_changes(profile, own);
        let own_cost: u32 = own.iter().map(|kind| kind.cost()).sum();
        let mut plans: Vec<Plan> = candidates
            .into_iter()
            .filter_map(|candidate| {
                let mut changes = own_changes.clone();
                changes.extend(self.changes(profile, &candidate)?);
                Some(Plan {
                    cost: own_cost + candidate.causes.cost(),
                    changes,
                    demand: candidate.demand,
                })
            })
            .collect();
        if may_add && !demand.is_empty() {
            let mut changes = own_changes;
            changes.extend(self.raised_limits(profile, demand));
            changes.extend(new_abilities(profile, demand));
            changes.push(self.new_follower(profile, demand));
            plans.push(Plan {
                cost: own_cost + NEW_FOLLOWER,
                changes,
                demand: demand.clone(),
            });
        }
        plans.retain(|plan| !plan.changes.is_empty());
        plans.sort_by_key(|plan| plan.cost);
        let mut suggestions: Vec<Suggestion> = Vec::new();
        let mut second_best = Vec::new();
        for plan in plans.into_iter().take(TRIES) {
            if suggestions.len() == SUGGESTIONS {
                break;
            }
            let verified = self.works(profile, &plan);
            let suggestion = Suggestion {
                changes: plan.changes,
                verified,
            };
            if verified {
                suggestions.push(suggestion);
            } else {
                second_best.push(suggestion);
            }
        }
        if suggestions.is_empty() {
            second_best.truncate(1);
            return second_best;
        }
        suggestions
    }

    /// What lifts all causes on a follower; `None` if something cannot be lifted.
    fn changes(&self, profile: &Profile<'_>, candidate: &Candidate) -> Option<Vec<Change>> {
        let follower = self.allocator.followers.get(candidate.slot)?;
        let demand = &candidate.demand;
        let mut changes = Vec::new();
        for kind in candidate.causes.iter() {
            match kind {
                Kind::TooSmall | Kind::OldFollower | Kind::BelowMinimum => return None,
                Kind::LimitReached => changes.extend(self.raised_limits(profile, demand)),
                Kind::KeptForGuarantees => changes.push(self.new_follower(profile, demand)),
                Kind::Constraints => changes.push(Change::DropConstraints {
                    framework: profile.framework?.clone(),
                    role: profile.role.clone(),
                }),
                Kind::NoGpuCapability => changes.push(ability(profile, Capability::GpuResources)?),
                Kind::OtherRegion => changes.push(ability(profile, Capability::RegionAware)?),
                Kind::MissingCapability => {
                    for missing in missing(profile, &follower.total) {
                        changes.push(ability(profile, missing)?);
                    }
                }
                Kind::Inactive => changes.push(Change::ActivateFollower(follower.id.clone())),
                Kind::NotAllowed => {
                    changes.push(Change::AllowHost(follower.traits.hostname.clone()));
                }
                Kind::ReservedForOthers => {
                    changes.push(unreserve(profile, follower, demand)?);
                }
                Kind::HeldInOffers => changes.extend(self.returned(profile, follower)),
                Kind::InUse => changes.extend(self.released(profile, follower, demand)),
                Kind::Refused => changes.push(Change::Revive {
                    framework: profile.framework?.clone(),
                    role: profile.role.clone(),
                }),
                Kind::Disconnected | Kind::NotSubscribed | Kind::Suppressed | Kind::OverBudget => {}
            }
        }
        Some(changes)
    }

    /// Whether the offer comes after these changes.
    fn works(&self, profile: &Profile<'_>, plan: &Plan) -> bool {
        let mut trial = self.clone();
        let framework = match profile.framework {
            Some(id) => id.clone(),
            None => trial.somebody(profile, &plan.demand),
        };
        for change in &plan.changes {
            if trial.apply(change).is_err() {
                return false;
            }
        }
        let offers = trial.allocate();
        offers.iter().any(|offer| {
            offer.framework == framework
                && offer.role == profile.role
                && trial
                    .held_in_offers(&framework, offer)
                    .contains_quantities(&plan.demand)
        })
    }

    /// What a framework holds in offers of a follower, the new one included.
    fn held_in_offers(&self, framework: &FrameworkId, new: &OfferedResources) -> Resources {
        let same = |offer: &&OfferedResources| {
            offer.framework == *framework
                && offer.follower == new.follower
                && offer.role == new.role
        };
        let mut held = plain(&new.resources);
        for offer in self.offers.iter().filter(same) {
            held += plain(&offer.resources);
        }
        held
    }

    /// A framework like the one that is asked about.
    fn somebody(&mut self, profile: &Profile<'_>, demand: &Quantities) -> FrameworkId {
        let id = self.new_framework_id();
        let role = profile.role.clone();
        let options = FrameworkOptions {
            roles: BTreeSet::from([role.clone()]),
            capabilities: profile.capabilities,
            min_allocatable_resources: [(role, vec![demand.clone()])].into_iter().collect(),
            ..Default::default()
        };
        self.allocator.add_framework(&id, options, true);
        id
    }

    fn raised_limits(&self, profile: &Profile<'_>, wanted: &Quantities) -> Vec<Change> {
        let path = self.allocator.path(profile.slot);
        path.filter(|(_, role)| !role.quota.limits.is_empty())
            .filter_map(|(_, role)| {
                let quota = raised(&role.quota, &role.consumed(), wanted);
                (quota != role.quota).then(|| Change::SetQuota {
                    role: role.name.clone(),
                    quota,
                })
            })
            .collect()
    }

    /// A follower that serves the demand, and what guarantees lack besides.
    fn new_follower(&self, profile: &Profile<'_>, demand: &Quantities) -> Change {
        let headroom = self.allocator.headroom();
        let credit = self.allocator.credit(profile.slot);
        let mut total = Resources::new();
        for (name, amount) in demand.iter() {
            let name = name.as_str();
            let lacking = headroom.required.amount(name) - headroom.available.amount(name);
            let lacking = (lacking - credit.amount(name)).max(Scalar::ZERO);
            total.add_one(Resource::scalar(name, amount + lacking));
        }
        Change::AddFollowers {
            count: 1,
            total,
            traits: Arc::default(),
        }
    }

    /// Others give back their offers of a follower.
    fn returned(&self, profile: &Profile<'_>, follower: &Follower) -> Vec<Change> {
        let holders: BTreeSet<&FrameworkId> = self
            .offers
            .iter()
            .filter(|offer| {
                offer.follower == follower.id && Some(&offer.framework) != profile.framework
            })
            .map(|offer| &offer.framework)
            .collect();
        let back = |framework: &FrameworkId| Change::ReturnOffers {
            framework: framework.clone(),
            follower: Some(follower.id.clone()),
        };
        holders.into_iter().map(back).collect()
    }

    /// Tasks end until there is enough, the largest users first.
    fn released(
        &self,
        profile: &Profile<'_>,
        follower: &Follower,
        demand: &Quantities,
    ) -> Vec<Change> {
        let offered = self.offered();
        let offers = offered.get(&follower.id).cloned().unwrap_or_default();
        let mut free = (&follower.available + &follower.shared).quantities();
        for offer in &offers {
            free.add_all(&offer.resources.quantities());
        }
        let mut users = self.used(follower, &offers);
        let useful = |resources: &Resources| -> Scalar {
            let counts = |r: &&Resource| {
                can_take(profile.capabilities, r) && r.is_allocatable_to(&profile.role)
            };
            let scalars = resources.iter().filter(counts);
            scalars.filter_map(Resource::as_scalar).sum()
        };
        users.sort_by_key(|user| std::cmp::Reverse(useful(&user.resources)));
        let mut changes = Vec::new();
        for user in users {
            if free.contains(demand) {
                break;
            }
            free.add_all(&user.resources.quantities());
            changes.push(Change::Release {
                framework: user.framework,
                role: user.role,
                follower: follower.id.clone(),
                resources: user.resources,
            });
        }
        changes
    }
}

/// What lifts causes that are the framework's own.
fn own_changes(profile: &Profile<'_>, own: &[Kind]) -> Vec<Change> {
    let Some(framework) = profile.framework else {
        return Vec::new();
    };
    let (framework, role) = (framework.clone(), profile.role.clone());
    own.iter()
        .filter_map(|kind| match kind {
            Kind::Disconnected => Some(Change::ActivateFramework(framework.clone())),
            Kind::NotSubscribed => Some(Change::Subscribe {
                framework: framework.clone(),
                role: role.clone(),
            }),
            Kind::Suppressed => Some(Change::Revive {
                framework: framework.clone(),
                role: role.clone(),
            }),
            Kind::OverBudget => Some(Change::ReturnOffers {
                framework: framework.clone(),
                follower: None,
            }),
            _ => None,
        })
        .collect()
}

fn ability(profile: &Profile<'_>, capability: Capability) -> Option<Change> {
    Some(Change::AddCapability {
        framework: profile.framework?.clone(),
        capability,
    })
}

/// What a framework must know to be offered GPUs, wherever they are.
fn new_abilities(profile: &Profile<'_>, demand: &Quantities) -> Option<Change> {
    let needed = !demand.amount("gpus").is_zero() && !profile.capabilities.gpu_resources;
    needed
        .then(|| ability(profile, Capability::GpuResources))
        .flatten()
}

/// What a framework must know to be offered all of this.
fn missing(profile: &Profile<'_>, total: &Resources) -> BTreeSet<Capability> {
    let has = profile.capabilities;
    let mut missing = BTreeSet::new();
    for resource in total.iter() {
        for (needed, known, capability) in [
            (
                resource.is_revocable(),
                has.revocable_resources,
                Capability::RevocableResources,
            ),
            (
                resource.is_shared(),
                has.shared_resources,
                Capability::SharedResources,
            ),
            (
                is_refined(resource),
                has.reservation_refinement,
                Capability::ReservationRefinement,
            ),
        ] {
            if needed && !known {
                missing.insert(capability);
            }
        }
    }
    missing
}

/// Gives up what others have reserved and nobody holds, as far as it is needed.
fn unreserve(profile: &Profile<'_>, follower: &Follower, demand: &Quantities) -> Option<Change> {
    let own = follower
        .available
        .filter(|r| r.is_allocatable_to(&profile.role) && (is_charged(r) || !r.is_shared()));
    let mut resources = Resources::new();
    for (name, amount) in demand.iter() {
        let has = own.scalar(name.as_str()).unwrap_or_default();
        let mut lacking = (amount - has).max(Scalar::ZERO);
        let others = follower.available.iter().filter(|r| {
            r.name() == name && !r.is_allocatable_to(&profile.role) && !r.is_persistent_volume()
        });
        for resource in others {
            if let Some(part) = resource.at_most(lacking) {
                lacking -= part.as_scalar().unwrap_or_default();
                resources.add_one(part);
            }
        }
    }
    (!resources.is_empty()).then(|| Change::Unreserve {
        follower: follower.id.clone(),
        resources,
    })
}
