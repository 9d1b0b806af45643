//! Names of servers, resolved (`mesos_zk_dns`: one name for a whole ensemble).
//!
//! The client library resolves a name anew for each attempt to connect, but spends all of its time on
//! the first address when that one swallows packets. So a name with several addresses goes in with all
//! of them beside it: the name for what it means later, the addresses for the rest.

use std::{net::IpAddr, time::Duration};
use tokio::{net::lookup_host, time::timeout};

const DEFAULT_PORT: u16 = 2181;
/// A resolver that does not answer must not hold up the servers whose names are addresses.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);

/// The servers of a URL, with the addresses their names stand for now.
pub(crate) async fn resolve(servers: &str) -> String {
    let mut all = Vec::new();
    for server in servers.split(',').map(str::trim).filter(|s| !s.is_empty()) {
        all.push(server.to_owned());
        let (host, port) = split(server);
        if host.parse::<IpAddr>().is_ok() {
            continue;
        }
        match timeout(RESOLVE_TIMEOUT, lookup_host((host, port))).await {
            Ok(Ok(found)) => {
                let mut addresses: Vec<String> = found.map(|a| a.to_string()).collect();
                addresses.sort_unstable();
                addresses.dedup();
                if addresses.len() > 1 {
                    all.extend(addresses);
                }
            }
            Ok(Err(error)) => {
                tracing::warn!(%server, %error, "cannot resolve the name of a ZooKeeper server");
            }
            Err(_) => {
                tracing::warn!(%server, "resolving the name of a ZooKeeper server takes long")
            }
        }
    }
    all.join(",")
}

/// Host and port; an IPv6 address loses its brackets.
fn split(server: &str) -> (&str, u16) {
    let (host, port) = match server.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port.parse().unwrap_or(DEFAULT_PORT)),
        _ => (server, DEFAULT_PORT),
    };
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    (bare.unwrap_or(host), port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_host_and_port() {
        assert_eq!(split("a:2182"), ("a", 2182));
        assert_eq!(split("a"), ("a", 2181));
        assert_eq!(split("[::1]:2182"), ("::1", 2182));
        assert_eq!(split("[::1]"), ("::1", 2181));
    }

    #[tokio::test]
    async fn addresses_stay_and_names_that_mean_nothing_do_no_harm() {
        let servers = "127.0.0.1:1,[::1]:2,no-such-host.invalid:3";
        assert_eq!(resolve(servers).await, servers);
    }
}
