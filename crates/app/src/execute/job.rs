//! What the options of `execute` ask for.

use crate::flags::{FlagError, Settings};
use std::{str::FromStr, time::Duration};
use tepui_client::proto::{
    AgentId, CapabilityInfo, CommandInfo, ContainerInfo, Environment, ExecutorInfo, FrameworkId,
    FrameworkInfo, Image, LinuxInfo, NetworkInfo, RLimitInfo, TaskGroupInfo, TaskInfo, TtyInfo,
    Volume, container_info, environment, executor_info, framework_info, image,
};
use tepui_model::{Resources, resources, units};
use tepui_protocol::json;

/// Options that do not make a job.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JobError {
    #[error(transparent)]
    Flag(#[from] FlagError),
    #[error("one of --command, --task and --task_group is needed")]
    Nothing,
    #[error("--{0} and --{1} exclude each other")]
    Both(&'static str, &'static str),
    #[error("--{0} is needed with --command")]
    Needed(&'static str),
    #[error("--{flag}: {reason}")]
    Invalid { flag: &'static str, reason: String },
}

/// A framework and the tasks it launches.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    pub(crate) framework: FrameworkInfo,
    pub(crate) tasks: Vec<TaskInfo>,
    grouped: bool,
    pub(crate) kill_after: Option<Duration>,
}

const EXECUTOR: &str = "default-executor";

impl Job {
    /// A shell command with the defaults of everything else.
    pub(crate) fn shell(name: &str, command: &str, user: &str) -> Self {
        let mut task = TaskInfo {
            name: name.to_owned(),
            ..Default::default()
        };
        task.task_id.value = name.to_owned();
        task.command = Some(CommandInfo {
            value: Some(command.to_owned()),
            ..Default::default()
        });
        task.resources = resources::parse("cpus:0.1;mem:32", "*")
            .map(|r| r.to_proto())
            .unwrap_or_default();
        let framework = FrameworkInfo {
            user: user.to_owned(),
            name: "tepui execute".to_owned(),
            roles: vec!["*".to_owned()],
            capabilities: capabilities(true),
            ..Default::default()
        };
        Self {
            framework,
            tasks: vec![task],
            grouped: false,
            kill_after: None,
        }
    }

    /// Reads the options; `positional` is the command when `--command` is not given.
    pub(crate) fn from_settings(
        settings: &Settings,
        positional: &[String],
        user: &str,
    ) -> Result<Self, JobError> {
        let command = settings.text("command").map(str::to_owned);
        let command = command.or_else(|| (!positional.is_empty()).then(|| positional.join(" ")));
        let given = [
            ("command", command.is_some()),
            ("task", settings.text("task").is_some()),
            ("task_group", settings.text("task_group").is_some()),
        ];
        let given: Vec<_> = given
            .iter()
            .filter(|(_, is)| *is)
            .map(|(name, _)| *name)
            .collect();
        let (tasks, grouped) = match given[..] {
            ["command"] => (
                vec![command_task(
                    settings,
                    command.unwrap_or_default(),
                    positional,
                )?],
                false,
            ),
            ["task"] => (vec![task(settings)?], false),
            [_] => (task_group(settings)?, true),
            [] => return Err(JobError::Nothing),
            [first, second, ..] => return Err(JobError::Both(first, second)),
        };
        let kill_after = settings.parsed("kill_after", units::parse_duration)?;
        Ok(Self {
            framework: framework(settings, user)?,
            tasks,
            grouped,
            kill_after,
        })
    }

    /// The line that says it is launched, as the reference's tool has it.
    pub(crate) fn submitted(&self, agent: &AgentId) -> String {
        let ids: Vec<&str> = self
            .tasks
            .iter()
            .map(|t| t.task_id.value.as_str())
            .collect();
        let ids = ids.join(", ");
        if self.grouped {
            format!(
                "Submitted task group with tasks [ {ids} ] to agent '{}'",
                agent.value
            )
        } else {
            format!("Submitted task '{ids}' to agent '{}'", agent.value)
        }
    }

    /// The tasks with their follower filled in.
    pub(crate) fn tasks_on(&self, agent_id: &AgentId) -> Vec<TaskInfo> {
        let on = |task: &TaskInfo| TaskInfo {
            agent_id: agent_id.clone(),
            ..task.clone()
        };
        self.tasks.iter().map(on).collect()
    }

    /// Resources that an offer must hold.
    pub(crate) fn wanted(&self) -> Resources {
        let tasks = Resources::from_proto(self.tasks.iter().flat_map(|task| &task.resources));
        match self.grouped {
            true => tasks + &executor_resources(),
            false => tasks,
        }
    }

    /// The default executor, for a group.
    pub(crate) fn executor(&self, framework_id: Option<FrameworkId>) -> Option<ExecutorInfo> {
        let mut executor = ExecutorInfo {
            r#type: Some(executor_info::Type::Default as i32),
            framework_id,
            resources: executor_resources().to_proto(),
            ..Default::default()
        };
        executor.executor_id.value = EXECUTOR.to_owned();
        self.grouped.then_some(executor)
    }

    /// Virtual path of a task's sandbox on its follower.
    pub(crate) fn sandbox(&self, framework: &str, task: &str) -> String {
        if self.grouped {
            format!("/frameworks/{framework}/executors/{EXECUTOR}/runs/latest/tasks/{task}")
        } else {
            let executor = self
                .tasks
                .iter()
                .find(|t| t.task_id.value == task)
                .and_then(|t| t.executor.as_ref());
            let executor = executor.map_or(task, |executor| &executor.executor_id.value);
            format!("/frameworks/{framework}/executors/{executor}/runs/latest")
        }
    }
}

/// What the default executor of a group counts for (`src/cli/execute.cpp`): a leader refuses one
/// that asks for nothing.
fn executor_resources() -> Resources {
    resources::parse("cpus:0.1;mem:32;disk:32", "*").unwrap_or_default()
}

fn capabilities(partition_aware: bool) -> Vec<framework_info::Capability> {
    use framework_info::capability::Type;
    let mut types = vec![
        Type::TaskKillingState,
        Type::MultiRole,
        Type::ReservationRefinement,
    ];
    if partition_aware {
        types.push(Type::PartitionAware);
    }
    types
        .into_iter()
        .map(|kind| framework_info::Capability {
            r#type: Some(kind as i32),
        })
        .collect()
}

fn framework(settings: &Settings, user: &str) -> Result<FrameworkInfo, JobError> {
    let mut capabilities = capabilities(settings.is_on("partition_aware"));
    for name in settings
        .text("framework_capabilities")
        .unwrap_or_default()
        .split(',')
        .filter(|n| !n.is_empty())
    {
        let kind = framework_info::capability::Type::from_str_name(name.trim());
        let kind = kind.ok_or_else(|| JobError::Invalid {
            flag: "framework_capabilities",
            reason: format!("'{name}' is not a capability"),
        })?;
        let capability = framework_info::Capability {
            r#type: Some(kind as i32),
        };
        if !capabilities.contains(&capability) {
            capabilities.push(capability);
        }
    }
    Ok(FrameworkInfo {
        user: user.to_owned(),
        name: format!("mesos-execute instance {}", std::process::id()),
        roles: vec![settings.text("role").unwrap_or("*").to_owned()],
        checkpoint: Some(settings.is_on("checkpoint")),
        principal: settings.text("principal").map(str::to_owned),
        capabilities,
        ..Default::default()
    })
}

fn command_task(
    settings: &Settings,
    command: String,
    positional: &[String],
) -> Result<TaskInfo, JobError> {
    let name = settings.text("name").ok_or(JobError::Needed("name"))?;
    let mut task = TaskInfo {
        name: name.to_owned(),
        container: container(settings)?,
        ..Default::default()
    };
    task.task_id.value = name.to_owned();
    task.resources = settings
        .parsed("resources", |text| resources::parse(text, "*"))?
        .map(|resources| resources.to_proto())
        .unwrap_or_default();
    let shell = settings.is_on("shell");
    let mut info = CommandInfo {
        shell: Some(shell),
        environment: environment(settings)?,
        ..Default::default()
    };
    if shell {
        info.value = Some(command);
    } else {
        // Without a shell, words are arguments: given one by one, or split at white space.
        let words: Vec<String> = match settings.text("command") {
            Some(text) => text.split_whitespace().map(str::to_owned).collect(),
            None => positional.to_vec(),
        };
        info.value = words.first().cloned();
        info.arguments = words;
    }
    task.command = Some(info);
    Ok(task)
}

/// `file://PATH` was read already; a plain path is read here, as the reference does.
fn document(settings: &Settings, flag: &'static str) -> Result<serde_json::Value, JobError> {
    let invalid = |reason: String| JobError::Invalid { flag, reason };
    let text = settings.text(flag).unwrap_or_default();
    let read;
    let text = match text.starts_with('/') {
        true => {
            read = std::fs::read_to_string(text)
                .map_err(|e| invalid(format!("cannot read '{text}': {e}")))?;
            &read
        }
        false => text,
    };
    serde_json::from_str(text).map_err(|e| invalid(e.to_string()))
}

fn message<T>(flag: &'static str, value: &serde_json::Value) -> Result<T, JobError>
where
    T: prost::Message + prost::Name + Default,
{
    json::decode(value.to_string().as_bytes()).map_err(|e| JobError::Invalid {
        flag,
        reason: e.to_string(),
    })
}

/// A task on its own does not know its follower yet, but the message requires one.
fn with_agent(task: &mut serde_json::Value) {
    if let Some(fields) = task.as_object_mut() {
        fields
            .entry("agent_id")
            .or_insert_with(|| serde_json::json!({ "value": "" }));
    }
}

fn task(settings: &Settings) -> Result<TaskInfo, JobError> {
    let mut value = document(settings, "task")?;
    with_agent(&mut value);
    message("task", &value)
}

fn task_group(settings: &Settings) -> Result<Vec<TaskInfo>, JobError> {
    let mut value = document(settings, "task_group")?;
    if let Some(tasks) = value
        .get_mut("tasks")
        .and_then(|tasks| tasks.as_array_mut())
    {
        tasks.iter_mut().for_each(with_agent);
    }
    let group: TaskGroupInfo = message("task_group", &value)?;
    match group.tasks.is_empty() {
        true => Err(JobError::Invalid {
            flag: "task_group",
            reason: "it holds no task".to_owned(),
        }),
        false => Ok(group.tasks),
    }
}

fn environment(settings: &Settings) -> Result<Option<Environment>, JobError> {
    if settings.text("env").is_none() {
        return Ok(None);
    }
    let invalid = |reason: String| JobError::Invalid {
        flag: "env",
        reason,
    };
    let value = document(settings, "env")?;
    let fields = value
        .as_object()
        .ok_or_else(|| invalid("it is not a JSON object".to_owned()))?;
    let variable = |(name, value): (&String, &serde_json::Value)| {
        let text = value
            .as_str()
            .ok_or_else(|| invalid(format!("the value of '{name}' is not a text")))?;
        Ok(environment::Variable {
            name: name.clone(),
            value: Some(text.to_owned()),
            ..Default::default()
        })
    };
    Ok(Some(Environment {
        variables: fields
            .iter()
            .map(variable)
            .collect::<Result<_, JobError>>()?,
    }))
}

fn container(settings: &Settings) -> Result<Option<ContainerInfo>, JobError> {
    let mut info = ContainerInfo::default();
    let kind = match settings.text("containerizer").unwrap_or("mesos") {
        "mesos" => container_info::Type::Mesos,
        "docker" => container_info::Type::Docker,
        other => {
            let reason = format!("'{other}' is neither mesos nor docker");
            return Err(JobError::Invalid {
                flag: "containerizer",
                reason,
            });
        }
    };
    info.r#type = kind as i32;
    match (
        settings.text("docker_image"),
        settings.text("appc_image"),
        kind,
    ) {
        (Some(_), Some(_), _) => return Err(JobError::Both("docker_image", "appc_image")),
        (Some(name), None, container_info::Type::Docker) => {
            let docker = container_info::DockerInfo {
                image: name.to_owned(),
                ..Default::default()
            };
            info.docker = Some(docker);
        }
        (Some(name), None, _) => info.mesos = Some(image_of(image::Type::Docker, name)),
        (None, Some(name), _) => info.mesos = Some(image_of(image::Type::Appc, name)),
        (None, None, _) => {}
    }
    for name in settings
        .text("networks")
        .unwrap_or_default()
        .split(',')
        .filter(|n| !n.is_empty())
    {
        info.network_infos.push(NetworkInfo {
            name: Some(name.to_owned()),
            ..Default::default()
        });
    }
    if settings.text("volumes").is_some() {
        let value = document(settings, "volumes")?;
        let list = value.as_array().ok_or_else(|| JobError::Invalid {
            flag: "volumes",
            reason: "it is not a JSON array".to_owned(),
        })?;
        info.volumes = list
            .iter()
            .map(|v| message::<Volume>("volumes", v))
            .collect::<Result<_, _>>()?;
    }
    if settings.text("rlimits").is_some() {
        info.rlimit_info = Some(message::<RLimitInfo>(
            "rlimits",
            &document(settings, "rlimits")?,
        )?);
    }
    let mut linux = LinuxInfo::default();
    if settings.text("effective_capabilities").is_some() {
        let value = document(settings, "effective_capabilities")?;
        linux.effective_capabilities =
            Some(message::<CapabilityInfo>("effective_capabilities", &value)?);
    }
    if settings.text("bounding_capabilities").is_some() {
        let value = document(settings, "bounding_capabilities")?;
        linux.bounding_capabilities =
            Some(message::<CapabilityInfo>("bounding_capabilities", &value)?);
    }
    if linux != LinuxInfo::default() {
        info.linux_info = Some(linux);
    }
    if settings.is_on("tty") {
        info.tty_info = Some(TtyInfo::default());
    }
    let plain = ContainerInfo {
        r#type: container_info::Type::Mesos as i32,
        ..Default::default()
    };
    Ok((info != plain).then_some(info))
}

fn image_of(kind: image::Type, name: &str) -> container_info::MesosInfo {
    let mut image = Image {
        r#type: kind as i32,
        ..Default::default()
    };
    match kind {
        image::Type::Appc => {
            image.appc = Some(image::Appc {
                name: name.to_owned(),
                ..Default::default()
            })
        }
        _ => {
            image.docker = Some(image::Docker {
                name: name.to_owned(),
                ..Default::default()
            })
        }
    }
    container_info::MesosInfo { image: Some(image) }
}

/// How messages are written, from `--content_type`.
pub(crate) fn codec(settings: &Settings) -> Result<tepui_client::Codec, FlagError> {
    struct Choice(tepui_client::Codec);
    impl FromStr for Choice {
        type Err = &'static str;
        fn from_str(text: &str) -> Result<Self, Self::Err> {
            match text {
                "protobuf" => Ok(Self(tepui_client::Codec::Protobuf)),
                "json" => Ok(Self(tepui_client::Codec::Json)),
                _ => Err("it is neither protobuf nor json"),
            }
        }
    }
    Ok(settings
        .parsed("content_type", Choice::from_str)?
        .map_or_else(Default::default, |choice| choice.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flags::execute::FLAGS;

    fn job(args: &[&str]) -> Result<Job, String> {
        let args: Vec<_> = args.iter().map(|a| (*a).to_owned()).collect();
        let (settings, rest) =
            Settings::resolve(vec![FLAGS], &args, |_| None, None).map_err(|e| e.to_string())?;
        Job::from_settings(&settings, &rest, "nobody").map_err(|e| e.to_string())
    }

    #[test]
    fn a_command_becomes_a_task() {
        let job = job(&[
            "--name=n",
            "--command=echo a",
            "--env={\"A\":\"b\"}",
            "--resources=cpus:2",
        ])
        .unwrap();
        let task = &job.tasks[0];
        let command = task.command.as_ref().unwrap();
        assert_eq!(
            (task.task_id.value.as_str(), command.value()),
            ("n", "echo a")
        );
        assert_eq!(command.environment.as_ref().unwrap().variables[0].name, "A");
        assert_eq!(job.wanted().to_string(), "cpus:2");
        assert_eq!(task.container, None);
        assert_eq!(
            job.sandbox("F", "n"),
            "/frameworks/F/executors/n/runs/latest"
        );
    }

    #[test]
    fn the_executor_of_a_group_has_resources_of_its_own() {
        let task = r#"{"name":"a","task_id":{"value":"a"},"resources":[{"name":"cpus","type":"SCALAR","scalar":{"value":1}}],"command":{"value":"true"}}"#;
        let job = job(&[&format!("--task_group={{\"tasks\":[{task}]}}")]).unwrap();
        let executor = job.executor(None).unwrap();
        let resources = Resources::from_proto(&executor.resources);
        assert_eq!(resources.to_string(), "cpus:0.1; mem:32; disk:32");
        assert_eq!(job.wanted().to_string(), "cpus:1.1; mem:32; disk:32");
    }

    #[test]
    fn the_line_of_a_launch_is_the_references() {
        let agent = AgentId {
            value: "S".to_owned(),
        };
        let one = job(&["--name=n", "--command=a"]).unwrap();
        assert_eq!(one.submitted(&agent), "Submitted task 'n' to agent 'S'");
        let task = |id| format!(r#"{{"name":"n","task_id":{{"value":"{id}"}}}}"#);
        let group = format!("--task_group={{\"tasks\":[{},{}]}}", task("a"), task("b"));
        assert_eq!(
            job(&[&group]).unwrap().submitted(&agent),
            "Submitted task group with tasks [ a, b ] to agent 'S'"
        );
    }

    #[test]
    fn without_a_shell_words_are_arguments() {
        let job = job(&["--name=n", "--no-shell", "--", "printf", "%s %s", "a b"]).unwrap();
        let command = job.tasks[0].command.as_ref().unwrap();
        assert_eq!((command.value(), command.shell()), ("printf", false));
        assert_eq!(command.arguments, ["printf", "%s %s", "a b"]);
    }

    #[test]
    fn tasks_and_groups_need_no_follower() {
        let task =
            r#"{"name":"t","task_id":{"value":"t"},"resources":[],"command":{"value":"true"}}"#;
        assert_eq!(
            job(&[&format!("--task={task}")]).unwrap().tasks[0].name,
            "t"
        );
        let group = job(&[&format!("--task_group={{\"tasks\":[{task},{task}]}}")]).unwrap();
        assert_eq!(group.tasks.len(), 2);
        assert_eq!(
            group.executor(None).unwrap().executor_id.value,
            "default-executor"
        );
        assert_eq!(
            group.sandbox("F", "t"),
            "/frameworks/F/executors/default-executor/runs/latest/tasks/t"
        );
    }

    #[test]
    fn mistakes_name_the_option() {
        for (args, expected) in [
            (
                &[][..],
                "one of --command, --task and --task_group is needed",
            ),
            (&["--command=a"], "--name is needed with --command"),
            (
                &["--command=a", "--task={}"],
                "--command and --task exclude each other",
            ),
            (
                &["--task=nonsense"],
                "--task: expected ident at line 1 column 2",
            ),
            (
                &["--task={}"],
                "--task: Missing required fields: name, task_id",
            ),
            (
                &["--task_group={\"tasks\":[]}"],
                "--task_group: it holds no task",
            ),
            (
                &["--command=a", "--name=n", "--env=[]"],
                "--env: it is not a JSON object",
            ),
            (
                &["--command=a", "--name=n", "--resources=cpus:x"],
                "flag '--resources'",
            ),
            (
                &["--command=a", "--name=n", "--kill_after=soon"],
                "flag '--kill_after'",
            ),
            (
                &["--command=a", "--name=n", "--framework_capabilities=FLY"],
                "--framework_capabilities: 'FLY' is not",
            ),
            (
                &["--command=a", "--name=n", "--containerizer=lxc"],
                "--containerizer: 'lxc' is neither",
            ),
        ] {
            let error = job(args).unwrap_err();
            assert!(error.contains(expected), "{args:?}: {error}");
        }
    }
}
