//! v0 scheduler drivers: frameworks that are libprocess processes.
//!
//! A driver is a framework like any other; only the way in and the way out differ. Its messages
//! become scheduler calls and go the way of v1 calls (`inbound`); events for it become the messages
//! its version of the API has for them (`outbound`). Drivers of Mesos 0.23 and later send
//! `mesos.scheduler.Call`; older ones, and drivers written from scratch, a message per call. Both
//! may be mixed, as real drivers do.
//!
//! A driver is known by its address: whatever comes from elsewhere in its framework's name is
//! dropped. What is deliberately absent: operations with feedback, which v0 never had, and inverse
//! offers, which come with maintenance.

mod inbound;
mod outbound;

pub(crate) use outbound::{Hint, translate};

use crate::{Leader, Level, authentication::Waiting, state::Channel};
use tepui_model::FrameworkId;
use tepui_protocol::{
    internal,
    peer::Pid,
    v1::{self, scheduler::call},
};

impl Leader {
    /// A driver aborts on an error and says its text.
    pub(crate) fn driver_error(&mut self, pid: Pid, message: String) {
        self.send(pid, internal::FrameworkErrorMessage { message });
    }

    /// `RegisterFrameworkMessage`: a framework without an id asks for one.
    pub(crate) fn register_driver(&mut self, from: Pid, framework_info: v1::FrameworkInfo) {
        if framework_info
            .id
            .as_ref()
            .is_some_and(|id| !id.value.is_empty())
        {
            return self.refuse_driver(from, "Registering with 'id' already set");
        }
        let subscribe = call::Subscribe {
            framework_info,
            ..Default::default()
        };
        self.subscribe_driver(from, subscribe);
    }

    /// `ReregisterFrameworkMessage`: a framework with an id has found a leader, or found it again.
    pub(crate) fn reregister_driver(
        &mut self,
        from: Pid,
        message: internal::ReregisterFrameworkMessage,
    ) {
        let id = message.framework.id.as_ref();
        if id.is_none_or(|id| id.value.is_empty()) {
            return self.refuse_driver(from, "Re-registering without an 'id'");
        }
        let subscribe = call::Subscribe {
            framework_info: message.framework,
            force: Some(message.failover),
            ..Default::default()
        };
        self.subscribe_driver(from, subscribe);
    }

    fn refuse_driver(&mut self, from: Pid, why: &str) {
        self.notice(
            Level::Info,
            format!("Refused the registration of the framework at {from}: {why}"),
        );
        self.driver_error(from, why.to_owned());
    }

    /// A driver subscribes, by whichever message.
    pub(crate) fn subscribe_driver(&mut self, from: Pid, subscribe: call::Subscribe) {
        let Some(Waiting::Framework(subscribe)) = self.waits(&from, Waiting::Framework(subscribe))
        else {
            return;
        };
        self.count_subscribe(&subscribe.framework_info);
        self.admit(Channel::Driver(from), subscribe);
    }

    /// `UnregisterFrameworkMessage`: it is done. Also a driver whose link broke may say so.
    pub(crate) fn unregister_driver(&mut self, from: &Pid, id: &FrameworkId) {
        if self.is_driver_of(from, id) {
            self.count("master/messages_unregister_framework");
            self.teardown(id);
        } else {
            self.drop_driver_message(from, id, "UnregisterFrameworkMessage");
        }
    }

    /// `DeactivateFrameworkMessage`: a driver that aborts wants no more offers. Its tasks run on.
    pub(crate) fn deactivate_driver(&mut self, from: &Pid, id: &FrameworkId) {
        self.count("master/messages_deactivate_framework");
        if !self.is_driver_of(from, id) {
            return self.drop_driver_message(from, id, "DeactivateFrameworkMessage");
        }
        let framework = self.state.framework(id);
        if framework.is_some_and(|f| f.is_connected() && f.active) {
            self.deactivate_framework(id);
        }
    }

    fn is_driver_of(&self, from: &Pid, id: &FrameworkId) -> bool {
        self.state
            .driver_at(from)
            .is_some_and(|framework| framework.id == *id)
    }

    fn drop_driver_message(&mut self, from: &Pid, id: &FrameworkId, what: &str) {
        self.notice(
            Level::Warning,
            format!("Dropped {what} of framework {id}: not expected from {from}"),
        );
    }

    /// Nothing can be sent to a driver any more. Should it still be there, it has to know: nothing
    /// else tells a driver that the leader gave it up.
    pub(crate) fn driver_link_broken(&mut self, pid: &Pid) {
        let Some(framework) = self.state.driver_at(pid) else {
            return;
        };
        if !framework.is_connected() {
            return;
        }
        let id = framework.id.clone();
        self.event(
            &id,
            crate::subscribe::error_event("Framework disconnected".to_owned()),
        );
        self.disconnect_framework(&id);
    }
}
