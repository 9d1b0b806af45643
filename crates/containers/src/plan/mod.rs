//! From a [`LaunchSpec`] to a [`ProcessPlan`]: pure, total, golden-tested.
//!
//! Every choice about how a command starts is made here: which files may be the program, what
//! argv and environment look like, who it runs as, which limits bind it. Carrying the plan out
//! only makes system calls. Follows `src/slave/containerizer/mesos/launch.cpp`.

mod limits;
mod volumes;

pub use limits::{RLimit, rlimits};
pub use volumes::{SandboxLink, parent_sandbox, sandbox_links};

use crate::record;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};
use tepui_model::container::{ContainerId, LaunchSpec};
use tepui_protocol::v1;

/// `PATH` of a command whose environment has none.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// The kernel takes no single argument or `NAME=VALUE` longer than this, its NUL included
/// (`MAX_ARG_STRLEN`).
pub const ARGUMENT_BYTES_MAX: usize = 128 * 1024;
/// All arguments and variables together, with the pointers to them; a quarter of the usual 8 MiB
/// stack limit, which is where the kernel stops.
pub const ARGUMENTS_BYTES_TOTAL_MAX: usize = 2 * 1024 * 1024 - 4096;

const SHELL: &str = "/bin/sh";

/// Everything the launcher needs to start one process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessPlan {
    /// Which container.
    pub container: ContainerId,
    /// Files to try as the program, in order; the first that can be executed is it.
    pub candidates: Vec<PathBuf>,
    /// Its arguments, `argv[0]` included.
    pub argv: Vec<String>,
    /// Its environment, `NAME=VALUE`.
    pub environment: Vec<String>,
    /// Working directory.
    pub directory: PathBuf,
    /// Where its standard streams lead.
    pub stdio: Stdio,
    /// Who to become first; `None`: stay who the follower is.
    pub identity: Option<Identity>,
    /// Limits to set.
    pub rlimits: Vec<RLimit>,
    /// File mode bits to take away.
    pub umask: u32,
    /// What becomes of it when the follower goes away.
    pub on_supervisor_death: OnSupervisorDeath,
}

/// Standard input, output and error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stdio {
    /// Standard input.
    pub input: Stream,
    /// Standard output.
    pub output: Stream,
    /// Standard error.
    pub error: Stream,
}

/// Where one standard stream leads. Streams handed over as file descriptors get a variant of
/// their own when something needs them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stream {
    /// `/dev/null`.
    Null,
    /// Appended to this file, made if absent; a symbolic link is refused. A relative path starts
    /// at the working directory.
    Append(PathBuf),
}

/// A user as numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// All groups, the primary included.
    pub groups: Vec<u32>,
}

/// What becomes of a container when its follower or launcher goes away.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum OnSupervisorDeath {
    /// It is killed.
    #[default]
    Kill,
    /// It runs on, and a later follower finds it by its [record](crate::record).
    KeepRunning(Keep),
}

/// What is kept of a container that outlives its follower, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keep {
    /// What its next follower knows it by: the id of its task or executor.
    pub name: String,
    /// Directory of its record; see [`record::directory`](crate::record::directory).
    pub directory: PathBuf,
    /// File that is locked while a launcher may start something, or end it, below the state
    /// directory.
    pub lock: PathBuf,
}

/// What planning must know of the host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostFacts {
    /// The follower's effective user id.
    pub uid: u32,
    /// The users that were looked up; `None`: the host has no such user.
    pub users: BTreeMap<String, Option<Identity>>,
    /// Where records of containers that outlive their follower are kept; `None`: none does.
    pub state: Option<PathBuf>,
}

/// Why there is no plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// `shell` without `value`.
    #[error("Shell command is not specified")]
    NoShellCommand,
    /// Neither `shell` nor `value`.
    #[error("Executable path is not specified")]
    NoExecutable,
    /// The host has no such user.
    #[error("Failed to get the uid of user '{0}': not found")]
    NoSuchUser(String),
    /// Only root may become someone else.
    #[error("Failed to switch to user '{0}': the agent does not run as root")]
    CannotSwitchUser(String),
    /// A NUL where the kernel's interface ends a text.
    #[error("{0} contains a NUL byte")]
    Nul(&'static str),
    /// An environment variable without a usable name.
    #[error("'{0}' is not a name of an environment variable")]
    InvalidVariable(String),
    /// One argument or variable is longer than the kernel takes.
    #[error("{what} is {bytes} bytes long, more than the {ARGUMENT_BYTES_MAX} allowed")]
    ArgumentTooLong {
        /// `An argument` or the variable's name.
        what: String,
        /// Its length with its NUL.
        bytes: usize,
    },
    /// All of them together are more than the kernel takes.
    #[error(
        "Arguments and environment take {bytes} bytes, more than the {ARGUMENTS_BYTES_TOTAL_MAX} allowed"
    )]
    ArgumentsTooLong {
        /// What they take.
        bytes: usize,
    },
    /// `UNKNOWN` or no type, or a number we do not know.
    #[error("Unknown rlimit type")]
    UnknownRLimit,
    /// One of `soft` and `hard` is missing, or `soft` is above `hard`.
    #[error("Invalid rlimit values")]
    InvalidRLimit,
    /// A volume that leads nowhere it may.
    #[error("{0}")]
    Volume(String),
    /// Something this runtime does not do yet.
    #[error("{0} are not supported")]
    Unsupported(&'static str),
}

/// Plans a container's process: streams go to `stdout` and `stderr` in the sandbox.
///
/// ```
/// # use std::path::PathBuf;
/// # use tepui_containers::plan::{plan, HostFacts};
/// # use tepui_model::container::{ContainerId, LaunchSpec};
/// # use tepui_protocol::v1;
/// let spec = LaunchSpec {
///     container: ContainerId::top("c1"),
///     sandbox: "/var/lib/tepui/c1".into(),
///     latest: None,
///     user: None,
///     command: v1::CommandInfo { value: Some("echo hi".into()), ..Default::default() },
///     environment: vec![],
///     uris: vec![],
///     container_info: None,
///     resources: [].into(),
///     outlives: None,
/// };
/// let plan = plan(&spec, &HostFacts::default()).unwrap();
/// assert_eq!(plan.candidates, [PathBuf::from("/bin/sh")]);
/// assert_eq!(plan.argv, ["sh", "-c", "echo hi"]);
/// ```
pub fn plan(spec: &LaunchSpec, host: &HostFacts) -> Result<ProcessPlan, PlanError> {
    refuse_unsupported(spec.container_info.as_deref())?;
    sandbox_links(spec)?;
    let environment = environment(&spec.environment)?;
    let (candidates, argv) = program(&spec.command, &spec.sandbox, &environment)?;
    check_lengths(&argv, &environment)?;
    if path_has_nul(&spec.sandbox) {
        return Err(PlanError::Nul("The sandbox's path"));
    }
    Ok(ProcessPlan {
        container: spec.container.clone(),
        candidates,
        argv,
        environment: environment.into_values().collect(),
        directory: spec.sandbox.clone(),
        stdio: Stdio {
            input: Stream::Null,
            output: Stream::Append("stdout".into()),
            error: Stream::Append("stderr".into()),
        },
        identity: identity(spec.user.as_deref(), host)?,
        rlimits: rlimits(
            spec.container_info
                .as_ref()
                .and_then(|c| c.rlimit_info.as_ref()),
        )?,
        umask: 0o022,
        on_supervisor_death: on_supervisor_death(spec, host)?,
    })
}

/// One that is to outlive its follower needs a place that says so.
fn on_supervisor_death(
    spec: &LaunchSpec,
    host: &HostFacts,
) -> Result<OnSupervisorDeath, PlanError> {
    let (Some(name), Some(state)) = (&spec.outlives, &host.state) else {
        return Ok(OnSupervisorDeath::Kill);
    };
    let directory = record::directory(state, &spec.container);
    Ok(OnSupervisorDeath::KeepRunning(Keep {
        name: name.to_string(),
        directory: directory.ok_or(PlanError::Unsupported(
            "Container ids that are no file names",
        ))?,
        lock: record::lock(state),
    }))
}

/// What would change the meaning of the command if it were left out silently.
fn refuse_unsupported(info: Option<&v1::ContainerInfo>) -> Result<(), PlanError> {
    let Some(info) = info else { return Ok(()) };
    if info.r#type == v1::container_info::Type::Docker as i32 {
        return Err(PlanError::Unsupported("Docker containers"));
    }
    if info.mesos.as_ref().is_some_and(|m| m.image.is_some()) {
        return Err(PlanError::Unsupported("Container images"));
    }
    if info.tty_info.is_some() {
        return Err(PlanError::Unsupported("Terminals"));
    }
    Ok(())
}

/// `NAME` to `NAME=VALUE`, in order of names: a later value of a name replaces an earlier one, and
/// there is always a `PATH` (`launch.cpp` merges and fills in the same way).
fn environment(given: &[(String, String)]) -> Result<BTreeMap<&str, String>, PlanError> {
    let mut merged = BTreeMap::new();
    for (name, value) in given {
        if name.is_empty() || name.contains('=') {
            return Err(PlanError::InvalidVariable(name.clone()));
        }
        if name.contains('\0') || value.contains('\0') {
            return Err(PlanError::Nul("An environment variable"));
        }
        merged.insert(name.as_str(), format!("{name}={value}"));
    }
    merged
        .entry("PATH")
        .or_insert_with(|| format!("PATH={DEFAULT_PATH}"));
    Ok(merged)
}

/// The files that may be the program, and argv.
fn program(
    command: &v1::CommandInfo,
    directory: &Path,
    environment: &BTreeMap<&str, String>,
) -> Result<(Vec<PathBuf>, Vec<String>), PlanError> {
    if command.shell.unwrap_or(true) {
        let text = command.value.clone().ok_or(PlanError::NoShellCommand)?;
        return Ok((vec![SHELL.into()], vec!["sh".into(), "-c".into(), text]));
    }
    let value = command
        .value
        .as_deref()
        .filter(|v| !v.is_empty())
        .ok_or(PlanError::NoExecutable)?;
    if value.contains('\0') {
        return Err(PlanError::Nul("The executable's path"));
    }
    // A program must have an `argv[0]`: many read it unasked.
    let argv = if command.arguments.is_empty() {
        vec![value.into()]
    } else {
        command.arguments.clone()
    };
    Ok((candidates(value, directory, environment), argv))
}

/// An absolute path is itself. Everything else is looked for in the working directory first, and a
/// bare name then along `PATH`.
fn candidates(value: &str, directory: &Path, environment: &BTreeMap<&str, String>) -> Vec<PathBuf> {
    // `join` of an absolute path is that path.
    let here = directory.join(value);
    if value.contains('/') {
        return vec![here];
    }
    let path = environment
        .get("PATH")
        .and_then(|p| p.strip_prefix("PATH="))
        .unwrap_or(DEFAULT_PATH);
    let along_path = path
        .split(':')
        .filter(|dir| !dir.is_empty())
        .map(|dir| directory.join(dir).join(value));
    std::iter::once(here).chain(along_path).collect()
}

/// Fails early and in words where `execve` would only say "Argument list too long".
fn check_lengths(argv: &[String], environment: &BTreeMap<&str, String>) -> Result<(), PlanError> {
    let mut total = 0;
    let arguments = argv.iter().map(|argument| ("An argument", argument));
    let variables = environment.iter().map(|(name, variable)| (*name, variable));
    for (what, text) in arguments.chain(variables) {
        if text.contains('\0') {
            return Err(PlanError::Nul("An argument"));
        }
        let bytes = text.len() + 1;
        if bytes > ARGUMENT_BYTES_MAX {
            return Err(PlanError::ArgumentTooLong {
                what: what.to_owned(),
                bytes,
            });
        }
        total += bytes + size_of::<usize>();
    }
    if total > ARGUMENTS_BYTES_TOTAL_MAX {
        return Err(PlanError::ArgumentsTooLong { bytes: total });
    }
    Ok(())
}

/// Nobody changes who already is that user.
fn identity(user: Option<&str>, host: &HostFacts) -> Result<Option<Identity>, PlanError> {
    let Some(name) = user else { return Ok(None) };
    let found = host.users.get(name).and_then(Option::as_ref);
    let identity = found.ok_or_else(|| PlanError::NoSuchUser(name.to_owned()))?;
    if identity.uid == host.uid {
        return Ok(None);
    }
    if host.uid != 0 {
        return Err(PlanError::CannotSwitchUser(name.to_owned()));
    }
    Ok(Some(identity.clone()))
}

fn path_has_nul(path: &Path) -> bool {
    path.as_os_str().as_encoded_bytes().contains(&0)
}
