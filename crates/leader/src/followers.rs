//! Followers register and report what they have. How they come back is in `reregister`.
//!
//! Follows `Master::registerSlave` and `updateSlave` in `src/master/master.cpp`. The registry hears
//! of a follower before the follower hears that it is registered: the answers stand behind the
//! [`crate::Effect::Persist`].

use crate::{
    Leader, Level, authentication::Waiting, config::OLDEST_FOLLOWER_VERSION,
    offers::allocator_follower, state::Follower, validate,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use tepui_model::{
    FollowerId, FrameworkId,
    resources::{Resources, upgrade},
};
use tepui_protocol::{internal, peer::Pid, v1};

impl Leader {
    /// `RegisterSlaveMessage`: a follower without an id asks for one.
    pub(crate) fn register_follower(&mut self, from: Pid, message: internal::RegisterSlaveMessage) {
        let Some(Waiting::NewFollower(message)) = self.waits(&from, Waiting::NewFollower(message))
        else {
            return;
        };
        self.count("master/messages_register_slave");
        if !self.admits_follower(&from) {
            return self.ignore(format!(
                "Refused the registration of the follower at {from}: it is not authenticated"
            ));
        }
        if let Err(error) = validate::message::register_follower(&message) {
            return self.ignore(format!(
                "Dropped the registration of the follower at {from}: {error}"
            ));
        }
        if self.turns_away(&message.slave.hostname, &from) {
            return;
        }
        if let Err(error) = self.check_terms(&message.slave, message.version()) {
            return self.ignore(format!(
                "Ignored the registration of the follower at {from}: {error}"
            ));
        }
        if let Some(known) = self.state.follower_at(&from) {
            let id = known.id.clone();
            if known.connected {
                // It did not hear the answer.
                return self.send_registered(&id);
            }
            self.remove_follower(
                &id,
                "a new agent registered at the same address",
                "master/slave_removals/reason_registered",
            );
        }
        let mut info = message.slave;
        info.resources.iter_mut().for_each(own);
        let total = match total_of(&info, message.checkpointed_resources) {
            Ok(total) => total,
            Err(error) => {
                return self.ignore(format!(
                    "Ignored the registration of the follower at {from}: {error}"
                ));
            }
        };
        let id = self.new_follower_id();
        info.id = Some(id.to_proto());
        self.notice(
            Level::Info,
            format!(
                "Registering the follower at {from} ({}) as {id}",
                info.hostname
            ),
        );
        let change = self.admission(info.clone());
        self.persist(change);
        self.count("master/slave_registrations");
        let follower = self.new_follower(Registration {
            id: id.clone(),
            pid: from,
            info,
            version: message.version.unwrap_or_default(),
            capabilities: message.agent_capabilities,
            resource_version: message.resource_version_uuid,
            total,
        });
        self.add_follower(follower);
        self.send_registered(&id);
        self.first_ping(&id);
    }

    fn send_registered(&mut self, id: &FollowerId) {
        let Some(follower) = self.state.follower_unseen(id) else {
            return;
        };
        follower.unheard = true;
        let pid = follower.pid.clone();
        let message = internal::SlaveRegisteredMessage {
            slave_id: id.to_proto(),
            connection: Some(self.connection()),
        };
        self.send(pid, message);
    }

    pub(crate) fn connection(&self) -> internal::MasterSlaveConnection {
        internal::MasterSlaveConnection {
            total_ping_timeout_seconds: Some(self.config.total_ping_timeout().as_secs_f64()),
        }
    }

    /// What every follower has to meet, new or not.
    pub(crate) fn check_terms(&self, info: &v1::AgentInfo, version: &str) -> Result<(), String> {
        let parsed = validate::message::version(version)?;
        if parsed < OLDEST_FOLLOWER_VERSION {
            let (major, minor, patch) = OLDEST_FOLLOWER_VERSION;
            return Err(format!(
                "its version {version} is older than {major}.{minor}.{patch}"
            ));
        }
        if info.domain.is_some() && self.facts.info.domain.is_none() {
            return Err("it has a domain, and this leader has none".to_owned());
        }
        if info.domain.is_none() && self.config.require_follower_domain {
            return Err("it has no domain, and this leader requires one".to_owned());
        }
        Ok(())
    }

    pub(crate) fn ignore(&mut self, text: String) {
        self.notice(Level::Warning, text);
    }

    pub(crate) fn new_follower(&mut self, registration: Registration) -> Follower {
        let Registration {
            id,
            pid,
            info,
            version,
            capabilities,
            resource_version,
            total,
        } = registration;
        let observer = self.next_observer;
        self.next_observer += 1;
        let deactivated = self.state.roster.is_deactivated(&id);
        Follower {
            id,
            pid,
            total,
            info: Arc::new(info),
            version,
            can: capabilities.as_slice().into(),
            capabilities: Arc::new(capabilities),
            registered: self.now,
            reregistered: None,
            connected: true,
            active: !deactivated,
            resource_version,
            tasks: BTreeMap::new(),
            executors: BTreeMap::new(),
            offers: Default::default(),
            inverse_offers: BTreeMap::new(),
            inverse_statuses: Default::default(),
            draining_since: None,
            used: BTreeMap::new(),
            offered: Resources::new(),
            killed: BTreeSet::new(),
            observer,
            pinged: false,
            ping_timeouts: 0,
            unheard: false,
            shrunk: false,
            operations: Default::default(),
            providers: Default::default(),
            in_doubt: false,
        }
    }

    /// Into every table, with what it runs already in place.
    fn add_follower(&mut self, follower: Follower) {
        let id = follower.id.clone();
        self.state.insert_follower(follower);
        self.allocate_to_known(&id);
        self.operator_event(|leader| leader.follower_added(&id));
    }

    pub(crate) fn allocate_to_known(&mut self, id: &FollowerId) {
        let Some(follower) = self.state.follower(id) else {
            return;
        };
        let used: Vec<(FrameworkId, Resources)> = follower
            .used
            .iter()
            .map(|(framework, used)| (framework.clone(), used.clone()))
            .collect();
        let active = follower.active;
        self.allocator
            .add_follower(id, allocator_follower(follower), &used);
        if !active {
            self.allocator.deactivate_follower(id);
        }
        self.note_unavailability(id);
        self.follower_is_back();
    }

    /// The follower that a message is about, if it comes from there: whoever else speaks in its
    /// name is not listened to. Stricter than the reference, which takes their word.
    pub(crate) fn follower_saying(&self, from: &Pid, id: &v1::AgentId) -> Option<&Follower> {
        self.state
            .follower_at(from)
            .filter(|follower| follower.id.as_str() == id.value)
    }

    pub(crate) fn shut_down(&mut self, pid: Pid, why: &str) {
        self.ignore(format!("Told {pid} to shut down: {why}"));
        self.send(
            pid,
            internal::ShutdownMessage {
                message: Some(why.to_owned()),
            },
        );
    }
}

/// What both ways of registering bring along.
pub(crate) struct Registration {
    pub(crate) id: FollowerId,
    pub(crate) pid: Pid,
    pub(crate) info: v1::AgentInfo,
    pub(crate) version: String,
    pub(crate) capabilities: Vec<v1::agent_info::Capability>,
    pub(crate) resource_version: Option<v1::Uuid>,
    /// What it has, reservations and volumes included.
    pub(crate) total: Resources,
}

/// All a follower has: its resources as its flags say, with the reservations and volumes that it
/// checkpointed in place of what they were made of.
pub(crate) fn total_of(
    info: &v1::AgentInfo,
    mut checkpointed: Vec<v1::Resource>,
) -> Result<Resources, String> {
    let total = Resources::from_proto(&info.resources);
    if checkpointed.is_empty() {
        return Ok(total);
    }
    checkpointed.iter_mut().for_each(own);
    total
        .with_remembered(&Resources::from_proto(&checkpointed))
        .map_err(|error| format!("its checkpointed resources do not fit its resources: {error}"))
}

/// What a follower has, in the one resource format. Nobody has it yet: that a follower says
/// otherwise would make it more than there is.
pub(crate) fn own(resource: &mut v1::Resource) {
    upgrade(resource);
    resource.allocation_info = None;
}
