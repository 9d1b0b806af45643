//! The codecs against recordings of a real cluster (`tests/fixtures/wire`: Mesos 1.12-dev, which is
//! wire-compatible with 1.11).

mod buffers;
mod endpoints;
mod errors;
mod frames;
mod lenient;
mod recordings;
mod required;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;
use std::{fs, path::Path};

/// Lines of a recording.
fn lines(file: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/wire")
        .join(file);
    let text = fs::read_to_string(path).expect("a fixture");
    text.lines()
        .map(|line| serde_json::from_str(line).expect("a JSON line"))
        .collect()
}

/// The exact bytes of a recorded body.
fn body_bytes(line: &Value) -> Vec<u8> {
    STANDARD
        .decode(line["body_b64"].as_str().unwrap_or(""))
        .expect("base64")
}

/// A header, by its name in any case.
fn header<'a>(line: &'a Value, name: &str) -> Option<&'a str> {
    let headers = line["headers"].as_object()?;
    headers
        .iter()
        .find(|(key, _)| key.eq_ignore_ascii_case(name))?
        .1
        .as_str()
}

/// Where two documents first differ, and how.
fn first_difference(left: &Value, right: &Value, at: &str) -> Option<String> {
    match (left, right) {
        (Value::Object(a), Value::Object(b)) => {
            a.keys()
                .chain(b.keys())
                .find_map(|key| match (a.get(key), b.get(key)) {
                    (Some(a), Some(b)) => first_difference(a, b, &format!("{at}.{key}")),
                    (a, b) => Some(format!("{at}.{key}: {a:?} and {b:?}")),
                })
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => (0..a.len())
            .find_map(|index| first_difference(&a[index], &b[index], &format!("{at}[{index}]"))),
        (a, b) => (a != b).then(|| format!("{at}: {a} and {b}")),
    }
}
