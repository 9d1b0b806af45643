//! What `simulate` can be asked: changes and demands, in JSON. The changes that `explain` suggests are written in the same
//! form, so that one can be tried in the other.

use super::fields::{AskError, Asked, Fields, parse, role, wrong};
use crate::validate;
use serde_json::{Value, json};
use std::sync::Arc;
use tepui_allocator::{
    Traits,
    trial::{Capability, Change, Demand, Simulation},
};
use tepui_model::{
    Attributes, FollowerId, FrameworkId, Quantities, Quota, Resource, Resources, Scalar, resources,
};
use tepui_protocol::{
    json as proto_json,
    v1::{self, quota::QuotaConfig},
};

/// Most changes, and most demands.
const MOST: usize = 100;

/// Most followers that all changes add.
const MOST_FOLLOWERS: u32 = 10_000;

/// Most tasks of a demand.
const MOST_TASKS: u32 = 1_000_000;

const CHANGES: [&str; 14] = [
    "add_followers",
    "remove_follower",
    "activate_follower",
    "allow_host",
    "set_quota",
    "set_weight",
    "unreserve",
    "revive",
    "activate_framework",
    "subscribe",
    "add_capability",
    "drop_constraints",
    "return_offers",
    "release",
];

/// From a request's body.
pub(super) fn from_json(body: &[u8]) -> Result<Simulation, AskError> {
    let value = parse(body)?;
    let fields = Fields::new("", &value, &["changes", "demands"])?;
    let changes = fields.list("changes", MOST)?;
    let changes: Vec<Change> = changes
        .iter()
        .map(|(place, value)| change(place, value))
        .collect::<Asked<_>>()?;
    let added: u32 = (changes.iter())
        .map(|change| match change {
            Change::AddFollowers { count, .. } => *count,
            _ => 0,
        })
        .sum();
    if added > MOST_FOLLOWERS {
        let text = format!("{MOST_FOLLOWERS} followers can be added at most");
        return Err(wrong("changes", &text));
    }
    let demands = fields.list("demands", MOST)?;
    let demands: Vec<Demand> = demands
        .iter()
        .map(|(place, value)| demand(place, value))
        .collect::<Asked<_>>()?;
    if changes.is_empty() && demands.is_empty() {
        return Err(wrong("", "'changes' or 'demands' has to be given"));
    }
    Ok(Simulation { changes, demands })
}

fn demand(place: &str, value: &Value) -> Asked<Demand> {
    let fields = Fields::new(
        place,
        value,
        &["role", "resources", "count", "capabilities"],
    )?;
    let each = fields.quantities("resources")?;
    if each.is_empty() {
        return Err(wrong(
            &fields.at("resources"),
            "what each task takes is needed",
        ));
    }
    Ok(Demand {
        role: fields.needed_role("role")?,
        each,
        count: fields.count("count", 1, MOST_TASKS)?,
        capabilities: fields.capabilities("capabilities")?,
    })
}

/// One change: an object with its name as the only field.
fn change(place: &str, value: &Value) -> Asked<Change> {
    let outer = Fields::new(place, value, &CHANGES)?;
    let mut given = CHANGES.iter().filter(|name| outer.get(name).is_some());
    let (Some(name), None) = (given.next(), given.next()) else {
        let text = format!("one of {} is expected", CHANGES.join(", "));
        return Err(wrong(place, &text));
    };
    let inner = Inner {
        place: outer.at(name),
        value: outer.get(name).unwrap_or(&Value::Null),
    };
    match *name {
        "add_followers" => add_followers(&inner),
        "remove_follower" => Ok(Change::RemoveFollower(FollowerId::new(inner.text()?))),
        "activate_follower" => Ok(Change::ActivateFollower(FollowerId::new(inner.text()?))),
        "allow_host" => Ok(Change::AllowHost(Arc::from(inner.text()?))),
        "set_quota" => set_quota(&inner),
        "set_weight" => {
            let fields = inner.fields(&["role", "weight"])?;
            let weight = fields.number("weight")?;
            if !crate::weights::is_valid(weight) {
                return Err(wrong(&fields.at("weight"), "a positive number is expected"));
            }
            Ok(Change::SetWeight {
                role: fields.needed_role("role")?,
                weight,
            })
        }
        "unreserve" => {
            let fields = inner.fields(&["follower", "resources"])?;
            Ok(Change::Unreserve {
                follower: FollowerId::new(fields.needed("follower")?),
                resources: listed(&fields, "resources")?,
            })
        }
        "activate_framework" => Ok(Change::ActivateFramework(FrameworkId::new(inner.text()?))),
        "add_capability" => {
            let fields = inner.fields(&["framework", "capability"])?;
            Ok(Change::AddCapability {
                framework: FrameworkId::new(fields.needed("framework")?),
                capability: capability(&fields)?,
            })
        }
        "return_offers" => {
            let fields = inner.fields(&["framework", "follower"])?;
            Ok(Change::ReturnOffers {
                framework: FrameworkId::new(fields.needed("framework")?),
                follower: fields.text("follower")?.map(FollowerId::new),
            })
        }
        "release" => {
            let fields = inner.fields(&["framework", "role", "follower", "resources"])?;
            Ok(Change::Release {
                framework: FrameworkId::new(fields.needed("framework")?),
                role: fields.needed_role("role")?,
                follower: FollowerId::new(fields.needed("follower")?),
                resources: listed(&fields, "resources")?,
            })
        }
        other => {
            let fields = inner.fields(&["framework", "role"])?;
            let framework = FrameworkId::new(fields.needed("framework")?);
            let role = fields.needed_role("role")?;
            Ok(match other {
                "subscribe" => Change::Subscribe { framework, role },
                "revive" => Change::Revive { framework, role },
                _ => Change::DropConstraints { framework, role },
            })
        }
    }
}

/// What is behind the name of a change.
struct Inner<'a> {
    place: String,
    value: &'a Value,
}

impl<'a> Inner<'a> {
    fn text(&self) -> Asked<&'a str> {
        let text = self.value.as_str().filter(|text| !text.is_empty());
        text.ok_or_else(|| wrong(&self.place, "a text is expected"))
    }
    fn fields(&self, known: &[&str]) -> Asked<Fields<'a>> {
        Fields::new(&self.place, self.value, known)
    }
}

fn add_followers(inner: &Inner<'_>) -> Asked<Change> {
    let known = [
        "count",
        "resources",
        "attributes",
        "hostname",
        "region",
        "zone",
    ];
    let fields = inner.fields(&known)?;
    let total = listed(&fields, "resources")?;
    let attributes = fields
        .text("attributes")?
        .map(Attributes::parse)
        .transpose();
    let attributes =
        attributes.map_err(|error| wrong(&fields.at("attributes"), &error.to_string()))?;
    let shared = |name: &str| fields.text(name).map(|text| text.map(Arc::from));
    Ok(Change::AddFollowers {
        count: fields.count("count", 1, MOST_FOLLOWERS)?,
        total,
        traits: Arc::new(Traits {
            hostname: shared("hostname")?.unwrap_or_else(|| Arc::from("")),
            attributes: Arc::new(attributes.unwrap_or_default()),
            region: shared("region")?,
            zone: shared("zone")?,
        }),
    })
}

/// Resources: text, as an operator types them, or a list in the API's JSON. There have to be some.
fn listed(fields: &Fields<'_>, name: &str) -> Asked<Resources> {
    let place = fields.at(name);
    let text = match fields.get(name) {
        Some(Value::String(text)) => text.clone(),
        Some(list @ Value::Array(_)) => list.to_string(),
        Some(_) => return Err(wrong(&place, "a text or a list is expected")),
        None => return Err(wrong(&place, "it is needed")),
    };
    let list =
        resources::parse_list(&text, "*").map_err(|error| wrong(&place, &error.to_string()))?;
    for resource in &list {
        resources::validate(resource).map_err(|error| wrong(&place, &error.to_string()))?;
    }
    let resources = Resources::from_proto(&list);
    match resources.is_empty() {
        true => Err(wrong(&place, "there is nothing in it")),
        false => Ok(resources),
    }
}

fn set_quota(inner: &Inner<'_>) -> Asked<Change> {
    let fields = inner.fields(&["role", "guarantee", "limit"])?;
    let map = |amounts: Vec<(resources::Name, Scalar)>| {
        let amounts = amounts.into_iter();
        amounts
            .map(|(name, amount)| (name.as_str().to_owned(), amount.to_proto()))
            .collect()
    };
    let config = QuotaConfig {
        role: fields.needed("role")?.to_owned(),
        guarantees: map(fields.amounts("guarantee")?),
        limits: map(fields.amounts("limit")?),
    };
    validate::quota::config(&config).map_err(|error| wrong(&inner.place, &error))?;
    Ok(Change::SetQuota {
        role: role(&fields.at("role"), &config.role)?,
        quota: Quota::from(&config),
    })
}

fn capability(fields: &Fields<'_>) -> Asked<Capability> {
    let name = fields.needed("capability")?;
    let all = [
        Capability::GpuResources,
        Capability::RegionAware,
        Capability::RevocableResources,
        Capability::SharedResources,
        Capability::ReservationRefinement,
    ];
    let found = all.into_iter().find(|capability| capability.name() == name);
    found.ok_or_else(|| {
        let names: Vec<&str> = all.iter().map(|capability| capability.name()).collect();
        let text = format!("one of {} is expected", names.join(", "));
        wrong(&fields.at("capability"), &text)
    })
}

/// A change as a request has it.
pub(super) fn to_json(change: &Change) -> Value {
    let mut inner = match change {
        Change::AddFollowers {
            count,
            total,
            traits,
        } => json!({
            "count": count,
            "resources": proto_list(total),
            "hostname": Some(&*traits.hostname).filter(|name| !name.is_empty()),
            "region": traits.region.as_deref(),
            "zone": traits.zone.as_deref(),
        }),
        Change::RemoveFollower(id) | Change::ActivateFollower(id) => json!(id.as_str()),
        Change::ActivateFramework(id) => json!(id.as_str()),
        Change::AllowHost(host) => json!(&**host),
        Change::SetQuota { role, quota } => json!({
            "role": &**role,
            "guarantee": amounts(&quota.guarantees),
            "limit": (quota.limits.iter())
                .map(|(name, amount)| (name.as_str().to_owned(), Value::from(amount.to_f64())))
                .collect::<serde_json::Map<_, _>>(),
        }),
        Change::SetWeight { role, weight } => json!({"role": &**role, "weight": weight}),
        Change::Unreserve {
            follower,
            resources,
        } => json!({"follower": follower.as_str(), "resources": proto_list(resources)}),
        Change::Revive { framework, role }
        | Change::Subscribe { framework, role }
        | Change::DropConstraints { framework, role } => {
            json!({"framework": framework.as_str(), "role": &**role})
        }
        Change::AddCapability {
            framework,
            capability,
        } => json!({"framework": framework.as_str(), "capability": capability.name()}),
        Change::ReturnOffers {
            framework,
            follower,
        } => json!({
            "framework": framework.as_str(),
            "follower": follower.as_ref().map(FollowerId::as_str),
        }),
        Change::Release {
            framework,
            role,
            follower,
            resources,
        } => json!({
            "framework": framework.as_str(),
            "role": &**role,
            "follower": follower.as_str(),
            "resources": proto_list(resources),
        }),
    };
    if let Value::Object(map) = &mut inner {
        map.retain(|_, value| !value.is_null());
    }
    json!({ name(change): inner })
}

fn name(change: &Change) -> &'static str {
    match change {
        Change::AddFollowers { .. } => "add_followers",
        Change::RemoveFollower(_) => "remove_follower",
        Change::ActivateFollower(_) => "activate_follower",
        Change::AllowHost(_) => "allow_host",
        Change::SetQuota { .. } => "set_quota",
        Change::SetWeight { .. } => "set_weight",
        Change::Unreserve { .. } => "unreserve",
        Change::Revive { .. } => "revive",
        Change::ActivateFramework(_) => "activate_framework",
        Change::Subscribe { .. } => "subscribe",
        Change::AddCapability { .. } => "add_capability",
        Change::DropConstraints { .. } => "drop_constraints",
        Change::ReturnOffers { .. } => "return_offers",
        Change::Release { .. } => "release",
    }
}

fn amounts(amounts: &Quantities) -> Value {
    let amounts = amounts.iter();
    amounts
        .map(|(name, amount)| (name.as_str().to_owned(), Value::from(amount.to_f64())))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

/// Simple resources as text, others as the API's list.
fn proto_list(resources: &Resources) -> Value {
    let plain = |r: &Resource| {
        r.is_unreserved() && !r.is_revocable() && r.disk().is_none() && r.as_scalar().is_some()
    };
    if resources.iter().all(plain) {
        return resources.quantities().to_string().into();
    }
    let list: Vec<v1::Resource> = resources.to_proto();
    let list = list.iter().map(|resource| {
        let text = proto_json::encode(resource);
        serde_json::from_str(&text).unwrap_or(Value::Null)
    });
    list.collect()
}
