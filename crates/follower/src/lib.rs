//! Core of a follower: registration, executors, tasks, status updates and sandboxes on one machine.
//!
//! State + input + `now` in, effects out. It never blocks, reads no clock, opens no socket or file
//! and draws no random number it was not handed. Waiting is data: a [`PendingLaunch`] or a timer.
//! A shell (`tepui-node`) owns sockets, files and processes, and decides nothing.
//!
//! | input | file |
//! |---|---|
//! | leader detection, (re-)registration, pings, shutdown | `registration.rs` |
//! | authentication with the leader | `authentication.rs` |
//! | RunTask, RunTaskGroup, KillTask | `tasks.rs` |
//! | launching executors | `launch.rs` |
//! | calls of executors | `executors.rs` |
//! | what tokens of executors say | `tokens.rs` |
//! | messages of v0 executor drivers | `driver.rs` |
//! | the end of executors and frameworks | `endings.rs` |
//! | status updates, acknowledgements, retries | `status.rs` |
//! | messages between frameworks and executors, framework updates | `messages.rs` |
//! | operations on resources: reservations, volumes | `operations.rs` |
//! | persistent volumes in sandboxes | `volumes.rs` |
//! | oversubscription: what is offered twice, and taken back | `estimator.rs`, `qos.rs` |
//! | draining | `drain.rs` |
//! | removal of old sandboxes | `gc.rs` |
//! | operator calls that change something | `operator.rs` |
//! | what ran before a restart | `recovery.rs`; what is kept for it: `checkpointing.rs`; whether it fits the settings of today: `compatibility.rs` |
//!
//! The command executor and the default executor run within the follower too. [`locals::Locals`] keeps
//! them, beside the core: to a [`Follower`] they are executors like others.
//!
//! Readers get a [`view::View`]; `read/` turns one into documents.
//!
//! [`PendingLaunch`]: state::PendingLaunch

mod authentication;
mod checkpointing;
pub mod compatibility;
pub mod config;
mod drain;
mod driver;
mod endings;
pub mod environment;
pub mod estimator;
mod executors;
mod gc;
pub mod io;
mod launch;
pub mod locals;
mod messages;
pub mod metrics;
pub mod modules;
mod operations;
mod operator;
pub mod paths;
pub mod qos;
pub mod read;
pub mod recovered;
mod recovery;
mod registration;
pub mod resources;
mod state;
mod status;
mod tasks;
mod timers;
mod tokens;
pub mod validate;
pub mod view;
mod volumes;

pub use config::Config;
pub use state::Phase;

use bytes::Bytes;
use io::{Effect, Effects, Input, Level, Notice, ProcessName, Reply};
use registration::Registration;
use rpds::{QueueSync, RedBlackTreeMapSync};
use rustc_hash::FxHashMap;
use state::{Executor, ExecutorKey, Framework};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use tepui_model::{
    ExecutorId, FollowerId, FrameworkId, RequestId, Resources, Rng, StreamId, Time,
    container::{ContainerEvent, ContainerId},
};
use tepui_protocol::{
    peer::{PeerMessage, Pid},
    v1,
};
use timers::{Timer, Timers};
use view::View;

/// What is answered (503) to those who ask before all is known again.
pub const RECOVERING: &str = "Agent has not finished recovery";

/// One follower.
///
/// Call [`handle`](Self::handle) with what happened and carry out the effects in order; call it with
/// [`Input::Tick`] when [`next_deadline`](Self::next_deadline) is reached; publish
/// [`view`](Self::view) after each batch.
#[derive(Debug)]
pub struct Follower {
    config: Arc<Config>,
    rng: Rng,
    now: Time,
    /// `slave(1)` at our address.
    pid: Pid,
    id: Option<FollowerId>,
    info: Arc<v1::AgentInfo>,
    /// Changes whenever our resources do; a launch that assumes another one is refused.
    resource_version: v1::Uuid,
    /// What there is, with what operations made of it.
    total: Arc<Resources>,
    /// Revocable resources on top of it, as last estimated.
    oversubscribed: Option<Arc<Resources>>,
    operations: operations::Operations,
    drain: Option<drain::Drain>,
    phase: Phase,
    leader: Option<Pid>,
    registration: Registration,
    recovery: recovery::Recovery,
    authentication: authentication::Authentication,
    frameworks: BTreeMap<FrameworkId, Framework>,
    /// Oldest first, bounded.
    completed_frameworks: QueueSync<Arc<view::FrameworkView>>,
    /// Executor of each container, until its end.
    containers: FxHashMap<ContainerId, ExecutorKey>,
    /// Container of the executor behind each stream.
    streams: FxHashMap<StreamId, ContainerId>,
    /// Container of the executor behind each v0 driver.
    drivers: FxHashMap<Pid, ContainerId>,
    updates: status::Updates,
    gc: gc::Gc,
    timers: Timers,
    counters: metrics::Counters,
    /// What the next picture must draw anew.
    changed: BTreeMap<FrameworkId, BTreeSet<ExecutorId>>,
    frameworks_view: RedBlackTreeMapSync<FrameworkId, Arc<view::FrameworkView>>,
    view: Arc<View>,
}

impl Follower {
    /// A follower that knows no leader yet. `recovered` is the id it had before a restart.
    pub fn new(config: Config, now: Time, mut rng: Rng, recovered: Option<FollowerId>) -> Self {
        let config = Arc::new(config);
        let info = Arc::new(registration::agent_info(&config, recovered.as_ref()));
        let resource_version = v1::Uuid {
            value: uuid_bytes(&mut rng),
        };
        let total = Arc::new(Resources::from_proto(&config.resources));
        let view = Arc::new(View {
            total: total.clone(),
            oversubscribed: None,
            operations: Default::default(),
            drain: None,
            at: now,
            started: now,
            config: config.clone(),
            info: info.clone(),
            capabilities: Arc::new(registration::capabilities()),
            phase: Phase::Disconnected,
            recovery_time: Default::default(),
            leader: None,
            frameworks: RedBlackTreeMapSync::default(),
            completed_frameworks: QueueSync::default(),
            counters: metrics::Counters::default(),
            gc_pending: 0,
            max_sandbox_age: config.gc_delay,
        });
        let mut timers = Timers::default();
        if config.estimator.is_some() {
            timers.set(Timer::Estimate, now);
        }
        Self {
            pid: Pid {
                name: "slave(1)".to_owned(),
                address: config.address,
            },
            id: recovered,
            info,
            resource_version,
            total,
            oversubscribed: None,
            operations: Default::default(),
            drain: None,
            phase: Phase::Disconnected,
            leader: None,
            registration: Registration::default(),
            recovery: Default::default(),
            authentication: Default::default(),
            frameworks: BTreeMap::new(),
            completed_frameworks: QueueSync::default(),
            containers: FxHashMap::default(),
            streams: FxHashMap::default(),
            drivers: FxHashMap::default(),
            updates: status::Updates::default(),
            gc: gc::Gc::new(config.gc_delay),
            timers,
            counters: metrics::Counters::default(),
            changed: BTreeMap::new(),
            frameworks_view: RedBlackTreeMapSync::default(),
            view,
            config,
            rng,
            now,
        }
    }

    /// Applies one input. Never blocks, never reads a clock.
    pub fn handle(&mut self, now: Time, input: Input, fx: &mut Effects) {
        self.now = self.now.max(now);
        match input {
            Input::Tick => self.tick(fx),
            Input::LeaderDetected(leader) => self.leader_detected(leader, fx),
            Input::Peer { from, to, message } => match to {
                ProcessName::Follower => self.peer(from, message, fx),
                ProcessName::Authenticatee(n) => self.authentication_message(n, &from, message, fx),
            },
            Input::LinkBroken { pid } => self.link_broken(pid, fx),
            Input::ExecutorSubscribe {
                request,
                stream,
                call,
                principal,
            } => self.executor_subscribe(request, stream, *call, principal, fx),
            Input::ExecutorCall {
                request,
                call,
                principal,
            } => self.executor_call(request, *call, principal, fx),
            Input::StreamClosed { stream } => self.stream_closed(stream),
            Input::LocalExecutorCall { container, call } => {
                self.local_executor_call(container, *call, fx)
            }
            Input::Container { container, event } => self.container_event(container, event, fx),
            Input::VolumesLinked { container, error } => self.volumes_linked(&container, error, fx),
            Input::Load(load) => self.load(load, fx),
            Input::DiskUsage(usage) => self.disk_usage(usage, fx),
            Input::Removed { path, error } => self.removed(path, error, fx),
            Input::Operator {
                request,
                call,
                principal: _,
            } => self.operator(request, *call, fx),
            Input::Shutdown { reason } => self.shutdown(&reason, fx),
        }
        self.end_recovery_if_done(fx);
        self.drained_if_idle(fx);
        self.publish();
    }

    /// When to call again with [`Input::Tick`] if nothing else arrives.
    pub fn next_deadline(&self) -> Option<Time> {
        self.timers.next()
    }

    /// Immutable picture for readers, as of the last input.
    pub fn view(&self) -> Arc<View> {
        self.view.clone()
    }

    /// Panics if an invariant is broken; simulators and tests call it after every step.
    pub fn check(&self) {
        for (id, framework) in &self.frameworks {
            assert_eq!(id, &framework.id);
            assert!(!framework.idle(), "idle framework {id} is kept");
            let mut tasks = 0;
            for (executor_id, executor) in &framework.executors {
                let live = executor.state != view::ExecutorState::Terminated;
                let key = (id.clone(), executor_id.clone());
                assert_eq!(
                    live,
                    self.containers.get(&executor.container) == Some(&key),
                    "container of {executor_id}"
                );
                assert!(
                    live || executor.queued.is_empty(),
                    "terminated executor {executor_id} has queued tasks"
                );
                assert!(
                    live || executor.has_incomplete_tasks(),
                    "terminated executor {executor_id} is kept for nothing"
                );
                let ids = executor
                    .queued
                    .keys()
                    .chain(executor.launched.keys())
                    .chain(executor.terminated.keys());
                for task in ids {
                    tasks += 1;
                    assert_eq!(
                        framework.tasks.get(task),
                        Some(executor_id),
                        "index of task {task}"
                    );
                }
                executor.volumes.check(executor.state);
                let waits = self
                    .timers
                    .is_set(&Timer::ExecutorRegistration(executor.container.clone()));
                assert!(
                    live || !waits,
                    "terminated executor {executor_id} has a registration timer"
                );
            }
            assert_eq!(tasks, framework.tasks.len(), "task index of {id}");
            assert_eq!(
                framework.views.size(),
                framework.executors.len(),
                "published executors of {id}"
            );
        }
        let executors: usize = self.frameworks.values().map(|f| f.executors.len()).sum();
        assert!(self.containers.len() <= executors);
        assert!(
            self.streams
                .values()
                .all(|container| self.containers.contains_key(container)),
            "stream of nobody"
        );
        self.check_drivers();
        self.check_authentication();
        self.check_operations();
        self.check_drain();
        assert_eq!(self.frameworks.len(), self.frameworks_view.size());
        assert!(
            self.timers.len() <= 8 + 3 * executors + self.updates.len() + self.operations.len(),
            "timers leak"
        );
        self.check_recovery();
        self.updates.check();
        self.gc.check();
    }

    fn tick(&mut self, fx: &mut Effects) {
        while let Some(timer) = self.timers.pop_due(self.now) {
            match timer {
                Timer::Register => self.register(fx),
                Timer::Authenticate => self.authenticate(fx),
                Timer::AuthenticationTimeout => self.authentication_timeout(fx),
                Timer::PingMissing => self.ping_missing(fx),
                Timer::ExecutorReregistration => self.executor_reregistration_timeout(fx),
                Timer::ExecutorReconnect => self.ask_to_reconnect(fx),
                Timer::ExecutorRegistration(container) => {
                    self.executor_registration_timeout(&container, fx)
                }
                Timer::ExecutorShutdown(container) => {
                    self.executor_shutdown_timeout(&container, fx)
                }
                Timer::ExecutorHeartbeat(container) => self.executor_heartbeat(&container, fx),
                Timer::UpdateRetry(framework, task) => self.retry_update(&framework, &task, fx),
                Timer::OperationRetry(uuid) => self.retry_operation(&uuid, fx),
                Timer::Estimate => self.estimate(fx),
                Timer::Gc => self.collect_garbage(fx),
            }
        }
    }

    fn peer(&mut self, from: Pid, message: PeerMessage, fx: &mut Effects) {
        use PeerMessage as M;
        match message {
            M::SlaveRegistered(m) => self.registered(&from, *m, fx),
            M::SlaveReregistered(m) => self.reregistered(&from, *m, fx),
            M::PingSlave(m) => self.ping(from, m.connected, fx),
            M::Shutdown(m) => {
                self.shutdown_by_leader(&from, m.message.as_deref().unwrap_or_default(), fx)
            }
            M::RunTask(m) => self.run_task(&from, *m, fx),
            M::RunTaskGroup(m) => self.run_task_group(&from, *m, fx),
            M::KillTask(m) => self.kill_task(&from, *m, fx),
            M::StatusUpdateAcknowledgement(m) => self.acknowledgement(&from, *m, fx),
            M::ShutdownFramework(m) => self.shutdown_framework_by_leader(&from, *m, fx),
            M::ShutdownExecutor(m) => self.shutdown_executor_by_leader(&from, *m, fx),
            M::FrameworkToExecutor(m) => self.framework_to_executor(*m, fx),
            M::UpdateFramework(m) => self.update_framework(&from, *m, fx),
            M::ApplyOperation(m) => self.apply_operation(&from, *m, fx),
            M::ReconcileOperations(m) => self.reconcile_operations(&from, *m, fx),
            M::AcknowledgeOperationStatus(m) => self.operation_acknowledgement(&from, *m, fx),
            M::CheckpointResources(m) => self.checkpoint_resources(&from, *m, fx),
            M::DrainSlave(m) => self.drain(&from, *m, fx),
            M::RegisterExecutor(m) => self.register_executor(from, *m, fx),
            M::ReregisterExecutor(m) => self.reregister_executor(from, *m, fx),
            M::StatusUpdate(m) => self.driver_update(from, *m, fx),
            M::ExecutorToFramework(m) => self.driver_message(&from, *m, fx),
            // A follower sends these, or schedulers and leaders get them. Those of an authentication
            // are for the process that began it.
            M::Authenticate(_)
            | M::AuthenticationCompleted(_)
            | M::AuthenticationError(_)
            | M::AuthenticationFailed(_)
            | M::AuthenticationMechanisms(_)
            | M::AuthenticationStart(_)
            | M::AuthenticationStep(_)
            | M::DeactivateFramework(_)
            | M::ExecutorRegistered(_)
            | M::ExecutorReregistered(_)
            | M::ExitedExecutor(_)
            | M::FrameworkError(_)
            | M::FrameworkRegistered(_)
            | M::FrameworkReregistered(_)
            | M::InverseOffers(_)
            | M::LaunchTasks(_)
            | M::LostSlave(_)
            | M::PongSlave(_)
            | M::ReconcileTasks(_)
            | M::ReconnectExecutor(_)
            | M::RegisterFramework(_)
            | M::RegisterSlave(_)
            | M::ReregisterFramework(_)
            | M::ReregisterSlave(_)
            | M::RescindInverseOffer(_)
            | M::RescindResourceOffer(_)
            | M::ResourceOffers(_)
            | M::ResourceRequest(_)
            | M::ReviveOffers(_)
            | M::SchedulerCall(_)
            | M::UnregisterFramework(_)
            | M::UnregisterSlave(_)
            | M::UpdateOperationStatus(_)
            | M::UpdateSlave(_) => {
                let name = message_name(&message);
                self.ignored(
                    format!("Ignoring {name} of {from}: it is not for a follower"),
                    fx,
                );
            }
        }
    }

    fn container_event(&mut self, container: ContainerId, event: ContainerEvent, fx: &mut Effects) {
        match event {
            ContainerEvent::Launched { pid } => self.container_launched(&container, pid, fx),
            ContainerEvent::LaunchFailed { step, message } => {
                self.container_failed(&container, step, &message, fx)
            }
            ContainerEvent::Exited { status } => self.container_exited(&container, status, fx),
        }
    }

    /// Whether a message comes from the leader we follow; says so otherwise.
    fn is_leader(&mut self, from: &Pid, what: &str, fx: &mut Effects) -> bool {
        if self.leader.as_ref() == Some(from) {
            return true;
        }
        let leader = self
            .leader
            .as_ref()
            .map_or_else(|| "None".to_owned(), Pid::to_string);
        let text = format!("Ignoring {what} of {from}: it is not the leader ({leader})");
        self.ignored(text, fx);
        false
    }

    /// Counts a message that is not for us, and says so.
    fn ignored(&mut self, text: String, fx: &mut Effects) {
        self.counters.messages_ignored += 1;
        warn(fx, text);
    }

    fn send_leader(&self, message: impl Into<PeerMessage>, fx: &mut Effects) {
        if let Some(leader) = &self.leader {
            fx.push(Effect::Send {
                to: leader.clone(),
                from: ProcessName::Follower,
                message: message.into(),
            });
        }
    }

    fn executor(&self, key: &ExecutorKey) -> Option<&Executor> {
        self.frameworks.get(&key.0)?.executors.get(&key.1)
    }

    /// The executor, to be changed: the next picture draws it anew.
    fn executor_mut(&mut self, key: &ExecutorKey) -> Option<&mut Executor> {
        let executor = self.frameworks.get_mut(&key.0)?.executors.get_mut(&key.1)?;
        self.changed
            .entry(key.0.clone())
            .or_default()
            .insert(key.1.clone());
        Some(executor)
    }

    /// The next picture draws this framework anew.
    fn touch(&mut self, framework: &FrameworkId) {
        self.changed.entry(framework.clone()).or_default();
    }

    fn publish(&mut self) {
        for (id, executors) in std::mem::take(&mut self.changed) {
            let Some(framework) = self.frameworks.get_mut(&id) else {
                self.frameworks_view.remove_mut(&id);
                continue;
            };
            for executor_id in executors {
                match framework.executors.get(&executor_id) {
                    Some(executor) => framework
                        .views
                        .insert_mut(executor_id, Arc::new(executor.view())),
                    None => drop(framework.views.remove_mut(&executor_id)),
                }
            }
            self.frameworks_view
                .insert_mut(id, Arc::new(framework.view()));
        }
        self.view = Arc::new(View {
            at: self.now,
            started: self.view.started,
            config: self.config.clone(),
            info: self.info.clone(),
            capabilities: self.view.capabilities.clone(),
            phase: self.phase,
            recovery_time: self.recovery.took,
            leader: self.leader.clone(),
            total: self.total.clone(),
            oversubscribed: self.oversubscribed.clone(),
            operations: self.operations.view.clone(),
            drain: self.drain.clone(),
            frameworks: self.frameworks_view.clone(),
            completed_frameworks: self.completed_frameworks.clone(),
            counters: self.counters,
            gc_pending: self.gc.len(),
            max_sandbox_age: self.gc.max_age(),
        });
    }
}

fn message_name(message: &PeerMessage) -> &'static str {
    message.name().rsplit('.').next().unwrap_or_default()
}

fn uuid_bytes(rng: &mut Rng) -> Bytes {
    Bytes::copy_from_slice(rng.uuid().as_bytes())
}

fn reply(fx: &mut Effects, request: RequestId, reply: Reply) {
    fx.push(Effect::Reply { request, reply });
}

fn log(fx: &mut Effects, level: Level, text: String) {
    fx.push(Effect::Log(Notice { level, text }));
}

fn info(fx: &mut Effects, text: String) {
    log(fx, Level::Info, text);
}

fn warn(fx: &mut Effects, text: String) {
    log(fx, Level::Warning, text);
}
