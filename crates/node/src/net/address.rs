//! Where a node listens, and the address it announces to its peers (`--ip`, `--port`,
//! `--advertise_ip`, `--advertise_port`; `docs/configuration/libprocess.md`).

use std::{
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
};
use tokio::net::{TcpListener, TcpSocket};

/// Connections the kernel may hold that we have not accepted yet: as many as it allows
/// (`net.core.somaxconn`). All followers come at once when a leader has restarted, and one that finds
/// no room here comes again after seconds.
const BACKLOG: u32 = 1 << 16;

/// Where to listen and what to announce.
#[derive(Clone, Debug)]
pub struct Listen {
    /// Address to bind; unspecified means every interface.
    pub ip: IpAddr,
    /// Port to bind; 0 lets the system choose.
    pub port: u16,
    /// Address that peers should use instead of the bound one.
    pub advertise_ip: Option<IpAddr>,
    /// Port that peers should use instead of the bound one.
    pub advertise_port: Option<u16>,
}

impl Listen {
    /// Binds this address and announces it as it is.
    pub fn on(address: SocketAddr) -> Self {
        Self {
            ip: address.ip(),
            port: address.port(),
            advertise_ip: None,
            advertise_port: None,
        }
    }

    /// Binds, and works out the address to announce.
    pub fn bind(&self) -> Result<Advertised, AdvertiseError> {
        let bind = SocketAddr::new(self.ip, self.port);
        let failed = |source| AdvertiseError::Bind {
            address: bind,
            source,
        };
        let socket = if bind.is_ipv4() {
            TcpSocket::new_v4()
        } else {
            TcpSocket::new_v6()
        };
        let socket = socket.map_err(failed)?;
        socket.set_reuseaddr(true).map_err(failed)?;
        socket.bind(bind).map_err(failed)?;
        let listener = socket.listen(BACKLOG).map_err(failed)?;
        let bound = listener.local_addr().map_err(failed)?;
        let ip = match self.advertise_ip {
            Some(ip) => ip,
            None if bound.ip().is_unspecified() => {
                outgoing_ip(bound.is_ipv4()).map_err(AdvertiseError::NoAddress)?
            }
            None => bound.ip(),
        };
        let address = SocketAddr::new(ip, self.advertise_port.unwrap_or(bound.port()));
        Ok(Advertised { listener, address })
    }
}

/// A listening socket and its announced address.
#[derive(Debug)]
pub struct Advertised {
    /// The socket.
    pub listener: TcpListener,
    /// What peers are told: the address part of our [`Pid`](tepui_protocol::peer::Pid)s.
    pub address: SocketAddr,
}

/// Why a node cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum AdvertiseError {
    /// The address could not be bound.
    #[error("cannot listen on {address}")]
    Bind {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// Every interface is bound and none is obviously ours.
    #[error("cannot tell which address to announce; set --advertise_ip or --ip")]
    NoAddress(#[source] io::Error),
}

/// The address that packets to elsewhere would leave from. Nothing is sent: connecting a UDP
/// socket only asks the routing table. A machine without a route is a machine of its own.
fn outgoing_ip(v4: bool) -> io::Result<IpAddr> {
    // Addresses reserved for documentation (RFC 5737, RFC 3849): routed like any other.
    let (any, elsewhere, loopback) = if v4 {
        ("0.0.0.0:0", "192.0.2.1:9", "127.0.0.1")
    } else {
        ("[::]:0", "[2001:db8::1]:9", "::1")
    };
    let socket = UdpSocket::bind(any)?;
    match socket.connect(elsewhere) {
        Ok(()) => Ok(socket.local_addr()?.ip()),
        Err(_) => loopback.parse().map_err(io::Error::other),
    }
}
