//! One resource object: a value, and what tells it apart from others of its name.
//!
//! What most objects share (no reservation, no disk info) costs nothing; the rest sits behind one
//! shared pointer. The allocation role stays outside it, because it comes and goes with each offer.

use super::{Name, format};
use crate::{
    roles,
    scalar::Scalar,
    values::{Ranges, Set},
};
use std::sync::Arc;
use tepui_protocol::v1::{
    self,
    resource::{DiskInfo, ReservationInfo, disk_info::source, reservation_info},
    value,
};

/// Amount or items of a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Amount {
    /// `cpus:2`
    Scalar(Scalar),
    /// `ports:[1-2]`
    Ranges(Ranges),
    /// `zones:{a, b}`
    Set(Set),
}

impl Amount {
    /// Whether there is nothing of it.
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Scalar(amount) => amount.is_zero(),
            Self::Ranges(ranges) => ranges.is_empty(),
            Self::Set(set) => set.is_empty(),
        }
    }
    /// Whether `other` is of the same type and no more.
    pub fn contains(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Scalar(a), Self::Scalar(b)) => b <= a,
            (Self::Ranges(a), Self::Ranges(b)) => a.contains(b),
            (Self::Set(a), Self::Set(b)) => a.contains(b),
            _ => false,
        }
    }
    fn add(&mut self, other: &Self) {
        match (self, other) {
            (Self::Scalar(a), Self::Scalar(b)) => *a += *b,
            (Self::Ranges(a), Self::Ranges(b)) => *a = a.union(b),
            (Self::Set(a), Self::Set(b)) => *a = a.union(b),
            // Metadata includes the type: callers never get here.
            _ => {}
        }
    }
    /// Stops at nothing.
    fn subtract(&mut self, other: &Self) {
        match (self, other) {
            (Self::Scalar(a), Self::Scalar(b)) => *a = (*a - *b).max(Scalar::ZERO),
            (Self::Ranges(a), Self::Ranges(b)) => *a = a.difference(b),
            (Self::Set(a), Self::Set(b)) => *a = a.difference(b),
            _ => {}
        }
    }
    fn same_type(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }
}

/// What few resources have.
#[derive(Clone, Debug, Default)]
pub(super) struct Traits {
    pub(super) reservations: Vec<ReservationInfo>,
    pub(super) disk: Option<Box<DiskInfo>>,
    pub(super) provider_id: Option<Arc<str>>,
    pub(super) revocable: bool,
    pub(super) shared: bool,
}

impl Traits {
    fn is_plain(&self) -> bool {
        self.reservations.is_empty()
            && self.disk.is_none()
            && self.provider_id.is_none()
            && !self.revocable
            && !self.shared
    }
}

/// A valid, non-empty resource object in the post-reservation-refinement form.
#[derive(Clone, Debug)]
pub struct Resource {
    pub(super) name: Name,
    pub(super) amount: Amount,
    pub(super) allocation_role: Option<Arc<str>>,
    pub(super) traits: Option<Arc<Traits>>,
    /// How often a shared one is held; 1 for all others.
    pub(super) copies: u32,
}

impl Resource {
    /// An unreserved scalar.
    pub fn scalar(name: &str, amount: Scalar) -> Self {
        Self::plain(name, Amount::Scalar(amount))
    }
    /// An unreserved resource.
    pub fn plain(name: &str, amount: Amount) -> Self {
        Self {
            name: Name::new(name),
            amount,
            allocation_role: None,
            traits: None,
            copies: 1,
        }
    }
    /// From a valid wire object of either reservation format. `None` if its type has no value.
    pub(super) fn from_valid(proto: &v1::Resource) -> Option<Self> {
        let amount = match proto.r#type() {
            value::Type::Scalar => Amount::Scalar(proto.scalar.as_ref()?.into()),
            value::Type::Ranges => Amount::Ranges(proto.ranges.as_ref()?.into()),
            value::Type::Set => Amount::Set(proto.set.as_ref()?.into()),
            value::Type::Text => return None,
        };
        let traits = Traits {
            reservations: format::reservations_of(proto),
            disk: proto.disk.clone(),
            provider_id: proto
                .provider_id
                .as_ref()
                .map(|id| id.value.as_str().into()),
            revocable: proto.revocable.is_some(),
            shared: proto.shared.is_some(),
        };
        Some(Self {
            name: Name::new(&proto.name),
            amount,
            allocation_role: proto
                .allocation_info
                .as_ref()
                .map(|info| info.role().into()),
            traits: (!traits.is_plain()).then(|| Arc::new(traits)),
            copies: 1,
        })
    }

    /// Name.
    pub fn name(&self) -> &Name {
        &self.name
    }
    /// Value.
    pub fn amount(&self) -> &Amount {
        &self.amount
    }
    /// Value, if it is a scalar.
    pub fn as_scalar(&self) -> Option<Scalar> {
        match self.amount {
            Amount::Scalar(amount) => Some(amount),
            _ => None,
        }
    }
    /// The role it is offered or allocated to, if any.
    pub fn allocation_role(&self) -> Option<&Arc<str>> {
        self.allocation_role.as_ref()
    }
    /// Its reservations, the last being the most refined.
    pub fn reservations(&self) -> &[ReservationInfo] {
        self.traits.as_ref().map_or(&[], |t| &t.reservations)
    }
    /// The role it is reserved to, if any.
    pub fn reservation_role(&self) -> Option<&str> {
        self.reservations().last().map(ReservationInfo::role)
    }
    /// Disk info.
    pub fn disk(&self) -> Option<&DiskInfo> {
        self.traits.as_ref()?.disk.as_deref()
    }
    /// The resource provider it comes from, if not the follower itself.
    pub fn provider_id(&self) -> Option<&str> {
        self.traits.as_ref()?.provider_id.as_deref()
    }
    /// Whether nobody has a reservation on it.
    pub fn is_unreserved(&self) -> bool {
        self.reservations().is_empty()
    }
    /// Whether its (most refined) reservation was made at run time.
    pub fn is_dynamically_reserved(&self) -> bool {
        self.reservations()
            .last()
            .is_some_and(|r| r.r#type() == reservation_info::Type::Dynamic)
    }
    /// Whether a role may be offered it: unreserved, or reserved to the role or one above it.
    pub fn is_allocatable_to(&self, role: &str) -> bool {
        self.reservation_role()
            .is_none_or(|reserved| roles::is_in_subtree(role, reserved))
    }
    /// Whether it is a persistent volume.
    pub fn is_persistent_volume(&self) -> bool {
        self.disk().is_some_and(|disk| disk.persistence.is_some())
    }
    /// Whether it may be taken away at any time.
    pub fn is_revocable(&self) -> bool {
        self.traits.as_ref().is_some_and(|t| t.revocable)
    }
    /// Whether several holders may have it at once.
    pub fn is_shared(&self) -> bool {
        self.traits.as_ref().is_some_and(|t| t.shared)
    }
    /// How often a shared one is held; 1 for all others.
    pub fn copies(&self) -> u32 {
        self.copies
    }

    /// One copy of it, if it is shared.
    pub fn once(&self) -> Self {
        Self {
            copies: self.copies.min(1),
            ..self.clone()
        }
    }

    /// At most so much of a scalar; `None` when nothing would be left, or when it cannot be divided.
    pub fn at_most(&self, most: Scalar) -> Option<Self> {
        let amount = self.as_scalar()?;
        if amount <= most {
            return Some(self.clone());
        }
        if most <= Scalar::ZERO || self.is_indivisible() || self.is_shared() {
            return None;
        }
        let mut part = self.clone();
        part.amount = Amount::Scalar(most);
        Some(part)
    }

    /// Whether nothing is left of it.
    pub(super) fn is_empty(&self) -> bool {
        self.copies == 0 || self.amount.is_empty()
    }

    pub(super) fn map_traits(&mut self, change: impl FnOnce(&mut Traits)) {
        let mut traits = self.traits.as_deref().cloned().unwrap_or_default();
        change(&mut traits);
        self.traits = (!traits.is_plain()).then(|| Arc::new(traits));
    }

    /// All but the amount and the number of copies is the same.
    pub(super) fn same_metadata(&self, other: &Self) -> bool {
        self.name == other.name
            && self.amount.same_type(&other.amount)
            && self.allocation_role == other.allocation_role
            && self.same_traits(other)
    }

    fn same_traits(&self, other: &Self) -> bool {
        match (&self.traits, &other.traits) {
            (None, None) => true,
            (Some(a), Some(b)) => {
                Arc::ptr_eq(a, b)
                    || (a.revocable == b.revocable
                        && a.shared == b.shared
                        && a.provider_id == b.provider_id
                        && a.reservations == b.reservations
                        && same_disk(a.disk.as_deref(), b.disk.as_deref()))
            }
            _ => false,
        }
    }

    /// It exists once and as a whole: a volume, a MOUNT or BLOCK disk, an identified RAW disk.
    /// (BLOCK/MOUNT may not be chopped, `docs/multiple-disk.md`.)
    pub(super) fn is_indivisible(&self) -> bool {
        self.disk().is_some_and(|disk| {
            disk.persistence.is_some()
                || disk
                    .source
                    .as_ref()
                    .is_some_and(|source| match source.r#type() {
                        source::Type::Mount | source::Type::Block => true,
                        source::Type::Raw => source.id.is_some(),
                        source::Type::Path | source::Type::Unknown => false,
                    })
        })
    }

    /// Same object, copies aside.
    pub(super) fn same_object(&self, other: &Self) -> bool {
        self.same_metadata(other) && self.amount == other.amount
    }

    /// Whether the two make one object.
    pub(super) fn is_addable(&self, other: &Self) -> bool {
        if self.is_shared() || other.is_shared() {
            return self.same_object(other);
        }
        !self.is_indivisible() && self.same_metadata(other)
    }

    /// Whether `other` can be taken out of `self`, amounts aside.
    pub(super) fn is_subtractable(&self, other: &Self) -> bool {
        if self.is_shared() || self.is_indivisible() {
            self.same_object(other)
        } else {
            self.same_metadata(other)
        }
    }

    /// Whether `other` is a part of it.
    pub fn contains(&self, other: &Self) -> bool {
        self.is_subtractable(other)
            && self.copies >= other.copies
            && self.amount.contains(&other.amount)
    }

    /// Callers check [`Self::is_addable`] first.
    pub(super) fn add(&mut self, other: &Self) {
        if self.is_shared() {
            self.copies = self.copies.saturating_add(other.copies);
        } else {
            self.amount.add(&other.amount);
        }
    }

    /// Callers check [`Self::is_subtractable`] first. Stops at nothing.
    pub(super) fn subtract(&mut self, other: &Self) {
        if self.is_shared() {
            self.copies = self.copies.saturating_sub(other.copies);
        } else {
            self.amount.subtract(&other.amount);
        }
    }
}

/// The volume says how a holder uses the disk, and the persistence's principal who made it: neither
/// tells two disks apart.
fn same_disk(a: Option<&DiskInfo>, b: Option<&DiskInfo>) -> bool {
    match (a, b) {
        (None, None) => true,
        (Some(a), Some(b)) => {
            a.source == b.source
                && a.persistence.as_ref().map(|p| p.id.as_str())
                    == b.persistence.as_ref().map(|p| p.id.as_str())
        }
        _ => false,
    }
}
