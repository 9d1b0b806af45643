//! Becoming the task's user, on this thread only.
//!
//! Credentials belong to threads in Linux; it is the C library that spreads a change to all of
//! them. The system calls behind these functions change the calling thread alone, which must be one
//! of its own: there is no way back.

use rustix::{
    process::{Gid, Uid},
    thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid},
};
use std::io;
use tepui_containers::plan::Identity;

/// Gives up who this thread is. Nothing to do when it is that user already.
pub(super) fn become_user(user: &Identity) -> io::Result<()> {
    let uid = Uid::from_raw(user.uid);
    if rustix::process::geteuid() == uid {
        return Ok(());
    }
    let groups: Vec<Gid> = user.groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
    let gid = Gid::from_raw(user.gid);
    set_thread_groups(&groups)?;
    set_thread_res_gid(gid, gid, gid)?;
    // Last: it takes the right to do the others. It also drops all capabilities.
    set_thread_res_uid(uid, uid, uid)?;
    Ok(())
}
