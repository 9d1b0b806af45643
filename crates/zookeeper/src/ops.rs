//! What can be asked of ZooKeeper besides the election: for the registry, which shares the session so
//! that its writes can be fenced by the znode of the leader.
//!
//! Znodes are created as the reference does (`src/zookeeper/authentication.cpp`): with credentials
//! everybody may read and the creator do all, without them everybody may do all.

use crate::{Error, ZooKeeper};
use std::sync::LazyLock;
use zookeeper_client::{Acl, Acls, AuthId, Client, CreateMode, CreateOptions, Permission};

static EVERYBODY_READS_CREATOR_ALL: LazyLock<[Acl; 2]> = LazyLock::new(|| {
    [
        Acl::new(Permission::READ, AuthId::anyone()),
        Acl::new(Permission::ALL, AuthId::authed()),
    ]
});

/// One of several operations that are carried out all or not at all. Paths are full.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// The znode must exist, whatever its version: `Error::NoNode` otherwise.
    Exists(String),
    /// The znode must have this version: `Error::BadVersion` otherwise.
    Version(String, i32),
    /// Create a znode that stays.
    Create(String, Vec<u8>),
    /// Write to a znode; if a version is given, only if it has that one.
    Set(String, Vec<u8>, Option<i32>),
    /// Delete a znode; if a version is given, only if it has that one.
    Delete(String, Option<i32>),
}

/// What a znode holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    /// Its data.
    pub data: Vec<u8>,
    /// How often it was written to.
    pub version: i32,
    /// The session that owns it if it is ephemeral, 0 otherwise.
    pub owner: i64,
}

impl ZooKeeper {
    fn connected(&self) -> Result<Client, Error> {
        self.client().ok_or(Error::ConnectionLoss)
    }

    /// How znodes of this kind are created.
    pub(crate) fn creation(&self, mode: CreateMode) -> CreateOptions<'static> {
        mode.with_acls(if self.is_authenticated() {
            Acls::new(EVERYBODY_READS_CREATOR_ALL.as_slice())
        } else {
            Acls::anyone_all()
        })
    }

    /// The session that is connected, if one is.
    pub fn session(&self) -> Option<i64> {
        self.client().map(|client| client.session_id().0)
    }

    /// Reads a znode. Several readings that are asked for at once share a round trip.
    pub async fn read(&self, path: &str) -> Result<Read, Error> {
        let client = self.connected()?;
        let (data, stat) = client.get_data(path).await?;
        Ok(Read {
            data,
            version: stat.version,
            owner: stat.ephemeral_owner,
        })
    }

    /// Names of a znode's children, in no order.
    pub async fn children(&self, path: &str) -> Result<Vec<String>, Error> {
        let client = self.connected()?;
        Ok(client.list_children(path).await?)
    }

    /// Waits until this server knows all that had been written when it was asked.
    pub async fn sync(&self, path: &str) -> Result<(), Error> {
        let client = self.connected()?;
        Ok(client.sync(path).await?)
    }

    /// Creates a znode, and those above it, where they are not there yet.
    pub async fn make_path(&self, path: &str) -> Result<(), Error> {
        let client = self.connected()?;
        // Who may not create beside it may still use one that is there (`ZooKeeper::create` with
        // `recursive` in `src/zookeeper/zookeeper.cpp`).
        if client.check_stat(path).await?.is_some() {
            return Ok(());
        }
        let options = self.creation(CreateMode::Persistent);
        Ok(client.mkdir(path, &options).await?)
    }

    /// Carries out all of these, or none. An error says which one failed; one that
    /// [`is_unclear`](Error::is_unclear) says that nobody knows.
    pub async fn multi(&self, ops: &[Op]) -> Result<(), Error> {
        let client = self.connected()?;
        let create = self.creation(CreateMode::Persistent);
        let mut writer = client.new_multi_writer();
        for (operation, op) in ops.iter().enumerate() {
            match op {
                Op::Exists(path) => writer.add_check_version(path, -1),
                Op::Version(path, version) => writer.add_check_version(path, *version),
                Op::Create(path, data) => writer.add_create(path, data, &create),
                Op::Set(path, data, version) => writer.add_set_data(path, data, *version),
                Op::Delete(path, version) => writer.add_delete(path, *version),
            }
            .map_err(|error| Error::from_client(error, operation))?;
        }
        writer.commit().await?;
        Ok(())
    }
}
