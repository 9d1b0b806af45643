//! A leader's process: what `node/src/leader` does around the core, without sockets and threads. It
//! stands by, is elected, reads the registry, leads for a term, and begins again when it is deposed.

use crate::{
    candidate::{Candidate, Told},
    env::Env,
    event::{Channel, Host, LinkKey, Parcel},
    zookeeper::{Ask, Response, Said},
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tepui_coordination::{Failure, Standing, Tenure};
use tepui_journal::{Outbox, PersistEffect, registry::assemble};
use tepui_leader::{
    Config, Effect, Effects, Input, Leader, LeaderFacts, ProcessName, RegistryChange, Reply, Via,
    View,
};
use tepui_model::{RequestId, Rng, StreamId, Time};
use tepui_protocol::{
    peer::Pid,
    v1::{self, master_info::Capability, master_info::capability::Type},
};

/// Settings of every leader.
pub(crate) fn config() -> Config {
    Config {
        ping_timeout: Duration::from_secs(5),
        max_ping_timeouts: 4,
        reregister_timeout: Duration::from_secs(40),
        ..Config::default()
    }
}

/// Between two candidacies.
const AGAIN_INTERVAL: Duration = Duration::from_millis(200);
/// How long a leader waits for its lease to come back before it steps down.
const PATIENCE: Duration = Duration::from_secs(20);

/// An effect on its way through the outbox.
#[derive(Debug)]
struct Step(Effect);

impl PersistEffect for Step {
    type Record = RegistryChange;

    fn into_record(self) -> Result<RegistryChange, Self> {
        match self.0 {
            Effect::Persist(change) => Ok(change),
            other => Err(Self(other)),
        }
    }
}

pub(crate) struct LeaderNode {
    host: Host,
    rng: Rng,
    candidate: Candidate,
    info: v1::MasterInfo,
    term: Option<Term>,
    /// When to contend again.
    again: Option<Time>,
    told: Vec<Told>,
}

/// What exists only while it leads.
struct Term {
    tenure: Tenure,
    reading: Option<u64>,
    /// Once the registry is read.
    seat: Option<Box<Seat>>,
}

struct Seat {
    core: Leader,
    effects: Effects,
    outbox: Outbox<Step>,
    version: u64,
    /// How many writes there were.
    writes: u64,
    /// The write on its way, and what it writes.
    writing: Option<(Option<u64>, Vec<tepui_journal::registry::Step>)>,
    /// From whom, and on which connection.
    requests: BTreeMap<RequestId, (Host, u32)>,
    next_request: u64,
    /// To whom, and on which connection.
    streams: BTreeMap<StreamId, (Host, u32)>,
    /// Held back since then.
    held: Option<Time>,
    waiting: Vec<Input>,
}

impl LeaderNode {
    /// A process that has just started.
    pub(crate) fn new(host: Host, mut rng: Rng, env: &mut Env) -> Self {
        let info = master_info(host, &mut rng);
        let mut node = Self {
            host,
            candidate: Candidate::new(host),
            rng,
            info: info.clone(),
            term: None,
            again: None,
            told: Vec::new(),
        };
        node.candidate.contend(env, &info, &mut node.told);
        node.settle(env);
        node
    }

    /// The view, if it leads.
    pub(crate) fn view(&mut self) -> Option<Arc<View>> {
        let seat = self.term.as_mut()?.seat.as_mut()?;
        Some(seat.core.view())
    }

    pub(crate) fn deadline(&self) -> Option<Time> {
        let seat = self.term.as_ref().and_then(|term| term.seat.as_ref());
        let core = seat.filter(|seat| seat.held.is_none());
        let core = core.and_then(|seat| seat.core.next_deadline());
        let held = seat
            .and_then(|seat| seat.held)
            .map(|since| since + PATIENCE);
        [self.candidate.deadline(), core, held, self.again]
            .into_iter()
            .flatten()
            .min()
    }

    pub(crate) fn wake(&mut self, env: &mut Env) {
        self.candidate.tick(env, &mut self.told);
        self.settle(env);
        let now = env.clock(self.host);
        if let Some(seat) = self.seat()
            && seat.held.is_some_and(|since| now.since(since) >= PATIENCE)
        {
            self.depose(env, "its lease does not come back");
        }
        if self.again.is_some_and(|at| at <= now) {
            self.again = None;
            // A new id for a new term.
            self.info = master_info(self.host, &mut self.rng);
            self.candidate.contend(env, &self.info, &mut self.told);
            self.settle(env);
        }
    }

    pub(crate) fn hears(&mut self, env: &mut Env, response: Response) {
        self.candidate.hears(env, response, &mut self.told);
        self.settle(env);
    }

    /// A connection of ours is gone.
    pub(crate) fn broken(
        &mut self,
        env: &mut Env,
        link: LinkKey,
        generation: u32,
        names: Vec<String>,
    ) {
        match link.channel {
            Channel::Session => self.candidate.broken(env, &mut self.told),
            Channel::Messages => {
                for name in names {
                    let pid = Pid {
                        name,
                        address: link.to.address(),
                    };
                    self.take(Input::LinkBroken { pid });
                }
            }
            Channel::Events => {
                let to = link.to;
                let Some(seat) = self.seat() else { return };
                let all = seat.streams.iter();
                let all = all.filter(|(_, (host, opened))| *host == to && *opened <= generation);
                let gone: Vec<StreamId> = all.map(|(stream, _)| *stream).collect();
                for stream in gone {
                    seat.streams.remove(&stream);
                    seat.waiting.push(Input::StreamClosed { stream });
                }
            }
            Channel::Calls => {}
        }
        self.settle(env);
    }

    /// Something came.
    pub(crate) fn arrives(&mut self, env: &mut Env, link: LinkKey, parcel: Parcel) {
        match parcel {
            Parcel::Peer { from, to, message } => {
                if let Some(to) = ProcessName::parse(&to) {
                    self.take(Input::Peer { from, to, message });
                }
            }
            Parcel::Subscribe(call) => {
                let stream = StreamId(self.rng.uuid());
                match self.request(env, link) {
                    Some(request) => self.take(Input::Subscribe {
                        request,
                        stream,
                        call,
                        principal: None,
                    }),
                    None => self.turn_away(env, link.from),
                }
            }
            Parcel::Call { stream, call } => match self.request(env, link) {
                Some(request) => self.take(Input::Call {
                    request,
                    stream_id: Some(stream.to_string()),
                    call,
                    principal: None,
                }),
                None => self.turn_away(env, link.from),
            },
            other => env
                .checker
                .fail(format!("{} got {}", self.host, other.name())),
        }
        self.settle(env);
    }

    /// An operator asks for something, and looks later whether it was done.
    pub(crate) fn operates(&mut self, env: &mut Env, calls: Vec<v1::master::Call>) {
        for call in calls {
            let Some(seat) = self.seat() else { return };
            seat.next_request += 1;
            let request = RequestId(seat.next_request);
            env.trace(|| format!("{}: asked to {}", self.host, call.r#type().as_str_name()));
            self.take(Input::Operator {
                request,
                call: Box::new(call),
                via: Via::V1,
                principal: None,
            });
        }
        self.settle(env);
    }

    fn turn_away(&self, env: &mut Env, host: Host) {
        let answer = Parcel::Answer {
            status: 503,
            text: "not leading".to_owned(),
        };
        env.send(self.events(host), answer);
    }

    fn events(&self, host: Host) -> LinkKey {
        LinkKey {
            from: self.host,
            to: host,
            channel: Channel::Events,
        }
    }

    fn seat(&mut self) -> Option<&mut Seat> {
        self.term.as_mut()?.seat.as_deref_mut()
    }

    fn request(&mut self, env: &Env, link: LinkKey) -> Option<RequestId> {
        let seat = self.seat()?;
        seat.next_request += 1;
        let request = RequestId(seat.next_request);
        let connection = (link.from, env.network.generation(link));
        seat.requests.insert(request, connection);
        Some(request)
    }

    /// Who is to be answered; not if the request's connection has ended meanwhile.
    fn answers(&mut self, env: &Env, request: RequestId) -> Option<Host> {
        let to = self.host;
        let (from, generation) = self.seat()?.requests.remove(&request)?;
        let channel = Channel::Calls;
        let current = env.network.generation(LinkKey { from, to, channel });
        (current == generation).then_some(from)
    }

    /// Inputs wait while everything is held back.
    fn take(&mut self, input: Input) {
        if let Some(seat) = self.seat() {
            seat.waiting.push(input);
        }
    }

    /// Goes on until nothing is left to do.
    fn settle(&mut self, env: &mut Env) {
        while !self.told.is_empty() {
            for told in std::mem::take(&mut self.told) {
                match told {
                    Told::Standing => self.stand(env),
                    Told::Answered { id, result } => self.answered(env, id, result),
                }
            }
        }
        self.read(env);
        self.work(env);
    }

    fn stand(&mut self, env: &mut Env) {
        let current = self.term.as_ref().map(|term| term.tenure.clone());
        match (self.candidate.standing.clone(), current) {
            (Standing::Leading(tenure), None) if self.again.is_none() => {
                self.term = Some(Term {
                    tenure,
                    reading: None,
                    seat: None,
                });
            }
            (Standing::Leading(tenure), Some(current)) if tenure != current => {
                self.depose(env, "its session ended");
            }
            (Standing::Following(_), Some(_)) => self.depose(env, "it leads no more"),
            _ => {}
        }
    }

    /// Reads the registry, if that is what comes next.
    fn read(&mut self, env: &mut Env) {
        let Some(term) = &mut self.term else { return };
        if term.seat.is_some() || term.reading.is_some() {
            return;
        }
        let member = term.tenure.member.clone();
        term.reading = self.candidate.ask(env, Ask::Load { member });
    }

    fn answered(&mut self, env: &mut Env, id: u64, result: Result<Said, Failure>) {
        let Some(term) = &mut self.term else { return };
        if term.reading == Some(id) {
            term.reading = None;
            match result {
                Ok(Said::Loaded { version, entries }) => self.begin(env, version, entries),
                Ok(_) => self.depose(env, "somebody else leads"),
                // Asked again once there is a connection.
                Err(_) => {}
            }
            return;
        }
        let Some(seat) = &mut term.seat else { return };
        let ours = seat.writing.as_ref().is_some_and(|(w, _)| *w == Some(id));
        if !ours {
            return;
        }
        match result {
            Ok(Said::Applied) => {
                seat.writing = None;
                seat.version += 1;
                seat.outbox.written();
            }
            // Nobody knows whether it was written. Writing it again changes nothing.
            Err(_) => {
                if let Some((id, _)) = &mut seat.writing {
                    *id = None;
                }
            }
            Ok(_) => self.depose(env, "it cannot write"),
        }
    }

    fn begin(&mut self, env: &mut Env, version: u64, entries: Vec<(String, Vec<u8>)>) {
        let now = env.clock(self.host);
        let registry = match assemble(entries) {
            Ok(registry) => registry,
            Err(error) => return env.checker.fail(format!("{}: {error}", self.host)),
        };
        let facts = LeaderFacts {
            info: self.info.clone(),
            cluster: None,
            started: now,
            elected: now,
            flags: BTreeMap::new(),
        };
        let Some(term) = &mut self.term else { return };
        env.trace(|| format!("{}: leads as {}", self.host, self.info.id));
        env.checker.begins(self.host, term.tenure.sequence, env.now);
        let core = Leader::new(config(), facts, &registry, self.rng.child(), now);
        term.seat = Some(Box::new(Seat {
            core,
            effects: Effects::default(),
            outbox: Outbox::new(),
            version,
            writes: 0,
            writing: None,
            requests: BTreeMap::new(),
            next_request: 0,
            streams: BTreeMap::new(),
            held: None,
            waiting: vec![Input::Tick],
        }));
    }

    /// Whatever was decided and not said is dropped, and all connections with it.
    fn depose(&mut self, env: &mut Env, why: &str) {
        let Some(term) = self.term.take() else { return };
        env.trace(|| format!("{}: deposed, {why}", self.host));
        env.mark("deposed", u64::from(term.tenure.sequence));
        env.abandon_links(self.host);
        self.candidate.withdraw(env, &mut self.told);
        self.again = Some(env.clock(self.host) + AGAIN_INTERVAL);
    }

    /// Whether anything may leave.
    fn may_act(&self, env: &Env) -> bool {
        let lease = self.candidate.lease.may_act(env.clock(self.host));
        lease || crate::planted(crate::Planted::ActsAfterItsLease)
    }

    /// Inputs through the core, effects out: `core_loop`.
    fn work(&mut self, env: &mut Env) {
        loop {
            let open = self.may_act(env);
            let now = env.clock(self.host);
            let Some(seat) = self.seat() else { return };
            if !open {
                seat.held.get_or_insert(now);
                return;
            }
            seat.held = None;
            let inputs = std::mem::take(&mut seat.waiting);
            let idle = inputs.is_empty();
            let mut stepped = false;
            for input in inputs {
                seat.step(env, now, input);
                stepped = true;
            }
            if seat.core.next_deadline().is_some_and(|at| at <= now) {
                seat.step(env, now, Input::Tick);
                stepped = true;
            }
            self.carry_out(env);
            if idle && !stepped {
                return;
            }
            if self.seat().is_none_or(|seat| seat.waiting.is_empty()) {
                return;
            }
        }
    }

    fn carry_out(&mut self, env: &mut Env) {
        while self.may_act(env) {
            let Some(Step(effect)) = self.seat().and_then(|seat| seat.outbox.release()) else {
                break;
            };
            self.carry(env, effect);
        }
        if !self.may_act(env) {
            return;
        }
        let Some(term) = &mut self.term else { return };
        let Some(seat) = &mut term.seat else { return };
        if seat.writing.is_none()
            && let Some(records) = seat.outbox.begin()
        {
            let steps = records.iter().flat_map(RegistryChange::steps).collect();
            seat.writing = Some((None, steps));
            seat.writes += 1;
        }
        if let Some((id, steps)) = &mut seat.writing
            && id.is_none()
        {
            let ask = Ask::Apply {
                member: term.tenure.member.clone(),
                version: seat.version,
                number: seat.writes,
                steps: steps.clone(),
                fenced: !crate::planted(crate::Planted::SkipsFencing),
            };
            *id = self.candidate.ask(env, ask);
        }
    }

    fn carry(&mut self, env: &mut Env, effect: Effect) {
        if !matches!(effect, Effect::Log(_)) {
            let sequence = self.term.as_ref().map_or(0, |term| term.tenure.sequence);
            env.checker.acts(self.host, sequence, env.now);
        }
        match effect {
            Effect::OpenStream { request, stream } => {
                let Some(host) = self.answers(env, request) else {
                    return self.take(Input::StreamClosed { stream });
                };
                let opened = env.network.generation(self.events(host));
                if let Some(seat) = self.seat() {
                    seat.streams.insert(stream, (host, opened));
                }
                env.send(self.events(host), Parcel::Opened(stream));
            }
            Effect::Event { stream, event } => {
                let Some(seat) = self.seat() else { return };
                if let Some((host, _)) = seat.streams.get(&stream).copied() {
                    env.send(self.events(host), Parcel::Event { stream, event });
                }
            }
            Effect::CloseStream { stream } => {
                let Some(seat) = self.seat() else { return };
                if let Some((host, _)) = seat.streams.remove(&stream) {
                    env.send(self.events(host), Parcel::Closed);
                }
            }
            Effect::Reply { request, reply } => {
                let Some(host) = self.answers(env, request) else {
                    return;
                };
                let (status, text) = match reply {
                    Reply::Accepted => (202, String::new()),
                    Reply::Error { status, message } => (status, message),
                    _ => (200, String::new()),
                };
                env.send(self.events(host), Parcel::Answer { status, text });
            }
            Effect::Send { to, from, message } => {
                env.checker.leader_says(&env.zookeeper.registry, &message);
                let from = Pid {
                    name: from.to_string(),
                    address: self.host.address(),
                };
                env.send_peer(self.host, from, to, message);
            }
            Effect::Log(notice) => env.trace(|| format!("{}: {}", self.host, notice.text)),
            Effect::Persist(_) | Effect::OperatorSnapshot { .. } | Effect::OperatorEvent(_) => {}
        }
    }
}

impl Seat {
    fn step(&mut self, env: &mut Env, now: Time, input: Input) {
        self.core.handle(now, input, &mut self.effects);
        if env.checks() {
            self.core.check();
            self.core.check_allocation();
        }
        for effect in std::mem::take(&mut self.effects.0) {
            self.outbox.push(Step(effect));
        }
    }
}

/// It has a new id each time it contends: ids of frameworks, followers and offers begin with it.
fn master_info(host: Host, rng: &mut Rng) -> v1::MasterInfo {
    let address = host.address();
    let capabilities = [Type::AgentUpdate, Type::AgentDraining, Type::QuotaV2];
    v1::MasterInfo {
        id: rng.uuid().hyphenated().to_string(),
        ip: 0,
        port: address.port().into(),
        pid: Some(format!("master@{address}")),
        hostname: Some(host.to_string()),
        capabilities: capabilities
            .map(|t| Capability {
                r#type: Some(t.into()),
            })
            .to_vec(),
        ..Default::default()
    }
}
