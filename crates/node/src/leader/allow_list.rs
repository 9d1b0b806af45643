//! `--whitelist`: a file with the names of the hosts whose followers are offered, one in a line, read anew every
//! five seconds (`src/watcher/whitelist_watcher.cpp`). While it cannot be read what it said last holds; an empty file allows
//! nobody.

use std::{collections::BTreeSet, path::PathBuf, time::Duration};
use tokio::sync::mpsc;

/// How often it is read.
const INTERVAL: Duration = Duration::from_secs(5);

/// Sends what the file says, at first and whenever that changes, for as long as anybody listens.
pub(super) fn watch(path: Option<PathBuf>) -> mpsc::Receiver<BTreeSet<String>> {
    let (tx, rx) = mpsc::channel(1);
    if let Some(path) = path {
        tokio::spawn(follow(path, INTERVAL, tx));
    }
    rx
}

async fn follow(path: PathBuf, interval: Duration, hosts: mpsc::Sender<BTreeSet<String>>) {
    let mut last = None;
    loop {
        match tokio::fs::read_to_string(&path).await {
            Ok(text) => {
                let read = parse(&text);
                if last.as_ref() != Some(&read) {
                    tracing::info!(hosts = read.len(), "read the allow-list");
                    if hosts.send(read.clone()).await.is_err() {
                        return;
                    }
                    last = Some(read);
                }
            }
            Err(error) => {
                tracing::error!(path = %path.display(), %error, "cannot read the allow-list");
            }
        }
        tokio::select! {
            () = tokio::time::sleep(interval) => {}
            () = hosts.closed() => return,
        }
    }
}

fn parse(text: &str) -> BTreeSet<String> {
    let lines = text.lines().map(str::trim);
    lines
        .filter(|line| !line.is_empty())
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_change_of_the_file_is_told_and_its_absence_changes_nothing() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("hosts");
        std::fs::write(&path, "b\n\n a \n").expect("written");
        let (tx, mut rx) = mpsc::channel(1);
        let watcher = tokio::spawn(follow(path.clone(), Duration::from_millis(1), tx));
        let set = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect());
        assert_eq!(rx.recv().await, set(&["a", "b"]));
        std::fs::remove_file(&path).expect("removed");
        std::fs::write(&path, "c").expect("written");
        // A write is not one step: what was read in between is nobody.
        let mut told = rx.recv().await;
        if told == set(&[]) {
            told = rx.recv().await;
        }
        assert_eq!(told, set(&["c"]));
        drop(rx);
        watcher.await.expect("it ends when nobody listens");
    }
}
