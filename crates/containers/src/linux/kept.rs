//! The [record](crate::record) of a container that outlives its launcher, as its launcher and its
//! init hold it.
//!
//! The launcher makes the directory and the socket's name; the init writes the text, listens, and
//! notes the end. Everything that the init does here allocates nothing.

use super::{
    children::{Stat, start_of},
    sys::Errno,
};
use crate::{
    line::Line,
    plan::Keep,
    record::{self, FILE, Head, Process, SOCKET, State},
};
use rustix::{
    fs::{AtFlags, FlockOperation, Mode, OFlags, flock, open, openat, renameat, unlinkat},
    net::{
        AddressFamily, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, connect, listen,
        socket_with, sockopt,
    },
};
use std::{
    fmt::Write,
    fs, io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::fs::DirBuilderExt,
    },
    path::Path,
};

/// Where the text is written before it gets its name.
const FRESH: &str = "container.new";
const DIRECTORY: OFlags = OFlags::DIRECTORY
    .union(OFlags::RDONLY)
    .union(OFlags::CLOEXEC);
/// Launchers that may wait at once; there is one at a time.
const BACKLOG: i32 = 4;

/// A place for a record, before there is anything to record.
#[derive(Debug)]
pub(super) struct Kept {
    directory: OwnedFd,
    /// Where to listen. `None`: the file system has no sockets; a launcher that adopts the container
    /// then does without.
    socket: Option<OwnedFd>,
    /// The state directory's lock: held until there is a record, or will never be one.
    lock: OwnedFd,
}

/// What an init needs of its record.
#[derive(Debug)]
pub(super) struct Recorded {
    file: OwnedFd,
    socket: Option<OwnedFd>,
    told: bool,
}

impl Kept {
    /// Makes the directory, closed to others.
    pub(super) fn new(keep: &Keep, lock: BorrowedFd<'_>) -> io::Result<Self> {
        make_directory(&keep.directory)?;
        let directory = open(&keep.directory, DIRECTORY, Mode::empty())?;
        for name in [FILE, SOCKET] {
            match unlinkat(&directory, name, AtFlags::empty()) {
                Ok(()) | Err(rustix::io::Errno::NOENT) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        let socket = new_socket()?;
        let bound = bind(&socket, &address(directory.as_fd())?);
        Ok(Self {
            socket: bound.is_ok().then_some(socket),
            lock: rustix::io::fcntl_dupfd_cloexec(lock, 3)?,
            directory,
        })
    }

    /// All of them; `absent` stands for one that is not there.
    pub(super) fn descriptors(&self, absent: i32) -> [i32; 3] {
        let socket = self.socket.as_ref().map_or(absent, |s| s.as_raw_fd());
        [self.directory.as_raw_fd(), socket, self.lock.as_raw_fd()]
    }

    /// In the init: writes down that it leads the process that is to become the command. `facts` are
    /// the lines that the launcher knew.
    pub(super) fn write(self, init: i32, command: i32, facts: &[u8]) -> Result<Recorded, Errno> {
        let raw = |errno: rustix::io::Errno| errno.raw_os_error();
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(0o600);
        let file = openat(&self.directory, FRESH, flags, mode).map_err(raw)?;
        let head = Head {
            state: State::Running,
            told: false,
        };
        write_all(&file, &head.line())?;
        let mut processes = Line::<96>::new(0);
        for (key, pid) in [("init", init), ("command", command)] {
            let start = start_of(pid).ok_or(libc::ESRCH)?;
            writeln!(processes, "{key} {pid} {start}").map_err(|_| libc::ENOMEM)?;
        }
        write_all(&file, processes.text())?;
        write_all(&file, facts)?;
        // Before it can be found: who finds it connects at once.
        let socket = self.socket.filter(|s| listen(s, BACKLOG).is_ok());
        renameat(&self.directory, FRESH, &self.directory, FILE).map_err(raw)?;
        Ok(Recorded {
            file,
            socket,
            told: false,
        })
    }
}

impl Recorded {
    pub(super) fn socket(&self) -> Option<&OwnedFd> {
        self.socket.as_ref()
    }

    /// A launcher that adopts the container: one of the same user, or root's.
    pub(super) fn accept(&self) -> Option<OwnedFd> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let launcher = accept_with(self.socket.as_ref()?, flags).ok()?;
        let peer = sockopt::socket_peercred(&launcher).ok()?;
        let trusted = peer.uid.is_root() || peer.uid == rustix::process::geteuid();
        trusted.then_some(launcher)
    }

    /// Its follower has begun to end it.
    pub(super) fn told(&mut self) {
        if !self.told {
            self.told = true;
            self.note(State::Running);
        }
    }

    /// It is over; `alone`: nobody hears of it, so it must survive the machine's end too.
    pub(super) fn over(&mut self, state: State, alone: bool) {
        self.note(state);
        if alone {
            // Without it the status is unknown if the machine ends too.
            let _ = rustix::fs::fdatasync(&self.file);
        }
    }

    fn note(&self, state: State) {
        let head = Head {
            state,
            told: self.told,
        };
        // Failing leaves what was there: the end is known, its status is not.
        let _ = rustix::io::retry_on_intr(|| rustix::io::pwrite(&self.file, &head.line(), 0));
    }
}

fn write_all(file: &OwnedFd, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        let written = rustix::io::retry_on_intr(|| rustix::io::write(file, bytes))
            .map_err(|errno| errno.raw_os_error())?;
        bytes = bytes.get(written..).unwrap_or(&[]);
    }
    Ok(())
}

fn new_socket() -> rustix::io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
}

/// Paths of sockets may have 107 bytes only; this way they may be as long as any.
fn address(directory: BorrowedFd<'_>) -> rustix::io::Result<SocketAddrUnix> {
    SocketAddrUnix::new(format!("/proc/self/fd/{}/{SOCKET}", directory.as_raw_fd()))
}

fn make_directory(directory: &Path) -> io::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
}

/// Locks a state directory for as long as the descriptor, or a copy of it, is open. `None`: another
/// has it.
pub(super) fn lock(path: &Path) -> io::Result<Option<OwnedFd>> {
    if let Some(directory) = path.parent() {
        make_directory(directory)?;
    }
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC;
    let file = open(path, flags, Mode::from_raw_mode(0o600))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// Connects to the init that leads the container with this record.
pub(super) fn reach(directory: &Path, init: i32) -> Option<OwnedFd> {
    let (socket, pid) = reach_anyone(directory)?;
    (pid == init).then_some(socket)
}

/// Connects to whoever listens there, and says who that is.
pub(super) fn reach_anyone(directory: &Path) -> Option<(OwnedFd, i32)> {
    let directory = open(directory, DIRECTORY, Mode::empty()).ok()?;
    let socket = new_socket().ok()?;
    connect(&socket, &address(directory.as_fd()).ok()?).ok()?;
    let peer = sockopt::socket_peercred(&socket).ok()?;
    Some((socket, peer.pid.as_raw_nonzero().get()))
}

/// Reads a record. `Ok(None)`: what is there is none.
pub(super) fn read(directory: &Path) -> io::Result<Option<record::Record>> {
    use std::io::Read;
    let mut bytes = Vec::new();
    fs::File::open(directory.join(FILE))?
        .take(record::BYTES_MAX as u64)
        .read_to_end(&mut bytes)?;
    Ok(record::Record::parse(&bytes))
}

/// Of this start of the machine.
pub(super) fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map(|text| text.trim().to_owned())
        .unwrap_or_default()
}

/// Whether it is there, the same one, and has not ended.
pub(super) fn lives(process: Process) -> bool {
    Stat::read(process.pid)
        .is_some_and(|stat| stat.field(22) == Some(process.start) && !stat.is_over())
}
