//! Elections in ZooKeeper (`--zk`): the leader's end of `tepui-zookeeper`.

use super::{Candidacy, Contender, LeaderOptions, Lease};
use crate::disk::registry::{
    OpenRegistry, Registry, RegistryError, RegistryInZooKeeper, SharedNodes,
};
use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};
use tepui_coordination::{InvalidSource, Source, ZooKeeperUrl};
use tepui_protocol::v1::MasterInfo;
use tepui_zookeeper::{LeaseClock, Options, ZooKeeper};

/// A text is no election.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidElection {
    /// It is not a URL of ZooKeeper. Not shown: it may hold a password.
    #[error("expected zk://[user:password@]HOST:PORT,…/PATH")]
    NotZooKeeper,
    /// It is one, but not a whole one.
    #[error(transparent)]
    Incomplete(InvalidSource),
}

/// An election in ZooKeeper, for one leader. One session serves all that it does there.
#[derive(Debug, Clone)]
pub struct ZooKeeperElection {
    url: ZooKeeperUrl,
    options: Options,
    session: Arc<OnceLock<ZooKeeper>>,
}

impl ZooKeeperElection {
    /// From `--zk` and `--zk_session_timeout`. Nothing is connected yet.
    pub fn new(url: &str, session_timeout: Duration) -> Result<Self, InvalidElection> {
        let url = match Source::parse(url) {
            Ok(Source::ZooKeeper(url)) => url,
            Ok(_) | Err(InvalidSource::Unknown(_)) => return Err(InvalidElection::NotZooKeeper),
            Err(error) => return Err(InvalidElection::Incomplete(error)),
        };
        let options = Options { session_timeout };
        let session = Arc::default();
        Ok(Self {
            url,
            options,
            session,
        })
    }

    /// Lets a leader take part, and keep its registry beside the election.
    pub fn apply(self, options: &mut LeaderOptions) {
        options.registry = Arc::new(self.clone());
        options.contender = Some(Box::new(self));
    }

    /// The session; begun when it is first needed, which must be within a tokio runtime.
    fn session(&self) -> &ZooKeeper {
        let connect = || ZooKeeper::connect(&self.url, &self.options);
        self.session.get_or_init(connect)
    }
}

impl Contender for ZooKeeperElection {
    fn contend(&self, info: MasterInfo) -> Candidacy {
        let contender = Arc::new(self.session().contend(info));
        let leases = contender.clone();
        Candidacy {
            standing: contender.standing(),
            lease: Box::new(move |tenure| Arc::new(leases.lease(tenure))),
            patience: self.options.session_timeout,
            withdraw: Box::new(move || Box::pin(async move { contender.withdraw().await })),
        }
    }
}

impl OpenRegistry for ZooKeeperElection {
    fn open(&self, member: Option<&str>) -> Result<Box<dyn Registry>, RegistryError> {
        let member = member.ok_or(RegistryError::NotElected)?;
        // Whoever hears nothing for longer has been deposed, and says so elsewhere.
        let patience = 3 * self.options.session_timeout;
        let nodes = SharedNodes::new(self.session().clone(), patience);
        Ok(Box::new(RegistryInZooKeeper::new(nodes, Some(member))))
    }
}

impl Lease for LeaseClock {
    fn may_act(&self) -> bool {
        LeaseClock::may_act(self)
    }
}
