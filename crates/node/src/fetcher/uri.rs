//! What a URI means: where it is, and what the fetched file is called
//! (`src/slave/containerizer/fetcher.cpp`).

use super::FetchCause;
use http::Uri;
use std::path::{Component, Path, PathBuf};

/// Where to get it.
#[derive(Debug, PartialEq)]
pub(super) enum Source {
    Local(PathBuf),
    Http(Uri),
}

pub(super) fn source(uri: &str, frameworks_home: Option<&Path>) -> Result<Source, FetchCause> {
    match uri.split_once("://") {
        Some(("file", path)) => {
            let path = path.strip_prefix("localhost").unwrap_or(path);
            if !path.starts_with('/') {
                return Err(FetchCause::RelativeFile);
            }
            Ok(Source::Local(path.into()))
        }
        Some(("http" | "https", _)) => uri
            .parse()
            .map(Source::Http)
            .map_err(|_| FetchCause::Malformed),
        Some((scheme, _)) => Err(FetchCause::Scheme(scheme.to_owned())),
        None if uri.starts_with('/') => Ok(Source::Local(uri.into())),
        None => Ok(Source::Local(
            frameworks_home.ok_or(FetchCause::Relative)?.join(uri),
        )),
    }
}

/// The last segment. A query belongs to it, as in the reference.
pub(super) fn base_name(uri: &str) -> Result<&str, FetchCause> {
    if uri.contains(['\\', '\'', '\0']) {
        return Err(FetchCause::Malformed);
    }
    let path = match uri.split_once("://") {
        // There must be something after the host.
        Some((_, rest)) => rest.split_once('/').ok_or(FetchCause::Malformed)?.1,
        None => uri.trim_end_matches('/'),
    };
    let name = path.rsplit('/').next().unwrap_or(path);
    match name {
        "" | "." | ".." => Err(FetchCause::Malformed),
        name => Ok(name),
    }
}

/// A relative path that stays in the sandbox.
pub(super) fn output_file(path: &str) -> Result<PathBuf, FetchCause> {
    let inside = Path::new(path)
        .components()
        .all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
    let named =
        Path::new(path).file_name().is_some() && !path.ends_with('/') && !path.contains('\0');
    if inside && named {
        Ok(path.into())
    } else {
        Err(FetchCause::OutputFile(path.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_last_segments() {
        for (uri, expected) in [
            ("http://h/a/b.tgz", Some("b.tgz")),
            ("http://h/a?x=1", Some("a?x=1")),
            ("file:///etc/hosts", Some("hosts")),
            ("/etc/hosts", Some("hosts")),
            ("hosts", Some("hosts")),
            ("dir/", Some("dir")),
            ("http://h", None),
            ("http://h/", None),
            ("http://h/a/", None),
            ("http://h/..", None),
            ("", None),
            ("/", None),
            ("a\\b", None),
        ] {
            assert_eq!(base_name(uri).ok(), expected, "{uri}");
        }
    }

    #[test]
    fn sources_are_local_or_http() {
        let home = Some(Path::new("/home"));
        let local = |path: &str| Some(Source::Local(path.into()));
        assert_eq!(source("/a/b", None).ok(), local("/a/b"));
        assert_eq!(source("a/b", home).ok(), local("/home/a/b"));
        assert_eq!(source("file:///a", None).ok(), local("/a"));
        assert_eq!(source("file://localhost/a", None).ok(), local("/a"));
        assert!(matches!(source("a/b", None), Err(FetchCause::Relative)));
        assert!(matches!(
            source("file://a/b", home),
            Err(FetchCause::RelativeFile)
        ));
        assert!(matches!(source("hdfs://h/a", None), Err(FetchCause::Scheme(s)) if s == "hdfs"));
        assert!(matches!(source("https://h/a", None), Ok(Source::Http(_))));
        assert!(matches!(
            source("http:// /a", None),
            Err(FetchCause::Malformed)
        ));
    }

    #[test]
    fn output_files_stay_in_the_sandbox() {
        for good in ["a", "a/b", "./a", "a/./b"] {
            assert!(output_file(good).is_ok(), "{good}");
        }
        for bad in ["", "/a", "../a", "a/../../b", "..", ".", "a/", "a\0"] {
            assert!(output_file(bad).is_err(), "{bad}");
        }
    }
}
