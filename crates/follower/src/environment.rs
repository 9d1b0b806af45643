//! Environment variables of executors and tasks, as the reference sets them
//! (`executorEnvironment` in `src/slave/slave.cpp`, `src/launcher/executor.cpp`,
//! `src/slave/containerizer/mesos/launch.cpp`). Nothing is inherited from this process.
//!
//! Deliberately absent: `MESOS_NATIVE_LIBRARY` and `MESOS_NATIVE_JAVA_LIBRARY` (there is no native
//! library to point at; `--executor_environment_variables` can still set them), and `PWD` (the shell
//! that runs a command sets it).

use crate::config::Config;
use std::{collections::BTreeMap, path::Path, time::Duration};
use tepui_model::{FollowerId, units::format_duration};
use tepui_protocol::{peer::Pid, v1};

/// `PATH` of everything that brings none of its own.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Name to value.
pub type Variables = BTreeMap<String, String>;

/// What every executor process gets before the variables of its own command.
pub fn executor(
    config: &Config,
    info: &v1::ExecutorInfo,
    sandbox: &Path,
    follower: &FollowerId,
    pid: &Pid,
    checkpoint: bool,
) -> Variables {
    let mut env = Variables::new();
    let mut set = |name: &str, value: String| drop(env.insert(name.to_owned(), value));
    if let Some(ip) = &config.libprocess_ip {
        set("LIBPROCESS_IP", ip.clone());
    }
    for (name, value) in &config.executor_environment_variables {
        set(name, value.clone());
    }
    let directory = sandbox.display().to_string();
    set("LIBPROCESS_PORT", "0".to_owned());
    set(
        "MESOS_FRAMEWORK_ID",
        info.framework_id
            .as_ref()
            .map(|id| id.value.clone())
            .unwrap_or_default(),
    );
    set("MESOS_EXECUTOR_ID", info.executor_id.value.clone());
    set("MESOS_DIRECTORY", directory.clone());
    set("MESOS_SANDBOX", directory);
    set("MESOS_SLAVE_ID", follower.to_string());
    set("MESOS_SLAVE_PID", pid.to_string());
    set("MESOS_AGENT_ENDPOINT", pid.address.to_string());
    set("MESOS_CHECKPOINT", u8::from(checkpoint).to_string());
    set(
        "MESOS_HTTP_COMMAND_EXECUTOR",
        u8::from(config.http_command_executor).to_string(),
    );
    set(
        "MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD",
        format_duration(grace_period(config, info)),
    );
    if checkpoint {
        set(
            "MESOS_RECOVERY_TIMEOUT",
            format_duration(config.recovery_timeout),
        );
        set(
            "MESOS_SUBSCRIPTION_BACKOFF_MAX",
            format_duration(config.executor_reregistration_timeout),
        );
    }
    env
}

/// What the process of a custom executor gets: [`executor`]'s, what its link to us needs, then its
/// command's. Tasks get neither a token nor what belongs to the link.
pub fn custom_executor(
    config: &Config,
    mut env: Variables,
    token: Option<String>,
    command: &v1::CommandInfo,
) -> Vec<(String, String)> {
    for (name, value) in &config.executor_link_variables {
        env.entry(name.clone()).or_insert_with(|| value.clone());
    }
    if let Some(token) = token {
        env.insert("MESOS_EXECUTOR_AUTHENTICATION_TOKEN".to_owned(), token);
    }
    for variable in command.environment.iter().flat_map(|e| &e.variables) {
        // Secrets need a resolver, which this follower does not have: they are left out, as the
        // reference does where nothing resolves them.
        if let Some(value) = &variable.value {
            env.insert(variable.name.clone(), value.clone());
        }
    }
    env.entry("PATH".to_owned())
        .or_insert_with(|| DEFAULT_PATH.to_owned());
    env.into_iter().collect()
}

/// What a command task gets before the variables of its command.
pub fn command_task(mut env: Variables, info: &v1::ExecutorInfo) -> Vec<(String, String)> {
    env.insert(
        "MESOS_ALLOCATION_ROLE".to_owned(),
        allocation_role(&info.resources),
    );
    env.entry("PATH".to_owned())
        .or_insert_with(|| DEFAULT_PATH.to_owned());
    env.into_iter().collect()
}

/// What a task of the default executor gets before the variables of its command. Its executor adds
/// what differs per task (`MESOS_SANDBOX`); the executor's own variables are not handed on
/// (`src/launcher/default_executor.cpp`).
pub fn default_executor_task(info: &v1::ExecutorInfo, pid: &Pid) -> Vec<(String, String)> {
    Variables::from([
        (
            "MESOS_ALLOCATION_ROLE".to_owned(),
            allocation_role(&info.resources),
        ),
        (
            "MESOS_CONTAINER_IP".to_owned(),
            pid.address.ip().to_string(),
        ),
        ("PATH".to_owned(), DEFAULT_PATH.to_owned()),
    ])
    .into_iter()
    .collect()
}

/// How long an executor has between SHUTDOWN and being killed.
pub fn grace_period(config: &Config, info: &v1::ExecutorInfo) -> Duration {
    match &info.shutdown_grace_period {
        Some(period) => Duration::from_nanos(u64::try_from(period.nanoseconds).unwrap_or(0)),
        None => config.executor_shutdown_grace_period,
    }
}

fn allocation_role(resources: &[v1::Resource]) -> String {
    let role = resources
        .iter()
        .find_map(|r| r.allocation_info.as_ref()?.role.clone());
    role.unwrap_or_else(|| "*".to_owned())
}

#[cfg(test)]
#[path = "environment_tests.rs"]
mod tests;
