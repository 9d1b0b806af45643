//! Offer constraints: on which followers a framework wants offers for one of its roles.
//!
//! Groups of constraints on attributes, or on what every follower has without declaring it (host name, region,
//! zone): a follower will do when all constraints of one group hold. Follows
//! `src/master/allocator/mesos/offer_constraints_filter.cpp`, whose error texts schedulers see. Regular expressions are in
//! [`pattern`].

mod pattern;

use pattern::Pattern;
pub use pattern::{ConstraintLimits, PatternError};
use std::{collections::BTreeMap, sync::Arc};
use tepui_model::attributes::Attributes;
use tepui_protocol::v1::{
    self,
    scheduler::{
        AttributeConstraint, OfferConstraints,
        attribute_constraint::{
            predicate::Predicate,
            selector::{PseudoattributeType, Selector},
        },
        offer_constraints::{RoleConstraints, role_constraints::Group},
    },
    value,
};
use thiserror::Error;

/// Why constraints cannot be used. [`ConstraintError::describe`] gives the reference's text.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ConstraintError {
    /// Nothing would ever do.
    #[error("there are no groups")]
    NoGroups,
    /// A group without constraints.
    #[error("a group is empty")]
    EmptyGroup,
    /// A constraint that selects nothing.
    #[error(
        "Exactly one of 'AttributeConstraint::Selector::name' or 'AttributeConstraint::Selector::pseudoattribute_type' must be set"
    )]
    NoSelector,
    /// A kind that we do not know.
    #[error("Unknown pseudoattribute type")]
    UnknownPseudoattribute,
    /// A predicate that we do not know.
    #[error("Unknown predicate type")]
    UnknownPredicate,
    /// A regular expression that is none, or too costly.
    #[error(transparent)]
    Pattern(#[from] PatternError),
}

impl ConstraintError {
    /// As a framework is told, for its role.
    pub fn describe(&self, role: &str) -> String {
        match self {
            Self::NoGroups => format!(
                "'OfferConstraints::role_constraints' has an empty 'RoleConstraints::groups' for role {role}"
            ),
            // The missing space is the reference's.
            Self::EmptyGroup => format!(
                "'OfferConstraints::RoleConstraints::groups' for role {role}contains an empty RoleConstraints::Group"
            ),
            other => format!("A role {role} has an invalid 'AttributeConstraint': {other}"),
        }
    }
}

/// What of a follower constraints look at.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Traits {
    /// Host name.
    pub hostname: Arc<str>,
    /// Attributes.
    pub attributes: Arc<Attributes>,
    /// Region of its fault domain.
    pub region: Option<Arc<str>>,
    /// Zone of its fault domain.
    pub zone: Option<Arc<str>>,
}

/// The constraints of a framework for one role.
#[derive(Clone, Debug)]
pub struct Constraints {
    source: RoleConstraints,
    groups: Vec<Vec<Constraint>>,
}

impl PartialEq for Constraints {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

#[derive(Clone, Debug)]
struct Constraint {
    selector: Selected,
    test: Test,
}

#[derive(Clone, Debug)]
enum Selected {
    Attribute(String),
    Hostname,
    Region,
    Zone,
}

#[derive(Clone, Debug)]
enum Test {
    Exists,
    NotExists,
    Equals(String),
    NotEquals(String),
    Matches(Pattern),
    NotMatches(Pattern),
}

impl Constraints {
    /// Checks and compiles them.
    pub fn new(
        source: &RoleConstraints,
        limits: &ConstraintLimits,
    ) -> Result<Self, ConstraintError> {
        if source.groups.is_empty() {
            return Err(ConstraintError::NoGroups);
        }
        let group = |group: &Group| -> Result<Vec<Constraint>, ConstraintError> {
            if group.attribute_constraints.is_empty() {
                return Err(ConstraintError::EmptyGroup);
            }
            let constraints = group.attribute_constraints.iter();
            constraints
                .map(|one| Constraint::new(one, limits))
                .collect()
        };
        Ok(Self {
            groups: source.groups.iter().map(group).collect::<Result<_, _>>()?,
            source: source.clone(),
        })
    }

    /// Those of all roles of a framework; on an error the text that it is told.
    pub fn of_roles(
        constraints: &OfferConstraints,
        limits: &ConstraintLimits,
    ) -> Result<BTreeMap<Arc<str>, Arc<Self>>, String> {
        let mut by_role: Vec<(&String, &RoleConstraints)> =
            constraints.role_constraints.iter().collect();
        by_role.sort_unstable_by_key(|(role, _)| *role);
        let compiled = by_role.into_iter().map(|(role, source)| {
            let constraints = Self::new(source, limits).map_err(|error| error.describe(role))?;
            Ok((Arc::from(role.as_str()), Arc::new(constraints)))
        });
        compiled.collect()
    }

    /// What they were made from.
    pub fn source(&self) -> &RoleConstraints {
        &self.source
    }

    /// Whether a follower will do.
    pub fn admit(&self, follower: &Traits) -> bool {
        let mut groups = self.groups.iter();
        groups.any(|group| group.iter().all(|constraint| constraint.holds(follower)))
    }
}

impl Constraint {
    fn new(
        source: &AttributeConstraint,
        limits: &ConstraintLimits,
    ) -> Result<Self, ConstraintError> {
        Ok(Self {
            selector: selected(source)?,
            test: test(source, limits)?,
        })
    }

    fn holds(&self, follower: &Traits) -> bool {
        let text = match &self.selector {
            Selected::Attribute(name) => {
                // Names need not be unique; the first counts.
                let mut attributes = follower.attributes.iter();
                let found = attributes.find(|attribute| attribute.name == *name);
                return self.test.holds(Subject::of(found));
            }
            Selected::Hostname => Some(&follower.hostname),
            Selected::Region => follower.region.as_ref(),
            Selected::Zone => follower.zone.as_ref(),
        };
        let subject = text.map_or(Subject::Absent, |text| Subject::Text(text));
        self.test.holds(subject)
    }
}

/// What a test is applied to.
#[derive(Clone, Copy)]
enum Subject<'a> {
    Absent,
    Text(&'a str),
    /// An attribute of another type: it is there, and no test on texts speaks of it.
    Other,
}

impl<'a> Subject<'a> {
    fn of(attribute: Option<&'a v1::Attribute>) -> Self {
        match attribute {
            None => Self::Absent,
            Some(attribute) if attribute.r#type() == value::Type::Text => {
                Self::Text(attribute.text.as_ref().map_or("", |text| &text.value))
            }
            Some(_) => Self::Other,
        }
    }
}

impl Test {
    fn holds(&self, subject: Subject<'_>) -> bool {
        match (self, subject) {
            (Self::Exists, subject) => !matches!(subject, Subject::Absent),
            (Self::NotExists, subject) => matches!(subject, Subject::Absent),
            (_, Subject::Other) => true,
            (Self::Equals(_) | Self::Matches(_), Subject::Absent) => false,
            (Self::NotEquals(_) | Self::NotMatches(_), Subject::Absent) => true,
            (Self::Equals(wanted), Subject::Text(text)) => text == wanted,
            (Self::NotEquals(wanted), Subject::Text(text)) => text != wanted,
            (Self::Matches(pattern), Subject::Text(text)) => pattern.matches_all_of(text),
            (Self::NotMatches(pattern), Subject::Text(text)) => !pattern.matches_all_of(text),
        }
    }
}

fn selected(source: &AttributeConstraint) -> Result<Selected, ConstraintError> {
    let kind = match &source.selector.selector {
        Some(Selector::AttributeName(name)) => return Ok(Selected::Attribute(name.clone())),
        Some(Selector::PseudoattributeType(kind)) => *kind,
        None => return Err(ConstraintError::NoSelector),
    };
    match PseudoattributeType::try_from(kind) {
        Ok(PseudoattributeType::Hostname) => Ok(Selected::Hostname),
        Ok(PseudoattributeType::Region) => Ok(Selected::Region),
        Ok(PseudoattributeType::Zone) => Ok(Selected::Zone),
        Ok(PseudoattributeType::Unknown) | Err(_) => Err(ConstraintError::UnknownPseudoattribute),
    }
}

fn test(source: &AttributeConstraint, limits: &ConstraintLimits) -> Result<Test, ConstraintError> {
    Ok(match &source.predicate.predicate {
        Some(Predicate::Exists(_)) => Test::Exists,
        Some(Predicate::NotExists(_)) => Test::NotExists,
        Some(Predicate::TextEquals(text)) => Test::Equals(text.value.clone()),
        Some(Predicate::TextNotEquals(text)) => Test::NotEquals(text.value.clone()),
        Some(Predicate::TextMatches(text)) => Test::Matches(Pattern::new(&text.regex, limits)?),
        Some(Predicate::TextNotMatches(text)) => {
            Test::NotMatches(Pattern::new(&text.regex, limits)?)
        }
        None => return Err(ConstraintError::UnknownPredicate),
    })
}
