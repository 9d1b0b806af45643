//! What peers may cost a node, as far as it depends on the machine and the environment.

use super::{RoleError, address::variable};
use tepui_node::{
    http::Limits,
    net::{LinkOptions, OpenFiles},
};

/// Limits of the server and of the links of this process, which all its nodes share. Raises the
/// limit of open files: containers are not started by this process and keep theirs.
pub(super) fn limits() -> Result<(Limits, LinkOptions), RoleError> {
    let open_files = OpenFiles::raise();
    let limits = Limits {
        connections_max: open_files.share(),
        peer_ip_must_match: variable("LIBPROCESS_REQUIRE_PEER_ADDRESS_IP_MATCH", boolean)?
            .unwrap_or(false),
        open_files: open_files.clone(),
        ..Limits::default()
    };
    let links = LinkOptions {
        links_max: open_files.share(),
        open_files,
        ..LinkOptions::default()
    };
    Ok((limits, links))
}

/// As the reference reads booleans.
fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "true" | "1" => Ok(true),
        "false" | "0" => Ok(false),
        _ => Err("neither true nor false".to_owned()),
    }
}
