//! HTTP and TCP probes. Command probes are containers; see `tepui_follower::locals`.

use crate::fetcher::http::{HttpClient, Trust};
use std::{net::IpAddr, time::Duration};
use tepui_executor::io::{Probe, ProbeOutcome};
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

    pub(super) async fn probe(&self, what: Probe, patience: Duration) -> ProbeOutcome {
        match what {
            Probe::Http {
                scheme,
                host,
                port,
                path,
            } => {
                let url = format!("{scheme}://{host}:{port}{path}");
                self.http(url, patience).await
            }
            Probe::Tcp { host, port } => Self::tcp(host, port, patience).await,
            Probe::Command(_) => ProbeOutcome::Failed("a command is no request".to_owned()),
        }
    }

    /// GET; the status of the answer that redirects lead to. Its body is not waited for.
    async fn http(&self, url: String, patience: Duration) -> ProbeOutcome {
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
    async fn tcp(host: String, port: u16, patience: Duration) -> ProbeOutcome {
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
