//! Settings of a follower, resolved by the shell from flags and detected facts.
//!
//! Defaults are the reference's (`src/slave/flags.cpp`, `src/slave/constants.hpp`).

use crate::{estimator::Estimator, qos::LoadController};
use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};
use tepui_auth::{Credential, Secret};
use tepui_protocol::v1;

/// First wait before an unacknowledged status update is sent again.
pub const UPDATE_RETRY_MIN: Duration = Duration::from_secs(10);
/// Longest wait between two tries of a status update.
pub const UPDATE_RETRY_MAX: Duration = Duration::from_secs(600);
/// Longest wait between two registration tries.
pub const REGISTRATION_RETRY_MAX: Duration = Duration::from_secs(60);
/// How long without a ping the follower believes in its leader when the leader names no time.
pub const PING_TIMEOUT: Duration = Duration::from_secs(75);
/// Between two HEARTBEAT events on an executor's stream.
pub const EXECUTOR_HEARTBEAT_INTERVAL: Duration = Duration::from_secs(30 * 60);
/// Completed frameworks that are remembered.
pub const MAX_COMPLETED_FRAMEWORKS: usize = 50;
/// Completed tasks that are remembered per executor.
pub const MAX_COMPLETED_TASKS_PER_EXECUTOR: usize = 200;
/// CPUs that the executor of a command task counts for.
pub const COMMAND_EXECUTOR_CPUS: f64 = 0.1;
/// Memory in MB that the executor of a command task counts for.
pub const COMMAND_EXECUTOR_MEM_MB: f64 = 32.0;

/// What becomes of executors from before a restart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Recover {
    /// They are taken back.
    #[default]
    Reconnect,
    /// They are ended, and the follower with them.
    Cleanup,
}

/// How a follower authenticates with its leader.
#[derive(Debug, Clone)]
pub struct FollowerAuthentication {
    /// `--credential`
    pub credential: Credential,
    /// `--authentication_backoff_factor`
    pub backoff_factor: Duration,
    /// `--authentication_timeout_min`
    pub timeout_min: Duration,
    /// `--authentication_timeout_max`
    pub timeout_max: Duration,
}

impl FollowerAuthentication {
    /// With the reference's back-off.
    pub fn new(credential: Credential) -> Self {
        Self {
            credential,
            backoff_factor: Duration::from_secs(1),
            timeout_min: Duration::from_secs(5),
            timeout_max: Duration::from_secs(60),
        }
    }
}

/// Settings that do not change while the process lives.
#[derive(Debug, Clone)]
pub struct Config {
    /// Address under which peers reach this process (`slave(1)@address`).
    pub address: SocketAddr,
    /// `--hostname`, or what the machine is called.
    pub hostname: String,
    /// `--work_dir`.
    pub work_dir: PathBuf,
    /// `--launcher_dir`; only seen in the executor info of command tasks and in default executors' commands.
    pub launcher_dir: String,
    /// `--sandbox_directory`: where the sandbox appears inside a container image.
    pub sandbox_directory: String,
    /// Everything this follower offers; see [`crate::resources::startup`].
    pub resources: Vec<v1::Resource>,
    /// `--attributes`.
    pub attributes: Vec<v1::Attribute>,
    /// `--domain`.
    pub domain: Option<v1::DomainInfo>,
    /// `--switch_user`: run tasks as the user of their framework.
    pub switch_user: bool,
    /// `--http_command_executor`; only seen as `MESOS_HTTP_COMMAND_EXECUTOR`.
    pub http_command_executor: bool,
    /// `--executor_environment_variables`.
    pub executor_environment_variables: BTreeMap<String, String>,
    /// `LIBPROCESS_IP` of this process, handed on to executors.
    pub libprocess_ip: Option<String>,
    /// More variables of this process that custom executors need to reach it: `LIBPROCESS_SSL_*`.
    /// What [`Self::executor_environment_variables`] says comes before.
    pub executor_link_variables: BTreeMap<String, String>,
    /// How to prove to leaders who this is; without it no leader is asked to be convinced.
    pub authentication: Option<FollowerAuthentication>,
    /// `--jwt_secret_key`: custom executors get a token signed with it, and must show it
    /// (`--authenticate_http_executors`).
    pub executor_secret_key: Option<Arc<Secret>>,
    /// `--default_container_info`.
    pub default_container_info: Option<v1::ContainerInfo>,
    /// `--executor_registration_timeout`.
    pub executor_registration_timeout: Duration,
    /// `--executor_reregistration_timeout`; executors of checkpointing frameworks learn it.
    pub executor_reregistration_timeout: Duration,
    /// `--executor_shutdown_grace_period`.
    pub executor_shutdown_grace_period: Duration,
    /// `--executor_reregistration_retry_interval`: how often v0 executors from before a restart are
    /// asked again to come back.
    pub executor_reregistration_retry_interval: Option<Duration>,
    /// Whether executors and tasks of checkpointing frameworks are written down and go on when the
    /// follower ends, to be recovered after a restart. Off where the work directory is temporary.
    pub checkpoint_runs: bool,
    /// `--recover`.
    pub recover: Recover,
    /// `--recovery_timeout`; executors of checkpointing frameworks learn it.
    pub recovery_timeout: Duration,
    /// `--registration_backoff_factor`.
    pub registration_backoff_factor: Duration,
    /// `--gc_delay`.
    pub gc_delay: Duration,
    /// `--gc_disk_headroom`.
    pub gc_disk_headroom: f64,
    /// `--max_completed_executors_per_framework`.
    pub max_completed_executors_per_framework: usize,
    /// `--resource_estimator`
    pub estimator: Option<Estimator>,
    /// `--oversubscribed_resources_interval`
    pub oversubscribed_resources_interval: Duration,
    /// `--qos_controller`
    pub qos_controller: Option<LoadController>,
    /// Flags in force by name, secrets masked; for `/flags` and `/state`.
    pub flags: BTreeMap<String, String>,
}

impl Config {
    /// The reference's defaults for everything but where the follower lives.
    pub fn new(
        address: SocketAddr,
        hostname: impl Into<String>,
        work_dir: impl Into<PathBuf>,
    ) -> Self {
        Self {
            address,
            hostname: hostname.into(),
            work_dir: work_dir.into(),
            launcher_dir: "/usr/libexec/mesos".to_owned(),
            sandbox_directory: "/mnt/mesos/sandbox".to_owned(),
            resources: Vec::new(),
            attributes: Vec::new(),
            domain: None,
            switch_user: true,
            http_command_executor: false,
            executor_environment_variables: BTreeMap::new(),
            libprocess_ip: None,
            executor_link_variables: BTreeMap::new(),
            authentication: None,
            executor_secret_key: None,
            default_container_info: None,
            executor_registration_timeout: Duration::from_secs(60),
            executor_reregistration_timeout: Duration::from_secs(2),
            executor_reregistration_retry_interval: None,
            checkpoint_runs: true,
            recover: Recover::Reconnect,
            executor_shutdown_grace_period: Duration::from_secs(5),
            recovery_timeout: Duration::from_secs(15 * 60),
            registration_backoff_factor: Duration::from_secs(1),
            gc_delay: Duration::from_secs(7 * 24 * 3600),
            gc_disk_headroom: 0.1,
            max_completed_executors_per_framework: 150,
            estimator: None,
            oversubscribed_resources_interval: Duration::from_secs(15),
            qos_controller: None,
            flags: BTreeMap::new(),
        }
    }
}
