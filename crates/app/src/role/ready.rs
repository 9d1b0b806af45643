//! What a node prints once it serves.

use std::{io::Write, net::SocketAddr};

/// `leader    http://127.0.0.1:5050`, one line per node, on standard output.
pub(super) fn announce(name: &str, address: SocketAddr, secure: bool) {
    let scheme = if secure { "https" } else { "http" };
    let mut out = std::io::stdout().lock();
    // Nobody may be listening any more; that is no reason to stop.
    let _ = writeln!(out, "{name:<9} {scheme}://{address}");
    let _ = out.flush();
}
