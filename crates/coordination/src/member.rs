//! The znode of a member of the election: its name and what it holds, both as the reference writes
//! them (`src/zookeeper/group.cpp`, `src/master/contender/zookeeper.cpp`).

use bytes::Bytes;
use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};
use tepui_protocol::{json, peer::Pid, v1, wire};

/// What the names of our znodes begin with; ZooKeeper adds ten digits.
pub const MEMBER_PREFIX: &str = "json.info_";

/// Process that leads, at any leader's address.
const LEADER: &str = "master";

/// How a member describes itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Format {
    /// Since 0.24.
    Json,
    /// Before that.
    Protobuf,
}

/// A child of the election's znode that takes part in the election. The lowest leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Member {
    sequence: u32,
    format: Format,
}

/// A member says of itself something that is not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UnreadableMember(String);

impl Member {
    /// Reads a name. Others than members live beside them (`log_replicas`, our registry): those and
    /// labels that nobody of our kind writes are `None`.
    pub fn parse(name: &str) -> Option<Self> {
        let (label, digits) = name.split_once('_')?;
        let format = match label {
            "json.info" => Format::Json,
            "info" => Format::Protobuf,
            _ => return None,
        };
        let digits = Some(digits).filter(|d| d.bytes().all(|b| b.is_ascii_digit()))?;
        let sequence = digits.parse().ok()?;
        Some(Self { sequence, format })
    }

    /// The number that ZooKeeper gave it.
    pub fn sequence(self) -> u32 {
        self.sequence
    }

    /// Reads what the znode holds. Required fields must be there, but nothing must make sense: that
    /// is for [`leader_pid`].
    pub fn decode(self, data: &[u8]) -> Result<v1::MasterInfo, UnreadableMember> {
        match self.format {
            Format::Json => json::decode(data).map_err(|e| UnreadableMember(e.to_string())),
            Format::Protobuf => wire::decode(Bytes::copy_from_slice(data))
                .map_err(|e| UnreadableMember(e.to_string())),
        }
    }
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let label = match self.format {
            Format::Json => "json.info",
            Format::Protobuf => "info",
        };
        write!(f, "{label}_{:010}", self.sequence)
    }
}

/// What our znode holds: the reference's JSON, whose keys are sorted.
pub fn encode_member(info: &v1::MasterInfo) -> Vec<u8> {
    let text = json::encode(info);
    // Maps of serde_json are sorted by key. It reads back what we wrote; if it did not, the order
    // would be all that is lost.
    match serde_json::from_str::<serde_json::Value>(&text) {
        Ok(sorted) => sorted.to_string().into_bytes(),
        Err(_) => text.into_bytes(),
    }
}

/// Whom to speak to: `pid`, which the reference goes by; without it `address`, or else the old `ip`.
pub fn leader_pid(info: &v1::MasterInfo) -> Option<Pid> {
    let at = |ip: IpAddr, port: u16| Pid {
        name: LEADER.to_owned(),
        address: SocketAddr::new(ip, port),
    };
    if let Some(pid) = info.pid.as_deref().and_then(|pid| pid.parse::<Pid>().ok()) {
        return Some(pid).filter(|pid| pid.address.port() > 0);
    }
    let usable = |port: u32| Some(u16::try_from(port).ok()?).filter(|port| *port > 0);
    if let Some(address) = &info.address {
        let ip = address.ip.as_deref().and_then(|ip| ip.parse().ok());
        let port = u32::try_from(address.port).ok().and_then(usable);
        if let (Some(ip), Some(port)) = (ip, port) {
            return Some(at(ip, port));
        }
    }
    // The four bytes lie in memory in network order: the first is the lowest of the number.
    let ip = Ipv4Addr::from(info.ip.to_le_bytes());
    Some(at(IpAddr::V4(ip), usable(info.port)?)).filter(|_| !ip.is_unspecified())
}
