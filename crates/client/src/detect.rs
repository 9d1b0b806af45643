//! Where the leader is.
//!
//! A [`Target`] is what people write: `host:port`, a URL `http://host:port` or `https://host:port`, a URL
//! `zk://host:port,…/path` of an election in ZooKeeper, or `file://path` whose contents are one of the
//! former. A leader that does not lead answers 307 or 503; the clients follow the redirect and fall back to
//! the target.

use crate::Error;
use std::{
    fmt,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tepui_coordination::{Source, Standing, ZooKeeperUrl, leader_pid};
use tepui_zookeeper::{Options, ZooKeeper};
use tokio::sync::watch;

/// How long to wait for an election to have a leader before that counts as a failed attempt.
const ELECTION_PATIENCE: Duration = Duration::from_secs(15);

/// How to find the leader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Always there: `host:port`, perhaps with `http://` or `https://`.
    Address(String),
    /// Written in a file, read anew at each detection.
    File(PathBuf),
    /// Elected in ZooKeeper.
    Election(Election),
}

/// A leader that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) address: String,
    /// Which one it is, if it was elected: an address may lead twice.
    id: Option<String>,
}

impl Target {
    /// Reads `host:port`, `http://host:port`, `https://host:port`, `zk://host:port,…/path` or
    /// `file://path`.
    ///
    /// # Errors
    /// [`Error::Invalid`] when it is none of these.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let invalid = |reason: &str| Error::Invalid {
            what: "leader address",
            reason: format!("'{text}' {reason}"),
        };
        let text_ = text.trim();
        if let Some(path) = text_.strip_prefix("file://") {
            return Ok(Self::File(path.into()));
        }
        if text_.starts_with("zk://") {
            return match Source::parse(text_) {
                Ok(Source::ZooKeeper(url)) => Ok(Self::Election(Election::new(url))),
                Ok(_) => Err(Error::Invalid {
                    what: "leader address",
                    reason: "not an election".to_owned(),
                }),
                // Not quoted: it may hold a password.
                Err(error) => Err(Error::Invalid {
                    what: "leader address",
                    reason: error.to_string(),
                }),
            };
        }
        let (scheme, address) = match text_.split_once("://") {
            Some(("http", rest)) => ("http://", rest),
            Some(("https", rest)) => ("https://", rest),
            _ => ("", text_),
        };
        let address = address.trim_end_matches('/');
        // `master@host:port` is how logs and the detector of the reference print a leader.
        let address = address
            .rsplit_once('@')
            .map_or(address, |(_, address)| address);
        match address.rsplit_once(':') {
            Some((host, port))
                if !host.is_empty()
                    && !host.contains('/')
                    && port.parse::<u16>().is_ok_and(|p| p != 0) =>
            {
                Ok(Self::Address(format!("{scheme}{address}")))
            }
            _ => Err(invalid(
                "is not HOST:PORT, http://HOST:PORT, https://HOST:PORT, zk://HOST:PORT,…/PATH or file://PATH",
            )),
        }
    }

    /// Whether it asks for TLS.
    pub(crate) fn is_secure(&self) -> bool {
        matches!(self, Self::Address(address) if address.starts_with("https://"))
    }

    /// The address to try now, with its scheme if it was given one. Waits a while for an election that has
    /// no leader. Must be called within a tokio runtime, in which elections are then watched.
    ///
    /// # Errors
    /// [`Error::Detect`] when the file cannot be read or holds no address, when ZooKeeper does not answer,
    /// or when nobody leads.
    pub async fn resolve(&self) -> Result<String, Error> {
        Ok(self.find().await?.address)
    }

    pub(crate) async fn find(&self) -> Result<Found, Error> {
        let failed = |reason: String| Error::Detect {
            target: self.to_string(),
            reason,
        };
        match self {
            Self::Address(address) => Ok(Found {
                address: address.clone(),
                id: None,
            }),
            Self::Election(election) => election.leader().await.map_err(failed),
            Self::File(path) => {
                let text = tokio::fs::read_to_string(path)
                    .await
                    .map_err(|e| failed(e.to_string()))?;
                match Self::parse(&text) {
                    Ok(Self::Address(address)) => Ok(Found { address, id: None }),
                    Ok(Self::Election(election)) => election.leader().await.map_err(failed),
                    Ok(Self::File(_)) => Err(failed("it names another file".to_owned())),
                    Err(error) => Err(failed(error.to_string())),
                }
            }
        }
    }

    /// Completes when another than this one is elected; never, where nobody is.
    pub(crate) async fn replaced(&self, found: &Found) {
        match (self, &found.id) {
            (Self::Election(election), Some(id)) => election.replaced(id).await,
            _ => std::future::pending().await,
        }
    }
}

/// An election in ZooKeeper, watched from the first time somebody asks for the leader. Copies share the
/// watch.
#[derive(Clone)]
pub struct Election {
    url: ZooKeeperUrl,
    standing: Arc<Mutex<Option<watch::Receiver<Standing>>>>,
}

impl PartialEq for Election {
    fn eq(&self, other: &Self) -> bool {
        self.url == other.url
    }
}

impl Eq for Election {}

impl fmt::Debug for Election {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.url)
    }
}

impl Election {
    fn new(url: ZooKeeperUrl) -> Self {
        Self {
            url,
            standing: Arc::default(),
        }
    }

    /// The watch, begun anew if the runtime that it ran in is gone.
    fn standing(&self) -> watch::Receiver<Standing> {
        let mut standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        match &*standing {
            Some(standing) if standing.has_changed().is_ok() => standing.clone(),
            _ => {
                let watch = ZooKeeper::connect(&self.url, &Options::default()).watch();
                standing.insert(watch).clone()
            }
        }
    }

    async fn leader(&self) -> Result<Found, String> {
        let mut standing = self.standing();
        let found = async {
            loop {
                let found = match &*standing.borrow_and_update() {
                    Standing::Following(Some(info)) => leader_pid(info).map(|pid| Found {
                        address: pid.address.to_string(),
                        id: Some(info.id.clone()),
                    }),
                    _ => None,
                };
                if let Some(found) = found {
                    return Some(found);
                }
                if standing.changed().await.is_err() {
                    return None;
                }
            }
        };
        if let Ok(Some(found)) = tokio::time::timeout(ELECTION_PATIENCE, found).await {
            return Ok(found);
        }
        Err(match &*standing.borrow() {
            Standing::Refused(why) => why.to_string(),
            Standing::Following(_) => "nobody leads".to_owned(),
            _ => "ZooKeeper does not answer".to_owned(),
        })
    }

    async fn replaced(&self, id: &str) {
        let mut standing = self.standing();
        // While nobody is known to lead, the one who did may still.
        let another = |standing: &Standing| matches!(standing, Standing::Following(Some(info)) if info.id != id);
        if standing.wait_for(another).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => f.write_str(address),
            Self::File(path) => write!(f, "file://{}", path.display()),
            Self::Election(election) => write!(f, "{}", election.url),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_read_in_every_form_people_write() {
        for text in ["10.0.0.1:5050", "master@10.0.0.1:5050", " 10.0.0.1:5050\n"] {
            assert_eq!(
                Target::parse(text).unwrap(),
                Target::Address("10.0.0.1:5050".into()),
                "{text}"
            );
        }
        for scheme in ["http", "https"] {
            let target = Target::parse(&format!("{scheme}://10.0.0.1:5050/")).unwrap();
            assert_eq!(target.to_string(), format!("{scheme}://10.0.0.1:5050"));
            assert_eq!(target.is_secure(), scheme == "https");
        }
        assert_eq!(
            Target::parse("[::1]:5050").unwrap(),
            Target::Address("[::1]:5050".into())
        );
        assert_eq!(
            Target::parse("file:///etc/tepui/leader").unwrap(),
            Target::File("/etc/tepui/leader".into())
        );
        for text in [
            "",
            "localhost",
            "localhost:",
            ":5050",
            "a:0",
            "a:70000",
            "zk://a:2181",
            "zk:///mesos",
            "https://a",
            "ftp://a:1",
        ] {
            assert!(
                matches!(Target::parse(text), Err(Error::Invalid { .. })),
                "{text}"
            );
        }
    }

    #[test]
    fn elections_are_shown_without_their_password() {
        let target = Target::parse("zk://me:secret@a:2181,b:2181/mesos").unwrap();
        assert_eq!(target.to_string(), "zk://***@a:2181,b:2181/mesos");
        assert!(!format!("{target:?}").contains("secret"));
    }

    #[tokio::test]
    async fn a_file_is_read_anew_each_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("leader");
        let target = Target::File(path.clone());
        assert!(matches!(target.resolve().await, Err(Error::Detect { .. })));
        for address in ["a:1", "b:2"] {
            std::fs::write(&path, address).unwrap();
            assert_eq!(target.resolve().await.unwrap(), address);
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_elected_leader_is_found_and_its_successor() {
        let ensemble = tepui_tests::zookeeper::Ensemble::start(1);
        let url = ensemble.url("/mesos");
        let Ok(Source::ZooKeeper(parsed)) = Source::parse(&url) else {
            panic!("{url} is a URL");
        };
        let contend = |id: &str| {
            let session = ZooKeeper::connect(&parsed, &Options::default());
            let contender = session.contend(crate::proto::MasterInfo {
                id: id.to_owned(),
                pid: Some(format!("master@127.0.0.1:505{id}")),
                ..Default::default()
            });
            (session, contender)
        };
        let target = Target::parse(&url).unwrap();
        let first = contend("1");
        let found = target.find().await.unwrap();
        assert_eq!(found.address, "127.0.0.1:5051");
        let second = contend("2");
        first.0.close().await;
        target.replaced(&found).await;
        assert_eq!(target.resolve().await.unwrap(), "127.0.0.1:5052");
        // What a file says is found the same way.
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("leader");
        std::fs::write(&path, &url).unwrap();
        assert_eq!(
            Target::File(path).resolve().await.unwrap(),
            "127.0.0.1:5052"
        );
        drop(second);
    }
}
