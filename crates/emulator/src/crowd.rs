//! All emulated followers as one state machine: messages, broken links and time go in, messages come out.

use crate::{
    follower::{Follower, Phase},
    layout::Layout,
    report::Report,
    tasks::Key,
};
use bytes::Bytes;
use std::{cmp::Reverse, collections::BinaryHeap, time::Duration};
use tepui_auth::{authenticatee::PROCESS, credentials::Credential};
use tepui_model::{FrameworkId, Rng, Time};
use tepui_protocol::{
    peer::{PeerMessage, Pid},
    v1,
};

/// What all followers have in common.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Whom they follow.
    pub leader: Pid,
    /// Resources of each.
    pub resources: Vec<v1::Resource>,
    /// Attributes of each.
    pub attributes: Vec<v1::Attribute>,
    /// Host names are this and a number.
    pub hostname_prefix: String,
    /// How long tasks run; without it, until they are killed.
    pub task_duration: Option<Duration>,
    /// Tasks that each says it ran already when it first registers, of a framework with this id. It then
    /// has an id, too, as if it had been with another leader before.
    pub running: Option<Running>,
    /// First waits between registrations, as of a follower's flag of that name.
    pub registration_backoff_factor: Duration,
    /// Followers that begin to register per second; without it, all at once.
    pub rate: Option<f64>,
    /// What they authenticate with.
    pub credential: Option<Credential>,
}

/// What followers bring along.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Running {
    /// Whose tasks they are.
    pub framework: FrameworkId,
    /// How many each follower has.
    pub tasks: usize,
}

/// A message that a follower wants to send.
#[derive(Clone, Debug, PartialEq)]
pub struct Outgoing {
    /// Which follower.
    pub follower: usize,
    /// Which process of it.
    pub from: Pid,
    /// To whom.
    pub to: Pid,
    /// What.
    pub said: Said,
}

/// What is said: a message, or one that was said before and has its bytes still.
#[derive(Clone, Debug, PartialEq)]
pub enum Said {
    /// For the first time.
    Message(PeerMessage),
    /// A message of that name again.
    Again(&'static str, Bytes),
}

impl Outgoing {
    /// Name of the message.
    pub fn name(&self) -> &'static str {
        match &self.said {
            Said::Message(message) => message.name(),
            Said::Again(name, _) => name,
        }
    }

    /// Its body.
    pub fn body(&self) -> Bytes {
        match &self.said {
            Said::Message(message) => message.encode().into(),
            Said::Again(_, body) => body.clone(),
        }
    }

    /// The message; none only if its bytes are not one.
    pub fn message(&self) -> Option<PeerMessage> {
        PeerMessage::decode(self.name(), self.body()).ok()
    }
}

/// What a follower waits for.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// The next attempt to register, by its number.
    Attempt(u32),
    /// A look at when the last ping came.
    Pings,
    /// The end of a task.
    End(Key),
    /// An acknowledgement of the update that was sent at this count.
    Retry(Key, u32),
}

/// All emulated followers.
pub struct Crowd {
    setup: Setup,
    layout: Layout,
    followers: Vec<Follower>,
    /// By time, then in the order in which they were set.
    timers: BinaryHeap<Reverse<(Time, u64, usize, Timer)>>,
    timers_set: u64,
    rng: Rng,
    report: Report,
}

/// What a follower sees while something happens to it.
pub(crate) struct Scene<'a> {
    pub(crate) now: Time,
    pub(crate) follower: usize,
    pub(crate) setup: &'a Setup,
    /// What the leader calls this follower.
    pub(crate) own_id: Option<v1::AgentId>,
    pub(crate) rng: &'a mut Rng,
    pub(crate) report: &'a mut Report,
    layout: &'a Layout,
    timers: &'a mut BinaryHeap<Reverse<(Time, u64, usize, Timer)>>,
    timers_set: &'a mut u64,
    out: &'a mut Vec<Outgoing>,
}

impl Scene<'_> {
    /// The follower's own process.
    pub(crate) fn pid(&self) -> Pid {
        self.layout.pid(self.follower)
    }

    /// To the leader.
    pub(crate) fn send(&mut self, message: impl Into<PeerMessage>) {
        self.send_to(self.setup.leader.clone(), message);
    }

    /// To a process of the leader's.
    pub(crate) fn send_to(&mut self, to: Pid, message: impl Into<PeerMessage>) {
        let from = self.pid();
        self.out(from, to, Said::Message(message.into()));
    }

    /// To the leader, a message whose bytes are known.
    pub(crate) fn send_again(&mut self, name: &'static str, body: Bytes) {
        let (from, to) = (self.pid(), self.setup.leader.clone());
        self.out(from, to, Said::Again(name, body));
    }

    /// From another process of the follower.
    pub(crate) fn send_as(&mut self, process: String, to: Pid, message: PeerMessage) {
        let from = Pid {
            name: process,
            ..self.pid()
        };
        self.out(from, to, Said::Message(message));
    }

    fn out(&mut self, from: Pid, to: Pid, said: Said) {
        self.report.messages_out += 1;
        self.out.push(Outgoing {
            follower: self.follower,
            from,
            to,
            said,
        });
    }

    /// Wakes the follower after `wait`.
    pub(crate) fn set(&mut self, wait: Duration, timer: Timer) {
        *self.timers_set += 1;
        let entry = (self.now + wait, *self.timers_set, self.follower, timer);
        self.timers.push(Reverse(entry));
    }

    /// The number of an attempt to authenticate: not given twice on one address, and the follower can
    /// be told from it.
    pub(crate) fn authentication_number(&self, attempt: u64) -> u64 {
        let on_address = self
            .layout
            .on_address(self.layout.address_of(self.follower));
        let place = (self.follower - on_address.start) as u64;
        attempt * self.layout.per_address() as u64 + place + 1
    }
}

impl Crowd {
    /// Followers that have done nothing yet.
    pub fn new(setup: Setup, layout: Layout, mut rng: Rng) -> Self {
        let mut version = || *rng.uuid().as_bytes();
        let followers = (0..layout.followers()).map(|_| Follower::new(version()));
        Self {
            report: Report {
                followers: layout.followers() as u64,
                ..Report::default()
            },
            followers: followers.collect(),
            setup,
            layout,
            timers: BinaryHeap::new(),
            timers_set: 0,
            rng,
        }
    }

    /// Has all of them register, as fast as the rate says.
    pub fn start(&mut self, now: Time, out: &mut Vec<Outgoing>) {
        for number in 0..self.followers.len() {
            let wait = self.turn(number);
            self.with(now, number, out, |follower, scene| {
                follower.bring_along(scene);
                follower.begin(wait, scene)
            });
        }
        self.tick(now, out);
    }

    /// When a follower begins, by the rate.
    fn turn(&self, number: usize) -> Duration {
        let wait = self.setup.rate.map(|rate| number as f64 / rate);
        wait.map_or(Duration::ZERO, |wait| {
            Duration::try_from_secs_f64(wait).unwrap_or(Duration::MAX)
        })
    }

    /// A message to `process` on an address of ours. Unknown ones are counted.
    pub fn message(
        &mut self,
        now: Time,
        address: usize,
        process: &str,
        from: Pid,
        message: PeerMessage,
        out: &mut Vec<Outgoing>,
    ) {
        self.report.messages_in += 1;
        if let Some(number) = self.layout.follower(address, process) {
            self.with(now, number, out, |follower, scene| {
                hear(follower, from, message, scene)
            });
        } else if let Some((number, exchange)) = self.exchange(address, process) {
            self.with(now, number, out, |follower, scene| {
                follower.authentication_message(exchange, &from, message, scene);
            });
        } else {
            self.report.messages_unknown += 1;
        }
    }

    /// Which follower an exchange is of.
    fn exchange(&self, address: usize, process: &str) -> Option<(usize, u64)> {
        let number = process
            .strip_prefix(PROCESS)?
            .strip_prefix('(')?
            .strip_suffix(')')?;
        let exchange = number.parse::<u64>().ok()?;
        let place = exchange.checked_sub(1)? % self.layout.per_address() as u64;
        let followers = self.layout.on_address(address);
        let number = followers.start + usize::try_from(place).ok()?;
        followers.contains(&number).then_some((number, exchange))
    }

    /// Bytes came in that are no message.
    pub fn garbage(&mut self) {
        self.report.messages_unknown += 1;
    }

    /// The link from an address to the leader broke, or could not be made.
    pub fn link_broken(&mut self, now: Time, address: usize, out: &mut Vec<Outgoing>) {
        self.report.links_broken += 1;
        for number in self.layout.on_address(address) {
            self.with(now, number, out, |follower, scene| {
                follower.link_broken(scene)
            });
        }
    }

    /// Nobody leads any more: all are silent until [`Crowd::leader_changed`].
    pub fn leader_lost(&mut self, now: Time, out: &mut Vec<Outgoing>) {
        for number in 0..self.followers.len() {
            self.with(now, number, out, |follower, scene| {
                follower.leader_lost(scene)
            });
        }
    }

    /// Another leads, perhaps at the same address: all go over to it, as when they were started but for a
    /// random part of their back-off.
    pub fn leader_changed(&mut self, now: Time, leader: Pid, out: &mut Vec<Outgoing>) {
        self.setup.leader = leader;
        for number in 0..self.followers.len() {
            let turn = self.turn(number);
            self.with(now, number, out, |follower, scene| {
                follower.start_over(turn, scene)
            });
        }
    }

    /// When [`Crowd::tick`] is due.
    pub fn next_deadline(&self) -> Option<Time> {
        self.timers.peek().map(|Reverse((at, ..))| *at)
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Time, out: &mut Vec<Outgoing>) {
        while self.next_deadline().is_some_and(|at| at <= now) {
            let Some(Reverse((_, _, number, timer))) = self.timers.pop() else {
                return;
            };
            self.with(now, number, out, |follower, scene| match timer {
                Timer::Attempt(attempt) => follower.attempt_due(attempt, scene),
                Timer::Pings => follower.pings_due(scene),
                Timer::End(key) => follower.jobs.end(&key, scene),
                Timer::Retry(key, count) => follower.jobs.retry(&key, count, scene),
            });
        }
    }

    /// Whom all follow.
    pub fn leader(&self) -> &Pid {
        &self.setup.leader
    }

    /// What was counted so far.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// Where everybody is.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Where a follower stands.
    pub fn phase(&self, follower: usize) -> Option<Phase> {
        Some(self.followers.get(follower)?.phase)
    }

    fn with(
        &mut self,
        now: Time,
        number: usize,
        out: &mut Vec<Outgoing>,
        what: impl FnOnce(&mut Follower, &mut Scene<'_>),
    ) {
        let Some(follower) = self.followers.get_mut(number) else {
            return;
        };
        let mut scene = Scene {
            now,
            follower: number,
            setup: &self.setup,
            own_id: follower.id.clone(),
            rng: &mut self.rng,
            report: &mut self.report,
            layout: &self.layout,
            timers: &mut self.timers,
            timers_set: &mut self.timers_set,
            out,
        };
        what(follower, &mut scene);
    }
}

/// One message to a follower's own process.
fn hear(follower: &mut Follower, from: Pid, message: PeerMessage, scene: &mut Scene<'_>) {
    let jobs = &mut follower.jobs;
    match message {
        PeerMessage::PingSlave(ping) => return follower.ping(from, ping.connected, scene),
        PeerMessage::SlaveRegistered(m) => {
            return follower.registered(m.slave_id, false, m.connection, scene);
        }
        PeerMessage::SlaveReregistered(m) => {
            follower.registered(m.slave_id, true, m.connection, scene);
            for reconciliation in &m.reconciliations {
                follower.jobs.reconcile(reconciliation, scene);
            }
            return;
        }
        PeerMessage::Shutdown(_) => return follower.shut_down(scene),
        _ => {}
    }
    if follower.phase == Phase::Stopped {
        return;
    }
    match message {
        PeerMessage::RunTask(m) => jobs.run_task(*m, scene),
        PeerMessage::RunTaskGroup(m) => jobs.run_task_group(*m, scene),
        PeerMessage::KillTask(m) => jobs.kill(&m, scene),
        PeerMessage::StatusUpdateAcknowledgement(m) => jobs.acknowledge(&m, scene),
        PeerMessage::ShutdownFramework(m) => {
            jobs.shut_down_framework(&FrameworkId::from(&m.framework_id), scene);
        }
        PeerMessage::ShutdownExecutor(m) => jobs.shut_down_executor(&m, scene),
        PeerMessage::UpdateFramework(m) => jobs.update_framework(*m, scene),
        PeerMessage::CheckpointResources(m) => jobs.checkpoint(m.resources),
        PeerMessage::ApplyOperation(m) => follower.apply_operation(*m, scene),
        // There is nobody to hear them.
        PeerMessage::FrameworkToExecutor(_) | PeerMessage::AcknowledgeOperationStatus(_) => {}
        _ => scene.report.messages_unknown += 1,
    }
}
