//! Causes in documents: a kind for programs, a text for people, and the numbers.

use super::names::{Amounts, FollowerName, FrameworkName, Names, counted, lasting};
use crate::view::FollowerView;
use serde::Serialize;
use std::collections::BTreeMap;
use tepui_allocator::trial::{Answer, Cause, Finding, Holding, Kind};
use tepui_model::{FrameworkId, Quantities, Scalar, Time};

/// Most holders that are listed.
const MOST_HOLDERS: usize = 20;

/// One cause.
#[derive(Debug, Serialize)]
pub(super) struct CauseDocument {
    kind: &'static str,
    text: String,
    /// On how many followers; absent for what is in the way everywhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    followers: Option<usize>,
    /// One of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    example: Option<FollowerName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    quota: Option<QuotaDetail>,
    #[serde(skip_serializing_if = "Option::is_none")]
    headroom: Option<HeadroomDetail>,
    /// What the example has in all.
    #[serde(skip_serializing_if = "Option::is_none")]
    has: Option<Amounts>,
    /// What others have reserved on the example, by role.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    reserved: BTreeMap<String, Amounts>,
    /// Who has it on the example.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    users: Vec<User>,
    /// Who holds offers of these followers, most first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    holders: Vec<Holder>,
    /// When the first and the last refusal ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<RefusedDetail>,
    /// Why followers are not offered, in words.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    states: BTreeMap<&'static str, usize>,
}

#[derive(Debug, Serialize)]
struct QuotaDetail {
    role: String,
    resource: String,
    limit: f64,
    consumed: f64,
    wanted: f64,
}

#[derive(Debug, Serialize)]
struct HeadroomDetail {
    resource: String,
    free: f64,
    promised: f64,
    wanted: f64,
    /// Roles that have not got what they are guaranteed.
    promised_to: Vec<String>,
}

#[derive(Debug, Serialize)]
struct User {
    framework: FrameworkName,
    role: String,
    resources: Amounts,
}

#[derive(Debug, Serialize)]
struct Holder {
    framework: FrameworkName,
    /// Of those followers.
    followers: usize,
    /// All that it holds, anywhere.
    offers: usize,
    resources: Amounts,
    /// How long it has held the oldest.
    held_seconds: f64,
}

#[derive(Debug, Serialize)]
struct RefusedDetail {
    first_ends_in_seconds: f64,
    last_ends_in_seconds: f64,
}

impl CauseDocument {
    fn new(kind: Kind, text: String) -> Self {
        Self {
            kind: kind.name(),
            text,
            followers: None,
            example: None,
            quota: None,
            headroom: None,
            has: None,
            reserved: BTreeMap::new(),
            users: Vec::new(),
            holders: Vec::new(),
            refused: None,
            states: BTreeMap::new(),
        }
    }

    /// What people read.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// What is in the way everywhere.
    pub(super) fn everywhere(names: &Names<'_>, answer: &Answer, cause: &Cause) -> Self {
        Self::new(cause.kind(), everywhere_text(names, answer, cause.kind()))
    }

    /// What is in the way on some followers.
    pub(super) fn on_followers(names: &Names<'_>, answer: &Answer, finding: &Finding) -> Self {
        let kind = finding.cause.kind();
        let mut document = Self::new(kind, String::new());
        document.followers = Some(finding.followers);
        document.example = Some(names.follower(&finding.example));
        let text = document.detail(names, answer, finding);
        document.text = text;
        document
    }

    /// Notes the numbers; gives the text.
    fn detail(&mut self, names: &Names<'_>, answer: &Answer, finding: &Finding) -> String {
        let example = names.follower_text(&finding.example);
        match &finding.cause {
            Cause::LimitReached {
                role,
                name,
                limit,
                consumed,
                wanted,
            } => {
                self.quota = Some(QuotaDetail {
                    role: role.to_string(),
                    resource: name.to_string(),
                    limit: limit.to_f64(),
                    consumed: consumed.to_f64(),
                    wanted: wanted.to_f64(),
                });
                format!(
                    "the quota of role '{role}' is exhausted: limited to {name}:{limit}, of which {consumed} is consumed, and {wanted} more is wanted"
                )
            }
            Cause::KeptForGuarantees {
                name,
                available,
                required,
                wanted,
            } => {
                let promised_to = promised_to(names, &answer.role, name.as_str());
                self.headroom = Some(HeadroomDetail {
                    resource: name.to_string(),
                    free: available.to_f64(),
                    promised: required.to_f64(),
                    wanted: wanted.to_f64(),
                    promised_to: promised_to.clone(),
                });
                let to = match promised_to.is_empty() {
                    true => "guarantees".to_owned(),
                    false => format!("the guarantees of {}", promised_to.join(", ")),
                };
                format!(
                    "what is free is kept for {to}: {name}:{available} is free in the cluster, {required} is promised and not had yet, {wanted} is wanted"
                )
            }
            Cause::TooSmall(has) => {
                self.has = Some(has.into());
                format!("too small: {example} has {has}")
            }
            Cause::ReservedForOthers(reserved) => {
                let texts = reserved
                    .iter()
                    .map(|(role, amounts)| format!("{amounts} for '{role}'"));
                let text = texts.collect::<Vec<_>>().join(", ");
                let reserved = reserved.iter();
                self.reserved = reserved
                    .map(|(role, amounts)| (role.to_string(), amounts.into()))
                    .collect();
                format!("reserved for others: on {example} {text}")
            }
            Cause::HeldInOffers(_) => self.held(names, &finding.holders),
            Cause::InUse(users) => {
                self.users = users.iter().map(|user| self::user(names, user)).collect();
                let by = users.iter().map(|user| {
                    let framework = names.framework_text(&user.framework);
                    format!("{} by {framework}", user.resources)
                });
                let by = by.take(3).collect::<Vec<_>>().join(", ");
                match by.is_empty() {
                    true => "in use".to_owned(),
                    false => format!("in use: on {example} {by}"),
                }
            }
            Cause::Refused(until) => {
                self.refused(names, finding.refused.unwrap_or((*until, *until)))
            }
            Cause::Plain(kind) => self.plain(names, answer, *kind, finding, &example),
        }
    }

    fn held(&mut self, names: &Names<'_>, holders: &[(FrameworkId, usize)]) -> String {
        let mut texts = Vec::new();
        for (id, followers) in holders.iter().take(MOST_HOLDERS) {
            let Some(held) = names.held(id, |_| true) else {
                continue;
            };
            let name = names.framework_text(id);
            if texts.len() < 3 {
                texts.push(format!("{name} for {}", lasting(held.oldest)));
            }
            self.holders.push(Holder {
                framework: names.framework(id),
                followers: *followers,
                offers: held.offers,
                resources: (&held.resources).into(),
                held_seconds: held.oldest.as_secs_f64(),
            });
        }
        format!("held in offers by {}", texts.join(", "))
    }

    fn refused(&mut self, names: &Names<'_>, (first, last): (Time, Time)) -> String {
        let left = |until: Time| until.since(names.view.at);
        self.refused = Some(RefusedDetail {
            first_ends_in_seconds: left(first).as_secs_f64(),
            last_ends_in_seconds: left(last).as_secs_f64(),
        });
        let (first, last) = (lasting(left(first)), lasting(left(last)));
        match first == last {
            true => format!("refused by the framework, for another {first}"),
            false => format!("refused by the framework, for another {first} to {last}"),
        }
    }

    fn plain(
        &mut self,
        names: &Names<'_>,
        answer: &Answer,
        kind: Kind,
        finding: &Finding,
        example: &str,
    ) -> String {
        match kind {
            Kind::Inactive => {
                self.states = names.inactive();
                let state = names.why_inactive(&finding.example);
                format!("not offered: {example} is {state}")
            }
            Kind::NotAllowed => format!("not on the list of --whitelist: {example}"),
            Kind::Constraints => format!(
                "excluded by the framework's offer constraints for role '{}': {example} has {}",
                answer.role,
                attributes(names.view.followers.get(&finding.example).map(|f| &**f))
            ),
            Kind::NoGpuCapability => match answer.demand.amount("gpus").is_zero() {
                true => format!(
                    "{example} has GPUs, and who asks does not have the capability GPU_RESOURCES (--filter_gpu_resources)"
                ),
                false => "GPUs are wanted, and who asks does not have the capability GPU_RESOURCES"
                    .to_owned(),
            },
            Kind::OtherRegion => format!(
                "{example} is in another region, and who asks does not have the capability REGION_AWARE"
            ),
            Kind::OldFollower => format!(
                "{example} is too old for who asks: it knows no frameworks of several roles, or no roles below others"
            ),
            Kind::MissingCapability => format!(
                "{example} has revocable, shared or refined resources, and who asks lacks the capability for them"
            ),
            Kind::BelowMinimum => format!(
                "what could be offered of {example} is less than is offered at all (--min_allocatable_resources, or the framework's own offer filters)"
            ),
            other => everywhere_text(names, answer, other),
        }
    }
}

fn everywhere_text(names: &Names<'_>, answer: &Answer, kind: Kind) -> String {
    let role = &answer.role;
    let framework = answer.framework.as_ref();
    let view = framework.and_then(|id| names.view.frameworks.get(id));
    match kind {
        Kind::Disconnected => match view {
            Some(view) if view.recovered => {
                "the framework has not subscribed since the last election".to_owned()
            }
            Some(view) if view.connected => "the framework is deactivated".to_owned(),
            _ => "the framework is disconnected".to_owned(),
        },
        Kind::NotSubscribed => {
            let roles = view.map(|view| crate::state::roles_of(&view.info));
            let roles: Vec<String> = roles.into_iter().flatten().collect();
            match roles.is_empty() {
                true => format!("the framework is not subscribed to role '{role}'"),
                false => format!(
                    "the framework is not subscribed to role '{role}', but to {}",
                    roles.join(", ")
                ),
            }
        }
        Kind::Suppressed => format!("the framework has suppressed offers in role '{role}'"),
        Kind::OverBudget => match framework.and_then(|id| names.held(id, |_| true)) {
            Some(held) => format!(
                "the framework holds as much in offers as it may (--max_held_offers_share): {} of {}, the oldest for {}",
                counted(held.offers, "offer"),
                held.resources,
                lasting(held.oldest)
            ),
            None => "the framework holds as much in offers as it may".to_owned(),
        },
        other => other.name().replace('_', " "),
    }
}

fn user(names: &Names<'_>, holding: &Holding) -> User {
    User {
        framework: names.framework(&holding.framework),
        role: holding.role.to_string(),
        resources: (&holding.resources).into(),
    }
}

/// Roles with a guarantee of a resource, others than the one asked about.
fn promised_to(names: &Names<'_>, role: &str, resource: &str) -> Vec<String> {
    let guaranteed = names.view.quotas.iter().filter(|(other, config)| {
        let amount = config.guarantees.get(resource).map(|amount| amount.value);
        *other != role && Scalar::from_f64(amount.unwrap_or_default()) > Scalar::ZERO
    });
    guaranteed
        .map(|(other, _)| format!("'{other}'"))
        .take(10)
        .collect()
}

fn attributes(follower: Option<&FollowerView>) -> String {
    let Some(follower) = follower else {
        return "no attributes".to_owned();
    };
    let attributes = follower.info.attributes.iter().map(|attribute| {
        let value = tepui_model::attributes::describe_value(attribute);
        format!("{}:{value}", attribute.name)
    });
    let text = attributes.collect::<Vec<_>>().join(";");
    match text.is_empty() {
        true => "no attributes".to_owned(),
        false => text,
    }
}

/// What is wanted, in words.
pub(super) fn wanted(demand: &Quantities) -> String {
    match demand.is_empty() {
        true => "anything".to_owned(),
        false => demand.to_string(),
    }
}
