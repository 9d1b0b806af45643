//! Containers that another launcher started: taking charge of them, and their end.

use super::{Container, INIT_ENDED, Launcher};
use crate::{
    linux::{adopted::Adopted, exec::Step, kept},
    message::Report,
    record::State,
};
use rustix::event::epoll;
use std::path::{Path, PathBuf};
use tepui_model::container::ContainerId;

impl Launcher {
    /// Takes charge of a container that another launcher started. One that is over already is
    /// reported like one that ends now.
    pub(super) fn adopt(&mut self, id: ContainerId, directory: PathBuf) {
        if self.inits.contains_key(&id) || self.closing {
            return;
        }
        let Ok(Some(record)) = kept::read(&directory) else {
            return self.report(&Report::Exited {
                container: id,
                status: None,
            });
        };
        // From now on nobody else may think that he is the one.
        if let Some(path) = lock_of(&directory, &id)
            && !self.locks.contains_key(&path)
            && let Ok(Some(lock)) = kept::lock(&path)
        {
            self.locks.insert(path, lock);
        }
        let pid = record.init.pid;
        let mut adopted = Box::new(Adopted::new(directory, record));
        let data = epoll::EventData::new_u64(pid as u64 | INIT_ENDED);
        let alive = adopted.watch(self.pidfds, |pidfd| {
            epoll::add(&self.epoll, pidfd, data, epoll::EventFlags::IN).is_ok()
        });
        let cgroup = adopted.cgroup();
        let container = Container {
            id: id.clone(),
            control: None,
            cgroup,
            plan: None,
            failure: None,
            status: None,
            kept: true,
            adopted: Some(adopted),
        };
        self.adopted_ended(pid);
        self.inits.insert(id, pid);
        self.containers.insert(pid, container);
        if alive {
            self.connect(pid);
        } else {
            self.adopted_ended(pid);
        }
    }

    /// Reaches for an init that is not ours by birth.
    pub(super) fn connect(&mut self, pid: i32) {
        let Some(container) = self.containers.get_mut(&pid) else {
            return;
        };
        if let Some(adopted) = container
            .adopted
            .as_deref()
            .filter(|_| container.control.is_none())
            && let Some(control) = adopted.reach()
        {
            let data = epoll::EventData::new_u64(pid as u64);
            let _ = epoll::add(&self.epoll, &control, data, epoll::EventFlags::IN);
            container.control = Some(control);
        }
    }

    /// After hearing: an adopted init whose socket ended may have ended itself, with nothing else to
    /// tell that.
    pub(super) fn miss(&mut self, pid: i32) {
        let silent = self.containers.get(&pid).and_then(|container| {
            let adopted = container.adopted.as_ref().filter(|a| a.is_unwatched());
            adopted.filter(|_| container.control.is_none())
        });
        let Some(adopted) = silent else { return };
        // Its socket ends a moment before it does. That it lives on and only has another launcher is
        // an error of somebody's, which must not cost it its life.
        let mut patience = 100;
        while adopted.lives() && patience > 0 {
            patience -= 1;
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        if patience > 0 {
            self.adopted_ended(pid);
        }
    }

    /// The init of an adopted container has ended.
    pub(super) fn adopted_ended(&mut self, pid: i32) {
        let container = self.containers.get(&pid);
        if container.is_none_or(|container| container.adopted.is_none()) {
            return;
        }
        self.hear(pid);
        if let Some(mut container) = self.containers.remove(&pid) {
            // What it had no time to say it has written.
            let last = container.adopted.as_ref().and_then(|a| a.last_word());
            match last {
                Some(State::Exited(status)) => container.status = Some(status),
                Some(State::Failed { step, errno }) => {
                    let step = Step::from_number(step).unwrap_or(Step::Execute);
                    container.failure = Some((step, errno));
                }
                Some(State::Running) | None => {}
            }
            self.finish(container);
        }
    }
}

/// The lock of the state directory that holds a container's record.
fn lock_of(directory: &Path, id: &ContainerId) -> Option<PathBuf> {
    let depth = std::iter::successors(Some(id), |id| id.parent.as_deref()).count();
    // `ID`, or `ID/containers/NESTED` and so on.
    let state = directory.ancestors().nth(2 * depth - 1)?;
    Some(crate::record::lock(state))
}
