//! `tepui registry`, and a leader that goes on with what a real Mesos master had kept.

use std::path::{Path, PathBuf};

use rustix::process::Signal;
use serde_json::Value;
use tepui_tests::commands::{Outcome, PATIENCE, run, start};
use tepui_tests::http::{Request, send};
use tepui_tests::wait::{eventually, eventually_some};
use tepui_tests::zookeeper::Ensemble;

/// The replicated log that a real master left, and what it showed of it.
fn recorded(name: &str) -> PathBuf {
    let data = tepui_tests::crate_folder().join("../crates/journal/tests/data");
    data.join(name)
}

fn registry(command: &[&str], place: &str) -> Outcome {
    let mut arguments = vec!["registry"];
    arguments.extend(command);
    arguments.push(place);
    run(&arguments)
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

/// Starts a leader, waits until it shows a registry of one follower, and ends it.
fn shown_by_a_leader(arguments: &[&str]) -> Value {
    let mut all = vec!["leader", "--ip=127.0.0.1", "--port=0"];
    all.extend(arguments);
    let leader = start(&all, &[], |_| ());
    // `leader  http://127.0.0.1:5050`, and perhaps where it stands for election.
    let address = eventually_some(PATIENCE, || {
        let announced = leader.stdout();
        let (_, url) = announced.split_once("http://")?;
        url.split_whitespace().next()?.parse().ok()
    });
    let address = address.unwrap_or_else(|| panic!("{}", leader.stderr()));
    let mut shown = Value::Null;
    let found = eventually(PATIENCE, || {
        let request = Request::get("/registrar(1)/registry");
        let Ok(response) = send(address, &request) else {
            return false;
        };
        shown = response.json();
        shown["slaves"]["slaves"].is_array()
    });
    assert!(found, "{shown}: {}", leader.stderr());
    leader.signal(Signal::TERM);
    let _ = leader.wait().expect(0);
    shown
}

/// Takes out what a leader adds or shows on its own.
fn bare(mut registry: Value) -> Value {
    let all = registry.as_object_mut().expect("an object");
    all.remove("cluster_id");
    all.remove("master");
    for follower in registry["slaves"]["slaves"].as_array_mut().expect("a list") {
        follower
            .as_object_mut()
            .expect("an object")
            .remove("deactivated");
    }
    registry
}

fn master_s() -> Value {
    let text = std::fs::read_to_string(recorded("replicated-log-recorded.json"));
    bare(json(&text.expect("a file")))
}

#[test]
fn a_leader_goes_on_with_the_registry_of_a_mesos_master() {
    let folder = tempfile::tempdir().expect("a folder");
    let work = |name: &str| format!("--work_dir={}", folder.path().join(name).display());
    let log = recorded("replicated-log-recorded").display().to_string();
    let place = work("leader");
    let nothing = registry(&["check"], &place).expect(1);
    assert!(
        nothing.stderr.contains("there is no registry at"),
        "{}",
        nothing.stderr
    );
    let imported = registry(&["import", &log], &place).expect(0).stdout;
    assert!(
        imported.starts_with("2 entries imported; cluster "),
        "{imported}"
    );
    let refused = registry(&["import", &log], &place).expect(1);
    assert!(refused.stderr.contains("--overwrite"), "{}", refused.stderr);

    assert_eq!(bare(shown_by_a_leader(&[&place])), master_s());

    let checked = registry(&["check", "--json"], &place).expect(0).stdout;
    let checked = json(&checked);
    assert_eq!(checked["facts"]["followers"], 1);
    assert_eq!(checked["problems"], Value::Array(Vec::new()));
    let exported = registry(&["export"], &place).expect(0).stdout;
    assert_eq!(bare(json(&exported)), master_s());

    let file = Path::new(&folder.path().join("leader")).join("registry.redb");
    std::fs::write(&file, "rubbish").expect("written");
    let damaged = registry(&["check"], &place).expect(1);
    assert!(
        damaged.stderr.contains("registry.redb"),
        "{}",
        damaged.stderr
    );
    let nowhere = run(&["registry", "check"]).expect(2);
    assert!(nowhere.stderr.contains("--work_dir"), "{}", nowhere.stderr);
}

#[test]
fn a_registry_moves_from_a_file_to_zookeeper() {
    let ensemble = Ensemble::start(1);
    let folder = tempfile::tempdir().expect("a folder");
    let work = format!("--work_dir={}", folder.path().join("leader").display());
    let zk = format!("--zk={}", ensemble.url("/moved"));
    let log = recorded("replicated-log-recorded").display().to_string();
    let document = folder.path().join("registry.json").display().to_string();
    let _ = registry(&["import", &log], &work).expect(0);
    let _ = registry(&["export", &document], &work).expect(0);
    let _ = registry(&["import", &document], &zk).expect(0);
    let shown = shown_by_a_leader(&[&zk, "--hostname=localhost"]);
    assert_eq!(bare(shown), master_s());
    let checked = registry(&["check", "--json"], &zk).expect(0).stdout;
    let checked = json(&checked);
    assert_eq!(checked["facts"]["leaders_so_far"], 2);
    let first = registry(&["check", "--json"], &work).expect(0).stdout;
    assert_eq!(checked["cluster_id"], json(&first)["cluster_id"]);
}
