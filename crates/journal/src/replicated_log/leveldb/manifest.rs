//! Which files make up the database.

use super::{Cursor, LevelDbError, log};
use std::collections::BTreeSet;

/// The order that keys are in, by its name.
const BYTEWISE: &[u8] = b"leveldb.BytewiseComparator";

/// What the manifest comes to.
#[derive(Default)]
pub(super) struct State {
    pub(super) tables: BTreeSet<u64>,
    /// What earlier logs hold is in tables.
    pub(super) log: u64,
    /// Except this one.
    previous_log: u64,
}

impl State {
    pub(super) fn counts(&self, log: u64) -> bool {
        log >= self.log || (self.previous_log != 0 && log == self.previous_log)
    }
}

pub(super) fn read(name: &str, data: &[u8], torn: &mut Vec<String>) -> Result<State, LevelDbError> {
    let (records, unfinished) = log::records(name, data)?;
    if unfinished {
        torn.push(name.to_owned());
    }
    let mut state = State::default();
    for record in records {
        edit(&mut Cursor::new(name, &record), &mut state)?;
    }
    Ok(state)
}

fn edit(cursor: &mut Cursor<'_>, state: &mut State) -> Result<(), LevelDbError> {
    while !cursor.is_at_end() {
        match cursor.varint()? {
            1 => {
                let name = cursor.slice()?;
                if name != BYTEWISE {
                    let name = String::from_utf8_lossy(name).into_owned();
                    return Err(LevelDbError::Comparator(name));
                }
            }
            2 => state.log = cursor.varint()?,
            // The next file number, the last sequence number.
            3 | 4 => drop(cursor.varint()?),
            // Where a compaction goes on.
            5 => {
                cursor.varint()?;
                cursor.slice()?;
            }
            6 => {
                cursor.varint()?;
                state.tables.remove(&cursor.varint()?);
            }
            7 => {
                cursor.varint()?;
                state.tables.insert(cursor.varint()?);
                cursor.varint()?;
                cursor.slice()?;
                cursor.slice()?;
            }
            9 => state.previous_log = cursor.varint()?,
            _ => return Err(cursor.damaged("an unknown field")),
        }
    }
    Ok(())
}
