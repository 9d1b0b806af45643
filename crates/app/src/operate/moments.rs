//! Moments as people write them, and written for people: UTC, to the second.

use super::OperateError;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tepui_model::units::parse_duration;

const DAY: i64 = 24 * 3600;

/// Nanoseconds since 1970 of `now`, `+DURATION` or `YYYY-MM-DDTHH:MM[:SS]Z`.
pub(super) fn parse(text: &str, now: SystemTime) -> Result<i64, OperateError> {
    let bad = || OperateError::Moment(text.to_owned());
    let nanos = |since: Duration| i64::try_from(since.as_nanos()).map_err(|_| bad());
    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    if text == "now" {
        return nanos(since);
    }
    if let Some(later) = text.strip_prefix('+') {
        let later = parse_duration(later).map_err(|error| OperateError::Duration {
            text: later.to_owned(),
            error,
        })?;
        return nanos(since + later);
    }
    let seconds = calendar(text).ok_or_else(bad)?;
    seconds.checked_mul(1_000_000_000).ok_or_else(bad)
}

fn calendar(text: &str) -> Option<i64> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let number = |text: &str, digits: usize| -> Option<i64> {
        let fits = text.len() == digits && text.bytes().all(|b| b.is_ascii_digit());
        fits.then(|| text.parse().ok()).flatten()
    };
    let mut parts = date.split('-');
    let (year, month, day) = (
        number(parts.next()?, 4)?,
        number(parts.next()?, 2)?,
        number(parts.next()?, 2)?,
    );
    let mut clock = time.split(':');
    let (hour, minute) = (number(clock.next()?, 2)?, number(clock.next()?, 2)?);
    let second = clock.next().map_or(Some(0), |text| number(text, 2))?;
    if parts.next().is_some() || clock.next().is_some() || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let days = days_since_1970(year, month, day);
    // A 31st of June is not silently the 1st of July.
    (date_of(days) == (year, month, day)).then_some(days * DAY + hour * 3600 + minute * 60 + second)
}

/// In the Gregorian calendar; March begins the year, so that leap days end it.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let from_march = (month + 9) % 12;
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    365 * year + leap_days + (153 * from_march + 2) / 5 + day - 1 - 719_468
}

fn date_of(days: i64) -> (i64, i64, i64) {
    // The year is guessed from its mean length, and is one off at most.
    let mut year = 1970 + days.div_euclid(365) - days.div_euclid(1461) / 4;
    while days_since_1970(year, 1, 1) > days {
        year -= 1;
    }
    while days_since_1970(year + 1, 1, 1) <= days {
        year += 1;
    }
    let mut month = 12;
    while days_since_1970(year, month, 1) > days {
        month -= 1;
    }
    (year, month, days - days_since_1970(year, month, 1) + 1)
}

/// For people; far beyond the calendar it is the number itself.
pub(super) fn write(nanoseconds: i64) -> String {
    let seconds = nanoseconds.div_euclid(1_000_000_000);
    let (year, month, day) = date_of(seconds.div_euclid(DAY));
    let rest = seconds.rem_euclid(DAY);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_and_written_alike() {
        let now = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let read = |text: &str| parse(text, now).ok();
        assert_eq!(read("now"), Some(1_700_000_000_000_000_000));
        assert_eq!(read("+1hrs"), Some(1_700_003_600_000_000_000));
        for text in [
            "1970-01-01T00:00:00Z",
            "2000-02-29T23:59:59Z",
            "2026-11-22T15:05:44Z",
            "2100-03-01T00:00:00Z",
        ] {
            assert_eq!(read(text).map(write).as_deref(), Some(text));
        }
        assert_eq!(read("2023-11-14T22:13Z"), Some(1_699_999_980_000_000_000));
        for text in [
            "",
            "soon",
            "+",
            "+soon",
            "2026-06-31T00:00Z",
            "2026-1-1T00:00Z",
            "2026-01-01",
            "2026-01-01T24:00Z",
            "2026-01-01T00:00",
            "2026-01-01T00:00:00:00Z",
            "9999-12-31T00:00Z",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn every_day_is_itself() {
        for days in -800_000..800_000 {
            let (year, month, day) = date_of(days);
            assert_eq!(days_since_1970(year, month, day), days);
            assert!((1..=12).contains(&month) && (1..=31).contains(&day));
        }
    }
}
