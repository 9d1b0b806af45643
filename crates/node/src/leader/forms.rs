//! Older endpoints that change resources by a posted form.
//!
//! What they do comes with the resource model; until then what is wrong with a request is said in the
//! reference's words (`src/master/http.cpp`), and what is right with it is refused by name.

use crate::http::{Request, Response, response};
use tepui_leader::View;
use tepui_model::FollowerId;
use tepui_protocol::{
    json::{self, Names},
    v1::Resource,
};

/// An endpoint that takes only `POST`.
#[derive(Debug, Clone, Copy)]
pub(super) struct FormEndpoint {
    path: &'static str,
    /// The form's parameter with resources.
    resources: &'static str,
}

/// Their paths.
pub(super) const ENDPOINTS: [(&str, FormEndpoint); 4] = [
    form("/reserve", "resources"),
    form("/unreserve", "resources"),
    form("/create-volumes", "volumes"),
    form("/destroy-volumes", "volumes"),
];

const fn form(path: &'static str, resources: &'static str) -> (&'static str, FormEndpoint) {
    (path, FormEndpoint { path, resources })
}

impl FormEndpoint {
    /// The answer to a request.
    pub(super) fn answer(self, view: &View, request: &Request) -> Response {
        if request.method != http::Method::POST {
            return response::method_not_allowed(&["POST"], &request.method);
        }
        if let Some(error) = problem(self.resources, view, request) {
            return response::text(400, error);
        }
        response::text(501, format!("POST {} is not supported yet", self.path))
    }
}

/// What is wrong with a form about an agent's resources.
fn problem(part: &str, view: &View, request: &Request) -> Option<String> {
    let form = match request.form() {
        Ok(form) => form,
        Err(error) => return Some(format!("Unable to decode query string: {error}")),
    };
    let missing = |name: &str| format!("Missing '{name}' query parameter in the request body");
    let Some(agent) = form.get("slaveId") else {
        return Some(missing("slaveId"));
    };
    let Some(resources) = form.get(part) else {
        return Some(missing(part));
    };
    if let Err(error) = json::decode_list_with::<Resource>(resources.as_bytes(), Names::V0) {
        return Some(format!(
            "Error in parsing '{part}' query parameter in the request body: {error}"
        ));
    }
    let known = view
        .followers
        .contains_key(&FollowerId::new(agent.as_str()));
    (!known).then(|| "No agent found with specified ID".to_owned())
}
