//! From a plan to a running program: what is prepared before forking, and the steps the forked
//! child takes up to `execve`.
//!
//! [`Prepared`] holds everything in the form the kernel takes, in one [`Mapping`] outside the heap:
//! the child allocates nothing, and the init drops it whole once the command runs.

use super::sys::{self, Errno, Mapping};
use crate::plan::{ProcessPlan, RLimit, Stream};
use rustix::{
    fs::{CWD, Mode, OFlags, fcntl_setfl, openat},
    process::{Gid, Signal, Uid},
};
use std::{
    ffi::{CStr, c_char},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
    ptr,
};
use tepui_model::container::LaunchStep;

/// The steps of a start; one of them is what failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Step {
    Prepare,
    Fork,
    Session,
    Limit,
    Directory,
    Group,
    Groups,
    User,
    Parent,
    Output,
    Error,
    Execute,
    Record,
}

impl Step {
    const ALL: [Self; 13] = [
        Self::Prepare,
        Self::Fork,
        Self::Session,
        Self::Limit,
        Self::Directory,
        Self::Group,
        Self::Groups,
        Self::User,
        Self::Parent,
        Self::Output,
        Self::Error,
        Self::Execute,
        Self::Record,
    ];

    pub(super) fn from_number(number: i32) -> Option<Self> {
        usize::try_from(number)
            .ok()
            .and_then(|n| Self::ALL.get(n))
            .copied()
    }

    /// Which step of the launch this belongs to.
    pub(super) fn launch_step(self) -> LaunchStep {
        match self {
            Self::Directory | Self::Output | Self::Error => LaunchStep::Sandbox,
            _ => LaunchStep::Start,
        }
    }

    /// For the operator. Words as in `src/slave/containerizer/mesos/launch.cpp`.
    /// Without a plan (it is not known any more) some of them say less.
    pub(super) fn describe(self, plan: Option<&ProcessPlan>, errno: Errno) -> String {
        let identity = plan.and_then(|p| p.identity.as_ref());
        let stream = |stream: fn(&ProcessPlan) -> &Stream| match plan {
            Some(plan) => format!("Failed to open {}", name_of(stream(plan))),
            None => "Failed to open an output".to_owned(),
        };
        let what = match self {
            Self::Prepare => "Failed to prepare the command".to_owned(),
            Self::Fork => "Failed to fork() the command".to_owned(),
            Self::Session => "Failed to start a session".to_owned(),
            Self::Limit => "Failed to set resource limits".to_owned(),
            Self::Directory => match plan {
                Some(plan) => format!(
                    "Failed to chdir into current working directory '{}'",
                    plan.directory.display()
                ),
                None => "Failed to chdir into current working directory".to_owned(),
            },
            Self::Group => match identity {
                Some(identity) => format!("Failed to set gid to {}", identity.gid),
                None => "Failed to set gid".to_owned(),
            },
            Self::Groups => "Failed to set supplementary gids".to_owned(),
            Self::User => match identity {
                Some(identity) => format!("Failed to set uid to {}", identity.uid),
                None => "Failed to set uid".to_owned(),
            },
            Self::Parent => "Failed to follow the container's init".to_owned(),
            Self::Output => stream(|plan| &plan.stdio.output),
            Self::Error => stream(|plan| &plan.stdio.error),
            Self::Execute => "Failed to execute command".to_owned(),
            Self::Record => "Failed to write down what runs".to_owned(),
        };
        format!("{what}: {}", sys::describe(errno))
    }
}

fn name_of(stream: &Stream) -> String {
    match stream {
        Stream::Null => "'/dev/null'".to_owned(),
        Stream::Append(path) => format!("'{}'", path.display()),
    }
}

/// Which step failed, and why.
pub(super) type Failure = (Step, Errno);

type Text = *const c_char;

/// A plan in the kernel's terms. Pointers lead into `memory`.
pub(super) struct Prepared {
    candidates: *const [Text],
    argv: *const [Text],
    /// `sh FILE ARGUMENTS…`, with a hole for FILE: how `execvp` runs a script without `#!`.
    script_argv: *mut [Text],
    environment: *const [Text],
    directory: Text,
    output: Option<Text>,
    error: Option<Text>,
    identity: Option<(u32, u32, *const [u32])>,
    rlimits: *const [RLimit],
    umask: u32,
    /// Set back before anything else: the launcher raised its own.
    descriptors: Option<(u64, u64)>,
    /// The follower is shielded from the OOM killer; the command must not be.
    reset_oom_score: bool,
    /// What the record of a container that outlives us says but for its processes.
    record: *const [u8],
    _memory: Mapping,
}

/// What commands get back of what the launcher changed for itself or inherited.
#[derive(Clone, Copy, Debug)]
pub(super) struct Defaults {
    /// Soft and hard limit of open files.
    pub(super) descriptors: Option<(u64, u64)>,
    /// Whether to set the OOM score adjustment to 0.
    pub(super) reset_oom_score: bool,
}

impl Prepared {
    /// `record` is what [`Self::record`] gives back after the fork.
    pub(super) fn new(
        plan: &ProcessPlan,
        defaults: Defaults,
        record: &[u8],
    ) -> Result<Self, Errno> {
        let mut block = Block::new(Self::bytes(plan) + record.len())?;
        let candidates: Vec<Text> = plan
            .candidates
            .iter()
            .map(|path| block.path(path))
            .collect::<Result<_, _>>()?;
        let argv: Vec<Text> = plan
            .argv
            .iter()
            .map(|text| block.text(text.as_bytes()))
            .collect::<Result<_, _>>()?;
        let environment: Vec<Text> = plan
            .environment
            .iter()
            .map(|text| block.text(text.as_bytes()))
            .collect::<Result<_, _>>()?;
        let script = [block.text(b"sh")?, ptr::null()]
            .into_iter()
            .chain(argv.iter().skip(1).copied());
        let script: Vec<Text> = script.collect();
        let mut stream = |stream: &Stream| match stream {
            Stream::Null => Ok(None),
            Stream::Append(path) => block.path(path).map(Some),
        };
        let (output, error) = (stream(&plan.stdio.output)?, stream(&plan.stdio.error)?);
        let identity = match &plan.identity {
            Some(identity) => Some((
                identity.uid,
                identity.gid,
                block.list(&identity.groups)?.cast_const(),
            )),
            None => None,
        };
        Ok(Self {
            directory: block.path(&plan.directory)?,
            candidates: block.pointers(&candidates)?,
            argv: block.pointers(&argv)?,
            script_argv: block.pointers(&script)?,
            environment: block.pointers(&environment)?,
            rlimits: block.list(&plan.rlimits)?,
            output,
            error,
            identity,
            umask: plan.umask,
            descriptors: defaults.descriptors,
            reset_oom_score: defaults.reset_oom_score,
            record: block.list(record)?,
            _memory: block.memory,
        })
    }

    /// An upper bound of the room needed: texts with their NUL, pointers with their null, and
    /// enough to align every list.
    fn bytes(plan: &ProcessPlan) -> usize {
        let path = |p: &Path| p.as_os_str().len() + 1;
        let stream = |s: &Stream| {
            if let Stream::Append(p) = s {
                path(p)
            } else {
                0
            }
        };
        let texts = plan.candidates.iter().map(|p| path(p)).sum::<usize>()
            + plan
                .argv
                .iter()
                .chain(&plan.environment)
                .map(|t| t.len() + 1)
                .sum::<usize>()
            + path(&plan.directory)
            + stream(&plan.stdio.output)
            + stream(&plan.stdio.error);
        let pointers = plan.candidates.len() + 2 * plan.argv.len() + plan.environment.len() + 8;
        texts
            + pointers * size_of::<Text>()
            + plan.rlimits.len() * size_of::<RLimit>()
            + plan
                .identity
                .as_ref()
                .map_or(0, |i| i.groups.len() * size_of::<u32>())
            + 256
    }

    pub(super) fn record(&self) -> &[u8] {
        // SAFETY: points into `_memory`, which lives as long as `self`.
        unsafe { &*self.record }
    }

    /// Turns this process, freshly forked by `init`, into the command. Returns only on failure.
    pub(super) fn execute(&self, init: i32) -> Failure {
        match self.become_command(init) {
            Ok(()) => (Step::Execute, self.execute_first_candidate()),
            Err(failure) => failure,
        }
    }

    fn become_command(&self, init: i32) -> Result<(), Failure> {
        let at = |step: Step| move |errno: rustix::io::Errno| (step, errno.raw_os_error());
        rustix::process::setsid().map_err(at(Step::Session))?;
        sys::default_signal_actions();
        rustix::process::umask(Mode::from_raw_mode(self.umask));
        if self.reset_oom_score {
            reset_oom_score();
        }
        self.set_limits().map_err(|errno| (Step::Limit, errno))?;
        // Before the switch: the directories above a sandbox may be closed to its user.
        rustix::process::chdir(self.text(self.directory)).map_err(at(Step::Directory))?;
        self.switch_user()?;
        // After the switch, which would undo it. An init that died before this is not our parent.
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
            .map_err(at(Step::Parent))?;
        if rustix::process::getppid().map(|p| p.as_raw_nonzero().get()) != Some(init) {
            return Err((Step::Parent, libc::ESRCH));
        }
        // After the switch: files in the sandbox are opened with no more rights than their owner's.
        // A stream without a file keeps the launcher's /dev/null.
        self.output
            .map_or(Ok(()), |path| self.append(path, 1))
            .map_err(at(Step::Output))?;
        self.error
            .map_or(Ok(()), |path| self.append(path, 2))
            .map_err(at(Step::Error))?;
        sys::block_signals(false);
        Ok(())
    }

    fn set_limits(&self) -> Result<(), Errno> {
        if let Some((soft, hard)) = self.descriptors {
            sys::set_rlimit(libc::RLIMIT_NOFILE as u8, soft, hard)?;
        }
        // SAFETY: points into `_memory`, which lives as long as `self`.
        let limits = unsafe { &*self.rlimits };
        limits
            .iter()
            .try_for_each(|limit| sys::set_rlimit(limit.resource, limit.soft, limit.hard))
    }

    /// The calls are the bare ones, for this thread only: it is the only one.
    fn switch_user(&self) -> Result<(), Failure> {
        let Some((uid, gid, groups)) = self.identity else {
            return Ok(());
        };
        let at = |step: Step| move |errno: rustix::io::Errno| (step, errno.raw_os_error());
        // SAFETY: points into `_memory`, which lives as long as `self`; `Gid` is a transparent u32.
        let groups = unsafe { &*(groups as *const [Gid]) };
        rustix::thread::set_thread_groups(groups).map_err(at(Step::Groups))?;
        let gid = Gid::from_raw(gid);
        rustix::thread::set_thread_res_gid(gid, gid, gid).map_err(at(Step::Group))?;
        let uid = Uid::from_raw(uid);
        rustix::thread::set_thread_res_uid(uid, uid, uid).map_err(at(Step::User))
    }

    /// Opens without waiting (the path may be a FIFO by now) and without following a link.
    fn append(&self, path: Text, target: i32) -> rustix::io::Result<()> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND | OFlags::NOFOLLOW | OFlags::NOCTTY;
        let mode = Mode::from_raw_mode(0o644);
        let file = openat(
            CWD,
            self.text(path),
            flags | OFlags::NONBLOCK | OFlags::CLOEXEC,
            mode,
        )?;
        fcntl_setfl(&file, OFlags::APPEND)?;
        redirect(file.as_fd(), target)
    }

    /// The way of `execvp`: what is not there is passed over, what may not be executed is
    /// remembered, anything else ends the search.
    fn execute_first_candidate(&self) -> Errno {
        // SAFETY: these point into `_memory`, which lives as long as `self`.
        let (candidates, argv, environment) =
            unsafe { (&*self.candidates, &*self.argv, &*self.environment) };
        let mut denied = false;
        for candidate in candidates.iter().take_while(|c| !c.is_null()) {
            // SAFETY: both arrays hold pointers to NUL-ended texts in `_memory` and end in a null.
            let mut errno =
                unsafe { sys::execve(self.text(*candidate), argv.as_ptr(), environment.as_ptr()) };
            if errno == libc::ENOEXEC {
                errno = self.execute_script(*candidate, environment.as_ptr());
            }
            match errno {
                libc::ENOENT | libc::ENOTDIR => {}
                libc::EACCES => denied = true,
                other => return other,
            }
        }
        if denied { libc::EACCES } else { libc::ENOENT }
    }

    fn execute_script(&self, script: Text, environment: *const Text) -> Errno {
        // SAFETY: points into `_memory`; nobody else looks at it, and this process is about to be
        // replaced.
        let argv = unsafe { &mut *self.script_argv };
        if let Some(hole) = argv.get_mut(1) {
            *hole = script;
        }
        // SAFETY: the hole is filled, so this is an array of texts ended by a null.
        unsafe { sys::execve(c"/bin/sh", argv.as_ptr(), environment) }
    }

    fn text(&self, text: Text) -> &CStr {
        // SAFETY: every `Text` of `self` was written by `Block::text`, with a NUL at its end, into
        // `_memory`, which lives as long as `self`.
        unsafe { CStr::from_ptr(text) }
    }
}

/// Raising it to 0 is always allowed; should it fail the command is only better protected.
fn reset_oom_score() {
    if let Ok(file) = openat(
        CWD,
        c"/proc/self/oom_score_adj",
        OFlags::WRONLY | OFlags::CLOEXEC,
        Mode::empty(),
    ) {
        let _ = rustix::io::write(&file, b"0");
    }
}

/// Makes `target` (a standard stream) another name of `file`.
fn redirect(file: BorrowedFd<'_>, target: i32) -> rustix::io::Result<()> {
    match target {
        1 => rustix::stdio::dup2_stdout(file),
        _ => rustix::stdio::dup2_stderr(file),
    }
}

/// Hands out pieces of a mapping.
struct Block {
    memory: Mapping,
    used: usize,
}

impl Block {
    fn new(bytes: usize) -> Result<Self, Errno> {
        Ok(Self {
            memory: Mapping::new(bytes)?,
            used: 0,
        })
    }

    fn list<T: Copy>(&mut self, values: &[T]) -> Result<*mut [T], Errno> {
        let start = self.used.next_multiple_of(align_of::<T>());
        let end = start + size_of_val(values);
        if end > self.memory.bytes() {
            return Err(libc::ENOMEM);
        }
        self.used = end;
        // SAFETY: `start..end` lies inside the mapping, is aligned for `T` (the mapping is
        // page-aligned) and has not been handed out before.
        unsafe {
            let piece = self.memory.start().add(start).cast::<T>();
            piece.copy_from_nonoverlapping(values.as_ptr(), values.len());
            Ok(ptr::slice_from_raw_parts_mut(piece, values.len()))
        }
    }

    fn text(&mut self, text: &[u8]) -> Result<Text, Errno> {
        if text.contains(&0) {
            return Err(libc::EINVAL);
        }
        let start = self.list(text)?;
        self.list(&[0_u8])?;
        Ok(start.cast::<c_char>().cast_const())
    }

    fn path(&mut self, path: &Path) -> Result<Text, Errno> {
        self.text(path.as_os_str().as_bytes())
    }

    /// With a null at the end.
    fn pointers(&mut self, texts: &[Text]) -> Result<*mut [Text], Errno> {
        let ended: Vec<Text> = texts.iter().copied().chain([ptr::null()]).collect();
        self.list(&ended)
    }
}
