//! The recorded requests, sent to our own cluster: the same statuses, headers and shapes.
//!
//! A cluster is brought into a state like the recorded ones (a framework that runs tasks, one that is gone, tasks of every
//! fate), and then every request of `basic`, `operator` and the leading master of `ha` is sent as it was, with recorded ids
//! and paths exchanged for ours. What was asked of the masters of `ha` that did not lead is asked of a leader that stands by. Values may differ: versions, ids and times do. What else may is listed with its reason in
//! `tests/data/replay-tolerated.jsonl`; `auth` needs credentials: [`crate::wire`] replays its requests.
//!
//! A line of that file: `request` (the pattern of "FILE TO METHOD PATH NAME", where `*` stands for anything), `what` (`status`,
//! `header NAME`, `body PATH` with a path pattern of [`tepui_tests::shape`], or `*`), and `why`.

use std::{fmt::Write as _, net::Ipv4Addr};

use serde_json::{Value, json};
use tepui_tests::cluster::Cluster;
use tepui_tests::http::{PATIENCE, Request, Response, send};
use tepui_tests::machines::Machines;
use tepui_tests::scheduler::{Framework, command_task, launch};
use tepui_tests::shape::{differences, path_matches};
use tepui_tests::wait::eventually_some;
use tepui_tests::zookeeper::{Ensemble, Place};
use tepui_tests::{crate_folder, json_lines};

use crate::recordings::{body_bytes, recording};

/// Headers whose values are compared; of the others only the presence counts. `Date` and lengths are nobody's promise.
const COMPARED: &[&str] = &[
    "allow",
    "content-type",
    "content-disposition",
    "transfer-encoding",
    "www-authenticate",
];
const IGNORED: &[&str] = &["date", "content-length"];

#[test]
fn recorded_requests_get_the_same_statuses_headers_and_shapes() {
    let stage = Stage::set();
    let count = replay(exchanges(), |exchange| {
        send(stage.address(exchange), &stage.request(exchange))
    });
    assert!(count > 100, "{count} recorded requests");
}

#[test]
fn recorded_requests_to_masters_that_do_not_lead_get_the_same_answers() {
    let ensemble = Ensemble::start(1);
    let mut machines = Machines::new();
    let place = Place {
        ip: Ipv4Addr::LOCALHOST.into(),
        namespace: None,
    };
    for _ in 0..2 {
        machines.add_leader(&place, &ensemble.url("/mesos"), &[]);
    }
    let leader = machines.wait_for_leader();
    let (leading, standby) = (&machines.leaders[leader], &machines.leaders[1 - leader]);
    let redirect = Request::get("/redirect");
    eventually_some(PATIENCE, || {
        let answer = send(standby.address, &redirect).ok()?;
        (answer.status == 307).then_some(())
    })
    .expect("it hears who leads");
    let ours = format!("//{}:{}", leading.hostname(), leading.address.port());
    let exchanges = ha_exchanges(false).map(|mut exchange| {
        if let Some(location) = exchange.response["headers"].get_mut("Location") {
            let recorded = location.as_str().unwrap_or_default();
            *location = recorded.replace("//leader2.test:15070", &ours).into();
        }
        exchange
    });
    let count = replay(exchanges.collect(), |exchange| {
        let request = &exchange.request;
        let text = |name: &str| request[name].as_str().unwrap_or_default();
        let request = match text("method") {
            "POST" => Request::post_json(text("path"), &request["body"]),
            _ => Request::get(text("path")),
        };
        let answer = send(standby.address, &request)?;
        let location = exchange.response["headers"]["Location"].as_str();
        assert_eq!(answer.header("location"), location, "{}", exchange.label);
        Ok(answer)
    });
    assert_eq!(count, 16);
}

/// Sends requests and compares the answers with the recorded ones; how many there were.
fn replay(exchanges: Vec<Exchange>, ask: impl Fn(&Exchange) -> std::io::Result<Response>) -> usize {
    let tolerated = json_lines(&crate_folder().join("data/replay-tolerated.jsonl"));
    let mut used = vec![false; tolerated.len()];
    let mut problems = String::new();
    let count = exchanges.len();
    for exchange in exchanges {
        let found = match ask(&exchange) {
            Ok(response) => compare(&exchange, &response),
            Err(error) => vec![("status".to_owned(), format!("no answer: {error}"))],
        };
        for (what, problem) in found {
            let matching = tolerated
                .iter()
                .position(|entry| tolerates(entry, &exchange.label, &what));
            match matching {
                Some(entry) => used[entry] = true,
                None => writeln!(problems, "{} | {what}: {problem}", exchange.label)
                    .expect("a string grows"),
            }
        }
    }
    for (entry, used) in tolerated.iter().zip(used) {
        if !used {
            println!("no longer needed: {entry}");
        }
    }
    assert!(
        problems.is_empty(),
        "{} differences in {count} requests:\n{problems}",
        problems.lines().count()
    );
    count
}

#[test]
fn every_tolerated_difference_says_why() {
    for entry in json_lines(&crate_folder().join("data/replay-tolerated.jsonl")) {
        for field in ["request", "what", "why"] {
            assert!(
                entry[field].as_str().is_some_and(|text| !text.is_empty()),
                "{field} of {entry}"
            );
        }
    }
}

/// A recorded request and its answer.
struct Exchange {
    label: String,
    to_leader: bool,
    request: Value,
    response: Value,
}

fn exchanges() -> Vec<Exchange> {
    let mut exchanges = Vec::new();
    for file in ["basic", "operator"] {
        for line in recording(&format!("{file}.http.jsonl")) {
            let request = line["request"].clone();
            let text = |name: &str| request[name].as_str().unwrap_or_default();
            let path = text("path").split('?').next().unwrap_or_default();
            let name = line["name"].as_str().unwrap_or_default();
            exchanges.push(Exchange {
                label: format!("{file} {} {} {path} {name}", text("to"), text("method")),
                to_leader: text("to") == "master",
                response: line["response"].clone(),
                request,
            });
        }
    }
    exchanges.extend(ha_exchanges(true));
    exchanges
}

/// What was asked of the master that led, or of the others.
fn ha_exchanges(leading: bool) -> impl Iterator<Item = Exchange> {
    let lines = recording("ha.http.jsonl").into_iter();
    let lines = lines.filter(move |line| line["leading"] == leading);
    lines.map(|line| {
        let path = line["path"].as_str().unwrap_or_default();
        let (method, path) = path.split_once(' ').unwrap_or(("GET", path));
        let mut request = json!({"method": method, "path": path, "headers": {}});
        if method == "POST" {
            // As the recorder sent it.
            request["headers"] = json!({"Content-Type": "application/json"});
            request["body"] = json!({"type": "SUBSCRIBE"});
        }
        Exchange {
            label: format!("ha master {method} {path} "),
            to_leader: true,
            response: json!({"status": line["status"], "headers": line["headers"], "text": line["text"]}),
            request,
        }
    })
}

/// Our cluster, in a state like the recorded ones.
struct Stage {
    // Before the cluster, so that it is still subscribed while requests are sent, and leaves before the cluster ends.
    _framework: Framework,
    cluster: Cluster,
    agent: String,
    sandbox: String,
}

impl Stage {
    fn set() -> Stage {
        let cluster = Cluster::builder()
            .flag("cluster", "recorded")
            .flag("hostname", "localhost")
            .flag("attributes", "node_id:host1;rack:a;speed:2.5;slots:[1-4]")
            .start();
        let mut gone = subscribe(
            &cluster,
            "gone",
            &json!({"roles": ["*"], "principal": "test"}),
        );
        let offer = gone.offer();
        gone.must(launch(
            &offer,
            vec![
                command_task("done", &offer, "echo out"),
                command_task("failed", &offer, "exit 3"),
                command_task("removed", &offer, "sleep 3600"),
            ],
        ));
        gone.until("done", "TASK_FINISHED");
        gone.until("failed", "TASK_FAILED");
        gone.until("removed", "TASK_RUNNING");
        gone.must(json!({"type": "TEARDOWN"}));
        // As mesos-execute subscribes: a framework of the time before roles.
        let mut old = subscribe(&cluster, "old", &json!({"role": "*"}));
        let offer = old.offer();
        old.must(launch(&offer, vec![command_task("early", &offer, "true")]));
        old.until("early", "TASK_FINISHED");
        old.must(json!({"type": "TEARDOWN"}));

        let mut framework = subscribe(&cluster, "here", &json!({"role": "*"}));
        let offer = framework.offer();
        // No more offers, as the recorded framework had none outstanding.
        framework.must(json!({"type": "SUPPRESS"}));
        let tasks = vec![
            command_task("running", &offer, "echo out; sleep 3600"),
            command_task("ended", &offer, "true"),
        ];
        framework.must(launch(&offer, tasks));
        framework.until("running", "TASK_RUNNING");
        framework.until("ended", "TASK_FINISHED");
        let agent = offer["agent_id"]["value"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        // The follower has put away what ended: acknowledgements and the removed framework's shutdown.
        let settled = || -> Option<String> {
            let state = send(cluster.follower, &Request::get("/state")).ok()?.json();
            let frameworks = state["frameworks"].as_array()?;
            let here = frameworks.iter().find(|one| one["id"] == *framework.id)?;
            let executors = here["executors"].as_array()?;
            let ended = here["completed_executors"].as_array()?.len();
            let gone = state["completed_frameworks"].as_array()?.len();
            let settled = (frameworks.len(), executors.len(), ended, gone) == (1, 1, 1, 2);
            settled.then(|| executors[0]["directory"].as_str().map(str::to_owned))?
        };
        let sandbox = eventually_some(PATIENCE, settled).unwrap_or_default();
        assert!(
            !sandbox.is_empty(),
            "the follower shows one running task and what ended before it"
        );
        Stage {
            _framework: framework,
            cluster,
            agent,
            sandbox,
        }
    }

    fn address(&self, exchange: &Exchange) -> std::net::SocketAddr {
        if exchange.to_leader {
            self.cluster.leader
        } else {
            self.cluster.follower
        }
    }

    fn request(&self, exchange: &Exchange) -> Request {
        let request = &exchange.request;
        let text = |name: &str| request[name].as_str().unwrap_or_default().to_owned();
        let body = match std::str::from_utf8(&body_bytes(request)) {
            Ok(body) => self.with_our_agent(body).into_bytes(),
            Err(_) => body_bytes(request),
        };
        let mut sent = Request {
            method: text("method"),
            path: self.with_our_sandbox(&text("path")),
            headers: Vec::new(),
            body,
        };
        for (name, value) in request["headers"].as_object().into_iter().flatten() {
            sent = sent.header(name, value.as_str().unwrap_or_default());
        }
        sent
    }

    /// Recorded agents are called UUID-S0.
    fn with_our_agent(&self, text: &str) -> String {
        let mut text = text.to_owned();
        while let Some(end) = text.find("-S0\"") {
            let start = text[..end].rfind('"').map_or(0, |quote| quote + 1);
            if text[start..end + 3] == self.agent {
                break;
            }
            text.replace_range(start..end + 3, &self.agent);
        }
        text
    }

    /// `/files/…?path=SANDBOX/…`: what comes after the recorded container's id stays.
    fn with_our_sandbox(&self, path: &str) -> String {
        let Some((before, recorded)) = path.split_once("path=/var/lib/mesos/") else {
            return path.to_owned();
        };
        let after = recorded.split_once("/runs/").map_or("", |(_, run)| {
            run.find(['/', '&']).map_or("", |end| &run[end..])
        });
        format!("{before}path={}{after}", self.sandbox)
    }
}

/// A framework with these fields and the capabilities that its fields need.
fn subscribe(cluster: &Cluster, name: &str, fields: &Value) -> Framework {
    let mut capabilities = vec![
        json!({"type": "RESERVATION_REFINEMENT"}),
        json!({"type": "PARTITION_AWARE"}),
    ];
    if fields.get("roles").is_some() {
        capabilities.push(json!({"type": "MULTI_ROLE"}));
    }
    let mut info = json!({"user": "root", "name": name, "capabilities": capabilities});
    for (name, value) in fields.as_object().into_iter().flatten() {
        info[name] = value.clone();
    }
    let call = json!({"type": "SUBSCRIBE", "subscribe": {"framework_info": info}});
    Framework::subscribe_with(cluster.leader, &call)
}

/// How a response differs from the recorded one: what, and how.
fn compare(exchange: &Exchange, response: &Response) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let recorded = &exchange.response;
    if recorded["status"] != json!(response.status) {
        found.push((
            "status".to_owned(),
            format!(
                "{}, not {}: {:.200}",
                response.status,
                recorded["status"],
                response.text()
            ),
        ));
        return found;
    }
    compare_headers(recorded, response, &mut found);
    compare_bodies(recorded, response, &mut found);
    found
}

fn compare_headers(recorded: &Value, response: &Response, found: &mut Vec<(String, String)>) {
    for (name, value) in recorded["headers"].as_object().into_iter().flatten() {
        let lower = name.to_ascii_lowercase();
        let value = value.as_str().unwrap_or_default();
        match response.header(name) {
            _ if IGNORED.contains(&lower.as_str()) => {}
            None => found.push((format!("header {name}"), format!("missing, was {value:?}"))),
            Some(ours) if COMPARED.contains(&lower.as_str()) && ours != value => {
                found.push((format!("header {name}"), format!("{ours:?}, not {value:?}")));
            }
            Some(_) => {}
        }
    }
    for (name, value) in &response.headers {
        let known = recorded["headers"]
            .as_object()
            .is_some_and(|headers| headers.keys().any(|own| own.eq_ignore_ascii_case(name)));
        if !known && !IGNORED.contains(&name.to_ascii_lowercase().as_str()) {
            found.push((format!("header {name}"), format!("{value:?}, not recorded")));
        }
    }
}

fn compare_bodies(recorded: &Value, response: &Response, found: &mut Vec<(String, String)>) {
    let ours = serde_json::from_slice::<Value>(&response.body).ok();
    let theirs = match recorded.get("body").filter(|body| !body.is_null()) {
        Some(body) => Some(body.clone()),
        None => recorded["text"]
            .as_str()
            .and_then(|text| serde_json::from_str::<Value>(text).ok()),
    };
    match (theirs, ours) {
        (Some(theirs), Some(ours)) => {
            for difference in differences(&theirs, &ours) {
                found.push((format!("body {}", difference.path), difference.what));
            }
        }
        (Some(_), None) => found.push((
            "body".to_owned(),
            format!("is no JSON: {:.200}", response.text()),
        )),
        (None, _) => {
            // Plain texts of errors are the promise itself; pages and protobuf are not compared by bytes.
            let text = recorded["text"].as_str().unwrap_or_default();
            let plain = recorded["headers"]["Content-Type"]
                .as_str()
                .is_some_and(|kind| kind.starts_with("text/plain"));
            if plain && text != response.text() {
                found.push((
                    "body".to_owned(),
                    format!("{:?}, not {text:?}", response.text()),
                ));
            }
        }
    }
}

fn tolerates(entry: &Value, label: &str, what: &str) -> bool {
    let pattern = |name: &str| entry[name].as_str().unwrap_or_default();
    let matches_what = match (
        pattern("what").strip_prefix("body "),
        what.strip_prefix("body "),
    ) {
        (Some(pattern), Some(path)) => path_matches(pattern, path),
        _ => pattern("what") == "*" || pattern("what").eq_ignore_ascii_case(what),
    };
    matches_what && wildcard(pattern("request"), label)
}

/// `*` stands for any run of characters.
pub(crate) fn wildcard(pattern: &str, text: &str) -> bool {
    let mut pieces = pattern.split('*');
    let first = pieces.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else {
        return false;
    };
    let pieces: Vec<&str> = pieces.collect();
    let Some((last, between)) = pieces.split_last() else {
        return rest.is_empty();
    };
    for piece in between {
        let Some(at) = rest.find(piece) else {
            return false;
        };
        rest = &rest[at + piece.len()..];
    }
    rest.ends_with(last)
}

#[test]
fn patterns_of_requests_match_as_said() {
    assert!(wildcard(
        "basic master GET /state*",
        "basic master GET /state GET /state"
    ));
    assert!(wildcard("*", "anything"));
    assert!(wildcard("a*c*e", "abcde"));
    assert!(!wildcard("a*c", "abcd"));
    assert!(!wildcard("a", "ab"));
}
