//! Carries out what the executors in this process want: containers, and the requests of their checks.
//! What that is, [`tepui_follower::locals`] decides.

use super::{core_loop::Inner, probes::Prober};
use crate::containers::{Containers, RecoveredContainer};
use rustc_hash::FxHashMap;
use std::time::Duration;
use tepui_executor::io::{Probe, ProbeId, ProbeOutcome};
use tepui_follower::{
    io::Input,
    locals::{self, Effect, Effects, Found},
};
use tepui_model::{Rng, Time, container::ContainerId};
use tokio::{runtime::Handle, sync::mpsc, task::AbortHandle};

/// The executors, and hands for them.
pub(super) struct Locals {
    core: locals::Locals,
    containers: Containers,
    prober: Prober,
    /// Requests on their way.
    requests: FxHashMap<(ContainerId, ProbeId), AbortHandle>,
    runtime: Handle,
    tell: mpsc::UnboundedSender<Inner>,
    /// Kept for its allocation.
    effects: Effects,
}

/// Inputs for the follower's core that come of something.
pub(super) type Inputs = Vec<Input>;

impl Locals {
    pub(super) fn new(
        rng: Rng,
        containers: Containers,
        runtime: Handle,
        tell: mpsc::UnboundedSender<Inner>,
    ) -> Self {
        Self {
            core: locals::Locals::new(rng),
            containers,
            prober: Prober::new(),
            requests: FxHashMap::default(),
            runtime,
            tell,
            effects: Effects::default(),
        }
    }

    /// What tasks may run in since before a restart.
    pub(super) fn found(&mut self, containers: Vec<RecoveredContainer>) {
        self.core
            .found(containers.into_iter().map(Found::from).collect());
    }

    pub(super) fn contains(&self, container: &ContainerId) -> bool {
        self.core.contains(container)
    }

    pub(super) fn next_deadline(&self) -> Option<Time> {
        self.core.next_deadline()
    }

    /// One step of the core; what comes out is carried out at once, but for what is for the follower's.
    pub(super) fn step<R>(
        &mut self,
        inputs: &mut Inputs,
        step: impl FnOnce(&mut locals::Locals, &mut Effects) -> R,
    ) -> R {
        let mut effects = std::mem::take(&mut self.effects);
        let result = step(&mut self.core, &mut effects);
        for effect in effects.drain() {
            self.carry(effect, inputs);
        }
        self.effects = effects;
        result
    }

    /// A request ended, or its time did.
    pub(super) fn probed(
        &mut self,
        now: Time,
        executor: ContainerId,
        probe: ProbeId,
        outcome: ProbeOutcome,
        inputs: &mut Inputs,
    ) {
        let key = (executor, probe);
        self.requests.remove(&key);
        self.step(inputs, |core, fx| {
            core.probed(now, &key.0, probe, outcome, fx);
        });
    }

    fn carry(&mut self, effect: Effect, inputs: &mut Inputs) {
        match effect {
            Effect::Input(input) => inputs.push(input),
            Effect::Launch(spec) => self.containers.launch(spec),
            Effect::Signal { container, signal } => self.containers.signal(container, signal),
            Effect::Destroy { container } => self.containers.destroy(container),
            Effect::Forget { container } => self.containers.forget(container),
            Effect::Discard(found) => {
                tracing::info!(container = %found.id, task = %found.name, "nobody wants a container back");
                self.containers.discard(found.id);
            }
            Effect::Probe {
                executor,
                probe,
                what,
                timeout,
            } => self.request(executor, probe, what, timeout),
            Effect::CancelProbe { executor, probe } => {
                if let Some(request) = self.requests.remove(&(executor, probe)) {
                    request.abort();
                }
            }
        }
    }

    fn request(&mut self, executor: ContainerId, probe: ProbeId, what: Probe, timeout: Duration) {
        let (prober, tell) = (self.prober.clone(), self.tell.clone());
        let key = (executor.clone(), probe);
        let request = self.runtime.spawn(async move {
            let outcome = prober.probe(what, timeout).await;
            // Nobody listens once the node stops.
            let _ = tell.send(Inner::Probed {
                executor,
                probe,
                outcome,
            });
        });
        self.requests.insert(key, request.abort_handle());
    }
}

impl From<RecoveredContainer> for Found {
    fn from(container: RecoveredContainer) -> Self {
        Self {
            event: container.fate.event(),
            id: container.id,
            name: container.name.into(),
            told: container.told,
            running_for: container.running_for,
        }
    }
}
