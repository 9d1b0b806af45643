//! Tokens that prove to the HTTP API which executor speaks. Whether one is asked for is the shell's
//! matter (`--authenticate_http_executors`); what it must say is checked here.
//!
//! Follows `generateSecret` of `src/slave/slave.cpp` and `verifyExecutorClaims` of
//! `src/slave/http.cpp`, whose texts these are. An executor's token names its container, so that of
//! an earlier run is worth nothing.

use crate::{Follower, state::ExecutorKey};
use serde_json::json;
use tepui_auth::{
    http::HttpPrincipal,
    jwt::{self, claim},
};
use tepui_model::container::ContainerId;
use tepui_protocol::v1;

impl Follower {
    /// The token for an executor that is about to start in `container`.
    pub(crate) fn executor_token(
        &self,
        info: &v1::ExecutorInfo,
        container: &ContainerId,
    ) -> Option<String> {
        let key = self.config.executor_secret_key.as_ref()?;
        let framework = info
            .framework_id
            .as_ref()
            .map_or("", |id| id.value.as_str());
        let executor = &info.executor_id.value;
        Some(jwt::executor_token(
            framework,
            executor,
            &container.value,
            key,
        ))
    }
}

/// Whether claims speak for the executor of a call.
pub(crate) fn verify(
    principal: &HttpPrincipal,
    (framework, executor): &ExecutorKey,
    container: &ContainerId,
) -> Result<(), String> {
    let says = |name: &str, value: &str| {
        let said = principal.claims.get(name);
        said.is_some_and(|said| said == value)
    };
    let who = || describe(principal);
    if !says(claim::FRAMEWORK, framework.as_str()) {
        return Err(format!(
            "Authenticated principal '{}' does not contain an 'fid' claim with the framework ID \
             {framework}, which is set in the call",
            who()
        ));
    }
    if !says(claim::EXECUTOR, executor.as_str()) {
        return Err(format!(
            "Authenticated principal '{}' does not contain an 'eid' claim with the executor ID \
             {executor}, which is set in the call",
            who()
        ));
    }
    if !says(claim::CONTAINER, &container.value) {
        return Err(format!(
            "Authenticated principal '{}' does not contain a 'cid' claim with the correct active \
             ContainerID",
            who()
        ));
    }
    Ok(())
}

/// A name alone is written as it is, everything else as JSON.
fn describe(principal: &HttpPrincipal) -> String {
    match &principal.value {
        Some(name) if principal.claims.is_empty() => name.to_string(),
        Some(name) => {
            let name = name.to_string();
            json!({ "value": name, "claims": principal.claims }).to_string()
        }
        None if principal.claims.is_empty() => "{}".to_owned(),
        None => json!({ "claims": principal.claims }).to_string(),
    }
}
