//! The two ends of the exchange against each other, against the recordings, and against nonsense.

mod authenticatee;
mod authenticator;
mod random;
mod recorded;
mod support;
