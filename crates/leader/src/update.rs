//! `UpdateSlaveMessage`: what followers have besides what they registered with. Revocable resources,
//! resource providers and theirs, and operations.
//!
//! Follows `Master::updateSlave` in `src/master/master.cpp`. Where the reference ends itself since a
//! follower knows of an operation of a provider that the leader does not, this leader takes it over.

use crate::{
    Leader,
    followers::own,
    operations::{OperationKey, is_pending, kept},
    validate,
    view::Provider,
};
use std::{collections::BTreeSet, sync::Arc};
use tepui_model::{
    FollowerId, FrameworkId, OfferId,
    resources::{Resources, operations, upgrade},
};
use tepui_protocol::{
    internal::{self, reconcile_operations_message as asked, update_slave_message as reported},
    peer::Pid,
    v1,
};

/// What a message brought.
#[derive(Default)]
struct News {
    /// Operations that the leader knows and the follower did not name.
    missing: Vec<asked::Operation>,
    /// Operations of frameworks that are here keep what the allocator takes for free.
    held: bool,
    /// Providers have something else than before.
    providers: bool,
}

impl Leader {
    /// `UpdateSlaveMessage`
    pub(crate) fn update_follower(
        &mut self,
        from: &Pid,
        mut message: internal::UpdateSlaveMessage,
    ) {
        self.count("master/messages_update_slave");
        let id = FollowerId::from(&message.slave_id);
        if self.follower_saying(from, &message.slave_id).is_none() {
            return self.ignore(format!(
                "Ignored an update of the follower {id} from {from}, which is not known as it"
            ));
        }
        if let Err(error) = validate::message::update_follower(&message) {
            return self.ignore(format!("Dropped an update of the follower {id}: {error}"));
        }
        normalize(&mut message);
        let Some(follower) = self.state.follower_mut(&id) else {
            return;
        };
        follower.unheard = false;
        if let Some(version) = message.resource_version_uuid {
            follower.resource_version = Some(version);
        }
        let before = follower.total.clone();
        if message.update_oversubscribed_resources != Some(false) {
            let kept = |r: &tepui_model::resources::Resource| {
                !r.is_revocable() || r.provider_id().is_some()
            };
            follower.total = follower.total.filter(kept)
                + &Resources::from_proto(&message.oversubscribed_resources).revocable();
        }
        let mut news = News::default();
        self.learn_operations(&id, message.operations.unwrap_or_default(), &mut news);
        if let Some(providers) = message.resource_providers {
            self.learn_providers(&id, providers.providers, &mut news);
        }
        self.settle_update(&id, &before, news);
    }

    /// The allocator and the frameworks hear of what changed.
    fn settle_update(&mut self, id: &FollowerId, before: &Resources, news: News) {
        let Some(follower) = self.state.follower_mut(id) else {
            return;
        };
        let total = follower.total.clone();
        let revocable = total.revocable() != before.revocable();
        if total != *before {
            follower.shrunk |= !total.contains(before);
        }
        if total != *before || news.held {
            self.rescind_offers_where(id, |offered| {
                news.held
                    || (revocable && !offered.revocable().is_empty())
                    || (news.providers && offered.iter().any(|r| r.provider_id().is_some()))
            });
        }
        match news.held {
            true => self.allocate_to_known(id),
            false => self.tell_total(id),
        }
        if !news.missing.is_empty()
            && let Some(pid) = self.state.follower(id).map(|f| f.pid.clone())
        {
            let message = internal::ReconcileOperationsMessage {
                operations: news.missing,
                framework_id: None,
            };
            self.send(pid, message);
        }
        self.may_be_drained(id);
    }

    pub(crate) fn rescind_offers_where(
        &mut self,
        id: &FollowerId,
        is_affected: impl Fn(&Resources) -> bool,
    ) {
        let Some(follower) = self.state.follower(id) else {
            return;
        };
        let out: Vec<OfferId> = follower
            .offers
            .keys()
            .filter(|offer| {
                let entry = self.state.offer(offer);
                entry.is_some_and(|entry| is_affected(&entry.resources))
            })
            .cloned()
            .collect();
        for offer in out {
            self.rescind_offer(&offer);
        }
    }

    /// Operations on the follower's own resources, which it knows of.
    fn learn_operations(
        &mut self,
        id: &FollowerId,
        reported: reported::Operations,
        news: &mut News,
    ) {
        self.miss_operations(id, None, &reported, news);
        for operation in reported.operations {
            let key = (id.clone(), operation.uuid.value.clone());
            if self.state.operation(&key).is_none() {
                self.learn_operation(id, operation, news);
            }
        }
    }

    fn learn_operation(&mut self, id: &FollowerId, operation: v1::Operation, news: &mut News) {
        let framework = operation.framework_id.as_ref().map(FrameworkId::from);
        let known = framework.is_some_and(|id| self.state.framework(&id).is_some());
        news.held |= known && !kept(&operation).is_empty();
        self.enter_operation(id, operation);
    }

    /// The leader knows operations that the follower does not name: it is asked for them.
    fn miss_operations(
        &self,
        id: &FollowerId,
        provider: Option<&v1::ResourceProviderId>,
        reported: &reported::Operations,
        news: &mut News,
    ) {
        let Some(follower) = self.state.follower(id) else {
            return;
        };
        let named: BTreeSet<&[u8]> = (reported.operations.iter())
            .map(|operation| operation.uuid.value.as_ref())
            .collect();
        for (uuid, operation) in follower.operations.iter() {
            let own = operations::provider_of(&operation.info) == provider;
            if own && !named.contains(uuid.as_ref()) {
                news.missing.push(asked::Operation {
                    operation_uuid: Some(operation.uuid.clone()),
                    operation_id: None,
                    resource_provider_id: provider.cloned(),
                });
            }
        }
    }

    fn learn_providers(
        &mut self,
        id: &FollowerId,
        reported: Vec<reported::ResourceProvider>,
        news: &mut News,
    ) {
        let mut gone: BTreeSet<String> = self
            .state
            .follower(id)
            .map(|follower| follower.providers.keys().cloned().collect())
            .unwrap_or_default();
        for provider in reported {
            let name = provider.info.as_ref().and_then(|info| info.id.as_ref());
            gone.remove(name.map_or("", |id| &id.value));
            self.learn_provider(id, provider, news);
        }
        for name in gone {
            for key in self.operations_of_provider(id, &name) {
                self.drop_operation(&key);
            }
            if let Some(follower) = self.state.follower_mut(id) {
                follower.providers.remove_mut(&name);
            }
            self.replace_provided(id, &name, &Resources::new(), news);
        }
    }

    fn operations_of_provider(&self, id: &FollowerId, name: &str) -> Vec<OperationKey> {
        let Some(follower) = self.state.follower(id) else {
            return Vec::new();
        };
        let is_its = |operation: &v1::Operation| {
            let provider = operations::provider_of(&operation.info);
            provider.is_some_and(|provider| provider.value == name)
        };
        (follower.operations.iter())
            .filter(|(_, operation)| is_its(operation))
            .map(|(uuid, _)| (id.clone(), uuid.clone()))
            .collect()
    }

    fn learn_provider(
        &mut self,
        id: &FollowerId,
        reported: reported::ResourceProvider,
        news: &mut News,
    ) {
        let Some((info, provider)) = reported
            .info
            .and_then(|info| Some((info.clone(), info.id?)))
        else {
            return;
        };
        self.miss_operations(id, Some(&provider), &reported.operations, news);
        let mut fresh = Vec::new();
        for operation in reported.operations.operations {
            let key = (id.clone(), operation.uuid.value.clone());
            match self.state.operation(&key) {
                None => fresh.push(operation),
                // What it made is part of the total that comes along.
                Some(known) if is_pending(known) && !is_pending(&operation) => {
                    self.apply_status(&key, &operation.latest_status, false);
                }
                Some(_) => {}
            }
        }
        let total = Resources::from_proto(&reported.total_resources);
        self.replace_provided(id, &provider.value, &total, news);
        if let Some(follower) = self.state.follower_mut(id) {
            let entry = Provider {
                info,
                total,
                version: reported.resource_version_uuid,
            };
            follower
                .providers
                .insert_mut(provider.value, Arc::new(entry));
        }
        for operation in fresh {
            self.learn_operation(id, operation, news);
        }
    }

    /// All that a provider has, but what orphans keep of it, is part of its follower's total.
    fn replace_provided(
        &mut self,
        id: &FollowerId,
        provider: &str,
        total: &Resources,
        news: &mut News,
    ) {
        let mut provided = total.clone();
        for key in self.operations_of_provider(id, provider) {
            if self.state.is_orphan(&key)
                && let Some(operation) = self.state.operation(&key)
            {
                provided = provided.saturating_sub(&kept(operation).unallocated());
            }
        }
        let Some(follower) = self.state.follower_mut(id) else {
            return;
        };
        let others = follower.total.filter(|r| r.provider_id() != Some(provider));
        let next = others + &provided;
        if next != follower.total {
            follower.total = next;
            news.providers = true;
        }
    }
}

/// Into the one resource format.
fn normalize(message: &mut internal::UpdateSlaveMessage) {
    fn operations_of(operations: &mut reported::Operations) {
        for operation in &mut operations.operations {
            operations::named_mut(&mut operation.info)
                .into_iter()
                .for_each(upgrade);
        }
    }
    message.oversubscribed_resources.iter_mut().for_each(own);
    message.operations.iter_mut().for_each(operations_of);
    let providers = message.resource_providers.iter_mut();
    for provider in providers.flat_map(|all| &mut all.providers) {
        provider.total_resources.iter_mut().for_each(own);
        operations_of(&mut provider.operations);
    }
}
