//! Reservations: for a role and those below it, static or dynamic, refined or not (`docs/reservation.md`; for roles below
//! others `docs/roles.md`; for the quota they count against `docs/quota.md`).

use crate::support::*;
use std::sync::Arc;
use tepui_allocator::Conversion;
use tepui_model::{Resources, Scalar, resources::Name};
use tepui_protocol::v1;

/// For whom the reservations of a stack are, the outermost first; who sees them, if it understands refined ones and if not.
struct Case {
    stack: &'static [&'static str],
    role: &'static str,
    refines: bool,
    plain: bool,
}

#[test]
fn who_sees_a_reservation() {
    let case = |stack, role, refines, plain| Case {
        stack,
        role,
        refines,
        plain,
    };
    let cases = [
        case(&[][..], "eng", true, true),
        case(&["eng"][..], "eng", true, true),
        case(&["eng"][..], "eng/web", true, true),
        case(&["eng"][..], "eng/web/front", true, true),
        case(&["eng"][..], "engineering", false, false),
        case(&["eng"][..], "sales", false, false),
        case(&["eng"][..], "*", false, false),
        case(&["eng/web"][..], "eng", false, false),
        case(&["eng/web"][..], "eng/db", false, false),
        // The innermost counts.
        case(&["eng", "eng/web"][..], "eng/web", true, false),
        case(&["eng", "eng/web"][..], "eng/web/front", true, false),
        case(&["eng", "eng/web"][..], "eng", false, false),
        case(
            &["eng", "eng/web", "eng/web/front"][..],
            "eng/web",
            false,
            false,
        ),
    ];
    for Case {
        stack,
        role,
        refines,
        plain,
    } in cases
    {
        for (able, expected) in [(true, refines), (false, plain)] {
            let mut cluster = Cluster::new();
            let mut options = subscribed(&[role]);
            options.capabilities.reservation_refinement = able;
            cluster
                .allocator
                .add_framework(&framework_id("f"), options, true);
            let reserve = |bag: Resources, role: &&str| bag.push_reservation(&dynamic(role));
            cluster.follower_with("s", stack.iter().fold(bag("cpus:2"), reserve));
            assert_eq!(
                cluster.offers().len(),
                usize::from(expected),
                "{stack:?} to {role}, refines: {able}"
            );
        }
    }
}

#[test]
fn reservations_that_differ_in_labels_are_different_things() {
    let leased = |value: &str| {
        let label = v1::Label {
            key: "lease".into(),
            value: Some(value.into()),
        };
        let reservation = v1::resource::ReservationInfo {
            labels: Some(v1::Labels {
                labels: vec![label],
            }),
            ..dynamic("eng")
        };
        bag("cpus:1").push_reservation(&reservation)
    };
    let mut cluster = Cluster::new();
    cluster.framework("f", &["eng"]);
    cluster.follower_with("s", leased("1") + &leased("2"));
    let offer = cluster.offers().remove(0);
    assert_eq!(offer.resources.len(), 2);
    // One of them is refused; both together are more than that.
    let role: Arc<str> = "eng".into();
    let one = leased("1").allocated(&role);
    let hour = std::time::Duration::from_secs(3600);
    let (f, s) = (framework_id("f"), follower_id("s"));
    cluster
        .allocator
        .recover(&f, &s, &one, Some(hour), cluster.now);
    assert!(cluster.offers().is_empty());
    cluster
        .allocator
        .recover(&f, &s, &leased("2").allocated(&role), None, cluster.now);
    assert_eq!(cluster.offers().len(), 1);
}

#[test]
fn reserved_resources_take_part_in_fair_sharing_when_they_are_held_only() {
    let mut cluster = Cluster::new();
    cluster.framework("eng", &["eng"]);
    cluster.framework("sales", &["sales"]);
    // Eng gets what is reserved to it, and is behind for all that is not.
    cluster.follower("reserved", "cpus(eng):4;mem(eng):400");
    assert_eq!(cluster.offers().len(), 1);
    for s in ["s1", "s2", "s3", "s4"] {
        cluster.follower(s, "cpus:1;mem:100");
        let offers = cluster.offers();
        assert_eq!(offers[0].framework, framework_id("sales"), "{s}");
    }
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

#[test]
fn what_is_reserved_is_offered_though_limits_are_reached() {
    let mut cluster = Cluster::new();
    let limits = [("cpus", Scalar::units(4)), ("mem", Scalar::units(100))];
    let quota = tepui_model::Quota {
        limits: limits.into_iter().collect(),
        ..Default::default()
    };
    cluster.allocator.update_quota(&Arc::from("eng"), quota);
    cluster.framework("f", &["eng/web"]);
    // Reserved for the role above: that counts already, and the limit leaves nothing else.
    cluster.follower("s", "cpus(eng):4;mem(eng):100;cpus:8;mem:800");
    let offers = cluster.offers();
    assert_eq!(offers.len(), 1);
    assert!(offers[0].resources.unreserved().is_empty(), "{offers:?}");
}
