//! Older endpoints that change a follower's resources by a posted form: `/reserve`, `/unreserve`,
//! `/create-volumes`, `/destroy-volumes`.
//!
//! Follows the handlers of these names in `src/master/http.cpp`. A form is turned into the call of the
//! operator API that does the same; what it does is the core's to decide.

use super::service::LeaderService;
use crate::http::{Request, Response, response};
use std::collections::BTreeMap;
use tepui_protocol::{
    json::{self, Names},
    v1::{
        AgentId, Resource,
        master::{self, call},
    },
};

/// An endpoint that takes only `POST`.
#[derive(Debug, Clone, Copy)]
pub(super) enum FormEndpoint {
    Reserve,
    Unreserve,
    CreateVolumes,
    DestroyVolumes,
}

/// Their paths.
pub(super) const ENDPOINTS: [(&str, FormEndpoint); 4] = [
    ("/reserve", FormEndpoint::Reserve),
    ("/unreserve", FormEndpoint::Unreserve),
    ("/create-volumes", FormEndpoint::CreateVolumes),
    ("/destroy-volumes", FormEndpoint::DestroyVolumes),
];

impl FormEndpoint {
    /// The form's parameter with resources.
    fn part(self) -> &'static str {
        match self {
            Self::Reserve | Self::Unreserve => "resources",
            Self::CreateVolumes | Self::DestroyVolumes => "volumes",
        }
    }

    /// The answer to a request.
    pub(super) async fn answer(self, service: &LeaderService, request: Request) -> Response {
        if request.method != http::Method::POST {
            return response::method_not_allowed(&["POST"], &request.method);
        }
        match self.call(&request) {
            Ok(call) => service.ask_for_endpoint(&request, call).await,
            Err(error) => response::text(400, error),
        }
    }

    /// What a form asks for, or what is wrong with it.
    fn call(self, request: &Request) -> Result<master::Call, String> {
        let form = request
            .form()
            .map_err(|error| format!("Unable to decode query string: {error}"))?;
        let agent = form.get("slaveId").ok_or_else(|| missing("slaveId"))?;
        let agent_id = AgentId {
            value: agent.clone(),
        };
        let part = self.part();
        let resources = self.list(&form, part)?.ok_or_else(|| missing(part))?;
        let mut call = master::Call::default();
        match self {
            Self::Reserve => {
                call.set_type(call::Type::ReserveResources);
                call.reserve_resources = Some(call::ReserveResources {
                    agent_id,
                    source: self.list(&form, "source")?.unwrap_or_default(),
                    resources,
                });
            }
            Self::Unreserve => {
                call.set_type(call::Type::UnreserveResources);
                call.unreserve_resources = Some(call::UnreserveResources {
                    agent_id,
                    resources,
                });
            }
            Self::CreateVolumes => {
                call.set_type(call::Type::CreateVolumes);
                call.create_volumes = Some(call::CreateVolumes {
                    agent_id,
                    volumes: resources,
                });
            }
            Self::DestroyVolumes => {
                call.set_type(call::Type::DestroyVolumes);
                call.destroy_volumes = Some(call::DestroyVolumes {
                    agent_id,
                    volumes: resources,
                });
            }
        }
        Ok(call)
    }

    /// Resources as a parameter of the form has them, if it is there.
    fn list(
        self,
        form: &BTreeMap<String, String>,
        part: &str,
    ) -> Result<Option<Vec<Resource>>, String> {
        let Some(text) = form.get(part) else {
            return Ok(None);
        };
        let list = json::decode_list_with(text.as_bytes(), Names::V0);
        list.map(Some).map_err(|error| {
            let parsing = match self {
                Self::Reserve => "Error parsing",
                _ => "Error in parsing",
            };
            format!("{parsing} '{part}' query parameter in the request body: {error}")
        })
    }
}

fn missing(name: &str) -> String {
    format!("Missing '{name}' query parameter in the request body")
}
