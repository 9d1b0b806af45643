//! One emulated follower: how it registers and stays registered. Follows `src/slave/slave.cpp`
//! (`authenticate`, `doReliableRegistration`, `registered`, `reregistered`, `ping`).

use crate::{
    crowd::{Scene, Timer},
    tasks::{Jobs, uuid_bytes},
};
use bytes::Bytes;
use std::time::Duration;
use tepui_auth::authenticatee::{Authenticatee, Outcome};
use tepui_model::Time;
use tepui_protocol::{
    MESOS_VERSION, internal as i,
    peer::{PeerMessage, Pid},
    v1::{
        self,
        agent_info::{Capability, capability::Type},
    },
};

const REREGISTRATION: &str = "mesos.internal.ReregisterSlaveMessage";
/// Longest wait between two attempts to register (`REGISTER_RETRY_INTERVAL_MAX` in `src/slave/constants.hpp`).
const RETRY_MAX: Duration = Duration::from_secs(60);
/// How long an attempt to authenticate may take.
const AUTHENTICATION_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a leader may be silent if it did not say.
const PING_TIMEOUT: Duration = Duration::from_secs(75);

/// Where a follower stands with its leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Waits to register, or for the answer.
    Disconnected,
    /// Registered.
    Registered,
    /// Told to shut down, or refused: silent for good.
    Stopped,
}

/// A follower. Small: there are thousands.
#[derive(Debug)]
pub(crate) struct Follower {
    pub(crate) phase: Phase,
    /// As the leader named it.
    pub(crate) id: Option<v1::AgentId>,
    pub(crate) jobs: Jobs,
    /// Upper bound of the next wait before another attempt.
    backoff: Duration,
    /// Tells the timer that counts from older ones.
    attempt: u32,
    /// The exchange that goes on, and its number.
    authentication: Option<(u64, Box<Authenticatee>)>,
    authentications: u64,
    ping_timeout: Duration,
    /// Without a ping until then, the leader is thought to be gone.
    pings_until: Time,
    /// Whether a timer looks at that.
    watched: bool,
    resource_version: [u8; 16],
}

/// What emulated followers can do: what needs no help of a machine.
pub(crate) fn capabilities() -> Vec<Capability> {
    [
        Type::MultiRole,
        Type::HierarchicalRole,
        Type::ReservationRefinement,
        Type::TaskResourceLimits,
    ]
    .map(|kind| Capability {
        r#type: Some(kind.into()),
    })
    .into()
}

impl Follower {
    pub(crate) fn new(resource_version: [u8; 16]) -> Self {
        Self {
            phase: Phase::Disconnected,
            id: None,
            jobs: Jobs::default(),
            backoff: Duration::ZERO,
            attempt: 0,
            authentication: None,
            authentications: 0,
            ping_timeout: PING_TIMEOUT,
            pings_until: Time::default(),
            watched: false,
            resource_version,
        }
    }

    /// Makes up a past: an id, and tasks that run.
    pub(crate) fn bring_along(&mut self, scene: &mut Scene<'_>) {
        let Some(running) = &scene.setup.running else {
            return;
        };
        let value = format!("{}-S{}", scene.rng.uuid(), scene.follower);
        self.id = Some(v1::AgentId { value });
        scene.own_id.clone_from(&self.id);
        self.jobs.bring_along(running, scene);
    }

    /// Registers after `wait`, and again and again until the leader answers.
    pub(crate) fn begin(&mut self, wait: Duration, scene: &mut Scene<'_>) {
        if self.phase == Phase::Stopped {
            return;
        }
        if self.phase == Phase::Registered {
            scene.report.registered -= 1;
        }
        self.phase = Phase::Disconnected;
        self.authentication = None;
        self.backoff = scene.setup.registration_backoff_factor.saturating_mul(2);
        self.jobs.pause();
        self.try_again_in(wait, scene);
    }

    /// The registration is in doubt: another, after `wait` and a random part of the back-off factor so
    /// that not all come at once.
    pub(crate) fn start_over(&mut self, wait: Duration, scene: &mut Scene<'_>) {
        let factor = scene.setup.registration_backoff_factor;
        let part = factor.mul_f64(scene.rng.unit());
        self.begin(wait.saturating_add(part), scene);
    }

    /// Nobody leads: silent until somebody does.
    pub(crate) fn leader_lost(&mut self, scene: &mut Scene<'_>) {
        if self.phase == Phase::Stopped {
            return;
        }
        if self.phase == Phase::Registered {
            scene.report.registered -= 1;
        }
        self.phase = Phase::Disconnected;
        self.authentication = None;
        self.jobs.pause();
        // What was set is not waited for.
        self.attempt = self.attempt.wrapping_add(1);
    }

    fn try_again_in(&mut self, wait: Duration, scene: &mut Scene<'_>) {
        self.attempt = self.attempt.wrapping_add(1);
        scene.set(wait, Timer::Attempt(self.attempt));
    }

    /// A wait is over, or an exchange took too long.
    pub(crate) fn attempt_due(&mut self, attempt: u32, scene: &mut Scene<'_>) {
        if attempt != self.attempt || self.phase != Phase::Disconnected {
            return;
        }
        match scene.setup.credential.clone() {
            Some(credential) => {
                let number = scene.authentication_number(self.authentications);
                self.authentications += 1;
                let mut exchange = Authenticatee::new(credential, scene.pid());
                let first = exchange.start(&scene.setup.leader);
                self.authentication = Some((number, Box::new(exchange)));
                self.authentication_step(first, scene);
                let jitter = scene
                    .setup
                    .registration_backoff_factor
                    .mul_f64(scene.rng.unit());
                self.try_again_in(AUTHENTICATION_TIMEOUT + jitter, scene);
            }
            None => self.register(scene),
        }
    }

    /// A message for the exchange `number`.
    pub(crate) fn authentication_message(
        &mut self,
        number: u64,
        from: &Pid,
        message: PeerMessage,
        scene: &mut Scene<'_>,
    ) {
        if let Some((current, exchange)) = &mut self.authentication
            && *current == number
        {
            let outcome = exchange.message(from, message);
            self.authentication_step(outcome, scene);
        }
    }

    fn authentication_step(&mut self, outcome: Outcome, scene: &mut Scene<'_>) {
        match outcome {
            Outcome::Send { to, message } => {
                let number = self
                    .authentication
                    .as_ref()
                    .map_or(0, |(number, _)| *number);
                scene.send_as(Authenticatee::process(number), to, message);
            }
            Outcome::Succeeded => {
                self.authentication = None;
                scene.report.authentications += 1;
                self.register(scene);
            }
            // The reference's follower ends here.
            Outcome::Failed(_) => {
                self.authentication = None;
                self.phase = Phase::Stopped;
                scene.report.refused += 1;
            }
            // The timer that runs starts another.
            Outcome::Error(_) => self.authentication = None,
            Outcome::Ignored => {}
        }
    }

    fn register(&mut self, scene: &mut Scene<'_>) {
        scene.report.attempts += 1;
        if self.id.is_none() {
            scene.send(i::RegisterSlaveMessage {
                slave: self.info(scene),
                version: Some(MESOS_VERSION.to_owned()),
                agent_capabilities: capabilities(),
                resource_version_uuid: Some(self.resource_version()),
                ..Default::default()
            });
        } else {
            let body = self.jobs.told.clone();
            let body = body.unwrap_or_else(|| self.reregistration(scene));
            self.jobs.told = Some(body.clone());
            scene.send_again(REREGISTRATION, body);
        }
        let wait = self.backoff.min(RETRY_MAX);
        self.backoff = wait.saturating_mul(2);
        let wait = wait.mul_f64(scene.rng.unit());
        self.try_again_in(wait, scene);
    }

    /// `ReregisterSlaveMessage`, in bytes: the same until what runs here changes.
    fn reregistration(&self, scene: &Scene<'_>) -> Bytes {
        let (frameworks, tasks, executor_infos) = self.jobs.all();
        let message = i::ReregisterSlaveMessage {
            slave: self.info(scene),
            version: Some(MESOS_VERSION.to_owned()),
            agent_capabilities: capabilities(),
            resource_version_uuid: Some(self.resource_version()),
            checkpointed_resources: self.jobs.checkpointed().to_vec(),
            frameworks,
            tasks,
            executor_infos,
            ..Default::default()
        };
        PeerMessage::from(message).encode().into()
    }

    fn info(&self, scene: &Scene<'_>) -> v1::AgentInfo {
        v1::AgentInfo {
            hostname: format!("{}{}", scene.setup.hostname_prefix, scene.follower + 1),
            port: Some(i32::from(scene.pid().address.port())),
            resources: scene.setup.resources.clone(),
            attributes: scene.setup.attributes.clone(),
            id: self.id.clone(),
            checkpoint: Some(true),
            domain: None,
        }
    }

    fn resource_version(&self) -> v1::Uuid {
        v1::Uuid {
            value: Bytes::copy_from_slice(&self.resource_version),
        }
    }

    /// `SlaveRegisteredMessage` or `SlaveReregisteredMessage`, up to what the latter asks for.
    pub(crate) fn registered(
        &mut self,
        id: v1::AgentId,
        again: bool,
        connection: Option<i::MasterSlaveConnection>,
        scene: &mut Scene<'_>,
    ) {
        if self.phase == Phase::Stopped || self.id.as_ref().is_some_and(|own| *own != id) {
            return;
        }
        if self.phase == Phase::Disconnected {
            self.phase = Phase::Registered;
            self.attempt = self.attempt.wrapping_add(1);
            scene.report.registered += 1;
            match again {
                true => scene.report.reregistrations += 1,
                false => scene.report.registrations += 1,
            }
        }
        self.id = Some(id.clone());
        scene.own_id = Some(id.clone());
        let seconds = connection.and_then(|connection| connection.total_ping_timeout_seconds);
        let seconds = seconds.filter(|seconds| *seconds >= 1.0);
        self.ping_timeout =
            seconds.map_or(PING_TIMEOUT, |s| Duration::from_secs(s.min(1e9) as u64));
        self.expect_ping(scene);
        scene.send(i::UpdateSlaveMessage {
            slave_id: id,
            update_oversubscribed_resources: Some(false),
            operations: Some(Default::default()),
            resource_version_uuid: Some(self.resource_version()),
            resource_providers: Some(Default::default()),
            ..Default::default()
        });
        self.jobs.resume(scene);
    }

    fn expect_ping(&mut self, scene: &mut Scene<'_>) {
        self.pings_until = scene.now + self.ping_timeout;
        // One timer, which looks again if there was a ping since: pings are many.
        if !self.watched {
            self.watched = true;
            scene.set(self.ping_timeout, Timer::Pings);
        }
    }

    /// `PingSlaveMessage` from the leader's observer of this follower.
    pub(crate) fn ping(&mut self, observer: Pid, connected: bool, scene: &mut Scene<'_>) {
        if self.phase == Phase::Stopped {
            return;
        }
        scene.report.pings += 1;
        scene.send_to(observer, i::PongSlaveMessage {});
        if self.phase != Phase::Registered {
            return;
        }
        match connected {
            true => self.pings_until = scene.now + self.ping_timeout,
            false => self.start_over(Duration::ZERO, scene),
        }
    }

    /// Whether the leader has been silent for too long.
    pub(crate) fn pings_due(&mut self, scene: &mut Scene<'_>) {
        self.watched = false;
        if self.phase != Phase::Registered {
            return;
        }
        if self.pings_until > scene.now {
            self.watched = true;
            scene.set(self.pings_until.since(scene.now), Timer::Pings);
        } else {
            self.start_over(Duration::ZERO, scene);
        }
    }

    /// The link to the leader broke.
    pub(crate) fn link_broken(&mut self, scene: &mut Scene<'_>) {
        if self.phase == Phase::Registered {
            self.start_over(Duration::ZERO, scene);
        }
    }

    /// `ShutdownMessage`: the leader does not want this follower.
    pub(crate) fn shut_down(&mut self, scene: &mut Scene<'_>) {
        if self.phase == Phase::Stopped {
            return;
        }
        if self.phase == Phase::Registered {
            scene.report.registered -= 1;
        }
        self.phase = Phase::Stopped;
        scene.report.shut_down += 1;
        self.jobs.clear(scene);
    }

    /// `ApplyOperationMessage`: an emulated follower has no disk to keep the result on.
    pub(crate) fn apply_operation(
        &mut self,
        message: i::ApplyOperationMessage,
        scene: &mut Scene<'_>,
    ) {
        let status = v1::OperationStatus {
            operation_id: message.operation_info.id,
            state: v1::OperationState::OperationDropped.into(),
            message: Some("Emulated followers do not carry out operations".to_owned()),
            uuid: Some(v1::Uuid {
                value: uuid_bytes(scene.rng),
            }),
            agent_id: self.id.clone(),
            ..Default::default()
        };
        scene.send(i::UpdateOperationStatusMessage {
            framework_id: message.framework_id,
            slave_id: self.id.clone(),
            latest_status: Some(status.clone()),
            status,
            operation_uuid: Some(message.operation_uuid),
        });
    }
}
