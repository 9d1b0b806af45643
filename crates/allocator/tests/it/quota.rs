//! Quota: limits, guarantees and the headroom for them (`docs/quota.md`).

use crate::support::*;
use std::sync::Arc;
use tepui_allocator::{FrameworkOptions, Options};
use tepui_model::{Quantities, Quota, Scalar};

fn quota(guarantees: &str, limits: &str) -> Quota {
    Quota {
        guarantees: bag(guarantees).quantities(),
        limits: bag(limits)
            .quantities()
            .iter()
            .map(|(name, amount)| (name.as_str(), amount))
            .collect(),
    }
}

fn set(cluster: &mut Cluster, role: &str, guarantees: &str, limits: &str) {
    cluster
        .allocator
        .update_quota(&Arc::from(role), quota(guarantees, limits));
    cluster.allocator.check();
}

fn consumed(cluster: &Cluster, role: &str) -> String {
    cluster.allocator.quota_consumed(role).to_string()
}

#[test]
fn a_limit_is_never_exceeded_and_resources_are_chopped_to_it() {
    let mut cluster = Cluster::new();
    set(&mut cluster, "a", "", "cpus:3;mem:600");
    cluster.framework("f", &["a"]);
    cluster.follower("s1", "cpus:2;mem:400;ports:[1-5]");
    cluster.follower("s2", "cpus:2;mem:400;ports:[1-5]");
    cluster.follower("s3", "cpus:2;mem:400;ports:[1-5]");
    let offers = cluster.offers();
    assert_eq!(offers.len(), 2);
    assert_eq!(consumed(&cluster, "a"), "cpus:3; mem:600");
    // What is given back can be had again, there or elsewhere.
    cluster.free_part(&offers[0], "cpus:1;mem:100");
    assert_eq!(consumed(&cluster, "a"), "cpus:2; mem:500");
    assert_eq!(cluster.offers().len(), 1);
    assert_eq!(consumed(&cluster, "a"), "cpus:3; mem:600");
}

#[test]
fn who_was_held_back_by_a_limit_is_offered_what_is_free_once_there_is_room() {
    let mut cluster = Cluster::new();
    set(&mut cluster, "a", "", "cpus:1;mem:100");
    cluster.framework("f", &["a"]);
    cluster.follower("s1", "cpus:1;mem:100");
    assert_eq!(cluster.offered(), ["f/a@s1 cpus:1; mem:100"]);
    cluster.follower("s2", "cpus:4;mem:400");
    assert_eq!(cluster.offered(), [""; 0]);
    // A higher limit.
    set(&mut cluster, "a", "", "cpus:2;mem:200");
    assert_eq!(cluster.offered(), ["f/a@s2 cpus:1; mem:100"]);
    // Less consumption: the follower with its tasks is gone.
    cluster.allocator.remove_follower(&follower_id("s1"));
    assert_eq!(cluster.offered(), ["f/a@s2 cpus:1; mem:100"]);
    // No limit.
    set(&mut cluster, "a", "", "");
    assert_eq!(cluster.offered(), ["f/a@s2 cpus:2; mem:200"]);
}

#[test]
fn a_limit_holds_for_all_below_it_and_theirs_within_it() {
    let mut cluster = Cluster::new();
    set(&mut cluster, "eng", "", "cpus:3;mem:300");
    set(&mut cluster, "eng/a", "", "cpus:2;mem:200");
    cluster.framework("a", &["eng/a"]);
    cluster.follower("s1", "cpus:4;mem:400");
    assert_eq!(cluster.offered(), ["a/eng/a@s1 cpus:2; mem:200"]);
    cluster.framework("b", &["eng/b"]);
    assert_eq!(cluster.offered(), ["b/eng/b@s1 cpus:1; mem:100"]);
    cluster.framework("c", &["sales"]);
    assert_eq!(cluster.offered(), ["c/sales@s1 cpus:1; mem:100"]);
    assert_eq!(consumed(&cluster, "eng"), "cpus:3; mem:300");
}

#[test]
fn reservations_count_whether_they_are_used_or_not() {
    let mut cluster = Cluster::new();
    set(&mut cluster, "a", "", "cpus:3;mem:600");
    cluster.follower("s", "cpus:4;mem:800;cpus(a):2;mem(a):500");
    assert_eq!(consumed(&cluster, "a"), "cpus:2; mem:500");
    cluster.framework("f", &["a"]);
    // All of the reservation, and as much beside it as the limit leaves.
    let offers = cluster.offers();
    let held = offers[0].resources.quantities();
    assert_eq!(held.to_string(), "cpus:3; mem:600");
    assert_eq!(consumed(&cluster, "a"), "cpus:3; mem:600");
}

#[test]
fn a_mount_disk_is_taken_as_a_whole_or_left() {
    let mut cluster = Cluster::new();
    set(&mut cluster, "a", "", "disk:100");
    cluster.framework("f", &["a"]);
    let text = r#"[
        {"name":"cpus","type":"SCALAR","scalar":{"value":1}},
        {"name":"mem","type":"SCALAR","scalar":{"value":64}},
        {"name":"disk","type":"SCALAR","scalar":{"value":500},
         "disk":{"source":{"type":"MOUNT","mount":{"root":"/m"}}}},
        {"name":"disk","type":"SCALAR","scalar":{"value":500},
         "disk":{"source":{"type":"PATH","path":{"root":"/p"}}}}
    ]"#;
    cluster.follower("s", text);
    let offers = cluster.offers();
    assert_eq!(
        offers[0].resources.quantities().to_string(),
        "cpus:1; disk:100; mem:64"
    );
}

#[test]
fn enough_is_kept_free_for_guarantees() {
    let mut cluster = Cluster::new();
    set(&mut cluster, "prod", "cpus:3;mem:300", "");
    cluster.framework("greedy", &["dev"]);
    for i in 0..5 {
        cluster.follower(&format!("s{i}"), "cpus:1;mem:100");
    }
    assert_eq!(cluster.offers().len(), 2);
    // The one it is kept for gets all of it, and what is free besides.
    cluster.framework("p", &["prod"]);
    assert_eq!(cluster.offers().len(), 3);
    assert_eq!(consumed(&cluster, "prod"), "cpus:3; mem:300");
    // Nothing is owed any more.
    cluster.follower("s5", "cpus:1;mem:100");
    assert_eq!(cluster.offers().len(), 1);
    assert_eq!(consumed(&cluster, "dev"), "cpus:3; mem:300");
}

#[test]
fn who_was_held_back_for_guarantees_is_offered_what_they_no_longer_need() {
    let mut cluster = Cluster::new();
    set(&mut cluster, "prod", "cpus:4;mem:400", "");
    cluster.framework("dev", &["dev"]);
    cluster.follower("s1", "cpus:2;mem:200");
    cluster.follower("s2", "cpus:2;mem:200");
    assert_eq!(cluster.offered(), [""; 0]);
    set(&mut cluster, "prod", "cpus:3;mem:300", "");
    let offers = cluster.offers();
    assert_eq!(offers.len(), 1);
    assert_eq!(
        offers[0].resources.quantities().to_string(),
        "cpus:1; mem:100"
    );
    // A new follower adds to the surplus as a whole.
    cluster.follower("s3", "cpus:2;mem:200");
    cluster.offers();
    assert_eq!(consumed(&cluster, "dev"), "cpus:3; mem:300");
    set(&mut cluster, "prod", "", "");
    cluster.offers();
    assert_eq!(consumed(&cluster, "dev"), "cpus:6; mem:600");
}

#[test]
fn guarantees_come_first_whatever_the_shares() {
    let mut cluster = Cluster::new();
    cluster.framework("dev", &["dev"]);
    cluster.framework("p", &["prod"]);
    // prod holds more than its share already.
    cluster
        .allocator
        .suppress(&framework_id("dev"), &roles(&[]));
    cluster.follower("s1", "cpus:4;mem:400");
    assert_eq!(cluster.offers().len(), 1);
    cluster.allocator.revive(&framework_id("dev"), &roles(&[]));
    set(&mut cluster, "prod", "cpus:5;mem:500", "");
    cluster.follower("s2", "cpus:1;mem:100");
    assert_eq!(cluster.offered(), ["p/prod@s2 cpus:1; mem:100"]);
    cluster.follower("s3", "cpus:1;mem:100");
    assert_eq!(cluster.offered(), ["dev/dev@s3 cpus:1; mem:100"]);
}

#[test]
fn a_guarantee_counts_for_all_below_it_and_theirs_within_it() {
    let mut cluster = Cluster::new();
    set(&mut cluster, "eng", "cpus:4;mem:400", "");
    set(&mut cluster, "eng/a", "cpus:3;mem:300", "");
    let required = |cluster: &Cluster| cluster.allocator.headroom().required.to_string();
    assert_eq!(required(&cluster), "cpus:4; mem:400");
    cluster.framework("b", &["eng/b"]);
    cluster.follower("s", "cpus:4;mem:400");
    // b may have what eng is promised beyond a's part.
    let offers = cluster.offers();
    assert_eq!(
        offers[0].resources.quantities().to_string(),
        "cpus:1; mem:100"
    );
    assert_eq!(required(&cluster), "cpus:3; mem:300");
    cluster.framework("a", &["eng/a"]);
    assert_eq!(cluster.offered(), ["a/eng/a@s cpus:3; mem:300"]);
    assert_eq!(required(&cluster), "{}");
}

#[test]
fn disconnected_followers_serve_no_guarantees() {
    let mut cluster = Cluster::new();
    set(&mut cluster, "prod", "cpus:1;mem:100", "");
    cluster.framework("dev", &["dev"]);
    cluster.follower("s1", "cpus:1;mem:100");
    cluster.follower("s2", "cpus:1;mem:100");
    cluster.allocator.deactivate_follower(&follower_id("s1"));
    assert_eq!(cluster.offered(), [""; 0]);
    cluster.allocator.activate_follower(&follower_id("s1"));
    assert_eq!(cluster.offers().len(), 1);
}

#[test]
fn a_minimum_of_its_own_lets_a_framework_take_the_last_of_a_limit() {
    let mut cluster = Cluster::new();
    set(&mut cluster, "a", "", "cpus:1;mem:40;disk:10");
    cluster.framework("f", &["a"]);
    cluster.follower("s", "cpus:1.005;mem:50;disk:5");
    assert_eq!(cluster.offers().len(), 1);
    cluster.follower("t", "disk:20");
    assert_eq!(cluster.offered(), [""; 0]);
    let picky = FrameworkOptions {
        min_allocatable_resources: [(
            Arc::from("a"),
            vec![
                [("disk", Scalar::units(1))]
                    .into_iter()
                    .collect::<Quantities>(),
            ],
        )]
        .into(),
        ..subscribed(&["a"])
    };
    cluster
        .allocator
        .update_framework(&framework_id("f"), picky);
    cluster.allocator.check();
    assert_eq!(cluster.offered(), ["f/a@t disk:5"]);
}

#[test]
fn three_thousand_roles_with_a_quota_each() {
    let mut cluster = Cluster::with(Options::default());
    for i in 0..3000 {
        let role = format!("r{i}");
        cluster.allocator.update_quota(
            &Arc::from(role.as_str()),
            quota("cpus:1;mem:64", "cpus:2;mem:128"),
        );
        cluster
            .allocator
            .add_framework(&framework_id(&role), subscribed(&[&role]), true);
    }
    for i in 0..100 {
        cluster
            .allocator
            .add_follower(&follower_id(&i.to_string()), of("cpus:64;mem:4096"), &[]);
    }
    cluster.offers_unchecked();
    for i in 0..3000 {
        let consumed = cluster.allocator.quota_consumed(&format!("r{i}"));
        assert!(consumed.contains(&bag("cpus:1;mem:64").quantities()));
        assert!(bag("cpus:2;mem:128").quantities().contains(&consumed));
    }
    assert!(cluster.allocator.headroom().required.is_empty());
}

#[test]
fn what_was_looked_for_in_vain_is_not_looked_for_at_every_event() {
    let mut cluster = Cluster::new();
    set(&mut cluster, "a", "", "cpus:50;mem:5000");
    cluster.framework("f", &["a"]);
    for i in 0..100 {
        cluster.allocator.add_follower(
            &follower_id(&format!("s{i:03}")),
            of("cpus:60;mem:6000"),
            &[],
        );
    }
    // It holds one task and refuses the rest for long, on each follower.
    let first = cluster.offers_unchecked().remove(0);
    cluster.free_unchecked(&first, "cpus:30;mem:3000");
    let mut refused = Vec::new();
    while let Some(offer) = cluster.offers_unchecked().pop() {
        refused.push(offer.follower.clone());
        cluster.decline_unchecked(&offer, 1000.0);
    }
    assert_eq!(refused.len(), 100);
    cluster.allocator.check();
    // More room means larger offers, which are not what was refused.
    cluster.free_unchecked(&first, "cpus:5;mem:500");
    assert_eq!(cluster.offers_unchecked().len(), 1);
}
