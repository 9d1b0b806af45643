//! Random operations, told to the allocator and to the oracle alike.

use super::{Client, Follower, Framework, Oracle};
use crate::{constraints, shared, support::*};
use proptest::prelude::*;
use std::{collections::BTreeSet, sync::Arc, time::Duration};
use tepui_allocator::{
    Allocator, Conversion, FollowerCapabilities, FollowerInfo, FrameworkCapabilities,
    FrameworkOptions, OfferedResources, Options,
};
use tepui_model::{FollowerId, Quantities, Quota, Resources, Rng, Scalar, Time, resources::Limits};

const ROLES: [&str; 6] = ["*", "a", "a/b", "a/c", "a/b/x", "d"];

/// One operation. Numbers choose among what there is.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Framework {
        id: u8,
        roles: u8,
        able: u8,
        suppressed: u8,
        wish: u8,
        add: bool,
    },
    RemoveFramework(u8),
    ActivateFramework(u8, bool),
    Suppress(u8, u8),
    Revive(u8, u8),
    Follower {
        id: u8,
        total: u8,
        kind: u8,
        add: bool,
        attributes: bool,
    },
    Resize(u8, u8),
    RemoveFollower(u8),
    ActivateFollower(u8, bool),
    Decline {
        which: u8,
        half_seconds: u8,
        part: u8,
    },
    Ends {
        which: u8,
        part: u8,
    },
    Reserve(u8),
    Unreserve(u8),
    OperatorReserves {
        follower: u8,
        role: u8,
        back: bool,
    },
    Quota {
        role: u8,
        guarantee: u8,
        limit: u8,
    },
    Weight(u8, u8),
    AllowList(u8),
    Pass(u16),
    Allocate,
}

pub(crate) fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(step(), 1..70)
}

fn step() -> impl Strategy<Value = Step> {
    use Step::*;
    let framework = (
        0..6u8,
        1..64u8,
        any::<u8>(),
        any::<u8>(),
        any::<u8>(),
        any::<bool>(),
    )
        .prop_map(|(id, roles, able, suppressed, wish, add)| Framework {
            id,
            roles,
            able,
            suppressed,
            wish,
            add: add || id < 4,
        });
    let follower = (0..6u8, any::<u8>(), any::<u8>(), 0..4u8, any::<bool>()).prop_map(
        |(id, total, kind, add, attributes)| Follower {
            id,
            total,
            kind,
            add: add > 0,
            attributes,
        },
    );
    prop_oneof![
        6 => framework,
        1 => (0..6u8).prop_map(RemoveFramework),
        1 => (0..6u8, any::<bool>()).prop_map(|(id, on)| ActivateFramework(id, on)),
        1 => (0..6u8, 0..64u8).prop_map(|(id, roles)| Suppress(id, roles)),
        1 => (0..6u8, 0..64u8).prop_map(|(id, roles)| Revive(id, roles)),
        6 => follower,
        1 => (0..6u8, any::<u8>()).prop_map(|(id, total)| Resize(id, total)),
        1 => (0..6u8).prop_map(RemoveFollower),
        1 => (0..6u8, any::<bool>()).prop_map(|(id, on)| ActivateFollower(id, on)),
        6 => (any::<u8>(), 0..20u8, 0..3u8)
            .prop_map(|(which, half_seconds, part)| Decline { which, half_seconds, part }),
        6 => (any::<u8>(), 0..3u8).prop_map(|(which, part)| Ends { which, part }),
        2 => any::<u8>().prop_map(Reserve),
        1 => any::<u8>().prop_map(Unreserve),
        1 => (0..6u8, 1..6u8, any::<bool>())
            .prop_map(|(follower, role, back)| OperatorReserves { follower, role, back }),
        4 => (0..6u8, 0..4u8, 0..6u8)
            .prop_map(|(role, guarantee, limit)| Quota { role, guarantee, limit }),
        1 => (0..6u8, 1..5u8).prop_map(|(role, weight)| Weight(role, weight)),
        1 => (0..64u8).prop_map(AllowList),
        4 => (0..8000u16).prop_map(Pass),
        10 => Just(Allocate),
    ]
}

fn some_roles(mask: u8) -> BTreeSet<Arc<str>> {
    let chosen = |i: &usize| mask & (1 << i) != 0;
    (0..ROLES.len())
        .filter(chosen)
        .map(|i| Arc::from(ROLES[i]))
        .collect()
}

fn role(number: u8) -> Arc<str> {
    ROLES[usize::from(number) % ROLES.len()].into()
}

fn a_framework(roles: u8, able: u8, suppressed: u8, wish: u8) -> Framework {
    let has = |bit: u8| able & (1 << bit) != 0;
    let roles = some_roles(roles);
    // Three of four bits, so that most can see most.
    let capabilities = FrameworkCapabilities {
        revocable_resources: has(0) || has(1),
        gpu_resources: has(1) || has(2),
        shared_resources: has(2) || has(3),
        reservation_refinement: has(3) || has(4),
        region_aware: has(4) || has(5),
        multi_role: has(5) || has(6),
    };
    let (rack, text) = match wish % 8 {
        0 => (Some((true, "a")), Some("rack = a")),
        1 => (Some((false, "a")), Some("rack != a")),
        _ => (None, None),
    };
    let least = match wish / 8 % 8 {
        0 => Some(vec![]),
        1 => Some(vec![
            [("cpus", Scalar::units(2))]
                .into_iter()
                .collect::<Quantities>(),
        ]),
        _ => None,
    };
    let options = FrameworkOptions {
        suppressed_roles: if suppressed < 64 {
            &some_roles(suppressed) & &roles
        } else {
            BTreeSet::new()
        },
        capabilities,
        min_allocatable_resources: least
            .map(|least| {
                roles
                    .iter()
                    .map(|role| (role.clone(), least.clone()))
                    .collect()
            })
            .unwrap_or_default(),
        offer_constraints: text
            .map(|text| {
                roles
                    .iter()
                    .map(|role| (role.clone(), constraints::compiled(text)))
                    .collect()
            })
            .unwrap_or_default(),
        roles,
    };
    Framework {
        options,
        active: true,
        rack,
    }
}

fn a_total(number: u8) -> Resources {
    let plain = [
        "cpus:4;mem:1000;ports:[1-9]",
        "cpus:0.5;mem:64",
        "cpus:2;cpus(a):2;mem:100;mem(a):50",
        "cpus(d):1;mem(d):200;cpus:6;mem:600",
        "mem:31;disk:5000",
        "cpus:3;mem:300;gpus:1",
        "cpus:8;mem:2000;disk:100",
    ];
    match number % 10 {
        7 => bag("cpus:2;mem:200") + &bag("cpus:3").to_revocable(),
        8 => bag("cpus:3;mem:300") + &shared::shared_volume(),
        9 => {
            bag("cpus:2;mem:200")
                + &bag("cpus:1")
                    .push_reservation(&dynamic("a"))
                    .push_reservation(&dynamic("a/b"))
        }
        number => bag(plain[usize::from(number)]),
    }
}

fn a_follower(id: &str, total: u8, kind: u8) -> Follower {
    let rack = if kind & 1 == 0 { "a" } else { "b" };
    let region = match kind / 2 % 4 {
        0 => Some("home"),
        1 => Some("away"),
        _ => None,
    };
    let info = FollowerInfo {
        total: a_total(total),
        capabilities: FollowerCapabilities {
            multi_role: !(kind / 8).is_multiple_of(4),
            hierarchical_role: !(kind / 32).is_multiple_of(4),
        },
        traits: constraints::traits(id, &format!("rack:{rack}"), region, None),
    };
    Follower {
        info,
        rack,
        active: true,
    }
}

/// The allocator, the oracle, and the time.
pub(crate) struct World {
    pub(crate) allocator: Allocator,
    pub(crate) oracle: Oracle,
    pub(crate) now: Time,
    rng: Rng,
}

impl World {
    pub(crate) fn new() -> Self {
        let options = Options {
            region: Some("home".into()),
            ..Options::default()
        };
        Self {
            allocator: Allocator::new(options),
            oracle: Oracle::default(),
            now: Time::from_nanos(10_250_000_000),
            rng: Rng::seed(1),
        }
    }

    /// Offers of an allocation, none of which the oracle knows yet.
    pub(crate) fn allocate(&mut self) -> Vec<OfferedResources> {
        let mut out = Vec::new();
        self.allocator.allocate(self.now, &mut self.rng, &mut out);
        out
    }

    /// Anything but [`Step::Allocate`].
    pub(crate) fn apply(&mut self, step: &Step) {
        use Step::*;
        let (allocator, oracle) = (&mut self.allocator, &mut self.oracle);
        match *step {
            Framework {
                id,
                roles,
                able,
                suppressed,
                wish,
                add,
            } => {
                let new = a_framework(roles, able, suppressed, wish);
                self.set_framework(id, new, add);
            }
            RemoveFramework(id) => {
                allocator.remove_framework(&framework_id(&name('f', id)));
                oracle.remove_framework(&name('f', id));
            }
            ActivateFramework(id, on) => {
                let text = name('f', id);
                if on {
                    allocator.activate_framework(&framework_id(&text));
                } else {
                    allocator.deactivate_framework(&framework_id(&text));
                }
                oracle.set_active(&text, on);
            }
            Suppress(id, mask) => {
                allocator.suppress(&framework_id(&name('f', id)), &some_roles(mask));
                oracle.suppress(&name('f', id), &some_roles(mask));
            }
            Revive(id, mask) => {
                allocator.revive(&framework_id(&name('f', id)), &some_roles(mask));
                oracle.revive(&name('f', id), &some_roles(mask));
            }
            Follower { .. }
            | Resize(..)
            | RemoveFollower(_)
            | ActivateFollower(..)
            | AllowList(_) => {
                self.apply_to_followers(step);
            }
            Decline {
                which,
                half_seconds,
                part,
            } => {
                self.recover(
                    which,
                    part,
                    Some(Duration::from_millis(u64::from(half_seconds) * 500)),
                );
            }
            Ends { which, part } => self.recover(which, part, None),
            Reserve(which) => self.convert(which, true),
            Unreserve(which) => self.convert(which, false),
            OperatorReserves {
                follower,
                role,
                back,
            } => self.operator_reserves(follower, role, back),
            Quota {
                role: of,
                guarantee,
                limit,
            } => self.set_quota(of, guarantee, limit),
            Weight(of, weight) => allocator.update_weight(&role(of), f64::from(weight)),
            Pass(milliseconds) => self.now = self.now + Duration::from_millis(milliseconds.into()),
            Allocate => {}
        }
    }

    fn set_framework(&mut self, id: u8, new: Framework, add: bool) {
        let text = name('f', id);
        let id = framework_id(&text);
        if add {
            self.allocator.add_framework(&id, new.options.clone(), true);
        } else if self.oracle.frameworks.contains_key(&text) {
            self.allocator.update_framework(&id, new.options.clone());
        } else {
            return;
        }
        self.oracle
            .set_framework(&text, Framework { active: add, ..new });
    }

    fn apply_to_followers(&mut self, step: &Step) {
        use Step::*;
        let (allocator, oracle) = (&mut self.allocator, &mut self.oracle);
        match *step {
            Follower {
                id,
                total,
                kind,
                add,
                attributes,
            } => {
                let text = name('s', id);
                let follower = a_follower(&text, total, kind);
                let (id, info) = (follower_id(&text), follower.info.clone());
                if add {
                    allocator.add_follower(&id, info, &[]);
                    oracle.add_follower(&text, follower);
                } else {
                    allocator.update_follower(&id, info, attributes);
                    oracle.update_follower(&text, follower, attributes);
                }
            }
            Resize(id, total) => {
                let text = name('s', id);
                allocator.update_follower_total(&follower_id(&text), a_total(total));
                if let Some(follower) = oracle.followers.get_mut(&text) {
                    follower.info.total = a_total(total);
                }
            }
            RemoveFollower(id) => {
                allocator.remove_follower(&follower_id(&name('s', id)));
                oracle.remove_follower(&name('s', id));
            }
            ActivateFollower(id, on) => {
                let text = name('s', id);
                if on {
                    allocator.activate_follower(&follower_id(&text));
                } else {
                    allocator.deactivate_follower(&follower_id(&text));
                }
                if let Some(follower) = oracle.followers.get_mut(&text) {
                    follower.active = on;
                }
            }
            AllowList(mask) => {
                let listed = (0..6u8)
                    .filter(|id| mask & (1 << id) != 0)
                    .map(|id| name('s', id));
                let list: Option<BTreeSet<String>> = (mask >= 16).then(|| listed.collect());
                allocator.set_allow_list(list.clone());
                oracle.allow_list = list;
            }
            _ => {}
        }
    }

    /// Something that is held.
    fn choose(&self, which: u8) -> Option<((Client, String), Resources)> {
        let count = self.oracle.held.len().max(1);
        let (at, held) = self.oracle.held.iter().nth(usize::from(which) % count)?;
        Some((at.clone(), held.clone()))
    }

    fn recover(&mut self, which: u8, part: u8, refuse: Option<Duration>) {
        let Some((((framework, role), follower), held)) = self.choose(which) else {
            return;
        };
        let resources = match part {
            0 => held,
            1 => held.filter(|r| r.name().as_str() == "cpus"),
            _ => held
                .iter()
                .filter_map(|r| r.at_most(Scalar::units(1)))
                .collect(),
        };
        let back = OfferedResources {
            framework: framework_id(&framework),
            resources: resources.allocated(&role),
            role,
            follower: FollowerId::new(follower),
        };
        if back.resources.is_empty() {
            return;
        }
        self.allocator.recover(
            &back.framework,
            &back.follower,
            &back.resources,
            refuse,
            self.now,
        );
        self.oracle
            .recover(&back, refuse, Duration::from_secs(1), self.now);
    }

    /// One cpu that is held is reserved to the role, or no longer.
    fn convert(&mut self, which: u8, reserve: bool) {
        let Some((at, held)) = self.choose(which) else {
            return;
        };
        let ((framework, role), follower) = &at;
        let suits = |r: &tepui_model::Resource| {
            r.name().as_str() == "cpus"
                && !r.is_revocable()
                && if reserve {
                    r.is_unreserved()
                } else {
                    r.is_dynamically_reserved()
                }
        };
        let cpu = held
            .iter()
            .find(|r| suits(r))
            .and_then(|r| r.at_most(Scalar::units(1)));
        let total = &self.oracle.followers[follower].info.total;
        let consumed: Resources = cpu.into_iter().collect();
        if consumed.is_empty() || &**role == "*" || !total.contains(&consumed) {
            return;
        }
        let converted = if reserve {
            consumed.push_reservation(&dynamic(role))
        } else {
            consumed.pop_reservation()
        };
        let conversion = Conversion {
            consumed,
            converted,
        };
        let done = self.allocator.update_allocation(
            &framework_id(framework),
            &follower_id(follower),
            role,
            std::slice::from_ref(&conversion),
        );
        done.expect("it holds that");
        self.oracle.convert(&at, &conversion);
    }

    /// One free cpu is reserved to a role, or no longer.
    fn operator_reserves(&mut self, follower: u8, of: u8, back: bool) {
        let follower = name('s', follower);
        if !self.oracle.followers.contains_key(&follower) {
            return;
        }
        let plain = bag("cpus:1");
        let reserved = plain.push_reservation(&dynamic(&role(of)));
        let (consumed, converted) = if back {
            (reserved, plain)
        } else {
            (plain, reserved)
        };
        let conversion = Conversion {
            consumed,
            converted,
        };
        let free = self
            .oracle
            .available(&follower)
            .contains(&conversion.consumed);
        let done = self
            .allocator
            .update_available(&follower_id(&follower), std::slice::from_ref(&conversion));
        assert_eq!(
            done.is_ok(),
            free,
            "what is free can be reserved, and only that"
        );
        if free {
            self.oracle.convert_total(&follower, &conversion);
        }
    }

    fn set_quota(&mut self, of: u8, guarantee: u8, limit: u8) {
        let some = |units: u8| Scalar::units(units.into());
        let quota = Quota {
            guarantees: match guarantee {
                0 => Quantities::new(),
                n => [("cpus", some(n)), ("mem", some(n * 50))]
                    .into_iter()
                    .collect(),
            },
            limits: match limit {
                0 | 1 => Limits::new(),
                n => [("cpus", some(n * 2)), ("mem", some(n * 45))]
                    .into_iter()
                    .collect(),
            },
        };
        self.allocator.update_quota(&role(of), quota.clone());
        self.oracle.quota(&role(of), quota);
    }
}

fn name(kind: char, number: u8) -> String {
    format!("{kind}{number}")
}
