//! The part of the player that speaks the v1 APIs, in the place of recorded frameworks and executors.

use std::collections::BTreeMap;

use serde_json::Value;
use tepui_tests::http::Request;

use super::codec::{decode, exchange};
use super::http::Back;
use super::offers;
use super::player::{PATIENCE, Player, task_of};
use super::script::{Asked, Line};

impl Player {
    pub(super) fn ask(&mut self, line: &Line, asked: &Asked) {
        let api = ["/api/v1/scheduler", "/api/v1/executor"];
        let played = self.all_requests
            || asked.method == "POST" && api.iter().any(|api| asked.path.ends_with(api))
            || asked.path == "/api/v1" && self.plays_operators_call(asked);
        if !played || self.http.is_closed(line.conn) {
            return;
        }
        let label = format!("request {}", asked.path);
        if self
            .rules
            .allow("not replayed", None, &label, Some(line.number))
        {
            return;
        }
        let mut request = Request {
            method: asked.method.clone(),
            path: asked.path.clone(),
            body: self.body(asked),
            ..Request::default()
        };
        for (name, value) in &asked.headers {
            if !name.eq_ignore_ascii_case("host") && !name.eq_ignore_ascii_case("content-length") {
                request = request.header(name, &self.names.text(value));
            }
        }
        let to = self.address(line.port);
        match self.http.send(line.conn, to, &request) {
            Ok(()) => {
                self.asked.entry(line.conn).or_insert_with(|| asked.clone());
            }
            Err(error) => self.problem(line, &label, &format!("cannot be asked: {error}")),
        }
    }

    fn plays_operators_call(&self, asked: &Asked) -> bool {
        let call: Value = match serde_json::from_slice(&asked.bytes) {
            Ok(call) if asked.json => call,
            _ => return false,
        };
        let kind = call["type"].as_str();
        kind.is_some_and(|kind| self.operators_calls.contains(&kind))
    }

    /// Gives back what a stream was offered too early.
    fn decline(&mut self, line: &Line, offers: &Value) {
        let mut request = Request {
            method: "POST".to_owned(),
            path: "/api/v1/scheduler".to_owned(),
            body: offers::decline(offers),
            ..Request::default()
        }
        .header("Content-Type", "application/x-protobuf")
        .header(
            "Mesos-Stream-Id",
            self.streams.get(&line.conn).map_or("", String::as_str),
        );
        let headers = self.asked.get(&line.conn).map(|asked| &asked.headers);
        for (name, value) in headers
            .into_iter()
            .flatten()
            .filter(|(name, _)| name == "Authorization")
        {
            request = request.header(name, value);
        }
        // A connection of its own, which no recording has.
        let (conn, to) = (u64::MAX - line.conn, self.address(line.port));
        let sent = self.http.send(conn, to, &request);
        let answer = self.http.take(conn, PATIENCE, |_| true);
        if sent.is_err() || !matches!(answer, Some(Back::Response { status: 202, .. })) {
            self.problem(line, "decline", &format!("{sent:?} {answer:?}"));
        }
    }

    fn body(&self, asked: &Asked) -> Vec<u8> {
        if asked.json {
            let document = serde_json::from_slice(&asked.bytes).expect("a recorded call is JSON");
            return self.names.document(&document).to_string().into_bytes();
        }
        exchange(&asked.bytes, &self.names)
    }

    pub(super) fn expect_response(
        &mut self,
        line: &Line,
        status: u16,
        text: &str,
        recorded: &BTreeMap<&'static str, String>,
    ) {
        let is_response = |back: &Back| matches!(back, Back::Response { .. });
        let Some(Back::Response {
            status: own,
            headers,
            body,
        }) = self.http.take(line.conn, PATIENCE, is_response)
        else {
            self.give_up(line, "response", "did not come");
        };
        self.responses += 1;
        let own_text = String::from_utf8_lossy(&body).into_owned();
        // What reads say is compared where reads are: here it is who may read.
        let same_text = status == 200 || own_text == self.names.text(text);
        if !(own == status && same_text
            || self
                .rules
                .allow("any", Some("/"), "response", Some(line.number)))
        {
            self.problem(
                line,
                "response",
                &format!("{own} {own_text:?}, not {status} {text:?}"),
            );
        }
        let header = |name: &str| {
            let found = headers
                .iter()
                .find(|(own, _)| own.eq_ignore_ascii_case(name));
            found.map(|(_, value)| value.clone())
        };
        if let (Some(recorded), Some(own)) =
            (recorded.get("Mesos-Stream-Id"), header("Mesos-Stream-Id"))
        {
            self.streams.insert(line.conn, own.clone());
            self.names.bind(recorded, &own);
        }
        let (theirs, own) = (recorded.get("WWW-Authenticate"), header("WWW-Authenticate"));
        if theirs != own.as_ref() {
            self.problem(
                line,
                "response",
                &format!("WWW-Authenticate {own:?}, not {theirs:?}"),
            );
        }
    }

    pub(super) fn expect_record(&mut self, line: &Line, of: &str, body: &Value, bytes: &[u8]) {
        if body["type"] == "HEARTBEAT" {
            return;
        }
        let label = format!("event {of} {}", body["type"].as_str().unwrap_or_default());
        if self
            .rules
            .allow("not replayed", None, &label, Some(line.number))
        {
            return;
        }
        let task = task_of(body);
        let take = |player: &mut Player| {
            player.http.take(line.conn, PATIENCE, |back| match back {
                Back::Record(bytes) => {
                    let (_, own) = event_of(of, bytes);
                    own["type"] == body["type"] && task_of(&own) == task
                }
                Back::Response { .. } => false,
            })
        };
        let mut found = take(self);
        while let Some(Back::Record(own)) = &found {
            let Some(early) = offers::early(&body["offers"], &event_of(of, own).1["offers"]) else {
                break;
            };
            self.decline(line, &early);
            found = take(self);
        }
        let Some(Back::Record(own)) = found else {
            if !self.rules.allow("missing", None, &label, Some(line.number)) {
                self.give_up(line, &label, &format!("did not come: {body:.300}"));
            }
            return;
        };
        self.events += 1;
        let (json, own_body) = event_of(of, &own);
        if self.compare(line, &label, "", body, &own_body)
            && !json
            && exchange(bytes, &self.names) != own
            && !self.rules.allow("bytes", None, &label, Some(line.number))
        {
            self.problem(line, &label, "the fields are the same but not the bytes");
        }
    }
}

fn event_of(of: &str, bytes: &[u8]) -> (bool, Value) {
    match serde_json::from_slice(bytes) {
        Ok(body) => (true, body),
        Err(_) => (false, decode(of, bytes).unwrap_or_default()),
    }
}

/// An event whose kind of stream is not known: which it is, and what it says.
pub(super) fn event(bytes: &[u8]) -> (&'static str, Value) {
    let scheduler = event_of("mesos.v1.scheduler.Event", bytes).1;
    if scheduler.is_null() {
        return (
            "mesos.v1.executor.Event",
            event_of("mesos.v1.executor.Event", bytes).1,
        );
    }
    ("mesos.v1.scheduler.Event", scheduler)
}
