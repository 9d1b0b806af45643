//! The process tables of machines that followers run on. Commands are scripts: how long they run,
//! how they end, and whether they mind SIGTERM.

use crate::{
    env::Env,
    event::{Event, Host},
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tepui_follower::locals::Found;
use tepui_model::{
    Time,
    container::{ContainerEvent, ContainerId, ExitStatus, LaunchSpec, LaunchStep},
};

const SIGKILL: i32 = 9;

/// A machine.
#[derive(Debug, Default)]
pub(crate) struct Machine {
    /// What runs, or is about to.
    pub(crate) containers: BTreeMap<ContainerId, Container>,
    /// What is kept of containers that outlive their follower, until it forgets them.
    records: BTreeMap<ContainerId, Record>,
    next_pid: u32,
    last_news: Time,
    /// Counts restarts of the machine.
    pub(crate) boots: u32,
    /// Starting commands fails this often.
    pub(crate) launch_failures: f64,
}

/// What is kept of a container.
#[derive(Debug, Clone)]
struct Record {
    name: Arc<str>,
    pid: u32,
    started: Time,
    told: bool,
    /// Once it has ended; nobody may know how.
    end: Option<Option<ExitStatus>>,
}

#[derive(Debug)]
pub(crate) struct Container {
    pub(crate) spec: Box<LaunchSpec>,
    /// Once it runs.
    pub(crate) pid: Option<u32>,
    /// Nobody is to hear of its end.
    discarded: bool,
    script: Script,
}

/// What a command does.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Script {
    /// Framework and task that it stands for.
    pub(crate) task: (u8, String),
    /// Ends by itself after this time.
    pub(crate) runs: Option<Duration>,
    /// With this code.
    pub(crate) code: i32,
    /// Goes on after SIGTERM for this long.
    pub(crate) stubborn: Option<Duration>,
}

impl Script {
    /// As a command.
    pub(crate) fn text(&self) -> String {
        let millis = |time: Option<Duration>| time.map_or(0, |time| time.as_millis());
        format!(
            "{} {} {} {} {}",
            self.task.0,
            self.task.1,
            millis(self.runs),
            self.code,
            millis(self.stubborn)
        )
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let framework = words.next()?.parse().ok()?;
        let task = words.next()?.to_owned();
        let mut time = || -> Option<Option<Duration>> {
            let millis: u64 = words.next()?.parse().ok()?;
            Some((millis > 0).then(|| Duration::from_millis(millis)))
        };
        let runs = time()?;
        let code = time()?.map_or(0, |code| code.as_millis() as i32);
        let stubborn = time()?;
        Some(Self {
            task: (framework, task),
            runs,
            code,
            stubborn,
        })
    }
}

fn within(id: &ContainerId, outer: &ContainerId) -> bool {
    let mut current = Some(id);
    while let Some(id) = current {
        if id == outer {
            return true;
        }
        current = id.parent.as_deref();
    }
    false
}

impl Env {
    pub(crate) fn launch(&mut self, machine: u8, spec: Box<LaunchSpec>) {
        let script = spec.command.value.as_deref().and_then(Script::parse);
        let Some(script) = script else {
            return self.checker.fail(format!(
                "a container with an unknown command was launched: {:?}",
                spec.command.value
            ));
        };
        let id = spec.container.clone();
        self.trace(|| format!("follower{machine}: launches {id} ({})", script.task.1));
        let wait = self.between(Duration::from_millis(2), Duration::from_millis(60));
        let table = &mut self.machines[usize::from(machine)];
        if table.containers.contains_key(&id) {
            let event = ContainerEvent::LaunchFailed {
                step: LaunchStep::Start,
                message: "it exists already".to_owned(),
            };
            return self.tell(machine, id, event);
        }
        let container = Container {
            spec,
            pid: None,
            discarded: false,
            script,
        };
        table.containers.insert(id.clone(), container);
        let event = Event::Launch {
            machine,
            container: id,
        };
        self.after(wait, event);
    }

    pub(crate) fn launched(&mut self, machine: u8, id: ContainerId) {
        let fails = self.machines[usize::from(machine)].launch_failures;
        let fails = fails > 0.0 && self.chance(fails);
        let table = &mut self.machines[usize::from(machine)];
        let Some(container) = table.containers.get_mut(&id).filter(|c| c.pid.is_none()) else {
            return;
        };
        if fails {
            table.containers.remove(&id);
            let event = ContainerEvent::LaunchFailed {
                step: LaunchStep::Start,
                message: "out of processes".to_owned(),
            };
            return self.tell(machine, id, event);
        }
        table.next_pid += 1;
        let pid = u32::from(machine) * 1_000_000 + table.next_pid;
        container.pid = Some(pid);
        let (runs, task) = (container.script.runs, container.script.task.clone());
        let resources = container.spec.resources.clone();
        if let Some(name) = container.spec.outlives.clone() {
            let record = Record {
                name,
                pid,
                started: self.now,
                told: false,
                end: None,
            };
            table.records.insert(id.clone(), record);
        }
        self.trace(|| format!("follower{machine}: task {} runs as {pid}", task.1));
        self.checker.started(machine, pid, task, &resources);
        if let Some(runs) = runs {
            self.after(runs, Event::End { machine, pid });
        }
        self.tell(machine, id, ContainerEvent::Launched { pid });
    }

    fn find(&self, machine: u8, pid: u32) -> Option<ContainerId> {
        let table = self.machines.get(usize::from(machine))?;
        let mut all = table.containers.iter();
        all.find(|(_, container)| container.pid == Some(pid))
            .map(|(id, _)| id.clone())
    }

    pub(crate) fn process_ends(&mut self, machine: u8, pid: u32) {
        let Some(id) = self.find(machine, pid) else {
            return;
        };
        let code = self.machines[usize::from(machine)].containers[&id]
            .script
            .code;
        self.over(machine, id, ExitStatus::Code(code));
    }

    pub(crate) fn process_killed(&mut self, machine: u8, pid: u32, signal: i32) {
        if let Some(id) = self.find(machine, pid) {
            self.over(machine, id, ExitStatus::Signal(signal));
        }
    }

    fn over(&mut self, machine: u8, id: ContainerId, status: ExitStatus) {
        let table = &mut self.machines[usize::from(machine)];
        let Some(container) = table.containers.remove(&id) else {
            return;
        };
        if let Some(pid) = container.pid {
            self.checker.ended(machine, pid, status);
            let task = &container.script.task.1;
            self.trace(|| format!("follower{machine}: task {task} ({pid}) {status}"));
        }
        if let Some(record) = self.machines[usize::from(machine)].records.get_mut(&id)
            && Some(record.pid) == container.pid
        {
            record.end = Some(Some(status));
        }
        if container.discarded {
            return;
        }
        let status = Some(status);
        self.tell(machine, id, ContainerEvent::Exited { status });
    }

    fn tell(&mut self, machine: u8, container: ContainerId, event: ContainerEvent) {
        let boot = self.boot(Host::Follower(machine));
        let wait = self.between(Duration::from_micros(50), Duration::from_millis(3));
        // What is heard of containers is heard in order.
        let table = &mut self.machines[usize::from(machine)];
        let at = table.last_news.max(self.now + wait);
        table.last_news = at;
        let news = Event::News {
            machine,
            boot,
            container,
            event,
        };
        self.in_order(at, news);
    }

    pub(crate) fn signal(&mut self, machine: u8, id: &ContainerId, signal: i32) {
        let wait = self.between(Duration::from_millis(1), Duration::from_millis(20));
        let table = &mut self.machines[usize::from(machine)];
        if let Some(record) = table.records.get_mut(id) {
            record.told = true;
        }
        let Some((pid, stubborn)) = table
            .containers
            .get(id)
            .and_then(|container| Some((container.pid?, container.script.stubborn)))
        else {
            return;
        };
        let wait = match stubborn {
            Some(longer) if signal != SIGKILL => wait + longer,
            _ => wait,
        };
        let event = Event::Killed {
            machine,
            pid,
            signal,
        };
        self.after(wait, event);
    }

    pub(crate) fn destroy(&mut self, machine: u8, outer: &ContainerId) {
        let table = &mut self.machines[usize::from(machine)];
        for (id, record) in &mut table.records {
            record.told |= within(id, outer);
        }
        let all: Vec<_> = table
            .containers
            .iter()
            .filter(|(id, _)| within(id, outer))
            .map(|(id, container)| (id.clone(), container.pid))
            .collect();
        for (id, pid) in all {
            match pid {
                Some(pid) => {
                    let wait = self.between(Duration::from_millis(1), Duration::from_millis(20));
                    let event = Event::Killed {
                        machine,
                        pid,
                        signal: SIGKILL,
                    };
                    self.after(wait, event);
                }
                None => {
                    self.machines[usize::from(machine)].containers.remove(&id);
                    let event = ContainerEvent::LaunchFailed {
                        step: LaunchStep::Start,
                        message: "Container destroyed during launch".to_owned(),
                    };
                    self.tell(machine, id, event);
                }
            }
        }
    }

    /// Nothing needs to be kept of the end of a container, nor of those nested in it.
    pub(crate) fn forget(&mut self, machine: u8, outer: &ContainerId) {
        let table = &mut self.machines[usize::from(machine)];
        table.records.retain(|id, _| !within(id, outer));
    }

    /// A follower died: what does not outlive it dies too.
    pub(crate) fn follower_died(&mut self, machine: u8) {
        let table = &self.machines[usize::from(machine)];
        let all: Vec<_> = table
            .containers
            .iter()
            .filter(|(_, c)| c.spec.outlives.is_none() || c.pid.is_none())
            .map(|(id, _)| id.clone())
            .collect();
        self.end_all(machine, all);
    }

    /// A machine died.
    pub(crate) fn machine_died(&mut self, machine: u8) {
        let table = &mut self.machines[usize::from(machine)];
        table.boots += 1;
        for record in table.records.values_mut() {
            record.end.get_or_insert(None);
        }
        self.end_everything(machine);
    }

    /// A follower ended for good: nothing outlives it.
    pub(crate) fn end_everything(&mut self, machine: u8) {
        let table = &self.machines[usize::from(machine)];
        let all = table.containers.keys().cloned().collect();
        self.end_all(machine, all);
    }

    /// What an earlier follower left.
    pub(crate) fn found(&self, machine: u8) -> Vec<Found> {
        let records = self.machines[usize::from(machine)].records.iter();
        let found = records.map(|(id, record)| Found {
            id: id.clone(),
            name: record.name.clone(),
            event: match record.end {
                None => ContainerEvent::Launched { pid: record.pid },
                Some(status) => ContainerEvent::Exited { status },
            },
            told: record.told,
            running_for: match record.end {
                None => self.now.since(record.started),
                Some(_) => Duration::ZERO,
            },
        });
        found.collect()
    }

    /// Nobody wants a container back: it ends, and nobody hears of it.
    pub(crate) fn discard(&mut self, machine: u8, id: &ContainerId) {
        self.trace(|| format!("follower{machine}: nobody wants {id} back"));
        let table = &mut self.machines[usize::from(machine)];
        table.records.remove(id);
        if let Some(container) = table.containers.get_mut(id) {
            container.discarded = true;
        }
        self.destroy(machine, id);
    }

    fn end_all(&mut self, machine: u8, all: Vec<ContainerId>) {
        for id in all {
            let container = self.machines[usize::from(machine)].containers.remove(&id);
            if let Some(pid) = container.and_then(|container| container.pid) {
                self.trace(|| format!("follower{machine}: {pid} dies with it"));
                self.checker
                    .ended(machine, pid, ExitStatus::Signal(SIGKILL));
            }
        }
    }
}
