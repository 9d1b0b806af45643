//! Fair shares: dominant resource fairness over roles, then frameworks.

use crate::support::*;
use std::collections::BTreeMap;

/// How many of `followers` equal followers each framework ends up with.
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

#[test]
fn frameworks_of_a_role_share_alike() {
    let mut cluster = Cluster::new();
    for id in ["a", "b", "c"] {
        cluster.framework(id, &["*"]);
    }
    assert_eq!(
        split(&mut cluster, 30),
        BTreeMap::from([("a".into(), 10), ("b".into(), 10), ("c".into(), 10)])
    );
}

#[test]
fn roles_share_alike_however_many_frameworks_they_have() {
    let mut cluster = Cluster::new();
    cluster.framework("a", &["one"]);
    cluster.framework("b", &["two"]);
    cluster.framework("c", &["two"]);
    assert_eq!(
        split(&mut cluster, 40),
        BTreeMap::from([("a".into(), 20), ("b".into(), 10), ("c".into(), 10)])
    );
}

#[test]
fn the_dominant_resource_decides() {
    let mut cluster = Cluster::new();
    cluster.framework("cpu", &["a"]);
    cluster
        .allocator
        .suppress(&framework_id("cpu"), &roles(&[]));
    cluster.framework("mem", &["b"]);
    cluster.follower("s", "cpus:1;mem:500");
    assert_eq!(cluster.offered(), ["mem/b@s cpus:1; mem:500"]);
    cluster.allocator.revive(&framework_id("cpu"), &roles(&[]));
    cluster
        .allocator
        .suppress(&framework_id("mem"), &roles(&[]));
    cluster.follower("t", "cpus:4;mem:100");
    assert_eq!(cluster.offered(), ["cpu/a@t cpus:4; mem:100"]);
    cluster.allocator.revive(&framework_id("mem"), &roles(&[]));
    // Of 7 cpus and 602 mem: cpu holds 4/7, mem holds 500/602.
    cluster.follower("u", "cpus:2;mem:2");
    assert_eq!(cluster.offered(), ["cpu/a@u cpus:2; mem:2"]);
}

#[test]
fn many_hungry_frameworks_share_what_is_free() {
    let mut cluster = Cluster::new();
    for i in 0..100 {
        cluster.follower(&format!("s{i}"), "cpus:1;mem:100");
    }
    for i in 0..20 {
        cluster.framework(&format!("f{i:02}"), &["*"]);
    }
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for offer in cluster.offers() {
        *counts.entry(offer.framework.to_string()).or_default() += 1;
    }
    assert_eq!(counts.len(), 20);
    assert!(counts.values().all(|n| *n == 5), "{counts:?}");
}
