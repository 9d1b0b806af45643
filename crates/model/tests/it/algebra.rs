//! Addition, subtraction and containment by example.

use std::sync::Arc;
use tepui_model::{
    Quantities, Resources, Scalar,
    resources::{Name, parse},
};

fn bag(text: &str) -> Resources {
    parse(text, "*").expect("resources of a test")
}

#[test]
fn sums_and_differences() {
    for (left, right, sum, difference) in [
        ("cpus:1", "cpus:2", "cpus:3", None),
        (
            "cpus:3;mem:10",
            "cpus:2",
            "cpus:5;mem:10",
            Some("cpus:1;mem:10"),
        ),
        ("cpus:3", "cpus(eng):2", "cpus:3;cpus(eng):2", None),
        (
            "ports:[1-10]",
            "ports:[3-4]",
            "ports:[1-10]",
            Some("ports:[1-2,5-10]"),
        ),
        ("ports:[1-10]", "ports:[9-12]", "ports:[1-12]", None),
        ("zones:{a,b}", "zones:{b}", "zones:{a,b}", Some("zones:{a}")),
        ("cpus:0.1", "cpus:0.1", "cpus:0.2", Some("")),
        ("cpus:0.3", "cpus:0.1", "cpus:0.4", Some("cpus:0.2")),
    ] {
        assert_eq!(&bag(left) + &bag(right), bag(sum), "{left} + {right}");
        assert_eq!(
            bag(left).checked_sub(&bag(right)),
            difference.map(bag),
            "{left} - {right}"
        );
        assert_eq!(
            bag(left).contains(&bag(right)),
            difference.is_some(),
            "{left} contains {right}"
        );
    }
}

#[test]
fn a_failed_subtraction_changes_nothing() {
    let mut resources = bag("cpus:2;mem:10");
    assert!(resources.subtract(&bag("mem:5;cpus:3")).is_err());
    assert_eq!(resources, bag("cpus:2;mem:10"));
    assert_eq!(
        resources.saturating_sub(&bag("mem:5;cpus:3;disk:1")),
        bag("mem:5")
    );
}

#[test]
fn names_and_types_both_tell_resources_apart() {
    let mixed = Resources::from_proto(&[bag("x:1").to_proto(), bag("x:[1-2]").to_proto()].concat());
    assert_eq!(mixed.len(), 2);
    assert!(!mixed.contains(&bag("x:{a}")));
}

#[test]
fn order_does_not_matter() {
    assert_eq!(bag("cpus:1;mem:2"), bag("mem:2;cpus:1"));
    assert_ne!(bag("cpus:1;mem:2"), bag("cpus:1"));
    assert_eq!(bag("cpus:0"), Resources::new());
}

#[test]
fn allocation_marks_tell_resources_apart() {
    let role: Arc<str> = "eng".into();
    let mut both = bag("cpus:1").allocated(&role) + &bag("cpus:2");
    assert_eq!(both.len(), 2);
    assert_eq!(
        both.allocations().get(&role),
        Some(&bag("cpus:1").allocated(&role))
    );
    both.unallocate();
    assert_eq!(both, bag("cpus:3"));
    assert_eq!(both.len(), 1, "what became alike became one");
}

#[test]
fn filters_pick_by_reservation() {
    let all = bag("cpus:1;cpus(eng):2;cpus(eng/web):4;cpus(ops):8");
    assert_eq!(all.unreserved().cpus(), Scalar::units(1));
    assert_eq!(all.reserved(None).cpus(), Scalar::units(14));
    assert_eq!(all.reserved(Some("eng")).cpus(), Scalar::units(2));
    assert_eq!(all.allocatable_to("eng/web").cpus(), Scalar::units(7));
    assert_eq!(all.allocatable_to("eng").cpus(), Scalar::units(3));
    assert_eq!(
        all.reservations().keys().collect::<Vec<_>>(),
        ["eng", "eng/web", "ops"]
    );
    assert_eq!(all.to_unreserved(), bag("cpus:15"));
}

#[test]
fn quantities_forget_everything_but_the_amount() {
    let quantities = bag("cpus:1;cpus(eng):2;mem:10;ports:[1-9]").quantities();
    assert_eq!(quantities.to_string(), "cpus:3; mem:10");
    let wanted: Quantities = [("cpus", Scalar::units(3)), ("ports", Scalar::units(9))]
        .into_iter()
        .collect();
    assert!(bag("cpus:1;cpus(eng):2;ports:[1-9]").contains_quantities(&wanted));
    assert!(!bag("cpus:3;ports:[1-8]").contains_quantities(&wanted));
}

#[test]
fn quantities_stop_at_nothing() {
    let mut left: Quantities = [("cpus", Scalar::units(3))].into_iter().collect();
    left.subtract_all(
        &[("cpus", Scalar::units(5)), ("mem", Scalar::units(1))]
            .into_iter()
            .collect(),
    );
    assert!(left.is_empty());
    left.add(&Name::new("gpus"), Scalar::units(1));
    assert_eq!(left.amount("gpus"), Scalar::units(1));
    assert!(left.contains(&Quantities::new()));
}

#[test]
fn an_object_takes_little_room() {
    assert!(size_of::<tepui_model::Resource>() <= 80);
    assert!(size_of::<Resources>() <= 336);
}
