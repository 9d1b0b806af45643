//! The recordings that more than one module reads. They live with the protocol crate, which checks every message of them.

use std::path::PathBuf;

use serde_json::Value;
use tepui_tests::{json_lines, repository};

/// The lines of a recording, by file name.
pub(crate) fn recording(name: &str) -> Vec<Value> {
    json_lines(&folder().join(name))
}

pub(crate) fn folder() -> PathBuf {
    repository().join("crates/protocol/tests/fixtures/wire")
}

/// The bytes of a recorded or written request's body.
pub(crate) fn body_bytes(request: &Value) -> Vec<u8> {
    use base64::Engine as _;
    if let Some(base64) = request["body_b64"]
        .as_str()
        .or_else(|| request["base64"].as_str())
    {
        return base64::engine::general_purpose::STANDARD
            .decode(base64)
            .expect("a fixture's base64 is valid");
    }
    if let Some(text) = request["text_body"].as_str() {
        return text.as_bytes().to_vec();
    }
    if let (Some(piece), Some(times)) =
        (request["repeat"][0].as_str(), request["repeat"][1].as_u64())
    {
        return piece
            .repeat(usize::try_from(times).unwrap_or(usize::MAX))
            .into_bytes();
    }
    match request.get("body").or_else(|| request.get("json")) {
        Some(document) => document.to_string().into_bytes(),
        None => Vec::new(),
    }
}
