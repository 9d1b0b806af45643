//! Followers come back, with what they run: the leader's picture and theirs become one.
//!
//! Follows `Master::reregisterSlave`, `reconcileKnownSlave` and `updateSlaveFrameworks` in
//! `src/master/master.cpp`. A follower may have been away for a moment, while another leader led,
//! or so long that it was given up.
//!
//! Reservations and volumes that a follower checkpointed are what it says they are. Nothing is sent to
//! followers that would make them forget any.

use crate::{
    Leader, Level,
    authentication::Waiting,
    followers::{Registration, own, total_of},
    offers::allocator_follower,
    operations::is_pending,
    removal::Fault,
    state::roles_of,
    status::{Cause, Update, reported_state},
    subscribe::framework_update,
    timers::Timer,
    validate,
};
use rustc_hash::FxHashSet;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use tepui_model::{
    ExecutorId, FollowerId, FrameworkId, TaskId,
    planted::{Planted, planted},
    resources::{Resource, Resources, operations, upgrade},
    tasks::is_terminal,
};
use tepui_protocol::{
    internal,
    peer::Pid,
    v1::{self, task_status},
};

impl Leader {
    /// `ReregisterSlaveMessage`: a follower with an id has found a leader, or found it again.
    pub(crate) fn reregister_follower(
        &mut self,
        from: Pid,
        message: internal::ReregisterSlaveMessage,
    ) {
        let Some(Waiting::KnownFollower(mut message)) =
            self.waits(&from, Waiting::KnownFollower(message))
        else {
            return;
        };
        self.count("master/messages_reregister_slave");
        if !self.admits_follower(&from) {
            return self.ignore(format!(
                "Refused the re-registration of the follower at {from}: it is not authenticated"
            ));
        }
        let id = message
            .slave
            .id
            .as_ref()
            .map(FollowerId::from)
            .unwrap_or_else(|| FollowerId::new(""));
        if self.state.roster.gone.contains(&id) {
            return self.shut_down(from, "Agent has been marked gone");
        }
        if self.turns_away(&message.slave.hostname, &from) {
            return;
        }
        if let Err(error) = validate::message::reregister_follower(&message) {
            return self.ignore(format!(
                "Dropped the re-registration of the follower at {from}: {error}"
            ));
        }
        if let Err(error) = self.check_terms(&message.slave, message.version()) {
            return self.ignore(format!(
                "Ignored the re-registration of {id} at {from}: {error}"
            ));
        }
        normalize(&mut message);
        let checkpointed = std::mem::take(&mut message.checkpointed_resources);
        let total = match total_of(&message.slave, checkpointed) {
            Ok(total) => total,
            Err(error) => {
                return self.ignore(format!(
                    "Ignored the re-registration of {id} at {from}: {error}"
                ));
            }
        };
        if self.state.follower(&id).is_some() {
            self.reregister_registered(&id, from, message, total);
        } else {
            self.reregister_absent(id, from, message, total);
        }
    }

    /// It is in the tables: its link broke, or it restarted.
    fn reregister_registered(
        &mut self,
        id: &FollowerId,
        from: Pid,
        message: internal::ReregisterSlaveMessage,
        total: Resources,
    ) {
        let Some(known) = self.state.follower(id) else {
            return;
        };
        if known.pid.address.ip() != from.address.ip()
            || known.info.hostname != message.slave.hostname
        {
            return self.shut_down(
                from,
                "Agent attempted to reregister with different IP / hostname",
            );
        }
        let (was_connected, was_active) = (known.connected, known.active);
        let deactivated = self.state.roster.is_deactivated(id);
        if *known.info != message.slave {
            let change = self.admission(message.slave.clone());
            self.persist(change);
        }
        self.vacate(&from, id);
        self.state.move_follower(id, from);
        self.describe_follower(id, &message, total);
        self.recover_frameworks_of(&message.frameworks);
        self.reconcile_known(id, &message);
        if !was_connected {
            self.timers.cancel(&Timer::Reregister(id.clone()));
            self.cancel_removal(id, Fault::Away);
            if let Some(follower) = self.state.follower_mut(id) {
                follower.connected = true;
                follower.active = !deactivated;
            }
        }
        if !was_active && !deactivated {
            self.allocator.activate_follower(id);
        }
        self.send_framework_updates(id, &message.frameworks);
        self.resume_draining(id);
    }

    /// At one address there is one follower: another one that was there is gone.
    fn vacate(&mut self, address: &Pid, for_id: &FollowerId) {
        let other = self
            .state
            .follower_at(address)
            .map(|follower| follower.id.clone());
        if let Some(other) = other.filter(|other| other != for_id) {
            let why = "a new agent registered at the same address";
            self.remove_follower(&other, why, "master/slave_removals/reason_registered");
        }
    }

    fn describe_follower(
        &mut self,
        id: &FollowerId,
        message: &internal::ReregisterSlaveMessage,
        total: Resources,
    ) {
        let now = self.now;
        let Some(follower) = self.state.follower_mut(id) else {
            return;
        };
        // Its providers, and what it has besides, come with its next message.
        let more = |r: &Resource| r.is_revocable() || r.provider_id().is_some();
        let total = total + &follower.total.filter(more);
        // It may have said this before it heard of what is pending.
        let speculates = |operation: &Arc<v1::Operation>| {
            is_pending(operation) && operations::is_speculative(&operation.info)
        };
        follower.in_doubt = follower.operations.values().any(speculates);
        follower.shrunk |= !total.contains(&follower.total);
        follower.total = total;
        let attributes_changed = follower.info.attributes != message.slave.attributes;
        follower.info = Arc::new(message.slave.clone());
        follower.version = message.version().to_owned();
        follower.can = message.agent_capabilities.as_slice().into();
        follower.capabilities = Arc::new(message.agent_capabilities.clone());
        follower.resource_version = message.resource_version_uuid.clone();
        follower.reregistered = Some(now);
        let info = allocator_follower(follower);
        self.allocator.update_follower(id, info, attributes_changed);
        self.rescind_impossible(id);
    }

    /// What is no longer there cannot be offered.
    fn rescind_impossible(&mut self, id: &FollowerId) {
        let Some(follower) = self.state.follower(id) else {
            return;
        };
        let total = follower.total.clone();
        self.rescind_offers_where(id, |offered| {
            let offered = offered.clone().unallocated();
            !offered.iter().all(|one| total.contains_one(&one.once()))
        });
    }

    /// Two pictures of what runs there, the leader's and its own, become one.
    fn reconcile_known(&mut self, id: &FollowerId, message: &internal::ReregisterSlaveMessage) {
        let theirs: BTreeSet<(FrameworkId, TaskId)> = message
            .tasks
            .iter()
            .map(|task| ((&task.framework_id).into(), (&task.task_id).into()))
            .collect();
        let answer = internal::SlaveReregisteredMessage {
            slave_id: id.to_proto(),
            reconciliations: self.reconciliations(id, &theirs),
            connection: Some(self.connection()),
        };
        let Some(follower) = self.state.follower(id) else {
            return;
        };
        let pid = follower.pid.clone();
        self.send(pid.clone(), answer);
        if let Some(follower) = self.state.follower_unseen(id) {
            follower.unheard = true;
        }

        let running: BTreeSet<(FrameworkId, ExecutorId)> = message
            .executor_infos
            .iter()
            .filter_map(|e| Some((e.framework_id.as_ref()?.into(), (&e.executor_id).into())))
            .collect();
        let Some(follower) = self.state.follower(id) else {
            return;
        };
        let lost: Vec<(FrameworkId, ExecutorId)> = follower
            .executors
            .iter()
            .flat_map(|(framework, executors)| {
                executors.keys().map(|e| (framework.clone(), e.clone()))
            })
            .filter(|key| !running.contains(key))
            .collect();
        // What this leader gave up when the link broke, since its framework does not checkpoint, must
        // not run on: its resources are offered again. What has ended meanwhile does not run: the
        // message is an old one.
        let at = id.to_proto();
        let unknown = |(framework, task): &(FrameworkId, TaskId)| {
            let tasks = follower.tasks.get(framework);
            !tasks.is_some_and(|tasks| tasks.contains(task))
                && !self.has_settled(framework, task, &at, None)
        };
        let kill: Vec<(FrameworkId, TaskId)> = message
            .tasks
            .iter()
            .filter(|task| !is_terminal(task.state()))
            .map(|task| ((&task.framework_id).into(), (&task.task_id).into()))
            .filter(|key| follower.killed.contains(key) || unknown(key))
            .collect();
        for (framework, executor) in lost {
            self.remove_executor(&framework, id, &executor);
        }
        for (framework, task) in kill {
            let message = internal::KillTaskMessage {
                framework_id: framework.to_proto(),
                task_id: task.to_proto(),
                kill_policy: None,
            };
            self.send(pid.clone(), message);
        }
        self.shut_down_completed(
            &pid,
            message
                .tasks
                .iter()
                .map(|task| FrameworkId::from(&task.framework_id)),
        );
    }

    /// Tasks it should run and does not know: it will answer with their last updates.
    fn reconciliations(
        &self,
        id: &FollowerId,
        theirs: &BTreeSet<(FrameworkId, TaskId)>,
    ) -> Vec<internal::ReconcileTasksMessage> {
        let Some(follower) = self.state.follower(id) else {
            return Vec::new();
        };
        let mut all = Vec::new();
        for (framework_id, tasks) in &follower.tasks {
            let Some(framework) = self.state.framework(framework_id) else {
                continue;
            };
            let statuses: Vec<v1::TaskStatus> = tasks
                .iter()
                .filter(|task| !theirs.contains(&(framework_id.clone(), (*task).clone())))
                .filter_map(|task| framework.tasks.get(task))
                .map(|task| self.reconciliation_request(id, task))
                .collect();
            if !statuses.is_empty() {
                all.push(internal::ReconcileTasksMessage {
                    framework_id: framework_id.to_proto(),
                    statuses,
                    framework: Some(v1::FrameworkInfo::clone(&framework.info)),
                });
            }
        }
        all
    }

    fn reconciliation_request(&self, id: &FollowerId, task: &v1::Task) -> v1::TaskStatus {
        let mut status = v1::TaskStatus {
            task_id: task.task_id.clone(),
            agent_id: Some(id.to_proto()),
            message: Some("Reconciliation request".to_owned()),
            timestamp: Some(self.now.seconds()),
            ..Default::default()
        };
        status.set_state(crate::status::reported_state(task));
        status.set_source(task_status::Source::Master);
        status.set_reason(task_status::Reason::Reconciliation);
        status
    }

    /// Its id is not in the tables: known from the registry, unreachable, removed or never seen.
    fn reregister_absent(
        &mut self,
        id: FollowerId,
        from: Pid,
        mut message: internal::ReregisterSlaveMessage,
        total: Resources,
    ) {
        self.vacate(&from, &id);
        if planted(Planted::DropsRecoveredTask) {
            message.tasks.pop();
        }
        if planted(Planted::LeavesUnreachable) && self.state.roster.unreachable.contains(&id) {
            message.tasks.clear();
        }
        let recovered = self.state.roster.recovered.get(&id).cloned();
        let as_admitted = recovered
            .as_ref()
            .is_some_and(|info| **info == message.slave);
        if !as_admitted {
            let change = self.admission(message.slave.clone());
            self.persist(change);
        }
        let was_unreachable = self.state.roster.unreachable.contains(&id);
        self.state.roster.recovered.remove_mut(&id);
        self.state.roster.unreachable.remove(&id);
        self.state.roster.removed.forget(&id);
        self.cancel_removal(&id, Fault::Missing);
        self.forget_missed_tasks(&id);
        self.count("master/slave_reregistrations");
        self.notice(
            Level::Info,
            format!(
                "Re-registering the follower {id} at {from} ({})",
                message.slave.hostname
            ),
        );

        let frameworks = std::mem::take(&mut message.frameworks);
        self.recover_frameworks_of(&frameworks);
        if recovered.is_none() {
            self.announce_return(&message.tasks, was_unreachable);
        }
        let mut follower = self.new_follower(Registration {
            id: id.clone(),
            pid: from.clone(),
            info: message.slave,
            version: message.version.unwrap_or_default(),
            capabilities: message.agent_capabilities,
            resource_version: message.resource_version_uuid,
            total,
        });
        follower.reregistered = Some(self.now);
        follower.unheard = true;
        // What it reports is a fact, whether or not it fits.
        follower.shrunk = true;
        self.state.insert_follower(follower);
        self.adopt(&id, message.tasks, message.executor_infos);
        self.adopt_completed(message.completed_frameworks, recovered.is_none());
        self.allocate_to_known(&id);
        self.operator_event(|leader| leader.follower_added(&id));

        let answer = internal::SlaveReregisteredMessage {
            slave_id: id.to_proto(),
            reconciliations: Vec::new(),
            connection: Some(self.connection()),
        };
        self.send(from.clone(), answer);
        self.shut_down_completed(
            &from,
            frameworks
                .iter()
                .filter_map(|f| f.id.as_ref())
                .map(FrameworkId::from),
        );
        self.send_framework_updates(&id, &frameworks);
        self.resume_draining(&id);
        self.first_ping(&id);
    }

    /// Frameworks that were told their tasks are lost or unreachable hear that they are not.
    fn announce_return(&mut self, tasks: &[v1::Task], was_unreachable: bool) {
        let message = if was_unreachable {
            "Unreachable agent re-reregistered"
        } else {
            "Unknown agent reregistered"
        };
        let cause = Cause::new(task_status::Reason::AgentReregistered, message.to_owned());
        self.forget_ends(tasks);
        for task in tasks {
            let framework_id = FrameworkId::from(&task.framework_id);
            let Some(framework) = self.state.framework_mut(&framework_id) else {
                continue;
            };
            let task_id = TaskId::from(&task.task_id);
            framework.unreachable_tasks.remove_mut(&task_id);
            // Not the latest state: what its framework was not told comes with an update of its own,
            // and a reconciliation meanwhile must not take it back.
            let update = Update::of_known_task(task, reported_state(task), &cause, self.now);
            self.tell_framework(&framework_id, &update);
        }
    }

    /// What was held for ended and goes on is no history. Looks through the history of a framework
    /// once, however many of its tasks are back.
    fn forget_ends(&mut self, tasks: &[v1::Task]) {
        let mut back: BTreeMap<&str, FxHashSet<&str>> = BTreeMap::new();
        for task in tasks {
            let ids = back.entry(task.framework_id.value.as_str()).or_default();
            ids.insert(task.task_id.value.as_str());
        }
        for (framework, ids) in back {
            let id = FrameworkId::from(framework);
            let is_back = |task: &Arc<v1::Task>| ids.contains(task.task_id.value.as_str());
            let known = self.state.framework(&id);
            if !known.is_some_and(|known| known.completed_tasks.iter().any(is_back)) {
                continue;
            }
            if let Some(known) = self.state.framework_mut(&id) {
                let ended = known.completed_tasks.iter();
                known.completed_tasks = ended.filter(|task| !is_back(task)).cloned().collect();
            }
        }
    }

    /// Frameworks that run there and that nobody has told this leader of yet.
    fn recover_frameworks_of(&mut self, infos: &[v1::FrameworkInfo]) {
        for info in infos {
            let Some(id) = info.id.as_ref().map(FrameworkId::from) else {
                continue;
            };
            if !self.state.is_completed(&id) {
                self.recover_framework(info.clone());
            }
        }
    }

    /// Takes over what runs there into the tables. What belongs to frameworks that have ended is
    /// left out: it is being shut down.
    fn adopt(&mut self, id: &FollowerId, tasks: Vec<v1::Task>, executors: Vec<v1::ExecutorInfo>) {
        for executor in executors {
            let Some(framework) = executor.framework_id.as_ref().map(FrameworkId::from) else {
                continue;
            };
            if self.state.framework(&framework).is_some() {
                self.state.insert_executor(&framework, id, executor);
            }
        }
        // Those of one framework mostly come one after the other, and are added together.
        let mut tasks = tasks.into_iter().peekable();
        while let Some(first) = tasks.next() {
            let framework = FrameworkId::from(&first.framework_id);
            let mut of_it = vec![first];
            while let Some(next) =
                tasks.next_if(|task| task.framework_id.value == framework.as_str())
            {
                of_it.push(next);
            }
            let Some(known) = self.state.framework(&framework) else {
                continue;
            };
            // The same id on two followers: the first one stays the task.
            of_it.retain(|task| !known.tasks.contains_key(task.task_id.value.as_str()));
            for task in &mut of_it {
                // Decoding leaves room for more, of which hundreds of thousands of tasks add up.
                task.resources.shrink_to_fit();
                task.statuses.shrink_to_fit();
                self.operator_event(|_| Some(crate::operator::task_added(task.clone())));
            }
            self.state.insert_tasks(&framework, id, of_it);
        }
    }

    /// What ended there is history here. `was_here`: some of it may be that already.
    fn adopt_completed(&mut self, archives: Vec<internal::archive::Framework>, was_here: bool) {
        let limit = self.config.max_completed_tasks_per_framework;
        for archive in archives {
            let Some(id) = archive.framework_info.id.as_ref().map(FrameworkId::from) else {
                continue;
            };
            let Some(framework) = self.state.framework_mut(&id) else {
                continue;
            };
            let mut known: FxHashSet<(String, String)> = FxHashSet::default();
            let key = |task: &v1::Task| (task.task_id.value.clone(), task.agent_id.value.clone());
            if was_here && !archive.tasks.is_empty() {
                known.extend(framework.completed_tasks.iter().map(|task| key(task)));
            }
            for task in archive.tasks {
                if known.is_empty() || !known.contains(&key(&task)) {
                    framework.complete_task(Arc::new(task), limit);
                }
            }
        }
    }

    fn shut_down_completed(&mut self, pid: &Pid, frameworks: impl Iterator<Item = FrameworkId>) {
        let ended: BTreeSet<FrameworkId> = frameworks
            .filter(|id| self.state.is_completed(id))
            .collect();
        for id in ended {
            self.send(
                pid.clone(),
                internal::ShutdownFrameworkMessage {
                    framework_id: id.to_proto(),
                },
            );
        }
    }

    /// It may have missed changes of the frameworks that run there.
    fn send_framework_updates(&mut self, id: &FollowerId, frameworks: &[v1::FrameworkInfo]) {
        let Some(pid) = self.state.follower(id).map(|follower| follower.pid.clone()) else {
            return;
        };
        let updates: Vec<_> = frameworks
            .iter()
            .filter_map(|info| self.state.framework(&info.id.as_ref()?.into()))
            .map(framework_update)
            .collect();
        for update in updates {
            self.send(pid.clone(), update);
        }
    }
}

/// Into the one resource format, and with allocation roles where an old follower left them out.
fn normalize(message: &mut internal::ReregisterSlaveMessage) {
    message.slave.resources.iter_mut().for_each(own);
    let role_of: BTreeMap<String, String> = message
        .frameworks
        .iter()
        .filter_map(|info| {
            let roles = roles_of(info);
            let only = roles.first().filter(|_| roles.len() == 1)?;
            Some((info.id.as_ref()?.value.clone(), only.clone()))
        })
        .collect();
    let fill = |framework: Option<&v1::FrameworkId>, resources: &mut Vec<v1::Resource>| {
        let role = framework.and_then(|id| role_of.get(&id.value));
        for resource in resources {
            upgrade(resource);
            if resource.allocation_info.is_none() {
                resource.allocation_info = role.map(|role| v1::resource::AllocationInfo {
                    role: Some(role.clone()),
                });
            }
        }
    };
    for task in &mut message.tasks {
        fill(Some(&task.framework_id), &mut task.resources);
    }
    for executor in &mut message.executor_infos {
        let v1::ExecutorInfo {
            framework_id,
            resources,
            ..
        } = executor;
        fill(framework_id.as_ref(), resources);
    }
}
