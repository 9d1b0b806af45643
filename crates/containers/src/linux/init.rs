//! A container's init: starts the command, reaps everything, kills what is left.
//!
//! Runs in a process forked from the launcher whose heap it must not touch: nothing here
//! allocates. It ends when its container is empty, and its container is empty when it ends.

use super::{
    cgroup::kill_group,
    children::Pids,
    control::{Order, Received, Word},
    exec::{Failure, Prepared, Step},
    kept::{Kept, Recorded},
    sys,
};
use crate::{message::SignalScope, record::State};
use rustix::{
    fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    pipe::PipeFlags,
    process::Pid,
};
use tepui_model::container::ExitStatus;

/// How long to wait for killed processes before looking again. Their end wakes us; this is for the
/// ones that cannot be killed yet (setuid programs seen from an unprivileged init).
const RETRY_MS: [u32; 4] = [10, 50, 200, 1000];

struct Init<'a> {
    /// The launcher, until it is gone.
    control: Option<OwnedFd>,
    /// Its record, if it outlives the launcher.
    recorded: Option<Recorded>,
    cgroup: Option<BorrowedFd<'a>>,
    command: i32,
    /// Says by its end that the command was executed, or brings why not.
    start: Option<OwnedFd>,
    failure: Option<Failure>,
    status: Option<ExitStatus>,
    killing: bool,
}

/// The life of an init. `control` leads to the launcher.
pub(super) fn run(
    control: OwnedFd,
    cgroup: Option<BorrowedFd<'_>>,
    prepared: Prepared,
    kept: Option<Kept>,
) -> ! {
    let _bomb = sys::ExitOnUnwind;
    leave_launcher(control.as_fd(), cgroup, kept.as_ref());
    match start(&prepared, cgroup, kept) {
        Err((step, errno)) => Word::Failed {
            step: step as i32,
            errno,
        }
        .send(control.as_fd()),
        Ok(Started {
            command,
            start,
            recorded,
        }) => {
            let mut init = Init {
                control: Some(control),
                recorded,
                cgroup,
                command,
                start: Some(start),
                failure: None,
                status: None,
                killing: false,
            };
            init.supervise(prepared);
            init.report();
        }
    }
    sys::exit_now(0)
}

/// Lets go of what the launcher has: its descriptors (the other inits' sockets among them, whose
/// end must be seen when the launcher ends), its session and its signals.
fn leave_launcher(control: BorrowedFd<'_>, cgroup: Option<BorrowedFd<'_>>, kept: Option<&Kept>) {
    let control = control.as_raw_fd();
    let cgroup = cgroup.map_or(control, |c| c.as_raw_fd());
    let [directory, socket, lock] = kept.map_or([control; 3], |kept| kept.descriptors(control));
    let mut mine = [control, cgroup, directory, socket, lock];
    mine.sort_unstable();
    let mut next = 3;
    for fd in mine {
        sys::close_range(next, fd - 1);
        next = next.max(fd + 1);
    }
    sys::close_range(next, i32::MAX);
    let _ = rustix::process::setsid();
    let _ = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
    let _ = rustix::thread::set_name(c"tepui-init");
    sys::interrupt_on_child_end();
}

/// A command on its way.
struct Started {
    command: i32,
    start: OwnedFd,
    recorded: Option<Recorded>,
}

/// Forks the command. Its end of the pipe closes when it is executed. If it outlives the launcher it
/// waits until that is written down: whatever runs can be found again.
fn start(
    prepared: &Prepared,
    cgroup: Option<BorrowedFd<'_>>,
    kept: Option<Kept>,
) -> Result<Started, Failure> {
    let pipe = || {
        rustix::pipe::pipe_with(PipeFlags::CLOEXEC)
            .map_err(|errno| (Step::Prepare, errno.raw_os_error()))
    };
    let (read, write) = pipe()?;
    let gate = match kept {
        Some(_) => Some(pipe()?),
        None => None,
    };
    let init = rustix::process::getpid().as_raw_nonzero().get();
    let forked = match sys::fork_plain(cgroup) {
        // The group may be refused (its hierarchy is threaded, or was removed): do without.
        Err(_) if cgroup.is_some() => sys::fork_plain(None),
        other => other,
    };
    match forked {
        Ok(0) => {
            if let Some((wait, open)) = gate {
                drop(open);
                let opened =
                    rustix::io::retry_on_intr(|| rustix::io::read(&wait, &mut [0_u8; 1][..]));
                if opened != Ok(1) {
                    sys::exit_now(127)
                }
            }
            let (step, errno) = prepared.execute(init);
            let mut failure = [0; 8];
            failure[..4].copy_from_slice(&(step as i32).to_ne_bytes());
            failure[4..].copy_from_slice(&errno.to_ne_bytes());
            let _ = rustix::io::write(&write, &failure);
            sys::exit_now(127)
        }
        Ok(command) => {
            let recorded = match kept.map(|kept| kept.write(init, command, prepared.record())) {
                None => None,
                Some(Ok(recorded)) => Some(recorded),
                Some(Err(errno)) => {
                    // It has executed nothing yet.
                    let _ = sys::kill(command, libc::SIGKILL);
                    let _ = sys::wait_for(command);
                    return Err((Step::Record, errno));
                }
            };
            if let Some((_, open)) = gate {
                let _ = rustix::io::write(&open, b"1");
            }
            Ok(Started {
                command,
                start: read,
                recorded,
            })
        }
        Err(errno) => Err((Step::Fork, errno)),
    }
}

impl Init<'_> {
    /// Until no child is left.
    fn supervise(&mut self, prepared: Prepared) {
        let mut prepared = Some(prepared);
        let mut round = 0;
        while self.reap() {
            if self.killing {
                self.kill_everything();
            }
            let timeout = self
                .killing
                .then(|| RETRY_MS[round.min(RETRY_MS.len() - 1)]);
            round += usize::from(self.killing);
            let fd = |fd: Option<&OwnedFd>| fd.map_or(-1, |fd| fd.as_raw_fd());
            let watched = [
                fd(self.control.as_ref()),
                fd(self.start.as_ref()),
                fd(self.recorded.as_ref().and_then(Recorded::socket)),
            ];
            let [ordered, started, adopted] = sys::wait_readable(watched, timeout);
            if started {
                self.command_started();
                // Executed or not, nobody needs it any more.
                prepared = None;
            }
            if ordered {
                self.obey();
            }
            if adopted && let Some(launcher) = self.recorded.as_ref().and_then(Recorded::accept) {
                self.control = Some(launcher);
            }
        }
        drop(prepared);
    }

    /// Reaps what has ended; false when there are no children left.
    fn reap(&mut self) -> bool {
        loop {
            match sys::ended_child() {
                Ok(Some(pid)) if pid == self.command => {
                    self.killing = true;
                    // While the command is not reaped its number means its group and nobody else's.
                    let _ = sys::kill(-pid, libc::SIGKILL);
                    self.status = sys::wait_for(pid).ok().map(exit_status);
                }
                Ok(Some(pid)) => _ = sys::wait_for(pid),
                Ok(None) => return true,
                Err(libc::EINTR) => {}
                Err(_) => return false,
            }
        }
    }

    /// Children are killed, what they leave behind becomes ours and is killed in the next round.
    fn kill_everything(&self) {
        self.cgroup.into_iter().for_each(kill_group);
        if self.status.is_none() {
            let _ = sys::kill(-self.command, libc::SIGKILL);
            let _ = sys::kill(self.command, libc::SIGKILL);
        }
        if let Ok(children) = Pids::own_children() {
            for child in children.as_slice() {
                let _ = sys::kill(*child, libc::SIGKILL);
            }
        }
    }

    /// The pipe has ended (the command is executed) or says why it was not.
    fn command_started(&mut self) {
        let Some(pipe) = self.start.take() else {
            return;
        };
        let mut failure = [0; 8];
        let length = rustix::io::retry_on_intr(|| rustix::io::read(&pipe, &mut failure));
        if length == Ok(failure.len()) {
            let [a, b, c, d, e, f, g, h] = failure;
            let step = Step::from_number(i32::from_ne_bytes([a, b, c, d])).unwrap_or(Step::Execute);
            self.failure = Some((step, i32::from_ne_bytes([e, f, g, h])));
        } else if let Some(control) = &self.control {
            Word::Launched { pid: self.command }.send(control.as_fd());
        }
    }

    fn obey(&mut self) {
        let Some(control) = &self.control else { return };
        match Order::receive(control.as_fd()) {
            Received::Message(Order::Signal { signal, scope }) => {
                self.recorded.iter_mut().for_each(Recorded::told);
                self.signal(signal, SignalScope::from_number(scope))
            }
            Received::Message(Order::Destroy) => {
                self.recorded.iter_mut().for_each(Recorded::told);
                self.killing = true;
            }
            Received::Nothing => {}
            Received::End => {
                self.killing |= self.recorded.is_none();
                self.control = None;
            }
        }
    }

    fn signal(&self, signal: i32, scope: Option<SignalScope>) {
        match scope {
            Some(SignalScope::Tree) => {
                signal_tree(Pid::as_raw(Some(rustix::process::getpid())), signal)
            }
            // Once reaped, its number may be anybody's.
            _ if self.status.is_some() => {}
            Some(SignalScope::Group) => _ = sys::kill(-self.command, signal),
            _ => _ = sys::kill(self.command, signal),
        }
    }

    fn report(&mut self) {
        self.command_started();
        let word = match (self.failure, self.status) {
            (Some((step, errno)), _) => Word::Failed {
                step: step as i32,
                errno,
            },
            (None, Some(status)) => Word::Exited(status),
            // Its status was taken by someone else, which cannot be: say nothing, so that the
            // launcher reports it lost.
            (None, None) => return,
        };
        // Always: a follower may end between hearing of it and writing it down.
        if let Some(recorded) = &mut self.recorded {
            let state = match (self.failure, self.status) {
                (Some((step, errno)), _) => State::Failed {
                    step: step as i32,
                    errno,
                },
                (None, Some(status)) => State::Exited(status),
                (None, None) => State::Running,
            };
            recorded.over(state, self.control.is_none());
        }
        if let Some(control) = &self.control {
            word.send(control.as_fd());
        }
    }
}

/// Stops everything below `root`, so that nobody forks unseen, then signals it and lets it go on.
pub(super) fn signal_tree(root: i32, signal: i32) {
    let stop = |pid| _ = sys::kill(pid, libc::SIGSTOP);
    let Ok(stopped) = Pids::descendants(root, stop) else {
        return;
    };
    for pid in stopped.as_slice() {
        let _ = sys::kill(*pid, signal);
    }
    for pid in stopped.as_slice() {
        let _ = sys::kill(*pid, libc::SIGCONT);
    }
}

fn exit_status(status: i32) -> ExitStatus {
    if libc::WIFSIGNALED(status) {
        ExitStatus::Signal(libc::WTERMSIG(status))
    } else {
        ExitStatus::Code(libc::WEXITSTATUS(status))
    }
}
