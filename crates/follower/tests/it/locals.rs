//! The executors within a follower: whose a container is, what is taken back, probes, the end. Every
//! step is followed by `check()`.

use crate::harness::{command, framework, task};
use proptest::prelude::*;
use std::{collections::BTreeSet, sync::Arc, time::Duration};
use tepui_executor::io::{Input as ExecutorInput, ProbeId, ProbeOutcome};
use tepui_follower::{
    io::{Input, LocalExecutor, LocalTask},
    locals::{Effect, Effects, Found, Locals},
};
use tepui_model::{
    Rng, Time,
    container::{ContainerEvent, ContainerId, ExitStatus, LaunchStep},
};
use tepui_protocol::v1::{
    self, HealthCheck,
    TaskState::{self, *},
    executor::{Call, Event, call, event},
    executor_info::Type,
    health_check,
};

const RUNS: ContainerEvent = ContainerEvent::Launched { pid: 42 };

fn exited(code: i32) -> ContainerEvent {
    ContainerEvent::Exited {
        status: Some(ExitStatus::Code(code)),
    }
}

fn killed() -> ContainerEvent {
    ContainerEvent::Exited {
        status: Some(ExitStatus::Signal(9)),
    }
}

fn id(text: &str) -> ContainerId {
    ContainerId::top(text)
}

/// An executor whose container has its name.
fn executor(name: &str, kind: Type, recovered: Vec<LocalTask>) -> LocalExecutor {
    LocalExecutor {
        container: id(name),
        info: v1::ExecutorInfo {
            r#type: Some(kind.into()),
            executor_id: v1::ExecutorId { value: name.into() },
            ..Default::default()
        },
        framework: framework(),
        sandbox: "/sandbox".into(),
        latest: None,
        user: None,
        environment: Vec::new(),
        shutdown_grace_period: Duration::from_secs(5),
        outlives: true,
        recovered,
    }
}

/// A task of an earlier follower.
fn left(task: &str, state: Option<TaskState>) -> LocalTask {
    LocalTask {
        info: command(task),
        group: None,
        state,
    }
}

/// A container of an earlier follower.
fn found(id: ContainerId, name: &str, event: ContainerEvent) -> Found {
    Found {
        id,
        name: name.into(),
        event,
        told: false,
        running_for: Duration::from_secs(10),
    }
}

struct Desk {
    locals: Locals,
    now: Time,
    /// Updates that executors have sent.
    statuses: Vec<v1::TaskStatus>,
    /// Launched and not ended.
    launched: BTreeSet<ContainerId>,
}

impl Desk {
    fn new() -> Self {
        Self {
            locals: Locals::new(Rng::seed(5)),
            now: Time::from_nanos(1_700_000_000_000_000_000),
            statuses: Vec::new(),
            launched: BTreeSet::new(),
        }
    }

    /// With one of each kind of executor subscribed; nothing is left to look at.
    fn with(kind: Type) -> Self {
        let mut desk = Self::new();
        desk.start(&executor("e", kind, Vec::new()));
        desk.subscribe("e");
        desk
    }

    /// With a task that runs in `e`.
    fn running(info: v1::TaskInfo) -> Self {
        let mut desk = Self::with(Type::Custom);
        desk.launch("e", info);
        desk.news(&id("e"), RUNS);
        desk
    }

    /// One step, and what came out of it as short texts.
    fn step(&mut self, step: impl FnOnce(&mut Locals, Time, &mut Effects)) -> Vec<String> {
        let mut fx = Effects::default();
        step(&mut self.locals, self.now, &mut fx);
        self.locals.check();
        let seen = fx.drain().map(|effect| self.see(effect));
        seen.collect()
    }

    fn see(&mut self, effect: Effect) -> String {
        match effect {
            Effect::Input(Input::LocalExecutorCall { container, call }) => {
                self.heard(&container, *call)
            }
            Effect::Input(Input::Container { container, event }) => match event {
                ContainerEvent::Launched { pid } => format!("{container} is {pid}"),
                ContainerEvent::Exited { status } => format!("{container} {}", status.unwrap()),
                ContainerEvent::LaunchFailed { message, .. } => format!("{container}: {message}"),
            },
            Effect::Input(other) => panic!("not of an executor: {other:?}"),
            Effect::Launch(spec) => {
                let text = format!("launch {}", without_uuid(&spec.container));
                assert!(self.launched.insert(spec.container), "launched twice");
                text
            }
            Effect::Signal { container, signal } => format!("signal {signal} to {container}"),
            Effect::Destroy { container } => format!("destroy {}", without_uuid(&container)),
            Effect::Forget { container } => format!("forget {container}"),
            Effect::Discard(found) => {
                self.launched.remove(&found.id);
                format!("discard {}", found.id)
            }
            Effect::Probe { probe, .. } => format!("probe {}", probe.0),
            Effect::CancelProbe { probe, .. } => format!("cancel {}", probe.0),
        }
    }

    fn heard(&mut self, executor: &ContainerId, call: Call) -> String {
        match (call.r#type(), call.update) {
            (call::Type::Update, Some(update)) => {
                let (task, state) = (&update.status.task_id.value, update.status.state());
                let text = format!("{task} {}", state.as_str_name());
                self.statuses.push(update.status);
                text
            }
            (kind, _) => format!("{} of {executor}", kind.as_str_name()),
        }
    }

    fn start(&mut self, executor: &LocalExecutor) -> Vec<String> {
        self.step(|locals, _, fx| locals.start(executor, fx))
    }

    fn say(&mut self, executor: &str, input: ExecutorInput) -> Vec<String> {
        self.step(|locals, now, fx| locals.handle(now, &id(executor), input, fx))
    }

    fn event(&mut self, executor: &str, event: Event) -> Vec<String> {
        self.say(executor, ExecutorInput::Event(Box::new(event)))
    }

    /// What comes of an executor's being connected and subscribed.
    fn subscribe(&mut self, executor: &str) -> Vec<String> {
        let hello = self.say(executor, ExecutorInput::Connected);
        assert_eq!(hello, [format!("SUBSCRIBE of {executor}")]);
        let subscribed = event::Subscribed {
            framework_info: framework(),
            ..Default::default()
        };
        self.event(
            executor,
            Event {
                r#type: Some(event::Type::Subscribed.into()),
                subscribed: Some(subscribed),
                ..Default::default()
            },
        )
    }

    fn launch(&mut self, executor: &str, task: v1::TaskInfo) -> Vec<String> {
        self.event(
            executor,
            Event {
                r#type: Some(event::Type::Launch.into()),
                launch: Some(event::Launch { task }),
                ..Default::default()
            },
        )
    }

    fn launch_group(&mut self, executor: &str, tasks: Vec<v1::TaskInfo>) -> Vec<String> {
        let task_group = v1::TaskGroupInfo { tasks };
        self.event(
            executor,
            Event {
                r#type: Some(event::Type::LaunchGroup.into()),
                launch_group: Some(event::LaunchGroup { task_group }),
                ..Default::default()
            },
        )
    }

    fn kill(&mut self, executor: &str, task: &str) -> Vec<String> {
        let task_id = v1::TaskId { value: task.into() };
        let kill = event::Kill {
            task_id,
            kill_policy: None,
        };
        self.event(
            executor,
            Event {
                r#type: Some(event::Type::Kill.into()),
                kill: Some(kill),
                ..Default::default()
            },
        )
    }

    /// Acknowledges the last update.
    fn acknowledge(&mut self, executor: &str) -> Vec<String> {
        let status = self.statuses.last().unwrap().clone();
        let acknowledged = event::Acknowledged {
            task_id: status.task_id,
            uuid: status.uuid.unwrap(),
        };
        self.event(
            executor,
            Event {
                r#type: Some(event::Type::Acknowledged.into()),
                acknowledged: Some(acknowledged),
                ..Default::default()
            },
        )
    }

    /// News of a container, which must be of an executor here.
    fn news(&mut self, container: &ContainerId, event: ContainerEvent) -> Vec<String> {
        if !matches!(event, ContainerEvent::Launched { .. }) {
            self.launched.remove(container);
        }
        self.step(|locals, now, fx| {
            assert!(locals.container(now, container, &event, fx), "not ours");
        })
    }

    /// Lets time pass until something is due.
    fn wait(&mut self) -> Vec<String> {
        self.now = self.locals.next_deadline().unwrap();
        self.tick()
    }

    fn tick(&mut self) -> Vec<String> {
        self.step(|locals, now, fx| locals.tick(now, fx))
    }

    /// The only container of a check.
    fn check_container(&self) -> ContainerId {
        let is_check = |c: &&ContainerId| c.value.starts_with("check-");
        self.launched.iter().find(is_check).unwrap().clone()
    }
}

fn without_uuid(container: &ContainerId) -> String {
    let text = container.to_string();
    match text.split_once(".check-") {
        Some((task, _)) => format!("check of {task}"),
        None => text,
    }
}

#[test]
fn a_task_runs_and_its_executor_is_over_when_its_end_is_acknowledged() {
    let mut desk = Desk::new();
    assert_eq!(
        desk.start(&executor("e", Type::Custom, Vec::new())),
        [""; 0]
    );
    assert_eq!(desk.subscribe("e"), [""; 0]);
    assert_eq!(
        desk.launch("e", command("t")),
        ["t TASK_STARTING", "launch e"]
    );
    assert_eq!(desk.news(&id("e"), RUNS), ["e is 42", "t TASK_RUNNING"]);
    // The container's end is its task's: its executor goes on until that is known.
    assert_eq!(desk.news(&id("e"), exited(0)), ["t TASK_FINISHED"]);
    assert!(desk.locals.contains(&id("e")));
    let end = desk.acknowledge("e");
    assert_eq!(end, ["forget e", "e exited with status 0"]);
    assert!(!desk.locals.contains(&id("e")));
    assert_eq!(desk.locals.next_deadline(), None);
}

#[test]
fn news_of_other_containers_are_not_taken() {
    let mut desk = Desk::running(command("t"));
    desk.step(|locals, now, fx| {
        assert!(!locals.container(now, &id("other"), &exited(0), fx));
        assert!(fx.0.is_empty());
    });
}

#[test]
fn an_executor_that_is_destroyed_is_over_once_its_containers_are() {
    let mut desk = Desk::with(Type::Default);
    desk.launch_group("e", vec![command("a"), command("b")]);
    let nested: Vec<ContainerId> = desk.launched.iter().cloned().collect();
    let [a, b] = &nested[..] else {
        panic!("not two containers")
    };
    assert_eq!(desk.news(a, RUNS)[0], format!("{a} is 42"));
    let destroy = |desk: &mut Desk| desk.step(|locals, _, fx| locals.destroy(&id("e"), fx));
    assert_eq!(destroy(&mut desk), ["destroy e"]);
    // It is dead: it says nothing any more, and nothing is due.
    assert_eq!(desk.kill("e", "a"), [""; 0]);
    assert_eq!(desk.locals.next_deadline(), None);
    let gone = format!("{a} terminated with signal Killed");
    assert_eq!(desk.news(a, killed()), [gone]);
    let failed = ContainerEvent::LaunchFailed {
        step: LaunchStep::Start,
        message: "destroyed".into(),
    };
    assert_eq!(desk.news(b, failed), ["e terminated with signal Killed"]);
    assert_eq!(destroy(&mut desk), [""; 0]);
}

#[test]
fn an_executor_without_containers_is_over_at_once() {
    let mut desk = Desk::with(Type::Custom);
    let end = desk.step(|locals, _, fx| locals.destroy(&id("e"), fx));
    assert_eq!(end, ["e terminated with signal Killed"]);
}

#[test]
fn nobody_hears_of_the_end_of_an_executor_that_is_stopped() {
    let mut desk = Desk::running(command("t"));
    let stop = desk.step(|locals, _, fx| locals.stop(&id("e"), fx));
    assert_eq!(stop, ["destroy e"]);
    assert!(!desk.locals.contains(&id("e")));
    assert_eq!(desk.news(&id("e"), killed()), [""; 0]);
}

#[test]
fn a_task_goes_on_in_its_container_after_a_restart() {
    let mut desk = Desk::new();
    desk.locals.found(vec![found(id("e"), "t", RUNS)]);
    let recovered = vec![left("t", Some(TaskRunning))];
    assert_eq!(desk.start(&executor("e", Type::Custom, recovered)), [""; 0]);
    assert_eq!(desk.subscribe("e"), [""; 0]);
    assert_eq!(desk.news(&id("e"), exited(0)), ["t TASK_FINISHED"]);
    let end = desk.acknowledge("e");
    assert_eq!(end, ["forget e", "e exited with status 0"]);
}

#[test]
fn a_container_that_ends_before_its_executor_is_started_ends_its_task() {
    let mut desk = Desk::new();
    desk.locals.found(vec![found(id("e"), "t", RUNS)]);
    assert_eq!(desk.news(&id("e"), exited(0)), [""; 0]);
    let recovered = vec![left("t", Some(TaskRunning))];
    assert_eq!(desk.start(&executor("e", Type::Custom, recovered)), [""; 0]);
    assert_eq!(desk.subscribe("e"), ["t TASK_FINISHED"]);
    let end = desk.acknowledge("e");
    assert_eq!(end, ["forget e", "e exited with status 0"]);
}

#[test]
fn a_container_that_ends_before_its_executor_is_subscribed_ends_its_task() {
    let mut desk = Desk::new();
    desk.locals.found(vec![found(id("e"), "t", RUNS)]);
    desk.start(&executor(
        "e",
        Type::Custom,
        vec![left("t", Some(TaskRunning))],
    ));
    assert_eq!(desk.news(&id("e"), exited(1)), [""; 0]);
    assert_eq!(desk.subscribe("e"), ["t TASK_FAILED"]);
}

/// Which of the containers found is a task's, and what is said of the task then.
#[test]
fn a_task_claims_the_container_of_its_name() {
    let c = |name: &str| id("e").nested(name);
    let case = |containers: Vec<Found>, state: Option<TaskState>| {
        let mut desk = Desk::new();
        desk.locals.found(containers);
        let mut seen = desk.start(&executor("e", Type::Default, vec![left("t", state)]));
        seen.extend(desk.subscribe("e"));
        seen.push("rest:".into());
        seen.extend(desk.step(|locals, _, fx| locals.discard_rest(fx)));
        seen.join(", ")
    };
    let runs = Some(TaskRunning);
    // By name; the others of the executor are nobody's, those of other executors may be wanted yet.
    assert_eq!(
        case(
            vec![
                found(c("1"), "other", RUNS),
                found(id("f"), "t", RUNS),
                found(c("2"), "t", RUNS),
            ],
            runs
        ),
        "discard e.1, rest:, discard f"
    );
    // One that runs rather than one that has ended: it is the later one.
    assert_eq!(
        case(
            vec![found(c("1"), "t", exited(1)), found(c("2"), "t", RUNS)],
            runs
        ),
        "discard e.1, rest:"
    );
    // One that has ended says how.
    assert_eq!(
        case(vec![found(c("1"), "t", exited(0))], runs),
        "t TASK_FINISHED, rest:"
    );
    // One without a name may be that of any task that is not known to have run.
    for state in [None, Some(TaskStaging), Some(TaskStarting)] {
        let seen = case(vec![found(c("1"), "", exited(1))], state);
        assert!(seen.contains("t TASK_FAILED"), "{state:?}: {seen}");
        assert!(!seen.contains("launch"), "{state:?}: {seen}");
        assert!(!seen.contains("discard"), "{state:?}: {seen}");
    }
    // One that had run says so by its name, or is gone.
    assert_eq!(
        case(vec![found(c("1"), "", exited(0))], runs),
        "t TASK_FAILED, rest:"
    );
}

#[test]
fn two_tasks_may_claim_the_same_container_without_a_name() {
    let mut desk = Desk::new();
    let lost = id("e").nested("1");
    desk.locals.found(vec![found(
        lost,
        "",
        ContainerEvent::Exited { status: None },
    )]);
    let tasks = vec![left("a", None), left("b", None)];
    desk.start(&executor("e", Type::Default, tasks));
    let seen = desk.subscribe("e").join(", ");
    assert!(seen.contains("a TASK_FAILED"), "{seen}");
    assert!(seen.contains("b TASK_FAILED"), "{seen}");
    assert!(desk.launched.is_empty(), "started a second time");
}

#[test]
fn a_task_that_never_had_a_container_is_launched() {
    let mut desk = Desk::new();
    let tasks = vec![left("t", Some(TaskStarting))];
    desk.start(&executor("e", Type::Custom, tasks));
    assert_eq!(desk.subscribe("e"), ["launch e"]);
}

fn healthy(kind: health_check::Type, timeout: f64) -> v1::TaskInfo {
    let check = HealthCheck {
        r#type: Some(kind.into()),
        command: Some(v1::CommandInfo {
            value: Some("check".into()),
            ..Default::default()
        }),
        tcp: Some(health_check::TcpCheckInfo {
            port: 80,
            ..Default::default()
        }),
        delay_seconds: Some(1.0),
        interval_seconds: Some(2.0),
        timeout_seconds: Some(timeout),
        grace_period_seconds: Some(0.0),
        consecutive_failures: Some(1),
        ..Default::default()
    };
    v1::TaskInfo {
        health_check: Some(check),
        ..command("t")
    }
}

#[test]
fn a_command_that_takes_too_long_is_killed_and_answered_when_it_is_gone() {
    let mut desk = Desk::running(healthy(health_check::Type::Command, 3.0));
    assert_eq!(desk.wait(), ["launch check of e"]);
    let (began, check) = (desk.now, desk.check_container());
    // The follower need not know of it.
    assert_eq!(desk.news(&check, RUNS), [""; 0]);
    assert_eq!(desk.wait(), ["destroy check of e"]);
    assert_eq!(desk.now, began + Duration::from_secs(3));
    // Nobody is told yet, and it is killed once.
    assert_eq!(desk.locals.next_deadline(), None);
    let seen = desk.news(&check, killed()).join(", ");
    assert!(seen.contains("signal 15 to e"), "{seen}");
    assert_eq!(desk.statuses.last().unwrap().healthy, Some(false));
}

#[test]
fn a_command_that_ends_in_time_is_answered_with_its_status() {
    let mut desk = Desk::running(healthy(health_check::Type::Command, 3.0));
    desk.wait();
    let check = desk.check_container();
    assert_eq!(desk.news(&check, exited(0)), ["t TASK_RUNNING"]);
    assert_eq!(desk.statuses.last().unwrap().healthy, Some(true));
    // The next one: a new container.
    assert_eq!(desk.wait(), ["launch check of e"]);
    assert_ne!(desk.check_container(), check);
}

#[test]
fn a_command_that_cannot_be_started_is_a_failed_check() {
    let mut desk = Desk::running(healthy(health_check::Type::Command, 3.0));
    desk.wait();
    let failed = ContainerEvent::LaunchFailed {
        step: LaunchStep::Start,
        message: "no".into(),
    };
    let seen = desk.news(&desk.check_container(), failed).join(", ");
    assert!(seen.contains("signal 15 to e"), "{seen}");
}

#[test]
fn a_command_without_a_limit_is_waited_for() {
    let mut desk = Desk::running(healthy(health_check::Type::Command, 0.0));
    desk.wait();
    desk.now = desk.now + Duration::from_secs(1_000_000);
    assert_eq!(desk.tick(), [""; 0]);
    let check = desk.check_container();
    assert_eq!(desk.news(&check, exited(0)), ["t TASK_RUNNING"]);
}

#[test]
fn a_command_on_its_way_ends_with_its_task_and_is_gone_before_its_executor() {
    let mut desk = Desk::running(healthy(health_check::Type::Command, 3.0));
    desk.wait();
    let check = desk.check_container();
    let seen = desk.news(&id("e"), exited(0));
    assert_eq!(seen, ["destroy check of e", "t TASK_FINISHED"]);
    assert_eq!(desk.acknowledge("e"), ["forget e", "destroy e"]);
    assert_eq!(desk.news(&check, killed()), ["e exited with status 0"]);
}

#[test]
fn a_request_is_made_outside_and_answered() {
    let mut desk = Desk::running(healthy(health_check::Type::Tcp, 3.0));
    let answer = |desk: &mut Desk, probe, outcome| {
        let probe = ProbeId(probe);
        desk.step(|locals, now, fx| locals.probed(now, &id("e"), probe, outcome, fx))
    };
    assert_eq!(desk.wait(), ["probe 1"]);
    // Its time is not watched here.
    assert_eq!(desk.locals.next_deadline(), None);
    let seen = answer(&mut desk, 1, ProbeOutcome::Connected);
    assert_eq!(seen, ["t TASK_RUNNING"]);
    assert_eq!(answer(&mut desk, 1, ProbeOutcome::TimedOut), [""; 0]);
    assert_eq!(desk.wait(), ["probe 2"]);
    let seen = desk.news(&id("e"), exited(0));
    assert_eq!(seen, ["cancel 2", "t TASK_FINISHED"]);
    // It was too late to cancel it.
    assert_eq!(answer(&mut desk, 2, ProbeOutcome::TimedOut), [""; 0]);
}

#[test]
fn requests_of_an_executor_that_is_destroyed_are_cancelled() {
    let mut desk = Desk::running(healthy(health_check::Type::Tcp, 3.0));
    desk.wait();
    let seen = desk.step(|locals, _, fx| locals.destroy(&id("e"), fx));
    assert_eq!(seen, ["cancel 1", "destroy e"]);
    assert_eq!(
        desk.news(&id("e"), killed()),
        ["e terminated with signal Killed"]
    );
}

#[derive(Debug, Clone)]
enum Step {
    Start {
        executor: u8,
        group: bool,
        left: Option<u8>,
    },
    Subscribe(u8),
    Launch(u8),
    Kill(u8),
    Acknowledge(u8),
    News {
        container: u8,
        code: Option<i32>,
    },
    Wait,
    Destroy(u8),
    Stop(u8),
    DiscardRest,
}

fn any_step() -> impl Strategy<Value = Step> {
    let name = 0..4u8;
    prop_oneof![
        1 => (name.clone(), any::<bool>(), proptest::option::of(0..3u8)).prop_map(
            |(executor, group, left)| Step::Start {
                executor,
                group,
                left
            }
        ),
        1 => name.clone().prop_map(Step::Subscribe),
        1 => name.clone().prop_map(Step::Launch),
        1 => name.clone().prop_map(Step::Kill),
        1 => name.clone().prop_map(Step::Acknowledge),
        3 => (any::<u8>(), proptest::option::of(0..2i32))
            .prop_map(|(container, code)| Step::News { container, code }),
        2 => Just(Step::Wait),
        1 => name.clone().prop_map(Step::Destroy),
        1 => name.prop_map(Step::Stop),
        1 => Just(Step::DiscardRest),
    ]
}

/// Plays steps; remembers which executors were started and have not been said to be over.
struct Player {
    desk: Desk,
    known: BTreeSet<ContainerId>,
    subscribed: BTreeSet<u8>,
    /// Of an earlier follower, and not taken back.
    found: BTreeSet<ContainerId>,
}

impl Player {
    fn see(&mut self, seen: Vec<String>) {
        for text in seen {
            let over = self.known.iter().find(|id| {
                let rest = text.strip_prefix(&id.to_string());
                rest.is_some_and(|rest| rest.starts_with(" exited") || rest.starts_with(" term"))
            });
            if let Some(over) = over.cloned() {
                self.known.remove(&over);
            }
        }
    }

    fn play(&mut self, step: Step, number: usize) {
        let name = |n: u8| format!("e{n}");
        let seen = match step {
            Step::Start {
                executor: n,
                group,
                left: state,
            } => {
                let taken_back = state.is_some() && self.found.remove(&id(&name(n)));
                if self.desk.locals.contains(&id(&name(n)))
                    || self.in_use(&id(&name(n))) && !taken_back
                {
                    return;
                }
                let kind = if group { Type::Default } else { Type::Custom };
                let states = [None, Some(TaskStarting), Some(TaskRunning)];
                let recovered = state.map(|s| left(&name(n), states[usize::from(s)]));
                self.known.insert(id(&name(n)));
                self.subscribed.remove(&n);
                let recovered = recovered.into_iter().collect();
                self.desk.start(&executor(&name(n), kind, recovered))
            }
            Step::Subscribe(n) if self.desk.locals.contains(&id(&name(n))) => {
                let seen = self.desk.say(&name(n), ExecutorInput::Connected);
                self.see(seen);
                self.subscribed.insert(n);
                let subscribed = event::Subscribed {
                    framework_info: framework(),
                    ..Default::default()
                };
                let event = Event {
                    r#type: Some(event::Type::Subscribed.into()),
                    subscribed: Some(subscribed),
                    ..Default::default()
                };
                self.desk.event(&name(n), event)
            }
            Step::Launch(n) if self.subscribed.contains(&n) => {
                let mut info = healthy(health_check::Type::Command, 3.0);
                info.task_id = task(&format!("t{number}")).task_id;
                let seen = self.desk.launch(&name(n), info.clone());
                self.see(seen);
                self.desk.launch_group(&name(n), vec![info])
            }
            Step::Kill(n) => self.desk.kill(&name(n), &name(n)),
            Step::Acknowledge(n) if !self.desk.statuses.is_empty() => {
                self.desk.acknowledge(&name(n))
            }
            Step::News { container, code } => {
                let all = self.desk.launched.len();
                let Some(container) = self
                    .desk
                    .launched
                    .iter()
                    .nth(usize::from(container) % all.max(1))
                else {
                    return;
                };
                let container = container.clone();
                self.desk.news(&container, code.map_or(RUNS, exited))
            }
            Step::Wait if self.desk.locals.next_deadline().is_some() => self.desk.wait(),
            Step::Destroy(n) => self
                .desk
                .step(|locals, _, fx| locals.destroy(&id(&name(n)), fx)),
            Step::Stop(n) => {
                self.known.remove(&id(&name(n)));
                self.desk
                    .step(|locals, _, fx| locals.stop(&id(&name(n)), fx))
            }
            Step::DiscardRest => {
                self.found.clear();
                self.desk.step(|locals, _, fx| locals.discard_rest(fx))
            }
            Step::Subscribe(_) | Step::Launch(_) | Step::Acknowledge(_) | Step::Wait => return,
        };
        self.see(seen);
    }

    fn in_use(&self, executor: &ContainerId) -> bool {
        let mut all = self.desk.launched.iter();
        all.any(|c| c.root() == &*executor.value)
    }
}

proptest! {
    /// Whatever happens no invariant breaks, and an executor that is destroyed is said to be over, once,
    /// when its containers are gone.
    #[test]
    fn every_executor_is_over_once(steps in proptest::collection::vec(any_step(), 0..80)) {
        let mut desk = Desk::new();
        let names: [Arc<str>; 2] = ["e0".into(), "e1".into()];
        let all = names.iter().map(|name| found(ContainerId::top(name.clone()), name, RUNS));
        let all: Vec<Found> = all.collect();
        desk.launched.extend(all.iter().map(|found| found.id.clone()));
        desk.locals.found(all);
        let found = desk.launched.clone();
        let mut player = Player {
            desk,
            known: BTreeSet::new(),
            subscribed: BTreeSet::new(),
            found,
        };
        for (number, step) in steps.into_iter().enumerate() {
            player.play(step, number);
        }
        for n in 0..4 {
            player.play(Step::Destroy(n), 0);
        }
        while let Some(container) = player.desk.launched.first().cloned() {
            let seen = player.desk.news(&container, killed());
            player.see(seen);
        }
        prop_assert!(player.known.is_empty(), "never told: {:?}", player.known);
        prop_assert_eq!(player.desk.locals.next_deadline(), None);
    }
}
