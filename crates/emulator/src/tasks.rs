//! The tasks of one emulated follower: taken, reported and ended, with every update sent again until
//! it is acknowledged. Follows `src/slave/task_status_update_manager.cpp`, and the command executor
//! in which states it reports.

use crate::crowd::{Running, Scene, Timer};
use bytes::Bytes;
use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};
use tepui_model::{ExecutorId, FrameworkId, Rng, TaskId, tasks::is_terminal};
use tepui_protocol::{
    internal as i,
    v1::{
        self, TaskState,
        framework_info::{Capability, capability::Type as CapabilityType},
        task_status::{Reason, Source},
    },
};

/// Waits before an update is sent again (`STATUS_UPDATE_RETRY_INTERVAL_*` in `src/slave/constants.hpp`).
const RETRY_MIN: Duration = Duration::from_secs(10);
const RETRY_MAX: Duration = Duration::from_secs(600);

/// How long the framework of tasks that were brought along may stay away.
const FAILOVER_TIMEOUT: Duration = Duration::from_secs(7 * 24 * 3600);

/// Names a task among all of a follower.
pub(crate) type Key = (FrameworkId, TaskId);

/// What runs on a follower. Empty it has no memory of its own.
#[derive(Debug, Default)]
pub(crate) struct Jobs {
    frameworks: BTreeMap<FrameworkId, Framework>,
    tasks: BTreeMap<Key, Task>,
    /// Reservations and volumes of a leader that keeps them with its followers.
    checkpointed: Vec<v1::Resource>,
    /// A re-registration that tells all of this, until it changes.
    pub(crate) told: Option<Bytes>,
    /// Whether updates may be sent.
    open: bool,
}

#[derive(Debug)]
struct Framework {
    info: v1::FrameworkInfo,
    /// Executors that frameworks brought themselves.
    executors: BTreeMap<ExecutorId, v1::ExecutorInfo>,
}

#[derive(Debug)]
struct Task {
    task: Box<v1::Task>,
    /// Whether its executor is the framework's own.
    own_executor: bool,
    /// Not acknowledged, oldest first. Only the first is sent.
    pending: VecDeque<i::StatusUpdate>,
    wait: Duration,
    /// Tells the retry timer that counts from older ones.
    retry: u32,
}

impl Jobs {
    /// Tasks that were running before anybody here began to count, and whose updates were acknowledged.
    pub(crate) fn bring_along(&mut self, running: &Running, scene: &mut Scene<'_>) {
        self.told = None;
        let mut info = v1::FrameworkInfo {
            user: "root".to_owned(),
            name: running.framework.to_string(),
            id: Some(running.framework.to_proto()),
            checkpoint: Some(true),
            failover_timeout: Some(FAILOVER_TIMEOUT.as_secs_f64()),
            roles: vec!["*".to_owned()],
            ..Default::default()
        };
        for kind in [CapabilityType::MultiRole, CapabilityType::PartitionAware] {
            let kind = Some(kind.into());
            info.capabilities.push(Capability { r#type: kind });
        }
        let executors = BTreeMap::new();
        let framework = Framework { info, executors };
        self.frameworks.insert(running.framework.clone(), framework);
        for number in 0..running.tasks {
            let id = format!("task-{}-{number}", scene.follower);
            let (task_id, name) = (v1::TaskId { value: id.clone() }, id);
            let task = v1::Task {
                name,
                task_id,
                framework_id: running.framework.to_proto(),
                agent_id: scene.own_id.clone().unwrap_or_default(),
                state: TaskState::TaskRunning.into(),
                resources: small(),
                ..Default::default()
            };
            let key = (running.framework.clone(), TaskId::from(&task.task_id));
            let task = Task {
                task: Box::new(task),
                own_executor: false,
                pending: VecDeque::new(),
                wait: RETRY_MIN,
                retry: 0,
            };
            self.tasks.insert(key, task);
            scene.report.tasks_now += 1;
        }
    }

    /// `CheckpointResourcesMessage`.
    pub(crate) fn checkpoint(&mut self, resources: Vec<v1::Resource>) {
        self.told = None;
        self.checkpointed = resources;
    }

    /// Reservations and volumes to be remembered.
    pub(crate) fn checkpointed(&self) -> &[v1::Resource] {
        &self.checkpointed
    }

    /// `RunTaskMessage`.
    pub(crate) fn run_task(&mut self, message: i::RunTaskMessage, scene: &mut Scene<'_>) {
        let executor = message.task.executor.clone();
        self.run(message.framework, executor, vec![message.task], scene);
    }

    /// `RunTaskGroupMessage`.
    pub(crate) fn run_task_group(
        &mut self,
        message: i::RunTaskGroupMessage,
        scene: &mut Scene<'_>,
    ) {
        let executor = Some(message.executor);
        self.run(message.framework, executor, message.task_group.tasks, scene);
    }

    fn run(
        &mut self,
        framework: v1::FrameworkInfo,
        executor: Option<v1::ExecutorInfo>,
        tasks: Vec<v1::TaskInfo>,
        scene: &mut Scene<'_>,
    ) {
        let Some(id) = framework.id.as_ref().map(FrameworkId::from) else {
            return;
        };
        self.told = None;
        let entry = self
            .frameworks
            .entry(id.clone())
            .or_insert_with(|| Framework {
                info: framework,
                executors: BTreeMap::new(),
            });
        let own_executor = executor.is_some();
        let executor_id = executor
            .as_ref()
            .map(|executor| executor.executor_id.clone());
        if let Some(executor) = executor {
            let executor_id = ExecutorId::from(&executor.executor_id);
            entry.executors.entry(executor_id).or_insert(executor);
        }
        for info in tasks {
            let key = (id.clone(), TaskId::from(&info.task_id));
            if self.tasks.contains_key(&key) {
                continue;
            }
            scene.report.tasks += 1;
            scene.report.tasks_now += 1;
            let task = Task {
                task: Box::new(new_task(info, &id, executor_id.clone())),
                own_executor,
                pending: VecDeque::new(),
                wait: RETRY_MIN,
                retry: 0,
            };
            self.tasks.insert(key.clone(), task);
            self.change(&key, TaskState::TaskStarting, Cause::None, scene);
            self.change(&key, TaskState::TaskRunning, Cause::None, scene);
            if let Some(duration) = scene.setup.task_duration {
                scene.set(duration, Timer::End(key));
            }
        }
    }

    /// Its time is over.
    pub(crate) fn end(&mut self, key: &Key, scene: &mut Scene<'_>) {
        if self.change(key, TaskState::TaskFinished, Cause::None, scene) {
            scene.report.tasks_finished += 1;
        }
    }

    /// `KillTaskMessage`.
    pub(crate) fn kill(&mut self, message: &i::KillTaskMessage, scene: &mut Scene<'_>) {
        let key = ((&message.framework_id).into(), (&message.task_id).into());
        if self.change(&key, TaskState::TaskKilled, Cause::None, scene) {
            scene.report.tasks_killed += 1;
        }
    }

    /// `ShutdownFrameworkMessage`: nobody wants to hear of its tasks any more.
    pub(crate) fn shut_down_framework(&mut self, id: &FrameworkId, scene: &mut Scene<'_>) {
        self.told = None;
        self.frameworks.remove(id);
        let before = self.tasks.len();
        self.tasks.retain(|(framework, _), _| framework != id);
        scene.report.tasks_now -= (before - self.tasks.len()) as u64;
    }

    /// `ShutdownExecutorMessage`: its tasks fail, and it is gone.
    pub(crate) fn shut_down_executor(
        &mut self,
        message: &i::ShutdownExecutorMessage,
        scene: &mut Scene<'_>,
    ) {
        let (Some(framework), Some(executor)) = (&message.framework_id, &message.executor_id)
        else {
            return;
        };
        let framework = FrameworkId::from(framework);
        let of_it = |(key, task): (&Key, &Task)| {
            let own = task.task.executor_id.as_ref();
            let id = own.map_or_else(|| key.1.as_str(), |own| own.value.as_str());
            (key.0 == framework && id == executor.value).then(|| key.clone())
        };
        let keys: Vec<Key> = self.tasks.iter().filter_map(of_it).collect();
        for key in &keys {
            self.change(key, TaskState::TaskFailed, Cause::ExecutorEnded, scene);
        }
        self.end_executor(&framework, &ExecutorId::from(executor), scene);
    }

    /// `UpdateFrameworkMessage`: from now on it may hear what it missed.
    pub(crate) fn update_framework(
        &mut self,
        message: i::UpdateFrameworkMessage,
        scene: &mut Scene<'_>,
    ) {
        let id = FrameworkId::from(&message.framework_id);
        if let (Some(framework), Some(info)) =
            (self.frameworks.get_mut(&id), message.framework_info)
            && framework.info != info
        {
            framework.info = info;
            self.told = None;
        }
        self.send_pending(|key| key.0 == id, scene);
    }

    /// `StatusUpdateAcknowledgementMessage`.
    pub(crate) fn acknowledge(
        &mut self,
        message: &i::StatusUpdateAcknowledgementMessage,
        scene: &mut Scene<'_>,
    ) {
        let key: Key = ((&message.framework_id).into(), (&message.task_id).into());
        let Some(task) = self.tasks.get_mut(&key) else {
            return;
        };
        if task.pending.front().and_then(|update| update.uuid.as_ref()) != Some(&message.uuid) {
            return;
        }
        scene.report.acknowledgements += 1;
        task.pending.pop_front();
        task.wait = RETRY_MIN;
        task.retry = task.retry.wrapping_add(1);
        if !task.pending.is_empty() {
            return self.send(&key, scene);
        }
        if is_terminal(task.task.state()) {
            self.forget(&key, scene);
        }
    }

    /// An update was not acknowledged in time.
    pub(crate) fn retry(&mut self, key: &Key, retry: u32, scene: &mut Scene<'_>) {
        let due = |task: &&mut Task| task.retry == retry && !task.pending.is_empty();
        if let Some(task) = self.tasks.get_mut(key).filter(due)
            && self.open
        {
            task.wait = task.wait.saturating_mul(2).min(RETRY_MAX);
            scene.report.updates_repeated += 1;
            self.send(key, scene);
        }
    }

    /// Nothing is sent until the follower is registered again.
    pub(crate) fn pause(&mut self) {
        self.open = false;
    }

    /// Registered: what waits is sent.
    pub(crate) fn resume(&mut self, scene: &mut Scene<'_>) {
        self.open = true;
        self.send_pending(|_| true, scene);
    }

    /// The leader believes in tasks that are not here: say so.
    pub(crate) fn reconcile(&mut self, message: &i::ReconcileTasksMessage, scene: &mut Scene<'_>) {
        let framework = FrameworkId::from(&message.framework_id);
        let aware = message.framework.as_ref().is_some_and(|info| {
            let aware = v1::framework_info::capability::Type::PartitionAware;
            info.capabilities.iter().any(|one| one.r#type() == aware)
        });
        let state = match aware {
            true => TaskState::TaskDropped,
            false => TaskState::TaskLost,
        };
        for status in &message.statuses {
            let key = (framework.clone(), TaskId::from(&status.task_id));
            if self.tasks.contains_key(&key) {
                continue;
            }
            let task = v1::Task {
                task_id: status.task_id.clone(),
                framework_id: message.framework_id.clone(),
                agent_id: status.agent_id.clone().unwrap_or_default(),
                ..Default::default()
            };
            let task = Task {
                task: Box::new(task),
                own_executor: false,
                pending: VecDeque::new(),
                wait: RETRY_MIN,
                retry: 0,
            };
            self.tasks.insert(key.clone(), task);
            self.told = None;
            scene.report.tasks_now += 1;
            self.change(&key, state, Cause::Unknown, scene);
        }
    }

    /// What a re-registration tells.
    pub(crate) fn all(&self) -> (Vec<v1::FrameworkInfo>, Vec<v1::Task>, Vec<v1::ExecutorInfo>) {
        let frameworks = self.frameworks.values();
        let executors = frameworks
            .clone()
            .flat_map(|framework| framework.executors.values());
        (
            frameworks.map(|framework| framework.info.clone()).collect(),
            self.tasks
                .values()
                .map(|task| (*task.task).clone())
                .collect(),
            executors.cloned().collect(),
        )
    }

    /// Everything is gone.
    pub(crate) fn clear(&mut self, scene: &mut Scene<'_>) {
        scene.report.tasks_now -= self.tasks.len() as u64;
        *self = Self::default();
    }

    /// A task comes into another state; `false` if it has ended before, or is not here.
    fn change(&mut self, key: &Key, state: TaskState, cause: Cause, scene: &mut Scene<'_>) -> bool {
        let Some(task) = self.tasks.get_mut(key) else {
            return false;
        };
        if is_terminal(task.task.state()) {
            return false;
        }
        self.told = None;
        task.task.set_state(state);
        task.pending.push_back(task.update(state, cause, scene));
        if task.pending.len() == 1 {
            self.send(key, scene);
        }
        true
    }

    fn send_pending(&mut self, wanted: impl Fn(&Key) -> bool, scene: &mut Scene<'_>) {
        let waiting = self
            .tasks
            .iter()
            .filter(|(_, task)| !task.pending.is_empty());
        let keys: Vec<Key> = waiting.map(|(key, _)| key.clone()).filter(wanted).collect();
        for key in keys {
            self.send(&key, scene);
        }
    }

    /// The oldest update of a task, with the state that it is in by now.
    fn send(&mut self, key: &Key, scene: &mut Scene<'_>) {
        let Some(task) = self.tasks.get_mut(key).filter(|_| self.open) else {
            return;
        };
        let Some(mut update) = task.pending.front().cloned() else {
            return;
        };
        update.latest_state = Some(task.task.state);
        task.retry = task.retry.wrapping_add(1);
        scene.report.updates += 1;
        let pid = Some(scene.pid().to_string());
        scene.send(i::StatusUpdateMessage { update, pid });
        scene.set(task.wait, Timer::Retry(key.clone(), task.retry));
    }

    /// A task has ended and everybody knows. A framework's own executor ends after its last task.
    fn forget(&mut self, key: &Key, scene: &mut Scene<'_>) {
        self.told = None;
        let Some(task) = self.tasks.remove(key) else {
            return;
        };
        scene.report.tasks_now -= 1;
        let executor = task
            .task
            .executor_id
            .as_ref()
            .filter(|_| task.own_executor)
            .map(ExecutorId::from);
        let framework = &key.0;
        let mut others = self
            .tasks
            .iter()
            .filter(|((id, _), _)| id == framework)
            .peekable();
        let last = others.peek().is_none();
        if let Some(executor) = executor {
            let used = others.any(|(_, task)| {
                task.task
                    .executor_id
                    .as_ref()
                    .is_some_and(|id| id.value == executor.as_str())
            });
            if !used {
                self.end_executor(framework, &executor, scene);
            }
        }
        if last {
            self.frameworks.remove(framework);
        }
    }

    fn end_executor(
        &mut self,
        framework: &FrameworkId,
        executor: &ExecutorId,
        scene: &mut Scene<'_>,
    ) {
        self.told = None;
        let known = self.frameworks.get_mut(framework);
        if known
            .and_then(|known| known.executors.remove(executor))
            .is_none()
        {
            return;
        }
        if let Some(slave_id) = scene.own_id.clone() {
            scene.send(i::ExitedExecutorMessage {
                slave_id,
                framework_id: framework.to_proto(),
                executor_id: executor.to_proto(),
                status: 0,
            });
        }
    }
}

/// Why a task is in its state, where the state alone does not say.
#[derive(Clone, Copy)]
enum Cause {
    None,
    ExecutorEnded,
    Unknown,
}

impl Task {
    fn update(&self, state: TaskState, cause: Cause, scene: &mut Scene<'_>) -> i::StatusUpdate {
        let uuid = uuid_bytes(scene.rng);
        let timestamp = scene.now.seconds();
        let agent = scene.own_id.clone();
        // A command task's executor is named after it.
        let executor_id = self
            .task
            .executor_id
            .clone()
            .unwrap_or_else(|| v1::ExecutorId {
                value: self.task.task_id.value.clone(),
            });
        let (source, reason, message) = match cause {
            Cause::None => (Source::Executor, None, None),
            Cause::ExecutorEnded => (
                Source::Agent,
                Some(Reason::ExecutorTerminated),
                Some("Executor terminated"),
            ),
            Cause::Unknown => (
                Source::Agent,
                Some(Reason::Reconciliation),
                Some("Reconciliation: task unknown to the agent"),
            ),
        };
        i::StatusUpdate {
            framework_id: self.task.framework_id.clone(),
            executor_id: Some(executor_id.clone()),
            slave_id: agent.clone(),
            status: v1::TaskStatus {
                task_id: self.task.task_id.clone(),
                state: state.into(),
                source: Some(source.into()),
                reason: reason.map(Into::into),
                message: message.map(str::to_owned),
                agent_id: agent,
                executor_id: Some(executor_id),
                timestamp: Some(timestamp),
                uuid: Some(uuid.clone()),
                container_status: Some(network_of(scene)),
                ..Default::default()
            },
            timestamp,
            uuid: Some(uuid),
            latest_state: None,
        }
    }
}

/// Frameworks look here for the address of a task.
fn network_of(scene: &Scene<'_>) -> v1::ContainerStatus {
    let address = v1::network_info::IpAddress {
        ip_address: Some(scene.pid().address.ip().to_string()),
        ..Default::default()
    };
    v1::ContainerStatus {
        network_infos: vec![v1::NetworkInfo {
            ip_addresses: vec![address],
            ..Default::default()
        }],
        ..Default::default()
    }
}

fn new_task(
    info: v1::TaskInfo,
    framework: &FrameworkId,
    executor_id: Option<v1::ExecutorId>,
) -> v1::Task {
    let user = info.command.and_then(|command| command.user);
    v1::Task {
        name: info.name,
        task_id: info.task_id,
        framework_id: framework.to_proto(),
        executor_id,
        agent_id: info.agent_id,
        state: TaskState::TaskStaging.into(),
        resources: info.resources,
        labels: info.labels,
        discovery: info.discovery.map(Box::new),
        container: info.container.map(Box::new),
        health_check: info.health_check.map(Box::new),
        kill_policy: info.kill_policy,
        limits: info.limits,
        user,
        ..Default::default()
    }
}

/// What a task needs that somebody else has launched: little.
fn small() -> Vec<v1::Resource> {
    let amounts = [("cpus", 0.01), ("mem", 1.0)].into_iter();
    let resource = |(name, value): (&str, f64)| v1::Resource {
        name: name.to_owned(),
        r#type: v1::value::Type::Scalar.into(),
        scalar: Some(v1::value::Scalar { value }),
        allocation_info: Some(v1::resource::AllocationInfo {
            role: Some("*".to_owned()),
        }),
        ..Default::default()
    };
    amounts.map(resource).collect()
}

/// A random identity, as bytes.
pub(crate) fn uuid_bytes(rng: &mut Rng) -> Bytes {
    Bytes::copy_from_slice(rng.uuid().as_bytes())
}
