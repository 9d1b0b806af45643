//! The reference's JSON for protobuf messages, driven by the tables in [`crate::schema`].
//!
//! Writing (`JSON::protobuf` in `3rdparty/stout/include/stout/protobuf.hpp`): proto field names,
//! enum names, all integers as numbers, bytes as base64, doubles always with a point or exponent.
//! Unset fields are left out, except those with a declared default that are not deprecated.
//!
//! Reading (`protobuf::parse` in the same file) is lenient: unknown fields are ignored, null is
//! absent, one value may stand for a repeated field, numbers may be written as strings, an unknown
//! enum value counts as absent. The texts of errors are the reference's; clients see them.

mod parse;
mod read;
#[cfg(test)]
mod tests;
mod write;

use crate::wire::{self, DecodeError, table};
use prost::{Message, Name};
use serde_json::Value;

pub use write::{push_double, push_string};

/// Which API's names JSON uses. The bytes are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Names {
    /// `mesos.v1`: agents.
    V1 = 0,
    /// `mesos`: slaves.
    V0 = 1,
}

/// Why JSON was not understood. Its text is what the reference says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// It is not JSON. Answers put "Failed to parse body into JSON: " before this.
    #[error("{0}")]
    Syntax(String),
    /// It is JSON but not the message. Answers put "Failed to convert JSON into Call protobuf: "
    /// (or another message) before this.
    #[error("{0}")]
    Convert(String),
    /// Required fields are absent; same prefix.
    #[error("Missing required fields: {}", .0.join(", "))]
    MissingRequired(Vec<String>),
}

impl JsonError {
    /// Whether the text was not even JSON.
    pub fn is_syntax(&self) -> bool {
        matches!(self, Self::Syntax(_))
    }
}

impl From<DecodeError> for JsonError {
    fn from(error: DecodeError) -> Self {
        match error {
            DecodeError::Malformed(text) => Self::Convert(text),
            DecodeError::MissingRequired(paths) => Self::MissingRequired(paths),
        }
    }
}

/// A message as JSON, in v1 names.
pub fn encode<T: Message + Name>(message: &T) -> String {
    encode_with(message, Names::V1)
}

/// A message as JSON.
pub fn encode_with<T: Message + Name>(message: &T, names: Names) -> String {
    let mut out = String::new();
    encode_into(message, names, &mut out);
    out
}

/// Appends a message as JSON.
pub fn encode_into<T: Message + Name>(message: &T, names: Names, out: &mut String) {
    let bytes = message.encode_to_vec();
    out.reserve(bytes.len() * 2);
    // Our own bytes of a known type are well formed; nothing is appended if they were not.
    let _ = encode_bytes(&T::full_name(), &bytes, names, out);
}

/// Appends the message called `full_name` whose bytes are `bytes` as JSON. Appends nothing if the
/// bytes are not that message. Required fields are not checked.
pub fn encode_bytes(
    full_name: &str,
    bytes: &[u8],
    names: Names,
    out: &mut String,
) -> Result<(), DecodeError> {
    let length = out.len();
    write::message(table(full_name)?, bytes, names, out).map_err(|error| {
        out.truncate(length);
        error.into()
    })
}

/// Reads a message from JSON in v1 names.
pub fn decode<T: Message + Name + Default>(json: &[u8]) -> Result<T, JsonError> {
    decode_with(json, Names::V1)
}

/// Reads a message from JSON.
pub fn decode_with<T: Message + Name + Default>(json: &[u8], names: Names) -> Result<T, JsonError> {
    decode_value_with(&parse(json)?, names)
}

/// Reads a list of messages from a JSON array in v1 names.
pub fn decode_list<T: Message + Name + Default>(json: &[u8]) -> Result<Vec<T>, JsonError> {
    decode_list_with(json, Names::V1)
}

/// Reads a list of messages from a JSON array.
pub fn decode_list_with<T: Message + Name + Default>(
    json: &[u8],
    names: Names,
) -> Result<Vec<T>, JsonError> {
    let Value::Array(items) = parse(json)? else {
        return Err(JsonError::Convert("Expecting a JSON array".to_owned()));
    };
    items
        .iter()
        .map(|item| decode_value_with(item, names))
        .collect()
}

/// Reads a message from parsed JSON in v1 names.
pub fn decode_value<T: Message + Name + Default>(value: &Value) -> Result<T, JsonError> {
    decode_value_with(value, Names::V1)
}

/// Reads a message from parsed JSON.
pub fn decode_value_with<T: Message + Name + Default>(
    value: &Value,
    names: Names,
) -> Result<T, JsonError> {
    let bytes = transcode(&T::full_name(), value, names)?;
    Ok(wire::decode_with(bytes.into(), names)?)
}

/// Bytes of the message called `full_name` from JSON, required fields checked.
pub fn decode_bytes(full_name: &str, json: &[u8], names: Names) -> Result<Vec<u8>, JsonError> {
    let bytes = transcode(full_name, &parse(json)?, names)?;
    wire::check_required(full_name, &bytes, names)?;
    Ok(bytes)
}

/// Reads any JSON document, as leniently as the reference does and with its errors.
pub fn parse(json: &[u8]) -> Result<Value, JsonError> {
    parse::document(json).map_err(JsonError::Syntax)
}

fn transcode(full_name: &str, value: &Value, names: Names) -> Result<Vec<u8>, JsonError> {
    let Value::Object(object) = value else {
        return Err(JsonError::Convert("Expecting a JSON object".to_owned()));
    };
    read::message(table(full_name)?, object, names).map_err(JsonError::Convert)
}
