//! Finding a leader's ear and keeping it: registration with backoff, re-registration, pings, and the
//! orders to go. Follows `src/slave/slave.cpp` (`detected`, `doReliableRegistration`, `registered`,
//! `reregistered`, `ping`, `shutdown`).

use crate::{
    Follower, Phase,
    config::{Config, PING_TIMEOUT, REGISTRATION_RETRY_MAX},
    info,
    io::{Checkpoint, Effect, Effects},
    state::{id_proto, new_task},
    status::AgentStatus,
    timers::Timer,
    uuid_bytes,
    view::{ExecutorKind, ExecutorState},
    warn,
};
use bytes::Bytes;
use rustc_hash::FxHasher;
use std::{hash::Hasher, sync::Arc, time::Duration};
use tepui_model::{FollowerId, FrameworkId, Resources, Rng, TaskId, resources};
use tepui_protocol::{
    MESOS_VERSION, internal as i,
    peer::Pid,
    v1::{
        self, TaskState,
        agent_info::{Capability, capability::Type},
        task_status::Reason,
    },
};

/// Where the follower is in its attempts to register.
#[derive(Debug)]
pub(crate) struct Registration {
    /// Upper bound of the next wait.
    backoff: Duration,
    /// How long the leader lets pass between pings.
    ping_timeout: Duration,
}

impl Default for Registration {
    fn default() -> Self {
        Self {
            backoff: Duration::ZERO,
            ping_timeout: PING_TIMEOUT,
        }
    }
}

/// What this follower can do, in the order in which the reference registers it.
pub(crate) fn capabilities() -> Vec<Capability> {
    [
        Type::MultiRole,
        Type::HierarchicalRole,
        Type::ReservationRefinement,
        Type::ResourceProvider,
        Type::ResizeVolume,
        Type::AgentOperationFeedback,
        Type::AgentDraining,
        Type::TaskResourceLimits,
    ]
    .map(|kind| Capability {
        r#type: Some(kind.into()),
    })
    .into()
}

/// How the follower introduces itself.
pub(crate) fn agent_info(config: &Config, id: Option<&FollowerId>) -> v1::AgentInfo {
    v1::AgentInfo {
        hostname: config.hostname.clone(),
        port: Some(i32::from(config.address.port())),
        resources: config.resources.clone(),
        attributes: config.attributes.clone(),
        id: id.map(FollowerId::to_proto),
        checkpoint: Some(true),
        domain: config.domain.clone(),
    }
}

impl Follower {
    pub(crate) fn leader_detected(&mut self, leader: Option<Pid>, fx: &mut Effects) {
        if self.phase == Phase::Recovering {
            self.recovery.leader = leader;
            return;
        }
        if self.phase != Phase::Terminating {
            self.phase = Phase::Disconnected;
        }
        self.leader = leader;
        self.pause_updates();
        self.pause_operations();
        self.timers.cancel(&Timer::Register);
        self.timers.cancel(&Timer::PingMissing);
        self.stop_authenticating();
        match &self.leader {
            None => info(fx, "Lost the leader".to_owned()),
            Some(leader) => {
                info(fx, format!("The leader is {leader}"));
                self.schedule_registration();
            }
        }
    }

    /// A first try after a random part of the backoff factor, so that not all come at once.
    fn schedule_registration(&mut self) {
        if self.phase == Phase::Terminating {
            return;
        }
        let factor = self.config.registration_backoff_factor;
        self.registration.backoff = factor.saturating_mul(2);
        let wait = factor.mul_f64(self.rng.unit());
        let first = match self.config.authentication {
            Some(_) => Timer::Authenticate,
            None => Timer::Register,
        };
        self.timers.set(first, self.now + wait);
    }

    /// The registration is in doubt: begin again with the same leader.
    fn start_over(&mut self, fx: &mut Effects) {
        let leader = self.leader.clone();
        self.leader_detected(leader, fx);
    }

    pub(crate) fn link_broken(&mut self, pid: Pid, fx: &mut Effects) {
        self.driver_link_broken(&pid, fx);
        // A leader forgets who we are with the link: it would not hear of a registration.
        let lost = self.phase == Phase::Running
            || self.phase == Phase::Disconnected && self.authentication.succeeded();
        if self.leader.as_ref() == Some(&pid) && lost {
            info(fx, format!("The link to the leader {pid} broke"));
            self.start_over(fx);
        }
    }

    pub(crate) fn register(&mut self, fx: &mut Effects) {
        if self.phase != Phase::Disconnected || self.leader.is_none() {
            return;
        }
        if self.config.authentication.is_some() && !self.authentication.succeeded() {
            return;
        }
        if self.id.is_none() {
            self.send_leader(self.register_message(), fx);
        } else {
            self.send_leader(self.reregister_message(), fx);
        }
        let bound = self.registration.backoff.min(REGISTRATION_RETRY_MAX);
        self.registration.backoff = bound.saturating_mul(2);
        let wait = bound.mul_f64(self.rng.unit());
        self.timers.set(Timer::Register, self.now + wait);
    }

    fn register_message(&self) -> i::RegisterSlaveMessage {
        let mut slave = (*self.info).clone();
        downgrade(&mut slave.resources);
        i::RegisterSlaveMessage {
            slave,
            version: Some(MESOS_VERSION.to_owned()),
            agent_capabilities: capabilities(),
            resource_version_uuid: Some(self.resource_version.clone()),
            checkpointed_resources: self.checkpointed_resources(),
        }
    }

    fn reregister_message(&self) -> i::ReregisterSlaveMessage {
        let mut message = i::ReregisterSlaveMessage {
            slave: (*self.info).clone(),
            version: Some(MESOS_VERSION.to_owned()),
            agent_capabilities: capabilities(),
            resource_version_uuid: Some(self.resource_version.clone()),
            checkpointed_resources: self.checkpointed_resources(),
            ..Default::default()
        };
        for framework in self.frameworks.values().filter(|f| !f.damaged) {
            message.frameworks.push((*framework.info).clone());
            let staging =
                |task: &Arc<v1::TaskInfo>| new_task(task, &framework.id, TaskState::TaskStaging);
            message
                .tasks
                .extend(framework.pending.iter().flat_map(|p| &p.tasks).map(staging));
            for executor in framework.executors.values() {
                let sent = executor
                    .launched
                    .values()
                    .chain(executor.terminated.values());
                message.tasks.extend(sent.map(|task| (**task).clone()));
                message.tasks.extend(executor.queued.values().map(staging));
                if executor.kind != ExecutorKind::Command
                    && executor.state != ExecutorState::Terminated
                {
                    message.executor_infos.push((*executor.info).clone());
                }
            }
        }
        for framework in self.completed_frameworks.iter() {
            if framework.info.name.is_empty() && framework.info.user.is_empty() {
                // The one whose checkpoint was damaged.
                continue;
            }
            let executors = framework.completed_executors.iter();
            let tasks = executors.flat_map(|e| e.terminated.values().chain(e.completed.iter()));
            message.completed_frameworks.push(i::archive::Framework {
                framework_info: (*framework.info).clone(),
                pid: framework.pid.as_ref().map(Pid::to_string),
                tasks: tasks.map(|task| (**task).clone()).collect(),
            });
        }
        downgrade(&mut message.slave.resources);
        message
            .tasks
            .iter_mut()
            .for_each(|task| downgrade(&mut task.resources));
        message
            .executor_infos
            .iter_mut()
            .for_each(|executor| downgrade(&mut executor.resources));
        let archived = message
            .completed_frameworks
            .iter_mut()
            .flat_map(|f| &mut f.tasks);
        archived.for_each(|task| downgrade(&mut task.resources));
        message
    }

    pub(crate) fn registered(
        &mut self,
        from: &Pid,
        message: i::SlaveRegisteredMessage,
        fx: &mut Effects,
    ) {
        if !self.is_leader(from, "registration", fx) {
            return;
        }
        let id = FollowerId::from(&message.slave_id);
        match self.phase {
            Phase::Terminating => {
                return warn(
                    fx,
                    "Ignoring registration: the follower is terminating".to_owned(),
                );
            }
            Phase::Running if self.id.as_ref() != Some(&id) => return self.wrong_id(&id, fx),
            Phase::Running => warn(fx, format!("Already registered with leader {from}")),
            // No leader is believed then, so this is never reached.
            Phase::Recovering => return,
            Phase::Disconnected => {
                info(fx, format!("Registered with leader {from} as {id}"));
                self.id = Some(id.clone());
                Arc::make_mut(&mut self.info).id = Some(id.to_proto());
                fx.push(Effect::Persist(Checkpoint::Follower(Box::new(
                    (*self.info).clone(),
                ))));
                self.connected(fx);
            }
        }
        self.expect_pings(message.connection);
        self.send_update_slave(fx);
        self.resume_operations(fx);
    }

    pub(crate) fn reregistered(
        &mut self,
        from: &Pid,
        message: i::SlaveReregisteredMessage,
        fx: &mut Effects,
    ) {
        if !self.is_leader(from, "re-registration", fx) {
            return;
        }
        let id = FollowerId::from(&message.slave_id);
        if self.id.as_ref() != Some(&id) {
            return self.wrong_id(&id, fx);
        }
        match self.phase {
            Phase::Terminating => {
                return warn(
                    fx,
                    "Ignoring re-registration: the follower is terminating".to_owned(),
                );
            }
            Phase::Running => warn(fx, format!("Already re-registered with leader {from}")),
            Phase::Recovering => return,
            Phase::Disconnected => {
                info(fx, format!("Re-registered with leader {from}"));
                self.connected(fx);
            }
        }
        self.expect_pings(message.connection);
        self.send_update_slave(fx);
        self.resume_operations(fx);
        for reconciliation in message.reconciliations {
            self.reconcile_tasks(reconciliation, fx);
        }
    }

    fn connected(&mut self, fx: &mut Effects) {
        self.phase = Phase::Running;
        self.timers.cancel(&Timer::Register);
        self.stop_authenticating();
        self.resume_updates(fx);
    }

    /// A leader that calls us by another name knows another follower: nothing here can be trusted.
    fn wrong_id(&mut self, id: &FollowerId, fx: &mut Effects) {
        let own = self.id.as_ref().map_or("None", FollowerId::as_str);
        warn(
            fx,
            format!("Registered but got wrong id: {id} (expected: {own})"),
        );
        fx.push(Effect::Stop { failed: true });
    }

    fn expect_pings(&mut self, connection: Option<i::MasterSlaveConnection>) {
        let seconds = connection.and_then(|c| c.total_ping_timeout_seconds);
        // Whole seconds, as the reference reads it.
        let timeout = seconds
            .filter(|s| *s >= 1.0)
            .map(|s| Duration::from_secs(s.min(1e9) as u64));
        self.registration.ping_timeout = timeout.unwrap_or(PING_TIMEOUT);
        self.timers.set(
            Timer::PingMissing,
            self.now + self.registration.ping_timeout,
        );
    }

    fn send_update_slave(&mut self, fx: &mut Effects) {
        self.update_estimate();
        let oversubscribed = self.oversubscribed.as_deref().map(Resources::to_proto);
        let message = i::UpdateSlaveMessage {
            slave_id: id_proto(self.id.as_ref()),
            update_oversubscribed_resources: Some(oversubscribed.is_some()),
            oversubscribed_resources: oversubscribed.unwrap_or_default(),
            operations: Some(self.known_operations()),
            resource_version_uuid: Some(self.resource_version.clone()),
            resource_providers: Some(Default::default()),
        };
        self.send_leader(message, fx);
    }

    /// The leader believes we run tasks that we may not know: say so for each of those.
    fn reconcile_tasks(&mut self, message: i::ReconcileTasksMessage, fx: &mut Effects) {
        let framework = FrameworkId::from(&message.framework_id);
        let aware = message
            .framework
            .as_ref()
            .is_some_and(crate::state::partition_aware);
        for status in &message.statuses {
            let task = TaskId::from(&status.task_id);
            let known =
                |f: &crate::state::Framework| f.tasks.contains_key(&task) || f.is_pending(&task);
            // What a damaged checkpoint cost is on its way.
            let told = self.updates.awaits(&framework, &task);
            if told || self.frameworks.get(&framework).is_some_and(known) {
                continue;
            }
            let mut update = self.agent_update(
                &framework,
                AgentStatus {
                    task: task.clone(),
                    state: if aware {
                        TaskState::TaskDropped
                    } else {
                        TaskState::TaskLost
                    },
                    reason: Reason::Reconciliation,
                    message: "Reconciliation: task unknown to the agent".to_owned(),
                    executor: None,
                },
            );
            // Nobody remembers that it was said: should this follower end before that is acknowledged,
            // the next one says the very same.
            let uuid = self.unknown_task_uuid(&framework, &task);
            update.status.uuid = Some(uuid.clone());
            update.uuid = Some(uuid);
            self.enqueue_update(update, fx);
        }
    }

    /// Identity of the update that says that a task is not known here.
    fn unknown_task_uuid(&self, framework: &FrameworkId, task: &TaskId) -> Bytes {
        let own = self.id.as_ref().map_or("", FollowerId::as_str);
        let mut hasher = FxHasher::default();
        for text in [own, framework.as_str(), task.as_str()] {
            hasher.write(text.as_bytes());
            hasher.write_u8(0xff);
        }
        uuid_bytes(&mut Rng::seed(hasher.finish()))
    }

    /// Pings come from a process at the leader's address. Anybody is answered, but nobody else can make
    /// us register again or believe in a leader that is gone.
    pub(crate) fn ping(&mut self, from: Pid, connected: bool, fx: &mut Effects) {
        let leader = self.leader.as_ref().map(|leader| leader.address);
        let of_leader = leader == Some(from.address);
        fx.push(Effect::Send {
            to: from,
            from: crate::io::ProcessName::Follower,
            message: i::PongSlaveMessage {}.into(),
        });
        if !of_leader {
            return;
        }
        if !connected && self.phase == Phase::Running {
            info(fx, "The leader holds us for disconnected".to_owned());
            return self.start_over(fx);
        }
        if self.phase != Phase::Disconnected {
            self.timers.set(
                Timer::PingMissing,
                self.now + self.registration.ping_timeout,
            );
        }
    }

    pub(crate) fn ping_missing(&mut self, fx: &mut Effects) {
        if self.phase == Phase::Running {
            let timeout = tepui_model::units::format_duration(self.registration.ping_timeout);
            info(fx, format!("No pings from the leader within {timeout}"));
            self.start_over(fx);
        }
    }

    pub(crate) fn shutdown_by_leader(&mut self, from: &Pid, reason: &str, fx: &mut Effects) {
        if self.is_leader(from, "shutdown", fx) {
            info(fx, format!("Asked to shut down by {from}: {reason}"));
            self.terminate(fx);
        }
    }

    pub(crate) fn shutdown(&mut self, reason: &str, fx: &mut Effects) {
        info(fx, format!("Unregistering and shutting down: {reason}"));
        if self.phase == Phase::Recovering {
            self.leader = self.recovery.leader.take();
        }
        if self.id.is_some() {
            self.send_leader(
                i::UnregisterSlaveMessage {
                    slave_id: id_proto(self.id.as_ref()),
                },
                fx,
            );
        }
        self.terminate(fx);
    }

    fn terminate(&mut self, fx: &mut Effects) {
        if self.phase == Phase::Terminating {
            return;
        }
        self.phase = Phase::Terminating;
        self.stop_recovering();
        self.timers.cancel(&Timer::Register);
        self.timers.cancel(&Timer::PingMissing);
        self.stop_authenticating();
        self.pause_updates();
        self.pause_operations();
        if self.frameworks.is_empty() {
            return self.leave(fx);
        }
        let ids: Vec<_> = self.frameworks.keys().cloned().collect();
        for id in ids {
            self.shutdown_framework(&id, fx);
        }
    }
}

/// Registration messages carry resources in the form that the oldest leaders read.
fn downgrade(resources: &mut [v1::Resource]) {
    for resource in resources {
        resources::downgrade(resource, resources::Format::PreRefinement);
    }
}
