//! Core: who somebody is. Credentials, both sides of the CRAM-MD5 exchange that libprocess peers
//! hold, HTTP basic authentication and the tokens of executors.
//!
//! State + input + `now` in, actions out, as the other cores do it; the nonces of challenges come
//! from a key that the shell hands in once.
//!
//! | question | where |
//! |---|---|
//! | what does a credentials file hold? | [`credentials`] |
//! | what does the leader say to a peer that wants to authenticate? | [`authenticator`] |
//! | what does a follower or a driver say? | [`authenticatee`] |
//! | who sent this HTTP request, and what is answered when nobody did? | [`http`] |
//! | what is in an executor's token? | [`jwt`] |
//!
//! Deliberately absent: what a principal may do (authorization), and mechanisms other than
//! CRAM-MD5.

pub mod authenticatee;
pub mod authenticator;
pub mod basic;
pub mod crammd5;
pub mod credentials;
pub mod http;
pub mod jwt;

pub use credentials::{Credential, Credentials, Secret};
