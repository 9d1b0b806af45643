//! Metrics by name: the core's counters and the gauges that a view implies (`docs/monitoring.md`).
//!
//! Gauges cost a walk over the view, paid by the one who asks and never by the core.

use crate::{
    metrics::{TasksByState, encode, of_frameworks},
    view::{FollowerView, View},
};
use std::collections::BTreeMap;
use tepui_model::{Resources, Scalar, documents::allocation_role, tasks::metric_name};
use tepui_protocol::v1::{self, TaskState};

/// Living states that are gauges under `master/tasks_…`.
const LIVING: [TaskState; 5] = [
    TaskState::TaskStaging,
    TaskState::TaskStarting,
    TaskState::TaskRunning,
    TaskState::TaskKilling,
    TaskState::TaskUnreachable,
];

/// Metrics of the leader at `view`; `now_seconds` is the time of the request.
pub fn metrics(view: &View, now_seconds: f64) -> BTreeMap<String, f64> {
    let mut all: BTreeMap<String, f64> = view
        .metrics
        .counters
        .iter()
        .map(|(name, count)| ((*name).to_owned(), *count as f64))
        .collect();
    let mut set = |name: String, value: f64| {
        all.insert(name, value);
    };
    for (principal, counts) in view.metrics.principals.iter() {
        let name = |what: &str| format!("frameworks/{principal}/{what}");
        set(name("messages_received"), counts.received as f64);
        set(name("messages_processed"), counts.processed as f64);
    }
    for (name, count) in view.metrics.operations.entries() {
        set(format!("master/operations/{name}"), count as f64);
    }
    set("master/elected".into(), f64::from(u8::from(view.elected)));
    set(
        "master/uptime_secs".into(),
        (now_seconds - view.leader.started.seconds()).max(0.0),
    );
    let tasks = TasksByState::of_frameworks(view);
    frameworks(view, &tasks, &mut set);
    followers(view, &mut set);
    maintenance(view, &mut set);
    let by_framework = is_per_framework(view);
    held_offers(view, now_seconds, by_framework, &mut set);
    resources(view, &mut set);
    super::quota::metrics(view, &mut all);
    if by_framework {
        all.extend(of_frameworks(view, &tasks));
    }
    all
}

fn frameworks(view: &View, tasks: &[TasksByState], set: &mut impl FnMut(String, f64)) {
    let (mut active, mut connected, mut offers) = (0, 0, 0);
    for framework in view.frameworks.values() {
        active += usize::from(framework.active);
        connected += usize::from(framework.connected);
        offers += framework.offers.size();
    }
    let all = view.frameworks.size();
    set("master/frameworks_active".into(), active as f64);
    set("master/frameworks_inactive".into(), (all - active) as f64);
    set("master/frameworks_connected".into(), connected as f64);
    set(
        "master/frameworks_disconnected".into(),
        (all - connected) as f64,
    );
    set("master/outstanding_offers".into(), offers as f64);
    for state in LIVING {
        let count: usize = tasks.iter().map(|counts| counts.in_state(state)).sum();
        set(
            format!(
                "master/tasks_{}",
                metric_name(state).trim_start_matches("task_")
            ),
            count as f64,
        );
    }
}

fn followers(view: &View, set: &mut impl FnMut(String, f64)) {
    let all = view.followers.size();
    let active = view
        .followers
        .values()
        .filter(|follower| follower.active)
        .count();
    let connected = view
        .followers
        .values()
        .filter(|follower| follower.connected)
        .count();
    set("master/slaves_active".into(), active as f64);
    set("master/slaves_inactive".into(), (all - active) as f64);
    set("master/slaves_connected".into(), connected as f64);
    set(
        "master/slaves_disconnected".into(),
        (all - connected) as f64,
    );
    set(
        "master/slaves_unreachable".into(),
        view.unreachable_followers.size() as f64,
    );
}

fn is_per_framework(view: &View) -> bool {
    let flag = view.leader.flags.get("publish_per_framework_metrics");
    flag.is_none_or(|flag| flag != "false")
}

/// Who holds offers, and for how long. The names are ours.
fn held_offers(
    view: &View,
    now_seconds: f64,
    by_framework: bool,
    set: &mut impl FnMut(String, f64),
) {
    let mut longest: f64 = 0.0;
    for framework in view.frameworks.values() {
        let Some(since) = framework.offers.values().map(|out| out.since).min() else {
            continue;
        };
        let seconds = (now_seconds - since.seconds()).max(0.0);
        longest = longest.max(seconds);
        if by_framework {
            let name = encode(&framework.info.name);
            let prefix = format!("tepui/offers/frameworks/{name}/{}", framework.id);
            set(format!("{prefix}/held"), framework.offers.size() as f64);
            set(format!("{prefix}/held_seconds"), seconds);
        }
    }
    set("tepui/offers/held_seconds_max".into(), longest);
}

/// Followers and machines that are to be left alone. The names are ours: the reference counts none.
fn maintenance(view: &View, set: &mut impl FnMut(String, f64)) {
    use v1::{DrainState, machine_info::Mode};
    let followers = |keep: &dyn Fn(&FollowerView) -> bool| {
        view.followers.values().filter(|f| keep(f)).count() as f64
    };
    let in_state = |state: DrainState| {
        followers(&|follower| follower.drain.is_some_and(|drain| drain.state() == state))
    };
    let in_mode = |mode: Mode| {
        let machines = view.machines.values();
        machines.filter(|machine| machine.mode() == mode).count() as f64
    };
    let asked = view.frameworks.values().map(|f| f.inverse_offers.size());
    set(
        "master/slaves_deactivated".into(),
        followers(&|follower| follower.deactivated),
    );
    set(
        "master/slaves_draining".into(),
        in_state(DrainState::Draining),
    );
    set(
        "master/slaves_drained".into(),
        in_state(DrainState::Drained),
    );
    set("master/machines_draining".into(), in_mode(Mode::Draining));
    set("master/machines_down".into(), in_mode(Mode::Down));
    set(
        "master/outstanding_inverse_offers".into(),
        asked.sum::<usize>() as f64,
    );
}

/// Scalars by name.
type Amounts<'a> = BTreeMap<&'a str, Scalar>;

/// Adds up scalars, those that are revocable apart.
#[derive(Default)]
struct Sums<'a> {
    firm: Amounts<'a>,
    revocable: Amounts<'a>,
}

impl<'a> Sums<'a> {
    fn add(&mut self, resources: impl IntoIterator<Item = &'a v1::Resource>) {
        for resource in resources {
            let Some(scalar) = &resource.scalar else {
                continue;
            };
            let sums = match resource.revocable {
                None => &mut self.firm,
                Some(_) => &mut self.revocable,
            };
            *sums.entry(&resource.name).or_default() += Scalar::from(scalar);
        }
    }
}

fn amount(of: &Amounts<'_>, name: &str) -> Scalar {
    of.get(name).copied().unwrap_or_default()
}

/// One walk over the followers, for all names together.
fn resources(view: &View, set: &mut impl FnMut(String, f64)) {
    let (mut total, mut used, mut offered) = (Sums::default(), Sums::default(), Sums::default());
    for follower in view.followers.values() {
        total.add(follower.total.iter());
        used.add(follower.used.values().flatten());
        offered.add(follower.offered.iter());
    }
    for name in ["cpus", "mem", "disk", "gpus"] {
        for (infix, total, used) in [
            ("", &total.firm, &used.firm),
            ("revocable_", &total.revocable, &used.revocable),
        ] {
            let (total, used) = (amount(total, name).to_f64(), amount(used, name).to_f64());
            set(format!("master/{name}_{infix}total"), total);
            set(format!("master/{name}_{infix}used"), used);
            set(
                format!("master/{name}_{infix}percent"),
                if total == 0.0 { 0.0 } else { used / total },
            );
        }
        if name != "gpus" {
            let held = amount(&offered.firm, name) + amount(&used.firm, name);
            set(
                format!("allocator/mesos/resources/{name}/offered_or_allocated"),
                held.to_f64(),
            );
            set(
                format!("allocator/mesos/resources/{name}/total"),
                amount(&total.firm, name).to_f64(),
            );
        }
    }
    let total = |name: &str| amount(&total.firm, name) + amount(&total.revocable, name);
    let mut by_role: BTreeMap<String, Vec<v1::Resource>> = BTreeMap::new();
    for framework in view.frameworks.values() {
        for resource in framework.used.iter().chain(framework.offered.iter()) {
            let role = allocation_role(std::slice::from_ref(resource)).to_owned();
            by_role.entry(role).or_default().push(resource.clone());
        }
    }
    for (role, held) in by_role {
        let held = Resources::from_proto(&held).quantities();
        let share = held
            .iter()
            .map(|(name, scalar)| (scalar.to_f64(), total(name.as_str()).to_f64()))
            .filter(|(_, total)| *total > 0.0)
            .map(|(held, total)| held / total)
            .fold(0.0, f64::max);
        set(
            format!("allocator/mesos/roles/{role}/shares/dominant"),
            share,
        );
    }
}
