//! The framework that all measurements run: small command tasks on whatever is offered.

use tepui_client::{
    proto::{
        CommandInfo, Filters, FrameworkInfo, Offer, Resource, TaskInfo, TaskState, TaskStatus,
    },
    scheduler::{Calls, Event, Scheduler, launch},
};
use tepui_tests::cluster::Cluster;

/// Why a measurement ended early.
pub(crate) type Failure = Box<dyn std::error::Error>;

/// What every task asks for: little enough that memory and processors of any machine are not the
/// limit.
const TASK_RESOURCES: &str = "cpus:0.01;mem:1";

/// Room for every measurement at once; what the machine really has does not matter to `true`.
const CLUSTER_RESOURCES: &str = "cpus:64;mem:65536;disk:65536;ports:[31000-32000]";

/// A mixed cluster with the binary's defaults, but for offers: they come back every 50 ms instead of
/// every second, so that the framework, not the wait for an offer, is what is measured.
pub(crate) fn cluster() -> Cluster {
    Cluster::builder()
        .flag("resources", CLUSTER_RESOURCES)
        .start()
}

/// A subscribed framework.
pub(crate) struct Load {
    pub(crate) scheduler: Scheduler,
    pub(crate) calls: Calls,
    resources: Vec<Resource>,
}

impl Load {
    /// Subscribes to the cluster's leader.
    pub(crate) async fn start(cluster: &Cluster) -> Result<Self, Failure> {
        let framework = FrameworkInfo {
            user: "root".to_owned(),
            name: "measure".to_owned(),
            ..Default::default()
        };
        Self::start_as(cluster, framework).await
    }

    /// As [`Self::start`], as a certain framework.
    pub(crate) async fn start_as(
        cluster: &Cluster,
        framework: FrameworkInfo,
    ) -> Result<Self, Failure> {
        let mut scheduler = Scheduler::builder(&cluster.leader.to_string(), framework).build()?;
        let calls = scheduler.calls();
        match scheduler.next().await? {
            Event::Subscribed { .. } => {}
            other => return Err(format!("subscribed, but got {other:?}").into()),
        }
        let resources = tepui_client::resources(TASK_RESOURCES)?;
        Ok(Self {
            scheduler,
            calls,
            resources,
        })
    }

    /// A task that runs `command` in a shell.
    pub(crate) fn task(&self, id: String, offer: &Offer, command: &str) -> TaskInfo {
        let mut task = TaskInfo {
            name: id.clone(),
            agent_id: offer.agent_id.clone(),
            resources: self.resources.clone(),
            command: Some(CommandInfo {
                value: Some(command.to_owned()),
                ..Default::default()
            }),
            ..Default::default()
        };
        task.task_id.value = id;
        task
    }

    /// Launches tasks on an offer; what is left of it comes back with the next allocation.
    pub(crate) async fn launch(&self, offer: Offer, tasks: Vec<TaskInfo>) -> Result<(), Failure> {
        let at_once = Filters {
            refuse_seconds: Some(0.0),
        };
        let operations = if tasks.is_empty() {
            Vec::new()
        } else {
            vec![launch(tasks)]
        };
        Ok(self
            .calls
            .accept_with([offer.id], operations, Some(at_once))
            .await?)
    }

    /// The next event; the end of the subscription is a failure.
    pub(crate) async fn next(&mut self) -> Result<Event, Failure> {
        match self.scheduler.next().await? {
            Event::Disconnected { reason } => Err(format!("disconnected: {reason}").into()),
            Event::Failure(failure) => Err(format!("a failure was reported: {failure:?}").into()),
            event => Ok(event),
        }
    }
}

/// How many tasks fit on an offer.
pub(crate) fn room(offer: &Offer) -> usize {
    let scalar = |name: &str| -> f64 {
        let named = offer.resources.iter().filter(|one| one.name == name);
        named
            .filter_map(|one| one.scalar)
            .map(|one| one.value)
            .sum()
    };
    // The same figures as TASK_RESOURCES.
    (scalar("cpus") / 0.01).min(scalar("mem")).floor() as usize
}

/// Whether a task has ended.
pub(crate) fn ended(status: &TaskStatus) -> bool {
    !matches!(
        status.state(),
        TaskState::TaskStaging | TaskState::TaskStarting | TaskState::TaskRunning
    )
}

/// The value at `percent` of sorted values: the smallest that so many are not above.
pub(crate) fn percentile(sorted: &[f64], percent: usize) -> f64 {
    let at = (sorted.len() * percent).div_ceil(100).max(1) - 1;
    sorted.get(at).copied().unwrap_or(f64::NAN)
}
