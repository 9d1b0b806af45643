//! Thousands of emulated followers with their tasks lose their leader: how long until the next has all of them again and
//! makes offers, and what that costs, at growing sizes.
//!
//! The leader is killed and started again on its registry, at the same address, so that nothing but the leader's own work
//! and the followers' back-off takes time. Each follower re-registers after a random part of its first back-off.

use crate::{
    leader::{cost, leader, peak, settled},
    load::{Failure, percentile},
};
use serde_json::json;
use std::time::{Duration, Instant};
use tepui_tests::{
    cluster::Part,
    emulator::Emulator,
    http::{Request, send},
    scheduler::Framework,
    wait::{eventually, eventually_some},
};

/// Tasks on each follower.
const TASKS: usize = 10;
/// How long all may take to come back.
const PATIENCE: Duration = Duration::from_secs(300);
/// Followers on an address of their own need two open files each in the leader, and it may have 20,000 here.
const ADDRESSES_MAX: usize = 4_000;
/// Small, so that the leader and not the followers' patience is measured.
const BACKOFF: &str = "--registration_backoff_factor=500ms";
/// How often each size is measured.
const TIMES: usize = 3;

struct Row {
    followers: usize,
    all: f64,
    offers: f64,
    cpu_us: f64,
    kib: f64,
    peak_mib: f64,
}

/// Measures at a tenth of `most`, at a third, and at `most`.
pub(crate) fn measure(most: usize) -> Result<(), Failure> {
    println!(
        "{:>9}{:>9}{:>16}{:>12}{:>14}{:>16}{:>12}",
        "followers",
        "tasks",
        "all are back s",
        "offers s",
        "CPU us each",
        "PSS KiB each",
        "peak MiB"
    );
    let mut rows = Vec::new();
    for followers in [most / 10, most / 3, most] {
        let row = fail_over(followers.max(1))?;
        println!(
            "{:>9}{:>9}{:>16.2}{:>12.2}{:>14.0}{:>16.1}{:>12.0}",
            row.followers,
            row.followers * TASKS,
            row.all,
            row.offers,
            row.cpu_us,
            row.kib,
            row.peak_mib
        );
        rows.push(row);
    }
    if let (Some(first), Some(last)) = (rows.first(), rows.last()) {
        println!(
            "from {} to {} followers: CPU each x {:.2}, PSS each x {:.2}",
            first.followers,
            last.followers,
            last.cpu_us / first.cpu_us,
            last.kib / first.kib
        );
    }
    Ok(())
}

/// The median of some times.
fn fail_over(followers: usize) -> Result<Row, Failure> {
    let mut cluster = leader(&[]);
    let empty = cost(&cluster);
    let per_address = format!("--per_address={}", followers.div_ceil(ADDRESSES_MAX));
    let running = format!("--running={TASKS}");
    let flags = [per_address.as_str(), &running, BACKOFF];
    let emulator = Emulator::start(cluster.leader, followers, &flags);
    emulator.all_registered(PATIENCE);
    settled(&cluster, followers)?;
    let (mut all, mut offers, mut cpu) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..TIMES {
        cluster.kill(Part::Leader);
        // It is known to all that nobody leads before the next one comes.
        emulator.wait("end of all", PATIENCE, |said| said["registered"] == 0);
        cluster.restart(Part::Leader);
        let address = cluster.leader;
        let serves =
            || send(address, &Request::get("/health")).is_ok_and(|answer| answer.status == 200);
        if !eventually(PATIENCE, serves) {
            return Err(format!("no leader\n{}", cluster.logs()).into());
        }
        let started = Instant::now();
        let info = json!({
            "user": "root", "name": "measure", "roles": ["*"],
            "capabilities": [{"type": "MULTI_ROLE"}],
        });
        let mut framework = Framework::subscribe_with(
            address,
            &json!({"type": "SUBSCRIBE", "subscribe": {"framework_info": info}}),
        );
        let offered = framework.wait_within(PATIENCE, "OFFERS", |_| true);
        offered.ok_or("no offers")?;
        offers.push(started.elapsed().as_secs_f64());
        let back = eventually_some(PATIENCE, || {
            let metrics = cluster.json("/metrics/snapshot");
            let count = metrics["master/slaves_active"].as_f64().unwrap_or(0.0);
            (count >= followers as f64).then(|| started.elapsed().as_secs_f64())
        });
        all.push(back.ok_or_else(|| format!("not all came back: {}", emulator.last()))?);
        settled(&cluster, followers)?;
        let tasks = cluster.json("/metrics/snapshot")["master/tasks_running"]
            .as_f64()
            .unwrap_or(0.0);
        if tasks != (followers * TASKS) as f64 {
            return Err(format!("{tasks} tasks came back").into());
        }
        // Its start is in it too; that of one without followers takes some milliseconds.
        cpu.push((cost(&cluster).cpu - empty.cpu) / followers as f64 * 1e6);
    }
    for values in [&mut all, &mut offers, &mut cpu] {
        values.sort_by(f64::total_cmp);
    }
    let pss = cost(&cluster).pss;
    let row = Row {
        followers,
        all: percentile(&all, 50),
        offers: percentile(&offers, 50),
        cpu_us: percentile(&cpu, 50),
        kib: (pss - empty.pss) as f64 / followers as f64,
        peak_mib: peak(&cluster) as f64 / 1024.0,
    };
    emulator.stop();
    Ok(row)
}
