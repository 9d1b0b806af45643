//! JSON documents of the plain endpoints (`/state`, `/slaves`, …) that leaders and followers share.
//!
//! These are older than the v1 API and shaped by hand (`src/common/http.cpp`). Each type borrows a
//! protobuf message and serialises it; nothing is built in between, so a large `/state` streams.

use serde::{
    Serialize, Serializer,
    ser::{Error, SerializeMap},
};
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use tepui_protocol::{
    json::{self, Names},
    v1,
};

use crate::{
    Scalar,
    values::{Ranges, Set},
};

/// Any protobuf message in the v0 dialect, as the reference embeds them.
pub struct Proto<'a, T>(pub &'a T);

impl<T: prost::Message + prost::Name> Serialize for Proto<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        RawValue::from_string(json::encode_with(self.0, Names::V0))
            .map_err(S::Error::custom)?
            .serialize(serializer)
    }
}

/// A list of what an iterator yields; the closure makes the iterator.
pub struct List<F>(pub F);

impl<F: Fn() -> I, I: Iterator<Item: Serialize>> Serialize for List<F> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq((self.0)())
    }
}

/// Resources summed by name over roles and reservations: `{"cpus": 4.0, "ports": "[31000-32000]"}`.
/// `cpus`, `gpus`, `mem` and `disk` are always there; revocable ones are `<name>_revocable`.
pub struct Amounts<'a>(pub &'a [v1::Resource]);

impl Serialize for Amounts<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        amounts(self.0.iter(), serializer)
    }
}

/// As [`Amounts`], for resources that satisfy a condition.
pub struct AmountsOf<'a, F>(pub &'a [v1::Resource], pub F);

impl<F: Fn(&v1::Resource) -> bool> Serialize for AmountsOf<'_, F> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        amounts(
            self.0.iter().filter(|resource| (self.1)(resource)),
            serializer,
        )
    }
}

fn amounts<'a, S: Serializer>(
    resources: impl Iterator<Item = &'a v1::Resource>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let mut scalars: BTreeMap<String, Scalar> = ["cpus", "gpus", "mem", "disk"]
        .map(|name| (name.to_owned(), Scalar::ZERO))
        .into();
    let mut ranges: BTreeMap<String, Ranges> = BTreeMap::new();
    let mut sets: BTreeMap<String, Set> = BTreeMap::new();
    for resource in resources {
        let suffix = if resource.revocable.is_some() {
            "_revocable"
        } else {
            ""
        };
        let name = format!("{}{suffix}", resource.name);
        if let Some(scalar) = &resource.scalar {
            let sum = scalars.entry(name).or_insert(Scalar::ZERO);
            *sum += Scalar::from_f64(scalar.value);
        } else if let Some(more) = &resource.ranges {
            let sum = ranges.entry(name).or_default();
            *sum = sum.union(&Ranges::from(more));
        } else if let Some(more) = &resource.set {
            let sum = sets.entry(name).or_default();
            *sum = sum.union(&Set::from(more));
        }
    }
    let mut map = serializer.serialize_map(None)?;
    for (name, scalar) in scalars {
        map.serialize_entry(&name, &scalar.to_f64())?;
    }
    for (name, value) in ranges {
        map.serialize_entry(&name, &value.to_string())?;
    }
    for (name, value) in sets {
        map.serialize_entry(&name, &value.to_string())?;
    }
    map.end()
}

/// Attributes as an object; scalars are numbers, everything else texts.
pub struct AttributeMap<'a>(pub &'a [v1::Attribute]);

impl Serialize for AttributeMap<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for attribute in self.0 {
            match &attribute.scalar {
                Some(scalar) => map.serialize_entry(&attribute.name, &scalar.value)?,
                None => map.serialize_entry(
                    &attribute.name,
                    &crate::attributes::describe_value(attribute),
                )?,
            }
        }
        map.end()
    }
}

/// A list of key and value pairs.
pub struct Labels<'a>(pub &'a v1::Labels);

impl Serialize for Labels<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.labels.iter().map(Proto))
    }
}

/// Names of an enum's values.
pub struct Strings<I>(pub I);

impl<'a, I: Iterator<Item = &'a str> + Clone> Serialize for Strings<I> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.clone())
    }
}

/// A task.
pub struct Task<'a>(pub &'a v1::Task);

impl Serialize for Task<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let task = self.0;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("id", &task.task_id.value)?;
        map.serialize_entry("name", &task.name)?;
        map.serialize_entry("framework_id", &task.framework_id.value)?;
        // Empty for command tasks: tools tell them by that.
        map.serialize_entry(
            "executor_id",
            task.executor_id.as_ref().map_or("", |id| id.value.as_str()),
        )?;
        map.serialize_entry("slave_id", &task.agent_id.value)?;
        map.serialize_entry("state", task.state().as_str_name())?;
        map.serialize_entry("resources", &Amounts(&task.resources))?;
        if !task.limits.is_empty() {
            map.serialize_entry("limits", &Limits(&task.limits))?;
        }
        map.serialize_entry("role", allocation_role(&task.resources))?;
        map.serialize_entry("statuses", &List(|| task.statuses.iter().map(Status)))?;
        if let Some(user) = &task.user {
            map.serialize_entry("user", user)?;
        }
        if let Some(labels) = &task.labels {
            map.serialize_entry("labels", &Labels(labels))?;
        }
        if let Some(discovery) = task.discovery.as_deref() {
            map.serialize_entry("discovery", &Proto(discovery))?;
        }
        if let Some(container) = task.container.as_deref() {
            map.serialize_entry("container", &Proto(container))?;
        }
        if let Some(health_check) = task.health_check.as_deref() {
            map.serialize_entry("health_check", &Proto(health_check))?;
        }
        map.end()
    }
}

/// The role that resources are allocated to; a task or executor holds those of one role only.
pub fn allocation_role(resources: &[v1::Resource]) -> &str {
    resources
        .first()
        .and_then(|r| r.allocation_info.as_ref())
        .map_or("", |info| info.role())
}

struct Limits<'a>(&'a BTreeMap<String, v1::value::Scalar>);

impl Serialize for Limits<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // JSON has no infinity: the reference writes the word.
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, limit) in self.0 {
            match limit.value.is_finite() {
                true => map.serialize_entry(name, &limit.value)?,
                false => map.serialize_entry(name, "Infinity")?,
            }
        }
        map.end()
    }
}

/// One status of a task.
pub struct Status<'a>(pub &'a v1::TaskStatus);

impl Serialize for Status<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let status = self.0;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("state", status.state().as_str_name())?;
        map.serialize_entry("timestamp", &status.timestamp())?;
        if let Some(labels) = &status.labels {
            map.serialize_entry("labels", &Labels(labels))?;
        }
        if let Some(container) = &status.container_status {
            map.serialize_entry("container_status", &ContainerStatus(container))?;
        }
        if let Some(healthy) = status.healthy {
            map.serialize_entry("healthy", &healthy)?;
        }
        map.end()
    }
}

struct ContainerStatus<'a>(&'a v1::ContainerStatus);

impl Serialize for ContainerStatus<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let status = self.0;
        let mut map = serializer.serialize_map(None)?;
        if let Some(id) = &status.container_id {
            map.serialize_entry("container_id", &Proto(id))?;
        }
        if !status.network_infos.is_empty() {
            map.serialize_entry(
                "network_infos",
                &List(|| status.network_infos.iter().map(Network)),
            )?;
        }
        if let Some(cgroup) = &status.cgroup_info {
            map.serialize_entry("cgroup_info", &Proto(cgroup))?;
        }
        map.end()
    }
}

struct Network<'a>(&'a v1::NetworkInfo);

impl Serialize for Network<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let network = self.0;
        let mut map = serializer.serialize_map(None)?;
        if !network.groups.is_empty() {
            map.serialize_entry("groups", &network.groups)?;
        }
        if let Some(labels) = &network.labels {
            map.serialize_entry("labels", &Labels(labels))?;
        }
        if !network.ip_addresses.is_empty() {
            map.serialize_entry(
                "ip_addresses",
                &List(|| network.ip_addresses.iter().map(Proto)),
            )?;
        }
        if let Some(name) = &network.name {
            map.serialize_entry("name", name)?;
        }
        if !network.port_mappings.is_empty() {
            map.serialize_entry(
                "port_mappings",
                &List(|| network.port_mappings.iter().map(Proto)),
            )?;
        }
        map.end()
    }
}

/// An executor; `follower` adds `slave_id` as leaders do.
pub struct Executor<'a> {
    /// The executor.
    pub info: &'a v1::ExecutorInfo,
    /// Where it runs.
    pub follower: Option<&'a str>,
}

impl Serialize for Executor<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let info = self.info;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("executor_id", &info.executor_id.value)?;
        map.serialize_entry("name", info.name())?;
        map.serialize_entry(
            "framework_id",
            info.framework_id
                .as_ref()
                .map_or("", |id| id.value.as_str()),
        )?;
        map.serialize_entry("command", &Command(info.command.as_ref()))?;
        map.serialize_entry("resources", &Amounts(&info.resources))?;
        if !info.resources.is_empty() {
            map.serialize_entry("role", allocation_role(&info.resources))?;
        }
        if let Some(labels) = &info.labels {
            map.serialize_entry("labels", &Labels(labels))?;
        }
        if info.r#type.is_some() {
            map.serialize_entry("type", info.r#type().as_str_name())?;
        }
        if let Some(follower) = self.follower {
            map.serialize_entry("slave_id", follower)?;
        }
        map.end()
    }
}

/// A command; absent ones look like empty ones, as the reference's do.
struct Command<'a>(Option<&'a v1::CommandInfo>);

impl Serialize for Command<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if let Some(shell) = self.0.and_then(|command| command.shell) {
            map.serialize_entry("shell", &shell)?;
        }
        if let Some(value) = self.0.and_then(|command| command.value.as_ref()) {
            map.serialize_entry("value", value)?;
        }
        map.serialize_entry("argv", self.0.map_or(&[][..], |command| &command.arguments))?;
        if let Some(environment) = self.0.and_then(|command| command.environment.as_ref()) {
            map.serialize_entry("environment", &Proto(environment))?;
        }
        map.serialize_entry(
            "uris",
            &List(|| {
                self.0
                    .into_iter()
                    .flat_map(|command| command.uris.iter().map(Uri))
            }),
        )?;
        map.end()
    }
}

struct Uri<'a>(&'a v1::command_info::Uri);

impl Serialize for Uri<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(2))?;
        map.serialize_entry("value", &self.0.value)?;
        map.serialize_entry("executable", &self.0.executable())?;
        map.end()
    }
}

/// Flags in force, as the value of `flags`.
pub struct Flags<'a>(pub &'a BTreeMap<String, String>);

impl Serialize for Flags<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0)
    }
}

/// A document as text. Serialising what is here cannot fail: keys are texts and floats are finite
/// or written as null.
pub fn to_text<T: Serialize>(document: &T) -> String {
    serde_json::to_string(document).unwrap_or_else(|_| "{}".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(resources: &str) -> String {
        to_text(&Amounts(
            &crate::resources::parse(resources, "*").unwrap().to_proto(),
        ))
    }

    #[test]
    fn amounts_are_summed_by_name_and_the_four_scalars_are_always_there() {
        assert_eq!(text(""), r#"{"cpus":0.0,"disk":0.0,"gpus":0.0,"mem":0.0}"#);
        assert_eq!(
            text("cpus:1;cpus(a):2.5;ports:[1-3];ports(a):[5-6];racks:{a,b}"),
            r#"{"cpus":3.5,"disk":0.0,"gpus":0.0,"mem":0.0,"ports":"[1-3, 5-6]","racks":"{a, b}"}"#
        );
    }

    #[test]
    fn a_command_task_has_an_empty_executor_id_and_v0_names() {
        let task = v1::Task {
            name: "n".into(),
            statuses: vec![v1::TaskStatus {
                state: v1::TaskState::TaskRunning as i32,
                timestamp: Some(1.5),
                ..Default::default()
            }],
            ..Default::default()
        };
        let value: serde_json::Value = serde_json::from_str(&to_text(&Task(&task))).unwrap();
        assert_eq!(value["executor_id"], "");
        assert_eq!(value["slave_id"], "");
        assert_eq!(value["statuses"][0]["state"], "TASK_RUNNING");
        assert!(value.get("labels").is_none());
    }
}
