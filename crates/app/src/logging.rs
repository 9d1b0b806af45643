//! Where log lines go and which.

use std::{
    fs::OpenOptions,
    io::{self, IsTerminal},
    path::Path,
    sync::Mutex,
};
use tracing_subscriber::{
    EnvFilter,
    fmt::{self, writer::BoxMakeWriter},
    util::SubscriberInitExt,
};

/// Least severe level, as the reference names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    Info,
    Warning,
    Error,
}

impl std::str::FromStr for Level {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "INFO" => Ok(Self::Info),
            "WARNING" => Ok(Self::Warning),
            "ERROR" => Ok(Self::Error),
            _ => Err("it is not INFO, WARNING or ERROR"),
        }
    }
}

impl Level {
    fn directive(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warn",
            Self::Error => "error",
        }
    }
}

/// Changes the level of the running process: 0 is the configured one, 1 and above are more verbose.
pub(crate) type SetVerbosity = Box<dyn Fn(u32) + Send + Sync>;

/// Logs of a client: warnings to standard error, more with `TEPUI_LOG`.
pub(crate) fn client() {
    let filter = EnvFilter::try_from_env("TEPUI_LOG").unwrap_or_else(|_| EnvFilter::new("warn"));
    let _ = fmt::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .without_time()
        .with_target(false)
        .finish()
        .try_init();
}

/// Logs of a node: to `tepui.<name>.log` in `dir`, or to standard error, which `quiet` switches off.
/// `TEPUI_LOG` (a filter like `tepui_node=debug`) beats the level.
///
/// # Errors
/// The log file cannot be opened.
pub(crate) fn node(
    level: Level,
    dir: Option<&Path>,
    name: &str,
    quiet: bool,
) -> io::Result<SetVerbosity> {
    let configured =
        EnvFilter::try_from_env("TEPUI_LOG").unwrap_or_else(|_| EnvFilter::new(level.directive()));
    let original = configured.to_string();
    let writer = match (dir, quiet) {
        (Some(dir), _) => {
            std::fs::create_dir_all(dir)?;
            let file = OpenOptions::new()
                .create(true)
                .append(true)
                .open(dir.join(format!("tepui.{name}.log")))?;
            BoxMakeWriter::new(Mutex::new(file))
        }
        (None, true) => BoxMakeWriter::new(io::sink),
        (None, false) => BoxMakeWriter::new(io::stderr),
    };
    let builder = fmt::fmt()
        .with_writer(writer)
        .with_ansi(dir.is_none() && io::stderr().is_terminal());
    let builder = builder.with_env_filter(configured).with_filter_reloading();
    let handle = builder.reload_handle();
    let _ = builder.finish().try_init();
    Ok(Box::new(move |verbosity| {
        let filter = match verbosity {
            0 => EnvFilter::new(&original),
            1 => EnvFilter::new("info"),
            2 => EnvFilter::new("debug"),
            _ => EnvFilter::new("trace"),
        };
        let _ = handle.reload(filter);
    }))
}
