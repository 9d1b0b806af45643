//! What JSON readers accept beyond the obvious, as `protobuf::parse` of the reference does, and how
//! they refuse the rest.

use tepui_protocol::{
    json::{self, JsonError, Names},
    v1,
};

fn refusal<T: prost::Message + prost::Name + Default>(text: &str) -> String {
    match json::decode::<T>(text.as_bytes()) {
        Ok(_) => panic!("{text} was read"),
        Err(error) => error.to_string(),
    }
}

fn resource(text: &str) -> v1::Resource {
    json::decode(text.as_bytes()).unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn unknown_fields_and_nulls_are_ignored() {
    let plain = resource(r#"{"name": "cpus", "type": "SCALAR", "scalar": {"value": 1}}"#);
    let noisy = resource(
        r#"{"name": "cpus", "type": "SCALAR", "scalar": {"value": 1, "slave_id": {"x": [1]}},
            "ranges": null, "reservations": [null], "more": {"deep": [[{}]]}}"#,
    );
    assert_eq!(plain, noisy);
}

#[test]
fn one_value_stands_for_a_repeated_field() {
    let list = r#"{"reservations": [{"role": "a"}], "name": "x", "type": "SCALAR"}"#;
    let bare = r#"{"reservations": {"role": "a"}, "name": "x", "type": "SCALAR"}"#;
    assert_eq!(resource(list), resource(bare));
    let roles: v1::FrameworkInfo =
        json::decode(br#"{"user": "u", "name": "n", "roles": "a"}"#).expect("valid");
    assert_eq!(roles.roles, ["a"]);
    let nested: v1::FrameworkInfo =
        json::decode(br#"{"user": "u", "name": "n", "roles": [["a"], "b"]}"#).expect("valid");
    assert_eq!(nested.roles, ["a", "b"]);
}

#[test]
fn numbers_and_booleans_may_be_strings() {
    let value: v1::value::Scalar = json::decode(br#"{"value": "1.5"}"#).expect("valid");
    assert_eq!(value.value, 1.5);
    let value: v1::value::Scalar = json::decode(br#"{"value": "Infinity"}"#).expect("valid");
    assert_eq!(value.value, f64::INFINITY);
    let range: v1::value::Range =
        json::decode(br#"{"begin": "1", "end": 18446744073709551615}"#).expect("valid");
    assert_eq!((range.begin, range.end), (1, u64::MAX));
    let range: v1::value::Range = json::decode(br#"{"begin": 1.9, "end": 2e3}"#).expect("valid");
    assert_eq!((range.begin, range.end), (1, 2000));
    let command: v1::CommandInfo = json::decode(br#"{"shell": "false"}"#).expect("valid");
    assert_eq!(command.shell, Some(false));
}

#[test]
fn wrong_types_are_refused_by_name() {
    type Command = v1::CommandInfo;
    for (text, expected) in [
        (
            r#"{"value": 1}"#,
            "Not expecting a JSON number for field 'value'",
        ),
        (
            r#"{"value": true}"#,
            "Not expecting a JSON boolean for field 'value'",
        ),
        (
            r#"{"value": {}}"#,
            "Not expecting a JSON object for field 'value'",
        ),
        (
            r#"{"value": ["a"]}"#,
            "Not expecting a JSON array for field 'value'",
        ),
        (
            r#"{"environment": "a"}"#,
            "Not expecting a JSON string for field 'environment'",
        ),
        (
            r#"{"shell": "maybe"}"#,
            "Failed to parse 'maybe' as a JSON boolean for field 'shell': \
             syntax error at line 1 near: maybe",
        ),
        (
            r#"{"shell": "1"}"#,
            "Failed to parse '1' as a JSON boolean for field 'shell': Unexpected JSON type parsed",
        ),
        ("[]", "Expecting a JSON object"),
        ("7", "Expecting a JSON object"),
    ] {
        assert_eq!(refusal::<Command>(text), expected, "{text}");
    }
    assert_eq!(
        refusal::<v1::value::Scalar>(r#"{"value": "x"}"#),
        "Failed to parse 'x' as a JSON number for field 'value': syntax error at line 1 near: x"
    );
    let list = json::decode_list::<v1::Resource>(b"{}");
    assert_eq!(
        list,
        Err(JsonError::Convert("Expecting a JSON array".to_owned()))
    );
}

#[test]
fn base64_is_read_leniently() {
    let uuid = |text: &str| json::decode::<v1::Uuid>(format!(r#"{{"value":"{text}"}}"#).as_bytes());
    for text in ["aGk=", "aGk", "aG\\nk=", "aGl=", "aGk=garbage"] {
        assert_eq!(uuid(text).expect(text).value, "hi".as_bytes(), "{text}");
    }
    assert_eq!(uuid("").expect("valid").value.len(), 0);
    let error = uuid("a_b=").expect_err("not base64").to_string();
    assert_eq!(
        error,
        "Failed to base64 decode bytes field 'value': Invalid character '_'"
    );
}

#[test]
fn maps_are_objects() {
    let text = r#"{"quantities":{"cpus":{"value":1.0},"mem":{"value":64.0}}}"#;
    let quantities: v1::offer_filters::ResourceQuantities =
        json::decode(text.as_bytes()).expect("valid");
    assert_eq!(quantities.quantities["mem"].value, 64.0);
    assert_eq!(json::encode(&quantities), text);
}

#[test]
fn defaults_are_shown_unless_deprecated() {
    let info = v1::FrameworkInfo {
        user: "u".into(),
        name: "n".into(),
        ..Default::default()
    };
    let text = r#"{"user":"u","name":"n","failover_timeout":0.0,"checkpoint":false}"#;
    assert_eq!(json::encode(&info), text);
    let agent = v1::AgentInfo {
        hostname: "h".into(),
        ..Default::default()
    };
    assert_eq!(json::encode(&agent), r#"{"hostname":"h","port":5051}"#);
    let v0 = r#"{"hostname":"h","port":5051,"checkpoint":false}"#;
    assert_eq!(json::encode_with(&agent, Names::V0), v0);
}

#[test]
fn dialects_differ_in_names_only() {
    let status = v1::TaskStatus {
        task_id: v1::TaskId { value: "t".into() },
        state: v1::TaskState::TaskLost as i32,
        agent_id: Some(v1::AgentId { value: "s".into() }),
        source: Some(v1::task_status::Source::Agent as i32),
        reason: Some(v1::task_status::Reason::AgentRemoved as i32),
        ..Default::default()
    };
    let v1 = json::encode(&status);
    let v0 = json::encode_with(&status, Names::V0);
    assert_eq!(v0, v1.replace("agent", "slave").replace("AGENT", "SLAVE"));
    assert!(
        v0.contains("REASON_SLAVE_REMOVED") && v0.contains("SOURCE_SLAVE"),
        "{v0}"
    );
    assert_eq!(
        json::decode_with(v0.as_bytes(), Names::V0),
        Ok(status.clone())
    );
    let crossed = v1::TaskStatus {
        agent_id: None,
        source: None,
        reason: None,
        ..status
    };
    assert_eq!(json::decode_with(v0.as_bytes(), Names::V1), Ok(crossed));
}

#[test]
fn missing_fields_are_named_in_the_dialect() {
    let text = r#"{"name": "n", "task_id": {"value": "t"}}"#;
    assert_eq!(
        refusal::<v1::TaskInfo>(text),
        "Missing required fields: agent_id"
    );
    let error = json::decode_with::<v1::TaskInfo>(text.as_bytes(), Names::V0);
    assert_eq!(
        error,
        Err(JsonError::MissingRequired(vec!["slave_id".to_owned()]))
    );
}

#[test]
fn a_call_for_resources_holds_requests() {
    let text = r#"{"type":"REQUEST","request":{"requests":[{"agent_id":{"value":"s"}}]}}"#;
    let call: v1::scheduler::Call = json::decode(text.as_bytes()).expect("valid");
    let request = v1::Request {
        agent_id: Some(v1::AgentId { value: "s".into() }),
        resources: Vec::new(),
    };
    assert_eq!(call.request.map(|call| call.requests), Some(vec![request]));
}

#[test]
fn nesting_is_bounded() {
    let nested = |depth: usize| {
        let open = r#"{"value":"c","parent":"#.repeat(depth);
        format!(r#"{open}{{"value":"c"}}{}"#, "}".repeat(depth))
    };
    assert!(json::decode::<v1::ContainerId>(nested(90).as_bytes()).is_ok());
    for depth in [150, 250, 100_000] {
        assert!(json::decode::<v1::ContainerId>(nested(depth).as_bytes()).is_err());
    }
}
