//! The older endpoints that change quotas and weights: `POST /quota`, `DELETE /quota/ROLE`,
//! `PUT /weights`.
//!
//! Follows `src/master/quota_handler.cpp` and `src/master/weights_handler.cpp`. The bodies are turned into
//! the calls of the operator API that do the same; what they do is the core's to decide.

use super::service::LeaderService;
use crate::http::{Request, Response, response};
use tepui_protocol::{
    json::{self, Names},
    v1::{
        WeightInfo,
        master::{self, call},
        quota::QuotaRequest,
    },
};

/// Answers a request to `/quota` that is not a read.
pub(super) async fn quota(service: &LeaderService, request: Request) -> Response {
    let call = match request.method == http::Method::POST {
        true => set(&request),
        false => remove(&request),
    };
    ask(service, &request, call).await
}

/// Answers a request to `/weights` that is not a read.
pub(super) async fn weights(service: &LeaderService, request: Request) -> Response {
    let call = update(&request);
    ask(service, &request, call).await
}

fn set(request: &Request) -> Result<master::Call, String> {
    let body = String::from_utf8_lossy(&request.body);
    let value = json::parse(&request.body)
        .map_err(|error| format!("Failed to parse set quota request JSON '{body}': {error}"))?;
    let quota_request: QuotaRequest = json::decode_value_with(&value, Names::V0)
        .map_err(|error| format!("Failed to validate set quota request JSON '{body}': {error}"))?;
    let mut call = master::Call::default();
    call.set_type(call::Type::SetQuota);
    call.set_quota = Some(call::SetQuota { quota_request });
    Ok(call)
}

/// The role is the rest of the path; it may have slashes of its own.
fn remove(request: &Request) -> Result<master::Call, String> {
    let path = request.path();
    let inner = path.strip_prefix("/master").unwrap_or(&path);
    let role = inner.trim_matches('/').split_once('/');
    let Some((_, role)) = role else {
        return Err(
            "Failed to parse remove quota request for path '/master/quota': expected 3 tokens, found 2 tokens"
                .to_owned(),
        );
    };
    let mut call = master::Call::default();
    call.set_type(call::Type::RemoveQuota);
    call.remove_quota = Some(call::RemoveQuota {
        role: role.to_owned(),
    });
    Ok(call)
}

fn update(request: &Request) -> Result<master::Call, String> {
    let body = String::from_utf8_lossy(&request.body);
    let failed = |what: &str, error: &dyn std::fmt::Display| format!("{what} '{body}': {error}");
    let parse = "Failed to parse update weights request JSON";
    let value = json::parse(&request.body).map_err(|error| failed(parse, &error))?;
    let Some(list) = value.as_array() else {
        return Err(failed(parse, &"Unexpected JSON type parsed"));
    };
    let infos: Result<Vec<WeightInfo>, _> = (list.iter())
        .map(|info| json::decode_value_with(info, Names::V0))
        .collect();
    let convert = "Failed to convert weights JSON array to protobuf";
    let weight_infos = infos.map_err(|error| failed(convert, &error))?;
    let mut call = master::Call::default();
    call.set_type(call::Type::UpdateWeights);
    call.update_weights = Some(call::UpdateWeights { weight_infos });
    Ok(call)
}

async fn ask(
    service: &LeaderService,
    request: &Request,
    call: Result<master::Call, String>,
) -> Response {
    match call {
        Ok(call) => service.ask_for_endpoint(request, call).await,
        Err(error) => response::text(400, error),
    }
}
