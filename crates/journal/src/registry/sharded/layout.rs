//! What is in the nodes: messages, each followed by a checksum.

use super::Operation;
use prost::Message;

/// Version of the layout of nodes. What entries hold is versioned by the registry's own format.
pub(super) const FORMAT: u32 = 1;

const CHECKSUM_BYTES: usize = 4;

/// How things are packed. Only tests have a use for other than the default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// A shard takes new entries until it is this big.
    pub shard_bytes: usize,
    /// Entries that grow stay in their shard until it is this big.
    pub shard_bytes_max: usize,
    /// A longer value is kept outside of shards.
    pub value_bytes_max: usize,
    /// In pieces of this size.
    pub piece_bytes: usize,
    /// A transaction is not made bigger than this, if it can be made smaller. ZooKeeper takes
    /// 1 MiB (`jute.maxbuffer`).
    pub transaction_bytes: usize,
    /// Nodes read at once.
    pub reads: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            shard_bytes: 16 << 10,
            shard_bytes_max: 64 << 10,
            value_bytes_max: 32 << 10,
            piece_bytes: 256 << 10,
            transaction_bytes: 512 << 10,
            reads: 256,
        }
    }
}

/// The node that every transaction writes.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Head {
    #[prost(uint32, tag = "1")]
    pub(super) format: u32,
    /// Format of the entries.
    #[prost(uint32, tag = "2")]
    pub(super) entries_format: u32,
    #[prost(string, tag = "3")]
    pub(super) cluster_id: String,
    /// How many have written.
    #[prost(uint64, tag = "4")]
    pub(super) epoch: u64,
    /// Who wrote last: drawn anew by each.
    #[prost(string, tag = "5")]
    pub(super) writer: String,
    /// How often it wrote.
    #[prost(uint64, tag = "6")]
    pub(super) sequence: u64,
    #[prost(message, required, tag = "7")]
    pub(super) totals: Totals,
}

impl Head {
    /// The operations that write it over one of this version, and the version that it has then.
    ///
    /// ZooKeeper's versions go round in 32 bits, and to check for version -1 is to check for none:
    /// a head is never left with that.
    pub(super) fn over(&self, root: &str, version: i32) -> (Vec<Operation>, i32) {
        let set = |version| Operation::Set {
            path: head_path(root),
            data: seal(self.encode_to_vec()),
            version,
        };
        match version.wrapping_add(1) {
            -1 => (vec![set(Some(version)), set(None)], 0),
            next => (vec![set(Some(version))], next),
        }
    }
}

/// What everything comes to.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(super) struct Totals {
    #[prost(uint64, tag = "1")]
    pub(super) shards: u64,
    #[prost(uint64, tag = "2")]
    pub(super) entries: u64,
    /// The sum of [`digest`] over all entries.
    #[prost(fixed64, tag = "3")]
    pub(super) digest: u64,
}

impl Totals {
    pub(super) fn add(&mut self, digest: u64) {
        self.entries = self.entries.wrapping_add(1);
        self.digest = self.digest.wrapping_add(digest);
    }

    pub(super) fn subtract(&mut self, digest: u64) {
        self.entries = self.entries.wrapping_sub(1);
        self.digest = self.digest.wrapping_sub(digest);
    }
}

/// A node with entries.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Shard {
    #[prost(message, repeated, tag = "1")]
    pub(super) entries: Vec<Entry>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Entry {
    #[prost(string, tag = "1")]
    pub(super) key: String,
    /// Unless it is a long one.
    #[prost(bytes = "vec", tag = "2")]
    pub(super) value: Vec<u8>,
    #[prost(message, optional, tag = "3")]
    pub(super) long: Option<Long>,
}

/// A value that is kept in pieces.
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct Long {
    #[prost(uint64, tag = "1")]
    pub(super) bytes: u64,
    #[prost(fixed32, tag = "2")]
    pub(super) checksum: u32,
    #[prost(uint64, repeated, tag = "3")]
    pub(super) pieces: Vec<u64>,
}

/// Stands for an entry in sums.
pub(in crate::registry) fn digest(key: &str, bytes: u64, checksum: u32) -> u64 {
    let key = crc32c::crc32c(key.as_bytes());
    let mixed = (u64::from(key) << 32 | u64::from(checksum)) ^ bytes.rotate_left(48);
    // Spreads what differs in few bits over all of them (the finalizer of SplitMix64).
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

pub(in crate::registry) fn checksum(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes)
}

/// Adds the checksum.
pub(super) fn seal(mut bytes: Vec<u8>) -> Vec<u8> {
    let sum = checksum(&bytes);
    bytes.extend_from_slice(&sum.to_le_bytes());
    bytes
}

/// Takes the checksum off, if it is right.
pub(super) fn unseal<'a>(path: &str, bytes: &'a [u8]) -> Result<&'a [u8], Damage> {
    let damaged = || Damage::Checksum {
        path: path.to_owned(),
    };
    let end = bytes
        .len()
        .checked_sub(CHECKSUM_BYTES)
        .ok_or_else(damaged)?;
    let (content, sum) = bytes.split_at(end);
    if sum == checksum(content).to_le_bytes() {
        Ok(content)
    } else {
        Err(damaged())
    }
}

/// Reads a sealed message.
pub(super) fn open<T: Message + Default>(path: &str, bytes: &[u8]) -> Result<T, Damage> {
    let content = unseal(path, bytes)?;
    T::decode(content).map_err(|source| Damage::Content {
        path: path.to_owned(),
        source,
    })
}

pub(super) fn head_path(root: &str) -> String {
    format!("{root}/head")
}

pub(super) fn shards_path(root: &str) -> String {
    format!("{root}/shards")
}

pub(super) fn long_path(root: &str) -> String {
    format!("{root}/long")
}

pub(super) fn shard_path(root: &str, id: u64) -> String {
    format!("{root}/shards/{id:016x}")
}

pub(super) fn piece_path(root: &str, id: u64) -> String {
    format!("{root}/long/{id:016x}")
}

/// The id in a node's name.
pub(super) fn id(name: &str) -> Option<u64> {
    let hex = name.len() == 16 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    hex.then(|| u64::from_str_radix(name, 16).ok()).flatten()
}

/// What was read is not what was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// There are shards, but not the node that says what they come to.
    #[error("'{path}' is missing, though there are shards")]
    NoHead {
        /// Its path.
        path: String,
    },
    /// A node is not there.
    #[error("'{path}' is missing")]
    Missing {
        /// Which.
        path: String,
    },
    /// A node is not as it was written.
    #[error("'{path}' is damaged: its checksum is wrong")]
    Checksum {
        /// Which.
        path: String,
    },
    /// A node has the right checksum and yet cannot be read.
    #[error("'{path}' is damaged: {source}")]
    Content {
        /// Which.
        path: String,
        /// Why.
        source: prost::DecodeError,
    },
    /// A node with a name that is none of ours.
    #[error("'{path}' is not a part of the registry")]
    Stranger {
        /// Which.
        path: String,
    },
    /// A value in pieces is not what it was.
    #[error("the pieces of '{key}' do not come to its value")]
    Pieces {
        /// The entry.
        key: String,
    },
    /// An entry is in two shards.
    #[error("'{key}' is in two shards")]
    Twice {
        /// The entry.
        key: String,
    },
    /// Shards or entries are missing, or of another time.
    #[error(
        "{shards_found} shards with {entries_found} entries were read, and {shards} with {entries} \
         were written, or others than these"
    )]
    Totals {
        /// As written.
        shards: u64,
        /// As written.
        entries: u64,
        /// As read.
        shards_found: u64,
        /// As read.
        entries_found: u64,
    },
}
