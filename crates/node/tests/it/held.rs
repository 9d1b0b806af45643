//! Many connections held for nothing: everybody else is served meanwhile, and the connections end by themselves.

use crate::support::{PATIENCE, Raw, serve};
use std::time::{Duration, Instant};
use tepui_node::http::Limits;
use tepui_protocol::{internal, libprocess, peer::PeerMessage};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// Connections of each kind.
const HELD: usize = 400;

const BEGINNINGS: &[(&str, &[u8])] = &[
    ("silent", b""),
    ("an unfinished head", b"GET /small HTTP/1.1\r\nHost: x\r\nX-Slow: "),
    (
        "an unfinished body",
        b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\n{",
    ),
    (
        "an unfinished message",
        b"POST /master/mesos.internal.PongSlaveMessage HTTP/1.1\r\nLibprocess-From: slave(1)@127.0.0.1:1\r\nContent-Length: 50\r\n\r\n{",
    ),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_held_for_nothing_harm_nobody_and_end() {
    let patience = Duration::from_secs(3);
    let limits = Limits {
        first_byte_timeout: patience,
        head_timeout: patience,
        body_timeout: patience,
        ..Limits::default()
    };
    let (address, mut messages, _server) = serve(limits).await;
    let mut held = Vec::new();
    for (name, beginning) in BEGINNINGS {
        for _ in 0..HELD {
            let mut stream = TcpStream::connect(address).await.expect("connected");
            stream.write_all(beginning).await.expect("sent");
            held.push((*name, stream));
        }
    }
    let begun = Instant::now();

    // Requests and messages are answered as if they were alone.
    let (from, to) = ("slave(2)@127.0.0.1:1".parse(), "master@127.0.0.1:2".parse());
    let pong = PeerMessage::from(internal::PongSlaveMessage {});
    let frame = libprocess::request(
        &from.expect("an address"),
        &to.expect("an address"),
        pong.name(),
        &pong.encode(),
    );
    let mut answered = 0;
    while begun.elapsed() < Duration::from_secs(1) || answered < 100 {
        let mut client = Raw::connect(address).await;
        client.send("GET /small HTTP/1.1\r\nHost: x\r\n\r\n").await;
        assert_eq!(client.response().await.status, 200);
        let mut peer = Raw::connect(address).await;
        peer.send(&frame).await;
        let message = tokio::time::timeout(PATIENCE, messages.recv())
            .await
            .expect("a message in time");
        assert_eq!(message.expect("a message").2, pong);
        answered += 1;
    }

    // A byte now and then changes nothing: a head and a body have a time for the whole.
    for (name, stream) in &mut held {
        if *name != "silent" {
            stream
                .write_all(b"x")
                .await
                .expect("sent before its time is up");
        }
    }
    let mut rest = Vec::new();
    for (name, mut stream) in held {
        rest.clear();
        let end = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await;
        // Closed with unread bytes it may be reset, which is an end too.
        let _ = end.unwrap_or_else(|_| panic!("{name} is still open after {:?}", begun.elapsed()));
        if name == "an unfinished body" {
            let answer = String::from_utf8_lossy(&rest);
            assert!(
                answer.is_empty() || answer.starts_with("HTTP/1.1 408 "),
                "{answer}"
            );
        }
    }
    assert!(
        begun.elapsed() >= Duration::from_secs(2),
        "they are not cut off at once"
    );
}
