//! Connections on which requests are made: whole requests in, responses out. Messages may come
//! between them.

use super::{
    Body, Limits, Request, Response, Service,
    delivery::{Mailbag, Verdict},
    guard::{Busy, BusyBody, Guarded},
    response,
    seats::Seat,
    server::Shared,
};
use crate::net::Stream;
use bytes::Bytes;
use http::{StatusCode, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use tepui_protocol::libprocess;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Serves requests until the connection ends. `received` was read of it before.
pub(super) async fn serve<S: Service>(
    stream: Stream,
    received: Vec<u8>,
    shared: Arc<Shared<S>>,
    seat: Seat,
    mailbag: Mailbag,
) {
    let remote = mailbag.remote();
    let mut stopped = shared.stopped.clone();
    let stream = Resumed { received, stream };
    let (stream, activity) = Guarded::new(stream, shared.limits.clone());
    let head_bytes_max = shared.limits.head_bytes_max;
    let handler = service_fn(move |request| {
        seat.known();
        let (busy, shared, mailbag) = (activity.busy(), shared.clone(), mailbag.clone());
        // On a task of its own: what was sent completely counts, even if its sender closes the
        // connection before the answer, as libprocess peers do when they end.
        tokio::spawn(handle(request, remote, busy, shared, mailbag))
    });
    // Never `pipeline_flush`: it lifts hyper's bound on buffered response bodies.
    let connection = hyper::server::conn::http1::Builder::new()
        .max_buf_size(head_bytes_max.max(8192))
        .title_case_headers(true)
        .serve_connection(TokioIo::new(stream), handler);
    tokio::pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        _ = stopped.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%remote, %error, "connection ended");
    }
}

async fn handle<S: Service>(
    request: http::Request<Incoming>,
    remote: SocketAddr,
    busy: Busy,
    shared: Arc<Shared<S>>,
    mailbag: Mailbag,
) -> http::Response<BusyBody<Body>> {
    let (parts, body) = request.into_parts();
    let (mut response, gzip) = match read_body(body, &shared.limits).await {
        Err(refusal) => (refusal, false),
        Ok(body) => {
            let request = Request::new(parts, body, remote);
            let gzip = request.accepts_gzip();
            (answer(request, &shared, &mailbag).await, gzip)
        }
    };
    response = response::compress(response, gzip).await;
    response.map(|body| BusyBody { body, _busy: busy })
}

async fn answer<S: Service>(request: Request, shared: &Shared<S>, mailbag: &Mailbag) -> Response {
    let recognised = libprocess::recognise(
        request.method.as_str(),
        request.uri.path(),
        request.header("user-agent"),
        request.header("libprocess-from"),
    );
    let envelope = match recognised.transpose() {
        None => return shared.service.request(request).await,
        Some(envelope) => envelope,
    };
    match mailbag.deliver(shared, envelope, request.body).await {
        Verdict::Accepted => response::accepted(),
        Verdict::NoSuchProcess => response::not_found(),
        Verdict::Bad(text) => response::text(StatusCode::BAD_REQUEST.as_u16(), text),
    }
}

/// Reads a whole body, or says why not.
async fn read_body(body: Incoming, limits: &Limits) -> Result<Bytes, Response> {
    let announced = hyper::body::Body::size_hint(&body).lower();
    if announced > limits.body_bytes_max as u64 {
        return Err(refusal(StatusCode::PAYLOAD_TOO_LARGE));
    }
    let whole = Limited::new(body, limits.body_bytes_max).collect();
    match tokio::time::timeout(limits.body_timeout, whole).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            Err(refusal(StatusCode::PAYLOAD_TOO_LARGE))
        }
        Ok(Err(_)) => Err(refusal(StatusCode::BAD_REQUEST)),
        Err(_) => Err(refusal(StatusCode::REQUEST_TIMEOUT)),
    }
}

/// An error after which the connection cannot be used: the rest of the body is still to come.
fn refusal(status: StatusCode) -> Response {
    let mut refusal = response::plain_error(status);
    refusal.headers_mut().insert(
        header::CONNECTION,
        header::HeaderValue::from_static("close"),
    );
    refusal
}

/// A stream of which some was read already.
struct Resumed {
    received: Vec<u8>,
    stream: Stream,
}

impl AsyncRead for Resumed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.received.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buf);
        }
        let count = self.received.len().min(buf.remaining());
        buf.put_slice(&self.received[..count]);
        if count == self.received.len() {
            self.received = Vec::new();
        } else {
            self.received.drain(..count);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Resumed {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
