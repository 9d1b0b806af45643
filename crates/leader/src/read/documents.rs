//! `/state`, `/slaves`, `/frameworks`, `/flags` (`src/master/readonly_handler.cpp`).

use crate::view::{FollowerView, FrameworkView, View};
use serde::{Serialize, Serializer, ser::SerializeMap};
use std::collections::BTreeMap;
use tepui_model::documents::{
    Amounts, AmountsOf, AttributeMap, Executor, Flags, Labels, List, Proto, Strings, Task,
    allocation_role,
};
use tepui_model::{Resources, resources::Format};
use tepui_protocol::v1;

/// The version that clients check, and ours beside it.
pub(super) const TEPUI_VERSION: &str = env!("CARGO_PKG_VERSION");

/// `/state`.
pub(super) struct State<'a>(pub(super) &'a View);

impl Serialize for State<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (view, leader) = (self.0, &self.0.leader);
        let info = &leader.info;
        let pid = info.pid.as_deref().unwrap_or_default();
        let count = |keep: fn(&FollowerView) -> bool| {
            view.followers
                .values()
                .filter(|follower| keep(follower))
                .count() as f64
        };
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("version", info.version())?;
        map.serialize_entry("tepui_version", TEPUI_VERSION)?;
        map.serialize_entry("start_time", &leader.started.seconds())?;
        map.serialize_entry("elected_time", &leader.elected.seconds())?;
        map.serialize_entry("id", &info.id)?;
        map.serialize_entry("pid", pid)?;
        map.serialize_entry("hostname", info.hostname())?;
        map.serialize_entry(
            "capabilities",
            &Strings(info.capabilities.iter().map(|c| c.r#type().as_str_name())),
        )?;
        map.serialize_entry("activated_slaves", &count(|follower| follower.active))?;
        map.serialize_entry("deactivated_slaves", &count(|follower| !follower.active))?;
        map.serialize_entry(
            "unreachable_slaves",
            &(view.unreachable_followers.size() as f64),
        )?;
        if let Some(domain) = &info.domain {
            map.serialize_entry("domain", &Proto(domain))?;
        }
        map.serialize_entry("leader", pid)?;
        map.serialize_entry("leader_info", &LeaderInfo(info))?;
        if let Some(cluster) = &leader.cluster {
            map.serialize_entry("cluster", cluster)?;
        }
        for name in ["log_dir", "external_log_file"] {
            if let Some(value) = leader.flags.get(name) {
                map.serialize_entry(name, value)?;
            }
        }
        map.serialize_entry("flags", &Flags(&leader.flags))?;
        map.serialize_entry(
            "slaves",
            &List(|| {
                view.followers.values().map(|f| Follower {
                    follower: f,
                    full: false,
                })
            }),
        )?;
        map.serialize_entry(
            "recovered_slaves",
            &List(|| view.recovered_followers.values().map(|i| FollowerInfo(i))),
        )?;
        map.serialize_entry(
            "frameworks",
            &List(|| view.frameworks.values().map(|f| Framework(f))),
        )?;
        map.serialize_entry(
            "completed_frameworks",
            &List(|| view.completed_frameworks.iter().map(|f| Framework(f))),
        )?;
        // Both are always empty since 1.0; tools still look for them.
        map.serialize_entry("orphan_tasks", &[(); 0])?;
        map.serialize_entry("unregistered_frameworks", &[(); 0])?;
        map.end()
    }
}

struct LeaderInfo<'a>(&'a v1::MasterInfo);

impl Serialize for LeaderInfo<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let info = self.0;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("id", &info.id)?;
        map.serialize_entry("pid", info.pid())?;
        map.serialize_entry("port", &info.port)?;
        map.serialize_entry("hostname", info.hostname())?;
        if let Some(domain) = &info.domain {
            map.serialize_entry("domain", &Proto(domain))?;
        }
        map.end()
    }
}

/// `/flags`.
pub(super) struct FlagsDocument<'a>(pub(super) &'a BTreeMap<String, String>);

impl Serialize for FlagsDocument<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry("flags", &Flags(self.0))?;
        map.end()
    }
}

/// `/slaves`, all or one.
pub(super) struct Followers<'a> {
    pub(super) view: &'a View,
    pub(super) id: Option<&'a String>,
}

impl Serialize for Followers<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let wanted = |id: &str| self.id.is_none_or(|wanted| wanted == id);
        let followers = || {
            self.view
                .followers
                .values()
                .filter(|f| wanted(f.id.as_str()))
        };
        let recovered = || {
            self.view
                .recovered_followers
                .iter()
                .filter(|(id, _)| wanted(id.as_str()))
        };
        let mut map = serializer.serialize_map(Some(2))?;
        map.serialize_entry(
            "slaves",
            &List(|| {
                followers().map(|f| Follower {
                    follower: f,
                    full: true,
                })
            }),
        )?;
        map.serialize_entry(
            "recovered_slaves",
            &List(|| recovered().map(|(_, info)| FollowerInfo(info))),
        )?;
        map.end()
    }
}

struct FollowerInfo<'a>(&'a v1::AgentInfo);

impl FollowerInfo<'_> {
    fn entries<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        let info = self.0;
        map.serialize_entry("id", info.id.as_ref().map_or("", |id| id.value.as_str()))?;
        map.serialize_entry("hostname", &info.hostname)?;
        map.serialize_entry("port", &info.port())?;
        map.serialize_entry("attributes", &AttributeMap(&info.attributes))?;
        if let Some(domain) = &info.domain {
            map.serialize_entry("domain", &Proto(domain))?;
        }
        Ok(())
    }
}

impl Serialize for FollowerInfo<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        self.entries(&mut map)?;
        map.end()
    }
}

/// One follower; `full` adds resources with all their details.
struct Follower<'a> {
    follower: &'a FollowerView,
    full: bool,
}

fn reserved_role(resource: &v1::Resource) -> Option<&str> {
    resource
        .reservations
        .last()
        .map(|reservation| reservation.role())
}

/// Resources by the role they are reserved for.
fn reservations(resources: &[v1::Resource]) -> BTreeMap<&str, Vec<v1::Resource>> {
    let mut by_role: BTreeMap<&str, Vec<v1::Resource>> = BTreeMap::new();
    for resource in resources {
        if let Some(role) = reserved_role(resource) {
            by_role.entry(role).or_default().push(resource.clone());
        }
    }
    by_role
}

/// Resources as the endpoints write them: with `role` and `reservation` for older tools, and
/// `reservations` besides.
pub(super) fn endpoint_format<'a>(
    resources: impl IntoIterator<Item = &'a v1::Resource>,
) -> Vec<v1::Resource> {
    Resources::from_proto(resources).to_proto_as(Format::Endpoint)
}

impl Follower<'_> {
    fn entries<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        let follower = self.follower;
        let used: Vec<v1::Resource> = follower.used.values().flatten().cloned().collect();
        let by_role = reservations(&follower.total);
        FollowerInfo(&follower.info).entries(map)?;
        map.serialize_entry("pid", &follower.pid.to_string())?;
        map.serialize_entry("registered_time", &follower.registered.seconds())?;
        if let Some(time) = follower.reregistered {
            map.serialize_entry("reregistered_time", &time.seconds())?;
        }
        map.serialize_entry("resources", &Amounts(&follower.total))?;
        map.serialize_entry("used_resources", &Amounts(&used))?;
        map.serialize_entry("offered_resources", &Amounts(&follower.offered))?;
        let amounts: BTreeMap<_, _> = by_role
            .iter()
            .map(|(role, list)| (role, Amounts(list)))
            .collect();
        map.serialize_entry("reserved_resources", &amounts)?;
        map.serialize_entry(
            "unreserved_resources",
            &AmountsOf(&follower.total, |r: &v1::Resource| {
                reserved_role(r).is_none()
            }),
        )?;
        map.serialize_entry("active", &follower.active)?;
        map.serialize_entry("deactivated", &follower.deactivated)?;
        if let Some(drain) = &follower.drain {
            map.serialize_entry("drain_info", &Proto(drain))?;
            if let Some(since) = follower.draining_since {
                map.serialize_entry("estimated_drain_start_time_seconds", &since.seconds())?;
            }
        }
        map.serialize_entry("version", &follower.version)?;
        let capabilities = follower
            .capabilities
            .iter()
            .map(|c| c.r#type().as_str_name());
        map.serialize_entry("capabilities", &Strings(capabilities))?;
        if self.full {
            let list = |resources: &[v1::Resource]| endpoint_format(resources);
            let reserved: BTreeMap<_, _> = by_role
                .iter()
                .map(|(role, all)| (role, Protos(list(all))))
                .collect();
            map.serialize_entry("reserved_resources_full", &reserved)?;
            let unreserved = follower.total.iter().filter(|r| reserved_role(r).is_none());
            map.serialize_entry(
                "unreserved_resources_full",
                &Protos(endpoint_format(unreserved)),
            )?;
            map.serialize_entry("used_resources_full", &Protos(list(&used)))?;
            map.serialize_entry("offered_resources_full", &Protos(list(&follower.offered)))?;
        }
        Ok(())
    }
}

struct Protos(Vec<v1::Resource>);

impl Serialize for Protos {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(Proto))
    }
}

impl Serialize for Follower<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        self.entries(&mut map)?;
        map.end()
    }
}

/// What `/state-summary` says of a follower before it counts tasks.
pub(super) fn follower_entries<M: SerializeMap>(
    follower: &FollowerView,
    map: &mut M,
) -> Result<(), M::Error> {
    Follower {
        follower,
        full: false,
    }
    .entries(map)
}

/// `/frameworks`, all or one.
pub(super) struct Frameworks<'a> {
    pub(super) view: &'a View,
    pub(super) id: Option<&'a String>,
}

impl Serialize for Frameworks<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let wanted = |f: &FrameworkView| self.id.is_none_or(|wanted| wanted == f.id.as_str());
        let living = || self.view.frameworks.values().filter(|f| wanted(f));
        let completed = || self.view.completed_frameworks.iter().filter(|f| wanted(f));
        let mut map = serializer.serialize_map(Some(3))?;
        map.serialize_entry("frameworks", &List(|| living().map(|f| Framework(f))))?;
        map.serialize_entry(
            "completed_frameworks",
            &List(|| completed().map(|f| Framework(f))),
        )?;
        map.serialize_entry("unregistered_frameworks", &[(); 0])?;
        map.end()
    }
}

struct Framework<'a>(&'a FrameworkView);

/// What every document says of a framework.
pub(super) fn framework_entries<M: SerializeMap>(
    framework: &FrameworkView,
    map: &mut M,
) -> Result<(), M::Error> {
    let info = &framework.info;
    map.serialize_entry("id", framework.id.as_str())?;
    map.serialize_entry("name", &info.name)?;
    if let Some(pid) = &framework.pid {
        map.serialize_entry("pid", &pid.to_string())?;
    }
    map.serialize_entry("used_resources", &Amounts(&framework.used))?;
    map.serialize_entry("offered_resources", &Amounts(&framework.offered))?;
    map.serialize_entry(
        "capabilities",
        &Strings(info.capabilities.iter().map(|c| c.r#type().as_str_name())),
    )?;
    map.serialize_entry("hostname", info.hostname())?;
    map.serialize_entry("webui_url", info.webui_url())?;
    map.serialize_entry("active", &framework.active)?;
    map.serialize_entry("connected", &framework.connected)?;
    map.serialize_entry("recovered", &framework.recovered)
}

/// Whether a framework names its roles in `roles`.
pub(super) fn is_multi_role(info: &v1::FrameworkInfo) -> bool {
    use v1::framework_info::capability::Type::MultiRole;
    info.capabilities
        .iter()
        .any(|capability| capability.r#type() == MultiRole)
}

impl Serialize for Framework<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let framework = self.0;
        let info = &framework.info;
        let mut map = serializer.serialize_map(None)?;
        framework_entries(framework, &mut map)?;
        map.serialize_entry("user", &info.user)?;
        map.serialize_entry("failover_timeout", &info.failover_timeout())?;
        map.serialize_entry("checkpoint", &info.checkpoint())?;
        map.serialize_entry("registered_time", &framework.registered.seconds())?;
        map.serialize_entry(
            "unregistered_time",
            &framework.unregistered.map_or(0.0, |time| time.seconds()),
        )?;
        if let Some(principal) = &info.principal {
            map.serialize_entry("principal", principal)?;
        }
        let both: Vec<_> = framework
            .used
            .iter()
            .chain(framework.offered.iter())
            .cloned()
            .collect();
        map.serialize_entry("resources", &Amounts(&both))?;
        if let Some(time) = framework.reregistered {
            map.serialize_entry("reregistered_time", &time.seconds())?;
        }
        match is_multi_role(info) {
            true => map.serialize_entry("roles", &info.roles)?,
            false => map.serialize_entry("role", info.role())?,
        }
        map.serialize_entry(
            "tasks",
            &List(|| framework.tasks.values().map(|task| Task(task))),
        )?;
        map.serialize_entry(
            "unreachable_tasks",
            &List(|| framework.unreachable_tasks.values().map(|task| Task(task))),
        )?;
        map.serialize_entry(
            "completed_tasks",
            &List(|| framework.completed_tasks.iter().map(|task| Task(task))),
        )?;
        map.serialize_entry(
            "offers",
            &List(|| framework.offers.values().map(|offer| Offer(offer))),
        )?;
        let executors: BTreeMap<_, _> = framework.executors.iter().collect();
        map.serialize_entry(
            "executors",
            &List(|| {
                executors.iter().map(|((follower, _), info)| Executor {
                    info,
                    follower: Some(follower.as_str()),
                })
            }),
        )?;
        if let Some(labels) = &info.labels {
            map.serialize_entry("labels", &Labels(labels))?;
        }
        let constraints = super::operator::constraints(framework);
        map.serialize_entry("offer_constraints", &Proto(&constraints))?;
        map.end()
    }
}

struct Offer<'a>(&'a v1::Offer);

impl Serialize for Offer<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let offer = self.0;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("id", &offer.id.value)?;
        map.serialize_entry("framework_id", &offer.framework_id.value)?;
        match &offer.allocation_info {
            Some(info) => map.serialize_entry("allocation_info", &Proto(info))?,
            None => {
                let role = Some(allocation_role(&offer.resources).to_owned());
                map.serialize_entry(
                    "allocation_info",
                    &Proto(&v1::resource::AllocationInfo { role }),
                )?;
            }
        }
        map.serialize_entry("slave_id", &offer.agent_id.value)?;
        map.serialize_entry("resources", &Amounts(&offer.resources))?;
        map.end()
    }
}
