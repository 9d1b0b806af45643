//! What a restarted follower is told of the time before: the content of its checkpoints, read and
//! checked by the shell. [`Follower::recover`](crate::Follower::recover) takes it back.

use bytes::Bytes;
use std::{collections::BTreeSet, sync::Arc, time::Duration};
use tepui_model::{FollowerId, container::ExitStatus};
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
    /// Its executors.
    pub executors: Vec<RecoveredExecutor>,
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
