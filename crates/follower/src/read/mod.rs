//! Documents made from a [`View`](crate::view::View). Pure; any number of readers, no locks.

use tepui_protocol::v1;

/// An agent's info as v1 clients see it: `checkpoint` exists between leader and follower only.
pub(crate) fn public_agent_info(info: &v1::AgentInfo) -> v1::AgentInfo {
    v1::AgentInfo {
        checkpoint: None,
        ..info.clone()
    }
}
