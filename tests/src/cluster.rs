//! A cluster of the built binary on loopback: started on free ports with a folder of its own, waited for until it serves,
//! and removed with everything it started when dropped. When a test fails, its logs are printed.

use std::ffi::OsString;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use serde_json::Value;
use tempfile::TempDir;

use crate::binary::tepui;
use crate::http::{Request, Response, send};
use crate::wait::{eventually, eventually_some};

/// How long a part may take to serve. Generous: the machine may be busy compiling.
const START_PATIENCE: Duration = Duration::from_secs(60);

/// How often starting is tried when a port turns out to be taken in between.
const START_TRIES: usize = 3;

/// What a part of the cluster is started as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// `tepui mixed`: leader and follower in one process.
    Mixed,
    /// `tepui leader`.
    Leader,
    /// `tepui follower`.
    Follower,
}

/// How to start a cluster: flags beyond the defaults.
#[derive(Debug, Clone, Default)]
pub struct Builder {
    flags: Vec<String>,
    leader_flags: Vec<String>,
    follower_flags: Vec<String>,
    apart: bool,
    only: Option<Part>,
    open_files: Option<usize>,
    leader_at: Option<SocketAddr>,
    follower_at: Option<SocketAddr>,
}

impl Builder {
    /// Adds `--name=value`, in place of the harness's own if it has one; in a cluster of two processes it goes to both, so use flags that both have or the next two.
    #[must_use]
    pub fn flag(mut self, name: &str, value: &str) -> Self {
        self.flags.push(format!("--{name}={value}"));
        self
    }

    /// Adds a flag of the leader, wherever it runs.
    #[must_use]
    pub fn leader_flag(mut self, name: &str, value: &str) -> Self {
        self.leader_flags.push(format!("--{name}={value}"));
        self
    }

    /// Adds a flag of the follower, wherever it runs.
    #[must_use]
    pub fn follower_flag(mut self, name: &str, value: &str) -> Self {
        self.follower_flags.push(format!("--{name}={value}"));
        self
    }

    /// Leader and follower as processes of their own, as in production.
    #[must_use]
    pub fn apart(mut self) -> Self {
        self.apart = true;
        self
    }

    /// One process alone; the test plays what is on its other side. A follower needs a flag `master`.
    #[must_use]
    pub fn only(mut self, part: Part) -> Self {
        self.only = Some(part);
        self
    }

    /// How many files a part may have open.
    #[must_use]
    pub fn open_files(mut self, most: usize) -> Self {
        self.open_files = Some(most);
        self
    }

    /// Where a part listens, in place of a free port of 127.0.0.1.
    #[must_use]
    pub fn at(mut self, part: Part, address: SocketAddr) -> Self {
        match part {
            Part::Follower => self.follower_at = Some(address),
            _ => self.leader_at = Some(address),
        }
        self
    }

    /// Starts it and waits until the follower is registered, or until the one part alone serves.
    pub fn start(self) -> Cluster {
        Cluster::start(self)
    }
}

/// One running process of the cluster.
#[derive(Debug)]
pub struct Process {
    part: Part,
    child: Child,
    log: PathBuf,
    arguments: Vec<String>,
    open_files: Option<usize>,
}

impl Process {
    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has printed so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn start(
        part: Part,
        arguments: Vec<String>,
        folder: &Path,
        open_files: Option<usize>,
    ) -> Process {
        let name = match part {
            Part::Mixed => "mixed",
            Part::Leader => "leader",
            Part::Follower => "follower",
        };
        let log = folder.join(format!("{name}.log"));
        let arguments = last_of_each(arguments);
        let output = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log)
            .expect("the log can be opened");
        let errors = output.try_clone().expect("the log can be shared");
        let mut command = match open_files {
            None => Command::new(tepui()),
            Some(most) => {
                let mut shell = Command::new("/bin/sh");
                let limited = format!("ulimit -n {most} && exec \"$0\" \"$@\"");
                shell.args(["-c", &limited]).arg(tepui());
                shell
            }
        };
        let child = command
            .arg(name)
            .args(&arguments)
            .current_dir(folder)
            // What a developer has set must not change what the tests see.
            .env_clear()
            .envs(inherited())
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| panic!("{} {name}: {error}", tepui().display()));
        Process {
            part,
            child,
            log,
            arguments,
            open_files,
        }
    }

    fn group(&self) -> Option<Pid> {
        i32::try_from(self.child.id()).ok().and_then(Pid::from_raw)
    }

    fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }
}

/// A running cluster.
#[derive(Debug)]
pub struct Cluster {
    folder: TempDir,
    processes: Vec<Process>,
    /// Where the leader serves.
    pub leader: SocketAddr,
    /// Where the follower serves.
    pub follower: SocketAddr,
}

impl Cluster {
    /// A leader and a follower in one process, with quick allocations.
    pub fn mixed() -> Cluster {
        Cluster::builder().start()
    }

    /// For clusters with flags.
    pub fn builder() -> Builder {
        Builder::default()
    }

    fn start(builder: Builder) -> Cluster {
        let mut failure = String::new();
        for _ in 0..START_TRIES {
            let mut cluster = Cluster::spawn(&builder);
            match cluster.wait_until_ready(builder.only) {
                Ok(()) => return cluster,
                Err(problem) => failure = format!("{problem}\n{}", cluster.logs()),
            }
            if !failure.to_lowercase().contains("in use") {
                break;
            }
        }
        panic!("the cluster did not start: {failure}");
    }

    fn spawn(builder: &Builder) -> Cluster {
        let folder = tempfile::Builder::new()
            .prefix("tepui-test-")
            .tempdir()
            .expect("a temporary folder");
        let leader = builder.leader_at.unwrap_or_else(free_address);
        let follower = builder.follower_at.unwrap_or_else(free_address);
        let work = |name: &str| format!("--work_dir={}", folder.path().join(name).display());
        // Offers come back at once instead of after the default second.
        let quick = "--allocation_interval=50ms".to_owned();
        let resources = "--resources=cpus:8;mem:8192;disk:8192;ports:[31000-32000]".to_owned();
        let runtime = format!("--runtime_dir={}", folder.path().join("run").display());
        let ip = format!("--ip={}", leader.ip());
        let follower_ip = format!("--ip={}", follower.ip());
        let path = format!(
            "--executor_environment_variables={}",
            r#"{"PATH":"/usr/local/bin:/usr/bin:/bin"}"#
        );
        let mut processes = Vec::new();
        let apart = builder.apart || builder.only.is_some();
        if apart && builder.only != Some(Part::Follower) {
            let mut own = vec![
                ip.clone(),
                format!("--port={}", leader.port()),
                work("leader"),
                quick.clone(),
            ];
            own.extend(builder.flags.iter().chain(&builder.leader_flags).cloned());
            processes.push(Process::start(
                Part::Leader,
                own,
                folder.path(),
                builder.open_files,
            ));
        }
        if apart && builder.only != Some(Part::Leader) {
            let master = format!("--master={leader}");
            let mut own = vec![
                master,
                follower_ip,
                format!("--port={}", follower.port()),
                work("follower"),
                resources.clone(),
                runtime.clone(),
                path.clone(),
            ];
            own.extend(builder.flags.iter().chain(&builder.follower_flags).cloned());
            processes.push(Process::start(
                Part::Follower,
                own,
                folder.path(),
                builder.open_files,
            ));
        }
        if !apart {
            let leader_port = format!("--leader_port={}", leader.port());
            let follower_port = format!("--follower_port={}", follower.port());
            let mut own = vec![
                ip,
                leader_port,
                follower_port,
                work("work"),
                quick,
                resources,
                runtime,
                path,
            ];
            let flags = [
                &builder.flags,
                &builder.leader_flags,
                &builder.follower_flags,
            ];
            own.extend(flags.into_iter().flatten().cloned());
            processes.push(Process::start(
                Part::Mixed,
                own,
                folder.path(),
                builder.open_files,
            ));
        }
        Cluster {
            folder,
            processes,
            leader,
            follower,
        }
    }

    fn wait_until_ready(&mut self, only: Option<Part>) -> Result<(), String> {
        let (leader, follower) = (self.leader, self.follower);
        let ready = eventually_some(START_PATIENCE, || {
            if let Some(ended) = self.processes.iter_mut().find_map(Process::ended) {
                return Some(Err(format!("it ended with {ended}")));
            }
            let serves = |at| {
                send(at, &Request::get("/health")).is_ok_and(|response| response.status == 200)
            };
            let ready = match only {
                Some(Part::Leader) => serves(leader),
                Some(Part::Follower) => serves(follower),
                _ => serves(leader) && serves(follower) && registered_followers(leader) > 0,
            };
            ready.then_some(Ok(()))
        });
        ready.unwrap_or_else(|| Err(format!("not ready after {START_PATIENCE:?}")))
    }

    /// The cluster's own folder: work directories and logs.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The process of a part, or of the mixed one that plays it.
    pub fn process(&self, part: Part) -> &Process {
        let found = self
            .processes
            .iter()
            .find(|process| process.part == part || process.part == Part::Mixed);
        found.expect("the cluster has such a part")
    }

    /// A GET on the leader that must be answered.
    pub fn get(&self, path: &str) -> Response {
        send(self.leader, &Request::get(path))
            .unwrap_or_else(|error| panic!("GET {path}: {error}\n{}", self.logs()))
    }

    /// The JSON of a GET on the leader.
    pub fn json(&self, path: &str) -> Value {
        self.get(path).json()
    }

    /// Whether the leader still answers and its process lives.
    pub fn serves(&mut self) -> bool {
        self.processes
            .iter_mut()
            .all(|process| process.ended().is_none())
            && send(self.leader, &Request::get("/health"))
                .is_ok_and(|response| response.status == 200)
    }

    /// Sends a signal to one part's process alone (not to what it started).
    pub fn signal(&self, part: Part, signal: Signal) {
        if let Some(pid) = self.process(part).group() {
            kill_process(pid, signal).ok();
        }
    }

    /// `kill -9` of one part; returns when it is gone.
    pub fn kill(&mut self, part: Part) {
        self.signal(part, Signal::KILL);
        let process = self
            .processes
            .iter_mut()
            .find(|process| process.part == part || process.part == Part::Mixed);
        if let Some(process) = process {
            process.child.wait().ok();
        }
    }

    /// Waits until a part has ended by itself; none when it has not within `patience`.
    pub fn wait_for_end(&mut self, part: Part, patience: Duration) -> Option<ExitStatus> {
        let process = self
            .processes
            .iter_mut()
            .find(|process| process.part == part)
            .expect("the cluster has such a part");
        eventually_some(patience, || process.ended())
    }

    /// Starts a killed part again with the same flags, so on the same work directory.
    pub fn restart(&mut self, part: Part) {
        let folder = self.folder.path().to_owned();
        let process = self
            .processes
            .iter_mut()
            .find(|process| process.part == part)
            .expect("the cluster has such a part");
        let (arguments, files) = (process.arguments.clone(), process.open_files);
        *process = Process::start(part, arguments, &folder, files);
    }

    /// As [`Cluster::restart`], with more flags, in place of those of the same names. They stay.
    pub fn restart_with(&mut self, part: Part, flags: &[(&str, &str)]) {
        let process = self
            .processes
            .iter_mut()
            .find(|process| process.part == part)
            .expect("the cluster has such a part");
        let flags = flags
            .iter()
            .map(|(name, value)| format!("--{name}={value}"));
        process.arguments.extend(flags);
        self.restart(part);
    }

    /// Everything the parts printed.
    pub fn logs(&self) -> String {
        let mut text = String::new();
        for process in &self.processes {
            let log = process.log();
            let lines: Vec<&str> = log.lines().collect();
            let shown = &lines[lines.len().saturating_sub(200)..];
            text.push_str(&format!(
                "---- {:?} {}\n{}\n",
                process.part,
                process.arguments.join(" "),
                shown.join("\n")
            ));
        }
        text
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.logs());
        }
        for process in &mut self.processes {
            if let Some(group) = process.group() {
                kill_process_group(group, Signal::KILL).ok();
            }
            process.child.wait().ok();
        }
        // Executors and tasks are in sessions of their own and outlive a follower by design: here nothing may stay.
        let folder = self.folder.path().to_owned();
        eventually(Duration::from_secs(10), || {
            kill_everything_inside(&folder) == 0
        });
    }
}

/// What of this process's environment a part gets.
pub(crate) fn inherited() -> impl Iterator<Item = (OsString, OsString)> {
    const KEPT: [&str; 7] = [
        "PATH",
        "HOME",
        "USER",
        "LANG",
        "TMPDIR",
        "RUST_BACKTRACE",
        "RUST_LOG",
    ];
    std::env::vars_os().filter(|(name, _)| KEPT.iter().any(|kept| name == kept))
}

/// Flags may be given once: of those with the same name the last one counts.
fn last_of_each(flags: Vec<String>) -> Vec<String> {
    let name = |flag: &str| flag.split('=').next().unwrap_or(flag).to_owned();
    let later = |at: usize| flags.iter().skip(at + 1);
    let kept = |(at, flag): &(usize, &String)| later(*at).all(|other| name(other) != name(flag));
    let kept = flags.iter().enumerate().filter(kept);
    kept.map(|(_, flag)| flag.clone()).collect()
}

/// Kills every process that runs in `folder` or was told a place in it; how many there were.
pub(crate) fn kill_everything_inside(folder: &Path) -> usize {
    let needle = folder.as_os_str().as_encoded_bytes();
    let own = std::process::id();
    let Ok(processes) = fs::read_dir("/proc") else {
        return 0;
    };
    let mut killed = 0;
    for entry in processes.flatten() {
        let Some(id) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<i32>().ok())
        else {
            continue;
        };
        if u32::try_from(id) == Ok(own) || !belongs(&entry.path(), folder, needle) {
            continue;
        }
        if let Some(pid) = Pid::from_raw(id) {
            killed += usize::from(kill_process(pid, Signal::KILL).is_ok());
        }
    }
    killed
}

fn belongs(process: &Path, folder: &Path, needle: &[u8]) -> bool {
    // A dead one waits for its parent: nothing left to kill.
    let state = fs::read_to_string(process.join("stat")).unwrap_or_default();
    if state
        .rsplit(')')
        .next()
        .is_some_and(|rest| rest.trim_start().starts_with('Z'))
    {
        return false;
    }
    let mentions = |name: &str| {
        fs::read(process.join(name))
            .is_ok_and(|bytes| bytes.windows(needle.len()).any(|window| window == needle))
    };
    fs::read_link(process.join("cwd")).is_ok_and(|cwd| cwd.starts_with(folder))
        || mentions("environ")
}

fn registered_followers(leader: SocketAddr) -> usize {
    let Ok(response) = send(leader, &Request::get("/slaves")) else {
        return 0;
    };
    if response.status != 200 {
        return 0;
    }
    let slaves = serde_json::from_slice::<Value>(&response.body).unwrap_or_default();
    slaves["slaves"].as_array().map_or(0, |slaves| {
        slaves
            .iter()
            .filter(|slave| slave["active"] == true)
            .count()
    })
}

/// An address nobody listens on. From below the kernel's ephemeral range, so that no outgoing connection takes it, and
/// begun at a place of this process's own, since every test is a process.
pub(crate) fn free_address() -> SocketAddr {
    const FIRST: u16 = 12_000;
    const COUNT: u16 = 18_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = (std::process::id().wrapping_mul(37) % u32::from(COUNT)) as u16;
    for _ in 0..COUNT {
        let offset =
            (u32::from(start) + u32::from(NEXT.fetch_add(1, Ordering::Relaxed))) % u32::from(COUNT);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, FIRST + offset as u16));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
    panic!("no free port");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_addresses_differ_and_can_be_bound() {
        let (one, other) = (free_address(), free_address());
        assert_ne!(one, other);
        TcpListener::bind(one).unwrap();
    }

    #[test]
    fn a_flag_of_a_test_replaces_the_harness_s() {
        let flags = ["--a=1", "--b=2", "--a=3"].map(str::to_owned).to_vec();
        assert_eq!(last_of_each(flags), ["--b=2", "--a=3"]);
    }

    #[test]
    fn what_runs_inside_the_folder_is_killed_and_what_does_not_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        let sleeper = |cwd: &Path| {
            Command::new("sleep")
                .arg("600")
                .current_dir(cwd)
                .stdin(Stdio::null())
                .process_group(0)
                .spawn()
                .unwrap()
        };
        let (mut inside, mut other) = (sleeper(folder.path()), sleeper(outside.path()));
        assert!(eventually(
            Duration::from_secs(10),
            || kill_everything_inside(folder.path()) == 1
        ));
        assert!(!inside.wait().unwrap().success());
        assert_eq!(other.try_wait().unwrap(), None);
        other.kill().unwrap();
        other.wait().unwrap();
    }
}
