//! Runs nodes: settings in, running leader and follower out, until a signal or a failure.
//!
//! The launcher of containers is forked first of all, while this process is small and has one
//! thread. Then the settings are read into what the nodes want ([`leader`], [`follower`]), and
//! [`mixed`] starts one of each on this machine.

mod address;
pub(crate) mod auth;
mod election;
mod follower;
mod leader;
mod limits;
mod mixed;
mod oversubscription;
mod ready;
mod recovery;

use crate::{
    execute::ExecuteError,
    flags::{FlagError, Settings},
    logging::{self, SetVerbosity},
    settings::{self, Resolved, SettingsError},
};
use std::{io, path::Path, process::ExitCode, str::FromStr};
use tepui_containers::linux::{Launcher, LauncherOptions, start_launcher};
use tepui_model::units;
use tepui_node::{
    common::LogLevel,
    detect::{self, DetectError},
};
use tepui_protocol::peer::Pid;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
};

/// Worker threads of a node. The cores have threads of their own.
const WORKER_THREADS: usize = 2;

/// Which nodes run in this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Leader,
    Follower,
    Mixed,
}

impl Mode {
    /// From its name.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        [Self::Leader, Self::Follower, Self::Mixed]
            .into_iter()
            .find(|mode| mode.name() == name)
    }

    /// Its name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Leader => "leader",
            Self::Follower => "follower",
            Self::Mixed => "mixed",
        }
    }
}

/// Why a node did not start, or stopped.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RoleError {
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error(transparent)]
    Flag(#[from] FlagError),
    #[error(transparent)]
    Authentication(#[from] auth::AuthError),
    #[error(transparent)]
    Tls(#[from] crate::tls::TlsError),
    #[error("missing required flag '--{flag}': {why}")]
    Missing {
        flag: &'static str,
        why: &'static str,
    },
    #[error("flag '--{flag}' cannot be used here: {why}")]
    Conflict {
        flag: &'static str,
        why: &'static str,
    },
    #[error("variable {name}='{value}': {why}")]
    Variable {
        name: &'static str,
        value: String,
        why: String,
    },
    #[error("unexpected argument '{0}'")]
    Unexpected(String),
    #[error("cannot {what}: {source}")]
    Io { what: String, source: io::Error },
    #[error("leader: {}", chain(.0))]
    Leader(#[from] tepui_node::leader::LeaderError),
    #[error("follower: {}", chain(.0))]
    Follower(#[from] tepui_node::follower::FollowerError),
    #[error(transparent)]
    Execute(#[from] ExecuteError),
}

impl RoleError {
    /// Whether the settings were wrong.
    pub(crate) fn is_usage(&self) -> bool {
        matches!(
            self,
            Self::Settings(_)
                | Self::Flag(_)
                | Self::Authentication(_)
                | Self::Tls(_)
                | Self::Missing { .. }
                | Self::Conflict { .. }
                | Self::Variable { .. }
                | Self::Unexpected(_)
        )
    }

    fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}

/// An error with its causes, on one line.
/// Looks for the leader where a setting says, in sessions of `--zk_session_timeout` if there are any.
/// The inner error is the setting's.
async fn detect(
    settings: &Settings,
    place: &str,
) -> Result<Result<watch::Receiver<Option<Pid>>, DetectError>, FlagError> {
    Ok(
        match settings.parsed("zk_session_timeout", units::parse_duration)? {
            Some(timeout) => detect::watch_with(place, timeout).await,
            None => detect::watch(place).await,
        },
    )
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        // A transparent error says what its cause says.
        if !text.ends_with(&error.to_string()) {
            text.push_str(&format!(": {error}"));
        }
        cause = error.source();
    }
    text
}

/// Starts a mode and runs it to its end.
pub(crate) fn start(mode: Mode, args: &[String]) -> Result<ExitCode, RoleError> {
    let resolved = settings::resolve(mode, args)?;
    if resolved.settings.is_on("help") {
        print!("{}", settings::help(mode));
        return Ok(ExitCode::SUCCESS);
    }
    if resolved.settings.is_on("version") {
        println!("tepui {}", crate::cli::version());
        return Ok(ExitCode::SUCCESS);
    }
    if let (Some(argument), true) = (resolved.positional.first(), mode != Mode::Mixed) {
        return Err(RoleError::Unexpected(argument.clone()));
    }
    let warnings = resolved.settings.unsupported()?;
    let launcher = match mode {
        Mode::Leader => None,
        Mode::Follower | Mode::Mixed => Some(launcher()?),
    };
    // From here on there may be threads.
    let verbosity = start_log(mode, &resolved)?;
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKER_THREADS)
        .enable_all()
        .build()
        .map_err(RoleError::io("start the runtime"))?
        .block_on(async {
            match (mode, launcher) {
                (Mode::Leader, _) => leader::run(&resolved, verbosity).await,
                (Mode::Follower, Some(launcher)) => {
                    follower::run(&resolved, verbosity, launcher).await
                }
                (Mode::Mixed, Some(launcher)) => mixed::run(resolved, verbosity, launcher).await,
                (_, None) => Err(RoleError::Missing {
                    flag: "launcher",
                    why: "followers start containers with it",
                }),
            }
        })
}

fn launcher() -> Result<Launcher, RoleError> {
    start_launcher(LauncherOptions::default())
        .map_err(RoleError::io("start the launcher of containers"))
}

/// A one-shot `mixed` logs only what is wrong, unless told: its output is the task's.
fn start_log(mode: Mode, resolved: &Resolved) -> Result<SetVerbosity, RoleError> {
    let settings = &resolved.settings;
    let once = mode == Mode::Mixed && !resolved.positional.is_empty();
    let level = match settings.parsed("logging_level", logging::Level::from_str)? {
        Some(_) if once && !settings.is_given("logging_level") => logging::Level::Error,
        level => level.unwrap_or(logging::Level::Info),
    };
    let dir = settings.text("log_dir").map(Path::new);
    logging::node(level, dir, mode.name(), settings.is_on("quiet"))
        .map_err(RoleError::io("open the log file"))
}

struct Verbosity(SetVerbosity);

impl LogLevel for Verbosity {
    fn set(&self, level: u32) {
        (self.0)(level);
    }
}

/// What ends a node from outside.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    user1: Signal,
}

/// How a node was asked to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// SIGINT or SIGTERM: stop; a follower keeps its registration.
    Stop,
    /// SIGUSR1: a follower unregisters first, as the reference's does.
    Unregister,
}

impl Signals {
    fn new() -> Result<Self, RoleError> {
        let on = |kind| signal(kind).map_err(RoleError::io("watch for signals"));
        Ok(Self {
            interrupt: on(SignalKind::interrupt())?,
            terminate: on(SignalKind::terminate())?,
            user1: on(SignalKind::user_defined1())?,
        })
    }

    async fn next(&mut self) -> Ending {
        tokio::select! {
            _ = self.interrupt.recv() => Ending::Stop,
            _ = self.terminate.recv() => Ending::Stop,
            _ = self.user1.recv() => Ending::Unregister,
        }
    }
}
