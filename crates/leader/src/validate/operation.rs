//! Operations on reservations, volumes and disks, whoever wants them.
//!
//! Follows `operation::validate` in `src/master/validation.cpp`; the semantics are those of
//! `docs/reservation.md` and `docs/persistent-volume.md`.

use super::{resource, set_text};
use crate::state::{Follower, Framework};
use std::collections::BTreeSet;
use tepui_model::{
    Scalar,
    resources::{Resources, describe, validate},
};
use tepui_protocol::v1::{
    Resource, ResourceProviderId,
    offer::{
        Operation,
        operation::{
            Create, CreateDisk, Destroy, DestroyDisk, GrowVolume, Reserve, ShrinkVolume, Type,
            Unreserve,
        },
    },
    resource::{ReservationInfo, disk_info::source, reservation_info},
    volume,
};

type Checked = Result<(), String>;

/// Who wants an operation done, and where. Resources in the operation are in the newest format.
#[derive(Clone, Copy)]
pub(crate) struct Site<'a> {
    pub(crate) follower: &'a Follower,
    /// None: an operator.
    pub(crate) framework: Option<&'a Framework>,
    /// As which it was authenticated, or claims to be.
    pub(crate) principal: Option<&'a str>,
}

/// Any of them.
pub(crate) fn operation(operation: &Operation, site: Site<'_>) -> Checked {
    fn some<T>(field: Option<&T>, check: impl FnOnce(&T) -> Checked) -> Checked {
        field.map_or_else(|| Err("Unknown operation".to_owned()), check)
    }
    let o = operation;
    match o.r#type() {
        Type::Reserve => some(o.reserve.as_ref(), |reserve_| reserve(reserve_, site)),
        Type::Unreserve => some(o.unreserve.as_ref(), unreserve),
        Type::Create => some(o.create.as_ref(), |create_| create(create_, site)),
        Type::Destroy => some(o.destroy.as_ref(), |d| destroy(d, site.follower)),
        Type::GrowVolume => some(o.grow_volume.as_ref(), |g| grow_volume(g, site.follower)),
        Type::ShrinkVolume => some(o.shrink_volume.as_ref(), |s| {
            shrink_volume(s, site.follower)
        }),
        Type::CreateDisk => some(o.create_disk.as_ref(), create_disk),
        Type::DestroyDisk => some(o.destroy_disk.as_ref(), destroy_disk),
        Type::Launch | Type::LaunchGroup | Type::Unknown => Err("Unknown operation".to_owned()),
    }
}

/// `RESERVE`
pub(crate) fn reserve(reserve: &Reserve, site: Site<'_>) -> Checked {
    let (resources, source) = (&reserve.resources, &reserve.source);
    valid(resources)?;
    resource::usable(source).map_err(|error| format!("Invalid source: {error}"))?;
    if !source.is_empty() {
        alike(source).map_err(|error| format!("Invalid source: {error}"))?;
        alike(resources).map_err(|error| format!("Invalid resources: {error}"))?;
        let [from, to] = [source, resources].map(|all| Resources::from_proto(all).to_unreserved());
        if from != to {
            return Err(format!(
                "Source and target resources should refer to identical resource quantities: {from} vs. {to}"
            ));
        }
    }
    single_provider(resources)?;
    for resource in resources {
        reservable(resource, site)?;
    }
    if site.framework.is_some() {
        resource::single_role(&Resources::from_proto(resources))
            .map_err(|error| format!("Invalid reservation resources: {error}"))?;
    }
    Ok(())
}

fn reservable(resource: &Resource, site: Site<'_>) -> Checked {
    let text = describe(resource);
    let Some(reservation) = dynamic(resource) else {
        return Err(format!("Resource {text} is not dynamically reserved"));
    };
    let role = reservation.role();
    let can = site.follower.can;
    if !can.hierarchical_role && role.contains('/') {
        return Err(format!(
            "Resource {text} with reservation for hierarchical role '{role}' cannot be reserved on an agent without \
             HIERARCHICAL_ROLE capability"
        ));
    }
    if !can.reservation_refinement && resource.reservations.len() > 1 {
        return Err(format!(
            "Resource {text} with reservation refinement cannot be reserved on an agent without \
             RESERVATION_REFINEMENT capability"
        ));
    }
    if let Some(principal) = site.principal {
        match &reservation.principal {
            None => {
                return Err(format!(
                    "A reserve operation was attempted by principal '{principal}', but there is a reserved resource \
                     in the request with no principal set"
                ));
            }
            Some(own) if own != principal => {
                return Err(format!(
                    "A reserve operation was attempted by authenticated principal '{principal}', which does not \
                     match a reserved resource in the request with principal '{own}'"
                ));
            }
            Some(_) => {}
        }
    }
    let allocated = resource.allocation_info.as_ref();
    let Some(framework) = site.framework else {
        return match allocated {
            None => Ok(()),
            Some(_) => Err(
                "A reserve operation was attempted with an allocated resource, but the operator API only allows \
                 reservations to be made to unallocated resources"
                    .to_owned(),
            ),
        };
    };
    let Some(allocated) = allocated.and_then(|info| info.role.as_deref()) else {
        return Err(format!(
            "A reserve operation was attempted on unallocated resource {text}, but frameworks can only perform \
             reservations on allocated resources"
        ));
    };
    if allocated != role {
        return Err(format!(
            "A reserve operation was attempted for a resource with role '{role}', but the resource was allocated to \
             role '{allocated}'"
        ));
    }
    if !framework.roles.contains(allocated) {
        return Err(format!(
            "A reserve operation was attempted for a resource allocated to role '{allocated}', but the framework \
             only has roles '{}'",
            set_text(&framework.roles)
        ));
    }
    Ok(())
}

/// `UNRESERVE`. Who may take back whose reservation is a matter of authorization.
pub(crate) fn unreserve(unreserve: &Unreserve) -> Checked {
    valid(&unreserve.resources)?;
    single_provider(&unreserve.resources)?;
    for resource in &unreserve.resources {
        let text = describe(resource);
        if dynamic(resource).is_none() {
            return Err(format!("Resource {text} is not dynamically reserved"));
        }
        if is_volume(resource) {
            return Err(format!(
                "A dynamically reserved persistent volume {text} cannot be unreserved directly. Please destroy the \
                 persistent volume first then unreserve the resource"
            ));
        }
    }
    Ok(())
}

/// `CREATE`
pub(crate) fn create(create: &Create, site: Site<'_>) -> Checked {
    let volumes = &create.volumes;
    valid(volumes)?;
    single_provider(volumes)?;
    persistent(volumes).map_err(|error| format!("Not a persistent volume: {error}"))?;
    new_ids(volumes, site.follower)?;
    for volume in volumes {
        creatable(volume, site)?;
    }
    if site.framework.is_some() {
        resource::single_role(&Resources::from_proto(volumes))
            .map_err(|error| format!("Invalid volume resources: {error}"))?;
    }
    Ok(())
}

/// The ids of volumes are unique per role on a follower.
fn new_ids(volumes: &[Resource], follower: &Follower) -> Checked {
    let mut ids: BTreeSet<(String, String)> = BTreeSet::new();
    for volume in follower.total.persistent_volumes().iter() {
        let persistence = volume.disk().and_then(|disk| disk.persistence.as_ref());
        if let (Some(role), Some(persistence)) = (volume.reservation_role(), persistence) {
            ids.insert((role.to_owned(), persistence.id.clone()));
        }
    }
    for volume in volumes {
        let role = volume.reservations.last().map_or("*", |last| last.role());
        let disk = volume.disk.as_ref();
        let id = disk
            .and_then(|disk| disk.persistence.as_ref())
            .map_or("", |p| &p.id);
        if !ids.insert((role.to_owned(), id.to_owned())) {
            return Err(format!("Persistence ID '{id}' is not unique"));
        }
    }
    Ok(())
}

fn creatable(volume: &Resource, site: Site<'_>) -> Checked {
    let text = describe(volume);
    let role = volume.reservations.last().map_or("*", |last| last.role());
    if let Some(framework) = site.framework
        && volume.shared.is_some()
        && !framework.capabilities.shared_resources
    {
        return Err(format!(
            "Create volume operation for '{text}' has been attempted by framework '{}' with no SHARED_RESOURCES \
             capability",
            framework.id
        ));
    }
    let can = site.follower.can;
    if !can.hierarchical_role && role.contains('/') {
        return Err(format!(
            "Volume {text} with reservation for hierarchical role '{role}' cannot be created on an agent without \
             HIERARCHICAL_ROLE capability"
        ));
    }
    if !can.reservation_refinement && volume.reservations.len() > 1 {
        return Err(format!(
            "Volume {text} with reservation refinement cannot be created on an agent without \
             RESERVATION_REFINEMENT capability"
        ));
    }
    let Some(principal) = site.principal else {
        return Ok(());
    };
    let persistence = volume
        .disk
        .as_ref()
        .and_then(|disk| disk.persistence.as_ref());
    match persistence.and_then(|persistence| persistence.principal.as_deref()) {
        None => Err(format!(
            "Create volume operation attempted by principal '{principal}', but there is a volume in the operation \
             with no principal set in 'disk.persistence'"
        )),
        Some(own) if own != principal => Err(format!(
            "Create volume operation attempted by authenticated principal '{principal}', which does not match a \
             volume in the operation with principal '{own}' set in 'disk.persistence'"
        )),
        Some(_) => Ok(()),
    }
}

/// `DESTROY`
pub(crate) fn destroy(destroy: &Destroy, follower: &Follower) -> Checked {
    let volumes = &destroy.volumes;
    valid(volumes)?;
    single_provider(volumes)?;
    persistent(volumes).map_err(|error| format!("Not a persistent volume: {error}"))?;
    let volumes = Resources::from_proto(volumes).unallocated();
    let own = follower.total.to_remember();
    let mut theirs = volumes.iter().filter(|v| v.provider_id().is_none());
    if !theirs.all(|volume| own.contains_one(volume)) {
        return Err("Persistent volumes not found".to_owned());
    }
    // Shared ones are offered while they are in use.
    for used in follower.used.values() {
        let used = used.clone().unallocated();
        if volumes.iter().any(|volume| used.contains_one(volume)) {
            return Err("Persistent volumes in use".to_owned());
        }
    }
    Ok(())
}

/// `GROW_VOLUME`
pub(crate) fn grow_volume(grow: &GrowVolume, follower: &Follower) -> Checked {
    let (volume, addition) = (&grow.volume, &grow.addition);
    for (name, resource) in [("volume", volume), ("addition", addition)] {
        validate(resource).map_err(|error| {
            format!(
                "Invalid resource in the 'GrowVolume.{name}' field: Resource '{}' is invalid: {error}",
                describe(resource)
            )
        })?;
    }
    if size(addition) <= Scalar::ZERO {
        return Err("The size of 'GrowVolume.addition' field must be greater than zero".to_owned());
    }
    if volume.provider_id.is_some() {
        return Err("Growing a volume from a resource provider is not supported".to_owned());
    }
    persistent(std::slice::from_ref(volume)).map_err(|error| {
        format!("Invalid persistent volume in the 'GrowVolume.volume' field: {error}")
    })?;
    if volume.shared.is_some() {
        return Err("Growing a shared persistent volume is not supported".to_owned());
    }
    let mut stripped = volume.clone();
    match &mut stripped.disk {
        Some(disk) if disk.source.is_some() => {
            disk.persistence = None;
            disk.volume = None;
        }
        disk => *disk = None,
    }
    if Resources::from_proto([&stripped, addition]).len() != 1 {
        return Err(
            "Incompatible resources in the 'GrowVolume.volume' and 'GrowVolume.addition' fields"
                .to_owned(),
        );
    }
    if !follower.can.resize_volume {
        return Err(format!(
            "Volume {} cannot be grown on an agent without RESIZE_VOLUME capability",
            describe(volume)
        ));
    }
    Ok(())
}

/// `SHRINK_VOLUME`
pub(crate) fn shrink_volume(shrink: &ShrinkVolume, follower: &Follower) -> Checked {
    let volume = &shrink.volume;
    validate(volume).map_err(|error| {
        format!(
            "Invalid resource in the 'ShrinkVolume.volume' field: Resource '{}' is invalid: {error}",
            describe(volume)
        )
    })?;
    let subtract = Scalar::from(&shrink.subtract);
    if subtract <= Scalar::ZERO || shrink.subtract.value.is_nan() {
        return Err("Value of 'ShrinkVolume.subtract' must be greater than zero".to_owned());
    }
    if size(volume) <= subtract {
        return Err(
            "Value of 'ShrinkVolume.subtract' must be smaller than the size of 'ShrinkVolume.volume'"
                .to_owned(),
        );
    }
    if volume.provider_id.is_some() {
        return Err("Shrinking a volume from a resource provider is not supported".to_owned());
    }
    if source_type(volume) == Some(source::Type::Mount) {
        return Err("Shrinking a volume on a MOUNT disk is not supported".to_owned());
    }
    persistent(std::slice::from_ref(volume)).map_err(|error| {
        format!("Invalid persistent volume in the 'ShrinkVolume.volume' field: {error}")
    })?;
    if volume.shared.is_some() {
        return Err("Shrinking a shared persistent volume is not supported".to_owned());
    }
    if !follower.can.resize_volume {
        return Err(format!(
            "Volume {} cannot be shrunk on an agent without RESIZE_VOLUME capability",
            describe(volume)
        ));
    }
    Ok(())
}

/// `CREATE_DISK`
pub(crate) fn create_disk(create: &CreateDisk) -> Checked {
    let disk = &create.source;
    let text = |text: &str| Err(text.to_owned());
    one(disk)?;
    if disk.provider_id.is_none() {
        return text("'source' is not managed by a resource provider");
    }
    if source_type(disk) != Some(source::Type::Raw) {
        return text("'source' is not a RAW disk resource");
    }
    if !matches!(
        create.target_type(),
        source::Type::Mount | source::Type::Block
    ) {
        return text("'target_type' is neither MOUNT or BLOCK");
    }
    let own = disk.disk.as_ref().and_then(|disk| disk.source.as_ref());
    let has_profile = own.is_some_and(|source| source.profile.is_some());
    match (has_profile, create.target_profile.is_some()) {
        (true, true) => text("'target_profile' must not be set when 'source' has a profile"),
        (false, false) => text("'target_profile' must be set when 'source' has no profile"),
        _ => Ok(()),
    }
}

/// `DESTROY_DISK`
pub(crate) fn destroy_disk(destroy: &DestroyDisk) -> Checked {
    let disk = &destroy.source;
    let text = |text: &str| Err(text.to_owned());
    one(disk)?;
    if disk.provider_id.is_none() {
        return text("'source' is not managed by a resource provider");
    }
    let kinds = [source::Type::Mount, source::Type::Block, source::Type::Raw];
    if !source_type(disk).is_some_and(|kind| kinds.contains(&kind)) {
        return text("'source' is neither a MOUNT, BLOCK or RAW disk resource");
    }
    let own = disk.disk.as_ref().and_then(|disk| disk.source.as_ref());
    if own.is_none_or(|source| source.id.is_none()) {
        return text("'source' is not backed by a CSI volume");
    }
    if is_volume(disk) {
        return Err(format!(
            "A disk resource containing a persistent volume {} cannot be destroyed directly. Please destroy the \
             persistent volume first then destroy the disk resource",
            describe(disk)
        ));
    }
    Ok(())
}

fn valid(resources: &[Resource]) -> Checked {
    resource::usable(resources).map_err(|error| format!("Invalid resources: {error}"))
}

fn one(resource: &Resource) -> Checked {
    resource::usable(std::slice::from_ref(resource))
        .map_err(|error| format!("Invalid resource: {error}"))
}

/// All have the same reservations.
fn alike(resources: &[Resource]) -> Checked {
    let Some(first) = resources.first() else {
        return Err("Resource cannot be empty".to_owned());
    };
    match resources
        .iter()
        .all(|resource| resource.reservations == first.reservations)
    {
        true => Ok(()),
        false => {
            let all: Vec<String> = resources.iter().map(describe).collect();
            Err(format!(
                "Mixed reservations are not supported[ {} ]",
                all.join(", ")
            ))
        }
    }
}

/// All are of the follower itself, or all of the same provider. The reference finds several in nothing.
fn single_provider(resources: &[Resource]) -> Checked {
    let providers: BTreeSet<Option<&str>> = resources
        .iter()
        .map(|r| r.provider_id.as_ref().map(provider_text))
        .collect();
    if providers.len() == 1 {
        return Ok(());
    }
    if providers.contains(&None) {
        return Err(
            "Invalid resources: Some resources have a resource provider and some do not".to_owned(),
        );
    }
    let ids: Vec<&str> = providers.into_iter().flatten().collect();
    Err(format!(
        "Invalid resources: The resources have multiple resource providers: {}",
        ids.join(", ")
    ))
}

fn provider_text(id: &ResourceProviderId) -> &str {
    &id.value
}

/// All are persistent volumes.
fn persistent(volumes: &[Resource]) -> Checked {
    for resource in volumes {
        let Some(disk) = &resource.disk else {
            return Err(format!(
                "Resource {} does not have DiskInfo",
                describe(resource)
            ));
        };
        if disk.persistence.is_none() {
            return Err("'persistence' is not set in DiskInfo".to_owned());
        }
        match &disk.volume {
            None => return Err("Expecting 'volume' to be set for persistent volume".to_owned()),
            Some(own) if own.mode() == volume::Mode::Ro => {
                return Err("Read-only persistent volume not supported".to_owned());
            }
            Some(_) => {}
        }
    }
    Ok(())
}

/// Its last reservation, if that was made at run time.
fn dynamic(resource: &Resource) -> Option<&ReservationInfo> {
    let last = resource.reservations.last()?;
    (last.r#type() == reservation_info::Type::Dynamic).then_some(last)
}

fn is_volume(resource: &Resource) -> bool {
    let disk = resource.disk.as_ref();
    disk.is_some_and(|disk| disk.persistence.is_some())
}

fn source_type(resource: &Resource) -> Option<source::Type> {
    let source = resource.disk.as_ref()?.source.as_ref()?;
    Some(source.r#type())
}

fn size(resource: &Resource) -> Scalar {
    resource
        .scalar
        .as_ref()
        .map(Scalar::from)
        .unwrap_or_default()
}
