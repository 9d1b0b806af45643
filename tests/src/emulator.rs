//! `tepui emulate` as a process of a test: followers that exist only on the wire.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::binary::tepui;
use crate::wait::eventually_some;

/// A running emulator. Killed when dropped.
#[derive(Debug)]
pub struct Emulator {
    child: Child,
    lines: Arc<Mutex<Vec<Value>>>,
}

impl Emulator {
    /// Starts `followers` followers of a leader, with further flags.
    pub fn start(leader: SocketAddr, followers: usize, flags: &[&str]) -> Emulator {
        // A leader of an older build is measured with the emulator of a newer one.
        let own = std::env::var_os("TEPUI_EMULATOR_BIN").map(PathBuf::from);
        let mut child = Command::new(own.as_deref().unwrap_or_else(|| tepui()))
            .arg("emulate")
            .arg(format!("--master={leader}"))
            .arg(format!("--followers={followers}"))
            .args(["--json", "--progress=100ms"])
            .args(flags)
            .env_remove("MESOS_MASTER")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the emulator starts");
        let output = child.stdout.take().expect("its output is a pipe");
        let lines = Arc::new(Mutex::new(Vec::new()));
        let read = Arc::clone(&lines);
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if let Ok(document) = serde_json::from_str(&line) {
                    lock(&read).push(document);
                }
            }
        });
        Emulator { child, lines }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it said last; null before it said anything.
    pub fn last(&self) -> Value {
        lock(&self.lines).last().cloned().unwrap_or_default()
    }

    /// Waits for it to say something that fits.
    ///
    /// # Panics
    /// When it does not within `patience`.
    pub fn wait(&self, what: &str, patience: Duration, fits: impl Fn(&Value) -> bool) -> Value {
        let said = eventually_some(patience, || {
            let last = self.last();
            (!last.is_null() && fits(&last)).then_some(last)
        });
        said.unwrap_or_else(|| panic!("no {what} within {patience:?}: {}", self.last()))
    }

    /// Waits until each has registered once; how many seconds after the start the last one had.
    pub fn all_registered(&self, patience: Duration) -> f64 {
        let said = self.wait("registration of all", patience, |said| {
            said["all_registered_secs"].is_number()
        });
        said["all_registered_secs"].as_f64().unwrap_or(f64::NAN)
    }

    /// Ctrl-C, and the report that it ends with.
    pub fn stop(mut self) -> Value {
        self.signal(Signal::INT);
        let ended = eventually_some(Duration::from_secs(30), || {
            self.child.try_wait().ok().flatten()
        });
        let status = ended.expect("the emulator ends on Ctrl-C");
        assert!(
            status.success(),
            "the emulator ended with {status}: {}",
            self.last()
        );
        self.wait("report", Duration::from_secs(10), |said| {
            said["kind"] == "end"
        })
    }

    fn signal(&self, signal: Signal) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            kill_process(pid, signal).ok();
        }
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
