//! Reads a LevelDB database: the manifest that says which files count, the tables, and the logs of
//! what came last. Read-only, and on bytes: opening a database in the usual way would rewrite it.

use std::collections::BTreeMap;

mod log;
mod manifest;
mod table;

/// The files of a directory, by name.
pub type Files = BTreeMap<String, Vec<u8>>;

/// What a database holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Database {
    /// Keys and values.
    pub entries: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Files that end in the middle of a write.
    pub torn: Vec<String>,
}

/// A database cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LevelDbError {
    /// The directory holds none.
    #[error("there is no LevelDB database: a file CURRENT is missing")]
    NoDatabase,
    /// A file that counts is not there.
    #[error("the file {0} is missing")]
    Missing(String),
    /// A file is not what was written.
    #[error("the file {file} is damaged at byte {offset}: {what}")]
    Damaged {
        /// Which.
        file: String,
        /// Where.
        offset: usize,
        /// What is wrong there.
        what: &'static str,
    },
    /// Keys are in an order that is none of the usual one.
    #[error("keys are ordered by '{0}', which is not known")]
    Comparator(String),
}

/// One change of a key: its number, and the value unless it was removed. The highest number counts.
type Change = (u64, Option<Vec<u8>>);

/// All changes, by key.
#[derive(Default)]
struct Changes(BTreeMap<Vec<u8>, Change>);

impl Changes {
    fn add(&mut self, key: &[u8], sequence: u64, value: Option<&[u8]>) {
        match self.0.get(key) {
            Some((known, _)) if *known > sequence => {}
            Some(_) | None => {
                let value = value.map(<[u8]>::to_vec);
                self.0.insert(key.to_vec(), (sequence, value));
            }
        }
    }
}

/// Reads a whole database.
pub fn read(files: &Files) -> Result<Database, LevelDbError> {
    let current = files.get("CURRENT").ok_or(LevelDbError::NoDatabase)?;
    let name = String::from_utf8_lossy(current).trim().to_owned();
    let mut torn = Vec::new();
    let state = manifest::read(&name, file(files, &name)?, &mut torn)?;
    let mut changes = Changes::default();
    for number in &state.tables {
        let names = [format!("{number:06}.ldb"), format!("{number:06}.sst")];
        let [name, _] = &names;
        let found = names.iter().find_map(|name| Some((name, files.get(name)?)));
        let (name, data) = found.ok_or_else(|| LevelDbError::Missing(name.clone()))?;
        table::read(name, data, &mut changes)?;
    }
    let mut logs = BTreeMap::new();
    for (name, data) in files {
        let number = name
            .strip_suffix(".log")
            .and_then(|number| number.parse().ok());
        if let Some(number) = number.filter(|number| state.counts(*number)) {
            logs.insert(number, (name, data));
        }
    }
    if state.log > 0 && !logs.contains_key(&state.log) {
        return Err(LevelDbError::Missing(format!("{:06}.log", state.log)));
    }
    for (name, data) in logs.into_values() {
        log::replay(name, data, &mut changes, &mut torn)?;
    }
    let entries = changes.0.into_iter();
    Ok(Database {
        entries: entries
            .filter_map(|(key, (_, value))| Some((key, value?)))
            .collect(),
        torn,
    })
}

fn file<'a>(files: &'a Files, name: &str) -> Result<&'a [u8], LevelDbError> {
    let data = files.get(name).map(Vec::as_slice);
    data.ok_or_else(|| LevelDbError::Missing(name.to_owned()))
}

/// A place in a file.
struct Cursor<'a> {
    file: &'a str,
    data: &'a [u8],
    offset: usize,
}

impl<'a> Cursor<'a> {
    fn new(file: &'a str, data: &'a [u8]) -> Self {
        Self {
            file,
            data,
            offset: 0,
        }
    }

    fn is_at_end(&self) -> bool {
        self.offset >= self.data.len()
    }

    fn damaged(&self, what: &'static str) -> LevelDbError {
        LevelDbError::Damaged {
            file: self.file.to_owned(),
            offset: self.offset,
            what,
        }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], LevelDbError> {
        let end = self.offset.checked_add(length);
        let taken = end.and_then(|end| self.data.get(self.offset..end));
        let taken = taken.ok_or_else(|| self.damaged("it ends too early"))?;
        self.offset += length;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, LevelDbError> {
        Ok(self.take(1)?[0])
    }

    fn u32(&mut self) -> Result<u32, LevelDbError> {
        let bytes = self.take(4)?.try_into().unwrap_or_default();
        Ok(u32::from_le_bytes(bytes))
    }

    fn u64(&mut self) -> Result<u64, LevelDbError> {
        let bytes = self.take(8)?.try_into().unwrap_or_default();
        Ok(u64::from_le_bytes(bytes))
    }

    /// Seven bits a byte, the lowest first.
    fn varint(&mut self) -> Result<u64, LevelDbError> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(self.damaged("a number is too long"))
    }

    fn length(&mut self) -> Result<usize, LevelDbError> {
        let number = self.varint()?;
        usize::try_from(number).map_err(|_| self.damaged("a length is too big"))
    }

    /// A length and as many bytes.
    fn slice(&mut self) -> Result<&'a [u8], LevelDbError> {
        let length = self.length()?;
        self.take(length)
    }
}

/// Checksums are stored in a form that does not disturb checksums over them.
fn masked(checksum: u32) -> u32 {
    checksum.rotate_right(15).wrapping_add(0xa282_ead8)
}
