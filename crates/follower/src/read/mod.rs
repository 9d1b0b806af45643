//! Documents made from a [`View`](crate::view::View): the agent's endpoints ([`state`],
//! [`containers`]) and its v1 operator API ([`api`]). Pure; any number of readers, no locks.
//!
//! What a view cannot know (build, statistics of containers, the leader's host name) is handed in.

pub mod api;
pub mod containers;
pub mod model;
pub mod state;

pub use api::answer;
pub use containers::{containers, statistics};
pub use state::{flags, state, version};

use std::collections::BTreeMap;
use tepui_model::container::ContainerId;
use tepui_protocol::v1;

/// What only the shell knows.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// Which build this is; `version` is the protocol's.
    pub version: v1::VersionInfo,
    /// Host name of the leader.
    pub leader_hostname: Option<String>,
    /// `--log_dir`.
    pub log_dir: Option<String>,
    /// `--external_log_file`.
    pub external_log_file: Option<String>,
    /// Statistics of containers, by container.
    pub statistics: BTreeMap<ContainerId, v1::ResourceStatistics>,
    /// Metrics that only the shell can measure; merged over the core's.
    pub metrics: BTreeMap<String, f64>,
}

/// An agent's info as v1 clients see it: `checkpoint` exists between leader and follower only.
pub(crate) fn public_agent_info(info: &v1::AgentInfo) -> v1::AgentInfo {
    v1::AgentInfo {
        checkpoint: None,
        ..info.clone()
    }
}
