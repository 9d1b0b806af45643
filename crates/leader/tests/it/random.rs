//! Whatever peers, schedulers and operators say, in whatever order: no panic, and every invariant
//! holds after every step.

use crate::{draining, harness::*, maintenance, operations, operator_resources};
use proptest::prelude::*;
use std::time::Duration;
use tepui_leader::{Config, Effect, Input};
use tepui_model::StreamId;
use tepui_protocol::{
    internal,
    peer::PeerMessage,
    v1::{self, TaskState, master, scheduler},
};

const ALL: &str = "cpus:4;mem:4096;disk:1000";

#[derive(Debug, Clone)]
pub(crate) enum Step {
    Pass(u16),
    Subscribe {
        framework: Option<u8>,
        simple: bool,
        checkpoint: bool,
    },
    Close(u8),
    Register(u16),
    Reregister {
        number: u16,
        from: u16,
        tasks: Vec<(u8, u8, i32)>,
        with_frameworks: bool,
    },
    Break(u16),
    Unregister(u16),
    Pong(u16),
    Launch {
        framework: u8,
        task: u8,
        cpus: u8,
        executor: Option<u8>,
        offers: u8,
    },
    Decline {
        framework: u8,
        seconds: u8,
    },
    Update {
        framework: u8,
        task: u8,
        state: i32,
        latest: i32,
        uuid: u8,
        at: u8,
    },
    Acknowledge {
        framework: u8,
        task: u8,
        uuid: u8,
        at: u8,
    },
    Plain {
        framework: u8,
        kind: i32,
    },
    Kill {
        framework: u8,
        task: u8,
    },
    Exited {
        framework: u8,
        executor: u8,
        at: u8,
    },
    Gone(u8),
    Operate {
        kind: u8,
        at: u8,
    },
    Share {
        kind: u8,
        role: u8,
        amount: u8,
        at: u8,
    },
    AnswerInverse {
        framework: u8,
        accept: bool,
        seconds: Option<u8>,
    },
    Watch,
    Oversubscribe {
        at: u8,
        cpus: u8,
    },
    RealUpdate {
        launch: u8,
        state: i32,
        uuid: u8,
    },
    RealAcknowledge {
        launch: u8,
        uuid: u8,
    },
    View,
    Resources(operations::random::Step),
}

fn steps() -> impl Strategy<Value = Step> {
    let framework = 0..4u8;
    let task = 0..5u8;
    let state = 0..14i32;
    prop_oneof![
        3 => prop_oneof![9 => 0..20u16, 1 => 0..700u16].prop_map(Step::Pass),
        4 => (proptest::option::of(framework.clone()), any::<bool>(), any::<bool>())
            .prop_map(|(framework, simple, checkpoint)| Step::Subscribe { framework, simple, checkpoint }),
        2 => framework.clone().prop_map(Step::Close),
        4 => (1..4u16).prop_map(Step::Register),
        3 => (1..4u16, 1..4u16, proptest::collection::vec((framework.clone(), task.clone(), state.clone()), 0..3), any::<bool>())
            .prop_map(|(number, from, tasks, with_frameworks)| Step::Reregister { number, from, tasks, with_frameworks }),
        2 => (1..4u16).prop_map(Step::Break),
        1 => (1..4u16).prop_map(Step::Unregister),
        3 => (1..4u16).prop_map(Step::Pong),
        12 => (framework.clone(), task.clone(), 0..3u8, proptest::option::of(0..2u8), 1..3u8)
            .prop_map(|(framework, task, cpus, executor, offers)| Step::Launch { framework, task, cpus, executor, offers }),
        2 => (framework.clone(), 0..30u8).prop_map(|(framework, seconds)| Step::Decline { framework, seconds }),
        8 => (framework.clone(), task.clone(), state.clone(), state, 0..4u8, 0..4u8)
            .prop_map(|(framework, task, state, latest, uuid, at)| Step::Update { framework, task, state, latest, uuid, at }),
        6 => (framework.clone(), task.clone(), 0..4u8, 0..4u8)
            .prop_map(|(framework, task, uuid, at)| Step::Acknowledge { framework, task, uuid, at }),
        3 => (framework.clone(), -1..20i32).prop_map(|(framework, kind)| Step::Plain { framework, kind }),
        2 => (framework.clone(), task).prop_map(|(framework, task)| Step::Kill { framework, task }),
        2 => (framework, 0..2u8, 0..4u8).prop_map(|(framework, executor, at)| Step::Exited { framework, executor, at }),
        1 => (0..4u8).prop_map(Step::Gone),
        3 => (0..8u8, 0..5u8).prop_map(|(kind, at)| Step::Operate { kind, at }),
        4 => (0..8u8, 0..4u8, 0..6u8, 0..5u8)
            .prop_map(|(kind, role, amount, at)| Step::Share { kind, role, amount, at }),
        2 => (0..4u8, any::<bool>(), proptest::option::of(0..30u8))
            .prop_map(|(framework, accept, seconds)| Step::AnswerInverse { framework, accept, seconds }),
        1 => Just(Step::Watch),
        1 => (0..4u8, 0..3u8).prop_map(|(at, cpus)| Step::Oversubscribe { at, cpus }),
        10 => (0..4u8, prop_oneof![0..3i32, 0..14i32], 0..2u8)
            .prop_map(|(launch, state, uuid)| Step::RealUpdate { launch, state, uuid }),
        10 => (0..4u8, 0..2u8).prop_map(|(launch, uuid)| Step::RealAcknowledge { launch, uuid }),
        2 => Just(Step::View),
        20 => operations::random::steps().prop_map(Step::Resources),
    ]
}

/// What a careless client would remember.
#[derive(Default)]
pub(crate) struct Memory {
    schedulers: Vec<Scheduler>,
    pub(crate) offers: Vec<(StreamId, v1::Offer)>,
    inverse_offers: Vec<(StreamId, v1::OfferId)>,
    agents: Vec<Agent>,
    /// Framework, task and place of what followers were told to run.
    launched: Vec<(v1::FrameworkId, v1::TaskId, Agent)>,
    /// Operations that followers were sent.
    pub(crate) applied: Vec<(Agent, internal::ApplyOperationMessage)>,
}

impl Memory {
    pub(crate) fn learn(&mut self, cluster: &mut Cluster) {
        for effect in cluster.pending.drain(..) {
            match effect {
                Effect::Event { stream, event } => {
                    if let Some(subscribed) = &event.subscribed {
                        self.schedulers
                            .retain(|known| known.id != subscribed.framework_id);
                        self.schedulers.push(Scheduler {
                            id: subscribed.framework_id.clone(),
                            stream,
                        });
                    }
                    for offer in event.offers.iter().flat_map(|offers| &offers.offers) {
                        self.offers.push((stream, offer.clone()));
                    }
                    let inverse = event.inverse_offers.iter();
                    for offer in inverse.flat_map(|offers| &offers.inverse_offers) {
                        self.inverse_offers.push((stream, offer.id.clone()));
                    }
                }
                Effect::Send {
                    to,
                    message: PeerMessage::SlaveRegistered(message),
                    ..
                } => {
                    self.agents.push(Agent {
                        id: message.slave_id,
                        pid: to,
                    });
                }
                Effect::Send {
                    to,
                    message: PeerMessage::RunTask(run),
                    ..
                } => {
                    let id = run.framework.id.unwrap_or_default();
                    let agent = Agent {
                        id: run.task.agent_id,
                        pid: to,
                    };
                    self.launched.push((id, run.task.task_id, agent));
                }
                Effect::Send {
                    to,
                    message: PeerMessage::ApplyOperation(message),
                    ..
                } => {
                    let at = self.agents.iter().rev().find(|agent| agent.pid == to);
                    self.applied.extend(at.map(|at| (at.clone(), *message)));
                }
                _ => {}
            }
        }
    }
    /// One of the last few launches, and the stream of its framework if it has one.
    fn launch(&self, number: u8) -> Option<(Scheduler, String, Agent)> {
        let back = usize::from(number) % self.launched.len().clamp(1, 4);
        let (framework, task, agent) = self.launched.iter().rev().nth(back)?;
        let scheduler = self
            .schedulers
            .iter()
            .find(|scheduler| scheduler.id == *framework)?;
        Some((scheduler.clone(), task.value.clone(), agent.clone()))
    }
    pub(crate) fn scheduler(&self, number: u8) -> Option<Scheduler> {
        let count = self.schedulers.len();
        (count > 0).then(|| self.schedulers[usize::from(number) % count].clone())
    }
    pub(crate) fn agent(&self, number: u8) -> Agent {
        let count = self.agents.len();
        if count == 0 || number == 3 {
            return Agent {
                id: v1::AgentId {
                    value: "made-up".to_owned(),
                },
                pid: pid(3),
            };
        }
        self.agents[count - 1 - usize::from(number) % count].clone()
    }
}

fn run(steps: Vec<Step>) {
    let config = Config {
        max_completed_frameworks: 2,
        max_completed_tasks_per_framework: 2,
        max_unreachable_tasks_per_framework: 2,
        max_operator_streams: 2,
        offer_timeout: Some(Duration::from_secs(40)),
        ..Config::default()
    };
    let mut cluster = Cluster::with(config, &internal::Registry::default());
    let mut memory = Memory::default();
    let start = [
        Step::Register(1),
        Step::Register(2),
        Step::Subscribe {
            framework: None,
            simple: false,
            checkpoint: true,
        },
        Step::Subscribe {
            framework: None,
            simple: true,
            checkpoint: false,
        },
    ];
    for step in start.into_iter().chain(steps) {
        apply(&mut cluster, &memory, step);
        memory.learn(&mut cluster);
    }
}

pub(crate) fn apply(cluster: &mut Cluster, memory: &Memory, step: Step) {
    match step {
        Step::Pass(seconds) => cluster.pass(Duration::from_secs(seconds.into())),
        Step::View => drop(cluster.view()),
        Step::Resources(step) => operations::random::apply(cluster, memory, step),
        Step::Watch => {
            let (request, stream) = (cluster.request(), cluster.stream());
            cluster.handle(Input::OperatorSubscribe {
                request,
                stream,
                principal: None,
            });
        }
        Step::Subscribe {
            framework: known,
            simple,
            checkpoint,
        } => {
            let mut info = if simple {
                simple_framework()
            } else {
                operations::reserver("dev")
            };
            info.checkpoint = Some(checkpoint);
            info.id = known
                .and_then(|number| memory.scheduler(number))
                .map(|scheduler| scheduler.id);
            cluster.send_subscribe(info);
        }
        Step::Close(number) => {
            if let Some(scheduler) = memory.scheduler(number) {
                cluster.handle(Input::StreamClosed {
                    stream: scheduler.stream,
                });
            }
        }
        Step::Register(number) => {
            let mut message = register_message(number, ALL);
            message.agent_capabilities = operations::all_capabilities();
            cluster.peer(&pid(number), message)
        }
        Step::Reregister {
            number,
            from,
            tasks,
            with_frameworks,
        } => {
            cluster.peer(
                &pid(from),
                reregister(memory, number, &tasks, with_frameworks),
            );
        }
        Step::Break(number) => cluster.handle(Input::LinkBroken { pid: pid(number) }),
        Step::Pong(number) => cluster.peer(&pid(number), internal::PongSlaveMessage {}),
        Step::Unregister(number) => {
            let slave_id = memory.agent(number as u8).id;
            cluster.peer(&pid(number), internal::UnregisterSlaveMessage { slave_id });
        }
        Step::Gone(number) => {
            let mut call = master::Call::default();
            call.set_type(master::call::Type::MarkAgentGone);
            call.mark_agent_gone = Some(master::call::MarkAgentGone {
                agent_id: memory.agent(number).id,
            });
            cluster.operator(call);
        }
        Step::Operate { kind, at } => {
            let agent = memory.agent(at).id;
            let number = u16::from(at % 3) + 1;
            cluster.operator(match kind {
                0 => draining::drain(&agent, false),
                1 => draining::drain(&agent, true),
                2 => draining::deactivate(&agent),
                3 => draining::reactivate(&agent),
                4 => maintenance::schedule(&[number, 3], i64::from(at)),
                5 => maintenance::schedule(&[], 0),
                6 => maintenance::down(number),
                _ => maintenance::up(number),
            });
        }
        Step::Share {
            kind,
            role,
            amount,
            at,
        } => {
            let agent = memory.agent(at).id;
            cluster.operator(operator_resources::any_call(kind, role, amount, &agent));
        }
        Step::AnswerInverse {
            framework,
            accept,
            seconds,
        } => {
            let Some(scheduler) = memory.scheduler(framework) else {
                return;
            };
            let asked = memory.inverse_offers.iter().rev().take(3);
            let own = asked.filter(|(stream, _)| *stream == scheduler.stream);
            let ids = own.map(|(_, id)| id.clone()).collect();
            let seconds = seconds.map(f64::from);
            cluster.call(&scheduler, maintenance::answer(accept, ids, seconds));
        }
        Step::Oversubscribe { at, cpus } => {
            let agent = memory.agent(at);
            let mut spare = resources(&format!("cpus:{cpus}"));
            spare
                .iter_mut()
                .for_each(|resource| resource.revocable = Some(v1::resource::RevocableInfo {}));
            let update = internal::UpdateSlaveMessage {
                slave_id: agent.id,
                update_oversubscribed_resources: Some(true),
                oversubscribed_resources: spare,
                ..Default::default()
            };
            cluster.peer(&agent.pid, update);
        }
        Step::Exited {
            framework,
            executor,
            at,
        } => {
            let Some(scheduler) = memory.scheduler(framework) else {
                return;
            };
            let agent = memory.agent(at);
            let message = internal::ExitedExecutorMessage {
                slave_id: agent.id,
                framework_id: scheduler.id,
                executor_id: v1::ExecutorId {
                    value: format!("e{executor}"),
                },
                status: 0,
            };
            cluster.peer(&agent.pid, message);
        }
        Step::Update {
            framework,
            task,
            state,
            latest,
            uuid,
            at,
        } => {
            let Some(scheduler) = memory.scheduler(framework) else {
                return;
            };
            let agent = memory.agent(at);
            let state = TaskState::try_from(state).unwrap_or(TaskState::TaskRunning);
            let mut message = status(&scheduler, &agent, &format!("t{task}"), state, uuid);
            message.update.latest_state = Some(latest);
            cluster.peer(&agent.pid, message);
        }
        Step::RealUpdate {
            launch,
            state,
            uuid,
        } => {
            let Some((scheduler, task, agent)) = memory.launch(launch) else {
                return;
            };
            let state = TaskState::try_from(state).unwrap_or(TaskState::TaskRunning);
            cluster.peer(&agent.pid, status(&scheduler, &agent, &task, state, uuid));
        }
        by_scheduler => apply_call(cluster, memory, by_scheduler),
    }
}

fn apply_call(cluster: &mut Cluster, memory: &Memory, step: Step) {
    match step {
        Step::Launch {
            framework,
            task: number,
            cpus,
            executor,
            offers,
        } => {
            let Some(scheduler) = memory.scheduler(framework) else {
                return;
            };
            let own = memory
                .offers
                .iter()
                .rev()
                .filter(|(stream, _)| *stream == scheduler.stream);
            let own: Vec<&v1::Offer> = own.map(|(_, offer)| offer).take(offers.into()).collect();
            let Some(first) = own.first() else { return };
            let mut task = task(&format!("t{number}"), first, &format!("cpus:{cpus};mem:64"));
            if let Some(executor) = executor {
                task.command = None;
                task.executor = Some(v1::ExecutorInfo {
                    executor_id: v1::ExecutorId {
                        value: format!("e{executor}"),
                    },
                    command: Some(v1::CommandInfo::default()),
                    resources: resources("cpus:0.1;mem:32"),
                    ..Default::default()
                });
            }
            cluster.call(&scheduler, accept(&own, vec![launch_operation(vec![task])]));
        }
        Step::Decline { framework, seconds } => {
            let Some(scheduler) = memory.scheduler(framework) else {
                return;
            };
            let Some((_, offer)) = memory.offers.last() else {
                return;
            };
            let mut decline = call(scheduler::call::Type::Decline);
            let filters = Some(v1::Filters {
                refuse_seconds: Some(f64::from(seconds) - 5.0),
            });
            decline.decline = Some(scheduler::call::Decline {
                offer_ids: vec![offer.id.clone()],
                filters,
            });
            cluster.call(&scheduler, decline);
        }
        Step::Acknowledge {
            framework,
            task,
            uuid,
            at,
        } => {
            let Some(scheduler) = memory.scheduler(framework) else {
                return;
            };
            cluster.call(
                &scheduler,
                acknowledge(&memory.agent(at), &format!("t{task}"), uuid),
            );
        }
        Step::RealAcknowledge { launch, uuid } => {
            let Some((scheduler, task, agent)) = memory.launch(launch) else {
                return;
            };
            cluster.call(&scheduler, acknowledge(&agent, &task, uuid));
        }
        Step::Plain { framework, kind } => {
            let Some(scheduler) = memory.scheduler(framework) else {
                return;
            };
            let call = scheduler::Call {
                r#type: Some(kind),
                reconcile: Some(Default::default()),
                accept: Some(Default::default()),
                request: Some(Default::default()),
                ..Default::default()
            };
            cluster.call(&scheduler, call);
        }
        Step::Kill { framework, task } => {
            let Some(scheduler) = memory.scheduler(framework) else {
                return;
            };
            let mut kill = call(scheduler::call::Type::Kill);
            let task_id = v1::TaskId {
                value: format!("t{task}"),
            };
            kill.kill = Some(scheduler::call::Kill {
                task_id,
                ..Default::default()
            });
            cluster.call(&scheduler, kill);
        }
        _ => {}
    }
}

fn reregister(
    memory: &Memory,
    number: u16,
    tasks: &[(u8, u8, i32)],
    with_frameworks: bool,
) -> internal::ReregisterSlaveMessage {
    let agent = memory.agent(number as u8);
    let mut slave = agent_info(number, ALL);
    slave.id = Some(agent.id.clone());
    let mut message = internal::ReregisterSlaveMessage {
        slave,
        version: Some("1.11.0".to_owned()),
        agent_capabilities: operations::all_capabilities(),
        ..Default::default()
    };
    // One that knows of operations has some of what they made.
    if tasks.len() == 1 {
        let reserved = serde_json::json!({"cpus": 1, "reserved": [["dev", "p"]]});
        message.checkpointed_resources = vec![operations::resource(&reserved)];
    }
    if with_frameworks {
        for scheduler in &memory.schedulers {
            let mut info = framework();
            info.id = Some(scheduler.id.clone());
            message.frameworks.push(info);
        }
    }
    for (framework, task, state) in tasks {
        let Some(scheduler) = memory.scheduler(*framework) else {
            continue;
        };
        let mut own = resources("cpus:1;mem:64");
        for resource in &mut own {
            resource.allocation_info = Some(v1::resource::AllocationInfo {
                role: Some(if *state % 2 == 0 { "*" } else { "dev" }.to_owned()),
            });
        }
        message.tasks.push(v1::Task {
            name: "t".to_owned(),
            task_id: v1::TaskId {
                value: format!("t{task}"),
            },
            framework_id: scheduler.id,
            agent_id: agent.id.clone(),
            state: *state,
            resources: own,
            ..Default::default()
        });
    }
    message
}

// The same histories on every run; a longer search is a matter of another seed and more cases.
proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, rng_seed: proptest::test_runner::RngSeed::Fixed(20_261_122), ..ProptestConfig::default() })]

    #[test]
    fn nothing_that_is_said_breaks_an_invariant(steps in proptest::collection::vec(steps(), 1..120)) {
        run(steps);
    }
}
