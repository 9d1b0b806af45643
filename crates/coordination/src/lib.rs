//! Who leads: how `--master` says where to look, and what a look means.
//!
//! [`Source`] is the flag, parsed; [`Detector`] turns answers of the resolver into news. Both are
//! pure: the shell resolves names and reads files. ZooKeeper is recognised and refused by name:
//! election and detection through it come with the high availability work.

mod detector;
mod source;

pub use detector::Detector;
pub use source::{InvalidSource, Source, ZooKeeperUrl};
