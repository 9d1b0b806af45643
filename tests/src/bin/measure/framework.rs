//! The framework that the torture runs: it keeps a number of short tasks alive whatever dies around it, and writes down
//! what it does before it does it, so that it can be killed itself.
//!
//! Its ledger is a file of JSON lines: `framework`, `launch`, `update`, and what happened to the subscription. Each task
//! writes its own start and end into a file too; the two together show what was lost, and what happened twice.

use crate::load::Failure;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use tepui_client::{
    Error,
    proto::{
        AgentId, CommandInfo, Filters, FrameworkId, FrameworkInfo, Offer, TaskId, TaskInfo,
        TaskState, TaskStatus,
        framework_info::{Capability, capability},
    },
    scheduler::{Calls, Event, Scheduler, launch},
};
use tepui_tests::wait::eventually;
use tokio::sync::mpsc;

/// What every task asks for.
const TASK_RESOURCES: &str = "cpus:0.1;mem:16";
/// What each follower has.
pub(crate) const FOLLOWER_RESOURCES: &str = "cpus:15;mem:2400;disk:1000;ports:[]";
/// How often all tasks are asked for.
const RECONCILE_EVERY: Duration = Duration::from_secs(10);

/// A second process of the measurement: `measure framework MASTER FOLDER TASKS`.
pub(crate) async fn run(master: &str, folder: &Path, tasks: usize) -> Result<(), Failure> {
    let mut framework = Framework::open(folder, tasks)?;
    loop {
        match framework.live(master).await {
            Ok(()) => return Ok(()),
            Err(error) => {
                framework.note("error", &error.to_string())?;
                // Not at once again.
                eventually(Duration::from_millis(200), || false);
            }
        }
    }
}

struct Framework {
    folder: PathBuf,
    ledger: Ledger,
    wanted: usize,
    id: Option<String>,
    /// Tasks that have not ended, and where they are.
    alive: BTreeMap<String, String>,
    next: usize,
    offers: bool,
}

impl Framework {
    /// Goes on from what the ledger says.
    fn open(folder: &Path, wanted: usize) -> Result<Self, Failure> {
        std::fs::create_dir_all(folder.join("truth"))?;
        let lines = read(folder);
        let mut framework = Self {
            folder: folder.to_owned(),
            ledger: Ledger::open(folder)?,
            wanted,
            id: None,
            alive: BTreeMap::new(),
            next: 0,
            offers: false,
        };
        for line in lines {
            if let Some(id) = line["framework"].as_str() {
                framework.id = Some(id.to_owned());
            } else if let Some(task) = line["launch"].as_str() {
                framework.next += 1;
                let agent = line["agent"].as_str().unwrap_or_default().to_owned();
                framework.alive.insert(task.to_owned(), agent);
            } else if let Some(task) = line["update"].as_str()
                && is_end(line["state"].as_str().unwrap_or_default())
            {
                framework.alive.remove(task);
            }
        }
        Ok(framework)
    }

    /// Until all is told to stop and every task has ended.
    async fn live(&mut self, master: &str) -> Result<(), Failure> {
        let mut info = FrameworkInfo {
            user: "root".to_owned(),
            name: "torture".to_owned(),
            checkpoint: Some(true),
            failover_timeout: Some(3600.0),
            id: self.id.clone().map(|value| FrameworkId { value }),
            roles: vec!["*".to_owned()],
            ..Default::default()
        };
        for kind in [
            capability::Type::PartitionAware,
            capability::Type::MultiRole,
            capability::Type::ReservationRefinement,
        ] {
            let mut capability = Capability::default();
            capability.set_type(kind);
            info.capabilities.push(capability);
        }
        let mut scheduler = Scheduler::builder(master, info).build()?;
        let calls = scheduler.calls();
        // In a task of its own: an attempt to subscribe must not be given up because time passes here.
        let (tell, mut events) = mpsc::channel(64);
        let _ended_with_us = AbortOnDrop(tokio::spawn(async move {
            loop {
                let event = scheduler.next().await;
                let failed = event.is_err();
                if tell.send(event).await.is_err() || failed {
                    return;
                }
            }
        }));
        let mut reconcile = Instant::now() + RECONCILE_EVERY;
        loop {
            if self.alive.is_empty() && self.folder.join("stop").exists() {
                self.note("done", "")?;
                return Ok(());
            }
            if reconcile <= Instant::now() {
                self.reconcile(&calls).await;
                reconcile = Instant::now() + RECONCILE_EVERY;
            }
            let event = tokio::time::timeout(Duration::from_millis(250), events.recv()).await;
            match event {
                Err(_) => {}
                Ok(Some(event)) => self.take(event?, &calls).await?,
                Ok(None) => return Err("the subscription ended".into()),
            }
        }
    }

    async fn take(&mut self, event: Event, calls: &Calls) -> Result<(), Failure> {
        match event {
            Event::Subscribed {
                framework_id,
                leader,
            } => {
                if self.id.as_ref() != Some(&framework_id.value) {
                    self.ledger
                        .write(&[json!({"framework": framework_id.value})])?;
                    self.id = Some(framework_id.value);
                }
                self.offers = false;
                let leader = leader.map(|leader| format!("{}:{}", leader.hostname(), leader.port));
                self.note("subscribed", &leader.unwrap_or_default())?;
                self.reconcile(calls).await;
            }
            Event::Disconnected { reason } => self.note("disconnected", &reason)?,
            Event::Offers(offers) => {
                if !std::mem::replace(&mut self.offers, true) {
                    self.note("offers", "")?;
                }
                for offer in offers {
                    self.use_offer(offer, calls).await?;
                }
            }
            Event::Update(status) => self.update(&status, calls).await?,
            _ => {}
        }
        Ok(())
    }

    async fn use_offer(&mut self, offer: Offer, calls: &Calls) -> Result<(), Failure> {
        let stopping = self.folder.join("stop").exists();
        let missing = if stopping {
            0
        } else {
            self.wanted.saturating_sub(self.alive.len())
        };
        let count = missing.min(room(&offer));
        let agent = offer.agent_id.value.clone();
        let tasks: Vec<TaskInfo> = (0..count)
            .map(|_| self.task(&offer))
            .collect::<Result<_, _>>()?;
        let lines: Vec<Value> = tasks
            .iter()
            .map(|task| json!({"launch": task.task_id.value, "agent": agent, "at": now()}))
            .collect();
        // Written down before it is asked for: whoever comes after us must know of it.
        self.ledger.write(&lines)?;
        for task in &tasks {
            self.alive.insert(task.task_id.value.clone(), agent.clone());
        }
        let refused = Filters {
            refuse_seconds: Some(if count == 0 { 2.0 } else { 0.0 }),
        };
        let operations = if tasks.is_empty() {
            Vec::new()
        } else {
            vec![launch(tasks)]
        };
        // An accept that did not get through launches nothing; reconciliation tells.
        passing(
            calls
                .accept_with([offer.id], operations, Some(refused))
                .await,
        )
    }

    fn task(&mut self, offer: &Offer) -> Result<TaskInfo, Failure> {
        let id = format!("task-{:06}", self.next);
        self.next += 1;
        // Spread without a random source: some are over at once, some see several faults.
        let seconds = [1, 3, 8, 20, 45, 70][self.next % 6];
        let truth = self.folder.join("truth").join(&id);
        let truth = truth.display();
        let script = format!("echo start >> {truth} && sleep {seconds} && echo end >> {truth}");
        let mut task = TaskInfo {
            name: id.clone(),
            agent_id: offer.agent_id.clone(),
            resources: tepui_client::resources(TASK_RESOURCES)?,
            command: Some(CommandInfo {
                value: Some(script),
                ..Default::default()
            }),
            ..Default::default()
        };
        task.task_id.value = id;
        Ok(task)
    }

    async fn update(&mut self, status: &TaskStatus, calls: &Calls) -> Result<(), Failure> {
        let (task, state) = (&status.task_id.value, status.state().as_str_name());
        let known = self.alive.contains_key(task);
        let news = status.uuid.is_some() || known;
        if news {
            let uuid = status.uuid.as_ref().map(|uuid| hex(uuid));
            let line = json!({
                "update": task, "state": state, "uuid": uuid, "at": now(),
                "reason": status.reason.map(|_| status.reason().as_str_name()), "message": status.message,
            });
            // Answers to our own questions about what goes on as before are no news.
            if uuid.is_some() || is_end(state) {
                self.ledger.write(&[line])?;
            }
        }
        if is_end(state) {
            self.alive.remove(task);
        }
        if status.uuid.is_some() {
            passing(calls.acknowledge(status).await)?;
        }
        Ok(())
    }

    async fn reconcile(&self, calls: &Calls) {
        let tasks = self.alive.iter().map(|(task, agent)| {
            let agent = AgentId {
                value: agent.clone(),
            };
            (
                TaskId {
                    value: task.clone(),
                },
                Some(agent),
            )
        });
        // It is asked again soon.
        let _ = calls.reconcile(tasks).await;
    }

    fn note(&mut self, event: &str, text: &str) -> Result<(), Failure> {
        Ok(self
            .ledger
            .write(&[json!({"event": event, "text": text, "at": now()})])?)
    }
}

struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A call that did not get through is no reason to stop.
fn passing(result: Result<(), Error>) -> Result<(), Failure> {
    match result {
        Ok(())
        | Err(
            Error::NotSubscribed
            | Error::Replaced { .. }
            | Error::Connect { .. }
            | Error::TimedOut { .. },
        ) => Ok(()),
        // The leader has changed: what was said to the old one does not count.
        Err(Error::Status { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn room(offer: &Offer) -> usize {
    let scalar = |name: &str| -> f64 {
        let named = offer.resources.iter().filter(|one| one.name == name);
        named
            .filter_map(|one| one.scalar)
            .map(|one| one.value)
            .sum()
    };
    // The same figures as TASK_RESOURCES; a thousandth is what amounts are rounded to.
    (scalar("cpus") / 0.1 + 1e-3)
        .min(scalar("mem") / 16.0 + 1e-3)
        .floor() as usize
}

/// Whether nothing more comes of a task in this state. TASK_UNREACHABLE may come back.
pub(crate) fn is_end(state: &str) -> bool {
    let state = TaskState::from_str_name(state);
    !matches!(
        state,
        None | Some(
            TaskState::TaskStaging
                | TaskState::TaskStarting
                | TaskState::TaskRunning
                | TaskState::TaskKilling
                | TaskState::TaskUnreachable
        )
    )
}

/// The ledger's lines; a torn last one is none.
pub(crate) fn read(folder: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(folder.join("ledger")).unwrap_or_default();
    text.lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}

struct Ledger(File);

impl Ledger {
    fn open(folder: &Path) -> std::io::Result<Self> {
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(folder.join("ledger"))?;
        let mut ledger = Self(file);
        // A torn line of a killed process must not swallow ours.
        ledger.0.write_all(b"\n")?;
        Ok(ledger)
    }

    fn write(&mut self, lines: &[Value]) -> std::io::Result<()> {
        if lines.is_empty() {
            return Ok(());
        }
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        self.0.write_all(text.as_bytes())?;
        self.0.sync_data()
    }
}

/// Milliseconds since 1970.
pub(crate) fn now() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    since.as_millis() as u64
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
