//! The journal from outside.

mod parts;
mod sharded;
mod tree;
