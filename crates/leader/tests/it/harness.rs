//! A leader in a test: fake peers, a clock set by hand, and effects that must all be accounted for.

use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tepui_leader::{
    Config, Effect, Effects, Input, Leader, LeaderFacts, Principal, ProcessName, RegistryChange,
    Reply, Via, View,
};
use tepui_model::{RequestId, Rng, StreamId, Time};
use tepui_protocol::{
    internal,
    peer::{PeerMessage, Pid},
    v1::{self, master, scheduler},
};

pub(crate) const LEADER_ID: &str = "lead";

/// A leader and everything that came out of it and was not asserted yet.
pub(crate) struct Cluster {
    pub(crate) leader: Leader,
    pub(crate) now: Time,
    pub(crate) pending: Vec<Effect>,
    next_request: u64,
    next_stream: u128,
}

impl Cluster {
    pub(crate) fn new() -> Self {
        Self::with(Config::default(), &internal::Registry::default())
    }

    pub(crate) fn with(config: Config, registry: &internal::Registry) -> Self {
        let now = Time::from_nanos(1_700_000_000_000_000_000);
        Self::led_by(LEADER_ID.to_owned(), config, registry, now)
    }

    /// Another leader, later.
    pub(crate) fn after(
        config: Config,
        registry: &internal::Registry,
        now: Time,
        number: u32,
    ) -> Self {
        let mut cluster = Self::led_by(format!("{LEADER_ID}{number}"), config, registry, now);
        // Requests and streams are never those of an earlier one.
        cluster.next_request = u64::from(number) << 32;
        cluster.next_stream = u128::from(number) << 64;
        cluster
    }

    fn led_by(id: String, config: Config, registry: &internal::Registry, now: Time) -> Self {
        let info = v1::MasterInfo {
            id,
            ip: 16_777_343,
            port: 5050,
            hostname: Some("leader.test".to_owned()),
            ..Default::default()
        };
        let facts = LeaderFacts {
            info: info.clone(),
            cluster: None,
            started: now,
            elected: now,
            flags: BTreeMap::new(),
        };
        let leader = Leader::new(config, facts, registry, Rng::seed(7), now);
        let mut cluster = Self {
            leader,
            now,
            pending: Vec::new(),
            next_request: 0,
            next_stream: 0,
        };
        cluster.handle(Input::Tick);
        assert!(
            matches!(cluster.next(), Effect::Persist(RegistryChange::Leader(own)) if *own == info),
            "the registry hears of the leader first"
        );
        cluster
    }

    /// Handles an input and, as a shell would, ticks for whatever is due at once.
    pub(crate) fn handle(&mut self, input: Input) {
        let mut effects = Effects::default();
        self.leader.handle(self.now, input, &mut effects);
        self.leader.check();
        self.keep(effects);
        self.settle();
    }

    fn settle(&mut self) {
        for _ in 0..100 {
            if self.leader.next_deadline().is_none_or(|at| at > self.now) {
                return;
            }
            let mut effects = Effects::default();
            self.leader.handle(self.now, Input::Tick, &mut effects);
            self.leader.check();
            self.keep(effects);
        }
        panic!("the leader is always due");
    }

    /// Logs, heartbeats and pings come at their own pace: tests that care look for them.
    fn keep(&mut self, effects: Effects) {
        self.pending
            .extend(effects.0.into_iter().filter(|effect| match effect {
                Effect::Log(_) => false,
                Effect::Event { event, .. } => event.r#type() != scheduler::event::Type::Heartbeat,
                Effect::Send { message, .. } => !matches!(message, PeerMessage::PingSlave(_)),
                Effect::OperatorEvent(event) => event.r#type() != master::event::Type::Heartbeat,
                _ => true,
            }));
    }

    /// Lets time pass, deadline by deadline.
    pub(crate) fn pass(&mut self, duration: Duration) {
        let end = self.now + duration;
        while let Some(at) = self.leader.next_deadline().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.handle(Input::Tick);
        }
        self.now = end;
    }

    pub(crate) fn next(&mut self) -> Effect {
        assert!(!self.pending.is_empty(), "expected one more effect");
        self.pending.remove(0)
    }

    pub(crate) fn nothing_left(&self) {
        assert!(self.pending.is_empty(), "left over: {:#?}", self.pending);
    }

    pub(crate) fn view(&mut self) -> Arc<View> {
        self.leader.view()
    }

    // Schedulers.

    pub(crate) fn request(&mut self) -> RequestId {
        self.next_request += 1;
        RequestId(self.next_request)
    }
    pub(crate) fn stream(&mut self) -> StreamId {
        self.next_stream += 1;
        StreamId(uuid::Uuid::from_u128(self.next_stream))
    }

    pub(crate) fn send_subscribe(&mut self, info: v1::FrameworkInfo) -> (RequestId, StreamId) {
        let (request, stream) = (self.request(), self.stream());
        let mut call = scheduler::Call {
            framework_id: info.id.clone(),
            ..Default::default()
        };
        call.set_type(scheduler::call::Type::Subscribe);
        call.subscribe = Some(scheduler::call::Subscribe {
            framework_info: info,
            ..Default::default()
        });
        self.handle(Input::Subscribe {
            request,
            stream,
            call: Box::new(call),
            principal: None,
        });
        (request, stream)
    }

    /// Subscribes; the framework's id as it was told.
    pub(crate) fn subscribe(&mut self, info: v1::FrameworkInfo) -> Scheduler {
        let (request, stream) = self.send_subscribe(info);
        match self.next() {
            Effect::OpenStream {
                request: answered,
                stream: opened,
            } => assert_eq!((answered, opened), (request, stream)),
            other => panic!("expected a stream, got {other:?}"),
        }
        let event = self.event(stream);
        assert_eq!(event.r#type(), scheduler::event::Type::Subscribed);
        let subscribed = event
            .subscribed
            .clone()
            .expect("a SUBSCRIBED event says who is subscribed");
        assert_eq!(subscribed.heartbeat_interval_seconds, Some(15.0));
        Scheduler {
            id: subscribed.framework_id,
            stream,
        }
    }

    pub(crate) fn call(&mut self, scheduler: &Scheduler, mut call: scheduler::Call) -> RequestId {
        let request = self.request();
        call.framework_id = Some(scheduler.id.clone());
        let stream_id = Some(scheduler.stream.to_string());
        self.handle(Input::Call {
            request,
            stream_id,
            call: Box::new(call),
            principal: None::<Principal>,
        });
        request
    }

    /// Makes a call that is answered with 202.
    pub(crate) fn accepted(&mut self, scheduler: &Scheduler, call: scheduler::Call) {
        let request = self.call(scheduler, call);
        match self.next() {
            Effect::Reply {
                request: answered,
                reply,
            } => assert_eq!((answered, reply), (request, Reply::Accepted)),
            other => panic!("expected 202, got {other:?}"),
        }
    }

    pub(crate) fn operator(&mut self, call: master::Call) -> Reply {
        let request = self.request();
        self.handle(Input::Operator {
            request,
            call: Box::new(call),
            via: Via::V1,
            principal: None,
        });
        let at = self
            .pending
            .iter()
            .position(|effect| matches!(effect, Effect::Reply { .. }));
        match self.pending.remove(at.expect("an operator is answered")) {
            Effect::Reply { reply, .. } => reply,
            _ => unreachable!("found by its kind"),
        }
    }

    /// The next effect is an event on this stream.
    pub(crate) fn event(&mut self, on: StreamId) -> Arc<scheduler::Event> {
        match self.next() {
            Effect::Event { stream, event } => {
                assert_eq!(stream, on, "{event:?}");
                event
            }
            other => panic!("expected an event, got {other:?}"),
        }
    }

    pub(crate) fn offers(&mut self, on: StreamId) -> Vec<v1::Offer> {
        let event = self.event(on);
        event
            .offers
            .clone()
            .unwrap_or_else(|| panic!("expected offers, got {event:?}"))
            .offers
    }

    pub(crate) fn offer(&mut self, on: StreamId) -> v1::Offer {
        let mut offers = self.offers(on);
        assert_eq!(offers.len(), 1);
        offers.remove(0)
    }

    pub(crate) fn update(&mut self, on: StreamId) -> v1::TaskStatus {
        let event = self.event(on);
        event
            .update
            .clone()
            .unwrap_or_else(|| panic!("expected an update, got {event:?}"))
            .status
    }

    // Followers.

    pub(crate) fn peer(&mut self, from: &Pid, message: impl Into<PeerMessage>) {
        self.handle(Input::Peer {
            to: tepui_leader::ProcessName::Leader,
            from: from.clone(),
            message: message.into(),
        });
    }

    /// The next effect is a message to this process.
    pub(crate) fn sent(&mut self, pid: &Pid) -> PeerMessage {
        match self.next() {
            Effect::Send {
                to,
                from: ProcessName::Leader,
                message,
            } => {
                assert_eq!(to, *pid);
                message
            }
            other => panic!("expected a message, got {other:?}"),
        }
    }

    /// Registers a follower; everything up to its registration is asserted.
    pub(crate) fn register(&mut self, number: u16, resources: &str) -> Agent {
        let pid = pid(number);
        self.peer(&pid, register_message(number, resources));
        match self.next() {
            Effect::Persist(RegistryChange::AdmitFollower(follower)) => {
                assert_eq!(follower.info.hostname, format!("host{number}"))
            }
            other => panic!("expected the admission first, got {other:?}"),
        }
        match self.sent(&pid) {
            PeerMessage::SlaveRegistered(message) => {
                let timeout = message
                    .connection
                    .and_then(|c| c.total_ping_timeout_seconds);
                assert_eq!(timeout, Some(75.0));
                Agent {
                    id: message.slave_id,
                    pid,
                }
            }
            other => panic!("expected SlaveRegistered, got {other:?}"),
        }
    }

    /// The same, whatever its answer says.
    pub(crate) fn register_quietly(&mut self, number: u16) -> Agent {
        let pid = pid(number);
        self.peer(&pid, register_message(number, "cpus:4;mem:4096"));
        let told = self.pending.drain(..).find_map(|effect| match effect {
            Effect::Send {
                message: PeerMessage::SlaveRegistered(message),
                ..
            } => Some(message.slave_id),
            _ => None,
        });
        let id = told.expect("a registered follower is told");
        Agent { id, pid }
    }

    /// A framework, a follower and an offer of all the follower has.
    pub(crate) fn offered(info: v1::FrameworkInfo) -> (Self, Scheduler, Agent, v1::Offer) {
        Self::offered_with(Config::default(), info)
    }

    fn offered_with(
        config: Config,
        info: v1::FrameworkInfo,
    ) -> (Self, Scheduler, Agent, v1::Offer) {
        let mut cluster = Self::with(config, &internal::Registry::default());
        let agent = cluster.register(1, "cpus:4;mem:4096;disk:1000;ports:[31000-32000]");
        let scheduler = cluster.subscribe(info);
        let offer = cluster.offer(scheduler.stream);
        cluster.nothing_left();
        (cluster, scheduler, agent, offer)
    }

    /// The same, with a task running.
    pub(crate) fn running(info: v1::FrameworkInfo) -> (Self, Scheduler, Agent) {
        Self::running_with(Config::default(), info)
    }

    pub(crate) fn running_with(
        config: Config,
        info: v1::FrameworkInfo,
    ) -> (Self, Scheduler, Agent) {
        let (mut cluster, scheduler, agent, offer) = Self::offered_with(config, info);
        cluster.accepted(
            &scheduler,
            launch(&offer, vec![task("t1", &offer, "cpus:1;mem:128")]),
        );
        let PeerMessage::RunTask(_) = cluster.sent(&agent.pid) else {
            panic!("expected RunTask")
        };
        cluster.nothing_left();
        cluster.peer(
            &agent.pid,
            status(&scheduler, &agent, "t1", v1::TaskState::TaskRunning, 1),
        );
        cluster.update(scheduler.stream);
        cluster.nothing_left();
        (cluster, scheduler, agent)
    }
}

/// A subscribed framework.
#[derive(Clone)]
pub(crate) struct Scheduler {
    pub(crate) id: v1::FrameworkId,
    pub(crate) stream: StreamId,
}

/// A registered follower.
#[derive(Clone)]
pub(crate) struct Agent {
    pub(crate) id: v1::AgentId,
    pub(crate) pid: Pid,
}

pub(crate) fn pid(number: u16) -> Pid {
    format!("slave(1)@127.0.0.{number}:5051")
        .parse()
        .expect("a valid address")
}

pub(crate) fn resources(text: &str) -> Vec<v1::Resource> {
    tepui_model::resources::parse(text, "*")
        .expect("valid resources")
        .to_proto()
}

pub(crate) fn capabilities() -> Vec<v1::agent_info::Capability> {
    (1..=8)
        .map(|number| v1::agent_info::Capability {
            r#type: Some(number),
        })
        .collect()
}

pub(crate) fn agent_info(number: u16, text: &str) -> v1::AgentInfo {
    v1::AgentInfo {
        hostname: format!("host{number}"),
        port: Some(5051),
        resources: resources(text),
        checkpoint: Some(true),
        ..Default::default()
    }
}

pub(crate) fn register_message(number: u16, text: &str) -> internal::RegisterSlaveMessage {
    internal::RegisterSlaveMessage {
        slave: agent_info(number, text),
        version: Some("1.11.0".to_owned()),
        agent_capabilities: capabilities(),
        resource_version_uuid: Some(v1::Uuid {
            value: vec![9; 16].into(),
        }),
        ..Default::default()
    }
}

/// A framework that knows everything.
pub(crate) fn framework() -> v1::FrameworkInfo {
    use v1::framework_info::capability::Type;
    let capability = |kind: Type| v1::framework_info::Capability {
        r#type: Some(kind as i32),
    };
    v1::FrameworkInfo {
        user: "nobody".to_owned(),
        name: "test".to_owned(),
        roles: vec!["*".to_owned()],
        failover_timeout: Some(60.0),
        checkpoint: Some(true),
        capabilities: vec![
            capability(Type::MultiRole),
            capability(Type::PartitionAware),
            capability(Type::ReservationRefinement),
        ],
        ..Default::default()
    }
}

/// A framework that knows nothing.
pub(crate) fn simple_framework() -> v1::FrameworkInfo {
    v1::FrameworkInfo {
        user: "nobody".to_owned(),
        name: "simple".to_owned(),
        ..Default::default()
    }
}

pub(crate) fn task(id: &str, offer: &v1::Offer, text: &str) -> v1::TaskInfo {
    v1::TaskInfo {
        name: id.to_owned(),
        task_id: v1::TaskId {
            value: id.to_owned(),
        },
        agent_id: offer.agent_id.clone(),
        resources: resources(text),
        command: Some(v1::CommandInfo {
            value: Some("true".to_owned()),
            ..Default::default()
        }),
        ..Default::default()
    }
}

pub(crate) fn call(kind: scheduler::call::Type) -> scheduler::Call {
    let mut call = scheduler::Call::default();
    call.set_type(kind);
    call
}

pub(crate) fn accept(
    offers: &[&v1::Offer],
    operations: Vec<v1::offer::Operation>,
) -> scheduler::Call {
    let mut call = call(scheduler::call::Type::Accept);
    call.accept = Some(scheduler::call::Accept {
        offer_ids: offers.iter().map(|offer| offer.id.clone()).collect(),
        operations,
        filters: None,
    });
    call
}

pub(crate) fn launch_operation(task_infos: Vec<v1::TaskInfo>) -> v1::offer::Operation {
    let mut operation = v1::offer::Operation::default();
    operation.set_type(v1::offer::operation::Type::Launch);
    operation.launch = Some(v1::offer::operation::Launch { task_infos });
    operation
}

pub(crate) fn launch(offer: &v1::Offer, tasks: Vec<v1::TaskInfo>) -> scheduler::Call {
    accept(&[offer], vec![launch_operation(tasks)])
}

pub(crate) fn uuid(number: u8) -> bytes::Bytes {
    vec![number; 16].into()
}

pub(crate) fn status(
    scheduler: &Scheduler,
    agent: &Agent,
    task: &str,
    state: v1::TaskState,
    number: u8,
) -> internal::StatusUpdateMessage {
    let mut status = v1::TaskStatus {
        task_id: v1::TaskId {
            value: task.to_owned(),
        },
        uuid: Some(uuid(number)),
        data: Some(vec![1, 2, 3].into()),
        ..Default::default()
    };
    status.set_state(state);
    status.set_source(v1::task_status::Source::Executor);
    let mut update = internal::StatusUpdate {
        framework_id: scheduler.id.clone(),
        executor_id: Some(v1::ExecutorId {
            value: task.to_owned(),
        }),
        slave_id: Some(agent.id.clone()),
        status,
        timestamp: 5.0,
        uuid: Some(uuid(number)),
        latest_state: None,
    };
    update.set_latest_state(state);
    internal::StatusUpdateMessage {
        update,
        pid: Some(agent.pid.to_string()),
    }
}

pub(crate) fn acknowledge(agent: &Agent, task: &str, number: u8) -> scheduler::Call {
    let mut call = call(scheduler::call::Type::Acknowledge);
    call.acknowledge = Some(scheduler::call::Acknowledge {
        agent_id: agent.id.clone(),
        task_id: v1::TaskId {
            value: task.to_owned(),
        },
        uuid: uuid(number),
    });
    call
}

pub(crate) fn cpus(offer: &v1::Offer) -> Option<f64> {
    let cpus = offer
        .resources
        .iter()
        .find(|resource| resource.name == "cpus")?;
    cpus.scalar.as_ref().map(|scalar| scalar.value)
}
