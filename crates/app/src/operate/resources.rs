//! `tepui reserve`, `unreserve` and `volume`: what operators set aside on followers.
//!
//! What is taken back is looked for among what the follower has: nobody has to repeat principals,
//! labels and disks.

use super::{
    OperateError,
    named::{Followers, Named},
    of_kind, say,
};
use crate::{
    inspect::{InspectError, ask, print_json},
    table::Table,
};
use clap::{Arg, ArgAction, ArgMatches, Command};
use tepui_client::{
    operator::Operator,
    proto::{
        self, Resource as Proto,
        master::{
            Call,
            call::{self, Type},
            response::get_agents::Agent,
        },
        resource::{
            DiskInfo, ReservationInfo, SharedInfo, disk_info::Persistence, reservation_info,
        },
        volume::Mode,
    },
};
use tepui_model::{
    Resource, Resources, Scalar,
    resources::{Format, parse},
};

fn follower() -> Arg {
    Arg::new("follower")
        .required(true)
        .value_name("FOLLOWER")
        .help("Its id, the end of its id (S3), or its host name")
}

fn role(required: bool) -> Arg {
    Arg::new("role")
        .long("role")
        .required(required)
        .value_name("ROLE")
        .help("The role it is reserved for")
}

fn megabytes(name: &'static str) -> Arg {
    Arg::new(name)
        .required(true)
        .value_name("MB")
        .value_parser(clap::value_parser!(f64))
        .help("In megabytes")
}

fn volume() -> Arg {
    Arg::new("id")
        .required(true)
        .value_name("ID")
        .help("The id of the volume")
}

pub(super) fn commands() -> Vec<Command> {
    let amounts = || {
        Arg::new("resources")
            .required(true)
            .value_name("RESOURCES")
            .help("Such as 'cpus:1;mem:128;ports:[31000-31009]'")
    };
    let reserve = Command::new("reserve")
        .about("Set resources of a follower aside for a role")
        .arg(follower())
        .arg(role(true))
        .arg(amounts())
        .after_help("Example:\n  tepui reserve S3 --role prod 'cpus:2;disk:1024'");
    let unreserve = Command::new("unreserve")
        .about("Give back what is reserved for a role; volumes are to be destroyed first")
        .arg(follower())
        .arg(role(true))
        .arg(amounts())
        .after_help("Example:\n  tepui unreserve S3 --role prod cpus:1");
    vec![reserve, unreserve, volumes()]
}

fn volumes() -> Command {
    Command::new("volume")
        .about("Persistent volumes")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(Command::new("list").about("All volumes"))
        .subcommand(
            Command::new("create")
                .about("Make a volume of disk that is reserved for a role")
                .arg(follower())
                .arg(role(true))
                .arg(volume())
                .arg(megabytes("size"))
                .arg(
                    Arg::new("path")
                        .long("path")
                        .value_name("PATH")
                        .help("Where containers see it [default: its id]"),
                )
                .arg(Arg::new("disk").long("disk").value_name("ROOT").help(
                    "On the PATH or MOUNT disk with this root [default: the work directory's]",
                ))
                .arg(
                    Arg::new("shared")
                        .long("shared")
                        .action(ArgAction::SetTrue)
                        .help("Several tasks may use it at the same time"),
                )
                .after_help("Example:\n  tepui volume create S3 --role prod db 512 --path data"),
        )
        .subcommand(
            Command::new("destroy")
                .about("Delete a volume and all that is in it")
                .arg(follower())
                .arg(volume())
                .arg(role(false))
                .after_help("Example:\n  tepui volume destroy S3 db"),
        )
        .subcommand(
            Command::new("grow")
                .about("Add reserved disk to a volume")
                .arg(follower())
                .arg(volume())
                .arg(megabytes("by"))
                .arg(role(false)),
        )
        .subcommand(
            Command::new("shrink")
                .about("Take disk from a volume")
                .arg(follower())
                .arg(volume())
                .arg(megabytes("by"))
                .arg(role(false)),
        )
}

/// Runs one of them. A reservation carries the principal of who makes it.
pub(super) async fn run(
    operator: &Operator,
    name: &str,
    of: &ArgMatches,
    principal: Option<&str>,
) -> Result<(), OperateError> {
    match (name, of.subcommand()) {
        ("reserve", _) => reserve(operator, of, principal).await,
        ("unreserve", _) => unreserve(operator, of).await,
        (_, Some(("create", of))) => create(operator, of, principal).await,
        (_, Some((verb @ ("destroy" | "grow" | "shrink"), of))) => change(operator, verb, of).await,
        (_, of) => list(operator, of.is_some_and(|(_, of)| of.get_flag("json"))).await,
    }
}

fn text<'a>(of: &'a ArgMatches, name: &str) -> &'a str {
    of.get_one::<String>(name).map_or("", String::as_str)
}

fn resources(of: &ArgMatches) -> Result<Resources, OperateError> {
    let text = text(of, "resources");
    parse(text, "*").map_err(|error| OperateError::Resources {
        text: text.to_owned(),
        error: error.to_string(),
    })
}

async fn agents(operator: &Operator) -> Result<Vec<Agent>, OperateError> {
    let response = ask(operator, Type::GetAgents).await?;
    let agents = response.get_agents;
    Ok(agents.ok_or(InspectError::Answer("get_agents"))?.agents)
}

/// The follower that is meant, and what it has.
async fn find(operator: &Operator, of: &ArgMatches) -> Result<(Named, Resources), OperateError> {
    let named = Followers::ask(operator).await?.find(text(of, "follower"))?;
    let agents = agents(operator).await?;
    let is_meant = |agent: &&Agent| agent.agent_info.id.as_ref() == Some(&named.id);
    let total = agents.iter().find(is_meant).map(|agent| {
        let total = agent.total_resources.iter();
        Resources::from_proto(total)
    });
    Ok((named, total.unwrap_or_default()))
}

async fn reserve(
    operator: &Operator,
    of: &ArgMatches,
    principal: Option<&str>,
) -> Result<(), OperateError> {
    let wanted = resources(of)?;
    let role = text(of, "role");
    let named = Followers::ask(operator).await?.find(text(of, "follower"))?;
    let mut reservation = ReservationInfo {
        role: Some(role.to_owned()),
        principal: principal.map(str::to_owned),
        ..Default::default()
    };
    reservation.set_type(reservation_info::Type::Dynamic);
    let reserved = wanted.push_reservation(&reservation).to_proto();
    let call = of_kind(Type::ReserveResources, |call| {
        call.reserve_resources = Some(call::ReserveResources {
            agent_id: named.id.clone(),
            source: Vec::new(),
            resources: reserved,
        });
    });
    operator.leader(&call).await?;
    say(&format!("{wanted} of {named} is reserved for {role}"));
    Ok(())
}

async fn unreserve(operator: &Operator, of: &ArgMatches) -> Result<(), OperateError> {
    let wanted = resources(of)?;
    let role = text(of, "role");
    let (named, total) = find(operator, of).await?;
    let mut found: Vec<Proto> = Vec::new();
    for resource in &wanted {
        let part = reserved_part(&total, resource, role);
        let part = part.ok_or_else(|| OperateError::NotReserved {
            resource: resource.to_string(),
            role: role.to_owned(),
            follower: named.to_string(),
        })?;
        found.extend(part);
    }
    let call = of_kind(Type::UnreserveResources, |call| {
        call.unreserve_resources = Some(call::UnreserveResources {
            agent_id: named.id.clone(),
            resources: found,
        });
    });
    operator.leader(&call).await?;
    say(&format!(
        "{wanted} of {named} is no longer reserved for {role}"
    ));
    Ok(())
}

/// As much of a resource as is wanted, of what is reserved for a role and no volume.
fn reserved_part(total: &Resources, wanted: &Resource, role: &str) -> Option<Vec<Proto>> {
    let own = wanted.to_proto(Format::PostRefinement);
    let mut missing = wanted.as_scalar();
    let mut parts = Vec::new();
    for resource in total.iter() {
        let fits = resource.name() == wanted.name()
            && resource.reservation_role() == Some(role)
            && resource.is_dynamically_reserved()
            && !resource.is_persistent_volume();
        if !fits || missing == Some(Scalar::ZERO) {
            continue;
        }
        let mut part = resource.to_proto(Format::PostRefinement);
        match (&mut missing, resource.as_scalar()) {
            (Some(missing), Some(there)) => {
                let taken = there.min(*missing);
                *missing -= taken;
                part.scalar = Some(taken.to_proto());
                parts.push(part);
            }
            _ => {
                part.ranges = own.ranges.clone();
                part.set = own.set.clone();
                let whole = Resources::from_proto([&part]);
                return total.contains(&whole).then(|| vec![part]);
            }
        }
    }
    (missing == Some(Scalar::ZERO)).then_some(parts)
}

async fn create(
    operator: &Operator,
    of: &ArgMatches,
    principal: Option<&str>,
) -> Result<(), OperateError> {
    let (role, id) = (text(of, "role"), text(of, "id"));
    let size = of.get_one::<f64>("size").copied().unwrap_or_default();
    let root = of.get_one::<String>("disk").map(String::as_str);
    let (named, total) = find(operator, of).await?;
    let fits = |resource: &&Resource| {
        resource.name().as_str() == "disk"
            && resource.reservation_role() == Some(role)
            && !resource.is_persistent_volume()
            && root_of(resource) == root
    };
    let disk = total.iter().find(fits);
    let disk = disk.ok_or_else(|| OperateError::NotReserved {
        resource: "disk".to_owned(),
        role: role.to_owned(),
        follower: named.to_string(),
    })?;
    let mut volume = disk.to_proto(Format::PostRefinement);
    volume.scalar = Some(Scalar::from_f64(size).to_proto());
    let path = of.get_one::<String>("path").map_or(id, String::as_str);
    let info: &mut DiskInfo = volume.disk.get_or_insert_default();
    info.persistence = Some(Persistence {
        id: id.to_owned(),
        principal: principal.map(str::to_owned),
    });
    let mut mounted = proto::Volume {
        container_path: path.to_owned(),
        ..Default::default()
    };
    mounted.set_mode(Mode::Rw);
    info.volume = Some(mounted);
    volume.shared = of.get_flag("shared").then(SharedInfo::default);
    let call = of_kind(Type::CreateVolumes, |call| {
        call.create_volumes = Some(call::CreateVolumes {
            agent_id: named.id.clone(),
            volumes: vec![volume],
        });
    });
    operator.leader(&call).await?;
    say(&format!(
        "Volume {id} of {size} MB is on {named}, for {role}"
    ));
    Ok(())
}

/// Root of the PATH or MOUNT disk it is on.
fn root_of(resource: &Resource) -> Option<&str> {
    let source = resource.disk()?.source.as_ref()?;
    let path = source.path.as_ref().and_then(|path| path.root.as_deref());
    path.or_else(|| {
        source
            .mount
            .as_ref()
            .and_then(|mount| mount.root.as_deref())
    })
}

/// `destroy`, `grow`, `shrink`
async fn change(operator: &Operator, verb: &str, of: &ArgMatches) -> Result<(), OperateError> {
    let (named, total) = find(operator, of).await?;
    let id = text(of, "id");
    let role = of.get_one::<String>("role").map(String::as_str);
    let is_meant = |volume: &&Resource| {
        id_of(volume) == Some(id) && role.is_none_or(|role| volume.reservation_role() == Some(role))
    };
    let found: Vec<&Resource> = total.iter().filter(is_meant).collect();
    let [volume] = found[..] else {
        return Err(OperateError::NoVolume {
            id: id.to_owned(),
            follower: named.to_string(),
            many: if found.is_empty() {
                "no"
            } else {
                "more than one"
            },
        });
    };
    let volume = volume.to_proto(Format::PostRefinement);
    let by = match verb {
        "destroy" => 0.0,
        _ => of.get_one::<f64>("by").copied().unwrap_or_default(),
    };
    let by = Scalar::from_f64(by);
    let (call, done) = changing(verb, &named, volume, by);
    operator.leader(&call).await?;
    say(&format!("Volume {id} on {named} is {done}"));
    Ok(())
}

fn changing(verb: &str, named: &Named, volume: Proto, by: Scalar) -> (Call, String) {
    let agent_id = named.id.clone();
    match verb {
        "destroy" => {
            let call = of_kind(Type::DestroyVolumes, |call| {
                let volumes = vec![volume];
                call.destroy_volumes = Some(call::DestroyVolumes { agent_id, volumes });
            });
            (call, "destroyed".to_owned())
        }
        "grow" => {
            let mut addition = volume.clone();
            addition.scalar = Some(by.to_proto());
            addition.disk = addition.disk.filter(|disk| disk.source.is_some());
            if let Some(disk) = &mut addition.disk {
                (disk.persistence, disk.volume) = (None, None);
            }
            let call = of_kind(Type::GrowVolume, |call| {
                call.grow_volume = Some(call::GrowVolume {
                    agent_id: Some(agent_id),
                    volume,
                    addition,
                });
            });
            (call, format!("{by} MB larger"))
        }
        _ => {
            let call = of_kind(Type::ShrinkVolume, |call| {
                call.shrink_volume = Some(call::ShrinkVolume {
                    agent_id: Some(agent_id),
                    volume,
                    subtract: by.to_proto(),
                });
            });
            (call, format!("{by} MB smaller"))
        }
    }
}

fn id_of(resource: &Resource) -> Option<&str> {
    let persistence = resource.disk()?.persistence.as_ref();
    persistence.map(|persistence| persistence.id.as_str())
}

async fn list(operator: &Operator, json: bool) -> Result<(), OperateError> {
    if json {
        print_json(&ask(operator, Type::GetAgents).await?);
        return Ok(());
    }
    let mut table = Table::new(&["VOLUME", "ROLE", "MB", "FOLLOWER", "HOST", "DISK", "SHARED"]);
    for agent in agents(operator).await? {
        let id = agent.agent_info.id.map(|id| id.value).unwrap_or_default();
        for volume in &Resources::from_proto(agent.total_resources.iter()) {
            let Some(name) = id_of(volume) else {
                continue;
            };
            table.row([
                name.to_owned(),
                volume.reservation_role().unwrap_or_default().to_owned(),
                volume.as_scalar().unwrap_or_default().to_string(),
                id.clone(),
                agent.agent_info.hostname.clone(),
                root_of(volume).unwrap_or("root").to_owned(),
                if volume.is_shared() { "yes" } else { "no" }.to_owned(),
            ]);
        }
    }
    table.print();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn total() -> Resources {
        let reserve = |text: &str, principal: &str| {
            let mut info = ReservationInfo {
                role: Some("prod".to_owned()),
                principal: Some(principal.to_owned()),
                ..Default::default()
            };
            info.set_type(reservation_info::Type::Dynamic);
            let resources = parse(text, "*").expect("resources");
            resources.push_reservation(&info)
        };
        let mut total = parse("cpus:8;ports:[1-100]", "*").expect("resources");
        total += &reserve("cpus:1;ports:[200-300]", "a");
        total += &reserve("cpus:2", "b");
        total
    }

    fn part(text: &str, role: &str) -> Option<Resources> {
        let wanted = parse(text, "*").expect("resources");
        let one = wanted.iter().next().expect("a resource");
        let part = reserved_part(&total(), one, role)?;
        Some(Resources::from_proto(&part))
    }

    #[test]
    fn what_is_reserved_is_found_whoever_reserved_it() {
        let found = part("cpus:2.5", "prod").expect("there is as much");
        assert_eq!(found.cpus(), Scalar::millis(2500));
        assert!(total().contains(&found));
        assert_eq!(part("cpus:4", "prod"), None, "only three are reserved");
        assert_eq!(part("cpus:1", "test"), None);
        assert!(part("ports:[210-220]", "prod").is_some());
        assert_eq!(part("ports:[290-310]", "prod"), None);
    }
}
