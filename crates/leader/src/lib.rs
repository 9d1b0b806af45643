//! Core of a leader: frameworks, followers, offers, tasks and operator calls.
//!
//! State + input + `now` in, effects out. [`Leader::handle`] only dispatches; each family of inputs
//! has a file of its own:
//!
//! | family | where |
//! |---|---|
//! | `SUBSCRIBE`, failover, `UPDATE_FRAMEWORK` | `subscribe` |
//! | v0 drivers: the same in messages | `driver` |
//! | the other scheduler calls | `calls`, then `accept` + `operation/*`, `messages`, `reconcile`, `offers` |
//! | frameworks that hold offers for long | `hoarding` |
//! | a framework goes, comes back too late, is torn down | `frameworks` |
//! | drivers that say too much | `limits` |
//! | who is who: CRAM-MD5 exchanges | `authentication` |
//! | followers register; come back; say more | `followers`; `reregister`; `update` |
//! | a new leader: what the registry knows, who is awaited | `recovery`, `roster` |
//! | followers go: pings, broken links, removal, gone | `partition`, at a rate: `removal` |
//! | status updates and acknowledgements; those of operations | `status`; `operations`, `feedback` |
//! | operator calls and event streams | `operator` |
//! | followers are drained, deactivated | `drain` |
//! | machines go down: windows, inverse offers | `maintenance`, `inverse` |
//! | what roles are promised, may have and weigh | `quota`, `weights` |
//! | why somebody is offered nothing, what would be if | `ask` |
//! | operators reserve resources, make volumes | `resources` |

mod accept;
pub mod ask;
mod authentication;
mod calls;
mod check;
pub mod config;
mod drain;
mod driver;
mod feedback;
mod followers;
mod frameworks;
mod hoarding;
mod inverse;
pub mod io;
pub mod limits;
mod maintenance;
mod messages;
pub mod metrics;
mod offers;
mod operation;
mod operations;
mod operator;
mod partition;
mod publish;
mod quota;
pub mod read;
mod reconcile;
mod recovery;
pub mod removal;
mod reregister;
mod resources;
mod roster;
mod state;
mod status;
mod subscribe;
mod timers;
mod update;
pub mod validate;
pub mod view;
mod weights;

pub use config::Config;
pub use io::{
    Effect, Effects, Input, Level, Notice, Principal, ProcessName, RegistryChange, Reply, Via,
};
pub use limits::{RateLimits, RateLimitsError};
pub use metrics::{FrameworkMetrics, Metrics};
pub use removal::{RemovalRate, RemovalRateError};
pub use view::{FollowerView, FrameworkView, LeaderFacts, OfferOut, View};

use crate::{
    authentication::Authentication,
    drain::Draining,
    driver::Hint,
    limits::Limits,
    maintenance::Plan,
    recovery::Recovery,
    removal::Removals,
    state::{Channel, State},
    timers::{Timer, Timers},
};
use std::{collections::VecDeque, sync::Arc};
use tepui_allocator::Allocator;
use tepui_auth::authenticator::Authenticator;
use tepui_model::{FollowerId, FrameworkId, OfferId, RequestId, Rng, StreamId, Time};
use tepui_protocol::{
    internal,
    peer::{PeerMessage, Pid},
    v1::{master, scheduler},
};

/// A leader that has been elected and has read the registry.
///
/// # Use
///
/// 1. [`Leader::new`] with the registry's snapshot.
/// 2. [`Leader::handle`] for every input, and with [`Input::Tick`] when [`Leader::next_deadline`]
///    has come. Carry out the effects in order; those behind an [`Effect::Persist`] wait for it.
/// 3. After a batch of inputs, publish [`Leader::view`].
///
/// Offers are made on ticks: an input that frees resources makes the deadline `now`, so that a
/// shell that handles a whole batch first allocates once for all of it.
#[derive(Debug)]
pub struct Leader {
    config: Config,
    facts: Arc<LeaderFacts>,
    rng: Rng,
    now: Time,
    /// Effects of the input being handled.
    out: Effects,
    state: State,
    authentication: Authentication,
    limits: Limits,
    allocator: Allocator,
    timers: Timers,
    recovery: Recovery,
    removals: Removals,
    draining: Draining,
    plan: Plan,
    quotas: quota::Quotas,
    weights: weights::Weights,
    metrics: Arc<Metrics>,
    published: publish::Published,
    /// The registry has heard of this leader.
    announced: bool,
    next_framework: u64,
    next_follower: u64,
    next_offer: u64,
    next_observer: u64,
    /// Oldest first.
    operator_streams: VecDeque<StreamId>,
}

impl Leader {
    /// Starts to lead. Followers in the registry have [`Config::reregister_timeout`] to come back.
    pub fn new(
        config: Config,
        facts: LeaderFacts,
        registry: &internal::Registry,
        mut rng: Rng,
        now: Time,
    ) -> Self {
        let facts = Arc::new(facts);
        let allocator = Allocator::new(config.allocator.clone());
        let authentication = Authentication::new(Authenticator::new(config.authenticator.clone()));
        let rng = rng.child();
        let mut leader = Self {
            limits: Limits::new(config.rate_limits.as_ref()),
            published: publish::Published::new(facts.clone(), now, &config),
            config,
            facts,
            rng,
            now,
            out: Effects::default(),
            state: State::default(),
            authentication,
            allocator,
            timers: Timers::default(),
            recovery: Recovery::default(),
            removals: Removals::default(),
            draining: Draining::default(),
            plan: Plan::default(),
            quotas: quota::Quotas::default(),
            weights: weights::Weights::default(),
            metrics: Arc::default(),
            announced: false,
            next_framework: 0,
            next_follower: 0,
            next_offer: 0,
            next_observer: 1,
            operator_streams: VecDeque::new(),
        };
        leader.recover(registry);
        leader.recover_draining(registry);
        leader.recover_plan(registry);
        leader.recover_quotas(registry);
        leader.recover_weights(registry);
        leader
    }

    /// Applies one input. Never blocks, never reads a clock, never panics on what peers say.
    ///
    /// Families: `Subscribe`, `Call` and `StreamClosed` come from schedulers; `Peer` and
    /// `LinkBroken` from followers; `Operator` and `OperatorSubscribe` from operators; `Tick` from
    /// the shell's clock. Every request is answered by exactly one `OpenStream` or `Reply` among
    /// the effects of the same call.
    pub fn handle(&mut self, now: Time, input: Input, effects: &mut Effects) {
        self.now = self.now.max(now);
        if !self.announced {
            self.announced = true;
            let info = Box::new(self.facts.info.clone());
            self.out.push(Effect::Persist(RegistryChange::Leader(info)));
            self.record_given_weights();
        }
        match input {
            Input::Tick => self.tick(),
            Input::Subscribe {
                request,
                stream,
                call,
                principal,
            } => self.subscribe(request, stream, *call, principal),
            Input::Call {
                request,
                stream_id,
                call,
                principal,
            } => self.call(request, stream_id, *call, principal),
            Input::StreamClosed { stream } => self.stream_closed(stream),
            Input::Peer { from, to, message } => self.peer(from, to, message),
            Input::LinkBroken { pid } => self.peer_link_broken(pid),
            Input::AllowList { hosts } => self.allocator.set_allow_list(hosts),
            Input::Operator {
                request,
                call,
                via,
                principal,
            } => self.operator(request, *call, via, principal.as_deref()),
            Input::OperatorSubscribe {
                request,
                stream,
                principal: _,
            } => self.operator_subscribe(request, stream),
            Input::Ask { request, ask } => self.ask(request, *ask),
        }
        self.settle_draining();
        effects.0.append(&mut self.out.0);
    }

    /// When to call again with [`Input::Tick`] if nothing else arrives. May lie in the past.
    pub fn next_deadline(&self) -> Option<Time> {
        self.offers_due()
            .into_iter()
            .chain(self.timers.next())
            .chain(self.authentication.next_deadline())
            .min()
    }

    /// Immutable picture for readers. Costs what changed since the last call.
    pub fn view(&mut self) -> Arc<View> {
        self.publish()
    }

    /// The allocator says `now` as long as something changed that it has not looked at.
    fn offers_due(&self) -> Option<Time> {
        if self.recovery.holds_offers() {
            return None;
        }
        self.allocator.next_deadline(self.now)
    }

    fn tick(&mut self) {
        self.authentication_due();
        while let Some(timer) = self.timers.pop(self.now) {
            match timer {
                Timer::Ping(follower) => self.ping_due(&follower),
                Timer::Reregister(follower) => self.reregister_timeout(&follower),
                Timer::Recovered => self.recovered_timeout(),
                Timer::Removal => self.removal_permit(),
                Timer::RegistryGc => self.registry_gc(),
                Timer::AllocatorRecovery => self.resume_offers(),
                Timer::Failover(framework) => self.failover_timeout(&framework),
                Timer::Offer(offer) => self.rescind_offer(&offer),
                Timer::HeldOffers(framework) => self.held_offers_due(&framework),
                Timer::InverseOffer(offer) => self.rescind_inverse_offer(&offer),
                Timer::Heartbeat(framework) => self.heartbeat(&framework),
                Timer::Permit(queue) => self.permit(queue),
                Timer::OperatorHeartbeat => self.operator_heartbeat(),
            }
        }
        if self.offers_due().is_some_and(|at| at <= self.now) {
            self.make_offers();
        }
    }

    fn take_message(&mut self, from: Pid, to: ProcessName, message: PeerMessage) {
        use PeerMessage as M;
        match (to, &message) {
            (ProcessName::Authenticator(session), _) => {
                return self.authentication_step(session, &from, message);
            }
            (ProcessName::Observer(_), M::PongSlave(_)) | (ProcessName::Leader, _) => {}
            (ProcessName::Observer(_), _) => return self.drop_message(&from, to, &message),
        }
        match message {
            M::Authenticate(m) => self.authenticate(&from, &m),
            M::RegisterSlave(m) => self.register_follower(from, *m),
            M::ReregisterSlave(m) => self.reregister_follower(from, *m),
            M::UnregisterSlave(m) => self.unregister_follower(&from, &m),
            M::UpdateSlave(m) => self.update_follower(&from, *m),
            M::PongSlave(_) => self.pong(&from),
            M::StatusUpdate(m) => self.status_update(&from, *m),
            M::ExitedExecutor(m) => self.exited_executor(&from, &m),
            M::ExecutorToFramework(m) => self.executor_message(&from, *m),
            M::UpdateOperationStatus(m) => self.operation_status_update(&from, *m),
            M::RegisterFramework(_)
            | M::ReregisterFramework(_)
            | M::UnregisterFramework(_)
            | M::DeactivateFramework(_)
            | M::SchedulerCall(_)
            | M::LaunchTasks(_)
            | M::ReviveOffers(_)
            | M::ResourceRequest(_)
            | M::FrameworkToExecutor(_)
            | M::KillTask(_)
            | M::StatusUpdateAcknowledgement(_)
            | M::ReconcileTasks(_) => self.driver_message(from, message),
            other => self.drop_message(&from, to, &other),
        }
    }

    fn drop_message(&mut self, from: &Pid, to: ProcessName, message: &PeerMessage) {
        self.count("master/dropped_messages");
        let name = message.name();
        self.notice(
            Level::Warning,
            format!("Dropped {name} from {from}: {to} does not take it"),
        );
    }

    // What every family uses.

    fn count(&mut self, counter: &'static str) {
        Arc::make_mut(&mut self.metrics).increment(counter);
    }
    fn count_received(&mut self, principal: Option<&str>) {
        if let Some(principal) = principal {
            Arc::make_mut(&mut self.metrics).received(principal);
        }
    }
    fn count_processed(&mut self, principal: Option<&str>) {
        if let Some(principal) = principal {
            Arc::make_mut(&mut self.metrics).processed(principal);
        }
    }
    fn notice(&mut self, level: Level, text: String) {
        self.out.push(Effect::Log(Notice { level, text }));
    }
    fn reply(&mut self, request: RequestId, reply: Reply) {
        self.out.push(Effect::Reply { request, reply });
    }
    fn refuse(&mut self, request: RequestId, status: u16, message: impl Into<String>) {
        self.reply(
            request,
            Reply::Error {
                status,
                message: message.into(),
            },
        );
    }
    fn persist(&mut self, change: RegistryChange) {
        self.out.push(Effect::Persist(change));
    }
    fn send(&mut self, to: Pid, message: impl Into<PeerMessage>) {
        self.out.push(Effect::Send {
            to,
            from: ProcessName::Leader,
            message: message.into(),
        });
    }
    /// One event for a framework; nothing if it is not connected.
    fn event(&mut self, framework: &FrameworkId, event: scheduler::Event) {
        self.shared_event(framework, Arc::new(event));
    }
    /// The same event may go to many.
    fn shared_event(&mut self, framework: &FrameworkId, event: Arc<scheduler::Event>) {
        self.deliver(framework, event, Hint::default());
    }
    /// An event goes out on a stream, or as a message to a driver.
    fn deliver(&mut self, id: &FrameworkId, event: Arc<scheduler::Event>, hint: Hint) {
        let kind = event.r#type();
        let Some(channel) = self.state.framework(id).and_then(|f| f.channel()) else {
            return;
        };
        match channel {
            Channel::Stream(stream) => {
                let stream = *stream;
                self.out.push(Effect::Event { stream, event });
            }
            Channel::Driver(pid) => {
                let to = pid.clone();
                let Some(message) = driver::translate(&self.state, id, event, hint) else {
                    return;
                };
                self.send(to, message);
            }
        }
        if let Some(framework) = self.state.framework_mut(id) {
            framework.metrics_mut().count_event(kind);
        }
    }
    /// One event for all operators; `event` is not called when there is none.
    fn operator_event(&mut self, event: impl FnOnce(&mut Self) -> Option<master::Event>) {
        if self.operator_streams.is_empty() {
            return;
        }
        if let Some(event) = event(self) {
            self.out.push(Effect::OperatorEvent(Arc::new(event)));
        }
    }

    fn new_framework_id(&mut self) -> FrameworkId {
        loop {
            let id = FrameworkId::new(format!("{}-{:04}", self.facts.info.id, self.next_framework));
            self.next_framework += 1;
            // A framework may have brought an id of this form along.
            if self.state.framework(&id).is_none() && !self.state.is_completed(&id) {
                return id;
            }
        }
    }
    fn new_follower_id(&mut self) -> FollowerId {
        loop {
            let id = FollowerId::new(format!("{}-S{}", self.facts.info.id, self.next_follower));
            self.next_follower += 1;
            if !self.knows_follower(&id) {
                return id;
            }
        }
    }
    fn new_offer_id(&mut self) -> OfferId {
        let id = OfferId::new(format!("{}-O{}", self.facts.info.id, self.next_offer));
        self.next_offer += 1;
        id
    }
    fn knows_follower(&self, id: &FollowerId) -> bool {
        self.state.follower(id).is_some()
            || self.state.roster.recovered.contains_key(id)
            || self.state.roster.unreachable.contains(id)
            || self.state.roster.gone.contains(id)
            || self.state.roster.removed.contains(id)
    }
}
