//! A follower is killed and started again: tasks, task groups and custom executors go on, what happened meanwhile is told
//! once, and nobody is told what is not so.

use base64::Engine as _;
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;
use tepui_tests::cluster::{Cluster, Part};
use tepui_tests::processes::{marked, new_mark};
use tepui_tests::scheduler::{Framework, command_task, launch};
use tepui_tests::wait::eventually;

use super::{
    PATIENCE, ask, assert_nothing_left, custom_task, environment, listed, marked_task,
    subscription, wait_for_processes,
};

/// A file that a task waits for, and a command that does.
fn gate(cluster: &Cluster, name: &str) -> (PathBuf, String) {
    let path = cluster.folder().join(name);
    let command = format!("until [ -e {0} ]; do sleep 0.05; done", path.display());
    (path, command)
}

fn subscribed(cluster: &Cluster, name: &str) -> Framework {
    Framework::subscribe_with(cluster.leader, &subscription(name, json!({})))
}

/// Kills the follower; what a task waits for happens; waits until only `left` of the marked processes are there; starts the
/// follower again.
fn meanwhile(cluster: &mut Cluster, gate: &PathBuf, mark: &str, left: usize) {
    cluster.kill(Part::Follower);
    fs::write(gate, "").expect("the gate opens");
    assert!(
        eventually(PATIENCE, || marked(mark).len() <= left),
        "{:?}",
        marked(mark)
    );
    cluster.restart(Part::Follower);
}

/// Nothing else has been told of a task. The same update may come twice: it is sent until it is acknowledged.
fn assert_told_once(framework: &mut Framework, last: &Value) {
    let update = framework.wait_within(std::time::Duration::ZERO, "UPDATE", |update| {
        let status = &update["status"];
        status["task_id"] == last["task_id"] && status["uuid"] != last["uuid"]
    });
    assert_eq!(update, None, "after {last}");
}

fn agents(cluster: &Cluster) -> Vec<Value> {
    let agents = ask(cluster, "GET_AGENTS");
    let ids = agents["agents"].as_array().into_iter().flatten();
    ids.map(|agent| agent["agent_info"]["id"]["value"].clone())
        .collect()
}

#[test]
fn command_tasks_go_on_and_what_ended_meanwhile_is_told_once() {
    let mut cluster = Cluster::builder().apart().start();
    let mark = new_mark();
    let (short_gate, short) = gate(&cluster, "short");
    let (long_gate, long) = gate(&cluster, "long");
    let mut framework = subscribed(&cluster, "commands");
    let offer = framework.offer();
    let failing = format!("{short}; exit 7");
    let tasks = vec![
        marked_task("short", &offer, &short, &mark),
        marked_task("failing", &offer, &failing, &mark),
        marked_task("long", &offer, &long, &mark),
    ];
    framework.must(launch(&offer, tasks));
    for task in ["short", "failing", "long"] {
        framework.until(task, "TASK_RUNNING");
    }
    let all = wait_for_processes(&mark, 3);
    meanwhile(&mut cluster, &short_gate, &mark, all.len() - 2);
    let short = framework.until("short", "TASK_FINISHED");
    assert_eq!(short["source"], "SOURCE_EXECUTOR");
    let failing = framework.until("failing", "TASK_FAILED");
    assert_eq!(failing["message"], "Command exited with status 7");
    assert!(listed(&cluster, "tasks", "long").is_some());
    // Killed once more: what was told is not told again.
    cluster.kill(Part::Follower);
    cluster.restart(Part::Follower);
    fs::write(long_gate, "").expect("the gate opens");
    let long = framework.until("long", "TASK_FINISHED");
    for last in [short, failing, long] {
        assert_told_once(&mut framework, &last);
    }
    assert_eq!(agents(&cluster).len(), 1);
    assert_eq!(agents(&cluster)[0], offer["agent_id"]["value"]);
    assert_nothing_left(&mark);
}

#[test]
fn a_task_group_goes_on_and_stays_one() {
    let mut cluster = Cluster::builder().apart().start();
    let mark = new_mark();
    let (gate, command) = gate(&cluster, "short");
    let mut framework = subscribed(&cluster, "groups");
    let offer = framework.offer();
    let task = |id: &str, command: &str| {
        let mut task = command_task(id, &offer, command);
        task["command"]["environment"] = environment(&mark);
        task
    };
    let executor = json!({
        "type": "DEFAULT", "executor_id": {"value": "pod"}, "framework_id": {"value": framework.id},
        "resources": [
            {"name": "cpus", "type": "SCALAR", "scalar": {"value": 0.1}},
            {"name": "mem", "type": "SCALAR", "scalar": {"value": 32}},
            {"name": "disk", "type": "SCALAR", "scalar": {"value": 32}},
        ],
    });
    let tasks = [
        task("short", &command),
        task("one", "exec sleep 3600"),
        task("two", "exec sleep 3600"),
    ];
    framework.must(json!({"type": "ACCEPT", "accept": {
        "offer_ids": [offer["id"]],
        "operations": [{"type": "LAUNCH_GROUP", "launch_group": {
            "executor": executor, "task_group": {"tasks": tasks},
        }}],
        "filters": {"refuse_seconds": 0},
    }}));
    for task in ["short", "one", "two"] {
        framework.until(task, "TASK_RUNNING");
    }
    wait_for_processes(&mark, 3);
    meanwhile(&mut cluster, &gate, &mark, 4);
    let short = framework.until("short", "TASK_FINISHED");
    // They still stand and fall together.
    framework.must(json!({"type": "KILL", "kill": {"task_id": {"value": "one"}}}));
    framework.until("one", "TASK_KILLED");
    framework.until("two", "TASK_KILLED");
    assert_told_once(&mut framework, &short);
    assert_nothing_left(&mark);
}

#[test]
fn a_v1_executor_subscribes_again_with_what_happened_meanwhile() {
    let mut cluster = Cluster::builder().apart().start();
    let mark = new_mark();
    let (gate, command) = gate(&cluster, "short");
    let mut framework = subscribed(&cluster, "custom");
    let offer = framework.offer();
    let mut short = custom_task("short", &offer, "own", &mark);
    short["data"] = base64::engine::general_purpose::STANDARD
        .encode(command)
        .into();
    let long = custom_task("long", &offer, "own", &mark);
    framework.must(launch(&offer, vec![short, long]));
    for task in ["short", "long"] {
        framework.until(task, "TASK_RUNNING");
    }
    let all = wait_for_processes(&mark, 3);
    meanwhile(&mut cluster, &gate, &mark, all.len() - 1);
    let short = framework.until("short", "TASK_FINISHED");
    framework.must(json!({"type": "KILL", "kill": {"task_id": {"value": "long"}}}));
    framework.until("long", "TASK_KILLED");
    assert_told_once(&mut framework, &short);
    assert_eq!(agents(&cluster), [offer["agent_id"]["value"].clone()]);
}

#[test]
fn after_a_reboot_tasks_are_reported_and_the_follower_is_the_one_it_was() {
    let mut cluster = Cluster::builder().apart().start();
    let mark = new_mark();
    let mut framework = subscribed(&cluster, "rebooted");
    let offer = framework.offer();
    let task = marked_task("task", &offer, "exec sleep 3600", &mark);
    framework.must(launch(&offer, vec![task]));
    framework.until("task", "TASK_RUNNING");
    cluster.kill(Part::Follower);
    let boot = cluster.folder().join("follower/meta/boot_id");
    assert!(fs::read_to_string(&boot).is_ok_and(|id| id.len() == 36));
    fs::write(boot, "0188bc4e-4f13-4a6c-a7a5-6d1b3cbb0f8f").expect("another boot");
    cluster.restart(Part::Follower);
    let status = framework.until("task", "TASK_FAILED");
    assert_eq!(status["source"], "SOURCE_AGENT");
    assert_eq!(status["reason"], "REASON_EXECUTOR_TERMINATED");
    assert_eq!(agents(&cluster), [offer["agent_id"]["value"].clone()]);
    assert_nothing_left(&mark);
}

#[test]
fn cleanup_ends_all_and_the_next_follower_is_another() {
    let mut cluster = Cluster::builder().apart().start();
    let mark = new_mark();
    let mut framework = subscribed(&cluster, "cleaned");
    let offer = framework.offer();
    let task = marked_task("task", &offer, "exec sleep 3600", &mark);
    framework.must(launch(&offer, vec![task]));
    framework.until("task", "TASK_RUNNING");
    cluster.kill(Part::Follower);
    cluster.restart_with(Part::Follower, &[("recover", "cleanup")]);
    let ended = cluster.wait_for_end(Part::Follower, PATIENCE);
    assert!(ended.is_some_and(|status| status.success()), "{ended:?}");
    assert_nothing_left(&mark);
    cluster.restart_with(Part::Follower, &[("recover", "reconnect")]);
    let status = framework.until("task", "TASK_LOST");
    assert_eq!(status["reason"], "REASON_AGENT_REMOVED");
    assert!(eventually(PATIENCE, || {
        let agents = agents(&cluster);
        agents.len() == 1 && agents[0] != offer["agent_id"]["value"]
    }));
}

#[test]
fn a_follower_with_other_resources_starts_where_what_runs_fits_and_says_what_does_not() {
    let mut cluster = Cluster::builder().apart().start();
    let mark = new_mark();
    let mut framework = subscribed(&cluster, "fitting");
    let offer = framework.offer();
    let task = marked_task("task", &offer, "exec sleep 3600", &mark);
    framework.must(launch(&offer, vec![task]));
    framework.until("task", "TASK_RUNNING");
    let before = wait_for_processes(&mark, 1);
    let more = "cpus:6;mem:8192;disk:9000;ports:[31000-32000]";
    let few = "cpus:6;mem:16;disk:9000;ports:[31000-32000]";
    let cases = [
        (more, "equal", "Resources changed from"),
        (
            more,
            "additive",
            "Value of scalar resource 'cpus' decreased",
        ),
        (few, "any", "task 'task' of framework"),
    ];
    cluster.kill(Part::Follower);
    for (resources, policy, text) in cases {
        let flags = [("resources", resources), ("reconfiguration_policy", policy)];
        cluster.restart_with(Part::Follower, &flags);
        let ended = cluster.wait_for_end(Part::Follower, PATIENCE);
        assert!(ended.is_some_and(|status| !status.success()), "{ended:?}");
        let log = cluster.process(Part::Follower).log();
        assert!(log.contains(text), "{text}: {log}");
    }
    assert_eq!(marked(&mark), before, "what runs is left alone");
    let flags = [
        ("resources", more),
        ("reconfiguration_policy", "any"),
        ("attributes", "rack:b"),
    ];
    cluster.restart_with(Part::Follower, &flags);
    let shown = || {
        let slaves = cluster.json("/slaves");
        let slave = &slaves["slaves"][0];
        slave["resources"]["cpus"] == 6.0 && slave["attributes"]["rack"] == "b"
    };
    assert!(eventually(PATIENCE, shown), "{}", cluster.json("/slaves"));
    assert_eq!(agents(&cluster), [offer["agent_id"]["value"].clone()]);
    framework.must(json!({"type": "KILL", "kill": {"task_id": {"value": "task"}}}));
    framework.until("task", "TASK_KILLED");
    assert_nothing_left(&mark);
}

#[test]
fn a_damaged_checkpoint_stops_a_strict_follower_and_costs_another_one_that_task() {
    let mut cluster = Cluster::builder().apart().start();
    let mark = new_mark();
    let mut framework = subscribed(&cluster, "damaged");
    let offer = framework.offer();
    let tasks = ["whole", "damaged"];
    let made = tasks.map(|id| marked_task(id, &offer, "exec sleep 3600", &mark));
    framework.must(launch(&offer, made.to_vec()));
    for task in tasks {
        framework.until(task, "TASK_RUNNING");
    }
    cluster.kill(Part::Follower);
    let agent = offer["agent_id"]["value"].as_str().unwrap_or_default();
    let executors = cluster
        .folder()
        .join("follower/meta/slaves")
        .join(agent)
        .join("frameworks")
        .join(&framework.id)
        .join("executors");
    let info = executors.join("damaged/executor.info");
    let bytes = fs::read(&info).expect("it was checkpointed");
    fs::write(&info, &bytes[..bytes.len() / 2]).expect("it is torn");
    cluster.restart(Part::Follower);
    let ended = cluster.wait_for_end(Part::Follower, PATIENCE);
    assert!(ended.is_some_and(|status| !status.success()), "{ended:?}");
    let log = cluster.process(Part::Follower).log();
    assert!(log.contains("executors/damaged/executor.info"), "{log}");

    cluster.restart_with(Part::Follower, &[("strict", "false")]);
    let status = framework.until("damaged", "TASK_GONE");
    let message = status["message"].as_str().unwrap_or_default();
    assert!(message.contains("executor.info"), "{status}");
    assert_eq!(status["source"], "SOURCE_AGENT");
    framework.must(json!({"type": "KILL", "kill": {"task_id": {"value": "whole"}}}));
    framework.until("whole", "TASK_KILLED");
    assert_nothing_left(&mark);
}

/// The short form of `measure restarts`: under load, with 20 tasks that live through all of it.
#[test]
fn five_restarts_under_load_lose_nothing_and_tell_nothing_twice() {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_measure"))
        .args(["restarts", "5"])
        .output()
        .expect("it can be started");
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n{errors}");
}
