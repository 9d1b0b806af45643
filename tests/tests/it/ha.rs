//! Several leaders around real ZooKeeper servers: who leads, what the others answer, and that nothing is lost when the one
//! that leads is killed.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};
use tepui_tests::http::{Request, Response, send};
use tepui_tests::machines::Machines;
use tepui_tests::programs::{Runtime, start};
use tepui_tests::scheduler::{Framework, command_task, launch};
use tepui_tests::wait::{eventually, eventually_some, stays};
use tepui_tests::zookeeper::{Ensemble, Place};

/// Electing a leader, recovering and registering, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// Short, so that the dead are found out soon.
const SESSION: &str = "--zk_session_timeout=2secs";
const RESOURCES: &str = "--resources=cpus:8;mem:1024;disk:1000;ports:[]";

fn here() -> Place {
    Place {
        ip: "127.0.0.1".parse().expect("an address"),
        namespace: None,
    }
}

fn follower_flags() -> [&'static str; 4] {
    [
        SESSION,
        RESOURCES,
        "--registration_backoff_factor=50ms",
        "--executor_reregistration_timeout=10secs",
    ]
}

/// So many leaders and followers that know each other through ZooKeeper.
fn cluster(ensemble: &Ensemble, leaders: usize, followers: usize) -> Machines {
    let zk = ensemble.url("/mesos");
    let mut machines = Machines::new();
    for _ in 0..leaders {
        machines.add_leader(&here(), &zk, &[SESSION]);
    }
    machines.wait_for_leader();
    for _ in 0..followers {
        machines.add_follower(&here(), &zk, &follower_flags());
    }
    machines.wait_until_whole();
    machines
}

fn subscription(id: Option<&str>) -> Value {
    let mut info = json!({
        "user": "root", "name": "ha", "roles": ["*"], "checkpoint": true, "failover_timeout": 3600.0,
        "capabilities": [{"type": "MULTI_ROLE"}, {"type": "PARTITION_AWARE"}, {"type": "RESERVATION_REFINEMENT"}],
    });
    let mut call = json!({"type": "SUBSCRIBE"});
    if let Some(id) = id {
        info["id"] = json!({"value": id});
        call["framework_id"] = json!({"value": id});
    }
    call["subscribe"] = json!({"framework_info": info});
    call
}

/// Asks for a task until somebody knows its state.
fn reconciled(framework: &mut Framework, task: &str) -> Value {
    let answer = eventually_some(PATIENCE, || {
        framework.must(
            json!({"type": "RECONCILE", "reconcile": {"tasks": [{"task_id": {"value": task}}]}}),
        );
        framework.wait_within(Duration::from_secs(2), "UPDATE", |update| {
            update["status"]["task_id"]["value"] == task
        })
    });
    answer.unwrap_or_else(|| panic!("nobody knows {task}"))["status"].clone()
}

#[test]
fn the_next_leader_has_the_tasks_of_the_killed_one() {
    let ensemble = Ensemble::start(3);
    let mut machines = cluster(&ensemble, 3, 2);
    let first = machines.wait_for_leader();
    let mut framework =
        Framework::subscribe_with(machines.leaders[first].address, &subscription(None));
    let offer = framework.offer();
    let long = command_task("long", &offer, "while [ ! -e go ]; do sleep 0.1; done");
    let short = command_task("short", &offer, "exit 0");
    framework.must(launch(&offer, vec![long, short]));
    framework.until("long", "TASK_RUNNING");
    framework.until("short", "TASK_FINISHED");

    machines.leaders[first].kill();
    let next = machines.wait_for_leader();
    assert_ne!(next, first);
    let id = framework.id.clone();
    let mut framework =
        Framework::subscribe_with(machines.leaders[next].address, &subscription(Some(&id)));
    assert_eq!(framework.id, id);
    assert_eq!(reconciled(&mut framework, "long")["state"], "TASK_RUNNING");
    machines.wait_until_whole();
    // What ran goes on, and new things are started.
    let offer = framework.offer();
    framework.must(launch(
        &offer,
        vec![command_task("after", &offer, "exit 3")],
    ));
    assert_eq!(
        framework.until("after", "TASK_FAILED")["state"],
        "TASK_FAILED"
    );
    framework.must(json!({"type": "KILL", "kill": {"task_id": {"value": "long"}}}));
    framework.until("long", "TASK_KILLED");

    // The first comes back as one of those that wait.
    machines.leaders[first].start();
    assert!(eventually(PATIENCE, || machines.leaders[first].serves()));
    assert!(stays(Duration::from_secs(1), || machines.leading() == Some(next)));
}

#[test]
fn who_does_not_lead_sends_everybody_to_the_one_that_does() {
    let ensemble = Ensemble::start(1);
    let mut machines = Machines::new();
    for _ in 0..2 {
        machines.add_leader(&here(), &ensemble.url("/mesos"), &[SESSION]);
    }
    let leader = machines.wait_for_leader();
    let (leader, other) = (&machines.leaders[leader], &machines.leaders[1 - leader]);
    let follows = || {
        other
            .json("/metrics/snapshot")
            .is_some_and(|all| all["master/elected"].as_f64() == Some(0.0))
    };
    assert!(eventually(PATIENCE, follows));
    let ask = |request: &Request| -> Response { send(other.address, request).expect("an answer") };
    let target = |path: &str| format!("//{}:{}{path}", leader.hostname(), leader.address.port());
    for path in [
        "/master/state",
        "/state",
        "/master/redirect",
        "/master/tasks",
    ] {
        let answer = eventually_some(PATIENCE, || {
            let answer = ask(&Request::get(path));
            (answer.status == 307).then_some(answer)
        });
        let answer = answer
            .unwrap_or_else(|| panic!("{path} is not redirected: {:?}", ask(&Request::get(path))));
        let location = answer.header("location").unwrap_or_default().to_owned();
        assert!(location.starts_with(&target("")), "{path}: {location}");
    }
    let call = json!({"type": "GET_STATE"});
    assert_eq!(ask(&Request::post_json("/api/v1", &call)).status, 307);
    assert_eq!(
        ask(&Request::post_json(
            "/api/v1/scheduler",
            &subscription(None)
        ))
        .status,
        307
    );
    for path in ["/health", "/version", "/metrics/snapshot"] {
        assert_eq!(ask(&Request::get(path)).status, 200, "{path}");
    }
}

#[test]
fn a_leader_that_was_stopped_for_long_says_nothing_more_as_one() {
    let ensemble = Ensemble::start(1);
    let machines = cluster(&ensemble, 2, 1);
    let first = machines.wait_for_leader();
    machines.leaders[first].signal(Signal::STOP);
    let next = eventually_some(PATIENCE, || {
        (0..2).find(|at| *at != first && machines.leaders[*at].leads())
    });
    let next = next.expect("the other leads");
    machines.leaders[first].signal(Signal::CONT);
    assert!(eventually(PATIENCE, || {
        machines.leaders[first].serves() && !machines.leaders[first].leads()
    }));
    machines.wait_until_whole();
    assert!(machines.leaders[next].leads());
}

#[test]
fn masters_of_another_make_are_followed_and_succeeded() {
    let ensemble = Ensemble::start(1);
    // First in the election, so it leads.
    let servers = ensemble.servers();
    let mut foreign = start(
        Runtime::Python,
        "foreign_master.py",
        &servers,
        &["/mesos", "127.0.0.9", "5050"],
    );
    foreign.wait_for(PATIENCE, |said| said["leader"]["port"] == 5050);
    let mut machines = Machines::new();
    machines.add_leader(&here(), &ensemble.url("/mesos"), &[SESSION]);
    let ours = &machines.leaders[0];
    let redirected = || {
        let answer = send(ours.address, &Request::get("/master/state")).ok()?;
        (answer.status == 307).then(|| answer.header("location").unwrap_or_default().to_owned())
    };
    let location = eventually_some(PATIENCE, redirected).expect("it follows the foreign one");
    assert!(location.starts_with("//foreign.test:5050"), "{location}");
    assert!(!ours.leads());
    let both = foreign.wait_for(PATIENCE, |said| {
        said["members"].as_array().is_some_and(|all| all.len() == 2)
    });
    assert_eq!(both["leader"]["pid"], "master@127.0.0.9:5050");

    foreign.tell("leave");
    assert_eq!(machines.wait_for_leader(), 0);
    // A new one waits, and reads of ours what tools read.
    let mut foreign = start(
        Runtime::Python,
        "foreign_master.py",
        &servers,
        &["/mesos", "127.0.0.9", "5050"],
    );
    let said = foreign.wait_for(PATIENCE, |said| {
        said["members"].as_array().is_some_and(|all| all.len() == 2)
    });
    let ours = &machines.leaders[0];
    assert_eq!(said["leader"]["port"], ours.address.port());
    assert_eq!(said["leader"]["address"]["port"], ours.address.port());
    assert_eq!(said["leader"]["address"]["ip"], "127.0.0.1");
    assert_eq!(said["leader"]["pid"], format!("master@{}", ours.address));
    assert_eq!(said["leader"]["hostname"], ours.hostname());
    // The lowest of all names is what the simplest tools take for the leader, but for `log_replicas`.
    let children: Vec<&str> = said["children"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let lowest = children
        .iter()
        .filter(|name| **name != "log_replicas")
        .min();
    assert_eq!(lowest.copied(), said["members"][0].as_str(), "{children:?}");
    machines.leaders[0].kill();
    foreign.wait_for(PATIENCE, |said| said["leader"]["port"] == 5050);
    assert!(
        foreign.last()["children"]
            .as_array()
            .into_iter()
            .flatten()
            .all(|name| {
                name.as_str()
                    .is_some_and(|name| name.starts_with("json.info_") || name == "log_replicas")
            }),
        "{}",
        foreign.last()
    );
}

#[test]
fn pymesos_follows_its_leaders_through_kazoo() {
    let ensemble = Ensemble::start(1);
    let mut machines = cluster(&ensemble, 2, 1);
    let steady = start(
        Runtime::Python,
        "pymesos_ha.py",
        ensemble.url("/mesos"),
        &["40", "1"],
    );
    let mut steady = steady;
    steady.wait_for(PATIENCE, |said| said["registered"].is_string());
    for _ in 0..2 {
        let leader = machines.wait_for_leader();
        let before = steady.last();
        machines.leaders[leader].kill();
        let news = |said: &Value| {
            let port = said["leader"].as_u64();
            port.is_some()
                && port != Some(machines.leaders[leader].address.port().into())
                && *said != before
        };
        steady.wait_for(PATIENCE, news);
        machines.leaders[leader].start();
        assert!(eventually(PATIENCE, || machines.leaders[leader].serves()));
    }
    let summary = steady.finish(2 * PATIENCE);
    assert_eq!(
        (&summary["ended"], &summary["twice"]),
        (&json!(40), &json!([])),
        "{summary}"
    );
}
