//! Recorded conversations of schedulers and of an executor, held again with our leader and follower: every call as it was sent, in JSON and in protobuf,
//! with recorded ids exchanged for ours, and the same statuses, headers and events in the same order.
//!
//! Taken are the three clients of `basic` that ran one command task each: two speak protobuf, one JSON. Left out of them is
//! the last acknowledgement's answer where it raced with the client's own end. The other recorded schedulers need programs
//! of the recorded build (its test executors) or a restarted leader.
//!
//! Protobuf is exchanged byte by byte: our ids are as long as the recorded ones, so lengths inside a message stay true.

use std::io::{BufReader, Write};
use std::net::{SocketAddr, TcpStream};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tepui_tests::cluster::Cluster;
use tepui_tests::http::{Chunks, PATIENCE, Request, connect, read_head, read_record, send};
use tepui_tests::scheduler::{Framework, launch};
use tepui_tests::shape::differences;
use tepui_tests::wait::eventually;

use crate::recordings::{body_bytes, recording};

#[test]
fn a_client_that_speaks_json_has_the_recorded_conversation() {
    Conversation::of("http-json").hold();
}

#[test]
fn a_client_that_speaks_protobuf_has_the_recorded_conversation() {
    Conversation::of("hello").hold();
}

#[test]
fn a_client_whose_task_fails_has_the_recorded_conversation() {
    Conversation::of("fails").hold();
}

/// The recorded executor of three tasks: its calls as they were sent, and what it hears of each.
#[test]
fn an_executor_that_speaks_protobuf_has_the_recorded_conversation() {
    let lines = recording("basic.wire.jsonl");
    let calls: Vec<&Value> = lines
        .iter()
        .filter(|line| {
            line["kind"] == "request" && line["head"] == "POST /slave(1)/api/v1/executor HTTP/1.1"
        })
        .collect();
    let accept = lines.iter().find(|line| {
        line["body"]["type"] == "ACCEPT"
            && line["body"]["framework_id"] == calls[0]["body"]["framework_id"]
    });
    let accept = &accept.expect("it was recorded")["body"]["accept"];

    let cluster = Cluster::mixed();
    let mut framework = Framework::subscribe(cluster.leader, "recorded");
    let offer = framework.offer();
    let mut tasks = accept["operations"][0]["launch"]["task_infos"].clone();
    let tasks = tasks.as_array_mut().expect("tasks");
    for task in tasks.iter_mut() {
        task["agent_id"] = offer["agent_id"].clone();
        task["executor"]["framework_id"]["value"] = framework.id.clone().into();
        // The recorded program is not here: the test speaks for it.
        task["executor"]["command"] = json!({"value": "sleep 3600"});
    }
    framework.must(launch(&offer, tasks.clone()));
    let launched = eventually(PATIENCE, || {
        let state = send(cluster.follower, &Request::get("/state"));
        let state = state
            .ok()
            .map(|response| response.json())
            .unwrap_or_default();
        let queued = &state["frameworks"][0]["executors"][0]["queued_tasks"];
        queued
            .as_array()
            .is_some_and(|queued| queued.len() == tasks.len())
    });
    assert!(launched, "the follower has started the executor");

    let theirs = calls[0]["body"]["framework_id"]["value"]
        .as_str()
        .unwrap_or_default();
    assert_eq!(theirs.len(), framework.id.len(), "ids are of one form");
    let mut talk = Talk {
        leader: cluster.follower,
        exchanged: vec![(
            theirs.as_bytes().to_vec(),
            framework.id.clone().into_bytes(),
        )],
        stream: None,
    };
    let answer_to = |call: &Value| {
        let at = lines
            .iter()
            .position(|line| line == call)
            .unwrap_or_default();
        let answers = |line: &&Value| line["kind"] == "response" && line["conn"] == call["conn"];
        lines[at..]
            .iter()
            .find(answers)
            .cloned()
            .unwrap_or_default()
    };
    talk.subscribe(calls[0], &answer_to(calls[0]));
    assert_eq!(talk.executor_event(), (1, None), "SUBSCRIBED");
    for task in &*tasks {
        let id = task["task_id"]["value"].as_str().map(str::to_owned);
        assert_eq!(talk.executor_event(), (2, id), "LAUNCH");
    }
    let known = |call: &&&Value| {
        let task = &call["body"]["update"]["status"]["task_id"];
        call["body"]["type"] == "UPDATE" && tasks.iter().any(|own| own["task_id"] == *task)
    };
    let updates: Vec<_> = calls.iter().filter(known).collect();
    assert!(
        updates.len() >= 2 * tasks.len(),
        "{} updates",
        updates.len()
    );
    for call in updates {
        talk.call(call, &answer_to(call));
        let status = &call["body"]["update"]["status"];
        let id = status["task_id"]["value"].as_str().map(str::to_owned);
        assert_eq!(talk.executor_event(), (4, id), "ACKNOWLEDGED");
        let state = status["state"].as_str().unwrap_or_default();
        let told = framework.update(status["task_id"]["value"].as_str().unwrap_or_default());
        assert_eq!(told["state"], state);
    }
}

/// What was recorded of one scheduler, in order.
struct Conversation {
    steps: Vec<Step>,
}

enum Step {
    /// A request and the answer it got.
    Call { request: Value, response: Value },
    /// An event on the scheduler's stream.
    Event(Value),
}

impl Conversation {
    /// The scheduler that launched this task.
    fn of(task: &str) -> Conversation {
        let lines = recording("basic.wire.jsonl");
        let launches = |line: &&Value| {
            line["kind"] == "request"
                && line["body"]["type"] == "ACCEPT"
                && line["body"]["accept"]["operations"][0]["launch"]["task_infos"][0]["task_id"]["value"]
                    == task
        };
        let accept = lines.iter().find(launches).expect("it was recorded");
        let stream = &accept["headers"]["Mesos-Stream-Id"];
        let opened = |line: &&Value| {
            line["kind"] == "response" && line["headers"]["Mesos-Stream-Id"] == *stream
        };
        let subscription = &lines.iter().find(opened).expect("it subscribed")["conn"];
        let calls = &accept["conn"];
        let mut steps = Vec::new();
        for (at, line) in lines.iter().enumerate() {
            let own = line["conn"] == *subscription || line["conn"] == *calls;
            if own && line["kind"] == "record" {
                steps.push(Step::Event(line["body"].clone()));
            } else if own && line["kind"] == "request" {
                let answers =
                    |other: &&Value| other["kind"] == "response" && other["conn"] == line["conn"];
                let response = lines[at..].iter().find(answers).cloned();
                steps.push(Step::Call {
                    request: line.clone(),
                    response: response.unwrap_or_default(),
                });
            }
        }
        Conversation { steps }
    }

    fn hold(self) {
        let cluster = Cluster::builder()
            .flag("hostname", "localhost")
            .flag("attributes", "node_id:host1;rack:a;speed:2.5;slots:[1-4]")
            .start();
        let mut talk = Talk {
            leader: cluster.leader,
            exchanged: Vec::new(),
            stream: None,
        };
        let mut events = 0;
        for step in self.steps {
            match step {
                Step::Event(recorded) => {
                    talk.expect_event(&recorded);
                    events += 1;
                }
                Step::Call { request, response } if talk.stream.is_none() => {
                    talk.subscribe(&request, &response);
                }
                Step::Call { request, response } => talk.call(&request, &response),
            }
        }
        assert!(
            events >= 6,
            "SUBSCRIBED, HEARTBEAT, OFFERS and three UPDATEs, not {events}"
        );
    }
}

/// Our side of it.
struct Talk {
    /// The leader, or an executor's follower.
    leader: SocketAddr,
    /// Recorded bytes and ours.
    exchanged: Vec<(Vec<u8>, Vec<u8>)>,
    stream: Option<Stream>,
}

struct Stream {
    id: String,
    json: bool,
    events: Chunks<BufReader<TcpStream>>,
}

impl Talk {
    fn request(&self, recorded: &Value) -> Request {
        let head = recorded["head"].as_str().unwrap_or_default();
        let mut body = body_bytes(recorded);
        for (theirs, ours) in &self.exchanged {
            body = replaced(&body, theirs, ours);
        }
        let mut request = Request {
            method: "POST".to_owned(),
            path: head.split(' ').nth(1).unwrap_or_default().to_owned(),
            headers: Vec::new(),
            body,
        };
        for (name, value) in recorded["headers"].as_object().into_iter().flatten() {
            let value = match name.as_str() {
                "Host" | "Content-Length" => continue,
                "Mesos-Stream-Id" => self.stream.as_ref().map_or("", |stream| &stream.id),
                _ => value.as_str().unwrap_or_default(),
            };
            request = request.header(name, value);
        }
        request
    }

    fn subscribe(&mut self, recorded: &Value, answer: &Value) {
        let mut connection =
            connect(self.leader, PATIENCE).expect("the leader accepts connections");
        let request = self.request(recorded).to_bytes(self.leader);
        connection.write_all(&request).expect("the leader reads");
        let mut reader = BufReader::new(connection);
        let (status, headers) = read_head(&mut reader).expect("the leader answers");
        same_head(status, &headers, answer);
        // Executors get none; whether there is one was compared above.
        let id = headers
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case("Mesos-Stream-Id"))
            .map(|(_, id)| id.clone())
            .unwrap_or_default();
        let recorded_id = answer["headers"]["Mesos-Stream-Id"]
            .as_str()
            .unwrap_or_default();
        assert_eq!(id.len(), recorded_id.len(), "{id} is a UUID");
        self.stream = Some(Stream {
            id,
            json: recorded["headers"]["Accept"] == "application/json",
            events: Chunks::new(reader),
        });
    }

    fn call(&mut self, recorded: &Value, answer: &Value) {
        let response = send(self.leader, &self.request(recorded)).expect("the leader answers");
        if recorded["body"]["type"] == "ACKNOWLEDGE" && answer["head"] == "HTTP/1.1 403 Forbidden" {
            // The recorded client had ended its subscription before this arrived; ours is still subscribed.
            assert_eq!(response.status, 202, "{}", response.text());
            return;
        }
        same_head(response.status, &response.headers, answer);
        assert_eq!(response.text(), answer["body"].as_str().unwrap_or_default());
    }

    /// The type of an executor's next event that is no heartbeat, and the task it is about.
    fn executor_event(&mut self) -> (u64, Option<String>) {
        let stream = self.stream.as_mut().expect("events come after SUBSCRIBE");
        let event = read_record(&mut stream.events)
            .expect("the stream goes on")
            .expect("the stream does not end");
        let launched = field(&event, &[4, 1, 2, 1]);
        let task = launched.or_else(|| field(&event, &[3, 1, 1]));
        let task = task.map(|id| String::from_utf8_lossy(id).into_owned());
        (number(&event, 1).unwrap_or_default(), task)
    }

    /// The next event, past offers of what an ended task has left: when those come depends on the allocation interval.
    fn next_event(&mut self, recorded: &Value) -> (Vec<u8>, bool) {
        let stream = self.stream.as_mut().expect("events come after SUBSCRIBE");
        loop {
            let record = read_record(&mut stream.events)
                .expect("the stream goes on")
                .expect("the stream does not end");
            let ids = match stream.json {
                true => Ids::of_json(&serde_json::from_slice(&record).expect("a JSON event")),
                false => Ids::of_protobuf(&record),
            };
            if ids.kind != "OFFERS" || recorded["type"] != "UPDATE" {
                return (record, stream.json);
            }
        }
    }

    fn expect_event(&mut self, recorded: &Value) {
        let (record, json) = self.next_event(recorded);
        let ours = if json {
            let ours: Value = serde_json::from_slice(&record).expect("a JSON event");
            let mut found = differences(recorded, &ours);
            // The recorded executor of a command is a process. Ours is none: there is a pid once the command runs.
            if ours["update"]["status"]["state"] == "TASK_STARTING" {
                found.retain(|one| one.path != "/update/status/container_status/executor_pid");
            }
            assert!(
                found.is_empty(),
                "{found:?}\n{ours}\nwas recorded as\n{recorded}"
            );
            Ids::of_json(&ours)
        } else {
            Ids::of_protobuf(&record)
        };
        let theirs = Ids::of_json(recorded);
        assert_eq!(
            (ours.kind.as_str(), &ours.state),
            (theirs.kind.as_str(), &theirs.state)
        );
        assert_eq!(ours.values.len(), theirs.values.len(), "ids in {recorded}");
        for (theirs, ours) in theirs.values.into_iter().zip(ours.values) {
            assert_eq!(theirs.len(), ours.len(), "ids are of one form");
            // In JSON bytes stand as base64.
            self.exchanged.push((
                STANDARD.encode(&theirs).into_bytes(),
                STANDARD.encode(&ours).into_bytes(),
            ));
            self.exchanged.push((theirs, ours));
        }
    }
}

/// What later calls must say of an event.
struct Ids {
    kind: String,
    state: Option<String>,
    values: Vec<Vec<u8>>,
}

impl Ids {
    fn of_json(event: &Value) -> Ids {
        let text = |value: &Value| value.as_str().map(|text| text.as_bytes().to_vec());
        let offer = &event["offers"]["offers"][0];
        let status = &event["update"]["status"];
        let uuid = status["uuid"]
            .as_str()
            .and_then(|uuid| STANDARD.decode(uuid).ok());
        let values = [
            text(&event["subscribed"]["framework_id"]["value"]),
            text(&offer["id"]["value"]),
            text(&offer["agent_id"]["value"]),
            uuid,
        ];
        Ids {
            kind: event["type"].as_str().unwrap_or_default().to_owned(),
            state: status["state"].as_str().map(str::to_owned),
            values: values.into_iter().flatten().collect(),
        }
    }

    /// Numbers of fields and values are those of `scheduler.proto` and `mesos.proto`.
    fn of_protobuf(event: &[u8]) -> Ids {
        let kind = match number(event, 1) {
            Some(1) => "SUBSCRIBED",
            Some(2) => "OFFERS",
            Some(4) => "UPDATE",
            Some(8) => "HEARTBEAT",
            other => panic!("an event of type {other:?}"),
        };
        let state = field(event, &[5, 1]).and_then(|status| number(status, 2));
        let state = state.map(|state| match state {
            1 => "TASK_RUNNING",
            2 => "TASK_FINISHED",
            3 => "TASK_FAILED",
            0 => "TASK_STARTING",
            other => panic!("a task in state {other}"),
        });
        let values = [
            field(event, &[2, 1, 1]),
            field(event, &[3, 1, 1, 1]),
            field(event, &[3, 1, 3, 1]),
            field(event, &[5, 1, 11]),
        ];
        Ids {
            kind: kind.to_owned(),
            state: state.map(str::to_owned),
            values: values.into_iter().flatten().map(<[u8]>::to_vec).collect(),
        }
    }
}

/// A value on the wire: its field's number, and the number or the bytes that it is.
fn fields(message: &[u8]) -> impl Iterator<Item = (u64, Result<u64, &[u8]>)> {
    let mut rest = message;
    std::iter::from_fn(move || {
        let key = varint(&mut rest)?;
        let value = match key & 7 {
            0 => Ok(varint(&mut rest)?),
            kind => {
                let length = match kind {
                    1 => 8,
                    5 => 4,
                    _ => usize::try_from(varint(&mut rest)?).ok()?,
                };
                let (value, after) = rest.split_at_checked(length)?;
                rest = after;
                Err(value)
            }
        };
        Some((key >> 3, value))
    })
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn number(message: &[u8], wanted: u64) -> Option<u64> {
    fields(message).find_map(|(field, value)| value.ok().filter(|_| field == wanted))
}

fn field<'a>(message: &'a [u8], path: &[u64]) -> Option<&'a [u8]> {
    path.iter().try_fold(message, |message, wanted| {
        fields(message).find_map(|(field, value)| value.err().filter(|_| field == *wanted))
    })
}

fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut result = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        if !from.is_empty() && bytes[at..].starts_with(from) {
            result.extend_from_slice(to);
            at += from.len();
        } else {
            result.push(bytes[at]);
            at += 1;
        }
    }
    result
}

/// The same status line, the same headers, and the same values of those that say something.
fn same_head(status: u16, headers: &[(String, String)], recorded: &Value) {
    let head = recorded["head"].as_str().unwrap_or_default();
    assert_eq!(
        Some(status.to_string().as_str()),
        head.split(' ').nth(1),
        "{headers:?}"
    );
    let names = |names: Vec<String>| {
        let mut names = names;
        names.sort();
        names
    };
    let theirs = recorded["headers"].as_object().cloned().unwrap_or_default();
    assert_eq!(
        names(
            headers
                .iter()
                .map(|(name, _)| name.to_ascii_lowercase())
                .collect()
        ),
        names(
            theirs
                .keys()
                .map(|name| name.to_ascii_lowercase())
                .collect()
        )
    );
    for (name, value) in headers {
        let recorded = theirs
            .iter()
            .find(|(own, _)| own.eq_ignore_ascii_case(name))
            .and_then(|(_, value)| value.as_str());
        let same = ["date", "mesos-stream-id"]
            .iter()
            .any(|own| name.eq_ignore_ascii_case(own))
            || recorded == Some(value);
        assert!(same, "{name}: {value}, not {recorded:?}");
    }
}
