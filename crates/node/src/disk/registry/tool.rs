//! What `tepui registry` does: look at a registry, take it out, put one in. For an operator, while
//! no leader runs on the same file; one in ZooKeeper may be looked at at any time.

use super::{
    FILE, RegistryError, RegistryFile, RegistryInZooKeeper, SharedNodes, zookeeper::FOLDER,
};
use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};
use tepui_coordination::{InvalidSource, Source, ZooKeeperUrl};
use tepui_journal::{
    registry::{self as format, Step, Unstorable, sharded},
    replicated_log::{self, LogError, Remark, leveldb::Files},
};
use tepui_protocol::{
    internal,
    json::{self, JsonError, Names},
};
use tepui_zookeeper::{Options, ZooKeeper};

/// How long to look for a server of ZooKeeper.
const PATIENCE: Duration = Duration::from_secs(15);
/// The field of an exported document that the reference's does not have.
const CLUSTER_FIELD: &str = "cluster_id";
/// The reference's directory in its work directory (`src/master/main.cpp`).
const REPLICATED_LOG: &str = "replicated_log";

/// Where a registry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In the work directory of a leader alone.
    WorkDir(PathBuf),
    /// Beside the election of several.
    ZooKeeper(ZooKeeperUrl),
}

impl Place {
    /// From the value of `--zk`.
    pub fn zookeeper(url: &str) -> Result<Self, InvalidSource> {
        match Source::parse(url)? {
            Source::ZooKeeper(url) => Ok(Self::ZooKeeper(url)),
            Source::Address { .. } | Source::File(_) => Err(InvalidSource::Unknown(url.to_owned())),
        }
    }

    /// As it is shown.
    fn shown(&self) -> String {
        match self {
            Self::WorkDir(dir) => dir.join(FILE).display().to_string(),
            Self::ZooKeeper(url) => {
                format!("{}/{FOLDER}", url.to_string().trim_end_matches('/'))
            }
        }
    }
}

/// A command failed.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// The registry cannot be used.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// There is none.
    #[error("there is no registry at {0}")]
    Nothing(String),
    /// It is damaged: see `check`.
    #[error("the registry {place} is damaged: {first}")]
    Damaged {
        /// Where.
        place: String,
        /// The first thing that is wrong.
        first: String,
    },
    /// One that holds something is not overwritten unless asked for.
    #[error("the registry {place} holds {entries} entries already: --overwrite replaces them")]
    NotEmpty {
        /// Where.
        place: String,
        /// How many.
        entries: usize,
    },
    /// What is to be imported cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// Which file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is no JSON document of a registry.
    #[error("{} is no registry: {source}", path.display())]
    Json {
        /// Which.
        path: PathBuf,
        /// Why.
        source: JsonError,
    },
    /// It is a replicated log that cannot be read.
    #[error("cannot read the replicated log {}: {source}", path.display())]
    Log {
        /// Which directory.
        path: PathBuf,
        /// Why.
        source: LogError,
    },
    /// The log holds no registry.
    #[error("the replicated log {} holds no registry", .0.display())]
    EmptyLog(PathBuf),
    /// Something in it has no place in ours.
    #[error(transparent)]
    Unstorable(#[from] Unstorable),
}

/// What is in a registry, in numbers, and what is wrong with it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Report {
    /// Where it is.
    pub place: String,
    /// Empty if it has none.
    pub cluster_id: String,
    /// Format of the entries.
    pub format: u32,
    /// Name and value of what is worth knowing.
    pub facts: Vec<(&'static str, String)>,
    /// Empty if it is sound.
    pub problems: Vec<String>,
}

/// A registry that was taken out.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Exported {
    /// Its content.
    pub registry: internal::Registry,
    /// The cluster's id; empty if it has none.
    pub cluster_id: String,
}

impl Exported {
    /// The document that the reference shows at `/registrar(1)/registry`, with the cluster's id.
    pub fn to_json(&self) -> String {
        let document = json::encode_with(&self.registry, Names::V0);
        let id = serde_json::Value::from(self.cluster_id.as_str());
        match document.strip_prefix('{') {
            Some("}") => format!("{{\"{CLUSTER_FIELD}\":{id}}}"),
            Some(rest) => format!("{{\"{CLUSTER_FIELD}\":{id},{rest}"),
            None => document,
        }
    }
}

/// What is to be imported.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Found {
    /// Its content.
    pub exported: Exported,
    /// What the operator should know about it.
    pub remarks: Vec<Remark>,
}

/// Everything in a registry.
struct Inside {
    cluster_id: String,
    entries: BTreeMap<String, Vec<u8>>,
    report: Report,
}

/// Takes the registry out. Blocks; to be called within a tokio runtime, but not by it.
pub fn export(place: &Place) -> Result<Exported, ToolError> {
    let inside = look(place, false)?;
    if let Some(first) = inside.report.problems.into_iter().next() {
        return Err(ToolError::Damaged {
            place: place.shown(),
            first,
        });
    }
    let registry = format::assemble(inside.entries).map_err(|error| ToolError::Damaged {
        place: place.shown(),
        first: error.to_string(),
    })?;
    Ok(Exported {
        registry,
        cluster_id: inside.cluster_id,
    })
}

/// Looks at everything in the registry. Blocks, as [`export`] does.
pub fn check(place: &Place) -> Result<Report, ToolError> {
    let mut inside = look(place, true)?;
    let mut report = inside.report;
    let entries = std::mem::take(&mut inside.entries);
    let bytes: usize = entries
        .iter()
        .map(|(key, value)| key.len() + value.len())
        .sum();
    let count = entries.len();
    match format::assemble(entries) {
        Ok(registry) => {
            let mut facts = facts(&registry);
            facts.append(&mut report.facts);
            report.facts = facts;
        }
        Err(error) => report.problems.push(error.to_string()),
    }
    report.facts.push(("entries", count.to_string()));
    report.facts.push(("bytes of entries", bytes.to_string()));
    Ok(report)
}

fn facts(registry: &internal::Registry) -> Vec<(&'static str, String)> {
    let count = |count: usize| count.to_string();
    let leader = registry.master.as_ref().map(|leader| &leader.info);
    let leader = leader.map_or("none".to_owned(), |info| match &info.pid {
        Some(pid) => format!("{} ({pid})", info.id),
        None => info.id.clone(),
    });
    let admitted = registry.slaves.as_ref().map_or(&[][..], |all| &all.slaves);
    let drained = admitted
        .iter()
        .filter(|follower| follower.drain_info.is_some());
    let deactivated = admitted.iter().filter(|follower| follower.deactivated());
    let machines = registry
        .machines
        .as_ref()
        .map_or(0, |all| all.machines.len());
    let windows = registry
        .schedules
        .iter()
        .map(|schedule| schedule.windows.len());
    vec![
        ("last leader", leader),
        ("followers", count(admitted.len())),
        ("draining or drained", count(drained.count())),
        ("deactivated", count(deactivated.count())),
        (
            "unreachable",
            count(
                registry
                    .unreachable
                    .as_ref()
                    .map_or(0, |all| all.slaves.len()),
            ),
        ),
        (
            "gone",
            count(registry.gone.as_ref().map_or(0, |all| all.slaves.len())),
        ),
        ("machines", count(machines)),
        ("maintenance windows", count(windows.sum())),
        (
            "quotas",
            count(registry.quota_configs.len() + registry.quotas.len()),
        ),
        ("weights", count(registry.weights.len())),
        (
            "minimum capabilities",
            count(registry.minimum_capabilities.len()),
        ),
    ]
}

fn look(place: &Place, pages: bool) -> Result<Inside, ToolError> {
    match place {
        Place::WorkDir(dir) => look_at_file(place, dir, pages),
        Place::ZooKeeper(url) => look_at_znodes(place, url),
    }
}

fn look_at_file(place: &Place, dir: &Path, pages: bool) -> Result<Inside, ToolError> {
    let path = dir.join(FILE);
    let size = match fs::metadata(&path) {
        Ok(metadata) => metadata.len(),
        // Opening it would make it.
        Err(_) => return Err(ToolError::Nothing(place.shown())),
    };
    let mut file = RegistryFile::open(dir)?;
    if pages {
        file.check_pages()?;
    }
    let cluster_id = file.found_cluster_id()?.unwrap_or_default();
    let entries = file.entries()?;
    let report = Report {
        place: place.shown(),
        cluster_id: cluster_id.clone(),
        format: file.found_format()?.unwrap_or(0),
        facts: vec![("bytes of the file", size.to_string())],
        problems: Vec::new(),
    };
    Ok(Inside {
        cluster_id,
        entries: entries.into_iter().collect(),
        report,
    })
}

fn nodes(url: &ZooKeeperUrl) -> SharedNodes {
    let zookeeper = ZooKeeper::connect(url, &Options::default());
    SharedNodes::new(zookeeper, PATIENCE)
}

fn look_at_znodes(place: &Place, url: &ZooKeeperUrl) -> Result<Inside, ToolError> {
    let mut nodes = nodes(url);
    let root = nodes.root();
    let found = sharded::inspect(&mut nodes, &root);
    let found = found.map_err(|fault| RegistryError::Shared {
        place: place.shown(),
        source: Box::new(fault),
    })?;
    let found = found.ok_or_else(|| ToolError::Nothing(place.shown()))?;
    let facts = [
        ("leaders so far", found.epoch),
        ("writes of the last one", found.sequence),
        ("shards", found.shards as u64),
        ("bytes of the biggest shard", found.shard_bytes_max as u64),
        ("pieces of long values", found.pieces as u64),
        ("leftover pieces", found.leftovers as u64),
        ("bytes of all znodes", found.bytes),
    ];
    let report = Report {
        place: place.shown(),
        cluster_id: found.cluster_id.clone(),
        format: found.entries_format,
        facts: facts.map(|(name, value)| (name, value.to_string())).into(),
        problems: found.damage.iter().map(ToString::to_string).collect(),
    };
    Ok(Inside {
        cluster_id: found.cluster_id,
        entries: found.entries,
        report,
    })
}

/// Reads what is to be imported: a document as exported (or as the reference shows it), the
/// reference's replicated log, or a work directory that holds one.
pub fn read_source(path: &Path) -> Result<Found, ToolError> {
    if path.is_dir() {
        return read_log(path);
    }
    let failed = |source| ToolError::Read {
        path: path.to_owned(),
        source,
    };
    let document = match path.to_str() {
        Some("-") => {
            let mut document = Vec::new();
            io::Read::read_to_end(&mut io::stdin(), &mut document).map_err(failed)?;
            document
        }
        _ => fs::read(path).map_err(failed)?,
    };
    let no_registry = |source| ToolError::Json {
        path: path.to_owned(),
        source,
    };
    let registry = json::decode_with(&document, Names::V0).map_err(no_registry)?;
    let all = json::parse(&document).map_err(no_registry)?;
    let cluster_id = all.get(CLUSTER_FIELD).and_then(|id| id.as_str());
    Ok(Found {
        exported: Exported {
            registry,
            cluster_id: cluster_id.unwrap_or_default().to_owned(),
        },
        remarks: Vec::new(),
    })
}

/// Reads files only: the directory stays as it is.
fn read_log(path: &Path) -> Result<Found, ToolError> {
    let inner = path.join(REPLICATED_LOG);
    let path = if inner.is_dir() {
        inner.as_path()
    } else {
        path
    };
    let mut files = Files::new();
    let failed = |source| ToolError::Read {
        path: path.to_owned(),
        source,
    };
    for entry in fs::read_dir(path).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry.file_type().map_err(failed)?.is_file() {
            let content = fs::read(entry.path()).map_err(failed)?;
            files.insert(entry.file_name().to_string_lossy().into_owned(), content);
        }
    }
    let log = replicated_log::read(&files).map_err(|source| ToolError::Log {
        path: path.to_owned(),
        source,
    })?;
    let registry = log
        .registry
        .ok_or_else(|| ToolError::EmptyLog(path.to_owned()))?;
    Ok(Found {
        exported: Exported {
            registry,
            cluster_id: String::new(),
        },
        remarks: log.remarks,
    })
}

/// Puts a registry in. One that holds more than the name of its last leader is only replaced if
/// `overwrite`. Returns how many entries were written, and the cluster's id: that of the source for
/// a registry which is new. In ZooKeeper, a leader that runs is deposed, and reads anew. Blocks, as
/// [`export`] does.
pub fn import(
    place: &Place,
    source: &Exported,
    overwrite: bool,
) -> Result<(usize, String), ToolError> {
    let puts = format::disassemble(&source.registry)?;
    let fresh = match source.cluster_id.as_str() {
        "" => crate::random::uuid()
            .map_err(RegistryError::Randomness)?
            .to_string(),
        id => id.to_owned(),
    };
    let count = puts.len();
    let replace = |before: &internal::Registry| -> Result<Vec<Step>, ToolError> {
        let bare = internal::Registry {
            master: None,
            ..before.clone()
        };
        let old = format::disassemble(before)?;
        if bare != internal::Registry::default() && !overwrite {
            return Err(ToolError::NotEmpty {
                place: place.shown(),
                entries: old.len(),
            });
        }
        let removals = old.into_iter().filter_map(|step| match step {
            Step::Put(key, _) => Some(Step::Remove(key)),
            Step::Remove(_) => None,
        });
        Ok(removals.chain(puts.clone()).collect())
    };
    let cluster_id = match place {
        Place::WorkDir(dir) => {
            let mut file = RegistryFile::open(dir)?;
            let before = super::Registry::contents(&mut file)?;
            let steps = replace(&before)?;
            let cluster_id = file.adopt_cluster_id(&fresh)?;
            file.write(&steps)?;
            cluster_id
        }
        Place::ZooKeeper(url) => {
            // Before a leader that runs is shut out.
            match look_at_znodes(place, url) {
                Ok(inside) => {
                    let before = format::assemble(inside.entries);
                    let before = before.map_err(|error| ToolError::Damaged {
                        place: place.shown(),
                        first: error.to_string(),
                    })?;
                    replace(&before)?;
                }
                Err(ToolError::Nothing(_)) => {}
                Err(error) => return Err(error),
            }
            let mut shared = RegistryInZooKeeper::new(nodes(url), None);
            let loaded = shared.load_or_make(&fresh)?;
            let steps = replace(&loaded.registry)?;
            let groups: Vec<_> = steps.into_iter().map(|step| vec![step]).collect();
            shared.write(&groups)?;
            loaded.cluster_id
        }
    };
    Ok((count, cluster_id))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recorded() -> PathBuf {
        let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../journal/tests/data");
        data.join("replicated-log-recorded")
    }

    fn content(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
        let entries = fs::read_dir(dir).expect("a directory");
        let paths = entries.map(|entry| entry.expect("an entry").path());
        paths
            .map(|path| (path.clone(), fs::read(&path).expect("a file")))
            .collect()
    }

    #[test]
    fn a_log_of_the_reference_goes_into_a_work_directory_and_out_again() {
        let before = content(&recorded());
        let found = read_source(&recorded()).expect("readable");
        assert_eq!(found.remarks, []);
        assert_eq!(content(&recorded()), before, "the directory stays as it is");

        let dir = tempfile::tempdir().expect("a directory");
        let place = Place::WorkDir(dir.path().join("leader"));
        assert!(matches!(check(&place), Err(ToolError::Nothing(_))));
        assert!(matches!(export(&place), Err(ToolError::Nothing(_))));
        let (count, cluster_id) = import(&place, &found.exported, false).expect("imported");
        assert_eq!(count, 2);
        let exported = export(&place).expect("exported");
        assert_eq!(exported.registry, found.exported.registry);
        assert_eq!(exported.cluster_id, cluster_id);
        let report = check(&place).expect("readable");
        assert_eq!(report.problems, Vec::<String>::new());
        assert!(report.facts.contains(&("followers", "1".to_owned())));

        // The document goes into another one, with the cluster's id.
        let document = dir.path().join("registry.json");
        fs::write(&document, exported.to_json()).expect("written");
        let source = read_source(&document).expect("readable");
        assert_eq!(source.exported.cluster_id, cluster_id);
        let other = Place::WorkDir(dir.path().join("other"));
        import(&other, &source.exported, false).expect("imported");
        let again = export(&other).expect("exported");
        assert_eq!(again.to_json(), exported.to_json());
    }

    #[test]
    fn what_holds_something_is_replaced_only_if_asked_for() {
        let dir = tempfile::tempdir().expect("a directory");
        let place = Place::WorkDir(dir.path().to_owned());
        let weights = |role: &str| {
            let info = tepui_protocol::v1::WeightInfo {
                role: Some(role.to_owned()),
                weight: 2.0,
            };
            let mut exported = Exported::default();
            let weight = internal::registry::Weight { info };
            exported.registry.weights.push(weight);
            exported
        };
        let (_, id) = import(&place, &weights("a"), false).expect("imported");
        let refused = import(&place, &weights("b"), false);
        assert!(matches!(
            refused,
            Err(ToolError::NotEmpty { entries: 1, .. })
        ));
        let (_, same) = import(&place, &weights("b"), true).expect("imported");
        assert_eq!(same, id);
        let exported = export(&place).expect("exported");
        assert_eq!(exported.registry, weights("b").registry);
        // One that only knows its last leader holds nothing to lose.
        let mut bare = Exported::default();
        bare.registry.master = Some(Default::default());
        import(&place, &bare, true).expect("imported");
        import(&place, &weights("c"), false).expect("imported");
    }

    #[test]
    fn damage_is_reported_with_the_name_of_the_file() {
        let dir = tempfile::tempdir().expect("a directory");
        let place = Place::WorkDir(dir.path().to_owned());
        let found = read_source(&recorded()).expect("readable");
        import(&place, &found.exported, false).expect("imported");
        let path = dir.path().join(FILE);
        let sound = fs::read(&path).expect("read");
        // What the reports say is of no matter here, but that no damage is taken for content.
        for at in (0..sound.len()).step_by(997) {
            let mut bytes = sound.clone();
            bytes[at] ^= 0x55;
            fs::write(&path, bytes).expect("written");
            match export(&place) {
                Ok(exported) => assert_eq!(exported.registry, found.exported.registry),
                Err(error) => assert!(error.to_string().contains(FILE), "{error}"),
            }
        }
        fs::write(&path, &sound[..sound.len() / 2]).expect("written");
        let error = check(&place).expect_err("torn");
        assert!(error.to_string().contains(FILE), "{error}");
    }
}
