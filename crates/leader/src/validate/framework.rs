//! Descriptions of frameworks: whether they are valid, and what may change in them.

use super::{id, set_text};
use crate::state::{FrameworkCapabilities, OfferConstraints, roles_of};
use std::collections::BTreeSet;
use tepui_allocator::{ConstraintLimits, Constraints};
use tepui_model::{number::format_general, roles};
use tepui_protocol::v1::{self, scheduler};

/// Checks a description by itself.
pub(crate) fn info(info: &v1::FrameworkInfo) -> Result<(), String> {
    valid_roles(info)?;
    if let Some(framework) = info
        .id
        .as_ref()
        .filter(|framework| !framework.value.is_empty())
    {
        id(&framework.value)?;
    }
    info.offer_filters.values().try_for_each(offer_filters)?;
    failover_timeout(info.failover_timeout())
}

fn valid_roles(info: &v1::FrameworkInfo) -> Result<(), String> {
    if !FrameworkCapabilities::from(info).multi_role {
        if !info.roles.is_empty() {
            return Err(
                "'FrameworkInfo.roles' must not be set when the framework is not MULTI_ROLE capable".to_owned()
            );
        }
        return roles::validate(info.role())
            .map_err(|error| format!("'FrameworkInfo.role' is not a valid role: {error}"));
    }
    if info.role.is_some() {
        return Err(
            "'FrameworkInfo.role' must not be set when the framework is MULTI_ROLE capable"
                .to_owned(),
        );
    }
    let mut seen = BTreeSet::new();
    let twice: BTreeSet<String> = info
        .roles
        .iter()
        .filter(|role| !seen.insert(*role))
        .cloned()
        .collect();
    if !twice.is_empty() {
        return Err(format!(
            "'FrameworkInfo.roles' contains duplicate items: {}",
            set_text(&twice)
        ));
    }
    info.roles.iter().try_for_each(|role| {
        roles::validate(role)
            .map_err(|error| format!("'FrameworkInfo.roles' contains invalid role: {error}"))
    })
}

fn offer_filters(filters: &v1::OfferFilters) -> Result<(), String> {
    let Some(minimum) = &filters.min_allocatable_resources else {
        return Ok(());
    };
    for quantities in &minimum.quantities {
        if quantities.quantities.is_empty() {
            return Err("Resource quantities must contain at least one quantity".to_owned());
        }
        for (name, amount) in &quantities.quantities {
            input_scalar(amount.value)
                .map_err(|error| format!("Invalid resource quantity for '{name}': {error}"))?;
        }
    }
    Ok(())
}

fn input_scalar(value: f64) -> Result<(), &'static str> {
    use std::num::FpCategory::*;
    match value.classify() {
        Infinite => Err("Infinite values not supported"),
        Nan => Err("NaN not supported"),
        Subnormal => Err("Subnormal values not supported"),
        Normal if value < 0.0 => Err("Negative values not supported"),
        Normal | Zero => Ok(()),
    }
}

/// It has to fit a signed number of nanoseconds. Negative ones do, and mean none.
fn failover_timeout(seconds: f64) -> Result<(), String> {
    const LONGEST: f64 = i64::MAX as f64 / 1e9;
    if seconds.abs() < LONGEST {
        return Ok(());
    }
    Err(format!(
        "The framework failover_timeout ({}) is invalid",
        format_general(seconds)
    ))
}

/// Checks what stands beside a description in a call, and compiles its constraints.
pub(crate) fn options(
    info: &v1::FrameworkInfo,
    suppressed: &[String],
    constraints: Option<&scheduler::OfferConstraints>,
    limits: &ConstraintLimits,
) -> Result<OfferConstraints, String> {
    let roles = roles_of(info);
    let foreign: BTreeSet<String> = suppressed
        .iter()
        .filter(|role| !roles.contains(*role))
        .cloned()
        .collect();
    if !foreign.is_empty() {
        return Err(format!(
            "Suppressed roles {} are not contained in the set of roles",
            set_text(&foreign)
        ));
    }
    let Some(constraints) = constraints else {
        return Ok(OfferConstraints::new());
    };
    if let Some(role) = constraints
        .role_constraints
        .keys()
        .find(|role| !roles.contains(*role))
    {
        // The missing space is the reference's.
        return Err(format!(
            "Offer constraints specify `role_constraints` for a role '{role}'not contained in the set of roles"
        ));
    }
    Constraints::of_roles(constraints, limits)
        .map_err(|error| format!("Offer constraints are not valid: {error}"))
}

/// Checks a description against the one before it.
pub(crate) fn update(old: &v1::FrameworkInfo, new: &v1::FrameworkInfo) -> Result<(), String> {
    if old.principal != new.principal {
        return Err("Changing framework's principal is not allowed.".to_owned());
    }
    if old.user != new.user {
        return Err(format!(
            "Updating 'FrameworkInfo.user' is unsupported; attempted to update from '{}' to '{}'",
            old.user, new.user
        ));
    }
    if old.checkpoint() != new.checkpoint() {
        return Err(format!(
            "Updating 'FrameworkInfo.checkpoint' is unsupported; attempted to update from '{}' to '{}'",
            old.checkpoint(),
            new.checkpoint()
        ));
    }
    Ok(())
}

/// A framework that subscribes again keeps what it may not change.
pub(crate) fn keep_immutable(old: &v1::FrameworkInfo, new: &mut v1::FrameworkInfo) {
    new.user.clone_from(&old.user);
    if new.checkpoint() != old.checkpoint() {
        new.checkpoint = old.checkpoint;
    }
}
