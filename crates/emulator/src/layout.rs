//! Who is where: which of the emulated followers listens on which address, under which name.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use tepui_protocol::peer::Pid;

/// The first address on loopback. Not 127.0.0.1, so that followers are told from what really runs here.
const FIRST_LOOPBACK: Ipv4Addr = Ipv4Addr::new(127, 64, 0, 1);

/// The addresses of the followers: `per_address` of them on each, `slave(1)` and so on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    first: IpAddr,
    port: u16,
    followers: usize,
    per_address: usize,
}

/// The followers do not fit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// There is nobody to emulate.
    #[error("there must be at least one follower, and one on each address")]
    Nobody,
    /// Only loopback has an address for everybody.
    #[error(
        "{addresses} addresses from {first} on are not all on loopback; put all followers on one with --per_address={followers}"
    )]
    TooManyAddresses {
        /// How many are needed.
        addresses: usize,
        /// From where on.
        first: IpAddr,
        /// How many followers there are.
        followers: usize,
    },
}

impl Layout {
    /// `followers` of them, `per_address` on each address. Without an `ip`, counted up on loopback
    /// when the leader is there too; otherwise all on the address `own` that the leader is reached from.
    pub fn new(
        followers: usize,
        per_address: Option<usize>,
        ip: Option<IpAddr>,
        own: IpAddr,
    ) -> Result<Self, LayoutError> {
        let first = ip.unwrap_or(match own {
            IpAddr::V4(own) if own.is_loopback() => FIRST_LOOPBACK.into(),
            other => other,
        });
        let counts_up = matches!(first, IpAddr::V4(first) if first.is_loopback());
        let per_address = per_address.unwrap_or(if counts_up { 1 } else { followers });
        if followers == 0 || per_address == 0 {
            return Err(LayoutError::Nobody);
        }
        let layout = Self {
            first,
            port: 0,
            followers,
            per_address,
        };
        let addresses = layout.addresses();
        let last = u32::try_from(addresses - 1)
            .ok()
            .and_then(|above| match first {
                IpAddr::V4(first) => u32::from(first).checked_add(above).map(Ipv4Addr::from),
                IpAddr::V6(_) => None,
            });
        if addresses > 1 && !(counts_up && last.is_some_and(|last| last.is_loopback())) {
            return Err(LayoutError::TooManyAddresses {
                addresses,
                first,
                followers,
            });
        }
        Ok(layout)
    }

    /// The same with the port that was bound.
    #[must_use]
    pub fn on_port(self, port: u16) -> Self {
        Self { port, ..self }
    }

    /// How many followers there are.
    pub fn followers(&self) -> usize {
        self.followers
    }

    /// How many addresses they are on.
    pub fn addresses(&self) -> usize {
        self.followers.div_ceil(self.per_address)
    }

    /// How many followers are on each address.
    pub fn per_address(&self) -> usize {
        self.per_address
    }

    /// Where to listen so that all addresses are served.
    pub fn listen_ip(&self) -> IpAddr {
        match (self.addresses(), self.first) {
            (1, only) => only,
            _ => Ipv4Addr::UNSPECIFIED.into(),
        }
    }

    /// The number of the address that a follower is on.
    pub fn address_of(&self, follower: usize) -> usize {
        follower / self.per_address
    }

    /// An address by its number.
    pub fn ip(&self, address: usize) -> IpAddr {
        match self.first {
            IpAddr::V4(first) if address > 0 => {
                let above = u32::try_from(address).unwrap_or(u32::MAX);
                Ipv4Addr::from(u32::from(first).saturating_add(above)).into()
            }
            first => first,
        }
    }

    /// The number of an address; none if it is not one of ours.
    pub fn address_at(&self, ip: IpAddr) -> Option<usize> {
        let address = match (self.first, ip) {
            (IpAddr::V4(first), IpAddr::V4(ip)) => {
                usize::try_from(u32::from(ip).checked_sub(u32::from(first))?).ok()?
            }
            (first, ip) => usize::from(first != ip),
        };
        (address < self.addresses()).then_some(address)
    }

    /// What a follower is called.
    pub fn pid(&self, follower: usize) -> Pid {
        Pid {
            name: format!("slave({})", follower % self.per_address + 1),
            address: SocketAddr::new(self.ip(self.address_of(follower)), self.port),
        }
    }

    /// The follower called `process` on an address.
    pub fn follower(&self, address: usize, process: &str) -> Option<usize> {
        let number = process.strip_prefix("slave(")?.strip_suffix(')')?;
        let place = number.parse::<usize>().ok()?.checked_sub(1)?;
        let follower = address.checked_mul(self.per_address)?.checked_add(place)?;
        (place < self.per_address && follower < self.followers).then_some(follower)
    }

    /// All followers on an address.
    pub fn on_address(&self, address: usize) -> std::ops::Range<usize> {
        let from = address.saturating_mul(self.per_address).min(self.followers);
        from..(from + self.per_address).min(self.followers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    #[test]
    fn on_loopback_each_follower_has_an_address_of_its_own() {
        let layout = Layout::new(300, None, None, LOOPBACK).unwrap().on_port(5);
        assert_eq!(layout.addresses(), 300);
        assert_eq!(layout.pid(0).to_string(), "slave(1)@127.64.0.1:5");
        assert_eq!(layout.pid(255).to_string(), "slave(1)@127.64.1.0:5");
        assert_eq!(layout.listen_ip(), Ipv4Addr::UNSPECIFIED);
    }

    #[test]
    fn every_follower_is_found_by_its_name_and_nobody_else_is() {
        let layout = Layout::new(7, Some(3), None, LOOPBACK).unwrap();
        assert_eq!(layout.addresses(), 3);
        for follower in 0..7 {
            let pid = layout.pid(follower);
            let address = layout.address_at(pid.address.ip()).unwrap();
            assert_eq!(address, layout.address_of(follower));
            assert_eq!(layout.follower(address, &pid.name), Some(follower));
            assert!(layout.on_address(address).contains(&follower));
        }
        for (address, process) in [
            (0, "slave(4)"),
            (2, "slave(2)"),
            (0, "slave(0)"),
            (0, "master"),
            (9, "slave(1)"),
        ] {
            assert_eq!(
                layout.follower(address, process),
                None,
                "{address} {process}"
            );
        }
        assert_eq!(layout.address_at(LOOPBACK), None);
        assert_eq!(layout.on_address(2), 6..7);
    }

    #[test]
    fn elsewhere_all_share_one_address() {
        let own: IpAddr = "192.0.2.7".parse().unwrap();
        let layout = Layout::new(300, None, None, own).unwrap().on_port(9);
        assert_eq!(layout.addresses(), 1);
        assert_eq!(layout.pid(299).to_string(), "slave(300)@192.0.2.7:9");
        let error = Layout::new(300, Some(1), None, own).unwrap_err();
        assert!(error.to_string().contains("--per_address=300"), "{error}");
        let last: IpAddr = "127.255.255.255".parse().unwrap();
        assert!(Layout::new(1, None, Some(last), own).is_ok());
        assert!(Layout::new(2, None, Some(last), own).is_err());
        assert_eq!(Layout::new(0, None, None, own), Err(LayoutError::Nobody));
        assert_eq!(Layout::new(1, Some(0), None, own), Err(LayoutError::Nobody));
    }
}
