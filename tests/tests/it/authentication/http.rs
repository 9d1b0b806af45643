//! HTTP realms: the recorded requests as nobody, somebody right, wrong and unknown, and as garbage, answered as recorded, on
//! the leader; the same on the follower; and what executors need a token for.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufReader, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tepui_tests::cluster::{Cluster, Part};
use tepui_tests::http::{
    Chunks, PATIENCE, Request, Response, connect, read_head, read_record, send,
};
use tepui_tests::scheduler::{Framework, SCHEDULER, command_task, launch};
use tepui_tests::wait::eventually;

use super::{Files, STRICT, basic, leader_with};
use crate::recordings::{body_bytes, recording};

/// The recorded request, to this address.
fn recorded(request: &Value) -> Request {
    let text = |key: &str| request[key].as_str().unwrap_or_default().to_owned();
    let mut own = Request {
        method: text("method"),
        path: text("path"),
        ..Request::default()
    };
    for (name, value) in request["headers"].as_object().into_iter().flatten() {
        own = own.header(name, value.as_str().unwrap_or_default());
    }
    own.body(body_bytes(request))
}

/// Names of the headers of an answer, but those that say when.
fn names<'a>(headers: impl Iterator<Item = &'a str>) -> BTreeSet<String> {
    headers
        .map(str::to_ascii_lowercase)
        .filter(|name| name != "date")
        .collect()
}

#[test]
fn the_recorded_requests_of_everybody_and_nobody_are_answered_as_recorded() {
    let files = Files::new();
    let cluster = leader_with(&files, &STRICT);
    let lines = recording("auth.http.jsonl");
    assert!(lines.len() >= 24, "{}", lines.len());
    for line in &lines {
        let (request, expected) = (&line["request"], &line["response"]);
        let answer = send(cluster.leader, &recorded(request)).expect("the leader answers");
        assert_eq!(json!(answer.status), expected["status"], "{request}");
        let header = |name: &str| expected["headers"].get(name).and_then(Value::as_str);
        for name in ["WWW-Authenticate", "Content-Type"] {
            assert_eq!(answer.header(name), header(name), "{name} of {request}");
        }
        let headers = expected["headers"].as_object().into_iter().flatten();
        assert_eq!(
            names(answer.headers.iter().map(|(name, _)| name.as_str())),
            names(headers.map(|(name, _)| name.as_str())),
            "{request}"
        );
        // What the right ones get to see is compared elsewhere.
        if answer.status != 200 {
            assert_eq!(json!(answer.text()), expected["text"], "{request}");
        }
    }
}

#[test]
fn nobody_calls_in_the_name_of_another_one_s_framework() {
    let files = Files::new();
    let cluster = leader_with(&files, &STRICT);
    let info = json!({"user": "root", "name": "mine", "role": "*", "principal": "marathon"});
    let subscribe = json!({"type": "SUBSCRIBE", "subscribe": {"framework_info": info}});
    let post = |call: &Value, who: &str| {
        let request = Request::post_json(SCHEDULER, call).header("Accept", "application/json");
        request.header("Authorization", who)
    };
    let (own, other) = (basic("marathon", "m-secret"), basic("ops", "o-secret"));
    let mut connection = connect(cluster.leader, PATIENCE).expect("the leader accepts");
    let sent = connection.write_all(&post(&subscribe, &own).to_bytes(cluster.leader));
    sent.expect("the leader reads");
    let mut reader = BufReader::new(connection);
    let (status, headers) = read_head(&mut reader).expect("the leader answers");
    assert_eq!(status, 200, "{headers:?}");
    let stream = headers
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case("Mesos-Stream-Id"));
    let (_, stream) = stream.expect("a stream id");
    // Kept to the end: without its stream the framework ends.
    let mut events = Chunks::new(reader);
    let record = read_record(&mut events).expect("the leader goes on");
    let event: Value = serde_json::from_slice(&record.expect("an event")).expect("events are JSON");
    let id = &event["subscribed"]["framework_id"];
    assert!(id["value"].is_string(), "{event}");
    let teardown = json!({"type": "TEARDOWN", "framework_id": id});
    for (who, status, text) in [
        (
            &other,
            400,
            "Authenticated principal 'ops' does not match principal 'marathon' set in `FrameworkInfo`",
        ),
        (&own, 202, ""),
    ] {
        let request = post(&teardown, who).header("Mesos-Stream-Id", stream);
        let answer = send(cluster.leader, &request).expect("an answer");
        assert_eq!((answer.status, answer.text().as_str()), (status, text));
    }
}

/// Somebody, and whether that is enough where a realm asks.
fn people() -> Vec<(Option<String>, bool)> {
    vec![
        (None, false),
        (Some(basic("ops", "o-secret")), true),
        (Some(basic("ops", "not-the-secret")), false),
        (Some(basic("ops", "")), false),
        (Some(basic("stranger", "o-secret")), false),
        (Some(basic("", "")), false),
        (Some("Basic".to_owned()), false),
        (Some("Basic %%%".to_owned()), false),
        (Some("Basic b3Bz".to_owned()), false),
        (Some("Bearer abc".to_owned()), false),
        (Some("x".repeat(4000)), false),
    ]
}

fn by(person: Option<&String>, request: Request) -> Request {
    match person {
        Some(header) => request.header("Authorization", header),
        None => request,
    }
}

fn assert_challenge(answer: &Response, realm: &str) {
    assert_eq!(answer.status, 401, "{answer:?}");
    let challenge = format!("Basic realm=\"{realm}\"");
    assert_eq!(answer.header("WWW-Authenticate"), Some(challenge.as_str()));
    assert_eq!(answer.text(), "401 Unauthorized.");
}

#[test]
fn each_realm_of_a_leader_asks_by_itself() {
    let reads = [Request::get("/state"), Request::get("/master/slaves")];
    let changes = [
        Request::post_json("/api/v1", &json!({"type": "GET_VERSION"})),
        Request::post_json("/teardown", &json!({})),
    ];
    for (flag, asks, others, realm) in [
        (
            "authenticate_http_readonly",
            &reads,
            &changes,
            "mesos-master-readonly",
        ),
        (
            "authenticate_http_readwrite",
            &changes,
            &reads,
            "mesos-master-readwrite",
        ),
    ] {
        let files = Files::new();
        let cluster = leader_with(&files, &[(flag, "true")]);
        for (person, right) in people() {
            let person = person.as_ref();
            for request in asks {
                let answer = send(cluster.leader, &by(person, request.clone())).expect("an answer");
                match right {
                    true => assert_ne!(answer.status, 401, "{person:?} {request:?}"),
                    false => assert_challenge(&answer, realm),
                }
            }
            for request in others {
                let answer = send(cluster.leader, &by(person, request.clone())).expect("an answer");
                assert_ne!(answer.status, 401, "{person:?} {request:?}");
            }
        }
    }
}

#[test]
fn a_follower_asks_those_who_read_and_those_who_change() {
    let files = Files::new();
    let leader = leader_with(&files, &[]);
    let follower = super::follower_of(&leader)
        .flag("http_credentials", &files.credentials())
        .flag("authenticate_http_readonly", "true")
        .flag("authenticate_http_readwrite", "true")
        .start();
    let call = Request::post_json("/api/v1", &json!({"type": "GET_VERSION"}));
    for (person, right) in people() {
        let person = person.as_ref();
        for (request, realm) in [
            (Request::get("/state"), "mesos-agent-readonly"),
            (Request::get("/slave(1)/flags"), "mesos-agent-readonly"),
            (call.clone(), "mesos-agent-readwrite"),
        ] {
            let answer = send(follower.follower, &by(person, request)).expect("an answer");
            match right {
                true => assert_eq!(answer.status, 200, "{person:?}: {}", answer.text()),
                false => assert_challenge(&answer, realm),
            }
        }
        let health = send(follower.follower, &by(person, Request::get("/health")));
        assert_eq!(health.expect("an answer").status, 200);
    }
}

/// One of two executors: asks for the same thing with no token, a forged one, no token at all, and its own, for itself and in
/// the other one's name; what it was told is in its sandbox.
const EXECUTOR: &str = r#"
ask() {
    curl -s -m 20 -o "$1.body" -D "$1.head" -w '%{http_code}' -H 'Content-Type: application/json' \
        ${2:+-H "Authorization: $2"} --data "{\"type\":\"MESSAGE\",\"framework_id\":{\"value\":\"$MESOS_FRAMEWORK_ID\"},\
            \"executor_id\":{\"value\":\"$3\"},\"message\":{\"data\":\"aGk=\"}}" \
        "http://$MESOS_AGENT_ENDPOINT/api/v1/executor" > "$1.status"
}
own=$MESOS_EXECUTOR_ID
token=$MESOS_EXECUTOR_AUTHENTICATION_TOKEN
test "$own" = first && other=second || other=first
ask none "" "$own"
ask forged "Bearer ${token%????}AAAA" "$own"
ask basic "Basic b3BzOm8tc2VjcmV0" "$own"
ask own "Bearer $token" "$own"
# The other one may not have been started yet.
for try in $(seq 500); do
    ask other "Bearer $token" "$other"
    grep -q 'cannot be found' other.body || break
done
echo yes > done
exec sleep 600
"#;

fn executor_task(id: &str, offer: &Value) -> Value {
    let scalar = |name: &str, value: f64| json!({"name": name, "type": "SCALAR", "scalar": {"value": value}});
    json!({
        "name": id, "task_id": {"value": id}, "agent_id": offer["agent_id"],
        "resources": [scalar("cpus", 0.1), scalar("mem", 32.0)],
        "executor": {
            "type": "CUSTOM", "executor_id": {"value": id}, "command": {"value": EXECUTOR},
            "resources": [scalar("cpus", 0.1), scalar("mem", 32.0)],
        },
    })
}

/// The sandboxes of the executors that the follower has, with their ids.
fn sandboxes(follower: SocketAddr) -> Vec<(String, PathBuf)> {
    let state = send(follower, &Request::get("/state"))
        .expect("an answer")
        .json();
    let executors = state["frameworks"][0]["executors"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    executors
        .iter()
        .map(|executor| {
            (
                text(&executor["id"]),
                PathBuf::from(text(&executor["directory"])),
            )
        })
        .collect()
}

#[test]
fn executors_need_the_token_that_they_were_given() {
    let files = Files::new();
    let cluster = Cluster::builder()
        .flag("jwt_secret_key", &files.file("key", "the-key-of-tokens"))
        .follower_flag("http_authenticators", "jwt")
        .flag("authenticate_http_executors", "true")
        .start();
    let mut framework = Framework::subscribe(cluster.leader, "tokens");
    let offer = framework.offer();
    let tasks = ["first", "second"].map(|id| executor_task(id, &offer));
    framework.must(launch(&offer, tasks.to_vec()));
    let read =
        |folder: &Path, name: &str| fs::read_to_string(folder.join(name)).unwrap_or_default();
    let done = || {
        let sandboxes = sandboxes(cluster.follower);
        sandboxes.len() == 2
            && sandboxes
                .iter()
                .all(|(_, folder)| !read(folder, "done").is_empty())
    };
    assert!(eventually(super::SOON, done), "{}", cluster.logs());
    for (id, folder) in sandboxes(cluster.follower) {
        for (name, status, challenge) in [
            ("none", "401", true),
            ("forged", "401", true),
            ("basic", "401", true),
            // Neither has subscribed, which is what its own token lets it hear.
            ("own", "403", false),
            ("other", "403", false),
        ] {
            let body = read(&folder, &format!("{name}.body"));
            assert_eq!(
                read(&folder, &format!("{name}.status")),
                status,
                "{id} {name}: {body}"
            );
            let head = read(&folder, &format!("{name}.head")).to_lowercase();
            let realm = "www-authenticate: bearer realm=\"mesos-agent-executor\"";
            assert_eq!(head.contains(realm), challenge, "{id} {name}: {head}");
        }
        assert_eq!(read(&folder, "own.body"), "Executor is not subscribed");
        let other = read(&folder, "other.body");
        assert!(other.contains("does not contain"), "{other}");
    }
    let log = cluster.process(Part::Mixed).log();
    assert!(
        !log.contains("the-key-of-tokens") && !log.contains("eyJ"),
        "{log}"
    );
}

#[test]
fn command_and_default_executors_of_the_follower_need_no_token_of_theirs() {
    let files = Files::new();
    let cluster = Cluster::builder()
        .flag("jwt_secret_key", &files.file("key", "the-key-of-tokens"))
        .follower_flag("http_authenticators", "jwt")
        .flag("authenticate_http_executors", "true")
        .start();
    let mut framework = Framework::subscribe(cluster.leader, "commands");
    let offer = framework.offer();
    // The token is the executor's: no task gets to see it.
    let command = "test -z \"$MESOS_EXECUTOR_AUTHENTICATION_TOKEN\"";
    let task = command_task("t", &offer, command);
    framework.must(launch(&offer, vec![task]));
    framework.until("t", "TASK_FINISHED");
}
