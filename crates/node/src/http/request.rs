//! A request as handlers see it.

use bytes::Bytes;
use http::{HeaderMap, Method, Uri, request::Parts};
use std::{borrow::Cow, collections::BTreeMap, net::SocketAddr};
use tepui_auth::http::HttpPrincipal;
use tepui_model::effects::Principal;
use tepui_protocol::libprocess::percent_decode;

/// One whole request.
#[derive(Debug, Clone)]
pub struct Request {
    /// Its method.
    pub method: Method,
    /// Path and query as sent.
    pub uri: Uri,
    /// Its headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
    /// Who is connected.
    pub remote: SocketAddr,
    /// Who proved to have sent it, where its endpoint asks for that.
    pub principal: Option<HttpPrincipal>,
}

impl Request {
    /// From what the server read.
    pub fn new(mut parts: Parts, body: Bytes, remote: SocketAddr) -> Self {
        if let Some(secret) = parts.headers.get_mut(http::header::AUTHORIZATION) {
            // Not shown when a request is printed.
            secret.set_sensitive(true);
        }
        Self {
            method: parts.method,
            uri: parts.uri,
            headers: parts.headers,
            body,
            remote,
            principal: None,
        }
    }

    /// Name of who sent it. The holder of an executor's token has claims but no name.
    pub fn principal_name(&self) -> Option<Principal> {
        self.principal.as_ref()?.value.clone()
    }

    /// The path, decoded (`/slave(1)/state`, however the parentheses were sent). One that is not
    /// UTF-8 stays as it was sent and matches nothing.
    pub fn path(&self) -> Cow<'_, str> {
        let path = self.uri.path();
        if !path.contains('%') {
            return Cow::Borrowed(path);
        }
        // A plus is a plus in a path; only in a query is it a space.
        percent_decode(&path.replace('+', "%2B")).map_or(Cow::Borrowed(path), Cow::Owned)
    }

    /// A header's value; the first if there are several, nothing if it is not text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// A parameter of the query, decoded. The last of several wins, as in the reference.
    pub fn query(&self, name: &str) -> Option<String> {
        parameter(self.uri.query()?, name)
    }

    /// All parameters of the query, decoded.
    pub fn query_map(&self) -> BTreeMap<String, String> {
        self.uri
            .query()
            .map(|query| pairs(query).collect())
            .unwrap_or_default()
    }

    /// The parameters of a form sent as the body (`frameworkId=…`), or what is wrong with it.
    pub fn form(&self) -> Result<BTreeMap<String, String>, String> {
        let body = std::str::from_utf8(&self.body).map_err(|error| error.to_string())?;
        for part in body.split(['&', ';', '=']) {
            if percent_decode(part).is_none() {
                return Err(malformed_escape(part));
            }
        }
        Ok(pairs(body).collect())
    }

    /// Whether the response may be gzip (`Accept-Encoding`, RFC 9110 section 12.5.3): named, or
    /// covered by `*`, with a weight above zero.
    pub fn accepts_gzip(&self) -> bool {
        let Some(accepted) = self.header("accept-encoding") else {
            return false;
        };
        ["gzip", "*"]
            .iter()
            .find_map(|name| weight(accepted, name))
            .is_some_and(|q| q > 0.0)
    }
}

/// Weight that a header such as `Accept` gives to a name; `None` when it is not listed.
pub(super) fn weight(header: &str, name: &str) -> Option<f64> {
    header.split(',').find_map(|item| {
        let mut parts = item.split(';').map(str::trim);
        if !parts.next()?.eq_ignore_ascii_case(name) {
            return None;
        }
        let q = parts.find_map(|part| part.strip_prefix("q="));
        Some(q.map_or(1.0, |q| q.parse().unwrap_or(0.0)))
    })
}

/// `query::decode` of `3rdparty/libprocess/src/http.cpp`.
fn malformed_escape(part: &str) -> String {
    let bytes = part.as_bytes();
    let wrong = (0..bytes.len()).find(|&at| {
        let digits = bytes.get(at + 1..at + 3);
        bytes[at] == b'%' && !digits.is_some_and(|d| d.iter().all(u8::is_ascii_hexdigit))
    });
    match wrong {
        Some(at) => {
            let escape: String = part[at..].chars().take(3).collect();
            format!("Malformed % escape in '{part}': '{escape}'")
        }
        // Every escape is one: together they are not UTF-8.
        None => format!("'{part}' is not UTF-8"),
    }
}

fn parameter(query: &str, name: &str) -> Option<String> {
    pairs(query)
        .filter(|(key, _)| key == name)
        .last()
        .map(|(_, value)| value)
}

fn pairs(query: &str) -> impl Iterator<Item = (String, String)> {
    let decoded = |text: &str| percent_decode(text).unwrap_or_else(|| text.to_owned());
    query
        .split(['&', ';'])
        .filter(|pair| !pair.is_empty())
        .map(move |pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decoded(key), decoded(value))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(uri: &str, headers: &[(&'static str, &'static str)]) -> Request {
        let mut builder = http::Request::builder().uri(uri);
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        let (parts, ()) = builder.body(()).expect("a request").into_parts();
        Request::new(parts, Bytes::new(), SocketAddr::from(([127, 0, 0, 1], 1)))
    }

    #[test]
    fn paths_are_decoded() {
        assert_eq!(
            request("/slave%281%29/state", &[]).path(),
            "/slave(1)/state"
        );
        assert_eq!(request("/a+b%20c", &[]).path(), "/a+b c");
        assert_eq!(request("/%ff", &[]).path(), "/%ff");
    }

    #[test]
    fn query_parameters_are_decoded_and_the_last_wins() {
        let request = request("/x?path=%2Fa+b&offset=1&offset=2&flag", &[]);
        assert_eq!(request.query("path").as_deref(), Some("/a b"));
        assert_eq!(request.query("offset").as_deref(), Some("2"));
        assert_eq!(request.query("flag").as_deref(), Some(""));
        assert_eq!(request.query("length"), None);
    }

    #[test]
    fn forms_with_a_broken_escape_are_no_forms() {
        for (body, expected) in [
            (&b""[..], Ok(None)),
            (b"b=1", Ok(None)),
            (b"a=x%2Fy+z&b=1", Ok(Some("x/y z".to_owned()))),
            (b"a=%4", Err("Malformed % escape in '%4': '%4'".to_owned())),
            (
                "b=x%é".as_bytes(),
                Err("Malformed % escape in 'x%é': '%é'".to_owned()),
            ),
            (b"a=%ff", Err("'%ff' is not UTF-8".to_owned())),
        ] {
            let mut request = request("/x", &[]);
            request.body = Bytes::copy_from_slice(body);
            let read = request.form().map(|mut form| form.remove("a"));
            assert_eq!(read, expected);
        }
    }

    #[test]
    fn gzip_is_accepted_by_name_or_star_unless_refused() {
        for (header, expected) in [
            ("gzip", true),
            ("deflate, gzip;q=0.5", true),
            ("*", true),
            ("gzip;q=0", false),
            ("gzip;q=0, *", false),
            ("identity", false),
            ("", false),
        ] {
            assert_eq!(
                request("/", &[("accept-encoding", header)]).accepts_gzip(),
                expected
            );
        }
        assert!(!request("/", &[]).accepts_gzip());
    }
}
