//! `/state-summary`: followers and frameworks with their tasks counted by state.

use super::documents::{follower_entries, framework_entries};
use crate::view::{FrameworkView, View};
use serde::{Serialize, Serializer, ser::SerializeMap};
use std::collections::{BTreeMap, BTreeSet};
use tepui_model::documents::{List, Strings};
use tepui_protocol::v1::{self, TaskState};

/// The states that are counted, in the order they are written.
const COUNTED: [TaskState; 10] = [
    TaskState::TaskStaging,
    TaskState::TaskStarting,
    TaskState::TaskRunning,
    TaskState::TaskKilling,
    TaskState::TaskFinished,
    TaskState::TaskKilled,
    TaskState::TaskFailed,
    TaskState::TaskLost,
    TaskState::TaskError,
    TaskState::TaskUnreachable,
];

#[derive(Default)]
struct Counts<'a> {
    by_state: BTreeMap<i32, usize>,
    others: BTreeSet<&'a str>,
}

impl<'a> Counts<'a> {
    fn add(&mut self, task: &v1::Task, other: &'a str) {
        *self.by_state.entry(task.state).or_default() += 1;
        self.others.insert(other);
    }

    fn entries<M: SerializeMap>(&self, map: &mut M, others: &str) -> Result<(), M::Error> {
        for state in COUNTED {
            let count = self.by_state.get(&(state as i32)).copied().unwrap_or(0);
            map.serialize_entry(state.as_str_name(), &count)?;
        }
        map.serialize_entry(others, &Strings(self.others.iter().copied()))
    }
}

/// `/state-summary`.
pub(super) struct Summary<'a> {
    view: &'a View,
    by_follower: BTreeMap<&'a str, Counts<'a>>,
    by_framework: BTreeMap<&'a str, Counts<'a>>,
}

/// Tasks of a framework that are remembered.
fn tasks(framework: &FrameworkView) -> impl Iterator<Item = &v1::Task> {
    let all = framework
        .tasks
        .values()
        .chain(framework.unreachable_tasks.values());
    all.chain(framework.completed_tasks.iter())
        .map(|task| &**task)
}

impl<'a> Summary<'a> {
    /// Counts once for all.
    pub(super) fn of(view: &'a View) -> Self {
        let (mut by_follower, mut by_framework) = (
            BTreeMap::<_, Counts<'_>>::new(),
            BTreeMap::<_, Counts<'_>>::new(),
        );
        for framework in view.frameworks.values() {
            for task in tasks(framework) {
                let (follower, id) = (task.agent_id.value.as_str(), framework.id.as_str());
                by_follower.entry(follower).or_default().add(task, id);
                by_framework.entry(id).or_default().add(task, follower);
            }
        }
        Self {
            view,
            by_follower,
            by_framework,
        }
    }
}

struct Entry<'a, F> {
    write: F,
    counts: Option<&'a Counts<'a>>,
    others: &'static str,
}

/// Lets a closure write the entries that come before the counts.
trait Entries {
    fn write<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error>;
}

impl Entries for &crate::view::FollowerView {
    fn write<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        follower_entries(self, map)
    }
}

impl Entries for &FrameworkView {
    fn write<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        framework_entries(self, map)
    }
}

impl<F: Entries> Serialize for Entry<'_, F> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        self.write.write(&mut map)?;
        self.counts
            .unwrap_or(&Counts::default())
            .entries(&mut map, self.others)?;
        map.end()
    }
}

impl Serialize for Summary<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let followers = || {
            self.view.followers.values().map(|follower| Entry {
                write: &**follower,
                counts: self.by_follower.get(follower.id.as_str()),
                others: "framework_ids",
            })
        };
        let frameworks = || {
            self.view.frameworks.values().map(|framework| Entry {
                write: &**framework,
                counts: self.by_framework.get(framework.id.as_str()),
                others: "slave_ids",
            })
        };
        let leader = &self.view.leader;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("hostname", leader.info.hostname())?;
        if let Some(cluster) = &leader.cluster {
            map.serialize_entry("cluster", cluster)?;
        }
        map.serialize_entry("slaves", &List(followers))?;
        map.serialize_entry("frameworks", &List(frameworks))?;
        map.end()
    }
}
