//! Messages of followers.

use super::{executor, framework, id};
use crate::status::is_uuid;
use std::collections::BTreeSet;
use tepui_model::{
    resources::{operations, validate_all},
    tasks::TaskState,
};
use tepui_protocol::{internal, v1};

/// `RegisterSlaveMessage`
pub(crate) fn register_follower(message: &internal::RegisterSlaveMessage) -> Result<(), String> {
    follower_info(&message.slave)?;
    if !message.checkpointed_resources.is_empty() && !message.slave.checkpoint() {
        return Err("Checkpointed resources provided when checkpointing is not enabled".to_owned());
    }
    valid(&message.checkpointed_resources)
}

/// `ReregisterSlaveMessage`
pub(crate) fn reregister_follower(
    message: &internal::ReregisterSlaveMessage,
) -> Result<(), String> {
    follower_info(&message.slave)?;
    let Some(own) = &message.slave.id else {
        return Err("Agent has no ID".to_owned());
    };
    valid(&message.checkpointed_resources)?;
    let mut frameworks: BTreeSet<&str> = BTreeSet::new();
    for info in &message.frameworks {
        framework::info(info)?;
        let framework = info.id.as_ref().map_or("", |framework| &framework.value);
        if framework.is_empty() {
            return Err("Framework has no FrameworkID".to_owned());
        }
        if !frameworks.insert(framework) {
            return Err(format!(
                "Framework has a duplicate FrameworkID: '{framework}'"
            ));
        }
    }
    let mut executors: BTreeSet<(&str, &str)> = BTreeSet::new();
    for info in &message.executor_infos {
        executor::info(info)?;
        valid(&info.resources)?;
        let framework = info
            .framework_id
            .as_ref()
            .map_or("", |framework| &framework.value);
        if !frameworks.contains(framework) {
            return Err(format!("Executor has an invalid FrameworkID '{framework}'"));
        }
        let executor = info.executor_id.value.as_str();
        if !executors.insert((framework, executor)) {
            return Err(format!(
                "Framework '{framework}' has a duplicate ExecutorID '{executor}'"
            ));
        }
    }
    let mut tasks: BTreeSet<(&str, &str)> = BTreeSet::new();
    for task in &message.tasks {
        known_task(task, own, &frameworks, &executors)?;
        let key = (
            task.framework_id.value.as_str(),
            task.task_id.value.as_str(),
        );
        if !tasks.insert(key) {
            return Err(format!(
                "Framework '{}' has a duplicate TaskID '{}'",
                key.0, key.1
            ));
        }
    }
    Ok(())
}

fn known_task(
    task: &v1::Task,
    own: &v1::AgentId,
    frameworks: &BTreeSet<&str>,
    executors: &BTreeSet<(&str, &str)>,
) -> Result<(), String> {
    id(&task.task_id.value).map_err(|error| format!("Task has an invalid TaskID: {error}"))?;
    if task.agent_id != *own {
        return Err(format!(
            "Task has an invalid SlaveID '{}'",
            task.agent_id.value
        ));
    }
    let framework = task.framework_id.value.as_str();
    if !frameworks.contains(framework) {
        return Err(format!("Task has an invalid FrameworkID '{framework}'"));
    }
    // Command tasks name no executor here; only running ones must have theirs.
    if let Some(executor) = &task.executor_id
        && task.state() == TaskState::TaskRunning
        && !executors.contains(&(framework, executor.value.as_str()))
    {
        return Err(format!(
            "Task has an invalid ExecutorID '{}'",
            executor.value
        ));
    }
    valid(&task.resources).map_err(|error| format!("Task uses invalid resources: {error}"))
}

fn follower_info(info: &v1::AgentInfo) -> Result<(), String> {
    if let Some(own) = &info.id {
        id(&own.value)?;
    }
    valid(&info.resources)
}

/// `UpdateSlaveMessage`
pub(crate) fn update_follower(message: &internal::UpdateSlaveMessage) -> Result<(), String> {
    valid(&message.oversubscribed_resources)?;
    let mut uuids = BTreeSet::new();
    for operation in message.operations.iter().flat_map(|all| &all.operations) {
        known_operation(operation, None, &mut uuids)?;
    }
    let providers = message.resource_providers.iter();
    let mut ids = BTreeSet::new();
    for provider in providers.flat_map(|all| &all.providers) {
        let own = provider.info.as_ref().and_then(|info| info.id.as_ref());
        let Some(own) = own.filter(|own| !own.value.is_empty()) else {
            return Err("Resource provider has no ID".to_owned());
        };
        let name = own.value.as_str();
        if !ids.insert(name) {
            return Err(format!("Resource provider has a duplicate ID '{name}'"));
        }
        valid(&provider.total_resources)?;
        let foreign = |resource: &v1::Resource| resource.provider_id.as_ref() != Some(own);
        if provider.total_resources.iter().any(foreign) {
            return Err(format!(
                "Resource provider '{name}' has resources of another"
            ));
        }
        for operation in &provider.operations.operations {
            known_operation(operation, Some(own), &mut uuids)?;
        }
    }
    Ok(())
}

fn known_operation<'a>(
    operation: &'a v1::Operation,
    provider: Option<&v1::ResourceProviderId>,
    uuids: &mut BTreeSet<&'a [u8]>,
) -> Result<(), String> {
    let uuid = &operation.uuid.value;
    if !is_uuid(uuid) {
        return Err("Operation has an invalid UUID".to_owned());
    }
    if !uuids.insert(uuid) {
        return Err("Operation has a duplicate UUID".to_owned());
    }
    let named = operations::named(&operation.info);
    if named.is_empty() {
        return Err("Operation contains no resources".to_owned());
    }
    if named.iter().any(|r| r.provider_id.as_ref() != provider) {
        return Err("Operation is about resources of another resource provider".to_owned());
    }
    if !operations::is_speculative(&operation.info) && operation.framework_id.is_none() {
        return Err("Operation is of no framework".to_owned());
    }
    named
        .into_iter()
        .try_for_each(|resource| valid(std::slice::from_ref(resource)))?;
    valid(&operation.latest_status.converted_resources)
}

/// Resources that a follower reports.
pub(crate) fn resources(resources: &[v1::Resource]) -> Result<(), String> {
    valid(resources)
}

/// No follower has more of anything. Sums over all of them stay far from where numbers end, and one
/// that reports nonsense does not become most of the cluster.
const LARGEST_AMOUNT: f64 = 1e12;

fn valid(resources: &[v1::Resource]) -> Result<(), String> {
    validate_all(resources).map_err(|error| error.to_string())?;
    let amounts = resources.iter().filter_map(|resource| resource.scalar);
    for amount in amounts {
        if amount.value > LARGEST_AMOUNT {
            return Err(format!(
                "Invalid scalar resource: value > {LARGEST_AMOUNT:e}"
            ));
        }
    }
    Ok(())
}

/// `1.11.0`, with or without `-label` and `+build`.
pub(crate) fn version(text: &str) -> Result<(u64, u64, u64), String> {
    let invalid = || format!("its version '{text}' is not a version");
    let core = text.split(['-', '+']).next().unwrap_or_default();
    let parts: Vec<u64> = core
        .split('.')
        .map(str::parse)
        .collect::<Result<_, _>>()
        .map_err(|_| invalid())?;
    match parts.as_slice() {
        [major] => Ok((*major, 0, 0)),
        [major, minor] => Ok((*major, *minor, 0)),
        [major, minor, patch] => Ok((*major, *minor, *patch)),
        _ => Err(invalid()),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn versions_are_read_and_compared_by_number() {
        assert_eq!(super::version("1.11.0"), Ok((1, 11, 0)));
        assert_eq!(super::version("1.12.0-rc1+abc"), Ok((1, 12, 0)));
        assert_eq!(super::version("2"), Ok((2, 0, 0)));
        assert!(super::version("1.11.0") > super::version("1.2.9"));
        for bad in ["", "x", "1.x", "1.2.3.4", "-1"] {
            assert!(super::version(bad).is_err(), "{bad}");
        }
    }
}
