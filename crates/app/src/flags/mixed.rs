//! Flags that only `mixed` has: it runs both roles, so their ports need names of their own.

use super::{Flag, Support::Works};

/// In the order of their names.
pub(crate) const FLAGS: &[Flag] = &[
    Flag {
        names: &["follower_port"],
        boolean: false,
        default: Some("5051"),
        support: Works,
        help: "port of the follower; 0: any free one",
    },
    Flag {
        names: &["leader_port"],
        boolean: false,
        default: Some("5050"),
        support: Works,
        help: "port of the leader; 0: any free one",
    },
];
