//! What a node prints once it serves.

use std::{io::Write, net::SocketAddr};

/// `leader    http://127.0.0.1:5050`, one line per node, on standard output.
pub(super) fn announce(name: &str, address: SocketAddr, secure: bool) {
    announce_as(name, address, secure, "");
}

/// The same, with what is to be said besides.
pub(super) fn announce_as(name: &str, address: SocketAddr, secure: bool, note: &str) {
    let scheme = if secure { "https" } else { "http" };
    let mut out = std::io::stdout().lock();
    // Nobody may be listening any more; that is no reason to stop.
    let _ = writeln!(out, "{name:<9} {scheme}://{address}{note}");
    let _ = out.flush();
}
