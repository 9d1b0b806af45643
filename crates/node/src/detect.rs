//! Where the leader is: the I/O around [`tepui_coordination`].

use std::{io, net::IpAddr, time::Duration};
use tepui_coordination::{Detector, InvalidSource, Source};
use tepui_protocol::peer::Pid;
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
    /// ZooKeeper.
    #[error(
        "{0}: leader detection through ZooKeeper comes with the high availability work; use HOST:PORT"
    )]
    ZooKeeper(String),
}

/// Follows the leader that `--master` points to. The value is `None` until a name resolves; the
/// watch goes on as long as the receiver lives.
pub async fn watch(master: &str) -> Result<watch::Receiver<Option<Pid>>, DetectError> {
    let (host, port) = address(master).await?;
    let mut detector = Detector::new(port);
    if let Ok(ip) = host.parse::<IpAddr>() {
        // Nothing to follow: the address is what it is.
        return Ok(watch::channel(detector.resolved(&[ip])).1);
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
    Ok(found)
}

async fn address(master: &str) -> Result<(String, u16), DetectError> {
    let source = match Source::parse(master)? {
        Source::File(path) => {
            let content = tokio::fs::read_to_string(&path).await;
            let content = content.map_err(|source| DetectError::File {
                path: path.clone(),
                source,
            })?;
            match Source::parse(&content)? {
                Source::File(_) => return Err(DetectError::NestedFile(path)),
                other => other,
            }
        }
        other => other,
    };
    match source {
        Source::Address { host, port } => Ok((host, port)),
        Source::ZooKeeper(url) => Err(DetectError::ZooKeeper(url.to_string())),
        Source::File(path) => Err(DetectError::NestedFile(path)),
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
            error("zk://u:secret@a:2181/mesos")
                .await
                .starts_with("zk://***@a:2181/mesos: ")
        );
        assert!(
            error("file:///no/such/file")
                .await
                .contains("/no/such/file")
        );
        assert!(error("nonsense").await.contains("'nonsense'"));
    }
}
