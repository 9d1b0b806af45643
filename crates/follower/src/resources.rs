//! What a follower offers: the `--resources` and `--attributes` flags, completed with what was
//! detected. Follows `src/slave/containerizer/containerizer.cpp` (`Containerizer::resources`).

use crate::view::View;
use std::{collections::BTreeSet, path::PathBuf};
use tepui_model::{Attributes, Resources, attributes::AttributeError, resources::ParseError};
use tepui_protocol::v1::{self, resource::disk_info::source};

/// Ports offered where no flag says otherwise.
const DEFAULT_PORTS: &str = "ports:[31000-32000]";
/// The machine's memory and disk are offered but for what the system itself needs, or half of it
/// where there is little.
const MEM_RESERVE_MB: u64 = 1024;
const DISK_RESERVE_MB: u64 = 5 * 1024;

/// What the shell found out about the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Detected {
    /// Processors.
    pub cpus: u64,
    /// Memory in MB.
    pub mem_mb: u64,
    /// Size in MB of the disk that the work dir is on.
    pub disk_mb: u64,
}

/// Resources to register: those of the `--resources` flag (text or JSON), and of `cpus`, `mem`,
/// `disk` and `ports` those it does not name.
pub fn startup(
    flag: &str,
    default_role: &str,
    detected: Detected,
) -> Result<Vec<v1::Resource>, ParseError> {
    let mut resources = if flag.trim().is_empty() {
        Resources::new()
    } else {
        tepui_model::resources::parse(flag, default_role)?
    };
    // Nothing here hands out parts of one.
    if resources.gpus().to_f64().fract() != 0.0 {
        return Err(ParseError::FractionOfGpu);
    }
    let but = |total: u64, reserve: u64| {
        if total >= 2 * reserve {
            total - reserve
        } else {
            total / 2
        }
    };
    let defaults = [
        ("cpus", format!("cpus:{}", detected.cpus.max(1))),
        (
            "mem",
            format!("mem:{}", but(detected.mem_mb, MEM_RESERVE_MB)),
        ),
        (
            "disk",
            format!("disk:{}", but(detected.disk_mb, DISK_RESERVE_MB)),
        ),
        ("ports", DEFAULT_PORTS.to_owned()),
    ];
    let named = |resources: &Resources, name: &str| {
        flag_names(flag, name) || !resources.named(name).is_empty()
    };
    for (name, text) in defaults {
        if !named(&resources, name) {
            for resource in tepui_model::resources::parse(&text, default_role)?.iter() {
                resources.add_one(resource.clone());
            }
        }
    }
    Ok(resources.to_proto())
}

/// Where a disk of its own begins.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum DiskRoot {
    /// A PATH disk: made if it is absent. Relative paths begin at the work dir.
    Path(PathBuf),
    /// A MOUNT disk: something must be mounted there.
    Mount(PathBuf),
}

/// The roots of the PATH and MOUNT disks among resources, each once (`docs/multiple-disk.md`).
pub fn disk_roots(resources: &[v1::Resource]) -> Result<Vec<DiskRoot>, String> {
    let mut roots = BTreeSet::new();
    for resource in resources {
        let source = resource.disk.as_ref().and_then(|d| d.source.as_ref());
        let Some(source) = source else { continue };
        let missing = |kind: &str| {
            let resource = tepui_model::resources::describe(resource);
            format!("{kind} disk root directory is not specified '{resource}'")
        };
        match source.r#type() {
            source::Type::Path => {
                let root = source.path.as_ref().and_then(|path| path.root.as_ref());
                roots.insert(DiskRoot::Path(root.ok_or_else(|| missing("PATH"))?.into()));
            }
            source::Type::Mount => {
                let root = source.mount.as_ref().and_then(|mount| mount.root.as_ref());
                roots.insert(DiskRoot::Mount(
                    root.ok_or_else(|| missing("MOUNT"))?.into(),
                ));
            }
            source::Type::Block | source::Type::Raw | source::Type::Unknown => {}
        }
    }
    Ok(roots.into_iter().collect())
}

/// Whether the flag speaks of a resource at all: `cpus:0` means none, not the detected amount.
fn flag_names(flag: &str, name: &str) -> bool {
    if flag.trim_start().starts_with('[') {
        return flag.contains(&format!("\"{name}\""));
    }
    flag.split(';').any(|part| {
        part.split([':', '('])
            .next()
            .is_some_and(|n| n.trim() == name)
    })
}

/// Attributes to register.
pub fn attributes(flag: &str) -> Result<Vec<v1::Attribute>, AttributeError> {
    Ok(Attributes::parse(flag)?.to_proto())
}

/// What is allocated to executors and tasks.
pub fn allocated(view: &View) -> Resources {
    let mut used = Resources::new();
    let mut add = |list: &[v1::Resource]| {
        Resources::from_proto(list)
            .iter()
            .for_each(|r| used.add_one(r.clone()))
    };
    for framework in view.frameworks.values() {
        framework
            .pending
            .iter()
            .for_each(|task| add(&task.resources));
        for executor in framework.executors.values() {
            add(&executor.info.resources);
            executor.queued.iter().for_each(|task| add(&task.resources));
            executor
                .launched
                .values()
                .for_each(|task| add(&task.resources));
        }
    }
    used
}

/// Name, total and used amount of the resources that gauges exist for: `cpus`, …, and `cpus_revocable`, …
/// for those that are oversubscribed.
pub(crate) fn totals(view: &View) -> [(String, f64, f64); 8] {
    let used = allocated(view);
    let (plain, revocable) = (used.non_revocable(), used.revocable());
    let none = Resources::new();
    let oversubscribed = view.oversubscribed.as_deref().unwrap_or(&none);
    const NAMES: [&str; 4] = ["cpus", "gpus", "mem", "disk"];
    let amount = |resources: &Resources, name| resources.scalar(name).map_or(0.0, |s| s.to_f64());
    std::array::from_fn(|n| {
        let name = NAMES[n % 4];
        match n {
            0..4 => (
                name.to_owned(),
                amount(&view.total, name),
                amount(&plain, name),
            ),
            _ => (
                format!("{name}_revocable"),
                amount(oversubscribed, name),
                amount(&revocable, name),
            ),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MACHINE: Detected = Detected {
        cpus: 4,
        mem_mb: 8192,
        disk_mb: 100_000,
    };

    fn text(flag: &str) -> String {
        Resources::from_proto(&startup(flag, "*", MACHINE).unwrap()).to_string()
    }

    #[test]
    fn without_a_flag_the_machine_is_offered() {
        assert_eq!(
            text(""),
            "cpus:4; mem:7168; disk:94880; ports:[31000-32000]"
        );
    }

    #[test]
    fn the_flag_comes_first_and_the_rest_is_filled_in() {
        assert_eq!(
            text("ports(*):[4000-5000, 7000-8000];cpus:2.5"),
            "ports:[4000-5000, 7000-8000]; cpus:2.5; mem:7168; disk:94880"
        );
    }

    #[test]
    fn small_machines_offer_half() {
        let small = Detected {
            cpus: 1,
            mem_mb: 1500,
            disk_mb: 800,
        };
        let resources = Resources::from_proto(&startup("", "*", small).unwrap());
        assert_eq!(
            (resources.mem().to_f64(), resources.disk().to_f64()),
            (750.0, 400.0)
        );
    }

    #[test]
    fn zero_in_the_flag_means_none() {
        assert!(!text("cpus:0").contains("cpus"));
    }
}
