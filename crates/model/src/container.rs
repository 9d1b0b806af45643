//! What a core asks of the container runtime and what it hears back.
//!
//! A [`LaunchSpec`] is complete: whoever carries it out (the Linux runtime, a simulated process
//! table) makes no decision of its own.

use std::{fmt, path::PathBuf, sync::Arc};
use tepui_protocol::v1;

/// A container; nested ones carry their parents. Texts are UUIDs chosen by the follower or the
/// executor.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContainerId {
    /// Own value.
    pub value: Arc<str>,
    /// The container it is nested in.
    pub parent: Option<Arc<ContainerId>>,
}

impl ContainerId {
    /// A top-level container.
    pub fn top(value: impl Into<Arc<str>>) -> Self {
        Self {
            value: value.into(),
            parent: None,
        }
    }
    /// A container nested in this one.
    pub fn nested(&self, value: impl Into<Arc<str>>) -> Self {
        Self {
            value: value.into(),
            parent: Some(Arc::new(self.clone())),
        }
    }
    /// The outermost ancestor's value.
    pub fn root(&self) -> &str {
        self.parent.as_ref().map_or(&self.value, |p| p.root())
    }
    /// As it stands on the wire.
    pub fn to_proto(&self) -> v1::ContainerId {
        v1::ContainerId {
            value: self.value.to_string(),
            parent: self.parent.as_ref().map(|p| Box::new(p.to_proto())),
        }
    }
}

impl From<&v1::ContainerId> for ContainerId {
    fn from(id: &v1::ContainerId) -> Self {
        Self {
            value: id.value.as_str().into(),
            parent: id.parent.as_ref().map(|p| Arc::new((&**p).into())),
        }
    }
}

/// Outermost first, joined by dots: `parent.child`.
impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = &self.parent {
            write!(f, "{parent}.")?;
        }
        f.write_str(&self.value)
    }
}

impl fmt::Debug for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Everything needed to start one container: make the sandbox, fetch into it, start the command.
#[derive(Clone, Debug, PartialEq)]
pub struct LaunchSpec {
    /// Which.
    pub container: ContainerId,
    /// Sandbox directory: made if absent, owned by `user`; working directory of the command, place
    /// of `stdout` and `stderr`.
    pub sandbox: PathBuf,
    /// Symlink to point at the sandbox once it exists (`…/runs/latest`).
    pub latest: Option<PathBuf>,
    /// User to run as; `None`: as the follower.
    pub user: Option<String>,
    /// What to run: `shell` + `value`, or `value` as the program and `arguments` as its argv.
    pub command: v1::CommandInfo,
    /// The whole environment, in order; nothing is inherited.
    pub environment: Vec<(String, String)>,
    /// What to fetch into the sandbox first, in order.
    pub uris: Vec<v1::command_info::Uri>,
    /// Container settings of the task or executor (rlimits, volumes, image, tty).
    pub container_info: Option<Arc<v1::ContainerInfo>>,
    /// Resources that bound it.
    pub resources: Arc<[v1::Resource]>,
    /// It goes on when the follower ends, to be taken back by the next one, which learns this name
    /// again: the task's id, or the executor's for a container of its own. `None`: it ends with the
    /// follower.
    pub outlives: Option<Arc<str>>,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ExitStatus {
    /// `exit(code)`.
    Code(i32),
    /// Killed by this signal.
    Signal(i32),
}

impl ExitStatus {
    /// Whether it is `exit(0)`.
    pub fn success(self) -> bool {
        self == Self::Code(0)
    }
}

/// `exited with status 3`, `terminated with signal Killed`: the words the reference puts in task
/// status messages.
impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exited with status {code}"),
            Self::Signal(signal) => write!(f, "terminated with signal {}", signal_name(*signal)),
        }
    }
}

/// `strsignal(3)`'s English text.
pub fn signal_name(signal: i32) -> String {
    let name = match signal {
        1 => "Hangup",
        2 => "Interrupt",
        3 => "Quit",
        4 => "Illegal instruction",
        5 => "Trace/breakpoint trap",
        6 => "Aborted",
        7 => "Bus error",
        8 => "Floating point exception",
        9 => "Killed",
        10 => "User defined signal 1",
        11 => "Segmentation fault",
        12 => "User defined signal 2",
        13 => "Broken pipe",
        14 => "Alarm clock",
        15 => "Terminated",
        24 => "CPU time limit exceeded",
        25 => "File size limit exceeded",
        31 => "Bad system call",
        _ => return format!("Unknown signal {signal}"),
    };
    name.to_owned()
}

/// What happened to a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContainerEvent {
    /// Its command runs as this process of the host.
    Launched {
        /// Process id in the host's namespace.
        pid: u32,
    },
    /// It never ran; nothing of it is left but the sandbox.
    LaunchFailed {
        /// Which step failed.
        step: LaunchStep,
        /// What the operator should read.
        message: String,
    },
    /// Its command ended, and everything it had started is gone.
    Exited {
        /// `None` when the status was lost with the process that watched it.
        status: Option<ExitStatus>,
    },
}

/// The steps of a launch, for the reasons of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LaunchStep {
    /// Making the sandbox directory.
    Sandbox,
    /// Fetching a URI.
    Fetch,
    /// Starting the command.
    Start,
}
