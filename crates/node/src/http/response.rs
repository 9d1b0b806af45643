//! Responses, worded as the reference words them (`3rdparty/libprocess/include/process/http.hpp`).

use super::{Body, ContentType, Request};
use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use http::{HeaderValue, StatusCode, header};
use http_body_util::Full;
use std::io::Write;

/// What a handler returns.
pub type Response = http::Response<Body>;

/// Bodies below this are never compressed (`3rdparty/libprocess/src/encoder.hpp`).
const GZIP_BYTES_MIN: usize = 1024;
/// Bodies from here on are compressed off the threads that serve everybody.
const GZIP_ASIDE_BYTES: usize = 64 << 10;

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// A response of a status without a body.
pub fn empty(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

/// 200 without a body.
pub fn ok() -> Response {
    empty(StatusCode::OK)
}

/// 202 without a body.
pub fn accepted() -> Response {
    empty(StatusCode::ACCEPTED)
}

/// 200 with a body of some type.
pub fn content(content_type: &'static str, body: impl Into<Bytes>) -> Response {
    with_type(
        StatusCode::OK,
        HeaderValue::from_static(content_type),
        body.into(),
    )
}

/// A text, for errors and the few endpoints that answer with one. An unknown status is a 500.
pub fn text(status: u16, text: impl Into<Bytes>) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    with_type(status, TEXT, text.into())
}

/// The text that goes with a status when there is no better one: `404 Not Found.`
pub fn plain_error(status: StatusCode) -> Response {
    text(status.as_u16(), format!("{status}."))
}

/// 404 with the usual text.
pub fn not_found() -> Response {
    plain_error(StatusCode::NOT_FOUND)
}

/// 405, naming the methods that are served.
pub fn method_not_allowed(allowed: &[&str], received: &http::Method) -> Response {
    let names: Vec<_> = allowed.iter().map(|method| format!("'{method}'")).collect();
    let mut response = text(
        405,
        format!(
            "405 Method Not Allowed. Expecting one of {{ {} }}, but received '{received}'.",
            names.join(", ")
        ),
    );
    if let Ok(allowed) = HeaderValue::from_str(&allowed.join(", ")) {
        response.headers_mut().insert(header::ALLOW, allowed);
    }
    response
}

/// JSON that is already text; as a script that calls `jsonp` with it when the query asks for one.
pub fn json(request: &Request, body: String) -> Response {
    match request.query("jsonp") {
        Some(callback) => content("text/javascript", format!("{callback}({body})")),
        None => content(ContentType::Json.name(), body),
    }
}

/// 307 to the same path at the leader, without naming the scheme (`//host:port/path`;
/// `docs/scheduler-http-api.md`). `target` is empty for the leader's root.
pub fn redirect(host: &str, port: u32, target: &str) -> Response {
    let location = format!("//{host}:{port}{target}");
    let Ok(location) = HeaderValue::from_str(&location) else {
        return plain_error(StatusCode::INTERNAL_SERVER_ERROR);
    };
    let mut response = empty(StatusCode::TEMPORARY_REDIRECT);
    response.headers_mut().insert(header::LOCATION, location);
    response
}

fn with_type(status: StatusCode, content_type: HeaderValue, body: Bytes) -> Response {
    let mut response = Response::new(Body::Full(Full::new(body)));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, content_type);
    response
}

/// Compresses a response whose client accepts that.
pub(super) async fn compress(response: Response, accepts_gzip: bool) -> Response {
    if !accepts_gzip || response.headers().contains_key(header::CONTENT_ENCODING) {
        return response;
    }
    let (mut head, body) = response.into_parts();
    let plain = match body {
        Body::Full(full) => bytes_of(full),
        other => return Response::from_parts(head, other),
    };
    if plain.len() < GZIP_BYTES_MIN {
        return Response::from_parts(head, Body::Full(Full::new(plain)));
    }
    let packed = if plain.len() < GZIP_ASIDE_BYTES {
        gzip(&plain)
    } else {
        let plain = plain.clone();
        tokio::task::spawn_blocking(move || gzip(&plain))
            .await
            .ok()
            .flatten()
    };
    let body = match packed {
        Some(packed) => {
            head.headers
                .insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            packed.into()
        }
        None => plain,
    };
    Response::from_parts(head, Body::Full(Full::new(body)))
}

fn gzip(plain: &[u8]) -> Option<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(plain.len() / 4), Compression::fast());
    encoder.write_all(plain).ok()?;
    encoder.finish().ok()
}

/// The bytes of a body that is known to be one piece.
fn bytes_of(mut full: Full<Bytes>) -> Bytes {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match hyper::body::Body::poll_frame(std::pin::Pin::new(&mut full), &mut context) {
        std::task::Poll::Ready(Some(Ok(frame))) => frame.into_data().unwrap_or_default(),
        _ => Bytes::new(),
    }
}
