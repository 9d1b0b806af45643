//! What the processes of a cluster weigh, from `/proc`.
//!
//! PSS counts a page shared by n processes as 1/n in each, so the sum over processes is what they
//! really occupy together. Kernel memory (stacks, page tables, sockets) is not in it.

use std::{collections::HashMap, fs};

/// Sums over the processes of one part, in KiB.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Weight {
    pub(crate) processes: usize,
    pub(crate) pss: u64,
    pub(crate) rss: u64,
}

/// What we run, by part. The tasks' own commands are kept apart.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Weights {
    /// Leader and follower.
    pub(crate) node: Weight,
    /// The one that forks containers.
    pub(crate) launcher: Weight,
    /// One for each container.
    pub(crate) inits: Weight,
    /// Commands of tasks.
    pub(crate) commands: Weight,
}

impl Weights {
    /// Everything that is ours.
    pub(crate) fn ours(&self) -> u64 {
        self.node.pss + self.launcher.pss + self.inits.pss
    }
}

/// Weighs a node and everything below it.
pub(crate) fn weigh(node: u32) -> Weights {
    let mut weights = Weights::default();
    for pid in descendants(node) {
        let Some((pss, rss)) = rollup(pid) else {
            continue;
        };
        let part = match name(pid).as_str() {
            _ if pid == node => &mut weights.node,
            "tepui-launcher" => &mut weights.launcher,
            "tepui-init" => &mut weights.inits,
            _ => &mut weights.commands,
        };
        part.processes += 1;
        part.pss += pss;
        part.rss += rss;
    }
    weights
}

fn descendants(root: u32) -> Vec<u32> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        // After the name, which may hold anything: state, then the parent.
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let parent = stat
            .rsplit(')')
            .next()
            .and_then(|rest| rest.split_whitespace().nth(1)?.parse().ok());
        if let Some(parent) = parent {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut found = vec![root];
    let mut next = 0;
    while let Some(pid) = found.get(next) {
        found.extend(children.remove(pid).unwrap_or_default());
        next += 1;
    }
    found
}

fn name(pid: u32) -> String {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    name.trim_end().to_owned()
}

/// PSS and RSS; none for a process that has ended.
fn rollup(pid: u32) -> Option<(u64, u64)> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let field = |name: &str| -> Option<u64> {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse().ok()
    };
    Some((field("Pss:")?, field("Rss:")?))
}
