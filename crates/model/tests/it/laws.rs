//! Laws that hold for all resources, attributes and units.

use proptest::prelude::*;
use std::time::Duration;
use tepui_model::{
    Attributes, Resources,
    resources::{Format, parse},
    units::{self, Bytes},
    values::{Range, Ranges},
};

fn object() -> impl Strategy<Value = String> {
    let role = prop_oneof![Just(""), Just("(a)"), Just("(a/b)"), Just("(c)")];
    let ranges = prop::collection::vec((0..60u64, 0..9u64), 1..4).prop_map(|pairs| {
        let texts: Vec<String> = pairs
            .iter()
            .map(|(begin, more)| format!("{begin}-{}", begin + more))
            .collect();
        format!("ports{{}}:[{}]", texts.join(","))
    });
    let set = prop::collection::btree_set("[a-e]", 1..4).prop_map(|items| {
        format!(
            "zones{{}}:{{{}}}",
            items.into_iter().collect::<Vec<_>>().join(",")
        )
    });
    let scalar = (
        prop_oneof![Just("cpus"), Just("mem"), Just("licences")],
        1..100_000i64,
    )
        .prop_map(|(name, millis)| format!("{name}{{}}:{}", millis as f64 / 1000.0));
    (prop_oneof![3 => scalar, 2 => ranges, 1 => set], role)
        .prop_map(|(text, role)| text.replacen("{}", role, 1))
}

fn bag() -> impl Strategy<Value = Resources> {
    prop::collection::vec(object(), 0..8)
        .prop_map(|texts| parse(&texts.join(";"), "*").expect("generated text"))
}

/// No two ranges or sets of the first overlap with those of the second.
fn disjoint(a: &Resources, b: &Resources) -> bool {
    let rest = (a + b).checked_sub(b);
    rest.as_ref() == Some(a)
}

fn is_scalar_only(resources: &Resources) -> bool {
    resources.scalars() == *resources
}

proptest! {
    #[test]
    fn the_wire_keeps_everything(a in bag()) {
        for format in [Format::PostRefinement, Format::PreRefinement, Format::Endpoint] {
            prop_assert_eq!(&Resources::try_from_proto(&a.to_proto_as(format)).unwrap(), &a);
        }
    }

    #[test]
    fn unreserved_texts_read_back(a in bag()) {
        let a = a.to_unreserved();
        let text = if a.is_empty() { String::new() } else { a.to_string() };
        prop_assert_eq!(parse(&text, "*").unwrap(), a);
    }

    #[test]
    fn addition_commutes_and_associates(a in bag(), b in bag(), c in bag()) {
        prop_assert_eq!(&a + &b, &b + &a);
        prop_assert_eq!(&(&a + &b) + &c, &a + &(&b + &c));
        prop_assert_eq!(&a + &Resources::new(), a);
    }

    #[test]
    fn what_was_added_can_be_taken_away(a in bag(), b in bag()) {
        let sum = &a + &b;
        prop_assert!(sum.contains(&a) && sum.contains(&b));
        prop_assert!(sum.checked_sub(&b).is_some());
        if is_scalar_only(&b) {
            prop_assert!(disjoint(&a, &b));
        }
    }

    #[test]
    fn what_was_taken_away_can_be_added(a in bag(), b in bag()) {
        match a.checked_sub(&b) {
            Some(rest) => {
                prop_assert!(a.contains(&b));
                prop_assert_eq!(&(&rest + &b), &a);
            }
            None => prop_assert!(!a.contains(&b)),
        }
        let less = a.saturating_sub(&b);
        prop_assert!(a.contains(&less));
    }

    #[test]
    fn containment_is_an_order(a in bag(), b in bag()) {
        prop_assert!(a.contains(&a));
        prop_assert_eq!(a.contains(&b) && b.contains(&a), a == b);
        prop_assert_eq!(a.checked_sub(&a), Some(Resources::new()));
    }

    #[test]
    fn parts_make_the_whole(a in bag()) {
        prop_assert_eq!(&a.unreserved() + &a.reserved(None), a.clone());
        let by_role = a.reservations().into_values().fold(a.unreserved(), |sum, part| sum + &part);
        prop_assert_eq!(by_role, a.clone());
        prop_assert_eq!(a.to_unreserved().quantities(), a.quantities());
        let role = "x".into();
        prop_assert_eq!(a.clone().allocated(&role).unallocated(), a);
    }

    #[test]
    fn ranges_behave_as_sets_of_numbers(a in numbers(), b in numbers()) {
        let (left, right) = (ranges(&a), ranges(&b));
        prop_assert_eq!(left.union(&right), ranges(&(&a | &b)));
        prop_assert_eq!(left.difference(&right), ranges(&(&a - &b)));
        prop_assert_eq!(left.contains(&right), a.is_superset(&b));
        prop_assert_eq!(left.count(), a.len() as u64);
    }

    #[test]
    fn attributes_read_back(pairs in prop::collection::vec(("[a-z_]{1,8}", value()), 0..6)) {
        let text: Vec<String> = pairs.iter().map(|(name, value)| format!("{name}:{value}")).collect();
        let attributes = Attributes::parse(&text.join(";")).unwrap();
        prop_assert_eq!(Attributes::parse(&attributes.to_string()).unwrap(), attributes);
    }

    #[test]
    fn no_text_makes_a_parser_panic(text in "\\PC{0,40}") {
        let _ = parse(&text, "*");
        let _ = Attributes::parse(&text);
        let _ = units::parse_duration(&text);
        let _ = text.parse::<Bytes>();
    }

    #[test]
    fn bytes_read_back(n in any::<u64>()) {
        prop_assert_eq!(Bytes(n).to_string().parse(), Ok(Bytes(n)));
    }

    #[test]
    fn durations_of_milliseconds_read_back(n in 0..1_000_000_000u64) {
        let duration = Duration::from_millis(n);
        let back = units::parse_duration(&units::format_duration(duration)).unwrap();
        let off = back.abs_diff(duration);
        prop_assert!(off <= Duration::from_micros(1), "{duration:?} came back as {back:?}");
    }
}

fn numbers() -> impl Strategy<Value = std::collections::BTreeSet<u64>> {
    prop::collection::btree_set(0..40u64, 0..30)
}

fn ranges(numbers: &std::collections::BTreeSet<u64>) -> Ranges {
    Ranges::new(
        numbers
            .iter()
            .map(|n| Range { begin: *n, end: *n })
            .collect(),
    )
}

fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z][a-z0-9.:/-]{0,10}",
        (0..1_000_000i64).prop_map(|n| (n as f64 / 1000.0).to_string()),
        (0..50u64, 0..50u64).prop_map(|(a, b)| format!("[{a}-{}]", a + b)),
    ]
}
