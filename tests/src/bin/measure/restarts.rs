//! A follower is killed and started again, round after round, while tasks come and go: long ones must live through all of
//! it, every end must be told once, and the follower must not grow.

use crate::{
    load::{Failure, Load, ended, percentile, room},
    processes::weigh,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};
use tepui_client::{
    proto::{FrameworkInfo, TaskId, TaskState, TaskStatus, framework_info},
    scheduler::Event,
};
use tepui_tests::cluster::{Cluster, Part};

/// Tasks that run from the first round to the last.
const LONG: usize = 20;

/// Short tasks that are on their way at the same time.
const IN_FLIGHT_MAX: usize = 40;

/// What a short task does.
const SHORT: &str = "sleep 0.$((RANDOM % 9))";

/// Shortest and longest time between two kills: some hit a follower that is still coming back.
const BETWEEN_KILLS_MS: (u64, u64) = (150, 2_500);

/// How long a round waits for a follower to be back, where it does.
const BACK_MAX: Duration = Duration::from_secs(20);

/// How long the last ends may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// What has been told so far.
#[derive(Default)]
struct Told {
    /// State and identity of the end of each task.
    ends: BTreeMap<String, (TaskState, Vec<u8>)>,
    /// Tasks that have been told to run.
    ran: BTreeSet<String>,
    /// Tasks that were told to have ended otherwise before.
    twice: Vec<String>,
    /// The same update once more: it is sent until it is acknowledged.
    repeated: usize,
    /// How many ended otherwise than well, and what was said of it.
    reasons: BTreeMap<String, usize>,
}

impl Told {
    fn hear(&mut self, status: &TaskStatus) {
        let task = status.task_id.value.clone();
        // Not an end: a machine that is too busy may keep its follower away for long.
        if status.state() == TaskState::TaskUnreachable {
            return;
        }
        if !ended(status) {
            self.ran.insert(task);
            return;
        }
        let uuid = status.uuid.clone().unwrap_or_default().to_vec();
        match self.ends.get(&task) {
            None => {
                if status.state() != TaskState::TaskFinished {
                    let (state, reason) = (status.state().as_str_name(), status.reason());
                    // What comes after it differs from one to the next.
                    let kind = status.message().split(':').next().unwrap_or_default();
                    let why = format!("{state} {} {kind}", reason.as_str_name());
                    *self.reasons.entry(why).or_default() += 1;
                }
                self.ends.insert(task, (status.state(), uuid));
            }
            Some((_, known)) if *known == uuid => self.repeated += 1,
            Some((state, _)) => {
                let (before, now) = (state.as_str_name(), status.state().as_str_name());
                let (reason, message) = (status.reason().as_str_name(), status.message());
                self.twice
                    .push(format!("{task}: {before}, then {now} {reason} {message}"));
            }
        }
    }
    fn count(&self, state: TaskState) -> usize {
        self.ends.values().filter(|(s, _)| *s == state).count()
    }
}

/// Runs `rounds` rounds; fails if a task is lost, fails, or is told to have ended twice.
pub(crate) async fn measure(rounds: usize) -> Result<(), Failure> {
    let mut cluster = Cluster::builder()
        .apart()
        .follower_flag(
            "resources",
            "cpus:64;mem:65536;disk:65536;ports:[31000-32000]",
        )
        .follower_flag("registration_backoff_factor", "50ms")
        .follower_flag("gc_delay", "10secs")
        .start();
    let capability = framework_info::Capability {
        r#type: Some(framework_info::capability::Type::PartitionAware.into()),
    };
    let framework = FrameworkInfo {
        user: "root".to_owned(),
        name: "restarts".to_owned(),
        checkpoint: Some(true),
        capabilities: vec![capability],
        ..Default::default()
    };
    let mut load = Load::start_as(&cluster, framework).await?;
    let mut told = Told::default();
    let (mut launched, mut done, mut random) = (0_usize, 0_usize, 0x2545_f491_4f6c_dd1d_u64);
    let (mut back, mut sizes) = (Vec::new(), Vec::new());
    let mut restarted: Option<Instant> = None;
    let mut next_kill = Instant::now() + Duration::from_secs(2);
    let started = Instant::now();
    let mut killing = false;
    let mut until = None;
    loop {
        let over = done == rounds;
        let short_ones = (LONG..launched).map(|number| format!("task-{number}"));
        if over
            && !killing
            && short_ones
                .into_iter()
                .all(|task| told.ends.contains_key(&task))
        {
            // Nothing but the long ones is left.
            killing = true;
            for number in 0..LONG {
                let task = format!("task-{number}");
                if !told.ends.contains_key(&task) {
                    load.calls.kill(TaskId { value: task }, None, None).await?;
                }
            }
        }
        if killing && told.ends.len() == launched {
            break;
        }
        if over && Instant::now() > *until.get_or_insert(Instant::now() + PATIENCE) {
            let silent = (0..launched).map(|number| format!("task-{number}"));
            let silent: Vec<_> = silent
                .filter(|task| !told.ends.contains_key(task))
                .collect();
            println!("{}", cluster.logs());
            return Err(format!("nobody says how these ended: {silent:?}").into());
        }
        let wait = if over {
            PATIENCE
        } else {
            next_kill.saturating_duration_since(Instant::now())
        };
        // Events that never cease must not keep the follower alive.
        let due = !over && wait.is_zero();
        let event = match due {
            true => None,
            false => tokio::time::timeout(wait, load.scheduler.next()).await.ok(),
        };
        let event = match event {
            Some(event) => event?,
            None if over => continue,
            // Most rounds let the follower come back first; the others hit it on its way.
            None if restarted.is_some_and(|at| at.elapsed() < BACK_MAX) && done % 4 != 0 => {
                next_kill = Instant::now() + Duration::from_millis(BETWEEN_KILLS_MS.0);
                continue;
            }
            None => {
                let follower = cluster.process(Part::Follower).id();
                sizes.push(weigh(follower).node.pss);
                cluster.kill(Part::Follower);
                cluster.restart(Part::Follower);
                restarted = Some(Instant::now());
                done += 1;
                random = random
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                let (least, most) = BETWEEN_KILLS_MS;
                let pause = least + (random >> 33) % (most - least);
                next_kill = Instant::now() + Duration::from_millis(pause);
                continue;
            }
        };
        match event {
            Event::Offers(offers) => {
                back.extend(restarted.take().map(|at| at.elapsed().as_secs_f64()));
                for offer in offers {
                    let open = launched - told.ends.len();
                    let free = (LONG + IN_FLIGHT_MAX).saturating_sub(open);
                    let count = if over { 0 } else { room(&offer).min(free) };
                    let infos = (launched..launched + count).map(|number| {
                        let command = if number < LONG {
                            "exec sleep 36000"
                        } else {
                            SHORT
                        };
                        load.task(format!("task-{number}"), &offer, command)
                    });
                    let infos = infos.collect();
                    launched += count;
                    load.launch(offer, infos).await?;
                }
            }
            Event::Update(status) => {
                load.calls.acknowledge(&status).await?;
                told.hear(&status);
            }
            Event::Disconnected { reason } => return Err(format!("disconnected: {reason}").into()),
            _ => {}
        }
    }
    report(&told, launched, done, started.elapsed(), back, &sizes)
}

fn report(
    told: &Told,
    launched: usize,
    rounds: usize,
    took: Duration,
    mut back: Vec<f64>,
    sizes: &[u64],
) -> Result<(), Failure> {
    let finished = told.count(TaskState::TaskFinished);
    let killed = told.count(TaskState::TaskKilled);
    let never_ran = |task: &String, state: TaskState| {
        let dropped = [
            TaskState::TaskDropped,
            TaskState::TaskLost,
            TaskState::TaskError,
        ];
        dropped.contains(&state) && !told.ran.contains(task)
    };
    let dropped = told
        .ends
        .iter()
        .filter(|(task, (state, _))| never_ran(task, *state));
    let dropped = dropped.count();
    let others: Vec<_> = told
        .ends
        .iter()
        .filter(|(task, (state, _))| {
            let fine = [TaskState::TaskFinished, TaskState::TaskKilled].contains(state);
            !fine && !never_ran(task, *state)
        })
        .collect();
    back.sort_by(f64::total_cmp);
    println!(
        "{rounds} rounds in {:.0} s: {launched} tasks, {finished} finished, {killed} killed at the end, {dropped} dropped before \
         they ran, {} otherwise, {} told to have ended twice, {} updates repeated",
        took.as_secs_f64(),
        others.len(),
        told.twice.len(),
        told.repeated,
    );
    for (why, count) in &told.reasons {
        println!("{count} times {why}");
    }
    println!(
        "offers after a restart: median {:.2} s, longest {:.2} s",
        percentile(&back, 50),
        percentile(&back, 100)
    );
    let tenth = (sizes.len() / 10).max(1);
    let mean = |part: &[u64]| part.iter().sum::<u64>() / part.len().max(1) as u64;
    println!(
        "the follower's PSS before it was killed: {} KiB in the first tenth of the rounds, {} KiB in the last",
        mean(&sizes[..tenth.min(sizes.len())]),
        mean(&sizes[sizes.len().saturating_sub(tenth)..])
    );
    if others.is_empty() && told.twice.is_empty() && killed == LONG.min(launched) {
        return Ok(());
    }
    Err(format!(
        "tasks were lost or told of twice: {others:?} {:?}",
        told.twice
    )
    .into())
}
