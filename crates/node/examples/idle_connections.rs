//! Bytes of our heap that an idle connection costs, each way: `idle_connections [COUNT]`.
//!
//! The kernel's part (the socket, and buffers while they hold something) is not ours to count.

use std::{net::SocketAddr, sync::Arc};
use tepui_node::{
    http::{Delivery, Limits, Request, Response, Server, Service, response},
    net::{LinkOptions, Links, OpenFiles, Transport},
};
use tepui_protocol::{internal, libprocess, peer::PeerMessage, peer::Pid};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    runtime::{Builder, Runtime},
};

#[global_allocator]
static ALLOCATOR: dhat::Alloc = dhat::Alloc;

/// Takes messages and does nothing.
struct Sink;

impl Service for Sink {
    async fn request(&self, _: Request) -> Response {
        response::ok()
    }

    async fn message(&self, _: Delivery) -> bool {
        true
    }
}

fn heap() -> usize {
    dhat::HeapStats::get().curr_bytes
}

fn runtime() -> std::io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let _profiler = dhat::Profiler::builder().testing().build();
    let count: usize = match std::env::args().nth(1) {
        Some(count) => count.parse()?,
        None => 1000,
    };
    OpenFiles::raise();
    let ping: PeerMessage = internal::PingSlaveMessage { connected: true }.into();

    // The far end is std's: it costs file descriptors and nothing of our heap.
    let near = runtime()?;
    let (address, _server) = near.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let server = Server::start(
            listener,
            Transport::plain(),
            Limits::default(),
            Arc::new(Sink),
        );
        std::io::Result::Ok((address, server))
    })?;
    let from: Pid = "slave(1)@127.0.0.1:5051".parse()?;
    let to = Pid {
        name: "master".to_owned(),
        address,
    };
    let frame = libprocess::request(&from, &to, ping.name(), &ping.encode());
    let mut peers = Vec::with_capacity(count);
    // The first message has tables made that all share: it is not counted.
    for (count, said) in [(1, true), (count, false), (count, true)] {
        let before = heap();
        near.block_on(async {
            for _ in 0..count {
                let mut peer = TcpStream::connect(address).await?;
                if said {
                    peer.write_all(&frame).await?;
                    let mut answer = Vec::new();
                    while !answer.ends_with(b"\r\n\r\n") {
                        answer.push(peer.read_u8().await?);
                    }
                } else {
                    tokio::task::yield_now().await;
                }
                peers.push(peer.into_std()?);
            }
            std::io::Result::Ok(())
        })?;
        let each = heap().saturating_sub(before) / count;
        let what = if said { "after a message" } else { "silent" };
        if count == 1 {
            continue;
        }
        println!("accepted connection, {what}: {each} bytes");
    }

    let links = near.block_on(links(&near, count, &ping))?;
    println!("link, after a message: {links} bytes");
    Ok(())
}

/// One link to each of many addresses.
async fn links(near: &Runtime, count: usize, ping: &PeerMessage) -> std::io::Result<usize> {
    let ours = SocketAddr::from(([127, 0, 0, 1], 5050));
    let runtime = near.handle().clone();
    let options = LinkOptions::default();
    let (links, _end) = Links::new(ours, options, Transport::plain(), runtime, |_| {});
    // One listener serves addresses 127.x.y.z: all of them are this machine's.
    let listener = TcpListener::bind("0.0.0.0:0").await?;
    let port = listener.local_addr()?.port();
    let mut accepted = Vec::with_capacity(count);
    let before = heap();
    for n in 0..count {
        let [_, x, y, z] = u32::try_from(n + 1).unwrap_or(1).to_be_bytes();
        let to = Pid {
            name: "slave(1)".to_owned(),
            address: SocketAddr::from(([127, x, y, z], port)),
        };
        links.send("master", &to, ping);
        let (mut peer, _) = listener.accept().await?;
        let mut byte = [0];
        peer.read_exact(&mut byte).await?;
        accepted.push(peer.into_std()?);
    }
    // Every task has had its turn.
    tokio::task::yield_now().await;
    let each = heap().saturating_sub(before) / count;
    links.close();
    Ok(each)
}
