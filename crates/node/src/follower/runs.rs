//! Writes what `recover` reads: frameworks, runs of executors, their tasks and
//! connections.

use super::{
    checkpoints::{CheckpointError, framed},
    durable::Disk,
};
use std::path::Path;
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
    disk: &mut Disk,
) -> Result<(), CheckpointError> {
    let id = info.id.as_ref().map(FrameworkId::from);
    let Some(id) = id.filter(|id| usable(id.as_str()) && usable(follower.as_str())) else {
        return nowhere(&info.name);
    };
    let directory = paths::framework(meta, follower, &id);
    let pid = pid.map_or_else(|| NO_PROCESS.to_owned(), Pid::to_string);
    disk.put(&directory.join("framework.info"), &framed(info))?;
    disk.put(&directory.join("framework.pid"), pid.as_bytes())
}

pub(super) fn run(
    meta: &Path,
    checkpoint: &RunCheckpoint,
    disk: &mut Disk,
) -> Result<(), CheckpointError> {
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
            disk.put(&directory.join("executor.info"), &framed(&**info))?;
            disk.put(&marker, number.as_bytes())?;
            disk.make(&run)?;
            let latest = paths::latest_run(meta, follower, framework, executor);
            disk.point(&latest, &run)
        }
        RunFact::Process(pid) => disk.put(&run.join("pids/forked.pid"), pid.to_string().as_bytes()),
        RunFact::Link(RecoveredLink::Driver(pid)) => {
            disk.put(&run.join("pids/libprocess.pid"), pid.to_string().as_bytes())
        }
        RunFact::Link(RecoveredLink::Http) => disk.put(&run.join("pids/http.marker"), b""),
        RunFact::Link(RecoveredLink::Unknown) => Ok(()),
        RunFact::Task {
            task,
            launch,
            group,
        } => {
            let id = &task.task_id.value;
            let Some(path) = task_file(id, "task.launch") else {
                return nowhere(id);
            };
            if let Some(launch) = launch {
                let group = group.as_ref().map(|group| v1::TaskId {
                    value: group.to_string(),
                });
                let mut bytes = framed(&**launch);
                bytes.extend(group.iter().flat_map(framed));
                disk.put(&path, &bytes)?;
            }
            disk.put(&path.with_file_name("task.info"), &framed(&**task))
        }
        RunFact::Acknowledged { task, uuid } => {
            let record = StatusUpdateRecord {
                r#type: Type::Ack.into(),
                update: None,
                uuid: Some(uuid.clone()),
            };
            match task_file(task.as_str(), "task.updates") {
                Some(path) => disk.append(&path, &framed(&record)),
                None => nowhere(task.as_str()),
            }
        }
        RunFact::Completed => disk.put(&run.join("executor.sentinel"), b""),
    }
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
