//! A session that is renewed for ever.

use crate::{clock, servers};
use std::{sync::Arc, time::Duration};
use tepui_coordination::ZooKeeperUrl;
use tokio::{
    sync::{Notify, watch},
    task::AbortHandle,
};
use zookeeper_client::{Client, Error as ClientError, SessionState};

/// How long to wait before a server that refused is asked again.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);
/// How long a session may take to say goodbye.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// How to speak to ZooKeeper.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// `--zk_session_timeout`; the servers have the last word on it.
    pub session_timeout: Duration,
}

impl Default for Options {
    /// 10 s, as in `src/master/constants.hpp`.
    fn default() -> Self {
        Self {
            session_timeout: Duration::from_secs(10),
        }
    }
}

/// A session with ZooKeeper, renewed whenever it ends. Copies share it; it ends with the last one.
///
/// To take part in the election see [`ZooKeeper::contend`], to watch it [`ZooKeeper::watch`]; what can
/// be asked besides is in `ops.rs`.
#[derive(Clone, Debug)]
pub struct ZooKeeper {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    url: ZooKeeperUrl,
    link: watch::Receiver<Link>,
    renew: Arc<Notify>,
    close: Arc<Notify>,
    keeper: AbortHandle,
}

impl Drop for Inner {
    fn drop(&mut self) {
        // The client goes with the task and closes the session behind it.
        self.keeper.abort();
    }
}

/// The state of the session.
#[derive(Clone, Debug)]
pub(crate) enum Link {
    /// There is none.
    Down,
    /// There can be none for now, and why.
    Refused(Arc<str>),
    /// It lives, and a server is connected.
    Up(Client),
    /// It may live on, but no server is connected.
    Suspended,
    /// There will be none.
    Closed,
}

impl ZooKeeper {
    /// Begins to connect, and goes on for ever. Must be called in a tokio runtime.
    pub fn connect(url: &ZooKeeperUrl, options: &Options) -> Self {
        let (tell, link) = watch::channel(Link::Down);
        let renew = Arc::new(Notify::new());
        let close = Arc::new(Notify::new());
        let keeper = Keeper {
            url: url.clone(),
            session_timeout: options.session_timeout,
            tell,
            renew: Arc::clone(&renew),
            close: Arc::clone(&close),
        };
        let keeper = tokio::spawn(keeper.run()).abort_handle();
        Self {
            inner: Arc::new(Inner {
                url: url.clone(),
                link,
                renew,
                close,
                keeper,
            }),
        }
    }

    /// Where it was told to connect to.
    pub fn url(&self) -> &ZooKeeperUrl {
        &self.inner.url
    }

    /// Ends the session, so that its ephemeral znodes go at once, and does not begin another.
    pub async fn close(&self) {
        self.inner.close.notify_one();
        let mut link = self.inner.link.clone();
        // An error says that it has ended.
        let _ = link.wait_for(|link| matches!(link, Link::Closed)).await;
    }

    /// Gives this session up and begins another.
    pub(crate) fn renew(&self) {
        self.inner.renew.notify_one();
    }

    pub(crate) fn link(&self) -> watch::Receiver<Link> {
        self.inner.link.clone()
    }

    /// The client, if a server is connected.
    pub(crate) fn client(&self) -> Option<Client> {
        match &*self.inner.link.borrow() {
            Link::Up(client) => Some(client.clone()),
            _ => None,
        }
    }

    /// Whether whoever creates a znode is somebody.
    pub(crate) fn is_authenticated(&self) -> bool {
        self.inner.url.credentials.is_some()
    }
}

/// The task behind a [`ZooKeeper`].
struct Keeper {
    url: ZooKeeperUrl,
    session_timeout: Duration,
    tell: watch::Sender<Link>,
    renew: Arc<Notify>,
    close: Arc<Notify>,
}

/// Why a session is not kept any longer.
enum End {
    /// Another is to begin.
    Another,
    /// No other is to begin.
    Close,
}

impl Keeper {
    async fn run(self) {
        loop {
            let end = match self.connect().await {
                Some(client) => self.keep(client).await,
                None => End::Close,
            };
            if matches!(end, End::Close) {
                self.tell.send_replace(Link::Closed);
                return;
            }
        }
    }

    /// Connects, however long it takes. `None`: it is not wanted any more.
    async fn connect(&self) -> Option<Client> {
        loop {
            let servers = servers::resolve(&self.url.servers).await;
            tracing::debug!(%servers, "connecting to ZooKeeper");
            let mut connector = Client::connector()
                .with_session_timeout(self.session_timeout)
                // A server that says nothing is left in time to find another before the lease ends.
                .with_connection_timeout(self.session_timeout / 4);
            if let Some(credentials) = &self.url.credentials {
                connector = connector.with_auth("digest", credentials.as_bytes());
            }
            let connected = tokio::select! {
                connected = connector.connect(&servers) => connected,
                () = self.close.notified() => return None,
            };
            match connected {
                Ok(client) => return Some(client),
                Err(error) => {
                    tracing::warn!(url = %self.url, %error, "cannot connect to ZooKeeper");
                    let link = match &error {
                        ClientError::AuthFailed | ClientError::BadArguments(_) => {
                            Link::Refused(format!("cannot connect to {}: {error}", self.url).into())
                        }
                        _ => Link::Down,
                    };
                    self.tell.send_replace(link);
                }
            }
            tokio::select! {
                () = tokio::time::sleep(RETRY_INTERVAL) => {}
                () = self.close.notified() => return None,
            }
        }
    }

    /// Tells of one session until it ends.
    async fn keep(&self, client: Client) -> End {
        let mut states = client.state_watcher();
        let mut state = client.state();
        let begun = clock::now();
        tracing::info!(
            url = %self.url,
            session = %client.session_id(),
            timeout_ms = client.session_timeout().as_millis(),
            "a session with ZooKeeper begins"
        );
        loop {
            match state {
                SessionState::SyncConnected | SessionState::ConnectedReadOnly => {
                    self.tell.send_replace(Link::Up(client.clone()));
                }
                SessionState::Disconnected => {
                    tracing::warn!(url = %self.url, "lost the connection to ZooKeeper");
                    self.tell.send_replace(Link::Suspended);
                }
                SessionState::AuthFailed => {
                    let why = format!("{} refuses our credentials", self.url);
                    tracing::error!("{why}");
                    self.tell.send_replace(Link::Refused(why.into()));
                    tokio::time::sleep(RETRY_INTERVAL).await;
                    return End::Another;
                }
                SessionState::Expired | SessionState::Closed => {
                    let lasted = clock::now().since(begun);
                    tracing::warn!(url = %self.url, ?lasted, "the session with ZooKeeper has ended");
                    self.tell.send_replace(Link::Down);
                    return End::Another;
                }
            }
            let connected = matches!(state, SessionState::SyncConnected);
            tokio::select! {
                next = states.changed() => state = next,
                () = dead(&client, &self.url.path), if connected => {
                    tracing::error!(url = %self.url, "the session with ZooKeeper does not answer any more");
                    self.tell.send_replace(Link::Down);
                    return End::Another;
                }
                () = self.renew.notified() => {
                    self.tell.send_replace(Link::Down);
                    return End::Another;
                }
                () = self.close.notified() => {
                    // Whoever holds a client lets go of it; then the library says goodbye.
                    self.tell.send_replace(Link::Down);
                    drop(client);
                    let gone = async { while !states.changed().await.is_terminated() {} };
                    let _ = tokio::time::timeout(CLOSE_TIMEOUT, gone).await;
                    return End::Close;
                }
            }
        }
    }
}

/// Completes when the library's end of a session that counts as connected is not there any more. That
/// would be an error of the library, and nobody else would notice: it tells of sessions that end.
async fn dead(client: &Client, path: &str) {
    let interval = client.session_timeout();
    loop {
        tokio::time::sleep(interval).await;
        match tokio::time::timeout(interval * 2, client.check_stat(path)).await {
            Ok(Err(ClientError::ClientClosed | ClientError::UnexpectedError(_))) | Err(_) => return,
            Ok(_) => {}
        }
    }
}
