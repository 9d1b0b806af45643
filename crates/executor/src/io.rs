//! Contract of the core: what goes in ([`Input`]) and what comes out ([`Effect`]).
//!
//! An executor core speaks the v1 executor API to its follower like any executor, only that the
//! calls and events are values and not bytes.

use std::time::Duration;
use tepui_model::container::{ContainerEvent, ContainerId, ExitStatus, LaunchSpec};
use tepui_protocol::v1::executor;

/// One thing that happened.
#[derive(Debug, Clone)]
pub enum Input {
    /// Time passed; see `Executor::next_deadline`.
    Tick,
    /// The follower can be reached: at the start, and again after it was away.
    Connected,
    /// The follower says.
    Event(Box<executor::Event>),
    /// News of a container this executor launched.
    Container {
        /// Which.
        container: ContainerId,
        /// What happened.
        event: ContainerEvent,
    },
    /// A probe ended.
    Probed {
        /// Which.
        probe: ProbeId,
        /// How.
        outcome: ProbeOutcome,
    },
}

/// Names one probe in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProbeId(pub u64);

/// One check to carry out.
#[derive(Debug, Clone, PartialEq)]
pub enum Probe {
    /// `GET scheme://host:port/path`; redirects are followed (`docs/health-checks.md`) and the status
    /// of the last answer is the outcome.
    Http {
        /// `http` or `https` (certificates are not verified, as with the reference's `curl -k`).
        scheme: String,
        /// Host to connect to; IPv6 addresses stand in brackets.
        host: String,
        /// Port.
        port: u16,
        /// Path with its leading slash; may be empty.
        path: String,
    },
    /// A TCP connection.
    Tcp {
        /// Host to connect to.
        host: String,
        /// Port.
        port: u16,
    },
    /// A command in the sandbox of the task; its status is the outcome.
    Command(Box<LaunchSpec>),
}

/// How a probe ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProbeOutcome {
    /// The server answered with this status code.
    Http(u16),
    /// The connection was made.
    Connected,
    /// The command ended.
    Exited(ExitStatus),
    /// Nothing came of it: refused, reset, unreadable; or the command could not be started.
    Failed(String),
    /// It took longer than it may.
    TimedOut,
}

/// One thing to do, in order.
#[derive(Debug, Clone)]
pub enum Effect {
    /// Tell the follower.
    Call(Box<executor::Call>),
    /// Start a container: the task's command.
    Launch(Box<LaunchSpec>),
    /// Signal everything in a container.
    Signal {
        /// Which.
        container: ContainerId,
        /// Signal number.
        signal: i32,
    },
    /// Kill a container and everything in it; ends in `ContainerEvent::Exited`.
    Destroy {
        /// Which.
        container: ContainerId,
    },
    /// The end of a container that outlives its follower was taken over: nothing needs to be kept of
    /// it. Only with [`Settings::outlives`](crate::Settings::outlives).
    Forget {
        /// Which.
        container: ContainerId,
    },
    /// Carry out a check; answered with [`Input::Probed`].
    Probe {
        /// Names it.
        id: ProbeId,
        /// What.
        probe: Probe,
        /// How long it may take.
        timeout: Duration,
    },
    /// Give up on a probe; it is not answered.
    CancelProbe {
        /// Which.
        id: ProbeId,
    },
    /// This executor is done: the follower sees its container exit with this status.
    Exit(ExitStatus),
}

/// Where the core puts its effects.
pub type Effects = tepui_model::effects::Effects<Effect>;
