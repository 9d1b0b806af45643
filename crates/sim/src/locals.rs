//! Carries out what the executors within a follower want, as `node/src/follower/locals.rs` does.

use crate::env::Env;
use tepui_executor::io::ProbeOutcome;
use tepui_follower::{
    io::Input,
    locals::{self, Effect, Effects},
};
use tepui_model::{Rng, Time, container::ContainerId};

/// The executors, and hands for them.
pub(crate) struct Locals {
    machine: u8,
    core: locals::Locals,
}

pub(crate) type Inputs = Vec<Input>;

impl Locals {
    pub(crate) fn new(machine: u8, rng: Rng, found: Vec<locals::Found>) -> Self {
        let mut core = locals::Locals::new(rng);
        core.found(found);
        Self { machine, core }
    }

    pub(crate) fn contains(&self, container: &ContainerId) -> bool {
        self.core.contains(container)
    }

    pub(crate) fn next_deadline(&self) -> Option<Time> {
        self.core.next_deadline()
    }

    pub(crate) fn step<R>(
        &mut self,
        env: &mut Env,
        now: Time,
        inputs: &mut Inputs,
        step: impl FnOnce(&mut locals::Locals, &mut Effects) -> R,
    ) -> R {
        let mut effects = Effects::default();
        let result = step(&mut self.core, &mut effects);
        while !effects.0.is_empty() {
            for effect in std::mem::take(&mut effects.0) {
                self.carry(env, now, effect, inputs, &mut effects);
            }
        }
        if env.checks() {
            self.core.check();
        }
        result
    }

    fn carry(
        &mut self,
        env: &mut Env,
        now: Time,
        effect: Effect,
        inputs: &mut Inputs,
        more: &mut Effects,
    ) {
        match effect {
            Effect::Input(input) => inputs.push(input),
            Effect::Launch(spec) => env.launch(self.machine, spec),
            Effect::Signal { container, signal } => env.signal(self.machine, &container, signal),
            Effect::Destroy { container } => env.destroy(self.machine, &container),
            Effect::Forget { container } => env.forget(self.machine, &container),
            Effect::Discard(found) => env.discard(self.machine, &found.id),
            Effect::Probe {
                executor, probe, ..
            } => {
                let outcome = ProbeOutcome::Failed("nothing is probed here".to_owned());
                self.core.probed(now, &executor, probe, outcome, more);
            }
            Effect::CancelProbe { .. } => {}
        }
    }
}
