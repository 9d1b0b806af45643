//! Resources of tasks and executors, beyond being resources at all.

use std::collections::BTreeSet;
use tepui_model::{
    resources::{Amount, Resources, validate_all},
    values,
};
use tepui_protocol::v1;

/// What tasks and executors alike must not ask for.
pub(crate) fn usable(protos: &[v1::Resource]) -> Result<(), String> {
    validate_all(protos).map_err(|error| format!("Invalid resources: {error}"))?;
    let resources = Resources::from_proto(protos);
    if resources.gpus().as_millis() % 1000 != 0 {
        return Err(
            "Invalid 'gpus' resource: The 'gpus' resource must be an unsigned integer".to_owned(),
        );
    }
    protos
        .iter()
        .try_for_each(disk_info)
        .map_err(|error| format!("Invalid DiskInfo: {error}"))?;
    match resources
        .iter()
        .find(|resource| resource.is_dynamically_reserved() && resource.is_revocable())
    {
        Some(resource) => Err(format!(
            "Invalid ReservationInfo: Dynamically reserved resource {resource} cannot be created from revocable \
             resources"
        )),
        None => Ok(()),
    }
}

fn disk_info(resource: &v1::Resource) -> Result<(), String> {
    let Some(disk) = &resource.disk else {
        return Ok(());
    };
    let text = match (&disk.persistence, &disk.volume) {
        (Some(_), _) if resource.revocable.is_some() => {
            "Persistent volumes cannot be created from revocable resources"
        }
        (Some(_), _) if resource.reservations.is_empty() => {
            "Persistent volumes cannot be created from unreserved resources"
        }
        (Some(_), None) => "Expecting 'volume' to be set for persistent volume",
        (Some(_), Some(volume)) if volume.host_path.is_some() => {
            "Expecting 'host_path' to be unset for persistent volume"
        }
        (Some(persistence), Some(_)) => {
            return super::id(&persistence.id)
                .map_err(|error| format!("Invalid persistence ID for persistent volume: {error}"));
        }
        (None, Some(_)) => "Non-persistent volume not supported",
        (None, None) if disk.source.is_none() => "DiskInfo is set but empty",
        (None, None) => return Ok(()),
    };
    Err(text.to_owned())
}

/// Volumes have ids that are unique per role.
pub(crate) fn unique_persistence(resources: &Resources) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    for resource in resources.iter() {
        let Some(persistence) = resource.disk().and_then(|disk| disk.persistence.as_ref()) else {
            continue;
        };
        if !seen.insert((resource.reservation_role(), persistence.id.as_str())) {
            return Err(format!("Persistence ID '{}' is not unique", persistence.id));
        }
    }
    Ok(())
}

/// All are allocated to the same role.
pub(crate) fn single_role(resources: &Resources) -> Result<(), String> {
    let mut first: Option<&str> = None;
    for resource in resources.iter() {
        let Some(role) = resource.allocation_role() else {
            return Err("The resources are not allocated to a role".to_owned());
        };
        match first {
            Some(first) if first != role.as_ref() => {
                return Err(format!(
                    "The resources have multiple allocation roles ('{role}' and '{first}') but only one allocation \
                     role is allowed"
                ));
            }
            _ => first = Some(role),
        }
    }
    Ok(())
}

/// Of one name, all are revocable or none is.
pub(crate) fn not_mixed(resources: &Resources) -> Result<(), String> {
    let revocable: BTreeSet<&str> = resources
        .iter()
        .filter(|r| r.is_revocable())
        .map(|r| r.name().as_str())
        .collect();
    match resources
        .iter()
        .find(|r| !r.is_revocable() && revocable.contains(r.name().as_str()))
    {
        Some(r) => Err(format!(
            "Cannot use both revocable and non-revocable '{}' at the same time",
            r.name()
        )),
        None => Ok(()),
    }
}

/// Whether ranges or sets overlap: then there is less in all of them than in each.
pub(crate) fn overlap(parts: &[&Resources]) -> bool {
    let items = |resources: &Resources| -> u64 {
        resources
            .iter()
            .map(|resource| match resource.amount() {
                Amount::Scalar(_) => 0,
                Amount::Ranges(ranges) => count(ranges),
                Amount::Set(set) => set.as_slice().len() as u64,
            })
            .fold(0, u64::saturating_add)
    };
    let apart = parts
        .iter()
        .map(|part| items(part))
        .fold(0, u64::saturating_add);
    apart != items(&parts.iter().copied().sum::<Resources>())
}

fn count(ranges: &values::Ranges) -> u64 {
    ranges.count()
}
