//! What the allocator spends, over the grid of the reference's own benchmark
//! (`src/tests/hierarchical_allocator_benchmarks.cpp`): followers × frameworks.
//!
//! ```sh
//! cargo run --release -p tepui-allocator --example grid -- [FOLLOWERS] [FRAMEWORKS] [COUNTED]
//! ```
//!
//! The whole grid unless told a cell of it. Times are those of the processor. COUNTED names a row: that one runs
//! within a function of its own, for tools that count instructions (`table`). What it prints is in `docs/benchmarks.md`.

#![expect(clippy::disallowed_methods, reason = "it measures a core, and is none")]

mod table;

use std::{collections::BTreeSet, sync::Arc, time::Duration};
use table::{Size, Table};
use tepui_allocator::{Allocator, FollowerInfo, FrameworkOptions, OfferedResources, Options};
use tepui_model::{
    FollowerId, FrameworkId, Quantities, Quota, Resources, Rng, Scalar, Time, resources,
    resources::Limits,
};
use tepui_protocol::v1::{
    self,
    resource::{ReservationInfo, reservation_info::Type},
};

const TOTAL: &str = "cpus:24;mem:4096;disk:4096;ports:[31000-32000]";
const TASK: &str = "cpus:1;mem:128";
const LONG: Duration = Duration::from_secs(24 * 3600);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |place: usize| {
        let given = arguments.get(place).map(|text| text.parse());
        given.map(|number| number.expect("a number"))
    };
    let mut table = Table::new(arguments.get(2).cloned());
    let or = |given: Option<usize>, all: &[usize]| given.map_or(all.to_vec(), |one| vec![one]);
    for followers in or(number(0), &[1_000, 10_000, 50_000]) {
        for frameworks in or(number(1), &[1, 100, 1_000, 6_000]) {
            let size = (followers, frameworks);
            one_role(&mut table, size);
            role_each(&mut table, size);
            quotas(&mut table, size);
            reservations(&mut table, size);
        }
    }
    table.print();
}

struct Cluster {
    allocator: Allocator,
    rng: Rng,
    now: Time,
    held: Vec<OfferedResources>,
}

impl Cluster {
    /// With frameworks, each in one of the roles.
    fn new(frameworks: usize, role: impl Fn(usize) -> String) -> Self {
        let mut cluster = Self {
            allocator: Allocator::new(Options::default()),
            rng: Rng::seed(1),
            now: Time::from_nanos(1_000_000_000_000),
            held: Vec::new(),
        };
        for f in 0..frameworks {
            cluster.subscribe(f, &role(f));
        }
        cluster.allocate();
        cluster
    }
    fn subscribe(&mut self, framework: usize, role: &str) {
        let options = FrameworkOptions {
            roles: [role.into()].into(),
            ..Default::default()
        };
        let id = framework_id(framework);
        self.allocator.add_framework(&id, options, true);
    }
    fn add(&mut self, follower: usize, total: &Resources) {
        let info = FollowerInfo {
            total: total.clone(),
            ..Default::default()
        };
        self.allocator
            .add_follower(&follower_id(follower), info, &[]);
    }
    fn add_all(&mut self, followers: usize, total: impl Fn(usize) -> Resources) {
        for s in 0..followers {
            self.add(s, &total(s));
        }
        self.allocate();
    }
    fn allocate(&mut self) {
        self.allocator
            .allocate(self.now, &mut self.rng, &mut self.held);
    }
    /// One of the held, at random, is no longer.
    fn pick(&mut self) -> OfferedResources {
        let index = self.rng.below(self.held.len() as u64) as usize;
        self.held.swap_remove(index)
    }
    fn give_back(&mut self, what: &OfferedResources, refuse: Option<Duration>) {
        let OfferedResources {
            framework,
            follower,
            resources,
            ..
        } = what;
        self.allocator
            .recover(framework, follower, resources, refuse, self.now);
    }
    /// Everything is declined for long, one by one, and offered to somebody else.
    fn decline_all(&mut self) {
        let mut held = std::mem::take(&mut self.held);
        for offer in held.drain(..) {
            self.pass();
            self.give_back(&offer, Some(LONG));
            self.allocate();
        }
    }
    /// A task ends; what it had is offered, and made into a task again.
    fn task_ends(&mut self, task: &Resources) {
        self.pass();
        let mut whole = self.pick();
        let part = task.clone().allocated(&whole.role);
        if let Some(rest) = whole.resources.checked_sub(&part)
            && !rest.is_empty()
        {
            let kept = OfferedResources {
                resources: rest,
                ..whole.clone()
            };
            self.held.push(kept);
            whole.resources = part;
        }
        self.give_back(&whole, None);
        self.allocate();
    }
    fn pass(&mut self) {
        self.now = self.now + Duration::from_millis(1);
    }
}

/// All frameworks in one role.
fn one_role(table: &mut Table, size: Size) {
    let (followers, frameworks) = size;
    let (all, task) = (bag(TOTAL), bag(TASK));
    let mut one = Cluster::new(frameworks, |_| "shared".to_owned());
    table.time("a follower added", size, followers, || {
        one.add_all(followers, |_| all.clone());
    });
    let mut other = Cluster::new(frameworks, |_| "shared".to_owned());
    table.time(
        "a follower added and offered by itself",
        size,
        followers,
        || {
            for s in 0..followers {
                other.add(s, &all);
                other.allocate();
            }
        },
    );
    drop(other);
    table.time("nothing has changed", size, 10_000, || {
        (0..10_000).for_each(|_| one.allocate());
    });
    table.time("a task ends", size, 20_000, || {
        (0..20_000).for_each(|_| one.task_ends(&task));
    });
    table.time("a snapshot", size, 10, || {
        (0..10).for_each(|_| drop(one.allocator.snapshot()));
    });
    let snapshot = one.allocator.snapshot();
    table.time("a task ends, the first after a snapshot", size, 1, || {
        one.task_ends(&task)
    });
    table.time("a task ends, after a snapshot", size, 1_000, || {
        (0..1_000).for_each(|_| one.task_ends(&task));
    });
    drop(snapshot);
    drop(one);
    storms(table, size);
    activity(table, size);
}

fn storms(table: &mut Table, size: Size) {
    let (followers, frameworks) = size;
    let all = bag(TOTAL);
    let mut cluster = Cluster::new(frameworks, |_| "shared".to_owned());
    cluster.add_all(followers, |_| all.clone());
    for round in [
        "an offer declined",
        "an offer declined, 2nd round",
        "an offer declined, 3rd round",
    ] {
        let offers = cluster.held.len();
        if offers > 0 {
            table.time(round, size, offers, || cluster.decline_all());
        }
    }
    table.time(
        "nothing has changed, all refused thrice",
        size,
        10_000,
        || {
            (0..10_000).for_each(|_| cluster.allocate());
        },
    );
    // Everybody refuses all of a follower.
    let mut cluster = Cluster::new(frameworks, |_| "shared".to_owned());
    cluster.add_all(8, |_| all.clone());
    table.time(
        "an offer declined until nobody is left",
        size,
        8 * frameworks,
        || {
            while !cluster.held.is_empty() {
                cluster.decline_all();
            }
        },
    );
    table.time(
        "a follower that all have refused comes back",
        size,
        8,
        || {
            for s in 0..8 {
                cluster.allocator.activate_follower(&follower_id(s));
                cluster.allocate();
            }
        },
    );
}

fn activity(table: &mut Table, size: Size) {
    let (followers, frameworks) = size;
    let all = bag(TOTAL);
    let everywhere = BTreeSet::new();
    let mut cluster = Cluster::new(frameworks, |_| "shared".to_owned());
    cluster.add_all(followers, |_| all.clone());
    table.time("a framework suppresses", size, frameworks, || {
        for f in 0..frameworks {
            cluster.allocator.suppress(&framework_id(f), &everywhere);
            cluster.allocate();
        }
    });
    table.time(
        "a framework revives, nothing is free",
        size,
        frameworks,
        || {
            for f in 0..frameworks {
                cluster.allocator.revive(&framework_id(f), &everywhere);
                cluster.allocate();
            }
        },
    );
    for f in 0..frameworks {
        cluster.allocator.suppress(&framework_id(f), &everywhere);
    }
    for offer in std::mem::take(&mut cluster.held) {
        cluster.give_back(&offer, None);
    }
    cluster.allocate();
    table.time("all revive, all is free: an offer", size, followers, || {
        for f in 0..frameworks {
            cluster.allocator.revive(&framework_id(f), &everywhere);
        }
        cluster.allocate();
    });
    assert_eq!(cluster.held.len(), followers);
    table.time("a client comes and goes", size, 1_000, || {
        for f in 0..1_000 {
            cluster.subscribe(frameworks + f, "shared");
            cluster.allocate();
            cluster
                .allocator
                .remove_framework(&framework_id(frameworks + f));
            cluster.allocate();
        }
    });
    // Those that hold something are left for last: their followers come free.
    let first = frameworks.div_ceil(2);
    table.time(
        "a framework removed, by follower it held",
        size,
        followers.div_ceil(2),
        || {
            for f in 0..first {
                cluster.allocator.remove_framework(&framework_id(f));
                cluster.allocate();
            }
        },
    );
}

/// Every framework in a role of its own, three levels deep.
fn role_each(table: &mut Table, size: Size) {
    let (followers, frameworks) = size;
    let (all, task) = (bag(TOTAL), bag(TASK));
    let role = |f: usize| format!("org-{}/team-{}/user-{f}", f % 10, f % 200);
    let mut cluster = Cluster::new(frameworks, role);
    table.time(
        "roles of their own: a follower added",
        size,
        followers,
        || {
            cluster.add_all(followers, |_| all.clone());
        },
    );
    table.time("roles of their own: a task ends", size, 20_000, || {
        (0..20_000).for_each(|_| cluster.task_ends(&task));
    });
    let offers = cluster.held.len();
    table.time(
        "roles of their own: an offer declined",
        size,
        offers,
        || cluster.decline_all(),
    );
}

/// 3,000 roles, each with a guarantee and a limit.
fn quotas(table: &mut Table, size: Size) {
    let (followers, frameworks) = size;
    let (all, task) = (bag(TOTAL), bag(TASK));
    let role = |f: usize| format!("role-{}", f % 3_000);
    let mut cluster = Cluster::new(frameworks, role);
    // Guarantees come to a half of the cluster, limits to nearly twice as much as it has.
    let part = |name: &str, per_mille: i64| {
        let amount = all.quantities().amount(name);
        Scalar::millis(amount.as_millis() * followers as i64 / 3_000 * per_mille / 1_000)
    };
    table.time("3,000 quotas: one set", size, 3_000, || {
        for f in 0..3_000 {
            let quota = Quota {
                guarantees: [("cpus", part("cpus", 500)), ("mem", part("mem", 500))]
                    .into_iter()
                    .collect::<Quantities>(),
                limits: [("cpus", part("cpus", 1_900)), ("mem", part("mem", 1_900))]
                    .into_iter()
                    .collect::<Limits>(),
            };
            cluster.allocator.update_quota(&Arc::from(role(f)), quota);
        }
        cluster.allocate();
    });
    table.time("3,000 quotas: a follower added", size, followers, || {
        cluster.add_all(followers, |_| all.clone());
    });
    if cluster.held.is_empty() {
        return;
    }
    table.time("3,000 quotas: a task ends", size, 20_000, || {
        (0..20_000).for_each(|_| cluster.task_ends(&task));
    });
    let offers = cluster.held.len();
    table.time("3,000 quotas: an offer declined", size, offers, || {
        cluster.decline_all()
    });
}

/// 800 reservations that differ in role and label, all over the cluster; then all of them on each follower.
fn reservations(table: &mut Table, size: Size) {
    let (followers, frameworks) = size;
    let role = |f: usize| format!("role-{}", f % 800);
    let one = |n: usize, text: &str| bag(text).push_reservation(&reservation(n));
    let plain = bag("cpus:16;mem:4096");
    let kinds: Vec<Resources> = (0..800)
        .map(|n| plain.clone() + &one(n, "cpus:8"))
        .collect();
    let mut cluster = Cluster::new(frameworks, role);
    table.time(
        "800 reservations: a follower added",
        size,
        followers,
        || {
            cluster.add_all(followers, |s| kinds[s % 800].clone());
        },
    );
    let offers = cluster.held.len();
    table.time("800 reservations: an offer declined", size, offers, || {
        cluster.decline_all()
    });

    let everything = (0..800).fold(plain, |all, n| all + &one(n, "cpus:1"));
    let mut cluster = Cluster::new(frameworks, role);
    table.time("800 reservations each: a follower added", size, 10, || {
        cluster.add_all(10, |_| everything.clone());
    });
    let offers = cluster.held.len();
    table.time("800 reservations each: an offer", size, offers, || {
        cluster.decline_all()
    });
}

/// For one of the roles, with a label of its own.
fn reservation(number: usize) -> ReservationInfo {
    let label = v1::Label {
        key: "lease".to_owned(),
        value: Some(number.to_string()),
    };
    ReservationInfo {
        r#type: Some(Type::Dynamic as i32),
        role: Some(format!("role-{number}")),
        principal: Some("ops".to_owned()),
        labels: Some(v1::Labels {
            labels: vec![label],
        }),
    }
}

fn bag(text: &str) -> Resources {
    resources::parse(text, "*").expect("valid resources")
}

fn framework_id(number: usize) -> FrameworkId {
    FrameworkId::new(format!("8f6d5c1e-0c1b-4d2b-9a58-3f0a5d1c7b11-{number:04}"))
}

fn follower_id(number: usize) -> FollowerId {
    FollowerId::new(format!("8f6d5c1e-0c1b-4d2b-9a58-3f0a5d1c7b11-S{number}"))
}
