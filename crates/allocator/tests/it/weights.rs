//! Weights of roles (`docs/weights.md`; at every level of the tree `docs/roles.md`).

use crate::support::*;
use std::sync::Arc;

/// Of 48 equal followers that come one by one, how many roles `a` and `b` have, with these weights.
fn split(weights: &[(&str, f64)]) -> (usize, usize) {
    let mut cluster = Cluster::new();
    cluster.framework("a", &["a"]);
    cluster.framework("b", &["b"]);
    for (role, weight) in weights {
        cluster.allocator.update_weight(&Arc::from(*role), *weight);
    }
    grow(&mut cluster, 0..48)
}

fn grow(cluster: &mut Cluster, followers: std::ops::Range<usize>) -> (usize, usize) {
    let (mut a, mut b) = (0, 0);
    for s in followers {
        cluster.follower(&format!("s{s}"), "cpus:1;mem:100");
        for offer in cluster.offers() {
            *if &*offer.role == "a" { &mut a } else { &mut b } += 1;
        }
    }
    (a, b)
}

#[test]
fn weights_scale_shares() {
    type Case<'a> = (&'a [(&'a str, f64)], (usize, usize));
    let cases: [Case<'_>; 7] = [
        // Who has none has 1.
        (&[], (24, 24)),
        (&[("b", 1.0)], (24, 24)),
        (&[("b", 3.0)], (12, 36)),
        (&[("a", 5.0)], (40, 8)),
        (&[("a", 0.5), ("b", 0.25)], (32, 16)),
        // The last word counts; what is no weight changes nothing.
        (&[("b", 3.0), ("b", 1.0)], (24, 24)),
        (
            &[("b", 3.0), ("b", 0.0), ("b", -1.0), ("b", f64::NAN)],
            (12, 36),
        ),
    ];
    for (weights, expected) in cases {
        assert_eq!(split(weights), expected, "{weights:?}");
    }
}

#[test]
fn a_new_weight_takes_nothing_away_and_decides_who_is_next() {
    let mut cluster = Cluster::new();
    cluster.framework("a", &["a"]);
    cluster.framework("b", &["b"]);
    assert_eq!(grow(&mut cluster, 0..24), (12, 12));
    cluster.allocator.update_weight(&Arc::from("b"), 3.0);
    assert!(cluster.offers().is_empty());
    // B has 36 in the end, of which 12 already.
    assert_eq!(grow(&mut cluster, 24..48), (0, 24));
    assert_eq!(grow(&mut cluster, 48..96), (12, 36));
}

#[test]
fn a_weight_outlives_the_role() {
    let mut cluster = Cluster::new();
    cluster.allocator.update_weight(&Arc::from("two"), 3.0);
    for _ in 0..2 {
        cluster.framework("a", &["one"]);
        cluster.framework("b", &["two"]);
        let weights: Vec<f64> = cluster.allocator.roles().map(|r| r.weight).collect();
        assert_eq!(weights, [1.0, 3.0]);
        cluster.allocator.remove_framework(&framework_id("b"));
        cluster.allocator.remove_framework(&framework_id("a"));
    }
}
