//! Fair shares over the tree of roles (`docs/roles.md`, "Hierarchical roles"), and orders at random.

use crate::support::*;
use std::{collections::BTreeMap, sync::Arc};
use tepui_allocator::{Options, SorterKind};

/// How many of `followers` equal followers each framework ends up with, when all share what is there.
fn split(cluster: &mut Cluster, followers: usize) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for i in 0..followers {
        cluster.follower(&format!("s{i}"), "cpus:1;mem:100");
        for offer in cluster.offers() {
            *counts.entry(offer.framework.to_string()).or_default() += 1;
        }
    }
    counts
}

fn counts<const N: usize>(of: [(&str, usize); N]) -> BTreeMap<String, usize> {
    of.into_iter().map(|(name, n)| (name.into(), n)).collect()
}

/// Frameworks and their roles, weights, and who gets how many of 48 followers.
struct Case {
    frameworks: &'static [(&'static str, &'static str)],
    weights: &'static [(&'static str, f64)],
    expected: &'static [(&'static str, usize)],
}

#[test]
fn each_level_of_the_tree_shares_by_itself() {
    let cases = [
        // Siblings share alike, whatever is below them.
        Case {
            frameworks: &[("a", "eng/a"), ("b", "eng/b"), ("c", "sales")],
            weights: &[],
            expected: &[("a", 12), ("b", 12), ("c", 24)],
        },
        // The frameworks of a role together are one among the roles below it.
        Case {
            frameworks: &[("own1", "eng"), ("own2", "eng"), ("below", "eng/x")],
            weights: &[],
            expected: &[("own1", 12), ("own2", 12), ("below", 24)],
        },
        // Weights scale shares at the level of their role.
        Case {
            frameworks: &[("a", "eng/a"), ("b", "eng/b"), ("c", "sales")],
            weights: &[("eng", 3.0), ("eng/a", 2.0)],
            expected: &[("a", 24), ("b", 12), ("c", 12)],
        },
        // A weight is not inherited by a role's own frameworks among those below.
        Case {
            frameworks: &[("own", "eng"), ("below", "eng/x"), ("c", "sales")],
            weights: &[("eng", 2.0), ("eng/x", 3.0)],
            expected: &[("own", 8), ("below", 24), ("c", 16)],
        },
        // Roles that only lie on the way count as one.
        Case {
            frameworks: &[("deep", "x/y/z/u"), ("flat", "v")],
            weights: &[],
            expected: &[("deep", 24), ("flat", 24)],
        },
    ];
    for case in cases {
        let mut cluster = Cluster::new();
        for (role, weight) in case.weights {
            cluster.allocator.update_weight(&Arc::from(*role), *weight);
        }
        for (id, role) in case.frameworks {
            cluster.framework(id, &[role]);
        }
        let got = split(&mut cluster, 48);
        for (id, expected) in case.expected {
            let got = got.get(*id).copied().unwrap_or_default();
            assert!(got.abs_diff(*expected) <= 1, "{id}: {got}, not {expected}");
        }
    }
}

#[test]
fn a_role_that_wants_nothing_leaves_its_share_to_its_siblings_first() {
    let mut cluster = Cluster::new();
    cluster.framework("a", &["eng/a"]);
    cluster.framework("b", &["eng/b"]);
    cluster.framework("c", &["sales"]);
    cluster.allocator.suppress(&framework_id("a"), &roles(&[]));
    assert_eq!(split(&mut cluster, 20), counts([("b", 10), ("c", 10)]));
}

#[test]
fn roles_leave_the_tree_when_nothing_needs_them() {
    let mut cluster = Cluster::new();
    cluster.framework("a", &["x/y/z"]);
    cluster.follower("s", "cpus:1;mem:100;cpus(r/s):1");
    let names = |cluster: &Cluster| -> Vec<String> {
        let roles = cluster.allocator.roles();
        roles.map(|role| role.name.to_string()).collect()
    };
    assert_eq!(names(&cluster), ["r", "r/s", "x", "x/y", "x/y/z"]);
    cluster.allocator.remove_framework(&framework_id("a"));
    cluster.allocator.check();
    assert_eq!(names(&cluster), ["r", "r/s"]);
    cluster.allocator.remove_follower(&follower_id("s"));
    cluster.allocator.check();
    assert_eq!(names(&cluster), [""; 0]);
}

#[test]
fn names_of_roles_may_be_as_deep_as_they_like() {
    let mut cluster = Cluster::new();
    let deep = vec!["a"; 2000].join("/");
    cluster
        .allocator
        .add_framework(&framework_id("f"), subscribed(&[&deep]), true);
    cluster
        .allocator
        .add_follower(&follower_id("s"), of("cpus:1;mem:100"), &[]);
    assert_eq!(cluster.offers_unchecked().len(), 1);
}

#[test]
fn at_random_weights_make_the_odds() {
    let mut cluster = Cluster::with(Options {
        role_sorter: SorterKind::Random,
        framework_sorter: SorterKind::Random,
        ..Default::default()
    });
    cluster.allocator.update_weight(&Arc::from("heavy"), 3.0);
    cluster.framework("a", &["light"]);
    cluster.framework("b", &["heavy"]);
    cluster.framework("c", &["heavy"]);
    cluster.follower("s", "cpus:1;mem:100");
    let mut counts: BTreeMap<String, u32> = BTreeMap::new();
    for _ in 0..2000 {
        let offers = cluster.offers();
        *counts.entry(offers[0].framework.to_string()).or_default() += 1;
        cluster.free(&offers[0]);
    }
    assert!(counts["a"].abs_diff(500) < 80, "{counts:?}");
    assert!(counts["b"].abs_diff(750) < 80, "{counts:?}");
}
