//! `/state`, `/flags` and `/version` of an agent (`src/slave/http.cpp`).

// `role` and `source` are deprecated on the wire, and alive.

use super::{
    Facts,
    model::{attributes, full_resource, labels, message, queued_task, resources, role, set, task},
};
use crate::{
    Phase, resources as stock,
    view::{ExecutorView, FrameworkView, View},
};
use serde_json::{Map, Value, json};
use tepui_model::Resources;
use tepui_protocol::v1::{self, framework_info::capability::Type};

/// Body of `/state`.
pub fn state(view: &View, facts: &Facts) -> Value {
    let mut out = version(facts);
    let total = &*view.total;
    let allocated = stock::allocated(view);
    let full = |part: &Resources| Value::Array(part.iter().map(full_resource).collect());
    let capability = |c: &v1::agent_info::Capability| c.r#type().as_str_name();
    let fields = json!({
        "start_time": view.started.seconds(),
        "id": view.info.id.as_ref().map_or("", |id| &id.value),
        "pid": format!("slave(1)@{}", view.config.address),
        "hostname": view.info.hostname,
        "capabilities": view.capabilities.iter().map(capability).collect::<Vec<_>>(),
        "resources": resources(total),
        "reserved_resources": by_role(total, resources),
        "unreserved_resources": resources(&total.unreserved()),
        "reserved_resources_full": by_role(total, full),
        "unreserved_resources_full": full(&total.unreserved()),
        "reserved_resources_allocated": by_role(&allocated, resources),
        "unreserved_resources_allocated": resources(&allocated.unreserved()),
        "resource_providers": [],
        "attributes": attributes(&view.info.attributes),
        "flags": view.config.flags,
        "frameworks": view.frameworks.values().map(|f| framework(f)).collect::<Vec<_>>(),
        "completed_frameworks": view.completed_frameworks.iter().map(|f| framework(f)).collect::<Vec<_>>(),
    });
    if let (Value::Object(out), Value::Object(fields)) = (&mut out, fields) {
        out.extend(fields);
    }
    set(&mut out, "domain", view.info.domain.as_ref().map(message));
    let drain = view.drain.as_ref();
    set(&mut out, "drain_config", drain.map(|d| message(&d.config)));
    let since = drain.map(|d| json!(d.since.seconds() as i64));
    set(&mut out, "estimated_drain_start_time_seconds", since);
    let leader = facts
        .leader_hostname
        .as_ref()
        .filter(|_| view.leader.is_some());
    set(&mut out, "master_hostname", leader.map(|name| json!(name)));
    set(
        &mut out,
        "log_dir",
        facts.log_dir.as_ref().map(|dir| json!(dir)),
    );
    set(
        &mut out,
        "external_log_file",
        facts.external_log_file.as_ref().map(|file| json!(file)),
    );
    out
}

/// Body of `/flags`.
pub fn flags(view: &View) -> Value {
    json!({ "flags": view.config.flags })
}

/// Body of `/version`.
pub fn version(facts: &Facts) -> Value {
    message(&facts.version)
}

/// Whether `/health` answers 200: not while the follower is on its way out.
pub fn healthy(view: &View) -> bool {
    view.phase != Phase::Terminating
}

fn by_role(all: &Resources, write: impl Fn(&Resources) -> Value) -> Value {
    Value::Object(
        all.reservations()
            .iter()
            .map(|(role, part)| (role.to_string(), write(part)))
            .collect::<Map<_, _>>(),
    )
}

fn framework(framework: &FrameworkView) -> Value {
    let info = &framework.info;
    let multi_role = info
        .capabilities
        .iter()
        .any(|c| c.r#type() == Type::MultiRole);
    let mut out = json!({
        "id": framework.id.as_str(),
        "name": info.name,
        "user": info.user,
        "failover_timeout": info.failover_timeout(),
        "checkpoint": info.checkpoint(),
        "hostname": info.hostname(),
        "executors": framework.executors.values().map(|e| executor(e)).collect::<Vec<_>>(),
        "completed_executors": framework.completed_executors.iter().map(|e| executor(e)).collect::<Vec<_>>(),
    });
    set(
        &mut out,
        "principal",
        info.principal.as_ref().map(|p| json!(p)),
    );
    match multi_role {
        true => set(&mut out, "roles", Some(json!(info.roles))),
        false => set(&mut out, "role", Some(json!(info.role()))),
    }
    out
}

fn executor(executor: &ExecutorView) -> Value {
    let info = &executor.info;
    let queued = executor.queued.iter().flat_map(|task| &task.resources);
    let launched = executor.launched.values().flat_map(|task| &task.resources);
    let used = Resources::from_proto(info.resources.iter().chain(queued).chain(launched));
    let completed = executor
        .completed
        .iter()
        .chain(executor.terminated.values());
    let mut out = json!({
        "id": executor.id.as_str(),
        "name": info.name(),
        "source": info.source(),
        "container": &*executor.container.value,
        "directory": executor.sandbox.display().to_string(),
        "resources": resources(&used),
        "tasks": executor.launched.values().map(|t| task(t)).collect::<Vec<_>>(),
        "queued_tasks": executor.queued.iter().map(|t| queued_task(t)).collect::<Vec<_>>(),
        "completed_tasks": completed.map(|t| task(t)).collect::<Vec<_>>(),
    });
    set(
        &mut out,
        "role",
        (!info.resources.is_empty()).then(|| json!(role(&info.resources))),
    );
    set(&mut out, "labels", info.labels.as_ref().map(labels));
    set(
        &mut out,
        "type",
        info.r#type.map(|_| json!(info.r#type().as_str_name())),
    );
    out
}
