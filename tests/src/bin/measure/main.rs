//! Measures a mixed cluster of the built binary and prints what it found.
//!
//! * `measure latency`: from ACCEPT to TASK_RUNNING, task after task.
//! * `measure memory`: what a running task adds to the memory of our own processes.
//! * `measure throughput`: many short tasks; every one ends once, and the node's memory stays flat.
//! * `measure followers`: thousands of emulated followers against a leader: time, memory, messages.
//! * `measure failover`: thousands of emulated followers with tasks lose their leader and come back to the next.
//! * `measure restarts`: a follower is killed and started again, round after round, under load; no task is lost or told of twice.
//! * `measure hostile`: floods and held connections, and whether others notice.
//! * `measure quota`: random launches in a tree of roles with limits; no limit is ever passed.
//! * `measure torture`: leaders, followers, ZooKeeper servers and a framework die round after round; no task is lost.
//!
//! A second argument changes how many tasks, followers or rounds. Exits with a failure when a task is lost, never because
//! a time was missed: times belong to the machine. See `docs/benchmarks.md`.

mod failover;
mod followers;
mod framework;
mod hostile;
mod latency;
mod leader;
mod load;
mod memory;
mod processes;
mod quota;
mod restarts;
mod throughput;
mod torture;

use load::Failure;
use std::process::ExitCode;

const USAGE: &str = "usage: measure latency|memory|throughput|quota [TASKS] | followers|failover|hostile [FOLLOWERS] | torture|restarts [ROUNDS]";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // How `measure hostile` starts its attacks.
    if let [command, kind, leader] = &arguments[..]
        && command == "attack"
    {
        return match hostile::attack(kind, leader) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => failed(&*error),
        };
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    // What `measure torture` tortures.
    if let [command, master, folder, tasks] = &arguments[..]
        && command == "framework"
        && let Ok(tasks) = tasks.parse()
    {
        return match runtime.block_on(framework::run(master, folder.as_ref(), tasks)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => failed(&*error),
        };
    }
    let tasks = match arguments.get(1).map(|text| text.parse::<usize>()) {
        None => None,
        Some(Ok(tasks)) if tasks > 0 => Some(tasks),
        Some(_) => return wrong_usage(),
    };
    let result: Result<(), Failure> = match arguments.first().map(String::as_str) {
        Some("latency") => runtime.block_on(latency::measure(tasks.unwrap_or(1_000))),
        Some("memory") => runtime.block_on(memory::measure(tasks.unwrap_or(500))),
        Some("throughput") => runtime.block_on(throughput::measure(tasks.unwrap_or(10_000))),
        Some("followers") => runtime.block_on(followers::measure(tasks.unwrap_or(10_000))),
        Some("failover") => failover::measure(tasks.unwrap_or(20_000)),
        Some("restarts") => runtime.block_on(restarts::measure(tasks.unwrap_or(100))),
        Some("hostile") => hostile::measure(tasks.unwrap_or(2_000)),
        Some("quota") => quota::measure(tasks.unwrap_or(10_000)),
        Some("torture") => torture::measure(tasks.unwrap_or(54)),
        _ => return wrong_usage(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&*error),
    }
}

fn wrong_usage() -> ExitCode {
    eprintln!("{USAGE}");
    ExitCode::from(2)
}

fn failed(error: &dyn std::error::Error) -> ExitCode {
    eprintln!("measure: {error}");
    ExitCode::FAILURE
}
