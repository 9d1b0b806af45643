//! Operator calls that change something. None of them is built yet: each is refused by name, so that
//! nobody mistakes silence for success.

use crate::{
    Follower,
    io::{Effects, Reply},
    reply,
};
use tepui_model::RequestId;
use tepui_protocol::v1::agent::{Call, call::Type};

impl Follower {
    pub(crate) fn operator(&mut self, request: RequestId, call: Call, fx: &mut Effects) {
        let (status, message) = match call.r#type() {
            Type::Unknown => (
                400,
                "Failed to validate agent::Call: Expecting 'type' to be present".to_owned(),
            ),
            kind => (
                501,
                format!("{} is not supported by this agent yet", kind.as_str_name()),
            ),
        };
        reply(fx, request, Reply::Error { status, message });
    }
}
