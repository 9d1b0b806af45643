//! Persistent volumes and disks on this machine: links in sandboxes, and the disks that `--resources`
//! names. Which links, the core decides; texts and steps follow
//! `src/slave/containerizer/mesos/isolators/filesystem/posix.cpp` and `initialize` of
//! `src/slave/slave.cpp`.

use super::core_loop::Inner;
use crate::containers::make_sandbox;
use std::{
    fs, io,
    os::unix::fs::{MetadataExt, chown, symlink},
    path::{Path, PathBuf},
};
use tepui_follower::{
    io::{Effect, Effects, VolumeLink, VolumeLinks},
    resources::DiskRoot,
};
use tokio::sync::mpsc;

/// Changes a sandbox and says so.
pub(super) fn link_and_tell(links: &VolumeLinks, tell: &mpsc::UnboundedSender<Inner>) {
    // Nobody listens once the node stops.
    let _ = tell.send(Inner::VolumesLinked {
        container: links.container.clone(),
        sandbox: links.sandbox.clone(),
        error: link(links).err(),
    });
}

/// After a restart, before anything is launched: what is launched then must find its volumes.
pub(super) async fn link_begun(begun: Effects, tell: &mpsc::UnboundedSender<Inner>) -> Effects {
    let mut begun = begun;
    let (mut links, mut rest) = (Vec::new(), Effects::default());
    for effect in begun.drain() {
        match effect {
            Effect::LinkVolumes(volumes) => links.push(volumes),
            other => rest.push(other),
        }
    }
    if !links.is_empty() {
        let tell = tell.clone();
        let all = move || links.iter().for_each(|links| link_and_tell(links, &tell));
        // It only fails by a panic, or when the runtime ends.
        let _ = tokio::task::spawn_blocking(all).await;
    }
    rest
}

/// The text is for the task's framework and the operator.
fn link(links: &VolumeLinks) -> Result<(), String> {
    let sandbox = &links.sandbox;
    for link in &links.gone {
        take_away(sandbox, link)?;
    }
    if links.made.is_empty() {
        return Ok(());
    }
    if fs::symlink_metadata(sandbox).is_err() {
        make_sandbox(sandbox, links.user.as_deref(), links.latest.as_deref()).map_err(|error| {
            format!("Failed to create sandbox '{}': {error}", sandbox.display())
        })?;
    }
    let owner = fs::metadata(sandbox).map_err(|error| {
        format!(
            "Failed to get ownership for '{}': {error}",
            sandbox.display()
        )
    })?;
    for link in &links.made {
        give(link, owner.uid(), owner.gid())?;
        make(sandbox, link)?;
    }
    Ok(())
}

/// The sandbox is its user's: what lies there by now may be anything.
fn take_away(sandbox: &Path, link: &VolumeLink) -> Result<(), String> {
    let path = sandbox.join(&link.name);
    if !leads_to(&path, &link.volume) {
        return Ok(());
    }
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(format!(
            "Failed to remove the symlink for the unneeded persistent volume at '{}': {error}",
            path.display()
        )),
        _ => Ok(()),
    }
}

/// Only the volume itself, nothing in it: who wrote that keeps it. Root needs no permission.
fn give(link: &VolumeLink, uid: u32, gid: u32) -> Result<(), String> {
    if uid == 0 || !link.give {
        return Ok(());
    }
    let owned = fs::metadata(&link.volume).map(|now| (now.uid(), now.gid()) == (uid, gid));
    let given = owned.and_then(|owned| match owned {
        true => Ok(()),
        false => chown(&link.volume, Some(uid), Some(gid)),
    });
    given.map_err(|error| {
        format!(
            "Failed to change the ownership of the persistent volume at '{}' with uid {uid} and gid {gid}: \
             {error}",
            link.volume.display()
        )
    })
}

fn make(sandbox: &Path, link: &VolumeLink) -> Result<(), String> {
    let path = sandbox.join(&link.name);
    let error = match symlink(&link.volume, &path) {
        Ok(()) => return Ok(()),
        Err(error) => error,
    };
    if error.kind() != io::ErrorKind::AlreadyExists {
        return Err(format!(
            "Failed to symlink persistent volume from '{}' to '{}': {error}",
            link.volume.display(),
            path.display()
        ));
    }
    match fs::read_link(&path) {
        // Made before a restart, perhaps by an agent of Mesos that called the work directory otherwise.
        Ok(_) if leads_to(&path, &link.volume) => Ok(()),
        // The work directory was moved.
        Ok(_) if !path.exists() => replace(&path, &link.volume),
        Ok(target) => Err(format!(
            "The existing symlink '{}' points to '{}' and the new target is '{}'",
            path.display(),
            target.display(),
            link.volume.display()
        )),
        Err(_) => Err(format!(
            "'{}' is in the way of the persistent volume at '{}'",
            path.display(),
            link.volume.display()
        )),
    }
}

fn leads_to(link: &Path, volume: &Path) -> bool {
    let same = || fs::canonicalize(link).ok() == fs::canonicalize(volume).ok();
    fs::read_link(link).is_ok_and(|target| target == volume || link.exists() && same())
}

fn replace(link: &Path, volume: &Path) -> Result<(), String> {
    let replaced = fs::remove_file(link).and_then(|()| symlink(volume, link));
    replaced.map_err(|error| {
        format!(
            "Failed to replace the symlink '{}' that leads nowhere: {error}",
            link.display()
        )
    })
}

/// A disk that `--resources` names is not usable.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// The root of a PATH disk cannot be made.
    #[error("Failed to create DiskInfo path directory '{}'", path.display())]
    Path {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The root of a MOUNT disk is not there.
    #[error("Failed to determine `realpath` for DiskInfo mount with path '{}'", path.display())]
    Missing {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The table of mounts cannot be read.
    #[error("Failed to open mount table to verify mounts")]
    Table(#[source] io::Error),
    /// Nothing is mounted there.
    #[error("Failed to find mount '{}' in /proc/mounts", .0.display())]
    NotMounted(PathBuf),
}

/// Makes the roots of PATH disks and sees to it that MOUNT disks are mounted.
pub(super) fn check_disks(work_dir: &Path, disks: &[DiskRoot]) -> Result<(), DiskError> {
    let mut mounts = None;
    for disk in disks {
        match disk {
            DiskRoot::Path(root) => {
                let path = work_dir.join(root);
                fs::create_dir_all(&path).map_err(|source| DiskError::Path { path, source })?;
            }
            DiskRoot::Mount(root) => {
                let path = work_dir.join(root);
                let real = fs::canonicalize(&path)
                    .map_err(|source| DiskError::Missing { path, source })?;
                if mounts.is_none() {
                    mounts = Some(mount_points().map_err(DiskError::Table)?);
                }
                if !mounts.iter().flatten().any(|mounted| *mounted == real) {
                    return Err(DiskError::NotMounted(real));
                }
            }
        }
    }
    Ok(())
}

fn mount_points() -> io::Result<Vec<PathBuf>> {
    let table = fs::read_to_string("/proc/mounts")?;
    let points = table.lines().filter_map(|line| line.split(' ').nth(1));
    Ok(points.map(|point| unescaped(point).into()).collect())
}

/// Blanks and the like stand in octal (`proc(5)`).
fn unescaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        out.push_str(before);
        let code = after.get(..3).and_then(|d| u8::from_str_radix(d, 8).ok());
        match code {
            Some(code) => {
                out.push(char::from(code));
                rest = &after[3..];
            }
            None => {
                out.push('\\');
                rest = after;
            }
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use tepui_model::container::ContainerId;

    fn links(dir: &Path, made: &[&str], gone: &[&str]) -> VolumeLinks {
        let link = |name: &&str| VolumeLink {
            name: (*name).to_owned(),
            volume: dir.join("volumes").join(name),
            read_only: false,
            give: true,
        };
        VolumeLinks {
            container: ContainerId::top("c"),
            sandbox: dir.join("sandbox"),
            latest: Some(dir.join("latest")),
            user: None,
            gone: gone.iter().map(link).collect(),
            made: made.iter().map(link).collect(),
        }
    }

    #[test]
    fn links_come_and_go_and_what_they_lead_to_stays() {
        let dir = tempfile::tempdir().expect("a directory");
        let dir = dir.path();
        for name in ["a", "b"] {
            fs::create_dir_all(dir.join("volumes").join(name)).expect("made");
        }
        for _ in 0..2 {
            assert_eq!(link(&links(dir, &["a"], &[])), Ok(()));
        }
        fs::write(dir.join("sandbox/a/file"), "x").expect("written");
        assert_eq!(link(&links(dir, &["b"], &["a"])), Ok(()));
        assert!(!dir.join("sandbox/a").exists() && dir.join("latest/b").exists());
        assert_eq!(
            fs::read(dir.join("volumes/a/file")).expect("it stays"),
            b"x"
        );

        // As the removal of old sandboxes does it.
        fs::write(dir.join("volumes/b/file"), "y").expect("written");
        fs::remove_dir_all(dir.join("sandbox")).expect("removed");
        assert_eq!(
            fs::read(dir.join("volumes/b/file")).expect("it stays"),
            b"y"
        );
    }

    #[test]
    fn what_is_in_the_way_of_a_link_is_an_error_and_stays() {
        let dir = tempfile::tempdir().expect("a directory");
        let dir = dir.path();
        fs::create_dir_all(dir.join("sandbox/a")).expect("made");
        fs::create_dir_all(dir.join("volumes/a")).expect("made");
        symlink("/etc", dir.join("sandbox/b")).expect("linked");
        for (name, text) in [("a", "is in the way"), ("b", "points to '/etc'")] {
            let error = link(&links(dir, &[name], &[])).expect_err("not empty");
            assert!(error.contains(text), "{error}");
            assert_eq!(link(&links(dir, &[], &[name])), Ok(()));
            assert!(dir.join("sandbox").join(name).exists());
        }
        let error = link(&links(dir, &["a", "c"], &[])).expect_err("still there");
        assert!(error.starts_with('\''), "{error}");
    }

    #[test]
    fn links_from_before_a_move_lead_to_the_volume_again() {
        let dir = tempfile::tempdir().expect("a directory");
        let dir = dir.path();
        fs::create_dir_all(dir.join("volumes/a")).expect("made");
        fs::create_dir_all(dir.join("volumes/b")).expect("made");
        fs::create_dir(dir.join("sandbox")).expect("made");
        symlink(dir, dir.join("alias")).expect("linked");
        symlink(dir.join("alias/volumes/a"), dir.join("sandbox/a")).expect("linked");
        symlink("/nowhere/volumes/b", dir.join("sandbox/b")).expect("linked");
        assert_eq!(link(&links(dir, &["a", "b"], &[])), Ok(()));
        let target = |name: &str| fs::read_link(dir.join("sandbox").join(name)).expect("a link");
        assert_eq!(target("a"), dir.join("alias/volumes/a"));
        assert_eq!(target("b"), dir.join("volumes/b"));
        assert_eq!(link(&links(dir, &[], &["a", "b"])), Ok(()));
        assert_eq!(
            fs::read_dir(dir.join("sandbox")).expect("readable").count(),
            0
        );
    }

    #[test]
    fn the_disks_of_the_resources_must_be_usable() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = |text: &str| DiskRoot::Path(text.into());
        let mount = |text: &str| DiskRoot::Mount(text.into());
        check_disks(dir.path(), &[path("disks/1"), mount("/"), mount("/proc")]).expect("usable");
        assert!(dir.path().join("disks/1").is_dir());
        fs::write(dir.path().join("file"), "").expect("written");
        for (disk, text) in [
            (path("file"), "Failed to create DiskInfo path directory"),
            (mount("nowhere"), "Failed to determine `realpath`"),
            (mount("disks/1"), "Failed to find mount"),
        ] {
            let error = check_disks(dir.path(), &[disk]).expect_err("unusable");
            assert!(error.to_string().starts_with(text), "{error}");
        }
        assert_eq!(unescaped("/a\\040b\\x\\134"), "/a b\\x\\");
    }
}
