//! A blocking client of a real launcher, with deadlines instead of sleeps.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::{
    fs,
    os::fd::AsFd,
    path::PathBuf,
    time::{Duration, Instant},
};
use tepui_containers::{
    linux::{Launcher, LauncherOptions, start_launcher},
    message::{Frames, Report, Request, SignalScope},
    plan::{HostFacts, ProcessPlan, plan},
};
use tepui_model::container::{ContainerId, ExitStatus, LaunchSpec};
use tepui_protocol::v1;

const DEADLINE: Duration = Duration::from_secs(30);

pub(crate) struct Host {
    pub(crate) launcher: Option<Launcher>,
    frames: Frames,
    root: tempfile::TempDir,
}

impl Host {
    pub(crate) fn start() -> Self {
        Self::with(LauncherOptions::default())
    }

    /// Once as root usually runs, with control groups, and once as it must work without.
    pub(crate) fn both_ways(test: impl Fn(Host)) {
        for cgroups in [true, false] {
            test(Self::with(LauncherOptions { cgroups }));
        }
    }

    fn with(options: LauncherOptions) -> Self {
        let root = tempfile::tempdir().expect("a directory");
        Self {
            launcher: Some(start_launcher(options).expect("a launcher")),
            frames: Frames::default(),
            root,
        }
    }

    fn launcher(&self) -> &Launcher {
        self.launcher.as_ref().expect("still open")
    }

    pub(crate) fn pid(&self) -> u32 {
        self.launcher().pid
    }

    pub(crate) fn sandbox(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    pub(crate) fn plan(&self, name: &str, command: v1::CommandInfo) -> ProcessPlan {
        fs::create_dir_all(self.sandbox(name)).expect("a sandbox");
        let spec = LaunchSpec {
            container: ContainerId::top(name),
            sandbox: self.sandbox(name),
            latest: None,
            user: None,
            command,
            environment: vec![],
            uris: vec![],
            container_info: None,
            resources: [].into(),
            outlives: None,
        };
        plan(&spec, &HostFacts::default()).expect("a plan")
    }

    pub(crate) fn shell(&self, name: &str, text: &str) -> ProcessPlan {
        self.plan(
            name,
            v1::CommandInfo {
                value: Some(text.into()),
                ..Default::default()
            },
        )
    }

    pub(crate) fn launch(&self, plan: ProcessPlan) {
        self.send(&Request::Launch(Box::new(plan)));
    }

    /// Launches and waits until it runs: its pid and its init's.
    pub(crate) fn run(&mut self, plan: ProcessPlan) -> (u32, u32) {
        self.launch(plan);
        match self.receive() {
            Report::Launched { pid, init, .. } => (pid, init),
            other => panic!("not launched: {other:?}"),
        }
    }

    pub(crate) fn run_to_end(&mut self, plan: ProcessPlan) -> ExitStatus {
        self.run(plan);
        self.exited().expect("a status")
    }

    pub(crate) fn exited(&mut self) -> Option<ExitStatus> {
        match self.receive() {
            Report::Exited { status, .. } => status,
            other => panic!("not exited: {other:?}"),
        }
    }

    pub(crate) fn destroy(&self, name: &str) {
        self.send(&Request::Destroy {
            container: ContainerId::top(name),
        });
    }

    pub(crate) fn signal(&self, name: &str, signal: i32, scope: SignalScope) {
        self.send(&Request::Signal {
            container: ContainerId::top(name),
            signal,
            scope,
        });
    }

    pub(crate) fn send(&self, request: &Request) {
        let mut bytes = Vec::new();
        request.encode(&mut bytes);
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            match rustix::io::write(&self.launcher().socket, rest) {
                Ok(length) => rest = &rest[length..],
                Err(rustix::io::Errno::AGAIN) => self.wait(PollFlags::OUT),
                Err(errno) => panic!("cannot write: {errno}"),
            }
        }
    }

    pub(crate) fn receive(&mut self) -> Report {
        self.try_receive().expect("the launcher is there")
    }

    /// `None` when the launcher is gone.
    pub(crate) fn try_receive(&mut self) -> Option<Report> {
        loop {
            if let Some(frame) = self.frames.next().expect("well-formed") {
                return Some(Report::decode(frame).expect("well-formed"));
            }
            self.wait(PollFlags::IN);
            let mut buffer = [0; 4096];
            match rustix::io::read(&self.launcher().socket, &mut buffer) {
                Ok(0) | Err(_) => return None,
                Ok(length) => self.frames.push(&buffer[..length]),
            }
        }
    }

    fn wait(&self, events: PollFlags) {
        let mut polled = [PollFd::from_borrowed_fd(
            self.launcher().socket.as_fd(),
            events,
        )];
        let timeout = Timespec {
            tv_sec: DEADLINE.as_secs() as i64,
            tv_nsec: 0,
        };
        assert_ne!(
            poll(&mut polled, Some(&timeout)),
            Ok(0),
            "the launcher is silent"
        );
    }

    pub(crate) fn output(&self, name: &str) -> String {
        fs::read_to_string(self.sandbox(name).join("stdout")).unwrap_or_default()
    }

    /// Waits until the command has written this many lines, then returns them as pids.
    pub(crate) fn pids(&self, name: &str, count: usize) -> Vec<u32> {
        until("the command writes its pids", || {
            let text = self.output(name);
            let pids = text
                .lines()
                .map(|l| l.trim().parse().expect("a pid"))
                .collect::<Vec<_>>();
            (text.ends_with('\n') && pids.len() == count).then_some(pids)
        })
    }
}

impl Drop for Host {
    /// Every test also shows that nothing outlives the follower.
    fn drop(&mut self) {
        if let Some(launcher) = self.launcher.take()
            && !std::thread::panicking()
        {
            launcher.stop().expect("the launcher ends");
            let left = processes_in(self.root.path());
            assert!(left.is_empty(), "left behind: {left:?}");
        }
    }
}

/// Asks again until there is an answer.
pub(crate) fn until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(start.elapsed() < DEADLINE, "waited in vain until {what}");
        std::thread::yield_now();
    }
}

/// Whether a process exists and is not just waiting to be reaped.
pub(crate) fn alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')')
        .next()
        .is_some_and(|rest| !rest.is_empty() && !rest.trim_start().starts_with(['Z', 'X']))
}

pub(crate) fn until_dead(pids: &[u32]) {
    until("they are dead", || {
        (!pids.iter().any(|pid| alive(*pid))).then_some(())
    });
}

/// Processes whose working directory lies below `root`.
fn processes_in(root: &std::path::Path) -> Vec<String> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter(|e| fs::read_link(e.path().join("cwd")).is_ok_and(|cwd| cwd.starts_with(root)))
        .map(|e| {
            format!(
                "{:?}: {:?}",
                e.file_name(),
                fs::read_to_string(e.path().join("cmdline"))
            )
        })
        .collect()
}
