//! `tepui explain` and `tepui simulate`, as an operator types them: who hoards is named, and what is suggested helps.

use serde_json::json;
use tepui_tests::cluster::Cluster;
use tepui_tests::commands::{Outcome, run_with};
use tepui_tests::scheduler::Framework;

fn ask(cluster: &Cluster, arguments: &[&str]) -> Outcome {
    let leader = cluster.leader.to_string();
    run_with(arguments, &[("TEPUI_LEADER", &leader)])
}

fn cluster() -> Cluster {
    Cluster::builder()
        .flag("resources", "cpus:4;mem:1024")
        .start()
}

#[test]
fn who_hoards_is_named_and_what_is_suggested_brings_the_offer() {
    let cluster = cluster();
    let mut hoarder = Framework::subscribe(cluster.leader, "hoarder");
    let offer = hoarder.offer();
    let mut waiting = Framework::subscribe(cluster.leader, "waiting");
    let arguments = ["explain", "waiting", "--resources", "cpus:1;mem:64"];
    let said = ask(&cluster, &arguments).expect(0).stdout;
    let hoarder_id = &hoarder.id;
    for part in [
        "No offer of cpus:1; mem:64 for framework",
        "(waiting) in role '*': held in offers by",
        "  1 of 1 followers: held in offers by",
        &format!("  ✓ have framework {hoarder_id} (hoarder) return its offers of follower"),
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let json = [&arguments[..], &["--json"]].concat();
    let document = ask(&cluster, &json).expect(0).json();
    let holder = &document["answers"][0]["causes"][0]["holders"][0];
    assert_eq!(holder["framework"]["name"], "hoarder");
    hoarder.must(json!({"type": "DECLINE", "decline": {
        "offer_ids": [offer["id"]], "filters": {"refuse_seconds": 600}}}));
    waiting.offer();
    let said = ask(&cluster, &arguments).expect(0).stdout;
    assert!(
        said.contains("(waiting) holds offers in role '*'"),
        "{said}"
    );
}

#[test]
fn questions_that_make_no_sense_are_refused_with_a_word() {
    let cluster = cluster();
    let fails = |status: i32, arguments: &[&str], expected: &str| {
        let said = ask(&cluster, arguments).expect(status).stderr;
        assert!(said.contains(expected), "{arguments:?}: {said}");
    };
    fails(2, &["explain"], "name a framework, or a --role");
    fails(1, &["explain", "nobody"], "There is no framework nobody");
    fails(
        1,
        &["explain", "--role", "eng", "--resources", "cpus=1"],
        "resources: 'cpus=1' is not NAME:AMOUNT",
    );
    fails(2, &["simulate"], "nothing to simulate");
    fails(
        2,
        &["simulate", "--weight", "eng"],
        "'eng' is not ROLE=WEIGHT",
    );
    fails(
        2,
        &["simulate", "--demand", "eng:1"],
        "'eng:1' is not ROLE:RESOURCES:COUNT",
    );
}

#[test]
fn a_simulation_says_how_many_tasks_find_a_place() {
    let cluster = cluster();
    let said = ask(
        &cluster,
        &[
            "simulate",
            "--add-followers",
            "2:cpus:4;mem:1024",
            "--quota",
            "eng=cpus:10",
            "--demand",
            "eng:cpus:1;mem:64:20",
        ],
    )
    .expect(0)
    .stdout;
    for part in [
        "If: add 2 followers with cpus:4; mem:1024 each",
        "If: set the quota of role 'eng' to a limit of cpus:10",
        "10 of 20 tasks of cpus:1; mem:64 in role 'eng' find a place, on 3 followers",
        "The next one does not:",
        "  No offer of cpus:1; mem:64 for a new framework in role 'eng': the quota of role 'eng' is exhausted",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
}
