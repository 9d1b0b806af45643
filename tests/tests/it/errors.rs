//! Malformed and illegal requests, each with its status and message, and the leader serving after every one.
//!
//! The table is `tests/data/errors.jsonl`, and the recorded `errors.http.jsonl` beside it. A case's fields:
//!
//! - `to` (`leader` or `follower`), `method`, `path`, `headers`; the body as `json`, `text_body`, `base64` or `repeat`;
//! - `status`, or `status_in` where more than one answer is right; `allow`: the Allow header;
//! - `text`, `text_starts`, `text_contains`: what the body says; absent where the reference's text is not part of the promise;
//! - `first_event`: the first event of the stream that answers, whose connection is then done with;
//! - `task` and `update`: the status update (`state`, `reason`, `source`, `message` or `message_contains`) that an accepted
//!   call leads to, on the stream of `as` (`owner` or `other`);
//! - `later` (what a later issue builds) and `refuses`: today's answer must be a 501 that says `refuses`, so nothing is ever
//!   silently accepted; the other fields say what the answer is then. A line with `recorded` marks that recorded case so.
//!   A mark that is no longer needed is a failure.
//!
//! Strings may name what is only known at run time: `$FRAMEWORK_ID`, `$STREAM_ID`, `$OFFER_ID` (of the owner, always a fresh
//! one), `$OTHER_FRAMEWORK_ID`, `$OTHER_STREAM_ID`, `$AGENT_ID`, `$SANDBOX` (of the owner's running task).

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tepui_tests::cluster::Cluster;
use tepui_tests::http::{Request, Response, send, send_for_first_record};
use tepui_tests::scheduler::{Framework, command_task, launch};
use tepui_tests::template::{Names, fill};
use tepui_tests::{crate_folder, json_lines};

use crate::recordings::{body_bytes, recording};

/// The promise.
const CASES_AT_LEAST: usize = 150;

fn lines() -> Vec<Value> {
    json_lines(&crate_folder().join("data/errors.jsonl"))
}

fn table() -> Vec<Value> {
    let mut lines = lines();
    lines.retain(|line| line["recorded"].is_null());
    lines
}

/// The lines that mark recorded cases.
fn marks() -> Vec<Value> {
    let mut lines = lines();
    lines.retain(|line| line["recorded"].is_string());
    lines
}

/// The recorded cases in the table's form. Left out: two that are no errors at all (the recorder's own time-outs mark them)
/// and `/state?jsonp=`, whose body is the replay test's business.
fn recorded() -> Vec<Value> {
    let mut cases = Vec::new();
    let marks = marks();
    for line in recording("errors.http.jsonl") {
        let (mut case, response) = (line["request"].clone(), &line["response"]);
        if response["status"] == 0 || line["name"] == "state jsonp" {
            continue;
        }
        case["name"] = json!(format!(
            "recorded: {}",
            line["name"].as_str().unwrap_or_default()
        ));
        case["to"] = if case["to"] == "master" {
            json!("leader")
        } else {
            json!("follower")
        };
        case["status"] = response["status"].clone();
        if response["headers"]["Transfer-Encoding"] == "chunked" {
            let text = response["text"].as_str().unwrap_or_default();
            let record = text.split_once('\n').map_or(text, |(_, record)| record);
            case["first_event"] = serde_json::from_str(record).expect("a recorded event is JSON");
        } else {
            case["text"] = response["text"].clone();
        }
        if let Some(allow) = response["headers"].get("Allow") {
            case["allow"] = allow.clone();
        }
        if let Some(mark) = marks.iter().find(|mark| mark["recorded"] == case["name"]) {
            case["later"] = mark["later"].clone();
            case["refuses"] = mark["refuses"].clone();
        }
        cases.push(case);
    }
    cases
}

#[test]
fn the_table_is_long_enough_and_every_case_expects_something() {
    let cases: Vec<Value> = table().into_iter().chain(recorded()).collect();
    assert!(cases.len() >= CASES_AT_LEAST, "{} cases", cases.len());
    let mut names = BTreeSet::new();
    for case in &cases {
        let name = case["name"].as_str().expect("a case has a name");
        assert!(names.insert(name), "{name}: twice");
        assert!(
            case["status"].is_u64() != case["status_in"].is_array(),
            "{name}: a status, or several"
        );
        assert!(
            case["update"].is_object() == case["task"].is_string(),
            "{name}: an update is of a task"
        );
        assert!(
            case["to"] == "leader" || case["to"] == "follower",
            "{name}: to whom"
        );
        let header = case["headers"].as_object().map_or(0, |headers| {
            headers.values().filter(|value| !value.is_string()).count()
        });
        assert_eq!(header, 0, "{name}: header values are strings");
        assert!(
            case["later"].is_string() == case["refuses"].is_string(),
            "{name}: what is built later refuses something by name until then"
        );
    }
    for mark in marks() {
        let name = mark["recorded"].as_str().unwrap_or_default();
        assert!(names.contains(name), "{name} is marked and not recorded");
    }
}

#[test]
fn every_malformed_or_illegal_request_gets_its_answer_and_the_leader_serves_on() {
    let mut bench = Bench::start();
    let mut failures = Vec::new();
    let cases: Vec<Value> = recorded().into_iter().chain(table()).collect();
    for case in &cases {
        let outcome = bench.run(case);
        if let Err(problem) = &outcome {
            // Said at once: a test that runs out of time never gets to its own message.
            eprintln!("{}: {problem}", case["name"]);
        }
        if let Err(problem) = outcome {
            failures.push(format!(
                "{}: {problem}",
                case["name"].as_str().unwrap_or_default()
            ));
        }
        assert!(
            bench.cluster.serves(),
            "the cluster serves on after {}",
            case["name"]
        );
    }
    assert!(
        failures.is_empty(),
        "{} of {} cases:\n{}",
        failures.len(),
        cases.len(),
        failures.join("\n")
    );
}

/// A cluster with two frameworks: the owner, who has the offers and a running task, and another.
struct Bench {
    owner: Framework,
    other: Framework,
    names: Names,
    cluster: Cluster,
}

impl Bench {
    fn start() -> Bench {
        let cluster = Cluster::mixed();
        let mut owner = Framework::subscribe(cluster.leader, "owner");
        let offer = owner.offer();
        owner.must(launch(
            &offer,
            vec![command_task("running-1", &offer, "sleep 3600")],
        ));
        owner.until("running-1", "TASK_RUNNING");
        // Suppressed from the start, so that every offer is the owner's.
        let other = Framework::subscribe_with(
            cluster.leader,
            &json!({"type": "SUBSCRIBE", "subscribe": {
                "framework_info": {
                    "user": "root", "name": "other", "roles": ["*"],
                    "capabilities": [{"type": "MULTI_ROLE"}, {"type": "PARTITION_AWARE"}],
                },
                "suppressed_roles": ["*"],
            }}),
        );
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let state = send(cluster.follower, &Request::get("/state"))
            .expect("the follower answers")
            .json();
        let names = Names::from([
            ("FRAMEWORK_ID", owner.id.clone()),
            ("STREAM_ID", owner.stream_id.clone()),
            ("OTHER_FRAMEWORK_ID", other.id.clone()),
            ("OTHER_STREAM_ID", other.stream_id.clone()),
            ("AGENT_ID", text(&offer["agent_id"]["value"])),
            ("OFFER_ID", text(&offer["id"]["value"])),
            (
                "SANDBOX",
                text(&state["frameworks"][0]["executors"][0]["directory"]),
            ),
        ]);
        Bench {
            owner,
            other,
            names,
            cluster,
        }
    }

    fn run(&mut self, case: &Value) -> Result<(), String> {
        if case.to_string().contains("$OFFER_ID") {
            self.take_fresh_offer()?;
        }
        let case = fill(case, &self.names);
        let to = if case["to"] == "leader" {
            self.cluster.leader
        } else {
            self.cluster.follower
        };
        let request = request_of(&case);
        let response = if case["first_event"].is_object() {
            send_for_first_record(to, &request)
        } else {
            send(to, &request)
        };
        let response = response.map_err(|error| format!("no answer: {error}"))?;
        if case["later"].is_string() {
            return check_refusal(&case, &response);
        }
        check_response(&case, &response)?;
        if case["update"].is_object() {
            self.check_update(&case)
        } else {
            Ok(())
        }
    }

    /// Gives back what the owner may hold and waits for an offer that was never used.
    fn take_fresh_offer(&mut self) -> Result<(), String> {
        let used = self.names.get("OFFER_ID").cloned().unwrap_or_default();
        let unused = |offers: &Value| {
            offers["offers"]
                .as_array()
                .is_some_and(|list| list.iter().any(|offer| offer["id"]["value"] != json!(used)))
        };
        self.owner.call(json!({"type": "DECLINE", "decline": {
            "offer_ids": [{"value": used}], "filters": {"refuse_seconds": 0},
        }}));
        let offers = self
            .owner
            .wait_within(tepui_tests::http::PATIENCE, "OFFERS", unused)
            .ok_or("no fresh offer came")?;
        let fresh = offers["offers"]
            .as_array()
            .and_then(|list| list.last())
            .map(|offer| &offer["id"]["value"]);
        self.names.insert(
            "OFFER_ID",
            fresh.and_then(Value::as_str).unwrap_or_default().to_owned(),
        );
        Ok(())
    }

    fn check_update(&mut self, case: &Value) -> Result<(), String> {
        let framework = if case["as"] == "other" {
            &mut self.other
        } else {
            &mut self.owner
        };
        let task = case["task"].as_str().unwrap_or_default();
        let of_task = |update: &Value| update["status"]["task_id"]["value"] == json!(task);
        let update = framework
            .wait_within(tepui_tests::http::PATIENCE, "UPDATE", of_task)
            .ok_or_else(|| format!("no update for {task}"))?;
        let (status, wanted) = (&update["status"], &case["update"]);
        for field in ["state", "reason", "source", "message"] {
            if !wanted[field].is_null() && status[field] != wanted[field] {
                return Err(format!(
                    "{field} is {}, not {}",
                    status[field], wanted[field]
                ));
            }
        }
        let message = status["message"].as_str().unwrap_or_default();
        match wanted["message_contains"].as_str() {
            Some(part) if !message.contains(part) => {
                Err(format!("message {message:?} does not contain {part:?}"))
            }
            _ => Ok(()),
        }
    }
}

fn request_of(case: &Value) -> Request {
    let text = |name: &str| case[name].as_str().unwrap_or_default().to_owned();
    let mut request = Request {
        method: text("method"),
        path: text("path"),
        headers: Vec::new(),
        body: body_bytes(case),
    };
    for (name, value) in case["headers"].as_object().into_iter().flatten() {
        request = request.header(name, value.as_str().unwrap_or_default());
    }
    request
}

/// What a later issue builds is refused by name.
fn check_refusal(case: &Value, response: &Response) -> Result<(), String> {
    let later = &case["later"];
    if check_response(case, response).is_ok() {
        return Err(format!("it is there: its mark of {later} can go"));
    }
    let refuses = case["refuses"].as_str().unwrap_or_default();
    match response.text() {
        text if response.status == 501 && text.contains(refuses) => Ok(()),
        text => Err(format!(
            "until {later} it is a 501 that names {refuses:?}, not {} {text:?}",
            response.status
        )),
    }
}

fn check_response(case: &Value, response: &Response) -> Result<(), String> {
    let text = response.text();
    let status = json!(response.status);
    let expected = case["status_in"]
        .as_array()
        .cloned()
        .unwrap_or_else(|| vec![case["status"].clone()]);
    if !expected.contains(&status) {
        return Err(format!(
            "status {status}, not {expected:?}; it says {text:?}"
        ));
    }
    let wanted = |name: &str| case[name].as_str();
    if wanted("text").is_some_and(|wanted| text != wanted) {
        return Err(format!("it says {text:?}, not {:?}", case["text"]));
    }
    if wanted("text_starts").is_some_and(|wanted| !text.starts_with(wanted)) {
        return Err(format!(
            "it says {text:?}, which does not start with {:?}",
            case["text_starts"]
        ));
    }
    if wanted("text_contains").is_some_and(|wanted| !text.contains(wanted)) {
        return Err(format!(
            "it says {text:?}, which does not contain {:?}",
            case["text_contains"]
        ));
    }
    if wanted("allow").is_some_and(|allow| response.header("Allow") != Some(allow)) {
        return Err(format!(
            "Allow is {:?}, not {:?}",
            response.header("Allow"),
            case["allow"]
        ));
    }
    if case["first_event"].is_object() {
        let event = serde_json::from_str::<Value>(&text)
            .map_err(|error| format!("{error} in the event {text:?}"))?;
        if event != case["first_event"] {
            return Err(format!("the event is {event}, not {}", case["first_event"]));
        }
    }
    Ok(())
}
