//! Peers that say anything to a leader, as bytes tell them to.
//!
//! Every message that a process can get is reachable, with ids and addresses from a small
//! vocabulary, so that they meet; and any bytes at all as the body of any message. After each step
//! the leader's invariants must hold. Shared by a property test and a fuzz target.

use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tepui_auth::{
    authenticator::Options,
    crammd5,
    credentials::{Credentials, Secret},
};
use tepui_leader::{
    Config, Effect, Effects, Input, Leader, LeaderFacts, ProcessName, RateLimits, config,
};
use tepui_model::{RequestId, Rng, StreamId, Time, resources};
use tepui_protocol::{
    internal as i,
    peer::{PeerMessage, Pid},
    v1::{self, offer, scheduler, scheduler::call},
};
use uuid::Uuid;

/// Plays bytes to a leader.
pub(crate) fn run(bytes: &[u8]) {
    let mut script = Script { bytes };
    let settings = script.byte();
    let mut stage = Stage::new(settings);
    if settings & (1 << 4) != 0 {
        stage.populate();
    }
    while !script.bytes.is_empty() {
        stage.act(&mut script);
    }
}

/// How many frameworks are connected and followers registered at the start.
#[allow(dead_code, reason = "only the property test asks")]
pub(crate) fn populated(settings: u8) -> (usize, usize) {
    let mut stage = Stage::new(settings);
    stage.populate();
    let view = stage.leader.view();
    let connected = view.frameworks.values().filter(|f| f.connected).count();
    (connected, view.followers.size())
}

/// A leader and what careful peers would remember of it.
struct Stage {
    leader: Leader,
    now: Time,
    requests: u64,
    /// Session, peer and challenge of exchanges that wait for a response.
    challenges: Vec<(u64, Pid, Vec<u8>)>,
    /// How the v1 schedulers that were let in are known.
    streams: Vec<StreamId>,
}

impl Stage {
    fn new(settings: u8) -> Self {
        let now = Time::from_nanos(1_700_000_000_000_000_000);
        let on = |bit: u8| settings & (1 << bit) != 0;
        let credentials = Credentials::parse("good right\nslow word").ok();
        let limits = r#"{"limits": [{"principal": "slow", "qps": 2, "capacity": 2}],
                         "aggregate_default_qps": 100, "aggregate_default_capacity": 50}"#;
        let config = Config {
            authentication: config::Authentication {
                frameworks: on(0),
                followers: on(1),
            },
            authenticator: Options {
                credentials: credentials.map(Arc::new),
                sessions_max: 4,
                ..Options::default()
            },
            rate_limits: on(2).then(|| RateLimits::parse(limits).ok()).flatten(),
            offer_timeout: on(3).then_some(Duration::from_secs(10)),
            max_completed_frameworks: 2,
            max_completed_tasks_per_framework: 2,
            max_unreachable_tasks_per_framework: 2,
            ..Config::default()
        };
        let facts = LeaderFacts {
            info: v1::MasterInfo {
                id: "lead".to_owned(),
                ..Default::default()
            },
            cluster: None,
            started: now,
            elected: now,
            flags: BTreeMap::new(),
        };
        let registry = i::Registry::default();
        Self {
            leader: Leader::new(config, facts, &registry, Rng::seed(7), now),
            now,
            requests: 0,
            challenges: Vec::new(),
            streams: Vec::new(),
        }
    }

    /// Two followers and two drivers, one without capabilities; who has to be, is authenticated.
    fn populate(&mut self) {
        // Choices of `Script::pid`: followers and drivers are authenticated, then register.
        let scripts: [&[u8]; 8] = [&[3], &[4], &[0], &[2], &[3], &[4], &[0], &[2]];
        for (number, bytes) in scripts.into_iter().enumerate() {
            let mut script = Script { bytes };
            let pid = script.pid();
            let message = match number {
                0..=3 => i::AuthenticateMessage {
                    pid: pid.to_string(),
                }
                .into(),
                4 | 5 => register_follower(),
                _ => register_framework(number == 6),
            };
            let client = Pid {
                name: "crammd5-authenticatee(1)".to_owned(),
                address: pid.address,
            };
            let (from, exchange) = match number {
                0..=3 => (client, true),
                _ => (pid, false),
            };
            self.say(from.clone(), ProcessName::Leader, message);
            if !exchange {
                continue;
            }
            let session = number as u64 + 1;
            let mechanism = "CRAM-MD5".to_owned();
            let start = i::AuthenticationStartMessage {
                mechanism,
                data: None,
            };
            self.say(from, ProcessName::Authenticator(session), start.into());
            if let Some(answer) = self.answer(0) {
                self.handle(answer);
            }
        }
    }

    fn say(&mut self, from: Pid, to: ProcessName, message: PeerMessage) {
        self.handle(Input::Peer { from, to, message });
    }

    fn act(&mut self, script: &mut Script<'_>) {
        let input = match script.below(16) {
            0 => self.pass(script.byte()),
            1 => Input::LinkBroken { pid: script.pid() },
            2 => match self.answer(script.byte()) {
                Some(input) => input,
                None => return,
            },
            3 => self.subscribe(script),
            4 => {
                let number = usize::from(script.byte());
                let stream = self.streams.get(number % self.streams.len().max(1));
                match stream {
                    Some(stream) => Input::StreamClosed { stream: *stream },
                    None => return,
                }
            }
            5 => {
                drop(self.leader.view());
                return;
            }
            _ => match script.message() {
                Some(message) => Input::Peer {
                    from: script.pid(),
                    to: script.process(&message),
                    message,
                },
                None => return,
            },
        };
        self.handle(input);
    }

    fn pass(&mut self, step: u8) -> Input {
        self.now = self.now + Duration::from_millis(u64::from(step).pow(3) / 20);
        Input::Tick
    }

    /// Someone who knows a secret answers a challenge.
    fn answer(&mut self, number: u8) -> Option<Input> {
        let (session, from, challenge) = self.challenges.pop()?;
        let (principal, secret) = match number % 3 {
            0 => ("good", "right"),
            1 => ("slow", "word"),
            _ => ("good", "wrong"),
        };
        let secret = Secret::new(secret.as_bytes().to_vec());
        let data = crammd5::response(principal, &secret, &challenge).into();
        Some(Input::Peer {
            from,
            to: ProcessName::Authenticator(session),
            message: i::AuthenticationStepMessage { data }.into(),
        })
    }

    fn subscribe(&mut self, script: &mut Script<'_>) -> Input {
        self.requests += 1;
        let stream = StreamId(Uuid::from_u128(self.requests.into()));
        let call = script.subscribe();
        Input::Subscribe {
            request: RequestId(self.requests),
            stream,
            call: Box::new(call),
            principal: None,
        }
    }

    fn handle(&mut self, input: Input) {
        let mut effects = Effects::default();
        self.leader.handle(self.now, input, &mut effects);
        self.leader.check();
        for _ in 0..20 {
            if self.leader.next_deadline().is_none_or(|at| at > self.now) {
                break;
            }
            self.leader.handle(self.now, Input::Tick, &mut effects);
            self.leader.check();
        }
        for effect in effects.0 {
            self.hear(effect);
        }
    }

    fn hear(&mut self, effect: Effect) {
        match effect {
            Effect::OpenStream { stream, .. } => self.streams.push(stream),
            Effect::Send {
                to,
                from: ProcessName::Authenticator(session),
                message: PeerMessage::AuthenticationStep(step),
            } => self.challenges.push((session, to, step.data.to_vec())),
            _ => {}
        }
    }
}

fn register_follower() -> PeerMessage {
    let all = resources::parse("cpus:8;mem:1024;ports:[31000-31010]", "*");
    i::RegisterSlaveMessage {
        slave: v1::AgentInfo {
            hostname: "h1".to_owned(),
            resources: all.map(|all| all.to_proto()).unwrap_or_default(),
            checkpoint: Some(true),
            ..Default::default()
        },
        version: Some("1.11.0".to_owned()),
        agent_capabilities: Script { bytes: &[10] }.agent_capabilities(),
        ..Default::default()
    }
    .into()
}

fn register_framework(multi_role: bool) -> PeerMessage {
    use v1::framework_info::{Capability, capability::Type};
    let mut framework = v1::FrameworkInfo {
        user: "nobody".to_owned(),
        name: "f".to_owned(),
        failover_timeout: Some(20.0),
        ..Default::default()
    };
    if multi_role {
        framework.roles = vec!["*".to_owned(), "r".to_owned()];
        framework.capabilities = vec![Capability {
            r#type: Some(Type::MultiRole.into()),
        }];
    }
    i::RegisterFrameworkMessage { framework }.into()
}

/// Bytes as choices. Behind their end every choice is the first.
struct Script<'a> {
    bytes: &'a [u8],
}

impl Script<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.bytes.split_first() else {
            return 0;
        };
        self.bytes = rest;
        *first
    }
    fn below(&mut self, end: u8) -> u8 {
        self.byte() % end
    }
    fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }
    fn one<'t>(&mut self, choices: &[&'t str]) -> &'t str {
        choices[usize::from(self.byte()) % choices.len()]
    }
    fn some<T>(&mut self, mut make: impl FnMut(&mut Self) -> T) -> Vec<T> {
        let count = self.below(3);
        (0..count).map(|_| make(self)).collect()
    }
    fn maybe<T>(&mut self, make: impl FnOnce(&mut Self) -> T) -> Option<T> {
        self.flag().then(|| make(self))
    }

    fn pid(&mut self) -> Pid {
        let name = self.one(&[
            "a@127.0.1.1:1",
            "b@127.0.1.1:1",
            "c@127.0.1.2:1",
            "slave(1)@127.0.0.1:5051",
            "slave(1)@127.0.0.2:5051",
            "slave(1)@127.0.0.1:5052",
            "crammd5-authenticatee(1)@127.0.1.1:1",
            "crammd5-authenticatee(1)@127.0.0.1:5051",
            "@127.0.0.1:5051",
        ]);
        name.parse().expect("a valid address")
    }

    /// Mostly the process that takes the message.
    fn process(&mut self, message: &PeerMessage) -> ProcessName {
        use PeerMessage as M;
        let number = u64::from(self.below(6)) + 1;
        match (number, message) {
            (6, _) => ProcessName::Observer(1),
            (_, M::AuthenticationStart(_) | M::AuthenticationStep(_)) => {
                ProcessName::Authenticator(number)
            }
            _ => ProcessName::Leader,
        }
    }

    fn framework_id(&mut self) -> v1::FrameworkId {
        let value = self.one(&[
            "lead-0000",
            "lead-0001",
            "lead-0002",
            "lead-0003",
            "own",
            "",
            "a/b",
        ]);
        v1::FrameworkId {
            value: value.to_owned(),
        }
    }
    fn agent_id(&mut self) -> v1::AgentId {
        let value = self.one(&["lead-S0", "lead-S1", "lead-S2", "old-S0", "", ".."]);
        v1::AgentId {
            value: value.to_owned(),
        }
    }
    fn task_id(&mut self) -> v1::TaskId {
        let value = self.one(&["t0", "t1", "t2", "", "a/b"]);
        v1::TaskId {
            value: value.to_owned(),
        }
    }
    fn executor_id(&mut self) -> v1::ExecutorId {
        let value = self.one(&["e0", "e1", "", "a/b"]);
        v1::ExecutorId {
            value: value.to_owned(),
        }
    }
    fn offer_id(&mut self) -> v1::OfferId {
        let value = format!("lead-O{}", self.below(12));
        v1::OfferId { value }
    }
    fn uuid_bytes(&mut self) -> bytes::Bytes {
        let length = if self.below(8) == 0 { 3 } else { 16 };
        vec![self.below(3); length].into()
    }

    fn resource(&mut self) -> v1::Resource {
        let text = self.one(&[
            "cpus:1",
            "mem:64",
            "cpus:0.001",
            "ports:[31000-31010]",
            "disk(r):10",
            "cpus:1000000",
        ]);
        let mut all = resources::parse(text, "*")
            .map(|r| r.to_proto())
            .unwrap_or_default();
        let mut resource = all.pop().unwrap_or_default();
        match self.below(16) {
            0 => resource.revocable = Some(v1::resource::RevocableInfo {}),
            1 => {
                let value = [f64::NAN, -1.0, 0.0, 1e300][usize::from(self.below(4))];
                resource.scalar = Some(v1::value::Scalar { value });
            }
            2 => resource.role = Some(self.one(&["r", "*", "", "a/b", "/"]).to_owned()),
            3..=5 => {
                let role = Some(self.one(&["*", "r", "s"]).to_owned());
                resource.allocation_info = Some(v1::resource::AllocationInfo { role });
            }
            6 => resource.r#type = i32::from(self.below(5)),
            12 => resource = self.disk(),
            13 | 14 => {
                resource.role = None;
                resource.reservations = self.some(Self::reservation);
            }
            _ => {}
        }
        resource
    }

    fn reservation(&mut self) -> v1::resource::ReservationInfo {
        v1::resource::ReservationInfo {
            role: Some(self.one(&["r", "r/s", "*"]).to_owned()),
            r#type: self.maybe(|script| i32::from(script.below(3))),
            principal: self.maybe(|script| script.one(&["good", "x"]).to_owned()),
            ..Default::default()
        }
    }

    /// A disk of some kind, perhaps a volume, perhaps of a provider.
    fn disk(&mut self) -> v1::Resource {
        use v1::resource::{DiskInfo, disk_info};
        let parsed = resources::parse(self.one(&["disk:10", "disk:5", "disk:100"]), "*");
        let mut all = parsed.map(|all| all.to_proto()).unwrap_or_default();
        let mut disk = all.pop().unwrap_or_default();
        disk.reservations = self.some(Self::reservation);
        disk.shared = self.maybe(|_| v1::resource::SharedInfo {});
        disk.provider_id = self.maybe(Self::provider_id);
        disk.disk = self.maybe(|script| {
            let volume = script.maybe(|script| v1::Volume {
                mode: i32::from(script.below(3)),
                container_path: "data".to_owned(),
                ..Default::default()
            });
            Box::new(DiskInfo {
                persistence: script.maybe(|script| disk_info::Persistence {
                    id: script.one(&["v", "w", "a/b"]).to_owned(),
                    principal: script.maybe(|_| "good".to_owned()),
                }),
                volume,
                source: script.maybe(|script| disk_info::Source {
                    r#type: i32::from(script.below(5)),
                    id: script.maybe(|_| "made".to_owned()),
                    profile: script.maybe(|_| "fast".to_owned()),
                    ..Default::default()
                }),
            })
        });
        disk
    }

    fn provider_id(&mut self) -> v1::ResourceProviderId {
        v1::ResourceProviderId {
            value: self.one(&["p", "q", ""]).to_owned(),
        }
    }

    fn executor(&mut self) -> v1::ExecutorInfo {
        v1::ExecutorInfo {
            executor_id: self.executor_id(),
            framework_id: self.maybe(Self::framework_id),
            command: self.maybe(|_| v1::CommandInfo::default()),
            resources: self.some(Self::resource),
            r#type: self.maybe(|script| i32::from(script.below(3))),
            ..Default::default()
        }
    }

    fn task(&mut self) -> v1::TaskInfo {
        v1::TaskInfo {
            name: "t".to_owned(),
            task_id: self.task_id(),
            agent_id: self.agent_id(),
            resources: self.some(Self::resource),
            command: self.maybe(|_| v1::CommandInfo::default()),
            executor: self.maybe(Self::executor),
            ..Default::default()
        }
    }

    fn framework(&mut self) -> v1::FrameworkInfo {
        let multi = self.flag();
        let capability = |number: i32| v1::framework_info::Capability {
            r#type: Some(number),
        };
        let mut capabilities: Vec<_> = self.some(|script| capability(i32::from(script.below(12))));
        if multi {
            use v1::framework_info::capability::Type;
            capabilities.push(capability(Type::MultiRole.into()));
        }
        v1::FrameworkInfo {
            user: self.one(&["nobody", "root", ""]).to_owned(),
            name: "f".to_owned(),
            id: self.maybe(Self::framework_id),
            roles: if multi {
                vec!["*".to_owned(), "r".to_owned()]
            } else {
                Vec::new()
            },
            principal: self.maybe(|script| script.one(&["good", "slow", "x"]).to_owned()),
            checkpoint: self.maybe(Self::flag),
            failover_timeout: self.maybe(|script| f64::from(script.byte()) - 5.0),
            capabilities,
            ..Default::default()
        }
    }

    fn subscribe(&mut self) -> scheduler::Call {
        let framework_info = self.framework();
        let mut call = scheduler::Call {
            framework_id: framework_info.id.clone(),
            subscribe: Some(call::Subscribe {
                framework_info,
                force: self.maybe(Self::flag),
                ..Default::default()
            }),
            ..Default::default()
        };
        call.set_type(call::Type::Subscribe);
        call
    }

    fn operation(&mut self) -> offer::Operation {
        let mut operation = offer::Operation {
            id: self.maybe(|_| v1::OperationId {
                value: "o".to_owned(),
            }),
            ..Default::default()
        };
        match self.below(5) {
            0 => {
                operation.set_type(offer::operation::Type::LaunchGroup);
                operation.launch_group = self.maybe(|script| offer::operation::LaunchGroup {
                    executor: script.executor(),
                    task_group: v1::TaskGroupInfo {
                        tasks: script.some(Self::task),
                    },
                });
            }
            1 | 2 => self.change(&mut operation),
            _ => {
                operation.set_type(offer::operation::Type::Launch);
                let task_infos = self.some(Self::task);
                operation.launch = Some(offer::operation::Launch { task_infos });
            }
        }
        operation
    }

    /// Of any type, mostly with what its type wants.
    fn change(&mut self, operation: &mut offer::Operation) {
        use offer::operation::*;
        operation.r#type = Some(i32::from(self.below(16)));
        operation.reserve = self.maybe(|script| Reserve {
            resources: script.some(Self::resource),
            source: script.some(Self::resource),
        });
        operation.unreserve = self.maybe(|script| Unreserve {
            resources: script.some(Self::resource),
        });
        let volumes = self.some(Self::disk);
        operation.destroy = self.maybe(|_| Destroy {
            volumes: volumes.clone(),
        });
        operation.create = self.maybe(|_| Create { volumes });
        operation.grow_volume = self.maybe(|script| GrowVolume {
            volume: script.disk(),
            addition: script.disk(),
        });
        operation.shrink_volume = self.maybe(|script| ShrinkVolume {
            volume: script.disk(),
            subtract: v1::value::Scalar {
                value: [f64::NAN, -1.0, 1.0, 1e300][usize::from(script.below(4))],
            },
        });
        operation.create_disk = self.maybe(|script| CreateDisk {
            source: script.disk(),
            target_type: i32::from(script.below(5)),
            target_profile: script.maybe(|_| "fast".to_owned()),
        });
        operation.destroy_disk = self.maybe(|script| DestroyDisk {
            source: script.disk(),
        });
    }

    fn known_operation(&mut self) -> v1::Operation {
        let mut info = offer::Operation::default();
        self.change(&mut info);
        v1::Operation {
            framework_id: self.maybe(Self::framework_id),
            agent_id: None,
            info,
            latest_status: self.operation_status(),
            statuses: self.some(Self::operation_status),
            uuid: v1::Uuid {
                value: self.uuid_bytes(),
            },
        }
    }

    fn operation_status(&mut self) -> v1::OperationStatus {
        v1::OperationStatus {
            state: i32::from(self.below(11)),
            converted_resources: self.some(Self::disk),
            uuid: self.maybe(|script| v1::Uuid {
                value: script.uuid_bytes(),
            }),
            ..Default::default()
        }
    }

    fn operations(&mut self) -> i::update_slave_message::Operations {
        i::update_slave_message::Operations {
            operations: self.some(Self::known_operation),
        }
    }

    fn provider(&mut self) -> i::update_slave_message::ResourceProvider {
        let id = self.provider_id();
        let mut total_resources = self.some(Self::disk);
        for disk in &mut total_resources {
            disk.provider_id = Some(id.clone());
        }
        i::update_slave_message::ResourceProvider {
            info: self.maybe(|_| v1::ResourceProviderInfo {
                id: Some(id),
                ..Default::default()
            }),
            total_resources,
            operations: self.operations(),
            resource_version_uuid: v1::Uuid {
                value: self.uuid_bytes(),
            },
        }
    }

    fn filters(&mut self) -> v1::Filters {
        v1::Filters {
            refuse_seconds: self.maybe(|script| f64::from(script.byte()) / 10.0 - 2.0),
        }
    }

    fn call(&mut self) -> scheduler::Call {
        if self.below(4) == 0 {
            return self.subscribe();
        }
        let mut call = scheduler::Call {
            framework_id: Some(self.framework_id()),
            ..Default::default()
        };
        match self.below(12) {
            0..=2 => {
                call.set_type(call::Type::Accept);
                call.accept = Some(call::Accept {
                    offer_ids: self.some(Self::offer_id),
                    operations: self.some(Self::operation),
                    filters: self.maybe(Self::filters),
                });
            }
            3 => {
                call.set_type(call::Type::Decline);
                call.decline = Some(call::Decline {
                    offer_ids: self.some(Self::offer_id),
                    filters: self.maybe(Self::filters),
                });
            }
            4 => {
                call.set_type(call::Type::Acknowledge);
                call.acknowledge = Some(call::Acknowledge {
                    agent_id: self.agent_id(),
                    task_id: self.task_id(),
                    uuid: self.uuid_bytes(),
                });
            }
            5 => {
                call.set_type(call::Type::UpdateFramework);
                let mut framework_info = self.framework();
                framework_info.id.clone_from(&call.framework_id);
                call.update_framework = Some(call::UpdateFramework {
                    framework_info,
                    ..Default::default()
                });
            }
            6 => {
                call.set_type(call::Type::Kill);
                call.kill = Some(call::Kill {
                    task_id: self.task_id(),
                    agent_id: self.maybe(Self::agent_id),
                    ..Default::default()
                });
            }
            _ => {
                call.r#type = Some(i32::from(self.below(20)));
                call.reconcile = Some(Default::default());
                call.request = Some(Default::default());
                call.acknowledge_operation_status = Some(call::AcknowledgeOperationStatus {
                    agent_id: self.maybe(Self::agent_id),
                    uuid: self.uuid_bytes(),
                    operation_id: v1::OperationId {
                        value: "o".to_owned(),
                    },
                    ..Default::default()
                });
                call.revive = self.maybe(|script| call::Revive {
                    roles: script.some(|script| script.one(&["*", "r", "/"]).to_owned()),
                });
                call.message = Some(call::Message {
                    agent_id: self.agent_id(),
                    executor_id: self.executor_id(),
                    data: Default::default(),
                });
            }
        }
        call
    }

    fn agent(&mut self) -> v1::AgentInfo {
        v1::AgentInfo {
            hostname: self.one(&["h1", "h2"]).to_owned(),
            id: self.maybe(Self::agent_id),
            resources: self.some(Self::resource),
            checkpoint: self.maybe(Self::flag),
            ..Default::default()
        }
    }

    fn agent_capabilities(&mut self) -> Vec<v1::agent_info::Capability> {
        let count = i32::from(self.below(11));
        let capability = |number| v1::agent_info::Capability {
            r#type: Some(number),
        };
        (0..count).map(capability).collect()
    }

    fn version(&mut self) -> Option<String> {
        self.maybe(|script| script.one(&["1.11.0", "1.0.0", "0.28.2", "x"]).to_owned())
            .or_else(|| Some("1.11.0".to_owned()))
    }

    fn known_task(&mut self, at: Option<&v1::AgentId>) -> v1::Task {
        v1::Task {
            name: "t".to_owned(),
            task_id: self.task_id(),
            framework_id: self.framework_id(),
            agent_id: at.cloned().unwrap_or_default(),
            executor_id: self.maybe(Self::executor_id),
            state: i32::from(self.below(15)),
            resources: self.some(Self::resource),
            ..Default::default()
        }
    }

    fn reregistration(&mut self) -> i::ReregisterSlaveMessage {
        let slave = self.agent();
        let at = slave.id.clone();
        i::ReregisterSlaveMessage {
            frameworks: self.some(Self::framework),
            executor_infos: self.some(Self::executor),
            tasks: self.some(|script| script.known_task(at.as_ref())),
            version: self.version(),
            agent_capabilities: self.agent_capabilities(),
            checkpointed_resources: self.some(Self::resource),
            slave,
            ..Default::default()
        }
    }

    fn status(&mut self) -> v1::TaskStatus {
        v1::TaskStatus {
            task_id: self.task_id(),
            state: i32::from(self.below(15)),
            agent_id: self.maybe(Self::agent_id),
            ..Default::default()
        }
    }

    fn message(&mut self) -> Option<PeerMessage> {
        Some(match self.below(14) {
            0 => i::RegisterSlaveMessage {
                slave: self.agent(),
                version: self.version(),
                agent_capabilities: self.agent_capabilities(),
                ..Default::default()
            }
            .into(),
            1 => self.reregistration().into(),
            2 => return self.follower_message(),
            3 => return self.follower_message(),
            4 => i::StatusUpdateMessage {
                update: i::StatusUpdate {
                    framework_id: self.framework_id(),
                    executor_id: self.maybe(Self::executor_id),
                    slave_id: self.maybe(Self::agent_id),
                    status: self.status(),
                    timestamp: 1.0,
                    uuid: self.maybe(Self::uuid_bytes),
                    latest_state: self.maybe(|script| i32::from(script.below(15))),
                },
                pid: None,
            }
            .into(),
            5..=7 => self.call().into(),
            8 => return self.old_message(),
            9 => i::RegisterFrameworkMessage {
                framework: self.framework(),
            }
            .into(),
            10 => i::ReregisterFrameworkMessage {
                framework: self.framework(),
                failover: self.flag(),
            }
            .into(),
            11 => {
                let pid = self.pid().to_string();
                i::AuthenticateMessage { pid }.into()
            }
            12 => i::AuthenticationStartMessage {
                mechanism: self.one(&["CRAM-MD5", "CRAM-MD5", "PLAIN", ""]).to_owned(),
                data: self.maybe(Self::uuid_bytes).filter(|data| data.len() == 3),
            }
            .into(),
            _ => return self.any(),
        })
    }

    fn follower_message(&mut self) -> Option<PeerMessage> {
        Some(match self.below(6) {
            0 => i::UnregisterSlaveMessage {
                slave_id: self.agent_id(),
            }
            .into(),
            1 => i::UpdateSlaveMessage {
                slave_id: self.agent_id(),
                update_oversubscribed_resources: self.maybe(Self::flag),
                oversubscribed_resources: self.some(Self::resource),
                operations: self.maybe(Self::operations),
                resource_version_uuid: self.maybe(|script| v1::Uuid {
                    value: script.uuid_bytes(),
                }),
                resource_providers: self.maybe(|script| {
                    i::update_slave_message::ResourceProviders {
                        providers: script.some(Self::provider),
                    }
                }),
            }
            .into(),
            2 => i::PongSlaveMessage {}.into(),
            3 => i::ExitedExecutorMessage {
                slave_id: self.agent_id(),
                framework_id: self.framework_id(),
                executor_id: self.executor_id(),
                status: 0,
            }
            .into(),
            4 => i::ExecutorToFrameworkMessage {
                slave_id: self.agent_id(),
                framework_id: self.framework_id(),
                executor_id: self.executor_id(),
                data: Default::default(),
            }
            .into(),
            _ => i::UpdateOperationStatusMessage {
                framework_id: self.maybe(Self::framework_id),
                slave_id: self.maybe(Self::agent_id),
                operation_uuid: self.maybe(|script| v1::Uuid {
                    value: script.uuid_bytes(),
                }),
                status: self.operation_status(),
                latest_status: self.maybe(Self::operation_status),
            }
            .into(),
        })
    }

    fn old_message(&mut self) -> Option<PeerMessage> {
        let framework_id = self.framework_id();
        Some(match self.below(9) {
            0 => i::UnregisterFrameworkMessage { framework_id }.into(),
            1 => i::DeactivateFrameworkMessage { framework_id }.into(),
            2 => i::LaunchTasksMessage {
                framework_id,
                tasks: self.some(Self::task),
                filters: self.filters(),
                offer_ids: self.some(Self::offer_id),
            }
            .into(),
            3 => i::ReviveOffersMessage {
                framework_id,
                roles: self.some(|script| script.one(&["*", "r"]).to_owned()),
            }
            .into(),
            4 => i::ResourceRequestMessage {
                framework_id,
                requests: Vec::new(),
            }
            .into(),
            5 => i::KillTaskMessage {
                framework_id,
                task_id: self.task_id(),
                kill_policy: None,
            }
            .into(),
            6 => i::StatusUpdateAcknowledgementMessage {
                slave_id: self.agent_id(),
                framework_id,
                task_id: self.task_id(),
                uuid: self.uuid_bytes(),
            }
            .into(),
            7 => i::ReconcileTasksMessage {
                framework_id,
                statuses: self.some(Self::status),
                framework: None,
            }
            .into(),
            _ => i::FrameworkToExecutorMessage {
                slave_id: self.agent_id(),
                framework_id,
                executor_id: self.executor_id(),
                data: Default::default(),
            }
            .into(),
        })
    }

    /// Any body under any name.
    fn any(&mut self) -> Option<PeerMessage> {
        let names = PeerMessage::NAMES;
        let name = names[usize::from(self.byte()) % names.len()];
        let length = usize::from(self.byte()).min(self.bytes.len());
        let (body, rest) = self.bytes.split_at(length);
        self.bytes = rest;
        PeerMessage::decode(name, body.to_vec().into()).ok()
    }
}
