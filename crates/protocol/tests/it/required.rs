//! Required fields, which generated types cannot miss: bytes are searched for them.

use prost::Message as _;
use tepui_protocol::{
    peer::{PeerMessage, PeerMessageError},
    v1,
    wire::{self, DecodeError},
};

fn missing<T: prost::Message + prost::Name + Default>(bytes: &[u8]) -> Vec<String> {
    match wire::decode::<T>(bytes.to_vec().into()) {
        Ok(_) => Vec::new(),
        Err(DecodeError::MissingRequired(paths)) => paths,
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn paths_lead_to_the_missing_field() {
    // subscribe { framework_info {} }
    assert_eq!(
        missing::<v1::scheduler::Call>(b"\x1a\x02\x0a\x00"),
        [
            "subscribe.framework_info.user",
            "subscribe.framework_info.name"
        ]
    );
    // task_id {}, resources [{}, {name: "x"}]; name and agent_id absent
    assert_eq!(
        missing::<v1::TaskInfo>(b"\x12\x00\x22\x00\x22\x03\x0a\x01x"),
        [
            "name",
            "agent_id",
            "task_id.value",
            "resources[0].name",
            "resources[0].type",
            "resources[1].type"
        ]
    );
}

#[test]
fn an_unknown_value_of_a_required_enum_is_missing() {
    assert_eq!(missing::<v1::Value>(b"\x08\x63"), ["type"]);
    assert_eq!(missing::<v1::Value>(b"\x08\x00"), [""; 0]);
    // The last value counts, as it does for the generated types; what is not one is not passed on.
    assert_eq!(missing::<v1::Value>(b"\x08\x00\x08\x63"), ["type"]);
    assert_eq!(missing::<v1::Value>(b"\x08\x63\x08\x00"), [""; 0]);
    assert_eq!(missing::<v1::Value>(b"\x08\x63\x08\x00\x08\x62"), ["type"]);
}

#[test]
fn a_message_may_come_in_pieces() {
    let whole = v1::scheduler::Call {
        subscribe: Some(v1::scheduler::call::Subscribe {
            framework_info: v1::FrameworkInfo {
                user: "u".into(),
                name: "n".into(),
                ..Default::default()
            },
            ..Default::default()
        }),
        ..Default::default()
    };
    // subscribe { framework_info { user: "u" } } subscribe { framework_info { name: "n" } }
    let pieces = b"\x1a\x05\x0a\x03\x0a\x01u\x1a\x05\x0a\x03\x12\x01n";
    assert_eq!(wire::decode(pieces.to_vec().into()), Ok(whole));
}

#[test]
fn map_values_are_searched() {
    let limits = |entry: &[u8]| {
        let mut bytes = v1::TaskInfo::default().encode_to_vec();
        bytes.extend_from_slice(&[0x7a, entry.len() as u8]);
        bytes.extend_from_slice(entry);
        missing::<v1::TaskInfo>(&bytes)
            .into_iter()
            .filter(|p| p.starts_with("limits"))
            .collect()
    };
    let none: Vec<String> = limits(b"\x0a\x01c\x12\x09\x09\0\0\0\0\0\0\0\0");
    assert_eq!(none, [""; 0]);
    assert_eq!(limits(b"\x0a\x01c\x12\x00"), ["limits[0].value.value"]);
    assert_eq!(limits(b"\x0a\x01c"), ["limits[0].value.value"]);
}

#[test]
fn peers_hear_v0_names() {
    let result = PeerMessage::decode("mesos.internal.SlaveRegisteredMessage", "".into());
    let Err(PeerMessageError::Malformed { source, .. }) = result else {
        panic!("{result:?}")
    };
    assert_eq!(source.to_string(), "Missing required fields: slave_id");
    let result = PeerMessage::decode("mesos.internal.Nope", "".into());
    assert!(matches!(result, Err(PeerMessageError::UnknownName(_))));
}

#[test]
fn truncated_bytes_are_malformed() {
    for bytes in [
        &b"\x1a"[..],
        b"\x1a\x05",
        b"\xff",
        b"\x1a\x02\x0a\x05",
        b"\x00",
    ] {
        let result = wire::decode::<v1::scheduler::Call>(bytes.to_vec().into());
        assert!(
            matches!(result, Err(DecodeError::Malformed(_))),
            "{bytes:?}"
        );
    }
}

#[test]
fn strings_need_not_be_utf8_and_wrong_wire_types_are_unknown_fields() {
    // task_id { value: "t\xff" } state: TASK_LOST, message: "\xc3(", source as a string, data
    let bytes = b"\x0a\x04\x0a\x02t\xff\x10\x05\x22\x02\xc3(\x4a\x01x\x1a\x02\xff\x00";
    let status = wire::decode::<v1::TaskStatus>(bytes.to_vec().into());
    let expected = v1::TaskStatus {
        task_id: v1::TaskId {
            value: "t\u{fffd}".into(),
        },
        state: v1::TaskState::TaskLost as i32,
        message: Some("\u{fffd}(".into()),
        data: Some(b"\xff\x00".as_slice().into()),
        ..Default::default()
    };
    assert_eq!(status, Ok(expected));
}
