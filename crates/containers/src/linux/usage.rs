//! What a container's processes use, for `/monitor/statistics` (`src/usage/usage.cpp`).

use super::children::Pids;
use std::{fs, io};

/// Sums over a container's processes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// `cpus_user_time_secs`.
    pub cpus_user_time_secs: f64,
    /// `cpus_system_time_secs`.
    pub cpus_system_time_secs: f64,
    /// `mem_rss_bytes`.
    pub mem_rss_bytes: u64,
    /// `processes`.
    pub processes: u32,
    /// `threads`.
    pub threads: u32,
}

/// What everything below `init` (from [`Report::Launched`](crate::message::Report::Launched)) uses.
///
/// The init itself does not count, but the time of processes it has reaped does: the sums never go
/// back when a process ends, which the reference's do.
pub fn usage(init: u32) -> io::Result<Usage> {
    let root = i32::try_from(init).map_err(|_| io::ErrorKind::NotFound)?;
    let own = Stat::read(root)?;
    let ticks_per_second = rustix::param::clock_ticks_per_second() as f64;
    let page_bytes = rustix::param::page_size() as u64;
    let (mut user, mut system) = (own.reaped_user, own.reaped_system);
    let mut usage = Usage::default();
    let descendants = Pids::descendants(root, |_| {}).map_err(io::Error::from_raw_os_error)?;
    for pid in descendants.as_slice() {
        // It may just have ended; its parent then has its times or soon will.
        let Ok(stat) = Stat::read(*pid) else { continue };
        user += stat.user + stat.reaped_user;
        system += stat.system + stat.reaped_system;
        usage.mem_rss_bytes += stat.rss_pages * page_bytes;
        usage.processes += 1;
        usage.threads += stat.threads;
    }
    usage.cpus_user_time_secs = user as f64 / ticks_per_second;
    usage.cpus_system_time_secs = system as f64 / ticks_per_second;
    Ok(usage)
}

/// The fields of `/proc/PID/stat` that count.
#[derive(Debug, PartialEq)]
struct Stat {
    user: u64,
    system: u64,
    reaped_user: u64,
    reaped_system: u64,
    threads: u32,
    rss_pages: u64,
}

impl Stat {
    fn read(pid: i32) -> io::Result<Self> {
        Self::parse(&fs::read(format!("/proc/{pid}/stat"))?)
            .ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// Fields are counted after the name, the second, which may hold spaces and parentheses.
    fn parse(text: &[u8]) -> Option<Self> {
        let after_name = text.get(text.iter().rposition(|b| *b == b')')? + 1..)?;
        let fields: Vec<&str> = std::str::from_utf8(after_name)
            .ok()?
            .split_ascii_whitespace()
            .collect();
        // proc_pid_stat(5) numbers from 1; the state, 3, comes first here.
        let number = |field: usize| {
            fields
                .get(field - 3)?
                .parse::<i64>()
                .ok()
                .map(|n| n.max(0) as u64)
        };
        Some(Self {
            user: number(14)?,
            system: number(15)?,
            reaped_user: number(16)?,
            reaped_system: number(17)?,
            threads: number(20)? as u32,
            rss_pages: number(24)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_parentheses_do_not_shift_fields() {
        let text = b"7 (a) b) S 1 7 7 0 -1 4194560 1 2 3 4 11 12 13 14 20 0 5 0 99 4096 42 18446744073709551615 1";
        let stat = Stat {
            user: 11,
            system: 12,
            reaped_user: 13,
            reaped_system: 14,
            threads: 5,
            rss_pages: 42,
        };
        assert_eq!(Stat::parse(text), Some(stat));
        assert_eq!(Stat::parse(b"7 (a"), None);
        assert_eq!(Stat::parse(b"7 (a) S 1"), None);
    }
}
