//! What readers want to know and a view does not hold: what containers use, and how the machine
//! and this process do. Measuring reads files; it happens on the thread of whoever asked.

use crate::{clock::Clock, containers::Containers, system};
use std::collections::BTreeMap;
use tepui_containers::linux::Usage;
use tepui_follower::{
    read::Facts,
    view::{ExecutorState, ExecutorView, View},
};
use tepui_model::{Time, container::ContainerId};
use tepui_protocol::{MESOS_VERSION, v1};

/// Where facts come from. Cheap to clone.
#[derive(Clone)]
pub(super) struct FactSource {
    pub(super) containers: Containers,
    pub(super) log_dir: Option<String>,
    pub(super) external_log_file: Option<String>,
    pub(super) clock: Clock,
}

impl FactSource {
    /// The facts that cost nothing.
    pub(super) fn plain(&self, view: &View) -> Facts {
        Facts {
            version: v1::VersionInfo {
                version: MESOS_VERSION.to_owned(),
                ..Default::default()
            },
            leader_hostname: view
                .leader
                .as_ref()
                .map(|leader| leader.address.ip().to_string()),
            log_dir: self.log_dir.clone(),
            external_log_file: self.external_log_file.clone(),
            ..Default::default()
        }
    }

    /// With what containers use.
    pub(super) fn with_statistics(&self, view: &View) -> Facts {
        Facts {
            statistics: self.statistics(view),
            ..self.plain(view)
        }
    }

    /// With how the machine does.
    pub(super) fn with_metrics(&self, view: &View) -> Facts {
        let metrics = system::stats()
            .into_iter()
            .map(|(name, value)| (format!("system/{name}"), value));
        Facts {
            metrics: metrics.collect(),
            ..self.plain(view)
        }
    }

    fn statistics(&self, view: &View) -> BTreeMap<ContainerId, v1::ResourceStatistics> {
        let executors = view
            .frameworks
            .values()
            .flat_map(|framework| framework.executors.values());
        let live = executors.filter(|executor| executor.state != ExecutorState::Terminated);
        let measured = live.map(|executor| {
            let usage = self.containers.usage(&executor.container);
            (
                executor.container.clone(),
                statistics(executor, usage, self.clock.now()),
            )
        });
        measured.collect()
    }
}

fn statistics(executor: &ExecutorView, usage: Option<Usage>, now: Time) -> v1::ResourceStatistics {
    let limit = |name| {
        let tasks = executor.launched.values().flat_map(|task| &task.resources);
        let queued = executor.queued.iter().flat_map(|task| &task.resources);
        let all = executor.info.resources.iter().chain(tasks).chain(queued);
        all.filter(|resource| resource.name == name)
            .filter_map(|r| r.scalar.as_ref())
            .map(|s| s.value)
            .sum::<f64>()
    };
    let memory = (limit("mem") * f64::from(1 << 20)) as u64;
    // Shares, not hard limits, and no counts of processes: what the reference's `posix` isolators say.
    let mut statistics = v1::ResourceStatistics {
        timestamp: now.seconds(),
        cpus_soft_limit: Some(limit("cpus")),
        mem_limit_bytes: Some(memory),
        mem_soft_limit_bytes: Some(memory),
        ..Default::default()
    };
    if let Some(usage) = usage {
        statistics.cpus_user_time_secs = Some(usage.cpus_user_time_secs);
        statistics.cpus_system_time_secs = Some(usage.cpus_system_time_secs);
        statistics.mem_rss_bytes = Some(usage.mem_rss_bytes);
    }
    statistics
}
