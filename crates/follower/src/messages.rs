//! What frameworks and executors say to each other through us, framework updates, and operations on
//! resources, which this follower does not carry out yet and therefore drops, never accepts.

use crate::{
    Follower, Phase, info, io::Effects, state::id_proto, uuid_bytes, view::ExecutorState, warn,
};
use std::sync::Arc;
use tepui_model::{ExecutorId, FrameworkId};
use tepui_protocol::{
    internal as i,
    peer::Pid,
    v1::{
        self, OperationState,
        executor::{Event, event},
    },
};

impl Follower {
    pub(crate) fn framework_to_executor(
        &mut self,
        message: i::FrameworkToExecutorMessage,
        fx: &mut Effects,
    ) {
        let key = (
            FrameworkId::from(&message.framework_id),
            ExecutorId::from(&message.executor_id),
        );
        let problem = match self.frameworks.get(&key.0) {
            _ if self.phase != Phase::Running => Some("the follower is not registered"),
            None => Some("the framework does not exist"),
            Some(f) if f.terminating => Some("the framework is terminating"),
            Some(f) => match f.executors.get(&key.1) {
                None => Some("the executor does not exist"),
                Some(e) if e.state != ExecutorState::Running => Some("the executor is not running"),
                Some(_) => None,
            },
        };
        if let Some(problem) = problem {
            self.counters.invalid_framework_messages += 1;
            return warn(
                fx,
                format!(
                    "Dropping a message for executor {} of framework {}: {problem}",
                    key.1, key.0
                ),
            );
        }
        self.counters.valid_framework_messages += 1;
        let event = Event {
            r#type: Some(event::Type::Message.into()),
            message: Some(event::Message { data: message.data }),
            ..Default::default()
        };
        self.send_executor(&key, event, fx);
    }

    /// To the driver itself where there is one, as the reference does; else through the leader.
    pub(crate) fn executor_to_framework(
        &mut self,
        framework: &FrameworkId,
        executor: &ExecutorId,
        data: bytes::Bytes,
        fx: &mut Effects,
    ) {
        let known = self
            .frameworks
            .get(framework)
            .filter(|f| !f.terminating && self.phase == Phase::Running);
        let Some(known) = known else {
            self.counters.invalid_framework_messages += 1;
            return warn(
                fx,
                format!("Dropping a message of executor {executor} to framework {framework}"),
            );
        };
        self.counters.valid_framework_messages += 1;
        let message = i::ExecutorToFrameworkMessage {
            slave_id: id_proto(self.id.as_ref()),
            framework_id: framework.to_proto(),
            executor_id: executor.to_proto(),
            data,
        };
        match &known.pid {
            Some(pid) => fx.push(crate::io::Effect::Send {
                to: pid.clone(),
                from: crate::io::ProcessName::Follower,
                message: message.into(),
            }),
            None => self.send_leader(message, fx),
        }
    }

    pub(crate) fn update_framework(
        &mut self,
        message: i::UpdateFrameworkMessage,
        fx: &mut Effects,
    ) {
        let id = FrameworkId::from(&message.framework_id);
        if self.phase != Phase::Running {
            self.counters.invalid_framework_messages += 1;
            return warn(
                fx,
                format!("Dropping an update of framework {id}: the follower is not registered"),
            );
        }
        let Some(framework) = self.frameworks.get_mut(&id).filter(|f| !f.terminating) else {
            return info(
                fx,
                format!("Ignoring an update of framework {id}: it does not run here"),
            );
        };
        if let Some(info) = message.framework_info {
            framework.info = Arc::new(info);
        }
        framework.pid = driver_pid(message.pid.as_deref());
        self.touch(&id);
        // Updates that got lost with the framework's old connection go out again.
        self.resend_updates(&id, fx);
    }

    pub(crate) fn apply_operation(
        &mut self,
        from: &Pid,
        message: i::ApplyOperationMessage,
        fx: &mut Effects,
    ) {
        if !self.is_leader(from, "operation", fx) {
            return;
        }
        let kind = message.operation_info.r#type().as_str_name();
        warn(
            fx,
            format!("Dropping operation {kind}: operations on resources are not supported yet"),
        );
        let status = self.dropped_operation(
            message.operation_info.id.clone(),
            format!("Operation {kind} is not supported by this agent yet"),
        );
        self.send_operation_status(
            message.framework_id,
            status,
            Some(message.operation_uuid),
            fx,
        );
    }

    /// No operation is ever known here: all that the leader asks for were dropped.
    pub(crate) fn reconcile_operations(
        &mut self,
        from: &Pid,
        message: i::ReconcileOperationsMessage,
        fx: &mut Effects,
    ) {
        if !self.is_leader(from, "reconciliation of operations", fx) {
            return;
        }
        for operation in message.operations {
            let status = self.dropped_operation(operation.operation_id, String::new());
            self.send_operation_status(
                message.framework_id.clone(),
                status,
                operation.operation_uuid,
                fx,
            );
        }
    }

    fn dropped_operation(
        &mut self,
        operation_id: Option<v1::OperationId>,
        message: String,
    ) -> v1::OperationStatus {
        v1::OperationStatus {
            operation_id,
            state: OperationState::OperationDropped.into(),
            message: (!message.is_empty()).then_some(message),
            uuid: Some(v1::Uuid {
                value: uuid_bytes(&mut self.rng),
            }),
            agent_id: self.id.as_ref().map(tepui_model::FollowerId::to_proto),
            ..Default::default()
        }
    }

    fn send_operation_status(
        &self,
        framework_id: Option<v1::FrameworkId>,
        status: v1::OperationStatus,
        operation_uuid: Option<v1::Uuid>,
        fx: &mut Effects,
    ) {
        let message = i::UpdateOperationStatusMessage {
            framework_id,
            slave_id: self.id.as_ref().map(tepui_model::FollowerId::to_proto),
            latest_status: Some(status.clone()),
            status,
            operation_uuid,
        };
        self.send_leader(message, fx);
    }
}

/// Where a v0 driver listens. v1 schedulers stand on the wire as `@0.0.0.0:0`.
pub(crate) fn driver_pid(text: Option<&str>) -> Option<Pid> {
    text?.parse().ok().filter(|pid: &Pid| !pid.name.is_empty())
}
