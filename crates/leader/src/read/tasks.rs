//! `/tasks`: tasks of all frameworks by the time of their first status, newest first unless asked
//! otherwise, in pages (`limit`, `offset`, `order=asc|des`, `framework_id`, `task_id`).

use super::Query;
use crate::view::View;
use serde::{Serialize, Serializer, ser::SerializeMap};
use tepui_model::documents::{List, Task};
use tepui_protocol::v1;

/// Tasks in an answer when `limit` does not say (`TASK_LIMIT`, `src/master/constants.hpp`).
const LIMIT: usize = 100;

/// `/tasks`.
pub(super) struct Tasks<'a>(Vec<&'a v1::Task>);

fn started(task: &v1::Task) -> f64 {
    task.statuses
        .first()
        .map_or(0.0, |status| status.timestamp())
}

impl<'a> Tasks<'a> {
    pub(super) fn of(view: &'a View, query: &Query) -> Self {
        let number = |name: &str| query.get(name).and_then(|text| text.parse::<usize>().ok());
        let (limit, offset) = (
            number("limit").unwrap_or(LIMIT),
            number("offset").unwrap_or(0),
        );
        let is = |name: &str, value: &str| query.get(name).is_none_or(|wanted| wanted == value);
        let frameworks = view
            .frameworks
            .values()
            .chain(view.completed_frameworks.iter());
        let mut tasks: Vec<&v1::Task> = frameworks
            .filter(|framework| is("framework_id", framework.id.as_str()))
            .flat_map(|framework| {
                let all = framework
                    .tasks
                    .values()
                    .chain(framework.unreachable_tasks.values());
                all.chain(framework.completed_tasks.iter())
            })
            .map(|task| &**task)
            .filter(|task| is("task_id", &task.task_id.value))
            .collect();
        tasks.sort_by(|a, b| started(b).total_cmp(&started(a)));
        if query.get("order").is_some_and(|order| order == "asc") {
            tasks.reverse();
        }
        Self(tasks.into_iter().skip(offset).take(limit).collect())
    }
}

impl Serialize for Tasks<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry("tasks", &List(|| self.0.iter().map(|task| Task(task))))?;
        map.end()
    }
}
