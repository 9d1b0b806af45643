//! What the machine offers, how full its disk is, how much it has to do, and when it was started.

use std::{path::PathBuf, time::Duration};
use tepui_containers::linux;
use tepui_follower::{qos::Load, resources::Detected};

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

/// The kernel computes load averages every five seconds: there is nothing new before.
const LOAD_INTERVAL: Duration = Duration::from_secs(5);

/// Measures now and every `interval`, or as often as makes sense, for as long as the runtime lives.
pub(super) fn watch_load(interval: Duration, tell: impl Fn(Load) + Send + 'static) {
    tokio::spawn(async move {
        loop {
            let read = tokio::fs::read_to_string("/proc/loadavg").await;
            match read.as_deref().ok().and_then(load_of) {
                Some(load) => tell(load),
                None => tracing::warn!("cannot read the system's load"),
            }
            tokio::time::sleep(interval.max(LOAD_INTERVAL)).await;
        }
    });
}

/// `0.20 0.18 0.12 1/80 11206`: averages over one, five and fifteen minutes.
fn load_of(text: &str) -> Option<Load> {
    let mut numbers = text.split(' ').skip(1).map(|n| n.parse().ok());
    Some(Load {
        five: numbers.next()??,
        fifteen: numbers.next()??,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_load_is_what_the_kernel_says() {
        let (five, fifteen) = (1.5, 0.12);
        let load = load_of("0.20 1.50 0.12 1/80 11206\n");
        assert_eq!(load, Some(Load { five, fifteen }));
        assert_eq!(load_of("0.20"), None);
        let own = std::fs::read_to_string("/proc/loadavg").expect("readable");
        assert!(load_of(&own).is_some());
    }
}
