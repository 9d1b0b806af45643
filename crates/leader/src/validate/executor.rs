//! Executors.

use super::{command, id, resource, task::Launch};
use tepui_model::{FrameworkId, resources::Resources};
use tepui_protocol::v1::{self, ExecutorInfo, container_info, executor_info::Type};

/// An executor by itself.
pub(crate) fn info(executor: &ExecutorInfo) -> Result<(), String> {
    kind(executor)?;
    id(&executor.executor_id.value)?;
    if executor
        .shutdown_grace_period
        .as_ref()
        .is_some_and(|period| period.nanoseconds < 0)
    {
        return Err("ExecutorInfo's 'shutdown_grace_period' must be non-negative".to_owned());
    }
    if let Some(own) = &executor.command {
        command::command(own)
            .map_err(|error| format!("Executor's `CommandInfo` is invalid: {error}"))?;
    }
    if let Some(own) = &executor.container {
        command::container(own)
            .map_err(|error| format!("Executor's `ContainerInfo` is invalid: {error}"))?;
    }
    Ok(())
}

fn kind(executor: &ExecutorInfo) -> Result<(), String> {
    match executor.r#type() {
        Type::Default => {
            if executor.command.is_some() {
                return Err(
                    "'ExecutorInfo.command' must not be set for 'DEFAULT' executor".to_owned(),
                );
            }
            let Some(container) = &executor.container else {
                return Ok(());
            };
            if container.r#type() != container_info::Type::Mesos {
                return Err(
                    "'ExecutorInfo.container.type' must be 'MESOS' for 'DEFAULT' executor"
                        .to_owned(),
                );
            }
            if container
                .mesos
                .as_ref()
                .is_some_and(|mesos| mesos.image.is_some())
            {
                return Err(
                    "'ExecutorInfo.container.mesos.image' must not be set for 'DEFAULT' executor"
                        .to_owned(),
                );
            }
            Ok(())
        }
        Type::Custom if executor.command.is_none() => {
            Err("'ExecutorInfo.command' must be set for 'CUSTOM' executor".to_owned())
        }
        Type::Custom | Type::Unknown => Ok(()),
    }
}

/// An executor to be launched, or joined, there and now.
pub(crate) fn launched(executor: &ExecutorInfo, launch: &Launch<'_>) -> Result<(), String> {
    info(executor)?;
    framework_id(executor.framework_id.as_ref(), &launch.framework.id)?;
    resources(executor)?;
    compatible(executor, launch)
}

fn framework_id(given: Option<&v1::FrameworkId>, expected: &FrameworkId) -> Result<(), String> {
    match given {
        None => Err("'ExecutorInfo.framework_id' must be set".to_owned()),
        Some(given) if given.value != expected.as_str() => Err(format!(
            "ExecutorInfo has an invalid FrameworkID (Actual: {} vs Expected: {expected})",
            given.value
        )),
        Some(_) => Ok(()),
    }
}

fn resources(executor: &ExecutorInfo) -> Result<(), String> {
    resource::usable(&executor.resources)
        .map_err(|error| format!("Executor uses invalid resources: {error}"))?;
    let resources = Resources::from_proto(&executor.resources);
    resource::unique_persistence(&resources)
        .map_err(|error| format!("Executor uses duplicate persistence ID: {error}"))?;
    resource::single_role(&resources)
        .map_err(|error| format!("Invalid executor resources: {error}"))?;
    resource::not_mixed(&resources)
        .map_err(|error| format!("Executor mixes revocable and non-revocable resources: {error}"))
}

/// Two executors of one id on one follower are one executor.
fn compatible(executor: &ExecutorInfo, launch: &Launch<'_>) -> Result<(), String> {
    let executors = launch.follower.executors.get(&launch.framework.id);
    let Some(known) = executors.and_then(|all| all.get(executor.executor_id.value.as_str())) else {
        return Ok(());
    };
    if same(known, executor) {
        return Ok(());
    }
    const LINE: &str = "------------------------------------------------------------";
    Err(format!(
        "ExecutorInfo is not compatible with existing ExecutorInfo with same ExecutorID.\n{LINE}\n\
         Existing ExecutorInfo:\n{known:#?}\n{LINE}\nExecutorInfo:\n{executor:#?}\n{LINE}\n"
    ))
}

/// Equal but for the order and grouping of resources.
pub(crate) fn same(a: &ExecutorInfo, b: &ExecutorInfo) -> bool {
    let bare = |executor: &ExecutorInfo| ExecutorInfo {
        resources: Vec::new(),
        ..executor.clone()
    };
    Resources::from_proto(&a.resources) == Resources::from_proto(&b.resources) && bare(a) == bare(b)
}
