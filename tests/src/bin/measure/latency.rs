//! From ACCEPT to TASK_RUNNING, for one task at a time.
//!
//! Stages are told apart by the time stamps that the follower puts into its updates, so their sum is
//! not exactly the whole.

use crate::load::{Failure, Load, cluster, ended, percentile};
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use tepui_client::{proto::TaskState, scheduler::Event};

/// Milliseconds of one task.
#[derive(Default)]
struct Times {
    /// ACCEPT sent to TASK_RUNNING heard.
    whole: f64,
    /// ACCEPT sent to TASK_STARTING made on the follower: both cores, one link.
    to_follower: f64,
    /// TASK_STARTING made to TASK_RUNNING made: sandbox, init, command.
    container: f64,
    /// TASK_RUNNING made to TASK_RUNNING heard: the way back.
    back: f64,
}

/// Runs `tasks` tasks, each after the end of the one before, and prints percentiles.
pub(crate) async fn measure(tasks: usize) -> Result<(), Failure> {
    let cluster = cluster();
    let mut load = Load::start(&cluster).await?;
    let mut all = Vec::with_capacity(tasks);
    for number in 0..tasks {
        all.push(one(&mut load, number).await?);
    }
    println!("ACCEPT to TASK_RUNNING over {tasks} command tasks, one after the other (ms)");
    println!("{:<34}{:>8}{:>8}{:>8}", "", "p50", "p99", "max");
    row("ACCEPT -> TASK_RUNNING", &all, |times| times.whole);
    row("  leader and follower", &all, |times| times.to_follower);
    row("  sandbox, init and command", &all, |times| times.container);
    row("  the update's way back", &all, |times| times.back);
    Ok(())
}

fn row(name: &str, all: &[Times], value: impl Fn(&Times) -> f64) {
    let mut values: Vec<f64> = all.iter().map(value).collect();
    values.sort_by(f64::total_cmp);
    let (p50, p99, max) = (
        percentile(&values, 50),
        percentile(&values, 99),
        percentile(&values, 100),
    );
    println!("{name:<34}{p50:>8.2}{p99:>8.2}{max:>8.2}");
}

async fn one(load: &mut Load, number: usize) -> Result<Times, Failure> {
    let id = format!("task-{number}");
    let mut accepted: Option<(Instant, f64)> = None;
    let mut starting = 0.0;
    let mut times = Times::default();
    loop {
        match load.next().await? {
            Event::Offers(offers) => {
                for offer in offers {
                    let tasks = match accepted {
                        Some(_) => Vec::new(),
                        None => vec![load.task(id.clone(), &offer, "true")],
                    };
                    if !tasks.is_empty() {
                        accepted = Some((Instant::now(), wall_clock()));
                    }
                    load.launch(offer, tasks).await?;
                }
            }
            Event::Update(status) => {
                let heard = (Instant::now(), wall_clock());
                load.calls.acknowledge(&status).await?;
                let made = status.timestamp.unwrap_or_default();
                match (status.state(), accepted) {
                    (TaskState::TaskStarting, _) => starting = made,
                    (TaskState::TaskRunning, Some((at, wall))) => {
                        times = Times {
                            whole: (heard.0 - at).as_secs_f64() * 1e3,
                            to_follower: (starting - wall) * 1e3,
                            container: (made - starting) * 1e3,
                            back: (heard.1 - made) * 1e3,
                        };
                    }
                    (TaskState::TaskFinished, _) => return Ok(times),
                    _ if ended(&status) => {
                        return Err(format!("{id} did not run: {status:?}").into());
                    }
                    _ => {}
                }
            }
            _ => {}
        }
    }
}

fn wall_clock() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0.0, |since| since.as_secs_f64())
}
