//! The command executor: one task, in the executor's own container
//! (`src/launcher/executor.cpp`, `docs/running-workloads.md`).

use crate::{
    RecoveredTask,
    io::{Effects, ProbeId, ProbeOutcome},
    session::Session,
    task::{Place, Task},
};
use std::time::Duration;
use tepui_model::{
    Time,
    container::{ContainerEvent, ContainerId, ExitStatus},
};
use tepui_protocol::v1::{
    self, TaskState,
    executor::{Event, event},
    task_status::Reason,
};

/// The follower destroys the container when the shutdown grace period is over; this much before
/// that we use force ourselves, so that TASK_KILLED still gets out.
const SHUTDOWN_MARGIN: Duration = Duration::from_secs(2);

const ONE_TASK: &str = "Attempted to run multiple tasks using a \"command\" executor";

/// State of a command executor.
#[derive(Debug, Default)]
pub(crate) struct Command {
    task: Option<Task>,
    phase: Phase,
    /// A health check had it killed.
    unhealthy: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq)]
enum Phase {
    #[default]
    Waiting,
    Launching,
    Running,
    Ended,
}

impl Command {
    pub(crate) fn event(&mut self, session: &mut Session, event: Event, effects: &mut Effects) {
        match event.r#type() {
            event::Type::Subscribed => {
                if let Some(subscribed) = event.subscribed {
                    session.subscribed(subscribed);
                }
            }
            event::Type::Launch => {
                if let Some(launch) = event.launch {
                    self.launch(session, launch.task, effects);
                }
            }
            event::Type::Kill => {
                if let Some(kill) = event.kill {
                    self.kill(session, &kill, effects);
                }
            }
            event::Type::Acknowledged => {
                if let Some(acknowledged) = event.acknowledged {
                    self.acknowledged(session, &acknowledged.uuid, effects);
                }
            }
            // A command executor has no use for groups: that it gets one means that it is not wanted.
            event::Type::Shutdown | event::Type::LaunchGroup => self.shutdown(session, effects),
            event::Type::Message
            | event::Type::Error
            | event::Type::Heartbeat
            | event::Type::Unknown => {}
        }
    }

    pub(crate) fn container(
        &mut self,
        session: &mut Session,
        container: &ContainerId,
        event: ContainerEvent,
        effects: &mut Effects,
    ) {
        let Some(task) = self.task.as_mut().filter(|t| t.container == *container) else {
            return;
        };
        match event {
            ContainerEvent::Launched { .. } if self.phase == Phase::Launching => {
                self.phase = Phase::Running;
                if !is_fetchless(&task.info) && !task.is_killing() {
                    task.send_state(session, TaskState::TaskStarting, effects);
                }
                task.run(session, effects);
            }
            ContainerEvent::LaunchFailed { message, .. } if self.phase != Phase::Ended => {
                let (state, reason, message) = if task.is_killing() {
                    let message = "Killed before its command was started".to_owned();
                    (
                        TaskState::TaskKilled,
                        Reason::TaskKilledDuringLaunch,
                        message,
                    )
                } else {
                    let message = format!("Failed to launch container: {message}");
                    (
                        TaskState::TaskFailed,
                        Reason::ContainerLaunchFailed,
                        message,
                    )
                };
                self.end(session, (state, Some(reason), message), effects);
            }
            ContainerEvent::Exited { status } if self.phase != Phase::Ended => {
                let verdict = match status {
                    Some(status) => task.verdict(status),
                    None => (
                        TaskState::TaskFailed,
                        None,
                        "Failed to get exit status for Command".to_owned(),
                    ),
                };
                self.end(session, verdict, effects);
            }
            _ => {}
        }
    }

    pub(crate) fn probed(
        &mut self,
        session: &mut Session,
        probe: ProbeId,
        outcome: &ProbeOutcome,
        effects: &mut Effects,
    ) {
        let Some(task) = &mut self.task else { return };
        if task.probed(session, probe, outcome, effects) {
            self.unhealthy = true;
            let grace = task.grace_period(None);
            task.kill(session, grace, effects);
        }
    }

    pub(crate) fn tick(&mut self, session: &mut Session, effects: &mut Effects) {
        if let Some(task) = &mut self.task {
            task.tick(session, effects);
        }
        session.tick(effects);
    }

    pub(crate) fn next_deadline(&self) -> Option<Time> {
        self.task.as_ref()?.next_deadline()
    }

    pub(crate) fn containers(&self) -> Vec<ContainerId> {
        let alive = matches!(self.phase, Phase::Launching | Phase::Running);
        self.task
            .iter()
            .filter(|_| alive)
            .map(|t| t.container.clone())
            .collect()
    }

    pub(crate) fn unacknowledged_tasks(&self) -> Vec<v1::TaskInfo> {
        self.task
            .iter()
            .filter(|t| !t.acknowledged)
            .map(|t| t.info.clone())
            .collect()
    }

    fn launch(&mut self, session: &mut Session, info: v1::TaskInfo, effects: &mut Effects) {
        if let Some(task) = &self.task {
            if task.info.task_id != info.task_id {
                refuse(session, &info, ONE_TASK, effects);
            }
            return;
        }
        let task = new_task(session, info);
        self.start(session, task, effects);
    }

    /// Goes on with what an earlier follower's executor had. There is one task at most.
    pub(crate) fn take_back(
        &mut self,
        session: &mut Session,
        tasks: Vec<RecoveredTask>,
        effects: &mut Effects,
    ) {
        for recovered in tasks {
            match &self.task {
                None => self.take_back_one(session, recovered, effects),
                Some(_) => refuse(session, &recovered.info, ONE_TASK, effects),
            }
        }
    }

    fn take_back_one(
        &mut self,
        session: &mut Session,
        recovered: RecoveredTask,
        effects: &mut Effects,
    ) {
        let RecoveredTask {
            info,
            state,
            container,
            ..
        } = recovered;
        let mut task = new_task(session, info);
        task.recall(session, state, container.as_ref(), effects);
        let event = match container {
            Some(container) => container.event,
            None if task.had_run() => ContainerEvent::Exited { status: None },
            None => return self.start(session, task, effects),
        };
        self.phase = Phase::Running;
        if !matches!(event, ContainerEvent::LaunchFailed { .. }) {
            task.run(session, effects);
        }
        let container = task.container.clone();
        self.task = Some(task);
        self.container(session, &container, event, effects);
    }

    fn start(&mut self, session: &mut Session, mut task: Task, effects: &mut Effects) {
        self.phase = Phase::Launching;
        if task.info.command.as_ref().is_none_or(|c| c.value.is_none()) {
            self.task = Some(task);
            let message = "The task has no command to run".to_owned();
            return self.end(
                session,
                (TaskState::TaskFailed, Some(Reason::TaskInvalid), message),
                effects,
            );
        }
        // The reference fetches before it starts an executor, so a framework hears nothing of a
        // task whose URIs cannot be fetched until it fails. The same here: where there is
        // something to fetch, TASK_STARTING waits for it.
        if is_fetchless(&task.info) && !task.had_started() {
            task.send_state(session, TaskState::TaskStarting, effects);
        }
        task.launch(
            task.info.container.clone(),
            session.settings.latest.clone(),
            session,
            effects,
        );
        self.task = Some(task);
    }

    fn kill(&mut self, session: &mut Session, kill: &event::Kill, effects: &mut Effects) {
        let Some(task) = &mut self.task else {
            // Its task will never come (`MESOS-8297`): a follower that kills what it has not sent is
            // not going to send it.
            return session.exit(ExitStatus::Code(1), effects);
        };
        if self.phase == Phase::Ended || task.info.task_id != kill.task_id {
            return;
        }
        let grace = task.grace_period(kill.kill_policy.as_ref());
        if task.is_killing() {
            task.hasten(grace);
        } else {
            task.kill(session, grace, effects);
        }
    }

    fn shutdown(&mut self, session: &mut Session, effects: &mut Effects) {
        let Some(task) = &mut self.task else {
            return session.exit(ExitStatus::Code(0), effects);
        };
        if self.phase == Phase::Ended {
            return;
        }
        let grace = session
            .settings
            .shutdown_grace_period
            .saturating_sub(SHUTDOWN_MARGIN);
        if task.is_killing() {
            task.hasten(grace);
        } else {
            task.kill(session, grace, effects);
        }
    }

    fn acknowledged(&mut self, session: &mut Session, uuid: &[u8], effects: &mut Effects) {
        let Some(acknowledged) = session.acknowledged(uuid, effects) else {
            return;
        };
        let Some(task) = self
            .task
            .as_mut()
            .filter(|t| t.info.task_id == acknowledged.task)
        else {
            return;
        };
        task.acknowledged = true;
        if acknowledged.terminal {
            session.exit(ExitStatus::Code(0), effects);
        }
    }

    fn end(
        &mut self,
        session: &mut Session,
        (state, reason, message): (TaskState, Option<Reason>, String),
        effects: &mut Effects,
    ) {
        let Some(task) = &mut self.task else { return };
        self.phase = Phase::Ended;
        task.stop(effects);
        session.ended(&task.info.task_id, &task.container);
        let mut status = task.status(session, state);
        status.reason = reason.map(|r| r as i32);
        status.message = Some(message);
        if self.unhealthy {
            status.healthy = Some(false);
        }
        task.send(session, status, effects);
        session.drain(ExitStatus::Code(1));
    }
}

fn new_task(session: &Session, info: v1::TaskInfo) -> Task {
    let settings = &session.settings;
    let place = Place {
        container: settings.container.clone(),
        names_container: false,
        sandbox: settings.sandbox.clone(),
        environment: settings.environment.iter().cloned().collect(),
    };
    Task::new(info, place, settings.user.as_ref())
}

fn is_fetchless(task: &v1::TaskInfo) -> bool {
    task.command.as_ref().is_none_or(|c| c.uris.is_empty())
}

fn refuse(session: &mut Session, task: &v1::TaskInfo, why: &str, effects: &mut Effects) {
    let mut status = session.new_status(&task.task_id, TaskState::TaskFailed);
    status.message = Some(why.to_owned());
    session.send(status, effects);
}
