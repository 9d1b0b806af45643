//! Limits of tasks beyond what they asked for, and GPUs as numbers (`docs/cgroups-and-limits` is not
//! written in the reference: `TaskInfo.limits` of `include/mesos/v1/mesos.proto`, the
//! `TASK_RESOURCE_LIMITS` capability, `docs/gpu-support.md`).

use crate::{harness::*, read::facts};
use serde_json::json;
use tepui_follower::{io::Input, metrics, read, resources};
use tepui_protocol::{peer::PeerMessage, v1};

fn limited(id: &str, limits: &[(&str, f64)]) -> v1::TaskInfo {
    let limits = limits.iter();
    v1::TaskInfo {
        limits: limits
            .map(|(name, value)| ((*name).to_owned(), v1::value::Scalar { value: *value }))
            .collect(),
        ..command(id)
    }
}

#[test]
fn the_capability_is_announced() {
    use v1::agent_info::capability::Type;
    let mut w = World::new();
    w.step(Input::LeaderDetected(Some(leader())));
    w.pass(std::time::Duration::from_secs(1));
    let Some(PeerMessage::RegisterSlave(message)) = w.take_sent().pop() else {
        panic!()
    };
    let mut capabilities = message.agent_capabilities.iter();
    assert!(capabilities.any(|c| c.r#type() == Type::TaskResourceLimits));
}

/// Limits bind through isolators, and there are none yet: tasks run, and readers and the leader see
/// what was asked for. Infinity is a limit as well.
#[test]
fn limits_stay_with_the_task() {
    for limits in [
        &[("cpus", 2.0), ("mem", 256.0)][..],
        &[("cpus", f64::INFINITY)][..],
        &[][..],
    ] {
        let mut w = World::registered();
        w.run(limited("t", limits));
        let local = w.local_executor();
        w.local(&local.container, subscribe("t"));
        w.effects.clear();
        let state = read::state(&w.follower.view(), &facts(&w));
        let task = &state["frameworks"][0]["executors"][0]["tasks"][0];
        for (name, value) in limits {
            let shown = &task["limits"][name];
            match value.is_finite() {
                true => assert_eq!(shown, &json!(value), "{task}"),
                false => assert_eq!(shown, &json!("Infinity"), "{task}"),
            }
        }
        w.step(Input::LeaderDetected(Some(leader())));
        w.pass(std::time::Duration::from_secs(1));
        let Some(PeerMessage::ReregisterSlave(message)) = w.take_sent().pop() else {
            panic!()
        };
        assert_eq!(message.tasks[0].limits.len(), limits.len());
        for (name, value) in limits {
            assert_eq!(message.tasks[0].limits[*name].value, *value);
        }
    }
}

/// Without the isolator the reference passes GPUs through and counts them
/// (`src/slave/containerizer/mesos/isolators/gpu/allocator.cpp`).
#[test]
fn gpus_are_counted() {
    let mut config = config();
    config.resources =
        resources::startup("cpus:4;mem:1024;gpus:2", "*", Default::default()).unwrap();
    let mut w = World::registered_with(config);
    let mut task = command("t");
    task.resources.push(scalar("gpus", 1.0));
    w.run(task);
    let gauges = metrics::snapshot(&w.follower.view(), w.now);
    assert_eq!(gauges["slave/gpus_total"], 2.0);
    assert_eq!(gauges["slave/gpus_used"], 1.0);
    assert_eq!(gauges["slave/gpus_percent"], 0.5);
}

#[test]
fn gpus_are_whole() {
    for (flag, good) in [("gpus:2", true), ("gpus:0", true), ("gpus:1.5", false)] {
        let result = resources::startup(flag, "*", Default::default());
        assert_eq!(result.is_ok(), good, "{flag}");
    }
}

/// `docs/multiple-disk.md`.
#[test]
fn disks_of_the_flag_have_roots() {
    use resources::{DiskRoot, disk_roots};
    let disk = |source: &str| {
        format!(
            r#"[{{"name": "disk", "type": "SCALAR", "scalar": {{"value": 10}}, "disk": {{"source": {source}}}}},
                {{"name": "disk", "type": "SCALAR", "scalar": {{"value": 5}}, "reservations":
                  [{{"type": "STATIC", "role": "prod"}}], "disk": {{"source": {source}}}}}]"#
        )
    };
    for (source, roots) in [
        (
            r#"{"type": "PATH", "path": {"root": "/mnt/a"}}"#,
            Ok(vec![DiskRoot::Path("/mnt/a".into())]),
        ),
        (
            r#"{"type": "MOUNT", "mount": {"root": "/mnt/b"}}"#,
            Ok(vec![DiskRoot::Mount("/mnt/b".into())]),
        ),
        (
            r#"{"type": "PATH", "path": {}}"#,
            Err("PATH disk root directory"),
        ),
        (
            r#"{"type": "MOUNT", "mount": {}}"#,
            Err("MOUNT disk root directory"),
        ),
    ] {
        let all = resources::startup(&disk(source), "*", Default::default()).unwrap();
        match (disk_roots(&all), roots) {
            (Ok(found), Ok(expected)) => assert_eq!(found, expected),
            (Err(error), Err(text)) => assert!(error.starts_with(text), "{error}"),
            other => panic!("{other:?}"),
        }
    }
}
