//! Realms of HTTP over real sockets: a leader and a follower with credentials, asked by nobody, by
//! somebody unknown, with a wrong and with the right secret, and with a token.

use crate::support::{Raw, Wire};
use serde_json::Value;
use std::{net::SocketAddr, path::Path, sync::Arc};
use tepui_auth::{
    Credential, Credentials, Secret,
    http::{Realm, Scheme},
    jwt,
};
use tepui_containers::linux::{LauncherOptions, start_launcher};
use tepui_node::{
    follower::{FollowerHandle, FollowerNode, FollowerOptions},
    http::{
        Realms,
        auth::{follower as follower_realm, leader as leader_realm},
    },
    leader::{LeaderHandle, LeaderNode, LeaderOptions},
    net::Listen,
};
use tokio::sync::watch;

const LOOPBACK: ([u8; 4], u16) = ([127, 0, 0, 1], 0);

fn credentials() -> Arc<Credentials> {
    Arc::new(Credentials::parse("ops o-secret\nmarathon m-secret\n").expect("credentials"))
}

fn key() -> Arc<Secret> {
    Arc::new(Secret::from("key"))
}

fn basic(name: &str) -> Option<Realm> {
    Some(Realm::new(name, vec![Scheme::Basic(credentials())]))
}

async fn leader(work_dir: &Path) -> LeaderHandle {
    let mut options = LeaderOptions::new(Listen::on(SocketAddr::from(LOOPBACK)), work_dir);
    options.realms = Realms {
        readonly: basic(leader_realm::READONLY),
        readwrite: basic(leader_realm::READWRITE),
        api: basic(leader_realm::FRAMEWORKS),
    };
    options.config.authenticator.credentials = Some(credentials());
    LeaderNode::start(options).await.expect("a leader")
}

async fn follower(
    work_dir: &Path,
) -> (
    FollowerHandle,
    watch::Sender<Option<tepui_protocol::peer::Pid>>,
) {
    let launcher = start_launcher(LauncherOptions {
        cgroups: false,
        ..Default::default()
    })
    .expect("a launcher");
    let address = SocketAddr::from(LOOPBACK);
    let config = tepui_follower::Config::new(address, "follower.test", work_dir);
    let (detect, detected) = watch::channel(None);
    let mut options = FollowerOptions::new(Listen::on(address), config, launcher, detected);
    let both = vec![Scheme::Basic(credentials()), Scheme::Bearer(key())];
    options.realms = Realms {
        readonly: basic(follower_realm::READONLY),
        readwrite: basic(follower_realm::READWRITE),
        api: Some(Realm::new(follower_realm::EXECUTORS, both)),
    };
    (
        FollowerNode::start(options).await.expect("a follower"),
        detect,
    )
}

fn basic_header(principal: &str, secret: &str) -> String {
    let credential = Credential::new(principal, Secret::from(secret));
    format!(
        "Authorization: {}\r\n",
        tepui_auth::basic::header(&credential)
    )
}

async fn ask(client: &mut Raw, method: &str, path: &str, headers: &str, body: &str) -> Wire {
    let length = body.len();
    let json = match body.is_empty() {
        true => "",
        false => "Content-Type: application/json\r\n",
    };
    client
        .send(format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\n{headers}{json}Content-Length: {length}\r\n\r\n{body}"
        ))
        .await;
    client.response().await
}

fn assert_challenged(response: &Wire, challenge: &str, what: &str) {
    assert_eq!(response.status, 401, "{what}");
    assert_eq!(
        response.header("www-authenticate"),
        Some(challenge),
        "{what}"
    );
    assert_eq!(
        response.header("content-type"),
        Some("text/plain; charset=utf-8"),
        "{what}"
    );
}

const TEARDOWN: &str = r#"{"type":"TEARDOWN","framework_id":{"value":"x"},"teardown":{}}"#;
const VERSION: &str = r#"{"type":"GET_VERSION"}"#;

#[tokio::test]
async fn a_leader_answers_every_recorded_principal_as_recorded() {
    let dir = tempfile::tempdir().expect("a directory");
    let leader = leader(dir.path()).await;
    let mut client = Raw::connect(leader.address).await;
    // Names, headers and answers of shared/wire/auth.http.jsonl.
    let recorded = include_str!("../../../auth/tests/data/http.jsonl");
    for line in recorded.lines() {
        let line: Value = serde_json::from_str(line).expect("JSON");
        let name = line["name"].as_str().expect("a name");
        let (method, path, body) = match name.split(' ').next() {
            Some("operator") => ("POST", "/api/v1", VERSION),
            Some("scheduler") => ("POST", "/api/v1/scheduler", TEARDOWN),
            Some(path) => ("GET", path, ""),
            None => continue,
        };
        let headers = line["authorization"]
            .as_str()
            .map(|value| format!("Authorization: {value}\r\n"))
            .unwrap_or_default();
        let response = ask(&mut client, method, path, &headers, body).await;
        assert_eq!(
            Some(u64::from(response.status)),
            line["status"].as_u64(),
            "{name}"
        );
        assert_eq!(
            response.header("www-authenticate"),
            line["www_authenticate"].as_str(),
            "{name}"
        );
        if let Some(body) = line["body"].as_str() {
            assert_eq!(response.text(), body, "{name}");
        }
    }
    leader.shutdown().await.expect("a clean end");
}

#[tokio::test]
async fn endpoints_of_a_leader_belong_to_the_references_realms() {
    let dir = tempfile::tempdir().expect("a directory");
    let leader = leader(dir.path()).await;
    let mut client = Raw::connect(leader.address).await;
    for path in [
        "/health",
        "/version",
        "/redirect",
        "/help",
        "/system/stats.json",
        "/nothing",
    ] {
        let response = ask(&mut client, "GET", path, "", "").await;
        assert_ne!(response.status, 401, "{path}");
    }
    let readonly = [
        "/state",
        "/master/state",
        "/state.json",
        "/state-summary",
        "/slaves",
        "/frameworks",
        "/tasks",
        "/roles",
        "/flags",
        "/metrics/snapshot",
        "/maintenance/status",
        "/tepui/explain",
        "/tepui/simulate",
        "/files/browse?path=/",
        "/files/read?path=/",
        "/files/download?path=/",
        "/files/debug",
    ];
    let readwrite = [
        "/api/v1",
        "/api/v1/operator",
        "/teardown",
        "/quota",
        "/weights",
        "/maintenance/schedule",
        "/machine/down",
        "/machine/up",
        "/reserve",
        "/unreserve",
        "/create-volumes",
        "/destroy-volumes",
        "/logging/toggle",
    ];
    let realms = [
        (&readonly[..], "Basic realm=\"mesos-master-readonly\""),
        (&readwrite[..], "Basic realm=\"mesos-master-readwrite\""),
        (
            &["/api/v1/scheduler"],
            "Basic realm=\"mesos-master-scheduler\"",
        ),
    ];
    for (paths, challenge) in realms {
        for path in paths {
            for method in ["GET", "POST"] {
                let refused = ask(&mut client, method, path, "", "").await;
                assert_challenged(&refused, challenge, path);
                let right = basic_header("ops", "o-secret");
                let admitted = ask(&mut client, method, path, &right, "").await;
                assert_ne!(admitted.status, 401, "{path}");
            }
        }
    }
    leader.shutdown().await.expect("a clean end");
}

#[tokio::test]
async fn a_framework_of_another_principal_than_the_authenticated_one_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let leader = leader(dir.path()).await;
    let mut client = Raw::connect(leader.address).await;
    let subscribe = |principal: &str| {
        format!(
            r#"{{"type":"SUBSCRIBE","subscribe":{{"framework_info":{{"user":"u","name":"n","principal":"{principal}"}}}}}}"#
        )
    };
    let right = basic_header("marathon", "m-secret");
    let path = "/api/v1/scheduler";
    let other = ask(&mut client, "POST", path, &right, &subscribe("ops")).await;
    assert_ne!(other.status, 200, "{}", other.text());
    client
        .send(format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\n{right}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{}",
            subscribe("marathon").len(),
            subscribe("marathon")
        ))
        .await;
    let head = client.until(b"\r\n\r\n").await;
    assert!(head.starts_with(b"HTTP/1.1 200"));
    leader.shutdown().await.expect("a clean end");
}

#[tokio::test]
async fn endpoints_of_a_follower_belong_to_the_references_realms() {
    let dir = tempfile::tempdir().expect("a directory");
    let (follower, _detect) = follower(dir.path()).await;
    let mut client = Raw::connect(follower.address).await;
    for path in ["/health", "/version", "/help", "/system/stats.json"] {
        let response = ask(&mut client, "GET", path, "", "").await;
        assert_ne!(response.status, 401, "{path}");
    }
    let readonly = [
        "/state",
        "/slave(1)/state",
        "/agent/state",
        "/flags",
        "/containers",
        "/monitor/statistics",
        "/metrics/snapshot",
        "/files/browse?path=/",
    ];
    let token = jwt::executor_token("F", "E", "C", &key());
    let token = format!("Authorization: Bearer {token}\r\n");
    let realms = [
        (&readonly[..], "Basic realm=\"mesos-agent-readonly\""),
        (
            &["/api/v1", "/logging/toggle"],
            "Basic realm=\"mesos-agent-readwrite\"",
        ),
    ];
    for (paths, challenge) in realms {
        for path in paths {
            let refused = ask(&mut client, "POST", path, "", "").await;
            assert_challenged(&refused, challenge, path);
            // An executor's token opens the executor API and nothing else.
            let refused = ask(&mut client, "POST", path, &token, "").await;
            assert_challenged(&refused, challenge, path);
            let right = basic_header("ops", "o-secret");
            let admitted = ask(&mut client, "POST", path, &right, "").await;
            assert_ne!(admitted.status, 401, "{path}");
        }
    }
    follower.shutdown().await;
}

#[tokio::test]
async fn executors_need_a_token_that_the_follower_signed() {
    let dir = tempfile::tempdir().expect("a directory");
    let (follower, _detect) = follower(dir.path()).await;
    let mut client = Raw::connect(follower.address).await;
    let path = "/api/v1/executor";
    let refused = ask(&mut client, "POST", path, "", "{}").await;
    assert_challenged(
        &refused,
        "Basic realm=\"mesos-agent-executor\",Bearer realm=\"mesos-agent-executor\"",
        "nobody",
    );
    assert_eq!(
        refused.text(),
        "\"Basic\" authenticator returned:\n401 Unauthorized.\n\n\
         \"Bearer\" authenticator returned:\n401 Unauthorized."
    );
    let forged = jwt::executor_token("F", "E", "C", &Secret::from("another key"));
    for token in [forged.as_str(), "abc", "a.b.c", ""] {
        let header = format!("Authorization: Bearer {token}\r\n");
        let refused = ask(&mut client, "POST", path, &header, "{}").await;
        assert_eq!(refused.status, 401, "{token}");
    }
    let right = jwt::executor_token("F", "E", "C", &key());
    let header = format!("Authorization: Bearer {right}\r\n");
    let admitted = ask(&mut client, "POST", path, &header, "{}").await;
    assert_ne!(admitted.status, 401, "{}", admitted.text());
    follower.shutdown().await;
}
