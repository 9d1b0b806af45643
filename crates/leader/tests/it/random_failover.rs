//! Leaders die in the middle of whatever happens; the next one has what the registry had by then.
//!
//! Followers and frameworks of this test do what real ones do, and keep their own books: what a
//! follower was told to run it runs, whatever leaders know. Safety, after every step: every invariant of
//! the leader holds ([`tepui_leader::Leader::check`]), and nobody is told what is not durable yet: that a
//! follower is registered, that a task is unreachable or gone. Liveness, once all are back: the leader
//! knows exactly what runs, and every question is answered.

use crate::{followers::reregister, harness::*};
use proptest::prelude::*;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use tepui_journal::registry::{Step as Entry, assemble};
use tepui_leader::{Config, Effect, Input, RegistryChange, RemovalRate};
use tepui_protocol::{
    internal,
    peer::PeerMessage,
    v1::{self, TaskState, scheduler},
};

const FOLLOWERS: u16 = 4;

#[derive(Debug, Clone)]
enum Step {
    Pass(u16),
    /// A follower registers, as a new one or as the one it is.
    Come(u16),
    /// Its link breaks.
    Break(u16),
    Pong(u16),
    Launch(u8),
    /// A follower's task ends; whether the framework acknowledges it.
    End(u16, bool),
    Kill(u8),
    Gone(u16),
    Subscribe,
    Disconnect,
    Reconcile,
    /// What was to be written is written, or the first so many changes of it.
    Write,
    /// The leader dies with so many of its last changes not written.
    Die(u8),
}

fn steps() -> impl Strategy<Value = Step> {
    let follower = || 1..=FOLLOWERS;
    prop_oneof![
        4 => prop_oneof![9 => 0..30u16, 2 => 60..700u16].prop_map(Step::Pass),
        8 => follower().prop_map(Step::Come),
        2 => follower().prop_map(Step::Break),
        6 => follower().prop_map(Step::Pong),
        8 => (0..4u8).prop_map(Step::Launch),
        4 => (follower(), any::<bool>()).prop_map(|(at, acknowledged)| Step::End(at, acknowledged)),
        2 => (0..4u8).prop_map(Step::Kill),
        1 => follower().prop_map(Step::Gone),
        3 => Just(Step::Subscribe),
        1 => Just(Step::Disconnect),
        2 => Just(Step::Reconcile),
        6 => Just(Step::Write),
        3 => (0..4u8).prop_map(Step::Die),
    ]
}

/// A follower as it is, whatever leaders know.
#[derive(Default)]
struct Machine {
    id: Option<v1::AgentId>,
    /// Running, or ended and not acknowledged.
    tasks: BTreeMap<String, v1::Task>,
}

struct World {
    cluster: Cluster,
    config: Config,
    /// What is durable.
    store: BTreeMap<String, Vec<u8>>,
    /// Changes that are not durable yet, and what waits for them, in order.
    unwritten: Vec<Effect>,
    machines: BTreeMap<u16, Machine>,
    framework: Option<v1::FrameworkId>,
    scheduler: Option<Scheduler>,
    offers: Vec<v1::Offer>,
    launched: u32,
    answers: BTreeSet<String>,
    leaders: u32,
}

impl World {
    fn new(config: Config) -> Self {
        let cluster = Cluster::with(config.clone(), &internal::Registry::default());
        Self {
            cluster,
            config,
            store: BTreeMap::new(),
            unwritten: Vec::new(),
            machines: (1..=FOLLOWERS)
                .map(|number| (number, Machine::default()))
                .collect(),
            framework: None,
            scheduler: None,
            offers: Vec::new(),
            launched: 0,
            answers: BTreeSet::new(),
            leaders: 1,
        }
    }

    fn info(&self) -> v1::FrameworkInfo {
        v1::FrameworkInfo {
            id: self.framework.clone(),
            failover_timeout: Some(1e6),
            ..framework()
        }
    }

    fn apply(&mut self, step: &Step) {
        match step {
            Step::Pass(seconds) => self.cluster.pass(Duration::from_secs((*seconds).into())),
            Step::Come(number) => self.come(*number),
            Step::Break(number) => self.cluster.handle(Input::LinkBroken { pid: pid(*number) }),
            Step::Pong(number) => self.pong(*number),
            Step::Launch(cpus) => self.launch(*cpus),
            Step::End(number, acknowledged) => self.end(*number, *acknowledged),
            Step::Kill(number) => self.kill(*number),
            Step::Gone(number) => self.give_up(*number),
            Step::Subscribe => self.subscribe(),
            Step::Disconnect => {
                if let Some(scheduler) = self.scheduler.take() {
                    let stream = scheduler.stream;
                    self.cluster.handle(Input::StreamClosed { stream });
                }
            }
            Step::Reconcile => self.call(call_reconcile(&[])),
            Step::Write => {}
            Step::Die(lost) => return self.die((*lost).into()),
        }
        self.unwritten.append(&mut self.cluster.pending);
        if matches!(step, Step::Write) || self.unwritten.len() > 60 {
            let count = self.unwritten.len();
            self.write(count);
        } else {
            // What waits for nothing goes at once.
            let at = |effect: &Effect| matches!(effect, Effect::Persist(_));
            let free = self.unwritten.iter().position(at);
            self.write(free.unwrap_or(self.unwritten.len()));
        }
    }

    /// The first effects are carried out.
    fn write(&mut self, count: usize) {
        let done: Vec<Effect> = self.unwritten.drain(..count).collect();
        for effect in done {
            self.carry(effect);
        }
    }

    fn carry(&mut self, effect: Effect) {
        match effect {
            Effect::Persist(change) => {
                for entry in RegistryChange::steps(&change) {
                    match entry {
                        Entry::Put(key, value) => self.store.insert(key, value),
                        Entry::Remove(key) => self.store.remove(&key),
                    };
                }
            }
            Effect::Send { to, message, .. } => {
                let number = (1..=FOLLOWERS).find(|number| pid(*number) == to);
                if let Some(number) = number {
                    self.deliver(number, message);
                }
            }
            Effect::Event { stream, event } => {
                let own = self
                    .scheduler
                    .as_ref()
                    .is_some_and(|own| own.stream == stream);
                let Some(subscribed) = &event.subscribed else {
                    if own {
                        self.hear(&event);
                    }
                    return;
                };
                self.framework = Some(subscribed.framework_id.clone());
                self.scheduler = Some(Scheduler {
                    id: subscribed.framework_id.clone(),
                    stream,
                });
                self.offers.clear();
            }
            _ => {}
        }
    }

    fn hear(&mut self, event: &scheduler::Event) {
        for offer in event.offers.iter().flat_map(|offers| &offers.offers) {
            self.offers.push(offer.clone());
        }
        if let Some(rescind) = &event.rescind {
            self.offers.retain(|offer| offer.id != rescind.offer_id);
        }
        if let Some(update) = &event.update {
            let at = update.status.agent_id.as_ref().map_or("", |id| &id.value);
            let kept = match update.status.state() {
                TaskState::TaskUnreachable => self.is_kept("unreachable", at),
                TaskState::TaskGoneByOperator => self.is_kept("gone", at),
                _ => true,
            };
            assert!(
                kept,
                "{:?} of {at} was told before it was kept",
                update.status.state()
            );
            self.answers.insert(update.status.task_id.value.clone());
        }
    }

    /// What a follower does with a message.
    fn deliver(&mut self, number: u16, message: PeerMessage) {
        let told = match &message {
            PeerMessage::SlaveRegistered(message) => Some(&message.slave_id.value),
            PeerMessage::SlaveReregistered(message) => Some(&message.slave_id.value),
            _ => None,
        };
        if let Some(id) = told {
            assert!(
                self.is_kept("follower", id),
                "{id} was told before it was kept"
            );
        }
        let Some(machine) = self.machines.get_mut(&number) else {
            return;
        };
        match message {
            PeerMessage::SlaveRegistered(message) if machine.id.is_none() => {
                machine.id = Some(message.slave_id);
            }
            PeerMessage::RunTask(run) if machine.id.as_ref() == Some(&run.task.agent_id) => {
                let mut task = v1::Task {
                    name: run.task.name.clone(),
                    task_id: run.task.task_id.clone(),
                    framework_id: run.framework.id.clone().unwrap_or_default(),
                    agent_id: run.task.agent_id.clone(),
                    resources: run.task.resources.clone(),
                    ..Default::default()
                };
                task.set_state(TaskState::TaskRunning);
                machine.tasks.insert(run.task.task_id.value.clone(), task);
            }
            PeerMessage::KillTask(kill) => {
                if let Some(task) = machine.tasks.get_mut(&kill.task_id.value) {
                    task.set_state(TaskState::TaskKilled);
                }
            }
            PeerMessage::StatusUpdateAcknowledgement(ack) => {
                machine.tasks.remove(&ack.task_id.value);
            }
            PeerMessage::ShutdownFramework(_) => machine.tasks.clear(),
            PeerMessage::Shutdown(_) => {
                // It ends, with all it runs; its operator starts it afresh.
                *machine = Machine::default();
            }
            _ => {}
        }
    }

    fn come(&mut self, number: u16) {
        let Some(machine) = self.machines.get(&number) else {
            return;
        };
        let Some(id) = machine.id.clone() else {
            return self
                .cluster
                .peer(&pid(number), register_message(number, "cpus:4;mem:4096"));
        };
        let agent = Agent {
            id,
            pid: pid(number),
        };
        let infos = if machine.tasks.is_empty() {
            vec![]
        } else {
            vec![self.info()]
        };
        let mut message = reregister(number, &agent, infos);
        message.tasks = machine.tasks.values().cloned().collect();
        self.cluster.peer(&agent.pid, message);
    }

    fn pong(&mut self, number: u16) {
        self.cluster
            .peer(&pid(number), internal::PongSlaveMessage {});
    }

    fn call(&mut self, call: scheduler::Call) {
        if let Some(scheduler) = self.scheduler.clone() {
            self.cluster.call(&scheduler, call);
        }
    }

    fn launch(&mut self, cpus: u8) {
        let Some(offer) = self.offers.pop() else {
            return;
        };
        self.launched += 1;
        let name = format!("t{}", self.launched);
        let cpus = f64::from(cpus % 2) + 0.5;
        let task = task(&name, &offer, &format!("cpus:{cpus};mem:64"));
        self.call(launch(&offer, vec![task]));
    }

    fn end(&mut self, number: u16, acknowledged: bool) {
        let Some(machine) = self.machines.get_mut(&number) else {
            return;
        };
        let (Some(id), Some((name, task))) = (&machine.id, machine.tasks.iter_mut().next()) else {
            return;
        };
        task.set_state(TaskState::TaskFinished);
        let agent = Agent {
            id: id.clone(),
            pid: pid(number),
        };
        let (name, framework) = (name.clone(), task.framework_id.clone());
        let stream = self.cluster.stream();
        let scheduler = Scheduler {
            id: framework,
            stream,
        };
        let update = status(&scheduler, &agent, &name, TaskState::TaskFinished, 1);
        self.cluster.peer(&agent.pid, update);
        if acknowledged {
            self.call(acknowledge(&agent, &name, 1));
        }
    }

    fn kill(&mut self, number: u8) {
        let task_id = v1::TaskId {
            value: format!("t{}", u32::from(number) % self.launched.max(1) + 1),
        };
        let mut kill = call(scheduler::call::Type::Kill);
        kill.kill = Some(scheduler::call::Kill {
            task_id,
            ..Default::default()
        });
        self.call(kill);
    }

    fn give_up(&mut self, number: u16) {
        let machine = self.machines.get(&number);
        let Some(id) = machine.and_then(|machine| machine.id.clone()) else {
            return;
        };
        self.cluster.operator(crate::failover::gone(&id.value));
    }

    fn subscribe(&mut self) {
        let info = self.info();
        self.cluster.send_subscribe(info);
    }

    /// What was not written is as if it had never been; what is in flight is lost.
    fn die(&mut self, lost: usize) {
        let keep = self.unwritten.len().saturating_sub(lost);
        self.write(keep);
        self.unwritten.clear();
        let registry = assemble(self.store.clone()).expect("what was written can be read");
        let now = self.cluster.now;
        self.cluster = Cluster::after(self.config.clone(), &registry, now, self.leaders);
        self.leaders += 1;
        self.scheduler = None;
        self.offers.clear();
    }

    /// The registry as a leader that would start now would see it.
    fn admitted(&self) -> BTreeSet<String> {
        let registry = assemble(self.store.clone()).expect("what was written can be read");
        let slaves = registry.slaves.unwrap_or_default().slaves;
        slaves
            .into_iter()
            .filter_map(|s| Some(s.info.id?.value))
            .collect()
    }

    fn is_kept(&self, kind: &str, id: &str) -> bool {
        self.store.contains_key(&format!("{kind}/{id}"))
    }

    /// Everything works from now on: all come back, and stay.
    fn calm(&mut self) {
        for _ in 0..3 {
            for number in 1..=FOLLOWERS {
                self.apply(&Step::Come(number));
                self.apply(&Step::Write);
                self.apply(&Step::Pong(number));
            }
            self.apply(&Step::Subscribe);
            self.apply(&Step::Write);
        }
        // Long enough for those that will never come to be given up.
        for _ in 0..50 {
            self.apply(&Step::Pass(15));
            for number in 1..=FOLLOWERS {
                self.apply(&Step::Pong(number));
            }
            self.apply(&Step::Write);
        }
        let view = self.cluster.view();
        assert_eq!(
            view.recovered_followers.size(),
            0,
            "nobody is awaited for ever"
        );
        let known: BTreeSet<String> = view
            .frameworks
            .values()
            .flat_map(|framework| framework.tasks.keys())
            .map(ToString::to_string)
            .collect();
        let runs: BTreeSet<String> = self
            .machines
            .values()
            .flat_map(|machine| machine.tasks.keys().cloned())
            .collect();
        let lost: Vec<&String> = runs.difference(&known).collect();
        assert!(
            lost.is_empty(),
            "{lost:?} run, and the leader does not know"
        );
        let registered: BTreeSet<String> = view.followers.keys().map(ToString::to_string).collect();
        assert_eq!(
            registered,
            self.admitted(),
            "who is registered is in the registry, and nobody else"
        );
        // Every question has an answer now.
        let names: Vec<String> = (1..=self.launched).map(|n| format!("t{n}")).collect();
        let asked: Vec<(&str, Option<&str>)> =
            names.iter().map(|name| (name.as_str(), None)).collect();
        self.answers.clear();
        if !asked.is_empty() {
            self.call(call_reconcile(&asked));
            self.apply(&Step::Write);
            let expected: BTreeSet<String> = names.iter().cloned().collect();
            assert_eq!(self.answers, expected);
        }
    }
}

fn call_reconcile(tasks: &[(&str, Option<&str>)]) -> scheduler::Call {
    crate::failover::reconcile(tasks)
}

fn run(steps: &[Step], rate: bool) {
    let mut world = World::new(Config {
        removal_rate: rate.then(|| RemovalRate::parse("6/1mins").ok()).flatten(),
        ..Config::default()
    });
    for step in steps {
        world.apply(step);
    }
    world.calm();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, rng_seed: proptest::test_runner::RngSeed::Fixed(20_261_123), ..ProptestConfig::default() })]

    #[test]
    fn leaders_may_die_at_any_time(steps in proptest::collection::vec(steps(), 1..120), rate in any::<bool>()) {
        run(&steps, rate);
    }
}
