//! Outbound links.

use crate::support::{PATIENCE, serve};
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tepui_node::{
    http::Limits,
    net::{LinkOptions, Links, LinksEnd, Listen, Transport, Valve},
};
use tepui_protocol::{internal, peer::PeerMessage, peer::Pid};
use tokio::{io::AsyncReadExt, net::TcpListener, runtime::Handle, sync::mpsc, time::timeout};

fn ping(connected: bool) -> PeerMessage {
    internal::PingSlaveMessage { connected }.into()
}

fn links(options: LinkOptions) -> (Links, LinksEnd, mpsc::UnboundedReceiver<Pid>) {
    let (tell, broken) = mpsc::unbounded_channel();
    let address = SocketAddr::from(([127, 0, 0, 1], 5051));
    let (links, end) = Links::new(
        address,
        options,
        Transport::plain(),
        Handle::current(),
        move |pid| {
            tell.send(pid).expect("the test listens");
        },
    );
    (links, end, broken)
}

fn to(name: &str, address: SocketAddr) -> Pid {
    Pid {
        name: name.to_owned(),
        address,
    }
}

#[tokio::test]
async fn messages_go_out_in_order_over_one_connection() {
    let (address, mut messages, _server) = serve(Limits::default()).await;
    let (links, end, mut broken) = links(LinkOptions::default());
    for n in 0..100 {
        links.send("slave(1)", &to("master", address), &ping(n % 2 == 0));
    }
    for n in 0..100 {
        let next = timeout(PATIENCE, messages.recv()).await.expect("in time");
        let (from, to, message) = next.expect("a message");
        assert_eq!(
            (from.to_string().as_str(), to.as_str()),
            ("slave(1)@127.0.0.1:5051", "master")
        );
        assert_eq!(message, ping(n % 2 == 0));
    }
    links.send("slave(1)", &to("master", address), &ping(true));
    links.close();
    timeout(PATIENCE, end.wait()).await.expect("flushed");
    let last = timeout(PATIENCE, messages.recv()).await.expect("in time");
    assert_eq!(last.expect("a message").2, ping(true));
    assert!(broken.try_recv().is_err());
}

#[tokio::test]
async fn a_peer_that_closes_is_reported_once_and_the_next_message_reconnects() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (links, _end, mut broken) = links(LinkOptions::default());
    for _ in 0..2 {
        links.send("master", &to("slave(1)", address), &ping(true));
        links.send("master", &to("other", address), &ping(true));
        let (mut stream, _) = timeout(PATIENCE, listener.accept())
            .await
            .expect("a link")
            .expect("ok");
        let mut byte = [0];
        stream.read_exact(&mut byte).await.expect("a byte");
        drop(stream);
        let mut names = Vec::new();
        for _ in 0..2 {
            let pid = timeout(PATIENCE, broken.recv())
                .await
                .expect("news")
                .expect("news");
            assert_eq!(pid.address, address);
            names.push(pid.name);
        }
        assert_eq!(names, ["other", "slave(1)"]);
        assert!(broken.try_recv().is_err());
    }
}

#[tokio::test]
async fn a_link_that_cannot_be_made_is_reported() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    drop(listener);
    let (links, _end, mut broken) = links(LinkOptions::default());
    links.send("master", &to("slave(1)", address), &ping(true));
    let pid = timeout(PATIENCE, broken.recv())
        .await
        .expect("news")
        .expect("news");
    assert_eq!(pid, to("slave(1)", address));
}

#[tokio::test]
async fn a_peer_that_does_not_read_costs_itself_only() {
    let stuck = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let stuck_address = stuck.local_addr().expect("an address");
    let (address, mut messages, _server) = serve(Limits::default()).await;
    let options = LinkOptions {
        queue_bytes_max: 1 << 20,
        ..LinkOptions::default()
    };
    let (links, _end, mut broken) = links(options);
    let large: PeerMessage = internal::FrameworkErrorMessage {
        message: "x".repeat(1 << 18),
    }
    .into();
    let mut sent = 0;
    let pid = loop {
        links.send("master", &to("slave(1)", stuck_address), &large);
        links.send("slave(1)", &to("master", address), &ping(true));
        assert_eq!(messages.recv().await.expect("a message").2, ping(true));
        sent += 1;
        assert!(sent < 1000, "the queue is bounded");
        if let Ok(pid) = broken.try_recv() {
            break pid;
        }
    };
    assert_eq!(pid, to("slave(1)", stuck_address));
}

#[tokio::test]
async fn a_peer_that_stalls_is_given_up_on() {
    let stuck = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let stuck_address = stuck.local_addr().expect("an address");
    let write_timeout = Duration::from_millis(50);
    let (links, _end, mut broken) = links(LinkOptions {
        write_timeout,
        ..LinkOptions::default()
    });
    let large: PeerMessage = internal::FrameworkErrorMessage {
        message: "x".repeat(32 << 20),
    }
    .into();
    links.send("master", &to("slave(1)", stuck_address), &large);
    let pid = timeout(PATIENCE, broken.recv())
        .await
        .expect("news")
        .expect("news");
    assert_eq!(pid, to("slave(1)", stuck_address));
}

#[tokio::test]
async fn the_announced_address_may_differ_from_the_bound_one() {
    let mut listen = Listen::on(SocketAddr::from(([127, 0, 0, 1], 0)));
    let bound = listen.bind().expect("bound");
    assert_eq!(
        bound.address,
        bound.listener.local_addr().expect("an address")
    );
    listen.advertise_ip = Some("10.1.2.3".parse().expect("an address"));
    listen.advertise_port = Some(99);
    assert_eq!(
        listen.bind().expect("bound").address.to_string(),
        "10.1.2.3:99"
    );
    let any = Listen::on(SocketAddr::from(([0, 0, 0, 0], 0)))
        .bind()
        .expect("bound");
    assert!(!any.address.ip().is_unspecified());
    let taken = Listen::on(bound.address).bind().expect_err("taken");
    assert!(taken.to_string().contains(&bound.address.to_string()));
}

#[tokio::test]
async fn what_is_sent_after_the_peer_closed_goes_over_a_new_link() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (links, _end, mut broken) = links(LinkOptions::default());
    links.send("master", &to("slave(1)", address), &ping(true));
    links.send("master", &to("other", address), &ping(true));
    let read_some = async |needle: &[u8]| {
        let (mut stream, _) = timeout(PATIENCE, listener.accept())
            .await
            .expect("a link")
            .expect("ok");
        let mut got = Vec::new();
        while !got.windows(needle.len()).any(|window| window == needle) {
            let mut bytes = [0; 1024];
            let read = timeout(PATIENCE, stream.read(&mut bytes)).await;
            got.extend_from_slice(&bytes[..read.expect("in time").expect("read")]);
        }
        stream
    };
    let stream = read_some(b"POST /other/").await;
    drop(stream);
    // Nothing of ours has run since: only the system knows that the peer is gone.
    links.send("master", &to("slave(1)", address), &ping(false));
    let _stream = read_some(b"POST /slave(1)/").await;
    let mut names = Vec::new();
    for _ in 0..2 {
        let pid = timeout(PATIENCE, broken.recv()).await.expect("news");
        names.push(pid.expect("news").name);
    }
    assert_eq!(names, ["other", "slave(1)"]);
    assert!(broken.try_recv().is_err());
}

#[tokio::test]
async fn too_many_links_close_the_ones_unused_for_the_longest() {
    let (links, _end, mut broken) = links(LinkOptions {
        links_max: 2,
        ..LinkOptions::default()
    });
    let mut listeners = Vec::new();
    for n in 0..3 {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        listeners.push((listener, address));
        links.send("master", &to("a", address), &ping(true));
        if n == 1 {
            // The first is used again: the second is the one to go.
            links.send("master", &to("a", listeners[0].1), &ping(true));
        }
    }
    let pid = timeout(PATIENCE, broken.recv()).await.expect("news");
    assert_eq!(pid.expect("news"), to("a", listeners[1].1));
    assert_eq!(links.len(), 2);
    // What was queued for it still arrives.
    let (mut stream, _) = listeners[1].0.accept().await.expect("a link");
    let mut got = Vec::new();
    let read = timeout(PATIENCE, stream.read_to_end(&mut got)).await;
    read.expect("in time").expect("an end");
    assert!(got.starts_with(b"POST /a/"));
}

#[tokio::test]
async fn too_many_names_at_one_address_are_reported_together() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let (links, _end, mut broken) = links(LinkOptions {
        names_max: 3,
        ..LinkOptions::default()
    });
    for name in ["c", "a", "b", "a", "d"] {
        links.send("master", &to(name, address), &ping(true));
    }
    for name in ["a", "b", "c"] {
        let pid = timeout(PATIENCE, broken.recv()).await.expect("news");
        assert_eq!(pid.expect("news"), to(name, address));
    }
    assert!(broken.try_recv().is_err());
    assert_eq!(links.len(), 1);
}

#[tokio::test]
async fn what_is_queued_behind_a_closed_valve_waits_or_is_dropped() {
    let (address, mut messages, _server) = serve(Limits::default()).await;
    let open = Arc::new(AtomicBool::new(true));
    let valve = Valve::new({
        let open = open.clone();
        move || open.load(Ordering::SeqCst)
    });
    let options = LinkOptions {
        valve,
        ..LinkOptions::default()
    };
    let (links, end, mut broken) = links(options);
    let master = to("master", address);
    links.send("slave(1)", &master, &ping(true));
    let first = timeout(PATIENCE, messages.recv()).await.expect("in time");
    assert_eq!(first.expect("a message").2, ping(true));
    open.store(false, Ordering::SeqCst);
    links.send("slave(1)", &master, &ping(false));
    // Whoever is asked in between would have heard of it.
    let (other, mut others, _other_server) = serve(Limits::default()).await;
    let (free, _free_end, _free_broken) = self::links(LinkOptions::default());
    for _ in 0..10 {
        free.send("slave(1)", &to("master", other), &ping(true));
        timeout(PATIENCE, others.recv()).await.expect("in time");
    }
    assert!(messages.try_recv().is_err(), "held back");
    open.store(true, Ordering::SeqCst);
    let second = timeout(PATIENCE, messages.recv()).await.expect("in time");
    assert_eq!(second.expect("a message").2, ping(false));
    open.store(false, Ordering::SeqCst);
    links.send("slave(1)", &master, &ping(true));
    links.abandon();
    timeout(PATIENCE, end.wait()).await.expect("ended");
    open.store(true, Ordering::SeqCst);
    assert!(messages.try_recv().is_err(), "dropped");
    assert!(broken.try_recv().is_err());
}
