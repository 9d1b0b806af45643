//! What would happen if something were otherwise.
//!
//! The cluster is taken as it is, and as it would be after the changes; in both, what is out in offers goes back first, and
//! is dealt out anew. Demands are made-up frameworks that take so many equal pieces of what they are offered; then the
//! frameworks there keep what they use, and want no more.

use super::{Answer, Change, ChangeError, Question, Trial, Who, plain};
use crate::options::{FrameworkCapabilities, FrameworkOptions, OfferedResources};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use tepui_model::{FollowerId, FrameworkId, Quantities, Resources, Scalar};

/// Tasks that somebody would run.
#[derive(Clone, Debug, PartialEq)]
pub struct Demand {
    /// In which role.
    pub role: Arc<str>,
    /// What each takes.
    pub each: Quantities,
    /// How many.
    pub count: u32,
    /// What their framework knows.
    pub capabilities: FrameworkCapabilities,
}

/// What to try.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Simulation {
    /// One after the other.
    pub changes: Vec<Change>,
    /// Then all at once.
    pub demands: Vec<Demand>,
}

/// What a role has.
#[derive(Clone, Debug, PartialEq)]
pub struct Shares {
    /// Weight in fair sharing.
    pub weight: f64,
    /// Its dominant share, roles below it included.
    pub share: f64,
    /// What its frameworks and those of roles below it hold.
    pub allocation: Quantities,
    /// What counts against its quota.
    pub consumed: Quantities,
    /// What its guarantee lacks.
    pub lacking: Quantities,
}

/// The cluster at a glance.
#[derive(Clone, Debug, PartialEq)]
pub struct Picture {
    /// How many followers.
    pub followers: usize,
    /// What they have.
    pub total: Quantities,
    /// What of that nobody holds.
    pub free: Quantities,
    /// By name.
    pub roles: BTreeMap<Arc<str>, Shares>,
    /// What frameworks hold, by role.
    pub frameworks: BTreeMap<(FrameworkId, Arc<str>), Quantities>,
}

/// What became of a demand.
#[derive(Clone, Debug, PartialEq)]
pub struct Placed {
    /// What was wanted.
    pub demand: Demand,
    /// How many found a place, by follower.
    pub on: BTreeMap<FollowerId, u32>,
    /// Why the rest did not.
    pub why: Option<Box<Answer>>,
}

impl Placed {
    /// How many found a place.
    pub fn placed(&self) -> u32 {
        self.on.values().sum()
    }
}

/// What would happen.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// As it is.
    pub before: Picture,
    /// As it would be.
    pub after: Picture,
    /// What became of the demands.
    pub placed: Vec<Placed>,
}

/// A demand that is being placed.
struct Taker {
    framework: FrameworkId,
    left: u32,
    placed: Placed,
}

impl Trial {
    /// Tries changes and demands.
    pub fn simulate(&self, simulation: &Simulation) -> Result<Outcome, ChangeError> {
        let mut before = self.clone();
        let mut after = self.clone();
        for change in &simulation.changes {
            after.apply(change)?;
        }
        let placed = if simulation.demands.is_empty() {
            for trial in [&mut before, &mut after] {
                trial.redeal();
                trial.allocate();
            }
            Vec::new()
        } else {
            for trial in [&mut before, &mut after] {
                trial.redeal();
            }
            after.silence();
            after.place(&simulation.demands)
        };
        Ok(Outcome {
            before: before.picture(),
            after: after.picture(),
            placed,
        })
    }

    /// Nobody there wants offers any more.
    fn silence(&mut self) {
        let frameworks = self.allocator.frameworks.iter();
        let ids: Vec<FrameworkId> = frameworks.map(|(_, f)| f.id.clone()).collect();
        for id in ids {
            self.allocator.suppress(&id, &BTreeSet::new());
        }
    }

    fn place(&mut self, demands: &[Demand]) -> Vec<Placed> {
        let mut takers: Vec<Taker> = demands
            .iter()
            .map(|demand| Taker {
                framework: self.join(demand),
                left: demand.count,
                placed: Placed {
                    demand: demand.clone(),
                    on: BTreeMap::new(),
                    why: None,
                },
            })
            .collect();
        loop {
            let offers = self.allocate();
            let mut progress = false;
            for offer in &offers {
                if let Some(taker) = takers.iter_mut().find(|t| t.framework == offer.framework) {
                    progress |= self.take(taker, offer);
                }
            }
            if !progress {
                break;
            }
        }
        takers
            .into_iter()
            .map(|taker| self.explain_rest(taker))
            .collect()
    }

    fn join(&mut self, demand: &Demand) -> FrameworkId {
        let id = self.new_framework_id();
        let role = demand.role.clone();
        let options = FrameworkOptions {
            roles: BTreeSet::from([role.clone()]),
            capabilities: demand.capabilities,
            min_allocatable_resources: [(role, vec![demand.each.clone()])].into_iter().collect(),
            ..Default::default()
        };
        self.allocator.add_framework(&id, options, true);
        id
    }

    /// Takes as many pieces of an offer as fit and are wanted. Whether it took some.
    fn take(&mut self, taker: &mut Taker, offer: &OfferedResources) -> bool {
        let mut rest = plain(&offer.resources);
        let mut pieces = 0;
        while taker.left > 0
            && let Some(piece) = piece_of(&rest, &taker.placed.demand.each)
        {
            rest = rest.saturating_sub(&piece);
            taker.left -= 1;
            pieces += 1;
        }
        let back = rest.allocated(&offer.role);
        self.allocator
            .offer_answered(&offer.framework, &offer.resources);
        self.allocator
            .recover(&offer.framework, &offer.follower, &back, None, self.now);
        if pieces > 0 {
            *taker.placed.on.entry(offer.follower.clone()).or_default() += pieces;
        }
        if taker.left == 0 {
            self.allocator.suppress(&taker.framework, &BTreeSet::new());
        }
        pieces > 0
    }

    fn explain_rest(&self, taker: Taker) -> Placed {
        let mut placed = taker.placed;
        if taker.left > 0 {
            let question = Question {
                who: Who::Anybody {
                    role: placed.demand.role.clone(),
                    capabilities: placed.demand.capabilities,
                },
                demand: placed.demand.each.clone(),
                follower: None,
            };
            let answers = self.explain(&question);
            placed.why = answers.ok().and_then(|mut all| all.pop()).map(Box::new);
        }
        placed
    }

    fn picture(&self) -> Picture {
        let allocator = &self.allocator;
        let mut free = Quantities::new();
        for (_, follower) in allocator.followers.iter() {
            free.add_all(&follower.available.quantities());
        }
        let roles = allocator.roles().map(|role| {
            let mut lacking = role.quota.guarantees.clone();
            lacking.subtract_all(&role.consumed);
            let shares = Shares {
                weight: role.weight,
                share: allocator.totals.share(&role.subtree_allocation),
                allocation: role.subtree_allocation,
                consumed: role.consumed,
                lacking,
            };
            (role.name, shares)
        });
        let mut frameworks: BTreeMap<(FrameworkId, Arc<str>), Quantities> = BTreeMap::new();
        for (slot, client) in allocator.clients.iter() {
            let role = &allocator.roles[client.role];
            let held = role.clients.allocation(slot).cloned().unwrap_or_default();
            if !held.is_empty() {
                let id = allocator.frameworks[client.framework].id.clone();
                frameworks.insert((id, role.name.clone()), held);
            }
        }
        Picture {
            followers: allocator.followers.iter().count(),
            total: allocator.totals().clone(),
            free,
            roles: roles.collect(),
            frameworks,
        }
    }
}

/// So much of what there is, or nothing.
fn piece_of(resources: &Resources, each: &Quantities) -> Option<Resources> {
    let mut piece = Resources::new();
    for (name, amount) in each.iter() {
        let mut left = amount;
        for resource in resources.iter().filter(|r| r.name() == name) {
            if let Some(part) = resource.at_most(left) {
                left -= part.as_scalar().unwrap_or_default();
                piece.add_one(part);
            }
        }
        if left > Scalar::ZERO {
            return None;
        }
    }
    (!piece.is_empty()).then_some(piece)
}
