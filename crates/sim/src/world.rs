//! A run: all nodes, and one event after the other.

use crate::{
    env::{BEGIN, Env},
    event::{Channel, Event, Host, LinkKey, Parcel},
    follower::FollowerNode,
    framework::{Framework, Nature},
    leader::LeaderNode,
    network::Unruly,
    operator::Operator,
    plan::{Fault, Plan, Planned},
    processes::Machine,
};
use std::{hash::Hasher, time::Duration};
use tepui_follower::Phase;
use tepui_model::{Rng, Time};

/// How long everything may take to be well again once nothing goes wrong any more.
const CONVERGENCE: Duration = Duration::from_secs(400);
/// How often it is looked whether it is.
const LOOK_INTERVAL: Duration = Duration::from_secs(3);
/// How often the operator looks.
const OPERATOR_INTERVAL: Duration = Duration::from_millis(1300);
/// More than this in one run is a circle.
const EVENTS_MAX: u64 = 3_000_000;

pub(crate) struct World {
    env: Env,
    plan: Plan,
    leaders: Vec<Option<LeaderNode>>,
    followers: Vec<FollowerNode>,
    frameworks: Vec<Framework>,
    operator: Operator,
    rng: Rng,
    calm: bool,
    next_look: Time,
}

/// What came of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// What did not hold; `None`: all is well.
    pub failure: Option<String>,
    /// When it ended, after its beginning.
    pub at: Duration,
    /// How much happened.
    pub events: u64,
    /// Terms of leaders.
    pub terms: u32,
    /// Updates that frameworks heard.
    pub updates: u64,
    /// Two runs of the same plan have the same.
    pub hash: u64,
}

impl World {
    pub(crate) fn new(plan: Plan, tracing: bool, check_every: u64) -> Self {
        let mut rng = Rng::seed(plan.seed);
        let mut env = Env::new(rng.child(), tracing, check_every);
        let followers = (0..plan.followers)
            .map(|n| FollowerNode::new(n, rng.child()))
            .collect();
        env.machines
            .resize_with(plan.followers.into(), Machine::default);
        let frameworks = (0..plan.frameworks)
            .map(|n| {
                let nature = Nature {
                    partition_aware: rng.unit() < 0.7,
                    checkpoint: rng.unit() < 0.85,
                    tasks: plan.tasks,
                };
                Framework::new(n, nature, rng.child())
            })
            .collect();
        let mut world = Self {
            env,
            leaders: (0..plan.leaders).map(|_| None).collect(),
            followers,
            frameworks,
            operator: Operator::default(),
            rng,
            calm: false,
            next_look: BEGIN + plan.calm,
            plan,
        };
        world.schedule();
        world
    }

    fn hosts(&self) -> Vec<Host> {
        let leaders = (0..self.plan.leaders).map(Host::Leader);
        let followers = (0..self.plan.followers).map(Host::Follower);
        let frameworks = (0..self.plan.frameworks).map(Host::Framework);
        leaders.chain(followers).chain(frameworks).collect()
    }

    fn schedule(&mut self) {
        self.env.host_mut(Host::ZooKeeper).up = true;
        for host in self.hosts() {
            let wait = Duration::from_micros(self.rng.below(1_500_000));
            self.env.after(wait, Event::Start { host });
        }
        for (number, planned) in self.plan.faults.iter().enumerate() {
            self.env.after(planned.at, Event::Fault(number));
        }
        self.env.after(self.plan.calm, Event::Calm);
        let drains = |planned: &Planned| matches!(planned.fault, Fault::Drain(_));
        if self.plan.faults.iter().any(drains) {
            self.env.after(OPERATOR_INTERVAL, Event::Operate);
        }
    }

    /// Whoever leads is asked, if it answers.
    fn operate(&mut self) {
        self.env.after(OPERATOR_INTERVAL, Event::Operate);
        for number in 0..self.plan.leaders {
            let host = Host::Leader(number);
            let stopped = self.env.host_mut(host).paused.is_some();
            let node = self.leaders[usize::from(number)].as_mut();
            let Some(view) = node.filter(|_| !stopped).and_then(LeaderNode::view) else {
                continue;
            };
            let calls = self.operator.calls(&view);
            if !calls.is_empty() {
                self.leader(host, |node, env| node.operates(env, calls));
            }
        }
    }

    pub(crate) fn run(mut self) -> Outcome {
        let mut events = 0;
        let end = BEGIN + self.plan.calm + CONVERGENCE;
        while let Some(event) = self.env.pop() {
            events += 1;
            self.step(event);
            if self.env.checker.failure.is_some() {
                break;
            }
            if self.calm && self.env.now >= self.next_look {
                self.next_look = self.env.now + LOOK_INTERVAL;
                match self.missing() {
                    None => {
                        self.env.checker.at_the_end();
                        break;
                    }
                    Some(missing) if self.env.now >= end => {
                        self.env.checker.fail(format!("not well again: {missing}"));
                    }
                    Some(_) => {}
                }
            }
            if events > EVENTS_MAX {
                self.env.checker.fail("too much happens".to_owned());
            }
        }
        let checker = &self.env.checker;
        Outcome {
            failure: checker.failure.clone(),
            at: self.env.now.since(BEGIN),
            events,
            terms: checker.terms,
            updates: checker.updates,
            hash: self.env.hash.finish(),
        }
    }

    fn step(&mut self, event: Event) {
        match event {
            Event::Wake { host, at } => self.wake(host, at),
            Event::Start { host } => self.start(host),
            Event::Arrive {
                link,
                generation,
                boot,
                parcel,
            } => {
                if self.put_off(link.to, || Event::Arrive {
                    link,
                    generation,
                    boot,
                    parcel: parcel.clone(),
                }) {
                    return;
                }
                if let Some(parcel) = self.env.arrived(link, generation, boot, parcel) {
                    self.arrive(link, parcel);
                }
            }
            Event::GiveUp { link, doom } => self.env.give_up(link, doom),
            Event::Broken {
                link,
                boot,
                generation,
                names,
            } => self.broken(link, boot, generation, names),
            Event::Written { host, boot, ok } => {
                if self.is_on(host, boot)
                    && !self.put_off(host, || Event::Written { host, boot, ok })
                {
                    self.follower(host, |node, env| node.written(env, ok));
                }
            }
            Event::Launch { machine, container } => self.env.launched(machine, container),
            Event::End { machine, pid } => self.env.process_ends(machine, pid),
            Event::Killed {
                machine,
                pid,
                signal,
            } => self.env.process_killed(machine, pid, signal),
            Event::News {
                machine,
                boot,
                container,
                event,
            } => {
                let host = Host::Follower(machine);
                if self.is_on(host, boot)
                    && !self.put_off(host, || Event::News {
                        machine,
                        boot,
                        container: container.clone(),
                        event: event.clone(),
                    })
                {
                    self.follower(host, |node, env| node.news(env, container, event));
                }
            }
            Event::Removed {
                machine,
                boot,
                path,
            } => {
                let host = Host::Follower(machine);
                if self.is_on(host, boot) {
                    self.follower(host, |node, env| node.removed(env, path));
                }
            }
            Event::SandboxReady {
                machine,
                boot,
                container,
            } => {
                let host = Host::Follower(machine);
                if self.is_on(host, boot)
                    && !self.put_off(host, || Event::SandboxReady {
                        machine,
                        boot,
                        container: container.clone(),
                    })
                {
                    self.follower(host, |node, env| node.sandbox_ready(env, &container));
                }
            }
            Event::SessionDue(session) => self.env.session_due(session),
            Event::Fault(number) => self.begin(number),
            Event::Heal(number) => self.heal(number),
            Event::Operate => self.operate(),
            Event::Calm => {
                self.calm = true;
                self.env.trace(|| "calm from now on".to_owned());
            }
        }
    }

    fn is_on(&self, host: Host, boot: u32) -> bool {
        self.env.up(host) && self.env.boot(host) == boot
    }

    /// What comes while a process is stopped waits, in order, until it goes on.
    fn put_off(&mut self, host: Host, event: impl FnOnce() -> Event) -> bool {
        let now = self.env.now;
        let state = self.env.host_mut(host);
        let stopped = state.up && state.paused.is_some_and(|until| until > now);
        // Until what waits has been heard, nothing overtakes it.
        if !stopped && state.waiting.is_empty() {
            return false;
        }
        state.waiting.push(event());
        true
    }

    /// A process that was stopped goes on.
    fn go_on(&mut self, host: Host) {
        let now = self.env.now;
        let state = self.env.host_mut(host);
        if state.paused.is_none_or(|until| until > now) {
            return;
        }
        state.paused = None;
        for event in std::mem::take(&mut state.waiting) {
            self.step(event);
        }
        let clock = self.env.clock(host);
        self.env.wake(host, Some(clock));
    }

    fn wake(&mut self, host: Host, at: Time) {
        let state = self.env.host_mut(host);
        if state.wake != Some(at) || !state.up {
            return;
        }
        if self.put_off(host, || Event::Wake { host, at }) {
            return;
        }
        self.env.host_mut(host).wake = None;
        self.env.mark("wake", at.nanos());
        match host {
            Host::Leader(_) => self.leader(host, |node, env| node.wake(env)),
            Host::Follower(_) => self.follower(host, |node, env| node.wake(env)),
            Host::Framework(_) => self.framework(host, |node, env| node.wake(env)),
            Host::ZooKeeper => {}
        }
    }

    fn leader(&mut self, host: Host, act: impl FnOnce(&mut LeaderNode, &mut Env)) {
        let Host::Leader(number) = host else { return };
        let Some(Some(node)) = self.leaders.get_mut(usize::from(number)) else {
            return;
        };
        act(node, &mut self.env);
        let deadline = node.deadline();
        self.env.wake(host, deadline);
    }

    fn follower(&mut self, host: Host, act: impl FnOnce(&mut FollowerNode, &mut Env)) {
        let Host::Follower(number) = host else { return };
        let Some(node) = self.followers.get_mut(usize::from(number)) else {
            return;
        };
        act(node, &mut self.env);
        if node.is_over() {
            self.env.trace(|| format!("{host}: ends by itself"));
            let for_good = node.is_over_for_good();
            self.stop(host);
            if for_good {
                self.env.end_everything(number);
            }
            let wait = self
                .env
                .between(Duration::from_secs(1), Duration::from_secs(3));
            self.env.after(wait, Event::Start { host });
            return;
        }
        let deadline = node.deadline();
        self.env.wake(host, deadline);
    }

    fn framework(&mut self, host: Host, act: impl FnOnce(&mut Framework, &mut Env)) {
        let Host::Framework(number) = host else {
            return;
        };
        let Some(node) = self.frameworks.get_mut(usize::from(number)) else {
            return;
        };
        act(node, &mut self.env);
        let deadline = node.deadline();
        self.env.wake(host, deadline);
    }

    fn start(&mut self, host: Host) {
        let state = self.env.host_mut(host);
        if state.up {
            return;
        }
        state.up = true;
        state.boot += 1;
        state.wake = None;
        self.env.mark("start", 0);
        self.env.trace(|| format!("{host}: starts"));
        match host {
            Host::Leader(number) => {
                let rng = self.rng.child();
                let node = LeaderNode::new(host, rng, &mut self.env);
                self.leaders[usize::from(number)] = Some(node);
                self.leader(host, |_, _| {});
            }
            Host::Follower(_) => self.follower(host, |node, env| node.start(env)),
            Host::Framework(_) => self.framework(host, |node, env| node.start(env)),
            Host::ZooKeeper => {}
        }
    }

    /// A process is gone at once.
    fn stop(&mut self, host: Host) {
        if !self.env.up(host) {
            return;
        }
        self.env.mark("stop", 0);
        match host {
            Host::Leader(number) => self.leaders[usize::from(number)] = None,
            Host::Follower(number) => {
                self.followers[usize::from(number)].crash(&mut self.env);
                self.env.follower_died(number);
            }
            Host::Framework(number) => self.frameworks[usize::from(number)].crash(),
            Host::ZooKeeper => return,
        }
        let state = self.env.host_mut(host);
        state.up = false;
        state.paused = None;
        state.waiting.clear();
        state.wake = None;
        self.env.cut(host);
    }

    fn arrive(&mut self, link: LinkKey, parcel: Parcel) {
        self.env.mark(parcel.name(), 1);
        match (link.to, parcel) {
            (Host::ZooKeeper, Parcel::Request(request)) => {
                self.env.zookeeper_hears(link.from, request);
            }
            (host, Parcel::Response(response)) => match host {
                Host::Leader(_) => self.leader(host, |node, env| node.hears(env, response)),
                Host::Follower(_) => self.follower(host, |node, env| node.hears(env, response)),
                _ => self.framework(host, |node, env| node.hears(env, response)),
            },
            (host @ Host::Leader(_), parcel) => {
                self.leader(host, |node, env| node.arrives(env, link, parcel));
            }
            (host @ Host::Follower(_), parcel) => {
                self.follower(host, |node, env| node.arrives(env, parcel));
            }
            (host, parcel) => self.framework(host, |node, env| node.arrives(env, link, parcel)),
        }
    }

    /// The sender of a connection hears of its end, and the receiver where it is one that it reads
    /// events from.
    fn broken(&mut self, link: LinkKey, boot: u32, generation: u32, names: Vec<String>) {
        let host = match (link.channel, link.from) {
            (Channel::Events, Host::Leader(_)) if !self.is_on(link.from, boot) => link.to,
            (Channel::Session, Host::ZooKeeper) => link.to,
            _ => link.from,
        };
        let ours = host == link.from;
        if ours && !self.is_on(host, boot) || !self.env.up(host) {
            return;
        }
        let again = names.clone();
        if self.put_off(host, || Event::Broken {
            link,
            boot,
            generation,
            names: again,
        }) {
            return;
        }
        self.env
            .trace(|| format!("{host}: {} -> {} broke", link.from, link.to));
        match host {
            Host::Leader(_) => {
                self.leader(host, |node, env| node.broken(env, link, generation, names));
            }
            Host::Follower(_) => self.follower(host, |node, env| node.broken(env, link, names)),
            Host::Framework(_) => {
                self.framework(host, |node, env| node.broken(env, link, generation));
            }
            Host::ZooKeeper => {}
        }
        // A stream that its leader lost is lost to its scheduler too.
        if ours && link.channel == Channel::Events {
            let to = link.to;
            self.framework(to, |node, env| node.broken(env, link, generation));
        }
    }

    fn begin(&mut self, number: usize) {
        let planned = self.plan.faults[number].clone();
        self.env
            .trace(|| format!("!! {} for {:?}", planned.fault, planned.lasts));
        self.env.mark("fault", number as u64);
        let mut hosts = self.hosts();
        hosts.push(Host::ZooKeeper);
        let others = |host: Host| hosts.into_iter().filter(move |other| *other != host);
        match planned.fault {
            Fault::Crash(host) => self.stop(host),
            Fault::Power(Host::Follower(machine)) => {
                self.stop(Host::Follower(machine));
                self.env.machine_died(machine);
            }
            Fault::Power(host) => self.stop(host),
            Fault::Pause(host) => {
                let until = self.env.now + planned.lasts;
                let state = self.env.host_mut(host);
                state.paused = state.paused.max(Some(until));
            }
            Fault::Cut(a, b) => self.env.network.block(a, b),
            Fault::Partition(a, b) => {
                self.env.network.block(a, b);
                self.env.network.block(b, a);
            }
            Fault::Isolate(host) => {
                for other in others(host) {
                    self.env.network.block(host, other);
                    self.env.network.block(other, host);
                }
            }
            Fault::Reset(host) => self.env.reset(host),
            Fault::Slow(a, b, by) => self.env.network.slow_down(a, b, Some(by)),
            Fault::Unruly(a, b, share) => {
                let share = f64::from(share) / 100.0;
                let how = Unruly {
                    repeat: share,
                    overtake: share,
                };
                self.env.network.unsettle(a, b, Some(how));
            }
            Fault::NoQuorum => {
                self.env.zookeeper.down += 1;
                for other in others(Host::ZooKeeper) {
                    self.env.network.block(other, Host::ZooKeeper);
                    self.env.network.block(Host::ZooKeeper, other);
                }
            }
            Fault::DiskFull(Host::Follower(n)) => self.followers[usize::from(n)].disk.full += 1,
            Fault::DiskSlow(Host::Follower(n), by) => {
                self.followers[usize::from(n)].disk.slow = Some(by);
            }
            Fault::Clock(host, by) => {
                let by = i64::try_from(by.as_nanos()).unwrap_or(0);
                self.env.host_mut(host).offset += by;
                // Whatever it waits for comes that much sooner.
                let state = self.env.host_mut(host);
                state.wake = None;
                let now = self.env.clock(host);
                self.env.wake(host, Some(now));
            }
            Fault::Launches(Host::Follower(n), share) => {
                self.env.machines[usize::from(n)].launch_failures = f64::from(share) / 100.0;
            }
            Fault::Careless(Host::Framework(n), share) => {
                self.frameworks[usize::from(n)].careless = f64::from(share) / 100.0;
            }
            Fault::Drain(host) => self.operator.drain(host.to_string()),
            Fault::DiskFull(_)
            | Fault::DiskSlow(..)
            | Fault::Launches(..)
            | Fault::Careless(..) => {}
        }
        self.env.after(planned.lasts, Event::Heal(number));
    }

    fn heal(&mut self, number: usize) {
        let planned = self.plan.faults[number].clone();
        let mut hosts = self.hosts();
        hosts.push(Host::ZooKeeper);
        match planned.fault {
            Fault::Crash(host) | Fault::Power(host) => self.start(host),
            Fault::Pause(host) => self.go_on(host),
            Fault::Cut(a, b) => self.env.network.unblock(a, b),
            Fault::Partition(a, b) => {
                self.env.network.unblock(a, b);
                self.env.network.unblock(b, a);
            }
            Fault::Isolate(host) => {
                for other in hosts.into_iter().filter(|other| *other != host) {
                    self.env.network.unblock(host, other);
                    self.env.network.unblock(other, host);
                }
            }
            Fault::Slow(a, b, _) => self.env.network.slow_down(a, b, None),
            Fault::Unruly(a, b, _) => self.env.network.unsettle(a, b, None),
            Fault::NoQuorum => {
                self.env.zookeeper.down -= 1;
                if self.env.zookeeper.down == 0 {
                    self.env.zookeeper_back();
                }
                for other in hosts.into_iter().filter(|h| *h != Host::ZooKeeper) {
                    self.env.network.unblock(other, Host::ZooKeeper);
                    self.env.network.unblock(Host::ZooKeeper, other);
                }
            }
            Fault::DiskFull(Host::Follower(n)) => self.followers[usize::from(n)].disk.full -= 1,
            Fault::DiskSlow(Host::Follower(n), _) => {
                self.followers[usize::from(n)].disk.slow = None;
            }
            Fault::Launches(Host::Follower(n), _) => {
                self.env.machines[usize::from(n)].launch_failures = 0.0;
            }
            Fault::Careless(Host::Framework(n), _) => {
                self.frameworks[usize::from(n)].careless = 0.0;
            }
            Fault::Drain(host) => self.operator.take_back(&host.to_string()),
            Fault::Careless(..)
            | Fault::Reset(_)
            | Fault::Clock(..)
            | Fault::DiskFull(_)
            | Fault::DiskSlow(..)
            | Fault::Launches(..) => {}
        }
        self.env.flush_links();
    }

    /// What is not yet as it should be in the end.
    fn missing(&mut self) -> Option<String> {
        for framework in &self.frameworks {
            if let Some(missing) = framework.missing() {
                return Some(missing);
            }
        }
        for (number, machine) in self.env.machines.iter().enumerate() {
            if let Some(id) = machine.containers.keys().next() {
                return Some(format!("container {id} is left on machine {number}"));
            }
        }
        for node in &self.followers {
            let Some(core) = node.core() else {
                return Some("a follower is down".to_owned());
            };
            let view = core.view();
            if view.phase != Phase::Running {
                return Some(format!("{} is {:?}", view.info.hostname, view.phase));
            }
            if let Some((_, framework)) = view.frameworks.iter().next() {
                let executor = framework.executors.keys().next();
                return Some(format!(
                    "{} keeps executor {executor:?}",
                    view.info.hostname
                ));
            }
        }
        let views: Vec<_> = self.leaders.iter_mut().flatten().collect();
        let views: Vec<_> = views.into_iter().filter_map(LeaderNode::view).collect();
        let [view] = views.as_slice() else {
            return Some(format!("{} leaders", views.len()));
        };
        let connected = view.followers.values().filter(|f| f.connected).count();
        if connected != self.followers.len() {
            return Some(format!("{connected} followers are connected"));
        }
        if let Some(follower) = view.followers.values().find(|f| f.deactivated) {
            return Some(format!("{} is deactivated", follower.info.hostname));
        }
        for framework in view.frameworks.values() {
            if let Some(task) = framework.tasks.keys().next() {
                return Some(format!("the leader keeps task {task}"));
            }
        }
        None
    }
}
