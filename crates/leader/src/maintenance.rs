//! Planned maintenance: windows in which machines will be unavailable, machines taken down and
//! brought back.
//!
//! Follows `src/master/maintenance.cpp`, the maintenance handlers of `src/master/http.cpp`,
//! `Master::updateUnavailability` and `docs/maintenance.md`. A machine is the host name (without
//! case) and the address together; a follower is on a machine if both are its own.
//!
//! Only machines of the schedule are kept: they drain until somebody takes them down, and leave the
//! table with their window or by being brought up.

use crate::{Leader, Level, RegistryChange, Reply, state::Follower};
use rpds::RedBlackTreeMapSync;
use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    sync::Arc,
};
use tepui_model::{FollowerId, OfferId};
use tepui_protocol::{
    internal,
    peer::Pid,
    v1::{
        self, MachineId, MachineInfo, Unavailability, allocator::InverseOfferStatus,
        machine_info::Mode, maintenance::Schedule,
    },
};

/// What makes two names of a machine the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Machine {
    hostname: String,
    ip: String,
}

impl From<&MachineId> for Machine {
    fn from(id: &MachineId) -> Self {
        Self {
            hostname: id.hostname().to_lowercase(),
            ip: id.ip().to_owned(),
        }
    }
}

impl Machine {
    /// The machine a follower says it is on, as far as it can be seen from outside.
    pub(crate) fn of(hostname: &str, pid: &Pid) -> Self {
        Self {
            hostname: hostname.to_lowercase(),
            ip: pid.address.ip().to_string(),
        }
    }
    pub(crate) fn of_follower(follower: &Follower) -> Self {
        Self::of(&follower.info.hostname, &follower.pid)
    }
}

/// All that is planned.
#[derive(Debug, Default, Clone)]
pub(crate) struct Plan {
    pub(crate) schedule: Arc<Schedule>,
    /// The machines of the schedule; each is draining or down.
    pub(crate) machines: RedBlackTreeMapSync<Machine, Arc<MachineInfo>>,
}

impl Plan {
    fn mode(&self, machine: &Machine) -> Option<Mode> {
        self.machines.get(machine).map(|info| info.mode())
    }
    /// When a machine will be unavailable.
    pub(crate) fn unavailability(&self, machine: &Machine) -> Option<Unavailability> {
        self.machines.get(machine)?.unavailability
    }
}

impl Leader {
    /// What the registry knows of it.
    pub(crate) fn recover_plan(&mut self, registry: &internal::Registry) {
        // There is one schedule; the reference's format has room for more.
        if let Some(schedule) = registry.schedules.first() {
            self.plan.schedule = Arc::new(schedule.clone());
        }
        for machine in registry.machines.iter().flat_map(|all| &all.machines) {
            let info = Arc::new(machine.info.clone());
            let key = Machine::from(&info.id);
            self.plan.machines.insert_mut(key, info);
        }
    }

    /// `UPDATE_MAINTENANCE_SCHEDULE` and `POST /maintenance/schedule`: the schedule as a whole.
    pub(crate) fn operator_schedule(&mut self, schedule: Schedule) -> Reply {
        if let Err(error) = validate_schedule(&schedule, &self.plan) {
            return bad(error);
        }
        let mut planned: BTreeMap<Machine, MachineInfo> = BTreeMap::new();
        for window in &schedule.windows {
            for id in &window.machine_ids {
                let key = Machine::from(id);
                // A machine that is down already stays so; every other one drains.
                let mode = self.plan.mode(&key).unwrap_or(Mode::Draining);
                let info = MachineInfo {
                    id: id.clone(),
                    mode: Some(mode.into()),
                    unavailability: Some(window.unavailability),
                };
                planned.insert(key, info);
            }
        }
        let old = std::mem::take(&mut self.plan.machines);
        for (key, info) in old.iter() {
            if !planned.contains_key(key) {
                self.persist(RegistryChange::RemoveMachine(info.id.clone()));
            }
        }
        let mut machines = RedBlackTreeMapSync::default();
        for (key, info) in planned {
            if old.get(&key).is_none_or(|known| **known != info) {
                self.persist(RegistryChange::Machine(Box::new(info.clone())));
            }
            machines.insert_mut(key, Arc::new(info));
        }
        self.persist(RegistryChange::Schedule(Box::new(schedule.clone())));
        self.notice(
            Level::Info,
            format!(
                "The maintenance schedule names {} machines now",
                machines.size()
            ),
        );
        self.plan = Plan {
            schedule: Arc::new(schedule),
            machines,
        };
        self.announce_unavailability(&old);
        Reply::Ok
    }

    /// Followers whose machine is to be unavailable at another time than it was, or not at all.
    fn announce_unavailability(&mut self, old: &RedBlackTreeMapSync<Machine, Arc<MachineInfo>>) {
        let changed: Vec<FollowerId> = self
            .state
            .followers()
            .filter(|follower| {
                let machine = Machine::of_follower(follower);
                let was = old.get(&machine).and_then(|info| info.unavailability);
                was != self.plan.unavailability(&machine)
            })
            .map(|follower| follower.id.clone())
            .collect();
        for id in changed {
            self.change_unavailability(&id);
        }
    }

    /// Offers and inverse offers that say otherwise are taken back, and made anew.
    fn change_unavailability(&mut self, id: &FollowerId) {
        let Some(follower) = self.state.follower_mut(id) else {
            return;
        };
        let offers: Vec<OfferId> = follower.offers.keys().cloned().collect();
        follower.inverse_statuses = Default::default();
        for offer in offers {
            self.rescind_offer(&offer);
        }
        self.rescind_inverse_offers_on(id);
        self.note_unavailability(id);
    }

    /// Tells the allocator whether a follower is on a machine of the schedule.
    pub(crate) fn note_unavailability(&mut self, id: &FollowerId) {
        let planned = self.unavailability_of(id).is_some();
        self.allocator.set_unavailable(id, planned);
    }

    /// When a follower will be unavailable.
    pub(crate) fn unavailability_of(&self, id: &FollowerId) -> Option<Unavailability> {
        if self.plan.machines.is_empty() {
            return None;
        }
        let follower = self.state.follower(id)?;
        self.plan.unavailability(&Machine::of_follower(follower))
    }

    /// The machine of the schedule that a follower is on, as it is printed.
    pub(crate) fn scheduled_machine_of(&self, follower: &Follower) -> Option<String> {
        let info = self.plan.machines.get(&Machine::of_follower(follower))?;
        let id = &info.id;
        Some(match (&id.hostname, &id.ip) {
            (Some(hostname), Some(ip)) => format!("{hostname} ({ip})"),
            (Some(hostname), None) => hostname.clone(),
            (None, ip) => format!("({})", ip.as_deref().unwrap_or_default()),
        })
    }

    /// Followers on a machine that is down are told to stay away.
    pub(crate) fn turns_away(&mut self, hostname: &str, from: &Pid) -> bool {
        let down = self.plan.mode(&Machine::of(hostname, from)) == Some(Mode::Down);
        if down {
            self.shut_down(from.clone(), "Machine is `DOWN`");
        }
        down
    }

    /// `START_MAINTENANCE` and `POST /machine/down`: followers there are shut down and removed.
    pub(crate) fn operator_machines_down(&mut self, ids: &[MachineId]) -> Reply {
        let checked = validate_machines(ids)
            .and_then(|()| self.all_in_mode(ids, Mode::Draining, "DRAINING", "down"));
        if let Err(error) = checked {
            return bad(error);
        }
        let down: BTreeSet<Machine> = ids.iter().map(Machine::from).collect();
        for machine in &down {
            let Some(info) = self.plan.machines.get(machine) else {
                continue;
            };
            let mut info = MachineInfo::clone(info);
            info.set_mode(Mode::Down);
            self.persist(RegistryChange::Machine(Box::new(info.clone())));
            self.plan
                .machines
                .insert_mut(machine.clone(), Arc::new(info));
        }
        let there: Vec<(FollowerId, Pid)> = self
            .state
            .followers()
            .filter(|follower| down.contains(&Machine::of_follower(follower)))
            .map(|follower| (follower.id.clone(), follower.pid.clone()))
            .collect();
        for (id, pid) in there {
            const WHY: &str = "Operator initiated 'Machine DOWN'";
            self.shut_down(pid, WHY);
            self.remove_follower(&id, WHY, None);
        }
        Reply::Ok
    }

    /// `STOP_MAINTENANCE` and `POST /machine/up`: followers may register there again.
    pub(crate) fn operator_machines_up(&mut self, ids: &[MachineId]) -> Reply {
        let checked =
            validate_machines(ids).and_then(|()| self.all_in_mode(ids, Mode::Down, "DOWN", "up"));
        if let Err(error) = checked {
            return bad(error);
        }
        let up: BTreeSet<Machine> = ids.iter().map(Machine::from).collect();
        for machine in &up {
            if let Some(info) = self.plan.machines.get(machine).cloned() {
                self.plan.machines.remove_mut(machine);
                self.persist(RegistryChange::RemoveMachine(info.id.clone()));
            }
        }
        let mut schedule = Schedule::clone(&self.plan.schedule);
        for window in &mut schedule.windows {
            window
                .machine_ids
                .retain(|id| !up.contains(&Machine::from(id)));
        }
        schedule
            .windows
            .retain(|window| !window.machine_ids.is_empty());
        self.persist(RegistryChange::Schedule(Box::new(schedule.clone())));
        self.plan.schedule = Arc::new(schedule);
        Reply::Ok
    }

    fn all_in_mode(
        &self,
        ids: &[MachineId],
        mode: Mode,
        named: &str,
        brought: &str,
    ) -> Result<(), String> {
        for id in ids {
            match self.plan.mode(&Machine::from(id)) {
                None => {
                    return Err(format!(
                        "Machine '{}' is not part of a maintenance schedule",
                        text(id)
                    ));
                }
                Some(other) if other != mode => {
                    return Err(format!(
                        "Machine '{}' is not in {named} mode and cannot be brought {brought}",
                        text(id)
                    ));
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    pub(crate) fn check_plan(&self) {
        let named = self.plan.schedule.windows.iter();
        let named: BTreeSet<Machine> = named
            .flat_map(|window| window.machine_ids.iter().map(Machine::from))
            .collect();
        let kept: BTreeSet<Machine> = self.plan.machines.keys().cloned().collect();
        assert_eq!(named, kept, "the machines kept are those of the schedule");
        for follower in self.state.followers() {
            assert_ne!(
                self.plan.mode(&Machine::of_follower(follower)),
                Some(Mode::Down),
                "{} is registered, hence its machine is not down",
                follower.id
            );
        }
    }
}

/// Every window has machines, every machine has one window, and none that is down is left out.
fn validate_schedule(schedule: &Schedule, plan: &Plan) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    for window in &schedule.windows {
        if window.machine_ids.is_empty() {
            return Err("List of machines in the maintenance window is empty".to_owned());
        }
        let duration = window.unavailability.duration.unwrap_or_default();
        if duration.nanoseconds < 0 {
            return Err("Unavailability 'duration' is negative".to_owned());
        }
        validate_each(&window.machine_ids, &mut seen)?;
    }
    for (machine, info) in plan.machines.iter() {
        if info.mode() == Mode::Down && !seen.contains(machine) {
            return Err(format!(
                "Machine '{}' is deactivated and cannot be removed from the schedule",
                text(&info.id)
            ));
        }
    }
    Ok(())
}

fn validate_machines(ids: &[MachineId]) -> Result<(), String> {
    if ids.is_empty() {
        return Err("List of machines is empty".to_owned());
    }
    validate_each(ids, &mut BTreeSet::new())
}

fn validate_each(ids: &[MachineId], seen: &mut BTreeSet<Machine>) -> Result<(), String> {
    for id in ids {
        if id.hostname().is_empty() && id.ip().is_empty() {
            return Err("Both 'hostname' and 'ip' for a machine are empty".to_owned());
        }
        if !id.ip().is_empty() && id.ip().parse::<Ipv4Addr>().is_err() {
            return Err(format!("Failed to parse IPv4: {}", id.ip()));
        }
        if !seen.insert(Machine::from(id)) {
            return Err(format!(
                "Machine '{}' appears more than once in the schedule",
                text(id)
            ));
        }
    }
    Ok(())
}

/// A machine as the reference's errors name it.
fn text(id: &MachineId) -> String {
    let fields = [("hostname", &id.hostname), ("ip", &id.ip)];
    let fields = fields.into_iter().filter_map(|(name, value)| {
        let value = serde_json::Value::from(value.as_deref()?);
        Some(format!("\"{name}\":{value}"))
    });
    format!("{{{}}}", fields.collect::<Vec<_>>().join(","))
}

fn bad(message: String) -> Reply {
    Reply::Error {
        status: 400,
        message,
    }
}

/// What frameworks said to giving a machine back, from the followers on it.
pub(crate) fn status(
    machines: &RedBlackTreeMapSync<Machine, Arc<MachineInfo>>,
    followers: impl Iterator<Item = (Machine, impl Iterator<Item = InverseOfferStatus>)>,
) -> v1::maintenance::ClusterStatus {
    use v1::maintenance::cluster_status::DrainingMachine;
    let mut said: BTreeMap<Machine, Vec<InverseOfferStatus>> = BTreeMap::new();
    if !machines.is_empty() {
        for (machine, statuses) in followers {
            said.entry(machine).or_default().extend(statuses);
        }
    }
    let mut all = v1::maintenance::ClusterStatus::default();
    for (machine, info) in machines.iter() {
        match info.mode() {
            Mode::Draining => all.draining_machines.push(DrainingMachine {
                id: info.id.clone(),
                statuses: said.remove(machine).unwrap_or_default(),
            }),
            Mode::Down => all.down_machines.push(info.id.clone()),
            Mode::Up => {}
        }
    }
    all
}
