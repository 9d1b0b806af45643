//! Operators: calls that change something, and streams that tell of every change.
//!
//! Follows `docs/operator-http-api.md` and `src/master/http.cpp`. Reads never come here: the shell
//! answers them from the view.

use crate::{
    Effect, Leader, Level, Reply, Via, config::HEARTBEAT_INTERVAL, resources, roster::time_info,
    state::Framework, timers::Timer, validate,
};
use std::sync::Arc;
use tepui_model::{FollowerId, FrameworkId, RequestId, StreamId, Time, resources::Format};
use tepui_protocol::v1::{
    self,
    master::{
        self,
        call::Type,
        event,
        response::{get_agents, get_frameworks},
    },
};

impl Leader {
    pub(crate) fn operator(
        &mut self,
        request: RequestId,
        call: master::Call,
        via: Via,
        principal: Option<&str>,
    ) {
        let checked = match via {
            Via::V1 => validate::call::operator(&call)
                .map_err(|error| format!("Failed to validate master::Call: {error}")),
            // Endpoints look at resources only once they know where they are to be.
            Via::Endpoint => validate::call::carries_its_part(&call).map_err(str::to_owned),
        };
        if let Err(message) = checked {
            return self.refuse(request, 400, message);
        }
        match call.r#type() {
            Type::Teardown => {
                let id = call
                    .teardown
                    .map(|teardown| FrameworkId::from(&teardown.framework_id));
                self.operator_teardown(request, id.as_ref());
            }
            Type::MarkAgentGone => {
                let id = call
                    .mark_agent_gone
                    .map(|gone| FollowerId::from(&gone.agent_id));
                self.operator_mark_gone(request, id.as_ref());
            }
            // Validation has seen that each of these carries its part.
            Type::DrainAgent => {
                let reply = call.drain_agent.map(|part| self.operator_drain(part));
                self.reply(request, reply.unwrap_or(Reply::Ok));
            }
            Type::DeactivateAgent => {
                let part = call.deactivate_agent;
                let reply = part.map(|part| self.operator_deactivate(&part));
                self.reply(request, reply.unwrap_or(Reply::Ok));
            }
            Type::ReactivateAgent => {
                let part = call.reactivate_agent;
                let reply = part.map(|part| self.operator_reactivate(&part));
                self.reply(request, reply.unwrap_or(Reply::Ok));
            }
            Type::UpdateMaintenanceSchedule => {
                let part = call.update_maintenance_schedule;
                let schedule = part.map(|part| part.schedule).unwrap_or_default();
                let reply = self.operator_schedule(schedule);
                self.reply(request, reply);
            }
            Type::StartMaintenance => {
                let part = call.start_maintenance.unwrap_or_default();
                let reply = self.operator_machines_down(&part.machines);
                self.reply(request, reply);
            }
            Type::StopMaintenance => {
                let part = call.stop_maintenance.unwrap_or_default();
                let reply = self.operator_machines_up(&part.machines);
                self.reply(request, reply);
            }
            Type::UpdateWeights => {
                let part = call.update_weights.unwrap_or_default();
                let reply = self.operator_weights(&part.weight_infos);
                self.reply(request, reply);
            }
            Type::UpdateQuota => {
                let part = call.update_quota.unwrap_or_default();
                let reply = self.operator_update_quota(&part);
                self.reply(request, reply);
            }
            Type::SetQuota => {
                let part = call.set_quota.unwrap_or_default();
                let reply = self.operator_set_quota(&part.quota_request);
                self.reply(request, reply);
            }
            Type::RemoveQuota => {
                let part = call.remove_quota.unwrap_or_default();
                let reply = self.operator_remove_quota(&part.role, via);
                self.reply(request, reply);
            }
            Type::ReserveResources
            | Type::UnreserveResources
            | Type::CreateVolumes
            | Type::DestroyVolumes
            | Type::GrowVolume
            | Type::ShrinkVolume => {
                let reply = match resources::asked(&call) {
                    Some((at, operation)) => self.operator_resources(&at, operation, principal),
                    None => Reply::Ok,
                };
                self.reply(request, reply);
            }
            other => {
                let name = other.as_str_name();
                self.notice(
                    Level::Warning,
                    format!("Refused the operator call {name}: it is not supported yet"),
                );
                self.refuse(request, 501, format!("{name} is not supported yet"));
            }
        }
    }

    fn operator_teardown(&mut self, request: RequestId, id: Option<&FrameworkId>) {
        match id.filter(|id| self.state.framework(id).is_some()) {
            None => self.refuse(request, 400, "No framework found with specified ID"),
            Some(id) => {
                self.teardown(id);
                self.reply(request, Reply::Ok);
            }
        }
    }

    fn operator_mark_gone(&mut self, request: RequestId, id: Option<&FollowerId>) {
        let Some(id) = id else {
            return self.refuse(request, 404, "Agent '' not found");
        };
        if self.mark_gone(id) {
            self.reply(request, Reply::Ok);
        } else {
            self.refuse(request, 404, format!("Agent '{id}' not found"));
        }
    }

    /// `SUBSCRIBE`: the whole state, then every change. The oldest stream makes room when there
    /// are too many.
    pub(crate) fn operator_subscribe(&mut self, request: RequestId, stream: StreamId) {
        self.out.push(Effect::OpenStream { request, stream });
        self.out.push(Effect::OperatorSnapshot { stream });
        self.operator_streams.retain(|other| *other != stream);
        self.operator_streams.push_back(stream);
        while self.operator_streams.len() > self.config.max_operator_streams.max(1) {
            let Some(oldest) = self.operator_streams.pop_front() else {
                break;
            };
            self.notice(
                Level::Warning,
                format!("Closed the oldest of too many operator streams, {oldest}"),
            );
            self.out.push(Effect::CloseStream { stream: oldest });
        }
        if !self.timers.is_set(&Timer::OperatorHeartbeat) {
            self.timers
                .set(Timer::OperatorHeartbeat, self.now + HEARTBEAT_INTERVAL);
        }
    }

    pub(crate) fn operator_stream_closed(&mut self, stream: StreamId) {
        self.operator_streams.retain(|other| *other != stream);
        if self.operator_streams.is_empty() {
            self.timers.cancel(&Timer::OperatorHeartbeat);
        }
    }

    pub(crate) fn operator_heartbeat(&mut self) {
        if self.operator_streams.is_empty() {
            return;
        }
        self.out.push(Effect::OperatorEvent(Arc::new(operator_event(
            event::Type::Heartbeat,
        ))));
        self.timers
            .set(Timer::OperatorHeartbeat, self.now + HEARTBEAT_INTERVAL);
    }

    pub(crate) fn framework_added(&mut self, id: &FrameworkId) -> Option<master::Event> {
        let framework = self.describe_framework(id)?;
        let mut event = operator_event(event::Type::FrameworkAdded);
        event.framework_added = Some(event::FrameworkAdded { framework });
        Some(event)
    }

    pub(crate) fn framework_updated(&mut self, id: &FrameworkId) -> Option<master::Event> {
        let framework = self.describe_framework(id)?;
        let mut event = operator_event(event::Type::FrameworkUpdated);
        event.framework_updated = Some(event::FrameworkUpdated { framework });
        Some(event)
    }

    fn describe_framework(&self, id: &FrameworkId) -> Option<get_frameworks::Framework> {
        let framework: &Framework = self.state.framework(id)?;
        Some(get_frameworks::Framework {
            framework_info: v1::FrameworkInfo::clone(&framework.info),
            active: framework.active,
            connected: framework.is_connected(),
            recovered: framework.is_recovered(),
            registered_time: Some(time_info(framework.registered)),
            reregistered_time: framework.reregistered.map(time_info),
            allocated_resources: framework.used.to_proto_as(Format::Endpoint),
            offered_resources: framework.offered.to_proto_as(Format::Endpoint),
            ..Default::default()
        })
    }

    pub(crate) fn follower_added(&mut self, id: &FollowerId) -> Option<master::Event> {
        let follower = self.state.follower(id)?;
        let used = follower.used.values().sum::<tepui_model::Resources>();
        let agent = get_agents::Agent {
            agent_info: v1::AgentInfo::clone(&follower.info),
            active: follower.active,
            deactivated: Some(self.state.roster.is_deactivated(id)),
            drain_info: self.state.roster.marks(id).drain,
            estimated_drain_start_time: follower.draining_since.map(whole_seconds),
            version: follower.version.clone(),
            pid: Some(follower.pid.to_string()),
            registered_time: Some(time_info(follower.registered)),
            reregistered_time: follower.reregistered.map(time_info),
            total_resources: follower.total.to_proto_as(Format::Endpoint),
            allocated_resources: used.to_proto_as(Format::Endpoint),
            offered_resources: follower.offered.to_proto_as(Format::Endpoint),
            capabilities: follower.capabilities.as_ref().clone(),
            ..Default::default()
        };
        let mut event = operator_event(event::Type::AgentAdded);
        event.agent_added = Some(event::AgentAdded { agent });
        Some(event)
    }
}

/// When draining began is only known to the second.
pub(crate) fn whole_seconds(time: Time) -> v1::TimeInfo {
    const SECOND: u64 = 1_000_000_000;
    time_info(Time::from_nanos(time.nanos() / SECOND * SECOND))
}

fn operator_event(kind: event::Type) -> master::Event {
    let mut event = master::Event::default();
    event.set_type(kind);
    event
}

/// `TASK_ADDED`
pub(crate) fn task_added(task: v1::Task) -> master::Event {
    let mut event = operator_event(event::Type::TaskAdded);
    event.task_added = Some(event::TaskAdded { task });
    event
}

/// `TASK_UPDATED`
pub(crate) fn task_updated(task: &v1::Task, status: &v1::TaskStatus) -> master::Event {
    let mut event = operator_event(event::Type::TaskUpdated);
    event.task_updated = Some(event::TaskUpdated {
        framework_id: task.framework_id.clone(),
        status: status.clone(),
        state: task.state,
    });
    event
}

/// `AGENT_REMOVED`
pub(crate) fn follower_removed(id: &FollowerId) -> master::Event {
    let mut event = operator_event(event::Type::AgentRemoved);
    event.agent_removed = Some(event::AgentRemoved {
        agent_id: id.to_proto(),
    });
    event
}

/// `FRAMEWORK_REMOVED`
pub(crate) fn framework_removed(framework_info: v1::FrameworkInfo) -> master::Event {
    let mut event = operator_event(event::Type::FrameworkRemoved);
    event.framework_removed = Some(event::FrameworkRemoved { framework_info });
    event
}
