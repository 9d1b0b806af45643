//! Executors that speak libprocess: the v0 driver (`MesosExecutorDriver`). They register with
//! `RegisterExecutorMessage` from a process of their own and get messages where v1 executors get
//! events; everything behind that is the same for both.
//!
//! Follows `registerExecutor`, `reregisterExecutor`, `statusUpdate` and `executorMessage` of
//! `src/slave/slave.cpp`, and what `src/exec/exec.cpp` expects to hear.
//!
//! What is stricter here: a message counts only when it comes from the process that registered for
//! the executor it speaks of. What is kinder: an executor whose link broke, or that re-registers from
//! where it registered, is taken back instead of shut down.

use crate::{
    Follower, Phase,
    executors::Introduction,
    info,
    io::{Effect, Effects, ExecutorPeer, Level, ProcessName},
    log,
    state::{Connection, ExecutorKey, id_proto},
    status::Origin,
    view::ExecutorState,
    warn,
};
use tepui_model::{ExecutorId, FrameworkId, container::ContainerId};
use tepui_protocol::{
    internal as i,
    peer::{NO_PROCESS, PeerMessage, Pid},
    v1::{
        self,
        executor::{Event, event},
    },
};

/// A v0 driver that has registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Driver {
    /// Where it listens, and what it sends from.
    pub(crate) pid: Pid,
    /// The link to it broke since. It is still written to: links are made anew.
    pub(crate) broken: bool,
}

/// How an executor introduced itself, and so how it is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Greeting {
    /// SUBSCRIBE of the v1 API.
    Subscribed,
    /// `RegisterExecutorMessage`.
    Registered,
    /// `ReregisterExecutorMessage`.
    Reregistered,
}

impl Follower {
    pub(crate) fn register_executor(
        &mut self,
        from: Pid,
        message: i::RegisterExecutorMessage,
        fx: &mut Effects,
    ) {
        let key = (
            FrameworkId::from(&message.framework_id),
            ExecutorId::from(&message.executor_id),
        );
        let refusal = self.refusal(&key).or_else(|| {
            if self.phase == Phase::Recovering {
                return Some("the follower is recovering");
            }
            let registered = self.executor(&key)?.state != ExecutorState::Registering;
            registered.then_some("it has registered already")
        });
        if let Some(why) = refusal {
            return refuse(from, &key, why, fx);
        }
        info(
            fx,
            format!(
                "Executor {} of framework {} registers from {from}",
                key.1, key.0
            ),
        );
        let introduction = Introduction {
            greeting: Greeting::Registered,
            updates: Vec::new(),
            origin: Origin::Driver(from.clone()),
            tasks: Vec::new(),
        };
        let driver = Driver {
            pid: from,
            broken: false,
        };
        self.subscribe(&key, Connection::Driver(driver), introduction, fx);
    }

    pub(crate) fn reregister_executor(
        &mut self,
        from: Pid,
        message: i::ReregisterExecutorMessage,
        fx: &mut Effects,
    ) {
        let key = (
            FrameworkId::from(&message.framework_id),
            ExecutorId::from(&message.executor_id),
        );
        let refusal = self.refusal(&key).or_else(|| {
            let executor = self.executor(&key)?;
            let back = match &executor.connection {
                Some(Connection::Driver(driver)) => driver.broken || driver.pid == from,
                _ => executor.state == ExecutorState::Registering,
            };
            (!back).then_some("it is registered from elsewhere")
        });
        if let Some(why) = refusal {
            return refuse(from, &key, why, fx);
        }
        info(
            fx,
            format!(
                "Executor {} of framework {} is back at {from}",
                key.1, key.0
            ),
        );
        let updates = message.updates.into_iter();
        let introduction = Introduction {
            greeting: Greeting::Reregistered,
            updates: updates.filter(|u| speaks_of(u, &key)).collect(),
            origin: Origin::Driver(from.clone()),
            tasks: message.tasks,
        };
        let driver = Driver {
            pid: from,
            broken: false,
        };
        self.subscribe(&key, Connection::Driver(driver), introduction, fx);
    }

    /// Why an executor that wants to register is sent away.
    fn refusal(&self, key: &ExecutorKey) -> Option<&'static str> {
        let Some(framework) = self.frameworks.get(&key.0) else {
            return Some("its framework does not run here");
        };
        let executor = framework.executors.get(&key.1);
        match executor.map(|executor| (executor.state, executor.outside)) {
            _ if self.phase == Phase::Terminating => Some("the follower is terminating"),
            _ if framework.terminating => Some("its framework is terminating"),
            None => Some("nobody launched it"),
            Some((ExecutorState::Terminating | ExecutorState::Terminated, _)) => {
                Some("it is ending")
            }
            // Nobody else may pass for an executor that runs in this process.
            Some((_, false)) => Some("it is no process of its own"),
            Some(_) => None,
        }
    }

    pub(crate) fn driver_update(
        &mut self,
        from: Pid,
        message: i::StatusUpdateMessage,
        fx: &mut Effects,
    ) {
        let known = self.executor_behind(&from);
        if !known.is_some_and(|key| speaks_of(&message.update, key)) {
            self.counters.invalid_status_updates += 1;
            let task = &message.update.status.task_id.value;
            return warn(
                fx,
                format!(
                    "Ignoring an update of task {task} from {from}: no such executor registered"
                ),
            );
        }
        self.status_update(message.update, Origin::Driver(from), fx);
    }

    pub(crate) fn driver_message(
        &mut self,
        from: &Pid,
        message: i::ExecutorToFrameworkMessage,
        fx: &mut Effects,
    ) {
        let key = (
            FrameworkId::from(&message.framework_id),
            ExecutorId::from(&message.executor_id),
        );
        if self.executor_behind(from) != Some(&key) {
            self.counters.invalid_framework_messages += 1;
            return warn(
                fx,
                format!(
                    "Ignoring a message from {from}: executor {} did not register there",
                    key.1
                ),
            );
        }
        self.executor_to_framework(&key.0, &key.1, message.data, fx);
    }

    /// The reference does nothing: what ends an executor is the end of its process. Here it may come
    /// back from elsewhere.
    pub(crate) fn driver_link_broken(&mut self, pid: &Pid, fx: &mut Effects) {
        let Some(key) = self.executor_behind(pid).cloned() else {
            return;
        };
        info(fx, format!("The link to executor {} at {pid} broke", key.1));
        if let Some(executor) = self.executor_mut(&key)
            && let Some(Connection::Driver(driver)) = &mut executor.connection
        {
            driver.broken = true;
        }
    }

    fn executor_behind(&self, pid: &Pid) -> Option<&ExecutorKey> {
        self.containers.get(self.drivers.get(pid)?)
    }

    /// Notes who registered from a process. Addresses are used again: whoever was there before is
    /// there no more.
    pub(crate) fn add_driver(&mut self, pid: Pid, container: ContainerId) {
        let Some(before) = self.drivers.insert(pid, container.clone()) else {
            return;
        };
        if before == container {
            return;
        }
        let key = self.containers.get(&before).cloned();
        if let Some(executor) = key.and_then(|key| self.executor_mut(&key)) {
            executor.connection = None;
        }
    }

    /// Tells an executor that it is welcome.
    pub(crate) fn greet(&self, key: &ExecutorKey, greeting: Greeting, fx: &mut Effects) {
        let event = self.subscribed_event(key);
        match (greeting, self.executor(key).map(|e| e.connection.clone())) {
            (Greeting::Reregistered, Some(Some(Connection::Driver(driver)))) => {
                let message = i::ExecutorReregisteredMessage {
                    slave_id: id_proto(self.id.as_ref()),
                    slave_info: (*self.info).clone(),
                };
                send(driver.pid, message, fx);
            }
            _ => {
                if let Some(event) = event {
                    self.send_executor(key, event, fx);
                }
            }
        }
    }

    /// Sends an event over a connection of an executor.
    pub(crate) fn send_to(
        &self,
        to: &Connection,
        key: &ExecutorKey,
        event: Event,
        fx: &mut Effects,
    ) {
        let peer = match to {
            Connection::Stream(stream) => ExecutorPeer::Stream(*stream),
            Connection::Local(container) => ExecutorPeer::Local(container.clone()),
            Connection::Driver(driver) => return self.send_driver(&driver.pid, key, event, fx),
        };
        fx.push(Effect::Event {
            to: peer,
            event: Box::new(event),
        });
    }

    /// The messages that say to a driver what an event says.
    fn send_driver(&self, to: &Pid, key: &ExecutorKey, event: Event, fx: &mut Effects) {
        let kind = event.r#type();
        let framework_id = key.0.to_proto();
        let slave_id = id_proto(self.id.as_ref());
        match kind {
            event::Type::Subscribed => {
                if let Some(message) = self.registered_message(key) {
                    send(to.clone(), message, fx);
                }
            }
            event::Type::Launch => {
                for task in event.launch.into_iter().map(|launch| launch.task) {
                    self.send_task(to, key, task, fx);
                }
            }
            // Drivers know no groups. (The reference sends an event that no driver reads.)
            event::Type::LaunchGroup => {
                for task in event
                    .launch_group
                    .into_iter()
                    .flat_map(|l| l.task_group.tasks)
                {
                    self.send_task(to, key, task, fx);
                }
            }
            event::Type::Kill => {
                let kill = event.kill.unwrap_or_default();
                let message = i::KillTaskMessage {
                    framework_id,
                    task_id: kill.task_id,
                    kill_policy: kill.kill_policy,
                };
                send(to.clone(), message, fx);
            }
            event::Type::Acknowledged => {
                let acknowledged = event.acknowledged.unwrap_or_default();
                let message = i::StatusUpdateAcknowledgementMessage {
                    slave_id,
                    framework_id,
                    task_id: acknowledged.task_id,
                    uuid: acknowledged.uuid,
                };
                send(to.clone(), message, fx);
            }
            event::Type::Message => {
                let message = i::FrameworkToExecutorMessage {
                    slave_id,
                    framework_id,
                    executor_id: key.1.to_proto(),
                    data: event.message.unwrap_or_default().data,
                };
                send(to.clone(), message, fx);
            }
            event::Type::Shutdown => send(to.clone(), i::ShutdownExecutorMessage::default(), fx),
            event::Type::Error | event::Type::Heartbeat | event::Type::Unknown => {
                let name = kind.as_str_name();
                log(fx, Level::Debug, format!("Drivers know no {name}"));
            }
        }
    }

    fn registered_message(&self, key: &ExecutorKey) -> Option<i::ExecutorRegisteredMessage> {
        let framework = self.frameworks.get(&key.0)?;
        let executor = framework.executors.get(&key.1)?;
        Some(i::ExecutorRegisteredMessage {
            executor_info: (*executor.info).clone(),
            framework_id: key.0.to_proto(),
            framework_info: (*framework.info).clone(),
            slave_id: id_proto(self.id.as_ref()),
            slave_info: (*self.info).clone(),
        })
    }

    fn send_task(&self, to: &Pid, key: &ExecutorKey, task: v1::TaskInfo, fx: &mut Effects) {
        let Some(framework) = self.frameworks.get(&key.0) else {
            return;
        };
        let message = i::RunTaskMessage {
            framework_id: None,
            framework: (*framework.info).clone(),
            // Drivers before 0.24 insist on one.
            pid: Some(
                framework
                    .pid
                    .as_ref()
                    .map_or_else(|| NO_PROCESS.to_owned(), Pid::to_string),
            ),
            task,
            ..Default::default()
        };
        send(to.clone(), message, fx);
    }

    pub(crate) fn acknowledge_driver(&self, to: &Pid, update: &i::StatusUpdate, fx: &mut Effects) {
        let message = i::StatusUpdateAcknowledgementMessage {
            slave_id: id_proto(self.id.as_ref()),
            framework_id: update.framework_id.clone(),
            task_id: update.status.task_id.clone(),
            uuid: update.uuid.clone().unwrap_or_default(),
        };
        send(to.clone(), message, fx);
    }

    pub(crate) fn check_drivers(&self) {
        for (pid, container) in &self.drivers {
            let executor = self.executor_behind(pid).and_then(|key| self.executor(key));
            let executor = executor.expect("driver of nobody");
            assert_eq!(&executor.container, container);
            let registered = match &executor.connection {
                Some(Connection::Driver(driver)) => &driver.pid == pid,
                _ => false,
            };
            assert!(registered, "{pid} is not where executor {} is", executor.id);
        }
    }
}

/// Whether an update speaks of an executor's framework, and for no other executor.
fn speaks_of(update: &i::StatusUpdate, key: &ExecutorKey) -> bool {
    let named = update.executor_id.as_ref();
    update.framework_id.value == key.0.as_str() && named.is_none_or(|id| id.value == key.1.as_str())
}

fn send(to: Pid, message: impl Into<PeerMessage>, fx: &mut Effects) {
    fx.push(Effect::Send {
        to,
        from: ProcessName::Follower,
        message: message.into(),
    });
}

/// What is not expected here is told to go: nobody else would end it.
fn refuse(from: Pid, key: &ExecutorKey, why: &str, fx: &mut Effects) {
    warn(
        fx,
        format!(
            "Shutting down executor {} of framework {} at {from}: {why}",
            key.1, key.0
        ),
    );
    send(from, i::ShutdownExecutorMessage::default(), fx);
}
