//! The server: accepts connections within [`Limits`], reads whole requests, tells libprocess
//! messages from requests, and hands both to a [`Service`].

use super::{
    Body, Limits, Request, Response,
    guard::{Busy, BusyBody, Guarded},
    response,
};
use crate::net::Transport;
use bytes::Bytes;
use http::{StatusCode, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use std::{future::Future, net::SocketAddr, sync::Arc, time::Duration};
use tepui_protocol::{
    libprocess,
    peer::{PeerMessage, Pid},
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    task::JoinSet,
};

/// How long to wait when the process is out of file descriptors.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);
/// How long open responses may take when the server stops.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// What answers requests and takes messages.
pub trait Service: Send + Sync + 'static {
    /// Answers one request.
    fn request(&self, request: Request) -> impl Future<Output = Response> + Send;

    /// Takes one message for our process called `to`. `false`: there is no such process (404).
    /// Messages of one connection arrive one after the other.
    fn message(
        &self,
        from: Pid,
        to: &str,
        message: PeerMessage,
    ) -> impl Future<Output = bool> + Send;
}

/// A running server. Dropping it does not stop it; [`Server::stop`] does.
pub struct Server {
    stop: watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
}

impl Server {
    /// Serves connections to `listener` until stopped.
    pub fn start<S: Service>(
        listener: TcpListener,
        transport: Transport,
        limits: Limits,
        service: Arc<S>,
    ) -> Self {
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(accept(
            listener,
            transport,
            Arc::new(limits),
            service,
            stopped,
        ));
        Self { stop, task }
    }

    /// Accepts no more connections, lets responses in progress finish for a moment, and closes.
    pub async fn stop(self) {
        let _ = self.stop.send(true);
        // An error means that the task is gone already.
        let _ = self.task.await;
    }
}

async fn accept<S: Service>(
    listener: TcpListener,
    transport: Transport,
    limits: Arc<Limits>,
    service: Arc<S>,
    mut stopped: watch::Receiver<bool>,
) {
    let slots = Arc::new(Semaphore::new(limits.connections_max));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let slot = tokio::select! {
            slot = slots.clone().acquire_owned() => slot,
            _ = stopped.changed() => break,
        };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopped.changed() => break,
        };
        match accepted {
            Ok((stream, remote)) => {
                let connection = Connection {
                    remote,
                    transport: transport.clone(),
                    limits: limits.clone(),
                    service: service.clone(),
                    stopped: stopped.clone(),
                };
                connections.spawn(async move {
                    connection.serve(stream).await;
                    drop(slot);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
    drop(listener);
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN_TIMEOUT, drained).await.is_err() {
        tracing::debug!("closing connections that are still open");
    }
}

struct Connection<S> {
    remote: SocketAddr,
    transport: Transport,
    limits: Arc<Limits>,
    service: Arc<S>,
    stopped: watch::Receiver<bool>,
}

impl<S: Service> Connection<S> {
    async fn serve(mut self, stream: TcpStream) {
        let accepted = self.transport.accept(stream, self.limits.head_timeout);
        let accepted = tokio::time::timeout(self.limits.first_byte_timeout, accepted);
        let accepted = tokio::select! {
            accepted = accepted => accepted,
            _ = self.stopped.changed() => return,
        };
        let stream = match accepted.unwrap_or(Err(std::io::ErrorKind::TimedOut.into())) {
            Ok(stream) => stream,
            Err(error) => {
                tracing::debug!(remote = %self.remote, %error, "connection lost");
                return;
            }
        };
        let (stream, activity) = Guarded::new(stream, self.limits.clone());
        let (remote, limits, service) = (self.remote, self.limits.clone(), self.service.clone());
        let handler = service_fn(move |request| {
            let (busy, limits) = (activity.busy(), limits.clone());
            // On a task of its own: what was sent completely counts, even if its sender closes the
            // connection before the answer, as libprocess peers do when they end.
            tokio::spawn(handle(request, remote, busy, limits, service.clone()))
        });
        // Never `pipeline_flush`: it lifts hyper's bound on buffered response bodies.
        let connection = hyper::server::conn::http1::Builder::new()
            .max_buf_size(self.limits.head_bytes_max.max(8192))
            .title_case_headers(true)
            .serve_connection(TokioIo::new(stream), handler);
        tokio::pin!(connection);
        let result = tokio::select! {
            result = connection.as_mut() => result,
            _ = self.stopped.changed() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = result {
            tracing::debug!(remote = %self.remote, %error, "connection ended");
        }
    }
}

async fn handle<S: Service>(
    request: http::Request<Incoming>,
    remote: SocketAddr,
    busy: Busy,
    limits: Arc<Limits>,
    service: Arc<S>,
) -> http::Response<BusyBody<Body>> {
    let (parts, body) = request.into_parts();
    let (mut response, gzip) = match read_body(body, &limits).await {
        Err(refusal) => (refusal, false),
        Ok(body) => {
            let request = Request::new(parts, body, remote);
            let gzip = request.accepts_gzip();
            (answer(request, &*service).await, gzip)
        }
    };
    response = response::compress(response, gzip).await;
    response.map(|body| BusyBody { body, _busy: busy })
}

async fn answer<S: Service>(request: Request, service: &S) -> Response {
    let recognised = libprocess::recognise(
        request.method.as_str(),
        request.uri.path(),
        request.header("user-agent"),
        request.header("libprocess-from"),
    );
    let envelope = match recognised {
        Ok(None) => return service.request(request).await,
        Ok(Some(envelope)) => envelope,
        Err(error) => {
            tracing::info!(remote = %request.remote, %error, "dropped a message");
            return response::text(400, error.to_string());
        }
    };
    match PeerMessage::decode(&envelope.message, request.body) {
        Ok(message) => {
            match service
                .message(envelope.from, &envelope.process, message)
                .await
            {
                true => response::accepted(),
                false => response::not_found(),
            }
        }
        Err(error) => {
            // The reference delivers the bytes and its process drops them: the sender hears no
            // more than here.
            tracing::warn!(from = %envelope.from, %error, "dropped a message");
            response::accepted()
        }
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
