//! A leader by itself, and what it costs: processor time, memory, open files.

use crate::{load::Failure, processes::weigh};
use std::{fs, time::Duration};
use tepui_tests::{
    cluster::{Cluster, Part},
    wait::eventually,
};

/// How long the leader may take to get through what it was sent.
const SETTLE: Duration = Duration::from_secs(120);

/// Ticks of `/proc/PID/stat` per second: fixed by the kernel's interface to programs.
const TICKS_PER_SECOND: f64 = 100.0;

/// A leader without a follower of its own; flags are `(name, value)`.
pub(crate) fn leader(flags: &[(&str, &str)]) -> Cluster {
    let mut builder = Cluster::builder().only(Part::Leader);
    for (name, value) in flags {
        builder = builder.flag(name, value);
    }
    builder.start()
}

/// What a leader has cost so far.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cost {
    /// User and system time of all its threads, in seconds.
    pub(crate) cpu: f64,
    /// KiB.
    pub(crate) pss: u64,
    /// Open files.
    pub(crate) files: usize,
}

/// Reads it from `/proc`.
pub(crate) fn cost(cluster: &Cluster) -> Cost {
    let id = cluster.process(Part::Leader).id();
    Cost {
        cpu: processor(id),
        pss: weigh(id).node.pss,
        files: fs::read_dir(format!("/proc/{id}/fd")).map_or(0, Iterator::count),
    }
}

/// User and system time of a process so far, in seconds.
pub(crate) fn processor(id: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    // After the name, which may hold anything, utime and stime are the 12th and 13th.
    let fields = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace();
    let ticks: f64 = fields
        .skip(11)
        .take(2)
        .filter_map(|text| text.parse::<f64>().ok())
        .sum();
    ticks / TICKS_PER_SECOND
}

/// The most memory it ever had resident, in KiB.
pub(crate) fn peak(cluster: &Cluster) -> u64 {
    let id = cluster.process(Part::Leader).id();
    let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    number.and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// Waits until the leader has handled the last message of so many registrations.
pub(crate) fn settled(cluster: &Cluster, followers: usize) -> Result<(), Failure> {
    let counted = |name: &str| {
        cluster.json("/metrics/snapshot")[name]
            .as_f64()
            .unwrap_or(0.0)
    };
    // Each sends one once it is registered.
    let done = || counted("master/messages_update_slave") >= followers as f64;
    if eventually(SETTLE, done) {
        return Ok(());
    }
    Err(format!("the leader has not heard from all {followers} followers after {SETTLE:?}").into())
}
