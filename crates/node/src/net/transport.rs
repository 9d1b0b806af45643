//! What turns a TCP connection into a stream of bytes, for those that come in and those that go out:
//! as it is, or under TLS.
//!
//! The server and the links use a [`Stream`] and do not know what carries it.
//!
//! With downgrade switched on, one port serves both: the first byte of a connection tells TLS from
//! HTTP. Going out, TLS is tried first and the same address is spoken to in the clear when that
//! fails (`SocketManager` in `3rdparty/libprocess/src/process.cpp`).

use std::{io, net::SocketAddr, time::Duration};
pub use tepui_tls::Stream;
use tepui_tls::Tls;
use tokio::{net::TcpStream, time::timeout};

/// Silence after which the system asks whether the other machine is still there.
const KEEPALIVE_TIME: Duration = Duration::from_secs(30);
/// How often it asks; the system gives up after a few answers that did not come.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);

/// How connections are made and taken. Clones share what they are made of.
#[derive(Clone, Debug, Default)]
pub struct Transport {
    tls: Option<Tls>,
}

impl Transport {
    /// Bytes as they are.
    pub fn plain() -> Self {
        Self::default()
    }

    /// Under TLS; in the clear too where that is allowed.
    pub fn tls(tls: Tls) -> Self {
        Self { tls: Some(tls) }
    }

    /// Whether connections are under TLS.
    pub fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Takes over a connection that came in. Waits for the peer's first byte where TLS is spoken:
    /// the caller bounds that time. From then on a handshake may take `handshake`.
    pub async fn accept(&self, tcp: TcpStream, handshake: Duration) -> io::Result<Stream> {
        prepare(&tcp)?;
        let Some(tls) = &self.tls else {
            return Ok(Stream::Plain(tcp));
        };
        let mut first = [0];
        if tcp.peek(&mut first).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if tls.downgrade() && !begins_tls(first[0]) {
            return Ok(Stream::Plain(tcp));
        }
        let stream = timeout(handshake, tls.accept(tcp)).await??;
        Ok(Stream::Tls(Box::new(stream)))
    }

    /// Connects to an address within a time.
    pub async fn connect(&self, address: SocketAddr, patience: Duration) -> io::Result<Stream> {
        let Some(tls) = &self.tls else {
            return timeout(patience, plain(address)).await?.map(Stream::Plain);
        };
        // A peer that does not speak TLS may as well say nothing: it gets half of the time.
        let share = if tls.downgrade() {
            patience / 2
        } else {
            patience
        };
        let secure = async {
            let tcp = plain(address).await?;
            // Peers are known by their addresses alone.
            tls.connect(tcp, None).await
        };
        let result = timeout(share, secure).await;
        match result.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(stream) => Ok(Stream::Tls(Box::new(stream))),
            Err(error) if tls.downgrade() => {
                tracing::info!(peer = %address, %error, "no TLS with a peer; trying in the clear");
                timeout(share, plain(address)).await?.map(Stream::Plain)
            }
            Err(error) => Err(error),
        }
    }
}

/// Whether a first byte begins a TLS record, or what SSL 2 began with: text does neither.
fn begins_tls(byte: u8) -> bool {
    const HANDSHAKE: u8 = 0x16;
    byte == HANDSHAKE || byte >= 0x80
}

async fn plain(address: SocketAddr) -> io::Result<TcpStream> {
    let tcp = TcpStream::connect(address).await?;
    prepare(&tcp)?;
    Ok(tcp)
}

/// Whether the system knows already that the peer closed the connection: a look at the socket,
/// which tells sooner than being woken. Only for what is in the clear.
pub(super) fn is_closed_by_peer(stream: &Stream) -> bool {
    let Stream::Plain(tcp) = stream else {
        return false;
    };
    let mut byte = [std::mem::MaybeUninit::uninit()];
    match socket2::SockRef::from(tcp).peek(&mut byte) {
        Ok(count) => count == 0,
        Err(error) => error.kind() != io::ErrorKind::WouldBlock,
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
