//! Routes of a leader, and the requests that are neither operator calls nor reads of the view.

use super::{
    forms::{self, FormEndpoint},
    journal::Shelf,
    maintenance::{self, Machines},
    operator,
    questions::{self, Desk, Question},
    reads::{self, ViewEndpoint},
    shares,
};
use crate::{
    clock::Clock,
    common::{self, FILES_ENDPOINTS, FilesEndpoint, Logging},
    files::Files,
    http::{
        Access, ContentType, Delivery, Realms, Request, Response, Routes, Service, media, response,
    },
    pending::Inbox,
    random, system,
};
use arc_swap::ArcSwap;
use http::Method;
use std::sync::Arc;
use tepui_leader::{Input, ProcessName, Reply, View};
use tepui_model::StreamId;
use tepui_protocol::{
    json,
    v1::scheduler::{self, call::Type},
};

/// What a path means.
#[derive(Debug, Clone, Copy)]
enum Endpoint {
    Operator,
    Scheduler,
    Health,
    Version,
    Redirect,
    Teardown,
    Metrics,
    System,
    LogLevel,
    Help,
    Files(FilesEndpoint),
    View(ViewEndpoint),
    Form(FormEndpoint),
    Machines(Machines),
    Question(Question),
    Registry,
}

impl Endpoint {
    /// As the reference's routes have it (`Master::initialize` in `src/master/master.cpp`).
    fn access(self) -> Access {
        match self {
            Self::Health | Self::Version | Self::Redirect | Self::System | Self::Help => {
                Access::Open
            }
            Self::Operator
            | Self::Teardown
            | Self::LogLevel
            | Self::Form(_)
            | Self::Machines(_) => Access::ReadWrite,
            Self::Scheduler => Access::Api,
            Self::Metrics | Self::Files(_) | Self::Registry | Self::Question(_) => Access::ReadOnly,
            Self::View(view) => view.access(),
        }
    }

    /// Whether a leader answers it that does not lead (`Master::Http` in `src/master/http.cpp`: the
    /// handlers that do not ask `elected()`).
    fn is_anybodys(self) -> bool {
        match self {
            Self::Health
            | Self::Version
            | Self::Metrics
            | Self::System
            | Self::LogLevel
            | Self::Help
            | Self::Files(_)
            | Self::Registry => true,
            Self::View(view) => view.is_anybodys(),
            _ => false,
        }
    }
}

const ENDPOINTS: [(&str, Endpoint); 11] = [
    ("/api/v1", Endpoint::Operator),
    ("/api/v1/scheduler", Endpoint::Scheduler),
    ("/health", Endpoint::Health),
    ("/version", Endpoint::Version),
    ("/redirect", Endpoint::Redirect),
    ("/teardown", Endpoint::Teardown),
    ("/metrics/snapshot", Endpoint::Metrics),
    ("/system/stats.json", Endpoint::System),
    ("/logging/toggle", Endpoint::LogLevel),
    ("/help", Endpoint::Help),
    ("/registrar(1)/registry", Endpoint::Registry),
];

/// Answers for a leader.
pub(super) struct LeaderService {
    pub(super) inbox: Inbox<Input, Reply>,
    pub(super) files: Arc<Files>,
    pub(super) logging: Arc<Logging>,
    pub(super) clock: Clock,
    pub(super) desk: Desk,
    realms: Realms,
    view: Arc<ArcSwap<View>>,
    routes: Routes<Endpoint>,
    /// Only one who leads has it.
    registry: Option<Shelf>,
}

impl LeaderService {
    pub(super) fn new(
        inbox: Inbox<Input, Reply>,
        view: Arc<ArcSwap<View>>,
        files: Arc<Files>,
        logging: Arc<Logging>,
        clock: Clock,
        realms: Realms,
        registry: Option<Shelf>,
    ) -> Self {
        let files_endpoints = FILES_ENDPOINTS.map(|(path, which)| (path, Endpoint::Files(which)));
        let views = reads::ENDPOINTS.map(|(path, which)| (path, Endpoint::View(which)));
        let forms = forms::ENDPOINTS.map(|(path, which)| (path, Endpoint::Form(which)));
        let routes = ENDPOINTS.into_iter().chain(files_endpoints);
        let machines = maintenance::ENDPOINTS;
        let machines = machines.map(|(path, which)| (path, Endpoint::Machines(which)));
        let questions = questions::ENDPOINTS.map(|(path, which)| (path, Endpoint::Question(which)));
        let routes = routes.chain(views).chain(forms).chain(machines);
        let routes = routes.chain(questions);
        Self {
            inbox,
            files,
            logging,
            clock,
            desk: Desk::default(),
            realms,
            view,
            routes: Routes::new("master", routes),
            registry,
        }
    }

    /// The cluster as it is now.
    pub(super) fn view(&self) -> Arc<View> {
        self.view.load_full()
    }

    /// Off the threads that serve everybody: a large cluster's state takes a while to write.
    async fn view_endpoint(&self, endpoint: ViewEndpoint, request: Request) -> Response {
        if let Some(refusal) = endpoint.refusal(&request) {
            return refusal;
        }
        let view = self.view();
        let read = move || {
            Some(response::json(
                &request,
                endpoint.document(&view, &request)?,
            ))
        };
        common::aside(read)
            .await
            .flatten()
            .unwrap_or_else(response::not_found)
    }

    /// To the leader itself: there is no other (`Master::Http::redirect` in `src/master/http.cpp`).
    fn redirect(&self, request: &Request) -> Response {
        if !matches!(
            request.path().trim_end_matches('/'),
            "/redirect" | "/master/redirect"
        ) {
            return response::not_found();
        }
        let view = self.view();
        let info = &view.leader.info;
        let host = info.hostname.as_deref().unwrap_or_default();
        response::redirect(host, info.port, "")
    }

    /// Answers while this process does not lead; `elsewhere` answers what only a leader can.
    /// `dropped` counts messages that came meanwhile.
    pub(super) async fn unelected(
        &self,
        mut request: Request,
        dropped: u64,
        elsewhere: impl FnOnce(&Request) -> Response,
    ) -> Response {
        let endpoint = match self.admit(&mut request) {
            Ok(endpoint) => endpoint,
            Err(refusal) => return refusal,
        };
        match endpoint {
            Endpoint::Metrics => self.metrics(&request, dropped),
            _ if endpoint.is_anybodys() => self.answer(endpoint, request).await,
            _ => elsewhere(&request),
        }
    }

    /// What a request is for, if its sender may ask for that.
    fn admit(&self, request: &mut Request) -> Result<Endpoint, Response> {
        let endpoint = self.routes.find(&request.path());
        let endpoint = endpoint.ok_or_else(response::not_found)?;
        let now = self.clock.now();
        self.realms.admit(endpoint.access(), request, now)?;
        Ok(endpoint)
    }

    /// `dropped` messages are not among what the core has counted.
    fn metrics(&self, request: &Request, dropped: u64) -> Response {
        // Nothing here takes long enough to time out.
        if let Some(timeout) = request.query("timeout")
            && common::parse_duration(&timeout).is_none()
        {
            let text = format!("Invalid timeout '{timeout}': Invalid duration '{timeout}'.\n");
            return response::text(400, text);
        }
        let mut metrics = reads::metrics(&self.view(), &self.clock);
        if let Some(count) = metrics.get_mut("master/dropped_messages") {
            *count += dropped as f64;
        }
        if let Some(registry) = &self.registry {
            metrics.extend(registry.metrics());
        }
        let metrics: serde_json::Value = metrics.into_iter().collect();
        response::json(request, metrics.to_string())
    }

    /// What must survive, as it is stored (`RegistrarProcess::getRegistry` in
    /// `src/master/registrar.cpp`). Nothing while it was not read, as there.
    async fn show_registry(&self, request: Request) -> Response {
        let shown = match &self.registry {
            Some(registry) => match registry.show().await {
                Some(shown) => shown,
                None => return response::plain_error(http::StatusCode::INTERNAL_SERVER_ERROR),
            },
            None => return response::json(&request, "{}".to_owned()),
        };
        let document = move || {
            let document = json::encode_with(&shown, json::Names::V0);
            response::json(&request, document)
        };
        let written = common::aside(document).await;
        written.unwrap_or_else(response::not_found)
    }

    async fn scheduler(&self, request: Request) -> Response {
        if request.method != Method::POST {
            return response::method_not_allowed(&["POST"], &request.method);
        }
        let call = match media::decode_call::<scheduler::Call>(&request) {
            Ok(call) => Box::new(call),
            Err(refusal) => return refusal,
        };
        // Other calls have no answer to be written in any type: their Accept does not matter.
        let answered = matches!(call.r#type(), Type::Subscribe | Type::ReconcileOperations);
        let content_type = match media::accept(&request) {
            Ok(content_type) => content_type,
            Err(_) if !answered || call.r#type() == Type::Subscribe && call.subscribe.is_none() => {
                ContentType::Json
            }
            Err(refusal) => return refusal,
        };
        let stream_id = request.header("mesos-stream-id").map(str::to_owned);
        let principal = request.principal_name();
        if call.r#type() != Type::Subscribe {
            let input = |request| Input::Call {
                request,
                stream_id,
                call,
                principal,
            };
            return self.ask(content_type, input).await;
        }
        if stream_id.is_some() && call.subscribe.is_some() {
            let text = "Subscribe calls should not include the 'Mesos-Stream-Id' header";
            return response::text(400, text);
        }
        let Ok(stream) = random::uuid().map(StreamId) else {
            return response::plain_error(http::StatusCode::INTERNAL_SERVER_ERROR);
        };
        let input = |request| Input::Subscribe {
            request,
            stream,
            call,
            principal,
        };
        self.ask(content_type, input).await
    }

    async fn answer(&self, endpoint: Endpoint, request: Request) -> Response {
        match endpoint {
            Endpoint::Operator => operator::call(self, request).await,
            Endpoint::Scheduler => self.scheduler(request).await,
            Endpoint::Health => response::ok(),
            Endpoint::Version => common::version(&request),
            Endpoint::Redirect => self.redirect(&request),
            Endpoint::Teardown => operator::teardown(self, request).await,
            Endpoint::Metrics => self.metrics(&request, 0),
            Endpoint::System => response::json(&request, system::stats_json().to_string()),
            Endpoint::LogLevel => self.logging.toggle(&request),
            Endpoint::Help => {
                let paths = ENDPOINTS.iter().map(|(path, _)| *path);
                let files = FILES_ENDPOINTS.iter().map(|(path, _)| *path);
                let all = paths
                    .chain(files)
                    .chain(reads::ENDPOINTS.iter().map(|(path, _)| *path))
                    .chain(forms::ENDPOINTS.iter().map(|(path, _)| *path))
                    .chain(maintenance::ENDPOINTS.iter().map(|(path, _)| *path))
                    .chain(questions::ENDPOINTS.iter().map(|(path, _)| *path));
                common::help(&all.collect::<Vec<_>>())
            }
            Endpoint::Files(which) => common::files(&self.files, which, request).await,
            Endpoint::View(which) => match which.changed_by(&request) {
                Some("quota") => shares::quota(self, request).await,
                Some("weights") => shares::weights(self, request).await,
                Some(_) => maintenance::schedule(self, request).await,
                None => self.view_endpoint(which, request).await,
            },
            Endpoint::Form(which) => which.answer(self, request).await,
            Endpoint::Registry => self.show_registry(request).await,
            Endpoint::Question(which) => which.answer(self, request).await,
            Endpoint::Machines(which) => maintenance::machines(self, which, request).await,
        }
    }
}

impl Service for LeaderService {
    async fn request(&self, mut request: Request) -> Response {
        match self.admit(&mut request) {
            Ok(endpoint) => self.answer(endpoint, request).await,
            Err(refusal) => refusal,
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
            tracing::debug!("dropped a message: the leader is stopping");
        }
        true
    }
}
