//! Who leads: how `--master` says where to look, what a look means, and how leaders are elected.
//!
//! | for | there is |
//! |---|---|
//! | the flag, parsed | [`Source`], [`ZooKeeperUrl`] |
//! | an address that may be a name | [`Detector`] |
//! | an election in ZooKeeper, to watch or to take part in | [`Group`]: [`Input`]s in, [`Effect`]s out |
//! | its outcome | [`Standing`], [`Tenure`], and the [`Lease`] that says how long a leader may act unheard |
//! | what a member's znode is called and holds | [`Member`], [`encode_member`], [`leader_pid`] |
//!
//! All of it is pure: the shells resolve names, read files and speak to ZooKeeper.

mod detector;
mod group;
mod lease;
mod member;
mod source;
mod standing;

pub use detector::Detector;
pub use group::{Answer, AskId, Effect, Failure, Group, Input, Request};
pub use lease::Lease;
pub use member::{MEMBER_PREFIX, Member, UnreadableMember, encode_member, leader_pid};
pub use source::{InvalidSource, Source, ZooKeeperUrl};
pub use standing::{Standing, Tenure};
