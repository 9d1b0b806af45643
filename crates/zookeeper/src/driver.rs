//! Carries out what a `Group` wants, in one session after the other.

use crate::{
    Error, LeaseClock, ZooKeeper, clock,
    contender::{Command, CurrentLease},
    session::Link,
};
use std::sync::PoisonError;
use tepui_coordination::{
    Answer, AskId, Effect, Failure, Group, Input, Lease, MEMBER_PREFIX, Request, Standing,
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::AbortHandle,
};
use zookeeper_client::{Client, CreateMode};

/// The task behind a contender, or behind one who watches.
pub(crate) struct Driver {
    zookeeper: ZooKeeper,
    group: Group,
    tell: watch::Sender<Standing>,
    /// What was last said of the lease.
    lease: Lease,
    current: CurrentLease,
    send: mpsc::UnboundedSender<Input>,
    inbox: mpsc::UnboundedReceiver<Input>,
    /// Waits for the children to change.
    watcher: Option<AbortHandle>,
    withdrawn: Vec<oneshot::Sender<()>>,
}

impl Driver {
    pub(crate) fn new(
        zookeeper: ZooKeeper,
        tell: watch::Sender<Standing>,
        current: CurrentLease,
    ) -> Self {
        let (send, inbox) = mpsc::unbounded_channel();
        let group = Group::new(&zookeeper.url().path);
        Self {
            zookeeper,
            group,
            tell,
            lease: Lease::ENDED,
            current,
            send,
            inbox,
            watcher: None,
            withdrawn: Vec::new(),
        }
    }

    /// Until nobody wants to know, or there will be no session any more. `commands` is absent for one
    /// who only watches.
    pub(crate) async fn run(mut self, commands: Option<mpsc::UnboundedReceiver<Command>>) {
        let takes_part = commands.is_some();
        let mut commands = commands;
        let mut leaving = false;
        let mut link = self.zookeeper.link();
        link.mark_changed();
        loop {
            if leaving && self.group.is_out() {
                return;
            }
            let deadline = self.group.next_deadline();
            let input = tokio::select! {
                changed = link.changed() => {
                    let now = link.borrow_and_update().clone();
                    match connection(&now) {
                        Some(input) if changed.is_ok() => input,
                        _ => return self.end(),
                    }
                }
                Some(input) = self.inbox.recv() => input,
                command = next(&mut commands) => match command {
                    Some(Command::Contend(info)) => Input::Contend(info),
                    Some(Command::Withdraw(gone)) => {
                        self.withdrawn.push(gone);
                        Input::Withdraw
                    }
                    None => {
                        commands = None;
                        leaving = true;
                        Input::Withdraw
                    }
                },
                () = sleep_until(deadline) => Input::Tick,
                () = self.tell.closed(), if !takes_part => return self.end(),
            };
            self.handle(input);
        }
    }

    fn handle(&mut self, input: Input) {
        let mut effects = Vec::new();
        self.group.handle(clock::now(), input, &mut effects);
        for effect in effects {
            match effect {
                Effect::Ask(ask, request) => self.ask(ask, request),
                Effect::RenewSession => self.zookeeper.renew(),
                Effect::Standing(standing) => self.announce(standing),
                Effect::Lease(lease) => self.lease(lease),
                Effect::Notice(text) => {
                    tracing::warn!(election = %self.zookeeper.url(), "{text}");
                }
            }
        }
        if self.group.is_out() {
            for gone in self.withdrawn.drain(..) {
                let _ = gone.send(());
            }
        }
    }

    /// There will be no session any more.
    fn end(&mut self) {
        self.handle(Input::Expired);
        if let Some(watcher) = self.watcher.take() {
            watcher.abort();
        }
    }

    fn lease(&mut self, lease: Lease) {
        self.lease = lease;
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, clock)) = &*current {
            clock.set(lease);
        }
    }

    fn announce(&mut self, standing: Standing) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, clock)) = current.take() {
            clock.set(Lease::ENDED);
        }
        match &standing {
            Standing::Leading(tenure) => {
                tracing::info!(member = %tenure.member, "elected as the leading leader");
                let clock = LeaseClock::ended();
                clock.set(self.lease);
                *current = Some((tenure.clone(), clock));
            }
            Standing::Following(Some(info)) => {
                let pid = info.pid.as_deref().unwrap_or_default();
                tracing::info!(%pid, id = %info.id, "a new leader is detected");
            }
            Standing::Following(None) => tracing::info!("nobody leads"),
            Standing::Unknown => tracing::info!("who leads is not known"),
            // Has been said in a notice.
            Standing::Refused(_) => {}
        }
        drop(current);
        self.tell.send_replace(standing);
    }

    fn ask(&mut self, ask: AskId, request: Request) {
        let send = self.send.clone();
        let Some(client) = self.zookeeper.client() else {
            let _ = send.send(answered(ask, Err(Failure::Lost)));
            return;
        };
        if request == Request::List {
            let old = self.watcher.take();
            let path = self.zookeeper.url().path.clone();
            self.watcher = Some(tokio::spawn(list(client, path, ask, send, old)).abort_handle());
            return;
        }
        let zookeeper = self.zookeeper.clone();
        tokio::spawn(async move {
            let result = carry_out(&zookeeper, &client, request).await;
            let _ = send.send(answered(ask, result.map_err(Failure::from)));
        });
    }
}

fn connection(link: &Link) -> Option<Input> {
    Some(match link {
        Link::Down => Input::Expired,
        Link::Refused(why) => Input::Refused(why.to_string()),
        Link::Up(client) => Input::Connected {
            session: client.session_id().0,
            timeout: client.session_timeout(),
        },
        Link::Suspended => Input::Suspended,
        Link::Closed => return None,
    })
}

fn answered(ask: AskId, result: Result<Answer, Failure>) -> Input {
    Input::Answered { ask, result }
}

async fn next(commands: &mut Option<mpsc::UnboundedReceiver<Command>>) -> Option<Command> {
    match commands {
        Some(commands) => commands.recv().await,
        None => std::future::pending().await,
    }
}

async fn sleep_until(deadline: Option<tepui_model::Time>) {
    match deadline {
        Some(deadline) => tokio::time::sleep(deadline.since(clock::now())).await,
        None => std::future::pending().await,
    }
}

/// Lists the children, then waits for a change.
async fn list(
    client: Client,
    path: String,
    ask: AskId,
    send: mpsc::UnboundedSender<Input>,
    old: Option<AbortHandle>,
) {
    let listed = client.get_and_watch_children(&path).await;
    // The new watch sees all that the old one would.
    if let Some(old) = old {
        old.abort();
    }
    match listed {
        Ok((names, stat, watcher)) => {
            let birth = stat.czxid;
            // Not held while waiting: the session ends when nobody holds its client.
            drop(client);
            let _ = send.send(answered(ask, Ok(Answer::Listed { names, birth })));
            watcher.changed().await;
            let _ = send.send(Input::Changed);
        }
        Err(error) => {
            let failure = Failure::from(Error::from(error));
            let _ = send.send(answered(ask, Err(failure)));
        }
    }
}

async fn carry_out(
    zookeeper: &ZooKeeper,
    client: &Client,
    request: Request,
) -> Result<Answer, Error> {
    match request {
        Request::MakePath => {
            zookeeper.make_path(&zookeeper.url().path).await?;
            Ok(Answer::PathMade)
        }
        Request::List => Err(Error::Other("lists are watched".to_owned())),
        Request::Read(path) => {
            let (data, stat) = client.get_data(&path).await?;
            Ok(Answer::Read {
                data,
                owner: stat.ephemeral_owner,
            })
        }
        Request::Create(data) => {
            let prefix = format!("{}/{MEMBER_PREFIX}", zookeeper.url().path);
            let options = zookeeper.creation(CreateMode::EphemeralSequential);
            let (_, sequence) = client.create(&prefix, &data, &options).await?;
            Ok(Answer::Created(format!("{MEMBER_PREFIX}{sequence}")))
        }
        Request::Delete(path) => {
            client.delete(&path, None).await?;
            Ok(Answer::Deleted)
        }
        Request::Check(path) => {
            // Both are sent now; the server keeps their order.
            let (synced, found) = (client.sync(&path), client.check_stat(&path));
            synced.await?;
            let session = client.session_id().0;
            let ours = found
                .await?
                .is_some_and(|stat| stat.ephemeral_owner == session);
            Ok(Answer::Exists(ours))
        }
    }
}
