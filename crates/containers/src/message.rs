//! What the follower and its launcher say to each other: frames on a stream socket.
//!
//! A frame is a little-endian `u32` length and that many bytes: one kind byte, then fields. Both
//! ends are always the same build (the launcher is a fork of the follower), so there is no version
//! to agree on. Bytes are still checked: [`Frames`] and the decoders never panic and never trust a
//! length.
//!
//! The follower's side: write [`Request::encode`]'s bytes, feed what was read to [`Frames::push`]
//! and take whole frames with [`Frames::next`] for [`Report::decode`].

mod wire;

use crate::plan::ProcessPlan;
use std::path::PathBuf;
use tepui_model::container::{ContainerEvent, ContainerId, ExitStatus, LaunchStep};
use wire::{Reader, Writer};

/// Longest frame taken; a plan's arguments are limited to 2 MiB long before.
pub const FRAME_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Bytes that are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed message")]
pub struct Malformed;

/// From the follower to the launcher.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Start this. Answered by [`Report::Launched`] or [`Report::Failed`].
    Launch(Box<ProcessPlan>),
    /// Send a signal. Nothing answers; a container that is gone is no error.
    Signal {
        /// Whose processes.
        container: ContainerId,
        /// Which signal.
        signal: i32,
        /// Which of them.
        scope: SignalScope,
    },
    /// Kill everything in the container and in those nested in it; each answers with
    /// [`Report::Exited`].
    Destroy {
        /// Which.
        container: ContainerId,
    },
    /// Take charge of a container that has outlived its launcher. Answered by its end only.
    Adopt {
        /// Which.
        container: ContainerId,
        /// Directory of its [record](crate::record).
        directory: PathBuf,
    },
    /// End every container, those that would outlive this follower too.
    End,
}

/// Which processes of a container a signal goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignalScope {
    /// The command itself.
    Process,
    /// The command's process group.
    Group,
    /// All processes of the container, stopped while they are gathered so that none is missed and
    /// continued afterwards, like the reference's `os::killtree`.
    Tree,
}

/// From the launcher to the follower.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// The command runs.
    Launched {
        /// Which container.
        container: ContainerId,
        /// Process id of the command.
        pid: u32,
        /// Process id of its init: the root under which [`usage`](crate::linux::usage) counts.
        init: u32,
    },
    /// The command never ran, and nothing of it is left.
    Failed {
        /// Which container.
        container: ContainerId,
        /// Which step failed.
        step: LaunchStep,
        /// For the operator: `Failed to execute command: No such file or directory`.
        message: String,
    },
    /// The command ended and everything it had started is gone. The name may be used again.
    Exited {
        /// Which container.
        container: ContainerId,
        /// `None` when it was lost: something killed the container's init.
        status: Option<ExitStatus>,
    },
}

impl Report {
    /// The same in the words of the cores.
    pub fn into_event(self) -> (ContainerId, ContainerEvent) {
        match self {
            Self::Launched { container, pid, .. } => (container, ContainerEvent::Launched { pid }),
            Self::Failed {
                container,
                step,
                message,
            } => (container, ContainerEvent::LaunchFailed { step, message }),
            Self::Exited { container, status } => (container, ContainerEvent::Exited { status }),
        }
    }

    /// Appends this report's frame.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut frame = Writer::begin(out);
        match self {
            Self::Launched {
                container,
                pid,
                init,
            } => {
                frame.byte(0);
                frame.container(container);
                frame.number(*pid);
                frame.number(*init);
            }
            Self::Failed {
                container,
                step,
                message,
            } => {
                frame.byte(1);
                frame.container(container);
                frame.byte(match step {
                    LaunchStep::Sandbox => 0,
                    LaunchStep::Fetch => 1,
                    LaunchStep::Start => 2,
                });
                frame.bytes(message.as_bytes());
            }
            Self::Exited { container, status } => {
                frame.byte(2);
                frame.container(container);
                let (kind, value) = match status {
                    None => (0, 0),
                    Some(ExitStatus::Code(code)) => (1, *code),
                    Some(ExitStatus::Signal(signal)) => (2, *signal),
                };
                frame.byte(kind);
                frame.number(value as u32);
            }
        }
        frame.end();
    }

    /// Reads what [`Frames::next`] returned.
    pub fn decode(frame: &[u8]) -> Result<Self, Malformed> {
        let mut frame = Reader(frame);
        let kind = frame.byte()?;
        let container = frame.container()?;
        let report = match kind {
            0 => Self::Launched {
                container,
                pid: frame.number()?,
                init: frame.number()?,
            },
            1 => {
                let step = match frame.byte()? {
                    0 => LaunchStep::Sandbox,
                    1 => LaunchStep::Fetch,
                    2 => LaunchStep::Start,
                    _ => return Err(Malformed),
                };
                Self::Failed {
                    container,
                    step,
                    message: frame.text()?,
                }
            }
            2 => {
                let (kind, value) = (frame.byte()?, frame.number()? as i32);
                let status = match kind {
                    0 => None,
                    1 => Some(ExitStatus::Code(value)),
                    2 => Some(ExitStatus::Signal(value)),
                    _ => return Err(Malformed),
                };
                Self::Exited { container, status }
            }
            _ => return Err(Malformed),
        };
        frame.end()?;
        Ok(report)
    }
}

impl Request {
    /// Appends this request's frame.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut frame = Writer::begin(out);
        match self {
            Self::Launch(plan) => {
                frame.byte(0);
                frame.plan(plan);
            }
            Self::Signal {
                container,
                signal,
                scope,
            } => {
                frame.byte(1);
                frame.container(container);
                frame.number(*signal as u32);
                frame.byte(scope.number());
            }
            Self::Destroy { container } => {
                frame.byte(2);
                frame.container(container);
            }
            Self::Adopt {
                container,
                directory,
            } => {
                frame.byte(3);
                frame.container(container);
                frame.path(directory);
            }
            Self::End => frame.byte(4),
        }
        frame.end();
    }

    /// Reads what [`Frames::next`] returned.
    pub fn decode(frame: &[u8]) -> Result<Self, Malformed> {
        let mut frame = Reader(frame);
        let request = match frame.byte()? {
            0 => Self::Launch(Box::new(frame.plan()?)),
            1 => Self::Signal {
                container: frame.container()?,
                signal: frame.number()? as i32,
                scope: SignalScope::from_number(frame.byte()?).ok_or(Malformed)?,
            },
            2 => Self::Destroy {
                container: frame.container()?,
            },
            3 => Self::Adopt {
                container: frame.container()?,
                directory: frame.path()?,
            },
            4 => Self::End,
            _ => return Err(Malformed),
        };
        frame.end()?;
        Ok(request)
    }
}

impl SignalScope {
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::Process => 0,
            Self::Group => 1,
            Self::Tree => 2,
        }
    }
    pub(crate) fn from_number(number: u8) -> Option<Self> {
        [Self::Process, Self::Group, Self::Tree]
            .into_iter()
            .find(|scope| scope.number() == number)
    }
}

/// Cuts a stream of bytes into frames.
#[derive(Debug, Default)]
pub struct Frames {
    buffer: Vec<u8>,
    consumed: usize,
}

impl Frames {
    /// Takes in what was read.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.consumed > 0 {
            self.buffer.drain(..self.consumed);
            self.consumed = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame, `None` until more bytes arrive.
    #[allow(clippy::should_implement_trait)] // lends its own buffer, which an iterator cannot
    pub fn next(&mut self) -> Result<Option<&[u8]>, Malformed> {
        let rest = &self.buffer[self.consumed..];
        let Some((length, rest)) = rest.split_first_chunk::<4>() else {
            return Ok(None);
        };
        let length = u32::from_le_bytes(*length) as usize;
        if length > FRAME_BYTES_MAX {
            return Err(Malformed);
        }
        if rest.len() < length {
            return Ok(None);
        }
        let start = self.consumed + 4;
        self.consumed = start + length;
        Ok(Some(&self.buffer[start..start + length]))
    }

    /// Gives memory back once everything has been taken.
    pub(crate) fn shrink(&mut self) {
        if self.consumed == self.buffer.len() {
            *self = Self::default();
        }
    }
}
