//! Probes on their way. Requests are for whoever has sockets; a command is a container like that of a
//! task.

use super::{Effect, Effects, Locals, Owner};
use std::time::Duration;
use tepui_executor::io::{Input as ExecutorInput, Probe, ProbeId, ProbeOutcome};
use tepui_model::{
    Time,
    container::{ContainerEvent, ContainerId},
};

/// A probe on its way.
#[derive(Debug)]
pub(super) enum Probing {
    Request,
    Command {
        container: ContainerId,
        /// `None`: its time is over, and it is being killed.
        until: Option<Time>,
    },
}

impl Probing {
    /// When its time is over. Who carries out requests watches over theirs.
    pub(super) fn deadline(&self) -> Option<Time> {
        match self {
            Self::Request => None,
            Self::Command { until, .. } => *until,
        }
    }

    /// Nobody waits for it any more.
    pub(super) fn cancel(self, executor: &ContainerId, probe: ProbeId, fx: &mut Effects) {
        let executor = executor.clone();
        fx.push(match self {
            Self::Request => Effect::CancelProbe { executor, probe },
            Self::Command { container, .. } => Effect::Destroy { container },
        });
    }
}

impl Locals {
    /// A request ended, or its time did.
    pub fn probed(
        &mut self,
        now: Time,
        executor: &ContainerId,
        probe: ProbeId,
        outcome: ProbeOutcome,
        fx: &mut Effects,
    ) {
        let Some(local) = self.executors.get_mut(executor) else {
            return;
        };
        // It may have been cancelled meanwhile.
        if let Some(Probing::Request) = local.probes.get(&probe) {
            local.probes.remove(&probe);
            self.handle(now, executor, ExecutorInput::Probed { probe, outcome }, fx);
        }
    }

    /// A command that takes too long is killed. It is answered once its container is gone, so that the
    /// next one finds nothing in its way.
    pub(super) fn time_out_probes(&mut self, now: Time, executor: &ContainerId, fx: &mut Effects) {
        let Some(local) = self.executors.get_mut(executor) else {
            return;
        };
        for probing in local.probes.values_mut() {
            if let Probing::Command { container, until } = probing
                && until.is_some_and(|at| at <= now)
            {
                *until = None;
                let container = container.clone();
                fx.push(Effect::Destroy { container });
            }
        }
    }

    pub(super) fn probe(
        &mut self,
        now: Time,
        executor: &ContainerId,
        probe: ProbeId,
        what: Probe,
        timeout: Duration,
        fx: &mut Effects,
    ) {
        let probing = match what {
            Probe::Command(spec) => {
                let (container, until) = (spec.container.clone(), Some(now + timeout));
                let owner = Owner::Probe {
                    executor: executor.clone(),
                    probe,
                };
                self.own(executor, &container, owner);
                fx.push(Effect::Launch(spec));
                Probing::Command { container, until }
            }
            what => {
                fx.push(Effect::Probe {
                    executor: executor.clone(),
                    probe,
                    what,
                    timeout,
                });
                Probing::Request
            }
        };
        if let Some(local) = self.executors.get_mut(executor) {
            local.probes.insert(probe, probing);
        }
    }

    pub(super) fn command_ended(
        &mut self,
        now: Time,
        executor: &ContainerId,
        probe: ProbeId,
        event: &ContainerEvent,
        fx: &mut Effects,
    ) {
        let local = self.executors.get_mut(executor);
        let probing = local.and_then(|local| local.probes.remove(&probe));
        let Some(Probing::Command { until, .. }) = probing else {
            return;
        };
        let outcome = match event {
            _ if until.is_none() => ProbeOutcome::TimedOut,
            ContainerEvent::Exited {
                status: Some(status),
            } => ProbeOutcome::Exited(*status),
            ContainerEvent::LaunchFailed { message, .. } => ProbeOutcome::Failed(message.clone()),
            ContainerEvent::Exited { status: None } | ContainerEvent::Launched { .. } => {
                ProbeOutcome::Failed("its exit status is unknown".to_owned())
            }
        };
        self.handle(now, executor, ExecutorInput::Probed { probe, outcome }, fx);
    }
}
