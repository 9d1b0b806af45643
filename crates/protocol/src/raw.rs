//! Protobuf bytes field by field, without a type: what the JSON writer, the required-field check
//! and the v0 rewrite read. Bounded and free of panics whatever the bytes are.

use crate::schema::{FieldLabel, Kind, Message, Schema};
use prost::encoding::{WireType, encode_key, encode_varint};
use std::borrow::Cow;

/// Bytes are not a protobuf message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed;

/// How deep messages may nest; the limit that prost has.
pub(crate) const MAX_DEPTH: usize = 100;

/// Payload of one field on the wire.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Value<'a> {
    /// A varint or a fixed-size number.
    Bits(u64),
    /// A length-delimited field.
    Len(&'a [u8]),
}

impl<'a> Value<'a> {
    pub(crate) fn bits(self) -> u64 {
        match self {
            Self::Bits(bits) => bits,
            Self::Len(_) => 0,
        }
    }

    pub(crate) fn slice(self) -> &'a [u8] {
        match self {
            Self::Bits(_) => &[],
            Self::Len(slice) => slice,
        }
    }
}

/// One field as it lies in the bytes.
pub(crate) struct RawField<'a> {
    pub(crate) number: u32,
    pub(crate) wire_type: WireType,
    pub(crate) value: Value<'a>,
    /// Key and payload.
    pub(crate) whole: &'a [u8],
}

/// Reads fields one after another.
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl<'a> Fields<'a> {
    /// The next field that is not a group; groups are skipped, no message of ours has one.
    pub(crate) fn next(&mut self) -> Result<Option<RawField<'a>>, Malformed> {
        let mut group_depth = 0usize;
        loop {
            if self.0.is_empty() {
                return if group_depth == 0 {
                    Ok(None)
                } else {
                    Err(Malformed)
                };
            }
            let start = self.0;
            let (number, wire_type) = self.key()?;
            let value = match wire_type {
                WireType::StartGroup => {
                    group_depth += 1;
                    continue;
                }
                WireType::EndGroup => {
                    group_depth = group_depth.checked_sub(1).ok_or(Malformed)?;
                    continue;
                }
                WireType::Varint => Value::Bits(varint(&mut self.0)?),
                WireType::SixtyFourBit => {
                    Value::Bits(u64::from_le_bytes(*self.0.split_off_array()?))
                }
                WireType::ThirtyTwoBit => {
                    Value::Bits(u32::from_le_bytes(*self.0.split_off_array()?).into())
                }
                WireType::LengthDelimited => {
                    let length = usize::try_from(varint(&mut self.0)?).map_err(|_| Malformed)?;
                    let (value, rest) = self.0.split_at_checked(length).ok_or(Malformed)?;
                    self.0 = rest;
                    Value::Len(value)
                }
            };
            if group_depth == 0 {
                let whole = &start[..start.len() - self.0.len()];
                return Ok(Some(RawField {
                    number,
                    wire_type,
                    value,
                    whole,
                }));
            }
        }
    }

    fn key(&mut self) -> Result<(u32, WireType), Malformed> {
        let key = u32::try_from(varint(&mut self.0)?).map_err(|_| Malformed)?;
        let wire_type = WireType::try_from(u64::from(key & 7)).map_err(|_| Malformed)?;
        match key >> 3 {
            0 => Err(Malformed),
            number => Ok((number, wire_type)),
        }
    }
}

trait SplitOffArray<'a> {
    fn split_off_array<const N: usize>(&mut self) -> Result<&'a [u8; N], Malformed>;
}

impl<'a> SplitOffArray<'a> for &'a [u8] {
    fn split_off_array<const N: usize>(&mut self) -> Result<&'a [u8; N], Malformed> {
        let (array, rest) = self.split_first_chunk().ok_or(Malformed)?;
        *self = rest;
        Ok(array)
    }
}

pub(crate) fn varint(bytes: &mut &[u8]) -> Result<u64, Malformed> {
    let mut value = 0u64;
    for (at, byte) in bytes.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            *bytes = &bytes[at + 1..];
            return Ok(value);
        }
    }
    Err(Malformed)
}

/// One occurrence of a known field.
#[derive(Clone, Copy)]
pub(crate) struct Entry<'a> {
    /// Which field: its index among the declared ones.
    pub(crate) field: u16,
    pub(crate) value: Value<'a>,
}

/// Appends every known field that `parts` set, in wire order.
///
/// `parts` are the pieces of one message, which protobuf allows to be sent in pieces. What the
/// message does not know is left out, as is what it would not keep: a wire type that is not the
/// field's, an enum value that does not exist, a oneof member that a later one displaced. Packed
/// numbers arrive unpacked. A required enum is only set when its last value exists: that one is what
/// prost keeps.
pub(crate) fn gather<'a>(
    schema: &Schema,
    message: &Message,
    parts: &[&'a [u8]],
    entries: &mut Vec<Entry<'a>>,
) -> Result<(), Malformed> {
    let base = entries.len();
    let mut displaced = Displaced::new(message);
    for part in parts {
        let mut fields = Fields(part);
        while let Some(raw) = fields.next()? {
            let Some((index, field)) = message.field_numbered(raw.number) else {
                continue;
            };
            let mut push = |value: Value<'a>| {
                if let Kind::Enum(at) = field.kind
                    && !schema.enumeration(at).contains(as_enum(value.bits()))
                {
                    if field.label == FieldLabel::Required {
                        displaced.void(index, entries.len());
                    }
                    return;
                }
                if let Some(oneof) = field.oneof {
                    displaced.set(oneof, index, entries.len());
                }
                entries.push(Entry {
                    field: index,
                    value,
                });
            };
            let expected = wire_type(field.kind);
            if raw.wire_type == expected {
                push(raw.value);
            } else if raw.wire_type == WireType::LengthDelimited
                && field.label == FieldLabel::Repeated
            {
                unpack(expected, raw.value.slice(), &mut push)?;
            }
        }
    }
    displaced.drop_from(message, base, entries);
    Ok(())
}

fn unpack<'a>(
    wire_type: WireType,
    mut packed: &'a [u8],
    push: &mut impl FnMut(Value<'a>),
) -> Result<(), Malformed> {
    while !packed.is_empty() {
        push(Value::Bits(match wire_type {
            WireType::Varint => varint(&mut packed)?,
            WireType::SixtyFourBit => u64::from_le_bytes(*packed.split_off_array()?),
            WireType::ThirtyTwoBit => u32::from_le_bytes(*packed.split_off_array()?).into(),
            _ => return Err(Malformed),
        }));
    }
    Ok(())
}

/// What later parts of a message took the place of.
struct Displaced {
    /// Which member of each oneof holds, and from which entry on.
    oneofs: Vec<Option<(u16, usize)>>,
    /// Fields whose entries before this one do not count.
    voided: Vec<(u16, usize)>,
}

impl Displaced {
    fn new(message: &Message) -> Self {
        Self {
            oneofs: vec![None; message.oneofs],
            voided: Vec::new(),
        }
    }

    fn set(&mut self, oneof: usize, field: u16, at: usize) {
        if let Some(slot) = self.oneofs.get_mut(oneof)
            && slot.is_none_or(|(current, _)| current != field)
        {
            *slot = Some((field, at));
        }
    }

    fn void(&mut self, field: u16, before: usize) {
        match self.voided.iter_mut().find(|(known, _)| *known == field) {
            Some((_, end)) => *end = before,
            None => self.voided.push((field, before)),
        }
    }

    fn drop_from(&self, message: &Message, base: usize, entries: &mut Vec<Entry<'_>>) {
        if self.voided.is_empty() && self.oneofs.iter().all(Option::is_none) {
            return;
        }
        let mut kept = base;
        for at in base..entries.len() {
            let entry = entries[at];
            let oneof = message.fields[usize::from(entry.field)].oneof;
            let since = oneof
                .and_then(|oneof| self.oneofs[oneof])
                .map_or(0, |(_, since)| since);
            let void = |(field, before): &(u16, usize)| *field == entry.field && at < *before;
            if at >= since && !self.voided.iter().any(void) {
                entries[kept] = entry;
                kept += 1;
            }
        }
        entries.truncate(kept);
    }
}

/// The same message in bytes that prost accepts: without fields of a wrong wire type, and with
/// replacement characters where a string is not UTF-8. Slow; for what prost refused.
pub(crate) fn repair(
    schema: &Schema,
    message: &Message,
    bytes: &[u8],
    depth: usize,
) -> Result<Vec<u8>, Malformed> {
    if depth >= MAX_DEPTH {
        return Err(Malformed);
    }
    let mut repaired = Vec::with_capacity(bytes.len());
    let mut fields = Fields(bytes);
    while let Some(raw) = fields.next()? {
        let Some((_, field)) = message.field_numbered(raw.number) else {
            continue;
        };
        let is_len = raw.wire_type == WireType::LengthDelimited;
        let packed = is_len && field.label == FieldLabel::Repeated;
        let expected = wire_type(field.kind);
        let slice = raw.value.slice();
        let changed = match field.kind {
            _ if raw.wire_type != expected => {
                if packed {
                    unpack(expected, slice, &mut |_| ())?;
                    repaired.extend_from_slice(raw.whole);
                }
                continue;
            }
            Kind::String => match String::from_utf8_lossy(slice) {
                Cow::Borrowed(_) => None,
                Cow::Owned(text) => Some(text.into_bytes()),
            },
            Kind::Message(child) => Some(repair(schema, schema.message(child), slice, depth + 1)?),
            _ => None,
        };
        match changed {
            None => repaired.extend_from_slice(raw.whole),
            Some(payload) => {
                encode_key(raw.number, raw.wire_type, &mut repaired);
                encode_varint(payload.len() as u64, &mut repaired);
                repaired.extend_from_slice(&payload);
            }
        }
    }
    Ok(repaired)
}

/// An enum value as it was encoded: only its low 32 bits count.
pub(crate) fn as_enum(bits: u64) -> i32 {
    bits as u32 as i32
}

pub(crate) fn wire_type(kind: Kind) -> WireType {
    match kind {
        Kind::Double | Kind::Fixed64 | Kind::Sfixed64 => WireType::SixtyFourBit,
        Kind::Float | Kind::Fixed32 | Kind::Sfixed32 => WireType::ThirtyTwoBit,
        Kind::String | Kind::Bytes | Kind::Message(_) => WireType::LengthDelimited,
        _ => WireType::Varint,
    }
}
