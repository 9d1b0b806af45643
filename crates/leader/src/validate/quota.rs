//! Quotas: which amounts can be promised or be a bound (`src/master/quota.cpp`).

use std::{collections::BTreeSet, num::FpCategory};
use tepui_model::{Quota, Scalar, number::format_general, roles};
use tepui_protocol::v1::{
    quota::{QuotaConfig, QuotaRequest},
    value,
};

/// One exabyte in megabytes: the largest amount of memory or disk.
const LARGEST_SPACE: i64 = 1 << 40;

/// One trillion: the largest amount of anything else.
const LARGEST: i64 = 1_000_000_000_000;

type Amounts = std::collections::BTreeMap<String, value::Scalar>;

/// A quota as `UPDATE_QUOTA` sets it. The text goes behind `Invalid QuotaConfig: `.
pub(crate) fn config(config: &QuotaConfig) -> Result<(), String> {
    roles::validate(&config.role)
        .map_err(|error| format!("Invalid 'QuotaConfig.role': {error}"))?;
    for (field, amounts) in [
        ("guarantees", &config.guarantees),
        ("limits", &config.limits),
    ] {
        not_too_large(amounts)
            .map_err(|error| format!("Invalid 'QuotaConfig.{field}': {error}"))?;
    }
    for (what, amounts) in [("guarantee", &config.guarantees), ("limit", &config.limits)] {
        for (name, amount) in amounts {
            number(amount.value).map_err(|error| {
                let amount = shown(amount);
                format!("Invalid {what} configuration {{'{name}': {amount}}}: {error}")
            })?;
        }
    }
    let quota = Quota::from(config);
    if !quota.limits.contains(&quota.guarantees) {
        return Err(format!(
            "'QuotaConfig.guarantees' {} is not contained within the 'QuotaConfig.limits' {}",
            map(&config.guarantees),
            map(&config.limits)
        ));
    }
    Ok(())
}

fn not_too_large(amounts: &Amounts) -> Result<(), String> {
    for (name, amount) in amounts {
        let is_space = name == "mem" || name == "disk";
        let (most, words) = match is_space {
            true => (LARGEST_SPACE, "1 exabyte"),
            false => (LARGEST, "1 trillion"),
        };
        if amount.value > most as f64 {
            return Err(format!(
                "{{'{name}': {}}} is invalid: values greater than {words} ({most}) are not supported",
                shown(amount)
            ));
        }
    }
    Ok(())
}

/// `validateInputScalarValue` in `src/common/validation.cpp`.
fn number(value: f64) -> Result<(), &'static str> {
    match value.classify() {
        FpCategory::Infinite => Err("Infinite values not supported"),
        FpCategory::Nan => Err("NaN not supported"),
        FpCategory::Subnormal => Err("Subnormal values not supported"),
        FpCategory::Normal if value < 0.0 => Err("Negative values not supported"),
        FpCategory::Zero | FpCategory::Normal => Ok(()),
    }
}

/// As the reference prints a scalar: with three decimals at most. What it cannot count stands as it is.
fn shown(amount: &value::Scalar) -> String {
    match amount.value.is_finite() {
        true => Scalar::from(amount).to_string(),
        false => format_general(amount.value),
    }
}

/// `{ cpus: 1, mem: 2 }`
fn map(amounts: &Amounts) -> String {
    let entries: Vec<String> = (amounts.iter())
        .map(|(name, amount)| format!("{name}: {}", shown(amount)))
        .collect();
    format!("{{ {} }}", entries.join(", "))
}

/// A quota as `SET_QUOTA` sets it, of resources that are valid ones.
pub(crate) fn request(request: &QuotaRequest) -> Result<(), String> {
    let Some(role) = &request.role else {
        // An absent role reads like an empty one, which is what the recorded leader says of it.
        return Err(
            "QuotaInfo with invalid role: Role names cannot be the empty string".to_owned(),
        );
    };
    roles::validate(role).map_err(|error| format!("QuotaInfo with invalid role: {error}"))?;
    if request.guarantee.is_empty() {
        return Err("QuotaInfo with empty 'guarantee'".to_owned());
    }
    let mut names = BTreeSet::new();
    for resource in &request.guarantee {
        let reserved = !resource.reservations.is_empty()
            || resource.reservation.is_some()
            || resource.role.as_deref().is_some_and(|role| role != "*");
        let wrong = if reserved {
            "QuotaInfo must not contain any ReservationInfo"
        } else if resource.disk.is_some() {
            "QuotaInfo must not contain DiskInfo"
        } else if resource.revocable.is_some() {
            "QuotaInfo must not contain RevocableInfo"
        } else if resource.scalar.is_none() {
            "QuotaInfo must not include non-scalar resources"
        } else if !names.insert(resource.name.as_str()) {
            return Err(format!(
                "QuotaInfo contains duplicate resource name '{}'",
                resource.name
            ));
        } else {
            continue;
        };
        return Err(wrong.to_owned());
    }
    Ok(())
}
