//! The tree of roles with their guarantees: what roles below a role are promised is a part of what it is
//! promised itself (`QuotaTree` in `src/master/quota_handler.cpp`).

use super::ByRole;
use std::collections::{BTreeMap, BTreeSet};
use tepui_model::{Quantities, Quota, roles};
use tepui_protocol::v1::quota::QuotaConfig;

/// Guarantees as they would be.
pub(super) struct Wanted<'a> {
    guarantees: BTreeMap<&'a str, Quantities>,
}

impl<'a> Wanted<'a> {
    /// Those there are, with others in the place of some.
    pub(super) fn new(
        quotas: &'a ByRole,
        changed: impl IntoIterator<Item = &'a QuotaConfig>,
    ) -> Self {
        let kept = quotas.values().map(|config| &**config);
        let mut guarantees = BTreeMap::new();
        for config in kept.chain(changed) {
            guarantees.insert(config.role.as_str(), Quota::from(config).guarantees);
        }
        Self { guarantees }
    }

    /// The same without one.
    pub(super) fn without(quotas: &'a ByRole, role: &str) -> Self {
        let mut wanted = Self::new(quotas, None);
        wanted.guarantees.remove(role);
        wanted
    }

    /// Whether every role is promised at least what those right below it are promised together.
    pub(super) fn validate(&self) -> Result<(), String> {
        let mut below: BTreeMap<&str, Quantities> = BTreeMap::new();
        for (role, guarantees) in &self.guarantees {
            if let Some(parent) = roles::parent(role) {
                below.entry(parent).or_default().add_all(guarantees);
            }
        }
        let none = Quantities::new();
        for (role, sum) in below {
            let own = self.guarantees.get(role).unwrap_or(&none);
            if !own.contains(&sum) {
                return Err(format!(
                    "Invalid quota configuration. Parent role '{role}' with guarantees ({own}) does not contain \
                     the sum of its children's guarantees ({sum})"
                ));
            }
        }
        Ok(())
    }

    /// What is promised in all: what roles below others are promised is a part of that.
    pub(super) fn total_guarantees(&self) -> Quantities {
        let tops: BTreeSet<&str> = (self.guarantees.keys().copied())
            .filter(|role| roles::parent(role).is_none())
            .collect();
        let mut total = Quantities::new();
        for top in tops {
            if let Some(guarantees) = self.guarantees.get(top) {
                total.add_all(guarantees);
            }
        }
        total
    }
}
