//! What an operation makes of resources: what it takes, and what it gives for that.
//!
//! Follows `getResourceConversions` and `applyCheckpointedResources` of
//! `src/common/resources_utils.cpp` and `ResourceConversion::apply` of `src/common/resources.cpp`.
//!
//! Deliberately absent: operations of resource providers (CREATE_DISK, DESTROY_DISK). Only a provider
//! knows what they give.

use super::{Resource, Resources, ResourcesError, upgrade};
use crate::resources::Format;
use std::sync::Arc;
use tepui_protocol::v1::{
    self,
    offer::{Operation, operation::Type},
    resource::reservation_info,
};
use thiserror::Error;

/// Why an operation cannot be carried out.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum OperationError {
    /// Nobody carries out such an operation here.
    #[error("Operation not supported")]
    Unsupported,
    /// Its type is unknown, or what belongs to its type is missing.
    #[error("Unknown operation")]
    Unknown,
    /// It names nothing.
    #[error("Operation contains no resources")]
    Empty,
    /// What it names is malformed.
    #[error("Invalid resources: {0}")]
    Invalid(#[from] ResourcesError),
    /// What it takes is not reserved.
    #[error("{0} is not reserved")]
    NotReserved(String),
    /// What should be a volume is none.
    #[error("{0} is not a persistent volume")]
    NotAVolume(String),
    /// A volume cannot become smaller than nothing, or nothing.
    #[error("The volume cannot be shrunk by more than there is of it")]
    TooSmall,
    /// It would take what is not there.
    #[error("{total} does not contain {wanted}")]
    NotContained {
        /// What there is.
        total: String,
        /// What it takes.
        wanted: String,
    },
    /// Others hold the same volume.
    #[error("Persistent volume {0} cannot be removed due to additional shared copies")]
    StillShared(String),
    /// Such a resource never has to be remembered.
    #[error("Unexpected checkpointed resources {0}")]
    NothingToRemember(String),
}

/// One exchange: a part of what there is for something else.
#[derive(Clone, Debug)]
pub struct Conversion {
    /// What it takes.
    pub consumed: Resources,
    /// What it gives.
    pub converted: Resources,
    /// Must be gone afterwards.
    gone: Option<Resource>,
}

impl Conversion {
    /// One thing for another.
    pub fn new(consumed: Resources, converted: Resources) -> Self {
        Self {
            consumed,
            converted,
            gone: None,
        }
    }

    /// The same of what a role holds.
    pub fn allocated(mut self, role: &Arc<str>) -> Self {
        self.consumed.allocate(role);
        self.converted.allocate(role);
        if let Some(gone) = &mut self.gone {
            gone.allocation_role = Some(role.clone());
        }
        self
    }
}

/// Whether what an operation does is known before it is done. Others end as only their resource
/// provider says.
pub fn is_speculative(operation: &Operation) -> bool {
    !matches!(
        operation.r#type(),
        Type::CreateDisk | Type::DestroyDisk | Type::Launch | Type::LaunchGroup
    )
}

/// What an operation that is not speculative keeps until it has ended.
pub fn kept(operation: &Operation) -> Resources {
    let source = match operation.r#type() {
        Type::CreateDisk => operation.create_disk.as_ref().map(|create| &create.source),
        Type::DestroyDisk => (operation.destroy_disk.as_ref()).map(|destroy| &destroy.source),
        _ => None,
    };
    Resources::from_proto(source)
}

/// The resources that an operation names, other than those of tasks.
pub fn named(operation: &Operation) -> Vec<&v1::Resource> {
    let mut all: Vec<&v1::Resource> = Vec::new();
    match operation.r#type() {
        Type::Reserve => {
            let reserve = operation.reserve.iter();
            all.extend(reserve.flat_map(|r| r.source.iter().chain(&r.resources)));
        }
        Type::Unreserve => all.extend(operation.unreserve.iter().flat_map(|u| &u.resources)),
        Type::Create => all.extend(operation.create.iter().flat_map(|create| &create.volumes)),
        Type::Destroy => all.extend(operation.destroy.iter().flat_map(|d| &d.volumes)),
        Type::GrowVolume => {
            let grow = operation.grow_volume.iter();
            all.extend(grow.flat_map(|grow| [&grow.volume, &grow.addition]));
        }
        Type::ShrinkVolume => all.extend(operation.shrink_volume.iter().map(|s| &s.volume)),
        Type::CreateDisk => all.extend(operation.create_disk.iter().map(|c| &c.source)),
        Type::DestroyDisk => all.extend(operation.destroy_disk.iter().map(|d| &d.source)),
        Type::Launch | Type::LaunchGroup | Type::Unknown => {}
    }
    all
}

/// The same, to be changed.
pub fn named_mut(operation: &mut Operation) -> Vec<&mut v1::Resource> {
    let kind = operation.r#type();
    let mut all: Vec<&mut v1::Resource> = Vec::new();
    match kind {
        Type::Reserve => {
            let reserve = operation.reserve.iter_mut();
            all.extend(reserve.flat_map(|r| r.source.iter_mut().chain(&mut r.resources)));
        }
        Type::Unreserve => {
            all.extend((operation.unreserve.iter_mut()).flat_map(|u| &mut u.resources));
        }
        Type::Create => all.extend(operation.create.iter_mut().flat_map(|c| &mut c.volumes)),
        Type::Destroy => all.extend(operation.destroy.iter_mut().flat_map(|d| &mut d.volumes)),
        Type::GrowVolume => {
            let grow = operation.grow_volume.iter_mut();
            all.extend(grow.flat_map(|grow| [&mut grow.volume, &mut grow.addition]));
        }
        Type::ShrinkVolume => {
            all.extend((operation.shrink_volume.iter_mut()).map(|s| &mut s.volume));
        }
        Type::CreateDisk => all.extend(operation.create_disk.iter_mut().map(|c| &mut c.source)),
        Type::DestroyDisk => {
            all.extend((operation.destroy_disk.iter_mut()).map(|d| &mut d.source));
        }
        Type::Launch | Type::LaunchGroup | Type::Unknown => {}
    }
    all
}

/// What an operation does to resources that are not allocated. Allocations in the operation are left
/// out.
pub fn conversions(operation: &Operation) -> Result<Vec<Conversion>, OperationError> {
    match operation.r#type() {
        Type::Reserve => {
            let reserve = operation.reserve.as_ref().ok_or(OperationError::Unknown)?;
            let reserved = bag(&reserve.resources)?;
            reserved.iter().try_for_each(expect_reserved)?;
            let consumed = match reserve.source.is_empty() {
                true => reserved.pop_reservation(),
                false => bag(&reserve.source)?,
            };
            Ok(vec![Conversion::new(consumed, reserved)])
        }
        Type::Unreserve => {
            let unreserve = operation.unreserve.as_ref();
            let resources = &unreserve.ok_or(OperationError::Unknown)?.resources;
            let reserved = bag(resources)?;
            reserved.iter().try_for_each(expect_reserved)?;
            let one = |resource: &Resource| {
                let reserved = Resources::from(resource.clone());
                let popped = reserved.pop_reservation();
                Conversion::new(reserved, popped)
            };
            Ok(reserved.iter().map(one).collect())
        }
        Type::Create => {
            let create = operation.create.as_ref().ok_or(OperationError::Unknown)?;
            let pair = |volume: &v1::Resource| {
                let made = Resources::from(volume_of(volume)?);
                Ok(Conversion::new(bag_of(&stripped(volume))?, made))
            };
            some(&create.volumes)?.iter().map(pair).collect()
        }
        Type::Destroy => {
            let destroy = operation.destroy.as_ref().ok_or(OperationError::Unknown)?;
            let pair = |volume: &v1::Resource| {
                let destroyed = volume_of(volume)?;
                let gone = Some(destroyed.clone());
                Ok(Conversion {
                    consumed: destroyed.into(),
                    converted: bag_of(&stripped(volume))?,
                    gone,
                })
            };
            some(&destroy.volumes)?.iter().map(pair).collect()
        }
        Type::GrowVolume => {
            let grow = operation.grow_volume.as_ref();
            let grow = grow.ok_or(OperationError::Unknown)?;
            let volume = volume_of(&grow.volume)?;
            let addition = bag_of(&grow.addition)?;
            let mut grown = grow.volume.clone();
            let more = grow.addition.scalar.as_ref().map_or(0.0, |s| s.value);
            resize(&mut grown, |now| now + more);
            let mut consumed = addition;
            consumed.add_one(volume);
            Ok(vec![Conversion::new(consumed, volume_of(&grown)?.into())])
        }
        Type::ShrinkVolume => {
            let shrink = operation.shrink_volume.as_ref();
            let shrink = shrink.ok_or(OperationError::Unknown)?;
            let less = shrink.subtract.value;
            let volume = volume_of(&shrink.volume)?;
            let size = shrink.volume.scalar.as_ref().map_or(0.0, |s| s.value);
            // Not a number compares as neither.
            if !(less > 0.0 && less < size) {
                return Err(OperationError::TooSmall);
            }
            let (mut shrunk, mut freed) = (shrink.volume.clone(), stripped(&shrink.volume));
            resize(&mut shrunk, |now| now - less);
            resize(&mut freed, |_| less);
            let mut converted = bag_of(&freed)?;
            converted.add_one(volume_of(&shrunk)?);
            Ok(vec![Conversion::new(volume.into(), converted)])
        }
        Type::Launch | Type::LaunchGroup | Type::CreateDisk | Type::DestroyDisk => {
            Err(OperationError::Unsupported)
        }
        Type::Unknown => Err(OperationError::Unknown),
    }
}

/// The resource provider whose resources an operation is about, if any.
pub fn provider_of(operation: &Operation) -> Option<&v1::ResourceProviderId> {
    let first = match operation.r#type() {
        Type::Reserve => operation.reserve.as_ref()?.resources.first()?,
        Type::Unreserve => operation.unreserve.as_ref()?.resources.first()?,
        Type::Create => operation.create.as_ref()?.volumes.first()?,
        Type::Destroy => operation.destroy.as_ref()?.volumes.first()?,
        Type::GrowVolume => &operation.grow_volume.as_ref()?.volume,
        Type::ShrinkVolume => &operation.shrink_volume.as_ref()?.volume,
        Type::CreateDisk => &operation.create_disk.as_ref()?.source,
        Type::DestroyDisk => &operation.destroy_disk.as_ref()?.source,
        Type::Launch | Type::LaunchGroup | Type::Unknown => return None,
    };
    first.provider_id.as_ref()
}

impl Resources {
    /// All conversions, one after the other, or none.
    pub fn apply(&self, conversions: &[Conversion]) -> Result<Self, OperationError> {
        let mut result = self.clone();
        for conversion in conversions {
            let rest = result.checked_sub(&conversion.consumed);
            let mut next = rest.ok_or_else(|| OperationError::NotContained {
                total: result.to_string(),
                wanted: conversion.consumed.to_string(),
            })?;
            next += &conversion.converted;
            if let Some(gone) = &conversion.gone
                && next.contains_one(gone)
            {
                return Err(OperationError::StillShared(gone.to_string()));
            }
            result = next;
        }
        Ok(result)
    }

    /// What operations made of these, that a restart must not undo.
    pub fn to_remember(&self) -> Self {
        self.filter(Resource::is_to_remember)
    }

    /// What there is at a start: `self` as the flags say, with what was remembered in place of what it
    /// was made of.
    pub fn with_remembered(&self, remembered: &Self) -> Result<Self, OperationError> {
        let mut total = self.clone();
        for resource in remembered.iter() {
            if !resource.is_to_remember() {
                return Err(OperationError::NothingToRemember(resource.to_string()));
            }
            let mut origin = resource.to_proto(Format::PostRefinement);
            let fixed =
                |r: &v1::resource::ReservationInfo| r.r#type() == reservation_info::Type::Static;
            origin.reservations.truncate(1);
            origin.reservations.retain(fixed);
            let origin = bag_of(&stripped(&origin))?;
            total = total
                .checked_sub(&origin)
                .ok_or_else(|| OperationError::NotContained {
                    total: total.to_string(),
                    wanted: origin.to_string(),
                })?;
            total.add_one(resource.clone());
        }
        Ok(total)
    }
}

impl Resource {
    /// Whether an operation made it: dynamically reserved, or a persistent volume, and not the matter
    /// of a resource provider.
    pub fn is_to_remember(&self) -> bool {
        self.provider_id().is_none()
            && (self.is_dynamically_reserved() || self.is_persistent_volume())
    }
}

fn some(resources: &[v1::Resource]) -> Result<&[v1::Resource], OperationError> {
    match resources.is_empty() {
        true => Err(OperationError::Empty),
        false => Ok(resources),
    }
}

fn bag(protos: &[v1::Resource]) -> Result<Resources, OperationError> {
    let plain: Vec<_> = some(protos)?.iter().map(plain).collect();
    Ok(Resources::try_from_proto(&plain)?)
}

fn bag_of(proto: &v1::Resource) -> Result<Resources, OperationError> {
    bag(std::slice::from_ref(proto))
}

/// In the newer form, allocated to nobody.
fn plain(proto: &v1::Resource) -> v1::Resource {
    let mut proto = proto.clone();
    proto.allocation_info = None;
    upgrade(&mut proto);
    proto
}

fn volume_of(proto: &v1::Resource) -> Result<Resource, OperationError> {
    let not_a_volume = || OperationError::NotAVolume(super::describe(proto));
    let bag = bag_of(proto)?;
    let volume = bag.iter().next().ok_or_else(not_a_volume)?;
    if !volume.is_persistent_volume() {
        return Err(not_a_volume());
    }
    // Its directory is named by its role: an unreserved one has none.
    if volume.is_unreserved() {
        return Err(OperationError::NotReserved(volume.to_string()));
    }
    Ok(volume.clone())
}

fn expect_reserved(resource: &Resource) -> Result<(), OperationError> {
    match resource.is_dynamically_reserved() {
        true => Ok(()),
        false => Err(OperationError::NotReserved(resource.to_string())),
    }
}

/// The disk that a volume is made of.
fn stripped(volume: &v1::Resource) -> v1::Resource {
    let mut disk = plain(volume);
    match &mut disk.disk {
        Some(info) if info.source.is_some() => {
            info.persistence = None;
            info.volume = None;
        }
        info => *info = None,
    }
    // Only volumes are shared.
    disk.shared = None;
    disk
}

fn resize(resource: &mut v1::Resource, change: impl FnOnce(f64) -> f64) {
    if let Some(scalar) = &mut resource.scalar {
        scalar.value = change(scalar.value);
    }
}
