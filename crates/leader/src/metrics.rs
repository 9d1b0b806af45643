//! Counters of the core, under the reference's names (`docs/monitoring.md`).

/// Counters that the core keeps; gauges are computed from the view when somebody asks.
#[derive(Debug, Clone, PartialEq)]
pub struct Metrics {
    /// By name, such as `master/messages_register_slave`. All counters are there from the start,
    /// as monitoring systems expect.
    pub counters: std::collections::BTreeMap<&'static str, u64>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            counters: COUNTERS.iter().map(|name| (*name, 0)).collect(),
        }
    }
}

impl Metrics {
    /// Value of a counter.
    pub fn count(&self, name: &str) -> u64 {
        self.counters.get(name).copied().unwrap_or(0)
    }

    pub(crate) fn increment(&mut self, name: &'static str) {
        *self.counters.entry(name).or_default() += 1;
    }
}

/// Every counter.
pub const COUNTERS: &[&str] = &[
    "allocator/mesos/allocation_runs",
    "master/dropped_messages",
    "master/invalid_executor_to_framework_messages",
    "master/invalid_framework_to_executor_messages",
    "master/invalid_operation_status_update_acknowledgements",
    "master/invalid_operation_status_updates",
    "master/invalid_status_update_acknowledgements",
    "master/invalid_status_updates",
    "master/messages_authenticate",
    "master/messages_deactivate_framework",
    "master/messages_decline_offers",
    "master/messages_executor_to_framework",
    "master/messages_exited_executor",
    "master/messages_framework_to_executor",
    "master/messages_kill_task",
    "master/messages_launch_tasks",
    "master/messages_operation_status_update",
    "master/messages_operation_status_update_acknowledgement",
    "master/messages_reconcile_operations",
    "master/messages_reconcile_tasks",
    "master/messages_register_framework",
    "master/messages_register_slave",
    "master/messages_reregister_framework",
    "master/messages_reregister_slave",
    "master/messages_resource_request",
    "master/messages_revive_offers",
    "master/messages_status_update",
    "master/messages_status_update_acknowledgement",
    "master/messages_suppress_offers",
    "master/messages_unregister_framework",
    "master/messages_unregister_slave",
    "master/messages_update_slave",
    "master/operations/error",
    "master/recovery_slave_removals",
    "master/slave_registrations",
    "master/slave_removals",
    "master/slave_removals/reason_registered",
    "master/slave_removals/reason_unhealthy",
    "master/slave_removals/reason_unregistered",
    "master/slave_reregistrations",
    "master/slave_shutdowns_canceled",
    "master/slave_shutdowns_completed",
    "master/slave_shutdowns_scheduled",
    "master/slave_unreachable_canceled",
    "master/slave_unreachable_completed",
    "master/slave_unreachable_scheduled",
    "master/tasks_dropped",
    "master/tasks_error",
    "master/tasks_failed",
    "master/tasks_finished",
    "master/tasks_gone",
    "master/tasks_gone_by_operator",
    "master/tasks_killed",
    "master/tasks_lost",
    "master/valid_executor_to_framework_messages",
    "master/valid_framework_to_executor_messages",
    "master/valid_operation_status_update_acknowledgements",
    "master/valid_operation_status_updates",
    "master/valid_status_update_acknowledgements",
    "master/valid_status_updates",
];

/// The counter of tasks that ended in a state.
pub(crate) fn ended_counter(state: tepui_protocol::v1::TaskState) -> Option<&'static str> {
    use tepui_protocol::v1::TaskState::*;
    Some(match state {
        TaskFinished => "master/tasks_finished",
        TaskFailed => "master/tasks_failed",
        TaskKilled => "master/tasks_killed",
        TaskLost => "master/tasks_lost",
        TaskError => "master/tasks_error",
        TaskDropped => "master/tasks_dropped",
        TaskGone => "master/tasks_gone",
        TaskGoneByOperator => "master/tasks_gone_by_operator",
        _ => return None,
    })
}
