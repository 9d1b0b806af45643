//! Connections to where an address points: as they are for `http`, under TLS for `https`.

use http::Uri;
use hyper_util::{
    client::legacy::connect::{Connected, Connection, HttpConnector},
    rt::TokioIo,
};
use std::{
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tepui_tls::{Stream, Tls, TlsConfig};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::OnceCell,
    time::timeout,
};
use tower_service::Service;

/// How long a connection may take to be made, and a handshake on it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Makes connections. Clones share how TLS is done.
#[derive(Clone)]
pub(crate) struct Connector {
    tcp: HttpConnector,
    /// Set up when first needed, unless it was given: most clients never do.
    tls: Arc<OnceCell<Tls>>,
}

impl Connector {
    pub(crate) fn new(tls: Option<Tls>) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
        tcp.enforce_http(false);
        Self {
            tcp,
            tls: Arc::new(OnceCell::new_with(tls)),
        }
    }

    /// As given, or what a client does that was told nothing.
    async fn tls(&self) -> Result<Tls, BoxError> {
        let load = || async {
            let load = tokio::task::spawn_blocking(|| Tls::load(TlsConfig::client()));
            Ok::<_, BoxError>(load.await??)
        };
        self.tls.get_or_try_init(load).await.cloned()
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Pooled>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.tcp.poll_ready(cx).map_err(BoxError::from)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let this = self.clone();
        let secure = uri.scheme_str() == Some("https");
        let host = uri.host().unwrap_or_default().to_owned();
        let tcp = self.tcp.call(uri);
        Box::pin(async move {
            let tcp = tcp.await?.into_inner();
            if !secure {
                return Ok(TokioIo::new(Pooled(Stream::Plain(tcp))));
            }
            let tls = this.tls().await?;
            let stream = timeout(CONNECT_TIMEOUT, tls.connect(tcp, Some(&host))).await;
            let stream = stream.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
            Ok(TokioIo::new(Pooled(Stream::Tls(Box::new(stream)))))
        })
    }
}

/// A stream that hyper's pool takes.
pub(crate) struct Pooled(Stream);

impl Connection for Pooled {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl AsyncRead for Pooled {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Pooled {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
