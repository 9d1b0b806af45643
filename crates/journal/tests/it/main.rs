//! The journal from outside.

mod parts;
mod replicated_log;
mod sharded;
mod tree;
