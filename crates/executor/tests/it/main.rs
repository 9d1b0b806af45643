//! The executors as their follower sees them: calls, containers and probes out, events in.

mod checks;
mod command;
mod group;
mod harness;
mod property;
mod recovered;
