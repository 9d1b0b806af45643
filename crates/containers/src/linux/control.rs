//! Messages between the launcher and an init: nine bytes each, on a socket that keeps their
//! boundaries.

use super::sys::Errno;
use rustix::net::{RecvFlags, SendFlags};
use std::os::fd::BorrowedFd;
use tepui_model::container::ExitStatus;

const BYTES: usize = 9;

/// From the launcher to an init.
#[derive(Clone, Copy, Debug)]
pub(super) enum Order {
    /// Send this signal to that [scope](crate::message::SignalScope).
    Signal { signal: i32, scope: u8 },
    /// Kill everything and end.
    Destroy,
}

/// From an init to the launcher.
#[derive(Clone, Copy, Debug)]
pub(super) enum Word {
    /// The command runs as this process.
    Launched { pid: i32 },
    /// The command could not be started: the [step](super::exec::Step)'s number and why.
    Failed { step: i32, errno: Errno },
    /// The command ended, nothing is left.
    Exited(ExitStatus),
}

/// What a read brought.
pub(super) enum Received<T> {
    /// A message.
    Message(T),
    /// Nothing yet.
    Nothing,
    /// The other side is gone.
    End,
}

fn pack(kind: u8, first: i32, second: i32) -> [u8; BYTES] {
    let mut bytes = [kind; BYTES];
    bytes[1..5].copy_from_slice(&first.to_ne_bytes());
    bytes[5..9].copy_from_slice(&second.to_ne_bytes());
    bytes
}

fn unpack(bytes: [u8; BYTES]) -> (u8, i32, i32) {
    let [kind, a, b, c, d, e, f, g, h] = bytes;
    (
        kind,
        i32::from_ne_bytes([a, b, c, d]),
        i32::from_ne_bytes([e, f, g, h]),
    )
}

impl Order {
    /// Whether it could be handed over; never waits.
    pub(super) fn send(self, to: BorrowedFd<'_>) -> bool {
        let bytes = match self {
            Self::Signal { signal, scope } => pack(0, signal, scope.into()),
            Self::Destroy => pack(1, 0, 0),
        };
        rustix::net::send(to, &bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT).is_ok()
    }

    pub(super) fn receive(from: BorrowedFd<'_>) -> Received<Self> {
        receive(from, |kind, first, second| match kind {
            0 => Self::Signal {
                signal: first,
                scope: second as u8,
            },
            _ => Self::Destroy,
        })
    }
}

impl Word {
    pub(super) fn send(self, to: BorrowedFd<'_>) {
        let bytes = match self {
            Self::Launched { pid } => pack(0, pid, 0),
            Self::Failed { step, errno } => pack(1, step, errno),
            Self::Exited(ExitStatus::Code(code)) => pack(2, code, 0),
            Self::Exited(ExitStatus::Signal(signal)) => pack(3, signal, 0),
        };
        // A launcher that is gone needs no word.
        let _ = rustix::io::retry_on_intr(|| rustix::net::send(to, &bytes, SendFlags::NOSIGNAL));
    }

    pub(super) fn receive(from: BorrowedFd<'_>) -> Received<Self> {
        receive(from, |kind, first, second| match kind {
            0 => Self::Launched { pid: first },
            1 => Self::Failed {
                step: first,
                errno: second,
            },
            2 => Self::Exited(ExitStatus::Code(first)),
            _ => Self::Exited(ExitStatus::Signal(first)),
        })
    }
}

fn receive<T>(from: BorrowedFd<'_>, read: impl FnOnce(u8, i32, i32) -> T) -> Received<T> {
    let mut bytes = [0; BYTES];
    let received =
        rustix::io::retry_on_intr(|| rustix::net::recv(from, &mut bytes[..], RecvFlags::DONTWAIT));
    match received {
        Ok((BYTES, _)) => {
            let (kind, first, second) = unpack(bytes);
            Received::Message(read(kind, first, second))
        }
        Err(rustix::io::Errno::AGAIN) => Received::Nothing,
        _ => Received::End,
    }
}
