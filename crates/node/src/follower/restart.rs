//! The start of a follower in a work directory that may hold another one's tasks: what was
//! checkpointed, what the settings of today allow, and which containers are left.

use super::{CheckpointError, FollowerError, checkpoints, foreign, machine, recover};
use crate::containers::{self, RecoveredContainer};
use std::{collections::BTreeMap, path::Path, time::Duration};
use tepui_follower::{
    Config, Follower,
    compatibility::{self, Policy},
    io::Effects,
    paths,
    recovered::{Fate, Recovered},
};
use tepui_model::{ExecutorId, FollowerId, FrameworkId, Rng, Time, container::ContainerId};
use tepui_protocol::internal::ResourceState;

/// A core that goes on as the follower that was here, or as a new one.
pub(super) struct Restart {
    pub(super) core: Follower,
    /// What it is to take back.
    pub(super) recovered: Option<Recovered>,
}

/// What lies in a work directory.
struct Left {
    recovered: Option<Recovered>,
    resources: Option<ResourceState>,
    others: Vec<(FollowerId, Duration)>,
}

fn read(work_dir: &Path, remembered: usize) -> Result<Left, CheckpointError> {
    let recovered = recover::recover(work_dir, &machine::boot_id(), remembered)?;
    let own = recovered.as_ref().map(|recovered| &recovered.id);
    Ok(Left {
        others: recover::others(work_dir, own),
        resources: checkpoints::recover_resources(work_dir)?,
        recovered,
    })
}

/// Makes the core. Nothing of before is touched if that fails.
pub(super) async fn begin(
    config: Config,
    (strict, policy): (bool, Policy),
    now: Time,
    mut rng: Rng,
) -> Result<Restart, FollowerError> {
    let work_dir = config.work_dir.clone();
    let remembered = config.max_completed_executors_per_framework;
    let left = tokio::task::spawn_blocking(move || read(&work_dir, remembered)).await;
    // It only fails by a panic, or when the runtime ends.
    let mut left = left.map_err(|_| FollowerError::Core)??;
    if strict && let Some(recovered) = &left.recovered {
        let damaged = recovered.problems.iter().filter(|problem| problem.damage);
        let damaged: Vec<String> = damaged.map(|problem| problem.text.clone()).collect();
        if !damaged.is_empty() {
            return Err(FollowerError::Damaged(damaged));
        }
    }
    let make = |id: Option<FollowerId>, rng| -> Result<Follower, FollowerError> {
        let mut core = Follower::new(config.clone(), now, rng, id);
        if let Some(state) = &left.resources {
            core.restore_resources(state)
                .map_err(FollowerError::Resources)?;
        }
        Ok(core)
    };
    let own = left
        .recovered
        .as_ref()
        .map(|recovered| recovered.id.clone());
    let mut core = make(own, rng.child())?;
    if let Some(recovered) = &left.recovered {
        let view = core.view();
        let checked = compatibility::check(policy, recovered, &view.info, &view.total);
        if let Err(reason) = checked {
            if !recovered.rebooted {
                let latest = config.work_dir.join("meta/slaves/latest");
                return Err(FollowerError::Incompatible { reason, latest });
            }
            // Nothing runs any more, so nothing is lost but the id.
            tracing::warn!("starting as a new agent after a reboot: {reason}");
            checkpoints::leave(&config.work_dir)?;
            left.others.push((recovered.id.clone(), Duration::ZERO));
            core = make(None, rng.child())?;
            left.recovered = None;
        }
    }
    core.collect_others(left.others);
    Ok(Restart {
        core,
        recovered: left.recovered,
    })
}

/// What runs, for the loop that looks after it.
#[derive(Default)]
pub(super) struct Running {
    /// Containers that tasks of executors of this process may run in, and those that nobody wants.
    pub(super) containers: Vec<RecoveredContainer>,
    /// Executors that no launcher of ours has started.
    pub(super) foreign: Vec<(ContainerId, foreign::Process)>,
}

/// Tells the core what of before is left.
pub(super) fn go_on(
    core: &mut Follower,
    now: Time,
    recovered: Option<Recovered>,
    found: Vec<RecoveredContainer>,
    begun: &mut Effects,
) -> Running {
    let Some(mut recovered) = recovered else {
        core.start_afresh(begun);
        return Running {
            containers: found,
            ..Default::default()
        };
    };
    let foreign = find_foreign(&core.view().config.work_dir, &mut recovered, &found);
    let mut processes: BTreeMap<String, RecoveredContainer> = BTreeMap::new();
    let mut others = Vec::new();
    for container in found {
        match container.id.parent {
            None => drop(processes.insert(container.id.value.to_string(), container)),
            Some(_) => others.push(container),
        }
    }
    let frameworks = recovered.frameworks.iter_mut();
    let executors = frameworks.flat_map(|framework| &mut framework.executors);
    // What tasks of a built-in executor run in is that executor's matter.
    for executor in executors.filter(|executor| !executor.completed && !executor.is_local()) {
        let Some(container) = processes.remove(&executor.container) else {
            continue;
        };
        executor.fate = match container.fate {
            containers::Fate::Running { pid } => {
                executor.process = Some(pid);
                Fate::Running
            }
            containers::Fate::Exited(status) => Fate::Exited(status),
            containers::Fate::Failed(..) => Fate::Exited(None),
        };
    }
    others.extend(processes.into_values());
    core.recover(now, recovered, begun);
    Running {
        containers: others,
        foreign,
    }
}

/// Executors with a process that is none of our containers': an agent of Mesos started them.
fn find_foreign(
    work_dir: &Path,
    recovered: &mut Recovered,
    found: &[RecoveredContainer],
) -> Vec<(ContainerId, foreign::Process)> {
    let mut all = Vec::new();
    if recovered.rebooted {
        return all;
    }
    let meta = work_dir.join("meta");
    for framework in &mut recovered.frameworks {
        let Some(id) = framework.info.id.as_ref().map(FrameworkId::from) else {
            continue;
        };
        let executors = framework.executors.iter_mut();
        for executor in executors.filter(|executor| !executor.completed) {
            let container = ContainerId::top(executor.container.as_str());
            let Some(pid) = executor.process else {
                continue;
            };
            if found.iter().any(|found| found.id == container) {
                continue;
            }
            let name = ExecutorId::from(&executor.info.executor_id);
            let run = paths::run(&meta, &recovered.id, &id, &name, &executor.container);
            if let Some(process) = foreign::find(pid, &run.join("pids/forked.pid")) {
                executor.fate = Fate::Running;
                all.push((container, process));
            }
        }
    }
    all
}
