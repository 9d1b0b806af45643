//! A registry that is forgotten with its process (`--registry=in_memory`).

use super::{Loaded, OpenRegistry, Registry, RegistryError};
use crate::random;
use tepui_leader::RegistryChange;

/// Keeps nothing: a leader that starts anew knows nobody.
#[derive(Debug, Clone, Copy, Default)]
pub struct RegistryInMemory;

impl OpenRegistry for RegistryInMemory {
    fn open(&self, _member: Option<&str>) -> Result<Box<dyn Registry>, RegistryError> {
        Ok(Box::new(*self))
    }
}

impl Registry for RegistryInMemory {
    fn load(&mut self) -> Result<Loaded, RegistryError> {
        let cluster_id = random::uuid().map_err(RegistryError::Randomness)?;
        Ok(Loaded {
            registry: Default::default(),
            cluster_id: cluster_id.to_string(),
        })
    }

    fn apply(&mut self, _changes: &[RegistryChange]) -> Result<(), RegistryError> {
        Ok(())
    }
}
