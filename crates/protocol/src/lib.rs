//! The wire: protobuf types, their JSON dialects, RecordIO and libprocess frames.
//!
//! One generated type set (v1). The older v0 API is the same bytes under other names, so it is a
//! dialect at the edge ([`json::Names`], [`v0`]) and not a second set of types. Everything here
//! works on byte slices; sockets live in `tepui-node`.
//!
//! Generated types cannot tell a missing required field from a default one, so bytes from others
//! go through [`wire::decode`] or [`json::decode`], which check that first.

mod complete;
pub mod json;
pub mod libprocess;
pub mod peer;
mod raw;
pub mod recordio;
mod schema;
pub mod v0;
pub mod wire;

/// Version of the protocol we are compatible with; clients compare it.
pub const MESOS_VERSION: &str = "1.11.0";

/// The public types, packages `mesos.v1` and below.
#[allow(missing_docs, clippy::all, rustdoc::all)]
pub mod v1 {
    include!(concat!(env!("OUT_DIR"), "/mesos.v1.rs"));
    /// `mesos.v1.agent`: operator API of a follower.
    pub mod agent {
        include!(concat!(env!("OUT_DIR"), "/mesos.v1.agent.rs"));
    }
    /// `mesos.v1.allocator`.
    pub mod allocator {
        include!(concat!(env!("OUT_DIR"), "/mesos.v1.allocator.rs"));
    }
    /// `mesos.v1.executor`: executor API.
    pub mod executor {
        include!(concat!(env!("OUT_DIR"), "/mesos.v1.executor.rs"));
    }
    /// `mesos.v1.maintenance`.
    pub mod maintenance {
        include!(concat!(env!("OUT_DIR"), "/mesos.v1.maintenance.rs"));
    }
    /// `mesos.v1.master`: operator API of a leader.
    pub mod master {
        include!(concat!(env!("OUT_DIR"), "/mesos.v1.master.rs"));
    }
    /// `mesos.v1.quota`.
    pub mod quota {
        include!(concat!(env!("OUT_DIR"), "/mesos.v1.quota.rs"));
    }
    /// `mesos.v1.resource_provider`.
    pub mod resource_provider {
        include!(concat!(env!("OUT_DIR"), "/mesos.v1.resource_provider.rs"));
    }
    /// `mesos.v1.scheduler`: scheduler API.
    pub mod scheduler {
        include!(concat!(env!("OUT_DIR"), "/mesos.v1.scheduler.rs"));
    }
}

/// What leaders, followers and v0 drivers say to each other, package `mesos.internal`.
#[allow(missing_docs, clippy::all, rustdoc::all)]
pub mod internal {
    include!(concat!(env!("OUT_DIR"), "/mesos.internal.rs"));
}
