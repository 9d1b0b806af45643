//! The election against recordings of a real one, and against a ZooKeeper that is played.

mod election;
mod played;
mod recorded;
