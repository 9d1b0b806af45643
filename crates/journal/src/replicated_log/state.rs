//! Named values, from the operations that the reference appends for them.

use super::{LogError, svndiff};
use prost::Message;
use std::collections::BTreeMap;

#[derive(Clone, PartialEq, Message)]
struct Operation {
    #[prost(int32, tag = "1")]
    r#type: i32,
    #[prost(message, optional, tag = "2")]
    snapshot: Option<Holder>,
    #[prost(message, optional, tag = "3")]
    expunge: Option<Expunge>,
    #[prost(message, optional, tag = "4")]
    diff: Option<Holder>,
}

/// A snapshot or a difference.
#[derive(Clone, PartialEq, Message)]
struct Holder {
    #[prost(message, required, tag = "1")]
    entry: Entry,
}

#[derive(Clone, PartialEq, Message)]
struct Expunge {
    #[prost(string, tag = "1")]
    name: String,
}

#[derive(Clone, PartialEq, Message)]
struct Entry {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(bytes = "vec", tag = "3")]
    value: Vec<u8>,
}

const SNAPSHOT: i32 = 1;
const EXPUNGE: i32 = 2;
const DIFF: i32 = 3;

/// Carries out the operations in order. Returns the values that are there at the end.
pub(super) fn apply(writes: Vec<(u64, &[u8])>) -> Result<BTreeMap<String, Vec<u8>>, LogError> {
    let mut values = BTreeMap::new();
    for (position, bytes) in writes {
        let unreadable = || LogError::Operation(position);
        let operation = Operation::decode(bytes).map_err(|_| unreadable())?;
        match operation.r#type {
            SNAPSHOT => {
                let entry = operation.snapshot.ok_or_else(unreadable)?.entry;
                values.insert(entry.name, entry.value);
            }
            DIFF => {
                let entry = operation.diff.ok_or_else(unreadable)?.entry;
                let Some(value) = values.get_mut(&entry.name) else {
                    return Err(LogError::NoBase {
                        position,
                        name: entry.name,
                    });
                };
                let patched = svndiff::apply(value, &entry.value);
                *value = patched.map_err(|source| LogError::Difference { position, source })?;
            }
            EXPUNGE => {
                values.remove(&operation.expunge.ok_or_else(unreadable)?.name);
            }
            _ => return Err(unreadable()),
        }
    }
    Ok(values)
}
