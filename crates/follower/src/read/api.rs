//! Answers of the v1 operator API that read (`src/slave/http.cpp`). Calls that change something go to
//! the core, those about files and logging to the shell.

use super::{Facts, containers, public_agent_info, state::healthy};
use crate::{metrics, state::new_task, view::View};
use tepui_model::Time;
use tepui_protocol::v1::{
    self, TaskState,
    agent::{
        Response,
        call::Type as Call,
        response::{self as r, Type, get_containers, get_executors, get_frameworks},
    },
};

/// The answer to a reading call; `None` if it is not one that a view can answer.
pub fn answer(view: &View, call: Call, facts: &Facts, now: Time) -> Option<Response> {
    let kind = |kind: Type| Response {
        r#type: Some(kind.into()),
        ..Default::default()
    };
    Some(match call {
        Call::GetHealth => Response {
            get_health: Some(r::GetHealth {
                healthy: healthy(view),
            }),
            ..kind(Type::GetHealth)
        },
        Call::GetFlags => Response {
            get_flags: Some(flags(view)),
            ..kind(Type::GetFlags)
        },
        Call::GetVersion => Response {
            get_version: Some(r::GetVersion {
                version_info: facts.version.clone(),
            }),
            ..kind(Type::GetVersion)
        },
        Call::GetMetrics => Response {
            get_metrics: Some(metrics_of(view, facts, now)),
            ..kind(Type::GetMetrics)
        },
        Call::GetState => Response {
            get_state: Some(r::GetState {
                get_tasks: Some(tasks(view)),
                get_executors: Some(executors(view)),
                get_frameworks: Some(frameworks(view)),
            }),
            ..kind(Type::GetState)
        },
        Call::GetContainers => Response {
            get_containers: Some(containers_of(view, facts)),
            ..kind(Type::GetContainers)
        },
        Call::GetFrameworks => Response {
            get_frameworks: Some(frameworks(view)),
            ..kind(Type::GetFrameworks)
        },
        Call::GetExecutors => Response {
            get_executors: Some(executors(view)),
            ..kind(Type::GetExecutors)
        },
        Call::GetOperations => Response {
            get_operations: Some(r::GetOperations {
                operations: view.operations.values().map(|o| (**o).clone()).collect(),
            }),
            ..kind(Type::GetOperations)
        },
        Call::GetTasks => Response {
            get_tasks: Some(tasks(view)),
            ..kind(Type::GetTasks)
        },
        Call::GetAgent => Response {
            get_agent: Some(r::GetAgent {
                agent_info: Some(public_agent_info(&view.info)),
                drain_config: view.drain.as_ref().map(|d| d.config),
                estimated_drain_start_time: view.drain.as_ref().map(|d| v1::TimeInfo {
                    nanoseconds: i64::try_from(d.since.nanos()).unwrap_or(i64::MAX),
                }),
            }),
            ..kind(Type::GetAgent)
        },
        // Resource providers come with the resource model.
        Call::GetResourceProviders => Response {
            get_resource_providers: Some(Default::default()),
            ..kind(Type::GetResourceProviders)
        },
        _ => return None,
    })
}

fn flags(view: &View) -> r::GetFlags {
    let flag = |(name, value): (&String, &String)| v1::Flag {
        name: name.clone(),
        value: Some(value.clone()),
    };
    r::GetFlags {
        flags: view.config.flags.iter().map(flag).collect(),
    }
}

fn metrics_of(view: &View, facts: &Facts, now: Time) -> r::GetMetrics {
    let mut all = metrics::snapshot(view, now);
    all.extend(facts.metrics.clone());
    let metric = |(name, value)| v1::Metric {
        name,
        value: Some(value),
    };
    r::GetMetrics {
        metrics: all.into_iter().map(metric).collect(),
    }
}

fn frameworks(view: &View) -> r::GetFrameworks {
    let one = |info: &v1::FrameworkInfo| get_frameworks::Framework {
        framework_info: info.clone(),
    };
    r::GetFrameworks {
        frameworks: view.frameworks.values().map(|f| one(&f.info)).collect(),
        completed_frameworks: view
            .completed_frameworks
            .iter()
            .map(|f| one(&f.info))
            .collect(),
    }
}

fn executors(view: &View) -> r::GetExecutors {
    let one = |info: &v1::ExecutorInfo| get_executors::Executor {
        executor_info: info.clone(),
    };
    let frameworks = || {
        view.frameworks
            .values()
            .chain(view.completed_frameworks.iter())
    };
    let completed = frameworks().flat_map(|f| f.completed_executors.iter());
    r::GetExecutors {
        executors: frameworks()
            .flat_map(|f| f.executors.values())
            .map(|e| one(&e.info))
            .collect(),
        completed_executors: completed.map(|e| one(&e.info)).collect(),
    }
}

fn tasks(view: &View) -> r::GetTasks {
    let mut out = r::GetTasks::default();
    for framework in view
        .frameworks
        .values()
        .chain(view.completed_frameworks.iter())
    {
        let staging = |task: &std::sync::Arc<v1::TaskInfo>| {
            new_task(task, &framework.id, TaskState::TaskStaging)
        };
        out.pending_tasks
            .extend(framework.pending.iter().map(staging));
        for executor in framework
            .executors
            .values()
            .chain(framework.completed_executors.iter())
        {
            out.queued_tasks.extend(executor.queued.iter().map(staging));
            out.launched_tasks
                .extend(executor.launched.values().map(|t| (**t).clone()));
            out.terminated_tasks
                .extend(executor.terminated.values().map(|t| (**t).clone()));
            out.completed_tasks
                .extend(executor.completed.iter().map(|t| (**t).clone()));
        }
    }
    out
}

fn containers_of(view: &View, facts: &Facts) -> r::GetContainers {
    let one = |(framework, executor): (
        &std::sync::Arc<crate::view::FrameworkView>,
        &std::sync::Arc<crate::view::ExecutorView>,
    )| {
        get_containers::Container {
            framework_id: Some(framework.id.to_proto()),
            executor_id: Some(executor.id.to_proto()),
            executor_name: Some(executor.info.name().to_owned()),
            container_id: executor.container.to_proto(),
            container_status: Some(containers::status(executor)),
            resource_statistics: facts.statistics.get(&executor.container).cloned(),
        }
    };
    r::GetContainers {
        containers: containers::live(view).map(one).collect(),
    }
}
