//! Bodies that the recorded cluster refused to read, with the texts it answered.

use crate::lines;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde_json::Value;
use tepui_protocol::{
    json::{self, JsonError},
    v1, wire,
};

fn decode(path: &str, to: &str, body: &[u8]) -> Result<(), JsonError> {
    match (path, to) {
        (path, _) if path.ends_with("/scheduler") => {
            json::decode::<v1::scheduler::Call>(body).map(drop)
        }
        (path, "agent") if path.ends_with("/executor") => {
            json::decode::<v1::executor::Call>(body).map(drop)
        }
        (_, "agent") => json::decode::<v1::agent::Call>(body).map(drop),
        _ => json::decode::<v1::master::Call>(body).map(drop),
    }
}

#[test]
fn refused_json_is_refused_with_the_recorded_text() {
    let (mut refused, mut read) = (0, 0);
    for line in lines("errors.http.jsonl") {
        let request = &line["request"];
        let path = request["path"].as_str().expect("a path");
        if request["method"] != "POST"
            || !path.starts_with("/api/v1")
            || request["headers"]["Content-Type"] != "application/json"
        {
            continue;
        }
        let body = match &request["body"] {
            Value::Null => STANDARD.decode(request["body_b64"].as_str().expect("a body")),
            body => Ok(body.to_string().into_bytes()),
        };
        let result = decode(
            path,
            request["to"].as_str().expect("to"),
            &body.expect("base64"),
        );
        let answer = line["response"]["text"].as_str().unwrap_or_default();
        let ours = match result {
            Ok(()) => None,
            Err(error) if error.is_syntax() => {
                Some(format!("Failed to parse body into JSON: {error}"))
            }
            Err(error) => Some(format!(
                "Failed to convert JSON into Call protobuf: {error}"
            )),
        };
        match ours {
            Some(ours) => {
                refused += 1;
                assert_eq!(ours, answer);
            }
            None => {
                read += 1;
                assert!(!answer.starts_with("Failed to parse body"), "{answer}");
                assert!(!answer.starts_with("Failed to convert"), "{answer}");
            }
        }
    }
    assert!(refused >= 8 && read >= 15, "{refused} refused, {read} read");
}

#[test]
fn refused_protobuf_is_refused() {
    for line in lines("errors.http.jsonl") {
        if line["request"]["headers"]["Content-Type"] == "application/x-protobuf" {
            let body = line["request"]["body_b64"].as_str().expect("a body");
            let body = Bytes::from(STANDARD.decode(body).expect("base64"));
            assert!(wire::decode::<v1::scheduler::Call>(body).is_err());
            return;
        }
    }
    panic!("no such recording");
}

#[test]
fn an_unknown_enum_value_is_dropped_and_a_required_one_is_an_error() {
    let call = json::decode::<v1::scheduler::Call>(br#"{"type": "NOPE"}"#);
    assert_eq!(call, Ok(v1::scheduler::Call::default()));
    let value = json::decode::<v1::Value>(br#"{"type": "NOPE"}"#);
    assert_eq!(
        value,
        Err(JsonError::Convert(
            "Failed to find enum for 'NOPE'".to_owned()
        ))
    );
}
