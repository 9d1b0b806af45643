//! The election as its users see it: watched, or taken part in.

use crate::{LeaseClock, Options, ZooKeeper, driver::Driver};
use std::sync::{Arc, Mutex, PoisonError};
use tepui_coordination::{Standing, Tenure, ZooKeeperUrl};
use tepui_protocol::v1;
use tokio::sync::{mpsc, oneshot, watch};

/// What a driver is told by its users.
#[derive(Debug)]
pub(crate) enum Command {
    Contend(Arc<v1::MasterInfo>),
    /// And whom to tell that our znode is gone.
    Withdraw(oneshot::Sender<()>),
}

/// The lease of the current tenure.
pub(crate) type CurrentLease = Arc<Mutex<Option<(Tenure, LeaseClock)>>>;

/// Takes part in an election as long as it lives.
#[derive(Debug)]
pub struct Contender {
    standing: watch::Receiver<Standing>,
    lease: CurrentLease,
    commands: mpsc::UnboundedSender<Command>,
}

impl Contender {
    /// Where we stand. Wait for changes; the same tenure is never announced twice, and a tenure that is
    /// over never comes back.
    pub fn standing(&self) -> watch::Receiver<Standing> {
        self.standing.clone()
    }

    /// How long this tenure may act. Of one that is over it has ended for good.
    pub fn lease(&self, tenure: &Tenure) -> LeaseClock {
        let current = self.lease.lock().unwrap_or_else(PoisonError::into_inner);
        match &*current {
            Some((current, lease)) if current == tenure => lease.clone(),
            _ => LeaseClock::ended(),
        }
    }

    /// Gives up what we lead, if we do, and goes to the end of the line. Used by a leader that cannot go
    /// on although its session lives.
    pub async fn resign(&self, info: v1::MasterInfo) {
        self.withdraw().await;
        let _ = self.commands.send(Command::Contend(Arc::new(info)));
    }

    /// Takes part no longer; returns when our znode is gone. Stop acting first.
    pub async fn withdraw(&self) {
        let (gone, wait) = oneshot::channel();
        if self.commands.send(Command::Withdraw(gone)).is_ok() {
            let _ = wait.await;
        }
    }
}

impl ZooKeeper {
    /// Takes part in the election at the URL's path.
    pub fn contend(&self, info: v1::MasterInfo) -> Contender {
        let (commands, inbox) = mpsc::unbounded_channel();
        let (tell, standing) = watch::channel(Standing::Unknown);
        let lease = CurrentLease::default();
        let _ = commands.send(Command::Contend(Arc::new(info)));
        tokio::spawn(Driver::new(self.clone(), tell, Arc::clone(&lease)).run(Some(inbox)));
        Contender {
            standing,
            lease,
            commands,
        }
    }

    /// Watches the election at the URL's path, as long as the receiver lives.
    pub fn watch(&self) -> watch::Receiver<Standing> {
        let (tell, standing) = watch::channel(Standing::Unknown);
        tokio::spawn(Driver::new(self.clone(), tell, CurrentLease::default()).run(None));
        standing
    }
}

/// Watches who leads, as long as the receiver lives. While there is no session the last one known
/// stays: it may well lead on, and who else does cannot be known.
pub fn watch_leader(
    url: &ZooKeeperUrl,
    options: &Options,
) -> watch::Receiver<Option<Arc<v1::MasterInfo>>> {
    let mut standing = ZooKeeper::connect(url, options).watch();
    let (tell, leader) = watch::channel(None);
    tokio::spawn(async move {
        loop {
            if let Standing::Following(info) = standing.borrow_and_update().clone() {
                tell.send_if_modified(|known| {
                    let news = *known != info;
                    *known = info;
                    news
                });
            }
            tokio::select! {
                changed = standing.changed() => if changed.is_err() { return },
                () = tell.closed() => return,
            }
        }
    });
    leader
}
