//! Who is asked to leave a follower that will be unavailable, and how often.

use crate::support::*;
use proptest::prelude::*;
use std::{collections::BTreeSet, time::Duration};
use tepui_allocator::InverseOffer;

impl Cluster {
    /// Whom to ask now, as `framework@follower`.
    fn asked(&mut self) -> Vec<String> {
        let mut out: Vec<InverseOffer> = Vec::new();
        self.allocator.inverse_offers(self.now, &mut out);
        self.allocator.check();
        let mut texts: Vec<String> = out
            .iter()
            .map(|o| format!("{}@{}", o.framework, o.follower))
            .collect();
        texts.sort();
        texts
    }
    fn unavailable(&mut self, follower: &str, unavailable: bool) {
        self.allocator
            .set_unavailable(&follower_id(follower), unavailable);
        self.allocator.check();
    }
    fn answered(&mut self, framework: &str, follower: &str, refuse: Option<f64>) {
        self.allocator.recover_inverse(
            &framework_id(framework),
            &follower_id(follower),
            refuse.map(Duration::from_secs_f64),
            self.now,
        );
        self.allocator.check();
    }
}

/// Two frameworks; the first holds `s1`, the second `s2`.
fn two() -> Cluster {
    let mut cluster = Cluster::new();
    cluster.framework("f1", &["*"]);
    cluster.follower("s1", "cpus:2;mem:1000");
    assert_eq!(cluster.offered().len(), 1);
    cluster.framework("f2", &["*"]);
    cluster.follower("s2", "cpus:2;mem:1000");
    let offers = cluster.offers();
    assert_eq!(offers.len(), 1);
    assert_eq!(offers[0].framework, framework_id("f2"));
    cluster
}

#[test]
fn whoever_holds_something_is_asked_once() {
    let mut cluster = two();
    assert_eq!(cluster.asked(), [""; 0]);
    cluster.unavailable("s1", true);
    assert_eq!(
        cluster.allocator.next_deadline(cluster.now),
        Some(cluster.now)
    );
    assert_eq!(cluster.asked(), ["f1@s1"]);
    cluster.pass(100.0);
    assert_eq!(cluster.asked(), [""; 0]);
}

#[test]
fn an_answer_is_asked_for_again_when_its_refusal_ends() {
    let mut cluster = two();
    cluster.unavailable("s1", true);
    assert_eq!(cluster.asked(), ["f1@s1"]);
    cluster.answered("f1", "s1", Some(10.0));
    cluster.pass(9.0);
    assert_eq!(cluster.asked(), [""; 0]);
    cluster.pass(1.0);
    assert_eq!(cluster.asked(), ["f1@s1"]);
    // No refusal: soon again, not at once.
    cluster.answered("f1", "s1", None);
    assert_eq!(cluster.asked(), [""; 0]);
    cluster.pass(1.0);
    assert_eq!(cluster.asked(), ["f1@s1"]);
}

#[test]
fn whoever_gets_something_there_later_is_asked_then() {
    let mut cluster = Cluster::new();
    cluster.follower("s1", "cpus:2;mem:1000");
    cluster.unavailable("s1", true);
    assert_eq!(cluster.asked(), [""; 0]);
    cluster.framework("f1", &["*"]);
    assert_eq!(cluster.take_offers().len(), 1);
    assert_eq!(cluster.asked(), ["f1@s1"]);
}

#[test]
fn a_new_plan_forgets_what_was_asked_and_refused() {
    let mut cluster = two();
    cluster.unavailable("s1", true);
    assert_eq!(cluster.asked(), ["f1@s1"]);
    cluster.answered("f1", "s1", Some(1000.0));
    cluster.unavailable("s1", true);
    assert_eq!(cluster.asked(), ["f1@s1"]);
    cluster.unavailable("s1", false);
    cluster.pass(2000.0);
    assert_eq!(cluster.asked(), [""; 0]);
}

#[test]
fn only_active_frameworks_on_active_followers_are_asked() {
    let mut cluster = two();
    cluster.unavailable("s1", true);
    cluster.unavailable("s2", true);
    cluster.allocator.deactivate_framework(&framework_id("f1"));
    cluster.allocator.deactivate_follower(&follower_id("s2"));
    assert_eq!(cluster.asked(), [""; 0]);
    cluster.allocator.activate_framework(&framework_id("f1"));
    assert_eq!(cluster.asked(), ["f1@s1"]);
    cluster.allocator.activate_follower(&follower_id("s2"));
    assert_eq!(cluster.asked(), ["f2@s2"]);
}

#[test]
fn reviving_forgets_refusals_of_questions_too() {
    let mut cluster = two();
    cluster.unavailable("s1", true);
    assert_eq!(cluster.asked(), ["f1@s1"]);
    cluster.answered("f1", "s1", Some(1000.0));
    cluster
        .allocator
        .revive(&framework_id("f1"), &BTreeSet::new());
    assert_eq!(cluster.asked(), ["f1@s1"]);
}

#[derive(Clone, Debug)]
enum Event {
    Framework(u8),
    RemoveFramework(u8),
    Activate(u8, bool),
    Follower(u8),
    RemoveFollower(u8),
    Connect(u8, bool),
    Plan(u8, bool),
    Answer(u8, Option<u8>),
    Free(u8),
    Revive(u8),
    Pass(u16),
}

fn events() -> impl Strategy<Value = Event> {
    use Event::*;
    let (f, s) = (0..4u8, 0..4u8);
    prop_oneof![
        2 => f.clone().prop_map(Framework),
        1 => f.clone().prop_map(RemoveFramework),
        1 => (f.clone(), any::<bool>()).prop_map(|(f, on)| Activate(f, on)),
        3 => s.clone().prop_map(Follower),
        1 => s.clone().prop_map(RemoveFollower),
        1 => (s.clone(), any::<bool>()).prop_map(|(s, on)| Connect(s, on)),
        4 => (s, prop::bool::weighted(0.8)).prop_map(|(s, on)| Plan(s, on)),
        6 => (any::<u8>(), prop::option::of(0..20u8)).prop_map(|(q, t)| Answer(q, t)),
        3 => any::<u8>().prop_map(Free),
        1 => f.prop_map(Revive),
        4 => (0..6000u16).prop_map(Pass),
    ]
}

proptest! {
    /// Safety: nobody is asked twice without having answered. Liveness is among the allocator's
    /// own invariants, which are checked after every event.
    #[test]
    fn a_question_is_out_at_most_once(events in prop::collection::vec(events(), 1..80)) {
        use Event::*;
        let mut cluster = Cluster::new();
        let mut out: BTreeSet<(String, String)> = BTreeSet::new();
        let mut offers = Vec::new();
        for event in events {
            match event {
                Framework(f) => cluster.framework(&format!("f{f}"), &["*"]),
                RemoveFramework(f) => {
                    let id = format!("f{f}");
                    cluster.allocator.remove_framework(&framework_id(&id));
                    out.retain(|(framework, _)| *framework != id);
                }
                Activate(f, true) => cluster.allocator.activate_framework(&framework_id(&format!("f{f}"))),
                Activate(f, false) => cluster.allocator.deactivate_framework(&framework_id(&format!("f{f}"))),
                Follower(s) => {
                    let id = format!("s{s}");
                    cluster.follower(&id, "cpus:2;mem:1000");
                    out.retain(|(_, follower)| *follower != id);
                }
                RemoveFollower(s) => {
                    let id = format!("s{s}");
                    cluster.allocator.remove_follower(&follower_id(&id));
                    out.retain(|(_, follower)| *follower != id);
                }
                Connect(s, true) => cluster.allocator.activate_follower(&follower_id(&format!("s{s}"))),
                Connect(s, false) => cluster.allocator.deactivate_follower(&follower_id(&format!("s{s}"))),
                Plan(s, planned) => {
                    let id = format!("s{s}");
                    cluster.unavailable(&id, planned);
                    out.retain(|(_, follower)| *follower != id);
                }
                Answer(which, refuse) => {
                    let chosen = out.iter().nth(usize::from(which) % out.len().max(1)).cloned();
                    if let Some((framework, follower)) = chosen {
                        cluster.answered(&framework, &follower, refuse.map(f64::from));
                        out.remove(&(framework, follower));
                    }
                }
                Free(which) if !offers.is_empty() => {
                    let offer = offers.swap_remove(usize::from(which) % offers.len());
                    cluster.free(&offer);
                }
                Free(_) => {}
                Revive(f) => cluster.allocator.revive(&framework_id(&format!("f{f}")), &BTreeSet::new()),
                Pass(millis) => cluster.pass(f64::from(millis) / 1000.0),
            }
            cluster.allocator.check();
            offers.extend(cluster.take_offers());
            for question in cluster.asked() {
                let (framework, follower) = question.split_once('@').expect("two names");
                let fresh = out.insert((framework.to_owned(), follower.to_owned()));
                prop_assert!(fresh, "{question} is out already");
            }
            prop_assert!(
                cluster.allocator.next_deadline(cluster.now).is_none_or(|at| at > cluster.now),
                "nothing is left to look at"
            );
        }
    }
}
