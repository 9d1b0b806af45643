//! Where the leader is.
//!
//! A [`Target`] is what people write: `host:port`, a URL `http://host:port` or `https://host:port`, or
//! `file://path` whose contents are one of the former. A leader that does not lead answers 307 or 503; the clients
//! follow the redirect and fall back to the target.

use crate::Error;
use std::{fmt, path::PathBuf};

/// How to find the leader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Always there: `host:port`, perhaps with `http://` or `https://`.
    Address(String),
    /// Written in a file, read anew at each detection.
    File(PathBuf),
}

impl Target {
    /// Reads `host:port`, `http://host:port`, `https://host:port` or `file://path`.
    ///
    /// # Errors
    /// [`Error::Invalid`] when it is none of these, or a `zk://` URL.
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
            return Err(invalid(
                "names ZooKeeper, which this version cannot ask yet: give HOST:PORT",
            ));
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
                "is not HOST:PORT, http://HOST:PORT, https://HOST:PORT or file://PATH",
            )),
        }
    }

    /// Whether it asks for TLS.
    pub(crate) fn is_secure(&self) -> bool {
        matches!(self, Self::Address(address) if address.starts_with("https://"))
    }

    /// The address to try now, with its scheme if it was given one.
    ///
    /// # Errors
    /// [`Error::Detect`] when the file cannot be read or holds no address.
    pub async fn resolve(&self) -> Result<String, Error> {
        match self {
            Self::Address(address) => Ok(address.clone()),
            Self::File(path) => {
                let failed = |reason: String| Error::Detect {
                    target: self.to_string(),
                    reason,
                };
                let text = tokio::fs::read_to_string(path)
                    .await
                    .map_err(|e| failed(e.to_string()))?;
                match Self::parse(&text) {
                    Ok(Self::Address(address)) => Ok(address),
                    Ok(Self::File(_)) => Err(failed("it names another file".to_owned())),
                    Err(error) => Err(failed(error.to_string())),
                }
            }
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => f.write_str(address),
            Self::File(path) => write!(f, "file://{}", path.display()),
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
            "zk://a:2181/mesos",
            "https://a",
            "ftp://a:1",
        ] {
            assert!(
                matches!(Target::parse(text), Err(Error::Invalid { .. })),
                "{text}"
            );
        }
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
}
