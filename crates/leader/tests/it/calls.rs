//! Tables of malformed calls and invalid tasks, each with the words it is refused in.

use crate::harness::*;
use tepui_leader::{Effect, Input, Reply};
use tepui_protocol::v1::{self, TaskInfo, scheduler, scheduler::call::Type};

#[test]
fn calls_that_lack_what_they_promise_are_refused() {
    let id = Some(v1::FrameworkId {
        value: "f".to_owned(),
    });
    let mut cases: Vec<(scheduler::Call, &str)> = vec![
        (scheduler::Call::default(), "Expecting 'type' to be present"),
        (
            scheduler::Call {
                r#type: Some(99),
                ..Default::default()
            },
            "Expecting 'type' to be present",
        ),
        (
            call(Type::Teardown),
            "Expecting 'framework_id' to be present",
        ),
        (call(Type::Accept), "Expecting 'framework_id' to be present"),
    ];
    for (kind, field) in [
        (Type::Accept, "accept"),
        (Type::Decline, "decline"),
        (Type::AcceptInverseOffers, "accept_inverse_offers"),
        (Type::DeclineInverseOffers, "decline_inverse_offers"),
        (Type::Kill, "kill"),
        (Type::Shutdown, "shutdown"),
        (Type::Acknowledge, "acknowledge"),
        (
            Type::AcknowledgeOperationStatus,
            "acknowledge_operation_status",
        ),
        (Type::Reconcile, "reconcile"),
        (Type::ReconcileOperations, "reconcile_operations"),
        (Type::Message, "message"),
        (Type::Request, "request"),
        (Type::UpdateFramework, "update_framework"),
    ] {
        let text: &'static str =
            Box::leak(format!("Expecting '{field}' to be present").into_boxed_str());
        cases.push((
            scheduler::Call {
                framework_id: id.clone(),
                ..call(kind)
            },
            text,
        ));
    }
    let mut acknowledge = scheduler::Call {
        framework_id: id.clone(),
        ..call(Type::Acknowledge)
    };
    acknowledge.acknowledge = Some(scheduler::call::Acknowledge::default());
    cases.push((acknowledge, "Not a valid UUID"));
    let mut update = scheduler::Call {
        framework_id: id,
        ..call(Type::UpdateFramework)
    };
    update.update_framework = Some(scheduler::call::UpdateFramework::default());
    cases.push((
        update,
        "'framework_id' differs from 'update_framework.framework_info.id'",
    ));

    for (call, expected) in cases {
        let mut cluster = Cluster::new();
        let request = cluster.request();
        cluster.handle(Input::Call {
            request,
            stream_id: None,
            call: Box::new(call),
            principal: None,
        });
        match cluster.next() {
            Effect::Reply {
                reply: Reply::Error { status, message },
                ..
            } => {
                assert_eq!(
                    (status, message),
                    (
                        400,
                        format!("Failed to validate scheduler::Call: {expected}")
                    )
                );
            }
            other => panic!("expected 400, got {other:?}"),
        }
        cluster.nothing_left();
    }
}

#[test]
fn subscriptions_that_contradict_themselves_are_refused() {
    let subscribe = |change: fn(&mut scheduler::Call)| {
        let mut call = call(Type::Subscribe);
        call.subscribe = Some(scheduler::call::Subscribe {
            framework_info: framework(),
            ..Default::default()
        });
        change(&mut call);
        call
    };
    let cases = [
        (
            subscribe(|call| call.subscribe = None),
            "Expecting 'subscribe' to be present",
        ),
        (
            subscribe(|call| {
                call.framework_id = Some(v1::FrameworkId {
                    value: "x".to_owned(),
                })
            }),
            "'framework_id' differs from 'subscribe.framework_info.id'",
        ),
        (
            subscribe(|call| {
                if let Some(subscribe) = &mut call.subscribe {
                    subscribe.framework_info.principal = Some("other".to_owned());
                }
            }),
            "Authenticated principal 'me' does not match principal 'other' set in `FrameworkInfo`",
        ),
    ];
    for (call, expected) in cases {
        let mut cluster = Cluster::new();
        let (request, stream) = (cluster.request(), cluster.stream());
        cluster.handle(Input::Subscribe {
            request,
            stream,
            call: Box::new(call),
            principal: Some("me".into()),
        });
        match cluster.next() {
            Effect::Reply {
                reply: Reply::Error { status, message },
                ..
            } => {
                assert_eq!(
                    (status, message),
                    (
                        400,
                        format!("Failed to validate scheduler::Call: {expected}")
                    )
                );
            }
            other => panic!("expected 400, got {other:?}"),
        }
        cluster.nothing_left();
    }
}

#[test]
fn options_beside_a_description_are_checked() {
    let subscribe = |change: fn(&mut scheduler::call::Subscribe)| {
        let mut subscribe = scheduler::call::Subscribe {
            framework_info: framework(),
            ..Default::default()
        };
        change(&mut subscribe);
        subscribe
    };
    let constraint = || {
        let mut constraints = scheduler::OfferConstraints::default();
        constraints
            .role_constraints
            .insert("nope".to_owned(), Default::default());
        constraints
    };
    let cases = [
        (
            subscribe(|s| s.suppressed_roles = vec!["b".to_owned(), "a".to_owned()]),
            "Suppressed roles { a, b } are not contained in the set of roles",
        ),
        (
            scheduler::call::Subscribe {
                offer_constraints: Some(constraint()),
                ..subscribe(|_| {})
            },
            "Offer constraints specify `role_constraints` for a role 'nope'not contained in the set of roles",
        ),
    ];
    for (subscribe, expected) in cases {
        let mut cluster = Cluster::new();
        let (request, stream) = (cluster.request(), cluster.stream());
        let call = scheduler::Call {
            subscribe: Some(subscribe),
            ..call(Type::Subscribe)
        };
        cluster.handle(Input::Subscribe {
            request,
            stream,
            call: Box::new(call),
            principal: None,
        });
        assert!(matches!(cluster.next(), Effect::OpenStream { .. }));
        let error = cluster.event(stream).error.clone().expect("an ERROR event");
        assert_eq!(error.message, expected);
    }
}

/// What is changed about a good task, and what is said of it then.
type Case = (fn(&mut TaskInfo), &'static str);

#[test]
fn tasks_that_make_no_sense_are_refused_in_known_words() {
    let cases: Vec<Case> = vec![
        (|t| t.task_id.value = String::new(), "ID must not be empty"),
        (|t| t.task_id.value = "..".to_owned(), "'..' is disallowed"),
        (
            |t| t.task_id.value = "x".repeat(300),
            "ID must not be greater than 255 characters",
        ),
        (
            |t| t.agent_id.value = "elsewhere".to_owned(),
            "Task uses invalid agent elsewhere while agent lead-S0 is expected",
        ),
        (|t| t.resources.clear(), "Task uses no resources"),
        (
            |t| t.resources[0].scalar = Some(v1::value::Scalar { value: -1.0 }),
            "Resource 'cpus:-1' is invalid: Invalid scalar resource: value <= 0",
        ),
        (
            |t| t.resources = resources("gpus:0.5"),
            "Task uses invalid resources: Invalid 'gpus' resource: The 'gpus' resource must be an unsigned integer",
        ),
        (
            |t| t.command = None,
            "Task should have at least one (but not both) of CommandInfo or ExecutorInfo present",
        ),
        (
            |t| t.executor = Some(v1::ExecutorInfo::default()),
            "Task should have at least one (but not both) of CommandInfo or ExecutorInfo present",
        ),
        (
            |t| {
                t.kill_policy = Some(v1::KillPolicy {
                    grace_period: Some(v1::DurationInfo { nanoseconds: -1 }),
                })
            },
            "Task's 'kill_policy.grace_period' must be non-negative",
        ),
        (
            |t| t.max_completion_time = Some(v1::DurationInfo { nanoseconds: -1 }),
            "Task's `max_completion_time` must be non-negative",
        ),
        (
            |t| t.check = Some(v1::CheckInfo::default()),
            "Task uses invalid check: CheckInfo must specify 'type'",
        ),
        (
            |t| {
                let mut check = v1::CheckInfo {
                    delay_seconds: Some(-1.0),
                    ..Default::default()
                };
                check.set_type(v1::check_info::Type::Tcp);
                check.tcp = Some(v1::check_info::Tcp { port: 1 });
                t.check = Some(check);
            },
            "Task uses invalid check: Expecting 'delay_seconds' to be non-negative",
        ),
        (
            |t| t.health_check = Some(v1::HealthCheck::default()),
            "Task uses invalid health check: HealthCheck must specify 'type'",
        ),
        (
            |t| {
                let http = v1::health_check::HttpCheckInfo {
                    path: Some("x".to_owned()),
                    ..Default::default()
                };
                t.health_check = Some(v1::HealthCheck {
                    http: Some(http),
                    ..Default::default()
                });
            },
            "Task uses invalid health check: The path 'x' of HTTP health check must start with '/'",
        ),
        (
            |t| {
                let variable = v1::environment::Variable {
                    name: "A".to_owned(),
                    ..Default::default()
                };
                let environment = Some(v1::Environment {
                    variables: vec![variable],
                });
                t.command = Some(v1::CommandInfo {
                    environment,
                    ..Default::default()
                });
            },
            "Task's `CommandInfo` is invalid: Environment variable 'A' of type 'VALUE' must have a value set",
        ),
        (
            |t| {
                let mut container = v1::ContainerInfo::default();
                container.set_type(v1::container_info::Type::Docker);
                t.container = Some(container);
            },
            "Task's `ContainerInfo` is invalid: DockerInfo 'docker' is not set for DOCKER typed ContainerInfo",
        ),
        (
            |t| {
                t.container = Some(v1::ContainerInfo {
                    volumes: vec![v1::Volume::default()],
                    ..Default::default()
                });
            },
            "Task's `ContainerInfo` is invalid: Invalid volume: Only one of them should be set: 'host_path', 'image' \
             and 'source'",
        ),
        (
            |t| {
                t.limits
                    .insert("disk".to_owned(), v1::value::Scalar { value: 1.0 });
            },
            "Only cpus and mem may be included in a task's resource limits",
        ),
        (
            |t| {
                t.limits
                    .insert("cpus".to_owned(), v1::value::Scalar { value: 0.1 });
            },
            "The cpu limit must be greater than or equal to the cpu request",
        ),
        (
            |t| {
                let linux_info = Some(v1::LinuxInfo {
                    share_cgroups: Some(false),
                    ..Default::default()
                });
                let mut container = v1::ContainerInfo {
                    linux_info,
                    ..Default::default()
                };
                container.set_type(v1::container_info::Type::Mesos);
                t.container = Some(container);
            },
            "Only tasks in a task group may have 'share_cgroups' set to 'false'",
        ),
        (
            |t| {
                t.resources[0].allocation_info = Some(v1::resource::AllocationInfo {
                    role: Some("x".to_owned()),
                })
            },
            "Invalid task resources: The resources have multiple allocation roles ('*' and 'x') but only one \
             allocation role is allowed",
        ),
    ];
    for (change, expected) in cases {
        let (mut cluster, scheduler, _, offer) = Cluster::offered(framework());
        let mut task = task("t", &offer, "cpus:1;mem:64");
        change(&mut task);
        cluster.accepted(&scheduler, launch(&offer, vec![task]));
        let update = cluster.update(scheduler.stream);
        assert_eq!(update.message(), expected);
        assert_eq!(update.state(), v1::TaskState::TaskError);
        assert_eq!(update.reason(), v1::task_status::Reason::TaskInvalid);
        cluster.nothing_left();
    }
}

#[test]
fn limits_may_be_infinite() {
    let (mut cluster, scheduler, agent, offer) = Cluster::offered(framework());
    let mut task = task("t", &offer, "cpus:1;mem:64");
    task.limits.insert(
        "mem".to_owned(),
        v1::value::Scalar {
            value: f64::INFINITY,
        },
    );
    cluster.accepted(&scheduler, launch(&offer, vec![task]));
    cluster.sent(&agent.pid);
    cluster.nothing_left();
}
