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
mod operators;
mod partition;
mod random;
mod random_failover;
mod recorded;
mod status;
mod told;
