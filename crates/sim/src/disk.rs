//! A follower's disk: what of its checkpoints is durable, and what a restarted follower reads back.
//!
//! Records are applied as `node/src/follower/checkpoints.rs` writes them, and put together as
//! `recover.rs` reads them. Files are not modelled, records are: a crash while a batch is written
//! keeps some first part of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};
use tepui_follower::{
    io::{Checkpoint, RunCheckpoint, RunFact},
    recovered::{
        Fate, Recovered, RecoveredExecutor, RecoveredFramework, RecoveredLink, RecoveredTask,
    },
};
use tepui_model::{ExecutorId, FollowerId, FrameworkId, TaskId, container::ContainerId};
use tepui_protocol::{internal, peer::Pid, v1};

/// What is durable.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    info: Option<v1::AgentInfo>,
    frameworks: BTreeMap<FrameworkId, Framework>,
    drain: Option<v1::DrainConfig>,
    pub(crate) resources: Option<internal::ResourceState>,
    /// The machine's boot that these were written in.
    boots: u32,
    /// Nothing can be written.
    pub(crate) full: u32,
    /// Writing takes this much longer.
    pub(crate) slow: Option<Duration>,
}

#[derive(Debug, Default)]
struct Framework {
    info: Option<v1::FrameworkInfo>,
    pid: Option<Pid>,
    executors: BTreeMap<ExecutorId, Executor>,
}

#[derive(Debug, Default)]
struct Executor {
    info: Option<v1::ExecutorInfo>,
    generated: bool,
    /// Oldest first.
    runs: Vec<Run>,
}

#[derive(Debug, Default)]
struct Run {
    container: String,
    process: Option<u32>,
    link: Option<RecoveredLink>,
    completed: bool,
    tasks: BTreeMap<TaskId, Task>,
}

#[derive(Debug, Default)]
struct Task {
    task: Option<v1::Task>,
    launched: Option<v1::TaskInfo>,
    group: Option<Arc<str>>,
    updates: Vec<internal::StatusUpdate>,
    acknowledged: BTreeSet<bytes::Bytes>,
}

impl Executor {
    fn run(&mut self, container: &str) -> &mut Run {
        let at = self.runs.iter().position(|run| run.container == container);
        let at = at.unwrap_or_else(|| {
            self.runs.push(Run {
                container: container.to_owned(),
                ..Run::default()
            });
            self.runs.len() - 1
        });
        &mut self.runs[at]
    }
}

impl Disk {
    /// Writes one record.
    pub(crate) fn apply(&mut self, checkpoint: Checkpoint, boots: u32) {
        self.boots = boots;
        match checkpoint {
            Checkpoint::Follower(info) => {
                let same = self.info.as_ref().map(|old| &old.id) == Some(&info.id);
                if !same {
                    self.frameworks.clear();
                    self.drain = None;
                }
                self.info = Some(*info);
            }
            Checkpoint::Left => {
                self.info = None;
                self.frameworks.clear();
                self.drain = None;
            }
            Checkpoint::StatusUpdate(update) => self.update(*update),
            Checkpoint::Framework { info, pid, .. } => {
                let Some(id) = info.id.as_ref().map(FrameworkId::from) else {
                    return;
                };
                let framework = self.frameworks.entry(id).or_default();
                framework.info = Some(*info);
                framework.pid = pid;
            }
            Checkpoint::Run(run) => self.run(*run),
            Checkpoint::Resources(resources) => self.resources = Some(resources.state),
            Checkpoint::Drain { config, .. } => self.drain = config,
        }
    }

    fn update(&mut self, update: internal::StatusUpdate) {
        let status = &update.status;
        let container = status
            .container_status
            .as_ref()
            .and_then(|status| status.container_id.as_ref());
        let executor = update.executor_id.as_ref().or(status.executor_id.as_ref());
        let (Some(container), Some(executor)) = (container, executor) else {
            return;
        };
        let container = ContainerId::from(container);
        let framework = FrameworkId::from(&update.framework_id);
        let framework = self.frameworks.entry(framework).or_default();
        let executor = framework
            .executors
            .entry(ExecutorId::from(executor))
            .or_default();
        let task = TaskId::from(&status.task_id);
        let tasks = &mut executor.run(container.root()).tasks;
        tasks.entry(task).or_default().updates.push(update);
    }

    fn run(&mut self, checkpoint: RunCheckpoint) {
        let framework = self.frameworks.entry(checkpoint.framework).or_default();
        let executor = framework.executors.entry(checkpoint.executor).or_default();
        let run = executor.run(&checkpoint.container);
        match checkpoint.fact {
            RunFact::Executor { info, generated } => {
                executor.info = Some(*info);
                executor.generated = generated;
            }
            RunFact::Process(pid) => run.process = Some(pid),
            RunFact::Link(link) => run.link = Some(link),
            RunFact::Task {
                task,
                launch,
                group,
            } => {
                let id = TaskId::from(&task.task_id);
                let kept = run.tasks.entry(id).or_default();
                kept.task = Some(*task);
                kept.launched = launch.map(Arc::unwrap_or_clone);
                kept.group = group;
            }
            RunFact::Acknowledged { task, uuid } => {
                run.tasks.entry(task).or_default().acknowledged.insert(uuid);
            }
            RunFact::Completed => run.completed = true,
        }
    }

    /// What a restarted follower is told, if there was one before.
    pub(crate) fn recover(&self, boots: u32) -> Option<Recovered> {
        let info = self.info.clone()?;
        let id = FollowerId::from(info.id.as_ref()?);
        let frameworks = self.frameworks.values();
        Some(Recovered {
            id,
            info,
            rebooted: self.boots != boots,
            drain: self.drain,
            frameworks: frameworks
                .filter_map(|framework| {
                    let executors = framework.executors.values();
                    Some(RecoveredFramework {
                        info: framework.info.clone()?,
                        damaged: None,
                        pid: framework.pid.clone(),
                        executors: executors.filter_map(recovered).collect(),
                        ended: Vec::new(),
                        age: Duration::ZERO,
                    })
                })
                .collect(),
            problems: Vec::new(),
        })
    }
}

fn recovered(executor: &Executor) -> Option<RecoveredExecutor> {
    let (latest, earlier) = executor.runs.split_last()?;
    let tasks = latest.tasks.values();
    Some(RecoveredExecutor {
        info: executor.info.clone()?,
        damaged: None,
        generated: executor.generated,
        container: latest.container.clone(),
        process: latest.process,
        // Executors of others are not modelled.
        fate: Fate::Unknown,
        link: latest.link.clone().unwrap_or(RecoveredLink::Unknown),
        completed: latest.completed,
        tasks: tasks
            .filter_map(|task| {
                Some(RecoveredTask {
                    task: task.task.clone()?,
                    damaged: None,
                    launched: task.launched.clone(),
                    group: task.group.clone(),
                    updates: task.updates.clone(),
                    acknowledged: task.acknowledged.clone(),
                })
            })
            .collect(),
        earlier_runs: earlier
            .iter()
            .map(|run| (run.container.clone(), Duration::ZERO))
            .collect(),
        age: Duration::ZERO,
    })
}
