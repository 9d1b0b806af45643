//! Flags about what a new leader does with followers that are missing, and how long it remembers them.

use crate::flags::{FlagError, Settings};
use tepui_leader::{Config, RemovalRate};
use tepui_model::units;

/// Reads them into `config`.
pub(super) fn apply(settings: &Settings, config: &mut Config) -> Result<(), FlagError> {
    let duration = |name| settings.parsed(name, units::parse_duration);
    config.removal_rate = settings.parsed("agent_removal_rate_limit", RemovalRate::parse)?;
    if let Some(value) = settings.parsed("recovery_agent_removal_limit", percent)? {
        config.recovery_removal_limit_percent = value;
    }
    if let Some(value) = duration("registry_gc_interval")? {
        config.registry_gc_interval = value;
    }
    if let Some(value) = duration("registry_max_agent_age")? {
        config.registry_max_follower_age = value;
    }
    if let Some(value) = settings.parsed("registry_max_agent_count", str::parse::<usize>)? {
        config.registry_max_followers = value;
    }
    if let Some(value) = settings.parsed("allocator_agent_recovery_factor", fraction)? {
        config.allocator_recovery_factor = value;
    }
    if let Some(value) = duration("allocator_recovery_timeout")? {
        config.allocator_recovery_timeout = value;
    }
    settings.parsed("registry_strict", not_strict)?;
    Ok(())
}

/// `40%`, as the reference reads it.
fn percent(text: &str) -> Result<f64, &'static str> {
    let number = text.strip_suffix('%').ok_or("it has to end with '%'")?;
    let percent: f64 = number.trim().parse().map_err(|_| "not a number")?;
    if (0.0..=100.0).contains(&percent) {
        Ok(percent)
    } else {
        Err("it has to be within [0%-100%]")
    }
}

fn fraction(text: &str) -> Result<f64, &'static str> {
    let fraction: f64 = text.trim().parse().map_err(|_| "not a number")?;
    if (0.0..=1.0).contains(&fraction) {
        Ok(fraction)
    } else {
        Err("it has to be within [0-1]")
    }
}

/// The reference reads the flag, and refuses to be strict.
fn not_strict(text: &str) -> Result<(), &'static str> {
    match text {
        "true" | "1" => Err(
            "Support for '--registry_strict' has been disabled and will be removed in a future version of Mesos",
        ),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_between_nothing_and_all() {
        assert_eq!(percent("40%"), Ok(40.0));
        assert_eq!(percent("0.5%"), Ok(0.5));
        for bad in ["40", "x%", "-1%", "101%", "NaN%"] {
            assert!(percent(bad).is_err(), "{bad}");
        }
        assert_eq!(fraction("0.8"), Ok(0.8));
        for bad in ["", "1.1", "-0.1", "NaN"] {
            assert!(fraction(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_registry_is_never_strict() {
        assert!(not_strict("true").is_err() && not_strict("false").is_ok());
    }
}
