//! Which processes are whose children, read from `/proc` without allocating on the heap.
//!
//! `/proc/PID/task/TID/children` answers directly; kernels built without it get a scan of all
//! processes' parents.

use super::sys::{Errno, Mapping};
use rustix::{
    fd::{AsFd, OwnedFd},
    fs::{CWD, Mode, OFlags, RawDir, openat},
};
use std::{ffi::CStr, fmt::Write, mem::MaybeUninit};

/// More processes than `pid_max` allows at its usual settings; what is beyond waits for the next
/// round.
const PIDS_MAX: usize = 1 << 18;

/// A growing list of process ids in memory of its own.
pub(super) struct Pids {
    memory: Mapping,
    len: usize,
}

impl Pids {
    pub(super) fn new() -> Result<Self, Errno> {
        Ok(Self {
            memory: Mapping::new(PIDS_MAX * size_of::<i32>())?,
            len: 0,
        })
    }

    pub(super) fn as_slice(&self) -> &[i32] {
        // SAFETY: the mapping is page-aligned, zeroed and has room for PIDS_MAX; the first `len`
        // were written by `push`. Borrowing `self` keeps it mapped and unchanged.
        unsafe { std::slice::from_raw_parts(self.memory.start().cast::<i32>(), self.len) }
    }

    fn push(&mut self, pid: i32) {
        if self.len < PIDS_MAX {
            // SAFETY: `len` is below PIDS_MAX, so this stays inside the mapping, which `self`
            // borrows mutably.
            unsafe { self.memory.start().cast::<i32>().add(self.len).write(pid) };
            self.len += 1;
        }
    }

    fn push_new(&mut self, pid: i32) {
        if !self.as_slice().contains(&pid) {
            self.push(pid);
        }
    }

    /// The children of this process, the caller.
    pub(super) fn own_children() -> Result<Self, Errno> {
        let mut pids = Self::new()?;
        pids.add_children(rustix::process::getpid().as_raw_nonzero().get());
        Ok(pids)
    }

    /// All descendants of `root`, parents before children. `visit` sees each before its children
    /// are looked for, and looking goes on until a round finds nobody new.
    pub(super) fn descendants(root: i32, mut visit: impl FnMut(i32)) -> Result<Self, Errno> {
        let mut pids = Self::new()?;
        loop {
            let known = pids.len;
            pids.add_children(root);
            let mut next = 0;
            while let Some(&pid) = pids.as_slice().get(next) {
                if next >= known {
                    visit(pid);
                }
                pids.add_children(pid);
                next += 1;
            }
            if pids.len == known {
                return Ok(pids);
            }
        }
    }

    fn add_children(&mut self, parent: i32) {
        let Some(tasks) = open(format_args!("/proc/{parent}/task"), OFlags::DIRECTORY) else {
            return;
        };
        each_number(&tasks, |thread| {
            match open(
                format_args!("/proc/{parent}/task/{thread}/children"),
                OFlags::empty(),
            ) {
                Some(list) => read_numbers(&list, |pid| self.push_new(pid)),
                None => self.add_children_by_scan(parent),
            }
        });
    }

    fn add_children_by_scan(&mut self, parent: i32) {
        let Some(proc) = open(format_args!("/proc"), OFlags::DIRECTORY) else {
            return;
        };
        each_number(&proc, |pid| {
            if parent_of(pid) == Some(parent) {
                self.push_new(pid);
            }
        });
    }
}

/// The parent, field 4 of `/proc/PID/stat`.
pub(super) fn parent_of(pid: i32) -> Option<i32> {
    Stat::read(pid)?.field(4)
}

/// When it was started, in ticks since the machine was; field 22.
pub(super) fn start_of(pid: i32) -> Option<u64> {
    Stat::read(pid)?.field(22)
}

/// `/proc/PID/stat` on the stack.
pub(super) struct Stat {
    bytes: [u8; 512],
    len: usize,
}

impl Stat {
    pub(super) fn read(pid: i32) -> Option<Self> {
        let stat = open(format_args!("/proc/{pid}/stat"), OFlags::empty())?;
        let mut bytes = [0; 512];
        let len = rustix::io::read(&stat, &mut bytes).ok()?;
        Some(Self { bytes, len })
    }

    /// Fields have the numbers of `proc_pid_stat(5)`, from 3 on. The second is a name in parentheses
    /// that may hold anything, so they are counted from the last closing one.
    pub(super) fn field<T: std::str::FromStr>(&self, number: usize) -> Option<T> {
        let text = self.bytes.get(..self.len)?;
        let after_name = text.get(text.iter().rposition(|b| *b == b')')? + 1..)?;
        let field = after_name
            .split(|b| *b == b' ')
            .filter(|f| !f.is_empty())
            .nth(number.checked_sub(3)?)?;
        std::str::from_utf8(field).ok()?.parse().ok()
    }

    /// Whether it has ended and only waits to be reaped.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.field::<char>(3), None | Some('Z' | 'X'))
    }
}

/// A path on the stack.
struct PathText {
    bytes: [u8; 64],
    len: usize,
}

impl Write for PathText {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        // One byte stays zero.
        let room = self
            .bytes
            .get_mut(self.len..self.len + text.len() + 1)
            .ok_or(std::fmt::Error)?;
        room[..text.len()].copy_from_slice(text.as_bytes());
        self.len += text.len();
        Ok(())
    }
}

fn open(path: std::fmt::Arguments<'_>, flags: OFlags) -> Option<OwnedFd> {
    let mut text = PathText {
        bytes: [0; 64],
        len: 0,
    };
    text.write_fmt(path).ok()?;
    let path = CStr::from_bytes_until_nul(&text.bytes).ok()?;
    openat(
        CWD,
        path,
        flags | OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .ok()
}

fn each_number(directory: &OwnedFd, mut each: impl FnMut(i32)) {
    let mut buffer = [MaybeUninit::<u8>::uninit(); 2048];
    let mut entries = RawDir::new(directory.as_fd(), &mut buffer);
    while let Some(Ok(entry)) = entries.next() {
        if let Some(number) = entry
            .file_name()
            .to_str()
            .ok()
            .and_then(|name| name.parse().ok())
        {
            each(number);
        }
    }
}

/// Decimal numbers separated by spaces; one may be cut by the end of the buffer.
fn read_numbers(file: &OwnedFd, mut each: impl FnMut(i32)) {
    let mut buffer = [0; 1024];
    let mut number: Option<i32> = None;
    while let Ok(length @ 1..) = rustix::io::read(file, &mut buffer) {
        for byte in &buffer[..length] {
            match byte {
                b'0'..=b'9' => {
                    let digit = i32::from(byte - b'0');
                    number = Some(number.unwrap_or(0).wrapping_mul(10).wrapping_add(digit));
                }
                _ => number.take().into_iter().for_each(&mut each),
            }
        }
    }
    number.into_iter().for_each(each);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Child, Command};

    fn sleeper() -> Child {
        Command::new("sleep")
            .arg("1000")
            .spawn()
            .expect("sleep starts")
    }

    #[test]
    fn both_ways_find_the_same_children() {
        let mut children = [sleeper(), sleeper()];
        let mut expected = children.each_ref().map(|child| child.id() as i32);
        expected.sort();
        let own = Pids::own_children().expect("listed");
        let mut scanned = Pids::new().expect("memory");
        scanned.add_children_by_scan(std::process::id() as i32);
        for pids in [own, scanned] {
            let mut pids = pids.as_slice().to_vec();
            pids.retain(|pid| expected.contains(pid));
            pids.sort();
            assert_eq!(pids, expected);
        }
        for child in &mut children {
            child.kill().and_then(|()| child.wait()).expect("ended");
        }
    }

    #[test]
    fn numbers_are_read_whole_across_buffers() {
        use std::io::{Seek, Write};
        let mut file = tempfile::tempfile().expect("a file");
        let numbers: Vec<i32> = (1000..3000).collect();
        for number in &numbers {
            write!(file, "{number} ").expect("written");
        }
        file.rewind().expect("rewound");
        let mut read = Vec::new();
        read_numbers(&OwnedFd::from(file), |number| read.push(number));
        assert_eq!(read, numbers);
    }
}
