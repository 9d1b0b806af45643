//! Questions about the cluster, answered on a copy of it: why somebody is offered nothing (`explain`), and what would happen
//! if something were otherwise (`simulate`).
//!
//! The core only makes the copy, which costs a pointer for each follower, framework and role, and hands it out with the view of
//! the same moment ([`Reply::Examination`]). Whoever asked computes the answer on a thread of their own. What the allocator
//! does not know is added here: names, states in words, since when offers are held.

mod answer;
mod cause;
mod fields;
pub(crate) mod names;
mod outcome;
mod question;
mod simulation;

pub use fields::AskError;
pub use question::Explain;

use crate::{Input, Leader, Reply, View};
use names::{Names, lasting};
use std::{collections::BTreeSet, sync::Arc};
use tepui_allocator::{
    Allocator, OfferedResources,
    trial::{self, ChangeError, QuestionError, Simulation, Trial},
};
use tepui_model::{FollowerId, FrameworkId, Resources, Rng};

/// A question.
#[derive(Debug, Clone, PartialEq)]
pub enum Ask {
    /// Why does somebody get no offer?
    Explain(Explain),
    /// What if?
    Simulate(Simulation),
}

impl Ask {
    /// `simulate`, from a request's body.
    pub fn simulate(body: &[u8]) -> Result<Self, AskError> {
        simulation::from_json(body).map(Self::Simulate)
    }

    /// The input that asks it.
    pub fn input(self, request: tepui_model::RequestId) -> Input {
        Input::Ask {
            request,
            ask: Box::new(self),
        }
    }
}

/// A question and all that it takes to answer it.
#[derive(Debug, Clone)]
pub struct Examination {
    ask: Ask,
    allocator: Allocator,
    view: Arc<View>,
    rng: Rng,
    /// Nobody is offered anything yet: an election was not long ago.
    holds_offers: bool,
}

/// No two are alike.
impl PartialEq for Examination {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

impl Leader {
    /// Hands out a copy of what there is.
    pub(crate) fn ask(&mut self, request: tepui_model::RequestId, ask: Ask) {
        self.count(match ask {
            Ask::Explain(_) => "tepui/explanations",
            Ask::Simulate(_) => "tepui/simulations",
        });
        let examination = Examination {
            ask,
            allocator: self.allocator.snapshot(),
            view: self.publish(),
            // The same as the leader would draw; asking changes nothing.
            rng: self.rng.clone(),
            holds_offers: self.recovery.holds_offers(),
        };
        self.reply(request, Reply::Examination(Box::new(examination)));
    }
}

impl Examination {
    /// The answer. Takes as long as it takes: not on a thread that others wait for.
    pub fn run(self) -> Reply {
        let result = match &self.ask {
            Ask::Explain(explain) => self.explain(explain),
            Ask::Simulate(simulation) => self.simulate(simulation),
        };
        match result {
            Ok(document) => Reply::Document(document),
            Err((status, message)) => Reply::Error { status, message },
        }
    }

    fn explain(&self, explain: &Explain) -> Result<String, (u16, String)> {
        if let Some(id) = &explain.framework {
            self.framework_is_there(id)?;
        }
        if let Some(id) = &explain.follower {
            self.follower_is_there(id)?;
        }
        let answers = self.trial().explain(&explain.question());
        let answers = answers.map_err(|error| match error {
            QuestionError::UnknownFramework(id) => (
                404,
                format!(
                    "Framework {id} has not subscribed since the last election, and uses nothing"
                ),
            ),
            other => (404, other.to_string()),
        })?;
        let names = Names::new(&self.view);
        Ok(answer::document(&names, &answers, self.holds_offers))
    }

    fn simulate(&self, simulation: &Simulation) -> Result<String, (u16, String)> {
        for change in &simulation.changes {
            if let trial::Change::RemoveFollower(id) | trial::Change::ActivateFollower(id) = change
            {
                self.follower_is_there(id)?;
            }
        }
        let outcome = self.trial().simulate(simulation).map_err(|error| {
            let status = match error {
                ChangeError::UnknownFollower(_) | ChangeError::UnknownFramework(_) => 404,
                ChangeError::NotThere(_) => 409,
                ChangeError::Weight { .. } | ChangeError::TooMany => 400,
            };
            (status, error.to_string())
        })?;
        let names = Names::new(&self.view);
        Ok(outcome::document(&names, simulation, &outcome))
    }

    fn trial(&self) -> Trial {
        let offers = self.view.frameworks.values().flat_map(|framework| {
            framework.offers.values().map(|out| OfferedResources {
                framework: framework.id.clone(),
                role: names::role_of(out).into(),
                follower: FollowerId::new(out.agent_id.value.as_str()),
                resources: Resources::from_proto(&out.resources),
            })
        });
        let snapshot = self.allocator.clone();
        Trial::new(snapshot, offers.collect(), self.view.at, self.rng.clone())
    }

    /// Says what has become of one that is not there.
    fn framework_is_there(&self, id: &FrameworkId) -> Result<(), (u16, String)> {
        if self.view.frameworks.contains_key(id) {
            return Ok(());
        }
        let mut completed = self.view.completed_frameworks.iter();
        let text = match completed.find(|framework| framework.id == *id) {
            Some(framework) => {
                let ago = framework.unregistered.unwrap_or(self.view.at);
                let ago = lasting(self.view.at.since(ago));
                let name = &framework.info.name;
                format!("Framework {id} ({name}) is completed, for {ago}: it is offered nothing")
            }
            None => format!("There is no framework {id}"),
        };
        Err((404, text))
    }

    fn follower_is_there(&self, id: &FollowerId) -> Result<(), (u16, String)> {
        if self.view.followers.contains_key(id) {
            return Ok(());
        }
        let text = if let Some(since) = self.view.unreachable_followers.get(id) {
            let ago = lasting(self.view.at.since(*since));
            format!("Follower {id} is unreachable, for {ago}")
        } else if self.view.recovered_followers.contains_key(id) {
            format!("Follower {id} has not come back since the last election")
        } else {
            format!("There is no follower {id}")
        };
        Err((404, text))
    }
}

/// In the order of the first, without the others.
fn distinct<T: Ord + Clone>(all: impl Iterator<Item = T>) -> Vec<T> {
    let mut seen = BTreeSet::new();
    all.filter(|one| seen.insert(one.clone())).collect()
}
