//! Oversubscription: how much may be offered a second time, as revocable resources, and telling the
//! leader. Follows `forwardOversubscribed` of `src/slave/slave.cpp`, `src/slave/resource_estimators/` and
//! `docs/oversubscription.md`.

use crate::{Follower, Phase, info, io::Effects, state::id_proto, timers::Timer};
use std::{sync::Arc, time::Duration};
use tepui_model::Resources;
use tepui_protocol::{internal as i, v1};

/// An estimate is not worth more than this.
const INTERVAL_MIN: Duration = Duration::from_millis(100);

/// Where estimates come from (`--resource_estimator`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Estimator {
    /// Always the same amount, whatever is used (`org_apache_mesos_FixedResourceEstimator`).
    Fixed(Resources),
}

/// Why an estimator or a controller cannot be had. For the operator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ModuleError {
    /// Nothing of that name is built in.
    #[error("module '{name}' unknown: what is built in is called {}", .known.join(", "))]
    Unknown {
        /// As asked for.
        name: String,
        /// What there is.
        known: &'static [&'static str],
    },
    /// It does nothing without.
    #[error("module '{name}' needs {what} as a parameter in --modules")]
    Missing {
        /// Which module.
        name: &'static str,
        /// Which parameter, or several.
        what: &'static str,
    },
    /// A parameter that says nothing.
    #[error("parameter '{key}' of module '{name}': {reason}")]
    Invalid {
        /// Which module.
        name: &'static str,
        /// Which parameter.
        key: &'static str,
        /// What is wrong with it.
        reason: String,
    },
}

impl Estimator {
    /// Name of the built-in module.
    pub const FIXED: &str = "org_apache_mesos_FixedResourceEstimator";

    /// The estimator of a name. Parameters that mean nothing to it are let pass, as in the reference.
    pub fn new(name: &str, parameters: &[(String, String)]) -> Result<Self, ModuleError> {
        if name != Self::FIXED {
            return Err(ModuleError::Unknown {
                name: name.to_owned(),
                known: &[Self::FIXED],
            });
        }
        let (key, name) = ("resources", Self::FIXED);
        let given = parameters.iter().rev().find(|(k, _)| k == key);
        let (_, text) = given.ok_or(ModuleError::Missing {
            name,
            what: "'resources'",
        })?;
        let resources =
            tepui_model::resources::parse(text, "*").map_err(|error| ModuleError::Invalid {
                name,
                key,
                reason: error.to_string(),
            })?;
        Ok(Self::Fixed(resources.to_revocable()))
    }

    /// How much more can be had while this is taken.
    pub fn oversubscribable(&self, allocated: &Resources) -> Resources {
        match self {
            Self::Fixed(total) => total.saturating_sub(allocated),
        }
    }
}

impl Follower {
    /// Time for another estimate. The leader hears of it if it differs from the one before.
    pub(crate) fn estimate(&mut self, fx: &mut Effects) {
        let interval = self.config.oversubscribed_resources_interval;
        let next = self.now + interval.max(INTERVAL_MIN);
        self.timers.set(Timer::Estimate, next);
        if !self.update_estimate() || self.phase != Phase::Running {
            return;
        }
        let resources = self.oversubscribed.clone().unwrap_or_default();
        info(
            fx,
            format!("Forwarding total oversubscribed resources {resources}"),
        );
        // Nothing but launches can use them: there is no new resource version.
        let message = i::UpdateSlaveMessage {
            slave_id: id_proto(self.id.as_ref()),
            update_oversubscribed_resources: Some(true),
            oversubscribed_resources: resources.to_proto(),
            ..Default::default()
        };
        self.send_leader(message, fx);
    }

    /// Whether the estimate changed.
    pub(crate) fn update_estimate(&mut self) -> bool {
        let Some(estimator) = &self.config.estimator else {
            return false;
        };
        // What is taken stays part of the total until it is given back.
        let mut total = self.allocated_revocable();
        for resource in estimator.oversubscribable(&total).iter() {
            total.add_one(resource.clone());
        }
        if self.oversubscribed.as_deref() == Some(&total) {
            return false;
        }
        self.oversubscribed = Some(Arc::new(total));
        true
    }

    /// Revocable resources that executors and tasks have.
    fn allocated_revocable(&self) -> Resources {
        let mut all = Resources::new();
        let mut add = |resources: &[v1::Resource]| {
            let revocable = resources.iter().filter(|r| r.revocable.is_some());
            for resource in Resources::from_proto(revocable).unallocated().iter() {
                all.add_one(resource.clone());
            }
        };
        for framework in self.frameworks.values() {
            for launch in &framework.pending {
                launch.tasks.iter().for_each(|task| add(&task.resources));
            }
            for executor in framework.executors.values() {
                add(&executor.info.resources);
                executor.queued.values().for_each(|t| add(&t.resources));
                executor.launched.values().for_each(|t| add(&t.resources));
            }
        }
        all
    }
}

/// Whether any of an executor's resources may be taken back.
pub(crate) fn is_revocable(executor: &crate::state::Executor) -> bool {
    let any = |resources: &[v1::Resource]| resources.iter().any(|r| r.revocable.is_some());
    any(&executor.info.resources)
        || executor.queued.values().any(|task| any(&task.resources))
        || executor.launched.values().any(|task| any(&task.resources))
}
