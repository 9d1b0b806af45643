//! The mechanism itself: challenges, responses and their check (RFC 2195). What a challenge looks
//! like follows what the reference's SASL library sends: `<NONCE.TIME@HOST>`.

use crate::credentials::{Credentials, Secret};
use hmac::{Hmac, Mac};
use md5::Md5;
use sha2::Sha256;
use std::fmt::Write;
use subtle::ConstantTimeEq;
use tepui_model::{Time, effects::Principal};
use zeroize::Zeroize;

/// The one mechanism, by its name on the wire.
pub const NAME: &str = "CRAM-MD5";

/// Longest step either side takes: well above what a principal and a digest need.
pub const STEP_BYTES_MAX: usize = 1024;

/// Longest host name that goes into a challenge.
const HOSTNAME_BYTES_MAX: usize = 200;

const DIGEST_HEX_BYTES: usize = 32;

/// Why a response proves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It is not a response at all: the exchange ends in an error with this text.
    Malformed(&'static str),
    /// Unknown principal or wrong secret. Which of the two is not said.
    Credentials,
}

/// The challenge number `counter`. Nobody without `key` can tell the next one, and none repeats.
pub fn challenge(key: &[u8; 32], counter: u64, now: Time, hostname: &str) -> Vec<u8> {
    let tag = hmac_sha256(key, &counter.to_be_bytes());
    let mut nonce = [0; 8];
    nonce.copy_from_slice(&tag[..8]);
    let nonce = u64::from_be_bytes(nonce);
    let seconds = now.nanos() / 1_000_000_000;
    format!("<{nonce}.{seconds}@{}>", clean(hostname)).into_bytes()
}

/// A host name without anything that has a meaning in a challenge.
fn clean(hostname: &str) -> String {
    let name: String = hostname
        .chars()
        .filter(|c| c.is_ascii_graphic() && !matches!(c, '<' | '>' | '@'))
        .take(HOSTNAME_BYTES_MAX)
        .collect();
    if name.is_empty() {
        return "localhost".to_owned();
    }
    name
}

/// What proves to hold `secret`: `PRINCIPAL DIGEST`.
pub fn response(principal: &str, secret: &Secret, challenge: &[u8]) -> Vec<u8> {
    let mut digest = hmac_md5_hex(secret.expose(), challenge);
    let response = format!("{principal} {digest}").into_bytes();
    digest.zeroize();
    response
}

/// Whose response this is, if it is right. Takes as long for an unknown principal as for a wrong
/// digest.
pub fn verify(
    credentials: &Credentials,
    challenge: &[u8],
    response: &[u8],
) -> Result<Principal, Refusal> {
    if response.len() > STEP_BYTES_MAX {
        return Err(Refusal::Malformed("CRAM-MD5 input longer than 1024 bytes"));
    }
    // The digest is what follows the last space, since principals may hold spaces.
    let space = response.iter().rposition(|byte| *byte == b' ');
    let Some(space) = space.filter(|at| *at > 0) else {
        return Err(Refusal::Malformed("need authentication name"));
    };
    let (principal, digest) = (&response[..space], &response[space + 1..]);
    let known = std::str::from_utf8(principal)
        .ok()
        .and_then(|principal| credentials.find(principal));
    let secret = known.map_or(&b""[..], |credential| credential.secret.expose());
    let mut expected = hmac_md5_hex(secret, challenge);
    let right = digest.len() == DIGEST_HEX_BYTES && bool::from(digest.ct_eq(expected.as_bytes()));
    expected.zeroize();
    match known {
        Some(credential) if right => Ok(credential.principal.clone()),
        _ => Err(Refusal::Credentials),
    }
}

/// HMAC-MD5 of `text` in lower-case hex.
fn hmac_md5_hex(key: &[u8], text: &[u8]) -> String {
    let Ok(mut mac) = <Hmac<Md5> as Mac>::new_from_slice(key) else {
        // HMAC takes keys of any length, so this cannot be; nothing matches an empty digest.
        return String::new();
    };
    mac.update(text);
    let mut digest = String::with_capacity(DIGEST_HEX_BYTES);
    for byte in mac.finalize().into_bytes() {
        let _ = write!(digest, "{byte:02x}");
    }
    digest
}

/// HMAC-SHA256, for nonces and tokens.
pub(crate) fn hmac_sha256(key: &[u8], text: &[u8]) -> [u8; 32] {
    let Ok(mut mac) = <Hmac<Sha256> as Mac>::new_from_slice(key) else {
        return [0; 32];
    };
    mac.update(text);
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHALLENGE: &[u8] = b"<1896.697170952@postoffice.reston.mci.net>";

    fn credentials() -> Credentials {
        let json = r#"{"credentials": [
            {"principal": "tim", "secret": "tanstaaftanstaaf"},
            {"principal": "with a space", "secret": "other"}
        ]}"#;
        Credentials::parse(json).expect("credentials")
    }

    #[test]
    fn the_vector_of_rfc_2195_holds() {
        let right = response("tim", &Secret::from("tanstaaftanstaaf"), CHALLENGE);
        assert_eq!(right, b"tim b913a602c7eda7a495b4e6e7334d3890");
        let verified = verify(&credentials(), CHALLENGE, &right);
        assert_eq!(verified.as_deref(), Ok("tim"));
    }

    #[test]
    fn principals_may_hold_spaces() {
        let right = response("with a space", &Secret::from("other"), CHALLENGE);
        let verified = verify(&credentials(), CHALLENGE, &right);
        assert_eq!(verified.as_deref(), Ok("with a space"));
    }

    #[test]
    fn a_digest_is_compared_as_a_whole() {
        let right = response("tim", &Secret::from("tanstaaftanstaaf"), CHALLENGE);
        let upper = String::from_utf8_lossy(&right).to_uppercase();
        for wrong in [
            &right[..right.len() - 1],
            &[&right[..], b"0"].concat(),
            b"tim ",
            upper.as_bytes(),
        ] {
            let verified = verify(&credentials(), CHALLENGE, wrong);
            assert_eq!(verified, Err(Refusal::Credentials));
        }
    }

    #[test]
    fn challenges_differ_by_counter_and_by_key() {
        let now = Time::from_nanos(1_795_359_883_123_456_789);
        let first = challenge(&[1; 32], 1, now, "vm");
        assert!(first.ends_with(b".1795359883@vm>"));
        assert_ne!(first, challenge(&[1; 32], 2, now, "vm"));
        assert_ne!(first, challenge(&[2; 32], 1, now, "vm"));
        assert_eq!(first, challenge(&[1; 32], 1, now, "vm"));
    }
}
