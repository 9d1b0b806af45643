//! Persistent volumes in sandboxes: which links a sandbox has, and when tasks may count on them.
//!
//! Containers share the machine's file system, so a volume shows as a symbolic link at its
//! `container_path`, as with the reference's `filesystem/posix` isolator
//! (`src/slave/containerizer/mesos/isolators/filesystem/posix.cpp`). All volumes that an executor and
//! its tasks hold are linked into the executor's sandbox; tasks of a task group get links to those from
//! the default executor (`docs/persistent-volume.md`).
//!
//! A task is delivered once the links it needs are made, and links go with the task they were made for.
//! Only links do: a volume is its directory, which goes by DESTROY alone (`operations.rs`).
//!
//! `/files` does not follow links out of a sandbox. What a volume holds is served because its directory
//! is attached under the names that lead to it there.

use crate::{
    Follower, info,
    io::{Effect, Effects, VolumeLink, VolumeLinks},
    launch::attachments,
    paths,
    state::{Executor, ExecutorKey, Termination},
    view::{ExecutorKind, ExecutorState},
    warn,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
};
use tepui_model::{
    Resources,
    container::{ContainerId, LaunchSpec, LaunchStep},
    resources::Resource,
};
use tepui_protocol::v1::{
    self, TaskState,
    task_status::Reason,
    volume::{Mode, source},
};

/// What the sandbox of an executor shows of volumes.
#[derive(Debug, Default)]
pub(crate) struct Shown {
    /// By the name in the sandbox.
    links: BTreeMap<String, VolumeLink>,
    /// The shell is at work on them; tasks wait in the queue meanwhile.
    changing: bool,
    /// To be launched after that.
    launch: Option<Box<LaunchSpec>>,
    /// It cannot be launched, for this reason.
    refused: Option<String>,
    /// What `/files` serves of them, and from where.
    names: BTreeMap<String, PathBuf>,
}

impl Shown {
    /// Panics if an invariant is broken.
    pub(crate) fn check(&self, state: ExecutorState) {
        let live = state != ExecutorState::Terminated;
        assert!(
            live || !self.changing,
            "links of what has ended are waited for"
        );
        assert!(
            self.refused.is_none(),
            "a launch failed and nobody hears of it"
        );
        assert!(
            self.launch.is_none() || self.changing,
            "a launch waits for nothing"
        );
        for (name, link) in &self.links {
            assert_eq!(name, &link.name);
            assert!(paths::usable(name), "a link called {name:?}");
        }
    }
}

/// Whether there is a persistent volume among resources.
pub(crate) fn any(resources: &[v1::Resource]) -> bool {
    resources.iter().any(is_volume)
}

fn is_volume(resource: &v1::Resource) -> bool {
    let disk = resource.disk.as_ref();
    disk.is_some_and(|disk| disk.persistence.is_some())
}

impl Follower {
    /// Starts a container, once its sandbox shows the volumes of the executor and its first tasks.
    pub(crate) fn launch_with_volumes(
        &mut self,
        key: &ExecutorKey,
        first: &[Arc<v1::TaskInfo>],
        spec: Box<LaunchSpec>,
        fx: &mut Effects,
    ) {
        let Some(executor) = self.executor(key) else {
            return;
        };
        let first = first.iter().flat_map(|task| &task.resources);
        let resources = executor.info.resources.iter().chain(first);
        let wanted = self.wanted(executor, resources.filter(|r| is_volume(r)), fx);
        match wanted {
            Ok(wanted) if wanted.is_empty() => fx.push(Effect::Launch(spec)),
            Ok(wanted) => {
                self.change_links(key, wanted, fx);
                if let Some(executor) = self.executor_mut(key) {
                    executor.volumes.launch = Some(spec);
                }
            }
            Err(why) => {
                if let Some(executor) = self.executor_mut(key) {
                    executor.volumes.refused = Some(why);
                }
            }
        }
    }

    /// The end of one that could not be launched, once its tasks are its own.
    pub(crate) fn end_if_refused(&mut self, key: &ExecutorKey, fx: &mut Effects) {
        let Some(executor) = self.executor_mut(key) else {
            return;
        };
        let container = executor.container.clone();
        if let Some(why) = executor.volumes.refused.take() {
            self.container_failed(&container, LaunchStep::Sandbox, &why, fx);
        }
    }

    /// Whether the sandbox shows all that the queued tasks need. If not, it is being seen to, and
    /// `send_queued` is called again afterwards.
    pub(crate) fn volumes_ready(&mut self, key: &ExecutorKey, fx: &mut Effects) -> bool {
        let Some(executor) = self.executor(key) else {
            return true;
        };
        if executor.volumes.changing {
            return false;
        }
        let own = executor.volumes.links.is_empty() && any(&executor.info.resources);
        if !own && !executor.queued.values().any(|task| any(&task.resources)) {
            return true;
        }
        self.settle_volumes(key, fx)
    }

    /// Makes the links what the executor and its tasks hold by now; `false` while that takes.
    pub(crate) fn settle_volumes(&mut self, key: &ExecutorKey, fx: &mut Effects) -> bool {
        let Some(executor) = self.executor(key) else {
            return true;
        };
        let ending = matches!(
            executor.state,
            ExecutorState::Terminating | ExecutorState::Terminated
        );
        if ending || executor.volumes.changing {
            return false;
        }
        match self.wanted(executor, held(executor), fx) {
            Ok(wanted) => self.change_links(key, wanted, fx),
            Err(why) => {
                self.volumes_failed(key, &why, fx);
                false
            }
        }
    }

    /// After a restart all links are made anew: what was on its way when the follower ended may be
    /// missing. (The reference does so too: `info->resources` is empty after `recover`.)
    pub(crate) fn relink_volumes(&mut self, fx: &mut Effects) {
        let all = self.frameworks.values().flat_map(|framework| {
            let executors = framework.executors.values();
            let live = executors.filter(|e| e.state == ExecutorState::Registering);
            live.map(|executor| (framework.id.clone(), executor.id.clone()))
        });
        for key in all.collect::<Vec<_>>() {
            self.settle_volumes(&key, fx);
        }
    }

    /// The shell has changed the links of a sandbox, or could not.
    pub(crate) fn volumes_linked(
        &mut self,
        container: &ContainerId,
        error: Option<String>,
        fx: &mut Effects,
    ) {
        let Some(key) = self.containers.get(container).cloned() else {
            return;
        };
        let Some(executor) = self.executor_mut(&key) else {
            return;
        };
        executor.volumes.changing = false;
        let launch = executor.volumes.launch.take();
        let state = executor.state;
        match (launch, error) {
            (Some(_), _) if state == ExecutorState::Terminating => {
                // It was given up before it was anything.
                self.executor_terminated(&key, None, fx);
            }
            (Some(_), Some(why)) => {
                self.container_failed(container, LaunchStep::Sandbox, &why, fx);
            }
            (None, Some(why)) => self.volumes_failed(&key, &why, fx),
            (launch, None) => {
                if let Some(spec) = launch {
                    fx.push(Effect::Launch(spec));
                }
                if self.settle_volumes(&key, fx) && state == ExecutorState::Running {
                    self.send_queued(&key, fx);
                }
            }
        }
    }

    /// An executor that runs cannot be given what its tasks need: it ends, as in the reference
    /// (`___run` of `src/slave/slave.cpp`).
    fn volumes_failed(&mut self, key: &ExecutorKey, why: &str, fx: &mut Effects) {
        let state = match self.frameworks.get(&key.0) {
            Some(framework) if framework.partition_aware() => TaskState::TaskGone,
            _ => TaskState::TaskLost,
        };
        warn(
            fx,
            format!(
                "Killing executor {}: its volumes cannot be shown: {why}",
                key.1
            ),
        );
        let reason = Reason::ContainerUpdateFailed;
        let message = format!("Failed to update resources for container: {why}");
        self.kill_executor(
            key,
            Termination {
                state,
                reason,
                message,
            },
            fx,
        );
    }

    /// What has ended shows nothing on `/files`. The links themselves go with the sandbox.
    pub(crate) fn hide_volumes(&mut self, key: &ExecutorKey, fx: &mut Effects) {
        let Some(executor) = self.executor_mut(key) else {
            return;
        };
        let shown = std::mem::take(&mut executor.volumes);
        for name in shown.names.into_keys() {
            fx.push(Effect::Detach { name });
        }
    }

    /// The links that resources ask for.
    fn wanted<'a>(
        &self,
        executor: &Executor,
        volumes: impl Iterator<Item = &'a v1::Resource>,
        fx: &mut Effects,
    ) -> Result<BTreeMap<String, VolumeLink>, String> {
        let mut wanted: BTreeMap<String, VolumeLink> = BTreeMap::new();
        // One by one: those of different tasks differ in what a bag of them would leave out.
        for proto in volumes {
            let resources = Resources::from_proto([proto]);
            let Some(volume) = resources.iter().next() else {
                continue;
            };
            let Some(link) = self.link(executor, volume, fx)? else {
                continue;
            };
            match wanted.get_mut(&link.name) {
                Some(other) if other.volume != link.volume => {
                    return Err(format!(
                        "'{}' and '{}' both are to be '{}' in the sandbox",
                        other.volume.display(),
                        link.volume.display(),
                        link.name
                    ));
                }
                // Who may write keeps that.
                Some(other) => other.read_only &= link.read_only,
                None => drop(wanted.insert(link.name.clone(), link)),
            }
        }
        Ok(wanted)
    }

    fn link(
        &self,
        executor: &Executor,
        volume: &Resource,
        fx: &mut Effects,
    ) -> Result<Option<VolumeLink>, String> {
        let mapping = volume.disk().and_then(|disk| disk.volume.as_ref());
        let Some((mapping, None)) = mapping.map(|mapping| (mapping, volume.provider_id())) else {
            return Ok(None);
        };
        let name = &mapping.container_path;
        if name.contains('/') {
            // As the reference has it: absolute and nested paths are for containers with a file
            // system of their own.
            let text = format!("Not linking {volume}: the container path '{name}' contains slash");
            warn(fx, text);
            return Ok(None);
        }
        let taken = executor.kind == ExecutorKind::Default && is_default_executors(name);
        if taken || !paths::usable(name) {
            return Err(format!("'{name}' cannot be the container path of {volume}"));
        }
        let place = paths::volume(&self.config.work_dir, volume)
            .ok_or_else(|| format!("{volume} has no directory"))?;
        Ok(Some(VolumeLink {
            name: name.clone(),
            give: !(volume.is_shared() && self.is_shown_elsewhere(executor, &place.path)),
            volume: place.path,
            read_only: mapping.mode() == Mode::Ro,
        }))
    }

    /// Whether an executor that lives has a volume too.
    fn is_shown_elsewhere(&self, own: &Executor, volume: &PathBuf) -> bool {
        let all = self.frameworks.values().flat_map(|f| f.executors.values());
        let others = all.filter(|executor| executor.container != own.container);
        let mut links = others.flat_map(|executor| executor.volumes.links.values());
        links.any(|link| &link.volume == volume)
    }

    /// Has the shell change what differs; `true` if nothing does.
    fn change_links(
        &mut self,
        key: &ExecutorKey,
        wanted: BTreeMap<String, VolumeLink>,
        fx: &mut Effects,
    ) -> bool {
        self.serve_volumes(key, &wanted, fx);
        let Some(follower) = self.id.clone() else {
            return true;
        };
        let Some(framework) = self.frameworks.get(&key.0) else {
            return true;
        };
        let Some(executor) = framework.executors.get(&key.1) else {
            return true;
        };
        let without = |of: &BTreeMap<String, VolumeLink>, other: &BTreeMap<String, VolumeLink>| {
            let same = |link: &&VolumeLink| {
                let other = other.get(&link.name);
                other.is_none_or(|other| other.volume != link.volume)
            };
            of.values().filter(same).cloned().collect::<Vec<_>>()
        };
        let gone = without(&executor.volumes.links, &wanted);
        let made = without(&wanted, &executor.volumes.links);
        if gone.is_empty() && made.is_empty() {
            return true;
        }
        for link in &made {
            let shown = format!(
                "{} in container {}",
                link.volume.display(),
                executor.container
            );
            info(fx, format!("Showing volume {shown} as {}", link.name));
            if link.read_only {
                // A link has no mode of its own.
                warn(
                    fx,
                    format!("Allowing read-write access to read-only volume {shown}"),
                );
            }
        }
        let work_dir = &self.config.work_dir;
        fx.push(Effect::LinkVolumes(Box::new(VolumeLinks {
            container: executor.container.clone(),
            sandbox: executor.sandbox.clone(),
            latest: Some(paths::latest_run(work_dir, &follower, &key.0, &key.1)),
            user: self.user_of(&executor.info, &framework.info),
            gone,
            made,
        })));
        if let Some(executor) = self.executor_mut(key) {
            executor.volumes.links = wanted;
            executor.volumes.changing = true;
        }
        false
    }

    /// Attaches volumes where a reader of the sandbox looks for them, and takes back what is gone.
    fn serve_volumes(
        &mut self,
        key: &ExecutorKey,
        links: &BTreeMap<String, VolumeLink>,
        fx: &mut Effects,
    ) {
        let (Some(follower), Some(executor)) = (self.id.clone(), self.executor(key)) else {
            return;
        };
        let inner = inner_names(executor, links);
        let latest = paths::latest_run(&self.config.work_dir, &follower, &key.0, &key.1);
        let bases = attachments(&executor.sandbox, &latest, key);
        let names: BTreeMap<String, PathBuf> = inner
            .iter()
            .flat_map(|(name, link)| {
                let names = bases.iter().map(move |base| format!("{base}/{name}"));
                names.map(|name| (name, link.volume.clone()))
            })
            .collect();
        let before = &executor.volumes.names;
        let gone = before.keys().filter(|name| !names.contains_key(*name));
        for name in gone {
            fx.push(Effect::Detach { name: name.clone() });
        }
        for (name, path) in &names {
            if before.get(name) != Some(path) {
                fx.push(Effect::Attach {
                    path: path.clone(),
                    name: name.clone(),
                });
            }
        }
        if let Some(executor) = self.executor_mut(key) {
            executor.volumes.names = names;
        }
    }
}

/// Directories that the default executor has in its sandbox.
fn is_default_executors(name: &str) -> bool {
    matches!(name, "containers" | "tasks")
}

/// The volumes that an executor and its tasks hold.
fn held(executor: &Executor) -> impl Iterator<Item = &v1::Resource> {
    let queued = executor.queued.values().flat_map(|task| &task.resources);
    let launched = executor.launched.values().flat_map(|task| &task.resources);
    let all = executor.info.resources.iter().chain(queued).chain(launched);
    all.filter(|resource| is_volume(resource))
}

/// Names below the sandbox: those of the links and, for tasks of the default executor, those of the
/// links to them (`attachTaskVolumeDirectory` of `src/slave/slave.cpp`).
fn inner_names<'a>(
    executor: &Executor,
    links: &'a BTreeMap<String, VolumeLink>,
) -> BTreeMap<String, &'a VolumeLink> {
    let mut names: BTreeMap<String, &VolumeLink> = links
        .iter()
        .map(|(name, link)| (name.clone(), link))
        .collect();
    if executor.kind != ExecutorKind::Default {
        return names;
    }
    let queued = executor.queued.iter();
    let queued = queued.map(|(id, task)| (id, &task.resources, task.container.as_ref()));
    let launched = executor.launched.iter();
    let launched = launched.map(|(id, task)| (id, &task.resources, task.container.as_deref()));
    for (id, resources, container) in queued.chain(launched) {
        if !paths::usable(id.as_str()) {
            continue;
        }
        for (path, from) in mappings(resources, container) {
            if let Some(link) = links.get(from) {
                names.insert(format!("tasks/{id}/{path}"), link);
            }
        }
    }
    names
}

/// Path in the task's sandbox, and name in its executor's, of what a task sees of it.
fn mappings<'a>(
    resources: &'a [v1::Resource],
    container: Option<&'a v1::ContainerInfo>,
) -> BTreeSet<(&'a str, &'a str)> {
    let own = resources.iter().filter(|resource| is_volume(resource));
    let own = own.filter_map(|r| r.disk.as_ref()?.volume.as_ref());
    let own = own.map(|volume| {
        (
            volume.container_path.as_str(),
            volume.container_path.as_str(),
        )
    });
    let of_parent = container.into_iter().flat_map(|c| &c.volumes);
    let of_parent = of_parent.filter_map(|volume| {
        let path = volume.source.as_ref()?.sandbox_path.as_ref()?;
        let parent = path.r#type() == source::sandbox_path::Type::Parent;
        parent.then_some((volume.container_path.as_str(), path.path.as_str()))
    });
    own.chain(of_parent).collect()
}
