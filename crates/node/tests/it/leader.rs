//! A whole leader over its port.

use crate::support::{Messages, PATIENCE, Raw, Wire, serve};
use std::{net::SocketAddr, path::Path};
use tepui_node::{
    disk::registry::{Registry, RegistryError, RegistryFile},
    http::{Limits, Server},
    leader::{LeaderError, LeaderHandle, LeaderNode, LeaderOptions},
    net::{LinkOptions, Links, Listen, Transport},
};
use tepui_protocol::{
    internal, json,
    peer::{PeerMessage, Pid},
    v1::{self, master, scheduler},
};
use tokio::{runtime::Handle, time::timeout};

async fn start(work_dir: &Path) -> LeaderHandle {
    let listen = Listen::on(SocketAddr::from(([127, 0, 0, 1], 0)));
    let mut options = LeaderOptions::new(listen, work_dir);
    options.hostname = Some("leader.test".to_owned());
    options.flags.insert("port".to_owned(), "5050".to_owned());
    LeaderNode::start(options).await.expect("a leader")
}

async fn get(client: &mut Raw, path: &str) -> Wire {
    client
        .send(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n"))
        .await;
    client.response().await
}

async fn post(client: &mut Raw, path: &str, headers: &str, body: &str) -> Wire {
    let length = body.len();
    let head =
        format!("POST {path} HTTP/1.1\r\nHost: x\r\n{headers}Content-Length: {length}\r\n\r\n");
    client.send(head + body).await;
    client.response().await
}

const JSON: &str = "Content-Type: application/json\r\n";

/// One record of a JSON stream, without its length.
async fn record(client: &mut Raw) -> String {
    let chunk = String::from_utf8(client.chunk().await).expect("text");
    let (length, record) = chunk.split_once('\n').expect("a length");
    assert_eq!(length.parse::<usize>().expect("a length"), record.len());
    record.to_owned()
}

#[tokio::test]
async fn endpoints_answer_under_all_their_names() {
    let dir = tempfile::tempdir().expect("a directory");
    let leader = start(dir.path()).await;
    let mut client = Raw::connect(leader.address).await;
    for path in [
        "/health",
        "/master/health",
        "/master/health/",
        "/health/extra",
    ] {
        let response = get(&mut client, path).await;
        assert_eq!(
            (response.status, response.header("content-length")),
            (200, Some("0")),
            "{path}"
        );
        assert!(response.header("content-type").is_none());
    }
    for path in [
        "/version",
        "/state",
        "/master/state",
        "/state.json",
        "/master/state/extra",
        "/slaves",
        "/state-summary",
        "/frameworks",
        "/tasks",
        "/roles",
        "/flags",
        "/metrics/snapshot",
        "/metrics/snapshot?timeout=1secs",
        "/system/stats.json",
        "/files/debug",
    ] {
        let response = get(&mut client, path).await;
        assert_eq!(response.status, 200, "{path}");
        assert_eq!(
            response.header("content-type"),
            Some("application/json"),
            "{path}"
        );
        serde_json::from_slice::<serde_json::Value>(&response.body).expect(path);
    }
    assert_eq!(
        get(&mut client, "/flags").await.text(),
        r#"{"flags":{"port":"5050"}}"#
    );
    for path in ["/nothing", "/redirect/loop", "/slave(1)/state"] {
        assert_eq!(
            get(&mut client, path).await.text(),
            "404 Not Found.",
            "{path}"
        );
    }
    let port = leader.address.port();
    for path in ["/redirect", "/master/redirect"] {
        let response = get(&mut client, path).await;
        assert_eq!(response.status, 307);
        assert_eq!(
            response.header("location"),
            Some(format!("//leader.test:{port}").as_str())
        );
    }
    let response = get(&mut client, "/metrics/snapshot?timeout=soon").await;
    assert_eq!(response.status, 400);
    let response = get(&mut client, "/logging/toggle").await;
    assert_eq!(
        (response.text(), response.header("content-type")),
        ("0\n", Some("text/plain; charset=utf-8"))
    );
    let response = get(&mut client, "/logging/toggle?level=1").await;
    assert_eq!(
        (response.status, response.text()),
        (400, "Expecting 'duration=value' in query.\n")
    );
    let response = get(&mut client, "/files/read").await;
    assert_eq!(
        (response.status, response.text()),
        (400, "Expecting 'path=value' in query.\n")
    );
    let response = get(&mut client, "/files/read?path=/master/log&offset=x").await;
    let text = "Failed to parse offset: Failed to convert 'x' to number.\n";
    assert_eq!((response.status, response.text()), (400, text));
    let response = get(&mut client, "/files/browse?path=/nowhere").await;
    assert_eq!((response.status, response.text()), (404, ""));
    leader.shutdown().await.expect("a clean end");
}

/// Recorded answers of the reference to requests that are wrong before any core sees them.
#[tokio::test]
async fn wrong_requests_get_the_references_texts() {
    let dir = tempfile::tempdir().expect("a directory");
    let leader = start(dir.path()).await;
    let mut client = Raw::connect(leader.address).await;
    const BROKEN_FORM: &str = "Unable to decode query string: Malformed % escape in '%4': '%4'";
    const UNKNOWN_AGENT: &str = "No agent found with specified ID";
    let text = "405 Method Not Allowed. Expecting one of { 'POST' }, but received 'GET'.";
    for path in [
        "/api/v1/scheduler",
        "/api/v1",
        "/teardown",
        "/reserve",
        "/machine/up",
    ] {
        let response = get(&mut client, path).await;
        assert_eq!((response.status, response.text()), (405, text));
        assert_eq!(response.header("allow"), Some("POST"));
    }
    let media = "Expecting 'Content-Type' of application/json or application/x-protobuf";
    let protobuf = "Content-Type: application/x-protobuf\r\n";
    let scheduler = "/api/v1/scheduler";
    for (path, headers, body, status, text) in [
        (
            scheduler,
            "",
            "",
            400,
            "Expecting 'Content-Type' to be present",
        ),
        (scheduler, "Content-Type: \r\n", "{}", 415, media),
        (scheduler, "Content-Type: text/plain\r\n", "{}", 415, media),
        (
            scheduler,
            JSON,
            "",
            400,
            "Failed to parse body into JSON: syntax error at line 1 near: ",
        ),
        (
            scheduler,
            JSON,
            "[]",
            400,
            "Failed to convert JSON into Call protobuf: Expecting a JSON object",
        ),
        (
            scheduler,
            JSON,
            "{}",
            400,
            "Failed to validate scheduler::Call: Expecting 'type' to be present",
        ),
        (
            scheduler,
            JSON,
            r#"{"type":"SUBSCRIBE"}"#,
            400,
            "Failed to validate scheduler::Call: Expecting 'subscribe' to be present",
        ),
        (
            scheduler,
            protobuf,
            "\x0a\x05ab",
            400,
            "Failed to parse body into Call protobuf",
        ),
        (
            "/api/v1",
            JSON,
            r#"{"type":"NOPE"}"#,
            400,
            "Failed to validate master::Call: Expecting 'type' to be present",
        ),
        (
            "/api/v1/executor",
            JSON,
            "{}",
            400,
            "Failed to validate master::Call: Expecting 'type' to be present",
        ),
        (
            "/api/v1",
            JSON,
            r#"{"type":"READ_FILE"}"#,
            400,
            "Failed to validate master::Call: Expecting 'read_file' to be present",
        ),
        (
            "/teardown",
            "",
            "",
            400,
            "Missing 'frameworkId' query parameter in the request body",
        ),
        (
            "/teardown",
            "",
            "frameworkId=x",
            400,
            "No framework found with specified ID",
        ),
        (
            "/quota",
            "",
            "{",
            400,
            "Failed to parse set quota request JSON '{': syntax error at line 1 near: ",
        ),
        ("/reserve", "", "slaveId=%4", 400, BROKEN_FORM),
        ("/reserve", "", "slaveId=x&resources=[]", 400, UNKNOWN_AGENT),
        (
            "/machine/down",
            JSON,
            "[]",
            400,
            "List of machines is empty",
        ),
    ] {
        let response = post(&mut client, path, headers, body).await;
        assert_eq!(
            (response.status, response.text()),
            (status, text),
            "{path} {headers} {body}"
        );
    }
    let html = format!("{JSON}Accept: text/html\r\n");
    let response = post(&mut client, "/api/v1", &html, r#"{"type":"GET_HEALTH"}"#).await;
    let text = "Expecting 'Accept' to allow 'application/x-protobuf' or 'application/json'";
    assert_eq!((response.status, response.text()), (406, text));
    // What is wrong with a call comes before what is wrong with its headers.
    let response = post(&mut client, scheduler, &html, r#"{"type":"SUBSCRIBE"}"#).await;
    assert_eq!(response.status, 400);
    leader.shutdown().await.expect("a clean end");
}

#[tokio::test]
async fn operator_calls_answer_in_json_and_protobuf() {
    let dir = tempfile::tempdir().expect("a directory");
    let leader = start(dir.path()).await;
    let mut client = Raw::connect(leader.address).await;
    let health = r#"{"type":"GET_HEALTH"}"#;
    let response = post(&mut client, "/api/v1/operator", JSON, health).await;
    assert_eq!(
        response.text(),
        r#"{"type":"GET_HEALTH","get_health":{"healthy":true}}"#
    );
    let protobuf = format!("{JSON}Accept: application/x-protobuf\r\n");
    let response = post(&mut client, "/api/v1", &protobuf, health).await;
    assert_eq!(
        response.header("content-type"),
        Some("application/x-protobuf")
    );
    assert_eq!(response.body, b"\x08\x01\x12\x02\x08\x01");
    for call in [
        "GET_FLAGS",
        "GET_VERSION",
        "GET_STATE",
        "GET_AGENTS",
        "GET_FRAMEWORKS",
        "GET_TASKS",
        "GET_MASTER",
        "GET_LOGGING_LEVEL",
    ] {
        let response = post(
            &mut client,
            "/api/v1",
            JSON,
            &format!(r#"{{"type":"{call}"}}"#),
        )
        .await;
        assert_eq!(response.status, 200, "{call}");
        let answer: master::Response = json::decode(&response.body).expect(call);
        assert_eq!(answer.r#type().as_str_name(), call);
    }
    let set = r#"{"type":"SET_LOGGING_LEVEL","set_logging_level":{"level":2,"duration":{"nanoseconds":3600000000000}}}"#;
    assert_eq!(post(&mut client, "/api/v1", JSON, set).await.status, 200);
    assert_eq!(get(&mut client, "/logging/toggle").await.text(), "2\n");
    let list = r#"{"type":"LIST_FILES","list_files":{"path":"/master/log"}}"#;
    let response = post(&mut client, "/api/v1", JSON, list).await;
    assert_eq!((response.status, response.text()), (404, ""));
    leader.shutdown().await.expect("a clean end");
}

#[tokio::test]
async fn the_log_can_be_read_when_there_is_one() {
    let dir = tempfile::tempdir().expect("a directory");
    let log = dir.path().join("leader.log");
    std::fs::write(&log, "line one\n").expect("written");
    let mut options = LeaderOptions::new(
        Listen::on(SocketAddr::from(([127, 0, 0, 1], 0))),
        dir.path(),
    );
    options.log_file = Some(log);
    let leader = LeaderNode::start(options).await.expect("a leader");
    let mut client = Raw::connect(leader.address).await;
    let response = get(
        &mut client,
        "/files/read?path=/master/log&offset=5&length=3",
    )
    .await;
    assert_eq!(response.text(), r#"{"data":"one","offset":5}"#);
    let response = get(&mut client, "/files/download?path=/master/log").await;
    assert_eq!(response.text(), "line one\n");
    assert_eq!(
        response.header("content-disposition"),
        Some("attachment; filename=leader.log")
    );
    let response = post(
        &mut client,
        "/api/v1",
        JSON,
        r#"{"type":"READ_LOG","read_log":{"length":4}}"#,
    )
    .await;
    let answer: master::Response = json::decode(&response.body).expect("an answer");
    let read = answer.read_log.expect("a piece");
    assert_eq!((read.size, &read.data[..]), (9, &b"line"[..]));
    leader.shutdown().await.expect("a clean end");
}

#[tokio::test]
async fn a_scheduler_subscribes_and_an_operator_sees_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let leader = start(dir.path()).await;
    let mut operator = Raw::connect(leader.address).await;
    let head = post(&mut operator, "/api/v1", JSON, r#"{"type":"SUBSCRIBE"}"#).await;
    assert_eq!(
        (head.status, head.header("transfer-encoding")),
        (200, Some("chunked"))
    );
    let first: master::Event =
        json::decode(record(&mut operator).await.as_bytes()).expect("an event");
    assert_eq!(first.r#type(), master::event::Type::Subscribed);
    assert!(first.subscribed.expect("a state").get_state.is_some());

    let mut client = Raw::connect(leader.address).await;
    let subscribe = r#"{"type":"SUBSCRIBE","subscribe":{"framework_info":{"user":"root","name":"e","roles":["*"],"capabilities":[{"type":"MULTI_ROLE"}]}}}"#;
    let close = format!("{JSON}Connection: close\r\n");
    let head = post(&mut client, "/master/api/v1/scheduler", &close, subscribe).await;
    assert_eq!(
        (head.status, head.header("transfer-encoding")),
        (200, Some("chunked"))
    );
    let stream_id = head
        .header("mesos-stream-id")
        .expect("a stream id")
        .to_owned();
    let subscribed: scheduler::Event =
        json::decode(record(&mut client).await.as_bytes()).expect("an event");
    let framework = subscribed
        .subscribed
        .expect("subscribed")
        .framework_id
        .value;
    assert_eq!(record(&mut client).await, r#"{"type":"HEARTBEAT"}"#);

    loop {
        let event: master::Event =
            json::decode(record(&mut operator).await.as_bytes()).expect("an event");
        if event.r#type() == master::event::Type::FrameworkAdded {
            break;
        }
    }
    let with_id = format!("{JSON}Mesos-Stream-Id: {stream_id}\r\n");
    let mut calls = Raw::connect(leader.address).await;
    let again = post(&mut calls, "/api/v1/scheduler", &with_id, subscribe).await;
    let text = "Subscribe calls should not include the 'Mesos-Stream-Id' header";
    assert_eq!((again.status, again.text()), (400, text));
    let teardown = format!(r#"{{"type":"TEARDOWN","framework_id":{{"value":"{framework}"}}}}"#);
    assert_eq!(
        post(&mut calls, "/api/v1/scheduler", &with_id, &teardown)
            .await
            .status,
        202
    );
    client.rest().await;
    let state = get(&mut calls, "/frameworks").await;
    assert!(state.text().contains(&framework));
    leader.shutdown().await.expect("a clean end");
}

/// A follower's address that hears what the leader sends.
async fn follower() -> (SocketAddr, Messages, Server, Links) {
    let (address, messages, server) = serve(Limits::default()).await;
    let (links, _end) = Links::new(
        address,
        LinkOptions::default(),
        Transport::plain(),
        Handle::current(),
        |_| {},
    );
    (address, messages, server, links)
}

async fn until(messages: &mut Messages, wanted: &str) -> (Pid, PeerMessage) {
    loop {
        let (from, to, message) = timeout(PATIENCE, messages.recv())
            .await
            .expect("in time")
            .expect("a message");
        assert_eq!(to, "slave(1)");
        if message.name() == wanted {
            return (from, message);
        }
    }
}

#[tokio::test]
async fn a_follower_registers_is_remembered_and_its_loss_is_seen() {
    let dir = tempfile::tempdir().expect("a directory");
    let leader = start(dir.path()).await;
    let (address, mut messages, server, links) = follower().await;
    let to = Pid {
        name: "master".to_owned(),
        address: leader.address,
    };
    let register = internal::RegisterSlaveMessage {
        slave: v1::AgentInfo {
            hostname: "follower.test".to_owned(),
            port: Some(address.port().into()),
            ..Default::default()
        },
        version: Some("1.11.0".to_owned()),
        ..Default::default()
    };
    links.send("slave(1)", &to, &register.into());
    let (from, registered) = until(&mut messages, "mesos.internal.SlaveRegisteredMessage").await;
    assert_eq!(from, to);
    let PeerMessage::SlaveRegistered(registered) = registered else {
        panic!("{registered:?}")
    };
    let id = registered.slave_id.value;
    let (from, _) = until(&mut messages, "mesos.internal.PingSlaveMessage").await;
    assert!(from.name.starts_with("slave-observer("), "{from}");

    let mut client = Raw::connect(leader.address).await;
    let mut operator = Raw::connect(leader.address).await;
    post(&mut operator, "/api/v1", JSON, r#"{"type":"SUBSCRIBE"}"#).await;
    record(&mut operator).await;
    assert!(get(&mut client, "/slaves").await.text().contains(&id));
    // The follower's process ends: the leader's link to it breaks.
    drop(links);
    server.stop().await;
    let deactivated = async {
        while !get(&mut client, "/state-summary")
            .await
            .text()
            .contains(r#""active":false"#)
        {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, deactivated)
        .await
        .expect("the loss is seen");
    leader.shutdown().await.expect("a clean end");
    let remembered = RegistryFile::open(dir.path())
        .expect("a registry")
        .load()
        .expect("readable");
    let followers = remembered.registry.slaves.expect("followers").slaves;
    assert_eq!(
        followers[0].info.id.as_ref().map(|id| id.value.as_str()),
        Some(id.as_str())
    );
    assert!(remembered.registry.master.is_some());
}

#[tokio::test]
async fn a_leader_that_cannot_start_says_why() {
    let dir = tempfile::tempdir().expect("a directory");
    let leader = start(dir.path()).await;
    let taken = LeaderOptions::new(Listen::on(leader.address), dir.path().join("other"));
    let error = LeaderNode::start(taken).await.err().expect("an error");
    assert!(matches!(error, LeaderError::Listen(_)), "{error}");
    let same = LeaderOptions::new(
        Listen::on(SocketAddr::from(([127, 0, 0, 1], 0))),
        dir.path(),
    );
    let error = LeaderNode::start(same).await.err().expect("an error");
    assert!(
        matches!(error, LeaderError::Registry(RegistryError::InUse(_))),
        "{error}"
    );
    leader.shutdown().await.expect("a clean end");
}

fn json_of(response: &Wire) -> serde_json::Value {
    serde_json::from_str(response.text()).expect("JSON")
}

#[tokio::test]
async fn questions_are_answered_from_a_copy_and_refused_by_the_place_of_what_is_wrong() {
    let dir = tempfile::tempdir().expect("a directory");
    let leader = start(dir.path()).await;
    let mut client = Raw::connect(leader.address).await;
    let question = "/tepui/explain?role=eng&resources=cpus:1,mem:64";
    for path in [question, &format!("/master{question}")] {
        let response = get(&mut client, path).await;
        assert_eq!(response.status, 200, "{path}");
        assert_eq!(response.header("content-type"), Some("application/json"));
        let answer = json_of(&response);
        assert_eq!(answer["answers"][0]["blocked"], true);
        assert_eq!(answer["answers"][0]["resources"]["amounts"]["mem"], 64.0);
        let text =
            "no offer of cpus:1; mem:64 for a new framework in role 'eng': there are no followers";
        assert_eq!(answer["answers"][0]["text"], text);
    }
    let posted = r#"{"role": "eng", "resources": {"cpus": 1}}"#;
    let response = post(&mut client, "/tepui/explain", JSON, posted).await;
    assert_eq!(json_of(&response)["answers"][0]["role"], "eng");
    let body = r#"{"changes": [{"add_followers": {"count": 3, "resources": "cpus:4;mem:1024"}}],
        "demands": [{"role": "eng", "resources": "cpus:2;mem:10", "count": 10}]}"#;
    let outcome = json_of(&post(&mut client, "/tepui/simulate", JSON, body).await);
    assert_eq!(outcome["demands"][0]["placed"], 6);
    for (path, body, status, text) in [
        (
            "/tepui/explain",
            "{}",
            400,
            "The request: 'framework' or 'role' has to be given",
        ),
        (
            "/tepui/explain",
            r#"{"framework": "x"}"#,
            404,
            "There is no framework x",
        ),
        (
            "/tepui/simulate",
            r#"{"changes": [{"remove_follower": 7}]}"#,
            400,
            "changes[0].remove_follower: a text is expected",
        ),
        (
            "/tepui/simulate",
            r#"{"changes": [{"remove_follower": "x"}]}"#,
            404,
            "There is no follower x",
        ),
    ] {
        let refused = post(&mut client, path, JSON, body).await;
        assert_eq!((refused.status, refused.text()), (status, text), "{body}");
    }
    assert_eq!(get(&mut client, "/tepui/simulate").await.status, 405);
    leader.shutdown().await.expect("an end");
}
