//! Tokens of executors: JSON web tokens signed with HS256, as `3rdparty/libprocess/src/jwt.cpp` and
//! `src/authentication/executor/jwt_secret_generator.cpp` make and check them.
//!
//! Written here on HMAC and JSON instead of taken from a crate: what is needed is one algorithm, and
//! `now` has to be an argument.

use crate::{crammd5::hmac_sha256, credentials::Secret};
use base64::{
    Engine,
    alphabet::URL_SAFE,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use subtle::ConstantTimeEq;
use tepui_model::Time;

/// Claims by name. Values that are no text are kept as their JSON.
pub type Claims = BTreeMap<String, String>;

/// Names of the claims of an executor's token.
pub mod claim {
    /// The framework's id.
    pub const FRAMEWORK: &str = "fid";
    /// The executor's id.
    pub const EXECUTOR: &str = "eid";
    /// The id of the executor's container.
    pub const CONTAINER: &str = "cid";
    /// Seconds since the epoch after which the token is worth nothing.
    pub const EXPIRY: &str = "exp";
}

/// Longest token that is looked at. Executors' have about 300 bytes.
pub const TOKEN_BYTES_MAX: usize = 8 * 1024;

const ENGINE: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Why a token proves nothing. Texts as the reference puts them into its answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum TokenError {
    #[error("Expected 3 components in token, got {0}")]
    Components(usize),
    #[error("Token is too long")]
    TooLong,
    #[error("Failed to decode token {0}: Failed to base64url-decode")]
    Base64(&'static str),
    #[error("Failed to decode token {0}: Failed to parse into JSON")]
    Json(&'static str),
    #[error("Token 'typ' is not a string")]
    Type,
    #[error("Failed to locate 'alg' in token JSON header")]
    NoAlgorithm,
    #[error("Token 'alg' field is not a string")]
    AlgorithmText,
    #[error("Unsupported token algorithm: {0}")]
    UnknownAlgorithm(String),
    #[error("Token 'alg' value \"{0}\" does not match, expected \"HS256\"")]
    Algorithm(&'static str),
    #[error("Token 'crit' field is unsupported")]
    Critical,
    #[error("JSON payload 'exp' field is not a number")]
    ExpiryNumber,
    #[error("Token has expired: exp({expiry}) < now({now})")]
    Expired { expiry: i64, now: i64 },
    #[error("Token signature does not match")]
    Signature,
}

/// A token that says `claims`, all as texts.
pub fn sign(claims: &Claims, key: &Secret) -> String {
    let payload: Map<String, Value> = claims
        .iter()
        .map(|(name, value)| (name.clone(), Value::from(value.as_str())))
        .collect();
    sign_payload(&Value::Object(payload), key)
}

/// A token of the executor of a container, without an expiry: it holds as long as the container.
pub fn executor_token(framework: &str, executor: &str, container: &str, key: &Secret) -> String {
    let claims = [
        (claim::FRAMEWORK, framework),
        (claim::EXECUTOR, executor),
        (claim::CONTAINER, container),
    ];
    let owned = claims.map(|(name, value)| (name.to_owned(), value.to_owned()));
    sign(&Claims::from(owned), key)
}

fn sign_payload(payload: &Value, key: &Secret) -> String {
    let mut token = ENGINE.encode(r#"{"alg":"HS256","typ":"JWT"}"#);
    token.push('.');
    ENGINE.encode_string(payload.to_string(), &mut token);
    let signature = hmac_sha256(key.expose(), token.as_bytes());
    token.push('.');
    ENGINE.encode_string(signature, &mut token);
    token
}

/// What `token` says, if it was signed with `key` and still holds.
pub fn verify(token: &str, key: &Secret, now: Time) -> Result<Claims, TokenError> {
    if token.len() > TOKEN_BYTES_MAX {
        return Err(TokenError::TooLong);
    }
    let components: Vec<&str> = token.split('.').collect();
    let [header, payload, signature] = components[..] else {
        return Err(TokenError::Components(components.len()));
    };
    check_header(&object(header, "header")?)?;
    // Checked before anything of the payload is believed, unlike in the reference, which reads the
    // payload of a token that nobody signed.
    let decoded = ENGINE
        .decode(signature)
        .map_err(|_| TokenError::Base64("signature"))?;
    let signed = &token[..header.len() + 1 + payload.len()];
    let expected = hmac_sha256(key.expose(), signed.as_bytes());
    if !bool::from(expected.as_slice().ct_eq(&decoded)) {
        return Err(TokenError::Signature);
    }
    let payload = object(payload, "payload")?;
    check_expiry(&payload, now)?;
    Ok(payload.into_iter().map(as_claim).collect())
}

fn as_claim((name, value): (String, Value)) -> (String, String) {
    match value {
        Value::String(text) => (name, text),
        other => (name, other.to_string()),
    }
}

fn object(component: &str, what: &'static str) -> Result<Map<String, Value>, TokenError> {
    let decoded = ENGINE
        .decode(component)
        .map_err(|_| TokenError::Base64(what))?;
    serde_json::from_slice(&decoded).map_err(|_| TokenError::Json(what))
}

fn check_header(header: &Map<String, Value>) -> Result<(), TokenError> {
    if header.get("typ").is_some_and(|typ| !typ.is_string()) {
        return Err(TokenError::Type);
    }
    let algorithm = header.get("alg").ok_or(TokenError::NoAlgorithm)?;
    match algorithm.as_str().ok_or(TokenError::AlgorithmText)? {
        "HS256" => {}
        "none" => return Err(TokenError::Algorithm("none")),
        "RS256" => return Err(TokenError::Algorithm("RS256")),
        other => return Err(TokenError::UnknownAlgorithm(other.to_owned())),
    }
    if header.contains_key("crit") {
        return Err(TokenError::Critical);
    }
    Ok(())
}

fn check_expiry(payload: &Map<String, Value>, now: Time) -> Result<(), TokenError> {
    let Some(expiry) = payload.get(claim::EXPIRY) else {
        return Ok(());
    };
    let expiry = expiry.as_f64().ok_or(TokenError::ExpiryNumber)? as i64;
    let now = i64::try_from(now.nanos() / 1_000_000_000).unwrap_or(i64::MAX);
    if expiry < now {
        return Err(TokenError::Expired { expiry, now });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Time = Time::from_nanos(1_000_000_000_000);

    fn key() -> Secret {
        Secret::from("secret")
    }

    fn token(header: &str, payload: &str) -> String {
        let signed = format!("{}.{}", ENGINE.encode(header), ENGINE.encode(payload));
        let signature = hmac_sha256(key().expose(), signed.as_bytes());
        format!("{signed}.{}", ENGINE.encode(signature))
    }

    #[test]
    fn a_token_says_what_was_signed() {
        let token = executor_token("F", "E", "C", &key());
        let claims = verify(&token, &key(), NOW).expect("a right token");
        let pairs: Vec<(&str, &str)> = claims
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        assert_eq!(pairs, [("cid", "C"), ("eid", "E"), ("fid", "F")]);
    }

    #[test]
    fn a_token_has_the_bytes_that_the_reference_gives_it() {
        let claims = Claims::from([("foo".to_owned(), "bar".to_owned())]);
        // {"alg":"HS256","typ":"JWT"} . {"foo":"bar"}, without padding.
        assert!(
            sign(&claims, &key())
                .starts_with("eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJmb28iOiJiYXIifQ.")
        );
    }

    #[test]
    fn nobody_else_can_sign_or_change_a_token() {
        let token = executor_token("F", "E", "C", &key());
        let other = Secret::from("other");
        assert_eq!(verify(&token, &other, NOW), Err(TokenError::Signature));
        let mut parts: Vec<String> = token.split('.').map(str::to_owned).collect();
        parts[1] = ENGINE.encode(r#"{"fid":"G"}"#);
        assert_eq!(
            verify(&parts.join("."), &key(), NOW),
            Err(TokenError::Signature)
        );
        parts[2].clear();
        assert_eq!(
            verify(&parts.join("."), &key(), NOW),
            Err(TokenError::Signature)
        );
    }

    #[test]
    fn no_algorithm_but_ours_is_taken() {
        for (header, error) in [
            (r#"{"alg":"none"}"#, TokenError::Algorithm("none")),
            (r#"{"alg":"RS256"}"#, TokenError::Algorithm("RS256")),
            (
                r#"{"alg":"hs256"}"#,
                TokenError::UnknownAlgorithm("hs256".to_owned()),
            ),
            (r#"{"alg":1}"#, TokenError::AlgorithmText),
            (r#"{"typ":"JWT"}"#, TokenError::NoAlgorithm),
            (r#"{"alg":"HS256","typ":1}"#, TokenError::Type),
            (r#"{"alg":"HS256","crit":[]}"#, TokenError::Critical),
            ("[]", TokenError::Json("header")),
        ] {
            let token = token(header, r#"{"fid":"F"}"#);
            assert_eq!(verify(&token, &key(), NOW), Err(error), "{header}");
        }
    }

    #[test]
    fn a_token_holds_until_its_expiry() {
        let header = r#"{"alg":"HS256"}"#;
        let claims = verify(&token(header, r#"{"exp":1000,"x":"y"}"#), &key(), NOW);
        assert_eq!(
            claims.map(|claims| claims["exp"].clone()),
            Ok("1000".to_owned())
        );
        let expired = verify(&token(header, r#"{"exp":999}"#), &key(), NOW);
        assert_eq!(
            expired.map_err(|error| error.to_string()),
            Err("Token has expired: exp(999) < now(1000)".to_owned())
        );
        let odd = verify(&token(header, r#"{"exp":"soon"}"#), &key(), NOW);
        assert_eq!(odd, Err(TokenError::ExpiryNumber));
    }

    #[test]
    fn nonsense_is_no_token() {
        assert_eq!(verify("", &key(), NOW), Err(TokenError::Components(1)));
        assert_eq!(
            verify("a.b.c.d", &key(), NOW),
            Err(TokenError::Components(4))
        );
        assert_eq!(
            verify("!.b.c", &key(), NOW),
            Err(TokenError::Base64("header"))
        );
        let long = "a".repeat(TOKEN_BYTES_MAX + 1);
        assert_eq!(verify(&long, &key(), NOW), Err(TokenError::TooLong));
    }
}
