//! What a restarted follower pays for runs that have ended and whose sandboxes still wait for their removal:
//! `recovery [ENDED...]`, 0, 500, 2,000 and 5,000 unless told.
//!
//! Prints bytes of our heap that stay, and the most there were meanwhile, counted allocation by allocation;
//! and the time without counting is a little less than what is printed.

use prost::Message;
use std::{error::Error, fs, os::unix::fs::symlink, path::Path, time::Instant};
use tepui_follower::{Config, Follower, io::Effects};
use tepui_model::{Rng, Time};
use tepui_node::follower::recover;
use tepui_protocol::{internal as i, v1};

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

const FOLLOWER: &str = "985abfe8-7fef-433b-9acf-f8c1b526b69b-S0";
const FRAMEWORK: &str = "985abfe8-7fef-433b-9acf-f8c1b526b69b-0000";
const BOOT: &str = "d6ac14af-ed25-429e-a737-1b78c8053dfe";

fn write(path: &Path, message: &impl Message) -> std::io::Result<()> {
    let mut bytes = (message.encoded_len() as u32).to_le_bytes().to_vec();
    bytes.extend(message.encode_to_vec());
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::write(path, bytes)
}

fn framework_id() -> v1::FrameworkId {
    v1::FrameworkId {
        value: FRAMEWORK.to_owned(),
    }
}

/// As a follower leaves it.
fn work_dir(root: &Path, ended: usize) -> Result<(), Box<dyn Error>> {
    let slaves = root.join("meta/slaves");
    let follower = slaves.join(FOLLOWER);
    let id = v1::AgentId {
        value: FOLLOWER.to_owned(),
    };
    let info = v1::AgentInfo {
        id: Some(id.clone()),
        hostname: "follower".to_owned(),
        ..Default::default()
    };
    write(&follower.join("slave.info"), &info)?;
    symlink(&follower, slaves.join("latest"))?;
    let framework = follower.join("frameworks").join(FRAMEWORK);
    let info = v1::FrameworkInfo {
        id: Some(framework_id()),
        checkpoint: Some(true),
        ..Default::default()
    };
    write(&framework.join("framework.info"), &info)?;
    let mut rng = Rng::seed(1);
    for number in 0..ended {
        let task_id = v1::TaskId {
            value: format!("task-{number}"),
        };
        let executor_id = v1::ExecutorId {
            value: task_id.value.clone(),
        };
        let executor = framework.join("executors").join(&executor_id.value);
        let run = executor
            .join("runs")
            .join(rng.uuid().hyphenated().to_string());
        let info = v1::ExecutorInfo {
            executor_id: executor_id.clone(),
            framework_id: Some(framework_id()),
            ..Default::default()
        };
        write(&executor.join("executor.info"), &info)?;
        fs::write(executor.join("executor_generated_for_command_task"), "1")?;
        let task = v1::Task {
            name: task_id.value.clone(),
            task_id: task_id.clone(),
            framework_id: framework_id(),
            executor_id: Some(executor_id.clone()),
            agent_id: id.clone(),
            ..Default::default()
        };
        let directory = run.join("tasks").join(&task_id.value);
        write(&directory.join("task.info"), &task)?;
        let uuid: bytes::Bytes = rng.uuid().as_bytes().to_vec().into();
        let update = i::StatusUpdate {
            framework_id: framework_id(),
            executor_id: Some(executor_id),
            status: v1::TaskStatus {
                task_id,
                state: v1::TaskState::TaskFinished.into(),
                uuid: Some(uuid.clone()),
                ..Default::default()
            },
            uuid: Some(uuid),
            ..Default::default()
        };
        let record = i::StatusUpdateRecord {
            update: Some(update),
            ..Default::default()
        };
        write(&directory.join("task.updates"), &record)?;
        symlink(&run, run.with_file_name("latest"))?;
        fs::write(run.join("executor.sentinel"), "")?;
    }
    Ok(())
}

fn heap() -> dhat::HeapStats {
    dhat::HeapStats::get()
}

fn main() -> Result<(), Box<dyn Error>> {
    let counts: Result<Vec<usize>, _> = std::env::args().skip(1).map(|n| n.parse()).collect();
    let counts = Some(counts?).filter(|counts| !counts.is_empty());
    for ended in counts.unwrap_or_else(|| vec![0, 500, 2_000, 5_000]) {
        let dir = tempfile::tempdir()?;
        work_dir(dir.path(), ended)?;
        let _profiler = dhat::Profiler::builder().testing().build();
        let before = heap().curr_bytes;
        let started = Instant::now();
        let mut config = Config::new("127.0.0.1:5051".parse()?, "follower", dir.path());
        let remembered = config.max_completed_executors_per_framework;
        let recovered = recover(dir.path(), BOOT, remembered)?.ok_or("nothing was left")?;
        config.resources = Vec::new();
        let now = Time::from_nanos(1);
        let mut core = Follower::new(config, now, Rng::seed(2), Some(recovered.id.clone()));
        let mut effects = Effects::default();
        core.recover(now, recovered, &mut effects);
        let count = effects.drain().count();
        drop(effects);
        let took = started.elapsed();
        let stats = heap();
        println!(
            "{ended:>6} ended: {:>9} bytes stay, {:>9} at most, {count} effects, {:.1} ms; {} wait for their removal",
            stats.curr_bytes - before,
            stats.max_bytes - before,
            took.as_secs_f64() * 1000.0,
            core.view().gc_pending,
        );
    }
    Ok(())
}
