//! What a restarted follower is told of the time before: the content of its checkpoints, read and
//! checked by the shell. [`Follower::recover`](crate::Follower::recover) takes it back.

use bytes::Bytes;
use std::{collections::BTreeSet, fmt, sync::Arc, time::Duration};
use tepui_model::{ExecutorId, FollowerId, container::ExitStatus};
use tepui_protocol::{internal as i, peer::Pid, v1};

/// Everything that was checkpointed and could be read.
#[derive(Debug, Clone, PartialEq)]
pub struct Recovered {
    /// Who this follower was.
    pub id: FollowerId,
    /// How it introduced itself then.
    pub info: v1::AgentInfo,
    /// The machine was restarted since: nothing runs any more.
    pub rebooted: bool,
    /// It was being drained.
    pub drain: Option<v1::DrainConfig>,
    /// What ran here.
    pub frameworks: Vec<RecoveredFramework>,
    /// What could not be read, for the log and for `slave/recovery_errors`.
    pub problems: Vec<Problem>,
}

/// Something that could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file, and what is wrong with it.
    pub text: String,
    /// A file is damaged, so that not all that it said is known. Otherwise its end was not written
    /// completely, or it was not written at all, as happens when a machine fails.
    pub damage: bool,
}

/// A framework.
#[derive(Debug, Clone, PartialEq)]
pub struct RecoveredFramework {
    /// As last told by the leader; `id` is set.
    pub info: v1::FrameworkInfo,
    /// Its `info` could not be read, and holds no more than its id: why.
    pub damaged: Option<String>,
    /// v0 drivers have one.
    pub pid: Option<Pid>,
    /// Executors that may have something left to do, and the last ones that have not, which are
    /// remembered; of two that have not, the older one comes first.
    pub executors: Vec<RecoveredExecutor>,
    /// All others that have nothing left to do, whose directories are still there. Nothing but their
    /// names is known: there may be as many as tasks ended within `--gc_delay`.
    pub ended: Vec<EndedRun>,
    /// How long no executor came or went.
    pub age: Duration,
}

/// A run of which nothing is left to be seen to but that its directory goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndedRun {
    /// Its executor.
    pub executor: ExecutorId,
    /// Its container. None where nothing is left of the executor but its own directory.
    pub run: Option<RunName>,
    /// No later run of this executor is there: its own directory goes, too.
    pub last: bool,
    /// How long nothing has been written of it.
    pub age: Duration,
}

/// What a run is called: the id of its container. That is a UUID unless somebody else made it, and
/// kept as one, since many of these are kept for long.
#[derive(Clone, PartialEq, Eq)]
pub struct RunName(Name);

#[derive(Clone, PartialEq, Eq)]
enum Name {
    Uuid([u8; 16]),
    Other(Arc<str>),
}

/// Where the groups of digits of a UUID begin.
const DASHES: [usize; 4] = [8, 13, 18, 23];

impl From<&str> for RunName {
    fn from(text: &str) -> Self {
        Self(uuid(text).map_or_else(|| Name::Other(text.into()), Name::Uuid))
    }
}

/// The bytes of a UUID as we write it, in lower case. Another spelling is another directory.
fn uuid(text: &str) -> Option<[u8; 16]> {
    let text = text.as_bytes();
    if text.len() != 36 || DASHES.iter().any(|at| text.get(*at) != Some(&b'-')) {
        return None;
    }
    let digits = text
        .iter()
        .enumerate()
        .filter(|(at, _)| !DASHES.contains(at));
    let mut bytes = [0; 16];
    for (place, (_, digit)) in digits.enumerate() {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        let byte = bytes.get_mut(place / 2)?;
        *byte = *byte << 4 | value;
    }
    Some(bytes)
}

impl fmt::Display for RunName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = match &self.0 {
            Name::Uuid(bytes) => bytes,
            Name::Other(text) => return f.write_str(text),
        };
        for (at, byte) in bytes.iter().enumerate() {
            if [4, 6, 8, 10].contains(&at) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for RunName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The last run of an executor.
#[derive(Debug, Clone, PartialEq)]
pub struct RecoveredExecutor {
    /// As launched.
    pub info: v1::ExecutorInfo,
    /// Its `info` could not be read, and holds no more than its id: why.
    pub damaged: Option<String>,
    /// It was made up for a command task.
    pub generated: bool,
    /// Its container, which is also the name of its sandbox.
    pub container: String,
    /// Its process, if it had one of its own that was started.
    pub process: Option<u32>,
    /// What became of that process. The files do not say: the shell looks.
    pub fate: Fate,
    /// How it was connected.
    pub link: RecoveredLink,
    /// It had ended, and everything about it was acknowledged.
    pub completed: bool,
    /// Its tasks.
    pub tasks: Vec<RecoveredTask>,
    /// Containers of earlier runs, whose sandboxes are still there, and how long they have not been
    /// used.
    pub earlier_runs: Vec<(String, Duration)>,
    /// How long nothing has been written of it.
    pub age: Duration,
}

impl RecoveredExecutor {
    /// It ran within the follower. What an agent of Mesos starts for such ones has a process.
    pub fn is_local(&self) -> bool {
        let built_in = self.generated || self.info.r#type() == v1::executor_info::Type::Default;
        built_in && self.process.is_none() && self.link == RecoveredLink::Unknown
    }
}

/// What became of an executor's process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It runs.
    Running,
    /// It ended, if that is known in this way.
    Exited(Option<ExitStatus>),
    /// Nobody knows anything of it.
    Unknown,
}

/// How an executor was connected before the restart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecoveredLink {
    /// A v0 driver, to be asked to come back.
    Driver(Pid),
    /// Over the v1 API: it comes back by itself.
    Http,
    /// It had not introduced itself.
    Unknown,
}

/// A task.
#[derive(Debug, Clone, PartialEq)]
pub struct RecoveredTask {
    /// As it was when it was sent to its executor.
    pub task: v1::Task,
    /// It could not be read, and is no more than its id: why.
    pub damaged: Option<String>,
    /// As it was launched, which only followers of ours write down.
    pub launched: Option<v1::TaskInfo>,
    /// Tasks that stand and fall together have the same.
    pub group: Option<Arc<str>>,
    /// Its updates, oldest first.
    pub updates: Vec<i::StatusUpdate>,
    /// Identities of those that were acknowledged.
    pub acknowledged: BTreeSet<Bytes>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_keeps_its_name_to_the_letter() {
        for name in [
            "985abfe8-7fef-433b-9acf-f8c1b526b69b",
            "985ABFE8-7fef-433b-9acf-f8c1b526b69b",
            "985abfe8-7fef-433b-9acf-f8c1b526b69",
            "985abfe8-7fef-433b-9acf-f8c1b526b69b0",
            "985abfe8-7fef-433b-9acf-f8c1b526b6-b",
            "985abfe8_7fef_433b_9acf_f8c1b526b69b",
            "latest",
            "",
            "\u{e9}",
        ] {
            assert_eq!(RunName::from(name).to_string(), name);
        }
        let uuid = RunName::from("985abfe8-7fef-433b-9acf-f8c1b526b69b");
        assert!(matches!(uuid.0, Name::Uuid(_)));
        assert_eq!(size_of::<RunName>(), 24);
    }
}
