//! Core of the built-in executors (being written).

pub mod io;
