//! A follower's process: what `node/src/follower` does around the core, without sockets, files and
//! threads.

use crate::{
    candidate::{Candidate, Told},
    disk::Disk,
    env::Env,
    event::{Channel, Event, Host, LinkKey, Parcel},
    locals::{Inputs, Locals},
    zookeeper::Response,
};
use std::time::Duration;
use tepui_executor::io::Input as ExecutorInput;
use tepui_follower::{
    Config, Follower, Phase,
    io::{Checkpoint, Effect, Effects, ExecutorPeer, Input, ProcessName},
    locals,
};
use tepui_journal::{Outbox, PersistEffect};
use tepui_model::{
    FollowerId, Rng, Time,
    container::{ContainerEvent, ContainerId},
};
use tepui_protocol::{peer::Pid, v1::executor_info::Type};

/// What each machine offers.
pub(crate) const RESOURCES: &str = "cpus:8;mem:8192;disk:1000;ports:[31000-32000]";

/// Settings of the follower on a machine.
pub(crate) fn config(host: Host) -> Config {
    let mut config = Config::new(host.address(), host.to_string(), "/w");
    config.resources =
        tepui_follower::resources::startup(RESOURCES, "*", Default::default()).unwrap_or_default();
    config.checkpoint_runs = true;
    config
}

#[derive(Debug)]
struct Step(Effect);

impl PersistEffect for Step {
    type Record = Checkpoint;

    fn into_record(self) -> Result<Checkpoint, Self> {
        match self.0 {
            Effect::Persist(checkpoint) => Ok(checkpoint),
            other => Err(Self(other)),
        }
    }
}

/// A machine's follower: its disk stays, the process comes and goes.
pub(crate) struct FollowerNode {
    host: Host,
    machine: u8,
    rng: Rng,
    pub(crate) disk: Disk,
    process: Option<Box<Process>>,
}

struct Process {
    core: Follower,
    effects: Effects,
    outbox: Outbox<Step>,
    locals: Locals,
    inputs: Inputs,
    candidate: Candidate,
    told: Vec<Told>,
    leader: Option<Pid>,
    /// On its way to the disk.
    writing: Vec<Checkpoint>,
    recovering: bool,
    over: bool,
    /// Nobody will come to take anything back.
    for_good: bool,
}

impl FollowerNode {
    pub(crate) fn new(machine: u8, rng: Rng) -> Self {
        Self {
            host: Host::Follower(machine),
            machine,
            rng,
            disk: Disk::default(),
            process: None,
        }
    }

    pub(crate) fn core(&self) -> Option<&Follower> {
        self.process.as_ref().map(|process| &process.core)
    }

    /// Starts the process.
    pub(crate) fn start(&mut self, env: &mut Env) {
        let now = env.clock(self.host);
        let boots = env.machines[usize::from(self.machine)].boots;
        let recovered = self.disk.recover(boots);
        let id: Option<FollowerId> = recovered.as_ref().map(|r| r.id.clone());
        let mut core = Follower::new(config(self.host), now, self.rng.child(), id);
        if let Some(state) = &self.disk.resources
            && let Err(error) = core.restore_resources(state)
        {
            return env.checker.fail(format!("{}: {error}", self.host));
        }
        let mut process = Process {
            core,
            effects: Effects::default(),
            outbox: Outbox::new(),
            locals: Locals::new(self.machine, self.rng.child(), env.found(self.machine)),
            inputs: Vec::new(),
            candidate: Candidate::new(self.host),
            told: Vec::new(),
            leader: None,
            writing: Vec::new(),
            recovering: true,
            over: false,
            for_good: false,
        };
        match recovered {
            Some(recovered) => process.core.recover(now, recovered, &mut process.effects),
            None => process.core.start_afresh(&mut process.effects),
        }
        process.push_effects();
        self.process = Some(Box::new(process));
        self.settle(env);
    }

    /// The process is gone; some first part of what was being written is on the disk.
    pub(crate) fn crash(&mut self, env: &mut Env) {
        let Some(process) = self.process.take() else {
            return;
        };
        let whole = process.writing.len() as u64;
        let kept = env.rng.below(whole + 1) as usize;
        let boots = env.machines[usize::from(self.machine)].boots;
        if self.disk.full == 0 {
            for record in process.writing.into_iter().take(kept) {
                self.disk.apply(record, boots);
            }
        }
    }

    pub(crate) fn deadline(&self) -> Option<Time> {
        let process = self.process.as_ref()?;
        [
            process.core.next_deadline(),
            process.locals.next_deadline(),
            process.candidate.deadline(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    pub(crate) fn wake(&mut self, env: &mut Env) {
        if let Some(process) = &mut self.process {
            process.candidate.tick(env, &mut process.told);
        }
        self.settle(env);
    }

    pub(crate) fn hears(&mut self, env: &mut Env, response: Response) {
        if let Some(process) = &mut self.process {
            process.candidate.hears(env, response, &mut process.told);
        }
        self.settle(env);
    }

    pub(crate) fn broken(&mut self, env: &mut Env, link: LinkKey, names: Vec<String>) {
        let Some(process) = &mut self.process else {
            return;
        };
        match link.channel {
            Channel::Session => process.candidate.broken(env, &mut process.told),
            _ => {
                for name in names {
                    let address = link.to.address();
                    let pid = Pid { name, address };
                    process.inputs.push(Input::LinkBroken { pid });
                }
            }
        }
        self.settle(env);
    }

    pub(crate) fn arrives(&mut self, env: &mut Env, parcel: Parcel) {
        let Some(process) = &mut self.process else {
            return;
        };
        if let Parcel::Peer { from, to, message } = parcel
            && let Some(to) = ProcessName::parse(&to)
        {
            process.inputs.push(Input::Peer { from, to, message });
        }
        self.settle(env);
    }

    pub(crate) fn news(&mut self, env: &mut Env, container: ContainerId, event: ContainerEvent) {
        let now = env.clock(self.host);
        let Some(process) = &mut self.process else {
            return;
        };
        let ours = process.locals(env, now, |core, fx| {
            core.container(now, &container, &event, fx)
        });
        if !ours {
            process.inputs.push(Input::Container { container, event });
        }
        self.settle(env);
    }

    pub(crate) fn sandbox_ready(&mut self, env: &mut Env, executor: &ContainerId) {
        let now = env.clock(self.host);
        let Some(process) = &mut self.process else {
            return;
        };
        process.tell_local(env, now, executor, ExecutorInput::Connected);
        self.settle(env);
    }

    pub(crate) fn removed(&mut self, env: &mut Env, path: std::path::PathBuf) {
        if let Some(process) = &mut self.process {
            process.inputs.push(Input::Removed { path, error: None });
        }
        self.settle(env);
    }

    /// A batch of records is durable, or the disk is full: then the process gives up.
    pub(crate) fn written(&mut self, env: &mut Env, ok: bool) {
        let Some(process) = &mut self.process else {
            return;
        };
        if !ok || self.disk.full > 0 {
            process.over = true;
            return;
        }
        let boots = env.machines[usize::from(self.machine)].boots;
        for record in std::mem::take(&mut process.writing) {
            self.disk.apply(record, boots);
        }
        process.outbox.written();
        self.settle(env);
    }

    /// Whether the process has ended by itself.
    pub(crate) fn is_over(&self) -> bool {
        self.process.as_ref().is_some_and(|process| process.over)
    }

    /// And for good.
    pub(crate) fn is_over_for_good(&self) -> bool {
        self.process
            .as_ref()
            .is_some_and(|process| process.for_good)
    }

    fn settle(&mut self, env: &mut Env) {
        let Some(process) = &mut self.process else {
            return;
        };
        let now = env.clock(self.host);
        process.follow();
        process.handle_inputs(env, now);
        process.tick(env, now);
        process.carry_out(env, self.host, self.machine, now);
        if process.writing.is_empty()
            && let Some(records) = process.outbox.begin()
        {
            process.writing = records;
            let full = self.disk.full > 0;
            let mut wait = Duration::from_micros(200 + env.rng.below(3000));
            if let Some(slow) = self.disk.slow {
                wait += slow;
            }
            let event = Event::Written {
                host: self.host,
                boot: env.boot(self.host),
                ok: !full,
            };
            env.after(wait, event);
        }
    }
}

impl Process {
    /// Detection has news.
    fn follow(&mut self) {
        if self.told.drain(..).count() == 0 {
            return;
        }
        let leader = match &self.candidate.standing {
            tepui_coordination::Standing::Following(_) => self.candidate.leader(),
            // What was known goes on to be true until somebody knows better.
            _ => return,
        };
        if leader != self.leader {
            self.leader = leader.clone();
            self.inputs.push(Input::LeaderDetected(leader));
        }
    }

    fn handle(&mut self, env: &mut Env, now: Time, input: Input) {
        self.core.handle(now, input, &mut self.effects);
        if env.checks() {
            self.core.check();
        }
        self.push_effects();
    }

    fn push_effects(&mut self) {
        for effect in self.effects.drain() {
            self.outbox.push(Step(effect));
        }
    }

    fn handle_inputs(&mut self, env: &mut Env, now: Time) {
        while !self.inputs.is_empty() {
            for input in std::mem::take(&mut self.inputs) {
                self.handle(env, now, input);
            }
        }
    }

    fn tick(&mut self, env: &mut Env, now: Time) {
        if self.core.next_deadline().is_some_and(|at| at <= now) {
            self.handle(env, now, Input::Tick);
        }
        self.locals(env, now, |core, fx| core.tick(now, fx));
    }

    fn tell_local(
        &mut self,
        env: &mut Env,
        now: Time,
        executor: &ContainerId,
        input: ExecutorInput,
    ) {
        self.locals(env, now, |core, fx| core.handle(now, executor, input, fx));
    }

    /// One step of the executors within the follower.
    fn locals<R>(
        &mut self,
        env: &mut Env,
        now: Time,
        step: impl FnOnce(&mut locals::Locals, &mut locals::Effects) -> R,
    ) -> R {
        self.locals.step(env, now, &mut self.inputs, step)
    }

    fn carry_out(&mut self, env: &mut Env, host: Host, machine: u8, now: Time) {
        loop {
            self.handle_inputs(env, now);
            while let Some(Step(effect)) = self.outbox.release() {
                self.carry(env, host, machine, now, effect);
            }
            if self.inputs.is_empty() {
                break;
            }
        }
        // Every executor that has to do with what is left has been started by then.
        if self.recovering && self.core.view().phase != Phase::Recovering {
            self.recovering = false;
            self.locals(env, now, locals::Locals::discard_rest);
        }
    }

    fn carry(&mut self, env: &mut Env, host: Host, machine: u8, now: Time, effect: Effect) {
        match effect {
            Effect::Event {
                to: ExecutorPeer::Local(executor),
                event,
            } => {
                self.tell_local(env, now, &executor, ExecutorInput::Event(event));
            }
            Effect::Send { to, from, message } => {
                env.checker.follower_says(machine, &message);
                let from = Pid {
                    name: from.to_string(),
                    address: host.address(),
                };
                env.send_peer(host, from, to, message);
            }
            Effect::StartLocalExecutor(local) => {
                self.locals(env, now, |core, fx| core.start(&local, fx));
                let executor = local.container.clone();
                if local.info.r#type() == Type::Default {
                    let event = Event::SandboxReady {
                        machine,
                        boot: env.boot(host),
                        container: executor,
                    };
                    let wait = env.between(Duration::from_micros(100), Duration::from_millis(5));
                    return env.after(wait, event);
                }
                self.tell_local(env, now, &executor, ExecutorInput::Connected);
            }
            Effect::StopLocalExecutor { container } => {
                self.locals(env, now, |core, fx| core.stop(&container, fx));
            }
            Effect::Launch(spec) => env.launch(machine, spec),
            Effect::LinkVolumes(links) => self.inputs.push(Input::VolumesLinked {
                container: links.container,
                error: None,
            }),
            Effect::Destroy { container } if self.locals.contains(&container) => {
                self.locals(env, now, |core, fx| core.destroy(&container, fx));
            }
            Effect::Destroy { container } => env.destroy(machine, &container),
            Effect::Forget { container } => env.forget(machine, &container),
            Effect::Signal { container, signal } => env.signal(machine, &container, signal),
            Effect::Remove { path } => {
                let boot = env.boot(host);
                let event = Event::Removed {
                    machine,
                    boot,
                    path,
                };
                env.after(Duration::from_millis(1), event);
            }
            Effect::Stop { failed } => {
                self.over = true;
                self.for_good |= !failed;
            }
            Effect::Log(notice) => env.trace(|| format!("{host}: {}", notice.text)),
            // No executors of others, no readers, no operators.
            Effect::Event { .. }
            | Effect::OpenStream { .. }
            | Effect::CloseStream { .. }
            | Effect::Reply { .. }
            | Effect::Attach { .. }
            | Effect::Detach { .. } => {}
            // The outbox takes it out.
            Effect::Persist(_) => {}
        }
    }
}
