//! The crate from outside: golden plans, messages, and real processes.

mod kill;
mod launch;
mod launcher;
mod message;
mod outlive;
mod plan;
mod record;
