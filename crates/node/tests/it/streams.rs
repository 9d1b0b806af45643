//! Event streams.

use crate::support::{PATIENCE, Raw};
use std::{net::SocketAddr, sync::Arc, sync::Mutex};
use tepui_model::StreamId;
use tepui_node::{
    http::{
        ContentType, Delivery, Limits, Request, Response, Server, Service, media,
        stream::{ClosedStreams, Record, Streams},
    },
    net::Transport,
};
use tepui_protocol::v1::scheduler;
use tokio::{net::TcpListener, time::timeout};

/// Opens a stream for every request.
struct Opener(Arc<Mutex<Streams>>);

impl Service for Opener {
    async fn request(&self, request: Request) -> Response {
        let id = request
            .query("id")
            .expect("an id")
            .parse()
            .expect("a number");
        let content_type = media::accept(&request).expect("acceptable");
        self.0
            .lock()
            .expect("whole")
            .open(stream(id), content_type, true)
    }

    async fn message(&self, _: Delivery) -> bool {
        false
    }
}

fn stream(id: u128) -> StreamId {
    StreamId(uuid::Uuid::from_u128(id))
}

struct Rig {
    address: SocketAddr,
    streams: Arc<Mutex<Streams>>,
    closed: ClosedStreams,
    _server: Server,
}

impl Rig {
    async fn new(bytes_max: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (streams, closed) = Streams::new(bytes_max);
        let streams = Arc::new(Mutex::new(streams));
        let service = Arc::new(Opener(streams.clone()));
        let _server = Server::start(listener, Transport::plain(), Limits::default(), service);
        Self {
            address,
            streams,
            closed,
            _server,
        }
    }

    async fn open(&self, id: u128, accept: &str) -> Raw {
        let mut client = Raw::connect(self.address).await;
        // Chunked even for those who ask for the connection to be closed.
        let close = "Connection: close\r\n";
        client
            .send(format!(
                "POST /?id={id} HTTP/1.1\r\nHost: x\r\n{close}Accept: {accept}\r\n\r\n"
            ))
            .await;
        let head = client.response().await;
        assert_eq!(head.status, 200);
        assert_eq!(head.header("transfer-encoding"), Some("chunked"));
        assert_eq!(head.header("content-type"), Some(accept));
        assert_eq!(
            head.header("mesos-stream-id"),
            Some(stream(id).to_string().as_str())
        );
        client
    }

    fn send(&self, id: u128, record: &Arc<Record>) {
        self.streams.lock().expect("whole").send(stream(id), record);
    }

    async fn next_closed(&mut self) -> StreamId {
        timeout(PATIENCE, self.closed.recv())
            .await
            .expect("news")
            .expect("news")
    }
}

fn heartbeat() -> Arc<Record> {
    Record::new(Arc::new(scheduler::Event {
        r#type: Some(scheduler::event::Type::Heartbeat.into()),
        ..Default::default()
    }))
}

#[tokio::test]
async fn records_are_written_as_each_client_wants_them_one_a_chunk() {
    let rig = Rig::new(1 << 20).await;
    let mut json = rig.open(1, "application/json").await;
    let mut protobuf = rig.open(2, "application/x-protobuf").await;
    let record = heartbeat();
    for _ in 0..2 {
        rig.send(1, &record);
        rig.send(2, &record);
    }
    for _ in 0..2 {
        assert_eq!(json.chunk().await, b"20\n{\"type\":\"HEARTBEAT\"}");
        assert_eq!(protobuf.chunk().await, b"2\n\x08\x08");
    }
    rig.streams.lock().expect("whole").close(stream(1));
    assert_eq!(json.rest().await, b"0\r\n\r\n");
}

#[tokio::test]
async fn an_event_is_encoded_once_per_content_type() {
    use std::sync::atomic::{AtomicUsize, Ordering};
    let rig = Rig::new(1 << 20).await;
    let mut clients = Vec::new();
    for id in 0..3 {
        clients.push(rig.open(id, "application/json").await);
    }
    clients.push(rig.open(3, "application/x-protobuf").await);
    let encoded = Arc::new(AtomicUsize::new(0));
    let count = encoded.clone();
    let record = Record::lazy(1, move |content_type| {
        count.fetch_add(1, Ordering::Relaxed);
        if content_type == ContentType::Json {
            "j".into()
        } else {
            "p".into()
        }
    });
    (0..4).for_each(|id| rig.send(id, &record));
    for (client, expected) in clients.iter_mut().zip(["j", "j", "j", "p"]) {
        assert_eq!(client.chunk().await, format!("1\n{expected}").into_bytes());
    }
    assert_eq!(encoded.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn a_client_that_leaves_is_told_once() {
    let mut rig = Rig::new(1 << 20).await;
    let client = rig.open(1, "application/json").await;
    drop(client);
    assert_eq!(rig.next_closed().await, stream(1));
    assert!(rig.streams.lock().expect("whole").closed(stream(1)));
    assert!(!rig.streams.lock().expect("whole").closed(stream(1)));
    rig.send(1, &heartbeat());
    assert!(rig.streams.lock().expect("whole").is_empty());
}

#[tokio::test]
async fn a_client_that_does_not_read_loses_its_stream_and_others_go_on() {
    let mut rig = Rig::new(1 << 20).await;
    let _stuck = rig.open(1, "application/json").await;
    let mut reader = rig.open(2, "application/json").await;
    let large = Record::lazy(1 << 18, |_| vec![b'x'; 1 << 18].into());
    let mut sent = 0;
    let closed = loop {
        rig.send(1, &large);
        rig.send(2, &heartbeat());
        assert_eq!(reader.chunk().await, b"20\n{\"type\":\"HEARTBEAT\"}");
        sent += 1;
        assert!(sent < 1000, "the queue is bounded");
        if let Ok(closed) = rig.closed.try_recv() {
            break closed;
        }
    };
    assert_eq!(closed, stream(1));
    assert!(rig.streams.lock().expect("whole").closed(stream(1)));
    assert_eq!(rig.streams.lock().expect("whole").len(), 1);
}
