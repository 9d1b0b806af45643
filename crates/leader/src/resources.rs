//! Operators reserve resources and make volumes, where nothing runs on them: `RESERVE_RESOURCES`,
//! `UNRESERVE_RESOURCES`, `CREATE_VOLUMES`, `DESTROY_VOLUMES`, `GROW_VOLUME`, `SHRINK_VOLUME`, and the
//! endpoints that do the same.
//!
//! Follows `_reserve`, `_operation` and their like in `src/master/http.cpp`, `docs/reservation.md` and
//! `docs/persistent-volume.md`. An operation takes what is free, and offers are taken back for what is
//! missing. Unlike in the reference it is known beforehand whether that will do: an operation that cannot
//! be done takes no offer back.

use crate::{
    Leader, Reply,
    operation::change::{held, place},
    operations::Asker,
    quota::bad,
    validate::operation::{self as validate, Site},
};
use tepui_model::{
    FollowerId, OfferId, Resources,
    resources::{
        operations::{Conversion, conversions, named, named_mut},
        upgrade,
    },
};
use tepui_protocol::v1::{
    master::{Call, call},
    offer::{
        Operation,
        operation::{self, Type},
    },
};

/// What an operator's call asks for, and where. `None`: it is about something else.
pub(crate) fn asked(call: &Call) -> Option<(FollowerId, Operation)> {
    let mut wanted = Operation::default();
    let at = match call.r#type() {
        call::Type::ReserveResources => {
            let part = call.reserve_resources.clone()?;
            wanted.set_type(Type::Reserve);
            wanted.reserve = Some(operation::Reserve {
                source: part.source,
                resources: part.resources,
            });
            Some(part.agent_id)
        }
        call::Type::UnreserveResources => {
            let part = call.unreserve_resources.clone()?;
            wanted.set_type(Type::Unreserve);
            let resources = part.resources;
            wanted.unreserve = Some(operation::Unreserve { resources });
            Some(part.agent_id)
        }
        call::Type::CreateVolumes => {
            let part = call.create_volumes.clone()?;
            wanted.set_type(Type::Create);
            let volumes = part.volumes;
            wanted.create = Some(operation::Create { volumes });
            Some(part.agent_id)
        }
        call::Type::DestroyVolumes => {
            let part = call.destroy_volumes.clone()?;
            wanted.set_type(Type::Destroy);
            let volumes = part.volumes;
            wanted.destroy = Some(operation::Destroy { volumes });
            Some(part.agent_id)
        }
        call::Type::GrowVolume => {
            let part = call.grow_volume.clone()?;
            wanted.set_type(Type::GrowVolume);
            let (volume, addition) = (part.volume, part.addition);
            wanted.grow_volume = Some(operation::GrowVolume { volume, addition });
            part.agent_id
        }
        call::Type::ShrinkVolume => {
            let part = call.shrink_volume.clone()?;
            wanted.set_type(Type::ShrinkVolume);
            let (volume, subtract) = (part.volume, part.subtract);
            wanted.shrink_volume = Some(operation::ShrinkVolume { volume, subtract });
            part.agent_id
        }
        _ => return None,
    };
    // Nobody is called nothing.
    Some((FollowerId::from(&at.unwrap_or_default()), wanted))
}

impl Leader {
    /// Carries out an operator's operation on what is free or offered: 202, or 409 if something else has
    /// what it takes.
    pub(crate) fn operator_resources(
        &mut self,
        at: &FollowerId,
        mut operation: Operation,
        principal: Option<&str>,
    ) -> Reply {
        if let Err(error) = self.check_resources(at, &mut operation, principal) {
            return bad(error);
        }
        let name = operation.r#type().as_str_name();
        let conversions = match conversions(&operation) {
            Ok(conversions) => conversions,
            Err(error) => return bad(format!("Invalid {name} operation: {error}")),
        };
        if operation.r#type() == Type::Destroy {
            // Shared ones may be on offer to several.
            self.rescind_volumes(at, &operation);
        }
        if let Err(message) = self.convert_free(at, &conversions) {
            return Reply::Error {
                status: 409,
                message,
            };
        }
        self.apply_operation(Asker::Operator, at, operation);
        Reply::Accepted
    }

    /// Whether the operation makes sense there; brings its resources into the newest format.
    fn check_resources(
        &self,
        at: &FollowerId,
        operation: &mut Operation,
        principal: Option<&str>,
    ) -> Result<(), String> {
        let follower = self.state.follower(at);
        let follower = follower.ok_or("No agent found with specified ID")?;
        for resource in named(operation) {
            tepui_model::resources::validate_all(std::slice::from_ref(resource))
                .map_err(|error| error.to_string())?;
        }
        named_mut(operation).into_iter().for_each(upgrade);
        let site = Site {
            follower,
            framework: None,
            principal,
        };
        let kind = operation.r#type();
        validate::operation(operation, site).map_err(|error| {
            let name = kind.as_str_name();
            match kind {
                Type::Unreserve | Type::Destroy => format!("Invalid {name} operation: {error}"),
                _ => format!(
                    "Invalid {name} operation on agent {}: {error}",
                    place(follower)
                ),
            }
        })
    }

    /// Changes what is free on a follower, as the allocator has it. Offers there are taken back one by
    /// one until there is enough; none, if there never is.
    fn convert_free(&mut self, at: &FollowerId, conversions: &[Conversion]) -> Result<(), String> {
        let (Some(free), Some(total)) = (self.allocator.available(at), self.allocator.total(at))
        else {
            return Err("No agent found with specified ID".to_owned());
        };
        let free = free.non_shared() + &total.shared();
        let offers: Vec<(OfferId, Resources)> = (self.state.follower(at).into_iter())
            .flat_map(|follower| follower.offers.keys())
            .filter_map(|id| Some((id, self.state.offer(id)?)))
            .map(|(id, offer)| (id.clone(), offer.resources.clone().unallocated()))
            .collect();
        let wanted: Resources = conversions.iter().map(|c| &c.consumed).sum();
        let (mut missing, mut offers) = (wanted.saturating_sub(&free), offers.into_iter());
        let within_reach = offers
            .clone()
            .fold(missing.clone(), |missing, (_, offered)| {
                missing.saturating_sub(&offered)
            });
        if !within_reach.is_empty() {
            let all = offers.fold(free, |all, (_, offered)| all + &offered);
            return Err(format!("{all} does not contain {wanted}"));
        }
        let conversions = held(conversions);
        while self.allocator.update_available(at, &conversions).is_err() {
            let Some((offer, offered)) = offers.next() else {
                return Err(format!("{missing} is in use"));
            };
            let less = missing.saturating_sub(&offered);
            // Of no use, as long as something is known to be missing.
            if missing.is_empty() || less != missing {
                missing = less;
                self.rescind_offer(&offer);
            }
        }
        Ok(())
    }
}
