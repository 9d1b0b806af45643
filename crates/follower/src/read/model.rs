//! How the older JSON endpoints write resources, tasks, statuses and labels
//! (`src/common/http.cpp`).

// `role` and `source` are deprecated on the wire, and alive.

use serde_json::{Map, Value, json};
use tepui_model::{Resource, Resources, attributes, resources::Amount};
use tepui_protocol::{
    json::{Names, encode_with},
    v1,
};

/// Any message, in the older dialect's names.
pub fn message<T: prost::Message + prost::Name>(message: &T) -> Value {
    serde_json::from_str(&encode_with(message, Names::V0)).unwrap_or(Value::Null)
}

/// `{"cpus": 4.0, "ports": "[1-10]", …}`: amounts by name, the four usual ones always.
pub fn resources(resources: &Resources) -> Value {
    let mut out = Map::new();
    for name in ["cpus", "gpus", "mem", "disk"] {
        out.insert(name.to_owned(), json!(0.0));
    }
    for (suffix, part) in [
        ("", resources.non_revocable()),
        ("_revocable", resources.revocable()),
    ] {
        for resource in part.iter() {
            let name = resource.name().as_str();
            let value = match resource.amount() {
                Amount::Scalar(_) => json!(part.scalar(name).map_or(0.0, |s| s.to_f64())),
                Amount::Ranges(own) => {
                    json!(part.ranges(name).unwrap_or_else(|| own.clone()).to_string())
                }
                Amount::Set(set) => json!(set.to_string()),
            };
            out.insert(format!("{name}{suffix}"), value);
        }
    }
    Value::Object(out)
}

/// The same from wire objects.
pub fn resources_of<'a>(list: impl IntoIterator<Item = &'a v1::Resource>) -> Value {
    resources(&Resources::from_proto(list))
}

/// One resource in full, with both shapes of its reservation.
pub fn full_resource(resource: &Resource) -> Value {
    message(&resource.to_proto(tepui_model::resources::Format::Endpoint))
}

/// Role that a list of resources is allocated to.
pub fn role(resources: &[v1::Resource]) -> String {
    let role = resources
        .first()
        .and_then(|r| r.allocation_info.as_ref()?.role.clone());
    role.unwrap_or_default()
}

/// `{"rack": "r1", "speed": 2.5}`.
pub fn attributes(list: &[v1::Attribute]) -> Value {
    let value = |attribute: &v1::Attribute| match attribute.r#type() {
        v1::value::Type::Scalar => json!(attribute.scalar.as_ref().map_or(0.0, |s| s.value)),
        _ => json!(attributes::describe_value(attribute)),
    };
    Value::Object(list.iter().map(|a| (a.name.clone(), value(a))).collect())
}

/// Labels are written as their list.
pub fn labels(labels: &v1::Labels) -> Value {
    Value::Array(labels.labels.iter().map(message).collect())
}

/// A task that an executor has or had.
pub fn task(task: &v1::Task) -> Value {
    let mut out = json!({
        "id": task.task_id.value,
        "name": task.name,
        "framework_id": task.framework_id.value,
        "executor_id": task.executor_id.as_ref().map_or("", |id| &id.value),
        "slave_id": task.agent_id.value,
        "state": task.state().as_str_name(),
        "resources": resources_of(&task.resources),
        "role": role(&task.resources),
        "statuses": task.statuses.iter().map(status).collect::<Vec<_>>(),
    });
    set(
        &mut out,
        "limits",
        (!task.limits.is_empty()).then(|| limits(task)),
    );
    set(&mut out, "user", task.user.as_ref().map(|user| json!(user)));
    set(&mut out, "labels", task.labels.as_ref().map(labels));
    set(
        &mut out,
        "discovery",
        task.discovery.as_deref().map(message),
    );
    set(
        &mut out,
        "container",
        task.container.as_deref().map(message),
    );
    set(
        &mut out,
        "health_check",
        task.health_check.as_deref().map(message),
    );
    out
}

fn limits(task: &v1::Task) -> Value {
    // JSON has no number for what has no end.
    let limit = |value: f64| match value.is_finite() {
        true => json!(value),
        false => json!("Infinity"),
    };
    let limits = task.limits.iter();
    Value::Object(
        limits
            .map(|(name, scalar)| (name.clone(), limit(scalar.value)))
            .collect(),
    )
}

/// A task that no executor has yet.
pub fn queued_task(task: &v1::TaskInfo) -> Value {
    let mut out = json!({
        "id": task.task_id.value,
        "name": task.name,
        "slave_id": task.agent_id.value,
        "resources": resources_of(&task.resources),
        "role": role(&task.resources),
    });
    set(&mut out, "command", task.command.as_ref().map(command));
    set(
        &mut out,
        "executor_id",
        task.executor.as_ref().map(|e| json!(e.executor_id.value)),
    );
    set(&mut out, "discovery", task.discovery.as_ref().map(message));
    out
}

fn command(command: &v1::CommandInfo) -> Value {
    let uri =
        |uri: &v1::command_info::Uri| json!({"value": uri.value, "executable": uri.executable()});
    let mut out = json!({
        "argv": command.arguments,
        "uris": command.uris.iter().map(uri).collect::<Vec<_>>(),
    });
    set(&mut out, "shell", command.shell.map(Value::Bool));
    set(
        &mut out,
        "value",
        command.value.as_ref().map(|value| json!(value)),
    );
    set(
        &mut out,
        "environment",
        command.environment.as_ref().map(message),
    );
    out
}

fn status(status: &v1::TaskStatus) -> Value {
    let mut out = json!({
        "state": status.state().as_str_name(),
        "timestamp": status.timestamp.unwrap_or_default(),
    });
    set(&mut out, "labels", status.labels.as_ref().map(labels));
    set(
        &mut out,
        "container_status",
        status.container_status.as_ref().map(container_status),
    );
    set(&mut out, "healthy", status.healthy.map(Value::Bool));
    out
}

fn container_status(status: &v1::ContainerStatus) -> Value {
    let mut out = json!({});
    set(
        &mut out,
        "container_id",
        status.container_id.as_ref().map(message),
    );
    let networks = status
        .network_infos
        .iter()
        .map(network_info)
        .collect::<Vec<_>>();
    set(
        &mut out,
        "network_infos",
        (!networks.is_empty()).then_some(Value::Array(networks)),
    );
    set(
        &mut out,
        "cgroup_info",
        status.cgroup_info.as_ref().map(message),
    );
    out
}

fn network_info(info: &v1::NetworkInfo) -> Value {
    let list = |items: Vec<Value>| (!items.is_empty()).then_some(Value::Array(items));
    let mut out = json!({});
    set(
        &mut out,
        "groups",
        list(info.groups.iter().map(|g| json!(g)).collect()),
    );
    set(&mut out, "labels", info.labels.as_ref().map(labels));
    set(
        &mut out,
        "ip_addresses",
        list(info.ip_addresses.iter().map(message).collect()),
    );
    set(&mut out, "name", info.name.as_ref().map(|name| json!(name)));
    set(
        &mut out,
        "port_mappings",
        list(info.port_mappings.iter().map(message).collect()),
    );
    out
}

/// Sets a field if there is something to set.
pub(crate) fn set(object: &mut Value, name: &str, value: Option<Value>) {
    if let (Some(object), Some(value)) = (object.as_object_mut(), value) {
        object.insert(name.to_owned(), value);
    }
}
