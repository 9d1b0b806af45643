//! What stands at the port for the life of the process, whoever leads.
//!
//! While we lead it hands requests to the term's service. Otherwise it answers as the reference's
//! masters do that do not lead (`Master::Http::redirect` in `src/master/http.cpp`): what any of them
//! can answer it answers, what only the leader can it sends there, or refuses while nobody is known
//! to lead. Messages of peers are for leaders: others drop them (`Master::consume`).

use super::{gate::Gate, service::LeaderService, term::Ground};
use crate::{
    http::{Delivery, Request, Response, Service, response},
    pending::Inbox,
};
use arc_swap::ArcSwap;
use std::{
    net::{IpAddr, Ipv4Addr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use tepui_leader::{LeaderFacts, ProcessName, View};
use tepui_protocol::v1::MasterInfo;

/// What a leader is to others at the moment.
enum Role {
    /// Stands by. The leader, as far as it is known.
    Standby(Option<MasterInfo>),
    /// Elected; the registry is being read.
    Recovering,
    /// Leads, as long as the gate is open.
    Leading(Arc<LeaderService>, Arc<Gate>),
}

/// The service at the port.
pub(super) struct Front {
    role: ArcSwap<Role>,
    /// Answers what anybody can, from an empty view.
    alone: LeaderService,
    /// Messages that came while we did not lead.
    dropped: AtomicU64,
}

impl Front {
    /// Knows nobody who leads. `facts` may be of any term: of these only what does not change is
    /// shown.
    pub(super) fn new(ground: &Ground, facts: LeaderFacts) -> Self {
        let view = View::standby(Arc::new(facts), ground.clock.now());
        // Nothing that is answered here goes through an inbox.
        let (inbox, _) = Inbox::new(1);
        let alone = LeaderService::new(
            inbox,
            Arc::new(ArcSwap::from_pointee(view)),
            ground.files.clone(),
            ground.logging.clone(),
            ground.clock,
            ground.options.realms.clone(),
            None,
        );
        Self {
            role: ArcSwap::from_pointee(Role::Standby(None)),
            alone,
            dropped: AtomicU64::new(0),
        }
    }

    /// From now on others lead, or nobody.
    pub(super) fn stand_by(&self, leader: Option<MasterInfo>) {
        self.role.store(Arc::new(Role::Standby(leader)));
    }

    /// We were elected.
    pub(super) fn recover(&self) {
        self.role.store(Arc::new(Role::Recovering));
    }

    /// We lead.
    pub(super) fn lead(&self, service: Arc<LeaderService>, gate: Arc<Gate>) {
        self.role.store(Arc::new(Role::Leading(service, gate)));
    }

    /// To the leader, without naming the scheme. What came for no process in particular goes to its
    /// `master`, since libprocess prefixes it before anybody sees it.
    fn elsewhere(leader: &MasterInfo, request: &Request) -> Response {
        let base = ["/redirect", "/master/redirect"];
        let path = request.uri.path();
        let plain = request.path();
        if base.contains(&plain.trim_end_matches('/')) {
            return response::redirect(&host(leader), leader.port, "");
        }
        if base.iter().any(|base| plain.starts_with(base)) {
            // Whoever follows this would never arrive.
            return response::not_found();
        }
        let process = match plain.strip_prefix("/master") {
            Some(rest) if rest.starts_with('/') => "",
            _ => "/master",
        };
        let (mark, query) = request.uri.query().map_or(("", ""), |query| ("?", query));
        let target = format!("{process}{path}{mark}{query}");
        response::redirect(&host(leader), leader.port, &target)
    }

    /// Metrics, with what was counted here.
    fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

impl Service for Front {
    async fn request(&self, request: Request) -> Response {
        let role = self.role.load_full();
        if let Role::Leading(service, gate) = &*role
            && gate.is_open()
        {
            return service.request(request).await;
        }
        self.alone
            .unelected(request, self.dropped(), |request| match &*role {
                Role::Standby(Some(leader)) => Self::elsewhere(leader, request),
                Role::Recovering => response::text(503, "Master has not finished recovery"),
                // With the gate closed another may lead, and who is not known yet.
                Role::Standby(None) | Role::Leading(..) => response::text(503, "No leader elected"),
            })
            .await
    }

    async fn message(&self, delivery: Delivery) -> bool {
        let role = self.role.load_full();
        if let Role::Leading(service, _) = &*role {
            return service.message(delivery).await;
        }
        let known = ProcessName::parse(&delivery.to).is_some();
        if known {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        known
    }
}

/// Name, or address, of a leader in a URL.
fn host(leader: &MasterInfo) -> String {
    let given = |text: Option<&String>| text.filter(|text| !text.is_empty()).cloned();
    let address = leader.address.as_ref();
    let host = given(leader.hostname.as_ref())
        .or_else(|| given(address?.hostname.as_ref()))
        .or_else(|| given(address?.ip.as_ref()))
        .unwrap_or_else(|| Ipv4Addr::from(leader.ip.to_ne_bytes()).to_string());
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V6(ip)) => format!("[{ip}]"),
        _ => host,
    }
}
