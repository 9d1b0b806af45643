//! What must hold whatever happens, looked at from outside: against what truly runs, and against
//! everything that was ever said. The first thing that does not hold ends a run.

use std::collections::{BTreeMap, BTreeSet};
use tepui_model::{Time, container::ExitStatus};
use tepui_protocol::{
    peer::PeerMessage,
    v1::{self, TaskState, task_status},
};

use crate::event::Host;

/// CPUs and memory of a machine; see `follower::RESOURCES`.
const MACHINE: (f64, f64) = (8.0, 8192.0);

/// Watches a run.
#[derive(Debug, Default)]
pub(crate) struct Checker {
    pub(crate) failure: Option<String>,
    /// The latest leader that began.
    reign: Option<(u32, Host)>,
    wanted: BTreeMap<String, Wanted>,
    running: BTreeMap<(u8, u32), String>,
    /// How each task's command ended.
    exits: BTreeMap<String, ExitStatus>,
    starts: BTreeMap<String, u32>,
    told: BTreeMap<String, Told>,
    kills: BTreeSet<String>,
    /// The latest write of the registry: in whose term, and its number in there.
    written: Option<(u32, u64)>,
    pub(crate) terms: u32,
    pub(crate) updates: u64,
}

#[derive(Debug)]
struct Wanted {
    framework: u8,
    /// Otherwise its leader gives it up when the link to its follower breaks, though it may run.
    checkpoint: bool,
    cpus: f64,
    mem: f64,
}

/// What was said of a task.
#[derive(Debug, Default)]
struct Told {
    /// Updates in the order in which its follower first sent them.
    sent: Vec<(bytes::Bytes, TaskState)>,
    /// Those that its framework has heard.
    heard: BTreeSet<bytes::Bytes>,
    /// Those that its framework has acknowledged.
    acknowledged: BTreeSet<bytes::Bytes>,
    /// How it ended, for its framework.
    end: Option<(TaskState, Option<bytes::Bytes>)>,
}

/// Ends that are never taken back.
fn is_final(state: TaskState) -> bool {
    use TaskState as S;
    matches!(
        state,
        S::TaskFinished
            | S::TaskFailed
            | S::TaskKilled
            | S::TaskError
            | S::TaskDropped
            | S::TaskGone
            | S::TaskGoneByOperator
    )
}

/// What a follower says of a task that it does not know: nothing makes that durable.
fn is_unknown(state: TaskState) -> bool {
    matches!(state, TaskState::TaskDropped | TaskState::TaskLost)
}

impl Checker {
    /// Something does not hold. Only the first is kept.
    pub(crate) fn fail(&mut self, why: String) {
        self.failure.get_or_insert(why);
    }

    /// A leader has read the registry and begins to lead.
    pub(crate) fn begins(&mut self, host: Host, sequence: u32, _now: Time) {
        self.terms += 1;
        if let Some((before, other)) = self.reign
            && (before > sequence || (before == sequence && other != host))
        {
            self.fail(format!(
                "{host} begins to lead ({sequence}) after {other} did ({before})"
            ));
        }
        self.reign = Some((sequence, host));
        self.written = None;
    }

    /// A leader says something.
    pub(crate) fn acts(&mut self, host: Host, sequence: u32, _now: Time) {
        if let Some((current, other)) = self.reign
            && current > sequence
        {
            self.fail(format!(
                "{host} acts as leader {sequence} while {other} leads as {current}"
            ));
        }
    }

    /// A message of a leader is on its way: what it says must be in the registry.
    pub(crate) fn leader_says(
        &mut self,
        registry: &BTreeMap<String, Vec<u8>>,
        message: &PeerMessage,
    ) {
        let id = match message {
            PeerMessage::SlaveRegistered(message) => &message.slave_id,
            PeerMessage::SlaveReregistered(message) => &message.slave_id,
            _ => return,
        };
        if !registry.contains_key(&format!("follower/{}", id.value)) {
            self.fail(format!(
                "{} is told that it is registered, but the registry does not know",
                id.value
            ));
        }
    }

    /// A message of a follower is on its way.
    pub(crate) fn follower_says(&mut self, _machine: u8, message: &PeerMessage) {
        let PeerMessage::StatusUpdate(message) = message else {
            return;
        };
        let status = &message.update.status;
        let Some(uuid) = &message.update.uuid else {
            return;
        };
        let task = &status.task_id.value;
        let kept = self.is_kept(task);
        let told = self.told.entry(task.clone()).or_default();
        if told.sent.iter().any(|(known, _)| known == uuid) {
            return;
        }
        // One at a time: what comes next waits for the acknowledgement of what was before.
        let open = told.sent.iter().find(|(known, state)| {
            kept && !is_unknown(*state) && !told.acknowledged.contains(known)
        });
        let wrong = open.map(|(_, before)| {
            let state = status.state();
            format!("{task}: {state:?} is sent before {before:?} was acknowledged")
        });
        told.sent.push((uuid.clone(), status.state()));
        if let Some(wrong) = wrong {
            self.fail(wrong);
        }
    }

    /// Whether a task's follower makes durable what it says of it.
    fn is_kept(&self, task: &str) -> bool {
        self.wanted
            .get(task)
            .is_some_and(|wanted| wanted.checkpoint)
    }

    /// A framework acknowledges something.
    pub(crate) fn acknowledges(&mut self, task: &str, uuid: &bytes::Bytes) {
        let told = self.told.entry(task.to_owned()).or_default();
        told.acknowledged.insert(uuid.clone());
    }

    /// A write of a leader changes the registry: never after a later leader has read it, and not
    /// after a later write of its own.
    pub(crate) fn written(&mut self, sequence: u32, number: u64) {
        let reigns = self.reign.map(|(sequence, _)| sequence);
        if reigns.is_some_and(|current| current > sequence) {
            self.fail(format!(
                "leader {sequence} writes the registry while {reigns:?} leads"
            ));
        }
        if let Some(before) = self.written
            && before > (sequence, number)
        {
            self.fail(format!(
                "write {number} of leader {sequence} changes the registry after {before:?}"
            ));
        }
        self.written = Some((sequence, number));
    }

    /// A framework is about to launch a task.
    pub(crate) fn wants(
        &mut self,
        task: &str,
        framework: u8,
        checkpoint: bool,
        (cpus, mem): (f64, f64),
    ) {
        let wanted = Wanted {
            framework,
            checkpoint,
            cpus,
            mem,
        };
        if self.wanted.insert(task.to_owned(), wanted).is_some() {
            self.fail(format!("{task} is launched twice by its framework"));
        }
    }

    /// A framework wants a task killed.
    pub(crate) fn kills(&mut self, task: &str) {
        self.kills.insert(task.to_owned());
    }

    /// A framework hears of a task.
    pub(crate) fn hears(&mut self, status: &v1::TaskStatus) {
        self.updates += 1;
        let task = &status.task_id.value;
        let state = status.state();
        let runs = self.running.values().any(|running| running == task);
        let exit = self.exits.get(task).copied();
        let kept = self
            .wanted
            .get(task)
            .is_some_and(|wanted| wanted.checkpoint);
        let told = self.told.entry(task.clone()).or_default();
        let mut wrong = None;
        if let Some(uuid) = &status.uuid
            && told.heard.insert(uuid.clone())
        {
            let at = told.sent.iter().position(|(known, _)| known == uuid);
            let before = &told.sent[..at.unwrap_or(0)];
            // A follower that knows nothing of a task says so anew after its restart. Without
            // checkpoints it forgets what was not acknowledged.
            let missed = before
                .iter()
                .find(|(known, missed)| kept && !told.heard.contains(known) && *missed != state);
            wrong = match (at, missed) {
                (None, _) => Some(format!("{task}: nobody sent the update {state:?}")),
                (_, Some((_, missed))) => {
                    Some(format!("{task}: {state:?} comes before {missed:?}"))
                }
                _ => None,
            };
        }
        // The leader's word on all that was not acknowledged when it gave up a follower, or on a task
        // that was acknowledged, and so forgotten, while its framework's question was on its way.
        let given_up = status.uuid.is_none()
            && (matches!(state, TaskState::TaskLost | TaskState::TaskUnreachable)
                || (state == TaskState::TaskGone
                    && status.reason() == task_status::Reason::Reconciliation));
        // A kill may cross the task's end.
        let crossed = is_unknown(state) && self.kills.contains(task);
        let settled = told.end.is_some();
        if !kept || (settled && (given_up || crossed)) {
        } else if let Some((end, uuid)) = &told.end {
            let unknown = is_unknown(state);
            let same = unknown || uuid.is_none() || status.uuid.is_none() || *uuid == status.uuid;
            if state != *end || !same {
                let again = if state == *end { " (another one)" } else { "" };
                wrong = Some(format!("{task} is {state:?}{again} after it was {end:?}"));
            }
        } else if is_final(state) {
            told.end = Some((state, status.uuid.clone()));
            if runs {
                wrong = Some(format!("{task} is {state:?}, but it runs"));
            }
            if state == TaskState::TaskFinished && exit != Some(ExitStatus::Code(0)) {
                wrong = Some(format!("{task} has finished, but truly: {exit:?}"));
            }
        }
        if let Some((_, uuid)) = &mut told.end
            && uuid.is_none()
        {
            *uuid = status.uuid.clone();
        }
        if let Some(wrong) = wrong {
            self.fail(wrong);
        }
    }

    /// A command runs.
    pub(crate) fn started(
        &mut self,
        machine: u8,
        pid: u32,
        (framework, task): (u8, String),
        _resources: &[v1::Resource],
    ) {
        let starts = self.starts.entry(task.clone()).or_default();
        *starts += 1;
        if *starts > 1 {
            self.fail(format!("{task} was started twice"));
        }
        let owner = self.wanted.get(&task).map(|wanted| wanted.framework);
        if owner != Some(framework) {
            self.fail(format!("nobody wants {task}"));
        }
        let kept = self
            .wanted
            .get(&task)
            .is_some_and(|wanted| wanted.checkpoint);
        let told = self.told.get(&task).filter(|_| kept);
        if let Some((end, _)) = told.and_then(|told| told.end.as_ref()) {
            self.fail(format!("{task} is started after it was {end:?}"));
        }
        self.running.insert((machine, pid), task);
        let here = self.running.iter().filter(|((at, _), _)| *at == machine);
        let wanted = here.filter_map(|(_, task)| self.wanted.get(task));
        let wanted = wanted.filter(|wanted| wanted.checkpoint);
        let (cpus, mem) = wanted.fold((0.0, 0.0), |(cpus, mem), wanted| {
            (cpus + wanted.cpus, mem + wanted.mem)
        });
        if cpus > MACHINE.0 + 1e-6 || mem > MACHINE.1 + 1e-6 {
            self.fail(format!(
                "machine {machine} is overcommitted: {cpus} CPUs, {mem} MB"
            ));
        }
    }

    /// A command has ended.
    pub(crate) fn ended(&mut self, machine: u8, pid: u32, status: ExitStatus) {
        if let Some(task) = self.running.remove(&(machine, pid)) {
            self.exits.insert(task, status);
        }
    }

    /// What must hold once nothing is left to do.
    pub(crate) fn at_the_end(&mut self) {
        if let Some(((machine, _), task)) = self.running.first_key_value() {
            return self.fail(format!("{task} is left running on machine {machine}"));
        }
        let mut lost = None;
        for (task, told) in &self.told {
            // Without checkpoints, or where a task is unknown, nothing makes an update durable.
            let kept = self
                .wanted
                .get(task)
                .is_some_and(|wanted| wanted.checkpoint);
            let unheard = told
                .sent
                .iter()
                .find(|(uuid, state)| kept && !is_unknown(*state) && !told.heard.contains(uuid));
            if let Some((_, state)) = unheard {
                lost = Some(format!("{task}: {state:?} was sent and never heard"));
            }
        }
        if let Some(lost) = lost {
            self.fail(lost);
        }
    }
}
