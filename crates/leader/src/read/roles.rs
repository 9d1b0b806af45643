//! `/roles` and what `GET_ROLES` shows: every role that is subscribed, in use or reserved for.

use super::documents::is_multi_role;
use crate::view::View;
use serde::{Serialize, Serializer, ser::SerializeMap};
use std::collections::{BTreeMap, BTreeSet};
use tepui_model::{Quantities, Resources, documents::Strings};
use tepui_protocol::v1;

#[derive(Default)]
struct Role {
    frameworks: BTreeSet<String>,
    allocated: Resources,
    offered: Resources,
    reserved: Resources,
}

/// `/roles`.
pub(super) struct Roles(BTreeMap<String, Role>);

impl Roles {
    pub(super) fn of(view: &View) -> Self {
        let mut roles: BTreeMap<String, Role> = BTreeMap::new();
        for framework in view.frameworks.values() {
            let info = &framework.info;
            let single = [info.role().to_owned()];
            let subscribed = if is_multi_role(info) {
                &info.roles[..]
            } else {
                &single[..]
            };
            for role in subscribed {
                roles
                    .entry(role.clone())
                    .or_default()
                    .frameworks
                    .insert(framework.id.to_string());
            }
            for (held, pick) in [(&framework.used, true), (&framework.offered, false)] {
                for (name, resources) in Resources::from_proto(held.iter()).allocations() {
                    let role = roles.entry(name.to_string()).or_default();
                    role.frameworks.insert(framework.id.to_string());
                    if pick {
                        role.allocated += &resources;
                    } else {
                        role.offered += &resources;
                    }
                }
            }
        }
        for follower in view.followers.values() {
            for (name, resources) in Resources::from_proto(follower.total.iter()).reservations() {
                roles.entry(name).or_default().reserved += &resources;
            }
        }
        Self(roles)
    }

    /// For `GET_ROLES`.
    pub(super) fn to_proto(&self) -> Vec<v1::Role> {
        self.0
            .iter()
            .map(|(name, role)| {
                let mut both = role.allocated.clone();
                both += &role.offered;
                v1::Role {
                    name: name.clone(),
                    weight: 1.0,
                    frameworks: role
                        .frameworks
                        .iter()
                        .map(|id| v1::FrameworkId { value: id.clone() })
                        .collect(),
                    resources: both.unallocated().to_unreserved().to_proto(),
                }
            })
            .collect()
    }
}

/// Scalar amounts by name; names without any are left out.
struct Amounts(Quantities);

impl Serialize for Amounts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(
            self.0
                .iter()
                .map(|(name, scalar)| (name.as_str(), scalar.to_f64())),
        )
    }
}

struct Quota<'a> {
    role: &'a str,
    consumed: Quantities,
}

impl Serialize for Quota<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let none = BTreeMap::<&str, f64>::new();
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("role", self.role)?;
        map.serialize_entry("guarantee", &none)?;
        map.serialize_entry("limit", &none)?;
        map.serialize_entry("consumed", &Amounts(self.consumed.clone()))?;
        map.end()
    }
}

struct Entry<'a>(&'a str, &'a Role);

impl Serialize for Entry<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(name, role) = self;
        let mut both = role.allocated.clone();
        both += &role.offered;
        // Reservations count whether they are used or not; what is used besides is unreserved.
        let mut consumed = role.allocated.unreserved().unallocated();
        consumed += &role.reserved;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("name", name)?;
        map.serialize_entry("weight", &1.0)?;
        map.serialize_entry(
            "quota",
            &Quota {
                role: name,
                consumed: consumed.quantities(),
            },
        )?;
        map.serialize_entry("resources", &Amounts(both.quantities()))?;
        map.serialize_entry("allocated", &Amounts(role.allocated.quantities()))?;
        map.serialize_entry("offered", &Amounts(role.offered.quantities()))?;
        map.serialize_entry("reserved", &Amounts(role.reserved.quantities()))?;
        map.serialize_entry(
            "frameworks",
            &Strings(role.frameworks.iter().map(String::as_str)),
        )?;
        map.end()
    }
}

impl Serialize for Roles {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let entries: Vec<_> = self
            .0
            .iter()
            .map(|(name, role)| Entry(name, role))
            .collect();
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry("roles", &entries)?;
        map.end()
    }
}
