//! Containers that outlive the process which started them, as the shell of a follower sees them.
//! Real processes; every wait is for news or the end of something.

use crate::support::PATIENCE;
use rustix::process::{Pid, Signal, kill_process};
use std::{fs, path::Path};
use tepui_containers::linux::{LauncherOptions, start_launcher};
use tepui_model::container::{ContainerEvent, ContainerId, ExitStatus, LaunchSpec};
use tepui_node::{
    containers::{Containers, ContainersEnd, Fate, News},
    fetcher::{
        FetchOptions, Fetcher,
        http::{HttpClient, Trust},
    },
};
use tepui_protocol::v1;
use tokio::sync::mpsc;

/// What one process of a follower has.
struct Shell {
    containers: Containers,
    end: ContainersEnd,
    news: mpsc::UnboundedReceiver<News>,
    launcher: Pid,
}

impl Shell {
    fn start(root: &Path) -> Self {
        let launcher = start_launcher(LauncherOptions::default()).expect("a launcher");
        let pid = Pid::from_raw(launcher.pid as i32).expect("a pid");
        let fetcher = Fetcher::new(FetchOptions::default(), HttpClient::new(Trust::System));
        let (tell, news) = mpsc::unbounded_channel();
        let started = Containers::start(launcher, fetcher, Some(root.join("state")), move |news| {
            // The test may be over.
            let _ = tell.send(news);
        });
        let (containers, end) = started.expect("started");
        Self {
            containers,
            end,
            news,
            launcher: pid,
        }
    }

    /// An orderly end.
    async fn stop(self) {
        drop(self.containers);
        tokio::time::timeout(PATIENCE, self.end.wait())
            .await
            .expect("it ends");
    }

    /// Ends the launcher too, in no order at all.
    async fn crash(self) {
        kill_process(self.launcher, Signal::KILL).expect("killed");
        self.stop().await;
    }

    /// The next thing that happens to a container.
    async fn event(&mut self) -> (String, ContainerEvent) {
        loop {
            let news = tokio::time::timeout(PATIENCE, self.news.recv()).await;
            if let News::Container { container, event } = news.expect("in time").expect("open") {
                return (container.to_string(), event);
            }
        }
    }

    async fn launch(&mut self, root: &Path, id: &str, outlives: Option<&str>) -> u32 {
        self.containers.launch(Box::new(LaunchSpec {
            container: ContainerId::top(id),
            sandbox: root.join(id),
            latest: None,
            user: None,
            command: v1::CommandInfo {
                value: Some("exec sleep 1000".to_owned()),
                ..Default::default()
            },
            environment: vec![],
            uris: vec![],
            container_info: None,
            resources: [].into(),
            outlives: outlives.map(Into::into),
        }));
        match self.event().await {
            (_, ContainerEvent::Launched { pid }) => pid,
            other => panic!("not launched: {other:?}"),
        }
    }
}

fn alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit(") ").next().unwrap_or_default();
    !state.is_empty() && !state.starts_with(['Z', 'X'])
}

fn killed() -> ContainerEvent {
    ContainerEvent::Exited {
        status: Some(ExitStatus::Signal(9)),
    }
}

#[tokio::test]
async fn those_that_outlive_a_process_are_taken_back_and_the_others_end_with_it() {
    let root = tempfile::tempdir().expect("a directory");
    let mut first = Shell::start(root.path());
    let kept = first.launch(root.path(), "kept", Some("task")).await;
    let ends = first.launch(root.path(), "ends", None).await;
    first.stop().await;
    assert!(alive(kept));
    assert!(!alive(ends));

    let mut second = Shell::start(root.path());
    let found = second.containers.recover().await.expect("readable");
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].id, ContainerId::top("kept"));
    assert_eq!(found[0].name, "task");
    assert_eq!(found[0].fate, Fate::Running { pid: kept });
    let usage = second.containers.usage(&found[0].id).expect("it runs");
    assert_eq!(usage.processes, 1);
    second.containers.destroy(found[0].id.clone());
    assert_eq!(second.event().await, ("kept".to_owned(), killed()));
    second.containers.forget(found[0].id.clone());
    second.stop().await;

    let third = Shell::start(root.path());
    assert_eq!(third.containers.recover().await.expect("readable"), []);
    third.stop().await;
}

#[tokio::test]
async fn the_end_of_the_launcher_is_not_the_end_of_those_that_outlive_it() {
    let root = tempfile::tempdir().expect("a directory");
    let mut first = Shell::start(root.path());
    let kept = first.launch(root.path(), "kept", Some("task")).await;
    first.launch(root.path(), "ends", None).await;
    kill_process(first.launcher, Signal::KILL).expect("killed");
    // Only of the other is an end known.
    let unknown = ContainerEvent::Exited { status: None };
    assert_eq!(first.event().await, ("ends".to_owned(), unknown));
    assert_eq!(first.news.recv().await, Some(News::LauncherGone));
    first.stop().await;

    let second = Shell::start(root.path());
    let found = second.containers.recover().await.expect("readable");
    assert_eq!(found[0].fate, Fate::Running { pid: kept });
    second.containers.end_all_at_the_end();
    second.stop().await;
    assert!(!alive(kept));
}

#[tokio::test]
async fn what_nobody_wants_back_is_ended_in_silence() {
    let root = tempfile::tempdir().expect("a directory");
    let mut first = Shell::start(root.path());
    let unwanted = first.launch(root.path(), "unwanted", Some("a")).await;
    let wanted = first.launch(root.path(), "wanted", Some("b")).await;
    first.crash().await;

    let mut second = Shell::start(root.path());
    let found = second.containers.recover().await.expect("readable");
    assert_eq!(found.len(), 2);
    second.containers.discard(ContainerId::top("unwanted"));
    // The launcher carries out orders in their order, and the ends come in any: wait for both.
    while alive(unwanted) {
        tokio::task::yield_now().await;
    }
    second.containers.destroy(ContainerId::top("wanted"));
    assert_eq!(second.event().await, ("wanted".to_owned(), killed()));
    assert!(!alive(wanted));
    second.stop().await;

    let third = Shell::start(root.path());
    let found = third.containers.recover().await.expect("readable");
    let left: Vec<_> = found.iter().map(|f| f.id.to_string()).collect();
    assert_eq!(left, ["wanted"], "its end has not been taken over");
    third.stop().await;
}
