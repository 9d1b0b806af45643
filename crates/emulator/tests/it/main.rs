//! Emulated followers without sockets: what goes in, what comes out.

mod registration;
mod stage;
mod tasks;
