//! The leader from outside: inputs in, every effect asserted, then nothing left.

mod arrivals;
mod authentication;
mod calls;
mod compatibility;
mod draining;
mod drivers;
mod failover;
mod followers;
mod frameworks;
mod harness;
mod hostile;
mod limits;
mod maintenance;
mod offers;
mod operations;
mod operator_resources;
mod operators;
mod partition;
mod quota;
mod random;
mod random_failover;
mod recorded;
mod status;
mod tables;
mod told;
mod weights;
