//! What would happen if something were otherwise: followers more or less, quotas, weights, demand.

use crate::support::{Cluster, bag, follower_id};
use tepui_allocator::trial::{Change, ChangeError, Demand, Kind, Outcome, Simulation, Trial};
use tepui_model::{Quantities, Quota, Rng, Scalar};

fn amounts(text: &str) -> Quantities {
    bag(text).quantities()
}

fn cluster(followers: usize) -> Cluster {
    let mut cluster = Cluster::new();
    for i in 0..followers {
        cluster.follower(&format!("s{i}"), "cpus:4;mem:4000");
    }
    cluster
}

/// With the offers that go out now; once for each cluster.
fn simulate(cluster: &mut Cluster, simulation: &Simulation) -> Result<Outcome, ChangeError> {
    let offers = cluster.offers();
    let snapshot = cluster.allocator.snapshot();
    let outcome = Trial::new(snapshot, offers, cluster.now, Rng::seed(5)).simulate(simulation);
    assert!(
        cluster.offers().is_empty(),
        "the cluster itself is as it was"
    );
    outcome
}

fn tasks(role: &str, each: &str, count: u32) -> Demand {
    Demand {
        role: role.into(),
        each: amounts(each),
        count,
        capabilities: Default::default(),
    }
}

#[test]
fn demand_is_placed_where_it_fits_and_the_rest_explained() {
    let idle_cluster = || {
        let mut cluster = cluster(3);
        cluster.framework("f", &["a"]);
        cluster
    };
    let mut cluster = idle_cluster();
    let simulation = Simulation {
        changes: Vec::new(),
        demands: vec![tasks("b", "cpus:3;mem:100", 5)],
    };
    let outcome = simulate(&mut cluster, &simulation).expect("possible");
    let placed = &outcome.placed[0];
    assert_eq!(placed.placed(), 3, "one on each");
    let why = placed.why.as_ref().expect("two did not fit");
    assert!(why.is_blocked());
    assert!(why.findings.iter().all(|f| f.cause.kind() == Kind::InUse));
    let more = Change::AddFollowers {
        count: 2,
        total: bag("cpus:4;mem:4000"),
        traits: Default::default(),
    };
    let simulation = Simulation {
        changes: vec![more],
        ..simulation
    };
    let mut cluster = idle_cluster();
    let outcome = simulate(&mut cluster, &simulation).expect("possible");
    assert_eq!(outcome.placed[0].placed(), 5);
    assert_eq!(outcome.placed[0].why, None);
    assert_eq!((outcome.before.followers, outcome.after.followers), (3, 5));
}

#[test]
fn demand_stays_within_quota() {
    let mut cluster = cluster(4);
    let quota = Quota {
        limits: [("cpus", Scalar::units(5))].into_iter().collect(),
        ..Default::default()
    };
    let simulation = Simulation {
        changes: vec![Change::SetQuota {
            role: "b".into(),
            quota,
        }],
        demands: vec![
            tasks("b", "cpus:1;mem:10", 16),
            tasks("c", "cpus:1;mem:10", 16),
        ],
    };
    let outcome = simulate(&mut cluster, &simulation).expect("possible");
    assert_eq!(outcome.placed[0].placed(), 5);
    assert_eq!(outcome.placed[1].placed(), 11, "what is left");
}

#[test]
fn weights_move_what_is_offered() {
    let mut cluster = cluster(60);
    cluster.framework("f", &["a"]);
    cluster.framework("g", &["b"]);
    let simulation = Simulation {
        changes: vec![Change::SetWeight {
            role: "a".into(),
            weight: 2.0,
        }],
        demands: Vec::new(),
    };
    let outcome = simulate(&mut cluster, &simulation).expect("possible");
    let share = |picture: &tepui_allocator::trial::Picture, role: &str| picture.roles[role].share;
    assert_eq!(share(&outcome.before, "a"), 0.5);
    assert_eq!(share(&outcome.after, "a"), 2.0 / 3.0);
    assert_eq!(share(&outcome.after, "b"), 1.0 / 3.0);
}

#[test]
fn a_follower_less_is_less_for_everybody() {
    let mut cluster = cluster(2);
    cluster.framework("f", &["a"]);
    let simulation = Simulation {
        changes: vec![Change::RemoveFollower(follower_id("s0"))],
        demands: Vec::new(),
    };
    let outcome = simulate(&mut cluster, &simulation).expect("possible");
    assert_eq!(outcome.before.total, amounts("cpus:8;mem:8000"));
    assert_eq!(outcome.after.total, amounts("cpus:4;mem:4000"));
    let simulation = Simulation {
        changes: vec![Change::RemoveFollower(follower_id("s9"))],
        demands: Vec::new(),
    };
    assert_eq!(
        simulate(&mut cluster, &simulation),
        Err(ChangeError::UnknownFollower(follower_id("s9")))
    );
}
