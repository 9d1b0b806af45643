//! Whatever happens, in whatever order: no task ends twice (safety), and when everybody does their
//! part every task and the executor end (liveness).

use crate::harness::{Harness, task};
use proptest::prelude::*;
use std::{collections::BTreeMap, time::Duration};
use tepui_executor::io::{Input, ProbeOutcome};
use tepui_model::container::{ContainerEvent, ExitStatus};
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

struct World {
    h: Harness,
    group: bool,
    fates: Vec<Fate>,
    tasks: u32,
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
            tasks: 0,
        }
    }

    fn task(&mut self) -> TaskInfo {
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
        info
    }

    fn happen(&mut self, container: usize, event: ContainerEvent) {
        if self.h.exit.is_none() {
            self.h.container(container, event);
        }
    }

    fn end(&mut self, container: usize, status: ExitStatus) {
        self.fates[container] = Fate::Ended;
        self.happen(
            container,
            ContainerEvent::Exited {
                status: Some(status),
            },
        );
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
                let tasks = (0..count).map(|_| self.task()).collect();
                self.h.launch_group(tasks);
            }
            Step::Launch(_) => {
                let info = self.task();
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
                    self.fates[container] = Fate::Running;
                    self.happen(container, ContainerEvent::Launched { pid: 1 });
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
                self.h.acknowledge(index);
            }
            Step::Acknowledge(_) => {}
            Step::Reconnect => {
                self.h.input(Input::Connected);
                self.h.subscribe(Default::default());
            }
            Step::Shutdown => self.h.shutdown(),
            Step::Pass(seconds) => self.h.pass(Duration::from_secs(seconds.into())),
        }
        self.fates.resize(self.h.launches.len(), Fate::Launching);
        self.destroy();
    }

    /// The containers that were destroyed end.
    fn destroy(&mut self) {
        for container in std::mem::take(&mut self.h.destroys) {
            let index = self
                .h
                .launches
                .iter()
                .position(|l| l.container == container)
                .unwrap();
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
            let ended = !matches!(
                status.state(),
                TaskState::TaskStarting | TaskState::TaskRunning | TaskState::TaskKilling
            );
            *ends.entry(status.task_id.value.clone()).or_default() += usize::from(ended);
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

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn no_task_ends_twice_and_all_end(group: bool, steps in prop::collection::vec(step(), 0..60)) {
        let mut world = World::new(group);
        for step in steps {
            world.apply(step);
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
