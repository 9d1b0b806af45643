//! Where sandboxes lie. The layout is the reference's (`src/slave/paths.cpp`), so that tools that
//! look into a work dir find what they know.

use std::path::{Path, PathBuf};
use tepui_model::{ExecutorId, FollowerId, FrameworkId};

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
