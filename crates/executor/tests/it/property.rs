//! Whatever happens, in whatever order: no task ends twice (safety), and when everybody does their
//! part every task and the executor end (liveness). The same with crashes in between, after which
//! another executor goes on with what the containers and the durable updates say.

use crate::harness::{Harness, task};
use proptest::prelude::*;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use tepui_executor::{
    RecoveredContainer, RecoveredTask,
    io::{Input, ProbeOutcome},
};
use tepui_model::container::{ContainerEvent, ContainerId, ExitStatus, LaunchSpec};
use tepui_protocol::v1::{HealthCheck, TaskInfo, TaskState, health_check};

#[derive(Debug, Clone)]
enum Step {
    Launch(u8),
    Kill(u8, Option<u8>),
    Launched(u8),
    LaunchFailed(u8),
    Exited(u8, i32),
    Answer(bool),
    Acknowledge(u8),
    Reconnect,
    Shutdown,
    Pass(u8),
    /// Everything but containers is lost, and what was not durable. `heard`: all updates were;
    /// `started`: so were launches under way.
    Crash {
        heard: bool,
        started: bool,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (1..4u8).prop_map(Step::Launch),
        2 => (any::<u8>(), any::<Option<u8>>()).prop_map(|(task, grace)| Step::Kill(task, grace)),
        5 => any::<u8>().prop_map(Step::Launched),
        1 => any::<u8>().prop_map(Step::LaunchFailed),
        2 => (any::<u8>(), 0..3i32).prop_map(|(container, code)| Step::Exited(container, code)),
        3 => any::<bool>().prop_map(Step::Answer),
        3 => any::<u8>().prop_map(Step::Acknowledge),
        1 => Just(Step::Reconnect),
        1 => Just(Step::Shutdown),
        3 => any::<u8>().prop_map(Step::Pass),
        2 => any::<(bool, bool)>().prop_map(|(heard, started)| Step::Crash { heard, started }),
    ]
}

/// What the world knows of each container that was launched.
#[derive(Default, Clone, Copy, PartialEq)]
enum Fate {
    #[default]
    Launching,
    Running,
    Ended,
}

/// What its record would say.
#[derive(Default, Clone)]
struct Left {
    ran: bool,
    told: bool,
    event: Option<ContainerEvent>,
}

struct World {
    h: Harness,
    group: bool,
    fates: Vec<Fate>,
    left: Vec<Left>,
    tasks: u32,
    /// As launched, with their groups.
    infos: Vec<(TaskInfo, u32)>,
    acknowledged: BTreeSet<Vec<u8>>,
}

impl World {
    fn new(group: bool) -> Self {
        let h = if group {
            Harness::group()
        } else {
            Harness::command()
        };
        Self {
            h: h.subscribed(),
            group,
            fates: Vec::new(),
            left: Vec::new(),
            tasks: 0,
            infos: Vec::new(),
            acknowledged: BTreeSet::new(),
        }
    }

    fn task(&mut self, group: u32) -> TaskInfo {
        self.tasks += 1;
        let mut info = task(&self.tasks.to_string());
        if self.tasks.is_multiple_of(2) {
            info.health_check = Some(HealthCheck {
                r#type: Some(health_check::Type::Tcp as i32),
                tcp: Some(health_check::TcpCheckInfo {
                    port: 1,
                    ..Default::default()
                }),
                consecutive_failures: Some(2),
                ..Default::default()
            });
        }
        self.infos.push((info.clone(), group));
        info
    }

    fn happen(&mut self, container: usize, event: ContainerEvent) {
        if self.h.exit.is_none() {
            self.h.container(container, event);
        }
    }

    fn end(&mut self, container: usize, status: ExitStatus) {
        self.fates[container] = Fate::Ended;
        let event = ContainerEvent::Exited {
            status: Some(status),
        };
        self.left[container].event = Some(event.clone());
        self.happen(container, event);
    }

    fn run(&mut self, container: usize) {
        self.fates[container] = Fate::Running;
        let event = ContainerEvent::Launched { pid: 1 };
        self.left[container].ran = true;
        self.left[container].event = Some(event.clone());
        self.happen(container, event);
    }

    fn pick(&self, index: u8, fate: Fate) -> Option<usize> {
        let fits: Vec<usize> = (0..self.fates.len())
            .filter(|i| self.fates[*i] == fate)
            .collect();
        (!fits.is_empty()).then(|| fits[usize::from(index) % fits.len()])
    }

    fn apply(&mut self, step: Step) {
        if self.h.exit.is_some() {
            return;
        }
        match step {
            Step::Launch(count) if self.group => {
                let group = self.tasks;
                let tasks = (0..count).map(|_| self.task(group)).collect();
                self.h.launch_group(tasks);
            }
            Step::Launch(_) => {
                let info = self.task(0);
                self.h.launch(info);
            }
            Step::Kill(index, grace) => {
                let id = u32::from(index) % (self.tasks + 1);
                // Followers do not kill what they have not sent.
                if self.tasks > 0 {
                    self.h.kill(
                        &id.max(1).to_string(),
                        grace.map(|g| Duration::from_secs(g.into())),
                    );
                }
            }
            Step::Launched(index) => {
                if let Some(container) = self.pick(index, Fate::Launching) {
                    self.run(container);
                }
            }
            Step::LaunchFailed(index) => {
                if let Some(container) = self.pick(index, Fate::Launching) {
                    self.fates[container] = Fate::Ended;
                    self.h.launch_failed(container, "no");
                }
            }
            Step::Exited(index, code) => {
                if let Some(container) = self.pick(index, Fate::Running) {
                    self.end(container, ExitStatus::Code(code));
                }
            }
            Step::Answer(well) if !self.h.probes.is_empty() => {
                self.h.answer(if well {
                    ProbeOutcome::Connected
                } else {
                    ProbeOutcome::TimedOut
                });
            }
            Step::Answer(_) => {}
            Step::Acknowledge(index) if !self.h.statuses.is_empty() => {
                let index = usize::from(index) % self.h.statuses.len();
                self.acknowledge(index);
            }
            Step::Acknowledge(_) => {}
            Step::Reconnect => {
                self.h.input(Input::Connected);
                self.h.subscribe(Default::default());
            }
            Step::Shutdown => self.h.shutdown(),
            Step::Pass(seconds) => self.h.pass(Duration::from_secs(seconds.into())),
            Step::Crash { heard, started } => self.crash(heard, started),
        }
        self.see();
        self.destroy();
    }

    /// Takes note of what was launched and signalled.
    fn see(&mut self) {
        self.fates.resize(self.h.launches.len(), Fate::Launching);
        self.left.resize(self.h.launches.len(), Left::default());
        for (container, _) in std::mem::take(&mut self.h.signals) {
            let index = self.index(&container);
            self.left[index].told = true;
        }
    }

    fn index(&self, container: &ContainerId) -> usize {
        let mut launches = self.h.launches.iter();
        // A command task that is launched again is so in the same container.
        let back = launches.rposition(|l| l.container == *container);
        back.expect("it was launched")
    }

    fn acknowledge(&mut self, index: usize) {
        let uuid = self.h.statuses[index].uuid.clone().expect("sent");
        self.acknowledged.insert(uuid.to_vec());
        self.h.acknowledge(index);
    }

    fn crash(&mut self, heard: bool, started: bool) {
        // Per task the durable ones are the first ones: they are acknowledged in any order here.
        let mut durable: BTreeMap<String, usize> = BTreeMap::new();
        for (index, status) in self.h.statuses.iter().enumerate() {
            let uuid = status.uuid.clone().expect("sent").to_vec();
            if heard || self.acknowledged.contains(&uuid) {
                durable.insert(status.task_id.value.clone(), index);
            }
        }
        let mut index = 0;
        let sent_any: BTreeSet<String> = self
            .h
            .statuses
            .iter()
            .map(|s| s.task_id.value.clone())
            .collect();
        self.h.statuses.retain(|status| {
            index += 1;
            durable
                .get(&status.task_id.value)
                .is_some_and(|last| index - 1 <= *last)
        });
        for container in 0..self.fates.len() {
            if self.fates[container] == Fate::Launching {
                self.fates[container] = if started { Fate::Running } else { Fate::Ended };
                self.left[container].ran |= started;
                self.left[container].event = started.then_some(ContainerEvent::Launched { pid: 1 });
            }
        }
        let mut tasks = Vec::new();
        for (info, group) in &self.infos {
            let id = &info.task_id.value;
            let state = durable.get(id).map(|_| {
                let of_task = self.h.statuses.iter().filter(|s| s.task_id.value == *id);
                of_task.last().expect("durable").state()
            });
            if !sent_any.contains(id) || state.is_some_and(is_terminal) {
                continue;
            }
            let named = |l: &LaunchSpec| l.outlives.as_deref() == Some(id.as_str());
            let container = self.h.launches.iter().rposition(named).and_then(|index| {
                Some(RecoveredContainer {
                    id: self.h.launches[index].container.clone(),
                    event: self.left[index].event.clone()?,
                    told: self.left[index].told,
                    running_for: Duration::from_secs(1),
                })
            });
            tasks.push(RecoveredTask {
                info: info.clone(),
                group: self.group.then(|| group.to_string().into()),
                state,
                container,
            });
        }
        if tasks.is_empty() {
            // Such an executor is not started again.
            self.h.exit = Some(ExitStatus::Code(0));
            return;
        }
        self.h.crash(self.group, tasks);
        self.h.subscribe(Default::default());
    }

    /// What ran once never runs again.
    fn check(&self) {
        let mut runs: BTreeMap<&str, usize> = BTreeMap::new();
        for (launch, left) in self.h.launches.iter().zip(&self.left) {
            let name = launch.outlives.as_deref().expect("all of them outlive");
            *runs.entry(name).or_default() += usize::from(left.ran);
        }
        for (task, runs) in runs {
            assert!(runs <= 1, "task {task} ran {runs} times");
        }
    }

    /// The containers that were destroyed end.
    fn destroy(&mut self) {
        for container in std::mem::take(&mut self.h.destroys) {
            self.see();
            let index = self.index(&container);
            self.left[index].told = true;
            match self.fates[index] {
                Fate::Launching => {
                    self.fates[index] = Fate::Ended;
                    if self.h.exit.is_none() {
                        self.h.launch_failed(index, "destroyed");
                    }
                }
                Fate::Running => self.end(index, ExitStatus::Signal(9)),
                Fate::Ended => {}
            }
        }
    }

    fn terminal_updates(&self) -> BTreeMap<String, usize> {
        let mut ends = BTreeMap::new();
        for status in &self.h.statuses {
            *ends.entry(status.task_id.value.clone()).or_default() +=
                usize::from(is_terminal(status.state()));
        }
        ends
    }

    fn wind_down(&mut self) {
        if self.h.exit.is_none() {
            self.h.shutdown();
        }
        for _ in 0..1000 {
            self.destroy();
            if self.h.exit.is_some() {
                return;
            }
            if !self.h.executor.containers().is_empty() {
                self.h.next();
            } else {
                self.h.acknowledge_all();
            }
        }
        panic!("it does not end");
    }
}

fn is_terminal(state: TaskState) -> bool {
    !matches!(
        state,
        TaskState::TaskStarting | TaskState::TaskRunning | TaskState::TaskKilling
    )
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn no_task_ends_twice_and_all_end(group: bool, steps in prop::collection::vec(step(), 0..60)) {
        let mut world = World::new(group);
        for step in steps {
            world.apply(step);
            world.check();
            for (task, ends) in world.terminal_updates() {
                prop_assert!(ends <= 1, "task {task} ended {ends} times");
            }
        }
        world.wind_down();
        for (task, ends) in world.terminal_updates() {
            prop_assert_eq!(ends, 1, "task {} has not ended", task);
        }
    }
}
