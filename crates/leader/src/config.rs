//! What the operator can set. The shell fills it from flags; [`Config::default`] is the reference's
//! set of defaults (`src/master/flags.cpp`, `docs/configuration/master.md`).

use std::{collections::BTreeSet, time::Duration};

/// Time between two heartbeats on every event stream (`docs/scheduler-http-api.md`).
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(15);

/// Followers older than this are not talked to (`MINIMUM_AGENT_VERSION`).
pub const OLDEST_FOLLOWER_VERSION: (u64, u64, u64) = (1, 0, 0);

/// How many removed followers are remembered, so that late messages from them are known as such.
pub const REMOVED_FOLLOWERS_KEPT: usize = 100_000;

/// Settings of a leader.
#[derive(Debug, Clone)]
pub struct Config {
    /// `--agent_ping_timeout`: a follower is pinged this often.
    pub ping_timeout: Duration,
    /// `--max_agent_ping_timeouts`: pings in a row that may stay unanswered.
    pub max_ping_timeouts: u32,
    /// `--agent_reregister_timeout`: how long a follower may stay away, after its link broke or
    /// after a new leader was elected.
    pub reregister_timeout: Duration,
    /// `--agent_removal_rate_limit`: no more followers are declared unreachable than this.
    pub removal_rate: Option<crate::removal::RemovalRate>,
    /// `--recovery_agent_removal_limit`: if more of the followers in the registry are missing after
    /// [`Self::reregister_timeout`], none of them is given up.
    pub recovery_removal_limit_percent: f64,
    /// `--registry_gc_interval`: how often what is old in the registry is forgotten.
    pub registry_gc_interval: Duration,
    /// `--registry_max_agent_age`: unreachable and gone followers are remembered for so long.
    pub registry_max_follower_age: Duration,
    /// `--registry_max_agent_count`: and so many of each.
    pub registry_max_followers: usize,
    /// `--allocator_agent_recovery_factor`: with quotas, the share of followers to be back before
    /// offers are made.
    pub allocator_recovery_factor: f64,
    /// `--allocator_recovery_timeout`: the longest wait for them.
    pub allocator_recovery_timeout: Duration,
    /// `--offer_timeout`: offers older than this are rescinded.
    pub offer_timeout: Option<Duration>,
    /// `--held_offers_alarm`: a framework that has held an offer for so long is named in the log.
    pub held_offers_alarm: Option<Duration>,
    /// `--max_completed_frameworks`
    pub max_completed_frameworks: usize,
    /// `--max_completed_tasks_per_framework`
    pub max_completed_tasks_per_framework: usize,
    /// `--max_unreachable_tasks_per_framework`
    pub max_unreachable_tasks_per_framework: usize,
    /// `--max_operator_event_stream_subscribers`
    pub max_operator_streams: usize,
    /// `--root_submissions`: whether frameworks may run as root.
    pub root_submissions: bool,
    /// `--require_agent_domain`
    pub require_follower_domain: bool,
    /// `--roles`: the only roles frameworks may subscribe with; `None` allows all.
    pub roles: Option<BTreeSet<String>>,
    /// `--weights` of roles; they count until the registry has some.
    pub weights: std::collections::BTreeMap<String, f64>,
    /// Who has to prove who it is.
    pub authentication: Authentication,
    /// How processes prove it. With credentials, whoever wants to can, asked to or not.
    pub authenticator: tepui_auth::authenticator::Options,
    /// `--rate_limits`
    pub rate_limits: Option<crate::limits::RateLimits>,
    /// What the allocator is told.
    pub allocator: tepui_allocator::Options,
}

/// Who has to be authenticated before it may register.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Authentication {
    /// `--authenticate_frameworks`: v0 drivers. v1 schedulers are authenticated by HTTP, which is
    /// the shell's.
    pub frameworks: bool,
    /// `--authenticate_agents`
    pub followers: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            ping_timeout: Duration::from_secs(15),
            max_ping_timeouts: 5,
            reregister_timeout: Duration::from_secs(600),
            removal_rate: None,
            recovery_removal_limit_percent: 100.0,
            registry_gc_interval: Duration::from_secs(15 * 60),
            registry_max_follower_age: Duration::from_secs(14 * 24 * 3600),
            registry_max_followers: 100 * 1024,
            allocator_recovery_factor: 0.8,
            allocator_recovery_timeout: Duration::from_secs(600),
            offer_timeout: None,
            held_offers_alarm: Some(Duration::from_secs(600)),
            max_completed_frameworks: 50,
            max_completed_tasks_per_framework: 1000,
            max_unreachable_tasks_per_framework: 1000,
            max_operator_streams: 1000,
            root_submissions: true,
            require_follower_domain: false,
            roles: None,
            weights: Default::default(),
            authentication: Authentication::default(),
            authenticator: Default::default(),
            rate_limits: None,
            allocator: tepui_allocator::Options::default(),
        }
    }
}

impl Config {
    /// What followers are told: without a ping for this long they look for a leader again.
    pub(crate) fn total_ping_timeout(&self) -> Duration {
        self.ping_timeout.saturating_mul(self.max_ping_timeouts)
    }

    /// Whether frameworks may use a role.
    pub(crate) fn allows_role(&self, role: &str) -> bool {
        self.roles
            .as_ref()
            .is_none_or(|roles| role == "*" || roles.contains(role))
    }
}
