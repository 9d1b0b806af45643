//! Scalar amounts in fixed point: thousandths, so that sums of sums come out even.
//!
//! Rounding follows `src/common/values.cpp`: half away from zero at the third decimal. Arithmetic
//! saturates; no amount a peer sends can overflow into a panic.

use std::{fmt, iter, ops};
use tepui_protocol::v1;

/// An amount of a scalar resource, in thousandths.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Scalar(i64);

impl Scalar {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// From whole units.
    pub const fn units(units: i64) -> Self {
        Self(units.saturating_mul(1000))
    }
    /// From thousandths.
    pub const fn millis(thousandths: i64) -> Self {
        Self(thousandths)
    }
    /// The nearest amount; NaN is zero, infinities saturate.
    pub fn from_f64(value: f64) -> Self {
        Self((value * 1000.0).round() as i64)
    }
    /// In thousandths.
    pub const fn as_millis(self) -> i64 {
        self.0
    }
    /// As a floating point number, as the wire carries it.
    pub fn to_f64(self) -> f64 {
        // Whole part and remainder apart, as the reference does it: only numbers below 1000 are
        // ever divided, and 0.1 prints as 0.1.
        (self.0 / 1000) as f64 + (self.0 % 1000) as f64 / 1000.0
    }
    /// Whether it is nothing.
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }
    /// Whether it is less than nothing.
    pub const fn is_negative(self) -> bool {
        self.0 < 0
    }
    /// `None` when `other` is more than `self`.
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        (other.0 <= self.0).then(|| self - other)
    }
    /// As it stands on the wire.
    pub fn to_proto(self) -> v1::value::Scalar {
        v1::value::Scalar {
            value: self.to_f64(),
        }
    }
}

impl From<&v1::value::Scalar> for Scalar {
    fn from(scalar: &v1::value::Scalar) -> Self {
        Self::from_f64(scalar.value)
    }
}

impl ops::Add for Scalar {
    type Output = Self;
    fn add(self, rhs: Self) -> Self {
        Self(self.0.saturating_add(rhs.0))
    }
}

impl ops::AddAssign for Scalar {
    fn add_assign(&mut self, rhs: Self) {
        *self = *self + rhs;
    }
}

impl ops::Sub for Scalar {
    type Output = Self;
    fn sub(self, rhs: Self) -> Self {
        Self(self.0.saturating_sub(rhs.0))
    }
}

impl ops::SubAssign for Scalar {
    fn sub_assign(&mut self, rhs: Self) {
        *self = *self - rhs;
    }
}

impl iter::Sum for Scalar {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::ZERO, ops::Add::add)
    }
}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&crate::number::format_general(self.to_f64()))
    }
}

impl fmt::Debug for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_decimals_are_kept_and_the_rest_is_rounded() {
        assert_eq!(Scalar::from_f64(0.1 + 0.2), Scalar::millis(300));
        assert_eq!(Scalar::from_f64(1.2345), Scalar::millis(1235));
        assert_eq!(Scalar::from_f64(-1.2345), Scalar::millis(-1235));
        assert_eq!(Scalar::from_f64(0.0004), Scalar::ZERO);
        assert_eq!(Scalar::millis(100).to_f64(), 0.1);
    }

    #[test]
    fn impossible_amounts_saturate() {
        assert_eq!(
            Scalar::from_f64(f64::INFINITY) + Scalar::units(1),
            Scalar::millis(i64::MAX)
        );
        assert_eq!(Scalar::from_f64(f64::NAN), Scalar::ZERO);
        assert_eq!(
            Scalar::from_f64(-1e300) - Scalar::units(1),
            Scalar::millis(i64::MIN)
        );
    }

    #[test]
    fn subtraction_below_zero_is_refused_when_checked() {
        assert_eq!(Scalar::units(1).checked_sub(Scalar::units(2)), None);
        assert_eq!(
            Scalar::units(2).checked_sub(Scalar::units(2)),
            Some(Scalar::ZERO)
        );
    }
}
