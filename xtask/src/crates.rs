//! The shape of the crate graph: cores are pure, and arrows between our crates point one way (ARCHITECTURE.md).

use std::collections::{BTreeMap, VecDeque};

use crate::Finding;
use crate::metadata::Metadata;

/// The crates that may reach no runtime, socket, file, clock or unseeded randomness through what they link.
/// `protocol` is not a core but sits below all of them, so it is held to the same list.
pub(crate) const PURE: &[&str] = &[
    "tepui-protocol",
    "tepui-model",
    "tepui-auth",
    "tepui-allocator",
    "tepui-leader",
    "tepui-follower",
    "tepui-executor",
    "tepui-coordination",
    "tepui-journal",
];

/// What purity excludes, by crate name; a trailing `*` matches any ending.
const IMPURE: &[(&str, &str)] = &[
    ("async-*", "a runtime"),
    ("chrono", "a clock"),
    ("crossbeam*", "threads"),
    ("dirs*", "the file system"),
    ("env_logger", "output"),
    ("fastrand", "unseeded randomness"),
    ("fs*", "the file system"),
    ("futures-executor", "a runtime"),
    ("getrandom", "unseeded randomness"),
    ("h2", "sockets"),
    ("hostname", "the host"),
    ("hyper*", "sockets"),
    ("io-uring", "sockets and files"),
    ("libc", "system calls"),
    ("mio", "sockets"),
    ("nix", "system calls"),
    ("notify", "the file system"),
    ("num_cpus", "the host"),
    ("parking_lot*", "locks"),
    ("polling", "sockets"),
    ("rand", "unseeded randomness"),
    ("rayon*", "threads"),
    ("redb", "the file system"),
    ("reqwest", "sockets"),
    ("rocksdb", "the file system"),
    ("rustix", "system calls"),
    ("rustls*", "sockets"),
    ("signal-hook*", "signals"),
    ("smol", "a runtime"),
    ("socket2", "sockets"),
    ("tempfile", "the file system"),
    ("threadpool", "threads"),
    ("time", "a clock"),
    ("tokio*", "a runtime"),
    ("tracing-subscriber", "output"),
    ("tungstenite", "sockets"),
    ("ureq", "sockets"),
    ("walkdir", "the file system"),
    ("windows-sys", "system calls"),
];

/// Links that a feature of a crate brings, which another crate of the workspace switched on for everybody (cargo unifies
/// features). A core links it then and may not call it: `crates/clippy-core.toml` bans what the feature adds.
const BANNED_BY_CLIPPY: &[(&str, &str)] = &[("uuid", "getrandom")];

/// What each of our crates may link of ours, directly. A crate that is not here may not be depended on by any that is.
const ARROWS: &[(&str, &[&str])] = &[
    ("tepui-protocol", &[]),
    ("tepui-model", &["tepui-protocol"]),
    ("tepui-auth", &["tepui-model", "tepui-protocol"]),
    ("tepui-allocator", &["tepui-model", "tepui-protocol"]),
    (
        "tepui-leader",
        &[
            "tepui-allocator",
            "tepui-auth",
            "tepui-journal",
            "tepui-model",
            "tepui-protocol",
        ],
    ),
    (
        "tepui-follower",
        &[
            "tepui-auth",
            "tepui-executor",
            "tepui-model",
            "tepui-protocol",
        ],
    ),
    ("tepui-executor", &["tepui-model", "tepui-protocol"]),
    ("tepui-coordination", &["tepui-model", "tepui-protocol"]),
    ("tepui-journal", &["tepui-model", "tepui-protocol"]),
    ("tepui-containers", &["tepui-model", "tepui-protocol"]),
    (
        "tepui-node",
        &[
            "tepui-allocator",
            "tepui-auth",
            "tepui-containers",
            "tepui-coordination",
            "tepui-executor",
            "tepui-follower",
            "tepui-journal",
            "tepui-leader",
            "tepui-model",
            "tepui-protocol",
            "tepui-tls",
            "tepui-zookeeper",
        ],
    ),
    (
        "tepui-zookeeper",
        &[
            "tepui-coordination",
            "tepui-journal",
            "tepui-model",
            "tepui-protocol",
        ],
    ),
    (
        "tepui-client",
        &[
            "tepui-coordination",
            "tepui-model",
            "tepui-protocol",
            "tepui-tls",
            "tepui-zookeeper",
        ],
    ),
    ("tepui-tls", &[]),
    (
        "tepui-emulator",
        &[
            "tepui-auth",
            "tepui-coordination",
            "tepui-model",
            "tepui-protocol",
            "tepui-zookeeper",
        ],
    ),
    (
        "tepui-sim",
        &[
            "tepui-allocator",
            "tepui-auth",
            "tepui-coordination",
            "tepui-executor",
            "tepui-follower",
            "tepui-journal",
            "tepui-leader",
            "tepui-model",
            "tepui-protocol",
        ],
    ),
    (
        "tepui-app",
        &[
            "tepui-auth",
            "tepui-client",
            "tepui-containers",
            "tepui-coordination",
            "tepui-emulator",
            "tepui-follower",
            "tepui-journal",
            "tepui-leader",
            "tepui-model",
            "tepui-node",
            "tepui-protocol",
            "tepui-tls",
            "tepui-zookeeper",
        ],
    ),
    // The black-box crate sees what users see: the binary, the wire and the public SDK.
    (
        "tepui-tests",
        &["tepui-client", "tepui-protocol", "tepui-tls"],
    ),
    ("xtask", &[]),
];

/// Every path from a pure crate to an impure one, shortest first found, as one finding per pair.
pub(crate) fn check_purity(metadata: &Metadata) -> Vec<Finding> {
    let mut findings = Vec::new();
    for name in PURE {
        let Some((id, _)) = metadata.member(name) else {
            findings.push(Finding::new(
                *name,
                "is listed as pure but is not in the workspace",
            ));
            continue;
        };
        for (path, what) in impure_paths(metadata, id) {
            findings.push(Finding::new(
                *name,
                format!("must be pure, but links {what}: {}", path.join(" -> ")),
            ));
        }
    }
    findings
}

fn impure_paths(metadata: &Metadata, start: &str) -> Vec<(Vec<String>, &'static str)> {
    let mut came_from: BTreeMap<&str, &str> = BTreeMap::new();
    let mut queue = VecDeque::from([start]);
    let mut paths = Vec::new();
    while let Some(id) = queue.pop_front() {
        let Some(package) = metadata.package(id) else {
            continue;
        };
        if let Some(what) = impurity(&package.name) {
            paths.push((path_to(metadata, &came_from, start, id), what));
            // What an impure crate links in turn says nothing new.
            continue;
        }
        for dependency in &package.normal_dependencies {
            let name = metadata.package(dependency).map(|found| &*found.name);
            if name.is_some_and(|name| BANNED_BY_CLIPPY.contains(&(&*package.name, name))) {
                continue;
            }
            if dependency != start && !came_from.contains_key(dependency.as_str()) {
                came_from.insert(dependency, id);
                queue.push_back(dependency);
            }
        }
    }
    paths
}

fn path_to(
    metadata: &Metadata,
    came_from: &BTreeMap<&str, &str>,
    start: &str,
    end: &str,
) -> Vec<String> {
    let mut path = vec![end];
    while let Some(previous) = path
        .last()
        .filter(|id| **id != start)
        .and_then(|id| came_from.get(id))
    {
        path.push(previous);
    }
    path.reverse();
    path.into_iter()
        .map(|id| {
            metadata
                .package(id)
                .map_or_else(|| id.to_owned(), |package| package.name.clone())
        })
        .collect()
}

fn impurity(name: &str) -> Option<&'static str> {
    IMPURE
        .iter()
        .find(|(pattern, _)| match pattern.strip_suffix('*') {
            Some(beginning) => name.starts_with(beginning),
            None => name == *pattern,
        })
        .map(|(_, what)| *what)
}

/// Our crates may link only those of ours that ARCHITECTURE.md draws an arrow to.
pub(crate) fn check_arrows(metadata: &Metadata) -> Vec<Finding> {
    let mut findings = Vec::new();
    let ours: Vec<&str> = metadata
        .members()
        .map(|(_, package)| package.name.as_str())
        .collect();
    for (_, package) in metadata.members() {
        let Some((_, may)) = ARROWS.iter().find(|(name, _)| *name == package.name) else {
            findings.push(Finding::new(
                &package.name,
                "has no place in the crate graph: add it to ARCHITECTURE.md and xtask",
            ));
            continue;
        };
        for id in &package.normal_dependencies {
            let Some(dependency) = metadata.package(id) else {
                continue;
            };
            if ours.contains(&dependency.name.as_str()) && !may.contains(&dependency.name.as_str())
            {
                findings.push(Finding::new(
                    &package.name,
                    format!(
                        "may not import {}: no such arrow in ARCHITECTURE.md",
                        dependency.name
                    ),
                ));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// A graph from `(package, [dependency])`; names that start with `tepui-` or are `xtask` are ours.
    fn graph(edges: &[(&str, &[&str])]) -> Metadata {
        let mut names: Vec<&str> = edges
            .iter()
            .flat_map(|(name, deps)| deps.iter().copied().chain([*name]))
            .collect();
        names.sort_unstable();
        names.dedup();
        let packages: Vec<Value> = names
            .iter()
            .map(|name| json!({"id": name, "name": name, "targets": []}))
            .collect();
        let nodes: Vec<Value> = edges
            .iter()
            .map(|(name, deps)| {
                let deps: Vec<Value> = deps
                    .iter()
                    .map(|dep| json!({"pkg": dep, "dep_kinds": [{"kind": null}]}))
                    .collect();
                json!({"id": name, "deps": deps})
            })
            .collect();
        let members: Vec<&&str> = names
            .iter()
            .filter(|name| name.starts_with("tepui-"))
            .collect();
        Metadata::from_json(
            &json!({"packages": packages, "resolve": {"nodes": nodes}, "workspace_members": members}),
        )
    }

    fn all_pure_and(extra: &[(&'static str, &'static [&'static str])]) -> Metadata {
        let mut edges: Vec<(&str, &[&str])> =
            PURE.iter().map(|name| (*name, &[] as &[&str])).collect();
        for (name, deps) in extra {
            edges.retain(|(listed, _)| listed != name);
            edges.push((name, deps));
        }
        graph(&edges)
    }

    #[test]
    fn a_core_that_reaches_a_runtime_is_told_the_path() {
        let metadata = all_pure_and(&[
            ("tepui-leader", &["helper"]),
            ("helper", &["tokio"]),
            ("tokio", &["mio"]),
        ]);
        let findings = check_purity(&metadata);
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert_eq!(findings[0].place, "tepui-leader");
        assert_eq!(
            findings[0].problem,
            "must be pure, but links a runtime: tepui-leader -> helper -> tokio"
        );
    }

    #[test]
    fn patterns_match_by_beginning() {
        assert_eq!(impurity("tokio-util"), Some("a runtime"));
        assert_eq!(impurity("hyper-rustls"), Some("sockets"));
        assert_eq!(impurity("rand_core"), None);
        assert_eq!(impurity("rand"), Some("unseeded randomness"));
    }

    #[test]
    fn what_clippy_bans_is_no_finding_but_only_on_that_way() {
        let metadata = all_pure_and(&[
            ("tepui-model", &["uuid"]),
            ("uuid", &["getrandom"]),
            ("tepui-auth", &["other"]),
            ("other", &["getrandom"]),
        ]);
        let findings = check_purity(&metadata);
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert_eq!(findings[0].place, "tepui-auth");
        let bans = include_str!("../../crates/clippy-core.toml");
        for method in ["new_v4", "now_v1", "now_v6", "now_v7"] {
            assert!(bans.contains(&format!("\"uuid::Uuid::{method}\"")));
        }
    }

    #[test]
    fn a_graph_without_impure_crates_passes() {
        let metadata = all_pure_and(&[("tepui-model", &["tepui-protocol", "serde"])]);
        assert_eq!(check_purity(&metadata), []);
    }

    #[test]
    fn build_and_dev_dependencies_do_not_count() {
        let json = json!({
            "packages": [{"id": "a", "name": "tepui-model", "targets": []}, {"id": "t", "name": "tokio", "targets": []}],
            "resolve": {"nodes": [{"id": "a", "deps": [
                {"pkg": "t", "dep_kinds": [{"kind": "dev"}, {"kind": "build"}]},
            ]}]},
            "workspace_members": ["a"],
        });
        let metadata = Metadata::from_json(&json);
        assert!(
            check_purity(&metadata)
                .iter()
                .all(|finding| finding.place != "tepui-model")
        );
    }

    #[test]
    fn an_arrow_against_the_grain_is_found() {
        let metadata = graph(&[
            ("tepui-model", &["tepui-leader"]),
            ("tepui-leader", &["tepui-allocator"]),
        ]);
        let findings = check_arrows(&metadata);
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert!(findings[0].problem.contains("may not import tepui-leader"));
    }

    #[test]
    fn a_crate_without_a_place_is_found() {
        let metadata = graph(&[("tepui-extra", &[])]);
        assert_eq!(check_arrows(&metadata).len(), 1);
    }
}
