//! What readers get: pure functions of a [`View`], so a read never holds up scheduling.
//!
//! * [`endpoint`]: the plain JSON endpoints (`docs/endpoints/master/`).
//! * [`operator`]: the `GET_*` calls of the v1 operator API (`docs/operator-http-api.md`).
//! * [`metrics`]: counters and gauges under the reference's names (`docs/monitoring.md`).

mod documents;
mod metrics;
mod operator;
mod quota;
mod roles;
mod summary;
mod tasks;

pub use metrics::metrics;
pub use operator::{operator, state};

use crate::view::View;
use std::collections::BTreeMap;
use tepui_model::documents::{Proto, to_text};

/// Query parameters of a request.
pub type Query = BTreeMap<String, String>;

/// Body of a plain endpoint: `name` without a prefix, such as `state`. `None`: no such endpoint here.
pub fn endpoint(view: &View, name: &str, query: &Query) -> Option<String> {
    let text = match name {
        "state" => to_text(&documents::State(view)),
        "state-summary" => to_text(&summary::Summary::of(view)),
        "slaves" => to_text(&documents::Followers {
            view,
            id: query.get("slave_id"),
        }),
        "frameworks" => to_text(&documents::Frameworks {
            view,
            id: query.get("framework_id"),
        }),
        "tasks" => to_text(&tasks::Tasks::of(view, query)),
        "roles" => to_text(&roles::Roles::of(view)),
        "flags" => to_text(&documents::FlagsDocument(&view.leader.flags)),
        "quota" => to_text(&Proto(&quota::status(view))),
        "weights" => to_text(&quota::Weights(view)),
        "maintenance/schedule" => to_text(&Proto(&*view.schedule)),
        "maintenance/status" => to_text(&Proto(&operator::maintenance_status(view))),
        _ => return None,
    };
    Some(text)
}
