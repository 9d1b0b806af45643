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
//! …/tasks/<id>/{task.info, task.updates, task.launch}
//! ```
//!
//! Only `task.launch` is ours: what is needed to go on with a task that an executor of this process
//! runs, and the group it belongs to.
//!
//! A file that is damaged costs what it describes and nothing else, and that is said; directories have
//! the names of ids, so that every task is known whose checkpoint cannot be read. What was
//! written last may be torn: the rest of `task.updates` is cut off, so that what is appended from now
//! on can be read. Where more than that is wrong, the file is kept aside as `task.updates.damaged`.

use super::{
    CheckpointError,
    checkpoints::failed,
    recover_ended::{Survey, holds_something, survey},
};
use bytes::Bytes;
use prost::{Message, Name};
use std::{
    collections::BTreeSet,
    fs::{self, OpenOptions},
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};
use tepui_follower::{
    paths::usable,
    recovered::{
        Fate, Problem, Recovered, RecoveredExecutor, RecoveredFramework, RecoveredLink,
        RecoveredTask,
    },
};
use tepui_model::FollowerId;
use tepui_protocol::{
    internal::{StatusUpdateRecord, status_update_record::Type},
    peer::{NO_PROCESS, Pid},
    v1, wire,
};

/// What the follower of a work directory left, if there was one that had registered. `boot_id` is
/// that of the running system (`/proc/sys/kernel/random/boot_id`); `remembered`: how many executors of
/// each framework that have ended are read, too.
///
/// Fails when it is not even known who that was: going on as somebody else would leave its tasks to
/// nobody.
pub fn recover(
    work_dir: &Path,
    boot_id: &str,
    remembered: usize,
) -> Result<Option<Recovered>, CheckpointError> {
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
    let rebooted = reader.rebooted(&meta.join("boot_id"), boot_id);
    let frameworks = reader.directories(&directory.join("frameworks"));
    let frameworks = survey(frameworks, remembered).into_iter();
    let frameworks = frameworks.map(|survey| reader.framework(survey)).collect();
    let drain = reader.message(&directory.join("drain.config"));
    Ok(Some(Recovered {
        id: FollowerId::from(id.as_str()),
        info,
        rebooted,
        drain: drain.ok().flatten(),
        frameworks,
        problems: reader.problems,
    }))
}

/// Followers that were in this work directory before, and for how long nothing was written of them.
/// `own`: the one that is here now.
pub(super) fn others(work_dir: &Path, own: Option<&FollowerId>) -> Vec<(FollowerId, Duration)> {
    let mut reader = Reader::default();
    let mut found = BTreeSet::new();
    for below in ["slaves", "meta/slaves"] {
        let names = reader.directories(&work_dir.join(below));
        found.extend(names.iter().filter_map(|path| name(path)));
    }
    for problem in &reader.problems {
        tracing::warn!("Looking for old followers: {}", problem.text);
    }
    found
        .into_iter()
        .filter(|id| own.is_none_or(|own| own.as_str() != id))
        .map(|id| {
            let places = [work_dir.join("slaves"), work_dir.join("meta/slaves")];
            let ages = places.iter().filter_map(|place| age(&place.join(&id)));
            (
                FollowerId::from(id.as_str()),
                ages.min().unwrap_or_default(),
            )
        })
        .collect()
}

/// How long a file or directory has not been changed.
pub(super) fn age(path: &Path) -> Option<Duration> {
    let changed = fs::metadata(path).and_then(|metadata| metadata.modified());
    SystemTime::now().duration_since(changed.ok()?).ok()
}

/// Collects what cannot be read.
#[derive(Debug, Default)]
struct Reader {
    problems: Vec<Problem>,
    /// Files are left as they are.
    only_looking: bool,
}

/// What a file holds: a message, nothing (it is not there, or nothing of it had reached the disk), or
/// why it cannot be read.
type Content<M> = Result<Option<M>, String>;

impl Reader {
    /// A boot id that is none says nothing.
    fn rebooted(&mut self, path: &Path, now: &str) -> bool {
        let is_id = |text: &str| text.len() == 36 && text.bytes().all(|b| b.is_ascii_graphic());
        match self.text(path) {
            Some(text) if is_id(&text) => text != now.trim(),
            Some(_) => {
                self.damage(path, &"it holds no boot id");
                false
            }
            None => false,
        }
    }

    fn framework(&mut self, survey: Survey) -> RecoveredFramework {
        let Survey {
            directory,
            open,
            history,
            mut ended,
        } = survey;
        let path = directory.join("framework.info");
        let executors = directory.join("executors");
        let own = name(&directory).unwrap_or_default();
        let stand_in = || v1::FrameworkInfo {
            // Nothing would have been written otherwise.
            checkpoint: Some(true),
            ..Default::default()
        };
        let mut past = Self {
            only_looking: true,
            ..Default::default()
        };
        let (mut info, damaged) = match open.is_empty() {
            false => self.described(&path, &executors, stand_in),
            true if history.is_empty() => None,
            true => past.described(&path, &executors, stand_in),
        }
        .unwrap_or_else(|| (stand_in(), None));
        // Up to Mesos 0.22 the name of the directory alone told.
        info.id
            .get_or_insert(v1::FrameworkId { value: own.clone() });
        let pid = directory.join("framework.pid");
        let pid = match open.is_empty() {
            true => past.pid(&pid),
            false => self.pid(&pid),
        };
        let mut all = Vec::with_capacity(history.len() + open.len());
        for run in history {
            let known = past.problems.len();
            let executor = past.executor(&executors.join(run.executor.as_str()), &own);
            match executor.filter(|executor| executor.completed) {
                Some(mut executor) if past.problems.len() == known && damaged.is_none() => {
                    executor.earlier_runs.clear();
                    all.push(executor);
                }
                _ => ended.push(run),
            }
        }
        all.extend(open.iter().filter_map(|path| self.executor(path, &own)));
        // Otherwise they tell.
        let empty = all.is_empty() && ended.is_empty();
        let age = Some(&directory)
            .filter(|_| empty)
            .and_then(|path| age(path));
        RecoveredFramework {
            pid,
            executors: all,
            ended,
            age: age.unwrap_or_default(),
            damaged: damaged.filter(|_| !open.is_empty()),
            info,
        }
    }

    /// The message that describes what lies below a directory; where it cannot be read, and something
    /// lies there, what stands in for it, and why. Nothing, where it was about to be made or removed.
    fn described<M: Message + Name + Default>(
        &mut self,
        path: &Path,
        below: &Path,
        stand_in: impl FnOnce() -> M,
    ) -> Option<(M, Option<String>)> {
        let why = match self.message(path) {
            Ok(Some(message)) => return Some((message, None)),
            Ok(None) if !holds_something(below) => return None,
            Ok(None) => {
                let why = "it is missing or empty";
                self.note(path, &why);
                why.to_owned()
            }
            Err(why) => why,
        };
        let why = format!("The agent cannot read {}: {why}", path.display());
        Some((stand_in(), Some(why)))
    }

    fn executor(&mut self, directory: &Path, framework: &str) -> Option<RecoveredExecutor> {
        let runs = directory.join("runs");
        let all = self.directories(&runs);
        let latest = match pointed_at(&runs.join("latest")) {
            Ok(Some(latest)) if runs.join(&latest).is_dir() => latest,
            // It ended while the executor was launched, or while its directory was removed.
            Ok(_) if all.is_empty() => return None,
            Ok(_) => self.newest(&runs.join("latest"), &all, &"it points nowhere")?,
            Err(error) => self.newest(&error.path, &all, &error.source)?,
        };
        let path = directory.join("executor.info");
        let executor_id = v1::ExecutorId {
            value: name(directory).unwrap_or_default(),
        };
        let framework_id = v1::FrameworkId {
            value: framework.to_owned(),
        };
        let run = runs.join(&latest);
        let (info, damaged) = self.described(&path, &run, || v1::ExecutorInfo {
            executor_id: executor_id.clone(),
            framework_id: Some(framework_id),
            ..Default::default()
        })?;
        let earlier = all.iter().filter_map(|run| Some((name(run)?, run)));
        let earlier = earlier.filter(|(run, _)| *run != latest);
        let pids = run.join("pids");
        let sentinel = run.join("executor.sentinel");
        let tasks = self.directories(&run.join("tasks"));
        let mut recovered = RecoveredExecutor {
            generated: self.generated(directory, &info),
            process: self.number(&pids.join("forked.pid")),
            fate: Fate::Unknown,
            link: self.link(&pids),
            completed: sentinel.exists(),
            tasks: Vec::new(),
            earlier_runs: earlier
                .map(|(name, run)| (name, age(run).unwrap_or_default()))
                .collect(),
            age: age(&sentinel).unwrap_or_default(),
            container: latest,
            damaged,
            info,
        };
        recovered.tasks = tasks.iter().filter_map(|path| self.task(path)).collect();
        // What does not run any more needs no description.
        if recovered.completed {
            recovered.damaged = None;
        }
        Some(recovered)
    }

    /// The run that `latest` should name: the one that was changed last.
    fn newest(
        &mut self,
        link: &Path,
        runs: &[PathBuf],
        why: &dyn std::fmt::Display,
    ) -> Option<String> {
        let newest = runs.iter().min_by_key(|run| age(run).unwrap_or_default())?;
        let newest = name(newest)?;
        self.damage(
            link,
            &format!("{why}; taking {newest}, which is the newest"),
        );
        Some(newest)
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
        let own = name(directory).unwrap_or_default();
        let (mut task, damaged) = self.described(&path, directory, v1::Task::default)?;
        // Its end goes under this id, whatever the file says.
        task.task_id.value = own;
        let (launched, group) = self.launched(&directory.join("task.launch"));
        let mut recovered = RecoveredTask {
            task,
            damaged,
            launched,
            group,
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

    /// How a task was launched, and with which others.
    fn launched(&mut self, path: &Path) -> (Option<v1::TaskInfo>, Option<Arc<str>>) {
        let Some(bytes) = self.content(path) else {
            return (None, None);
        };
        let read = || -> io::Result<_> {
            let torn = || invalid("it was not written completely");
            let (task, rest) = split(&bytes).ok_or_else(torn)?;
            let task = decode(task)?;
            let group = match rest {
                [] => None,
                rest => Some(only::<v1::TaskId>(rest.to_vec())?.value.into()),
            };
            Ok((Some(task), group))
        };
        read().unwrap_or_else(|error| {
            self.damage(path, &error);
            (None, None)
        })
    }

    /// The whole records of a file. What comes after them is cut off.
    fn records(&mut self, path: &Path) -> Vec<StatusUpdateRecord> {
        let bytes = match read(path) {
            Ok(bytes) => bytes.unwrap_or_default(),
            Err(error) => {
                self.damage(&error.path, &error.source);
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
        let text = format!("{problem}; cut off after {whole} bytes");
        match torn {
            true => self.note(path, &text),
            false => self.damage(path, &text),
        }
        let cut = match self.only_looking {
            true => Ok(()),
            false => cut(path, whole as u64, torn),
        };
        if let Err(error) = cut {
            self.damage(path, &error);
        }
        records
    }

    fn message<M: Message + Name + Default>(&mut self, path: &Path) -> Content<M> {
        let bytes = match read(path) {
            Ok(bytes) => bytes.unwrap_or_default(),
            Err(error) => {
                self.damage(&error.path, &error.source);
                return Err(error.source.to_string());
            }
        };
        if bytes.is_empty() {
            return Ok(None);
        }
        only(bytes).map(Some).map_err(|error| {
            self.damage(path, &error);
            error.to_string()
        })
    }

    fn text(&mut self, path: &Path) -> Option<String> {
        let bytes = self.content(path)?;
        Some(String::from_utf8_lossy(&bytes).trim().to_owned())
    }

    fn content(&mut self, path: &Path) -> Option<Vec<u8>> {
        match read(path) {
            Ok(bytes) => bytes.filter(|bytes| !bytes.is_empty()),
            Err(error) => {
                self.damage(&error.path, &error.source);
                None
            }
        }
    }

    fn pid(&mut self, path: &Path) -> Option<Pid> {
        let text = self.text(path).filter(|text| text != NO_PROCESS)?;
        text.parse()
            .map_err(|_| self.damage(path, &"it holds no address of a process"))
            .ok()
    }

    fn number(&mut self, path: &Path) -> Option<u32> {
        let text = self.text(path)?;
        text.parse()
            .map_err(|_| self.damage(path, &"it holds no number"))
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
                self.damage(path, &error);
                Vec::new()
            }
        }
    }

    /// Something in a file that was written is wrong.
    fn damage(&mut self, path: &Path, why: &dyn std::fmt::Display) {
        self.problems.push(Problem {
            text: format!("{}: {why}", path.display()),
            damage: true,
        });
    }

    /// Something was not written completely.
    fn note(&mut self, path: &Path, why: &dyn std::fmt::Display) {
        self.problems.push(Problem {
            text: format!("{}: {why}", path.display()),
            damage: false,
        });
    }
}

fn invalid(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
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

pub(super) fn name(path: &Path) -> Option<String> {
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
