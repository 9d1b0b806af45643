//! What can be changed in a trial: what operators, frameworks and machines can do to a cluster.

use super::Trial;
use crate::{
    constraints::Traits,
    options::{Conversion, FollowerInfo, FrameworkOptions, OfferedResources},
};
use std::{collections::BTreeSet, fmt, sync::Arc, time::Duration};
use tepui_model::{FollowerId, FrameworkId, Quantities, Quota, Resources};
use thiserror::Error;

/// How long who gives back an offer does not want it in a trial: as good as for ever.
const NOT_AGAIN: Duration = Duration::from_secs(3600);

/// What a framework may be able to take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Capability {
    /// GPU_RESOURCES.
    GpuResources,
    /// REGION_AWARE.
    RegionAware,
    /// REVOCABLE_RESOURCES.
    RevocableResources,
    /// SHARED_RESOURCES.
    SharedResources,
    /// RESERVATION_REFINEMENT.
    ReservationRefinement,
}

impl Capability {
    /// Its name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::GpuResources => "GPU_RESOURCES",
            Self::RegionAware => "REGION_AWARE",
            Self::RevocableResources => "REVOCABLE_RESOURCES",
            Self::SharedResources => "SHARED_RESOURCES",
            Self::ReservationRefinement => "RESERVATION_REFINEMENT",
        }
    }
}

/// One thing that could be otherwise.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// More followers.
    AddFollowers {
        /// How many.
        count: u32,
        /// What each has.
        total: Resources,
        /// What constraints see of them.
        traits: Arc<Traits>,
    },
    /// A follower less, and what ran there.
    RemoveFollower(FollowerId),
    /// A follower is offered again.
    ActivateFollower(FollowerId),
    /// A host joins the allow-list.
    AllowHost(Arc<str>),
    /// A role's quota; the default is none.
    SetQuota {
        /// Whose.
        role: Arc<str>,
        /// What.
        quota: Quota,
    },
    /// A role's weight.
    SetWeight {
        /// Whose.
        role: Arc<str>,
        /// Above zero.
        weight: f64,
    },
    /// A reservation is given up.
    Unreserve {
        /// Where.
        follower: FollowerId,
        /// What, as it is reserved.
        resources: Resources,
    },
    /// A framework wants offers again, and forgets what it refused.
    Revive {
        /// Who.
        framework: FrameworkId,
        /// In which role.
        role: Arc<str>,
    },
    /// A framework is connected and takes offers again.
    ActivateFramework(FrameworkId),
    /// A framework subscribes to one more role.
    Subscribe {
        /// Who.
        framework: FrameworkId,
        /// To what.
        role: Arc<str>,
    },
    /// A framework can take more.
    AddCapability {
        /// Who.
        framework: FrameworkId,
        /// What.
        capability: Capability,
    },
    /// A framework wants offers on all followers.
    DropConstraints {
        /// Who.
        framework: FrameworkId,
        /// In which role.
        role: Arc<str>,
    },
    /// Offers are declined, or taken back.
    ReturnOffers {
        /// By whom.
        framework: FrameworkId,
        /// Of which follower; none: of all.
        follower: Option<FollowerId>,
    },
    /// Tasks end.
    Release {
        /// Whose.
        framework: FrameworkId,
        /// In which role.
        role: Arc<str>,
        /// Where.
        follower: FollowerId,
        /// What they use.
        resources: Resources,
    },
}

/// Why something cannot be changed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ChangeError {
    /// No such follower.
    #[error("There is no follower {0}")]
    UnknownFollower(FollowerId),
    /// No such framework.
    #[error("There is no framework {0}")]
    UnknownFramework(FrameworkId),
    /// A weight that is none.
    #[error("The weight {weight} of role '{role}' is not a positive number")]
    Weight {
        /// Whose.
        role: Arc<str>,
        /// As a text.
        weight: String,
    },
    /// Its resources are not what is said.
    #[error("Follower {0} does not have that, or it is in use")]
    NotThere(FollowerId),
    /// Too many at once.
    #[error("At most {MOST_FOLLOWERS} followers can be added at once")]
    TooMany,
}

/// Most followers that one change adds.
pub(super) const MOST_FOLLOWERS: u32 = 10_000;

impl Trial {
    /// Makes a change. On an error nothing has changed.
    pub fn apply(&mut self, change: &Change) -> Result<(), ChangeError> {
        match change {
            Change::AddFollowers {
                count,
                total,
                traits,
            } => {
                if *count > MOST_FOLLOWERS {
                    return Err(ChangeError::TooMany);
                }
                for _ in 0..*count {
                    let id = self.new_follower_id();
                    let info = FollowerInfo {
                        total: total.clone(),
                        capabilities: Default::default(),
                        traits: traits.clone(),
                    };
                    self.allocator.add_follower(&id, info, &[]);
                }
            }
            Change::RemoveFollower(id) => {
                self.find_follower(id)?;
                self.allocator.remove_follower(id);
                let left = |offer: &&OfferedResources| offer.follower != *id;
                self.offers = Arc::new(self.offers.iter().filter(left).cloned().collect());
            }
            Change::ActivateFollower(id) => {
                self.find_follower(id)?;
                self.allocator.activate_follower(id);
            }
            Change::AllowHost(host) => {
                if let Some(mut hosts) = self.allocator.allow_list.clone() {
                    hosts.insert(host.to_string());
                    self.allocator.set_allow_list(Some(hosts));
                }
            }
            Change::SetQuota { role, quota } => self.allocator.update_quota(role, quota.clone()),
            Change::SetWeight { role, weight } => {
                if !(weight.is_finite() && *weight > 0.0) {
                    return Err(ChangeError::Weight {
                        role: role.clone(),
                        weight: weight.to_string(),
                    });
                }
                self.allocator.update_weight(role, *weight);
            }
            Change::Unreserve {
                follower,
                resources,
            } => self.unreserve(follower, resources)?,
            Change::Revive { framework, role } => {
                self.find_framework(framework)?;
                let role = BTreeSet::from([role.clone()]);
                self.allocator.revive(framework, &role);
            }
            Change::ActivateFramework(id) => {
                self.find_framework(id)?;
                self.allocator.activate_framework(id);
            }
            Change::Subscribe { framework, role } => self.change_options(framework, |options| {
                options.roles.insert(role.clone());
            })?,
            Change::AddCapability {
                framework,
                capability,
            } => self.change_options(framework, |options| {
                let has = &mut options.capabilities;
                match capability {
                    Capability::GpuResources => has.gpu_resources = true,
                    Capability::RegionAware => has.region_aware = true,
                    Capability::RevocableResources => has.revocable_resources = true,
                    Capability::SharedResources => has.shared_resources = true,
                    Capability::ReservationRefinement => has.reservation_refinement = true,
                }
            })?,
            Change::DropConstraints { framework, role } => {
                self.change_options(framework, |options| {
                    options.offer_constraints.remove(role);
                })?;
            }
            Change::ReturnOffers {
                framework,
                follower,
            } => {
                self.find_framework(framework)?;
                self.return_offers(|offer| {
                    offer.framework == *framework
                        && follower.as_ref().is_none_or(|at| *at == offer.follower)
                });
            }
            Change::Release {
                framework,
                role,
                follower,
                resources,
            } => {
                self.find_framework(framework)?;
                self.find_follower(follower)?;
                let marked = resources.clone().allocated(role);
                self.allocator
                    .recover(framework, follower, &marked, None, self.now);
            }
        }
        Ok(())
    }

    /// Gives back the offers that are meant, to others than who had them.
    fn return_offers(&mut self, meant: impl Fn(&OfferedResources) -> bool) {
        let all = std::mem::take(&mut self.offers);
        let (back, kept): (Vec<_>, Vec<_>) = all.iter().cloned().partition(|offer| meant(offer));
        for offer in back {
            self.allocator
                .offer_answered(&offer.framework, &offer.resources);
            self.allocator.recover(
                &offer.framework,
                &offer.follower,
                &offer.resources,
                Some(NOT_AGAIN),
                self.now,
            );
        }
        self.offers = Arc::new(kept);
    }

    /// Gives back all offers, to be dealt out anew.
    pub(super) fn redeal(&mut self) {
        for offer in std::mem::take(&mut self.offers).iter() {
            self.allocator
                .offer_answered(&offer.framework, &offer.resources);
            self.allocator.recover(
                &offer.framework,
                &offer.follower,
                &offer.resources,
                None,
                self.now,
            );
        }
    }

    /// Takes the reservations off resources that nobody holds.
    fn unreserve(&mut self, id: &FollowerId, resources: &Resources) -> Result<(), ChangeError> {
        self.find_follower(id)?;
        let conversions: Vec<Conversion> = resources
            .iter()
            .map(|resource| {
                let consumed = Resources::from(resource.clone());
                let converted = consumed.to_unreserved();
                Conversion {
                    consumed,
                    converted,
                }
            })
            .collect();
        self.allocator
            .update_available(id, &conversions)
            .map_err(|_| ChangeError::NotThere(id.clone()))
    }

    fn change_options(
        &mut self,
        id: &FrameworkId,
        change: impl FnOnce(&mut FrameworkOptions),
    ) -> Result<(), ChangeError> {
        let slot = self.find_framework(id)?;
        let mut options = self.allocator.frameworks[slot].options.clone();
        change(&mut options);
        self.allocator.update_framework(id, options);
        Ok(())
    }

    fn find_framework(&self, id: &FrameworkId) -> Result<u32, ChangeError> {
        let slot = self.allocator.framework_index.get(id).copied();
        slot.ok_or_else(|| ChangeError::UnknownFramework(id.clone()))
    }

    fn find_follower(&self, id: &FollowerId) -> Result<u32, ChangeError> {
        let slot = self.allocator.follower_index.get(id).copied();
        slot.ok_or_else(|| ChangeError::UnknownFollower(id.clone()))
    }
}

/// As an imperative: what somebody would have to do.
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AddFollowers {
                count: 1, total, ..
            } => write!(f, "add a follower with {total}"),
            Self::AddFollowers { count, total, .. } => {
                write!(f, "add {count} followers with {total} each")
            }
            Self::RemoveFollower(id) => write!(f, "remove follower {id}"),
            Self::ActivateFollower(id) => {
                write!(f, "bring back follower {id} (connect or reactivate it)")
            }
            Self::AllowHost(host) => write!(f, "put host {host} on the list of --whitelist"),
            Self::SetQuota { role, quota } if quota.is_default() => {
                write!(f, "remove the quota of role '{role}'")
            }
            Self::SetQuota { role, quota } => {
                write!(f, "set the quota of role '{role}' to ")?;
                match (quota.guarantees.is_empty(), quota.limits.is_empty()) {
                    (true, _) => write!(f, "a limit of {}", quota.limits),
                    (_, true) => write!(f, "a guarantee of {}", quota.guarantees),
                    _ => write!(
                        f,
                        "a guarantee of {} and a limit of {}",
                        quota.guarantees, quota.limits
                    ),
                }
            }
            Self::SetWeight { role, weight } => {
                write!(f, "set the weight of role '{role}' to {weight}")
            }
            Self::Unreserve {
                follower,
                resources,
            } => write!(f, "unreserve {resources} on follower {follower}"),
            Self::Revive { framework, role } => {
                write!(
                    f,
                    "have framework {framework} revive offers in role '{role}'"
                )
            }
            Self::ActivateFramework(id) => write!(f, "connect framework {id}"),
            Self::Subscribe { framework, role } => {
                write!(f, "subscribe framework {framework} to role '{role}'")
            }
            Self::AddCapability {
                framework,
                capability,
            } => write!(
                f,
                "give framework {framework} the capability {}",
                capability.name()
            ),
            Self::DropConstraints { framework, role } => write!(
                f,
                "drop the offer constraints of framework {framework} in role '{role}'"
            ),
            Self::ReturnOffers {
                framework,
                follower: Some(follower),
            } => write!(
                f,
                "have framework {framework} return its offers of follower {follower}"
            ),
            Self::ReturnOffers {
                framework,
                follower: None,
            } => write!(f, "have framework {framework} return its offers"),
            Self::Release {
                framework,
                follower,
                resources,
                ..
            } => write!(
                f,
                "end tasks of framework {framework} on follower {follower} that use {resources}"
            ),
        }
    }
}

/// A quota that leaves so much more of what is wanted.
pub(super) fn raised(quota: &Quota, consumed: &Quantities, wanted: &Quantities) -> Quota {
    let mut quota = quota.clone();
    for (name, amount) in wanted.iter() {
        let needed = consumed.amount(name.as_str()) + amount;
        if quota
            .limits
            .limit(name.as_str())
            .is_some_and(|limit| limit < needed)
        {
            quota.limits.set(name, needed);
        }
    }
    quota
}
