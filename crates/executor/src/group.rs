//! The default executor: task groups, each task in a container nested in the executor's
//! (`src/launcher/default_executor.cpp`, `docs/nested-container-and-task-group.md`).
//!
//! A group lives and dies together: TASK_RUNNING is sent for its tasks once all of them have been
//! launched or have failed to, and when one fails or is killed the others are killed.

use crate::{
    RecoveredTask,
    io::{Effects, ProbeId, ProbeOutcome},
    session::Session,
    task::{KILL_GRACE_PERIOD, Place, Task},
};
use indexmap::IndexMap;
use std::sync::Arc;
use tepui_model::{
    TaskId, Time,
    container::{ContainerEvent, ContainerId, ExitStatus},
};
use tepui_protocol::v1::{
    self, TaskState,
    executor::{Event, event},
    task_status::Reason,
    volume::{Source, source},
};

/// State of a default executor.
#[derive(Debug, Default)]
pub(crate) struct Group {
    /// Tasks that have not ended, in launch order.
    members: IndexMap<TaskId, Member>,
    groups: u64,
    shutting_down: bool,
    /// A health check had some task killed; every later status says so.
    unhealthy: bool,
}

#[derive(Debug)]
struct Member {
    task: Task,
    group: u64,
    stage: Stage,
    /// The group is being killed, so its end kills no others.
    group_killed: bool,
}

#[derive(Debug, PartialEq)]
enum Stage {
    Launching,
    /// Launched or failed to, while others of the group still are on their way.
    Waiting(Option<End>),
    Running,
}

#[derive(Debug, PartialEq)]
enum End {
    LaunchFailed(String),
    Exited(Option<ExitStatus>),
}

impl Group {
    pub(crate) fn event(&mut self, session: &mut Session, event: Event, effects: &mut Effects) {
        match event.r#type() {
            event::Type::Subscribed => {
                if let Some(subscribed) = event.subscribed {
                    session.subscribed(subscribed);
                }
            }
            event::Type::LaunchGroup => {
                if let Some(launch) = event.launch_group {
                    self.launch(session, launch.task_group, effects);
                }
            }
            event::Type::Kill => {
                if let Some(kill) = event.kill {
                    self.kill(session, &kill.task_id, kill.kill_policy.as_ref(), effects);
                }
            }
            event::Type::Acknowledged => {
                if let Some(acknowledged) = event.acknowledged {
                    self.acknowledged(session, &acknowledged.uuid, effects);
                }
            }
            // A default executor takes groups only: a single task means that it is not wanted.
            event::Type::Shutdown | event::Type::Launch => self.shutdown(session, effects),
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
        let found = self
            .members
            .iter_mut()
            .find(|(_, m)| m.task.container == *container);
        let Some((id, member)) = found else { return };
        let (id, group) = (id.clone(), member.group);
        let end = match event {
            ContainerEvent::Launched { .. } if member.stage == Stage::Launching => None,
            ContainerEvent::Launched { .. } => return,
            ContainerEvent::LaunchFailed { message, .. } => Some(End::LaunchFailed(message)),
            ContainerEvent::Exited { status } => Some(End::Exited(status)),
        };
        match (&member.stage, end) {
            (Stage::Running, Some(end)) => self.finish(session, &id, end, effects),
            (Stage::Running, None) => {}
            (Stage::Launching | Stage::Waiting(_), end) => {
                member.stage = Stage::Waiting(end);
                self.settle(session, group, effects);
            }
        }
    }

    pub(crate) fn probed(
        &mut self,
        session: &mut Session,
        probe: ProbeId,
        outcome: &ProbeOutcome,
        effects: &mut Effects,
    ) {
        let unhealthy = self.members.values_mut().find_map(|m| {
            m.task
                .probed(session, probe, outcome, effects)
                .then(|| m.task.info.task_id.clone())
        });
        if let Some(task) = unhealthy {
            self.unhealthy = true;
            self.kill(session, &task, None, effects);
        }
    }

    pub(crate) fn tick(&mut self, session: &mut Session, effects: &mut Effects) {
        for member in self.members.values_mut() {
            member.task.tick(session, effects);
        }
        session.tick(effects);
    }

    pub(crate) fn next_deadline(&self) -> Option<Time> {
        self.members
            .values()
            .filter_map(|m| m.task.next_deadline())
            .min()
    }

    pub(crate) fn containers(&self) -> Vec<ContainerId> {
        self.members
            .values()
            .filter(|m| !matches!(m.stage, Stage::Waiting(Some(_))))
            .map(|m| m.task.container.clone())
            .collect()
    }

    pub(crate) fn unacknowledged_tasks(&self) -> Vec<v1::TaskInfo> {
        let started = |m: &&Member| m.stage == Stage::Running && !m.task.acknowledged;
        self.members
            .values()
            .filter(started)
            .map(|m| m.task.info.clone())
            .collect()
    }

    pub(crate) fn check(&self) {
        for member in self.members.values().filter(|m| m.stage == Stage::Running) {
            let settled = |m: &Member| m.group != member.group || m.stage == Stage::Running;
            assert!(self.members.values().all(settled), "a group runs in part");
        }
    }

    fn launch(&mut self, session: &mut Session, tasks: v1::TaskGroupInfo, effects: &mut Effects) {
        if self.shutting_down {
            return;
        }
        session.resume();
        self.groups += 1;
        for info in tasks.tasks {
            let id = TaskId::from(&info.task_id);
            // The leader refuses a task id that is in use.
            if self.members.contains_key(&id) {
                continue;
            }
            let member = start(session, info, self.groups, effects);
            self.members.insert(id, member);
        }
        self.exit_if_done(session, effects);
    }

    /// Goes on with what an earlier follower's executor had. Groups come together as before: what has
    /// ended there is dealt with once the rest of its group is up.
    pub(crate) fn take_back(
        &mut self,
        session: &mut Session,
        tasks: Vec<RecoveredTask>,
        effects: &mut Effects,
    ) {
        let first = self.groups + 1;
        let mut numbers: IndexMap<Arc<str>, u64> = IndexMap::new();
        for recovered in tasks {
            let id = TaskId::from(&recovered.info.task_id);
            if self.members.contains_key(&id) {
                continue;
            }
            let group = match recovered.group.clone() {
                Some(name) => *numbers.entry(name).or_insert_with(|| {
                    self.groups += 1;
                    self.groups
                }),
                None => {
                    self.groups += 1;
                    self.groups
                }
            };
            let member = take_back(session, recovered, group, effects);
            self.members.insert(id, member);
        }
        for group in first..=self.groups {
            self.settle(session, group, effects);
        }
    }

    /// When all of a group are up or have failed: say TASK_RUNNING for those that run, then deal
    /// with those that have ended meanwhile.
    fn settle(&mut self, session: &mut Session, group: u64, effects: &mut Effects) {
        let of_group = |m: &Member| m.group == group;
        if self
            .members
            .values()
            .any(|m| of_group(m) && m.stage == Stage::Launching)
        {
            return;
        }
        let mut ended = Vec::new();
        for (id, member) in self.members.iter_mut().filter(|(_, m)| of_group(m)) {
            match &member.stage {
                Stage::Waiting(None) => member.stage = Stage::Running,
                Stage::Waiting(Some(_)) => ended.push(id.clone()),
                Stage::Launching | Stage::Running => continue,
            }
            if !matches!(member.stage, Stage::Waiting(Some(End::LaunchFailed(_)))) {
                member.task.run(session, effects);
            }
        }
        // They keep their stage until it is their turn: the end of one kills the others, but must
        // not make those that ended on their own look killed.
        for id in ended {
            let Some(member) = self.members.get_mut(&id) else {
                continue;
            };
            if let Stage::Waiting(Some(end)) = std::mem::replace(&mut member.stage, Stage::Running)
            {
                self.finish(session, &id, end, effects);
            }
        }
    }

    /// Kills one task, and with its end the rest of its group.
    fn kill(
        &mut self,
        session: &mut Session,
        task: &v1::TaskId,
        policy: Option<&v1::KillPolicy>,
        effects: &mut Effects,
    ) {
        if self.shutting_down {
            return;
        }
        let Some(member) = self.members.get_mut(task.value.as_str()) else {
            return;
        };
        let grace = member.task.grace_period(policy);
        member.kill(session, grace, effects);
    }

    fn shutdown(&mut self, session: &mut Session, effects: &mut Effects) {
        if self.shutting_down {
            return;
        }
        self.shutting_down = true;
        for member in self.members.values_mut() {
            member.kill(session, KILL_GRACE_PERIOD, effects);
        }
        self.exit_if_done(session, effects);
    }

    fn acknowledged(&mut self, session: &mut Session, uuid: &[u8], effects: &mut Effects) {
        let Some(acknowledged) = session.acknowledged(uuid, effects) else {
            return;
        };
        if let Some(member) = self.members.get_mut(acknowledged.task.value.as_str()) {
            member.task.acknowledged = true;
        }
        self.exit_if_done(session, effects);
    }

    fn finish(&mut self, session: &mut Session, id: &TaskId, end: End, effects: &mut Effects) {
        let Some(mut member) = self.members.shift_remove(id) else {
            return;
        };
        member.task.stop(effects);
        session.ended(&member.task.info.task_id, &member.task.container);
        let (state, reason, message) = outcome(&member.task, end);
        let mut status = member.task.status(session, state);
        status.reason = reason.map(|r| r as i32);
        status.message = Some(message);
        if self.unhealthy {
            status.healthy = Some(false);
        }
        member.task.send(session, status, effects);
        let contagious = matches!(state, TaskState::TaskFailed | TaskState::TaskKilled);
        if contagious && !self.shutting_down && !member.group_killed {
            self.kill_group(session, member.group, effects);
        }
        self.exit_if_done(session, effects);
    }

    fn kill_group(&mut self, session: &mut Session, group: u64, effects: &mut Effects) {
        for member in self.members.values_mut().filter(|m| m.group == group) {
            member.group_killed = true;
            // Not the tasks' own kill policies: the reference gives the rest of a group its default.
            member.kill(session, KILL_GRACE_PERIOD, effects);
        }
    }

    fn exit_if_done(&self, session: &mut Session, effects: &mut Effects) {
        if !self.members.is_empty() {
            return;
        }
        if session.all_acknowledged() {
            session.exit(ExitStatus::Code(0), effects);
        } else if !session.is_draining() {
            session.drain(ExitStatus::Code(0));
        }
    }
}

impl Member {
    fn kill(&mut self, session: &mut Session, grace: std::time::Duration, effects: &mut Effects) {
        // One that has ended already only waits for its group to be told.
        if !matches!(self.stage, Stage::Waiting(Some(_))) {
            self.task.kill(session, grace, effects);
        }
    }
}

fn start(session: &mut Session, info: v1::TaskInfo, group: u64, effects: &mut Effects) -> Member {
    let container = session.nested_container();
    launch(session, new_task(session, info, container), group, effects)
}

/// A task of an earlier follower's executor, with its container if it ever had one.
fn take_back(
    session: &mut Session,
    recovered: RecoveredTask,
    group: u64,
    effects: &mut Effects,
) -> Member {
    let RecoveredTask {
        info,
        state,
        container,
        ..
    } = recovered;
    let id = match &container {
        Some(container) => container.id.clone(),
        None => session.nested_container(),
    };
    let mut task = new_task(session, info, id);
    task.recall(session, state, container.as_ref(), effects);
    let end = match container.map(|container| container.event) {
        None if task.had_run() => Some(End::Exited(None)),
        None => return launch(session, task, group, effects),
        Some(ContainerEvent::Launched { .. }) => None,
        Some(ContainerEvent::LaunchFailed { message, .. }) => Some(End::LaunchFailed(message)),
        Some(ContainerEvent::Exited { status }) => Some(End::Exited(status)),
    };
    Member {
        task,
        group,
        stage: Stage::Waiting(end),
        group_killed: false,
    }
}

fn new_task(session: &Session, info: v1::TaskInfo, container: ContainerId) -> Task {
    let settings = &session.settings;
    let sandbox = settings.sandbox.join("containers").join(&*container.value);
    let mut environment: IndexMap<String, String> = settings.environment.iter().cloned().collect();
    environment.insert(
        "MESOS_SANDBOX".to_owned(),
        sandbox.to_string_lossy().into_owned(),
    );
    let place = Place {
        names_container: true,
        environment,
        container,
        sandbox,
    };
    Task::new(info, place, settings.user.as_ref())
}

fn launch(session: &mut Session, mut task: Task, group: u64, effects: &mut Effects) -> Member {
    let tasks = session.settings.sandbox.join("tasks");
    let link = tasks.join(&task.info.task_id.value);
    if !task.had_started() {
        task.send_state(session, TaskState::TaskStarting, effects);
    }
    task.launch(container_info(&task.info), Some(link), session, effects);
    Member {
        task,
        group,
        stage: Stage::Launching,
        group_killed: false,
    }
}

/// The disks of a task are mounted into the executor's sandbox; the task sees them through volumes
/// that lead there.
fn container_info(task: &v1::TaskInfo) -> Option<v1::ContainerInfo> {
    let mut info = task.container.clone();
    for volume in task
        .resources
        .iter()
        .filter_map(|r| r.disk.as_ref()?.volume.as_ref())
    {
        let path = source::SandboxPath {
            r#type: Some(source::sandbox_path::Type::Parent as i32),
            path: volume.container_path.clone(),
        };
        let source = Source {
            r#type: Some(v1::volume::source::Type::SandboxPath as i32),
            sandbox_path: Some(path),
            ..Default::default()
        };
        let nested = v1::Volume {
            mode: volume.mode,
            container_path: volume.container_path.clone(),
            source: Some(source),
            ..Default::default()
        };
        let mesos = v1::container_info::Type::Mesos as i32;
        info.get_or_insert_with(|| v1::ContainerInfo {
            r#type: mesos,
            ..Default::default()
        })
        .volumes
        .push(nested);
    }
    info
}

fn outcome(task: &Task, end: End) -> (TaskState, Option<Reason>, String) {
    match end {
        End::LaunchFailed(_) if task.is_killing() => {
            let message = "Killed before its command was started".to_owned();
            (
                TaskState::TaskKilled,
                Some(Reason::TaskKilledDuringLaunch),
                message,
            )
        }
        End::LaunchFailed(message) => {
            let message = format!("Failed to launch container: {message}");
            (
                TaskState::TaskFailed,
                Some(Reason::ContainerLaunchFailed),
                message,
            )
        }
        End::Exited(None) => (
            TaskState::TaskFailed,
            None,
            "Command terminated with unknown status".to_owned(),
        ),
        End::Exited(Some(status)) => task.verdict(status),
    }
}
