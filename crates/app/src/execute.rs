//! `tepui execute` and `mesos-execute`: runs a command, a task or a task group once, streams its
//! output and ends with its exit status.
//!
//! [`Job`] is what the options ask for; [`run`] is the framework that gets it done.

mod job;
pub(crate) mod output;

pub(crate) use job::{Job, codec};

use crate::progress::Progress;
use output::Tails;
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tepui_client::{
    Codec, Credential, Error, Tls,
    operator::Operator,
    proto::{AgentId, Offer, TaskInfo, TaskState, TaskStatus},
    scheduler::{Calls, Event, Scheduler, launch, launch_group},
};
use tepui_model::{Resources, tasks};

/// Why a job did not run to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExecuteError {
    #[error(transparent)]
    Client(#[from] Error),
    #[error("{0}")]
    Job(#[from] job::JobError),
}

/// How to talk to the cluster.
pub(crate) struct Access {
    pub(crate) leader: String,
    pub(crate) codec: Codec,
    pub(crate) credential: Option<Credential>,
    pub(crate) tls: Option<Tls>,
}

/// Runs the job to its end. The result is an exit status for this process: the task's own where it
/// has one (128 + signal for a killed one), 1 for a task that did not get that far.
pub(crate) async fn run(
    job: Job,
    access: &Access,
    progress: &mut Progress,
) -> Result<i32, ExecuteError> {
    let mut builder = Scheduler::builder(&access.leader, job.framework.clone()).codec(access.codec);
    if let Some(credential) = &access.credential {
        builder = builder.credential(credential.clone());
    }
    let mut operator = Operator::new(&access.leader, access.credential.as_ref())?;
    if let Some(tls) = &access.tls {
        builder = builder.tls(tls.clone());
        operator = operator.tls(tls.clone());
    }
    let mut scheduler = builder.build()?;
    let mut run = Run {
        calls: scheduler.calls(),
        kill_at: None,
        launched: false,
        ended: BTreeMap::new(),
        follower: None,
        agent: None,
        tails: Tails::new(Arc::new(operator)),
        job,
        progress,
    };
    loop {
        let event = match run.kill_at {
            None => scheduler.next().await?,
            Some(at) => match tokio::time::timeout_at(at, scheduler.next()).await {
                Ok(event) => event?,
                Err(_) => {
                    run.kill_all().await;
                    continue;
                }
            },
        };
        run.handle(event).await?;
        if run.ended.len() == run.job.tasks.len() {
            break;
        }
    }
    run.tails.finish().await;
    // The leader forgets us either way; this only makes it sooner.
    if let Err(error) = run.calls.teardown().await {
        tracing::debug!(%error, "cannot tear the framework down");
    }
    run.progress.clear();
    Ok(run
        .ended
        .values()
        .copied()
        .find(|status| *status != 0)
        .unwrap_or(0))
}

struct Run<'a> {
    job: Job,
    calls: Calls,
    kill_at: Option<tokio::time::Instant>,
    launched: bool,
    /// Exit status by task.
    ended: BTreeMap<String, i32>,
    /// Address of the follower that runs the job.
    follower: Option<String>,
    agent: Option<AgentId>,
    tails: Tails,
    progress: &'a mut Progress,
}

impl Run<'_> {
    async fn handle(&mut self, event: Event) -> Result<(), ExecuteError> {
        match event {
            Event::Subscribed { framework_id, .. } => {
                self.progress
                    .line(&format!("Subscribed with ID {}", framework_id.value));
                if self.launched {
                    let open = self.job.tasks.iter().map(|t| t.task_id.clone());
                    let open = open
                        .filter(|id| !self.ended.contains_key(&id.value))
                        .map(|id| (id, None));
                    self.calls.reconcile(open).await?;
                } else {
                    self.progress.status("waiting for an offer");
                }
            }
            Event::Offers(offers) => self.offers(offers).await?,
            Event::Update(status) => self.update(status).await?,
            Event::Failure(failure) => {
                if let Some(status) = failure.status {
                    self.progress
                        .line(&format!("An executor ended with status {status}"));
                }
            }
            Event::Disconnected { reason } => {
                self.progress.line(&format!(
                    "Disconnected from the leader ({reason}); trying again"
                ));
            }
            _ => {}
        }
        Ok(())
    }

    async fn offers(&mut self, offers: Vec<Offer>) -> Result<(), ExecuteError> {
        for offer in offers {
            if self.launched {
                self.calls.decline([offer.id]).await?;
                continue;
            }
            let offered = Resources::from_proto(&offer.resources).unallocated();
            if !offered.contains(&self.job.wanted()) {
                let hint = format!(
                    "offered {offered}, which is less than {} needed",
                    self.job.wanted()
                );
                self.progress.status(&hint);
                self.calls.decline([offer.id]).await?;
                continue;
            }
            self.launch(offer).await?;
        }
        Ok(())
    }

    async fn launch(&mut self, offer: Offer) -> Result<(), ExecuteError> {
        self.follower = follower_address(&offer);
        self.agent = Some(offer.agent_id.clone());
        let tasks: Vec<TaskInfo> = self.job.tasks_on(&offer.agent_id);
        let operation = match self.job.executor(self.calls.framework_id()) {
            Some(executor) => launch_group(executor, tasks),
            None => launch(tasks),
        };
        self.calls.accept([offer.id], vec![operation]).await?;
        self.launched = true;
        self.progress.line(&self.job.submitted(&offer.agent_id));
        self.calls.suppress(Vec::new()).await?;
        self.kill_at = self
            .job
            .kill_after
            .map(|after: Duration| tokio::time::Instant::now() + after);
        Ok(())
    }

    async fn update(&mut self, status: TaskStatus) -> Result<(), ExecuteError> {
        let id = status.task_id.value.clone();
        self.progress.update(&status);
        if status.state() == TaskState::TaskRunning {
            self.follow(&status);
        }
        if tasks::is_terminal(status.state()) && !self.ended.contains_key(&id) {
            if status.container_status.is_some() {
                self.follow(&status);
            }
            self.tails.end(&id);
            self.ended.insert(id, exit_status(&status));
        }
        self.calls.acknowledge(&status).await?;
        Ok(())
    }

    /// Streams the output of a task from its sandbox, once.
    fn follow(&mut self, status: &TaskStatus) {
        let (Some(follower), Some(framework)) = (&self.follower, self.calls.framework_id()) else {
            return;
        };
        let id = &status.task_id.value;
        let sandbox = self.job.sandbox(&framework.value, id);
        self.tails.start(id, follower, &sandbox);
    }

    async fn kill_all(&mut self) {
        self.kill_at = None;
        for task in &self.job.tasks {
            if let Some(agent) = &self.agent {
                self.progress.line(&format!(
                    "Asked to kill task '{}' on agent '{}'",
                    task.task_id.value, agent.value
                ));
            }
            if let Err(error) = self
                .calls
                .kill(task.task_id.clone(), None::<AgentId>, None)
                .await
            {
                self.progress
                    .line(&format!("Cannot kill '{}': {error}", task.task_id.value));
            }
        }
    }
}

/// `ip:port` where the follower of an offer listens.
fn follower_address(offer: &Offer) -> Option<String> {
    let address = &offer.url.as_ref()?.address;
    let host = address.ip.clone().or_else(|| address.hostname.clone())?;
    let host = if host.contains(':') {
        format!("[{host}]")
    } else {
        host
    };
    Some(format!("{host}:{}", address.port))
}

/// Exit status that stands for how a task ended. Agents put the wait status into the message.
fn exit_status(status: &TaskStatus) -> i32 {
    if status.state() == TaskState::TaskFinished {
        return 0;
    }
    let message = status.message();
    let after = |marker: &str| {
        let (_, rest) = message.split_once(marker)?;
        Some(rest.split([',', ';', '\n']).next().unwrap_or(rest).trim())
    };
    if let Some(code) = after("exited with status ").and_then(|code| code.parse().ok()) {
        return code;
    }
    let signal = after("terminated with signal ").and_then(|name| {
        (1..65).find(|signal| tepui_model::container::signal_name(*signal) == name)
    });
    signal.map_or(1, |signal| 128 + signal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_status_is_the_tasks_own() {
        let status = |state: TaskState, message: &str| TaskStatus {
            state: state as i32,
            message: Some(message.to_owned()),
            ..Default::default()
        };
        for (state, message, expected) in [
            (TaskState::TaskFinished, "Command exited with status 0", 0),
            (TaskState::TaskFailed, "Command exited with status 3", 3),
            (
                TaskState::TaskFailed,
                "Command terminated with signal Killed",
                137,
            ),
            (
                TaskState::TaskKilled,
                "Command terminated with signal Terminated",
                143,
            ),
            (TaskState::TaskLost, "Agent is gone", 1),
            (TaskState::TaskError, "", 1),
        ] {
            assert_eq!(exit_status(&status(state, message)), expected, "{message}");
        }
    }
}
