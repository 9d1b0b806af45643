//! Making a sandbox directory (`src/slave/paths.cpp`, `createExecutorDirectory`).

use crate::plan::Identity;
use std::{
    fs, io,
    os::unix::fs::{MetadataExt, chown, symlink},
    path::Path,
};

/// Makes `sandbox` with all parents, gives it to `owner` and points `latest` at it.
///
/// A sandbox that already exists is taken as it is, but for its owner.
pub fn create_sandbox(
    sandbox: &Path,
    owner: Option<&Identity>,
    latest: Option<&Path>,
) -> io::Result<()> {
    fs::create_dir_all(sandbox)?;
    if let Some(owner) = owner {
        let now = fs::metadata(sandbox)?;
        if (now.uid(), now.gid()) != (owner.uid, owner.gid) {
            chown(sandbox, Some(owner.uid), Some(owner.gid))?;
        }
    }
    latest.map_or(Ok(()), |link| point(link, sandbox))
}

/// Replaces a link in one step: readers find the old target or the new one.
fn point(link: &Path, target: &Path) -> io::Result<()> {
    let fresh = link.with_extension("new");
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => symlink(target, &fresh)?,
    }
    fs::rename(&fresh, link)
}
