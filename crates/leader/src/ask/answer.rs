//! The document of `explain`.

use super::{
    cause::{CauseDocument, wanted},
    names::{Amounts, FollowerName, FrameworkName, Names, counted, lasting},
    simulation,
};
use serde::Serialize;
use tepui_allocator::trial::{Answer, Fragments, Standing, Suggestion};
use tepui_model::{FollowerId, Resources, documents::to_text};

/// Most offers that are listed.
const MOST_HELD: usize = 100;

#[derive(Debug, Serialize)]
struct Document {
    /// When, since 1970.
    time_seconds: f64,
    answers: Vec<AnswerDocument>,
}

/// One answer.
#[derive(Debug, Serialize)]
pub(super) struct AnswerDocument {
    #[serde(skip_serializing_if = "Option::is_none")]
    framework: Option<FrameworkName>,
    role: String,
    /// What was wanted; absent: anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    resources: Option<Amounts>,
    blocked: bool,
    /// The answer in a sentence.
    text: String,
    /// Followers that were looked at, and those with nothing in the way.
    followers: usize,
    fitting: usize,
    /// Of how many followers there are offers that are enough, and some of them.
    holds_of: usize,
    holds: Vec<HeldOffer>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fair_share: Option<FairShare>,
    /// In the way wherever one looks.
    everywhere: Vec<CauseDocument>,
    /// In the way on followers, what concerns most of them first.
    causes: Vec<CauseDocument>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fragmentation: Option<Fragmentation>,
    suggestions: Vec<SuggestionDocument>,
    /// What else is worth knowing.
    notes: Vec<String>,
}

#[derive(Debug, Serialize)]
struct HeldOffer {
    follower: FollowerName,
    resources: Amounts,
    held_seconds: f64,
}

#[derive(Debug, Serialize)]
struct FairShare {
    /// Dominant share by weight; the least is first.
    weighted_share: f64,
    weight: f64,
    /// Frameworks in roles that come first.
    ahead: usize,
    /// Those that want offers.
    of: usize,
}

#[derive(Debug, Serialize)]
struct Fragmentation {
    text: String,
    free: Amounts,
    most: Amounts,
    most_on: FollowerName,
}

#[derive(Debug, Serialize)]
struct SuggestionDocument {
    /// It was tried on a copy of the cluster, and the offer came at once.
    verified: bool,
    /// All of it, in words.
    text: String,
    /// As `simulate` takes them.
    changes: Vec<serde_json::Value>,
}

/// Answers in JSON.
pub(super) fn document(names: &Names<'_>, answers: &[Answer], holds_offers: bool) -> String {
    let answers = answers.iter();
    to_text(&Document {
        time_seconds: names.view.at.seconds(),
        answers: answers
            .map(|answer| AnswerDocument::new(names, answer, holds_offers))
            .collect(),
    })
}

impl AnswerDocument {
    pub(super) fn new(names: &Names<'_>, answer: &Answer, holds_offers: bool) -> Self {
        let everywhere = answer.everywhere.iter();
        let everywhere: Vec<CauseDocument> = everywhere
            .map(|cause| CauseDocument::everywhere(names, answer, cause))
            .collect();
        let causes = answer.findings.iter();
        let causes: Vec<CauseDocument> = causes
            .map(|finding| CauseDocument::on_followers(names, answer, finding))
            .collect();
        let suggestions = answer.suggestions.iter();
        Self {
            framework: answer.framework.as_ref().map(|id| names.framework(id)),
            role: answer.role.to_string(),
            resources: (!answer.demand.is_empty()).then(|| (&answer.demand).into()),
            blocked: answer.is_blocked(),
            text: sentence(names, answer, &everywhere, &causes),
            followers: answer.followers,
            fitting: answer.fitting,
            holds_of: answer.holds.len(),
            holds: held(names, answer),
            fair_share: answer.standing.as_ref().map(fair_share),
            fragmentation: answer.fragments.as_ref().map(|f| fragmentation(names, f)),
            suggestions: suggestions.map(|s| suggestion(names, s)).collect(),
            notes: notes(names, holds_offers),
            everywhere,
            causes,
        }
    }
}

/// The answer in a sentence.
fn sentence(
    names: &Names<'_>,
    answer: &Answer,
    everywhere: &[CauseDocument],
    causes: &[CauseDocument],
) -> String {
    let who = match &answer.framework {
        Some(id) => format!("framework {}", names.framework_text(id)),
        None => "a new framework".to_owned(),
    };
    let what = wanted(&answer.demand);
    let role = &answer.role;
    if !answer.holds.is_empty() {
        let of = answer.holds.len();
        return format!(
            "{who} holds offers in role '{role}' of {} with {what}",
            counted(of, "follower")
        );
    }
    if !answer.is_blocked() {
        let (fitting, all) = (answer.fitting, answer.followers);
        return format!(
            "nothing is in the way of an offer of {what} to {who} in role '{role}': {fitting} of {all} followers would do"
        );
    }
    let because = match everywhere.iter().chain(causes).next() {
        Some(cause) => cause.text().to_owned(),
        None => "there are no followers".to_owned(),
    };
    format!("no offer of {what} for {who} in role '{role}': {because}")
}

fn held(names: &Names<'_>, answer: &Answer) -> Vec<HeldOffer> {
    let since = |at: &FollowerId| {
        let framework = answer.framework.as_ref()?;
        Some(names.held(framework, |id| id == at.as_str())?.oldest)
    };
    let offer = |(at, resources): &(FollowerId, Resources)| HeldOffer {
        follower: names.follower(at),
        resources: resources.into(),
        held_seconds: since(at).unwrap_or_default().as_secs_f64(),
    };
    answer.holds.iter().take(MOST_HELD).map(offer).collect()
}

fn fair_share(standing: &Standing) -> FairShare {
    FairShare {
        weighted_share: standing.weighted_share,
        weight: standing.weight,
        ahead: standing.ahead,
        of: standing.of,
    }
}

fn fragmentation(names: &Names<'_>, fragments: &Fragments) -> Fragmentation {
    let most_on = names.follower_text(&fragments.most_on);
    Fragmentation {
        text: format!(
            "enough is free, but in pieces: {} in all, the largest of them {} on {most_on}",
            fragments.free, fragments.most
        ),
        free: (&fragments.free).into(),
        most: (&fragments.most).into(),
        most_on: names.follower(&fragments.most_on),
    }
}

fn suggestion(names: &Names<'_>, suggestion: &Suggestion) -> SuggestionDocument {
    let steps = super::distinct(suggestion.changes.iter().map(|change| names.step(change)));
    SuggestionDocument {
        verified: suggestion.verified,
        text: steps.join(", and "),
        changes: suggestion.changes.iter().map(simulation::to_json).collect(),
    }
}

fn notes(names: &Names<'_>, holds_offers: bool) -> Vec<String> {
    let mut notes = Vec::new();
    if holds_offers {
        notes.push(
            "nobody is offered anything yet: the leader waits for followers to come back after its election"
                .to_owned(),
        );
    }
    let mut away = |count: usize, what: &str| {
        if count > 0 {
            notes.push(format!(
                "{} {what}, with all they have",
                counted(count, "follower")
            ));
        }
    };
    let unreachable = names.view.unreachable_followers.size();
    away(unreachable, "unreachable");
    away(
        names.view.recovered_followers.size(),
        "not back since the election",
    );
    if let Some(timeout) = names.view.leader.flags.get("offer_timeout") {
        notes.push(format!(
            "offers are taken back after {timeout} (--offer_timeout)"
        ));
    }
    let oldest = names.view.frameworks.values().filter_map(|framework| {
        let held = framework.offers.values().map(|out| out.since).min()?;
        Some((held, &framework.id))
    });
    if let Some((since, id)) = oldest.min()
        && names.view.at.since(since).as_secs() >= 60
    {
        let (who, age) = (names.framework_text(id), names.view.at.since(since));
        notes.push(format!(
            "{who} holds the oldest offer, for {}",
            lasting(age)
        ));
    }
    notes
}
