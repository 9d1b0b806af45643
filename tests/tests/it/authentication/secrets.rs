//! Secrets stay where they were put: not in logs, not at any endpoint, not in what a task or an executor inherits.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::json;
use tepui_tests::cluster::{Cluster, Part};
use tepui_tests::commands;
use tepui_tests::http::{Request, send};
use tepui_tests::libprocess::Peer;
use tepui_tests::wait::eventually;

use super::client::authenticate;
use super::{
    Files, KNOWN, STRICT, basic, by_operator, follower_of, leader_with, logged, registered,
};
use crate::drivers::libmesos::{Driver, SOON, command, description};

/// Everything that must not be seen, in the forms in which it goes around.
fn hidden() -> Vec<String> {
    let mut hidden = Vec::new();
    for (principal, secret) in KNOWN {
        hidden.push(secret.to_owned());
        hidden.push(basic(principal, secret));
    }
    hidden.push("not-the-secret".to_owned());
    hidden
}

fn assert_hides(text: &str, what: &str) {
    for secret in hidden() {
        assert!(!text.contains(&secret), "{what} shows {secret}: {text}");
    }
}

const READS: [&str; 12] = [
    "/state",
    "/state-summary",
    "/flags",
    "/slaves",
    "/frameworks",
    "/tasks",
    "/roles",
    "/metrics/snapshot",
    "/version",
    "/health",
    "/help",
    "/logging/toggle",
];

#[test]
fn no_secret_shows_in_logs_or_at_endpoints_or_in_a_task() {
    let files = Files::new();
    let leader = leader_with(&files, &STRICT);
    let follower = follower_of(&leader)
        .flag("credential", &files.credential("follower", "f-secret"))
        .flag("http_credentials", &files.credentials())
        .flag("authenticate_http_readonly", "true")
        .flag("authenticate_http_readwrite", "true")
        .start();
    assert!(
        eventually(SOON, || !registered(&leader).is_empty()),
        "{}",
        leader.logs()
    );

    let peer = Peer::new();
    for secret in ["not-the-secret", "m-secret"] {
        let mut driver = Driver::new(&peer, leader.leader);
        authenticate(&peer, leader.leader, &driver.pid(), "marathon", secret);
        if secret == "m-secret" {
            driver.subscribe(&description("secrets"));
            let (offer, _) = driver.offer();
            // A task sees its environment and that of who started it, as far as the kernel shows it.
            let look = "env; tr '\\0' '\\n' < /proc/$PPID/environ; cat /proc/$PPID/cmdline; \
                ! { env; cat /proc/$PPID/environ /proc/$PPID/cmdline; } | grep -a -e '-secret'";
            driver.launch(&offer, vec![command("looks", &offer, look)]);
            driver.until("looks", "TASK_FINISHED");
        }
    }
    for (address, paths) in [(leader.leader, &READS[..]), (follower.follower, &READS[..])] {
        for path in paths {
            for secret in ["o-secret", "not-the-secret"] {
                let request = Request::get(path).header("Authorization", &basic("ops", secret));
                let answer = send(address, &request).expect("an answer");
                assert_hides(&answer.text(), path);
            }
        }
        for kind in ["GET_FLAGS", "GET_STATE"] {
            let call = Request::post_json("/api/v1", &json!({"type": kind}));
            let call = by_operator(call).header("Accept", "application/json");
            let answer = send(address, &call).expect("an answer");
            assert_eq!(answer.status, 200, "{kind}: {}", answer.text());
            assert_hides(&answer.text(), kind);
        }
    }
    assert_hides(&leader.process(Part::Leader).log(), "the leader's log");
    assert_hides(
        &follower.process(Part::Follower).log(),
        "the follower's log",
    );
}

#[test]
fn the_configuration_that_is_printed_masks_secrets() {
    let text = json!({"credentials": [{"principal": "ops", "secret": "o-secret"}]}).to_string();
    for (role, flag) in [("leader", "credentials"), ("follower", "http_credentials")] {
        let shown = commands::run(&["config", role, &format!("--{flag}={text}")]);
        let said = format!("{}{}", shown.stdout, shown.stderr);
        assert!(!said.contains("o-secret"), "{shown:?}");
    }
}

#[test]
fn a_file_of_secrets_that_others_can_read_is_warned_about() {
    let files = Files::new();
    let path = files.credentials();
    let start = || {
        Cluster::builder()
            .only(Part::Leader)
            .flag("credentials", &path)
            .start()
    };
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("its mode can be set");
    let warned = start();
    let warning = format!("'{path}' (0644) are too open");
    assert!(logged(&warned, Part::Leader, &warning), "{}", warned.logs());
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("its mode can be set");
    let silent = start();
    assert!(
        !silent.process(Part::Leader).log().contains("too open"),
        "{}",
        silent.logs()
    );
}
