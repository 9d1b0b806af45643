//! Scheduler calls other than `SUBSCRIBE`: who may make them, and where they go.
//!
//! Order of the checks and their texts follow `Master::Http::scheduler` in `src/master/http.cpp`.

use crate::{Leader, Level, Principal, Reply, validate};
use tepui_model::{FrameworkId, RequestId};
use tepui_protocol::v1::{
    allocator::inverse_offer_status::Status,
    scheduler::{self, call::Type},
};

impl Leader {
    pub(crate) fn call(
        &mut self,
        request: RequestId,
        stream_id: Option<String>,
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
        let framework = match self.caller(stream_id.as_deref(), &call, principal.as_deref()) {
            Ok(framework) => framework,
            Err((status, message)) => return self.refuse(request, status, message),
        };
        if let Some(caller) = self.state.framework_mut(&framework) {
            caller.metrics_mut().count_call(call.r#type());
        }
        if call.r#type() == Type::UpdateFramework {
            let reply =
                self.update_framework(&framework, call.update_framework.unwrap_or_default());
            return self.reply(request, reply);
        }
        if matches!(call.r#type(), Type::Unknown | Type::Subscribe) {
            return self.refuse(request, 501, "");
        }
        // The answer says that the call was understood, not that it had an effect: like the
        // reference's it does not wait, and comes before the events the call causes.
        self.reply(request, Reply::Accepted);
        self.dispatch(&framework, call);
    }

    fn caller(
        &self,
        stream_id: Option<&str>,
        call: &scheduler::Call,
        principal: Option<&str>,
    ) -> Result<FrameworkId, (u16, String)> {
        let id = call
            .framework_id
            .as_ref()
            .map(FrameworkId::from)
            .unwrap_or_else(|| FrameworkId::new(""));
        let Some(framework) = self.state.framework(&id) else {
            return Err((400, "Framework cannot be found".to_owned()));
        };
        let own = framework.info.principal();
        if let Some(principal) = principal
            && principal != own
        {
            return Err((
                400,
                format!(
                    "Authenticated principal '{principal}' does not match principal '{own}' set in `FrameworkInfo`"
                ),
            ));
        }
        if !framework.is_connected() {
            return Err((403, "Framework is not subscribed".to_owned()));
        }
        let Some(stream) = framework.stream() else {
            return Err((403, "Framework is not connected via HTTP".to_owned()));
        };
        match stream_id {
            None => Err((
                400,
                "All non-subscribe calls should include the 'Mesos-Stream-Id' header".to_owned(),
            )),
            Some(given) if given != stream.to_string() => Err((
                400,
                format!(
                    "The stream ID '{given}' included in this request didn't match the stream ID currently \
                     associated with framework ID {id}"
                ),
            )),
            Some(_) => Ok(id),
        }
    }

    /// What a call does, whichever way it came.
    pub(crate) fn dispatch(&mut self, framework: &FrameworkId, call: scheduler::Call) {
        match call.r#type() {
            Type::Teardown => {
                self.count("master/messages_unregister_framework");
                self.teardown(framework);
            }
            Type::Accept => self.accept(framework, call.accept.unwrap_or_default()),
            Type::Decline => self.decline(framework, call.decline.unwrap_or_default()),
            Type::AcceptInverseOffers => {
                let call = call.accept_inverse_offers.unwrap_or_default();
                let (ids, filters) = (&call.inverse_offer_ids, call.filters.as_ref());
                self.answer_inverse_offers(framework, Status::Accept, ids, filters);
            }
            Type::DeclineInverseOffers => {
                let call = call.decline_inverse_offers.unwrap_or_default();
                let (ids, filters) = (&call.inverse_offer_ids, call.filters.as_ref());
                self.answer_inverse_offers(framework, Status::Decline, ids, filters);
            }
            Type::Revive => self.revive(framework, &call.revive.unwrap_or_default().roles),
            Type::Suppress => self.suppress(framework, &call.suppress.unwrap_or_default().roles),
            Type::Kill => self.kill(framework, call.kill.unwrap_or_default()),
            Type::Shutdown => self.shutdown_executor(framework, call.shutdown.unwrap_or_default()),
            Type::Acknowledge => self.acknowledge(framework, call.acknowledge.unwrap_or_default()),
            Type::AcknowledgeOperationStatus => {
                let call = call.acknowledge_operation_status.unwrap_or_default();
                self.acknowledge_operation(framework, call);
            }
            Type::Reconcile => self.reconcile(framework, &call.reconcile.unwrap_or_default().tasks),
            Type::ReconcileOperations => {
                self.reconcile_operations(framework, call.reconcile_operations.unwrap_or_default());
            }
            Type::Message => self.framework_message(framework, call.message.unwrap_or_default()),
            Type::Request => {
                // The reference's allocator ignores requests too (`docs/scheduler-http-api.md`).
                self.count("master/messages_resource_request");
                self.notice(
                    Level::Debug,
                    format!("{framework} requested resources; requests have no effect"),
                );
            }
            Type::UpdateFramework | Type::Subscribe | Type::Unknown => {}
        }
    }
}
