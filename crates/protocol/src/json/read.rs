//! JSON values to protobuf bytes.

use super::{Names, parse};
use crate::{
    raw::{self, MAX_DEPTH},
    schema::{Field, FieldLabel, Kind, Message as Table, schema},
};
use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use prost::encoding::{WireType, encode_key, encode_varint};
use serde_json::{Map, Value};

/// Bytes of a message, or why the object is not it.
pub(super) fn message(
    table: &Table,
    object: &Map<String, Value>,
    names: Names,
) -> Result<Vec<u8>, String> {
    let mut reader = Reader {
        names,
        v0_fields: names == Names::V0,
        depth: 0,
        out: Vec::new(),
    };
    reader.fields(table, object)?;
    Ok(reader.out)
}

/// Space for the length of a message, which is known only once it is written. Lengths take all of
/// it, padded, so that nothing has to move.
const LENGTH_BYTES: usize = 5;

struct Reader {
    names: Names,
    /// Whether fields that only v0 has are read here.
    v0_fields: bool,
    depth: usize,
    out: Vec<u8>,
}

#[derive(Clone, Copy)]
enum Num {
    Signed(i64),
    Unsigned(u64),
    Float(f64),
}

impl Reader {
    fn fields(&mut self, table: &Table, object: &Map<String, Value>) -> Result<(), String> {
        let outer_v0_fields = self.v0_fields;
        self.v0_fields |= table.shows_v0_fields;
        for (name, value) in object {
            if let Some(field) = table.field_named(name, self.names)
                && (self.v0_fields || !field.only_v0)
            {
                self.value(field, value)?;
            }
        }
        self.v0_fields = outer_v0_fields;
        Ok(())
    }

    fn value(&mut self, field: &Field, value: &Value) -> Result<(), String> {
        match value {
            Value::Null => Ok(()),
            Value::Object(object) => self.object(field, object),
            Value::String(text) => self.string(field, text),
            Value::Number(number) => {
                let number = Num::new(number);
                self.number(field, number)
                    .ok_or_else(|| self.unexpected("number", field))
            }
            Value::Bool(value) if field.kind == Kind::Bool => {
                self.varint(field, u64::from(*value));
                Ok(())
            }
            Value::Bool(_) => Err(self.unexpected("boolean", field)),
            Value::Array(items) if field.repeats() => {
                items.iter().try_for_each(|item| self.value(field, item))
            }
            Value::Array(_) => Err(self.unexpected("array", field)),
        }
    }

    fn object(&mut self, field: &Field, object: &Map<String, Value>) -> Result<(), String> {
        let Kind::Message(child) = field.kind else {
            return Err(self.unexpected("object", field));
        };
        let child = schema().message(child);
        if field.label != FieldLabel::Map {
            return self.nested(field.number, |reader| reader.fields(child, object));
        }
        let (Some((_, key)), Some((_, value))) = (child.field_numbered(1), child.field_numbered(2))
        else {
            return Ok(());
        };
        for (name, item) in object {
            self.nested(field.number, |reader| {
                reader.string(key, name)?;
                reader.value(value, item)
            })?;
        }
        Ok(())
    }

    fn nested(
        &mut self,
        number: u32,
        write: impl FnOnce(&mut Self) -> Result<(), String>,
    ) -> Result<(), String> {
        if self.depth >= MAX_DEPTH {
            return Err("message is nested too deeply".to_owned());
        }
        self.depth += 1;
        encode_key(number, WireType::LengthDelimited, &mut self.out);
        let start = self.out.len();
        self.out.extend_from_slice(&[0; LENGTH_BYTES]);
        write(self)?;
        let mut length = self.out.len() - start - LENGTH_BYTES;
        for (at, byte) in self.out[start..start + LENGTH_BYTES].iter_mut().enumerate() {
            let more = if at + 1 < LENGTH_BYTES { 0x80 } else { 0 };
            *byte = (length & 0x7f) as u8 | more;
            length >>= 7;
        }
        if length > 0 {
            return Err("message is too large".to_owned());
        }
        self.depth -= 1;
        Ok(())
    }

    fn string(&mut self, field: &Field, text: &str) -> Result<(), String> {
        match field.kind {
            Kind::String => self.bytes(field, text.as_bytes()),
            Kind::Bytes => {
                let decoded = base64(text).map_err(|character| {
                    format!(
                        "Failed to base64 decode bytes field '{}': Invalid character '{character}'",
                        field.name(self.names)
                    )
                })?;
                self.bytes(field, &decoded);
            }
            Kind::Enum(index) => match schema().enumeration(index).number(text, self.names) {
                // Enum values travel sign-extended.
                Some(number) => self.varint(field, i64::from(number).cast_unsigned()),
                None if field.label == FieldLabel::Required => {
                    return Err(format!("Failed to find enum for '{text}'"));
                }
                None => {}
            },
            Kind::Message(_) => return Err(self.unexpected("string", field)),
            Kind::Double | Kind::Float if text == "Infinity" => {
                self.number(field, Num::Float(f64::INFINITY));
            }
            Kind::Double | Kind::Float if text == "-Infinity" => {
                self.number(field, Num::Float(f64::NEG_INFINITY));
            }
            _ => return self.quoted(field, text),
        }
        Ok(())
    }

    /// A number or boolean written as a string.
    fn quoted(&mut self, field: &Field, text: &str) -> Result<(), String> {
        let is_bool = field.kind == Kind::Bool;
        let value = parse::document(text.as_bytes()).and_then(|value| match value {
            Value::Number(_) if !is_bool => Ok(value),
            Value::Bool(_) if is_bool => Ok(value),
            _ => Err("Unexpected JSON type parsed".to_owned()),
        });
        match value {
            Ok(value) => self.value(field, &value),
            Err(error) => Err(format!(
                "Failed to parse '{text}' as a JSON {} for field '{}': {error}",
                if is_bool { "boolean" } else { "number" },
                field.name(self.names)
            )),
        }
    }

    /// Writes a number; `None` if the field holds something else.
    fn number(&mut self, field: &Field, number: Num) -> Option<()> {
        match field.kind {
            Kind::Double
            | Kind::Float
            | Kind::Fixed32
            | Kind::Fixed64
            | Kind::Sfixed32
            | Kind::Sfixed64 => self.fixed(field, number),
            Kind::Int32 => self.varint(field, i64::from(number.signed() as i32).cast_unsigned()),
            Kind::Int64 => self.varint(field, number.signed().cast_unsigned()),
            Kind::Uint32 => self.varint(field, u64::from(number.unsigned() as u32)),
            Kind::Uint64 => self.varint(field, number.unsigned()),
            Kind::Sint32 => self.varint(field, zigzag(i64::from(number.signed() as i32))),
            Kind::Sint64 => self.varint(field, zigzag(number.signed())),
            Kind::Bool | Kind::String | Kind::Bytes | Kind::Enum(_) | Kind::Message(_) => {
                return None;
            }
        }
        Some(())
    }

    fn fixed(&mut self, field: &Field, number: Num) {
        encode_key(field.number, raw::wire_type(field.kind), &mut self.out);
        match field.kind {
            Kind::Double => self.out.extend_from_slice(&number.float().to_le_bytes()),
            Kind::Float => self
                .out
                .extend_from_slice(&(number.float() as f32).to_le_bytes()),
            Kind::Fixed32 => self
                .out
                .extend_from_slice(&(number.unsigned() as u32).to_le_bytes()),
            Kind::Sfixed32 => self
                .out
                .extend_from_slice(&(number.signed() as i32).to_le_bytes()),
            Kind::Fixed64 => self.out.extend_from_slice(&number.unsigned().to_le_bytes()),
            _ => self.out.extend_from_slice(&number.signed().to_le_bytes()),
        }
    }

    fn varint(&mut self, field: &Field, value: u64) {
        encode_key(field.number, WireType::Varint, &mut self.out);
        encode_varint(value, &mut self.out);
    }

    fn bytes(&mut self, field: &Field, value: &[u8]) {
        encode_key(field.number, WireType::LengthDelimited, &mut self.out);
        encode_varint(value.len() as u64, &mut self.out);
        self.out.extend_from_slice(value);
    }

    fn unexpected(&self, kind: &str, field: &Field) -> String {
        format!(
            "Not expecting a JSON {kind} for field '{}'",
            field.name(self.names)
        )
    }
}

impl Num {
    fn new(number: &serde_json::Number) -> Self {
        if let Some(value) = number.as_i64() {
            Self::Signed(value)
        } else if let Some(value) = number.as_u64() {
            Self::Unsigned(value)
        } else {
            Self::Float(number.as_f64().unwrap_or(0.0))
        }
    }

    fn signed(self) -> i64 {
        match self {
            Self::Signed(value) => value,
            Self::Unsigned(value) => value.cast_signed(),
            Self::Float(value) => value as i64,
        }
    }

    fn unsigned(self) -> u64 {
        match self {
            Self::Signed(value) => value.cast_unsigned(),
            Self::Unsigned(value) => value,
            Self::Float(value) => value as u64,
        }
    }

    fn float(self) -> f64 {
        match self {
            Self::Signed(value) => value as f64,
            Self::Unsigned(value) => value as f64,
            Self::Float(value) => value,
        }
    }
}

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

/// Decodes base64 as `base64::decode` in `3rdparty/stout/include/stout/base64.hpp`: white space is
/// skipped, everything from the first `=` on is ignored, a cut-off last group is taken for what it
/// holds. Fails with the first character that does not belong.
fn base64(text: &str) -> Result<Vec<u8>, char> {
    const LENIENT: GeneralPurpose = GeneralPurpose::new(
        &alphabet::STANDARD,
        GeneralPurposeConfig::new()
            .with_decode_allow_trailing_bits(true)
            .with_decode_padding_mode(DecodePaddingMode::Indifferent),
    );
    let space = |byte: u8| matches!(byte, b' ' | 0x09..=0x0d);
    let end = memchr::memchr(b'=', text.as_bytes()).unwrap_or(text.len());
    let mut digits = Vec::with_capacity(end);
    for byte in text[..end].bytes().filter(|byte| !space(*byte)) {
        if !byte.is_ascii_alphanumeric() && byte != b'+' && byte != b'/' {
            return Err(char::from(byte));
        }
        digits.push(byte);
    }
    if digits.len() % 4 == 1 {
        digits.pop();
    }
    LENIENT.decode(&digits).map_err(|_| '=')
}
