//! Where v0 bytes are not v1 bytes.
//!
//! Everywhere else the two APIs differ in names only. In `scheduler.Call.Subscribe` v0 gave number
//! 2 to `force`, and what follows moved up by one (`include/mesos/scheduler/scheduler.proto`).

use crate::raw::{Fields, Malformed};
use bytes::Bytes;
use prost::encoding::{WireType, encode_key, encode_varint};

/// Number of `subscribe` in a call, in both APIs.
const SUBSCRIBE: u32 = 3;

/// Fields of Subscribe: number in v0, number in v1.
const FIELDS: [(u32, u32); 4] = [(1, 1), (2, 100), (3, 2), (4, 3)];

/// Bytes of a v0 scheduler call as those of our type. Bytes that are not protobuf stay as they are:
/// decoding them says what is wrong.
pub fn scheduler_call_from_v0(call: Bytes) -> Bytes {
    rewrite(&call, |v0| {
        FIELDS
            .iter()
            .find(|(old, _)| *old == v0)
            .map(|(_, new)| *new)
    })
    .map_or(call, |rewritten| rewritten.into())
}

/// Bytes of our scheduler call as those of a v0 one.
pub fn scheduler_call_to_v0(call: Vec<u8>) -> Vec<u8> {
    rewrite(&call, |v1| {
        FIELDS
            .iter()
            .find(|(_, new)| *new == v1)
            .map(|(old, _)| *old)
    })
    .unwrap_or(call)
}

/// Renumbers the fields of Subscribe; one without a new number is dropped.
fn rewrite(call: &[u8], renumber: impl Fn(u32) -> Option<u32>) -> Result<Vec<u8>, Malformed> {
    let mut rewritten = Vec::with_capacity(call.len() + 8);
    let mut fields = Fields(call);
    while let Some(field) = fields.next()? {
        if field.number != SUBSCRIBE || field.wire_type != WireType::LengthDelimited {
            rewritten.extend_from_slice(field.whole);
            continue;
        }
        let mut subscribe = Vec::with_capacity(field.whole.len());
        let mut inner = Fields(field.value.slice());
        while let Some(part) = inner.next()? {
            let Some(number) = renumber(part.number) else {
                continue;
            };
            encode_key(number, part.wire_type, &mut subscribe);
            let mut payload = part.whole;
            crate::raw::varint(&mut payload)?;
            subscribe.extend_from_slice(payload);
        }
        encode_key(SUBSCRIBE, WireType::LengthDelimited, &mut rewritten);
        encode_varint(subscribe.len() as u64, &mut rewritten);
        rewritten.extend_from_slice(&subscribe);
    }
    Ok(rewritten)
}

#[cfg(test)]
mod tests {
    use crate::{peer::PeerMessage, v1, v1::scheduler::call};

    #[test]
    fn a_v0_subscribe_keeps_every_field() {
        // framework_info {user: "u", name: "n"}, force, suppressed_roles ["r"], offer_constraints {}
        let subscribe = b"\x0a\x06\x0a\x01u\x12\x01n\x10\x01\x1a\x01r\x22\x00";
        let bytes = [b"\x10\x01\x1a\x0f".as_slice(), subscribe].concat();
        let decoded = PeerMessage::decode("mesos.scheduler.Call", bytes.clone().into());
        let Ok(PeerMessage::SchedulerCall(call)) = decoded else {
            panic!("{decoded:?}")
        };
        let expected = call::Subscribe {
            framework_info: v1::FrameworkInfo {
                user: "u".into(),
                name: "n".into(),
                ..Default::default()
            },
            suppressed_roles: vec!["r".into()],
            offer_constraints: Some(Default::default()),
            force: Some(true),
        };
        assert_eq!(call.subscribe, Some(expected));
        let again = PeerMessage::SchedulerCall(call).encode();
        let sorted = |mut bytes: Vec<u8>| {
            bytes.sort_unstable();
            bytes
        };
        assert_eq!(sorted(again), sorted(bytes));
    }
}
