//! The thread that writes what must survive, so that the core never waits for a disk.
//!
//! Files and formats are the reference's (`src/slave/paths.cpp`, `src/slave/state.cpp`): below
//! `meta/slaves/<id>` and `meta/resources`, each protobuf message after its length as a little-endian
//! `u32`. They are read back at a start: resources by [`recover_resources`], the rest by `recover`; what is
//! written of runs of executors is in `runs`.
//!
//! A batch is durable when [`Disk::sync`] has returned: each file was synced before it got its name, and
//! every directory in which a name changed, new ones included, at the end. What a machine's failure
//! leaves of a batch was not acknowledged to anybody. When something cannot be written (a full disk),
//! nothing after it is done, and the follower stops: what runs goes on, and is taken back by the next one.

use super::{durable::Disk, runs};
use prost::Message;
use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::mpsc as blocking,
    thread,
};
use tepui_follower::{
    io::{Checkpoint, ResourcesCheckpoint},
    paths::usable,
};
use tepui_protocol::{
    internal::{ResourceState, StatusUpdate, StatusUpdateRecord, status_update_record::Type},
    v1,
};
use tokio::sync::mpsc;

/// Something could not be made durable, or read back: the follower must not go on.
#[derive(Debug, thiserror::Error)]
#[error("cannot write or read {}", path.display())]
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
                let result = write(&work_dir, &batch);
                if results.send(result).is_err() {
                    return;
                }
            }
        })?;
    Ok((records, written))
}

/// Writes a batch; it is durable then.
pub(super) fn write(work_dir: &Path, batch: &[Checkpoint]) -> Result<(), CheckpointError> {
    let mut disk = Disk::default();
    for checkpoint in batch {
        write_one(work_dir, checkpoint, &mut disk)?;
    }
    disk.sync()
}

fn write_one(
    work_dir: &Path,
    checkpoint: &Checkpoint,
    disk: &mut Disk,
) -> Result<(), CheckpointError> {
    let meta = work_dir.join("meta");
    let slaves = meta.join("slaves");
    match checkpoint {
        Checkpoint::Follower(info) => follower(&slaves, info, disk),
        Checkpoint::Left => disk.remove(&slaves.join("latest")),
        Checkpoint::StatusUpdate(update) => match updates_file(&slaves, update) {
            Some(path) => disk.append(&path, &framed(&update_record(update))),
            None => {
                tracing::warn!(task = %update.status.task_id.value, "an update does not say where it belongs");
                Ok(())
            }
        },
        Checkpoint::Framework {
            follower,
            info,
            pid,
        } => runs::framework(&meta, follower, info, pid.as_ref(), disk),
        Checkpoint::Run(run) => runs::run(&meta, run, disk),
        Checkpoint::Resources(resources) => resource_state(work_dir, resources, disk),
        Checkpoint::Drain { follower, config } => {
            drain(&slaves, follower.as_str(), config.as_ref(), disk)
        }
    }
}

/// Says which run of the system this is, for the next start.
pub(super) fn write_boot_id(work_dir: &Path, boot_id: &str) -> Result<(), CheckpointError> {
    let path = work_dir.join("meta").join("boot_id");
    if fs::read(&path).is_ok_and(|known| known == boot_id.as_bytes()) {
        return Ok(());
    }
    let mut disk = Disk::default();
    disk.put(&path, boot_id.as_bytes())?;
    disk.sync()
}

/// Makes what was recovered not to be, so that the next follower is a new one.
pub(super) fn leave(work_dir: &Path) -> Result<(), CheckpointError> {
    write(work_dir, &[Checkpoint::Left])
}

/// Where the resources are kept: with operations, and without them for agents of before 1.8.
fn resource_files(work_dir: &Path) -> [PathBuf; 2] {
    let directory = work_dir.join("meta").join("resources");
    ["resources_and_operations.state", "resources.info"].map(|name| directory.join(name))
}

/// Volumes first: a state that counts has its directories. The reference removes the directory of a
/// volume before it forgets it too.
fn resource_state(
    work_dir: &Path,
    checkpoint: &ResourcesCheckpoint,
    disk: &mut Disk,
) -> Result<(), CheckpointError> {
    for path in &checkpoint.made {
        disk.make(path)?;
    }
    for (path, keeps_root) in &checkpoint.gone {
        tracing::info!(volume = %path.display(), "removing a persistent volume");
        remove_volume(path, *keeps_root).map_err(|source| failed(path, source))?;
    }
    let [state, resources] = resource_files(work_dir);
    let mut all = Vec::new();
    for resource in &checkpoint.state.resources {
        all.extend(framed(resource));
    }
    disk.put(&resources, &all)?;
    disk.put(&state, &framed(&checkpoint.state))
}

fn remove_volume(path: &Path, keeps_root: bool) -> io::Result<()> {
    let gone = |result: io::Result<()>| match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    };
    if !keeps_root {
        return gone(fs::remove_dir_all(path));
    }
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        gone(match entry.file_type()?.is_dir() {
            true => fs::remove_dir_all(entry.path()),
            false => fs::remove_file(entry.path()),
        })?;
    }
    Ok(())
}

/// What operations made of the resources before a restart, if any ever did.
pub(super) fn recover_resources(work_dir: &Path) -> Result<Option<ResourceState>, CheckpointError> {
    let [state, resources] = resource_files(work_dir);
    if let Some(bytes) = read(&state)? {
        let mut messages = unframed::<ResourceState>(&bytes).map_err(|e| failed(&state, e))?;
        return Ok(messages.pop());
    }
    let Some(bytes) = read(&resources)? else {
        return Ok(None);
    };
    let resources = unframed(&bytes).map_err(|e| failed(&resources, e))?;
    Ok(Some(ResourceState {
        resources,
        ..Default::default()
    }))
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, CheckpointError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(failed(path, source)),
    }
}

/// The messages of a file.
fn unframed<M: Message + Default>(mut bytes: &[u8]) -> io::Result<Vec<M>> {
    let short = || io::Error::new(io::ErrorKind::InvalidData, "the file is cut off");
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let (length, rest) = bytes.split_first_chunk::<4>().ok_or_else(short)?;
        let length = u32::from_le_bytes(*length) as usize;
        let (body, rest) = rest.split_at_checked(length).ok_or_else(short)?;
        all.push(M::decode(body).map_err(io::Error::other)?);
        bytes = rest;
    }
    Ok(all)
}

fn drain(
    slaves: &Path,
    follower: &str,
    config: Option<&v1::DrainConfig>,
    disk: &mut Disk,
) -> Result<(), CheckpointError> {
    if !usable(follower) {
        return Ok(());
    }
    let path = slaves.join(follower).join("drain.config");
    match config {
        Some(config) => disk.put(&path, &framed(config)),
        None => disk.remove(&path),
    }
}

pub(super) fn failed(path: &Path, source: io::Error) -> CheckpointError {
    CheckpointError {
        path: path.to_owned(),
        source,
    }
}

fn follower(slaves: &Path, info: &v1::AgentInfo, disk: &mut Disk) -> Result<(), CheckpointError> {
    let Some(id) = info
        .id
        .as_ref()
        .map(|id| id.value.as_str())
        .filter(|id| usable(id))
    else {
        return Ok(());
    };
    let directory = slaves.join(id);
    disk.put(&directory.join("slave.info"), &framed(info))?;
    disk.point(&slaves.join("latest"), &directory)
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

fn update_record(update: &StatusUpdate) -> StatusUpdateRecord {
    StatusUpdateRecord {
        r#type: Type::Update.into(),
        update: Some(update.clone()),
        uuid: None,
    }
}

pub(super) fn framed(message: &impl Message) -> Vec<u8> {
    // No message comes near 4 GiB: it would not have been received.
    let mut bytes = (message.encoded_len() as u32).to_le_bytes().to_vec();
    bytes.extend(message.encode_to_vec());
    bytes
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
        write(dir.path(), &[Checkpoint::Follower(Box::new(info.clone()))]).expect("written");
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
                &[Checkpoint::StatusUpdate(Box::new(update.clone()))],
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

    #[test]
    fn resources_are_read_back_and_volumes_come_and_go_with_them() {
        let dir = tempfile::tempdir().expect("a directory");
        assert_eq!(recover_resources(dir.path()).expect("nothing"), None);
        let volume = dir.path().join("volumes/roles/prod/v");
        let mount = dir.path().join("mnt");
        fs::create_dir_all(mount.join("sub")).expect("made");
        fs::write(mount.join("file"), "x").expect("written");
        let resource = v1::Resource {
            name: "disk".to_owned(),
            r#type: v1::value::Type::Scalar.into(),
            ..Default::default()
        };
        let mut checkpoint = ResourcesCheckpoint {
            state: ResourceState {
                resources: vec![resource],
                operations: Vec::new(),
            },
            made: vec![volume.clone()],
            gone: Vec::new(),
        };
        let record = |checkpoint: &ResourcesCheckpoint| {
            write(
                dir.path(),
                &[Checkpoint::Resources(Box::new(checkpoint.clone()))],
            )
        };
        record(&checkpoint).expect("written");
        fs::write(volume.join("data"), "x").expect("written");
        let read = recover_resources(dir.path()).expect("read");
        assert_eq!(read.as_ref(), Some(&checkpoint.state));
        // The older file alone says the same.
        let [state, _] = resource_files(dir.path());
        fs::remove_file(&state).expect("removed");
        assert_eq!(recover_resources(dir.path()).expect("read"), read);

        checkpoint.made.clear();
        checkpoint.gone = vec![(volume.clone(), false), (mount.clone(), true)];
        record(&checkpoint).expect("written");
        record(&checkpoint).expect("again");
        assert!(!volume.exists());
        assert_eq!(fs::read_dir(&mount).expect("it stays").count(), 0);

        fs::write(&state, [200, 0, 0, 0, 1]).expect("written");
        assert!(recover_resources(dir.path()).is_err());
    }

    #[test]
    fn draining_is_remembered_until_it_is_over() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("meta/slaves/S0/drain.config");
        fs::create_dir_all(path.parent().expect("a parent")).expect("made");
        let record = |config| {
            let drain = Checkpoint::Drain {
                follower: "S0".into(),
                config,
            };
            write(dir.path(), &[drain]).expect("written");
        };
        record(Some(v1::DrainConfig::default()));
        assert!(path.exists());
        record(None);
        record(None);
        assert!(!path.exists());
    }
}
