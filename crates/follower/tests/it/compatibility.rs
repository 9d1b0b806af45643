//! Other settings than before a restart: what each policy lets change, and what its refusal says.

use crate::harness::*;
use std::time::Duration;
use tepui_follower::{
    compatibility::{Policy, check},
    recovered::{
        Fate, Recovered, RecoveredExecutor, RecoveredFramework, RecoveredLink, RecoveredTask,
    },
    resources,
};
use tepui_model::Resources;
use tepui_protocol::v1;

fn agent(resources: &str, attributes: &str) -> v1::AgentInfo {
    v1::AgentInfo {
        hostname: "h".to_owned(),
        port: Some(5051),
        resources: resources::startup(resources, "*", Default::default()).unwrap(),
        attributes: resources::attributes(attributes).unwrap(),
        id: Some(v1::AgentId { value: ID.into() }),
        checkpoint: Some(true),
        ..Default::default()
    }
}

/// A follower that runs a task of its framework in a custom executor.
fn before(info: v1::AgentInfo) -> Recovered {
    let launched = task("t");
    Recovered {
        id: ID.into(),
        info,
        rebooted: false,
        drain: None,
        frameworks: vec![RecoveredFramework {
            info: framework(),
            damaged: None,
            pid: None,
            executors: vec![RecoveredExecutor {
                info: custom_executor("e"),
                damaged: None,
                generated: false,
                container: "c".into(),
                process: Some(42),
                fate: Fate::Running,
                link: RecoveredLink::Http,
                completed: false,
                tasks: vec![RecoveredTask {
                    task: v1::Task {
                        task_id: launched.task_id,
                        resources: launched.resources,
                        ..Default::default()
                    },
                    damaged: None,
                    launched: None,
                    group: None,
                    updates: Vec::new(),
                    acknowledged: Default::default(),
                }],
                earlier_runs: Vec::new(),
                age: Duration::ZERO,
            }],
            ended: Vec::new(),
            age: Default::default(),
        }],
        problems: Vec::new(),
    }
}

fn refusal(policy: Policy, recovered: &Recovered, now: &v1::AgentInfo) -> Option<String> {
    check(
        policy,
        recovered,
        now,
        &Resources::from_proto(&now.resources),
    )
    .err()
}

const SAME: &str = "cpus:4;mem:4096;disk:1000;ports:[1-9]";

#[test]
fn nothing_may_change_but_the_order_where_all_must_be_equal() {
    let recovered = before(agent(SAME, "a:1;b:x"));
    let refused =
        |resources, attributes| refusal(Policy::Equal, &recovered, &agent(resources, attributes));
    assert_eq!(refused(SAME, "a:1;b:x"), None);
    assert_eq!(
        refused("ports:[1-9];mem:4096;cpus:4;disk:1000", "b:x;a:1"),
        None
    );
    let text = refused("cpus:5;mem:4096;disk:1000;ports:[1-9]", "a:1;b:x").unwrap();
    assert!(text.starts_with("Configuration change not permitted under 'equal' policy: "));
    assert!(text.contains("Resources changed from"), "{text}");
    let text = refused(SAME, "a:1").unwrap();
    assert!(text.contains("Attributes changed from"), "{text}");
}

#[test]
fn more_is_allowed_where_changes_are_additive_and_the_error_names_what_is_less() {
    let recovered = before(agent(SAME, "a:1;b:x;r:[1-3]"));
    let refused = |resources, attributes| {
        refusal(Policy::Additive, &recovered, &agent(resources, attributes))
    };
    let more = "cpus:8;mem:4096;disk:1000;ports:[1-20];gpus:1";
    assert_eq!(refused(more, "a:1;b:x;r:[1-5];new:y"), None);
    let cases = [
        (
            "cpus:3;mem:4096;disk:1000;ports:[1-9]",
            "a:1;b:x;r:[1-3]",
            "'cpus' decreased",
        ),
        (
            "cpus:4;mem:4096;disk:1000;ports:[1-8]",
            "a:1;b:x;r:[1-3]",
            "range resource 'ports'",
        ),
        (SAME, "a:2;b:x;r:[1-3]", "'a' changed"),
        (SAME, "a:text;b:x;r:[1-3]", "Type of attribute 'a'"),
        (SAME, "a:1;r:[1-3]", "Couldn't find attribute b:x"),
        (SAME, "a:1;b:x;r:[2-3]", "'r' changed"),
    ];
    for (resources, attributes, wanted) in cases {
        let text = refused(resources, attributes).unwrap();
        assert!(text.contains(wanted), "{text}");
    }
}

#[test]
fn anything_goes_that_leaves_room_for_what_runs_and_the_error_says_who_holds_what() {
    let recovered = before(agent(SAME, "a:1"));
    let refused = |resources| {
        refusal(
            Policy::Any,
            &recovered,
            &agent(resources, "other:attributes"),
        )
    };
    assert_eq!(refused("cpus:3;mem:1024;disk:5;ports:[100-200]"), None);
    let text = refused("cpus:0.01;mem:4096;disk:1000;ports:[1-9]").unwrap();
    assert!(text.contains("and there would be cpus:0.01"), "{text}");
    assert!(text.contains("task 't' of framework"), "{text}");
    // Nothing runs any more.
    let mut rebooted = recovered.clone();
    rebooted.rebooted = true;
    let now = agent("cpus:0.01;mem:1;disk:1;ports:[1-9]", "");
    assert_eq!(refusal(Policy::Any, &rebooted, &now), None);
}

#[test]
fn no_policy_lets_a_follower_move() {
    let recovered = before(agent(SAME, ""));
    for policy in [Policy::Equal, Policy::Additive, Policy::Any] {
        let mut now = agent(SAME, "");
        now.hostname = "other".to_owned();
        let text = refusal(policy, &recovered, &now).unwrap();
        assert!(text.ends_with("Hostname changed from h to other"), "{text}");
        let mut now = agent(SAME, "");
        now.port = Some(5052);
        let text = refusal(policy, &recovered, &now).unwrap();
        assert!(text.ends_with("Port changed from 5051 to 5052"), "{text}");
    }
}
