//! Hundreds of emulated followers: they register, run tasks and come back, hostile peers among them or not.
//!
//! The full sizes are measured (`measure followers`, `measure hostile`); here it is asserted that nobody is lost.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value, json};
use tepui_tests::cluster::{Cluster, Part};
use tepui_tests::emulator::Emulator;
use tepui_tests::hostility::{Attack, Attacker};
use tepui_tests::scheduler::{Framework, command_task, launch};
use tepui_tests::wait::eventually;

const PATIENCE: Duration = Duration::from_secs(60);
const FOLLOWERS: usize = 300;

fn leader() -> Cluster {
    Cluster::builder().only(Part::Leader).start()
}

/// Ids of the active followers, by what they call themselves.
fn active(cluster: &Cluster) -> BTreeMap<String, String> {
    let slaves = cluster.json("/slaves");
    let all = slaves["slaves"].as_array().cloned().unwrap_or_default();
    let text = |slave: &Value, name: &str| slave[name].as_str().unwrap_or_default().to_owned();
    all.iter()
        .filter(|slave| slave["active"] == true)
        .map(|slave| (text(slave, "hostname"), text(slave, "id")))
        .collect()
}

/// Runs `count` tasks, at most two on an offer, and sees each one end as it should, once.
fn run_tasks(framework: &mut Framework, count: usize) {
    let (mut launched, mut ended) = (0, BTreeSet::new());
    while launched < count {
        let offers = framework.wait_for("OFFERS", |_| true);
        for offer in offers["offers"].as_array().into_iter().flatten() {
            let tasks: Vec<Value> = (launched..count.min(launched + 2))
                .map(|number| command_task(&format!("task-{number}"), offer, "true"))
                .collect();
            launched += tasks.len();
            framework.must(launch(offer, tasks));
        }
    }
    while ended.len() < count {
        let update = framework.wait_for("UPDATE", |_| true);
        let status = &update["status"];
        framework.must(json!({"type": "ACKNOWLEDGE", "acknowledge": {
            "agent_id": status["agent_id"], "task_id": status["task_id"], "uuid": status["uuid"],
        }}));
        match status["state"].as_str() {
            Some("TASK_STARTING" | "TASK_RUNNING") => {}
            Some("TASK_FINISHED") => {
                let id = status["task_id"]["value"].to_string();
                assert!(ended.insert(id), "ended twice: {status}");
            }
            _ => panic!("a task was lost: {status}"),
        }
    }
}

#[test]
fn hundreds_of_followers_register_run_tasks_and_come_back_to_a_restarted_leader() {
    let mut cluster = leader();
    let flags = [
        "--task_duration=100ms",
        "--per_address=2",
        "--registration_backoff_factor=200ms",
    ];
    let emulator = Emulator::start(cluster.leader, FOLLOWERS, &flags);
    emulator.all_registered(PATIENCE);
    let before = active(&cluster);
    assert_eq!(before.len(), FOLLOWERS);

    let mut framework = Framework::subscribe(cluster.leader, "crowd");
    run_tasks(&mut framework, FOLLOWERS);
    let said = emulator.wait("end of all tasks", PATIENCE, |said| said["tasks_now"] == 0);
    assert_eq!(said["tasks"], FOLLOWERS);
    assert_eq!(said["tasks_finished"], FOLLOWERS);
    assert_eq!(said["acknowledgements"], 3 * FOLLOWERS);
    assert_eq!(said["messages_unknown"], 0);
    drop(framework);

    cluster.kill(Part::Leader);
    emulator.wait("loss of all links", PATIENCE, |said| {
        said["registered"] == 0
    });
    cluster.restart(Part::Leader);
    emulator.wait("return of all", PATIENCE, |said| {
        said["registered"] == FOLLOWERS
    });
    assert!(
        eventually(PATIENCE, || active(&cluster) == before),
        "{:?}",
        active(&cluster)
    );
    let report = emulator.stop();
    assert_eq!(report["registrations"], FOLLOWERS);
    assert!(
        report["reregistrations"].as_u64() >= Some(FOLLOWERS as u64),
        "{report}"
    );
    assert_eq!(report["shut_down"], 0);
}

#[test]
fn hostile_peers_keep_nobody_from_registering_and_running_tasks() {
    let mut cluster = leader();
    let attacks = [
        Attack::Flood,
        Attack::Deaf,
        Attack::Garbage,
        Attack::Huge,
        Attack::Stalled,
    ];
    let attackers: Vec<Attacker> = attacks
        .iter()
        .map(|attack| Attacker::start(*attack, cluster.leader))
        .collect();
    assert!(eventually(PATIENCE, || attackers
        .iter()
        .all(|attacker| attacker.bytes_sent() > 0)));

    let emulator = Emulator::start(cluster.leader, 100, &["--task_duration=0secs"]);
    emulator.all_registered(PATIENCE);
    let emulated = active(&cluster)
        .into_keys()
        .filter(|name| name.starts_with("emulated-"))
        .count();
    assert_eq!(emulated, 100);
    let mut framework = Framework::subscribe(cluster.leader, "besieged");
    run_tasks(&mut framework, 100);
    // Who floods and who sends garbage goes on to the end; who does not read is not read from either.
    let tireless = [&attackers[0], &attackers[2]];
    let sent = tireless.map(Attacker::bytes_sent);
    let go_on = || {
        let both = tireless.iter().zip(sent);
        both.into_iter()
            .all(|(attacker, before)| attacker.bytes_sent() > before)
    };
    assert!(eventually(PATIENCE, go_on));
    drop(attackers);
    assert!(cluster.serves());
    let report = emulator.stop();
    assert_eq!(
        (&report["registered"], &report["tasks_finished"]),
        (&json!(100), &json!(100)),
        "{report}"
    );
    assert_eq!(report["links_broken"], 0);
}

#[test]
fn emulated_followers_authenticate() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("a file can be written");
        path.display().to_string()
    };
    let cluster = Cluster::builder()
        .only(Part::Leader)
        .flag("authenticate_agents", "true")
        .flag("credentials", &write("credentials", "crowd secret\n"))
        .start();
    let right = format!("--credential={}", write("right", "crowd secret\n"));
    let emulator = Emulator::start(cluster.leader, 20, &["--per_address=4", &right]);
    emulator.all_registered(PATIENCE);
    assert_eq!(active(&cluster).len(), 20);
    let report = emulator.stop();
    assert!(report["authentications"].as_u64() >= Some(20), "{report}");

    let wrong = format!("--credential={}", write("wrong", "crowd guess\n"));
    let refused = Emulator::start(
        cluster.leader,
        5,
        &["--ip=127.96.0.1", "--hostname_prefix=wrong-", &wrong],
    );
    refused.wait("refusal of all", PATIENCE, |said| said["refused"] == 5);
    assert!(
        active(&cluster)
            .into_keys()
            .all(|name| !name.starts_with("wrong-"))
    );
}
