//! Writes what `recover` reads: frameworks, runs of executors, their tasks and
//! connections. The core asks for it only where recovery is switched on, which is nowhere yet.

use super::checkpoints::{CheckpointError, append, failed, framed, point, replace};
use std::{
    fs, io,
    path::{Path, PathBuf},
};
use tepui_follower::{
    io::{RunCheckpoint, RunFact},
    paths::{self, usable},
    recovered::RecoveredLink,
};
use tepui_model::{FollowerId, FrameworkId};
use tepui_protocol::{
    internal::{StatusUpdateRecord, status_update_record::Type},
    peer::{NO_PROCESS, Pid},
    v1,
};

pub(super) fn framework(
    meta: &Path,
    follower: &FollowerId,
    info: &v1::FrameworkInfo,
    pid: Option<&Pid>,
) -> Result<(), CheckpointError> {
    let id = info.id.as_ref().map(FrameworkId::from);
    let Some(id) = id.filter(|id| usable(id.as_str()) && usable(follower.as_str())) else {
        return nowhere(&info.name);
    };
    let directory = paths::framework(meta, follower, &id);
    let pid = pid.map_or_else(|| NO_PROCESS.to_owned(), Pid::to_string);
    put(directory.join("framework.info"), &framed(info))?;
    put(directory.join("framework.pid"), pid.as_bytes())
}

pub(super) fn run(meta: &Path, checkpoint: &RunCheckpoint) -> Result<(), CheckpointError> {
    let RunCheckpoint {
        follower,
        framework,
        executor,
        container,
        fact,
    } = checkpoint;
    let ids = [follower.as_str(), framework.as_str(), executor.as_str()];
    if !ids.iter().chain([&container.as_str()]).all(|id| usable(id)) {
        return nowhere(executor.as_str());
    }
    let directory = paths::executor(meta, follower, framework, executor);
    let run = paths::run(meta, follower, framework, executor, container);
    let task_file = |task: &str, file: &str| {
        let task = usable(task).then(|| run.join("tasks").join(task));
        task.map(|task| task.join(file))
    };
    match fact {
        RunFact::Executor { info, generated } => {
            let number = u8::from(*generated).to_string();
            let marker = directory.join("executor_generated_for_command_task");
            put(directory.join("executor.info"), &framed(&**info))?;
            put(marker, number.as_bytes())?;
            let linked = || {
                fs::create_dir_all(&run)?;
                let latest = paths::latest_run(meta, follower, framework, executor);
                point(&latest, &run)
            };
            linked().map_err(|source| failed(&run, source))
        }
        RunFact::Process(pid) => put(run.join("pids/forked.pid"), pid.to_string().as_bytes()),
        RunFact::Link(RecoveredLink::Driver(pid)) => {
            put(run.join("pids/libprocess.pid"), pid.to_string().as_bytes())
        }
        RunFact::Link(RecoveredLink::Http) => put(run.join("pids/http.marker"), b""),
        RunFact::Link(RecoveredLink::Unknown) => Ok(()),
        RunFact::Task(task) => match task_file(&task.task_id.value, "task.info") {
            Some(path) => put(path, &framed(&**task)),
            None => nowhere(&task.task_id.value),
        },
        RunFact::Acknowledged { task, uuid } => {
            let record = StatusUpdateRecord {
                r#type: Type::Ack.into(),
                update: None,
                uuid: Some(uuid.clone()),
            };
            match task_file(task.as_str(), "task.updates") {
                Some(path) => append(&path, &record).map_err(|source| failed(&path, source)),
                None => nowhere(task.as_str()),
            }
        }
        RunFact::Completed => put(run.join("executor.sentinel"), b""),
    }
}

fn put(path: PathBuf, bytes: &[u8]) -> Result<(), CheckpointError> {
    let written = || -> io::Result<()> {
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory)?;
        }
        replace(&path, bytes)
    };
    written().map_err(|source| failed(&path, source))
}

/// Ids come from frameworks: one that is no file name has no place.
fn nowhere(id: &str) -> Result<(), CheckpointError> {
    tracing::warn!(
        id,
        "cannot be kept across a restart: its name is no file name"
    );
    Ok(())
}

#[cfg(test)]
#[path = "runs_tests.rs"]
mod tests;
