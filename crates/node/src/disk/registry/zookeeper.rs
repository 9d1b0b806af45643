//! The registry in ZooKeeper. What is in which znode, and how writes are fenced, is
//! [`tepui_journal::registry::sharded`]'s; this carries it out in the session that the election
//! is held in.

use super::{Loaded, Registry, RegistryError};
use crate::random;
use futures_util::future::try_join_all;
use std::{
    future::Future,
    time::{Duration, Instant},
};
use tepui_journal::registry::{
    self as format,
    sharded::{Fault, Limits, Node, Nodes, Operation, Sharded, WriteError},
};
use tepui_leader::RegistryChange;
use tepui_protocol::internal;
use tepui_zookeeper::{Error, Op, ZooKeeper};
use tokio::runtime::Handle;

/// Where the registry is, below the path of the election. Inside `log_replicas`, since that is the one
/// name beside the members that every client of the reference knows to skip: pymesos takes the lowest
/// of all other names for the leader.
pub(super) const FOLDER: &str = "log_replicas/tepui/registry";
/// How soon a connection that was lost is looked for again.
const RECONNECT_INTERVAL: Duration = Duration::from_millis(10);

/// ZooKeeper cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreachable {
    /// No server can be reached.
    #[error("no server of {place} could be reached for {patience:?}")]
    Silent {
        /// The URL.
        place: String,
        /// How long it was tried.
        patience: Duration,
    },
    /// A server says no.
    #[error("{path}: {source}")]
    Refused {
        /// The znode.
        path: String,
        /// Why.
        source: Error,
    },
}

/// The registry of several leaders.
pub struct RegistryInZooKeeper {
    nodes: SharedNodes,
    member: Option<String>,
    /// Once it was loaded.
    open: Option<Sharded<SharedNodes>>,
}

impl RegistryInZooKeeper {
    /// For the leader whose membership znode is `member`; without one, for whoever writes while no
    /// leader does.
    pub fn new(nodes: SharedNodes, member: Option<&str>) -> Self {
        Self {
            nodes,
            member: member.map(str::to_owned),
            open: None,
        }
    }

    fn fault(&self, fault: Fault<Unreachable>) -> RegistryError {
        match fault {
            Fault::Deposed => RegistryError::Deposed,
            fault => RegistryError::Shared {
                place: self.nodes.place(),
                source: Box::new(fault),
            },
        }
    }

    /// Loads it; one that is not there yet is made, for this cluster.
    pub fn load_or_make(&mut self, cluster_id: &str) -> Result<Loaded, RegistryError> {
        let writer = random::uuid().map_err(RegistryError::Randomness)?;
        let writer = writer.to_string();
        let taken = Sharded::take_over(
            self.nodes.clone(),
            &self.nodes.root(),
            self.member.as_deref(),
            &writer,
            cluster_id,
            Limits::default(),
        );
        let (open, entries) = taken.map_err(|fault| self.fault(fault))?;
        let cluster_id = open.cluster_id().to_owned();
        let registry = format::assemble(entries).map_err(|source| RegistryError::Corrupt {
            place: self.nodes.place(),
            source,
        })?;
        self.open = Some(open);
        Ok(Loaded {
            registry,
            cluster_id,
        })
    }

    /// Makes entries durable as they are.
    pub fn write(&mut self, groups: &[Vec<format::Step>]) -> Result<(), RegistryError> {
        let written = match &mut self.open {
            Some(open) => open.apply(groups),
            // It is loaded before it is written.
            None => Err(Fault::Broken),
        };
        written.map_err(|fault| self.fault(fault))
    }
}

impl Registry for RegistryInZooKeeper {
    fn load(&mut self) -> Result<Loaded, RegistryError> {
        let cluster_id = random::uuid().map_err(RegistryError::Randomness)?;
        self.load_or_make(&cluster_id.to_string())
    }

    fn apply(&mut self, changes: &[RegistryChange]) -> Result<(), RegistryError> {
        let groups: Vec<_> = changes.iter().map(RegistryChange::steps).collect();
        self.write(&groups)
    }

    fn contents(&mut self) -> Result<internal::Registry, RegistryError> {
        let entries = match &mut self.open {
            Some(open) => open.entries(),
            None => Err(Fault::Broken),
        };
        let entries = entries.map_err(|fault| self.fault(fault))?;
        format::assemble(entries).map_err(|source| RegistryError::Corrupt {
            place: self.nodes.place(),
            source,
        })
    }
}

/// The znodes, for a thread that may block.
#[derive(Clone)]
pub struct SharedNodes {
    zookeeper: ZooKeeper,
    runtime: Handle,
    patience: Duration,
    /// The session that what was read last was read in. Another one may be with a server that knows
    /// less.
    session: Option<i64>,
}

impl SharedNodes {
    /// In a session. `patience` is how long to wait for a server. Must be called within a tokio
    /// runtime, or by a thread that it blocks.
    pub fn new(zookeeper: ZooKeeper, patience: Duration) -> Self {
        Self {
            zookeeper,
            runtime: Handle::current(),
            patience,
            session: None,
        }
    }

    /// The znode that all are below.
    pub fn root(&self) -> String {
        let path = self.zookeeper.url().path.trim_end_matches('/');
        format!("{path}/{FOLDER}")
    }

    /// Its URL, to be shown.
    pub fn place(&self) -> String {
        let url = self.zookeeper.url().to_string();
        format!("{}/{FOLDER}", url.trim_end_matches('/'))
    }

    /// Waits until a server is connected. Returns the session.
    async fn connected(&self) -> Result<i64, Unreachable> {
        let begun = Instant::now();
        loop {
            if let Some(session) = self.zookeeper.session() {
                return Ok(session);
            }
            if begun.elapsed() >= self.patience {
                return Err(Unreachable::Silent {
                    place: self.zookeeper.url().to_string(),
                    patience: self.patience,
                });
            }
            tokio::time::sleep(RECONNECT_INTERVAL).await;
        }
    }

    /// Reads until it was done in one session, which knows all that was written before.
    async fn settled<T, F>(&mut self, path: &str, read: impl Fn() -> F) -> Result<T, Unreachable>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let begun = Instant::now();
        loop {
            let session = self.connected().await?;
            let done = async {
                if self.session != Some(session) {
                    match self.zookeeper.sync(path).await {
                        Ok(()) | Err(Error::NoNode { .. }) => {}
                        Err(error) => return Err(error),
                    }
                }
                read().await
            };
            match done.await {
                Ok(done) if self.zookeeper.session() == Some(session) => {
                    self.session = Some(session);
                    return Ok(done);
                }
                Ok(_) => {}
                Err(error) if !error.is_unclear() => {
                    return Err(Unreachable::Refused {
                        path: path.to_owned(),
                        source: error,
                    });
                }
                Err(_) => {}
            }
            if begun.elapsed() >= self.patience {
                return Err(Unreachable::Silent {
                    place: self.zookeeper.url().to_string(),
                    patience: self.patience,
                });
            }
            // It hears of the loss in a moment.
            tokio::time::sleep(RECONNECT_INTERVAL).await;
        }
    }

    async fn read_all(&mut self, paths: &[String]) -> Result<Vec<Option<Node>>, Unreachable> {
        let zookeeper = self.zookeeper.clone();
        let one = |path: &str| {
            let (zookeeper, path) = (zookeeper.clone(), path.to_owned());
            async move {
                match zookeeper.read(&path).await {
                    Ok(read) => Ok(Some(Node {
                        data: read.data,
                        version: read.version,
                    })),
                    Err(Error::NoNode { .. }) => Ok(None),
                    Err(error) => Err(error),
                }
            }
        };
        let first = paths.first().map_or("/", String::as_str);
        let all = || try_join_all(paths.iter().map(|path| one(path)));
        self.settled(first, all).await
    }

    async fn list(&mut self, path: &str) -> Result<Option<Vec<String>>, Unreachable> {
        let zookeeper = self.zookeeper.clone();
        let list = || async {
            match zookeeper.children(path).await {
                Ok(names) => Ok(Some(names)),
                Err(Error::NoNode { .. }) => Ok(None),
                Err(error) => Err(error),
            }
        };
        self.settled(path, list).await
    }

    async fn carry_out(&self, operations: &[Operation]) -> Result<(), WriteError<Unreachable>> {
        self.connected().await.map_err(WriteError::Failed)?;
        let ops: Vec<Op> = operations.iter().map(op).collect();
        match self.zookeeper.multi(&ops).await {
            Ok(()) => Ok(()),
            Err(
                Error::NoNode { operation }
                | Error::NodeExists { operation }
                | Error::BadVersion { operation },
            ) => Err(WriteError::Refused { index: operation }),
            Err(error) if error.is_unclear() => {
                tokio::time::sleep(RECONNECT_INTERVAL).await;
                self.connected().await.map_err(WriteError::Failed)?;
                Err(WriteError::Lost)
            }
            Err(source) => {
                let index = match &source {
                    Error::NoAuth { operation } => *operation,
                    _ => 0,
                };
                let path = operations.get(index).map(Operation::path);
                Err(WriteError::Failed(Unreachable::Refused {
                    path: path.unwrap_or_default().to_owned(),
                    source,
                }))
            }
        }
    }
}

impl Nodes for SharedNodes {
    type Error = Unreachable;

    fn sync(&mut self, path: &str) -> Result<(), Unreachable> {
        // The next read does it.
        self.session = None;
        self.read(&[path.to_owned()]).map(|_| ())
    }

    fn read(&mut self, paths: &[String]) -> Result<Vec<Option<Node>>, Unreachable> {
        let runtime = self.runtime.clone();
        runtime.block_on(self.read_all(paths))
    }

    fn children(&mut self, path: &str) -> Result<Option<Vec<String>>, Unreachable> {
        let runtime = self.runtime.clone();
        runtime.block_on(self.list(path))
    }

    fn write(&mut self, operations: &[Operation]) -> Result<(), WriteError<Unreachable>> {
        let runtime = self.runtime.clone();
        runtime.block_on(self.carry_out(operations))
    }
}

fn op(operation: &Operation) -> Op {
    match operation {
        Operation::Check {
            path,
            version: None,
        } => Op::Exists(path.clone()),
        Operation::Check {
            path,
            version: Some(version),
        } => Op::Version(path.clone(), *version),
        Operation::Create { path, data } => Op::Create(path.clone(), data.clone()),
        Operation::Set {
            path,
            data,
            version,
        } => Op::Set(path.clone(), data.clone(), *version),
        Operation::Delete { path, version } => Op::Delete(path.clone(), *version),
    }
}
