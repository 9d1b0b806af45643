//! The registry on disk: one entry per follower, machine, … instead of the reference's one blob
//! (`src/master/registrar.cpp`), so that a change costs what it changes.
//!
//! Keys are a kind, a slash and an id. Values are the pieces of `mesos.internal.Registry` in
//! protobuf; put together they are that message again ([`assemble`]), which is also what the
//! `/registrar(1)/registry` endpoint shows and what a migration from the reference reads
//! ([`disassemble`]).
//!
//! [`sharded`] packs the entries into znodes of ZooKeeper.

use prost::Message;
use tepui_model::FollowerId;
use tepui_protocol::{
    internal::registry,
    v1::{self, maintenance::Schedule, quota::QuotaConfig},
};

mod parts;
pub mod sharded;

pub use parts::{Corrupt, Unstorable, assemble, digest, disassemble};

/// Version of this format, stored beside it. 1 knew neither quotas as they were before limits
/// existed nor resource providers; it is read as well.
pub const FORMAT: u32 = 2;

const LEADER: &str = "leader";
const FOLLOWER: &str = "follower/";
const UNREACHABLE: &str = "unreachable/";
const GONE: &str = "gone/";
const MACHINE: &str = "machine/";
const SCHEDULE: &str = "schedule";
/// Further schedules: the reference keeps a list, of which it writes one.
const FURTHER_SCHEDULE: &str = "schedule/";
const QUOTA: &str = "quota/";
/// A quota from before limits existed.
const OLDER_QUOTA: &str = "older-quota/";
const WEIGHT: &str = "weight/";
const MINIMUM_CAPABILITY: &str = "minimum-capability/";
const PROVIDER: &str = "resource-provider/";
const REMOVED_PROVIDER: &str = "removed-resource-provider/";

/// What must survive a leader: one change of the registry.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// This process became the leader (its `MasterInfo`).
    Leader(Box<v1::MasterInfo>),
    /// A follower was admitted, came back, or what is kept of it changed. One without an id is not
    /// stored.
    AdmitFollower(Box<registry::Slave>),
    /// A follower left, was removed for good, or need not be remembered any more.
    RemoveFollower(FollowerId),
    /// A follower did not answer in time, or what is kept of such a one changed.
    FollowerUnreachable(registry::UnreachableSlave),
    /// An operator declared a follower gone.
    FollowerGone(registry::GoneSlave),
    /// The maintenance mode of a machine.
    Machine(Box<v1::MachineInfo>),
    /// A machine is in no window of the schedule any more.
    RemoveMachine(v1::MachineId),
    /// The maintenance schedule; an empty one is none.
    Schedule(Box<Schedule>),
    /// The quota of a role.
    Quota(Box<QuotaConfig>),
    /// A role has no quota any more.
    RemoveQuota(String),
    /// The weight of a role.
    Weight(v1::WeightInfo),
    /// Leaders without this capability must not take over from now on.
    RequireCapability(String),
    /// They may again.
    ReleaseCapability(String),
}

impl Change {
    /// The same in entries. They are to be stored together.
    pub fn steps(&self) -> Vec<Step> {
        match self {
            Self::Leader(info) => leader(info),
            Self::AdmitFollower(follower) => admit(follower),
            Self::RemoveFollower(id) => remove(id.as_str()),
            Self::FollowerUnreachable(follower) => unreachable(follower),
            Self::FollowerGone(follower) => gone(follower),
            Self::Machine(info) => {
                let machine = registry::Machine {
                    info: (**info).clone(),
                };
                vec![Step::Put(machine_key(&info.id), machine.encode_to_vec())]
            }
            Self::RemoveMachine(id) => vec![Step::Remove(machine_key(id))],
            Self::Schedule(schedule) if schedule.windows.is_empty() => {
                vec![Step::Remove(SCHEDULE.to_owned())]
            }
            Self::Schedule(schedule) => {
                vec![Step::Put(SCHEDULE.to_owned(), schedule.encode_to_vec())]
            }
            // A quota that is set takes the place of one from before limits existed
            // (`src/master/quota.cpp`).
            Self::Quota(config) => vec![
                Step::Remove(key(OLDER_QUOTA, &config.role)),
                Step::Put(key(QUOTA, &config.role), config.encode_to_vec()),
            ],
            Self::RemoveQuota(role) => [OLDER_QUOTA, QUOTA]
                .map(|kind| Step::Remove(key(kind, role)))
                .into(),
            Self::Weight(info) => {
                let weight = registry::Weight { info: info.clone() };
                vec![Step::Put(key(WEIGHT, info.role()), weight.encode_to_vec())]
            }
            Self::RequireCapability(name) => {
                let capability = registry::MinimumCapability {
                    capability: name.clone(),
                };
                vec![Step::Put(
                    key(MINIMUM_CAPABILITY, name),
                    capability.encode_to_vec(),
                )]
            }
            Self::ReleaseCapability(name) => vec![Step::Remove(key(MINIMUM_CAPABILITY, name))],
        }
    }
}

/// One step of a change. All steps of a change are stored together or not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Sets a key.
    Put(String, Vec<u8>),
    /// Removes a key, if it is there.
    Remove(String),
}

fn leader(info: &v1::MasterInfo) -> Vec<Step> {
    let master = registry::Master { info: info.clone() };
    vec![Step::Put(LEADER.to_owned(), master.encode_to_vec())]
}

fn admit(follower: &registry::Slave) -> Vec<Step> {
    let Some(id) = &follower.info.id else {
        return Vec::new();
    };
    vec![
        Step::Remove(key(UNREACHABLE, &id.value)),
        Step::Put(key(FOLLOWER, &id.value), follower.encode_to_vec()),
    ]
}

fn remove(id: &str) -> Vec<Step> {
    let kinds = [FOLLOWER, UNREACHABLE, GONE];
    kinds.map(|kind| Step::Remove(key(kind, id))).into()
}

fn unreachable(follower: &registry::UnreachableSlave) -> Vec<Step> {
    let id = &follower.id.value;
    vec![
        Step::Remove(key(FOLLOWER, id)),
        Step::Put(key(UNREACHABLE, id), follower.encode_to_vec()),
    ]
}

fn gone(follower: &registry::GoneSlave) -> Vec<Step> {
    let id = &follower.id.value;
    let mut steps = remove(id);
    steps.push(Step::Put(key(GONE, id), follower.encode_to_vec()));
    steps
}

fn key(kind: &str, id: &str) -> String {
    format!("{kind}{id}")
}

/// A machine has a host name, an address or both; names are compared without case.
fn machine_key(id: &v1::MachineId) -> String {
    format!("{MACHINE}{}/{}", id.hostname().to_lowercase(), id.ip())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn agent(id: &str) -> registry::Slave {
        let info = v1::AgentInfo {
            hostname: "h".to_owned(),
            id: Some(v1::AgentId {
                value: id.to_owned(),
            }),
            ..Default::default()
        };
        registry::Slave {
            info,
            ..Default::default()
        }
    }

    fn at(nanoseconds: i64) -> v1::TimeInfo {
        v1::TimeInfo { nanoseconds }
    }

    fn apply(store: &mut BTreeMap<String, Vec<u8>>, steps: Vec<Step>) {
        for step in steps {
            match step {
                Step::Put(key, value) => store.insert(key, value),
                Step::Remove(key) => store.remove(&key),
            };
        }
    }

    fn ids(store: &BTreeMap<String, Vec<u8>>) -> [Vec<String>; 3] {
        let all = assemble(store.clone()).expect("a registry");
        let admitted = all.slaves.unwrap_or_default().slaves.into_iter();
        let unreachable = all.unreachable.unwrap_or_default().slaves.into_iter();
        let gone = all.gone.unwrap_or_default().slaves.into_iter();
        [
            admitted.filter_map(|s| Some(s.info.id?.value)).collect(),
            unreachable.map(|s| s.id.value).collect(),
            gone.map(|s| s.id.value).collect(),
        ]
    }

    #[test]
    fn a_follower_is_in_one_place_at_a_time() {
        let mut store = BTreeMap::new();
        let lists = |store: &_, expected: [&[&str]; 3]| assert_eq!(ids(store), expected);
        apply(&mut store, admit(&agent("S0")));
        apply(&mut store, admit(&agent("S1")));
        lists(&store, [&["S0", "S1"], &[], &[]]);
        let id = v1::AgentId {
            value: "S0".to_owned(),
        };
        let lost = registry::UnreachableSlave {
            id: id.clone(),
            timestamp: at(5),
            ..Default::default()
        };
        apply(&mut store, unreachable(&lost));
        lists(&store, [&["S1"], &["S0"], &[]]);
        apply(&mut store, admit(&agent("S0")));
        lists(&store, [&["S0", "S1"], &[], &[]]);
        apply(&mut store, unreachable(&lost));
        apply(
            &mut store,
            gone(&registry::GoneSlave {
                id,
                timestamp: at(6),
            }),
        );
        lists(&store, [&["S1"], &[], &["S0"]]);
        apply(&mut store, remove("S1"));
        lists(&store, [&[], &[], &["S0"]]);
    }

    #[test]
    fn the_leader_is_remembered() {
        let info = v1::MasterInfo {
            id: "L".to_owned(),
            port: 5050,
            ..Default::default()
        };
        let mut store = BTreeMap::new();
        apply(&mut store, leader(&info));
        let all = assemble(store).expect("a registry");
        assert_eq!(all.master.map(|master| master.info), Some(info));
    }

    #[test]
    fn a_quota_takes_the_place_of_an_older_one() {
        let older = Step::Put(key(OLDER_QUOTA, "r"), Vec::new());
        for change in [
            Change::Quota(Box::new(QuotaConfig {
                role: "r".to_owned(),
                ..Default::default()
            })),
            Change::RemoveQuota("r".to_owned()),
        ] {
            let mut store = BTreeMap::new();
            apply(&mut store, vec![older.clone()]);
            apply(&mut store, change.steps());
            assert!(!store.contains_key("older-quota/r"));
        }
    }
}
