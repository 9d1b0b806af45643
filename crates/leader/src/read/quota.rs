//! `/quota`, `/weights` and what `GET_QUOTA`, `GET_WEIGHTS` show (`src/master/quota_handler.cpp`,
//! `src/master/weights_handler.cpp`), and the metrics of quotas (`docs/monitoring.md`).

use super::roles::Roles;
use crate::view::View;
use serde::{Serialize, Serializer};
use std::collections::BTreeMap;
use tepui_model::{Quota, Scalar, documents::Proto};
use tepui_protocol::v1::{
    self,
    quota::{QuotaConfig, QuotaInfo, QuotaStatus},
    value,
};

/// All quotas. `infos` is for those who know guarantees only.
pub(super) fn status(view: &View) -> QuotaStatus {
    let quotas = view.quotas.iter();
    let quotas = quotas.map(|(role, config)| (role, Quota::from(&**config)));
    #[allow(deprecated)]
    let mut status = QuotaStatus {
        infos: Vec::new(),
        configs: Vec::new(),
    };
    for (role, quota) in quotas {
        let guarantees = || quota.guarantees.iter();
        let amounts = |(name, amount): (&tepui_model::resources::Name, Scalar)| {
            (name.as_str().to_owned(), amount.to_proto())
        };
        let info = QuotaInfo {
            role: Some(role.clone()),
            guarantee: guarantees()
                .map(|(name, amount)| scalar(name.as_str(), amount))
                .collect(),
            ..Default::default()
        };
        #[allow(deprecated)]
        status.infos.push(info);
        status.configs.push(QuotaConfig {
            role: role.clone(),
            guarantees: guarantees().map(amounts).collect(),
            limits: quota.limits.iter().map(amounts).collect(),
        });
    }
    status
}

/// A scalar that is nobody's, as the older formats have it.
pub(super) fn scalar(name: &str, amount: Scalar) -> v1::Resource {
    v1::Resource {
        name: name.to_owned(),
        r#type: value::Type::Scalar.into(),
        scalar: Some(amount.to_proto()),
        ..Default::default()
    }
}

/// Weights that were set, by role.
pub(super) fn weights(view: &View) -> Vec<v1::WeightInfo> {
    let info = |(role, weight): (&String, &f64)| v1::WeightInfo {
        role: Some(role.clone()),
        weight: *weight,
    };
    view.weights.iter().map(info).collect()
}

/// `/weights`.
pub(super) struct Weights<'a>(pub(super) &'a View);

impl Serialize for Weights<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let weights = weights(self.0);
        serializer.collect_seq(weights.iter().map(Proto))
    }
}

/// Gauges under `allocator/mesos/quota/roles/ROLE/resources/NAME/`.
pub(super) fn metrics(view: &View, all: &mut BTreeMap<String, f64>) {
    let roles = Roles::of(view);
    let mut set = |role: &str, name: &str, what: &str, amount: Scalar| {
        let name = format!("allocator/mesos/quota/roles/{role}/resources/{name}/{what}");
        all.insert(name, amount.to_f64());
    };
    for (role, amounts) in roles.iter() {
        for (name, amount) in amounts.consumed_with_offers().iter() {
            if roles.is_scalar(name.as_str()) {
                set(role, name.as_str(), "consumed", amount);
            }
        }
        let held = amounts.offered_or_allocated();
        let quota = &amounts.quota;
        for (name, amount) in quota.guarantees.iter() {
            set(role, name.as_str(), "guarantee", amount);
            set(
                role,
                name.as_str(),
                "offered_or_allocated",
                held.amount(name.as_str()),
            );
        }
        for (name, amount) in quota.limits.iter() {
            set(role, name.as_str(), "limit", amount);
            set(
                role,
                name.as_str(),
                "offered_or_allocated",
                held.amount(name.as_str()),
            );
        }
    }
    for (name, amount) in roles.root().consumed_with_offers().iter() {
        if roles.is_scalar(name.as_str()) {
            set("", name.as_str(), "consumed", amount);
        }
    }
}
