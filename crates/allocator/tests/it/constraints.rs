//! Offer constraints (`docs/scheduler-http-api.md`, "Offer constraints";
//! `src/tests/master/offer_constraints_filter_tests.cpp`).

use crate::support::*;
use std::sync::Arc;
use tepui_allocator::{ConstraintLimits, Constraints, FollowerInfo, FrameworkOptions, Traits};
use tepui_model::attributes::Attributes;
use tepui_protocol::v1::scheduler::{
    AttributeConstraint, OfferConstraints,
    attribute_constraint::{
        Predicate, Selector,
        predicate::{
            self, Exists, NotExists, TextEquals, TextMatches, TextNotEquals, TextNotMatches,
        },
        selector::{self, PseudoattributeType},
    },
    offer_constraints::{RoleConstraints, role_constraints::Group},
};

/// `rack = a`, `rack ~ a.*`, `HOSTNAME != x`, `rack`, `!rack`; a group between `&`, groups between `|`.
fn constraints(text: &str) -> RoleConstraints {
    let one = |text: &str| -> AttributeConstraint {
        let words: Vec<&str> = text.split_whitespace().collect();
        let (name, predicate) = match words.as_slice() {
            [name, "=", value] => (*name, equals(value)),
            [name, "!=", value] => (*name, not_equals(value)),
            [name, "~", regex] => (*name, matches(regex)),
            [name, "!~", regex] => (*name, not_matches(regex)),
            [name] => match name.strip_prefix('!') {
                Some(name) => (name, predicate::Predicate::NotExists(NotExists {})),
                None => (*name, predicate::Predicate::Exists(Exists {})),
            },
            _ => panic!("no constraint: {text}"),
        };
        let pseudo = |kind| selector::Selector::PseudoattributeType(kind as i32);
        let selector = match name {
            "HOSTNAME" => pseudo(PseudoattributeType::Hostname),
            "REGION" => pseudo(PseudoattributeType::Region),
            "ZONE" => pseudo(PseudoattributeType::Zone),
            "UNKNOWN" => pseudo(PseudoattributeType::Unknown),
            name => selector::Selector::AttributeName(name.into()),
        };
        AttributeConstraint {
            selector: Selector {
                selector: Some(selector),
            },
            predicate: Predicate {
                predicate: Some(predicate),
            },
        }
    };
    let group = |text: &str| Group {
        attribute_constraints: text
            .split('&')
            .map(str::trim)
            .filter(|t| !t.is_empty())
            .map(one)
            .collect(),
    };
    RoleConstraints {
        groups: text
            .split('|')
            .map(str::trim)
            .filter(|t| *t != "none")
            .map(group)
            .collect(),
    }
}

fn equals(value: &str) -> predicate::Predicate {
    predicate::Predicate::TextEquals(TextEquals {
        value: value.into(),
    })
}
fn not_equals(value: &str) -> predicate::Predicate {
    predicate::Predicate::TextNotEquals(TextNotEquals {
        value: value.into(),
    })
}
fn matches(regex: &str) -> predicate::Predicate {
    predicate::Predicate::TextMatches(TextMatches {
        regex: regex.into(),
    })
}
fn not_matches(regex: &str) -> predicate::Predicate {
    predicate::Predicate::TextNotMatches(TextNotMatches {
        regex: regex.into(),
    })
}

pub(crate) fn compiled(text: &str) -> Arc<Constraints> {
    Arc::new(Constraints::new(&constraints(text), &ConstraintLimits::default()).expect(text))
}

pub(crate) fn traits(
    hostname: &str,
    attributes: &str,
    region: Option<&str>,
    zone: Option<&str>,
) -> Arc<Traits> {
    Arc::new(Traits {
        hostname: hostname.into(),
        attributes: Arc::new(Attributes::parse(attributes).expect("attributes")),
        region: region.map(Arc::from),
        zone: zone.map(Arc::from),
    })
}

#[test]
fn followers_are_admitted_when_one_group_holds_as_a_whole() {
    let full = traits(
        "node-1.eu",
        "rack:a;cores:8;rack:b",
        Some("eu"),
        Some("eu-1"),
    );
    let bare = traits("node-2", "", None, None);
    // Constraints; whether the full one will do, whether the bare one will.
    let cases = [
        ("rack", true, false),
        ("!rack", false, true),
        // The first of a name counts.
        ("rack = a", true, false),
        ("rack = b", false, false),
        ("rack != a", false, true),
        ("rack ~ [ab]", true, false),
        ("rack !~ [ab]", false, true),
        // Tests on texts say nothing of other types.
        ("cores", true, false),
        ("cores = 9", true, false),
        ("cores != 8", true, true),
        ("cores ~ x", true, false),
        ("HOSTNAME ~ node-\\d+", false, true),
        ("HOSTNAME ~ node-\\d+\\..*", true, false),
        ("HOSTNAME = node-2", false, true),
        ("REGION = eu", true, false),
        ("!REGION", false, true),
        ("ZONE !~ eu-.*", false, true),
        ("rack = a & REGION = us", false, false),
        ("rack = a & REGION = eu", true, false),
        ("rack = z | !ZONE", false, true),
        ("rack = z & ZONE | rack & ZONE", true, false),
    ];
    for (text, for_full, for_bare) in cases {
        let constraints = compiled(text);
        assert_eq!(constraints.admit(&full), for_full, "{text}");
        assert_eq!(constraints.admit(&bare), for_bare, "{text}");
    }
}

#[test]
fn what_is_wrong_is_told_in_the_words_of_the_reference() {
    let cases = [
        (
            "none",
            "'OfferConstraints::role_constraints' has an empty 'RoleConstraints::groups' for role web",
        ),
        (
            "rack | ",
            "'OfferConstraints::RoleConstraints::groups' for role webcontains an empty RoleConstraints::Group",
        ),
        (
            "UNKNOWN = a",
            "A role web has an invalid 'AttributeConstraint': Unknown pseudoattribute type",
        ),
        (
            "rack ~ (",
            "A role web has an invalid 'AttributeConstraint': Failed to construct regex from pattern '(': missing ): (",
        ),
    ];
    for (text, expected) in cases {
        let all = OfferConstraints {
            role_constraints: [("web".to_owned(), constraints(text))]
                .into_iter()
                .collect(),
        };
        let error = Constraints::of_roles(&all, &ConstraintLimits::default()).expect_err(text);
        assert_eq!(error, expected);
    }
}

fn wants(role: &str, text: &str) -> FrameworkOptions {
    FrameworkOptions {
        offer_constraints: [(Arc::from(role), compiled(text))].into(),
        ..subscribed(&["web", "batch"])
    }
}

#[test]
fn constraints_of_a_role_exclude_followers_for_it_alone() {
    let mut cluster = Cluster::new();
    for (id, rack) in [("s1", "rack:a"), ("s2", "rack:b")] {
        let info = FollowerInfo {
            traits: traits(id, rack, None, None),
            ..of("cpus:1;mem:100")
        };
        cluster.allocator.add_follower(&follower_id(id), info, &[]);
    }
    cluster
        .allocator
        .add_framework(&framework_id("f"), wants("web", "rack = a"), true);
    cluster
        .allocator
        .suppress(&framework_id("f"), &roles(&["batch"]));
    assert_eq!(cluster.offered(), ["f/web@s1 cpus:1; mem:100"]);
    // Looser constraints are looked at at once.
    let mut options = wants("web", "rack");
    options.suppressed_roles = roles(&["batch"]);
    cluster
        .allocator
        .update_framework(&framework_id("f"), options);
    assert_eq!(cluster.offered(), ["f/web@s2 cpus:1; mem:100"]);
}

#[test]
fn attributes_that_change_let_a_follower_in() {
    let mut cluster = Cluster::new();
    let info = |rack: &str| FollowerInfo {
        traits: traits("s", rack, None, None),
        ..of("cpus:1;mem:100")
    };
    cluster
        .allocator
        .add_follower(&follower_id("s"), info("rack:b"), &[]);
    let options = FrameworkOptions {
        roles: roles(&["web"]),
        ..wants("web", "rack = a")
    };
    cluster
        .allocator
        .add_framework(&framework_id("f"), options, true);
    assert_eq!(cluster.offered(), [""; 0]);
    cluster
        .allocator
        .update_follower(&follower_id("s"), info("rack:a"), true);
    assert_eq!(cluster.offered(), ["f/web@s cpus:1; mem:100"]);
}

#[test]
fn hosts_off_the_allow_list_are_not_offered() {
    let mut cluster = Cluster::new();
    let only = |hosts: &[&str]| Some(hosts.iter().map(|host| (*host).to_owned()).collect());
    cluster.allocator.set_allow_list(only(&["one"]));
    for id in ["one", "two"] {
        let info = FollowerInfo {
            traits: traits(id, "", None, None),
            ..of("cpus:1;mem:100")
        };
        cluster.allocator.add_follower(&follower_id(id), info, &[]);
    }
    cluster.framework("f", &["*"]);
    assert_eq!(cluster.offered(), ["f/*@one cpus:1; mem:100"]);
    cluster.allocator.set_allow_list(only(&["two"]));
    cluster.allocator.check();
    assert_eq!(cluster.offered(), ["f/*@two cpus:1; mem:100"]);
    cluster.allocator.set_allow_list(None);
    cluster.allocator.check();
    assert_eq!(cluster.offered(), [""; 0]);
}
