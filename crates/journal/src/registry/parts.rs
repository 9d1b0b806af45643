//! A whole registry from its entries, and back.

use super::{
    FOLLOWER, FURTHER_SCHEDULE, GONE, LEADER, MACHINE, MINIMUM_CAPABILITY, OLDER_QUOTA, PROVIDER,
    QUOTA, REMOVED_PROVIDER, SCHEDULE, Step, UNREACHABLE, WEIGHT, key, machine_key,
    sharded::layout,
};
use bytes::Bytes;
use prost::{Message, Name};
use tepui_protocol::{
    internal::{Registry, ResourceProviderRegistry, resource_provider_registry::ResourceProvider},
    wire::{self, DecodeError},
};

/// A stored entry that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Corrupt {
    /// No entry has such a key.
    #[error("unknown entry '{0}'")]
    UnknownKey(String),
    /// The value is not what the key says.
    #[error("entry '{key}' is damaged: {source}")]
    Value {
        /// Which.
        key: String,
        /// What is wrong.
        source: DecodeError,
    },
}

/// Stands for an entry in a sum over all of them, by which a store notices that one was altered or
/// lost.
pub fn digest(key: &str, value: &[u8]) -> u64 {
    layout::digest(key, value.len() as u64, layout::checksum(value))
}

/// Puts stored entries together. Unreachable and gone followers come oldest first, as the
/// reference keeps them.
pub fn assemble(entries: impl IntoIterator<Item = (String, Vec<u8>)>) -> Result<Registry, Corrupt> {
    let mut all = Registry::default();
    for (key, value) in entries {
        add(&mut all, &key, value.into()).map_err(|error| match error {
            Some(source) => Corrupt::Value { key, source },
            None => Corrupt::UnknownKey(key),
        })?;
    }
    if let Some(unreachable) = &mut all.unreachable {
        let age = |follower: &_| {
            age(follower, |f: &super::registry::UnreachableSlave| {
                &f.timestamp
            })
        };
        unreachable.slaves.sort_by_key(age);
    }
    if let Some(gone) = &mut all.gone {
        let age = |follower: &_| age(follower, |f: &super::registry::GoneSlave| &f.timestamp);
        gone.slaves.sort_by_key(age);
    }
    Ok(all)
}

fn age<T>(follower: &T, timestamp: impl Fn(&T) -> &tepui_protocol::v1::TimeInfo) -> i64 {
    timestamp(follower).nanoseconds
}

/// Adds one entry. An error without a cause: the key is unknown.
fn add(all: &mut Registry, key: &str, value: Bytes) -> Result<(), Option<DecodeError>> {
    // A kind ends in a slash, so that none is the beginning of another.
    let kind = key.find('/').map_or(key, |slash| &key[..=slash]);
    match kind {
        LEADER => all.master = Some(wire::decode(value)?),
        FOLLOWER => push(&mut all.slaves.get_or_insert_default().slaves, value)?,
        UNREACHABLE => push(&mut all.unreachable.get_or_insert_default().slaves, value)?,
        GONE => push(&mut all.gone.get_or_insert_default().slaves, value)?,
        MACHINE => push(&mut all.machines.get_or_insert_default().machines, value)?,
        SCHEDULE | FURTHER_SCHEDULE => push(&mut all.schedules, value)?,
        QUOTA => push(&mut all.quota_configs, value)?,
        OLDER_QUOTA => push(&mut all.quotas, value)?,
        WEIGHT => push(&mut all.weights, value)?,
        MINIMUM_CAPABILITY => push(&mut all.minimum_capabilities, value)?,
        PROVIDER => push(&mut providers(all).resource_providers, value)?,
        REMOVED_PROVIDER => push(&mut providers(all).removed_resource_providers, value)?,
        _ => return Err(None),
    }
    Ok(())
}

fn providers(all: &mut Registry) -> &mut ResourceProviderRegistry {
    all.resource_provider_registry.get_or_insert_default()
}

fn push<T: Message + Name + Default>(list: &mut Vec<T>, value: Bytes) -> Result<(), DecodeError> {
    list.push(wire::decode(value)?);
    Ok(())
}

/// A registry of others holds something that has no place in ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unstorable {
    /// A follower needs an id.
    #[error("follower {index} of the registry ('{hostname}') has no id")]
    FollowerWithoutId {
        /// Which, counted from 0.
        index: usize,
        /// Its host.
        hostname: String,
    },
    /// Something is there twice.
    #[error("the registry holds '{0}' twice")]
    Twice(String),
}

/// Takes a registry apart: the entries that [`assemble`] puts together to it again.
pub fn disassemble(registry: &Registry) -> Result<Vec<Step>, Unstorable> {
    let mut parts = Parts::default();
    if let Some(leader) = &registry.master {
        parts.put(LEADER.to_owned(), leader)?;
    }
    for (index, follower) in registry
        .slaves
        .iter()
        .flat_map(|all| &all.slaves)
        .enumerate()
    {
        let id = follower.info.id.as_ref();
        let id = id.ok_or_else(|| Unstorable::FollowerWithoutId {
            index,
            hostname: follower.info.hostname.clone(),
        })?;
        parts.put(key(FOLLOWER, &id.value), follower)?;
    }
    for follower in registry.unreachable.iter().flat_map(|all| &all.slaves) {
        parts.put(key(UNREACHABLE, &follower.id.value), follower)?;
    }
    for follower in registry.gone.iter().flat_map(|all| &all.slaves) {
        parts.put(key(GONE, &follower.id.value), follower)?;
    }
    for machine in registry.machines.iter().flat_map(|all| &all.machines) {
        parts.put(machine_key(&machine.info.id), machine)?;
    }
    for (index, schedule) in registry.schedules.iter().enumerate() {
        let key = match index {
            0 => SCHEDULE.to_owned(),
            // Of fixed width, so that they stay in order.
            _ => format!("{FURTHER_SCHEDULE}{index:010}"),
        };
        parts.put(key, schedule)?;
    }
    for quota in &registry.quota_configs {
        parts.put(key(QUOTA, &quota.role), quota)?;
    }
    for quota in &registry.quotas {
        parts.put(key(OLDER_QUOTA, quota.info.role()), quota)?;
    }
    for weight in &registry.weights {
        parts.put(key(WEIGHT, weight.info.role()), weight)?;
    }
    for minimum in &registry.minimum_capabilities {
        parts.put(key(MINIMUM_CAPABILITY, &minimum.capability), minimum)?;
    }
    if let Some(providers) = &registry.resource_provider_registry {
        let provider_key = |kind, provider: &ResourceProvider| key(kind, &provider.id.value);
        for provider in &providers.resource_providers {
            parts.put(provider_key(PROVIDER, provider), provider)?;
        }
        for provider in &providers.removed_resource_providers {
            parts.put(provider_key(REMOVED_PROVIDER, provider), provider)?;
        }
    }
    Ok(parts.steps)
}

#[derive(Default)]
struct Parts {
    seen: std::collections::BTreeSet<String>,
    steps: Vec<Step>,
}

impl Parts {
    fn put(&mut self, key: String, value: &impl Message) -> Result<(), Unstorable> {
        if !self.seen.insert(key.clone()) {
            return Err(Unstorable::Twice(key));
        }
        self.steps.push(Step::Put(key, value.encode_to_vec()));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tepui_protocol::{internal::registry, v1};

    #[test]
    fn damage_is_named() {
        let damaged = |key: &str, value: &[u8]| {
            let error = assemble([(key.to_owned(), value.to_vec())]).expect_err("damaged");
            error.to_string()
        };
        assert_eq!(damaged("what/else", b""), "unknown entry 'what/else'");
        assert_eq!(damaged("leader/x", b""), "unknown entry 'leader/x'");
        assert!(damaged("follower/S0", b"\xff").starts_with("entry 'follower/S0' is damaged: "));
        assert!(damaged("follower/S0", b"").starts_with("entry 'follower/S0' is damaged: "));
    }

    #[test]
    fn what_has_no_place_is_refused() {
        let mut all = Registry::default();
        let slaves = &mut all.slaves.get_or_insert_default().slaves;
        slaves.push(registry::Slave {
            info: v1::AgentInfo {
                hostname: "h".to_owned(),
                ..Default::default()
            },
            ..Default::default()
        });
        let error = disassemble(&all).expect_err("no id");
        assert_eq!(
            error.to_string(),
            "follower 0 of the registry ('h') has no id"
        );
        let slaves = &mut all.slaves.get_or_insert_default().slaves;
        slaves[0].info.id.get_or_insert_default().value = "S0".to_owned();
        slaves.push(slaves[0].clone());
        let error = disassemble(&all).expect_err("twice");
        assert_eq!(error, Unstorable::Twice("follower/S0".to_owned()));
    }

    #[test]
    fn unreachable_followers_come_oldest_first() {
        let unreachable = |id: &str, nanoseconds| registry::UnreachableSlave {
            id: v1::AgentId {
                value: id.to_owned(),
            },
            timestamp: v1::TimeInfo { nanoseconds },
            ..Default::default()
        };
        let mut all = Registry::default();
        all.unreachable.get_or_insert_default().slaves = vec![
            unreachable("b", 1),
            unreachable("a", 2),
            unreachable("c", 3),
        ];
        let steps = disassemble(&all).expect("steps");
        let mut entries: Vec<_> = steps
            .into_iter()
            .filter_map(|step| match step {
                Step::Put(key, value) => Some((key, value)),
                Step::Remove(_) => None,
            })
            .collect();
        entries.sort();
        assert_eq!(assemble(entries).expect("a registry"), all);
    }
}
