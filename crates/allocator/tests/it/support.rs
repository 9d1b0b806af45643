//! A small cluster to play with. Every call checks the allocator's invariants.

use std::{collections::BTreeSet, sync::Arc, time::Duration};
use tepui_allocator::{Allocator, FollowerInfo, FrameworkOptions, OfferedResources, Options};
use tepui_model::{FollowerId, FrameworkId, Resources, Rng, Time, resources};
use tepui_protocol::v1::resource::{ReservationInfo, reservation_info::Type};

pub(crate) struct Cluster {
    pub(crate) allocator: Allocator,
    pub(crate) now: Time,
    rng: Rng,
}

pub(crate) fn bag(text: &str) -> Resources {
    resources::parse(text, "*").expect("resources of a test")
}

pub(crate) fn framework_id(name: &str) -> FrameworkId {
    FrameworkId::new(name)
}

pub(crate) fn follower_id(name: &str) -> FollowerId {
    FollowerId::new(name)
}

pub(crate) fn roles(names: &[&str]) -> BTreeSet<Arc<str>> {
    names.iter().map(|name| Arc::from(*name)).collect()
}

pub(crate) fn subscribed(names: &[&str]) -> FrameworkOptions {
    FrameworkOptions {
        roles: roles(names),
        ..Default::default()
    }
}

/// A dynamic reservation for a role.
pub(crate) fn dynamic(role: &str) -> ReservationInfo {
    ReservationInfo {
        r#type: Some(Type::Dynamic as i32),
        role: Some(role.into()),
        ..Default::default()
    }
}

/// A follower that has this.
pub(crate) fn of(total: &str) -> FollowerInfo {
    FollowerInfo {
        total: bag(total),
        ..Default::default()
    }
}

impl Cluster {
    pub(crate) fn new() -> Self {
        Self::with(Options::default())
    }
    pub(crate) fn with(options: Options) -> Self {
        Self {
            allocator: Allocator::new(options),
            now: Time::from_nanos(1_000_500_000_000),
            rng: Rng::seed(7),
        }
    }
    pub(crate) fn framework(&mut self, id: &str, names: &[&str]) {
        self.allocator
            .add_framework(&framework_id(id), subscribed(names), true);
        self.allocator.check();
    }
    pub(crate) fn follower(&mut self, id: &str, total: &str) {
        self.follower_with(id, bag(total));
    }
    pub(crate) fn add_unchecked(&mut self, id: &str, total: &str) {
        self.allocator
            .add_follower(&follower_id(id), of(total), &[]);
    }
    pub(crate) fn follower_with(&mut self, id: &str, total: Resources) {
        let info = FollowerInfo {
            total,
            ..Default::default()
        };
        self.allocator.add_follower(&follower_id(id), info, &[]);
        self.allocator.check();
    }
    /// The offers, and nothing to do afterwards.
    pub(crate) fn offers(&mut self) -> Vec<OfferedResources> {
        let mut out = Vec::new();
        self.allocator.allocate(self.now, &mut self.rng, &mut out);
        self.allocator.check();
        assert_ne!(
            self.allocator.next_deadline(self.now),
            Some(self.now),
            "nothing is left to look at"
        );
        out
    }
    /// The offers, when questions may be left to be asked.
    pub(crate) fn take_offers(&mut self) -> Vec<OfferedResources> {
        let mut out = Vec::new();
        self.allocator.allocate(self.now, &mut self.rng, &mut out);
        self.allocator.check();
        out
    }
    /// The offers as `framework/role@follower resources`, sorted.
    pub(crate) fn offered(&mut self) -> Vec<String> {
        let mut texts: Vec<String> = self
            .offers()
            .into_iter()
            .map(|o| {
                format!(
                    "{}/{}@{} {}",
                    o.framework,
                    o.role,
                    o.follower,
                    o.resources.unallocated()
                )
            })
            .collect();
        texts.sort();
        texts
    }
    pub(crate) fn decline(&mut self, offer: &OfferedResources, seconds: f64) {
        let refuse = Some(Duration::from_secs_f64(seconds));
        self.allocator.recover(
            &offer.framework,
            &offer.follower,
            &offer.resources,
            refuse,
            self.now,
        );
        self.allocator.check();
    }
    pub(crate) fn free(&mut self, offer: &OfferedResources) {
        self.allocator.recover(
            &offer.framework,
            &offer.follower,
            &offer.resources,
            None,
            self.now,
        );
        self.allocator.check();
    }
    pub(crate) fn free_part(&mut self, offer: &OfferedResources, part: &str) {
        let part = bag(part).allocated(&offer.role);
        self.allocator
            .recover(&offer.framework, &offer.follower, &part, None, self.now);
        self.allocator.check();
    }
    /// For large clusters, where the invariants take long to check.
    pub(crate) fn offers_unchecked(&mut self) -> Vec<OfferedResources> {
        let mut out = Vec::new();
        self.allocator.allocate(self.now, &mut self.rng, &mut out);
        out
    }
    /// A part comes back, as from a task that ended.
    pub(crate) fn free_unchecked(&mut self, offer: &OfferedResources, part: &str) {
        let part = bag(part).allocated(&offer.role);
        self.allocator
            .recover(&offer.framework, &offer.follower, &part, None, self.now);
    }
    pub(crate) fn decline_unchecked(&mut self, offer: &OfferedResources, seconds: f64) {
        let refuse = Some(Duration::from_secs_f64(seconds));
        self.allocator.recover(
            &offer.framework,
            &offer.follower,
            &offer.resources,
            refuse,
            self.now,
        );
    }
    pub(crate) fn pass(&mut self, seconds: f64) {
        self.now = self.now + Duration::from_secs_f64(seconds);
    }
}

/// So many cases of a property, unless `PROPTEST_CASES` says otherwise.
#[expect(clippy::disallowed_methods, reason = "a test is no core")]
pub(crate) fn cases(usual: u32) -> proptest::prelude::ProptestConfig {
    let told = std::env::var("PROPTEST_CASES").ok();
    let told = told.and_then(|text| text.parse().ok());
    proptest::prelude::ProptestConfig::with_cases(told.unwrap_or(usual))
}
