//! `/roles`, `GET_ROLES` and the metrics of roles: every role that is subscribed with, in use, reserved
//! for, or has a weight or quota, and all roles above those (`Master::knownRoles` in
//! `src/master/master.cpp`). What a role has includes what roles below it have.

use super::documents::is_multi_role;
use crate::{view::View, weights::DEFAULT_WEIGHT};
use serde::{Serialize, Serializer, ser::SerializeMap};
use std::collections::{BTreeMap, BTreeSet};
use tepui_model::{
    Quantities, Quota, Resource, Resources, Scalar,
    documents::Strings,
    resources::{Amount, Limits},
    roles,
};
use tepui_protocol::v1;

/// Resources that are known to be scalars.
const SCALARS: [&str; 4] = ["cpus", "mem", "disk", "gpus"];

#[derive(Default, Clone)]
pub(super) struct Role {
    weight: Option<f64>,
    pub(super) quota: Quota,
    /// Not those of roles below.
    frameworks: BTreeSet<String>,
    allocated: Quantities,
    offered: Quantities,
    reserved: Quantities,
    /// The part of what is allocated that counts against quotas: neither reserved nor revocable.
    used: Quantities,
    /// The same of what is offered.
    on_offer: Quantities,
}

impl Role {
    /// What counts against its quota, as an operator sees it: reservations count whether they are used
    /// or not.
    fn consumed(&self) -> Quantities {
        let mut consumed = self.used.clone();
        consumed.add_all(&self.reserved);
        consumed
    }
    fn held(&self) -> Quantities {
        let mut held = self.allocated.clone();
        held.add_all(&self.offered);
        held
    }
    /// What counts against its quota, as the allocator sees it: offers may be accepted.
    pub(super) fn consumed_with_offers(&self) -> Quantities {
        let mut consumed = self.consumed();
        consumed.add_all(&self.on_offer);
        consumed
    }
    /// What is allocated or on offer and counts against its quota.
    pub(super) fn offered_or_allocated(&self) -> Quantities {
        self.held()
    }
}

/// All roles.
#[derive(Default)]
pub(super) struct Roles {
    by_name: BTreeMap<String, Role>,
    /// Resources that come in ranges or sets: the allocator counts none of them against quotas.
    counted: BTreeSet<String>,
}

impl Roles {
    pub(super) fn of(view: &View) -> Self {
        let mut roles = Self::default();
        for framework in view.frameworks.values() {
            let id = framework.id.to_string();
            let info = &framework.info;
            let single = [info.role().to_owned()];
            let subscribed = match is_multi_role(info) {
                true => &info.roles[..],
                false => &single[..],
            };
            for role in subscribed {
                roles.count(role, |_| {});
                roles
                    .by_name
                    .entry(role.clone())
                    .or_default()
                    .frameworks
                    .insert(id.clone());
            }
            for (held, is_used) in [(&framework.used, true), (&framework.offered, false)] {
                for resource in &Resources::from_proto(held.iter()) {
                    roles.count_held(&id, resource, is_used);
                }
            }
        }
        for follower in view.followers.values() {
            let total = follower.total.iter();
            let reserved = total.filter(|resource| !resource.reservations.is_empty());
            for resource in &Resources::from_proto(reserved) {
                roles.count_reserved(resource);
            }
        }
        for (role, weight) in view.weights.iter() {
            roles.count(role, |_| {});
            roles.by_name.entry(role.clone()).or_default().weight = Some(*weight);
        }
        for (role, config) in view.quotas.iter() {
            roles.count(role, |_| {});
            roles.by_name.entry(role.clone()).or_default().quota = Quota::from(&**config);
        }
        if let Some(only) = &view.only_roles {
            roles.keep_only(only);
        }
        roles
    }

    fn count_reserved(&mut self, resource: &Resource) {
        let Some(name) = resource.reservation_role() else {
            return;
        };
        self.note(resource);
        let size = size(resource);
        self.count(name, |role| role.reserved.add(resource.name(), size));
    }

    fn note(&mut self, resource: &Resource) {
        let name = resource.name().as_str();
        if resource.as_scalar().is_none() && !self.counted.contains(name) {
            self.counted.insert(name.to_owned());
        }
    }

    fn count_held(&mut self, framework: &str, resource: &Resource, is_used: bool) {
        let Some(name) = resource.allocation_role() else {
            return;
        };
        let size = size(resource);
        let counts = resource.is_unreserved() && !resource.is_revocable();
        self.note(resource);
        self.count(name, |role| {
            let (all, counted) = match is_used {
                true => (&mut role.allocated, &mut role.used),
                false => (&mut role.offered, &mut role.on_offer),
            };
            all.add(resource.name(), size);
            if counts {
                counted.add(resource.name(), size);
            }
        });
        let role = self.by_name.entry(name.to_string()).or_default();
        role.frameworks.insert(framework.to_owned());
    }

    /// Counts something of a role for it and for all above it.
    fn count(&mut self, role: &str, mut add: impl FnMut(&mut Role)) {
        for counted in std::iter::once(role).chain(roles::ancestors(role)) {
            match self.by_name.get_mut(counted) {
                Some(role) => add(role),
                None => add(self.by_name.entry(counted.to_owned()).or_default()),
            }
        }
    }

    /// With a list of allowed roles, exactly those and the ones above them are there.
    fn keep_only(&mut self, only: &BTreeSet<String>) {
        let listed = only.iter().map(String::as_str).chain([roles::DEFAULT_ROLE]);
        let all: BTreeSet<&str> = listed
            .flat_map(|role| std::iter::once(role).chain(roles::ancestors(role)))
            .collect();
        self.by_name.retain(|role, _| all.contains(role.as_str()));
        for role in all {
            self.by_name.entry(role.to_owned()).or_default();
        }
    }

    /// Whether the allocator counts a resource against quotas.
    pub(super) fn is_scalar(&self, name: &str) -> bool {
        !self.counted.contains(name)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &Role)> {
        self.by_name
            .iter()
            .map(|(name, role)| (name.as_str(), role))
    }

    /// All roles together, which the reference counts as those below a role without a name.
    pub(super) fn root(&self) -> Role {
        let mut root = Role::default();
        for (_, role) in self
            .iter()
            .filter(|(name, _)| roles::parent(name).is_none())
        {
            root.used.add_all(&role.used);
            root.reserved.add_all(&role.reserved);
            root.on_offer.add_all(&role.on_offer);
        }
        root
    }

    /// For `GET_ROLES`.
    pub(super) fn to_proto(&self) -> Vec<v1::Role> {
        let role = |(name, role): (&str, &Role)| v1::Role {
            name: name.to_owned(),
            weight: role.weight.unwrap_or(DEFAULT_WEIGHT),
            frameworks: (role.frameworks.iter())
                .map(|id| v1::FrameworkId { value: id.clone() })
                .collect(),
            resources: scalars(&role.held()),
        };
        self.iter().map(role).collect()
    }
}

/// How much of it there is: ranges and sets by the number of what is in them.
fn size(resource: &Resource) -> Scalar {
    let units = |count: u64| Scalar::units(i64::try_from(count).unwrap_or(i64::MAX));
    match resource.amount() {
        Amount::Scalar(amount) => *amount,
        Amount::Ranges(ranges) => units(ranges.count()),
        Amount::Set(set) => units(set.as_slice().len() as u64),
    }
}

fn scalars(amounts: &Quantities) -> Vec<v1::Resource> {
    let scalars = amounts
        .iter()
        .filter(|(name, _)| SCALARS.contains(&name.as_str()));
    scalars
        .map(|(name, amount)| super::quota::scalar(name.as_str(), amount))
        .collect()
}

/// Scalar amounts by name; names without any are left out.
struct Amounts<'a>(&'a Quantities);

impl Serialize for Amounts<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let amounts = self.0.iter();
        serializer.collect_map(amounts.map(|(name, amount)| (name.as_str(), amount.to_f64())))
    }
}

/// Bounds by name; none are kept even if they are zero.
struct Bounds<'a>(&'a Limits);

impl Serialize for Bounds<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let limits = self.0.iter();
        serializer.collect_map(limits.map(|(name, limit)| (name.as_str(), limit.to_f64())))
    }
}

/// A quota in the words of before there were limits.
struct QuotaEntry<'a>(&'a str, &'a Role);

impl Serialize for QuotaEntry<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(name, role) = self;
        let mut map = serializer.serialize_map(Some(4))?;
        map.serialize_entry("role", name)?;
        map.serialize_entry("guarantee", &Amounts(&role.quota.guarantees))?;
        map.serialize_entry("limit", &Bounds(&role.quota.limits))?;
        map.serialize_entry("consumed", &Amounts(&role.consumed()))?;
        map.end()
    }
}

struct Entry<'a>(&'a str, &'a Role);

impl Serialize for Entry<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(name, role) = self;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("name", name)?;
        map.serialize_entry("weight", &role.weight.unwrap_or(DEFAULT_WEIGHT))?;
        map.serialize_entry("quota", &QuotaEntry(name, role))?;
        map.serialize_entry("resources", &Amounts(&role.held()))?;
        map.serialize_entry("allocated", &Amounts(&role.allocated))?;
        map.serialize_entry("offered", &Amounts(&role.offered))?;
        map.serialize_entry("reserved", &Amounts(&role.reserved))?;
        map.serialize_entry(
            "frameworks",
            &Strings(role.frameworks.iter().map(String::as_str)),
        )?;
        map.end()
    }
}

impl Serialize for Roles {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let entries: Vec<_> = self.iter().map(|(name, role)| Entry(name, role)).collect();
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry("roles", &entries)?;
        map.end()
    }
}
