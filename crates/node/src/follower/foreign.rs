//! Executors that an agent of Mesos had started, and that run on: their processes are not children of any
//! launcher of ours. They are watched, and killed with what they started, by number and start time.
//!
//! An agent of Mesos writes down no more than the number of the process (`forked.pid`). It is taken for that
//! one only if it was started before that file was written: numbers are used again.

use rustix::{
    event::{PollFd, PollFlags, poll},
    fd::OwnedFd,
    io::Errno,
    process::{Pid, PidfdFlags, RawPid, Signal, kill_process, pidfd_open, pidfd_send_signal},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    sync::Arc,
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tepui_model::container::ContainerId;

/// Start times are told in these, whatever the kernel counts in.
const TICKS_PER_SECOND: u64 = 100;
/// How much the clock may have been set between the start of a process and the writing of its number.
const CLOCK_SLACK: Duration = Duration::from_secs(2);

/// Such executors, by container.
#[derive(Debug, Default)]
pub(super) struct Foreign {
    all: BTreeMap<ContainerId, Process>,
}

/// A process that cannot be taken for another one: its number is not given away while it is held.
#[derive(Debug, Clone)]
pub(super) struct Process {
    pid: Pid,
    handle: Arc<OwnedFd>,
}

/// The process whose number was written to a file, if it runs.
pub(super) fn find(pid: u32, file: &Path) -> Option<Process> {
    let pid = Pid::from_raw(i32::try_from(pid).ok()?)?;
    let handle = pidfd_open(pid, PidfdFlags::NONBLOCK).ok()?;
    let written = fs::metadata(file).and_then(|file| file.modified()).ok()?;
    let stat = Stat::of(pid)?;
    let runs = stat.state != 'Z' && started(&stat)? <= written + CLOCK_SLACK;
    runs.then(|| Process {
        pid,
        handle: Arc::new(handle),
    })
}

impl Foreign {
    /// Watches a process; `ended` is called when it has ended and nothing of it is left.
    pub(super) fn watch(
        &mut self,
        container: ContainerId,
        process: Process,
        ended: impl Fn(ContainerId) + Send + 'static,
    ) {
        self.all.insert(container.clone(), process.clone());
        // There are few of them, and none comes after the start.
        let watch = move || {
            let mut handle = [PollFd::new(&*process.handle, PollFlags::IN)];
            while let Err(error) = poll(&mut handle, None) {
                if error != Errno::INTR {
                    tracing::error!(%error, "cannot watch an executor");
                    break;
                }
            }
            // What it had started, and that had not left its session.
            kill_all(&session(process.pid));
            ended(container);
        };
        let watcher = thread::Builder::new().name("foreign".to_owned());
        if let Err(error) = watcher.spawn(watch) {
            tracing::error!(%error, "cannot watch an executor");
        }
    }

    pub(super) fn contains(&self, container: &ContainerId) -> bool {
        self.all.contains_key(container)
    }

    /// It has ended.
    pub(super) fn forget(&mut self, container: &ContainerId) {
        self.all.remove(container);
    }

    /// Kills an executor and everything that it started.
    pub(super) fn destroy(&self, container: &ContainerId) {
        let Some(process) = self.all.get(container) else {
            return;
        };
        let mut doomed = descendants(process.pid);
        doomed.extend(session(process.pid));
        doomed.remove(&process.pid.as_raw_pid());
        // It has ended already, if this fails.
        let _ = pidfd_send_signal(&process.handle, Signal::KILL);
        kill_all(&doomed);
    }

    pub(super) fn signal(&self, container: &ContainerId, signal: i32) {
        if let (Some(process), Some(signal)) =
            (self.all.get(container), Signal::from_named_raw(signal))
        {
            // As above.
            let _ = pidfd_send_signal(&process.handle, signal);
        }
    }
}

fn kill_all(processes: &BTreeSet<RawPid>) {
    for process in processes.iter().filter_map(|pid| Pid::from_raw(*pid)) {
        // It has ended already, if this fails.
        let _ = kill_process(process, Signal::KILL);
    }
}

/// What the kernel says of a process.
struct Stat {
    state: char,
    parent: i32,
    session: i32,
    /// Ticks since the machine was started.
    start: u64,
}

impl Stat {
    fn of(pid: Pid) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_pid())).ok()?;
        // The name before it may hold anything.
        let mut fields = text.rsplit_once(')')?.1.split_whitespace();
        Some(Self {
            state: fields.next()?.chars().next()?,
            parent: fields.next()?.parse().ok()?,
            session: fields.nth(1)?.parse().ok()?,
            start: fields.nth(15)?.parse().ok()?,
        })
    }
}

fn started(stat: &Stat) -> Option<SystemTime> {
    let text = fs::read_to_string("/proc/stat").ok()?;
    let boot = text.lines().find_map(|line| line.strip_prefix("btime "))?;
    let boot = UNIX_EPOCH + Duration::from_secs(boot.trim().parse().ok()?);
    Some(boot + Duration::from_millis(stat.start * 1000 / TICKS_PER_SECOND))
}

fn processes() -> Vec<(Pid, Stat)> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        Pid::from_raw(pid)
    });
    pids.filter_map(|pid| Some((pid, Stat::of(pid)?))).collect()
}

/// Everything in the session that a process leads.
fn session(leader: Pid) -> BTreeSet<RawPid> {
    let all = processes().into_iter();
    all.filter(|(_, stat)| stat.session == leader.as_raw_pid())
        .map(|(pid, _)| pid.as_raw_pid())
        .collect()
}

fn descendants(root: Pid) -> BTreeSet<RawPid> {
    let all = processes();
    let mut found = BTreeSet::from([root.as_raw_pid()]);
    loop {
        let before = found.len();
        for (pid, stat) in &all {
            if found.contains(&stat.parent) {
                found.insert(pid.as_raw_pid());
            }
        }
        if found.len() == before {
            return found;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;
    use tokio::sync::mpsc;

    #[tokio::test]
    async fn a_process_is_found_watched_and_killed_with_what_it_started() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("forked.pid");
        let mut child = Command::new("setsid")
            .args(["sh", "-c", "sleep 600 & wait"])
            .spawn()
            .expect("a process");
        fs::write(&file, child.id().to_string()).expect("written");
        let process = find(child.id(), &file).expect("it runs");
        let pid = process.pid;
        while descendants(pid).len() < 2 {
            tokio::task::yield_now().await;
        }
        let all = descendants(pid);
        let mut foreign = Foreign::default();
        let (told, mut ends) = mpsc::unbounded_channel();
        let container = ContainerId::top("c");
        foreign.watch(container.clone(), process, move |id| {
            told.send(id).expect("somebody listens");
        });
        foreign.destroy(&container);
        assert_eq!(ends.recv().await, Some(container));
        child.wait().expect("it ended");
        let stat = |pid: &RawPid| Pid::from_raw(*pid).and_then(Stat::of);
        let lives = |pid: &RawPid| stat(pid).is_some_and(|stat| stat.state != 'Z');
        while all.iter().any(lives) {
            tokio::task::yield_now().await;
        }
    }

    #[test]
    fn a_number_that_is_used_again_is_another_process() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("forked.pid");
        fs::write(&file, "").expect("written");
        let long_ago = SystemTime::now() - Duration::from_secs(10 * 365 * 24 * 3600);
        let times = fs::FileTimes::new().set_modified(long_ago);
        fs::File::options()
            .write(true)
            .open(&file)
            .and_then(|file| file.set_times(times))
            .expect("an old file");
        assert!(find(std::process::id(), &file).is_none());
        assert!(find(u32::MAX, &file).is_none());
    }
}
