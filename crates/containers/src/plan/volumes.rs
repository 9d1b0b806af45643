//! What a nested container sees of its parent's sandbox: `SANDBOX_PATH` volumes of type `PARENT`, as
//! links. Others need a mount namespace of the container's own
//! (`src/slave/containerizer/mesos/isolators/volume/sandbox_path.cpp`).

use super::PlanError;
use std::path::{Component, Path, PathBuf};
use tepui_model::container::LaunchSpec;
use tepui_protocol::v1::{self, volume::source};

/// One link to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SandboxLink {
    /// Where, below the container's own sandbox.
    pub path: PathBuf,
    /// What it leads to, below the parent's sandbox. A directory is made where nothing is.
    pub parent: PathBuf,
}

/// The sandbox that a nested container's lies in (`getSandboxPath` of
/// `src/slave/containerizer/mesos/paths.cpp`: `containers/<id>`). `None` for a container that is not
/// nested.
pub fn parent_sandbox(spec: &LaunchSpec) -> Option<&Path> {
    spec.container.parent.as_ref()?;
    spec.sandbox.parent()?.parent()
}

/// The links that a container's volumes come to.
pub fn sandbox_links(spec: &LaunchSpec) -> Result<Vec<SandboxLink>, PlanError> {
    let volumes = spec.container_info.as_ref().map_or(&[][..], |c| &c.volumes);
    let nested = spec.container.parent.is_some();
    volumes.iter().map(|volume| link(volume, nested)).collect()
}

fn link(volume: &v1::Volume, nested: bool) -> Result<SandboxLink, PlanError> {
    use source::{Type, sandbox_path};
    let source = volume.source.as_ref();
    let source = source.filter(|source| source.r#type() == Type::SandboxPath);
    let Some(path) = source.and_then(|source| source.sandbox_path.as_ref()) else {
        return Err(PlanError::Unsupported("Container volumes"));
    };
    match path.r#type {
        Some(kind) if kind == sandbox_path::Type::Parent as i32 => {}
        // A relative path within one's own sandbox is a matter of `ln -s`.
        Some(kind) if kind == sandbox_path::Type::Self_ as i32 => {
            return Err(PlanError::Unsupported("Container volumes of type SELF"));
        }
        _ => {
            return Err(PlanError::Volume(
                "Unknown SANDBOX_PATH volume type".to_owned(),
            ));
        }
    }
    if !nested {
        let text = "SANDBOX_PATH volume PARENT type only works for nested container";
        return Err(PlanError::Volume(text.to_owned()));
    }
    Ok(SandboxLink {
        path: inside(&volume.container_path, "container path")?,
        parent: inside(&path.path, "path")?,
    })
}

/// A path that stays where it begins.
fn inside(path: &str, what: &str) -> Result<PathBuf, PlanError> {
    let mut inner = PathBuf::new();
    for component in Path::new(path).components() {
        match component {
            Component::Normal(name) => inner.push(name),
            Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) => {
                return Err(PlanError::Volume(format!(
                    "The {what} '{path}' in SANDBOX_PATH volume is absolute"
                )));
            }
            Component::ParentDir => {
                return Err(PlanError::Volume(format!(
                    "The {what} '{path}' in SANDBOX_PATH volume leads out of the sandbox"
                )));
            }
        }
    }
    if inner.as_os_str().is_empty() || path.contains('\0') {
        let text = format!("The {what} '{path}' in SANDBOX_PATH volume names nothing");
        return Err(PlanError::Volume(text));
    }
    Ok(inner)
}
