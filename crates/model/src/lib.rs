//! What the cores compute with: ids, resources, roles, attributes, time and randomness.
//!
//! Pure values. Nothing here reads a clock, opens a file or draws a random number it was not handed.

pub mod attributes;
pub mod container;
pub mod documents;
pub mod effects;
pub mod ids;
pub mod number;
pub mod planted;
pub mod resources;
pub mod rng;
pub mod roles;
pub mod scalar;
pub mod tasks;
pub mod time;
pub mod units;
pub mod values;

pub use attributes::Attributes;
pub use ids::*;
pub use resources::{Limits, Quantities, Quota, Resource, Resources};
pub use rng::Rng;
pub use scalar::Scalar;
pub use time::Time;
