//! Content negotiation and the decoding of calls, with the reference's texts
//! (`src/master/http.cpp`, `src/slave/http.cpp`).

use super::{Request, Response, request::weight, response::text};
use bytes::Bytes;
use prost::{Message, Name};
use tepui_protocol::{json, recordio, v1::agent, wire};

const JSON: &str = "application/json";
const PROTOBUF: &str = "application/x-protobuf";
const RECORDIO: &str = "application/recordio";

/// How a message is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ContentType {
    /// `application/json`
    Json,
    /// `application/x-protobuf`
    Protobuf,
}

impl ContentType {
    /// Its name in headers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Json => JSON,
            Self::Protobuf => PROTOBUF,
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        let name = name.split(';').next().unwrap_or_default().trim();
        [Self::Json, Self::Protobuf]
            .into_iter()
            .find(|t| t.name().eq_ignore_ascii_case(name))
    }
}

/// How the body of a request is written, from `Content-Type`.
pub fn content_type(request: &Request) -> Result<ContentType, Response> {
    let name = request
        .header("content-type")
        .ok_or_else(|| text(400, "Expecting 'Content-Type' to be present"))?;
    ContentType::from_name(name).ok_or_else(|| {
        text(
            415,
            format!("Expecting 'Content-Type' of {JSON} or {PROTOBUF}"),
        )
    })
}

/// How the response should be written, from `Accept`. JSON when the client does not care.
pub fn accept(request: &Request) -> Result<ContentType, Response> {
    acceptable(request, "accept").ok_or_else(|| {
        text(
            406,
            format!("Expecting 'Accept' to allow '{PROTOBUF}' or '{JSON}'"),
        )
    })
}

/// How the response of a follower's operator call should be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AgentAccept {
    /// One message (or RecordIO of a type that the header `Message-Accept` does not name).
    Message(ContentType),
    /// `application/recordio` of messages written this way.
    RecordIo(ContentType),
}

/// `Accept` and `Message-Accept` of a follower's operator call (`Http::api` of
/// `src/slave/http.cpp`).
pub fn agent_accept(request: &Request) -> Result<AgentAccept, Response> {
    if let Some(content_type) = acceptable(request, "accept") {
        if request.headers.contains_key("message-accept") {
            return Err(text(
                406,
                "Expecting 'Message-Accept' to be not set for non-streaming responses",
            ));
        }
        return Ok(AgentAccept::Message(content_type));
    }
    if !accepts(request, "accept", RECORDIO) {
        return Err(text(
            406,
            format!("Expecting 'Accept' to allow {JSON} or {PROTOBUF} or {RECORDIO}"),
        ));
    }
    acceptable(request, "message-accept")
        .map(AgentAccept::RecordIo)
        .ok_or_else(|| {
            text(
                406,
                format!("Expecting 'Message-Accept' to allow {JSON} or {PROTOBUF}"),
            )
        })
}

fn acceptable(request: &Request, header: &str) -> Option<ContentType> {
    [ContentType::Json, ContentType::Protobuf]
        .into_iter()
        .find(|content_type| accepts(request, header, content_type.name()))
}

/// Whether a header lists a type, its `type/*` or `*/*`; without the header everything goes.
fn accepts(request: &Request, header: &str, name: &str) -> bool {
    let Some(value) = request.header(header) else {
        return !request.headers.contains_key(header);
    };
    let major = name.split('/').next().unwrap_or_default();
    [name, &format!("{major}/*"), "*/*"]
        .iter()
        .find_map(|candidate| weight(value, candidate))
        .is_some_and(|q| q > 0.0)
}

/// Reads the call in a request's body.
pub fn decode_call<T: Message + Name + Default>(request: &Request) -> Result<T, Response> {
    match content_type(request)? {
        ContentType::Protobuf => wire::decode(request.body.clone())
            .map_err(|_| text(400, "Failed to parse body into Call protobuf")),
        ContentType::Json => json::decode(&request.body).map_err(|error| {
            let failed = match error.is_syntax() {
                true => "Failed to parse body into JSON",
                false => "Failed to convert JSON into Call protobuf",
            };
            text(400, format!("{failed}: {error}"))
        }),
    }
}

/// How the body of a follower's operator call is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AgentContent {
    /// One message.
    Message(ContentType),
    /// `application/recordio` of messages written this way; the first is the call.
    RecordIo(ContentType),
}

/// `Content-Type` and `Message-Content-Type` of a follower's operator call (`Http::api` of
/// `src/slave/http.cpp`).
pub fn agent_content(request: &Request) -> Result<AgentContent, Response> {
    const MESSAGE: &str = "message-content-type";
    let name = request
        .header("content-type")
        .ok_or_else(|| text(400, "Expecting 'Content-Type' to be present"))?;
    if let Some(content_type) = ContentType::from_name(name) {
        if request.headers.contains_key(MESSAGE) {
            return Err(text(
                415,
                "Expecting 'Message-Content-Type' to be not set for non-streaming requests",
            ));
        }
        return Ok(AgentContent::Message(content_type));
    }
    let name = name.split(';').next().unwrap_or_default().trim();
    if !name.eq_ignore_ascii_case(RECORDIO) {
        return Err(text(
            415,
            format!("Expecting 'Content-Type' of {JSON} or {PROTOBUF} or {RECORDIO}"),
        ));
    }
    let inner = request.header(MESSAGE).ok_or_else(|| {
        text(
            400,
            "Expecting 'Message-Content-Type' to be set for streaming requests",
        )
    })?;
    ContentType::from_name(inner)
        .map(AgentContent::RecordIo)
        .ok_or_else(|| {
            text(
                415,
                format!("Expecting 'Message-Content-Type' of {JSON} or {PROTOBUF}"),
            )
        })
}

/// Reads a follower's operator call; its texts are not those of the other APIs (`deserialize` of
/// `src/common/http.hpp`).
pub fn decode_agent_call(
    request: &Request,
    content: AgentContent,
) -> Result<agent::Call, Response> {
    let (content_type, body) = match content {
        AgentContent::Message(content_type) => (content_type, request.body.clone()),
        AgentContent::RecordIo(content_type) => (content_type, first_record(&request.body)?),
    };
    match content_type {
        ContentType::Protobuf => {
            wire::decode(body).map_err(|_| text(400, "Failed to parse body into a protobuf object"))
        }
        ContentType::Json => json::decode(&body).map_err(|error| {
            let prefix = match error.is_syntax() {
                true => "Failed to parse body into JSON: ",
                false => "",
            };
            text(400, format!("{prefix}{error}"))
        }),
    }
}

fn first_record(body: &Bytes) -> Result<Bytes, Response> {
    let mut records = Vec::new();
    // The body is whole and bounded already: a longer record is one that is not all there.
    let read = recordio::Decoder::new(usize::MAX).decode(body, &mut records);
    match (records.into_iter().next(), read) {
        (Some(first), _) => Ok(first),
        (None, Err(error)) => Err(text(400, error.to_string())),
        (None, Ok(())) => Err(text(400, "Received EOF while reading request body")),
    }
}

/// Writes a message.
pub fn encode<T: Message + Name>(content_type: ContentType, message: &T) -> Bytes {
    match content_type {
        ContentType::Protobuf => wire::encode(message),
        ContentType::Json => json::encode(message).into(),
    }
}

/// 200 with a message.
pub fn respond<T: Message + Name>(content_type: ContentType, message: &T) -> Response {
    super::response::content(content_type.name(), encode(content_type, message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;

    fn request(headers: &[(&'static str, &'static str)]) -> Request {
        let mut builder = http::Request::builder();
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        let (parts, ()) = builder.body(()).expect("a request").into_parts();
        Request::new(parts, Bytes::new(), SocketAddr::from(([127, 0, 0, 1], 1)))
    }

    fn status<T>(result: Result<T, Response>) -> u16 {
        result.map_or_else(|response| response.status().as_u16(), |_| 200)
    }

    #[test]
    fn json_is_the_default_and_preferred() {
        for (accept_header, expected) in [
            ("*/*", ContentType::Json),
            ("application/*", ContentType::Json),
            ("application/json", ContentType::Json),
            (
                "application/x-protobuf, application/json",
                ContentType::Json,
            ),
            ("Application/X-Protobuf", ContentType::Protobuf),
            (
                "application/json;q=0, application/x-protobuf",
                ContentType::Protobuf,
            ),
        ] {
            let accepted = accept(&request(&[("accept", accept_header)]));
            assert_eq!(accepted.ok(), Some(expected), "{accept_header}");
        }
        assert_eq!(accept(&request(&[])).ok(), Some(ContentType::Json));
        for refused in ["text/html", "", "application/recordio"] {
            assert_eq!(status(accept(&request(&[("accept", refused)]))), 406);
        }
    }

    #[test]
    fn a_content_type_is_required_and_known() {
        assert_eq!(status(content_type(&request(&[]))), 400);
        for unknown in ["", "text/plain", "application/recordio"] {
            assert_eq!(
                status(content_type(&request(&[("content-type", unknown)]))),
                415
            );
        }
        let known = content_type(&request(&[(
            "content-type",
            "Application/JSON; charset=utf-8",
        )]));
        assert_eq!(known.ok(), Some(ContentType::Json));
    }

    #[test]
    fn agents_also_read_record_streams_that_name_their_messages_type() {
        let recordio = ("content-type", "application/recordio");
        let json = ("content-type", "application/json");
        let inner = ("message-content-type", "application/json");
        for (headers, expected) in [
            (&[][..], 400),
            (&[("content-type", "text/plain")], 415),
            (&[json], 200),
            (&[json, inner], 415),
            (&[recordio], 400),
            (&[recordio, ("message-content-type", "text/plain")], 415),
            (&[recordio, inner], 200),
        ] {
            assert_eq!(status(agent_content(&request(headers))), expected);
        }
    }

    #[test]
    fn the_first_record_of_a_stream_is_the_call() {
        let call = |body: &'static [u8]| {
            let mut request = request(&[]);
            request.body = Bytes::from_static(body);
            decode_agent_call(&request, AgentContent::RecordIo(ContentType::Json))
        };
        let read = call(b"20\n{\"type\":\"GET_STATE\"}3\n{}").ok();
        assert_eq!(
            read.map(|call| call.r#type()),
            Some(agent::call::Type::GetState)
        );
        for wrong in [&b""[..], b"5\n{}", b"x\n{}", b"1\n{"] {
            assert_eq!(status(call(wrong)), 400);
        }
    }

    #[test]
    fn record_streams_name_their_messages_type() {
        let recordio = ("accept", "application/recordio");
        let protobuf = ("message-accept", "application/x-protobuf");
        let accepted = agent_accept(&request(&[recordio, protobuf]));
        assert_eq!(
            accepted.ok(),
            Some(AgentAccept::RecordIo(ContentType::Protobuf))
        );
        let accepted = agent_accept(&request(&[recordio]));
        assert_eq!(
            accepted.ok(),
            Some(AgentAccept::RecordIo(ContentType::Json))
        );
        assert_eq!(status(agent_accept(&request(&[protobuf]))), 406);
        assert_eq!(
            status(agent_accept(&request(&[
                recordio,
                ("message-accept", "text/x")
            ]))),
            406
        );
        assert_eq!(
            status(agent_accept(&request(&[("accept", "text/html")]))),
            406
        );
    }
}
