//! Peers that break HTTP itself, are slow, or send too much: the leader answers or hangs up, and serves everyone else.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::json;
use tepui_tests::cluster::{Cluster, Part};
use tepui_tests::http::{PATIENCE, Request, connect, send, send_raw};
use tepui_tests::scheduler::SCHEDULER;
use tepui_tests::wait::eventually;

/// Bytes that are not a request, and whether our side then ends its half of the connection.
const NOT_HTTP: &[(&str, &[u8], bool)] = &[
    ("noise", b"\x00\x01\x02\x03\r\n\r\n", false),
    ("a TLS hello", b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03\r\n\r\n", true),
    ("no version", b"GET /health\r\n\r\n", false),
    ("a version to come", b"GET /health HTTP/9.9\r\n\r\n", false),
    ("spaces in the path", b"GET /a b c HTTP/1.1\r\nHost: x\r\n\r\n", false),
    ("a header without a colon", b"GET /health HTTP/1.1\r\nHost x\r\n\r\n", false),
    ("a zero byte in a header", b"GET /health HTTP/1.1\r\nHost: x\r\nX: a\x00b\r\n\r\n", false),
    ("a space before the colon", b"GET /health HTTP/1.1\r\nHost : x\r\n\r\n", false),
    ("a negative length", b"POST /api/v1 HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", false),
    ("a length in words", b"POST /api/v1 HTTP/1.1\r\nHost: x\r\nContent-Length: many\r\n\r\n", false),
    ("two lengths", b"POST /api/v1 HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}", false),
    (
        "a chunk size in words",
        b"POST /api/v1 HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
        false,
    ),
    (
        "a chunk that never ends",
        b"POST /api/v1 HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n{}",
        true,
    ),
    (
        "a body shorter than its length",
        b"POST /api/v1 HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{}",
        true,
    ),
    ("half a request line", b"GET /hea", true),
    ("nothing", b"", true),
];

fn healthy(leader: SocketAddr) -> bool {
    send(leader, &Request::get("/health")).is_ok_and(|response| response.status == 200)
}

#[test]
fn what_is_not_http_is_refused_or_hung_up_on() {
    let mut cluster = Cluster::mixed();
    for at in [cluster.leader, cluster.follower] {
        for (name, bytes, half_close) in NOT_HTTP {
            // Hanging up without a word is an answer too: what counts is that it is never taken for a request.
            if let Ok(response) = send_raw(at, bytes, *half_close) {
                assert!(
                    (400..=505).contains(&response.status),
                    "{name}: {} {}",
                    response.status,
                    response.text()
                );
            }
            assert!(healthy(at), "serves on after {name}");
        }
    }
    assert!(cluster.serves());
}

#[test]
fn slow_clients_hold_up_nobody() {
    let mut cluster = Cluster::mixed();
    let head = b"POST /api/v1/scheduler HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 50\r\n\r\n{";
    // Each stops at another byte and keeps its connection.
    let slow: Vec<_> = (0..200)
        .map(|number| {
            let mut connection =
                connect(cluster.leader, PATIENCE).expect("the leader accepts connections");
            connection
                .write_all(&head[..1 + number % head.len()])
                .expect("the leader reads");
            connection
        })
        .collect();
    for _ in 0..20 {
        assert!(healthy(cluster.leader), "serves others meanwhile");
        assert_eq!(
            cluster.json("/slaves")["slaves"].as_array().map(Vec::len),
            Some(1)
        );
    }
    drop(slow);
    assert!(cluster.serves());
}

#[test]
fn a_client_that_never_reads_its_answers_holds_up_nobody() {
    let mut cluster = Cluster::mixed();
    let mut connection =
        connect(cluster.leader, Duration::from_secs(2)).expect("the leader accepts connections");
    let request = Request::get("/metrics/snapshot").to_bytes(cluster.leader);
    // Pipelined without reading until the leader stops taking more, or enough was sent to fill any buffer.
    for _ in 0..20_000 {
        if connection.write_all(&request).is_err() {
            break;
        }
    }
    assert!(healthy(cluster.leader));
    drop(connection);
    assert!(cluster.serves());
}

#[test]
fn oversized_heads_are_refused() {
    let mut cluster = Cluster::mixed();
    let long = "x".repeat(4 << 20);
    let path = format!("GET /{long} HTTP/1.1\r\nHost: x\r\n\r\n");
    let header = format!("GET /health HTTP/1.1\r\nHost: x\r\nX-Long: {long}\r\n\r\n");
    let many = format!(
        "GET /health HTTP/1.1\r\nHost: x\r\n{}\r\n",
        "X-Many: y\r\n".repeat(200_000)
    );
    for (name, head) in [
        ("a long path", path),
        ("a long header", header),
        ("many headers", many),
    ] {
        if let Ok(response) = send_raw(cluster.leader, head.as_bytes(), false) {
            assert!(
                [400, 413, 414, 431].contains(&response.status),
                "{name}: {}",
                response.status
            );
        }
        assert!(cluster.serves(), "after {name}");
    }
}

#[test]
fn oversized_bodies_are_refused_before_they_are_kept() {
    let mut cluster = Cluster::mixed();
    // A terabyte, announced: nothing of it is sent, so an answer can only come from the announcement.
    let announced = Request {
        method: "POST".into(),
        path: SCHEDULER.into(),
        ..Request::default()
    }
    .header("Content-Type", "application/json")
    .header("Content-Length", "1099511627776");
    let answer = send_raw(cluster.leader, &announced.to_bytes(cluster.leader), false);
    let answer = answer.expect("an announced terabyte is answered, not waited for");
    assert_eq!(answer.status, 413, "{}", answer.text());

    // The same in chunks, where only counting helps. A gigabyte at most is sent, far beyond any call.
    let head = format!(
        "POST {SCHEDULER} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    );
    let mut connection = connect(cluster.leader, PATIENCE).expect("the leader accepts connections");
    connection
        .write_all(head.as_bytes())
        .expect("the leader reads");
    let chunk = [
        b"100000\r\n".to_vec(),
        vec![b' '; 0x10_0000],
        b"\r\n".to_vec(),
    ]
    .concat();
    let sent = (0..1024)
        .take_while(|_| connection.write_all(&chunk).is_ok())
        .count();
    assert!(sent < 1024, "the leader hangs up on an endless body");
    assert!(cluster.serves());
    assert!(
        resident_mib(&cluster) < 1024,
        "{} MiB resident",
        resident_mib(&cluster)
    );
}

fn resident_mib(cluster: &Cluster) -> u64 {
    let status = std::fs::read_to_string(format!(
        "/proc/{}/status",
        cluster.process(Part::Leader).id()
    ));
    let status = status.expect("the leader's process is there");
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS:"))
        .expect("a process has a resident size");
    line.split_whitespace()
        .nth(1)
        .and_then(|kib| kib.parse::<u64>().ok())
        .expect("in KiB")
        / 1024
}

#[test]
fn subscribers_that_vanish_are_noticed() {
    let cluster = Cluster::mixed();
    let call = json!({"type": "SUBSCRIBE", "subscribe": {"framework_info": {"user": "root", "name": "vanishing"}}});
    for _ in 0..20 {
        let mut connection =
            connect(cluster.leader, PATIENCE).expect("the leader accepts connections");
        connection
            .write_all(&Request::post_json(SCHEDULER, &call).to_bytes(cluster.leader))
            .expect("the leader reads");
        let mut first = [0; 1];
        connection
            .read_exact(&mut first)
            .expect("the leader answers");
    }
    // Their failover time-out is nothing, so each is removed once its connection is known to be gone.
    let gone = || {
        let state = cluster.json("/frameworks");
        let active = state["frameworks"].as_array().map_or(0, Vec::len);
        let completed = state["completed_frameworks"].as_array().map_or(0, Vec::len);
        active == 0 && completed == 20
    };
    assert!(
        eventually(Duration::from_secs(30), gone),
        "{}",
        cluster.json("/frameworks")
    );
}
