//! Persistent volumes and the disks they are on (`docs/persistent-volume.md`, `docs/multiple-disk.md`), as offers show them.

use crate::support::*;
use std::{sync::Arc, time::Duration};
use tepui_allocator::Conversion;
use tepui_model::Resources;
use tepui_protocol::v1::{
    self,
    resource::{DiskInfo, disk_info::Persistence},
};

/// 10 units of disk of eng, with a volume or without.
fn disk(volume: Option<&str>) -> Resources {
    let persistence = |id: &str| DiskInfo {
        persistence: Some(Persistence {
            id: id.into(),
            principal: None,
        }),
        volume: Some(v1::Volume {
            container_path: "data".into(),
            ..Default::default()
        }),
        ..Default::default()
    };
    let disk = v1::Resource {
        name: "disk".into(),
        scalar: Some(v1::value::Scalar { value: 10.0 }),
        disk: volume.map(|id| Box::new(persistence(id))),
        reservations: vec![dynamic("eng")],
        ..Default::default()
    };
    Resources::try_from_proto(&[disk]).expect("valid")
}

fn convert(cluster: &mut Cluster, consumed: &Resources, converted: &Resources) {
    let role: Arc<str> = "eng".into();
    let conversion = Conversion {
        consumed: consumed.clone().allocated(&role),
        converted: converted.clone().allocated(&role),
    };
    let (f, s) = (framework_id("f"), follower_id("s"));
    let done = cluster
        .allocator
        .update_allocation(&f, &s, "eng", &[conversion]);
    done.expect("it holds that");
    cluster.allocator.check();
}

#[test]
fn a_volume_is_offered_in_place_of_its_disk_from_create_to_destroy() {
    let mut cluster = Cluster::new();
    cluster.framework("f", &["eng"]);
    let rest = bag("cpus:1;mem:64");
    cluster.follower_with("s", rest.clone() + &disk(None));
    let (mut before, volume) = (disk(None), disk(Some("v")));
    // What the framework does with its offer, and what the next one shows.
    for after in [&volume, &volume, &disk(None)] {
        let offer = cluster.offers().remove(0);
        assert_eq!(
            offer.resources.clone().unallocated(),
            rest.clone() + &before
        );
        if *after != before {
            convert(&mut cluster, &before, after);
        }
        let all = (rest.clone() + after).allocated(&offer.role);
        let (f, s) = (framework_id("f"), follower_id("s"));
        cluster.allocator.recover(&f, &s, &all, None, cluster.now);
        before = after.clone();
    }
    assert_eq!(cluster.offers().len(), 1);
}

#[test]
fn volumes_go_to_whoever_has_the_role_once_their_framework_is_gone() {
    for (role, sees) in [("eng", true), ("eng/web", true), ("sales", false)] {
        let mut cluster = Cluster::new();
        cluster.framework("f", &["eng"]);
        cluster.follower_with("s", bag("cpus:1;mem:64") + &disk(Some("v")));
        assert_eq!(cluster.offers().len(), 1);
        cluster.allocator.remove_framework(&framework_id("f"));
        cluster.framework("next", &[role]);
        let offers = cluster.offers();
        let volumes = offers[0].resources.persistent_volumes();
        assert_eq!(!volumes.is_empty(), sees, "{role}");
    }
}

#[test]
fn a_refused_disk_is_no_refused_volume() {
    let mut cluster = Cluster::new();
    cluster.framework("f", &["eng"]);
    cluster.follower_with("s", bag("cpus:1;mem:64") + &disk(None));
    let offer = cluster.offers().remove(0);
    cluster.decline(&offer, 3600.0);
    assert!(cluster.offers().is_empty());
    let conversion = Conversion {
        consumed: disk(None),
        converted: disk(Some("v")),
    };
    let done = cluster
        .allocator
        .update_available(&follower_id("s"), &[conversion]);
    done.expect("it is free");
    assert_eq!(cluster.offers().len(), 1, "the operator made a volume");
    cluster.now = cluster.now + Duration::from_secs(1);
    assert!(cluster.offers().is_empty());
}

#[test]
fn disks_of_each_kind_are_told_apart() {
    let text = r#"[
        {"name":"cpus","type":"SCALAR","scalar":{"value":1}},
        {"name":"disk","type":"SCALAR","scalar":{"value":100}},
        {"name":"disk","type":"SCALAR","scalar":{"value":200},"disk":{"source":{"type":"PATH","path":{"root":"/p"}}}},
        {"name":"disk","type":"SCALAR","scalar":{"value":300},"disk":{"source":{"type":"MOUNT","mount":{"root":"/a"}}}},
        {"name":"disk","type":"SCALAR","scalar":{"value":300},"disk":{"source":{"type":"MOUNT","mount":{"root":"/b"}}}}
    ]"#;
    let mut cluster = Cluster::new();
    cluster.framework("f", &["*"]);
    cluster.follower("s", text);
    let offer = cluster.offers().remove(0);
    assert_eq!(offer.resources.len(), 5);
    // A part of the PATH disk and one MOUNT disk are used; the other parts are offered again.
    let used = |r: &tepui_model::Resource| match r.as_scalar() {
        Some(amount) if amount == tepui_model::Scalar::units(300) => r.disk().is_some_and(|disk| {
            disk.source.as_ref().is_some_and(|s| {
                s.mount
                    .as_ref()
                    .is_some_and(|m| m.root.as_deref() == Some("/a"))
            })
        }),
        _ => false,
    };
    let kept = offer.resources.filter(used);
    assert_eq!(kept.len(), 1);
    let rest = offer.resources.checked_sub(&kept).expect("a part");
    let (f, s) = (framework_id("f"), follower_id("s"));
    cluster.allocator.recover(&f, &s, &rest, None, cluster.now);
    assert_eq!(cluster.offers()[0].resources, rest);
}
