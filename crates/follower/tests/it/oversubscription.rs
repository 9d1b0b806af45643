//! Oversubscription, as `docs/oversubscription.md` of the reference describes it and its agent does it
//! (`src/slave/slave.cpp`: `forwardOversubscribed`, `qosCorrections`).

use crate::harness::*;
use std::time::Duration;
use tepui_follower::{
    Config,
    estimator::Estimator,
    io::{Effect, Input},
    metrics,
    modules::Modules,
    qos::{Load, LoadController},
};
use tepui_model::{Resources, container::ExitStatus};
use tepui_protocol::{
    internal as i,
    peer::PeerMessage,
    v1::{self, TaskState, task_status::Reason},
};

const INTERVAL: Duration = Duration::from_secs(15);

/// Fourteen CPUs, as in the documentation's example, and a limit of 6 over five minutes.
pub(crate) fn oversubscribing() -> Config {
    let parameter = |key: &str, value: &str| [(key.to_owned(), value.to_owned())];
    Config {
        estimator: Some(
            Estimator::new(Estimator::FIXED, &parameter("resources", "cpus:14")).unwrap(),
        ),
        qos_controller: Some(
            LoadController::new(LoadController::NAME, &parameter("load_threshold_5min", "6"))
                .unwrap(),
        ),
        ..config()
    }
}

pub(crate) fn revocable(amount: f64) -> v1::Resource {
    v1::Resource {
        revocable: Some(Default::default()),
        ..scalar("cpus", amount)
    }
}

fn greedy(id: &str, amount: f64) -> v1::TaskInfo {
    let mut task = command(id);
    task.resources = vec![revocable(amount), scalar("mem", 32.0)];
    task
}

/// What the leader was told is oversubscribed; the last word counts.
fn told(w: &mut World) -> Option<String> {
    let estimate = |message| match message {
        PeerMessage::UpdateSlave(m) if m.update_oversubscribed_resources == Some(true) => {
            Some(Resources::from_proto(&m.oversubscribed_resources).to_string())
        }
        _ => None,
    };
    w.take_sent().into_iter().filter_map(estimate).next_back()
}

fn load(w: &mut World, five: f64, fifteen: f64) {
    w.step(Input::Load(Load { five, fifteen }));
}

fn gauge(w: &World, name: &str) -> f64 {
    metrics::snapshot(&w.follower.view(), w.now)[name]
}

#[test]
fn the_leader_is_told_when_the_follower_registers_and_when_the_estimate_changes() {
    let mut w = World::with(oversubscribing());
    w.step(Input::LeaderDetected(Some(leader())));
    w.pass(Duration::from_secs(1));
    w.effects.clear();
    w.register();
    assert_eq!(told(&mut w).as_deref(), Some("cpus{REV}:14"));
    // Nothing new: nothing is said.
    w.pass(10 * INTERVAL);
    assert_eq!(told(&mut w), None);
    assert_eq!(gauge(&w, "slave/cpus_revocable_total"), 14.0);
    assert_eq!(gauge(&w, "slave/cpus_total"), 4.0);
}

#[test]
fn without_an_estimator_nothing_is_said_of_it() {
    let mut w = World::new();
    w.step(Input::LeaderDetected(Some(leader())));
    w.pass(Duration::from_secs(1));
    w.effects.clear();
    w.register();
    let sent = w.take_sent();
    let [PeerMessage::UpdateSlave(update)] = &sent[..] else {
        panic!("{sent:?}")
    };
    assert_eq!(update.update_oversubscribed_resources, Some(false));
    w.pass(4 * INTERVAL);
    assert_eq!(told(&mut w), None);
    assert_eq!(gauge(&w, "slave/cpus_revocable_total"), 0.0);
}

/// What is taken counts into the total; what there is of it is fixed
/// (`src/slave/resource_estimators/fixed.cpp`).
#[test]
fn what_tasks_take_is_part_of_the_total() {
    for (amounts, total) in [
        (&[][..], "cpus{REV}:14"),
        (&[2.0][..], "cpus{REV}:14"),
        (&[2.0, 12.0][..], "cpus{REV}:14"),
        // More than there is: a leader that knew of more. It is not taken away from tasks.
        (&[10.0, 10.0][..], "cpus{REV}:20"),
    ] {
        let mut w = World::registered_with(oversubscribing());
        for (n, amount) in amounts.iter().enumerate() {
            w.run(greedy(&format!("t{n}"), *amount));
        }
        w.pass(INTERVAL);
        let view = w.follower.view();
        assert_eq!(view.oversubscribed.as_deref().unwrap().to_string(), total);
        let used: f64 = amounts.iter().sum();
        assert_eq!(gauge(&w, "slave/cpus_revocable_used"), used);
        // 0.1 for each of the executors that are part of this process.
        assert!((gauge(&w, "slave/cpus_used") - 0.1 * amounts.len() as f64).abs() < 1e-9);
    }
}

#[test]
fn an_estimate_does_not_outdate_launches() {
    let mut w = World::with(oversubscribing());
    w.step(Input::LeaderDetected(Some(leader())));
    w.pass(Duration::from_secs(1));
    w.effects.clear();
    w.register();
    let Some(PeerMessage::UpdateSlave(update)) = w.take_sent().pop() else {
        panic!()
    };
    w.run(greedy("a", 20.0));
    w.pass(INTERVAL);
    let version = i::ResourceVersionUuid {
        resource_provider_id: None,
        uuid: update.resource_version_uuid.unwrap(),
    };
    w.effects.clear();
    w.leader_says(i::RunTaskMessage {
        framework: framework(),
        task: greedy("b", 1.0),
        launch_executor: Some(true),
        resource_version_uuids: vec![version],
        ..Default::default()
    });
    assert_eq!(w.local_executor().info.executor_id.value, "b");
}

#[test]
fn revocable_executors_are_killed_while_the_load_is_too_high() {
    for (aware, state) in [(true, TaskState::TaskGone), (false, TaskState::TaskLost)] {
        let mut w = World::registered_with(oversubscribing());
        let mut framework = framework();
        if !aware {
            framework.capabilities.clear();
        }
        w.run_in(framework.clone(), greedy("revocable", 1.0));
        let greedy = w.local_executor().container;
        w.local(&greedy, subscribe("revocable"));
        w.run_in(framework, command("regular"));
        let regular = w.local_executor().container;
        w.local(&regular, subscribe("regular"));
        w.effects.clear();

        load(&mut w, 6.0, 100.0);
        assert_eq!(w.seen(), [""; 0], "six is not more than six");
        load(&mut w, 6.1, 0.0);
        let effects = w.take();
        let [Effect::Destroy { container }] = &effects[..] else {
            panic!("{effects:?}")
        };
        assert_eq!(container, &greedy);
        // Once is enough.
        load(&mut w, 7.0, 0.0);
        assert_eq!(w.seen(), [""; 0]);
        assert_eq!(gauge(&w, "slave/executors_preempted"), 1.0);

        w.exited(&greedy, ExitStatus::Signal(9));
        let update = w.updates().remove(0);
        assert_eq!(update.status.state(), state);
        assert_eq!(update.status.reason(), Reason::ContainerPreempted);
        assert_eq!(
            update.status.message.as_deref(),
            Some("Container preempted by QoS correction")
        );
    }
}

/// "If any resource used by a task or executor is revocable, the whole container is treated as a
/// revocable container."
#[test]
fn one_revocable_task_makes_its_executor_revocable() {
    let mut w = World::registered_with(oversubscribing());
    let custom = |id: &str, resources: Vec<v1::Resource>| v1::TaskInfo {
        executor: Some(custom_executor("e")),
        resources,
        ..task(id)
    };
    w.run(custom("a", vec![scalar("cpus", 1.0)]));
    let spec = w.launched();
    assert_eq!(w.http_subscribe(subscribe("e")).1, None);
    load(&mut w, 7.0, 0.0);
    assert!(!w.seen().contains(&"destroy".to_owned()));
    w.leader_says(i::RunTaskMessage {
        framework: framework(),
        task: custom("b", vec![revocable(1.0)]),
        launch_executor: Some(false),
        ..Default::default()
    });
    load(&mut w, 7.0, 0.0);
    assert!(w.seen().contains(&"destroy".to_owned()));
    w.exited(&spec.container, ExitStatus::Signal(9));
    let mut lost: Vec<_> = w
        .updates()
        .iter()
        .map(|u| u.status.task_id.value.clone())
        .collect();
    lost.sort();
    assert_eq!(lost, ["a", "b"]);
}

/// `src/slave/qos_controllers/load.cpp`.
#[test]
fn either_threshold_is_enough() {
    let both = LoadController {
        five: Some(6.0),
        fifteen: Some(4.0),
    };
    let only = |five, fifteen| LoadController { five, fifteen };
    for (controller, five, fifteen, overload) in [
        (both, 6.0, 4.0, None),
        (
            both,
            6.5,
            0.0,
            Some("System 5 minutes load average 6.5 exceeds threshold 6"),
        ),
        (
            both,
            0.0,
            4.5,
            Some("System 15 minutes load average 4.5 exceeds threshold 4"),
        ),
        (only(Some(6.0), None), 0.0, 99.0, None),
        (only(None, Some(4.0)), 99.0, 4.0, None),
    ] {
        let load = Load { five, fifteen };
        assert_eq!(controller.overload(load).as_deref(), overload);
    }
}

#[test]
fn modules_are_what_is_built_in_with_the_parameters_of_the_flag() {
    // As in the documentation, one object for a list of one included.
    let modules = Modules::parse(
        r#"{"libraries": {"file": "/usr/local/lib64/libfixed_resource_estimator.so", "modules":
            {"name": "org_apache_mesos_FixedResourceEstimator",
             "parameters": {"key": "resources", "value": "cpus:14"}}}}"#,
    )
    .unwrap();
    let estimator = Estimator::new(Estimator::FIXED, modules.parameters(Estimator::FIXED)).unwrap();
    let Estimator::Fixed(resources) = estimator;
    assert_eq!(resources.to_string(), "cpus{REV}:14");
    let modules = Modules::parse(
        r#"{"libraries": [{"name": "x", "modules": [{"name": "org_apache_mesos_LoadQoSController",
            "parameters": [{"key": "load_threshold_5min", "value": "6"},
                           {"key": "load_threshold_15min", "value": "4"}]}]}]}"#,
    )
    .unwrap();
    let parameters = modules.parameters(LoadController::NAME);
    let controller = LoadController::new(LoadController::NAME, parameters).unwrap();
    assert_eq!(
        (controller.five, controller.fifteen),
        (Some(6.0), Some(4.0))
    );
    // Resources may be JSON as well.
    let json = r#"[{"name": "mem", "type": "SCALAR", "scalar": {"value": 512}}]"#;
    let parameter = [("resources".to_owned(), json.to_owned())];
    let Estimator::Fixed(resources) = Estimator::new(Estimator::FIXED, &parameter).unwrap();
    assert_eq!(resources.to_string(), "mem{REV}:512");
}

#[test]
fn what_cannot_be_had_is_refused_by_name() {
    for (json, text) in [
        ("[]", "it is not a JSON object with 'libraries'"),
        ("{", "it is not JSON"),
        (
            r#"{"libraries": [{"modules": [{"name": "org_example_Hook"}]}]}"#,
            "module 'org_example_Hook' unknown",
        ),
        (
            r#"{"libraries": [{"modules": [{}]}]}"#,
            "a module without a 'name'",
        ),
        (
            r#"{"libraries": [{"modules": [{"name": "org_apache_mesos_LoadQoSController",
                "parameters": [{"key": "a"}]}]}]}"#,
            "that is not a 'key' and a 'value'",
        ),
    ] {
        let error = Modules::parse(json).unwrap_err();
        assert!(error.contains(text), "{error}");
    }
    let parameter = |key: &str, value: &str| vec![(key.to_owned(), value.to_owned())];
    for (name, parameters, text) in [
        ("mine", vec![], "module 'mine' unknown"),
        (
            Estimator::FIXED,
            vec![],
            "needs 'resources' as a parameter in --modules",
        ),
        (
            Estimator::FIXED,
            parameter("resources", "cpus:x"),
            "parameter 'resources'",
        ),
    ] {
        let error = Estimator::new(name, &parameters).unwrap_err().to_string();
        assert!(error.contains(text), "{error}");
    }
    for (name, parameters, text) in [
        ("mine", vec![], "module 'mine' unknown"),
        (
            LoadController::NAME,
            vec![],
            "needs 'load_threshold_5min' or",
        ),
        (
            LoadController::NAME,
            parameter("load_threshold_15min", "high"),
            "'high' is not a number",
        ),
    ] {
        let error = LoadController::new(name, &parameters)
            .unwrap_err()
            .to_string();
        assert!(error.contains(text), "{error}");
    }
}

#[test]
fn an_interval_of_nothing_is_no_reason_to_do_nothing_else() {
    let mut w = World::registered_with(Config {
        oversubscribed_resources_interval: Duration::ZERO,
        ..oversubscribing()
    });
    w.run(greedy("t", 20.0));
    w.pass(Duration::from_secs(1));
    assert_eq!(told(&mut w).as_deref(), Some("cpus{REV}:20"));
}
