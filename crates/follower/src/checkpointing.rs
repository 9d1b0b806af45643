//! What is written down of frameworks, executors and tasks, so that [`recovery`](crate::recovery)
//! finds it after a restart: only for frameworks that checkpoint, and each before the message or the
//! process that it vouches for. Follows `checkpointFramework`, `checkpointExecutor` and
//! `checkpointTask` of `src/slave/slave.cpp`.
//!
//! [`Config::checkpoint_runs`](crate::Config) is off only where the work directory goes with the
//! follower.

use crate::{
    Follower,
    io::{Checkpoint, Effect, Effects, RunCheckpoint, RunFact},
    recovered::RecoveredLink,
    state::{Connection, ExecutorKey},
};
use bytes::Bytes;
use tepui_model::{FrameworkId, TaskId};
use tepui_protocol::v1;

impl Follower {
    /// Whether what a framework runs here outlives this process.
    pub(crate) fn outlives(&self, framework: &v1::FrameworkInfo) -> bool {
        self.config.checkpoint_runs && framework.checkpoint.unwrap_or(false)
    }

    /// Keeps what a framework is and where its driver listens.
    pub(crate) fn keep_framework(&self, id: &FrameworkId, fx: &mut Effects) {
        let framework = self.frameworks.get(id).filter(|f| f.checkpoint());
        let (Some(framework), Some(follower), true) =
            (framework, &self.id, self.config.checkpoint_runs)
        else {
            return;
        };
        fx.push(Effect::Persist(Checkpoint::Framework {
            follower: follower.clone(),
            info: Box::new((*framework.info).clone()),
            pid: framework.pid.clone(),
        }));
    }

    /// Keeps something about the present run of an executor.
    pub(crate) fn keep(&self, key: &ExecutorKey, fact: RunFact, fx: &mut Effects) {
        let framework = self.frameworks.get(&key.0).filter(|f| f.checkpoint());
        let executor = framework.and_then(|framework| framework.executors.get(&key.1));
        let (Some(executor), Some(follower), true) =
            (executor, &self.id, self.config.checkpoint_runs)
        else {
            return;
        };
        fx.push(Effect::Persist(Checkpoint::Run(Box::new(RunCheckpoint {
            follower: follower.clone(),
            framework: key.0.clone(),
            executor: key.1.clone(),
            container: executor.container.value.to_string(),
            fact,
        }))));
    }

    /// Keeps how an executor is reached.
    pub(crate) fn keep_connection(
        &self,
        key: &ExecutorKey,
        connection: &Connection,
        fx: &mut Effects,
    ) {
        let link = match connection {
            Connection::Stream(_) => RecoveredLink::Http,
            Connection::Driver(driver) => RecoveredLink::Driver(driver.pid.clone()),
            // It ends with this process.
            Connection::Local(_) => return,
        };
        self.keep(key, RunFact::Link(link), fx);
    }

    /// Keeps that an update need not be sent again.
    pub(crate) fn keep_acknowledgement(
        &self,
        framework: &FrameworkId,
        task: &TaskId,
        uuid: &Bytes,
        fx: &mut Effects,
    ) {
        let executor = self
            .frameworks
            .get(framework)
            .and_then(|f| f.tasks.get(task));
        if let Some(executor) = executor {
            let fact = RunFact::Acknowledged {
                task: task.clone(),
                uuid: uuid.clone(),
            };
            self.keep(&(framework.clone(), executor.clone()), fact, fx);
        }
    }
}
