//! The task status update manager: one stream per task, in order, each update sent to the leader
//! again and again until it is acknowledged. Follows `src/slave/task_status_update_manager.cpp` and
//! the `statusUpdate` chain of `src/slave/slave.cpp`.

use crate::{
    Follower, Phase,
    config::{UPDATE_RETRY_MAX, UPDATE_RETRY_MIN},
    io::{Checkpoint, Effect, Effects, Level},
    log,
    state::{Executor, ExecutorKey, TaskUpdateError, id_proto},
    timers::Timer,
    uuid_bytes,
    view::ExecutorState,
    volumes, warn,
};
use bytes::Bytes;
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};
use tepui_model::{
    ExecutorId, FollowerId, FrameworkId, TaskId,
    container::ContainerId,
    planted::{Planted, planted},
    tasks::is_terminal,
};
use tepui_protocol::{
    internal as i,
    peer::Pid,
    v1::{
        self, TaskState,
        executor::{Event, event},
        task_status::{Reason, Source},
    },
};

/// All streams, by framework and task.
#[derive(Debug, Default)]
pub(crate) struct Updates {
    streams: BTreeMap<(FrameworkId, TaskId), Stream>,
    paused: bool,
}

/// Updates of one task.
#[derive(Debug, Default)]
struct Stream {
    /// Not acknowledged, oldest first; only the first is ever sent.
    pending: VecDeque<Arc<i::StatusUpdate>>,
    /// Identities of all updates ever put in.
    received: BTreeSet<Bytes>,
    /// How long the running retry timer was set for.
    wait: Duration,
}

/// What became of an acknowledgement.
#[derive(Debug, PartialEq, Eq)]
enum Acknowledged {
    /// The stream goes on.
    Open,
    /// It was the terminal update: the stream is gone.
    Closed,
    /// It names another update than the one that waits, or no stream.
    Unexpected,
}

impl Updates {
    /// Number of streams.
    pub(crate) fn len(&self) -> usize {
        self.streams.len()
    }
    pub(crate) fn check(&self) {
        for ((framework, task), stream) in &self.streams {
            for update in &stream.pending {
                assert_eq!(update.framework_id.value, framework.as_str());
                assert_eq!(update.status.task_id.value, task.as_str());
                let uuid = update.uuid.as_ref().expect("update without uuid");
                assert!(stream.received.contains(uuid));
            }
        }
    }
    /// Puts an update in; `false` when it is a duplicate.
    fn push(&mut self, key: (FrameworkId, TaskId), update: Arc<i::StatusUpdate>) -> bool {
        let stream = self.streams.entry(key).or_default();
        let fresh = stream
            .received
            .insert(update.uuid.clone().unwrap_or_default());
        if fresh {
            stream.pending.push_back(update);
        }
        fresh
    }
    /// Whether an update with this identity was ever put in, as long as the stream exists.
    fn has_received(&self, key: &(FrameworkId, TaskId), update: &i::StatusUpdate) -> bool {
        let uuid = update.uuid.as_ref();
        self.streams
            .get(key)
            .zip(uuid)
            .is_some_and(|(stream, uuid)| stream.received.contains(uuid))
    }
    /// Puts a stream back as it was before a restart.
    pub(crate) fn restore(
        &mut self,
        key: (FrameworkId, TaskId),
        updates: Vec<i::StatusUpdate>,
        acknowledged: &BTreeSet<Bytes>,
    ) {
        for update in updates {
            let uuid = update.uuid.clone().unwrap_or_default();
            if planted(Planted::ForgetsUpdates) && !acknowledged.contains(&uuid) {
                continue;
            }
            let fresh = self.push(key.clone(), Arc::new(update));
            if fresh && acknowledged.contains(&uuid) {
                self.acknowledge(&key, &uuid);
            }
        }
    }
    fn acknowledge(&mut self, key: &(FrameworkId, TaskId), uuid: &Bytes) -> Acknowledged {
        let Some(stream) = self.streams.get_mut(key) else {
            return Acknowledged::Unexpected;
        };
        let waits = stream.pending.front().and_then(|u| u.uuid.as_ref());
        if waits != Some(uuid) && !planted(Planted::TrustsAcknowledgements) {
            return Acknowledged::Unexpected;
        }
        match stream.pending.pop_front() {
            Some(update) if is_terminal(update.status.state()) => {
                self.streams.remove(key);
                Acknowledged::Closed
            }
            _ => Acknowledged::Open,
        }
    }
    /// Whether something of a task has not been acknowledged.
    pub(crate) fn awaits(&self, framework: &FrameworkId, task: &TaskId) -> bool {
        let stream = self.streams.get(&(framework.clone(), task.clone()));
        stream.is_some_and(|stream| !stream.pending.is_empty())
    }
    /// Streams of a framework.
    fn of(&self, framework: &FrameworkId) -> Vec<(FrameworkId, TaskId)> {
        let from = (framework.clone(), TaskId::from(""));
        let keys = self.streams.range(from..).map(|(key, _)| key);
        keys.take_while(|(id, _)| id == framework)
            .cloned()
            .collect()
    }
    fn front(&self, key: &(FrameworkId, TaskId)) -> Option<Arc<i::StatusUpdate>> {
        self.streams.get(key)?.pending.front().cloned()
    }
}

/// Who an update comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// This follower.
    Follower,
    /// An executor, which hears of it when the update is safe.
    Executor,
    /// A v0 driver. It hears of it, whichever executor the task belongs to: a driver sends an update
    /// until that is acknowledged.
    Driver(Pid),
}

/// What this follower has to say of a task.
#[derive(Debug, Clone)]
pub(crate) struct AgentStatus {
    pub(crate) task: TaskId,
    pub(crate) state: TaskState,
    pub(crate) reason: Reason,
    pub(crate) message: String,
    pub(crate) executor: Option<ExecutorId>,
}

impl Follower {
    /// An update of this follower's own.
    pub(crate) fn agent_update(
        &mut self,
        framework: &FrameworkId,
        status: AgentStatus,
    ) -> i::StatusUpdate {
        let uuid = uuid_bytes(&mut self.rng);
        let own = id_proto(self.id.as_ref());
        let timestamp = self.now.seconds();
        let executor_id = status.executor.as_ref().map(ExecutorId::to_proto);
        i::StatusUpdate {
            framework_id: framework.to_proto(),
            executor_id: executor_id.clone(),
            slave_id: Some(own.clone()),
            status: v1::TaskStatus {
                task_id: status.task.to_proto(),
                state: status.state.into(),
                message: Some(status.message),
                source: Some(Source::Agent.into()),
                reason: Some(status.reason.into()),
                agent_id: Some(own),
                executor_id,
                timestamp: Some(timestamp),
                uuid: Some(uuid.clone()),
                ..Default::default()
            },
            timestamp,
            uuid: Some(uuid),
            latest_state: None,
        }
    }

    /// Reports a status of this follower's own.
    pub(crate) fn report(
        &mut self,
        framework: &FrameworkId,
        status: AgentStatus,
        fx: &mut Effects,
    ) {
        let update = self.agent_update(framework, status);
        self.status_update(update, Origin::Follower, fx);
    }

    /// An update from an executor, from the status it sent (`createStatusUpdate` in
    /// `src/common/protobuf_utils.cpp`). What the executor left out stays out, its id included.
    pub(crate) fn executor_update(
        &self,
        framework: &FrameworkId,
        mut status: v1::TaskStatus,
    ) -> i::StatusUpdate {
        let own = id_proto(self.id.as_ref());
        status.agent_id.get_or_insert_with(|| own.clone());
        i::StatusUpdate {
            framework_id: framework.to_proto(),
            executor_id: status.executor_id.clone(),
            slave_id: Some(own),
            timestamp: status.timestamp.unwrap_or_else(|| self.now.seconds()),
            uuid: status.uuid.clone(),
            status,
            latest_state: None,
        }
    }

    /// Takes an update in: into the task, into its stream, and back to its executor.
    pub(crate) fn status_update(
        &mut self,
        mut update: i::StatusUpdate,
        origin: Origin,
        fx: &mut Effects,
    ) {
        let framework_id = FrameworkId::from(&update.framework_id);
        let task = TaskId::from(&update.status.task_id);
        if let Err(why) = self.check_update(&update, &framework_id) {
            self.counters.invalid_status_updates += 1;
            return warn(
                fx,
                format!("Ignoring an update of task {task} of framework {framework_id}: {why}"),
            );
        }
        update.status.uuid = update.uuid.clone();
        self.mark_drained(&framework_id, &mut update.status);
        update.status.source = Some(
            if origin == Origin::Follower {
                Source::Agent
            } else {
                Source::Executor
            }
            .into(),
        );
        if update.executor_id.is_some() {
            update.status.executor_id = update.executor_id.clone();
        }
        let executor = self
            .frameworks
            .get(&framework_id)
            .and_then(|f| f.tasks.get(&task))
            .cloned();
        let Some(executor) = executor else {
            self.counters.valid_status_updates += 1;
            if let Some(key) = self.heard_before(&framework_id, &task, &update) {
                return self.acknowledge_executor(&key, &update, origin, fx);
            }
            if let Origin::Driver(pid) = &origin {
                self.acknowledge_driver(pid, &update, fx);
            }
            return self.enqueue_update(update, fx);
        };
        let key = (framework_id, executor);
        if origin != Origin::Follower {
            if update.status.state() == TaskState::TaskStaging {
                warn(
                    fx,
                    format!("Executor {} sent TASK_STAGING, which is not allowed", key.1),
                );
                return self.shutdown_executor(&key, fx);
            }
            if let Some(executor) = self.executor(&key) {
                complete_container_status(executor, &self.pid, &mut update.status);
            }
        }
        self.counters.valid_status_updates += 1;
        self.apply_update(&key, update, origin, fx);
    }

    fn check_update(
        &self,
        update: &i::StatusUpdate,
        framework: &FrameworkId,
    ) -> Result<(), String> {
        match &update.uuid {
            None => return Err("it has no 'uuid'".to_owned()),
            Some(uuid) if uuid.len() != 16 => return Err("its 'uuid' is none".to_owned()),
            Some(_) => {}
        }
        let own = self.id.as_ref().map(FollowerId::as_str);
        for id in [&update.slave_id, &update.status.agent_id] {
            let received = id.as_ref().map(|id| id.value.as_str());
            if received != own {
                return Err(format!("it names agent '{}'", received.unwrap_or_default()));
            }
        }
        match self.frameworks.get(framework) {
            None => Err("the framework is unknown".to_owned()),
            Some(f) if f.terminating => Err("the framework is terminating".to_owned()),
            Some(_) => Ok(()),
        }
    }

    fn apply_update(
        &mut self,
        key: &ExecutorKey,
        update: i::StatusUpdate,
        origin: Origin,
        fx: &mut Effects,
    ) {
        let task = TaskId::from(&update.status.task_id);
        if self
            .updates
            .has_received(&(key.0.clone(), task.clone()), &update)
        {
            log(
                fx,
                Level::Debug,
                format!("Ignoring a duplicate update of task {task}"),
            );
        } else {
            self.apply_fresh_update(key, update.clone(), fx);
        }
        self.acknowledge_executor(key, &update, origin, fx);
    }

    /// The executor under which a task has ended with this very update, which the framework has
    /// acknowledged: its sender has missed that it was safe. (The reference forwards it once more.)
    fn heard_before(
        &self,
        framework: &FrameworkId,
        task: &TaskId,
        update: &i::StatusUpdate,
    ) -> Option<ExecutorKey> {
        let ended_so = |t: &v1::Task| {
            t.task_id.value == task.as_str() && t.statuses.iter().any(|s| s.uuid == update.uuid)
        };
        // Only where it says of which executor: looking through all of them would cost others.
        let executor = ExecutorId::from(update.executor_id.as_ref()?);
        let executors = &self.frameworks.get(framework)?.executors;
        if !executors
            .get(&executor)?
            .completed
            .iter()
            .any(|t| ended_so(t))
        {
            return None;
        }
        Some((framework.clone(), executor))
    }

    /// Tells whoever sent an update that it is safe.
    fn acknowledge_executor(
        &self,
        key: &ExecutorKey,
        update: &i::StatusUpdate,
        origin: Origin,
        fx: &mut Effects,
    ) {
        let status = update.status.clone();
        match origin {
            Origin::Follower => {}
            Origin::Driver(pid) => self.acknowledge_driver(&pid, update, fx),
            Origin::Executor => {
                let acknowledged = event::Acknowledged {
                    task_id: status.task_id,
                    uuid: status.uuid.unwrap_or_default(),
                };
                let event = Event {
                    r#type: Some(event::Type::Acknowledged.into()),
                    acknowledged: Some(acknowledged),
                    ..Default::default()
                };
                self.send_executor(key, event, fx);
            }
        }
    }

    fn apply_fresh_update(&mut self, key: &ExecutorKey, update: i::StatusUpdate, fx: &mut Effects) {
        let state = update.status.state();
        let Some(executor) = self.executor_mut(key) else {
            return;
        };
        match executor.apply(&update.status, &key.0) {
            Ok(()) => {
                if is_terminal(state) {
                    self.counters.task_ended(state);
                }
                if planted(Planted::ReportsBeforeDurable) {
                    self.enqueue_update(update.clone(), fx);
                    return self.persist_update(key, &update, fx);
                }
                let task = TaskId::from(&update.status.task_id);
                self.persist_update(key, &update, fx);
                self.enqueue_update(update, fx);
                let ended = self.executor(key).and_then(|e| e.terminated.get(&task));
                if ended.is_some_and(|task| volumes::any(&task.resources)) {
                    self.settle_volumes(key, fx);
                }
            }
            // The reference takes such an update for handled: the executor need not send it again,
            // and the framework has heard of the end already.
            Err(why) => {
                let why = match why {
                    TaskUpdateError::NotTerminal => "it is still queued",
                    TaskUpdateError::Terminated => "it has ended already",
                    TaskUpdateError::Unknown => "it is unknown",
                };
                let task = &update.status.task_id.value;
                warn(
                    fx,
                    format!("Task {task} cannot become {}: {why}", state.as_str_name()),
                );
            }
        }
    }

    /// Makes an update of a checkpointing framework durable. The copy says which executor and which
    /// container it belongs to, even where the update itself leaves that out: its file lies there.
    fn persist_update(&self, key: &ExecutorKey, update: &i::StatusUpdate, fx: &mut Effects) {
        let framework = self.frameworks.get(&key.0).filter(|f| f.checkpoint());
        let Some(executor) = framework.and_then(|f| f.executors.get(&key.1)) else {
            return;
        };
        let mut update = update.clone();
        update
            .executor_id
            .get_or_insert_with(|| executor.id.to_proto());
        let container = update.status.container_status.get_or_insert_default();
        container
            .container_id
            .get_or_insert_with(|| executor.container.to_proto());
        fx.push(Effect::Persist(Checkpoint::StatusUpdate(Box::new(update))));
    }

    /// Puts an update into its stream and sends it if it is the first there.
    pub(crate) fn enqueue_update(&mut self, update: i::StatusUpdate, fx: &mut Effects) {
        let key = (
            FrameworkId::from(&update.framework_id),
            TaskId::from(&update.status.task_id),
        );
        let fresh = self.updates.push(key.clone(), Arc::new(update));
        if !fresh {
            return log(
                fx,
                Level::Debug,
                format!("Ignoring a duplicate update of task {}", key.1),
            );
        }
        self.send_next(&key, true, fx);
    }

    /// Sends the first update of a stream, `only` if it is the only one.
    fn send_next(&mut self, key: &(FrameworkId, TaskId), only: bool, fx: &mut Effects) {
        let stream = self.updates.streams.get(key);
        if only && stream.is_none_or(|stream| stream.pending.len() != 1) {
            return;
        }
        if !self.updates.paused {
            return self.forward(key, UPDATE_RETRY_MIN, fx);
        }
        if let Some(update) = self.updates.front(key) {
            self.announce(key, &update);
        }
    }

    /// A task is said to be in the state that its framework hears of next: a leader with which this
    /// follower registers meanwhile must not tell it of a later one. (In the reference it is the latest
    /// one that was sent.) What the task truly is.
    fn announce(&mut self, key: &(FrameworkId, TaskId), update: &i::StatusUpdate) -> Option<i32> {
        let executor = self.frameworks.get(&key.0)?.tasks.get(&key.1).cloned()?;
        let executor = self.executor_mut(&(key.0.clone(), executor))?;
        let latest = executor.task(&key.1).map(|task| task.state);
        executor.edit_task(&key.1, |task| {
            task.status_update_state = Some(update.status.state);
            task.status_update_uuid = update.uuid.clone();
        });
        latest
    }

    /// Sends the first update of a stream and sets its retry timer.
    fn forward(&mut self, key: &(FrameworkId, TaskId), wait: Duration, fx: &mut Effects) {
        let Some(update) = self.updates.front(key) else {
            return;
        };
        if let Some(stream) = self.updates.streams.get_mut(key) {
            stream.wait = wait;
        }
        self.timers.set(
            Timer::UpdateRetry(key.0.clone(), key.1.clone()),
            self.now + wait,
        );
        if self.phase != Phase::Running {
            self.announce(key, &update);
            return;
        }
        let mut update = (*update).clone();
        update.latest_state = self.announce(key, &update);
        let message = i::StatusUpdateMessage {
            update,
            pid: Some(self.pid.to_string()),
        };
        self.send_leader(message, fx);
    }

    pub(crate) fn retry_update(
        &mut self,
        framework: &FrameworkId,
        task: &TaskId,
        fx: &mut Effects,
    ) {
        let key = (framework.clone(), task.clone());
        if self.updates.paused || planted(Planted::NeverRetries) {
            return;
        }
        let Some(stream) = self.updates.streams.get(&key) else {
            return;
        };
        let wait = (stream.wait * 2).min(UPDATE_RETRY_MAX);
        self.forward(&key, wait, fx);
    }

    /// Nobody can hear us: keep updates back.
    pub(crate) fn pause_updates(&mut self) {
        self.updates.paused = true;
        for (framework, task) in self.updates.streams.keys() {
            self.timers
                .cancel(&Timer::UpdateRetry(framework.clone(), task.clone()));
        }
    }

    /// Sends the first update of every stream again.
    pub(crate) fn resume_updates(&mut self, fx: &mut Effects) {
        self.updates.paused = false;
        let keys: Vec<_> = self.updates.streams.keys().cloned().collect();
        for key in keys {
            self.forward(&key, UPDATE_RETRY_MIN, fx);
        }
    }

    /// Sends the first update of every stream of a framework again. (The reference does so for all
    /// frameworks when one comes back.)
    pub(crate) fn resend_updates(&mut self, framework: &FrameworkId, fx: &mut Effects) {
        if self.updates.paused {
            return;
        }
        for key in self.updates.of(framework) {
            self.forward(&key, UPDATE_RETRY_MIN, fx);
        }
    }

    /// A framework is gone: nobody will acknowledge its updates.
    pub(crate) fn drop_updates(&mut self, framework: &FrameworkId) {
        for key in self.updates.of(framework) {
            self.updates.streams.remove(&key);
            self.timers.cancel(&Timer::UpdateRetry(key.0, key.1));
        }
    }

    pub(crate) fn acknowledgement(
        &mut self,
        from: &Pid,
        message: i::StatusUpdateAcknowledgementMessage,
        fx: &mut Effects,
    ) {
        // v0 drivers acknowledge directly; the leader must be ours.
        if from.name.starts_with("master") && !self.is_leader(from, "acknowledgement", fx) {
            return;
        }
        if from.name.starts_with("master") && self.phase != Phase::Running {
            return warn(
                fx,
                "Ignoring an acknowledgement: the follower is not registered".to_owned(),
            );
        }
        let key = (
            FrameworkId::from(&message.framework_id),
            TaskId::from(&message.task_id),
        );
        let result = self.updates.acknowledge(&key, &message.uuid);
        if result == Acknowledged::Unexpected {
            return warn(
                fx,
                format!(
                    "Unexpected acknowledgement for task {} of framework {}",
                    key.1, key.0
                ),
            );
        }
        self.keep_acknowledgement(&key.0, &key.1, &message.uuid, fx);
        self.timers
            .cancel(&Timer::UpdateRetry(key.0.clone(), key.1.clone()));
        if result == Acknowledged::Open {
            self.send_next(&key, false, fx);
        }
        self.acknowledged(&key.0, &key.1, result == Acknowledged::Closed, fx);
    }

    /// Lets go of what only waited for an acknowledgement.
    fn acknowledged(
        &mut self,
        framework: &FrameworkId,
        task: &TaskId,
        closed: bool,
        fx: &mut Effects,
    ) {
        let executor = self
            .frameworks
            .get(framework)
            .and_then(|f| f.tasks.get(task))
            .cloned();
        let Some(executor) = executor else { return };
        let key = (framework.clone(), executor);
        let Some(executor) = self.executor_mut(&key) else {
            return;
        };
        if closed && executor.terminated.contains_key(task) {
            executor.complete(task);
            if let Some(framework) = self.frameworks.get_mut(framework) {
                framework.tasks.remove(task);
            }
        }
        self.remove_executor_if_done(&key, fx);
    }

    /// Sends an event to an executor that listens; events for others are lost, as in the reference.
    pub(crate) fn send_executor(&self, key: &ExecutorKey, event: Event, fx: &mut Effects) {
        match self.executor(key).and_then(|e| e.connection.clone()) {
            Some(to) => self.send_to(&to, key, event, fx),
            None => {
                let kind = event.r#type().as_str_name();
                log(
                    fx,
                    Level::Debug,
                    format!("No {kind} to executor {}: it is not connected", key.1),
                );
            }
        }
    }
}

/// Fills in where the task runs. An executor with nested containers has said which one already.
fn complete_container_status(executor: &Executor, pid: &Pid, status: &mut v1::TaskStatus) {
    if executor.state == ExecutorState::Terminated
        || !executor
            .launched
            .contains_key(status.task_id.value.as_str())
    {
        return;
    }
    let container = status.container_status.get_or_insert_default();
    let id = container
        .container_id
        .get_or_insert_with(|| executor.container.to_proto());
    let id = ContainerId::from(&*id);
    let process = if id == executor.container {
        executor.pid
    } else {
        executor.nested_pids.get(&id).copied()
    };
    container.executor_pid = container.executor_pid.or(process);
    if container.network_infos.is_empty() {
        container.network_infos.push(v1::NetworkInfo {
            ip_addresses: vec![v1::network_info::IpAddress {
                ip_address: Some(pid.address.ip().to_string()),
                ..Default::default()
            }],
            ..Default::default()
        });
    }
}
