//! Removal of sandboxes that nobody uses any more: after `--gc_delay`, or earlier the fuller the disk
//! is. Follows `src/slave/gc.cpp` and `age` of `src/slave/slave.cpp`.

use crate::{
    Follower,
    io::{Effect, Effects, Level},
    log, paths,
    timers::Timer,
    warn,
};
use rustc_hash::FxHashMap;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};
use tepui_model::{ExecutorId, FrameworkId, Time, units::format_duration};

/// A directory of a framework, of an executor or of one run of an executor. Ids are shared, so a week
/// of sandboxes costs little memory.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Sandbox {
    Framework(FrameworkId),
    Executor(FrameworkId, ExecutorId),
    Run(FrameworkId, ExecutorId, Arc<str>),
}

/// What can be said of a directory that is needed again.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unscheduled {
    /// It stays.
    Kept,
    /// Too late: it is being removed right now.
    BeingRemoved,
}

/// Everything that waits for removal.
#[derive(Debug)]
pub(crate) struct Gc {
    by_time: BTreeMap<(Time, u64), Sandbox>,
    by_sandbox: FxHashMap<Sandbox, (Time, u64)>,
    removing: BTreeSet<PathBuf>,
    /// Keeps entries of the same moment apart.
    sequence: u64,
    max_age: Duration,
}

impl Gc {
    pub(crate) fn new(max_age: Duration) -> Self {
        Self {
            by_time: BTreeMap::new(),
            by_sandbox: FxHashMap::default(),
            removing: BTreeSet::new(),
            sequence: 0,
            max_age,
        }
    }
    /// Entries that wait.
    pub(crate) fn len(&self) -> usize {
        self.by_time.len() + self.removing.len()
    }
    /// How old a sandbox may become at present.
    pub(crate) fn max_age(&self) -> Duration {
        self.max_age
    }
    pub(crate) fn check(&self) {
        assert_eq!(self.by_time.len(), self.by_sandbox.len());
    }
    fn schedule(&mut self, sandbox: Sandbox, at: Time) {
        if let Some(old) = self.by_sandbox.remove(&sandbox) {
            self.by_time.remove(&old);
        }
        self.sequence += 1;
        self.by_time.insert((at, self.sequence), sandbox.clone());
        self.by_sandbox.insert(sandbox, (at, self.sequence));
    }
    fn cancel(&mut self, sandbox: &Sandbox) {
        if let Some(key) = self.by_sandbox.remove(sandbox) {
            self.by_time.remove(&key);
        }
    }
    fn pop_until(&mut self, until: Time) -> Option<Sandbox> {
        let entry = self.by_time.first_entry()?;
        if entry.key().0 > until {
            return None;
        }
        let sandbox = entry.remove();
        self.by_sandbox.remove(&sandbox);
        Some(sandbox)
    }
}

impl Follower {
    pub(crate) fn sandbox_path(&self, sandbox: &Sandbox) -> Option<PathBuf> {
        let (work_dir, id) = (&self.config.work_dir, self.id.as_ref()?);
        Some(match sandbox {
            Sandbox::Framework(framework) => paths::framework(work_dir, id, framework),
            Sandbox::Executor(framework, executor) => {
                paths::executor(work_dir, id, framework, executor)
            }
            Sandbox::Run(framework, executor, run) => {
                paths::run(work_dir, id, framework, executor, run)
            }
        })
    }

    pub(crate) fn schedule_removal(&mut self, sandbox: Sandbox) {
        self.gc.schedule(sandbox, self.now + self.config.gc_delay);
        self.set_gc_timer();
    }

    /// A directory is needed again.
    pub(crate) fn unschedule(&mut self, sandbox: &Sandbox) -> Unscheduled {
        self.gc.cancel(sandbox);
        match self.sandbox_path(sandbox) {
            Some(path) if self.gc.removing.contains(&path) => Unscheduled::BeingRemoved,
            _ => Unscheduled::Kept,
        }
    }

    pub(crate) fn set_gc_timer(&mut self) {
        match self.gc.by_time.first_key_value() {
            Some(((at, _), _)) => self.timers.set(Timer::Gc, *at),
            None => self.timers.cancel(&Timer::Gc),
        }
    }

    pub(crate) fn collect_garbage(&mut self, fx: &mut Effects) {
        self.remove_until(self.now, fx);
    }

    pub(crate) fn disk_usage(&mut self, usage: f64, fx: &mut Effects) {
        let usage = if usage.is_finite() {
            usage.clamp(0.0, 1.0)
        } else {
            0.0
        };
        // A headroom that is no number is none.
        let headroom = Some(self.config.gc_disk_headroom)
            .filter(|h| h.is_finite())
            .unwrap_or(0.0);
        let share = (1.0 - headroom - usage).clamp(0.0, 1.0);
        self.gc.max_age = self.config.gc_delay.mul_f64(share);
        let age = format_duration(self.gc.max_age);
        log(
            fx,
            Level::Debug,
            format!(
                "Disk usage {:.2}%: sandboxes may be {age} old",
                usage * 100.0
            ),
        );
        // What would have been removed after the full delay goes this much earlier.
        let earlier = self.config.gc_delay.saturating_sub(self.gc.max_age);
        self.remove_until(self.now + earlier, fx);
    }

    fn remove_until(&mut self, until: Time, fx: &mut Effects) {
        while let Some(sandbox) = self.gc.pop_until(until) {
            if let Some(path) = self.sandbox_path(&sandbox) {
                self.gc.removing.insert(path.clone());
                fx.push(Effect::Remove { path });
            }
        }
        self.set_gc_timer();
    }

    pub(crate) fn removed(&mut self, path: PathBuf, error: Option<String>, fx: &mut Effects) {
        if !self.gc.removing.remove(&path) {
            return;
        }
        match error {
            None => self.counters.path_removals_succeeded += 1,
            Some(error) => {
                self.counters.path_removals_failed += 1;
                warn(fx, format!("Failed to remove {}: {error}", path.display()));
            }
        }
        self.resume_pending(&path, fx);
    }
}
