//! Shared persistent volumes: offered though they are in use (`docs/shared-resources.md`).

use crate::support::*;
use tepui_model::{Resources, Scalar};
use tepui_protocol::v1;

pub(crate) fn shared_volume() -> Resources {
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
fn who_sees_a_shared_volume() {
    // Role of the framework, whether it knows shared resources, whether it sees the volume of eng.
    let cases = [
        ("eng", true, true),
        ("eng/web", true, true),
        ("eng", false, false),
        ("sales", true, false),
    ];
    for (role, able, sees) in cases {
        let mut cluster = Cluster::new();
        let mut options = subscribed(&[role]);
        options.capabilities.shared_resources = able;
        cluster
            .allocator
            .add_framework(&framework_id("f"), options, true);
        cluster.follower_with("s", bag("cpus:4;mem:100") + &shared_volume());
        let offers = cluster.offers();
        assert_eq!(
            !offers[0].resources.shared().is_empty(),
            sees,
            "{role}, {able}"
        );
    }
}

#[test]
fn a_follower_without_room_offers_no_volume_by_itself() {
    let mut cluster = Cluster::new();
    for id in ["a", "b"] {
        let mut options = subscribed(&["eng"]);
        options.capabilities.shared_resources = true;
        cluster
            .allocator
            .add_framework(&framework_id(id), options, true);
    }
    cluster.follower_with("s", bag("cpus:4;mem:100") + &shared_volume());
    assert_eq!(
        cluster.offers().len(),
        1,
        "all to one; a volume of disk alone is no offer"
    );
}
