//! The v1 executor API: SUBSCRIBE, UPDATE, MESSAGE and HEARTBEAT, from executors over HTTP and from
//! those that run in this process. Texts are the reference's (`src/slave/http.cpp`,
//! `src/common/validation.cpp`); behaviour follows `subscribe` of `src/slave/slave.cpp`.

use crate::{
    Follower, Phase,
    config::EXECUTOR_HEARTBEAT_INTERVAL,
    driver::Greeting,
    info,
    io::{Effect, Effects, Reply},
    reply,
    state::{Connection, ExecutorKey},
    status::{AgentStatus, Origin},
    tasks::dropped,
    timers::Timer,
    tokens,
    view::ExecutorState,
    warn,
};
use tepui_auth::http::HttpPrincipal;
use tepui_model::{ExecutorId, FrameworkId, RequestId, StreamId, container::ContainerId};
use tepui_protocol::{
    internal as i,
    v1::{
        CheckStatusInfo, TaskInfo, TaskState, check_info,
        executor::{
            Call, Event,
            call::{Subscribe, Type},
            event,
        },
        task_status::{Reason, Source},
    },
};

/// What an executor says when it introduces itself, whichever API it speaks.
#[derive(Debug)]
pub(crate) struct Introduction {
    pub(crate) greeting: Greeting,
    /// Sent, and not acknowledged.
    pub(crate) updates: Vec<i::StatusUpdate>,
    /// Who acknowledgements of these go to.
    pub(crate) origin: Origin,
    /// Got, and without an acknowledged update.
    pub(crate) tasks: Vec<TaskInfo>,
}

/// Status code and text.
type Refusal = (u16, String);

impl Follower {
    pub(crate) fn executor_subscribe(
        &mut self,
        request: RequestId,
        stream: StreamId,
        call: Call,
        principal: Option<HttpPrincipal>,
        fx: &mut Effects,
    ) {
        match self.admit_from_outside(&call, principal.as_ref()) {
            Err((status, message)) => reply(fx, request, Reply::Error { status, message }),
            Ok(key) => {
                fx.push(Effect::OpenStream { request, stream });
                let subscribe = self.introduction(&key, call.subscribe.unwrap_or_default());
                self.subscribe(&key, Connection::Stream(stream), subscribe, fx);
            }
        }
    }

    pub(crate) fn executor_call(
        &mut self,
        request: RequestId,
        call: Call,
        principal: Option<HttpPrincipal>,
        fx: &mut Effects,
    ) {
        let admitted = self.admit_from_outside(&call, principal.as_ref());
        let result = admitted.and_then(|key| self.call(&key, call, fx));
        let answer = match result {
            Ok(()) => Reply::Accepted,
            Err((202, _)) => Reply::Accepted,
            Err((status, message)) => Reply::Error { status, message },
        };
        reply(fx, request, answer);
    }

    pub(crate) fn local_executor_call(
        &mut self,
        container: ContainerId,
        call: Call,
        fx: &mut Effects,
    ) {
        let Some(key) = self.containers.get(&container).cloned() else {
            return warn(
                fx,
                format!("Ignoring a call of the executor in unknown container {container}"),
            );
        };
        let result = match call.r#type() {
            Type::Subscribe => {
                let subscribe = self.introduction(&key, call.subscribe.unwrap_or_default());
                self.subscribe(&key, Connection::Local(container), subscribe, fx);
                Ok(())
            }
            _ => self
                .admit(&call, None)
                .and_then(|key| self.call(&key, call, fx)),
        };
        if let Err((status, message)) = result
            && status != 202
        {
            warn(
                fx,
                format!("A call of executor {} was refused: {message}", key.1),
            );
        }
    }

    /// As [`Self::admit`]. Nobody may pass for an executor that runs in this process: to the outside
    /// there is none.
    fn admit_from_outside(
        &self,
        call: &Call,
        principal: Option<&HttpPrincipal>,
    ) -> Result<ExecutorKey, Refusal> {
        let key = self.admit(call, principal)?;
        match self.executor(&key) {
            Some(executor) if !executor.outside => {
                Err((400, "Executor cannot be found".to_owned()))
            }
            _ => Ok(key),
        }
    }

    /// Checks a call and finds its executor. HEARTBEAT needs none and is "refused" with 202.
    fn admit(
        &self,
        call: &Call,
        principal: Option<&HttpPrincipal>,
    ) -> Result<ExecutorKey, Refusal> {
        validate(call)
            .map_err(|text| (400, format!("Failed to validate Executor::Call: {text}")))?;
        if call.r#type() == Type::Heartbeat {
            return Err((202, String::new()));
        }
        let key = (
            FrameworkId::from(&call.framework_id),
            ExecutorId::from(&call.executor_id),
        );
        // The reference answers so whoever asks; here those that are back already are heard.
        let recovering = self.phase == Phase::Recovering && call.r#type() != Type::Subscribe;
        if recovering
            && self
                .executor(&key)
                .is_none_or(|executor| executor.state == ExecutorState::Registering)
        {
            return Err((503, crate::RECOVERING.to_owned()));
        }
        let framework = self
            .frameworks
            .get(&key.0)
            .ok_or((400, "Framework cannot be found".to_owned()))?;
        let executor = framework
            .executors
            .get(&key.1)
            .ok_or((400, "Executor cannot be found".to_owned()))?;
        if let Some(principal) = principal {
            tokens::verify(principal, &key, &executor.container).map_err(|text| (403, text))?;
        }
        if executor.state == ExecutorState::Registering && call.r#type() != Type::Subscribe {
            return Err((403, "Executor is not subscribed".to_owned()));
        }
        Ok(key)
    }

    fn call(&mut self, key: &ExecutorKey, call: Call, fx: &mut Effects) -> Result<(), Refusal> {
        match call.r#type() {
            Type::Update => {
                let status = call.update.map(|u| u.status).unwrap_or_default();
                let update = self.executor_update(&key.0, status);
                self.status_update(update, Origin::Executor, fx);
                Ok(())
            }
            Type::Message => {
                let data = call.message.map(|m| m.data).unwrap_or_default();
                self.executor_to_framework(&key.0, &key.1, data, fx);
                Ok(())
            }
            Type::Heartbeat => Ok(()),
            // A SUBSCRIBE that did not come with a stream, or a type nobody knows.
            Type::Subscribe | Type::Unknown => Err((501, String::new())),
        }
    }

    fn introduction(&self, key: &ExecutorKey, subscribe: Subscribe) -> Introduction {
        let updates = subscribe.unacknowledged_updates.into_iter();
        Introduction {
            greeting: Greeting::Subscribed,
            updates: updates
                .map(|update| self.executor_update(&key.0, update.status))
                .collect(),
            origin: Origin::Executor,
            tasks: subscribe.unacknowledged_tasks,
        }
    }

    /// An executor introduces itself, for the first time or once more.
    pub(crate) fn subscribe(
        &mut self,
        key: &ExecutorKey,
        connection: Connection,
        introduction: Introduction,
        fx: &mut Effects,
    ) {
        let ending = self.phase == Phase::Terminating
            || self.frameworks.get(&key.0).is_none_or(|f| f.terminating);
        let Some(executor) = self.executor_mut(key) else {
            return;
        };
        if ending
            || matches!(
                executor.state,
                ExecutorState::Terminating | ExecutorState::Terminated
            )
        {
            warn(
                fx,
                format!("Executor {} subscribed too late: shutting it down", key.1),
            );
            self.send_to(&connection, key, plain(event::Type::Shutdown), fx);
            if let Connection::Stream(stream) = connection {
                fx.push(Effect::CloseStream { stream });
            }
            return;
        }
        executor.state = ExecutorState::Running;
        let idle = !executor.ever_sent_task && executor.queued.is_empty();
        self.connect(key, connection, fx);
        if idle {
            info(
                fx,
                format!(
                    "Executor {} has nothing to do: its tasks were killed before",
                    key.1
                ),
            );
            return self.shutdown_executor(key, fx);
        }
        self.greet(key, introduction.greeting, fx);
        for update in introduction.updates {
            self.status_update(update, introduction.origin.clone(), fx);
        }
        self.drop_unseen_tasks(key, &introduction.tasks, fx);
        self.send_queued(key, fx);
        self.kill_leftovers(key, fx);
    }

    /// Kills what came back from before a restart and cannot go on.
    fn kill_leftovers(&mut self, key: &ExecutorKey, fx: &mut Effects) {
        let Some(executor) = self.executor_mut(key) else {
            return;
        };
        for task in std::mem::take(&mut executor.kill_when_back) {
            let kill = event::Kill {
                task_id: task.to_proto(),
                kill_policy: None,
            };
            let event = Event {
                kill: Some(kill),
                ..plain(event::Type::Kill)
            };
            self.send_executor(key, event, fx);
        }
    }

    /// From here on the executor is reached this way, and no other.
    fn connect(&mut self, key: &ExecutorKey, connection: Connection, fx: &mut Effects) {
        let Some(executor) = self.executor_mut(key) else {
            return;
        };
        let container = executor.container.clone();
        let old = executor.connection.replace(connection.clone());
        self.keep_connection(key, &connection, fx);
        self.timers
            .cancel(&Timer::ExecutorRegistration(container.clone()));
        self.timers
            .cancel(&Timer::ExecutorHeartbeat(container.clone()));
        self.disconnected(old, fx);
        match connection {
            Connection::Stream(stream) => {
                self.streams.insert(stream, container.clone());
                self.timers.set(
                    Timer::ExecutorHeartbeat(container),
                    self.now + EXECUTOR_HEARTBEAT_INTERVAL,
                );
            }
            Connection::Driver(driver) => self.add_driver(driver.pid, container),
            Connection::Local(_) => {}
        }
    }

    /// Nothing is expected on a connection any more.
    pub(crate) fn disconnected(&mut self, connection: Option<Connection>, fx: &mut Effects) {
        match connection {
            Some(Connection::Stream(stream)) => {
                self.streams.remove(&stream);
                fx.push(Effect::CloseStream { stream });
            }
            Some(Connection::Driver(driver)) => drop(self.drivers.remove(&driver.pid)),
            Some(Connection::Local(_)) | None => {}
        }
    }

    pub(crate) fn subscribed_event(&self, key: &ExecutorKey) -> Option<Event> {
        let framework = self.frameworks.get(&key.0)?;
        let executor = framework.executors.get(&key.1)?;
        let subscribed = event::Subscribed {
            executor_info: (*executor.info).clone(),
            framework_info: (*framework.info).clone(),
            agent_info: crate::read::public_agent_info(&self.info),
            container_id: Some(executor.container.to_proto()),
        };
        Some(Event {
            subscribed: Some(subscribed),
            ..plain(event::Type::Subscribed)
        })
    }

    /// Tasks that were sent and that the executor does not know never reached it.
    fn drop_unseen_tasks(&mut self, key: &ExecutorKey, known: &[TaskInfo], fx: &mut Effects) {
        let Some(framework) = self.frameworks.get(&key.0) else {
            return;
        };
        let Some(executor) = framework.executors.get(&key.1) else {
            return;
        };
        if !executor.outside {
            // It was given them all.
            return;
        }
        let state = dropped(framework.partition_aware());
        let seen = |id: &str| known.iter().any(|task| task.task_id.value == id);
        let staging = executor
            .launched
            .iter()
            .filter(|(_, task)| task.state() == TaskState::TaskStaging);
        let unseen: Vec<_> = staging
            .map(|(id, _)| id.clone())
            .filter(|id| !seen(id.as_str()))
            .collect();
        for task in unseen {
            let status = AgentStatus {
                task,
                state,
                reason: Reason::AgentRestarted,
                message: "Task launched during agent restart".to_owned(),
                executor: Some(key.1.clone()),
            };
            self.report(&key.0, status, fx);
        }
    }

    /// The executor may come back; until then nothing reaches it.
    pub(crate) fn stream_closed(&mut self, stream: StreamId) {
        let Some(container) = self.streams.remove(&stream) else {
            return;
        };
        self.timers
            .cancel(&Timer::ExecutorHeartbeat(container.clone()));
        let Some(key) = self.containers.get(&container).cloned() else {
            return;
        };
        if let Some(executor) = self.executor_mut(&key) {
            executor.connection = None;
        }
    }

    pub(crate) fn executor_heartbeat(&mut self, container: &ContainerId, fx: &mut Effects) {
        let Some(key) = self.containers.get(container).cloned() else {
            return;
        };
        self.send_executor(&key, plain(event::Type::Heartbeat), fx);
        let next = self.now + EXECUTOR_HEARTBEAT_INTERVAL;
        self.timers
            .set(Timer::ExecutorHeartbeat(container.clone()), next);
    }
}

/// An event that is all type.
pub(crate) fn plain(kind: event::Type) -> Event {
    Event {
        r#type: Some(kind.into()),
        ..Default::default()
    }
}

/// What a call must hold, in the reference's order and words.
fn validate(call: &Call) -> Result<(), String> {
    let present = |what: &str, there: bool| {
        if there {
            Ok(())
        } else {
            Err(format!("Expecting '{what}' to be present"))
        }
    };
    present("type", call.r#type.is_some())?;
    match call.r#type() {
        Type::Subscribe => present("subscribe", call.subscribe.is_some()),
        Type::Message => present("message", call.message.is_some()),
        Type::Update => {
            present("update", call.update.is_some())?;
            validate_update(call)
        }
        Type::Heartbeat | Type::Unknown => Ok(()),
    }
}

fn validate_update(call: &Call) -> Result<(), String> {
    let Some(update) = &call.update else {
        return Ok(());
    };
    let status = &update.status;
    let (executor, framework) = (&call.executor_id.value, &call.framework_id.value);
    let uuid = status
        .uuid
        .as_ref()
        .ok_or("Expecting 'uuid' to be present")?;
    // Versions 1 to 5 are the ones the reference knows.
    if uuid.len() != 16 || !(1..=5).contains(&(uuid[6] >> 4)) {
        return Err("Not a valid UUID".to_owned());
    }
    if let Some(named) = status
        .executor_id
        .as_ref()
        .filter(|id| &id.value != executor)
    {
        return Err(format!(
            "ExecutorID in Call: {executor} does not match ExecutorID in TaskStatus: {}",
            named.value
        ));
    }
    if status.source() != Source::Executor {
        return Err(format!(
            "Received Call from executor {executor} of framework {framework} with invalid source, expecting 'SOURCE_EXECUTOR'"
        ));
    }
    if status.state() == TaskState::TaskStaging {
        return Err(format!(
            "Received TASK_STAGING from executor {executor} of framework {framework} which is not allowed"
        ));
    }
    status
        .check_status
        .as_ref()
        .map_or(Ok(()), validate_check_status)
}

fn validate_check_status(status: &CheckStatusInfo) -> Result<(), String> {
    let Some(kind) = status
        .r#type
        .and_then(|t| check_info::Type::try_from(t).ok())
    else {
        return Err("CheckStatusInfo must specify 'type'".to_owned());
    };
    let (there, field) = match kind {
        check_info::Type::Command => (status.command.is_some(), "command"),
        check_info::Type::Http => (status.http.is_some(), "http"),
        check_info::Type::Tcp => (status.tcp.is_some(), "tcp"),
        check_info::Type::Unknown => {
            return Err("'UNKNOWN' is not a valid check's status type".to_owned());
        }
    };
    if there {
        return Ok(());
    }
    let check = kind.as_str_name();
    Err(format!(
        "Expecting '{field}' to be set for {check} check's status"
    ))
}
