//! The black box: the built binary, real frameworks from PyPI and npm, and the recordings of a real cluster.
//!
//! Nothing here knows our types (but for the protocol's tables of field names, with which `wire` reads messages). A test
//! starts a cluster ([`tepui_tests::cluster`]), speaks to it as its users would, and waits for what it should show. What may
//! differ from the recordings is listed in data files, each with its reason.

mod authentication;
mod cli;
mod clients;
mod containers;
mod conversations;
mod crowd;
mod drivers;
mod errors;
mod ha;
mod hostile;
mod hostile_held;
mod hostile_messages;
mod killed;
mod maintenance;
mod many;
mod recordings;
mod replay;
mod resources;
mod takeover;
mod tls;
mod wire;
