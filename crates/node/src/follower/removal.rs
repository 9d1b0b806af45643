//! Removes what nobody needs any more: sandboxes, and what was checkpointed of them.
//!
//! A follower may be killed in the middle of it, and the next one must not take the rest for a run that
//! goes on: of what was checkpointed, directories go before the files that say what they are, and that a
//! run has ended (`executor.sentinel`).

use std::{fs, io, path::Path};

/// Removes a directory, `meta` being where checkpoints lie. It is no error if it is not there.
pub(super) fn remove(path: &Path, meta: &Path) -> io::Result<()> {
    let removed = match path.starts_with(meta) {
        true => inner_first(path),
        // Tasks may change what lies in theirs meanwhile: this follows no links.
        false => fs::remove_dir_all(path),
    };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// Only we write there.
fn inner_first(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            inner_first(&entry.path())?;
        }
    }
    fs::remove_dir_all(directory)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn what_says_that_a_run_has_ended_goes_last() {
        let dir = tempfile::tempdir().expect("a directory");
        let run = dir.path().join("meta/executors/e/runs/c");
        let task = run.join("tasks/t");
        fs::create_dir_all(&task).expect("made");
        fs::write(run.join("executor.sentinel"), "").expect("written");
        fs::write(task.join("task.info"), "x").expect("written");
        symlink(&run, run.with_file_name("latest")).expect("linked");
        // What cannot be removed stands for a follower that is killed there.
        assert!(remove(&task.join("task.info"), dir.path()).is_err());
        assert!(run.join("executor.sentinel").exists());
        let executor = dir.path().join("meta/executors/e");
        remove(&executor, &dir.path().join("meta")).expect("removed");
        assert!(!executor.exists());
        remove(&executor, &dir.path().join("meta")).expect("gone already");
        remove(&executor, Path::new("/elsewhere")).expect("gone already");
    }
}
