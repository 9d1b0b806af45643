//! `tepui roles`, `quota`, `weights`, `reserve`, `unreserve` and `volume`, as an operator types them.

use serde_json::Value;
use tepui_tests::cluster::Cluster;
use tepui_tests::commands::{Outcome, run_with};
use tepui_tests::http::{Request, send};

fn ask(cluster: &Cluster, arguments: &[&str]) -> Outcome {
    let leader = cluster.leader.to_string();
    run_with(arguments, &[("TEPUI_LEADER", &leader)])
}

fn cluster() -> Cluster {
    Cluster::builder()
        .flag("resources", "cpus:4;mem:1024;disk:1000;ports:[31000-32000]")
        .start()
}

/// Says this, and succeeds.
fn says(cluster: &Cluster, arguments: &[&str], expected: &str) {
    let said = ask(cluster, arguments).expect(0).stdout;
    assert!(said.contains(expected), "{arguments:?}: {said}");
}

/// Fails with this on standard error.
fn fails(cluster: &Cluster, status: i32, arguments: &[&str], expected: &str) {
    let said = ask(cluster, arguments).expect(status).stderr;
    assert!(said.contains(expected), "{arguments:?}: {said}");
}

fn follower(cluster: &Cluster) -> Value {
    let slaves = send(cluster.leader, &Request::get("/slaves")).expect("the leader answers");
    slaves.json()["slaves"][0].clone()
}

#[test]
fn quotas_and_weights_are_set_listed_and_removed() {
    let cluster = cluster();
    says(
        &cluster,
        &[
            "quota",
            "set",
            "eng",
            "--guarantee",
            "cpus:2;mem:512",
            "--limit",
            "cpus:3;gpus:0",
        ],
        "eng is guaranteed cpus:2; mem:512 and limited to cpus:3; gpus:0\n",
    );
    let listed = ask(&cluster, &["quota", "list"]).expect(0).stdout;
    let line = listed.lines().nth(1).unwrap_or_default();
    let cells = line.split("  ").map(str::trim);
    let cells: Vec<&str> = cells.filter(|cell| !cell.is_empty()).collect();
    assert_eq!(cells, ["eng", "cpus:2; mem:512", "cpus:3; gpus:0", "{}"]);
    let too_much = ["quota", "set", "ops", "--guarantee", "cpus:3"];
    fails(&cluster, 1, &too_much, "exceed cluster capacity");
    let forced = [&too_much[..], &["--force"]].concat();
    says(&cluster, &forced, "ops is guaranteed cpus:3");
    fails(
        &cluster,
        2,
        &["quota", "set", "ops", "--limit", "many"],
        "'many' is no amounts",
    );
    says(
        &cluster,
        &["quota", "remove", "ops", "eng"],
        "eng has no quota\n",
    );
    let listed = ask(&cluster, &["quota", "list"]).expect(0).stdout;
    assert_eq!(listed.lines().count(), 1, "{listed}");

    says(
        &cluster,
        &["weights", "set", "eng=2", "ops=0.5"],
        "ops weighs 0.5\n",
    );
    let listed = ask(&cluster, &["weights", "list"]).expect(0).stdout;
    assert_eq!(listed, "ROLE  WEIGHT\neng   2\nops   0.5\n");
    fails(
        &cluster,
        2,
        &["weights", "set", "eng"],
        "'eng' is no weight",
    );
    fails(
        &cluster,
        1,
        &["weights", "set", "eng=-1"],
        "Weights must be positive",
    );
    let roles = ask(&cluster, &["roles"]).expect(0).stdout;
    assert!(roles.contains("eng   2       0"), "{roles}");
}

#[test]
fn resources_are_reserved_made_volumes_and_given_back() {
    let cluster = cluster();
    let reserve = [
        "reserve",
        "S0",
        "--role",
        "prod",
        "cpus:1;disk:200;ports:[31000-31009]",
    ];
    says(&cluster, &reserve, "is reserved for prod\n");
    let reserved = &follower(&cluster)["reserved_resources"]["prod"];
    assert_eq!(
        (&reserved["cpus"], &reserved["disk"]),
        (&1.0.into(), &200.0.into())
    );
    says(
        &cluster,
        &[
            "volume", "create", "S0", "--role", "prod", "db", "64", "--path", "data",
        ],
        "Volume db of 64 MB is on ",
    );
    says(
        &cluster,
        &["volume", "grow", "S0", "db", "36"],
        "is 36 MB larger\n",
    );
    says(
        &cluster,
        &["volume", "shrink", "S0", "db", "50"],
        "is 50 MB smaller\n",
    );
    let listed = ask(&cluster, &["volume", "list"]).expect(0).stdout;
    assert!(
        listed
            .lines()
            .nth(1)
            .is_some_and(|line| line.starts_with("db      prod  50")),
        "{listed}"
    );
    fails(
        &cluster,
        1,
        &["unreserve", "S0", "--role", "prod", "disk:200"],
        "no such disk:200 reserved for prod",
    );
    fails(
        &cluster,
        1,
        &["volume", "destroy", "S0", "nothing"],
        "there is no volume 'nothing'",
    );
    says(
        &cluster,
        &["volume", "destroy", "S0", "db"],
        "is destroyed\n",
    );
    let back = [
        "unreserve",
        "S0",
        "--role",
        "prod",
        "cpus:1;disk:200;ports:[31000-31009]",
    ];
    says(&cluster, &back, "is no longer reserved for prod\n");
    let follower = follower(&cluster);
    assert_eq!(follower["reserved_resources"], serde_json::json!({}));
    assert_eq!(follower["unreserved_resources"]["cpus"], 4.0);
    let unknown = ["reserve", "S0", "--role", "prod", "cpus:9"];
    fails(&cluster, 1, &unknown, "does not contain cpus:9");
}
