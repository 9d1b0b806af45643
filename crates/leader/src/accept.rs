//! `ACCEPT`: offers turn into what the operations make of them, and the rest goes back.
//!
//! Follows `Master::accept` and `_accept` in `src/master/master.cpp`. The resources of all accepted
//! offers are one pool; operations take from it in order. What goes wrong is an event about the
//! task or operation, never a failed call.

use crate::{
    Leader, Level,
    offers::refuse_duration,
    operation::{self, Accepted},
    state::Channel,
    status::{Cause, Update},
    validate,
};
use std::sync::Arc;
use tepui_model::{
    FollowerId, FrameworkId, OfferId,
    resources::{Resources, operations, upgrade, validate_all},
    tasks::TaskState,
};
use tepui_protocol::v1::{
    self,
    offer::{Operation, operation::Type},
    scheduler::{self, call, event},
    task_status::Reason,
};

impl Leader {
    pub(crate) fn accept(&mut self, framework: &FrameworkId, call: call::Accept) {
        self.count_accept(&call);
        let ids: Vec<OfferId> = call.offer_ids.iter().map(OfferId::from).collect();
        let (at, role) = match self.validate_offers(framework, &ids) {
            Ok(found) => found,
            Err(error) => return self.accept_invalid(framework, &ids, &call.operations, &error),
        };
        let mut offered = Resources::new();
        for id in &ids {
            if let Some(offer) = self.take_offer(id) {
                offered += offer.resources;
            }
        }
        let mut accepted = Accepted::new(framework.clone(), at.clone(), role, offered);
        if let Some(framework) = self.state.framework_mut(framework) {
            framework.metrics_mut().offers_accepted += ids.len() as u64;
        }
        for operation in call.operations {
            self.operate(&mut accepted, operation);
        }
        self.give_back(accepted, call.filters.as_ref());
    }

    /// What is left goes back. What was offered as it is was not wanted; what operations made was not
    /// refused.
    fn give_back(&mut self, accepted: Accepted, filters: Option<&v1::Filters>) {
        let Accepted {
            framework,
            at,
            offered,
            available,
            resized,
            ..
        } = accepted;
        // The reference takes what is left of a resized volume for refused, and loses it.
        let left = available + &resized;
        let made = left.saturating_sub(&offered);
        let declined = left.saturating_sub(&made);
        if !made.is_empty() {
            self.free(&framework, &at, made);
        }
        if !declined.is_empty() {
            let refuse = refuse_duration(filters);
            self.allocator
                .recover(&framework, &at, &declined, Some(refuse), self.now);
        }
    }

    fn count_accept(&mut self, call: &call::Accept) {
        for operation in call
            .operations
            .iter()
            .filter(|operation| operation.r#type() == Type::Launch)
        {
            let launches = operation
                .launch
                .as_ref()
                .is_some_and(|launch| !launch.task_infos.is_empty());
            self.count(if launches {
                "master/messages_launch_tasks"
            } else {
                "master/messages_decline_offers"
            });
        }
    }

    /// Whether the offers can be accepted together; where they are and for which role.
    fn validate_offers(
        &self,
        framework: &FrameworkId,
        ids: &[OfferId],
    ) -> Result<(FollowerId, Arc<str>), String> {
        if ids.is_empty() {
            return Err("No offers specified".to_owned());
        }
        validate::offer::distinct(ids)?;
        let mut found: Option<(FollowerId, Arc<str>)> = None;
        for id in ids {
            if self.state.offer(id).is_none() {
                return Err(format!("Offer {id} is no longer valid"));
            }
        }
        for id in ids {
            let Some(offer) = self.state.offer(id) else {
                continue;
            };
            if offer.framework != *framework {
                return Err(format!(
                    "Offer {id} has invalid framework {} while framework {framework} is expected",
                    offer.framework
                ));
            }
            let (at, role) =
                found.get_or_insert_with(|| (offer.follower.clone(), offer.role.clone()));
            if offer.role != *role {
                // The unbalanced quotes are the reference's.
                return Err(format!(
                    "Aggregated offers must be allocated to the same role. Offer {id} uses role '{} but another is \
                     using role '{role}",
                    offer.role
                ));
            }
            if offer.follower != *at {
                return Err(format!(
                    "Aggregated offers must belong to one single agent. Offer {id} uses agent {} and agent {at}",
                    offer.follower
                ));
            }
        }
        found.ok_or_else(|| "No offers specified".to_owned())
    }

    /// The offers go back, and everything asked for is answered.
    fn accept_invalid(
        &mut self,
        framework: &FrameworkId,
        ids: &[OfferId],
        operations: &[Operation],
        error: &str,
    ) {
        self.notice(
            Level::Warning,
            format!("{framework} accepted invalid offers: {error}"),
        );
        for id in ids {
            // Its own only: another's offer is not its to give back.
            if self
                .state
                .offer(id)
                .is_some_and(|offer| offer.framework == *framework)
            {
                self.discard_offer(id, None);
            }
        }
        let aware = self
            .state
            .framework(framework)
            .is_some_and(|f| f.capabilities.partition_aware);
        let state = if aware {
            TaskState::TaskDropped
        } else {
            TaskState::TaskLost
        };
        let cause = Cause::new(
            Reason::InvalidOffers,
            format!("Task launched with invalid offers: {error}"),
        );
        for operation in operations {
            match operation::tasks(operation) {
                Some(tasks) => self.fail_tasks(framework, tasks, state, &cause),
                None => self.fail_operation(
                    framework,
                    operation,
                    format!("Operation attempted with invalid offers: {error}"),
                ),
            }
        }
    }

    /// Tasks that never were get their one and only update.
    pub(crate) fn fail_tasks(
        &mut self,
        framework: &FrameworkId,
        tasks: &[v1::TaskInfo],
        state: TaskState,
        cause: &Cause,
    ) {
        for task in tasks {
            if let Some(counter) = crate::metrics::ended_counter(state) {
                self.count(counter);
            }
            let update = Update::new(&task.task_id, Some(&task.agent_id), state, cause, self.now);
            self.tell_framework(framework, &update);
        }
    }

    fn operate(&mut self, accepted: &mut Accepted, mut operation: Operation) {
        let framework = accepted.framework.clone();
        if let Err(error) = validate_resources(&mut operation) {
            return match operation::tasks(&operation) {
                Some(tasks) => {
                    let cause = Cause::new(operation::invalid_reason(&operation), error);
                    self.fail_tasks(&framework, tasks, TaskState::TaskError, &cause);
                }
                None => {
                    let message = format!("Operation attempted with invalid resources: {error}");
                    self.fail_operation(&framework, &operation, message);
                }
            };
        }
        if operation.id.is_some()
            && let Some(tasks) = operation::tasks(&operation)
        {
            let name = operation.r#type().as_str_name();
            let text = format!("The `id` field cannot be set on {name} operations");
            let cause = Cause::new(operation::invalid_reason(&operation), text);
            return self.fail_tasks(&framework, tasks, TaskState::TaskError, &cause);
        }
        let kind = operation.r#type();
        match kind {
            Type::Launch => self.launch(accepted, operation.launch.unwrap_or_default()),
            Type::LaunchGroup => match operation.launch_group {
                Some(group) => self.launch_group(accepted, group),
                None => self.notice(
                    Level::Warning,
                    format!("{framework} launched a group without saying which"),
                ),
            },
            Type::Unknown => self.notice(
                Level::Warning,
                format!("Ignored an unknown operation of {framework}"),
            ),
            Type::Reserve
            | Type::Unreserve
            | Type::Create
            | Type::Destroy
            | Type::GrowVolume
            | Type::ShrinkVolume
            | Type::CreateDisk
            | Type::DestroyDisk => {
                if operation.id.is_some() && self.aborts_driver(&framework) {
                    return;
                }
                self.change_resources(accepted, operation);
            }
        }
    }

    /// Drivers cannot hear what becomes of operations. One whose framework wants to is told an error,
    /// which ends it.
    fn aborts_driver(&mut self, framework: &FrameworkId) -> bool {
        let channel = self.state.framework(framework).and_then(|f| f.channel());
        if !matches!(channel, Some(Channel::Driver(_))) {
            return false;
        }
        let message = "The 'id' field was set in an offer operation, but operation feedback is not supported for \
                       the SchedulerDriver API; please use the HTTP scheduler API for this feature";
        let mut event = scheduler::Event {
            error: Some(event::Error {
                message: message.to_owned(),
            }),
            ..Default::default()
        };
        event.set_type(event::Type::Error);
        self.event(framework, event);
        true
    }
}

/// Checks the resources of an operation and brings them into the one format used inside.
fn validate_resources(operation: &mut Operation) -> Result<(), String> {
    fn check(resources: &mut [v1::Resource]) -> Result<(), String> {
        validate_all(resources).map_err(|error| error.to_string())?;
        resources.iter_mut().for_each(upgrade);
        Ok(())
    }
    fn check_task(task: &mut v1::TaskInfo) -> Result<(), String> {
        check(&mut task.resources)?;
        task.executor
            .as_mut()
            .map_or(Ok(()), |executor| check(&mut executor.resources))
    }
    if let Some(launch) = &mut operation.launch {
        launch.task_infos.iter_mut().try_for_each(check_task)?;
    }
    if let Some(group) = &mut operation.launch_group {
        check(&mut group.executor.resources)?;
        group.task_group.tasks.iter_mut().try_for_each(check_task)?;
    }
    expect_field(operation)?;
    for resource in operations::named_mut(operation) {
        check(std::slice::from_mut(resource))?;
    }
    Ok(())
}

/// Its type says which field has to be there.
fn expect_field(operation: &Operation) -> Result<(), String> {
    let o = operation;
    let (article, field, there, end) = match o.r#type() {
        Type::Reserve => ("A", "reserve", o.reserve.is_some(), "."),
        Type::Unreserve => ("An", "unreserve", o.unreserve.is_some(), "."),
        Type::Create => ("A", "create", o.create.is_some(), "."),
        Type::Destroy => ("A", "destroy", o.destroy.is_some(), "."),
        Type::GrowVolume => ("A", "grow_volume", o.grow_volume.is_some(), ""),
        Type::ShrinkVolume => ("A", "shrink_volume", o.shrink_volume.is_some(), ""),
        Type::CreateDisk => ("A", "create_disk", o.create_disk.is_some(), "."),
        Type::DestroyDisk => ("A", "destroy_disk", o.destroy_disk.is_some(), "."),
        Type::Launch | Type::LaunchGroup | Type::Unknown => return Ok(()),
    };
    if there {
        return Ok(());
    }
    let name = o.r#type().as_str_name();
    // One text leaves a word out, two the full stop.
    let offer = match o.r#type() {
        Type::GrowVolume => "",
        _ => "offer ",
    };
    Err(format!(
        "{article} {name} {offer}operation must have the Offer.Operation.{field} field set{end}"
    ))
}
