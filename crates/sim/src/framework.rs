//! A scheduler over the v1 API: it subscribes with whoever leads, launches what it wants to run,
//! acknowledges, reconciles, kills, starts what was lost again under a new name, and comes back after
//! its own crash. What it knows is durable the moment it knows it.

use crate::{
    candidate::{Candidate, Told},
    env::{BEGIN, Env, between},
    event::{Channel, Host, LinkKey, Parcel},
    processes::Script,
    zookeeper::Response,
};
use std::{collections::BTreeMap, time::Duration};
use tepui_model::{Rng, StreamId, Time, tasks::is_terminal};
use tepui_protocol::v1::{
    self, TaskState,
    scheduler::{self, call, event},
};

const SECOND: Duration = Duration::from_secs(1);

/// For how long a task may be unreachable until it is started again elsewhere.
const PATIENCE: Duration = Duration::from_secs(120);

/// How a framework behaves.
#[derive(Debug, Clone)]
pub(crate) struct Nature {
    pub(crate) partition_aware: bool,
    pub(crate) checkpoint: bool,
    pub(crate) tasks: u32,
}

pub(crate) struct Framework {
    host: Host,
    number: u8,
    rng: Rng,
    nature: Nature,
    /// Durable, as are the tasks.
    id: Option<v1::FrameworkId>,
    tasks: Vec<Task>,
    /// Which task an id stands for; earlier attempts too.
    index: BTreeMap<String, usize>,
    process: Option<Process>,
    /// How much of what it hears it does not acknowledge as it should.
    pub(crate) careless: f64,
}

/// What ends with the process.
struct Process {
    candidate: Candidate,
    told: Vec<Told>,
    leader: Option<Host>,
    connection: Connection,
    /// Of the connection that events come on.
    generation: u32,
    retry_at: Time,
    heard: Time,
    reconcile_at: Time,
    tick_at: Time,
    suppressed: bool,
    /// Offers that are thought about until then.
    held: Vec<(Time, v1::Offer)>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Connection {
    None,
    Asked,
    Open(StreamId),
    Subscribed(StreamId),
}

#[derive(Debug)]
struct Task {
    name: String,
    attempt: u32,
    state: State,
    cpus: f64,
    mem: f64,
    runs: Option<Duration>,
    code: i32,
    stubborn: Option<Duration>,
    kill_after: Option<Duration>,
    grouped: bool,
    agent: Option<v1::AgentId>,
    since: Time,
    killed_at: Option<Time>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    Pending,
    Launched,
    Known(TaskState),
    Done,
}

impl Task {
    fn id(&self) -> String {
        format!("{}-{}", self.name, self.attempt)
    }

    /// Once more, under another name.
    fn again(&mut self) {
        self.attempt += 1;
        self.state = State::Pending;
        self.agent = None;
    }

    fn is_out(&self) -> bool {
        matches!(self.state, State::Launched | State::Known(_))
    }
}

impl Framework {
    pub(crate) fn new(number: u8, nature: Nature, mut rng: Rng) -> Self {
        let tasks = (0..nature.tasks)
            .map(|n| task(number, n, &mut rng))
            .collect();
        Self {
            host: Host::Framework(number),
            number,
            rng,
            nature,
            id: None,
            tasks,
            index: BTreeMap::new(),
            process: None,
            careless: 0.0,
        }
    }

    pub(crate) fn start(&mut self, env: &mut Env) {
        let now = env.clock(self.host);
        self.process = Some(Process {
            candidate: Candidate::new(self.host),
            told: Vec::new(),
            leader: None,
            connection: Connection::None,
            generation: 0,
            retry_at: now,
            heard: now,
            reconcile_at: now,
            tick_at: now,
            suppressed: false,
            held: Vec::new(),
        });
    }

    pub(crate) fn crash(&mut self) {
        self.process = None;
    }

    pub(crate) fn deadline(&self) -> Option<Time> {
        let process = self.process.as_ref()?;
        let held = process.held.iter().map(|(at, _)| *at).min();
        [process.candidate.deadline(), Some(process.tick_at), held]
            .into_iter()
            .flatten()
            .min()
    }

    /// What keeps it from being done.
    pub(crate) fn missing(&self) -> Option<String> {
        let task = self.tasks.iter().find(|task| task.state != State::Done)?;
        let connection = self.process.as_ref().map(|process| process.connection);
        Some(format!(
            "{}: task {} is {:?} at {:?} ({connection:?})",
            self.host,
            task.id(),
            task.state,
            task.agent.as_ref().map(|agent| agent.value.as_str()),
        ))
    }

    pub(crate) fn hears(&mut self, env: &mut Env, response: Response) {
        if let Some(process) = &mut self.process {
            process.candidate.hears(env, response, &mut process.told);
        }
        self.follow(env);
    }

    pub(crate) fn broken(&mut self, env: &mut Env, link: LinkKey, generation: u32) {
        let Some(process) = &mut self.process else {
            return;
        };
        match link.channel {
            Channel::Session => process.candidate.broken(env, &mut process.told),
            _ => {
                let peer = if link.from == self.host {
                    link.to
                } else {
                    link.from
                };
                let late = link.channel == Channel::Events && generation < process.generation;
                if process.leader == Some(peer) && !late {
                    self.hang_up(env);
                }
            }
        }
        self.follow(env);
    }

    /// Where the leader is has changed.
    fn follow(&mut self, env: &mut Env) {
        let Some(process) = &mut self.process else {
            return;
        };
        if process.told.drain(..).count() == 0 {
            return;
        }
        let leader = process.candidate.leader();
        let leader = leader.and_then(|pid| Host::at(pid.address));
        if leader.is_some() && leader != process.leader {
            self.hang_up(env);
            if let Some(process) = &mut self.process {
                process.leader = leader;
                process.retry_at =
                    env.clock(self.host) + between(&mut self.rng, SECOND / 20, SECOND);
                process.tick_at = process.tick_at.min(process.retry_at);
            }
        }
    }

    fn hang_up(&mut self, env: &mut Env) {
        let Some(process) = &mut self.process else {
            return;
        };
        if process.connection == Connection::None {
            return;
        }
        process.connection = Connection::None;
        process.held.clear();
        process.suppressed = false;
        process.retry_at = env.clock(self.host) + between(&mut self.rng, SECOND / 10, SECOND * 2);
        if let Some(leader) = process.leader {
            env.hang_up(self.host, leader);
        }
    }

    pub(crate) fn wake(&mut self, env: &mut Env) {
        let now = env.clock(self.host);
        let Some(process) = &mut self.process else {
            return;
        };
        process.candidate.tick(env, &mut process.told);
        self.follow(env);
        self.use_offers(env, now);
        let Some(process) = &mut self.process else {
            return;
        };
        if process.tick_at > now {
            return;
        }
        process.tick_at = now + between(&mut self.rng, SECOND, SECOND * 2);
        match process.connection {
            Connection::None if process.retry_at <= now => self.subscribe(env, now),
            Connection::None => {}
            _ if now.since(process.heard) > SECOND * 40 => self.hang_up(env),
            Connection::Asked | Connection::Open(_) => {
                if now.since(process.heard) > SECOND * 10 {
                    self.hang_up(env);
                }
            }
            Connection::Subscribed(_) => self.look_after(env, now),
        }
    }

    fn subscribe(&mut self, env: &mut Env, now: Time) {
        let Some(process) = &mut self.process else {
            return;
        };
        let Some(leader) = process.leader else { return };
        process.connection = Connection::Asked;
        process.generation = env.network.generation(LinkKey {
            from: leader,
            to: self.host,
            channel: Channel::Events,
        });
        process.heard = now;
        let mut call = scheduler::Call {
            framework_id: self.id.clone(),
            ..Default::default()
        };
        call.set_type(call::Type::Subscribe);
        call.subscribe = Some(call::Subscribe {
            framework_info: self.info(),
            ..Default::default()
        });
        let link = LinkKey {
            from: self.host,
            to: leader,
            channel: Channel::Calls,
        };
        env.send(link, Parcel::Subscribe(Box::new(call)));
    }

    fn info(&self) -> v1::FrameworkInfo {
        use v1::framework_info::{Capability, capability::Type};
        let mut kinds = vec![Type::MultiRole, Type::ReservationRefinement];
        if self.nature.partition_aware {
            kinds.push(Type::PartitionAware);
        }
        v1::FrameworkInfo {
            id: self.id.clone(),
            user: "nobody".to_owned(),
            name: self.host.to_string(),
            roles: vec!["*".to_owned()],
            failover_timeout: Some(3600.0),
            checkpoint: Some(self.nature.checkpoint),
            capabilities: kinds
                .into_iter()
                .map(|kind| Capability {
                    r#type: Some(kind.into()),
                })
                .collect(),
            ..Default::default()
        }
    }

    fn call(&self, env: &mut Env, kind: call::Type, fill: impl FnOnce(&mut scheduler::Call)) {
        let Some(process) = &self.process else { return };
        let (Connection::Subscribed(stream), Some(leader)) = (process.connection, process.leader)
        else {
            return;
        };
        let mut call = scheduler::Call {
            framework_id: self.id.clone(),
            ..Default::default()
        };
        call.set_type(kind);
        fill(&mut call);
        let link = LinkKey {
            from: self.host,
            to: leader,
            channel: Channel::Calls,
        };
        let call = Box::new(call);
        env.send(link, Parcel::Call { stream, call });
    }

    pub(crate) fn arrives(&mut self, env: &mut Env, link: LinkKey, parcel: Parcel) {
        let now = env.clock(self.host);
        let Some(process) = &mut self.process else {
            return;
        };
        if process.leader != Some(link.from) {
            return;
        }
        process.heard = now;
        match parcel {
            Parcel::Opened(stream) if process.connection == Connection::Asked => {
                process.connection = Connection::Open(stream);
            }
            Parcel::Opened(_) => {}
            Parcel::Answer { status, text } => match status {
                200..300 => {}
                // It leads anew, and did not tell us that it had stopped.
                400 if text == "Framework cannot be found" => self.hang_up(env),
                400 => env
                    .checker
                    .fail(format!("{} made an invalid call: {text}", self.host)),
                _ => {
                    env.trace(|| format!("{}: {status} {text}", self.host));
                    self.hang_up(env);
                }
            },
            Parcel::Closed => self.hang_up(env),
            Parcel::Event { stream, event } => {
                let ours = matches!(process.connection,
                    Connection::Open(s) | Connection::Subscribed(s) if s == stream);
                if ours {
                    self.event(env, now, stream, &event);
                }
            }
            _ => {}
        }
    }

    fn event(&mut self, env: &mut Env, now: Time, stream: StreamId, event: &scheduler::Event) {
        match event.r#type() {
            event::Type::Subscribed => {
                let Some(subscribed) = &event.subscribed else {
                    return;
                };
                self.id = Some(subscribed.framework_id.clone());
                if let Some(process) = &mut self.process {
                    process.connection = Connection::Subscribed(stream);
                    process.reconcile_at = now + between(&mut self.rng, SECOND / 10, SECOND * 3);
                }
            }
            event::Type::Offers => {
                for offer in event.offers.iter().flat_map(|offers| &offers.offers) {
                    let think = between(&mut self.rng, Duration::ZERO, SECOND * 2);
                    let quick = self.rng.unit() < 0.7;
                    let at = if quick { now } else { now + think };
                    if let Some(process) = &mut self.process {
                        process.held.push((at, offer.clone()));
                    }
                }
                self.use_offers(env, now);
            }
            event::Type::Rescind => {
                let gone = event.rescind.as_ref().map(|r| r.offer_id.clone());
                if let Some(process) = &mut self.process {
                    process
                        .held
                        .retain(|(_, offer)| Some(&offer.id) != gone.as_ref());
                }
            }
            event::Type::Update => {
                if let Some(update) = &event.update {
                    self.update(env, now, &update.status);
                }
            }
            event::Type::Error => {
                let message = event.error.as_ref().map(|error| error.message.clone());
                let message = message.unwrap_or_default();
                // Another of its own has taken over: that was a connection before this one.
                if message != "Framework failed over" {
                    env.checker
                        .fail(format!("{} is told: {message}", self.host));
                }
                self.hang_up(env);
            }
            _ => {}
        }
    }

    fn use_offers(&mut self, env: &mut Env, now: Time) {
        let Some(process) = &mut self.process else {
            return;
        };
        if !matches!(process.connection, Connection::Subscribed(_)) {
            return;
        }
        let (due, later): (Vec<_>, Vec<_>) = process.held.drain(..).partition(|(at, _)| *at <= now);
        process.held = later;
        for (_, offer) in due {
            self.use_offer(env, now, &offer);
        }
    }

    fn use_offer(&mut self, env: &mut Env, now: Time, offer: &v1::Offer) {
        let amount = |name: &str| -> f64 {
            let all = offer.resources.iter().filter(|r| r.name == name);
            all.filter_map(|r| r.scalar.map(|s| s.value)).sum()
        };
        let (mut cpus, mut mem) = (amount("cpus"), amount("mem"));
        let disk = amount("disk");
        let most = 1 + self.rng.below(6);
        let mut chosen = Vec::new();
        for (at, task) in self.tasks.iter().enumerate() {
            let room = task.cpus + 0.1 <= cpus && task.mem + 32.0 <= mem;
            if task.state == State::Pending && room && (chosen.len() as u64) < most {
                cpus -= task.cpus + 0.1;
                mem -= task.mem + 32.0;
                chosen.push(at);
            }
        }
        if chosen.is_empty() {
            return self.call(env, call::Type::Decline, |call| {
                call.decline = Some(call::Decline {
                    offer_ids: vec![offer.id.clone()],
                    filters: Some(v1::Filters {
                        refuse_seconds: Some(5.0),
                    }),
                });
            });
        }
        let mut single = Vec::new();
        let mut group = Vec::new();
        for at in chosen {
            let info = self.launch_info(env, at, offer);
            self.index.insert(info.task_id.value.clone(), at);
            let task = &mut self.tasks[at];
            task.state = State::Launched;
            task.agent = Some(offer.agent_id.clone());
            task.since = now;
            task.killed_at = None;
            if task.grouped && task.attempt == 0 && disk >= 1.0 {
                group.push(info);
            } else {
                single.push(info);
            }
        }
        let mut operations = Vec::new();
        if !single.is_empty() {
            let mut operation = v1::offer::Operation::default();
            operation.set_type(v1::offer::operation::Type::Launch);
            operation.launch = Some(v1::offer::operation::Launch { task_infos: single });
            operations.push(operation);
        }
        if !group.is_empty() {
            let executor = self.group_executor(&group[0].task_id.value);
            let mut operation = v1::offer::Operation::default();
            operation.set_type(v1::offer::operation::Type::LaunchGroup);
            operation.launch_group = Some(v1::offer::operation::LaunchGroup {
                executor,
                task_group: v1::TaskGroupInfo { tasks: group },
            });
            operations.push(operation);
        }
        self.call(env, call::Type::Accept, |call| {
            call.accept = Some(call::Accept {
                offer_ids: vec![offer.id.clone()],
                operations,
                filters: Some(v1::Filters {
                    refuse_seconds: Some(1.0),
                }),
            });
        });
    }

    fn group_executor(&self, name: &str) -> v1::ExecutorInfo {
        let mut info = v1::ExecutorInfo {
            executor_id: v1::ExecutorId {
                value: format!("group-of-{name}"),
            },
            framework_id: self.id.clone(),
            resources: with_disk(resources(0.1, 32.0)),
            ..Default::default()
        };
        info.set_type(v1::executor_info::Type::Default);
        info
    }

    fn launch_info(&self, env: &mut Env, at: usize, offer: &v1::Offer) -> v1::TaskInfo {
        let task = &self.tasks[at];
        let id = task.id();
        env.checker.wants(
            &id,
            self.number,
            self.nature.checkpoint,
            (task.cpus, task.mem),
        );
        let script = Script {
            task: (self.number, id.clone()),
            runs: task.runs,
            code: task.code,
            stubborn: task.stubborn,
        };
        v1::TaskInfo {
            name: task.name.clone(),
            task_id: v1::TaskId { value: id },
            agent_id: offer.agent_id.clone(),
            resources: resources(task.cpus, task.mem),
            command: Some(v1::CommandInfo {
                value: Some(script.text()),
                shell: Some(true),
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    fn update(&mut self, env: &mut Env, now: Time, status: &v1::TaskStatus) {
        let state = status.state();
        env.trace(|| {
            let from = status.source().as_str_name();
            let why = status.message.as_deref().unwrap_or_default();
            let id = &status.task_id.value;
            format!(
                "{}: {id} is {} ({from}: {why})",
                self.host,
                state.as_str_name()
            )
        });
        env.checker.hears(status);
        if let (Some(uuid), Some(agent)) = (&status.uuid, &status.agent_id) {
            self.acknowledge(env, agent, &status.task_id, uuid);
        }
        let Some(at) = self.index.get(&status.task_id.value).copied() else {
            return;
        };
        let task = &mut self.tasks[at];
        if task.id() != status.task_id.value || !task.is_out() {
            // It was held for lost, and is not wanted any more.
            if !is_terminal(state) && state != TaskState::TaskUnreachable {
                self.kill(env, &status.task_id.value, status.agent_id.clone());
            }
            return;
        }
        use TaskState as S;
        match state {
            S::TaskStaging | S::TaskStarting | S::TaskRunning | S::TaskKilling => {
                if task.state != State::Known(state) {
                    task.since = now;
                }
                task.state = State::Known(state);
            }
            S::TaskUnreachable => {
                if task.state != State::Known(state) {
                    task.since = now;
                }
                task.state = State::Known(state);
            }
            S::TaskFinished => task.state = State::Done,
            S::TaskKilled if task.killed_at.is_some() => task.state = State::Done,
            S::TaskFailed if task.code != 0 => task.state = State::Done,
            S::TaskError => env.checker.fail(format!(
                "{} is invalid: {}",
                status.task_id.value,
                status.message()
            )),
            // It did not do what it was for: once more.
            _ => task.again(),
        }
    }

    /// A careless one says nothing, or names another update.
    fn acknowledge(
        &mut self,
        env: &mut Env,
        agent: &v1::AgentId,
        task: &v1::TaskId,
        uuid: &bytes::Bytes,
    ) {
        let mut uuid = uuid.clone();
        if self.careless > 0.0 && self.rng.unit() < self.careless {
            if self.rng.below(2) == 0 {
                return;
            }
            uuid = bytes::Bytes::copy_from_slice(self.rng.uuid().as_bytes());
        }
        env.checker.acknowledges(&task.value, &uuid);
        let acknowledge = call::Acknowledge {
            agent_id: agent.clone(),
            task_id: task.clone(),
            uuid,
        };
        self.call(env, call::Type::Acknowledge, |call| {
            call.acknowledge = Some(acknowledge);
        });
    }

    /// Kills what is to end, asks after what was not heard of, and says whether it wants offers.
    fn look_after(&mut self, env: &mut Env, now: Time) {
        let mut kills = Vec::new();
        for task in &mut self.tasks {
            // Its machine may be back under another name, and say nothing of it ever again.
            let missed = task.state == State::Known(TaskState::TaskUnreachable);
            if missed && now.since(task.since) > PATIENCE {
                task.again();
                continue;
            }
            let running = task.state == State::Known(TaskState::TaskRunning);
            let due = task
                .kill_after
                .is_some_and(|wait| now.since(task.since) >= wait);
            let again = task
                .killed_at
                .is_some_and(|at| task.is_out() && now.since(at) > SECOND * 10);
            if (running && due && task.killed_at.is_none()) || again {
                task.killed_at = Some(now);
                kills.push((task.id(), task.agent.clone()));
            }
        }
        for (id, agent) in kills {
            self.kill(env, &id, agent);
        }
        self.reconcile(env, now);
        let wants = self.tasks.iter().any(|task| task.state == State::Pending);
        let Some(process) = &mut self.process else {
            return;
        };
        if wants == process.suppressed {
            process.suppressed = !wants;
            let kind = if wants {
                call::Type::Revive
            } else {
                call::Type::Suppress
            };
            self.call(env, kind, |_| {});
        }
    }

    fn kill(&self, env: &mut Env, id: &str, agent: Option<v1::AgentId>) {
        env.checker.kills(id);
        let task_id = v1::TaskId {
            value: id.to_owned(),
        };
        self.call(env, call::Type::Kill, |call| {
            call.kill = Some(call::Kill {
                task_id,
                agent_id: agent,
                kill_policy: None,
            });
        });
    }

    fn reconcile(&mut self, env: &mut Env, now: Time) {
        let explicit = self.rng.unit() < 0.6;
        let wait = between(&mut self.rng, SECOND * 15, SECOND * 25);
        let Some(process) = &mut self.process else {
            return;
        };
        if process.reconcile_at > now {
            return;
        }
        process.reconcile_at = now + wait;
        let mut tasks = Vec::new();
        for task in self.tasks.iter().filter(|task| task.is_out()) {
            tasks.push(call::reconcile::Task {
                task_id: v1::TaskId { value: task.id() },
                agent_id: task.agent.clone(),
            });
        }
        // Without names: of all that the leader knows. Something may run that is not wanted.
        if !explicit {
            tasks.clear();
        }
        self.call(env, call::Type::Reconcile, |call| {
            call.reconcile = Some(call::Reconcile { tasks });
        });
    }
}

fn task(framework: u8, number: u32, rng: &mut Rng) -> Task {
    let millis = |rng: &mut Rng, least: u64, most: u64| {
        Duration::from_millis(least + rng.below(most - least))
    };
    let service = rng.unit() < 0.3;
    let quick = rng.unit() < 0.3;
    Task {
        name: format!("f{framework}t{number}"),
        attempt: 0,
        state: State::Pending,
        cpus: [0.1, 0.5, 1.0, 2.0][rng.below(4) as usize],
        mem: [32.0, 128.0, 512.0][rng.below(3) as usize],
        runs: match (service, quick) {
            (true, _) => None,
            (_, true) => Some(millis(rng, 1, 2000)),
            _ => Some(millis(rng, 1000, 60_000)),
        },
        code: i32::from(rng.unit() < 0.2),
        stubborn: (rng.unit() < 0.2).then(|| millis(rng, 100, 8000)),
        kill_after: (service || rng.unit() < 0.1).then(|| millis(rng, 1, 90_000)),
        grouped: rng.unit() < 0.2,
        agent: None,
        since: BEGIN,
        killed_at: None,
    }
}

fn resources(cpus: f64, mem: f64) -> Vec<v1::Resource> {
    [("cpus", cpus), ("mem", mem)]
        .map(|(name, value)| v1::Resource {
            name: name.to_owned(),
            r#type: v1::value::Type::Scalar.into(),
            scalar: Some(v1::value::Scalar { value }),
            ..Default::default()
        })
        .to_vec()
}

/// The leader wants executors of groups to say how much disk they use.
fn with_disk(mut all: Vec<v1::Resource>) -> Vec<v1::Resource> {
    all.push(v1::Resource {
        name: "disk".to_owned(),
        r#type: v1::value::Type::Scalar.into(),
        scalar: Some(v1::value::Scalar { value: 1.0 }),
        ..Default::default()
    });
    all
}
