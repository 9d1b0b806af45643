//! Properties that hold for every message type: the tables write the messages.

use super::*;
use crate::{
    complete::is_complete,
    raw,
    schema::{Field, FieldLabel, Kind, Message as Table, schema},
};
use proptest::prelude::*;
use prost::encoding::{WireType, encode_key, encode_varint};

/// Builds a valid message from a list of choices; when they run out everything optional is absent.
struct Builder<'a> {
    choices: std::slice::Iter<'a, u64>,
}

impl Builder<'_> {
    fn choice(&mut self) -> u64 {
        self.choices.next().copied().unwrap_or(0)
    }

    fn message(&mut self, table: &Table, depth: usize) -> Vec<u8> {
        let mut out = Vec::new();
        let mut oneof_set = false;
        for field in &table.fields {
            if field.only_v0 {
                continue;
            }
            let count = match field.label {
                FieldLabel::Required => 1,
                _ if depth > 6 || (field.oneof.is_some() && oneof_set) => 0,
                FieldLabel::Optional => usize::from(self.choice() % 4 == 1),
                // A repeated map key would be shown once.
                FieldLabel::Map => usize::from(self.choice() % 4 == 1),
                FieldLabel::Repeated => (self.choice() % 8).saturating_sub(5) as usize,
            };
            oneof_set |= field.oneof.is_some() && count > 0;
            for _ in 0..count {
                self.field(field, depth, &mut out);
            }
        }
        out
    }

    fn field(&mut self, field: &Field, depth: usize, out: &mut Vec<u8>) {
        let choice = self.choice();
        encode_key(field.number, raw::wire_type(field.kind), out);
        match (raw::wire_type(field.kind), field.kind) {
            (_, Kind::Message(child)) => {
                let child = schema().message(child);
                let bytes = if field.label == FieldLabel::Map {
                    let mut entry = Vec::new();
                    child
                        .fields
                        .iter()
                        .for_each(|field| self.field(field, depth + 1, &mut entry));
                    entry
                } else {
                    self.message(child, depth + 1)
                };
                encode_varint(bytes.len() as u64, out);
                out.extend_from_slice(&bytes);
            }
            (_, Kind::String) => {
                let text = ["", "a\"\\\n\u{1}", "é😀", "x/y", "\u{7f}\t"][choice as usize % 5];
                encode_varint(text.len() as u64, out);
                out.extend_from_slice(text.as_bytes());
            }
            (_, Kind::Bytes) => {
                let bytes = &choice.to_le_bytes()[..choice as usize % 8];
                encode_varint(bytes.len() as u64, out);
                out.extend_from_slice(bytes);
            }
            (_, Kind::Enum(at)) => {
                let known: Vec<_> = (0..200)
                    .filter(|n| schema().enumeration(at).contains(*n))
                    .collect();
                encode_varint(known[choice as usize % known.len()] as u64, out);
            }
            (_, Kind::Bool) => encode_varint(choice & 1, out),
            (_, Kind::Int32) => encode_varint((choice as i32) as i64 as u64, out),
            (_, Kind::Uint32) => encode_varint(choice & u64::from(u32::MAX), out),
            (_, Kind::Double) => {
                let value = f64::from_bits(choice);
                let value = if value.is_nan() { 0.1 } else { value };
                out.extend_from_slice(&value.to_le_bytes());
            }
            (WireType::Varint, _) => encode_varint(choice, out),
            (wire_type, kind) => panic!("no message has a {kind:?} ({wire_type:?}) yet"),
        }
    }
}

fn shown(name: &str, bytes: &[u8], names: Names) -> String {
    let mut text = String::new();
    encode_bytes(name, bytes, names, &mut text).expect("well formed");
    text
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever a message holds, JSON keeps it: reading what was written and writing it again
    /// gives the same text, in both dialects, and nothing required gets lost.
    #[test]
    fn json_keeps_every_message(choices in prop::collection::vec(any::<u64>(), 0..400)) {
        for name in wire::message_names() {
            let mut builder = Builder { choices: choices.iter() };
            let table = schema().message_named(name).expect("listed");
            let bytes = builder.message(table, 0);
            for names in [Names::V1, Names::V0] {
                prop_assert_eq!(wire::check_required(name, &bytes, names), Ok(()));
                let text = shown(name, &bytes, names);
                serde_json::from_str::<Value>(&text).expect("JSON by anyone's rules");
                let again = decode_bytes(name, text.as_bytes(), names);
                let again = again.map_err(|e| TestCaseError::fail(format!("{name}: {e}: {text}")))?;
                prop_assert_eq!(shown(name, &again, names), text);
            }
        }
    }

    /// The quick look for required fields finds what is there, and never what is not: it agrees with the
    /// thorough search, however bytes were changed.
    #[test]
    fn the_quick_look_never_says_more_than_the_search(
        choices in prop::collection::vec(any::<u64>(), 0..100),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        for name in wire::message_names() {
            let mut builder = Builder { choices: choices.iter() };
            let table = schema().message_named(name).expect("listed");
            let mut bytes = builder.message(table, 0);
            // By itself the entry of a map needs no value.
            let complete = name.ends_with("Entry") || is_complete(schema(), table, &bytes);
            prop_assert!(complete, "{name}");
            let mut twice = bytes.clone();
            twice.extend_from_slice(&bytes);
            for (at, byte) in &changes {
                if !bytes.is_empty() {
                    let at = at.index(bytes.len());
                    bytes[at] = *byte;
                    twice[at] = *byte;
                }
            }
            for bytes in [&bytes, &twice] {
                let found = wire::search(table, bytes, Names::V1);
                prop_assert!(found.is_ok() || !is_complete(schema(), table, bytes), "{name}: {found:?}");
            }
        }
    }

    /// Bytes that mean nothing are refused or read, never fatal.
    #[test]
    fn arbitrary_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(&bytes);
        for name in wire::message_names() {
            let mut out = String::from("kept");
            let result = encode_bytes(name, &bytes, Names::V1, &mut out);
            prop_assert!(result.is_ok() || out == "kept");
            let _ = wire::check_required(name, &bytes, Names::V0);
            let _ = decode_bytes(name, &bytes, Names::V0);
        }
        for name in crate::peer::PeerMessage::NAMES {
            let _ = crate::peer::PeerMessage::decode(name, bytes.clone().into());
        }
    }

    /// Any double comes back as the same value.
    #[test]
    fn doubles_keep_their_value(bits in any::<u64>()) {
        let value = f64::from_bits(bits);
        prop_assume!(value.is_finite());
        let mut text = String::new();
        push_double(&mut text, value);
        prop_assert_eq!(text.parse::<f64>().map(f64::to_bits), Ok(bits));
    }

    /// Any text comes back as the same text.
    #[test]
    fn strings_keep_their_text(text in ".*") {
        let mut out = String::new();
        push_string(&mut out, &text);
        prop_assert_eq!(parse(out.as_bytes()), Ok(Value::String(text)));
    }
}
