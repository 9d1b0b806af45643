//! The three shapes of a resource on the wire, and its text.
//!
//! Inside, reservations are a stack (`reservations`). Clients without the RESERVATION_REFINEMENT
//! capability speak `role` + `reservation`; the JSON endpoints carry both. Follows
//! `src/common/resources_utils.cpp` and `docs/reservation.md`; texts follow the stream operators of
//! `src/common/resources.cpp`.

use super::{Amount, Resource};
use crate::{roles::DEFAULT_ROLE, scalar::Scalar, values};
use std::fmt::{self, Write as _};
use tepui_protocol::v1::{
    self,
    resource::{
        AllocationInfo, DiskInfo, ReservationInfo, RevocableInfo, SharedInfo,
        disk_info::{Source, source},
        reservation_info,
    },
    value,
};

/// Which shape to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `reservations` only: inside, and to clients with RESERVATION_REFINEMENT.
    PostRefinement,
    /// `role` and `reservation` only: to clients without it. Refined reservations have no such
    /// shape and keep `reservations`; callers filter those out beforehand.
    PreRefinement,
    /// Both, where both exist: JSON endpoints.
    Endpoint,
}

/// Converts a wire object to the post-refinement shape, as the reference does at its edges.
pub fn upgrade(resource: &mut v1::Resource) {
    resource.reservations = reservations_of(resource);
    resource.role = None;
    resource.reservation = None;
}

/// Converts a wire object in the post-refinement shape to another.
pub fn downgrade(resource: &mut v1::Resource, format: Format) {
    if format == Format::PostRefinement {
        return;
    }
    match resource.reservations.as_slice() {
        [] => resource.role = Some(DEFAULT_ROLE.into()),
        [only] => {
            resource.role = only.role.clone();
            resource.reservation =
                (only.r#type() == reservation_info::Type::Dynamic).then(|| ReservationInfo {
                    principal: only.principal.clone(),
                    labels: only.labels.clone(),
                    ..Default::default()
                });
            if format == Format::PreRefinement {
                resource.reservations.clear();
            }
        }
        _ => {}
    }
}

/// The reservation stack of a wire object of any shape.
pub(super) fn reservations_of(resource: &v1::Resource) -> Vec<ReservationInfo> {
    if !resource.reservations.is_empty() {
        return resource.reservations.clone();
    }
    let role = resource.role();
    if role == DEFAULT_ROLE {
        return Vec::new();
    }
    let (kind, base) = match &resource.reservation {
        Some(reservation) => (reservation_info::Type::Dynamic, reservation.clone()),
        None => (reservation_info::Type::Static, ReservationInfo::default()),
    };
    vec![ReservationInfo {
        r#type: Some(kind as i32),
        role: Some(role.to_owned()),
        ..base
    }]
}

impl Resource {
    /// As it stands on the wire. A shared one is written once, however often it is held.
    pub fn to_proto(&self, format: Format) -> v1::Resource {
        let mut proto = v1::Resource {
            name: self.name.as_str().to_owned(),
            ..Default::default()
        };
        match &self.amount {
            Amount::Scalar(amount) => {
                proto.set_type(value::Type::Scalar);
                proto.scalar = Some(amount.to_proto());
            }
            Amount::Ranges(ranges) => {
                proto.set_type(value::Type::Ranges);
                proto.ranges = Some(ranges.to_proto());
            }
            Amount::Set(set) => {
                proto.set_type(value::Type::Set);
                proto.set = Some(set.to_proto());
            }
        }
        proto.allocation_info = self.allocation_role.as_ref().map(|role| AllocationInfo {
            role: Some(role.as_ref().to_owned()),
        });
        if let Some(traits) = &self.traits {
            proto.reservations = traits.reservations.clone();
            proto.disk = traits.disk.clone();
            proto.provider_id = traits
                .provider_id
                .as_ref()
                .map(|id| v1::ResourceProviderId {
                    value: id.as_ref().to_owned(),
                });
            proto.revocable = traits.revocable.then(RevocableInfo::default);
            proto.shared = traits.shared.then(SharedInfo::default);
        }
        downgrade(&mut proto, format);
        proto
    }
}

/// `cpus(allocated: eng)(reservations: [(STATIC,eng)]):2`
impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&describe(&self.to_proto(Format::PostRefinement)))?;
        if self.is_shared() {
            write!(f, "<{}>", self.copies)
        } else {
            Ok(())
        }
    }
}

/// Text of a wire object, valid or not, as error messages carry it.
pub fn describe(resource: &v1::Resource) -> String {
    let mut text = resource.name.clone();
    if let Some(info) = &resource.allocation_info {
        let _ = write!(text, "(allocated: {})", info.role());
    }
    if !resource.reservations.is_empty() {
        let stack: Vec<String> = resource
            .reservations
            .iter()
            .map(|r| format!("({})", describe_reservation(r)))
            .collect();
        let _ = write!(text, "(reservations: [{}])", stack.join(","));
    }
    if let Some(disk) = &resource.disk {
        let _ = write!(text, "[{}]", describe_disk(disk));
    }
    if resource.revocable.is_some() {
        text.push_str("{REV}");
    }
    if resource.shared.is_some() {
        text.push_str("<SHARED>");
    }
    text.push(':');
    let value = match value::Type::try_from(resource.r#type) {
        Ok(value::Type::Scalar) => resource
            .scalar
            .as_ref()
            .map(|s| Scalar::from(s).to_string()),
        Ok(value::Type::Ranges) => resource
            .ranges
            .as_ref()
            .map(|r| values::Ranges::from(r).to_string()),
        Ok(value::Type::Set) => resource
            .set
            .as_ref()
            .map(|s| values::Set::from(s).to_string()),
        _ => None,
    };
    text.push_str(value.as_deref().unwrap_or_default());
    text
}

fn describe_reservation(reservation: &ReservationInfo) -> String {
    let mut text = format!(
        "{},{}",
        reservation.r#type().as_str_name(),
        reservation.role()
    );
    if let Some(principal) = &reservation.principal {
        let _ = write!(text, ",{principal}");
    }
    if let Some(labels) = &reservation.labels {
        let _ = write!(text, ",{}", describe_labels(labels));
    }
    text
}

/// `{key: value, bare}`
pub fn describe_labels(labels: &v1::Labels) -> String {
    let texts: Vec<String> = labels
        .labels
        .iter()
        .map(|label| match &label.value {
            Some(value) => format!("{}: {value}", label.key),
            None => label.key.clone(),
        })
        .collect();
    format!("{{{}}}", texts.join(", "))
}

fn describe_disk(disk: &DiskInfo) -> String {
    let mut text = disk
        .source
        .as_ref()
        .map(describe_source)
        .unwrap_or_default();
    if let Some(persistence) = &disk.persistence {
        let comma = if disk.source.is_some() { "," } else { "" };
        let _ = write!(text, "{comma}{}", persistence.id);
    }
    if let Some(volume) = &disk.volume {
        let _ = write!(text, ":{}", describe_volume(volume));
    }
    text
}

/// `MOUNT:/mnt/disk`
pub(super) fn describe_source(source: &Source) -> String {
    let root = match source.r#type() {
        source::Type::Mount => source.mount.as_ref().and_then(|m| m.root.as_ref()),
        source::Type::Path => source.path.as_ref().and_then(|p| p.root.as_ref()),
        _ => None,
    };
    let detail = if source.id.is_some() || source.profile.is_some() {
        format!("({},{},{})", source.vendor(), source.id(), source.profile())
    } else {
        root.map(|root| format!(":{root}")).unwrap_or_default()
    };
    format!("{}{detail}", source.r#type().as_str_name())
}

fn describe_volume(volume: &v1::Volume) -> String {
    let Some(host_path) = &volume.host_path else {
        return volume.container_path.clone();
    };
    let mode = match volume.mode() {
        v1::volume::Mode::Rw => ":rw",
        v1::volume::Mode::Ro => ":ro",
    };
    format!("{host_path}:{}{mode}", volume.container_path)
}
