//! Status updates: from followers to frameworks, their acknowledgements back, and the leader's own.
//!
//! Follows `Master::statusUpdate`, `forward`, `updateTask`, `acknowledge` in
//! `src/master/master.cpp`; what clients may rely on is in `docs/task-state-reasons.md`. Only
//! updates with a UUID want an acknowledgement; the leader's own have none.

use crate::{Leader, Level, driver::Hint, metrics::ended_counter, state::holds_resources};
use bytes::Bytes;
use std::sync::Arc;
use tepui_model::{
    FollowerId, FrameworkId, TaskId, Time,
    planted::{Planted, planted},
    tasks::{TaskState, is_terminal},
};
use tepui_protocol::{
    internal,
    peer::Pid,
    v1::{
        self,
        scheduler::{self, call, event},
        task_status::{Reason, Source},
    },
};

/// Why the leader says something about a task.
#[derive(Debug, Clone)]
pub(crate) struct Cause {
    pub(crate) reason: Reason,
    pub(crate) message: String,
}

impl Cause {
    pub(crate) fn new(reason: Reason, message: String) -> Self {
        Self { reason, message }
    }
}

/// An update in the form frameworks get it.
#[derive(Debug, Clone)]
pub(crate) struct Update {
    pub(crate) status: v1::TaskStatus,
    /// State of the task as its follower knows it, when it is ahead of this update.
    pub(crate) latest_state: Option<TaskState>,
}

impl Update {
    /// The leader's own word about a task it may not know.
    pub(crate) fn new(
        task: &v1::TaskId,
        at: Option<&v1::AgentId>,
        state: TaskState,
        cause: &Cause,
        now: Time,
    ) -> Self {
        let mut status = v1::TaskStatus {
            task_id: task.clone(),
            agent_id: at.cloned(),
            message: Some(cause.message.clone()),
            timestamp: Some(now.seconds()),
            ..Default::default()
        };
        status.set_state(state);
        status.set_source(Source::Master);
        status.set_reason(cause.reason);
        Self {
            status,
            latest_state: None,
        }
    }

    /// The leader's own word about a task.
    pub(crate) fn of_task(task: &v1::Task, state: TaskState, cause: &Cause, now: Time) -> Self {
        let mut update = Self::new(&task.task_id, Some(&task.agent_id), state, cause, now);
        update.status.executor_id = task.executor_id.clone();
        update
    }

    /// With what the last status said of health, checks and the container.
    pub(crate) fn of_known_task(
        task: &v1::Task,
        state: TaskState,
        cause: &Cause,
        now: Time,
    ) -> Self {
        let mut update = Self::of_task(task, state, cause, now);
        if let Some(last) = task.statuses.last() {
            update.status.healthy = last.healthy;
            update.status.check_status = last.check_status;
            update.status.container_status = last.container_status.clone();
        }
        update
    }

    /// A follower's word. What stands beside the status overrides what stands in it.
    fn of_follower(update: internal::StatusUpdate) -> Self {
        let latest_state = update
            .latest_state
            .and_then(|state| TaskState::try_from(state).ok());
        let mut status = update.status;
        if update.slave_id.is_some() {
            status.agent_id = update.slave_id;
        }
        if update.executor_id.is_some() {
            status.executor_id = update.executor_id;
        }
        status.timestamp = Some(update.timestamp);
        status.uuid = update.uuid.filter(|uuid| !uuid.is_empty());
        Self {
            status,
            latest_state,
        }
    }
}

/// What frameworks were last told of a task: later than this they know nothing.
pub(crate) fn reported_state(task: &v1::Task) -> TaskState {
    match task.status_update_state {
        Some(_) => task.status_update_state(),
        None => task.state(),
    }
}

/// Enters a status into a task: its state unless it has ended, and the latest status of each state
/// without its data (which may be large). Whether operators should hear of it.
pub(crate) fn apply(
    task: &mut v1::Task,
    status: &v1::TaskStatus,
    latest: Option<TaskState>,
) -> bool {
    let next = latest.unwrap_or(status.state());
    // What let go of its resources does not get them back, whatever a follower says of it.
    if holds_resources(task) || (!is_terminal(task.state()) && is_terminal(next)) {
        task.set_state(next);
    }
    let checked = status.reason.is_some()
        && matches!(
            status.reason(),
            Reason::TaskCheckStatusUpdated | Reason::TaskHealthCheckStatusUpdated
        );
    let repeated = task
        .statuses
        .last()
        .is_some_and(|last| last.state == status.state);
    if repeated {
        task.statuses.pop();
    }
    task.statuses.push(v1::TaskStatus {
        data: None,
        ..status.clone()
    });
    checked || !repeated
}

impl Leader {
    /// `StatusUpdateMessage`.
    pub(crate) fn status_update(&mut self, from: &Pid, message: internal::StatusUpdateMessage) {
        self.count("master/messages_status_update");
        let update = message.update;
        let at = update.slave_id.as_ref().or(update.status.agent_id.as_ref());
        let framework_id = FrameworkId::from(&update.framework_id);
        let task_id = TaskId::from(&update.status.task_id);
        let known = at.and_then(|at| {
            let follower = self.follower_saying(from, at)?;
            let tasks = follower.tasks.get(&framework_id);
            let runs_task = tasks.is_some_and(|tasks| tasks.contains(&task_id));
            Some((follower.id.to_proto(), runs_task))
        });
        let Some((at, runs_task)) = known else {
            let at = at.map_or("nowhere", |at| at.value.as_str());
            return self.invalid_update(format!(
                "Ignored an update of task {task_id} from {from}, which is not known as {at}"
            ));
        };
        if update.uuid.as_ref().is_none_or(|uuid| uuid.len() != 16) {
            return self.invalid_update(format!(
                "Ignored an update of task {task_id}: Not a valid UUID"
            ));
        }
        let update = Update::of_follower(update);
        let connected = self
            .state
            .framework(&framework_id)
            .is_some_and(|f| f.is_connected());
        // Comes late, over a connection that is gone, or again, since its follower missed the
        // acknowledgement. What comes after it in the stream is known, so its framework had it, and would
        // hear of a task that goes back. (The reference passes it on.)
        let task = self.state.task(&framework_id, &task_id);
        let old = match task.filter(|_| runs_task) {
            Some(task) => is_outdated(task, &update),
            None => !runs_task && self.has_settled(&framework_id, &task_id, &at, Some(&update)),
        };
        if old {
            return self.acknowledge_old(from, framework_id, update);
        }
        if runs_task {
            self.announce(&framework_id, &task_id, &update);
        }
        if connected {
            self.tell_framework(&framework_id, &update);
        }
        if !runs_task {
            self.end_unknown(from, &framework_id, &task_id, &update);
            return self.invalid_update(format!(
                "Got an update of task {task_id} of {framework_id}, which is unknown"
            ));
        }
        self.update_task(&framework_id, &task_id, &update);
        self.count(if connected {
            "master/valid_status_updates"
        } else {
            "master/invalid_status_updates"
        });
    }

    /// In place of its framework, which is done with it.
    fn acknowledge_old(&mut self, to: &Pid, framework: FrameworkId, update: Update) {
        let status = update.status;
        let task = status.task_id.value.clone();
        if let (Some(slave_id), Some(uuid)) = (status.agent_id, status.uuid) {
            let message = internal::StatusUpdateAcknowledgementMessage {
                slave_id,
                framework_id: framework.to_proto(),
                task_id: status.task_id,
                uuid,
            };
            self.send(to.clone(), message);
        }
        self.invalid_update(format!("Got an old update of task {task}"));
    }

    /// A task runs on a registered follower that this leader does not know of, such as one whose
    /// launch arrived after the follower had been given up and had come back. As with what a follower
    /// names that registers again, it must not run on: its resources are offered to others. (In the
    /// reference it does.)
    fn end_unknown(&mut self, at: &Pid, framework: &FrameworkId, task: &TaskId, update: &Update) {
        if is_terminal(update.status.state()) {
            return;
        }
        if self.state.is_completed(framework) {
            let framework_id = framework.to_proto();
            let message = internal::ShutdownFrameworkMessage { framework_id };
            return self.send(at.clone(), message);
        }
        let known = self.state.framework(framework);
        // The same id may stand for a task on another follower.
        if known.is_some_and(|known| !known.tasks.contains_key(task)) {
            let message = internal::KillTaskMessage {
                framework_id: framework.to_proto(),
                task_id: task.to_proto(),
                kill_policy: None,
            };
            self.send(at.clone(), message);
        }
    }

    /// Whether a task ended on this follower, and its framework acknowledged that: nothing that is
    /// said of it is news, be it an update that comes again or the answer to a kill that came too late.
    /// What was only unknown there may yet have been started.
    pub(crate) fn has_settled(
        &self,
        framework: &FrameworkId,
        id: &TaskId,
        at: &v1::AgentId,
        update: Option<&Update>,
    ) -> bool {
        let Some(framework) = self.state.framework(framework) else {
            return false;
        };
        framework.completed_tasks.iter().any(|task| {
            task.task_id.value == id.as_str()
                && task.agent_id == *at
                && (has_truly_ended(task) || update.is_some_and(|update| is_outdated(task, update)))
        })
    }

    fn invalid_update(&mut self, text: String) {
        self.count("master/invalid_status_updates");
        self.notice(Level::Warning, text);
    }

    /// What its framework is told last of a task is what acknowledgements are compared with. One that is
    /// away hears it next, and must not be told of a later state when it asks. (In the reference it is.)
    fn announce(&mut self, framework: &FrameworkId, task: &TaskId, update: &Update) {
        let (state, uuid) = (update.status.state, update.status.uuid.clone());
        self.state.change_task(framework, task, |task| {
            task.status_update_state = Some(state);
            task.status_update_uuid = uuid;
        });
    }

    /// An `UPDATE` event, if it is connected.
    pub(crate) fn tell_framework(&mut self, framework: &FrameworkId, update: &Update) {
        let hint = Hint {
            latest_state: update.latest_state,
            ..Hint::default()
        };
        let update = event::Update {
            status: update.status.clone(),
        };
        let mut event = scheduler::Event {
            update: Some(update),
            ..Default::default()
        };
        event.set_type(event::Type::Update);
        self.deliver(framework, Arc::new(event), hint);
    }

    /// The leader's own update of a task in the tables.
    pub(crate) fn update_of(
        &self,
        framework: &FrameworkId,
        task: &TaskId,
        state: TaskState,
        cause: &Cause,
    ) -> Option<Update> {
        Some(Update::of_task(
            self.state.task(framework, task)?,
            state,
            cause,
            self.now,
        ))
    }

    /// Enters an update into the tables. The first one that ends a task frees its resources.
    pub(crate) fn update_task(&mut self, framework: &FrameworkId, task: &TaskId, update: &Update) {
        let mut tell_operators = false;
        let mut ended = false;
        let freed = self.state.change_task(framework, task, |task| {
            let held = holds_resources(task);
            tell_operators = apply(task, &update.status, update.latest_state);
            ended = held && !holds_resources(task);
        });
        if tell_operators {
            self.operator_event(|leader| {
                let task = leader.state.task(framework, task)?;
                Some(crate::operator::task_updated(task, &update.status))
            });
        }
        if ended && let Some(counter) = ended_counter(update.status.state()) {
            self.count(counter);
            if let Some(framework) = self.state.framework_mut(framework) {
                framework.metrics_mut().count_ended(update.status.state());
            }
        }
        let lost = matches!(
            update.status.state(),
            TaskState::TaskLost | TaskState::TaskUnreachable | TaskState::TaskGone
        );
        if let Some((at, resources)) = freed
            && !(lost && planted(Planted::KeepsLostResources))
        {
            self.free(framework, &at, resources);
        }
    }

    /// Takes a task out of the tables; it goes among the completed ones, or the missed ones.
    pub(crate) fn remove_task(&mut self, framework_id: &FrameworkId, id: &TaskId, missed: bool) {
        let Some((task, held)) = self.state.remove_task(framework_id, id) else {
            return;
        };
        self.may_be_drained(&FollowerId::from(&task.agent_id));
        let completed = self.config.max_completed_tasks_per_framework;
        let unreachable = self.config.max_unreachable_tasks_per_framework;
        if let Some(framework) = self.state.framework_mut(framework_id) {
            if missed {
                framework.miss_task(id.clone(), task, unreachable);
            } else {
                framework.complete_task(task, completed);
            }
        }
        if let Some((at, resources)) = held {
            self.free(framework_id, &at, resources);
        }
    }

    /// `ACKNOWLEDGE`: to the follower, who will send the next update. The acknowledgement of the
    /// end of a task is the end of what the leader keeps of it.
    pub(crate) fn acknowledge(&mut self, framework: &FrameworkId, call: call::Acknowledge) {
        self.count("master/messages_status_update_acknowledgement");
        let at = FollowerId::from(&call.agent_id);
        let id = TaskId::from(&call.task_id);
        let Some(pid) = self
            .state
            .follower(&at)
            .filter(|f| f.connected)
            .map(|f| f.pid.clone())
        else {
            return self.invalid_acknowledgement(
                format!("its follower {at} is not registered or disconnected"),
                &id,
            );
        };
        let task = self
            .state
            .task(framework, &id)
            .filter(|task| task.agent_id == call.agent_id)
            .map(Arc::clone);
        if let Some(task) = task {
            if task.status_update_state.is_none() {
                return self
                    .invalid_acknowledgement("this leader sent no update of it".to_owned(), &id);
            }
            if is_terminal(task.status_update_state()) && task.status_update_uuid() == call.uuid {
                self.remove_task(framework, &id, false);
            }
        }
        let message = internal::StatusUpdateAcknowledgementMessage {
            slave_id: call.agent_id,
            framework_id: framework.to_proto(),
            task_id: call.task_id,
            uuid: call.uuid,
        };
        self.send(pid, message);
        self.count("master/valid_status_update_acknowledgements");
    }

    fn invalid_acknowledgement(&mut self, why: String, task: &TaskId) {
        self.count("master/invalid_status_update_acknowledgements");
        self.notice(
            Level::Warning,
            format!("Ignored an acknowledgement for task {task}: {why}"),
        );
    }
}

/// Whether this leader has passed on a later update of the task than this one. A follower sends the next
/// update when the one before it was acknowledged: the framework had them all. A new leader knows more
/// from the follower than its framework does: it passes on all that comes.
fn is_outdated(task: &v1::Task, update: &Update) -> bool {
    let at = |uuid: &Option<Bytes>| task.statuses.iter().position(|status| status.uuid == *uuid);
    let passed_on = &task.status_update_uuid;
    if passed_on.is_none() || *passed_on == update.status.uuid {
        return false;
    }
    // Of several with the same state only the last is kept.
    let ended = has_truly_ended(task) && !is_terminal(update.status.state());
    let before = at(&update.status.uuid).zip(at(passed_on));
    ended || before.is_some_and(|(this, latest)| this < latest)
}

/// Whether the last that was passed on of a task is how it ended. Of a task that its follower does not
/// know nobody knows that.
fn has_truly_ended(task: &v1::Task) -> bool {
    use TaskState as S;
    let end = task.status_update_state();
    task.status_update_uuid.is_some()
        && matches!(
            end,
            S::TaskFinished | S::TaskFailed | S::TaskKilled | S::TaskError
        )
}

/// Whether bytes can be a UUID.
pub(crate) fn is_uuid(bytes: &Bytes) -> bool {
    bytes.len() == 16
}
