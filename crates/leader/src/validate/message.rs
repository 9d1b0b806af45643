//! Messages of followers.

use super::{executor, framework, id};
use std::collections::BTreeSet;
use tepui_model::{resources::validate_all, tasks::TaskState};
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
    valid(&message.oversubscribed_resources)
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
