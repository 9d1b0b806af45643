//! Whether a restarted follower may go on as the one it was, although its settings have changed
//! (`--reconfiguration_policy`). `equal` and `additive` are the reference's
//! (`src/slave/compatibility.cpp`, `docs/agent-recovery.md`); unlike there, the error names what differs.
//!
//! Beyond the reference, `any` lets resources and attributes change freely as long as what runs still
//! fits. Where it does not, the error says which task holds what.

use crate::recovered::{Recovered, RecoveredTask};
use std::{fmt, str::FromStr};
use tepui_model::{Attributes, Resources, resources::Amount, tasks::is_terminal};
use tepui_protocol::v1;

/// How many tasks an error lists by name.
const NAMED_MAX: usize = 20;

/// Which changes a restart may bring.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Policy {
    /// None.
    #[default]
    Equal,
    /// More of resources, more attributes.
    Additive,
    /// Of resources and attributes all that leaves room for what runs.
    Any,
}

impl FromStr for Policy {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "equal" => Ok(Self::Equal),
            "additive" => Ok(Self::Additive),
            "any" => Ok(Self::Any),
            _ => Err("it is none of 'equal', 'additive' and 'any'".to_owned()),
        }
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Equal => "equal",
            Self::Additive => "additive",
            Self::Any => "any",
        })
    }
}

/// Compares who a follower was with who it is (`total`: with what operations made of its resources).
/// The error is for the operator.
pub fn check(
    policy: Policy,
    recovered: &Recovered,
    current: &v1::AgentInfo,
    total: &Resources,
) -> Result<(), String> {
    let previous = &recovered.info;
    let refused = |problem: String| {
        Err(format!(
            "Configuration change not permitted under '{policy}' policy: {problem}"
        ))
    };
    if let Some(problem) = identity(previous, current) {
        return refused(problem);
    }
    let problem = match policy {
        Policy::Equal => changed(previous, current),
        Policy::Additive => {
            less_resources(previous, current).or_else(|| other_attributes(previous, current))
        }
        Policy::Any if recovered.rebooted => None,
        Policy::Any => no_room(recovered, total),
    };
    problem.map_or(Ok(()), refused)
}

/// What no policy lets change: where the follower is.
fn identity(previous: &v1::AgentInfo, current: &v1::AgentInfo) -> Option<String> {
    if previous.hostname != current.hostname {
        return Some(format!(
            "Hostname changed from {} to {}",
            previous.hostname, current.hostname
        ));
    }
    // The default of the wire.
    let port = |info: &v1::AgentInfo| info.port.unwrap_or(5051);
    if port(previous) != port(current) {
        return Some(format!(
            "Port changed from {} to {}",
            port(previous),
            port(current)
        ));
    }
    if previous.domain.is_some() && previous.domain != current.domain {
        return Some(format!(
            "Domain changed from {} to {}",
            domain(previous),
            domain(current)
        ));
    }
    None
}

fn domain(info: &v1::AgentInfo) -> String {
    let fault = info.domain.as_ref().and_then(|d| d.fault_domain.as_ref());
    fault.map_or_else(
        || "none".to_owned(),
        |fault| format!("{}/{}", fault.region.name, fault.zone.name),
    )
}

fn resources(info: &v1::AgentInfo) -> Resources {
    let mut resources = info.resources.clone();
    resources
        .iter_mut()
        .for_each(tepui_model::resources::upgrade);
    Resources::from_proto(&resources)
}

fn changed(previous: &v1::AgentInfo, current: &v1::AgentInfo) -> Option<String> {
    let (before, now) = (resources(previous), resources(current));
    if !(before.contains(&now) && now.contains(&before)) {
        return Some(format!("Resources changed from '{before}' to '{now}'"));
    }
    let attributes = |info: &v1::AgentInfo| Attributes::from_proto(&info.attributes);
    let (before, now) = (attributes(previous), attributes(current));
    if !before.same(&now) {
        return Some(format!("Attributes changed from '{before}' to '{now}'"));
    }
    if previous.domain != current.domain {
        return Some(format!(
            "Domain changed from {} to {}",
            domain(previous),
            domain(current)
        ));
    }
    None
}

fn same(left: &v1::Attribute, right: &v1::Attribute) -> bool {
    let one = |attribute| Attributes::from_proto(std::slice::from_ref(attribute));
    one(left).same(&one(right))
}

fn less_resources(previous: &v1::AgentInfo, current: &v1::AgentInfo) -> Option<String> {
    let now = resources(current);
    for resource in resources(previous).iter() {
        if now.contains_one(resource) {
            continue;
        }
        let same_kind = now.iter().find(|other| {
            other.name() == resource.name() && other.reservations() == resource.reservations()
        });
        let Some(other) = same_kind else {
            return Some(format!("Resource not found: {resource}"));
        };
        return Some(match resource.amount() {
            Amount::Scalar(_) => format!(
                "Value of scalar resource '{}' decreased from {resource} to {other}",
                resource.name()
            ),
            Amount::Ranges(_) => format!(
                "Previous value of range resource '{}' ({resource}) not included in current {other}",
                resource.name()
            ),
            Amount::Set(_) => format!(
                "Previous value of set resource '{}' ({resource}) not included in current {other}",
                resource.name()
            ),
        });
    }
    None
}

fn other_attributes(previous: &v1::AgentInfo, current: &v1::AgentInfo) -> Option<String> {
    let text = |attribute: &v1::Attribute| {
        Attributes::from_proto(std::slice::from_ref(attribute)).to_string()
    };
    for attribute in &previous.attributes {
        let name = &attribute.name;
        let Some(now) = current.attributes.iter().find(|a| &a.name == name) else {
            return Some(format!("Couldn't find attribute {}", text(attribute)));
        };
        if now.r#type != attribute.r#type {
            return Some(format!(
                "Type of attribute '{name}' changed from {} to {}",
                attribute.r#type().as_str_name(),
                now.r#type().as_str_name()
            ));
        }
        if !same(attribute, now) && !wider(attribute, now) {
            return Some(format!(
                "Value of attribute '{name}' changed from {} to {}",
                text(attribute),
                text(now)
            ));
        }
    }
    None
}

/// Ranges may grow.
fn wider(before: &v1::Attribute, now: &v1::Attribute) -> bool {
    let (Some(before), Some(now)) = (&before.ranges, &now.ranges) else {
        return false;
    };
    let within = |range: &v1::value::Range| {
        now.range
            .iter()
            .any(|wide| wide.begin <= range.begin && range.end <= wide.end)
    };
    before.range.iter().all(within)
}

/// What holds something, and what.
struct Holder {
    name: String,
    holds: Resources,
}

/// Says what does not fit any more, and who holds it.
fn no_room(recovered: &Recovered, total: &Resources) -> Option<String> {
    let holders = holders(recovered);
    let mut used = Resources::new();
    for holder in &holders {
        for resource in holder.holds.iter() {
            // Any number may share it.
            if resource.is_shared() {
                if !total.contains_one(resource) {
                    return Some(format!("{resource} is gone, and {} holds it", holder.name));
                }
                continue;
            }
            used.add_one(resource.clone());
        }
    }
    let missing = used.iter().find(|resource| !total.contains_one(resource))?;
    let kind = |resource: &tepui_model::resources::Resource| {
        resource.name() == missing.name()
            && resource.reservations() == missing.reservations()
            && resource.disk() == missing.disk()
    };
    let left = total.filter(kind);
    let mut who: Vec<String> = holders
        .iter()
        .filter_map(|holder| {
            let held = holder.holds.filter(kind);
            (!held.is_empty()).then(|| format!("{} holds {held}", holder.name))
        })
        .collect();
    let more = who.len().saturating_sub(NAMED_MAX);
    who.truncate(NAMED_MAX);
    if more > 0 {
        who.push(format!("{more} more hold the rest"));
    }
    let left = if left.is_empty() {
        "none of it".to_owned()
    } else {
        left.to_string()
    };
    Some(format!(
        "What runs holds {missing}, and there would be {left}: {}",
        who.join("; ")
    ))
}

fn holders(recovered: &Recovered) -> Vec<Holder> {
    let mut all = Vec::new();
    let holds = |list: &[v1::Resource]| {
        let mut list = list.to_vec();
        list.iter_mut().for_each(tepui_model::resources::upgrade);
        Resources::from_proto(&list).non_revocable().unallocated()
    };
    for framework in &recovered.frameworks {
        let id = framework
            .info
            .id
            .as_ref()
            .map_or("", |id| id.value.as_str());
        let executors = framework.executors.iter();
        for executor in executors.filter(|executor| !executor.completed) {
            let live: Vec<_> = executor.tasks.iter().filter(|task| is_live(task)).collect();
            let stays = !executor.is_local() || !live.is_empty();
            let name = &executor.info.executor_id.value;
            if stays {
                all.push(Holder {
                    name: format!("executor '{name}' of framework {id}"),
                    holds: holds(&executor.info.resources),
                });
            }
            for task in live {
                all.push(Holder {
                    name: format!("task '{}' of framework {id}", task.task.task_id.value),
                    holds: holds(&task.task.resources),
                });
            }
        }
    }
    all
}

fn is_live(task: &RecoveredTask) -> bool {
    task.damaged.is_none()
        && !task
            .updates
            .iter()
            .any(|update| is_terminal(update.status.state()))
}
