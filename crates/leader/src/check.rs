//! The invariants of the tables, said twice: what is kept is compared with what is counted.

use crate::{
    Leader, operations,
    removal::Fault,
    state::{State, holds_resources},
    timers::Timer,
};
use std::{collections::BTreeMap, sync::Arc};
use tepui_model::{
    ExecutorId, FollowerId, FrameworkId, TaskId,
    resources::{Resource, Resources},
};

impl Leader {
    /// Panics if an invariant is broken. Simulations and tests call it after every step; it looks
    /// at everything and is not for production.
    pub fn check(&self) {
        check_frameworks(&self.state);
        check_followers(&self.state);
        check_offers(&self.state);
        check_operations(&self.state);
        self.check_totals();
        self.check_timers();
        self.check_roster();
        self.removals.check();
        self.authentication.check();
        self.check_limits();
        self.check_draining();
        self.check_plan();
        self.check_inverse_offers();
        self.check_quotas();
        self.check_weights();
        self.allocator.check();
    }

    /// Panics unless the allocator counts as held exactly what offers, tasks and executors hold: the
    /// rest is offered, once. It holds while no operation on resources is on its way.
    pub fn check_allocation(&self) {
        type Held = BTreeMap<(FollowerId, FrameworkId, Arc<str>), Resources>;
        let mut expected = Held::new();
        let mut add = |at: &FollowerId, framework: &FrameworkId, resources: &Resources| {
            for (role, resources) in resources.allocations() {
                let key = (at.clone(), framework.clone(), role);
                *expected.entry(key).or_default() += &resources.unallocated();
            }
        };
        for follower in self.state.followers() {
            for (framework, used) in &follower.used {
                add(&follower.id, framework, used);
            }
        }
        for (_, offer) in self.state.offers() {
            add(&offer.follower, &offer.framework, &offer.resources);
        }
        for follower in self.state.followers() {
            for framework in self.state.frameworks() {
                for role in &framework.roles {
                    let role: Arc<str> = Arc::from(role.as_str());
                    let held = self.allocator.held(&framework.id, &follower.id, &role);
                    let key = (follower.id.clone(), framework.id.clone(), role);
                    let expected = expected.remove(&key).unwrap_or_default();
                    assert_eq!(
                        held.map(Resources::scalars).unwrap_or_default(),
                        expected.scalars(),
                        "what {} holds on {} is what it is offered and uses",
                        framework.id,
                        follower.id
                    );
                }
            }
        }
    }

    /// The allocator gives out what there is, and operations neither make nor lose any of it.
    fn check_totals(&self) {
        for follower in self.state.followers() {
            let at = &follower.id;
            assert_eq!(
                self.allocator.total(at),
                Some(&follower.total),
                "the allocator knows what {at} has"
            );
            let is_own = |r: &Resource| !r.is_revocable() && r.provider_id().is_none();
            let own = follower.total.filter(is_own);
            let said = Resources::from_proto(&follower.info.resources);
            assert_eq!(
                own.quantities(),
                said.filter(is_own).quantities(),
                "{at} has what it registered with, in whatever form"
            );
        }
    }

    fn check_timers(&self) {
        let (ordered, due) = self.timers.counts();
        assert_eq!(ordered, due, "timers: both indexes agree");
        for follower in self.state.followers() {
            assert!(
                self.timers.is_set(&Timer::Ping(follower.id.clone())),
                "{} is pinged",
                follower.id
            );
            let awaited = self.timers.is_set(&Timer::Reregister(follower.id.clone()))
                || self.removals.is_waiting(&follower.id, Fault::Away);
            assert_eq!(
                awaited, !follower.connected,
                "{} is awaited exactly while it is away",
                follower.id
            );
            assert!(
                !self.removals.is_waiting(&follower.id, Fault::Missing),
                "{} is registered, hence not missing",
                follower.id
            );
            assert!(
                !(follower.active && self.state.roster.is_deactivated(&follower.id)),
                "{} is not offered while an operator forbids it",
                follower.id
            );
        }
        for framework in self.state.frameworks() {
            let heartbeat = self.timers.is_set(&Timer::Heartbeat(framework.id.clone()));
            assert_eq!(
                heartbeat,
                framework.stream().is_some(),
                "{} has heartbeats while it has a stream",
                framework.id
            );
            assert_eq!(
                self.timers.is_set(&Timer::Failover(framework.id.clone())),
                !framework.is_connected(),
                "{} is awaited exactly while it is away",
                framework.id
            );
        }
    }
}

impl Leader {
    fn check_roster(&self) {
        let roster = &self.state.roster;
        roster.unreachable.check();
        roster.gone.check();
        let waits = self.timers.is_set(&Timer::Recovered);
        for id in roster.recovered.keys() {
            assert!(
                waits || self.removals.is_waiting(id, Fault::Missing),
                "{id} is awaited, for a time"
            );
            assert!(
                !roster.unreachable.contains(id) && !roster.gone.contains(id),
                "{id} is awaited, hence neither unreachable nor gone"
            );
        }
        for (_, id) in roster.unreachable.iter() {
            assert!(
                !roster.gone.contains(id),
                "{id} is not both unreachable and gone"
            );
        }
        for (id, _) in roster.marked() {
            let known = self.state.follower(id).is_some()
                || roster.recovered.contains_key(id)
                || roster.unreachable.contains(id);
            assert!(known, "{id} is marked, hence known");
        }
        assert_eq!(
            self.removals.len() > 0,
            self.timers.is_set(&Timer::Removal),
            "there are permits while somebody waits for one"
        );
        let kept = roster.unreachable.len() + roster.gone.len();
        assert!(
            kept == 0 || self.timers.is_set(&Timer::RegistryGc),
            "what is old is forgotten"
        );
    }
}

fn check_frameworks(state: &State) {
    for framework in state.frameworks() {
        let id = &framework.id;
        assert!(
            !state.is_completed(id),
            "{id} is not both here and completed"
        );
        assert!(
            framework.is_connected() || !framework.active,
            "{id} is active only while connected"
        );
        assert!(
            framework.active || framework.offers.is_empty(),
            "{id} holds offers only while active"
        );
        if let Some(stream) = framework.stream() {
            assert_eq!(
                state.streams.get(&stream),
                Some(id),
                "the stream of {id} leads to it"
            );
        }
        if let Some(pid) = framework.pid() {
            assert_eq!(
                state.driver_at(pid).map(|f| &f.id),
                Some(id),
                "the address of the driver of {id} leads to it"
            );
        }
        let mut used = Resources::new();
        for (task_id, task) in framework.tasks.iter() {
            let at = FollowerId::from(&task.agent_id);
            let follower = state
                .follower(&at)
                .unwrap_or_else(|| panic!("task {task_id} runs on {at}, which is gone"));
            assert!(
                follower
                    .tasks
                    .get(id)
                    .is_some_and(|tasks| tasks.contains(task_id)),
                "task {task_id} is in the index of {at}"
            );
            if holds_resources(task) {
                used += Resources::from_proto(&task.resources);
            }
            assert!(
                !framework.unreachable_tasks.contains_key(task_id),
                "task {task_id} is in one table only"
            );
        }
        for ((at, executor_id), executor) in framework.executors.iter() {
            let follower = state
                .follower(at)
                .unwrap_or_else(|| panic!("executor {executor_id} on {at}, which is gone"));
            assert!(
                follower.has_executor(id, executor_id.as_str()),
                "executor {executor_id} is in the index of {at}"
            );
            used += Resources::from_proto(&executor.resources);
        }
        for key in &framework.operations {
            let operation = state
                .operation(key)
                .unwrap_or_else(|| panic!("{id} has an operation on {}, which has none", key.0));
            used += operations::kept(operation);
        }
        // Ports of two followers are one range here: only amounts add up across followers.
        assert_eq!(
            framework.used.scalars(),
            used.scalars(),
            "what {id} uses is what its tasks and executors hold"
        );
    }
    for (stream, id) in &state.streams {
        let framework = state
            .framework(id)
            .unwrap_or_else(|| panic!("stream {stream} leads nowhere"));
        assert_eq!(framework.stream(), Some(*stream));
    }
    for (pid, id) in state.drivers() {
        let framework = state
            .framework(id)
            .unwrap_or_else(|| panic!("the address {pid} leads nowhere"));
        assert_eq!(framework.pid(), Some(pid));
    }
}

fn check_followers(state: &State) {
    for follower in state.followers() {
        let at = &follower.id;
        assert!(
            !state.roster.recovered.contains_key(at),
            "{at} is registered, hence no longer awaited"
        );
        assert!(
            !state.roster.unreachable.contains(at),
            "{at} is registered, hence reachable"
        );
        assert!(
            !state.roster.gone.contains(at),
            "{at} is registered, hence not gone"
        );
        assert!(
            !state.roster.removed.contains(at),
            "{at} is registered, hence not removed"
        );
        assert_eq!(
            state.follower_at(&follower.pid).map(|f| &f.id),
            Some(at),
            "the address of {at} leads to it"
        );
        assert!(
            follower.connected || !follower.active,
            "{at} is active only while connected"
        );
        assert!(
            follower.active || follower.offers.is_empty(),
            "{at} is offered only while active"
        );

        let mut used: BTreeMap<FrameworkId, Resources> = BTreeMap::new();
        for (framework, tasks) in &follower.tasks {
            assert!(!tasks.is_empty(), "{at} keeps no empty indexes");
            for task in tasks {
                let task = known_task(state, framework, task);
                if holds_resources(task) {
                    *used.entry(framework.clone()).or_default() +=
                        Resources::from_proto(&task.resources);
                }
            }
        }
        for (framework, executors) in &follower.executors {
            for (id, executor) in executors {
                assert!(
                    has_executor(state, framework, at, id),
                    "executor {id} on {at} is known to {framework}"
                );
                *used.entry(framework.clone()).or_default() +=
                    Resources::from_proto(&executor.resources);
            }
        }
        for operation in follower.operations.values() {
            let framework = operation.framework_id.as_ref().map(FrameworkId::from);
            let framework = framework.filter(|id| state.framework(id).is_some());
            if let Some(framework) = framework {
                *used.entry(framework).or_default() += operations::kept(operation);
            }
        }
        let scalars = |all: &BTreeMap<FrameworkId, Resources>| {
            let mut all: BTreeMap<FrameworkId, Resources> = all
                .iter()
                .map(|(framework, resources)| (framework.clone(), resources.scalars()))
                .collect();
            all.retain(|_, resources| !resources.is_empty());
            all
        };
        // A follower may report two tasks with the same ports: sets do not count them twice.
        assert_eq!(
            scalars(&follower.used),
            scalars(&used),
            "what is used on {at} is what tasks and executors hold"
        );

        if !follower.shrunk {
            used.retain(|_, resources| !resources.is_empty());
            assert_eq!(follower.used, used, "{at} counts ports while they fit");
            let taken =
                (follower.used.values().sum::<Resources>() + &follower.offered).unallocated();
            // Several may have what is shared.
            let taken: Resources = taken.iter().map(Resource::once).collect();
            assert!(
                follower.total.contains(&taken),
                "{at} has {}, of which {taken} is taken",
                follower.total
            );
        }
    }
}

fn check_operations(state: &State) {
    for follower in state.followers() {
        for (uuid, operation) in follower.operations.iter() {
            assert_eq!(
                *uuid, operation.uuid.value,
                "operations lie under their ids"
            );
            let key = (follower.id.clone(), uuid.clone());
            let Some(id) = operation.framework_id.as_ref().map(FrameworkId::from) else {
                continue;
            };
            let owner = state.framework(&id);
            let held = owner.is_some_and(|framework| framework.operations.contains(&key));
            assert_eq!(
                (held, state.is_orphan(&key)),
                (owner.is_some(), owner.is_none()),
                "an operation belongs to its framework, or is an orphan"
            );
        }
    }
    for framework in state.frameworks() {
        for (name, key) in &framework.operation_ids {
            assert!(
                framework.operations.contains(key),
                "{name} names an operation of {}",
                framework.id
            );
            let operation = state.operation(key);
            let id = operation.and_then(|operation| operation.info.id.as_ref());
            assert_eq!(id.map(|id| &id.value), Some(name));
        }
    }
    for (id, orphans) in &state.orphans {
        assert!(state.framework(id).is_none(), "{id} has no orphans");
        assert!(!orphans.is_empty(), "nothing is kept of {id}");
        for key in orphans {
            assert!(state.operation(key).is_some(), "orphans are somewhere");
        }
    }
}

fn known_task<'a>(
    state: &'a State,
    framework: &FrameworkId,
    task: &TaskId,
) -> &'a tepui_protocol::v1::Task {
    state
        .task(framework, task)
        .unwrap_or_else(|| panic!("task {task} of {framework} is in an index only"))
}

fn has_executor(state: &State, framework: &FrameworkId, at: &FollowerId, id: &ExecutorId) -> bool {
    state
        .framework(framework)
        .is_some_and(|f| f.executors.contains_key(&(at.clone(), id.clone())))
}

fn check_offers(state: &State) {
    let mut by_framework: BTreeMap<&FrameworkId, Resources> = BTreeMap::new();
    let mut by_follower: BTreeMap<&FollowerId, Resources> = BTreeMap::new();
    for (id, offer) in state.offers() {
        let framework = state
            .framework(&offer.framework)
            .unwrap_or_else(|| panic!("offer {id} outlived its framework"));
        let follower = state
            .follower(&offer.follower)
            .unwrap_or_else(|| panic!("offer {id} outlived its follower"));
        assert!(
            framework.offers.contains_key(id) && follower.offers.contains_key(id),
            "offer {id} is in every index"
        );
        *by_framework.entry(&offer.framework).or_default() += &offer.resources;
        *by_follower.entry(&offer.follower).or_default() += &offer.resources;
    }
    let held: usize = state.frameworks().map(|f| f.offers.size()).sum();
    let out: usize = state.followers().map(|f| f.offers.size()).sum();
    assert_eq!(
        (held, out),
        (state.offers().count(), state.offers().count()),
        "no index knows an offer that is not out"
    );
    for framework in state.frameworks() {
        let counted = by_framework.remove(&framework.id).unwrap_or_default();
        assert_eq!(
            framework.offered.scalars(),
            counted.scalars(),
            "what {} is offered is what its offers hold",
            framework.id
        );
    }
    for follower in state.followers() {
        let counted = by_follower.remove(&follower.id).unwrap_or_default();
        assert_eq!(
            follower.offered, counted,
            "what {} offers is what its offers hold",
            follower.id
        );
    }
}
