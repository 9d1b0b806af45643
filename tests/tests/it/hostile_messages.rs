//! Messages that no proper peer sends: each is answered or hung up on, and neither the leader nor its followers notice.
//!
//! The table is `tests/data/libprocess-errors.jsonl`. A case's fields:
//!
//! - `path`, or `path_repeat`: a beginning, a text, how often, an end; `method`, POST unless told;
//! - `from`: the sender's address, one that nobody has unless told, null for none; `headers`;
//! - the body as `hex`, `text` or `repeat` (a text and how often); or, instead of all of that, `raw` (or `raw_repeat`): what is
//!   sent as it stands, and `half_close`: whether our side ends after it;
//! - `status`: what is answered, or a list of what may be; 0 stands for hanging up without a word.
//!
//! `$PID_1` is the address of a follower that is registered, `$FOLLOWER_1` the bytes of a message that names it.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;
use tepui_tests::cluster::{Cluster, Part};
use tepui_tests::emulator::Emulator;
use tepui_tests::http::{Request, send, send_raw};
use tepui_tests::wait::eventually;
use tepui_tests::{crate_folder, json_lines};

const PATIENCE: Duration = Duration::from_secs(60);
const FOLLOWERS: usize = 3;

/// Ids and addresses of the emulated followers that are registered and active.
fn followers(cluster: &Cluster) -> BTreeSet<(String, String)> {
    let slaves = cluster.json("/slaves");
    let all = slaves["slaves"].as_array().cloned().unwrap_or_default();
    let text = |slave: &Value, name: &str| slave[name].as_str().unwrap_or_default().to_owned();
    all.iter()
        .filter(|slave| slave["active"] == true && text(slave, "hostname").starts_with("emulated-"))
        .map(|slave| (text(slave, "id"), text(slave, "pid")))
        .collect()
}

fn repeated(of: &Value) -> String {
    let text = |at: usize| of[at].as_str().unwrap_or_default();
    let times = of[2].as_u64().unwrap_or(0) as usize;
    format!("{}{}{}", text(0), text(1).repeat(times), text(3))
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex
        .chars()
        .filter_map(|c| c.to_digit(16))
        .map(|digit| digit as u8)
        .collect();
    digits
        .chunks(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect()
}

/// The bytes of a case.
fn message(case: &Value, cluster: &Cluster, id: &str, pid: &str) -> Vec<u8> {
    if let Some(raw) = case["raw"].as_str() {
        return raw.as_bytes().to_vec();
    }
    if case["raw_repeat"].is_array() {
        return repeated(&case["raw_repeat"]).into_bytes();
    }
    let path = case["path"]
        .as_str()
        .map_or_else(|| repeated(&case["path_repeat"]), str::to_owned);
    let body = match (&case["hex"], &case["text"], &case["repeat"]) {
        // A message whose first field is a message whose first field is the id.
        (Value::String(name), ..) if name == "$FOLLOWER_1" => {
            let length = u8::try_from(id.len()).expect("a short id");
            [&[10, length + 2, 10, length], id.as_bytes()].concat()
        }
        (Value::String(hex), ..) => bytes(hex),
        (_, Value::String(text), _) => text.as_bytes().to_vec(),
        (_, _, Value::Array(of)) => {
            let times = of[1].as_u64().unwrap_or(0) as usize;
            of[0]
                .as_str()
                .unwrap_or_default()
                .repeat(times)
                .into_bytes()
        }
        _ => Vec::new(),
    };
    let mut request = Request {
        method: case["method"].as_str().unwrap_or("POST").to_owned(),
        path,
        ..Request::default()
    };
    let nobody = Value::from("slave(1)@127.0.0.1:1");
    let from = case.get("from").unwrap_or(&nobody);
    if let Some(from) = from.as_str() {
        request = request.header("Libprocess-From", &from.replace("$PID_1", pid));
    }
    for (name, value) in case["headers"].as_object().into_iter().flatten() {
        request = request.header(name, value.as_str().unwrap_or_default());
    }
    request.body(body).to_bytes(cluster.leader)
}

#[test]
fn what_no_proper_peer_sends_harms_nobody() {
    let mut cluster = Cluster::builder().only(Part::Leader).start();
    let emulator = Emulator::start(cluster.leader, FOLLOWERS, &[]);
    emulator.all_registered(PATIENCE);
    let before = followers(&cluster);
    assert_eq!(before.len(), FOLLOWERS);
    let (id, pid) = before.first().cloned().expect("a follower");

    let table = json_lines(&crate_folder().join("data/libprocess-errors.jsonl"));
    assert!(table.len() >= 80, "{} cases", table.len());
    let mut failures = Vec::new();
    for case in &table {
        let name = case["name"].as_str().expect("a case has a name");
        let sent = message(case, &cluster, &id, &pid);
        let half_close = case["half_close"] == true;
        let answer = send_raw(cluster.leader, &sent, half_close);
        let status = answer.as_ref().map_or(0, |answer| answer.status);
        let right = match &case["status"] {
            Value::Array(all) => all.iter().any(|one| *one == status),
            one => *one == status,
        };
        if !right {
            let text = answer.map_or_else(|error| error.to_string(), |answer| answer.text());
            failures.push(format!("{name}: {status}, not {}: {text}", case["status"]));
        }
        assert!(cluster.serves(), "after {name}");
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));

    // The followers are there as they were, and nobody else came in by a message above but who may.
    assert!(
        eventually(PATIENCE, || followers(&cluster) == before),
        "{:?}",
        followers(&cluster)
    );
    let report = emulator.stop();
    assert_eq!(report["registered"], FOLLOWERS);
    assert_eq!(report["links_broken"], 0, "{report}");
    assert_eq!(report["shut_down"], 0, "{report}");
    let health =
        send(cluster.leader, &Request::get("/metrics/snapshot")).expect("the leader answers");
    assert_eq!(health.status, 200);
}
