//! Tells what has ended from what has something left to do, before anything is read but names: runs
//! that have ended are kept for `--gc_delay`, so there may be as many as tasks ran in a week.
//!
//! A run has ended for good when its `executor.sentinel` is there. Of those no more is needed than where
//! they lie and since when, but for the last few, which are remembered as history. The reference does
//! not read any of them (`Framework::recoverExecutor` of `src/slave/slave.cpp`).
//!
//! What had not been launched yet when a follower was killed has directories, too, and files that never
//! got their names: nobody was told of it, so it is only to be removed.

use super::recover::{age, name};
use std::{
    cmp::Reverse,
    fs, io,
    path::{Path, PathBuf},
};
use tepui_follower::{config::MAX_COMPLETED_FRAMEWORKS, recovered::EndedRun};
use tepui_model::ExecutorId;

/// A framework's directory.
#[derive(Debug)]
pub(super) struct Survey {
    pub(super) directory: PathBuf,
    /// Directories of executors that may have something left to do.
    pub(super) open: Vec<PathBuf>,
    /// Last runs to be remembered, the oldest first.
    pub(super) history: Vec<EndedRun>,
    /// All others.
    pub(super) ended: Vec<EndedRun>,
}

/// Looks through frameworks. Of each that has something left to do, and of the last ones that have
/// not, `remembered` executors are history.
pub(super) fn survey(frameworks: Vec<PathBuf>, remembered: usize) -> Vec<Survey> {
    let mut all: Vec<Survey> = frameworks.into_iter().map(look_through).collect();
    let mut idle: Vec<&mut Survey> = Vec::new();
    for survey in &mut all {
        survey.history.sort_by_key(|run| Reverse(run.age));
        let surplus = survey.history.len().saturating_sub(remembered);
        survey.ended.extend(survey.history.drain(..surplus));
        if survey.open.is_empty() {
            idle.push(survey);
        }
    }
    idle.sort_by_key(|survey| survey.history.last().map(|run| run.age));
    for forgotten in idle.into_iter().skip(MAX_COMPLETED_FRAMEWORKS) {
        forgotten.ended.append(&mut forgotten.history);
    }
    all
}

fn look_through(directory: PathBuf) -> Survey {
    let mut survey = Survey {
        open: Vec::new(),
        history: Vec::new(),
        ended: Vec::new(),
        directory,
    };
    let executors = survey.directory.join("executors");
    // What cannot be listed is found, and said, by who reads it.
    for id in names(&executors).unwrap_or_default() {
        let directory = executors.join(&id);
        let executor = ExecutorId::from(id.as_str());
        let Some((last, earlier)) = ended(&directory, executor) else {
            survey.open.push(directory);
            continue;
        };
        survey.ended.extend(earlier);
        match last {
            Ended::Run(run) => survey.history.push(run),
            Ended::Nothing(run) => survey.ended.push(run),
        }
    }
    survey.open.sort();
    survey
}

/// How an executor ended.
enum Ended {
    Run(EndedRun),
    /// Nothing of it was ever told to anybody, or nothing of it is left.
    Nothing(EndedRun),
}

/// The last run of an executor, and those before it, if it has nothing left to do.
fn ended(directory: &Path, executor: ExecutorId) -> Option<(Ended, Vec<EndedRun>)> {
    let runs = directory.join("runs");
    let mut all = match names(&runs) {
        Ok(all) => all,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(_) => return None,
    };
    let run = |name: Option<&str>, last: bool, place: &Path| EndedRun {
        executor: executor.clone(),
        run: name.map(Into::into),
        last,
        age: age(place).unwrap_or_default(),
    };
    if all.is_empty() {
        // It ended while it was launched, or while its directory was removed.
        return Some((Ended::Nothing(run(None, true, directory)), Vec::new()));
    }
    let sentinel = |name: &String| runs.join(name).join("executor.sentinel");
    let named = fs::read_link(runs.join("latest")).ok();
    let named = named.and_then(|link| name(&link));
    let latest = match named.filter(|named| all.contains(named)) {
        Some(latest) => latest,
        // The link goes before what it points at when they are removed.
        None if all.iter().all(|name| sentinel(name).exists()) => {
            let newest = all.iter().min_by_key(|name| age(&sentinel(name)));
            newest.cloned()?
        }
        None => all.first().cloned()?,
    };
    let place = sentinel(&latest);
    let last = if place.exists() {
        Ended::Run(run(Some(&latest), true, &place))
    } else if !directory.join("executor.info").exists() && !holds_something(directory) {
        Ended::Nothing(run(Some(&latest), true, &runs.join(&latest)))
    } else {
        return None;
    };
    all.retain(|name| *name != latest);
    let earlier = all.iter();
    let earlier = earlier.map(|name| run(Some(name), false, &runs.join(name)));
    Some((last, earlier.collect()))
}

/// The names of directories in a directory. Links are none of them.
fn names(directory: &Path) -> io::Result<Vec<String>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            all.extend(name(Path::new(&entry.file_name())));
        }
    }
    Ok(all)
}

/// Whether there is any file in a directory or below it. Those on their way have no name yet; links
/// do not count: they are there before what they point at.
pub(super) fn holds_something(directory: &Path) -> bool {
    let something = |entry: io::Result<fs::DirEntry>| {
        entry.is_ok_and(|entry| {
            let path = entry.path();
            entry.file_type().is_ok_and(|kind| match kind {
                kind if kind.is_dir() => holds_something(&path),
                kind => !kind.is_symlink() && path.extension().is_none_or(|end| end != "new"),
            })
        })
    };
    fs::read_dir(directory).is_ok_and(|mut entries| entries.any(something))
}
