//! Rust SDK for clusters that speak the Mesos v1 HTTP APIs.
//!
//! * [`scheduler::Scheduler`]: for framework authors. Finds the leader, subscribes, yields events,
//!   comes back by itself after a broken connection or a change of leader.
//! * [`executor::Executor`]: for authors of executors; reads its environment, subscribes to its
//!   follower, resends what was not acknowledged.
//! * [`operator::Operator`]: the operator API of leaders and followers, and the plain JSON endpoints.
//! * [`detect::Target`]: where the leader is: `host:port`, `https://host:port`, `zk://host:port,…/path` of an
//!   election in ZooKeeper, or `file://path` with one of these.
//!
//! Every client speaks protobuf or JSON ([`Codec`]) and may carry a [`Credential`]. Under `https` a
//! server is verified against the authorities of this machine, or as a [`Tls`] says that is given.
//!
//! # A framework
//!
//! Launches one shell command and waits for its end.
//!
//! ```
//! use tepui_client::{
//!     proto::{CommandInfo, FrameworkInfo, TaskInfo, TaskState},
//!     scheduler::{Event, Scheduler, launch},
//! };
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let cluster = tepui_tests::cluster::Cluster::mixed();
//! # let leader = cluster.leader.to_string();
//! # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
//! let framework = FrameworkInfo { user: "root".into(), name: "hello".into(), ..Default::default() };
//! let mut scheduler = Scheduler::builder(&leader, framework).build()?;
//! let calls = scheduler.calls();
//! let mut launched = false;
//! let state = loop {
//!     match scheduler.next().await? {
//!         Event::Offers(offers) => {
//!             for offer in offers {
//!                 if launched {
//!                     calls.decline([offer.id]).await?;
//!                     continue;
//!                 }
//!                 let mut task = TaskInfo {
//!                     name: "hello".into(),
//!                     agent_id: offer.agent_id,
//!                     command: Some(CommandInfo { value: Some("echo hello".into()), ..Default::default() }),
//!                     ..Default::default()
//!                 };
//!                 task.task_id.value = "hello-1".into();
//!                 task.resources = tepui_client::resources("cpus:0.1;mem:32")?;
//!                 calls.accept([offer.id], vec![launch([task])]).await?;
//!                 launched = true;
//!             }
//!         }
//!         Event::Update(status) => {
//!             calls.acknowledge(&status).await?;
//!             match status.state() {
//!                 TaskState::TaskStarting | TaskState::TaskRunning => {}
//!                 ended => break ended,
//!             }
//!         }
//!         _ => {}
//!     }
//! };
//! calls.teardown().await?;
//! assert_eq!(state, TaskState::TaskFinished);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok(())
//! # }
//! ```

mod backoff;
mod connect;
pub mod detect;
pub mod error;
pub mod executor;
mod http;
pub mod operator;
pub mod scheduler;

pub use error::Error;
pub use http::{CALL_TIMEOUT, Codec, Credential};
/// The public types of the v1 APIs.
pub use tepui_protocol::v1 as proto;
pub use tepui_tls::{Tls, TlsConfig};

/// Reads resources in the text form, scalars, ranges and sets: `cpus:1;mem:128;ports:[8000-8001]`.
///
/// # Errors
/// [`Error::Invalid`] names the part that does not parse.
pub fn resources(text: &str) -> Result<Vec<proto::Resource>, Error> {
    tepui_model::resources::parse(text, "*")
        .map(|resources| resources.to_proto())
        .map_err(|error| Error::Invalid {
            what: "resources",
            reason: error.to_string(),
        })
}

/// The snippets of the guide are compiled with the tests, so that they stay true.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/frameworks.md")]
mod guide {}
