//! Container launch plans and the Linux system calls that carry them out.
//!
//! [`plan`] turns a complete [`LaunchSpec`](tepui_model::container::LaunchSpec) into a
//! [`ProcessPlan`](plan::ProcessPlan): the exact program, arguments, environment, identity and
//! limits. It is pure, so every decision is tested without starting a process. [`message`] is what
//! the follower and its launcher process say to each other, as bytes. [`linux`] carries plans out.
//!
//! Three kinds of process do the work (see [`linux`] for who kills whom):
//!
//! ```text
//! follower ──socket── launcher ──socket── init (one per container) ── command and what it forks
//! ```
//!
//! Deliberately absent: decisions. When to signal, how long to wait before a SIGKILL and what an
//! exit means for a task belong to the cores. There is no async runtime here either: the shell
//! wraps [`Launcher`](linux::Launcher)'s socket in its own.

pub mod capacity;
mod line;
#[cfg(target_os = "linux")]
pub mod linux;
pub mod message;
pub mod plan;
pub mod record;
