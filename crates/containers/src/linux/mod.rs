//! Carrying plans out on Linux: the launcher, one init per container, and nothing left behind.
//!
//! ```text
//! follower ──stream socket── launcher ──socket pair── init ──fork, exec── command ── …
//! ```
//!
//! * The **launcher** is forked from the follower early, while that is small and has one thread:
//!   forking a big multi-threaded process for every container would be slow and would copy its
//!   memory. It starts inits and passes messages on.
//! * An **init** leads one container. It is the subreaper of everything its command forks, so no
//!   double fork and no new session gets a process out of its sight. It costs a few pages: it
//!   shares all memory with the launcher but for what it writes, and is kept from inheriting the
//!   launcher's heap.
//!
//! Who ends what, and how each death is noticed:
//!
//! | ends | noticed by | what happens |
//! |---|---|---|
//! | command | init: SIGCHLD | init kills what is left, reaps it, reports the status, ends |
//! | `Destroy` | init: message | the same |
//! | follower | launcher: end of the socket | every init is told to destroy, then the launcher ends |
//! | launcher (SIGKILL) | init: end of its socket | init kills everything and ends |
//! | init (SIGKILL) | launcher: SIGCHLD; command: parent-death signal | the orphans come to the launcher, a subreaper too, which kills every child that is no init |
//! | launcher and init together | command: parent-death signal | its children survive unless a control group is in use and the next launcher sweeps it |
//!
//! A container that [outlives](crate::plan::OnSupervisorDeath) its follower differs: its init does not
//! mind the end of the follower or the launcher, leaves a [record](crate::record), and listens for the
//! next launcher, to which it is what it was to the first ([`recover`], then
//! [`Request::Adopt`](crate::message::Request::Adopt)):
//!
//! | ends | noticed by | what happens |
//! |---|---|---|
//! | follower, launcher | nobody | it runs on; its end is noted in the record |
//! | init (SIGKILL), adopted | launcher: pidfd | what belongs to the container is looked for and killed |
//! | init (SIGKILL), nobody there | command: parent-death signal; the rest: [`recover`] | the same |
//!
//! Where a version 2 control group hierarchy can be written, each container also gets a group of
//! its own and `cgroup.kill` ends it at a stroke; nothing depends on it, so an unprivileged
//! follower works the same.

mod adopted;
mod cgroup;
mod children;
mod control;
mod exec;
mod init;
mod kept;
mod launcher;
mod orphans;
mod recover;
mod sandbox;
mod sys;
mod usage;
mod users;

pub use recover::{Fate, Found, forget, recover};
pub use sandbox::{create_sandbox, link_sandbox};
pub use usage::{Usage, usage};
pub use users::{current_user, host_facts, is_root, lookup_user};

use crate::capacity::HostCapacity;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use std::{io, os::fd::OwnedFd, path::Path};

/// How a launcher works.
#[derive(Clone, Copy, Debug)]
pub struct LauncherOptions {
    /// Whether to use control groups where they can be written.
    pub cgroups: bool,
    /// Whether to follow adopted inits by pidfds where there are such (Linux 5.3).
    pub pidfds: bool,
}

impl Default for LauncherOptions {
    fn default() -> Self {
        Self {
            cgroups: true,
            pidfds: true,
        }
    }
}

/// A running launcher. Dropping its socket ends it and every container it started.
#[derive(Debug)]
pub struct Launcher {
    /// Carries [`Request`](crate::message::Request) frames out and
    /// [`Report`](crate::message::Report) frames in. Non-blocking. When it reports its end, the
    /// launcher is gone and so are, or will be in a moment, all containers.
    pub socket: OwnedFd,
    /// Its process, a child of the caller.
    pub pid: u32,
}

impl Launcher {
    /// Closes the socket and blocks until every container and the launcher are gone.
    pub fn stop(self) -> io::Result<()> {
        drop(self.socket);
        sys::wait_for(self.pid as i32)
            .map_err(io::Error::from_raw_os_error)
            .map(drop)
    }
}

/// Starts the launcher process.
///
/// Call it first thing in `main`, before threads, async runtimes and big allocations: the launcher
/// keeps sharing the memory the caller has now. It works in a threaded process too (tests), at the
/// price of more memory.
pub fn start_launcher(options: LauncherOptions) -> io::Result<Launcher> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    match sys::fork_from_anywhere().map_err(io::Error::from_raw_os_error)? {
        0 => launcher::run(theirs, options),
        pid => Ok(Launcher {
            socket: ours,
            pid: pid as u32,
        }),
    }
}

/// Measures the machine; `work_dir` says whose file system counts as the disk.
pub fn measure_capacity(work_dir: &Path) -> HostCapacity {
    let info = rustix::system::sysinfo();
    let disk = rustix::fs::statvfs(work_dir).ok();
    HostCapacity {
        cpus: sys::online_processors(),
        memory_bytes: (info.totalram as u64).checked_mul(u64::from(info.mem_unit)),
        disk_bytes: disk.and_then(|d| d.f_frsize.checked_mul(d.f_blocks)),
    }
}
