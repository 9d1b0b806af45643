//! Client for framework authors: [`Scheduler`] yields events, [`Calls`] makes calls.
//!
//! `Scheduler::next` drives everything: it finds the leader, subscribes, hands out events, and when
//! the connection breaks or falls silent it says [`Event::Disconnected`] and subscribes again under
//! the same framework id. Calls made in between fail with [`Error::NotSubscribed`].

mod calls;

use crate::{
    Codec, Credential, Error,
    backoff::Backoff,
    detect::{Found, Target},
    http::{Http, Records, STREAM_ID, expect_success},
    proto::{
        AgentId, ExecutorId, FrameworkId, FrameworkInfo, InverseOffer, MasterInfo, Offer, OfferId,
        OperationStatus, TaskStatus,
        scheduler::{self, call, event},
    },
};
pub use calls::{
    Calls, create, destroy, grow_volume, launch, launch_group, named, reserve, shrink_volume,
    unreserve,
};
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tepui_tls::Tls;

const BACKOFF_FIRST: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// How many heartbeats may be missed before the connection is given up.
const HEARTBEATS_MISSED_MAX: f64 = 5.0;

/// What a framework hears.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// Subscribed, for the first time or again. Reconcile tasks after this.
    Subscribed {
        /// Id of the framework; keep it to fail over to another process.
        framework_id: FrameworkId,
        /// The leader, when it says.
        leader: Option<MasterInfo>,
    },
    /// Resources on offer.
    Offers(Vec<Offer>),
    /// Resources wanted back for maintenance.
    InverseOffers(Vec<InverseOffer>),
    /// An offer is no longer valid.
    Rescind(OfferId),
    /// An inverse offer is no longer valid.
    RescindInverseOffer(OfferId),
    /// A task changed its state. Acknowledge it with [`Calls::acknowledge`] once it is safe with you.
    Update(TaskStatus),
    /// An operation with an id changed its state. Acknowledge it with [`Calls::acknowledge_operation`].
    OperationUpdate(OperationStatus),
    /// An executor sent a message.
    Message {
        /// On which follower.
        agent_id: AgentId,
        /// Which executor.
        executor_id: ExecutorId,
        /// What.
        data: bytes::Bytes,
    },
    /// A follower was lost, or an executor ended.
    Failure(event::Failure),
    /// The connection is gone; the next call of `next` subscribes again.
    Disconnected {
        /// Why.
        reason: String,
    },
}

/// Settings of a [`Scheduler`].
#[derive(Clone)]
pub struct Builder {
    target: String,
    framework: FrameworkInfo,
    suppressed_roles: Vec<String>,
    codec: Codec,
    credential: Option<Credential>,
    tls: Option<Tls>,
    attempts_max: Option<u32>,
}

impl Builder {
    /// Speaks `codec` (protobuf unless told).
    #[must_use]
    pub fn codec(mut self, codec: Codec) -> Self {
        self.codec = codec;
        self
    }

    /// Authenticates. `FrameworkInfo.principal` must be the same principal, or absent.
    #[must_use]
    pub fn credential(mut self, credential: Credential) -> Self {
        self.credential = Some(credential);
        self
    }

    /// Speaks TLS with these certificates and authorities, also to a target without a scheme. Without
    /// this, a leader at an `https://` address is verified against the authorities of this machine.
    #[must_use]
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Roles that want no offers at first.
    #[must_use]
    pub fn suppressed_roles(mut self, roles: Vec<String>) -> Self {
        self.suppressed_roles = roles;
        self
    }

    /// Gives up after so many failed attempts in a row (never, unless told).
    #[must_use]
    pub fn attempts_max(mut self, attempts: u32) -> Self {
        self.attempts_max = Some(attempts);
        self
    }

    /// Checks the settings; connects on the first [`Scheduler::next`].
    ///
    /// # Errors
    /// [`Error::Invalid`] names the setting.
    pub fn build(self) -> Result<Scheduler, Error> {
        let target = Target::parse(&self.target)?;
        let http = Http::new(self.codec, self.credential.as_ref().map(Http::basic))?;
        let http = match self.tls {
            Some(tls) => http.tls(tls),
            None => http.secure(target.is_secure()),
        };
        let session = Arc::new(Mutex::new(Session {
            framework_id: self.framework.id.clone(),
            link: None,
        }));
        Ok(Scheduler {
            calls: Calls::new(http, target.clone(), session),
            target,
            framework: self.framework,
            suppressed_roles: self.suppressed_roles,
            attempts_max: self.attempts_max,
            attempts: 0,
            backoff: Backoff::new(BACKOFF_FIRST, BACKOFF_MAX),
            stream: None,
        })
    }
}

/// What calls need to know of the subscription.
pub(crate) struct Session {
    pub(crate) framework_id: Option<FrameworkId>,
    pub(crate) link: Option<Link>,
}

#[derive(Clone)]
pub(crate) struct Link {
    pub(crate) leader: Found,
    pub(crate) address: String,
    pub(crate) stream_id: String,
}

struct Stream {
    records: Records,
    /// Whom it is from.
    leader: Found,
    /// Silence after which the connection counts as dead.
    silence_max: Option<Duration>,
}

/// A framework's subscription.
pub struct Scheduler {
    target: Target,
    calls: Calls,
    framework: FrameworkInfo,
    suppressed_roles: Vec<String>,
    attempts_max: Option<u32>,
    attempts: u32,
    backoff: Backoff,
    stream: Option<Stream>,
}

impl Scheduler {
    /// `target`: see [`Target::parse`]. Set `framework.id` to take over an existing framework.
    pub fn builder(target: &str, framework: FrameworkInfo) -> Builder {
        Builder {
            target: target.to_owned(),
            framework,
            suppressed_roles: Vec::new(),
            codec: Codec::default(),
            credential: None,
            tls: None,
            attempts_max: None,
        }
    }

    /// Makes calls for this framework; clone it into as many tasks as you like.
    pub fn calls(&self) -> Calls {
        self.calls.clone()
    }

    /// The next event. Heartbeats are consumed.
    ///
    /// # Errors
    /// [`Error::Refused`] when the leader will not have this framework; [`Error::Status`] for an
    /// answer of 4xx, which repeating will not mend; the last failure once `attempts_max` is reached.
    pub async fn next(&mut self) -> Result<Event, Error> {
        loop {
            let Some(stream) = &mut self.stream else {
                self.connect().await?;
                continue;
            };
            let leader = stream.leader.clone();
            let event = tokio::select! {
                biased;
                event = read(stream) => event,
                // Its connection may hang for long when it was cut off.
                () = self.target.replaced(&leader) => {
                    self.disconnect();
                    let reason = "another leader was elected".to_owned();
                    return Ok(Event::Disconnected { reason });
                }
            };
            let reason = match event {
                Ok(Some(event)) => match self.interpret(event)? {
                    Some(event) => return Ok(event),
                    None => continue,
                },
                Ok(None) => "the leader ended the stream".to_owned(),
                Err(error) => error.to_string(),
            };
            self.disconnect();
            return Ok(Event::Disconnected { reason });
        }
    }

    fn disconnect(&mut self) {
        self.stream = None;
        lock(&self.calls.session).link = None;
    }

    /// One attempt; waits after a failed one.
    async fn connect(&mut self) -> Result<(), Error> {
        match self.subscribe().await {
            Ok(()) => {
                self.attempts = 0;
                self.backoff.reset();
                Ok(())
            }
            Err(Error::Status {
                address,
                status,
                message,
            }) if (400..500).contains(&status) => Err(Error::Status {
                address,
                status,
                message,
            }),
            Err(error) => {
                self.attempts += 1;
                if self.attempts_max.is_some_and(|max| self.attempts >= max) {
                    return Err(error);
                }
                tracing::info!(%error, attempt = self.attempts, "cannot subscribe yet");
                tokio::time::sleep(self.backoff.delay()).await;
                Ok(())
            }
        }
    }

    async fn subscribe(&mut self) -> Result<(), Error> {
        let leader = self.target.find().await?;
        let framework_id = lock(&self.calls.session).framework_id.clone();
        self.framework.id.clone_from(&framework_id);
        let call = scheduler::Call {
            framework_id,
            r#type: Some(call::Type::Subscribe as i32),
            subscribe: Some(call::Subscribe {
                framework_info: self.framework.clone(),
                suppressed_roles: self.suppressed_roles.clone(),
                ..Default::default()
            }),
            ..Default::default()
        };
        let http = &self.calls.http;
        let (address, response) = http.post(&leader.address, calls::PATH, None, &call).await?;
        if !response.status().is_success() {
            let status = response.status().as_u16();
            expect_success(&address, response).await?;
            return Err(Error::Status {
                address,
                status,
                message: String::new(),
            });
        }
        let Some(stream_id) = response
            .headers()
            .get(STREAM_ID)
            .and_then(|v| v.to_str().ok())
        else {
            return Err(Error::Malformed {
                address,
                reason: format!("no {STREAM_ID} header"),
            });
        };
        lock(&self.calls.session).link = Some(Link {
            leader: leader.clone(),
            address: address.clone(),
            stream_id: stream_id.to_owned(),
        });
        let records = Records::new(address, http.codec, response.into_body());
        // Until SUBSCRIBED says how often to expect one, a record is due within the time of a call.
        self.stream = Some(Stream {
            records,
            leader,
            silence_max: Some(crate::CALL_TIMEOUT),
        });
        Ok(())
    }

    /// What the event means to the framework; `None` for what it need not see.
    fn interpret(&mut self, event: scheduler::Event) -> Result<Option<Event>, Error> {
        use event::Type;
        let kind = event.r#type();
        let event = match kind {
            Type::Subscribed => event.subscribed.map(|subscribed| {
                if let Some(stream) = &mut self.stream {
                    stream.silence_max = subscribed
                        .heartbeat_interval_seconds
                        .map(|seconds| Duration::try_from_secs_f64(seconds * HEARTBEATS_MISSED_MAX))
                        .and_then(Result::ok);
                }
                lock(&self.calls.session).framework_id = Some(subscribed.framework_id.clone());
                Event::Subscribed {
                    framework_id: subscribed.framework_id,
                    leader: subscribed.master_info,
                }
            }),
            Type::Offers => event.offers.map(|o| Event::Offers(o.offers)),
            Type::InverseOffers => event
                .inverse_offers
                .map(|o| Event::InverseOffers(o.inverse_offers)),
            Type::Rescind => event.rescind.map(|r| Event::Rescind(r.offer_id)),
            Type::RescindInverseOffer => event
                .rescind_inverse_offer
                .map(|r| Event::RescindInverseOffer(r.inverse_offer_id)),
            Type::Update => event.update.map(|u| Event::Update(u.status)),
            Type::UpdateOperationStatus => event
                .update_operation_status
                .map(|u| Event::OperationUpdate(u.status)),
            Type::Message => event.message.map(|m| Event::Message {
                agent_id: m.agent_id,
                executor_id: m.executor_id,
                data: m.data,
            }),
            Type::Failure => event.failure.map(Event::Failure),
            Type::Error => {
                self.disconnect();
                return Err(Error::Refused(
                    event.error.map(|e| e.message).unwrap_or_default(),
                ));
            }
            // An event of a newer leader that we do not know is no reason to stop.
            Type::Heartbeat | Type::Unknown => return Ok(None),
        };
        Ok(event)
    }
}

async fn read(stream: &mut Stream) -> Result<Option<scheduler::Event>, Error> {
    match stream.silence_max {
        None => stream.records.next().await,
        Some(limit) => tokio::time::timeout(limit, stream.records.next())
            .await
            .unwrap_or_else(|_| {
                Err(Error::TimedOut {
                    address: "the leader".to_owned(),
                    seconds: limit.as_secs(),
                })
            }),
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
