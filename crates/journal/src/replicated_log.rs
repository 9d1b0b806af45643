//! Reads the replicated log in which leaders of the reference keep their registry, so that one of
//! ours can take over from them.
//!
//! ```text
//! leveldb    a directory of tables and logs → keys and values
//!            one key per position, one for the state of the replica (`src/log/leveldb.cpp`)
//! (here)     what was agreed on at each position, in order (`src/messages/log.proto`)
//! state      snapshots, differences, removals → named values (`src/state/log.cpp`)
//! svndiff    one value from another and a difference (`3rdparty/stout/include/stout/svn.hpp`)
//! ```
//!
//! Nothing is written: the files come as bytes, and the directory stays as it is.

pub mod leveldb;
mod state;
pub mod svndiff;

use leveldb::{Files, LevelDbError};
use prost::Message;
use std::collections::BTreeMap;
use svndiff::DiffError;
use tepui_protocol::{internal::Registry, wire};

/// What the reference calls the value (`src/master/registrar.cpp`).
const REGISTRY: &str = "registry";

/// What a log holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Log {
    /// The registry as of the last position; `None` if it was never written.
    pub registry: Option<Registry>,
    /// The first position that was not truncated, and the last one.
    pub positions: Option<(u64, u64)>,
    /// What a careful operator wants to know.
    pub remarks: Vec<Remark>,
}

/// Something that does not keep the log from being read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Remark {
    /// A file ends in the middle of a write that was never acknowledged.
    #[error("{file} ends in an unfinished write, which was left out")]
    TornTail {
        /// Which.
        file: String,
    },
    /// This replica does not know whether the others agreed to what it was given.
    #[error(
        "position {0} was written, but this replica did not learn that a quorum has it; it was taken"
    )]
    NotLearned(u64),
    /// Other values than the registry are in the log.
    #[error("the log also holds '{0}', which is none of the registry")]
    Other(String),
}

/// The log cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// The database is damaged, or none.
    #[error(transparent)]
    LevelDb(#[from] LevelDbError),
    /// A record is not one.
    #[error("the record under key '{key}' cannot be read")]
    Record {
        /// As printable as it gets.
        key: String,
    },
    /// The replica did not have all of the log.
    #[error(
        "this replica is {status} and does not hold the whole log: take that of another leader"
    )]
    Incomplete {
        /// As the reference calls it.
        status: &'static str,
    },
    /// A position is missing in the middle.
    #[error("position {0} is missing in this replica: take the log of another leader")]
    Hole(u64),
    /// What is at a position is not what the reference writes.
    #[error("position {0} holds no operation of the state")]
    Operation(u64),
    /// A difference to a value that is not there.
    #[error("position {position} holds a difference to '{name}', which is not there")]
    NoBase {
        /// Where.
        position: u64,
        /// Which value.
        name: String,
    },
    /// A difference cannot be applied.
    #[error("the difference at position {position} cannot be applied: {source}")]
    Difference {
        /// Where.
        position: u64,
        /// Why.
        source: DiffError,
    },
    /// The registry is not one.
    #[error("the registry in the log cannot be read: {0}")]
    Registry(wire::DecodeError),
}

/// Reads a log from the files of its directory (`replicated_log` in the work directory).
pub fn read(files: &Files) -> Result<Log, LogError> {
    let database = leveldb::read(files)?;
    let torn = database.torn.iter();
    let mut remarks: Vec<_> = torn
        .map(|file| Remark::TornTail { file: file.clone() })
        .collect();
    let actions = actions(&database.entries)?;
    let (positions, writes) = agreed(&actions, &mut remarks)?;
    let mut values = state::apply(writes)?;
    let registry = values.remove(REGISTRY);
    remarks.extend(values.into_keys().map(Remark::Other));
    let registry = match registry {
        Some(value) => Some(wire::decode(value.into()).map_err(LogError::Registry)?),
        None => None,
    };
    Ok(Log {
        registry,
        positions,
        remarks,
    })
}

/// What is written at each position.
fn actions(entries: &BTreeMap<Vec<u8>, Vec<u8>>) -> Result<BTreeMap<u64, Action>, LogError> {
    let mut actions = BTreeMap::new();
    for (key, value) in entries {
        let unreadable = || LogError::Record {
            key: String::from_utf8_lossy(key).into_owned(),
        };
        let record = Record::decode(value.as_slice()).map_err(|_| unreadable())?;
        match (record.r#type, record.action, record.metadata) {
            (RECORD_ACTION, Some(action), _) => {
                actions.insert(action.position, action);
            }
            (RECORD_METADATA, _, Some(metadata)) => complete(&metadata)?,
            // Of versions before there was metadata.
            (RECORD_PROMISE, _, _) => {}
            _ => return Err(unreadable()),
        }
    }
    Ok(actions)
}

/// A replica that is not voting may lack anything.
fn complete(metadata: &Metadata) -> Result<(), LogError> {
    let status = match metadata.status {
        STATUS_VOTING => return Ok(()),
        2 => "RECOVERING",
        3 => "STARTING",
        _ => "EMPTY",
    };
    Err(LogError::Incomplete { status })
}

type Agreed<'a> = (Option<(u64, u64)>, Vec<(u64, &'a [u8])>);

/// What was appended and not truncated, in order.
fn agreed<'a>(
    actions: &'a BTreeMap<u64, Action>,
    remarks: &mut Vec<Remark>,
) -> Result<Agreed<'a>, LogError> {
    let begin = actions
        .values()
        .filter(|action| action.learned)
        .map(Action::begin);
    let begin = begin.max().unwrap_or(0);
    // What was only promised at the end was never written.
    let written = |action: &&Action| action.performed.is_some();
    let Some(last) = actions.values().rev().find(written) else {
        return Ok((None, Vec::new()));
    };
    let mut writes = Vec::new();
    for position in begin..=last.position {
        let action = actions.get(&position).filter(written);
        let action = action.ok_or(LogError::Hole(position))?;
        if !action.learned {
            remarks.push(Remark::NotLearned(position));
        }
        if let (ACTION_APPEND, Some(append)) = (action.r#type, &action.append) {
            writes.push((position, append.bytes.as_slice()));
        }
    }
    Ok((Some((begin, last.position)), writes))
}

const RECORD_PROMISE: i32 = 1;
const RECORD_ACTION: i32 = 2;
const RECORD_METADATA: i32 = 3;
const STATUS_VOTING: i32 = 1;
const ACTION_APPEND: i32 = 2;

#[derive(Clone, PartialEq, Message)]
struct Record {
    #[prost(int32, tag = "1")]
    r#type: i32,
    #[prost(message, optional, tag = "3")]
    action: Option<Action>,
    #[prost(message, optional, tag = "4")]
    metadata: Option<Metadata>,
}

#[derive(Clone, PartialEq, Message)]
struct Metadata {
    #[prost(int32, tag = "1")]
    status: i32,
}

#[derive(Clone, PartialEq, Message)]
struct Action {
    #[prost(uint64, tag = "1")]
    position: u64,
    #[prost(uint64, optional, tag = "3")]
    performed: Option<u64>,
    #[prost(bool, tag = "4")]
    learned: bool,
    #[prost(int32, tag = "5")]
    r#type: i32,
    #[prost(message, optional, tag = "6")]
    nop: Option<Nop>,
    #[prost(message, optional, tag = "7")]
    append: Option<Append>,
    #[prost(message, optional, tag = "8")]
    truncate: Option<Truncate>,
}

#[derive(Clone, PartialEq, Message)]
struct Nop {
    #[prost(bool, tag = "1")]
    tombstone: bool,
}

#[derive(Clone, PartialEq, Message)]
struct Append {
    #[prost(bytes = "vec", tag = "1")]
    bytes: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct Truncate {
    #[prost(uint64, tag = "1")]
    to: u64,
}

impl Action {
    /// Where the log begins according to this.
    fn begin(&self) -> u64 {
        match (&self.truncate, &self.nop) {
            (Some(truncate), _) => truncate.to,
            // This position was truncated itself.
            (None, Some(nop)) if nop.tombstone => self.position.saturating_add(1),
            (None, _) => 0,
        }
    }
}
