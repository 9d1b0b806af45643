//! What a killed init has left behind, when no launcher was its parent: found by the control group,
//! by the session of the command and by the sandbox in its environment, and killed.
//!
//! A daemon in a session of its own, with an environment of its own, outside a control group, is not
//! found: nothing tells whose it is any more.

use super::{
    cgroup::{Cgroup, kill_group},
    children::Stat,
    kept, sys,
};
use crate::record::Record;
use std::{
    fs,
    os::{fd::AsFd, unix::ffi::OsStrExt},
};

/// Kills what is found, and says whether anything was: once nothing is, the container is gone. Its
/// init must be gone already.
pub(super) fn kill(record: &Record) -> bool {
    if record.facts.boot != kept::boot_id() {
        return false;
    }
    let group = record.facts.cgroup.as_deref().and_then(Cgroup::reopen);
    let mut found = group.as_ref().is_some_and(|group| !group.is_empty());
    if let Some(group) = &group {
        kill_group(group.as_fd());
        group.remove_kept();
    }
    for pid in processes() {
        if belongs(pid, record) {
            found = true;
            let _ = sys::kill(pid, libc::SIGKILL);
        }
    }
    found
}

/// After an orderly end that is all there is to do.
pub(super) fn remove_group(record: &Record) {
    let group = record.facts.cgroup.as_deref().and_then(Cgroup::reopen);
    group.iter().for_each(Cgroup::remove_kept);
}

fn processes() -> impl Iterator<Item = i32> {
    let own = std::process::id() as i32;
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(move |pid| *pid > 1 && *pid != own)
}

fn belongs(pid: i32, record: &Record) -> bool {
    let Some(stat) = Stat::read(pid) else {
        return false;
    };
    let (Some(session), Some(start)) = (stat.field::<i32>(6), stat.field::<u64>(22)) else {
        return false;
    };
    // Who was there before the container is not of it.
    if stat.is_over() || start < record.command.start {
        return false;
    }
    // The number of a session is not used again while somebody is in it. So if somebody else has
    // the command's number now, the session is his.
    let taken = Stat::read(record.command.pid)
        .and_then(|stat| stat.field::<u64>(22))
        .is_some_and(|start| start != record.command.start);
    (session == record.command.pid && !taken) || is_in_sandbox(pid, record)
}

/// Whether it was executed with the environment of the container.
fn is_in_sandbox(pid: i32, record: &Record) -> bool {
    let sandbox = record.facts.sandbox.as_os_str().as_bytes();
    let variable = [b"MESOS_SANDBOX=", sandbox].concat();
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    !sandbox.is_empty()
        && environment
            .split(|byte| *byte == 0)
            .any(|one| one == variable)
}
