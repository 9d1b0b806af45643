//! Followers by the names people use for them.

use super::OperateError;
use crate::inspect::{InspectError, ask};
use std::fmt;
use tepui_client::{
    operator::Operator,
    proto::{AgentId, MachineId, master::call::Type},
};

/// What a name stands for.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Named {
    pub(super) id: AgentId,
    /// Unknown of one that is away.
    hostname: Option<String>,
    /// Unknown of one that has not come back since an election.
    address: Option<String>,
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.hostname {
            Some(hostname) => write!(f, "{} ({hostname})", self.id.value),
            None => f.write_str(&self.id.value),
        }
    }
}

impl Named {
    /// The machine it is on.
    pub(super) fn machine(&self) -> Option<MachineId> {
        Some(MachineId {
            hostname: Some(self.hostname.clone()?),
            ip: Some(self.address.clone()?),
        })
    }
}

/// All followers the leader shows.
#[derive(Debug)]
pub(super) struct Followers(Vec<Named>);

impl Followers {
    pub(super) async fn ask(operator: &Operator) -> Result<Self, InspectError> {
        let response = ask(operator, Type::GetAgents).await?;
        let agents = response
            .get_agents
            .ok_or(InspectError::Answer("get_agents"))?;
        let registered = agents.agents.into_iter().filter_map(|agent| {
            // `slave(1)@ADDRESS:PORT`
            let pid = agent.pid.unwrap_or_default();
            let address = pid.rsplit_once('@').and_then(|(_, at)| at.rsplit_once(':'));
            Some(Named {
                id: agent.agent_info.id?,
                hostname: Some(agent.agent_info.hostname),
                address: address.map(|(address, _)| address.to_owned()),
            })
        });
        let awaited = agents.recovered_agents.into_iter().filter_map(|info| {
            Some(Named {
                id: info.id?,
                hostname: Some(info.hostname),
                address: None,
            })
        });
        Ok(Self(registered.chain(awaited).collect()))
    }

    /// By id, by the end of an id, by host name.
    pub(super) fn find(&self, name: &str) -> Result<Named, OperateError> {
        let end = format!("-{name}");
        let by_id = |named: &&Named| named.id.value == name;
        let by_end = |named: &&Named| named.id.value.ends_with(&end);
        let by_host = |named: &&Named| {
            let hostname = named.hostname.as_deref().unwrap_or_default();
            hostname.eq_ignore_ascii_case(name)
        };
        let found: Vec<&Named> = [
            self.0.iter().filter(by_id).collect::<Vec<_>>(),
            self.0.iter().filter(by_end).collect(),
            self.0.iter().filter(by_host).collect(),
        ]
        .into_iter()
        .find(|found| !found.is_empty())
        .unwrap_or_default();
        match found[..] {
            [named] => Ok(named.clone()),
            // One that is unreachable is not shown: the leader knows whether there is such a one.
            [] if looks_like_an_id(name) => Ok(Named {
                id: AgentId {
                    value: name.to_owned(),
                },
                hostname: None,
                address: None,
            }),
            [] => Err(OperateError::NoFollower(name.to_owned())),
            _ => Err(OperateError::Ambiguous {
                name: name.to_owned(),
                ids: found
                    .iter()
                    .map(|named| named.id.value.as_str())
                    .collect::<Vec<_>>()
                    .join(", "),
            }),
        }
    }
}

/// `LEADER-S12`
fn looks_like_an_id(name: &str) -> bool {
    name.rsplit_once("-S").is_some_and(|(leader, number)| {
        !leader.is_empty() && !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> Followers {
        let named = |id: &str, hostname: &str| Named {
            id: AgentId {
                value: id.to_owned(),
            },
            hostname: Some(hostname.to_owned()),
            address: Some("10.0.0.1".to_owned()),
        };
        Followers(vec![
            named("a-S0", "one.test"),
            named("a-S10", "two.test"),
            named("b-S0", "Two.Test"),
        ])
    }

    #[test]
    fn followers_are_found_by_what_people_call_them() {
        let id = |name: &str| known().find(name).map(|named| named.id.value);
        assert_eq!(id("a-S0").ok().as_deref(), Some("a-S0"));
        assert_eq!(id("S10").ok().as_deref(), Some("a-S10"));
        assert_eq!(id("ONE.test").ok().as_deref(), Some("a-S0"));
        // Away, perhaps.
        assert_eq!(id("old-S7").ok().as_deref(), Some("old-S7"));
    }

    #[test]
    fn names_of_none_and_of_several_are_refused_with_what_to_do() {
        let error = |name: &str| known().find(name).map_err(|error| error.to_string());
        assert!(error("three.test").is_err_and(|e| e.contains("`tepui agents`")));
        let several = error("S0");
        assert!(several.is_err_and(|e| e.contains("a-S0, b-S0")));
        assert!(error("two.test").is_err_and(|e| e.contains("a-S10, b-S0")));
    }

    #[test]
    fn a_follower_says_its_machine() {
        let machine = known().find("a-S0").ok().and_then(|named| named.machine());
        let machine = machine.map(|machine| (machine.hostname, machine.ip));
        let expected = (Some("one.test".to_owned()), Some("10.0.0.1".to_owned()));
        assert_eq!(machine, Some(expected));
    }
}
