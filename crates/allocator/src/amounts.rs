//! Arithmetic on scalar amounts, as quota needs it.

use smallvec::SmallVec;
use tepui_model::{
    Quantities, Resource, Resources, Scalar,
    resources::{Limits, Name},
};

/// Whether a resource counts against quota when it is held: an unreserved scalar that cannot be revoked.
pub(crate) fn is_charged(resource: &Resource) -> bool {
    resource.as_scalar().is_some() && resource.is_unreserved() && !resource.is_revocable()
}

/// Scalars that count against quota.
pub(crate) fn charged(resources: &Resources) -> Quantities {
    let mut sum = Quantities::new();
    for resource in resources.iter().filter(|r| is_charged(r)) {
        sum.add(resource.name(), resource.as_scalar().unwrap_or_default());
    }
    sum
}

/// `a` without `b`, nothing where `b` is more.
pub(crate) fn less(a: &Quantities, b: &Quantities) -> Quantities {
    let mut rest = a.clone();
    rest.subtract_all(b);
    rest
}

/// The larger of both, name by name.
pub(crate) fn most(a: &Quantities, b: &Quantities) -> Quantities {
    let mut most = a.clone();
    most.add_all(&less(b, a));
    most
}

/// Takes `old` out and puts `new` in.
pub(crate) fn swap(sum: &mut Quantities, old: &Quantities, new: &Quantities) {
    sum.subtract_all(old);
    sum.add_all(new);
}

/// Upper bounds on what may be offered; names that are missing have none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cap(SmallVec<[(Name, Scalar); 4]>);

impl Cap {
    /// Bounds `name`, unless it is bounded more tightly already.
    pub(crate) fn bound(&mut self, name: &Name, amount: Scalar) {
        let amount = amount.max(Scalar::ZERO);
        match self.0.iter_mut().find(|(own, _)| own == name) {
            Some((_, bound)) => *bound = amount.min(*bound),
            None => self.0.push((name.clone(), amount)),
        }
    }
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    pub(crate) fn get(&self, name: &Name) -> Option<Scalar> {
        let found = self.0.iter().find(|(own, _)| own == name);
        found.map(|(_, bound)| *bound)
    }
    /// Whether as much as this is within the bounds.
    pub(crate) fn admits(&self, amounts: &Quantities) -> bool {
        let within = |(name, amount): (&Name, Scalar)| self.get(name).is_none_or(|b| amount <= b);
        amounts.iter().all(within)
    }
    /// As much of `resources` as is within the bounds. Scalars are chopped, except those that exist as a whole only:
    /// they are taken or left (`shrinkResources` in `src/common/resources_utils.cpp`, which takes them in random order).
    pub(crate) fn shrink(mut self, resources: &Resources) -> Resources {
        let mut part = |resource: &Resource| {
            let Some((_, left)) = self.0.iter_mut().find(|(own, _)| own == resource.name()) else {
                return Some(resource.clone());
            };
            let part = resource.at_most(*left)?;
            *left -= part.as_scalar().unwrap_or_default();
            Some(part)
        };
        resources.iter().filter_map(&mut part).collect()
    }
}

/// What limits leave, when so much is consumed.
pub(crate) fn bound_by_limits(cap: &mut Cap, limits: &Limits, consumed: &Quantities) {
    for (name, limit) in limits.iter() {
        cap.bound(name, limit - consumed.amount(name.as_str()));
    }
}
