//! Becoming the one who writes.

use super::{
    Damage, Fault, Limits, Nodes, Operation, WriteError,
    layout::{self, Head, Totals},
    read::{self, Raw},
    write::Sharded,
};
use std::collections::BTreeMap;

/// How often another one's last write may come in between.
const ATTEMPTS: usize = 20;

/// What is read on taking over: the entries, by key.
type Entries = BTreeMap<String, Vec<u8>>;

impl<N: Nodes> Sharded<N> {
    /// Shuts out whoever wrote before, and reads everything.
    ///
    /// `member` is the full path of this leader's membership znode; without one, nothing but the
    /// next take-over fences. `writer` must never have been used before. `cluster_id` is that of a
    /// registry which is made now.
    pub fn take_over(
        mut nodes: N,
        root: &str,
        member: Option<&str>,
        writer: &str,
        cluster_id: &str,
        limits: Limits,
    ) -> Result<(Self, Entries), Fault<N::Error>> {
        make_ancestors(&mut nodes, root)?;
        nodes.sync(root).map_err(Fault::Nodes)?;
        let (head, version) = claim(&mut nodes, root, member, writer, cluster_id)?;
        let raw = Raw::read(&mut nodes, root, &limits)?;
        // Whatever was read is only ours if nobody has taken over meanwhile.
        match read::read_head(&mut nodes, root)? {
            Some((node, Ok(found))) if node.version == version && found == head => {}
            Some((_, Ok(_)) | (_, Err(_))) | None => return Err(Fault::Deposed),
        }
        raw.sound(&head)?;
        let entries = raw.entries();
        let member = member.map(str::to_owned);
        let sharded = Self::new(nodes, root, member, head, version, raw, limits);
        Ok((sharded, entries))
    }
}

/// Makes the nodes that the others are in.
fn make_ancestors<N: Nodes>(nodes: &mut N, root: &str) -> Result<(), Fault<N::Error>> {
    let slashes = root.match_indices('/').map(|(index, _)| index);
    let mut paths: Vec<String> = slashes
        .filter(|index| *index > 0)
        .map(|index| root[..index].to_owned())
        .collect();
    paths.extend([
        root.to_owned(),
        layout::shards_path(root),
        layout::long_path(root),
    ]);
    let read = nodes.read(&paths).map_err(Fault::Nodes)?;
    for (path, node) in paths.into_iter().zip(read) {
        if node.is_some() {
            continue;
        }
        let create = [Operation::Create {
            path,
            data: Vec::new(),
        }];
        loop {
            match nodes.write(&create) {
                // Somebody else was faster, or it was us.
                Ok(()) | Err(WriteError::Refused { .. }) => break,
                Err(WriteError::Lost) => {}
                Err(WriteError::Failed(error)) => return Err(Fault::Nodes(error)),
            }
        }
    }
    Ok(())
}

/// Writes the head with the next epoch. Returns it, and its version.
fn claim<N: Nodes>(
    nodes: &mut N,
    root: &str,
    member: Option<&str>,
    writer: &str,
    cluster_id: &str,
) -> Result<(Head, i32), Fault<N::Error>> {
    for _ in 0..ATTEMPTS {
        let found = read::read_head(nodes, root)?;
        let (head, version) = match found {
            None => {
                refuse_headless(nodes, root)?;
                (first_head(writer, cluster_id), None)
            }
            Some((_, Err(damage))) => return Err(damage.into()),
            Some((node, Ok(head))) => {
                read::refuse_later(&head)?;
                (next_head(head, writer), Some(node.version))
            }
        };
        let (writes, left_at) = match version {
            None => (vec![create(root, &head)], 0),
            Some(version) => head.over(root, version),
        };
        let check = member.map(|member| Operation::Check {
            path: member.to_owned(),
            version: None,
        });
        let fenced = usize::from(check.is_some());
        let operations: Vec<_> = check.into_iter().chain(writes).collect();
        loop {
            match nodes.write(&operations) {
                Ok(()) => return Ok((head, left_at)),
                Err(WriteError::Lost) => {}
                Err(WriteError::Failed(error)) => return Err(Fault::Nodes(error)),
                Err(WriteError::Refused { index }) if index < fenced => return Err(Fault::Deposed),
                Err(WriteError::Refused { .. }) => break,
            }
        }
        // Refused since it had been carried out, or since another one's last write came before.
        if let Some((node, Ok(found))) = read::read_head(nodes, root)?
            && found == head
        {
            return Ok((found, node.version));
        }
    }
    Err(Fault::Restless)
}

fn refuse_headless<N: Nodes>(nodes: &mut N, root: &str) -> Result<(), Fault<N::Error>> {
    let shards = nodes
        .children(&layout::shards_path(root))
        .map_err(Fault::Nodes)?;
    match shards {
        Some(shards) if !shards.is_empty() => Err(Damage::NoHead {
            path: layout::head_path(root),
        }
        .into()),
        Some(_) | None => Ok(()),
    }
}

fn create(root: &str, head: &Head) -> Operation {
    Operation::Create {
        path: layout::head_path(root),
        data: layout::seal(prost::Message::encode_to_vec(head)),
    }
}

fn first_head(writer: &str, cluster_id: &str) -> Head {
    Head {
        format: layout::FORMAT,
        entries_format: crate::registry::FORMAT,
        cluster_id: cluster_id.to_owned(),
        epoch: 1,
        writer: writer.to_owned(),
        sequence: 0,
        totals: Totals::default(),
    }
}

fn next_head(last: Head, writer: &str) -> Head {
    Head {
        format: layout::FORMAT,
        entries_format: crate::registry::FORMAT,
        epoch: last.epoch + 1,
        writer: writer.to_owned(),
        sequence: 0,
        ..last
    }
}
