//! Flags that only `mixed` has: it runs both roles, so their ports need names of their own.

use super::{Flag, Support::Works};

/// In the order of their names.
pub(crate) const FLAGS: &[Flag] = flag_table! {
    "follower_port": value = "5051", Works, "port of the follower; 0: any free one";
    "leader_port": value = "5050", Works, "port of the leader; 0: any free one";
};
