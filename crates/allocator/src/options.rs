//! What the allocator is told about itself, frameworks and followers.

use crate::constraints::{ConstraintLimits, Constraints, Traits};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};
use tepui_model::{FollowerId, FrameworkId, Quantities, Resources, Scalar};
use thiserror::Error;

/// How the roles, or the frameworks of a role, are ordered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SorterKind {
    /// `drf`: the least weighted dominant share first.
    #[default]
    Drf,
    /// `random`: at random, by weight.
    Random,
}

impl std::str::FromStr for SorterKind {
    type Err = UnknownSorter;
    fn from_str(text: &str) -> Result<Self, UnknownSorter> {
        match text {
            "drf" => Ok(Self::Drf),
            "random" => Ok(Self::Random),
            _ => Err(UnknownSorter(text.to_owned())),
        }
    }
}

/// There are `drf` and `random`.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("Unsupported sorter '{0}': use 'drf' or 'random'")]
pub struct UnknownSorter(String);

/// Settings; names and defaults are those of the leader's flags (`docs/configuration/master.md`).
#[derive(Clone, Debug)]
pub struct Options {
    /// `--allocation_interval`: the least time a refusal lasts. Offers themselves do not wait for
    /// it.
    pub allocation_interval: Duration,
    /// `--min_allocatable_resources`: an offer holds at least one of these; empty: anything goes.
    pub min_allocatable_resources: Vec<Quantities>,
    /// `--filter_gpu_resources`: followers with GPUs go to frameworks that know GPUs only.
    pub filter_gpu_resources: bool,
    /// `--fair_sharing_excluded_resource_names`.
    pub fair_sharing_excluded_names: BTreeSet<String>,
    /// Region of the leader's `--domain`.
    pub region: Option<Arc<str>>,
    /// `--role_sorter`.
    pub role_sorter: SorterKind,
    /// `--framework_sorter`.
    pub framework_sorter: SorterKind,
    /// `--max_held_offers_share`: a framework whose offers come to this share of the cluster gets no more of them (`budget`).
    pub held_offers_share: Option<f64>,
    /// `--offer_constraints_re2_max_mem` and `--offer_constraints_re2_max_program_size`, for whoever compiles constraints.
    pub constraint_limits: ConstraintLimits,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            allocation_interval: Duration::from_secs(1),
            min_allocatable_resources: vec![
                [("cpus", Scalar::millis(10))].into_iter().collect(),
                [("mem", Scalar::units(32))].into_iter().collect(),
            ],
            filter_gpu_resources: true,
            fair_sharing_excluded_names: BTreeSet::new(),
            region: None,
            role_sorter: SorterKind::Drf,
            framework_sorter: SorterKind::Drf,
            held_offers_share: None,
            constraint_limits: ConstraintLimits::default(),
        }
    }
}

/// What a framework can take. Unset: it must not see such resources.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FrameworkCapabilities {
    /// REVOCABLE_RESOURCES.
    pub revocable_resources: bool,
    /// GPU_RESOURCES.
    pub gpu_resources: bool,
    /// SHARED_RESOURCES.
    pub shared_resources: bool,
    /// MULTI_ROLE.
    pub multi_role: bool,
    /// RESERVATION_REFINEMENT.
    pub reservation_refinement: bool,
    /// REGION_AWARE.
    pub region_aware: bool,
}

/// A framework's wishes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FrameworkOptions {
    /// Roles it is subscribed to.
    pub roles: BTreeSet<Arc<str>>,
    /// Those of them for which it wants no offers.
    pub suppressed_roles: BTreeSet<Arc<str>>,
    /// What it can take.
    pub capabilities: FrameworkCapabilities,
    /// `offer_filters`: instead of the global minimum, by role.
    pub min_allocatable_resources: BTreeMap<Arc<str>, Vec<Quantities>>,
    /// On which followers it wants offers, by role; no entry: on all.
    pub offer_constraints: BTreeMap<Arc<str>, Arc<Constraints>>,
}

/// What a follower can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FollowerCapabilities {
    /// MULTI_ROLE; without it frameworks of several roles get nothing here.
    pub multi_role: bool,
    /// HIERARCHICAL_ROLE; without it roles with a slash get nothing here.
    pub hierarchical_role: bool,
}

impl Default for FollowerCapabilities {
    fn default() -> Self {
        Self {
            multi_role: true,
            hierarchical_role: true,
        }
    }
}

/// A follower.
#[derive(Clone, Debug, Default)]
pub struct FollowerInfo {
    /// All it has.
    pub total: Resources,
    /// What it can do.
    pub capabilities: FollowerCapabilities,
    /// Host name, attributes and fault domain: for constraints, the allow-list and regions.
    pub traits: Arc<Traits>,
}

/// Resources that now belong to a framework until it uses or returns them.
#[derive(Clone, Debug, PartialEq)]
pub struct OfferedResources {
    /// To whom.
    pub framework: FrameworkId,
    /// In which role.
    pub role: Arc<str>,
    /// Where.
    pub follower: FollowerId,
    /// What, marked as allocated to the role.
    pub resources: Resources,
}

/// A change of allocated resources into others: RESERVE, CREATE, … `consumed` empty: another copy
/// of a shared resource.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Conversion {
    /// What goes.
    pub consumed: Resources,
    /// What comes instead.
    pub converted: Resources,
}
