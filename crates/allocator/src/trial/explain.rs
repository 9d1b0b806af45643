//! Why somebody is offered nothing: at every level, and with what would change it.
//!
//! Every follower is looked at for itself (`causes`), and its causes are counted. Nothing here runs while the cluster
//! waits: it costs followers × the length of their lists, on the thread of whoever asked.

use super::{
    Trial,
    causes::{Cause, Kind, Kinds, Look, Profile},
    plain,
    suggest::{Candidate, Suggestion},
};
use crate::{
    Constraints, ROOT,
    options::{FrameworkCapabilities, OfferedResources},
    state::Follower,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use tepui_model::{FollowerId, FrameworkId, Quantities, Resources, Scalar, Time, roles};
use thiserror::Error;

/// About whom.
#[derive(Clone, Debug, PartialEq)]
pub enum Who {
    /// A framework, in one of its roles or in all.
    Framework {
        /// Which.
        id: FrameworkId,
        /// In which role; none: one answer for each of its roles.
        role: Option<Arc<str>>,
    },
    /// Whoever would come to a role.
    Anybody {
        /// Which.
        role: Arc<str>,
        /// What they could take.
        capabilities: FrameworkCapabilities,
    },
}

/// What is asked.
#[derive(Clone, Debug, PartialEq)]
pub struct Question {
    /// About whom.
    pub who: Who,
    /// What an offer should hold, on one follower. Nothing: any offer will do.
    pub demand: Quantities,
    /// On which follower; none: on any.
    pub follower: Option<FollowerId>,
}

/// What cannot be asked.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum QuestionError {
    /// No such framework.
    #[error("There is no framework {0}")]
    UnknownFramework(FrameworkId),
    /// No such follower.
    #[error("There is no follower {0}")]
    UnknownFollower(FollowerId),
}

/// Where somebody stands in the order of fair sharing.
#[derive(Clone, Debug, PartialEq)]
pub struct Standing {
    /// Dominant share of the cluster that the role and those below it hold, by its weight.
    pub weighted_share: f64,
    /// The role's weight.
    pub weight: f64,
    /// How many frameworks in roles come before.
    pub ahead: usize,
    /// Of how many that want offers.
    pub of: usize,
}

/// There is enough, but nowhere in one piece.
#[derive(Clone, Debug, PartialEq)]
pub struct Fragments {
    /// What is free in all where offers could be made.
    pub free: Quantities,
    /// Where there is most of what is wanted most.
    pub most_on: FollowerId,
    /// How much that is.
    pub most: Quantities,
}

/// A kind of cause, and where it was met.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// The cause, on the example.
    pub cause: Cause,
    /// On how many followers there is one of its kind.
    pub followers: usize,
    /// One of them.
    pub example: FollowerId,
    /// When refusals end: the first, and the last. For [`Kind::Refused`].
    pub refused: Option<(Time, Time)>,
    /// Who holds offers there, and of how many followers: most first. For [`Kind::HeldInOffers`].
    pub holders: Vec<(FrameworkId, usize)>,
}

/// Why there is no offer for somebody in a role, or that there is none missing.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// Who, unless the question was about anybody.
    pub framework: Option<FrameworkId>,
    /// In which role.
    pub role: Arc<str>,
    /// What was wanted.
    pub demand: Quantities,
    /// Offers that are held and are enough.
    pub holds: Vec<(FollowerId, Resources)>,
    /// Where it stands; none if it wants no offers.
    pub standing: Option<Standing>,
    /// How many followers were looked at.
    pub followers: usize,
    /// On how many of them nothing is in the way.
    pub fitting: usize,
    /// What is in the way wherever one looks.
    pub everywhere: Vec<Cause>,
    /// What is in the way on followers: what concerns most of them first.
    pub findings: Vec<Finding>,
    /// Whether it is only that nothing is in one piece.
    pub fragments: Option<Fragments>,
    /// What would make the offer come, the easiest first.
    pub suggestions: Vec<Suggestion>,
}

impl Answer {
    /// Whether something is in the way.
    pub fn is_blocked(&self) -> bool {
        self.holds.is_empty() && (self.fitting == 0 || !self.everywhere.is_empty())
    }
}

/// What is counted of a kind.
struct Tally {
    followers: usize,
    example: u32,
    refused: Option<(Time, Time)>,
    holders: BTreeMap<FrameworkId, usize>,
}

/// What is gathered from follower to follower.
#[derive(Default)]
struct Tour {
    followers: usize,
    fitting: usize,
    holds: Vec<(FollowerId, Resources)>,
    tallies: BTreeMap<Kind, Tally>,
    /// Of the followers with the same causes, the first.
    groups: BTreeMap<Kinds, (u32, usize)>,
    free: Quantities,
    most: Option<(u32, Quantities)>,
}

impl Trial {
    /// Answers a question, once for each role it is about.
    pub fn explain(&self, question: &Question) -> Result<Vec<Answer>, QuestionError> {
        if let Some(id) = &question.follower
            && !self.allocator.follower_index.contains_key(id)
        {
            return Err(QuestionError::UnknownFollower(id.clone()));
        }
        let about = |framework, role, capabilities| {
            self.explain_one(question, framework, role, capabilities)
        };
        match &question.who {
            Who::Anybody { role, capabilities } => Ok(vec![about(None, role, *capabilities)]),
            Who::Framework { id, role } => {
                let slot = self.allocator.framework_index.get(id);
                let slot = slot.ok_or_else(|| QuestionError::UnknownFramework(id.clone()))?;
                let options = &self.allocator.frameworks[*slot].options;
                let asked = match role {
                    Some(role) => BTreeSet::from([role.clone()]),
                    None => options.roles.clone(),
                };
                let answers = asked.iter();
                Ok(answers
                    .map(|role| about(Some(id), role, options.capabilities))
                    .collect())
            }
        }
    }

    fn explain_one(
        &self,
        question: &Question,
        framework: Option<&FrameworkId>,
        role: &Arc<str>,
        capabilities: FrameworkCapabilities,
    ) -> Answer {
        let (everywhere, client) = self.own_causes(framework, role);
        let profile = self.profile(framework, role, capabilities, client);
        let wanted = alternatives(&question.demand, profile.minimum);
        let offered = self.offered();
        let none = Vec::new();
        let mut tour = Tour::default();
        let asked = question.follower.as_ref();
        let asked = asked.and_then(|id| self.allocator.follower_index.get(id).copied());
        for (slot, follower) in self.allocator.followers.iter() {
            if asked.is_some_and(|asked| asked != slot) {
                continue;
            }
            let offers = offered.get(&follower.id).unwrap_or(&none);
            let looks = wanted.iter().enumerate().map(|(at, demand)| {
                let look = self.look(&profile, demand, follower, offers);
                (at, look)
            });
            let best = looks.min_by_key(|(_, look)| (!look.holds, look.causes.cost()));
            if let Some((at, look)) = best {
                tour.count(&profile, slot, follower, offers, at, look);
            }
        }
        let fragments = self.fragments(&tour, &wanted[0]);
        let findings = self.findings(&profile, &tour, &wanted, &offered);
        let mut answer = Answer {
            framework: framework.cloned(),
            role: role.clone(),
            demand: question.demand.clone(),
            standing: client.and_then(|client| self.standing(client)),
            followers: tour.followers,
            fitting: tour.fitting,
            holds: tour.holds,
            everywhere: everywhere.iter().copied().map(Cause::Plain).collect(),
            findings,
            fragments,
            suggestions: Vec::new(),
        };
        if answer.is_blocked() {
            let candidates: Vec<Candidate> = tour
                .groups
                .into_iter()
                .map(|(causes, (slot, at))| Candidate {
                    causes,
                    slot,
                    demand: wanted[at].clone(),
                })
                .collect();
            answer.suggestions = self.suggest(
                &profile,
                &everywhere,
                candidates,
                &question.demand,
                asked.is_none(),
            );
        }
        answer
    }

    /// What is in the way of a framework itself; and its slot in the role, if it has one.
    fn own_causes(&self, id: Option<&FrameworkId>, role: &Arc<str>) -> (Vec<Kind>, Option<u32>) {
        let mut kinds = Vec::new();
        let slot = id.and_then(|id| self.allocator.framework_index.get(id));
        let Some(framework) = slot.and_then(|slot| self.allocator.frameworks.get(*slot)) else {
            return (kinds, None);
        };
        if !framework.active || !framework.known {
            kinds.push(Kind::Disconnected);
        }
        if !framework.options.roles.contains(role) {
            kinds.push(Kind::NotSubscribed);
        }
        if framework.options.suppressed_roles.contains(role) {
            kinds.push(Kind::Suppressed);
        }
        if framework.exhausted {
            kinds.push(Kind::OverBudget);
        }
        (kinds, framework.clients.get(role).copied())
    }

    fn profile<'a>(
        &'a self,
        framework: Option<&'a FrameworkId>,
        role: &Arc<str>,
        capabilities: FrameworkCapabilities,
        client: Option<u32>,
    ) -> Profile<'a> {
        let c = client.and_then(|client| self.allocator.clients.get(client));
        let known = |name: &str| self.allocator.role_index.get(name).copied();
        let slot = known(role)
            .or_else(|| roles::ancestors(role).find_map(known))
            .unwrap_or(ROOT);
        let minimum = c.and_then(|client| client.minimum.as_deref());
        let constraints = c.and_then(|client| client.constraints.as_deref());
        Profile {
            framework,
            client,
            role: role.clone(),
            slot,
            capabilities,
            minimum: minimum.unwrap_or(&self.allocator.options.min_allocatable_resources),
            constraints: constraints.map(|c: &Constraints| c),
            bounds: self.allocator.bounds(slot),
        }
    }

    fn findings(
        &self,
        profile: &Profile<'_>,
        tour: &Tour,
        wanted: &[Quantities],
        offered: &BTreeMap<&FollowerId, Vec<&OfferedResources>>,
    ) -> Vec<Finding> {
        let none = Vec::new();
        let finding = |(kind, tally): (&Kind, &Tally)| {
            let follower = self.allocator.followers.get(tally.example)?;
            let offers = offered.get(&follower.id).unwrap_or(&none);
            let causes = wanted.iter().find_map(|demand| {
                let look = self.look(profile, demand, follower, offers);
                let causes = self.describe(profile, demand, follower, offers, &look);
                causes.into_iter().find(|cause| cause.kind() == *kind)
            });
            let mut holders: Vec<(FrameworkId, usize)> = tally
                .holders
                .iter()
                .map(|(id, followers)| (id.clone(), *followers))
                .collect();
            holders.sort_by_key(|(_, followers)| std::cmp::Reverse(*followers));
            Some(Finding {
                cause: causes.unwrap_or(Cause::Plain(*kind)),
                followers: tally.followers,
                example: follower.id.clone(),
                refused: tally.refused,
                holders,
            })
        };
        let mut findings: Vec<Finding> = tour.tallies.iter().filter_map(finding).collect();
        findings.sort_by_key(|finding| std::cmp::Reverse(finding.followers));
        findings
    }

    /// Enough is free in all, and no follower has enough.
    fn fragments(&self, tour: &Tour, demand: &Quantities) -> Option<Fragments> {
        let (slot, most) = tour.most.as_ref()?;
        let most_on = self.allocator.followers.get(*slot)?.id.clone();
        let in_pieces = !demand.is_empty() && tour.fitting == 0 && tour.holds.is_empty();
        (in_pieces && tour.free.contains(demand)).then(|| Fragments {
            free: tour.free.clone(),
            most_on,
            most: most.clone(),
        })
    }

    fn standing(&self, client: u32) -> Option<Standing> {
        let own = self.allocator.keys_of_client(client)?;
        let role = self.allocator.clients.get(client)?.role;
        let view = self.allocator.role(&self.allocator.roles[role].name)?;
        let places = self
            .allocator
            .clients
            .iter()
            .filter_map(|(other, _)| self.allocator.keys_of_client(other));
        let (mut ahead, mut of) = (0, 0);
        for place in places {
            of += 1;
            ahead += usize::from(place < own);
        }
        Some(Standing {
            weighted_share: self.allocator.totals.share(&view.subtree_allocation) / view.weight,
            weight: view.weight,
            ahead,
            of,
        })
    }
}

impl Tour {
    fn count(
        &mut self,
        profile: &Profile<'_>,
        slot: u32,
        follower: &Follower,
        offers: &[&OfferedResources],
        at: usize,
        look: Look,
    ) {
        self.followers += 1;
        if look.holds {
            let own = offers.iter().filter(|offer| {
                Some(&offer.framework) == profile.framework && offer.role == profile.role
            });
            let held: Resources =
                own.map(|offer| plain(&offer.resources))
                    .fold(Resources::new(), |mut all, one| {
                        all += one;
                        all
                    });
            self.holds.push((follower.id.clone(), held));
            return;
        }
        if look.causes.is_empty() {
            self.fitting += 1;
        }
        // Where only others' use is in the way, what is free is free to be had.
        if look.causes.only(&[Kind::HeldInOffers, Kind::InUse]) {
            let free = look.free.quantities();
            self.free.add_all(&free);
            let size = |quantities: &Quantities| -> Scalar {
                quantities.iter().map(|(_, amount)| amount).sum()
            };
            let more = |(_, most): &(u32, Quantities)| size(&free) > size(most);
            if self.most.as_ref().is_none_or(more) {
                self.most = Some((slot, free));
            }
        }
        for kind in look.causes.iter() {
            let tally = self.tallies.entry(kind).or_insert(Tally {
                followers: 0,
                example: slot,
                refused: None,
                holders: BTreeMap::new(),
            });
            tally.followers += 1;
            if kind == Kind::Refused
                && let Some(until) = look.refused_until
            {
                let (first, last) = tally.refused.unwrap_or((until, until));
                tally.refused = Some((first.min(until), last.max(until)));
            }
            if kind == Kind::HeldInOffers {
                let holders: BTreeSet<&FrameworkId> =
                    offers.iter().map(|offer| &offer.framework).collect();
                for holder in holders {
                    *tally.holders.entry(holder.clone()).or_default() += 1;
                }
            }
        }
        self.groups.entry(look.causes).or_insert((slot, at));
    }
}

/// What would do: the demand, or the least that is offered at all.
fn alternatives(demand: &Quantities, minimum: &[Quantities]) -> Vec<Quantities> {
    if !demand.is_empty() {
        return vec![demand.clone()];
    }
    if !minimum.is_empty() {
        return minimum.to_vec();
    }
    let least = |name| [(name, Scalar::millis(1))].into_iter().collect();
    vec![least("cpus"), least("mem")]
}
