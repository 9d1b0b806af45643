//! Changes of files that survive the failure of the machine.

use super::{CheckpointError, checkpoints::failed};
use std::{
    collections::BTreeSet,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

/// Changes files, and makes the changes of a batch durable at its end.
#[derive(Debug, Default)]
pub(super) struct Disk {
    /// Directories in which names have changed.
    changed: BTreeSet<PathBuf>,
}

impl Disk {
    /// Makes a directory and those it lies in.
    pub(super) fn make(&mut self, directory: &Path) -> Result<(), CheckpointError> {
        if directory.is_dir() {
            return Ok(());
        }
        if let Some(parent) = directory.parent() {
            self.make(parent)?;
            self.changed.insert(parent.to_owned());
        }
        match fs::create_dir(directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                Err(failed(directory, error))
            }
            _ => Ok(()),
        }
    }

    /// Gives a file this content: after a failure it is the old one or the new one.
    pub(super) fn put(&mut self, path: &Path, bytes: &[u8]) -> Result<(), CheckpointError> {
        self.make_parent(path)?;
        let fresh = path.with_extension("new");
        let written = || {
            let mut file = File::create(&fresh)?;
            file.write_all(bytes)?;
            file.sync_data()?;
            fs::rename(&fresh, path)
        };
        written().map_err(|source| failed(path, source))
    }

    /// Adds to the end of a file. After a failure the end may be torn.
    pub(super) fn append(&mut self, path: &Path, bytes: &[u8]) -> Result<(), CheckpointError> {
        if !path.exists() {
            self.make_parent(path)?;
        }
        let written = || {
            let mut file = OpenOptions::new().append(true).create(true).open(path)?;
            file.write_all(bytes)?;
            file.sync_data()
        };
        written().map_err(|source| failed(path, source))
    }

    /// Makes a link point at a directory, whatever it pointed at before.
    pub(super) fn point(&mut self, link: &Path, directory: &Path) -> Result<(), CheckpointError> {
        self.make_parent(link)?;
        let fresh = link.with_file_name(".latest");
        self.remove(&fresh)?;
        symlink(directory, &fresh)
            .and_then(|()| fs::rename(&fresh, link))
            .map_err(|source| failed(link, source))
    }

    /// Removes a file, if there is one.
    pub(super) fn remove(&mut self, path: &Path) -> Result<(), CheckpointError> {
        match fs::remove_file(path) {
            Ok(()) => {
                self.changed.extend(path.parent().map(Path::to_owned));
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(failed(path, error)),
        }
    }

    fn make_parent(&mut self, path: &Path) -> Result<(), CheckpointError> {
        let Some(parent) = path.parent() else {
            return Ok(());
        };
        self.make(parent)?;
        self.changed.insert(parent.to_owned());
        Ok(())
    }

    /// Makes names durable.
    pub(super) fn sync(self) -> Result<(), CheckpointError> {
        for directory in self.changed {
            let synced = File::open(&directory).and_then(|directory| directory.sync_all());
            match synced {
                // It was removed since, with all its names.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                result => result.map_err(|source| failed(&directory, source))?,
            }
        }
        Ok(())
    }
}
