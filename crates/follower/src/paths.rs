//! Where sandboxes lie. The layout is the reference's (`src/slave/paths.cpp`), so that tools that
//! look into a work dir find what they know.

use std::path::{Path, PathBuf};
use tepui_model::{ExecutorId, FollowerId, FrameworkId, resources::Resource};
use tepui_protocol::v1::resource::disk_info::source;

/// `<work_dir>/slaves/<follower>`.
pub fn follower(work_dir: &Path, follower: &FollowerId) -> PathBuf {
    work_dir.join("slaves").join(follower.as_str())
}

/// `…/frameworks/<framework>`.
pub fn framework(work_dir: &Path, id: &FollowerId, framework: &FrameworkId) -> PathBuf {
    follower(work_dir, id)
        .join("frameworks")
        .join(framework.as_str())
}

/// `…/executors/<executor>`.
pub fn executor(
    work_dir: &Path,
    id: &FollowerId,
    framework_id: &FrameworkId,
    executor: &ExecutorId,
) -> PathBuf {
    framework(work_dir, id, framework_id)
        .join("executors")
        .join(executor.as_str())
}

/// `…/runs/<container>`: the sandbox.
pub fn run(
    work_dir: &Path,
    id: &FollowerId,
    framework: &FrameworkId,
    executor_id: &ExecutorId,
    run: &str,
) -> PathBuf {
    executor(work_dir, id, framework, executor_id)
        .join("runs")
        .join(run)
}

/// `…/runs/latest`: symlink to the newest sandbox.
pub fn latest_run(
    work_dir: &Path,
    id: &FollowerId,
    framework: &FrameworkId,
    executor_id: &ExecutorId,
) -> PathBuf {
    run(work_dir, id, framework, executor_id, "latest")
}

/// Name under which `/files/*` knows the newest sandbox of an executor on every follower.
pub fn virtual_latest_run(framework: &FrameworkId, executor: &ExecutorId) -> String {
    format!("/frameworks/{framework}/executors/{executor}/runs/latest")
}

/// Where a persistent volume lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumePlace {
    /// Its directory.
    pub path: PathBuf,
    /// The directory is a mount point: it outlives its volume.
    pub keeps_root: bool,
}

/// `…/volumes/roles/<role>/<persistence id>` below the work dir or the root of a PATH disk; the root
/// itself of a MOUNT disk. `None` for what has no directory, or would have one elsewhere.
pub fn volume(work_dir: &Path, volume: &Resource) -> Option<VolumePlace> {
    let disk = volume.disk()?;
    let id = &disk.persistence.as_ref()?.id;
    let role = volume.reservation_role()?;
    if !usable(id) || tepui_model::roles::validate(role).is_err() {
        return None;
    }
    // A role is one component: roles have no spaces of their own.
    let below = |root: PathBuf| VolumePlace {
        path: root
            .join("volumes")
            .join("roles")
            .join(role.replace('/', " "))
            .join(id),
        keeps_root: false,
    };
    let Some(source) = &disk.source else {
        return Some(below(work_dir.to_owned()));
    };
    // The mount points of storage providers are theirs to find.
    if source.id.is_some() {
        return None;
    }
    match source.r#type() {
        source::Type::Path => Some(below(work_dir.join(source.path.as_ref()?.root.as_ref()?))),
        source::Type::Mount => Some(VolumePlace {
            path: work_dir.join(source.mount.as_ref()?.root.as_ref()?),
            keeps_root: true,
        }),
        source::Type::Block | source::Type::Raw | source::Type::Unknown => None,
    }
}

/// Whether an id can be one component of a path. The leader checks ids too; nothing that arrives
/// here may lead out of the work dir all the same.
pub fn usable(id: &str) -> bool {
    !id.is_empty() && id != "." && id != ".." && id.len() <= 255 && !id.contains(['/', '\0'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sandbox_lies_where_the_reference_puts_it() {
        let path = run(
            Path::new("/w"),
            &"L-S0".into(),
            &"L-0000".into(),
            &"hello".into(),
            "f2bb",
        );
        assert_eq!(
            path,
            Path::new("/w/slaves/L-S0/frameworks/L-0000/executors/hello/runs/f2bb")
        );
    }

    #[test]
    fn ids_that_lead_elsewhere_are_unusable() {
        for bad in ["", ".", "..", "a/b", "a\0b", &"x".repeat(256)] {
            assert!(!usable(bad), "{bad:?}");
        }
        assert!(usable("a.b-c_d e"));
    }
}
