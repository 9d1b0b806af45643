//! A server with a scripted service, and raw connections to it.

use std::{net::SocketAddr, sync::Arc, time::Duration};
use tepui_node::{
    http::{Delivery, Limits, Request, Response, Server, Service, response},
    net::{Stream, Transport},
};
use tepui_protocol::peer::{PeerMessage, Pid};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};

/// Far more than anything here takes; a test that gets here hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Answers by path; hands messages to the test.
pub(crate) struct Scripted {
    messages: mpsc::UnboundedSender<(Pid, String, PeerMessage)>,
}

impl Service for Scripted {
    async fn request(&self, request: Request) -> Response {
        match request.path().as_ref() {
            "/echo" => response::content("application/octet-stream", request.body),
            "/large" => response::json(&request, format!("\"{}\"", "x".repeat(100_000))),
            "/small" => response::json(&request, "{}".to_owned()),
            "/post" => response::method_not_allowed(&["POST"], &request.method),
            "/redirect" => response::redirect("leader.test", 5050, "/master/state"),
            _ => response::not_found(),
        }
    }

    async fn message(&self, delivery: Delivery) -> bool {
        let Delivery {
            from, to, message, ..
        } = delivery;
        let known = to == "master";
        self.messages
            .send((from, to, message))
            .expect("the test listens");
        known
    }
}

pub(crate) type Messages = mpsc::UnboundedReceiver<(Pid, String, PeerMessage)>;

/// A running server.
pub(crate) async fn serve(limits: Limits) -> (SocketAddr, Messages, Server) {
    serve_over(Transport::plain(), limits).await
}

/// A running server over some transport.
pub(crate) async fn serve_over(
    transport: Transport,
    limits: Limits,
) -> (SocketAddr, Messages, Server) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (messages, received) = mpsc::unbounded_channel();
    (
        address,
        received,
        Server::start(listener, transport, limits, Arc::new(Scripted { messages })),
    )
}

/// A raw connection.
pub(crate) struct Raw {
    stream: Stream,
    read: Vec<u8>,
}

/// A response as it stands on the wire.
#[derive(Debug)]
pub(crate) struct Wire {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Wire {
    /// A header, by its lower-case name.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("text")
    }
}

impl Raw {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self::over(Stream::Plain(
            TcpStream::connect(address).await.expect("connected"),
        ))
    }

    pub(crate) fn over(stream: Stream) -> Self {
        Self {
            stream,
            read: Vec::new(),
        }
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.expect("sent");
        self.stream.flush().await.expect("sent");
    }

    /// Reads more; `false` at the end.
    async fn more(&mut self) -> bool {
        let mut buffer = [0; 4096];
        let read = tokio::time::timeout(PATIENCE, self.stream.read(&mut buffer));
        let read = read.await.expect("the peer does something").unwrap_or(0);
        self.read.extend_from_slice(&buffer[..read]);
        read > 0
    }

    /// Reads up to and including some bytes.
    pub(crate) async fn until(&mut self, end: &[u8]) -> Vec<u8> {
        loop {
            if let Some(at) = self
                .read
                .windows(end.len())
                .position(|window| window == end)
            {
                return self.read.drain(..at + end.len()).collect();
            }
            let got = String::from_utf8_lossy(&self.read).into_owned();
            assert!(self.more().await, "the connection ended after: {got}");
        }
    }

    async fn exactly(&mut self, length: usize) -> Vec<u8> {
        while self.read.len() < length {
            assert!(self.more().await, "the connection ended early");
        }
        self.read.drain(..length).collect()
    }

    /// A response with a length.
    pub(crate) async fn response(&mut self) -> Wire {
        let head = String::from_utf8(self.until(b"\r\n\r\n").await).expect("a head");
        let status = head
            .split(' ')
            .nth(1)
            .and_then(|s| s.parse().ok())
            .expect("a status");
        let mut wire = Wire {
            status,
            head,
            body: Vec::new(),
        };
        let length = wire
            .header("content-length")
            .map(|l| l.parse().expect("a length"));
        wire.body = self.exactly(length.unwrap_or(0)).await;
        wire
    }

    /// One chunk of a chunked body.
    pub(crate) async fn chunk(&mut self) -> Vec<u8> {
        let length = String::from_utf8(self.until(b"\r\n").await).expect("a length");
        let length = usize::from_str_radix(length.trim(), 16).expect("a length");
        let chunk = self.exactly(length).await;
        self.exactly(2).await;
        chunk
    }

    /// Everything up to the end of the connection.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        while self.more().await {}
        std::mem::take(&mut self.read)
    }
}
