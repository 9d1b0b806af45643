//! The thread that writes what must survive, so that the core never waits for a disk.
//!
//! Files and formats are the reference's (`src/slave/paths.cpp`, `src/slave/state.cpp`): below
//! `meta/slaves/<id>`, each protobuf message after its length as a little-endian `u32`. Reading
//! them back comes with recovery.

use prost::Message;
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::mpsc as blocking,
    thread,
};
use tepui_follower::{io::Checkpoint, paths::usable};
use tepui_protocol::{
    internal::{StatusUpdate, StatusUpdateRecord, status_update_record::Type},
    v1,
};
use tokio::sync::mpsc;

/// Something could not be made durable: the follower must not go on.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {}", path.display())]
pub struct CheckpointError {
    /// Where.
    pub path: PathBuf,
    /// Why.
    #[source]
    pub source: io::Error,
}

/// Batches to write. At most one is on its way: the outbox sees to that.
pub(super) type Records = blocking::Sender<Vec<Checkpoint>>;
/// One result per batch, in order.
pub(super) type Written = mpsc::UnboundedReceiver<Result<(), CheckpointError>>;

/// Starts the thread; it ends once `Records` is dropped.
pub(super) fn start(work_dir: PathBuf) -> io::Result<(Records, Written)> {
    let (records, batches) = blocking::channel::<Vec<Checkpoint>>();
    let (results, written) = mpsc::unbounded_channel();
    thread::Builder::new()
        .name("checkpoints".to_owned())
        .spawn(move || {
            for batch in batches {
                let result = batch
                    .iter()
                    .try_for_each(|checkpoint| write(&work_dir, checkpoint));
                if results.send(result).is_err() {
                    return;
                }
            }
        })?;
    Ok((records, written))
}

fn write(work_dir: &Path, checkpoint: &Checkpoint) -> Result<(), CheckpointError> {
    let slaves = work_dir.join("meta").join("slaves");
    match checkpoint {
        Checkpoint::Follower(info) => follower(&slaves, info),
        Checkpoint::StatusUpdate(update) => match updates_file(&slaves, update) {
            Some(path) => append(&path, update).map_err(|source| CheckpointError { path, source }),
            None => {
                tracing::warn!(task = %update.status.task_id.value, "an update does not say where it belongs");
                Ok(())
            }
        },
    }
}

fn follower(slaves: &Path, info: &v1::AgentInfo) -> Result<(), CheckpointError> {
    let Some(id) = info
        .id
        .as_ref()
        .map(|id| id.value.as_str())
        .filter(|id| usable(id))
    else {
        return Ok(());
    };
    let directory = slaves.join(id);
    let path = directory.join("slave.info");
    let written = || {
        fs::create_dir_all(&directory)?;
        replace(&path, &framed(info))?;
        let latest = slaves.join("latest");
        let fresh = slaves.join(".latest");
        match fs::remove_file(&fresh) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => symlink(&directory, &fresh)?,
        }
        fs::rename(&fresh, &latest)
    };
    written().map_err(|source| CheckpointError {
        path: path.clone(),
        source,
    })
}

/// Where the updates of a task are kept. Ids come from frameworks: one that is no file name has no
/// such place.
fn updates_file(slaves: &Path, update: &StatusUpdate) -> Option<PathBuf> {
    let status = &update.status;
    let mut container = status.container_status.as_ref()?.container_id.as_ref()?;
    while let Some(parent) = &container.parent {
        container = parent;
    }
    let parts = [
        (
            "",
            &update.slave_id.as_ref().or(status.agent_id.as_ref())?.value,
        ),
        ("frameworks", &update.framework_id.value),
        (
            "executors",
            &update
                .executor_id
                .as_ref()
                .or(status.executor_id.as_ref())?
                .value,
        ),
        ("runs", &container.value),
        ("tasks", &status.task_id.value),
    ];
    let mut path = slaves.to_owned();
    for (kind, id) in parts {
        if !usable(id) {
            return None;
        }
        path.push(kind);
        path.push(id);
    }
    path.push("task.updates");
    Some(path)
}

fn append(path: &Path, update: &StatusUpdate) -> io::Result<()> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    let record = StatusUpdateRecord {
        r#type: Type::Update.into(),
        update: Some(update.clone()),
        uuid: None,
    };
    let mut file = OpenOptions::new().append(true).create(true).open(path)?;
    file.write_all(&framed(&record))?;
    file.sync_data()
}

fn framed(message: &impl Message) -> Vec<u8> {
    // No message comes near 4 GiB: it would not have been received.
    let mut bytes = (message.encoded_len() as u32).to_le_bytes().to_vec();
    bytes.extend(message.encode_to_vec());
    bytes
}

/// The old file or the new one, whatever happens meanwhile.
fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let fresh = path.with_extension("new");
    let mut file = File::create(&fresh)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&fresh, path)?;
    match path.parent() {
        Some(directory) => File::open(directory)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checkpoints_lie_where_the_reference_keeps_them() {
        let dir = tempfile::tempdir().expect("a directory");
        let id = |value: &str| v1::AgentId {
            value: value.to_owned(),
        };
        let info = v1::AgentInfo {
            id: Some(id("S0")),
            hostname: "h".to_owned(),
            ..Default::default()
        };
        write(dir.path(), &Checkpoint::Follower(Box::new(info.clone()))).expect("written");
        let bytes = fs::read(dir.path().join("meta/slaves/latest/slave.info")).expect("a file");
        assert_eq!(bytes, framed(&info));

        let mut update = StatusUpdate {
            slave_id: Some(id("S0")),
            ..Default::default()
        };
        update.framework_id.value = "F".to_owned();
        update.executor_id = Some(v1::ExecutorId {
            value: "E".to_owned(),
        });
        update.status.task_id.value = "T".to_owned();
        let container = v1::ContainerId {
            value: "C".to_owned(),
            parent: None,
        };
        let nested = v1::ContainerId {
            value: "N".to_owned(),
            parent: Some(Box::new(container)),
        };
        update.status.container_status = Some(v1::ContainerStatus {
            container_id: Some(nested),
            ..Default::default()
        });
        for _ in 0..2 {
            write(
                dir.path(),
                &Checkpoint::StatusUpdate(Box::new(update.clone())),
            )
            .expect("written");
        }
        let file = dir
            .path()
            .join("meta/slaves/S0/frameworks/F/executors/E/runs/C/tasks/T/task.updates");
        let first = fs::read(&file).expect("a file").len();
        assert_eq!(first % 2, 0);

        update.status.task_id.value = "../../escape".to_owned();
        assert_eq!(updates_file(Path::new("/m"), &update), None);
    }
}
