//! Making a sandbox directory (`src/slave/paths.cpp`, `createExecutorDirectory`).

use crate::plan::{Identity, SandboxLink};
use rustix::{
    fd::OwnedFd,
    fs::{Gid, Mode, OFlags, Uid, fchown, fstat, mkdirat, open, openat, readlinkat, symlinkat},
    io::Errno,
};
use std::{
    ffi::OsStr,
    fs, io,
    os::unix::{
        ffi::OsStrExt,
        fs::{MetadataExt, chown, symlink},
    },
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

/// Makes what a sandbox shows of its parent's. Both belong to users: no link that they put there is
/// followed where something is made, so that nothing is made elsewhere in our name.
pub fn link_sandbox(parent: &Path, sandbox: &Path, links: &[SandboxLink]) -> io::Result<()> {
    for link in links {
        let source = parent.join(&link.parent);
        if !source.exists() {
            make_beneath(parent, &link.parent)?;
        }
        let directory = match link.path.parent() {
            Some(above) => make_beneath(sandbox, above)?,
            None => open(sandbox, DIRECTORY, Mode::empty())?,
        };
        let name = link.path.file_name().unwrap_or_default();
        match symlinkat(&source, &directory, name) {
            // Made before a restart.
            Err(Errno::EXIST) if is_link(&directory, name, &source) => {}
            result => result?,
        }
    }
    Ok(())
}

const DIRECTORY: OFlags = OFlags::DIRECTORY
    .union(OFlags::RDONLY)
    .union(OFlags::CLOEXEC);

fn is_link(directory: &OwnedFd, name: &OsStr, target: &Path) -> bool {
    readlinkat(directory, name, Vec::new())
        .is_ok_and(|found| found.as_bytes() == target.as_os_str().as_bytes())
}

/// Opens a directory below a sandbox, made where it is absent, and then its owner's.
fn make_beneath(root: &Path, path: &Path) -> io::Result<OwnedFd> {
    let mut directory = open(root, DIRECTORY, Mode::empty())?;
    let owner = fstat(&directory)?;
    for name in path.components() {
        let name = name.as_os_str();
        let fresh = match mkdirat(&directory, name, Mode::from_raw_mode(0o755)) {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            Err(error) => return Err(error.into()),
        };
        directory = openat(
            &directory,
            name,
            DIRECTORY.union(OFlags::NOFOLLOW),
            Mode::empty(),
        )?;
        let now = fstat(&directory)?;
        if fresh && (now.st_uid, now.st_gid) != (owner.st_uid, owner.st_gid) {
            fchown(
                &directory,
                Some(Uid::from_raw(owner.st_uid)),
                Some(Gid::from_raw(owner.st_gid)),
            )?;
        }
    }
    Ok(directory)
}
