//! What every message looks like, as tables.
//!
//! Built once from the descriptors that `build.rs` embeds. The JSON codec and the required-field
//! check read these tables, so no code is written or generated per message. Both dialects of names
//! are in here: the v0 API differs from v1 in the names of the fields and enum values listed at the
//! end of this file (`include/mesos/mesos.proto` against `include/mesos/v1/mesos.proto`).

use crate::{
    complete::Plan,
    json::{self, Names},
};
use prost::Message as _;
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorSet,
    field_descriptor_proto::{Label, Type},
};
use std::{collections::BTreeMap, sync::LazyLock};

static DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

static SCHEMA: LazyLock<Schema> = LazyLock::new(Schema::build);

/// All messages and enums.
pub(crate) struct Schema {
    messages: Vec<Message>,
    enums: Vec<Enum>,
    by_name: BTreeMap<String, usize>,
}

/// One message type.
pub(crate) struct Message {
    /// Fields in the order they are declared, which is the order JSON shows them in.
    pub(crate) fields: Vec<Field>,
    /// Whether it or anything below it has a required field.
    pub(crate) checks_required: bool,
    /// How that is looked for when all goes well.
    pub(crate) plan: Plan,
    /// Number of oneofs.
    pub(crate) oneofs: usize,
    /// Whether even v1 JSON has the fields that only v0 has, here and below.
    pub(crate) shows_v0_fields: bool,
    by_number: Vec<(u32, u16)>,
    by_name: [BTreeMap<String, u16>; 2],
}

/// One field.
pub(crate) struct Field {
    pub(crate) number: u32,
    pub(crate) kind: Kind,
    pub(crate) label: FieldLabel,
    /// Which oneof of its message it belongs to.
    pub(crate) oneof: Option<usize>,
    /// v0 has this field and v1 does not; see [`Message::shows_v0_fields`].
    pub(crate) only_v0: bool,
    names: [String; 2],
    default_json: Option<[String; 2]>,
}

/// How often a field occurs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum FieldLabel {
    Optional,
    Required,
    Repeated,
    /// Repeated key-value messages, an object in JSON.
    Map,
}

/// Type of a field. Messages and enums are indexes into the [`Schema`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Double,
    Float,
    Int32,
    Int64,
    Uint32,
    Uint64,
    Sint32,
    Sint64,
    Fixed32,
    Fixed64,
    Sfixed32,
    Sfixed64,
    Bool,
    String,
    Bytes,
    Enum(usize),
    Message(usize),
}

/// One enum type.
pub(crate) struct Enum {
    values: Vec<(i32, [String; 2])>,
    by_name: [BTreeMap<String, i32>; 2],
}

/// The tables.
pub(crate) fn schema() -> &'static Schema {
    &SCHEMA
}

impl Schema {
    pub(crate) fn message(&self, index: usize) -> &Message {
        &self.messages[index]
    }

    pub(crate) fn message_named(&self, full_name: &str) -> Option<&Message> {
        self.by_name
            .get(full_name)
            .map(|index| &self.messages[*index])
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.by_name.keys().map(String::as_str)
    }

    pub(crate) fn enumeration(&self, index: usize) -> &Enum {
        &self.enums[index]
    }

    fn build() -> Self {
        // The embedded bytes come from our own build script, so this cannot fail at run time
        // without failing in every test first.
        let set = FileDescriptorSet::decode(DESCRIPTORS).unwrap_or_default();
        let mut found = Found::default();
        for file in &set.file {
            let package = format!(".{}", file.package());
            for item in &file.enum_type {
                found.enumeration(&package, item);
            }
            for item in &file.message_type {
                found.message(&package, item);
            }
        }
        let indexes = Indexes {
            messages: index_of(found.messages.iter().map(|(name, _)| name)),
            enums: index_of(found.enums.iter().map(|(name, _)| name)),
            found: &found,
        };
        let enums = found
            .enums
            .iter()
            .map(|(name, item)| Enum::new(name, item))
            .collect();
        let mut messages: Vec<_> = found
            .messages
            .iter()
            .map(|(name, item)| Message::new(name, item, &indexes))
            .collect();
        mark_required(&mut messages);
        let below: Vec<bool> = messages.iter().map(|m| m.checks_required).collect();
        for (at, message) in messages.iter_mut().enumerate() {
            message.plan = Plan::new(&message.fields, indexes.is_map_entry(at), |child| {
                below[child]
            });
        }
        let by_name = found
            .messages
            .iter()
            .enumerate()
            .map(|(index, (name, _))| (name[1..].to_owned(), index))
            .collect();
        Self {
            messages,
            enums,
            by_name,
        }
    }
}

impl Message {
    pub(crate) fn field_numbered(&self, number: u32) -> Option<(u16, &Field)> {
        let at = self
            .by_number
            .binary_search_by_key(&number, |(number, _)| *number)
            .ok()?;
        let index = self.by_number[at].1;
        Some((index, &self.fields[usize::from(index)]))
    }

    pub(crate) fn field_named(&self, name: &str, names: Names) -> Option<&Field> {
        let index = *self.by_name[names as usize].get(name)?;
        Some(&self.fields[usize::from(index)])
    }

    fn new(full_name: &str, descriptor: &DescriptorProto, indexes: &Indexes<'_>) -> Self {
        let fields: Vec<_> = descriptor
            .field
            .iter()
            .map(|field| Field::new(full_name, field, indexes))
            .collect();
        let mut by_number: Vec<_> = (0u16..)
            .zip(&fields)
            .map(|(at, f)| (f.number, at))
            .collect();
        by_number.sort_unstable();
        let by_name = [Names::V1, Names::V0].map(|names| {
            (0u16..)
                .zip(&fields)
                .map(|(at, field)| (field.name(names).to_owned(), at))
                .collect()
        });
        Self {
            checks_required: fields.iter().any(|f| f.label == FieldLabel::Required),
            // Made once it is known what is required below.
            plan: Plan::new(&[], false, |_| false),
            oneofs: descriptor.oneof_decl.len(),
            shows_v0_fields: full_name == SHOWS_V0_FIELDS,
            fields,
            by_number,
            by_name,
        }
    }
}

impl Field {
    /// Its name in a dialect.
    pub(crate) fn name(&self, names: Names) -> &str {
        &self.names[names as usize]
    }

    /// What JSON says while the field is unset: its declared default, unless it is deprecated, and
    /// nothing for most lists.
    pub(crate) fn default_json(&self, names: Names) -> Option<&str> {
        self.default_json
            .as_ref()
            .map(|texts| texts[names as usize].as_str())
    }

    pub(crate) fn repeats(&self) -> bool {
        matches!(self.label, FieldLabel::Repeated | FieldLabel::Map)
    }

    fn new(message: &str, field: &FieldDescriptorProto, indexes: &Indexes<'_>) -> Self {
        let kind = Kind::new(field, indexes);
        let is_map = matches!(kind, Kind::Message(at) if indexes.is_map_entry(at));
        let label = match field.label() {
            Label::Repeated if is_map => FieldLabel::Map,
            Label::Repeated => FieldLabel::Repeated,
            Label::Required => FieldLabel::Required,
            Label::Optional => FieldLabel::Optional,
        };
        let name = field.name();
        Self {
            number: field.number().cast_unsigned(),
            kind,
            label,
            oneof: field
                .oneof_index
                .and_then(|index| usize::try_from(index).ok()),
            only_v0: ONLY_V0.contains(&(&message[1..], name)),
            names: [name.to_owned(), v0_field_name(&message[1..], name)],
            default_json: default_json(&message[1..], field),
        }
    }
}

impl Kind {
    fn new(field: &FieldDescriptorProto, indexes: &Indexes<'_>) -> Self {
        match field.r#type() {
            Type::Double => Self::Double,
            Type::Float => Self::Float,
            Type::Int32 => Self::Int32,
            Type::Int64 => Self::Int64,
            Type::Uint32 => Self::Uint32,
            Type::Uint64 => Self::Uint64,
            Type::Sint32 => Self::Sint32,
            Type::Sint64 => Self::Sint64,
            Type::Fixed32 => Self::Fixed32,
            Type::Fixed64 => Self::Fixed64,
            Type::Sfixed32 => Self::Sfixed32,
            Type::Sfixed64 => Self::Sfixed64,
            Type::Bool => Self::Bool,
            Type::String => Self::String,
            Type::Bytes => Self::Bytes,
            Type::Enum => Self::Enum(indexes.enums[field.type_name()]),
            Type::Message | Type::Group => Self::Message(indexes.messages[field.type_name()]),
        }
    }
}

impl Enum {
    /// Name of a value; absent for a number this enum does not have.
    pub(crate) fn name(&self, number: i32, names: Names) -> Option<&str> {
        let at = self
            .values
            .binary_search_by_key(&number, |(number, _)| *number)
            .ok()?;
        Some(&self.values[at].1[names as usize])
    }

    pub(crate) fn number(&self, name: &str, names: Names) -> Option<i32> {
        self.by_name[names as usize].get(name).copied()
    }

    pub(crate) fn contains(&self, number: i32) -> bool {
        self.values
            .binary_search_by_key(&number, |(number, _)| *number)
            .is_ok()
    }

    fn new(full_name: &str, descriptor: &EnumDescriptorProto) -> Self {
        let mut values: Vec<_> = descriptor
            .value
            .iter()
            .map(|v| {
                (
                    v.number(),
                    [
                        v.name().to_owned(),
                        v0_value_name(&full_name[1..], v.name()),
                    ],
                )
            })
            .collect();
        let by_name = [0, 1].map(|dialect| {
            values
                .iter()
                .map(|(number, names)| (names[dialect].clone(), *number))
                .collect()
        });
        values.sort_by_key(|(number, _)| *number);
        // Of two names for a number the one declared first is the one shown.
        values.dedup_by_key(|(number, _)| *number);
        Self { values, by_name }
    }
}

/// Descriptors by full name, with the leading dot that descriptors refer by.
#[derive(Default)]
struct Found<'a> {
    messages: Vec<(String, &'a DescriptorProto)>,
    enums: Vec<(String, &'a EnumDescriptorProto)>,
}

impl<'a> Found<'a> {
    fn message(&mut self, scope: &str, descriptor: &'a DescriptorProto) {
        let name = format!("{scope}.{}", descriptor.name());
        for item in &descriptor.enum_type {
            self.enumeration(&name, item);
        }
        for item in &descriptor.nested_type {
            self.message(&name, item);
        }
        self.messages.push((name, descriptor));
    }

    fn enumeration(&mut self, scope: &str, descriptor: &'a EnumDescriptorProto) {
        self.enums
            .push((format!("{scope}.{}", descriptor.name()), descriptor));
    }
}

struct Indexes<'a> {
    messages: BTreeMap<&'a str, usize>,
    enums: BTreeMap<&'a str, usize>,
    found: &'a Found<'a>,
}

impl Indexes<'_> {
    fn is_map_entry(&self, message: usize) -> bool {
        let options = self.found.messages[message].1.options.as_ref();
        options.is_some_and(|options| options.map_entry())
    }
}

fn index_of<'a>(names: impl Iterator<Item = &'a String>) -> BTreeMap<&'a str, usize> {
    names
        .enumerate()
        .map(|(index, name)| (name.as_str(), index))
        .collect()
}

/// Spreads [`Message::checks_required`] upwards until nothing changes; types may be recursive.
fn mark_required(messages: &mut [Message]) {
    loop {
        let mut changed = false;
        for at in 0..messages.len() {
            let below = messages[at].fields.iter().any(
                |field| matches!(field.kind, Kind::Message(child) if messages[child].checks_required),
            );
            changed |= below && !messages[at].checks_required;
            messages[at].checks_required |= below;
        }
        if !changed {
            return;
        }
    }
}

fn default_json(message: &str, field: &FieldDescriptorProto) -> Option<[String; 2]> {
    let deprecated = field
        .options
        .as_ref()
        .is_some_and(|options| options.deprecated());
    if deprecated {
        return None;
    }
    if field.label() == Label::Repeated && SHOWS_EMPTY_LISTS.contains(&message) {
        return Some(["[]".to_owned(), "[]".to_owned()]);
    }
    let text = field.default_value.as_deref()?;
    let same = |text: String| [text.clone(), text];
    Some(match field.r#type() {
        Type::String => {
            let mut out = String::new();
            json::push_string(&mut out, text);
            same(out)
        }
        Type::Double | Type::Float => {
            let mut out = String::new();
            json::push_double(&mut out, text.parse().unwrap_or_default());
            same(out)
        }
        Type::Enum => {
            let scope = field.type_name().trim_start_matches('.');
            [
                format!("\"{text}\""),
                format!("\"{}\"", v0_value_name(scope, text)),
            ]
        }
        _ => same(text.to_owned()),
    })
}

/// Fields that v0 has under a number v1 leaves free.
const ONLY_V0: &[(&str, &str)] = &[
    ("mesos.v1.AgentInfo", "checkpoint"),
    ("mesos.v1.scheduler.Call.Subscribe", "force"),
];

/// The message in which the reference shows v0's fields in v1 JSON after all: a leader writes its
/// agents from v0 messages, and only renames (`asV1Protobuf` in `src/common/http.cpp`).
const SHOWS_V0_FIELDS: &str = ".mesos.v1.master.Response.GetAgents";

/// Messages whose lists JSON shows even when they are empty, except deprecated ones: these are
/// written by hand (`src/master/readonly_handler.cpp`, `src/slave/http.cpp`).
const SHOWS_EMPTY_LISTS: &[&str] = &[
    "mesos.v1.agent.Response.GetExecutors",
    "mesos.v1.agent.Response.GetFrameworks",
    "mesos.v1.agent.Response.GetTasks",
    "mesos.v1.master.Response.GetAgents",
    "mesos.v1.master.Response.GetExecutors",
    "mesos.v1.master.Response.GetFrameworks",
    "mesos.v1.master.Response.GetTasks",
];

/// Messages of `mesos.v1` whose field `agent_id` is called `slave_id` in v0.
const RENAMED_AGENT_ID: &[&str] = &[
    "InverseOffer",
    "Offer",
    "Operation",
    "OperationStatus",
    "Request",
    "Task",
    "TaskInfo",
    "TaskStatus",
    "master.Call.CreateVolumes",
    "master.Call.DeactivateAgent",
    "master.Call.DestroyVolumes",
    "master.Call.DrainAgent",
    "master.Call.GrowVolume",
    "master.Call.MarkAgentGone",
    "master.Call.ReactivateAgent",
    "master.Call.ReserveResources",
    "master.Call.ShrinkVolume",
    "master.Call.UnreserveResources",
    "master.Response.GetExecutors.Executor",
    "scheduler.Call.Acknowledge",
    "scheduler.Call.AcknowledgeOperationStatus",
    "scheduler.Call.Kill",
    "scheduler.Call.Message",
    "scheduler.Call.Reconcile.Task",
    "scheduler.Call.ReconcileOperations.Operation",
    "scheduler.Call.Shutdown",
    "scheduler.Event.Failure",
    "scheduler.Event.Message",
];

/// Messages of `mesos.v1` whose field `agent_info` is called `slave_info` in v0.
const RENAMED_AGENT_INFO: &[&str] = &["agent.Response.GetAgent", "executor.Event.Subscribed"];

/// Values of enums of `mesos.v1` that say SLAVE instead of AGENT in v0.
const RENAMED_VALUES: &[(&str, &str)] = &[
    ("TaskStatus.Reason", "REASON_AGENT_DISCONNECTED"),
    ("TaskStatus.Reason", "REASON_AGENT_DRAINING"),
    ("TaskStatus.Reason", "REASON_AGENT_REMOVED"),
    ("TaskStatus.Reason", "REASON_AGENT_REMOVED_BY_OPERATOR"),
    ("TaskStatus.Reason", "REASON_AGENT_REREGISTERED"),
    ("TaskStatus.Reason", "REASON_AGENT_RESTARTED"),
    ("TaskStatus.Reason", "REASON_AGENT_UNKNOWN"),
    ("TaskStatus.Source", "SOURCE_AGENT"),
];

fn v0_field_name(message: &str, field: &str) -> String {
    let message = message.strip_prefix("mesos.v1.").unwrap_or("");
    let renamed = match field {
        "agent_id" => RENAMED_AGENT_ID.contains(&message),
        "agent_info" => RENAMED_AGENT_INFO.contains(&message),
        _ => false,
    };
    if renamed {
        field.replacen("agent", "slave", 1)
    } else {
        field.to_owned()
    }
}

fn v0_value_name(enumeration: &str, value: &str) -> String {
    let enumeration = enumeration.strip_prefix("mesos.v1.").unwrap_or("");
    if RENAMED_VALUES.contains(&(enumeration, value)) {
        value.replacen("AGENT", "SLAVE", 1)
    } else {
        value.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_renamed_name_exists() {
        let schema = schema();
        let lists = [
            ("agent_id", RENAMED_AGENT_ID),
            ("agent_info", RENAMED_AGENT_INFO),
        ];
        for (field, messages) in lists {
            for path in messages {
                let message = schema.message_named(&format!("mesos.v1.{path}"));
                let found = message.and_then(|m| m.field_named(field, Names::V1));
                assert!(
                    found.is_some_and(|f| f.name(Names::V0).starts_with("slave_")),
                    "{path} {field}"
                );
            }
        }
        for (message, field) in ONLY_V0 {
            let message = schema.message_named(message);
            assert!(message.is_some_and(|m| m.field_named(field, Names::V0).is_some()));
        }
        for (_, value) in RENAMED_VALUES {
            let renamed = value.replacen("AGENT", "SLAVE", 1);
            let known = |e: &&Enum| e.number(&renamed, Names::V0).is_some();
            assert_eq!(schema.enums.iter().filter(known).count(), 1, "{value}");
        }
    }
}
