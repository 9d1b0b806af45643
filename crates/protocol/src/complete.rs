//! Whether required fields are all there, in one pass over the bytes and without a note of anything.
//!
//! Nearly every message is complete, and a leader that takes over a cluster reads hundreds of thousands. So
//! this looks only for what is required, steps over everything below which nothing is, and gives up at whatever
//! is out of the ordinary: [`crate::wire`] then searches thoroughly, and names what is missing.

use crate::{
    raw::{self, Fields, Value, as_enum, wire_type},
    schema::{Field, FieldLabel, Kind, Message, Schema},
};
use prost::encoding::WireType;

/// Fields with a higher number are not looked up in a table.
const NUMBERS_MAX: u32 = 512;

/// What is looked at in a message of one type.
pub(crate) struct Plan {
    /// By field number.
    watches: Box<[Watch]>,
    /// The bits of all that must be there.
    required: u64,
    /// Its fields do not fit this plan: it is always searched thoroughly.
    unfit: bool,
}

/// What is done at a field.
#[derive(Clone, Copy)]
enum Watch {
    /// Nothing required is here or below.
    Pass,
    /// It must be there, in this wire type.
    There { bit: u64, wire_type: WireType },
    /// It must be there, with a value that exists.
    Enum { bit: u64, values: usize },
    /// Something in it must be there; `once`: a second part of it is out of the ordinary.
    Below {
        bit: u64,
        message: usize,
        once: bool,
    },
    /// Numbers that may be packed, or not.
    Numbers { wire_type: WireType },
}

impl Plan {
    /// Of a message with these fields; `below`: whether anything in a message of that index is required.
    /// In an entry of a map the value is taken for required: without it, it is an empty one.
    pub(crate) fn new(fields: &[Field], map_entry: bool, below: impl Fn(usize) -> bool) -> Self {
        let highest = fields.iter().map(|field| field.number).max().unwrap_or(0);
        let mut plan = Self {
            watches: Box::default(),
            required: 0,
            unfit: highest > NUMBERS_MAX || fields.len() > 64,
        };
        if plan.unfit {
            return plan;
        }
        let mut watches = vec![Watch::Pass; highest as usize + 1];
        for (at, field) in fields.iter().enumerate() {
            let bit = 1 << at;
            let required = field.label == FieldLabel::Required || map_entry && field.number == 2;
            if required {
                plan.required |= bit;
            }
            watches[field.number as usize] = match field.kind {
                Kind::Message(message) if below(message) => Watch::Below {
                    bit,
                    message,
                    once: !field.repeats(),
                },
                Kind::Enum(values) if required => Watch::Enum { bit, values },
                kind if required => Watch::There {
                    bit,
                    wire_type: wire_type(kind),
                },
                kind if field.label == FieldLabel::Repeated
                    && wire_type(kind) != WireType::LengthDelimited =>
                {
                    Watch::Numbers {
                        wire_type: wire_type(kind),
                    }
                }
                _ => Watch::Pass,
            };
        }
        plan.watches = watches.into();
        plan
    }
}

/// Whether the message certainly has all that is required of it. `false` says nothing.
pub(crate) fn is_complete(schema: &Schema, message: &Message, bytes: &[u8]) -> bool {
    !message.checks_required || matches!(look(schema, message, bytes, 0), Ok(true))
}

fn look(
    schema: &Schema,
    message: &Message,
    bytes: &[u8],
    depth: usize,
) -> Result<bool, raw::Malformed> {
    let plan = &message.plan;
    if plan.unfit || depth >= raw::MAX_DEPTH {
        return Ok(false);
    }
    let mut seen = 0;
    let mut fields = Fields(bytes);
    while let Some(field) = fields.next()? {
        let watch = plan.watches.get(field.number as usize);
        match *watch.unwrap_or(&Watch::Pass) {
            Watch::Pass => {}
            Watch::There { bit, wire_type } => {
                if field.wire_type == wire_type {
                    seen |= bit;
                }
            }
            Watch::Enum { bit, values } => match field.value {
                Value::Bits(bits)
                    if field.wire_type == WireType::Varint
                        && schema.enumeration(values).contains(as_enum(bits)) =>
                {
                    seen |= bit;
                }
                _ => return Ok(false),
            },
            Watch::Below { bit, message, once } => {
                let Value::Len(part) = field.value else {
                    return Ok(false);
                };
                if once && seen & bit != 0
                    || !look(schema, schema.message(message), part, depth + 1)?
                {
                    return Ok(false);
                }
                seen |= bit;
            }
            Watch::Numbers { wire_type } => {
                if field.wire_type != wire_type {
                    return Ok(false);
                }
            }
        }
    }
    Ok(seen & plan.required == plan.required)
}
