//! Whether a call carries what its type promises.

use crate::status::is_uuid;
use tepui_model::resources::validate_all;
use tepui_protocol::v1::{master, scheduler};

/// A scheduler call. The text goes behind `Failed to validate scheduler::Call: `.
pub fn scheduler(call: &scheduler::Call, principal: Option<&str>) -> Result<(), String> {
    use scheduler::call::Type;
    // An unknown type reads like none, as it does in the reference.
    if call
        .r#type
        .is_none_or(|value| Type::try_from(value).is_err())
    {
        return expecting("type");
    }
    if call.r#type() == Type::Subscribe {
        return subscribe(call, principal);
    }
    if call.framework_id.is_none() {
        return expecting("framework_id");
    }
    let (present, name) = match call.r#type() {
        Type::Accept => (call.accept.is_some(), "accept"),
        Type::Decline => (call.decline.is_some(), "decline"),
        Type::AcceptInverseOffers => (
            call.accept_inverse_offers.is_some(),
            "accept_inverse_offers",
        ),
        Type::DeclineInverseOffers => (
            call.decline_inverse_offers.is_some(),
            "decline_inverse_offers",
        ),
        Type::Kill => (call.kill.is_some(), "kill"),
        Type::Shutdown => (call.shutdown.is_some(), "shutdown"),
        Type::Acknowledge => (call.acknowledge.is_some(), "acknowledge"),
        Type::AcknowledgeOperationStatus => (
            call.acknowledge_operation_status.is_some(),
            "acknowledge_operation_status",
        ),
        Type::Reconcile => (call.reconcile.is_some(), "reconcile"),
        Type::ReconcileOperations => (call.reconcile_operations.is_some(), "reconcile_operations"),
        Type::Message => (call.message.is_some(), "message"),
        Type::Request => (call.request.is_some(), "request"),
        Type::UpdateFramework => (call.update_framework.is_some(), "update_framework"),
        Type::Teardown | Type::Revive | Type::Suppress | Type::Subscribe | Type::Unknown => {
            (true, "")
        }
    };
    if !present {
        return expecting(name);
    }
    details(call)
}

fn subscribe(call: &scheduler::Call, principal: Option<&str>) -> Result<(), String> {
    let Some(subscribe) = &call.subscribe else {
        return expecting("subscribe");
    };
    let info = &subscribe.framework_info;
    // An absent id and an empty one are the same.
    let outer = call.framework_id.as_ref().map_or("", |id| &id.value);
    let inner = info.id.as_ref().map_or("", |id| &id.value);
    if outer != inner {
        return Err("'framework_id' differs from 'subscribe.framework_info.id'".to_owned());
    }
    match (principal, &info.principal) {
        (Some(authenticated), Some(claimed)) if authenticated != claimed => Err(format!(
            "Authenticated principal '{authenticated}' does not match principal '{claimed}' set in `FrameworkInfo`"
        )),
        _ => Ok(()),
    }
}

fn details(call: &scheduler::Call) -> Result<(), String> {
    if let Some(acknowledge) = &call.acknowledge
        && call.r#type() == scheduler::call::Type::Acknowledge
        && !is_uuid(&acknowledge.uuid)
    {
        return Err("Not a valid UUID".to_owned());
    }
    if let Some(acknowledge) = &call.acknowledge_operation_status
        && call.r#type() == scheduler::call::Type::AcknowledgeOperationStatus
    {
        if !is_uuid(&acknowledge.uuid) {
            return Err("Not a valid UUID".to_owned());
        }
        if acknowledge.agent_id.is_none() {
            return expecting("agent_id");
        }
    }
    if let Some(update) = &call.update_framework
        && call.r#type() == scheduler::call::Type::UpdateFramework
        && update.framework_info.id != call.framework_id
    {
        return Err("'framework_id' differs from 'update_framework.framework_info.id'".to_owned());
    }
    Ok(())
}

/// An operator call, reads included. The text goes behind `Failed to validate master::Call: `.
pub fn operator(call: &master::Call) -> Result<(), String> {
    carries_its_part(call).map_err(str::to_owned)?;
    use master::call::Type;
    let resources = match call.r#type() {
        Type::ReserveResources => call.reserve_resources.as_ref().map(|part| &part.resources),
        Type::UnreserveResources => call
            .unreserve_resources
            .as_ref()
            .map(|part| &part.resources),
        _ => None,
    };
    resources.map_or(Ok(()), |resources| {
        validate_all(resources).map_err(|error| error.to_string())
    })
}

/// Whether it carries what its type promises.
pub(crate) fn carries_its_part(call: &master::Call) -> Result<(), &'static str> {
    use master::call::Type;
    // An unknown type reads like none, as it does in the reference.
    if call
        .r#type
        .is_none_or(|value| Type::try_from(value).is_err())
    {
        return Err("Expecting 'type' to be present");
    }
    macro_rules! need {
        ($field:ident) => {
            if call.$field.is_some() {
                Ok(())
            } else {
                Err(concat!(
                    "Expecting '",
                    stringify!($field),
                    "' to be present"
                ))
            }
        };
    }
    match call.r#type() {
        Type::GetMetrics => need!(get_metrics),
        Type::SetLoggingLevel => need!(set_logging_level),
        Type::ListFiles => need!(list_files),
        Type::ReadFile => need!(read_file),
        Type::UpdateWeights => need!(update_weights),
        Type::ReserveResources => need!(reserve_resources),
        Type::UnreserveResources => need!(unreserve_resources),
        Type::CreateVolumes => need!(create_volumes),
        Type::DestroyVolumes => need!(destroy_volumes),
        Type::GrowVolume => need!(grow_volume),
        Type::ShrinkVolume => need!(shrink_volume),
        Type::UpdateMaintenanceSchedule => need!(update_maintenance_schedule),
        Type::StartMaintenance => need!(start_maintenance),
        Type::StopMaintenance => need!(stop_maintenance),
        Type::DrainAgent => need!(drain_agent),
        Type::DeactivateAgent => need!(deactivate_agent),
        Type::ReactivateAgent => need!(reactivate_agent),
        Type::UpdateQuota => need!(update_quota),
        Type::SetQuota => need!(set_quota),
        Type::RemoveQuota => need!(remove_quota),
        Type::Teardown => need!(teardown),
        Type::MarkAgentGone => need!(mark_agent_gone),
        Type::ReadLog => need!(read_log),
        _ => Ok(()),
    }
}

fn expecting(field: &str) -> Result<(), String> {
    Err(format!("Expecting '{field}' to be present"))
}
