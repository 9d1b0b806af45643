//! Processes of a cluster as the kernel shows them: found by a mark in their environment, which everything they start
//! inherits, and killed by id.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::process::{Pid, Signal, kill_process};

/// The variable that carries a mark.
pub const MARK: &str = "TEPUI_TEST_MARK";

/// A mark no other test uses, for a task's environment.
pub fn new_mark() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!(
        "mark-{}-{}-",
        std::process::id(),
        NEXT.fetch_add(1, Ordering::Relaxed)
    )
}

/// The living processes that carry a mark in their environment.
pub fn marked(mark: &str) -> Vec<i32> {
    living(|process| {
        let entry = format!("{MARK}={mark}");
        fs::read(process.join("environ")).is_ok_and(|environment| {
            environment
                .split(|byte| *byte == 0)
                .any(|variable| variable == entry.as_bytes())
        })
    })
}

/// The living children of a process.
pub fn children(parent: u32) -> Vec<i32> {
    let parent = parent.to_string();
    living(|process| stat(process).get(1) == Some(&parent))
}

/// The parent of a process, while both live.
pub fn parent(id: i32) -> Option<i32> {
    stat(Path::new(&format!("/proc/{id}"))).get(1)?.parse().ok()
}

/// Whether it lives: the dead that wait for their parent do not.
pub fn lives(id: i32) -> bool {
    stat(Path::new(&format!("/proc/{id}")))
        .first()
        .is_some_and(|state| state != "Z" && state != "X")
}

/// `kill -9`.
pub fn kill(id: i32) {
    let pid = Pid::from_raw(id).expect("a process id is positive");
    kill_process(pid, Signal::KILL).unwrap_or_else(|error| panic!("kill -9 {id}: {error}"));
}

fn living(wanted: impl Fn(&Path) -> bool) -> Vec<i32> {
    let processes = fs::read_dir("/proc").expect("/proc can be listed");
    processes
        .flatten()
        .filter_map(|entry| {
            let id: i32 = entry.file_name().to_str()?.parse().ok()?;
            (wanted(&entry.path()) && lives(id)).then_some(id)
        })
        .collect()
}

/// State, parent and what follows them in `stat`; nothing for a process that is gone.
fn stat(process: &Path) -> Vec<String> {
    let text = fs::read_to_string(process.join("stat")).unwrap_or_default();
    let (_, rest) = text.rsplit_once(')').unwrap_or_default();
    rest.split_whitespace().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn marked_processes_are_found_while_they_live() {
        let mark = new_mark();
        assert!(marked(&mark).is_empty());
        let mut child = Command::new("sleep")
            .arg("600")
            .env(MARK, &mark)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let id = child.id() as i32;
        assert!(crate::wait::eventually(
            std::time::Duration::from_secs(10),
            || marked(&mark) == [id]
        ));
        assert_eq!(parent(id), Some(std::process::id() as i32));
        assert!(children(std::process::id()).contains(&id));
        kill(id);
        assert!(crate::wait::eventually(
            std::time::Duration::from_secs(10),
            || !lives(id)
        ));
        assert!(marked(&mark).is_empty());
        child.wait().unwrap();
    }
}
