//! What all nodes share: time, the queue of events, connections, machines, ZooKeeper, the checker.

use crate::{
    check::Checker,
    event::{Event, Host},
    network::Network,
    processes::Machine,
    zookeeper::ZooKeeper,
};
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    hash::Hasher,
    time::Duration,
};
use tepui_model::{Rng, Time};

/// When every simulation begins.
pub(crate) const BEGIN: Time = Time::from_nanos(1_700_000_000_000_000_000);

/// Whether a process runs, and by which clock.
#[derive(Debug, Default)]
pub(crate) struct HostState {
    pub(crate) up: bool,
    /// Counts starts: what was meant for an earlier one is lost.
    pub(crate) boot: u32,
    /// Stopped, as by SIGSTOP, until then.
    pub(crate) paused: Option<Time>,
    /// What came meanwhile, in order.
    pub(crate) waiting: Vec<Event>,
    /// What its clock shows more than the true time, in nanoseconds.
    pub(crate) offset: i64,
    /// Its next wake-up.
    pub(crate) wake: Option<Time>,
}

struct Entry {
    at: Time,
    tie: u64,
    number: u64,
    event: Event,
}

impl Entry {
    fn key(&self) -> (Time, u64, u64) {
        (self.at, self.tie, self.number)
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}
impl Eq for Entry {}
impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

pub(crate) struct Env {
    pub(crate) now: Time,
    pub(crate) rng: Rng,
    queue: BinaryHeap<Reverse<Entry>>,
    number: u64,
    pub(crate) hosts: BTreeMap<Host, HostState>,
    pub(crate) network: Network,
    pub(crate) machines: Vec<Machine>,
    pub(crate) zookeeper: ZooKeeper,
    pub(crate) checker: Checker,
    pub(crate) hash: rustc_hash::FxHasher,
    pub(crate) tracing: bool,
    /// Every how many steps a core checks itself.
    pub(crate) check_every: u64,
    pub(crate) steps: u64,
}

impl Env {
    pub(crate) fn new(mut rng: Rng, tracing: bool, check_every: u64) -> Self {
        Self {
            now: BEGIN,
            queue: BinaryHeap::new(),
            number: 0,
            hosts: BTreeMap::new(),
            network: Network::new(rng.child()),
            machines: Vec::new(),
            zookeeper: ZooKeeper::default(),
            checker: Checker::default(),
            hash: rustc_hash::FxHasher::default(),
            tracing,
            check_every,
            steps: 0,
            rng,
        }
    }

    /// What happens at the same moment happens in an order that the seed decides.
    pub(crate) fn at(&mut self, at: Time, event: Event) {
        let tie = self.rng.below(u64::MAX);
        self.push(at, tie, event);
    }

    pub(crate) fn after(&mut self, wait: Duration, event: Event) {
        self.at(self.now + wait, event);
    }

    /// After everything that was put at that moment like this before.
    pub(crate) fn in_order(&mut self, at: Time, event: Event) {
        self.push(at, 0, event);
    }

    fn push(&mut self, at: Time, tie: u64, event: Event) {
        self.number += 1;
        let at = at.max(self.now);
        let number = self.number;
        self.queue.push(Reverse(Entry {
            at,
            tie,
            number,
            event,
        }));
    }

    pub(crate) fn pop(&mut self) -> Option<Event> {
        let Reverse(entry) = self.queue.pop()?;
        self.now = entry.at;
        Some(entry.event)
    }

    pub(crate) fn host_mut(&mut self, host: Host) -> &mut HostState {
        self.hosts.entry(host).or_default()
    }

    pub(crate) fn up(&self, host: Host) -> bool {
        self.hosts.get(&host).is_some_and(|state| state.up)
    }

    pub(crate) fn boot(&self, host: Host) -> u32 {
        self.hosts.get(&host).map_or(0, |state| state.boot)
    }

    /// What a node's clock shows.
    pub(crate) fn clock(&self, host: Host) -> Time {
        let offset = self.hosts.get(&host).map_or(0, |state| state.offset);
        Time::from_nanos(self.now.nanos().saturating_add_signed(offset))
    }

    /// Wakes a node when its clock shows `deadline`.
    pub(crate) fn wake(&mut self, host: Host, deadline: Option<Time>) {
        let Some(deadline) = deadline else {
            return;
        };
        let offset = self.host_mut(host).offset;
        // A shell's timer fires a little late, never early.
        let late = Duration::from_micros(self.rng.below(500));
        let at = Time::from_nanos(deadline.nanos().saturating_add_signed(-offset));
        let at = at.max(self.now) + late;
        let state = self.host_mut(host);
        if state.wake.is_some_and(|wake| wake <= at) {
            return;
        }
        state.wake = Some(at);
        self.at(at, Event::Wake { host, at });
    }

    /// A duration between two.
    pub(crate) fn between(&mut self, least: Duration, most: Duration) -> Duration {
        between(&mut self.rng, least, most)
    }

    pub(crate) fn chance(&mut self, share: f64) -> bool {
        self.rng.unit() < share
    }

    /// Enters something into the hash by which runs are compared.
    pub(crate) fn mark(&mut self, what: &str, number: u64) {
        self.hash.write(what.as_bytes());
        self.hash.write_u64(number);
        self.hash.write_u64(self.now.nanos());
    }

    pub(crate) fn trace(&self, text: impl FnOnce() -> String) {
        if self.tracing {
            let seconds = self.now.since(BEGIN).as_secs_f64();
            eprintln!("{seconds:11.6} {}", text());
        }
    }

    /// Whether it is time for cores to check themselves.
    pub(crate) fn checks(&mut self) -> bool {
        self.steps += 1;
        self.steps.is_multiple_of(self.check_every)
    }
}

pub(crate) fn between(rng: &mut Rng, least: Duration, most: Duration) -> Duration {
    let span = most.saturating_sub(least).as_nanos() as u64;
    least + Duration::from_nanos(rng.below(span.max(1)))
}
