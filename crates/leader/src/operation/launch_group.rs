//! `LAUNCH_GROUP`: all tasks of a group run, or none does.

use super::Accepted;
use crate::{
    Leader,
    status::Cause,
    validate::{group, task::Launch},
};
use tepui_model::{resources::Resources, tasks::TaskState};
use tepui_protocol::{
    internal,
    v1::{self, offer::operation, task_status::Reason},
};

impl Leader {
    pub(crate) fn launch_group(&mut self, accepted: &mut Accepted, launch: operation::LaunchGroup) {
        let operation::LaunchGroup {
            mut executor,
            mut task_group,
        } = launch;
        accepted.allocate(&mut executor.resources);
        for task in &mut task_group.tasks {
            accepted.allocate(&mut task.resources);
            // Readers look for the executor of a task in the task.
            match &mut task.executor {
                Some(own) => accepted.allocate(&mut own.resources),
                None => task.executor = Some(executor.clone()),
            }
        }
        if let Err(error) = self.launch_valid_group(accepted, &executor, &task_group) {
            let cause = Cause::new(Reason::TaskGroupInvalid, error);
            self.fail_tasks(
                &accepted.framework,
                &task_group.tasks,
                TaskState::TaskError,
                &cause,
            );
        }
    }

    fn launch_valid_group(
        &mut self,
        accepted: &mut Accepted,
        executor: &v1::ExecutorInfo,
        task_group: &v1::TaskGroupInfo,
    ) -> Result<(), String> {
        let Accepted {
            framework: framework_id,
            at,
            available,
            ..
        } = accepted;
        let (Some(framework), Some(follower)) =
            (self.state.framework(framework_id), self.state.follower(at))
        else {
            return Ok(());
        };
        group::validate(
            task_group,
            executor,
            &Launch {
                framework,
                follower,
                available,
            },
        )?;

        let (info, to) = (framework.info.clone(), follower.pid.clone());
        let launch_executor = !follower.has_executor(framework_id, &executor.executor_id.value);
        let mut consumed = Resources::new();
        if launch_executor {
            consumed += Resources::from_proto(&executor.resources);
        }
        for task in &task_group.tasks {
            consumed += Resources::from_proto(&task.resources);
        }
        let left = available
            .checked_sub(&consumed)
            .ok_or_else(|| "Resources are not available".to_owned())?;
        *available = left;

        if launch_executor {
            self.state
                .insert_executor(framework_id, at, executor.clone());
        }
        for task in &task_group.tasks {
            self.add_task(framework_id, task);
        }
        self.count_operation(framework_id, operation::Type::LaunchGroup);
        let mut message = internal::RunTaskGroupMessage {
            framework: v1::FrameworkInfo::clone(&info),
            executor: executor.clone(),
            task_group: task_group.clone(),
            resource_version_uuids: self.resource_versions(at),
            launch_executor: Some(launch_executor),
        };
        if self.needs_old_format(at) {
            super::downgrade_all(&mut message.executor.resources);
            let tasks = message.task_group.tasks.iter_mut();
            tasks.for_each(super::downgrade_task);
        }
        self.send(to, message);
        Ok(())
    }
}
