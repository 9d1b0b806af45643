//! Requests, messages and limits.

use crate::support::{Raw, serve};
use flate2::read::GzDecoder;
use std::{io::Read, time::Duration};
use tepui_node::http::Limits;
use tepui_protocol::{internal, libprocess, peer::PeerMessage, peer::Pid};

fn pid(text: &str) -> Pid {
    text.parse().expect("a process address")
}

fn ping(connected: bool) -> PeerMessage {
    internal::PingSlaveMessage { connected }.into()
}

fn frame(to: &str, message: &PeerMessage) -> Vec<u8> {
    let to = pid(&format!("{to}@127.0.0.1:1"));
    libprocess::request(
        &pid("slave(1)@127.0.0.1:5051"),
        &to,
        message.name(),
        &message.encode(),
    )
}

#[tokio::test]
async fn pipelined_messages_arrive_in_order_and_are_acknowledged() {
    let (address, mut messages, _server) = serve(Limits::default()).await;
    let mut peer = Raw::connect(address).await;
    // One write: chunked bodies, an empty body, and a request behind them.
    let mut bytes = Vec::new();
    for connected in [true, false, true] {
        bytes.extend(frame("master", &ping(connected)));
    }
    let pong: PeerMessage = internal::PongSlaveMessage {}.into();
    bytes.extend(frame("master", &pong));
    bytes.extend(frame("nobody", &pong));
    bytes.extend(b"GET /small HTTP/1.1\r\nHost: x\r\n\r\n");
    peer.send(bytes).await;
    for expected in [ping(true), ping(false), ping(true), pong] {
        let (from, to, message) = messages.recv().await.expect("a message");
        assert_eq!(
            (from, to.as_str()),
            (pid("slave(1)@127.0.0.1:5051"), "master")
        );
        assert_eq!(message, expected);
        let response = peer.response().await;
        assert_eq!(
            (response.status, response.header("content-length")),
            (202, Some("0"))
        );
        assert!(response.header("date").is_some());
        assert!(response.header("content-type").is_none());
    }
    assert_eq!(peer.response().await.status, 404);
    assert_eq!(peer.response().await.text(), "{}");
}

#[tokio::test]
async fn bodies_have_a_length_or_are_chunked() {
    let (address, _messages, _server) = serve(Limits::default()).await;
    let mut client = Raw::connect(address).await;
    client
        .send("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello")
        .await;
    assert_eq!(client.response().await.text(), "hello");
    client
        .send("POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await;
    client.send("3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n").await;
    assert_eq!(client.response().await.text(), "hello");
}

#[tokio::test]
async fn texts_and_headers_are_the_references() {
    let (address, _messages, _server) = serve(Limits::default()).await;
    let mut client = Raw::connect(address).await;
    client.send("PUT /post HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let response = client.response().await;
    let text = "405 Method Not Allowed. Expecting one of { 'POST' }, but received 'PUT'.";
    assert_eq!((response.status, response.text()), (405, text));
    assert_eq!(response.header("allow"), Some("POST"));
    assert_eq!(
        response.header("content-type"),
        Some("text/plain; charset=utf-8")
    );
    client
        .send("GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n")
        .await;
    assert_eq!(client.response().await.text(), "404 Not Found.");
    client
        .send("GET /redirect HTTP/1.1\r\nHost: x\r\n\r\n")
        .await;
    let response = client.response().await;
    assert_eq!(response.status, 307);
    assert_eq!(
        response.header("location"),
        Some("//leader.test:5050/master/state")
    );
    client
        .send("GET /small?jsonp=cb HTTP/1.1\r\nHost: x\r\n\r\n")
        .await;
    let response = client.response().await;
    assert_eq!(
        (response.text(), response.header("content-type")),
        ("cb({})", Some("text/javascript"))
    );
}

#[tokio::test]
async fn large_bodies_are_compressed_for_who_accepts_it() {
    let (address, _messages, _server) = serve(Limits::default()).await;
    let mut client = Raw::connect(address).await;
    client
        .send("GET /large HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip, deflate\r\n\r\n")
        .await;
    let response = client.response().await;
    assert_eq!(response.header("content-encoding"), Some("gzip"));
    assert!(response.body.len() < 10_000);
    let mut plain = String::new();
    GzDecoder::new(&response.body[..])
        .read_to_string(&mut plain)
        .expect("gzip");
    assert_eq!(plain.len(), 100_002);
    for (path, accept) in [("/large", "identity"), ("/small", "gzip")] {
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: x\r\nAccept-Encoding: {accept}\r\n\r\n");
        client.send(request).await;
        assert_eq!(client.response().await.header("content-encoding"), None);
    }
}

#[tokio::test]
async fn bodies_above_the_limit_are_refused() {
    let limits = Limits {
        body_bytes_max: 100,
        ..Limits::default()
    };
    let (address, _messages, _server) = serve(limits).await;
    let mut client = Raw::connect(address).await;
    client
        .send("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 101\r\n\r\n")
        .await;
    assert_eq!(client.response().await.status, 413);
    assert!(client.rest().await.is_empty());
    let mut client = Raw::connect(address).await;
    let chunk = format!("80\r\n{}\r\n", "x".repeat(128));
    let head = "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    client.send(format!("{head}{chunk}")).await;
    assert_eq!(client.response().await.status, 413);
}

#[tokio::test]
async fn heads_above_the_limit_are_refused() {
    let limits = Limits {
        head_bytes_max: 8192,
        ..Limits::default()
    };
    let (address, _messages, _server) = serve(limits).await;
    let mut client = Raw::connect(address).await;
    client
        .send(format!(
            "GET / HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n",
            "x".repeat(20_000)
        ))
        .await;
    assert_eq!(client.response().await.status, 431);
}

#[tokio::test]
async fn a_head_that_never_ends_does_not_hold_its_connection() {
    let limits = Limits {
        head_timeout: Duration::from_millis(50),
        ..Limits::default()
    };
    let (address, _messages, _server) = serve(limits).await;
    let mut idle = Raw::connect(address).await;
    let mut slow = Raw::connect(address).await;
    slow.send("GET /small HTTP/1.1\r\nHost: x\r\nX-Slow").await;
    slow.rest().await;
    // Also after a good request, and whoever is merely idle is left alone.
    let mut slow = Raw::connect(address).await;
    slow.send("GET /small HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!(slow.response().await.status, 200);
    slow.send("GET").await;
    slow.rest().await;
    idle.send("GET /small HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!(idle.response().await.status, 200);
}

#[tokio::test]
async fn silent_connections_and_slow_bodies_end() {
    let limits = Limits {
        first_byte_timeout: Duration::from_millis(50),
        body_timeout: Duration::from_millis(50),
        idle_timeout: Duration::from_millis(50),
        ..Limits::default()
    };
    let (address, _messages, _server) = serve(limits).await;
    Raw::connect(address).await.rest().await;
    let mut slow = Raw::connect(address).await;
    slow.send("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhel")
        .await;
    assert_eq!(slow.response().await.status, 408);
    assert!(slow.rest().await.is_empty());
    let mut idle = Raw::connect(address).await;
    idle.send("GET /small HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!(idle.response().await.status, 200);
    assert!(idle.rest().await.is_empty());
}

#[tokio::test]
async fn connections_above_the_limit_wait_their_turn() {
    let limits = Limits {
        connections_max: 1,
        ..Limits::default()
    };
    let (address, _messages, _server) = serve(limits).await;
    let request = "GET /small HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let mut first = Raw::connect(address).await;
    first.send("GET /small HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!(first.response().await.status, 200);
    let mut second = Raw::connect(address).await;
    second.send(request).await;
    first.send(request).await;
    assert_eq!(first.response().await.status, 200);
    assert_eq!(second.response().await.status, 200);
}

#[tokio::test]
async fn what_is_not_http_and_messages_without_a_sender_are_bad_requests() {
    let (address, _messages, _server) = serve(Limits::default()).await;
    let mut client = Raw::connect(address).await;
    client.send("nonsense\r\n\r\n").await;
    assert_eq!(client.response().await.status, 400);
    let mut client = Raw::connect(address).await;
    client
        .send("POST /master/M HTTP/1.1\r\nHost: x\r\nLibprocess-From: nobody\r\n\r\n")
        .await;
    assert_eq!(client.response().await.status, 400);
    // An unknown or garbled message costs its sender nothing but the message.
    client
        .send("POST /master/M HTTP/1.1\r\nHost: x\r\nLibprocess-From: a@127.0.0.1:1\r\n\r\n")
        .await;
    assert_eq!(client.response().await.status, 202);
}

#[tokio::test]
async fn a_stopped_server_closes_idle_connections() {
    let (address, _messages, server) = serve(Limits::default()).await;
    let mut idle = Raw::connect(address).await;
    idle.send("GET /small HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!(idle.response().await.status, 200);
    server.stop().await;
    assert!(idle.rest().await.is_empty());
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}
