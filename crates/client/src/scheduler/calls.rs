//! Calls of the v1 scheduler API, one method each.

use super::{Session, lock};
use crate::{
    Error,
    detect::Target,
    http::{Http, expect_success},
    proto::{
        AgentId, ExecutorId, ExecutorInfo, Filters, FrameworkId, FrameworkInfo, KillPolicy,
        OfferId, OperationId, OperationStatus, Resource, TaskGroupInfo, TaskId, TaskInfo,
        TaskStatus, offer,
        scheduler::{self, call},
        value,
    },
};
use std::sync::{Arc, Mutex};

pub(super) const PATH: &str = "/api/v1/scheduler";

/// Makes calls for one framework. Each returns once the leader has accepted the call (202), which
/// says nothing of its effect: that comes as an event.
///
/// Errors of every method: [`Error::NotSubscribed`] between two subscriptions, [`Error::Status`]
/// with the leader's words when the call is malformed, [`Error::Connect`] when it did not get through,
/// [`Error::Replaced`] when another leader was elected meanwhile.
#[derive(Clone)]
pub struct Calls {
    pub(super) http: Http,
    target: Target,
    pub(super) session: Arc<Mutex<Session>>,
}

impl Calls {
    pub(super) fn new(http: Http, target: Target, session: Arc<Mutex<Session>>) -> Self {
        Self {
            http,
            target,
            session,
        }
    }

    /// Id of the framework once it has subscribed.
    pub fn framework_id(&self) -> Option<FrameworkId> {
        lock(&self.session).framework_id.clone()
    }

    /// Sends any call; `framework_id` is filled in.
    #[allow(missing_docs)]
    pub async fn send(&self, kind: call::Type, mut call: scheduler::Call) -> Result<(), Error> {
        let link = {
            let session = lock(&self.session);
            call.framework_id.clone_from(&session.framework_id);
            session.link.clone()
        };
        call.r#type = Some(kind as i32);
        let link = link.ok_or(Error::NotSubscribed)?;
        let answered = async {
            let stream = Some(link.stream_id.as_str());
            let (address, response) = self.http.post(&link.address, PATH, stream, &call).await?;
            expect_success(&address, response).await.map(drop)
        };
        tokio::select! {
            biased;
            answer = answered => answer,
            // A leader that was cut off would not answer for as long as a call may take.
            () = self.target.replaced(&link.leader) => Err(Error::Replaced {
                address: link.address.clone(),
            }),
        }
    }

    /// Uses offers of one follower. With no operation it declines them.
    pub async fn accept(
        &self,
        offers: impl IntoIterator<Item = OfferId>,
        operations: Vec<offer::Operation>,
    ) -> Result<(), Error> {
        self.accept_with(offers, operations, None).await
    }

    /// As [`Calls::accept`]; `filters` say for how long what is left over is not wanted again.
    pub async fn accept_with(
        &self,
        offers: impl IntoIterator<Item = OfferId>,
        operations: Vec<offer::Operation>,
        filters: Option<Filters>,
    ) -> Result<(), Error> {
        let accept = call::Accept {
            offer_ids: offers.into_iter().collect(),
            operations,
            filters,
        };
        self.send(
            call::Type::Accept,
            scheduler::Call {
                accept: Some(accept),
                ..Default::default()
            },
        )
        .await
    }

    /// Gives offers back; they are not made again for five seconds.
    pub async fn decline(&self, offers: impl IntoIterator<Item = OfferId>) -> Result<(), Error> {
        self.decline_for(offers, None).await
    }

    /// Gives offers back and says for how long (seconds) not to make them again.
    pub async fn decline_for(
        &self,
        offers: impl IntoIterator<Item = OfferId>,
        refuse_seconds: Option<f64>,
    ) -> Result<(), Error> {
        let decline = call::Decline {
            offer_ids: offers.into_iter().collect(),
            filters: refuse_seconds.map(|seconds| Filters {
                refuse_seconds: Some(seconds),
            }),
        };
        self.send(
            call::Type::Decline,
            scheduler::Call {
                decline: Some(decline),
                ..Default::default()
            },
        )
        .await
    }

    /// Wants offers again, for these roles (all when empty), and forgets all filters.
    pub async fn revive(&self, roles: Vec<String>) -> Result<(), Error> {
        let revive = call::Revive { roles };
        self.send(
            call::Type::Revive,
            scheduler::Call {
                revive: Some(revive),
                ..Default::default()
            },
        )
        .await
    }

    /// Wants no offers for these roles (all when empty).
    pub async fn suppress(&self, roles: Vec<String>) -> Result<(), Error> {
        let suppress = call::Suppress { roles };
        self.send(
            call::Type::Suppress,
            scheduler::Call {
                suppress: Some(suppress),
                ..Default::default()
            },
        )
        .await
    }

    /// Kills a task, wherever it is in its life.
    pub async fn kill(
        &self,
        task_id: TaskId,
        agent_id: Option<AgentId>,
        kill_policy: Option<KillPolicy>,
    ) -> Result<(), Error> {
        let kill = call::Kill {
            task_id,
            agent_id,
            kill_policy,
        };
        self.send(
            call::Type::Kill,
            scheduler::Call {
                kill: Some(kill),
                ..Default::default()
            },
        )
        .await
    }

    /// Shuts an executor down with all its tasks.
    pub async fn shutdown(&self, executor_id: ExecutorId, agent_id: AgentId) -> Result<(), Error> {
        let shutdown = call::Shutdown {
            executor_id,
            agent_id,
        };
        self.send(
            call::Type::Shutdown,
            scheduler::Call {
                shutdown: Some(shutdown),
                ..Default::default()
            },
        )
        .await
    }

    /// Says that an update is safe with the framework. Updates without a uuid need none, and nothing
    /// is sent for them.
    pub async fn acknowledge(&self, status: &TaskStatus) -> Result<(), Error> {
        let (Some(uuid), Some(agent_id)) = (&status.uuid, &status.agent_id) else {
            return Ok(());
        };
        let acknowledge = call::Acknowledge {
            agent_id: agent_id.clone(),
            task_id: status.task_id.clone(),
            uuid: uuid.clone(),
        };
        let call = scheduler::Call {
            acknowledge: Some(acknowledge),
            ..Default::default()
        };
        self.send(call::Type::Acknowledge, call).await
    }

    /// Asks for the state of these tasks, or of all when empty; the answers are updates.
    pub async fn reconcile(
        &self,
        tasks: impl IntoIterator<Item = (TaskId, Option<AgentId>)>,
    ) -> Result<(), Error> {
        let tasks = tasks
            .into_iter()
            .map(|(task_id, agent_id)| call::reconcile::Task { task_id, agent_id })
            .collect();
        let call = scheduler::Call {
            reconcile: Some(call::Reconcile { tasks }),
            ..Default::default()
        };
        self.send(call::Type::Reconcile, call).await
    }

    /// Says that what became of an operation is safe with the framework. Statuses without a uuid need
    /// none, and nothing is sent for them.
    pub async fn acknowledge_operation(&self, status: &OperationStatus) -> Result<(), Error> {
        let (Some(uuid), Some(operation_id)) = (&status.uuid, &status.operation_id) else {
            return Ok(());
        };
        let acknowledge = call::AcknowledgeOperationStatus {
            agent_id: status.agent_id.clone(),
            resource_provider_id: status.resource_provider_id.clone(),
            uuid: uuid.value.clone(),
            operation_id: operation_id.clone(),
        };
        let call = scheduler::Call {
            acknowledge_operation_status: Some(acknowledge),
            ..Default::default()
        };
        self.send(call::Type::AcknowledgeOperationStatus, call)
            .await
    }

    /// Asks what became of these operations, or of all when empty; the answers are events.
    pub async fn reconcile_operations(
        &self,
        operations: impl IntoIterator<Item = (OperationId, Option<AgentId>)>,
    ) -> Result<(), Error> {
        let operation = |(operation_id, agent_id)| call::reconcile_operations::Operation {
            operation_id,
            agent_id,
            resource_provider_id: None,
        };
        let call = scheduler::Call {
            reconcile_operations: Some(call::ReconcileOperations {
                operations: operations.into_iter().map(operation).collect(),
            }),
            ..Default::default()
        };
        self.send(call::Type::ReconcileOperations, call).await
    }

    /// Sends bytes to an executor; may be lost.
    pub async fn message(
        &self,
        executor_id: ExecutorId,
        agent_id: AgentId,
        data: impl Into<bytes::Bytes>,
    ) -> Result<(), Error> {
        let message = call::Message {
            agent_id,
            executor_id,
            data: data.into(),
        };
        self.send(
            call::Type::Message,
            scheduler::Call {
                message: Some(message),
                ..Default::default()
            },
        )
        .await
    }

    /// Changes what may change of the framework: roles, capabilities, failover timeout and the like.
    pub async fn update_framework(
        &self,
        mut framework_info: FrameworkInfo,
        suppressed_roles: Vec<String>,
    ) -> Result<(), Error> {
        framework_info.id = self.framework_id();
        let update_framework = Some(call::UpdateFramework {
            framework_info,
            suppressed_roles,
            ..Default::default()
        });
        let call = scheduler::Call {
            update_framework,
            ..Default::default()
        };
        self.send(call::Type::UpdateFramework, call).await
    }

    /// Ends the framework: its tasks are killed, its executors shut down.
    pub async fn teardown(&self) -> Result<(), Error> {
        self.send(call::Type::Teardown, scheduler::Call::default())
            .await
    }
}

/// An operation that launches tasks on accepted offers.
pub fn launch(tasks: impl IntoIterator<Item = TaskInfo>) -> offer::Operation {
    offer::Operation {
        r#type: Some(offer::operation::Type::Launch as i32),
        launch: Some(offer::operation::Launch {
            task_infos: tasks.into_iter().collect(),
        }),
        ..Default::default()
    }
}

/// An operation that launches tasks that live and die together under one executor.
pub fn launch_group(
    executor: ExecutorInfo,
    tasks: impl IntoIterator<Item = TaskInfo>,
) -> offer::Operation {
    offer::Operation {
        r#type: Some(offer::operation::Type::LaunchGroup as i32),
        launch_group: Some(offer::operation::LaunchGroup {
            executor,
            task_group: TaskGroupInfo {
                tasks: tasks.into_iter().collect(),
            },
        }),
        ..Default::default()
    }
}

/// An operation that reserves resources: each says, last among its reservations, for which role.
pub fn reserve(resources: Vec<Resource>) -> offer::Operation {
    offer::Operation {
        r#type: Some(offer::operation::Type::Reserve as i32),
        reserve: Some(offer::operation::Reserve {
            resources,
            source: Vec::new(),
        }),
        ..Default::default()
    }
}

/// An operation that takes the last reservation of each back.
pub fn unreserve(resources: Vec<Resource>) -> offer::Operation {
    offer::Operation {
        r#type: Some(offer::operation::Type::Unreserve as i32),
        unreserve: Some(offer::operation::Unreserve { resources }),
        ..Default::default()
    }
}

/// An operation that makes persistent volumes of reserved disk.
pub fn create(volumes: Vec<Resource>) -> offer::Operation {
    offer::Operation {
        r#type: Some(offer::operation::Type::Create as i32),
        create: Some(offer::operation::Create { volumes }),
        ..Default::default()
    }
}

/// An operation that deletes persistent volumes and what is on them.
pub fn destroy(volumes: Vec<Resource>) -> offer::Operation {
    offer::Operation {
        r#type: Some(offer::operation::Type::Destroy as i32),
        destroy: Some(offer::operation::Destroy { volumes }),
        ..Default::default()
    }
}

/// An operation that adds disk to a persistent volume.
pub fn grow_volume(volume: Resource, addition: Resource) -> offer::Operation {
    offer::Operation {
        r#type: Some(offer::operation::Type::GrowVolume as i32),
        grow_volume: Some(offer::operation::GrowVolume { volume, addition }),
        ..Default::default()
    }
}

/// An operation that takes so much disk (in MB) off a persistent volume.
pub fn shrink_volume(volume: Resource, subtract: f64) -> offer::Operation {
    offer::Operation {
        r#type: Some(offer::operation::Type::ShrinkVolume as i32),
        shrink_volume: Some(offer::operation::ShrinkVolume {
            volume,
            subtract: value::Scalar { value: subtract },
        }),
        ..Default::default()
    }
}

/// Gives an operation an id: then what becomes of it is told.
pub fn named(mut operation: offer::Operation, id: impl Into<String>) -> offer::Operation {
    operation.id = Some(OperationId { value: id.into() });
    operation
}
