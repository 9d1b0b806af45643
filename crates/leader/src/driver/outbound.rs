//! Events, as the messages that drivers get for them (`src/sched/sched.cpp` takes these).

use crate::state::State;
use std::sync::Arc;
use tepui_model::{FollowerId, FrameworkId, tasks::TaskState};
use tepui_protocol::{
    internal,
    peer::{NO_PROCESS, PeerMessage},
    v1::{
        self,
        scheduler::{self, event},
    },
};

/// What drivers are told besides what the event says.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Hint {
    /// `SUBSCRIBED`: it is the one that was there before.
    pub(crate) again: bool,
    /// `UPDATE`: the state of the task by now.
    pub(crate) latest_state: Option<TaskState>,
}

/// The message for an event; none if v0 has no such event.
pub(crate) fn translate(
    state: &State,
    framework: &FrameworkId,
    event: Arc<scheduler::Event>,
    hint: Hint,
) -> Option<PeerMessage> {
    // Events for one framework are nobody else's: taken apart without a copy.
    let event = Arc::unwrap_or_clone(event);
    let framework_id = framework.to_proto();
    Some(match event.r#type() {
        event::Type::Subscribed => subscribed(event.subscribed?, hint.again)?,
        event::Type::Offers => {
            let offers = event.offers?.offers;
            let pids = pids(state, offers.iter().map(|offer| &offer.agent_id));
            internal::ResourceOffersMessage { offers, pids }.into()
        }
        event::Type::InverseOffers => {
            let inverse_offers = event.inverse_offers?.inverse_offers;
            let agents = inverse_offers.iter().filter_map(|o| o.agent_id.as_ref());
            let pids = pids(state, agents);
            internal::InverseOffersMessage {
                inverse_offers,
                pids,
            }
            .into()
        }
        event::Type::Rescind => {
            let offer_id = event.rescind?.offer_id;
            internal::RescindResourceOfferMessage { offer_id }.into()
        }
        event::Type::RescindInverseOffer => {
            let inverse_offer_id = event.rescind_inverse_offer?.inverse_offer_id;
            internal::RescindInverseOfferMessage { inverse_offer_id }.into()
        }
        event::Type::Update => {
            update(state, framework_id, event.update?.status, hint.latest_state).into()
        }
        event::Type::Message => {
            let message = event.message?;
            internal::ExecutorToFrameworkMessage {
                slave_id: message.agent_id,
                framework_id,
                executor_id: message.executor_id,
                data: message.data,
            }
            .into()
        }
        event::Type::Failure => failure(framework_id, event.failure?)?,
        event::Type::Error => {
            let message = event.error?.message;
            internal::FrameworkErrorMessage { message }.into()
        }
        // Feedback on operations and heartbeats came with v1.
        event::Type::UpdateOperationStatus | event::Type::Heartbeat | event::Type::Unknown => {
            return None;
        }
    })
}

fn subscribed(subscribed: event::Subscribed, again: bool) -> Option<PeerMessage> {
    let event::Subscribed {
        framework_id,
        master_info,
        ..
    } = subscribed;
    let master_info = master_info?;
    Some(if again {
        internal::FrameworkReregisteredMessage {
            framework_id,
            master_info,
        }
        .into()
    } else {
        internal::FrameworkRegisteredMessage {
            framework_id,
            master_info,
        }
        .into()
    })
}

/// Where followers are: drivers send messages for executors there.
fn pids<'a>(state: &State, agents: impl Iterator<Item = &'a v1::AgentId>) -> Vec<String> {
    agents.map(|agent| address(state, agent)).collect()
}

fn address(state: &State, agent: &v1::AgentId) -> String {
    state
        .follower(&FollowerId::from(agent))
        .map_or_else(|| NO_PROCESS.to_owned(), |f| f.pid.to_string())
}

/// `pid` says where the update comes from. Updates without a UUID are the leader's own and want no
/// acknowledgement; drivers before 0.24 know them by the address of nobody.
fn update(
    state: &State,
    framework_id: v1::FrameworkId,
    status: v1::TaskStatus,
    latest_state: Option<TaskState>,
) -> internal::StatusUpdateMessage {
    let pid = match (&status.uuid, &status.agent_id) {
        (Some(_), Some(agent)) => address(state, agent),
        _ => NO_PROCESS.to_owned(),
    };
    let update = internal::StatusUpdate {
        framework_id,
        executor_id: status.executor_id.clone(),
        slave_id: status.agent_id.clone(),
        timestamp: status.timestamp(),
        uuid: status.uuid.clone(),
        latest_state: latest_state.map(Into::into),
        status,
    };
    internal::StatusUpdateMessage {
        update,
        pid: Some(pid),
    }
}

fn failure(framework_id: v1::FrameworkId, failure: event::Failure) -> Option<PeerMessage> {
    let slave_id = failure.agent_id?;
    Some(match failure.executor_id {
        None => internal::LostSlaveMessage { slave_id }.into(),
        Some(executor_id) => internal::ExitedExecutorMessage {
            slave_id,
            framework_id,
            executor_id,
            status: failure.status.unwrap_or_default(),
        }
        .into(),
    })
}
