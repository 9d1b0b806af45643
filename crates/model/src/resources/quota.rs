//! Quotas: how much a role is promised, and how much it may have.
//!
//! Both count scalars only, and what is reserved for the role (used or not) or allocated to it or to a role below
//! (`docs/quota.md`). A guarantee that is not said is nothing; a limit that is not said is no limit.

use super::{Name, Quantities};
use crate::scalar::Scalar;
use smallvec::SmallVec;
use std::fmt;
use tepui_protocol::v1::quota::QuotaConfig;

/// Upper bounds by name, sorted by name. Unlike in [`Quantities`] zero is kept: it means none at all, and a name that
/// is missing means as much as one likes.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Limits(SmallVec<[(Name, Scalar); 4]>);

impl Limits {
    /// No bounds.
    pub fn new() -> Self {
        Self::default()
    }
    /// Whether nothing is bounded.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    /// The bound on `name`, if there is one.
    pub fn limit(&self, name: &str) -> Option<Scalar> {
        self.find(name).ok().map(|i| self.0[i].1)
    }
    /// Sets a bound; one below nothing is none at all.
    pub fn set(&mut self, name: &Name, limit: Scalar) {
        let limit = limit.max(Scalar::ZERO);
        match self.find(name.as_str()) {
            Ok(i) => self.0[i].1 = limit,
            Err(i) => self.0.insert(i, (name.clone(), limit)),
        }
    }
    /// Names and bounds, ascending by name.
    pub fn iter(&self) -> impl Iterator<Item = (&Name, Scalar)> {
        self.0.iter().map(|(name, limit)| (name, *limit))
    }
    /// Whether as much as this stays within all bounds.
    pub fn contains(&self, amounts: &Quantities) -> bool {
        self.iter()
            .all(|(name, limit)| amounts.amount(name.as_str()) <= limit)
    }
    /// How much more of `name` there may be when there is so much already; `None` when there is no bound.
    pub fn left(&self, name: &str, consumed: Scalar) -> Option<Scalar> {
        let limit = self.limit(name)?;
        Some((limit - consumed).max(Scalar::ZERO))
    }

    fn find(&self, name: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|(own, _)| own.as_str().cmp(name))
    }
}

impl<'a> FromIterator<(&'a str, Scalar)> for Limits {
    fn from_iter<I: IntoIterator<Item = (&'a str, Scalar)>>(bounds: I) -> Self {
        let mut limits = Self::new();
        for (name, limit) in bounds {
            limits.set(&Name::new(name), limit);
        }
        limits
    }
}

/// `cpus:4; mem:1024`
impl fmt::Display for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("{}");
        }
        for (i, (name, limit)) in self.iter().enumerate() {
            write!(f, "{}{name}:{limit}", if i == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}

impl fmt::Debug for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// What a role is promised, and what it may have. The default promises nothing and bounds nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Quota {
    /// Kept free for the role until it has it.
    pub guarantees: Quantities,
    /// It never has more.
    pub limits: Limits,
}

impl Quota {
    /// Whether it is no quota at all.
    pub fn is_default(&self) -> bool {
        self.guarantees.is_empty() && self.limits.is_empty()
    }
}

impl From<&QuotaConfig> for Quota {
    fn from(config: &QuotaConfig) -> Self {
        Self {
            guarantees: config
                .guarantees
                .iter()
                .map(|(name, amount)| (name.as_str(), Scalar::from(amount)))
                .collect(),
            limits: config
                .limits
                .iter()
                .map(|(name, limit)| (name.as_str(), Scalar::from(limit)))
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_of_zero_is_a_limit_and_a_missing_one_is_none() {
        let limits: Limits = [("gpus", Scalar::ZERO), ("cpus", Scalar::units(2))]
            .into_iter()
            .collect();
        let some = |name, amount| [(name, Scalar::millis(amount))].into_iter().collect();
        assert!(limits.contains(&some("cpus", 2000)));
        assert!(!limits.contains(&some("cpus", 2001)));
        assert!(!limits.contains(&some("gpus", 1)));
        assert!(limits.contains(&some("mem", i64::MAX)));
        assert_eq!(limits.left("cpus", Scalar::units(5)), Some(Scalar::ZERO));
        assert_eq!(limits.left("mem", Scalar::units(5)), None);
    }

    #[test]
    fn a_limit_of_zero_is_said_on_the_wire() {
        use prost::Message;
        use tepui_protocol::wire;
        let config = QuotaConfig {
            role: "r".to_owned(),
            limits: [("gpus".to_owned(), Scalar::ZERO.to_proto())].into(),
            ..Default::default()
        };
        let bytes = config.encode_to_vec();
        // Key, length, `gpus`, then field 2: a message with a double of zero.
        let value = [0x12, 9, 9, 0, 0, 0, 0, 0, 0, 0, 0];
        assert!(bytes.windows(value.len()).any(|part| part == value));
        let read: QuotaConfig = wire::decode(bytes.into()).expect("nothing is missing");
        assert_eq!(Quota::from(&read).limits.limit("gpus"), Some(Scalar::ZERO));
    }
}
