//! Task groups: their tasks, their executor, and all of them together.

use super::{
    executor, resource,
    task::{self, Launch, share_cgroups},
};
use tepui_model::{Scalar, resources::Resources};
use tepui_protocol::v1::{
    ExecutorInfo, TaskGroupInfo, TaskInfo, container_info, executor_info, health_check,
};

/// Least an executor of a group gets (`src/master/constants.hpp`).
const MIN_CPUS: Scalar = Scalar::millis(10);
/// In MB.
const MIN_MEM: Scalar = Scalar::units(32);

/// A group and its executor.
pub(crate) fn validate(
    group: &TaskGroupInfo,
    executor: &ExecutorInfo,
    launch: &Launch<'_>,
) -> Result<(), String> {
    let mut ids = std::collections::BTreeSet::new();
    for task in &group.tasks {
        let id = &task.task_id.value;
        let twice = || Err(format!("Task has duplicate ID: {id}"));
        let result = if ids.insert(id.as_str()) {
            group_task(task, launch)
        } else {
            twice()
        };
        result.map_err(|error| format!("Task '{id}' is invalid: {error}"))?;
    }
    group_executor(group, executor, launch)?;
    cgroups(group, executor, launch)
}

fn group_task(task: &TaskInfo, launch: &Launch<'_>) -> Result<(), String> {
    task::common(task, launch)?;
    if task.executor.is_none() {
        return Err("'TaskInfo.executor' must be set".to_owned());
    }
    if let Some(container) = &task.container {
        let checked = task.health_check.as_ref().map(|check| check.r#type());
        if !container.network_infos.is_empty()
            && matches!(
                checked,
                Some(health_check::Type::Http | health_check::Type::Tcp)
            )
        {
            return Err("HTTP and TCP health checks are not supported for nested containers not joining parent's \
                        network"
                .to_owned());
        }
        if container.r#type() == container_info::Type::Docker {
            return Err("Docker ContainerInfo is not supported on the task".to_owned());
        }
    }
    if !task.limits.is_empty() && share_cgroups(task.container.as_ref()) != Some(false) {
        return Err("Resource limits may only be set for tasks within a task group when the 'share_cgroups' field is \
                    set to 'false'."
            .to_owned());
    }
    Ok(())
}

fn group_executor(
    group: &TaskGroupInfo,
    executor: &ExecutorInfo,
    launch: &Launch<'_>,
) -> Result<(), String> {
    executor::launched(executor, launch)?;
    if executor.r#type.is_none() {
        return Err("'ExecutorInfo.type' must be set".to_owned());
    }
    if executor.r#type() == executor_info::Type::Unknown {
        return Err("Unknown executor type".to_owned());
    }
    if executor
        .container
        .as_ref()
        .is_some_and(|c| c.r#type() == container_info::Type::Docker)
    {
        return Err("Docker ContainerInfo is not supported on the executor".to_owned());
    }
    let name = &executor.executor_id.value;
    for task in &group.tasks {
        if task
            .executor
            .as_ref()
            .is_some_and(|own| !executor::same(own, executor))
        {
            return Err(format!(
                "The `ExecutorInfo` of task '{}' is different from executor '{name}'",
                task.task_id.value
            ));
        }
    }
    let own = Resources::from_proto(&executor.resources);
    enough(name, &own)?;
    let tasks: Vec<Resources> = group
        .tasks
        .iter()
        .map(|task| Resources::from_proto(&task.resources))
        .collect();
    together(&tasks, &own)?;
    let mut total: Resources = tasks.iter().sum();
    if !launch.follower.has_executor(&launch.framework.id, name) {
        total += own;
    }
    if !launch.available.contains(&total) {
        return Err(format!(
            "Total resources {total} required by task group and its executor are more than available {}",
            launch.available
        ));
    }
    Ok(())
}

fn enough(name: &str, own: &Resources) -> Result<(), String> {
    let cpus = own.scalar("cpus");
    if cpus.is_none_or(|cpus| cpus < MIN_CPUS) {
        let given = cpus.map_or("None".to_owned(), |cpus| cpus.to_string());
        return Err(format!(
            "Executor '{name}' uses less CPUs ({given}) than the minimum required ({MIN_CPUS})"
        ));
    }
    let mem = own.scalar("mem");
    if mem.is_none_or(|mem| mem < MIN_MEM) {
        let given = mem.map_or("None".to_owned(), |mem| format!("{mem}MB"));
        return Err(format!(
            "Executor '{name}' uses less memory ({given}) than the minimum required ({MIN_MEM}MB)"
        ));
    }
    if own.scalar("disk").is_none() {
        return Err(format!("Executor '{name}' uses no disk"));
    }
    Ok(())
}

fn together(tasks: &[Resources], executor: &Resources) -> Result<(), String> {
    let parts: Vec<&Resources> = tasks.iter().chain([executor]).collect();
    let total: Resources = parts.iter().copied().sum();
    resource::unique_persistence(&total).map_err(|error| {
        format!("Task group and executor use duplicate persistence ID: {error}")
    })?;
    resource::not_mixed(&total).map_err(|error| {
        format!("Task group and executor mix revocable and non-revocable resources: {error}")
    })?;
    if resource::overlap(&parts) {
        let tasks: Vec<String> = tasks.iter().map(Resources::to_string).collect();
        return Err(format!(
            "There are overlapping resources in the task group's task resources [ {} ] and/or executor resources \
             {executor}",
            tasks.join(", ")
        ));
    }
    Ok(())
}

/// Tasks of one executor share its cgroups, or none of them does.
fn cgroups(
    group: &TaskGroupInfo,
    executor: &ExecutorInfo,
    launch: &Launch<'_>,
) -> Result<(), String> {
    if share_cgroups(executor.container.as_ref()) == Some(true) {
        return Err(
            "The 'share_cgroups' field cannot be set to 'true' on executor containers".to_owned(),
        );
    }
    let new = group.tasks.iter().map(|task| task.container.as_ref());
    let Launch {
        framework,
        follower,
        ..
    } = launch;
    let running = follower
        .tasks
        .get(&framework.id)
        .into_iter()
        .flatten()
        .filter(|_| follower.has_executor(&framework.id, &executor.executor_id.value))
        .filter_map(|id| framework.tasks.get(id))
        .filter(|task| task.executor_id.as_ref() == Some(&executor.executor_id))
        .map(|task| task.container.as_deref());
    let mut shares = new
        .chain(running)
        .map(|container| share_cgroups(container).unwrap_or(true));
    let Some(first) = shares.next() else {
        return Ok(());
    };
    if shares.any(|share| share != first) {
        return Err("If set, the value of 'share_cgroups' must be the same for all tasks in each task group and under \
                    a single executor"
            .to_owned());
    }
    Ok(())
}
