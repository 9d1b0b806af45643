//! Containers that an earlier follower left, until the executors whose tasks run in them have them
//! again.

use super::{Effect, Effects, Locals, Owner};
use crate::io::{LocalExecutor, LocalTask};
use std::{sync::Arc, time::Duration};
use tepui_executor::{RecoveredContainer, RecoveredTask};
use tepui_model::container::{ContainerEvent, ContainerId};
use tepui_protocol::v1::TaskState;

/// A container that an earlier follower left.
#[derive(Debug, Clone)]
pub struct Found {
    /// Which.
    pub id: ContainerId,
    /// What it was launched with as `LaunchSpec::outlives`. Empty if its record is damaged; then it was
    /// ended.
    pub name: Arc<str>,
    /// `Launched`: it runs. Otherwise how it ended.
    pub event: ContainerEvent,
    /// Its follower had begun to end it.
    pub told: bool,
    /// Time since its command was started; nothing unless it runs.
    pub running_for: Duration,
}

impl Found {
    fn runs(&self) -> bool {
        matches!(self.event, ContainerEvent::Launched { .. })
    }
}

impl Locals {
    /// What tasks may run in since before a restart; comes before any [`Self::start`].
    /// For those that run there is to be news of their end.
    pub fn found(&mut self, containers: Vec<Found>) {
        self.found = containers;
    }

    /// Every executor that was to be taken back has been started: ends what none of them wanted.
    pub fn discard_rest(&mut self, fx: &mut Effects) {
        for container in std::mem::take(&mut self.found) {
            fx.push(Effect::Discard(container));
        }
    }

    /// Gives an executor the containers of its tasks again.
    pub(super) fn take_back(&mut self, local: &LocalExecutor, fx: &mut Effects) {
        let executor = &local.container;
        let of_executor =
            |id: &ContainerId| id == executor || id.parent.as_deref() == Some(executor);
        let (mut own, others) = std::mem::take(&mut self.found)
            .into_iter()
            .partition(|found: &Found| of_executor(&found.id));
        self.found = others;
        let mut tasks = Vec::new();
        for task in &local.recovered {
            let container = claim(&mut own, task);
            if let Some(container) = container.as_ref().filter(|found| found.runs()) {
                self.own(executor, &container.id, Owner::Executor(executor.clone()));
            }
            tasks.push(RecoveredTask {
                info: task.info.clone(),
                group: task.group.clone(),
                state: task.state,
                container: container.map(RecoveredContainer::from),
            });
        }
        // The record of one without a name may just have been claimed; it goes with its executor's.
        for container in own.into_iter().filter(|found| !found.name.is_empty()) {
            fx.push(Effect::Discard(container));
        }
        if let Some(local) = self.executors.get_mut(executor) {
            local.core.recovered(tasks);
        }
    }

    /// A container may end after it was found and before its executor is started, which waits for what
    /// must be durable first. Its executor then finds it ended: to the follower's core it would be the
    /// executor itself that ended, with nothing said of its task.
    pub(super) fn not_taken_back_yet(
        &mut self,
        container: &ContainerId,
        event: &ContainerEvent,
    ) -> bool {
        let Some(found) = self.found.iter_mut().find(|found| found.id == *container) else {
            return false;
        };
        found.event = event.clone();
        if !found.runs() {
            found.running_for = Duration::ZERO;
        }
        true
    }
}

/// Takes out the container of a task. One whose name is lost may be that of any task that is not
/// known to have run: such a task must not be started a second time.
fn claim(found: &mut Vec<Found>, task: &LocalTask) -> Option<Found> {
    let named = |c: &Found| *c.name == *task.info.task_id.value;
    let nameless = |c: &Found| c.name.is_empty();
    let early = matches!(
        task.state,
        None | Some(TaskState::TaskStaging | TaskState::TaskStarting)
    );
    let index = found
        .iter()
        .position(|c| named(c) && c.runs())
        .or_else(|| found.iter().position(named))
        .or_else(|| found.iter().position(nameless).filter(|_| early))?;
    Some(if nameless(&found[index]) {
        found[index].clone()
    } else {
        found.swap_remove(index)
    })
}

impl From<Found> for RecoveredContainer {
    fn from(found: Found) -> Self {
        Self {
            id: found.id,
            event: found.event,
            told: found.told,
            running_for: found.running_for,
        }
    }
}
