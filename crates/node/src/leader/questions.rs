//! `GET` and `POST /tepui/explain`, `POST /tepui/simulate`: questions about the cluster.
//!
//! The core hands out a copy of what there is; the answer is computed from it here, on a thread that may take its time. Few
//! at once: each copy costs memory, and each answer a processor.

use super::{operator::worded, service::LeaderService};
use crate::{
    common,
    http::{ContentType, Request, Response, response},
    pending::{Answer, Stopped},
};
use http::{HeaderValue, Method, StatusCode, header::RETRY_AFTER};
use std::sync::Arc;
use tepui_leader::{
    Reply,
    ask::{Ask, Explain},
};
use tokio::sync::Semaphore;

/// A question.
#[derive(Debug, Clone, Copy)]
pub(super) enum Question {
    Explain,
    Simulate,
}

/// Their paths.
pub(super) const ENDPOINTS: [(&str, Question); 2] = [
    ("/tepui/explain", Question::Explain),
    ("/tepui/simulate", Question::Simulate),
];

/// Questions that are answered at the same time.
const AT_ONCE: usize = 2;

/// How many more may be asked at the moment.
#[derive(Debug, Clone)]
pub(super) struct Desk(Arc<Semaphore>);

impl Default for Desk {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(AT_ONCE)))
    }
}

impl Question {
    /// The answer.
    pub(super) async fn answer(self, service: &LeaderService, request: Request) -> Response {
        let ask = match (self, &request.method) {
            (Self::Explain, &Method::GET | &Method::HEAD) => {
                Explain::from_query(&request.query_map()).map(Ask::Explain)
            }
            (Self::Explain, &Method::POST) => Explain::from_json(&request.body).map(Ask::Explain),
            (Self::Simulate, &Method::POST) => Ask::simulate(&request.body),
            (Self::Explain, method) => {
                return response::method_not_allowed(&["GET", "POST"], method);
            }
            (Self::Simulate, method) => return response::method_not_allowed(&["POST"], method),
        };
        match ask {
            Ok(ask) => service.examine(ask, request).await,
            Err(error) => response::text(400, error.to_string()),
        }
    }
}

impl LeaderService {
    async fn examine(&self, ask: Ask, request: Request) -> Response {
        let Ok(place) = self.desk.0.clone().try_acquire_owned() else {
            let text = format!("{AT_ONCE} questions are being answered: ask again in a moment");
            let mut busy = response::text(503, text);
            busy.headers_mut()
                .insert(RETRY_AFTER, HeaderValue::from_static("1"));
            return busy;
        };
        let input = |request| ask.input(request);
        let examination = match self.inbox.call(ContentType::Json, input).await {
            Ok(Answer::Reply(Reply::Examination(examination))) => examination,
            Ok(Answer::Reply(other)) => return worded(other, ContentType::Json),
            Ok(Answer::Stream(head)) => return head,
            Err(Stopped) => return response::text(503, "No leader elected"),
        };
        // Whoever asked may give up meanwhile; the place is taken until the work is done.
        let answer = move || {
            let reply = examination.run();
            drop(place);
            match reply {
                Reply::Document(document) => response::json(&request, document),
                other => worded(other, ContentType::Json),
            }
        };
        let internal = || response::plain_error(StatusCode::INTERNAL_SERVER_ERROR);
        common::aside(answer).await.unwrap_or_else(internal)
    }
}
