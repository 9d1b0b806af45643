//! What a new leader spends on followers that come back, all at once and with their tasks.
//!
//! ```sh
//! cargo run --release -p tepui-leader --example failover -- [FOLLOWERS] [TASKS] [FRAMEWORKS] [MODE] [BATCH]
//! ```
//!
//! MODE `recovered` (default): frameworks subscribe after the followers are back; `subscribed`: before,
//! so that every follower is offered as it comes; `unreachable`: followers had been given up and are in
//! nobody's registry any more; `again`: they come back a second time to a leader that knows them.
//! Messages are decoded as in a node, the view is published after
//! each batch (256, as in a node that is busy; 1: as in one that is not). Times are those of
//! the processor.
//! What it prints is in `docs/benchmarks.md`.

#![expect(clippy::disallowed_methods, reason = "it measures a core, and is none")]

use bytes::Bytes;
use prost::Message;
use std::{collections::BTreeMap, time::Duration};
use tepui_leader::{Config, Effect, Effects, Input, Leader, LeaderFacts, ProcessName};
use tepui_model::{RequestId, Rng, StreamId, Time};
use tepui_protocol::{
    internal::{self, registry},
    peer::{PeerMessage, Pid},
    v1::{self, TaskState, scheduler},
};

const NAME: &str = "mesos.internal.ReregisterSlaveMessage";

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |place: usize, default: u64| {
        let given = arguments.get(place).map(|text| text.parse());
        given.map_or(default, |number| number.expect("a number"))
    };
    let cluster = Shape {
        followers: number(0, 20_000),
        tasks: number(1, 10),
        frameworks: number(2, 10).max(1),
        batch: number(4, 256).max(1),
    };
    match arguments.get(3).map_or("recovered", String::as_str) {
        "recovered" => cluster.run(Mode::Recovered),
        "subscribed" => cluster.run(Mode::Subscribed),
        "unreachable" => cluster.run(Mode::Unreachable),
        "again" => cluster.run(Mode::Again),
        other => panic!("no mode '{other}'"),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Recovered,
    Subscribed,
    Unreachable,
    Again,
}

#[derive(Clone, Copy)]
struct Shape {
    followers: u64,
    tasks: u64,
    frameworks: u64,
    batch: u64,
}

impl Shape {
    fn run(self, mode: Mode) {
        let registry = self.registry(mode);
        let before = resident_kib();
        let started = spent();
        let mut stage = Stage::new(&registry);
        let recovery = spent() - started;
        drop(registry);
        if matches!(mode, Mode::Subscribed | Mode::Unreachable) {
            self.subscribe(&mut stage);
        }
        if mode == Mode::Unreachable {
            self.reregister(&mut stage);
            stage.now = stage.now + Duration::from_secs(600);
            stage.tick_all();
        }
        if mode == Mode::Again {
            self.reregister(&mut stage);
        }
        let parts = self.reregister(&mut stage);
        let started = spent();
        if matches!(mode, Mode::Recovered | Mode::Again) {
            self.subscribe(&mut stage);
        }
        let subscribed = spent() - started;
        let grown = resident_kib().saturating_sub(before);
        let view = stage.leader.view();
        let tasks: usize = view.frameworks.values().map(|f| f.tasks.size()).sum();
        assert_eq!(view.followers.size() as u64, self.followers);
        assert_eq!(tasks as u64, self.followers * self.tasks);

        let total: Duration = parts.iter().sum();
        let each = |time: Duration, count: u64| time.as_secs_f64() * 1e6 / count as f64;
        let tenth = (self.followers / 10).max(1);
        println!(
            "{} followers, {} tasks each, {} frameworks",
            self.followers, self.tasks, self.frameworks
        );
        println!(
            "  registry read            {:>9.1} ms",
            recovery.as_secs_f64() * 1e3
        );
        println!(
            "  all followers back       {:>9.1} ms",
            total.as_secs_f64() * 1e3
        );
        println!(
            "  per follower             {:>9.1} us",
            each(total, self.followers)
        );
        let (first, last) = (parts.first(), parts.last());
        if let (Some(first), Some(last)) = (first, last) {
            println!("    first tenth            {:>9.1} us", each(*first, tenth));
            println!("    last tenth             {:>9.1} us", each(*last, tenth));
        }
        println!(
            "  frameworks subscribe     {:>9.1} ms",
            subscribed.as_secs_f64() * 1e3
        );
        println!("  offers                   {:>9}", stage.offers);
        println!(
            "  memory per follower      {:>9.1} KiB",
            grown as f64 / self.followers as f64
        );
        let tasks = (self.followers * self.tasks).max(1);
        println!(
            "  memory per task          {:>9.0} B",
            grown as f64 * 1024.0 / tasks as f64
        );
    }

    /// All come back; the time of each tenth of them.
    fn reregister(self, stage: &mut Stage) -> Vec<Duration> {
        let tenth = (self.followers / 10).max(1);
        let mut parts = Vec::new();
        let mut next = 0;
        while next < self.followers {
            let end = (next + tenth).min(self.followers);
            let mut part = Duration::ZERO;
            while next < end {
                let upto = (next + self.batch).min(end);
                let messages: Vec<(Pid, Bytes)> = (next..upto)
                    .map(|number| (pid(number), self.message(number)))
                    .collect();
                let started = spent();
                stage.batch(messages);
                part += spent() - started;
                next = upto;
            }
            parts.push(part);
        }
        parts
    }

    fn subscribe(self, stage: &mut Stage) {
        for number in 0..self.frameworks {
            let info = framework(number);
            let mut call = scheduler::Call {
                framework_id: info.id.clone(),
                ..Default::default()
            };
            call.set_type(scheduler::call::Type::Subscribe);
            call.subscribe = Some(scheduler::call::Subscribe {
                framework_info: info,
                ..Default::default()
            });
            stage.handle(Input::Subscribe {
                request: RequestId(number + 1),
                stream: StreamId(uuid::Uuid::from_u128(u128::from(number) + 1)),
                call: Box::new(call),
                principal: None,
            });
        }
        stage.settle();
    }

    fn registry(self, mode: Mode) -> internal::Registry {
        let slaves = match mode {
            Mode::Unreachable => Vec::new(),
            _ => (0..self.followers)
                .map(|number| registry::Slave {
                    info: agent(number),
                    ..Default::default()
                })
                .collect(),
        };
        internal::Registry {
            slaves: Some(registry::Slaves { slaves }),
            ..Default::default()
        }
    }

    fn message(self, follower: u64) -> Bytes {
        let tasks: Vec<v1::Task> = (0..self.tasks)
            .map(|number| self.task(follower, number))
            .collect();
        let mut used: Vec<u64> = (0..self.tasks)
            .map(|number| self.framework_of(follower, number))
            .collect();
        used.sort_unstable();
        used.dedup();
        let message = internal::ReregisterSlaveMessage {
            slave: agent(follower),
            version: Some("1.11.0".to_owned()),
            agent_capabilities: (1..=8)
                .map(|number| v1::agent_info::Capability {
                    r#type: Some(number),
                })
                .collect(),
            resource_version_uuid: Some(v1::Uuid {
                value: vec![9; 16].into(),
            }),
            frameworks: used.into_iter().map(framework).collect(),
            tasks,
            ..Default::default()
        };
        message.encode_to_vec().into()
    }

    fn framework_of(self, follower: u64, task: u64) -> u64 {
        (follower + task) % self.frameworks
    }

    /// As a follower reports one that runs: with the status it was last told of.
    fn task(self, follower: u64, number: u64) -> v1::Task {
        let task_id = v1::TaskId {
            value: format!("service-{follower}-{number}.0f0c7a9e-instance"),
        };
        let mut status = v1::TaskStatus {
            task_id: task_id.clone(),
            agent_id: Some(agent_id(follower)),
            timestamp: Some(1_700_000_000.0),
            uuid: Some(vec![number as u8; 16].into()),
            healthy: Some(true),
            container_status: Some(v1::ContainerStatus {
                container_id: Some(v1::ContainerId {
                    value: format!("6b5a1c1e-9d1e-4c57-8f4b-{follower:012}"),
                    parent: None,
                }),
                executor_pid: Some(4711),
                ..Default::default()
            }),
            ..Default::default()
        };
        status.set_state(TaskState::TaskRunning);
        status.set_source(v1::task_status::Source::Executor);
        let mut task = v1::Task {
            name: format!("service-{number}"),
            task_id,
            framework_id: framework_id(self.framework_of(follower, number)),
            agent_id: agent_id(follower),
            resources: allocated(&format!("cpus:0.1;mem:64;ports:[{0}-{0}]", 31_000 + number)),
            statuses: vec![status],
            status_update_uuid: Some(vec![number as u8; 16].into()),
            user: Some("nobody".to_owned()),
            ..Default::default()
        };
        task.set_state(TaskState::TaskRunning);
        task.set_status_update_state(TaskState::TaskRunning);
        task
    }
}

/// A leader, and what came out of it.
struct Stage {
    leader: Leader,
    now: Time,
    effects: Effects,
    offers: usize,
}

impl Stage {
    fn new(registry: &internal::Registry) -> Self {
        let now = Time::from_nanos(1_700_000_000_000_000_000);
        let facts = LeaderFacts {
            info: v1::MasterInfo {
                id: "lead".to_owned(),
                ip: 16_777_343,
                port: 5050,
                ..Default::default()
            },
            cluster: None,
            started: now,
            elected: now,
            flags: BTreeMap::new(),
        };
        let leader = Leader::new(Config::default(), facts, registry, Rng::seed(7), now);
        Self {
            leader,
            now,
            effects: Effects::default(),
            offers: 0,
        }
    }

    fn batch(&mut self, messages: Vec<(Pid, Bytes)>) {
        self.now = self.now + Duration::from_millis(1);
        for (from, body) in messages {
            let message = PeerMessage::decode(NAME, body).expect("a good message");
            self.handle(Input::Peer {
                from,
                to: ProcessName::Leader,
                message,
            });
        }
        self.settle();
    }

    fn handle(&mut self, input: Input) {
        self.leader.handle(self.now, input, &mut self.effects);
    }

    /// The tick for what is due at once, the view, the effects.
    fn settle(&mut self) {
        if self.leader.next_deadline().is_some_and(|at| at <= self.now) {
            self.handle(Input::Tick);
        }
        drop(self.leader.view());
        for effect in self.effects.drain() {
            if let Effect::Event { event, .. } = effect {
                self.offers += event.offers.iter().flat_map(|all| &all.offers).count();
            }
        }
    }

    fn tick_all(&mut self) {
        for _ in 0..100 {
            self.handle(Input::Tick);
            self.settle();
            self.now = self.now + Duration::from_secs(15);
        }
    }
}

fn framework_id(number: u64) -> v1::FrameworkId {
    v1::FrameworkId {
        value: format!("8f6d5c1e-0c1b-4d2b-9a58-3f0a5d1c7b11-{number:04}"),
    }
}

fn framework(number: u64) -> v1::FrameworkInfo {
    use v1::framework_info::capability::Type;
    let capabilities = [
        Type::MultiRole,
        Type::PartitionAware,
        Type::ReservationRefinement,
    ];
    v1::FrameworkInfo {
        id: Some(framework_id(number)),
        user: "nobody".to_owned(),
        name: format!("framework-{number}"),
        roles: vec![format!("role-{number}")],
        failover_timeout: Some(604_800.0),
        checkpoint: Some(true),
        capabilities: capabilities
            .map(|kind| v1::framework_info::Capability {
                r#type: Some(kind as i32),
            })
            .into(),
        ..Default::default()
    }
}

fn agent_id(number: u64) -> v1::AgentId {
    v1::AgentId {
        value: format!("8f6d5c1e-0c1b-4d2b-9a58-3f0a5d1c7b11-S{number}"),
    }
}

fn agent(number: u64) -> v1::AgentInfo {
    v1::AgentInfo {
        hostname: format!("follower-{number}.cluster.test"),
        port: Some(5051),
        resources: resources("cpus:16;mem:65536;disk:500000;ports:[31000-32000]"),
        id: Some(agent_id(number)),
        checkpoint: Some(true),
        ..Default::default()
    }
}

fn resources(text: &str) -> Vec<v1::Resource> {
    tepui_model::resources::parse(text, "*")
        .expect("valid resources")
        .to_proto()
}

fn allocated(text: &str) -> Vec<v1::Resource> {
    let mut all = resources(text);
    for resource in &mut all {
        resource.allocation_info = Some(v1::resource::AllocationInfo {
            role: Some("role-0".to_owned()),
        });
    }
    all
}

fn pid(number: u64) -> Pid {
    let text = format!(
        "slave(1)@10.{}.{}.{}:5051",
        number >> 16 & 255,
        number >> 8 & 255,
        number & 255
    );
    text.parse().expect("a valid address")
}

/// Time that this thread had a processor: what else runs on the machine does not count.
fn spent() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = text.split(' ').next().and_then(|text| text.parse().ok());
    Duration::from_nanos(nanos.unwrap_or_default())
}

/// What this process keeps in memory.
fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok())
        .unwrap_or_default()
}
