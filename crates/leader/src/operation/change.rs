//! `RESERVE`, `UNRESERVE`, `CREATE`, `DESTROY`, `GROW_VOLUME`, `SHRINK_VOLUME`: what was offered becomes
//! something else. `CREATE_DISK`, `DESTROY_DISK`: it becomes what its resource provider says.
//!
//! Follows `Master::_accept` in `src/master/master.cpp`. What an operation makes, later operations of the
//! same `ACCEPT` may use, but for volumes that were resized.

use super::Accepted;
use crate::{Leader, operations::Asker, state::Follower, validate::operation as validate};
use tepui_allocator::Conversion as Held;
use tepui_model::{
    FollowerId, FrameworkId, OfferId,
    resources::{
        Resources,
        operations::{self, Conversion},
    },
};
use tepui_protocol::v1::offer::{Operation, operation::Type};

/// What the allocator hears of conversions.
pub(crate) fn held(conversions: &[Conversion]) -> Vec<Held> {
    let held = |conversion: &Conversion| Held {
        consumed: conversion.consumed.clone(),
        converted: conversion.converted.clone(),
    };
    conversions.iter().map(held).collect()
}

/// As the reference names a follower in its texts.
pub(crate) fn place(follower: &Follower) -> String {
    format!(
        "{} at {} ({})",
        follower.id, follower.pid, follower.info.hostname
    )
}

impl Leader {
    /// Carries out an operation on accepted resources, or says why not.
    pub(crate) fn change_resources(&mut self, accepted: &mut Accepted, mut operation: Operation) {
        for resource in operations::named_mut(&mut operation) {
            accepted.allocate(std::slice::from_mut(resource));
        }
        let framework = accepted.framework.clone();
        let done = self
            .feedback_possible(&framework, &accepted.at, &operation)
            .and_then(|()| self.try_change(accepted, &operation));
        match done {
            Ok(()) => self.apply_operation(Asker::Framework(framework), &accepted.at, operation),
            Err(text) => self.fail_operation(&framework, &operation, text),
        }
    }

    /// Who gave the operation an id wants to hear of it: whether the follower can say.
    fn feedback_possible(
        &self,
        framework: &FrameworkId,
        at: &FollowerId,
        operation: &Operation,
    ) -> Result<(), String> {
        let known = self.state.framework(framework).zip(self.state.follower(at));
        let Some((_, follower)) = known.filter(|_| operation.id.is_some()) else {
            return Ok(());
        };
        if !follower.can.resource_provider {
            return Err(format!(
                "Operation requested feedback, but agent {at} does not have the required RESOURCE_PROVIDER capability"
            ));
        }
        if operations::provider_of(operation).is_none() && !follower.can.operation_feedback {
            return Err(format!(
                "Operation on agent default resources requested feedback, but agent {at} does not have the required \
                 AGENT_OPERATION_FEEDBACK and RESOURCE_PROVIDER capabilities"
            ));
        }
        Ok(())
    }

    /// Checks everything, and changes the pool and what the allocator knows.
    fn try_change(&mut self, accepted: &mut Accepted, operation: &Operation) -> Result<(), String> {
        let framework = self.state.framework(&accepted.framework);
        let (Some(framework), Some(follower)) = (framework, self.state.follower(&accepted.at))
        else {
            return Err("Agent removed".to_owned());
        };
        let speculative = operations::is_speculative(operation);
        let place = place(follower);
        if !speculative && !follower.can.resource_provider {
            return Err(format!(
                "Not supported on agent {place} because it does not have RESOURCE_PROVIDER capability"
            ));
        }
        let site = validate::Site {
            follower,
            framework: Some(framework),
            principal: framework.info.principal.as_deref(),
        };
        validate::operation(operation, site)
            .map_err(|error| format!("{error}; on agent {place}"))?;
        self.check_named(accepted, operation)?;
        if operation.r#type() == Type::Destroy {
            self.rescind_volumes(&accepted.at, operation);
        }
        if speculative {
            self.convert_accepted(accepted, operation)
        } else {
            self.keep_accepted(accepted, operation)
        }
    }

    /// What is not allocated to the role of the offers was not offered; and providers are known.
    fn check_named(&self, accepted: &Accepted, operation: &Operation) -> Result<(), String> {
        let role = accepted.role.as_ref();
        for resource in operations::named(operation) {
            if resource.allocation_info.as_ref().map(|info| info.role()) != Some(role) {
                return Err(format!(
                    "{} does not contain {}",
                    accepted.available,
                    tepui_model::resources::describe(resource)
                ));
            }
        }
        let follower = self.state.follower(&accepted.at);
        let known = |id: &str| follower.is_some_and(|f| f.providers.contains_key(id));
        match operations::provider_of(operation) {
            Some(id) if !known(&id.value) => {
                Err(format!("Resource provider {} is unknown", id.value))
            }
            _ => Ok(()),
        }
    }

    /// Other offers must not hold a volume that goes.
    pub(crate) fn rescind_volumes(&mut self, at: &FollowerId, operation: &Operation) {
        let volumes = Resources::from_proto(operations::named(operation)).unallocated();
        let offers: Vec<OfferId> = self
            .state
            .follower(at)
            .map(|follower| follower.offers.keys().cloned().collect())
            .unwrap_or_default();
        for id in offers {
            let holds = self.state.offer(&id).is_some_and(|offer| {
                let offered = offer.resources.clone().unallocated();
                volumes.iter().any(|volume| offered.contains_one(volume))
            });
            if holds {
                self.rescind_offer(&id);
            }
        }
    }

    fn convert_accepted(
        &mut self,
        accepted: &mut Accepted,
        operation: &Operation,
    ) -> Result<(), String> {
        let plain = operations::conversions(operation).map_err(|error| error.to_string())?;
        let all: Vec<Conversion> = plain
            .iter()
            .map(|conversion| conversion.clone().allocated(&accepted.role))
            .collect();
        let kind = operation.r#type();
        let resize = matches!(kind, Type::GrowVolume | Type::ShrinkVolume);
        let mut next = (accepted.available.clone(), accepted.resized.clone());
        if resize {
            for conversion in &all {
                let rest = next.0.checked_sub(&conversion.consumed);
                next.0 = rest.ok_or_else(|| {
                    format!(
                        "Invalid {} operation: {} does not contain {}",
                        kind.as_str_name(),
                        next.0,
                        conversion.consumed
                    )
                })?;
                next.1 += &conversion.converted;
            }
        } else {
            next.0 = next.0.apply(&all).map_err(|error| error.to_string())?;
        }
        // The offers were made from these; a follower may have come back with less.
        let follower = self.state.follower(&accepted.at);
        let total = follower.map(|f| f.total.clone()).unwrap_or_default();
        total.apply(&plain).map_err(|error| error.to_string())?;
        self.allocator
            .update_allocation(
                &accepted.framework,
                &accepted.at,
                &accepted.role,
                &held(&all),
            )
            .map_err(|error| error.to_string())?;
        (accepted.available, accepted.resized) = next;
        if matches!(kind, Type::Create | Type::Destroy) {
            accepted.shared = accepted.available.shared();
        }
        Ok(())
    }

    /// Its provider says later what becomes of it; until then nobody else has it.
    fn keep_accepted(
        &mut self,
        accepted: &mut Accepted,
        operation: &Operation,
    ) -> Result<(), String> {
        let kept = operations::kept(operation);
        let rest = accepted.available.checked_sub(&kept);
        accepted.available = rest.ok_or_else(|| {
            format!(
                "Invalid {} Operation: {} does not contain {kept}",
                operation.r#type().as_str_name(),
                accepted.available
            )
        })?;
        Ok(())
    }
}
