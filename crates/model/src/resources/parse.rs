//! Resources as flags and variables write them: text (`cpus:4;ports(role):[1-2]`) or a JSON array of
//! `Resource`. Follows `Resources::parse` of `src/common/resources.cpp`.

use super::{ResourceError, Resources, upgrade, validate};
use crate::{
    roles::DEFAULT_ROLE,
    values::{self, Value, ValueError, tokens},
};
use std::collections::BTreeMap;
use tepui_protocol::{
    json::{self, JsonError},
    v1::{
        self,
        resource::{ReservationInfo, reservation_info},
        value,
    },
};
use thiserror::Error;

/// Why a text is no resources.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[allow(missing_docs)]
pub enum ParseError {
    #[error("Some JSON resources were not formatted properly: {0}")]
    Json(#[from] JsonError),
    #[error("Bad value for resources, missing or extra ':' in {0}")]
    Colon(String),
    #[error("Bad value for resources, mismatched parentheses in {0}")]
    Parentheses(String),
    #[error("Failed to parse resource {name} value {value} error {error}")]
    Value {
        name: String,
        value: String,
        error: ValueError,
    },
    #[error("Bad type for resource {name} value {value} type {value_type}")]
    Type {
        name: String,
        value: String,
        value_type: &'static str,
    },
    #[error(transparent)]
    Invalid(#[from] ResourceError),
    #[error("Persistent volumes cannot be specified at the command line")]
    PersistentVolume,
    #[error(
        "Revocable resources cannot be specified at the command line; do not include a 'revocable' key in the resources JSON"
    )]
    Revocable,
    #[error(
        "Dynamic reservations cannot be specified at the command line; do not include a reservation with DYNAMIC type in the resources JSON"
    )]
    DynamicReservation,
    #[error("The 'gpus' resource must be an non-negative integer")]
    FractionOfGpu,
    #[error("Resources with the same name ('{0}') but different types are not allowed")]
    MixedTypes(String),
}

/// Reads what an operator may give on a command line: valid, and nothing that only comes about at
/// run time. Resources without a role get `default_role`.
pub fn parse(text: &str, default_role: &str) -> Result<Resources, ParseError> {
    let list = parse_list(text, default_role)?;
    for resource in &list {
        validate(resource)?;
    }
    let resources = Resources::from_proto(&list);
    validate_command_line(&resources)?;
    Ok(resources)
}

/// Reads text or JSON without judging it; objects may be empty or invalid, and are in the
/// post-refinement form.
pub fn parse_list(text: &str, default_role: &str) -> Result<Vec<v1::Resource>, ParseError> {
    match serde_json::from_str::<Vec<serde_json::Value>>(text) {
        Ok(array) => array
            .into_iter()
            .map(|element| from_json(element, default_role))
            .collect(),
        Err(_) => tokens(text, ";")
            .map(|token| from_text(token, default_role))
            .collect(),
    }
}

fn from_json(element: serde_json::Value, default_role: &str) -> Result<v1::Resource, ParseError> {
    let mut resource: v1::Resource = json::decode_value(&element)?;
    if resource.role.is_none() && resource.reservations.is_empty() {
        resource.role = Some(default_role.to_owned());
    }
    upgrade(&mut resource);
    Ok(resource)
}

fn from_text(token: &str, default_role: &str) -> Result<v1::Resource, ParseError> {
    let mut pair = tokens(token, ":");
    let (Some(key), Some(value), None) = (pair.next(), pair.next(), pair.next()) else {
        return Err(ParseError::Colon(token.into()));
    };
    let (name, role) = match key.split_once('(') {
        None => (key.trim(), default_role),
        Some((name, rest)) => match rest.split_once(')') {
            Some((role, _)) if !name.contains(')') => (name.trim(), role.trim()),
            _ => return Err(ParseError::Parentheses(token.into())),
        },
    };
    resource(name, value, role)
}

fn resource(name: &str, text: &str, role: &str) -> Result<v1::Resource, ParseError> {
    let value = values::parse(text).map_err(|error| ParseError::Value {
        name: name.into(),
        value: text.into(),
        error,
    })?;
    let mut resource = v1::Resource {
        name: name.to_owned(),
        ..Default::default()
    };
    match value {
        Value::Scalar(value) => {
            resource.set_type(value::Type::Scalar);
            resource.scalar = Some(value::Scalar { value });
        }
        Value::Ranges(ranges) => {
            resource.set_type(value::Type::Ranges);
            resource.ranges = Some(ranges.to_proto());
        }
        Value::Set(item) => {
            resource.set_type(value::Type::Set);
            resource.set = Some(value::Set { item });
        }
        other @ Value::Text(_) => {
            return Err(ParseError::Type {
                name: name.into(),
                value: text.into(),
                value_type: other.type_name(),
            });
        }
    }
    if role != DEFAULT_ROLE {
        resource.reservations.push(ReservationInfo {
            r#type: Some(reservation_info::Type::Static as i32),
            role: Some(role.to_owned()),
            ..Default::default()
        });
    }
    Ok(resource)
}

fn validate_command_line(resources: &Resources) -> Result<(), ParseError> {
    let mut types = BTreeMap::new();
    for resource in resources {
        if resource.is_persistent_volume() {
            return Err(ParseError::PersistentVolume);
        }
        if resource.is_revocable() {
            return Err(ParseError::Revocable);
        }
        if resource.is_dynamically_reserved() {
            return Err(ParseError::DynamicReservation);
        }
        let own = std::mem::discriminant(resource.amount());
        if *types.entry(resource.name()).or_insert(own) != own {
            return Err(ParseError::MixedTypes(resource.name().to_string()));
        }
    }
    Ok(())
}
