//! Binary protobuf with the reference's strictness: a missing required field is an error that
//! names it.

use crate::{
    complete::is_complete,
    json::Names,
    raw::{self, Entry},
    schema::{FieldLabel, Kind, Message as Table, schema},
};
use bytes::Bytes;
use prost::{Message, Name};

/// How many missing fields an error names; more are not reported.
const MAX_REPORTED: usize = 100;

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

impl From<raw::Malformed> for DecodeError {
    fn from(_: raw::Malformed) -> Self {
        Self::Malformed("not a protobuf message".to_owned())
    }
}

/// Reads one message. Unknown fields and unknown enum values are ignored; a required field that is
/// missing (or holds an unknown enum value) is an error.
///
/// As the reference's protobuf does, this takes a field of another wire type for an unknown one and
/// does not insist on UTF-8 in strings: invalid parts arrive as replacement characters.
pub fn decode<T: Message + Name + Default>(bytes: Bytes) -> Result<T, DecodeError> {
    decode_with(bytes, Names::V1)
}

/// [`decode`], naming missing fields in a dialect.
pub fn decode_with<T: Message + Name + Default>(
    bytes: Bytes,
    names: Names,
) -> Result<T, DecodeError> {
    let name = T::full_name();
    // From a slice, so that byte fields are copied. One that shared the buffer which the message was
    // received in would keep all of it for as long as the field is kept: kilobytes for a UUID.
    let message = T::decode(&*bytes).or_else(|error| {
        let malformed = |_| DecodeError::Malformed(error.to_string());
        let repaired = table(&name)
            .and_then(|table| Ok(raw::repair(schema(), table, &bytes, 0)?))
            .map_err(malformed)?;
        T::decode(repaired.as_slice()).map_err(|error| DecodeError::Malformed(error.to_string()))
    })?;
    check_required(&name, &bytes, names)?;
    Ok(message)
}

/// Writes one message.
pub fn encode<T: Message>(message: &T) -> Bytes {
    message.encode_to_vec().into()
}

/// Full names of all message types.
pub fn message_names() -> impl Iterator<Item = &'static str> {
    schema().names()
}

/// Looks for the required fields of the message called `full_name` in its bytes.
///
/// Paths come in the order the reference reports them in: those of a message itself as they are
/// declared, then those of its parts by field number.
pub fn check_required(full_name: &str, bytes: &[u8], names: Names) -> Result<(), DecodeError> {
    let table = table(full_name)?;
    if is_complete(schema(), table, bytes) {
        return Ok(());
    }
    search(table, bytes, names)
}

/// Looks at everything, and names what is missing.
pub(crate) fn search(table: &'static Table, bytes: &[u8], names: Names) -> Result<(), DecodeError> {
    let mut check = RequiredCheck {
        names,
        entries: Vec::new(),
        path: Vec::new(),
        missing: vec![],
    };
    check.message(table, &[bytes])?;
    if check.missing.is_empty() {
        Ok(())
    } else {
        Err(DecodeError::MissingRequired(check.missing))
    }
}

pub(crate) fn table(full_name: &str) -> Result<&'static Table, DecodeError> {
    let unknown = || DecodeError::Malformed(format!("unknown message '{full_name}'"));
    schema().message_named(full_name).ok_or_else(unknown)
}

struct RequiredCheck<'a> {
    names: Names,
    /// Entries of the messages being looked at, the innermost one's last.
    entries: Vec<Entry<'a>>,
    path: Vec<(&'static str, Option<usize>)>,
    missing: Vec<String>,
}

impl<'a> RequiredCheck<'a> {
    fn message(&mut self, table: &'static Table, parts: &[&'a [u8]]) -> Result<(), raw::Malformed> {
        if !table.checks_required {
            return Ok(());
        }
        if self.path.len() >= raw::MAX_DEPTH {
            return Err(raw::Malformed);
        }
        let base = self.entries.len();
        raw::gather(schema(), table, parts, &mut self.entries)?;
        self.report_missing(table, base);
        let number = |entry: &Entry<'_>| table.fields[usize::from(entry.field)].number;
        self.entries[base..].sort_by_key(number);
        let end = self.entries.len();
        let mut at = base;
        while at < end && self.missing.len() < MAX_REPORTED {
            let field_index = self.entries[at].field;
            let run = self.entries[at..end]
                .iter()
                .take_while(|e| e.field == field_index)
                .count();
            let field = &table.fields[usize::from(field_index)];
            if let Kind::Message(child) = field.kind {
                let child = schema().message(child);
                let name = field.name(self.names);
                if field.repeats() {
                    for index in 0..run {
                        self.path.push((name, Some(index)));
                        let part = self.entries[at + index].value.slice();
                        self.map_value(field.label, child, part)?;
                        self.message(child, &[part])?;
                        self.path.pop();
                    }
                } else {
                    self.path.push((name, None));
                    if run == 1 {
                        let part = self.entries[at].value.slice();
                        self.message(child, &[part])?;
                    } else {
                        let pieces: Vec<_> = self.entries[at..at + run]
                            .iter()
                            .map(|e| e.value.slice())
                            .collect();
                        self.message(child, &pieces)?;
                    }
                    self.path.pop();
                }
            }
            at += run;
        }
        self.entries.truncate(base);
        Ok(())
    }

    /// A map entry without a value has an empty one, whose required fields are missing.
    fn map_value(
        &mut self,
        label: FieldLabel,
        entry: &'static Table,
        part: &'a [u8],
    ) -> Result<(), raw::Malformed> {
        if label != FieldLabel::Map {
            return Ok(());
        }
        let Some((value, Kind::Message(child))) = entry
            .field_numbered(2)
            .map(|(_, field)| (field, field.kind))
        else {
            return Ok(());
        };
        let mut fields = raw::Fields(part);
        while let Some(field) = fields.next()? {
            if field.number == 2 {
                return Ok(());
            }
        }
        self.path.push((value.name(self.names), None));
        self.message(schema().message(child), &[])?;
        self.path.pop();
        Ok(())
    }

    fn report_missing(&mut self, table: &'static Table, base: usize) {
        for (index, field) in table.fields.iter().enumerate() {
            if field.label == FieldLabel::Required
                && !self.entries[base..]
                    .iter()
                    .any(|entry| usize::from(entry.field) == index)
                && self.missing.len() < MAX_REPORTED
            {
                let path = self.path_to(field.name(self.names));
                self.missing.push(path);
            }
        }
    }

    fn path_to(&self, field: &str) -> String {
        let mut text = String::new();
        for (name, index) in &self.path {
            text.push_str(name);
            if let Some(index) = index {
                text.push_str(&format!("[{index}]"));
            }
            text.push('.');
        }
        text + field
    }
}
