//! Reads back what a follower, ours or an agent of Mesos, checkpointed below `meta` before it ended.
//!
//! Layout and formats are the reference's (`src/slave/paths.cpp`, `src/slave/state.cpp`):
//!
//! ```text
//! meta/boot_id
//! meta/slaves/latest -> <id>
//! meta/slaves/<id>/{slave.info, drain.config}
//! …/frameworks/<id>/{framework.info, framework.pid}
//! …/executors/<id>/{executor.info, executor_generated_for_command_task}
//! …/runs/latest -> <container>
//! …/runs/<container>/{executor.sentinel, pids/forked.pid, pids/libprocess.pid, pids/http.marker}
//! …/tasks/<id>/{task.info, task.updates}
//! ```
//!
//! A file that is damaged costs what it describes and nothing else, and that is said. What was
//! written last may be torn: the rest of `task.updates` is cut off, so that what is appended from now
//! on can be read. Where more than that is wrong, the file is kept aside as `task.updates.damaged`.
//!
//! Nothing starts from this yet: [`FollowerNode`](super::FollowerNode) begins as a new follower until
//! containers outlive it.

use super::{CheckpointError, checkpoints::failed};
use bytes::Bytes;
use prost::{Message, Name};
use std::{
    collections::BTreeSet,
    fs::{self, OpenOptions},
    io,
    path::{Path, PathBuf},
};
use tepui_follower::{
    paths::usable,
    recovered::{Recovered, RecoveredExecutor, RecoveredFramework, RecoveredLink, RecoveredTask},
};
use tepui_model::FollowerId;
use tepui_protocol::{
    internal::{StatusUpdateRecord, status_update_record::Type},
    peer::{NO_PROCESS, Pid},
    v1, wire,
};

/// What the follower of a work directory left, if there was one that had registered. `boot_id` is
/// that of the running system (`/proc/sys/kernel/random/boot_id`).
///
/// Fails when it is not even known who that was: going on as somebody else would leave its tasks to
/// nobody.
pub fn recover(work_dir: &Path, boot_id: &str) -> Result<Option<Recovered>, CheckpointError> {
    let meta = work_dir.join("meta");
    let slaves = meta.join("slaves");
    let Some(id) = pointed_at(&slaves.join("latest"))? else {
        return Ok(None);
    };
    let directory = slaves.join(&id);
    let path = directory.join("slave.info");
    let mut reader = Reader::default();
    // Not there, or empty: it ended before it was registered.
    let Some(bytes) = read(&path)?.filter(|bytes| !bytes.is_empty()) else {
        return Ok(None);
    };
    let info: v1::AgentInfo = only(bytes).map_err(|error| failed(&path, error))?;
    if info.id.as_ref().is_none_or(|named| named.value != id) {
        let error = io::Error::new(io::ErrorKind::InvalidData, "it describes another agent");
        return Err(failed(&path, error));
    }
    let rebooted = match read(&meta.join("boot_id"))? {
        Some(bytes) => String::from_utf8_lossy(&bytes).trim() != boot_id.trim(),
        None => false,
    };
    let frameworks = reader.directories(&directory.join("frameworks"));
    let frameworks = frameworks
        .iter()
        .filter_map(|path| reader.framework(path))
        .collect();
    let drain = reader.message(&directory.join("drain.config"));
    Ok(Some(Recovered {
        id: FollowerId::from(id.as_str()),
        rebooted,
        drain,
        frameworks,
        problems: reader.problems,
    }))
}

/// Collects what cannot be read.
#[derive(Debug, Default)]
struct Reader {
    problems: Vec<String>,
}

impl Reader {
    fn framework(&mut self, directory: &Path) -> Option<RecoveredFramework> {
        let path = directory.join("framework.info");
        let executors = directory.join("executors");
        let Some(mut info) = self.message::<v1::FrameworkInfo>(&path) else {
            self.forsaken(&path, &executors);
            return None;
        };
        // Up to Mesos 0.22 the name of the directory alone told.
        info.id.get_or_insert_with(|| v1::FrameworkId {
            value: name(directory).unwrap_or_default(),
        });
        let executors = self.directories(&executors);
        Some(RecoveredFramework {
            pid: self.pid(&directory.join("framework.pid")),
            executors: executors
                .iter()
                .filter_map(|path| self.executor(path))
                .collect(),
            info,
        })
    }

    fn executor(&mut self, directory: &Path) -> Option<RecoveredExecutor> {
        let runs = directory.join("runs");
        let latest = match pointed_at(&runs.join("latest")) {
            Ok(Some(latest)) if runs.join(&latest).is_dir() => latest,
            Ok(_) => {
                // It ended while the executor was launched, or while its directory was removed.
                self.forsaken(&runs.join("latest"), &runs);
                return None;
            }
            Err(error) => {
                self.problem(&error.path, &error.source);
                return None;
            }
        };
        let path = directory.join("executor.info");
        let Some(info) = self.message::<v1::ExecutorInfo>(&path) else {
            self.forsaken(&path, &runs);
            return None;
        };
        let earlier_runs = self.directories(&runs);
        let earlier_runs = earlier_runs.iter().filter_map(|run| name(run));
        let run = runs.join(&latest);
        let pids = run.join("pids");
        let tasks = self.directories(&run.join("tasks"));
        Some(RecoveredExecutor {
            generated: self.generated(directory, &info),
            process: self.number(&pids.join("forked.pid")),
            link: self.link(&pids),
            completed: run.join("executor.sentinel").exists(),
            tasks: tasks.iter().filter_map(|path| self.task(path)).collect(),
            earlier_runs: earlier_runs.filter(|run| *run != latest).collect(),
            container: latest,
            info,
        })
    }

    /// Agents of before 1.6 do not write it down; the reference guesses by what such executors look
    /// like, too.
    fn generated(&mut self, directory: &Path, info: &v1::ExecutorInfo) -> bool {
        match self.number(&directory.join("executor_generated_for_command_task")) {
            Some(number) => number != 0,
            None => {
                let command = info.command.as_ref().and_then(|c| c.value.as_deref());
                let named = info.name.as_deref().unwrap_or_default();
                command.is_some_and(|c| c.ends_with("mesos-executor"))
                    && named.starts_with("Command Executor")
            }
        }
    }

    fn link(&mut self, pids: &Path) -> RecoveredLink {
        match self.pid(&pids.join("libprocess.pid")) {
            Some(pid) => RecoveredLink::Driver(pid),
            None if pids.join("http.marker").exists() => RecoveredLink::Http,
            None => RecoveredLink::Unknown,
        }
    }

    fn task(&mut self, directory: &Path) -> Option<RecoveredTask> {
        let path = directory.join("task.info");
        let Some(task) = self.message::<v1::Task>(&path) else {
            self.forsaken(&path, directory);
            return None;
        };
        let mut recovered = RecoveredTask {
            task,
            updates: Vec::new(),
            acknowledged: BTreeSet::new(),
        };
        let path = directory.join("task.updates");
        for record in self.records(&path) {
            match record.r#type() {
                Type::Update => recovered.updates.extend(record.update),
                Type::Ack => recovered.acknowledged.extend(record.uuid),
            }
        }
        Some(recovered)
    }

    /// The whole records of a file. What comes after them is cut off.
    fn records(&mut self, path: &Path) -> Vec<StatusUpdateRecord> {
        let bytes = match read(path) {
            Ok(bytes) => bytes.unwrap_or_default(),
            Err(error) => {
                self.problem(&error.path, &error.source);
                return Vec::new();
            }
        };
        let mut records = Vec::new();
        let mut rest = bytes.as_slice();
        let problem = loop {
            match split(rest) {
                None if rest.is_empty() => return records,
                None => break "its last record was not written completely".to_owned(),
                Some((body, after)) => match decode(body) {
                    Ok(record) => {
                        records.push(record);
                        rest = after;
                    }
                    Err(error) => break format!("a record in it is damaged: {error}"),
                },
            }
        };
        let torn = split(rest).is_none();
        let whole = bytes.len() - rest.len();
        self.problem(path, &format!("{problem}; cut off after {whole} bytes"));
        if let Err(error) = cut(path, whole as u64, torn) {
            self.problem(path, &error);
        }
        records
    }

    /// The message of a file. Nothing, if the file is not there, or is empty: its content had not
    /// reached the disk.
    fn message<M: Message + Name + Default>(&mut self, path: &Path) -> Option<M> {
        let bytes = self.content(path)?;
        match only(bytes) {
            Ok(message) => Some(message),
            Err(error) => {
                self.problem(path, &error);
                None
            }
        }
    }

    fn text(&mut self, path: &Path) -> Option<String> {
        let bytes = self.content(path)?;
        Some(String::from_utf8_lossy(&bytes).trim().to_owned())
    }

    fn content(&mut self, path: &Path) -> Option<Vec<u8>> {
        match read(path) {
            Ok(bytes) => bytes.filter(|bytes| !bytes.is_empty()),
            Err(error) => {
                self.problem(&error.path, &error.source);
                None
            }
        }
    }

    fn pid(&mut self, path: &Path) -> Option<Pid> {
        let text = self.text(path).filter(|text| text != NO_PROCESS)?;
        text.parse()
            .map_err(|_| self.problem(path, &"it holds no address of a process"))
            .ok()
    }

    fn number(&mut self, path: &Path) -> Option<u32> {
        let text = self.text(path)?;
        text.parse()
            .map_err(|_| self.problem(path, &"it holds no number"))
            .ok()
    }

    /// The directories in a directory, in order. Links are none of them.
    fn directories(&mut self, path: &Path) -> Vec<PathBuf> {
        let list = || -> io::Result<Vec<PathBuf>> {
            let mut all = Vec::new();
            for entry in fs::read_dir(path)? {
                let entry = entry?;
                if entry.file_type()?.is_dir() && name(&entry.path()).is_some() {
                    all.push(entry.path());
                }
            }
            all.sort();
            Ok(all)
        };
        match list() {
            Ok(all) => all,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => {
                self.problem(path, &error);
                Vec::new()
            }
        }
    }

    /// Without a file, nobody can make sense of what lies below a directory. Where nothing does, it
    /// was about to be made, or to be removed.
    fn forsaken(&mut self, missing: &Path, below: &Path) {
        let something = |entry: io::Result<fs::DirEntry>| {
            entry.is_ok_and(|entry| entry.file_type().is_ok_and(|kind| !kind.is_symlink()))
        };
        if !fs::read_dir(below).is_ok_and(|mut entries| entries.any(something)) {
            return;
        }
        let said = self
            .problems
            .last()
            .is_some_and(|said| said.starts_with(&missing.display().to_string()));
        if !said {
            let text = format!(
                "it is missing or empty, so {} is not recovered",
                below.display()
            );
            self.problem(missing, &text);
        }
    }

    fn problem(&mut self, path: &Path, why: &dyn std::fmt::Display) {
        self.problems.push(format!("{}: {why}", path.display()));
    }
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, CheckpointError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(failed(path, source)),
    }
}

/// The name a `latest` points at. The reference writes the whole path; only its end matters here, so
/// a work directory may have been moved.
fn pointed_at(link: &Path) -> Result<Option<String>, CheckpointError> {
    match fs::read_link(link) {
        Ok(target) => Ok(name(&target)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(failed(link, source)),
    }
}

fn name(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?;
    usable(name).then(|| name.to_owned())
}

/// The body behind a length, and what follows.
fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    rest.split_at_checked(u32::from_le_bytes(*length) as usize)
}

fn decode<M: Message + Name + Default>(body: &[u8]) -> io::Result<M> {
    wire::decode(Bytes::copy_from_slice(body))
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// The one message of a file.
fn only<M: Message + Name + Default>(bytes: Vec<u8>) -> io::Result<M> {
    let invalid = |text| io::Error::new(io::ErrorKind::InvalidData, text);
    match split(&bytes) {
        Some((body, [])) => decode(body),
        Some(_) => Err(invalid("it goes on after its message")),
        None => Err(invalid("it was not written completely")),
    }
}

/// Shortens a file. What is not merely torn is kept aside, for somebody to look at.
fn cut(path: &Path, length: u64, torn: bool) -> io::Result<()> {
    if !torn {
        fs::copy(path, path.with_extension("updates.damaged"))?;
    }
    let file = OpenOptions::new().write(true).open(path)?;
    file.set_len(length)?;
    file.sync_all()
}
