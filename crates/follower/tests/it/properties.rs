//! Random histories. Safety: no panic, no broken invariant, at most one update per task waits for its
//! acknowledgement, updates go out in the order the executor sent them, and a task whose executor
//! follows the protocol ends once. Liveness: once all executors have ended and the leader
//! acknowledges, every task that was accepted has ended and nothing is left.

use crate::{
    harness::*,
    oversubscription::{oversubscribing, revocable},
    volumes::volume,
};
use proptest::prelude::*;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use tepui_follower::{
    io::{Effect, Effects, ExecutorPeer, Input},
    qos::Load,
    view::ExecutorView,
};
use tepui_model::{
    StreamId, Time,
    container::{ContainerEvent, ContainerId, ExitStatus, LaunchStep},
    tasks::is_terminal,
};
use tepui_protocol::{
    internal as i,
    peer::PeerMessage,
    v1::{self, TaskState, executor::Call},
};

#[derive(Debug, Clone)]
enum Step {
    Run {
        task: u8,
        custom: bool,
        launch: Option<bool>,
        group: bool,
        extra: u8,
    },
    /// The links of a sandbox are made, or cannot be.
    Linked {
        which: u8,
        fail: bool,
    },
    /// The machine is too busy.
    Overload,
    Subscribe {
        executor: u8,
    },
    Update {
        executor: u8,
        task: u8,
        state: u8,
    },
    /// An executor sends an update again, as it does until it hears ACKNOWLEDGED.
    Resend {
        which: u8,
    },
    CloseStream {
        executor: u8,
    },
    Launched {
        executor: u8,
    },
    Fail {
        executor: u8,
    },
    Exit {
        executor: u8,
        code: i32,
    },
    Kill {
        task: u8,
    },
    Acknowledge {
        which: u8,
    },
    ShutdownExecutor {
        executor: u8,
    },
    ShutdownFramework,
    Disconnect,
    Reconnect,
    Disk {
        percent: u8,
    },
    Removed,
    Pass {
        seconds: u32,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let small = 0u8..6;
    prop_oneof![
        6 => (small.clone(), any::<bool>(), any::<Option<bool>>(), any::<bool>(), 0u8..8)
            .prop_map(|(task, custom, launch, group, extra)| Step::Run { task, custom, launch, group, extra }),
        6 => (any::<u8>(), prop::bool::weighted(0.1)).prop_map(|(which, fail)| Step::Linked { which, fail }),
        1 => Just(Step::Overload),
        6 => any::<u8>().prop_map(|executor| Step::Subscribe { executor }),
        8 => (any::<u8>(), small.clone(), 0u8..5).prop_map(|(executor, task, state)| Step::Update { executor, task, state }),
        2 => any::<u8>().prop_map(|which| Step::Resend { which }),
        1 => any::<u8>().prop_map(|executor| Step::CloseStream { executor }),
        2 => any::<u8>().prop_map(|executor| Step::Launched { executor }),
        1 => any::<u8>().prop_map(|executor| Step::Fail { executor }),
        3 => (any::<u8>(), any::<i32>()).prop_map(|(executor, code)| Step::Exit { executor, code }),
        3 => small.prop_map(|task| Step::Kill { task }),
        8 => any::<u8>().prop_map(|which| Step::Acknowledge { which }),
        1 => any::<u8>().prop_map(|executor| Step::ShutdownExecutor { executor }),
        1 => Just(Step::ShutdownFramework),
        1 => Just(Step::Disconnect),
        2 => Just(Step::Reconnect),
        1 => (0u8..=100).prop_map(|percent| Step::Disk { percent }),
        2 => Just(Step::Removed),
        2 => (0u32..3_000).prop_map(|seconds| Step::Pass { seconds }),
    ]
}

/// What the test knows of the executors that the follower started.
struct Executor {
    container: ContainerId,
    id: String,
    custom: bool,
    stream: Option<StreamId>,
}

struct Play {
    w: World,
    executors: Vec<Executor>,
    /// Last update forwarded per task, unless acknowledged.
    waiting: BTreeMap<String, i::StatusUpdate>,
    removing: Vec<std::path::PathBuf>,
    /// Whose links are being changed.
    linking: Vec<ContainerId>,
    /// Updates by task in the order in which the executor sent them.
    sent: BTreeMap<String, Vec<Vec<u8>>>,
    forwarded: BTreeMap<String, Vec<Vec<u8>>>,
    calls: Vec<(ContainerId, Call)>,
    /// Tasks ever run, by their unique id.
    ran: BTreeSet<String>,
    ended: BTreeMap<String, usize>,
    shut_down: BTreeSet<String>,
    runs: u32,
    number: u32,
    streams: u128,
}

impl Play {
    fn new() -> Self {
        Self {
            w: World::registered_with(oversubscribing()),
            executors: Vec::new(),
            waiting: BTreeMap::new(),
            removing: Vec::new(),
            linking: Vec::new(),
            sent: BTreeMap::new(),
            forwarded: BTreeMap::new(),
            calls: Vec::new(),
            ran: BTreeSet::new(),
            ended: BTreeMap::new(),
            shut_down: BTreeSet::new(),
            runs: 0,
            number: 0,
            streams: 0,
        }
    }

    /// Looks at what the last step did.
    fn settle(&mut self) {
        for effect in self.w.take() {
            match effect {
                Effect::StartLocalExecutor(local) => self.executors.push(Executor {
                    container: local.container,
                    id: local.info.executor_id.value,
                    custom: false,
                    stream: None,
                }),
                Effect::Launch(spec) => {
                    let id = spec
                        .environment
                        .iter()
                        .find(|(name, _)| name == "MESOS_EXECUTOR_ID")
                        .unwrap()
                        .1
                        .clone();
                    self.executors.push(Executor {
                        container: spec.container,
                        id,
                        custom: true,
                        stream: None,
                    });
                }
                Effect::Send {
                    message: PeerMessage::StatusUpdate(m),
                    ..
                } => self.forwarded(m.update),
                Effect::Remove { path } => self.removing.push(path),
                Effect::LinkVolumes(links) => {
                    let twice = self.linking.contains(&links.container);
                    assert!(!twice, "one change of a sandbox at a time");
                    assert!(!links.made.is_empty() || !links.gone.is_empty());
                    self.linking.push(links.container);
                }
                Effect::Event {
                    to: ExecutorPeer::Local(container),
                    ..
                } => {
                    assert!(
                        self.executors.iter().any(|e| e.container == container),
                        "event for nobody"
                    );
                }
                _ => {}
            }
        }
    }

    fn forwarded(&mut self, update: i::StatusUpdate) {
        let task = update.status.task_id.value.clone();
        let uuid = update.uuid.as_ref().unwrap().to_vec();
        let waiting = self
            .waiting
            .get(&task)
            .and_then(|u| u.uuid.clone())
            .map(|u| u.to_vec());
        if waiting.as_deref() != Some(&uuid[..]) {
            assert_eq!(waiting, None, "{task}: another update waits");
            self.forwarded.entry(task.clone()).or_default().push(uuid);
            if is_terminal(update.status.state()) {
                *self.ended.entry(task.clone()).or_default() += 1;
            }
        }
        self.waiting.insert(task, update);
    }

    fn pick(&self, which: u8) -> Option<usize> {
        (!self.executors.is_empty()).then(|| usize::from(which) % self.executors.len())
    }

    fn play(&mut self, step: Step) {
        match step {
            Step::Run {
                task,
                custom,
                launch,
                group,
                extra,
            } => self.run(task, custom, launch, group, extra),
            Step::Linked { which, fail } => self.linked(which, fail),
            Step::Overload => {
                let (five, fifteen) = (100.0, 100.0);
                self.w.step(Input::Load(Load { five, fifteen }));
            }
            Step::Subscribe { executor } => {
                let Some(at) = self.pick(executor) else {
                    return;
                };
                self.subscribe(at);
            }
            Step::Update {
                executor,
                task,
                state,
            } => self.update(executor, task, state),
            Step::Resend { which } => self.resend(which),
            Step::CloseStream { executor } => {
                let Some(at) = self.pick(executor) else {
                    return;
                };
                if let Some(stream) = self.executors[at].stream.take() {
                    self.w.step(Input::StreamClosed { stream });
                }
            }
            Step::Launched { executor } => {
                self.container(executor, ContainerEvent::Launched { pid: 9 }, false)
            }
            Step::Fail { executor } => {
                let event = ContainerEvent::LaunchFailed {
                    step: LaunchStep::Start,
                    message: "no".into(),
                };
                self.container(executor, event, true);
            }
            Step::Exit { executor, code } => {
                let event = ContainerEvent::Exited {
                    status: Some(ExitStatus::Code(code)),
                };
                self.container(executor, event, true);
            }
            Step::Kill { task } => {
                // The newest task of that number.
                let prefix = format!("t{task}-");
                if let Some(id) = self.ran.iter().rfind(|id| id.starts_with(&prefix)).cloned() {
                    // A kill of an unknown task is answered each time; only live ones are asked for here.
                    if self.is_live(&id) {
                        self.w.kill(&id);
                    }
                }
            }
            Step::Acknowledge { which } => {
                let keys: Vec<_> = self.waiting.keys().cloned().collect();
                if let Some(task) = keys.get(usize::from(which) % keys.len().max(1)) {
                    self.acknowledge(task);
                }
            }
            Step::ShutdownExecutor { executor } => {
                let Some(at) = self.pick(executor) else {
                    return;
                };
                let executor_id = Some(v1::ExecutorId {
                    value: self.executors[at].id.clone(),
                });
                self.w.leader_says(i::ShutdownExecutorMessage {
                    executor_id,
                    framework_id: framework().id,
                });
            }
            Step::ShutdownFramework => {
                let running = self.w.follower.view().phase == tepui_follower::Phase::Running;
                self.w.leader_says(i::ShutdownFrameworkMessage {
                    framework_id: framework().id.unwrap(),
                });
                if running {
                    // Nobody is told of what ends from here on.
                    self.shut_down.extend(self.ran.iter().cloned());
                    self.waiting.clear();
                }
            }
            Step::Disconnect => self.w.step(Input::LeaderDetected(None)),
            Step::Reconnect => self.reconnect(),
            Step::Disk { percent } => self.w.step(Input::DiskUsage(f64::from(percent) / 100.0)),
            Step::Removed => {
                if let Some(path) = self.removing.pop() {
                    self.w.step(Input::Removed { path, error: None });
                }
            }
            Step::Pass { seconds } => self.w.pass(Duration::from_secs(seconds.into())),
        }
        self.settle();
    }

    fn linked(&mut self, which: u8, fail: bool) {
        if self.linking.is_empty() {
            return;
        }
        let at = usize::from(which) % self.linking.len();
        self.w.step(Input::VolumesLinked {
            container: self.linking.remove(at),
            error: fail.then(|| "no room".to_owned()),
        });
    }

    fn run(&mut self, task: u8, custom: bool, launch: Option<bool>, group: bool, extra: u8) {
        let extra = match extra {
            0 => Some(volume("v", "data")),
            // Of two of one name neither can be shown.
            1 => Some(volume("other", "data")),
            2 => Some(volume("more", "more")),
            3 => Some(volume("v", "..")),
            4 => Some(revocable(1.0)),
            _ => None,
        };
        if self.w.follower.view().leader.is_none() {
            return;
        }
        let terminating = self
            .w
            .follower
            .view()
            .frameworks
            .values()
            .any(|f| f.terminating);
        self.runs += 1;
        let id = format!("t{task}-{:04}", self.runs);
        if !terminating {
            self.ran.insert(id.clone());
        }
        if custom && group {
            let second = format!("u{task}-{:04}", self.runs);
            if !terminating {
                self.ran.insert(second.clone());
            }
            let mut tasks = vec![command(&id), command(&second)];
            tasks[0].resources.extend(extra);
            self.w.leader_says(i::RunTaskGroupMessage {
                framework: framework(),
                executor: custom_executor(&format!("e{}", task % 2)),
                task_group: v1::TaskGroupInfo { tasks },
                launch_executor: launch,
                ..Default::default()
            });
            return;
        }
        let mut info = if custom {
            v1::TaskInfo {
                executor: Some(custom_executor(&format!("e{}", task % 2))),
                ..crate::harness::task(&id)
            }
        } else {
            command(&id)
        };
        info.resources.extend(extra);
        let message = i::RunTaskMessage {
            framework: framework(),
            task: info,
            launch_executor: launch,
            ..Default::default()
        };
        self.w.leader_says(message);
    }

    fn subscribe(&mut self, at: usize) {
        let (id, container) = (
            self.executors[at].id.clone(),
            self.executors[at].container.clone(),
        );
        if self.executors[at].custom {
            self.streams += 1;
            let (stream, refusal) = self.w.http_subscribe(subscribe(&id));
            if refusal.is_none() {
                self.executors[at].stream = Some(stream);
            }
        } else {
            self.w.local(&container, subscribe(&id));
        }
    }

    fn update(&mut self, executor: u8, task: u8, state: u8) {
        let Some(at) = self.pick(executor) else {
            return;
        };
        let id = self.executors[at].id.clone();
        let view = self.w.follower.view();
        let mut launched = view
            .frameworks
            .values()
            .filter_map(|f| f.executors.get(id.as_str()))
            .flat_map(|e| e.launched.keys());
        let Some(task) = launched.nth(usize::from(task) % 2).cloned() else {
            return;
        };
        let states = [
            TaskState::TaskStarting,
            TaskState::TaskRunning,
            TaskState::TaskFinished,
            TaskState::TaskFailed,
            TaskState::TaskKilled,
        ];
        self.number += 1;
        let mut call = update(&id, task.as_str(), states[usize::from(state)], 0);
        let status = &mut call.update.as_mut().unwrap().status;
        let mut uuid = [0; 16];
        uuid[..4].copy_from_slice(&self.number.to_be_bytes());
        uuid[6] = 0x40;
        status.uuid = Some(uuid.to_vec().into());
        let terminating = view.frameworks.values().any(|f| f.terminating);
        self.calls
            .push((self.executors[at].container.clone(), call.clone()));
        if self.executors[at].custom {
            assert_eq!(self.w.http(call), tepui_follower::io::Reply::Accepted);
        } else {
            let container = self.executors[at].container.clone();
            self.w.local(&container, call);
        }
        if !terminating {
            self.sent
                .entry(task.to_string())
                .or_default()
                .push(uuid.to_vec());
        }
    }

    fn resend(&mut self, which: u8) {
        let Some((container, call)) = self
            .calls
            .get(usize::from(which) % self.calls.len().max(1))
            .cloned()
        else {
            return;
        };
        let task = call.update.as_ref().unwrap().status.task_id.value.clone();
        let view = self.w.follower.view();
        let known = |e: &std::sync::Arc<ExecutorView>| {
            e.container == container
                && (e.launched.contains_key(task.as_str())
                    || e.terminated.contains_key(task.as_str()))
        };
        let executor = self.executors.iter().find(|e| e.container == container);
        let Some(executor) = executor.filter(|_| {
            view.frameworks
                .values()
                .any(|f| f.executors.values().any(known))
        }) else {
            return;
        };
        if executor.custom {
            self.w.http(call);
        } else {
            self.w.local(&container, call);
        }
    }

    fn container(&mut self, executor: u8, event: ContainerEvent, end: bool) {
        let Some(at) = self.pick(executor) else {
            return;
        };
        let container = self.executors[at].container.clone();
        self.w.step(Input::Container { container, event });
        if end {
            self.executors.remove(at);
        }
    }

    fn is_live(&self, task: &str) -> bool {
        let view = self.w.follower.view();
        view.frameworks.values().any(|f| {
            f.pending.iter().any(|t| t.task_id.value == task)
                || f.executors.values().any(|e| {
                    e.launched.contains_key(task)
                        || e.queued.iter().any(|t| t.task_id.value == task)
                })
        })
    }

    fn acknowledge(&mut self, task: &str) {
        if self.w.follower.view().phase == tepui_follower::Phase::Running
            && let Some(update) = self.waiting.remove(task)
        {
            self.w.acknowledge(&update);
        }
    }

    fn reconnect(&mut self) {
        if self.w.follower.view().phase != tepui_follower::Phase::Running {
            self.w.step(Input::LeaderDetected(Some(leader())));
            self.w.pass(Duration::from_secs(2));
            let slave_id = v1::AgentId { value: ID.into() };
            self.w.leader_says(i::SlaveReregisteredMessage {
                slave_id,
                ..Default::default()
            });
        }
    }

    /// All executors end, all removals end, all updates are acknowledged.
    fn finish(&mut self) {
        self.reconnect();
        self.settle();
        for _ in 0..10_000 {
            self.reconnect();
            if let Some(path) = self.removing.pop() {
                self.w.step(Input::Removed { path, error: None });
            } else if !self.linking.is_empty() {
                self.linked(0, false);
            } else if !self.executors.is_empty() {
                self.container(0, ContainerEvent::Exited { status: None }, true);
            } else if let Some(task) = self.waiting.keys().next().cloned() {
                self.acknowledge(&task);
            } else if self.w.follower.view().frameworks.size() > 0 {
                panic!(
                    "a framework is left: {:?}",
                    self.w.follower.view().frameworks
                );
            } else {
                return;
            }
            self.settle();
        }
        panic!("it never ends");
    }
}

proptest! {
    #[test]
    fn every_task_ends_once_and_updates_keep_their_order(steps in prop::collection::vec(step(), 0..80)) {
        let mut play = Play::new();
        for step in steps {
            play.play(step);
        }
        play.finish();
        for task in &play.ran {
            let ended = play.ended.get(task).copied().unwrap_or(0);
            prop_assert!(ended <= 1, "{} ended {} times", task, ended);
            prop_assert!(ended == 1 || play.shut_down.contains(task), "{} never ended", task);
        }
        for (task, forwarded) in &play.forwarded {
            let sent = play.sent.get(task).cloned().unwrap_or_default();
            let of_executor: Vec<_> = forwarded.iter().filter(|uuid| sent.contains(uuid)).cloned().collect();
            let mut expected = sent.clone();
            expected.truncate(of_executor.len());
            if !play.shut_down.contains(task) {
                prop_assert_eq!(of_executor, expected, "order of {}", task);
            }
        }
    }

    #[test]
    fn arbitrary_peers_never_panic_us(seed: u64, count in 0usize..60) {
        let mut rng = tepui_model::Rng::seed(seed);
        let mut w = World::with(config());
        w.step(Input::LeaderDetected(Some(leader())));
        for _ in 0..count {
            let name = PeerMessage::NAMES[rng.below(PeerMessage::NAMES.len() as u64) as usize];
            let length = rng.below(12) as usize;
            // Mostly default messages; short random bytes that happen to decode.
            let bytes: Vec<u8> = (0..length).map(|_| rng.below(256) as u8).collect();
            for body in [bytes, Vec::new()] {
                if let Ok(message) = PeerMessage::decode(name, body.into()) {
                    w.leader_says(message);
                }
            }
            w.pass(Duration::from_secs(rng.below(100)));
        }
    }
}

#[test]
fn the_same_inputs_give_the_same_effects() {
    let run = || {
        let mut w = World::registered();
        w.run(command("t"));
        let container = w.local_executor().container;
        w.exited(&container, ExitStatus::Code(1));
        format!("{:?}", w.take())
    };
    assert_eq!(run(), run());
}

#[test]
fn time_that_runs_backwards_is_held() {
    let mut w = World::registered();
    let mut fx = Effects::default();
    w.follower.handle(Time::from_nanos(1), Input::Tick, &mut fx);
    assert!(w.follower.view().at >= Time::from_nanos(1_000_000_000_000));
}
