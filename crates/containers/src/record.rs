//! What is kept of a container that outlives its follower: where, in which words.
//!
//! A record is a directory with two entries. `container` is a small text, below, that appears whole
//! (by a rename) before the container's command is executed; `socket` is where the container's init
//! listens for a launcher that adopts it. Directories nest as containers do:
//!
//! ```text
//! STATE/lock
//! STATE/ID/container
//! STATE/ID/socket
//! STATE/ID/containers/NESTED/container
//! ```
//!
//! ```text
//! tepui-container 1 running                                   (64 bytes, rewritten in place)
//! init PID START
//! command PID START
//! boot BOOT-ID
//! cgroup PATH
//! sandbox PATH
//! name NAME
//! end
//! ```
//!
//! START is the kernel's: ticks between the start of the machine and that of the process. Together
//! with the boot id it tells a process from a later one with its number. The first line is where
//! the init notes the end: overwriting 64 bytes needs no room on a full disk, allocates nothing,
//! and a reader finds the old or the new. It says `running`, then `code N`, `signal N` or
//! `failed STEP ERRNO`; with `, told` behind it the container had been sent a signal on behalf of
//! its follower.

use crate::{line::Line, plan::Keep};
use std::{
    fmt::Write,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::{Path, PathBuf},
};
use tepui_model::container::{ContainerId, ExitStatus};

/// The text's name in a record's directory.
pub const FILE: &str = "container";
/// The socket's.
pub const SOCKET: &str = "socket";
/// Directory of the records of nested containers.
pub const NESTED: &str = "containers";
/// Bytes of the first line, its newline included.
pub const HEAD_BYTES: usize = 64;
/// More than any record that was written by us: names and paths are bounded.
pub const BYTES_MAX: usize = 64 * 1024;

const MAGIC: &str = "tepui-container 1 ";

/// A process of one boot: its number and when it was started, in the kernel's ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    /// Number.
    pub pid: i32,
    /// Start.
    pub start: u64,
}

/// What became of a container, as far as its init has written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing yet.
    Running,
    /// Its command ended and all is gone.
    Exited(ExitStatus),
    /// Its command was never executed: number of the step that failed, and why.
    Failed {
        /// Which step.
        step: i32,
        /// Error number.
        errno: i32,
    },
}

/// The first line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// What became of it.
    pub state: State,
    /// Whether its follower had it sent a signal.
    pub told: bool,
}

/// A whole record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// First line.
    pub head: Head,
    /// The process that leads the container.
    pub init: Process,
    /// The process that was to become the command; leader of its session.
    pub command: Process,
    /// The rest.
    pub facts: Facts,
}

/// What is known before anything is forked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// `/proc/sys/kernel/random/boot_id`
    pub boot: String,
    /// Its control group, if it has one.
    pub cgroup: Option<PathBuf>,
    /// Working directory of the command.
    pub sandbox: PathBuf,
    /// See [`Keep::name`].
    pub name: String,
}

/// Where a container's record lies. `None`: its id, or one it is nested in, is no file name.
pub fn directory(state: &Path, container: &ContainerId) -> Option<PathBuf> {
    let value = &*container.value;
    let usable = !value.is_empty()
        && value.len() <= 255
        && !matches!(value, "." | ".." | "lock")
        && !value.contains(['/', '\0']);
    if !usable {
        return None;
    }
    match &container.parent {
        None => Some(state.join(value)),
        Some(parent) => Some(directory(state, parent)?.join(NESTED).join(value)),
    }
}

/// See [`Keep::lock`].
pub fn lock(state: &Path) -> PathBuf {
    state.join("lock")
}

impl Head {
    /// A line of exactly [`HEAD_BYTES`]. Allocates nothing.
    pub fn line(self) -> [u8; HEAD_BYTES] {
        let mut line = Line::<HEAD_BYTES>::new(b' ');
        let told = if self.told { ", told" } else { "" };
        // Two numbers of eleven digits and the words leave room.
        let _ = match self.state {
            State::Running => write!(line, "{MAGIC}running{told}"),
            State::Exited(ExitStatus::Code(code)) => write!(line, "{MAGIC}code {code}{told}"),
            State::Exited(ExitStatus::Signal(signal)) => {
                write!(line, "{MAGIC}signal {signal}{told}")
            }
            State::Failed { step, errno } => write!(line, "{MAGIC}failed {step} {errno}{told}"),
        };
        let mut bytes = line.filled();
        bytes[HEAD_BYTES - 1] = b'\n';
        bytes
    }

    fn parse(line: &str) -> Option<Self> {
        let text = line.strip_prefix(MAGIC)?.trim_end_matches(' ');
        let (text, told) = match text.strip_suffix(", told") {
            Some(text) => (text, true),
            None => (text, false),
        };
        let words: Vec<&str> = text.split(' ').collect();
        let state = match words[..] {
            ["running"] => State::Running,
            ["code", code] => State::Exited(ExitStatus::Code(code.parse().ok()?)),
            ["signal", signal] => State::Exited(ExitStatus::Signal(signal.parse().ok()?)),
            ["failed", step, errno] => State::Failed {
                step: step.parse().ok()?,
                errno: errno.parse().ok()?,
            },
            _ => return None,
        };
        Some(Self { state, told })
    }
}

impl Facts {
    /// What a launcher knows of a container that it is to start.
    pub fn new(keep: &Keep, boot: &str, cgroup: Option<&Path>, sandbox: &Path) -> Self {
        Self {
            boot: boot.to_owned(),
            cgroup: cgroup.map(Path::to_owned),
            sandbox: sandbox.to_owned(),
            name: keep.name.clone(),
        }
    }

    /// The lines after those of the processes.
    pub fn lines(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let cgroup = self.cgroup.as_deref().unwrap_or(Path::new(""));
        let fields: [(&str, &[u8]); 4] = [
            ("boot", self.boot.as_bytes()),
            ("cgroup", cgroup.as_os_str().as_bytes()),
            ("sandbox", self.sandbox.as_os_str().as_bytes()),
            ("name", self.name.as_bytes()),
        ];
        for (key, value) in fields {
            out.extend_from_slice(key.as_bytes());
            out.push(b' ');
            for byte in value {
                match byte {
                    b'\\' => out.extend_from_slice(b"\\\\"),
                    b'\n' => out.extend_from_slice(b"\\n"),
                    byte => out.push(*byte),
                }
            }
            out.push(b'\n');
        }
        out.extend_from_slice(b"end\n");
        out
    }
}

impl Record {
    /// `None` unless it is exactly what an init writes: a torn or damaged file is no record.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let (head, rest) = bytes.split_at_checked(HEAD_BYTES)?;
        let head = std::str::from_utf8(head).ok()?.strip_suffix('\n')?;
        let mut lines = rest.split(|byte| *byte == b'\n');
        let init = process(field(lines.next()?, "init ")?)?;
        let command = process(field(lines.next()?, "command ")?)?;
        let boot = text(field(lines.next()?, "boot ")?)?;
        let cgroup = path(field(lines.next()?, "cgroup ")?)?;
        let sandbox = path(field(lines.next()?, "sandbox ")?)?;
        let name = text(field(lines.next()?, "name ")?)?;
        // The last newline leaves an empty piece behind it.
        if lines.next() != Some(b"end") || lines.next() != Some(b"") || lines.next().is_some() {
            return None;
        }
        Some(Self {
            head: Head::parse(head)?,
            init,
            command,
            facts: Facts {
                boot,
                cgroup: Some(cgroup).filter(|path| !path.as_os_str().is_empty()),
                sandbox,
                name,
            },
        })
    }
}

fn field<'a>(line: &'a [u8], key: &str) -> Option<&'a [u8]> {
    line.strip_prefix(key.as_bytes())
}

fn process(value: &[u8]) -> Option<Process> {
    let (pid, start) = std::str::from_utf8(value).ok()?.split_once(' ')?;
    let pid = pid.parse().ok().filter(|pid| *pid > 1)?;
    Some(Process {
        pid,
        start: start.parse().ok()?,
    })
}

fn unescape(value: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(value.len());
    let mut bytes = value.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => out.push(match bytes.next()? {
                b'n' => b'\n',
                b'\\' => b'\\',
                _ => return None,
            }),
            0 => return None,
            byte => out.push(*byte),
        }
    }
    Some(out)
}

fn text(value: &[u8]) -> Option<String> {
    String::from_utf8(unescape(value)?).ok()
}

fn path(value: &[u8]) -> Option<PathBuf> {
    Some(std::ffi::OsString::from_vec(unescape(value)?).into())
}
