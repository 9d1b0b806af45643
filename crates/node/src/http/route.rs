//! Which handler a path means.
//!
//! Every endpoint of a node is served under the name of its process too (`/master/state`,
//! `/slave(1)/state`), an endpoint answers for everything below it (`/state/extra`,
//! `/api/v1/operator`), trailing slashes do not matter, and `*.json` names what older versions
//! called the same endpoint. Clients use all of these.

/// Paths of one node's endpoints.
#[derive(Debug, Clone)]
pub struct Routes<R> {
    process: &'static str,
    routes: Vec<(&'static str, R)>,
}

impl<R: Copy> Routes<R> {
    /// `process` is `master` or `slave(1)`; paths start with a slash and have no trailing one,
    /// save `/` itself, which is not a prefix of others.
    pub fn new(process: &'static str, routes: impl IntoIterator<Item = (&'static str, R)>) -> Self {
        Self {
            process,
            routes: routes.into_iter().collect(),
        }
    }

    /// The endpoint whose path is the longest that matches.
    pub fn find(&self, path: &str) -> Option<R> {
        let path = path.trim_end_matches('/');
        let inner = path
            .strip_prefix('/')
            .and_then(|path| path.strip_prefix(self.process))
            .filter(|rest| rest.is_empty() || rest.starts_with('/'))
            .unwrap_or(path);
        if inner.is_empty() {
            return self.exact("/");
        }
        self.longest(inner)
            .or_else(|| self.longest(inner.strip_suffix(".json")?))
    }

    fn exact(&self, path: &str) -> Option<R> {
        self.routes
            .iter()
            .find(|(known, _)| *known == path)
            .map(|(_, route)| *route)
    }

    fn longest(&self, path: &str) -> Option<R> {
        let mut path = path;
        while !path.is_empty() {
            if let Some(route) = self.exact(path) {
                return Some(route);
            }
            path = path.rsplit_once('/')?.0;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_found_under_all_their_names() {
        let routes = Routes::new(
            "slave(1)",
            [
                ("/", "root"),
                ("/state", "state"),
                ("/api/v1", "operator"),
                ("/api/v1/executor", "executor"),
                ("/system/stats.json", "system"),
            ],
        );
        for (path, expected) in [
            ("/", Some("root")),
            ("", Some("root")),
            ("/slave(1)", Some("root")),
            ("/slave(1)/", Some("root")),
            ("/state", Some("state")),
            ("/state/", Some("state")),
            ("/state.json", Some("state")),
            ("/slave(1)/state.json", Some("state")),
            ("/slave(1)/state/extra", Some("state")),
            ("/slave(2)/state", None),
            ("/slave(1)state", None),
            ("/stat", None),
            ("/states", None),
            ("/api/v1", Some("operator")),
            ("/api/v1/operator", Some("operator")),
            ("/slave(1)/api/v1/executor", Some("executor")),
            ("/system/stats.json", Some("system")),
            ("/system", None),
            ("/nothing", None),
            ("nothing", None),
        ] {
            assert_eq!(routes.find(path), expected, "{path}");
        }
    }
}
