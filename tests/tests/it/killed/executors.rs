//! Executors, tasks, and what holds them are killed: their tasks fail with the reason why, and nothing is left of them.

use serde_json::{Value, json};
use tepui_tests::cluster::{Cluster, Part};
use tepui_tests::processes::{children, kill, lives, marked, new_mark, parent};
use tepui_tests::scheduler::{Framework, command_task, launch};
use tepui_tests::wait::eventually;

use super::{
    PATIENCE, assert_listed, assert_nothing_left, assert_nothing_used, assert_status, custom_task,
    environment, marked_task, wait_for_processes,
};

/// A command that leaves daemons behind, in sessions of their own and deaf to polite signals, and then waits.
const FORKING: &str = "setsid sh -c 'trap \"\" TERM HUP; sleep 3600; true' & (setsid sleep 3600 &) ; nohup sleep 3600 & exec sleep 3600";

/// The one marked process whose parent is not marked.
fn eldest(mark: &str) -> i32 {
    let all = marked(mark);
    let eldest: Vec<i32> = all
        .iter()
        .copied()
        .filter(|id| {
            parent(*id)
                .is_some_and(|parent| !all.contains(&parent) && commands(parent).contains(id))
        })
        .collect();
    let [eldest] = eldest[..] else {
        panic!("{eldest:?} of {all:?} have parents without the mark");
    };
    eldest
}

/// The child that an init was made for is its oldest.
fn commands(init: i32) -> Vec<i32> {
    children(init.unsigned_abs())
        .into_iter()
        .min()
        .into_iter()
        .collect()
}

#[test]
fn a_killed_custom_executor_fails_its_tasks() {
    let cluster = Cluster::mixed();
    let mark = new_mark();
    let mut framework = Framework::subscribe(cluster.leader, "watching");
    let offer = framework.offer();
    framework.must(launch(
        &offer,
        vec![
            custom_task("one", &offer, "own", &mark),
            custom_task("two", &offer, "own", &mark),
        ],
    ));
    framework.until("one", "TASK_RUNNING");
    framework.until("two", "TASK_RUNNING");
    wait_for_processes(&mark, 3);

    kill(eldest(&mark));
    for task in ["one", "two"] {
        let status = framework.until(task, "TASK_FAILED");
        assert_status(
            &status,
            "TASK_FAILED",
            "SOURCE_AGENT",
            "REASON_EXECUTOR_TERMINATED",
            "Executor terminated",
        );
        assert_eq!(status["executor_id"]["value"], "own");
        assert_eq!(status["agent_id"], offer["agent_id"]);
        assert_listed(
            &cluster,
            "completed_tasks",
            task,
            "TASK_FAILED",
            "REASON_EXECUTOR_TERMINATED",
        );
    }
    let failure = framework.wait_for("FAILURE", |_| true);
    assert_eq!(
        failure,
        json!({"agent_id": offer["agent_id"], "executor_id": {"value": "own"}, "status": 9})
    );
    assert_nothing_left(&mark);
    assert_nothing_used(&cluster);
}

#[test]
fn a_killed_init_takes_its_custom_executor_along() {
    let cluster = Cluster::mixed();
    let mark = new_mark();
    let mut framework = Framework::subscribe(cluster.leader, "watching");
    let offer = framework.offer();
    framework.must(launch(
        &offer,
        vec![custom_task("one", &offer, "own", &mark)],
    ));
    framework.until("one", "TASK_RUNNING");
    wait_for_processes(&mark, 2);

    kill(parent(eldest(&mark)).expect("the executor has an init"));
    let status = framework.until("one", "TASK_FAILED");
    assert_status(
        &status,
        "TASK_FAILED",
        "SOURCE_AGENT",
        "REASON_EXECUTOR_TERMINATED",
        "Executor terminated",
    );
    let failure = framework.wait_for("FAILURE", |_| true);
    assert_eq!(failure["executor_id"]["value"], "own");
    // Nobody was left to say how it ended.
    assert_eq!(failure["status"], -1);
    assert_nothing_left(&mark);
    assert_nothing_used(&cluster);
}

#[test]
fn a_killed_task_fails_and_its_daemons_go_with_it() {
    let cluster = Cluster::mixed();
    let mark = new_mark();
    let mut framework = Framework::subscribe(cluster.leader, "watching");
    let offer = framework.offer();
    framework.must(launch(
        &offer,
        vec![marked_task("forking", &offer, FORKING, &mark)],
    ));
    framework.until("forking", "TASK_RUNNING");
    wait_for_processes(&mark, 5);

    kill(eldest(&mark));
    let status = framework.until("forking", "TASK_FAILED");
    assert_status(
        &status,
        "TASK_FAILED",
        "SOURCE_EXECUTOR",
        // The reference's command executor names no reason (`reaped` in `src/launcher/executor.cpp`).
        Value::Null,
        "Command terminated with signal Killed",
    );
    assert_listed(
        &cluster,
        "completed_tasks",
        "forking",
        "TASK_FAILED",
        Value::Null,
    );
    assert_nothing_left(&mark);
    assert_nothing_used(&cluster);
}

#[test]
fn a_killed_init_takes_its_command_and_all_daemons_along() {
    let cluster = Cluster::mixed();
    let (mark, other) = (new_mark(), new_mark());
    let mut framework = Framework::subscribe(cluster.leader, "watching");
    let offer = framework.offer();
    framework.must(launch(
        &offer,
        vec![
            marked_task("forking", &offer, FORKING, &mark),
            marked_task("bystander", &offer, FORKING, &other),
        ],
    ));
    framework.until("forking", "TASK_RUNNING");
    framework.until("bystander", "TASK_RUNNING");
    wait_for_processes(&mark, 5);
    let bystanders = wait_for_processes(&other, 5);

    kill(parent(eldest(&mark)).expect("the command has an init"));
    let status = framework.until("forking", "TASK_FAILED");
    // The command executor is alive in the follower; its command's end was seen by nobody.
    assert_status(
        &status,
        "TASK_FAILED",
        "SOURCE_EXECUTOR",
        Value::Null,
        "Failed to get exit status for Command",
    );
    assert_nothing_left(&mark);
    assert!(
        bystanders.iter().all(|id| lives(*id)),
        "another task's processes are left alone"
    );
}

#[test]
fn a_killed_task_of_a_group_ends_the_group() {
    let cluster = Cluster::mixed();
    let (mark, other) = (new_mark(), new_mark());
    let mut framework = Framework::subscribe(cluster.leader, "watching");
    let offer = framework.offer();
    let executor = json!({
        "type": "DEFAULT", "executor_id": {"value": "group"}, "framework_id": {"value": framework.id},
        "resources": [
            {"name": "cpus", "type": "SCALAR", "scalar": {"value": 0.1}},
            {"name": "mem", "type": "SCALAR", "scalar": {"value": 32}},
            {"name": "disk", "type": "SCALAR", "scalar": {"value": 32}},
        ],
    });
    let member = |id: &str, mark: &str| {
        let mut task = command_task(id, &offer, FORKING);
        task["command"]["environment"] = environment(mark);
        task
    };
    framework.must(json!({"type": "ACCEPT", "accept": {
        "offer_ids": [offer["id"]],
        "operations": [{"type": "LAUNCH_GROUP", "launch_group": {
            "executor": executor,
            "task_group": {"tasks": [member("victim", &mark), member("neighbour", &other)]},
        }}],
        "filters": {"refuse_seconds": 0},
    }}));
    framework.until("victim", "TASK_RUNNING");
    framework.until("neighbour", "TASK_RUNNING");
    wait_for_processes(&mark, 5);
    wait_for_processes(&other, 5);

    kill(eldest(&mark));
    let status = framework.until("victim", "TASK_FAILED");
    assert_eq!(status["source"], "SOURCE_EXECUTOR");
    assert_eq!(status["message"], "Command terminated with signal Killed");
    // A group lives and dies together (`docs/nested-container-and-task-group.md`).
    let status = framework.until("neighbour", "TASK_KILLED");
    assert_eq!(status["source"], "SOURCE_EXECUTOR");
    assert_nothing_left(&mark);
    assert_nothing_left(&other);
    let failure = framework.wait_for("FAILURE", |_| true);
    assert_eq!(failure["executor_id"]["value"], "group");
    assert_nothing_used(&cluster);
}

#[test]
fn a_killed_launcher_ends_its_follower_and_every_container() {
    let mut cluster = Cluster::builder().apart().start();
    let mark = new_mark();
    let mut framework = Framework::subscribe(cluster.leader, "watching");
    let offer = framework.offer();
    framework.must(launch(
        &offer,
        vec![marked_task("forking", &offer, FORKING, &mark)],
    ));
    framework.until("forking", "TASK_RUNNING");
    wait_for_processes(&mark, 5);

    let launchers = children(cluster.process(Part::Follower).id());
    let [launcher] = launchers[..] else {
        panic!("a follower has one child, its launcher: {launchers:?}");
    };
    kill(launcher);
    let ended = cluster
        .wait_for_end(Part::Follower, PATIENCE)
        .expect("a follower cannot do without its launcher");
    assert_eq!(ended.code(), Some(1));
    let log = cluster.process(Part::Follower).log();
    assert!(log.contains("the launcher of containers ended"), "{log}");
    assert_nothing_left(&mark);
    // The command executor in the follower may or may not have got its last word out before the follower ended. If not: this
    // framework does not checkpoint, so what ran on a lost follower is lost.
    let status = framework.update("forking");
    match status["state"].as_str() {
        Some("TASK_LOST") => assert_eq!(status["reason"], "REASON_AGENT_DISCONNECTED", "{status}"),
        _ => assert_status(
            &status,
            "TASK_FAILED",
            "SOURCE_EXECUTOR",
            Value::Null,
            "Failed to get exit status for Command",
        ),
    }

    cluster.restart(Part::Follower);
    assert!(eventually(PATIENCE, || framework
        .wait_within(std::time::Duration::from_millis(200), "OFFERS", |_| true)
        .is_some()));
}
