//! `POST /api/v1`: calls that the shell answers itself, reads that the view answers, and the rest,
//! which the core decides (`docs/operator-http-api.md`).

use super::{reads, service::LeaderService};
use crate::{
    common,
    files::FilesError,
    http::{ContentType, Request, Response, media, response},
    pending::{Answer, Stopped},
    random,
};
use std::time::Duration;
use tepui_leader::{Input, Principal, Via, read};
use tepui_model::StreamId;
use tepui_protocol::{
    MESOS_VERSION,
    v1::{
        self,
        master::{self, call::Type as C, response::Type as R},
    },
};

/// Name of the leader's log in its file tree.
pub(super) const LOG_NAME: &str = "/master/log";

/// Answers one call.
pub(super) async fn call(service: &LeaderService, request: Request) -> Response {
    if request.method != http::Method::POST {
        return response::method_not_allowed(&["POST"], &request.method);
    }
    let prepared = media::decode_call::<master::Call>(&request).and_then(|call| {
        validate(&call)?;
        Ok((call, media::accept(&request)?))
    });
    let (call, content_type) = match prepared {
        Ok(prepared) => prepared,
        Err(refusal) => return refusal,
    };
    tracing::debug!(call = call.r#type().as_str_name(), remote = %request.remote, "operator call");
    let principal = request.principal_name();
    match call.r#type() {
        C::Unknown => response::plain_error(http::StatusCode::NOT_IMPLEMENTED),
        C::GetHealth
        | C::GetFlags
        | C::GetVersion
        | C::GetMetrics
        | C::GetLoggingLevel
        | C::SetLoggingLevel => local(service, &call, content_type),
        C::ListFiles | C::ReadFile | C::ReadLog => files(service, call, content_type).await,
        C::Subscribe => subscribe(service, content_type, principal).await,
        _ => view_or_core(service, call, content_type, principal).await,
    }
}

/// What the shell's own calls need to be there (`src/master/validation.cpp`); the core validates
/// what it decides.
fn validate(call: &master::Call) -> Result<(), Response> {
    let missing = |field: &str| {
        let text = format!("Failed to validate master::Call: Expecting '{field}' to be present");
        Err(response::text(400, text))
    };
    if call.r#type.is_none() {
        return missing("type");
    }
    match call.r#type() {
        C::GetMetrics if call.get_metrics.is_none() => missing("get_metrics"),
        C::SetLoggingLevel if call.set_logging_level.is_none() => missing("set_logging_level"),
        C::ListFiles if call.list_files.is_none() => missing("list_files"),
        C::ReadFile if call.read_file.is_none() => missing("read_file"),
        _ => Ok(()),
    }
}

fn typed(answered: R) -> master::Response {
    master::Response {
        r#type: Some(answered.into()),
        ..Default::default()
    }
}

fn local(service: &LeaderService, call: &master::Call, content_type: ContentType) -> Response {
    let answer = match call.r#type() {
        C::GetHealth => master::Response {
            get_health: Some(master::response::GetHealth { healthy: true }),
            ..typed(R::GetHealth)
        },
        C::GetFlags => {
            let view = service.view();
            let flags = view.leader.flags.iter();
            let flags = flags
                .map(|(name, value)| v1::Flag {
                    name: name.clone(),
                    value: Some(value.clone()),
                })
                .collect();
            master::Response {
                get_flags: Some(master::response::GetFlags { flags }),
                ..typed(R::GetFlags)
            }
        }
        C::GetVersion => {
            let version_info = v1::VersionInfo {
                version: MESOS_VERSION.to_owned(),
                ..Default::default()
            };
            master::Response {
                get_version: Some(master::response::GetVersion { version_info }),
                ..typed(R::GetVersion)
            }
        }
        C::GetMetrics => {
            let metrics = reads::metrics(&service.view(), &service.clock).into_iter();
            let metrics = metrics
                .map(|(name, value)| v1::Metric {
                    name,
                    value: Some(value),
                })
                .collect();
            master::Response {
                get_metrics: Some(master::response::GetMetrics { metrics }),
                ..typed(R::GetMetrics)
            }
        }
        C::SetLoggingLevel => {
            if let Some(set) = &call.set_logging_level {
                let nanos = u64::try_from(set.duration.nanoseconds).unwrap_or(0);
                service.logging.set(set.level, Duration::from_nanos(nanos));
            }
            return response::ok();
        }
        _ => master::Response {
            get_logging_level: Some(master::response::GetLoggingLevel {
                level: service.logging.level(),
            }),
            ..typed(R::GetLoggingLevel)
        },
    };
    media::respond(content_type, &answer)
}

async fn files(service: &LeaderService, call: master::Call, content_type: ContentType) -> Response {
    let files = service.files.clone();
    let answer = common::aside(move || -> Result<_, FilesError> {
        Ok(match call {
            master::Call {
                list_files: Some(list),
                ..
            } if call.r#type == Some(C::ListFiles.into()) => {
                let file_infos = files.browse(&list.path)?;
                master::Response {
                    list_files: Some(master::response::ListFiles { file_infos }),
                    ..typed(R::ListFiles)
                }
            }
            master::Call {
                read_file: Some(read),
                ..
            } if call.r#type == Some(C::ReadFile.into()) => {
                let piece = files.read(&read.path, read.offset, read.length)?;
                let (size, data) = (piece.size, piece.data.into());
                master::Response {
                    read_file: Some(master::response::ReadFile { size, data }),
                    ..typed(R::ReadFile)
                }
            }
            master::Call { read_log, .. } => {
                let read = read_log.unwrap_or_default();
                let piece = files.read(LOG_NAME, read.offset.unwrap_or(0), read.length)?;
                let (size, data) = (piece.size, piece.data.into());
                master::Response {
                    read_log: Some(master::response::ReadLog { size, data }),
                    ..typed(R::ReadLog)
                }
            }
        })
    });
    match answer.await {
        Some(Ok(answer)) => media::respond(content_type, &answer),
        Some(Err(error)) => response::text(error.status(), error.to_string()),
        None => response::plain_error(http::StatusCode::INTERNAL_SERVER_ERROR),
    }
}

async fn subscribe(
    service: &LeaderService,
    content_type: ContentType,
    principal: Option<Principal>,
) -> Response {
    let Ok(stream) = random::uuid().map(StreamId) else {
        return response::plain_error(http::StatusCode::INTERNAL_SERVER_ERROR);
    };
    let input = |request| Input::OperatorSubscribe {
        request,
        stream,
        principal,
    };
    service.ask(content_type, input).await
}

/// A read, off the threads that serve everybody: a large cluster's state takes a while to write.
/// What the view does not answer is the core's.
async fn view_or_core(
    service: &LeaderService,
    call: master::Call,
    content_type: ContentType,
    principal: Option<Principal>,
) -> Response {
    let view = service.view();
    let answer = common::aside(move || {
        let answer = read::operator(&view, &call);
        (
            call,
            answer.map(|answer| media::respond(content_type, &answer)),
        )
    });
    match answer.await {
        Some((_, Some(answer))) => answer,
        Some((call, None)) => {
            let call = Box::new(call);
            let input = |request| Input::Operator {
                request,
                call,
                via: Via::V1,
                principal,
            };
            service.ask(content_type, input).await
        }
        None => response::plain_error(http::StatusCode::INTERNAL_SERVER_ERROR),
    }
}

/// `/teardown`: the framework's id in a form.
pub(super) async fn teardown(service: &LeaderService, request: Request) -> Response {
    if request.method != http::Method::POST {
        return response::method_not_allowed(&["POST"], &request.method);
    }
    let mut form = match request.form() {
        Ok(form) => form,
        Err(error) => {
            return response::text(400, format!("Unable to decode query string: {error}"));
        }
    };
    let Some(value) = form.remove("frameworkId") else {
        return response::text(
            400,
            "Missing 'frameworkId' query parameter in the request body",
        );
    };
    let call = master::Call {
        r#type: Some(C::Teardown.into()),
        teardown: Some(master::call::Teardown {
            framework_id: v1::FrameworkId { value },
        }),
        ..Default::default()
    };
    service.ask_for_endpoint(&request, call).await
}

impl LeaderService {
    /// Asks the core, and words its answer.
    pub(super) async fn ask(
        &self,
        content_type: ContentType,
        input: impl FnOnce(tepui_model::RequestId) -> Input,
    ) -> Response {
        match self.inbox.call(content_type, input).await {
            Ok(Answer::Stream(head)) => head,
            Ok(Answer::Reply(reply)) => worded(reply, content_type),
            // Stopping, or deposed in the meantime.
            Err(Stopped) => response::text(503, "No leader elected"),
        }
    }

    /// Asks the core what an endpoint of its own asks for, and words its answer.
    pub(super) async fn ask_for_endpoint(&self, request: &Request, call: master::Call) -> Response {
        let principal = request.principal_name();
        let input = |request| Input::Operator {
            request,
            call: Box::new(call),
            via: Via::Endpoint,
            principal,
        };
        self.ask(ContentType::Json, input).await
    }
}

/// A reply as HTTP has it.
pub(super) fn worded(reply: tepui_leader::Reply, content_type: ContentType) -> Response {
    use tepui_leader::Reply;
    match reply {
        Reply::Accepted => response::accepted(),
        Reply::Ok => response::ok(),
        Reply::Response(body) => media::respond(content_type, &*body),
        Reply::SchedulerResponse(body) => media::respond(content_type, &*body),
        Reply::Document(document) => response::content(content_type.name(), document),
        // Whoever asks for one runs it (`questions`).
        Reply::Examination(_) => response::plain_error(http::StatusCode::INTERNAL_SERVER_ERROR),
        Reply::Error { status, message } => response::text(status, message),
    }
}
