//! `tepui drain`, `deactivate`, `reactivate` and `maintenance`, as an operator types them.

use tepui_tests::cluster::Cluster;
use tepui_tests::commands::{Outcome, run, run_with};
use tepui_tests::scheduler::{Framework, command_task, launch};

fn ask(cluster: &Cluster, arguments: &[&str]) -> Outcome {
    let leader = cluster.leader.to_string();
    run_with(arguments, &[("TEPUI_LEADER", &leader)])
}

#[test]
fn a_follower_is_drained_deactivated_and_reactivated_by_the_names_people_use() {
    let cluster = Cluster::mixed();
    let mut framework = Framework::subscribe(cluster.leader, "moves");
    let offer = framework.offer();
    let id = offer["agent_id"]["value"].as_str().unwrap_or_default();
    let hostname = offer["hostname"].as_str().unwrap_or_default();
    framework.must(launch(
        &offer,
        vec![command_task("long", &offer, "sleep 1000")],
    ));
    framework.until("long", "TASK_RUNNING");

    let state = |cluster: &Cluster| {
        let listed = ask(cluster, &["agents"]).expect(0).stdout;
        let line = listed.lines().nth(1).unwrap_or_default().to_owned();
        line.split("  ").nth(1).unwrap_or_default().to_owned()
    };
    let said = ask(&cluster, &["deactivate", hostname]).expect(0).stdout;
    assert!(
        said.starts_with(&format!("{id} ({hostname}) is deactivated")),
        "{said}"
    );
    assert_eq!(state(&cluster), "deactivated");
    let said = ask(&cluster, &["reactivate", "S0"]).expect(0).stdout;
    assert_eq!(said, format!("{id} ({hostname}) is reactivated\n"));
    assert_eq!(state(&cluster), "active");
    let refused = ask(&cluster, &["reactivate", id]).expect(1);
    assert!(
        refused.stderr.contains("Agent is not deactivated"),
        "{refused:?}"
    );

    let said = ask(&cluster, &["drain", "S0", "--max-grace", "1secs"])
        .expect(0)
        .stdout;
    assert_eq!(
        said,
        format!("Draining {id} ({hostname}): 1 task to end, each within 1secs\n")
    );
    framework.until("long", "TASK_KILLED");
    let said = ask(&cluster, &["drain", "--wait", "S0"]).expect(0).stdout;
    assert!(
        said.ends_with(&format!("{id} ({hostname}) is drained\n")),
        "{said}"
    );
    assert_eq!(state(&cluster), "drained");
    let back = ask(&cluster, &["reactivate", "S0"]).expect(0).stdout;
    assert!(back.ends_with("is reactivated\n"), "{back}");

    let nobody = ask(&cluster, &["drain", "nobody"]).expect(1);
    assert!(nobody.stderr.contains("`tepui agents` lists"), "{nobody:?}");
    let bad = ask(&cluster, &["drain", "S0", "--max-grace", "soon"]).expect(2);
    assert!(bad.stderr.contains("'soon' is no duration"), "{bad:?}");
}

#[test]
fn windows_are_planned_shown_and_taken_back() {
    let cluster = Cluster::mixed();
    let follower = &cluster.json("/slaves")["slaves"][0];
    let hostname = follower["hostname"].as_str().unwrap_or_default();
    let here = format!("{hostname},{}", cluster.follower.ip());
    let plan = |arguments: &[&str]| {
        let all = [&["maintenance", "schedule"], arguments].concat();
        ask(&cluster, &all)
    };
    assert_eq!(plan(&[]).expect(0).stdout, "Nothing is planned.\n");
    let add = [
        "--add",
        "S0",
        "--start",
        "2026-12-24T18:00Z",
        "--for",
        "2hrs",
    ];
    let shown = plan(&add).expect(0).stdout;
    let expected = format!("2026-12-24T18:00:00Z  2hrs  {here}");
    assert!(shown.contains(&expected), "{shown}");
    assert_eq!(plan(&[]).expect(0).stdout, shown);
    let twice = plan(&add).expect(1);
    assert!(twice.stderr.contains("--remove"), "{twice:?}");
    let two = plan(&["--add", "other.test,10.0.0.9"]).expect(0).stdout;
    assert!(two.contains("ever  other.test,10.0.0.9"), "{two}");
    let status = ask(&cluster, &["maintenance", "status"]).expect(0).stdout;
    assert!(
        status.contains(&here) && status.contains("draining"),
        "{status}"
    );

    let down = ask(&cluster, &["maintenance", "down", "other.test,10.0.0.9"]);
    assert_eq!(down.expect(0).stdout, "other.test,10.0.0.9 is down\n");
    let status = ask(&cluster, &["maintenance", "status"]).expect(0).stdout;
    assert!(status.contains("down"), "{status}");
    let refused = plan(&["--remove", "other.test,10.0.0.9"]).expect(1);
    assert!(
        refused
            .stderr
            .contains("cannot be removed from the schedule"),
        "{refused:?}"
    );
    let up = ask(&cluster, &["maintenance", "up", "OTHER.test,10.0.0.9"]);
    assert_eq!(up.expect(0).stdout, "OTHER.test,10.0.0.9 is up\n");
    let json = plan(&["--json"]).expect(0).json();
    assert_eq!(json["windows"].as_array().map(Vec::len), Some(1));

    let file = cluster.folder().join("plan.json");
    std::fs::write(&file, json.to_string()).expect("a file");
    let file = file.display().to_string();
    assert_eq!(plan(&["--clear"]).expect(0).stdout, "Nothing is planned.\n");
    assert_eq!(plan(&["--set", &file]).expect(0).stdout, shown);
    assert_eq!(
        plan(&["--remove", "S0"]).expect(0).stdout,
        "Nothing is planned.\n"
    );
    let absent = plan(&["--remove", "S0"]).expect(1);
    assert!(
        absent.stderr.contains("is not in the schedule"),
        "{absent:?}"
    );
    let bad = plan(&["--add", "S0", "--start", "soon"]).expect(2);
    assert!(bad.stderr.contains("'soon' is no moment"), "{bad:?}");
}

#[test]
fn help_shows_examples() {
    for command in [
        &["drain", "--help"][..],
        &["reactivate", "--help"],
        &["maintenance", "schedule", "--help"],
        &["maintenance", "down", "--help"],
    ] {
        let help = run(command).expect(0).stdout;
        assert!(help.contains("Example"), "{help}");
    }
}
