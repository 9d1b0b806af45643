//! Runs the client programs of `tests/clients` with what `scripts/test-env` installed, and reads their summary.
//!
//! A program's contract: it takes the leader's address as its first argument, prints one line of JSON at the end, and exits
//! with 0 when every task did what it should.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value;

use crate::wait::eventually_some;

/// What a program is written for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Runtime {
    /// The virtual environment with the Python frameworks.
    Python,
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

/// Runs a program against a leader and returns its summary; panics with its output when it fails or takes too long.
pub fn run(
    runtime: Runtime,
    program: &str,
    leader: SocketAddr,
    arguments: &[&str],
    patience: Duration,
) -> Value {
    let script = crate::crate_folder().join("clients").join(program);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut command = match runtime {
        Runtime::Python => {
            let mut command = Command::new(python());
            command.arg("-B").arg("-u");
            command
        }
        Runtime::Node => {
            let mut command = Command::new("node");
            command.env("NODE_PATH", environment().join("node/node_modules"));
            command
        }
    };
    let (output, errors) = (folder.path().join("stdout"), folder.path().join("stderr"));
    let mut child = command
        .arg(&script)
        .arg(leader.to_string())
        .args(arguments)
        // The npm framework writes its log below its working directory.
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .stdout(fs::File::create(&output).expect("a file for its output"))
        .stderr(fs::File::create(&errors).expect("a file for its errors"))
        .process_group(0)
        .spawn()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    let ended = eventually_some(patience, || child.try_wait().ok().flatten());
    if ended.is_none() {
        if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
            kill_process_group(group, Signal::KILL).ok();
        }
        child.wait().ok();
    }
    let text = |path: &Path| fs::read_to_string(path).unwrap_or_default();
    let (output, errors) = (text(&output), text(&errors));
    let summary = output.lines().rev().find_map(|line| {
        serde_json::from_str::<Value>(line)
            .ok()
            .filter(Value::is_object)
    });
    match (ended, summary) {
        (Some(status), Some(summary)) if status.success() => summary,
        (ended, _) => panic!(
            "{program}: {ended:?} within {patience:?}\n-- stdout\n{output}\n-- stderr\n{errors}"
        ),
    }
}
