//! One task in one container: launch, checks, deadlines, kill and the end. Both executors use it.

use crate::{
    RecoveredContainer,
    checks::{Check, Health, Prober, empty_status},
    io::{Effect, Effects, Probe, ProbeId, ProbeOutcome},
    session::Session,
};
use indexmap::IndexMap;
use std::{path::PathBuf, sync::Arc, time::Duration};
use tepui_model::{
    Time,
    container::{ContainerEvent, ContainerId, ExitStatus, LaunchSpec},
};
use tepui_protocol::v1::{self, TaskState, task_status::Reason};

/// Grace between SIGTERM and SIGKILL when no kill policy says otherwise
/// (`src/launcher/executor.cpp`, `docs/task-state-reasons.md`).
pub(crate) const KILL_GRACE_PERIOD: Duration = Duration::from_secs(3);

/// What the reference's launcher sets when nobody has set a PATH.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

const SIGTERM: i32 = 15;

/// One task.
#[derive(Debug)]
pub(crate) struct Task {
    pub(crate) info: v1::TaskInfo,
    pub(crate) container: ContainerId,
    /// Whether its statuses name its container: those of nested containers do.
    names_container: bool,
    sandbox: PathBuf,
    user: Option<String>,
    environment: Vec<(String, String)>,
    running: bool,
    killing: Option<Killing>,
    /// Killed because it ran longer than it may.
    overtime: bool,
    completion: Option<Time>,
    /// Its last state that is durable, if it ran in an earlier follower.
    known: Option<TaskState>,
    /// How long it ran there.
    running_for: Duration,
    check: Option<Check>,
    health: Option<Health>,
    /// What was last sent about it; check results are added to it.
    last: Option<v1::TaskStatus>,
    /// Whether the follower acknowledged any of its updates.
    pub(crate) acknowledged: bool,
}

#[derive(Debug, Clone, Copy)]
struct Killing {
    since: Time,
    /// When to use force; `None`: it was used.
    escalate: Option<Time>,
}

/// Where a task runs.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) container: ContainerId,
    pub(crate) names_container: bool,
    pub(crate) sandbox: PathBuf,
    pub(crate) environment: IndexMap<String, String>,
}

impl Task {
    pub(crate) fn new(
        info: v1::TaskInfo,
        mut place: Place,
        executor_user: Option<&String>,
    ) -> Self {
        let environment = &mut place.environment;
        if let Some(command) = &info.command {
            add_variables(environment, command);
        }
        if let Some(role) = allocation_role(&info) {
            environment.insert("MESOS_ALLOCATION_ROLE".to_owned(), role.to_owned());
        }
        environment
            .entry("PATH".to_owned())
            .or_insert_with(|| PATH.to_owned());
        let user = info
            .command
            .as_ref()
            .and_then(|c| c.user.clone())
            .or_else(|| executor_user.cloned());
        Self {
            container: place.container,
            names_container: place.names_container,
            sandbox: place.sandbox,
            user,
            environment: place.environment.into_iter().collect(),
            running: false,
            killing: None,
            overtime: false,
            completion: None,
            known: None,
            running_for: Duration::ZERO,
            check: None,
            health: None,
            last: None,
            acknowledged: false,
            info,
        }
    }

    pub(crate) fn is_killing(&self) -> bool {
        self.killing.is_some()
    }

    pub(crate) fn launch(
        &self,
        container_info: Option<v1::ContainerInfo>,
        link: Option<PathBuf>,
        session: &Session,
        out: &mut Effects,
    ) {
        let command = self.info.command.clone().unwrap_or_default();
        out.push(Effect::Launch(Box::new(LaunchSpec {
            container: self.container.clone(),
            sandbox: self.sandbox.clone(),
            latest: link,
            user: self.user.clone(),
            uris: command.uris.clone(),
            command,
            environment: self.environment.clone(),
            container_info: container_info.map(Arc::new),
            resources: self.info.resources.clone().into(),
            outlives: session
                .settings
                .outlives
                .then(|| self.info.task_id.value.as_str().into()),
        })));
    }

    /// A status from scratch: no check result carried over.
    pub(crate) fn status(&self, session: &mut Session, state: TaskState) -> v1::TaskStatus {
        let mut status = session.new_status(&self.info.task_id, state);
        status.check_status = self
            .info
            .check
            .as_ref()
            .map(|check| empty_status(check.r#type()));
        if self.names_container {
            let container_id = Some(self.container.to_proto());
            status.container_status = Some(v1::ContainerStatus {
                container_id,
                ..Default::default()
            });
        }
        status
    }

    pub(crate) fn send(
        &mut self,
        session: &mut Session,
        status: v1::TaskStatus,
        effects: &mut Effects,
    ) {
        self.last = Some(session.send(status, effects));
    }

    pub(crate) fn send_state(
        &mut self,
        session: &mut Session,
        state: TaskState,
        effects: &mut Effects,
    ) {
        let status = self.status(session, state);
        self.send(session, status, effects);
    }

    /// Its command runs: say so, start the checks and the clock of its maximum completion time.
    pub(crate) fn run(&mut self, session: &mut Session, effects: &mut Effects) {
        self.running = true;
        if self.is_killing() {
            return;
        }
        let now = session.now;
        let limit = self
            .info
            .max_completion_time
            .as_ref()
            .map_or(0, |d| d.nanoseconds);
        self.completion = u64::try_from(limit)
            .ok()
            .filter(|n| *n > 0)
            .map(|n| now + Duration::from_nanos(n).saturating_sub(self.running_for));
        self.check = self
            .info
            .check
            .as_ref()
            .and_then(|info| Check::new(info, now));
        self.health = self
            .info
            .health_check
            .as_ref()
            .and_then(|info| Health::new(info, now));
        if self.known != Some(TaskState::TaskRunning) {
            self.send_state(session, TaskState::TaskRunning, effects);
        }
    }

    /// What was known of it before a restart. If its end had begun, and it still runs, it is begun
    /// again: with the whole grace period, since nobody knows how much of it is over.
    pub(crate) fn recall(
        &mut self,
        session: &mut Session,
        state: Option<TaskState>,
        container: Option<&RecoveredContainer>,
        effects: &mut Effects,
    ) {
        self.known = state;
        self.acknowledged = state.is_some();
        let Some(container) = container else { return };
        self.running_for = container.running_for;
        if !container.told && state != Some(TaskState::TaskKilling) {
            return;
        }
        let limit = self.info.max_completion_time.as_ref();
        let limit = limit.and_then(|d| u64::try_from(d.nanoseconds).ok());
        self.overtime = state != Some(TaskState::TaskKilling)
            && limit.is_some_and(|n| n > 0 && Duration::from_nanos(n) <= container.running_for);
        if matches!(container.event, ContainerEvent::Launched { .. }) {
            self.running = true;
            let grace = if self.overtime {
                Duration::ZERO
            } else {
                self.grace_period(None)
            };
            self.kill(session, grace, effects);
        } else {
            self.killing = Some(Killing {
                since: session.now,
                escalate: None,
            });
        }
    }

    /// Whether it was launched before a restart, as far as its follower knew.
    pub(crate) fn had_run(&self) -> bool {
        let early = [TaskState::TaskStaging, TaskState::TaskStarting];
        self.known.is_some_and(|state| !early.contains(&state))
    }

    /// Whether TASK_STARTING was sent before a restart.
    pub(crate) fn had_started(&self) -> bool {
        self.known.is_some_and(|s| s != TaskState::TaskStaging)
    }

    /// Kill policy of the KILL event, then the task's, then the default.
    pub(crate) fn grace_period(&self, told: Option<&v1::KillPolicy>) -> Duration {
        let period = |policy: &v1::KillPolicy| policy.grace_period.as_ref().map(|d| d.nanoseconds);
        told.and_then(period)
            .or_else(|| self.info.kill_policy.as_ref().and_then(period))
            .map_or(KILL_GRACE_PERIOD, |nanos| {
                Duration::from_nanos(u64::try_from(nanos).unwrap_or(0))
            })
    }

    /// Begins to kill it; nothing if that has begun.
    pub(crate) fn kill(&mut self, session: &mut Session, grace: Duration, effects: &mut Effects) {
        if self.is_killing() {
            return;
        }
        self.stop_probes(effects);
        self.completion = None;
        let now = session.now;
        if !self.running {
            // Nothing of the task runs yet that could use a grace period.
            self.killing = Some(Killing {
                since: now,
                escalate: None,
            });
            effects.push(Effect::Destroy {
                container: self.container.clone(),
            });
            return;
        }
        let told = self.known == Some(TaskState::TaskKilling);
        if session.sees_killing() && !self.overtime && !told {
            self.send_state(session, TaskState::TaskKilling, effects);
        }
        effects.push(Effect::Signal {
            container: self.container.clone(),
            signal: SIGTERM,
        });
        self.killing = Some(Killing {
            since: now,
            escalate: Some(now + grace),
        });
    }

    /// A further kill request may shorten what is left of the grace period, never lengthen it.
    pub(crate) fn hasten(&mut self, grace: Duration) {
        if let Some(Killing {
            since,
            escalate: Some(escalate),
        }) = &mut self.killing
        {
            *escalate = (*escalate).min(*since + grace);
        }
    }

    /// Does what is due.
    pub(crate) fn tick(&mut self, session: &mut Session, effects: &mut Effects) {
        if let Some(Killing { escalate, .. }) = &mut self.killing
            && escalate.is_some_and(|at| at <= session.now)
        {
            *escalate = None;
            effects.push(Effect::Destroy {
                container: self.container.clone(),
            });
        }
        // After the escalation, so that even without a grace period SIGTERM comes first.
        if self.completion.is_some_and(|at| at <= session.now) {
            self.overtime = true;
            self.kill(session, Duration::ZERO, effects);
        }
        self.probe(session, effects);
    }

    pub(crate) fn next_deadline(&self) -> Option<Time> {
        let probes = self.probers().filter_map(Prober::next_deadline).min();
        [
            self.completion,
            self.killing.and_then(|k| k.escalate),
            probes,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// An outcome of one of its probes; `true` if it is so unhealthy that it must be killed.
    pub(crate) fn probed(
        &mut self,
        session: &mut Session,
        probe: ProbeId,
        outcome: &ProbeOutcome,
        effects: &mut Effects,
    ) -> bool {
        let now = session.now;
        if let Some(check) = &mut self.check
            && check.prober.answered(now, probe)
        {
            if let Some(found) = check.found(outcome) {
                let mut status = self.again(session, Reason::TaskCheckStatusUpdated);
                status.check_status = Some(found);
                self.send(session, status, effects);
            }
            return false;
        }
        if let Some(health) = &mut self.health
            && health.prober.answered(now, probe)
            && let Some(verdict) = health.judge(now, outcome)
        {
            let mut status = self.again(session, Reason::TaskHealthCheckStatusUpdated);
            status.healthy = Some(verdict.healthy);
            self.send(session, status, effects);
            return verdict.kill;
        }
        false
    }

    /// State, reason and message of a task whose command ended with `status`.
    pub(crate) fn verdict(&self, status: ExitStatus) -> (TaskState, Option<Reason>, String) {
        let (state, reason) = if self.overtime {
            (
                TaskState::TaskFailed,
                Some(Reason::MaxCompletionTimeReached),
            )
        } else if self.is_killing() {
            (TaskState::TaskKilled, None)
        } else if status.success() {
            (TaskState::TaskFinished, None)
        } else {
            (TaskState::TaskFailed, None)
        };
        (state, reason, format!("Command {status}"))
    }

    /// It is over, whatever the reason.
    pub(crate) fn stop(&mut self, effects: &mut Effects) {
        self.stop_probes(effects);
        self.completion = None;
        if let Some(killing) = &mut self.killing {
            killing.escalate = None;
        }
    }

    /// The last status once more, with all that was attached to it.
    fn again(&self, session: &mut Session, reason: Reason) -> v1::TaskStatus {
        let mut status = match &self.last {
            Some(last) => last.clone(),
            None => self.status(session, TaskState::TaskRunning),
        };
        status.reason = Some(reason as i32);
        status
    }

    fn probers(&self) -> impl Iterator<Item = &Prober> {
        self.check
            .iter()
            .map(|c| &c.prober)
            .chain(self.health.iter().map(|h| &h.prober))
    }

    fn probers_mut(&mut self) -> impl Iterator<Item = &mut Prober> {
        self.check
            .iter_mut()
            .map(|c| &mut c.prober)
            .chain(self.health.iter_mut().map(|h| &mut h.prober))
    }

    fn stop_probes(&mut self, effects: &mut Effects) {
        for id in self.probers_mut().filter_map(Prober::stop) {
            effects.push(Effect::CancelProbe { id });
        }
        self.check = None;
        self.health = None;
    }

    /// Sends the probes that are due.
    fn probe(&mut self, session: &mut Session, effects: &mut Effects) {
        let now = session.now;
        let mut due: Vec<(ProbeId, Result<Probe, v1::CommandInfo>, Duration)> = Vec::new();
        for prober in self.probers_mut().filter(|p| p.is_due(now)) {
            let id = session.next_probe();
            prober.sent(id);
            due.push((
                id,
                prober.target.probe().map_err(Clone::clone),
                prober.timeout,
            ));
        }
        for (id, probe, timeout) in due {
            let probe = probe.unwrap_or_else(|command| {
                Probe::Command(Box::new(self.check_container(session, command)))
            });
            effects.push(Effect::Probe { id, probe, timeout });
        }
    }

    /// A command check runs beside the task: same sandbox, same environment, its own container.
    fn check_container(&self, session: &mut Session, command: v1::CommandInfo) -> LaunchSpec {
        let mut environment: IndexMap<String, String> = self.environment.iter().cloned().collect();
        add_variables(&mut environment, &command);
        LaunchSpec {
            container: session.check_container(&self.container),
            sandbox: self.sandbox.clone(),
            latest: None,
            user: command.user.clone().or_else(|| self.user.clone()),
            command,
            environment: environment.into_iter().collect(),
            uris: Vec::new(),
            container_info: self.info.container.clone().map(Arc::new),
            resources: Arc::new([]),
            outlives: None,
        }
    }
}

/// Variables of a command replace what was there. Secrets are not resolved here and are left out.
fn add_variables(environment: &mut IndexMap<String, String>, command: &v1::CommandInfo) {
    let variables = command.environment.iter().flat_map(|e| &e.variables);
    for variable in variables.filter(|v| v.r#type() != v1::environment::variable::Type::Secret) {
        environment.insert(variable.name.clone(), variable.value().to_owned());
    }
}

/// A task's resources are all allocated to one role; the leader sees to that.
fn allocation_role(info: &v1::TaskInfo) -> Option<&str> {
    info.resources
        .first()?
        .allocation_info
        .as_ref()?
        .role
        .as_deref()
}
