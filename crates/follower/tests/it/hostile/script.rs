//! Peers, executors and containers that do anything to a follower, as bytes tell them to.
//!
//! Every message that a process can get is reachable, with ids and addresses from a small vocabulary
//! (`words.rs`), so that they meet; and any bytes at all as the body of any message. After each step
//! the follower's invariants must hold. Shared by a property test and a fuzz target.

use super::words::{Script, pid};
use std::{path::PathBuf, sync::Arc, time::Duration};
use tepui_auth::{Credential, Secret};
use tepui_follower::{
    Config, Follower, Phase,
    config::FollowerAuthentication,
    io::{Checkpoint, Effect, Effects, Input, ProcessName},
};
use tepui_model::{
    RequestId, Rng, StreamId, Time,
    container::{ContainerEvent, ContainerId, ExitStatus, LaunchStep},
};
use tepui_protocol::{
    internal as i,
    peer::{PeerMessage, Pid},
    v1::{
        self, OperationState,
        executor::{Call, call},
    },
};

/// How often a script got somewhere.
#[derive(Debug, Default)]
pub(crate) struct Reached {
    pub(crate) registered: u32,
    pub(crate) authenticated: u32,
    pub(crate) drivers_greeted: u32,
    pub(crate) driver_updates: u32,
    pub(crate) operations_finished: u32,
    pub(crate) drained: u32,
}

impl Reached {
    /// Sums up.
    #[allow(dead_code, reason = "the fuzz target does not count")]
    pub(crate) fn add(&mut self, other: &Self) {
        self.registered += other.registered;
        self.authenticated += other.authenticated;
        self.drivers_greeted += other.drivers_greeted;
        self.driver_updates += other.driver_updates;
        self.operations_finished += other.operations_finished;
        self.drained += other.drained;
    }
}

/// Plays bytes to a follower.
pub(crate) fn run(bytes: &[u8]) -> Reached {
    let mut script = Script { bytes };
    let mut stage = Stage::new(script.byte());
    while !script.bytes.is_empty() {
        stage.act(&mut script);
    }
    stage.reached
}

/// A follower, and what its peers would remember of it.
struct Stage {
    follower: Follower,
    now: Time,
    requests: u64,
    rng: Rng,
    containers: Vec<ContainerId>,
    streams: Vec<StreamId>,
    removing: Vec<PathBuf>,
    /// What was sent and wants an answer, the newest last.
    asked: Vec<(Pid, PeerMessage)>,
    /// Executors that start, and may register.
    starting: Vec<(v1::FrameworkId, v1::ExecutorId)>,
    /// Number of the newest attempt to authenticate.
    attempt: u64,
    version: v1::Uuid,
    reached: Reached,
}

impl Stage {
    fn new(settings: u8) -> Self {
        let now = Time::from_nanos(1_700_000_000_000_000_000);
        let mut config = Config::new(
            "10.0.0.5:5051".parse().expect("an address"),
            "follower.test",
            "/w",
        );
        config.resources =
            tepui_follower::resources::startup("cpus:4;mem:64;disk:8", "*", Default::default())
                .expect("resources");
        config.max_completed_executors_per_framework = 2;
        let secret = || Secret::new(b"right".to_vec());
        if settings & 1 != 0 {
            let credential = Credential::new("follower", secret());
            config.authentication = Some(FollowerAuthentication::new(credential));
        }
        if settings & 2 != 0 {
            config.executor_secret_key = Some(Arc::new(secret()));
        }
        let recovered = (settings & 4 != 0).then(|| "S0".into());
        let follower = Follower::new(config, now, Rng::seed(7), recovered);
        let mut stage = Self {
            follower,
            now,
            requests: 0,
            rng: Rng::seed(8),
            containers: Vec::new(),
            streams: Vec::new(),
            removing: Vec::new(),
            asked: Vec::new(),
            starting: Vec::new(),
            attempt: 0,
            version: v1::Uuid::default(),
            reached: Reached::default(),
        };
        let leader = Some(pid("master@10.0.0.1:5050"));
        stage.handle(Input::LeaderDetected(leader));
        stage.pass(Duration::from_secs(1));
        stage
    }

    fn act(&mut self, script: &mut Script<'_>) {
        let input = match script.below(24) {
            0 => {
                let seconds = u64::from(script.byte());
                return self.pass(Duration::from_millis(seconds * seconds * 10));
            }
            1 => Input::LinkBroken { pid: script.pid() },
            2 => match script.below(8) {
                0 => Input::LeaderDetected(None),
                1 => Input::LeaderDetected(Some(script.pid())),
                2 => Input::DiskUsage(f64::from(script.byte()) / 200.0),
                3 if script.below(8) == 0 => Input::Shutdown {
                    reason: String::new(),
                },
                _ => match self.removing.pop() {
                    Some(path) => Input::Removed { path, error: None },
                    None => return,
                },
            },
            3 => match self.starting.pop() {
                Some((framework_id, executor_id)) => Input::Peer {
                    from: driver(script),
                    to: ProcessName::Follower,
                    message: i::RegisterExecutorMessage {
                        framework_id,
                        executor_id,
                    }
                    .into(),
                },
                None => return,
            },
            4..8 => match self.answer(script) {
                Some(input) => input,
                None => return,
            },
            8..10 => self.container_event(script),
            10..12 => self.executor_call(script),
            12 => match self.streams.pop() {
                Some(stream) => Input::StreamClosed { stream },
                None => return,
            },
            13 => Input::Peer {
                from: script.pid(),
                to: ProcessName::Authenticatee(self.attempt),
                message: script.authentication(),
            },
            _ => {
                let Some(message) = script.message(&self.version) else {
                    return;
                };
                let from = sender(script, &message);
                if matches!(message, PeerMessage::AuthenticationFailed(_)) && script.flip() {
                    return;
                }
                let to = match script.below(16) {
                    0 => ProcessName::Authenticatee(u64::from(script.below(3))),
                    _ => ProcessName::Follower,
                };
                Input::Peer { from, to, message }
            }
        };
        self.handle(input);
    }

    /// What is said to what was sent last, as a leader or a driver would.
    fn answer(&mut self, script: &mut Script<'_>) -> Option<Input> {
        let agent = || v1::AgentId { value: "S0".into() };
        let mut from = pid("master@10.0.0.1:5050");
        let mut to = ProcessName::Follower;
        let (asked, question) = self.asked.pop()?;
        let message: PeerMessage = match question {
            PeerMessage::RunTask(m) => {
                from = asked;
                let mut status = script.status();
                status.task_id = m.task.task_id;
                status.agent_id = Some(agent());
                i::StatusUpdateMessage {
                    update: i::StatusUpdate {
                        framework_id: m.framework.id?,
                        slave_id: Some(agent()),
                        uuid: status.uuid.clone(),
                        status,
                        ..Default::default()
                    },
                    pid: None,
                }
                .into()
            }
            PeerMessage::RegisterSlave(_) => i::SlaveRegisteredMessage {
                slave_id: agent(),
                connection: None,
            }
            .into(),
            PeerMessage::ReregisterSlave(_) => i::SlaveReregisteredMessage {
                slave_id: agent(),
                ..Default::default()
            }
            .into(),
            PeerMessage::StatusUpdate(m) => i::StatusUpdateAcknowledgementMessage {
                slave_id: agent(),
                framework_id: m.update.framework_id,
                task_id: m.update.status.task_id,
                uuid: m.update.uuid?,
            }
            .into(),
            PeerMessage::UpdateOperationStatus(m) => i::AcknowledgeOperationStatusMessage {
                status_uuid: m.status.uuid?,
                operation_uuid: m.operation_uuid?,
                resource_provider_id: None,
            }
            .into(),
            PeerMessage::Authenticate(_) => {
                from = pid("crammd5-authenticator-session(1)@10.0.0.1:5050");
                to = ProcessName::Authenticatee(self.attempt);
                i::AuthenticationMechanismsMessage {
                    mechanisms: vec!["CRAM-MD5".into()],
                }
                .into()
            }
            PeerMessage::AuthenticationStart(_) => {
                from = pid("crammd5-authenticator-session(1)@10.0.0.1:5050");
                to = ProcessName::Authenticatee(self.attempt);
                let data = vec![b'<', script.byte(), b'>'].into();
                i::AuthenticationStepMessage { data }.into()
            }
            PeerMessage::AuthenticationStep(_) => {
                from = pid("crammd5-authenticator-session(1)@10.0.0.1:5050");
                to = ProcessName::Authenticatee(self.attempt);
                i::AuthenticationCompletedMessage {}.into()
            }
            _ => return None,
        };
        Some(Input::Peer { from, to, message })
    }

    fn container_event(&mut self, script: &mut Script<'_>) -> Input {
        let container = script.container(&self.containers);
        let event = match script.below(6) {
            0 => ContainerEvent::LaunchFailed {
                step: LaunchStep::Start,
                message: String::new(),
            },
            1..3 => ContainerEvent::Exited {
                status: script.flip().then_some(ExitStatus::Code(0)),
            },
            _ => ContainerEvent::Launched {
                pid: script.byte().into(),
            },
        };
        if !matches!(event, ContainerEvent::Launched { .. }) {
            self.containers.retain(|other| *other != container);
        }
        Input::Container { container, event }
    }

    fn executor_call(&mut self, script: &mut Script<'_>) -> Input {
        let kind = match script.below(4) {
            0..2 => call::Type::Subscribe,
            2 => call::Type::Update,
            _ => call::Type::Message,
        };
        let call = Box::new(Call {
            executor_id: script.executor_id(),
            framework_id: script.framework_id(),
            r#type: Some(kind.into()),
            subscribe: script.flip().then(|| call::Subscribe {
                unacknowledged_tasks: vec![script.task()],
                unacknowledged_updates: vec![call::Update {
                    status: script.status(),
                }],
            }),
            update: Some(call::Update {
                status: script.status(),
            }),
            message: Some(call::Message::default()),
        });
        self.requests += 1;
        let request = RequestId(self.requests);
        match script.below(3) {
            0 => Input::LocalExecutorCall {
                container: script.container(&self.containers),
                call,
            },
            1 => {
                let stream = StreamId(self.rng.uuid());
                self.streams.push(stream);
                Input::ExecutorSubscribe {
                    request,
                    stream,
                    call,
                    principal: script.below(8).eq(&0).then(Default::default),
                }
            }
            _ => Input::ExecutorCall {
                request,
                call,
                principal: None,
            },
        }
    }

    fn pass(&mut self, duration: Duration) {
        let end = self.now + duration;
        // Retries double their waits: few deadlines lie within any time.
        for _ in 0..64 {
            match self.follower.next_deadline().filter(|at| *at <= end) {
                Some(deadline) => {
                    self.now = deadline.max(self.now);
                    self.handle(Input::Tick);
                }
                None => break,
            }
        }
        self.now = end.max(self.now);
    }

    fn handle(&mut self, input: Input) {
        let driver = match &input {
            Input::Peer {
                from,
                message: PeerMessage::StatusUpdate(_),
                ..
            } => Some(from.clone()),
            _ => None,
        };
        let before = self.follower.view().phase;
        let mut effects = Effects::default();
        self.follower.handle(self.now, input, &mut effects);
        self.follower.check();
        let running = self.follower.view().phase == Phase::Running;
        self.reached.registered += u32::from(running && before != Phase::Running);
        for effect in effects.drain() {
            self.note(effect, driver.as_ref());
        }
    }

    fn note(&mut self, effect: Effect, driver: Option<&Pid>) {
        match effect {
            Effect::Send { to, from, message } => {
                let name = message.name();
                let bytes = message.encode();
                let read = PeerMessage::decode(name, bytes.into());
                assert!(read.is_ok(), "{name} cannot be read: {read:?}");
                if let ProcessName::Authenticatee(number) = from {
                    self.attempt = number;
                }
                self.count(&message, driver == Some(&to));
                if let PeerMessage::UpdateSlave(m) = &message {
                    self.version = m.resource_version_uuid.clone().unwrap_or_default();
                } else {
                    self.asked.push((to, message));
                    if self.asked.len() > 8 {
                        self.asked.remove(0);
                    }
                }
            }
            Effect::Launch(spec) => {
                let variable = |wanted: &str| {
                    let found = spec.environment.iter().find(|(name, _)| name == wanted);
                    found.map(|(_, value)| value.clone()).unwrap_or_default()
                };
                let framework_id = v1::FrameworkId {
                    value: variable("MESOS_FRAMEWORK_ID"),
                };
                let executor_id = v1::ExecutorId {
                    value: variable("MESOS_EXECUTOR_ID"),
                };
                self.starting.push((framework_id, executor_id));
                self.containers.push(spec.container);
            }
            Effect::StartLocalExecutor(local) => self.containers.push(local.container),
            Effect::Remove { path } => self.removing.push(path),
            Effect::Persist(Checkpoint::Drain { config: None, .. }) => self.reached.drained += 1,
            Effect::Persist(Checkpoint::Resources(resources)) => {
                let inside = |path: &PathBuf| {
                    path.starts_with("/w/volumes/roles") && path.components().count() == 6
                };
                let gone = resources.gone.iter().map(|(path, _)| path);
                assert!(resources.made.iter().chain(gone).all(inside));
            }
            _ => {}
        }
    }

    fn count(&mut self, message: &PeerMessage, acknowledged: bool) {
        let r = &mut self.reached;
        match message {
            PeerMessage::ExecutorRegistered(_) | PeerMessage::ExecutorReregistered(_) => {
                r.drivers_greeted += 1;
            }
            PeerMessage::StatusUpdateAcknowledgement(_) if acknowledged => r.driver_updates += 1,
            PeerMessage::UpdateOperationStatus(m)
                if m.status.state() == OperationState::OperationFinished =>
            {
                r.operations_finished += 1;
            }
            PeerMessage::AuthenticationStep(_) => r.authenticated += 1,
            _ => {}
        }
    }
}

fn driver(script: &mut Script<'_>) -> Pid {
    pid(match script.flip() {
        true => "executor(1)@10.0.0.9:1",
        false => "executor(1)@10.0.0.9:2",
    })
}

/// Mostly who would say such a thing.
fn sender(script: &mut Script<'_>, message: &PeerMessage) -> Pid {
    if script.below(8) == 0 {
        return script.pid();
    }
    match message {
        PeerMessage::RegisterExecutor(_)
        | PeerMessage::ReregisterExecutor(_)
        | PeerMessage::StatusUpdate(_)
        | PeerMessage::ExecutorToFramework(_) => driver(script),
        _ => pid("master@10.0.0.1:5050"),
    }
}
