//! One control group per container, where a version 2 hierarchy can be written.
//!
//! No controller is enabled: the groups only tell whose a process is, whatever it did to its
//! parents and sessions, and `cgroup.kill` (Linux 5.14) ends all of them at once.

use super::children::start_of;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, mkdirat, open, openat, unlinkat};
use std::{
    ffi::CStr,
    fs,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
};

const PREFIX: &str = "tepui-";
/// Holds the groups of containers that outlive their launcher, whoever that is.
const KEPT: &str = "tepui-kept";
const DIRECTORY: OFlags = OFlags::DIRECTORY
    .union(OFlags::RDONLY)
    .union(OFlags::CLOEXEC);

/// The group that holds a launcher's containers' groups.
#[derive(Debug)]
pub(super) struct Cgroups {
    path: PathBuf,
    directory: OwnedFd,
    /// Of groups that outlive this launcher: beside its own.
    kept: PathBuf,
    /// Names that no other launcher has used since the machine was started.
    unique: String,
    next: u64,
}

/// A container's group.
#[derive(Debug)]
pub(super) struct Cgroup {
    directory: OwnedFd,
    name: String,
    /// For those that outlive the launcher: where.
    kept: Option<PathBuf>,
}

impl Cgroups {
    /// `None` where there is no such hierarchy, it may not be written or its kernel is too old.
    pub(super) fn probe() -> Option<Self> {
        let own = own_group()?;
        sweep(&own);
        let path = own.join(format!("{PREFIX}{}", std::process::id()));
        fs::create_dir(&path).ok()?;
        if !path.join("cgroup.kill").exists() {
            let _ = fs::remove_dir(&path);
            return None;
        }
        let directory = open(&path, DIRECTORY, Mode::empty()).ok()?;
        let pid = std::process::id() as i32;
        Some(Self {
            path,
            directory,
            kept: own.join(KEPT),
            unique: format!("{pid}-{}", start_of(pid)?),
            next: 0,
        })
    }

    /// One that is found again by [`Cgroup::path`].
    pub(super) fn create_kept(&mut self) -> Option<Cgroup> {
        self.next += 1;
        let name = format!("{}-{}", self.unique, self.next);
        // It may be there already.
        let _ = fs::create_dir(&self.kept);
        let path = self.kept.join(&name);
        fs::create_dir(&path).ok()?;
        let directory = open(&path, DIRECTORY, Mode::empty()).ok()?;
        Some(Cgroup {
            directory,
            name,
            kept: Some(path),
        })
    }

    pub(super) fn create(&mut self) -> Option<Cgroup> {
        self.next += 1;
        let name = self.next.to_string();
        mkdirat(&self.directory, &name, Mode::from_raw_mode(0o755)).ok()?;
        let directory = openat(&self.directory, &name, DIRECTORY, Mode::empty()).ok()?;
        Some(Cgroup {
            directory,
            name,
            kept: None,
        })
    }

    pub(super) fn remove(&self, group: &Cgroup) {
        let _ = match &group.kept {
            None => unlinkat(&self.directory, &group.name, AtFlags::REMOVEDIR),
            Some(path) => unlinkat(CWD, path, AtFlags::REMOVEDIR),
        };
    }

    pub(super) fn remove_all(self) {
        remove_tree(&self.path);
        // Stays while there is a group in it.
        let _ = fs::remove_dir(&self.kept);
    }
}

impl Cgroup {
    /// Of one that outlives its launcher.
    pub(super) fn path(&self) -> Option<&Path> {
        self.kept.as_deref()
    }

    /// One that an earlier launcher created to outlive it. Other groups are not opened, whatever a
    /// record says.
    pub(super) fn reopen(path: &Path) -> Option<Self> {
        let parent = path.parent()?.file_name()?;
        if parent != KEPT || !path.join("cgroup.kill").exists() {
            return None;
        }
        let name = path.file_name()?.to_str()?.to_owned();
        let directory = open(path, DIRECTORY, Mode::empty()).ok()?;
        Some(Self {
            directory,
            name,
            kept: Some(path.to_owned()),
        })
    }

    /// Whether no process is in it.
    pub(super) fn is_empty(&self) -> bool {
        let procs = self.kept.as_deref().map(|path| path.join("cgroup.procs"));
        procs.is_none_or(|procs| fs::read(procs).is_ok_and(|text| text.is_empty()))
    }

    /// Removes one that outlived its launcher, if nothing is in it.
    pub(super) fn remove_kept(&self) {
        self.kept.iter().for_each(|path| drop(fs::remove_dir(path)));
    }
}

impl AsFd for Cgroup {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }
}

/// Kills every process of the group. Allocates nothing.
pub(super) fn kill_group(group: BorrowedFd<'_>) {
    const KILL: &CStr = c"cgroup.kill";
    if let Ok(file) = openat(group, KILL, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()) {
        let _ = rustix::io::write(&file, b"1");
    }
}

/// What a launcher that was killed left behind: the processes and the groups.
fn sweep(own: &Path) {
    for entry in fs::read_dir(own).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(|n| n.strip_prefix(PREFIX)) else {
            continue;
        };
        // Those that are kept belong to whoever has their records.
        if name == KEPT {
            sweep_kept(&entry.path());
            continue;
        }
        if !Path::new("/proc").join(pid).exists() {
            let _ = fs::write(entry.path().join("cgroup.kill"), "1");
            remove_tree(&entry.path());
        }
    }
}

/// Groups that a launcher which is gone made and nobody uses: their containers were ended in ways that
/// left nobody to remove them. Those with processes in them cannot be removed.
fn sweep_kept(kept: &Path) {
    for entry in fs::read_dir(kept).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let maker = name.to_str().and_then(|name| {
            let mut parts = name.split('-');
            let (pid, start) = (parts.next()?, parts.next()?);
            Some((pid.parse::<i32>().ok()?, start.parse::<u64>().ok()?))
        });
        if maker.is_some_and(|(pid, start)| start_of(pid) != Some(start)) {
            let _ = fs::remove_dir(entry.path());
        }
    }
}

/// Groups are directories whose files cannot be removed, so `remove_dir_all` does not apply.
fn remove_tree(path: &Path) {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        let _ = fs::remove_dir(entry.path());
    }
    let _ = fs::remove_dir(path);
}

/// Where this process's own group is mounted.
fn own_group() -> Option<PathBuf> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    group_path(&mounts, own)
}

/// Fields of a mount: id, parent, device, root, mount point, options, …, `-`, type, …
fn group_path(mounts: &str, own: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let (mount, kind) = line.split_once(" - ")?;
        if !kind.starts_with("cgroup2 ") {
            return None;
        }
        let mut fields = mount.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        let below = Path::new(own).strip_prefix(root).ok()?;
        Some(Path::new(point).join(below))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
26 24 0:24 / /sys/fs/cgroup ro - tmpfs tmpfs rw
27 26 0:25 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw
28 26 0:26 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu
";

    #[test]
    fn own_group_lies_below_the_version_2_mount() {
        let path = group_path(MOUNTS, "/system.slice/tepui.service");
        assert_eq!(
            path.as_deref(),
            Some(Path::new(
                "/sys/fs/cgroup/unified/system.slice/tepui.service"
            ))
        );
    }

    #[test]
    fn a_group_outside_what_is_mounted_is_not_used() {
        let mounts = MOUNTS.replace("0:25 / ", "0:25 /docker/1 ");
        assert_eq!(group_path(&mounts, "/system.slice"), None);
    }
}
