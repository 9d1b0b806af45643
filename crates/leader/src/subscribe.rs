//! Frameworks subscribe, come back on another channel, and change their description.
//!
//! Follows `Master::subscribe`, `_subscribe`, `failoverFramework` and `updateFramework` in
//! `src/master/master.cpp`. Streams of the v1 API and v0 drivers come the same way; what differs is
//! how they are answered. A refused subscription is an `ERROR` event on a stream that is then
//! closed, not an HTTP error; a driver gets the message of that name.

use crate::{
    Effect, Leader, Level, Principal, Reply,
    config::HEARTBEAT_INTERVAL,
    driver::Hint,
    offers::allocator_options,
    state::{Channel, Connection, Framework, OfferConstraints, roles_of},
    timers::Timer,
    validate,
};
use std::{collections::BTreeSet, sync::Arc};
use tepui_model::{FrameworkId, OfferId, RequestId, StreamId};
use tepui_protocol::{
    internal,
    peer::NO_PROCESS,
    v1::{
        self,
        scheduler::{self, call, event},
    },
};

/// What a framework says beside its description.
struct Wishes {
    suppressed: BTreeSet<String>,
    constraints: Arc<OfferConstraints>,
}

impl Leader {
    pub(crate) fn subscribe(
        &mut self,
        request: RequestId,
        stream: StreamId,
        call: scheduler::Call,
        principal: Option<Principal>,
    ) {
        if let Err(error) = validate::call::scheduler(&call, principal.as_deref()) {
            return self.refuse(
                request,
                400,
                format!("Failed to validate scheduler::Call: {error}"),
            );
        }
        let Some(mut subscribe) = call.subscribe else {
            return self.refuse(
                request,
                400,
                "Failed to validate scheduler::Call: Expecting 'subscribe' to be present",
            );
        };
        let framework_info = &mut subscribe.framework_info;
        if framework_info.principal.is_none()
            && let Some(principal) = principal
        {
            framework_info.principal = Some(principal.as_ref().to_owned());
        }
        self.count_subscribe(framework_info);
        if self.state.streams.contains_key(&stream) {
            // Streams are fresh; should one not be, it leaves whoever had it.
            self.stream_closed(stream);
        }
        self.out.push(Effect::OpenStream { request, stream });
        self.admit(Channel::Stream(stream), subscribe);
    }

    pub(crate) fn count_subscribe(&mut self, info: &v1::FrameworkInfo) {
        self.count(if is_new(info) {
            "master/messages_register_framework"
        } else {
            "master/messages_reregister_framework"
        });
    }

    /// One way in for streams and drivers.
    pub(crate) fn admit(&mut self, channel: Channel, subscribe: call::Subscribe) {
        let call::Subscribe {
            framework_info: mut info,
            suppressed_roles,
            offer_constraints,
            force,
        } = subscribe;
        let checked = self
            .validate_framework(&info)
            .and_then(|()| self.authenticate_driver(&channel, &mut info))
            .and_then(|()| self.wishes(&info, suppressed_roles, offer_constraints.as_ref()));
        let wishes = match checked {
            Ok(wishes) => wishes,
            Err(error) => return self.refuse_subscription(&channel, &info.name, error),
        };
        if is_new(&info) {
            self.subscribe_new(channel, info, wishes);
        } else {
            self.subscribe_known(channel, info, wishes, force.unwrap_or(false));
        }
    }

    /// Checks and compiles what stands beside a description in a call.
    fn wishes(
        &self,
        info: &v1::FrameworkInfo,
        suppressed: Vec<String>,
        constraints: Option<&v1::scheduler::OfferConstraints>,
    ) -> Result<Wishes, String> {
        let limits = &self.config.allocator.constraint_limits;
        let constraints = validate::framework::options(info, &suppressed, constraints, limits)?;
        Ok(Wishes {
            suppressed: suppressed.into_iter().collect(),
            constraints: Arc::new(constraints),
        })
    }

    /// Checks that a description may be used at all, by whoever.
    fn validate_framework(&self, info: &v1::FrameworkInfo) -> Result<(), String> {
        validate::framework::info(info)?;
        let barred: BTreeSet<String> = roles_of(info)
            .into_iter()
            .filter(|role| !self.config.allows_role(role))
            .collect();
        if !barred.is_empty() {
            return Err(format!(
                "Roles {} are not present in the master's --roles",
                validate::set_text(&barred)
            ));
        }
        if info.user == "root" && !self.config.root_submissions {
            return Err(
                "User 'root' is not allowed to run frameworks without --root_submissions set"
                    .to_owned(),
            );
        }
        if info
            .id
            .as_ref()
            .is_some_and(|id| self.state.is_completed(&id.into()))
        {
            return Err("Framework has been removed".to_owned());
        }
        Ok(())
    }

    fn refuse_subscription(&mut self, channel: &Channel, name: &str, message: String) {
        self.notice(
            Level::Warning,
            format!("Refused the subscription of framework '{name}': {message}"),
        );
        self.send_off(channel, message);
    }

    /// The last word to a channel that is not, or no longer, anybody's.
    fn send_off(&mut self, channel: &Channel, message: String) {
        match channel {
            Channel::Stream(stream) => {
                let (stream, event) = (*stream, Arc::new(error_event(message)));
                self.out.push(Effect::Event { stream, event });
                self.out.push(Effect::CloseStream { stream });
            }
            Channel::Driver(pid) => self.driver_error(pid.clone(), message),
        }
    }

    fn subscribe_new(&mut self, channel: Channel, mut info: v1::FrameworkInfo, wishes: Wishes) {
        if let Channel::Driver(pid) = &channel
            && let Some(known) = self.state.driver_at(pid)
        {
            // It did not hear the answer.
            let (id, connected) = (known.id.clone(), known.is_connected());
            if connected {
                return self.send_subscribed(&id, Welcome::First);
            }
            return self.take_over(&id, channel, true);
        }
        let id = self.new_framework_id();
        info.id = Some(id.to_proto());
        self.notice(
            Level::Info,
            format!("Framework '{}' subscribed as {id}", info.name),
        );
        let connection = Connection::Connected(channel);
        let mut framework = Framework::new(id.clone(), info, connection, self.now);
        framework.suppressed = wishes.suppressed;
        framework.constraints = wishes.constraints;
        self.add_framework(framework);
        self.send_subscribed(&id, Welcome::First);
        self.operator_event(|leader| leader.framework_added(&id));
    }

    fn subscribe_known(
        &mut self,
        channel: Channel,
        mut info: v1::FrameworkInfo,
        wishes: Wishes,
        force: bool,
    ) {
        let id = info
            .id
            .as_ref()
            .map(FrameworkId::from)
            .unwrap_or_else(|| FrameworkId::new(""));
        if let Channel::Driver(pid) = &channel
            && let Some(other) = self.state.driver_at(pid).filter(|other| other.id != id)
        {
            // An answer would go to the framework that is there.
            let text = format!(
                "Dropped the subscription of {id}: {} is connected at {pid}",
                other.id
            );
            return self.notice(Level::Warning, text);
        }
        match self.state.framework(&id) {
            // After an election nobody else may know it yet: its own word is enough.
            None => self.recover_framework(info.clone()),
            Some(known) => {
                validate::framework::keep_immutable(&known.info, &mut info);
                if let Err(error) = validate::framework::update(&known.info, &info) {
                    return self.refuse_subscription(&channel, &info.name, error);
                }
                if !force && is_stranger(known, &channel) {
                    let message = "Framework failed over".to_owned();
                    return self.refuse_subscription(&channel, &info.name, message);
                }
            }
        }
        self.apply_framework_info(&id, info, wishes);
        self.take_over(&id, channel, force);
        self.tell_everyone(&id);
    }

    /// The framework moves to `channel`, from wherever it was.
    fn take_over(&mut self, id: &FrameworkId, channel: Channel, force: bool) {
        let Some(framework) = self.state.framework(id) else {
            return;
        };
        let was_recovered = framework.is_recovered();
        let old_pid = framework.pid().cloned();
        let is_driver = matches!(channel, Channel::Driver(_));
        let welcome = if is_driver && !force && !was_recovered {
            Welcome::Again
        } else {
            Welcome::First
        };
        if welcome == Welcome::Again {
            // It may have used offers while it was away: it has to hear that they are void.
            self.rescind_offers_of(id);
        } else {
            self.discard_offers_of(id);
        }
        let old = self
            .state
            .connect(id, Connection::Connected(channel.clone()));
        if let Some(old) = old.filter(|old| *old != channel) {
            self.send_off(&old, "Framework failed over".to_owned());
        }
        if !is_driver && let Some(pid) = old_pid {
            self.forget_authenticated(&pid);
        }
        self.timers.cancel(&Timer::Failover(id.clone()));
        self.timers.cancel(&Timer::Heartbeat(id.clone()));
        let now = self.now;
        let Some(framework) = self.state.framework_mut(id) else {
            return;
        };
        if was_recovered {
            framework.registered = now;
        }
        framework.reregistered = Some(now);
        let activate = !std::mem::replace(&mut framework.active, true);
        if activate {
            self.allocator.activate_framework(id);
        }
        self.notice(Level::Info, format!("Framework {id} subscribed again"));
        self.send_subscribed(id, welcome);
    }

    fn send_subscribed(&mut self, id: &FrameworkId, welcome: Welcome) {
        if let Some(framework) = self.state.framework_mut(id) {
            framework.metrics_mut().count_call(call::Type::Subscribe);
        }
        let subscribed = event::Subscribed {
            framework_id: id.to_proto(),
            heartbeat_interval_seconds: Some(HEARTBEAT_INTERVAL.as_secs_f64()),
            master_info: Some(self.facts.info.clone()),
        };
        let mut event = scheduler::Event {
            subscribed: Some(subscribed),
            ..Default::default()
        };
        event.set_type(event::Type::Subscribed);
        let hint = Hint {
            again: welcome == Welcome::Again,
            ..Hint::default()
        };
        self.deliver(id, Arc::new(event), hint);
        // The reference sends the first heartbeat at once.
        self.heartbeat(id);
    }

    /// Streams only: the messages of drivers have no such one.
    pub(crate) fn heartbeat(&mut self, id: &FrameworkId) {
        if self
            .state
            .framework(id)
            .and_then(Framework::stream)
            .is_none()
        {
            return;
        }
        let mut event = scheduler::Event::default();
        event.set_type(event::Type::Heartbeat);
        self.event(id, event);
        self.timers
            .set(Timer::Heartbeat(id.clone()), self.now + HEARTBEAT_INTERVAL);
    }

    /// `UPDATE_FRAMEWORK`.
    pub(crate) fn update_framework(
        &mut self,
        id: &FrameworkId,
        call: call::UpdateFramework,
    ) -> Reply {
        let bad = |message: String| Reply::Error {
            status: 400,
            message,
        };
        let call::UpdateFramework {
            framework_info: info,
            suppressed_roles,
            offer_constraints,
        } = call;
        if let Err(error) = self.validate_framework(&info) {
            return bad(format!("Supplied FrameworkInfo is not valid: {error}"));
        }
        let Some(known) = self.state.framework(id) else {
            return bad("Framework cannot be found".to_owned());
        };
        if let Err(error) = validate::framework::update(&known.info, &info) {
            return bad(format!("FrameworkInfo update is not valid: {error}"));
        }
        let wishes = match self.wishes(&info, suppressed_roles, offer_constraints.as_ref()) {
            Ok(wishes) => wishes,
            Err(error) => return bad(format!("'UpdateFramework' call is not valid: {error}")),
        };
        let changed = *known.info != info;
        self.apply_framework_info(id, info, wishes);
        if changed {
            self.tell_everyone(id);
        }
        Reply::Ok
    }

    fn apply_framework_info(&mut self, id: &FrameworkId, info: v1::FrameworkInfo, wishes: Wishes) {
        let Some(framework) = self.state.framework_mut(id) else {
            return;
        };
        framework.describe(info);
        let Wishes {
            suppressed,
            constraints,
        } = wishes;
        framework.suppressed = suppressed.clone();
        framework.constraints = constraints.clone();
        let (info, roles) = (framework.info.clone(), framework.roles.clone());
        let offers: Vec<OfferId> = framework.offers.keys().cloned().collect();
        self.allocator
            .update_framework(id, allocator_options(&info, &suppressed, &constraints));
        for offer in offers {
            if self
                .state
                .offer(&offer)
                .is_some_and(|entry| !roles.contains(entry.role.as_ref()))
            {
                self.rescind_offer(&offer);
            }
        }
    }

    /// Operators hear of the change, and so does every follower: executors may run there without
    /// a task that would carry the description.
    fn tell_everyone(&mut self, id: &FrameworkId) {
        self.operator_event(|leader| leader.framework_updated(id));
        let Some(framework) = self.state.framework(id) else {
            return;
        };
        let message = framework_update(framework);
        let followers: Vec<_> = self
            .state
            .followers()
            .map(|follower| follower.pid.clone())
            .collect();
        for pid in followers {
            self.send(pid, message.clone());
        }
    }
}

/// How a framework that subscribed is greeted: drivers are told which of the two it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Welcome {
    /// As new here, or as another instance of one that is known.
    First,
    /// As the one it was.
    Again,
}

fn is_new(info: &v1::FrameworkInfo) -> bool {
    info.id.as_ref().is_none_or(|id| id.value.is_empty())
}

/// A driver elsewhere than where its framework was. It may be an old one that does not know of its
/// successor, unless it says that it is the successor.
fn is_stranger(known: &Framework, channel: &Channel) -> bool {
    match channel {
        Channel::Stream(_) => false,
        Channel::Driver(pid) => !known.is_recovered() && known.pid() != Some(pid),
    }
}

/// What followers are told of a framework: among it the address of its driver, to which they send
/// what its executors say.
pub(crate) fn framework_update(framework: &Framework) -> internal::UpdateFrameworkMessage {
    internal::UpdateFrameworkMessage {
        framework_id: framework.id.to_proto(),
        pid: Some(address_of(framework)),
        framework_info: Some(v1::FrameworkInfo::clone(&framework.info)),
    }
}

/// Where a framework's process is. v1 schedulers have none: the empty address, written out.
pub(crate) fn address_of(framework: &Framework) -> String {
    framework
        .pid()
        .map_or_else(|| NO_PROCESS.to_owned(), ToString::to_string)
}

pub(crate) fn error_event(message: String) -> scheduler::Event {
    let mut event = scheduler::Event {
        error: Some(event::Error { message }),
        ..Default::default()
    };
    event.set_type(event::Type::Error);
    event
}
