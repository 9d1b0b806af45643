//! Operators drain, deactivate and reactivate followers.
//!
//! Follows `_drainAgent`, `_deactivateAgent` and `_reactivateAgent` of `src/master/http.cpp`,
//! `checkAndTransitionDrainingAgent` of `src/master/master.cpp` and `docs/maintenance.md`.
//!
//! What an operator wants of a follower is a mark on it in the [roster](crate::roster), which outlives
//! the follower's absence and, in the registry, the leader.

use crate::{
    Leader, Level, RegistryChange, Reply,
    roster::{Marks, Roster},
    state::Follower,
};
use std::collections::BTreeSet;
use tepui_model::{FollowerId, OfferId};
use tepui_protocol::{
    internal,
    v1::{self, DrainState, master},
};

/// Leaders without it would offer what is to be left alone.
const CAPABILITY: &str = "AGENT_DRAINING";

/// What is kept of draining besides the marks.
#[derive(Debug, Default)]
pub(crate) struct Draining {
    /// They may have nothing left: looked at once the input has been handled.
    candidates: BTreeSet<FollowerId>,
    /// The registry says that leaders have to know of draining.
    required: bool,
}

impl Leader {
    /// What the registry knows of it.
    pub(crate) fn recover_draining(&mut self, registry: &internal::Registry) {
        let capabilities = &registry.minimum_capabilities;
        self.draining.required = capabilities.iter().any(|c| c.capability == CAPABILITY);
    }

    /// `DRAIN_AGENT`
    pub(crate) fn operator_drain(&mut self, call: master::call::DrainAgent) -> Reply {
        let id = FollowerId::from(&call.agent_id);
        if let Some(follower) = self.state.follower(&id) {
            if let Some(machine) = self.scheduled_machine_of(follower) {
                return bad(format!(
                    "Agent {id} is part of a maintenance schedule under Machine {machine}"
                ));
            }
            if !can_drain(follower) {
                return bad(format!("Agent {id} is not capable of draining"));
            }
        }
        if !self.is_admitted(&id) {
            return bad("Unknown agent".to_owned());
        }
        let config = v1::DrainConfig {
            max_grace_period: call.max_grace_period.map(|duration| v1::DurationInfo {
                nanoseconds: (duration.seconds)
                    .saturating_mul(1_000_000_000)
                    .saturating_add(i64::from(duration.nanos)),
            }),
            mark_gone: Some(call.mark_gone()),
        };
        let drain = v1::DrainInfo {
            state: DrainState::Draining.into(),
            config,
        };
        self.notice(Level::Info, format!("Draining the follower {id}"));
        let marks = Marks {
            drain: Some(drain),
            deactivated: true,
        };
        self.forbid_offers(&id, marks);
        let now = self.now;
        if let Some(follower) = self.state.follower_mut(&id) {
            follower.draining_since = Some(now);
        }
        self.send_drain(&id);
        self.draining.candidates.insert(id);
        Reply::Ok
    }

    /// `DEACTIVATE_AGENT`
    pub(crate) fn operator_deactivate(&mut self, call: &master::call::DeactivateAgent) -> Reply {
        let id = FollowerId::from(&call.agent_id);
        if !self.is_admitted(&id) {
            return bad("Unknown agent".to_owned());
        }
        self.notice(Level::Info, format!("Deactivating the follower {id}"));
        let marks = Marks {
            deactivated: true,
            ..self.state.roster.marks(&id)
        };
        self.forbid_offers(&id, marks);
        Reply::Ok
    }

    /// `REACTIVATE_AGENT`. One that is not here is reactivated too, which the reference does as well
    /// while it says 409.
    pub(crate) fn operator_reactivate(&mut self, call: &master::call::ReactivateAgent) -> Reply {
        let id = FollowerId::from(&call.agent_id);
        if !self.state.roster.is_deactivated(&id) {
            return bad("Agent is not deactivated".to_owned());
        }
        if is_draining(&self.state.roster, &id) {
            return bad("Agent is still in the DRAINING state".to_owned());
        }
        self.notice(Level::Info, format!("Reactivating the follower {id}"));
        self.state.roster.mark(&id, Marks::default());
        self.record_follower(&id);
        let connected = self.state.follower_mut(&id).is_some_and(|follower| {
            follower.draining_since = None;
            follower.active = follower.connected;
            follower.connected
        });
        if connected {
            self.allocator.activate_follower(&id);
        }
        Reply::Ok
    }

    /// Admitted and neither removed nor gone, whether or not it is here.
    fn is_admitted(&self, id: &FollowerId) -> bool {
        self.state.follower(id).is_some()
            || self.state.roster.recovered.contains_key(id)
            || self.state.roster.unreachable.contains(id)
    }

    fn forbid_offers(&mut self, id: &FollowerId, marks: Marks) {
        // Before anything depends on it.
        if !std::mem::replace(&mut self.draining.required, true) {
            self.persist(RegistryChange::RequireCapability(CAPABILITY.to_owned()));
        }
        self.state.roster.mark(id, marks);
        self.record_follower(id);
        self.deactivate_follower(id);
    }

    /// Nothing there is offered; what is out is taken back.
    fn deactivate_follower(&mut self, id: &FollowerId) {
        let Some(follower) = self.state.follower_mut(id) else {
            return;
        };
        follower.active = false;
        let offers: Vec<OfferId> = follower.offers.keys().cloned().collect();
        self.allocator.deactivate_follower(id);
        for offer in offers {
            self.rescind_offer(&offer);
        }
        self.rescind_inverse_offers_on(id);
    }

    /// A follower is back: it may have missed that it is to drain, and knows how to take that twice.
    /// Whether it has anything left is known now, unless it is yet to say which operations it has.
    pub(crate) fn resume_draining(&mut self, id: &FollowerId) {
        if !self.state.roster.is_deactivated(id) {
            return;
        }
        self.send_drain(id);
        let reports_more = self
            .state
            .follower(id)
            .is_some_and(|follower| follower.can.resource_provider);
        if !reports_more {
            self.may_be_drained(id);
        }
    }

    fn send_drain(&mut self, id: &FollowerId) {
        let drain = self.state.roster.marks(id).drain;
        let Some((drain, follower)) = drain.zip(self.state.follower(id)) else {
            return;
        };
        let pid = follower.pid.clone();
        self.send(
            pid,
            internal::DrainSlaveMessage {
                config: drain.config,
            },
        );
    }

    /// Something ended on it. Followers that are not draining cost one look-up.
    pub(crate) fn may_be_drained(&mut self, id: &FollowerId) {
        if is_draining(&self.state.roster, id) {
            self.draining.candidates.insert(id.clone());
        }
    }

    /// Followers that have nothing left are drained. Not done while an input is being handled: one
    /// that is being removed loses its last task too.
    pub(crate) fn settle_draining(&mut self) {
        while let Some(id) = self.draining.candidates.pop_first() {
            let empty = self.state.follower(&id).is_some_and(|follower| {
                follower.tasks.is_empty() && follower.operations.is_empty()
            });
            if empty && is_draining(&self.state.roster, &id) {
                self.drained(&id);
            }
        }
        let unmarked = self.state.roster.marked().next().is_none();
        if unmarked && std::mem::take(&mut self.draining.required) {
            self.persist(RegistryChange::ReleaseCapability(CAPABILITY.to_owned()));
        }
    }

    fn drained(&mut self, id: &FollowerId) {
        let mut marks = self.state.roster.marks(id);
        let Some(drain) = &mut marks.drain else {
            return;
        };
        if drain.config.mark_gone() {
            self.notice(
                Level::Info,
                format!("The follower {id} is drained: marking it gone"),
            );
            self.mark_gone(id);
            return;
        }
        drain.set_state(DrainState::Drained);
        self.notice(Level::Info, format!("The follower {id} is drained"));
        self.state.roster.mark(id, marks);
        self.record_follower(id);
        // Readers see it.
        self.state.follower_mut(id);
    }

    pub(crate) fn check_draining(&self) {
        assert!(
            self.draining.candidates.is_empty(),
            "draining is settled after every input"
        );
        let marked = self.state.roster.marked().next().is_some();
        assert!(
            self.draining.required || !marked,
            "the registry requires what is needed"
        );
    }
}

fn is_draining(roster: &Roster, id: &FollowerId) -> bool {
    let drain = roster.marks(id).drain;
    drain.is_some_and(|drain| drain.state() == DrainState::Draining)
}

fn can_drain(follower: &Follower) -> bool {
    use v1::agent_info::capability::Type;
    let mut capabilities = follower.capabilities.iter();
    capabilities.any(|capability| capability.r#type() == Type::AgentDraining)
}

fn bad(message: String) -> Reply {
    Reply::Error {
        status: 400,
        message,
    }
}
