//! What a core asks to be kept, written to disk and read back: the whole way round.

use super::super::{checkpoints::write, recover::recover};
use std::{path::Path, time::Duration};
use tepui_follower::{
    Config, Follower,
    io::{Effect, Effects, Input, ProcessName},
    recovered::{Fate, Recovered, RecoveredLink},
};
use tepui_model::{
    Rng, Time,
    container::{ContainerEvent, ContainerId, ExitStatus},
};
use tepui_protocol::{
    internal as i,
    peer::{PeerMessage, Pid},
    v1::{self, TaskState},
};

fn pid(text: &str) -> Pid {
    text.parse().expect("a pid")
}

fn text(value: &str) -> String {
    value.to_owned()
}

/// A follower whose checkpoints go to a directory.
struct Kept<'a> {
    core: Follower,
    now: Time,
    dir: &'a Path,
    effects: Vec<Effect>,
}

impl<'a> Kept<'a> {
    fn new(dir: &'a Path, recovered: Option<Recovered>) -> Self {
        let address = "127.0.0.1:5051".parse().expect("an address");
        let config = Config::new(address, "h", dir);
        let now = Time::from_nanos(1_000_000_000_000);
        let id = recovered.as_ref().map(|r| r.id.clone());
        let mut this = Self {
            core: Follower::new(config, now, Rng::seed(1), id),
            now,
            dir,
            effects: Vec::new(),
        };
        if let Some(recovered) = recovered {
            let mut fx = Effects::default();
            this.core.recover(now, recovered, &mut fx);
            this.carry_out(fx);
        }
        this
    }
    fn carry_out(&mut self, mut fx: Effects) {
        self.core.check();
        for effect in fx.drain() {
            match &effect {
                Effect::Persist(checkpoint) => {
                    write(self.dir, std::slice::from_ref(checkpoint)).expect("written")
                }
                _ => self.effects.push(effect),
            }
        }
    }
    fn step(&mut self, input: Input) {
        let mut fx = Effects::default();
        self.core.handle(self.now, input, &mut fx);
        self.carry_out(fx);
    }
    fn hears(&mut self, from: &str, message: impl Into<PeerMessage>) {
        self.step(Input::Peer {
            from: pid(from),
            to: ProcessName::Follower,
            message: message.into(),
        });
    }
    fn find_leader(&mut self) {
        self.step(Input::LeaderDetected(Some(pid(LEADER))));
        self.now = self.now + Duration::from_secs(1);
        self.step(Input::Tick);
    }
    fn recovered(&self) -> Recovered {
        let mut recovered = recover(self.dir, "", 150)
            .expect("readable")
            .expect("something");
        assert!(recovered.problems.is_empty(), "{:?}", recovered.problems);
        for framework in &mut recovered.frameworks {
            for executor in &mut framework.executors {
                executor.fate = Fate::Running;
            }
        }
        recovered
    }
    fn updates(&mut self) -> Vec<i::StatusUpdate> {
        let update = |effect| match effect {
            Effect::Send {
                message: PeerMessage::StatusUpdate(m),
                ..
            } => Some(m.update),
            _ => None,
        };
        self.effects.drain(..).filter_map(update).collect()
    }
}

const LEADER: &str = "master@127.0.0.1:5050";
const DRIVER: &str = "executor(1)@127.0.0.1:44081";

fn framework() -> v1::FrameworkInfo {
    v1::FrameworkInfo {
        name: text("f"),
        user: text("root"),
        id: Some(v1::FrameworkId { value: text("F") }),
        checkpoint: Some(true),
        ..Default::default()
    }
}

fn executor_id() -> v1::ExecutorId {
    v1::ExecutorId { value: text("e") }
}

fn launch(task: &str) -> i::RunTaskMessage {
    let executor = v1::ExecutorInfo {
        r#type: Some(v1::executor_info::Type::Custom.into()),
        executor_id: executor_id(),
        framework_id: framework().id,
        command: Some(v1::CommandInfo::default()),
        ..Default::default()
    };
    i::RunTaskMessage {
        framework: framework(),
        pid: Some(text("scheduler-1@127.0.0.1:7")),
        task: v1::TaskInfo {
            name: text(task),
            task_id: v1::TaskId { value: text(task) },
            agent_id: v1::AgentId { value: text("S0") },
            executor: Some(executor),
            ..Default::default()
        },
        ..Default::default()
    }
}

fn status(task: &str, state: TaskState, number: u8) -> i::StatusUpdateMessage {
    let mut uuid = [number; 16];
    uuid[6] = 0x40;
    let own = Some(v1::AgentId { value: text("S0") });
    i::StatusUpdateMessage {
        update: i::StatusUpdate {
            framework_id: framework().id.unwrap_or_default(),
            executor_id: Some(executor_id()),
            slave_id: own.clone(),
            status: v1::TaskStatus {
                task_id: v1::TaskId { value: text(task) },
                state: state.into(),
                agent_id: own,
                ..Default::default()
            },
            timestamp: 1.0,
            uuid: Some(uuid.to_vec().into()),
            latest_state: None,
        },
        pid: None,
    }
}

fn acknowledge(update: &i::StatusUpdate) -> i::StatusUpdateAcknowledgementMessage {
    i::StatusUpdateAcknowledgementMessage {
        slave_id: update.slave_id.clone().unwrap_or_default(),
        framework_id: update.framework_id.clone(),
        task_id: update.status.task_id.clone(),
        uuid: update.uuid.clone().unwrap_or_default(),
    }
}

/// A v0 executor runs task `t`, which the framework knows, and got `u`.
fn running(dir: &Path) -> (Kept<'_>, ContainerId) {
    let mut follower = Kept::new(dir, None);
    follower.find_leader();
    let slave_id = v1::AgentId { value: text("S0") };
    let registered = i::SlaveRegisteredMessage {
        slave_id,
        connection: None,
    };
    follower.hears(LEADER, registered);
    follower.hears(LEADER, launch("t"));
    let launched = follower.effects.iter().find_map(|effect| match effect {
        Effect::Launch(spec) => Some(spec.container.clone()),
        _ => None,
    });
    let container = launched.expect("a container");
    follower.step(Input::Container {
        container: container.clone(),
        event: ContainerEvent::Launched { pid: 42 },
    });
    let register = i::RegisterExecutorMessage {
        framework_id: framework().id.unwrap_or_default(),
        executor_id: executor_id(),
    };
    follower.hears(DRIVER, register);
    follower.hears(LEADER, launch("u"));
    follower.hears(DRIVER, status("t", TaskState::TaskRunning, 1));
    for update in follower.updates() {
        follower.hears(LEADER, acknowledge(&update));
    }
    (follower, container)
}

#[test]
fn a_run_is_read_back_as_it_was_kept() {
    let dir = tempfile::tempdir().expect("a directory");
    let (follower, container) = running(dir.path());
    let recovered = follower.recovered();
    assert_eq!(recovered.id.as_str(), "S0");
    let kept = &recovered.frameworks[0];
    assert_eq!(kept.info, framework());
    assert_eq!(kept.pid, Some(pid("scheduler-1@127.0.0.1:7")));
    let executor = &kept.executors[0];
    assert_eq!(executor.info.executor_id, executor_id());
    assert_eq!(executor.container, *container.value);
    assert_eq!(executor.process, Some(42));
    assert_eq!(executor.link, RecoveredLink::Driver(pid(DRIVER)));
    assert!(!executor.generated && !executor.completed);
    let names: Vec<_> = executor
        .tasks
        .iter()
        .map(|t| t.task.name.as_str())
        .collect();
    assert_eq!(names, ["t", "u"]);
    assert_eq!(executor.tasks[0].updates.len(), 1);
    assert_eq!(executor.tasks[0].acknowledged.len(), 1);
    assert!(executor.tasks[1].updates.is_empty());
}

#[test]
fn a_killed_follower_goes_on_and_its_executor_finishes() {
    let dir = tempfile::tempdir().expect("a directory");
    let (follower, container) = running(dir.path());
    let recovered = follower.recovered();
    drop(follower);
    let mut follower = Kept::new(dir.path(), Some(recovered));
    let asked = |effect: &Effect| matches!(effect, Effect::Send { message: PeerMessage::ReconnectExecutor(_), to, .. } if *to == pid(DRIVER));
    assert!(follower.effects.iter().any(asked));
    // Meanwhile one task ended, and the other never arrived.
    let back = i::ReregisterExecutorMessage {
        framework_id: framework().id.unwrap_or_default(),
        executor_id: executor_id(),
        tasks: Vec::new(),
        updates: vec![status("t", TaskState::TaskFinished, 2).update],
    };
    follower.hears(DRIVER, back);
    follower.find_leader();
    let slave_id = v1::AgentId { value: text("S0") };
    follower.effects.clear();
    let reregistered = i::SlaveReregisteredMessage {
        slave_id,
        ..Default::default()
    };
    follower.hears(LEADER, reregistered);
    let updates = follower.updates();
    let told: Vec<_> = updates
        .iter()
        .map(|u| (u.status.task_id.value.as_str(), u.status.state()))
        .collect();
    let expected = [("t", TaskState::TaskFinished), ("u", TaskState::TaskLost)];
    assert_eq!(told, expected);
    // Killed once more: nothing that was acknowledged comes again.
    follower.hears(LEADER, acknowledge(&updates[0]));
    let recovered = follower.recovered();
    let mut follower = Kept::new(dir.path(), Some(recovered));
    let status = Some(ExitStatus::Code(0));
    let event = ContainerEvent::Exited { status };
    follower.step(Input::Container { container, event });
    follower.find_leader();
    follower.effects.clear();
    let slave_id = v1::AgentId { value: text("S0") };
    let reregistered = i::SlaveReregisteredMessage {
        slave_id,
        ..Default::default()
    };
    follower.hears(LEADER, reregistered);
    let updates = follower.updates();
    assert_eq!(updates.len(), 1);
    assert_eq!(updates[0].status.task_id.value, "u");
    follower.hears(LEADER, acknowledge(&updates[0]));
    // Everything is said: the run is history.
    assert!(follower.core.view().frameworks.is_empty());
    assert!(follower.recovered().frameworks[0].executors[0].completed);
}
