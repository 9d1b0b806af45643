//! `/containers` and `/monitor/statistics` of an agent (`src/slave/http.cpp`, `src/slave/monitor.cpp`).
//! Statistics are measured by the shell and handed in.

// `source` is deprecated on the wire, and alive.

use super::{
    Facts,
    model::{message, set},
};
use crate::view::{ExecutorState, ExecutorView, FrameworkView, View};
use serde_json::{Value, json};
use std::sync::Arc;
use tepui_protocol::v1;

/// Executors whose containers exist.
pub(crate) fn live(view: &View) -> impl Iterator<Item = (&Arc<FrameworkView>, &Arc<ExecutorView>)> {
    let executors = view
        .frameworks
        .values()
        .flat_map(|f| f.executors.values().map(move |e| (f, e)));
    executors.filter(|(_, executor)| executor.state != ExecutorState::Terminated)
}

/// Body of `/containers`.
pub fn containers(view: &View, facts: &Facts) -> Value {
    let one = |(framework, executor): (&Arc<FrameworkView>, &Arc<ExecutorView>)| {
        let mut out = describe(framework, executor);
        set(
            &mut out,
            "container_id",
            Some(json!(&*executor.container.value)),
        );
        set(&mut out, "status", Some(message(&status(executor))));
        set(
            &mut out,
            "statistics",
            facts.statistics.get(&executor.container).map(message),
        );
        out
    };
    Value::Array(live(view).map(one).collect())
}

/// Body of `/monitor/statistics`: only containers with statistics.
pub fn statistics(view: &View, facts: &Facts) -> Value {
    let one = |(framework, executor): (&Arc<FrameworkView>, &Arc<ExecutorView>)| {
        let statistics = facts.statistics.get(&executor.container)?;
        let mut out = describe(framework, executor);
        set(&mut out, "statistics", Some(message(statistics)));
        Some(out)
    };
    Value::Array(live(view).filter_map(one).collect())
}

fn describe(framework: &FrameworkView, executor: &ExecutorView) -> Value {
    json!({
        "framework_id": framework.id.as_str(),
        "executor_id": executor.id.as_str(),
        "executor_name": executor.info.name(),
        "source": executor.info.source(),
    })
}

/// A container's status as operators see it.
pub(crate) fn status(executor: &ExecutorView) -> v1::ContainerStatus {
    v1::ContainerStatus {
        container_id: Some(executor.container.to_proto()),
        executor_pid: executor.pid,
        ..Default::default()
    }
}
