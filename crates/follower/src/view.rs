//! The immutable picture of a follower that every reader gets. Publishing one costs what changed:
//! the maps are persistent and share all that did not.

pub use crate::drain::Drain;

use crate::{config::Config, metrics::Counters, state::Phase};
use bytes::Bytes;
use rpds::{QueueSync, RedBlackTreeMapSync};
use std::{path::PathBuf, sync::Arc};
use tepui_model::{ExecutorId, FrameworkId, Resources, TaskId, Time, container::ContainerId};
use tepui_protocol::{peer::Pid, v1};

/// A follower at one moment.
#[derive(Debug, Clone)]
pub struct View {
    /// The moment of the last change.
    pub at: Time,
    /// When this process started.
    pub started: Time,
    /// Settings.
    pub config: Arc<Config>,
    /// As registered; `id` is set from the first registration on.
    pub info: Arc<v1::AgentInfo>,
    /// What the follower can do.
    pub capabilities: Arc<Vec<v1::agent_info::Capability>>,
    /// Where it stands with its leader.
    pub phase: Phase,
    /// How long it took to take back what ran before.
    pub recovery_time: std::time::Duration,
    /// Who leads.
    pub leader: Option<Pid>,
    /// What there is, with what operations made of it.
    pub total: Arc<Resources>,
    /// Revocable resources that are offered on top of it; `None` without an estimator.
    pub oversubscribed: Option<Arc<Resources>>,
    /// Operations whose outcome is not acknowledged, by their identity.
    pub operations: RedBlackTreeMapSync<Bytes, Arc<v1::Operation>>,
    /// While tasks are killed to empty this follower.
    pub drain: Option<Drain>,
    /// Frameworks with executors or pending tasks.
    pub frameworks: RedBlackTreeMapSync<FrameworkId, Arc<FrameworkView>>,
    /// Oldest first, bounded.
    pub completed_frameworks: QueueSync<Arc<FrameworkView>>,
    /// What happened so far.
    pub counters: Counters,
    /// Sandboxes that wait for removal.
    pub gc_pending: usize,
    /// How old a sandbox may become at the present disk usage.
    pub max_sandbox_age: std::time::Duration,
}

/// One framework.
#[derive(Debug, Clone)]
pub struct FrameworkView {
    /// Its id.
    pub id: FrameworkId,
    /// As the leader told.
    pub info: Arc<v1::FrameworkInfo>,
    /// v0 drivers have one.
    pub pid: Option<Pid>,
    /// Being shut down.
    pub terminating: bool,
    /// Tasks that wait for a sandbox to be removed.
    pub pending: Arc<Vec<Arc<v1::TaskInfo>>>,
    /// Executors that are not completed.
    pub executors: RedBlackTreeMapSync<ExecutorId, Arc<ExecutorView>>,
    /// Oldest first, bounded.
    pub completed_executors: QueueSync<Arc<ExecutorView>>,
}

/// One executor.
#[derive(Debug, Clone)]
pub struct ExecutorView {
    /// Its id.
    pub id: ExecutorId,
    /// As launched.
    pub info: Arc<v1::ExecutorInfo>,
    /// What runs it.
    pub kind: ExecutorKind,
    /// Where it is in its life.
    pub state: ExecutorState,
    /// Its container.
    pub container: ContainerId,
    /// Its sandbox.
    pub sandbox: PathBuf,
    /// Process of the container.
    pub pid: Option<u32>,
    /// Tasks it has not been sent yet.
    pub queued: Arc<Vec<Arc<v1::TaskInfo>>>,
    /// Tasks it has and that are not terminal.
    pub launched: RedBlackTreeMapSync<TaskId, Arc<v1::Task>>,
    /// Terminal tasks that are not acknowledged.
    pub terminated: RedBlackTreeMapSync<TaskId, Arc<v1::Task>>,
    /// Oldest first, bounded.
    pub completed: QueueSync<Arc<v1::Task>>,
}

/// What runs an executor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExecutorKind {
    /// Made up for one command task; runs in this process.
    Command,
    /// The default executor for task groups; runs in this process.
    Default,
    /// A process that the framework brings.
    Custom,
}

impl ExecutorKind {
    /// Whether it runs in this process.
    pub fn is_local(self) -> bool {
        self != Self::Custom
    }
}

/// Where an executor is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExecutorState {
    /// Launched, has not subscribed.
    Registering,
    /// Subscribed.
    Running,
    /// Asked or forced to end.
    Terminating,
    /// Ended; some of its updates are not acknowledged.
    Terminated,
}
