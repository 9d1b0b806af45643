//! What turns a TCP connection into a stream of bytes, for those that come in and those that go out.
//!
//! The server and the links use a [`Stream`] and do not know what carries it.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::timeout,
};

/// Silence after which the system asks whether the other machine is still there.
const KEEPALIVE_TIME: Duration = Duration::from_secs(30);
/// How often it asks; the system gives up after a few answers that did not come.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);

/// How connections are made and taken. Clones share what they are made of.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Transport {}

impl Transport {
    /// Bytes as they are.
    pub fn plain() -> Self {
        Self::default()
    }

    /// Takes over a connection that came in. May wait for the peer: the caller bounds the time.
    pub async fn accept(&self, tcp: TcpStream) -> io::Result<Stream> {
        prepare(&tcp)?;
        Ok(Stream::Plain(tcp))
    }

    /// Connects to an address within a time.
    pub async fn connect(&self, address: SocketAddr, patience: Duration) -> io::Result<Stream> {
        timeout(patience, async {
            let tcp = TcpStream::connect(address).await?;
            prepare(&tcp)?;
            Ok(Stream::Plain(tcp))
        })
        .await?
    }
}

/// Messages are small and go out at once, and a machine that vanished is noticed even when nothing
/// is sent.
fn prepare(tcp: &TcpStream) -> io::Result<()> {
    tcp.set_nodelay(true)?;
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(KEEPALIVE_TIME)
        .with_interval(KEEPALIVE_INTERVAL);
    socket2::SockRef::from(tcp).set_tcp_keepalive(&keepalive)
}

/// A connection's bytes, both ways. Small when plain: there are thousands of them.
#[derive(Debug)]
#[non_exhaustive]
pub enum Stream {
    /// Bytes as they are.
    Plain(TcpStream),
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(tcp) => tcp.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
        }
    }
}
