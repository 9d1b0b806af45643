//! `--rate_limits`: who says too much waits, and who does not stop is cut off.

use crate::{harness::*, told::*};
use std::time::Duration;
use tepui_leader::{Config, Input, limits::RateLimits, read};
use tepui_protocol::{
    internal,
    v1::{self, scheduler::call::Type},
};

fn cluster(limits: &str) -> Cluster {
    let config = Config {
        rate_limits: Some(RateLimits::parse(limits).expect("valid limits")),
        ..Config::default()
    };
    Cluster::with(config, &internal::Registry::default())
}

fn register(cluster: &mut Cluster, name: &str, principal: Option<&str>) -> String {
    let mut info = framework();
    info.principal = principal.map(str::to_owned);
    cluster.peer(&driver(name), subscribe(info, false));
    let lines = told(cluster);
    let id = lines[0]
        .strip_prefix("FrameworkRegistered(")
        .and_then(|rest| rest.split(')').next());
    id.expect("it is registered").to_owned()
}

/// Asks for the state of a task that is not there: every answer is one message handled.
fn ask(cluster: &mut Cluster, name: &str, id: &str) {
    let mut ask = call(Type::Reconcile);
    let task_id = v1::TaskId { value: "x".into() };
    ask.reconcile = Some(v1::scheduler::call::Reconcile {
        tasks: vec![v1::scheduler::call::reconcile::Task {
            task_id,
            agent_id: None,
        }],
    });
    cluster.peer(&driver(name), by(id, ask));
}

fn metric(cluster: &mut Cluster, name: &str) -> Option<f64> {
    read::metrics(&cluster.view(), 0.0).get(name).copied()
}

#[test]
fn messages_wait_for_a_permit_and_are_handled_one_by_one() {
    let mut cluster = cluster(r#"{"limits": [{"principal": "slow", "qps": 2, "capacity": 10}]}"#);
    let slow = register(&mut cluster, "a", Some("slow"));
    let other = register(&mut cluster, "b", Some("other"));
    for _ in 0..4 {
        ask(&mut cluster, "a", &slow);
        ask(&mut cluster, "b", &other);
    }
    let answers = told(&mut cluster);
    let to = |name: &str| answers.iter().filter(|line| line.ends_with(name)).count();
    assert_eq!((to("-> a"), to("-> b")), (1, 4), "nobody else waits");
    assert_eq!(
        metric(&mut cluster, "frameworks/slow/messages_received"),
        Some(4.0)
    );
    assert_eq!(
        metric(&mut cluster, "frameworks/slow/messages_processed"),
        Some(1.0)
    );
    for _ in 0..3 {
        cluster.pass(Duration::from_millis(499));
        assert!(told(&mut cluster).is_empty());
        cluster.pass(Duration::from_millis(1));
        assert_eq!(told(&mut cluster).len(), 1);
    }
    assert_eq!(
        metric(&mut cluster, "frameworks/slow/messages_processed"),
        Some(4.0)
    );
    assert_eq!(
        metric(&mut cluster, "frameworks/other/messages_processed"),
        Some(4.0)
    );
}

#[test]
fn what_exceeds_the_capacity_is_dropped_with_an_error() {
    let mut cluster = cluster(r#"{"limits": [{"principal": "slow", "qps": 1, "capacity": 1}]}"#);
    let slow = register(&mut cluster, "a", Some("slow"));
    for _ in 0..3 {
        ask(&mut cluster, "a", &slow);
    }
    assert_eq!(
        told(&mut cluster)[1..],
        ["FrameworkError(Message mesos.scheduler.Call dropped: capacity(1) exceeded) -> a"]
    );
    cluster.pass(Duration::from_secs(5));
    assert_eq!(told(&mut cluster).len(), 1, "what waited is handled");
}

#[test]
fn all_that_are_not_named_share_one_limit() {
    let limits = r#"{"limits": [{"principal": "free"}], "aggregate_default_qps": 1}"#;
    let mut cluster = cluster(limits);
    let ids = [
        register(&mut cluster, "a", Some("x")),
        register(&mut cluster, "b", None),
        register(&mut cluster, "c", Some("free")),
    ];
    for (name, id) in ["a", "b", "c", "c"]
        .iter()
        .zip([&ids[0], &ids[1], &ids[2], &ids[2]])
    {
        ask(&mut cluster, name, id);
    }
    assert_eq!(
        told(&mut cluster).len(),
        3,
        "the first of a and b, and both of c"
    );
    cluster.pass(Duration::from_secs(1));
    assert_eq!(told(&mut cluster).len(), 1);
    assert_eq!(
        metric(&mut cluster, "frameworks/x/messages_received"),
        Some(1.0)
    );
}

#[test]
fn a_broken_link_comes_after_what_was_said_before() {
    let mut cluster = cluster(r#"{"limits": [{"principal": "slow", "qps": 1}]}"#);
    let slow = register(&mut cluster, "a", Some("slow"));
    ask(&mut cluster, "a", &slow);
    ask(&mut cluster, "a", &slow);
    cluster.handle(Input::LinkBroken { pid: driver("a") });
    assert_eq!(told(&mut cluster).len(), 1);
    cluster.pass(Duration::from_secs(2));
    let lines = told(&mut cluster);
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[1], "FrameworkError(Framework disconnected) -> a");
}

#[test]
fn counters_of_a_principal_last_as_long_as_its_frameworks() {
    let mut cluster = cluster("{}");
    let first = register(&mut cluster, "a", Some("p"));
    let second = register(&mut cluster, "b", Some("p"));
    cluster.peer(&driver("a"), by(&first, call(Type::Teardown)));
    assert_eq!(
        metric(&mut cluster, "frameworks/p/messages_received"),
        Some(1.0)
    );
    assert_eq!(
        metric(&mut cluster, "frameworks/p/messages_processed"),
        Some(1.0)
    );
    cluster.peer(&driver("b"), by(&second, call(Type::Teardown)));
    assert_eq!(metric(&mut cluster, "frameworks/p/messages_received"), None);
}
