//! The older endpoints of maintenance: a JSON body instead of a call of the operator API.
//!
//! Follows `maintenanceSchedule`, `machineDown` and `machineUp` in `src/master/http.cpp`. The bodies
//! are turned into the calls that do the same; what they do is the core's to decide.

use super::service::LeaderService;
use crate::http::{Request, Response, response};
use tepui_protocol::{
    json::{self, Names},
    v1::{
        MachineId,
        maintenance::Schedule,
        master::{self, call},
    },
};

/// An endpoint about machines that takes only `POST`.
#[derive(Debug, Clone, Copy)]
pub(super) enum Machines {
    /// They go down now.
    Down,
    /// They are back.
    Up,
}

/// Their paths.
pub(super) const ENDPOINTS: [(&str, Machines); 2] = [
    ("/machine/down", Machines::Down),
    ("/machine/up", Machines::Up),
];

/// `POST /maintenance/schedule`
pub(super) async fn schedule(service: &LeaderService, request: Request) -> Response {
    let schedule: Schedule = match json::decode_with(&request.body, Names::V0) {
        Ok(schedule) => schedule,
        Err(error) => return response::text(400, error.to_string()),
    };
    let mut call = master::Call {
        update_maintenance_schedule: Some(call::UpdateMaintenanceSchedule { schedule }),
        ..Default::default()
    };
    call.set_type(call::Type::UpdateMaintenanceSchedule);
    service.ask_for_endpoint(&request, call).await
}

/// `POST /machine/down` and `/machine/up`
pub(super) async fn machines(
    service: &LeaderService,
    which: Machines,
    request: Request,
) -> Response {
    if request.method != http::Method::POST {
        return response::method_not_allowed(&["POST"], &request.method);
    }
    let machines: Vec<MachineId> = match json::decode_list_with(&request.body, Names::V0) {
        Ok(machines) => machines,
        Err(error) => return response::text(400, error.to_string()),
    };
    let mut call = master::Call::default();
    match which {
        Machines::Down => {
            call.set_type(call::Type::StartMaintenance);
            call.start_maintenance = Some(call::StartMaintenance { machines });
        }
        Machines::Up => {
            call.set_type(call::Type::StopMaintenance);
            call.stop_maintenance = Some(call::StopMaintenance { machines });
        }
    }
    service.ask_for_endpoint(&request, call).await
}
