//! Who may see what: roles, reservations, capabilities, least sizes.

use crate::support::*;
use std::sync::Arc;
use tepui_allocator::{Conversion, FrameworkCapabilities, FrameworkOptions, Options};
use tepui_model::{Quantities, Resources, Scalar, resources::Name};
use tepui_protocol::v1;

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
fn reserved_resources_go_to_their_role_and_those_below_only() {
    let mut cluster = Cluster::new();
    cluster.framework("other", &["other"]);
    cluster.follower("s", "cpus(eng):2;mem(eng):64");
    assert_eq!(cluster.offered(), [""; 0]);
    cluster.framework("web", &["eng/web"]);
    let offers = cluster.offers();
    assert_eq!(offers.len(), 1);
    assert_eq!(offers[0].framework, framework_id("web"));
    assert_eq!(
        offers[0].resources.reserved(Some("eng")).cpus(),
        Scalar::units(2)
    );
}

#[test]
fn reserved_and_unreserved_resources_of_a_follower_part_ways() {
    let mut cluster = Cluster::new();
    cluster.framework("a", &["a"]);
    cluster.framework("b", &["b"]);
    cluster.follower("s", "cpus(b):2;cpus:3");
    let offers = cluster.offers();
    assert_eq!(offers.len(), 2, "{offers:?}");
    assert_eq!(
        (offers[0].framework.as_str(), offers[0].resources.cpus()),
        ("a", Scalar::units(3))
    );
    assert_eq!(
        (offers[1].framework.as_str(), offers[1].resources.cpus()),
        ("b", Scalar::units(2))
    );
}

#[test]
fn revocable_resources_go_to_the_capable_only() {
    let mut cluster = Cluster::new();
    cluster.framework("plain", &["*"]);
    cluster.follower_with("s", bag("cpus:2").to_revocable());
    assert_eq!(cluster.offered(), [""; 0]);
    cluster.allocator.add_framework(
        &framework_id("able"),
        able(|c| c.revocable_resources = true),
        true,
    );
    assert_eq!(cluster.offered(), ["able/*@s cpus{REV}:2"]);
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
fn refined_reservations_need_a_framework_that_understands_them() {
    let reservation =
        |role: &str, kind: v1::resource::reservation_info::Type| v1::resource::ReservationInfo {
            r#type: Some(kind as i32),
            role: Some(role.into()),
            ..Default::default()
        };
    use v1::resource::reservation_info::Type::{Dynamic, Static};
    let refined = bag("cpus:2")
        .push_reservation(&reservation("eng", Static))
        .push_reservation(&reservation("eng/web", Dynamic));
    let mut cluster = Cluster::new();
    cluster.framework("plain", &["eng/web"]);
    cluster.follower_with("s", refined);
    assert_eq!(cluster.offered(), [""; 0]);
    let mut options = subscribed(&["eng/web"]);
    options.capabilities.reservation_refinement = true;
    cluster
        .allocator
        .update_framework(&framework_id("plain"), options);
    assert_eq!(
        cluster.offers().len(),
        1,
        "a framework that learns it is offered them at once"
    );
}

fn shared_volume() -> Resources {
    let volume = v1::Resource {
        name: "disk".into(),
        scalar: Some(v1::value::Scalar { value: 10.0 }),
        shared: Some(Default::default()),
        disk: Some(Box::new(v1::resource::DiskInfo {
            persistence: Some(v1::resource::disk_info::Persistence {
                id: "v".into(),
                principal: None,
            }),
            volume: Some(v1::Volume {
                container_path: "data".into(),
                ..Default::default()
            }),
            ..Default::default()
        })),
        reservations: vec![v1::resource::ReservationInfo {
            r#type: Some(v1::resource::reservation_info::Type::Static as i32),
            role: Some("eng".into()),
            ..Default::default()
        }],
        ..Default::default()
    };
    Resources::try_from_proto(&[volume]).expect("a valid volume")
}

#[test]
fn a_shared_volume_is_offered_with_every_offer_of_the_follower() {
    let mut cluster = Cluster::new();
    let mut options = subscribed(&["eng"]);
    options.capabilities.shared_resources = true;
    cluster
        .allocator
        .add_framework(&framework_id("a"), options.clone(), true);
    cluster.follower_with("s", bag("cpus:4;mem:100") + &shared_volume());
    let first = cluster.offers();
    assert_eq!(first.len(), 1);
    assert!(!first[0].resources.shared().is_empty());
    // Half of it comes back: the volume is offered again though the first copy is still held.
    cluster
        .allocator
        .add_framework(&framework_id("b"), options, true);
    cluster.free_part(&first[0], "cpus:2");
    let second = cluster.offers();
    assert_eq!(second.len(), 1);
    assert_eq!(second[0].framework, framework_id("b"));
    assert_eq!(second[0].resources.shared().len(), 1);
    cluster.free(&second[0]);
    cluster.offers();
    assert_eq!(
        cluster.allocator.total(&follower_id("s")).map(|t| t.disk()),
        Some(Scalar::units(10))
    );
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

#[test]
fn accepted_reservations_change_what_is_held_and_what_there_is() {
    let mut cluster = Cluster::new();
    cluster.framework("f", &["eng"]);
    cluster.follower("s", "cpus:4;mem:100");
    let offer = cluster.offers().remove(0);
    let role: Arc<str> = "eng".into();
    let conversion = Conversion {
        consumed: bag("cpus:1").allocated(&role),
        converted: bag("cpus(eng):1").allocated(&role),
    };
    let (f, s) = (framework_id("f"), follower_id("s"));
    cluster
        .allocator
        .update_allocation(&f, &s, "eng", std::slice::from_ref(&conversion))
        .expect("it holds them");
    cluster.allocator.check();
    assert_eq!(
        cluster.allocator.total(&s),
        Some(&bag("cpus:3;cpus(eng):1;mem:100"))
    );
    assert_eq!(
        cluster.allocator.held(&f, &s, "eng"),
        Some(&bag("cpus:3;cpus(eng):1;mem:100"))
    );
    let impossible = Conversion {
        consumed: bag("cpus:9").allocated(&role),
        converted: Resources::new(),
    };
    assert!(
        cluster
            .allocator
            .update_allocation(&f, &s, "eng", &[impossible])
            .is_err()
    );
    cluster.allocator.check();
    cluster.free_part(&offer, "cpus:3;mem:100");
    cluster.free_part(&offer, "cpus(eng):1");
    assert_eq!(cluster.allocator.available(&s), cluster.allocator.total(&s));
}

#[test]
fn an_operator_reserves_what_is_free() {
    let mut cluster = Cluster::new();
    cluster.follower("s", "cpus:4");
    let s = follower_id("s");
    let conversion = Conversion {
        consumed: bag("cpus:3"),
        converted: bag("cpus(eng):3"),
    };
    cluster
        .allocator
        .update_available(&s, std::slice::from_ref(&conversion))
        .expect("free");
    assert!(
        cluster
            .allocator
            .update_available(&s, &[conversion])
            .is_err()
    );
    cluster.framework("f", &["other"]);
    assert_eq!(cluster.offered(), ["f/other@s cpus:1"]);
    assert_eq!(
        cluster.allocator.totals().iter().next(),
        Some((&Name::new("cpus"), Scalar::units(4)))
    );
}
