//! Weights: how much of the cluster a role is to get compared with others, 1 unless said.
//!
//! Follows `src/master/weights_handler.cpp`, `Master::_recover` in `src/master/master.cpp` and
//! `docs/weights.md`. A weight that was set once stays in the registry; `--weights` counts only as long
//! as the registry has none.

use crate::{Leader, Level, RegistryChange, Reply, quota::bad};
use rpds::RedBlackTreeMapSync;
use std::{collections::BTreeSet, sync::Arc};
use tepui_model::{number::format_general, roles};
use tepui_protocol::{internal, v1};

/// Weights that were set, by role.
pub(crate) type Weights = RedBlackTreeMapSync<String, f64>;

/// The weight of a role that nobody gave one.
pub(crate) const DEFAULT_WEIGHT: f64 = 1.0;

impl Leader {
    /// What the registry knows; else what the flag says.
    pub(crate) fn recover_weights(&mut self, registry: &internal::Registry) {
        let stored = registry.weights.iter().map(|weight| &weight.info);
        let stored: Vec<(String, f64)> = stored
            .filter(|info| is_valid(info.weight))
            .map(|info| (info.role().to_owned(), info.weight))
            .collect();
        if !stored.is_empty() && !self.config.weights.is_empty() {
            let text = "The weights of --weights do not count: the registry has weights".to_owned();
            self.notice(Level::Warning, text);
            self.config.weights.clear();
        }
        let given = self.config.weights.clone();
        for (role, weight) in stored.into_iter().chain(given) {
            self.set_weight(role, weight);
        }
    }

    /// What the flag said has to outlive this leader too.
    pub(crate) fn record_given_weights(&mut self) {
        for (role, weight) in std::mem::take(&mut self.config.weights) {
            self.persist(change(role, weight));
        }
    }

    fn set_weight(&mut self, role: String, weight: f64) {
        self.allocator
            .update_weight(&Arc::from(role.as_str()), weight);
        self.weights.insert_mut(role, weight);
    }

    /// `UPDATE_WEIGHTS` and `PUT /weights`: all of them, or none if one is wrong.
    pub(crate) fn operator_weights(&mut self, infos: &[v1::WeightInfo]) -> Reply {
        let weights: Result<Vec<(String, f64)>, String> =
            infos.iter().map(|info| self.valid_weight(info)).collect();
        let weights = match weights {
            Ok(weights) => weights,
            Err(error) => return bad(error),
        };
        for (role, weight) in &weights {
            self.persist(change(role.clone(), *weight));
            self.notice(
                Level::Info,
                format!("The weight of role '{role}' is {weight} now"),
            );
            self.set_weight(role.clone(), *weight);
        }
        let roles: BTreeSet<&str> = weights.iter().map(|(role, _)| role.as_str()).collect();
        if self.has_frameworks_in(&roles) {
            // What is out was shared out by other weights.
            self.rescind_all_offers();
        }
        Reply::Ok
    }

    fn valid_weight(&self, info: &v1::WeightInfo) -> Result<(String, f64), String> {
        const REQUEST: &str = "Failed to validate update weights request JSON";
        let (role, weight) = (info.role().trim(), info.weight);
        roles::validate(role)
            .map_err(|error| format!("{REQUEST}: Invalid role '{role}': {error}"))?;
        if !self.config.allows_role(role) {
            return Err(format!("{REQUEST}: Unknown role '{role}'"));
        }
        if !is_valid(weight) {
            return Err(format!(
                "{REQUEST} for role '{role}': Invalid weight '{}': Weights must be positive",
                format_general(weight)
            ));
        }
        Ok((role.to_owned(), weight))
    }

    /// Whether a framework is subscribed with one of these roles or holds something in it.
    fn has_frameworks_in(&self, roles: &BTreeSet<&str>) -> bool {
        let is_among = |role: &str| roles.contains(role);
        self.state.frameworks().any(|framework| {
            let held = framework.used.iter().chain(framework.offered.iter());
            framework.roles.iter().any(|role| is_among(role))
                || held
                    .filter_map(|resource| resource.allocation_role())
                    .any(|role| is_among(role))
        })
    }

    pub(crate) fn check_weights(&self) {
        for (role, weight) in self.weights.iter() {
            assert!(
                is_valid(*weight),
                "the weight of {role} is a positive number"
            );
        }
        for role in self.allocator.roles() {
            let known = self.weights.get(role.name.as_ref()).copied();
            assert_eq!(
                role.weight,
                known.unwrap_or(DEFAULT_WEIGHT),
                "the allocator has the weight of {}",
                role.name
            );
        }
    }
}

/// Fair sharing divides by it.
pub(crate) fn is_valid(weight: f64) -> bool {
    weight.is_finite() && weight > 0.0
}

fn change(role: String, weight: f64) -> RegistryChange {
    RegistryChange::Weight(v1::WeightInfo {
        weight,
        role: Some(role),
    })
}
