//! What followers hear: connections of the leader to their addresses.

use crate::{layout::Layout, parse::Parser};
use bytes::Bytes;
use std::{io, sync::Arc, time::Duration};
use tepui_protocol::peer::{PeerMessage, Pid};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::mpsc,
};

/// How long to wait when the process is out of file descriptors.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// The reference's answer to each message it takes (`ProcessManager::handle` in `process.cpp`).
const ACCEPTED: &[u8] = b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n";

/// A message for one of our addresses.
#[derive(Debug)]
pub(crate) struct Arrival {
    pub(crate) address: usize,
    pub(crate) process: String,
    pub(crate) from: Pid,
    /// None if it could not be read.
    pub(crate) message: Option<PeerMessage>,
}

/// Accepts for as long as somebody listens to `arrivals`.
pub(crate) async fn accept(
    listener: TcpListener,
    layout: Arc<Layout>,
    arrivals: mpsc::Sender<Arrival>,
) {
    while !arrivals.is_closed() {
        match listener.accept().await {
            Ok((stream, _)) => {
                // The socket may listen everywhere; we are only at our addresses.
                let local = stream.local_addr().ok();
                let Some(address) = local.and_then(|local| layout.address_at(local.ip())) else {
                    continue;
                };
                tokio::spawn(serve(stream, address, arrivals.clone()));
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

async fn serve(stream: TcpStream, address: usize, arrivals: mpsc::Sender<Arrival>) {
    if let Err(error) = read_all(&stream, address, &arrivals).await {
        tracing::debug!(%error, "a connection of the leader ended");
    }
}

async fn read_all(
    stream: &TcpStream,
    address: usize,
    arrivals: &mpsc::Sender<Arrival>,
) -> io::Result<()> {
    let mut parser = Parser::default();
    let mut read = Vec::new();
    loop {
        stream.readable().await?;
        if ended(stream, &mut parser, address, &mut read)? {
            return Ok(());
        }
        let count = read.len();
        for arrival in std::mem::take(&mut read) {
            if arrivals.send(arrival).await.is_err() {
                return Ok(());
            }
        }
        answer(stream, count).await?;
    }
}

/// Reads what there is; whether the other side has ended.
fn ended(
    stream: &TcpStream,
    parser: &mut Parser,
    address: usize,
    read: &mut Vec<Arrival>,
) -> io::Result<bool> {
    // Not in the task, which is one of thousands.
    let mut buffer = [0; 16 << 10];
    let count = match stream.try_read(&mut buffer) {
        Ok(count) => count,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
        Err(error) => return Err(error),
    };
    let fed = parser.feed(&buffer[..count], |envelope, body| {
        read.push(Arrival {
            address,
            message: PeerMessage::decode(&envelope.message, Bytes::from(body)).ok(),
            process: envelope.process,
            from: envelope.from,
        });
    });
    fed.map_err(io::Error::other)?;
    Ok(count == 0)
}

async fn answer(stream: &TcpStream, count: usize) -> io::Result<()> {
    let answers = ACCEPTED.repeat(count);
    let mut rest = &answers[..];
    while !rest.is_empty() {
        match stream.try_write(rest) {
            Ok(written) => rest = &rest[written..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => stream.writable().await?,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
