//! Where a leader keeps what must survive it: one trait, several stores.
//!
//! | store | where | for |
//! |---|---|---|
//! | [`RegistryFile`] | one file in the work directory | a leader alone |
//! | [`RegistryInZooKeeper`] | znodes under the path of the election | several leaders |
//! | [`RegistryInMemory`] | nowhere | trying things out |
//!
//! The entries and their meaning are [`tepui_journal::registry`]'s.

mod file;
mod memory;
pub mod tool;
mod zookeeper;

pub use file::{FILE, RegistryFile, RegistryInDirectory};
pub use memory::RegistryInMemory;
pub use zookeeper::{RegistryInZooKeeper, SharedNodes, Unreachable};

use std::{io, path::PathBuf};
use tepui_journal::registry::{self as format, Corrupt, sharded::Fault};
use tepui_leader::RegistryChange;
use tepui_protocol::internal;

/// Opens the registry when a leader begins to lead. Blocks: not to be called on a runtime's thread.
pub trait OpenRegistry: Send + Sync + 'static {
    /// `member` is the full path of this leader's membership znode, which fences the writes of a
    /// store that several leaders share. Stores of a leader alone have no use for it.
    fn open(&self, member: Option<&str>) -> Result<Box<dyn Registry>, RegistryError>;
}

/// Where a leader keeps its registry. Its methods block.
pub trait Registry: Send + 'static {
    /// Everything in it. To be called once, before the first [`apply`](Self::apply). In a shared
    /// store this is also what shuts out the leader before.
    fn load(&mut self) -> Result<Loaded, RegistryError>;
    /// Makes changes durable, in their order. When this fails, those that were written are the
    /// first so many of them; whoever loads next sees which.
    fn apply(&mut self, changes: &[RegistryChange]) -> Result<(), RegistryError>;
    /// What is in it now, once it was loaded.
    fn contents(&mut self) -> Result<internal::Registry, RegistryError> {
        Ok(internal::Registry::default())
    }
}

impl Registry for Box<dyn Registry> {
    fn load(&mut self) -> Result<Loaded, RegistryError> {
        (**self).load()
    }

    fn apply(&mut self, changes: &[RegistryChange]) -> Result<(), RegistryError> {
        (**self).apply(changes)
    }

    fn contents(&mut self) -> Result<internal::Registry, RegistryError> {
        (**self).contents()
    }
}

/// What a registry held when it was opened.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Loaded {
    /// The content.
    pub registry: internal::Registry,
    /// A UUID made with the registry: leaders of one cluster agree on it.
    pub cluster_id: String,
}

/// The registry cannot be used. Every text names where it is.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// Another leader has taken over: nothing more can be written, and a leader must stop.
    #[error("another leader has taken over the registry")]
    Deposed,
    /// A shared store was opened by a leader that was not elected.
    #[error("the registry is shared, and this leader was not elected")]
    NotElected,
    /// Its directory cannot be made.
    #[error("cannot make the work directory {}", path.display())]
    Directory {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another process has it open.
    #[error("the registry {} is in use by another process", .0.display())]
    InUse(PathBuf),
    /// It cannot be read or written: not a database, damaged, or the disk failed.
    #[error("the registry {} cannot be used", path.display())]
    Unusable {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: Box<redb::Error>,
    },
    /// It cannot be read or written in ZooKeeper.
    #[error("the registry {place} cannot be used")]
    Shared {
        /// Its URL.
        place: String,
        /// Why.
        source: Box<Fault<Unreachable>>,
    },
    /// An entry is damaged.
    #[error("the registry {place} is damaged")]
    Corrupt {
        /// Its file, or its URL.
        place: String,
        /// What is wrong.
        source: Corrupt,
    },
    /// What is in it is not what was written.
    #[error("the registry {} is damaged: it does not hold what was written", .0.display())]
    Altered(PathBuf),
    /// A later version wrote it.
    #[error("the registry {} has format {found}; this version knows up to {known}", path.display(), known = format::FORMAT)]
    TooNew {
        /// Which file.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// The system has no randomness for the id of a new cluster.
    #[error("cannot draw random numbers")]
    Randomness(#[source] io::Error),
}
