//! What the machine offers, how full its disk is, and when it was started.

use std::{path::PathBuf, time::Duration};
use tepui_containers::linux;
use tepui_follower::resources::Detected;

const MIB: u64 = 1 << 20;

/// What resources are made of where `--resources` does not say.
pub fn detect(work_dir: &std::path::Path) -> Detected {
    let host = linux::measure_capacity(work_dir);
    let unknown = Detected {
        cpus: 1,
        mem_mb: 2 * 1024,
        disk_mb: 20 * 1024,
    };
    Detected {
        cpus: host.cpus.unwrap_or(unknown.cpus),
        mem_mb: host
            .memory_bytes
            .map_or(unknown.mem_mb, |bytes| bytes / MIB),
        disk_mb: host.disk_bytes.map_or(unknown.disk_mb, |bytes| bytes / MIB),
    }
}

/// Which run of the system this is. Empty where the kernel does not say.
pub(super) fn boot_id() -> String {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
    text.unwrap_or_default().trim().to_owned()
}

/// Measures now and every `interval` for as long as the runtime lives.
pub(super) fn watch_disk(
    work_dir: PathBuf,
    interval: Duration,
    tell: impl Fn(f64) + Send + 'static,
) {
    tokio::spawn(async move {
        loop {
            let path = work_dir.clone();
            let measured = tokio::task::spawn_blocking(move || rustix::fs::statvfs(&path)).await;
            match measured {
                Ok(Ok(disk)) if disk.f_blocks > 0 => {
                    tell(1.0 - disk.f_bfree as f64 / disk.f_blocks as f64)
                }
                Ok(Ok(_)) => {}
                Ok(Err(error)) => {
                    tracing::warn!(%error, "cannot measure the disk of the work directory")
                }
                // The runtime stops.
                Err(_) => return,
            }
            tokio::time::sleep(interval).await;
        }
    });
}
