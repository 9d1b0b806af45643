//! The thread that writes what must survive, so that the core never waits for a disk.
//!
//! Files and formats are the reference's (`src/slave/paths.cpp`, `src/slave/state.cpp`): below
//! `meta/slaves/<id>` and `meta/resources`, each protobuf message after its length as a little-endian
//! `u32`. Resources are read back at a start ([`recover_resources`]); what is written of runs of executors
//! is in `runs`, and nothing starts from it yet.

use super::runs;
use prost::Message;
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::symlink,
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

pub(super) fn write(work_dir: &Path, checkpoint: &Checkpoint) -> Result<(), CheckpointError> {
    let slaves = work_dir.join("meta").join("slaves");
    match checkpoint {
        Checkpoint::Follower(info) => follower(&slaves, info),
        Checkpoint::StatusUpdate(update) => match updates_file(&slaves, update) {
            Some(path) => append(&path, &update_record(update))
                .map_err(|source| CheckpointError { path, source }),
            None => {
                tracing::warn!(task = %update.status.task_id.value, "an update does not say where it belongs");
                Ok(())
            }
        },
        Checkpoint::Framework {
            follower,
            info,
            pid,
        } => runs::framework(&work_dir.join("meta"), follower, info, pid.as_ref()),
        Checkpoint::Run(run) => runs::run(&work_dir.join("meta"), run),
        Checkpoint::Resources(resources) => resource_state(work_dir, resources),
        Checkpoint::Drain { follower, config } => {
            drain(&slaves, follower.as_str(), config.as_ref())
        }
    }
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
) -> Result<(), CheckpointError> {
    for path in &checkpoint.made {
        fs::create_dir_all(path).map_err(|source| failed(path, source))?;
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
    let written = || {
        if let Some(directory) = state.parent() {
            fs::create_dir_all(directory)?;
        }
        replace(&resources, &all)?;
        replace(&state, &framed(&checkpoint.state))
    };
    written().map_err(|source| failed(&state, source))
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
) -> Result<(), CheckpointError> {
    if !usable(follower) {
        return Ok(());
    }
    let path = slaves.join(follower).join("drain.config");
    let result = match config {
        Some(config) => replace(&path, &framed(config)),
        None => match fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        },
    };
    result.map_err(|source| failed(&path, source))
}

pub(super) fn failed(path: &Path, source: io::Error) -> CheckpointError {
    CheckpointError {
        path: path.to_owned(),
        source,
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
        point(&slaves.join("latest"), &directory)
    };
    written().map_err(|source| CheckpointError {
        path: path.clone(),
        source,
    })
}

/// Makes a link point at a directory, whatever it pointed at before.
pub(super) fn point(link: &Path, directory: &Path) -> io::Result<()> {
    let fresh = link.with_file_name(".latest");
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => symlink(directory, &fresh)?,
    }
    fs::rename(&fresh, link)
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

pub(super) fn append(path: &Path, record: &StatusUpdateRecord) -> io::Result<()> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    let mut file = OpenOptions::new().append(true).create(true).open(path)?;
    file.write_all(&framed(record))?;
    file.sync_data()
}

pub(super) fn framed(message: &impl Message) -> Vec<u8> {
    // No message comes near 4 GiB: it would not have been received.
    let mut bytes = (message.encoded_len() as u32).to_le_bytes().to_vec();
    bytes.extend(message.encode_to_vec());
    bytes
}

/// The old file or the new one, whatever happens meanwhile.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
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
                &Checkpoint::Resources(Box::new(checkpoint.clone())),
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
            write(dir.path(), &drain).expect("written");
        };
        record(Some(v1::DrainConfig::default()));
        assert!(path.exists());
        record(None);
        record(None);
        assert!(!path.exists());
    }
}
