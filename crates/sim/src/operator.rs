//! An operator who drains machines and takes them back, as the plan says: asks the leader what is, and
//! says again what is to be until it is so.

use std::collections::BTreeMap;
use tepui_leader::View;
use tepui_protocol::v1::{
    DrainState,
    master::{self, call},
};

/// What is to be.
#[derive(Debug, Default)]
pub(crate) struct Operator {
    /// Names of machines that are to be drained, and how many faults say so.
    drained: BTreeMap<String, u32>,
}

impl Operator {
    pub(crate) fn drain(&mut self, machine: String) {
        *self.drained.entry(machine).or_default() += 1;
    }

    pub(crate) fn take_back(&mut self, machine: &str) {
        if let Some(count) = self.drained.get_mut(machine) {
            *count = count.saturating_sub(1);
        }
    }

    /// What to ask of a leader that shows this.
    pub(crate) fn calls(&self, view: &View) -> Vec<master::Call> {
        let followers = view.followers.values();
        let calls = followers.filter_map(|follower| {
            let name = &follower.info.hostname;
            let wanted = self.drained.get(name).is_some_and(|count| *count > 0);
            let state = follower.drain.as_ref().map(|drain| drain.state());
            let agent_id = follower.id.to_proto();
            let mut call = master::Call::default();
            match (wanted, follower.deactivated) {
                (true, false) => {
                    call.set_type(call::Type::DrainAgent);
                    call.drain_agent = Some(call::DrainAgent {
                        agent_id,
                        ..Default::default()
                    });
                }
                // It is told no to while the draining goes on.
                (false, true) if state != Some(DrainState::Draining) => {
                    call.set_type(call::Type::ReactivateAgent);
                    call.reactivate_agent = Some(call::ReactivateAgent { agent_id });
                }
                _ => return None,
            }
            Some(call)
        });
        calls.collect()
    }
}
