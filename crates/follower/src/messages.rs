//! What frameworks and executors say to each other through us, and framework updates.

use crate::{Follower, Phase, info, io::Effects, state::id_proto, view::ExecutorState, warn};
use std::sync::Arc;
use tepui_model::{ExecutorId, FrameworkId};
use tepui_protocol::{
    internal as i,
    peer::Pid,
    v1::executor::{Event, event},
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
        from: &Pid,
        message: i::UpdateFrameworkMessage,
        fx: &mut Effects,
    ) {
        // The reference believes everybody; who gets an executor's messages is the leader's to say.
        if !self.is_leader(from, "UpdateFrameworkMessage", fx) {
            return;
        }
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
        self.keep_framework(&id, fx);
        // Updates that got lost with the framework's old connection go out again.
        self.resend_updates(&id, fx);
    }
}

/// Where a v0 driver listens. v1 schedulers stand on the wire as `@0.0.0.0:0`.
pub(crate) fn driver_pid(text: Option<&str>) -> Option<Pid> {
    text?.parse().ok().filter(|pid: &Pid| !pid.name.is_empty())
}
