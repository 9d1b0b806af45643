//! The operator's commands against a running cluster: tables for people, documents for programs.

use tepui_tests::cluster::Cluster;
use tepui_tests::commands::{Outcome, PATIENCE, run, run_with, start};
use tepui_tests::scheduler::{Framework, command_task, launch};
use tepui_tests::wait::eventually;

fn ask(cluster: &Cluster, arguments: &[&str]) -> Outcome {
    let leader = cluster.leader.to_string();
    run_with(arguments, &[("TEPUI_LEADER", &leader)])
}

/// The cells of the row that starts with `first`; cells are two or more spaces apart.
fn row(table: &str, first: &str) -> Vec<String> {
    let line = table
        .lines()
        .find(|line| line.split("  ").next() == Some(first))
        .unwrap_or_else(|| panic!("no row {first} in\n{table}"));
    line.split("  ")
        .map(str::trim)
        .filter(|cell| !cell.is_empty())
        .map(str::to_owned)
        .collect()
}

/// A cluster whose framework runs `long` until the file `done` is there; `short` ended with 4.
fn busy() -> (Cluster, Framework, String) {
    let cluster = Cluster::mixed();
    let mut framework = Framework::subscribe(cluster.leader, "busy");
    let offer = framework.offer();
    let done = cluster.folder().join("done");
    let long = format!(
        "echo begun; echo trouble >&2; until [ -e {} ]; do sleep 0.05; done; echo over",
        done.display()
    );
    framework.must(launch(
        &offer,
        vec![
            command_task("long", &offer, &long),
            command_task("short", &offer, "echo brief; exit 4"),
        ],
    ));
    framework.until("long", "TASK_RUNNING");
    framework.until("short", "TASK_FAILED");
    let agent = offer["agent_id"]["value"].as_str().unwrap_or_default();
    (cluster, framework, agent.to_owned())
}

#[test]
fn tables_show_the_cluster_and_json_is_the_api_s() {
    let (cluster, framework, agent) = busy();
    let id = framework.id.as_str();
    let listed = ask(&cluster, &["ps"]).expect(0).stdout;
    assert!(listed.starts_with("TASK  STATE "), "{listed}");
    let cells = row(&listed, "long");
    assert_eq!(cells[1], "running");
    assert_eq!(cells[3], id);
    assert!(cells[4].contains("cpus:0.1"), "{cells:?}");
    assert!(!listed.contains("short"), "{listed}");
    assert!(!listed.contains('\x1b'), "no colours in a pipe");
    let all = ask(&cluster, &["ps", "--all"]).expect(0).stdout;
    assert_eq!(row(&all, "short")[1], "failed");
    let json = ask(&cluster, &["ps", "--json"]).expect(0).json();
    assert_eq!(json["get_tasks"]["tasks"][0]["task_id"]["value"], "long");
    assert_eq!(
        json["get_tasks"]["completed_tasks"][0]["task_id"]["value"],
        "short"
    );

    let agents = ask(&cluster, &["agents"]).expect(0).stdout;
    let cells = row(&agents, &agent);
    assert_eq!(cells[1], "active");
    assert!(
        cells[2].ends_with(&cluster.follower.to_string()),
        "{cells:?}"
    );
    assert!(cells[4].contains("cpus:0.1"), "{cells:?}");
    assert!(cells[5].contains("cpus:8"), "{cells:?}");
    let json = ask(&cluster, &["agents", "--json"]).expect(0).json();
    assert_eq!(
        json["get_agents"]["agents"][0]["agent_info"]["id"]["value"],
        agent
    );

    let frameworks = ask(&cluster, &["frameworks"]).expect(0).stdout;
    let cells = row(&frameworks, id);
    assert_eq!(cells[1..3], ["active", "*"]);
    assert_eq!(cells.last().map(String::as_str), Some("busy"));
    let json = ask(&cluster, &["frameworks", "--json"]).expect(0).json();
    assert_eq!(
        json["get_frameworks"]["frameworks"][0]["framework_info"]["name"],
        "busy"
    );

    let state = ask(&cluster, &["state"]).expect(0).stdout;
    assert_eq!(row(&state, "followers")[1], "1 active of 1");
    assert_eq!(row(&state, "frameworks")[1], "1 active of 1");
    assert_eq!(row(&state, "tasks")[1], "1 failed, 1 running");
    assert!(
        row(&state, "leader")[1].ends_with(&cluster.leader.to_string()),
        "{state}"
    );
    assert_eq!(row(&state, "version")[1], "1.11.0");
    let json = ask(&cluster, &["--json", "state"]).expect(0).json();
    assert!(json["get_state"]["get_tasks"].is_object(), "{json}");

    let shown = ask(&cluster, &["task", "show", "short"]).expect(0).stdout;
    assert_eq!(row(&shown, "state")[1], "TASK_FAILED");
    assert_eq!(row(&shown, "framework")[1], id);
    assert_eq!(row(&shown, "follower")[1], agent);
    assert!(
        shown.contains("TASK_FAILED: Command exited with status 4"),
        "{shown}"
    );
    let json = ask(&cluster, &["task", "show", "long", "--json"])
        .expect(0)
        .json();
    assert_eq!(json["state"], "TASK_RUNNING");
}

#[test]
fn logs_are_read_and_followed_to_the_end() {
    let (cluster, mut framework, _) = busy();
    assert_eq!(
        ask(&cluster, &["logs", "short"]).expect(0).stdout,
        "brief\n"
    );
    assert_eq!(ask(&cluster, &["logs", "long"]).expect(0).stdout, "begun\n");
    let errors = ask(&cluster, &["logs", "--stderr", "long"]).expect(0);
    assert_eq!(
        (errors.stdout.as_str(), errors.stderr.as_str()),
        ("", "trouble\n")
    );

    let leader = cluster.leader.to_string();
    let following = start(
        &["logs", "-f", "long"],
        &[("TEPUI_LEADER", &leader)],
        |_| (),
    );
    assert!(
        eventually(PATIENCE, || following.stdout() == "begun\n"),
        "{}",
        following.stderr()
    );
    std::fs::write(cluster.folder().join("done"), "").expect("our folder");
    framework.until("long", "TASK_FINISHED");
    assert_eq!(following.wait().expect(0).stdout, "begun\nover\n");
}

#[test]
fn what_is_not_there_is_an_error_of_one_line() {
    let (cluster, _framework, _) = busy();
    for (arguments, wanted) in [
        (
            &["task", "show", "nothing"][..],
            "error: no task 'nothing'\n",
        ),
        (&["logs", "nothing"], "error: no task 'nothing'\n"),
        (&["kill", "nothing"], "error: no task 'nothing'\n"),
        (&["kill", "short"], "error: task 'short' ended already\n"),
        (
            &["task", "show", "long", "--framework=other"],
            "error: no task 'long'\n",
        ),
    ] {
        let outcome = ask(&cluster, arguments).expect(1);
        assert_eq!(outcome.stderr, wanted, "{arguments:?}");
        assert_eq!(outcome.stdout, "");
    }
    let nobody = run(&["ps", "--leader=127.0.0.1:1"]).expect(1);
    assert!(nobody.stderr.contains("127.0.0.1:1"), "{nobody:?}");
    assert_eq!(run(&["pss"]).code, Some(2));
    assert_eq!(run(&["ps", "--nonsense"]).code, Some(2));
    assert_eq!(run(&[]).code, Some(2));
}

#[test]
fn a_task_is_killed_with_its_container() {
    let (cluster, mut framework, _) = busy();
    let outcome = ask(&cluster, &["kill", "long"]).expect(0);
    assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("", ""));
    // The container of a command task is its executor's: to the framework it looks as if that had died.
    let status = framework.until("long", "TASK_FAILED");
    assert_eq!(status["source"], "SOURCE_AGENT");
    assert_eq!(status["reason"], "REASON_EXECUTOR_TERMINATED");
    assert_eq!(status["message"], "Executor terminated");
    let again = ask(&cluster, &["kill", "long"]).expect(1);
    assert_eq!(again.stderr, "error: task 'long' ended already\n");
}
