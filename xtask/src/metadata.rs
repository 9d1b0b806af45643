//! What `cargo metadata` says, as far as the checks here need it: packages, targets and the resolved graph.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// The platform whose dependencies count: what is only pulled in elsewhere is not what we ship.
const PLATFORM: &str = "x86_64-unknown-linux-gnu";

/// One package of the graph.
#[derive(Debug, Clone, Default)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) license: Option<String>,
    pub(crate) source: Option<String>,
    pub(crate) manifest_dir: PathBuf,
    pub(crate) target_roots: Vec<PathBuf>,
    /// Ids of what it links: normal dependencies on the platform, not build or dev ones.
    pub(crate) normal_dependencies: Vec<String>,
}

/// The packages by id, and which are ours.
#[derive(Debug, Default)]
pub(crate) struct Metadata {
    packages: BTreeMap<String, Package>,
    members: Vec<String>,
}

impl Metadata {
    pub(crate) fn load(root: &Path) -> Result<Self, String> {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let output = Command::new(cargo)
            .args([
                "metadata",
                "--format-version",
                "1",
                "--filter-platform",
                PLATFORM,
            ])
            .current_dir(root)
            .output()
            .map_err(|error| format!("cargo metadata: {error}"))?;
        if !output.status.success() {
            return Err(format!(
                "cargo metadata: {}",
                String::from_utf8_lossy(&output.stderr)
            ));
        }
        let json = serde_json::from_slice(&output.stdout)
            .map_err(|error| format!("cargo metadata: {error}"))?;
        Ok(Self::from_json(&json))
    }

    pub(crate) fn from_json(json: &Value) -> Self {
        let mut packages = BTreeMap::new();
        for package in list(&json["packages"]) {
            packages.insert(text(&package["id"]), package_from(package));
        }
        for node in list(&json["resolve"]["nodes"]) {
            if let Some(package) = packages.get_mut(&text(&node["id"])) {
                package.normal_dependencies = list(&node["deps"])
                    .filter(|dep| is_normal(dep))
                    .map(|dep| text(&dep["pkg"]))
                    .collect();
            }
        }
        let members = list(&json["workspace_members"]).map(text).collect();
        Metadata { packages, members }
    }

    pub(crate) fn members(&self) -> impl Iterator<Item = (&str, &Package)> {
        self.members
            .iter()
            .filter_map(|id| self.packages.get(id).map(|package| (id.as_str(), package)))
    }

    pub(crate) fn member(&self, name: &str) -> Option<(&str, &Package)> {
        self.members().find(|(_, package)| package.name == name)
    }

    /// Only packages that the graph resolves to: `packages` also lists what other platforms would need.
    pub(crate) fn packages(&self) -> impl Iterator<Item = &Package> {
        self.packages.values()
    }

    pub(crate) fn package(&self, id: &str) -> Option<&Package> {
        self.packages.get(id)
    }
}

fn package_from(json: &Value) -> Package {
    let manifest = PathBuf::from(text(&json["manifest_path"]));
    Package {
        name: text(&json["name"]),
        version: text(&json["version"]),
        license: json["license"].as_str().map(str::to_owned),
        source: json["source"].as_str().map(str::to_owned),
        manifest_dir: manifest.parent().map(Path::to_owned).unwrap_or_default(),
        target_roots: list(&json["targets"])
            .map(|target| PathBuf::from(text(&target["src_path"])))
            .collect(),
        normal_dependencies: Vec::new(),
    }
}

/// A dependency may be several kinds at once; null is a normal one.
fn is_normal(dependency: &Value) -> bool {
    list(&dependency["dep_kinds"]).any(|kind| kind["kind"].is_null())
}

fn list(json: &Value) -> impl Iterator<Item = &Value> {
    json.as_array().into_iter().flatten()
}

fn text(json: &Value) -> String {
    json.as_str().unwrap_or_default().to_owned()
}
