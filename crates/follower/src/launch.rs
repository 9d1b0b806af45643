//! Launching executors: the made-up one of a command task and the default executor inside this
//! process, custom ones as a container. Follows `getExecutorInfo`, `addExecutor` and
//! `launchExecutor` of `src/slave/slave.cpp`.

// `role` and `source` are deprecated on the wire, and alive.

use crate::{
    Follower,
    config::{COMMAND_EXECUTOR_CPUS, COMMAND_EXECUTOR_MEM_MB, Config},
    environment, info,
    io::{Effect, Effects, LocalExecutor, LocalTask, RunFact},
    paths,
    state::{Executor, ExecutorKey, PendingLaunch},
    timers::Timer,
    view::{ExecutorKind, ExecutorState},
};
use indexmap::IndexMap;
use rpds::{QueueSync, RedBlackTreeMapSync};
use rustc_hash::FxHashMap;
use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tepui_model::{
    ExecutorId, Resources,
    container::{ContainerId, LaunchSpec},
};
use tepui_protocol::v1::{self, executor_info};

/// What the reference adds to a task's kill grace period before it kills the command executor: its
/// reaper's interval and a second.
const COMMAND_EXECUTOR_GRACE_EXTRA: Duration = Duration::from_secs(2);

impl Follower {
    /// Makes an executor and starts it. Its first tasks are only counted here; they are queued by the
    /// caller.
    pub(crate) fn launch_executor(
        &mut self,
        key: &ExecutorKey,
        launch: &PendingLaunch,
        fx: &mut Effects,
    ) {
        let Some(follower) = self.id.clone() else {
            return;
        };
        let info_ = Arc::new(launch.executor.clone());
        let kind = match info_.r#type() {
            _ if launch.generated => ExecutorKind::Command,
            executor_info::Type::Default => ExecutorKind::Default,
            _ => ExecutorKind::Custom,
        };
        let container = ContainerId::top(self.rng.uuid().hyphenated().to_string());
        let sandbox = paths::run(
            &self.config.work_dir,
            &follower,
            &key.0,
            &key.1,
            &container.value,
        );
        let latest = paths::latest_run(&self.config.work_dir, &follower, &key.0, &key.1);
        let user = self.user_of(&info_, &launch.framework);
        info(
            fx,
            format!(
                "Launching executor {} of framework {} in container {container}",
                key.1, key.0
            ),
        );
        for name in attachments(&sandbox, &latest, key) {
            fx.push(Effect::Attach {
                path: sandbox.clone(),
                name,
            });
        }
        let executor = new_executor(
            key.1.clone(),
            info_.clone(),
            kind,
            container.clone(),
            sandbox.clone(),
        );
        if let Some(framework) = self.frameworks.get_mut(&key.0) {
            framework.executors.insert(key.1.clone(), executor);
        }
        self.changed
            .entry(key.0.clone())
            .or_default()
            .insert(key.1.clone());
        self.containers.insert(container.clone(), key.clone());
        self.keep_framework(&key.0, fx);
        let fact = RunFact::Executor {
            info: Box::new((*info_).clone()),
            generated: launch.generated,
        };
        self.keep(key, fact, fx);
        let deadline = self.now + self.config.executor_registration_timeout;
        self.timers
            .set(Timer::ExecutorRegistration(container.clone()), deadline);

        if kind != ExecutorKind::Custom {
            return self.start_local_executor(key, Vec::new(), fx);
        }
        let checkpoint = launch.framework.checkpoint.unwrap_or(false);
        let base = environment::executor(
            &self.config,
            &info_,
            &sandbox,
            &follower,
            &self.pid,
            checkpoint,
        );
        let spec = self.custom_executor_spec(launch, container, sandbox, latest, user, base);
        self.launch_with_volumes(key, &launch.tasks, Box::new(spec), fx);
    }

    /// Starts an executor that runs in this process, with what it ran before a restart.
    pub(crate) fn start_local_executor(
        &self,
        key: &ExecutorKey,
        recovered: Vec<LocalTask>,
        fx: &mut Effects,
    ) {
        let (Some(follower), Some(framework)) = (&self.id, self.frameworks.get(&key.0)) else {
            return;
        };
        let Some(executor) = framework.executors.get(&key.1) else {
            return;
        };
        let environment = match executor.kind {
            ExecutorKind::Default => environment::default_executor_task(&executor.info, &self.pid),
            _ => {
                let base = environment::executor(
                    &self.config,
                    &executor.info,
                    &executor.sandbox,
                    follower,
                    &self.pid,
                    framework.checkpoint(),
                );
                environment::command_task(base, &executor.info)
            }
        };
        let latest = paths::latest_run(&self.config.work_dir, follower, &key.0, &key.1);
        fx.push(Effect::StartLocalExecutor(Box::new(LocalExecutor {
            container: executor.container.clone(),
            info: (*executor.info).clone(),
            framework: (*framework.info).clone(),
            sandbox: executor.sandbox.clone(),
            latest: Some(latest),
            user: self.user_of(&executor.info, &framework.info),
            environment,
            shutdown_grace_period: environment::grace_period(&self.config, &executor.info),
            outlives: self.outlives(&framework.info),
            recovered,
        })));
    }

    /// Who runs an executor, and the tasks in it that do not say.
    pub(crate) fn user_of(
        &self,
        executor: &v1::ExecutorInfo,
        framework: &v1::FrameworkInfo,
    ) -> Option<String> {
        let own = || executor.command.as_ref().and_then(|c| c.user.clone());
        self.config
            .switch_user
            .then(|| own().unwrap_or_else(|| framework.user.clone()))
    }

    fn custom_executor_spec(
        &self,
        launch: &PendingLaunch,
        container: ContainerId,
        sandbox: PathBuf,
        latest: PathBuf,
        user: Option<String>,
        base: environment::Variables,
    ) -> LaunchSpec {
        let command = launch.executor.command.clone().unwrap_or_default();
        let tasks = launch.tasks.iter().flat_map(|task| &task.resources);
        let resources = Resources::from_proto(launch.executor.resources.iter().chain(tasks));
        let container_info = launch
            .executor
            .container
            .as_ref()
            .or(self.config.default_container_info.as_ref());
        let token = self.executor_token(&launch.executor, &container);
        let environment = environment::custom_executor(&self.config, base, token, &command);
        LaunchSpec {
            container,
            sandbox,
            latest: Some(latest),
            user,
            environment,
            uris: command.uris.clone(),
            command,
            container_info: container_info.cloned().map(Arc::new),
            resources: resources.to_proto().into(),
            outlives: self
                .outlives(&launch.framework)
                .then(|| launch.executor.executor_id.value.as_str().into()),
        }
    }
}

/// Names under which `/files/*` knows a sandbox.
pub(crate) fn attachments(
    sandbox: &Path,
    latest: &Path,
    (framework, executor): &ExecutorKey,
) -> [String; 3] {
    [
        latest.display().to_string(),
        paths::virtual_latest_run(framework, executor),
        sandbox.display().to_string(),
    ]
}

pub(crate) fn new_executor(
    id: ExecutorId,
    info: Arc<v1::ExecutorInfo>,
    kind: ExecutorKind,
    container: ContainerId,
    sandbox: PathBuf,
) -> Executor {
    Executor {
        id,
        info,
        kind,
        outside: !kind.is_local(),
        container,
        sandbox,
        state: ExecutorState::Registering,
        connection: None,
        pid: None,
        nested_pids: FxHashMap::default(),
        queued: IndexMap::new(),
        queued_groups: Vec::new(),
        launched: RedBlackTreeMapSync::default(),
        terminated: RedBlackTreeMapSync::default(),
        completed: QueueSync::default(),
        ever_sent_task: false,
        pending_termination: None,
        volumes: Default::default(),
        kill_when_back: Vec::new(),
    }
}

/// The executor that the reference makes up for a command task. Clients see it in `/state`, so it
/// looks the same although no such program is started.
pub(crate) fn command_executor(
    config: &Config,
    framework: &v1::FrameworkInfo,
    task: &v1::TaskInfo,
) -> v1::ExecutorInfo {
    let command = task.command.clone().unwrap_or_default();
    let role = task
        .resources
        .iter()
        .find_map(|r| r.allocation_info.clone());
    let overhead = [
        ("cpus", COMMAND_EXECUTOR_CPUS),
        ("mem", COMMAND_EXECUTOR_MEM_MB),
    ];
    let program = format!("{}/mesos-executor", config.launcher_dir);
    let mut arguments = vec![
        "mesos-executor".to_owned(),
        format!("--launcher_dir={}", config.launcher_dir),
    ];
    let mesos_image = task.container.as_ref().is_some_and(|c| {
        c.r#type() == v1::container_info::Type::Mesos
            && c.mesos.as_ref().is_some_and(|m| m.image.is_some())
    });
    if mesos_image {
        arguments.push(format!("--sandbox_directory={}", config.sandbox_directory));
        if config.switch_user {
            arguments.push(format!(
                "--user={}",
                command.user.as_ref().unwrap_or(&framework.user)
            ));
        }
    }
    v1::ExecutorInfo {
        executor_id: v1::ExecutorId {
            value: task.task_id.value.clone(),
        },
        framework_id: framework.id.clone(),
        container: task.container.clone(),
        name: Some(format!(
            "Command Executor (Task: {}) {}",
            task.task_id.value,
            describe(&command)
        )),
        source: Some(task.task_id.value.clone()),
        labels: task.labels.clone(),
        discovery: task.discovery.clone(),
        shutdown_grace_period: task.kill_policy.as_ref().and_then(|p| p.grace_period).map(
            |grace| {
                let extra = COMMAND_EXECUTOR_GRACE_EXTRA.as_nanos() as i64;
                v1::DurationInfo {
                    nanoseconds: grace.nanoseconds.saturating_add(extra),
                }
            },
        ),
        command: Some(v1::CommandInfo {
            shell: Some(false),
            value: Some(program),
            arguments,
            uris: command.uris,
            environment: command.environment,
            user: command.user,
        }),
        resources: overhead
            .map(|(name, value)| v1::Resource {
                name: name.to_owned(),
                r#type: v1::value::Type::Scalar.into(),
                scalar: Some(v1::value::Scalar { value }),
                allocation_info: role.clone(),
                ..Default::default()
            })
            .into(),
        ..Default::default()
    }
}

/// `(Command: sh -c 'echo hello f...')`: at most 15 bytes of the command.
fn describe(command: &v1::CommandInfo) -> String {
    match (&command.value, command.shell.unwrap_or(true)) {
        (None, true) => "(Command: NO COMMAND)".to_owned(),
        (None, false) => "(Command: NO EXECUTABLE)".to_owned(),
        (Some(value), true) => format!("(Command: sh -c '{}')", shorten(value)),
        (Some(value), false) => {
            let text = format!("{value}, {}", command.arguments.join(", "));
            format!("(Command: [{}])", shorten(&text))
        }
    }
}

/// The reference cuts bytes; we cut at the character before.
fn shorten(text: &str) -> String {
    if text.len() <= 15 {
        return text.to_owned();
    }
    let end = (0..=12)
        .rev()
        .find(|end| text.is_char_boundary(*end))
        .unwrap_or(0);
    format!("{}...", &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(shell: bool, value: &str, arguments: &[&str]) -> v1::CommandInfo {
        v1::CommandInfo {
            shell: Some(shell),
            value: Some(value.to_owned()),
            arguments: arguments.iter().map(|a| a.to_string()).collect(),
            ..Default::default()
        }
    }

    #[test]
    fn names_of_command_executors_are_those_of_the_reference() {
        assert_eq!(
            describe(&command(true, "echo hello from the task", &[])),
            "(Command: sh -c 'echo hello f...')"
        );
        assert_eq!(
            describe(&command(true, "exit 3", &[])),
            "(Command: sh -c 'exit 3')"
        );
        assert_eq!(
            describe(&command(false, "/bin/true", &["true"])),
            "(Command: [/bin/true, true])"
        );
        assert_eq!(
            describe(&command(false, "/bin/sleep", &["sleep", "10"])),
            "(Command: [/bin/sleep, ...])"
        );
        assert_eq!(
            describe(&v1::CommandInfo::default()),
            "(Command: NO COMMAND)"
        );
    }

    #[test]
    fn long_names_are_never_cut_inside_a_character() {
        assert_eq!(shorten("ééééééééé"), "éééééé...");
        assert_eq!(shorten("aéééééééé"), "aééééé...");
    }
}
