//! Bodies of messages as JSON by field names, and bytes with other ids in them.
//!
//! JSON is for comparing and telling: it comes from the protocol crate's tables. What is *sent* are the recorded bytes with the
//! leaves exchanged that stand for something of this run, done here without any schema; so nothing that our encoder does can
//! hide on both sides.

use bytes_of::{Field, fields, length_delimited};
use serde_json::Value;
use tepui_protocol::json::{self, Names as Dialect};
use tepui_protocol::v0;

use super::names::Names;

const V0_CALL: &str = "mesos.scheduler.Call";

/// The body of a message, or of a call or event, by its full name.
pub(crate) fn decode(name: &str, bytes: &[u8]) -> Result<Value, String> {
    let dialect = if name.starts_with("mesos.v1.") {
        Dialect::V1
    } else {
        Dialect::V0
    };
    let mut text = String::new();
    let result = if name == V0_CALL {
        let bytes = v0::scheduler_call_from_v0(bytes.to_vec().into());
        json::encode_bytes("mesos.v1.scheduler.Call", &bytes, dialect, &mut text)
    } else {
        json::encode_bytes(name, bytes, dialect, &mut text)
    };
    result.map_err(|error| format!("{name}: {error}"))?;
    serde_json::from_str(&text).map_err(|error| format!("{name}: {error} in {text}"))
}

/// The bytes of a protobuf message with every leaf exchanged that has another name in this run.
pub(crate) fn exchange(bytes: &[u8], names: &Names) -> Vec<u8> {
    exchange_message(bytes, names).unwrap_or_else(|| bytes.to_vec())
}

/// Whether two messages have the same fields in the same order, whatever they say.
pub(crate) fn same_shape(one: &[u8], other: &[u8]) -> bool {
    let (Some(one), Some(other)) = (fields(one), fields(other)) else {
        return false;
    };
    let alike = |(one, other): (&Field<'_>, &Field<'_>)| match (one, other) {
        (Field::Plain { key: one, .. }, Field::Plain { key: other, .. }) => one == other,
        (
            Field::Delimited {
                key: one,
                value: first,
                ..
            },
            Field::Delimited {
                key: other,
                value: second,
                ..
            },
        ) => {
            // A text is no message, or one by chance; then the other one is no message or another one.
            let texts = |value| {
                std::str::from_utf8(value).is_ok_and(|text| !text.contains(char::is_control))
            };
            one == other
                && (first == second || same_shape(first, second) || texts(first) && texts(second))
        }
        _ => false,
    };
    one.len() == other.len() && one.iter().zip(&other).all(alike)
}

/// None when nothing changes, or when it is no message.
fn exchange_message(bytes: &[u8], names: &Names) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(bytes.len() + 16);
    let mut changed = false;
    for field in fields(bytes)? {
        match field {
            Field::Plain { whole, .. } => out.extend_from_slice(whole),
            Field::Delimited { key, value, whole } => match exchange_leaf(value, names) {
                Some(value) => {
                    changed = true;
                    length_delimited(key, &value, &mut out);
                }
                None => out.extend_from_slice(whole),
            },
        }
    }
    changed.then_some(out)
}

fn exchange_leaf(value: &[u8], names: &Names) -> Option<Vec<u8>> {
    if let Some(own) = names.raw(value) {
        return Some(own.to_vec());
    }
    if let Some(message) = exchange_message(value, names) {
        return Some(message);
    }
    let text = std::str::from_utf8(value).ok()?;
    let own = names.text(text);
    (own != text).then(|| own.into_bytes())
}

/// Protobuf's framing of fields, and no more of it.
mod bytes_of {
    pub(super) enum Field<'a> {
        Plain {
            key: &'a [u8],
            whole: &'a [u8],
        },
        Delimited {
            key: &'a [u8],
            value: &'a [u8],
            whole: &'a [u8],
        },
    }

    /// The fields of a message; none when the bytes are not one.
    pub(super) fn fields(mut bytes: &[u8]) -> Option<Vec<Field<'_>>> {
        let mut found = Vec::new();
        while !bytes.is_empty() {
            let start = bytes;
            let key = varint(&mut bytes)?;
            if key >> 3 == 0 {
                return None;
            }
            let key_bytes = &start[..start.len() - bytes.len()];
            let field = match key & 7 {
                0 => {
                    varint(&mut bytes)?;
                    let whole = &start[..start.len() - bytes.len()];
                    Field::Plain {
                        key: key_bytes,
                        whole,
                    }
                }
                1 => Field::Plain {
                    key: key_bytes,
                    whole: skip(start, &mut bytes, 8)?,
                },
                5 => Field::Plain {
                    key: key_bytes,
                    whole: skip(start, &mut bytes, 4)?,
                },
                2 => {
                    let length = usize::try_from(varint(&mut bytes)?).ok()?;
                    let value = bytes.get(..length)?;
                    bytes = &bytes[length..];
                    Field::Delimited {
                        key: key_bytes,
                        value,
                        whole: &start[..start.len() - bytes.len()],
                    }
                }
                _ => return None,
            };
            found.push(field);
        }
        Some(found)
    }

    fn skip<'a>(start: &'a [u8], bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
        *bytes = bytes.get(length..)?;
        Some(&start[..start.len() - bytes.len()])
    }

    fn varint(bytes: &mut &[u8]) -> Option<u64> {
        let mut value = 0;
        for place in 0..10 {
            let (first, rest) = bytes.split_first()?;
            *bytes = rest;
            value |= u64::from(first & 0x7f) << (7 * place);
            if first & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    pub(super) fn length_delimited(key: &[u8], value: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(key);
        let mut length = value.len();
        while length >= 0x80 {
            out.push((length & 0x7f) as u8 | 0x80);
            length >>= 7;
        }
        out.push(length as u8);
        out.extend_from_slice(value);
    }
}

#[test]
fn leaves_are_exchanged_at_any_depth_and_lengths_follow() {
    let mut names = Names::default();
    names.bind("a-long-recorded-id", "ours");
    // {1: {1: "a-long-recorded-id"}, 2: 5}
    let inner = [&[0x0a, 18][..], b"a-long-recorded-id"].concat();
    let message = [&[0x0a, 20][..], &inner, &[0x10, 5]].concat();
    let expected = [&[0x0a, 6, 0x0a, 4][..], b"ours", &[0x10, 5]].concat();
    assert_eq!(exchange(&message, &names), expected);
    assert_eq!(exchange(b"\x10\x05", &names), b"\x10\x05");
}

#[test]
fn shapes_are_the_same_when_only_values_differ() {
    // {1: {1: 1}, 2: 5}, with other values, in another order, with another field.
    assert!(same_shape(
        b"\x0a\x02\x08\x01\x10\x05",
        b"\x0a\x02\x08\x07\x10\x06"
    ));
    assert!(!same_shape(
        b"\x0a\x02\x08\x01\x10\x05",
        b"\x10\x05\x0a\x02\x08\x01"
    ));
    assert!(!same_shape(
        b"\x0a\x02\x08\x01\x10\x05",
        b"\x0a\x02\x10\x01\x10\x05"
    ));
    assert!(same_shape(b"\x0a\x061.11.0", b"\x0a\x061.12.0"));
}
