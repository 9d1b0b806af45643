//! TLS from the environment: the `LIBPROCESS_SSL_*` variables, for nodes, for clients and for the
//! executors of a follower (`docs/tls.md`).

use std::{collections::BTreeMap, ffi::OsString};
use tepui_client::{Tls, TlsConfig};
use tepui_node::net::Transport;
use tepui_tls::ConfigError;

/// Variables or files that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    #[error(transparent)]
    Variable(#[from] ConfigError),
    #[error(transparent)]
    Files(#[from] tepui_tls::TlsError),
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// How a node's connections are made. Says what whoever set the variables should know.
pub(crate) fn transport() -> Result<Transport, TlsError> {
    let Some((config, notes)) = TlsConfig::from_variables(variable)? else {
        return Ok(Transport::plain());
    };
    for note in notes {
        tracing::warn!("{note}");
    }
    let verification = &config.verification;
    tracing::info!(
        downgrade = config.downgrade,
        verify_servers = verification.server,
        require_client_certificates = verification.client,
        scheme = ?verification.scheme,
        "TLS is on"
    );
    Ok(Transport::tls(Tls::load(config)?))
}

/// How a client speaks to `leader`: as the variables say where TLS is switched on, with a server
/// that is verified where an `https` address alone asks for TLS, and plainly otherwise.
pub(crate) fn client(leader: &str) -> Result<Option<Tls>, TlsError> {
    let config = match TlsConfig::from_variables(variable)? {
        Some((config, notes)) => {
            for note in notes {
                tracing::debug!("{note}");
            }
            config
        }
        None if leader.trim().starts_with("https://") => {
            TlsConfig::client_from_variables(variable)?
        }
        None => return Ok(None),
    };
    Ok(Some(Tls::load(config)?))
}

/// What an executor needs to reach a follower that speaks TLS alone: its own settings. With
/// downgrade it can do without, and may not be allowed to read the key.
pub(crate) fn executor_variables(
    all: impl Iterator<Item = (OsString, OsString)>,
) -> BTreeMap<String, String> {
    let texts =
        all.filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let ours: BTreeMap<_, _> = texts
        .filter(|(name, _)| name.starts_with("LIBPROCESS_SSL_"))
        .collect();
    let on = |name: &str| {
        ours.get(name)
            .is_some_and(|value| value == "1" || value == "true")
    };
    if on("LIBPROCESS_SSL_ENABLED") && !on("LIBPROCESS_SSL_SUPPORT_DOWNGRADE") {
        ours
    } else {
        BTreeMap::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn executors_are_told_how_to_speak_tls_only_when_nothing_else_is_spoken() {
        let handed_on = |variables: &[(&str, &str)]| {
            let all = variables
                .iter()
                .map(|(name, value)| (OsString::from(name), OsString::from(value)));
            executor_variables(all).len()
        };
        let (on, cert, other) = (
            ("LIBPROCESS_SSL_ENABLED", "1"),
            ("LIBPROCESS_SSL_CERT_FILE", "/c"),
            ("SSL_CERT_FILE", "/etc/ssl"),
        );
        let downgrade = ("LIBPROCESS_SSL_SUPPORT_DOWNGRADE", "true");
        assert_eq!(handed_on(&[on, cert, other]), 2);
        assert_eq!(handed_on(&[on, cert, downgrade]), 0);
        assert_eq!(handed_on(&[cert, other]), 0);
    }
}
