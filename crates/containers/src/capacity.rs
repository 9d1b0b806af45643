//! How much of a machine a follower offers when its operator does not say.
//!
//! Pure: [`HostCapacity`] is what was measured, [`HostCapacity::offered`] what follows from it
//! (`src/slave/containerizer/containerizer.cpp`, `Containerizer::resources`; defaults in
//! `src/slave/constants.hpp`).

const GIB: u64 = 1 << 30;
const MIB: u64 = 1 << 20;

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

/// The scalars to offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OfferedCapacity {
    /// `cpus`.
    pub cpus: u64,
    /// `mem`, in MiB.
    pub mem_mib: u64,
    /// `disk`, in MiB.
    pub disk_mib: u64,
}

impl HostCapacity {
    /// All processors; memory but for 1 GiB (half of it below 2 GiB); the disk but for 5 GiB (half
    /// of it below 10 GiB). What could not be measured counts as 1 processor, 1 GiB, 10 GiB.
    pub fn offered(&self) -> OfferedCapacity {
        OfferedCapacity {
            cpus: self.cpus.unwrap_or(1),
            mem_mib: self.memory_bytes.map_or(GIB, |total| all_but(total, GIB)) / MIB,
            disk_mib: self
                .disk_bytes
                .map_or(10 * GIB, |total| all_but(total, 5 * GIB))
                / MIB,
        }
    }
}

/// `total` less what the machine itself needs, or half of it where that is too much to ask.
fn all_but(total: u64, reserve: u64) -> u64 {
    if total >= 2 * reserve {
        total - reserve
    } else {
        total / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn big_machines_keep_a_fixed_reserve() {
        let host = HostCapacity {
            cpus: Some(8),
            memory_bytes: Some(16 * GIB),
            disk_bytes: Some(100 * GIB),
        };
        assert_eq!(
            host.offered(),
            OfferedCapacity {
                cpus: 8,
                mem_mib: 15 * 1024,
                disk_mib: 95 * 1024
            }
        );
    }

    #[test]
    fn the_reserve_starts_at_twice_its_size() {
        let host = HostCapacity {
            cpus: Some(1),
            memory_bytes: Some(2 * GIB),
            disk_bytes: Some(10 * GIB),
        };
        assert_eq!(
            host.offered(),
            OfferedCapacity {
                cpus: 1,
                mem_mib: 1024,
                disk_mib: 5 * 1024
            }
        );
        let host = HostCapacity {
            memory_bytes: Some(2 * GIB - 1),
            disk_bytes: Some(10 * GIB - 1),
            ..host
        };
        assert_eq!(
            host.offered(),
            OfferedCapacity {
                cpus: 1,
                mem_mib: 1023,
                disk_mib: 5 * 1024 - 1
            }
        );
    }

    #[test]
    fn unmeasured_machines_offer_the_defaults() {
        let offered = HostCapacity::default().offered();
        assert_eq!(
            offered,
            OfferedCapacity {
                cpus: 1,
                mem_mib: 1024,
                disk_mib: 10 * 1024
            }
        );
    }
}
