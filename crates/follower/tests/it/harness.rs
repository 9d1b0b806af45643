//! A follower, a leader and executors that a test plays by hand. Every step is followed by `check()`.

use std::time::Duration;
use tepui_auth::http::HttpPrincipal;
use tepui_follower::{
    Config, Follower,
    io::{Effect, Effects, ExecutorPeer, Input, LocalExecutor, Reply},
};
use tepui_model::{
    RequestId, Rng, StreamId, Time,
    container::{ContainerEvent, ContainerId, LaunchSpec},
};
use tepui_protocol::{
    internal as i,
    peer::{PeerMessage, Pid},
    v1::{
        self, TaskState,
        executor::{Call, Event, call, event},
    },
};

/// Id of the follower in tests.
pub(crate) const ID: &str = "L-S0";
/// Id of the framework in tests.
pub(crate) const FRAMEWORK: &str = "L-0000";

pub(crate) struct World {
    pub(crate) follower: Follower,
    pub(crate) now: Time,
    pub(crate) effects: Vec<Effect>,
    requests: u64,
    streams: Rng,
}

pub(crate) fn leader() -> Pid {
    "master@127.0.0.1:5050".parse().unwrap()
}

pub(crate) fn config() -> Config {
    let mut config = Config::new("127.0.0.1:5051".parse().unwrap(), "follower.test", "/w");
    config.resources = tepui_follower::resources::startup(
        "cpus:4;mem:4096;disk:100;ports:[1-10]",
        "*",
        Default::default(),
    )
    .unwrap();
    config
}

impl World {
    /// Not even a leader is known.
    pub(crate) fn new() -> Self {
        Self::with(config())
    }
    pub(crate) fn with(config: Config) -> Self {
        let now = Time::from_nanos(1_000_000_000_000);
        Self {
            follower: Follower::new(config, now, Rng::seed(7), None),
            now,
            effects: Vec::new(),
            requests: 0,
            streams: Rng::seed(8),
        }
    }
    /// Had an id before it was restarted.
    pub(crate) fn recovered() -> Self {
        let mut world = Self::new();
        world.follower = Follower::new(config(), world.now, Rng::seed(7), Some(ID.into()));
        world
    }
    /// Registered, nothing left to look at.
    pub(crate) fn registered() -> Self {
        Self::registered_with(config())
    }
    pub(crate) fn registered_with(config: Config) -> Self {
        let mut world = Self::with(config);
        world.step(Input::LeaderDetected(Some(leader())));
        world.pass(Duration::from_secs(1));
        world.register();
        world.effects.clear();
        world
    }
    pub(crate) fn register(&mut self) {
        self.leader_says(i::SlaveRegisteredMessage {
            slave_id: v1::AgentId { value: ID.into() },
            connection: Some(i::MasterSlaveConnection {
                total_ping_timeout_seconds: Some(75.0),
            }),
        });
    }
    pub(crate) fn step(&mut self, input: Input) {
        let mut fx = Effects::default();
        self.follower.handle(self.now, input, &mut fx);
        self.follower.check();
        self.effects.extend(fx.drain());
    }
    pub(crate) fn leader_says(&mut self, message: impl Into<PeerMessage>) {
        self.step(Input::Peer {
            to: tepui_follower::io::ProcessName::Follower,
            from: leader(),
            message: message.into(),
        });
    }
    /// Lets time pass, with a Tick at each deadline.
    pub(crate) fn pass(&mut self, duration: Duration) {
        let end = self.now + duration;
        while let Some(deadline) = self.follower.next_deadline().filter(|d| *d <= end) {
            self.now = deadline.max(self.now);
            self.step(Input::Tick);
        }
        self.now = end;
    }
    /// Takes all effects but the log.
    pub(crate) fn take(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
            .into_iter()
            .filter(|e| !matches!(e, Effect::Log(_)))
            .collect()
    }
    /// Takes all effects, as short texts, log left out.
    pub(crate) fn seen(&mut self) -> Vec<String> {
        self.take().iter().map(describe).collect()
    }
    /// Messages to the leader among the effects; the others are thrown away.
    pub(crate) fn take_sent(&mut self) -> Vec<PeerMessage> {
        let sent = |effect| match effect {
            Effect::Send { to, message, .. } if to == leader() => Some(message),
            _ => None,
        };
        self.take().into_iter().filter_map(sent).collect()
    }
    /// Updates forwarded to the leader among the effects; the others are thrown away.
    pub(crate) fn updates(&mut self) -> Vec<i::StatusUpdate> {
        let update = |message| match message {
            PeerMessage::StatusUpdate(m) => Some(m.update),
            _ => None,
        };
        self.take_sent().into_iter().filter_map(update).collect()
    }
    pub(crate) fn run(&mut self, task: v1::TaskInfo) {
        self.run_in(framework(), task);
    }
    pub(crate) fn run_in(&mut self, framework: v1::FrameworkInfo, task: v1::TaskInfo) {
        self.leader_says(i::RunTaskMessage {
            framework,
            task,
            pid: Some("@0.0.0.0:0".into()),
            launch_executor: Some(true),
            ..Default::default()
        });
    }
    /// Runs a command task and subscribes its executor; nothing is left to look at.
    pub(crate) fn running_command(&mut self, id: &str) -> ContainerId {
        self.run(command(id));
        let local = self.local_executor();
        self.local(&local.container, subscribe(id));
        self.step(Input::Container {
            container: local.container.clone(),
            event: ContainerEvent::Launched { pid: 42 },
        });
        self.effects.clear();
        local.container
    }
    /// The only local executor started; other effects are thrown away.
    pub(crate) fn local_executor(&mut self) -> LocalExecutor {
        let started = |effect| match effect {
            Effect::StartLocalExecutor(local) => Some(*local),
            _ => None,
        };
        let mut all: Vec<_> = self.take().into_iter().filter_map(started).collect();
        assert_eq!(all.len(), 1, "local executors started");
        all.remove(0)
    }
    /// The only container launched; other effects are thrown away.
    pub(crate) fn launched(&mut self) -> LaunchSpec {
        let launched = |effect| match effect {
            Effect::Launch(spec) => Some(*spec),
            _ => None,
        };
        let mut all: Vec<_> = self.take().into_iter().filter_map(launched).collect();
        assert_eq!(all.len(), 1, "containers launched");
        all.remove(0)
    }
    pub(crate) fn local(&mut self, container: &ContainerId, call: Call) {
        self.step(Input::LocalExecutorCall {
            container: container.clone(),
            call: Box::new(call),
        });
    }
    pub(crate) fn http(&mut self, call: Call) -> Reply {
        self.http_as(None, call)
    }
    pub(crate) fn http_as(&mut self, principal: Option<HttpPrincipal>, call: Call) -> Reply {
        self.requests += 1;
        let request = RequestId(self.requests);
        self.step(Input::ExecutorCall {
            request,
            call: Box::new(call),
            principal,
        });
        self.reply_to(request)
    }
    pub(crate) fn http_subscribe(&mut self, call: Call) -> (StreamId, Option<Reply>) {
        self.http_subscribe_as(None, call)
    }
    pub(crate) fn http_subscribe_as(
        &mut self,
        principal: Option<HttpPrincipal>,
        call: Call,
    ) -> (StreamId, Option<Reply>) {
        self.requests += 1;
        let (request, stream) = (RequestId(self.requests), StreamId(self.streams.uuid()));
        self.step(Input::ExecutorSubscribe {
            request,
            stream,
            call: Box::new(call),
            principal,
        });
        let opened = |e: &Effect| matches!(e, Effect::OpenStream { stream: s, .. } if *s == stream);
        if let Some(at) = self.effects.iter().position(opened) {
            self.effects.remove(at);
            return (stream, None);
        }
        (stream, Some(self.reply_to(request)))
    }
    fn reply_to(&mut self, wanted: RequestId) -> Reply {
        let is = |e: &Effect| matches!(e, Effect::Reply { request, .. } if *request == wanted);
        let at = self.effects.iter().position(is).expect("no reply");
        match self.effects.remove(at) {
            Effect::Reply { reply, .. } => reply,
            _ => unreachable!(),
        }
    }
    pub(crate) fn exited(
        &mut self,
        container: &ContainerId,
        status: tepui_model::container::ExitStatus,
    ) {
        let event = ContainerEvent::Exited {
            status: Some(status),
        };
        self.step(Input::Container {
            container: container.clone(),
            event,
        });
    }
    pub(crate) fn acknowledge(&mut self, update: &i::StatusUpdate) {
        self.leader_says(i::StatusUpdateAcknowledgementMessage {
            slave_id: v1::AgentId { value: ID.into() },
            framework_id: update.framework_id.clone(),
            task_id: update.status.task_id.clone(),
            uuid: update.uuid.clone().unwrap(),
        });
    }
    pub(crate) fn kill(&mut self, task: &str) {
        self.leader_says(i::KillTaskMessage {
            framework_id: v1::FrameworkId {
                value: FRAMEWORK.into(),
            },
            task_id: v1::TaskId { value: task.into() },
            kill_policy: None,
        });
    }
}

pub(crate) fn framework() -> v1::FrameworkInfo {
    use v1::framework_info::{Capability, capability::Type};
    v1::FrameworkInfo {
        user: "root".into(),
        name: "test".into(),
        id: Some(v1::FrameworkId {
            value: FRAMEWORK.into(),
        }),
        roles: vec!["*".into()],
        capabilities: vec![Capability {
            r#type: Some(Type::PartitionAware.into()),
        }],
        ..Default::default()
    }
}

pub(crate) fn scalar(name: &str, value: f64) -> v1::Resource {
    v1::Resource {
        name: name.into(),
        r#type: v1::value::Type::Scalar.into(),
        scalar: Some(v1::value::Scalar { value }),
        allocation_info: Some(v1::resource::AllocationInfo {
            role: Some("*".into()),
        }),
        ..Default::default()
    }
}

pub(crate) fn task(id: &str) -> v1::TaskInfo {
    v1::TaskInfo {
        name: id.into(),
        task_id: v1::TaskId { value: id.into() },
        agent_id: v1::AgentId { value: ID.into() },
        resources: vec![scalar("cpus", 1.0), scalar("mem", 128.0)],
        ..Default::default()
    }
}

pub(crate) fn command(id: &str) -> v1::TaskInfo {
    let command = v1::CommandInfo {
        value: Some("exit 3".into()),
        shell: Some(true),
        ..Default::default()
    };
    v1::TaskInfo {
        command: Some(command),
        ..task(id)
    }
}

pub(crate) fn custom_executor(id: &str) -> v1::ExecutorInfo {
    v1::ExecutorInfo {
        r#type: Some(v1::executor_info::Type::Custom.into()),
        executor_id: v1::ExecutorId { value: id.into() },
        framework_id: framework().id,
        command: Some(v1::CommandInfo {
            value: Some("./run".into()),
            ..Default::default()
        }),
        resources: vec![scalar("cpus", 0.5)],
        ..Default::default()
    }
}

pub(crate) fn subscribe(executor: &str) -> Call {
    Call {
        subscribe: Some(call::Subscribe::default()),
        ..executor_call(executor, call::Type::Subscribe)
    }
}

pub(crate) fn executor_call(executor: &str, kind: call::Type) -> Call {
    Call {
        executor_id: v1::ExecutorId {
            value: executor.into(),
        },
        framework_id: v1::FrameworkId {
            value: FRAMEWORK.into(),
        },
        r#type: Some(kind.into()),
        ..Default::default()
    }
}

/// An UPDATE whose uuid is made from `number`.
pub(crate) fn update(executor: &str, task: &str, state: TaskState, number: u8) -> Call {
    let mut uuid = [number; 16];
    uuid[6] = 0x40;
    let status = v1::TaskStatus {
        task_id: v1::TaskId { value: task.into() },
        state: state.into(),
        source: Some(v1::task_status::Source::Executor.into()),
        uuid: Some(uuid.to_vec().into()),
        timestamp: Some(5.0),
        ..Default::default()
    };
    Call {
        update: Some(call::Update { status }),
        ..executor_call(executor, call::Type::Update)
    }
}

/// One effect as a short text.
pub(crate) fn describe(effect: &Effect) -> String {
    match effect {
        Effect::Persist(_) => "persist".into(),
        Effect::OpenStream { .. } => "open stream".into(),
        Effect::Event { to, event } => format!(
            "{} to {}",
            describe_event(event),
            match to {
                ExecutorPeer::Stream(_) => "stream",
                ExecutorPeer::Local(_) => "local",
            }
        ),
        Effect::CloseStream { .. } => "close stream".into(),
        Effect::Reply { reply, .. } => format!("reply {reply:?}"),
        Effect::Send { to, message, .. } => format!("{} to {}", describe_message(message), to.name),
        Effect::StartLocalExecutor(local) => {
            format!("start local {}", local.info.executor_id.value)
        }
        Effect::StopLocalExecutor { .. } => "stop local".into(),
        Effect::Launch(_) => "launch".into(),
        Effect::LinkVolumes(_) => "link volumes".into(),
        Effect::Destroy { .. } => "destroy".into(),
        Effect::Forget { .. } => "forget".into(),
        Effect::Signal { signal, .. } => format!("signal {signal}"),
        Effect::Remove { path } => format!("remove {}", path.display()),
        Effect::Attach { .. } => "attach".into(),
        Effect::Detach { .. } => "detach".into(),
        Effect::Stop { failed } => format!("stop {failed}"),
        Effect::Log(notice) => format!("log {}", notice.text),
    }
}

fn describe_event(event: &Event) -> String {
    match event.r#type() {
        event::Type::Launch => format!(
            "LAUNCH {}",
            event.launch.as_ref().unwrap().task.task_id.value
        ),
        event::Type::LaunchGroup => {
            let tasks = &event.launch_group.as_ref().unwrap().task_group.tasks;
            format!(
                "LAUNCH_GROUP {}",
                tasks
                    .iter()
                    .map(|t| t.task_id.value.as_str())
                    .collect::<Vec<_>>()
                    .join(" ")
            )
        }
        event::Type::Kill => format!("KILL {}", event.kill.as_ref().unwrap().task_id.value),
        event::Type::Acknowledged => format!(
            "ACKNOWLEDGED {}",
            event.acknowledged.as_ref().unwrap().task_id.value
        ),
        other => other.as_str_name().into(),
    }
}

fn describe_message(message: &PeerMessage) -> String {
    match message {
        PeerMessage::StatusUpdate(m) => {
            let status = &m.update.status;
            let text = status.message.as_deref().unwrap_or_default();
            format!(
                "{} of {} ({text})",
                status.state().as_str_name(),
                status.task_id.value
            )
        }
        PeerMessage::ExitedExecutor(m) => {
            format!("ExitedExecutor {} {}", m.executor_id.value, m.status)
        }
        other => other.name().rsplit('.').next().unwrap().into(),
    }
}
