//! The leader's registry, in one file of its work directory.
//!
//! The entries and their meaning are [`tepui_journal::registry`]'s; this is the file: a redb
//! database, whose commits are durable and atomic.

use super::{Loaded, OpenRegistry, Registry, RegistryError};
use crate::random;
use redb::{Database, DatabaseError, Durability, ReadableDatabase, ReadableTable, TableDefinition};
use std::{
    ops::{Deref, DerefMut},
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};
use tepui_journal::registry::{self as format, Step};
use tepui_leader::RegistryChange;
use tepui_protocol::internal;

/// Name of the file in the work directory.
pub const FILE: &str = "registry.redb";

/// Pages kept in memory. The registry is read once and then only written.
const CACHE_BYTES: usize = 1 << 20;

const ENTRIES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("entries");
const META: TableDefinition<'_, &str, u32> = TableDefinition::new("meta");
const FORMAT_KEY: &str = "format";
const IDENTITY: TableDefinition<'_, &str, &str> = TableDefinition::new("identity");
const CLUSTER_KEY: &str = "cluster";
/// The sum over all entries, by which damage is noticed that the database does not look for.
const SUMS: TableDefinition<'_, &str, u64> = TableDefinition::new("sums");
const ENTRIES_KEY: &str = "entries";

/// Opens the registry of a work directory.
#[derive(Debug, Clone)]
pub struct RegistryInDirectory(pub PathBuf);

impl OpenRegistry for RegistryInDirectory {
    fn open(&self, _member: Option<&str>) -> Result<Box<dyn Registry>, RegistryError> {
        Ok(Box::new(RegistryFile::open(&self.0)?))
    }
}

/// A key and its value.
type Entry = (String, Vec<u8>);

/// The registry in a file.
pub struct RegistryFile {
    path: PathBuf,
    database: Held,
}

impl RegistryFile {
    /// Opens the registry of a work directory, or makes an empty one.
    pub fn open(work_dir: &Path) -> Result<Self, RegistryError> {
        std::fs::create_dir_all(work_dir).map_err(|source| RegistryError::Directory {
            path: work_dir.to_owned(),
            source,
        })?;
        let path = work_dir.join(FILE);
        let open = || match redb::Builder::new()
            .set_cache_size(CACHE_BYTES)
            .create(&path)
        {
            Ok(database) => Ok(database),
            Err(DatabaseError::DatabaseAlreadyOpen) => Err(RegistryError::InUse(path.clone())),
            Err(error) => Err(unusable(&path, error)),
        };
        let database = guarded(&path, open)?;
        let database = Held(Some(database));
        let registry = Self { path, database };
        registry.check_format()?;
        Ok(registry)
    }

    /// Refuses a file of a later format.
    fn check_format(&self) -> Result<(), RegistryError> {
        match self.found_format()? {
            Some(found) if found > format::FORMAT => Err(RegistryError::TooNew {
                path: self.path.clone(),
                found,
            }),
            _ => Ok(()),
        }
    }

    /// The format of the file; `None` of one that was never written. Makes the tables.
    fn format(&self) -> Result<Option<u32>, redb::Error> {
        let write = self.database.begin_write()?;
        let found = {
            write.open_table(ENTRIES)?;
            write.open_table(SUMS)?;
            write.open_table(IDENTITY)?;
            let meta = write.open_table(META)?;
            meta.get(FORMAT_KEY)?.map(|format| format.value())
        };
        write.commit()?;
        Ok(found)
    }

    /// The format that it is in, to be shown.
    pub(super) fn found_format(&self) -> Result<Option<u32>, RegistryError> {
        guarded(&self.path, || {
            self.format().map_err(|error| unusable(&self.path, error))
        })
    }

    /// The cluster's id, made now if there is none.
    fn cluster_id(&self) -> Result<String, RegistryError> {
        let fresh = random::uuid().map_err(RegistryError::Randomness)?;
        guarded(&self.path, || {
            self.identify(&fresh.to_string())
                .map_err(|error| unusable(&self.path, error))
        })
    }

    /// Gives the registry an id, unless it has one. Returns the one it has then.
    fn identify(&self, fresh: &str) -> Result<String, redb::Error> {
        let write = self.database.begin_write()?;
        let found = {
            let mut identity = write.open_table(IDENTITY)?;
            let found = identity.get(CLUSTER_KEY)?.map(|id| id.value().to_owned());
            if found.is_none() {
                identity.insert(CLUSTER_KEY, fresh)?;
            }
            found
        };
        match found {
            Some(found) => {
                write.abort()?;
                Ok(found)
            }
            None => {
                write.commit()?;
                Ok(fresh.to_owned())
            }
        }
    }

    /// The cluster's id, if it has one.
    pub(super) fn found_cluster_id(&self) -> Result<Option<String>, RegistryError> {
        let read = || -> Result<_, redb::Error> {
            let identity = self.database.begin_read()?.open_table(IDENTITY)?;
            Ok(identity.get(CLUSTER_KEY)?.map(|id| id.value().to_owned()))
        };
        guarded(&self.path, || {
            read().map_err(|error| unusable(&self.path, error))
        })
    }

    /// Gives a registry that has no id this one.
    pub(super) fn adopt_cluster_id(&self, id: &str) -> Result<String, RegistryError> {
        guarded(&self.path, || {
            self.identify(id)
                .map_err(|error| unusable(&self.path, error))
        })
    }

    /// Every entry, in order of keys.
    pub(super) fn entries(&self) -> Result<Vec<Entry>, RegistryError> {
        let (entries, sum) = guarded(&self.path, || {
            self.read().map_err(|error| unusable(&self.path, error))
        })?;
        let digest = |(key, value): &Entry| format::digest(key, value);
        let found = entries.iter().map(digest).fold(0, u64::wrapping_add);
        match sum {
            Some(sum) if sum != found => Err(RegistryError::Altered(self.path.clone())),
            _ => Ok(entries),
        }
    }

    fn read(&self) -> Result<(Vec<Entry>, Option<u64>), redb::Error> {
        let read = self.database.begin_read()?;
        let entries = read.open_table(ENTRIES)?;
        let mut all = Vec::new();
        for entry in entries.iter()? {
            let (key, value) = entry?;
            all.push((key.value().to_owned(), value.value().to_owned()));
        }
        let sums = read.open_table(SUMS)?;
        let sum = sums.get(ENTRIES_KEY)?.map(|sum| sum.value());
        Ok((all, sum))
    }

    /// Has the database look at each of its pages.
    pub(super) fn check_pages(&mut self) -> Result<(), RegistryError> {
        let (database, path) = (&mut *self.database, &self.path);
        guarded(path, || match database.check_integrity() {
            Ok(true) => Ok(()),
            Ok(false) => Err(RegistryError::Altered(path.clone())),
            Err(error) => Err(unusable(path, error)),
        })
    }

    /// Makes steps durable, all or none of them.
    pub(super) fn write(&self, steps: &[Step]) -> Result<(), RegistryError> {
        guarded(&self.path, || {
            self.commit(steps)
                .map_err(|error| unusable(&self.path, error))
        })
    }

    fn commit(&self, steps: &[Step]) -> Result<(), redb::Error> {
        let mut write = self.database.begin_write()?;
        write.set_durability(Durability::Immediate)?;
        {
            let mut entries = write.open_table(ENTRIES)?;
            let mut sums = write.open_table(SUMS)?;
            let known = sums.get(ENTRIES_KEY)?.map(|sum| sum.value());
            let mut sum = match known {
                Some(sum) => sum,
                // Of format 1.
                None => sum_of(&entries)?,
            };
            for step in steps {
                let (key, before) = match step {
                    Step::Put(key, value) => {
                        sum = sum.wrapping_add(format::digest(key, value));
                        (key, entries.insert(key.as_str(), value.as_slice())?)
                    }
                    Step::Remove(key) => (key, entries.remove(key.as_str())?),
                };
                if let Some(before) = before {
                    sum = sum.wrapping_sub(format::digest(key, before.value()));
                }
            }
            sums.insert(ENTRIES_KEY, sum)?;
            let mut meta = write.open_table(META)?;
            let found = meta.get(FORMAT_KEY)?.map(|format| format.value());
            if found != Some(format::FORMAT) {
                meta.insert(FORMAT_KEY, format::FORMAT)?;
            }
        }
        Ok(write.commit()?)
    }
}

impl Registry for RegistryFile {
    fn load(&mut self) -> Result<Loaded, RegistryError> {
        let registry = self.contents()?;
        Ok(Loaded {
            registry,
            cluster_id: self.cluster_id()?,
        })
    }

    fn apply(&mut self, changes: &[RegistryChange]) -> Result<(), RegistryError> {
        let steps: Vec<Step> = changes.iter().flat_map(RegistryChange::steps).collect();
        self.write(&steps)
    }

    fn contents(&mut self) -> Result<internal::Registry, RegistryError> {
        let entries = self.entries()?;
        format::assemble(entries).map_err(|source| RegistryError::Corrupt {
            place: self.path.display().to_string(),
            source,
        })
    }
}

fn sum_of(entries: &impl ReadableTable<&'static str, &'static [u8]>) -> Result<u64, redb::Error> {
    let mut sum = 0_u64;
    for entry in entries.iter()? {
        let (key, value) = entry?;
        sum = sum.wrapping_add(format::digest(key.value(), value.value()));
    }
    Ok(sum)
}

/// The database, whose end may panic as well.
struct Held(Option<Database>);

impl Deref for Held {
    type Target = Database;

    fn deref(&self) -> &Database {
        self.0.as_ref().expect("it is there until the end")
    }
}

impl DerefMut for Held {
    fn deref_mut(&mut self) -> &mut Database {
        self.0.as_mut().expect("it is there until the end")
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let database = self.0.take();
        if catch_unwind(AssertUnwindSafe(|| drop(database))).is_err() {
            tracing::error!("the registry's database is damaged");
        }
    }
}

/// Runs something of the database's. It panics on some damage, which must end in an error like any
/// other.
fn guarded<T>(
    path: &Path,
    work: impl FnOnce() -> Result<T, RegistryError>,
) -> Result<T, RegistryError> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(RegistryError::Altered(path.to_owned())))
}

fn unusable(path: &Path, error: impl Into<redb::Error>) -> RegistryError {
    RegistryError::Unusable {
        path: path.to_owned(),
        source: Box::new(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tepui_protocol::v1;

    fn agent(id: &str) -> Box<internal::registry::Slave> {
        let id = Some(v1::AgentId {
            value: id.to_owned(),
        });
        let info = v1::AgentInfo {
            hostname: "h".to_owned(),
            id,
            ..Default::default()
        };
        Box::new(internal::registry::Slave {
            info,
            ..Default::default()
        })
    }

    fn admitted(registry: &mut RegistryFile) -> Vec<String> {
        let all = registry.load().expect("a registry").registry;
        let followers = all.slaves.unwrap_or_default().slaves.into_iter();
        followers
            .filter_map(|follower| Some(follower.info.id?.value))
            .collect()
    }

    #[test]
    fn changes_survive_a_restart() {
        let dir = tempfile::tempdir().expect("a directory");
        let work_dir = dir.path().join("deep/er");
        let mut registry = RegistryFile::open(&work_dir).expect("a registry");
        assert!(admitted(&mut registry).is_empty());
        let admit = |id| RegistryChange::AdmitFollower(agent(id));
        registry
            .apply(&[admit("S0"), admit("S1")])
            .expect("applied");
        let remove = RegistryChange::RemoveFollower(tepui_model::FollowerId::new("S0"));
        registry.apply(&[remove]).expect("applied");
        drop(registry);
        let mut registry = RegistryFile::open(&work_dir).expect("a registry");
        assert_eq!(admitted(&mut registry), ["S1"]);
    }

    #[test]
    fn a_registry_keeps_its_cluster_id() {
        let [dir, other] = [(); 2].map(|()| tempfile::tempdir().expect("a directory"));
        let id = |dir: &tempfile::TempDir| {
            let mut registry = RegistryFile::open(dir.path()).expect("a registry");
            registry.load().expect("a registry").cluster_id
        };
        assert_eq!(id(&dir), id(&dir));
        assert_ne!(id(&dir), id(&other));
    }

    #[test]
    fn one_process_at_a_time() {
        let dir = tempfile::tempdir().expect("a directory");
        let _first = RegistryFile::open(dir.path()).expect("a registry");
        assert!(matches!(
            RegistryFile::open(dir.path()),
            Err(RegistryError::InUse(_))
        ));
    }

    #[test]
    fn a_damaged_file_is_named() {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join(FILE), "this is not a database at all").expect("written");
        let error = RegistryFile::open(dir.path()).err().expect("an error");
        assert!(error.to_string().contains("registry.redb"), "{error}");
        assert!(std::error::Error::source(&error).is_some());
    }

    #[test]
    fn a_file_of_format_1_is_read_and_becomes_one_of_ours() {
        let dir = tempfile::tempdir().expect("a directory");
        let database = redb::Builder::new().create(dir.path().join(FILE));
        let database = database.expect("a database");
        let write = database.begin_write().expect("a transaction");
        let value = prost::Message::encode_to_vec(&*agent("S0"));
        write
            .open_table(ENTRIES)
            .expect("a table")
            .insert("follower/S0", value.as_slice())
            .expect("inserted");
        write
            .open_table(META)
            .expect("a table")
            .insert(FORMAT_KEY, 1)
            .expect("inserted");
        write.commit().expect("committed");
        drop(database);
        let mut registry = RegistryFile::open(dir.path()).expect("a registry");
        assert_eq!(admitted(&mut registry), ["S0"]);
        assert_eq!(registry.found_format().expect("read"), Some(1));
        let admit = RegistryChange::AdmitFollower(agent("S1"));
        registry.apply(&[admit]).expect("applied");
        assert_eq!(admitted(&mut registry), ["S0", "S1"]);
        assert_eq!(registry.found_format().expect("read"), Some(2));
    }

    #[test]
    fn an_altered_entry_is_noticed() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut registry = RegistryFile::open(dir.path()).expect("a registry");
        let admit = RegistryChange::AdmitFollower(agent("S1"));
        registry.apply(&[admit]).expect("applied");
        drop(registry);
        let path = dir.path().join(FILE);
        let mut bytes = std::fs::read(&path).expect("read");
        let key = b"follower/S1";
        let mut places = Vec::new();
        for at in 0..bytes.len() - key.len() {
            if bytes[at..].starts_with(key) {
                places.push(at);
            }
        }
        for at in &places {
            bytes[at + key.len() - 1] = b'2';
        }
        assert!(!places.is_empty());
        std::fs::write(&path, bytes).expect("written");
        let opened = RegistryFile::open(dir.path()).and_then(|mut registry| registry.load());
        let error = opened.expect_err("altered");
        assert!(error.to_string().contains("registry.redb"), "{error}");
    }

    #[test]
    fn a_later_format_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let registry = RegistryFile::open(dir.path()).expect("a registry");
        let write = registry.database.begin_write().expect("a transaction");
        write
            .open_table(META)
            .expect("a table")
            .insert(FORMAT_KEY, 99)
            .expect("inserted");
        write.commit().expect("committed");
        drop(registry);
        let error = RegistryFile::open(dir.path()).err().expect("an error");
        assert!(matches!(error, RegistryError::TooNew { found: 99, .. }));
    }
}
