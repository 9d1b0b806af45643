//! What `--master` may say (`docs/configuration/agent.md`): `HOST:PORT`, `zk://…`, or `file://PATH`
//! of a file that says one of the first two.

use std::fmt;

/// Where to look for the leader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// It is at this address; there is no other.
    Address {
        /// Name or IP address (IPv6 without its brackets).
        host: String,
        /// Port.
        port: u16,
    },
    /// The file says.
    File(String),
    /// An election in ZooKeeper says.
    ZooKeeper(ZooKeeperUrl),
}

/// `zk://[user:password@]host:port,…/path`
#[derive(Clone, PartialEq, Eq)]
pub struct ZooKeeperUrl {
    /// `user:password`, for digest authentication.
    pub credentials: Option<String>,
    /// Servers as written, comma separated.
    pub servers: String,
    /// The znode of the election, with its leading slash.
    pub path: String,
}

/// Without the password: this goes into logs.
impl fmt::Display for ZooKeeperUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hidden = if self.credentials.is_some() {
            "***@"
        } else {
            ""
        };
        write!(f, "zk://{hidden}{}{}", self.servers, self.path)
    }
}

impl fmt::Debug for ZooKeeperUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// A text does not say where the leader is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSource {
    /// It is neither an address nor a URL we know.
    #[error("'{0}' is not where a leader could be: expected HOST:PORT, zk://… or file://PATH")]
    Unknown(String),
    /// A ZooKeeper URL without servers.
    #[error("the ZooKeeper URL names no server: expected zk://HOST:PORT,…/PATH")]
    NoServer,
    /// A ZooKeeper URL without a path of its own.
    #[error("Expecting a (chroot) path for ZooKeeper ('/' is not supported)")]
    NoPath,
}

impl Source {
    /// Reads the flag, or the content of the file it names; surrounding blanks do not count.
    pub fn parse(text: &str) -> Result<Self, InvalidSource> {
        let text = text.trim();
        if let Some(rest) = text.strip_prefix("zk://") {
            return ZooKeeperUrl::parse(rest).map(Self::ZooKeeper);
        }
        if let Some(path) = text.strip_prefix("file://") {
            return Ok(Self::File(path.to_owned()));
        }
        let address = text.strip_prefix("master@").unwrap_or(text);
        parse_address(address).ok_or_else(|| InvalidSource::Unknown(text.to_owned()))
    }
}

fn parse_address(text: &str) -> Option<Source> {
    let (host, port) = text.rsplit_once(':')?;
    let port = port.parse().ok().filter(|port| *port > 0)?;
    let host = match host.strip_prefix('[') {
        Some(v6) => v6
            .strip_suffix(']')
            .filter(|v6| v6.parse::<std::net::Ipv6Addr>().is_ok())?,
        None => Some(host).filter(|host| {
            let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
            !host.is_empty() && host.chars().all(known)
        })?,
    };
    Some(Source::Address {
        host: host.to_owned(),
        port,
    })
}

impl ZooKeeperUrl {
    fn parse(rest: &str) -> Result<Self, InvalidSource> {
        let (authority, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        let (credentials, servers) = match authority.rsplit_once('@') {
            Some((credentials, servers)) => (Some(credentials.to_owned()), servers),
            None => (None, authority),
        };
        if servers.is_empty() {
            return Err(InvalidSource::NoServer);
        }
        let path = path.trim_end_matches('/');
        if path.is_empty() {
            return Err(InvalidSource::NoPath);
        }
        Ok(Self {
            credentials,
            servers: servers.to_owned(),
            path: path.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(host: &str, port: u16) -> Result<Source, InvalidSource> {
        Ok(Source::Address {
            host: host.to_owned(),
            port,
        })
    }

    #[test]
    fn addresses_are_host_and_port() {
        assert_eq!(Source::parse("10.0.0.1:5050"), address("10.0.0.1", 5050));
        assert_eq!(
            Source::parse(" leader.test:5050\n"),
            address("leader.test", 5050)
        );
        assert_eq!(
            Source::parse("master@10.0.0.1:5050"),
            address("10.0.0.1", 5050)
        );
        assert_eq!(Source::parse("[::1]:5050"), address("::1", 5050));
        for bad in [
            "",
            "host",
            "host:",
            "host:0",
            "host:x",
            ":5050",
            "::1:5050",
            "http://h:1",
            "[x]:1",
        ] {
            assert_eq!(
                Source::parse(bad),
                Err(InvalidSource::Unknown(bad.to_owned())),
                "{bad}"
            );
        }
    }

    #[test]
    fn files_are_named_by_path() {
        assert_eq!(
            Source::parse("file:///etc/mesos/zk"),
            Ok(Source::File("/etc/mesos/zk".into()))
        );
    }

    #[test]
    fn zookeeper_urls_have_servers_and_a_path() {
        let url = |text: &str| match Source::parse(text) {
            Ok(Source::ZooKeeper(url)) => Ok(url),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error),
        };
        let plain = url("zk://a:2181,b:2181/mesos/").expect("a URL");
        assert_eq!(
            (plain.servers.as_str(), plain.path.as_str()),
            ("a:2181,b:2181", "/mesos")
        );
        assert_eq!(plain.credentials, None);
        let secret = url("zk://me:p@ss@a:2181/mesos").expect("a URL");
        assert_eq!(secret.credentials.as_deref(), Some("me:p@ss"));
        assert_eq!(secret.to_string(), "zk://***@a:2181/mesos");
        assert_eq!(url("zk://a:2181/"), Err(InvalidSource::NoPath));
        assert_eq!(url("zk://a:2181"), Err(InvalidSource::NoPath));
        assert_eq!(url("zk:///mesos"), Err(InvalidSource::NoServer));
    }
}
