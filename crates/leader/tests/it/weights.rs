//! Weights of roles, as `docs/weights.md` has them.

use crate::{harness::*, tables::*};
use std::collections::BTreeMap;
use tepui_leader::{Config, Effect, RegistryChange, Reply, Via};
use tepui_protocol::{
    internal::{self, registry},
    v1::{self, master},
};

fn weighing(role: &str, weight: f64) -> master::Call {
    call_of(&format!(
        r#"{{"type": "UPDATE_WEIGHTS", "update_weights": {{"weight_infos": [{{"role": "{role}", "weight": {weight}}}]}}}}"#
    ))
}

fn stored(role: &str, weight: f64) -> registry::Weight {
    registry::Weight {
        info: v1::WeightInfo {
            weight,
            role: Some(role.to_owned()),
        },
    }
}

#[test]
fn weights_are_taken_or_refused_as_documented_and_the_next_leader_has_them() {
    let roles = ["eng", "eng/dev", "ops"].map(str::to_owned);
    let config = || Config {
        roles: Some(roles.iter().cloned().collect()),
        ..Config::default()
    };
    let mut cluster = Cluster::with(config(), &internal::Registry::default());
    let changes = run(&mut cluster, include_str!("fixtures/weights.jsonl"), "");
    let before = document(&mut cluster, "weights");
    let registry = registry_after(&changes);
    let mut next = Cluster::after(config(), &registry, cluster.now, 2);
    assert_eq!(document(&mut next, "weights"), before);
}

#[test]
fn the_flag_counts_until_the_registry_has_weights() {
    let config = || Config {
        weights: BTreeMap::from([("a".to_owned(), 2.0), ("b".to_owned(), 0.5)]),
        ..Config::default()
    };
    let mut cluster = Cluster::with(config(), &internal::Registry::default());
    let changes = persisted(&mut cluster);
    let expected =
        [stored("a", 2.0), stored("b", 0.5)].map(|weight| RegistryChange::Weight(weight.info));
    assert_eq!(changes, expected, "the registry hears of them");
    let shown = document(&mut cluster, "weights");
    assert_eq!(shown.as_array().map(Vec::len), Some(2));

    let registry = internal::Registry {
        weights: vec![stored("c", 3.0)],
        ..Default::default()
    };
    let mut cluster = Cluster::with(config(), &registry);
    cluster.nothing_left();
    assert_eq!(
        document(&mut cluster, "weights"),
        serde_json::json!([{"role": "c", "weight": 3.0}])
    );
}

#[test]
fn weights_nobody_could_have_set_are_not_taken_from_a_registry() {
    let registry = internal::Registry {
        weights: vec![stored("a", f64::NAN), stored("b", -1.0), stored("c", 2.0)],
        ..Default::default()
    };
    let mut cluster = Cluster::with(Config::default(), &registry);
    let shown = document(&mut cluster, "weights");
    assert_eq!(shown, serde_json::json!([{"role": "c", "weight": 2.0}]));
}

#[test]
fn offers_are_taken_back_when_the_weight_of_a_role_in_use_changes() {
    let (mut cluster, scheduler, _, offer) = Cluster::offered(in_role("eng"));
    assert_eq!(cluster.operator(weighing("ops", 2.0)), Reply::Ok);
    assert_eq!(rescinded(&mut cluster), Vec::<String>::new());
    assert_eq!(persisted(&mut cluster).len(), 1);

    assert_eq!(cluster.operator(weighing("eng", 2.0)), Reply::Ok);
    assert_eq!(rescinded(&mut cluster), [offer.id.value]);
    let again = |effect: &Effect| {
        matches!(effect, Effect::Event { stream, event }
            if *stream == scheduler.stream && event.offers.is_some())
    };
    assert!(cluster.pending.iter().any(again), "offered anew at once");
    cluster.pending.clear();
    let refused = ask(&mut cluster, weighing("eng", 0.0), Via::Endpoint, None);
    assert!(matches!(refused, Reply::Error { status: 400, .. }));
    cluster.nothing_left();
}
