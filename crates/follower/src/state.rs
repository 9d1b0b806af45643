//! What a follower knows: frameworks, their executors and tasks. The collections that readers see
//! are persistent, so a picture of an executor costs a few pointers (`view.rs`).

use crate::{
    config::MAX_COMPLETED_TASKS_PER_EXECUTOR,
    driver::Driver,
    view::{ExecutorKind, ExecutorState, ExecutorView, FrameworkView},
    volumes::Shown,
};
use indexmap::IndexMap;
use rpds::{QueueSync, RedBlackTreeMapSync};
use rustc_hash::FxHashMap;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
};
use tepui_model::{
    ExecutorId, FollowerId, FrameworkId, StreamId, TaskId, container::ContainerId,
    tasks::is_terminal,
};
use tepui_protocol::{
    internal as i,
    peer::Pid,
    v1::{self, TaskState, task_status::Reason},
};

/// A framework that runs, ran a moment ago or is about to run something here.
#[derive(Debug)]
pub(crate) struct Framework {
    pub(crate) id: FrameworkId,
    pub(crate) info: Arc<v1::FrameworkInfo>,
    /// v0 drivers have one; v1 schedulers do not.
    pub(crate) pid: Option<Pid>,
    pub(crate) terminating: bool,
    /// Nothing is known of it but its id: its checkpoint is damaged. The leader is not told.
    pub(crate) damaged: bool,
    pub(crate) pending: Vec<PendingLaunch>,
    pub(crate) executors: BTreeMap<ExecutorId, Executor>,
    /// Executor of each task that is queued, launched, or terminated and not acknowledged.
    pub(crate) tasks: FxHashMap<TaskId, ExecutorId>,
    pub(crate) views: RedBlackTreeMapSync<ExecutorId, Arc<ExecutorView>>,
    pub(crate) completed_executors: QueueSync<Arc<ExecutorView>>,
}

impl Framework {
    pub(crate) fn new(id: FrameworkId, info: v1::FrameworkInfo, pid: Option<Pid>) -> Self {
        Self {
            id,
            info: Arc::new(info),
            pid,
            terminating: false,
            damaged: false,
            pending: Vec::new(),
            executors: BTreeMap::new(),
            tasks: FxHashMap::default(),
            views: RedBlackTreeMapSync::default(),
            completed_executors: QueueSync::default(),
        }
    }
    /// Nothing of it is left to look after.
    pub(crate) fn idle(&self) -> bool {
        self.executors.is_empty() && self.pending.is_empty()
    }
    /// Whether it can tell TASK_DROPPED, TASK_GONE… from TASK_LOST.
    pub(crate) fn partition_aware(&self) -> bool {
        partition_aware(&self.info)
    }
    pub(crate) fn checkpoint(&self) -> bool {
        self.info.checkpoint.unwrap_or(false)
    }
    pub(crate) fn is_pending(&self, task: &TaskId) -> bool {
        self.pending
            .iter()
            .any(|p| p.tasks.iter().any(|t| t.task_id.value == task.as_str()))
    }
    pub(crate) fn executor_of(&self, task: &TaskId) -> Option<&Executor> {
        self.executors.get(self.tasks.get(task)?)
    }
    pub(crate) fn view(&self) -> FrameworkView {
        FrameworkView {
            id: self.id.clone(),
            info: self.info.clone(),
            pid: self.pid.clone(),
            terminating: self.terminating,
            pending: Arc::new(
                self.pending
                    .iter()
                    .flat_map(|p| p.tasks.iter().cloned())
                    .collect(),
            ),
            executors: self.views.clone(),
            completed_executors: self.completed_executors.clone(),
        }
    }
}

/// Whether a framework registered with the PARTITION_AWARE capability.
pub(crate) fn partition_aware(info: &v1::FrameworkInfo) -> bool {
    use v1::framework_info::capability::Type;
    info.capabilities
        .iter()
        .any(|c| c.r#type() == Type::PartitionAware)
}

/// A launch that waits until the removal of the directories it needs is over.
#[derive(Debug)]
pub(crate) struct PendingLaunch {
    pub(crate) framework: v1::FrameworkInfo,
    pub(crate) executor: v1::ExecutorInfo,
    pub(crate) tasks: Vec<Arc<v1::TaskInfo>>,
    /// The tasks stand and fall together.
    pub(crate) group: bool,
    /// The executor was made up for a command task.
    pub(crate) generated: bool,
    pub(crate) launch_executor: Option<bool>,
    pub(crate) resource_versions: Vec<i::ResourceVersionUuid>,
    pub(crate) waits_for: BTreeSet<PathBuf>,
}

/// Why an executor's end is not its own doing.
#[derive(Debug, Clone)]
pub(crate) struct Termination {
    pub(crate) state: TaskState,
    pub(crate) reason: Reason,
    pub(crate) message: String,
}

/// How an executor is reached. Its API is all that differs between these (`driver.rs`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Connection {
    /// It reads the HTTP stream of the v1 API.
    Stream(StreamId),
    /// It runs in this process, in this container.
    Local(ContainerId),
    /// It speaks libprocess: a v0 driver.
    Driver(Driver),
}

impl Connection {
    /// That of a driver which has to come back first.
    pub(crate) fn lost_driver(pid: Pid) -> Self {
        Self::Driver(Driver { pid, broken: true })
    }
}

/// One executor and its tasks.
#[derive(Debug)]
pub(crate) struct Executor {
    pub(crate) id: ExecutorId,
    pub(crate) info: Arc<v1::ExecutorInfo>,
    pub(crate) kind: ExecutorKind,
    /// It is a process of its own, not part of this one.
    pub(crate) outside: bool,
    pub(crate) container: ContainerId,
    pub(crate) sandbox: PathBuf,
    pub(crate) state: ExecutorState,
    pub(crate) connection: Option<Connection>,
    /// Process of its container in the host's namespace.
    pub(crate) pid: Option<u32>,
    /// Processes of containers nested in its own.
    pub(crate) nested_pids: FxHashMap<ContainerId, u32>,
    /// Not yet sent, in the order they came.
    pub(crate) queued: IndexMap<TaskId, Arc<v1::TaskInfo>>,
    /// Groups among the queued tasks.
    pub(crate) queued_groups: Vec<Vec<TaskId>>,
    /// Sent, not terminal.
    pub(crate) launched: RedBlackTreeMapSync<TaskId, Arc<v1::Task>>,
    /// Terminal, not acknowledged.
    pub(crate) terminated: RedBlackTreeMapSync<TaskId, Arc<v1::Task>>,
    /// Oldest first, bounded.
    pub(crate) completed: QueueSync<Arc<v1::Task>>,
    pub(crate) ever_sent_task: bool,
    pub(crate) pending_termination: Option<Termination>,
    /// Persistent volumes that its sandbox shows.
    pub(crate) volumes: Shown,
    /// Recovered tasks that are not to go on: killed once it is back.
    pub(crate) kill_when_back: Vec<TaskId>,
}

/// Why an update does not fit what is known of its task.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum TaskUpdateError {
    /// Only terminal states are possible before the executor has the task.
    NotTerminal,
    /// It has ended already.
    Terminated,
    /// Nobody knows it.
    Unknown,
}

impl Executor {
    /// Tasks are left whose end is not known or not acknowledged.
    pub(crate) fn has_incomplete_tasks(&self) -> bool {
        !self.queued.is_empty() || !self.launched.is_empty() || !self.terminated.is_empty()
    }
    /// Takes a task out of the queue, and its group when it was the last of it.
    pub(crate) fn dequeue(&mut self, task: &TaskId) -> Option<Arc<v1::TaskInfo>> {
        let info = self.queued.shift_remove(task)?;
        let queued = &self.queued;
        self.queued_groups
            .retain(|group| group.iter().any(|t| queued.contains_key(t)));
        Some(info)
    }
    /// The group a queued task belongs to.
    pub(crate) fn group_of(&self, task: &TaskId) -> Option<&Vec<TaskId>> {
        self.queued_groups.iter().find(|group| group.contains(task))
    }
    pub(crate) fn task(&self, task: &TaskId) -> Option<&Arc<v1::Task>> {
        self.launched
            .get(task)
            .or_else(|| self.terminated.get(task))
    }
    /// Changes a task that was sent.
    pub(crate) fn edit_task(&mut self, id: &TaskId, edit: impl FnOnce(&mut v1::Task)) {
        let map = if self.launched.contains_key(id) {
            &mut self.launched
        } else {
            &mut self.terminated
        };
        if let Some(task) = map.get_mut(id) {
            edit(Arc::make_mut(task));
        }
    }
    /// Applies a status to its task.
    pub(crate) fn apply(
        &mut self,
        status: &v1::TaskStatus,
        framework: &FrameworkId,
    ) -> Result<(), TaskUpdateError> {
        let id = TaskId::from(&status.task_id);
        let terminal = is_terminal(status.state());
        let mut task = if self.queued.contains_key(&id) {
            if !terminal {
                return Err(TaskUpdateError::NotTerminal);
            }
            let info = self.dequeue(&id).ok_or(TaskUpdateError::Unknown)?;
            new_task(&info, framework, status.state())
        } else if let Some(task) = self.launched.get(&id) {
            (**task).clone()
        } else if self.terminated.contains_key(&id) {
            return Err(TaskUpdateError::Terminated);
        } else {
            return Err(TaskUpdateError::Unknown);
        };
        // The reference keeps one status per state in a row, the newest.
        if task
            .statuses
            .last()
            .is_some_and(|s| s.state == status.state)
        {
            task.statuses.pop();
        }
        task.statuses.push(status.clone());
        task.state = status.state;
        let task = Arc::new(task);
        if terminal {
            self.launched.remove_mut(&id);
            self.terminated.insert_mut(id, task);
        } else {
            self.launched.insert_mut(id, task);
        }
        Ok(())
    }
    /// The end of a task is acknowledged: it becomes history.
    pub(crate) fn complete(&mut self, id: &TaskId) {
        if let Some(task) = self.terminated.get(id).cloned() {
            self.terminated.remove_mut(id);
            self.completed.enqueue_mut(task);
            if self.completed.len() > MAX_COMPLETED_TASKS_PER_EXECUTOR {
                self.completed.dequeue_mut();
            }
        }
    }
    /// Nobody will ever say how a task ended: it becomes history as it is.
    pub(crate) fn give_up(&mut self, id: &TaskId) {
        if let Some(task) = self.launched.get(id).cloned() {
            self.launched.remove_mut(id);
            self.terminated.insert_mut(id.clone(), task);
        }
        self.complete(id);
    }
    pub(crate) fn view(&self) -> ExecutorView {
        ExecutorView {
            id: self.id.clone(),
            info: self.info.clone(),
            kind: self.kind,
            state: self.state,
            container: self.container.clone(),
            sandbox: self.sandbox.clone(),
            pid: self.pid,
            queued: Arc::new(self.queued.values().cloned().collect()),
            launched: self.launched.clone(),
            terminated: self.terminated.clone(),
            completed: self.completed.clone(),
        }
    }
}

/// The task that a `TaskInfo` becomes (`createTask` in `src/common/protobuf_utils.cpp`).
pub(crate) fn new_task(info: &v1::TaskInfo, framework: &FrameworkId, state: TaskState) -> v1::Task {
    let executor = info.executor.as_ref();
    let command_user = info.command.as_ref().and_then(|c| c.user.clone());
    let executor_user = || executor.and_then(|e| e.command.as_ref()?.user.clone());
    v1::Task {
        name: info.name.clone(),
        task_id: info.task_id.clone(),
        framework_id: framework.to_proto(),
        executor_id: executor.map(|e| e.executor_id.clone()),
        agent_id: info.agent_id.clone(),
        state: state.into(),
        resources: info.resources.clone(),
        labels: info.labels.clone(),
        discovery: info.discovery.clone().map(Box::new),
        container: info.container.clone().map(Box::new),
        health_check: info.health_check.clone().map(Box::new),
        kill_policy: info.kill_policy,
        user: command_user.or_else(executor_user),
        limits: info.limits.clone(),
        ..Default::default()
    }
}

/// Where a follower stands with its leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Waiting for executors from before a restart.
    Recovering,
    /// No leader, or not registered with it.
    Disconnected,
    /// Registered.
    Running,
    /// On its way out.
    Terminating,
}

/// Names a framework's executor in sets.
pub(crate) type ExecutorKey = (FrameworkId, ExecutorId);

/// The follower's id as text on the wire, empty before registration.
pub(crate) fn id_proto(id: Option<&FollowerId>) -> v1::AgentId {
    id.map(FollowerId::to_proto).unwrap_or_default()
}
