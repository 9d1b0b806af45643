//! Messages of peers: what they cost, in which order they arrive, and what a bad peer can do to others.

use crate::support::{PATIENCE, Raw, serve};
use proptest::prelude::*;
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tepui_node::{
    http::{Delivery, Limits, Request, Response, Server, Service, response},
    net::{LinkOptions, Links, OpenFiles, Transport},
};
use tepui_protocol::{internal, libprocess, peer::PeerMessage, peer::Pid};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::timeout,
};

fn pid(text: &str) -> Pid {
    text.parse().expect("a process address")
}

fn ping(connected: bool) -> PeerMessage {
    internal::PingSlaveMessage { connected }.into()
}

fn frame(from: &str, message: &PeerMessage) -> Vec<u8> {
    let to = pid("master@127.0.0.1:1");
    libprocess::request(&pid(from), &to, message.name(), &message.encode())
}

/// Keeps what it is given, permits included, as a core does that is busy.
struct Busy(mpsc::UnboundedSender<Delivery>);

impl Service for Busy {
    async fn request(&self, _: Request) -> Response {
        response::ok()
    }

    async fn message(&self, delivery: Delivery) -> bool {
        self.0.send(delivery).expect("the test listens");
        true
    }
}

async fn busy(limits: Limits) -> (SocketAddr, mpsc::UnboundedReceiver<Delivery>, Server) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (tell, deliveries) = mpsc::unbounded_channel();
    let service = Arc::new(Busy(tell));
    let server = Server::start(listener, Transport::plain(), limits, service);
    (address, deliveries, server)
}

async fn next(deliveries: &mut mpsc::UnboundedReceiver<Delivery>) -> Delivery {
    let next = timeout(PATIENCE, deliveries.recv()).await;
    next.expect("in time").expect("a message")
}

#[tokio::test]
async fn who_floods_waits_for_itself_and_nobody_else_does() {
    let limits = Limits {
        inputs_max: 5,
        ..Limits::default()
    };
    let (address, mut deliveries, _server) = busy(limits).await;
    let flooder = "slave(1)@127.0.0.1:1";
    let mut flood = TcpStream::connect(address).await.expect("connected");
    let bytes = frame(flooder, &ping(true)).repeat(100);
    flood.write_all(&bytes).await.expect("sent");
    let mut held = Vec::new();
    for _ in 0..5 {
        held.push(next(&mut deliveries).await);
    }
    // The core has handled nothing yet, and 95 messages wait on the flooder's connection.
    let mut other = Raw::connect(address).await;
    for _ in 0..3 {
        other
            .send(frame("slave(1)@127.0.0.1:2", &ping(false)))
            .await;
        let delivery = next(&mut deliveries).await;
        assert_eq!(delivery.from, pid("slave(1)@127.0.0.1:2"));
        assert_eq!(other.response().await.status, 202);
    }
    // As many go on as are handled.
    held.truncate(3);
    for _ in 0..2 {
        held.push(next(&mut deliveries).await);
    }
    drop(held);
    for _ in 7..100 {
        assert_eq!(next(&mut deliveries).await.from, pid(flooder));
    }
}

#[tokio::test]
async fn who_does_not_read_answers_is_not_read_and_then_closed() {
    let limits = Limits {
        write_timeout: Duration::from_millis(100),
        ..Limits::default()
    };
    let (address, mut deliveries, _server) = busy(limits).await;
    let drain = tokio::spawn(async move { while deliveries.recv().await.is_some() {} });
    let mut flood = TcpStream::connect(address).await.expect("connected");
    let bytes = frame("slave(1)@127.0.0.1:1", &ping(true)).repeat(1000);
    let closed = async { while flood.write_all(&bytes).await.is_ok() {} };
    timeout(PATIENCE, closed).await.expect("closed");
    let mut other = Raw::connect(address).await;
    other.send(frame("a@127.0.0.1:2", &ping(true))).await;
    assert_eq!(other.response().await.status, 202);
    drain.abort();
}

#[tokio::test]
async fn silent_and_slow_connections_make_room_for_others() {
    let limits = Limits {
        connections_max: 8,
        ..Limits::default()
    };
    let (address, _messages, _server) = serve(limits).await;
    let mut known = Raw::connect(address).await;
    known.send(frame("a@127.0.0.1:1", &ping(true))).await;
    assert_eq!(known.response().await.status, 202);
    let mut crowd = Vec::new();
    for n in 0..50 {
        let mut connection = Raw::connect(address).await;
        match n % 3 {
            0 => {}
            1 => connection.send("POST /master/M HTTP/1.1\r\nLib").await,
            _ => connection.send("GET / HTTP/1.1\r\nX").await,
        }
        crowd.push(connection);
    }
    for n in 0..20 {
        let mut peer = Raw::connect(address).await;
        let from = format!("slave({n})@127.0.0.1:1");
        peer.send(frame(&from, &ping(true))).await;
        assert_eq!(peer.response().await.status, 202);
    }
    // The oldest of the crowd went first; who has said something stays.
    for connection in &mut crowd[..40] {
        connection.rest().await;
    }
    known.send(frame("a@127.0.0.1:1", &ping(true))).await;
    assert_eq!(known.response().await.status, 202);
}

#[tokio::test]
async fn messages_that_never_end_do_not_hold_their_connections() {
    let limits = Limits {
        head_timeout: Duration::from_millis(50),
        body_timeout: Duration::from_millis(50),
        ..Limits::default()
    };
    let (address, mut messages, _server) = serve(limits).await;
    let whole = frame("a@127.0.0.1:1", &ping(true));
    let mut idle = Raw::connect(address).await;
    idle.send(&whole).await;
    assert_eq!(idle.response().await.status, 202);
    let mut head = Raw::connect(address).await;
    head.send("POST /master/M HTTP/1.1\r\nLibprocess-From")
        .await;
    assert!(head.rest().await.is_empty());
    let mut body = Raw::connect(address).await;
    // After a whole message too.
    body.send(&whole).await;
    assert_eq!(body.response().await.status, 202);
    body.send(&whole[..whole.len() - 3]).await;
    let refusal = body.response().await;
    assert_eq!(
        (refusal.status, refusal.text()),
        (408, "408 Request Timeout.")
    );
    assert!(body.rest().await.is_empty());
    idle.send(&whole).await;
    assert_eq!(idle.response().await.status, 202);
    for _ in 0..3 {
        messages.recv().await.expect("a message");
    }
    assert!(messages.try_recv().is_err());
}

#[tokio::test]
async fn malformed_and_oversized_messages_close_their_connection_only() {
    let limits = Limits {
        body_bytes_max: 100,
        ..Limits::default()
    };
    let (address, _messages, _server) = serve(limits).await;
    let whole = frame("a@127.0.0.1:1", &ping(true));
    let mut good = Raw::connect(address).await;
    let head = "POST /master/M HTTP/1.1\r\nLibprocess-From: a@127.0.0.1:1\r\n";
    for (rest, status) in [
        ("Content-Length: 101\r\n\r\n", 413),
        ("Transfer-Encoding: chunked\r\n\r\n65\r\n", 413),
        ("Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
    ] {
        let mut bad = Raw::connect(address).await;
        bad.send(&whole).await;
        bad.send(format!("{head}{rest}")).await;
        assert_eq!(bad.response().await.status, 202);
        let refusal = bad.response().await;
        assert_eq!(
            (refusal.status, refusal.header("connection")),
            (status, Some("close"))
        );
        assert!(bad.rest().await.is_empty());
        good.send(&whole).await;
        assert_eq!(good.response().await.status, 202);
    }
    // A message that is nobody's costs itself.
    let mut odd = Raw::connect(address).await;
    odd.send(format!("{head}\r\n").replace("/master/M", "/master"))
        .await;
    assert_eq!(odd.response().await.status, 400);
    odd.send(&whole).await;
    assert_eq!(odd.response().await.status, 202);
}

#[tokio::test]
async fn senders_may_have_to_be_at_the_address_they_name() {
    let limits = Limits {
        peer_ip_must_match: true,
        ..Limits::default()
    };
    let (address, mut messages, _server) = serve(limits).await;
    let mut peer = TcpStream::connect(address).await.expect("connected");
    let local = peer.local_addr().expect("an address");
    let request = frame("slave(1)@10.9.8.7:5051", &ping(true));
    peer.write_all(&request).await.expect("sent");
    let expected = format!(
        "UPID IP address validation failed: Message from slave(1)@10.9.8.7:5051 was sent from IP {local}"
    );
    let mut answer = vec![0; 4096];
    let mut got = String::new();
    while !got.contains(&expected) {
        let read = timeout(PATIENCE, peer.read(&mut answer)).await;
        let read = read.expect("in time").expect("read");
        assert!(read > 0, "{got}");
        got.push_str(&String::from_utf8_lossy(&answer[..read]));
    }
    assert!(got.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{got}");
    let mut honest = Raw::connect(address).await;
    honest.send(frame("a@127.0.0.1:5051", &ping(true))).await;
    assert_eq!(honest.response().await.status, 202);
    let first = messages.recv().await.expect("a message");
    assert_eq!(first.0, pid("a@127.0.0.1:5051"));
}

#[tokio::test]
async fn what_was_sent_whole_counts_even_if_its_sender_is_gone() {
    let (address, mut messages, _server) = serve(Limits::default()).await;
    let mut peer = TcpStream::connect(address).await.expect("connected");
    let bytes = frame("a@127.0.0.1:1", &ping(true)).repeat(500);
    peer.write_all(&bytes).await.expect("sent");
    drop(peer);
    for _ in 0..500 {
        let message = timeout(PATIENCE, messages.recv()).await.expect("in time");
        assert_eq!(message.expect("a message").2, ping(true));
    }
}

#[tokio::test]
async fn peers_speak_ipv6() {
    let Ok(listener) = TcpListener::bind("[::1]:0").await else {
        // A machine without IPv6.
        return;
    };
    let address = listener.local_addr().expect("an address");
    let (tell, mut deliveries) = mpsc::unbounded_channel();
    let limits = Limits {
        peer_ip_must_match: true,
        ..Limits::default()
    };
    let _server = Server::start(listener, Transport::plain(), limits, Arc::new(Busy(tell)));
    let mut peer = Raw::connect(address).await;
    peer.send(frame("slave(1)@[::1]:5051", &ping(true))).await;
    assert_eq!(peer.response().await.status, 202);
    assert_eq!(next(&mut deliveries).await.from, pid("slave(1)@[::1]:5051"));
}

#[tokio::test]
async fn connections_and_links_share_the_files_of_a_process() {
    let open_files = OpenFiles::within(8);
    let limits = Limits {
        open_files: open_files.clone(),
        ..Limits::default()
    };
    // Six of eight are for connections.
    let (address, mut messages, _server) = serve(limits).await;
    let mut known = Vec::new();
    for n in 0..4 {
        let mut peer = Raw::connect(address).await;
        let from = format!("slave({n})@127.0.0.1:1");
        peer.send(frame(&from, &ping(true))).await;
        assert_eq!(peer.response().await.status, 202);
        known.push(peer);
        messages.recv().await.expect("a message");
    }
    let (tell, mut broken) = mpsc::unbounded_channel();
    let options = LinkOptions {
        open_files,
        ..LinkOptions::default()
    };
    let (links, _end) = Links::new(
        address,
        options,
        Transport::plain(),
        tokio::runtime::Handle::current(),
        move |pid| tell.send(pid).expect("the test listens"),
    );
    let mut listeners = Vec::new();
    for n in 0..3 {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let to = Pid {
            name: format!("p{n}"),
            address: listener.local_addr().expect("an address"),
        };
        links.send("master", &to, &ping(true));
        listeners.push((listener, to));
    }
    // Two links fit; for the third the oldest went.
    let gone = timeout(PATIENCE, broken.recv()).await.expect("news");
    assert_eq!(gone.expect("news"), listeners[0].1);
    for (listener, to) in &listeners {
        let (mut stream, _) = listener.accept().await.expect("a link");
        let mut start = vec![0; to.name.len() + 7];
        stream.read_exact(&mut start).await.expect("a message");
        assert_eq!(start, format!("POST /{}/", to.name).into_bytes());
        known.push(Raw::connect(address).await);
    }
    assert!(broken.try_recv().is_err());
}

/// What a connection led to: statuses in order, and what was delivered.
type Outcome = (Vec<u16>, Vec<(Pid, String, PeerMessage)>);

/// Sends bytes, says that this is all, and waits for the end.
async fn outcome(first: &str, bytes: &[u8]) -> Outcome {
    let limits = Limits {
        body_bytes_max: 2048,
        ..Limits::default()
    };
    let (address, mut messages, server) = serve(limits).await;
    let mut peer = TcpStream::connect(address).await.expect("connected");
    // The peer may be cut off early.
    let _ = peer.write_all(first.as_bytes()).await;
    let _ = peer.write_all(bytes).await;
    let _ = peer.shutdown().await;
    let mut answers = Vec::new();
    let _ = timeout(PATIENCE, peer.read_to_end(&mut answers)).await;
    server.stop().await;
    let mut delivered = Vec::new();
    while let Ok(message) = messages.try_recv() {
        delivered.push(message);
    }
    let text = String::from_utf8_lossy(&answers);
    let statuses = text
        .match_indices("HTTP/1.1 ")
        .filter_map(|(at, _)| text.get(at + 9..at + 12)?.parse().ok())
        .skip(usize::from(!first.is_empty()))
        .collect();
    (statuses, delivered)
}

/// Messages in all their shapes, with a byte changed or not. No change of their sender's address makes
/// it the name of a host: looking that up takes longer than hyper waits for a peer that has closed its end.
fn talk() -> impl Strategy<Value = Vec<u8>> {
    let message = (0..8_u8, any::<bool>()).prop_map(|(shape, connected)| {
        let message = ping(connected);
        let (body, name) = (message.encode(), message.name());
        let head =
            format!("POST /master/{name} HTTP/1.1\r\nHost: x\r\nLibprocess-From: a@[::1]:9\r\n");
        let (rest, body): (String, Vec<u8>) = match shape {
            0 => return frame("b@[::1]:9", &message),
            1 => (format!("Content-Length: {}\r\n\r\n", body.len()), body),
            2 => {
                let chunks = body
                    .iter()
                    .map(|byte| [b"1;x=y\r\n".as_slice(), &[*byte], b"\r\n"].concat());
                let chunks = chunks.collect::<Vec<_>>().concat();
                let last = b"0\r\nT: t\r\n\r\n".as_slice();
                (
                    "Transfer-Encoding: chunked\r\n\r\n".into(),
                    [&chunks, last].concat(),
                )
            }
            3 => ("Content-Length: 4096\r\n\r\n".into(), vec![b'x'; 4096]),
            4 => ("X: y\r\n\r\n".into(), Vec::new()),
            5 => ("Expect: 1\r\nContent-Length: 2\r\n\r\n".into(), body),
            6 => (
                "Content-Length: 2\r\nContent-Length: 2\r\n\r\n".into(),
                body,
            ),
            _ => return b"GET /small HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
        };
        [head.into_bytes(), rest.into_bytes(), body].concat()
    });
    let damage = proptest::option::weighted(0.5, (any::<prop::sample::Index>(), any::<u8>()));
    let messages = prop::collection::vec(message, 1..4).prop_map(|all| all.concat());
    (messages, damage).prop_map(|(mut bytes, damage)| {
        if let Some((at, byte)) = damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// After a request, a connection is hyper's: what it delivers is what the light reading does.
    #[test]
    fn light_reading_and_hyper_agree(bytes in talk()) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let light = runtime.block_on(outcome("", &bytes));
        let request = "GET /small HTTP/1.1\r\nHost: x\r\n\r\n";
        let hyper = runtime.block_on(outcome(request, &bytes));
        prop_assert_eq!(light, hyper, "{}", String::from_utf8_lossy(&bytes));
    }
}
