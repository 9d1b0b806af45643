//! What a listing says about an entry, with the names of its owner as the system has them.

use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat};
use std::{collections::HashMap, ffi::CStr, fs, fs::File};
use tepui_protocol::v1::{FileInfo, TimeInfo};

/// Names of users and groups, from `/etc/passwd` and `/etc/group`. An id without a name is
/// written as a number.
pub(super) struct Names {
    users: HashMap<u32, String>,
    groups: HashMap<u32, String>,
}

impl Names {
    pub(super) fn read() -> Self {
        let table = |path| parse(&fs::read_to_string(path).unwrap_or_default());
        Self {
            users: table("/etc/passwd"),
            groups: table("/etc/group"),
        }
    }
}

/// `name:password:id:…`, a line each; the first name of an id counts.
fn parse(table: &str) -> HashMap<u32, String> {
    let mut names = HashMap::new();
    for line in table.lines() {
        let mut fields = line.split(':');
        if let (Some(name), Some(Ok(id))) = (fields.next(), fields.nth(1).map(str::parse)) {
            names.entry(id).or_insert_with(|| name.to_owned());
        }
    }
    names
}

/// An entry of `directory`, which is shown as `shown`.
pub(super) fn info(
    directory: &File,
    name: &CStr,
    shown: &str,
    names: &Names,
) -> rustix::io::Result<FileInfo> {
    let stat = stat(directory, name)?;
    let owner = |names: &HashMap<u32, String>, id: u32| {
        names.get(&id).cloned().unwrap_or_else(|| id.to_string())
    };
    Ok(FileInfo {
        path: format!("{}/{}", shown.trim_end_matches('/'), name.to_string_lossy()),
        nlink: i32::try_from(stat.st_nlink).ok(),
        size: u64::try_from(stat.st_size).ok(),
        mtime: Some(TimeInfo {
            nanoseconds: stat.st_mtime.saturating_mul(1_000_000_000),
        }),
        mode: Some(stat.st_mode),
        uid: Some(owner(&names.users, stat.st_uid)),
        gid: Some(owner(&names.groups, stat.st_gid)),
    })
}

/// A link that stays in the directory is shown as what it points to; another one as itself, which
/// tells nothing about files elsewhere.
fn stat(directory: &File, name: &CStr) -> rustix::io::Result<Stat> {
    let stat = rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
        return Ok(stat);
    }
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    match rustix::fs::openat2(directory, name, flags, Mode::empty(), ResolveFlags::BENEATH) {
        Ok(target) => rustix::fs::fstat(target),
        Err(rustix::io::Errno::NOENT) => Err(rustix::io::Errno::NOENT),
        Err(_) => Ok(stat),
    }
}

/// `-rw-r--r--`
pub(crate) fn mode_text(mode: u32) -> String {
    let kind = match FileType::from_raw_mode(mode) {
        FileType::Directory => 'd',
        FileType::Symlink => 'l',
        FileType::Fifo => 'p',
        FileType::Socket => 's',
        FileType::CharacterDevice => 'c',
        FileType::BlockDevice => 'b',
        _ => '-',
    };
    let bits = "rwxrwxrwx".chars().enumerate();
    let bits = bits.map(|(i, bit)| if mode & (0o400 >> i) != 0 { bit } else { '-' });
    std::iter::once(kind).chain(bits).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_read_like_a_long_listing() {
        for (mode, text) in [
            (0o100_644, "-rw-r--r--"),
            (0o040_755, "drwxr-xr-x"),
            (0o120_777, "lrwxrwxrwx"),
            (0o100_001, "---------x"),
        ] {
            assert_eq!(mode_text(mode), text);
        }
    }

    #[test]
    fn names_come_from_the_systems_tables() {
        let names = parse("root:x:0:0:root:/root:/bin/sh\ntoor:x:0:\nbad\nworse:x:y\nme:x:1000:\n");
        assert_eq!(names.get(&0).map(String::as_str), Some("root"));
        assert_eq!(names.get(&1000).map(String::as_str), Some("me"));
        assert_eq!(names.len(), 2);
    }
}
