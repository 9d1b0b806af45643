//! The leader from outside: inputs in, every effect asserted, then nothing left.

mod calls;
mod followers;
mod frameworks;
mod harness;
mod offers;
mod operators;
mod partition;
mod random;
mod recorded;
mod status;
