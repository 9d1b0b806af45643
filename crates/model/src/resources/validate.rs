//! Whether a wire object is a resource at all. Checks and texts follow `Resources::validate` of
//! `src/common/resources.cpp`: frameworks see them in TASK_ERROR and OPERATION_ERROR messages.

use super::format::{self, describe_labels, describe_source};
use crate::{
    roles::{self, DEFAULT_ROLE, RoleError},
    scalar::Scalar,
};
use tepui_protocol::v1::{
    self,
    resource::{DiskInfo, ReservationInfo, disk_info::source, reservation_info},
    value,
};
use thiserror::Error;

/// Why a wire object is no resource.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[allow(missing_docs)]
pub enum ResourceError {
    #[error("Empty resource name")]
    EmptyName,
    #[error("Invalid resource type")]
    InvalidType,
    #[error("Unsupported resource type")]
    UnsupportedType,
    #[error("Invalid scalar resource")]
    Scalar,
    #[error("Invalid scalar resource: value <= 0")]
    NonPositive,
    #[error("Invalid ranges resource")]
    Ranges,
    #[error("Invalid ranges resource: begin > end")]
    InvertedRange,
    #[error("Invalid ranges resource: overlapping ranges")]
    OverlappingRanges,
    #[error("Invalid set resource")]
    Set,
    #[error("Invalid set resource: duplicated elements")]
    DuplicatedElements,
    #[error("DiskInfo should not be set for {0} resource")]
    DiskInfo(String),
    #[error("{field} should not be set for {source_type} disk source")]
    DiskSource {
        field: &'static str,
        source_type: &'static str,
    },
    #[error("Unsupported 'DiskInfo.Source.Type' in '{0}'")]
    DiskSourceType(String),
    #[error(transparent)]
    Role(#[from] RoleError),
    #[error("'Resource.ReservationInfo.{0}' must not be set for the 'Resource.reservation' field")]
    ReservationField(&'static str),
    #[error("Invalid reservation: role \"*\" cannot be dynamically reserved")]
    DefaultRoleDynamic,
    #[error("Invalid reservation: 'Resource.ReservationInfo.{0}' field must be set.")]
    MissingReservationField(&'static str),
    #[error("Invalid reservation: role \"*\" cannot be reserved")]
    DefaultRoleReserved,
    #[error("Invalid refined reservation: A refined reservation cannot be STATIC")]
    StaticRefinement,
    #[error("Invalid refined reservation: role '{role}' is not a refinement of '{of}'")]
    NotARefinement { role: String, of: String },
    #[error(
        "Invalid resource format: 'Resource.role' field with '{role}' does not match the role '{reserved}' in 'Resource.reservations'"
    )]
    RoleMismatch { role: String, reserved: String },
    #[error(
        "Invalid resource format: 'Resource.reservation' must not be set if the single reservation in 'Resource.reservations' is STATIC"
    )]
    ReservationBesideStatic,
    #[error(
        "Invalid resource format: 'Resource.role' and 'Resource.reservation' must either be both set or both not set if the single reservation in 'Resource.reservations' is DYNAMIC"
    )]
    HalfReservation,
    #[error(
        "Invalid resource format: 'Resource.reservation.principal' field with '{principal}' does not match the principal '{reserved}' in 'Resource.reservations'"
    )]
    PrincipalMismatch { principal: String, reserved: String },
    #[error(
        "Invalid resource format: 'Resource.reservation.labels' field with '{labels}' does not match the labels '{reserved}' in 'Resource.reservations'"
    )]
    LabelsMismatch { labels: String, reserved: String },
    #[error("Unsupported 'Resource.ReservationInfo.Type'")]
    ReservationType,
    #[error(
        "Invalid resource format: '{0}' must not be set if there is more than one reservation in 'Resource.reservations'"
    )]
    FieldBesideRefinement(&'static str),
    #[error("Resource {0} cannot be shared")]
    NotShareable(String),
    #[error("Only persistent volumes can be shared")]
    SharedNonVolume,
}

/// Which of several resources is invalid, and why.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("Resource '{resource}' is invalid: {error}")]
pub struct ResourcesError {
    /// Text of the object.
    pub resource: String,
    /// Why.
    pub error: ResourceError,
}

/// Checks every object.
pub fn validate_all(resources: &[v1::Resource]) -> Result<(), ResourcesError> {
    resources.iter().try_for_each(|resource| {
        validate(resource).map_err(|error| ResourcesError {
            resource: format::describe(resource),
            error,
        })
    })
}

/// Checks one object of any reservation format. Zero amounts are valid: they mean "nothing".
pub fn validate(resource: &v1::Resource) -> Result<(), ResourceError> {
    if resource.name.is_empty() {
        return Err(ResourceError::EmptyName);
    }
    match value::Type::try_from(resource.r#type) {
        Ok(value::Type::Scalar) => validate_scalar(resource)?,
        Ok(value::Type::Ranges) => validate_ranges(resource)?,
        Ok(value::Type::Set) => validate_set(resource)?,
        Ok(value::Type::Text) => return Err(ResourceError::UnsupportedType),
        Err(_) => return Err(ResourceError::InvalidType),
    }
    if let Some(disk) = &resource.disk {
        validate_disk(&resource.name, disk)?;
    }
    match resource.reservations.as_slice() {
        [] => validate_unrefined(resource)?,
        stack => {
            validate_stack(stack)?;
            validate_leftovers(resource, stack)?;
        }
    }
    validate_shared(resource)
}

fn validate_scalar(resource: &v1::Resource) -> Result<(), ResourceError> {
    let (Some(scalar), None, None) = (&resource.scalar, &resource.ranges, &resource.set) else {
        return Err(ResourceError::Scalar);
    };
    // An amount too small for three decimals is refused too. NaN compares as nothing else does: it
    // is refused with the rest.
    if scalar.value != 0.0 && Scalar::from(scalar) <= Scalar::ZERO {
        return Err(ResourceError::NonPositive);
    }
    Ok(())
}

fn validate_ranges(resource: &v1::Resource) -> Result<(), ResourceError> {
    let (None, Some(ranges), None) = (&resource.scalar, &resource.ranges, &resource.set) else {
        return Err(ResourceError::Ranges);
    };
    if ranges.range.iter().any(|r| r.begin > r.end) {
        return Err(ResourceError::InvertedRange);
    }
    let mut sorted: Vec<(u64, u64)> = ranges.range.iter().map(|r| (r.begin, r.end)).collect();
    sorted.sort_unstable();
    if sorted.windows(2).any(|pair| pair[1].0 <= pair[0].1) {
        return Err(ResourceError::OverlappingRanges);
    }
    Ok(())
}

fn validate_set(resource: &v1::Resource) -> Result<(), ResourceError> {
    let (None, None, Some(set)) = (&resource.scalar, &resource.ranges, &resource.set) else {
        return Err(ResourceError::Set);
    };
    let mut sorted: Vec<&str> = set.item.iter().map(String::as_str).collect();
    sorted.sort_unstable();
    if sorted.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(ResourceError::DuplicatedElements);
    }
    Ok(())
}

fn validate_disk(name: &str, disk: &DiskInfo) -> Result<(), ResourceError> {
    if name != "disk" {
        return Err(ResourceError::DiskInfo(name.into()));
    }
    let Some(source) = &disk.source else {
        return Ok(());
    };
    match source.r#type() {
        source::Type::Path | source::Type::Mount => Ok(()),
        kind @ (source::Type::Block | source::Type::Raw) => {
            let source_type = kind.as_str_name();
            if source.mount.is_some() {
                return Err(ResourceError::DiskSource {
                    field: "Mount",
                    source_type,
                });
            }
            if source.path.is_some() {
                return Err(ResourceError::DiskSource {
                    field: "Path",
                    source_type,
                });
            }
            Ok(())
        }
        source::Type::Unknown => Err(ResourceError::DiskSourceType(describe_source(source))),
    }
}

/// `role` and `reservation`, without a stack.
fn validate_unrefined(resource: &v1::Resource) -> Result<(), ResourceError> {
    roles::validate(resource.role())?;
    let Some(reservation) = &resource.reservation else {
        return Ok(());
    };
    if reservation.r#type.is_some() {
        return Err(ResourceError::ReservationField("type"));
    }
    if reservation.role.is_some() {
        return Err(ResourceError::ReservationField("role"));
    }
    if resource.role() == DEFAULT_ROLE {
        return Err(ResourceError::DefaultRoleDynamic);
    }
    Ok(())
}

fn validate_stack(stack: &[ReservationInfo]) -> Result<(), ResourceError> {
    for reservation in stack {
        if reservation.r#type.is_none() {
            return Err(ResourceError::MissingReservationField("type"));
        }
        let Some(role) = &reservation.role else {
            return Err(ResourceError::MissingReservationField("role"));
        };
        roles::validate(role)?;
        if role == DEFAULT_ROLE {
            return Err(ResourceError::DefaultRoleReserved);
        }
    }
    for pair in stack.windows(2) {
        let [below, above] = pair else { continue };
        if above.r#type() == reservation_info::Type::Static {
            return Err(ResourceError::StaticRefinement);
        }
        if !roles::is_strict_subrole(above.role(), below.role()) {
            return Err(ResourceError::NotARefinement {
                role: above.role().into(),
                of: below.role().into(),
            });
        }
    }
    Ok(())
}

/// The older fields may stand beside a stack if they say the same.
fn validate_leftovers(
    resource: &v1::Resource,
    stack: &[ReservationInfo],
) -> Result<(), ResourceError> {
    let [only] = stack else {
        if resource.role.is_some() {
            return Err(ResourceError::FieldBesideRefinement("Resource.role"));
        }
        if resource.reservation.is_some() {
            return Err(ResourceError::FieldBesideRefinement("Resource.reservation"));
        }
        return Ok(());
    };
    if let Some(role) = resource.role.as_deref().filter(|role| *role != only.role()) {
        return Err(ResourceError::RoleMismatch {
            role: role.into(),
            reserved: only.role().into(),
        });
    }
    match only.r#type() {
        reservation_info::Type::Static if resource.reservation.is_some() => {
            Err(ResourceError::ReservationBesideStatic)
        }
        reservation_info::Type::Static => Ok(()),
        reservation_info::Type::Dynamic => validate_dynamic_leftovers(resource, only),
        reservation_info::Type::Unknown => Err(ResourceError::ReservationType),
    }
}

fn validate_dynamic_leftovers(
    resource: &v1::Resource,
    only: &ReservationInfo,
) -> Result<(), ResourceError> {
    if resource.role.is_some() != resource.reservation.is_some() {
        return Err(ResourceError::HalfReservation);
    }
    let Some(reservation) = &resource.reservation else {
        return Ok(());
    };
    if reservation.principal() != only.principal() {
        let (principal, reserved) = (reservation.principal().into(), only.principal().into());
        return Err(ResourceError::PrincipalMismatch {
            principal,
            reserved,
        });
    }
    let labels = |info: &ReservationInfo| info.labels.clone().unwrap_or_default();
    if labels(reservation) != labels(only) {
        return Err(ResourceError::LabelsMismatch {
            labels: describe_labels(&labels(reservation)),
            reserved: describe_labels(&labels(only)),
        });
    }
    Ok(())
}

fn validate_shared(resource: &v1::Resource) -> Result<(), ResourceError> {
    if resource.shared.is_none() {
        return Ok(());
    }
    if resource.name != "disk" {
        return Err(ResourceError::NotShareable(resource.name.clone()));
    }
    match &resource.disk {
        Some(disk) if disk.persistence.is_some() => Ok(()),
        _ => Err(ResourceError::SharedNonVolume),
    }
}
