//! The document of `simulate`: the cluster before and after, and what became of the demands.

use super::{
    answer::AnswerDocument,
    names::{Amounts, FollowerName, FrameworkName, Names},
    simulation,
};
use serde::Serialize;
use std::{collections::BTreeSet, sync::Arc};
use tepui_allocator::trial::{Outcome, Picture, Placed, Shares, Simulation};
use tepui_model::{FrameworkId, Quantities, documents::to_text};

/// Most followers that are listed for a demand.
const MOST_LISTED: usize = 1000;

#[derive(Debug, Serialize)]
struct Document {
    /// When, since 1970.
    time_seconds: f64,
    changes: Vec<Step>,
    before: Cluster,
    after: Cluster,
    /// Those that differ.
    roles: Vec<RoleDifference>,
    /// Those whose holdings differ, offers included.
    frameworks: Vec<FrameworkDifference>,
    demands: Vec<DemandDocument>,
}

#[derive(Debug, Serialize)]
struct Step {
    text: String,
    change: serde_json::Value,
}

#[derive(Debug, Serialize)]
struct Cluster {
    followers: usize,
    total: Amounts,
    free: Amounts,
}

#[derive(Debug, Serialize)]
struct RoleDifference {
    role: String,
    /// Absent where there is no such role.
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<RoleShares>,
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<RoleShares>,
}

#[derive(Debug, Serialize)]
struct RoleShares {
    weight: f64,
    /// Dominant share of the cluster, from 0 to 1, roles below included.
    share: f64,
    held: Amounts,
    /// What counts against its quota.
    consumed: Amounts,
    /// What its guarantee lacks.
    lacking: Amounts,
}

#[derive(Debug, Serialize)]
struct FrameworkDifference {
    framework: FrameworkName,
    role: String,
    before: Amounts,
    after: Amounts,
}

#[derive(Debug, Serialize)]
struct DemandDocument {
    role: String,
    resources: Amounts,
    count: u32,
    placed: u32,
    /// On how many followers, and on which.
    on_followers: usize,
    followers: Vec<PlacedOn>,
    /// Why the rest found no place.
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<AnswerDocument>,
}

#[derive(Debug, Serialize)]
struct PlacedOn {
    follower: FollowerName,
    count: u32,
}

/// An outcome in JSON.
pub(super) fn document(names: &Names<'_>, simulation: &Simulation, outcome: &Outcome) -> String {
    let changes = simulation.changes.iter().map(|change| Step {
        text: names.step(change),
        change: simulation::to_json(change),
    });
    let placed = outcome.placed.iter();
    to_text(&Document {
        time_seconds: names.view.at.seconds(),
        changes: changes.collect(),
        before: cluster(&outcome.before),
        after: cluster(&outcome.after),
        roles: roles(outcome),
        frameworks: frameworks(names, outcome),
        demands: placed.map(|placed| demand(names, placed)).collect(),
    })
}

fn cluster(picture: &Picture) -> Cluster {
    Cluster {
        followers: picture.followers,
        total: (&picture.total).into(),
        free: (&picture.free).into(),
    }
}

fn roles(outcome: &Outcome) -> Vec<RoleDifference> {
    let (before, after) = (&outcome.before.roles, &outcome.after.roles);
    let all: BTreeSet<&Arc<str>> = before.keys().chain(after.keys()).collect();
    let different = all
        .into_iter()
        .filter(|role| before.get(*role) != after.get(*role));
    different
        .map(|role| RoleDifference {
            role: role.to_string(),
            before: before.get(role).map(shares),
            after: after.get(role).map(shares),
        })
        .collect()
}

fn shares(shares: &Shares) -> RoleShares {
    RoleShares {
        weight: shares.weight,
        share: shares.share,
        held: (&shares.allocation).into(),
        consumed: (&shares.consumed).into(),
        lacking: (&shares.lacking).into(),
    }
}

fn frameworks(names: &Names<'_>, outcome: &Outcome) -> Vec<FrameworkDifference> {
    let (before, after) = (&outcome.before.frameworks, &outcome.after.frameworks);
    let all: BTreeSet<&(FrameworkId, Arc<str>)> = before.keys().chain(after.keys()).collect();
    let known = all
        .into_iter()
        .filter(|key| names.view.frameworks.contains_key(&key.0));
    let none = Quantities::new();
    known
        .filter(|key| before.get(*key) != after.get(*key))
        .map(|key| FrameworkDifference {
            framework: names.framework(&key.0),
            role: key.1.to_string(),
            before: before.get(key).unwrap_or(&none).into(),
            after: after.get(key).unwrap_or(&none).into(),
        })
        .collect()
}

fn demand(names: &Names<'_>, placed: &Placed) -> DemandDocument {
    let on = placed.on.iter().take(MOST_LISTED);
    DemandDocument {
        role: placed.demand.role.to_string(),
        resources: (&placed.demand.each).into(),
        count: placed.demand.count,
        placed: placed.placed(),
        on_followers: placed.on.len(),
        followers: on
            .map(|(at, count)| PlacedOn {
                follower: names.follower(at),
                count: *count,
            })
            .collect(),
        why: (placed.why.as_deref()).map(|answer| AnswerDocument::new(names, answer, false)),
    }
}
