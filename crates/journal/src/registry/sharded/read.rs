//! Reads all nodes and tells what is wrong with them.

use super::{
    Damage, Fault, Limits, Node, Nodes,
    layout::{self, Head, Long, Shard, Totals},
};
use std::collections::{BTreeMap, BTreeSet};

/// How often an inspection begins anew because somebody wrote meanwhile.
const ATTEMPTS: usize = 20;

/// What is in the nodes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Contents {
    /// The cluster's id; empty if there is no registry.
    pub cluster_id: String,
    /// Format of the entries; 0 if there is no registry.
    pub entries_format: u32,
    /// How many leaders have written.
    pub epoch: u64,
    /// How often the last one wrote.
    pub sequence: u64,
    /// How many shards there are.
    pub shards: usize,
    /// The size of the biggest.
    pub shard_bytes_max: usize,
    /// The size of all nodes.
    pub bytes: u64,
    /// Pieces of long values.
    pub pieces: usize,
    /// Pieces that belong to no value: of a write that was not finished.
    pub leftovers: usize,
    /// The entries, by key.
    pub entries: BTreeMap<String, Vec<u8>>,
    /// What is wrong.
    pub damage: Vec<Damage>,
}

/// Reads everything without taking over, while a leader may go on to write. `None`: there is no
/// registry.
pub fn inspect<N: Nodes>(nodes: &mut N, root: &str) -> Result<Option<Contents>, Fault<N::Error>> {
    let limits = Limits::default();
    for _ in 0..ATTEMPTS {
        nodes.sync(root).map_err(Fault::Nodes)?;
        let before = read_head(nodes, root)?;
        let raw = Raw::read(nodes, root, &limits)?;
        let after = read_head(nodes, root)?;
        if before.as_ref().map(|(node, _)| node) != after.as_ref().map(|(node, _)| node) {
            continue;
        }
        return match before {
            Some((node, Err(damage))) => Ok(Some(Contents {
                bytes: raw.bytes + node.data.len() as u64,
                damage: vec![damage],
                ..Contents::default()
            })),
            Some((node, Ok(head))) => {
                refuse_later(&head)?;
                Ok(Some(raw.contents(&node, &head)))
            }
            None if raw.is_empty() => Ok(None),
            None => Ok(Some(Contents {
                bytes: raw.bytes,
                damage: vec![Damage::NoHead {
                    path: layout::head_path(root),
                }],
                ..Contents::default()
            })),
        };
    }
    Err(Fault::Restless)
}

pub(super) fn refuse_later<E>(head: &Head) -> Result<(), Fault<E>> {
    let (ours, entries) = (layout::FORMAT, crate::registry::FORMAT);
    match head {
        Head { format, .. } if *format > ours => Err(Fault::TooNew { found: *format }),
        Head { entries_format, .. } if *entries_format > entries => Err(Fault::TooNew {
            found: *entries_format,
        }),
        _ => Ok(()),
    }
}

/// The head as it is and as it reads.
pub(super) type FoundHead = Option<(Node, Result<Head, Damage>)>;

pub(super) fn read_head<N: Nodes>(nodes: &mut N, root: &str) -> Result<FoundHead, Fault<N::Error>> {
    let path = layout::head_path(root);
    let found = nodes
        .read(std::slice::from_ref(&path))
        .map_err(Fault::Nodes)?;
    Ok(found.into_iter().next().flatten().map(|node| {
        let head = layout::open(&path, &node.data);
        (node, head)
    }))
}

/// An entry as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Stored {
    Short(Vec<u8>),
    Long(Long),
}

impl Stored {
    pub(super) fn digest(&self, key: &str) -> u64 {
        match self {
            Self::Short(value) => layout::digest(key, value.len() as u64, layout::checksum(value)),
            Self::Long(long) => layout::digest(key, long.bytes, long.checksum),
        }
    }

    /// What it takes up in a shard, about.
    pub(super) fn bytes(&self, key: &str) -> usize {
        let value = match self {
            Self::Short(value) => value.len(),
            Self::Long(long) => 16 + 10 * long.pieces.len(),
        };
        key.len() + value + 12
    }
}

/// A long value, put together.
pub(super) fn whole<N: Nodes>(
    nodes: &mut N,
    root: &str,
    key: &str,
    long: &Long,
) -> Result<Vec<u8>, Fault<N::Error>> {
    let pieces = long.pieces.iter();
    let paths: Vec<_> = pieces.map(|id| layout::piece_path(root, *id)).collect();
    let mut whole = Vec::new();
    for (path, node) in paths.iter().zip(nodes.read(&paths).map_err(Fault::Nodes)?) {
        let node = node.ok_or_else(|| Damage::Missing { path: path.clone() })?;
        whole.extend_from_slice(layout::unseal(path, &node.data)?);
    }
    if whole.len() as u64 == long.bytes && layout::checksum(&whole) == long.checksum {
        Ok(whole)
    } else {
        Err(Damage::Pieces {
            key: key.to_owned(),
        }
        .into())
    }
}

/// All nodes but the head.
#[derive(Default)]
pub(super) struct Raw {
    /// Where each entry is.
    pub(super) shards: BTreeMap<u64, Vec<(String, Stored)>>,
    /// Values in pieces, put together.
    long: BTreeMap<String, Vec<u8>>,
    /// Pieces that belong to no value.
    pub(super) leftovers: BTreeSet<u64>,
    pieces: usize,
    shard_bytes_max: usize,
    bytes: u64,
    damage: Vec<Damage>,
    totals: Totals,
}

impl Raw {
    pub(super) fn read<N: Nodes>(
        nodes: &mut N,
        root: &str,
        limits: &Limits,
    ) -> Result<Self, Fault<N::Error>> {
        let mut raw = Self::default();
        let shards = raw.list(nodes, &layout::shards_path(root))?;
        let pieces = raw.list(nodes, &layout::long_path(root))?;
        let mut seen = BTreeSet::new();
        for ids in shards.chunks(limits.reads.max(1)) {
            let paths: Vec<_> = ids.iter().map(|id| layout::shard_path(root, *id)).collect();
            let read = nodes.read(&paths).map_err(Fault::Nodes)?;
            for ((id, path), node) in ids.iter().zip(&paths).zip(read) {
                raw.shard(*id, path, node, &mut seen);
            }
        }
        raw.leftovers = pieces.into_iter().collect();
        raw.put_together(nodes, root)?;
        Ok(raw)
    }

    fn list<N: Nodes>(&mut self, nodes: &mut N, path: &str) -> Result<Vec<u64>, Fault<N::Error>> {
        let names = nodes.children(path).map_err(Fault::Nodes)?;
        let mut ids = Vec::new();
        for name in names.unwrap_or_default() {
            match layout::id(&name) {
                Some(id) => ids.push(id),
                None => self.damage.push(Damage::Stranger {
                    path: format!("{path}/{name}"),
                }),
            }
        }
        ids.sort_unstable();
        Ok(ids)
    }

    fn shard(&mut self, id: u64, path: &str, node: Option<Node>, seen: &mut BTreeSet<String>) {
        let Some(node) = node else {
            // It was listed a moment ago: somebody writes, or the totals will tell.
            return;
        };
        self.bytes += node.data.len() as u64;
        self.shard_bytes_max = self.shard_bytes_max.max(node.data.len());
        let shard: Shard = match layout::open(path, &node.data) {
            Ok(shard) => shard,
            Err(damage) => return self.damage.push(damage),
        };
        self.totals.shards += 1;
        let mut entries = Vec::with_capacity(shard.entries.len());
        for entry in shard.entries {
            let stored = match entry.long {
                Some(long) => Stored::Long(long),
                None => Stored::Short(entry.value),
            };
            if !seen.insert(entry.key.clone()) {
                self.damage.push(Damage::Twice { key: entry.key });
                continue;
            }
            self.totals.add(stored.digest(&entry.key));
            entries.push((entry.key, stored));
        }
        self.shards.insert(id, entries);
    }

    /// Reads the values that are in pieces.
    fn put_together<N: Nodes>(&mut self, nodes: &mut N, root: &str) -> Result<(), Fault<N::Error>> {
        let mut long = Vec::new();
        for (key, stored) in self.shards.values().flatten() {
            if let Stored::Long(value) = stored {
                long.push((key.clone(), value.clone()));
            }
        }
        for (key, value) in long {
            let paths: Vec<_> = value
                .pieces
                .iter()
                .map(|id| layout::piece_path(root, *id))
                .collect();
            let read = nodes.read(&paths).map_err(Fault::Nodes)?;
            let mut whole = Vec::new();
            for ((id, path), node) in value.pieces.iter().zip(paths).zip(read) {
                self.leftovers.remove(id);
                self.pieces += 1;
                let Some(node) = node else {
                    self.damage.push(Damage::Missing { path });
                    continue;
                };
                self.bytes += node.data.len() as u64;
                match layout::unseal(&path, &node.data) {
                    Ok(piece) => whole.extend_from_slice(piece),
                    Err(damage) => self.damage.push(damage),
                }
            }
            if whole.len() as u64 == value.bytes && layout::checksum(&whole) == value.checksum {
                self.long.insert(key, whole);
            } else {
                self.damage.push(Damage::Pieces { key });
            }
        }
        Ok(())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.shards.is_empty() && self.damage.is_empty()
    }

    /// The first thing that is wrong.
    pub(super) fn sound(&self, head: &Head) -> Result<(), Damage> {
        match self.damage.first().cloned().or_else(|| self.mismatch(head)) {
            Some(damage) => Err(damage),
            None => Ok(()),
        }
    }

    fn mismatch(&self, head: &Head) -> Option<Damage> {
        (self.totals != head.totals).then_some(Damage::Totals {
            shards: head.totals.shards,
            entries: head.totals.entries,
            shards_found: self.totals.shards,
            entries_found: self.totals.entries,
        })
    }

    /// The entries, by key.
    pub(super) fn entries(&self) -> BTreeMap<String, Vec<u8>> {
        let short = self
            .shards
            .values()
            .flatten()
            .filter_map(|(key, stored)| match stored {
                Stored::Short(value) => Some((key.clone(), value.clone())),
                Stored::Long(_) => None,
            });
        let mut all: BTreeMap<_, _> = short.collect();
        all.extend(self.long.clone());
        all
    }

    fn contents(mut self, node: &Node, head: &Head) -> Contents {
        let mut damage = std::mem::take(&mut self.damage);
        damage.extend(self.mismatch(head));
        Contents {
            cluster_id: head.cluster_id.clone(),
            entries_format: head.entries_format,
            epoch: head.epoch,
            sequence: head.sequence,
            shards: self.shards.len(),
            shard_bytes_max: self.shard_bytes_max,
            bytes: self.bytes + node.data.len() as u64,
            pieces: self.pieces,
            leftovers: self.leftovers.len(),
            entries: self.entries(),
            damage,
        }
    }
}
