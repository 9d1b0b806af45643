//! Who sent an HTTP request, and what is answered when that stays open: the reference's
//! `basic_authenticator`, `jwt_authenticator` and `combined_authenticator.cpp`.
//!
//! A [`Realm`] stands for a group of endpoints. With one scheme its answer is that scheme's; with
//! several all are tried and their challenges are put together.

use crate::{
    basic,
    credentials::{Credentials, Secret},
    jwt::{self, Claims},
};
use std::sync::Arc;
use tepui_model::{Time, effects::Principal};

/// How a realm lets somebody prove who they are.
#[derive(Clone, Debug)]
pub enum Scheme {
    /// `Authorization: Basic`, checked against credentials.
    Basic(Arc<Credentials>),
    /// `Authorization: Bearer`, an executor's token signed with this key.
    Bearer(Arc<Secret>),
}

/// A group of endpoints that ask for the same proof.
#[derive(Clone, Debug)]
pub struct Realm {
    name: String,
    schemes: Vec<Scheme>,
}

/// Who sent a request: somebody by name, or the claims of an executor's token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HttpPrincipal {
    /// Name, with basic authentication.
    pub value: Option<Principal>,
    /// What a token says.
    pub claims: Claims,
}

/// What is answered to a request that proves nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// Status of the answer: 401.
    pub status: u16,
    /// Its header `WWW-Authenticate`.
    pub www_authenticate: String,
    /// Its text.
    pub body: String,
}

/// Status of a challenge.
const UNAUTHORIZED: u16 = 401;

/// Text of one scheme's refusal.
const UNAUTHORIZED_BODY: &str = "401 Unauthorized.";

/// How much of a peer's own text a challenge repeats.
const REPEATED_BYTES_MAX: usize = 64;

impl Realm {
    /// A realm with at least one scheme; tried in the given order.
    pub fn new(name: impl Into<String>, schemes: Vec<Scheme>) -> Self {
        Self {
            name: name.into(),
            schemes,
        }
    }

    /// As challenges give it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Who sent a request with this `Authorization` header. Without any scheme nobody gets in.
    pub fn check(&self, header: Option<&str>, now: Time) -> Result<HttpPrincipal, Challenge> {
        let mut refusals = Vec::new();
        for scheme in &self.schemes {
            match scheme.check(&self.name, header, now) {
                Ok(principal) => return Ok(principal),
                Err(www_authenticate) => refusals.push((scheme.name(), www_authenticate)),
            }
        }
        Err(combine(refusals))
    }
}

impl Scheme {
    fn name(&self) -> &'static str {
        match self {
            Scheme::Basic(_) => basic::SCHEME,
            Scheme::Bearer(_) => "Bearer",
        }
    }

    /// Who it is, or what to ask for.
    fn check(&self, realm: &str, header: Option<&str>, now: Time) -> Result<HttpPrincipal, String> {
        match self {
            Scheme::Basic(credentials) => {
                check_basic(credentials, header).ok_or_else(|| format!("Basic realm=\"{realm}\""))
            }
            Scheme::Bearer(key) => check_bearer(key, header, now).map_err(|problem| {
                let mut challenge = format!("Bearer realm=\"{realm}\"");
                // A request without any proof is told of no error (RFC 6750, section 3.1).
                if let Some(problem) = problem {
                    challenge.push_str(", error=\"invalid_token\", error_description=\"");
                    challenge.push_str(&problem);
                    challenge.push('"');
                }
                challenge
            }),
        }
    }
}

fn combine(mut refusals: Vec<(&'static str, String)>) -> Challenge {
    if let [(_, only)] = &mut refusals[..] {
        return Challenge {
            status: UNAUTHORIZED,
            www_authenticate: std::mem::take(only),
            body: UNAUTHORIZED_BODY.to_owned(),
        };
    }
    let bodies = refusals
        .iter()
        .map(|(scheme, _)| format!("\"{scheme}\" authenticator returned:\n{UNAUTHORIZED_BODY}"));
    let body = bodies.collect::<Vec<_>>().join("\n\n");
    let headers: Vec<String> = refusals.into_iter().map(|(_, header)| header).collect();
    Challenge {
        status: UNAUTHORIZED,
        www_authenticate: headers.join(","),
        body,
    }
}

fn check_basic(credentials: &Credentials, header: Option<&str>) -> Option<HttpPrincipal> {
    let claimed = basic::parse(header?)?;
    credentials
        .verify(&claimed.principal, claimed.secret.expose())
        .then(|| HttpPrincipal {
            value: Some(claimed.principal),
            claims: Claims::new(),
        })
}

fn check_bearer(
    key: &Secret,
    header: Option<&str>,
    now: Time,
) -> Result<HttpPrincipal, Option<String>> {
    let header = header.ok_or(None)?;
    let words: Vec<&str> = header.split(' ').collect();
    let [scheme, token] = words[..] else {
        return Err(Some("Malformed 'Authorization' header".to_owned()));
    };
    if scheme != "Bearer" {
        return Err(Some(format!("Scheme '{}' unsupported", harmless(scheme))));
    }
    let claims = jwt::verify(token, key, now).map_err(|error| {
        let text = match error {
            jwt::TokenError::UnknownAlgorithm(name) => {
                jwt::TokenError::UnknownAlgorithm(harmless(&name)).to_string()
            }
            other => other.to_string(),
        };
        Some(format!("Invalid JWT: {text}"))
    })?;
    if claims.is_empty() {
        return Err(Some("JWT claims missing".to_owned()));
    }
    Ok(HttpPrincipal {
        value: None,
        claims,
    })
}

/// A peer's own text, fit to stand in a header.
fn harmless(text: &str) -> String {
    text.chars()
        .take(REPEATED_BYTES_MAX)
        .map(|c| match c {
            '"' | '\\' => '?',
            c if c.is_ascii_graphic() => c,
            _ => '?',
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Time = Time::from_nanos(1);

    fn key() -> Arc<Secret> {
        Arc::new(Secret::from("key"))
    }

    fn combined() -> Realm {
        let credentials = Credentials::parse("ops o-secret\n").unwrap_or_default();
        Realm::new(
            "mesos-agent-executor",
            vec![Scheme::Basic(Arc::new(credentials)), Scheme::Bearer(key())],
        )
    }

    #[test]
    fn any_of_several_schemes_lets_in() {
        let basic = combined().check(Some("Basic b3BzOm8tc2VjcmV0"), NOW);
        assert_eq!(
            basic.map(|principal| principal.value),
            Ok(Some("ops".into()))
        );
        let token = format!("Bearer {}", jwt::executor_token("F", "E", "C", &key()));
        let bearer = combined().check(Some(&token), NOW).expect("a right token");
        assert_eq!(bearer.value, None);
        assert_eq!(bearer.claims["cid"], "C");
    }

    #[test]
    fn refusals_of_several_schemes_are_put_together() {
        let challenge = combined().check(None, NOW).expect_err("a challenge");
        assert_eq!(
            challenge.www_authenticate,
            "Basic realm=\"mesos-agent-executor\",Bearer realm=\"mesos-agent-executor\""
        );
        assert_eq!(
            challenge.body,
            "\"Basic\" authenticator returned:\n401 Unauthorized.\n\n\
             \"Bearer\" authenticator returned:\n401 Unauthorized."
        );
    }

    #[test]
    fn a_bad_token_is_told_why() {
        let realm = Realm::new("r", vec![Scheme::Bearer(key())]);
        let refusal = |header| {
            let challenge = realm.check(Some(header), NOW).expect_err("a challenge");
            assert_eq!(challenge.body, "401 Unauthorized.");
            challenge.www_authenticate
        };
        let error = |text: &str| {
            format!("Bearer realm=\"r\", error=\"invalid_token\", error_description=\"{text}\"")
        };
        assert_eq!(refusal("Bearer"), error("Malformed 'Authorization' header"));
        assert_eq!(refusal("Basic abc"), error("Scheme 'Basic' unsupported"));
        assert_eq!(
            refusal("Bearer abc"),
            error("Invalid JWT: Expected 3 components in token, got 1")
        );
        let empty = format!("Bearer {}", jwt::sign(&Claims::new(), &key()));
        assert_eq!(refusal(&empty), error("JWT claims missing"));
    }

    #[test]
    fn a_peers_words_cannot_break_the_header() {
        let realm = Realm::new("r", vec![Scheme::Bearer(key())]);
        let odd = "\r\nX:\"\u{fc}\" token";
        let challenge = realm.check(Some(odd), NOW).expect_err("a challenge");
        assert!(challenge.www_authenticate.is_ascii());
        assert!(!challenge.www_authenticate.contains('\n'));
        assert!(challenge.www_authenticate.contains("'??X:???' unsupported"));
    }

    #[test]
    fn a_realm_without_schemes_lets_nobody_in() {
        assert!(Realm::new("r", Vec::new()).check(None, NOW).is_err());
    }
}
