//! Why somebody is offered nothing, and that what is suggested helps: each suggestion is carried out on the cluster itself,
//! and the offer comes.

use crate::support::{Cluster, bag, follower_id, framework_id, of, roles, subscribed};
use std::{collections::BTreeSet, sync::Arc};
use tepui_allocator::{
    ConstraintLimits, Constraints, Conversion, FollowerInfo, FrameworkOptions, OfferedResources,
    trial::{Answer, Capability, Cause, Change, Kind, Question, QuestionError, Trial, Who},
};
use tepui_model::{Quantities, Quota, Resource, Rng, Scalar, resources::Limits};
use tepui_protocol::v1::scheduler::{
    AttributeConstraint,
    attribute_constraint::{Predicate, Selector, predicate, selector},
    offer_constraints::{RoleConstraints, role_constraints::Group},
};

/// A cluster, and the offers that are out.
struct Scene {
    cluster: Cluster,
    offers: Vec<OfferedResources>,
}

impl Scene {
    fn new() -> Self {
        Self {
            cluster: Cluster::new(),
            offers: Vec::new(),
        }
    }
    fn framework(&mut self, id: &str, role: &str) {
        self.framework_with(id, subscribed(&[role]));
    }
    fn framework_with(&mut self, id: &str, options: FrameworkOptions) {
        self.cluster
            .allocator
            .add_framework(&framework_id(id), options, true);
    }
    fn offer(&mut self) -> Vec<OfferedResources> {
        let new = self.cluster.offers();
        self.offers.extend(new.iter().cloned());
        new
    }
    /// Everything that is offered turns into tasks.
    fn use_all(&mut self) {
        self.offer();
        self.offers.clear();
    }
    fn decline_all(&mut self, seconds: f64) {
        self.offer();
        for offer in std::mem::take(&mut self.offers) {
            self.cluster.decline(&offer, seconds);
        }
    }
    fn trial(&self) -> Trial {
        let snapshot = self.cluster.allocator.snapshot();
        Trial::new(
            snapshot,
            self.offers.clone(),
            self.cluster.now,
            Rng::seed(1),
        )
    }
    fn ask(&self, id: &str, demand: &str) -> Answer {
        let question = Question {
            who: Who::Framework {
                id: framework_id(id),
                role: None,
            },
            demand: amounts(demand),
            follower: None,
        };
        let mut answers = self.trial().explain(&question).expect("known");
        assert_eq!(answers.len(), 1, "one for its only role");
        answers.remove(0)
    }
    /// The kinds of causes that are met, and that the first suggestion brings the offer.
    fn blocked_by(&mut self, id: &str, demand: &str, kind: Kind) -> Answer {
        let answer = self.ask(id, demand);
        assert!(answer.is_blocked(), "{answer:?}");
        let kinds: BTreeSet<Kind> = answer
            .everywhere
            .iter()
            .chain(answer.findings.iter().map(|finding| &finding.cause))
            .map(Cause::kind)
            .collect();
        assert!(kinds.contains(&kind), "{kinds:?}");
        let first = answer.suggestions.first().expect("a suggestion");
        assert!(first.verified, "{first:?}");
        for change in &first.changes {
            self.carry_out(change);
        }
        let came = self.offer().into_iter().any(|offer| {
            offer.framework == framework_id(id)
                && offer.resources.contains_quantities(&amounts(demand))
        });
        assert!(came, "{:?} brings the offer", first.changes);
        answer
    }
    fn carry_out(&mut self, change: &Change) {
        let allocator = &mut self.cluster.allocator;
        match change {
            Change::AddFollowers {
                count,
                total,
                traits,
            } => {
                for i in 0..*count {
                    let info = FollowerInfo {
                        total: total.clone(),
                        traits: traits.clone(),
                        ..Default::default()
                    };
                    allocator.add_follower(&follower_id(&format!("new{i}")), info, &[]);
                }
            }
            Change::SetQuota { role, quota } => allocator.update_quota(role, quota.clone()),
            Change::Revive { framework, role } => {
                allocator.revive(framework, &BTreeSet::from([role.clone()]));
            }
            Change::Unreserve {
                follower,
                resources,
            } => {
                let conversion = Conversion {
                    consumed: resources.clone(),
                    converted: resources.to_unreserved(),
                };
                let done = allocator.update_available(follower, &[conversion]);
                done.expect("reserved, and nobody's");
            }
            Change::ReturnOffers {
                framework,
                follower,
            } => {
                let meant = |offer: &OfferedResources| {
                    offer.framework == *framework
                        && follower.as_ref().is_none_or(|at| *at == offer.follower)
                };
                let (back, kept) = std::mem::take(&mut self.offers)
                    .into_iter()
                    .partition(|offer| meant(offer));
                self.offers = kept;
                let back: Vec<OfferedResources> = back;
                for offer in back {
                    self.cluster.decline(&offer, 60.0);
                }
            }
            Change::Release {
                framework,
                role,
                follower,
                resources,
            } => {
                let marked = resources.clone().allocated(role);
                allocator.recover(framework, follower, &marked, None, self.cluster.now);
            }
            Change::AddCapability {
                framework,
                capability: Capability::GpuResources,
            } => {
                let mut options = subscribed(&["a"]);
                options.capabilities.gpu_resources = true;
                allocator.update_framework(framework, options);
            }
            Change::DropConstraints { framework, .. } => {
                allocator.update_framework(framework, subscribed(&["a"]));
            }
            Change::ActivateFollower(id) => allocator.activate_follower(id),
            Change::AllowHost(host) => {
                allocator.set_allow_list(Some(BTreeSet::from([host.to_string()])));
            }
            other => panic!("not expected here: {other}"),
        }
    }
}

fn amounts(text: &str) -> Quantities {
    bag(text).quantities()
}

#[test]
fn a_quota_that_is_used_up_is_named_with_what_is_missing() {
    let mut scene = Scene::new();
    scene.cluster.follower("s1", "cpus:8;mem:8000");
    let limits: Limits = [("cpus", Scalar::units(2))].into_iter().collect();
    let quota = Quota {
        limits,
        ..Default::default()
    };
    scene.cluster.allocator.update_quota(&"a".into(), quota);
    scene.framework("f", "a");
    scene.use_all();
    let answer = scene.blocked_by("f", "cpus:1;mem:100", Kind::LimitReached);
    let reached = answer.findings.iter().find_map(|f| match &f.cause {
        Cause::LimitReached {
            role,
            limit,
            consumed,
            wanted,
            ..
        } => Some((role.to_string(), *limit, *consumed, *wanted)),
        _ => None,
    });
    let expected = (
        "a".to_owned(),
        Scalar::units(2),
        Scalar::units(2),
        Scalar::units(1),
    );
    assert_eq!(reached, Some(expected));
}

#[test]
fn a_limit_of_a_role_above_is_found_as_well() {
    let mut scene = Scene::new();
    scene.cluster.follower("s1", "cpus:8;mem:8000");
    let limits: Limits = [("cpus", Scalar::ZERO)].into_iter().collect();
    let quota = Quota {
        limits,
        ..Default::default()
    };
    scene.cluster.allocator.update_quota(&"a".into(), quota);
    scene.framework("f", "a/b");
    scene.use_all();
    scene.blocked_by("f", "cpus:1", Kind::LimitReached);
}

#[test]
fn what_is_kept_for_guarantees_is_told_from_what_is_used() {
    let mut scene = Scene::new();
    scene.cluster.follower("s1", "cpus:2;mem:2000");
    let quota = Quota {
        guarantees: amounts("cpus:2;mem:2000"),
        ..Default::default()
    };
    scene.cluster.allocator.update_quota(&"other".into(), quota);
    scene.framework("f", "a");
    scene.use_all();
    scene.blocked_by("f", "cpus:1;mem:100", Kind::KeptForGuarantees);
}

#[test]
fn refusals_are_shown_with_the_time_that_is_left() {
    let mut scene = Scene::new();
    scene.cluster.follower("s1", "cpus:2;mem:2000");
    scene.cluster.follower("s2", "cpus:2;mem:2000");
    scene.framework("f", "a");
    scene.decline_all(300.0);
    scene.cluster.pass(100.0);
    let now = scene.cluster.now;
    let answer = scene.blocked_by("f", "cpus:1", Kind::Refused);
    assert_eq!(answer.findings.len(), 1);
    assert_eq!(answer.findings[0].followers, 2);
    let (first, last) = answer.findings[0].refused.expect("refused");
    let left = std::time::Duration::from_secs(200);
    assert_eq!((first, last), (now + left, now + left));
}

#[test]
fn what_is_reserved_for_others_could_be_unreserved() {
    let mut scene = Scene::new();
    let reserved = tepui_model::resources::parse("cpus(other):4;mem:4000", "*").expect("resources");
    scene.cluster.follower_with("s1", reserved);
    scene.framework("f", "a");
    scene.decline_all(0.1);
    scene.cluster.pass(10.0);
    let answer = scene.blocked_by("f", "cpus:1;mem:100", Kind::ReservedForOthers);
    let by_role = answer
        .findings
        .iter()
        .find_map(|finding| match &finding.cause {
            Cause::ReservedForOthers(roles) => Some(roles.clone()),
            _ => None,
        });
    let expected = [(Arc::from("other"), amounts("cpus:4"))];
    assert_eq!(by_role, Some(expected.into_iter().collect()));
}

#[test]
fn no_follower_is_large_enough() {
    let mut scene = Scene::new();
    scene.cluster.follower("s1", "cpus:2;mem:2000");
    scene.cluster.follower("s2", "cpus:3;mem:2000");
    scene.framework("f", "a");
    scene.decline_all(300.0);
    let answer = scene.blocked_by("f", "cpus:4;mem:100", Kind::TooSmall);
    assert_eq!(answer.findings[0].followers, 2);
    assert!(
        answer.fragments.is_none(),
        "it would not be enough if it were free"
    );
    assert!(matches!(
        answer.suggestions[0].changes.as_slice(),
        [Change::AddFollowers { .. }]
    ));
}

#[test]
fn there_is_enough_but_in_pieces() {
    let mut scene = Scene::new();
    scene.framework("other", "b");
    for id in ["s1", "s2", "s3"] {
        scene.cluster.follower(id, "cpus:4;mem:4000");
    }
    // Tasks of 3 CPUs everywhere; the rest comes back.
    for offer in scene.offer() {
        scene.cluster.free_part(&offer, "cpus:1;mem:1000");
    }
    scene.offers.clear();
    scene
        .cluster
        .allocator
        .suppress(&framework_id("other"), &BTreeSet::new());
    scene.framework("f", "a");
    for offer in scene.offer() {
        scene.cluster.decline(&offer, 0.5);
    }
    scene.offers.clear();
    scene.cluster.pass(60.0);
    let answer = scene.ask("f", "cpus:2;mem:500");
    let fragments = answer.fragments.clone().expect("in pieces");
    assert_eq!(fragments.free, amounts("cpus:3;mem:3000"));
    assert_eq!(fragments.most, amounts("cpus:1;mem:1000"));
    scene.blocked_by("f", "cpus:2;mem:500", Kind::InUse);
}

#[test]
fn who_suppressed_offers_is_told_to_revive() {
    let mut scene = Scene::new();
    scene.cluster.follower("s1", "cpus:2;mem:2000");
    scene.framework("f", "a");
    scene
        .cluster
        .allocator
        .suppress(&framework_id("f"), &roles(&["a"]));
    scene.offer();
    let answer = scene.blocked_by("f", "cpus:1", Kind::Suppressed);
    assert!(answer.findings.is_empty(), "no follower is in the way");
}

#[test]
fn constraints_that_match_nowhere_are_named() {
    let constraint = AttributeConstraint {
        selector: Selector {
            selector: Some(selector::Selector::AttributeName("rack".to_owned())),
        },
        predicate: Predicate {
            predicate: Some(predicate::Predicate::Exists(predicate::Exists {})),
        },
    };
    let source = RoleConstraints {
        groups: vec![Group {
            attribute_constraints: vec![constraint],
        }],
    };
    let compiled = Constraints::new(&source, &ConstraintLimits::default()).expect("constraints");
    let mut scene = Scene::new();
    scene.cluster.follower("s1", "cpus:2;mem:2000");
    let mut options = subscribed(&["a"]);
    options
        .offer_constraints
        .insert("a".into(), Arc::new(compiled));
    scene.framework_with("f", options);
    scene.offer();
    let answer = scene.blocked_by("f", "cpus:1", Kind::Constraints);
    assert_eq!(answer.findings.len(), 1);
}

#[test]
fn who_hoards_offers_is_named() {
    let mut scene = Scene::new();
    scene.cluster.follower("s1", "cpus:2;mem:2000");
    scene.cluster.follower("s2", "cpus:2;mem:2000");
    scene.framework("hoarder", "b");
    scene.offer();
    scene.framework("f", "a");
    scene.offer();
    let answer = scene.blocked_by("f", "cpus:1", Kind::HeldInOffers);
    assert_eq!(answer.findings[0].holders, [(framework_id("hoarder"), 2)]);
}

#[test]
fn gpus_go_to_who_knows_them() {
    let mut scene = Scene::new();
    scene.cluster.follower("s1", "cpus:2;mem:2000;gpus:1");
    scene.framework("f", "a");
    scene.offer();
    scene.blocked_by("f", "cpus:1;gpus:1", Kind::NoGpuCapability);
}

#[test]
fn followers_that_are_away_or_not_allowed_are_told_apart() {
    let mut scene = Scene::new();
    scene.cluster.follower("s1", "cpus:2;mem:2000");
    scene
        .cluster
        .allocator
        .deactivate_follower(&follower_id("s1"));
    scene.framework("f", "a");
    scene.offer();
    scene.blocked_by("f", "cpus:1", Kind::Inactive);
    let mut scene = Scene::new();
    let hosts = Some(BTreeSet::from(["elsewhere".to_owned()]));
    scene.cluster.allocator.set_allow_list(hosts);
    scene.cluster.follower("s1", "cpus:2;mem:2000");
    scene.framework("f", "a");
    scene.offer();
    scene.blocked_by("f", "cpus:1", Kind::NotAllowed);
}

#[test]
fn who_holds_the_offer_is_not_blocked() {
    let mut scene = Scene::new();
    scene.cluster.follower("s1", "cpus:2;mem:2000");
    scene.framework("f", "a");
    scene.offer();
    let answer = scene.ask("f", "cpus:1");
    assert!(!answer.is_blocked());
    assert_eq!(answer.holds, [(follower_id("s1"), bag("cpus:2;mem:2000"))]);
    assert!(answer.suggestions.is_empty());
}

#[test]
fn several_causes_on_one_follower_are_lifted_together() {
    let mut scene = Scene::new();
    scene.cluster.follower("s1", "cpus:2;mem:2000");
    let limits: Limits = [("cpus", Scalar::units(1))].into_iter().collect();
    let quota = Quota {
        limits,
        ..Default::default()
    };
    scene.framework("other", "b");
    scene.offer();
    scene.cluster.allocator.update_quota(&"a".into(), quota);
    scene.framework("f", "a");
    scene.offer();
    let answer = scene.blocked_by("f", "cpus:2", Kind::LimitReached);
    let kinds: Vec<Kind> = answer.findings.iter().map(|f| f.cause.kind()).collect();
    assert!(kinds.contains(&Kind::HeldInOffers), "{kinds:?}");
    assert_eq!(answer.suggestions[0].changes.len(), 2);
}

#[test]
fn anybody_can_be_asked_about_and_unknown_ones_cannot() {
    let mut scene = Scene::new();
    scene
        .cluster
        .allocator
        .add_follower(&follower_id("s1"), of("cpus:2;mem:2000"), &[]);
    let mut question = Question {
        who: Who::Anybody {
            role: "new/role".into(),
            capabilities: Default::default(),
        },
        demand: amounts("cpus:1"),
        follower: None,
    };
    let answers = scene.trial().explain(&question).expect("anybody");
    assert!(!answers[0].is_blocked());
    assert_eq!(answers[0].fitting, 1);
    question.demand.add(
        Resource::scalar("gpus", Scalar::units(1)).name(),
        Scalar::units(1),
    );
    let answers = scene.trial().explain(&question).expect("anybody");
    assert!(answers[0].is_blocked(), "nobody has GPUs");
    question.follower = Some(follower_id("s9"));
    assert_eq!(
        scene.trial().explain(&question),
        Err(QuestionError::UnknownFollower(follower_id("s9")))
    );
    question.who = Who::Framework {
        id: framework_id("x"),
        role: None,
    };
    question.follower = None;
    assert_eq!(
        scene.trial().explain(&question),
        Err(QuestionError::UnknownFramework(framework_id("x")))
    );
}
