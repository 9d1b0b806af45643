//! The launcher's loop: requests from the follower in, inits forked, reports out.
//!
//! One thread, no waiting but in `epoll`. It ends when the follower's socket does and all
//! containers are gone.

mod adoption;

use super::{
    LauncherOptions,
    adopted::Adopted,
    cgroup::{Cgroup, Cgroups, kill_group},
    children::Pids,
    control::{Order, Received, Word},
    exec::{Defaults, Prepared, Step},
    init,
    kept::{self, Kept},
    sys,
};
use crate::{
    message::{Frames, Malformed, Report, Request},
    plan::{Keep, OnSupervisorDeath, ProcessPlan},
    record::Facts,
};
use rustix::{
    buffer::spare_capacity,
    event::epoll,
    fs::{CWD, Mode, OFlags, openat},
    net::{AddressFamily, SendFlags, SocketFlags, SocketType, socketpair},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    os::fd::{AsFd, AsRawFd, OwnedFd},
    path::PathBuf,
};
use tepui_model::container::{ContainerId, ExitStatus, LaunchStep};

/// What an event is about; from 2 on it is an init's process id (1 is the machine's own).
const FOLLOWER: u64 = 0;
const CHILD_ENDED: u64 = 1;
/// Added to the process id of an adopted init: the event is its end.
const INIT_ENDED: u64 = 1 << 32;
/// How often to look again for orphans that are not gone yet.
const SWEEP_MS: i64 = 20;

struct Launcher {
    epoll: OwnedFd,
    follower: OwnedFd,
    child_ended: OwnedFd,
    incoming: Frames,
    outgoing: Vec<u8>,
    /// By the init's process id.
    containers: BTreeMap<i32, Container>,
    inits: BTreeMap<ContainerId, i32>,
    /// Containers whose init was killed, until their orphans are gone.
    lost: Vec<(Container, Report)>,
    cgroups: Option<Cgroups>,
    defaults: Defaults,
    heap_start: usize,
    boot: String,
    /// Of the state directories in use, by the lock's path.
    locks: BTreeMap<PathBuf, OwnedFd>,
    closing: bool,
    pidfds: bool,
    /// Inits that go on without us: children of which nothing is wanted any more.
    released: BTreeSet<i32>,
}

struct Container {
    id: ContainerId,
    control: Option<OwnedFd>,
    cgroup: Option<Cgroup>,
    /// For the words of a failure; dropped once the command runs.
    plan: Option<Box<ProcessPlan>>,
    failure: Option<(Step, sys::Errno)>,
    status: Option<ExitStatus>,
    /// It outlives this launcher.
    kept: bool,
    /// It has outlived another.
    adopted: Option<Box<Adopted>>,
}

/// The launcher's life, in the process just forked for it.
pub(super) fn run(follower: OwnedFd, options: LauncherOptions) -> ! {
    let _bomb = sys::ExitOnUnwind;
    sys::keep_allocations_in_one_heap();
    leave_follower(&follower);
    let status = match Launcher::new(follower, options) {
        Ok(mut launcher) => launcher.serve().map_or(1, |()| 0),
        Err(_) => 1,
    };
    sys::exit_now(status)
}

/// Lets go of the follower's descriptors, session and signals. Signals are all held back: a stop
/// of the follower's unit signals the launcher too, which still has containers to end.
fn leave_follower(follower: &OwnedFd) {
    let keep = follower.as_raw_fd();
    sys::close_range(3, keep - 1);
    sys::close_range(keep + 1, i32::MAX);
    if let Ok(null) = openat(
        CWD,
        c"/dev/null",
        OFlags::RDWR | OFlags::CLOEXEC,
        Mode::empty(),
    ) {
        let _ = rustix::stdio::dup2_stdin(&null);
        let _ = rustix::stdio::dup2_stdout(&null);
        let _ = rustix::stdio::dup2_stderr(&null);
    }
    sys::block_signals(true);
    sys::default_signal_actions();
    let _ = rustix::process::setsid();
    let _ = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
    let _ = rustix::thread::set_name(c"tepui-launcher");
}

impl Launcher {
    fn new(follower: OwnedFd, options: LauncherOptions) -> Result<Self, sys::Errno> {
        let raw = |errno: rustix::io::Errno| errno.raw_os_error();
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(raw)?;
        let child_ended = sys::child_end_descriptor()?;
        let readable = epoll::EventFlags::IN;
        epoll::add(
            &epoll,
            &follower,
            epoll::EventData::new_u64(FOLLOWER),
            readable,
        )
        .map_err(raw)?;
        epoll::add(
            &epoll,
            &child_ended,
            epoll::EventData::new_u64(CHILD_ENDED),
            readable,
        )
        .map_err(raw)?;
        let nofile = libc::RLIMIT_NOFILE as u8;
        let descriptors = sys::rlimit(nofile);
        if let Some((_, hard)) = descriptors {
            // Every container takes up to two. Failing to raise it only limits how many.
            let _ = sys::set_rlimit(nofile, hard, hard);
        }
        Ok(Self {
            epoll,
            follower,
            child_ended,
            incoming: Frames::default(),
            outgoing: Vec::new(),
            containers: BTreeMap::new(),
            inits: BTreeMap::new(),
            lost: Vec::new(),
            cgroups: if options.cgroups {
                Cgroups::probe()
            } else {
                None
            },
            defaults: Defaults {
                descriptors,
                reset_oom_score: oom_score_is_lowered(),
            },
            heap_start: heap_start(),
            boot: kept::boot_id(),
            locks: BTreeMap::new(),
            closing: false,
            pidfds: options.pidfds,
            released: BTreeSet::new(),
        })
    }

    fn serve(&mut self) -> Result<(), sys::Errno> {
        let mut events = Vec::with_capacity(64);
        while !(self.closing && self.containers.is_empty() && self.lost.is_empty()) {
            let timeout = (!self.lost.is_empty()).then_some(rustix::event::Timespec {
                tv_sec: 0,
                tv_nsec: (SWEEP_MS * 1_000_000) as _,
            });
            events.clear();
            match epoll::wait(&self.epoll, spare_capacity(&mut events), timeout.as_ref()) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(errno.raw_os_error()),
            }
            for event in &events {
                match event.data.u64() {
                    FOLLOWER => self.listen(),
                    CHILD_ENDED => self.forget_signals(),
                    ended if ended & INIT_ENDED != 0 => {
                        self.adopted_ended((ended & !INIT_ENDED) as i32)
                    }
                    init => {
                        self.hear(init as i32);
                        self.miss(init as i32);
                    }
                }
            }
            self.reap();
            self.sweep();
            self.speak();
        }
        if let Some(cgroups) = self.cgroups.take() {
            cgroups.remove_all();
        }
        Ok(())
    }

    /// Reads and carries out what the follower asks. A follower that is gone or talks nonsense
    /// ends everything but what outlives it.
    fn listen(&mut self) {
        let mut buffer = [0; 16 * 1024];
        loop {
            match rustix::io::read(&self.follower, &mut buffer) {
                Ok(0) => return self.close(),
                Ok(length) => {
                    self.incoming.push(&buffer[..length]);
                    if self.carry_out_all().is_err() {
                        return self.close();
                    }
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => return self.incoming.shrink(),
                Err(_) => return self.close(),
            }
        }
    }

    fn carry_out_all(&mut self) -> Result<(), Malformed> {
        while let Some(frame) = self.incoming.next()? {
            let request = Request::decode(frame)?;
            self.carry_out(request);
        }
        Ok(())
    }

    fn carry_out(&mut self, request: Request) {
        match request {
            Request::Launch(plan) => {
                let id = plan.container.clone();
                if let Err((step, message)) = self.launch(plan) {
                    self.report(&Report::Failed {
                        container: id,
                        step,
                        message,
                    });
                }
            }
            Request::Signal {
                container,
                signal,
                scope,
            } => {
                let scope = scope.number();
                self.order(|id| *id == container, Order::Signal { signal, scope });
            }
            Request::Destroy { container } => {
                self.order(|id| is_within(id, &container), Order::Destroy)
            }
            Request::Adopt {
                container,
                directory,
            } => self.adopt(container, directory),
            Request::End => {
                self.stop_listening();
                self.order(|_| true, Order::Destroy);
            }
        }
    }

    fn launch(&mut self, plan: Box<ProcessPlan>) -> Result<(), (LaunchStep, String)> {
        let refuse = |message: &str| Err((LaunchStep::Start, message.to_owned()));
        if self.closing {
            return refuse("The agent is shutting down");
        }
        if self.inits.contains_key(&plan.container) {
            return refuse("The container already exists");
        }
        let failed = |step: Step, errno| (step.launch_step(), step.describe(Some(&plan), errno));
        let kept = match &plan.on_supervisor_death {
            OnSupervisorDeath::Kill => None,
            OnSupervisorDeath::KeepRunning(keep) => {
                let kept = self.keep(keep).map_err(|text| (LaunchStep::Start, text))?;
                Some((keep, kept))
            }
        };
        let cgroup = self.cgroups.as_mut().and_then(|cgroups| match &kept {
            None => cgroups.create(),
            Some(_) => cgroups.create_kept(),
        });
        let facts = kept.as_ref().map(|(keep, _)| {
            let group = cgroup.as_ref().and_then(Cgroup::path);
            Facts::new(keep, &self.boot, group, &plan.directory).lines()
        });
        let prepared = Prepared::new(&plan, self.defaults, facts.as_deref().unwrap_or(&[]));
        let prepared = match prepared {
            Ok(prepared) => prepared,
            Err(errno) => {
                self.remove_cgroup(cgroup.as_ref());
                return Err(failed(Step::Prepare, errno));
            }
        };
        let kept = kept.map(|(_, kept)| kept);
        let pair = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        );
        let (ours, theirs) = match pair {
            Ok(pair) => pair,
            Err(errno) => {
                self.remove_cgroup(cgroup.as_ref());
                return Err(failed(Step::Prepare, errno.raw_os_error()));
            }
        };
        let keeps = kept.is_some();
        sys::hide_heap_from_children(self.heap_start);
        let pid = match sys::fork_plain(None) {
            // The heap is gone here: `cgroup` and the rest are used only by what lies on the stack.
            Ok(0) => init::run(theirs, cgroup.as_ref().map(AsFd::as_fd), prepared, kept),
            Ok(pid) => pid,
            Err(errno) => {
                self.remove_cgroup(cgroup.as_ref());
                return Err(failed(Step::Fork, errno));
            }
        };
        let data = epoll::EventData::new_u64(pid as u64);
        let watched = epoll::add(&self.epoll, &ours, data, epoll::EventFlags::IN).is_ok();
        let id = plan.container.clone();
        // An adopted one of that number has ended, which is not heard yet.
        self.adopted_ended(pid);
        self.inits.insert(id.clone(), pid);
        // Unheard it must not run: without its socket it ends.
        let control = watched.then_some(ours);
        if keeps && !watched {
            let _ = sys::kill(pid, libc::SIGKILL);
        }
        self.containers.insert(
            pid,
            Container {
                id,
                control,
                cgroup,
                plan: Some(plan),
                failure: None,
                status: None,
                kept: keeps,
                adopted: None,
            },
        );
        Ok(())
    }

    /// Makes room for a record. The state directory is locked from now on.
    fn keep(&mut self, keep: &Keep) -> Result<Kept, String> {
        let told = |error: std::io::Error| {
            let text = error.raw_os_error().map(sys::describe);
            let text = text.unwrap_or_else(|| error.to_string());
            format!("Failed to keep '{}': {text}", keep.directory.display())
        };
        if !self.locks.contains_key(&keep.lock) {
            let lock = kept::lock(&keep.lock).map_err(told)?.ok_or_else(|| {
                format!(
                    "Failed to lock '{}': another agent has",
                    keep.lock.display()
                )
            })?;
            self.locks.insert(keep.lock.clone(), lock);
        }
        let lock = self.locks.get(&keep.lock).ok_or_else(String::new)?;
        Kept::new(keep, lock.as_fd()).map_err(told)
    }

    /// Sends an order to the inits of these containers. One that cannot take it any more is
    /// disconnected, which makes it end; one that would outlive that is killed.
    fn order(&mut self, which: impl Fn(&ContainerId) -> bool, order: Order) {
        let pids: Vec<i32> = self
            .containers
            .iter()
            .filter(|(_, container)| which(&container.id))
            .map(|(pid, _)| *pid)
            .collect();
        for pid in pids {
            self.connect(pid);
            let Some(container) = self.containers.get_mut(&pid) else {
                continue;
            };
            let sent = container
                .control
                .as_ref()
                .map(|control| order.send(control.as_fd()));
            if sent == Some(true) {
                continue;
            }
            container.control = None;
            match (&container.adopted, container.kept) {
                (Some(adopted), _) => adopted.obey(order),
                (None, true) => _ = sys::kill(pid, libc::SIGKILL),
                (None, false) => {}
            }
        }
    }

    /// The follower is gone. What outlives it goes on without us, too.
    fn close(&mut self) {
        if self.closing {
            return;
        }
        self.stop_listening();
        let (kept, others) = std::mem::take(&mut self.containers)
            .into_iter()
            .partition::<BTreeMap<_, _>, _>(|(_, container)| container.kept);
        self.containers = others;
        self.released = kept.into_keys().collect();
        self.order(|_| true, Order::Destroy);
    }

    fn stop_listening(&mut self) {
        if !self.closing {
            self.closing = true;
            let _ = epoll::delete(&self.epoll, &self.follower);
            self.outgoing = Vec::new();
        }
    }

    /// Takes in what an init says.
    fn hear(&mut self, pid: i32) {
        let Some(container) = self.containers.get_mut(&pid) else {
            return;
        };
        while let Some(control) = &container.control {
            match Word::receive(control.as_fd()) {
                Received::Message(Word::Launched { pid: command }) => {
                    container.plan = None;
                    let id = container.id.clone();
                    let launched = Report::Launched {
                        container: id,
                        pid: command as u32,
                        init: pid as u32,
                    };
                    if !self.closing {
                        launched.encode(&mut self.outgoing);
                    }
                }
                Received::Message(Word::Failed { step, errno }) => {
                    container.failure =
                        Some((Step::from_number(step).unwrap_or(Step::Execute), errno));
                }
                Received::Message(Word::Exited(status)) => container.status = Some(status),
                Received::Nothing => return,
                Received::End => container.control = None,
            }
        }
    }

    fn forget_signals(&self) {
        let mut signals = [0; 1024];
        while rustix::io::read(&self.child_ended, &mut signals).is_ok() {}
    }

    fn reap(&mut self) {
        while let Ok(Some(pid)) = sys::ended_child() {
            // Last words first: once reaped, the number may name another init.
            self.hear(pid);
            let _ = sys::wait_for(pid);
            self.released.remove(&pid);
            if let Some(container) = self.containers.remove(&pid) {
                self.finish(container);
            }
        }
    }

    /// An init has ended.
    fn finish(&mut self, container: Container) {
        let id = container.id.clone();
        let report = match (container.failure, &container.plan, container.status) {
            (Some((step, errno)), plan, _) => {
                let message = step.describe(plan.as_deref(), errno);
                Report::Failed {
                    container: id,
                    step: step.launch_step(),
                    message,
                }
            }
            (_, _, Some(status)) => Report::Exited {
                container: id,
                status: Some(status),
            },
            (_, Some(_), None) => {
                let message = "Failed to launch container: its init was killed".to_owned();
                return self.lost.push((
                    container,
                    Report::Failed {
                        container: id,
                        step: LaunchStep::Start,
                        message,
                    },
                ));
            }
            (_, None, None) => {
                return self.lost.push((
                    container,
                    Report::Exited {
                        container: id,
                        status: None,
                    },
                ));
            }
        };
        self.conclude(&container, &report);
    }

    fn conclude(&mut self, container: &Container, report: &Report) {
        self.remove_cgroup(container.cgroup.as_ref());
        self.inits.remove(&container.id);
        self.report(report);
    }

    /// After an init was killed its processes are ours: every child that is no init is an orphan.
    fn sweep(&mut self) {
        if self.lost.is_empty() {
            return;
        }
        self.lost
            .iter()
            .filter_map(|(c, _)| c.cgroup.as_ref())
            .for_each(|group| kill_group(group.as_fd()));
        // Orphans of those that were not born here went elsewhere.
        let (adopted, lost) = std::mem::take(&mut self.lost)
            .into_iter()
            .partition(|(container, _)| container.adopted.is_some());
        self.lost = lost;
        for (container, report) in adopted {
            if container.adopted.as_ref().is_some_and(|a| a.kill_orphans()) {
                self.lost.push((container, report));
            } else {
                self.conclude(&container, &report);
            }
        }
        if self.lost.iter().all(|(c, _)| c.adopted.is_some()) {
            return;
        }
        let Ok(children) = Pids::own_children() else {
            return;
        };
        let mut orphans = children
            .as_slice()
            .iter()
            .filter(|pid| !self.containers.contains_key(*pid) && !self.released.contains(*pid))
            .peekable();
        if orphans.peek().is_some() {
            return orphans.for_each(|pid| _ = sys::kill(*pid, libc::SIGKILL));
        }
        let (adopted, own) = std::mem::take(&mut self.lost)
            .into_iter()
            .partition(|(container, _)| container.adopted.is_some());
        self.lost = adopted;
        let own: Vec<(Container, Report)> = own;
        for (container, report) in own {
            self.conclude(&container, &report);
        }
    }

    fn remove_cgroup(&self, cgroup: Option<&Cgroup>) {
        match (&self.cgroups, cgroup) {
            (Some(cgroups), Some(cgroup)) => cgroups.remove(cgroup),
            (None, Some(cgroup)) => cgroup.remove_kept(),
            (_, None) => {}
        }
    }

    fn report(&mut self, report: &Report) {
        if !self.closing {
            report.encode(&mut self.outgoing);
        }
    }

    /// Writes what the socket takes; the rest waits until it takes more.
    fn speak(&mut self) {
        if self.outgoing.is_empty() {
            return;
        }
        let sent = rustix::net::send(
            &self.follower,
            &self.outgoing,
            SendFlags::NOSIGNAL | SendFlags::DONTWAIT,
        );
        match sent {
            Ok(length) => drop(self.outgoing.drain(..length)),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            // The end of the socket is seen when reading.
            Err(_) => self.outgoing.clear(),
        }
        let mut interest = epoll::EventFlags::IN;
        interest.set(epoll::EventFlags::OUT, !self.outgoing.is_empty());
        let _ = epoll::modify(
            &self.epoll,
            &self.follower,
            epoll::EventData::new_u64(FOLLOWER),
            interest,
        );
    }
}

/// Whether `id` is `root` or nested in it.
fn is_within(id: &ContainerId, root: &ContainerId) -> bool {
    std::iter::successors(Some(id), |id| id.parent.as_deref()).any(|ancestor| ancestor == root)
}

fn oom_score_is_lowered() -> bool {
    let score = std::fs::read_to_string("/proc/self/oom_score_adj").unwrap_or_default();
    score.starts_with('-')
}

/// `start_brk`, field 47 of `/proc/self/stat`; where it cannot be read nothing is hidden.
fn heap_start() -> usize {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default();
    let start = fields
        .split_ascii_whitespace()
        .nth(47 - 3)
        .and_then(|field| field.parse().ok());
    start
        .filter(|start| *start != 0)
        .unwrap_or(usize::MAX - 8192)
}
