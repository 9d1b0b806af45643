//! A connection to a server that can be cut: bytes are swallowed, nobody is told.

use std::{net::SocketAddr, sync::Arc};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, tcp},
    sync::watch,
    task::AbortHandle,
};

/// A way to the server. Closed when dropped.
pub(crate) struct Link {
    pub(crate) port: u16,
    cut: Arc<watch::Sender<bool>>,
    task: AbortHandle,
}

impl Link {
    pub(crate) async fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let own = listener.local_addr().expect("an address").port();
        let (cut, is_cut) = watch::channel(false);
        let task = tokio::spawn(async move {
            while let Ok((here, _)) = listener.accept().await {
                let is_cut = is_cut.clone();
                tokio::spawn(async move {
                    let server = SocketAddr::from(([127, 0, 0, 1], port));
                    let Ok(there) = TcpStream::connect(server).await else {
                        return;
                    };
                    let (here_in, here_out) = here.into_split();
                    let (there_in, there_out) = there.into_split();
                    tokio::join!(
                        carry(here_in, there_out, is_cut.clone()),
                        carry(there_in, here_out, is_cut),
                    );
                });
            }
        });
        Self {
            port: own,
            cut: Arc::new(cut),
            task: task.abort_handle(),
        }
    }

    /// Swallows everything from now on, or carries it again.
    pub(crate) fn cut(&self, cut: bool) {
        self.cut.send_replace(cut);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn carry(
    mut from: tcp::OwnedReadHalf,
    mut to: tcp::OwnedWriteHalf,
    is_cut: watch::Receiver<bool>,
) {
    let mut buffer = vec![0; 4096];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        if *is_cut.borrow() {
            // A connection that missed something is of no use afterwards.
            let mut healed = is_cut.clone();
            let _ = healed.wait_for(|cut| !*cut).await;
            return;
        }
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}
