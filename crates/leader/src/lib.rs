//! Core of a leader (being written).

pub mod io;
pub mod metrics;
pub mod view;
