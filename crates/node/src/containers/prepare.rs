//! What comes before the start of a command: user, plan, sandbox, URIs.

use crate::fetcher::{FetchJob, Fetcher};
use std::{
    fs, io,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    sync::Arc,
};
use tepui_containers::{
    linux,
    plan::{HostFacts, Identity, ProcessPlan, parent_sandbox, plan, sandbox_links},
};
use tepui_model::container::{ContainerId, LaunchSpec, LaunchStep};
use tokio::sync::watch;

/// Permissions of a sandbox: its owner and group (`src/slave/paths.cpp`).
pub const SANDBOX_MODE: u32 = 0o750;

/// A launch that failed.
pub(super) type Failed = (LaunchStep, String);

/// Does all of it. `made` hears of the sandbox once that exists.
pub(super) async fn prepare(
    spec: Box<LaunchSpec>,
    fetcher: Fetcher,
    state: Option<Arc<Path>>,
    cancel: watch::Receiver<bool>,
    made: impl FnOnce(PathBuf) + Send,
) -> Result<Box<ProcessPlan>, Failed> {
    let container = spec.container.clone();
    let (sandbox, uris) = (spec.sandbox.clone(), spec.uris.clone());
    let planned = tokio::task::spawn_blocking(move || plan_and_make(&spec, state)).await;
    let plan = planned.map_err(|_| (LaunchStep::Start, "The agent is stopping".to_owned()))??;
    made(sandbox.clone());
    if !uris.is_empty() {
        let job = FetchJob {
            uris,
            sandbox,
            user: plan.identity.clone(),
        };
        let fetched = fetcher.fetch(job, cancel).await;
        fetched.map_err(|error| {
            (
                LaunchStep::Fetch,
                fetch_failed(&container, &error.to_string()),
            )
        })?;
    }
    Ok(plan)
}

/// The sentence that the reference's agent begins so (`src/slave/containerizer/fetcher.cpp`).
fn fetch_failed(container: &ContainerId, cause: &str) -> String {
    format!("Failed to fetch all URIs for container '{container}': {cause}")
}

fn plan_and_make(spec: &LaunchSpec, state: Option<Arc<Path>>) -> Result<Box<ProcessPlan>, Failed> {
    let start = |text: String| (LaunchStep::Start, text);
    let mut host = linux::host_facts(spec.user.as_deref())
        .map_err(|e| start(format!("Failed to look up a user: {e}")))?;
    host.state = state.map(|state| state.to_path_buf());
    let plan = plan(spec, &host).map_err(|error| start(error.to_string()))?;
    make_sandbox_for(
        &spec.sandbox,
        plan.identity.as_ref(),
        spec.latest.as_deref(),
    )
    .map_err(|error| {
        let text = format!(
            "Failed to create sandbox '{}': {error}",
            spec.sandbox.display()
        );
        (LaunchStep::Sandbox, text)
    })?;
    let links = sandbox_links(spec).map_err(|error| start(error.to_string()))?;
    if let Some(parent) = parent_sandbox(spec).filter(|_| !links.is_empty()) {
        linux::link_sandbox(parent, &spec.sandbox, &links).map_err(|error| {
            let sandbox = spec.sandbox.display();
            let text = format!("Failed to link volumes into sandbox '{sandbox}': {error}");
            (LaunchStep::Sandbox, text)
        })?;
    }
    Ok(Box::new(plan))
}

/// Makes a sandbox for a user by name, and points a link at it.
pub fn make_sandbox(sandbox: &Path, user: Option<&str>, latest: Option<&Path>) -> io::Result<()> {
    let HostFacts { uid, users, .. } = linux::host_facts(user)?;
    // Only root can give it away; everybody else owns what they make.
    let identity = users.into_values().flatten().next().filter(|_| uid == 0);
    make_sandbox_for(sandbox, identity.as_ref(), latest)
}

fn make_sandbox_for(
    sandbox: &Path,
    owner: Option<&Identity>,
    latest: Option<&Path>,
) -> io::Result<()> {
    let fresh = fs::symlink_metadata(sandbox).is_err();
    linux::create_sandbox(sandbox, owner, None)?;
    if fresh {
        fs::set_permissions(sandbox, fs::Permissions::from_mode(SANDBOX_MODE))?;
    }
    latest.map_or(Ok(()), |link| point(link, sandbox))
}

/// Replaces a link in one step: readers find the old target or the new one. The name it has
/// meanwhile is the target's, which is unique, hidden.
fn point(link: &Path, target: &Path) -> io::Result<()> {
    let directory = link.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(directory)?;
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    let fresh = directory.join(format!(".{name}"));
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => symlink(target, &fresh)?,
    }
    fs::rename(&fresh, link)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sandbox_is_closed_to_others_and_linked_to() {
        let dir = tempfile::tempdir().expect("a directory");
        let (sandbox, link) = (dir.path().join("runs/one"), dir.path().join("tasks/a.b"));
        for name in ["one", "two"] {
            let sandbox = sandbox.with_file_name(name);
            make_sandbox(&sandbox, None, Some(&link)).expect("made");
            assert_eq!(fs::read_link(&link).expect("a link"), sandbox);
            let mode = fs::metadata(&sandbox)
                .expect("a sandbox")
                .permissions()
                .mode();
            assert_eq!(mode & 0o777, SANDBOX_MODE);
        }
    }
}
