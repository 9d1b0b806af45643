//! The algebra of resources: what a follower has, what an offer holds, what a task takes.
//!
//! [`Resources`] is a bag of [`Resource`] objects in which everything that can be one object is one,
//! so that `contains`, addition and subtraction are well defined. Only valid, non-empty objects get
//! in. Follows `src/common/resources.cpp`, with one difference: taking away what is not there is an
//! error of the caller, not silently ignored.

// `role` and `reservation` are deprecated on the wire, and alive.

mod format;
mod name;
pub mod operations;
mod parse;
mod quantities;
mod quota;
mod resource;
mod validate;

pub use format::{Format, describe, describe_labels, downgrade, upgrade};
pub use name::Name;
pub use parse::{ParseError, parse, parse_list};
pub use quantities::Quantities;
pub use quota::{Limits, Quota};
pub use resource::{Amount, Resource};
pub use validate::{ResourceError, ResourcesError, validate, validate_all};

use crate::{
    roles,
    scalar::Scalar,
    values::{Range, Ranges},
};
use smallvec::SmallVec;
use std::{collections::BTreeMap, fmt, iter, ops, sync::Arc};
use tepui_protocol::v1::{self, resource::ReservationInfo};
use thiserror::Error;

/// What was to be taken away is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("resources do not contain what is subtracted")]
pub struct NotContained;

/// A bag of resources, in normal form.
#[derive(Clone, Default)]
pub struct Resources(SmallVec<[Resource; 4]>);

impl Resources {
    /// Nothing.
    pub fn new() -> Self {
        Self::default()
    }
    /// From wire objects of any reservation format; invalid and empty ones are left out, as the
    /// reference does. Use [`validate_all`] first where the sender should hear about it.
    pub fn from_proto<'a>(protos: impl IntoIterator<Item = &'a v1::Resource>) -> Self {
        protos
            .into_iter()
            .filter(|proto| validate(proto).is_ok())
            .filter_map(Resource::from_valid)
            .collect()
    }
    /// From wire objects, all of which must be valid.
    pub fn try_from_proto(protos: &[v1::Resource]) -> Result<Self, ResourcesError> {
        validate_all(protos)?;
        Ok(protos.iter().filter_map(Resource::from_valid).collect())
    }
    /// As they stand on the wire in the post-refinement form.
    pub fn to_proto(&self) -> Vec<v1::Resource> {
        self.to_proto_as(Format::PostRefinement)
    }
    /// As they stand on the wire in the given form.
    pub fn to_proto_as(&self, format: Format) -> Vec<v1::Resource> {
        self.iter()
            .map(|resource| resource.to_proto(format))
            .collect()
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    /// Number of objects.
    pub fn len(&self) -> usize {
        self.0.len()
    }
    /// The objects.
    pub fn iter(&self) -> std::slice::Iter<'_, Resource> {
        self.0.iter()
    }

    /// Whether all of `other` is in `self`.
    pub fn contains(&self, other: &Self) -> bool {
        if other.iter().all(|wanted| !wanted.is_indivisible()) {
            // Each wanted object has at most one counterpart: both sides are in normal form.
            return other.iter().all(|wanted| self.contains_one(wanted));
        }
        self.checked_sub(other).is_some()
    }
    /// Whether the object is in `self`.
    pub fn contains_one(&self, wanted: &Resource) -> bool {
        self.iter().any(|own| own.contains(wanted))
    }
    /// Whether there is as much as this, no matter of which kind.
    pub fn contains_quantities(&self, wanted: &Quantities) -> bool {
        wanted.iter().all(|(name, amount)| {
            let own: Scalar = self
                .iter()
                .filter(|r| r.name() == name)
                .map(|r| count(r.amount()))
                .sum();
            amount <= own
        })
    }

    /// Adds one object.
    pub fn add_one(&mut self, resource: Resource) {
        if resource.is_empty() {
            return;
        }
        match self.0.iter_mut().find(|own| own.is_addable(&resource)) {
            Some(own) => own.add(&resource),
            None => self.0.push(resource),
        }
    }
    /// Takes one object away.
    pub fn subtract_one(&mut self, resource: &Resource) -> Result<(), NotContained> {
        let index = self
            .0
            .iter()
            .position(|own| own.contains(resource))
            .ok_or(NotContained)?;
        self.0[index].subtract(resource);
        if self.0[index].is_empty() {
            self.0.remove(index);
        }
        Ok(())
    }
    /// Takes `other` away, all of it or, if not all is there, nothing.
    pub fn subtract(&mut self, other: &Self) -> Result<(), NotContained> {
        *self = self.checked_sub(other).ok_or(NotContained)?;
        Ok(())
    }
    /// `self` without `other`; `None` when `other` is not all there.
    pub fn checked_sub(&self, other: &Self) -> Option<Self> {
        let mut rest = self.clone();
        other
            .iter()
            .try_for_each(|resource| rest.subtract_one(resource))
            .ok()?;
        Some(rest)
    }
    /// `self` without as much of `other` as there is.
    pub fn saturating_sub(&self, other: &Self) -> Self {
        let mut rest = self.clone();
        for resource in other.iter() {
            if let Some(index) = rest.0.iter().position(|own| own.is_subtractable(resource)) {
                rest.0[index].subtract(resource);
                if rest.0[index].is_empty() {
                    rest.0.remove(index);
                }
            }
        }
        rest
    }

    /// The objects for which `keep` holds.
    pub fn filter(&self, mut keep: impl FnMut(&Resource) -> bool) -> Self {
        Self(
            self.iter()
                .filter(|resource| keep(resource))
                .cloned()
                .collect(),
        )
    }
    /// Those reserved, to `role` if given.
    pub fn reserved(&self, role: Option<&str>) -> Self {
        self.filter(|r| {
            r.reservation_role()
                .is_some_and(|own| role.is_none_or(|role| role == own))
        })
    }
    /// Those nobody has reserved.
    pub fn unreserved(&self) -> Self {
        self.filter(Resource::is_unreserved)
    }
    /// Those that may be offered to a role.
    pub fn allocatable_to(&self, role: &str) -> Self {
        self.filter(|r| r.is_allocatable_to(role))
    }
    /// Those allocated to a role or one below it.
    pub fn allocated_to_subtree(&self, role: &str) -> Self {
        self.filter(|r| {
            r.allocation_role()
                .is_some_and(|own| roles::is_in_subtree(own, role))
        })
    }
    /// Revocable ones.
    pub fn revocable(&self) -> Self {
        self.filter(Resource::is_revocable)
    }
    /// Those that are not revocable.
    pub fn non_revocable(&self) -> Self {
        self.filter(|r| !r.is_revocable())
    }
    /// Shared ones.
    pub fn shared(&self) -> Self {
        self.filter(Resource::is_shared)
    }
    /// Those that are not shared.
    pub fn non_shared(&self) -> Self {
        self.filter(|r| !r.is_shared())
    }
    /// Scalars.
    pub fn scalars(&self) -> Self {
        self.filter(|r| r.as_scalar().is_some())
    }
    /// Persistent volumes.
    pub fn persistent_volumes(&self) -> Self {
        self.filter(Resource::is_persistent_volume)
    }
    /// Those of a name.
    pub fn named(&self, name: &str) -> Self {
        self.filter(|r| r.name().as_str() == name)
    }

    /// Marks all as offered or allocated to a role.
    pub fn allocate(&mut self, role: &Arc<str>) {
        for resource in &mut self.0 {
            resource.allocation_role = Some(role.clone());
        }
        self.renormalize();
    }
    /// The same, allocated to a role.
    pub fn allocated(mut self, role: &Arc<str>) -> Self {
        self.allocate(role);
        self
    }
    /// Clears the mark.
    pub fn unallocate(&mut self) {
        for resource in &mut self.0 {
            resource.allocation_role = None;
        }
        self.renormalize();
    }
    /// The same, allocated to nobody.
    pub fn unallocated(mut self) -> Self {
        self.unallocate();
        self
    }
    /// By the role they are allocated to; those allocated to nobody are left out.
    pub fn allocations(&self) -> BTreeMap<Arc<str>, Self> {
        let mut by_role: BTreeMap<Arc<str>, Self> = BTreeMap::new();
        for resource in self.iter() {
            if let Some(role) = resource.allocation_role() {
                by_role
                    .entry(role.clone())
                    .or_default()
                    .add_one(resource.clone());
            }
        }
        by_role
    }
    /// By the role they are reserved to; unreserved ones are left out.
    pub fn reservations(&self) -> BTreeMap<String, Self> {
        let mut by_role: BTreeMap<String, Self> = BTreeMap::new();
        for resource in self.iter() {
            if let Some(role) = resource.reservation_role() {
                by_role
                    .entry(role.to_owned())
                    .or_default()
                    .add_one(resource.clone());
            }
        }
        by_role
    }
    /// With one more reservation on each. The caller has checked that it refines those there.
    pub fn push_reservation(&self, reservation: &ReservationInfo) -> Self {
        self.map(|r| r.map_traits(|traits| traits.reservations.push(reservation.clone())))
    }
    /// With the last reservation gone from each.
    pub fn pop_reservation(&self) -> Self {
        self.map(|r| {
            r.map_traits(|traits| {
                traits.reservations.pop();
            });
        })
    }
    /// With no reservations.
    pub fn to_unreserved(&self) -> Self {
        self.map(|r| r.map_traits(|traits| traits.reservations.clear()))
    }
    /// Marks all as revocable.
    pub fn to_revocable(&self) -> Self {
        self.map(|r| r.map_traits(|traits| traits.revocable = true))
    }

    /// Scalar amounts by name. A shared object counts once.
    pub fn quantities(&self) -> Quantities {
        let mut quantities = Quantities::new();
        for resource in self.iter() {
            if let Some(amount) = resource.as_scalar() {
                quantities.add(resource.name(), amount);
            }
        }
        quantities
    }
    /// Sum of the scalars of a name; `None` when there is none of it.
    pub fn scalar(&self, name: &str) -> Option<Scalar> {
        let amounts = self
            .iter()
            .filter(|r| r.name().as_str() == name)
            .filter_map(Resource::as_scalar);
        amounts.reduce(ops::Add::add)
    }
    /// All ranges of a name; `None` when there is none of it.
    pub fn ranges(&self, name: &str) -> Option<Ranges> {
        let mut all: Vec<Range> = Vec::new();
        for resource in self.iter().filter(|r| r.name().as_str() == name) {
            if let Amount::Ranges(ranges) = resource.amount() {
                all.extend(ranges.as_slice());
            }
        }
        (!all.is_empty()).then(|| Ranges::new(all))
    }
    /// Sum of `cpus`, zero if none.
    pub fn cpus(&self) -> Scalar {
        self.scalar("cpus").unwrap_or_default()
    }
    /// Sum of `mem` in MB, zero if none.
    pub fn mem(&self) -> Scalar {
        self.scalar("mem").unwrap_or_default()
    }
    /// Sum of `disk` in MB, zero if none.
    pub fn disk(&self) -> Scalar {
        self.scalar("disk").unwrap_or_default()
    }
    /// Sum of `gpus`, zero if none.
    pub fn gpus(&self) -> Scalar {
        self.scalar("gpus").unwrap_or_default()
    }

    fn map(&self, mut change: impl FnMut(&mut Resource)) -> Self {
        let changed = |resource: &Resource| {
            let mut resource = resource.clone();
            change(&mut resource);
            resource
        };
        self.iter().map(changed).collect()
    }

    /// After a change of metadata two objects may have become one.
    fn renormalize(&mut self) {
        let apart = |(i, a): (usize, &Resource)| self.0[i + 1..].iter().all(|b| !a.is_addable(b));
        if !self.0.iter().enumerate().all(apart) {
            *self = std::mem::take(&mut self.0).into_iter().collect();
        }
    }
}

/// Items of a set and numbers of ranges count as one unit each.
fn count(amount: &Amount) -> Scalar {
    let units = |n: u64| Scalar::units(i64::try_from(n).unwrap_or(i64::MAX));
    match amount {
        Amount::Scalar(amount) => *amount,
        Amount::Ranges(ranges) => units(ranges.count()),
        Amount::Set(set) => units(set.as_slice().len() as u64),
    }
}

/// Each has what the other has.
impl PartialEq for Resources {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.contains(other) && other.contains(self)
    }
}

impl Eq for Resources {}

impl FromIterator<Resource> for Resources {
    fn from_iter<I: IntoIterator<Item = Resource>>(resources: I) -> Self {
        let mut bag = Self::new();
        resources
            .into_iter()
            .for_each(|resource| bag.add_one(resource));
        bag
    }
}

impl Extend<Resource> for Resources {
    fn extend<I: IntoIterator<Item = Resource>>(&mut self, resources: I) {
        resources
            .into_iter()
            .for_each(|resource| self.add_one(resource));
    }
}

impl<'a> IntoIterator for &'a Resources {
    type Item = &'a Resource;
    type IntoIter = std::slice::Iter<'a, Resource>;
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl From<Resource> for Resources {
    fn from(resource: Resource) -> Self {
        iter::once(resource).collect()
    }
}

impl ops::AddAssign<&Resources> for Resources {
    fn add_assign(&mut self, rhs: &Resources) {
        self.extend(rhs.iter().cloned());
    }
}

impl ops::AddAssign for Resources {
    fn add_assign(&mut self, rhs: Resources) {
        self.extend(rhs.0);
    }
}

impl ops::Add<&Resources> for Resources {
    type Output = Resources;
    fn add(mut self, rhs: &Resources) -> Resources {
        self += rhs;
        self
    }
}

impl ops::Add for &Resources {
    type Output = Resources;
    fn add(self, rhs: &Resources) -> Resources {
        self.clone() + rhs
    }
}

impl<'a> iter::Sum<&'a Resources> for Resources {
    fn sum<I: Iterator<Item = &'a Resources>>(all: I) -> Self {
        all.fold(Self::new(), |sum, one| sum + one)
    }
}

/// `cpus:4; mem:1024`
impl fmt::Display for Resources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("{}");
        }
        for (i, resource) in self.iter().enumerate() {
            write!(f, "{}{resource}", if i == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}

impl fmt::Debug for Resources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}
