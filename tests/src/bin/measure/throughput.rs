//! Many short tasks through one cluster: none lost, none ended twice, memory flat.

use crate::{
    load::{Failure, Load, cluster, ended, room},
    processes::weigh,
};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};
use tepui_client::{proto::TaskState, scheduler::Event};
use tepui_tests::cluster::Part;

/// Tasks that are on their way at the same time.
const IN_FLIGHT_MAX: usize = 128;

/// A sample of memory after so many ended tasks.
const SAMPLE_EVERY: usize = 1_000;

/// The leader keeps this many completed tasks of a framework, and the follower fewer executors:
/// from then on memory must not grow.
const CACHES_FULL: usize = 1_000;

/// How long after the last end another update is waited for: there must be none.
const AFTERMATH: Duration = Duration::from_secs(2);

/// Runs `tasks` tasks of `true`; fails if one is lost or ends twice.
pub(crate) async fn measure(tasks: usize) -> Result<(), Failure> {
    let cluster = cluster();
    let node = cluster.process(Part::Mixed).id();
    let mut load = Load::start(&cluster).await?;
    let mut ends: BTreeMap<String, usize> = BTreeMap::new();
    let (mut launched, mut samples) = (0, Vec::new());
    let (mut acknowledged, mut failed) = (0_usize, 0_usize);
    let started = Instant::now();
    println!(
        "{:>8}{:>10}{:>12}{:>12}{:>14}",
        "ended", "tasks/s", "node PSS", "node RSS", "launcher PSS"
    );
    let mut last = (0, started);
    while ends.len() < tasks {
        match load.next().await? {
            Event::Offers(offers) => {
                for offer in offers {
                    let free = IN_FLIGHT_MAX - (launched - ends.len());
                    let count = room(&offer).min(free).min(tasks - launched);
                    let infos = (launched..launched + count)
                        .map(|number| load.task(format!("task-{number}"), &offer, "true"))
                        .collect();
                    launched += count;
                    load.launch(offer, infos).await?;
                }
            }
            Event::Update(status) => {
                load.calls.acknowledge(&status).await?;
                acknowledged += 1;
                if !ended(&status) {
                    continue;
                }
                failed += usize::from(status.state() != TaskState::TaskFinished);
                *ends.entry(status.task_id.value).or_default() += 1;
                if ends.len() / SAMPLE_EVERY > samples.len() {
                    let weights = weigh(node);
                    let rate = (ends.len() - last.0) as f64 / last.1.elapsed().as_secs_f64();
                    last = (ends.len(), Instant::now());
                    println!(
                        "{:>8}{rate:>10.0}{:>8} KiB{:>8} KiB{:>10} KiB",
                        ends.len(),
                        weights.node.pss,
                        weights.node.rss,
                        weights.launcher.pss
                    );
                    samples.push((ends.len(), weights.node.pss));
                }
            }
            _ => {}
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    let late = late_updates(&mut load).await?;
    let twice = ends.values().filter(|count| **count != 1).count();
    println!(
        "{tasks} tasks in {seconds:.1} s: {:.0} tasks/s; {acknowledged} updates acknowledged, \
         {} ended, {twice} more than once, {failed} not finished, {late} updates after the last end",
        tasks as f64 / seconds,
        ends.len(),
    );
    growth(&samples);
    if twice + failed + late > 0 {
        return Err("tasks were lost or told of twice".into());
    }
    Ok(())
}

/// Counts updates that come although every task has ended and every update is acknowledged.
async fn late_updates(load: &mut Load) -> Result<usize, Failure> {
    let until = tokio::time::Instant::now() + AFTERMATH;
    let mut late = 0;
    loop {
        match tokio::time::timeout_at(until, load.next()).await {
            Err(_) => return Ok(late),
            Ok(event) => late += usize::from(matches!(event?, Event::Update(_))),
        }
    }
}

fn growth(samples: &[(usize, u64)]) {
    let full: Vec<_> = samples
        .iter()
        .filter(|(ended, _)| *ended >= 2 * CACHES_FULL)
        .collect();
    if let (Some((from, before)), Some((to, after))) = (full.first(), full.last())
        && to > from
    {
        let grown = *after as f64 - *before as f64;
        println!(
            "node PSS from {from} to {to} ended tasks: {grown:+.0} KiB, {:+.3} KiB a task",
            grown / (to - from) as f64
        );
    }
}
