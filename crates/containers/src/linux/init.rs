//! A container's init: starts the command, reaps everything, kills what is left.
//!
//! Runs in a process forked from the launcher whose heap it must not touch: nothing here
//! allocates. It ends when its container is empty, and its container is empty when it ends.

use super::{
    cgroup::kill_group,
    children::Pids,
    control::{Order, Received, Word},
    exec::{Failure, Prepared, Step},
    sys,
};
use crate::message::SignalScope;
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
    control: Option<BorrowedFd<'a>>,
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
    control: BorrowedFd<'_>,
    cgroup: Option<BorrowedFd<'_>>,
    prepared: Prepared,
) -> ! {
    let _bomb = sys::ExitOnUnwind;
    leave_launcher(control, cgroup);
    match start(&prepared, cgroup) {
        Err((step, errno)) => Word::Failed {
            step: step as i32,
            errno,
        }
        .send(control),
        Ok((command, start)) => {
            let mut init = Init {
                control: Some(control),
                cgroup,
                command,
                start: Some(start),
                failure: None,
                status: None,
                killing: false,
            };
            init.supervise(prepared);
            init.report(control);
        }
    }
    sys::exit_now(0)
}

/// Lets go of what the launcher has: its descriptors (the other inits' sockets among them, whose
/// end must be seen when the launcher ends), its session and its signals.
fn leave_launcher(control: BorrowedFd<'_>, cgroup: Option<BorrowedFd<'_>>) {
    let control = control.as_raw_fd();
    let cgroup = cgroup.map_or(control, |c| c.as_raw_fd());
    let (low, high) = (control.min(cgroup), control.max(cgroup));
    sys::close_range(3, low - 1);
    sys::close_range(low + 1, high - 1);
    sys::close_range(high + 1, i32::MAX);
    let _ = rustix::process::setsid();
    let _ = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
    let _ = rustix::thread::set_name(c"tepui-init");
    sys::interrupt_on_child_end();
}

/// Forks the command. Its end of the pipe closes when it is executed.
fn start(prepared: &Prepared, cgroup: Option<BorrowedFd<'_>>) -> Result<(i32, OwnedFd), Failure> {
    let pipe = rustix::pipe::pipe_with(PipeFlags::CLOEXEC);
    let (read, write) = pipe.map_err(|errno| (Step::Prepare, errno.raw_os_error()))?;
    let init = rustix::process::getpid().as_raw_nonzero().get();
    let forked = match sys::fork_plain(cgroup) {
        // The group may be refused (its hierarchy is threaded, or was removed): do without.
        Err(_) if cgroup.is_some() => sys::fork_plain(None),
        other => other,
    };
    match forked {
        Ok(0) => {
            let (step, errno) = prepared.execute(init);
            let mut failure = [0; 8];
            failure[..4].copy_from_slice(&(step as i32).to_ne_bytes());
            failure[4..].copy_from_slice(&errno.to_ne_bytes());
            let _ = rustix::io::write(&write, &failure);
            sys::exit_now(127)
        }
        Ok(command) => Ok((command, read)),
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
            let fd = |fd: Option<BorrowedFd<'_>>| fd.map_or(-1, |fd| fd.as_raw_fd());
            let watched = [fd(self.control), fd(self.start.as_ref().map(AsFd::as_fd))];
            let [ordered, started] = sys::wait_readable(watched, timeout);
            if started {
                self.command_started();
                // Executed or not, nobody needs it any more.
                prepared = None;
            }
            if ordered {
                self.obey();
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
        } else if let Some(control) = self.control {
            Word::Launched { pid: self.command }.send(control);
        }
    }

    fn obey(&mut self) {
        let Some(control) = self.control else { return };
        match Order::receive(control) {
            Received::Message(Order::Signal { signal, scope }) => {
                self.signal(signal, SignalScope::from_number(scope))
            }
            Received::Message(Order::Destroy) => self.killing = true,
            Received::Nothing => {}
            Received::End => {
                self.killing = true;
                self.control = None;
            }
        }
    }

    fn signal(&self, signal: i32, scope: Option<SignalScope>) {
        match scope {
            Some(SignalScope::Tree) => signal_tree(signal),
            // Once reaped, its number may be anybody's.
            _ if self.status.is_some() => {}
            Some(SignalScope::Group) => _ = sys::kill(-self.command, signal),
            _ => _ = sys::kill(self.command, signal),
        }
    }

    fn report(&mut self, control: BorrowedFd<'_>) {
        self.command_started();
        match (self.failure, self.status) {
            (Some((step, errno)), _) => Word::Failed {
                step: step as i32,
                errno,
            }
            .send(control),
            (None, Some(status)) => Word::Exited(status).send(control),
            // Its status was taken by someone else, which cannot be: say nothing, so that the
            // launcher reports it lost.
            (None, None) => {}
        }
    }
}

/// Stops everything, so that nobody forks unseen, then signals it and lets it go on.
fn signal_tree(signal: i32) {
    let root = Pid::as_raw(Some(rustix::process::getpid()));
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
