//! The thread that writes the registry, so that the core never waits for a disk, and what others
//! may ask about it.

use crate::disk::registry::{Registry, RegistryError};
use std::{
    collections::{BTreeMap, VecDeque},
    io,
    sync::{Arc, Mutex, PoisonError, mpsc as blocking},
    thread,
    thread::JoinHandle,
    time::{Duration, Instant},
};
use tepui_journal::registry::{Step, disassemble};
use tepui_leader::RegistryChange;
use tepui_protocol::internal;
use tokio::sync::{mpsc, oneshot};

/// Writes that percentiles are of, as in the reference (`process::TimeSeries`).
const WRITES_REMEMBERED: usize = 1000;

/// What the thread is asked for, in order.
enum Job {
    Write(Vec<RegistryChange>),
    Show(oneshot::Sender<Result<internal::Registry, RegistryError>>),
    /// Nobody will write any more.
    End,
}

/// Batches to write. At most one is on its way: the outbox sees to that. The thread ends once this
/// is dropped.
pub(super) struct Records {
    jobs: blocking::Sender<Job>,
    shelf: Shelf,
}

impl Records {
    /// Fails if the thread has ended.
    pub(super) fn send(&self, batch: Vec<RegistryChange>) -> Result<(), ()> {
        self.shelf.note(|stats| stats.queued = batch.len());
        self.jobs.send(Job::Write(batch)).map_err(|_| ())
    }
}

impl Drop for Records {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.jobs.send(Job::End);
    }
}

/// One result per batch, in order.
pub(super) type Written = mpsc::UnboundedReceiver<Result<(), RegistryError>>;

/// What can be asked about the registry while it is written.
#[derive(Clone)]
pub(super) struct Shelf {
    jobs: blocking::Sender<Job>,
    stats: Arc<Mutex<Stats>>,
}

impl Shelf {
    /// What is in the registry. `None`: it cannot be read any more.
    pub(super) async fn show(&self) -> Option<internal::Registry> {
        let (answer, answered) = oneshot::channel();
        self.jobs.send(Job::Show(answer)).ok()?;
        match answered.await {
            Ok(Ok(registry)) => Some(registry),
            Ok(Err(error)) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "cannot show the registry"
                );
                None
            }
            Err(_) => None,
        }
    }

    /// Metrics by name (`src/master/registrar.cpp`).
    pub(super) fn metrics(&self) -> BTreeMap<String, f64> {
        let stats = self.stats.lock().unwrap_or_else(PoisonError::into_inner);
        stats.metrics()
    }

    fn note(&self, change: impl FnOnce(&mut Stats)) {
        change(&mut self.stats.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

#[derive(Default)]
struct Stats {
    fetch: Duration,
    /// The last writes, oldest first.
    writes: VecDeque<Duration>,
    queued: usize,
    bytes: usize,
}

impl Stats {
    fn wrote(&mut self, took: Duration) {
        if self.writes.len() == WRITES_REMEMBERED {
            self.writes.pop_front();
        }
        self.writes.push_back(took);
        self.queued = 0;
    }

    fn metrics(&self) -> BTreeMap<String, f64> {
        let mut all = BTreeMap::new();
        let mut set = |name: &str, value: f64| {
            all.insert(format!("registrar/{name}"), value);
        };
        let milliseconds = |duration: &Duration| duration.as_secs_f64() * 1e3;
        // It was read, or nobody would ask.
        set("log/recovered", 1.0);
        set("queued_operations", self.queued as f64);
        set("registry_size_bytes", self.bytes as f64);
        set("state_fetch_ms", milliseconds(&self.fetch));
        let Some(last) = self.writes.back() else {
            return all;
        };
        set("state_store_ms", milliseconds(last));
        set("state_store_ms/count", self.writes.len() as f64);
        let mut sorted: Vec<_> = self.writes.iter().map(milliseconds).collect();
        sorted.sort_by(f64::total_cmp);
        let at = |part: f64| percentile(&sorted, part);
        for (name, part) in [
            ("min", 0.0),
            ("max", 1.0),
            ("p50", 0.5),
            ("p90", 0.9),
            ("p95", 0.95),
            ("p99", 0.99),
            ("p999", 0.999),
            ("p9999", 0.9999),
        ] {
            set(&format!("state_store_ms/{name}"), at(part));
        }
        all
    }
}

/// Between the two values next to it (`process::Statistics`). `sorted` holds at least one.
fn percentile(sorted: &[f64], part: f64) -> f64 {
    let position = part * (sorted.len() - 1) as f64;
    let below = sorted[position as usize];
    let above = sorted[(position.ceil() as usize).min(sorted.len() - 1)];
    below + (above - below) * position.fract()
}

/// The thread, and the ways to it.
pub(super) struct Journal {
    /// To write.
    pub(super) records: Records,
    /// What came of it.
    pub(super) written: Written,
    /// To ask.
    pub(super) shelf: Shelf,
    /// To wait for its end, when it has let go of the registry.
    pub(super) thread: JoinHandle<()>,
}

/// Starts the thread. `loaded` is what was read, in the time of `fetch`.
pub(super) fn start(
    registry: Box<dyn Registry>,
    loaded: &internal::Registry,
    fetch: Duration,
) -> io::Result<Journal> {
    let (jobs, inbox) = blocking::channel();
    let (results, written) = mpsc::unbounded_channel();
    let sizes = Sizes::of(loaded);
    let stats = Stats {
        fetch,
        bytes: sizes.total,
        ..Stats::default()
    };
    let shelf = Shelf {
        jobs: jobs.clone(),
        stats: Arc::new(Mutex::new(stats)),
    };
    let writer = Writer {
        registry,
        sizes,
        shelf: shelf.clone(),
        results,
    };
    let thread = thread::Builder::new()
        .name("registry".to_owned())
        .spawn(move || writer.run(&inbox))?;
    let records = Records {
        jobs,
        shelf: shelf.clone(),
    };
    Ok(Journal {
        records,
        written,
        shelf,
        thread,
    })
}

/// What the thread owns.
struct Writer {
    registry: Box<dyn Registry>,
    sizes: Sizes,
    shelf: Shelf,
    results: mpsc::UnboundedSender<Result<(), RegistryError>>,
}

impl Writer {
    fn run(mut self, inbox: &blocking::Receiver<Job>) {
        while let Ok(job) = inbox.recv() {
            match job {
                Job::Write(batch) => {
                    let begun = Instant::now();
                    let result = self.registry.apply(&batch);
                    let took = begun.elapsed();
                    self.sizes.apply(&batch);
                    let bytes = self.sizes.total;
                    self.shelf.note(|stats| {
                        stats.wrote(took);
                        stats.bytes = bytes;
                    });
                    if self.results.send(result).is_err() {
                        return;
                    }
                }
                // Whoever asked may have gone.
                Job::Show(answer) => drop(answer.send(self.registry.contents())),
                Job::End => return,
            }
        }
    }
}

/// How big the registry is.
#[derive(Default)]
struct Sizes {
    entries: BTreeMap<Box<str>, usize>,
    total: usize,
}

impl Sizes {
    fn of(registry: &internal::Registry) -> Self {
        let mut sizes = Self::default();
        // It came out of entries: it comes apart again.
        for step in disassemble(registry).unwrap_or_default() {
            sizes.step(step);
        }
        sizes
    }

    fn apply(&mut self, batch: &[RegistryChange]) {
        for step in batch.iter().flat_map(RegistryChange::steps) {
            self.step(step);
        }
    }

    fn step(&mut self, step: Step) {
        let before = match step {
            Step::Put(key, value) => {
                self.total += value.len();
                self.entries.insert(key.into(), value.len())
            }
            Step::Remove(key) => self.entries.remove(key.as_str()),
        };
        self.total -= before.unwrap_or(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_lie_between_values() {
        let values = [1.0, 2.0, 3.0, 4.0, 5.0];
        assert_eq!(percentile(&values, 0.0), 1.0);
        assert_eq!(percentile(&values, 1.0), 5.0);
        assert_eq!(percentile(&values, 0.5), 3.0);
        assert!((percentile(&values, 0.9) - 4.6).abs() < 1e-9);
        assert_eq!(percentile(&[7.0], 0.99), 7.0);
    }

    #[test]
    fn metrics_are_of_the_last_writes() {
        let mut stats = Stats::default();
        assert!(!stats.metrics().contains_key("registrar/state_store_ms"));
        for n in 0..2000 {
            stats.wrote(Duration::from_millis(n));
        }
        let metrics = stats.metrics();
        assert_eq!(metrics["registrar/state_store_ms"], 1999.0);
        assert_eq!(metrics["registrar/state_store_ms/count"], 1000.0);
        assert_eq!(metrics["registrar/state_store_ms/min"], 1000.0);
        assert_eq!(metrics["registrar/state_store_ms/max"], 1999.0);
    }

    #[test]
    fn the_size_follows_the_changes() {
        let admit = |id: &str| {
            let mut follower = internal::registry::Slave::default();
            follower.info.id.get_or_insert_default().value = id.to_owned();
            RegistryChange::AdmitFollower(Box::new(follower))
        };
        let mut sizes = Sizes::default();
        sizes.apply(&[admit("S0"), admit("S1"), admit("S0")]);
        let two = sizes.total;
        sizes.apply(&[RegistryChange::RemoveFollower(
            tepui_model::FollowerId::new("S1"),
        )]);
        assert_eq!(sizes.total * 2, two);
    }
}
