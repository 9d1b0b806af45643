//! The thread that owns the core. It waits for inputs and timers and never for a peer or a disk.

use super::{
    LeaderError,
    gate::Gate,
    journal::{Records, Written},
    reads,
};
use crate::{
    clock::Clock,
    disk::registry::RegistryError,
    http::stream::{ClosedStreams, Record, Streams},
    net::Links,
    notices::Notices,
    pending::{Job, Tray},
};
use arc_swap::ArcSwap;
use std::{collections::BTreeSet, sync::Arc};
use tepui_journal::{Outbox, PersistEffect};
use tepui_leader::{Effect, Effects, Input, Leader, ProcessName, RegistryChange, Reply, View};
use tepui_model::StreamId;
use tepui_protocol::peer::Pid;
use tokio::sync::{mpsc, oneshot};

/// Inputs handled before the view is published and effects are carried out. More make better use
/// of both; fewer answer sooner.
const BATCH_INPUTS: usize = 256;

/// An effect on its way through the outbox.
#[derive(Debug)]
enum Step {
    Core(Effect),
    /// `OperatorSnapshot`, with the state it is to show.
    Snapshot(StreamId, Arc<View>),
}

impl PersistEffect for Step {
    type Record = RegistryChange;

    fn into_record(self) -> Result<RegistryChange, Self> {
        match self {
            Self::Core(Effect::Persist(change)) => Ok(change),
            other => Err(other),
        }
    }
}

pub(super) struct CoreLoop {
    clock: Clock,
    core: Leader,
    effects: Effects,
    outbox: Outbox<Step>,
    // What comes in.
    jobs: mpsc::Receiver<Job<Input, Reply>>,
    closed: ClosedStreams,
    broken: mpsc::UnboundedReceiver<Pid>,
    /// The allow-list, whenever it changes.
    hosts: mpsc::Receiver<BTreeSet<String>>,
    written: Written,
    stopped: oneshot::Receiver<()>,
    /// Whether anything may go out.
    gate: Arc<Gate>,
    // What goes out.
    records: Records,
    tray: Tray<Reply>,
    streams: Streams,
    /// Operator streams that had their snapshot.
    operators: BTreeSet<StreamId>,
    links: Links,
    view: Arc<ArcSwap<View>>,
    notices: Notices,
}

/// What woke the loop.
enum Wake {
    Jobs,
    Closed(StreamId),
    Broken(Pid),
    Hosts(BTreeSet<String>),
    Written(Result<(), RegistryError>),
    Deadline,
    Stop,
}

/// How holding everything back ended.
enum Held {
    Open,
    Stop,
}

impl CoreLoop {
    pub(super) fn new(
        clock: Clock,
        core: Leader,
        jobs: mpsc::Receiver<Job<Input, Reply>>,
        closed: ClosedStreams,
        broken: mpsc::UnboundedReceiver<Pid>,
        hosts: mpsc::Receiver<BTreeSet<String>>,
        records: Records,
        written: Written,
        streams: Streams,
        links: Links,
        view: Arc<ArcSwap<View>>,
        stopped: oneshot::Receiver<()>,
        gate: Arc<Gate>,
    ) -> Self {
        let (effects, outbox, tray, operators, notices) = Default::default();
        Self {
            clock,
            core,
            effects,
            outbox,
            jobs,
            closed,
            broken,
            hosts,
            written,
            stopped,
            gate,
            records,
            tray,
            streams,
            operators,
            links,
            view,
            notices,
        }
    }

    /// Runs until stopped, or until the registry fails. What waits then is dropped.
    pub(super) fn run(self) -> Result<(), LeaderError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build();
        runtime.map_err(LeaderError::Thread)?.block_on(self.serve())
    }

    async fn serve(mut self) -> Result<(), LeaderError> {
        let mut batch = Vec::with_capacity(BATCH_INPUTS);
        // The first tick announces the leader and sets its timers.
        self.handle(Input::Tick);
        loop {
            self.carry_out()?;
            if !self.gate.is_open() {
                match self.hold().await? {
                    Held::Open => continue,
                    Held::Stop => return Ok(()),
                }
            }
            match self.wake(&mut batch).await {
                Wake::Stop => return Ok(()),
                Wake::Jobs => batch.drain(..).for_each(|job| self.take(job)),
                Wake::Closed(stream) => self.stream_closed(stream),
                Wake::Broken(pid) => self.handle(Input::LinkBroken { pid }),
                Wake::Hosts(hosts) => self.handle(Input::AllowList { hosts: Some(hosts) }),
                Wake::Written(result) => {
                    result?;
                    self.outbox.written();
                }
                Wake::Deadline => {}
            }
            // One tick for the whole batch: offers are made once for all that it freed.
            if self
                .core
                .next_deadline()
                .is_some_and(|at| at <= self.clock.now())
            {
                self.handle(Input::Tick);
            }
        }
    }

    /// We may be leading no more. Nothing goes out, and nothing is taken in either: what a core
    /// decides while it cannot be heard would only be wrong by the time it can.
    async fn hold(&mut self) -> Result<Held, LeaderError> {
        tracing::warn!("cannot tell whether we still lead: holding everything back");
        loop {
            tokio::select! {
                () = self.gate.opened() => {
                    tracing::info!("still leading: going on");
                    return Ok(Held::Open);
                }
                Some(result) = self.written.recv() => {
                    result?;
                    self.outbox.written();
                }
                _ = &mut self.stopped => return Ok(Held::Stop),
            }
        }
    }

    async fn wake(&mut self, batch: &mut Vec<Job<Input, Reply>>) -> Wake {
        let deadline = self.core.next_deadline();
        tokio::select! {
            count = self.jobs.recv_many(batch, BATCH_INPUTS) => match count {
                0 => Wake::Stop,
                _ => Wake::Jobs,
            },
            Some(stream) = self.closed.recv() => Wake::Closed(stream),
            Some(pid) = self.broken.recv() => Wake::Broken(pid),
            Some(hosts) = self.hosts.recv() => Wake::Hosts(hosts),
            Some(result) = self.written.recv() => Wake::Written(result),
            () = self.clock.sleep_until(deadline) => Wake::Deadline,
            _ = &mut self.stopped => Wake::Stop,
        }
    }

    fn take(&mut self, job: Job<Input, Reply>) {
        if let Some(ticket) = job.ticket {
            self.tray.file(ticket);
        }
        self.handle(job.input);
    }

    fn stream_closed(&mut self, stream: StreamId) {
        if self.streams.closed(stream) {
            self.operators.remove(&stream);
            self.handle(Input::StreamClosed { stream });
        }
    }

    /// One input through the core; its effects into the outbox.
    fn handle(&mut self, input: Input) {
        self.core.handle(self.clock.now(), input, &mut self.effects);
        for effect in std::mem::take(&mut self.effects.0) {
            let step = match effect {
                // The view as of this input: events that follow are not in it.
                Effect::OperatorSnapshot { stream } => Step::Snapshot(stream, self.core.view()),
                other => Step::Core(other),
            };
            self.outbox.push(step);
        }
    }

    /// Publishes the view, then does what may be done now. Whoever gets an answer finds what it
    /// says in the view.
    ///
    /// The gate is asked before every single effect: this process may have been stopped for minutes
    /// after the one before.
    fn carry_out(&mut self) -> Result<(), LeaderError> {
        self.view.store(self.core.view());
        while self.gate.is_open()
            && let Some(step) = self.outbox.release()
        {
            match step {
                Step::Core(effect) => self.carry(effect),
                Step::Snapshot(stream, view) => {
                    self.operators.insert(stream);
                    self.streams.send(stream, &reads::subscribed(view));
                }
            }
        }
        if self.gate.is_open()
            && let Some(records) = self.outbox.begin()
        {
            // The thread only ends early by a panic.
            self.records.send(records).map_err(|()| LeaderError::Core)?;
        }
        Ok(())
    }

    fn carry(&mut self, effect: Effect) {
        match effect {
            Effect::OpenStream { request, stream } => {
                self.tray.open(request, stream, true, &mut self.streams);
            }
            Effect::Event { stream, event } => self.streams.send(stream, &Record::new(event)),
            Effect::OperatorEvent(event) => {
                let record = Record::new(event);
                for stream in &self.operators {
                    self.streams.send(*stream, &record);
                }
            }
            Effect::CloseStream { stream } => {
                self.operators.remove(&stream);
                self.streams.close(stream);
            }
            Effect::Reply { request, reply } => self.tray.reply(request, reply),
            Effect::Send { to, from, message } => match from {
                ProcessName::Leader => self.links.send("master", &to, &message),
                other => self.links.send(&other.to_string(), &to, &message),
            },
            Effect::Log(notice) => self.notices.write(&notice),
            // The outbox takes these two out.
            Effect::Persist(_) | Effect::OperatorSnapshot { .. } => {}
        }
    }
}
