//! Client for authors of executors.
//!
//! [`Environment::from_vars`] reads what a follower puts into the environment of an executor;
//! [`Executor::next`] subscribes, hands out events and comes back after the follower was restarted
//! (for `MESOS_RECOVERY_TIMEOUT`, when the framework checkpoints). Updates are kept until the
//! follower acknowledges them and sent again with the next subscription, as are unacknowledged tasks.

use crate::{
    Codec, Error,
    backoff::Backoff,
    http::{Http, Records, expect_success},
    proto::{
        ExecutorId, FrameworkId, TaskId, TaskInfo, TaskStatus,
        executor::{self, call, event},
    },
    scheduler::lock,
};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};
use tepui_tls::{Tls, TlsConfig};

const PATH: &str = "/api/v1/executor";

/// What a follower tells its executor through the environment (`docs/executor-http-api.md`).
#[derive(Debug, Clone, PartialEq)]
pub struct Environment {
    /// `MESOS_AGENT_ENDPOINT`: `host:port` of the follower.
    pub agent_endpoint: String,
    /// `MESOS_FRAMEWORK_ID`.
    pub framework_id: FrameworkId,
    /// `MESOS_EXECUTOR_ID`.
    pub executor_id: ExecutorId,
    /// `MESOS_CHECKPOINT`: whether the framework checkpoints.
    pub checkpoint: bool,
    /// `MESOS_RECOVERY_TIMEOUT`: how long to try to come back.
    pub recovery_timeout: Duration,
    /// `MESOS_SUBSCRIPTION_BACKOFF_MAX`: the longest wait between two attempts.
    pub subscription_backoff_max: Duration,
    /// `MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD`: time from SHUTDOWN to SIGKILL.
    pub shutdown_grace_period: Duration,
    /// `MESOS_EXECUTOR_AUTHENTICATION_TOKEN`.
    pub authentication_token: Option<String>,
    /// `LIBPROCESS_SSL_ENABLED` and its like: how to speak TLS to the follower.
    pub tls: Option<TlsConfig>,
}

impl Environment {
    /// Reads the variables through `var`, usually `|name| std::env::var(name).ok()`.
    ///
    /// # Errors
    /// [`Error::Invalid`] names the variable that is missing or malformed.
    pub fn from_vars(var: impl Fn(&str) -> Option<String>) -> Result<Self, Error> {
        let required = |name: &'static str| {
            var(name).ok_or_else(|| Error::Invalid {
                what: name,
                reason: "it is not set".to_owned(),
            })
        };
        let duration = |name: &'static str, default: Duration| match var(name) {
            None => Ok(default),
            Some(text) => {
                tepui_model::units::parse_duration(&text).map_err(|error| Error::Invalid {
                    what: name,
                    reason: error.to_string(),
                })
            }
        };
        let tls = TlsConfig::from_variables(&var).map_err(|error| Error::Invalid {
            what: "TLS",
            reason: error.to_string(),
        })?;
        let tls = tls.map(|(config, notes)| {
            for note in notes {
                tracing::warn!("{note}");
            }
            config
        });
        Ok(Self {
            agent_endpoint: required("MESOS_AGENT_ENDPOINT")?,
            framework_id: FrameworkId {
                value: required("MESOS_FRAMEWORK_ID")?,
            },
            executor_id: ExecutorId {
                value: required("MESOS_EXECUTOR_ID")?,
            },
            checkpoint: var("MESOS_CHECKPOINT").is_some_and(|v| v == "1"),
            recovery_timeout: duration("MESOS_RECOVERY_TIMEOUT", Duration::from_secs(15 * 60))?,
            subscription_backoff_max: duration(
                "MESOS_SUBSCRIPTION_BACKOFF_MAX",
                Duration::from_secs(2),
            )?,
            shutdown_grace_period: duration(
                "MESOS_EXECUTOR_SHUTDOWN_GRACE_PERIOD",
                Duration::from_secs(5),
            )?,
            authentication_token: var("MESOS_EXECUTOR_AUTHENTICATION_TOKEN"),
            tls,
        })
    }
}

/// What an executor hears.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// Subscribed, for the first time or again.
    Subscribed(Box<event::Subscribed>),
    /// Run a task.
    Launch(Box<TaskInfo>),
    /// Run tasks that live and die together.
    LaunchGroup(Vec<TaskInfo>),
    /// Kill a task.
    Kill(event::Kill),
    /// A message of the framework.
    Message(bytes::Bytes),
    /// Kill all tasks and exit.
    Shutdown,
    /// The connection to the follower is gone; the next call of `next` tries to come back.
    Disconnected {
        /// Why.
        reason: String,
    },
}

/// What has to be sent again with the next subscription.
#[derive(Default)]
struct Unacknowledged {
    tasks: BTreeMap<String, TaskInfo>,
    updates: Vec<call::Update>,
    address: Option<String>,
}

/// An executor's subscription.
pub struct Executor {
    calls: Calls,
    backoff: Backoff,
    records: Option<Records>,
    broken_since: Option<tokio::time::Instant>,
}

/// Makes calls for one executor.
#[derive(Clone)]
pub struct Calls {
    environment: Arc<Environment>,
    http: Http,
    state: Arc<Mutex<Unacknowledged>>,
}

impl Executor {
    /// Connects on the first [`Executor::next`].
    ///
    /// # Errors
    /// [`Error::Invalid`] when the token is not a header value, or the files of TLS cannot be used.
    pub fn new(environment: Environment, codec: Codec) -> Result<Self, Error> {
        let authorization = environment
            .authentication_token
            .as_ref()
            .map(|token| format!("Bearer {token}"));
        let backoff = Backoff::new(
            Duration::from_millis(50),
            environment.subscription_backoff_max,
        );
        let mut http = Http::new(codec, authorization)?;
        if let Some(config) = &environment.tls {
            let tls = Tls::load(config.clone()).map_err(|error| Error::Invalid {
                what: "TLS",
                reason: error.to_string(),
            })?;
            http = http.tls(tls);
        }
        let calls = Calls {
            environment: Arc::new(environment),
            http,
            state: Arc::default(),
        };
        Ok(Self {
            calls,
            backoff,
            records: None,
            broken_since: None,
        })
    }

    /// Makes calls for this executor; clone it into as many tasks as you like.
    pub fn calls(&self) -> Calls {
        self.calls.clone()
    }

    /// The next event.
    ///
    /// # Errors
    /// The last failure, when the follower did not come back in time (at once, unless the framework
    /// checkpoints and was connected before); the executor should then kill its tasks and exit.
    pub async fn next(&mut self) -> Result<Event, Error> {
        loop {
            let Some(records) = &mut self.records else {
                self.connect().await?;
                continue;
            };
            let reason = match records.next::<executor::Event>().await {
                Ok(Some(event)) => match self.interpret(event)? {
                    Some(event) => return Ok(event),
                    None => continue,
                },
                Ok(None) => "the follower ended the stream".to_owned(),
                Err(error) => error.to_string(),
            };
            self.records = None;
            self.broken_since = Some(tokio::time::Instant::now());
            lock(&self.calls.state).address = None;
            return Ok(Event::Disconnected { reason });
        }
    }

    async fn connect(&mut self) -> Result<(), Error> {
        let environment = &self.calls.environment;
        match self.calls.subscribe().await {
            Ok(records) => {
                self.records = Some(records);
                self.broken_since = None;
                self.backoff.reset();
                Ok(())
            }
            Err(error) => {
                let patience = if environment.checkpoint {
                    environment.recovery_timeout
                } else {
                    Duration::ZERO
                };
                if self
                    .broken_since
                    .is_some_and(|since| since.elapsed() >= patience)
                {
                    return Err(error);
                }
                // Before the first subscription the follower is the one that gives up (and kills us).
                tracing::info!(%error, "cannot subscribe to the follower yet");
                tokio::time::sleep(self.backoff.delay()).await;
                Ok(())
            }
        }
    }

    fn interpret(&mut self, event: executor::Event) -> Result<Option<Event>, Error> {
        use event::Type;
        let event = match event.r#type() {
            Type::Subscribed => event.subscribed.map(|s| Event::Subscribed(Box::new(s))),
            Type::Launch => event.launch.map(|launch| {
                self.calls.remember(&launch.task);
                Event::Launch(Box::new(launch.task))
            }),
            Type::LaunchGroup => event.launch_group.map(|launch| {
                launch
                    .task_group
                    .tasks
                    .iter()
                    .for_each(|task| self.calls.remember(task));
                Event::LaunchGroup(launch.task_group.tasks)
            }),
            Type::Kill => event.kill.map(Event::Kill),
            Type::Message => event.message.map(|m| Event::Message(m.data)),
            Type::Shutdown => Some(Event::Shutdown),
            Type::Acknowledged => {
                if let Some(acknowledged) = event.acknowledged {
                    self.calls
                        .acknowledged(&acknowledged.task_id, &acknowledged.uuid);
                }
                None
            }
            Type::Error => {
                return Err(Error::Refused(
                    event.error.map(|e| e.message).unwrap_or_default(),
                ));
            }
            Type::Heartbeat | Type::Unknown => None,
        };
        Ok(event)
    }
}

impl Calls {
    fn call(&self, kind: call::Type) -> executor::Call {
        executor::Call {
            executor_id: self.environment.executor_id.clone(),
            framework_id: self.environment.framework_id.clone(),
            r#type: Some(kind as i32),
            ..Default::default()
        }
    }

    async fn subscribe(&self) -> Result<Records, Error> {
        let mut call = self.call(call::Type::Subscribe);
        {
            let state = lock(&self.state);
            call.subscribe = Some(call::Subscribe {
                unacknowledged_tasks: state.tasks.values().cloned().collect(),
                unacknowledged_updates: state.updates.clone(),
            });
        }
        let (address, response) = self
            .http
            .post(&self.environment.agent_endpoint, PATH, None, &call)
            .await?;
        if !response.status().is_success() {
            let status = response.status().as_u16();
            expect_success(&address, response).await?;
            return Err(Error::Status {
                address,
                status,
                message: String::new(),
            });
        }
        lock(&self.state).address = Some(address.clone());
        Ok(Records::new(address, self.http.codec, response.into_body()))
    }

    fn remember(&self, task: &TaskInfo) {
        lock(&self.state)
            .tasks
            .insert(task.task_id.value.clone(), task.clone());
    }

    fn acknowledged(&self, task: &TaskId, uuid: &[u8]) {
        let mut state = lock(&self.state);
        state
            .updates
            .retain(|update| update.status.uuid.as_deref() != Some(uuid));
        state.tasks.remove(&task.value);
    }

    /// Reports a state. `status.uuid` must be a fresh 16-byte UUID; source and executor id are filled
    /// in. Kept and sent again until acknowledged, so an error here loses nothing.
    ///
    /// # Errors
    /// [`Error::Invalid`] when there is no uuid; otherwise the failure of this one attempt.
    pub async fn update(&self, mut status: TaskStatus) -> Result<(), Error> {
        if status.uuid.as_ref().is_none_or(|uuid| uuid.len() != 16) {
            return Err(Error::Invalid {
                what: "status.uuid",
                reason: "it must be 16 bytes".to_owned(),
            });
        }
        status.source = Some(crate::proto::task_status::Source::Executor as i32);
        status.executor_id = Some(self.environment.executor_id.clone());
        let update = call::Update { status };
        lock(&self.state).updates.push(update.clone());
        let mut call = self.call(call::Type::Update);
        call.update = Some(update);
        self.send(call).await
    }

    /// Sends bytes to the framework; may be lost.
    ///
    /// # Errors
    /// The failure of this one attempt.
    pub async fn message(&self, data: impl Into<bytes::Bytes>) -> Result<(), Error> {
        let mut call = self.call(call::Type::Message);
        call.message = Some(call::Message { data: data.into() });
        self.send(call).await
    }

    async fn send(&self, call: executor::Call) -> Result<(), Error> {
        let address = lock(&self.state)
            .address
            .clone()
            .ok_or(Error::NotSubscribed)?;
        let (address, response) = self.http.post(&address, PATH, None, &call).await?;
        expect_success(&address, response).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_names_what_it_misses() {
        let vars = [
            ("MESOS_AGENT_ENDPOINT", "127.0.0.1:5051"),
            ("MESOS_FRAMEWORK_ID", "f"),
            ("MESOS_EXECUTOR_ID", "e"),
            ("MESOS_CHECKPOINT", "1"),
            ("MESOS_RECOVERY_TIMEOUT", "30secs"),
        ];
        let read = |skip: &str, name: &str| {
            vars.iter()
                .find(|(n, _)| *n == name && *n != skip)
                .map(|(_, v)| (*v).to_owned())
        };
        let environment = Environment::from_vars(|name| read("", name)).unwrap();
        assert!(environment.checkpoint);
        assert_eq!(environment.recovery_timeout, Duration::from_secs(30));
        assert_eq!(environment.shutdown_grace_period, Duration::from_secs(5));
        for missing in [
            "MESOS_AGENT_ENDPOINT",
            "MESOS_FRAMEWORK_ID",
            "MESOS_EXECUTOR_ID",
        ] {
            let error = Environment::from_vars(|name| read(missing, name)).unwrap_err();
            assert!(error.to_string().contains(missing), "{error}");
        }
        let error = Environment::from_vars(|name| match name {
            "MESOS_RECOVERY_TIMEOUT" => Some("soon".into()),
            other => read("", other),
        });
        assert!(
            error
                .unwrap_err()
                .to_string()
                .contains("MESOS_RECOVERY_TIMEOUT")
        );
    }
}
