//! Stands by, begins and ends terms: what an election says, carried out.
//!
//! The reference's masters exit when they are deposed and are started again by whatever watches over
//! them. Here the term is dropped, with all it knew and had still to say, and the process stands by
//! and contends again under a new id.

use super::{
    Contender, LeaderError,
    election::{Candidacy, Lease, Standing, Tenure},
    front::Front,
    gate::Gate,
    term::{Farewell, Ground, Term},
};
use crate::disk::registry::RegistryError;
use std::{future::Future, sync::Arc, time::Duration};
use tepui_leader::LeaderFacts;
use tepui_protocol::v1::{DomainInfo, MasterInfo};
use tokio::sync::{oneshot, watch};

/// Between two candidacies: nothing goes round in circles for long.
const AGAIN_INTERVAL: Duration = Duration::from_millis(200);
/// How long leaving an election may take. Without us the session ends by itself.
const WITHDRAW_TIMEOUT: Duration = Duration::from_secs(3);
/// How often a lease is looked at while nobody knows how the election stands.
const LEASE_INTERVAL: Duration = Duration::from_millis(100);

/// How a candidacy ended.
enum Outcome {
    /// We are to stop; what a term that ended by that had said is still on its way.
    Stopped(Option<Farewell>),
    /// We led, and lost it; who leads instead, if that is known.
    Deposed(&'static str, Option<MasterInfo>),
    /// We cannot go on.
    Failed(LeaderError),
}

impl Outcome {
    fn successor(&self) -> Option<MasterInfo> {
        match self {
            Self::Deposed(_, leader) => leader.clone(),
            Self::Stopped(_) | Self::Failed(_) => None,
        }
    }
}

/// The term of a leader that is alone.
pub(super) async fn begin_alone(ground: &Arc<Ground>, front: &Front) -> Result<Term, LeaderError> {
    let gate = Arc::new(Gate::new(None));
    let term = Term::begin(ground, ground.facts()?, None, gate.clone()).await?;
    front.lead(term.service.clone(), gate);
    Ok(term)
}

/// Leads until stopped.
pub(super) async fn alone(
    front: Arc<Front>,
    mut term: Term,
    mut stop: oneshot::Receiver<()>,
) -> Result<(), LeaderError> {
    tokio::select! {
        error = term.failed() => return Err(error),
        _ = &mut stop => {}
    }
    front.stand_by(None);
    let (ended, farewell) = term.conclude().await;
    farewell.sent().await;
    ended
}

/// Contends until stopped, and leads whenever elected.
pub(super) async fn contend(
    ground: Arc<Ground>,
    front: Arc<Front>,
    contender: Box<dyn Contender>,
    mut stop: oneshot::Receiver<()>,
) -> Result<(), LeaderError> {
    if ground.address.ip().is_loopback() {
        tracing::warn!(
            address = %ground.address,
            "others are sent to an address that only this machine can reach: see --ip and --advertise_ip"
        );
    }
    loop {
        let facts = ground.facts()?;
        let mut candidacy = contender.contend(facts.info.clone());
        let outcome = stand(&ground, &front, facts, &mut candidacy, &mut stop).await;
        match &outcome {
            Outcome::Deposed(why, _) => tracing::warn!(why, "deposed: standing by"),
            Outcome::Stopped(_) => tracing::info!("leaving the election"),
            Outcome::Failed(error) => tracing::error!(%error, "leaving the election"),
        }
        let leave = leave((candidacy.withdraw)());
        match outcome {
            Outcome::Stopped(farewell) => {
                // The next may lead while what we have said is still on its way.
                let sent = async {
                    if let Some(farewell) = farewell {
                        farewell.sent().await;
                    }
                };
                tokio::join!(leave, sent);
                return Ok(());
            }
            Outcome::Failed(error) => {
                leave.await;
                return Err(error);
            }
            Outcome::Deposed(..) => leave.await,
        }
        tokio::select! {
            () = tokio::time::sleep(AGAIN_INTERVAL) => {}
            _ = &mut stop => return Ok(()),
        }
    }
}

async fn leave(withdrawn: impl Future<Output = ()>) {
    if tokio::time::timeout(WITHDRAW_TIMEOUT, withdrawn)
        .await
        .is_err()
    {
        tracing::warn!("cannot leave the election: our session has to end by itself");
    }
}

/// One candidacy: stands by until elected, then leads.
async fn stand(
    ground: &Arc<Ground>,
    front: &Front,
    facts: LeaderFacts,
    candidacy: &mut Candidacy,
    stop: &mut oneshot::Receiver<()>,
) -> Outcome {
    let tenure = tokio::select! {
        elected = elected(ground, front, &mut candidacy.standing) => match elected {
            Some(tenure) => tenure,
            None => return Outcome::Failed(LeaderError::Election),
        },
        _ = &mut *stop => return Outcome::Stopped(None),
    };
    tracing::info!(id = %facts.info.id, member = %tenure.member, "elected: reading the registry");
    front.recover();
    let lease = (candidacy.lease)(&tenure);
    let gate = Arc::new(Gate::new(Some(lease.clone())));
    let member = Some(tenure.member.clone());
    let begun = tokio::select! {
        begun = Term::begin(ground, facts, member, gate.clone()) => begun,
        lost = lost(candidacy, &tenure, lease.as_ref()) => {
            front.stand_by(lost.successor());
            return lost;
        }
        _ = &mut *stop => return Outcome::Stopped(None),
    };
    let mut term = match begun {
        Ok(term) => term,
        Err(error) => {
            front.stand_by(None);
            return failed(error);
        }
    };
    front.lead(term.service.clone(), gate);
    let outcome = tokio::select! {
        error = term.failed() => failed(error),
        lost = lost(candidacy, &tenure, lease.as_ref()) => lost,
        _ = &mut *stop => Outcome::Stopped(None),
    };
    front.stand_by(outcome.successor());
    match outcome {
        Outcome::Stopped(_) => match term.conclude().await {
            (Ok(()) | Err(LeaderError::Registry(RegistryError::Deposed)), farewell) => {
                Outcome::Stopped(Some(farewell))
            }
            (Err(error), _) => Outcome::Failed(error),
        },
        other => {
            term.abandon().await;
            other
        }
    }
}

/// Stands by until elected. `None`: nobody will ever tell.
async fn elected(
    ground: &Ground,
    front: &Front,
    standing: &mut watch::Receiver<Standing>,
) -> Option<Tenure> {
    let mut told = None;
    loop {
        let now = standing.borrow_and_update().clone();
        let leader = match now {
            Standing::Leading(tenure) => return Some(tenure),
            Standing::Following(leader) => leader.map(Arc::unwrap_or_clone),
            // What was known before this candidacy still is.
            Standing::Unknown if told.is_none() => {
                standing.changed().await.ok()?;
                continue;
            }
            Standing::Unknown => None,
            Standing::Refused(why) => {
                tracing::error!(%why, "cannot take part in the election");
                None
            }
        };
        if told.as_ref() != Some(&leader) {
            tell(ground, leader.as_ref());
            front.stand_by(leader.clone());
            told = Some(leader);
        }
        standing.changed().await.ok()?;
    }
}

fn tell(ground: &Ground, leader: Option<&MasterInfo>) {
    match leader {
        Some(leader) => {
            tracing::info!(leader = leader.pid(), id = %leader.id, "standing by: another leads");
            let (ours, theirs) = (
                region(ground.options.domain.as_ref()),
                region(leader.domain.as_ref()),
            );
            if let (Some(ours), Some(theirs)) = (ours, theirs)
                && ours != theirs
            {
                // A Mesos master exits (`Master::detected` in `src/master/master.cpp`).
                tracing::error!(
                    ours,
                    theirs,
                    "leaders of one cluster must be in the same region: see --domain"
                );
            }
        }
        None => tracing::info!("standing by: nobody is known to lead"),
    }
}

fn region(domain: Option<&DomainInfo>) -> Option<&str> {
    Some(domain?.fault_domain.as_ref()?.region.name.as_str())
}

/// Completes when a term cannot go on: another may lead.
async fn lost(candidacy: &mut Candidacy, tenure: &Tenure, lease: &dyn Lease) -> Outcome {
    loop {
        match &*candidacy.standing.borrow_and_update() {
            Standing::Leading(same) if same == tenure => {}
            Standing::Unknown | Standing::Refused(_) => {}
            Standing::Leading(_) => {
                return Outcome::Deposed("our session with ZooKeeper ended", None);
            }
            Standing::Following(leader) => {
                let leader = leader.as_deref().cloned();
                return Outcome::Deposed("we lead no more", leader);
            }
        }
        tokio::select! {
            changed = candidacy.standing.changed() => if changed.is_err() {
                return Outcome::Failed(LeaderError::Election);
            },
            () = ran_out(lease, candidacy.patience) => {
                return Outcome::Deposed("ZooKeeper was out of reach for too long", None);
            }
        }
    }
}

/// Completes once the lease has run out and did not come back.
async fn ran_out(lease: &dyn Lease, patience: Duration) {
    let mut since = None;
    loop {
        tokio::time::sleep(LEASE_INTERVAL).await;
        if lease.may_act() {
            since = None;
        } else {
            let since = since.get_or_insert_with(tokio::time::Instant::now);
            if since.elapsed() >= patience {
                return;
            }
        }
    }
}

fn failed(error: LeaderError) -> Outcome {
    match error {
        LeaderError::Registry(RegistryError::Deposed) => {
            Outcome::Deposed("the registry belongs to another leader", None)
        }
        error => Outcome::Failed(error),
    }
}
