//! What a restarted follower is told of the time before: the content of its checkpoints, read and
//! checked by the shell. [`Follower::recover`](crate::Follower::recover) takes it back.

use bytes::Bytes;
use std::collections::BTreeSet;
use tepui_model::FollowerId;
use tepui_protocol::{internal as i, peer::Pid, v1};

/// Everything that was checkpointed and could be read.
#[derive(Debug, Clone, PartialEq)]
pub struct Recovered {
    /// Who this follower was.
    pub id: FollowerId,
    /// The machine was restarted since: nothing runs any more.
    pub rebooted: bool,
    /// It was being drained.
    pub drain: Option<v1::DrainConfig>,
    /// What ran here.
    pub frameworks: Vec<RecoveredFramework>,
    /// What could not be read, for the log and for `slave/recovery_errors`.
    pub problems: Vec<String>,
}

/// A framework.
#[derive(Debug, Clone, PartialEq)]
pub struct RecoveredFramework {
    /// As last told by the leader; `id` is set.
    pub info: v1::FrameworkInfo,
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
    /// It was made up for a command task.
    pub generated: bool,
    /// Its container, which is also the name of its sandbox.
    pub container: String,
    /// The process that was started for it. Without one there is nothing to come back: it never
    /// started, or it ran within the follower and ended with it.
    pub process: Option<u32>,
    /// How it was connected.
    pub link: RecoveredLink,
    /// It had ended, and everything about it was acknowledged.
    pub completed: bool,
    /// Its tasks.
    pub tasks: Vec<RecoveredTask>,
    /// Containers of earlier runs, whose sandboxes are still there.
    pub earlier_runs: Vec<String>,
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
    /// Its updates, oldest first.
    pub updates: Vec<i::StatusUpdate>,
    /// Identities of those that were acknowledged.
    pub acknowledged: BTreeSet<Bytes>,
}
