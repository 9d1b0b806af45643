//! The immutable picture of the cluster that every reader gets.
//!
//! Publishing one costs what changed: the maps are persistent and share all that did not. Readers
//! hold an `Arc<View>` for as long as they like and never hold up scheduling.

use crate::metrics::{FrameworkMetrics, Metrics};
use bytes::Bytes;
use rpds::{HashTrieMapSync, QueueSync, RedBlackTreeMapSync};
use std::{collections::BTreeMap, sync::Arc};
use tepui_model::{
    ExecutorId, FollowerId, FrameworkId, OfferId, TaskId, Time, resources::Resources,
};
use tepui_protocol::{peer::Pid, v1};

/// The cluster at one moment.
#[derive(Debug, Clone)]
pub struct View {
    /// The moment.
    pub at: Time,
    /// What never changes while this leader leads.
    pub leader: Arc<LeaderFacts>,
    /// Whether it leads. One that stands by has an empty view, to answer with what it has.
    pub elected: bool,
    /// Frameworks that are subscribed, or disconnected within their failover timeout.
    pub frameworks: RedBlackTreeMapSync<FrameworkId, Arc<FrameworkView>>,
    /// Oldest first; bounded by `--max_completed_frameworks`.
    pub completed_frameworks: QueueSync<Arc<FrameworkView>>,
    /// Registered followers.
    pub followers: RedBlackTreeMapSync<FollowerId, Arc<FollowerView>>,
    /// Admitted before a leader failover, not seen again yet.
    pub recovered_followers: RedBlackTreeMapSync<FollowerId, Arc<v1::AgentInfo>>,
    /// The maintenance that is planned.
    pub schedule: Arc<v1::maintenance::Schedule>,
    /// Its machines, draining or down.
    pub machines: RedBlackTreeMapSync<crate::maintenance::Machine, Arc<v1::MachineInfo>>,
    /// Quotas by role.
    pub quotas: RedBlackTreeMapSync<String, Arc<v1::quota::QuotaConfig>>,
    /// Weights that were set, by role; others weigh 1.
    pub weights: RedBlackTreeMapSync<String, f64>,
    /// `--roles`: the only ones there are, besides `*`.
    pub only_roles: Option<Arc<std::collections::BTreeSet<String>>>,
    /// Did not answer in time; when.
    pub unreachable_followers: RedBlackTreeMapSync<FollowerId, Time>,
    /// Counters and gauges.
    pub metrics: Arc<Metrics>,
}

impl View {
    /// What a leader knows that has just begun.
    pub(crate) fn empty(leader: Arc<LeaderFacts>, at: Time) -> Self {
        Self {
            at,
            leader,
            elected: true,
            frameworks: Default::default(),
            completed_frameworks: Default::default(),
            followers: Default::default(),
            recovered_followers: Default::default(),
            schedule: Arc::default(),
            machines: Default::default(),
            quotas: Default::default(),
            weights: Default::default(),
            only_roles: None,
            unreachable_followers: Default::default(),
            metrics: Arc::default(),
        }
    }

    /// What a leader knows that stands by: itself.
    pub fn standby(leader: Arc<LeaderFacts>, at: Time) -> Self {
        Self {
            elected: false,
            ..Self::empty(leader, at)
        }
    }
}

/// What never changes while a leader leads.
#[derive(Debug, Clone)]
pub struct LeaderFacts {
    /// Id, address, version, domain, capabilities.
    pub info: v1::MasterInfo,
    /// `--cluster`.
    pub cluster: Option<String>,
    /// Process start.
    pub started: Time,
    /// When it was elected.
    pub elected: Time,
    /// Flags in force by name, secrets already masked.
    pub flags: std::collections::BTreeMap<String, String>,
}

/// An offer that is out.
#[derive(Debug, Clone)]
pub struct OfferOut {
    /// As it was made; its framework may have seen less of it.
    pub offer: v1::Offer,
    /// When.
    pub since: Time,
}

impl std::ops::Deref for OfferOut {
    type Target = v1::Offer;
    fn deref(&self) -> &v1::Offer {
        &self.offer
    }
}

/// One framework.
#[derive(Debug, Clone)]
pub struct FrameworkView {
    /// As it subscribed, with its id.
    pub info: Arc<v1::FrameworkInfo>,
    /// Its id.
    pub id: FrameworkId,
    /// v0 drivers have one; v1 schedulers do not.
    pub pid: Option<Pid>,
    /// Known only from followers that re-registered after a failover.
    pub recovered: bool,
    /// Has a stream (or link).
    pub connected: bool,
    /// Gets offers.
    pub active: bool,
    /// First subscription.
    pub registered: Time,
    /// Last subscription, when there was more than one.
    pub reregistered: Option<Time>,
    /// When it was completed.
    pub unregistered: Option<Time>,
    /// Tasks that are not terminal or whose terminal update is unacknowledged.
    pub tasks: RedBlackTreeMapSync<TaskId, Arc<v1::Task>>,
    /// Tasks on unreachable followers.
    pub unreachable_tasks: RedBlackTreeMapSync<TaskId, Arc<v1::Task>>,
    /// Oldest first; bounded by `--max_completed_tasks_per_framework`.
    pub completed_tasks: QueueSync<Arc<v1::Task>>,
    /// Offers it holds.
    pub offers: RedBlackTreeMapSync<OfferId, Arc<OfferOut>>,
    /// Inverse offers it has not answered.
    pub inverse_offers: RedBlackTreeMapSync<OfferId, Arc<v1::InverseOffer>>,
    /// Executors by follower.
    pub executors: HashTrieMapSync<(FollowerId, ExecutorId), Arc<v1::ExecutorInfo>>,
    /// Resources its tasks and executors use.
    pub used: Arc<Vec<v1::Resource>>,
    /// Resources it holds in offers.
    pub offered: Arc<Vec<v1::Resource>>,
    /// Roles it suppressed.
    pub suppressed_roles: Arc<Vec<String>>,
    /// On which followers it wants offers, by role.
    pub constraints: Arc<BTreeMap<Arc<str>, Arc<tepui_allocator::Constraints>>>,
    /// What it asked for and was told.
    pub metrics: Arc<FrameworkMetrics>,
}

/// One follower.
#[derive(Debug, Clone)]
pub struct FollowerView {
    /// As it registered, with its id.
    pub info: Arc<v1::AgentInfo>,
    /// Its id.
    pub id: FollowerId,
    /// Where it listens.
    pub pid: Pid,
    /// Its version.
    pub version: String,
    /// Capabilities it registered with.
    pub capabilities: Arc<Vec<v1::agent_info::Capability>>,
    /// First registration with this leader.
    pub registered: Time,
    /// Last re-registration.
    pub reregistered: Option<Time>,
    /// Has a link.
    pub connected: bool,
    /// Its resources are offered.
    pub active: bool,
    /// All its resources, post-refinement format.
    pub total: Arc<Vec<v1::Resource>>,
    /// In offers.
    pub offered: Arc<Vec<v1::Resource>>,
    /// Used by tasks and executors, by framework.
    pub used: Arc<std::collections::BTreeMap<FrameworkId, Vec<v1::Resource>>>,
    /// An operator deactivated it, or drains it.
    pub deactivated: bool,
    /// It is being drained, or is drained.
    pub drain: Option<v1::DrainInfo>,
    /// When this leader told it to drain.
    pub draining_since: Option<Time>,
    /// What frameworks answered to inverse offers.
    pub inverse_statuses: RedBlackTreeMapSync<FrameworkId, v1::allocator::InverseOfferStatus>,
    /// Offers out on it.
    pub offers: RedBlackTreeMapSync<OfferId, Arc<OfferOut>>,
    /// Operations whose end nobody has acknowledged, by the leader's names for them.
    pub operations: RedBlackTreeMapSync<Bytes, Arc<v1::Operation>>,
    /// Resource providers on it, by their ids.
    pub providers: RedBlackTreeMapSync<String, Arc<Provider>>,
}

/// A resource provider on a follower.
#[derive(Debug, Clone, PartialEq)]
pub struct Provider {
    /// Its description, with its id.
    pub info: v1::ResourceProviderInfo,
    /// All it has.
    pub total: Resources,
    /// Changes with every change of its resources that the leader did not make.
    pub version: v1::Uuid,
}
