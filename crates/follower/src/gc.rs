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
    collections::{BTreeSet, VecDeque},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tepui_model::{ExecutorId, FollowerId, FrameworkId, Time, units::format_duration};

/// A directory of a framework, or of an executor with that of its last run. Other runs go by
/// themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Sandbox {
    Framework(FrameworkId),
    Executor(FrameworkId, ExecutorId, Option<Arc<str>>),
    Run(FrameworkId, ExecutorId, Arc<str>),
    /// All of a follower that was here before.
    Follower(FollowerId),
}

/// Directories that may be needed again: all but those of runs.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Reusable {
    Framework(FrameworkId),
    Executor(FrameworkId, ExecutorId),
}

impl Sandbox {
    fn reusable(&self) -> Option<Reusable> {
        match self {
            Self::Framework(framework) => Some(Reusable::Framework(framework.clone())),
            Self::Executor(framework, executor, _) => {
                Some(Reusable::Executor(framework.clone(), executor.clone()))
            }
            Self::Run(..) | Self::Follower(_) => None,
        }
    }
    /// Number of directories that are removed one by one.
    fn directories(&self) -> usize {
        1 + usize::from(matches!(self, Self::Executor(_, _, Some(_))))
    }
}

/// Everything that waits for removal. Sandboxes wait for a week and every task leaves one, so this
/// is as small as can be: about 250 bytes for a task.
#[derive(Debug)]
pub(crate) struct Gc {
    /// All wait equally long, so the order they came in is the order they go in. `None`: needed
    /// again.
    queue: VecDeque<(Time, Option<Sandbox>)>,
    /// Number of the first in the queue; those behind it count on.
    first: u64,
    /// Number of each that may be needed again.
    places: FxHashMap<Reusable, u64>,
    /// `None`s in the queue.
    vacant: usize,
    /// Directories in the queue.
    waiting: usize,
    removing: BTreeSet<PathBuf>,
    /// What was checkpointed of these, which nobody counts.
    removing_checkpoints: BTreeSet<PathBuf>,
    max_age: Duration,
}

impl Gc {
    pub(crate) fn new(max_age: Duration) -> Self {
        Self {
            queue: VecDeque::new(),
            first: 0,
            places: FxHashMap::default(),
            vacant: 0,
            waiting: 0,
            removing: BTreeSet::new(),
            removing_checkpoints: BTreeSet::new(),
            max_age,
        }
    }
    /// Directories that wait.
    pub(crate) fn len(&self) -> usize {
        self.waiting + self.removing.len()
    }
    /// How old a sandbox may become at present.
    pub(crate) fn max_age(&self) -> Duration {
        self.max_age
    }
    pub(crate) fn check(&self) {
        let sandboxes = || {
            self.queue
                .iter()
                .filter_map(|(_, sandbox)| sandbox.as_ref())
        };
        let directories: usize = sandboxes().map(Sandbox::directories).sum();
        assert_eq!(self.waiting, directories);
        assert_eq!(self.vacant, self.queue.len() - sandboxes().count());
        assert_eq!(
            self.places.len(),
            sandboxes().filter_map(Sandbox::reusable).count()
        );
        assert!(self.queue.iter().is_sorted_by_key(|(at, _)| *at));
        for (reusable, number) in &self.places {
            let place = self.queue.get((number - self.first) as usize);
            let sandbox = place.and_then(|(_, sandbox)| sandbox.as_ref());
            assert_eq!(sandbox.and_then(Sandbox::reusable).as_ref(), Some(reusable));
        }
    }
    /// When the first of them is old enough.
    fn next(&self) -> Option<Time> {
        self.queue.front().map(|(at, _)| *at)
    }
    /// `at` is never before that of an earlier call.
    fn schedule(&mut self, sandbox: Sandbox, at: Time) {
        if let Some(reusable) = sandbox.reusable() {
            self.cancel(&reusable);
            let number = self.first + self.queue.len() as u64;
            self.places.insert(reusable, number);
        }
        self.waiting += sandbox.directories();
        self.queue.push_back((at, Some(sandbox)));
    }
    fn cancel(&mut self, reusable: &Reusable) {
        let Some(number) = self.places.remove(reusable) else {
            return;
        };
        let Some((_, place)) = self.queue.get_mut((number - self.first) as usize) else {
            return;
        };
        self.waiting -= 1;
        // The run of an executor that is needed again is not.
        *place = match place.take() {
            Some(Sandbox::Executor(framework, executor, Some(run))) => {
                Some(Sandbox::Run(framework, executor, run))
            }
            _ => {
                self.vacant += 1;
                None
            }
        };
        self.tidy();
    }
    /// Takes the first out if it is old enough.
    fn pop_until(&mut self, until: Time) -> Option<Sandbox> {
        if self.next()? > until {
            return None;
        }
        let sandbox = self.queue.pop_front()?.1?;
        self.first += 1;
        self.waiting -= sandbox.directories();
        if let Some(reusable) = sandbox.reusable() {
            self.places.remove(&reusable);
        }
        self.tidy();
        Some(sandbox)
    }
    /// The first is never vacant, and most are not.
    fn tidy(&mut self) {
        while self.queue.front().is_some_and(|(_, place)| place.is_none()) {
            self.queue.pop_front();
            self.first += 1;
            self.vacant -= 1;
        }
        if self.vacant > self.queue.len() / 2 {
            self.queue.retain(|(_, place)| place.is_some());
            self.vacant = 0;
            for (number, (_, place)) in (self.first..).zip(&self.queue) {
                if let Some(reusable) = place.as_ref().and_then(Sandbox::reusable) {
                    self.places.insert(reusable, number);
                }
            }
        }
    }
}

impl Follower {
    /// Directories of a sandbox, the inner one first.
    fn sandbox_paths(&self, sandbox: &Sandbox) -> Vec<PathBuf> {
        self.paths_below(&self.config.work_dir, sandbox)
    }

    /// Where what was checkpointed of a sandbox lies. It goes before the sandbox does.
    fn checkpoint_paths(&self, sandbox: &Sandbox) -> Vec<PathBuf> {
        if !self.config.checkpoint_runs {
            return Vec::new();
        }
        self.paths_below(&self.config.work_dir.join("meta"), sandbox)
    }

    fn paths_below(&self, work_dir: &Path, sandbox: &Sandbox) -> Vec<PathBuf> {
        if let Sandbox::Follower(id) = sandbox {
            return vec![paths::follower(work_dir, id)];
        }
        let Some(id) = self.id.as_ref() else {
            return Vec::new();
        };
        let run = |framework, executor, run| paths::run(work_dir, id, framework, executor, run);
        match sandbox {
            Sandbox::Follower(_) => Vec::new(),
            Sandbox::Framework(framework) => vec![paths::framework(work_dir, id, framework)],
            Sandbox::Run(framework, executor, name) => vec![run(framework, executor, name)],
            Sandbox::Executor(framework, executor, name) => {
                let inner = name.as_ref().map(|name| run(framework, executor, name));
                let outer = paths::executor(work_dir, id, framework, executor);
                inner.into_iter().chain([outer]).collect()
            }
        }
    }

    pub(crate) fn schedule_removal(&mut self, sandbox: Sandbox) {
        // They have to be brought into order first.
        if let Some((age, removals)) = &mut self.recovery.removals {
            return removals.push((*age, sandbox));
        }
        self.gc.schedule(sandbox, self.now + self.config.gc_delay);
        self.set_gc_timer();
    }

    /// Schedules what has not been used for some time already. Nothing else is scheduled yet.
    pub(crate) fn schedule_aged(&mut self, mut removals: Vec<(Duration, Sandbox)>) {
        removals.sort_by_key(|(age, _)| std::cmp::Reverse(*age));
        for (age, sandbox) in removals {
            let wait = self.config.gc_delay.saturating_sub(age);
            self.gc.schedule(sandbox, self.now + wait);
        }
        self.set_gc_timer();
    }

    /// A framework's or executor's directory is needed again. Its paths, if it is too late: they are
    /// being removed right now.
    pub(crate) fn unschedule(&mut self, sandbox: &Sandbox) -> Vec<PathBuf> {
        let Some(reusable) = sandbox.reusable() else {
            return Vec::new();
        };
        self.gc.cancel(&reusable);
        let last = |mut paths: Vec<PathBuf>| paths.pop();
        [self.checkpoint_paths(sandbox), self.sandbox_paths(sandbox)]
            .into_iter()
            .filter_map(last)
            .filter(|path| {
                self.gc.removing.contains(path) || self.gc.removing_checkpoints.contains(path)
            })
            .collect()
    }

    pub(crate) fn set_gc_timer(&mut self) {
        match self.gc.next() {
            Some(at) => self.timers.set(Timer::Gc, at),
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
            for path in self.checkpoint_paths(&sandbox) {
                self.gc.removing_checkpoints.insert(path.clone());
                fx.push(Effect::Remove { path });
            }
            for path in self.sandbox_paths(&sandbox) {
                self.gc.removing.insert(path.clone());
                fx.push(Effect::Remove { path });
            }
        }
        self.set_gc_timer();
    }

    pub(crate) fn removed(&mut self, path: PathBuf, error: Option<String>, fx: &mut Effects) {
        let counted = self.gc.removing.remove(&path);
        if !counted && !self.gc.removing_checkpoints.remove(&path) {
            return;
        }
        match error {
            None if counted => self.counters.path_removals_succeeded += 1,
            None => {}
            Some(error) => {
                self.counters.path_removals_failed += 1;
                warn(fx, format!("Failed to remove {}: {error}", path.display()));
            }
        }
        self.resume_pending(&path, fx);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn framework() -> FrameworkId {
        FrameworkId::from("F")
    }
    fn executor(name: &str) -> Sandbox {
        Sandbox::Executor(framework(), ExecutorId::from(name), Some("run".into()))
    }
    fn at(seconds: u64) -> Time {
        Time::default() + Duration::from_secs(seconds)
    }

    #[test]
    fn an_executor_that_is_needed_again_leaves_its_old_run_to_go() {
        let mut gc = Gc::new(Duration::ZERO);
        gc.schedule(executor("E"), at(1));
        assert_eq!(gc.len(), 2);
        gc.cancel(&executor("E").reusable().expect("reusable"));
        gc.check();
        let run = Sandbox::Run(framework(), ExecutorId::from("E"), "run".into());
        assert_eq!(gc.pop_until(at(0)), None);
        assert_eq!(gc.pop_until(at(1)), Some(run));
        assert_eq!((gc.pop_until(at(9)), gc.len()), (None, 0));
    }

    #[test]
    fn a_framework_that_comes_and_goes_leaves_nothing_behind() {
        let mut gc = Gc::new(Duration::ZERO);
        gc.schedule(executor("E"), at(0));
        for second in 0..1000 {
            gc.schedule(Sandbox::Framework(framework()), at(second));
            gc.check();
        }
        assert!(gc.queue.len() <= 4, "{}", gc.queue.len());
        assert_eq!(gc.len(), 3);
    }

    proptest! {
        #[test]
        fn what_is_scheduled_goes_once_in_order_unless_it_is_needed_again(
            steps in proptest::collection::vec((0..3_u8, 0..4_u8), 0..60)
        ) {
            let mut gc = Gc::new(Duration::ZERO);
            let mut model: Vec<(u64, Sandbox)> = Vec::new();
            for (second, (action, name)) in (0_u64..).zip(steps) {
                let sandbox = executor(&name.to_string());
                let cancel = |model: &mut Vec<(u64, Sandbox)>| for (_, other) in model.iter_mut() {
                    if *other == sandbox && let Sandbox::Executor(f, e, Some(run)) = other.clone() {
                        *other = Sandbox::Run(f, e, run);
                    }
                };
                match action {
                    0 => {
                        cancel(&mut model);
                        model.push((second, sandbox.clone()));
                        gc.schedule(sandbox, at(second));
                    }
                    1 => {
                        cancel(&mut model);
                        gc.cancel(&sandbox.reusable().expect("reusable"));
                    }
                    _ => {
                        let until = second.saturating_sub(5);
                        while let Some(gone) = gc.pop_until(at(until)) {
                            prop_assert_eq!(model.remove(0).1, gone);
                        }
                        prop_assert!(model.first().is_none_or(|(at, _)| *at > until));
                    }
                }
                gc.check();
            }
        }
    }
}
