//! System calls that rustix does not wrap, each behind a safe function with its reasons.
//!
//! Everything here that inits and commands-to-be use is a plain system call: no allocation, no
//! lock. Errors are bare `errno` values for the same reason.

use std::{
    ffi::{CStr, c_char, c_int},
    mem::MaybeUninit,
    os::fd::{AsRawFd, BorrowedFd},
    ptr,
};

/// The libc crate's constant of this name is too narrow for it.
const CLONE_INTO_CGROUP: u64 = 1 << 33;

/// An `errno` value.
pub(super) type Errno = c_int;

pub(super) fn errno() -> Errno {
    // SAFETY: returns the address of this thread's errno, valid while the thread lives.
    unsafe { *libc::__errno_location() }
}

fn check(result: c_int) -> Result<c_int, Errno> {
    if result < 0 { Err(errno()) } else { Ok(result) }
}

/// `strerror(3)` without the number that `io::Error` adds.
pub(super) fn describe(errno: Errno) -> String {
    let text = std::io::Error::from_raw_os_error(errno).to_string();
    text.split(" (os error")
        .next()
        .unwrap_or_default()
        .to_owned()
}

/// Ends this process at once, without running anything registered to run at exit.
pub(super) fn exit_now(code: c_int) -> ! {
    // SAFETY: ends the process; nothing of it is used afterwards.
    unsafe { libc::_exit(code) }
}

/// Ends the process when dropped: a panic in a forked process must not unwind into the frames it
/// shares with its parent.
pub(super) struct ExitOnUnwind;

impl Drop for ExitOnUnwind {
    fn drop(&mut self) {
        exit_now(70)
    }
}

/// `fork(2)` by way of libc, which makes its allocator usable in the child even if other threads
/// held its locks. Returns 0 in the child.
pub(super) fn fork_from_anywhere() -> Result<c_int, Errno> {
    // SAFETY: the child goes on in `launcher::run`, which takes no lock of the caller's other than
    // the allocator's; libc re-initialises that one.
    check(unsafe { libc::fork() })
}

/// Forks a process with one thread, straight into a control group if one is given. Returns 0 in
/// the child, which must not allocate: libc was not told of the fork.
pub(super) fn fork_plain(cgroup: Option<BorrowedFd<'_>>) -> Result<c_int, Errno> {
    // SAFETY: clone_args is plain integers, for which zero is a valid "not used".
    let mut args: libc::clone_args = unsafe { MaybeUninit::zeroed().assume_init() };
    args.exit_signal = libc::SIGCHLD as u64;
    if let Some(cgroup) = cgroup {
        args.flags = CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: no CLONE_VM and no stack: the semantics of fork. The caller has one thread, so no
    // lock can be left held in the child. `args` outlives the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_clone3,
            &raw const args,
            size_of::<libc::clone_args>(),
        )
    };
    match check(result as c_int) {
        // Kernels before 5.3 and some sandboxes have no clone3.
        Err(libc::ENOSYS | libc::EPERM) if cgroup.is_none() => fork_from_anywhere(),
        other => other,
    }
}

/// `execve(2)`; returns only on failure.
///
/// # Safety
///
/// `argv` and `environment` point to arrays of pointers to NUL-ended texts, ended by a null
/// pointer.
pub(super) unsafe fn execve(
    program: &CStr,
    argv: *const *const c_char,
    environment: *const *const c_char,
) -> Errno {
    // SAFETY: as the caller promises.
    unsafe { libc::execve(program.as_ptr(), argv, environment) };
    errno()
}

/// `kill(2)`: a process, or with a negative number a process group.
pub(super) fn kill(pid: c_int, signal: c_int) -> Result<(), Errno> {
    // 0 and -1 mean "my own group" and "everybody": never what is wanted here.
    if pid == 0 || pid == -1 {
        return Err(libc::ESRCH);
    }
    // SAFETY: takes and returns integers.
    check(unsafe { libc::kill(pid, signal) }).map(drop)
}

/// A child that has ended and is left to be reaped.
pub(super) fn ended_child() -> Result<Option<c_int>, Errno> {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: `info` is writable memory of the right size for the length of the call.
    check(unsafe { libc::waitid(libc::P_ALL, 0, info.as_mut_ptr(), flags) })?;
    // SAFETY: zeroed is a valid siginfo_t, and waitid fills in the SIGCHLD form, which has si_pid;
    // without an ended child it stays zero.
    let pid = unsafe { info.assume_init().si_pid() };
    Ok((pid != 0).then_some(pid))
}

/// Reaps this child, waiting for its end; the status is as `wait(2)` gives it.
pub(super) fn wait_for(pid: c_int) -> Result<c_int, Errno> {
    loop {
        let mut status = 0;
        // SAFETY: `status` is writable for the length of the call.
        match check(unsafe { libc::waitpid(pid, &raw mut status, 0) }) {
            Ok(_) => return Ok(status),
            Err(libc::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// Gives every signal its default action: what this process ignored, exec would keep ignored.
pub(super) fn default_signal_actions() {
    // The kernel's own structure, at most four words; all zero is SIG_DFL, no flags, empty mask.
    let default = [0_u64; 4];
    for signal in 1..=64 {
        // SAFETY: `default` outlives the call and installs no code. The bare call, because libc's
        // refuses the two signals it keeps for itself. Those that cannot be changed are refused.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                default.as_ptr(),
                ptr::null_mut::<u64>(),
                size_of::<u64>(),
            )
        };
    }
}

extern "C" fn ignore(_signal: c_int) {}

/// Makes SIGCHLD interrupt [`wait_readable`].
pub(super) fn interrupt_on_child_end() {
    // SAFETY: zeroed sigaction is valid: no flags, empty mask. The handler does nothing, so it may
    // run anywhere.
    unsafe {
        let mut action: libc::sigaction = MaybeUninit::zeroed().assume_init();
        action.sa_sigaction = ignore as extern "C" fn(c_int) as usize;
        libc::sigaction(libc::SIGCHLD, &raw const action, ptr::null_mut());
    }
}

/// Blocks (or lets through) all signals.
pub(super) fn block_signals(block: bool) {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigfillset and sigemptyset initialise the set that is then passed on.
    unsafe {
        if block {
            libc::sigfillset(set.as_mut_ptr())
        } else {
            libc::sigemptyset(set.as_mut_ptr())
        };
        libc::sigprocmask(libc::SIG_SETMASK, set.as_ptr(), ptr::null_mut());
    }
}

/// Waits until one of the descriptors is readable (negative ones are left out) or a child ends,
/// with every signal but SIGCHLD held back. Returns which are readable.
pub(super) fn wait_readable<const N: usize>(fds: [c_int; N], timeout_ms: Option<u32>) -> [bool; N] {
    let mut polled = fds.map(|fd| libc::pollfd {
        fd,
        events: libc::POLLIN,
        revents: 0,
    });
    let timeout = timeout_ms.map(|ms| libc::timespec {
        tv_sec: (ms / 1000) as libc::time_t,
        tv_nsec: (ms % 1000) as libc::c_long * 1_000_000,
    });
    let mut mask = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: `mask` is initialised by sigfillset; the other pointers are to locals or null.
    let ready = unsafe {
        libc::sigfillset(mask.as_mut_ptr());
        libc::sigdelset(mask.as_mut_ptr(), libc::SIGCHLD);
        let timeout = timeout.as_ref().map_or(ptr::null(), ptr::from_ref);
        libc::ppoll(
            polled.as_mut_ptr(),
            N as libc::nfds_t,
            timeout,
            mask.as_ptr(),
        )
    };
    polled.map(|fd| ready > 0 && fd.revents != 0)
}

/// A descriptor that is readable whenever a child has ended; SIGCHLD must be blocked.
pub(super) fn child_end_descriptor() -> Result<std::os::fd::OwnedFd, Errno> {
    use std::os::fd::FromRawFd;
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigemptyset initialises the set.
    let fd = check(unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), libc::SIGCHLD);
        libc::signalfd(-1, set.as_ptr(), libc::SFD_CLOEXEC | libc::SFD_NONBLOCK)
    })?;
    // SAFETY: signalfd just returned it, so nobody else owns it.
    Ok(unsafe { std::os::fd::OwnedFd::from_raw_fd(fd) })
}

/// Closes all descriptors from `first` to `last`.
pub(super) fn close_range(first: c_int, last: c_int) {
    if first > last {
        return;
    }
    // SAFETY: callers are freshly forked processes that use none of these descriptors again; their
    // parent's are not touched.
    let closed = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    if closed < 0 {
        // Before Linux 5.9. Descriptors above the soft limit cannot have been opened.
        let mut limit = libc::rlimit {
            rlim_cur: 1024,
            rlim_max: 1024,
        };
        // SAFETY: `limit` is writable for the length of the call.
        unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
        for fd in first..=last.min(limit.rlim_cur.min(1 << 20) as c_int) {
            // SAFETY: as above.
            unsafe { libc::close(fd) };
        }
    }
}

/// Soft and hard limit of a resource.
pub(super) fn rlimit(resource: u8) -> Option<(u64, u64)> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `limit` is writable for the length of the call; unknown resources are refused.
    check(unsafe { libc::getrlimit(resource.into(), &raw mut limit) }).ok()?;
    Some((limit.rlim_cur, limit.rlim_max))
}

pub(super) fn set_rlimit(resource: u8, soft: u64, hard: u64) -> Result<(), Errno> {
    let limit = libc::rlimit {
        rlim_cur: soft,
        rlim_max: hard,
    };
    // SAFETY: `limit` outlives the call; unknown resources are refused.
    check(unsafe { libc::setrlimit(resource.into(), &raw const limit) }).map(drop)
}

/// `sysconf(_SC_NPROCESSORS_ONLN)`.
pub(super) fn online_processors() -> Option<u64> {
    // SAFETY: takes and returns integers.
    u64::try_from(unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) })
        .ok()
        .filter(|n| *n > 0)
}

/// Keeps all allocations in one place so that [`hide_heap_from_children`] hides them all.
pub(super) fn keep_allocations_in_one_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: only sets parameters of the allocator; called while there is one thread.
    unsafe {
        libc::mallopt(libc::M_MMAP_MAX, 0);
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
}

/// Marks the heap as not to be inherited by forked children. They start faster, and pages the
/// launcher changes later do not stay behind in them.
///
/// `start` is where the heap began when the process was started.
pub(super) fn hide_heap_from_children(start: usize) {
    // SAFETY: asks for the current end of the heap.
    let end = unsafe { libc::sbrk(0) } as usize;
    // A statically linked libc keeps the thread's own data (errno, stack guard) at the start of
    // the heap; two pages are more than it has.
    // SAFETY: returns an address, which is not followed.
    let own = unsafe { libc::__errno_location() } as usize;
    let page = 4096;
    let start = if (start..end).contains(&own) {
        own + 2 * page
    } else {
        start
    };
    let start = start.next_multiple_of(page);
    if start < end {
        // SAFETY: changes only what forked children get to see: inits, which use nothing of the
        // heap (they do not allocate, and their plan lies in an `exec::Block`).
        unsafe { libc::madvise(start as *mut _, end - start, libc::MADV_DONTFORK) };
    }
}

/// Anonymous memory outside the heap.
#[derive(Debug)]
pub(super) struct Mapping {
    start: ptr::NonNull<u8>,
    bytes: usize,
}

impl Mapping {
    /// Zeroed and page-aligned; pages are only used once written to.
    pub(super) fn new(bytes: usize) -> Result<Self, Errno> {
        let bytes = bytes.max(1);
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: a new mapping wherever the kernel likes: overlaps nothing.
        let start = unsafe { libc::mmap(ptr::null_mut(), bytes, protection, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(errno());
        }
        let start = ptr::NonNull::new(start.cast()).ok_or(libc::ENOMEM)?;
        Ok(Self { start, bytes })
    }
    pub(super) fn start(&self) -> *mut u8 {
        self.start.as_ptr()
    }
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours alone and whoever holds pointers into it borrows `self`.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.bytes) };
    }
}
