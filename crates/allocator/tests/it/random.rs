//! What holds whatever happens: random clusters under random operations, judged by the oracle.
//!
//! Each property has a name and runs by itself: safety (nothing that must not be is offered), liveness (what can be offered
//! is) and fairness. `PROPTEST_CASES` sets how many clusters each sees.

use crate::oracle::{Excess, Oracle, Step, World, place, steps};
use crate::support::*;
use proptest::prelude::*;
use std::collections::BTreeMap;
use tepui_allocator::OfferedResources;
use tepui_model::{Resources, Scalar, Time};

/// Plays the steps; `judge` sees every offer with the cluster as it was just before it.
fn play(steps: &[Step], mut judge: impl FnMut(&Oracle, &OfferedResources, Time)) {
    play_rounds(steps, |world, offers| {
        for offer in &offers {
            judge(&world.oracle, offer, world.now);
            world.oracle.offer(offer);
        }
    });
}

/// Plays the steps; `round` sees what each allocation offers and tells the oracle of it.
fn play_rounds(steps: &[Step], mut round: impl FnMut(&mut World, Vec<OfferedResources>)) {
    let mut world = World::new();
    for step in steps.iter().chain([&Step::Allocate]) {
        world.apply(step);
        if matches!(step, Step::Allocate) {
            let offers = world.allocate();
            round(&mut world, offers);
        }
    }
}

fn plain(offer: &OfferedResources) -> Resources {
    offer.resources.clone().unallocated()
}

/// What is kept for guarantees is not touched by an offer: of no name is less left beyond them than nothing, or than was.
fn keeps(before: &Excess, after: &Excess) -> bool {
    after.iter().all(|(name, left)| {
        let had = before.get(name).copied().unwrap_or_default();
        *left >= had.min(Scalar::ZERO)
    })
}

proptest! {
    #![proptest_config(cases(48))]

    #[test]
    fn safety_nothing_is_offered_twice_or_beyond_what_there_is(steps in steps()) {
        play(&steps, |oracle, offer, _| {
            let (_, follower) = place(offer);
            let free = oracle.available(&follower);
            let wanted = plain(offer);
            assert!(free.contains(&wanted.non_shared()), "{offer:?} of {free}");
            let shared = oracle.followers[&follower].info.total.shared();
            assert!(shared.contains(&wanted.shared()), "{offer:?}");
        });
    }

    #[test]
    fn safety_reservations_reach_their_role_and_those_below_only(steps in steps()) {
        play(&steps, |oracle, offer, _| {
            let (client, _) = place(offer);
            for resource in plain(offer).iter() {
                assert!(oracle.is_visible(&client, resource), "{offer:?}");
            }
            let marked = |r: &tepui_model::Resource| r.allocation_role() == Some(&offer.role);
            assert!(offer.resources.iter().all(marked), "{offer:?}");
        });
    }

    #[test]
    fn safety_limits_of_a_role_and_of_all_above_are_never_exceeded_by_an_offer(steps in steps()) {
        play(&steps, |oracle, offer, _| {
            let more = crate::oracle::charged(&plain(offer));
            for (name, left) in oracle.left_by_limits(&offer.role) {
                assert!(more.amount(&name) <= left, "{offer:?}: {left} of {name} left");
            }
        });
    }

    #[test]
    fn safety_what_guarantees_lack_stays_free(steps in steps()) {
        play_rounds(&steps, |world, offers| {
            let mut before = world.oracle.excess();
            for offer in &offers {
                world.oracle.offer(offer);
                let after = world.oracle.excess();
                assert!(keeps(&before, &after), "{offer:?}: {before:?} -> {after:?}");
                before = after;
            }
        });
    }

    #[test]
    fn safety_refusals_are_honoured(steps in steps()) {
        play(&steps, |oracle, offer, now| {
            let (client, follower) = place(offer);
            assert!(!oracle.is_refused(&client, &follower, &plain(offer), now), "{offer:?}");
        });
    }

    #[test]
    fn safety_only_who_wants_offers_and_may_see_the_follower_gets_any(steps in steps()) {
        play(&steps, |oracle, offer, _| {
            let (client, follower) = place(offer);
            assert!(oracle.wants(&client), "suppressed, inactive or not subscribed: {offer:?}");
            assert!(oracle.is_offered(&follower), "gone or not on the allow-list: {offer:?}");
            assert!(oracle.may_see(&client, &follower), "constraints, GPUs, region: {offer:?}");
            assert!(oracle.is_enough(&client, &plain(offer)), "too little: {offer:?}");
        });
    }

    #[test]
    fn liveness_nobody_who_could_be_offered_something_is_left_out(steps in steps()) {
        play_rounds(&steps, |world, offers| {
            offers.iter().for_each(|offer| world.oracle.offer(offer));
            assert_eq!(world.oracle.left_out(world.now), None);
            assert_ne!(world.allocator.next_deadline(world.now), Some(world.now), "nothing is left to do");
        });
    }

    #[test]
    fn books_agree_with_what_happened(steps in steps()) {
        let mut world = World::new();
        for step in steps.iter().chain([&Step::Allocate]) {
            world.apply(step);
            if matches!(step, Step::Allocate) {
                let offers = world.allocate();
                offers.iter().for_each(|offer| world.oracle.offer(offer));
            }
            world.allocator.check();
            books_agree(&world);
        }
    }

    #[test]
    fn guarantees_are_met_when_there_is_enough_for_them(
        guarantees in prop::collection::vec(0..6i64, 1..5),
        greedy in 0..4u8,
        spare in 0..6i64,
        sizes in prop::collection::vec(1..4i64, 1..4),
    ) {
        promises_are_kept(&guarantees, greedy, spare, &sizes);
    }
}

fn books_agree(world: &World) {
    let (allocator, oracle) = (&world.allocator, &world.oracle);
    for id in oracle.followers.keys() {
        let total = Some(&oracle.followers[id].info.total);
        assert_eq!(allocator.total(&follower_id(id)), total);
        if !oracle.is_overcommitted(id) {
            let available = oracle.available(id);
            assert_eq!(allocator.available(&follower_id(id)), Some(&available));
        }
    }
    for (((framework, role), follower), held) in &oracle.held {
        let (framework, follower) = (framework_id(framework), follower_id(follower));
        assert_eq!(allocator.held(&framework, &follower, role), Some(held));
    }
    for role in ["*", "a", "a/b", "a/c", "a/b/x", "d"] {
        assert_eq!(
            allocator.quota_consumed(role),
            oracle.consumed(role),
            "{role}"
        );
    }
}

/// Roles with guarantees that the cluster can meet, and frameworks that take all they are offered, in whatever order.
fn promises_are_kept(guarantees: &[i64], greedy: u8, spare: i64, sizes: &[i64]) {
    let mut cluster = Cluster::new();
    for f in 0..greedy {
        cluster.framework(&format!("greedy-{f}"), &["greedy"]);
    }
    for (r, units) in guarantees.iter().enumerate() {
        let quota = tepui_model::Quota {
            guarantees: [
                ("cpus", Scalar::units(*units)),
                ("mem", Scalar::units(*units * 100)),
            ]
            .into_iter()
            .collect(),
            ..Default::default()
        };
        cluster
            .allocator
            .update_quota(&format!("r{r}").into(), quota);
    }
    let mut left = guarantees.iter().sum::<i64>() + spare;
    for (s, size) in sizes.iter().cycle().enumerate() {
        if left <= 0 {
            break;
        }
        let size = (*size).min(left);
        left -= size;
        cluster.follower(&format!("s{s}"), &format!("cpus:{size};mem:{}", size * 100));
        if s % 2 == 0 {
            cluster.offers();
        }
    }
    cluster.offers();
    for r in 0..guarantees.len() {
        cluster.framework(&format!("f{r}"), &[&format!("r{r}")]);
    }
    cluster.offers();
    for (r, units) in guarantees.iter().enumerate() {
        let has = cluster.allocator.quota_consumed(&format!("r{r}"));
        assert!(
            has.amount("cpus") >= Scalar::units(*units)
                && has.amount("mem") >= Scalar::units(units * 100),
            "r{r} has {has} of {units}"
        );
    }
}

proptest! {
    #![proptest_config(cases(32))]

    #[test]
    fn fairness_roles_end_within_one_follower_of_their_weighted_shares_under_churn(
        weights in prop::collection::vec(1..6u8, 2..7),
        followers in 5..50usize,
        churn in prop::collection::vec((any::<u16>(), any::<bool>()), 0..100),
    ) {
        let weights: Vec<(u8, Vec<u8>)> = weights.into_iter().map(|weight| (weight, vec![])).collect();
        shares_are_fair(&weights, followers, &churn);
    }

    #[test]
    fn fairness_frameworks_of_a_role_are_within_one_follower_of_each_other(
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
            cluster.add_unchecked(&s.to_string(), "cpus:2;mem:100");
            if one_by_one {
                offers.extend(cluster.offers_unchecked());
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

    /// Within a subtree that holds less than before, whose tasks have ended decides who does: so below the first level this
    /// holds while nothing ends.
    #[test]
    fn fairness_holds_at_every_level_as_a_cluster_grows_and_at_the_first_under_churn(
        weights in prop::collection::vec((1..6u8, prop::collection::vec(1..6u8, 0..4)), 2..5),
        followers in 5..50usize,
        churn in prop::collection::vec((any::<u16>(), any::<bool>()), 0..60),
    ) {
        shares_are_fair(&weights, followers, &churn);
    }
}

/// A tree of two levels with weights; a framework in each leaf takes all it is offered. Followers are alike, and come free
/// at random, one or several between two allocations.
fn shares_are_fair(weights: &[(u8, Vec<u8>)], followers: usize, churn: &[(u16, bool)]) {
    let mut cluster = Cluster::new();
    let levels = a_tree(&mut cluster, weights);
    let mut held = Vec::new();
    for s in 0..followers {
        cluster.add_unchecked(&s.to_string(), "cpus:2;mem:100");
        if s % 3 == 0 {
            held.extend(cluster.offers_unchecked());
            fair(&levels, &held);
        }
    }
    held.extend(cluster.offers_unchecked());
    fair(&levels, &held);
    for (which, allocate) in churn {
        if held.is_empty() {
            held = cluster.offers_unchecked();
        }
        let ended = held.swap_remove(usize::from(*which) % held.len());
        cluster.free_unchecked(&ended, "cpus:2;mem:100");
        if *allocate {
            held.extend(cluster.offers_unchecked());
            fair(&levels[..1], &held);
        }
    }
    held.extend(cluster.offers_unchecked());
    assert_eq!(held.len(), followers, "all is offered");
    fair(&levels[..1], &held);
}

/// Siblings with their weights, the first level first.
type Levels = Vec<Vec<(String, f64)>>;

fn a_tree(cluster: &mut Cluster, weights: &[(u8, Vec<u8>)]) -> Levels {
    let mut levels: Levels = vec![Vec::new()];
    for (t, (weight, below)) in weights.iter().enumerate() {
        let top = format!("t{t}");
        levels[0].push((top.clone(), f64::from(*weight)));
        let leaf = |(l, weight): (usize, &u8)| (format!("{top}/{l}"), f64::from(*weight));
        let leaves: Vec<(String, f64)> = below.iter().enumerate().map(leaf).collect();
        let names: Vec<&str> = match leaves.is_empty() {
            true => vec![&top],
            false => leaves.iter().map(|(name, _)| name.as_str()).collect(),
        };
        for name in names {
            cluster.framework(name, &[name]);
        }
        levels.push(leaves);
    }
    for (role, weight) in levels.iter().flatten() {
        let role = role.as_str().into();
        cluster.allocator.update_weight(&role, *weight);
    }
    levels
}

/// Nobody has by weight more than a sibling would have with one follower more.
fn fair(levels: &[Vec<(String, f64)>], held: &[OfferedResources]) {
    let mut counts: BTreeMap<&str, f64> = BTreeMap::new();
    for offer in held {
        *counts.entry(&offer.role).or_default() += 1.0;
        if let Some(parent) = tepui_model::roles::parent(&offer.role) {
            *counts.entry(parent).or_default() += 1.0;
        }
    }
    let has = |role: &str| counts.get(role).copied().unwrap_or_default();
    for (one, weight) in levels.iter().flatten() {
        let level = levels
            .iter()
            .find(|level| level.iter().any(|(name, _)| name == one));
        for (other, its) in level.into_iter().flatten() {
            let (mine, theirs) = (has(one) / weight, has(other) / its);
            assert!(
                mine <= theirs + 1.0 / weight + 1e-9,
                "{one} has {mine}, {other} {theirs}: {counts:?}"
            );
        }
    }
}
