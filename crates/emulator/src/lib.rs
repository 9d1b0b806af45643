//! Followers that exist only on the wire: they register, answer pings, take tasks and report them
//! running and finished, and run nothing.
//!
//! For people who want to know what a leader carries, or how a framework behaves with thousands of
//! followers, on one machine. To the leader each is a follower like any other: it speaks the
//! reference's own messages over libprocess, and on loopback each has an address of its own, so that
//! the leader keeps a link to each.
//!
//! [`Crowd`] is all of them as one state machine without I/O, made of [`follower`]s and their
//! [`tasks`]. [`run`] puts it on sockets: [`links`] carry what they say, [`inbound`] what they hear.
//!
//! Deliberately absent: executors, containers, checkpoints, operations on resources (answered as
//! dropped), TLS.

mod crowd;
mod follower;
mod inbound;
mod layout;
mod links;
mod parse;
mod report;
mod shell;
mod tasks;

pub use crowd::{Crowd, Outgoing, Running, Said, Setup};
pub use follower::Phase;
pub use layout::{Layout, LayoutError};
pub use report::{Moment, Report};
pub use shell::{Emulator, EmulatorError, Options, Stop};
