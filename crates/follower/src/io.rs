//! Contract of the core: what goes in ([`Input`]) and what comes out ([`Effect`]).

use crate::{qos::Load, recovered::RecoveredLink};
use bytes::Bytes;
use std::{fmt, path::PathBuf, sync::Arc};
use tepui_auth::{
    authenticatee::{Authenticatee, PROCESS},
    http::HttpPrincipal,
};
use tepui_model::{
    ExecutorId, FollowerId, FrameworkId, RequestId, StreamId, TaskId,
    container::{ContainerEvent, ContainerId, LaunchSpec},
};
use tepui_protocol::{
    internal,
    peer::{PeerMessage, Pid},
    v1::{self, agent, executor},
};

pub use tepui_model::effects::{Level, Notice, Principal};

/// One thing that happened.
#[derive(Debug, Clone)]
pub enum Input {
    /// Time passed; see `Follower::next_deadline`.
    Tick,
    /// Leader detection has news. `None`: nobody leads.
    LeaderDetected(Option<Pid>),
    /// A libprocess message, of a leader or a v0 executor driver.
    Peer {
        /// Sender, as it says.
        from: Pid,
        /// Which of our processes it is for.
        to: ProcessName,
        /// What it says.
        message: PeerMessage,
    },
    /// The link to a process broke or could not be made.
    LinkBroken {
        /// The peer.
        pid: Pid,
    },
    /// `SUBSCRIBE` on the v1 executor API. On success the answer is [`Effect::OpenStream`].
    ExecutorSubscribe {
        /// Handle for the reply.
        request: RequestId,
        /// Fresh stream for the events.
        stream: StreamId,
        /// The call.
        call: Box<executor::Call>,
        /// Who sent it, where executors authenticate.
        principal: Option<HttpPrincipal>,
    },
    /// Any other executor call over HTTP.
    ExecutorCall {
        /// Handle for the reply.
        request: RequestId,
        /// The call.
        call: Box<executor::Call>,
        /// Who sent it, where executors authenticate.
        principal: Option<HttpPrincipal>,
    },
    /// An executor's stream ended.
    StreamClosed {
        /// Which.
        stream: StreamId,
    },
    /// A call (SUBSCRIBE included) of an executor that runs in this process.
    LocalExecutorCall {
        /// Its container.
        container: ContainerId,
        /// The call.
        call: Box<executor::Call>,
    },
    /// News of a container this core launched.
    Container {
        /// Which.
        container: ContainerId,
        /// What happened.
        event: ContainerEvent,
    },
    /// The links that [`Effect::LinkVolumes`] asked for are made and gone.
    VolumesLinked {
        /// Of which container.
        container: ContainerId,
        /// Why not; some of them may be.
        error: Option<String>,
    },
    /// How much the machine has to do; sent again and again where `--qos_controller` wants to know.
    Load(Load),
    /// How full the disk of the work dir is, `0.0..=1.0`; sent every `--disk_watch_interval`.
    DiskUsage(f64),
    /// A directory was removed (or could not be).
    Removed {
        /// Which.
        path: PathBuf,
        /// Why not.
        error: Option<String>,
    },
    /// A call of the v1 operator API that changes something. Reads are answered from the view.
    Operator {
        /// Handle for the reply.
        request: RequestId,
        /// The call.
        call: Box<agent::Call>,
        /// Authenticated principal.
        principal: Option<Principal>,
    },
    /// SIGUSR1 or an operator: unregister from the leader and stop.
    Shutdown {
        /// For the log and the leader.
        reason: String,
    },
}

/// One thing to do, in order; those after a [`Effect::Persist`] wait until it is durable.
#[derive(Debug, Clone)]
pub enum Effect {
    /// Make durable.
    Persist(Checkpoint),
    /// Answer 200 with a chunked RecordIO stream.
    OpenStream {
        /// The request to answer.
        request: RequestId,
        /// The stream.
        stream: StreamId,
    },
    /// An event for an executor.
    Event {
        /// Which one.
        to: ExecutorPeer,
        /// What.
        event: Box<executor::Event>,
    },
    /// End a stream after what was sent on it.
    CloseStream {
        /// Which.
        stream: StreamId,
    },
    /// Answer a request.
    Reply {
        /// Which.
        request: RequestId,
        /// With what.
        reply: Reply,
    },
    /// One libprocess message.
    Send {
        /// To whom.
        to: Pid,
        /// The sending process at our address.
        from: ProcessName,
        /// What.
        message: PeerMessage,
    },
    /// Start an executor core in this process for a container that has no process of its own.
    StartLocalExecutor(Box<LocalExecutor>),
    /// Forget a local executor.
    StopLocalExecutor {
        /// Its container.
        container: ContainerId,
    },
    /// Start a container.
    Launch(Box<LaunchSpec>),
    /// Change which persistent volumes a sandbox shows. Answered with [`Input::VolumesLinked`].
    LinkVolumes(Box<VolumeLinks>),
    /// Kill a container and everything in it; ends in `ContainerEvent::Exited`.
    Destroy {
        /// Which.
        container: ContainerId,
    },
    /// The end of a container that outlives followers has been taken over: nothing needs to be kept of
    /// it, nor of those nested in it. Comes after what made that durable.
    Forget {
        /// Which.
        container: ContainerId,
    },
    /// Signal every process of a container that runs.
    Signal {
        /// Which.
        container: ContainerId,
        /// Signal number.
        signal: i32,
    },
    /// Remove a directory tree (sandbox garbage collection). Answered with [`Input::Removed`].
    Remove {
        /// Which.
        path: PathBuf,
    },
    /// Make a directory known to `/files/*` under a virtual path (`/frameworks/F/executors/E/runs/latest`, …).
    Attach {
        /// Real directory.
        path: PathBuf,
        /// Virtual path.
        name: String,
    },
    /// Take back an [`Effect::Attach`].
    Detach {
        /// Virtual path.
        name: String,
    },
    /// End this process with status 0 (`false`) or 1 (`true`).
    Stop {
        /// Whether it is a failure.
        failed: bool,
    },
    /// Worth a line in the log.
    Log(Notice),
}

/// Links in a sandbox to make and to take away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeLinks {
    /// Container of the executor.
    pub container: ContainerId,
    /// Its sandbox; made if it is absent, as by [`LaunchSpec::sandbox`].
    pub sandbox: PathBuf,
    /// Symlink to point at the sandbox if it is made.
    pub latest: Option<PathBuf>,
    /// Whose the sandbox is.
    pub user: Option<String>,
    /// To be removed first. What is no link to that volume stays.
    pub gone: Vec<VolumeLink>,
    /// To be made. One that leads there already is well; anything else of that name is an error.
    pub made: Vec<VolumeLink>,
}

/// A persistent volume as a sandbox shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeLink {
    /// Name in the sandbox: one component.
    pub name: String,
    /// Directory of the volume.
    pub volume: PathBuf,
    /// Nobody who holds it here may write. A link cannot see to that.
    pub read_only: bool,
    /// The volume is to belong to the sandbox's owner, unless that is root, who needs no permission.
    pub give: bool,
}

/// A process of the follower: the name it sends under, and is written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProcessName {
    /// `slave(1)`
    Follower,
    /// `crammd5-authenticatee(N)`: the reference authenticates from a process of its own.
    Authenticatee(u64),
}

impl fmt::Display for ProcessName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Follower => f.write_str("slave(1)"),
            Self::Authenticatee(n) => f.write_str(&Authenticatee::process(*n)),
        }
    }
}

impl ProcessName {
    /// The process that a message's path names, if followers have such ones.
    pub fn parse(name: &str) -> Option<Self> {
        if name == "slave(1)" {
            return Some(Self::Follower);
        }
        let number = name
            .strip_prefix(PROCESS)?
            .strip_prefix('(')?
            .strip_suffix(')')?;
        number.parse().ok().map(Self::Authenticatee)
    }
}

/// Where an executor listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ExecutorPeer {
    /// A v1 executor's HTTP stream.
    Stream(StreamId),
    /// An executor core in this process.
    Local(ContainerId),
}

/// An executor that this process runs itself: the command executor or the default executor.
#[derive(Debug, Clone, PartialEq)]
pub struct LocalExecutor {
    /// Container of the executor; tasks of the default executor are nested in it.
    pub container: ContainerId,
    /// Which executor it is (its `type` is DEFAULT, or it stands for a command task).
    pub info: v1::ExecutorInfo,
    /// Its framework.
    pub framework: v1::FrameworkInfo,
    /// Sandbox of the executor.
    pub sandbox: PathBuf,
    /// Symlink to point at the sandbox once it exists (`…/runs/latest`). Whoever starts the executor
    /// makes both.
    pub latest: Option<PathBuf>,
    /// User that tasks run as when they name none.
    pub user: Option<String>,
    /// Environment that every task gets before its own variables.
    pub environment: Vec<(String, String)>,
    /// Kill grace period when a task's kill policy has none (`--executor_shutdown_grace_period`).
    pub shutdown_grace_period: std::time::Duration,
    /// Its tasks go on when the follower ends, and are taken back by the next one
    /// ([`LaunchSpec::outlives`]).
    pub outlives: bool,
    /// What it ran before a restart. It gets these here and not by a LAUNCH.
    pub recovered: Vec<LocalTask>,
}

/// A task that an executor of this process is to have again after a restart, its end not being known.
/// Its container, if there is one, carries the task's id as its name.
#[derive(Debug, Clone, PartialEq)]
pub struct LocalTask {
    /// As it was launched.
    pub info: v1::TaskInfo,
    /// Tasks that stand and fall together have the same.
    pub group: Option<Arc<str>>,
    /// The last state that is durable. `None`: its executor had said nothing of it.
    pub state: Option<v1::TaskState>,
}

/// Answer to a request.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    /// 202, no body.
    Accepted,
    /// 200, no body.
    Ok,
    /// 200 with a typed body.
    Response(Box<agent::Response>),
    /// An error with a text body.
    Error {
        /// 400, 403, 404, 409, 500, 501, 503.
        status: u16,
        /// For the one who asked.
        message: String,
    },
}

/// What must survive a follower's restart. The layout on disk is the reference's
/// (`src/slave/paths.cpp`).
#[derive(Debug, Clone, PartialEq)]
pub enum Checkpoint {
    /// `meta/slaves/<id>/slave.info`, and `meta/slaves/latest`.
    Follower(Box<v1::AgentInfo>),
    /// Nothing is to be recovered: `meta/slaves/latest` goes.
    Left,
    /// A status update to be retried until acknowledged, checkpointing frameworks only.
    StatusUpdate(Box<internal::StatusUpdate>),
    /// `framework.info` and `framework.pid`.
    Framework {
        /// Whose.
        follower: FollowerId,
        /// As told by the leader.
        info: Box<v1::FrameworkInfo>,
        /// Where its driver listens.
        pid: Option<Pid>,
    },
    /// Something about a run of an executor.
    Run(Box<RunCheckpoint>),
    /// `meta/resources/resources_and_operations.state` and, for agents of before 1.8,
    /// `meta/resources/resources.info`.
    Resources(Box<ResourcesCheckpoint>),
    /// `meta/slaves/<id>/drain.config`; without a configuration it is removed.
    Drain {
        /// Who drains.
        follower: FollowerId,
        /// How.
        config: Option<v1::DrainConfig>,
    },
}

/// What is kept of a run of an executor.
#[derive(Debug, Clone, PartialEq)]
pub struct RunCheckpoint {
    /// Whose.
    pub follower: FollowerId,
    /// Its framework.
    pub framework: FrameworkId,
    /// The executor.
    pub executor: ExecutorId,
    /// The run: its container.
    pub container: String,
    /// What.
    pub fact: RunFact,
}

/// One thing about a run, in the order in which they come to be.
#[derive(Debug, Clone, PartialEq)]
pub enum RunFact {
    /// It begins: `executor.info`, `executor_generated_for_command_task`, `runs/latest`.
    Executor {
        /// As launched.
        info: Box<v1::ExecutorInfo>,
        /// Made up for a command task.
        generated: bool,
    },
    /// Its process: `forked.pid`.
    Process(u32),
    /// How it is connected: `libprocess.pid`, `http.marker`.
    Link(RecoveredLink),
    /// A task it is to get: `task.info`, and for executors of this process `task.launch`, which the
    /// reference does not have.
    Task {
        /// What leaders and readers see of it.
        task: Box<v1::Task>,
        /// What is needed to run it.
        launch: Option<Arc<v1::TaskInfo>>,
        /// The group it belongs to.
        group: Option<Arc<str>>,
    },
    /// An update of a task need not be sent again: `task.updates`.
    Acknowledged {
        /// Which task.
        task: TaskId,
        /// Which update.
        uuid: Bytes,
    },
    /// It is over, and all is acknowledged: `executor.sentinel`.
    Completed,
}

/// What operations made of the resources, and the directories that go with it. Directories are made
/// and removed before the new state counts: a crash in between is repaired by doing it again.
#[derive(Debug, Clone, PartialEq)]
pub struct ResourcesCheckpoint {
    /// What to write.
    pub state: internal::ResourceState,
    /// Directories of new volumes. What is there already stays as it is.
    pub made: Vec<PathBuf>,
    /// Directories of volumes that are gone; `true` for those of which only the content goes.
    pub gone: Vec<(PathBuf, bool)>,
}

/// Where the core puts its effects.
pub type Effects = tepui_model::effects::Effects<Effect>;
