//! What an earlier follower left: which containers run on, and how the others ended.

use super::{exec::Step, kept, orphans, sys};
use crate::{
    message::Request,
    record::{self, NESTED, Record, State},
};
use std::{
    fs, io,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};
use tepui_model::container::{ContainerId, ExitStatus, LaunchStep};

/// How long an earlier launcher may take to be gone.
const LAUNCHER_PATIENCE: Duration = Duration::from_secs(30);
/// How long killed processes may take to be gone.
const ORPHANS_PATIENCE: Duration = Duration::from_secs(10);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(10);
/// Deepest nesting looked for.
const NESTING_MAX: u32 = 32;

/// A container with a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Which.
    pub container: ContainerId,
    /// Its record's directory.
    pub directory: PathBuf,
    /// See [`Keep::name`](crate::plan::Keep::name). Empty if its record cannot be read.
    pub name: String,
    /// Its follower had begun to end it.
    pub told: bool,
    /// Time since its command was started; nothing if it is over.
    pub running_for: Duration,
    /// What became of it.
    pub fate: Fate,
}

/// What became of a container whose follower ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It runs. Have it adopted: [`Found::adoption`].
    Running {
        /// Its command.
        pid: u32,
        /// Its init.
        init: u32,
    },
    /// Its command ended, and nothing of it is left. `None`: nobody knows how.
    Exited(Option<ExitStatus>),
    /// Its command was never executed.
    Failed(LaunchStep, String),
}

impl Found {
    /// What to ask of a launcher, of one that runs.
    pub fn adoption(&self) -> Request {
        Request::Adopt {
            container: self.container.clone(),
            directory: self.directory.clone(),
        }
    }
}

/// Reads all records. Blocks: first until the launcher of the earlier follower is gone (an error if
/// that takes too long: another follower may be using the directory), then until what killed inits
/// have left behind is.
pub fn recover(state: &Path) -> io::Result<Vec<Found>> {
    if !state.exists() {
        return Ok(Vec::new());
    }
    let lock = wait_for_launcher(&record::lock(state))?;
    let mut found = Vec::new();
    read_level(state, None, 0, &kept::boot_id(), &mut found);
    drop(lock);
    Ok(found)
}

/// Removes a container's record and those of the ones nested in it.
pub fn forget(state: &Path, container: &ContainerId) -> io::Result<()> {
    let Some(directory) = record::directory(state, container) else {
        return Ok(());
    };
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn wait_for_launcher(path: &Path) -> io::Result<OwnedFd> {
    let start = Instant::now();
    loop {
        if let Some(lock) = kept::lock(path)? {
            return Ok(lock);
        }
        if start.elapsed() > LAUNCHER_PATIENCE {
            let text = format!("another agent uses '{}'", path.display());
            return Err(io::Error::new(io::ErrorKind::ResourceBusy, text));
        }
        thread::sleep(PAUSE);
    }
}

fn read_level(
    directory: &Path,
    parent: Option<&ContainerId>,
    depth: u32,
    boot: &str,
    found: &mut Vec<Found>,
) {
    let mut names: Vec<String> = fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    for name in names {
        let own = directory.join(&name);
        let container = match parent {
            None => ContainerId::top(name),
            Some(parent) => parent.nested(name),
        };
        if depth < NESTING_MAX {
            read_level(&own.join(NESTED), Some(&container), depth + 1, boot, found);
        }
        match kept::read(&own) {
            Ok(record) => found.push(judge(container, own, record, boot)),
            // Its launch had not come so far that anything was executed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => remove_empty(&own),
            Err(_) => found.push(judge(container, own, None, boot)),
        }
    }
}

/// Directories with something in them stay.
fn remove_empty(directory: &Path) {
    for name in [record::SOCKET, "container.new"] {
        let _ = fs::remove_file(directory.join(name));
    }
    let _ = fs::remove_dir(directory.join(NESTED));
    let _ = fs::remove_dir(directory);
}

fn judge(container: ContainerId, directory: PathBuf, record: Option<Record>, boot: &str) -> Found {
    let Some(record) = record else {
        end_unreadable(&directory);
        return Found {
            container,
            directory,
            name: String::new(),
            told: false,
            running_for: Duration::ZERO,
            fate: Fate::Exited(None),
        };
    };
    let runs = record.facts.boot == boot && kept::lives(record.init);
    // The init may have ended just now: then this is its last word.
    let record = match kept::read(&directory) {
        Ok(Some(record)) if !runs => record,
        _ => record,
    };
    let fate = match record.head.state {
        _ if runs => Fate::Running {
            pid: record.command.pid as u32,
            init: record.init.pid as u32,
        },
        State::Exited(status) => Fate::Exited(Some(status)),
        State::Failed { step, errno } => {
            let step = Step::from_number(step).unwrap_or(Step::Execute);
            Fate::Failed(step.launch_step(), step.describe(None, errno))
        }
        State::Running => Fate::Exited(None),
    };
    match record.head.state {
        _ if runs => {}
        State::Running => end_orphans(&record),
        State::Exited(_) | State::Failed { .. } => orphans::remove_group(&record),
    }
    Found {
        container,
        directory,
        name: record.facts.name,
        told: record.head.told,
        running_for: if runs {
            age(record.command.start)
        } else {
            Duration::ZERO
        },
        fate,
    }
}

fn end_orphans(record: &Record) {
    let start = Instant::now();
    while orphans::kill(record) && start.elapsed() < ORPHANS_PATIENCE {
        thread::sleep(PAUSE);
    }
}

/// Whoever listens there leads a container of which nothing is known any more.
fn end_unreadable(directory: &Path) {
    if let Some((socket, pid)) = kept::reach_anyone(directory) {
        let _ = super::control::Order::Destroy.send(socket.as_fd());
        let start = Instant::now();
        while sys::kill(pid, 0).is_ok() && start.elapsed() < ORPHANS_PATIENCE {
            thread::sleep(PAUSE);
        }
    }
}

/// Time since `start`, in ticks since the machine was started.
fn age(start: u64) -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let now = Duration::new(now.tv_sec as u64, now.tv_nsec as u32);
    let ticks = rustix::param::clock_ticks_per_second().max(1);
    let start = Duration::from_millis(start.saturating_mul(1000) / ticks);
    now.saturating_sub(start)
}
