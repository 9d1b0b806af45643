//! The one place where answers are computed from a view: names of endpoints and what goes around
//! `tepui_leader::read`, which computes them.
//!
//! Everything here runs on the thread of whoever asked, never on the core's.

use crate::{
    clock::Clock,
    http::{Access, Request, Response, media, response, stream::Record},
    system,
};
use std::{collections::BTreeMap, sync::Arc};
use tepui_leader::{View, config::HEARTBEAT_INTERVAL, read};
use tepui_protocol::v1::master;

/// An endpoint that shows the view.
#[derive(Debug, Clone, Copy)]
pub(super) struct ViewEndpoint {
    /// Its name for `tepui_leader::read`.
    name: &'static str,
    /// Methods that are served; none where any method reads.
    methods: &'static [&'static str],
}

/// Paths of the endpoints that show the view.
pub(super) const ENDPOINTS: [(&str, ViewEndpoint); 11] = [
    ("/state", reads("state")),
    ("/state-summary", reads("state-summary")),
    ("/slaves", reads("slaves")),
    ("/frameworks", reads("frameworks")),
    ("/tasks", reads("tasks")),
    ("/roles", reads("roles")),
    ("/flags", reads("flags")),
    ("/quota", changes("quota", &["GET", "POST", "DELETE"])),
    ("/weights", changes("weights", &["GET", "PUT"])),
    (
        "/maintenance/schedule",
        changes("maintenance/schedule", &["GET", "POST"]),
    ),
    ("/maintenance/status", reads("maintenance/status")),
];

const fn reads(name: &'static str) -> ViewEndpoint {
    ViewEndpoint { name, methods: &[] }
}

const fn changes(name: &'static str, methods: &'static [&'static str]) -> ViewEndpoint {
    ViewEndpoint { name, methods }
}

impl ViewEndpoint {
    /// Endpoints that can change something ask for more, also when they only show it.
    pub(super) fn access(self) -> Access {
        match self.methods.is_empty() {
            true => Access::ReadOnly,
            false => Access::ReadWrite,
        }
    }

    /// Whether a leader shows it that does not lead.
    pub(super) fn is_anybodys(self) -> bool {
        self.name == "flags"
    }

    /// Its name, if it can be changed and the request is to do that.
    pub(super) fn changed_by(self, request: &Request) -> Option<&'static str> {
        let method = request.method.as_str();
        let changes = !matches!(method, "GET" | "HEAD") && self.methods.contains(&method);
        changes.then_some(self.name)
    }

    /// The answer to a request that neither reads nor changes it.
    pub(super) fn refusal(self, request: &Request) -> Option<Response> {
        let method = &request.method;
        if self.methods.is_empty() || matches!(*method, http::Method::GET | http::Method::HEAD) {
            return None;
        }
        Some(response::method_not_allowed(self.methods, method))
    }

    /// The document.
    pub(super) fn document(self, view: &View, request: &Request) -> Option<String> {
        read::endpoint(view, self.name, &request.query_map())
    }
}

/// Everything `/metrics/snapshot` gives.
pub(super) fn metrics(view: &View, clock: &Clock) -> BTreeMap<String, f64> {
    let mut all = read::metrics(view, clock.now().seconds());
    all.extend(
        system::stats()
            .into_iter()
            .map(|(name, value)| (format!("system/{name}"), value)),
    );
    all
}

/// The first record of an operator's stream.
pub(super) fn subscribed(view: Arc<View>) -> Arc<Record> {
    // The state is built when it is written: a guess at its size must do. Each follower and
    // framework is some hundred bytes and up.
    let cost = 1024 * (1 + view.followers.size() + view.frameworks.size());
    Record::lazy(cost, move |content_type| {
        let event = master::Event {
            r#type: Some(master::event::Type::Subscribed.into()),
            subscribed: Some(master::event::Subscribed {
                get_state: Some(read::state(&view)),
                heartbeat_interval_seconds: Some(HEARTBEAT_INTERVAL.as_secs_f64()),
            }),
            ..Default::default()
        };
        media::encode(content_type, &event)
    })
}
