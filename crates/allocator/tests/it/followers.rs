//! Followers come, change and go; frameworks return after a change of leaders.

use crate::support::*;
use std::sync::Arc;
use tepui_allocator::{FollowerCapabilities, FollowerInfo, Options};
use tepui_model::Scalar;

#[test]
fn a_returning_follower_brings_what_is_held_there() {
    let mut cluster = Cluster::new();
    let role: Arc<str> = "eng".into();
    let info = FollowerInfo {
        total: bag("cpus:4;mem:100"),
        ..Default::default()
    };
    let used = [(framework_id("f"), bag("cpus:3").allocated(&role))];
    cluster
        .allocator
        .add_follower(&follower_id("s"), info, &used);
    cluster.allocator.check();
    assert_eq!(
        cluster.offered(),
        [""; 0],
        "its framework has not come back yet"
    );
    cluster.framework("f", &["eng"]);
    assert_eq!(cluster.offered(), ["f/eng@s cpus:1; mem:100"]);
    let role = cluster.allocator.roles().next().expect("one role");
    assert_eq!(role.dominant_share, 1.0);
    cluster.allocator.remove_framework(&framework_id("f"));
    cluster.allocator.check();
    cluster.framework("g", &["*"]);
    assert_eq!(cluster.offered(), ["g/*@s cpus:4; mem:100"]);
    assert_eq!(
        cluster.allocator.roles().count(),
        1,
        "roles without frameworks are gone"
    );
}

#[test]
fn a_framework_that_never_returns_leaves_no_trace() {
    let mut cluster = Cluster::new();
    let role: Arc<str> = "eng".into();
    let info = FollowerInfo {
        total: bag("cpus:4"),
        ..Default::default()
    };
    let used = [(framework_id("f"), bag("cpus:4").allocated(&role))];
    cluster
        .allocator
        .add_follower(&follower_id("s"), info, &used);
    cluster.allocator.recover(
        &framework_id("f"),
        &follower_id("s"),
        &used[0].1,
        None,
        cluster.now,
    );
    cluster.allocator.check();
    assert_eq!(cluster.allocator.roles().count(), 0);
    cluster.allocator.remove_framework(&framework_id("f"));
    cluster.allocator.check();
}

#[test]
fn a_removed_follower_takes_everything_with_it() {
    let mut cluster = Cluster::new();
    cluster.framework("f", &["*"]);
    cluster.follower("s", "cpus:4");
    let offer = cluster.offers().remove(0);
    cluster.decline(&offer, 5.0);
    cluster.allocator.remove_follower(&follower_id("s"));
    cluster.allocator.check();
    cluster.decline(&offer, 5.0);
    assert_eq!(cluster.offered(), [""; 0]);
    assert!(cluster.allocator.totals().is_empty());
    assert_eq!(cluster.allocator.next_deadline(cluster.now), None);
}

#[test]
fn nothing_is_offered_of_a_disconnected_follower() {
    let mut cluster = Cluster::new();
    cluster.follower("s", "cpus:4");
    cluster.allocator.deactivate_follower(&follower_id("s"));
    cluster.framework("f", &["*"]);
    assert_eq!(cluster.offered(), [""; 0]);
    cluster.allocator.activate_follower(&follower_id("s"));
    assert_eq!(cluster.offered(), ["f/*@s cpus:4"]);
}

#[test]
fn a_follower_may_shrink_below_what_is_held() {
    let mut cluster = Cluster::new();
    cluster.framework("f", &["*"]);
    cluster.follower("s", "cpus:4;mem:100");
    let offer = cluster.offers().remove(0);
    cluster
        .allocator
        .update_follower_total(&follower_id("s"), bag("cpus:2;mem:200"));
    cluster.allocator.check();
    assert_eq!(cluster.offered(), ["f/*@s mem:100"]);
    cluster.free_part(&offer, "cpus:1");
    assert_eq!(cluster.offered(), [""; 0]);
    cluster.free_part(&offer, "cpus:2");
    assert_eq!(cluster.offered(), ["f/*@s cpus:1"]);
}

#[test]
fn new_attributes_void_refusals() {
    let mut cluster = Cluster::new();
    cluster.framework("f", &["*"]);
    cluster.follower("s", "cpus:4");
    let offer = cluster.offers().remove(0);
    cluster.decline(&offer, 1000.0);
    let info = || FollowerInfo {
        total: bag("cpus:4"),
        ..Default::default()
    };
    cluster
        .allocator
        .update_follower(&follower_id("s"), info(), false);
    assert_eq!(cluster.offered(), [""; 0]);
    cluster
        .allocator
        .update_follower(&follower_id("s"), info(), true);
    assert_eq!(cluster.offered().len(), 1);
}

#[test]
fn old_followers_are_kept_from_what_they_do_not_know() {
    let mut cluster = Cluster::new();
    let old = FollowerCapabilities {
        multi_role: false,
        hierarchical_role: false,
    };
    let info = FollowerInfo {
        total: bag("cpus:4"),
        capabilities: old,
        ..Default::default()
    };
    cluster.allocator.add_follower(&follower_id("s"), info, &[]);
    cluster.framework("nested", &["a/b"]);
    let mut many = subscribed(&["a"]);
    many.capabilities.multi_role = true;
    cluster
        .allocator
        .add_framework(&framework_id("many"), many, true);
    assert_eq!(cluster.offered(), [""; 0]);
    cluster.framework("plain", &["a"]);
    assert_eq!(cluster.offered(), ["plain/a@s cpus:4"]);
}

#[test]
fn remote_regions_are_for_the_region_aware() {
    let mut cluster = Cluster::with(Options {
        region: Some("here".into()),
        ..Default::default()
    });
    let info = FollowerInfo {
        total: bag("cpus:4"),
        traits: std::sync::Arc::new(tepui_allocator::Traits {
            region: Some("there".into()),
            ..Default::default()
        }),
        ..Default::default()
    };
    cluster.allocator.add_follower(&follower_id("s"), info, &[]);
    cluster.framework("plain", &["*"]);
    assert_eq!(cluster.offered(), [""; 0]);
    let mut aware = subscribed(&["*"]);
    aware.capabilities.region_aware = true;
    cluster
        .allocator
        .add_framework(&framework_id("aware"), aware, true);
    assert_eq!(cluster.offered(), ["aware/*@s cpus:4"]);
}

#[test]
fn a_framework_that_leaves_a_role_keeps_what_it_holds_there() {
    let mut cluster = Cluster::new();
    cluster.framework("f", &["a"]);
    cluster.follower("s", "cpus:4");
    let offer = cluster.offers().remove(0);
    cluster
        .allocator
        .update_framework(&framework_id("f"), subscribed(&["b"]));
    cluster.allocator.check();
    let held = cluster
        .allocator
        .held(&framework_id("f"), &follower_id("s"), "a")
        .map(|r| r.cpus());
    assert_eq!(held, Some(Scalar::units(4)));
    cluster.free(&offer);
    assert_eq!(cluster.offered(), ["f/b@s cpus:4"]);
    assert_eq!(
        cluster
            .allocator
            .roles()
            .map(|r| r.name.to_string())
            .collect::<Vec<_>>(),
        ["b"]
    );
}

#[test]
fn events_about_strangers_are_ignored() {
    let mut cluster = Cluster::new();
    let (f, s) = (framework_id("f"), follower_id("s"));
    let a = &mut cluster.allocator;
    a.remove_framework(&f);
    a.activate_framework(&f);
    a.deactivate_framework(&f);
    a.update_framework(&f, subscribed(&["*"]));
    a.suppress(&f, &roles(&[]));
    a.revive(&f, &roles(&[]));
    a.request(&f);
    a.remove_follower(&s);
    a.activate_follower(&s);
    a.deactivate_follower(&s);
    a.update_follower_total(&s, bag("cpus:1"));
    a.recover(
        &f,
        &s,
        &bag("cpus:1").allocated(&Arc::from("*")),
        None,
        cluster.now,
    );
    assert!(a.update_allocation(&f, &s, "*", &[]).is_err());
    assert!(a.update_available(&s, &[]).is_err());
    assert_eq!(cluster.offered(), [""; 0]);
}
