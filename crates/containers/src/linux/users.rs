//! Users by name, for the planner. Asks the system's name service, which may read files or the
//! network: call it in the follower, on a thread that may block, never in a forked process.

use crate::plan::{HostFacts, Identity};
use std::{
    ffi::{CStr, CString},
    io,
    mem::MaybeUninit,
    ptr,
};

const BUFFER_BYTES_MAX: usize = 1 << 20;
const GROUPS_MAX: usize = 65536;

/// What planning needs for launches as these users.
pub fn host_facts<'a>(users: impl IntoIterator<Item = &'a str>) -> io::Result<HostFacts> {
    let users = users
        .into_iter()
        .map(|name| Ok((name.to_owned(), lookup_user(name)?)))
        .collect::<io::Result<_>>()?;
    Ok(HostFacts {
        uid: rustix::process::geteuid().as_raw(),
        users,
        state: None,
    })
}

/// A user's ids and groups; `None`: there is no such user.
pub fn lookup_user(name: &str) -> io::Result<Option<Identity>> {
    let Ok(name) = CString::new(name) else {
        return Ok(None);
    };
    let Some((uid, gid)) = ids(&name)? else {
        return Ok(None);
    };
    Ok(Some(Identity {
        uid,
        gid,
        groups: groups(&name, gid)?,
    }))
}

/// Whether this process acts as root.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Name of the user this process acts as; the number where there is no name.
pub fn current_user() -> String {
    let uid = rustix::process::geteuid().as_raw();
    user_name(uid).unwrap_or_else(|| uid.to_string())
}

fn user_name(uid: u32) -> Option<String> {
    let mut buffer = vec![0; 4096];
    loop {
        let mut entry = MaybeUninit::<libc::passwd>::uninit();
        let mut found = ptr::null_mut();
        // SAFETY: all pointers are to live memory of the sizes given.
        let error = unsafe {
            libc::getpwuid_r(
                uid,
                entry.as_mut_ptr(),
                buffer.as_mut_ptr(),
                buffer.len(),
                &raw mut found,
            )
        };
        match error {
            libc::ERANGE if buffer.len() < BUFFER_BYTES_MAX => buffer.resize(buffer.len() * 4, 0),
            0 if !found.is_null() => {
                // SAFETY: `found` is not null, so the entry was filled in, and its name is a string
                // in `buffer`, which still lives.
                let name = unsafe { CStr::from_ptr(entry.assume_init().pw_name) };
                return name.to_str().ok().map(str::to_owned);
            }
            _ => return None,
        }
    }
}

fn ids(name: &CString) -> io::Result<Option<(u32, u32)>> {
    let mut buffer = vec![0; 4096];
    loop {
        let mut entry = MaybeUninit::<libc::passwd>::uninit();
        let mut found = ptr::null_mut();
        // SAFETY: all pointers are to live memory of the sizes given.
        let error = unsafe {
            libc::getpwnam_r(
                name.as_ptr(),
                entry.as_mut_ptr(),
                buffer.as_mut_ptr(),
                buffer.len(),
                &raw mut found,
            )
        };
        match error {
            libc::ERANGE if buffer.len() < BUFFER_BYTES_MAX => buffer.resize(buffer.len() * 4, 0),
            // Some name services answer so instead of "not found" (getpwnam(3)).
            0 | libc::ENOENT | libc::ESRCH if found.is_null() => return Ok(None),
            0 => {
                // SAFETY: `found` is not null, so the entry was filled in.
                let entry = unsafe { entry.assume_init() };
                return Ok(Some((entry.pw_uid, entry.pw_gid)));
            }
            error => return Err(io::Error::from_raw_os_error(error)),
        }
    }
}

fn groups(name: &CString, gid: u32) -> io::Result<Vec<u32>> {
    let mut groups = vec![0; 64];
    loop {
        let mut count = groups.len() as libc::c_int;
        // SAFETY: `groups` has room for `count` ids.
        let fit =
            unsafe { libc::getgrouplist(name.as_ptr(), gid, groups.as_mut_ptr(), &raw mut count) };
        if fit >= 0 {
            groups.truncate(count.max(0) as usize);
            return Ok(groups);
        }
        if groups.len() >= GROUPS_MAX {
            return Err(io::Error::other("user is in too many groups"));
        }
        groups.resize(groups.len() * 4, 0);
    }
}
