//! Random clusters under random events.
//!
//! Safety: never over-allocated, refusals and suppression honoured, reservations kept.
//! Liveness: after each round nobody can take anything of what is free.
//! Fairness: equal frameworks are within one follower of each other.

use crate::support::*;
use proptest::prelude::*;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};
use tepui_allocator::{Allocator, FollowerInfo, FrameworkOptions, OfferedResources, Options};
use tepui_model::{Resources, Rng, Scalar, Time};

const ROLES: [&str; 4] = ["*", "a", "a/b", "c"];
const TOTALS: [&str; 5] = [
    "cpus:4;mem:1000;ports:[1-9]",
    "cpus:0.5;mem:64",
    "cpus:2;cpus(a):2;mem:100;mem(a):50",
    "cpus(c):1;mem(c):200",
    "mem:31;disk:5000",
];

#[derive(Clone, Debug)]
enum Event {
    AddFramework(u8, u8),
    UpdateFramework(u8, u8),
    RemoveFramework(u8),
    Activate(u8, bool),
    Suppress(u8, u8),
    Revive(u8, u8),
    AddFollower(u8, u8),
    Resize(u8, u8),
    RemoveFollower(u8),
    Connect(u8, bool),
    Decline(u8, u8),
    Finish(u8),
    FinishHalf(u8),
    Pass(u16),
}

fn events() -> impl Strategy<Value = Event> {
    use Event::*;
    prop_oneof![
        2 => (0..6u8, 1..16u8).prop_map(|(f, r)| AddFramework(f, r)),
        1 => (0..6u8, 1..16u8).prop_map(|(f, r)| UpdateFramework(f, r)),
        1 => (0..6u8).prop_map(RemoveFramework),
        1 => (0..6u8, any::<bool>()).prop_map(|(f, on)| Activate(f, on)),
        1 => (0..6u8, 0..16u8).prop_map(|(f, r)| Suppress(f, r)),
        1 => (0..6u8, 0..16u8).prop_map(|(f, r)| Revive(f, r)),
        3 => (0..8u8, 0..5u8).prop_map(|(s, t)| AddFollower(s, t)),
        1 => (0..8u8, 0..5u8).prop_map(|(s, t)| Resize(s, t)),
        1 => (0..8u8).prop_map(RemoveFollower),
        1 => (0..8u8, any::<bool>()).prop_map(|(s, on)| Connect(s, on)),
        5 => (any::<u8>(), 0..20u8).prop_map(|(o, t)| Decline(o, t)),
        3 => any::<u8>().prop_map(Finish),
        2 => any::<u8>().prop_map(FinishHalf),
        3 => (0..8000u16).prop_map(Pass),
    ]
}

fn some_roles(mask: u8) -> BTreeSet<Arc<str>> {
    ROLES
        .iter()
        .enumerate()
        .filter(|(i, _)| mask & (1 << i) != 0)
        .map(|(_, r)| Arc::from(*r))
        .collect()
}

/// What the test itself knows: slow and simple.
#[derive(Default)]
struct Oracle {
    frameworks: BTreeMap<u8, (FrameworkOptions, bool)>,
    followers: BTreeMap<u8, (Resources, bool)>,
    held: Vec<OfferedResources>,
    refused: Vec<(OfferedResources, Time)>,
}

impl Oracle {
    fn wants(&self, framework: u8, role: &str) -> bool {
        self.frameworks
            .get(&framework)
            .is_some_and(|(options, active)| {
                *active && options.roles.contains(role) && !options.suppressed_roles.contains(role)
            })
    }
    fn is_refused(
        &self,
        framework: &str,
        role: &str,
        follower: &str,
        resources: &Resources,
        now: Time,
    ) -> bool {
        self.refused.iter().any(|(offer, until)| {
            *until > now
                && offer.framework.as_str() == framework
                && &*offer.role == role
                && offer.follower.as_str() == follower
                && offer.resources.clone().unallocated().contains(resources)
        })
    }
    fn forget_refusals(&mut self, framework: u8, roles: &BTreeSet<Arc<str>>) {
        let id = framework.to_string();
        self.refused
            .retain(|(o, _)| o.framework.as_str() != id || !roles.contains(&o.role));
    }
    /// `None` while more is held than there is.
    fn free(&self, follower: u8) -> Option<Resources> {
        let id = follower.to_string();
        let held = self.held.iter().filter(|o| o.follower.as_str() == id);
        let held = held.fold(Resources::new(), |sum, o| {
            sum + &o.resources.clone().unallocated()
        });
        self.followers[&follower].0.checked_sub(&held)
    }
}

struct World {
    allocator: Allocator,
    oracle: Oracle,
    rng: Rng,
    now: Time,
}

impl World {
    fn new() -> Self {
        Self {
            allocator: Allocator::new(Options::default()),
            oracle: Oracle::default(),
            rng: Rng::seed(1),
            now: Time::from_nanos(10_000_000_000),
        }
    }

    fn apply(&mut self, event: &Event) {
        use Event::*;
        match event {
            AddFramework(f, r) | UpdateFramework(f, r) => {
                self.set_framework(*f, *r, matches!(event, AddFramework(..)))
            }
            RemoveFramework(f) => {
                self.allocator
                    .remove_framework(&framework_id(&f.to_string()));
                self.oracle.frameworks.remove(f);
                let id = f.to_string();
                self.oracle.held.retain(|o| o.framework.as_str() != id);
                self.oracle
                    .refused
                    .retain(|(o, _)| o.framework.as_str() != id);
            }
            Activate(f, on) => self.activate(*f, *on),
            Suppress(f, r) => {
                self.allocator
                    .suppress(&framework_id(&f.to_string()), &some_roles(*r));
                if let Some((options, _)) = self.oracle.frameworks.get_mut(f) {
                    let meant = if *r == 0 {
                        options.roles.clone()
                    } else {
                        &options.roles & &some_roles(*r)
                    };
                    options.suppressed_roles.extend(meant);
                }
            }
            Revive(f, r) => {
                self.allocator
                    .revive(&framework_id(&f.to_string()), &some_roles(*r));
                if let Some((options, _)) = self.oracle.frameworks.get_mut(f) {
                    let meant = if *r == 0 {
                        options.roles.clone()
                    } else {
                        &options.roles & &some_roles(*r)
                    };
                    options.suppressed_roles = &options.suppressed_roles - &meant;
                    self.oracle.forget_refusals(*f, &meant);
                }
            }
            AddFollower(s, t) => {
                let info = FollowerInfo {
                    total: bag(TOTALS[usize::from(*t)]),
                    ..Default::default()
                };
                self.forget_follower(*s);
                self.oracle.followers.insert(*s, (info.total.clone(), true));
                self.allocator
                    .add_follower(&follower_id(&s.to_string()), info, &[]);
            }
            Resize(s, t) => {
                let total = bag(TOTALS[usize::from(*t)]);
                self.allocator
                    .update_follower_total(&follower_id(&s.to_string()), total.clone());
                if let Some(follower) = self.oracle.followers.get_mut(s) {
                    follower.0 = total;
                }
            }
            RemoveFollower(s) => {
                self.allocator.remove_follower(&follower_id(&s.to_string()));
                self.forget_follower(*s);
                self.oracle.followers.remove(s);
            }
            Connect(s, on) => {
                let id = follower_id(&s.to_string());
                if *on {
                    self.allocator.activate_follower(&id)
                } else {
                    self.allocator.deactivate_follower(&id)
                }
                if let Some(follower) = self.oracle.followers.get_mut(s) {
                    follower.1 = *on;
                }
            }
            Decline(o, t) => self.recover(*o, Some(*t), false),
            Finish(o) => self.recover(*o, None, false),
            FinishHalf(o) => self.recover(*o, None, true),
            Pass(ms) => self.now = self.now + Duration::from_millis(u64::from(*ms)),
        }
    }

    fn set_framework(&mut self, f: u8, r: u8, add: bool) {
        let id = framework_id(&f.to_string());
        let options = FrameworkOptions {
            roles: some_roles(r),
            ..Default::default()
        };
        let old = self.oracle.frameworks.get(&f).cloned();
        if add {
            self.allocator.add_framework(&id, options.clone(), true);
        } else {
            self.allocator.update_framework(&id, options.clone());
        }
        let Some((old, was_active)) = old else {
            if add {
                self.oracle.frameworks.insert(f, (options, true));
            }
            return;
        };
        let gone = &(&old.roles - &options.roles) | &old.suppressed_roles;
        self.oracle.forget_refusals(f, &gone);
        self.oracle
            .frameworks
            .insert(f, (options, add || was_active));
    }

    fn activate(&mut self, f: u8, on: bool) {
        let id = framework_id(&f.to_string());
        if on {
            self.allocator.activate_framework(&id)
        } else {
            self.allocator.deactivate_framework(&id)
        }
        if let Some(framework) = self.oracle.frameworks.get_mut(&f) {
            framework.1 = on;
            if !on {
                self.oracle.forget_refusals(f, &some_roles(15));
            }
        }
    }

    fn forget_follower(&mut self, s: u8) {
        let id = s.to_string();
        self.oracle.held.retain(|o| o.follower.as_str() != id);
        self.oracle
            .refused
            .retain(|(o, _)| o.follower.as_str() != id);
    }

    fn recover(&mut self, which: u8, refuse: Option<u8>, half: bool) {
        if self.oracle.held.is_empty() {
            return;
        }
        let index = usize::from(which) % self.oracle.held.len();
        let mut offer = self.oracle.held.swap_remove(index);
        if half {
            let cpus = offer.resources.filter(|r| r.name().as_str() == "cpus");
            let rest = offer.resources.checked_sub(&cpus).expect("a part of it");
            if !rest.is_empty() {
                self.oracle.held.push(OfferedResources {
                    resources: rest,
                    ..offer.clone()
                });
            }
            offer.resources = cpus;
        }
        let duration = refuse.map(|t| Duration::from_millis(u64::from(t) * 500));
        self.allocator.recover(
            &offer.framework,
            &offer.follower,
            &offer.resources,
            duration,
            self.now,
        );
        let f: u8 = offer.framework.as_str().parse().expect("ids of the test");
        let subscribed = self.oracle.frameworks[&f].0.roles.contains(&offer.role);
        if let Some(duration) = duration.filter(|_| subscribed) {
            // A refusal of no time lasts to the next full second.
            let until = if duration.is_zero() {
                Time::from_nanos((self.now.nanos() / 1_000_000_000 + 1) * 1_000_000_000)
            } else {
                self.now + duration.max(Duration::from_secs(1))
            };
            self.oracle.refused.push((offer, until));
        }
    }

    fn allocate(&mut self) {
        let mut offers = Vec::new();
        self.allocator
            .allocate(self.now, &mut self.rng, &mut offers);
        self.allocator.check();
        for offer in offers {
            self.check_offer(&offer);
            self.oracle.held.push(offer);
        }
        self.check_safety();
        self.check_liveness();
        assert_ne!(
            self.allocator.next_deadline(self.now),
            Some(self.now),
            "an idle allocator is idle"
        );
    }

    fn check_offer(&self, offer: &OfferedResources) {
        let framework: u8 = offer.framework.as_str().parse().expect("ids of the test");
        let follower: u8 = offer.follower.as_str().parse().expect("ids of the test");
        assert!(
            self.oracle.wants(framework, &offer.role),
            "only who wants offers gets any: {offer:?}"
        );
        assert!(
            self.oracle.followers[&follower].1,
            "only connected followers are offered"
        );
        assert!(
            offer
                .resources
                .iter()
                .all(|r| r.is_allocatable_to(&offer.role)),
            "reservations are kept"
        );
        assert!(
            offer
                .resources
                .iter()
                .all(|r| r.allocation_role() == Some(&offer.role))
        );
        let resources = offer.resources.clone().unallocated();
        let (f, s) = (offer.framework.as_str(), offer.follower.as_str());
        assert!(
            !self
                .oracle
                .is_refused(f, &offer.role, s, &resources, self.now),
            "refusals are honoured: {offer:?}"
        );
    }

    fn check_safety(&self) {
        for s in self.oracle.followers.keys() {
            if let Some(free) = self.oracle.free(*s) {
                assert_eq!(
                    self.allocator.available(&follower_id(&s.to_string())),
                    Some(&free),
                    "never over-allocated"
                );
            }
        }
    }

    /// Whoever could be offered something has been.
    fn check_liveness(&self) {
        for (s, (_, connected)) in &self.oracle.followers {
            let Some(free) = self.oracle.free(*s).filter(|_| *connected) else {
                continue;
            };
            for f in self.oracle.frameworks.keys() {
                for role in ROLES.iter().filter(|role| self.oracle.wants(*f, role)) {
                    let could = free.allocatable_to(role);
                    let enough =
                        could.cpus() >= Scalar::millis(10) || could.mem() >= Scalar::units(32);
                    let refused = self.oracle.is_refused(
                        &f.to_string(),
                        role,
                        &s.to_string(),
                        &could,
                        self.now,
                    );
                    assert!(!enough || refused, "{f}/{role} could have {could} on {s}");
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn offers_are_safe_and_nobody_is_left_hungry(events in prop::collection::vec((events(), any::<bool>()), 1..80)) {
        let mut world = World::new();
        for (event, allocate) in events {
            world.apply(&event);
            world.allocator.check();
            // Events also pile up between rounds.
            if allocate {
                world.allocate();
            }
        }
        world.allocate();
    }

    #[test]
    fn equal_frameworks_are_within_one_follower_of_each_other(
        frameworks in 1..7usize,
        followers in 1..40usize,
        one_by_one in any::<bool>(),
    ) {
        let mut cluster = Cluster::new();
        for f in 0..frameworks {
            cluster.framework(&f.to_string(), &["*"]);
        }
        let mut counts = vec![0usize; frameworks];
        let mut offers = Vec::new();
        for s in 0..followers {
            cluster.follower(&s.to_string(), "cpus:2;mem:100");
            if one_by_one {
                offers.extend(cluster.offers());
            }
        }
        offers.extend(cluster.offers());
        for offer in offers {
            counts[offer.framework.as_str().parse::<usize>().unwrap()] += 1;
        }
        let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
        prop_assert_eq!(counts.iter().sum::<usize>(), followers);
        prop_assert!(most - least <= 1, "{:?}", counts);
    }
}
