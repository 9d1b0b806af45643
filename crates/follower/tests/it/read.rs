//! Documents have the shape of the recorded ones (`tests/fixtures/agent.json`).

use crate::harness::*;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use tepui_follower::read::{self, Facts};
use tepui_protocol::{
    json,
    v1::{self, TaskState, agent::call::Type},
};

fn recorded() -> Value {
    serde_json::from_str(include_str!("../fixtures/agent.json")).unwrap()
}

/// A follower with a completed and a running command task.
fn world() -> World {
    let mut config = config();
    config.attributes =
        tepui_follower::resources::attributes("node_id:follower1;rack:r1;speed:2.5;slots:[1-4]")
            .unwrap();
    config
        .flags
        .insert("attributes".into(), "node_id:follower1".into());
    let mut w = World::registered_with(config);
    let done = v1::FrameworkInfo {
        id: Some(v1::FrameworkId {
            value: "L-0009".into(),
        }),
        ..framework()
    };
    w.run_in(done, command("done"));
    let container = w.local_executor().container;
    let call = |call: v1::executor::Call| v1::executor::Call {
        framework_id: v1::FrameworkId {
            value: "L-0009".into(),
        },
        ..call
    };
    w.local(&container, call(subscribe("done")));
    w.effects.clear();
    w.local(
        &container,
        call(update("done", "done", TaskState::TaskFinished, 1)),
    );
    let finished = w.updates().remove(0);
    w.exited(&container, tepui_model::container::ExitStatus::Code(0));
    w.acknowledge(&finished);

    let container = w.running_command("long");
    w.local(
        &container,
        update("long", "long", TaskState::TaskRunning, 1),
    );
    w
}

pub(crate) fn facts(w: &World) -> Facts {
    let mut facts = Facts {
        version: v1::VersionInfo {
            version: "1.11.0".into(),
            build_date: Some("today".into()),
            build_time: Some(1.0),
            build_user: Some(String::new()),
            git_sha: Some("0".into()),
            git_branch: Some("main".into()),
            ..Default::default()
        },
        leader_hostname: Some("localhost".into()),
        ..Default::default()
    };
    for framework in w.follower.view().frameworks.values() {
        for executor in framework.executors.values() {
            let statistics = v1::ResourceStatistics {
                timestamp: 1.0,
                cpus_user_time_secs: Some(0.5),
                cpus_system_time_secs: Some(0.5),
                mem_rss_bytes: Some(1),
                ..Default::default()
            };
            facts
                .statistics
                .insert(executor.container.clone(), statistics);
        }
    }
    facts
}

/// Names of all fields, with their paths and kinds; items of lists are taken together.
fn shape(value: &Value, path: &str, out: &mut BTreeMap<String, &'static str>) {
    match value {
        Value::Object(object) => object
            .iter()
            .for_each(|(name, value)| shape(value, &format!("{path}.{name}"), out)),
        Value::Array(items) => {
            out.insert(path.to_owned(), "list");
            items
                .iter()
                .for_each(|item| shape(item, &format!("{path}[]"), out));
        }
        Value::Number(_) => drop(out.insert(path.to_owned(), "number")),
        Value::String(_) => drop(out.insert(path.to_owned(), "text")),
        Value::Bool(_) => drop(out.insert(path.to_owned(), "bool")),
        Value::Null => drop(out.insert(path.to_owned(), "null")),
    }
}

/// Whether `ours` has the recorded fields and no others, but for `tolerated` prefixes.
fn same_shape(recorded: &Value, ours: &Value, tolerated: &[&str]) {
    let (mut theirs, mut own) = (BTreeMap::new(), BTreeMap::new());
    shape(recorded, "", &mut theirs);
    shape(ours, "", &mut own);
    let tolerable = |path: &str| tolerated.iter().any(|t| path.contains(t));
    let all: BTreeSet<_> = theirs
        .keys()
        .chain(own.keys())
        .filter(|path| !tolerable(path))
        .collect();
    let different: Vec<_> = all
        .into_iter()
        .filter(|path| theirs.get(*path) != own.get(*path))
        .collect();
    assert!(different.is_empty(), "different: {different:#?}");
}

#[test]
fn state_has_the_recorded_shape() {
    let w = world();
    let ours = read::state(&w.follower.view(), &facts(&w));
    let tolerated = [
        // Flags are the shell's; the recording has frameworks of other kinds and more tasks.
        ".flags.",
        ".principal",
        ".roles",
    ];
    same_shape(&recorded()["state"], &ours, &tolerated);
    let framework = &ours["frameworks"][0];
    assert_eq!(
        framework["executors"][0]["resources"]["cpus"], 1.1,
        "executor and task"
    );
    assert_eq!(framework["executors"][0]["tasks"][0]["executor_id"], "");
    assert_eq!(ours["unreserved_resources_allocated"]["mem"], 160.0);
    assert_eq!(ours["attributes"]["speed"], 2.5);
    assert_eq!(ours["attributes"]["slots"], "[1-4]");
}

#[test]
fn containers_and_statistics_have_the_recorded_shape() {
    let w = world();
    let view = w.follower.view();
    let limits = ["soft_limit", "limit_bytes"];
    same_shape(
        &recorded()["containers"],
        &read::containers(&view, &facts(&w)),
        &limits,
    );
    same_shape(
        &recorded()["statistics"],
        &read::statistics(&view, &facts(&w)),
        &limits,
    );
}

#[test]
fn operator_reads_have_the_recorded_shape() {
    let w = world();
    let view = w.follower.view();
    for (call, name, tolerated) in [
        (Type::GetHealth, "GET_HEALTH", &[][..]),
        (Type::GetVersion, "GET_VERSION", &[]),
        (Type::GetAgent, "GET_AGENT", &[]),
        (Type::GetOperations, "GET_OPERATIONS", &[]),
        (Type::GetResourceProviders, "GET_RESOURCE_PROVIDERS", &[]),
        (
            Type::GetContainers,
            "GET_CONTAINERS",
            &["soft_limit", "limit_bytes"],
        ),
        (
            Type::GetFrameworks,
            "GET_FRAMEWORKS",
            &["failover_timeout", ".role", ".checkpoint"],
        ),
        (Type::GetExecutors, "GET_EXECUTORS", &[]),
        (
            Type::GetTasks,
            "GET_TASKS",
            &[
                "message",
                ".terminated_tasks",
                ".completed_tasks",
                ".statuses[].executor_id",
            ],
        ),
    ] {
        let answer = read::answer(&view, call, &facts(&w), w.now).unwrap();
        let ours: Value = serde_json::from_str(&json::encode(&answer)).unwrap();
        println!("{name}");
        same_shape(&recorded()[name], &ours, tolerated);
    }
    assert!(read::answer(&view, Type::LaunchContainer, &facts(&w), w.now).is_none());
}

#[test]
fn metrics_have_the_recorded_names() {
    let w = world();
    let mut ours: BTreeSet<String> = tepui_follower::metrics::snapshot(&w.follower.view(), w.now)
        .into_keys()
        .collect();
    // The reference has nothing like it.
    assert!(ours.remove("slave/messages_ignored"));
    // Measured by the shell, or of features that come later.
    let shell = [
        "system/",
        "containerizer/",
        "resource_provider_manager/",
        "slave/recovery_time_secs",
    ];
    let recorded: BTreeSet<String> = recorded()["metrics"]
        .as_array()
        .unwrap()
        .iter()
        .map(|name| name.as_str().unwrap().to_owned())
        .filter(|name| !shell.iter().any(|prefix| name.starts_with(prefix)))
        .collect();
    assert_eq!(ours, recorded);
}

#[test]
fn gauges_tell_what_runs() {
    let w = world();
    let metrics = tepui_follower::metrics::snapshot(&w.follower.view(), w.now);
    assert_eq!(metrics["slave/tasks_running"], 1.0);
    assert_eq!(metrics["slave/tasks_finished"], 1.0);
    assert_eq!(metrics["slave/executors_running"], 1.0);
    assert_eq!(metrics["slave/cpus_used"], 1.1);
    assert_eq!(metrics["slave/cpus_percent"], 1.1 / 4.0);
    assert_eq!(metrics["slave/registered"], 1.0);
}
