//! Runs the binary as people do: with arguments and variables, to its end or until it serves.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use serde_json::Value;
use tempfile::TempDir;

use crate::binary::tepui;
use crate::wait::eventually_some;

/// How long a command may take. Generous: the machine may be busy compiling.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Variables of the developer's that a command may see.
const KEPT: &[&str] = &["PATH", "HOME", "USER", "LANG", "TMPDIR", "RUST_BACKTRACE"];

/// What a finished command did.
#[derive(Debug)]
pub struct Outcome {
    /// Its exit status; none when a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// The process id it had.
    pub id: u32,
}

impl Outcome {
    /// The outcome, if the status was `code`.
    #[must_use]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:?}");
        self
    }

    /// Standard output as one JSON document.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// A command that runs.
#[derive(Debug)]
pub struct Running {
    child: Child,
    output: TempDir,
}

/// Starts the binary with arguments and variables. `change` may alter the command further.
pub fn start(
    arguments: &[&str],
    variables: &[(&str, &str)],
    change: impl FnOnce(&mut Command),
) -> Running {
    start_program(tepui(), arguments, variables, change)
}

/// The same for another name of the binary.
pub fn start_program(
    program: &Path,
    arguments: &[&str],
    variables: &[(&str, &str)],
    change: impl FnOnce(&mut Command),
) -> Running {
    let output = tempfile::tempdir().expect("a temporary folder");
    let file = |name: &str| fs::File::create(output.path().join(name)).expect("a file");
    let mut command = Command::new(program);
    command
        .args(arguments)
        // What a developer has set must not change what the tests see.
        .env_clear()
        .envs(std::env::vars_os().filter(|(name, _)| KEPT.iter().any(|kept| name == kept)))
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .stdout(file("stdout"))
        .stderr(file("stderr"))
        .process_group(0);
    change(&mut command);
    let child = command
        .spawn()
        .unwrap_or_else(|error| panic!("{}: {error}", program.display()));
    Running { child, output }
}

/// Runs the binary to its end.
pub fn run(arguments: &[&str]) -> Outcome {
    run_with(arguments, &[])
}

/// Runs the binary to its end, with variables.
pub fn run_with(arguments: &[&str], variables: &[(&str, &str)]) -> Outcome {
    start(arguments, variables, |_| ()).wait()
}

/// A link to the binary under another name.
pub fn link(folder: &Path, name: &str) -> PathBuf {
    let path = folder.join(name);
    std::os::unix::fs::symlink(tepui(), &path).expect("a link can be made");
    path
}

impl Running {
    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has printed so far.
    pub fn stdout(&self) -> String {
        fs::read_to_string(self.output.path().join("stdout")).unwrap_or_default()
    }

    /// What it has complained of so far.
    pub fn stderr(&self) -> String {
        fs::read_to_string(self.output.path().join("stderr")).unwrap_or_default()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        if let Some(pid) = self.pid() {
            kill_process(pid, signal).expect("it can be signalled");
        }
    }

    /// Waits until it says where `part` serves.
    pub fn address(&mut self, part: &str) -> SocketAddr {
        let announced = |text: &str| {
            text.lines().find_map(|line| {
                let (name, url) = line.split_once(' ')?;
                (name == part).then(|| url.trim().split_once("://")?.1.parse().ok())?
            })
        };
        let found = eventually_some(PATIENCE, || {
            let ended = self.child.try_wait().ok().flatten();
            announced(&self.stdout())
                .map(Some)
                .or_else(|| ended.map(|_| None))
        });
        found
            .flatten()
            .unwrap_or_else(|| panic!("no {part} serves: {}\n{}", self.stdout(), self.stderr()))
    }

    /// Waits for its end.
    pub fn wait(mut self) -> Outcome {
        let status = eventually_some(PATIENCE, || self.child.try_wait().ok().flatten());
        let status = status.unwrap_or_else(|| {
            panic!(
                "not over after {PATIENCE:?}: {}\n{}",
                self.stdout(),
                self.stderr()
            )
        });
        Outcome {
            code: status.code(),
            stdout: self.stdout(),
            stderr: self.stderr(),
            id: self.id(),
        }
    }

    fn pid(&self) -> Option<Pid> {
        i32::try_from(self.child.id()).ok().and_then(Pid::from_raw)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return;
        }
        if let Some(group) = self.pid() {
            kill_process_group(group, Signal::KILL).ok();
        }
        self.child.wait().ok();
    }
}
