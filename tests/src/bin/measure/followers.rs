//! Thousands of emulated followers against one leader: how long until all are registered, and what
//! each costs the leader, at growing sizes; then messages per second in steady traffic.
//!
//! Once they come as fast as [`RATE`] says, as followers do that start at different times: what each
//! costs then is the cost of one registration. And once all at the same moment, where many ask again
//! before they are answered.

use crate::{
    leader::{Cost, cost, leader, settled},
    load::{Failure, Load, ended, room},
};
use std::time::{Duration, Instant};
use tepui_client::{proto::TaskState, scheduler::Event};
use tepui_tests::{cluster::Cluster, emulator::Emulator};

/// How long all may take to register.
const PATIENCE: Duration = Duration::from_secs(300);

/// Followers per second that begin to register, where they do not all at once.
const RATE: &str = "--rate=1000";

/// How long steady traffic is watched.
const WATCH: Duration = Duration::from_secs(10);

/// Followers on an address of their own need two open files each in the leader, and it may have 20,000 here.
const ADDRESSES_MAX: usize = 9_000;

/// What one size showed.
struct Row {
    followers: usize,
    per_address: usize,
    seconds: f64,
    attempts: u64,
    cpu_ms: f64,
    kib: f64,
    files: usize,
}

impl Row {
    fn cpu_an_attempt(&self) -> f64 {
        self.cpu_ms * self.followers as f64 / self.attempts as f64
    }
}

/// Measures at 1,000 followers, 3,000, 9,000 and so on up to `most`.
pub(crate) async fn measure(most: usize) -> Result<(), Failure> {
    let mut sizes: Vec<usize> = [1_000, 3_000, 9_000]
        .into_iter()
        .filter(|size| *size < most)
        .collect();
    sizes.push(most);
    for (how, flags) in [("1,000 a second", &[RATE][..]), ("all at once", &[][..])] {
        println!(
            "{how}\n{:>9}{:>12}{:>14}{:>10}{:>16}{:>16}{:>12}",
            "followers",
            "per address",
            "registered s",
            "attempts",
            "CPU ms each",
            "PSS KiB each",
            "open files"
        );
        let mut rows = Vec::new();
        for followers in &sizes {
            let row = register(*followers, flags)?;
            println!(
                "{:>9}{:>12}{:>14.2}{:>10}{:>16.3}{:>16.1}{:>12}",
                row.followers,
                row.per_address,
                row.seconds,
                row.attempts,
                row.cpu_ms,
                row.kib,
                row.files
            );
            rows.push(row);
        }
        if let (Some(first), Some(last)) = (rows.first(), rows.last()) {
            println!(
                "from {} to {} followers: CPU each x {:.2}, CPU an attempt x {:.2}, PSS each x {:.2}",
                first.followers,
                last.followers,
                last.cpu_ms / first.cpu_ms,
                last.cpu_an_attempt() / first.cpu_an_attempt(),
                last.kib / first.kib,
            );
        }
    }
    // A second for each thousand: it is the followers that lose count first, on the same processors.
    pings(1_000.min(most), "1secs")?;
    pings(ADDRESSES_MAX.min(most), "5secs")?;
    updates(1_000.min(most), 20_000).await
}

fn per_address(followers: usize) -> usize {
    followers.div_ceil(ADDRESSES_MAX)
}

fn emulate(leader: &Cluster, followers: usize, flags: &[&str]) -> Emulator {
    let shared = format!("--per_address={}", per_address(followers));
    let all: Vec<&str> = flags.iter().copied().chain([shared.as_str()]).collect();
    Emulator::start(leader.leader, followers, &all)
}

fn register(followers: usize, flags: &[&str]) -> Result<Row, Failure> {
    let leader = leader(&[]);
    let before = cost(&leader);
    let emulator = emulate(&leader, followers, flags);
    let seconds = emulator.all_registered(PATIENCE);
    settled(&leader, followers)?;
    let after = cost(&leader);
    let each = |of: fn(&Cost) -> f64| (of(&after) - of(&before)) / followers as f64;
    let report = emulator.stop();
    Ok(Row {
        followers,
        per_address: per_address(followers),
        seconds,
        attempts: report["attempts"].as_u64().unwrap_or(0),
        cpu_ms: each(|cost| cost.cpu) * 1e3,
        kib: each(|cost| cost.pss as f64),
        files: after.files,
    })
}

/// Nothing but pings, one to each every `period`.
fn pings(followers: usize, period: &str) -> Result<(), Failure> {
    let leader = leader(&[("agent_ping_timeout", period)]);
    let emulator = emulate(&leader, followers, &[RATE]);
    emulator.all_registered(PATIENCE);
    settled(&leader, followers)?;
    // From one report of the emulator to another.
    let elapsed = |said: &serde_json::Value| said["elapsed_secs"].as_f64().unwrap_or(0.0);
    let (first, cpu) = (emulator.last(), cost(&leader).cpu);
    let until = elapsed(&first) + WATCH.as_secs_f64();
    let last = emulator.wait("report", 3 * WATCH, |said| elapsed(said) >= until);
    let (cpu, seconds) = (cost(&leader).cpu - cpu, elapsed(&last) - elapsed(&first));
    let between =
        |name: &str| last[name].as_f64().unwrap_or(0.0) - first[name].as_f64().unwrap_or(0.0);
    let messages = between("messages_in") + between("messages_out");
    println!(
        "pings every {period} to {followers}: {:.0} messages/s, {:.1} us of the leader's CPU each, {:.0} % of one processor; {} lost links",
        messages / seconds,
        cpu / messages * 1e6,
        cpu / seconds * 100.0,
        between("links_broken"),
    );
    if last["registered"] != followers as u64 {
        return Err(format!("followers were lost: {last}").into());
    }
    Ok(())
}

/// Tasks that end at once: three updates each, each acknowledged.
async fn updates(followers: usize, tasks: usize) -> Result<(), Failure> {
    let leader = leader(&[]);
    let emulator = emulate(&leader, followers, &["--task_duration=0secs"]);
    emulator.all_registered(PATIENCE);
    let mut load = Load::start(&leader).await?;
    let (cpu, started) = (cost(&leader).cpu, Instant::now());
    let (mut launched, mut done) = (0, 0);
    while done < tasks {
        match load.next().await? {
            Event::Offers(offers) => {
                for offer in offers {
                    // Spread over the followers, as a cluster's tasks are.
                    let count = room(&offer).min(8).min(tasks - launched);
                    let infos = (launched..launched + count)
                        .map(|number| load.task(format!("task-{number}"), &offer, "true"))
                        .collect();
                    launched += count;
                    load.launch(offer, infos).await?;
                }
            }
            Event::Update(status) => {
                load.calls.acknowledge(&status).await?;
                if ended(&status) {
                    done += 1;
                    if status.state() != TaskState::TaskFinished {
                        return Err(format!("a task was lost: {status:?}").into());
                    }
                }
            }
            _ => {}
        }
    }
    let (seconds, cpu) = (started.elapsed().as_secs_f64(), cost(&leader).cpu - cpu);
    let report = emulator.stop();
    println!(
        "{tasks} tasks that end at once on {followers}: {:.0} tasks/s, {:.0} status updates/s, {:.2} ms of the leader's CPU a task; {} updates sent again",
        tasks as f64 / seconds,
        report["acknowledgements"].as_f64().unwrap_or(0.0) / seconds,
        cpu / tasks as f64 * 1e3,
        report["updates_repeated"],
    );
    Ok(())
}
