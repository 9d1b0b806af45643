//! Routes of a follower, and the requests that are not operator calls.

use super::{facts::FactSource, operator};
use crate::{
    common::{self, FILES_ENDPOINTS, FilesEndpoint, Logging},
    files::Files,
    http::{
        Access, ContentType, Delivery, Realms, Request, Response, Routes, Service, media, response,
    },
    pending::{Answer, Inbox},
    random, system,
};
use arc_swap::ArcSwap;
use serde_json::Value;
use std::{borrow::Cow, sync::Arc};
use tepui_follower::{
    Phase, RECOVERING,
    io::{Input, ProcessName, Reply},
    metrics, read,
    view::View,
};
use tepui_model::{RequestId, StreamId};
use tepui_protocol::v1::executor::{self, call::Type};

/// What a path means.
#[derive(Debug, Clone, Copy)]
enum Endpoint {
    Operator,
    Executor,
    Health,
    Version,
    System,
    LogLevel,
    Help,
    Files(FilesEndpoint),
    Document(Document),
}

impl Endpoint {
    /// As the reference's routes have it (`Slave::initialize` in `src/slave/slave.cpp`).
    fn access(self) -> Access {
        match self {
            Self::Health | Self::Version | Self::System | Self::Help => Access::Open,
            Self::Operator | Self::LogLevel => Access::ReadWrite,
            Self::Executor => Access::Api,
            Self::Files(_) | Self::Document(_) => Access::ReadOnly,
        }
    }
}

impl Endpoint {
    /// What says nothing true before it is known again what runs (`Http::api` and `Http::state` of
    /// `src/slave/http.cpp`).
    fn needs_recovery(self) -> bool {
        matches!(self, Self::Operator | Self::Document(Document::State))
    }
}

/// What is computed from the view.
#[derive(Debug, Clone, Copy)]
enum Document {
    State,
    Flags,
    Containers,
    Statistics,
    Metrics,
}

const ENDPOINTS: [(&str, Endpoint); 12] = [
    ("/api/v1", Endpoint::Operator),
    ("/api/v1/executor", Endpoint::Executor),
    ("/health", Endpoint::Health),
    ("/version", Endpoint::Version),
    ("/system/stats.json", Endpoint::System),
    ("/logging/toggle", Endpoint::LogLevel),
    ("/help", Endpoint::Help),
    ("/state", Endpoint::Document(Document::State)),
    ("/flags", Endpoint::Document(Document::Flags)),
    ("/containers", Endpoint::Document(Document::Containers)),
    (
        "/monitor/statistics",
        Endpoint::Document(Document::Statistics),
    ),
    ("/metrics/snapshot", Endpoint::Document(Document::Metrics)),
];

/// Answers for a follower.
pub(super) struct FollowerService {
    pub(super) inbox: Inbox<Input, Reply>,
    pub(super) files: Arc<Files>,
    pub(super) logging: Arc<Logging>,
    pub(super) facts: FactSource,
    realms: Realms,
    view: Arc<ArcSwap<View>>,
    routes: Routes<Endpoint>,
}

impl FollowerService {
    pub(super) fn new(
        inbox: Inbox<Input, Reply>,
        view: Arc<ArcSwap<View>>,
        files: Arc<Files>,
        logging: Arc<Logging>,
        facts: FactSource,
        realms: Realms,
    ) -> Self {
        let files_endpoints = FILES_ENDPOINTS.map(|(path, which)| (path, Endpoint::Files(which)));
        let routes = ENDPOINTS.into_iter().chain(files_endpoints);
        Self {
            inbox,
            files,
            logging,
            facts,
            realms,
            view,
            routes: Routes::new("slave(1)", routes),
        }
    }

    /// The follower as it is now.
    pub(super) fn view(&self) -> Arc<View> {
        self.view.load_full()
    }

    /// Asks the core, and words its answer.
    pub(super) async fn ask(
        &self,
        content_type: ContentType,
        input: impl FnOnce(RequestId) -> Input,
    ) -> Response {
        match self.inbox.call(content_type, input).await {
            Ok(Answer::Stream(head)) => head,
            Ok(Answer::Reply(reply)) => worded(reply, content_type),
            Err(stopped) => response::text(503, stopped.to_string()),
        }
    }

    async fn executor(&self, request: Request) -> Response {
        if request.method != http::Method::POST {
            return response::method_not_allowed(&["POST"], &request.method);
        }
        let call = match media::decode_call::<executor::Call>(&request) {
            Ok(call) => Box::new(call),
            Err(refusal) => return refusal,
        };
        let principal = request.principal.clone();
        if call.r#type() != Type::Subscribe {
            return self
                .ask(ContentType::Json, |request| Input::ExecutorCall {
                    request,
                    call,
                    principal,
                })
                .await;
        }
        let content_type = match media::accept(&request) {
            Ok(content_type) => content_type,
            Err(refusal) => return refusal,
        };
        let Ok(stream) = random::uuid().map(StreamId) else {
            return response::plain_error(http::StatusCode::INTERNAL_SERVER_ERROR);
        };
        self.ask(content_type, |request| Input::ExecutorSubscribe {
            request,
            stream,
            call,
            principal,
        })
        .await
    }

    async fn document(&self, which: Document, request: Request) -> Response {
        if matches!(which, Document::Metrics)
            && let Some(timeout) = request.query("timeout")
            && common::parse_duration(&timeout).is_none()
        {
            let text = format!("Invalid timeout '{timeout}': Invalid duration '{timeout}'.\n");
            return response::text(400, text);
        }
        let (view, facts) = (self.view(), self.facts.clone());
        let read = move || response::json(&request, document(which, &view, &facts).to_string());
        common::aside(read)
            .await
            .unwrap_or_else(|| response::plain_error(http::StatusCode::INTERNAL_SERVER_ERROR))
    }
}

fn document(which: Document, view: &View, facts: &FactSource) -> Value {
    match which {
        Document::State => read::state(view, &facts.plain(view)),
        Document::Flags => read::flags(view),
        Document::Containers => read::containers(view, &facts.with_statistics(view)),
        Document::Statistics => read::statistics(view, &facts.with_statistics(view)),
        Document::Metrics => {
            let mut all = metrics::snapshot(view, facts.clock.now());
            all.extend(facts.with_metrics(view).metrics);
            all.into_iter()
                .map(|(name, value)| (name, Value::from(value)))
                .collect()
        }
    }
}

impl Service for FollowerService {
    async fn request(&self, mut request: Request) -> Response {
        let path = request.path();
        let Some(endpoint) = self.routes.find(&without_alias(&path)) else {
            return response::not_found();
        };
        drop(path);
        let now = self.facts.clock.now();
        if let Err(refusal) = self.realms.admit(endpoint.access(), &mut request, now) {
            return refusal;
        }
        if endpoint.needs_recovery() && self.view().phase == Phase::Recovering {
            return response::text(503, RECOVERING.to_owned());
        }
        match endpoint {
            Endpoint::Operator => operator::call(self, request).await,
            Endpoint::Executor => self.executor(request).await,
            Endpoint::Health if read::state::healthy(&self.view()) => response::ok(),
            Endpoint::Health => response::empty(http::StatusCode::SERVICE_UNAVAILABLE),
            Endpoint::Version => common::version(&request),
            Endpoint::System => response::json(&request, system::stats_json().to_string()),
            Endpoint::LogLevel => self.logging.toggle(&request),
            Endpoint::Help => {
                let paths = ENDPOINTS.iter().map(|(path, _)| *path);
                let files = FILES_ENDPOINTS.iter().map(|(path, _)| *path);
                common::help(&paths.chain(files).collect::<Vec<_>>())
            }
            Endpoint::Files(which) => common::files(&self.files, which, request).await,
            Endpoint::Document(which) => self.document(which, request).await,
        }
    }

    async fn message(&self, delivery: Delivery) -> bool {
        let Some(to) = ProcessName::parse(&delivery.to) else {
            return false;
        };
        let input = Input::Peer {
            from: delivery.from,
            to,
            message: delivery.message,
        };
        if self.inbox.post(input, delivery.permit).await.is_err() {
            tracing::debug!("dropped a message: the follower is stopping");
        }
        true
    }
}

/// `/slave/…` and `/agent/…` are what people type for `/slave(1)/…`.
fn without_alias(path: &str) -> Cow<'_, str> {
    let rest = ["/slave/", "/agent/", "/agent(1)/"]
        .iter()
        .find_map(|alias| path.strip_prefix(alias));
    rest.map_or(Cow::Borrowed(path), |rest| Cow::Owned(format!("/{rest}")))
}

fn worded(reply: Reply, content_type: ContentType) -> Response {
    match reply {
        Reply::Accepted => response::accepted(),
        Reply::Ok => response::ok(),
        Reply::Response(body) => media::respond(content_type, &*body),
        Reply::Error { status, message } => response::text(status, message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_of_the_process_are_taken() {
        assert_eq!(without_alias("/slave/state"), "/state");
        assert_eq!(without_alias("/agent/api/v1"), "/api/v1");
        assert_eq!(without_alias("/agents/state"), "/agents/state");
        assert_eq!(without_alias("/slave(1)/state"), "/slave(1)/state");
    }
}
