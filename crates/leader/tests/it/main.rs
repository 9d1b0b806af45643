//! The leader from outside: inputs in, every effect asserted, then nothing left.

mod harness;
mod offers;
