//! Behaviour of the follower core, through its contract only.

mod harness;

mod authentication;
mod compatibility;
mod drivers;
mod executors;
mod hostile;
mod lifecycle;
mod limits;
mod locals;
mod operations;
mod operator;
mod oversubscription;
mod properties;
mod read;
mod recovery;
mod registration;
mod sandboxes;
mod volumes;
mod wire;
