//! Core of a follower (being written).

pub mod io;
