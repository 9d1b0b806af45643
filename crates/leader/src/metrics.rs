//! Counters of the core, under the reference's names (`docs/monitoring.md`).

use crate::view::{FrameworkView, View};
use tepui_model::tasks::{TaskState, is_terminal};
use tepui_protocol::v1::{OperationState, offer::operation, scheduler};

/// Counters that the core keeps; gauges are computed from the view when somebody asks.
#[derive(Debug, Clone, PartialEq)]
pub struct Metrics {
    /// By name, such as `master/messages_register_slave`. All counters are there from the start,
    /// as monitoring systems expect.
    pub counters: std::collections::BTreeMap<&'static str, u64>,
    /// By principal, as long as a framework has it.
    pub principals: rpds::RedBlackTreeMapSync<String, PrincipalMetrics>,
    /// Operations by what became of them.
    pub operations: OperationMetrics,
}

/// Operations by kind and state. Of those under way it says how many there are, of those that ended
/// how many there were.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OperationMetrics {
    /// By number of the operation's type, then by number of the state.
    counts: [[u64; 10]; 15],
}

/// Kinds that have counters of their own.
const OPERATION_KINDS: [operation::Type; 8] = [
    operation::Type::Reserve,
    operation::Type::Unreserve,
    operation::Type::Create,
    operation::Type::Destroy,
    operation::Type::GrowVolume,
    operation::Type::ShrinkVolume,
    operation::Type::CreateDisk,
    operation::Type::DestroyDisk,
];

/// States that are counted.
const OPERATION_STATES: [OperationState; 8] = [
    OperationState::OperationPending,
    OperationState::OperationRecovering,
    OperationState::OperationUnreachable,
    OperationState::OperationFinished,
    OperationState::OperationFailed,
    OperationState::OperationError,
    OperationState::OperationDropped,
    OperationState::OperationGoneByOperator,
];

impl OperationMetrics {
    /// How many of a kind are, or were, in a state.
    pub fn count(&self, kind: operation::Type, state: OperationState) -> u64 {
        let kind = usize::try_from(kind as i32).ok();
        let counts = kind.and_then(|kind| self.counts.get(kind));
        let state = usize::try_from(state as i32).ok();
        counts
            .zip(state)
            .and_then(|(counts, state)| counts.get(state))
            .copied()
            .unwrap_or(0)
    }

    /// Names, behind `master/operations/`, and values.
    pub fn entries(&self) -> Vec<(String, u64)> {
        let mut all = Vec::new();
        let mut totals = [0; OPERATION_STATES.len()];
        let name = |state: OperationState| {
            let name = state.as_str_name().trim_start_matches("OPERATION_");
            name.to_ascii_lowercase()
        };
        for kind in OPERATION_KINDS {
            let prefix = kind.as_str_name().to_ascii_lowercase();
            let mut total = 0;
            for (state, sum) in OPERATION_STATES.into_iter().zip(&mut totals) {
                let count = self.count(kind, state);
                total += count;
                *sum += count;
                all.push((format!("{prefix}/{}", name(state)), count));
            }
            all.push((format!("{prefix}/total"), total));
        }
        all.push(("total".to_owned(), totals.iter().sum()));
        all.extend(
            OPERATION_STATES
                .into_iter()
                .zip(totals)
                .map(|(s, sum)| (name(s), sum)),
        );
        all
    }
}

/// Messages of the drivers that share a principal.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PrincipalMetrics {
    /// Frameworks with this principal.
    frameworks: usize,
    /// Messages that arrived.
    pub received: u64,
    /// Messages that were handled: less, while some wait for a permit.
    pub processed: u64,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            counters: COUNTERS.iter().map(|name| (*name, 0)).collect(),
            principals: Default::default(),
            operations: Default::default(),
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

    /// So many operations more, or less, are in a state.
    pub(crate) fn count_operation(
        &mut self,
        kind: operation::Type,
        state: OperationState,
        change: i64,
    ) {
        let indexes = usize::try_from(kind as i32)
            .ok()
            .zip(usize::try_from(state as i32).ok());
        let count =
            indexes.and_then(|(kind, state)| self.operations.counts.get_mut(kind)?.get_mut(state));
        if let Some(count) = count {
            *count = count.saturating_add_signed(change);
        }
    }

    /// One more framework has this principal.
    pub(crate) fn enter(&mut self, principal: &str) {
        let mut metrics = self.principals.get(principal).copied().unwrap_or_default();
        metrics.frameworks += 1;
        self.principals.insert_mut(principal.to_owned(), metrics);
    }

    /// One less.
    pub(crate) fn leave(&mut self, principal: &str) {
        let Some(metrics) = self.principals.get_mut(principal) else {
            return;
        };
        metrics.frameworks = metrics.frameworks.saturating_sub(1);
        if metrics.frameworks == 0 {
            self.principals.remove_mut(principal);
        }
    }

    pub(crate) fn received(&mut self, principal: &str) {
        if let Some(metrics) = self.principals.get_mut(principal) {
            metrics.received += 1;
        }
    }

    pub(crate) fn processed(&mut self, principal: &str) {
        if let Some(metrics) = self.principals.get_mut(principal) {
            metrics.processed += 1;
        }
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
    "master/recovery_slave_removals",
    "master/recovery_slave_removals_refused",
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
    "tepui/explanations",
    "tepui/offers/alarms",
    "tepui/simulations",
];

/// What one framework asked for and was told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FrameworkMetrics {
    /// By number of the call's type.
    calls: [u64; 18],
    /// By number of the event's type.
    events: [u64; 12],
    /// By number of the operation's type.
    operations: [u64; 15],
    /// By number of the state.
    ended: [u64; 14],
    /// Offers made to it.
    pub offers_sent: u64,
    /// Offers it launched something on, or gave back by `ACCEPT`.
    pub offers_accepted: u64,
    /// Offers it declined.
    pub offers_declined: u64,
    /// Offers taken back from it.
    pub offers_rescinded: u64,
}

/// Counts at an index that comes from a known enum; anything else is not counted.
fn add(counters: &mut [u64], number: i32) {
    if let Some(counter) = usize::try_from(number)
        .ok()
        .and_then(|index| counters.get_mut(index))
    {
        *counter += 1;
    }
}

impl FrameworkMetrics {
    pub(crate) fn count_call(&mut self, kind: scheduler::call::Type) {
        add(&mut self.calls, kind as i32);
    }
    pub(crate) fn count_event(&mut self, kind: scheduler::event::Type) {
        add(&mut self.events, kind as i32);
    }
    pub(crate) fn count_operation(&mut self, kind: operation::Type) {
        add(&mut self.operations, kind as i32);
    }
    pub(crate) fn count_ended(&mut self, state: TaskState) {
        add(&mut self.ended, state as i32);
    }

    /// Names (behind `master/frameworks/NAME/ID/`) and values.
    pub fn entries(&self) -> impl Iterator<Item = (String, u64)> + '_ {
        let named = |prefix: &'static str, name: &'static str, count: u64| {
            (format!("{prefix}/{}", name.to_ascii_lowercase()), count)
        };
        let total = |name: &str, counters: &[u64]| (name.to_owned(), counters.iter().sum());
        let call = |number: usize| scheduler::call::Type::try_from(number as i32).ok();
        let event = |number: usize| scheduler::event::Type::try_from(number as i32).ok();
        let kind = |number: usize| operation::Type::try_from(number as i32).ok();
        let state = |number: usize| {
            TaskState::try_from(number as i32)
                .ok()
                .filter(|state| is_terminal(*state))
        };
        // Number 0 is UNKNOWN in each of the first three: it has no counter of its own.
        let calls = (1..self.calls.len())
            .filter_map(move |i| Some(named("calls", call(i)?.as_str_name(), self.calls[i])));
        let events = (1..self.events.len())
            .filter_map(move |i| Some(named("events", event(i)?.as_str_name(), self.events[i])));
        let operations = (1..self.operations.len()).filter_map(move |i| {
            Some(named(
                "operations",
                kind(i)?.as_str_name(),
                self.operations[i],
            ))
        });
        let ended = (0..self.ended.len()).filter_map(move |i| {
            Some(named(
                "tasks/terminal",
                state(i)?.as_str_name(),
                self.ended[i],
            ))
        });
        let single = [
            total("calls", &self.calls),
            total("events", &self.events),
            total("operations", &self.operations),
            ("offers/sent".to_owned(), self.offers_sent),
            ("offers/accepted".to_owned(), self.offers_accepted),
            ("offers/declined".to_owned(), self.offers_declined),
            ("offers/rescinded".to_owned(), self.offers_rescinded),
        ];
        single
            .into_iter()
            .chain(calls)
            .chain(events)
            .chain(operations)
            .chain(ended)
    }
}

/// How many tasks of a framework are in which state: of those that are there, and of those on unreachable
/// followers. Counted in one walk, for there may be hundreds of thousands.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TasksByState([usize; STATES]);

/// One more than the highest number of a state.
const STATES: usize = 16;

impl TasksByState {
    /// Of every framework, in order.
    pub(crate) fn of_frameworks(view: &View) -> Vec<Self> {
        view.frameworks.values().map(|one| Self::of(one)).collect()
    }

    fn of(framework: &FrameworkView) -> Self {
        let mut counts = [0; STATES];
        let missed = framework.unreachable_tasks.values();
        for task in framework.tasks.values().chain(missed) {
            if let Some(count) = counts.get_mut(task.state() as usize) {
                *count += 1;
            }
        }
        Self(counts)
    }

    pub(crate) fn in_state(&self, state: TaskState) -> usize {
        self.0.get(state as usize).copied().unwrap_or_default()
    }
}

/// Metrics of every framework by their full names, gauges included.
pub(crate) fn of_frameworks(
    view: &View,
    tasks: &[TasksByState],
) -> impl Iterator<Item = (String, f64)> {
    let all = view.frameworks.values().zip(tasks);
    all.flat_map(|(framework, tasks)| {
        let prefix = format!(
            "master/frameworks/{}/{}",
            encode(&framework.info.name),
            framework.id
        );
        let counters = framework
            .metrics
            .entries()
            .map(|(name, count)| (name, count as f64))
            .collect::<Vec<_>>();
        counters
            .into_iter()
            .chain(gauges(framework, tasks))
            .map(move |(name, value)| (format!("{prefix}/{name}"), value))
    })
}

fn gauges(framework: &FrameworkView, tasks: &TasksByState) -> Vec<(String, f64)> {
    use TaskState::*;
    let mut all = vec![(
        "subscribed".to_owned(),
        f64::from(u8::from(framework.connected)),
    )];
    for state in [
        TaskStaging,
        TaskStarting,
        TaskRunning,
        TaskKilling,
        TaskUnreachable,
        TaskUnknown,
    ] {
        all.push((
            format!("tasks/active/{}", state.as_str_name().to_ascii_lowercase()),
            tasks.in_state(state) as f64,
        ));
    }
    for role in crate::state::roles_of(&framework.info) {
        let suppressed = framework.suppressed_roles.contains(&role);
        all.push((
            format!("roles/{role}/suppressed"),
            f64::from(u8::from(suppressed)),
        ));
    }
    all
}

/// As the reference writes names into paths (`process::http::encode`).
pub(crate) fn encode(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte <= b' ' || byte > b'~' || br##"$&+,/:;=?@"<>#%{}|\^~[]`"##.contains(&byte) {
            text.push_str(&format!("%{byte:02X}"));
        } else {
            text.push(char::from(byte));
        }
    }
    text
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_written_as_the_reference_writes_them() {
        let name = "Event Call Scheduler using libprocess (C++)";
        assert_eq!(
            encode(name),
            "Event%20Call%20Scheduler%20using%20libprocess%20(C%2B%2B)"
        );
        assert_eq!(encode("a\\b~é"), "a%5Cb%7E%C3%A9");
    }

    #[test]
    fn every_kind_is_counted_under_its_name() {
        let mut metrics = FrameworkMetrics::default();
        metrics.count_call(scheduler::call::Type::UpdateFramework);
        metrics.count_event(scheduler::event::Type::UpdateOperationStatus);
        metrics.count_operation(operation::Type::LaunchGroup);
        metrics.count_ended(TaskState::TaskGoneByOperator);
        let counted: Vec<String> = metrics
            .entries()
            .filter(|(_, count)| *count == 1)
            .map(|(name, _)| name)
            .collect();
        assert_eq!(
            counted,
            [
                "calls",
                "events",
                "operations",
                "calls/update_framework",
                "events/update_operation_status",
                "operations/launch_group",
                "tasks/terminal/task_gone_by_operator"
            ]
        );
        assert_eq!(metrics.entries().count(), 7 + 17 + 11 + 10 + 8);
    }
}
