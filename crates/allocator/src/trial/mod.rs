//! What if: questions to a copy of the allocator.
//!
//! A [`Trial`] is a snapshot that whoever asks may change at will, on their own thread: why somebody is offered nothing
//! ([`Trial::explain`]), and what would happen if something were otherwise ([`Trial::simulate`]). The answers come from
//! the allocator itself: suggestions are tried on a copy before they are made.

mod causes;
mod changes;
mod explain;
mod simulate;
mod suggest;

pub use causes::{Cause, Holding, Kind};
pub use changes::{Capability, Change, ChangeError};
pub use explain::{Answer, Finding, Fragments, Question, QuestionError, Standing, Who};
pub use simulate::{Demand, Outcome, Picture, Placed, Shares, Simulation};
pub use suggest::Suggestion;

use crate::{Allocator, options::OfferedResources};
use std::{collections::BTreeMap, sync::Arc};
use tepui_model::{FollowerId, FrameworkId, Resources, Rng, Time};

/// A copy of the allocator to ask and to try things on.
#[derive(Clone, Debug)]
pub struct Trial {
    allocator: Allocator,
    /// What is out in offers; the allocator itself does not tell it from what is used. Marked as allocated.
    offers: Arc<Vec<OfferedResources>>,
    now: Time,
    rng: Rng,
    /// For the ids of followers and frameworks that are made up.
    made_up: u32,
}

impl Trial {
    /// Of a snapshot, and the offers that were out at that moment.
    pub fn new(snapshot: Allocator, offers: Vec<OfferedResources>, now: Time, rng: Rng) -> Self {
        Self {
            allocator: snapshot,
            offers: Arc::new(offers),
            now,
            rng,
            made_up: 0,
        }
    }

    /// Offers what can be offered.
    fn allocate(&mut self) -> Vec<OfferedResources> {
        let mut offers = Vec::new();
        self.allocator
            .allocate(self.now, &mut self.rng, &mut offers);
        offers
    }

    /// What is out in offers, by follower.
    fn offered(&self) -> BTreeMap<&FollowerId, Vec<&OfferedResources>> {
        let mut offered: BTreeMap<&FollowerId, Vec<&OfferedResources>> = BTreeMap::new();
        for offer in self.offers.iter() {
            offered.entry(&offer.follower).or_default().push(offer);
        }
        offered
    }

    fn new_framework_id(&mut self) -> FrameworkId {
        loop {
            let id = FrameworkId::new(format!("hypothetical-{}", self.made_up));
            self.made_up += 1;
            if !self.allocator.framework_index.contains_key(&id) {
                return id;
            }
        }
    }

    fn new_follower_id(&mut self) -> FollowerId {
        loop {
            let id = FollowerId::new(format!("hypothetical-S{}", self.made_up));
            self.made_up += 1;
            if !self.allocator.follower_index.contains_key(&id) {
                return id;
            }
        }
    }
}

/// Resources marked as allocated to nobody.
fn plain(resources: &Resources) -> Resources {
    resources.clone().unallocated()
}
