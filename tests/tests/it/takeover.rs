//! A running Mesos cluster is taken over: what its master left is imported, and its agent, which has been running on, comes
//! back to our leader with its tasks. Log and agent are recorded ones of the same cluster.

use std::time::Duration;

use base64::Engine;
use serde_json::{Value, json};
use tepui_tests::cluster::{Cluster, Part};
use tepui_tests::commands::run;
use tepui_tests::json_lines;
use tepui_tests::libprocess::Peer;
use tepui_tests::wait::eventually;

const PATIENCE: Duration = Duration::from_secs(30);
const AGENT: &str = "0289a414-2458-45c9-80e9-c49e4aab7adf-S0";

/// The log of the master that the recorded agent registered with.
fn replicated_log() -> String {
    let log = tepui_tests::repository().join("crates/journal/tests/data/replicated-log-recorded");
    log.display().to_string()
}

/// What the recorded agent said to its next leader, to the byte.
fn reregistration() -> Vec<u8> {
    let recording =
        tepui_tests::repository().join("crates/protocol/tests/fixtures/wire/basic.wire.jsonl");
    let lines = json_lines(&recording);
    let said = lines
        .iter()
        .find(|line| line["message"] == "mesos.internal.ReregisterSlaveMessage")
        .expect("the recorded agent comes back once");
    let body = said["body_b64"].as_str().expect("its bytes were kept");
    base64::engine::general_purpose::STANDARD
        .decode(body)
        .expect("base64")
}

#[test]
fn the_agent_of_an_imported_registry_comes_back_with_its_tasks() {
    let folder = tempfile::tempdir().expect("a folder");
    let work_dir = folder.path().join("work");
    let place = format!("--work_dir={}", work_dir.display());
    let _ = run(&["registry", "import", &place, &replicated_log()]).expect(0);
    let held = run(&["registry", "export", &place]).expect(0).json();
    let admitted = held["slaves"]["slaves"].as_array().map_or(0, Vec::len);
    assert_eq!(admitted, 1, "{held}");

    let cluster = Cluster::builder()
        .only(Part::Leader)
        .flag("work_dir", &work_dir.display().to_string())
        .start();
    // It is waited for.
    let waited_for = cluster.json("/slaves")["recovered_slaves"].clone();
    assert_eq!(waited_for[0]["id"], AGENT, "{waited_for}");
    let agent = Peer::new();
    let leader = format!("master@{}", cluster.leader);
    let name = "mesos.internal.ReregisterSlaveMessage";
    agent
        .send("slave(1)", &leader, name, &reregistration())
        .expect("said");
    agent.expect(
        "slave(1)",
        "mesos.internal.SlaveReregisteredMessage",
        PATIENCE,
    );
    let known = || {
        let slaves = cluster.json("/slaves");
        slaves["slaves"]
            .as_array()
            .is_some_and(|all| all.len() == 1)
            && slaves["slaves"][0]["id"] == AGENT
    };
    assert!(eventually(PATIENCE, known), "{}", cluster.json("/slaves"));
    let state = cluster.json("/state");
    let tasks = |key: &str| -> Vec<Value> {
        let frameworks = state["frameworks"].as_array().into_iter().flatten();
        frameworks
            .flat_map(|framework| framework[key].as_array().cloned().unwrap_or_default())
            .collect()
    };
    let all: Vec<Value> = [tasks("tasks"), tasks("completed_tasks")].concat();
    assert!(!all.is_empty(), "its tasks are known: {state}");
    assert!(all.iter().all(|task| task["slave_id"] == AGENT), "{all:?}");
    // Its frameworks may come back to them.
    let recovered = state["frameworks"].as_array().into_iter().flatten();
    assert!(
        recovered
            .into_iter()
            .all(|framework| framework["connected"] == json!(false)),
        "{state}"
    );
}
