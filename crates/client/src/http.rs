//! One HTTP connection pool under all clients: typed requests, typed answers, RecordIO streams.

use crate::{Error, connect::Connector, error::Whole};
use base64::Engine;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use prost::{Message, Name};
use std::{collections::VecDeque, sync::Arc, time::Duration};
use tepui_protocol::{json, recordio, wire};
use tepui_tls::Tls;

/// How long a call may take before it is given up.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Largest answer that is read into memory.
const MAX_ANSWER_BYTES: usize = 1 << 30;
/// Largest single record of a stream.
const MAX_RECORD_BYTES: usize = 1 << 30;
/// Redirects followed to find the leader.
const MAX_REDIRECTS: usize = 5;
pub(crate) const STREAM_ID: &str = "Mesos-Stream-Id";

/// How messages are written on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Codec {
    /// `application/x-protobuf`.
    #[default]
    Protobuf,
    /// `application/json`.
    Json,
}

impl Codec {
    fn media_type(self) -> &'static str {
        match self {
            Self::Protobuf => "application/x-protobuf",
            Self::Json => "application/json",
        }
    }

    fn encode<T: Message + Name>(self, message: &T) -> Bytes {
        match self {
            Self::Protobuf => message.encode_to_vec().into(),
            Self::Json => json::encode(message).into(),
        }
    }

    fn decode<T: Message + Name + Default>(self, bytes: Bytes) -> Result<T, String> {
        match self {
            Self::Protobuf => wire::decode(bytes).map_err(|e| e.to_string()),
            Self::Json => json::decode(&bytes).map_err(|e| e.to_string()),
        }
    }
}

/// Principal and secret for HTTP basic authentication. The secret is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential {
    /// Who.
    pub principal: String,
    /// The shared secret.
    pub secret: String,
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credential")
            .field("principal", &self.principal)
            .finish_non_exhaustive()
    }
}

/// Shared by clones: one pool of connections.
#[derive(Clone)]
pub(crate) struct Http {
    client: Client<Connector, Full<Bytes>>,
    pub(crate) codec: Codec,
    authorization: Option<Arc<HeaderValue>>,
    /// What `host:port` without a scheme means.
    secure: bool,
}

impl Http {
    pub(crate) fn new(codec: Codec, authorization: Option<String>) -> Result<Self, Error> {
        let authorization = authorization
            .map(|text| {
                let mut value = HeaderValue::from_str(&text).map_err(|e| Error::Invalid {
                    what: "credential",
                    reason: e.to_string(),
                })?;
                value.set_sensitive(true);
                Ok(Arc::new(value))
            })
            .transpose()?;
        Ok(Self {
            client: Client::builder(TokioExecutor::new()).build(Connector::new(None)),
            codec,
            authorization,
            secure: false,
        })
    }

    /// `host:port` is spoken to under TLS from now on.
    pub(crate) fn secure(mut self, secure: bool) -> Self {
        self.secure |= secure;
        self
    }

    /// As [`Http::secure`], with these certificates and authorities.
    pub(crate) fn tls(mut self, tls: Tls) -> Self {
        self.client = Client::builder(TokioExecutor::new()).build(Connector::new(Some(tls)));
        self.secure = true;
        self
    }

    pub(crate) fn basic(credential: &Credential) -> String {
        let pair = format!("{}:{}", credential.principal, credential.secret);
        format!(
            "Basic {}",
            base64::engine::general_purpose::STANDARD.encode(pair)
        )
    }

    fn request(
        &self,
        method: Method,
        address: &str,
        path: &str,
        body: Bytes,
    ) -> Result<Request<Full<Bytes>>, Error> {
        let scheme = match (address.contains("://"), self.secure) {
            (true, _) => "",
            (false, true) => "https://",
            (false, false) => "http://",
        };
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{scheme}{address}{path}"))
            .header(
                header::USER_AGENT,
                concat!("tepui/", env!("CARGO_PKG_VERSION")),
            );
        if let Some(value) = &self.authorization {
            request = request.header(header::AUTHORIZATION, value.as_ref());
        }
        request.body(Full::new(body)).map_err(|e| Error::Invalid {
            what: "address",
            reason: format!("'{address}{path}': {e}"),
        })
    }

    async fn send(
        &self,
        address: &str,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, Error> {
        tokio::time::timeout(CALL_TIMEOUT, self.client.request(request))
            .await
            .map_err(|_| Error::TimedOut {
                address: address.to_owned(),
                seconds: CALL_TIMEOUT.as_secs(),
            })?
            .map_err(|source| Error::Connect {
                address: address.to_owned(),
                source: Whole(source).into(),
            })
    }

    /// Sends a message and returns the answer whatever its status, following redirects to the
    /// leader. The address that answered comes back too.
    pub(crate) async fn post<T: Message + Name>(
        &self,
        address: &str,
        path: &str,
        stream_id: Option<&str>,
        message: &T,
    ) -> Result<(String, Response<Incoming>), Error> {
        let body = self.codec.encode(message);
        let media_type = self.codec.media_type();
        self.post_body(address, path, stream_id, media_type, body)
            .await
    }

    /// Body of the answer to a JSON document that is posted to a plain endpoint.
    pub(crate) async fn post_json(
        &self,
        address: &str,
        path: &str,
        document: String,
    ) -> Result<Bytes, Error> {
        let json = Codec::Json.media_type();
        let sent = self.post_body(address, path, None, json, document.into());
        let (address, response) = sent.await?;
        expect_success(&address, response).await
    }

    async fn post_body(
        &self,
        address: &str,
        path: &str,
        stream_id: Option<&str>,
        media_type: &'static str,
        body: Bytes,
    ) -> Result<(String, Response<Incoming>), Error> {
        let mut address = address.to_owned();
        for _ in 0..=MAX_REDIRECTS {
            let mut request = self.request(Method::POST, &address, path, body.clone())?;
            let media_type = HeaderValue::from_static(media_type);
            request
                .headers_mut()
                .insert(header::CONTENT_TYPE, media_type.clone());
            request.headers_mut().insert(header::ACCEPT, media_type);
            if let Some(id) = stream_id.and_then(|id| HeaderValue::from_str(id).ok()) {
                request.headers_mut().insert(STREAM_ID, id);
            }
            let response = self.send(&address, request).await?;
            match redirected(&address, &response) {
                Some(next) => address = next,
                None => return Ok((address, response)),
            }
        }
        Err(Error::Detect {
            target: address,
            reason: format!("more than {MAX_REDIRECTS} redirects"),
        })
    }

    /// Sends a message whose answer is typed.
    pub(crate) async fn call<T, R>(
        &self,
        address: &str,
        path: &str,
        message: &T,
    ) -> Result<Option<R>, Error>
    where
        T: Message + Name,
        R: Message + Name + Default,
    {
        let (address, response) = self.post(address, path, None, message).await?;
        let body = expect_success(&address, response).await?;
        if body.is_empty() {
            return Ok(None);
        }
        self.codec
            .decode(body)
            .map(Some)
            .map_err(|reason| Error::Malformed { address, reason })
    }

    /// Body of a plain endpoint.
    pub(crate) async fn fetch(&self, address: &str, path: &str) -> Result<Bytes, Error> {
        let mut address = address.to_owned();
        for _ in 0..=MAX_REDIRECTS {
            let request = self.request(Method::GET, &address, path, Bytes::new())?;
            let response = self.send(&address, request).await?;
            match redirected(&address, &response) {
                Some(next) => address = next,
                None => return expect_success(&address, response).await,
            }
        }
        Err(Error::Detect {
            target: address,
            reason: format!("more than {MAX_REDIRECTS} redirects"),
        })
    }
}

/// Where a 307 from `address` points: `Location: //host:port/path` keeps the scheme.
fn redirected(address: &str, response: &Response<Incoming>) -> Option<String> {
    if response.status() != StatusCode::TEMPORARY_REDIRECT {
        return None;
    }
    let location = response.headers().get(header::LOCATION)?.to_str().ok()?;
    next_address(address, location)
}

fn next_address(address: &str, location: &str) -> Option<String> {
    let (scheme, rest) = match location.split_once("//") {
        Some(("", rest)) => (
            address.split_once("//").map_or("", |(scheme, _)| scheme),
            rest,
        ),
        // Nobody is led from a verified peer to one that anybody could be.
        Some(("http:", rest)) if !address.starts_with("https:") => ("http:", rest),
        Some(("https:", rest)) => ("https:", rest),
        _ => return None,
    };
    let host = rest.split('/').next().unwrap_or(rest);
    Some(if scheme.is_empty() {
        host.to_owned()
    } else {
        format!("{scheme}//{host}")
    })
}

/// The body of a 2xx answer.
pub(crate) async fn expect_success(
    address: &str,
    response: Response<Incoming>,
) -> Result<Bytes, Error> {
    let status = response.status();
    let body = tokio::time::timeout(
        CALL_TIMEOUT,
        Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect(),
    )
    .await
    .map_err(|_| Error::TimedOut {
        address: address.to_owned(),
        seconds: CALL_TIMEOUT.as_secs(),
    })?
    .map_err(|source| Error::Connect {
        address: address.to_owned(),
        source,
    })?
    .to_bytes();
    if status.is_success() {
        return Ok(body);
    }
    let message = String::from_utf8_lossy(&body).trim().to_owned();
    Err(Error::Status {
        address: address.to_owned(),
        status: status.as_u16(),
        message,
    })
}

/// An open RecordIO stream of messages.
pub(crate) struct Records {
    address: String,
    codec: Codec,
    body: Incoming,
    decoder: recordio::Decoder,
    ready: VecDeque<Bytes>,
}

impl Records {
    pub(crate) fn new(address: String, codec: Codec, body: Incoming) -> Self {
        let decoder = recordio::Decoder::new(MAX_RECORD_BYTES);
        Self {
            address,
            codec,
            body,
            decoder,
            ready: VecDeque::new(),
        }
    }

    /// The next message; `None` when the server ended the stream. Safe to drop and call again.
    pub(crate) async fn next<T: Message + Name + Default>(&mut self) -> Result<Option<T>, Error> {
        let malformed = |address: &str, reason: String| Error::Malformed {
            address: address.to_owned(),
            reason,
        };
        loop {
            if let Some(record) = self.ready.pop_front() {
                return self
                    .codec
                    .decode(record)
                    .map(Some)
                    .map_err(|e| malformed(&self.address, e));
            }
            let Some(frame) = self.body.frame().await else {
                return Ok(None);
            };
            let frame = frame.map_err(|e| Error::Connect {
                address: self.address.clone(),
                source: e.into(),
            })?;
            let Ok(data) = frame.into_data() else {
                continue;
            };
            let mut records = Vec::new();
            let outcome = self.decoder.decode(&data, &mut records);
            self.ready.extend(records);
            // The decoder stays failed: records that came before the failure are handed out first.
            if let (Err(error), true) = (outcome, self.ready.is_empty()) {
                return Err(malformed(&self.address, error.to_string()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_keep_the_scheme_and_never_leave_tls() {
        for (address, location, expected) in [
            ("a:1", "//b:2/x", Some("b:2")),
            ("https://a:1", "//b:2/x", Some("https://b:2")),
            ("a:1", "http://b:2/x", Some("http://b:2")),
            ("a:1", "https://b:2", Some("https://b:2")),
            ("https://a:1", "http://b:2/x", None),
            ("a:1", "/x", None),
            ("a:1", "ftp://b:2", None),
        ] {
            let next = next_address(address, location);
            assert_eq!(next.as_deref(), expected, "{address} {location}");
        }
    }
}
