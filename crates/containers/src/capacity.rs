//! What a machine has, measured. What a follower makes of it is the follower core's decision.

/// What was measured; `None` where measuring failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostCapacity {
    /// Online processors.
    pub cpus: Option<u64>,
    /// Size of main memory.
    pub memory_bytes: Option<u64>,
    /// Size of the file system that holds the work directory.
    pub disk_bytes: Option<u64>,
}
