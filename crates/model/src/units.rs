//! Durations and byte counts as flags, variables and documents write them: `15secs`, `1.5hrs`,
//! `32MB`. Follows stout's `duration.hpp` and `bytes.hpp`, errors included.

use crate::number::{format_general, parse_natural, parse_real};
use std::{fmt, str::FromStr, time::Duration};
use thiserror::Error;

const UNITS: [(&str, u64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("ms", 1_000_000),
    ("secs", 1_000_000_000),
    ("mins", 60_000_000_000),
    ("hrs", 3_600_000_000_000),
    ("days", 86_400_000_000_000),
    ("weeks", 604_800_000_000_000),
];

/// Why a text is no duration or byte count.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[allow(missing_docs)]
pub enum UnitError {
    #[error("Failed to convert '{0}' to number")]
    Number(String),
    #[error(
        "Unknown duration unit '{0}'; supported units are 'ns', 'us', 'ms', 'secs', 'mins', 'hrs', 'days', and 'weeks'"
    )]
    DurationUnit(String),
    #[error("Argument out of the range that a Duration can represent due to int64_t's size limit")]
    DurationRange,
    #[error("Invalid duration '{0}'")]
    Duration(String),
    #[error("Fractional bytes '{0}'")]
    FractionalBytes(String),
    #[error("Unknown bytes unit '{0}'")]
    BytesUnit(String),
    #[error("Invalid bytes '{0}'")]
    Bytes(String),
}

/// Reads `2hrs`, `0.5secs`. No signs, no spaces.
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .ok_or_else(|| UnitError::Duration(text.into()))?;
    let (number, unit) = text.split_at(end);
    let value = parse_real(number).ok_or_else(|| UnitError::Number(number.into()))?;
    let factor = UNITS
        .iter()
        .find(|(name, _)| *name == unit)
        .map(|(_, factor)| *factor)
        .ok_or_else(|| UnitError::DurationUnit(unit.into()))?;
    let nanos = value * factor as f64;
    if nanos > i64::MAX as f64 {
        return Err(UnitError::DurationRange);
    }
    Ok(Duration::from_nanos(nanos as u64))
}

/// Writes the largest unit it reaches, or the next smaller one if only that gives a whole number.
pub fn format_duration(duration: Duration) -> String {
    let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    let reached = UNITS
        .iter()
        .rposition(|(_, factor)| nanos >= *factor)
        .unwrap_or(0);
    let below = reached.saturating_sub(1);
    let whole = |unit: usize| nanos % UNITS[unit].1 == 0;
    // Below a millisecond the smaller unit is always whole.
    let (name, factor) = if !whole(reached) && whole(below) {
        UNITS[below]
    } else {
        UNITS[reached]
    };
    format!("{}{name}", format_general(nanos as f64 / factor as f64))
}

/// A count of bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Bytes(pub u64);

impl Bytes {
    /// Mebibytes, which the reference calls megabytes.
    pub const fn megabytes(count: u64) -> Self {
        Self(count.saturating_mul(1 << 20))
    }
    /// Whole mebibytes in it.
    pub const fn as_megabytes(self) -> u64 {
        self.0 >> 20
    }
}

/// Reads `32MB`; units are powers of 1024 and in any case.
impl FromStr for Bytes {
    type Err = UnitError;
    fn from_str(text: &str) -> Result<Self, UnitError> {
        let end = text
            .find(|c: char| !c.is_ascii_digit())
            .ok_or_else(|| UnitError::Bytes(text.into()))?;
        let (number, unit) = text.split_at(end);
        if unit.starts_with('.') {
            return Err(UnitError::FractionalBytes(text.into()));
        }
        let value = parse_natural(number).ok_or_else(|| UnitError::Number(number.into()))?;
        let shift = match unit.to_ascii_uppercase().as_str() {
            "B" => 0,
            "KB" => 10,
            "MB" => 20,
            "GB" => 30,
            "TB" => 40,
            other => return Err(UnitError::BytesUnit(other.into())),
        };
        Ok(Self(value.saturating_mul(1 << shift)))
    }
}

/// The largest unit that loses nothing.
impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = if self.0 == 0 {
            0
        } else {
            (self.0.trailing_zeros() / 10).min(4)
        };
        write!(
            f,
            "{}{}",
            self.0 >> (unit * 10),
            ["B", "KB", "MB", "GB", "TB"][unit as usize]
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_and_print() {
        for (text, nanos, printed) in [
            ("15secs", 15_000_000_000, "15secs"),
            ("1mins", 60_000_000_000, "1mins"),
            ("90secs", 90_000_000_000, "90secs"),
            ("2hrs", 7_200_000_000_000, "2hrs"),
            ("3days", 259_200_000_000_000, "3days"),
            ("1weeks", 604_800_000_000_000, "1weeks"),
            ("10days", 864_000_000_000_000, "10days"),
            ("100ms", 100_000_000, "100ms"),
            ("500us", 500_000, "500us"),
            ("1500us", 1_500_000, "1500us"),
            ("10ns", 10, "10ns"),
            ("1.5secs", 1_500_000_000, "1500ms"),
            ("0.5hrs", 1_800_000_000_000, "30mins"),
            ("61.5secs", 61_500_000_000, "1.025mins"),
            ("0ns", 0, "0ns"),
        ] {
            let duration = parse_duration(text).unwrap();
            assert_eq!(duration, Duration::from_nanos(nanos), "{text}");
            assert_eq!(format_duration(duration), printed, "{text}");
        }
    }

    #[test]
    fn bad_durations_are_named() {
        let error = |text| parse_duration(text).unwrap_err().to_string();
        assert_eq!(error("15"), "Invalid duration '15'");
        assert_eq!(error("secs"), "Failed to convert '' to number");
        assert!(error("15sec").starts_with("Unknown duration unit 'sec'; supported units are"));
        assert!(error("1e9secs").starts_with("Unknown duration unit 'e9secs'"));
        assert!(error("99999999999weeks").starts_with("Argument out of the range"));
    }

    #[test]
    fn bytes_read_and_print() {
        for (text, bytes, printed) in [
            ("32MB", 32 << 20, "32MB"),
            ("1GB", 1 << 30, "1GB"),
            ("4096B", 4096, "4KB"),
            ("1025b", 1025, "1025B"),
            ("0GB", 0, "0B"),
            ("2048TB", 1 << 51, "2048TB"),
        ] {
            let parsed: Bytes = text.parse().unwrap();
            assert_eq!(parsed, Bytes(bytes), "{text}");
            assert_eq!(parsed.to_string(), printed, "{text}");
        }
        let error = |text: &str| text.parse::<Bytes>().unwrap_err().to_string();
        assert_eq!(error("1.5GB"), "Fractional bytes '1.5GB'");
        assert_eq!(error("12XB"), "Unknown bytes unit 'XB'");
        assert_eq!(error("12"), "Invalid bytes '12'");
    }
}
