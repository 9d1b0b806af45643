//! Tasks, as `LAUNCH` and `LAUNCH_GROUP` want them.

use super::{command, executor, id, resource};
use crate::state::{Follower, Framework};
use tepui_model::{Scalar, TaskId, resources::Resources};
use tepui_protocol::v1::{self, ContainerInfo, TaskInfo, executor_info};

/// Who launches, where, and from what.
pub(crate) struct Launch<'a> {
    pub(crate) framework: &'a Framework,
    pub(crate) follower: &'a Follower,
    pub(crate) available: &'a Resources,
}

/// A task of `LAUNCH`.
pub(crate) fn validate(task: &TaskInfo, launch: &Launch<'_>) -> Result<(), String> {
    common(task, launch)?;
    with_executor(task, launch)?;
    if share_cgroups(task.container.as_ref()) == Some(false) {
        return Err(
            "Only tasks in a task group may have 'share_cgroups' set to 'false'".to_owned(),
        );
    }
    Ok(())
}

/// What both kinds of launch check of a task.
pub(crate) fn common(task: &TaskInfo, launch: &Launch<'_>) -> Result<(), String> {
    let Launch {
        framework,
        follower,
        ..
    } = launch;
    id(&task.task_id.value)?;
    let task_id = TaskId::from(&task.task_id);
    if framework.tasks.contains_key(&task_id) {
        return Err(format!("Task has duplicate ID: {task_id}"));
    }
    if framework.unreachable_tasks.contains_key(&task_id) {
        return Err(format!(
            "Task reuses the ID of an unreachable task: {task_id}"
        ));
    }
    if task.agent_id.value != follower.id.as_str() {
        return Err(format!(
            "Task uses invalid agent {} while agent {} is expected",
            task.agent_id.value, follower.id
        ));
    }
    let negative =
        |duration: Option<&v1::DurationInfo>| duration.is_some_and(|d| d.nanoseconds < 0);
    if negative(
        task.kill_policy
            .as_ref()
            .and_then(|policy| policy.grace_period.as_ref()),
    ) {
        return Err("Task's 'kill_policy.grace_period' must be non-negative".to_owned());
    }
    if negative(task.max_completion_time.as_ref()) {
        return Err("Task's `max_completion_time` must be non-negative".to_owned());
    }
    if let Some(check) = &task.check {
        command::check(check).map_err(|error| format!("Task uses invalid check: {error}"))?;
    }
    if let Some(check) = &task.health_check {
        command::health_check(check)
            .map_err(|error| format!("Task uses invalid health check: {error}"))?;
    }
    resources(task)?;
    if let Some(own) = &task.command {
        command::command(own)
            .map_err(|error| format!("Task's `CommandInfo` is invalid: {error}"))?;
    }
    if let Some(own) = &task.container {
        command::container(own)
            .map_err(|error| format!("Task's `ContainerInfo` is invalid: {error}"))?;
    }
    limits(task, follower)
}

fn resources(task: &TaskInfo) -> Result<(), String> {
    if task.resources.is_empty() {
        return Err("Task uses no resources".to_owned());
    }
    resource::usable(&task.resources)
        .map_err(|error| format!("Task uses invalid resources: {error}"))?;
    let resources = Resources::from_proto(&task.resources);
    resource::unique_persistence(&resources)
        .map_err(|error| format!("Task uses duplicate persistence ID: {error}"))?;
    resource::single_role(&resources)
        .map_err(|error| format!("Invalid task resources: {error}"))?;
    resource::not_mixed(&resources)
        .map_err(|error| format!("Task mixes revocable and non-revocable resources: {error}"))
}

fn limits(task: &TaskInfo, follower: &Follower) -> Result<(), String> {
    if task.limits.is_empty() {
        return Ok(());
    }
    let text = |text: &str| Err(text.to_owned());
    if !follower.can.task_resource_limits {
        return text("Agent is not capable of handling task resource limits");
    }
    if task
        .limits
        .keys()
        .any(|name| name != "cpus" && name != "mem")
    {
        return text("Only cpus and mem may be included in a task's resource limits");
    }
    let resources = Resources::from_proto(&task.resources);
    if let Some(limit) = task.limits.get("cpus") {
        let Some(request) = resources.scalar("cpus") else {
            return text("When a CPU limit is specified, a CPU request must also be specified");
        };
        if Scalar::from(limit) < request {
            return text("The cpu limit must be greater than or equal to the cpu request");
        }
    }
    if let Some(limit) = task.limits.get("mem") {
        let Some(request) = resources.scalar("mem") else {
            return text(
                "When a memory limit is specified, a memory request must also be specified",
            );
        };
        // An infinite limit saturates: it is above every request.
        if Scalar::from(limit) < request {
            return text("The memory limit must be greater than or equal to the memory request");
        }
    }
    Ok(())
}

fn with_executor(task: &TaskInfo, launch: &Launch<'_>) -> Result<(), String> {
    if task.executor.is_some() == task.command.is_some() {
        return Err(
            "Task should have at least one (but not both) of CommandInfo or ExecutorInfo present"
                .to_owned(),
        );
    }
    let own = Resources::from_proto(&task.resources);
    let mut total = own.clone();
    if let Some(executor) = &task.executor {
        executor::launched(executor, launch)?;
        if executor.r#type.is_some() && executor.r#type() != executor_info::Type::Custom {
            return Err("'ExecutorInfo.type' must be 'CUSTOM'".to_owned());
        }
        if executor.command.is_none() {
            return Err("'ExecutorInfo.command' must be set".to_owned());
        }
        let resources = Resources::from_proto(&executor.resources);
        if !resources.shared().is_empty() {
            return Err(format!(
                "Executor resources {resources} should not contain any shared resources"
            ));
        }
        if share_cgroups(executor.container.as_ref()) == Some(true) {
            return Err(
                "The 'share_cgroups' field cannot be set to 'true' on executor containers"
                    .to_owned(),
            );
        }
        together(&own, &resources)?;
        if !launch
            .follower
            .has_executor(&launch.framework.id, &executor.executor_id.value)
        {
            total += resources;
        }
    }
    if !launch.available.contains(&total) {
        return Err(format!(
            "Total resources {total} required by task and its executor is more than available {}",
            launch.available
        ));
    }
    Ok(())
}

fn together(task: &Resources, executor: &Resources) -> Result<(), String> {
    if resource::overlap(&[task, executor]) {
        return Err(format!(
            "There are overlapping resources in the task resources {task} and executor resources {executor}"
        ));
    }
    let total = task + executor;
    resource::unique_persistence(&total)
        .map_err(|error| format!("Task and its executor use duplicate persistence ID: {error}"))?;
    resource::not_mixed(&total).map_err(|error| {
        format!("Task and its executor mix revocable and non-revocable resources: {error}")
    })
}

/// `share_cgroups`, if it was set.
pub(crate) fn share_cgroups(container: Option<&ContainerInfo>) -> Option<bool> {
    container?.linux_info.as_ref()?.share_cgroups
}
