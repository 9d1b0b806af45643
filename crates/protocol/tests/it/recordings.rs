//! Every protobuf and JSON message of the recorded traffic is read, written again, and compared.

use crate::{body_bytes, header, lines};
use serde_json::Value;
use std::collections::BTreeMap;
use tepui_protocol::{
    json::{self, Names},
    libprocess,
    peer::PeerMessage,
    wire,
};

const SCENARIOS: [&str; 4] = ["auth", "basic", "ha", "operator"];

/// Messages we do not speak: replicas of the reference's replicated log among each other. How
/// leaders that share a registry agree on it is not part of this crate yet.
const OUT_OF_SCOPE: [&str; 7] = [
    "mesos.internal.log.LearnedMessage",
    "mesos.internal.log.PromiseRequest",
    "mesos.internal.log.PromiseResponse",
    "mesos.internal.log.RecoverRequest",
    "mesos.internal.log.RecoverResponse",
    "mesos.internal.log.WriteRequest",
    "mesos.internal.log.WriteResponse",
];

/// Messages in which the reference writes `AgentInfo.checkpoint` after later fields: to its v1 types
/// it is an unknown field, and those come last.
const REORDERED: [&str; 2] = ["mesos.v1.executor.Event", "mesos.v1.master.Response"];

/// JSON in which the last digit of some doubles differs: of the shortest texts for a value the
/// reference does not always print the closest one.
const OTHER_DIGITS: &str = "{\"type\":\"GET_METRICS\",\"get_metrics\":";

/// What recorded clients sent that is no field of the message; readers ignore it.
const UNKNOWN_FIELDS: [&str; 1] = ["mesos.v1.scheduler.Call.teardown"];

#[test]
fn peer_messages_come_back_byte_for_byte() {
    let mut seen = BTreeMap::new();
    for line in SCENARIOS
        .iter()
        .flat_map(|scenario| lines(&format!("{scenario}.wire.jsonl")))
    {
        if line["kind"] != "libprocess" {
            continue;
        }
        let name = line["message"].as_str().expect("a name");
        if OUT_OF_SCOPE.contains(&name) {
            continue;
        }
        *seen.entry(name.to_owned()).or_insert(0) += 1;
        let bytes = body_bytes(&line);
        let message = PeerMessage::decode(name, bytes.clone().into())
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(message.name(), name);
        assert_eq!(message.encode(), bytes, "{name} {}", line["body"]);
    }
    assert!(
        seen.len() > 30,
        "the recordings hold more kinds of messages than {seen:?}"
    );
}

#[test]
fn peer_requests_come_back_byte_for_byte() {
    for line in SCENARIOS
        .iter()
        .flat_map(|scenario| lines(&format!("{scenario}.wire.jsonl")))
    {
        if line["kind"] != "libprocess" {
            continue;
        }
        let head = line["head"].as_str().expect("a head");
        let mut words = head.split(' ');
        let (method, path) = (words.next().expect("POST"), words.next().expect("a path"));
        let agent = header(&line, "User-Agent");
        let envelope = libprocess::recognise(method, path, agent, header(&line, "Libprocess-From"))
            .expect("valid")
            .expect("a message");
        assert_eq!(envelope.message, line["message"]);
        assert_eq!(format!("/{}", envelope.process), line["to"]);
        assert_eq!(envelope.from.to_string(), line["frm"]);

        let host = header(&line, "Host").expect("a host");
        let to = format!("{}@{host}", envelope.process)
            .parse()
            .expect("an address");
        let body = body_bytes(&line);
        let request = libprocess::request(&envelope.from, &to, &envelope.message, &body);
        assert_eq!(
            String::from_utf8_lossy(&request),
            recorded_request(&line, &body)
        );
    }
}

/// A recorded request as it was on the wire. The recording keeps headers in their order.
fn recorded_request(line: &Value, body: &[u8]) -> String {
    let mut text = format!("{}\r\n", line["head"].as_str().expect("a head"));
    // serde_json sorts; the reference's order is in the raw recording and spelled out here.
    for name in [
        "User-Agent",
        "Libprocess-From",
        "Connection",
        "Host",
        "Transfer-Encoding",
    ] {
        if let Some(value) = header(line, name) {
            text += &format!("{name}: {value}\r\n");
        }
    }
    text += "\r\n";
    if !body.is_empty() {
        text += &format!(
            "{:x}\r\n{}\r\n0\r\n\r\n",
            body.len(),
            String::from_utf8_lossy(body)
        );
    }
    text
}

#[test]
fn api_messages_come_back_byte_for_byte() {
    let mut seen = BTreeMap::new();
    for scenario in SCENARIOS {
        for found in api_messages(&format!("{scenario}.wire.jsonl")) {
            *seen.entry((found.name, found.json)).or_insert(0) += 1;
            if found.json {
                check_json(&found);
            } else {
                check_protobuf(&found);
            }
        }
    }
    // Neither format of any API goes unchecked.
    for (name, json) in [
        ("mesos.v1.agent.Call", true),
        ("mesos.v1.agent.Response", true),
        ("mesos.v1.executor.Call", false),
        ("mesos.v1.executor.Event", false),
        ("mesos.v1.master.Call", true),
        ("mesos.v1.master.Response", false),
        ("mesos.v1.master.Response", true),
        ("mesos.v1.scheduler.Call", false),
        ("mesos.v1.scheduler.Call", true),
        ("mesos.v1.scheduler.Event", false),
        ("mesos.v1.scheduler.Event", true),
    ] {
        assert!(
            seen.contains_key(&(name, json)),
            "no recorded {name} (JSON: {json})"
        );
    }
}

struct ApiMessage {
    name: &'static str,
    json: bool,
    /// Whether the reference wrote it, rather than some client.
    by_reference: bool,
    bytes: Vec<u8>,
    body: Value,
}

/// Bodies of requests, responses and stream records of the three HTTP APIs.
fn api_messages(file: &str) -> Vec<ApiMessage> {
    let mut requests: BTreeMap<String, Value> = BTreeMap::new();
    let mut found = Vec::new();
    for line in lines(file) {
        let connection = line["conn"].to_string();
        let kind = line["kind"].as_str().expect("a kind").to_owned();
        if kind == "request" {
            requests.insert(connection.clone(), line.clone());
        }
        let Some(request) = requests.get(&connection) else {
            continue;
        };
        let head = request["head"].as_str().expect("a head");
        let path = head.split(' ').nth(1).expect("a path");
        let to_agent = line["ports"][1] == 15051;
        let name = match (path, kind.as_str()) {
            (path, "request") if path.ends_with("/api/v1/scheduler") => "mesos.v1.scheduler.Call",
            (path, "record") if path.ends_with("/api/v1/scheduler") => "mesos.v1.scheduler.Event",
            (path, "request") if path.ends_with("/api/v1/executor") => "mesos.v1.executor.Call",
            (path, "record") if path.ends_with("/api/v1/executor") => "mesos.v1.executor.Event",
            ("/api/v1", "request") if to_agent => "mesos.v1.agent.Call",
            ("/api/v1", "request") => "mesos.v1.master.Call",
            ("/api/v1", "response") if to_agent => "mesos.v1.agent.Response",
            ("/api/v1", "response") => "mesos.v1.master.Response",
            _ => continue,
        };
        let format = match kind.as_str() {
            "record" => header(request, "Accept"),
            _ => header(&line, "Content-Type"),
        };
        let bytes = body_bytes(&line);
        if bytes.is_empty() || format.is_none_or(|format| !format.starts_with("application/")) {
            continue;
        }
        found.push(ApiMessage {
            name,
            json: format == Some("application/json"),
            by_reference: kind != "request",
            bytes,
            body: line["body"].clone(),
        });
    }
    found
}

fn check_protobuf(found: &ApiMessage) {
    let name = found.name;
    wire::check_required(name, &found.bytes, Names::V1).expect(name);
    let mut text = String::new();
    json::encode_bytes(name, &found.bytes, Names::V1, &mut text).expect(name);
    let shown: Value = serde_json::from_str(&text).expect("JSON");
    assert_shows(&shown, &found.body, name);
    // Reading our JSON gives a message that shows the same.
    let again = json::decode_bytes(name, text.as_bytes(), Names::V1).expect(name);
    let mut second = String::new();
    json::encode_bytes(name, &again, Names::V1, &mut second).expect(name);
    assert_eq!(second, text);
    let ours = typed_round_trip(name, &found.bytes);
    if REORDERED.contains(&name) {
        assert_eq!(sorted(&ours), sorted(&found.bytes), "{name} {}", found.body);
    } else {
        assert_eq!(ours, found.bytes, "{name} {}", found.body);
    }
}

fn check_json(found: &ApiMessage) {
    let name = found.name;
    let bytes = json::decode_bytes(name, &found.bytes, Names::V1).expect(name);
    let mut text = String::new();
    json::encode_bytes(name, &bytes, Names::V1, &mut text).expect(name);
    let recorded = String::from_utf8_lossy(&found.bytes);
    if found.by_reference && text.contains(OTHER_DIGITS) {
        assert_eq!(text.len(), recorded.len());
        assert_eq!(
            json::parse(text.as_bytes()),
            json::parse(recorded.as_bytes())
        );
    } else if found.by_reference {
        assert_eq!(text, recorded);
    } else {
        let shown: Value = serde_json::from_str(&text).expect("JSON");
        assert_shows(&shown, &found.body, name);
    }
}

fn sorted(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes.sort_unstable();
    bytes
}

fn typed_round_trip(name: &str, bytes: &[u8]) -> Vec<u8> {
    use tepui_protocol::v1;
    macro_rules! by_name {
        ($($full:literal => $type:ty),* $(,)?) => {
            match name {
                $($full => wire::encode(&wire::decode::<$type>(bytes.to_vec().into()).expect(name)),)*
                _ => panic!("no type for {name}"),
            }
        };
    }
    by_name! {
        "mesos.v1.agent.Call" => v1::agent::Call,
        "mesos.v1.agent.Response" => v1::agent::Response,
        "mesos.v1.executor.Call" => v1::executor::Call,
        "mesos.v1.executor.Event" => v1::executor::Event,
        "mesos.v1.master.Call" => v1::master::Call,
        "mesos.v1.master.Response" => v1::master::Response,
        "mesos.v1.scheduler.Call" => v1::scheduler::Call,
        "mesos.v1.scheduler.Event" => v1::scheduler::Event,
    }
    .to_vec()
}

#[test]
fn peer_messages_show_what_was_recorded() {
    for line in SCENARIOS
        .iter()
        .flat_map(|scenario| lines(&format!("{scenario}.wire.jsonl")))
    {
        let Some(name) = line["message"].as_str() else {
            continue;
        };
        // The JSON of a scheduler call is checked through the v1 API; its v0 bytes differ.
        if OUT_OF_SCOPE.contains(&name) || name == "mesos.scheduler.Call" {
            continue;
        }
        let mut text = String::new();
        json::encode_bytes(name, &body_bytes(&line), Names::V0, &mut text).expect(name);
        let shown: Value = serde_json::from_str(&text).expect("JSON");
        assert_shows(&shown, &line["body"], name);
    }
}

/// Whether `shown`, our JSON, says what the recording's own decoder made of a message. That decoder
/// writes 64-bit integers as strings and leaves defaults out; a client's JSON may hold nulls and
/// integers where we write doubles.
fn assert_shows(shown: &Value, recorded: &Value, at: &str) {
    match (shown, recorded) {
        (Value::Object(shown), Value::Object(recorded)) => {
            for (key, value) in recorded.iter().filter(|(_, value)| !value.is_null()) {
                let at = format!("{at}.{key}");
                if UNKNOWN_FIELDS.contains(&at.as_str()) {
                    continue;
                }
                let shown = shown.get(key).unwrap_or_else(|| panic!("{at} is missing"));
                assert_shows(shown, value, &at);
            }
            let extra: Vec<_> = shown
                .iter()
                .filter(|(key, value)| !recorded.contains_key(*key) && !is_default(value))
                .collect();
            assert!(extra.is_empty(), "{at}: {extra:?} is not in the recording");
        }
        (Value::Array(shown), Value::Array(recorded)) => {
            assert_eq!(shown.len(), recorded.len(), "{at}");
            for (index, (shown, recorded)) in shown.iter().zip(recorded).enumerate() {
                assert_shows(shown, recorded, &format!("{at}[{index}]"));
            }
        }
        (Value::Number(shown), Value::String(recorded)) => {
            assert_eq!(shown.to_string(), *recorded, "{at}");
        }
        (Value::Number(shown), Value::Number(recorded)) => {
            assert_eq!(shown.as_f64(), recorded.as_f64(), "{at}");
        }
        _ => assert_eq!(shown, recorded, "{at}"),
    }
}

/// What an unset field with a declared default shows.
fn is_default(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.is_empty(),
        Value::Bool(_) => true,
        Value::Number(number) => DEFAULT_NUMBERS.contains(&number.as_f64().unwrap_or(f64::NAN)),
        Value::String(text) => ["*", "IPv4", "UNKNOWN"].contains(&text.as_str()),
        _ => false,
    }
}

/// Defaults that the messages declare: weights and times in seconds.
const DEFAULT_NUMBERS: [f64; 8] = [0.0, 1.0, 3.0, 5.0, 10.0, 15.0, 20.0, 604_800.0];
