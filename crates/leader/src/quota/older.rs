//! `SET_QUOTA` and `REMOVE_QUOTA`, and the endpoint `/quota` that does the same: a guarantee that is a
//! limit too (`QuotaHandler::_set` and `_remove` in `src/master/quota_handler.cpp`).

use super::{bad, tree::Wanted};
use crate::{Leader, Reply, Via, validate};
use tepui_model::{OfferId, Quota, resources::validate_all};
use tepui_protocol::v1::{
    Resource,
    quota::{QuotaConfig, QuotaRequest},
};

/// What a guarantee of before is now.
pub(super) fn config(role: &str, guarantee: &[Resource]) -> QuotaConfig {
    let scalar = |resource: &Resource| Some((resource.name.clone(), resource.scalar?));
    let amounts: std::collections::BTreeMap<_, _> = guarantee.iter().filter_map(scalar).collect();
    QuotaConfig {
        role: role.to_owned(),
        guarantees: amounts.clone(),
        limits: amounts,
    }
}

impl Leader {
    /// `SET_QUOTA` and `POST /quota`. One that is there cannot be set again.
    pub(crate) fn operator_set_quota(&mut self, request: &QuotaRequest) -> Reply {
        let config = match self.valid_request(request) {
            Ok(config) => config,
            Err(error) => return bad(format!("Failed to validate set quota request: {error}")),
        };
        let wanted = Wanted::new(&self.quotas.by_role, [&config]);
        let guaranteed = wanted.total_guarantees();
        if !request.force()
            && let Err(capacity) = self.can_guarantee(&guaranteed)
        {
            return Reply::Error {
                status: 409,
                message: format!(
                    "Quota guarantees overcommit the cluster (use 'force' to bypass this check): Total quota \
                     guarantees '{guaranteed}' exceed cluster capacity '{capacity}'"
                ),
            };
        }
        self.change_quotas(std::slice::from_ref(&config));
        self.make_room_at_once(&config);
        Reply::Ok
    }

    fn valid_request(&self, request: &QuotaRequest) -> Result<QuotaConfig, String> {
        let role = request.role();
        validate_all(&request.guarantee)
            .map_err(|error| format!("QuotaInfo with invalid resource: {error}"))?;
        validate::quota::request(request)?;
        if !self.config.allows_role(role) {
            return Err(format!("Unknown role '{role}'"));
        }
        if self.quotas.by_role.contains_key(role) {
            return Err(format!(
                "Cannot set quota for role '{role}' which already has quota"
            ));
        }
        let config = config(role, &request.guarantee);
        Wanted::new(&self.quotas.by_role, [&config]).validate()?;
        // Amounts that the newer call refuses would not fit into the counts either.
        validate::quota::config(&config)?;
        Ok(config)
    }

    /// Offers are taken back, follower by follower, until as much as the quota promises is free and as
    /// many followers as frameworks of the role are connected: each of them is to get an offer.
    fn make_room_at_once(&mut self, config: &QuotaConfig) {
        let guarantees = Quota::from(config).guarantees;
        let frameworks = (self.state.frameworks())
            .filter(|framework| framework.active && framework.roles.contains(&config.role))
            .count();
        let mut freed = tepui_model::Quantities::new();
        let mut visited = 0;
        let mut rescinded: Vec<OfferId> = Vec::new();
        for follower in self.state.followers().filter(|f| f.connected && f.active) {
            if visited >= frameworks && freed.contains(&guarantees) {
                break;
            }
            if !follower.offers.is_empty() {
                freed.add_all(&follower.offered.quantities());
                rescinded.extend(follower.offers.keys().cloned());
                visited += 1;
            }
        }
        for offer in rescinded {
            self.rescind_offer(&offer);
        }
    }

    /// `REMOVE_QUOTA` and `DELETE /quota/ROLE`.
    pub(crate) fn operator_remove_quota(&mut self, role: &str, via: Via) -> Reply {
        let failed = match via {
            Via::V1 => "Failed to remove quota".to_owned(),
            Via::Endpoint => {
                let path = format!("/master/quota/{role}");
                if !self.config.allows_role(role) {
                    return bad(format!(
                        "Failed to validate remove quota request for path '{path}': Unknown role '{role}'"
                    ));
                }
                format!("Failed to remove quota for path '{path}'")
            }
        };
        // The reference trips over it when it comes by the newer API.
        if !self.quotas.by_role.contains_key(role) {
            return bad(format!("{failed}: Role '{role}' has no quota set"));
        }
        if let Err(error) = Wanted::without(&self.quotas.by_role, role).validate() {
            return bad(format!("{failed}: {error}"));
        }
        self.change_quotas(&[QuotaConfig {
            role: role.to_owned(),
            ..Default::default()
        }]);
        Reply::Ok
    }
}
