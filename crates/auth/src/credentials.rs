//! Principals and their secrets, as `--credentials`, `--credential` and `--http_credentials` files
//! hold them (`docs/authentication.md`, `src/credentials/credentials.hpp`).
//!
//! Both forms are read: JSON, and the older plain text with one `principal secret` per line. What
//! goes wrong is told by line and field; a secret is never part of a message.

use serde_json::Value;
use std::{collections::BTreeMap, fmt, sync::Arc};
use subtle::ConstantTimeEq;
use tepui_model::effects::Principal;
use zeroize::{Zeroize, Zeroizing};

/// Bytes that nobody is to see: not printed, wiped when dropped, compared in constant time only.
#[derive(Default)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Takes over `bytes`.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }
    /// The bytes, for whoever computes with them.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
    /// Whether `other` is the same secret. Only a difference in length shows in the time it takes.
    pub fn matches(&self, other: &[u8]) -> bool {
        self.0.as_slice().ct_eq(other).into()
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self::new(text.as_bytes().to_vec())
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.matches(&other.0)
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Who somebody is and what proves it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    /// Who.
    pub principal: Principal,
    /// What proves it.
    pub secret: Arc<Secret>,
}

impl Credential {
    /// From its parts.
    pub fn new(principal: impl Into<Principal>, secret: Secret) -> Self {
        Self {
            principal: principal.into(),
            secret: Arc::new(secret),
        }
    }

    /// Reads a file with one credential: `{"principal": …, "secret": …}` or `principal secret`.
    pub fn parse(text: &str) -> Result<Self, CredentialsError> {
        if is_json(text) {
            return credential_of(document(text)?, "");
        }
        let mut lines = plain(text)?;
        match lines.len() {
            0 => Err(CredentialsError::Empty),
            1 => Ok(lines.remove(0)),
            more => Err(CredentialsError::TooMany(more)),
        }
    }
}

/// Credentials by principal.
#[derive(Clone, Default)]
pub struct Credentials(BTreeMap<Principal, Credential>);

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.keys()).finish()
    }
}

impl FromIterator<Credential> for Credentials {
    fn from_iter<T: IntoIterator<Item = Credential>>(credentials: T) -> Self {
        let by_principal = |credential: Credential| (credential.principal.clone(), credential);
        Self(credentials.into_iter().map(by_principal).collect())
    }
}

impl Credentials {
    /// Reads a file: `{"credentials": [{"principal": …, "secret": …}]}` or lines of
    /// `principal secret`. When a principal occurs twice the last secret holds, as in the reference.
    pub fn parse(text: &str) -> Result<Self, CredentialsError> {
        if !is_json(text) {
            let lines = plain(text)?;
            if lines.is_empty() {
                return Err(CredentialsError::Empty);
            }
            return Ok(lines.into_iter().collect());
        }
        let document = document(text)?;
        let list = match document.get("credentials") {
            None | Some(Value::Null) => return Err(CredentialsError::NoList),
            Some(Value::Array(list)) => list.clone(),
            // A bare object where a list is meant is read as a list of one, as the reference's
            // JSON parser does.
            Some(one @ Value::Object(_)) => vec![one.clone()],
            Some(_) => return Err(CredentialsError::NoList),
        };
        let numbered = list.into_iter().enumerate();
        numbered
            .map(|(at, entry)| credential_of(entry, &format!("credentials[{at}]")))
            .collect()
    }

    /// Whether `secret` is that of `principal`. Takes as long for an unknown principal.
    pub fn verify(&self, principal: &str, secret: &[u8]) -> bool {
        let known = self.find(principal);
        // Compared with itself when nobody is known, so that the same work is done.
        let expected = known.map_or(secret, |credential| credential.secret.expose());
        let same: bool = expected.ct_eq(secret).into();
        same & known.is_some()
    }

    /// The secret of `principal`.
    pub fn secret(&self, principal: &str) -> Option<Arc<Secret>> {
        self.find(principal).map(|found| found.secret.clone())
    }

    pub(crate) fn find(&self, principal: &str) -> Option<&Credential> {
        self.0.get(principal)
    }

    /// Principals, in order.
    pub fn principals(&self) -> impl Iterator<Item = &Principal> {
        self.0.keys()
    }

    /// How many principals there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nobody can be authenticated.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Why a credentials file cannot be used. Never holds a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialsError {
    /// There is nothing in it.
    #[error("no credentials in it")]
    Empty,
    /// It begins as JSON and is not.
    #[error("not valid JSON: {problem} at line {line} column {column}")]
    Json {
        /// What the parser met; says nothing of the content.
        problem: &'static str,
        /// Where, counted from 1.
        line: usize,
        /// Where, counted from 1.
        column: usize,
    },
    /// It is JSON without the list of credentials.
    #[error("no list 'credentials' in it")]
    NoList,
    /// A field is missing, empty or of another type.
    #[error("'{field}' is {problem}")]
    Field {
        /// Path of the field, such as `credentials[2].secret`.
        field: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A plain line is not two words.
    #[error("line {line}: expected 'principal secret', found {words} word(s)")]
    Line {
        /// Which, counted from 1.
        line: usize,
        /// How many words it has.
        words: usize,
    },
    /// A file for one credential holds several.
    #[error("expected one credential, found {0}")]
    TooMany(usize),
}

fn is_json(text: &str) -> bool {
    text.trim_start().starts_with(['{', '['])
}

/// serde_json's own messages can quote what they met, which may be a secret: only the kind and the
/// place are told.
fn document(text: &str) -> Result<Value, CredentialsError> {
    serde_json::from_str(text).map_err(|error| CredentialsError::Json {
        problem: match error.classify() {
            serde_json::error::Category::Eof => "unexpected end",
            _ => "unexpected text",
        },
        line: error.line(),
        column: error.column(),
    })
}

/// The credential in a JSON object at `path`.
fn credential_of(mut entry: Value, path: &str) -> Result<Credential, CredentialsError> {
    if !entry.is_object() {
        return Err(CredentialsError::Field {
            field: if path.is_empty() { "credential" } else { path }.to_owned(),
            problem: "not an object",
        });
    }
    let mut text = |name: &str| {
        let field = if path.is_empty() {
            name.to_owned()
        } else {
            format!("{path}.{name}")
        };
        let problem = match entry.get_mut(name).map(Value::take) {
            None | Some(Value::Null) => "missing",
            Some(Value::String(text)) if text.is_empty() => "empty",
            Some(Value::String(text)) => return Ok(text),
            Some(_) => "not a string",
        };
        Err(CredentialsError::Field { field, problem })
    };
    let principal = text("principal")?;
    let secret = text("secret")?;
    Ok(Credential::new(principal, Secret::new(secret.into_bytes())))
}

/// Credentials of plain lines. Empty lines and those that start with `#` hold none.
fn plain(text: &str) -> Result<Vec<Credential>, CredentialsError> {
    let mut credentials = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let [principal, secret] = words[..] else {
            return Err(CredentialsError::Line {
                line: at + 1,
                words: words.len(),
            });
        };
        credentials.push(Credential::new(principal, Secret::from(secret)));
    }
    Ok(credentials)
}

/// Wipes a file's text once it has been read.
pub fn wipe(mut text: String) {
    text.zeroize();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &str) -> String {
        Credentials::parse(text).expect_err("a refusal").to_string()
    }

    #[test]
    fn both_forms_are_read() {
        let json = r#" {"credentials": [{"principal": "a", "secret": "1"},
            {"principal": "b b", "secret": "2 2"}]}"#;
        let read = Credentials::parse(json).expect("JSON");
        assert_eq!(read.len(), 2);
        assert!(read.verify("a", b"1") && read.verify("b b", b"2 2"));
        let plain = "# who may\n\n a\t1 \r\nb 2\n";
        let read = Credentials::parse(plain).expect("lines");
        assert!(read.verify("a", b"1") && read.verify("b", b"2"));
        let one = Credential::parse(r#"{"principal": "a", "secret": "1"}"#);
        assert_eq!(one, Credential::parse("a 1\n"));
        assert_eq!(one, Ok(Credential::new("a", Secret::from("1"))));
    }

    #[test]
    fn a_bare_object_is_a_list_of_one() {
        let read = Credentials::parse(r#"{"credentials": {"principal": "a", "secret": "1"}}"#);
        assert!(read.is_ok_and(|read| read.verify("a", b"1")));
    }

    #[test]
    fn only_the_right_secret_of_a_known_principal_is_right() {
        let read = Credentials::parse("a one\n").expect("lines");
        assert!(read.verify("a", b"one"));
        for (principal, secret) in [("a", "two"), ("a", ""), ("b", "one"), ("", "")] {
            assert!(!read.verify(principal, secret.as_bytes()));
        }
        assert!(read.secret("b").is_none());
    }

    #[test]
    fn the_last_of_two_secrets_holds() {
        let read = Credentials::parse("a one\na two\n").expect("lines");
        assert!(read.verify("a", b"two") && !read.verify("a", b"one"));
    }

    #[test]
    fn what_is_wrong_is_told_by_place_and_without_the_secret() {
        assert_eq!(refusal(""), "no credentials in it");
        assert_eq!(refusal("# nothing\n"), "no credentials in it");
        assert_eq!(
            refusal("a one\nb hushhush hushhush\n"),
            "line 2: expected 'principal secret', found 3 word(s)"
        );
        assert_eq!(refusal("{}"), "no list 'credentials' in it");
        assert_eq!(refusal("[1]"), "no list 'credentials' in it");
        let missing =
            r#"{"credentials": [{"principal": "a", "secret": "hushhush"}, {"principal": "b"}]}"#;
        assert_eq!(refusal(missing), "'credentials[1].secret' is missing");
        let number = r#"{"credentials": [{"principal": "a", "secret": 12345678}]}"#;
        assert_eq!(refusal(number), "'credentials[0].secret' is not a string");
        assert_eq!(
            refusal(r#"{"credentials": ["hushhush"]}"#),
            "'credentials[0]' is not an object"
        );
        let torn = r#"{"credentials": [{"principal": "a", "secret": "hushhush}]}"#;
        let text = refusal(torn);
        assert!(text.starts_with("not valid JSON: unexpected end at line 1"));
        assert!(!text.contains("hush"));
        let bare = r#"{"credentials": hushhush}"#;
        assert!(!refusal(bare).contains("hush"));
    }

    #[test]
    fn one_credential_is_wanted_and_not_several() {
        let error = Credential::parse("a 1\nb 2\n").expect_err("several");
        assert_eq!(error, CredentialsError::TooMany(2));
        let error = Credential::parse(r#"{"principal": ""}"#).expect_err("no principal");
        assert_eq!(error.to_string(), "'principal' is empty");
    }

    #[test]
    fn nothing_printed_shows_a_secret() {
        let read = Credentials::parse("a hushhush\n").expect("lines");
        let credential = Credential::new("a", Secret::from("hushhush"));
        assert_eq!(format!("{read:?}"), r#"["a"]"#);
        assert!(!format!("{credential:?}").contains("hush"));
    }
}
