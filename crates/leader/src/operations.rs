//! Operations on followers' resources, from the moment they are sent until nobody waits for them.
//!
//! Follows `Master::_apply`, `addOperation`, `updateOperation` and `removeOperation` in
//! `src/master/master.cpp`. A follower holds its operations; frameworks know theirs by reference. What
//! an operation does is known before it is done, unless only a resource provider knows it: such a one
//! keeps resources until it has ended. They count as used by its framework. While that is not here,
//! nobody can be said to use them: its operation is an orphan, and they are missing from the follower's
//! total.

use crate::{
    Leader, Level,
    state::{Follower, State},
    view::Provider,
};
use bytes::Bytes;
use std::sync::Arc;
use tepui_model::{
    FollowerId, FrameworkId,
    resources::{
        Format, Resources,
        operations::{self, Conversion, OperationError},
    },
};
use tepui_protocol::{
    internal,
    v1::{self, OperationState, offer::Operation},
};

/// Where an operation is, and the leader's name for it.
pub(crate) type OperationKey = (FollowerId, Bytes);

/// Statuses kept of an operation. Few have more than two.
const MOST_STATUSES: usize = 16;

/// Who wants an operation done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Asker {
    /// By an accepted offer.
    Framework(FrameworkId),
    /// By a call or an endpoint.
    Operator,
}

/// Whether nothing more will become of an operation.
pub(crate) fn is_terminal(state: OperationState) -> bool {
    use OperationState as S;
    matches!(
        state,
        S::OperationFinished
            | S::OperationFailed
            | S::OperationError
            | S::OperationDropped
            | S::OperationGoneByOperator
    )
}

/// Whether an operation is on its way.
pub(crate) fn is_pending(operation: &v1::Operation) -> bool {
    !is_terminal(operation.latest_status.state())
}

/// What an operation keeps from being used: nothing, unless only its provider knows what comes of it.
pub(crate) fn kept(operation: &v1::Operation) -> Resources {
    match is_pending(operation) {
        true => operations::kept(&operation.info),
        false => Resources::new(),
    }
}

fn framework_of(operation: &v1::Operation) -> Option<FrameworkId> {
    operation.framework_id.as_ref().map(FrameworkId::from)
}

/// What an operation kept is free.
#[derive(Debug)]
pub(crate) struct LetGo {
    /// Who held it; nobody, if the operation is an orphan.
    pub(crate) holder: Option<FrameworkId>,
    /// Allocated as the operation said.
    pub(crate) resources: Resources,
}

impl Follower {
    /// What it has becomes something else; what its providers have as well.
    pub(crate) fn convert(&mut self, conversions: &[Conversion]) -> Result<(), OperationError> {
        self.total = self.total.apply(conversions)?;
        for conversion in conversions {
            let mut consumed = conversion.consumed.iter();
            let Some(id) = consumed.next().and_then(|resource| resource.provider_id()) else {
                continue;
            };
            if let Some(provider) = self.providers.get(id)
                && let Ok(total) = provider.total.apply(std::slice::from_ref(conversion))
            {
                let provider = Provider {
                    total,
                    ..Provider::clone(provider)
                };
                self.providers.insert_mut(id.to_owned(), Arc::new(provider));
            }
        }
        Ok(())
    }

    /// The version of its resources, or of those of one of its providers.
    fn version_of(&self, provider: Option<&v1::ResourceProviderId>) -> Option<v1::Uuid> {
        match provider {
            None => self.resource_version.clone(),
            Some(id) => self.providers.get(&id.value).map(|p| p.version.clone()),
        }
    }
}

impl State {
    pub(crate) fn operation(&self, (at, uuid): &OperationKey) -> Option<&Arc<v1::Operation>> {
        self.follower(at)?.operations.get(uuid)
    }

    /// Whether the framework of an operation is not here.
    pub(crate) fn is_orphan(&self, key: &OperationKey) -> bool {
        let framework = self.operation(key).and_then(|o| framework_of(o));
        let orphans = framework.and_then(|framework| self.orphans.get(&framework));
        orphans.is_some_and(|orphans| orphans.contains(key))
    }

    /// Enters an operation on a registered follower.
    pub(crate) fn insert_operation(&mut self, at: &FollowerId, operation: v1::Operation) {
        let key = (at.clone(), operation.uuid.value.clone());
        let Some(follower) = self.follower_mut(at) else {
            return;
        };
        let operation = Arc::new(operation);
        follower
            .operations
            .insert_mut(key.1.clone(), operation.clone());
        self.hold(&key, &operation);
    }

    /// Enters it with its framework, who holds what it keeps; or as an orphan.
    fn hold(&mut self, key: &OperationKey, operation: &v1::Operation) {
        let kept = kept(operation);
        let Some(id) = framework_of(operation) else {
            return;
        };
        let known = self.framework_mut(&id).map(|framework| {
            framework.operations.insert(key.clone());
            if let Some(name) = &operation.info.id {
                let name = name.value.clone();
                framework.operation_ids.insert(name, key.clone());
            }
            framework.used += &kept;
        });
        if known.is_none() {
            let orphans = self.orphans.entry(id.clone()).or_default();
            orphans.insert(key.clone());
        }
        let Some(follower) = self.follower_mut(&key.0).filter(|_| !kept.is_empty()) else {
            return;
        };
        match known {
            Some(()) => follower.use_resources(&id, &kept),
            None => follower.total = follower.total.saturating_sub(&kept.unallocated()),
        }
    }

    /// What an operation keeps is free, or goes to another holder.
    fn release_kept(&mut self, key: &OperationKey, operation: &v1::Operation) -> Option<LetGo> {
        let resources = kept(operation);
        if resources.is_empty() {
            return None;
        }
        let holder = framework_of(operation).filter(|_| !self.is_orphan(key));
        match &holder {
            Some(framework) => self.release(framework, &key.0, &resources),
            None => {
                if let Some(follower) = self.follower_mut(&key.0) {
                    follower.total += resources.clone().unallocated();
                }
            }
        }
        Some(LetGo { holder, resources })
    }

    /// A status of an operation. The first terminal one is its end.
    pub(crate) fn update_operation(
        &mut self,
        key: &OperationKey,
        status: &v1::OperationStatus,
    ) -> Option<LetGo> {
        let mut operation = self.operation(key)?.clone();
        let ends = is_pending(&operation) && is_terminal(status.state());
        let let_go = match ends {
            true => self.release_kept(key, &operation),
            false => None,
        };
        let changed = Arc::make_mut(&mut operation);
        if is_pending(changed) {
            changed.latest_status = status.clone();
        }
        if changed.statuses.last() != Some(status) {
            if changed.statuses.len() >= MOST_STATUSES {
                changed.statuses.remove(0);
            }
            changed.statuses.push(status.clone());
        }
        let follower = self.follower_mut(&key.0)?;
        follower.operations.insert_mut(key.1.clone(), operation);
        let_go
    }

    /// Forgets an operation.
    pub(crate) fn remove_operation(
        &mut self,
        key: &OperationKey,
    ) -> Option<(Arc<v1::Operation>, Option<LetGo>)> {
        let operation = self.operation(key)?.clone();
        let let_go = self.release_kept(key, &operation);
        self.forget_holder(key, &operation);
        let follower = self.follower_mut(&key.0)?;
        follower.operations.remove_mut(&key.1);
        Some((operation, let_go))
    }

    fn forget_holder(&mut self, key: &OperationKey, operation: &v1::Operation) {
        let Some(id) = framework_of(operation) else {
            return;
        };
        if let Some(framework) = self.framework_mut(&id) {
            framework.operations.remove(key);
            // It may have given the id again meanwhile.
            if let Some(name) = operation.info.id.as_ref().map(|id| id.value.as_str())
                && framework.operation_ids.get(name) == Some(key)
            {
                framework.operation_ids.remove(name);
            }
        }
        if let Some(orphans) = self.orphans.get_mut(&id) {
            orphans.remove(key);
            if orphans.is_empty() {
                self.orphans.remove(&id);
            }
        }
    }

    /// The framework of these operations is here: it holds what they keep. Says on which followers
    /// that changed what is free.
    pub(crate) fn adopt_orphans(&mut self, framework: &FrameworkId) -> Vec<FollowerId> {
        let mut changed = Vec::new();
        for key in self.orphans.get(framework).cloned().unwrap_or_default() {
            if self.change_holder(&key) {
                changed.push(key.0);
            }
        }
        changed.dedup();
        changed
    }

    fn change_holder(&mut self, key: &OperationKey) -> bool {
        let Some(operation) = self.operation(key).cloned() else {
            return false;
        };
        let let_go = self.release_kept(key, &operation);
        self.forget_holder(key, &operation);
        self.hold(key, &operation);
        let_go.is_some()
    }

    /// A framework that has just left the table leaves its operations behind. Says on which followers
    /// that changed what there is.
    pub(crate) fn orphan_operations(
        &mut self,
        operations: &std::collections::BTreeSet<OperationKey>,
    ) -> Vec<FollowerId> {
        let mut changed = Vec::new();
        for key in operations {
            let Some(operation) = self.operation(key).cloned() else {
                continue;
            };
            // It held this; its own sums are gone with it.
            let kept = kept(&operation);
            if let Some(framework) = framework_of(&operation)
                && let Some(follower) = self.follower_mut(&key.0)
                && !kept.is_empty()
            {
                follower.release(&framework, &kept);
                changed.push(key.0.clone());
            }
            self.hold(key, &operation);
        }
        changed.dedup();
        changed
    }
}

impl Leader {
    /// Sends an operation to a follower, and takes into account at once what it does. It has been
    /// validated, and the allocator knows.
    pub(crate) fn apply_operation(
        &mut self,
        asker: Asker,
        at: &FollowerId,
        mut operation: Operation,
    ) {
        let kind = operation.r#type();
        let speculative = operations::is_speculative(&operation);
        let framework = match asker {
            Asker::Framework(framework) => Some(framework),
            Asker::Operator => None,
        };
        let Some(follower) = self.state.follower_mut(at) else {
            return;
        };
        if speculative {
            let converted =
                operations::conversions(&operation).and_then(|all| follower.convert(&all));
            if let Err(error) = converted {
                let text = format!("Did not apply {} on {at}: {error}", kind.as_str_name());
                return self.notice(Level::Error, text);
            }
        }
        let (pid, can) = (follower.pid.clone(), follower.can);
        if !can.resource_provider {
            // It knows reservations and volumes as one list only.
            let format = match can.reservation_refinement {
                true => Format::PostRefinement,
                false => Format::PreRefinement,
            };
            let resources = follower.total.to_remember().to_proto_as(format);
            self.send(pid, internal::CheckpointResourcesMessage { resources });
        } else {
            let provider = operations::provider_of(&operation).cloned();
            let version = follower.version_of(provider.as_ref()).unwrap_or_default();
            // Followers know what is theirs, not who holds it.
            if framework.is_none() {
                for resource in operations::named_mut(&mut operation) {
                    resource.allocation_info = None;
                }
            }
            let uuid = v1::Uuid {
                value: Bytes::copy_from_slice(self.rng.uuid().as_bytes()),
            };
            let mut pending = v1::OperationStatus {
                operation_id: operation.id.clone(),
                agent_id: Some(at.to_proto()),
                resource_provider_id: provider.clone(),
                ..Default::default()
            };
            pending.set_state(OperationState::OperationPending);
            let framework_id = framework.as_ref().map(FrameworkId::to_proto);
            let entry = v1::Operation {
                framework_id: framework_id.clone(),
                agent_id: Some(at.to_proto()),
                info: operation.clone(),
                latest_status: pending,
                statuses: Vec::new(),
                uuid: uuid.clone(),
            };
            self.enter_operation(at, entry);
            let message = internal::ApplyOperationMessage {
                framework_id,
                operation_info: operation,
                operation_uuid: uuid,
                resource_version_uuid: internal::ResourceVersionUuid {
                    resource_provider_id: provider,
                    uuid: version,
                },
            };
            self.send(pid, message);
        }
        if let Some(framework) = &framework {
            self.count_operation(framework, kind);
        }
    }

    /// Into the table, and the counters.
    pub(crate) fn enter_operation(&mut self, at: &FollowerId, operation: v1::Operation) {
        let (kind, state) = (operation.info.r#type(), operation.latest_status.state());
        Arc::make_mut(&mut self.metrics).count_operation(kind, state, 1);
        self.state.insert_operation(at, operation);
    }

    /// Nobody waits for it any more, or nobody can tell what becomes of it.
    pub(crate) fn drop_operation(&mut self, key: &OperationKey) {
        let Some((operation, let_go)) = self.state.remove_operation(key) else {
            return;
        };
        let state = operation.latest_status.state();
        if !is_terminal(state) {
            let kind = operation.info.r#type();
            Arc::make_mut(&mut self.metrics).count_operation(kind, state, -1);
        }
        if let Some(let_go) = let_go {
            self.free_kept(&key.0, let_go);
        }
        self.resolve_doubt(&key.0);
        self.may_be_drained(&key.0);
    }

    /// The allocator hears that what an operation kept is free.
    pub(crate) fn free_kept(&mut self, at: &FollowerId, let_go: LetGo) {
        match let_go.holder {
            Some(framework) => self.free(&framework, at, let_go.resources),
            None => self.tell_total(at),
        }
    }

    /// The allocator hears what a follower has.
    pub(crate) fn tell_total(&mut self, at: &FollowerId) {
        if let Some(follower) = self.state.follower(at) {
            let total = follower.total.clone();
            self.allocator.update_follower_total(at, total);
        }
    }

    /// What operations made of a follower's resources is in doubt, and no more operation can change
    /// it: the follower is asked to register again, which says what it has.
    pub(crate) fn resolve_doubt(&mut self, at: &FollowerId) {
        let Some(follower) = self.state.follower_unseen(at) else {
            return;
        };
        let speculates = |operation: &Arc<v1::Operation>| {
            is_pending(operation) && operations::is_speculative(&operation.info)
        };
        if follower.in_doubt && !follower.operations.values().any(speculates) {
            follower.in_doubt = false;
            self.nudge(at);
        }
    }
}
