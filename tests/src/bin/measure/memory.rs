//! What a running task adds to the memory of our own processes.

use crate::{
    load::{Failure, Load, cluster, ended, room},
    processes::{Weight, Weights, weigh},
};
use std::collections::BTreeSet;
use tepui_client::{proto::TaskState, scheduler::Event};
use tepui_tests::cluster::{Cluster, Part};

/// Tasks that run and end first, so that what the first task ever costs is not counted.
const WARM_UP: usize = 20;

/// Weighs before and with `tasks` tasks that sleep, and prints the difference per task.
pub(crate) async fn measure(tasks: usize) -> Result<(), Failure> {
    let cluster = cluster();
    let node = cluster.process(Part::Mixed).id();
    let mut load = Load::start(&cluster).await?;
    run(&mut load, "warm", "true", WARM_UP, true).await?;
    let before = settled(node, &cluster, 0)?;
    run(&mut load, "sleep", "sleep 3600", tasks, false).await?;
    let with = settled(node, &cluster, tasks)?;

    println!("PSS with {tasks} running `sleep` tasks, less before, per task (KiB)");
    let part =
        |of: fn(&Weights) -> Weight| (of(&with).pss as f64 - of(&before).pss as f64) / tasks as f64;
    println!(
        "{:<34}{:>10.1}",
        "leader and follower",
        part(|weights| weights.node)
    );
    println!(
        "{:<34}{:>10.1}",
        "launcher",
        part(|weights| weights.launcher)
    );
    println!("{:<34}{:>10.1}", "inits", part(|weights| weights.inits));
    let ours = (with.ours() as f64 - before.ours() as f64) / tasks as f64;
    println!("{:<34}{ours:>10.1}", "all that is ours");
    println!(
        "{:<34}{:>10.1}",
        "(the commands themselves)",
        part(|weights| weights.commands)
    );
    println!(
        "before: {} KiB in all, node {} KiB; with: {} KiB, node {} KiB",
        before.ours(),
        before.node.pss,
        with.ours(),
        with.node.pss
    );
    Ok(())
}

/// Launches tasks until they run, or have finished.
async fn run(
    load: &mut Load,
    prefix: &str,
    command: &str,
    tasks: usize,
    to_the_end: bool,
) -> Result<(), Failure> {
    let mut launched = 0;
    let mut done = BTreeSet::new();
    while done.len() < tasks {
        match load.next().await? {
            Event::Offers(offers) => {
                for offer in offers {
                    let count = room(&offer).min(tasks - launched);
                    let infos = (launched..launched + count)
                        .map(|number| load.task(format!("{prefix}-{number}"), &offer, command))
                        .collect();
                    launched += count;
                    load.launch(offer, infos).await?;
                }
            }
            Event::Update(status) => {
                load.calls.acknowledge(&status).await?;
                let state = status.state();
                if ended(&status) && !(to_the_end && state == TaskState::TaskFinished) {
                    return Err(format!("a task ended: {status:?}").into());
                }
                if ended(&status) || (!to_the_end && state == TaskState::TaskRunning) {
                    done.insert(status.task_id.value);
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// Weighs once the containers are as many as there should be.
fn settled(node: u32, cluster: &Cluster, containers: usize) -> Result<Weights, Failure> {
    let mut seen = 0;
    let weights = tepui_tests::wait::eventually_some(std::time::Duration::from_secs(30), || {
        let weights = weigh(node);
        seen = weights.inits.processes;
        (seen == containers).then_some(weights)
    });
    weights.ok_or_else(|| {
        let logs = cluster.logs();
        format!("{seen} containers instead of {containers}\n{logs}").into()
    })
}
