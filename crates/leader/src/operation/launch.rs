//! `LAUNCH`: each task by itself; one that is not valid does not keep the others from running.

use super::Accepted;
use crate::{
    Leader,
    status::Cause,
    subscribe::address_of,
    validate::task::{Launch, validate},
};
use tepui_model::{resources::Resources, tasks::TaskState};
use tepui_protocol::{
    internal,
    v1::{self, health_check, offer::operation, task_status::Reason},
};

impl Leader {
    pub(crate) fn launch(&mut self, accepted: &mut Accepted, launch: operation::Launch) {
        for mut task in launch.task_infos {
            complete(&mut task, accepted);
            if let Err(error) = self.launch_one(accepted, &task) {
                let cause = Cause::new(Reason::TaskInvalid, error);
                self.fail_tasks(&accepted.framework, &[task], TaskState::TaskError, &cause);
            }
        }
    }

    fn launch_one(&mut self, accepted: &mut Accepted, task: &v1::TaskInfo) -> Result<(), String> {
        let Accepted {
            framework: framework_id,
            at,
            role,
            available: remaining,
            shared,
            ..
        } = accepted;
        // What is shared may be used once more than it was offered, by each task.
        let available = &(remaining.non_shared() + &*shared);
        let (Some(framework), Some(follower)) =
            (self.state.framework(framework_id), self.state.follower(at))
        else {
            return Ok(());
        };
        validate(
            task,
            &Launch {
                framework,
                follower,
                available,
            },
        )?;

        let (info, to) = (framework.info.clone(), follower.pid.clone());
        let pid = address_of(framework);
        let mut consumed = Resources::from_proto(&task.resources);
        let new_executor = task
            .executor
            .as_ref()
            .filter(|e| !follower.has_executor(framework_id, &e.executor_id.value));
        if let Some(executor) = new_executor {
            consumed += Resources::from_proto(&executor.resources);
        }
        // Command tasks have no executor here, and their follower starts one for each.
        let launch_executor = task.executor.is_none() || new_executor.is_some();
        let new_executor = new_executor.cloned();
        if !available.contains(&consumed) {
            return Err("Resources are not available".to_owned());
        }
        let more = consumed.shared().saturating_sub(&remaining.shared());
        if !more.is_empty() {
            let copy = tepui_allocator::Conversion {
                consumed: Resources::new(),
                converted: more,
            };
            self.allocator
                .update_allocation(framework_id, at, role, &[copy])
                .map_err(|error| error.to_string())?;
        }
        *remaining = remaining.saturating_sub(&consumed);

        if let Some(executor) = new_executor {
            self.state.insert_executor(framework_id, at, executor);
        }
        self.add_task(framework_id, task);
        self.count_operation(framework_id, operation::Type::Launch);
        let mut message = internal::RunTaskMessage {
            framework: v1::FrameworkInfo::clone(&info),
            task: task.clone(),
            resource_version_uuids: self.resource_versions(at),
            pid: Some(pid),
            launch_executor: Some(launch_executor),
            ..Default::default()
        };
        if self.needs_old_format(at) {
            super::downgrade_task(&mut message.task);
        }
        self.send(to, message);
        Ok(())
    }
}

/// Fills in what schedulers may leave out.
fn complete(task: &mut v1::TaskInfo, accepted: &Accepted) {
    accepted.allocate(&mut task.resources);
    if let Some(executor) = &mut task.executor {
        accepted.allocate(&mut executor.resources);
        executor
            .framework_id
            .get_or_insert_with(|| accepted.framework.to_proto());
    }
    // Before there were types, what was set said it.
    if let Some(check) = task
        .health_check
        .as_mut()
        .filter(|check| check.r#type.is_none())
    {
        match (&check.command, &check.http) {
            (Some(_), None) => check.set_type(health_check::Type::Command),
            (None, Some(_)) => check.set_type(health_check::Type::Http),
            _ => {}
        }
    }
}
