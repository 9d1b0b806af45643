//! What the allocator is told about itself, frameworks and followers.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};
use tepui_model::{FollowerId, FrameworkId, Quantities, Resources, Scalar};

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
    /// Region of its fault domain.
    pub region: Option<Arc<str>>,
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
