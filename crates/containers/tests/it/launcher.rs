//! A blocking client of a real launcher, with deadlines instead of sleeps.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::{
    fs,
    os::fd::AsFd,
    path::PathBuf,
    time::{Duration, Instant},
};
use tepui_containers::{
    linux::{Fate, Found, Launcher, LauncherOptions, recover, start_launcher},
    message::{Frames, Report, Request, SignalScope},
    plan::{HostFacts, ProcessPlan, plan},
};
use tepui_model::container::{ContainerId, ExitStatus, LaunchSpec};
use tepui_protocol::v1;

const DEADLINE: Duration = Duration::from_secs(30);

pub(crate) struct Host {
    pub(crate) launcher: Option<Launcher>,
    frames: Frames,
    options: LauncherOptions,
    root: tempfile::TempDir,
}

impl Host {
    pub(crate) fn start() -> Self {
        Self::with(LauncherOptions::default())
    }

    /// Once as root usually runs, with control groups, and once as it must work without.
    pub(crate) fn both_ways(test: impl Fn(Host)) {
        for cgroups in [true, false] {
            test(Self::with(LauncherOptions {
                cgroups,
                ..Default::default()
            }));
        }
    }

    pub(crate) fn with(options: LauncherOptions) -> Self {
        let root = tempfile::tempdir().expect("a directory");
        Self {
            launcher: Some(start_launcher(options).expect("a launcher")),
            frames: Frames::default(),
            options,
            root,
        }
    }

    fn launcher(&self) -> &Launcher {
        self.launcher.as_ref().expect("still open")
    }

    pub(crate) fn pid(&self) -> u32 {
        self.launcher().pid
    }

    /// Where records are kept.
    pub(crate) fn state(&self) -> PathBuf {
        self.root.path().join("state")
    }

    /// Ends the launcher as a crash of everything would, and starts another.
    pub(crate) fn crash(&mut self) {
        self.kill_launcher();
        self.start_again();
    }

    pub(crate) fn kill_launcher(&mut self) {
        let launcher = self.launcher.take().expect("open");
        let pid = rustix::process::Pid::from_raw(launcher.pid as i32).expect("a pid");
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("killed");
        launcher.stop().expect("gone");
    }

    pub(crate) fn start_again(&mut self) {
        self.launcher = Some(start_launcher(self.options).expect("a launcher"));
        self.frames = Frames::default();
    }

    /// What there is, all that runs adopted.
    pub(crate) fn recover(&mut self) -> Vec<Found> {
        let found = recover(&self.state()).expect("readable");
        for one in found
            .iter()
            .filter(|f| matches!(f.fate, Fate::Running { .. }))
        {
            self.send(&one.adoption());
        }
        found
    }

    /// The only one there is.
    pub(crate) fn recover_one(&mut self) -> Found {
        let mut found = self.recover();
        assert_eq!(found.len(), 1, "{found:?}");
        found.remove(0)
    }

    pub(crate) fn sandbox(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    pub(crate) fn plan(&self, name: &str, command: v1::CommandInfo) -> ProcessPlan {
        self.plan_with(name, command, None)
    }

    /// Of one that outlives its launcher.
    pub(crate) fn kept(&self, name: &str, text: &str) -> ProcessPlan {
        let command = v1::CommandInfo {
            value: Some(text.into()),
            ..Default::default()
        };
        self.plan_with(name, command, Some(format!("task {name}").into()))
    }

    fn plan_with(
        &self,
        name: &str,
        command: v1::CommandInfo,
        outlives: Option<std::sync::Arc<str>>,
    ) -> ProcessPlan {
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
            outlives,
        };
        let host = HostFacts {
            state: Some(self.state()),
            ..Default::default()
        };
        plan(&spec, &host).expect("a plan")
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
    /// Every test also shows that nothing is left of what need not outlive the follower, and ends
    /// the rest.
    fn drop(&mut self) {
        if std::thread::panicking() {
            drop(self.launcher.take());
            // Their inits end with them.
            return processes_in(self.root.path())
                .iter()
                .for_each(|(pid, _)| kill(*pid));
        }
        if let Some(launcher) = self.launcher.take() {
            let mut end = Vec::new();
            Request::End.encode(&mut end);
            // A test may have killed it.
            let _ = rustix::io::write(&launcher.socket, &end);
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

pub(crate) fn kill(pid: u32) {
    if let Some(pid) = rustix::process::Pid::from_raw(pid as i32) {
        // It may have ended.
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
}

/// Processes whose working directory lies below `root`.
fn processes_in(root: &std::path::Path) -> Vec<(u32, String)> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter(|e| fs::read_link(e.path().join("cwd")).is_ok_and(|cwd| cwd.starts_with(root)))
        .filter_map(|e| {
            let command = fs::read_to_string(e.path().join("cmdline")).unwrap_or_default();
            Some((e.file_name().to_str()?.parse().ok()?, command))
        })
        .collect()
}
