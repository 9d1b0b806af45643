//! Task states: which are the end, which still hold resources, what they are called.
//! Follows `src/common/protobuf_utils.cpp` and `docs/task-state-reasons.md`.

pub use tepui_protocol::v1::TaskState;

/// Whether a task in this state has run its course and holds nothing any more.
pub fn is_terminal(state: TaskState) -> bool {
    use TaskState::*;
    matches!(
        state,
        TaskFinished
            | TaskFailed
            | TaskKilled
            | TaskError
            | TaskLost
            | TaskDropped
            | TaskGone
            | TaskGoneByOperator
    )
}

/// Whether nobody can say at present what the task does.
pub fn is_unreachable(state: TaskState) -> bool {
    matches!(state, TaskState::TaskUnreachable | TaskState::TaskUnknown)
}

/// `TASK_RUNNING`: the name on the wire and in documents.
pub fn name(state: TaskState) -> &'static str {
    state.as_str_name()
}

/// `running`: the part of the name that counters and gauges carry.
pub fn metric_name(state: TaskState) -> String {
    name(state).trim_start_matches("TASK_").to_ascii_lowercase()
}

/// What a framework without the PARTITION_AWARE capability hears instead: it only knows TASK_LOST.
pub fn for_unaware_framework(state: TaskState) -> TaskState {
    use TaskState::*;
    match state {
        TaskDropped | TaskUnreachable | TaskGone | TaskGoneByOperator | TaskUnknown => TaskLost,
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_told_from_the_way() {
        use TaskState::*;
        for state in [
            TaskStaging,
            TaskStarting,
            TaskRunning,
            TaskKilling,
            TaskUnreachable,
            TaskUnknown,
        ] {
            assert!(!is_terminal(state), "{}", name(state));
        }
        for state in [
            TaskFinished,
            TaskFailed,
            TaskKilled,
            TaskError,
            TaskLost,
            TaskDropped,
            TaskGone,
        ] {
            assert!(is_terminal(state), "{}", name(state));
        }
    }

    #[test]
    fn frameworks_unaware_of_partitions_hear_of_lost_tasks_only() {
        assert_eq!(
            for_unaware_framework(TaskState::TaskUnreachable),
            TaskState::TaskLost
        );
        assert_eq!(
            for_unaware_framework(TaskState::TaskRunning),
            TaskState::TaskRunning
        );
        assert_eq!(
            metric_name(TaskState::TaskGoneByOperator),
            "gone_by_operator"
        );
    }
}
