//! Who may use which endpoint: every endpoint belongs to a realm or is open to everybody, as
//! `src/master/master.cpp`, `src/slave/slave.cpp` and libprocess' own endpoints have it
//! (`docs/authentication.md`).
//!
//! What a realm asks for and how it refuses is decided by `tepui_auth::http`; here a request meets
//! the realm of its endpoint before any handler sees it.

use super::{Request, Response, response};
use crate::log_budget::LogBudget;
use http::{HeaderValue, header};
use std::sync::LazyLock;
use tepui_auth::http::Realm;
use tepui_model::Time;

/// Somebody who tries out secrets fills no log.
static REFUSALS: LazyLock<LogBudget> = LazyLock::new(|| LogBudget::new(5));

/// Realms of a leader, as challenges name them (`src/master/constants.hpp`).
pub mod leader {
    /// Reads.
    pub const READONLY: &str = "mesos-master-readonly";
    /// The operator API and whatever changes something.
    pub const READWRITE: &str = "mesos-master-readwrite";
    /// The v1 scheduler API.
    pub const FRAMEWORKS: &str = "mesos-master-scheduler";
}

/// Realms of a follower (`src/slave/constants.hpp`).
pub mod follower {
    /// Reads.
    pub const READONLY: &str = "mesos-agent-readonly";
    /// The operator API and whatever changes something.
    pub const READWRITE: &str = "mesos-agent-readwrite";
    /// The v1 executor API.
    pub const EXECUTORS: &str = "mesos-agent-executor";
}

/// What an endpoint lets somebody do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Nothing that anybody must not: `/health`, `/version`, `/redirect`.
    Open,
    /// Reads.
    ReadOnly,
    /// Changes, and the operator API as a whole.
    ReadWrite,
    /// The API of frameworks on a leader, of executors on a follower.
    Api,
}

/// The realms of one node. A missing one leaves its endpoints open.
#[derive(Debug, Clone, Default)]
pub struct Realms {
    /// For [`Access::ReadOnly`] (`--authenticate_http_readonly`).
    pub readonly: Option<Realm>,
    /// For [`Access::ReadWrite`] (`--authenticate_http_readwrite`).
    pub readwrite: Option<Realm>,
    /// For [`Access::Api`] (`--authenticate_http_frameworks`, `--authenticate_http_executors`).
    pub api: Option<Realm>,
}

impl Realms {
    fn of(&self, access: Access) -> Option<&Realm> {
        match access {
            Access::Open => None,
            Access::ReadOnly => self.readonly.as_ref(),
            Access::ReadWrite => self.readwrite.as_ref(),
            Access::Api => self.api.as_ref(),
        }
    }

    /// Finds out who sent `request`, or answers it. What proved it is taken out of the request.
    pub fn admit(&self, access: Access, request: &mut Request, now: Time) -> Result<(), Response> {
        let Some(realm) = self.of(access) else {
            // Credentials for an open endpoint are not looked at, as in the reference.
            request.headers.remove(header::AUTHORIZATION);
            return Ok(());
        };
        let checked = realm.check(request.header("authorization"), now);
        request.headers.remove(header::AUTHORIZATION);
        match checked {
            Ok(principal) => {
                request.principal = Some(principal);
                Ok(())
            }
            Err(challenge) => {
                if let Some(more) = REFUSALS.take() {
                    tracing::info!(
                        remote = %request.remote, path = %request.uri.path(), realm = realm.name(), more,
                        "refused a request without the right credentials"
                    );
                }
                let mut refusal = response::text(challenge.status, challenge.body);
                if let Ok(value) = HeaderValue::from_str(&challenge.www_authenticate) {
                    refusal
                        .headers_mut()
                        .insert(header::WWW_AUTHENTICATE, value);
                }
                Err(refusal)
            }
        }
    }
}
