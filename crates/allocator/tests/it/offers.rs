//! Who may see what: roles, reservations, capabilities, least sizes.

use crate::support::*;
use std::sync::Arc;
use tepui_allocator::{FrameworkCapabilities, FrameworkOptions, Options};
use tepui_model::{Quantities, Scalar};

fn able(change: impl FnOnce(&mut FrameworkCapabilities)) -> FrameworkOptions {
    let mut options = subscribed(&["*"]);
    change(&mut options.capabilities);
    options
}

#[test]
fn a_framework_gets_the_whole_follower_in_one_offer() {
    let mut cluster = Cluster::new();
    cluster.framework("f", &["*"]);
    cluster.follower("s", "cpus:4;mem:1024;ports:[1-10]");
    let offers = cluster.offers();
    assert_eq!(offers.len(), 1);
    assert_eq!(
        offers[0].resources,
        bag("cpus:4;mem:1024;ports:[1-10]").allocated(&Arc::from("*"))
    );
    assert_eq!(cluster.offered(), [""; 0]);
}

#[test]
fn the_order_of_arrival_does_not_matter() {
    let mut cluster = Cluster::new();
    cluster.follower("s", "cpus:4");
    assert_eq!(cluster.offered(), [""; 0]);
    cluster.framework("f", &["*"]);
    assert_eq!(cluster.offered(), ["f/*@s cpus:4"]);
}

#[test]
fn followers_with_gpus_are_kept_for_those_who_know_them() {
    let mut cluster = Cluster::new();
    cluster.framework("plain", &["*"]);
    cluster.follower("s", "cpus:2;gpus:1");
    assert_eq!(cluster.offered(), [""; 0]);
    cluster.allocator.add_framework(
        &framework_id("able"),
        able(|c| c.gpu_resources = true),
        true,
    );
    assert_eq!(cluster.offered(), ["able/*@s cpus:2; gpus:1"]);

    let mut open = Cluster::with(Options {
        filter_gpu_resources: false,
        ..Default::default()
    });
    open.framework("plain", &["*"]);
    open.follower("s", "cpus:2;gpus:1");
    assert_eq!(open.offered(), ["plain/*@s cpus:2; gpus:1"]);
}

#[test]
fn crumbs_are_not_offered() {
    let mut cluster = Cluster::new();
    cluster.framework("f", &["*"]);
    cluster.follower("s", "cpus:0.009;mem:31;disk:1000");
    assert_eq!(cluster.offered(), [""; 0]);
    cluster.follower("t", "cpus:0.01");
    cluster.follower("u", "mem:32");
    assert_eq!(cluster.offered(), ["f/*@t cpus:0.01", "f/*@u mem:32"]);
}

#[test]
fn a_framework_may_set_its_own_least_size_for_a_role() {
    let mut cluster = Cluster::new();
    let least: Quantities = [("cpus", Scalar::units(2)), ("mem", Scalar::units(100))]
        .into_iter()
        .collect();
    let mut options = subscribed(&["*"]);
    options
        .min_allocatable_resources
        .insert("*".into(), vec![least]);
    cluster
        .allocator
        .add_framework(&framework_id("f"), options, true);
    cluster.follower("small", "cpus:2;mem:99");
    cluster.follower("large", "cpus:2;mem:100");
    assert_eq!(cluster.offered(), ["f/*@large cpus:2; mem:100"]);
    cluster
        .allocator
        .update_framework(&framework_id("f"), subscribed(&["*"]));
    assert_eq!(cluster.offered(), ["f/*@small cpus:2; mem:99"]);
}
