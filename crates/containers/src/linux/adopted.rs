//! A container that has outlived its launcher, as the next one holds it.

use super::{cgroup::Cgroup, control::Order, init::signal_tree, kept, orphans, sys};
use crate::record::{Record, State};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::{os::fd::OwnedFd, path::PathBuf};

#[derive(Debug)]
pub(super) struct Adopted {
    directory: PathBuf,
    record: Record,
    /// The init, so that its number cannot come to mean another.
    init: Option<OwnedFd>,
    alive: bool,
}

impl Adopted {
    pub(super) fn new(directory: PathBuf, record: Record) -> Self {
        Self {
            directory,
            record,
            init: None,
            alive: false,
        }
    }

    /// Has the end of the init watched by `watch`; `false`: it has ended already.
    pub(super) fn watch(&mut self, pidfds: bool, watch: impl FnOnce(&OwnedFd) -> bool) -> bool {
        if self.record.facts.boot != kept::boot_id() {
            return false;
        }
        let Some(pid) = Pid::from_raw(self.record.init.pid) else {
            return false;
        };
        // Kernels before 5.3 and some sandboxes have no pidfds. There the end of its socket tells.
        self.init = pidfds
            .then(|| pidfd_open(pid, PidfdFlags::empty()).ok())
            .flatten();
        // Only now is it certain that the number goes on meaning what is looked at.
        self.alive = self.lives() && self.init.as_ref().is_none_or(watch);
        self.alive
    }

    /// Whether only its socket tells of its end.
    pub(super) fn is_unwatched(&self) -> bool {
        self.init.is_none()
    }

    pub(super) fn lives(&self) -> bool {
        kept::lives(self.record.init)
    }

    /// A connection to the init.
    pub(super) fn reach(&self) -> Option<OwnedFd> {
        let reached = self
            .alive
            .then(|| kept::reach(&self.directory, self.record.init.pid));
        reached.flatten()
    }

    pub(super) fn cgroup(&self) -> Option<Cgroup> {
        Cgroup::reopen(self.record.facts.cgroup.as_deref()?)
    }

    /// What the init would do if it could be reached. It sees its command die, and ends.
    pub(super) fn obey(&self, order: Order) {
        if !self.alive || !self.lives() {
            return;
        }
        let signal = match order {
            Order::Signal { signal, .. } => signal,
            Order::Destroy => libc::SIGKILL,
        };
        signal_tree(self.record.init.pid, signal);
        // Should somebody have stopped it. Its own death is no aim: it knows best what is left.
        let _ = match &self.init {
            Some(init) => pidfd_send_signal(init, Signal::CONT).is_ok(),
            None => sys::kill(self.record.init.pid, libc::SIGCONT).is_ok(),
        };
    }

    /// What the init wrote down, which has ended.
    pub(super) fn last_word(&self) -> Option<State> {
        let record = kept::read(&self.directory).ok()??;
        (record.init == self.record.init).then_some(record.head.state)
    }

    /// Kills what a killed init left; whether there was something.
    pub(super) fn kill_orphans(&self) -> bool {
        orphans::kill(&self.record)
    }
}
