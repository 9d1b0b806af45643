//! Attributes of a follower: `node_id:host1;rack:a;speed:2.5;slots:[1-4]`. Follows
//! `src/common/attributes.cpp` and `docs/attributes-resources.md`; where the reference aborts the
//! process on a bad text, this returns the same words.

use crate::{
    scalar::Scalar,
    values::{self, Ranges, Set, Value, ValueError, tokens},
};
use std::fmt;
use tepui_protocol::v1::{self, value};
use thiserror::Error;

/// Why a text is no attributes.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[allow(missing_docs)]
pub enum AttributeError {
    #[error("Invalid attribute key:value pair '{0}'")]
    Pair(String),
    #[error("Failed to parse attribute {name} text {text} error {error}")]
    Value {
        name: String,
        text: String,
        error: ValueError,
    },
    #[error("Bad type for attribute {name} text {text} type {value_type}")]
    Type {
        name: String,
        text: String,
        value_type: &'static str,
    },
}

/// Attributes in the order given; names need not be unique.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Attributes(Vec<v1::Attribute>);

impl Attributes {
    /// Reads `name:value` pairs between semicolons or newlines. Types go by shape: number, ranges,
    /// text. Sets are refused, as the reference refuses them.
    pub fn parse(text: &str) -> Result<Self, AttributeError> {
        tokens(text, ";\n")
            .map(parse_pair)
            .collect::<Result<_, _>>()
            .map(Self)
    }
    /// From the wire; invalid ones stay as they are.
    pub fn from_proto(attributes: &[v1::Attribute]) -> Self {
        Self(attributes.to_vec())
    }
    /// As they stand on the wire.
    pub fn to_proto(&self) -> Vec<v1::Attribute> {
        self.0.clone()
    }
    /// The attributes.
    pub fn iter(&self) -> std::slice::Iter<'_, v1::Attribute> {
        self.0.iter()
    }
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    /// Whether both hold the same attributes in any order.
    pub fn same(&self, other: &Self) -> bool {
        let all_in = |a: &Self, b: &Self| a.iter().all(|x| b.iter().any(|y| same(x, y)));
        self.0.len() == other.0.len() && all_in(self, other) && all_in(other, self)
    }
    /// Whether every attribute of `self` stands in `other` too.
    pub fn is_subset_of(&self, other: &Self) -> bool {
        self.iter().all(|x| other.iter().any(|y| same(x, y)))
    }
}

/// Whether it has a name, and a value of its type. Sets are none.
pub fn is_valid(attribute: &v1::Attribute) -> bool {
    !attribute.name.is_empty()
        && match value::Type::try_from(attribute.r#type) {
            Ok(value::Type::Scalar) => attribute.scalar.is_some(),
            Ok(value::Type::Ranges) => attribute.ranges.is_some(),
            Ok(value::Type::Text) => attribute.text.is_some(),
            Ok(value::Type::Set) | Err(_) => false,
        }
}

/// The text of an attribute's value, as `/state` shows it.
pub fn describe_value(attribute: &v1::Attribute) -> String {
    let text = match attribute.r#type() {
        value::Type::Scalar => attribute
            .scalar
            .as_ref()
            .map(|s| Scalar::from(s).to_string()),
        value::Type::Ranges => attribute
            .ranges
            .as_ref()
            .map(|r| Ranges::from(r).to_string()),
        value::Type::Set => attribute.set.as_ref().map(|s| Set::from(s).to_string()),
        value::Type::Text => attribute.text.as_ref().map(|t| t.value.clone()),
    };
    text.unwrap_or_default()
}

/// `node_id=host1; rack=a` is how the reference logs them; we keep the form that parses back.
impl fmt::Display for Attributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, attribute) in self.iter().enumerate() {
            write!(
                f,
                "{}{}:{}",
                if i == 0 { "" } else { ";" },
                attribute.name,
                describe_value(attribute)
            )?;
        }
        Ok(())
    }
}

fn same(a: &v1::Attribute, b: &v1::Attribute) -> bool {
    a.name == b.name && a.r#type == b.r#type && describe_value(a) == describe_value(b)
}

fn parse_pair(token: &str) -> Result<v1::Attribute, AttributeError> {
    let (name, text) = token
        .split_once(':')
        .filter(|(name, text)| !name.is_empty() && !text.is_empty())
        .ok_or_else(|| AttributeError::Pair(token.into()))?;
    let value = values::parse(text).map_err(|error| AttributeError::Value {
        name: name.into(),
        text: text.into(),
        error,
    })?;
    let mut attribute = v1::Attribute {
        name: name.to_owned(),
        ..Default::default()
    };
    match value {
        Value::Scalar(value) => {
            attribute.set_type(value::Type::Scalar);
            attribute.scalar = Some(value::Scalar { value });
        }
        Value::Ranges(ranges) => {
            attribute.set_type(value::Type::Ranges);
            attribute.ranges = Some(ranges.to_proto());
        }
        Value::Text(value) => {
            attribute.set_type(value::Type::Text);
            attribute.text = Some(value::Text { value });
        }
        other @ Value::Set(_) => {
            let value_type = other.type_name();
            return Err(AttributeError::Type {
                name: name.into(),
                text: text.into(),
                value_type,
            });
        }
    }
    Ok(attribute)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_go_by_shape() {
        let attributes =
            Attributes::parse("node_id:host1;rack:a;speed:2.5;slots:[1-4, 5-6]\nurl:http://x:80")
                .unwrap();
        let types: Vec<_> = attributes
            .iter()
            .map(|a| (a.name.as_str(), a.r#type()))
            .collect();
        use value::Type::*;
        assert_eq!(
            types,
            [
                ("node_id", Text),
                ("rack", Text),
                ("speed", Scalar),
                ("slots", Ranges),
                ("url", Text)
            ]
        );
        assert_eq!(
            attributes.to_string(),
            "node_id:host1;rack:a;speed:2.5;slots:[1-6];url:http://x:80"
        );
        assert!(attributes.iter().all(is_valid));
    }

    #[test]
    fn bad_attributes_are_named() {
        let error = |text| Attributes::parse(text).unwrap_err().to_string();
        assert_eq!(error("rack"), "Invalid attribute key:value pair 'rack'");
        assert_eq!(error("rack:"), "Invalid attribute key:value pair 'rack:'");
        assert_eq!(
            error("zones:{a,b}"),
            "Bad type for attribute zones text {a,b} type SET"
        );
        assert_eq!(
            error("r:[1-2"),
            "Failed to parse attribute r text [1-2 error Mismatched brackets"
        );
    }
}
