//! What can be done with accepted offers: tasks are launched, and resources become others.

pub(crate) mod change;
mod launch;
mod launch_group;

use crate::{Leader, Level, feedback::operation_update};
use std::sync::Arc;
use tepui_model::{
    FollowerId, FrameworkId,
    resources::{Format, Resources, downgrade},
};
use tepui_protocol::{
    internal,
    v1::{
        self,
        offer::{Operation, operation::Type},
        task_status::Reason,
    },
};

/// The pool that the operations of one `ACCEPT` take from.
pub(crate) struct Accepted {
    pub(crate) framework: FrameworkId,
    pub(crate) at: FollowerId,
    /// The role the offers were made for.
    pub(crate) role: Arc<str>,
    /// What was offered.
    pub(crate) offered: Resources,
    /// What is left.
    pub(crate) available: Resources,
    /// All shared resources, also those that tasks of this call use: more tasks may.
    pub(crate) shared: Resources,
    /// Volumes that have another size now, and what is left of them: not for this call.
    pub(crate) resized: Resources,
}

impl Accepted {
    pub(crate) fn new(
        framework: FrameworkId,
        at: FollowerId,
        role: Arc<str>,
        offered: Resources,
    ) -> Self {
        Self {
            framework,
            at,
            role,
            available: offered.clone(),
            shared: offered.shared(),
            resized: Resources::new(),
            offered,
        }
    }

    /// Schedulers need not say for which role they use resources: the offer said it.
    fn allocate(&self, resources: &mut [v1::Resource]) {
        for resource in resources {
            if resource.allocation_info.is_none() {
                let role = Some(self.role.as_ref().to_owned());
                resource.allocation_info = Some(v1::resource::AllocationInfo { role });
            }
        }
    }
}

/// The tasks an operation is to launch; `None` if it is of another kind.
pub(crate) fn tasks(operation: &Operation) -> Option<&[v1::TaskInfo]> {
    match operation.r#type() {
        Type::Launch => Some(
            operation
                .launch
                .as_ref()
                .map_or(&[], |launch| &launch.task_infos),
        ),
        Type::LaunchGroup => Some(
            operation
                .launch_group
                .as_ref()
                .map_or(&[], |group| &group.task_group.tasks),
        ),
        _ => None,
    }
}

/// The reason for which its tasks fail when they are not valid.
pub(crate) fn invalid_reason(operation: &Operation) -> Reason {
    if operation.r#type() == Type::LaunchGroup {
        Reason::TaskGroupInvalid
    } else {
        Reason::TaskInvalid
    }
}

impl Leader {
    /// `OPERATION_ERROR` for who gave the operation an id; a line in the log in any case.
    pub(crate) fn fail_operation(
        &mut self,
        framework: &FrameworkId,
        operation: &Operation,
        message: String,
    ) {
        let name = operation.r#type().as_str_name();
        self.notice(
            Level::Warning,
            format!("Dropped {name} operation of {framework}: {message}"),
        );
        let (kind, state) = (operation.r#type(), v1::OperationState::OperationError);
        Arc::make_mut(&mut self.metrics).count_operation(kind, state, 1);
        let Some(id) = operation.id.clone() else {
            return;
        };
        let mut status = v1::OperationStatus {
            operation_id: Some(id),
            message: Some(message),
            ..Default::default()
        };
        status.set_state(v1::OperationState::OperationError);
        self.event(framework, operation_update(status));
    }

    /// The versions of a follower's resources that a launch rests on.
    fn resource_versions(&self, at: &FollowerId) -> Vec<internal::ResourceVersionUuid> {
        let version = self
            .state
            .follower(at)
            .and_then(|follower| follower.resource_version.clone());
        let providers = self.state.follower(at).into_iter().flat_map(|follower| {
            let providers = follower.providers.values();
            providers.map(|provider| internal::ResourceVersionUuid {
                resource_provider_id: provider.info.id.clone(),
                uuid: provider.version.clone(),
            })
        });
        version
            .map(|uuid| internal::ResourceVersionUuid {
                resource_provider_id: None,
                uuid,
            })
            .into_iter()
            .chain(providers)
            .collect()
    }

    /// Whether a follower only knows resources as they were before reservations could be refined.
    fn needs_old_format(&self, at: &FollowerId) -> bool {
        let follower = self.state.follower(at);
        follower.is_some_and(|follower| !follower.can.reservation_refinement)
    }

    /// Counts what was done, per task or group, as the reference does.
    pub(crate) fn count_operation(&mut self, framework: &FrameworkId, kind: Type) {
        if let Some(framework) = self.state.framework_mut(framework) {
            framework.metrics_mut().count_operation(kind);
        }
    }

    /// Enters a launched task into the tables.
    fn add_task(&mut self, framework: &FrameworkId, info: &v1::TaskInfo) {
        let task = new_task(framework, info);
        self.operator_event(|_| Some(crate::operator::task_added(task.clone())));
        self.state.insert_task(framework, task);
    }
}

fn downgrade_all(resources: &mut [v1::Resource]) {
    for resource in resources {
        downgrade(resource, Format::PreRefinement);
    }
}

fn downgrade_task(task: &mut v1::TaskInfo) {
    downgrade_all(&mut task.resources);
    if let Some(executor) = &mut task.executor {
        downgrade_all(&mut executor.resources);
    }
}

/// A task at the moment of its launch.
fn new_task(framework: &FrameworkId, info: &v1::TaskInfo) -> v1::Task {
    let user = info
        .command
        .as_ref()
        .and_then(|command| command.user.clone())
        .or_else(|| info.executor.as_ref()?.command.as_ref()?.user.clone());
    let mut task = v1::Task {
        name: info.name.clone(),
        task_id: info.task_id.clone(),
        framework_id: framework.to_proto(),
        executor_id: info
            .executor
            .as_ref()
            .map(|executor| executor.executor_id.clone()),
        agent_id: info.agent_id.clone(),
        resources: info.resources.clone(),
        labels: info.labels.clone(),
        discovery: info.discovery.clone().map(Box::new),
        container: info.container.clone().map(Box::new),
        health_check: info.health_check.clone().map(Box::new),
        kill_policy: info.kill_policy,
        user,
        limits: info.limits.clone(),
        ..Default::default()
    };
    task.set_state(v1::TaskState::TaskStaging);
    task
}
