//! Scalar amounts by name: resources without what distinguishes them. Fair sharing, quota and
//! totals count in these.

use super::Name;
use crate::scalar::Scalar;
use smallvec::SmallVec;
use std::fmt;

/// Amounts by name, sorted by name; absent means none, zero is never kept.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Quantities(SmallVec<[(Name, Scalar); 4]>);

impl Quantities {
    /// None of anything.
    pub fn new() -> Self {
        Self::default()
    }
    /// How much of `name`.
    pub fn amount(&self, name: &str) -> Scalar {
        self.find(name).map_or(Scalar::ZERO, |i| self.0[i].1)
    }
    /// Whether there is nothing at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    /// Names and amounts, ascending by name.
    pub fn iter(&self) -> impl Iterator<Item = (&Name, Scalar)> {
        self.0.iter().map(|(name, amount)| (name, *amount))
    }
    /// Whether there is as much of everything as in `other`.
    pub fn contains(&self, other: &Self) -> bool {
        other
            .iter()
            .all(|(name, amount)| amount <= self.amount(name.as_str()))
    }
    /// Adds to one amount.
    pub fn add(&mut self, name: &Name, amount: Scalar) {
        match self.find(name.as_str()) {
            Ok(i) => self.0[i].1 += amount,
            Err(i) => self.0.insert(i, (name.clone(), amount)),
        }
        self.0.retain(|(_, amount)| !amount.is_zero());
    }
    /// Adds all of `other`.
    pub fn add_all(&mut self, other: &Self) {
        for (name, amount) in other.iter() {
            self.add(name, amount);
        }
    }
    /// Takes away all of `other`; amounts stop at zero.
    pub fn subtract_all(&mut self, other: &Self) {
        for (name, amount) in other.iter() {
            if let Ok(i) = self.find(name.as_str()) {
                self.0[i].1 = (self.0[i].1 - amount).max(Scalar::ZERO);
            }
        }
        self.0.retain(|(_, amount)| !amount.is_zero());
    }

    fn find(&self, name: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|(own, _)| own.as_str().cmp(name))
    }
}

impl<'a> FromIterator<(&'a str, Scalar)> for Quantities {
    fn from_iter<I: IntoIterator<Item = (&'a str, Scalar)>>(amounts: I) -> Self {
        let mut quantities = Self::new();
        for (name, amount) in amounts {
            quantities.add(&Name::new(name), amount);
        }
        quantities
    }
}

/// `cpus:4; mem:1024`
impl fmt::Display for Quantities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("{}");
        }
        for (i, (name, amount)) in self.iter().enumerate() {
            write!(f, "{}{name}:{amount}", if i == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}

impl fmt::Debug for Quantities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}
