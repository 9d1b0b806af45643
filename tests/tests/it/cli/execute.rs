//! `tepui execute` and `mesos-execute` against a cluster.

use serde_json::json;
use tepui_tests::cluster::Cluster;
use tepui_tests::commands::{Outcome, link, run, run_with, start_program};

/// Runs `tepui execute` against a cluster; asserts status and output.
fn check(cluster: &Cluster, arguments: &[&str], code: i32, stdout: &str, stderr: &str) {
    let outcome = execute(cluster, arguments);
    let said = (
        outcome.code,
        outcome.stdout.as_str(),
        outcome.stderr.as_str(),
    );
    assert_eq!(said, (Some(code), stdout, stderr), "{arguments:?}");
}

fn execute(cluster: &Cluster, arguments: &[&str]) -> Outcome {
    let master = format!("--master={}", cluster.leader);
    run(&[&["execute", &master], arguments].concat())
}

#[test]
fn commands_run_with_their_options() {
    let cluster = Cluster::mixed();
    check(
        &cluster,
        &["echo out; echo err >&2; exit 6"],
        6,
        "out\n",
        "err\n",
    );
    check(&cluster, &["--command=kill -KILL $$"], 137, "", "");
    // Without a shell nothing is expanded.
    check(
        &cluster,
        &["--no-shell", "--command=echo $HOME a"],
        0,
        "$HOME a\n",
        "",
    );
    check(
        &cluster,
        &["--shell=false", "--", "echo", "two  spaces", "*"],
        0,
        "two  spaces *\n",
        "",
    );
    let env = r#"--env={"GREETING": "hello world"}"#;
    check(&cluster, &[env, "echo $GREETING"], 0, "hello world\n", "");
    let file = cluster.folder().join("env.json");
    std::fs::write(&file, r#"{"GREETING": "from a file"}"#).expect("our folder");
    let env = format!("--env=file://{}", file.display());
    check(&cluster, &[&env, "echo $GREETING"], 0, "from a file\n", "");
    for content_type in ["json", "protobuf"] {
        let flag = format!("--content_type={content_type}");
        check(
            &cluster,
            &[&flag, "--name=one", "echo $MESOS_EXECUTOR_ID"],
            0,
            "one\n",
            "",
        );
    }
    // Where the leader is may stand in the environment.
    let leader = cluster.leader.to_string();
    let outcome = run_with(&["execute", "echo found"], &[("MESOS_MASTER", &leader)]).expect(0);
    assert_eq!(outcome.stdout, "found\n");
}

#[test]
fn a_task_is_killed_after_its_time() {
    let cluster = Cluster::mixed();
    let arguments = ["--kill_after=300ms", "echo up; exec sleep 3600"];
    check(&cluster, &arguments, 128 + 15, "up\n", "");
}

#[test]
fn tasks_and_groups_run_as_they_are_described() {
    let cluster = Cluster::mixed();
    let resources = json!([
        {"name": "cpus", "type": "SCALAR", "scalar": {"value": 0.1}},
        {"name": "mem", "type": "SCALAR", "scalar": {"value": 32}},
    ]);
    let task = |id: &str, command: &str| {
        json!({
            "name": id, "task_id": {"value": id}, "agent_id": {"value": ""},
            "resources": resources, "command": {"value": command},
        })
    };
    let described = task("described", "echo task $MESOS_EXECUTOR_ID; exit 2").to_string();
    check(
        &cluster,
        &[&format!("--task={described}")],
        2,
        "task described\n",
        "",
    );
    let file = cluster.folder().join("task.json");
    std::fs::write(&file, &described).expect("our folder");
    for path in [
        format!("file://{}", file.display()),
        file.display().to_string(),
    ] {
        check(
            &cluster,
            &[&format!("--task={path}")],
            2,
            "task described\n",
            "",
        );
    }
    let group = json!({"tasks": [task("one", "echo one"), task("two", "echo two >&2")]});
    check(
        &cluster,
        &[&format!("--task_group={group}")],
        0,
        "one\n",
        "two\n",
    );
    let group = json!({"tasks": [task("fails", "exit 9"), task("waits", "exec sleep 3600")]});
    check(&cluster, &[&format!("--task_group={group}")], 9, "", "");
}

#[test]
fn options_that_make_no_job_are_refused() {
    for (arguments, wanted) in [
        (
            &[][..],
            "one of --command, --task and --task_group is needed",
        ),
        (
            &["--command=a", "--task={}"],
            "--command and --task exclude each other",
        ),
        (&["--task={}"], "--task: "),
        (
            &["--task_group={\"tasks\": []}"],
            "--task_group: it holds no task",
        ),
        (&["--env=[]", "true"], "--env: it is not a JSON object"),
        (&["--content_type=xml", "true"], "content_type"),
        (
            &["--comand=a"],
            "unknown flag '--comand' (did you mean '--command'?)",
        ),
        (&["--kill_after=soon", "true"], "'--kill_after'"),
        (&["--master=zk://a", "true"], "ZooKeeper"),
    ] {
        let outcome = run(&[&["execute"], arguments].concat());
        assert_ne!(outcome.code, Some(0), "{arguments:?}");
        assert!(
            outcome.stderr.contains(wanted),
            "{arguments:?}: {outcome:?}"
        );
        assert_eq!(outcome.stdout, "", "{arguments:?}");
    }
}

#[test]
fn as_mesos_execute_it_says_what_mesos_execute_says() {
    let cluster = Cluster::mixed();
    let program = link(cluster.folder(), "mesos-execute");
    let master = format!("--master={}", cluster.leader);
    let arguments = [&master, "--name=job", "--command=exit 3"];
    let outcome = start_program(&program, &arguments, &[], |_| ())
        .wait()
        .expect(3);
    let state = cluster.json("/state");
    let framework = state["completed_frameworks"][0]["id"]
        .as_str()
        .unwrap_or_default();
    let agent = state["slaves"][0]["id"].as_str().unwrap_or_default();
    let wanted = [
        format!("Subscribed with ID {framework}"),
        format!("Submitted task 'job' to agent '{agent}'"),
        "Received status update TASK_STARTING for task 'job'".to_owned(),
        "  source: SOURCE_EXECUTOR".to_owned(),
        "Received status update TASK_RUNNING for task 'job'".to_owned(),
        "  source: SOURCE_EXECUTOR".to_owned(),
        "Received status update TASK_FAILED for task 'job'".to_owned(),
        "  message: 'Command exited with status 3'".to_owned(),
        "  source: SOURCE_EXECUTOR".to_owned(),
    ];
    assert_eq!(outcome.stdout.lines().collect::<Vec<_>>(), wanted);
    assert_eq!(outcome.stderr, "");

    let task = |id: &str| {
        json!({
            "name": id, "task_id": {"value": id}, "agent_id": {"value": ""}, "command": {"value": "exec sleep 3600"},
            "resources": [
                {"name": "cpus", "type": "SCALAR", "scalar": {"value": 0.1}},
                {"name": "mem", "type": "SCALAR", "scalar": {"value": 32}},
            ],
        })
    };
    let group = format!(
        "--task_group={}",
        json!({"tasks": [task("one"), task("two")]})
    );
    let arguments = [&master, "--name=group", &group, "--kill_after=200ms"];
    let outcome = start_program(&program, &arguments, &[], |_| ())
        .wait()
        .expect(143);
    for line in [
        format!("Submitted task group with tasks [ one, two ] to agent '{agent}'"),
        format!("Asked to kill task 'one' on agent '{agent}'"),
        format!("Asked to kill task 'two' on agent '{agent}'"),
        "Received status update TASK_KILLED for task 'two'".to_owned(),
    ] {
        assert!(
            outcome.stdout.lines().any(|said| said == line),
            "{line}: {outcome:?}"
        );
    }
}
