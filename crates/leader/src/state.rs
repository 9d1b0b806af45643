//! Tables and indexes: who is there, what runs where, what is offered to whom.
//!
//! Every change of a relation goes through one method here that keeps both ends of it; whatever is
//! touched is remembered, so that publishing the view costs what changed. The parts of a framework
//! or follower that readers see are persistent maps: a snapshot of them shares their nodes.

use crate::{
    inverse::InverseEntry,
    metrics::FrameworkMetrics,
    operations::OperationKey,
    roster::Roster,
    view::{FrameworkView, OfferOut, Provider},
};
use bytes::Bytes;
use rpds::{HashTrieMapSync, QueueSync, RedBlackTreeMapSync};
use rustc_hash::{FxHashMap, FxHashSet};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};
use tepui_model::{
    ExecutorId, FollowerId, FrameworkId, OfferId, StreamId, TaskId, Time,
    resources::Resources,
    tasks::{TaskState, is_terminal},
};
use tepui_protocol::{
    peer::Pid,
    v1::{self, allocator::InverseOfferStatus},
};

/// What a framework said it can deal with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct FrameworkCapabilities {
    pub(crate) partition_aware: bool,
    pub(crate) multi_role: bool,
    pub(crate) reservation_refinement: bool,
    pub(crate) shared_resources: bool,
}

impl From<&v1::FrameworkInfo> for FrameworkCapabilities {
    fn from(info: &v1::FrameworkInfo) -> Self {
        use v1::framework_info::capability::Type;
        let has = |wanted: Type| {
            info.capabilities
                .iter()
                .any(|capability| capability.r#type() == wanted)
        };
        Self {
            partition_aware: has(Type::PartitionAware),
            multi_role: has(Type::MultiRole),
            reservation_refinement: has(Type::ReservationRefinement),
            shared_resources: has(Type::SharedResources),
        }
    }
}

/// The roles a framework subscribes with.
pub(crate) fn roles_of(info: &v1::FrameworkInfo) -> BTreeSet<String> {
    if FrameworkCapabilities::from(info).multi_role {
        info.roles.iter().cloned().collect()
    } else {
        let role = info.role().to_owned();
        BTreeSet::from([role])
    }
}

/// Where a framework hears of events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Channel {
    /// On a stream of the v1 API.
    Stream(StreamId),
    /// By messages to its v0 driver.
    Driver(Pid),
}

/// How a framework is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Connection {
    /// From followers that run its tasks, or from its own word after an election; it has not
    /// subscribed here yet.
    Recovered,
    /// It subscribed and listens there.
    Connected(Channel),
    /// It listened. A driver is still known by its address: what comes from there is its own.
    Disconnected(Option<Pid>),
}

/// Offer constraints of a framework, by role.
pub(crate) type OfferConstraints = BTreeMap<Arc<str>, Arc<tepui_allocator::Constraints>>;

/// A framework.
#[derive(Debug)]
pub(crate) struct Framework {
    pub(crate) id: FrameworkId,
    pub(crate) info: Arc<v1::FrameworkInfo>,
    pub(crate) capabilities: FrameworkCapabilities,
    pub(crate) roles: BTreeSet<String>,
    pub(crate) suppressed: BTreeSet<String>,
    /// On which followers it wants offers.
    pub(crate) constraints: Arc<OfferConstraints>,
    pub(crate) connection: Connection,
    /// Gets offers.
    pub(crate) active: bool,
    pub(crate) registered: Time,
    pub(crate) reregistered: Option<Time>,
    pub(crate) tasks: RedBlackTreeMapSync<TaskId, Arc<v1::Task>>,
    pub(crate) unreachable_tasks: RedBlackTreeMapSync<TaskId, Arc<v1::Task>>,
    /// Oldest first; may name tasks that are no longer there.
    unreachable_order: VecDeque<TaskId>,
    pub(crate) completed_tasks: QueueSync<Arc<v1::Task>>,
    pub(crate) offers: RedBlackTreeMapSync<OfferId, Arc<OfferOut>>,
    pub(crate) inverse_offers: RedBlackTreeMapSync<OfferId, Arc<v1::InverseOffer>>,
    pub(crate) executors: HashTrieMapSync<(FollowerId, ExecutorId), Arc<v1::ExecutorInfo>>,
    /// Its operations that are not settled; where they are.
    pub(crate) operations: BTreeSet<OperationKey>,
    /// The same, by the ids it gave them.
    pub(crate) operation_ids: BTreeMap<String, OperationKey>,
    /// Of all followers together, for readers. Amounts are exact; ranges and sets that two
    /// followers have alike are one here, and gone with the first of them.
    pub(crate) used: Resources,
    pub(crate) offered: Resources,
    pub(crate) metrics: Arc<FrameworkMetrics>,
}

impl Framework {
    /// Its counters, to be changed.
    pub(crate) fn metrics_mut(&mut self) -> &mut FrameworkMetrics {
        Arc::make_mut(&mut self.metrics)
    }

    pub(crate) fn new(
        id: FrameworkId,
        info: v1::FrameworkInfo,
        connection: Connection,
        now: Time,
    ) -> Self {
        Self {
            id,
            capabilities: (&info).into(),
            roles: roles_of(&info),
            suppressed: BTreeSet::new(),
            constraints: Default::default(),
            info: Arc::new(info),
            active: matches!(connection, Connection::Connected(_)),
            connection,
            registered: now,
            reregistered: None,
            tasks: Default::default(),
            unreachable_tasks: Default::default(),
            unreachable_order: VecDeque::new(),
            completed_tasks: Default::default(),
            offers: Default::default(),
            inverse_offers: Default::default(),
            executors: HashTrieMapSync::default(),
            operations: BTreeSet::new(),
            operation_ids: BTreeMap::new(),
            used: Resources::new(),
            offered: Resources::new(),
            metrics: Arc::default(),
        }
    }

    pub(crate) fn channel(&self) -> Option<&Channel> {
        match &self.connection {
            Connection::Connected(channel) => Some(channel),
            _ => None,
        }
    }
    pub(crate) fn stream(&self) -> Option<StreamId> {
        match self.channel() {
            Some(Channel::Stream(stream)) => Some(*stream),
            _ => None,
        }
    }
    /// Address of its driver, also while that is disconnected.
    pub(crate) fn pid(&self) -> Option<&Pid> {
        match &self.connection {
            Connection::Connected(Channel::Driver(pid)) | Connection::Disconnected(Some(pid)) => {
                Some(pid)
            }
            _ => None,
        }
    }
    pub(crate) fn is_connected(&self) -> bool {
        self.channel().is_some()
    }
    pub(crate) fn is_recovered(&self) -> bool {
        self.connection == Connection::Recovered
    }

    /// Takes over a new description of it.
    pub(crate) fn describe(&mut self, info: v1::FrameworkInfo) {
        self.capabilities = (&info).into();
        self.roles = roles_of(&info);
        self.info = Arc::new(info);
    }

    /// Remembers a task that ended.
    pub(crate) fn complete_task(&mut self, task: Arc<v1::Task>, limit: usize) {
        if limit == 0 {
            return;
        }
        self.completed_tasks.enqueue_mut(task);
        while self.completed_tasks.len() > limit {
            self.completed_tasks.dequeue_mut();
        }
    }

    /// Remembers a task whose follower is unreachable.
    pub(crate) fn miss_task(&mut self, id: TaskId, task: Arc<v1::Task>, limit: usize) {
        if limit == 0 {
            return;
        }
        self.unreachable_tasks.insert_mut(id.clone(), task);
        self.unreachable_order.push_back(id);
        while self.unreachable_tasks.size() > limit {
            let Some(oldest) = self.unreachable_order.pop_front() else {
                break;
            };
            self.unreachable_tasks.remove_mut(&oldest);
        }
        // Ids of tasks that came back stay in the order; drop them before they pile up.
        if self.unreachable_order.len() > 2 * limit {
            let tasks = &self.unreachable_tasks;
            self.unreachable_order.retain(|id| tasks.contains_key(id));
        }
    }
}

/// What a follower said it can deal with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct FollowerCapabilities {
    pub(crate) multi_role: bool,
    pub(crate) hierarchical_role: bool,
    pub(crate) reservation_refinement: bool,
    pub(crate) resource_provider: bool,
    pub(crate) resize_volume: bool,
    pub(crate) task_resource_limits: bool,
    pub(crate) operation_feedback: bool,
}

impl From<&[v1::agent_info::Capability]> for FollowerCapabilities {
    fn from(capabilities: &[v1::agent_info::Capability]) -> Self {
        use v1::agent_info::capability::Type;
        let has = |wanted: Type| {
            capabilities
                .iter()
                .any(|capability| capability.r#type() == wanted)
        };
        Self {
            multi_role: has(Type::MultiRole),
            hierarchical_role: has(Type::HierarchicalRole),
            reservation_refinement: has(Type::ReservationRefinement),
            resource_provider: has(Type::ResourceProvider),
            resize_volume: has(Type::ResizeVolume),
            task_resource_limits: has(Type::TaskResourceLimits),
            operation_feedback: has(Type::AgentOperationFeedback),
        }
    }
}

/// A registered follower.
#[derive(Debug)]
pub(crate) struct Follower {
    pub(crate) id: FollowerId,
    pub(crate) info: Arc<v1::AgentInfo>,
    pub(crate) pid: Pid,
    pub(crate) version: String,
    pub(crate) capabilities: Arc<Vec<v1::agent_info::Capability>>,
    pub(crate) can: FollowerCapabilities,
    pub(crate) registered: Time,
    pub(crate) reregistered: Option<Time>,
    pub(crate) connected: bool,
    /// Its resources are offered.
    pub(crate) active: bool,
    pub(crate) total: Resources,
    /// Changes with every change of its resources that the leader did not make.
    pub(crate) resource_version: Option<v1::Uuid>,
    pub(crate) tasks: BTreeMap<FrameworkId, BTreeSet<TaskId>>,
    pub(crate) executors: BTreeMap<FrameworkId, BTreeMap<ExecutorId, Arc<v1::ExecutorInfo>>>,
    pub(crate) offers: RedBlackTreeMapSync<OfferId, Arc<OfferOut>>,
    /// One for each framework at most.
    pub(crate) inverse_offers: BTreeMap<FrameworkId, OfferId>,
    /// What frameworks answered to inverse offers.
    pub(crate) inverse_statuses: RedBlackTreeMapSync<FrameworkId, InverseOfferStatus>,
    /// When this leader told it to drain.
    pub(crate) draining_since: Option<Time>,
    pub(crate) used: BTreeMap<FrameworkId, Resources>,
    pub(crate) offered: Resources,
    /// Tasks that were to be killed; told again when it comes back with them.
    pub(crate) killed: BTreeSet<(FrameworkId, TaskId)>,
    /// Number of the process that pings it.
    pub(crate) observer: u64,
    /// The last ping is unanswered.
    pub(crate) pinged: bool,
    /// Unanswered pings in a row.
    pub(crate) ping_timeouts: u32,
    /// It was told that it is registered, and nothing was heard of it since.
    pub(crate) unheard: bool,
    /// It came back with less than it had: what runs and is offered may exceed what it has.
    pub(crate) shrunk: bool,
    /// Operations whose end nobody has acknowledged, by the leader's names for them.
    pub(crate) operations: RedBlackTreeMapSync<Bytes, Arc<v1::Operation>>,
    /// Resource providers on it, by their ids.
    pub(crate) providers: RedBlackTreeMapSync<String, Arc<Provider>>,
    /// What operations made of its resources may not be what the leader thinks: it is asked again once
    /// none is pending.
    pub(crate) in_doubt: bool,
}

impl Follower {
    pub(crate) fn has_executor(&self, framework: &FrameworkId, executor: &str) -> bool {
        self.executors
            .get(framework)
            .is_some_and(|executors| executors.contains_key(executor))
    }

    /// What is neither used nor offered is not said here: that is the allocator's to know.
    pub(crate) fn use_resources(&mut self, framework: &FrameworkId, resources: &Resources) {
        *self.used.entry(framework.clone()).or_default() += resources;
    }

    pub(crate) fn release(&mut self, framework: &FrameworkId, resources: &Resources) {
        if let Some(used) = self.used.get_mut(framework) {
            *used = used.saturating_sub(resources);
            if used.is_empty() {
                self.used.remove(framework);
            }
        }
    }
}

/// An offer that is out.
#[derive(Debug)]
pub(crate) struct OfferEntry {
    pub(crate) framework: FrameworkId,
    pub(crate) follower: FollowerId,
    pub(crate) role: Arc<str>,
    pub(crate) resources: Resources,
}

/// All tables.
#[derive(Debug, Default)]
pub(crate) struct State {
    frameworks: BTreeMap<FrameworkId, Framework>,
    followers: BTreeMap<FollowerId, Follower>,
    pub(crate) streams: FxHashMap<StreamId, FrameworkId>,
    /// Whose driver is at an address, connected or not.
    drivers: FxHashMap<Pid, FrameworkId>,
    by_pid: FxHashMap<Pid, FollowerId>,
    offers: BTreeMap<OfferId, OfferEntry>,
    inverse_offers: BTreeMap<OfferId, InverseEntry>,
    pub(crate) completed: QueueSync<Arc<FrameworkView>>,
    completed_ids: FxHashSet<FrameworkId>,
    /// Followers that are not registered.
    pub(crate) roster: Roster,
    pub(crate) unreachable_tasks: BTreeMap<FollowerId, BTreeMap<FrameworkId, Vec<TaskId>>>,
    /// Operations of frameworks that are not here: not yet after an election, or no longer.
    pub(crate) orphans: BTreeMap<FrameworkId, BTreeSet<OperationKey>>,
    /// Changed since the view was last published.
    pub(crate) touched_frameworks: BTreeSet<FrameworkId>,
    pub(crate) touched_followers: BTreeSet<FollowerId>,
}

impl State {
    pub(crate) fn framework(&self, id: &FrameworkId) -> Option<&Framework> {
        self.frameworks.get(id)
    }
    pub(crate) fn framework_mut(&mut self, id: &FrameworkId) -> Option<&mut Framework> {
        let framework = self.frameworks.get_mut(id)?;
        self.touched_frameworks.insert(id.clone());
        Some(framework)
    }
    pub(crate) fn frameworks(&self) -> impl Iterator<Item = &Framework> {
        self.frameworks.values()
    }
    /// The framework whose driver is at an address, connected or not.
    pub(crate) fn driver_at(&self, pid: &Pid) -> Option<&Framework> {
        self.frameworks.get(self.drivers.get(pid)?)
    }
    pub(crate) fn drivers(&self) -> impl Iterator<Item = (&Pid, &FrameworkId)> {
        // Only invariants are checked in this order, which is that of a hash map.
        self.drivers.iter()
    }
    pub(crate) fn insert_framework(&mut self, framework: Framework) {
        let id = framework.id.clone();
        self.touched_frameworks.insert(id.clone());
        self.frameworks.insert(id.clone(), framework);
        self.index_channel(&id);
    }
    /// Changes how a framework is connected; gives back where it listened.
    pub(crate) fn connect(&mut self, id: &FrameworkId, connection: Connection) -> Option<Channel> {
        self.framework(id)?;
        self.forget_channel(id);
        let framework = self.framework_mut(id)?;
        let old = std::mem::replace(&mut framework.connection, connection);
        self.index_channel(id);
        match old {
            Connection::Connected(channel) => Some(channel),
            _ => None,
        }
    }
    fn index_channel(&mut self, id: &FrameworkId) {
        let Some(framework) = self.frameworks.get(id) else {
            return;
        };
        if let Some(stream) = framework.stream() {
            self.streams.insert(stream, id.clone());
        }
        if let Some(pid) = framework.pid() {
            self.drivers.insert(pid.clone(), id.clone());
        }
    }
    fn forget_channel(&mut self, id: &FrameworkId) {
        let Some(framework) = self.frameworks.get(id) else {
            return;
        };
        if let Some(stream) = framework.stream() {
            self.streams.remove(&stream);
        }
        if let Some(pid) = framework.pid() {
            self.drivers.remove(pid);
        }
    }
    pub(crate) fn remove_framework(&mut self, id: &FrameworkId) -> Option<Framework> {
        self.forget_channel(id);
        let framework = self.frameworks.remove(id)?;
        self.touched_frameworks.insert(id.clone());
        Some(framework)
    }
    /// Remembers a framework that ended.
    pub(crate) fn complete_framework(&mut self, view: Arc<FrameworkView>, limit: usize) {
        self.completed_ids.insert(view.id.clone());
        self.completed.enqueue_mut(view);
        while self.completed.len() > limit {
            if let Some(oldest) = self.completed.peek() {
                self.completed_ids.remove(&oldest.id);
            }
            self.completed.dequeue_mut();
        }
    }
    pub(crate) fn is_completed(&self, id: &FrameworkId) -> bool {
        self.completed_ids.contains(id)
    }

    pub(crate) fn follower(&self, id: &FollowerId) -> Option<&Follower> {
        self.followers.get(id)
    }
    pub(crate) fn follower_mut(&mut self, id: &FollowerId) -> Option<&mut Follower> {
        let follower = self.followers.get_mut(id)?;
        self.touched_followers.insert(id.clone());
        Some(follower)
    }
    /// Mutable access for what no reader sees: leaves the view as it is.
    pub(crate) fn follower_unseen(&mut self, id: &FollowerId) -> Option<&mut Follower> {
        self.followers.get_mut(id)
    }
    pub(crate) fn followers(&self) -> impl Iterator<Item = &Follower> {
        self.followers.values()
    }
    pub(crate) fn followers_count(&self) -> usize {
        self.followers.len()
    }
    pub(crate) fn follower_at(&self, pid: &Pid) -> Option<&Follower> {
        self.followers.get(self.by_pid.get(pid)?)
    }
    pub(crate) fn insert_follower(&mut self, follower: Follower) {
        self.by_pid
            .insert(follower.pid.clone(), follower.id.clone());
        self.touched_followers.insert(follower.id.clone());
        self.followers.insert(follower.id.clone(), follower);
    }
    /// It listens elsewhere now.
    pub(crate) fn move_follower(&mut self, id: &FollowerId, pid: Pid) {
        let Some(follower) = self.follower_mut(id) else {
            return;
        };
        let old = std::mem::replace(&mut follower.pid, pid.clone());
        if self.by_pid.get(&old) == Some(id) {
            self.by_pid.remove(&old);
        }
        self.by_pid.insert(pid, id.clone());
    }
    pub(crate) fn remove_follower(&mut self, id: &FollowerId) -> Option<Follower> {
        let follower = self.followers.remove(id)?;
        if self.by_pid.get(&follower.pid) == Some(id) {
            self.by_pid.remove(&follower.pid);
        }
        self.touched_followers.insert(id.clone());
        Some(follower)
    }

    pub(crate) fn offer(&self, id: &OfferId) -> Option<&OfferEntry> {
        self.offers.get(id)
    }
    pub(crate) fn offers(&self) -> impl Iterator<Item = (&OfferId, &OfferEntry)> {
        self.offers.iter()
    }
    pub(crate) fn insert_offer(&mut self, id: OfferId, entry: OfferEntry, out: OfferOut) {
        let out = Arc::new(out);
        if let Some(framework) = self.framework_mut(&entry.framework) {
            framework.offers.insert_mut(id.clone(), out.clone());
            framework.offered += &entry.resources;
        }
        if let Some(follower) = self.follower_mut(&entry.follower) {
            follower.offers.insert_mut(id.clone(), out);
            follower.offered += &entry.resources;
        }
        self.offers.insert(id, entry);
    }
    pub(crate) fn remove_offer(&mut self, id: &OfferId) -> Option<OfferEntry> {
        let entry = self.offers.remove(id)?;
        if let Some(framework) = self.framework_mut(&entry.framework) {
            framework.offers.remove_mut(id);
            framework.offered = framework.offered.saturating_sub(&entry.resources);
        }
        if let Some(follower) = self.follower_mut(&entry.follower) {
            follower.offers.remove_mut(id);
            follower.offered = follower.offered.saturating_sub(&entry.resources);
        }
        Some(entry)
    }

    pub(crate) fn inverse_offer(&self, id: &OfferId) -> Option<&InverseEntry> {
        self.inverse_offers.get(id)
    }
    pub(crate) fn inverse_offers(&self) -> impl Iterator<Item = (&OfferId, &InverseEntry)> {
        self.inverse_offers.iter()
    }
    pub(crate) fn insert_inverse_offer(
        &mut self,
        id: OfferId,
        entry: InverseEntry,
        proto: v1::InverseOffer,
    ) {
        if let Some(framework) = self.framework_mut(&entry.framework) {
            framework
                .inverse_offers
                .insert_mut(id.clone(), Arc::new(proto));
        }
        if let Some(follower) = self.follower_unseen(&entry.follower) {
            follower
                .inverse_offers
                .insert(entry.framework.clone(), id.clone());
        }
        self.inverse_offers.insert(id, entry);
    }
    pub(crate) fn remove_inverse_offer(&mut self, id: &OfferId) -> Option<InverseEntry> {
        let entry = self.inverse_offers.remove(id)?;
        if let Some(framework) = self.framework_mut(&entry.framework) {
            framework.inverse_offers.remove_mut(id);
        }
        if let Some(follower) = self.follower_unseen(&entry.follower) {
            follower.inverse_offers.remove(&entry.framework);
        }
        Some(entry)
    }

    /// Adds a task; it counts as using its resources unless it has ended.
    pub(crate) fn insert_task(&mut self, framework: &FrameworkId, task: v1::Task) {
        let id = TaskId::from(&task.task_id);
        let follower = FollowerId::from(&task.agent_id);
        let resources = if holds_resources(&task) {
            Resources::from_proto(&task.resources)
        } else {
            Resources::new()
        };
        if let Some(framework) = self.framework_mut(framework) {
            // A task that runs is not missed, whoever said it was.
            framework.unreachable_tasks.remove_mut(&id);
            framework.tasks.insert_mut(id.clone(), Arc::new(task));
            framework.used += &resources;
        }
        if let Some(follower) = self.follower_mut(&follower) {
            follower
                .tasks
                .entry(framework.clone())
                .or_default()
                .insert(id);
            if !resources.is_empty() {
                follower.use_resources(framework, &resources);
            }
        }
    }

    /// Adds tasks of one framework on one follower: as [`Self::insert_task`] does each, but what they use is added
    /// up before it is added.
    pub(crate) fn insert_tasks(
        &mut self,
        framework: &FrameworkId,
        at: &FollowerId,
        tasks: Vec<v1::Task>,
    ) {
        let holding = tasks.iter().filter(|task| holds_resources(task));
        let used = Resources::from_proto(holding.flat_map(|task| &task.resources));
        let ids: Vec<TaskId> = tasks.iter().map(|task| (&task.task_id).into()).collect();
        if let Some(owner) = self.framework_mut(framework) {
            for (id, task) in ids.iter().zip(tasks) {
                owner.unreachable_tasks.remove_mut(id);
                owner.tasks.insert_mut(id.clone(), Arc::new(task));
            }
            owner.used += &used;
        }
        if ids.is_empty() {
            return;
        }
        if let Some(follower) = self.follower_mut(at) {
            let known = follower.tasks.entry(framework.clone()).or_default();
            known.extend(ids);
            if !used.is_empty() {
                follower.use_resources(framework, &used);
            }
        }
    }

    pub(crate) fn task(&self, framework: &FrameworkId, task: &TaskId) -> Option<&Arc<v1::Task>> {
        self.framework(framework)?.tasks.get(task)
    }
    /// Changes a task in place. If it let go of its resources, gives back what they were and where.
    pub(crate) fn change_task(
        &mut self,
        framework: &FrameworkId,
        id: &TaskId,
        change: impl FnOnce(&mut v1::Task),
    ) -> Option<Freed> {
        let owner = self.framework_mut(framework)?;
        let mut task = owner.tasks.get(id)?.clone();
        let held = holds_resources(&task);
        // One clone of the task while a view holds the old one; readers keep theirs.
        change(Arc::make_mut(&mut task));
        let released = held && !holds_resources(&task);
        let follower = FollowerId::from(&task.agent_id);
        let resources = if released {
            Resources::from_proto(&task.resources)
        } else {
            Resources::new()
        };
        owner.tasks.insert_mut(id.clone(), task);
        if !released {
            return None;
        }
        self.release(framework, &follower, &resources);
        Some((follower, resources))
    }
    /// Takes a task out of the tables. If it held resources, gives back what they were and where.
    pub(crate) fn remove_task(
        &mut self,
        framework: &FrameworkId,
        id: &TaskId,
    ) -> Option<(Arc<v1::Task>, Option<Freed>)> {
        let owner = self.framework_mut(framework)?;
        let task = owner.tasks.get(id)?.clone();
        owner.tasks.remove_mut(id);
        let at = FollowerId::from(&task.agent_id);
        let held = holds_resources(&task).then(|| Resources::from_proto(&task.resources));
        if let Some(resources) = &held {
            self.release(framework, &at, resources);
        }
        if let Some(follower) = self.follower_mut(&at) {
            if let Some(tasks) = follower.tasks.get_mut(framework) {
                tasks.remove(id);
                if tasks.is_empty() {
                    follower.tasks.remove(framework);
                }
            }
            follower.killed.remove(&(framework.clone(), id.clone()));
        }
        Some((task, held.map(|resources| (at, resources))))
    }

    pub(crate) fn insert_executor(
        &mut self,
        framework: &FrameworkId,
        at: &FollowerId,
        executor: v1::ExecutorInfo,
    ) {
        let id = ExecutorId::from(&executor.executor_id);
        let resources = Resources::from_proto(&executor.resources);
        let executor = Arc::new(executor);
        if let Some(framework) = self.framework_mut(framework) {
            framework
                .executors
                .insert_mut((at.clone(), id.clone()), executor.clone());
            framework.used += &resources;
        }
        if let Some(follower) = self.follower_mut(at) {
            follower
                .executors
                .entry(framework.clone())
                .or_default()
                .insert(id, executor);
            if !resources.is_empty() {
                follower.use_resources(framework, &resources);
            }
        }
    }
    /// Gives back the resources the executor held.
    pub(crate) fn remove_executor(
        &mut self,
        framework: &FrameworkId,
        at: &FollowerId,
        id: &ExecutorId,
    ) -> Option<Resources> {
        let follower = self.follower_mut(at)?;
        let executors = follower.executors.get_mut(framework)?;
        let executor = executors.remove(id)?;
        if executors.is_empty() {
            follower.executors.remove(framework);
        }
        let resources = Resources::from_proto(&executor.resources);
        if let Some(framework) = self.framework_mut(framework) {
            framework.executors.remove_mut(&(at.clone(), id.clone()));
        }
        self.release(framework, at, &resources);
        Some(resources)
    }

    pub(crate) fn release(
        &mut self,
        framework: &FrameworkId,
        at: &FollowerId,
        resources: &Resources,
    ) {
        if let Some(follower) = self.follower_mut(at) {
            follower.release(framework, resources);
        }
        if let Some(framework) = self.framework_mut(framework) {
            framework.used = framework.used.saturating_sub(resources);
        }
    }
}

/// Resources a task held, and where.
pub(crate) type Freed = (FollowerId, Resources);

/// Whether a task's resources are its own still.
pub(crate) fn holds_resources(task: &v1::Task) -> bool {
    !is_terminal(task.state()) && task.state() != TaskState::TaskUnreachable
}
