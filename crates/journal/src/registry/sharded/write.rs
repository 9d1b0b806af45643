//! Writes changes: which shards they touch, and in which transactions.

use super::{
    Fault, Limits, Nodes, Operation, WriteError,
    layout::{self, Entry, Head, Long, Shard},
    read::{self, Raw, Stored},
};
use crate::registry::Step;
use prost::Message;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// Leftovers that are cleared away in one transaction.
const LEFTOVERS_AT_ONCE: usize = 64;
/// What clearing away a node, or a head, adds to a transaction, about.
const SMALL: usize = 256;

/// The registry, as the one who writes it sees it. Keeps all entries in memory, since shards are
/// written as a whole; long values are not kept.
pub struct Sharded<N> {
    nodes: N,
    root: String,
    member: Option<String>,
    limits: Limits,
    /// As last written.
    head: Head,
    version: i32,
    shards: BTreeMap<u64, Held>,
    /// Where each entry is.
    places: BTreeMap<Arc<str>, u64>,
    /// Where new entries go, as long as there is room.
    filling: Option<u64>,
    /// Shards that are less than half full.
    sparse: BTreeSet<u64>,
    next_id: u64,
    leftovers: BTreeSet<u64>,
    /// A write failed: what is in the nodes is not known.
    broken: bool,
}

/// A shard in memory.
#[derive(Default)]
struct Held {
    entries: BTreeMap<Arc<str>, Stored>,
    bytes: usize,
    /// There is a node for it.
    written: bool,
}

/// The transaction that is being put together.
#[derive(Default)]
struct Batch {
    dirty: BTreeSet<u64>,
    /// Pieces whose values go with it.
    removed: Vec<u64>,
    bytes: usize,
    groups: usize,
}

impl<N: Nodes> Sharded<N> {
    pub(super) fn new(
        nodes: N,
        root: &str,
        member: Option<String>,
        head: Head,
        version: i32,
        raw: Raw,
        limits: Limits,
    ) -> Self {
        let last_id = raw.shards.keys().chain(&raw.leftovers).max().copied();
        let mut sharded = Self {
            nodes,
            root: root.to_owned(),
            member,
            limits,
            head,
            version,
            shards: BTreeMap::new(),
            places: BTreeMap::new(),
            filling: None,
            sparse: BTreeSet::new(),
            next_id: last_id.map_or(0, |id| id + 1),
            leftovers: raw.leftovers,
            broken: false,
        };
        for (id, entries) in raw.shards {
            let mut held = Held {
                written: true,
                ..Held::default()
            };
            for (key, stored) in entries {
                if let Stored::Long(long) = &stored {
                    let last = long.pieces.iter().max().copied().unwrap_or(0);
                    sharded.next_id = sharded.next_id.max(last + 1);
                }
                let key: Arc<str> = key.into();
                held.bytes += stored.bytes(&key);
                sharded.places.insert(key.clone(), id);
                held.entries.insert(key, stored);
            }
            sharded.shards.insert(id, held);
            sharded.weigh(id);
        }
        sharded
    }

    /// The cluster's id.
    pub fn cluster_id(&self) -> &str {
        &self.head.cluster_id
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Nothing is registered.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Every entry, by key. Long values are read from their pieces.
    pub fn entries(&mut self) -> Result<BTreeMap<String, Vec<u8>>, Fault<N::Error>> {
        let mut all = BTreeMap::new();
        for (key, stored) in self.shards.values().flat_map(|held| &held.entries) {
            let value = match stored {
                Stored::Short(value) => value.clone(),
                Stored::Long(long) => read::whole(&mut self.nodes, &self.root, key, long)?,
            };
            all.insert(key.to_string(), value);
        }
        Ok(all)
    }

    /// Makes steps durable, in their order; the steps of one group together or not at all. After an
    /// error nothing more is written.
    pub fn apply(&mut self, groups: &[Vec<Step>]) -> Result<(), Fault<N::Error>> {
        if self.broken {
            return Err(Fault::Broken);
        }
        self.broken = true;
        let mut batch = Batch::default();
        for group in groups {
            let cost = self.cost(group, &batch);
            if batch.groups > 0 && batch.bytes + cost > self.limits.transaction_bytes {
                self.commit(std::mem::take(&mut batch))?;
            }
            batch.bytes += self.cost(group, &batch);
            batch.groups += 1;
            for step in group {
                match step {
                    Step::Put(key, value) => self.put(key, value, &mut batch)?,
                    Step::Remove(key) => self.remove(key, &mut batch),
                }
            }
        }
        if batch.groups > 0 {
            self.commit(batch)?;
        }
        self.broken = false;
        Ok(())
    }

    /// What a group adds to a transaction at most, about.
    fn cost(&self, group: &[Step], batch: &Batch) -> usize {
        let shard = |key: &str| match self.places.get(key) {
            Some(id) if batch.dirty.contains(id) => 0,
            Some(id) => self.shards.get(id).map_or(0, |held| held.bytes),
            // It may come into any.
            None => self.limits.shard_bytes,
        };
        let cost = group.iter().map(|step| match step {
            Step::Put(key, value) => {
                shard(key) + key.len() + value.len().min(self.limits.value_bytes_max)
            }
            Step::Remove(key) if self.places.contains_key(key.as_str()) => shard(key),
            Step::Remove(_) => 0,
        });
        cost.map(|bytes| bytes + SMALL).sum()
    }

    fn put(&mut self, key: &str, value: &[u8], batch: &mut Batch) -> Result<(), Fault<N::Error>> {
        let stored = if value.len() > self.limits.value_bytes_max {
            Stored::Long(self.write_pieces(value)?)
        } else {
            Stored::Short(value.to_vec())
        };
        let bytes = stored.bytes(key);
        let id = match self.take(key, batch) {
            // It stays where it was, if there is room.
            Some(id) if self.has_room(id, bytes, self.limits.shard_bytes_max) => id,
            Some(_) | None => self.place(bytes, batch),
        };
        let key: Arc<str> = key.into();
        self.head.totals.add(stored.digest(&key));
        self.places.insert(key.clone(), id);
        let held = self.shards.entry(id).or_default();
        held.entries.insert(key, stored);
        held.bytes += bytes;
        batch.dirty.insert(id);
        self.weigh(id);
        Ok(())
    }

    fn remove(&mut self, key: &str, batch: &mut Batch) {
        self.take(key, batch);
    }

    /// Takes an entry out. Returns where it was.
    fn take(&mut self, key: &str, batch: &mut Batch) -> Option<u64> {
        let id = self.places.remove(key)?;
        let held = self.shards.get_mut(&id)?;
        let stored = held.entries.remove(key)?;
        held.bytes = held.bytes.saturating_sub(stored.bytes(key));
        self.head.totals.subtract(stored.digest(key));
        if let Stored::Long(long) = stored {
            batch.bytes += long.pieces.len() * SMALL;
            batch.removed.extend(long.pieces);
        }
        batch.dirty.insert(id);
        self.weigh(id);
        Some(id)
    }

    fn has_room(&self, id: u64, bytes: usize, limit: usize) -> bool {
        self.shards
            .get(&id)
            .is_some_and(|held| held.entries.is_empty() || held.bytes + bytes <= limit)
    }

    /// A shard with room: one that is written anyway, the one that is being filled, one that is
    /// half empty, or a new one.
    fn place(&mut self, bytes: usize, batch: &Batch) -> u64 {
        let limit = self.limits.shard_bytes;
        if let Some(id) = self.filling
            && self.has_room(id, bytes, limit)
        {
            return id;
        }
        let dirty = batch.dirty.iter().rev().take(8);
        let sparse = self.sparse.iter().take(8);
        let found = dirty
            .chain(sparse)
            .copied()
            .find(|id| self.has_room(*id, bytes, limit));
        let id = found.unwrap_or_else(|| self.fresh_id());
        self.filling = Some(id);
        id
    }

    fn fresh_id(&mut self) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        id
    }

    /// Keeps the list of sparse shards right.
    fn weigh(&mut self, id: u64) {
        let sparse = self
            .shards
            .get(&id)
            .is_some_and(|held| held.bytes < self.limits.shard_bytes / 2);
        if sparse {
            self.sparse.insert(id);
        } else {
            self.sparse.remove(&id);
        }
    }

    /// Writes a long value. Nothing refers to it yet.
    fn write_pieces(&mut self, value: &[u8]) -> Result<Long, Fault<N::Error>> {
        let mut long = Long {
            bytes: value.len() as u64,
            checksum: layout::checksum(value),
            pieces: Vec::new(),
        };
        for piece in value.chunks(self.limits.piece_bytes.max(1)) {
            let id = self.fresh_id();
            let mut operations = self.fence();
            operations.push(Operation::Check {
                path: layout::head_path(&self.root),
                version: Some(self.version),
            });
            let fenced = operations.len();
            operations.push(Operation::Create {
                path: layout::piece_path(&self.root, id),
                data: layout::seal(piece.to_vec()),
            });
            let mut sent_before = false;
            loop {
                match self.nodes.write(&operations) {
                    Ok(()) => break,
                    Err(WriteError::Lost) => sent_before = true,
                    Err(WriteError::Failed(error)) => return Err(Fault::Nodes(error)),
                    Err(WriteError::Refused { index }) if index < fenced => {
                        return Err(Fault::Deposed);
                    }
                    // Nobody else can have made it: it was carried out before.
                    Err(WriteError::Refused { .. }) if sent_before => break,
                    Err(WriteError::Refused { index }) => return Err(altered(&operations, index)),
                }
            }
            long.pieces.push(id);
        }
        Ok(long)
    }

    /// The check of our own membership znode.
    fn fence(&self) -> Vec<Operation> {
        let member = self.member.iter();
        member
            .map(|path| Operation::Check {
                path: path.clone(),
                version: None,
            })
            .collect()
    }

    /// Writes what a batch touched, and the head, at once.
    fn commit(&mut self, batch: Batch) -> Result<(), Fault<N::Error>> {
        let leftovers: Vec<u64> = self
            .leftovers
            .iter()
            .take(LEFTOVERS_AT_ONCE)
            .copied()
            .collect();
        let mut shards = Vec::new();
        for id in &batch.dirty {
            shards.extend(self.shard_operation(*id));
        }
        self.head.sequence += 1;
        self.head.totals.shards = self.shards.len() as u64;
        let mut operations = self.fence();
        let fenced = operations.len();
        let (write_head, version) = self.head.over(&self.root, self.version);
        operations.extend(write_head);
        operations.extend(shards);
        let pieces = batch.removed.iter().chain(&leftovers);
        operations.extend(pieces.map(|id| Operation::Delete {
            path: layout::piece_path(&self.root, *id),
            version: None,
        }));
        self.send(&operations, fenced, version)?;
        for id in leftovers {
            self.leftovers.remove(&id);
        }
        Ok(())
    }

    /// How a shard is written. One that is empty goes.
    fn shard_operation(&mut self, id: u64) -> Option<Operation> {
        let path = layout::shard_path(&self.root, id);
        let held = self.shards.get_mut(&id)?;
        if held.entries.is_empty() {
            let written = held.written;
            self.shards.remove(&id);
            self.sparse.remove(&id);
            if self.filling == Some(id) {
                self.filling = None;
            }
            return written.then_some(Operation::Delete {
                path,
                version: None,
            });
        }
        let entries = held.entries.iter().map(|(key, stored)| match stored {
            Stored::Short(value) => Entry {
                key: key.to_string(),
                value: value.clone(),
                long: None,
            },
            Stored::Long(long) => Entry {
                key: key.to_string(),
                value: Vec::new(),
                long: Some(long.clone()),
            },
        });
        let shard = Shard {
            entries: entries.collect(),
        };
        let data = layout::seal(shard.encode_to_vec());
        Some(if std::mem::replace(&mut held.written, true) {
            Operation::Set {
                path,
                data,
                version: None,
            }
        } else {
            Operation::Create { path, data }
        })
    }

    /// Sends a transaction that writes the head, until it is known what came of it.
    fn send(
        &mut self,
        operations: &[Operation],
        fenced: usize,
        version: i32,
    ) -> Result<(), Fault<N::Error>> {
        let refused = loop {
            match self.nodes.write(operations) {
                Ok(()) => {
                    self.version = version;
                    return Ok(());
                }
                Err(WriteError::Lost) => {}
                Err(WriteError::Failed(error)) => return Err(Fault::Nodes(error)),
                // A leader that is out stops, even if this was written before.
                Err(WriteError::Refused { index }) if index < fenced => return Err(Fault::Deposed),
                Err(WriteError::Refused { index }) => break index,
            }
        };
        match read::read_head(&mut self.nodes, &self.root)? {
            // It had been carried out, and the reply was lost.
            Some((node, Ok(found))) if found == self.head => {
                self.version = node.version;
                Ok(())
            }
            Some((node, Ok(_))) if node.version == self.version => {
                Err(altered(operations, refused))
            }
            Some(_) | None => Err(Fault::Deposed),
        }
    }
}

fn altered<E>(operations: &[Operation], index: usize) -> Fault<E> {
    let path = operations.get(index).map(Operation::path);
    Fault::Altered {
        path: path.unwrap_or_default().to_owned(),
    }
}
