//! Who a leader is.

use super::LeaderOptions;
use std::net::{IpAddr, SocketAddr};
use tepui_leader::LeaderFacts;
use tepui_model::Time;
use tepui_protocol::{
    MESOS_VERSION,
    v1::{self, master_info::Capability, master_info::capability::Type},
};

/// What everybody is told about this leader. It has a new `id` each time it starts or was deposed:
/// the ids of frameworks, followers and offers begin with it, and their counters start anew
/// (`Master::Master` in `src/master/master.cpp`).
pub(super) fn facts(
    options: &LeaderOptions,
    address: SocketAddr,
    id: uuid::Uuid,
    started: Time,
) -> LeaderFacts {
    let hostname = options
        .hostname
        .clone()
        .unwrap_or_else(|| address.ip().to_string());
    let capabilities = [Type::AgentUpdate, Type::AgentDraining, Type::QuotaV2];
    let info = v1::MasterInfo {
        id: id.hyphenated().to_string(),
        ip: network_order(address.ip()),
        port: address.port().into(),
        pid: Some(format!("master@{address}")),
        hostname: Some(hostname.clone()),
        version: Some(MESOS_VERSION.to_owned()),
        address: Some(v1::Address {
            hostname: Some(hostname),
            ip: Some(address.ip().to_string()),
            port: address.port().into(),
        }),
        domain: options.domain.clone(),
        capabilities: capabilities
            .map(|t| Capability {
                r#type: Some(t.into()),
            })
            .to_vec(),
    };
    LeaderFacts {
        info,
        cluster: options.cluster.clone(),
        started,
        elected: started,
        flags: options.flags.clone(),
    }
}

/// `MasterInfo.ip`: the bytes of an IPv4 address in network order, read as a number of the
/// machine. IPv6 does not fit; `address` has it.
fn network_order(ip: IpAddr) -> u32 {
    match ip {
        IpAddr::V4(v4) => u32::from_ne_bytes(v4.octets()),
        IpAddr::V6(_) => 0,
    }
}
