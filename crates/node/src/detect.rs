//! Where the leader is: the I/O around [`tepui_coordination`]. ZooKeeper is asked by
//! [`tepui_zookeeper`].

use std::{io, net::IpAddr, time::Duration};
use tepui_coordination::{Detector, InvalidSource, Source, ZooKeeperUrl, leader_pid};
use tepui_protocol::peer::Pid;
use tepui_zookeeper::{Options, watch_leader};
use tokio::sync::watch;

/// How often a name that does not resolve is tried again.
const RETRY_INTERVAL: Duration = Duration::from_secs(5);
/// How often a name is looked up again; leaders may move.
const REFRESH_INTERVAL: Duration = Duration::from_secs(60);

/// Why nobody can be detected.
#[derive(Debug, thiserror::Error)]
pub enum DetectError {
    /// The text makes no sense.
    #[error(transparent)]
    Invalid(#[from] InvalidSource),
    /// The file cannot be read.
    #[error("cannot read {path} to learn where the leader is")]
    File {
        /// Which.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// A file that names another file.
    #[error("{0} names another file instead of where the leader is")]
    NestedFile(String),
}

/// Follows the leader that `--master` points to. The value is `None` until a name resolves, or while
/// nobody is elected; the watch goes on as long as the receiver lives. Any change is a new leader, even
/// one at the same address.
pub async fn watch(master: &str) -> Result<watch::Receiver<Option<Pid>>, DetectError> {
    watch_with(master, Options::default().session_timeout).await
}

/// [`watch`] with `--zk_session_timeout`.
pub async fn watch_with(
    master: &str,
    session_timeout: Duration,
) -> Result<watch::Receiver<Option<Pid>>, DetectError> {
    match source(master).await? {
        Source::Address { host, port } => Ok(watch_address(host, port)),
        Source::ZooKeeper(url) => Ok(watch_election(&url, &Options { session_timeout })),
        Source::File(path) => Err(DetectError::NestedFile(path)),
    }
}

fn watch_election(url: &ZooKeeperUrl, options: &Options) -> watch::Receiver<Option<Pid>> {
    let mut leader = watch_leader(url, options);
    let (tell, found) = watch::channel(None);
    tokio::spawn(async move {
        loop {
            let info = leader.borrow_and_update().clone();
            let pid = info.as_ref().and_then(|info| leader_pid(info));
            if let (Some(info), None) = (&info, &pid) {
                tracing::warn!(id = %info.id, "the leader does not say where it is");
            }
            if pid.is_some() || found_one(&tell) {
                tell.send_replace(pid);
            }
            tokio::select! {
                changed = leader.changed() => if changed.is_err() { return },
                () = tell.closed() => return,
            }
        }
    });
    found
}

fn found_one(tell: &watch::Sender<Option<Pid>>) -> bool {
    tell.borrow().is_some()
}

fn watch_address(host: String, port: u16) -> watch::Receiver<Option<Pid>> {
    let mut detector = Detector::new(port);
    if let Ok(ip) = host.parse::<IpAddr>() {
        // Nothing to follow: the address is what it is.
        return watch::channel(detector.resolved(&[ip])).1;
    }
    let (tell, found) = watch::channel(None);
    tokio::spawn(async move {
        while !tell.is_closed() {
            let next = match resolve(&host, port).await {
                Ok(addresses) => {
                    if let Some(leader) = detector.resolved(&addresses) {
                        tracing::info!(%leader, "detected the leader");
                        tell.send_replace(Some(leader));
                    }
                    REFRESH_INTERVAL
                }
                Err(error) => {
                    tracing::warn!(%host, %error, "cannot resolve the leader's name");
                    RETRY_INTERVAL
                }
            };
            tokio::select! {
                () = tokio::time::sleep(next) => {}
                () = tell.closed() => {}
            }
        }
    });
    found
}

/// What `--master` says, or what the file says that it names.
async fn source(master: &str) -> Result<Source, DetectError> {
    let Source::File(path) = Source::parse(master)? else {
        return Ok(Source::parse(master)?);
    };
    match tokio::fs::read_to_string(&path).await {
        Ok(content) => match Source::parse(&content)? {
            Source::File(_) => Err(DetectError::NestedFile(path)),
            other => Ok(other),
        },
        Err(source) => Err(DetectError::File { path, source }),
    }
}

async fn resolve(host: &str, port: u16) -> io::Result<Vec<IpAddr>> {
    let found = tokio::net::lookup_host((host, port)).await?;
    Ok(found.map(|address| address.ip()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn first(master: &str) -> String {
        let mut found = watch(master).await.expect("a watch");
        let leader = found.wait_for(Option::is_some).await.expect("a leader");
        leader.as_ref().map(Pid::to_string).unwrap_or_default()
    }

    #[tokio::test]
    async fn leaders_are_found_by_address_name_and_file() {
        assert_eq!(first("127.0.0.1:5050").await, "master@127.0.0.1:5050");
        assert_eq!(first("localhost:5050").await, "master@127.0.0.1:5050");
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), "[::1]:5050\n").expect("written");
        let url = format!("file://{}", file.path().display());
        assert_eq!(first(&url).await, "master@[::1]:5050");
        std::fs::write(file.path(), &url).expect("written");
        assert!(matches!(watch(&url).await, Err(DetectError::NestedFile(_))));
    }

    #[tokio::test]
    async fn what_cannot_be_followed_is_said() {
        let error = |master| async move { watch(master).await.expect_err("an error").to_string() };
        assert!(
            error("file:///no/such/file")
                .await
                .contains("/no/such/file")
        );
        assert!(error("nonsense").await.contains("'nonsense'"));
        assert!(error("zk://a:2181").await.contains("chroot"));
    }
}
