//! Where leaders are elected (`--zk`), and where they keep the registry (`--registry`).

use super::RoleError;
use crate::flags::{FlagError, Settings, shown};
use std::{path::Path, sync::Arc, time::Duration};
use tepui_model::units;
use tepui_node::{
    disk::registry::RegistryInMemory,
    leader::{LeaderOptions, ZooKeeperElection},
};

/// Shorter sessions than servers grant with the fastest clock that anybody runs them with.
const SESSION_TIMEOUT_MIN: Duration = Duration::from_millis(100);
/// Longer ones would leave a cluster without a leader for longer than anybody wants.
const SESSION_TIMEOUT_MAX: Duration = Duration::from_secs(3600);

/// Whether this leader is one of several.
pub(super) fn is_elected(settings: &Settings) -> bool {
    zookeeper(settings).is_some()
}

/// What the announcement says besides the address.
pub(super) fn note(settings: &Settings) -> String {
    match zookeeper(settings) {
        Some(url) => format!("  stands for election at {}", shown("zk", url)),
        None => String::new(),
    }
}

/// As in the reference, an empty one is none.
fn zookeeper(settings: &Settings) -> Option<&str> {
    settings.text("zk").filter(|url| !url.is_empty())
}

/// Settings of the election and of the registry. `work_dir` holds the registry of a leader that is
/// alone.
pub(super) fn apply(
    settings: &Settings,
    work_dir: Option<&Path>,
    options: &mut LeaderOptions,
) -> Result<(), RoleError> {
    let durable = settings.parsed("registry", |text| match text {
        "replicated_log" => Ok(true),
        "in_memory" => Ok(false),
        _ => Err("it is neither replicated_log nor in_memory"),
    })?;
    let durable = durable.unwrap_or(true);
    match zookeeper(settings) {
        Some(url) => election(settings, url)?.apply(options),
        None if durable && work_dir.is_none() => {
            return Err(RoleError::Missing {
                flag: "work_dir",
                why: "the registry is kept there",
            });
        }
        None => {}
    }
    if !durable {
        options.registry = Arc::new(RegistryInMemory);
        tracing::warn!("--registry=in_memory: a leader that starts knows no follower");
    }
    Ok(())
}

fn election(settings: &Settings, url: &str) -> Result<ZooKeeperElection, FlagError> {
    let timeout = settings.parsed("zk_session_timeout", |text| {
        let timeout = units::parse_duration(text).map_err(|error| error.to_string())?;
        match (SESSION_TIMEOUT_MIN..=SESSION_TIMEOUT_MAX).contains(&timeout) {
            true => Ok(timeout),
            false => Err("it is not between 100ms and 1hrs".to_owned()),
        }
    })?;
    let timeout = timeout.unwrap_or(Duration::from_secs(10));
    // Without the value, which may hold a password.
    ZooKeeperElection::new(url, timeout).map_err(|error| FlagError::Invalid {
        name: "zk",
        from: settings.source("zk"),
        reason: error.to_string(),
    })
}
