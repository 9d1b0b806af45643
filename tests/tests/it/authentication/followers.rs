//! Real followers that have to prove who they are, and tasks on them.

use std::time::Duration;

use serde_json::json;
use tepui_tests::cluster::{Cluster, Part};
use tepui_tests::commands;
use tepui_tests::http::{Request, send};
use tepui_tests::libprocess::Peer;
use tepui_tests::programs::{Runtime, python2, run};
use tepui_tests::wait::eventually;

use super::client::{Outcome, authenticate};
use super::{Files, STRICT, follower_of, frameworks, leader_with, logged, registered};
use crate::drivers::libmesos::{Driver, SOON, command, description};

const PATIENCE: Duration = Duration::from_secs(20);

fn pid_of(follower: &Cluster) -> String {
    format!("slave(1)@{}", follower.follower)
}

#[test]
fn an_authenticated_driver_runs_a_task_on_an_authenticated_follower() {
    let files = Files::new();
    let leader = leader_with(&files, &STRICT);
    let follower = follower_of(&leader)
        .flag("credential", &files.credential("follower", "f-secret"))
        .start();
    let pid = pid_of(&follower);
    assert!(
        eventually(SOON, || registered(&leader).contains(&pid)),
        "{}",
        leader.logs()
    );
    let peer = Peer::new();
    let mut driver = Driver::new(&peer, leader.leader);
    let outcome = authenticate(&peer, leader.leader, &driver.pid(), "marathon", "m-secret");
    assert_eq!(outcome, Outcome::Completed);
    driver.subscribe(&description("authenticated"));
    let (offer, _) = driver.offer();
    driver.launch(&offer, vec![command("task", &offer, "exit 0")]);
    driver.until("task", "TASK_FINISHED");
    driver.call(json!({"type": "TEARDOWN"}));
    assert!(eventually(SOON, || frameworks(&leader).is_empty()));
    // The challenge is the only thing about it that goes around.
    for log in [
        leader.process(Part::Leader).log(),
        follower.process(Part::Follower).log(),
    ] {
        assert!(!log.contains("-secret"), "{log}");
    }
}

#[test]
fn a_follower_that_is_refused_ends() {
    let files = Files::new();
    let leader = leader_with(&files, &STRICT);
    for (principal, secret) in [("follower", "not-the-secret"), ("stranger", "f-secret")] {
        let flags = [
            format!("--master={}", leader.leader),
            "--ip=127.0.0.1".to_owned(),
            "--port=0".to_owned(),
            format!("--work_dir={}", files.folder.path().join("work").display()),
            format!("--credential={}", files.credential(principal, secret)),
        ];
        let arguments = [&["follower"][..], &flags.each_ref().map(String::as_str)].concat();
        let ended = commands::run(&arguments);
        assert!(ended.code.is_some_and(|code| code != 0), "{ended:?}");
        let said = format!("{}{}", ended.stdout, ended.stderr);
        assert!(said.contains("refused authentication"), "{ended:?}");
        assert!(!said.contains("-secret"), "{ended:?}");
        assert_eq!(registered(&leader), Vec::<String>::new());
    }
}

#[test]
fn a_follower_without_a_credential_is_not_let_in_and_goes_on_trying() {
    let files = Files::new();
    let leader = leader_with(&files, &STRICT);
    let follower = follower_of(&leader)
        .flag("registration_backoff_factor", "50ms")
        .start();
    let refused = format!(
        "Refused the registration of the follower at {}: it is not authenticated",
        pid_of(&follower)
    );
    let times = || {
        let log = leader.process(Part::Leader).log();
        log.matches(&refused).count()
    };
    assert!(eventually(PATIENCE, || times() >= 3), "{}", leader.logs());
    assert_eq!(registered(&leader), Vec::<String>::new());
    assert!(logged(&follower, Part::Follower, "The leader is"));
}

#[test]
fn a_follower_proves_who_it_is_again_to_a_leader_that_was_restarted() {
    let files = Files::new();
    let mut leader = leader_with(&files, &STRICT);
    let follower = follower_of(&leader)
        .flag("credential", &files.credential("follower", "f-secret"))
        .start();
    let pid = pid_of(&follower);
    assert!(eventually(SOON, || registered(&leader).contains(&pid)));
    leader.kill(Part::Leader);
    leader.restart(Part::Leader);
    let serves = || {
        send(leader.leader, &Request::get("/health")).is_ok_and(|response| response.status == 200)
    };
    assert!(eventually(PATIENCE, serves), "{}", leader.logs());
    assert!(
        eventually(PATIENCE, || registered(&leader).contains(&pid)),
        "{}\n{}",
        leader.logs(),
        follower.logs()
    );
}

#[test]
fn pymesos_v0_which_cannot_prove_who_it_is_is_told_so() {
    if python2().is_none() {
        return;
    }
    let files = Files::new();
    let leader = leader_with(&files, &STRICT);
    let program = "pymesos_v0_scheduler.py";
    let summary = run(
        Runtime::Python2,
        program,
        leader.leader,
        &["commands", "1"],
        3 * PATIENCE,
    );
    let error = summary["errors"][0].as_str().unwrap_or_default();
    assert!(
        error.starts_with("Framework at scheduler@") && error.ends_with(" is not authenticated"),
        "{summary}"
    );
    assert_eq!(summary["registered"], 0, "{summary}");
}

#[test]
fn leader_and_follower_of_one_process_prove_themselves_too() {
    let files = Files::new();
    let cluster = Cluster::builder()
        .leader_flag("credentials", &files.credentials())
        .leader_flag("authenticate_agents", "true")
        .leader_flag("authenticate_frameworks", "true")
        .follower_flag("credential", &files.credential("follower", "f-secret"))
        .start();
    let authenticated = format!("{} is authenticated as 'follower'", pid_of(&cluster));
    assert!(logged(&cluster, Part::Mixed, &authenticated));
    let peer = Peer::new();
    let mut driver = Driver::new(&peer, cluster.leader);
    let pid = driver.pid();
    let outcome = authenticate(&peer, cluster.leader, &pid, "marathon", "m-secret");
    assert_eq!(outcome, Outcome::Completed);
    driver.subscribe(&description("authenticated"));
    let (offer, _) = driver.offer();
    driver.launch(&offer, vec![command("task", &offer, "exit 0")]);
    driver.until("task", "TASK_FINISHED");
}
