//! Disks, volumes, shared and revocable resources, reservation formats on the wire.

use tepui_model::{
    Resources, Scalar,
    resources::{Format, downgrade, parse, upgrade},
};
use tepui_protocol::v1::{
    self, Resource,
    resource::{
        DiskInfo, ReservationInfo,
        disk_info::{Persistence, Source, source},
        reservation_info,
    },
    value,
};

fn disk(size: f64, info: DiskInfo) -> Resource {
    Resource {
        name: "disk".into(),
        scalar: Some(value::Scalar { value: size }),
        disk: Some(Box::new(info)),
        ..Default::default()
    }
}

fn source(kind: source::Type, root: &str) -> DiskInfo {
    let root = Some(root.to_owned());
    let mut source = Source::default();
    source.set_type(kind);
    match kind {
        source::Type::Mount => source.mount = Some(source::Mount { root }),
        source::Type::Path => source.path = Some(source::Path { root }),
        _ => {}
    }
    DiskInfo {
        source: Some(source),
        ..Default::default()
    }
}

fn volume(size: f64, id: &str) -> Resource {
    disk(
        size,
        DiskInfo {
            persistence: Some(Persistence {
                id: id.into(),
                principal: None,
            }),
            ..Default::default()
        },
    )
}

fn bag(resources: &[Resource]) -> Resources {
    Resources::try_from_proto(resources).expect("valid resources of a test")
}

fn reservation(role: &str, kind: reservation_info::Type) -> ReservationInfo {
    ReservationInfo {
        r#type: Some(kind as i32),
        role: Some(role.into()),
        ..Default::default()
    }
}

#[test]
fn path_disks_divide_and_mount_disks_do_not() {
    let path = |size| disk(size, source(source::Type::Path, "/p"));
    assert_eq!(bag(&[path(10.0), path(5.0)]).len(), 1);
    assert!(bag(&[path(10.0)]).contains(&bag(&[path(5.0)])));
    let mount = |size| disk(size, source(source::Type::Mount, "/m"));
    assert_eq!(bag(&[mount(10.0), mount(5.0)]).len(), 2);
    assert!(!bag(&[mount(10.0)]).contains(&bag(&[mount(5.0)])));
    assert_eq!(
        bag(&[mount(10.0)]).checked_sub(&bag(&[mount(10.0)])),
        Some(Resources::new())
    );
    assert!(!bag(&[path(10.0)]).contains(&bag(&[disk(5.0, source(source::Type::Path, "/q"))])));
}

#[test]
fn one_indivisible_disk_does_not_stand_for_two() {
    let mount = || disk(10.0, source(source::Type::Mount, "/m"));
    assert!(!bag(&[mount()]).contains(&bag(&[mount(), mount()])));
    assert!(bag(&[mount(), mount()]).contains(&bag(&[mount(), mount()])));
}

#[test]
fn volumes_are_told_apart_by_their_id_only() {
    let mut mounted = volume(10.0, "v");
    if let Some(info) = &mut mounted.disk {
        info.volume = Some(v1::Volume {
            container_path: "data".into(),
            ..Default::default()
        });
    }
    assert!(bag(&[volume(10.0, "v")]).contains(&bag(&[mounted])));
    assert!(!bag(&[volume(10.0, "v")]).contains(&bag(&[volume(10.0, "w")])));
    assert!(!bag(&[volume(10.0, "v")]).contains(&bag(&[volume(4.0, "v")])));
    assert_eq!(
        bag(&[volume(10.0, "v"), volume(10.0, "w")])
            .persistent_volumes()
            .disk(),
        Scalar::units(20)
    );
}

#[test]
fn shared_volumes_are_counted() {
    let shared = || Resource {
        shared: Some(Default::default()),
        ..volume(10.0, "v")
    };
    let one = bag(&[shared()]);
    let two = bag(&[shared(), shared()]);
    assert_eq!(two.len(), 1);
    assert_eq!(two.iter().next().map(|r| r.copies()), Some(2));
    assert!(two.contains(&one) && !one.contains(&two));
    assert_eq!(two.checked_sub(&one), Some(one.clone()));
    assert_eq!(one.checked_sub(&two), None);
    assert_eq!(two.quantities(), one.quantities(), "it is there once");
    assert_eq!(two.to_proto().len(), 1);
}

#[test]
fn revocable_is_another_kind() {
    let cpus = parse("cpus:2", "*").expect("cpus");
    let both = cpus.to_revocable() + &cpus;
    assert_eq!(both.len(), 2);
    assert_eq!(both.revocable(), cpus.to_revocable());
    assert_eq!(both.non_revocable(), cpus);
}

#[test]
fn resource_providers_keep_their_resources_apart() {
    let mut provided = parse("disk:5", "*").expect("disk").to_proto().remove(0);
    provided.provider_id = Some(v1::ResourceProviderId { value: "p".into() });
    let both = bag(&[provided]) + &parse("disk:5", "*").expect("disk");
    assert_eq!(both.len(), 2);
    assert_eq!(both.iter().next().and_then(|r| r.provider_id()), Some("p"));
}

#[test]
fn reservations_come_in_three_shapes() {
    use reservation_info::Type::{Dynamic, Static};
    let plain = || parse("cpus:2", "*").expect("cpus").to_proto().remove(0);
    let dynamic = ReservationInfo {
        principal: Some("p".into()),
        ..reservation("eng", Dynamic)
    };
    let bare = ReservationInfo {
        principal: Some("p".into()),
        ..Default::default()
    };
    for (stack, role, old, kept_in_pre) in [
        (vec![], Some("*"), None, 0),
        (vec![reservation("eng", Static)], Some("eng"), None, 0),
        (vec![dynamic], Some("eng"), Some(bare), 0),
        (
            vec![reservation("eng", Static), reservation("eng/web", Dynamic)],
            None,
            None,
            2,
        ),
    ] {
        let post = Resource {
            reservations: stack.clone(),
            ..plain()
        };
        let mut endpoint = post.clone();
        downgrade(&mut endpoint, Format::Endpoint);
        assert_eq!(
            (endpoint.role.as_deref(), &endpoint.reservation),
            (role, &old)
        );
        assert_eq!(endpoint.reservations, stack);
        let mut pre = post.clone();
        downgrade(&mut pre, Format::PreRefinement);
        assert_eq!((pre.role.as_deref(), &pre.reservation), (role, &old));
        assert_eq!(pre.reservations.len(), kept_in_pre);
        for mut shape in [endpoint, pre] {
            assert_eq!(bag(&[shape.clone()]), bag(std::slice::from_ref(&post)));
            assert_eq!(bag(&[shape.clone()]).to_proto_as(Format::PreRefinement), {
                let mut pre = post.clone();
                downgrade(&mut pre, Format::PreRefinement);
                vec![pre]
            });
            upgrade(&mut shape);
            assert_eq!(shape, post);
        }
    }
}

#[test]
fn reservations_are_pushed_and_popped() {
    use reservation_info::Type::{Dynamic, Static};
    let cpus = parse("cpus:2", "*").expect("cpus");
    let once = cpus.push_reservation(&reservation("eng", Static));
    assert_eq!(once, parse("cpus(eng):2", "*").expect("cpus"));
    let twice = once.push_reservation(&reservation("eng/web", Dynamic));
    assert_eq!(
        twice.iter().next().and_then(|r| r.reservation_role()),
        Some("eng/web")
    );
    assert!(twice.iter().all(|r| r.is_dynamically_reserved()));
    assert_eq!(twice.pop_reservation(), once);
    assert_eq!(once.pop_reservation(), cpus);
}
