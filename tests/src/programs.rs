//! Runs the client programs of `tests/clients` with what `scripts/test-env` installed, and reads their summary.
//!
//! A program's contract: it takes where the leader is as its first argument, prints one line of JSON at the end, and exits
//! with 0 when every task did what it should.

use std::fmt::Display;
use std::fs;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value;
use tempfile::TempDir;

use crate::wait::eventually_some;

/// What a program is written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Runtime {
    /// The virtual environment with the Python frameworks.
    Python,
    /// The one with the framework that speaks libprocess itself, on Python 2.7.
    Python2,
    /// Node.js with the npm framework.
    Node,
}

/// Where `scripts/test-env` put things.
pub fn environment() -> PathBuf {
    std::env::var_os("TEPUI_TEST_ENV")
        .map_or_else(|| crate::repository().join(".test-env"), PathBuf::from)
}

/// The Python of the virtual environment.
pub fn python() -> PathBuf {
    let python = environment().join("python/bin/python");
    assert!(
        python.exists(),
        "{} is missing: run scripts/test-env first",
        python.display()
    );
    python
}

/// The Python 2.7 with its framework; says so and gives none on a machine that has no Python 2.7 to make it from.
pub fn python2() -> Option<PathBuf> {
    let python = environment().join("python2/bin/python");
    if python.exists() {
        return Some(python);
    }
    let base = std::env::home_dir()
        .unwrap_or_default()
        .join(".pyenv/versions/2.7.18");
    assert!(
        !base.exists(),
        "{} is missing and {} is there: run scripts/test-env first",
        python.display(),
        base.display()
    );
    eprintln!(
        "SKIPPED: no {} on this machine, so no framework on Python 2.7",
        base.display()
    );
    None
}

/// Runs a program against a leader and returns its summary; panics with its output when it fails or takes too long.
pub fn run(
    runtime: Runtime,
    program: &str,
    leader: impl Display,
    arguments: &[&str],
    patience: Duration,
) -> Value {
    start(runtime, program, leader, arguments).finish(patience)
}

/// A program that runs. What it started goes with it when dropped.
#[derive(Debug)]
pub struct Running {
    name: String,
    child: Child,
    folder: TempDir,
}

/// Starts a program against a leader.
pub fn start(runtime: Runtime, program: &str, leader: impl Display, arguments: &[&str]) -> Running {
    let script = crate::crate_folder().join("clients").join(program);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut command = match runtime {
        Runtime::Python => {
            let mut command = Command::new(python());
            command.arg("-B").arg("-u");
            command
        }
        Runtime::Python2 => {
            let mut command = Command::new(python2().expect("the test asked for it before"));
            command.arg("-B").arg("-u");
            command
        }
        Runtime::Node => {
            let mut command = Command::new("node");
            command.env("NODE_PATH", environment().join("node/node_modules"));
            command
        }
    };
    let file = |name: &str| fs::File::create(folder.path().join(name)).expect("a file");
    let child = command
        .arg(&script)
        .arg(leader.to_string())
        .args(arguments)
        // The npm framework writes its log below its working directory.
        .current_dir(folder.path())
        .stdin(Stdio::piped())
        .stdout(file("stdout"))
        .stderr(file("stderr"))
        .process_group(0)
        .spawn()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    Running {
        name: format!("{program} {}", arguments.join(" ")),
        child,
        folder,
    }
}

impl Running {
    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.folder.path().join(name)).unwrap_or_default()
    }

    /// The documents it has printed so far, one a line.
    fn documents(&self) -> Vec<Value> {
        let output = self.text("stdout");
        let documents = output
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        documents.filter(Value::is_object).collect()
    }

    /// Writes a line to its standard input.
    pub fn tell(&mut self, line: &str) {
        let told = self
            .child
            .stdin
            .as_mut()
            .map(|input| writeln!(input, "{line}"));
        if !matches!(told, Some(Ok(()))) {
            self.fail(&format!("does not hear {line:?}"));
        }
    }

    /// The last document it has printed so far; null before the first.
    pub fn last(&self) -> Value {
        self.documents().pop().unwrap_or_default()
    }

    /// Waits until it has printed a document that fits, and gives it.
    pub fn wait_for(&mut self, patience: Duration, fits: impl Fn(&Value) -> bool) -> Value {
        let found = eventually_some(patience, || {
            self.documents().into_iter().find(|document| fits(document))
        });
        found.unwrap_or_else(|| self.fail(&format!("said no such thing within {patience:?}")))
    }

    /// Waits for its end and returns its summary, the last document it printed.
    pub fn finish(mut self, patience: Duration) -> Value {
        let ended = eventually_some(patience, || self.child.try_wait().ok().flatten());
        match (ended, self.documents().pop()) {
            (Some(status), Some(summary)) if status.success() => summary,
            (ended, _) => self.fail(&format!("{ended:?} within {patience:?}")),
        }
    }

    /// `kill -9`; returns when it is gone.
    pub fn kill(&mut self) {
        // Once it was waited for, its number may be another's.
        let lives = matches!(self.child.try_wait(), Ok(None));
        let group = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        if let Some(group) = group.filter(|_| lives) {
            kill_process_group(group, Signal::KILL).ok();
        }
        self.child.wait().ok();
    }

    fn fail(&self, problem: &str) -> ! {
        panic!(
            "{}: {problem}\n-- stdout\n{}\n-- stderr\n{}",
            self.name,
            self.text("stdout"),
            self.text("stderr")
        )
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}
