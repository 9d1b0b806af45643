//! HTTP and TCP probes. Command probes are containers; see `locals`.

use crate::fetcher::http::{HttpClient, Trust};
use std::{net::IpAddr, time::Duration};
use tepui_executor::io::ProbeOutcome;
use tokio::{net::TcpStream, time::timeout};

/// Makes probes. Cheap to clone.
#[derive(Clone)]
pub(super) struct Prober {
    client: HttpClient,
}

impl Prober {
    pub(super) fn new() -> Self {
        Self {
            client: HttpClient::without_pool(Trust::Anyone),
        }
    }

    /// GET; the status of the answer that redirects lead to. Its body is not waited for.
    pub(super) async fn http(&self, url: String, patience: Duration) -> ProbeOutcome {
        let Ok(uri) = url.parse() else {
            return ProbeOutcome::Failed(format!("'{url}' is no URL"));
        };
        match timeout(patience, self.client.get(uri)).await {
            Ok(Ok(response)) => ProbeOutcome::Http(response.status().as_u16()),
            Ok(Err(error)) => ProbeOutcome::Failed(error.to_string()),
            Err(_) => ProbeOutcome::TimedOut,
        }
    }

    /// A connection, closed at once.
    pub(super) async fn tcp(host: String, port: u16, patience: Duration) -> ProbeOutcome {
        let Ok(ip) = host.parse::<IpAddr>() else {
            return ProbeOutcome::Failed(format!("'{host}' is no address"));
        };
        match timeout(patience, TcpStream::connect((ip, port))).await {
            Ok(Ok(_)) => ProbeOutcome::Connected,
            Ok(Err(error)) => ProbeOutcome::Failed(error.to_string()),
            Err(_) => ProbeOutcome::TimedOut,
        }
    }
}
