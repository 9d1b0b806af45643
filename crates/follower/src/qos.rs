//! Oversubscription: taking revocable resources back when the machine has too much to do. Follows
//! `_qosCorrections` of `src/slave/slave.cpp`, `src/slave/qos_controllers/` and `docs/oversubscription.md`.
//!
//! Any revocable resource makes the whole executor revocable.

use crate::{
    Follower, Phase,
    estimator::{ModuleError, is_revocable},
    info,
    io::Effects,
    state::{ExecutorKey, Termination},
    view::ExecutorState,
    warn,
};
use tepui_protocol::v1::{TaskState, task_status::Reason};

/// How many processes wanted to run, on average (`/proc/loadavg`). The last minute says too little to
/// kill for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Load {
    /// Over five minutes.
    pub five: f64,
    /// Over fifteen.
    pub fifteen: f64,
}

/// Ends revocable executors while the load is above a threshold
/// (`org_apache_mesos_LoadQoSController`).
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct LoadController {
    /// `load_threshold_5min`
    pub five: Option<f64>,
    /// `load_threshold_15min`
    pub fifteen: Option<f64>,
}

impl LoadController {
    /// Name of the built-in module.
    pub const NAME: &str = "org_apache_mesos_LoadQoSController";

    /// The controller of a name. Parameters that mean nothing to it are let pass, as in the reference.
    pub fn new(name: &str, parameters: &[(String, String)]) -> Result<Self, ModuleError> {
        if name != Self::NAME {
            return Err(ModuleError::Unknown {
                name: name.to_owned(),
                known: &[Self::NAME],
            });
        }
        let threshold = |key: &'static str| {
            let given = parameters.iter().rev().find(|(k, _)| k == key);
            let parse = |text: &str| match text.trim().parse::<f64>() {
                Ok(value) if value.is_finite() => Ok(value),
                _ => Err(ModuleError::Invalid {
                    name: Self::NAME,
                    key,
                    reason: format!("'{text}' is not a number"),
                }),
            };
            given.map(|(_, text)| parse(text)).transpose()
        };
        let controller = Self {
            five: threshold("load_threshold_5min")?,
            fifteen: threshold("load_threshold_15min")?,
        };
        if controller == Self::default() {
            return Err(ModuleError::Missing {
                name: Self::NAME,
                what: "'load_threshold_5min' or 'load_threshold_15min'",
            });
        }
        Ok(controller)
    }

    /// What is too much, in words; nothing if nothing is.
    pub fn overload(&self, load: Load) -> Option<String> {
        let over = |minutes, load: f64, threshold: Option<f64>| {
            let threshold = threshold.filter(|threshold| load > *threshold)?;
            Some(format!(
                "System {minutes} minutes load average {load} exceeds threshold {threshold}"
            ))
        };
        over(5, load.five, self.five).or_else(|| over(15, load.fifteen, self.fifteen))
    }
}

impl Follower {
    /// The load was measured.
    pub(crate) fn load(&mut self, load: Load, fx: &mut Effects) {
        let overload = self.config.qos_controller.as_ref();
        let Some(why) = overload.and_then(|controller| controller.overload(load)) else {
            return;
        };
        if matches!(self.phase, Phase::Recovering | Phase::Terminating) {
            return;
        }
        let victims = self.frameworks.values().filter(|f| !f.terminating);
        let victims: Vec<ExecutorKey> = victims
            .flat_map(|framework| {
                let live = framework.executors.values().filter(|executor| {
                    matches!(
                        executor.state,
                        ExecutorState::Registering | ExecutorState::Running
                    ) && is_revocable(executor)
                });
                live.map(|executor| (framework.id.clone(), executor.id.clone()))
            })
            .collect();
        if !victims.is_empty() {
            info(fx, why);
        }
        for key in victims {
            self.preempt(&key, fx);
        }
    }

    fn preempt(&mut self, key: &ExecutorKey, fx: &mut Effects) {
        let aware = self
            .frameworks
            .get(&key.0)
            .is_some_and(|f| f.partition_aware());
        warn(
            fx,
            format!(
                "Killing executor {} of framework {} as QoS correction",
                key.1, key.0
            ),
        );
        let termination = Termination {
            state: if aware {
                TaskState::TaskGone
            } else {
                TaskState::TaskLost
            },
            reason: Reason::ContainerPreempted,
            message: "Container preempted by QoS correction".to_owned(),
        };
        self.counters.executors_preempted += 1;
        self.kill_executor(key, termination, fx);
    }
}
