//! What drivers say, as scheduler calls.
//!
//! Follows `Master::receive` and the handlers of the older messages in `src/master/master.cpp`.

use crate::{Leader, Level, Reply, validate};
use tepui_model::FrameworkId;
use tepui_protocol::{
    internal,
    peer::{PeerMessage, Pid},
    v1::{
        self,
        offer::operation,
        scheduler::{self, call, call::Type},
    },
};

/// The call that an older driver's message stands for, unless it stands for none.
pub(crate) fn call_of(message: PeerMessage) -> Option<scheduler::Call> {
    use PeerMessage as M;
    let mut call = scheduler::Call::default();
    let (kind, id) = match message {
        M::LaunchTasks(m) => {
            let m = *m;
            let kind = launch(&mut call, m.offer_ids, m.tasks, m.filters);
            (kind, m.framework_id)
        }
        M::ReviveOffers(m) => {
            call.revive = Some(call::Revive { roles: m.roles });
            (Type::Revive, m.framework_id)
        }
        M::ResourceRequest(m) => {
            call.request = Some(call::Request {
                requests: m.requests,
            });
            (Type::Request, m.framework_id)
        }
        M::KillTask(m) => {
            // Kill policies came with calls: what stands here is from nobody who knows them.
            call.kill = Some(call::Kill {
                task_id: m.task_id,
                ..Default::default()
            });
            (Type::Kill, m.framework_id)
        }
        M::StatusUpdateAcknowledgement(m) => {
            call.acknowledge = Some(call::Acknowledge {
                agent_id: m.slave_id,
                task_id: m.task_id,
                uuid: m.uuid,
            });
            (Type::Acknowledge, m.framework_id)
        }
        M::FrameworkToExecutor(m) => {
            call.message = Some(call::Message {
                agent_id: m.slave_id,
                executor_id: m.executor_id,
                data: m.data,
            });
            (Type::Message, m.framework_id)
        }
        M::ReconcileTasks(m) => {
            let m = *m;
            call.reconcile = Some(reconcile(m.statuses));
            (Type::Reconcile, m.framework_id)
        }
        _ => return None,
    };
    call.set_type(kind);
    call.framework_id = Some(id);
    Some(call)
}

/// Launching nothing is how older drivers decline.
fn launch(
    call: &mut scheduler::Call,
    offer_ids: Vec<v1::OfferId>,
    task_infos: Vec<v1::TaskInfo>,
    filters: v1::Filters,
) -> Type {
    let filters = Some(filters);
    if task_infos.is_empty() {
        call.decline = Some(call::Decline { offer_ids, filters });
        return Type::Decline;
    }
    let mut operation = v1::offer::Operation {
        launch: Some(operation::Launch { task_infos }),
        ..Default::default()
    };
    operation.set_type(operation::Type::Launch);
    call.accept = Some(call::Accept {
        offer_ids,
        operations: vec![operation],
        filters,
    });
    Type::Accept
}

fn reconcile(statuses: Vec<v1::TaskStatus>) -> call::Reconcile {
    let asked = |status: v1::TaskStatus| call::reconcile::Task {
        task_id: status.task_id,
        agent_id: status.agent_id,
    };
    call::Reconcile {
        tasks: statuses.into_iter().map(asked).collect(),
    }
}

impl Leader {
    /// Whatever only drivers send.
    pub(crate) fn driver_message(&mut self, from: Pid, message: PeerMessage) {
        use PeerMessage as M;
        match message {
            M::RegisterFramework(m) => self.register_driver(from, m.framework),
            M::ReregisterFramework(m) => self.reregister_driver(from, *m),
            M::UnregisterFramework(m) => {
                let internal::UnregisterFrameworkMessage { framework_id } = *m;
                self.unregister_driver(&from, &FrameworkId::from(&framework_id));
            }
            M::DeactivateFramework(m) => {
                self.deactivate_driver(&from, &FrameworkId::from(&m.framework_id));
            }
            M::SchedulerCall(call) => self.driver_call(from, *call),
            older => {
                if let Some(call) = call_of(older) {
                    self.driver_call(from, call);
                }
            }
        }
    }

    fn driver_call(&mut self, from: Pid, mut call: scheduler::Call) {
        if let Err(error) = validate::call::scheduler(&call, None) {
            return self.drop_call(&from, &call, &error);
        }
        let kind = call.r#type();
        if kind == Type::Subscribe {
            if let Some(subscribe) = call.subscribe.take() {
                self.subscribe_driver(from, subscribe);
            }
            return;
        }
        let asked = call.framework_id.as_ref().map(FrameworkId::from);
        let Some(framework) = asked.as_ref().and_then(|id| self.state.framework_mut(id)) else {
            return self.drop_call(&from, &call, "Framework cannot be found");
        };
        if framework.pid() != Some(&from) {
            return self.drop_call(&from, &call, "Call is not from registered framework");
        }
        framework.metrics_mut().count_call(kind);
        let id = framework.id.clone();
        if !framework.is_connected() {
            // Its link broke without its knowing, and there are no heartbeats to tell it.
            return self.driver_error(from, "Framework disconnected".to_owned());
        }
        match kind {
            Type::AcknowledgeOperationStatus | Type::ReconcileOperations => {
                let why = format!("'{}' is not supported by the v0 API", kind.as_str_name());
                self.drop_call(&from, &call, &why);
            }
            Type::UpdateFramework => {
                let update = call.update_framework.unwrap_or_default();
                if let Reply::Error { message, .. } = self.update_framework(&id, update) {
                    self.driver_error(from, message);
                }
            }
            _ => self.dispatch(&id, call),
        }
    }

    fn drop_call(&mut self, from: &Pid, call: &scheduler::Call, why: &str) {
        match call.r#type() {
            Type::Acknowledge => self.count("master/invalid_status_update_acknowledgements"),
            Type::Message => self.count("master/invalid_framework_to_executor_messages"),
            _ => {}
        }
        let id = call.framework_id.as_ref().map_or("", |id| &id.value);
        let name = call.r#type().as_str_name();
        self.notice(
            Level::Warning,
            format!("Dropped {name} call of framework {id} at {from}: {why}"),
        );
    }
}
