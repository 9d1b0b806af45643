//! What `explain` can be asked.

use super::fields::{AskError, Asked, Fields, parse, wrong};
use serde_json::Value;
use std::{collections::BTreeMap, sync::Arc};
use tepui_allocator::{
    FrameworkCapabilities,
    trial::{self, Who},
};
use tepui_model::{FollowerId, FrameworkId, Quantities};

/// Why does somebody get no offer?
#[derive(Debug, Clone, PartialEq)]
pub struct Explain {
    /// Who; none: whoever would come to the role.
    pub framework: Option<FrameworkId>,
    /// In which role; none: in all of the framework's.
    pub role: Option<Arc<str>>,
    /// What an offer should hold, on one follower. Nothing: any offer will do.
    pub resources: Quantities,
    /// On which follower; none: on any.
    pub follower: Option<FollowerId>,
    /// What whoever would come could take.
    pub capabilities: FrameworkCapabilities,
}

const FIELDS: [&str; 5] = ["framework", "role", "resources", "follower", "capabilities"];

impl Explain {
    /// From a request's body.
    pub fn from_json(body: &[u8]) -> Result<Self, AskError> {
        Self::read(&parse(body)?)
    }

    /// From parameters of a path; `capabilities` is a list with commas. `jsonp` is the shell's.
    pub fn from_query(query: &BTreeMap<String, String>) -> Result<Self, AskError> {
        let fields = query.iter().filter(|(name, _)| *name != "jsonp");
        let fields = fields.map(|(name, text)| {
            let value = match name.as_str() {
                "capabilities" => text.split(',').map(Value::from).collect(),
                _ => Value::from(text.as_str()),
            };
            (name.clone(), value)
        });
        Self::read(&Value::Object(fields.collect()))
    }

    fn read(value: &Value) -> Asked<Self> {
        let fields = Fields::new("", value, &FIELDS)?;
        let framework = fields.text("framework")?.map(FrameworkId::new);
        let role = fields.role("role")?;
        if framework.is_none() && role.is_none() {
            return Err(wrong("", "'framework' or 'role' has to be given"));
        }
        if framework.is_some() && fields.get("capabilities").is_some() {
            return Err(wrong(
                "capabilities",
                "a framework has its own; they go with 'role' alone",
            ));
        }
        Ok(Self {
            framework,
            role,
            resources: fields.quantities("resources")?,
            follower: fields.text("follower")?.map(FollowerId::new),
            capabilities: fields.capabilities("capabilities")?,
        })
    }

    /// As the allocator understands it.
    pub(super) fn question(&self) -> trial::Question {
        let who = match (&self.framework, &self.role) {
            (Some(id), role) => Who::Framework {
                id: id.clone(),
                role: role.clone(),
            },
            (None, role) => Who::Anybody {
                role: role.clone().unwrap_or_else(|| Arc::from("*")),
                capabilities: self.capabilities,
            },
        };
        trial::Question {
            who,
            demand: self.resources.clone(),
            follower: self.follower.clone(),
        }
    }
}
