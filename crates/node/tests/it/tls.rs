//! TLS on the port and on links. How certificates are judged is tested where it is done
//! (`tepui-tls`); here it is what that means for servers, links, and a leader with its follower.

use crate::support::{Messages, PATIENCE, Raw, serve, serve_over};
use std::{net::SocketAddr, time::Duration};
use tepui_containers::linux::{LauncherOptions, start_launcher};
use tepui_node::{
    follower::{FollowerNode, FollowerOptions},
    http::Limits,
    leader::{LeaderNode, LeaderOptions},
    net::{LinkOptions, Links, LinksEnd, Listen, Stream, Transport},
};
use tepui_protocol::{
    internal,
    peer::{PeerMessage, Pid},
};
use tepui_tls::{
    HostnameScheme, Tls, TlsConfig,
    testing::{Authority, Subject},
};
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::Handle,
    sync::{mpsc, watch},
    time::timeout,
};

/// A directory with an authority, and certificates of it.
struct Place {
    dir: tempfile::TempDir,
    authority: Authority,
}

impl Place {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().expect("a directory"),
            authority: Authority::new("root"),
        }
    }

    /// A node of 127.0.0.1 that trusts our authority and verifies nobody yet.
    fn node(&self, name: &str) -> TlsConfig {
        let issued = self.authority.issue(&Subject::named(["127.0.0.1"]));
        let (cert, key) = issued.write(self.dir.path(), name);
        let mut config =
            TlsConfig::server(cert, key).ca_file(self.authority.write(self.dir.path(), "root"));
        config.verification.scheme = HostnameScheme::OpenSsl;
        config.verification.ip = true;
        config
    }

    /// The same, of an authority that nobody knows.
    fn stranger(&self) -> TlsConfig {
        let issued = Authority::new("stranger").issue(&Subject::named(["127.0.0.1"]));
        let (cert, key) = issued.write(self.dir.path(), "stranger");
        TlsConfig {
            identity: TlsConfig::server(cert, key).identity,
            ..self.node("unused")
        }
    }
}

fn over(config: TlsConfig) -> Transport {
    Transport::tls(Tls::load(config).expect("loaded"))
}

fn downgrading(mut config: TlsConfig) -> TlsConfig {
    config.downgrade = true;
    config
}

/// Verifies servers, and clients too if `clients`.
fn verifying(mut config: TlsConfig, clients: bool) -> TlsConfig {
    config.verification.server = true;
    config.verification.client = clients;
    config
}

async fn connect(address: SocketAddr, transport: &Transport) -> std::io::Result<Raw> {
    transport.connect(address, PATIENCE).await.map(Raw::over)
}

async fn small(mut client: Raw) -> u16 {
    client.send("GET /small HTTP/1.1\r\nHost: x\r\n\r\n").await;
    client.response().await.status
}

fn links(transport: Transport) -> (Links, LinksEnd, mpsc::UnboundedReceiver<Pid>) {
    let (tell, broken) = mpsc::unbounded_channel();
    let (links, end) = Links::new(
        SocketAddr::from(([127, 0, 0, 1], 5051)),
        LinkOptions::default(),
        transport,
        Handle::current(),
        move |pid| {
            // The test may be over.
            let _ = tell.send(pid);
        },
    );
    (links, end, broken)
}

/// Whether a message arrives over a link, or the link breaks.
async fn arrives(address: SocketAddr, messages: &mut Messages, transport: Transport) -> bool {
    let (links, _end, mut broken) = links(transport);
    let ping: PeerMessage = internal::PingSlaveMessage { connected: true }.into();
    let to = Pid {
        name: "master".to_owned(),
        address,
    };
    links.send("slave(1)", &to, &ping);
    let outcome = async {
        tokio::select! {
            message = messages.recv() => {
                assert_eq!(message.expect("a message").2, ping);
                true
            }
            pid = broken.recv() => {
                assert_eq!(pid, Some(to));
                false
            }
        }
    };
    timeout(PATIENCE, outcome).await.expect("in time")
}

#[tokio::test]
async fn a_port_under_tls_serves_under_tls_alone() {
    let place = Place::new();
    let (address, _messages, _server) =
        serve_over(over(place.node("server")), Limits::default()).await;
    let client = connect(address, &over(place.node("client"))).await;
    assert_eq!(small(client.expect("connected")).await, 200);
    let mut plain = Raw::connect(address).await;
    plain.send("GET /small HTTP/1.1\r\nHost: x\r\n\r\n").await;
    let answer = plain.rest().await;
    assert!(
        !answer.starts_with(b"HTTP"),
        "{}",
        String::from_utf8_lossy(&answer)
    );
}

#[tokio::test]
async fn with_downgrade_one_port_serves_both() {
    let place = Place::new();
    let server = over(downgrading(place.node("server")));
    let (address, mut messages, _server) = serve_over(server, Limits::default()).await;
    let client = connect(address, &over(place.node("client"))).await;
    let client = client.expect("connected");
    assert_eq!(small(client).await, 200);
    assert_eq!(small(Raw::connect(address).await).await, 200);
    // A peer that speaks TLS gets TLS.
    let stream = over(downgrading(place.node("peer")))
        .connect(address, PATIENCE)
        .await;
    assert!(matches!(stream, Ok(Stream::Tls(_))), "{stream:?}");
    for transport in [
        Transport::plain(),
        over(place.node("tls")),
        over(downgrading(place.node("both"))),
    ] {
        assert!(arrives(address, &mut messages, transport).await);
    }
}

#[tokio::test]
async fn links_go_on_in_the_clear_only_where_that_is_allowed() {
    let place = Place::new();
    let (address, mut messages, _server) = serve(Limits::default()).await;
    let strict = over(place.node("strict"));
    assert!(!arrives(address, &mut messages, strict).await);
    let lenient = over(downgrading(place.node("lenient")));
    assert!(arrives(address, &mut messages, lenient).await);
    // Nothing in the clear reaches a port under TLS.
    let (address, mut messages, _server) =
        serve_over(over(place.node("server")), Limits::default()).await;
    assert!(!arrives(address, &mut messages, Transport::plain()).await);
}

#[tokio::test]
async fn a_peer_that_says_nothing_to_tls_is_spoken_to_in_the_clear_in_time() {
    let place = Place::new();
    // Connections are made by the system, and nobody reads what comes.
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let patience = Duration::from_millis(200);
    let lenient = over(downgrading(place.node("lenient")));
    let stream = lenient.connect(address, patience).await;
    assert!(matches!(stream, Ok(Stream::Plain(_))), "{stream:?}");
    let strict = over(place.node("strict"));
    let error = strict.connect(address, patience).await.expect_err("late");
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
}

#[tokio::test]
async fn links_reach_whom_both_ends_trust() {
    let place = Place::new();
    let expired = place.authority.issue(&Subject {
        expired: true,
        ..Subject::named(["127.0.0.1"])
    });
    let (cert, key) = expired.write(place.dir.path(), "expired");
    let expired = TlsConfig {
        identity: TlsConfig::server(cert, key).identity,
        ..place.node("unused")
    };
    let elsewhere = place.authority.issue(&Subject::named(["10.1.1.1"]));
    let (cert, key) = elsewhere.write(place.dir.path(), "elsewhere");
    let elsewhere = TlsConfig {
        identity: TlsConfig::server(cert, key).identity,
        ..place.node("unused")
    };
    let nobody = TlsConfig {
        identity: None,
        ..place.node("unused")
    };
    let good = place.node("good");
    for (client, server, expected) in [
        // Nobody verifies.
        (place.stranger(), expired.clone(), true),
        // The link verifies the server.
        (verifying(good.clone(), false), good.clone(), true),
        (verifying(good.clone(), false), place.stranger(), false),
        (verifying(good.clone(), false), expired.clone(), false),
        (verifying(good.clone(), false), elsewhere.clone(), false),
        // The server verifies the link; whose name a client has is its own business.
        (good.clone(), verifying(good.clone(), true), true),
        (elsewhere, verifying(good.clone(), true), true),
        (place.stranger(), verifying(good.clone(), true), false),
        (expired, verifying(good.clone(), true), false),
        (nobody, verifying(good.clone(), true), false),
    ] {
        for v1_3 in [true, false] {
            let (mut client, server) = (client.clone(), server.clone());
            client.versions.v1_3 = v1_3;
            let what = format!(
                "{:?} to {:?}, TLS 1.3: {v1_3}",
                client.identity, server.identity
            );
            let (address, mut messages, server) = serve_over(over(server), Limits::default()).await;
            let arrived = arrives(address, &mut messages, over(client)).await;
            assert_eq!(arrived, expected, "{what}");
            server.stop().await;
        }
    }
}

#[tokio::test]
async fn who_is_slow_to_shake_hands_holds_up_nobody_and_is_closed() {
    let place = Place::new();
    let limits = Limits {
        head_timeout: Duration::from_millis(200),
        first_byte_timeout: Duration::from_millis(400),
        ..Limits::default()
    };
    let server = over(place.node("server"));
    let (address, _messages, _server) = serve_over(server, limits).await;
    let mut silent = Raw::connect(address).await;
    let mut slow = Raw::connect(address).await;
    // The beginning of a record that never comes.
    slow.send([0x16, 0x03, 0x01, 0x40, 0x00, 0x01]).await;
    let client = connect(address, &over(place.node("client"))).await;
    assert_eq!(small(client.expect("connected")).await, 200);
    timeout(PATIENCE, slow.rest()).await.expect("closed");
    timeout(PATIENCE, silent.rest()).await.expect("closed");
}

#[tokio::test]
async fn a_changed_certificate_is_shown_to_the_next_client_and_open_connections_stay() {
    let place = Place::new();
    let mut config = place.node("server");
    config.reload_interval = Duration::ZERO;
    let (address, _messages, _server) = serve_over(over(config), Limits::default()).await;
    let client = Tls::load(place.node("client")).expect("loaded");
    let meet = || async {
        let tcp = TcpStream::connect(address).await.expect("connected");
        client.connect(tcp, None).await.expect("a handshake")
    };
    let certificate = |stream: &tepui_tls::TlsStream| {
        let (_, session) = stream.get_ref();
        session.peer_certificates().expect("certificates")[0].to_vec()
    };
    let first = meet().await;
    place.node("server");
    let second = meet().await;
    assert_ne!(certificate(&first), certificate(&second));
    for stream in [first, second] {
        assert_eq!(small(Raw::over(Stream::Tls(Box::new(stream)))).await, 200);
    }
}

#[tokio::test]
async fn a_follower_registers_with_a_leader_when_both_verify_each_other() {
    let place = Place::new();
    let dirs = [(); 2].map(|()| tempfile::tempdir().expect("a directory"));
    let listen = || Listen::on(SocketAddr::from(([127, 0, 0, 1], 0)));
    let transport = |name| over(verifying(place.node(name), true));
    let mut options = LeaderOptions::new(listen(), dirs[0].path());
    options.transport = transport("leader");
    let leader = LeaderNode::start(options).await.expect("a leader");

    let client = connect(leader.address, &transport("client")).await;
    let mut events = client.expect("connected");
    let call = r#"{"type":"SUBSCRIBE"}"#;
    events
        .send(format!(
            "POST /api/v1 HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nAccept: application/json\r\n\
             Content-Length: {}\r\n\r\n{call}",
            call.len()
        ))
        .await;
    events.until(b"SUBSCRIBED").await;

    let launcher = start_launcher(LauncherOptions {
        cgroups: false,
        ..Default::default()
    })
    .expect("a launcher");
    let address = SocketAddr::from(([127, 0, 0, 1], 0));
    let mut config = tepui_follower::Config::new(address, "follower.test", dirs[1].path());
    config.registration_backoff_factor = Duration::from_millis(10);
    let pid = Pid {
        name: "master".to_owned(),
        address: leader.address,
    };
    let (_detect, detected) = watch::channel(Some(pid));
    let mut options = FollowerOptions::new(listen(), config, launcher, detected);
    options.transport = transport("follower");
    let follower = FollowerNode::start(options).await.expect("a follower");
    events.until(b"AGENT_ADDED").await;
    events.until(b"follower.test").await;
    follower.shutdown().await;
    leader.shutdown().await.expect("stopped");
}
