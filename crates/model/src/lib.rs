//! What the cores compute with: ids, resources, roles, attributes, time and randomness.
//!
//! Pure values. Nothing here reads a clock, opens a file or draws a random number it was not handed.

pub mod container;
pub mod ids;
pub mod rng;
pub mod time;

pub use ids::*;
pub use rng::Rng;
pub use time::Time;
