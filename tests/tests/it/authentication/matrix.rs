//! Every kind of client against every kind of leader, with the right secret, a wrong one, none, and in nobody's name: what
//! comes of it is in `tests/data/authentication.jsonl`, which is complete.
//!
//! That nothing came is shown without waiting: what the leader says to one address keeps its order, so once the answer to a
//! later message has arrived, what has not come will not come.

use std::collections::BTreeSet;
use std::io::{BufReader, Write};
use std::net::TcpStream;

use serde_json::{Value, json};
use tepui_tests::cluster::{Cluster, Part};
use tepui_tests::http::{Chunks, PATIENCE, Request, connect, read_head, read_record, send};
use tepui_tests::libprocess::Peer;
use tepui_tests::scheduler::SCHEDULER;
use tepui_tests::wait::eventually;
use tepui_tests::{crate_folder, json_lines};

use super::client::{Outcome, authenticate};
use super::{Files, STRICT, basic, frameworks, leader_with, registered};
use crate::drivers::libmesos::{Driver, SOON, decode, description, encode, internal, settle};

/// The columns of the table: principal and secret that are used, and whether the description names one.
fn identity(
    client: &str,
    who: &str,
) -> (Option<(&'static str, &'static str)>, Option<&'static str>) {
    let (own, secret) = match client {
        "follower" => ("follower", "f-secret"),
        _ => ("marathon", "m-secret"),
    };
    match who {
        "right" => (Some((own, secret)), Some(own)),
        "unnamed" => (Some((own, secret)), None),
        "other" => (Some((own, secret)), Some("ops")),
        "wrong" => (Some((own, "not-the-secret")), Some(own)),
        "unknown" => (Some(("stranger", secret)), Some("stranger")),
        "missing" => (None, Some(own)),
        other => panic!("{other}"),
    }
}

#[test]
fn everybody_gets_in_or_not_as_the_table_says_where_nobody_is_asked_and_nobody_known() {
    let cluster = Cluster::builder().only(Part::Leader).start();
    play(&cluster, "open");
}

#[test]
fn everybody_gets_in_or_not_as_the_table_says_where_nobody_is_asked() {
    let files = Files::new();
    play(&leader_with(&files, &[]), "given");
}

#[test]
fn everybody_gets_in_or_not_as_the_table_says_where_everybody_is_asked() {
    let files = Files::new();
    play(&leader_with(&files, &STRICT), "strict");
}

#[test]
fn the_table_is_complete() {
    let mut cells = BTreeSet::new();
    for cell in table() {
        let key = ["leader", "client", "who"]
            .map(|key| cell[key].as_str().unwrap_or_default().to_owned());
        assert!(cells.insert(key.clone()), "twice: {key:?}");
    }
    for leader in ["open", "given", "strict"] {
        for who in ["right", "unnamed", "other", "wrong", "unknown", "missing"] {
            for client in ["v0", "v1", "follower"] {
                // A follower does not say who it is but by proving it.
                let possible = client != "follower" || (who != "unnamed" && who != "other");
                let key = [leader, client, who].map(str::to_owned);
                assert_eq!(cells.remove(&key), possible, "{key:?}");
            }
        }
    }
    assert!(cells.is_empty(), "{cells:?}");
}

fn table() -> Vec<Value> {
    json_lines(&crate_folder().join("data/authentication.jsonl"))
}

/// Plays all cells of one kind of leader, one after the other.
fn play(cluster: &Cluster, leader: &str) {
    // Whose resources are offered. It is somebody where that is asked.
    let resources = Peer::new();
    let who = if leader == "open" { "missing" } else { "right" };
    let cell = json!({"client": "follower", "who": who, "exchange": if leader == "open" { Value::Null } else { json!("completed") }});
    assert_eq!(follower(cluster, &resources, &cell), "registered");

    for cell in table().iter().filter(|cell| cell["leader"] == leader) {
        let outcome = match cell["client"].as_str() {
            Some("v0") => v0(cluster, cell),
            Some("v1") => v1(cluster, cell),
            _ => json!(follower(cluster, &Peer::new(), cell)),
        };
        assert_eq!(outcome, cell["outcome"], "{cell}\n{}", cluster.logs());
        // Nobody is left of it, so that the next one is alone.
        let empty = || frameworks(cluster).is_empty();
        assert!(eventually(SOON, empty), "{cell}: {:?}", frameworks(cluster));
    }
}

/// The exchange of a cell, if it has one.
fn prove(cluster: &Cluster, peer: &Peer, pid: &str, cell: &Value) {
    let (credential, _) = identity(
        cell["client"].as_str().unwrap_or_default(),
        cell["who"].as_str().unwrap_or_default(),
    );
    let outcome = credential.map(|(principal, secret)| {
        match authenticate(peer, cluster.leader, pid, principal, secret) {
            Outcome::Completed => "completed".to_owned(),
            Outcome::Failed => "failed".to_owned(),
            Outcome::Error(error) => error,
        }
    });
    assert_eq!(json!(outcome), cell["exchange"], "{cell}");
}

fn described(cell: &Value) -> Value {
    let mut info = description("matrix");
    let (_, named) = identity("v1", cell["who"].as_str().unwrap_or_default());
    if let Some(principal) = named {
        info["principal"] = json!(principal);
    }
    // It is gone with its connection.
    info["failover_timeout"] = json!(0.0);
    info
}

/// As what the leader shows the only framework, where the cell says so.
fn assert_principal(cluster: &Cluster, cell: &Value) {
    if let Some(principal) = cell.get("principal") {
        assert_eq!(frameworks(cluster)[0]["principal"], *principal, "{cell}");
    }
}

fn v0(cluster: &Cluster, cell: &Value) -> Value {
    let peer = Peer::new();
    let driver = Driver::new(&peer, cluster.leader);
    prove(cluster, &peer, &driver.pid(), cell);
    driver.call(json!({"type": "SUBSCRIBE", "subscribe": {"framework_info": described(cell)}}));
    let first = peer.next(&driver.name, SOON);
    let first = first.unwrap_or_else(|| panic!("{cell}: nothing came\n{}", cluster.logs()));
    match first.name.as_str() {
        "mesos.internal.FrameworkRegisteredMessage" => {
            driver.offer();
            assert_principal(cluster, cell);
            json!("offer")
        }
        "mesos.internal.FrameworkErrorMessage" => {
            // And nothing else.
            driver.settle();
            assert_eq!(driver.untaken(), Vec::<String>::new(), "{cell}");
            let error = decode(&first.name, &first.body);
            let text = error["message"].as_str().unwrap_or_default();
            json!({"error": text.replace(&driver.pid(), "PID")})
        }
        other => panic!("{cell}: {other}"),
    }
}

fn v1(cluster: &Cluster, cell: &Value) -> Value {
    let call = json!({"type": "SUBSCRIBE", "subscribe": {"framework_info": described(cell)}});
    let mut request = Request::post_json(SCHEDULER, &call).header("Accept", "application/json");
    let (credential, _) = identity("v1", cell["who"].as_str().unwrap_or_default());
    if let Some((principal, secret)) = credential {
        request = request.header("Authorization", &basic(principal, secret));
    }
    let mut connection = connect(cluster.leader, PATIENCE).expect("the leader accepts");
    let sent = connection.write_all(&request.to_bytes(cluster.leader));
    sent.expect("the leader reads");
    let reader = connection.try_clone().expect("a socket can be shared");
    let mut reader = BufReader::new(reader);
    let (status, headers) = read_head(&mut reader).expect("the leader answers");
    if status != 200 {
        let response = send(cluster.leader, &request).expect("the leader answers again");
        assert_eq!(response.status, status, "{cell}");
        let mut outcome = json!({"status": status, "body": response.text()});
        if let Some(challenge) = response.header("WWW-Authenticate") {
            outcome["www_authenticate"] = json!(challenge);
        }
        assert!(
            !headers
                .iter()
                .any(|(name, _)| name.eq_ignore_ascii_case("Mesos-Stream-Id")),
            "{headers:?}"
        );
        return outcome;
    }
    assert_offered(Chunks::new(reader), cell);
    assert_principal(cluster, cell);
    close(&connection);
    json!("offer")
}

/// Reads events until there are offers.
fn assert_offered(mut stream: Chunks<BufReader<TcpStream>>, cell: &Value) {
    loop {
        let record = read_record(&mut stream).unwrap_or_else(|error| panic!("{cell}: {error}"));
        let record = record.unwrap_or_else(|| panic!("{cell}: the stream ended"));
        let event: Value = serde_json::from_slice(&record).expect("events are JSON");
        match event["type"].as_str() {
            Some("OFFERS") => return,
            Some("SUBSCRIBED" | "HEARTBEAT") => {}
            other => panic!("{cell}: {other:?}"),
        }
    }
}

fn close(connection: &TcpStream) {
    connection.shutdown(std::net::Shutdown::Both).ok();
}

/// A follower in messages alone, which registers.
fn follower(cluster: &Cluster, peer: &Peer, cell: &Value) -> &'static str {
    let process = "slave(1)";
    let pid = peer.pid(process);
    prove(cluster, peer, &pid, cell);
    let scalar = |name: &str, value: f64| json!({"name": name, "type": "SCALAR", "scalar": {"value": value}, "role": "*"});
    let registration = json!({
        "slave": {
            "hostname": "follower.test", "port": peer.address().port(), "checkpoint": true,
            "resources": [scalar("cpus", 4.0), scalar("mem", 4096.0), scalar("disk", 4096.0)],
        },
        "version": "1.11.0",
        "agent_capabilities": [
            {"type": "MULTI_ROLE"}, {"type": "HIERARCHICAL_ROLE"}, {"type": "RESERVATION_REFINEMENT"},
        ],
    });
    let name = internal("RegisterSlaveMessage");
    let leader = format!("master@{}", cluster.leader);
    let sent = peer.send(process, &leader, &name, &encode(&name, &registration));
    sent.expect("the leader reads");
    let named = internal("SlaveRegisteredMessage");
    if cell["outcome"] == "silence" {
        settle(peer, cluster.leader);
        let untaken = peer.untaken();
        assert!(untaken.is_empty(), "{cell}: {}", peer.summary());
        assert!(!registered(cluster).contains(&pid), "{cell}");
        return "silence";
    }
    let answer = peer.take(SOON, |message| {
        message.to == process && message.name == named
    });
    assert!(
        answer.is_some(),
        "{cell}: {}\n{}",
        peer.summary(),
        cluster.logs()
    );
    assert!(eventually(SOON, || registered(cluster).contains(&pid)));
    "registered"
}
