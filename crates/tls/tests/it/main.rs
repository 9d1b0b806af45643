//! Handshakes on loopback between two ends with certificates of their own making. Nothing here
//! sleeps: every wait is for the other end.

mod files;
mod handshakes;
mod reload;
mod support;
