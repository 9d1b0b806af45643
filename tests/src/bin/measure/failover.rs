//! Thousands of emulated followers with their tasks lose their leader: how long until the next has all of them again and
//! makes offers, and what that costs, at growing sizes.
//!
//! The leader is killed and started again on its registry, at the same address. Time counts from the moment its process is
//! started, so reading the registry is in it. Followers hear of the new leader as soon as it listens, as through ZooKeeper, and
//! each re-registers after a random part of its first back-off, which is the default of one second. All of them share the
//! machine with the leader, so what they and this program take of the processors is told too.

use crate::{
    leader::{cost, leader, peak, processor, settled},
    load::{Failure, percentile},
};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tepui_tests::{
    cluster::Part,
    emulator::Emulator,
    http::{Request, send},
    scheduler::Framework,
    wait::eventually,
};

/// Tasks on each follower.
const TASKS: usize = 10;
/// How long all may take to come back.
const PATIENCE: Duration = Duration::from_secs(300);
/// Followers on an address of their own need two open files each in the leader, and it may have 20,000 here. The same number of
/// them is on an address at every size, so that sizes compare.
const ADDRESSES_MAX: usize = 9_000;
/// How often each size is measured.
const TIMES: usize = 3;

/// What one size came to: medians.
struct Row {
    followers: usize,
    listens: f64,
    all: f64,
    offers: f64,
    /// Of processor time, in us a follower.
    leader_us: f64,
    followers_us: f64,
    attempts: f64,
    kib: f64,
    peak_mib: f64,
}

/// Measures at a tenth of `most`, at a third, and at `most`.
pub(crate) fn measure(most: usize) -> Result<(), Failure> {
    let per_address = most.div_ceil(ADDRESSES_MAX).max(1);
    println!(
        "{TASKS} tasks on each follower, {per_address} followers on an address; seconds from the start of the leader's process"
    );
    println!(
        "{:>9}{:>9}{:>11}{:>11}{:>11}{:>16}{:>18}{:>10}{:>14}{:>10}",
        "followers",
        "tasks",
        "listens s",
        "offers s",
        "all back s",
        "leader us each",
        "followers us each",
        "attempts",
        "PSS KiB each",
        "peak MiB"
    );
    let mut rows = Vec::new();
    for followers in [most / 10, most / 3, most] {
        let row = fail_over(followers.max(1), per_address)?;
        println!(
            "{:>9}{:>9}{:>11.2}{:>11.2}{:>11.2}{:>16.0}{:>18.0}{:>10.2}{:>14.1}{:>10.0}",
            row.followers,
            row.followers * TASKS,
            row.listens,
            row.offers,
            row.all,
            row.leader_us,
            row.followers_us,
            row.attempts,
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
            last.leader_us / first.leader_us,
            last.kib / first.kib
        );
    }
    Ok(())
}

fn fail_over(followers: usize, per_address: usize) -> Result<Row, Failure> {
    let mut cluster = leader(&[]);
    let empty = cost(&cluster);
    let per_address = format!("--per_address={per_address}");
    let running = format!("--running={TASKS}");
    let flags = [per_address.as_str(), &running];
    let emulator = Emulator::start(cluster.leader, followers, &flags);
    emulator.all_registered(PATIENCE);
    settled(&cluster, followers)?;
    let attempts_of = |said: &Value| said["attempts"].as_f64().unwrap_or(f64::NAN);
    let mut times: [Vec<f64>; 6] = Default::default();
    for _ in 0..TIMES {
        cluster.kill(Part::Leader);
        // It is known to all that nobody leads before the next one comes.
        let before = emulator.wait("end of all", PATIENCE, |said| said["registered"] == 0);
        let emulated = processor(emulator.id());
        let started = Instant::now();
        cluster.restart(Part::Leader);
        let address = cluster.leader;
        let serves =
            || send(address, &Request::get("/health")).is_ok_and(|answer| answer.status == 200);
        if !eventually(PATIENCE, serves) {
            return Err(format!("no leader\n{}", cluster.logs()).into());
        }
        let listens = started.elapsed().as_secs_f64();
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
        let offers = started.elapsed().as_secs_f64();
        // They say so every tenth of a second; to ask the leader would cost what is measured.
        let after = emulator.wait("return of all", PATIENCE, |said| {
            said["registered"] == followers
        });
        let all = started.elapsed().as_secs_f64();
        settled(&cluster, followers)?;
        let tasks = cluster.json("/metrics/snapshot")["master/tasks_running"]
            .as_f64()
            .unwrap_or(0.0);
        if tasks != (followers * TASKS) as f64 {
            return Err(format!("{tasks} tasks came back").into());
        }
        let each = |seconds: f64| seconds / followers as f64 * 1e6;
        // Its start is in it too; that of one without followers takes some milliseconds.
        let leader_us = each(cost(&cluster).cpu - empty.cpu);
        let followers_us = each(processor(emulator.id()) - emulated);
        let attempts = (attempts_of(&after) - attempts_of(&before)) / followers as f64;
        let values = [listens, offers, all, leader_us, followers_us, attempts];
        for (all, value) in times.iter_mut().zip(values) {
            all.push(value);
        }
    }
    let [listens, offers, all, leader_us, followers_us, attempts] = times.map(|mut values| {
        values.sort_by(f64::total_cmp);
        percentile(&values, 50)
    });
    let pss = cost(&cluster).pss;
    let row = Row {
        followers,
        listens,
        all,
        offers,
        leader_us,
        followers_us,
        attempts,
        kib: (pss - empty.pss) as f64 / followers as f64,
        peak_mib: peak(&cluster) as f64 / 1024.0,
    };
    emulator.stop();
    Ok(row)
}
