//! Removal of sandboxes that nobody uses any more: after `--gc_delay`, or earlier the fuller the disk
//! is. Follows `src/slave/gc.cpp` and `age` of `src/slave/slave.cpp`.

use crate::{
    Follower,
    io::{Effect, Effects, Level},
    log, paths,
    recovered::RunName,
    timers::Timer,
    warn,
};
use rustc_hash::FxBuildHasher;
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    hash::BuildHasher,
    path::{Path, PathBuf},
    time::Duration,
};
use tepui_model::{ExecutorId, FollowerId, FrameworkId, Time, units::format_duration};

/// A directory of a framework, or of an executor with that of its last run. Other runs go by
/// themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Sandbox {
    Framework(FrameworkId),
    Executor(FrameworkId, ExecutorId, Option<RunName>),
    Run(FrameworkId, ExecutorId, RunName),
    /// All of a follower that was here before.
    Follower(FollowerId),
}

/// How many sandboxes are removed at the same time.
const REMOVALS_MAX: usize = 8;

/// Directories that may be needed again: all but those of runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Reusable<'a> {
    Framework(&'a FrameworkId),
    Executor(&'a FrameworkId, &'a ExecutorId),
}

impl Reusable<'_> {
    fn hash(self) -> u64 {
        FxBuildHasher.hash_one(self)
    }
}

impl Sandbox {
    fn reusable(&self) -> Option<Reusable<'_>> {
        match self {
            Self::Framework(framework) => Some(Reusable::Framework(framework)),
            Self::Executor(framework, executor, _) => Some(Reusable::Executor(framework, executor)),
            Self::Run(..) | Self::Follower(_) => None,
        }
    }
    /// Number of directories that are removed one by one.
    fn directories(&self) -> usize {
        1 + usize::from(matches!(self, Self::Executor(_, _, Some(_))))
    }
    /// Others may lie in it.
    fn holds_others(&self) -> bool {
        matches!(self, Self::Framework(_) | Self::Follower(_))
    }
}

/// Everything that waits for removal. Sandboxes wait for a week and every task leaves one, so this
/// is as small as can be: about 100 bytes for a task, and the name of its executor.
#[derive(Debug)]
pub(crate) struct Gc {
    /// All wait equally long, so the order they came in is the order they go in. `None`: needed
    /// again.
    queue: VecDeque<(Time, Option<Sandbox>)>,
    /// Number of the first in the queue; those behind it count on.
    first: u64,
    /// The hash and the number of each that may be needed again.
    places: BTreeSet<(u64, u64)>,
    /// `None`s in the queue.
    vacant: usize,
    /// Directories in the queue.
    waiting: usize,
    /// What would have gone by then goes as soon as it is its turn.
    due: Time,
    /// By the directory that is being removed right now.
    removing: BTreeMap<PathBuf, Removal>,
    max_age: Duration,
}

/// A removal that goes on.
#[derive(Debug)]
struct Removal {
    /// A sandbox, not something that was checkpointed, which nobody counts.
    counted: bool,
    /// What is removed after it, and whether that counts.
    rest: VecDeque<(PathBuf, bool)>,
}

impl Gc {
    pub(crate) fn new(max_age: Duration) -> Self {
        Self {
            queue: VecDeque::new(),
            first: 0,
            places: BTreeSet::new(),
            vacant: 0,
            waiting: 0,
            due: Time::default(),
            removing: BTreeMap::new(),
            max_age,
        }
    }
    /// Directories that wait.
    pub(crate) fn len(&self) -> usize {
        let removals = self.removing.values();
        let rest = removals.flat_map(|removal| {
            let rest = removal.rest.iter().map(|(_, counted)| *counted);
            rest.chain([removal.counted])
        });
        self.waiting + rest.filter(|counted| *counted).count()
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
        for (hash, number) in &self.places {
            let reusable = self.sandbox(*number).and_then(Sandbox::reusable);
            assert_eq!(reusable.map(Reusable::hash), Some(*hash));
        }
        assert!(self.removing.len() <= REMOVALS_MAX);
    }
    fn sandbox(&self, number: u64) -> Option<&Sandbox> {
        self.queue.get((number - self.first) as usize)?.1.as_ref()
    }
    /// Number of a directory that may be needed again.
    fn place(&self, reusable: Reusable<'_>) -> Option<u64> {
        let hash = reusable.hash();
        let numbers = self.places.range((hash, 0)..=(hash, u64::MAX));
        let is = |number: &u64| self.sandbox(*number).and_then(Sandbox::reusable) == Some(reusable);
        numbers.map(|(_, number)| *number).find(is)
    }
    /// When there is something to do: for the first that may go, unless others have to be gone first.
    fn next(&self, now: Time) -> Option<Time> {
        let at = self.queue.front().map(|(at, _)| *at)?;
        match at > self.due {
            true => Some(at),
            false => self.removing.is_empty().then_some(now),
        }
    }
    /// `at` is never before that of an earlier call.
    fn schedule(&mut self, sandbox: Sandbox, at: Time) {
        if let Some(reusable) = sandbox.reusable() {
            self.cancel(reusable);
            let number = self.first + self.queue.len() as u64;
            self.places.insert((reusable.hash(), number));
        }
        self.waiting += sandbox.directories();
        // It is large for long: it does not take twice the room it needs.
        if self.queue.len() == self.queue.capacity() {
            self.queue.reserve_exact(self.queue.len() / 4 + 16);
        }
        self.queue.push_back((at, Some(sandbox)));
    }
    fn cancel(&mut self, reusable: Reusable<'_>) {
        let Some(number) = self.place(reusable) else {
            return;
        };
        self.places.remove(&(reusable.hash(), number));
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
    /// Takes the first out if it may go now.
    fn pop_due(&mut self) -> Option<Sandbox> {
        let (at, first) = self.queue.front()?;
        // What lies in a directory is removed before it.
        let alone = first.as_ref().is_some_and(Sandbox::holds_others);
        let most = if alone { 1 } else { REMOVALS_MAX };
        if *at > self.due || self.removing.len() >= most {
            return None;
        }
        let sandbox = self.queue.pop_front()?.1?;
        if let Some(reusable) = sandbox.reusable() {
            self.places.remove(&(reusable.hash(), self.first));
        }
        self.first += 1;
        self.waiting -= sandbox.directories();
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
            self.places.clear();
            for (number, (_, place)) in (self.first..).zip(&self.queue) {
                if let Some(reusable) = place.as_ref().and_then(Sandbox::reusable) {
                    self.places.insert((reusable.hash(), number));
                }
            }
        }
        if self.queue.capacity() > 4 * self.queue.len() + 64 {
            self.queue.shrink_to(2 * self.queue.len());
        }
    }
    /// Whether a directory is being removed, or about to be.
    fn is_removing(&self, path: &Path) -> bool {
        let removals = self.removing.iter();
        removals
            .flat_map(|(now, removal)| {
                let rest = removal.rest.iter().map(|(path, _)| path);
                rest.chain([now])
            })
            .any(|other| other == path)
    }
}

impl Follower {
    /// Directories of a sandbox, the inner one first.
    fn sandbox_paths(&self, sandbox: &Sandbox) -> Vec<PathBuf> {
        self.paths_below(&self.config.work_dir, sandbox)
    }

    /// Where what was checkpointed of a sandbox lies. It goes after the sandbox: should the follower
    /// end in between, the next one finds it and goes on.
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
        let run = |framework, executor, run: &RunName| {
            paths::run(work_dir, id, framework, executor, &run.to_string())
        };
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
        self.gc.cancel(reusable);
        let last = |mut paths: Vec<PathBuf>| paths.pop();
        [self.checkpoint_paths(sandbox), self.sandbox_paths(sandbox)]
            .into_iter()
            .filter_map(last)
            .filter(|path| self.gc.is_removing(path))
            .collect()
    }

    pub(crate) fn set_gc_timer(&mut self) {
        match self.gc.next(self.now) {
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
        self.gc.due = self.gc.due.max(until);
        self.go_on_removing(fx);
    }

    fn go_on_removing(&mut self, fx: &mut Effects) {
        while let Some(sandbox) = self.gc.pop_due() {
            let own = self.sandbox_paths(&sandbox).into_iter();
            let checkpoints = self.checkpoint_paths(&sandbox).into_iter();
            let own = own.map(|path| (path, true));
            let all = own.chain(checkpoints.map(|path| (path, false)));
            self.remove_next(all.collect(), fx);
        }
        self.set_gc_timer();
    }

    fn remove_next(&mut self, mut rest: VecDeque<(PathBuf, bool)>, fx: &mut Effects) {
        if let Some((path, counted)) = rest.pop_front() {
            fx.push(Effect::Remove { path: path.clone() });
            self.gc.removing.insert(path, Removal { counted, rest });
        }
    }

    pub(crate) fn removed(&mut self, path: PathBuf, error: Option<String>, fx: &mut Effects) {
        let Some(Removal { counted, rest }) = self.gc.removing.remove(&path) else {
            return;
        };
        match error {
            None if counted => self.counters.path_removals_succeeded += 1,
            None => {}
            Some(error) => {
                self.counters.path_removals_failed += 1;
                warn(fx, format!("Failed to remove {}: {error}", path.display()));
            }
        }
        self.remove_next(rest, fx);
        self.resume_pending(&path, fx);
        self.go_on_removing(fx);
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
    fn pop_until(gc: &mut Gc, until: Time) -> Option<Sandbox> {
        gc.due = gc.due.max(until);
        gc.pop_due()
    }

    #[test]
    fn a_sandbox_that_waits_takes_little_room() {
        assert_eq!(size_of::<(Time, Option<Sandbox>)>(), 72);
        let mut gc = Gc::new(Duration::ZERO);
        for n in 0..10_000 {
            gc.schedule(executor(&n.to_string()), at(1));
            let (len, capacity) = (gc.queue.len(), gc.queue.capacity());
            assert!(capacity <= len + len / 4 + 16, "{capacity} for {len}");
        }
        while pop_until(&mut gc, at(1)).is_some() {}
        assert!(gc.queue.capacity() <= 64, "{}", gc.queue.capacity());
    }

    #[test]
    fn what_has_the_same_hash_is_told_apart() {
        let mut gc = Gc::new(Duration::ZERO);
        gc.schedule(executor("a"), at(0));
        gc.schedule(executor("b"), at(0));
        let b = executor("b");
        let b = b.reusable().expect("reusable");
        // As if its hash were that of the other one.
        gc.places.insert((b.hash(), 0));
        assert_eq!(gc.place(b), Some(1));
    }

    #[test]
    fn an_executor_that_is_needed_again_leaves_its_old_run_to_go() {
        let mut gc = Gc::new(Duration::ZERO);
        gc.schedule(executor("E"), at(1));
        assert_eq!(gc.len(), 2);
        gc.cancel(executor("E").reusable().expect("reusable"));
        gc.check();
        let run = Sandbox::Run(framework(), ExecutorId::from("E"), "run".into());
        assert_eq!(pop_until(&mut gc, at(0)), None);
        assert_eq!(pop_until(&mut gc, at(1)), Some(run));
        assert_eq!((pop_until(&mut gc, at(9)), gc.len()), (None, 0));
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
                        gc.cancel(sandbox.reusable().expect("reusable"));
                    }
                    _ => {
                        let until = second.saturating_sub(5);
                        while let Some(gone) = pop_until(&mut gc, at(until)) {
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
