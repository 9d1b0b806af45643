//! The registry in a tree of small nodes that several leaders share: ZooKeeper.
//!
//! ```text
//! <root>/head            who writes, how often was written, and what all of it comes to
//! <root>/shards/<id>     entries, about 16 KiB of them
//! <root>/long/<id>       pieces of values that are too long for a shard
//! ```
//!
//! A change rewrites the shards that its entries are in, and the head, in one transaction: it costs
//! some 16 KiB however many followers there are, and reading 50,000 of them takes some thousand
//! reads. Shards fill up one after the other; where an entry is, is known from reading them all.
//!
//! **Fencing.** Every transaction checks that the membership znode of this leader is there and
//! that the head has the version that it was left with. Whoever takes over writes the head first
//! ([`Sharded::take_over`]), so that nothing of the one before can be written from then on: it
//! learns that it is [deposed](Fault::Deposed).
//!
//! **Lost replies.** When a connection breaks, a transaction may have been carried out. It is sent
//! again: the check of the head's version lets it happen once. If it is refused, the head says
//! whether that was because it had been carried out (its writer, epoch and sequence number are in
//! there), or because somebody else has written.
//!
//! **Damage.** Every node ends in a checksum, and the head counts shards and entries and holds a
//! sum over all of them, so that a node that was altered, lost, or brought back is noticed.
//!
//! All this is pure: whoever has a session implements [`Nodes`].

pub(super) mod layout;
mod read;
mod take_over;
mod write;

pub use layout::{Damage, Limits};
pub use read::{Contents, inspect};
pub use write::Sharded;

/// The tree of nodes. Reads see at least what the same caller wrote, in order.
pub trait Nodes {
    /// Why the tree cannot be used at all.
    type Error;

    /// Waits until reads show what others had written before this.
    fn sync(&mut self, path: &str) -> Result<(), Self::Error>;
    /// The content of nodes, in the same order; none of one that does not exist. Broken connections
    /// are the implementation's to get over.
    fn read(&mut self, paths: &[String]) -> Result<Vec<Option<Node>>, Self::Error>;
    /// The names of the children of a node; none if it does not exist.
    fn children(&mut self, path: &str) -> Result<Option<Vec<String>>, Self::Error>;
    /// Carries out all operations, in order, or none of them.
    fn write(&mut self, operations: &[Operation]) -> Result<(), WriteError<Self::Error>>;
}

/// What is in a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its content.
    pub data: Vec<u8>,
    /// How often it was written since it was made.
    pub version: i32,
}

/// One part of a transaction. A version of `None` is any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// The node exists, in this version.
    Check {
        /// Which.
        path: String,
        /// Its version.
        version: Option<i32>,
    },
    /// Makes a node, which must not exist.
    Create {
        /// Which.
        path: String,
        /// Its content.
        data: Vec<u8>,
    },
    /// Writes a node, which must exist.
    Set {
        /// Which.
        path: String,
        /// Its content.
        data: Vec<u8>,
        /// Its version before.
        version: Option<i32>,
    },
    /// Removes a node, which must exist.
    Delete {
        /// Which.
        path: String,
        /// Its version before.
        version: Option<i32>,
    },
}

impl Operation {
    /// The node that it is about.
    pub fn path(&self) -> &str {
        match self {
            Self::Check { path, .. }
            | Self::Create { path, .. }
            | Self::Set { path, .. }
            | Self::Delete { path, .. } => path,
        }
    }

    /// How much of a transaction it fills, about.
    pub fn bytes(&self) -> usize {
        let data = match self {
            Self::Create { data, .. } | Self::Set { data, .. } => data.len(),
            Self::Check { .. } | Self::Delete { .. } => 0,
        };
        // A header, an access control list.
        data + self.path().len() + 64
    }
}

/// A transaction did not succeed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WriteError<E> {
    /// The operation at this index could not be carried out. Nothing was.
    Refused {
        /// Counted from 0.
        index: usize,
    },
    /// The connection broke: it was carried out, or it was not. It may be sent again.
    Lost,
    /// It was carried out or not, and there is no use in sending it again.
    Failed(E),
}

/// The registry cannot be read or written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault<E> {
    /// Another leader writes now.
    #[error("another leader has taken over the registry")]
    Deposed,
    /// It is not what was written.
    #[error(transparent)]
    Damaged(#[from] Damage),
    /// A later version wrote it.
    #[error("it has format {found}; this version knows up to {known}", known = layout::FORMAT)]
    TooNew {
        /// Its format.
        found: u32,
    },
    /// A transaction was refused though nobody else had written.
    #[error("'{path}' is not as it was left")]
    Altered {
        /// The node in question.
        path: String,
    },
    /// It changed all the time while it was read.
    #[error("it changed all the time while it was read")]
    Restless,
    /// A write failed before, and what came of it is not known.
    #[error("an earlier write failed")]
    Broken,
    /// The tree cannot be used.
    #[error("{0}")]
    Nodes(E),
}
