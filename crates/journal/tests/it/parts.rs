//! A registry taken apart and put together is the same one.

use proptest::{collection::btree_map, option, prelude::*};
use tepui_journal::registry::{Step, assemble, disassemble};
use tepui_protocol::{
    internal::{Registry, registry, resource_provider_registry::ResourceProvider},
    v1::{
        self,
        maintenance::Schedule,
        quota::{QuotaConfig, QuotaInfo},
    },
};

fn agent_id(value: &str) -> v1::AgentId {
    v1::AgentId {
        value: value.to_owned(),
    }
}

fn provider(id: &str, name: &str) -> ResourceProvider {
    ResourceProvider {
        id: v1::ResourceProviderId {
            value: id.to_owned(),
        },
        r#type: Some("t".to_owned()),
        name: Some(name.to_owned()),
    }
}

type Ids = std::collections::BTreeMap<String, (i64, bool)>;

fn ids() -> impl Strategy<Value = Ids> {
    btree_map("[a-c/]{1,3}", (any::<i64>(), any::<bool>()), 0..5)
}

/// A registry whose lists are in the order that they are kept in.
fn build(lists: [Ids; 8], leader: Option<String>, schedules: usize) -> Registry {
    let [
        admitted,
        unreachable,
        gone,
        machines,
        quotas,
        older,
        weights,
        providers,
    ] = lists;
    let mut all = Registry {
        master: leader.map(|id| registry::Master {
            info: v1::MasterInfo {
                id,
                ..Default::default()
            },
        }),
        ..Default::default()
    };
    for (id, (_, deactivated)) in admitted {
        let mut follower = registry::Slave {
            deactivated: Some(deactivated),
            ..Default::default()
        };
        follower.info.id = Some(agent_id(&id));
        follower.info.hostname = "h".to_owned();
        all.slaves.get_or_insert_default().slaves.push(follower);
    }
    for (id, (nanoseconds, deactivated)) in unreachable {
        let list = &mut all.unreachable.get_or_insert_default().slaves;
        list.push(registry::UnreachableSlave {
            id: agent_id(&id),
            timestamp: v1::TimeInfo { nanoseconds },
            deactivated: Some(deactivated),
            ..Default::default()
        });
        list.sort_by_key(|follower| follower.timestamp.nanoseconds);
    }
    for (id, (nanoseconds, _)) in gone {
        let list = &mut all.gone.get_or_insert_default().slaves;
        list.push(registry::GoneSlave {
            id: agent_id(&id),
            timestamp: v1::TimeInfo { nanoseconds },
        });
        list.sort_by_key(|follower| follower.timestamp.nanoseconds);
    }
    for (name, _) in machines {
        let mut machine = registry::Machine::default();
        machine.info.id.hostname = Some(name);
        all.machines.get_or_insert_default().machines.push(machine);
    }
    for n in 0..schedules {
        let window = v1::maintenance::Window {
            machine_ids: vec![v1::MachineId {
                hostname: Some(n.to_string()),
                ip: None,
            }],
            ..Default::default()
        };
        all.schedules.push(Schedule {
            windows: vec![window],
        });
    }
    for (role, _) in quotas {
        all.quota_configs.push(QuotaConfig {
            role,
            ..Default::default()
        });
    }
    for (role, _) in older {
        all.quotas.push(registry::Quota {
            info: QuotaInfo {
                role: Some(role),
                ..Default::default()
            },
        });
    }
    for (role, (weight, _)) in weights {
        let info = v1::WeightInfo {
            role: Some(role.clone()),
            weight: weight as f64,
        };
        all.weights.push(registry::Weight { info });
        all.minimum_capabilities
            .push(registry::MinimumCapability { capability: role });
    }
    for (id, (_, removed)) in providers {
        let registry = all.resource_provider_registry.get_or_insert_default();
        if removed {
            registry.removed_resource_providers.push(provider(&id, "a"));
        } else {
            registry.resource_providers.push(provider(&id, "b"));
        }
    }
    all
}

proptest! {
    #[test]
    fn a_registry_taken_apart_and_put_together_is_the_same(
        lists in proptest::array::uniform8(ids()),
        leader in option::of("[a-z]{1,4}"),
        schedules in 0..12_usize,
    ) {
        let all = build(lists, leader, schedules);
        let steps = disassemble(&all).expect("nothing is there twice");
        let mut entries = Vec::new();
        for step in steps {
            match step {
                Step::Put(key, value) => entries.push((key, value)),
                Step::Remove(key) => panic!("'{key}' removed"),
            }
        }
        entries.sort();
        prop_assert_eq!(assemble(entries).expect("readable"), all);
    }
}
