//! Counters and gauges under the reference's names (`src/slave/metrics.cpp`, `docs/monitoring.md`).
//!
//! Deliberately absent here: what only the shell can measure (`system/*`, the fetcher's cache). It
//! merges those in.

use crate::{
    state::Phase,
    view::{ExecutorState, View},
};
use std::collections::BTreeMap;
use tepui_model::Time;
use tepui_protocol::v1::TaskState;

/// What the core counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// `slave/container_launch_errors`
    pub container_launch_errors: u64,
    /// `slave/executors_preempted`
    pub executors_preempted: u64,
    /// `slave/executors_terminated`
    pub executors_terminated: u64,
    /// `slave/invalid_framework_messages`
    pub invalid_framework_messages: u64,
    /// `slave/valid_framework_messages`
    pub valid_framework_messages: u64,
    /// `slave/messages_ignored`, which the reference does not have: libprocess messages of somebody
    /// who is not the leader, that no process of a follower gets, or that nobody waits for.
    pub messages_ignored: u64,
    /// `slave/invalid_status_updates`
    pub invalid_status_updates: u64,
    /// `slave/valid_status_updates`
    pub valid_status_updates: u64,
    /// `slave/recovery_errors`
    pub recovery_errors: u64,
    /// `slave/tasks_finished`
    pub tasks_finished: u64,
    /// `slave/tasks_failed`
    pub tasks_failed: u64,
    /// `slave/tasks_killed`
    pub tasks_killed: u64,
    /// `slave/tasks_lost`
    pub tasks_lost: u64,
    /// `slave/tasks_gone`
    pub tasks_gone: u64,
    /// `gc/path_removals_succeeded`
    pub path_removals_succeeded: u64,
    /// `gc/path_removals_failed`
    pub path_removals_failed: u64,
}

impl Counters {
    /// Counts the end of a task. States without a counter of their own are not counted, as in the
    /// reference.
    pub(crate) fn task_ended(&mut self, state: TaskState) {
        match state {
            TaskState::TaskFinished => self.tasks_finished += 1,
            TaskState::TaskFailed => self.tasks_failed += 1,
            TaskState::TaskKilled => self.tasks_killed += 1,
            TaskState::TaskLost => self.tasks_lost += 1,
            TaskState::TaskGone => self.tasks_gone += 1,
            _ => {}
        }
    }
}

/// All counters and gauges of the core at `now`.
pub fn snapshot(view: &View, now: Time) -> BTreeMap<String, f64> {
    let mut out = BTreeMap::new();
    let mut set = |name: &str, value: f64| {
        out.insert(name.to_owned(), value);
    };
    let c = &view.counters;
    for (name, value) in [
        ("slave/container_launch_errors", c.container_launch_errors),
        ("slave/executors_terminated", c.executors_terminated),
        ("slave/executors_preempted", c.executors_preempted),
        (
            "slave/invalid_framework_messages",
            c.invalid_framework_messages,
        ),
        ("slave/valid_framework_messages", c.valid_framework_messages),
        ("slave/invalid_status_updates", c.invalid_status_updates),
        ("slave/valid_status_updates", c.valid_status_updates),
        ("slave/messages_ignored", c.messages_ignored),
        ("slave/recovery_errors", c.recovery_errors),
        ("slave/tasks_finished", c.tasks_finished),
        ("slave/tasks_failed", c.tasks_failed),
        ("slave/tasks_killed", c.tasks_killed),
        ("slave/tasks_lost", c.tasks_lost),
        ("slave/tasks_gone", c.tasks_gone),
        ("gc/path_removals_succeeded", c.path_removals_succeeded),
        ("gc/path_removals_failed", c.path_removals_failed),
    ] {
        set(name, value as f64);
    }
    set("gc/path_removals_pending", view.gc_pending as f64);
    set(
        "slave/executor_directory_max_allowed_age_secs",
        view.max_sandbox_age.as_secs_f64(),
    );
    set("slave/uptime_secs", now.since(view.started).as_secs_f64());
    // Where there was something to take back.
    if !view.recovery_time.is_zero() {
        set("slave/recovery_time_secs", view.recovery_time.as_secs_f64());
    }
    set(
        "slave/registered",
        f64::from(u8::from(view.phase == Phase::Running)),
    );
    set("slave/frameworks_active", view.frameworks.size() as f64);
    let life = Life::of(view);
    for (name, value) in [
        ("slave/tasks_staging", life.staging),
        ("slave/tasks_starting", life.starting),
        ("slave/tasks_running", life.running),
        ("slave/tasks_killing", life.killing),
        ("slave/executors_registering", life.registering),
        ("slave/executors_running", life.subscribed),
        ("slave/executors_terminating", life.terminating),
    ] {
        set(name, value as f64);
    }
    for (kind, total, used) in crate::resources::totals(view) {
        set(&format!("slave/{kind}_total"), total);
        set(&format!("slave/{kind}_used"), used);
        set(
            &format!("slave/{kind}_percent"),
            if total > 0.0 { used / total } else { 0.0 },
        );
    }
    out
}

/// How many tasks and executors are in which state.
#[derive(Default)]
struct Life {
    staging: usize,
    starting: usize,
    running: usize,
    killing: usize,
    registering: usize,
    subscribed: usize,
    terminating: usize,
}

impl Life {
    fn of(view: &View) -> Self {
        let mut life = Self::default();
        for framework in view.frameworks.values() {
            life.staging += framework.pending.len();
            for executor in framework.executors.values() {
                match executor.state {
                    ExecutorState::Registering => life.registering += 1,
                    ExecutorState::Running => life.subscribed += 1,
                    ExecutorState::Terminating => life.terminating += 1,
                    ExecutorState::Terminated => {}
                }
                life.staging += executor.queued.len();
                for task in executor.launched.values() {
                    match task.state() {
                        TaskState::TaskStaging => life.staging += 1,
                        TaskState::TaskStarting => life.starting += 1,
                        TaskState::TaskRunning => life.running += 1,
                        TaskState::TaskKilling => life.killing += 1,
                        _ => {}
                    }
                }
            }
        }
        life
    }
}
