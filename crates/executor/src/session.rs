//! What both executors share: the subscription, the status updates that await acknowledgement, and
//! the end.
//!
//! An update stays here until the follower acknowledges it and is repeated with every SUBSCRIBE
//! (`docs/executor-http-api.md`, `src/launcher/executor.cpp`).

use crate::{
    Settings,
    io::{Effect, Effects, ProbeId},
};
use indexmap::IndexMap;
use std::time::Duration;
use tepui_model::{Rng, Time, container::ContainerId, container::ExitStatus};
use tepui_protocol::v1::{
    self, TaskState,
    executor::{Call, call, event},
    framework_info::capability,
    task_status,
};

/// Between two attempts to subscribe.
const SUBSCRIBE_RETRY: Duration = Duration::from_secs(1);

/// How long an executor whose tasks have ended waits for acknowledgements.
const ACKNOWLEDGEMENT_PATIENCE: Duration = Duration::from_secs(60);

/// Identity, subscription and unacknowledged updates of an executor.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) settings: Settings,
    /// Time of the input that is being handled.
    pub(crate) now: Time,
    rng: Rng,
    subscription: Subscription,
    agent: Option<v1::AgentId>,
    /// Whether the framework wants to see TASK_KILLING.
    sees_killing: bool,
    /// In the order sent, by UUID.
    updates: IndexMap<Vec<u8>, call::Update>,
    /// Containers of tasks whose end is not acknowledged yet, if they outlive the follower; by the
    /// task's id.
    ended: IndexMap<String, ContainerId>,
    /// All tasks have ended; when the wait for acknowledgements is over, and the status to exit with then.
    draining: Option<(Time, ExitStatus)>,
    exited: bool,
    probes: u64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Subscription {
    None,
    Sent { retry: Time },
    Subscribed,
}

/// What became of an acknowledgement.
#[derive(Debug, PartialEq)]
pub(crate) struct Acknowledged {
    pub(crate) task: v1::TaskId,
    pub(crate) terminal: bool,
}

impl Session {
    pub(crate) fn new(settings: Settings, rng: Rng) -> Self {
        Self {
            settings,
            now: Time::default(),
            rng,
            subscription: Subscription::None,
            agent: None,
            sees_killing: false,
            updates: IndexMap::new(),
            ended: IndexMap::new(),
            draining: None,
            exited: false,
            probes: 0,
        }
    }

    pub(crate) fn begin(&mut self, now: Time) {
        self.now = self.now.max(now);
    }

    pub(crate) fn exited(&self) -> bool {
        self.exited
    }

    pub(crate) fn is_subscribed(&self) -> bool {
        self.subscription == Subscription::Subscribed
    }

    pub(crate) fn sees_killing(&self) -> bool {
        self.sees_killing
    }

    /// A container id for a task, nested in the executor's.
    pub(crate) fn nested_container(&mut self) -> ContainerId {
        let id = self.rng.uuid().to_string();
        self.settings.container.nested(id)
    }

    /// A container id for a command check of `task`.
    pub(crate) fn check_container(&mut self, task: &ContainerId) -> ContainerId {
        let id = format!("check-{}", self.rng.uuid());
        task.nested(id)
    }

    pub(crate) fn next_probe(&mut self) -> ProbeId {
        self.probes += 1;
        ProbeId(self.probes)
    }

    pub(crate) fn connected(&mut self, tasks: Vec<v1::TaskInfo>, effects: &mut Effects) {
        self.subscription = Subscription::Sent {
            retry: self.now + SUBSCRIBE_RETRY,
        };
        let subscribe = call::Subscribe {
            unacknowledged_tasks: tasks,
            unacknowledged_updates: self.updates.values().cloned().collect(),
        };
        let call = Call {
            subscribe: Some(subscribe),
            ..self.new_call(call::Type::Subscribe)
        };
        effects.push(Effect::Call(Box::new(call)));
    }

    pub(crate) fn retry_subscribe(
        &mut self,
        tasks: impl FnOnce() -> Vec<v1::TaskInfo>,
        effects: &mut Effects,
    ) {
        if matches!(self.subscription, Subscription::Sent { retry } if retry <= self.now) {
            self.connected(tasks(), effects);
        }
    }

    pub(crate) fn subscribed(&mut self, event: event::Subscribed) {
        self.subscription = Subscription::Subscribed;
        let killing = capability::Type::TaskKillingState as i32;
        self.sees_killing = event
            .framework_info
            .capabilities
            .iter()
            .any(|c| c.r#type == Some(killing));
        self.agent = event.agent_info.id;
    }

    /// A status of `task` from scratch.
    pub(crate) fn new_status(&mut self, task: &v1::TaskId, state: TaskState) -> v1::TaskStatus {
        v1::TaskStatus {
            task_id: task.clone(),
            state: state as i32,
            source: Some(task_status::Source::Executor as i32),
            agent_id: self.agent.clone(),
            executor_id: Some(self.settings.executor.to_proto()),
            ..Default::default()
        }
    }

    /// Stamps a status, keeps it until it is acknowledged and sends it. Returns it as sent.
    pub(crate) fn send(
        &mut self,
        mut status: v1::TaskStatus,
        effects: &mut Effects,
    ) -> v1::TaskStatus {
        let uuid = self.rng.uuid().as_bytes().to_vec();
        status.uuid = Some(uuid.clone().into());
        status.timestamp = Some(self.now.seconds());
        let update = call::Update {
            status: status.clone(),
        };
        self.updates.insert(uuid, update.clone());
        // Before SUBSCRIBED, and while the follower is away, the update waits for the next SUBSCRIBE.
        if self.is_subscribed() {
            let call = Call {
                update: Some(update),
                ..self.new_call(call::Type::Update)
            };
            effects.push(Effect::Call(Box::new(call)));
        }
        status
    }

    /// The follower has taken an update, durably. `None`: it was none of ours, or a repetition.
    pub(crate) fn acknowledged(
        &mut self,
        uuid: &[u8],
        effects: &mut Effects,
    ) -> Option<Acknowledged> {
        let status = self.updates.shift_remove(uuid)?.status;
        let terminal = is_terminal(status.state);
        if terminal && let Some(container) = self.ended.shift_remove(&status.task_id.value) {
            effects.push(Effect::Forget { container });
        }
        Some(Acknowledged {
            terminal,
            task: status.task_id,
        })
    }

    /// This task is over, and so is its container, which is to be forgotten once that is taken over.
    pub(crate) fn ended(&mut self, task: &v1::TaskId, container: &ContainerId) {
        if self.settings.outlives {
            self.ended.insert(task.value.clone(), container.clone());
        }
    }

    pub(crate) fn all_acknowledged(&self) -> bool {
        self.updates.is_empty()
    }

    /// All work is done: exit once every update is acknowledged, with `late` if that takes too long.
    pub(crate) fn drain(&mut self, late: ExitStatus) {
        self.draining = Some((self.now + ACKNOWLEDGEMENT_PATIENCE, late));
    }

    /// There is work again.
    pub(crate) fn resume(&mut self) {
        self.draining = None;
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.is_some()
    }

    /// Exits if the wait for acknowledgements is over.
    pub(crate) fn tick(&mut self, effects: &mut Effects) {
        if let Some((deadline, late)) = self.draining
            && deadline <= self.now
        {
            self.exit(late, effects);
        }
    }

    pub(crate) fn exit(&mut self, status: ExitStatus, effects: &mut Effects) {
        if !self.exited {
            self.exited = true;
            effects.push(Effect::Exit(status));
        }
    }

    pub(crate) fn next_deadline(&self) -> Option<Time> {
        let retry = match self.subscription {
            Subscription::Sent { retry } => Some(retry),
            Subscription::None | Subscription::Subscribed => None,
        };
        let draining = self.draining.map(|(deadline, _)| deadline);
        [retry, draining].into_iter().flatten().min()
    }

    pub(crate) fn check(&self) {
        let mut ended: Vec<&str> = Vec::new();
        for update in self
            .updates
            .values()
            .filter(|u| is_terminal(u.status.state))
        {
            let task = update.status.task_id.value.as_str();
            assert!(
                !ended.contains(&task),
                "two terminal updates for task {task}"
            );
            ended.push(task);
        }
    }

    fn new_call(&self, kind: call::Type) -> Call {
        Call {
            executor_id: self.settings.executor.to_proto(),
            framework_id: self.settings.framework.to_proto(),
            r#type: Some(kind as i32),
            ..Default::default()
        }
    }
}

/// Whether a task in this state is over (`src/common/protobuf_utils.cpp`). Unknown states are not.
pub(crate) fn is_terminal(state: i32) -> bool {
    use TaskState::*;
    matches!(
        TaskState::try_from(state),
        Ok(TaskFinished
            | TaskFailed
            | TaskKilled
            | TaskError
            | TaskLost
            | TaskDropped
            | TaskGone
            | TaskGoneByOperator)
    )
}
