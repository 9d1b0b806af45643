//! Turns what the resolver says of a leader's name into news.

use std::net::{IpAddr, SocketAddr};
use tepui_protocol::peer::Pid;

/// Process that leads, at any leader's address.
const LEADER: &str = "master";

/// Watches one address that may be a name.
#[derive(Debug, Clone)]
pub struct Detector {
    port: u16,
    detected: Option<Pid>,
}

impl Detector {
    /// Nobody detected yet.
    pub fn new(port: u16) -> Self {
        Self {
            port,
            detected: None,
        }
    }

    /// Who leads, as far as we know.
    pub fn detected(&self) -> Option<&Pid> {
        self.detected.as_ref()
    }

    /// The name resolved to these addresses. Returns the leader if that is news: as long as the
    /// address in use is among them, nothing changed, whatever their order. IPv4 goes first, as
    /// the reference knows no other.
    pub fn resolved(&mut self, addresses: &[IpAddr]) -> Option<Pid> {
        let current = self.detected.as_ref().map(|pid| pid.address.ip());
        if current.is_some_and(|ip| addresses.contains(&ip)) {
            return None;
        }
        let ip = addresses
            .iter()
            .find(|ip| ip.is_ipv4())
            .or(addresses.first())?;
        let leader = Pid {
            name: LEADER.to_owned(),
            address: SocketAddr::new(*ip, self.port),
        };
        self.detected = Some(leader.clone());
        Some(leader)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ips(texts: &[&str]) -> Vec<IpAddr> {
        texts
            .iter()
            .map(|text| text.parse().expect("an address"))
            .collect()
    }

    #[test]
    fn only_changes_are_news() {
        let mut detector = Detector::new(5050);
        let mut news = |addresses: &[&str]| {
            detector
                .resolved(&ips(addresses))
                .map(|pid| pid.to_string())
        };
        assert_eq!(news(&[]), None);
        assert_eq!(
            news(&["::1", "10.0.0.1"]).as_deref(),
            Some("master@10.0.0.1:5050")
        );
        assert_eq!(news(&["10.0.0.2", "10.0.0.1"]), None);
        assert_eq!(news(&[]), None);
        assert_eq!(news(&["10.0.0.2"]).as_deref(), Some("master@10.0.0.2:5050"));
        assert_eq!(news(&["::1"]).as_deref(), Some("master@[::1]:5050"));
        assert_eq!(
            detector.detected().map(Pid::to_string).as_deref(),
            Some("master@[::1]:5050")
        );
    }
}
