//! Tasks are taken, reported and ended.

use crate::stage::{Stage, agent_id, names, said, setup};
use bytes::Bytes;
use std::time::Duration;
use tepui_protocol::{
    internal as i,
    peer::PeerMessage,
    v1::{self, TaskState},
};

const SECOND: Duration = Duration::from_secs(1);

fn framework() -> v1::FrameworkInfo {
    v1::FrameworkInfo {
        id: Some(framework_id()),
        ..Default::default()
    }
}

fn framework_id() -> v1::FrameworkId {
    v1::FrameworkId {
        value: "F".to_owned(),
    }
}

fn task(id: &str) -> v1::TaskInfo {
    v1::TaskInfo {
        name: id.to_owned(),
        task_id: v1::TaskId {
            value: id.to_owned(),
        },
        agent_id: agent_id(),
        ..Default::default()
    }
}

fn run(task: v1::TaskInfo) -> i::RunTaskMessage {
    i::RunTaskMessage {
        framework: framework(),
        task,
        ..Default::default()
    }
}

/// The only message: an update's state, latest state and identity.
fn update(messages: &[PeerMessage]) -> (TaskState, TaskState, Bytes) {
    let [PeerMessage::StatusUpdate(message)] = messages else {
        panic!("not one update: {messages:?}")
    };
    let update = &message.update;
    let latest = TaskState::try_from(update.latest_state.unwrap()).unwrap();
    (update.status.state(), latest, update.uuid.clone().unwrap())
}

fn acknowledgement(task: &str, uuid: Bytes) -> i::StatusUpdateAcknowledgementMessage {
    i::StatusUpdateAcknowledgementMessage {
        slave_id: agent_id(),
        framework_id: framework_id(),
        task_id: v1::TaskId {
            value: task.to_owned(),
        },
        uuid,
    }
}

fn messages(out: Vec<tepui_emulator::Outgoing>) -> Vec<PeerMessage> {
    said(&out)
}

/// Acknowledges until there is no update any more; the states in order.
fn acknowledge_all(stage: &mut Stage, task: &str, mut sent: Vec<PeerMessage>) -> Vec<TaskState> {
    let mut states = Vec::new();
    while let [PeerMessage::StatusUpdate(_), ..] = &sent[..] {
        let (state, _, uuid) = update(&sent[..1]);
        states.push(state);
        sent = stage.tell(0, acknowledgement(task, uuid));
    }
    states
}

#[test]
fn a_task_starts_runs_and_finishes_as_it_is_acknowledged() {
    let mut stage = Stage::registered();
    let sent = stage.tell(0, run(task("t")));
    let (state, latest, _) = update(&sent);
    assert_eq!(
        (state, latest),
        (TaskState::TaskStarting, TaskState::TaskStarting)
    );
    assert_eq!(
        acknowledge_all(&mut stage, "t", sent),
        [TaskState::TaskStarting, TaskState::TaskRunning]
    );
    assert_eq!(stage.pass(29 * SECOND), []);
    let sent = messages(stage.pass(2 * SECOND));
    assert_eq!(
        acknowledge_all(&mut stage, "t", sent),
        [TaskState::TaskFinished]
    );
    let report = stage.crowd.report();
    assert_eq!(
        (report.tasks, report.tasks_now, report.tasks_finished),
        (1, 0, 1)
    );
    assert_eq!((report.updates, report.acknowledgements), (3, 3));
    assert_eq!(
        stage
            .pass(3600 * SECOND)
            .iter()
            .filter(|one| one.name().contains("Status"))
            .count(),
        0
    );
}

#[test]
fn an_update_is_repeated_with_growing_waits_until_it_is_acknowledged() {
    let mut stage = Stage::registered();
    let (_, _, first) = update(&stage.tell(0, run(task("t"))));
    // Not that one.
    assert_eq!(
        stage.tell(0, acknowledgement("t", Bytes::from_static(&[1; 16]))),
        []
    );
    assert_eq!(stage.tell(0, acknowledgement("other", first.clone())), []);
    for wait in [10, 20] {
        assert_eq!(stage.pass((wait - 1) * SECOND), []);
        let (state, _, again) = update(&messages(stage.pass(SECOND)));
        assert_eq!((state, &again), (TaskState::TaskStarting, &first));
    }
    assert_eq!(stage.crowd.report().updates_repeated, 2);
}

#[test]
fn kills_and_shutdowns_end_tasks() {
    let mut stage = Stage::registered();
    let sent = stage.tell(0, run(task("t")));
    acknowledge_all(&mut stage, "t", sent);
    let kill = i::KillTaskMessage {
        framework_id: framework_id(),
        task_id: v1::TaskId {
            value: "t".to_owned(),
        },
        kill_policy: None,
    };
    let sent = stage.tell(0, kill.clone());
    assert_eq!(update(&sent).0, TaskState::TaskKilled);
    assert_eq!(stage.tell(0, kill), [], "it is killed once");
    acknowledge_all(&mut stage, "t", sent);

    stage.tell(0, run(task("u")));
    let shutdown = i::ShutdownFrameworkMessage {
        framework_id: framework_id(),
    };
    assert_eq!(stage.tell(0, shutdown), []);
    let report = stage.crowd.report();
    assert_eq!(
        (report.tasks, report.tasks_now, report.tasks_killed),
        (2, 0, 1)
    );
}

#[test]
fn a_group_has_one_executor_which_ends_after_its_last_task() {
    let mut stage = Stage::registered();
    let group = i::RunTaskGroupMessage {
        framework: framework(),
        executor: v1::ExecutorInfo {
            executor_id: v1::ExecutorId {
                value: "e".to_owned(),
            },
            ..Default::default()
        },
        task_group: v1::TaskGroupInfo {
            tasks: vec![task("a"), task("b")],
        },
        ..Default::default()
    };
    let sent = stage.tell(0, group);
    assert_eq!(names(&sent), ["StatusUpdateMessage"; 2]);
    for (number, id) in ["a", "b"].iter().enumerate() {
        acknowledge_all(&mut stage, id, vec![sent[number].clone()]);
    }
    let ends = messages(stage.pass(31 * SECOND));
    assert_eq!(names(&ends), ["StatusUpdateMessage"; 2]);
    let (_, _, first) = update(&ends[..1]);
    let (_, _, second) = update(&ends[1..]);
    assert_eq!(stage.tell(0, acknowledgement("a", first)), []);
    assert_eq!(
        names(&stage.tell(0, acknowledgement("b", second))),
        ["ExitedExecutorMessage"]
    );
}

#[test]
fn a_follower_comes_back_with_its_tasks_and_denies_those_it_has_not() {
    let mut stage = Stage::registered();
    stage.tell(0, run(task("t")));
    let mut out = Vec::new();
    stage.crowd.link_broken(stage.now, 0, &mut out);
    let sent = messages(stage.pass(SECOND));
    let PeerMessage::ReregisterSlave(message) = &sent[0] else {
        panic!("{sent:?}")
    };
    assert_eq!(message.frameworks, [framework()]);
    assert_eq!(
        (message.tasks.len(), message.tasks[0].state()),
        (1, TaskState::TaskRunning)
    );
    // Nothing is sent to a leader that has not answered.
    assert!(
        messages(stage.pass(30 * SECOND))
            .iter()
            .all(|one| matches!(one, PeerMessage::ReregisterSlave(_)))
    );
    let lost = v1::TaskStatus {
        task_id: v1::TaskId {
            value: "lost".to_owned(),
        },
        ..Default::default()
    };
    let answer = i::SlaveReregisteredMessage {
        slave_id: agent_id(),
        reconciliations: vec![i::ReconcileTasksMessage {
            framework_id: framework_id(),
            statuses: vec![lost],
            framework: None,
        }],
        connection: None,
    };
    let sent = stage.tell(0, answer);
    assert_eq!(
        names(&sent),
        [
            "UpdateSlaveMessage",
            "StatusUpdateMessage",
            "StatusUpdateMessage"
        ]
    );
    let states: Vec<TaskState> = sent[1..]
        .iter()
        .map(|one| update(std::slice::from_ref(one)).0)
        .collect();
    assert_eq!(states, [TaskState::TaskStarting, TaskState::TaskLost]);
}

#[test]
fn operations_are_answered_as_dropped() {
    let mut stage = Stage::registered();
    let operation = i::ApplyOperationMessage::default();
    let sent = stage.tell(0, operation);
    let [PeerMessage::UpdateOperationStatus(message)] = &sent[..] else {
        panic!("{sent:?}")
    };
    assert_eq!(message.status.state(), v1::OperationState::OperationDropped);
}

#[test]
fn what_ran_before_is_brought_along_with_an_id_of_its_own() {
    let mut setup = setup();
    setup.running = Some(tepui_emulator::Running {
        framework: "F".into(),
        tasks: 3,
    });
    let mut stage = Stage::new(2, 1, setup);
    let mut ids = Vec::new();
    for first in said(&stage.start()) {
        let PeerMessage::ReregisterSlave(message) = &first else {
            panic!("not a re-registration: {first:?}")
        };
        let id = message.slave.id.clone().expect("an id");
        assert_eq!(message.tasks.len(), 3);
        for task in &message.tasks {
            assert_eq!(
                (&task.agent_id, task.state()),
                (&id, TaskState::TaskRunning)
            );
            assert_eq!(task.framework_id, framework_id());
        }
        let [framework] = &message.frameworks[..] else {
            panic!("not one framework: {:?}", message.frameworks)
        };
        assert_eq!(framework.id, Some(framework_id()));
        ids.push(id.value);
    }
    assert_eq!(ids.len(), 2);
    assert_ne!(ids[0], ids[1]);
    assert_eq!(stage.crowd.report().tasks_now, 6);
}
