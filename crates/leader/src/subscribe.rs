//! Frameworks subscribe, come back on a new stream, and change their description.
//!
//! Follows `Master::subscribe`, `_subscribe`, `failoverFramework` and `updateFramework` in
//! `src/master/master.cpp`. A refused subscription is an `ERROR` event on a stream that is then
//! closed, not an HTTP error.

use crate::{
    Effect, Leader, Level, Principal, Reply,
    config::HEARTBEAT_INTERVAL,
    offers::allocator_options,
    state::{Connection, Framework, roles_of},
    timers::Timer,
    validate,
};
use std::{collections::BTreeSet, sync::Arc};
use tepui_model::{FrameworkId, OfferId, RequestId, StreamId};
use tepui_protocol::{
    internal,
    v1::{
        self,
        scheduler::{self, call, event},
    },
};

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
        let Some(call::Subscribe {
            mut framework_info,
            suppressed_roles,
            offer_constraints,
            ..
        }) = call.subscribe
        else {
            return self.refuse(
                request,
                400,
                "Failed to validate scheduler::Call: Expecting 'subscribe' to be present",
            );
        };
        if framework_info.principal.is_none()
            && let Some(principal) = principal
        {
            framework_info.principal = Some(principal.as_ref().to_owned());
        }
        let is_new = framework_info
            .id
            .as_ref()
            .is_none_or(|id| id.value.is_empty());
        self.count(if is_new {
            "master/messages_register_framework"
        } else {
            "master/messages_reregister_framework"
        });
        if self.state.streams.contains_key(&stream) {
            // Streams are fresh; should one not be, it leaves whoever had it.
            self.stream_closed(stream);
        }
        self.out.push(Effect::OpenStream { request, stream });

        let checked = self.validate_framework(&framework_info).and_then(|()| {
            validate::framework::options(
                &framework_info,
                &suppressed_roles,
                offer_constraints.as_ref(),
            )
        });
        if let Err(error) = checked {
            return self.refuse_subscription(stream, &framework_info.name, error);
        }
        let suppressed = suppressed_roles.into_iter().collect();
        if is_new {
            self.subscribe_new(stream, framework_info, suppressed);
        } else {
            self.subscribe_known(stream, framework_info, suppressed);
        }
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

    fn refuse_subscription(&mut self, stream: StreamId, name: &str, message: String) {
        self.notice(
            Level::Warning,
            format!("Refused the subscription of framework '{name}': {message}"),
        );
        self.out.push(Effect::Event {
            stream,
            event: Arc::new(error_event(message)),
        });
        self.out.push(Effect::CloseStream { stream });
    }

    fn subscribe_new(
        &mut self,
        stream: StreamId,
        mut info: v1::FrameworkInfo,
        suppressed: BTreeSet<String>,
    ) {
        let id = self.new_framework_id();
        info.id = Some(id.to_proto());
        self.notice(
            Level::Info,
            format!("Framework '{}' subscribed as {id}", info.name),
        );
        let mut framework =
            Framework::new(id.clone(), info, Connection::Connected(stream), self.now);
        framework.suppressed = suppressed;
        self.add_framework(framework);
        self.send_subscribed(&id);
        self.operator_event(|leader| leader.framework_added(&id));
    }

    fn subscribe_known(
        &mut self,
        stream: StreamId,
        mut info: v1::FrameworkInfo,
        suppressed: BTreeSet<String>,
    ) {
        let id = info
            .id
            .as_ref()
            .map(FrameworkId::from)
            .unwrap_or_else(|| FrameworkId::new(""));
        match self.state.framework(&id) {
            // After an election nobody else may know it yet: its own word is enough.
            None => self.recover_framework(info.clone()),
            Some(known) => {
                validate::framework::keep_immutable(&known.info, &mut info);
                if let Err(error) = validate::framework::update(&known.info, &info) {
                    return self.refuse_subscription(stream, &info.name, error);
                }
            }
        }
        self.apply_framework_info(&id, info, suppressed);
        self.take_over(&id, stream);
        self.tell_everyone(&id);
    }

    /// The framework moves to `stream`, from wherever it was.
    fn take_over(&mut self, id: &FrameworkId, stream: StreamId) {
        let was_recovered = self
            .state
            .framework(id)
            .is_some_and(Framework::is_recovered);
        self.discard_offers_of(id);
        if let Some(old) = self.state.connect(id, Connection::Connected(stream)) {
            self.out.push(Effect::Event {
                stream: old,
                event: Arc::new(error_event("Framework failed over".to_owned())),
            });
            self.out.push(Effect::CloseStream { stream: old });
        }
        self.timers.cancel(&Timer::Failover(id.clone()));
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
        self.send_subscribed(id);
    }

    fn send_subscribed(&mut self, id: &FrameworkId) {
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
        self.event(id, event);
        // The reference sends the first heartbeat at once.
        self.heartbeat(id);
    }

    pub(crate) fn heartbeat(&mut self, id: &FrameworkId) {
        if !self
            .state
            .framework(id)
            .is_some_and(Framework::is_connected)
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
        if let Err(error) =
            validate::framework::options(&info, &suppressed_roles, offer_constraints.as_ref())
        {
            return bad(format!("'UpdateFramework' call is not valid: {error}"));
        }
        let changed = *known.info != info;
        self.apply_framework_info(id, info, suppressed_roles.into_iter().collect());
        if changed {
            self.tell_everyone(id);
        }
        Reply::Ok
    }

    fn apply_framework_info(
        &mut self,
        id: &FrameworkId,
        info: v1::FrameworkInfo,
        suppressed: BTreeSet<String>,
    ) {
        let Some(framework) = self.state.framework_mut(id) else {
            return;
        };
        framework.describe(info);
        framework.suppressed = suppressed.clone();
        let (info, roles) = (framework.info.clone(), framework.roles.clone());
        let offers: Vec<OfferId> = framework.offers.keys().cloned().collect();
        self.allocator
            .update_framework(id, allocator_options(&info, &suppressed));
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

/// What followers are told of a framework. v1 schedulers have no process: their address is the
/// empty one, written out.
pub(crate) fn framework_update(framework: &Framework) -> internal::UpdateFrameworkMessage {
    internal::UpdateFrameworkMessage {
        framework_id: framework.id.to_proto(),
        pid: Some(NO_PROCESS.to_owned()),
        framework_info: Some(v1::FrameworkInfo::clone(&framework.info)),
    }
}

/// The address of nobody, as libprocess writes it.
pub(crate) const NO_PROCESS: &str = "@0.0.0.0:0";

fn error_event(message: String) -> scheduler::Event {
    let mut event = scheduler::Event {
        error: Some(event::Error { message }),
        ..Default::default()
    };
    event.set_type(event::Type::Error);
    event
}
