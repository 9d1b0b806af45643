//! `POST /api/v1`: calls that the shell answers itself, reads that the view answers, and the rest,
//! which the core decides (`docs/operator-http-api.md`).

use super::service::FollowerService;
use crate::{
    common,
    files::{Files, FilesError},
    http::{
        ContentType, Request, Response,
        media::{self, AgentAccept, AgentContent},
        response,
    },
};
use std::time::Duration;
use tepui_follower::{io::Input, read, validate, view::View};
use tepui_model::{container::ContainerId, effects::Principal};
use tepui_protocol::v1::agent::{
    self,
    call::{Type as C, read_log::Source},
    response as r,
    response::Type as R,
};

/// Name of the follower's log in its file tree.
pub(super) const LOG_NAME: &str = "/slave/log";

/// Answers one call.
pub(super) async fn call(service: &FollowerService, request: Request) -> Response {
    if request.method != http::Method::POST {
        return response::method_not_allowed(&["POST"], &request.method);
    }
    let (call, content_type) = match prepare(&request) {
        Ok(prepared) => prepared,
        Err(refusal) => return refusal,
    };
    tracing::debug!(call = call.r#type().as_str_name(), remote = %request.remote, "operator call");
    let principal = request.principal_name();
    match call.r#type() {
        C::Unknown => response::plain_error(http::StatusCode::NOT_IMPLEMENTED),
        C::GetLoggingLevel => {
            let level = service.logging.level();
            let answer = agent::Response {
                get_logging_level: Some(r::GetLoggingLevel { level }),
                ..typed(R::GetLoggingLevel)
            };
            media::respond(content_type, &answer)
        }
        C::SetLoggingLevel => {
            if let Some(set) = &call.set_logging_level {
                let nanos = u64::try_from(set.duration.nanoseconds).unwrap_or(0);
                service.logging.set(set.level, Duration::from_nanos(nanos));
            }
            response::ok()
        }
        C::ListFiles | C::ReadFile | C::ReadLog => files(service, call, content_type).await,
        _ => read_or_ask(service, call, content_type, principal).await,
    }
}

/// The call and how to answer it, checked in the reference's order (`Http::api` and `Http::_api` of
/// `src/slave/http.cpp`).
fn prepare(request: &Request) -> Result<(agent::Call, ContentType), Response> {
    let content = media::agent_content(request)?;
    let accept = media::agent_accept(request)?;
    let call = media::decode_agent_call(request, content)?;
    validate::operator(&call)
        .map_err(|error| response::text(400, format!("Failed to validate agent::Call: {error}")))?;
    let kind = call.r#type();
    let name = kind.as_str_name();
    let input = kind == C::AttachContainerInput;
    match content {
        AgentContent::RecordIo(_) if !input => {
            let text = format!(
                "Streaming 'Content-Type' application/recordio is not supported for {name} call"
            );
            return Err(response::text(415, text));
        }
        AgentContent::Message(_) if input => {
            let text =
                format!("Expecting 'Content-Type' to be application/recordio for {name} call");
            return Err(response::text(415, text));
        }
        AgentContent::RecordIo(_) | AgentContent::Message(_) => {}
    }
    let streams = matches!(
        kind,
        C::LaunchNestedContainerSession | C::AttachContainerOutput
    );
    match accept {
        AgentAccept::RecordIo(_) if !streams => {
            let text = format!("Streaming response is not supported for {name} call");
            Err(response::text(406, text))
        }
        AgentAccept::Message(content_type) | AgentAccept::RecordIo(content_type) => {
            Ok((call, content_type))
        }
    }
}

fn typed(answered: R) -> agent::Response {
    agent::Response {
        r#type: Some(answered.into()),
        ..Default::default()
    }
}

async fn files(
    service: &FollowerService,
    call: agent::Call,
    content_type: ContentType,
) -> Response {
    let files = service.files.clone();
    let view = service.view();
    match common::aside(move || file_answer(&files, &view, call)).await {
        Some(Ok(answer)) => media::respond(content_type, &answer),
        Some(Err(error)) => response::text(error.status(), error.to_string()),
        None => response::plain_error(http::StatusCode::INTERNAL_SERVER_ERROR),
    }
}

fn file_answer(
    files: &Files,
    view: &View,
    call: agent::Call,
) -> Result<agent::Response, FilesError> {
    match (call.r#type(), call.list_files, call.read_file) {
        (C::ListFiles, Some(list), _) => {
            let file_infos = files.browse(&list.path)?;
            Ok(agent::Response {
                list_files: Some(r::ListFiles { file_infos }),
                ..typed(R::ListFiles)
            })
        }
        (C::ReadFile, _, Some(read)) => {
            let piece = files.read(&read.path, read.offset, read.length)?;
            let read_file = Some(r::ReadFile {
                size: piece.size,
                data: piece.data.into(),
            });
            Ok(agent::Response {
                read_file,
                ..typed(R::ReadFile)
            })
        }
        _ => {
            let read = call.read_log.unwrap_or_default();
            Ok(agent::Response {
                read_log: Some(log(files, view, &read)?),
                ..typed(R::ReadLog)
            })
        }
    }
}

/// Both outputs of a container, or our own log as the first of them.
fn log(files: &Files, view: &View, read: &agent::call::ReadLog) -> Result<r::ReadLog, FilesError> {
    let piece = |path: &str, offset| -> Result<_, FilesError> {
        let piece = files.read(path, offset, read.length)?;
        Ok(Some(r::read_log::Data {
            size: piece.size,
            data: piece.data.into(),
        }))
    };
    match read.source() {
        Source::Agent => Ok(r::ReadLog {
            stdout: piece(LOG_NAME, read.stdout_offset())?,
            stderr: None,
        }),
        Source::Container => {
            let sandbox = read
                .container_id
                .as_ref()
                .and_then(|id| sandbox(view, &id.into()));
            let sandbox = sandbox.ok_or(FilesError::NotFound)?;
            Ok(r::ReadLog {
                stdout: piece(&format!("{sandbox}/stdout"), read.stdout_offset())?,
                stderr: piece(&format!("{sandbox}/stderr"), read.stderr_offset())?,
            })
        }
        Source::Unknown => Err(FilesError::NotFound),
    }
}

/// Virtual path of a container's sandbox; a nested one's lies in its parent's.
fn sandbox(view: &View, container: &ContainerId) -> Option<String> {
    if let Some(parent) = &container.parent {
        return Some(format!(
            "{}/containers/{}",
            sandbox(view, parent)?,
            container.value
        ));
    }
    let frameworks = view
        .frameworks
        .values()
        .chain(view.completed_frameworks.iter());
    let mut executors =
        frameworks.flat_map(|f| f.executors.values().chain(f.completed_executors.iter()));
    let executor = executors.find(|executor| executor.container == *container)?;
    Some(executor.sandbox.display().to_string())
}

/// A read, off the threads that serve everybody. What the view does not answer is the core's.
async fn read_or_ask(
    service: &FollowerService,
    call: agent::Call,
    content_type: ContentType,
    principal: Option<Principal>,
) -> Response {
    let (view, source) = (service.view(), service.facts.clone());
    let read = common::aside(move || {
        let facts = match call.r#type() {
            C::GetContainers => source.with_statistics(&view),
            C::GetMetrics => source.with_metrics(&view),
            _ => source.plain(&view),
        };
        let answer = read::answer(&view, call.r#type(), &facts, source.clock.now());
        (
            call,
            answer.map(|answer| media::respond(content_type, &answer)),
        )
    });
    match read.await {
        Some((_, Some(answer))) => answer,
        Some((call, None)) => {
            let call = Box::new(call);
            service
                .ask(content_type, |request| Input::Operator {
                    request,
                    call,
                    principal,
                })
                .await
        }
        None => response::plain_error(http::StatusCode::INTERNAL_SERVER_ERROR),
    }
}
