//! Drives one executor and sorts what comes out of it.

use std::time::Duration;
use tepui_executor::{
    Executor, RecoveredTask, Settings,
    io::{Effect, Effects, Input, Probe, ProbeId, ProbeOutcome},
};
use tepui_model::{
    ExecutorId, FrameworkId, Rng, Time,
    container::{ContainerEvent, ContainerId, ExitStatus, LaunchSpec, LaunchStep},
};
use tepui_protocol::v1::{
    self, TaskState,
    executor::{Call, Event, call, event},
    framework_info::{Capability, capability},
};

pub(crate) struct Harness {
    pub(crate) executor: Executor,
    pub(crate) now: Time,
    pub(crate) launches: Vec<LaunchSpec>,
    pub(crate) signals: Vec<(ContainerId, i32)>,
    pub(crate) destroys: Vec<ContainerId>,
    pub(crate) forgotten: Vec<ContainerId>,
    pub(crate) probes: Vec<(ProbeId, Probe, Duration)>,
    pub(crate) cancelled: Vec<ProbeId>,
    pub(crate) calls: Vec<Call>,
    pub(crate) statuses: Vec<v1::TaskStatus>,
    pub(crate) exit: Option<ExitStatus>,
}

fn settings() -> Settings {
    Settings {
        framework: FrameworkId::from("framework"),
        executor: ExecutorId::from("executor"),
        container: ContainerId::top("container"),
        sandbox: "/sandbox".into(),
        latest: Some("/latest".into()),
        user: Some("nobody".to_owned()),
        environment: vec![
            ("LIBPROCESS_IP".to_owned(), "127.0.0.1".to_owned()),
            ("MESOS_SANDBOX".to_owned(), "/sandbox".to_owned()),
        ],
        shutdown_grace_period: Duration::from_secs(5),
        outlives: true,
    }
}

impl Harness {
    pub(crate) fn command() -> Self {
        Self::new(Executor::command(settings(), Rng::seed(1)))
    }

    pub(crate) fn group() -> Self {
        Self::new(Executor::default_executor(settings(), Rng::seed(1)))
    }

    /// After a crash of the follower: another executor, which is told what there was. What happened
    /// to the outside world stays.
    pub(crate) fn crash(&mut self, group: bool, tasks: Vec<RecoveredTask>) {
        let rng = Rng::seed(self.launches.len() as u64 + 2);
        let mut executor = if group {
            Executor::default_executor(settings(), rng)
        } else {
            Executor::command(settings(), rng)
        };
        executor.recovered(tasks);
        self.executor = executor;
        self.probes.clear();
        self.input(Input::Connected);
    }

    /// An executor that is told that there was this.
    pub(crate) fn recovered(group: bool, tasks: Vec<RecoveredTask>) -> Self {
        let mut harness = if group {
            Self::group()
        } else {
            Self::command()
        };
        harness.crash(group, tasks);
        harness.subscribed()
    }

    fn new(executor: Executor) -> Self {
        let mut harness = Self {
            executor,
            now: Time::from_nanos(1_700_000_000_000_000_000),
            launches: Vec::new(),
            signals: Vec::new(),
            destroys: Vec::new(),
            forgotten: Vec::new(),
            probes: Vec::new(),
            cancelled: Vec::new(),
            calls: Vec::new(),
            statuses: Vec::new(),
            exit: None,
        };
        harness.input(Input::Connected);
        harness
    }

    /// A framework that sees TASK_KILLING.
    pub(crate) fn subscribed(mut self) -> Self {
        let killing = Capability {
            r#type: Some(capability::Type::TaskKillingState as i32),
        };
        let framework_info = v1::FrameworkInfo {
            capabilities: vec![killing],
            ..Default::default()
        };
        self.subscribe(framework_info);
        self
    }

    pub(crate) fn subscribe(&mut self, framework_info: v1::FrameworkInfo) {
        let agent_info = v1::AgentInfo {
            id: Some(v1::AgentId {
                value: "agent".to_owned(),
            }),
            ..Default::default()
        };
        self.event(Event {
            r#type: Some(event::Type::Subscribed as i32),
            subscribed: Some(event::Subscribed {
                framework_info,
                agent_info,
                ..Default::default()
            }),
            ..Default::default()
        });
    }

    pub(crate) fn input(&mut self, input: Input) {
        let mut effects = Effects::default();
        self.executor.handle(self.now, input, &mut effects);
        self.executor.check();
        for effect in effects.drain() {
            assert_eq!(self.exit, None, "nothing comes after the end");
            match effect {
                Effect::Call(call) => {
                    self.statuses
                        .extend(call.update.iter().map(|u| u.status.clone()));
                    self.calls.push(*call);
                }
                Effect::Launch(spec) => self.launches.push(*spec),
                Effect::Signal { container, signal } => self.signals.push((container, signal)),
                Effect::Destroy { container } => self.destroys.push(container),
                Effect::Forget { container } => self.forgotten.push(container),
                Effect::Probe { id, probe, timeout } => self.probes.push((id, probe, timeout)),
                Effect::CancelProbe { id } => self.cancelled.push(id),
                Effect::Exit(status) => self.exit = Some(status),
            }
        }
    }

    pub(crate) fn event(&mut self, event: Event) {
        self.input(Input::Event(Box::new(event)));
    }

    pub(crate) fn launch(&mut self, task: v1::TaskInfo) {
        self.event(Event {
            r#type: Some(event::Type::Launch as i32),
            launch: Some(event::Launch { task }),
            ..Default::default()
        });
    }

    pub(crate) fn launch_group(&mut self, tasks: Vec<v1::TaskInfo>) {
        let task_group = v1::TaskGroupInfo { tasks };
        self.event(Event {
            r#type: Some(event::Type::LaunchGroup as i32),
            launch_group: Some(event::LaunchGroup { task_group }),
            ..Default::default()
        });
    }

    pub(crate) fn kill(&mut self, task: &str, grace: Option<Duration>) {
        let task_id = v1::TaskId {
            value: task.to_owned(),
        };
        let kill_policy = grace.map(policy);
        self.event(Event {
            r#type: Some(event::Type::Kill as i32),
            kill: Some(event::Kill {
                task_id,
                kill_policy,
            }),
            ..Default::default()
        });
    }

    pub(crate) fn shutdown(&mut self) {
        self.event(Event {
            r#type: Some(event::Type::Shutdown as i32),
            ..Default::default()
        });
    }

    /// Acknowledges the `index`th status that was sent.
    pub(crate) fn acknowledge(&mut self, index: usize) {
        let status = &self.statuses[index];
        let acknowledged = event::Acknowledged {
            task_id: status.task_id.clone(),
            uuid: status.uuid.clone().unwrap(),
        };
        self.event(Event {
            r#type: Some(event::Type::Acknowledged as i32),
            acknowledged: Some(acknowledged),
            ..Default::default()
        });
    }

    pub(crate) fn acknowledge_all(&mut self) {
        for index in 0..self.statuses.len() {
            self.acknowledge(index);
        }
    }

    /// News of the `index`th container that was launched.
    pub(crate) fn container(&mut self, index: usize, event: ContainerEvent) {
        let container = self.launches[index].container.clone();
        self.input(Input::Container { container, event });
    }

    pub(crate) fn launched(&mut self, index: usize) {
        self.container(index, ContainerEvent::Launched { pid: 42 });
    }

    pub(crate) fn launch_failed(&mut self, index: usize, message: &str) {
        let event = ContainerEvent::LaunchFailed {
            step: LaunchStep::Fetch,
            message: message.to_owned(),
        };
        self.container(index, event);
    }

    pub(crate) fn exited(&mut self, index: usize, status: ExitStatus) {
        self.container(
            index,
            ContainerEvent::Exited {
                status: Some(status),
            },
        );
    }

    /// Goes to the next deadline.
    pub(crate) fn next(&mut self) -> Duration {
        let deadline = self.executor.next_deadline().expect("something is due");
        let waited = deadline.since(self.now);
        self.now = self.now.max(deadline);
        self.input(Input::Tick);
        waited
    }

    pub(crate) fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        self.input(Input::Tick);
    }

    /// Answers the latest probe.
    pub(crate) fn answer(&mut self, outcome: ProbeOutcome) {
        let (probe, _, _) = self.probes.last().expect("a probe is in flight").clone();
        self.input(Input::Probed { probe, outcome });
    }

    /// States sent so far, each with its task when there are several.
    pub(crate) fn states(&self) -> Vec<TaskState> {
        self.statuses.iter().map(v1::TaskStatus::state).collect()
    }

    pub(crate) fn states_of(&self, task: &str) -> Vec<TaskState> {
        self.statuses
            .iter()
            .filter(|s| s.task_id.value == task)
            .map(v1::TaskStatus::state)
            .collect()
    }

    pub(crate) fn last(&self) -> &v1::TaskStatus {
        self.statuses.last().expect("a status was sent")
    }

    pub(crate) fn subscribe_call(&self) -> &call::Subscribe {
        self.calls
            .iter()
            .rev()
            .find_map(|c| c.subscribe.as_ref())
            .expect("it has subscribed")
    }
}

pub(crate) fn policy(grace: Duration) -> v1::KillPolicy {
    let nanoseconds = i64::try_from(grace.as_nanos()).unwrap();
    v1::KillPolicy {
        grace_period: Some(v1::DurationInfo { nanoseconds }),
    }
}

pub(crate) fn task(id: &str) -> v1::TaskInfo {
    let role = v1::resource::AllocationInfo {
        role: Some("role".to_owned()),
    };
    v1::TaskInfo {
        name: id.to_owned(),
        task_id: v1::TaskId {
            value: id.to_owned(),
        },
        command: Some(command("sleep 1000")),
        resources: vec![v1::Resource {
            name: "cpus".to_owned(),
            allocation_info: Some(role),
            scalar: Some(v1::value::Scalar { value: 1.0 }),
            ..Default::default()
        }],
        ..Default::default()
    }
}

pub(crate) fn command(value: &str) -> v1::CommandInfo {
    v1::CommandInfo {
        value: Some(value.to_owned()),
        ..Default::default()
    }
}

pub(crate) fn variable(name: &str, value: &str) -> v1::environment::Variable {
    v1::environment::Variable {
        name: name.to_owned(),
        value: Some(value.to_owned()),
        ..Default::default()
    }
}

pub(crate) fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
