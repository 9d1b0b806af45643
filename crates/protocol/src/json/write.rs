//! Protobuf bytes to JSON text, in one pass over each message.
//!
//! The layout of numbers and strings is that of the writer the reference uses (RapidJSON 1.1 with
//! `3rdparty/rapidjson-1.1.0.patch`, through `3rdparty/stout/include/stout/jsonify.hpp`).

use super::Names;
use crate::{
    raw::{self, Entry, MAX_DEPTH, Malformed, Value},
    schema::{Field, FieldLabel, Kind, Message as Table, schema},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use std::{collections::BTreeMap, fmt::Write as _, io::Write as _};

/// Appends a message. What was appended is incomplete if the bytes are malformed.
pub(super) fn message(
    table: &Table,
    bytes: &[u8],
    names: Names,
    out: &mut String,
) -> Result<(), Malformed> {
    Writer {
        names,
        v0_fields: names == Names::V0,
        out,
        entries: Vec::new(),
        depth: 0,
    }
    .message(table, &[bytes])
}

struct Writer<'a, 'o> {
    names: Names,
    /// Whether fields that only v0 has are shown here.
    v0_fields: bool,
    out: &'o mut String,
    /// Fields of the messages being written, the innermost one's last.
    entries: Vec<Entry<'a>>,
    depth: usize,
}

impl<'a> Writer<'a, '_> {
    fn message(&mut self, table: &Table, parts: &[&'a [u8]]) -> Result<(), Malformed> {
        if self.depth >= MAX_DEPTH {
            return Err(Malformed);
        }
        self.depth += 1;
        let outer_v0_fields = self.v0_fields;
        self.v0_fields |= table.shows_v0_fields;
        let base = self.entries.len();
        raw::gather(schema(), table, parts, &mut self.entries)?;
        self.entries[base..].sort_by_key(|entry| entry.field);
        let end = self.entries.len();
        let (mut at, mut first) = (base, true);
        self.out.push('{');
        for (index, field) in table.fields.iter().enumerate() {
            let start = at;
            while at < end && usize::from(self.entries[at].field) == index {
                at += 1;
            }
            if field.only_v0 && !self.v0_fields {
                continue;
            }
            let default = field.default_json(self.names);
            if start == at && default.is_none() {
                continue;
            }
            if !first {
                self.out.push(',');
            }
            first = false;
            self.out.push('"');
            self.out.push_str(field.name(self.names));
            self.out.push_str("\":");
            match (start == at, default) {
                (true, Some(default)) => self.out.push_str(default),
                _ => self.field(field, start, at)?,
            }
        }
        self.out.push('}');
        self.entries.truncate(base);
        self.v0_fields = outer_v0_fields;
        self.depth -= 1;
        Ok(())
    }

    /// Writes the value of a field that occurs in `entries[start..end]`.
    fn field(&mut self, field: &Field, start: usize, end: usize) -> Result<(), Malformed> {
        match field.label {
            FieldLabel::Map => self.map(field, start, end),
            FieldLabel::Repeated => {
                self.out.push('[');
                for at in start..end {
                    if at > start {
                        self.out.push(',');
                    }
                    self.value(field.kind, self.entries[at].value)?;
                }
                self.out.push(']');
                Ok(())
            }
            FieldLabel::Optional | FieldLabel::Required => match field.kind {
                Kind::Message(child) if end - start > 1 => {
                    let pieces: Vec<_> = self.entries[start..end]
                        .iter()
                        .map(|e| e.value.slice())
                        .collect();
                    self.message(schema().message(child), &pieces)
                }
                // Of several values the last one counts.
                kind => self.value(kind, self.entries[end - 1].value),
            },
        }
    }

    fn map(&mut self, field: &Field, start: usize, end: usize) -> Result<(), Malformed> {
        let Kind::Message(entry) = field.kind else {
            return Err(Malformed);
        };
        let entry = schema().message(entry);
        let (Some((key_at, key)), Some((value_at, value))) =
            (entry.field_numbered(1), entry.field_numbered(2))
        else {
            return Err(Malformed);
        };
        let mut pairs: BTreeMap<String, Vec<Value<'a>>> = BTreeMap::new();
        let base = self.entries.len();
        for at in start..end {
            let part = self.entries[at].value.slice();
            raw::gather(schema(), entry, &[part], &mut self.entries)?;
            let mut name = String::new();
            let mut values = Vec::new();
            for found in self.entries.drain(base..) {
                if found.field == key_at {
                    name = key_text(key.kind, found.value);
                } else if found.field == value_at {
                    values.push(found.value);
                }
            }
            pairs.insert(name, values);
        }
        self.out.push('{');
        for (index, (name, values)) in pairs.iter().enumerate() {
            if index > 0 {
                self.out.push(',');
            }
            push_string(self.out, name);
            self.out.push(':');
            match value.kind {
                Kind::Message(child) => {
                    let pieces: Vec<_> = values.iter().map(|value| value.slice()).collect();
                    self.message(schema().message(child), &pieces)?;
                }
                kind => self.value(kind, values.last().copied().unwrap_or(Value::Bits(0)))?,
            }
        }
        self.out.push('}');
        Ok(())
    }

    fn value(&mut self, kind: Kind, value: Value<'a>) -> Result<(), Malformed> {
        let bits = value.bits();
        match kind {
            Kind::Message(child) => {
                return self.message(schema().message(child), &[value.slice()]);
            }
            Kind::String => push_lossy(self.out, value.slice()),
            Kind::Bytes => {
                self.out.push('"');
                STANDARD.encode_string(value.slice(), self.out);
                self.out.push('"');
            }
            Kind::Enum(index) => {
                // Values without a name were left out when the fields were gathered.
                let name = schema()
                    .enumeration(index)
                    .name(raw::as_enum(bits), self.names);
                self.out.push('"');
                self.out.push_str(name.unwrap_or_default());
                self.out.push('"');
            }
            Kind::Bool => self.out.push_str(if bits == 0 { "false" } else { "true" }),
            Kind::Double => push_double(self.out, f64::from_bits(bits)),
            Kind::Float => push_double(self.out, f64::from(f32::from_bits(bits as u32))),
            integer => push_integer(self.out, integer, bits),
        }
        Ok(())
    }
}

fn key_text(kind: Kind, value: Value<'_>) -> String {
    let mut text = String::new();
    match kind {
        Kind::String => text = String::from_utf8_lossy(value.slice()).into_owned(),
        Kind::Bool => text.push_str(if value.bits() == 0 { "false" } else { "true" }),
        integer => push_integer(&mut text, integer, value.bits()),
    }
    text
}

fn push_integer(out: &mut String, kind: Kind, bits: u64) {
    let signed = match kind {
        Kind::Int32 | Kind::Sfixed32 => i64::from(bits as u32 as i32),
        Kind::Int64 | Kind::Sfixed64 => bits.cast_signed(),
        Kind::Sint32 => {
            let bits = bits as u32;
            i64::from((bits >> 1).cast_signed() ^ -((bits & 1).cast_signed()))
        }
        Kind::Sint64 => (bits >> 1).cast_signed() ^ -((bits & 1).cast_signed()),
        Kind::Uint32 | Kind::Fixed32 => i64::from(bits as u32),
        _ => {
            let _ = write!(out, "{bits}");
            return;
        }
    };
    let _ = write!(out, "{signed}");
}

/// Appends a double as the reference prints it: the shortest digits that read back as the same
/// value, always with a point or an exponent (`1.0`, `0.1`, `1e30`). Infinities are quoted, as the
/// reference reads them.
pub fn push_double(out: &mut String, value: f64) {
    if value.is_nan() {
        return out.push_str("NaN");
    }
    if value.is_infinite() {
        return out.push_str(if value > 0.0 {
            "\"Infinity\""
        } else {
            "\"-Infinity\""
        });
    }
    if value == 0.0 {
        return out.push_str(if value.is_sign_negative() {
            "-0.0"
        } else {
            "0.0"
        });
    }
    // Such as `-1.2345e-7`: at most 17 digits, so this always fits.
    let mut buffer = [0u8; 40];
    let mut rest = &mut buffer[..];
    let _ = write!(rest, "{:e}", value.abs());
    let length = 40 - rest.len();
    let text = std::str::from_utf8(&buffer[..length]).unwrap_or_default();
    let (mantissa, exponent) = text.split_once('e').unwrap_or((text, "0"));
    let (head, tail) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    if value < 0.0 {
        out.push('-');
    }
    push_decimal(out, head, tail, exponent);
}

/// Appends `head.tail` times ten to the `exponent`; `head` is one digit.
fn push_decimal(out: &mut String, head: &str, tail: &str, exponent: i32) {
    let tail_length = i32::try_from(tail.len()).unwrap_or(0);
    let zeros = |out: &mut String, count: i32| (0..count).for_each(|_| out.push('0'));
    match exponent {
        -6..=-1 => {
            out.push_str("0.");
            zeros(out, -exponent - 1);
            out.push_str(head);
            out.push_str(tail);
        }
        0..=20 if tail_length <= exponent => {
            out.push_str(head);
            out.push_str(tail);
            zeros(out, exponent - tail_length);
            out.push_str(".0");
        }
        0..=20 => {
            let (whole, fraction) = tail.split_at(usize::try_from(exponent).unwrap_or(0));
            out.push_str(head);
            out.push_str(whole);
            out.push('.');
            out.push_str(fraction);
        }
        _ => {
            out.push_str(head);
            if !tail.is_empty() {
                out.push('.');
                out.push_str(tail);
            }
            let _ = write!(out, "e{exponent}");
        }
    }
}

/// Appends a quoted string, escaped as the reference does: quotes, backslashes and control
/// characters only.
pub fn push_string(out: &mut String, text: &str) {
    out.push('"');
    let mut from = 0;
    for (at, byte) in text.bytes().enumerate() {
        let short = match byte {
            b'"' => "\\\"",
            b'\\' => "\\\\",
            0x08 => "\\b",
            0x0c => "\\f",
            b'\n' => "\\n",
            b'\r' => "\\r",
            b'\t' => "\\t",
            0..=0x1f => "",
            _ => continue,
        };
        out.push_str(&text[from..at]);
        out.push_str(short);
        if short.is_empty() {
            let _ = write!(out, "\\u{byte:04X}");
        }
        from = at + 1;
    }
    out.push_str(&text[from..]);
    out.push('"');
}

fn push_lossy(out: &mut String, text: &[u8]) {
    push_string(out, &String::from_utf8_lossy(text));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_print_as_the_reference_prints_them() {
        for (value, expected) in [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.0, "1.0"),
            (-15.0, "-15.0"),
            (0.1, "0.1"),
            (4096.0, "4096.0"),
            (1795359797.017732, "1795359797.017732"),
            (0.000001, "0.000001"),
            (0.0000001, "1e-7"),
            (1.5e-7, "1.5e-7"),
            (1e20, "100000000000000000000.0"),
            (1e21, "1e21"),
            (1.25e22, "1.25e22"),
            (1e300, "1e300"),
            (f64::MIN_POSITIVE, "2.2250738585072014e-308"),
            (f64::INFINITY, "\"Infinity\""),
            (f64::NEG_INFINITY, "\"-Infinity\""),
        ] {
            let mut out = String::new();
            push_double(&mut out, value);
            assert_eq!(out, expected);
        }
    }

    #[test]
    fn strings_escape_only_what_json_requires() {
        let mut out = String::new();
        push_string(&mut out, "a/\"\\\u{8}\u{c}\n\r\t\u{1}\u{1f}\u{7f}é😀");
        assert_eq!(out, "\"a/\\\"\\\\\\b\\f\\n\\r\\t\\u0001\\u001F\u{7f}é😀\"");
    }
}
