//! Names beside ids, states in words, and what is known of offers that are out.

use crate::view::{FollowerView, OfferOut, View};
use serde::Serialize;
use std::{collections::BTreeMap, time::Duration};
use tepui_allocator::trial::Change;
use tepui_model::{FollowerId, FrameworkId, Quantities, Resources, units::format_duration};
use tepui_protocol::v1::DrainState;

/// A framework, for programs and people.
#[derive(Debug, Serialize)]
pub(super) struct FrameworkName {
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
}

/// A follower, for programs and people.
#[derive(Debug, Serialize)]
pub(super) struct FollowerName {
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    hostname: Option<String>,
}

/// Amounts, for programs and people.
#[derive(Debug, Serialize)]
pub(super) struct Amounts {
    text: String,
    amounts: BTreeMap<String, f64>,
}

impl From<&Quantities> for Amounts {
    fn from(quantities: &Quantities) -> Self {
        let amounts = quantities.iter();
        Self {
            text: quantities.to_string(),
            amounts: amounts
                .map(|(name, amount)| (name.as_str().to_owned(), amount.to_f64()))
                .collect(),
        }
    }
}

impl From<&Resources> for Amounts {
    fn from(resources: &Resources) -> Self {
        Self {
            text: resources.to_string(),
            ..Self::from(&resources.quantities())
        }
    }
}

/// What a framework holds in offers.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) offers: usize,
    pub(super) oldest: Duration,
    pub(super) resources: Quantities,
}

/// Looks names up.
pub(super) struct Names<'a> {
    pub(super) view: &'a View,
}

impl<'a> Names<'a> {
    pub(super) fn new(view: &'a View) -> Self {
        Self { view }
    }

    pub(super) fn framework(&self, id: &FrameworkId) -> FrameworkName {
        FrameworkName {
            id: id.as_str().to_owned(),
            name: self.framework_name(id).map(str::to_owned),
        }
    }

    pub(super) fn follower(&self, id: &FollowerId) -> FollowerName {
        FollowerName {
            id: id.as_str().to_owned(),
            hostname: self.hostname(id).map(str::to_owned),
        }
    }

    /// `ID (NAME)`
    pub(super) fn framework_text(&self, id: &FrameworkId) -> String {
        described(id.as_str(), self.framework_name(id))
    }

    /// `ID (HOST)`
    pub(super) fn follower_text(&self, id: &FollowerId) -> String {
        described(id.as_str(), self.hostname(id))
    }

    fn framework_name(&self, id: &FrameworkId) -> Option<&'a str> {
        let framework = self.view.frameworks.get(id)?;
        Some(framework.info.name.as_str()).filter(|name| !name.is_empty())
    }

    fn hostname(&self, id: &FollowerId) -> Option<&'a str> {
        Some(self.view.followers.get(id)?.info.hostname.as_str())
    }

    /// What to do, with names beside ids.
    pub(super) fn step(&self, change: &Change) -> String {
        let text = change.to_string();
        let (framework, follower) = match change {
            Change::RemoveFollower(at) | Change::ActivateFollower(at) => (None, Some(at)),
            Change::Unreserve { follower, .. } => (None, Some(follower)),
            Change::Revive { framework, .. }
            | Change::ActivateFramework(framework)
            | Change::Subscribe { framework, .. }
            | Change::AddCapability { framework, .. }
            | Change::DropConstraints { framework, .. } => (Some(framework), None),
            Change::ReturnOffers {
                framework,
                follower,
            } => (Some(framework), follower.as_ref()),
            Change::Release {
                framework,
                follower,
                ..
            } => (Some(framework), Some(follower)),
            Change::AddFollowers { .. }
            | Change::AllowHost(_)
            | Change::SetQuota { .. }
            | Change::SetWeight { .. } => (None, None),
        };
        let named = |text: String, kind: &str, id: &str, described: String| {
            text.replacen(&format!("{kind} {id}"), &format!("{kind} {described}"), 1)
        };
        let text = match framework {
            Some(id) => named(text, "framework", id.as_str(), self.framework_text(id)),
            None => text,
        };
        match follower {
            Some(id) => named(text, "follower", id.as_str(), self.follower_text(id)),
            None => text,
        }
    }

    /// What a framework holds in offers; of some followers only, if asked.
    pub(super) fn held(&self, id: &FrameworkId, of: impl Fn(&str) -> bool) -> Option<Held> {
        let framework = self.view.frameworks.get(id)?;
        let mut held: Option<Held> = None;
        for out in framework.offers.values().filter(|o| of(&o.agent_id.value)) {
            let held = held.get_or_insert(Held {
                offers: 0,
                oldest: Duration::ZERO,
                resources: Quantities::new(),
            });
            held.offers += 1;
            held.oldest = held.oldest.max(self.view.at.since(out.since));
            let resources = Resources::from_proto(&out.resources);
            held.resources.add_all(&resources.quantities());
        }
        held
    }

    /// Why followers are not offered, by how many.
    pub(super) fn inactive(&self) -> BTreeMap<&'static str, usize> {
        let mut counts = BTreeMap::new();
        for follower in self.view.followers.values() {
            if let Some(why) = why_inactive(follower) {
                *counts.entry(why).or_default() += 1;
            }
        }
        counts
    }

    /// Why a follower is not offered, in a word.
    pub(super) fn why_inactive(&self, id: &FollowerId) -> &'static str {
        let follower = self.view.followers.get(id);
        follower.and_then(|f| why_inactive(f)).unwrap_or("inactive")
    }
}

fn why_inactive(follower: &FollowerView) -> Option<&'static str> {
    if follower.active {
        return None;
    }
    let drain = follower.drain.as_ref().map(|drain| drain.state());
    Some(match drain {
        Some(DrainState::Draining) => "draining",
        Some(DrainState::Drained) => "drained",
        _ if !follower.connected => "disconnected",
        _ if follower.deactivated => "deactivated",
        _ => "inactive",
    })
}

fn described(id: &str, name: Option<&str>) -> String {
    match name {
        Some(name) => format!("{id} ({name})"),
        None => id.to_owned(),
    }
}

/// The role an offer is for.
pub(super) fn role_of(out: &OfferOut) -> &str {
    let info = out.allocation_info.as_ref();
    info.and_then(|info| info.role.as_deref()).unwrap_or("*")
}

/// In seconds, minutes or hours.
pub(super) fn lasting(duration: Duration) -> String {
    match duration.as_secs() {
        0 => "less than a second".to_owned(),
        // People do not count milliseconds.
        seconds => format_duration(Duration::from_secs(seconds)),
    }
}

/// `1 offer`, `2 offers`
pub(crate) fn counted(count: usize, what: &str) -> String {
    match count {
        1 => format!("1 {what}"),
        _ => format!("{count} {what}s"),
    }
}
