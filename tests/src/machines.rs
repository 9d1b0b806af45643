//! A cluster of several leaders and followers around real ZooKeeper servers, each a process of the built binary that can
//! be killed, stopped, cut off and started again on its own work directory.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::binary::tepui;
use crate::cluster::{free_address, inherited, kill_everything_inside};
use crate::http::{Request, send};
use crate::wait::{eventually, eventually_some};
use crate::zookeeper::Place;

/// How long a part may take to serve. Generous: the machine may be busy compiling.
const START_PATIENCE: Duration = Duration::from_secs(60);

/// A leader or a follower.
#[derive(Debug)]
pub struct Machine {
    /// `leader-0`, `follower-3`: also its folder.
    pub name: String,
    /// Where it listens.
    pub address: SocketAddr,
    namespace: Option<String>,
    mode: &'static str,
    flags: Vec<String>,
    folder: PathBuf,
    child: Option<Child>,
}

impl Machine {
    /// Its process id, while it runs.
    pub fn id(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Whether it was started and not killed.
    pub fn lives(&self) -> bool {
        self.child.is_some()
    }

    /// Its work directory.
    pub fn work_dir(&self) -> PathBuf {
        self.folder.join("work")
    }

    /// What it has printed so far, in all its lives.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// What it says it is called. A leader's name is where others are sent to, so it must lead there; a
    /// follower's only tells it from the others.
    pub fn hostname(&self) -> String {
        match self.mode {
            "leader" => self.address.ip().to_string(),
            _ => self.name.clone(),
        }
    }

    /// Starts it, again or for the first time.
    pub fn start(&mut self) {
        fs::create_dir_all(&self.folder).expect("a folder");
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.folder.join("log"));
        let log = log.expect("a log");
        let mut command = match &self.namespace {
            None => Command::new(tepui()),
            Some(namespace) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", namespace]).arg(tepui());
                command
            }
        };
        let child = command
            .arg(self.mode)
            .arg(format!("--ip={}", self.address.ip()))
            .arg(format!("--port={}", self.address.port()))
            .arg(format!("--hostname={}", self.hostname()))
            .arg(format!("--work_dir={}", self.work_dir().display()))
            .args(&self.flags)
            .current_dir(&self.folder)
            .env_clear()
            .envs(inherited())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .process_group(0)
            .spawn();
        self.child = Some(child.unwrap_or_else(|error| panic!("{}: {error}", self.name)));
    }

    /// `kill -9` of the process alone; returns when it is gone.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().ok();
            child.wait().ok();
        }
    }

    /// Whether its process ended by itself since it was started.
    pub fn has_ended(&mut self) -> bool {
        let ended = self.child.as_mut().map(Child::try_wait);
        matches!(ended, Some(Ok(Some(_))))
    }

    /// Sends a signal to the process alone.
    pub fn signal(&self, signal: Signal) {
        let pid = self.id().and_then(|id| i32::try_from(id).ok());
        if let Some(pid) = pid.and_then(Pid::from_raw) {
            kill_process(pid, signal).ok();
        }
    }

    /// The JSON at a path, if it answers with some.
    pub fn json(&self, path: &str) -> Option<Value> {
        let response = send(self.address, &Request::get(path)).ok()?;
        (response.status == 200)
            .then(|| serde_json::from_slice(&response.body).ok())
            .flatten()
    }

    /// Whether it answers at all.
    pub fn serves(&self) -> bool {
        send(self.address, &Request::get("/health")).is_ok_and(|response| response.status == 200)
    }

    /// Whether it is a leader that leads.
    pub fn leads(&self) -> bool {
        self.json("/metrics/snapshot")
            .is_some_and(|metrics| metrics["master/elected"].as_f64() == Some(1.0))
    }
}

/// Leaders and followers that belong together.
#[derive(Debug)]
pub struct Machines {
    folder: TempDir,
    /// The leaders.
    pub leaders: Vec<Machine>,
    /// The followers.
    pub followers: Vec<Machine>,
}

impl Machines {
    /// None yet.
    pub fn new() -> Machines {
        Machines {
            folder: tempfile::tempdir().expect("a folder"),
            leaders: Vec::new(),
            followers: Vec::new(),
        }
    }

    /// A folder for whatever belongs to them; it goes with them, and everything that runs in it.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Adds and starts a leader: `--zk` and further flags.
    pub fn add_leader(&mut self, place: &Place, zk: &str, flags: &[&str]) {
        let name = format!("leader-{}", self.leaders.len());
        let flags = with(format!("--zk={zk}"), flags);
        let machine = self.machine(name, "leader", place, flags);
        self.leaders.push(machine);
    }

    /// Adds and starts a follower: `--master` and further flags.
    pub fn add_follower(&mut self, place: &Place, master: &str, flags: &[&str]) {
        let name = format!("follower-{}", self.followers.len());
        let flags = with(format!("--master={master}"), flags);
        let machine = self.machine(name, "follower", place, flags);
        self.followers.push(machine);
    }

    fn machine(
        &self,
        name: String,
        mode: &'static str,
        place: &Place,
        flags: Vec<String>,
    ) -> Machine {
        let mut machine = Machine {
            folder: self.folder.path().join(&name),
            name,
            address: SocketAddr::new(place.ip, free_address().port()),
            namespace: place.namespace.clone(),
            mode,
            flags,
            child: None,
        };
        machine.start();
        machine
    }

    /// The leader that leads, if one says so.
    pub fn leading(&self) -> Option<usize> {
        self.leaders
            .iter()
            .position(|machine| machine.lives() && machine.leads())
    }

    /// Waits until one leads.
    ///
    /// # Panics
    /// When none does for long.
    pub fn wait_for_leader(&self) -> usize {
        let leader = eventually_some(START_PATIENCE, || self.leading());
        leader.unwrap_or_else(|| panic!("nobody leads\n{}", self.logs()))
    }

    /// How many followers are active, as the leader that leads sees it.
    pub fn active_followers(&self) -> usize {
        let leader = self.leading().and_then(|at| self.leaders.get(at));
        let metrics = leader.and_then(|leader| leader.json("/metrics/snapshot"));
        let count = metrics.and_then(|metrics| metrics["master/slaves_active"].as_f64());
        count.unwrap_or(0.0) as usize
    }

    /// Waits until one leads and every follower that lives is with it.
    ///
    /// # Panics
    /// When that does not happen for long.
    pub fn wait_until_whole(&self) {
        let wanted = self.followers.iter().filter(|machine| machine.lives());
        let wanted = wanted.count();
        let whole = eventually(2 * START_PATIENCE, || self.active_followers() == wanted);
        assert!(
            whole,
            "not all {wanted} followers are there\n{}",
            self.logs()
        );
    }

    /// The last lines of everybody's log.
    pub fn logs(&self) -> String {
        let all = self.leaders.iter().chain(&self.followers);
        all.map(|machine| {
            let log = machine.log();
            let lines: Vec<&str> = log.lines().collect();
            let shown = &lines[lines.len().saturating_sub(60)..];
            format!("---- {}\n{}\n", machine.name, shown.join("\n"))
        })
        .collect()
    }
}

impl Default for Machines {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Machines {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.logs());
        }
        for machine in self.leaders.iter_mut().chain(&mut self.followers) {
            machine.kill();
        }
        let folder = self.folder.path().to_owned();
        eventually(Duration::from_secs(10), || {
            kill_everything_inside(&folder) == 0
        });
    }
}

fn with(first: String, flags: &[&str]) -> Vec<String> {
    let others = flags.iter().map(|flag| (*flag).to_owned());
    std::iter::once(first).chain(others).collect()
}
