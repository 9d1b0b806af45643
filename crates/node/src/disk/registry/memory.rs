//! A registry that is forgotten with its process (`--registry=in_memory`).

use super::{Loaded, OpenRegistry, Registry, RegistryError};
use crate::random;
use std::collections::BTreeMap;
use tepui_journal::registry::{self as format, Step};
use tepui_leader::RegistryChange;
use tepui_protocol::internal;

/// A leader that starts anew knows nobody.
#[derive(Debug, Clone, Copy, Default)]
pub struct RegistryInMemory;

/// What a leader wrote since it started.
#[derive(Debug, Default)]
struct Entries(BTreeMap<String, Vec<u8>>);

impl OpenRegistry for RegistryInMemory {
    fn open(&self, _member: Option<&str>) -> Result<Box<dyn Registry>, RegistryError> {
        Ok(Box::new(Entries::default()))
    }
}

impl Registry for Entries {
    fn load(&mut self) -> Result<Loaded, RegistryError> {
        let cluster_id = random::uuid().map_err(RegistryError::Randomness)?;
        Ok(Loaded {
            registry: Default::default(),
            cluster_id: cluster_id.to_string(),
        })
    }

    fn apply(&mut self, changes: &[RegistryChange]) -> Result<(), RegistryError> {
        for step in changes.iter().flat_map(RegistryChange::steps) {
            match step {
                Step::Put(key, value) => self.0.insert(key, value),
                Step::Remove(key) => self.0.remove(&key),
            };
        }
        Ok(())
    }

    fn contents(&mut self) -> Result<internal::Registry, RegistryError> {
        format::assemble(self.0.clone()).map_err(|source| RegistryError::Corrupt {
            place: "in memory".to_owned(),
            source,
        })
    }
}
