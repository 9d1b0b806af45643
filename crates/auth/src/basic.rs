//! The header `Authorization: Basic` (RFC 7617), read and written.

use crate::credentials::{Credential, Secret};
use base64::{Engine, engine::general_purpose::STANDARD};
use zeroize::Zeroizing;

/// Scheme of the header.
pub const SCHEME: &str = "Basic";

/// What a header claims: nothing is checked yet. `None` when it is not of this scheme or malformed.
///
/// The secret is all that follows the first colon; the reference refuses secrets that hold one.
pub fn parse(header: &str) -> Option<Credential> {
    let (scheme, rest) = header.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case(SCHEME) {
        return None;
    }
    let decoded = Zeroizing::new(STANDARD.decode(rest.trim()).ok()?);
    let colon = decoded.iter().position(|byte| *byte == b':')?;
    let principal = std::str::from_utf8(&decoded[..colon]).ok()?;
    let secret = Secret::new(decoded[colon + 1..].to_vec());
    Some(Credential::new(principal, secret))
}

/// The header that `credential`'s holder sends.
pub fn header(credential: &Credential) -> String {
    let mut text = Zeroizing::new(credential.principal.as_bytes().to_vec());
    text.push(b':');
    text.extend_from_slice(credential.secret.expose());
    format!("{SCHEME} {}", STANDARD.encode(text.as_slice()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for (principal, secret) in [
            ("ops", "o-secret"),
            ("", ""),
            ("a", "with:colon"),
            ("ü", "ß"),
        ] {
            let credential = Credential::new(principal, Secret::from(secret));
            assert_eq!(parse(&header(&credential)), Some(credential));
        }
    }

    #[test]
    fn the_header_of_the_recordings() {
        let ops = Credential::new("ops", Secret::from("o-secret"));
        assert_eq!(header(&ops), "Basic b3BzOm8tc2VjcmV0");
        assert_eq!(parse("basic b3BzOm8tc2VjcmV0"), Some(ops));
    }

    #[test]
    fn nonsense_claims_nothing() {
        for text in [
            "",
            "Basic",
            "Basic ",
            "Basic %%%",
            "Bearer abc",
            "Basic b3Bz",
            "Basic /w==",
            "b3BzOng=",
            "Basic /zo=",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
