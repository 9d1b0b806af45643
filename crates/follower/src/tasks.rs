//! Running and killing tasks. Follows `run`…`___run`, `killTask` and `kill` of
//! `src/slave/slave.cpp`; what waits there for futures waits here as a [`PendingLaunch`].

// `role` and `source` are deprecated on the wire, and alive.

use crate::{
    Follower, Phase, gc, info,
    io::{Effects, RunFact},
    launch::command_executor,
    messages::driver_pid,
    paths,
    state::{ExecutorKey, Framework, PendingLaunch, id_proto, new_task, partition_aware},
    status::AgentStatus,
    view::ExecutorState,
    warn,
};
use rpds::QueueSync;
use std::{collections::BTreeSet, sync::Arc};
use tepui_model::{ExecutorId, FrameworkId, TaskId, resources};
use tepui_protocol::{
    internal as i,
    peer::Pid,
    v1::{
        self, TaskState,
        executor::{Event, event},
        task_status::Reason,
    },
};

impl Follower {
    pub(crate) fn run_task(&mut self, from: &Pid, message: i::RunTaskMessage, fx: &mut Effects) {
        if !self.is_leader(from, "RunTaskMessage", fx) {
            return;
        }
        let i::RunTaskMessage {
            framework, task, ..
        } = message;
        let generated = task.executor.is_none();
        let executor = match &task.executor {
            Some(executor) => executor.clone(),
            None => command_executor(&self.config, &framework, &task),
        };
        let launch = PendingLaunch {
            framework,
            executor,
            tasks: vec![Arc::new(task)],
            group: false,
            generated,
            launch_executor: message.launch_executor,
            resource_versions: message.resource_version_uuids,
            waits_for: BTreeSet::new(),
        };
        self.run(launch, driver_pid(message.pid.as_deref()), fx);
    }

    pub(crate) fn run_task_group(
        &mut self,
        from: &Pid,
        message: i::RunTaskGroupMessage,
        fx: &mut Effects,
    ) {
        if !self.is_leader(from, "RunTaskGroupMessage", fx) {
            return;
        }
        let tasks: Vec<_> = message.task_group.tasks.into_iter().map(Arc::new).collect();
        if tasks.is_empty() {
            return warn(fx, "Ignoring a task group without tasks".to_owned());
        }
        let launch = PendingLaunch {
            framework: message.framework,
            executor: message.executor,
            tasks,
            group: true,
            generated: false,
            launch_executor: message.launch_executor,
            resource_versions: message.resource_version_uuids,
            waits_for: BTreeSet::new(),
        };
        self.run(launch, None, fx);
    }

    /// Accepts a launch: at once, or when the directories it needs have been removed.
    fn run(&mut self, mut launch: PendingLaunch, driver: Option<Pid>, fx: &mut Effects) {
        normalize(&mut launch);
        let Some(framework_id) = launch.framework.id.as_ref().map(FrameworkId::from) else {
            return warn(
                fx,
                "Ignoring a launch for a framework without an id".to_owned(),
            );
        };
        let own = id_proto(self.id.as_ref());
        if self.id.is_none() || launch.tasks.iter().any(|task| task.agent_id != own) {
            return warn(
                fx,
                format!("Ignoring a launch of framework {framework_id} for an old agent"),
            );
        }
        if self.phase == Phase::Terminating {
            return warn(
                fx,
                "Ignoring a launch: the follower is terminating".to_owned(),
            );
        }
        let executor_id = ExecutorId::from(&launch.executor.executor_id);
        self.add_framework(&framework_id, &launch.framework, driver);
        if !paths::usable(framework_id.as_str()) || !paths::usable(executor_id.as_str()) {
            return self.drop_launch(
                launch,
                Reason::TaskInvalid,
                "The executor ID cannot name a directory",
                fx,
            );
        }
        if self
            .frameworks
            .get(&framework_id)
            .is_some_and(|f| f.terminating)
        {
            warn(
                fx,
                format!("Ignoring a launch: framework {framework_id} is terminating"),
            );
            return self.refuse_executor(&framework_id, &executor_id, launch.launch_executor, fx);
        }
        self.leave_out_known(&framework_id, &mut launch, fx);
        if launch.tasks.is_empty() {
            return;
        }
        launch.waits_for = self.keep_sandboxes(&framework_id, &executor_id);
        if launch.waits_for.is_empty() {
            return self.start(launch, fx);
        }
        if let Some(framework) = self.frameworks.get_mut(&framework_id) {
            framework.pending.push(launch);
        }
        self.touch(&framework_id);
    }

    /// A launch that arrives twice: its task runs or waits, so to report it dropped would be a lie, and
    /// its executor is not to be shut down over it. The leader keeps ids unique.
    fn leave_out_known(&self, id: &FrameworkId, launch: &mut PendingLaunch, fx: &mut Effects) {
        let Some(framework) = self.frameworks.get(id) else {
            return;
        };
        launch.tasks.retain(|task| {
            let task_id = TaskId::from(&task.task_id);
            let mut waiting = framework.pending.iter().flat_map(|launch| &launch.tasks);
            let known = framework.tasks.contains_key(&task_id)
                || waiting.any(|other| other.task_id == task.task_id);
            if known {
                let text =
                    format!("Ignoring task {task_id} of framework {id}: it is known already");
                warn(fx, text);
            }
            !known
        });
    }

    /// Takes the directories back from garbage collection. What is being removed right now has to be
    /// waited for.
    fn keep_sandboxes(
        &mut self,
        framework: &FrameworkId,
        executor: &ExecutorId,
    ) -> BTreeSet<std::path::PathBuf> {
        let needed = [
            gc::Sandbox::Framework(framework.clone()),
            gc::Sandbox::Executor(framework.clone(), executor.clone(), None),
        ];
        let mut waits_for = BTreeSet::new();
        for sandbox in needed {
            waits_for.extend(self.unschedule(&sandbox));
        }
        self.set_gc_timer();
        waits_for
    }

    fn add_framework(&mut self, id: &FrameworkId, info: &v1::FrameworkInfo, driver: Option<Pid>) {
        if self.frameworks.contains_key(id) {
            return;
        }
        let mut framework = Framework::new(id.clone(), info.clone(), driver);
        // A framework that comes back goes on with its history.
        let mut others = QueueSync::new_sync();
        for completed in self.completed_frameworks.iter() {
            if &completed.id == id {
                framework.completed_executors = completed.completed_executors.clone();
            } else {
                others.enqueue_mut(completed.clone());
            }
        }
        self.completed_frameworks = others;
        self.frameworks.insert(id.clone(), framework);
        self.touch(id);
    }

    /// Pending launches that waited for a directory go on, in the order they came.
    pub(crate) fn resume_pending(&mut self, removed: &std::path::Path, fx: &mut Effects) {
        let mut ready = Vec::new();
        for (id, framework) in &mut self.frameworks {
            for launch in &mut framework.pending {
                launch.waits_for.remove(removed);
            }
            if framework.pending.iter().any(|l| l.waits_for.is_empty()) {
                ready.push(id.clone());
            }
        }
        for id in ready {
            // One by one: what still waits its turn keeps the framework from being forgotten when
            // the one before it comes to nothing.
            while let Some(launch) = self.next_resumed(&id) {
                self.touch(&id);
                self.start(launch, fx);
            }
        }
    }

    fn next_resumed(&mut self, id: &FrameworkId) -> Option<PendingLaunch> {
        let pending = &mut self.frameworks.get_mut(id)?.pending;
        let at = pending.iter().position(|l| l.waits_for.is_empty())?;
        Some(pending.remove(at))
    }

    /// Starts a launch whose framework is known.
    fn start(&mut self, launch: PendingLaunch, fx: &mut Effects) {
        let Some(framework_id) = launch.framework.id.as_ref().map(FrameworkId::from) else {
            return;
        };
        let executor_id = ExecutorId::from(&launch.executor.executor_id);
        if self
            .frameworks
            .get(&framework_id)
            .is_none_or(|f| f.terminating)
        {
            self.refuse_executor(&framework_id, &executor_id, launch.launch_executor, fx);
            return self.remove_framework_if_idle(&framework_id, fx);
        }
        if self.drain.is_some() {
            return self.drop_launch(
                launch,
                Reason::AgentDraining,
                "Task was received while agent was already draining",
                fx,
            );
        }
        if self.is_outdated(&launch) {
            return self.drop_launch(
                launch,
                Reason::InvalidOffers,
                "Task assumes outdated resource state",
                fx,
            );
        }
        let key = (framework_id, executor_id);
        let existing = self.executor(&key).map(|executor| executor.state);
        match (launch.launch_executor, existing) {
            (Some(_), Some(_)) if launch.generated => {
                let text = "Cannot reuse an already existing executor for a command task";
                return self.report_dropped(
                    &key.0,
                    &launch,
                    Some(&key.1),
                    Reason::TaskInvalid,
                    text,
                    fx,
                );
            }
            (Some(true), Some(state)) => {
                let text = "Master wants to launch executor, but one already exists";
                self.report_dropped(
                    &key.0,
                    &launch,
                    Some(&key.1),
                    Reason::ExecutorTerminated,
                    text,
                    fx,
                );
                match state {
                    ExecutorState::Terminated => self.send_exited_executor(&key, -1, fx),
                    _ => self.shutdown_executor(&key, fx),
                }
                return;
            }
            (Some(false), None) => {
                let text = "No executor is expected to launch and there is none running";
                self.report_dropped(
                    &key.0,
                    &launch,
                    Some(&key.1),
                    Reason::ExecutorTerminated,
                    text,
                    fx,
                );
                return self.remove_framework_if_idle(&key.0, fx);
            }
            (_, None) => self.launch_executor(&key, &launch, fx),
            (_, Some(_)) => {}
        }
        match self.executor(&key).map(|executor| executor.state) {
            None => {}
            Some(ExecutorState::Terminating) => {
                let text = "Executor terminating";
                self.report_dropped(&key.0, &launch, None, Reason::ExecutorTerminated, text, fx);
            }
            Some(ExecutorState::Terminated) => {
                let text = "Executor terminated";
                self.report_dropped(&key.0, &launch, None, Reason::ExecutorTerminated, text, fx);
            }
            Some(state) => {
                self.enqueue(&key, &launch, fx);
                self.end_if_refused(&key, fx);
                if state == ExecutorState::Running {
                    self.send_queued(&key, fx);
                }
            }
        }
    }

    /// Whether a launch was made for other resources than we have by now.
    fn is_outdated(&self, launch: &PendingLaunch) -> bool {
        let resources = || launch.tasks.iter().flat_map(|task| &task.resources);
        let known = |id: &Option<v1::ResourceProviderId>| {
            let version = launch
                .resource_versions
                .iter()
                .find(|v| &v.resource_provider_id == id);
            // No resource provider ever registers here, so nothing of one can be up to date.
            id.is_none() && version.is_some_and(|v| v.uuid == self.resource_version)
        };
        !launch.resource_versions.is_empty()
            && !resources().all(|resource| known(&resource.provider_id))
    }

    fn enqueue(&mut self, key: &ExecutorKey, launch: &PendingLaunch, fx: &mut Effects) {
        let mut accepted = Vec::new();
        let outlives = self.outlives(&launch.framework);
        let local = self.executor(key).is_some_and(|e| !e.outside);
        let group: Option<Arc<str>> = (launch.group && outlives && local)
            .then(|| self.rng.uuid().hyphenated().to_string().into());
        for task in &launch.tasks {
            let id = TaskId::from(&task.task_id);
            if self
                .frameworks
                .get(&key.0)
                .is_some_and(|f| f.tasks.contains_key(&id))
            {
                // The leader keeps ids unique; one that does not must not confuse what runs.
                warn(
                    fx,
                    format!(
                        "Ignoring task {id} of framework {}: it is known already",
                        key.0
                    ),
                );
                continue;
            }
            if let Some(framework) = self.frameworks.get_mut(&key.0) {
                framework.tasks.insert(id.clone(), key.1.clone());
            }
            if let Some(executor) = self.executor_mut(key) {
                executor.queued.insert(id.clone(), task.clone());
            }
            if outlives {
                let fact = RunFact::Task {
                    task: Box::new(new_task(task, &key.0, TaskState::TaskStaging)),
                    launch: local.then(|| task.clone()),
                    group: group.clone(),
                };
                self.keep(key, fact, fx);
            }
            accepted.push(id);
        }
        if launch.group
            && !accepted.is_empty()
            && let Some(executor) = self.executor_mut(key)
        {
            executor.queued_groups.push(accepted);
        }
    }

    /// Sends everything that is queued: single tasks, then groups.
    pub(crate) fn send_queued(&mut self, key: &ExecutorKey, fx: &mut Effects) {
        if !self.volumes_ready(key, fx) {
            return;
        }
        let Some(executor) = self.executor_mut(key) else {
            return;
        };
        let groups = std::mem::take(&mut executor.queued_groups);
        let queued = std::mem::take(&mut executor.queued);
        let mut events = Vec::new();
        let grouped: BTreeSet<&TaskId> = groups.iter().flatten().collect();
        for (_, task) in queued.iter().filter(|(id, _)| !grouped.contains(id)) {
            events.push(Event {
                r#type: Some(event::Type::Launch.into()),
                launch: Some(event::Launch {
                    task: (**task).clone(),
                }),
                ..Default::default()
            });
        }
        for group in &groups {
            let tasks = group
                .iter()
                .filter_map(|id| queued.get(id))
                .map(|task| (**task).clone())
                .collect();
            events.push(Event {
                r#type: Some(event::Type::LaunchGroup.into()),
                launch_group: Some(event::LaunchGroup {
                    task_group: v1::TaskGroupInfo { tasks },
                }),
                ..Default::default()
            });
        }
        executor.ever_sent_task |= !queued.is_empty();
        for (id, task) in queued {
            let task = new_task(&task, &key.0, TaskState::TaskStaging);
            executor.launched.insert_mut(id, Arc::new(task));
        }
        for event in events {
            self.send_executor(key, event, fx);
        }
    }

    /// A launch cannot be carried out: its tasks are lost, and so is the executor the leader counts on.
    fn drop_launch(
        &mut self,
        launch: PendingLaunch,
        reason: Reason,
        message: &str,
        fx: &mut Effects,
    ) {
        let Some(framework) = launch.framework.id.as_ref().map(FrameworkId::from) else {
            return;
        };
        let executor = ExecutorId::from(&launch.executor.executor_id);
        self.report_dropped(&framework, &launch, Some(&executor), reason, message, fx);
        self.refuse_executor(&framework, &executor, launch.launch_executor, fx);
        self.remove_framework_if_idle(&framework, fx);
    }

    fn report_dropped(
        &mut self,
        framework: &FrameworkId,
        launch: &PendingLaunch,
        executor: Option<&ExecutorId>,
        reason: Reason,
        message: &str,
        fx: &mut Effects,
    ) {
        let state = dropped(partition_aware(&launch.framework));
        for task in &launch.tasks {
            let status = AgentStatus {
                task: TaskId::from(&task.task_id),
                state,
                reason,
                message: message.to_owned(),
                executor: executor.cloned(),
            };
            let update = self.agent_update(framework, status);
            self.enqueue_update(update, fx);
        }
    }

    /// The leader counts the executor's resources as used until it hears that there is none.
    fn refuse_executor(
        &self,
        framework: &FrameworkId,
        executor: &ExecutorId,
        launch_executor: Option<bool>,
        fx: &mut Effects,
    ) {
        if launch_executor == Some(true) {
            self.send_exited_executor(&(framework.clone(), executor.clone()), -1, fx);
        }
    }

    pub(crate) fn kill_task(&mut self, from: &Pid, message: i::KillTaskMessage, fx: &mut Effects) {
        if !self.is_leader(from, "KillTaskMessage", fx) {
            return;
        }
        let framework_id = FrameworkId::from(&message.framework_id);
        let task = TaskId::from(&message.task_id);
        info(
            fx,
            format!("Asked to kill task {task} of framework {framework_id}"),
        );
        let framework = self
            .frameworks
            .get(&framework_id)
            .filter(|f| !f.terminating);
        let Some(framework) = framework.filter(|_| self.phase != Phase::Terminating) else {
            return warn(
                fx,
                format!("Ignoring the kill of task {task}: framework {framework_id} does not run"),
            );
        };
        if framework.is_pending(&task) {
            return self.kill_pending(&framework_id, &task, fx);
        }
        let Some(executor) = framework.executor_of(&task).map(|e| e.id.clone()) else {
            let status = AgentStatus {
                state: dropped(framework.partition_aware()),
                reason: Reason::ExecutorTerminated,
                message: "Cannot find executor".to_owned(),
                executor: None,
                task,
            };
            return self.report(&framework_id, status, fx);
        };
        self.kill_known(&(framework_id, executor), &task, message.kill_policy, fx);
    }

    /// Kills a task that an executor has, or is to have.
    pub(crate) fn kill_known(
        &mut self,
        key: &ExecutorKey,
        task: &TaskId,
        kill_policy: Option<v1::KillPolicy>,
        fx: &mut Effects,
    ) {
        let Some(executor) = self.executor(key) else {
            return;
        };
        match executor.state {
            ExecutorState::Terminating | ExecutorState::Terminated => {
                warn(
                    fx,
                    format!("Ignoring the kill of task {task}: its executor is ending"),
                );
            }
            _ if executor.queued.contains_key(task) => self.kill_queued(key, task, fx),
            // The executor has not subscribed and has it not: nothing is left to kill.
            ExecutorState::Registering => {}
            ExecutorState::Running => {
                let kill = event::Kill {
                    task_id: task.to_proto(),
                    kill_policy,
                };
                let event = Event {
                    r#type: Some(event::Type::Kill.into()),
                    kill: Some(kill),
                    ..Default::default()
                };
                self.send_executor(key, event, fx);
            }
        }
    }

    fn kill_queued(&mut self, key: &ExecutorKey, task: &TaskId, fx: &mut Effects) {
        let Some(executor) = self.executor(key) else {
            return;
        };
        let group = executor.group_of(task).cloned();
        // In the reference only groups of executors that have not subscribed are told apart.
        let text =
            killed_before_delivery(group.is_some() && executor.state == ExecutorState::Registering);
        for task in group.unwrap_or_else(|| vec![task.clone()]) {
            let status = AgentStatus {
                task,
                state: TaskState::TaskKilled,
                reason: Reason::TaskKilledDuringLaunch,
                message: text.to_owned(),
                executor: Some(key.1.clone()),
            };
            self.report(&key.0, status, fx);
        }
        let idle = |e: &crate::state::Executor| !e.ever_sent_task && e.queued.is_empty();
        if self
            .executor(key)
            .is_some_and(|e| e.state == ExecutorState::Running && idle(e))
        {
            info(fx, format!("Executor {} has nothing left to do", key.1));
            self.shutdown_executor(key, fx);
        }
    }

    pub(crate) fn kill_pending(
        &mut self,
        framework: &FrameworkId,
        task: &TaskId,
        fx: &mut Effects,
    ) {
        let launches = self
            .frameworks
            .get(framework)
            .map_or(&[][..], |f| &f.pending);
        let has = |launch: &&PendingLaunch| {
            launch
                .tasks
                .iter()
                .any(|t| t.task_id.value == task.as_str())
        };
        let Some(launch) = launches.iter().find(has) else {
            return;
        };
        let (text, executor) = (
            killed_before_delivery(launch.group),
            ExecutorId::from(&launch.executor.executor_id),
        );
        let launch_executor = launch.launch_executor;
        let tasks: Vec<TaskId> = launch
            .tasks
            .iter()
            .map(|t| TaskId::from(&t.task_id))
            .collect();
        for task in tasks {
            let status = AgentStatus {
                task,
                state: TaskState::TaskKilled,
                reason: Reason::TaskKilledDuringLaunch,
                message: text.to_owned(),
                executor: Some(executor.clone()),
            };
            let mut update = self.agent_update(framework, status);
            self.mark_drained(framework, &mut update.status);
            self.enqueue_update(update, fx);
        }
        if let Some(framework) = self.frameworks.get_mut(framework) {
            framework.pending.retain(|launch| !has(&launch));
        }
        self.touch(framework);
        self.refuse_executor(framework, &executor, launch_executor, fx);
        self.remove_framework_if_idle(framework, fx);
    }
}

/// What a task becomes that never got to its executor.
pub(crate) fn dropped(partition_aware: bool) -> TaskState {
    if partition_aware {
        TaskState::TaskDropped
    } else {
        TaskState::TaskLost
    }
}

fn killed_before_delivery(group: bool) -> &'static str {
    if group {
        "A task within the task group was killed before delivery to the executor"
    } else {
        "Killed before delivery to the executor"
    }
}

/// Brings a launch into the form that everything here works with: resources know the role they are
/// allocated to and carry their reservations as a stack, executors know their framework.
fn normalize(launch: &mut PendingLaunch) {
    let info = &launch.framework;
    allocate(&mut launch.executor.resources, info);
    launch.executor.framework_id = info.id.clone();
    for task in &mut launch.tasks {
        let task = Arc::make_mut(task);
        allocate(&mut task.resources, info);
        if let Some(executor) = &mut task.executor {
            allocate(&mut executor.resources, info);
        }
    }
}

/// Says which role resources are allocated to where that goes without saying, as agents before 1.2
/// and frameworks of one role have it.
pub(crate) fn allocate(resources: &mut [v1::Resource], framework: &v1::FrameworkInfo) {
    let role = match framework.roles.as_slice() {
        [] => Some(framework.role.clone().unwrap_or_else(|| "*".to_owned())),
        [only] => Some(only.clone()),
        _ => None,
    };
    for resource in resources {
        if let (None, Some(role)) = (&resource.allocation_info, &role) {
            resource.allocation_info = Some(v1::resource::AllocationInfo {
                role: Some(role.clone()),
            });
        }
        resources::upgrade(resource);
    }
}
