//! A follower that was restarted: executors from before come back, or their end is reported.

use crate::harness::*;
use bytes::Bytes;
use proptest::prelude::*;
use std::time::Duration;
use tepui_follower::{
    Config, Follower, Phase,
    config::Recover,
    io::{Checkpoint, Effect, Effects, Input, ProcessName},
    recovered::{
        EndedRun, Fate, Problem, Recovered, RecoveredExecutor, RecoveredFramework, RecoveredLink,
        RecoveredTask,
    },
    view::ExecutorState,
};
use tepui_model::{
    Rng,
    container::{ContainerEvent, ContainerId, ExitStatus},
};
use tepui_protocol::{
    internal as i,
    peer::{PeerMessage, Pid},
    v1::{self, TaskState, executor::call},
};

const TIMEOUT: Duration = Duration::from_secs(2);

fn driver() -> Pid {
    "executor(1)@127.0.0.1:44081".parse().unwrap()
}

fn uuid(number: u8) -> Bytes {
    let mut uuid = [number; 16];
    uuid[6] = 0x40;
    uuid.to_vec().into()
}

fn sent_task(id: &str) -> v1::Task {
    let info = task(id);
    v1::Task {
        name: info.name,
        task_id: info.task_id,
        framework_id: framework().id.unwrap(),
        executor_id: Some(v1::ExecutorId { value: "e".into() }),
        agent_id: info.agent_id,
        state: TaskState::TaskStaging.into(),
        resources: info.resources,
        ..Default::default()
    }
}

/// A status update as it was checkpointed.
fn written(task: &str, state: TaskState, number: u8) -> i::StatusUpdate {
    let agent_id = Some(v1::AgentId { value: ID.into() });
    i::StatusUpdate {
        framework_id: framework().id.unwrap(),
        executor_id: Some(v1::ExecutorId { value: "e".into() }),
        slave_id: agent_id.clone(),
        status: v1::TaskStatus {
            task_id: v1::TaskId { value: task.into() },
            state: state.into(),
            agent_id,
            uuid: Some(uuid(number)),
            ..Default::default()
        },
        timestamp: 5.0,
        uuid: Some(uuid(number)),
        latest_state: None,
    }
}

fn remembered(id: &str, updates: Vec<i::StatusUpdate>, acknowledged: &[u8]) -> RecoveredTask {
    RecoveredTask {
        task: sent_task(id),
        damaged: None,
        launched: None,
        group: None,
        updates,
        acknowledged: acknowledged.iter().map(|number| uuid(*number)).collect(),
    }
}

/// Task `t` runs, and that was acknowledged.
fn running() -> RecoveredTask {
    remembered("t", vec![written("t", TaskState::TaskRunning, 1)], &[1])
}

fn executor(link: RecoveredLink, tasks: Vec<RecoveredTask>) -> RecoveredExecutor {
    RecoveredExecutor {
        info: custom_executor("e"),
        damaged: None,
        generated: false,
        container: "c".into(),
        process: Some(42),
        fate: Fate::Running,
        link,
        completed: false,
        tasks,
        earlier_runs: Vec::new(),
        age: Duration::ZERO,
    }
}

fn checkpoints(executors: Vec<RecoveredExecutor>) -> Recovered {
    Recovered {
        id: ID.into(),
        info: v1::AgentInfo::default(),
        rebooted: false,
        drain: None,
        frameworks: vec![RecoveredFramework {
            info: v1::FrameworkInfo {
                checkpoint: Some(true),
                ..framework()
            },
            damaged: None,
            pid: None,
            executors,
            ended: Vec::new(),
            age: Duration::ZERO,
        }],
        problems: Vec::new(),
    }
}

fn restarted_with(config: Config, mut recovered: Recovered) -> World {
    let mut w = World::with(config.clone());
    w.follower = Follower::new(config, w.now, Rng::seed(7), Some(recovered.id.clone()));
    let mut fx = Effects::default();
    // As after a restart with the same settings.
    recovered.info = (*w.follower.view().info).clone();
    w.follower.recover(w.now, recovered, &mut fx);
    w.follower.check();
    w.effects.extend(fx.drain());
    w
}

fn restarted(recovered: Recovered) -> World {
    restarted_with(config(), recovered)
}

/// With a v0 executor that runs task `t`; nothing left to look at.
fn with_driver(task: RecoveredTask) -> World {
    let link = RecoveredLink::Driver(driver());
    let mut w = restarted(checkpoints(vec![executor(link, vec![task])]));
    assert_eq!(
        w.seen(),
        [
            "attach",
            "attach",
            "attach",
            "ReconnectExecutorMessage to executor(1)"
        ]
    );
    w
}

fn reregister() -> i::ReregisterExecutorMessage {
    i::ReregisterExecutorMessage {
        framework_id: framework().id.unwrap(),
        executor_id: v1::ExecutorId { value: "e".into() },
        ..Default::default()
    }
}

fn driver_says(w: &mut World, message: impl Into<PeerMessage>) {
    w.step(Input::Peer {
        from: driver(),
        to: ProcessName::Follower,
        message: message.into(),
    });
}

/// The leader is found, and hears of the follower: what it hears.
fn introduce(w: &mut World) -> i::ReregisterSlaveMessage {
    w.step(Input::LeaderDetected(Some(leader())));
    w.pass(Duration::from_secs(1));
    let message = w.take_sent().into_iter().find_map(|message| match message {
        PeerMessage::ReregisterSlave(m) => Some(*m),
        _ => None,
    });
    welcome(w);
    message.expect("a re-registration")
}

fn welcome(w: &mut World) {
    w.leader_says(i::SlaveReregisteredMessage {
        slave_id: v1::AgentId { value: ID.into() },
        ..Default::default()
    });
}

fn phase(w: &World) -> Phase {
    w.follower.view().phase
}

fn container() -> ContainerId {
    ContainerId::top("c")
}

fn ended(w: &mut World, status: Option<ExitStatus>) {
    w.step(Input::Container {
        container: container(),
        event: ContainerEvent::Exited { status },
    });
}

/// States, reasons and texts of updates.
fn told(updates: &[i::StatusUpdate]) -> Vec<String> {
    let one = |u: &i::StatusUpdate| {
        let s = &u.status;
        let reason = s.reason.map(|_| s.reason().as_str_name());
        format!(
            "{} {} {} {}",
            s.task_id.value,
            s.state().as_str_name(),
            reason.unwrap_or_default(),
            s.message.as_deref().unwrap_or_default()
        )
    };
    updates.iter().map(one).collect()
}

#[test]
fn nothing_to_recover_goes_straight_to_the_leader() {
    let mut recovered = checkpoints(Vec::new());
    recovered.frameworks.clear();
    let mut w = restarted(recovered);
    assert_eq!(phase(&w), Phase::Disconnected);
    let message = introduce(&mut w);
    assert_eq!(message.slave.id.unwrap().value, ID);
    assert!(message.tasks.is_empty());
}

#[test]
fn a_v0_executor_comes_back_with_its_task_and_then_the_leader_hears_of_it() {
    let mut w = with_driver(running());
    assert_eq!(phase(&w), Phase::Recovering);
    driver_says(&mut w, reregister());
    // How it is reached is kept before it hears of it.
    assert_eq!(
        w.seen(),
        ["persist", "ExecutorReregisteredMessage to executor(1)"]
    );
    assert_eq!(phase(&w), Phase::Disconnected);
    let message = introduce(&mut w);
    assert_eq!(message.tasks.len(), 1);
    assert_eq!(message.tasks[0].state(), TaskState::TaskRunning);
    assert_eq!(message.executor_infos[0].executor_id.value, "e");
    assert_eq!(message.frameworks.len(), 1);

    let told = written("t", TaskState::TaskFinished, 2);
    let update = i::StatusUpdateMessage {
        update: told,
        pid: None,
    };
    driver_says(&mut w, update);
    let updates = w.updates();
    assert_eq!(updates.len(), 1);
    w.acknowledge(&updates[0]);
    w.exited(&container(), ExitStatus::Code(0));
    assert!(w.follower.view().frameworks.is_empty());
}

#[test]
fn a_leader_found_while_recovering_waits_and_is_not_believed_before() {
    let mut w = with_driver(running());
    w.step(Input::LeaderDetected(Some(leader())));
    w.run(command("early"));
    w.kill("t");
    w.pass(Duration::from_secs(1));
    assert!(w.seen().is_empty());
    driver_says(&mut w, reregister());
    w.pass(Duration::from_secs(1));
    assert!(
        w.take_sent()
            .iter()
            .any(|m| matches!(m, PeerMessage::ReregisterSlave(_)))
    );
}

#[test]
fn unacknowledged_updates_are_sent_again_in_order_and_acknowledged_ones_are_not() {
    let updates = vec![
        written("t", TaskState::TaskStarting, 1),
        written("t", TaskState::TaskRunning, 2),
        written("t", TaskState::TaskFinished, 3),
    ];
    let mut w = with_driver(remembered("t", updates, &[1]));
    driver_says(&mut w, reregister());
    let message = introduce(&mut w);
    assert_eq!(message.tasks[0].state(), TaskState::TaskFinished);
    let mut states = Vec::new();
    for _ in 0..2 {
        let updates = w.updates();
        assert_eq!(updates.len(), 1);
        states.push(updates[0].status.state());
        w.acknowledge(&updates[0]);
    }
    assert_eq!(states, [TaskState::TaskRunning, TaskState::TaskFinished]);
    assert!(w.updates().is_empty());
}

#[test]
fn an_update_that_was_safe_already_is_acknowledged_and_not_sent_twice() {
    let mut w = with_driver(remembered(
        "t",
        vec![written("t", TaskState::TaskRunning, 1)],
        &[],
    ));
    let mut message = reregister();
    message.updates = vec![
        written("t", TaskState::TaskRunning, 1),
        written("t", TaskState::TaskFinished, 2),
    ];
    driver_says(&mut w, message);
    assert_eq!(
        w.seen(),
        [
            "persist",
            "ExecutorReregisteredMessage to executor(1)",
            "StatusUpdateAcknowledgementMessage to executor(1)",
            "persist",
            "StatusUpdateAcknowledgementMessage to executor(1)",
        ]
    );
    introduce(&mut w);
    let first = w.updates();
    w.acknowledge(&first[0]);
    let second = w.updates();
    w.acknowledge(&second[0]);
    assert_eq!(
        [first[0].status.state(), second[0].status.state()],
        [TaskState::TaskRunning, TaskState::TaskFinished]
    );
    assert!(w.updates().is_empty());
}

#[test]
fn an_end_that_the_framework_has_acknowledged_is_not_told_again() {
    let ended = remembered("t", vec![written("t", TaskState::TaskFinished, 1)], &[1]);
    let mut w = with_driver(ended);
    let mut message = reregister();
    message.updates = vec![written("t", TaskState::TaskFinished, 1)];
    driver_says(&mut w, message);
    assert_eq!(
        w.seen(),
        [
            "persist",
            "ExecutorReregisteredMessage to executor(1)",
            "StatusUpdateAcknowledgementMessage to executor(1)",
        ]
    );
    introduce(&mut w);
    assert!(w.updates().is_empty());
}

#[test]
fn a_v1_executor_subscribes_again_and_tasks_it_never_saw_are_dropped() {
    let tasks = vec![running(), remembered("unseen", Vec::new(), &[])];
    let mut w = restarted(checkpoints(vec![executor(RecoveredLink::Http, tasks)]));
    assert_eq!(w.seen(), ["attach", "attach", "attach"]);
    let (_, refusal) = w.http_subscribe(subscribe("e"));
    assert_eq!(refusal, None);
    assert_eq!(w.seen(), ["persist", "SUBSCRIBED to stream", "persist"]);
    assert_eq!(phase(&w), Phase::Disconnected);
    introduce(&mut w);
    assert_eq!(
        told(&w.updates()),
        ["unseen TASK_DROPPED REASON_AGENT_RESTARTED Task launched during agent restart"]
    );
}

#[test]
fn what_does_not_come_back_in_time_is_killed_and_its_tasks_are_gone() {
    for aware in [true, false] {
        let mut recovered = checkpoints(vec![executor(RecoveredLink::Unknown, vec![running()])]);
        if !aware {
            recovered.frameworks[0].info.capabilities.clear();
        }
        let mut w = restarted(recovered);
        w.effects.clear();
        w.pass(TIMEOUT);
        assert_eq!(w.seen(), ["destroy"]);
        assert_eq!(phase(&w), Phase::Disconnected);
        introduce(&mut w);
        w.effects.clear();
        w.exited(&container(), ExitStatus::Signal(9));
        let state = if aware { "TASK_GONE" } else { "TASK_LOST" };
        assert_eq!(
            told(&w.updates()),
            [format!(
                "t {state} REASON_EXECUTOR_REREGISTRATION_TIMEOUT Executor did not reregister within 2secs"
            )]
        );
    }
}

#[test]
fn an_executor_that_ended_meanwhile_has_its_task_reported() {
    let mut w = with_driver(running());
    ended(&mut w, Some(ExitStatus::Code(1)));
    assert_eq!(phase(&w), Phase::Disconnected);
    w.effects.clear();
    introduce(&mut w);
    assert_eq!(
        told(&w.updates()),
        ["t TASK_FAILED REASON_EXECUTOR_TERMINATED Executor terminated"]
    );
}

#[test]
fn drivers_are_asked_again_until_they_are_back_and_may_answer_twice() {
    let mut config = config();
    config.executor_reregistration_retry_interval = Some(Duration::from_millis(700));
    let mut other = executor(RecoveredLink::Http, vec![]);
    other.info = custom_executor("other");
    other.container = "d".into();
    let link = RecoveredLink::Driver(driver());
    let both = vec![executor(link, vec![running()]), other];
    let mut w = restarted_with(config, checkpoints(both));
    w.effects.clear();
    w.pass(Duration::from_millis(750));
    assert_eq!(w.seen(), ["ReconnectExecutorMessage to executor(1)"]);
    driver_says(&mut w, reregister());
    driver_says(&mut w, reregister());
    let answer = ["persist", "ExecutorReregisteredMessage to executor(1)"];
    assert_eq!(w.seen(), [answer, answer].concat());
    w.pass(Duration::from_millis(750));
    assert!(w.seen().is_empty());
    w.pass(TIMEOUT);
    assert_eq!(w.seen(), ["destroy"]);
}

#[test]
fn what_registers_for_the_first_time_while_recovering_is_sent_away() {
    let mut w = with_driver(running());
    driver_says(
        &mut w,
        i::RegisterExecutorMessage {
            framework_id: framework().id.unwrap(),
            executor_id: v1::ExecutorId { value: "e".into() },
        },
    );
    assert_eq!(w.seen(), ["ShutdownExecutorMessage to executor(1)"]);
    assert_eq!(phase(&w), Phase::Recovering);
}

/// The executor of a command task, which runs within the follower.
fn command_executor_of(tasks: Vec<RecoveredTask>) -> RecoveredExecutor {
    let mut command = executor(RecoveredLink::Unknown, tasks);
    command.generated = true;
    command.process = None;
    command.fate = Fate::Unknown;
    command
}

fn launched(mut task_: RecoveredTask, group: Option<&str>) -> RecoveredTask {
    task_.launched = Some(task(&task_.task.task_id.value));
    task_.group = group.map(Into::into);
    task_
}

#[test]
fn tasks_within_the_follower_go_on_in_an_executor_that_is_started_anew() {
    let mut w = restarted(checkpoints(vec![command_executor_of(vec![launched(
        running(),
        None,
    )])]));
    let local = w.local_executor();
    assert_eq!(local.container, container());
    assert!(local.outlives);
    assert_eq!(local.recovered.len(), 1);
    assert_eq!(local.recovered[0].info.task_id.value, "t");
    assert_eq!(local.recovered[0].state, Some(TaskState::TaskRunning));
    assert_eq!(phase(&w), Phase::Recovering);
    // However long the machine was busy with something else.
    w.effects.clear();
    w.pass(TIMEOUT * 10);
    assert!(w.seen().is_empty());
    w.step(Input::LocalExecutorCall {
        container: container(),
        call: Box::new(subscribe("e")),
    });
    assert_eq!(w.seen(), ["SUBSCRIBED to local"]);
    assert_eq!(phase(&w), Phase::Disconnected);
    let message = introduce(&mut w);
    assert_eq!(message.tasks.len(), 1);
    assert!(w.updates().is_empty());
}

#[test]
fn tasks_whose_launch_nobody_wrote_down_are_reported_as_the_reference_does() {
    let mut w = restarted(checkpoints(vec![command_executor_of(vec![running()])]));
    assert_eq!(phase(&w), Phase::Disconnected);
    introduce(&mut w);
    assert_eq!(
        told(&w.updates()),
        [
            "t TASK_FAILED REASON_EXECUTOR_TERMINATED Abnormal executor termination: unknown container"
        ]
    );
}

#[test]
fn a_group_that_lost_one_does_not_go_on_when_it_is_back() {
    let group = Some("g");
    let failed = vec![written("u", TaskState::TaskFailed, 3)];
    let tasks = vec![
        launched(running(), group),
        launched(remembered("u", failed, &[]), group),
        launched(remembered("v", Vec::new(), &[]), Some("other")),
    ];
    let mut executor = command_executor_of(tasks);
    executor.generated = false;
    executor.info = v1::ExecutorInfo {
        r#type: Some(v1::executor_info::Type::Default.into()),
        ..custom_executor("e")
    };
    let mut w = restarted(checkpoints(vec![executor]));
    let local = w.local_executor();
    let ids: Vec<_> = local
        .recovered
        .iter()
        .map(|task| task.info.task_id.value.as_str())
        .collect();
    assert_eq!(ids, ["t", "v"]);
    w.step(Input::LocalExecutorCall {
        container: container(),
        call: Box::new(subscribe("e")),
    });
    assert_eq!(w.seen(), ["SUBSCRIBED to local", "KILL t to local"]);
}

#[test]
fn a_task_whose_checkpoint_is_damaged_is_reported_with_the_reason_durably_and_killed() {
    let mut damaged = running();
    damaged.damaged = Some("task.info: it was not written completely".to_owned());
    let other = remembered("u", vec![written("u", TaskState::TaskRunning, 2)], &[2]);
    let link = RecoveredLink::Driver(driver());
    let mut w = restarted(checkpoints(vec![executor(link, vec![damaged, other])]));
    let persisted = w.effects.iter().any(|e| match e {
        Effect::Persist(Checkpoint::StatusUpdate(u)) => u.status.state() == TaskState::TaskGone,
        _ => false,
    });
    assert!(persisted);
    w.effects.clear();
    driver_says(&mut w, reregister());
    assert_eq!(
        w.seen(),
        [
            "persist",
            "ExecutorReregisteredMessage to executor(1)",
            "KillTaskMessage to executor(1)"
        ]
    );
    introduce(&mut w);
    assert_eq!(
        told(&w.updates()),
        ["t TASK_GONE REASON_AGENT_RESTARTED task.info: it was not written completely"]
    );
}

#[test]
fn a_damaged_executor_or_framework_ends_and_its_tasks_are_reported() {
    for whole in [true, false] {
        let mut damaged = executor(RecoveredLink::Http, vec![running()]);
        damaged.damaged = whole.then(|| "executor.info is damaged".to_owned());
        let mut recovered = checkpoints(vec![damaged]);
        recovered.frameworks[0].damaged = (!whole).then(|| "framework.info is damaged".to_owned());
        let mut w = restarted(recovered);
        assert!(w.seen().contains(&"destroy".to_owned()));
        let message = introduce(&mut w);
        assert_eq!(message.frameworks.len(), usize::from(whole));
        w.exited(&container(), ExitStatus::Signal(9));
        let updates = told(&w.updates());
        assert_eq!(updates.len(), 1);
        assert!(updates[0].starts_with("t TASK_GONE REASON_EXECUTOR_TERMINATED"));
        assert!(updates[0].ends_with("is damaged"), "{updates:?}");
    }
}

#[test]
fn what_was_not_used_for_long_is_removed_first_whatever_the_order() {
    let mut old = executor(RecoveredLink::Http, Vec::new());
    old.completed = true;
    old.age = Duration::from_secs(3600);
    let mut young = old.clone();
    young.info = custom_executor("a");
    young.container = "d".into();
    young.age = Duration::from_secs(60);
    let mut w = restarted(checkpoints(vec![young, old]));
    w.effects.clear();
    let delay = w.follower.view().config.gc_delay;
    w.pass(delay - Duration::from_secs(3600));
    let seen = w.seen();
    assert!(!seen.is_empty());
    assert!(
        seen.iter()
            .all(|seen| seen.starts_with("remove") && seen.contains("executors/e")),
        "{seen:?}"
    );
}

#[test]
fn runs_that_ended_wait_for_the_rest_of_their_time_however_often_the_follower_is_restarted() {
    let hour = Duration::from_secs(3600);
    let ended = |executor: &str, run: Option<&str>, last, age| EndedRun {
        executor: executor.into(),
        run: run.map(Into::into),
        last,
        age,
    };
    let mut recovered = checkpoints(Vec::new());
    recovered.frameworks[0].age = 9 * hour;
    recovered.frameworks[0].ended = vec![
        ended("a", Some("run-2"), true, hour),
        ended("a", Some("run-1"), false, 3 * hour),
        ended("b", None, true, 2 * hour),
    ];
    let mut w = restarted(recovered);
    let written = |effect: &Effect| matches!(effect, Effect::Persist(Checkpoint::Run(_)));
    assert!(!w.effects.iter().any(written), "nothing is touched");
    assert!(w.follower.view().completed_frameworks.is_empty());
    assert_eq!(w.follower.view().gc_pending, 5);
    let delay = w.follower.view().config.gc_delay;
    let mut gone = Vec::new();
    for left in [3, 2, 1] {
        w.pass(delay - left * hour - w.now.since(w.follower.view().started));
        loop {
            let removals: Vec<_> = w.take().into_iter().filter_map(removal).collect();
            if removals.is_empty() {
                break;
            }
            for path in removals {
                gone.push(format!("{left} {}", path.display()));
                w.step(Input::Removed { path, error: None });
            }
        }
    }
    let framework = format!("slaves/{ID}/frameworks/{FRAMEWORK}");
    let both = |hours: u8, path: &str| {
        ["/w/", "/w/meta/"].map(|root| format!("{hours} {root}{framework}{path}"))
    };
    let mut expected = both(3, "/executors/a/runs/run-1").to_vec();
    expected.extend(both(2, "/executors/b"));
    let [run, run_checkpoints] = both(1, "/executors/a/runs/run-2");
    let [executor, executor_checkpoints] = both(1, "/executors/a");
    expected.extend([run, executor, run_checkpoints, executor_checkpoints]);
    expected.extend(both(1, ""));
    assert_eq!(gone, expected);
}

fn removal(effect: Effect) -> Option<std::path::PathBuf> {
    match effect {
        Effect::Remove { path } => Some(path),
        _ => None,
    }
}

#[test]
fn a_reboot_leaves_nothing_to_wait_for() {
    let link = RecoveredLink::Driver(driver());
    let mut recovered = checkpoints(vec![executor(link, vec![running()])]);
    recovered.rebooted = true;
    let mut w = restarted(recovered);
    assert_eq!(phase(&w), Phase::Disconnected);
    introduce(&mut w);
    assert_eq!(
        told(&w.updates()),
        [
            "t TASK_FAILED REASON_EXECUTOR_TERMINATED Abnormal executor termination: unknown container"
        ]
    );
}

#[test]
fn a_completed_run_is_history() {
    let mut old = executor(
        RecoveredLink::Driver(driver()),
        vec![running(), remembered("u", Vec::new(), &[])],
    );
    old.completed = true;
    old.earlier_runs = vec![("b".into(), Duration::ZERO)];
    let mut w = restarted(checkpoints(vec![old]));
    assert_eq!(phase(&w), Phase::Disconnected);
    let written = |effect: &Effect| matches!(effect, Effect::Persist(Checkpoint::Run(_)));
    assert!(!w.effects.iter().any(written), "that it ended is known");
    let view = w.follower.view();
    assert!(view.frameworks.is_empty());
    assert_eq!(view.completed_frameworks.len(), 1);
    assert!(view.gc_pending >= 2);
    let message = introduce(&mut w);
    assert!(message.tasks.is_empty());
    assert_eq!(message.completed_frameworks[0].tasks.len(), 2);
    assert!(w.updates().is_empty());
}

#[test]
fn cleanup_ends_what_is_left_and_the_follower_with_it() {
    let mut config = config();
    config.recover = Recover::Cleanup;
    let link = RecoveredLink::Driver(driver());
    let mut w = restarted_with(
        config.clone(),
        checkpoints(vec![executor(link, vec![running()])]),
    );
    assert!(
        w.seen()
            .contains(&"ShutdownExecutorMessage to executor(1)".to_owned())
    );
    assert_eq!(phase(&w), Phase::Terminating);
    ended(&mut w, None);
    assert!(w.seen().contains(&"stop false".to_owned()));

    let http = executor(RecoveredLink::Http, vec![running()]);
    let mut w = restarted_with(config, checkpoints(vec![http]));
    w.effects.clear();
    w.http_subscribe(subscribe("e"));
    assert_eq!(w.seen(), ["SHUTDOWN to stream", "close stream"]);
    w.pass(Duration::from_secs(5));
    assert_eq!(w.seen(), ["destroy"]);
}

#[test]
fn draining_goes_on_after_a_restart() {
    let link = RecoveredLink::Driver(driver());
    let mut recovered = checkpoints(vec![executor(link, vec![running()])]);
    recovered.drain = Some(v1::DrainConfig::default());
    let mut w = restarted(recovered);
    w.effects.clear();
    driver_says(&mut w, reregister());
    assert_eq!(
        w.seen(),
        [
            "persist",
            "ExecutorReregisteredMessage to executor(1)",
            "KillTaskMessage to executor(1)"
        ]
    );
}

#[test]
fn a_follower_that_is_stopped_while_recovering_unregisters() {
    let mut w = with_driver(running());
    w.step(Input::LeaderDetected(Some(leader())));
    w.step(Input::Shutdown {
        reason: "test".into(),
    });
    let seen = w.seen();
    assert_eq!(
        seen,
        [
            "UnregisterSlaveMessage to master",
            "ShutdownExecutorMessage to executor(1)"
        ]
    );
}

#[test]
fn what_could_not_be_read_is_counted() {
    let mut recovered = checkpoints(Vec::new());
    let problem = |text: &str| Problem {
        text: text.to_owned(),
        damage: true,
    };
    recovered.problems = vec![problem("one"), problem("two")];
    let w = restarted(recovered);
    assert_eq!(w.follower.view().counters.recovery_errors, 2);
}

fn any_link() -> impl Strategy<Value = RecoveredLink> {
    prop_oneof![
        Just(RecoveredLink::Driver(driver())),
        Just(RecoveredLink::Http),
        Just(RecoveredLink::Unknown),
    ]
}

fn any_task() -> impl Strategy<Value = RecoveredTask> {
    let update = ("[tu]", 0..9_i32, 0..6_u8);
    let updates = proptest::collection::vec(update, 0..5);
    let acknowledged = proptest::collection::vec(0..6_u8, 0..4);
    ("[tu]", updates, acknowledged).prop_map(|(id, updates, acknowledged)| {
        let updates = updates.into_iter().map(|(task, state, number)| {
            let mut update = written(&task, TaskState::TaskRunning, number);
            update.status.state = state;
            update.uuid = update.uuid.filter(|_| number > 0);
            update
        });
        remembered(&id, updates.collect(), &acknowledged)
    })
}

fn any_executor() -> impl Strategy<Value = RecoveredExecutor> {
    let tasks = proptest::collection::vec(any_task(), 0..4);
    let flags = (any::<bool>(), any::<bool>(), any::<bool>());
    ("[ef]", "[cd]", any_link(), tasks, flags).prop_map(|(id, run, link, tasks, flags)| {
        let mut executor = executor(link, tasks);
        executor.info = custom_executor(&id);
        executor.container = run;
        executor.generated = flags.0;
        executor.completed = flags.1 && flags.2;
        executor.process = Some(42).filter(|_| flags.1);
        executor.fate = match (flags.1, flags.2) {
            (true, _) => Fate::Running,
            (false, true) => Fate::Exited(None),
            (false, false) => Fate::Unknown,
        };
        executor
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    /// However damaged checkpoints are: no invariant breaks, and recovery ends in time.
    #[test]
    fn any_checkpoints_are_taken_back_and_recovery_ends(
        executors in proptest::collection::vec(any_executor(), 0..4),
        rebooted: bool, drains: bool, back: bool, cleanup: bool,
    ) {
        let mut config = config();
        config.recover = if cleanup { Recover::Cleanup } else { Recover::Reconnect };
        config.executor_reregistration_retry_interval = Some(Duration::from_millis(500));
        let mut recovered = checkpoints(executors);
        recovered.rebooted = rebooted;
        recovered.drain = drains.then(v1::DrainConfig::default);
        let mut w = restarted_with(config, recovered);
        if back {
            driver_says(&mut w, reregister());
            w.http_subscribe(subscribe("f"));
            w.http(update("f", "t", TaskState::TaskFinished, 9));
        }
        w.pass(TIMEOUT);
        prop_assert_ne!(phase(&w), Phase::Recovering);
        let waiting = |e: ExecutorState| e == ExecutorState::Registering;
        let view = w.follower.view();
        let states = view.frameworks.values().flat_map(|f| f.executors.values());
        prop_assert!(!states.into_iter().any(|e| waiting(e.state)));
        for container in ["c", "d"] {
            w.exited(&ContainerId::top(container), ExitStatus::Code(0));
        }
        if !cleanup {
            introduce(&mut w);
            for _ in 0..50 {
                let updates = w.updates();
                updates.iter().for_each(|update| w.acknowledge(update));
            }
            prop_assert!(w.follower.view().frameworks.is_empty());
        }
    }
}

#[test]
fn calls_of_an_executor_that_is_not_back_are_refused() {
    let mut w = restarted(checkpoints(vec![executor(
        RecoveredLink::Http,
        vec![running()],
    )]));
    let call = executor_call("e", call::Type::Message);
    let call = v1::executor::Call {
        message: Some(call::Message::default()),
        ..call
    };
    let reply = w.http(call);
    assert!(matches!(
        reply,
        tepui_follower::io::Reply::Error { status: 503, .. }
    ));
}
