//! The I/O around `tepui-coordination`: sessions with ZooKeeper, the election, detection.
//!
//! | for | there is |
//! |---|---|
//! | a session that is renewed for ever, and what can be asked in it | [`ZooKeeper`], [`Op`], [`Error`] |
//! | knowing who leads | [`ZooKeeper::watch`], [`watch_leader`] |
//! | taking part | [`ZooKeeper::contend`], [`Contender`] |
//! | how long a leader may act without being heard | [`LeaseClock`] |
//!
//! Everything runs in the tokio runtime that [`ZooKeeper::connect`] is called in. What a look means is
//! decided in `tepui_coordination::Group`; nothing is decided here.
//!
//! The client library is `zookeeper-client`, which nothing outside of this crate sees.

mod clock;
mod contender;
mod driver;
mod error;
mod ops;
mod servers;
mod session;

pub use clock::LeaseClock;
pub use contender::{Contender, watch_leader};
pub use error::Error;
pub use ops::{Op, Read};
pub use session::{Options, ZooKeeper};
pub use tepui_coordination::{Standing, Tenure, ZooKeeperUrl};
