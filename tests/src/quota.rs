//! Random launches under quota limits: frameworks in a tree of roles take all they are offered and kill tasks at random, and no
//! role is ever seen to hold more than it may.
//!
//! Seen at every event, from what the frameworks were told: tasks that nobody asked to be killed, and offers that are out.
//! Seen in `/roles` again and again: what the leader itself counts, in one picture of it. And seen at the end of each round, when
//! no end is awaited and the limit is reached to the last thousandth: both must come to the same.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::churn::{Amount, Churn, Sizes};
use crate::cluster::{Cluster, Part};
use crate::emulator::Emulator;
use crate::http::{Request, send};
use crate::wait::eventually;

const PATIENCE: Duration = Duration::from_secs(60);

/// How many followers there are, and what each has: many times what the limits allow.
const FOLLOWERS: usize = 60;
const RESOURCES: &str = "--resources=cpus:8;mem:4096";

/// What roles may have at the most, with all below them. Processors are a multiple of the smallest task, so that they can be
/// used up.
const LIMITS: [(&str, Amount); 3] = [
    (
        "a",
        Amount {
            cpus: 100_000,
            mem: 5_300,
        },
    ),
    (
        "a/b",
        Amount {
            cpus: 20_000,
            mem: 100_000,
        },
    ),
    (
        "a/c/d",
        Amount {
            cpus: 100_000,
            mem: 900,
        },
    ),
];

/// The frameworks, by their roles.
const FRAMEWORKS: [&[&str]; 6] = [
    &["a"],
    &["a/b"],
    &["a/c"],
    &["a/b", "a/c"],
    &["a/c/d"],
    &["a", "a/b", "a/c", "a/c/d"],
];

const SIZES: Sizes = Sizes {
    least: Amount { cpus: 50, mem: 1 },
    most: Amount {
        cpus: 3_000,
        mem: 150,
    },
    step: Amount { cpus: 50, mem: 1 },
};

/// So many events from one look at `/roles` to the next.
const LOOK_EVERY: usize = 10;

/// What random launches showed.
#[derive(Debug, Clone, Default)]
pub struct Figures {
    /// Tasks launched.
    pub launched: usize,
    /// Times at which the topmost limit was reached exactly.
    pub rounds: usize,
    /// Rounds in which it was the limit of memory that was reached.
    pub by_memory: usize,
    /// Events at which what is held was added up.
    pub events: usize,
    /// Looks at what the leader counts.
    pub looks: usize,
    /// The most that the leader was seen to count for each role.
    pub most: Vec<(&'static str, Amount, Amount)>,
    /// How long it took.
    pub elapsed: Duration,
}

/// Whether `role` is `above` or somewhere below it.
fn within(role: &str, above: &str) -> bool {
    role.strip_prefix(above)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Launches tasks until there were so many.
///
/// # Panics
/// When a role holds more than its limit.
pub fn random_launches(launches: usize, seed: u64) -> Figures {
    let cluster = Cluster::builder()
        .only(Part::Leader)
        // What is not taken of an offer is back soon, and what has no room for a task is not offered.
        .leader_flag("allocation_interval", "5ms")
        .leader_flag("min_allocatable_resources", "cpus:0.05;mem:1")
        .start();
    set_limits(cluster.leader);
    let emulator = Emulator::start(cluster.leader, FOLLOWERS, &[RESOURCES]);
    emulator.all_registered(PATIENCE);
    let mut churn = Churn::new(SIZES, seed);
    for roles in FRAMEWORKS {
        churn.subscribe(cluster.leader, roles);
    }
    let started = Instant::now();
    let mut figures = Figures {
        most: LIMITS
            .map(|(role, limit)| (role, Amount::default(), limit))
            .to_vec(),
        ..Figures::default()
    };
    let mut percent = 10;
    loop {
        fill(&cluster, &mut churn, &mut figures);
        figures.launched = churn.launched;
        if churn.launched >= launches {
            break;
        }
        // From a few to nearly all of them.
        churn.kill_some(percent);
        percent = (percent + 17) % 90 + 5;
    }
    figures.elapsed = started.elapsed();
    let report = emulator.stop();
    assert_eq!(report["tasks"], json!(churn.launched), "{report}");
    figures
}

fn set_limits(leader: SocketAddr) {
    let configs: Vec<Value> = LIMITS
        .iter()
        .map(|(role, limit)| {
            json!({"role": role, "limits": {
                "cpus": {"value": limit.cpus as f64 / 1_000.0}, "mem": {"value": limit.mem},
            }})
        })
        .collect();
    let call = json!({"type": "UPDATE_QUOTA", "update_quota": {"quota_configs": configs}});
    let answer = send(leader, &Request::post_json("/api/v1", &call)).expect("the leader answers");
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// Goes on until the topmost limit is reached and no end is awaited.
fn fill(cluster: &Cluster, churn: &mut Churn, figures: &mut Figures) {
    let (top, limit) = LIMITS[0];
    loop {
        churn.step(check);
        figures.events += 1;
        if figures.events.is_multiple_of(LOOK_EVERY) {
            look(cluster, figures);
        }
        let held = churn.running(|task| within(&task.role, top));
        if !churn.awaits_ends() && (held.cpus == limit.cpus || held.mem == limit.mem) {
            figures.rounds += 1;
            figures.by_memory += usize::from(held.mem == limit.mem);
            break;
        }
    }
    // The leader counts the same for every role once it has done what it was told.
    let same = || {
        let counted = look(cluster, figures);
        LIMITS
            .iter()
            .zip(counted)
            .all(|((role, _), counted)| counted == churn.running(|task| within(&task.role, role)))
    };
    assert!(
        eventually(PATIENCE, same),
        "{:?} and {}",
        LIMITS.map(|(role, _)| churn.running(|task| within(&task.role, role))),
        cluster.json("/roles")
    );
}

/// What frameworks know of.
fn check(churn: &Churn) {
    for (role, limit) in LIMITS {
        let (mut held, offered) = (
            churn.running(|task| within(&task.role, role)),
            churn.offered(|offered| within(offered, role)),
        );
        held += offered;
        assert!(held.fits(limit), "{role} has {held:?} of {limit:?}");
    }
}

/// What the leader says that counts for each role; none may be beyond its limit, not even with what is offered.
fn look(cluster: &Cluster, figures: &mut Figures) -> Vec<Amount> {
    let roles = cluster.json("/roles");
    let mut counted = Vec::new();
    for (role, most, limit) in &mut figures.most {
        let all = roles["roles"].as_array().into_iter().flatten();
        let shown = all.into_iter().find(|one| one["name"] == *role);
        let shown = shown.unwrap_or_else(|| panic!("no {role} in {roles}"));
        let consumed = Amount::of_totals(&shown["quota"]["consumed"]);
        let mut with_offers = consumed;
        with_offers += Amount::of_totals(&shown["offered"]);
        assert!(with_offers.fits(*limit), "{shown}");
        most.cpus = most.cpus.max(consumed.cpus);
        most.mem = most.mem.max(consumed.mem);
        counted.push(consumed);
    }
    figures.looks += 1;
    counted
}
