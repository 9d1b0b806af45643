//! Quotas: what a role is promised, and what it may have at most.
//!
//! Follows `src/master/quota_handler.cpp`, `src/master/quota.cpp` and `docs/quota.md`. `UPDATE_QUOTA`
//! sets guarantees and limits; `SET_QUOTA` and `/quota`, from before limits existed, set both to the same.
//! The allocator keeps to them; here is who may set what, what becomes of offers that are out, and what
//! the registry has.
//!
//! The reference refuses quotas of nested roles (MESOS-7402). Here every level of the tree may have one,
//! with the checks on the tree that the reference has for that day.

mod older;
mod tree;

use crate::{Leader, Level, RegistryChange, Reply, state::OfferEntry, validate};
use rpds::RedBlackTreeMapSync;
use std::{collections::BTreeMap, sync::Arc};
use tepui_model::{Limits, OfferId, Quantities, Quota, roles};
use tepui_protocol::{
    internal,
    v1::{master::call, quota::QuotaConfig},
};

/// Leaders without it would not keep to them.
const CAPABILITY: &str = "QUOTA_V2";

/// Quotas by role. Those that promise nothing and bound nothing are not kept.
pub(crate) type ByRole = RedBlackTreeMapSync<String, Arc<QuotaConfig>>;

/// What is kept of quotas.
#[derive(Debug, Default)]
pub(crate) struct Quotas {
    pub(crate) by_role: ByRole,
    /// The registry says that leaders have to know of quotas.
    required: bool,
    /// There were some that leaders know of that need not know of those there are now.
    inherited: bool,
}

impl Leader {
    /// What the registry knows of them, those from before limits existed included.
    pub(crate) fn recover_quotas(&mut self, registry: &internal::Registry) {
        let capabilities = &registry.minimum_capabilities;
        self.quotas.required = capabilities.iter().any(|c| c.capability == CAPABILITY);
        let before = registry
            .quotas
            .iter()
            .map(|quota| older::config(quota.info.role(), &quota.info.guarantee));
        let configs: Vec<QuotaConfig> = before
            .chain(registry.quota_configs.iter().cloned())
            .collect();
        for config in configs {
            self.set_quota(config);
        }
        self.quotas.inherited = !self.quotas.by_role.is_empty();
    }

    /// Sets a quota in the tables; one that says nothing is none.
    fn set_quota(&mut self, config: QuotaConfig) {
        let quota = Quota::from(&config);
        let role: Arc<str> = Arc::from(config.role.as_str());
        if quota.is_default() {
            self.quotas.by_role.remove_mut(&config.role);
        } else {
            let name = config.role.clone();
            self.quotas.by_role.insert_mut(name, Arc::new(config));
        }
        self.allocator.update_quota(&role, quota);
    }

    /// Sets quotas in the registry and the tables.
    fn change_quotas(&mut self, configs: &[QuotaConfig]) {
        for config in configs {
            if Quota::from(config).is_default() {
                self.persist(RegistryChange::RemoveQuota(config.role.clone()));
            } else {
                // Before anything depends on it.
                if !std::mem::replace(&mut self.quotas.required, true) {
                    self.persist(RegistryChange::RequireCapability(CAPABILITY.to_owned()));
                }
                self.persist(RegistryChange::Quota(Box::new(config.clone())));
            }
            self.notice(
                Level::Info,
                format!("The quota of role '{}' is {}", config.role, text(config)),
            );
            self.set_quota(config.clone());
        }
        if self.quotas.by_role.is_empty() && std::mem::take(&mut self.quotas.required) {
            self.persist(RegistryChange::ReleaseCapability(CAPABILITY.to_owned()));
        }
    }

    /// `UPDATE_QUOTA`: all of them, or none if one is wrong.
    pub(crate) fn operator_update_quota(&mut self, call: &call::UpdateQuota) -> Reply {
        let configs = &call.quota_configs;
        let mut holdings = self.holdings(configs.iter().map(|config| config.role.as_str()));
        if let Err(error) = self.valid_quotas(configs, call.force(), &holdings) {
            return bad(error);
        }
        self.change_quotas(configs);
        for config in configs {
            self.make_room(config, &mut holdings);
        }
        Reply::Ok
    }

    fn valid_quotas(
        &mut self,
        configs: &[QuotaConfig],
        force: bool,
        holdings: &Holdings,
    ) -> Result<(), String> {
        for config in configs {
            if !self.config.allows_role(&config.role) {
                return Err(format!(
                    "Invalid QuotaConfig: '{}' is not on the roles whitelist",
                    config.role
                ));
            }
            validate::quota::config(config)
                .map_err(|error| format!("Invalid QuotaConfig: {error}"))?;
        }
        for config in configs {
            let limits = Quota::from(config).limits;
            let consumed = holdings.consumed(&config.role);
            if limits.contains(&consumed) {
                continue;
            }
            if !force {
                return Err(format!(
                    "Invalid QuotaConfig: Role '{}' is already consuming '{consumed}'; this is more than the \
                     requested limits '{limits}' (use 'force' flag to bypass this check)",
                    config.role
                ));
            }
            let role = &config.role;
            let text = format!(
                "Role '{role}' consumes {consumed} already, more than its new limits {limits}"
            );
            self.notice(Level::Warning, text);
        }
        let wanted = tree::Wanted::new(&self.quotas.by_role, configs.iter());
        wanted
            .validate()
            .map_err(|error| format!("Invalid QuotaConfig: {error}"))?;
        let guaranteed = wanted.total_guarantees();
        let Err(capacity) = self.can_guarantee(&guaranteed) else {
            return Ok(());
        };
        if force {
            let text = format!("All guarantees come to {guaranteed}, of {capacity} in the cluster");
            self.notice(Level::Warning, text);
            return Ok(());
        }
        Err(format!(
            "Invalid QuotaConfig: total quota guarantees '{guaranteed}' exceed cluster capacity '{capacity}' \
             (use 'force' flag to bypass this check)"
        ))
    }

    /// Whether registered followers, connected or not, have so much together; else what they have.
    /// They are asked one by one until it is enough.
    fn can_guarantee(&self, guaranteed: &Quantities) -> Result<(), Quantities> {
        let mut capacity = Quantities::new();
        let mut followers = self.state.followers();
        while !capacity.contains(guaranteed) {
            let Some(follower) = followers.next() else {
                return Err(capacity);
            };
            capacity.add_all(&follower.total.non_revocable().quantities());
        }
        Ok(())
    }

    /// What counts against the quotas of some roles. The allocator counts offers too.
    fn holdings<'a>(&self, of: impl Iterator<Item = &'a str>) -> Holdings {
        let mut holdings = Holdings::of(of);
        let mut counted = holdings.empty();
        for framework in self.state.frameworks() {
            for resource in framework.offered.iter() {
                let amount = resource.as_scalar();
                let Some((role, amount)) = resource.allocation_role().zip(amount) else {
                    continue;
                };
                holdings.add(role, |held| held.offered.add(resource.name(), amount));
                if resource.is_unreserved() && !resource.is_revocable() {
                    counted.add(role, |held| held.offered.add(resource.name(), amount));
                }
            }
        }
        for (role, held) in &mut holdings.0 {
            held.consumed = self.allocator.quota_consumed(role);
            if let Some(counted) = counted.0.get(role) {
                held.consumed.subtract_all(&counted.offered);
            }
        }
        holdings
    }

    /// Takes back offers until a role and those below it keep to its limits, and until what is left and
    /// promised to it can be had. As in the reference this is an estimate: what is free is not looked at,
    /// and reservations on offer count twice.
    fn make_room(&mut self, config: &QuotaConfig, holdings: &mut Holdings) {
        let (role, quota) = (config.role.as_str(), Quota::from(config));
        let held = holdings.held(role);
        if !quota.limits.contains(&held) {
            self.rescind_beyond(role, &quota.limits, held, holdings);
        }
        let mut held = holdings.held(role);
        while !held.contains(&quota.guarantees) {
            let is_other = |offer: &OfferEntry| !roles::is_in_subtree(&offer.role, role);
            let other = self.state.offers().find(|(_, offer)| is_other(offer));
            let Some(id) = other.map(|(id, _)| id.clone()) else {
                return;
            };
            held.add_all(&self.rescind_held(&id, holdings));
        }
    }

    fn rescind_beyond(
        &mut self,
        role: &str,
        limits: &Limits,
        mut held: Quantities,
        holdings: &mut Holdings,
    ) {
        let offers: Vec<OfferId> = (self.state.offers())
            .filter(|(_, offer)| roles::is_in_subtree(&offer.role, role))
            .map(|(id, _)| id.clone())
            .collect();
        for id in offers {
            if limits.contains(&held) {
                return;
            }
            held.subtract_all(&self.rescind_held(&id, holdings));
        }
    }

    /// What an offer held that was taken back.
    fn rescind_held(&mut self, id: &OfferId, holdings: &mut Holdings) -> Quantities {
        let Some(offer) = self.state.offer(id) else {
            return Quantities::new();
        };
        let freed = offer.resources.quantities();
        holdings.add(&offer.role, |held| held.offered.subtract_all(&freed));
        self.rescind_offer(id);
        freed
    }

    /// Takes back every offer.
    pub(crate) fn rescind_all_offers(&mut self) {
        let offers: Vec<OfferId> = self.state.offers().map(|(id, _)| id.clone()).collect();
        for id in offers {
            self.rescind_offer(&id);
        }
    }

    pub(crate) fn check_quotas(&self) {
        for (role, config) in self.quotas.by_role.iter() {
            assert_eq!(*role, config.role, "a quota is under its role");
            assert!(
                !Quota::from(&**config).is_default(),
                "the quota of {role} says something"
            );
            assert_eq!(
                self.allocator.quota(role),
                Quota::from(&**config),
                "the allocator has the quota of {role}"
            );
        }
        assert!(
            self.quotas.required || self.quotas.inherited || self.quotas.by_role.is_empty(),
            "the registry requires what is needed"
        );
    }
}

/// What some roles hold, each with all roles below it.
struct Holdings(BTreeMap<String, Held>);

#[derive(Default)]
struct Held {
    /// All that is reserved, used or not, and what else tasks and executors hold, but for what is
    /// revocable. Offers do not count: they may come back.
    consumed: Quantities,
    offered: Quantities,
}

impl Holdings {
    fn of<'a>(roles: impl Iterator<Item = &'a str>) -> Self {
        Self(
            roles
                .map(|role| (role.to_owned(), Held::default()))
                .collect(),
        )
    }

    /// The same roles, holding nothing.
    fn empty(&self) -> Self {
        Self::of(self.0.keys().map(String::as_str))
    }

    /// Counts something of a role for it and for those above it.
    fn add(&mut self, role: &str, mut add: impl FnMut(&mut Held)) {
        for counted in std::iter::once(role).chain(roles::ancestors(role)) {
            if let Some(held) = self.0.get_mut(counted) {
                add(held);
            }
        }
    }

    fn consumed(&self, role: &str) -> Quantities {
        let held = self.0.get(role);
        held.map(|held| held.consumed.clone()).unwrap_or_default()
    }

    /// Consumed and offered.
    fn held(&self, role: &str) -> Quantities {
        let mut all = self.consumed(role);
        if let Some(held) = self.0.get(role) {
            all.add_all(&held.offered);
        }
        all
    }
}

/// `guaranteed cpus:1, limited to cpus:2`
fn text(config: &QuotaConfig) -> String {
    let quota = Quota::from(config);
    match quota.is_default() {
        true => "removed".to_owned(),
        false => format!(
            "guaranteed {}, limited to {}",
            quota.guarantees, quota.limits
        ),
    }
}

/// 400
pub(crate) fn bad(message: String) -> Reply {
    Reply::Error {
        status: 400,
        message,
    }
}
